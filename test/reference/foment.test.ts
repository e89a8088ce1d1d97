/**
 * Foment's sockets and the layer of SRFI 106 that its text points to, row by row. The adapter keeps
 * the names; see its file for what stands behind each.
 */
import { beforeAll, expect } from "bun:test";
import {
  ClosedError,
  ConnectError,
  Inet4Address,
  type InetAddress,
  ResolutionError,
  Socket,
  SocketOption,
  StreamSocket,
  SystemError,
  TcpListener,
  UdpSocket,
} from "bun-sockets";
import * as sys from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { Talker } from "../support/talker.ts";
import { reasonOf, startPoller, until } from "../support/waiting.ts";
import { ownNetwork, runIn, unprivileged, withDescriptors } from "./support/children.ts";
import { foment } from "./support/foment_adapter.ts";
import { PATIENCE_MS, row } from "./support/rows.ts";

const WAIT = { timeoutMs: PATIENCE_MS };
const { AF_INET, AF_INET6, AF_UNSPEC, SOCK_STREAM, SOCK_DGRAM, IPPROTO_IP, IPPROTO_TCP } = sys;
const IMPORTS = `
  import { Socket } from "bun-sockets";
  import * as sys from "bun-sockets/sys";
  import { foment } from "./test/reference/support/foment_adapter.ts";
  const codeOf = async (run) => {
    try {
      await run();
      return "it worked";
    } catch (error) {
      return error.code;
    }
  };
`;

// What a row's poller opens stays open.
beforeAll(startPoller);

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function textOf(received: Uint8Array): string {
  return new TextDecoder().decode(received);
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const reason = await reasonOf(promise);
  if (!(reason instanceof SystemError || reason instanceof ResolutionError)) throw reason;
  return reason.code;
}

/** A socket, made and closed as the document does it, with `using`. */
function tcp(family: number = AF_INET): Socket & Disposable {
  return foment.makeSocket(family, SOCK_STREAM, IPPROTO_TCP);
}

function portOf(socket: Socket): string {
  return `${(socket.localAddress as InetAddress).port}`;
}

/** A listener on a port that the kernel has chosen. */
async function listening(): Promise<Socket> {
  const listener = tcp();
  await foment.bindSocket(listener, "localhost", "0", AF_INET, SOCK_STREAM, IPPROTO_TCP);
  foment.listenSocket(listener);
  return listener;
}

/** A client and what the listener has accepted. */
async function connected(): Promise<[client: StreamSocket, served: StreamSocket]> {
  using listener = await listening();
  const client = tcp();
  const to = portOf(listener);
  await foment.connectSocket(client, "localhost", to, AF_INET, SOCK_STREAM, 0, IPPROTO_TCP);
  return [client as StreamSocket, (await foment.acceptSocket(listener)) as StreamSocket];
}

/** A port that nobody listens on, while the block lasts. */
function closedPort(): Disposable & { readonly port: string } {
  const socket = Socket.create("ipv4", "stream");
  socket.bind("127.0.0.1:0");
  return { port: portOf(socket), [Symbol.dispose]: () => socket.close() };
}

function expectSyntaxErrors(run: (name: string) => unknown, ...names: string[]): void {
  for (const name of names) expect(caught(() => run(name))).toBeInstanceOf(TypeError);
}

// Procedures

row("foment-01: a socket is a port for bytes: read, write, close, and an end", async () => {
  const [client, served] = await connected();
  using _ = served;
  await client.sendAll(bytes("bytes"));
  client.shutdown("write");
  const target = new Uint8Array(128);
  expect(await served.reader().read(target, WAIT)).toBe(5);
  expect(textOf(target.subarray(0, 5))).toBe("bytes");
  // The eof object.
  expect(await served.reader().read(target, WAIT)).toBe(0);
  // Closing one port leaves the socket; closing both closes it.
  const { descriptor } = client;
  await served.sendAll("still");
  expect(textOf(await client.receiveBytes(128, WAIT))).toBe("still");
  await client.writable.close();
  expect(client.descriptor).toBe(descriptor);
  await client.readable.cancel();
  expect(caught(() => client.localAddress)).toBeInstanceOf(ClosedError);
});

