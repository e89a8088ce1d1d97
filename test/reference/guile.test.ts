/**
 * Guile's network sockets, row by row: see docs/reference.md.
 *
 * @module
 */
import { beforeAll, expect } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Address, type SystemError, TimeoutError, UnixAddress } from "bun-sockets";
import { ip_mreqn, linger, timeval } from "bun-sockets/structs";
import * as sys from "bun-sockets/sys";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  EAGAIN,
  EINVAL,
  INADDR_ANY,
  INADDR_BROADCAST,
  INADDR_LOOPBACK,
  IP_ADD_MEMBERSHIP,
  IP_DROP_MEMBERSHIP,
  IP_MULTICAST_IF,
  IP_MULTICAST_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_V6ONLY,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_OOB,
  MSG_PEEK,
  MSG_WAITALL,
  SO_BROADCAST,
  SO_DEBUG,
  SO_DONTROUTE,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_NO_CHECK,
  SO_OOBINLINE,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_RCVTIMEO,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDTIMEO,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_RDM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_CORK,
  TCP_NODELAY,
} from "bun-sockets/sys";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { requires } from "../support/require.ts";
import { startPoller } from "../support/waiting.ts";
import {
  ownNetwork,
  runIn,
  unprivileged,
  type World,
  withDescriptors,
} from "./support/children.ts";
import {
  type Destination,
  guile,
  IN6ADDR_LOOPBACK,
  type Pair,
  PF_INET,
  PF_INET6,
  PF_UNIX,
  type Port,
  SO_STYLE,
} from "./support/guile_adapter.ts";
import { row } from "./support/rows.ts";

const ADAPTER = JSON.stringify(new URL("support/guile_adapter.ts", import.meta.url));
const IMPORTS = `
  import * as adapter from ${ADAPTER};
  import * as sys from "bun-sockets/sys";
  const { guile, PF_INET, PF_INET6, PF_UNIX } = adapter;
  const codeOf = (run) => { try { run(); return "it worked"; } catch (error) { return error.code; } };
`;

/** A network where ports below 1024 take a right, and a process that has none. */
const powerless: World = {
  prefix: [...ownNetwork.prefix, "setpriv", "--bounding-set=-all", "--inh-caps=-all"],
  missing: ownNetwork.missing ?? requires("setpriv"),
};

/** Not an address of this machine: RFC 5737 and RFC 3849. */
const ELSEWHERE = 0xc0000201;
const ELSEWHERE6 = 0x2001_0db8n << 96n;
const LINK_LOCAL = (0xfe80n << 112n) | 1n;

// What waits is told of by a socket pair of its own, which stays: it is not to be counted.
beforeAll(startPoller);

