/**
 * Whether the reference interfaces are complete: each has a fixed number of rows, and each row has one
 * test that carries its name, in the document's order. Where what a row says is not what happens here,
 * docs/reference.md says so under its differences, and why: those are few. It maps every name, too.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** How many rows each document has: 296 in all. */
const ROWS: Readonly<Record<string, number>> = { pure: 83, chapel: 82, foment: 47, guile: 84 };
const DIFFERENCES_MAX = 15;

/** What each document names, and the section of docs/reference.md that says what it is here. */
const NAMES: Readonly<Record<string, readonly [section: string, names: string]>> = {
  pure: [
    "Pure",
    `
      sockaddr HAVE_AF_UNIX sockaddrs sockaddr_family sockaddr_path sockaddr_hostname
      sockaddr_ip sockaddr_service sockaddr_port sockaddr_info socket SOCK_NONBLOCK
      SOCK_CLOEXEC SOCK_STREAM SOCK_DGRAM SOCK_SEQPACKET SOCK_RAW SOCK_RDM AF_UNIX AF_INET
      AF_INET6 AF_UNSPEC IPPROTO_IP IPPROTO_ICMP IPPROTO_TCP IPPROTO_UDP socketpair shutdown
      SHUT_RD SHUT_WR SHUT_RDWR closesocket accept bind connect listen recv send recvfrom
      sendto MSG_EOR MSG_OOB MSG_PEEK MSG_WAITALL MSG_DONTWAIT getsockname getpeername
      getsockopt setsockopt SOL_SOCKET SIZEOF_INT SO_ACCEPTCONN SO_BROADCAST SO_DEBUG
      SO_DONTROUTE SO_ERROR SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_RCVBUF SO_RCVLOWAT
      SO_RCVTIMEO SO_REUSEADDR SO_SNDBUF SO_SNDLOWAT SO_SNDTIMEO SO_TYPE
    `,
  ],
  chapel: [
    "Chapel",
    `
      IPFamily IPv4 IPv6 IPUnspec ipv4Addr IPv4Any IPv4Broadcast ipv6Addr IPv6Any ipAddr host
      port create ipv4 ipv6 indefiniteTimeout sys_in_addr_t sys_in6_addr_t INADDR_ANY
      INADDR_BROADCAST INADDR_LOOPBACK in6addr_any in6addr_loopback AF_INET AF_INET6 socketFd
      addr setNagle setDelayAck tcpListener deinit accept close backlogDefault listen connect
      udpSocket init recvfrom recv send SO_ACCEPTCONN SO_BROADCAST SO_DEBUG SO_ERROR
      SO_KEEPALIVE SO_LINGER SO_OOBINLINE SO_RCVBUF SO_RCVTIMEO SO_REUSEADDR SO_SNDBUF
      SO_SNDTIMEO SO_SECINFO setSockOpt getSockOpt getPeerName getSockName bind
    `,
  ],
  foment: [
    "Foment and SRFI 106",
    `
      socket? make-socket bind-socket listen-socket accept-socket connect-socket
      shutdown-socket send-socket recv-socket get-ip-addresses address-family address-info
      socket-domain ip-protocol message-type shutdown-method socket-merge-flags socket-purge-flags
      af-unspec af-inet af-inet6 sock-stream sock-dgram ai-canonname ai-numerichost
      ai-v4mapped ai-all ai-addrconfig ipproto-ip ipproto-tcp ipproto-udp msg-none msg-peek
      msg-oob msg-waitall shut-rd shut-wr shut-rdwr make-client-socket make-server-socket
      socket-accept socket-send socket-recv socket-shutdown socket-close socket-input-port
      socket-output-port call-with-socket
    `,
  ],
  guile: [
    "Guile",
    `
      socket PF_UNIX PF_INET PF_INET6 SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_RDM SOCK_SEQPACKET
      socketpair getsockopt setsockopt SOL_SOCKET IPPROTO_IP IPPROTO_IPV6 IPPROTO_TCP
      IPPROTO_UDP SO_DEBUG SO_REUSEADDR SO_STYLE SO_TYPE SO_ERROR SO_DONTROUTE SO_BROADCAST
      SO_SNDBUF SO_RCVBUF SO_KEEPALIVE SO_OOBINLINE SO_NO_CHECK SO_PRIORITY SO_REUSEPORT
      SO_RCVTIMEO SO_SNDTIMEO SO_LINGER IP_MULTICAST_IF IP_MULTICAST_TTL IP_ADD_MEMBERSHIP
      IP_DROP_MEMBERSHIP IPV6_V6ONLY TCP_NODELAY TCP_CORK shutdown connect bind listen accept
      getsockname getpeername recv! send recvfrom! sendto MSG_OOB MSG_PEEK MSG_DONTROUTE
    `,
  ],
};

