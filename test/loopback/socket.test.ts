/** Socket over every family and type: what it does, and what it refuses and leaves as it was. */
import { dlopen } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import {
  type Address,
  ClosedError,
  type CreateOptions,
  DatagramBatch,
  type InetAddress,
  Message,
  NativeBuffer,
  Socket,
  type SocketFamily,
  type SocketOptions,
  type SocketType,
  SystemError,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  type WaitOptions,
} from "bun-sockets";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  close,
  connect,
  dup,
  EAGAIN,
  ECONNABORTED,
  EINTR,
  EMFILE,
  EPERM,
  EPROTO,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  fcntl,
  getsockopt,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_V6ONLY,
  MSG_CONFIRM,
  MSG_CTRUNC,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_ERRQUEUE,
  MSG_FASTOPEN,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  MSG_ZEROCOPY,
  SO_BROADCAST,
  SO_LINGER,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_TIMESTAMP,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_RDM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  socket,
} from "bun-sockets/sys";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import { libcNames } from "../../lib/ffi/platform.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { type Fault, failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
const CANARY = 0xa5;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

interface Kind {
  readonly family: "ipv4" | "ipv6" | "unix";
  readonly type: "stream" | "datagram" | "seqpacket";
  /** An address that bind replaces by a free one. */
  readonly free: string;
}

const byteStreams: readonly Kind[] = [
  { family: "ipv4", type: "stream", free: "127.0.0.1:0" },
  { family: "ipv6", type: "stream", free: "[::1]:0" },
  { family: "unix", type: "stream", free: "unix:" },
];
const seqpacket: Kind = { family: "unix", type: "seqpacket", free: "unix:" };
const connections: readonly Kind[] = [...byteStreams, seqpacket];
const datagrams: readonly Kind[] = [
  { family: "ipv4", type: "datagram", free: "127.0.0.1:0" },
  { family: "ipv6", type: "datagram", free: "[::1]:0" },
  { family: "unix", type: "datagram", free: "unix:" },
];
const kinds: readonly Kind[] = [...connections, ...datagrams];
const inetStreams = byteStreams.filter(({ family }) => family !== "unix");

const DOMAINS = { ipv4: AF_INET, ipv6: AF_INET6, unix: AF_UNIX };
const TYPES = { stream: SOCK_STREAM, datagram: SOCK_DGRAM, seqpacket: SOCK_SEQPACKET };

function create({ family, type }: Kind, options?: CreateOptions): Socket {
  return Socket.create(family, type, options);
}

function listening(kind: Kind, backlog?: number): Socket {
  const listener = create(kind);
  listener.bind(kind.free);
  listener.listen(backlog);
  return listener;
}

/** Two connected sockets: what one sends the other receives. */
class Connection implements Disposable {
  readonly client: Socket;
  readonly served: Socket;
  readonly #others: Socket[] = [];

  constructor(kind: Kind, options?: SocketOptions) {
    this.client = create(kind, options);
    if (kind.type === "datagram") {
      this.served = create(kind, options);
      this.client.bind(kind.free);
      this.served.bind(kind.free);
      this.client.connectSync(this.served.localAddress);
      this.served.connectSync(this.client.localAddress);
      return;
    }
    const listener = listening(kind);
    this.#others.push(listener);
    this.client.connectSync(listener.localAddress, WAIT);
    this.served = listener.acceptSync(WAIT);
  }