const folder = mkdtempSync(join(tmpdir(), "guile-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
let names = 0;

/** A path where nothing is yet. */
function freshPath(): string {
  return join(folder, `${names++}.sock`);
}

/** Closes ports at the end of a block. */
function closing(...ports: readonly Port[]): Disposable {
  const close = () => {
    for (const port of ports) guile.closePort(port);
  };
  return { [Symbol.dispose]: close };
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text);
}

function text(data: Uint8Array, length = data.length): string {
  return Buffer.from(data).toString("utf8", 0, length);
}

function codeOf(run: () => unknown): string {
  return systemErrorOf(run).code;
}

/** What a port receives next, as text. */
function received(sock: Port, flags = 0): string {
  const buf = new Uint8Array(100);
  return text(buf, guile.recv(sock, buf, flags));
}

/** Where an IP socket is bound, as `connect` and `sendto` take it. */
function integersOf(sock: Port): [family: number, address: number | bigint, port: number] {
  const address = guile.getsockname(sock);
  const family = address.family === "ipv4" ? AF_INET : AF_INET6;
  return [family, guile.sockaddrAddr(address), guile.sockaddrPort(address)];
}

/** A TCP listener on a free port. */
function tcpListener(family = PF_INET, backlog = 5): Port {
  const sock = guile.socket(family, SOCK_STREAM, 0);
  guile.bind(sock, family, family === PF_INET ? INADDR_LOOPBACK : IN6ADDR_LOOPBACK, 0);
  guile.listen(sock, backlog);
  return sock;
}

interface Tcp extends Disposable {
  readonly listener: Port;
  readonly client: Port;
  readonly served: Port;
}

/** A TCP connection and its listener. */
function connected(family = PF_INET): Tcp {
  const listener = tcpListener(family);
  const client = guile.socket(family, SOCK_STREAM, 0);
  guile.connect(client, guile.getsockname(listener));
  const [served] = guile.accept(listener) as Pair<Port, Address>;
  return { listener, client, served, ...closing(listener, client, served) };
}

/** A UDP socket on a free port of loopback. */
function udp(family = PF_INET): Port {
  const sock = guile.socket(family, SOCK_DGRAM, 0);
  guile.bind(sock, family, family === PF_INET ? INADDR_LOOPBACK : IN6ADDR_LOOPBACK, 0);
  return sock;
}

/** An IPv4 address where nobody is. */
function nobody(style = SOCK_STREAM): [family: number, address: number, port: number] {
  const sock = style === SOCK_STREAM ? tcpListener() : udp();
  using _ = closing(sock);
  return integersOf(sock) as [number, number, number];
}

/** Breaks a connection off. */
function reset(sock: Port): void {
  guile.setsockopt(sock, SOL_SOCKET, SO_LINGER, [1, 0]);
  guile.closePort(sock);
}

/** Waits until something is so, without the event loop. */
function until(condition: () => boolean): void {
  const end = performance.now() + 10_000;
  while (!condition()) if (performance.now() > end) throw new Error("It never was so");
}

/** Reads an integer option that is 0, sets it, and reads it back. */
function expectInteger(number: number, optname: number, level = SOL_SOCKET, style = SOCK_STREAM) {
  expect(optname).toBe(number);
  const sock = guile.socket(PF_INET, style, 0);
  using _ = closing(sock);
  expect(guile.getsockopt(sock, level, optname)).toBe(0);
  guile.setsockopt(sock, level, optname, 1);
  expect(guile.getsockopt(sock, level, optname)).toBe(1);
  guile.setsockopt(sock, level, optname, 0);
  expect(guile.getsockopt(sock, level, optname)).toBe(0);
}

function expectDoubled(number: number, optname: number): void {
  expect(optname).toBe(number);
  const sock = udp();
  using _ = closing(sock);
  guile.setsockopt(sock, SOL_SOCKET, optname, 20_000);
  expect(guile.getsockopt(sock, SOL_SOCKET, optname)).toBe(40_000);
}

// A timeout is a timeval: conflict X1.
function expectTimeout(number: number, optname: number): void {
  expect(optname).toBe(number);
  const sock = udp();
  using _ = closing(sock);
  expect(guile.getsockopt(sock, SOL_SOCKET, optname)).toEqual([0, 0]);
  guile.setsockopt(sock, SOL_SOCKET, optname, [2, 500_000]);
  expect(guile.getsockopt(sock, SOL_SOCKET, optname)).toEqual([2, 500_000]);
  const raw = sock.getRawOption(SOL_SOCKET, optname, timeval.size);
  const view = new DataView(raw.buffer);
  expect([timeval.tv_sec.get(view, 0), timeval.tv_usec.get(view, 0)]).toEqual([2, 500_000]);
  // An integer does not reach the kernel, which would refuse it.
  expect(() => guile.setsockopt(sock, SOL_SOCKET, optname, 2)).toThrow(TypeError);
  expect(codeOf(() => sock.setRawOption(SOL_SOCKET, optname, 2))).toBe("EINVAL");
  timeval.tv_usec.set(view, 0, 1_000_000);
  expect(codeOf(() => sock.setRawOption(SOL_SOCKET, optname, view))).toBe("EDOM");
  expect(guile.getsockopt(sock, SOL_SOCKET, optname)).toEqual([2, 500_000]);
}

row("guile-01: sockets are ports, and keep nothing back", () => {
  const [left, right] = guile.socketpair(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(left, right);
  guile.setNonblocking(right);
  guile.send(left, bytes("at "));
  expect(received(right)).toBe("at ");
  guile.send(left, bytes("once"));
  expect(received(right)).toBe("once");
  guile.send(right, bytes("and back"));
  expect(received(left)).toBe("and back");
  expect(() => received(right)).toThrow("EAGAIN");
  using tcp = connected();
  guile.send(tcp.client, bytes("written"));
  expect(received(tcp.served)).toBe("written");
  guile.send(tcp.served, bytes("read"));
  expect(received(tcp.client)).toBe("read");
});

row("guile-02: setvbuf adds a buffer, which the direct calls do not see", () => {
  const [left, right] = guile.socketpair(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(left, right);
  guile.setNonblocking(right);
  using port = guile.setvbuf(left, 4096);
  // What is written waits for a flush, and a send does not.
  port.writer.writeSync("unflushed");
  expect(codeOf(() => received(right))).toBe("EAGAIN");
  guile.send(left, bytes("direct "));
  port.writer.flushSync();
  expect(received(right)).toBe("direct unflushed");
  // What was read ahead stays where it is, and recv! gets what comes after.
  guile.send(right, bytes("a line\nread ahead"));
  expect(port.reader.readLineSync()).toBe("a line");
  expect(port.reader.buffered).toBe(10);
  guile.send(right, bytes("fresh"));
  expect(received(left)).toBe("fresh");
  expect(text(port.reader.readExactlySync(10))).toBe("read ahead");
});

row("guile-03: close-port closes, and sockets that are forgotten run into the limit", async () => {
  const before = openDescriptors();
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  expect(openDescriptors()).toBe(before + 1);
  guile.closePort(sock);
  expect(openDescriptors()).toBe(before);
  const [opened, code, again] = await runIn<[number, string, string]>(
    withDescriptors(64),
    IMPORTS,
    `const open = [];
    const code = codeOf(() => { for (;;) open.push(guile.socket(PF_INET, sys.SOCK_STREAM, 0)); });
    guile.closePort(open.pop());
    const again = codeOf(() => open.push(guile.socket(PF_INET, sys.SOCK_STREAM, 0)));
    return [open.length, code, again];`,
  );
  expect(opened).toBeGreaterThan(1);
  expect([code, again]).toEqual(["EMFILE", "it worked"]);
});

row("guile-04: addresses and ports are integers in host byte order", () => {
  const address = guile.makeSocketAddress(AF_INET, 0x01020304, 0x1f90);
  expect(`${address}`).toBe("1.2.3.4:8080");
  // And in network byte order where the kernel reads them.
  expect(`${address.bytes.subarray(2, 8).toHex()}`).toBe("1f9001020304");
  const sock = udp();
  using _ = closing(sock);
  const [family, host, port] = integersOf(sock);
  expect([family, host]).toEqual([AF_INET, 0x7f000001]);
  const name = new Uint8Array(16);
  expect(sys.getsockname(sock.descriptor, name, new Uint32Array(1))).toBe(0);
  expect(port).toBe(sys.ntohs(new Uint16Array(name.buffer)[1] as number));
});

row(
  "guile-05: socket makes a socket of a family, a style and a protocol",
  async () => {
    const sock = guile.socket(PF_INET, SOCK_DGRAM, 0);
    using _ = closing(sock);
    expect(sock.protocol).toBe(IPPROTO_UDP);
    const tcp = guile.socket(PF_INET6, SOCK_STREAM, IPPROTO_TCP);
    using _tcp = closing(tcp);
    expect([tcp.family, tcp.type, tcp.protocol]).toEqual(["ipv6", "stream", IPPROTO_TCP]);
    const codes = [
      () => guile.socket(60_000, SOCK_STREAM, 0),
      () => guile.socket(PF_INET, SOCK_STREAM, IPPROTO_UDP),
      () => guile.socket(PF_INET, 15, 0),
      () => guile.socket(PF_INET, SOCK_RDM, 0),
    ].map(codeOf);
    expect(codes).toEqual(["EAFNOSUPPORT", "EPROTONOSUPPORT", "EINVAL", "ESOCKTNOSUPPORT"]);
    const body = "return codeOf(() => guile.socket(PF_INET, sys.SOCK_RAW, sys.IPPROTO_ICMP));";
    expect(await runIn(unprivileged, IMPORTS, body)).toBe("EPERM");
    const many =
      "return codeOf(() => { for (;;) guile.socketpair(PF_UNIX, sys.SOCK_STREAM, 0); });";
    expect(await runIn(withDescriptors(64), IMPORTS, many)).toBe("EMFILE");
  },
  unprivileged.missing,
);

row("guile-06: PF_UNIX is 1", () => {
  expect([PF_UNIX, AF_UNIX]).toEqual([1, 1]);
});

row("guile-07: PF_INET is 2", () => {
  expect([PF_INET, AF_INET]).toEqual([2, 2]);
});

row("guile-08: PF_INET6 is 10", () => {
  expect([PF_INET6, AF_INET6]).toEqual([10, 10]);
});

row("guile-09: SOCK_STREAM is 1", () => {
  expect(SOCK_STREAM).toBe(1);
});

row("guile-10: SOCK_DGRAM is 2", () => {
  expect(SOCK_DGRAM).toBe(2);
});

row(
  "guile-11: SOCK_RAW is 3, and takes a right",
  async () => {
    expect(SOCK_RAW).toBe(3);
    const body = `return [sys.IPPROTO_UDP, 253].map((protocol) =>
      codeOf(() => guile.socket(PF_INET, sys.SOCK_RAW, protocol)));`;
    expect(await runIn(unprivileged, IMPORTS, body)).toEqual(["EPERM", "EPERM"]);
  },
  unprivileged.missing,
);

row("guile-12: SOCK_RDM is 4, which Linux has in neither family", () => {
  expect(SOCK_RDM).toBe(4);
  for (const family of [PF_INET, PF_UNIX])
    expect(codeOf(() => guile.socket(family, SOCK_RDM, 0))).toBe("ESOCKTNOSUPPORT");
});

row("guile-13: SOCK_SEQPACKET is 5, of Unix sockets only", () => {
  expect(SOCK_SEQPACKET).toBe(5);
  expect(codeOf(() => guile.socket(PF_INET, SOCK_SEQPACKET, 0))).toBe("ESOCKTNOSUPPORT");
  const [left, right] = guile.socketpair(PF_UNIX, SOCK_SEQPACKET, 0);
  using _ = closing(left, right);
  guile.send(left, bytes("one"));
  guile.send(left, bytes("two"));
  expect([received(right), received(right)]).toEqual(["one", "two"]);
});

row("guile-14: a protocol has its number by its name", () => {
  expect(guile.getprotobyname("tcp")).toBe(IPPROTO_TCP);
  expect(guile.getprotobyname("udp")).toBe(17);
  const sock = guile.socket(PF_INET, SOCK_STREAM, guile.getprotobyname("tcp") as number);
  using _ = closing(sock);
  expect(sock.protocol).toBe(6);
  expect(guile.getprotobyname("no-such-protocol")).toBe(false);
});

row("guile-15: a socket cannot be used for communication until it is connected", () => {
  const tcp = guile.socket(PF_INET, SOCK_STREAM, 0);
  const unix = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const datagrams = guile.socket(PF_INET, SOCK_DGRAM, 0);
  using _ = closing(tcp, unix, datagrams);
  expect(codeOf(() => guile.send(tcp, bytes("x")))).toBe("EPIPE");
  expect(codeOf(() => received(tcp))).toBe("ENOTCONN");
  expect(codeOf(() => guile.send(unix, bytes("x")))).toBe("ENOTCONN");
  expect(codeOf(() => guile.send(datagrams, bytes("x")))).toBe("EDESTADDRREQ");
  const listener = tcpListener();
  using _listener = closing(listener);
  guile.connect(tcp, guile.getsockname(listener));
  expect(guile.send(tcp, bytes("x"))).toBe(1);
});

row("guile-16: socketpair gives two sockets without names, connected both ways", () => {
  const [left, right] = guile.socketpair(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(left, right);
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    expect(guile.sockaddrPath(guile.getsockname(from))).toBe("");
    expect(guile.sockaddrPath(guile.getpeername(from))).toBe("");
    guile.send(from, bytes("hello"));
    expect(received(to)).toBe("hello");
  }
  for (const family of [PF_INET, PF_INET6]) {
    const error = systemErrorOf(() => guile.socketpair(family, SOCK_STREAM, 0));
    expect(error.errno).toBe(-sys.EOPNOTSUPP);
  }
});

row("guile-17: getsockopt gives an integer, and a pair for SO_LINGER", () => {
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  const unix = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(sock, unix);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_TYPE)).toBe(SOCK_STREAM);
  expect(guile.getsockopt(sock, IPPROTO_TCP, TCP_NODELAY)).toBe(0);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_LINGER)).toEqual([0, 0]);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_RCVTIMEO)).toEqual([0, 0]);
  expect(codeOf(() => guile.getsockopt(sock, SOL_SOCKET, 9999))).toBe("ENOPROTOOPT");
  const other = systemErrorOf(() => guile.getsockopt(unix, IPPROTO_TCP, TCP_NODELAY));
  expect(other.errno).toBe(-sys.EOPNOTSUPP);
  guile.closePort(sock);
  expect(codeOf(() => guile.getsockopt(sock, SOL_SOCKET, SO_TYPE))).toBe("EBADF");
});

row(
  "guile-18: setsockopt sets an option, and returns nothing",
  async () => {
    const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
    using _ = closing(sock);
    expect(guile.setsockopt(sock, SOL_SOCKET, SO_KEEPALIVE, 1)).toBeUndefined();
    expect(guile.getsockopt(sock, SOL_SOCKET, SO_KEEPALIVE)).toBe(1);
    expect(codeOf(() => guile.setsockopt(sock, SOL_SOCKET, 9999, 1))).toBe("ENOPROTOOPT");
    expect(codeOf(() => guile.setsockopt(sock, IPPROTO_IP, sys.IP_TTL, 256))).toBe("EINVAL");
    const tooMuch = new DataView(new ArrayBuffer(timeval.size));
    timeval.tv_usec.set(tooMuch, 0, 1_000_000);
    expect(codeOf(() => sock.setRawOption(SOL_SOCKET, SO_SNDTIMEO, tooMuch))).toBe("EDOM");
    for (const [optname, value] of [
      [SO_KEEPALIVE, [1, 2]],
      [SO_KEEPALIVE, "1"],
      [SO_LINGER, 1],
      [SO_LINGER, [1, "2"]],
    ] as const) {
      const set = () => guile.setsockopt(sock, SOL_SOCKET, optname, value as unknown as number);
      expect(set).toThrow(TypeError);
    }
    const code = await runIn(
      unprivileged,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
      return codeOf(() => guile.setsockopt(sock, sys.SOL_SOCKET, sys.SO_MARK, 1));`,
    );
    expect(code).toBe("EPERM");
  },
  unprivileged.missing,
);

row("guile-19: SOL_SOCKET is 1", () => {
  expect(SOL_SOCKET).toBe(1);
});

row("guile-20: IPPROTO_IP is 0", () => {
  expect(IPPROTO_IP).toBe(0);
});

row("guile-21: IPPROTO_IPV6 is 41", () => {
  expect(IPPROTO_IPV6).toBe(41);
});

row("guile-22: IPPROTO_TCP is 6", () => {
  expect(IPPROTO_TCP).toBe(6);
});

row("guile-23: IPPROTO_UDP is 17", () => {
  expect(IPPROTO_UDP).toBe(17);
});

row(
  "guile-24: SO_DEBUG is 1, 0 by default, and takes a right",
  async () => {
    expect(SO_DEBUG).toBe(1);
    const [value, code] = await runIn<[number, string]>(
      unprivileged,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
      const value = guile.getsockopt(sock, sys.SOL_SOCKET, sys.SO_DEBUG);
      return [value, codeOf(() => guile.setsockopt(sock, sys.SOL_SOCKET, sys.SO_DEBUG, 1))];`,
    );
    expect([value, code]).toEqual([0, "EACCES"]);
  },
  unprivileged.missing,
);