row("foment-02: socket? tells sockets from everything else", () => {
  using stream = tcp();
  using udp = UdpSocket.open("ipv4");
  expect([stream, udp].map(foment.isSocket)).toEqual([true, true]);
  const others = [
    undefined,
    null,
    3,
    "socket",
    {},
    stream.descriptor,
    Socket,
    new Inet4Address("127.0.0.1", 1),
  ];
  for (const other of others) expect(foment.isSocket(other)).toBe(false);
  stream.close();
  expect(foment.isSocket(stream)).toBe(true);
});

row(
  "foment-03: make-socket gives an unbound, unconnected socket",
  async () => {
    for (const [family, type, protocol] of [
      [AF_INET, SOCK_STREAM, IPPROTO_TCP],
      [AF_INET6, SOCK_STREAM, IPPROTO_IP],
      [AF_INET, SOCK_DGRAM, sys.IPPROTO_UDP],
    ] as const) {
      using socket = foment.makeSocket(family, type, protocol);
      expect(socket.getOption(SocketOption.domain)).toBe(family);
      expect(socket.getOption(SocketOption.type)).toBe(type);
      expect([socket.connected, socket.remoteAddress]).toEqual([false, undefined]);
      expect((socket.localAddress as InetAddress).port).toBe(0);
    }
    const error = systemErrorOf(() => foment.makeSocket(AF_INET, SOCK_STREAM, sys.IPPROTO_UDP));
    expect([error.code, error.syscall]).toEqual(["EPROTONOSUPPORT", "socket"]);
    expect(error.message).toContain("protocol not supported");
    expect(systemErrorOf(() => foment.makeSocket(100, SOCK_STREAM, 0)).code).toBe("EAFNOSUPPORT");
    expect(systemErrorOf(() => foment.makeSocket(AF_INET, sys.SOCK_RDM, 0)).code).toBe(
      "ESOCKTNOSUPPORT",
    );
    const raw = "return codeOf(() => foment.makeSocket(sys.AF_INET, sys.SOCK_RAW, 1));";
    expect(await runIn<string>(unprivileged, IMPORTS, raw)).toBe("EPERM");
    const all =
      "return codeOf(() => { for (const kept = [];;) kept.push(foment.makeSocket(2, 1, 6)); });";
    expect(await runIn<string>(withDescriptors(64), IMPORTS, all)).toBe("EMFILE");
  },
  unprivileged.missing,
);

row(
  "foment-04: bind-socket resolves a node and a service, and binds to the first answer",
  async () => {
    const bound = async (node: string, service: string, family: number = AF_INET) => {
      using socket = tcp(family);
      await foment.bindSocket(socket, node, service, family, SOCK_STREAM, IPPROTO_TCP);
      return socket.localAddress as InetAddress;
    };
    expect((await bound("", "0")).host).toBe("0.0.0.0");
    expect((await bound("", "0", AF_INET6)).host).toBe("::");
    expect((await bound("localhost", "0")).host).toBe("127.0.0.1");
    expect((await bound("localhost", "0", AF_INET6)).host).toBe("::1");
    expect((await bound("127.0.0.1", "0")).port).toBeGreaterThan(0);
    // A port by its number: one that has just been free.
    using free = closedPort();
    const { port } = free;
    free[Symbol.dispose]();
    expect(`${await bound("127.0.0.1", port)}`).toBe(`127.0.0.1:${port}`);
    // The port of a service takes a right, which everybody has in a network of his own.
    const named = await runIn<string[]>(
      ownNetwork,
      IMPORTS,
      `
        const bound = async (node, service) => {
          using socket = foment.makeSocket(sys.AF_INET, sys.SOCK_STREAM, sys.IPPROTO_TCP);
          await foment.bindSocket(socket, node, service, sys.AF_INET, sys.SOCK_STREAM, sys.IPPROTO_TCP);
          return String(socket.localAddress);
        };
        return [await bound("localhost", "http"), await bound("", "80")];
      `,
    );
    expect(named).toEqual(["127.0.0.1:80", "0.0.0.0:80"]);

    expect(await codeOf(bound("nobody.invalid", "80"))).toBe("EAI_NONAME");
    expect(await codeOf(bound("127.0.0.1", "no-such-service"))).toBe("EAI_SERVICE");
    expect(await codeOf(bound("192.0.2.1", "0"))).toBe("EADDRNOTAVAIL");
    using listener = await listening();
    const error = (await reasonOf(bound("localhost", portOf(listener)))) as SystemError;
    expect([error.code, error.syscall]).toEqual(["EADDRINUSE", "bind"]);
    for (const wrong of [80, null, {}] as never[])
      expect(await reasonOf(bound(wrong, "80"))).toBeInstanceOf(TypeError);
    for (const wrong of [null, {}] as never[])
      expect(await reasonOf(bound("", wrong))).toBeInstanceOf(TypeError);
  },
  ownNetwork.missing,
);

