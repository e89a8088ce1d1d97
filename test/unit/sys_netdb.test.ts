import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { readMemory, readText } from "../../lib/ffi/memory.ts";
import {
  freeaddrinfo,
  gai_strerror,
  getaddrinfo,
  getnameinfo,
  getprotobyname,
  getprotobynumber,
  getservbyname,
  getservbyport,
} from "../../lib/sys/netdb.ts";
import { addrinfo } from "../../structs/addrinfo.ts";
import { EMFILE } from "../../structs/constants/errno.ts";
import {
  AI_CANONNAME,
  AI_NUMERICHOST,
  AI_NUMERICSERV,
  EAI_BADFLAGS,
  EAI_FAMILY,
  EAI_NONAME,
  EAI_OVERFLOW,
  EAI_SERVICE,
  EAI_SYSTEM,
  NI_MAXHOST,
  NI_MAXSERV,
  NI_NUMERICHOST,
  NI_NUMERICSERV,
} from "../../structs/constants/netdb.ts";
import { IPPROTO_UDP } from "../../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM } from "../../structs/constants/sys_socket.ts";
import { protoent } from "../../structs/protoent.ts";
import { servent } from "../../structs/servent.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { testIf } from "../support/require.ts";

const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);

function hints(flags: number, family = 0, type = 0): DataView {
  const view = new DataView(new ArrayBuffer(addrinfo.size));
  addrinfo.ai_flags.set(view, 0, flags);
  addrinfo.ai_family.set(view, 0, family);
  addrinfo.ai_socktype.set(view, 0, type);
  return view;
}

// All links of a result, which is freed.
function links(result: BigUint64Array) {
  const found = [];
  for (let address = Number(result[0]); address !== 0; ) {
    const link = new DataView(readMemory(address, addrinfo.size).buffer);
    const name = addrinfo.ai_canonname.get(link, 0);
    found.push({
      family: addrinfo.ai_family.get(link, 0),
      type: addrinfo.ai_socktype.get(link, 0),
      protocol: addrinfo.ai_protocol.get(link, 0),
      bytes: readMemory(addrinfo.ai_addr.get(link, 0), addrinfo.ai_addrlen.get(link, 0)),
      canonicalName: name === 0 ? undefined : readText(name),
    });
    address = addrinfo.ai_next.get(link, 0);
  }
  freeaddrinfo(Number(result[0]));
  return found;
}