row("guile-25: SO_REUSEADDR is 2, an integer", () => expectInteger(2, SO_REUSEADDR));

row("guile-26: SO_STYLE is another name of SO_TYPE", () => {
  // Conflict X5.
  expect(SO_STYLE).toBe(SO_TYPE);
  expect(Object.keys(sys)).not.toContain("SO_STYLE");
  const sock = udp();
  using _ = closing(sock);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_STYLE)).toBe(SOCK_DGRAM);
});

row("guile-27: SO_TYPE is 3, and cannot be set", () => {
  expect(SO_TYPE).toBe(3);
  for (const style of [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]) {
    const sock = guile.socket(PF_UNIX, style, 0);
    using _ = closing(sock);
    expect(guile.getsockopt(sock, SOL_SOCKET, SO_TYPE)).toBe(style);
    const set = () => guile.setsockopt(sock, SOL_SOCKET, SO_TYPE, SOCK_STREAM);
    expect(codeOf(set)).toBe("ENOPROTOOPT");
  }
});

row("guile-28: SO_ERROR is 4, is cleared by reading, and cannot be set", () => {
  expect(SO_ERROR).toBe(4);
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(sock);
  guile.setNonblocking(sock);
  expect(guile.connect(sock, ...nobody())).toBe(false);
  const view = new DataView(new ArrayBuffer(8));
  view.setInt32(0, sock.descriptor, true);
  expect(sys.poll(view, 10_000)).toBe(1);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_ERROR)).toBe(sys.ECONNREFUSED);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_ERROR)).toBe(0);
  const set = () => guile.setsockopt(sock, SOL_SOCKET, SO_ERROR, 0);
  expect(codeOf(set)).toBe("ENOPROTOOPT");
});

row("guile-29: SO_DONTROUTE is 5, an integer", () => expectInteger(5, SO_DONTROUTE));

row("guile-30: SO_BROADCAST is 6, an integer", () =>
  expectInteger(6, SO_BROADCAST, SOL_SOCKET, SOCK_DGRAM),
);

row("guile-31: SO_SNDBUF is 7, and the kernel doubles it", () => expectDoubled(7, SO_SNDBUF));

row("guile-32: SO_RCVBUF is 8, and the kernel doubles it", () => expectDoubled(8, SO_RCVBUF));

row("guile-33: SO_KEEPALIVE is 9, an integer", () => expectInteger(9, SO_KEEPALIVE));

row("guile-34: SO_OOBINLINE is 10, an integer", () => {
  expectInteger(10, SO_OOBINLINE);
  using tcp = connected();
  guile.setsockopt(tcp.served, SOL_SOCKET, SO_OOBINLINE, 1);
  guile.send(tcp.client, bytes("ab"));
  guile.send(tcp.client, bytes("!"), MSG_OOB);
  let inline = "";
  until(() => {
    inline += received(tcp.served);
    return inline.length >= 3;
  });
  expect(inline).toBe("ab!");
});

row("guile-35: SO_NO_CHECK is 11, an integer, and excludes segmentation", () => {
  expectInteger(11, SO_NO_CHECK, SOL_SOCKET, SOCK_DGRAM);
  const [receiver, sender] = [udp(), udp()];
  using _ = closing(receiver, sender);
  const to = guile.getsockname(receiver);
  guile.setsockopt(sender, IPPROTO_UDP, sys.UDP_SEGMENT, 4);
  expect(guile.sendto(sender, bytes("one two "), to)).toBe(8);
  expect([received(receiver), received(receiver)]).toEqual(["one ", "two "]);
  guile.setsockopt(sender, SOL_SOCKET, SO_NO_CHECK, 1);
  expect(codeOf(() => guile.sendto(sender, bytes("one two "), to))).toBe("EINVAL");
  guile.setsockopt(sender, IPPROTO_UDP, sys.UDP_SEGMENT, 0);
  guile.sendto(sender, bytes("unchecked"), to);
  expect(received(receiver)).toBe("unchecked");
});