  [Symbol.dispose](): void {
    for (const socket of [this.client, this.served, ...this.#others]) socket.close();
  }
}

/** An address where nobody listens any more. */
function deadAddress(kind: Kind): Address {
  using socket = create(kind);
  socket.bind(kind.free);
  return socket.localAddress;
}

// Each form behind one signature, so that one test serves all of them.
type Data = ArrayBufferView | ArrayBuffer;
type Send = (
  socket: Socket,
  data: Data,
  options: WaitOptions,
  to: Address | undefined,
) => number | undefined;
type Receive = (
  socket: Socket,
  target: ArrayBufferView,
  options: WaitOptions,
) => number | undefined;

const isArrayBuffer = (data: Data) => data instanceof ArrayBuffer;
const asMessage = (data: Data, address?: Address) =>
  new Message({ vectors: [isArrayBuffer(data) ? new Uint8Array(data) : data], address });

const sendForms: [name: string, syscall: string, waits: boolean, send: Send][] = [
  ["trySend", "send", false, (socket, data, options) => socket.trySend(data, options)],
  ["sendSync", "send", true, (socket, data, options) => socket.sendSync(data, options)],
  [
    "trySendMessage",
    "sendmsg",
    false,
    (socket, data, options, to) => socket.trySendMessage(asMessage(data, to), options),
  ],
  [
    "sendMessageSync",
    "sendmsg",
    true,
    (socket, data, options, to) => socket.sendMessageSync(asMessage(data, to), options),
  ],
];

const receiveForms: [name: string, syscall: string, waits: boolean, receive: Receive][] = [
  ["tryReceive", "recv", false, (socket, target, options) => socket.tryReceive(target, options)],
  ["receiveSync", "recv", true, (socket, target, options) => socket.receiveSync(target, options)],
  [
    "tryReceiveFrom",
    "recvfrom",
    false,
    (socket, target, options) => socket.tryReceiveFrom(target, options)?.length,
  ],
  [
    "receiveFromSync",
    "recvfrom",
    true,
    (socket, target, options) => socket.receiveFromSync(target, options).length,
  ],
  [
    "tryReceiveMessage",
    "recvmsg",
    false,
    (socket, target, options) =>
      socket.tryReceiveMessage(new Message({ vectors: [target] }), options),
  ],
  [
    "receiveMessageSync",
    "recvmsg",
    true,
    (socket, target, options) =>
      socket.receiveMessageSync(new Message({ vectors: [target] }), options),
  ],
];

function receiveText(socket: Socket, bytesMax = 65536): string {
  return Buffer.from(socket.receiveBytesSync(bytesMax, WAIT)).toString();
}

function isOpen(fd: number): boolean {
  return fcntl(fd, F_GETFD, 0) >= 0;
}

/** The flags of an open file as the kernel shows them: O_NONBLOCK, O_CLOEXEC among them. */
function fileFlags(fd: number): number {
  const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  return Number.parseInt(/^flags:\s*(\d+)$/m.exec(info)?.[1] ?? "", 8);
}

/** Lets the first calls of an entry fail, one with each of the errnos, and the others through. */
function failFirst(name: keyof Libc, errnos: readonly number[]): Fault {
  const left = [...errnos];
  const original = libc[name] as (...values: unknown[]) => unknown;
  const replacement = (...values: unknown[]) => {
    const errno = left.shift();
    return errno === undefined ? original(...values) : failWith(errno);
  };
  return replaceEntry(name, replacement as never);
}

/** A clock for waits that goes only when it is set, until the end of the block. */
function stoppedClock(): { now: number } & Disposable {
  const { now } = performance;
  const clock = {
    now: 1000,
    [Symbol.dispose]() {
      performance.now = now;
    },
  };
  performance.now = () => clock.now;
  return clock;
}

/** Runs something at the first poll(2): what happens while a call waits. */
function whileWaiting(work: () => void): Fault {
  let done = false;
  return replaceLibc("poll", (original) => (...values) => {
    if (!done) {
      done = true;
      work();
    }
    return original(...values);
  });
}

/** Sends until there is no room. Returns the bytes sent. */
function fill(socket: Socket): number {
  const data = new Uint8Array(65536);
  let total = 0;
  for (;;) {
    const sent = socket.trySend(data);
    if (sent === undefined) return total;
    total += sent;
  }
}

describe.each(kinds)("create() of $family $type", (kind) => {
  const { family, type, free } = kind;

  test("takes names and constants, and says which socket it is", () => {
    for (const [givenFamily, givenType] of [
      [family, type],
      [DOMAINS[family], TYPES[type]],
      [family, TYPES[type]],
      [DOMAINS[family], type],
    ] as const) {
      using made = Socket.create(givenFamily, givenType);
      expect([made.family, made.type]).toEqual([family, type]);
      expect([made.connected, made.remoteAddress]).toEqual([false, undefined]);
    }
  });

  test("opens one descriptor, close-on-exec and non-blocking", () => {
    const before = openDescriptors();
    using made = create(kind);
    expect(openDescriptors()).toBe(before + 1);
    expect(fileFlags(made.descriptor) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
  });

  test("tells the protocol that the kernel chose", () => {
    using made = create(kind);
    const usual = type === "stream" ? IPPROTO_TCP : IPPROTO_UDP;
    expect(made.protocol).toBe(family === "unix" ? 0 : usual);
  });

  test("sets each creation option before configure is called", () => {
    const seen: number[] = [];
    using made = create(kind, {
      receiveBufferBytes: 65536,
      sendBufferBytes: 32768,
      reuseAddress: true,
      broadcast: true,
      configure: (configured) => {
        for (const name of [SO_REUSEADDR, SO_BROADCAST])
          seen.push(configured.getRawOption(SOL_SOCKET, name));
        seen.push(configured.receiveBuffer.effectiveBytes, configured.sendBuffer.effectiveBytes);
      },
    });
    expect(seen).toEqual([1, 1, 65536, 32768]);
    expect(made.receiveBuffer).toEqual({
      requestedBytes: 65536,
      effectiveBytes: 65536,
      clamped: false,
    });
    expect(made.sendBuffer.requestedBytes).toBe(32768);
  });

  test("sets nothing that is false or not asked for", () => {
    for (const options of [{}, { reuseAddress: false, reusePort: false, broadcast: false }]) {
      using made = create(kind, options);
      for (const name of [SO_REUSEADDR, SO_BROADCAST])
        expect(made.getRawOption(SOL_SOCKET, name)).toBe(0);
      expect(made.receiveBuffer.requestedBytes).toBeUndefined();
    }
  });

  test("calls configure once, with the socket that it returns, before it has an address", () => {
    const seen: unknown[] = [];
    using made = create(kind, {
      configure: (configured) => seen.push(configured, `${configured.localAddress}`),
    });
    const none = { ipv4: "0.0.0.0:0", ipv6: "[::]:0", unix: "unix:" }[family];
    expect(seen).toHaveLength(2);
    expect(seen[0]).toBe(made);
    expect(seen[1]).toBe(none);
  });

  test("throws what configure throws, and leaks nothing", () => {
    const before = openDescriptors();
    for (const thrown of [new Error("not like that"), "text", undefined]) {
      let inside: Socket | undefined;
      const run = () =>
        create(kind, {
          configure: (configured) => {
            inside = configured;
            throw thrown;
          },
        });
      let got: unknown = "nothing was thrown";
      try {
        run();
      } catch (error) {
        got = error;
      }
      expect(got).toBe(thrown);
      expect(inside?.descriptor).toBe(-1);
    }
    expect(openDescriptors()).toBe(before);
  });

  test("is closed when configure closes it, and gives its descriptor away when it detaches", () => {
    const before = openDescriptors();
    using closed = create(kind, { configure: (configured) => configured.close() });
    expect(closed.descriptor).toBe(-1);
    expect(() => closed.localAddress).toThrow(ClosedError);
    let fd = -1;
    using detached = create(kind, {
      configure: (configured) => {
        fd = configured.detach();
      },
    });
    expect([detached.descriptor, isOpen(fd)]).toEqual([-1, true]);
    close(fd);
    expect(openDescriptors()).toBe(before);
  });

  test("lets configure make other sockets and use this one", () => {
    let other: Socket | undefined;
    using made = create(kind, {
      reuseAddress: true,
      configure: (configured) => {
        other = create(kind, { configure: (inner) => inner.bind(free) });
        configured.bind(free);
      },
    });
    expect(other?.descriptor).not.toBe(made.descriptor);
    expect(`${other?.localAddress}`).not.toBe(`${made.localAddress}`);
    expect(made.getRawOption(SOL_SOCKET, SO_REUSEADDR)).toBe(1);
    expect(other?.getRawOption(SOL_SOCKET, SO_REUSEADDR)).toBe(0);
    other?.close();
  });

  test("reads each option once", () => {
    const reads: string[] = [];
    const options = new Proxy({}, { get: (_, key) => void reads.push(String(key)) });
    create(kind, options).close();
    expect(reads.toSorted()).toEqual([
      "broadcast",
      "configure",
      "ipv6Only",
      "protocol",
      "receiveBufferBytes",
      "reuseAddress",
      "reusePort",
      "sendBufferBytes",
    ]);
  });

  const badOptions: [name: string, options: object, error: typeof RangeError][] = [
    ["receiveBufferBytes 0", { receiveBufferBytes: 0 }, RangeError],
    ["receiveBufferBytes 1.5", { receiveBufferBytes: 1.5 }, RangeError],
    ["receiveBufferBytes 2^31", { receiveBufferBytes: 2 ** 31 }, RangeError],
    ["sendBufferBytes NaN", { sendBufferBytes: Number.NaN }, RangeError],
    ["sendBufferBytes as text", { sendBufferBytes: "4096" }, TypeError],
    ["reuseAddress 1", { reuseAddress: 1 }, TypeError],
    ["reusePort null", { reusePort: null }, TypeError],
    ["broadcast as text", { broadcast: "yes" }, TypeError],
    ["ipv6Only 0", { ipv6Only: 0 }, TypeError],
    ["configure as text", { configure: "text" }, TypeError],
    ["configure null", { configure: null }, TypeError],
    ["protocol -1", { protocol: -1 }, RangeError],
    ["protocol 0.5", { protocol: 0.5 }, RangeError],
    ["protocol NaN", { protocol: Number.NaN }, RangeError],
    ["protocol 2^31", { protocol: 2 ** 31 }, RangeError],
    ["protocol as text", { protocol: "6" }, TypeError],
  ];
  test.each(badOptions)("refuses %s before anything is opened", (_, options, error) => {
    using fault = replaceLibc("socket", (original) => original);
    expect(() => create(kind, options)).toThrow(error);
    expect(fault.calls).toBe(0);
  });

  test("closes what it opened when an option cannot be set", () => {
    const before = openDescriptors();
    using _ = replaceLibc("setsockopt", () => () => failWith(EPERM));
    const error = systemErrorOf(() => create(kind, { reuseAddress: true }));
    expect([error.code, error.syscall]).toEqual(["EPERM", "setsockopt"]);
    expect(openDescriptors()).toBe(before);
  });
});

describe("create()", () => {
  const unknownFamilies = ["IPv4", "inet", "", "toString", "__proto__", "constructor", "ipv4 "];
  test.each(unknownFamilies)("refuses %j as a family", (family) => {
    expect(() => Socket.create(family as SocketFamily, "stream")).toThrow(
      new TypeError(
        `Cannot use ${JSON.stringify(family)} as a family: ` +
          'expected "ipv4", "ipv6", "unix", or a number',
      ),
    );
  });

  const unknownTypes = ["dgram", "STREAM", "", "hasOwnProperty", "__proto__"];
  test.each(unknownTypes)("refuses %j as a type", (type) => {
    const error = caught(() => Socket.create("unix", type as SocketType));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toStartWith(`Cannot use ${JSON.stringify(type)} as a socket type`);
    expect(error.message).toContain('"stream", "datagram", "seqpacket", "raw", "rdm"');
  });

  test.each([-1, 0.5, 65536, 2 ** 32 + AF_UNIX, Number.NaN, Infinity])(
    "refuses %d as a family",
    (family) => {
      expect(() => Socket.create(family, "stream")).toThrow(
        new RangeError(`Cannot use ${family} as a family: expected 0 to 65535`),
      );
    },
  );

  test.each([-1, 0.5, 16, SOCK_STREAM | SOCK_NONBLOCK, 2 ** 32 + SOCK_STREAM, Number.NaN])(
    "refuses %d as a type",
    (type) => {
      expect(() => Socket.create("unix", type)).toThrow(
        new RangeError(`Cannot use ${type} as a socket type: expected 0 to 15`),
      );
    },
  );

  test.each([null, undefined, true, {}, 1n])("refuses %p as a family or type", (value) => {
    expect(() => Socket.create(value as unknown as SocketFamily, "stream")).toThrow(TypeError);
    expect(() => Socket.create("ipv4", value as unknown as SocketType)).toThrow(TypeError);
  });

  const refused: [SocketFamily, SocketType, number, code: string][] = [
    ["ipv4", "rdm", 0, "ESOCKTNOSUPPORT"],
    ["ipv6", "rdm", 0, "ESOCKTNOSUPPORT"],
    ["unix", "rdm", 0, "ESOCKTNOSUPPORT"],
    ["unix", SOCK_RDM, 0, "ESOCKTNOSUPPORT"],
    ["ipv4", "seqpacket", 0, "ESOCKTNOSUPPORT"],
    ["ipv6", "seqpacket", 0, "ESOCKTNOSUPPORT"],
    ["ipv4", "stream", IPPROTO_UDP, "EPROTONOSUPPORT"],
    ["ipv6", "datagram", IPPROTO_TCP, "EPROTONOSUPPORT"],
    ["unix", "stream", 6, "EPROTONOSUPPORT"],
    ["unix", 15, 0, "EINVAL"],
    [0, "stream", 0, "EAFNOSUPPORT"],
    [200, "stream", 0, "EAFNOSUPPORT"],
    [65535, "stream", 0, "EAFNOSUPPORT"],
  ];
  test.each(refused)("of %p %p with protocol %d is refused by the kernel: %s", (...row) => {
    const [family, type, protocol, code] = row;
    const before = openDescriptors();
    const error = systemErrorOf(() => Socket.create(family, type, { protocol }));
    expect([error.code, error.syscall]).toEqual([code, "socket"]);
    expect(openDescriptors()).toBe(before);
  });

  test("takes a protocol by its number", () => {
    using tcp = Socket.create("ipv6", "stream", { protocol: IPPROTO_TCP });
    using udp = Socket.create("ipv4", "datagram", { protocol: IPPROTO_UDP });
    expect([tcp.protocol, udp.protocol]).toEqual([IPPROTO_TCP, IPPROTO_UDP]);
  });

  test.each(["stream", "datagram"] as const)("of an IPv6 %s sets ipv6Only either way", (type) => {
    for (const [ipv6Only, expected] of [
      [undefined, 0],
      [false, 0],
      [true, 1],
    ] as const) {
      using made = Socket.create("ipv6", type, { ipv6Only });
      expect(made.getRawOption(IPPROTO_IPV6, IPV6_V6ONLY)).toBe(expected);
    }
  });

  test.each(["ipv4", "unix"] as const)("of an %s socket refuses ipv6Only", (family) => {
    const before = openDescriptors();
    expect(() => Socket.create(family, "stream", { ipv6Only: true })).toThrow(TypeError);
    expect(() => Socket.create(family, "stream", { ipv6Only: true })).toThrow("ipv6Only");
    Socket.create(family, "stream", { ipv6Only: false }).close();
    expect(openDescriptors()).toBe(before);
  });

  test.each(inetStreams)("of an $family stream lets reusePort share a port", (kind) => {
    using first = create(kind, { reusePort: true });
    expect(first.getRawOption(SOL_SOCKET, SO_REUSEPORT)).toBe(1);
    first.bind(kind.free);
    first.listen();
    using second = create(kind, { reusePort: true });
    second.bind(first.localAddress);
    second.listen();
    using alone = create(kind);
    const error = systemErrorOf(() => alone.bind(first.localAddress));
    expect(error.code).toBe("EADDRINUSE");
  });

  test("with too many open descriptors says how many are ours", () => {
    using _ = replaceLibc("socket", () => () => failWith(EMFILE));
    const error = systemErrorOf(() => Socket.create("unix", "stream"));
    expect([error.code, error.syscall]).toEqual(["EMFILE", "socket"]);
    expect(error.hint).toMatch(/^This library holds \d+ sockets open in this thread\./);
  });

  // unix(7) does not say so, but the kernel makes a datagram socket of it.
  test("of a raw Unix socket makes what the kernel makes of it", () => {
    using made = Socket.create("unix", "raw");
    expect(made.getRawOption(SOL_SOCKET, SO_TYPE)).toBe(SOCK_DGRAM);
    expect(made.type).toBe("datagram");
  });
});

const raw = testIf(missingRawRight());

raw("a raw socket connects to an address without a port: it has none", () => {
  using made = Socket.create("ipv4", "raw", { protocol: IPPROTO_ICMP });
  made.connectSync("127.0.0.1:0");
  // The kernel tells a peer by its port, and so names none here.
  expect([made.connected, made.remoteAddress]).toEqual([true, undefined]);
  // An echo reply, which nobody answers.
  expect(made.sendSync(Buffer.from("0000ffff00000000", "hex"))).toBe(8);
});

function missingRawRight(): string | undefined {
  const fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (fd < 0) return "needs CAP_NET_RAW: run as root";
  close(fd);
  return undefined;
}

/** An ICMP echo request, complete for IPv4; for IPv6 the kernel sets the checksum. */
function echoRequest(type: number, identifier: number): Buffer {
  const request = Buffer.from([type, 0, 0, 0, identifier >> 8, identifier & 0xff, 0, 1, 1, 2]);
  let sum = 0;
  for (let i = 0; i < request.length; i += 2) sum += request.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  request.writeUInt16BE(~sum & 0xffff, 2);
  return request;
}

const pings = [
  { family: "ipv4", protocol: IPPROTO_ICMP, to: "127.0.0.1:0", request: 8, reply: 0, at: 20 },
  { family: "ipv6", protocol: IPPROTO_ICMPV6, to: "[::1]:0", request: 128, reply: 129, at: 0 },
] as const;
for (const { family, protocol, to, request, reply, at } of pings) {
  raw(`a raw ${family} socket sends an echo request and receives the reply`, () => {
    using made = Socket.create(family, "raw", { protocol });
    expect([made.family, made.type, made.protocol]).toEqual([family, "raw", protocol]);
    const identifier = Math.floor(Math.random() * 65536);
    expect(made.sendToSync(echoRequest(request, identifier), to)).toBe(10);
    const target = Buffer.alloc(2048);
    const deadline = performance.now() + WAIT.timeoutMs;
    for (;;) {
      const timeoutMs = Math.max(deadline - performance.now(), 0);
      const { length, address } = made.receiveFromSync(target, { timeoutMs });
      if (target[at] !== reply || target.readUInt16BE(at + 4) !== identifier) continue;
      expect(length).toBe(at + 10);
      expect((address as InetAddress).host).toBe(family === "ipv4" ? "127.0.0.1" : "::1");
      return;
    }
  });

  raw(`a raw ${family} socket connects, and disconnects again`, () => {
    using made = Socket.create(family, "raw", { protocol });
    made.connectSync(to.replace(/0$/, "1"));
    expect(made.connected).toBe(true);
    expect((made.remoteAddress as InetAddress).host).toBe(family === "ipv4" ? "127.0.0.1" : "::1");
    made.disconnect();
    expect([made.connected, made.remoteAddress]).toEqual([false, undefined]);
  });
}

describe("pair()", () => {
  test("is two connected Unix streams unless told otherwise", () => {
    const before = openDescriptors();
    {
      const [left, right] = Socket.pair();
      using _left = left;
      using _right = right;
      expect(openDescriptors()).toBe(before + 2);
      for (const end of [left, right]) {
        expect([end.family, end.type, end.protocol]).toEqual(["unix", "stream", 0]);
        expect([end.connected, `${end.localAddress}`]).toEqual([true, "unix:"]);
        expect(end.remoteAddress).toEqual(UnixAddress.unnamed);
        expect(fileFlags(end.descriptor) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
      }
    }
    expect(openDescriptors()).toBe(before);
  });

  const types = ["stream", "datagram", "seqpacket", SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET];
  test.each(types as SocketType[])("of type %p carries data both ways", (type) => {
    const [left, right] = Socket.pair({ type, family: AF_UNIX });
    using _left = left;
    using _right = right;
    left.sendSync("to the right");
    right.sendSync("to the left");
    expect(receiveText(right)).toBe("to the right");
    expect(receiveText(left)).toBe("to the left");
    expect(left.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  const refused: [name: string, options: object, code: string][] = [
    ["ipv4", { family: "ipv4" }, "ENOTSUP"],
    ["ipv6 datagrams", { family: "ipv6", type: "datagram" }, "ENOTSUP"],
    ["rdm", { type: "rdm" }, "ESOCKTNOSUPPORT"],
    ["another protocol", { protocol: 6 }, "EPROTONOSUPPORT"],
  ];
  test.each(refused)("of %s is refused by the kernel, and leaks nothing", (_, options, code) => {
    const before = openDescriptors();
    const error = systemErrorOf(() => Socket.pair(options));
    expect([error.code, error.syscall]).toEqual([code, "socketpair"]);
    expect(openDescriptors()).toBe(before);
  });

  const wrong: [name: string, options: object, error: typeof RangeError][] = [
    ["a family", { family: "inet" }, TypeError],
    ["a type", { type: "dgram" }, TypeError],
    ["a type out of range", { type: 16 }, RangeError],
    ["a protocol", { protocol: -1 }, RangeError],
  ];
  test.each(wrong)("refuses %s before anything is opened", (_, options, error) => {
    using fault = replaceLibc("socketpair", (original) => original);
    expect(() => Socket.pair(options)).toThrow(error);
    expect(fault.calls).toBe(0);
  });

  test("closes both when one cannot be made ready", () => {
    const before = openDescriptors();
    for (const errnos of [[EPERM], []]) {
      using _ = errnos.length > 0 ? failFirst("setsockopt", errnos) : failSecondSetsockopt();
      expect(systemErrorOf(() => Socket.pair({ type: "seqpacket" })).code).toBe("EPERM");
    }
    expect(openDescriptors()).toBe(before);
  });
});

function failSecondSetsockopt(): Fault {
  let calls = 0;
  return replaceLibc("setsockopt", (original) => (...values) => {
    return ++calls === 2 ? failWith(EPERM) : original(...values);
  });
}

describe.each(kinds)("adopt() of $family $type", (kind) => {
  const { family, type, free } = kind;
  const open = () => socket(DOMAINS[family], TYPES[type], 0);

  test("duplicates: the caller keeps his descriptor", () => {
    const fd = open();
    {
      using adopted = Socket.adopt(fd);
      expect([adopted.family, adopted.type]).toEqual([family, type]);
      expect(adopted.descriptor).not.toBe(fd);
      expect(fileFlags(adopted.descriptor) & O_CLOEXEC).toBe(O_CLOEXEC);
    }
    expect(isOpen(fd)).toBe(true);
    // The open file is non-blocking now, for everybody who shares it; the number is as it was.
    expect(fileFlags(fd) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK);
    close(fd);
  });

  test("with own takes the descriptor itself, and closes it", () => {
    const fd = open();
    {
      using adopted = Socket.adopt(fd, { own: true });
      expect(adopted.descriptor).toBe(fd);
      expect(fileFlags(fd) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
    }
    expect(isOpen(fd)).toBe(false);
  });

  test("with own refuses a descriptor that another socket owns, and takes it detached", () => {
    using owner = create(kind);
    const fd = owner.descriptor;
    expect(() => Socket.adopt(fd, { own: true })).toThrow(
      new TypeError(
        `Cannot adopt descriptor ${fd}: another socket of this thread owns it. ` +
          "Detach it there first",
      ),
    );
    expect(owner.descriptor).toBe(fd);
    expect(isOpen(fd)).toBe(true);
    using adopted = Socket.adopt(owner.detach(), { own: true });
    expect(adopted.descriptor).toBe(fd);
    owner.close();
    expect(isOpen(fd)).toBe(true);
  });

  test("without own shares a descriptor that another socket owns", () => {
    using owner = create(kind);
    using adopted = Socket.adopt(owner.descriptor);
    owner.bind(free);
    expect(`${adopted.localAddress}`).toBe(`${owner.localAddress}`);
  });

  test("knows what the socket is bound to and connected with", () => {
    using connection = new Connection(kind);
    using adopted = Socket.adopt(connection.client.descriptor);
    expect(adopted.connected).toBe(true);
    expect(`${adopted.localAddress}`).toBe(`${connection.client.localAddress}`);
    expect(`${adopted.remoteAddress}`).toBe(`${connection.client.remoteAddress}`);
    adopted.sendSync("adopted");
    expect(receiveText(connection.served)).toBe("adopted");
    using bound = create(kind);
    bound.bind(free);
    using other = Socket.adopt(bound.descriptor);
    expect([other.connected, other.remoteAddress]).toEqual([false, undefined]);
    expect(`${other.localAddress}`).toBe(`${bound.localAddress}`);
  });

  // Where it fails: what is replaced, and for which calls.
  const failures: [name: string, own: boolean, make: () => Fault][] = [false, true].flatMap(
    (own) =>
      [
        ["F_GETFL", own, () => failFcntl(F_GETFL)],
        ["F_SETFL", own, () => failFcntl(F_SETFL)],
        ...(own
          ? [["F_SETFD", own, () => failFcntl(F_SETFD)]]
          : [["F_DUPFD_CLOEXEC", own, () => failFcntl(F_DUPFD_CLOEXEC)]]),
        ...(type === "seqpacket" ? [["setsockopt", own, () => failAll("setsockopt")]] : []),
      ] as [string, boolean, () => Fault][],
  );
  test.each(failures)("when %s fails (own: %p) leaves the descriptor as it was", (...row) => {
    const [, own, make] = row;
    const fd = open();
    const before = [openDescriptors(), fileFlags(fd), hasTimestamps(fd)];
    {
      using _ = make();
      expect(systemErrorOf(() => Socket.adopt(fd, { own })).code).toBe("EPERM");
    }
    expect(isOpen(fd)).toBe(true);
    expect([openDescriptors(), fileFlags(fd), hasTimestamps(fd)]).toEqual(before);
    // Nor does anybody own it.
    Socket.adopt(fd, { own: true }).close();
  });

  const classes = [
    ["UdpSocket", UdpSocket, type === "datagram" && family !== "unix"],
    ["UnixDatagramSocket", UnixDatagramSocket, type === "datagram" && family === "unix"],
  ] as const;
  test.each(classes)("as a %s is made or refused by kind", (name, Class, fits) => {
    const fd = open();
    for (const own of [false, true]) {
      const before = [openDescriptors(), fileFlags(fd)];
      if (fits) {
        using adopted = Class.adopt(fd, { own });
        expect(adopted).toBeInstanceOf(Class);
        expect(adopted.constructor).toBe(Class);
      } else {
        const error = caught(() => Class.adopt(fd, { own }));
        expect(error).toBeInstanceOf(TypeError);
        expect(error.message).toBe(
          `Cannot adopt descriptor ${fd} as a ${name === "UdpSocket" ? "UDP" : "Unix datagram"} ` +
            `socket: it is ${family} ${type}`,
        );
        expect([openDescriptors(), fileFlags(fd)]).toEqual(before);
      }
    }
    if (!fits) close(fd);
  });
});

/** Whether a seqpacket socket was made to tell its records from the end. */
function hasTimestamps(fd: number): boolean {
  const value = new Int32Array(new ArrayBuffer(4));
  getsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, value, new Uint32Array(new ArrayBuffer(4)));
  return value[0] !== 0;
}

function failFcntl(command: number): Fault {
  return replaceLibc("fcntl", (original) => (fd, given, argument) => {
    return given === command ? failWith(EPERM) : original(fd, given, argument);
  });
}

function failAll(name: keyof Libc): Fault {
  return replaceEntry(name, (() => failWith(EPERM)) as never);
}

describe("adopt()", () => {
  test("refuses a file and both ends of a pipe as no sockets, unharmed", () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
    try {
      const fds = [openSync(join(folder, "file"), "w+"), openSync("/dev/null", "r")];
      for (const fd of fds) {
        const before = [openDescriptors(), fileFlags(fd)];
        for (const own of [false, true]) {
          const error = systemErrorOf(() => Socket.adopt(fd, { own }));
          expect(error.code).toBe("ENOTSOCK");
        }
        expect([openDescriptors(), fileFlags(fd)]).toEqual(before);
        closeSync(fd);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("refuses a pipe as no socket", () => {
    const script = `
      import { Socket } from ${JSON.stringify(join(import.meta.dir, "../../lib/index.ts"))};
      const codes = [0, 1].map((fd) => {
        try {
          Socket.adopt(fd, { own: true });
        } catch (error) {
          return error.code;
        }
      });
      console.log(codes.join(" "));
    `;
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
    try {
      // Into a file: Bun closes the pipes of a child in its own time.
      const pipeline = 'echo | "$0" -e "$1" | cat > "$2"';
      const values = [process.execPath, script, join(folder, "output")];
      Bun.spawnSync(["sh", "-c", pipeline, ...values], { stdio: ["ignore", "ignore", "inherit"] });
      expect(readFileSync(join(folder, "output"), "utf8")).toBe("ENOTSOCK ENOTSOCK\n");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("refuses a number that is not open as EBADF", () => {
    const fd = socket(AF_UNIX, SOCK_STREAM, 0);
    close(fd);
    for (const own of [false, true]) {
      const error = systemErrorOf(() => Socket.adopt(fd, { own }));
      expect(error).toBeInstanceOf(ClosedError);
      expect(error.code).toBe("EBADF");
    }
  });

  test.each([-1, 0.5, Number.NaN, 2 ** 31, 2 ** 32])("refuses %d as a descriptor", (fd) => {
    expect(() => Socket.adopt(fd)).toThrow(RangeError);
  });

  test.each(["3", null, undefined, 3n, {}])("refuses %p as a descriptor", (fd) => {
    expect(() => Socket.adopt(fd as unknown as number)).toThrow(TypeError);
  });

  test.each([0, "true", null])("refuses own: %p, and leaves the descriptor alone", (own) => {
    using owner = Socket.create("unix", "stream");
    const fd = dup(owner.descriptor);
    const before = openDescriptors();
    expect(() => Socket.adopt(fd, { own } as unknown as { own: boolean })).toThrow(TypeError);
    expect(openDescriptors()).toBe(before);
    close(fd);
  });

  test("of a listener accepts, and a number that was closed and opened again is no clash", () => {
    const first = Socket.create("unix", "stream");
    const fd = first.descriptor;
    first.close();
    const again = socket(AF_UNIX, SOCK_STREAM, 0);
    expect(again).toBe(fd);
    using listener = Socket.adopt(again, { own: true });
    listener.bind("unix:");
    listener.listen();
    using shared = Socket.adopt(listener.descriptor);
    using client = Socket.create("unix", "stream");
    client.connectSync(shared.localAddress);
    using served = shared.acceptSync(WAIT);
    client.sendSync("hello");
    expect(receiveText(served)).toBe("hello");
  });

  test.each(datagrams)(
    "of a bound $family datagram socket keeps its address through disconnect()",
    (kind) => {
      using bound = create(kind);
      using peer = create(kind);
      bound.bind(kind.free);
      peer.bind(kind.free);
      using adopted = Socket.adopt(bound.descriptor);
      const before = `${adopted.localAddress}`;
      adopted.connectSync(peer.localAddress);
      adopted.disconnect();
      expect(`${adopted.localAddress}`).toBe(before);
      expect(adopted.connected).toBe(false);
    },
  );
});

describe.each(kinds)("detach() and duplicate() of $family $type", (kind) => {
  test("detach() gives the descriptor away, open, and closes the socket", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    const { descriptor } = client;
    expect(client.detach()).toBe(descriptor);
    expect([client.descriptor, client.connected]).toEqual([-1, false]);
    expect(isOpen(descriptor)).toBe(true);
    expect(systemErrorOf(() => client.detach())).toBeInstanceOf(ClosedError);
    expect(systemErrorOf(() => client.detach()).syscall).toBe("detach");
    client.close();
    expect(isOpen(descriptor)).toBe(true);
    using adopted = Socket.adopt(descriptor, { own: true });
    adopted.sendSync("still connected");
    expect(receiveText(served)).toBe("still connected");
  });

  test("duplicate() shares the queue, the peer and the options", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    using copy = served.duplicate();
    expect(copy.constructor).toBe(Socket);
    expect(copy.descriptor).not.toBe(served.descriptor);
    expect(fileFlags(copy.descriptor) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
    expect([copy.family, copy.type, copy.connected]).toEqual([kind.family, kind.type, true]);
    expect(`${copy.remoteAddress}`).toBe(`${served.remoteAddress}`);
    for (const receiver of [copy, served]) {
      client.sendSync("once");
      expect(receiveText(receiver)).toBe("once");
    }
    for (const receiver of [copy, served])
      expect(receiver.tryReceive(new Uint8Array(1))).toBeUndefined();
    copy.setRawOption(SOL_SOCKET, SO_BROADCAST, 1);
    expect(served.getRawOption(SOL_SOCKET, SO_BROADCAST)).toBe(1);
  });

  test("a connection stays until the last duplicate is closed", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    using copy = client.duplicate();
    client.close();
    copy.sendSync("from the copy");
    expect(receiveText(served)).toBe("from the copy");
    if (kind.type === "datagram") return;
    expect(served.tryReceive(new Uint8Array(1))).toBeUndefined();
    copy.close();
    expect(served.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
  });

  test("duplicate() that fails leaks nothing; of a closed socket it is a ClosedError", () => {
    using made = create(kind);
    const before = openDescriptors();
    {
      using _ = replaceLibc("fcntl", () => () => failWith(EMFILE));
      const error = systemErrorOf(() => made.duplicate());
      expect([error.code, error.syscall]).toEqual(["EMFILE", "fcntl"]);
      expect(error.hint).toContain("sockets open");
    }
    expect(openDescriptors()).toBe(before);
    made.close();
    expect(systemErrorOf(() => made.duplicate())).toBeInstanceOf(ClosedError);
  });
});

describe("duplicate()", () => {
  test("makes a socket of the same class", () => {
    using udp = UdpSocket.bind("127.0.0.1:0");
    using unix = UnixDatagramSocket.open();
    using udpCopy: UdpSocket = udp.duplicate();
    using unixCopy: UnixDatagramSocket = unix.duplicate();
    expect(udpCopy.constructor).toBe(UdpSocket);
    expect(unixCopy.constructor).toBe(UnixDatagramSocket);
    expect(udpCopy.localAddress.equals(udp.localAddress)).toBe(true);
  });

  test("keeps the buffer sizes that were asked for", () => {
    using udp = UdpSocket.open("ipv4", { receiveBufferBytes: 65536 });
    using copy = udp.duplicate();
    expect(copy.receiveBuffer).toEqual(udp.receiveBuffer);
  });

  test.each(datagrams)("tells of a peer that the other $family socket has got", (kind) => {
    using one = create(kind);
    using peer = create(kind);
    one.bind(kind.free);
    peer.bind(kind.free);
    using other = one.duplicate();
    one.connectSync(peer.localAddress);
    expect(`${other.remoteAddress}`).toBe(`${peer.localAddress}`);
    expect(other.connected).toBe(true);
    other.disconnect();
    expect([one.connected, one.remoteAddress]).toEqual([false, undefined]);
  });

  type Change = (to: InetAddress) => void;
  const changes: [name: string, prepare: (socket: UdpSocket) => Change][] = [
    ["the duplicate", (socket) => connecting(socket.duplicate())],
    ["an adopted one", (socket) => connecting(Socket.adopt(socket.descriptor))],
    [
      "a C call",
      (socket) => {
        const { descriptor } = socket;
        return (to) => void connect(descriptor, to.bytes);
      },
    ],
  ];
  interface Connecting extends Disposable {
    connectSync(address: InetAddress): void;
  }
  const connecting = (made: Connecting) => (to: InetAddress) => {
    using other = made;
    other.connectSync(to);
  };
  describe.each(["127.0.0.1:0", "[::1]:0"])("of %s", (loopback) => {
    test.each(changes)("a batch names the true sender when %s changes the peer", (_, prepare) => {
      for (const isLate of [false, true]) {
        using one = UdpSocket.bind(loopback);
        using first = UdpSocket.bind(loopback);
        using second = UdpSocket.bind(loopback);
        using batch = new DatagramBatch({ capacity: 1 });
        const early = isLate ? undefined : prepare(one);
        one.connectSync(first.localAddress);
        expect(one.tryReceiveBatch(batch)).toBe(0);
        const change = early ?? prepare(one);
        change(second.localAddress);
        second.sendToSync("from the second", one.localAddress);
        one.receiveBatchSync(batch, WAIT);
        expect(`${batch.address(0)}`).toBe(`${second.localAddress}`);
      }
    });
  });
});

describe.each(kinds)("inheritable of $family $type", (kind) => {
  test("is false, can be set and taken back, and a child process sees it", () => {
    using made = create(kind);
    const inherited = () => childHas(made.descriptor);
    expect([made.inheritable, inherited()]).toEqual([false, false]);
    made.inheritable = true;
    expect([made.inheritable, inherited()]).toEqual([true, true]);
    using copy = made.duplicate();
    expect([copy.inheritable, childHas(copy.descriptor)]).toEqual([false, false]);
    made.inheritable = false;
    expect([made.inheritable, inherited()]).toEqual([false, false]);
    expect(fileFlags(made.descriptor) & O_NONBLOCK).toBe(O_NONBLOCK);
  });

  test.each([1, 0, "true", null, undefined])("refuses %p and changes nothing", (value) => {
    using made = create(kind);
    expect(() => {
      made.inheritable = value as unknown as boolean;
    }).toThrow(TypeError);
    expect(made.inheritable).toBe(false);
  });
});

/** Whether a program that this one starts has the descriptor, as a socket. */
function childHas(fd: number): boolean {
  // int system(const char *command); Bun's own spawn closes every descriptor that it does not know.
  const prototypes = { system: { args: ["ptr"], returns: "i32" } } as const;
  const { symbols } = dlopen(libcNames()[0] as string, prototypes);
  return symbols.system(Buffer.from(`test -S /proc/self/fd/${fd}\0`)) === 0;
}

describe.each(kinds)("bind() of $family $type", (kind) => {
  test("gives a free address, and takes exactly the one it is given", () => {
    using first = create(kind);
    first.bind(kind.free);
    const taken = first.localAddress;
    expect(`${taken}`).not.toBe(kind.free);
    expect(taken.family).toBe(kind.family);
    using second = create(kind);
    const error = systemErrorOf(() => second.bind(taken));
    expect([error.code, error.syscall]).toEqual(["EADDRINUSE", "bind"]);
    expect(error.message).toBe(`bind EADDRINUSE ${taken}: address already in use`);
    first.close();
    second.bind(`${taken}`);
    expect(`${second.localAddress}`).toBe(`${taken}`);
  });

  test("a second time is refused, and changes nothing", () => {
    using made = create(kind);
    made.bind(kind.free);
    const before = `${made.localAddress}`;
    using other = create(kind);
    other.bind(kind.free);
    const next = other.localAddress;
    other.close();
    expect(systemErrorOf(() => made.bind(next)).code).toBe("EINVAL");
    expect(`${made.localAddress}`).toBe(before);
  });

  const foreign = kind.family === "unix" ? ["127.0.0.1:0", "[::1]:0"] : ["unix:", "unix:@name"];
  const wrong: [name: string, value: unknown][] = [
    ["null", null],
    ["undefined", undefined],
    ["a number", 9000],
    ["no address", "localhost"],
    ["an empty text", ""],
    ["an object", {}],
    ...foreign.map((text): [string, unknown] => [text, text]),
  ];
  test.each(wrong)("and every call with an address refuses %s", (_, value) => {
    using made = create(kind);
    const address = value as Address;
    for (const run of [
      () => made.bind(address),
      () => made.tryConnect(address),
      () => made.connectSync(address, WAIT),
      () => made.trySendTo(new Uint8Array(1), address),
      () => made.sendToSync("x", address, WAIT),
    ])
      expect(run).toThrow(TypeError);
    using untouched = create(kind);
    expect(`${made.localAddress}`).toBe(`${untouched.localAddress}`);
    expect(made.connected).toBe(false);
  });
});

describe.each(kinds)("a connection of $family $type", (kind) => {
  test("names both ends, and each says so", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    for (const end of [client, served]) {
      expect([end.family, end.type, end.connected]).toEqual([kind.family, kind.type, true]);
      expect(fileFlags(end.descriptor) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
    }
    expect(`${client.remoteAddress}`).toBe(`${served.localAddress}`);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    expect(client.protocol).toBe(served.protocol);
  });

  test("tryConnect() and connectSync() take an address and its text", () => {
    using server = kind.type === "datagram" ? create(kind) : listening(kind);
    if (kind.type === "datagram") server.bind(kind.free);
    for (const to of [server.localAddress, `${server.localAddress}`]) {
      using first = create(kind);
      first.connectSync(to, WAIT);
      using second = create(kind);
      // Only TCP takes time.
      if (second.tryConnect(to) === undefined) second.connectSync(to, WAIT);
      for (const end of [first, second]) {
        expect(end.connected).toBe(true);
        expect(`${end.remoteAddress}`).toBe(`${server.localAddress}`);
      }
    }
  });

  test("toString() says what inspect() shows, and closed tells whether it is", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    expect(`${client}`).toBe(inspect(client));
    expect(`${client}`).toContain(`${client.localAddress} to ${client.remoteAddress}`);
    expect([client.closed, served.closed]).toEqual([false, false]);
    client.close();
    expect(`${client}`).toBe(`Socket ${kind.family} ${kind.type}, closed`);
    expect([client.closed, served.closed]).toEqual([true, false]);
    using given = create(kind);
    const descriptor = given.detach();
    expect(given.closed).toBe(true);
    Socket.adopt(descriptor, { own: true }).close();
  });

  test("inspect() shows kind, descriptor and names; closed it says so", () => {
    using connection = new Connection(kind);
    const { client } = connection;
    const label = `Socket ${kind.family} ${kind.type}`;
    expect(inspect(client)).toBe(
      `${label}, descriptor ${client.descriptor}, ${client.localAddress} ` +
        `to ${client.remoteAddress}`,
    );
    using bound = create(kind);
    bound.bind(kind.free);
    expect(inspect(bound)).toBe(`${label}, descriptor ${bound.descriptor}, ${bound.localAddress}`);
    client.close();
    expect(inspect(client)).toBe(`${label}, closed`);
    expect(inspect(Object.create(Socket.prototype))).toBe("Socket");
  });
});

test.each(inetStreams)("inspect() names no peer that is gone ($family)", (kind) => {
  using connection = new Connection(kind);
  const { client, served } = connection;
  reset(served);
  expect(client.receiveSync.bind(client, new Uint8Array(1), WAIT)).toThrow("ECONNRESET");
  expect(client.remoteAddress).toBeUndefined();
  expect(inspect(client)).not.toContain("undefined");
});

/** Closes a TCP connection with a reset. */
function reset(socket: Socket): void {
  // struct linger { int l_onoff; int l_linger; }
  socket.setRawOption(SOL_SOCKET, SO_LINGER, new Int32Array([1, 0]));
  socket.close();
}

describe.each(connections)("connecting a $family $type", (kind) => {
  test("to nobody is refused by name, and the socket may try elsewhere", () => {
    const dead = deadAddress(kind);
    using client = create(kind);
    for (const run of [() => client.connectSync(dead, WAIT), () => connectByTrying(client, dead)]) {
      const error = systemErrorOf(run);
      expect([error.code, error.syscall]).toEqual(["ECONNREFUSED", "connect"]);
      expect(error.destination).toBe(`${dead}`);
      expect(error.message).toBe(`connect ECONNREFUSED ${dead}: connection refused`);
      expect([client.connected, client.remoteAddress]).toEqual([false, undefined]);
    }
    using listener = listening(kind);
    client.connectSync(listener.localAddress, WAIT);
    expect(client.connected).toBe(true);
  });

  test("twice is EISCONN, and the connection stays", () => {
    using listener = listening(kind);
    using client = create(kind);
    client.connectSync(listener.localAddress, WAIT);
    using served = listener.acceptSync(WAIT);
    for (const run of [
      () => client.tryConnect(listener.localAddress),
      () => client.connectSync(listener.localAddress, WAIT),
    ])
      expect(systemErrorOf(run).code).toBe("EISCONN");
    expect(client.connected).toBe(true);
    client.sendSync("still here");
    expect(receiveText(served)).toBe("still here");
  });

  test("and disconnecting it is refused: close it", () => {
    using connection = new Connection(kind);
    expect(() => connection.client.disconnect()).toThrow(
      new TypeError(`Cannot disconnect a ${kind.type} socket: close it`),
    );
    using alone = create(kind);
    expect(() => alone.disconnect()).toThrow(TypeError);
    connection.client.sendSync("still connected");
    expect(receiveText(connection.served)).toBe("still connected");
  });

  test.each([Number.NaN, -1, "1", null])("with timeoutMs %p is refused before the call", (ms) => {
    using listener = listening(kind);
    using client = create(kind);
    const options = { timeoutMs: ms } as unknown as WaitOptions;
    expect(() => client.connectSync(listener.localAddress, options)).toThrow();
    expect(client.connected).toBe(false);
    expect(listener.tryAccept()).toBeUndefined();
  });
});

/** Connects by calls of tryConnect(), as a caller with an event loop would. */
function connectByTrying(client: Socket, to: Address): void {
  const deadline = performance.now() + WAIT.timeoutMs;
  while (client.tryConnect(to) === undefined)
    if (performance.now() > deadline) throw new Error("Expected the connection in time");
}

describe.each(inetStreams)("connecting over $family TCP", (kind) => {
  test("to port 0 is refused before the call", () => {
    using client = create(kind);
    for (const run of [() => client.tryConnect(kind.free), () => client.connectSync(kind.free)])
      expect(run).toThrow(
        new RangeError(`Cannot connect to ${kind.free}: expected a port above 0`),
      );
    expect((client.localAddress as InetAddress).port).toBe(0);
  });

  test("tryConnect() is undefined while it is being made, and true when it is", () => {
    using listener = listening(kind, 0);
    using first = create(kind);
    first.connectSync(listener.localAddress, WAIT);
    using client = create(kind);
    for (let round = 0; round < 3; round++)
      expect(client.tryConnect(listener.localAddress)).toBeUndefined();
    expect([client.connected, client.remoteAddress]).toEqual([false, undefined]);
    listener.acceptSync(WAIT).close();
    // The kernel sends the request again after a second.
    connectByTrying(client, listener.localAddress);
    expect(client.connected).toBe(true);
    using served = listener.acceptSync(WAIT);
    client.sendSync("in the end");
    expect(receiveText(served)).toBe("in the end");
    expect(systemErrorOf(() => client.tryConnect(listener.localAddress)).code).toBe("EISCONN");
  });

  test("a full queue makes a client wait: at last a TimeoutError; a second call goes on", () => {
    using listener = listening(kind, 0);
    using first = create(kind);
    first.connectSync(listener.localAddress, WAIT);
    using client = create(kind);
    const started = performance.now();
    const error = systemErrorOf(() => client.connectSync(listener.localAddress, { timeoutMs: 30 }));
    const elapsed = performance.now() - started;
    expect(error).toBeInstanceOf(TimeoutError);
    const { localAddress } = listener;
    expect(error.message).toBe(`connect ETIMEDOUT ${localAddress}: timed out after 30 ms`);
    expect(error.destination).toBe(`${localAddress}`);
    expect(elapsed).toBeGreaterThanOrEqual(30);
    expect(elapsed).toBeLessThan(WAIT.timeoutMs);
    expect(client.connected).toBe(false);
    listener.acceptSync(WAIT).close();
    client.connectSync(listener.localAddress, WAIT);
    using served = listener.acceptSync(WAIT);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("a connection that ends while connectSync() waits is refused by name", () => {
    using listener = listening(kind, 0);
    using first = create(kind);
    first.connectSync(listener.localAddress, WAIT);
    using client = create(kind);
    const to = listener.localAddress;
    using _ = whileWaiting(() => listener.close());
    const error = systemErrorOf(() => client.connectSync(to, WAIT));
    expect([error.code, error.syscall]).toEqual(["ECONNREFUSED", "connect"]);
    expect(client.connected).toBe(false);
  });

  test("a signal does not end a connect", () => {
    using listener = listening(kind);
    using client = create(kind);
    using fault = failFirst("connect", [EINTR, EINTR]);
    client.connectSync(listener.localAddress, WAIT);
    expect(client.connected).toBe(true);
    expect(fault.calls).toBeGreaterThan(2);
  });
});

const unixConnections: readonly Kind[] = connections.filter(({ family }) => family === "unix");
describe.each(unixConnections)("connecting a Unix $type", (kind) => {
  test("a full queue gives undefined, then a TimeoutError, then room", () => {
    using listener = listening(kind, 0);
    using first = create(kind);
    expect(first.tryConnect(listener.localAddress)).toBe(true);
    using client = create(kind);
    for (let round = 0; round < 3; round++)
      expect(client.tryConnect(listener.localAddress)).toBeUndefined();
    expect(client.connected).toBe(false);
    for (const timeoutMs of [0, 0.5, 25]) {
      const started = performance.now();
      const run = () => client.connectSync(listener.localAddress, { timeoutMs });
      const error = systemErrorOf(run);
      expect([error.name, error.syscall]).toEqual(["TimeoutError", "connect"]);
      expect(performance.now() - started).toBeGreaterThanOrEqual(timeoutMs);
      expect(performance.now() - started).toBeLessThan(WAIT.timeoutMs);
    }
    using _ = whileWaiting(() => listener.acceptSync(WAIT).close());
    client.connectSync(listener.localAddress, WAIT);
    expect(client.connected).toBe(true);
  });

  test("does not spin while the queue is full", () => {
    using listener = listening(kind, 0);
    using first = create(kind);
    first.connectSync(listener.localAddress, WAIT);
    using client = create(kind);
    using fault = replaceLibc("poll", (original) => original);
    expect(() => client.connectSync(listener.localAddress, { timeoutMs: 50 })).toThrow(
      TimeoutError,
    );
    expect(fault.calls).toBeLessThan(20);
  });

  test("to a path without a file is ENOENT, to the wrong type EPROTOTYPE, with hints", () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
    try {
      const other = kind.type === "stream" ? seqpacket : (byteStreams[2] as Kind);
      using listener = create(other);
      listener.bind(`unix:${folder}/other`);
      listener.listen();
      using client = create(kind);
      const cases = [
        ["missing", "ENOENT", "Nobody is bound to that path"],
        ["other", "EPROTOTYPE", "The socket at that path is of another type"],
      ] as const;
      for (const [file, code, hint] of cases) {
        const path = join(folder, file);
        const error = systemErrorOf(() => client.connectSync(`unix:${path}`, WAIT));
        expect([error.code, error.path, error.hint]).toEqual([code, path, hint]);
      }
      listener.close();
      const refused = systemErrorOf(() => client.tryConnect(`unix:${folder}/other`));
      expect([refused.code, refused.hint]).toEqual([
        "ECONNREFUSED",
        "Nobody receives at that path: the file was left behind by a socket that is closed",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

test.each(unixConnections)(
  "acceptSync() of a Unix $type that was shut down does not spin",
  (kind) => {
    using listener = listening(kind);
    listener.shutdown("both");
    using fault = replaceLibc("poll", (original) => original);
    expect(() => listener.acceptSync({ timeoutMs: 50 })).toThrow(SystemError);
    expect(fault.calls).toBeLessThan(100);
  },
);

test.each(datagrams)("disconnect() of a $family datagram socket takes the peer away", (kind) => {
  using connection = new Connection(kind);
  const { client, served } = connection;
  const bound = `${client.localAddress}`;
  client.disconnect();
  expect([client.connected, client.remoteAddress]).toEqual([false, undefined]);
  expect(`${client.localAddress}`).toBe(bound);
  const error = systemErrorOf(() => client.trySend(new Uint8Array(1)));
  expect(error.code).toBe(kind.family === "unix" ? "ENOTCONN" : "EDESTADDRREQ");
  // Nor does it refuse others now.
  using stranger = create(kind);
  stranger.bind(kind.free);
  stranger.sendToSync("from a stranger", client.localAddress);
  expect(receiveText(client)).toBe("from a stranger");
  client.disconnect();
  client.connectSync(served.localAddress);
  client.sendSync("connected again");
  expect(receiveText(served)).toBe("connected again");
});

describe.each(connections)("listen() and accept() of $family $type", (kind) => {
  test("hand out connections in order, close-on-exec and non-blocking, with their names", () => {
    using listener = listening(kind);
    const clients = Array.from({ length: 5 }, () => {
      const client = create(kind);
      client.bind(kind.free);
      client.connectSync(listener.localAddress, WAIT);
      return client;
    });
    for (const [i, client] of clients.entries()) {
      using served = i % 2 === 0 ? listener.acceptSync(WAIT) : (listener.tryAccept() as Socket);
      expect([served.family, served.type, served.connected]).toEqual([
        kind.family,
        kind.type,
        true,
      ]);
      expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
      expect(`${served.localAddress}`).toBe(`${listener.localAddress}`);
      expect(fileFlags(served.descriptor) & (O_NONBLOCK | O_CLOEXEC)).toBe(O_NONBLOCK | O_CLOEXEC);
      client.close();
    }
    expect(listener.tryAccept()).toBeUndefined();
    expect(listener.connected).toBe(false);
  });

  test("tryAccept() is undefined when none is waiting, and acceptSync() times out", () => {
    using listener = listening(kind);
    const before = openDescriptors();
    expect(listener.tryAccept()).toBeUndefined();
    const error = systemErrorOf(() => listener.acceptSync({ timeoutMs: 20 }));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error.syscall).toBe("accept4");
    expect(openDescriptors()).toBe(before);
  });

  test("acceptSync() waits for a client", () => {
    using listener = listening(kind);
    using client = create(kind);
    using _ = whileWaiting(() => client.tryConnect(listener.localAddress));
    using served = listener.acceptSync(WAIT);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("passes over signals and connections that were broken off", () => {
    using listener = listening(kind);
    using client = create(kind);
    client.connectSync(listener.localAddress, WAIT);
    for (const errnos of [
      [EINTR, ECONNABORTED, EPROTO, EINTR],
      [ECONNABORTED, EAGAIN],
    ]) {
      using fault = failFirst("accept4", errnos);
      const accepted = listener.tryAccept();
      if (errnos.includes(EAGAIN)) expect(accepted).toBeUndefined();
      else expect(accepted?.connected).toBe(true);
      expect(fault.calls).toBe(errnos.includes(EAGAIN) ? 2 : 5);
      accepted?.close();
    }
  });

  test("reports what else accept4(2) says, with a hint for too many descriptors", () => {
    using listener = listening(kind);
    using client = create(kind);
    client.connectSync(listener.localAddress, WAIT);
    {
      using _ = failFirst("accept4", [EMFILE, EPERM]);
      const full = systemErrorOf(() => listener.tryAccept());
      expect([full.code, full.syscall]).toEqual(["EMFILE", "accept4"]);
      expect(full.hint).toContain("sockets open");
      expect(systemErrorOf(() => listener.acceptSync(WAIT)).code).toBe("EPERM");
    }
    using served = listener.acceptSync(WAIT);
    expect(served.connected).toBe(true);
  });

  test("refuse a socket that does not listen, is connected or closed", () => {
    using alone = create(kind);
    expect(systemErrorOf(() => alone.tryAccept()).code).toBe("EINVAL");
    expect(systemErrorOf(() => alone.acceptSync(WAIT)).code).toBe("EINVAL");
    using connection = new Connection(kind);
    expect(systemErrorOf(() => connection.client.listen()).code).toBe("EINVAL");
    expect(systemErrorOf(() => connection.client.tryAccept()).code).toBe("EINVAL");
    const listener = listening(kind);
    listener.close();
    for (const run of [() => listener.tryAccept(), () => listener.acceptSync(WAIT)]) {
      const error = systemErrorOf(run);
      expect(error).toBeInstanceOf(ClosedError);
      expect(error.syscall).toBe("accept4");
    }
  });

  const backlogs: [given: number | undefined, passed: number][] = [
    [undefined, 128],
    [0, 0],
    [1, 1],
    [2 ** 31 - 1, 2 ** 31 - 1],
  ];
  test.each(backlogs)("listen(%p) tells the kernel %d", (backlog, expected) => {
    const passed: number[] = [];
    using _ = replaceLibc("listen", (original) => (fd, given) => {
      passed.push(given);
      return original(fd, given);
    });
    using listener = listening(kind, backlog);
    expect(passed).toEqual([expected]);
    using client = create(kind);
    client.connectSync(listener.localAddress, WAIT);
    listener.acceptSync(WAIT).close();
    // And again: the backlog of a socket that listens can be changed.
    listener.listen(5);
    expect(passed).toEqual([expected, 5]);
  });

  test.each([-1, 2 ** 31, 0.5, Number.NaN, Infinity])("listen(%d) is refused", (backlog) => {
    using made = create(kind);
    made.bind(kind.free);
    expect(() => made.listen(backlog)).toThrow(
      new RangeError(`Cannot use ${backlog} as a backlog: expected 0 to 2147483647`),
    );
    expect(systemErrorOf(() => made.tryAccept()).code).toBe("EINVAL");
  });

  test.each(["5", null, 5n])("listen(%p) is refused", (backlog) => {
    using made = create(kind);
    expect(() => made.listen(backlog as unknown as number)).toThrow(TypeError);
  });

  test("without bind: TCP takes a free port, a Unix socket is refused", () => {
    using made = create(kind);
    if (kind.family === "unix") {
      expect(systemErrorOf(() => made.listen()).code).toBe("EINVAL");
    } else {
      made.listen();
      expect((made.localAddress as InetAddress).port).toBeGreaterThan(0);
    }
  });
});

test.each(datagrams)("a $family datagram socket neither listens nor accepts", (kind) => {
  using made = create(kind);
  made.bind(kind.free);
  // EOPNOTSUPP and ENOTSUP are one number.
  for (const run of [() => made.listen(), () => made.tryAccept(), () => made.acceptSync(WAIT)])
    expect(systemErrorOf(run).code).toBe("ENOTSUP");
});

describe.each(kinds)("over $family $type", (kind) => {
  const isStream = kind.type === "stream";

  describe.each(sendForms)("%s()", (_form, syscall, waits, send) => {
    const bytes = (...values: number[]) => new Uint8Array(values);
    const views: [name: string, make: () => Data, expected: number[]][] = [
      ["a Uint8Array", () => bytes(1, 2, 3), [1, 2, 3]],
      ["a subarray", () => bytes(9, 9, 1, 2, 9).subarray(2, 4), [1, 2]],
      ["a small Buffer of the pool", () => Buffer.from([4, 5]), [4, 5]],
      ["a DataView", () => new DataView(bytes(9, 1, 2, 9).buffer, 1, 2), [1, 2]],
      ["a Float64Array", () => new Float64Array([1]), [0, 0, 0, 0, 0, 0, 0xf0, 0x3f]],
      ["a Uint16Array at an offset", () => new Uint16Array([1, 2, 3]).subarray(1), [2, 0, 3, 0]],
      ["a BigInt64Array", () => new BigInt64Array([-1n]), Array(8).fill(255)],
      ["an ArrayBuffer", () => bytes(7, 8, 9).buffer, [7, 8, 9]],
      ["native memory", () => nativeBytes([6, 7, 8]), [6, 7, 8]],
      ["an empty view", () => new Uint8Array(0), []],
      ["an empty ArrayBuffer", () => new ArrayBuffer(0), []],
    ];
    test.each(views)("sends %s", (_, make, expected) => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      expect(send(client, make(), {}, undefined)).toBe(expected.length);
      const target = new Uint8Array(64);
      if (isStream && expected.length === 0) {
        expect(served.tryReceive(target)).toBeUndefined();
      } else {
        expect(served.receiveSync(target, WAIT)).toBe(expected.length);
        expect([...target.subarray(0, expected.length)]).toEqual(expected);
      }
      expect(served.tryReceive(target)).toBeUndefined();
    });

    const refused: [name: string, make: () => unknown][] = [
      ["a number", () => 4096],
      ["null", () => null],
      ["shared memory", () => new Uint8Array(new SharedArrayBuffer(4))],
      ["resizable memory", () => new Uint8Array(new ArrayBuffer(4, { maxByteLength: 8 }))],
      ["detached memory", () => detachedView()],
    ];
    test.each(refused)("refuses %s and sends nothing", (_, make) => {
      using connection = new Connection(kind);
      expect(() => send(connection.client, make() as Data, {}, undefined)).toThrow(TypeError);
      expect(connection.served.tryReceive(new Uint8Array(8))).toBeUndefined();
    });

    test("sends once after signals", () => {
      using connection = new Connection(kind);
      {
        using fault = failFirst(syscall as "send", [EINTR, EINTR]);
        expect(send(connection.client, Buffer.from("once"), {}, undefined)).toBe(4);
        expect(fault.calls).toBe(3);
      }
      expect(receiveText(connection.served)).toBe("once");
      expect(connection.served.tryReceive(new Uint8Array(1))).toBeUndefined();
    });

    test("says when there is no room: undefined, or a TimeoutError", () => {
      using connection = new Connection(kind);
      using _ = replaceLibc(syscall as "send", () => () => failWith(EAGAIN));
      const run = () => send(connection.client, Buffer.from("x"), { timeoutMs: 5 }, undefined);
      if (waits) {
        const error = systemErrorOf(run);
        expect([error.name, error.syscall]).toEqual(["TimeoutError", syscall]);
      } else {
        expect(run()).toBeUndefined();
      }
    });

    test("without a peer names the reason", () => {
      using alone = create(kind);
      const error = systemErrorOf(() => send(alone, Buffer.from("x"), {}, undefined));
      const code =
        kind.family === "unix" ? "ENOTCONN" : kind.type === "stream" ? "EPIPE" : "EDESTADDRREQ";
      expect([error.code, error.syscall]).toEqual([code, syscall]);
    });

    test("on a closed socket is a ClosedError", () => {
      using connection = new Connection(kind);
      connection.client.close();
      const error = systemErrorOf(() => send(connection.client, Buffer.from("x"), {}, undefined));
      expect(error).toBeInstanceOf(ClosedError);
      expect(error.syscall).toBe(syscall);
    });

    const taken = [MSG_CONFIRM, MSG_DONTROUTE, MSG_DONTWAIT, MSG_NOSIGNAL].concat(
      kind.type === "seqpacket" ? [MSG_EOR] : [],
    );
    test.each(taken)("takes the flags %d", (flags) => {
      using connection = new Connection(kind);
      expect(send(connection.client, Buffer.from("flags"), { flags }, undefined)).toBe(5);
      expect(receiveText(connection.served)).toBe("flags");
    });

    const unknown = [MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_CTRUNC, MSG_ZEROCOPY, MSG_FASTOPEN, 0x10]
      .concat(isStream ? [] : [MSG_OOB], kind.type === "datagram" ? [MSG_EOR] : [])
      .concat([-1, 0.5, 2 ** 31, 2 ** 32, Number.NaN]);
    test.each(unknown)("refuses the flags %d and sends nothing", (flags) => {
      using connection = new Connection(kind);
      const run = () => send(connection.client, Buffer.from("x"), { flags }, undefined);
      expect(run).toThrow(RangeError);
      expect(connection.served.tryReceive(new Uint8Array(1))).toBeUndefined();
    });
  });

  describe.each(receiveForms)("%s()", (_form, syscall, waits, receive) => {
    /** A connection with something waiting, and the proof that it still waits. */
    function waiting(text = "waiting"): Connection & { intact(): boolean } {
      const connection = new Connection(kind);
      connection.client.sendSync(text);
      return Object.assign(connection, {
        intact: () =>
          receiveText(connection.served) === text &&
          connection.served.tryReceive(new Uint8Array(1)) === undefined,
      });
    }

    const targets: [name: string, make: (memory: ArrayBuffer) => ArrayBufferView][] = [
      ["a view at an offset", (memory) => new Uint8Array(memory, 16, 8)],
      ["a Buffer", (memory) => Buffer.from(memory, 16, 8)],
      ["a DataView", (memory) => new DataView(memory, 16, 8)],
      ["a Float64Array", (memory) => new Float64Array(memory, 16, 1)],
      ["a Uint16Array", (memory) => new Uint16Array(memory, 16, 4)],
      ["a BigUint64Array", (memory) => new BigUint64Array(memory, 16, 1)],
    ];
    test.each(targets)("writes into %s and nowhere else", (_, make) => {
      for (const text of ["a", "12345678", "longer than the target"]) {
        using connection = waiting(text);
        using memory = new NativeBuffer(64);
        memory.bytes.fill(CANARY);
        const length = receive(connection.served, make(memory.bytes.buffer), WAIT) ?? -1;
        expect(length).toBe(Math.min(text.length, 8));
        const written = memory.bytes.subarray(16, 16 + length);
        expect(Buffer.from(written).toString()).toBe(text.slice(0, length));
        written.fill(CANARY);
        expect(memory.bytes.every((byte) => byte === CANARY)).toBe(true);
        // A stream keeps the rest, a record loses it.
        if (isStream && text.length > 8) expect(receiveText(connection.served)).toBe(text.slice(8));
        else expect(connection.served.tryReceive(new Uint8Array(1))).toBeUndefined();
      }
    });

    test("into an empty target is refused on a stream, and takes one record else", () => {
      using connection = waiting();
      const { client, served } = connection;
      if (isStream) {
        expect(() => receive(served, new Uint8Array(0), WAIT)).toThrow(RangeError);
        expect(connection.intact()).toBe(true);
        client.close();
        expect(() => receive(served, new DataView(new ArrayBuffer(4), 4), WAIT)).toThrow(
          RangeError,
        );
        expect(receive(served, new Uint8Array(1), WAIT)).toBe(0);
      } else {
        expect(receive(served, new Uint8Array(0), WAIT)).toBe(0);
        expect(served.tryReceive(new Uint8Array(8))).toBeUndefined();
      }
    });

    test("gives 0 at the end of a connection, again and again; and for an empty record", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      const target = new Uint8Array(4).fill(CANARY);
      if (!isStream) {
        client.sendSync("");
        expect(receive(served, target, WAIT)).toBe(0);
        expect(served.tryReceive(target)).toBeUndefined();
      }
      client.sendSync("end");
      client.close();
      expect(receive(served, target, WAIT)).toBe(3);
      if (kind.type !== "datagram")
        for (let round = 0; round < 3; round++) expect(receive(served, target, WAIT)).toBe(0);
      expect(target[3]).toBe(CANARY);
    });

    test("says when nothing is waiting: undefined, or a TimeoutError", () => {
      using connection = new Connection(kind);
      const run = () => receive(connection.served, new Uint8Array(1), { timeoutMs: 10 });
      if (waits) {
        const error = systemErrorOf(run);
        expect([error.name, error.syscall]).toEqual(["TimeoutError", syscall]);
        expect(error.transferred).toBeUndefined();
      } else {
        expect(run()).toBeUndefined();
      }
    });

    if (waits) {
      test("waits for what comes", () => {
        using connection = new Connection(kind);
        using _ = whileWaiting(() => connection.client.sendSync("now"));
        const target = Buffer.alloc(3);
        expect(receive(connection.served, target, WAIT)).toBe(3);
        expect(target.toString()).toBe("now");
      });
    }

    test("leaves everything in the queue with MSG_PEEK", () => {
      using connection = waiting();
      for (let round = 0; round < 3; round++) {
        const target = Buffer.alloc(4);
        expect(receive(connection.served, target, { ...WAIT, flags: MSG_PEEK })).toBe(4);
        expect(target.toString()).toBe("wait");
      }
      expect(connection.intact()).toBe(true);
    });

    const refused: [name: string, make: () => unknown][] = [
      ["a number", () => 4096],
      ["null", () => null],
      ["an ArrayBuffer", () => new ArrayBuffer(8)],
      ["shared memory", () => new Uint8Array(new SharedArrayBuffer(8))],
      ["resizable memory", () => new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }))],
      ["detached memory", () => detachedView()],
    ];
    test.each(refused)("refuses %s and loses nothing", (_, make) => {
      using connection = waiting();
      const target = make() as ArrayBufferView;
      expect(() => receive(connection.served, target, WAIT)).toThrow(TypeError);
      expect(connection.intact()).toBe(true);
    });

    const unknown = [MSG_CONFIRM, MSG_EOR, MSG_CTRUNC, MSG_MORE, MSG_ERRQUEUE, 0x10]
      .concat(isStream ? [] : [MSG_OOB, MSG_WAITALL])
      .concat([-1, 0.5, 2 ** 31, 2 ** 32, Number.NaN]);
    test.each(unknown)("refuses the flags %d and loses nothing", (flags) => {
      using connection = waiting();
      const run = () => receive(connection.served, new Uint8Array(8), { ...WAIT, flags });
      expect(run).toThrow(RangeError);
      expect(connection.intact()).toBe(true);
    });

    test.each(["2", null, 2n])("refuses %p as flags and loses nothing", (flags) => {
      using connection = waiting();
      const options = { ...WAIT, flags } as unknown as WaitOptions;
      expect(() => receive(connection.served, new Uint8Array(8), options)).toThrow(TypeError);
      expect(connection.intact()).toBe(true);
    });

    test("receives once after signals", () => {
      using connection = waiting();
      {
        using fault = failFirst(syscall as "recv", [EINTR, EINTR]);
        expect(receive(connection.served, new Uint8Array(64), WAIT)).toBe(7);
        expect(fault.calls).toBe(3);
      }
      expect(connection.served.tryReceive(new Uint8Array(1))).toBeUndefined();
    });

    test("on a closed socket is a ClosedError, and leaves the target alone", () => {
      using connection = waiting();
      connection.served.close();
      const target = new Uint8Array(8).fill(CANARY);
      const error = systemErrorOf(() => receive(connection.served, target, WAIT));
      expect(error).toBeInstanceOf(ClosedError);
      expect(error.syscall).toBe(syscall);
      expect(target.every((byte) => byte === CANARY)).toBe(true);
    });
  });

  test("sendSync() sends a string as UTF-8, and trySend() refuses one", () => {
    using connection = new Connection(kind);
    const text = "grüße 🦊";
    expect(connection.client.sendSync(text)).toBe(Buffer.byteLength(text));
    expect(receiveText(connection.served)).toBe(text);
    const run = () => connection.client.trySend(text as unknown as Data);
    expect(run).toThrow(
      new TypeError("Cannot use a value of type string as data: expected a view"),
    );
  });

  test("receiveBytes gives new memory of exactly what came", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    expect(served.tryReceiveBytes(8)).toBeUndefined();
    client.sendSync("first");
    const first = served.receiveBytesSync(8, WAIT);
    client.sendSync("second");
    const second = served.receiveBytesSync(3, WAIT);
    expect([first, second].map((bytes) => Buffer.from(bytes).toString())).toEqual(["first", "sec"]);
    expect([first.buffer.byteLength, second.buffer.byteLength]).toEqual([5, 3]);
    if (isStream) expect(receiveText(served)).toBe("ond");
    client.sendSync("peeked");
    expect(served.receiveBytesSync(4, { ...WAIT, flags: MSG_PEEK })).toHaveLength(4);
    expect(Buffer.from(served.tryReceiveBytes(64) ?? []).toString()).toBe("peeked");
    const error = systemErrorOf(() => served.receiveBytesSync(8, { timeoutMs: 5 }));
    expect([error.name, error.syscall]).toEqual(["TimeoutError", "recv"]);
    if (kind.type === "datagram") return;
    client.close();
    expect(served.receiveBytesSync(8, WAIT)).toHaveLength(0);
    expect(served.tryReceiveBytes(8)).toHaveLength(0);
  });

  test.each([0, -1, 0.5, Number.NaN, 2 ** 31])(
    "receiveBytes refuses %d as bytesMax",
    (bytesMax) => {
      using connection = new Connection(kind);
      connection.client.sendSync("kept");
      for (const run of [
        () => connection.served.tryReceiveBytes(bytesMax),
        () => connection.served.receiveBytesSync(bytesMax, WAIT),
      ])
        expect(run).toThrow(
          new RangeError(`Cannot use ${bytesMax} as bytesMax: expected 1 to 2147483647`),
        );
      expect(receiveText(connection.served)).toBe("kept");
    },
  );

  test("receiveFrom tells of a sender where the kernel does", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    client.sendSync("from");
    const received = served.receiveFromSync(new Uint8Array(8), WAIT);
    expect(received).toMatchObject({ length: 4, originalLength: 4, flags: 0 });
    if (isStream) expect(received.address).toBeUndefined();
    else expect(`${received.address}`).toBe(`${client.localAddress}`);
  });

  test("MSG_TRUNC and receiveFrom tell how long a cut record was", () => {
    if (isStream) return;
    using connection = new Connection(kind);
    const { client, served } = connection;
    for (let i = 0; i < 3; i++) client.sendSync("0123456789");
    const memory = Buffer.alloc(8, CANARY);
    expect(served.receiveSync(memory.subarray(2, 6), { ...WAIT, flags: MSG_TRUNC })).toBe(10);
    expect(memory.toString("latin1")).toBe("\xa5\xa50123\xa5\xa5");
    const cut = served.receiveFromSync(new Uint8Array(4), WAIT);
    expect([cut.length, cut.originalLength, cut.flags]).toEqual([4, 10, MSG_TRUNC]);
    const message = new Message({ vectors: new Uint8Array(4) });
    expect(served.receiveMessageSync(message, WAIT)).toBe(4);
    expect([message.flags & MSG_TRUNC, message.originalLength]).toEqual([MSG_TRUNC, 10]);
  });

  type Wait = [name: string, syscall: string, run: (socket: Socket, timeoutMs: number) => unknown];
  const receiveWaits: Wait[] = receiveForms
    .filter(([, , waits]) => waits)
    .map(([name, syscall, , receive]) => [
      name,
      syscall,
      (socket, timeoutMs) => receive(socket, new Uint8Array(8), { timeoutMs }),
    ]);
  const sendWaits: Wait[] = sendForms
    .filter(([, , waits]) => waits)
    .map(([name, syscall, , send]) => [
      name,
      syscall,
      (socket, timeoutMs) => {
        // What TCP has no room for now it may have room for in a moment.
        using _ = replaceLibc(syscall as "send", () => () => failWith(EAGAIN));
        return send(socket, new Uint8Array(8), { timeoutMs }, undefined);
      },
    ]);
  const waitAll: Wait = [
    "receiveSync with MSG_WAITALL",
    "recv",
    (socket, timeoutMs) => socket.receiveSync(new Uint8Array(8), { timeoutMs, flags: MSG_WAITALL }),
  ];
  const bytesWait: Wait = [
    "receiveBytesSync",
    "recv",
    (socket, timeoutMs) => socket.receiveBytesSync(8, { timeoutMs }),
  ];
  const timeouts = [
    ...receiveWaits,
    bytesWait,
    ...(isStream ? [waitAll] : []),
    // UDP to a socket with a full queue is lost instead.
    ...(kind.type === "datagram" && kind.family !== "unix" ? [] : sendWaits),
  ];
  describe.each(timeouts)("%s()", (_name, syscall, run) => {
    const wakes: [name: string, poll: () => number][] = [
      ["woken for nothing", () => 1],
      ["interrupted", () => failWith(EINTR)],
    ];
    test.each(wakes)("%s waits again, to the same deadline", (_, poll) => {
      using connection = new Connection(kind);
      using clock = stoppedClock();
      using fault = replaceLibc("poll", () => () => {
        clock.now += 5;
        return poll();
      });
      const error = systemErrorOf(() => run(connection.client, 20));
      expect([error.name, error.code, error.syscall]).toEqual([
        "TimeoutError",
        "ETIMEDOUT",
        syscall,
      ]);
      expect(fault.calls).toBe(4);
    });

    test("of 0 ms is one try, without poll(2)", () => {
      using connection = new Connection(kind);
      using fault = replaceLibc("poll", (original) => original);
      expect(() => run(connection.client, 0)).toThrow(TimeoutError);
      expect(fault.calls).toBe(0);
    });

    test.each([Number.NaN, -1])("of %d ms is refused", (timeoutMs) => {
      using connection = new Connection(kind);
      expect(() => run(connection.client, timeoutMs)).toThrow(
        new RangeError(`Cannot use ${timeoutMs} as timeoutMs: expected 0 or more milliseconds`),
      );
    });
  });
});

function nativeBytes(values: readonly number[]): Uint8Array {
  const { bytes } = new NativeBuffer(4096);
  bytes.set(values, 4096 - values.length);
  return bytes.subarray(4096 - values.length);
}

function detachedView(): Uint8Array {
  const view = new Uint8Array(new ArrayBuffer(64));
  view.buffer.transfer();
  return view;
}

describe.each(byteStreams)("a $family stream", (kind) => {
  test("receiveBytes() refuses MSG_TRUNC, which would throw the bytes away", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    client.sendSync("kept");
    for (const receive of ["tryReceiveBytes", "receiveBytesSync"] as const)
      expect(() => served[receive](9, { flags: MSG_TRUNC })).toThrow(RangeError);
    expect(`${Buffer.from(served.receiveBytesSync(9, WAIT))}`).toBe("kept");
  });

  test("sends what fits, and nothing is lost or doubled on the way", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    const data = Buffer.from(crypto.getRandomValues(new Uint8Array(65536)));
    const whole = Buffer.concat(Array.from({ length: 64 }, (_, i) => data.subarray(i)));
    const came: Buffer[] = [];
    let sent = 0;
    let partial = 0;
    let refused = 0;
    while (sent < whole.length) {
      const result = client.trySend(whole.subarray(sent));
      if (result === undefined) {
        refused++;
        came.push(Buffer.from(served.receiveBytesSync(1 << 20, WAIT)));
      } else {
        if (result < whole.length - sent) partial++;
        sent += result;
      }
    }
    client.shutdown("write");
    for (;;) {
      const bytes = served.receiveBytesSync(1 << 20, WAIT);
      if (bytes.length === 0) break;
      came.push(Buffer.from(bytes));
    }
    expect(Buffer.concat(came).equals(whole)).toBe(true);
    expect([partial > 0, refused > 0]).toEqual([true, true]);
  });

  test.each(["sendSync", "sendMessageSync"] as const)("%s() waits for room and sends", (name) => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    const data = Buffer.from("behind all that");
    let left = fill(client) + data.length;
    let last = Buffer.alloc(0);
    const drain = (rest: number) => {
      while (left > rest) {
        // At once: it is called from inside of a wait, and a thread has only one.
        const came = served.tryReceiveBytes(Math.min(left - rest, 1 << 20));
        if (came === undefined) continue;
        last = Buffer.from(came);
        left -= last.length;
      }
    };
    using _ = whileWaiting(() => drain(data.length));
    const sent =
      name === "sendSync"
        ? client.sendSync(data, WAIT)
        : client.sendMessageSync(asMessage(data), WAIT);
    expect(sent).toBe(data.length);
    drain(data.length);
    drain(0);
    expect(last.toString()).toBe("behind all that");
  });

  test("names no sender", () => {
    using connection = new Connection(kind);
    connection.client.sendSync("who");
    const message = new Message({ vectors: new Uint8Array(8) });
    connection.served.receiveMessageSync(message, WAIT);
    expect(message.address).toBeUndefined();
  });

  describe("MSG_WAITALL", () => {
    const flags = MSG_WAITALL;

    test("waits until the target is full", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      client.sendSync("abc");
      const target = Buffer.alloc(16, CANARY);
      using _ = whileWaiting(() => client.sendSync("defghijk"));
      expect(served.receiveSync(target.subarray(4, 12), { ...WAIT, flags })).toBe(8);
      expect(target.toString("latin1")).toBe("\xa5\xa5\xa5\xa5abcdefgh\xa5\xa5\xa5\xa5");
      expect(receiveText(served)).toBe("ijk");
    });

    test.each([
      ["a DataView", (memory: ArrayBuffer) => new DataView(memory, 8, 8)],
      ["a Float64Array", (memory: ArrayBuffer) => new Float64Array(memory, 8, 1)],
      ["a Uint16Array", (memory: ArrayBuffer) => new Uint16Array(memory, 8, 4)],
    ])("fills %s in bytes", (_, make) => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      const memory = new Uint8Array(24).fill(CANARY);
      client.sendSync("123");
      using _wait = whileWaiting(() => client.sendSync("45678 and more"));
      expect(served.receiveSync(make(memory.buffer), { ...WAIT, flags })).toBe(8);
      expect(Buffer.from(memory.buffer, 8, 8).toString()).toBe("12345678");
      memory.fill(CANARY, 8, 16);
      expect(memory.every((byte) => byte === CANARY)).toBe(true);
      expect(receiveText(served)).toBe(" and more");
    });

    test("ends with the stream, and returns what came", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      client.sendSync("abc");
      using _ = whileWaiting(() => client.shutdown("write"));
      const target = Buffer.alloc(8, CANARY);
      expect(served.receiveSync(target, { ...WAIT, flags })).toBe(3);
      expect(target.toString("latin1", 0, 4)).toBe("abc\xa5");
      expect(served.receiveSync(target, { ...WAIT, flags })).toBe(0);
    });

    test("that runs out of time says how many bytes came, and they are in the target", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      client.sendSync("abc");
      const target = Buffer.alloc(8, CANARY);
      const started = performance.now();
      const error = systemErrorOf(() => served.receiveSync(target, { timeoutMs: 20, flags }));
      expect(performance.now() - started).toBeGreaterThanOrEqual(20);
      expect([error.name, error.syscall, error.transferred]).toEqual(["TimeoutError", "recv", 3]);
      expect(target.toString("latin1", 0, 4)).toBe("abc\xa5");
      const again = systemErrorOf(() => served.receiveSync(target, { timeoutMs: 1, flags }));
      expect(again.transferred).toBeUndefined();
    });

    // Of these a caller would not get what has come when the time runs out.
    test.each(["receiveBytesSync", "receiveFromSync", "receiveMessageSync"] as const)(
      "of %s() is refused, and loses nothing",
      (name) => {
        using connection = new Connection(kind);
        const { client, served } = connection;
        client.sendSync("abc");
        const options = { timeoutMs: 5, flags: flags | MSG_DONTWAIT };
        const target = Buffer.alloc(6);
        const run = () =>
          name === "receiveBytesSync"
            ? served.receiveBytesSync(6, options)
            : name === "receiveFromSync"
              ? served.receiveFromSync(target, options)
              : served.receiveMessageSync(new Message({ vectors: [target] }), options);
        expect(run).toThrow(
          new RangeError("Cannot use MSG_WAITALL here: receiveSync fills a whole target"),
        );
        expect(receiveText(served)).toBe("abc");
      },
    );

    test("of a try form takes what there is", () => {
      using connection = new Connection(kind);
      connection.client.sendSync("abc");
      expect(connection.served.receiveSync(new Uint8Array(1), { ...WAIT, flags: MSG_PEEK })).toBe(
        1,
      );
      expect(connection.served.tryReceive(new Uint8Array(8), { flags })).toBe(3);
    });

    test.each([MSG_PEEK, MSG_OOB])("together with the flags %d is refused", (other) => {
      using connection = new Connection(kind);
      connection.client.sendSync("abc");
      const target = Buffer.alloc(6);
      const run = () => connection.served.receiveSync(target, { ...WAIT, flags: flags | other });
      expect(run).toThrow(
        new RangeError("Cannot use MSG_WAITALL together with MSG_PEEK or MSG_OOB"),
      );
      expect(receiveText(connection.served)).toBe("abc");
    });

    test("refuses an empty target and what is no view, and loses nothing", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      client.sendSync("abc");
      const options = { ...WAIT, flags };
      expect(() => served.receiveSync(new Uint8Array(0), options)).toThrow(RangeError);
      expect(() => served.receiveSync(detachedView(), options)).toThrow(TypeError);
      expect(() => served.receiveSync(4096 as unknown as Uint8Array, options)).toThrow(TypeError);
      expect(receiveText(served)).toBe("abc");
    });

    test("of a connection that breaks says how many bytes came before", () => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      client.sendSync("abc");
      const target = Buffer.alloc(8);
      let calls = 0;
      using _ = replaceLibc("recv", (original) => (...values) => {
        // ECONNRESET
        return ++calls === 1 ? original(...values) : failWith(104);
      });
      const error = systemErrorOf(() => served.receiveSync(target, { ...WAIT, flags }));
      expect([error.code, error.syscall, error.transferred]).toEqual(["ECONNRESET", "recv", 3]);
    });
  });

  test("MSG_OOB sends and receives urgent data beside the stream", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    expect(client.sendSync("before!", { flags: MSG_OOB })).toBe(7);
    client.sendSync("after");
    // A receive stops at the mark.
    expect(receiveText(served)).toBe("before");
    const message = new Message({ vectors: new Uint8Array(4) });
    expect(served.receiveMessageSync(message, { ...WAIT, flags: MSG_OOB })).toBe(1);
    expect((message.vectors[0] as Uint8Array)[0]).toBe("!".charCodeAt(0));
    expect(message.flags & MSG_OOB).toBe(MSG_OOB);
    expect(receiveText(served)).toBe("after");
    expect(systemErrorOf(() => served.tryReceive(new Uint8Array(1), { flags: MSG_OOB })).code).toBe(
      "EINVAL",
    );
  });

  test("a reset connection reports ECONNRESET once and then the end", () => {
    if (kind.family === "unix") return;
    using connection = new Connection(kind);
    const { client, served } = connection;
    reset(served);
    const target = new Uint8Array(8);
    const error = systemErrorOf(() => client.receiveSync(target, WAIT));
    expect([error.code, error.syscall]).toEqual(["ECONNRESET", "recv"]);
    expect(client.receiveSync(target, WAIT)).toBe(0);
    expect(systemErrorOf(() => client.trySend(target)).code).toBe("EPIPE");
  });
});

describe.each(inetStreams)("over $family TCP", (kind) => {
  test("MSG_MORE holds data back until the next send, and both arrive together", () => {
    // tcp(7): "a 200 millisecond ceiling on the time for which output is corked".
    for (let tries = 0; tries < 20; tries++) {
      using connection = new Connection(kind);
      const { client, served } = connection;
      const started = performance.now();
      client.sendSync("held ", { flags: MSG_MORE });
      const early = served.tryReceive(new Uint8Array(16));
      client.sendSync("back");
      if (performance.now() - started > 100) continue;
      expect(early).toBeUndefined();
      expect(receiveText(served)).toBe("held back");
      return;
    }
    throw new Error("Expected two sends within 100 ms");
  });

  test("MSG_TRUNC throws the bytes away unread, as it says", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    client.sendSync("abcdef");
    const target = Buffer.alloc(3, CANARY);
    expect(served.receiveSync(target, { ...WAIT, flags: MSG_TRUNC })).toBe(3);
    expect(target.every((byte) => byte === CANARY)).toBe(true);
    expect(receiveText(served)).toBe("def");
  });
});

const inetDatagrams = datagrams.filter(({ family }) => family !== "unix");
test.each(inetDatagrams)("MSG_MORE makes one $family datagram of several sends", (kind) => {
  using connection = new Connection(kind);
  const { client, served } = connection;
  client.sendSync("one ", { flags: MSG_MORE });
  client.sendMessageSync(asMessage(Buffer.from("datagram ")), { flags: MSG_MORE });
  expect(served.tryReceive(new Uint8Array(1))).toBeUndefined();
  client.sendSync("of three");
  expect(receiveText(served)).toBe("one datagram of three");
  expect(served.tryReceive(new Uint8Array(1))).toBeUndefined();
});

describe.each([seqpacket, ...datagrams])("over $family $type", (kind) => {
  test("records keep their boundaries, whatever is sent and received with", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    const records = ["", "a", "bb", "", "x".repeat(1000)];
    const flags = kind.type === "seqpacket" ? MSG_EOR : 0;
    for (const [i, record] of records.entries()) {
      if (i % 2 === 0) client.sendSync(record, { flags });
      else client.sendMessageSync(asMessage(Buffer.from(record)), { flags });
    }
    const target = Buffer.alloc(2000);
    for (const record of records) {
      expect(served.receiveSync(target, WAIT)).toBe(record.length);
      expect(target.toString("utf8", 0, record.length)).toBe(record);
    }
    expect(served.tryReceive(target)).toBeUndefined();
  });

  test("a record is sent whole or not at all", () => {
    using connection = new Connection(kind, { sendBufferBytes: 4096 });
    const { client, served } = connection;
    const long = new Uint8Array(2 ** 20);
    const error = systemErrorOf(() => client.trySend(long));
    expect([error.code, error.syscall]).toEqual(["EMSGSIZE", "send"]);
    expect(error.hint).toBe(
      kind.family === "unix"
        ? "A message must fit the send buffer: see sendBufferBytes"
        : "A datagram carries at most 65507 bytes over IPv4 and 65527 over IPv6",
    );
    expect(served.tryReceive(new Uint8Array(1))).toBeUndefined();
  });
});

describe("a Unix seqpacket connection", () => {
  const ways: [name: string, make: () => Disposable & { client: Socket; served: Socket }][] = [
    ["accepted", () => new Connection(seqpacket)],
    ["a pair", makePair],
    [
      "a pair that was adopted",
      () => {
        const pair = makePair();
        const [client, served] = [pair.client, pair.served].map((end) =>
          Socket.adopt(end.detach(), { own: true }),
        ) as [Socket, Socket];
        return withBoth(client, served);
      },
    ],
    [
      "a duplicate",
      () => {
        const pair = makePair();
        const served = pair.served.duplicate();
        pair.served.close();
        return withBoth(pair.client, served);
      },
    ],
    [
      "a connecting client",
      () => {
        const connection = new Connection(seqpacket);
        return withBoth(connection.served, connection.client);
      },
    ],
  ];

  test.each(ways)("of %s tells an empty record from the end by MSG_EOR", (_, make) => {
    using ends = make();
    const { client, served } = ends;
    client.sendSync("one");
    client.sendSync("");
    client.sendSync("", { flags: MSG_EOR });
    client.close();
    const message = new Message({ vectors: new Uint8Array(8), controlBytes: 64 });
    message.control.fill(CANARY);
    for (const length of [3, 0, 0]) {
      expect(served.receiveMessageSync(message, WAIT)).toBe(length);
      expect([message.flags & MSG_EOR, message.flags & MSG_CTRUNC]).toEqual([MSG_EOR, 0]);
      // What tells them apart is not the caller's.
      expect(message.controlLength).toBe(0);
    }
    for (let round = 0; round < 2; round++) {
      expect(served.receiveMessageSync(message, WAIT)).toBe(0);
      expect(message.flags & MSG_EOR).toBe(0);
    }
    expect(message.control.every((byte) => byte === CANARY)).toBe(true);
  });

  test("tells records that came before it was accepted", () => {
    using listener = listening(seqpacket);
    using client = create(seqpacket);
    client.connectSync(listener.localAddress, WAIT);
    client.sendSync("");
    client.close();
    using served = listener.acceptSync(WAIT);
    const message = new Message({ vectors: new Uint8Array(8) });
    expect(served.receiveMessageSync(message, WAIT)).toBe(0);
    expect(message.flags & MSG_EOR).toBe(MSG_EOR);
    expect(served.receiveMessageSync(message, WAIT)).toBe(0);
    expect(message.flags & MSG_EOR).toBe(0);
  });

  test("says only what the kernel said in the flags of a message", () => {
    using ends = makePair();
    ends.client.sendSync("x");
    const message = new Message({ vectors: new Uint8Array(8) });
    ends.served.receiveMessageSync(message, WAIT);
    expect(message.flags).toBe(MSG_EOR);
  });

  test("tells an empty record also when the caller wants the timestamps himself", () => {
    using ends = makePair();
    const { client, served } = ends;
    served.setRawOption(SOL_SOCKET, SO_TIMESTAMP, 1);
    using copy = served.duplicate();
    for (const receiver of [served, copy]) {
      client.sendSync("");
      const message = new Message({ vectors: new Uint8Array(8), controlBytes: 64 });
      expect(receiver.receiveMessageSync(message, WAIT)).toBe(0);
      // CMSG_SPACE(sizeof(struct timeval))
      expect([message.flags, message.controlLength]).toEqual([MSG_EOR, 32]);
    }
    // Without timestamps it cannot be told from the end; a record of bytes can.
    served.setRawOption(SOL_SOCKET, SO_TIMESTAMP, 0);
    const message = new Message({ vectors: new Uint8Array(8), controlBytes: 64 });
    for (const [text, flags] of [
      ["x", MSG_EOR],
      ["", 0],
    ] as const) {
      client.sendSync(text);
      expect(served.receiveMessageSync(message, WAIT)).toBe(text.length);
      expect([message.flags, message.controlLength]).toEqual([flags, 0]);
    }
  });

  test("peeks at an empty record without taking it", () => {
    using ends = makePair();
    ends.client.sendSync("");
    const message = new Message({ vectors: new Uint8Array(8) });
    for (const flags of [MSG_PEEK, MSG_PEEK, 0]) {
      expect(ends.served.receiveMessageSync(message, { ...WAIT, flags })).toBe(0);
      expect(message.flags & MSG_EOR).toBe(MSG_EOR);
    }
    expect(ends.served.tryReceiveMessage(message)).toBeUndefined();
  });

  test("gives undefined when it is full, and has room again after a receive", () => {
    using ends = makePair();
    const { client, served } = ends;
    let sent = 0;
    const record = new Uint8Array(1000);
    while (client.trySend(record) !== undefined) sent++;
    expect(sent).toBeGreaterThan(5);
    const error = systemErrorOf(() => client.sendSync(record, { timeoutMs: 10 }));
    expect([error.name, error.syscall, error.transferred]).toEqual([
      "TimeoutError",
      "send",
      undefined,
    ]);
    using _ = whileWaiting(() => {
      for (let i = 0; i < sent; i++) expect(served.tryReceive(new Uint8Array(0))).toBe(0);
    });
    expect(client.sendSync("room", WAIT)).toBe(4);
    expect(receiveText(served)).toBe("room");
  });
});

function makePair(): Disposable & { client: Socket; served: Socket } {
  const [client, served] = Socket.pair({ type: "seqpacket" });
  return withBoth(client, served);
}

function withBoth(client: Socket, served: Socket) {
  return {
    client,
    served,
    [Symbol.dispose]() {
      client.close();
      served.close();
    },
  };
}

describe.each(connections)("batches on $family $type", (kind) => {
  const calls: [name: string, run: (socket: Socket, batch: DatagramBatch) => unknown][] = [
    ["tryReceiveBatch", (socket, batch) => socket.tryReceiveBatch(batch)],
    ["receiveBatchSync", (socket, batch) => socket.receiveBatchSync(batch, WAIT)],
    ["trySendBatch", (socket, batch) => socket.trySendBatch(batch)],
    ["sendBatchSync", (socket, batch) => socket.sendBatchSync(batch, 0, WAIT)],
  ];
  test.each(calls)("%s() is refused and moves nothing", (_, run) => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    using batch = new DatagramBatch({ capacity: 2 });
    batch.count = 1;
    batch.write(0, "never sent");
    client.sendSync("kept");
    expect(() => run(served, batch)).toThrow(
      new TypeError(`Cannot use a batch on a ${kind.type} socket: expected a datagram one`),
    );
    expect([batch.count, Buffer.from(batch.view(0)).toString()]).toEqual([1, "never sent"]);
    expect(receiveText(served)).toBe("kept");
    expect(client.tryReceive(new Uint8Array(1))).toBeUndefined();
  });
});