test("getaddrinfo() makes a socket address of numbers", () => {
  const result = new BigUint64Array(1);
  const numeric = hints(AI_NUMERICHOST | AI_NUMERICSERV | AI_CANONNAME, AF_INET, SOCK_DGRAM);
  expect(getaddrinfo(text("192.0.2.1"), text("53"), numeric, result)).toBe(0);
  expect(links(result)).toEqual([
    {
      family: AF_INET,
      type: SOCK_DGRAM,
      protocol: IPPROTO_UDP,
      bytes: new Uint8Array([AF_INET, 0, 0, 53, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
      canonicalName: "192.0.2.1",
    },
  ]);
});

test("getaddrinfo() without hints gives a link for each type of socket", () => {
  const result = new BigUint64Array(1);
  expect(getaddrinfo(text("::1"), text("80"), null, result)).toBe(0);
  const found = links(result);
  expect(found.map(({ type }) => type)).toEqual(
    expect.arrayContaining([SOCK_STREAM, SOCK_DGRAM]) as unknown as number[],
  );
  expect(new Set(found.map(({ family }) => family))).toEqual(new Set([AF_INET6]));
  expect(found.map(({ bytes }) => bytes.length)).toEqual(found.map(() => 28));
});

test("getaddrinfo() without a node is about this machine", () => {
  const result = new BigUint64Array(1);
  expect(getaddrinfo(null, text("53"), hints(0, AF_INET, SOCK_STREAM), result)).toBe(0);
  expect(links(result).map(({ bytes }) => [...bytes.subarray(4, 8)])).toEqual([[127, 0, 0, 1]]);
});

test.each([
  ["a name where a number must be", "no number", "53", hints(AI_NUMERICHOST), EAI_NONAME],
  ["neither node nor service", null, null, null, EAI_NONAME],
  ["unknown flags", "127.0.0.1", "53", hints(0x4000_0000), EAI_BADFLAGS],
  ["an unknown family", "127.0.0.1", "53", hints(0, 0x7fff), EAI_FAMILY],
  ["no such service", "127.0.0.1", "no service", hints(0, 0, SOCK_DGRAM), EAI_SERVICE],
])("getaddrinfo() of %s is an EAI error", (_what, node, service, wanted, error) => {
  const result = new BigUint64Array(1);
  const [nodeText, serviceText] = [node, service].map((each) => (each ? text(each) : null));
  expect(getaddrinfo(nodeText ?? null, serviceText ?? null, wanted, result)).toBe(error);
});

test("getaddrinfo() and getnameinfo() give errno in place of EAI_SYSTEM", () => {
  using first = replaceEntry("getaddrinfo", () => failWith(EMFILE, EAI_SYSTEM));
  expect(getaddrinfo(text("example"), null, null, new BigUint64Array(1))).toBe(EMFILE);
  expect(first.calls).toBe(1);
  using second = replaceEntry("getnameinfo", () => failWith(EMFILE, EAI_SYSTEM));
  expect(getnameinfo(new Uint8Array(sockaddr_in.size), new Uint8Array(8), null, 0)).toBe(EMFILE);
  expect(second.calls).toBe(1);
});

test("gai_strerror() is libc's text", () => {
  expect(gai_strerror(EAI_NONAME)).toBe("Name or service not known");
});

// 192.0.2.1 port 53.
const address = new Uint8Array([AF_INET, 0, 0, 53, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
const NUMERIC = NI_NUMERICHOST | NI_NUMERICSERV;

test("getnameinfo() fills in the numbers of a socket address", () => {
  const host = new Uint8Array(NI_MAXHOST).fill(0xa5);
  const service = new Uint8Array(NI_MAXSERV).fill(0xa5);
  expect(getnameinfo(address, host, service, NUMERIC)).toBe(0);
  expect(Buffer.from(host.subarray(0, 10)).toString()).toBe("192.0.2.1\0");
  expect(Buffer.from(service.subarray(0, 3)).toString()).toBe("53\0");
});

test("getnameinfo() leaves out what is null", () => {
  const host = new Uint8Array(NI_MAXHOST);
  const service = new Uint8Array(NI_MAXSERV);
  expect(getnameinfo(address, host, null, NUMERIC)).toBe(0);
  expect(getnameinfo(address, null, service, NUMERIC)).toBe(0);
  expect([host[0], service[0]]).toEqual([0x31, 0x35]);
});

test("getnameinfo() that fails is an EAI error", () => {
  const host = new Uint8Array(NI_MAXHOST);
  expect(getnameinfo(new Uint8Array(sockaddr_in.size), host, null, NUMERIC)).toBe(EAI_FAMILY);
  expect(getnameinfo(address.subarray(0, 8), host, null, NUMERIC)).toBe(EAI_FAMILY);
  expect(getnameinfo(address, host.subarray(0, 5), null, NUMERIC)).toBe(EAI_OVERFLOW);
});

const needs = (file: string) => (existsSync(file) ? undefined : `needs ${file}`);
const withServices = testIf(needs("/etc/services"));
const withProtocols = testIf(needs("/etc/protocols"));

function service(at: number) {
  const view = new DataView(readMemory(at, servent.size).buffer);
  const [name, protocol] = [servent.s_name, servent.s_proto].map((member) =>
    readText(member.get(view, 0)),
  );
  return { name, port: servent.s_port.get(view, 0), protocol };
}

// 53, as C has it: in network byte order.
const DOMAIN = 53 << 8;

withServices("getservbyname() and getservbyport() are inverses", () => {
  const expected = { name: "domain", port: DOMAIN, protocol: "udp" };
  expect(service(getservbyname(text("domain"), text("udp")))).toEqual(expected);
  expect(service(getservbyport(DOMAIN, text("udp")))).toEqual(expected);
  expect(service(getservbyname(text("domain"), null))).toMatchObject({ port: DOMAIN });
});

withProtocols("getprotobyname() and getprotobynumber() are inverses", () => {
  for (const at of [getprotobyname(text("udp")), getprotobynumber(IPPROTO_UDP)]) {
    const view = new DataView(readMemory(at, protoent.size).buffer);
    expect(readText(protoent.p_name.get(view, 0))).toBe("udp");
    expect(protoent.p_proto.get(view, 0)).toBe(IPPROTO_UDP);
  }
});

test("what nobody knows by that name or number is 0", () => {
  expect(getservbyname(text("no service"), null)).toBe(0);
  expect(getservbyname(text("domain"), text("no protocol"))).toBe(0);
  expect(getservbyport(0, null)).toBe(0);
  expect(getprotobyname(text("no protocol"))).toBe(0);
  expect(getprotobynumber(-1)).toBe(0);
});