row(
  "guile-36: SO_PRIORITY is 12, an integer of 0 to 6 without a right",
  async () => {
    expect(SO_PRIORITY).toBe(12);
    const [codes, value] = await runIn<[string[], number]>(
      unprivileged,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      const set = (to) => codeOf(() => guile.setsockopt(sock, sys.SOL_SOCKET, sys.SO_PRIORITY, to));
      const codes = [0, 6, 7].map(set);
      return [codes, guile.getsockopt(sock, sys.SOL_SOCKET, sys.SO_PRIORITY)];`,
    );
    expect(codes).toEqual(["it worked", "it worked", "EPERM"]);
    expect(value).toBe(6);
  },
  unprivileged.missing,
);

row("guile-37: SO_REUSEPORT is 15, an integer", () => {
  expectInteger(15, SO_REUSEPORT);
  const [first, second] = [
    guile.socket(PF_INET, SOCK_STREAM, 0),
    guile.socket(PF_INET, SOCK_STREAM, 0),
  ];
  using _ = closing(first, second);
  for (const sock of [first, second]) guile.setsockopt(sock, SOL_SOCKET, SO_REUSEPORT, 1);
  guile.bind(first, AF_INET, INADDR_LOOPBACK, 0);
  guile.listen(first, 1);
  guile.bind(second, guile.getsockname(first));
  guile.listen(second, 1);
  expect(guile.getsockname(second).equals(guile.getsockname(first))).toBe(true);
});

row("guile-38: SO_RCVTIMEO is 20, a pair of seconds and microseconds", () =>
  expectTimeout(20, SO_RCVTIMEO),
);

row("guile-39: SO_SNDTIMEO is 21, a pair of seconds and microseconds", () =>
  expectTimeout(21, SO_SNDTIMEO),
);

row("guile-40: SO_LINGER is a pair, in both directions, of a flag and seconds", () => {
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(sock);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_LINGER)).toEqual([0, 0]);
  guile.setsockopt(sock, SOL_SOCKET, SO_LINGER, [1, 7]);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_LINGER)).toEqual([1, 7]);
  const raw = sock.getRawOption(SOL_SOCKET, SO_LINGER, linger.size);
  expect([...new Int32Array(raw.buffer)]).toEqual([1, 7]);
  guile.setsockopt(sock, SOL_SOCKET, SO_LINGER, [0, 0]);
  expect(guile.getsockopt(sock, SOL_SOCKET, SO_LINGER)).toEqual([0, 0]);
  for (const value of [1, [1], [1, 2, 3], "on"])
    expect(() => guile.setsockopt(sock, SOL_SOCKET, SO_LINGER, value as number)).toThrow(TypeError);
});

/** A group that nobody else is in, whatever else runs here. */
let groups = 0;
function freshGroup(): number {
  return 0xef000000 + ((process.pid * 64 + groups++) & 0xffffff);
}

row(
  "guile-41: IP_MULTICAST_IF is 32, the address of the interface that multicast leaves by",
  () => {
    expect(IP_MULTICAST_IF).toBe(32);
    const [sender, receiver] = [udp(), guile.socket(PF_INET, SOCK_DGRAM, 0)];
    using _ = closing(sender, receiver);
    expect(guile.getsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF)).toBe(INADDR_ANY);
    guile.setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, INADDR_LOOPBACK);
    expect(guile.getsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF)).toBe(INADDR_LOOPBACK);
    const group = freshGroup();
    guile.bind(receiver, AF_INET, group, 0);
    guile.setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, [group, INADDR_LOOPBACK]);
    guile.sendto(sender, bytes("to all"), AF_INET, group, integersOf(receiver)[2]);
    expect(received(receiver)).toBe("to all");
    const set = () => guile.setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, ELSEWHERE);
    expect(codeOf(set)).toBe("EADDRNOTAVAIL");
  },
);

row("guile-42: IP_MULTICAST_TTL is 33, 1 by default, 0 to 255", () => {
  expect(IP_MULTICAST_TTL).toBe(33);
  const sock = udp();
  using _ = closing(sock);
  const ttl = () => guile.getsockopt(sock, IPPROTO_IP, IP_MULTICAST_TTL);
  expect(ttl()).toBe(1);
  for (const value of [0, 255, 2]) {
    guile.setsockopt(sock, IPPROTO_IP, IP_MULTICAST_TTL, value);
    expect(ttl()).toBe(value);
  }
  expect(codeOf(() => guile.setsockopt(sock, IPPROTO_IP, IP_MULTICAST_TTL, 256))).toBe("EINVAL");
  expect(ttl()).toBe(2);
});

row(
  "guile-43: IP_ADD_MEMBERSHIP is 35, a pair of group and interface, to be set only",
  async () => {
    expect(IP_ADD_MEMBERSHIP).toBe(35);
    const [receiver, sender] = [guile.socket(PF_INET, SOCK_DGRAM, 0), udp()];
    using _ = closing(receiver, sender);
    guile.setNonblocking(receiver);
    guile.bind(receiver, AF_INET, INADDR_ANY, 0);
    guile.setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, INADDR_LOOPBACK);
    const group = freshGroup();
    const join = (multiaddr: number, interfaceaddr = INADDR_LOOPBACK) =>
      guile.setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, [multiaddr, interfaceaddr]);
    const say = (what: string) =>
      guile.sendto(sender, bytes(what), AF_INET, group, integersOf(receiver)[2]);
    say("before");
    join(group);
    say("after");
    expect(received(receiver)).toBe("after");

    expect(codeOf(() => join(INADDR_LOOPBACK))).toBe("EINVAL");
    expect(codeOf(() => join(group, ELSEWHERE))).toBe("ENODEV");
    expect(codeOf(() => join(group))).toBe("EADDRINUSE");
    const most = Number(readFileSync("/proc/sys/net/ipv4/igmp_max_memberships", "utf8"));
    const more = () => {
      for (let i = 1; i <= most; i++) join(freshGroup());
    };
    expect(codeOf(more)).toBe("ENOBUFS");
    const get = () => guile.getsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP);
    expect(codeOf(get)).toBe("ENOPROTOOPT");

    // The system chooses by its routes.
    const heard = await runIn(
      ownNetwork,
      IMPORTS,
      `const join = (sock) =>
        guile.setsockopt(sock, sys.IPPROTO_IP, sys.IP_ADD_MEMBERSHIP, [0xef010203, sys.INADDR_ANY]);
      const receiver = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      guile.bind(receiver, sys.AF_INET, sys.INADDR_ANY, 5000);
      const before = codeOf(() => join(receiver));
      Bun.spawnSync(["ip", "route", "add", "224.0.0.0/4", "dev", "lo"]);
      join(receiver);
      const sender = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      guile.sendto(sender, Buffer.from("chosen"), sys.AF_INET, 0xef010203, 5000);
      const buf = Buffer.alloc(100);
      return [before, buf.toString("utf8", 0, guile.recv(receiver, buf))];`,
    );
    expect(heard).toEqual(["ENODEV", "chosen"]);
  },
  ownNetwork.missing,
);

row("guile-44: IP_DROP_MEMBERSHIP is 36, takes the same pair, and ends it", () => {
  expect(IP_DROP_MEMBERSHIP).toBe(36);
  const [receiver, sender] = [guile.socket(PF_INET, SOCK_DGRAM, 0), udp()];
  using _ = closing(receiver, sender);
  guile.setNonblocking(receiver);
  guile.bind(receiver, AF_INET, INADDR_ANY, 0);
  guile.setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, INADDR_LOOPBACK);
  const group = freshGroup();
  const pair = [group, INADDR_LOOPBACK] as const;
  const say = (what: string) =>
    guile.sendto(sender, bytes(what), AF_INET, group, integersOf(receiver)[2]);
  const drop = () => guile.setsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP, pair);
  expect(codeOf(drop)).toBe("EADDRNOTAVAIL");
  guile.setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, pair);
  say("member");
  expect(received(receiver)).toBe("member");
  drop();
  say("left");
  expect(codeOf(() => received(receiver))).toBe("EAGAIN");
  expect(codeOf(drop)).toBe("EADDRNOTAVAIL");
  const get = () => guile.getsockopt(receiver, IPPROTO_IP, IP_DROP_MEMBERSHIP);
  expect(codeOf(get)).toBe("ENOPROTOOPT");
});

row("guile-45: an interface index goes in an ip_mreqn, and is no INTERFACEADDR", () => {
  // Conflict X4.
  const [receiver, sender] = [guile.socket(PF_INET, SOCK_DGRAM, 0), udp()];
  using _ = closing(receiver, sender);
  const index = sys.if_nametoindex(Buffer.from("lo\0"));
  guile.bind(receiver, AF_INET, INADDR_ANY, 0);
  const group = freshGroup();
  const asAddress = () => guile.setsockopt(receiver, IPPROTO_IP, IP_ADD_MEMBERSHIP, [group, index]);
  expect(codeOf(asAddress)).toBe("ENODEV");
  const value = new DataView(new ArrayBuffer(ip_mreqn.size));
  expect(value.byteLength).toBe(12);
  ip_mreqn.imr_multiaddr.set(value, 0, group);
  ip_mreqn.imr_ifindex.set(value, 0, index);
  receiver.setRawOption(IPPROTO_IP, IP_ADD_MEMBERSHIP, value);
  guile.setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, INADDR_LOOPBACK);
  guile.sendto(sender, bytes("by index"), AF_INET, group, integersOf(receiver)[2]);
  expect(received(receiver)).toBe("by index");
});

row("guile-46: IPV6_V6ONLY is 26, 0 by default, and is set before bind", () => {
  expect(IPV6_V6ONLY).toBe(26);
  for (const only of [0, 1]) {
    const listener = guile.socket(PF_INET6, SOCK_STREAM, 0);
    const client = guile.socket(PF_INET, SOCK_STREAM, 0);
    using _ = closing(listener, client);
    expect(guile.getsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY)).toBe(0);
    guile.setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, only);
    expect(guile.getsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY)).toBe(only);
    guile.bind(listener, AF_INET6, 0n, 0);
    guile.listen(listener, 1);
    const set = () => guile.setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, 1 - only);
    expect(codeOf(set)).toBe("EINVAL");
    const connect = () => guile.connect(client, AF_INET, INADDR_LOOPBACK, integersOf(listener)[2]);
    if (only) {
      expect(codeOf(connect)).toBe("ECONNREFUSED");
    } else {
      expect(connect()).toBe(true);
      const [served, from] = guile.accept(listener) as Pair<Port, Address>;
      using _served = closing(served);
      expect(guile.sockaddrAddr(from)).toBe(0xffff_7f00_0001n);
    }
  }
});

row("guile-47: TCP_NODELAY is 1, an integer, 0 by default", () =>
  expectInteger(1, TCP_NODELAY, IPPROTO_TCP),
);

row("guile-48: TCP_CORK is 3, an integer, 0 by default", () => {
  expectInteger(3, TCP_CORK, IPPROTO_TCP);
  // The kernel holds back for 200 ms: on a busy machine that can be over before anybody looks.
  let held = false;
  for (let tries = 0; !held && tries < 10; tries++) {
    using tcp = connected();
    const waiting = () => tcp.served.tryReceive(new Uint8Array(9), { flags: MSG_PEEK }) ?? 0;
    guile.setsockopt(tcp.client, IPPROTO_TCP, TCP_CORK, 1);
    guile.send(tcp.client, bytes("held "));
    held = waiting() === 0;
    guile.send(tcp.client, bytes("back"));
    guile.setsockopt(tcp.client, IPPROTO_TCP, TCP_CORK, 0);
    until(() => waiting() === 9);
    expect(received(tcp.served)).toBe("held back");
  }
  expect(held).toBe(true);
});

row("guile-49: shutdown returns nothing, and close-port alone is enough", () => {
  {
    using tcp = connected();
    expect(guile.shutdown(tcp.client, 1)).toBeUndefined();
    expect(received(tcp.served)).toBe("");
    // Neither 0, 1 nor 2: ours does not ask the kernel, which says EINVAL.
    expect(() => guile.shutdown(tcp.client, 3)).toThrow(TypeError);
    expect(sys.shutdown(tcp.client.descriptor, 3)).toBe(-EINVAL);
    guile.closePort(tcp.client);
    expect(codeOf(() => guile.shutdown(tcp.client, 2))).toBe("EBADF");
  }
  using tcp = connected();
  guile.closePort(tcp.client);
  expect(received(tcp.served)).toBe("");
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(sock);
  expect(codeOf(() => guile.shutdown(sock, 2))).toBe("ENOTCONN");
});

row("guile-50: how 0 ends reception, but Linux delivers what comes later over TCP", () => {
  // Conflict X2.
  using tcp = connected();
  guile.setNonblocking(tcp.client);
  expect(codeOf(() => received(tcp.client))).toBe("EAGAIN");
  guile.shutdown(tcp.client, 0);
  expect(received(tcp.client)).toBe("");
  expect(guile.send(tcp.served, bytes("late"))).toBe(4);
  let late = "";
  until(() => {
    late = received(tcp.client);
    return late !== "";
  });
  expect(late).toBe("late");
  expect(received(tcp.client)).toBe("");
  // The other direction goes on.
  guile.send(tcp.client, bytes("still"));
  expect(received(tcp.served)).toBe("still");
});

row("guile-51: how 1 sends what is queued, and then the end; a send after it is EPIPE", () => {
  // Conflict X2.
  using tcp = connected();
  guile.setNonblocking(tcp.client);
  let queued = 0;
  const chunk = new Uint8Array(65_536).fill(7);
  for (;;) {
    const sent = tcp.client.trySend(chunk);
    if (sent === undefined) break;
    queued += sent;
  }
  expect(tcp.client.getRawOption(SOL_SOCKET, SO_ERROR)).toBe(0);
  guile.shutdown(tcp.client, 1);
  expect(codeOf(() => guile.send(tcp.client, bytes("x")))).toBe("EPIPE");
  let arrived = 0;
  const buf = new Uint8Array(1 << 20);
  for (;;) {
    const count = guile.recv(tcp.served, buf);
    if (count === 0) break;
    arrived += count;
  }
  expect(arrived).toBe(queued);
  guile.send(tcp.served, bytes("answer"));
  until(() => tcp.client.tryReceive(new Uint8Array(1), { flags: MSG_PEEK }) !== undefined);
  expect(received(tcp.client)).toBe("answer");
});

row("guile-52: how 2 ends both", () => {
  using tcp = connected();
  guile.shutdown(tcp.client, 2);
  expect(received(tcp.client)).toBe("");
  expect(received(tcp.served)).toBe("");
  expect(codeOf(() => guile.send(tcp.client, bytes("x")))).toBe("EPIPE");
  // The port is still the caller's to close.
  expect(guile.getsockopt(tcp.client, SOL_SOCKET, SO_TYPE)).toBe(SOCK_STREAM);
});

row(
  "guile-53: connect takes an address object, and gives true",
  async () => {
    const listener = tcpListener(PF_INET, 0);
    const client = guile.socket(PF_INET, SOCK_STREAM, 0);
    const late = guile.socket(PF_INET, SOCK_STREAM, 0);
    const refused = guile.socket(PF_INET, SOCK_STREAM, 0);
    using _ = closing(listener, client, late, refused);
    const address = guile.getsockname(listener);
    expect(guile.connect(client, address)).toBe(true);
    expect(guile.getpeername(client).equals(address)).toBe(true);
    expect(codeOf(() => guile.connect(client, address))).toBe("EISCONN");
    expect(codeOf(() => guile.connect(refused, ...nobody()))).toBe("ECONNREFUSED");
    const other = guile.makeSocketAddress(AF_INET6, IN6ADDR_LOOPBACK, 9);
    expect(codeOf(() => guile.connect(refused, other))).toBe("EAFNOSUPPORT");
    // The queue of the listener is full, and the kernel goes on asking.
    const error = caught(() => late.connectSync(address, { timeoutMs: 20 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect((error as SystemError).code).toBe("ETIMEDOUT");
    const unreachable = await runIn(
      ownNetwork,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
      return codeOf(() => guile.connect(sock, sys.AF_INET, ${ELSEWHERE}, 9));`,
    );
    expect(unreachable).toBe("ENETUNREACH");
  },
  ownNetwork.missing,
);