row("foment-05: listen-socket has SOMAXCONN as its backlog", async () => {
  expect(sys.SOMAXCONN).toBe(4096);
  using listener = await listening();
  expect(listener.getOption(SocketOption.acceptsConnections)).toBe(true);
  const limit = Number(await Bun.file("/proc/sys/net/core/somaxconn").text());
  expect(backlogOf(listener)).toBe(Math.min(sys.SOMAXCONN, limit));
  using client = tcp();
  const to = portOf(listener);
  await foment.connectSocket(client, "localhost", to, AF_INET, SOCK_STREAM, 0, IPPROTO_TCP);
  using served = await foment.acceptSocket(listener);
  expect(served.connected).toBe(true);

  // Who has no address gets one from TCP; a Unix socket is refused.
  using unbound = tcp();
  foment.listenSocket(unbound);
  expect(Number(portOf(unbound))).toBeGreaterThan(0);
  using unix = Socket.create("unix", "stream");
  const error = systemErrorOf(() => foment.listenSocket(unix));
  expect([error.code, error.syscall]).toEqual(["EINVAL", "listen"]);
  using udp = foment.makeSocket(AF_INET, SOCK_DGRAM, sys.IPPROTO_UDP);
  expect(systemErrorOf(() => foment.listenSocket(udp)).errno).toBe(-sys.EOPNOTSUPP);
});

// tcp_info of a listener: tcpi_sacked is the limit of its queue.
function backlogOf(listener: Socket): number {
  const info = listener.getRawOption(IPPROTO_TCP, sys.TCP_INFO, 104);
  return new DataView(info.buffer, info.byteOffset).getUint32(28, true);
}

row("foment-06: listen-socket takes a backlog, which is no negative number", () => {
  for (const backlog of [0, 1, 5, 100]) {
    using socket = tcp();
    foment.listenSocket(socket, backlog);
    expect(backlogOf(socket)).toBe(backlog);
  }
  using socket = tcp();
  for (const backlog of [-1, 1.5, Number.NaN])
    expect(caught(() => foment.listenSocket(socket, backlog))).toBeInstanceOf(RangeError);
  expect(socket.getOption(SocketOption.acceptsConnections)).toBe(false);
});

row("foment-07: accept-socket waits for a client, again and again", async () => {
  using listener = await listening();
  const to = portOf(listener);
  // The first one is waited for before there is a client.
  const waiting = foment.acceptSocket(listener);
  for (const [i, text] of ["first", "second", "third"].entries()) {
    using client = tcp();
    await foment.connectSocket(client, "localhost", to, AF_INET, SOCK_STREAM, 0, IPPROTO_TCP);
    using served = await (i === 0 ? waiting : foment.acceptSocket(listener));
    expect(foment.isSocket(served)).toBe(true);
    await foment.sendSocket(client, bytes(text));
    expect(textOf(await foment.recvSocket(served, 128))).toBe(text);
  }
  using deaf = tcp();
  const error = (await reasonOf(foment.acceptSocket(deaf))) as SystemError;
  expect([error.code, error.syscall]).toEqual(["EINVAL", "accept4"]);
});

row("foment-08: connect-socket resolves, and connects to the first answer", async () => {
  using listener = await listening();
  const service = portOf(listener);
  const connect = async (node: string, to: string, family: number = AF_INET, info = 0) => {
    using client = tcp(family === AF_INET6 ? AF_INET6 : AF_INET);
    await foment.connectSocket(client, node, to, family, SOCK_STREAM, info, IPPROTO_TCP);
    return `${client.remoteAddress}`;
  };
  expect(await connect("localhost", service)).toBe(`127.0.0.1:${service}`);
  expect(await connect("127.0.0.1", service, AF_INET, sys.AI_NUMERICHOST)).toBe(
    `127.0.0.1:${service}`,
  );
  // Only the flag tells: the same name is an error with it.
  expect(await codeOf(connect("localhost", service, AF_INET, sys.AI_NUMERICHOST))).toBe(
    "EAI_NONAME",
  );
  using dual = TcpListener.listen("[::]:0");
  const mapped = connect("127.0.0.1", portOf(dual), AF_INET6, sys.AI_V4MAPPED);
  expect(await mapped).toBe(`[::ffff:127.0.0.1]:${portOf(dual)}`);
  // An empty node is this machine, not all of its addresses.
  expect(await connect("", service)).toBe(`127.0.0.1:${service}`);

  using closed = closedPort();
  const error = (await reasonOf(connect("localhost", closed.port))) as SystemError;
  expect([error.code, error.syscall]).toEqual(["ECONNREFUSED", "connect"]);
  expect(await codeOf(connect("nobody.invalid", service))).toBe("EAI_NONAME");
  expect(await codeOf(connect("127.0.0.1", "no-such-service"))).toBe("EAI_SERVICE");
  expect(await reasonOf(connect(5 as never, service))).toBeInstanceOf(TypeError);
});