/** The names of a document's rows, in its order: "pure-01", "pure-02", … */
function rowsOf(document: string): string[] {
  const count = ROWS[document] ?? 0;
  return Array.from({ length: count }, (_, i) => `${document}-${String(i + 1).padStart(2, "0")}`);
}

/** The rows that tests of this source carry: of calls whose first argument begins with the row. */
function testedRows(source: string): string[] {
  return [...source.matchAll(/^\s*(?:row|test)\(\s*["`](\w+-\d+): [^\s"`]/gm)].map(
    ([, name = ""]) => name,
  );
}

/** What stands under a title of a page, to the next one. */
function sectionOf(page: string, title: string): string {
  const [, section = ""] = `\n${page}`.split(`\n## ${title}\n`);
  return section.split("\n## ")[0] ?? "";
}

/** The rows of the table under "Differences", each with what is said about it. */
function differences(page: string): { name: string; reason: string }[] {
  return [...sectionOf(page, "Differences").matchAll(/^\| (\w+-\d+) \|([^|]*)\|(.*)\|$/gm)].map(
    ([, name = "", , reason = ""]) => ({ name, reason }),
  );
}

const read = (path: string) => readFileSync(join(import.meta.dir, "../..", path), "utf8");
const page = read("docs/reference.md");
const different = differences(page);

describe("test/reference", () => {
  test("is about 296 rows", () => {
    expect(Object.values(ROWS).reduce((sum, count) => sum + count)).toBe(296);
  });

  for (const document of Object.keys(ROWS)) {
    const tested = testedRows(read(`test/reference/${document}.test.ts`));

    test(`${document}: every row has one test, in the document's order`, () => {
      const excused = different.map(({ name }) => name).filter((name) => !tested.includes(name));
      expect(tested).toEqual(rowsOf(document).filter((name) => !excused.includes(name)));
    });
  }

  test("at most 15 rows are documented as different, each with the kernel's words or a conflict", () => {
    expect(different.length).toBeGreaterThan(0);
    expect(different.length).toBeLessThanOrEqual(DIFFERENCES_MAX);
    const names = Object.keys(ROWS).flatMap(rowsOf);
    for (const { name, reason } of different) {
      expect(names).toContain(name);
      // X1 to X21 are the conflicts of the matrix; listen(2): "…" are words of a manual page.
      expect([name, reason]).toEqual([name, expect.stringMatching(/\bX(1?\d|2[01])\b|\(\d\).*"/)]);
    }
    expect(new Set(different.map(({ name }) => name)).size).toBe(different.length);
  });

  test.each(Object.entries(NAMES))("%s: docs/reference.md maps every name", (_, [title, names]) => {
    const section = sectionOf(page, title) + sectionOf(page, "Differences");
    const words = new Set(section.match(/[\w!?-]+/g));
    expect(names.split(/\s+/).filter((name) => name !== "" && !words.has(name))).toEqual([]);
  });

  test("what counts rows finds those that are missing, doubled, out of order or without a name", () => {
    const source = `row("pure-01: a", () => {});\nrow(\n  "pure-02: b",\n  () => {},\n);\n`;
    expect(testedRows(source)).toEqual(["pure-01", "pure-02"]);
    expect(testedRows(`${source}${source}`)).toHaveLength(4);
    expect(testedRows('// row("pure-01: a", …)\nrow("pure-03: ", () => {});')).toEqual([]);
    expect(
      differences("## Differences\n\n| pure-06 | a | b (X14). |\n## More\n| pure-07 | c | d |"),
    ).toEqual([{ name: "pure-06", reason: " b (X14). " }]);
  });
});