row("guile-54: connect takes AF_INET, an integer and a port", () => {
  const listener = tcpListener();
  const client = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(listener, client);
  const { port } = guile.getsockname(listener) as { port: number };
  for (const address of [-1, 2 ** 32, 1.5])
    expect(() => guile.connect(client, AF_INET, address, port)).toThrow(RangeError);
  for (const bad of [-1, 65_536, 0])
    expect(() => guile.connect(client, AF_INET, INADDR_LOOPBACK, bad)).toThrow(RangeError);
  expect(guile.connect(client, AF_INET, INADDR_LOOPBACK, port)).toBe(true);
  expect(integersOf(client).slice(0, 2)).toEqual([AF_INET, 0x7f000001]);
  const [served, from] = guile.accept(listener) as Pair<Port, Address>;
  using _served = closing(served);
  expect(guile.sockaddrAddr(from)).toBe(0x7f000001);
});

row(
  "guile-55: connect takes AF_INET6, an integer, a port, and flowinfo and scopeid if given",
  () => {
    const listener = tcpListener(PF_INET6);
    using _ = closing(listener);
    const { port } = guile.getsockname(listener) as { port: number };
    for (const rest of [[], [0], [0, 0], [0, 1]]) {
      const client = guile.socket(PF_INET6, SOCK_STREAM, 0);
      using _client = closing(client);
      expect(guile.connect(client, AF_INET6, IN6ADDR_LOOPBACK, port, ...rest)).toBe(true);
      expect(guile.sockaddrAddr(guile.getpeername(client))).toBe(1n);
    }
    const sock = guile.socket(PF_INET6, SOCK_STREAM, 0);
    using _sock = closing(sock);
    expect(codeOf(() => guile.connect(sock, AF_INET6, LINK_LOCAL, port))).toBe("EINVAL");
    // With a scope it is the network that has no such host.
    const scoped = guile.makeSocketAddress(AF_INET6, LINK_LOCAL, port, 3, 1);
    expect(scoped).toMatchObject({ scope: 1, flow: 3, port });
  },
);

row(
  "guile-56: connect takes AF_UNIX and a path, or an abstract name",
  async () => {
    const path = freshPath();
    const names = [path, `\0guile-${process.pid}`];
    for (const name of names) {
      const listener = guile.socket(PF_UNIX, SOCK_STREAM, 0);
      const client = guile.socket(PF_UNIX, SOCK_STREAM, 0);
      using _ = closing(listener, client);
      guile.bind(listener, AF_UNIX, name);
      guile.listen(listener, 1);
      expect(guile.connect(client, AF_UNIX, name)).toBe(true);
      expect(guile.sockaddrPath(guile.getpeername(client))).toBe(name);
      const datagrams = guile.socket(PF_UNIX, SOCK_DGRAM, 0);
      using _datagrams = closing(datagrams);
      // Abstract names of another type are other names.
      const code = name === path ? "EPROTOTYPE" : "ECONNREFUSED";
      expect(codeOf(() => guile.connect(datagrams, AF_UNIX, name))).toBe(code);
    }
    const sock = guile.socket(PF_UNIX, SOCK_STREAM, 0);
    using _ = closing(sock);
    expect(codeOf(() => guile.connect(sock, AF_UNIX, freshPath()))).toBe("ENOENT");
    expect(codeOf(() => guile.connect(sock, AF_UNIX, path))).toBe("ECONNREFUSED");
    expect(() => guile.connect(sock, AF_UNIX, "x".repeat(109))).toThrow(RangeError);
    // Nobody may write to that file.
    const closed = freshPath();
    const code = await runIn(
      unprivileged,
      `${IMPORTS} import { chmodSync } from "node:fs";`,
      `const listener = guile.socket(PF_UNIX, sys.SOCK_STREAM, 0);
    guile.bind(listener, sys.AF_UNIX, ${JSON.stringify(closed)});
    guile.listen(listener, 1);
    chmodSync(${JSON.stringify(closed)}, 0);
    const client = guile.socket(PF_UNIX, sys.SOCK_STREAM, 0);
    return codeOf(() => guile.connect(client, sys.AF_UNIX, ${JSON.stringify(closed)}));`,
    );
    expect(code).toBe("EACCES");
  },
  unprivileged.missing,
);

row("guile-57: connect on a non-blocking socket gives false when it takes time", () => {
  const listener = tcpListener();
  const client = guile.socket(PF_INET, SOCK_STREAM, 0);
  const unix = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const first = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const second = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(listener, client, unix, first, second);
  const [family, address, port] = integersOf(listener);
  guile.setNonblocking(client);
  expect(guile.connect(client, family, address, port)).toBe(false);
  until(() => guile.connect(client, family, address, port));
  // A Unix listener whose queue is full.
  const path = freshPath();
  guile.bind(unix, AF_UNIX, path);
  guile.listen(unix, 0);
  expect(guile.connect(first, AF_UNIX, path)).toBe(true);
  guile.setNonblocking(second);
  expect(guile.connect(second, AF_UNIX, path)).toBe(false);
  const [served] = guile.accept(unix) as Pair<Port, Address>;
  using _served = closing(served);
  expect(guile.connect(second, AF_UNIX, path)).toBe(true);
});

row(
  "guile-58: bind takes an address object, and returns nothing",
  async () => {
    const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
    const other = guile.socket(PF_INET, SOCK_STREAM, 0);
    using _ = closing(sock, other);
    const address = guile.makeSocketAddress(AF_INET, INADDR_LOOPBACK, 0);
    expect(guile.bind(sock, address)).toBeUndefined();
    expect(guile.sockaddrPort(guile.getsockname(sock))).toBeGreaterThan(0);
    expect(codeOf(() => guile.bind(other, guile.getsockname(sock)))).toBe("EADDRINUSE");
    const elsewhere = guile.makeSocketAddress(AF_INET, ELSEWHERE, 0);
    expect(codeOf(() => guile.bind(other, elsewhere))).toBe("EADDRNOTAVAIL");
    expect(codeOf(() => guile.bind(sock, address))).toBe("EINVAL");
    const low = `const sock = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
      return codeOf(() => guile.bind(sock, sys.AF_INET, sys.INADDR_LOOPBACK, 80));`;
    expect(await runIn(powerless, IMPORTS, low)).toBe("EACCES");
  },
  powerless.missing,
);

/** The errors of bind in one IP family. */
function expectBindErrors(family: number, loopback: number | bigint, elsewhere: number | bigint) {
  const sock = guile.socket(family, SOCK_STREAM, 0);
  const other = guile.socket(family, SOCK_STREAM, 0);
  using _ = closing(sock, other);
  guile.bind(sock, family, loopback, 0);
  const [, address, port] = integersOf(sock);
  expect(address).toBe(loopback);
  expect(codeOf(() => guile.bind(other, family, loopback, port))).toBe("EADDRINUSE");
  expect(codeOf(() => guile.bind(other, family, elsewhere, 0))).toBe("EADDRNOTAVAIL");
  expect(codeOf(() => guile.bind(sock, family, loopback, 0))).toBe("EINVAL");
}