row("foment-09: shutdown-socket ends one direction, or both", async () => {
  const [client, served] = await connected();
  using _ = client;
  using __ = served;
  foment.shutdownSocket(served, sys.SHUT_RD);
  expect(await foment.recvSocket(served, 10)).toHaveLength(0);
  await foment.sendSocket(served, bytes("first"));
  expect(textOf(await foment.recvSocket(client, 10))).toBe("first");
  foment.shutdownSocket(client, sys.SHUT_WR);
  await foment.sendSocket(served, bytes("still"));
  expect(textOf(await foment.recvSocket(client, 10))).toBe("still");
  expect(await codeOf(foment.sendSocket(client, bytes("x")))).toBe("EPIPE");
  foment.shutdownSocket(client, sys.SHUT_RD);
  expect(await foment.recvSocket(client, 10)).toHaveLength(0);
  foment.shutdownSocket(served, sys.SHUT_RDWR);
  expect(await codeOf(foment.sendSocket(served, bytes("x")))).toBe("EPIPE");

  using lonely = tcp();
  const error = systemErrorOf(() => foment.shutdownSocket(lonely, sys.SHUT_RD));
  expect([error.code, error.syscall]).toEqual(["ENOTCONN", "shutdown"]);
  // The kernel says EINVAL; the library does not ask it.
  expect(sys.shutdown(lonely.descriptor, 3)).toBe(-sys.EINVAL);
  expect(caught(() => foment.shutdownSocket(lonely, 3))).toBeInstanceOf(TypeError);
});

row("foment-10: send-socket sends everything, and says what went wrong", async () => {
  const [client, served] = await connected();
  using _ = served;
  // More than the kernel takes at once.
  const much = new Uint8Array(8 << 20).map((_, i) => i * 31);
  const sent = foment.sendSocket(client, much);
  const target = new Uint8Array(much.length);
  expect(await served.receiveExactly(target, WAIT)).toBe(much.length);
  expect(await sent).toBe(much.length);
  expect(Buffer.compare(target, much)).toBe(0);
  expect(await foment.sendSocket(client, bytes("!"), sys.MSG_OOB)).toBe(1);
  expect(await served.receiveUrgent(WAIT)).toBe(33);
  expect(await reasonOf(foment.sendSocket(client, "text" as never))).toBeInstanceOf(TypeError);
  client.shutdown("write");
  expect(await codeOf(foment.sendSocket(client, bytes("x")))).toBe("EPIPE");
  client.close();
  expect(await reasonOf(foment.sendSocket(client, bytes("x")))).toBeInstanceOf(ClosedError);
  using lonely = tcp();
  expect(["EPIPE", "ENOTCONN"]).toContain(await codeOf(foment.sendSocket(lonely, bytes("x"))));
  using udp = foment.makeSocket(AF_INET, SOCK_DGRAM, sys.IPPROTO_UDP);
  expect(await codeOf(foment.sendSocket(udp, bytes("x")))).toBe("EDESTADDRREQ");
});