describe.each(connections)("shutdown() of $family $type", (kind) => {
  test('"write" gives the peer what was sent, then the end; receiving goes on', () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    client.sendSync("last");
    client.shutdown("write");
    expect(receiveText(served)).toBe("last");
    for (let round = 0; round < 2; round++)
      expect(served.receiveSync(new Uint8Array(8), WAIT)).toBe(0);
    for (const run of [() => client.trySend(Buffer.from("x")), () => client.sendSync("x")]) {
      const error = systemErrorOf(run);
      expect([error.code, error.syscall]).toEqual(["EPIPE", "send"]);
    }
    served.sendSync("answer");
    expect(receiveText(client)).toBe("answer");
    expect(client.connected).toBe(true);
  });

  test('"read" gives what has come, then the end; sending goes on', () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    served.sendSync("before");
    expect(client.receiveSync(new Uint8Array(1), { ...WAIT, flags: MSG_PEEK })).toBe(1);
    client.shutdown("read");
    expect(receiveText(client)).toBe("before");
    expect(client.receiveSync(new Uint8Array(8), WAIT)).toBe(0);
    client.sendSync("still");
    expect(receiveText(served)).toBe("still");
    if (kind.family === "unix") {
      expect(systemErrorOf(() => served.trySend(Buffer.from("x"))).code).toBe("EPIPE");
    } else {
      // Linux still takes what comes later.
      served.sendSync("later");
      expect(receiveText(client)).toBe("later");
    }
  });

  test('"both" ends both, and the socket stays open', () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    client.shutdown("both");
    expect(client.receiveSync(new Uint8Array(8), WAIT)).toBe(0);
    expect(served.receiveSync(new Uint8Array(8), WAIT)).toBe(0);
    expect(systemErrorOf(() => client.trySend(Buffer.from("x"))).code).toBe("EPIPE");
    expect(isOpen(client.descriptor)).toBe(true);
  });

  test("again and in every order does no harm", () => {
    for (const directions of [
      ["write", "write", "both"],
      ["read", "read", "write"],
      ["both", "read"],
    ] as const) {
      using connection = new Connection(kind);
      for (const direction of directions) connection.client.shutdown(direction);
      expect(connection.served.receiveSync(new Uint8Array(8), WAIT)).toBe(0);
    }
  });

  test.each(["rd", "READ", "", "toString", "__proto__", 0, null, undefined])(
    "of %p is refused, and ends nothing",
    (direction) => {
      using connection = new Connection(kind);
      const { client, served } = connection;
      const run = () => client.shutdown(direction as "read");
      expect(run).toThrow(TypeError);
      expect(run).toThrow('expected "read", "write" or "both"');
      client.sendSync("still");
      served.sendSync("open");
      expect([receiveText(served), receiveText(client)]).toEqual(["still", "open"]);
    },
  );
});