row(
  "guile-59: bind takes AF_INET, an integer or INADDR_ANY, and a port or 0",
  async () => {
    const sock = guile.socket(PF_INET, SOCK_DGRAM, 0);
    using _ = closing(sock);
    guile.bind(sock, AF_INET, INADDR_ANY, 0);
    const [, address, port] = integersOf(sock);
    expect(address).toBe(0);
    expect(port).toBeGreaterThan(0);
    const sender = guile.socket(PF_INET, SOCK_DGRAM, 0);
    using _sender = closing(sender);
    guile.sendto(sender, bytes("any"), AF_INET, 0x7f000002, port);
    expect(received(sock)).toBe("any");
    expectBindErrors(AF_INET, INADDR_LOOPBACK, ELSEWHERE);
    // The document's own example, and a port that takes a right.
    const codes = await runIn(
      powerless,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
      const low = codeOf(() => guile.bind(sock, sys.AF_INET, sys.INADDR_ANY, 23));
      guile.bind(sock, sys.AF_INET, sys.INADDR_ANY, 12345);
      return [low, guile.sockaddrPort(guile.getsockname(sock))];`,
    );
    expect(codes).toEqual(["EACCES", 12345]);
  },
  powerless.missing,
);

row(
  "guile-60: bind takes AF_INET6, an integer, a port, and flowinfo and scopeid if given",
  async () => {
    for (const rest of [[], [0], [0, 0], [0, 1]]) {
      const sock = guile.socket(PF_INET6, SOCK_DGRAM, 0);
      using _ = closing(sock);
      guile.bind(sock, AF_INET6, IN6ADDR_LOOPBACK, 0, ...rest);
      expect(guile.getsockname(sock)).toMatchObject({ host: "::1", scope: 0, flow: 0 });
    }
    expectBindErrors(AF_INET6, IN6ADDR_LOOPBACK, ELSEWHERE6);
    const sock = guile.socket(PF_INET6, SOCK_DGRAM, 0);
    using _ = closing(sock);
    expect(codeOf(() => guile.bind(sock, AF_INET6, LINK_LOCAL, 0))).toBe("EINVAL");
    const [scope, low] = await runIn<[number, string]>(
      powerless,
      IMPORTS,
      `const sock = guile.socket(PF_INET6, sys.SOCK_DGRAM, 0);
      const low = codeOf(() => guile.bind(sock, sys.AF_INET6, 1n, 23));
      return [guile.makeSocketAddress(sys.AF_INET6, 1n, 23, 0, 7).scope, low];`,
    );
    expect([scope, low]).toEqual([7, "EACCES"]);
  },
  powerless.missing,
);

row("guile-61: bind takes AF_UNIX and a path, where it makes a file, or an abstract name", () => {
  const path = freshPath();
  const abstract = `\0guile-${process.pid}-61`;
  const sock = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const named = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const other = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(sock, named, other);
  guile.bind(sock, AF_UNIX, path);
  expect(existsSync(path)).toBe(true);
  expect(guile.sockaddrPath(guile.getsockname(sock))).toBe(path);
  guile.bind(named, AF_UNIX, abstract);
  expect(guile.sockaddrPath(guile.getsockname(named))).toBe(abstract);
  const bind = (name: string) => () => guile.bind(other, AF_UNIX, name);
  expect(codeOf(bind(path))).toBe("EADDRINUSE");
  expect(codeOf(bind(abstract))).toBe("EADDRINUSE");
  expect(codeOf(bind(join(folder, "missing", "x")))).toBe("ENOENT");
  expect(codeOf(bind(`${path}/x`))).toBe("ENOTDIR");
  expect(bind("a\0b")).toThrow(TypeError);
  expect(bind(`/${"x".repeat(108)}`)).toThrow(RangeError);
});

row("guile-62: the system assigns the local address of an outgoing connection", () => {
  const listener = tcpListener();
  const client = guile.socket(PF_INET, SOCK_STREAM, 0);
  const [receiver, sender] = [udp(), guile.socket(PF_INET, SOCK_DGRAM, 0)];
  using _ = closing(listener, client, receiver, sender);
  for (const sock of [client, sender]) expect(integersOf(sock)).toEqual([AF_INET, 0, 0]);
  guile.connect(client, guile.getsockname(listener));
  const [, address, port] = integersOf(client);
  expect([address, port > 0]).toEqual([INADDR_LOOPBACK, true]);
  guile.sendto(sender, bytes("x"), guile.getsockname(receiver));
  const assigned = integersOf(sender)[2];
  expect(assigned).toBeGreaterThan(0);
  const [, from] = guile.recvfrom(receiver, new Uint8Array(1));
  expect(guile.sockaddrPort(from as Address)).toBe(assigned);
});

row("guile-63: listen takes a backlog, and returns nothing", () => {
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  const datagrams = udp();
  const unbound = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(sock, datagrams, unbound);
  guile.bind(sock, AF_INET, INADDR_LOOPBACK, 0);
  expect(guile.listen(sock, 7)).toBeUndefined();
  // The kernel tells the backlog of a listener as tcpi_sacked.
  const info = sock.getRawOption(IPPROTO_TCP, sys.TCP_INFO, 256);
  expect(new DataView(info.buffer).getUint32(28, true)).toBe(7);
  const error = systemErrorOf(() => guile.listen(datagrams, 1));
  expect(error.errno).toBe(-sys.EOPNOTSUPP);
  expect(codeOf(() => guile.listen(unbound, 1))).toBe("EINVAL");
  expect(() => guile.listen(sock, -1)).toThrow(RangeError);
});

row("guile-64: when the queue is full, TCP clients wait and Unix clients are told EAGAIN", () => {
  // Conflict X3.
  const tcp = tcpListener(PF_INET, 0);
  const unix = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const path = freshPath();
  guile.bind(unix, AF_UNIX, path);
  guile.listen(unix, 0);
  const make = (family: number) => guile.socket(family, SOCK_STREAM, 0);
  const [first, second] = [make(PF_INET), make(PF_INET)];
  const [third, fourth] = [make(PF_UNIX), make(PF_UNIX)];
  using _ = closing(tcp, unix, first, second, third, fourth);
  guile.connect(first, guile.getsockname(tcp));
  const wait = () => second.connectSync(guile.getsockname(tcp) as never, { timeoutMs: 20 });
  expect(codeOf(wait)).toBe("ETIMEDOUT");
  guile.connect(third, AF_UNIX, path);
  expect(sys.connect(fourth.descriptor, new UnixAddress(path).bytes)).toBe(-EAGAIN);
  const [served] = guile.accept(unix) as Pair<Port, Address>;
  guile.closePort(served);
  expect(guile.connect(fourth, AF_UNIX, path)).toBe(true);
});

row("guile-65: accept waits, and gives a new socket and the address of the peer", async () => {
  const listener = tcpListener();
  const client = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(listener, client);
  guile.connect(client, guile.getsockname(listener));
  const [served, from] = guile.accept(listener) as Pair<Port, Address>;
  using _served = closing(served);
  expect(from.equals(guile.getsockname(client))).toBe(true);
  expect(guile.getpeername(served).equals(from)).toBe(true);
  guile.send(client, bytes("hello"));
  expect(received(served)).toBe("hello");
  const deaf = guile.socket(PF_INET, SOCK_STREAM, 0);
  expect(codeOf(() => guile.accept(deaf))).toBe("EINVAL");
  guile.closePort(deaf);
  expect(codeOf(() => guile.accept(deaf))).toBe("EBADF");
  const code = await runIn(
    withDescriptors(64),
    IMPORTS,
    `const listener = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
    guile.bind(listener, sys.AF_INET, sys.INADDR_LOOPBACK, 0);
    guile.listen(listener, 5);
    const client = guile.socket(PF_INET, sys.SOCK_STREAM, 0);
    guile.connect(client, guile.getsockname(listener));
    const open = [];
    codeOf(() => { for (;;) open.push(guile.socket(PF_INET, sys.SOCK_STREAM, 0)); });
    const code = codeOf(() => guile.accept(listener));
    // The connection is not lost.
    guile.closePort(open.pop());
    return [code, codeOf(() => open.push(...guile.accept(listener)))];`,
  );
  expect(code).toEqual(["EMFILE", "it worked"]);
});

row("guile-66: accept on a non-blocking listener gives #f when nothing is pending", () => {
  const listener = tcpListener();
  const client = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(listener, client);
  guile.setNonblocking(listener);
  expect(guile.accept(listener)).toBe(false);
  guile.connect(client, guile.getsockname(listener));
  const [served] = guile.accept(listener) as Pair<Port, Address>;
  using _served = closing(served);
  expect(guile.accept(listener)).toBe(false);
});

row("guile-67: accept's flags are for the accepted socket, and others are refused", () => {
  const listener = tcpListener();
  using _ = closing(listener);
  for (const flags of [0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK]) {
    const client = guile.socket(PF_INET, SOCK_STREAM, 0);
    guile.connect(client, guile.getsockname(listener));
    const [served] = guile.accept(listener, flags) as Pair<Port, Address>;
    using _pair = closing(client, served);
    const closesOnExec = sys.fcntl(served.descriptor, sys.F_GETFD, 0) & sys.FD_CLOEXEC;
    expect(closesOnExec !== 0).toBe((flags & SOCK_CLOEXEC) !== 0);
    if (flags & SOCK_NONBLOCK) expect(codeOf(() => received(served))).toBe("EAGAIN");
    guile.send(client, bytes("x"));
    until(() => served.tryReceive(new Uint8Array(1), { flags: MSG_PEEK }) === 1);
    expect(received(served)).toBe("x");
    expect(codeOf(() => guile.accept(listener, flags | 1))).toBe("EINVAL");
  }
});

row("guile-68: getsockname is the local address", () => {
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  guile.bind(sock, AF_INET, 0x7f000002, 0);
  const address = guile.getsockname(sock);
  expect(guile.sockaddrAddr(address)).toBe(0x7f000002);
  expect(guile.sockaddrPort(address)).toBeGreaterThan(0);
  using tcp = connected();
  expect(guile.getsockname(tcp.client).equals(guile.getpeername(tcp.served))).toBe(true);
  guile.closePort(sock);
  expect(codeOf(() => guile.getsockname(sock))).toBe("EBADF");
});

row("guile-69: getpeername is the remote address, and ENOTCONN without one", () => {
  using tcp = connected();
  expect(guile.getpeername(tcp.client).equals(guile.getsockname(tcp.listener))).toBe(true);
  expect(guile.getpeername(tcp.served).equals(guile.getsockname(tcp.client))).toBe(true);
  expect(tcp.listener.remoteAddress).toBeUndefined();
  expect(codeOf(() => guile.getpeername(tcp.listener))).toBe("ENOTCONN");
  guile.closePort(tcp.client);
  expect(codeOf(() => tcp.client.remoteAddress)).toBe("EBADF");
});

row("guile-70: names of Unix sockets can be read, and are empty where there is none", () => {
  const path = freshPath();
  const listener = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  const client = guile.socket(PF_UNIX, SOCK_STREAM, 0);
  guile.bind(listener, AF_UNIX, path);
  guile.listen(listener, 1);
  guile.connect(client, AF_UNIX, path);
  const [served, from] = guile.accept(listener) as Pair<Port, Address>;
  using _ = closing(listener, client, served);
  expect(guile.sockaddrPath(guile.getsockname(listener))).toBe(path);
  expect(guile.sockaddrPath(guile.getpeername(client))).toBe(path);
  expect(guile.sockaddrPath(guile.getsockname(served))).toBe(path);
  expect(guile.sockaddrPath(guile.getsockname(client))).toBe("");
  expect(guile.sockaddrPath(from)).toBe("");
});

row("guile-71: recv! gives the count, 0 at the end, and no more than the buffer holds", () => {
  using tcp = connected();
  guile.send(tcp.client, bytes("hello"));
  const buf = new Uint8Array(3);
  expect(guile.recv(tcp.served, buf)).toBe(3);
  expect(text(buf)).toBe("hel");
  expect(guile.recv(tcp.served, buf)).toBe(2);
  expect(text(buf)).toBe("lol");
  guile.shutdown(tcp.client, 1);
  expect(guile.recv(tcp.served, buf)).toBe(0);

  const [left, right] = [udp(), udp()];
  const sock = guile.socket(PF_INET, SOCK_STREAM, 0);
  using _ = closing(left, right, sock);
  guile.sendto(left, bytes("too long"), guile.getsockname(right));
  guile.sendto(left, bytes("two"), guile.getsockname(right));
  expect([guile.recv(right, buf), text(buf)]).toEqual([3, "too"]);
  expect([guile.recv(right, buf), text(buf)]).toEqual([3, "two"]);
  expect(codeOf(() => guile.recv(right, buf, MSG_DONTWAIT))).toBe("EAGAIN");
  expect(codeOf(() => guile.recv(sock, buf))).toBe("ENOTCONN");
  for (const wrong of ["text", [1, 2, 3], 5, undefined])
    expect(() => guile.recv(right, wrong as never)).toThrow(TypeError);
  reset(tcp.served);
  expect(codeOf(() => guile.recv(tcp.client, buf))).toBe("ECONNRESET");
});

row("guile-72: recv! reads the descriptor, whatever the port has read already", () => {
  using tcp = connected();
  using port = guile.setvbuf(tcp.served, 4096);
  guile.send(tcp.client, bytes("buffered"));
  expect(text(port.reader.peekSync(8))).toBe("buffered");
  guile.setNonblocking(tcp.served);
  expect(codeOf(() => received(tcp.served))).toBe("EAGAIN");
  guile.send(tcp.client, bytes("next"));
  until(() => tcp.served.tryReceive(new Uint8Array(4), { flags: MSG_PEEK }) === 4);
  expect(received(tcp.served)).toBe("next");
  expect(text(port.reader.readExactlySync(8))).toBe("buffered");
});

row("guile-73: send gives the count, which may be less on a non-blocking socket", () => {
  using tcp = connected();
  expect(guile.send(tcp.client, bytes("hello"))).toBe(5);
  expect(received(tcp.served)).toBe("hello");
  guile.setNonblocking(tcp.client);
  const large = new Uint8Array(64 << 20);
  const part = guile.send(tcp.client, large);
  expect(part).toBeGreaterThan(0);
  expect(part).toBeLessThan(large.length);
  const fill = () => {
    for (;;) guile.send(tcp.client, large);
  };
  expect(codeOf(fill)).toBe("EAGAIN");
  guile.shutdown(tcp.client, 1);
  expect(codeOf(() => guile.send(tcp.client, bytes("x")))).toBe("EPIPE");
  const sock = udp();
  using _ = closing(sock);
  expect(codeOf(() => guile.send(sock, bytes("x")))).toBe("EDESTADDRREQ");
  guile.connect(sock, ...nobody(SOCK_DGRAM));
  expect(codeOf(() => guile.send(sock, new Uint8Array(65_508)))).toBe("EMSGSIZE");
});

row("guile-74: recvfrom! fills a region of the buffer, and gives the count and who sent it", () => {
  const [receiver, sender] = [udp(), udp()];
  using _ = closing(receiver, sender);
  const say = (what: string) => guile.sendto(sender, bytes(what), guile.getsockname(receiver));
  const buf = Buffer.from("..........");
  say("whole");
  const [count, from] = guile.recvfrom(receiver, buf);
  expect([count, `${buf}`]).toEqual([5, "whole....."]);
  expect((from as Address).equals(guile.getsockname(sender))).toBe(true);
  buf.fill(".");
  say("from two");
  expect(guile.recvfrom(receiver, buf, 0, 2)[0]).toBe(8);
  expect(`${buf}`).toBe("..from two");
  buf.fill(".");
  say("a region");
  expect(guile.recvfrom(receiver, buf, 0, 2, 5)[0]).toBe(3);
  expect(`${buf}`).toBe("..a r.....");
  say("peek");
  expect(guile.recvfrom(receiver, buf, MSG_PEEK)[0]).toBe(4);
  expect(guile.recvfrom(receiver, buf)[0]).toBe(4);
  for (const [start, end] of [
    [0, 11],
    [5, 4],
    [11, 11],
    [-1, 5],
  ] as const)
    expect(() => guile.recvfrom(receiver, buf, 0, start, end)).toThrow(RangeError);
  // Streams do not say who sent it.
  using tcp = connected();
  guile.send(tcp.client, bytes("stream"));
  expect(guile.recvfrom(tcp.served, buf)).toEqual([6, false]);
});

row(
  "guile-75: recvfrom! need not stop everything: MSG_DONTWAIT, O_NONBLOCK, or a promise",
  async () => {
    const [receiver, sender] = [udp(), udp()];
    using _ = closing(receiver, sender);
    const buf = new Uint8Array(10);
    expect(codeOf(() => guile.recvfrom(receiver, buf, MSG_DONTWAIT))).toBe("EAGAIN");
    const later = receiver.receiveFrom(buf, { timeoutMs: 10_000 });
    // What else there is to do goes on, and here it is what the call waits for.
    setImmediate(() => guile.sendto(sender, bytes("later"), guile.getsockname(receiver)));
    expect((await later).length).toBe(5);
    guile.setNonblocking(receiver);
    expect(codeOf(() => guile.recvfrom(receiver, buf))).toBe("EAGAIN");
  },
);

/** The errors of sendto in an IP family, in the order of the row. */
const SENDTO_ERRORS = ["EAFNOSUPPORT", "EINVAL", "EMSGSIZE", "EACCES", "ENETUNREACH"];

row(
  "guile-76: sendto takes an address object and flags, and gives the count",
  async () => {
    const [receiver, sender] = [udp(), udp()];
    using _ = closing(receiver, sender);
    const to = guile.getsockname(receiver);
    expect(guile.sendto(sender, bytes("hello"), to)).toBe(5);
    expect(received(receiver)).toBe("hello");
    expect(guile.sendto(sender, bytes("here"), to, MSG_DONTROUTE)).toBe(4);
    expect(received(receiver)).toBe("here");
    const codes = await runIn(
      ownNetwork,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      const codeOfSending = (length, ...parts) =>
        codeOf(() => guile.sendto(sock, new Uint8Array(length), guile.makeSocketAddress(...parts)));
      return [
        codeOfSending(1, sys.AF_INET6, 1n, 9),
        codeOfSending(1, sys.AF_INET, sys.INADDR_LOOPBACK, 0),
        codeOfSending(65508, sys.AF_INET, sys.INADDR_LOOPBACK, 9),
        codeOfSending(1, sys.AF_INET, 0x7fffffff, 9),
        codeOfSending(1, sys.AF_INET, ${ELSEWHERE}, 9),
      ];`,
    );
    expect(codes).toEqual(SENDTO_ERRORS);
  },
  ownNetwork.missing,
);