row(
  "foment-11: recv-socket gives a block of at most that size, or says what went wrong",
  async () => {
    const [client, served] = await connected();
    using _ = served;
    const waiting = foment.recvSocket(served, 100);
    await foment.sendSocket(client, bytes("hello"));
    expect(textOf(await waiting)).toBe("hello");
    await foment.sendSocket(client, bytes("hello"));
    expect(textOf(await foment.recvSocket(served, 2, sys.MSG_PEEK))).toBe("he");
    expect(textOf(await foment.recvSocket(served, 2))).toBe("he");
    expect(textOf(await foment.recvSocket(served, 100))).toBe("llo");
    // A whole block, in two pieces.
    const block = foment.recvSocket(served, 6, sys.MSG_WAITALL);
    await foment.sendSocket(client, bytes("abc"));
    // Taken, and not enough.
    await until(() => served.unreadBytes === 0, "the first piece is taken");
    await foment.sendSocket(client, bytes("def"));
    expect(textOf(await block)).toBe("abcdef");
    await foment.sendSocket(client, bytes("!"), sys.MSG_OOB);
    expect(textOf(await foment.recvSocket(served, 1, sys.MSG_OOB))).toBe("!");
    expect(await codeOf(foment.recvSocket(served, 1, sys.MSG_OOB))).toBe("EINVAL");
    for (const size of [-1, 1.5])
      expect(await reasonOf(foment.recvSocket(served, size))).toBeInstanceOf(RangeError);
    client.shutdown("write");
    expect(await foment.recvSocket(served, 100)).toHaveLength(0);
    // What looked like the end there: a connection that was reset, and one that is none.
    client.close();
    const [resetting, reset] = await connected();
    using __ = reset;
    resetting.reset();
    expect(await codeOf(foment.recvSocket(reset, 100))).toBe("ECONNRESET");
    using lonely = tcp();
    expect(await codeOf(foment.recvSocket(lonely, 100))).toBe("ENOTCONN");
  },
);

row(
  "foment-12: get-ip-addresses lists the addresses of this machine as text",
  async () => {
    expect(foment.getIpAddresses(AF_INET)).toContain("127.0.0.1");
    const script = `
      Bun.spawnSync(["ip", "address", "add", "192.0.2.7/24", "dev", "lo"]);
      Bun.spawnSync(["ip", "address", "add", "2001:db8::7/64", "dev", "lo", "nodad"]);
      return [sys.AF_INET, sys.AF_INET6, sys.AF_UNSPEC].map((family) =>
        foment.getIpAddresses(family).sort(),
      );
    `;
    const inet = ["127.0.0.1", "192.0.2.7"];
    const inet6 = ["2001:db8::7", "::1"];
    const all = [...inet, ...inet6].sort();
    expect(await runIn<string[][]>(ownNetwork, IMPORTS, script)).toEqual([inet, inet6, all]);
    using _ = replaceEntry("getifaddrs", () => failWith(sys.ENOMEM));
    const error = systemErrorOf(() => foment.getIpAddresses(AF_UNSPEC));
    expect([error.code, error.syscall]).toEqual(["ENOMEM", "getifaddrs"]);
  },
  ownNetwork.missing,
);

// Flag operations

row("foment-13: (address-family name) knows inet, inet6 and unspec", () => {
  const names = ["inet", "inet6", "unspec"];
  expect(names.map(foment.addressFamily)).toEqual([AF_INET, AF_INET6, AF_UNSPEC]);
  expectSyntaxErrors(foment.addressFamily, "unix", "INET", "", "toString");
  // Ours are words too.
  using inet = Socket.create("ipv4", "stream");
  using inet6 = Socket.create("ipv6", "stream");
  const domains = [inet, inet6].map((socket) => socket.getOption(SocketOption.domain));
  expect(domains).toEqual(names.slice(0, 2).map(foment.addressFamily));
  expectSyntaxErrors(
    (name) => Socket.create(name as never, "stream"),
    "inet",
    "IPV4",
    "",
    "toString",
  );
});

row("foment-14: (address-info name ...) merges any of five", () => {
  const names = ["canonname", "numerichost", "v4mapped", "all", "addrconfig"];
  expect(names.map((name) => foment.addressInfo(name))).toEqual([2, 4, 8, 0x10, 0x20]);
  expect(foment.addressInfo("v4mapped", "addrconfig")).toBe(sys.AI_V4MAPPED | sys.AI_ADDRCONFIG);
  expect(foment.addressInfo(...names)).toBe(0x3e);
  expect(foment.addressInfo()).toBe(0);
  expectSyntaxErrors(foment.addressInfo, "passive", "");
  expectSyntaxErrors((name) => foment.addressInfo("all", name), "none");
});

