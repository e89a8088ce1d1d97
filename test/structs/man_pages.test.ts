/**
 * The constants that the man pages about sockets name. The pages are read as they are installed,
 * before any formatting: no name is broken at the end of a line there.
 *
 * @module
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import * as constants from "../../structs/constants/index.ts";
import { type Missing, testIf } from "../support/require.ts";

const PAGES = ["ip", "ipv6", "netdevice", "packet", "socket", "tcp", "udp", "unix"] as const;

// What the constants of sockets begin with.
const PREFIXES = [
  ...["AF_", "AI_", "EAI_", "ETH_P_", "F_", "FD_", "FIO", "IFF_", "IN6ADDR_", "INADDR_", "IP_"],
  ...["IPPROTO_", "IPTOS_", "IPV6_", "MCAST_", "MSG_", "NI_", "O_", "PACKET_", "SCM_", "SHUT_"],
  ...["SIOC", "SO_", "SOCK_", "SOL_", "TCP_", "TPACKET_", "TP_STATUS_", "UDP_"],
];
const NAME = new RegExp(`\\b(?:${PREFIXES.join("|")})[A-Z0-9_]+\\b`, "g");

const PFLAGS = "a flag of SIOCGIFPFLAGS, which no header has any more";
const NOT_A_NUMBER = "no number: bytes that stand for an address";
const KERNEL = "the kernel's own, in no header for programs";

// What a page names and structs/constants/ does not have.
const EXCEPTIONS: Readonly<Record<string, string>> = {
  IFF_802_1Q_VLAN: PFLAGS,
  IFF_BONDING: PFLAGS,
  IFF_EBRIDGE: PFLAGS,
  IFF_ISATAP: PFLAGS,
  IFF_MASTER_8023AD: PFLAGS,
  IFF_MASTER_ALB: PFLAGS,
  IFF_SLAVE_INACTIVE: PFLAGS,
  IFF_SLAVE_NEEDARP: PFLAGS,
  IN6ADDR_ANY_INIT: NOT_A_NUMBER,
  IN6ADDR_LOOPBACK_INIT: NOT_A_NUMBER,
  IP_MSFILTER_SIZE: "no number: a macro that computes the size of a struct",
  IP_RCVDSTADDR: "an option of BSD, which ip(7) says that Linux lacks",
  IP_RECVIF: "an option of BSD, which ip(7) says that Linux lacks",
  SCM_MAX_FD: KERNEL,
  SCM_SECURITY: KERNEL,
  SOCK_MIN_RCVBUF: KERNEL,
  SO_EE_OFFENDER: "no number: a macro that finds the address in a message",
  TCP_SYNQ_HSIZE: KERNEL,
};

/** The names of constants in the source of a page, each once. */
function namesIn(source: string): string[] {
  const text = source
    // Comments, and changes of font, which stand in front of a name without a space.
    .replace(/^[.']\\".*$|\\".*$/gm, "")
    .replace(/\\f(?:\[\w*\]|\(..|.)/g, "");
  return [...new Set(text.match(NAME) ?? [])].sort();
}

function undeclared(source: string): string[] {
  return namesIn(source).filter((name) => !(name in constants) && !(name in EXCEPTIONS));
}

function pathOf(page: string): string {
  return `/usr/share/man/man7/${page}.7.gz`;
}

function sourceOf(page: string): string {
  return new TextDecoder().decode(Bun.gunzipSync(readFileSync(pathOf(page))));
}

const absent = PAGES.filter((page) => !existsSync(pathOf(page)));
const missing: Missing =
  absent.length === 0 ? undefined : "needs the man pages of Debian's manpages";

for (const page of PAGES) {
  testIf(missing)(`every constant that ${page}(7) names is declared`, () => {
    const source = sourceOf(page);
    expect(namesIn(source).length).toBeGreaterThan(10);
    expect(undeclared(source)).toEqual([]);
  });
}

test.each(Object.keys(EXCEPTIONS))("the exception %s is declared nowhere", (name) => {
  expect(constants).not.toHaveProperty(name);
});

test.each([
  [".B SO_NOSUCH", ["SO_NOSUCH"]],
  ['.BR IP_NOSUCH " (since Linux 9.9), " IPV6_NOSUCH', ["IPV6_NOSUCH", "IP_NOSUCH"]],
  ["set \\fBSIOCNOSUCH\\fP or \\f[B]TCP_NOSUCH\\f[R]", ["SIOCNOSUCH", "TCP_NOSUCH"]],
  ['.\\" Not in Linux: SO_NOSUCH', []],
  [".B SO_REUSEADDR\nand IP_RECVIF of BSD", []],
])("in %j this is found: %j", (source, expected) => {
  expect(undeclared(source)).toEqual(expected);
});