row(
  "guile-77: sendto takes AF_INET, an integer, a port and flags",
  async () => {
    const [receiver, sender] = [udp(), udp()];
    using _ = closing(receiver, sender);
    const { port } = guile.getsockname(receiver) as { port: number };
    expect(guile.sendto(sender, bytes("hello"), AF_INET, INADDR_LOOPBACK, port)).toBe(5);
    expect(received(receiver)).toBe("hello");
    guile.sendto(sender, bytes("one "), AF_INET, INADDR_LOOPBACK, port, sys.MSG_MORE);
    guile.sendto(sender, bytes("datagram"), AF_INET, INADDR_LOOPBACK, port);
    expect(received(receiver)).toBe("one datagram");
    const codes = await runIn(
      ownNetwork,
      IMPORTS,
      `const sock = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      const code = (length, host, port) =>
        codeOf(() => guile.sendto(sock, new Uint8Array(length), sys.AF_INET, host, port));
      return [
        codeOf(() => guile.sendto(sock, new Uint8Array(1), sys.AF_INET6, 1n, 9)),
        code(1, sys.INADDR_LOOPBACK, 0),
        code(65508, sys.INADDR_LOOPBACK, 9),
        code(1, 0x7fffffff, 9),
        code(1, ${ELSEWHERE}, 9),
      ];`,
    );
    expect(codes).toEqual(SENDTO_ERRORS);
  },
  ownNetwork.missing,
);

row(
  "guile-78: sendto takes AF_INET6, an integer, a port, flowinfo, scopeid and flags",
  async () => {
    const [receiver, sender] = [udp(PF_INET6), udp(PF_INET6)];
    using _ = closing(receiver, sender);
    const { port } = guile.getsockname(receiver) as { port: number };
    for (const rest of [[], [0], [0, 0], [0, 0, 0], [0, 0, MSG_DONTROUTE]]) {
      const say = () =>
        guile.sendto(sender, bytes("hello"), AF_INET6, IN6ADDR_LOOPBACK, port, ...rest);
      expect(say()).toBe(5);
      expect(received(receiver)).toBe("hello");
    }
    guile.sendto(sender, bytes("one "), AF_INET6, IN6ADDR_LOOPBACK, port, 0, 0, sys.MSG_MORE);
    guile.sendto(sender, bytes("datagram"), AF_INET6, IN6ADDR_LOOPBACK, port);
    expect(received(receiver)).toBe("one datagram");
    const four = udp();
    using _four = closing(four);
    const codes = [
      () => guile.sendto(four, bytes("x"), AF_INET6, IN6ADDR_LOOPBACK, port),
      () => guile.sendto(sender, bytes("x"), AF_INET6, IN6ADDR_LOOPBACK, 0),
      () => guile.sendto(sender, new Uint8Array(65_528), AF_INET6, IN6ADDR_LOOPBACK, port),
    ].map(codeOf);
    expect(codes).toEqual(["EAFNOSUPPORT", "EINVAL", "EMSGSIZE"]);
    const others = await runIn(
      ownNetwork,
      IMPORTS,
      `Bun.spawnSync(["ip", "-6", "route", "add", "prohibit", "2001:db8:1::/48"]);
    const sock = guile.socket(PF_INET6, sys.SOCK_DGRAM, 0);
    const code = (host) => codeOf(() => guile.sendto(sock, new Uint8Array(1), sys.AF_INET6, host, 9));
    return [code(0x20010db80001n << 80n), code(0x20010db80002n << 80n)];`,
    );
    expect(others).toEqual(["EACCES", "ENETUNREACH"]);
  },
  ownNetwork.missing,
);