test.each([...inetStreams, ...inetDatagrams])(
  "shutdown() of a $family $type without a peer is ENOTCONN",
  (kind) => {
    using made = create(kind);
    for (const direction of ["read", "write", "both"] as const) {
      const error = systemErrorOf(() => made.shutdown(direction));
      expect([error.code, error.syscall]).toEqual(["ENOTCONN", "shutdown"]);
    }
  },
);

// unix(7) has no such error: the kernel marks the socket, whether it has a peer or not.
test.each([byteStreams[2] as Kind, seqpacket, datagrams[2] as Kind])(
  "shutdown() of a Unix $type without a peer is taken",
  (kind) => {
    using made = create(kind);
    made.shutdown("both");
    expect(made.connected).toBe(false);
  },
);

describe.each(kinds)("after close() of $family $type", (kind) => {
  const message = () => new Message({ vectors: new Uint8Array(8) });
  const slots = (count: number) => {
    const batch = new DatagramBatch({ capacity: 1 });
    batch.count = count;
    return batch;
  };
  const to = kind.free === "unix:" ? "unix:@nobody" : kind.free.replace(/0$/, "9");
  const byte = new Uint8Array(1);
  const calls: [name: string, syscall: string, run: (socket: Socket) => unknown][] = [
    ["protocol", "getsockopt", (socket) => socket.protocol],
    ["bind()", "bind", (socket) => socket.bind(kind.free)],
    ["tryConnect()", "connect", (socket) => socket.tryConnect(to)],
    ["connectSync()", "connect", (socket) => socket.connectSync(to, WAIT)],
    ["disconnect()", "connect", (socket) => socket.disconnect()],
    ["listen()", "listen", (socket) => socket.listen()],
    ["tryAccept()", "accept4", (socket) => socket.tryAccept()],
    ["acceptSync()", "accept4", (socket) => socket.acceptSync(WAIT)],
    ["localAddress", "getsockname", (socket) => socket.localAddress],
    ["remoteAddress", "getpeername", (socket) => socket.remoteAddress],
    ["receiveBuffer", "getsockopt", (socket) => socket.receiveBuffer],
    ["sendBuffer", "getsockopt", (socket) => socket.sendBuffer],
    ["inheritable", "fcntl", (socket) => socket.inheritable],
    [
      "setting inheritable",
      "fcntl",
      (socket) => {
        socket.inheritable = true;
      },
    ],
    ["getRawOption()", "getsockopt", (socket) => socket.getRawOption(SOL_SOCKET, SO_TYPE)],
    ["setRawOption()", "setsockopt", (socket) => socket.setRawOption(SOL_SOCKET, SO_BROADCAST, 1)],
    ["trySend()", "send", (socket) => socket.trySend(byte)],
    ["sendSync()", "send", (socket) => socket.sendSync("x", WAIT)],
    ["trySendTo()", "sendto", (socket) => socket.trySendTo(byte, to)],
    ["sendToSync()", "sendto", (socket) => socket.sendToSync("x", to, WAIT)],
    ["trySendMessage()", "sendmsg", (socket) => socket.trySendMessage(message())],
    ["sendMessageSync()", "sendmsg", (socket) => socket.sendMessageSync(message(), WAIT)],
    ["tryReceive()", "recv", (socket) => socket.tryReceive(byte)],
    ["receiveSync()", "recv", (socket) => socket.receiveSync(byte, WAIT)],
    ["tryReceiveBytes()", "recv", (socket) => socket.tryReceiveBytes(1)],
    ["receiveBytesSync()", "recv", (socket) => socket.receiveBytesSync(1, WAIT)],
    ["tryReceiveFrom()", "recvfrom", (socket) => socket.tryReceiveFrom(byte)],
    ["receiveFromSync()", "recvfrom", (socket) => socket.receiveFromSync(byte, WAIT)],
    ["tryReceiveMessage()", "recvmsg", (socket) => socket.tryReceiveMessage(message())],
    ["receiveMessageSync()", "recvmsg", (socket) => socket.receiveMessageSync(message(), WAIT)],
    ["shutdown()", "shutdown", (socket) => socket.shutdown("both")],
    ["duplicate()", "fcntl", (socket) => socket.duplicate()],
    ["detach()", "detach", (socket) => socket.detach()],
    ...((kind.type === "datagram"
      ? [
          ["trySendBatch()", "sendmmsg", (socket: Socket) => socket.trySendBatch(slots(1))],
          ["sendBatchSync()", "sendmmsg", (socket: Socket) => socket.sendBatchSync(slots(0))],
          ["tryReceiveBatch()", "recvmmsg", (socket: Socket) => socket.tryReceiveBatch(slots(0))],
          [
            "receiveBatchSync()",
            "recvmmsg",
            (socket: Socket) => socket.receiveBatchSync(slots(0), WAIT),
          ],
        ]
      : []) as [string, string, (socket: Socket) => unknown][]),
  ];
  // A stream has no disconnect(), open or closed, but says so after it has said that it is closed.
  test.each(calls)("%s is a ClosedError", (_, syscall, run) => {
    const socket = create(kind);
    socket.close();
    const before = openDescriptors();
    const error = systemErrorOf(() => run(socket));
    expect(error).toBeInstanceOf(ClosedError);
    expect([error.code, error.errno, error.syscall]).toEqual(["EBADF", -9, syscall]);
    expect(openDescriptors()).toBe(before);
  });

  test("descriptor is -1 and connected is false; closing again does nothing", () => {
    using connection = new Connection(kind);
    const { client, served } = connection;
    const { descriptor } = client;
    client.close();
    expect([client.descriptor, client.connected]).toEqual([-1, false]);
    // The next one has the same number: closing the old one again must not touch it.
    using next = create(kind);
    expect(next.descriptor).toBe(descriptor);
    client.close();
    client[Symbol.dispose]();
    expect(isOpen(next.descriptor)).toBe(true);
    served.close();
  });

  test("using closes at the end of the block, also when it throws", () => {
    const before = openDescriptors();
    expect(() => {
      using made = create(kind);
      using connection = new Connection(kind);
      expect(openDescriptors()).toBeGreaterThan(before + 2);
      throw new Error(`${made.family} ${connection.client.type} leaves the block`);
    }).toThrow(`${kind.family} ${kind.type} leaves the block`);
    expect(openDescriptors()).toBe(before);
  });

  test("close() neither throws nor tries again when the kernel reports an error", () => {
    const socket = create(kind);
    using fault = replaceLibc("close", (original) => (fd) => {
      original(fd);
      return failWith(EINTR);
    });
    socket.close();
    socket.close();
    expect(fault.calls).toBe(1);
  });
});