row("foment-15: (socket-domain name) knows stream, datagram and raw", () => {
  const names = ["stream", "datagram", "raw"];
  expect(names.map(foment.socketDomain)).toEqual([SOCK_STREAM, SOCK_DGRAM, sys.SOCK_RAW]);
  expectSyntaxErrors(foment.socketDomain, "packet", "tcp", "");
  for (const name of ["stream", "datagram"] as const) {
    using socket = Socket.create("ipv4", name);
    expect(socket.getOption(SocketOption.type)).toBe(foment.socketDomain(name));
  }
  expectSyntaxErrors((name) => Socket.create("ipv4", name as never), "dgram", "STREAM", "");
});

row("foment-16: (ip-protocol name) knows ip, tcp and udp", () => {
  const names = ["ip", "tcp", "udp"];
  expect(names.map(foment.ipProtocol)).toEqual([IPPROTO_IP, IPPROTO_TCP, sys.IPPROTO_UDP]);
  expectSyntaxErrors(foment.ipProtocol, "icmp", "TCP", "");
});

row("foment-17: (message-type name ...) merges none, peek, oob and wait-all", async () => {
  const names = ["none", "peek", "oob", "wait-all"];
  expect(names.map((name) => foment.messageType(name))).toEqual([0, 2, 1, 0x100]);
  expect(foment.messageType("peek", "oob")).toBe(sys.MSG_PEEK | sys.MSG_OOB);
  expect(foment.messageType()).toBe(0);
  expectSyntaxErrors(foment.messageType, "waitall", "dontwait", "");
  const [client, served] = await connected();
  using _ = client;
  using __ = served;
  await foment.sendSocket(client, bytes("hello"), foment.messageType("none"));
  expect(textOf(await foment.recvSocket(served, 9, foment.messageType("peek")))).toBe("hello");
  expect(textOf(await foment.recvSocket(served, 9, foment.messageType("none")))).toBe("hello");
});

row("foment-18: (shutdown-method name ...) knows read, write, and both in any order", () => {
  expect(foment.shutdownMethod("read")).toBe(sys.SHUT_RD);
  expect(foment.shutdownMethod("write")).toBe(sys.SHUT_WR);
  expect(foment.shutdownMethod("read", "write")).toBe(sys.SHUT_RDWR);
  expect(foment.shutdownMethod("write", "read")).toBe(sys.SHUT_RDWR);
  for (const names of [
    [],
    ["read", "read"],
    ["write", "write"],
    ["both"],
    ["read", "write", "read"],
  ])
    expect(caught(() => foment.shutdownMethod(...names))).toBeInstanceOf(TypeError);
  const [left, right] = StreamSocket.pair();
  using _ = left;
  using __ = right;
  expectSyntaxErrors((name) => left.shutdown(name as never), "", "rdwr", "read write", "toString");
  left.shutdown("both");
  expect(right.tryReceive(new Uint8Array(1))).toBe(0);
});

row("foment-19: (socket-merge-flags flag ...) is the bits of all", () => {
  expect(foment.mergeFlags()).toBe(0);
  expect(foment.mergeFlags(sys.MSG_PEEK)).toBe(2);
  expect(foment.mergeFlags(sys.MSG_PEEK, sys.MSG_OOB, sys.MSG_PEEK)).toBe(3);
  for (const wrong of ["1", 1.5, undefined, null] as never[])
    expect(caught(() => foment.mergeFlags(1, wrong))).toBeInstanceOf(TypeError);
  // Ours are numbers, or-ed by the language, and checked by the call.
  const [left, right] = StreamSocket.pair();
  using _ = left;
  using __ = right;
  left.trySend(bytes("x"));
  expect(right.tryReceive(new Uint8Array(1), { flags: sys.MSG_PEEK | sys.MSG_DONTWAIT })).toBe(1);
  for (const wrong of ["1", null] as never[])
    expect(caught(() => right.tryReceive(new Uint8Array(1), { flags: wrong }))).toBeInstanceOf(
      TypeError,
    );
});

row("foment-20: (socket-purge-flags base flag ...) is the base without the bits", () => {
  expect(foment.purgeFlags(7, 2)).toBe(5);
  expect(foment.purgeFlags(7, 1, 2, 8)).toBe(4);
  expect(foment.purgeFlags(7)).toBe(7);
  const none = foment.purgeFlags as (...flags: number[]) => number;
  expect(caught(() => none())).toBeInstanceOf(TypeError);
  for (const wrong of ["1", 1.5, null] as never[]) {
    expect(caught(() => foment.purgeFlags(wrong, 1))).toBeInstanceOf(TypeError);
    expect(caught(() => foment.purgeFlags(1, wrong))).toBeInstanceOf(TypeError);
  }
});