row("guile-79: sendto takes AF_UNIX, a path or an abstract name, and flags", () => {
  const path = freshPath();
  const abstract = `\0guile-${process.pid}-79`;
  const sender = guile.socket(PF_UNIX, SOCK_DGRAM, 0);
  using _ = closing(sender);
  for (const name of [path, abstract]) {
    const receiver = guile.socket(PF_UNIX, SOCK_DGRAM, 0);
    using _receiver = closing(receiver);
    guile.bind(receiver, AF_UNIX, name);
    expect(guile.sendto(sender, bytes("hello"), AF_UNIX, name)).toBe(5);
    expect(guile.sendto(sender, bytes("again"), AF_UNIX, name, MSG_DONTWAIT)).toBe(5);
    expect([received(receiver), received(receiver)]).toEqual(["hello", "again"]);
    // Who has a peer takes nothing of others.
    const peer = guile.socket(PF_UNIX, SOCK_DGRAM, 0);
    using _peer = closing(peer);
    guile.bind(peer, AF_UNIX, `${abstract}-peer`);
    guile.connect(receiver, AF_UNIX, `${abstract}-peer`);
    expect(codeOf(() => guile.sendto(sender, bytes("x"), AF_UNIX, name))).toBe("EPERM");
  }
  expect(codeOf(() => guile.sendto(sender, bytes("x"), AF_UNIX, freshPath()))).toBe("ENOENT");
  expect(codeOf(() => guile.sendto(sender, bytes("x"), AF_UNIX, path))).toBe("ECONNREFUSED");
  expect(codeOf(() => guile.sendto(sender, bytes("x"), AF_UNIX, abstract))).toBe("ECONNREFUSED");
});

row("guile-80: MSG_OOB is 1, one urgent byte", () => {
  expect(MSG_OOB).toBe(1);
  using tcp = connected();
  const buf = new Uint8Array(10);
  expect(codeOf(() => guile.recv(tcp.served, buf, MSG_OOB))).toBe("EINVAL");
  guile.send(tcp.client, bytes("ab"));
  guile.send(tcp.client, bytes("!"), MSG_OOB | MSG_DONTWAIT);
  let count = 0;
  until(() => {
    try {
      count = guile.recv(tcp.served, buf, MSG_OOB);
    } catch {}
    return count > 0;
  });
  expect(text(buf, count)).toBe("!");
  expect(received(tcp.served)).toBe("ab");
  const datagrams = udp();
  using _ = closing(datagrams);
  const error = sys.sendto(datagrams.descriptor, buf, MSG_OOB, guile.getsockname(datagrams).bytes);
  expect(error).toBe(-sys.EOPNOTSUPP);
  // Ours does not ask the kernel.
  const send = () => guile.sendto(datagrams, buf, guile.getsockname(datagrams), MSG_OOB);
  expect(send).toThrow(RangeError);
});

row("guile-81: MSG_PEEK is 2, and leaves what it reads", () => {
  expect(MSG_PEEK).toBe(2);
  const [left, right] = guile.socketpair(PF_UNIX, SOCK_STREAM, 0);
  using _ = closing(left, right);
  guile.send(left, bytes("hello"));
  expect(received(right, MSG_PEEK)).toBe("hello");
  expect(received(right, MSG_PEEK | MSG_DONTWAIT)).toBe("hello");
  expect(received(right)).toBe("hello");
  expect(codeOf(() => received(right, MSG_PEEK | MSG_DONTWAIT))).toBe("EAGAIN");
});

row(
  "guile-82: MSG_DONTROUTE is 4, and the other flags are there too",
  async () => {
    expect(MSG_DONTROUTE).toBe(4);
    // By a gateway or not at all, or on the link.
    const codes = await runIn(
      ownNetwork,
      IMPORTS,
      `for (const command of [
        "ip link add out type veth peer name in",
        "ip link set out up",
        "ip link set in up",
        "ip addr add 10.99.0.1/24 dev out",
        "ip route add default via 10.99.0.2",
      ]) Bun.spawnSync(command.split(" "));
      const sock = guile.socket(PF_INET, sys.SOCK_DGRAM, 0);
      const code = (flags) =>
        codeOf(() => guile.sendto(sock, new Uint8Array(1), sys.AF_INET, ${ELSEWHERE}, 9, flags));
      return [code(0), code(sys.MSG_DONTROUTE)];`,
    );
    expect(codes).toEqual(["it worked", "ENETUNREACH"]);
    using tcp = connected();
    const buf = new Uint8Array(6);
    guile.send(tcp.client, bytes("abc"), sys.MSG_NOSIGNAL | sys.MSG_MORE);
    guile.send(tcp.client, bytes("def"), sys.MSG_DONTWAIT);
    expect(guile.recv(tcp.served, buf, MSG_WAITALL)).toBe(6);
    expect(text(buf)).toBe("abcdef");
  },
  ownNetwork.missing,
);

row("guile-83: addresses are integers that are not negative", () => {
  expect(sys.inet_pton(AF_INET, "192.0.2.1")).toBe(ELSEWHERE);
  expect(sys.inet_pton(AF_INET6, "2001:db8::")).toBe(0x2001_0db8n << 96n);
  expect(sys.inet_ntop(AF_INET, 0xffffffff)).toBe("255.255.255.255");
  expect(sys.inet_ntop(AF_INET6, 2n ** 128n - 1n)).toBe("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  const address = guile.makeSocketAddress(AF_INET6, 2n ** 127n, 1);
  expect(guile.sockaddrAddr(address)).toBe(2n ** 127n);
  for (const [family, bad] of [
    [AF_INET, -1],
    [AF_INET, 2 ** 32],
    [AF_INET6, -1n],
    [AF_INET6, 2n ** 128n],
  ] as const) {
    expect(() => sys.inet_ntop(family, bad)).toThrow(RangeError);
    expect(() => guile.makeSocketAddress(family, bad, 1)).toThrow(RangeError);
  }
});

row("guile-84: connect, bind and sendto take what make-socket-address does", () => {
  const forms: readonly Destination[] = [
    [AF_INET, INADDR_LOOPBACK, 0],
    [AF_INET6, IN6ADDR_LOOPBACK, 0],
    [AF_INET6, IN6ADDR_LOOPBACK, 0, 0],
    [AF_INET6, IN6ADDR_LOOPBACK, 0, 0, 0],
    [AF_UNIX, freshPath()],
    [AF_UNIX, `\0guile-${process.pid}-84`],
  ];
  for (const form of forms) {
    const family = form[0] as number;
    const make = guile.makeSocketAddress as (...parts: unknown[]) => Address;
    const receiver = guile.socket(family, SOCK_DGRAM, 0);
    const sender = guile.socket(family, SOCK_DGRAM, 0);
    using _ = closing(receiver, sender);
    guile.bind(receiver, ...form);
    const bound = guile.getsockname(receiver);
    if (family === AF_UNIX) expect(bound.equals(make(...form))).toBe(true);
    const rest = family === AF_UNIX ? form : [...integersOf(receiver), ...form.slice(3)];
    guile.sendto(sender, bytes("sent"), ...(rest as unknown as Destination));
    guile.connect(sender, ...(rest as unknown as Destination));
    guile.send(sender, bytes("connected"));
    expect([received(receiver), received(receiver)]).toEqual(["sent", "connected"]);
    expect(guile.getpeername(sender).equals(bound)).toBe(true);
    expect(make(...(rest as unknown[])).equals(bound)).toBe(true);
  }
  for (const bad of [
    [AF_UNIX, "a\0b"],
    [AF_UNIX, 5],
    [AF_UNIX, ""],
    [AF_INET, "127.0.0.1", 9],
    [AF_INET6, "::1", 9],
    [AF_INET, INADDR_LOOPBACK, "9"],
  ])
    expect(() => (guile.makeSocketAddress as (...parts: unknown[]) => Address)(...bad)).toThrow(
      TypeError,
    );
  for (const bad of [
    [99, 1, 9],
    [AF_INET, INADDR_BROADCAST + 1, 9],
    [AF_INET, INADDR_LOOPBACK, 65_536],
    [AF_UNIX, "x".repeat(200)],
  ])
    expect(() => (guile.makeSocketAddress as (...parts: unknown[]) => Address)(...bad)).toThrow(
      RangeError,
    );
});

row(
  "the examples of Guile's text: connect and bind by integers and by address objects",
  async () => {
    const result = await runIn(
      ownNetwork,
      IMPORTS,
      `const { AF_INET, INADDR_ANY, INADDR_LOOPBACK, SOCK_STREAM } = sys;
      const sock = () => guile.socket(PF_INET, SOCK_STREAM, 0);
      const telnet = sock();
      guile.bind(telnet, AF_INET, INADDR_LOOPBACK, 23);
      guile.listen(telnet, 5);
      const [first, second, third, fourth] = [sock(), sock(), sock(), sock()];
      guile.connect(first, AF_INET, INADDR_LOOPBACK, 23);
      guile.connect(second, guile.makeSocketAddress(AF_INET, INADDR_LOOPBACK, 23));
      guile.bind(third, AF_INET, INADDR_ANY, 12345);
      guile.closePort(third);
      guile.bind(fourth, guile.makeSocketAddress(AF_INET, INADDR_ANY, 12345));
      const [client, address] = guile.accept(telnet);
      guile.send(first, Buffer.from("hello"));
      const buf = Buffer.alloc(10);
      return [
        String(guile.getpeername(second)),
        String(guile.getsockname(fourth)),
        address.equals(guile.getsockname(first)),
        buf.toString("utf8", 0, guile.recv(client, buf)),
      ];`,
    );
    expect(result).toEqual(["127.0.0.1:23", "0.0.0.0:12345", true, "hello"]);
  },
  ownNetwork.missing,
);