describe("new Socket()", () => {
  const plain = Socket as unknown as new (parts?: unknown) => Socket;
  const wrong: [name: string, value: unknown][] = [
    ["nothing", undefined],
    ["null", null],
    ["a number", 3],
    ["an object", { descriptor: { fd: 3 }, domain: AF_UNIX, type: SOCK_STREAM, protocol: 0 }],
    ["a string", "unix"],
  ];
  test.each(wrong)("of %s from plain JavaScript is refused", (_, value) => {
    const before = openDescriptors();
    const message = "Cannot construct a socket: expected a call of create, pair or adopt";
    for (const Class of [plain, UdpSocket as unknown as typeof plain, class extends plain {}])
      expect(() => new Class(value)).toThrow(new TypeError(message));
    expect(openDescriptors()).toBe(before);
  });

  test("of another socket is refused", () => {
    using made = Socket.create("unix", "stream");
    for (const value of [made, Object.create(Socket.prototype)])
      expect(() => new plain(value)).toThrow(TypeError);
  });

  test("methods taken from it refuse what is no socket", () => {
    const { close: closeIt, trySend, tryReceive, detach } = Socket.prototype;
    for (const value of [{}, Object.create(Socket.prototype), null]) {
      for (const run of [
        () => closeIt.call(value as Socket),
        () => trySend.call(value as Socket, new Uint8Array(1)),
        () => tryReceive.call(value as Socket, new Uint8Array(1)),
        () => detach.call(value as Socket),
      ])
        expect(run).toThrow(TypeError);
    }
  });
});