row("foment-21: *af-unspec* is 0", () => {
  expect(sys.AF_UNSPEC).toBe(0);
});

row("foment-22: *af-inet* is 2", () => {
  expect(sys.AF_INET).toBe(2);
});

row("foment-23: *af-inet6* is 10", () => {
  expect(sys.AF_INET6).toBe(10);
});

row("foment-24: *sock-stream* is 1", () => {
  expect(sys.SOCK_STREAM).toBe(1);
});

row("foment-25: *sock-dgram* is 2", () => {
  expect(sys.SOCK_DGRAM).toBe(2);
});

row("foment-26: *ai-canonname* is 2", () => {
  expect(sys.AI_CANONNAME).toBe(2);
});

row("foment-27: *ai-numerichost* is 4", () => {
  expect(sys.AI_NUMERICHOST).toBe(4);
});

row("foment-28: *ai-v4mapped* is 8", () => {
  expect(sys.AI_V4MAPPED).toBe(8);
});

row("foment-29: *ai-all* is 0x10", () => {
  expect(sys.AI_ALL).toBe(0x10);
});

row("foment-30: *ai-addrconfig* is 0x20", () => {
  expect(sys.AI_ADDRCONFIG).toBe(0x20);
});

row("foment-31: *ipproto-ip* is 0", () => {
  expect(sys.IPPROTO_IP).toBe(0);
});

row("foment-32: *ipproto-tcp* is 6", () => {
  expect(sys.IPPROTO_TCP).toBe(6);
});

row("foment-33: *ipproto-udp* is 17", () => {
  expect(sys.IPPROTO_UDP).toBe(17);
});

row("foment-34: *msg-none* is 0", () => {
  expect(foment.messageType("none")).toBe(0);
});

row("foment-35: *msg-peek* is 2", () => {
  expect(sys.MSG_PEEK).toBe(2);
});

row("foment-36: *msg-oob* is 1", () => {
  expect(sys.MSG_OOB).toBe(1);
});

row("foment-37: *msg-waitall* is 0x100", () => {
  expect(sys.MSG_WAITALL).toBe(0x100);
});

row("foment-38: *shut-rd* is 0", () => {
  expect(sys.SHUT_RD).toBe(0);
});

row("foment-39: *shut-wr* is 1", () => {
  expect(sys.SHUT_WR).toBe(1);
});

row("foment-40: *shut-rdwr* is 2", () => {
  expect(sys.SHUT_RDWR).toBe(2);
});

// The layer of SRFI 106

row(
  "foment-41: make-client-socket creates and connects, and leaves nothing when it fails",
  async () => {
    using listener = await listening();
    const service = portOf(listener);
    using client = await foment.makeClientSocket("localhost", service);
    expect(`${client.remoteAddress}`).toBe(`127.0.0.1:${service}`);
    expect([client.family, client.type, client.connected]).toEqual(["ipv4", "stream", true]);
    using udp = UdpSocket.bind("[::1]:0");
    const to = `${udp.localAddress.port}`;
    using datagrams = await foment.makeClientSocket("::1", to, AF_INET6, SOCK_DGRAM);
    expect([datagrams.family, datagrams.type]).toEqual(["ipv6", "datagram"]);
    expect(`${datagrams.remoteAddress}`).toBe(`[::1]:${to}`);
    using closed = closedPort();
    const refused = await reasonOf(foment.makeClientSocket("127.0.0.1", closed.port));
    expect((refused as SystemError).code).toBe("ECONNREFUSED");
    // By name there may be many attempts: all of them are told.
    const all = await reasonOf(foment.makeClientSocket("localhost", closed.port));
    expect(all).toBeInstanceOf(ConnectError);
    const codes = (all as ConnectError).errors.map((error) => (error as SystemError).code);
    expect(codes).toEqual(["ECONNREFUSED"]);
    expect(await codeOf(foment.makeClientSocket("nobody.invalid", service))).toBe("EAI_NONAME");
    expect(await codeOf(foment.makeClientSocket("nobody.invalid", to, AF_INET, SOCK_DGRAM))).toBe(
      "EAI_NONAME",
    );
  },
);

row("foment-42: make-server-socket binds all addresses, and listens", async () => {
  using server = await foment.makeServerSocket("0");
  expect((server.localAddress as InetAddress).host).toBe("0.0.0.0");
  expect(server.getOption(SocketOption.acceptsConnections)).toBe(true);
  using client = await foment.makeClientSocket("127.0.0.2", portOf(server));
  using served = await foment.acceptSocket(server);
  expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  using six = await foment.makeServerSocket("0", AF_INET6);
  expect((six.localAddress as InetAddress).host).toBe("::");
  using udp = await foment.makeServerSocket("0", AF_INET, SOCK_DGRAM);
  expect((udp.localAddress as InetAddress).host).toBe("0.0.0.0");
  expect(await codeOf(foment.makeServerSocket(portOf(server)))).toBe("EADDRINUSE");
  expect(await codeOf(foment.makeServerSocket("no-such-service"))).toBe("EAI_SERVICE");
});

row(
  "foment-43: socket-accept, socket-send, socket-recv and socket-shutdown, without flags",
  async () => {
    using server = await foment.makeServerSocket("0");
    using client = await foment.makeClientSocket("localhost", portOf(server));
    using served = await foment.acceptSocket(server);
    expect(await foment.sendSocket(client, bytes("grüße"))).toBe(7);
    expect(textOf(await foment.recvSocket(served, 100))).toBe("grüße");
    foment.shutdownSocket(client, foment.shutdownMethod("write"));
    expect(await foment.recvSocket(served, 100)).toHaveLength(0);
  },
);

row("foment-44: socket-close closes", async () => {
  const [client, served] = await connected();
  using _ = served;
  foment.closeSocket(client);
  expect(await foment.recvSocket(served, 1)).toHaveLength(0);
  expect(await reasonOf(foment.recvSocket(client, 1))).toBeInstanceOf(ClosedError);
  // Again it does nothing.
  foment.closeSocket(client);
});

row("foment-45: a socket has ports for bytes, and closing one does not close it", async () => {
  const [client, served] = await connected();
  using _ = client;
  using __ = served;
  const output = client.writer();
  await output.write(bytes("bytes"));
  await output.end();
  expect(textOf(await served.reader().readAll())).toBe("bytes");
  // The writer has ended its direction; the socket is open, and the other one goes on.
  expect(client.connected).toBe(true);
  await served.sendAll("back");
  expect(textOf(await client.reader().readExactly(4, WAIT))).toBe("back");
  // The same with Web Streams.
  const input = client.readable.getReader();
  await served.sendAll("web");
  expect(textOf((await input.read()).value as Uint8Array)).toBe("web");
  await input.cancel();
  expect(client.connected).toBe(true);
  expect(client.localAddress).toBeDefined();
});

row("foment-46: call-with-socket closes afterwards, also when the procedure fails", async () => {
  const [client, served] = await connected();
  const result = await foment.callWithSocket(served, async (socket) => {
    await foment.sendSocket(client, bytes("inside"));
    return textOf(await foment.recvSocket(socket, 100));
  });
  expect(result).toBe("inside");
  expect(caught(() => served.localAddress)).toBeInstanceOf(ClosedError);
  const failure = new Error("the procedure");
  const failed = foment.callWithSocket(client, () => Promise.reject(failure));
  expect(await reasonOf(failed)).toBe(failure);
  expect(caught(() => client.localAddress)).toBeInstanceOf(ClosedError);
});

// Example

row("foment-47: the example server prints what the example client sends, in blocks", async () => {
  const program = "examples/tcp_lines.ts";
  await using server = new Talker(program, "server", "localhost:0");
  const address = (await server.line()).replace(/^listening on /, "");
  expect(address).toMatch(/^(127\.0\.0\.1|\[::1\]):\d+$/);
  await using client = new Talker(program, "client", address);
  for (const line of ["hello", "grüße, 世界"]) {
    await client.type(line);
    expect(await server.line()).toBe(line);
  }
  // Blocks of up to 128 bytes, and no character is broken by their ends.
  const long = `${"x".repeat(127)}ü${"y".repeat(100)}`;
  await client.type(long);
  let printed = "";
  while (printed.length < long.length) {
    const block = await server.line();
    expect(Buffer.byteLength(block)).toBeLessThanOrEqual(129);
    printed += block;
  }
  expect(printed).toBe(long);
  await client.endInput();
  expect(await client.end()).toEqual({ rest: "", code: 0 });
  // The eof.
  expect(await server.end()).toEqual({ rest: "", code: 0 });
});
