/**
 * Every C function of the libc table, forced to fail: what the function of lib/sys returns, what
 * each public method that uses it does, and that nothing leaks and no state is spoilt. What the
 * kernel would not give on demand is put into the table: see support/faults.ts.
 */
import { afterAll, beforeAll, describe, expect, spyOn, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type BatchSubscription,
  type Capabilities,
  ClosedError,
  DatagramBatch,
  hostName,
  Inet6Address,
  interfaceName,
  interfaceNames,
  interfaces,
  ipAddresses,
  listenFds,
  Message,
  NativeBuffer,
  NetworkInterface,
  options,
  poll,
  poller,
  pollSync,
  Socket,
  SocketOption,
  StreamSocket,
  SystemError,
  serviceByName,
  serviceByPort,
  TimeoutError,
  tryPoll,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import * as sys from "bun-sockets/sys";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import { mapDescriptor, mapMemory } from "../../lib/ffi/memory.ts";
import { engine } from "../../lib/internal/poller_engine.ts";
import { failWith, MAP_FAILED, replaceEntry } from "../support/faults.ts";

type Name = keyof Libc;
type Entry = (...values: unknown[]) => unknown;

const { EAGAIN, EINTR, EMFILE, ENOBUFS, ENOMEM, ENOSYS } = sys;
const CODES = { EINTR, EAGAIN, ENOSYS, ENOBUFS, ENOMEM, EMFILE };
type Code = keyof typeof CODES;
const codes = Object.keys(CODES) as Code[];

const LONG_MS = 5000;
const SHORT_MS = 20;
/** For what is made again as often as it is interrupted: "always" would never end. */
const OFTEN = 100;
const ROOT = join(import.meta.dir, "../..");

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-forced-"));
afterAll(() => rmSync(folder, { recursive: true }));

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Starts the poller, which opens what it needs, unless it has. */
async function startPoller(): Promise<void> {
  using socket = UdpSocket.open("ipv4");
  socket.receive(target).catch(() => {});
  while (poller.ringer === undefined) await new Promise(setImmediate);
}

beforeAll(startPoller);
afterAll(() => engine.stop());

/** What an entry returns when it fails. */
const FAILURES: Partial<Record<Name, unknown>> = {
  mmap: MAP_FAILED,
  inet_aton: 0,
  if_nametoindex: 0,
  if_indextoname: null,
  if_nameindex: null,
  getservbyname: null,
  getservbyport: null,
  getprotobyname: null,
  getprotobynumber: null,
  getaddrinfo: sys.EAI_SYSTEM,
  getnameinfo: sys.EAI_SYSTEM,
};

function fail(entry: Name, errno: number): unknown {
  // Those that keep nothing of their own return the errno itself.
  if (entry.endsWith("_r")) return errno;
  return failWith(errno, entry in FAILURES ? FAILURES[entry] : -1);
}

/** Whether a call that fails has done its work all the same, as the man page says. */
function worksAnyway(entry: Name): boolean {
  return entry === "close" || entry === "munmap";
}

/**
 * Makes the first calls of an entry fail, of those that are meant. `forced` counts them.
 */
function force(
  entry: Name,
  errno: number,
  times: number,
  isMeant: (values: readonly unknown[]) => boolean = () => true,
): { readonly forced: number } & Disposable {
  const real = libc[entry] as Entry;
  let forced = 0;
  const fault = replaceEntry(entry, ((...values: unknown[]) => {
    if (forced >= times || !isMeant(values)) return real(...values);
    forced++;
    if (worksAnyway(entry)) real(...values);
    return fail(entry, errno);
  }) as Libc[typeof entry]);
  return {
    get forced() {
      return forced;
    },
    [Symbol.dispose]: () => fault[Symbol.dispose](),
  };
}

const bytes = Buffer.alloc(256);
const words = new Uint32Array(new ArrayBuffer(8));
const pair = new Int32Array(new ArrayBuffer(8));
const pointer = new BigUint64Array(new ArrayBuffer(8));

// What of lib/sys calls which entry. The arguments do not matter: nothing gets to the kernel.
const SYS: Partial<Record<Name, readonly (() => unknown)[]>> = {
  socket: [() => sys.socket(sys.AF_INET, sys.SOCK_DGRAM, 0)],
  socketpair: [() => sys.socketpair(sys.AF_UNIX, sys.SOCK_DGRAM, 0, pair)],
  bind: [() => sys.bind(3, bytes)],
  connect: [() => sys.connect(3, bytes)],
  listen: [() => sys.listen(3, 1)],
  accept4: [() => sys.accept4(3, bytes, words, 0)],
  getsockname: [() => sys.getsockname(3, bytes, words)],
  getpeername: [() => sys.getpeername(3, bytes, words)],
  getsockopt: [() => sys.getsockopt(3, sys.SOL_SOCKET, sys.SO_TYPE, bytes, words)],
  setsockopt: [
    () => sys.setsockopt(3, sys.SOL_SOCKET, sys.SO_BROADCAST, bytes),
    () => sys.setsockopt(3, sys.SOL_SOCKET, sys.SO_BROADCAST, null, 4),
  ],
  shutdown: [() => sys.shutdown(3, sys.SHUT_RD)],
  sockatmark: [() => sys.sockatmark(3)],
  send: [() => sys.send(3, bytes, 0)],
  sendto: [() => sys.sendto(3, bytes, 0, bytes)],
  sendmsg: [() => sys.sendmsg(3, bytes, 0)],
  sendmmsg: [() => sys.sendmmsg(3, bytes, 1, 0)],
  recv: [() => sys.recv(3, bytes, 0)],
  recvfrom: [() => sys.recvfrom(3, bytes, 0, bytes, words)],
  recvmsg: [() => sys.recvmsg(3, bytes, 0)],
  recvmmsg: [() => sys.recvmmsg(3, bytes, 1, 0, null)],
  poll: [() => sys.poll(bytes, 0)],
  epoll_create1: [() => sys.epoll_create1(0)],
  epoll_ctl: [() => sys.epoll_ctl(3, 1, 4, bytes)],
  epoll_wait: [() => sys.epoll_wait(3, bytes, 0)],
  eventfd: [() => sys.eventfd(0, 0)],
  read: [() => sys.read(3, bytes)],
  write: [() => sys.write(3, bytes)],
  sendfile: [() => sys.sendfile(3, 4, null, 1)],
  splice: [() => sys.splice(3, null, 4, null, 1, 0)],
  tee: [() => sys.tee(3, 4, 1, 0)],
  pipe2: [() => sys.pipe2(pair, 0)],
  dup: [() => sys.dup(3)],
  dup3: [() => sys.dup3(3, 4, 0)],
  fcntl: [() => sys.fcntl(3, sys.F_GETFD, 0)],
  ioctl: [() => sys.ioctl(3, 0, bytes)],
  close: [() => sys.close(-1)],
  chmod: [() => sys.chmod(bytes, 0)],
  fchmod: [() => sys.fchmod(3, 0)],
  rename: [() => sys.rename(bytes, bytes)],
  unlink: [() => sys.unlink(bytes)],
  gethostname: [() => sys.gethostname(bytes)],
  sethostname: [() => sys.sethostname(bytes)],
  clock_gettime: [() => sys.clock_gettime(0, bytes)],
  setns: [() => sys.setns(3, sys.CLONE_NEWNET)],
  renameat2: [() => sys.renameat2(3, bytes, 3, bytes, 0)],
  io_uring_setup: [() => sys.io_uring_setup(1, bytes)],
  io_uring_enter: [() => sys.io_uring_enter(3, 0, 0, 0)],
  memfd_create: [() => sys.memfd_create(bytes, 0)],
  mmap: [() => mapMemory(1), () => mapDescriptor(3, 1, 0)],
  if_nametoindex: [() => sys.if_nametoindex(bytes)],
  if_indextoname: [() => sys.if_indextoname(1, bytes)],
  if_nameindex: [() => sys.if_nameindex()],
  getifaddrs: [() => sys.getifaddrs(pointer)],
  getaddrinfo: [() => sys.getaddrinfo(bytes, null, null, pointer)],
  getnameinfo: [() => sys.getnameinfo(bytes, bytes, null, 0)],
  gethostbyname2_r: [() => sys.gethostbyname2_r(bytes, 2, bytes, bytes, pointer, pair)],
  gethostbyaddr_r: [() => sys.gethostbyaddr_r(bytes, 2, bytes, bytes, pointer, pair)],
  getservbyname: [() => sys.getservbyname(bytes, null)],
  getservbyport: [() => sys.getservbyport(1, null)],
  getservbyname_r: [() => sys.getservbyname_r(bytes, null, bytes, bytes, pointer)],
  getservbyport_r: [() => sys.getservbyport_r(1, null, bytes, bytes, pointer)],
  getprotobyname: [() => sys.getprotobyname(bytes)],
  getprotobynumber: [() => sys.getprotobynumber(1)],
  inet_aton: [() => sys.inet_aton("127.0.0.1")],
  inet_pton: [() => sys.inet_pton(sys.AF_INET, "127.0.0.1")],
};

// Entries without a row above, and why.
const EXCEPTED: Partial<Record<Name, string>> = {
  munmap: "its result means nothing to the one caller: see the test of mapMemory() below",
  mprotect: "only the helper thread's code is made executable: see helper_thread.test.ts",
  dlsym: "it looks for munmap, which opening the table has found in the same library",
  memcpy: "memcpy(3) cannot fail",
  if_freenameindex: "it returns nothing",
  freeifaddrs: "it returns nothing",
  freeaddrinfo: "it returns nothing",
  gai_strerror: "gai_strerror(3) has a text for every number",
  strerror: "strerror(3) has a text for every number",
  inet_ntop: "inet_ntop(3) fails for families and lengths that its caller never passes",
  __errno_location: "it says where errno is",
};

// Where sys returns something else than -errno.
function sysResult(entry: Name, errno: number): number | undefined {
  if (entry === "inet_aton" || entry === "inet_pton") return undefined;
  if (entry === "getaddrinfo" || entry === "getnameinfo") return errno;
  if (/^get(serv|proto)by(?!.*_r$)/.test(entry)) return 0;
  return -errno;
}

describe("lib/sys", () => {
  test("every entry of the table has a row, or a reason to have none", () => {
    const rows = [...Object.keys(SYS), ...Object.keys(EXCEPTED)];
    expect(rows.toSorted()).toEqual(Object.keys(libc).toSorted());
  });

  const rows = Object.entries(SYS).flatMap(([entry, calls]) =>
    codes.map((code) => [entry as Name, code, calls] as const),
  );
  test.each(rows)(
    "%s that fails with %s is answered at once with the errno",
    (entry, code, calls) => {
      for (const call of calls) {
        using fault = force(entry, CODES[code], Infinity);
        expect(call()).toBe(sysResult(entry, CODES[code]));
        expect(fault.forced).toBe(1);
      }
    },
  );

  const transfers = ["read", "write", "send", "sendto", "sendmsg", "sendmmsg", "recv"] as const;
  const counting = [...transfers, "recvfrom", "recvmsg", "recvmmsg", "poll", "epoll_wait"] as const;
  test.each(counting)("a short count of %s is returned as it is", (entry) => {
    const [call] = SYS[entry] ?? [];
    for (const count of [0, 1, 3]) {
      using fault = replaceEntry(entry, () => count);
      expect([call?.(), fault.calls]).toEqual([count, 1]);
    }
  });

  test("other errors of getaddrinfo and getnameinfo are returned as they are", () => {
    for (const entry of ["getaddrinfo", "getnameinfo"] as const) {
      const [call] = SYS[entry] ?? [];
      using _ = replaceEntry(entry, () => failWith(ENOMEM, sys.EAI_NONAME));
      expect(call?.()).toBe(sys.EAI_NONAME);
    }
  });

  test("mapMemory() unmaps what cannot become an ArrayBuffer, and says why it cannot", () => {
    const { mmap, munmap } = libc;
    const unmapped: unknown[] = [];
    let mapped: unknown;
    using _mmap = replaceEntry("mmap", (address, _length, ...rest) => {
      mapped = mmap(address, 4096, ...rest);
      return mapped as number;
    });
    using _munmap = replaceEntry("munmap", (address) => {
      unmapped.push(address);
      munmap(address, 4096);
      return failWith(ENOMEM);
    });
    expect(() => mapMemory(2 ** 52)).toThrow(RangeError);
    expect(unmapped).toEqual([mapped]);
  });
});

/** What a public method does when a C call under it fails. */
type Outcome =
  /** A SystemError with code, errno and the name of the C call; nothing is tried again. */
  | "throws"
  /** It makes the call again until that succeeds. */
  | "retries"
  /** It answers that it would block. */
  | "nothing"
  /** It waits and makes the call again, until its deadline. */
  | "waits"
  /** It does not depend on the call. */
  | "ignored";

/** What a method is called on. */
interface Case extends Disposable {
  readonly run: (timeoutMs: number) => unknown;
}

/** What else there is to know of a `Use`. */
interface More {
  /** The call's name in a TimeoutError, where it is not the entry's. */
  readonly waiting?: string;
  /** Which calls of the entry fail, where not all do. */
  readonly isMeant?: (values: readonly unknown[]) => boolean;
  /** Whether EMFILE comes with a hint: the call opens a socket. */
  readonly opens?: boolean;
}

/** A public method and an entry that it calls; `outcomes` has what is not "throws". */
type Use = readonly [
  entry: Name,
  method: string,
  make: () => Case,
  good: unknown,
  outcomes?: Partial<Record<Code, Outcome>>,
  more?: More,
];

const all = (outcome: Outcome) =>
  Object.fromEntries(codes.map((code) => [code, outcome])) as Record<Code, Outcome>;
const TRY = { EINTR: "retries", EAGAIN: "nothing" } as const;
const SYNC = { EINTR: "retries", EAGAIN: "waits" } as const;

function on(sockets: readonly Disposable[], run: Case["run"]): Case {
  return {
    run,
    [Symbol.dispose]() {
      for (const socket of sockets) socket[Symbol.dispose]();
    },
  };
}

/** A case that makes something each time, and closes it. */
function making(make: () => Disposable | readonly Disposable[]): () => Case {
  return () =>
    on([], () => {
      for (const made of [make()].flat()) (made as Disposable)[Symbol.dispose]();
      return "made";
    });
}

/** A UDP socket that is connected with another one. */
function onUdp(run: (udp: UdpSocket, timeoutMs: number, peer: UdpSocket) => unknown): () => Case {
  return () => {
    const [udp, peer] = [UdpSocket.bind("127.0.0.1:0"), UdpSocket.bind("127.0.0.1:0")];
    udp.connectSync(peer.localAddress);
    peer.connectSync(udp.localAddress);
    return on([udp, peer], (timeoutMs) => run(udp, timeoutMs, peer));
  };
}

const WAITING = 4;

/** The same with datagrams that wait to be received. */
function onWaiting(run: (udp: UdpSocket, timeoutMs: number) => unknown): () => Case {
  return () => {
    const [udp, peer] = [UdpSocket.bind("127.0.0.1:0"), UdpSocket.open("ipv4")];
    for (let i = 0; i < WAITING; i++) peer.sendToSync("data!", udp.localAddress);
    return on([udp, peer], (timeoutMs) => run(udp, timeoutMs));
  };
}

function listen(family: "ipv4" | "unix", type: "stream" | "seqpacket" = "stream"): Socket {
  const listener = Socket.create(family, type);
  listener.bind(family === "unix" ? UnixAddress.unnamed : "127.0.0.1:0");
  listener.listen();
  return listener;
}

/** A listener at which clients wait to be accepted. */
function onListener(
  family: "ipv4" | "unix",
  type: "stream" | "seqpacket",
  accept: (listener: Socket, timeoutMs: number) => Socket | undefined,
): () => Case {
  return () => {
    const listener = listen(family, type);
    const clients = Array.from({ length: WAITING }, () => Socket.create(family, type));
    for (const client of clients) client.connectSync(listener.localAddress, { timeoutMs: LONG_MS });
    return on([listener, ...clients], (timeoutMs) => {
      const accepted = accept(listener, timeoutMs);
      accepted?.close();
      return accepted?.type;
    });
  };
}

/** A path to bind to. A file that an attempt leaves there would be in the way of the next. */
function onPath(bind: (path: UnixAddress) => UnixDatagramSocket): () => Case {
  return () => {
    const path = join(folder, "socket");
    return on([{ [Symbol.dispose]: () => rmSync(path, { force: true }) }], () => {
      bind(new UnixAddress(path)).close();
      rmSync(path);
      return "made";
    });
  };
}

/** A file that nobody listens on stands in the way. */
function onStale(): Case {
  const path = join(folder, "socket");
  return on([{ [Symbol.dispose]: () => rmSync(path, { force: true }) }], () => {
    const local = new UnixAddress(path);
    // What an attempt that failed has left is as stale as what is put there now.
    rmSync(path, { force: true });
    UnixDatagramSocket.bind(local).close();
    UnixDatagramSocket.bind(local, { removeStale: true }).close();
    return "made";
  });
}

const isOption =
  (...names: readonly number[]) =>
  ([, , name]: readonly unknown[]) =>
    names.includes(name as number);
const only = (command: number) => ({
  isMeant: ([, value]: readonly unknown[]) => value === command,
});
const isNotCookie = (values: readonly unknown[]) => !isOption(sys.SO_COOKIE)(values);

const data = Buffer.from("data!");
const target = Buffer.alloc(8);

function messageOf(view: Uint8Array): Message {
  return new Message({ vectors: view });
}

function batchOf(...texts: readonly string[]): DatagramBatch {
  const batch = new DatagramBatch({ capacity: 8 });
  batch.count = texts.length;
  for (const [i, text] of texts.entries()) batch.write(i, text);
  return batch;
}

/** Receives one datagram by a batch, and returns its length. */
function receiveOne(receive: (batch: DatagramBatch) => number): number | undefined {
  using batch = new DatagramBatch({ capacity: 1 });
  return receive(batch) === 0 ? undefined : batch.length(0);
}

const open4 = () => UdpSocket.open("ipv4");
const bind4 = () => UdpSocket.bind("127.0.0.1:0");
const bindUnix = () => UnixDatagramSocket.bind(UnixAddress.unnamed);
const OPENS = { opens: true };
const ONLY_TEMPORARY = {
  isMeant: ([path]: readonly unknown[]) => /\/\.[0-9a-f]{8}/.test(`${path}`),
};

function adopting(own: boolean): () => Case {
  return () => {
    const udp = UdpSocket.bind("127.0.0.1:0");
    const fd = udp.detach();
    return on([{ [Symbol.dispose]: () => sys.close(fd) }], () => {
      const adopted = Socket.adopt(fd, { own });
      if (own) adopted.detach();
      else adopted.close();
      return adopted.family;
    });
  };
}

const connectNew = (family: "ipv4" | "unix") => () => {
  const listener = listen(family);
  return on([listener], (timeoutMs) => {
    using client = Socket.create(family, "stream");
    client.connectSync(listener.localAddress, { timeoutMs });
    return client.connected;
  });
};

const tryConnectNew = () => {
  const listener = listen("unix");
  return on([listener], () => {
    using client = Socket.create("unix", "stream");
    return client.tryConnect(listener.localAddress);
  });
};

const onStreams = (run: (left: Socket, timeoutMs: number, right: Socket) => unknown) => () => {
  const [left, right] = Socket.pair();
  return on([left, right], (timeoutMs) => run(left, timeoutMs, right));
};

const onUnix = (run: (unix: UnixDatagramSocket, timeoutMs: number, to: UnixAddress) => unknown) =>
  function make(): Case {
    const server = bindUnix();
    const unix = UnixDatagramSocket.open();
    return on([server, unix], (timeoutMs) => run(unix, timeoutMs, server.localAddress));
  };

const onFresh = (run: (udp: UdpSocket) => unknown) => () => {
  const udp = open4();
  return on([udp], () => run(udp));
};

const onListening = (run: (listener: Socket) => unknown) => () => {
  const listener = listen("ipv4");
  return on([listener], () => run(listener));
};

const setOption6 = () => {
  const udp = UdpSocket.open("ipv6");
  return on([udp], () => udp.setOption(SocketOption.broadcast, true));
};

function setInheritable(udp: UdpSocket): void {
  udp.inheritable = false;
}

const resolveScope = () => new Inet6Address("fe80::1%lo", 9).resolveScope().port;
const bindWithMode = onPath((path) => UnixDatagramSocket.bind(path, { mode: 0o600 }));
const acceptSeqpacket = onListener("unix", "seqpacket", (listener) => listener.tryAccept());
const BROADCAST = [sys.SOL_SOCKET, sys.SO_BROADCAST] as const;
const DEVICE = [sys.SOL_SOCKET, sys.SO_BINDTODEVICE] as const;

const MADE_WITH_OPTIONS: readonly (readonly [what: string, () => Disposable | Disposable[]])[] = [
  ["an IPv6 socket", () => UdpSocket.open("ipv6")],
  ["a socket with reuseAddress", () => UdpSocket.open("ipv4", { reuseAddress: true })],
  ["a socket with reusePort", () => UdpSocket.bind("127.0.0.1:0", { reusePort: true })],
  ["a socket with broadcast", () => Socket.create("ipv4", "datagram", { broadcast: true })],
  ["a socket with receiveBufferBytes", () => UdpSocket.open("ipv4", { receiveBufferBytes: 9000 })],
  ["a socket with sendBufferBytes", () => UnixDatagramSocket.open({ sendBufferBytes: 9000 })],
  ["a seqpacket socket", () => Socket.create("unix", "seqpacket")],
  ["a seqpacket pair", () => Socket.pair({ type: "seqpacket" })],
];

const connectUdp = onUdp((udp, timeoutMs, peer) => {
  udp.connectSync(peer.localAddress, { timeoutMs });
  return udp.connected;
});
const connectToPeer = onUdp((udp, _, peer) => udp.tryConnect(peer.localAddress));
const disconnect = onUdp((udp, _, peer) => {
  udp.connectSync(peer.localAddress);
  udp.disconnect();
  return udp.connected;
});
const ONLY_ERROR = { isMeant: isOption(sys.SO_ERROR) };
const NOT_COOKIE = { isMeant: isNotCookie };
/** connect(2) that was interrupted goes on by itself. */
const GOES_ON = { EINTR: "nothing" } as const;
const WAITS_ON = { EINTR: "waits" } as const;

// The methods that transfer something, or accept.
const TRANSFERS: readonly Use[] = [
  [
    "accept4",
    "tryAccept",
    onListener("ipv4", "stream", (listener) => listener.tryAccept()),
    "stream",
    TRY,
    OPENS,
  ],
  [
    "accept4",
    "acceptSync",
    onListener("ipv4", "stream", (listener, timeoutMs) => listener.acceptSync({ timeoutMs })),
    "stream",
    SYNC,
    OPENS,
  ],
  ["send", "trySend", onUdp((udp) => udp.trySend(data)), 5, TRY],
  ["send", "sendSync", onUdp((udp, timeoutMs) => udp.sendSync(data, { timeoutMs })), 5, SYNC],
  ["sendto", "trySendTo", onUdp((udp, _, to) => udp.trySendTo(data, to.localAddress)), 5, TRY],
  [
    "sendto",
    "sendToSync",
    onUdp((udp, timeoutMs, to) => udp.sendToSync(data, to.localAddress, { timeoutMs })),
    5,
    SYNC,
  ],
  [
    "sendto",
    "sendToSync of Unix",
    onUnix((unix, timeoutMs, to) => unix.sendToSync(data, to, { timeoutMs })),
    5,
    SYNC,
  ],
  ["sendmsg", "trySendMessage", onUdp((udp) => udp.trySendMessage(messageOf(data))), 5, TRY],
  [
    "sendmsg",
    "sendMessageSync",
    onUdp((udp, timeoutMs) => udp.sendMessageSync(messageOf(data), { timeoutMs })),
    5,
    SYNC,
  ],

  ["recv", "tryReceive", onWaiting((udp) => udp.tryReceive(target)), 5, TRY],
  [
    "recv",
    "receiveSync",
    onWaiting((udp, timeoutMs) => udp.receiveSync(target, { timeoutMs })),
    5,
    SYNC,
  ],
  ["recv", "tryReceiveBytes", onWaiting((udp) => udp.tryReceiveBytes(8)?.length), 5, TRY],
  [
    "recv",
    "receiveBytesSync",
    onWaiting((udp, timeoutMs) => udp.receiveBytesSync(8, { timeoutMs }).length),
    5,
    SYNC,
  ],
  [
    "recv",
    "receiveSync with MSG_WAITALL",
    onStreams((left, timeoutMs, right) => {
      right.sendSync("datadata");
      return left.receiveSync(target, { timeoutMs, flags: sys.MSG_WAITALL });
    }),
    8,
    SYNC,
  ],
  ["recvfrom", "tryReceiveFrom", onWaiting((udp) => udp.tryReceiveFrom(target)?.length), 5, TRY],
  [
    "recvfrom",
    "receiveFromSync",
    onWaiting((udp, timeoutMs) => udp.receiveFromSync(target, { timeoutMs }).length),
    5,
    SYNC,
  ],
  [
    "recvmsg",
    "tryReceiveMessage",
    onWaiting((udp) => udp.tryReceiveMessage(messageOf(target))),
    5,
    TRY,
  ],
  [
    "recvmsg",
    "receiveMessageSync",
    onWaiting((udp, timeoutMs) => udp.receiveMessageSync(messageOf(target), { timeoutMs })),
    5,
    SYNC,
  ],
  [
    "recvmmsg",
    "tryReceiveBatch",
    onWaiting((udp) => receiveOne((batch) => udp.tryReceiveBatch(batch))),
    5,
    TRY,
  ],
  [
    "recvmmsg",
    "receiveBatchSync",
    onWaiting((udp, timeoutMs) =>
      receiveOne((batch) => udp.receiveBatchSync(batch, { timeoutMs })),
    ),
    5,
    SYNC,
  ],
];

/** Receives one datagram by a batch, and returns its length. */
async function receiveSoon(receive: (batch: DatagramBatch) => Promise<number>) {
  using batch = new DatagramBatch({ capacity: 1 });
  await receive(batch);
  return batch.length(0);
}

const connectSoon = (family: "ipv4" | "unix") => () => {
  const listener = listen(family);
  return on([listener], async (timeoutMs) => {
    using client = Socket.create(family, "stream");
    await client.connect(listener.localAddress, { timeoutMs });
    return client.connected;
  });
};

const acceptSoon = () => {
  const listener = listen("ipv4");
  const clients = Array.from({ length: WAITING }, () => Socket.create("ipv4", "stream"));
  for (const client of clients) client.connectSync(listener.localAddress, { timeoutMs: LONG_MS });
  return on([listener, ...clients], async (timeoutMs) => {
    using accepted = await listener.accept({ timeoutMs });
    return accepted.type;
  });
};

// The promise forms: what fails rejects, and what would block waits on the event loop.
const PROMISES: readonly Use[] = [
  ["accept4", "accept", acceptSoon, "stream", SYNC, OPENS],
  [
    "connect",
    "connect of UDP",
    onUdp(async (udp, timeoutMs, peer) => {
      await udp.connect(peer.localAddress, { timeoutMs });
      return udp.connected;
    }),
    true,
    WAITS_ON,
  ],
  ["connect", "connect of TCP", connectSoon("ipv4"), true, WAITS_ON],
  ["connect", "connect of Unix", connectSoon("unix"), true, { ...WAITS_ON, EAGAIN: "waits" }],
  ["send", "send", onUdp((udp, timeoutMs) => udp.send(data, { timeoutMs })), 5, SYNC],
  [
    "sendto",
    "sendTo",
    onUdp((udp, timeoutMs, to) => udp.sendTo(data, to.localAddress, { timeoutMs })),
    5,
    SYNC,
  ],
  [
    "sendto",
    "sendTo of Unix",
    onUnix((unix, timeoutMs, to) => unix.sendTo(data, to, { timeoutMs })),
    5,
    SYNC,
  ],
  [
    "sendmsg",
    "sendMessage",
    onUdp((udp, timeoutMs) => udp.sendMessage(messageOf(data), { timeoutMs })),
    5,
    SYNC,
  ],
  ["recv", "receive", onWaiting((udp, timeoutMs) => udp.receive(target, { timeoutMs })), 5, SYNC],
  [
    "recv",
    "receive with MSG_WAITALL",
    onStreams((left, timeoutMs, right) => {
      right.sendSync("datadata");
      return left.receive(target, { timeoutMs, flags: sys.MSG_WAITALL });
    }),
    8,
    SYNC,
  ],
  [
    "recv",
    "receiveBytes",
    onWaiting(async (udp, timeoutMs) => (await udp.receiveBytes(8, { timeoutMs })).length),
    5,
    SYNC,
  ],
  [
    "recvfrom",
    "receiveFrom",
    onWaiting(async (udp, timeoutMs) => (await udp.receiveFrom(target, { timeoutMs })).length),
    5,
    SYNC,
  ],
  [
    "recvmsg",
    "receiveMessage",
    onWaiting((udp, timeoutMs) => udp.receiveMessage(messageOf(target), { timeoutMs })),
    5,
    SYNC,
  ],
  [
    "recvmmsg",
    "receiveBatch",
    onWaiting((udp, timeoutMs) => receiveSoon((batch) => udp.receiveBatch(batch, { timeoutMs }))),
    5,
    SYNC,
  ],
  ["mmap", "batches", onUdp((udp) => void udp.batches().return()), undefined],
  ["mmap", "onBatch", onUdp((udp) => udp.onBatch(() => {}).stop()), undefined],

  ["poll", "tryPoll", onWaiting((udp) => tryPoll([udp]).length), 1, { EINTR: "retries" }],
  [
    "poll",
    "pollSync",
    onWaiting((udp, timeoutMs) => pollSync([udp], { timeoutMs }).length),
    1,
    { EINTR: "retries" },
  ],
  [
    "poll",
    "poll()",
    onWaiting(async (udp, timeoutMs) => (await poll([udp], { timeoutMs })).length),
    1,
    { EINTR: "retries" },
  ],
];

// What waits for what poll(2) does not tell of.
const PAUSES: readonly string[] = ["sendToSync of Unix", "connectSync of Unix"];

// Each method that waits, when its own call has said that it would block.
function polling(): Use[] {
  const waiting = (
    entry: Name,
    method: string,
    make: () => Case,
    good: unknown,
    errno = EAGAIN,
  ) => {
    const makeBlocked = () => {
      const made = make();
      return on([made], (timeoutMs) => {
        using _ = force(entry, errno, 1);
        return made.run(timeoutMs);
      });
    };
    // A pause has no result: interrupted, it is shorter.
    const outcome = PAUSES.includes(method) ? "ignored" : "waits";
    return ["poll", method, makeBlocked, good, { EINTR: outcome }, { waiting: entry }] as const;
  };
  const inProgress: number = sys.EINPROGRESS;
  return [
    ...TRANSFERS.filter(([, , , , outcomes]) => outcomes?.EAGAIN === "waits").map(
      ([entry, method, make, good]) => waiting(entry, method, make, good),
    ),
    waiting("connect", "connectSync of TCP", connectNew("ipv4"), true, inProgress),
    waiting("connect", "connectSync of Unix", connectNew("unix"), true),
    waiting("sendmmsg", "sendBatchSync", onUdp(sendTwo), 2),
  ];
}

function sendTwo(udp: UdpSocket, timeoutMs: number): number {
  using batch = batchOf("a", "b");
  return udp.sendBatchSync(batch, 0, { timeoutMs });
}

// Each public method under each entry that it calls. sendmmsg, the handlers, capabilities() and
// listenFds() have tests of their own.
const USES: readonly Use[] = [
  ["socket", "Socket.create", making(() => Socket.create("ipv4", "stream")), "made", {}, OPENS],
  ["socket", "UdpSocket.open", making(open4), "made", {}, OPENS],
  ["socket", "UdpSocket.bind", making(bind4), "made", {}, OPENS],
  ["socket", "UnixDatagramSocket.open", making(UnixDatagramSocket.open), "made", {}, OPENS],
  ["socket", "UnixDatagramSocket.bind", making(bindUnix), "made", {}, OPENS],
  ["socketpair", "Socket.pair", making(Socket.pair), "made", {}, OPENS],
  ["socketpair", "UnixDatagramSocket.pair", making(UnixDatagramSocket.pair), "made", {}, OPENS],

  ["bind", "bind", onFresh((udp) => udp.bind("127.0.0.1:0")), undefined],
  ["bind", "UdpSocket.bind", making(bind4), "made"],
  ["bind", "UnixDatagramSocket.bind", making(bindUnix), "made"],
  ["bind", "disconnect", disconnect, false],
  ["connect", "tryConnect of UDP", connectToPeer, true, GOES_ON],
  ["connect", "connectSync of UDP", connectUdp, true, WAITS_ON],
  ["connect", "connectSync of TCP", connectNew("ipv4"), true, WAITS_ON],
  [
    "connect",
    "tryConnect of a Unix stream",
    tryConnectNew,
    true,
    { ...GOES_ON, EAGAIN: "nothing" },
  ],
  ["connect", "connectSync of Unix", connectNew("unix"), true, { ...WAITS_ON, EAGAIN: "waits" }],
  ["connect", "disconnect", onUdp((udp) => udp.disconnect()), undefined],
  ["listen", "listen", onListening((listener) => listener.listen()), undefined],
  ["shutdown", "shutdown", onStreams((left) => left.shutdown("write")), undefined],

  ["getsockname", "localAddress", onUdp((udp) => udp.localAddress.host), "127.0.0.1"],
  ["getsockname", "UdpSocket.bind", making(bind4), "made"],
  ["getpeername", "remoteAddress", onUdp((udp) => udp.remoteAddress?.host), "127.0.0.1"],
  ["getpeername", "tryConnect of UDP", connectToPeer, true],
  ["getsockopt", "protocol", onUdp((udp) => udp.protocol), sys.IPPROTO_UDP],
  ["getsockopt", "receiveBuffer", onUdp((udp) => udp.receiveBuffer.clamped), false],
  ["getsockopt", "sendBuffer", onUdp((udp) => udp.sendBuffer.clamped), false],
  ["getsockopt", "getOption", onUdp((udp) => udp.getOption(SocketOption.broadcast)), false],
  ["getsockopt", "getRawOption", onUdp((udp) => udp.getRawOption(...BROADCAST)), 0],
  ["getsockopt", "options.dump", onUdp((udp) => options.dump(udp)["SO_TYPE"]), sys.SOCK_DGRAM],
  ["getsockopt", "setOption of IPv6", setOption6, undefined],
  ["getsockopt", "tryConnect of UDP", connectToPeer, true, {}, ONLY_ERROR],
  ["getsockopt", "disconnect", disconnect, false, {}, ONLY_ERROR],
  ["getsockopt", "adopt", adopting(false), "ipv4", {}, NOT_COOKIE],
  ["getsockopt", "adopt with own", adopting(true), "ipv4", {}, NOT_COOKIE],
  // What only the net asks for.
  ["getsockopt", "UdpSocket.open", making(open4), "made", all("ignored")],

  ...MADE_WITH_OPTIONS.map(
    ([what, make]): Use => ["setsockopt", `making ${what}`, making(make), "made"],
  ),
  [
    "setsockopt",
    "setOption",
    onUdp((udp) => udp.setOption(SocketOption.broadcast, true)),
    undefined,
  ],
  ["setsockopt", "setRawOption", onUdp((udp) => udp.setRawOption(...BROADCAST, 1)), undefined],
  [
    "setsockopt",
    "setRawOption of null",
    onUdp((udp) => udp.setRawOption(...DEVICE, null, 0)),
    undefined,
  ],
  ["setsockopt", "tryAccept of seqpacket", acceptSeqpacket, "seqpacket"],

  ...TRANSFERS,
  ...PROMISES,
  ...polling(),
  // Only the attribution of what is queued depends on it.
  ["poll", "tryConnect of UDP", connectToPeer, true, all("ignored")],

  ["fcntl", "inheritable", onUdp((udp) => udp.inheritable), false],
  ["fcntl", "inheritable, set,", onUdp(setInheritable), undefined],
  ["fcntl", "duplicate", onUdp((udp) => udp.duplicate().close()), undefined, {}, OPENS],
  ["fcntl", "adopt, F_GETFL,", adopting(false), "ipv4", {}, only(sys.F_GETFL)],
  [
    "fcntl",
    "adopt, F_DUPFD,",
    adopting(false),
    "ipv4",
    {},
    { ...only(sys.F_DUPFD_CLOEXEC), ...OPENS },
  ],
  ["fcntl", "adopt, F_SETFL,", adopting(false), "ipv4", {}, only(sys.F_SETFL)],
  ["fcntl", "adopt with own, F_GETFL,", adopting(true), "ipv4", {}, only(sys.F_GETFL)],
  ["fcntl", "adopt with own, F_SETFD,", adopting(true), "ipv4", {}, only(sys.F_SETFD)],
  ["fcntl", "adopt with own, F_SETFL,", adopting(true), "ipv4", {}, only(sys.F_SETFL)],
  ["close", "close", making(open4), "made", all("ignored")],

  ["fchmod", "UnixDatagramSocket.bind with mode", bindWithMode, "made"],
  ["chmod", "UnixDatagramSocket.bind with mode", bindWithMode, "made"],
  ["unlink", "UnixDatagramSocket.bind with removeStale", onStale, "made", {}, ONLY_TEMPORARY],
  ["renameat2", "UnixDatagramSocket.bind with removeStale", onStale, "made"],

  ["mmap", "new NativeBuffer", making(() => new NativeBuffer(4096)), "made"],
  ["mmap", "new DatagramBatch", making(() => new DatagramBatch()), "made"],
  ["if_nametoindex", "resolveScope", () => on([], resolveScope), 9],
  ["if_nametoindex", "UdpSocket.bind", making(() => UdpSocket.bind("[::1%lo]:0")), "made"],
  ["if_indextoname", "interfaceName", () => on([], () => interfaceName(1)), "lo"],
  ["if_nameindex", "interfaceNames", () => on([], () => interfaceNames()[0]?.name), "lo"],
  ["getifaddrs", "interfaces", () => on([], () => interfaces()[0]?.name), "lo"],
  ["getifaddrs", "ipAddresses", () => on([], () => ipAddresses()[0]), "127.0.0.1"],
  ["ioctl", "NetworkInterface.index", () => on([], () => new NetworkInterface("lo").index), 1],
  ["gethostname", "hostName", () => on([], hostName), hostName()],
  ["getservbyname_r", "serviceByName", () => on([], () => serviceByName("http")?.port), 80],
  ["getservbyport_r", "serviceByPort", () => on([], () => serviceByPort(80)?.name), "http"],
];

// What of the table the public API reaches, by its sources: the functions of lib/sys and of lib/ffi
// that its files import, and the entries in those.
function reached(): string[] {
  const read = (...patterns: readonly string[]) =>
    patterns
      .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(ROOT)])
      .map((file) => readFileSync(join(ROOT, file), "utf8"));
  const entries = new Map<string, string[]>();
  for (const source of read("lib/sys/*.ts", "lib/ffi/*.ts"))
    for (const [body, name = ""] of source.matchAll(/^export function (\w+).*?^}/gms))
      entries.set(
        name,
        [...body.matchAll(/\blibc\.(\w+)\(/g)].map(([, entry = ""]) => entry),
      );
  const imports = /^import \{([^}]*)\} from "\.\.?\/(?:sys|ffi)\/\w+\.ts";/gm;
  const names = read("lib/*.ts", "lib/internal/*.ts").flatMap((source) =>
    [...source.matchAll(imports)].flatMap(([, list = ""]) => list.match(/\w+/g) ?? []),
  );
  return [...new Set(names.flatMap((name) => entries.get(name) ?? []))].toSorted();
}

test("every entry that the public API reaches has rows, or a reason to have none", () => {
  const used = [...USES, ...WAITS].map(([entry]) => entry);
  const rows = new Set<string>(used).add("sendmmsg");
  // These fail with an error of their own: see resolve.test.ts. And nobody's host is to be renamed.
  rows.add("getaddrinfo").add("getnameinfo").add("sethostname");
  rows.add("gethostbyname2_r").add("gethostbyaddr_r");
  // Whole transfers of streams: see sendfile.test.ts and stream_socket.test.ts.
  rows.add("pipe2").add("sendfile").add("sockatmark").add("splice");
  // A capability or none: see capabilities.test.ts.
  rows.add("setns");
  // Another clock takes its place: see ping_socket.test.ts.
  rows.add("clock_gettime");
  const excepted = Object.keys(EXCEPTED);
  expect(reached().filter((entry) => !excepted.includes(entry))).toEqual([...rows].toSorted());
});

function errorOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return undefined;
}

async function rejectionOf(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  return undefined;
}

function partsOf(error: unknown): unknown {
  if (!(error instanceof SystemError)) return error;
  const { code, errno, syscall } = error;
  return { name: error.name, code, errno, syscall };
}

describe.each(USES)("when %s fails, %s()", (entry, _, make, good, outcomes = {}, more = {}) => {
  const { isMeant, opens, waiting = entry } = more;

  test.each(codes)("with %s", async (code) => {
    const errno = CODES[code];
    const outcome = outcomes[code] ?? "throws";
    const refusal = { name: "SystemError", code, errno: -errno, syscall: entry };
    const late = {
      name: "TimeoutError",
      code: "ETIMEDOUT",
      errno: -sys.ETIMEDOUT,
      syscall: waiting,
    };
    for (const times of [1, outcome === "retries" ? OFTEN : Infinity]) {
      const isOnce = times === 1;
      using made = make();
      const before = openDescriptors();
      {
        using fault = force(entry, errno, times, isMeant);
        const run = () => made.run(isOnce || outcome !== "waits" ? LONG_MS : SHORT_MS);
        if (outcome === "throws") {
          const error = await rejectionOf(run);
          expect(partsOf(error)).toEqual(refusal);
          // Cleaning up may meet the same failure.
          if (isOnce) expect(fault.forced).toBe(1);
          const { hint = "" } = error as SystemError;
          expect(hint.includes("This library holds")).toBe(opens === true && code === "EMFILE");
        } else if (outcome === "waits" && !isOnce) {
          expect(partsOf(await rejectionOf(run))).toEqual(late);
        } else if (outcome === "nothing") {
          expect([await run(), fault.forced]).toEqual([undefined, 1]);
        } else if (outcome === "ignored") {
          expect(await run()).toEqual(good);
        } else {
          expect([await run(), fault.forced]).toEqual([good, times]);
        }
        expect([openDescriptors(), poller.counters.waiters]).toEqual([before, 0]);
      }
      expect(await made.run(LONG_MS)).toEqual(good);
      expect([openDescriptors(), poller.counters.waiters]).toEqual([before, 0]);
    }
  });
});

/** What becomes of a call that waits when a C call of the poller fails. */
type WaitOutcome =
  /** It is rejected with a SystemError of that call. */
  | "throws"
  /** It is answered: the call is made again, another ringer or bell is taken, or it is not needed. */
  | "answered";

// Each entry that the poller calls: to start, and to wait. What it takes instead, and that it says so,
// is in poller.test.ts.
const WAITS: readonly (readonly [
  entry: Name,
  once: WaitOutcome,
  always: WaitOutcome,
  codes: readonly Code[],
])[] = [
  ["epoll_create1", "throws", "throws", codes],
  // What is tried first is the ringer, and then each socket.
  ["epoll_ctl", "answered", "throws", codes],
  // epoll_wait(2) has no other one of these.
  ["epoll_wait", "answered", "answered", ["EINTR"]],
  ["eventfd", "answered", "answered", codes],
  ["socketpair", "answered", "answered", codes],
  ["io_uring_setup", "answered", "answered", codes],
  ["io_uring_enter", "answered", "answered", codes],
  ["memfd_create", "answered", "answered", codes],
  ["mmap", "answered", "answered", codes],
  ["poll", "answered", "answered", codes],
  ["fcntl", "answered", "answered", codes],
  ["close", "answered", "answered", codes],
  ["read", "answered", "answered", codes],
  ["write", "answered", "answered", codes],
];

// In the life of the poller, from its start to its end.
async function wait(): Promise<number> {
  using server = UdpSocket.bind("127.0.0.1:0");
  using client = UdpSocket.open("ipv4");
  const lengths: Promise<number>[] = [];
  for (let i = 0; i < 3; i++) {
    // Without a deadline, at which it would be tried once more: it has to be woken.
    lengths.push(server.receive(target));
    let hasFailed = false;
    const settled = lengths.at(-1)?.catch(() => {
      hasFailed = true;
    });
    // The first one starts it, and the others wait for an event.
    while (poller.ringer === undefined && !hasFailed) await new Promise(setImmediate);
    if (hasFailed) break;
    await new Promise(setImmediate);
    client.sendToSync(data, server.localAddress);
    await settled;
  }
  return (await Promise.all(lengths)).length;
}

describe.each(WAITS)("when %s fails, what waits", (entry, once, always, meant) => {
  // Then the call itself is made at once, and finds nothing.
  beforeAll(() => {
    poller.turnBudgetMs = Number.POSITIVE_INFINITY;
  });
  afterAll(() => {
    poller.turnBudgetMs = 1;
  });

  test.each(meant)("with %s", async (code) => {
    engine.stop();
    const before = openDescriptors();
    for (const times of [1, entry === "epoll_wait" || code === "EINTR" ? OFTEN : Infinity]) {
      const outcome = times === 1 ? once : always;
      {
        using fault = force(entry, CODES[code], times);
        if (outcome === "answered") expect(await wait()).toBe(3);
        else {
          const refusal = { name: "SystemError", code, errno: -CODES[code], syscall: entry };
          expect(partsOf(await rejectionOf(wait))).toEqual(refusal);
          expect(fault.forced).toBeGreaterThan(0);
        }
        expect(poller.counters.waiters).toBe(0);
      }
      engine.stop();
      await untilOpen(before);
      expect(await wait()).toBe(3);
      engine.stop();
      await untilOpen(before);
    }
    await startPoller();
  });
});

// What Bun was given it closes in the next turn.
async function untilOpen(count: number): Promise<void> {
  const end = performance.now() + LONG_MS;
  while (openDescriptors() !== count && performance.now() < end) await new Promise(setImmediate);
  expect(openDescriptors()).toBe(count);
}

describe("when sendmmsg fails,", () => {
  const connected = () => onUdp((udp) => udp)() as Case & { run: () => UdpSocket };

  // What is no fault of one datagram stops the batch; what would meet every call is thrown.
  const stops: readonly Code[] = ["EAGAIN", "ENOBUFS", "ENOMEM"];
  test.each(stops)("trySendBatch() with %s stops, and says where and why", (code) => {
    for (const times of [1, Infinity]) {
      using made = connected();
      using batch = batchOf("a", "b", "c");
      const udp = made.run();
      {
        using fault = force("sendmmsg", CODES[code], times);
        expect([udp.trySendBatch(batch), fault.forced]).toEqual([0, 1]);
        expect([batch.stopped, batch.failed]).toEqual([{ index: 0, code }, 0]);
      }
      expect([udp.trySendBatch(batch), batch.stopped, batch.failed]).toEqual([3, undefined, 0]);
    }
  });

  test("sendBatchSync() with EAGAIN waits, until its deadline", () => {
    using made = connected();
    using batch = batchOf("a", "b", "c");
    const udp = made.run();
    {
      using _ = force("sendmmsg", EAGAIN, 1);
      expect(udp.sendBatchSync(batch, 0, { timeoutMs: LONG_MS })).toBe(3);
    }
    {
      using _ = force("sendmmsg", EAGAIN, Infinity);
      const late = errorOf(() => udp.sendBatchSync(batch, 0, { timeoutMs: SHORT_MS }));
      expect(late).toBeInstanceOf(TimeoutError);
      expect(batch.stopped).toEqual({ index: 0, code: "EAGAIN" });
    }
    expect(udp.sendBatchSync(batch)).toBe(3);
  });

  test("sendBatch() with EAGAIN waits, until its deadline", async () => {
    using made = connected();
    using batch = batchOf("a", "b", "c");
    const udp = made.run();
    {
      using _ = force("sendmmsg", EAGAIN, 1);
      expect(await udp.sendBatch(batch, 0, { timeoutMs: LONG_MS })).toBe(3);
    }
    {
      using _ = force("sendmmsg", EAGAIN, Infinity);
      const late = await rejectionOf(() => udp.sendBatch(batch, 0, { timeoutMs: SHORT_MS }));
      expect(late).toBeInstanceOf(TimeoutError);
      expect(batch.stopped).toEqual({ index: 0, code: "EAGAIN" });
    }
    expect(await udp.sendBatch(batch)).toBe(3);
  });

  const waiting = ["sendBatchSync", "sendBatch"] as const;
  const returning = waiting.flatMap((method) =>
    (["ENOBUFS", "ENOMEM"] as const).map((code) => [method, code] as const),
  );
  test.each(returning)("%s() with %s returns", async (method, code) => {
    using made = connected();
    using batch = batchOf("a", "b", "c");
    const udp = made.run();
    {
      using _ = force("sendmmsg", CODES[code], Infinity);
      expect(await udp[method](batch, 0, { timeoutMs: LONG_MS })).toBe(0);
      expect(batch.stopped).toEqual({ index: 0, code });
    }
    expect([await udp[method](batch), batch.stopped]).toEqual([3, undefined]);
  });

  const methods = ["trySendBatch", "sendBatchSync", "sendBatch"] as const;
  test.each(methods)("%s() makes it again after EINTR", async (method) => {
    using made = connected();
    using batch = batchOf("a", "b", "c");
    using fault = force("sendmmsg", EINTR, OFTEN);
    expect([await made.run()[method](batch), fault.forced]).toEqual([3, OFTEN]);
  });

  test.each(methods)("%s() with ENOSYS throws", async (method) => {
    using made = connected();
    using batch = batchOf("a", "b", "c");
    const udp = made.run();
    {
      using fault = force("sendmmsg", ENOSYS, Infinity);
      const refusal = { name: "SystemError", code: "ENOSYS", errno: -ENOSYS, syscall: "sendmmsg" };
      expect(partsOf(await rejectionOf(() => udp[method](batch)))).toEqual(refusal);
      expect(fault.forced).toBe(1);
    }
    expect(await udp[method](batch)).toBe(3);
  });

  test.each(methods)(
    "%s() with EMFILE fails the slots that met it, and no others",
    async (method) => {
      using made = connected();
      using batch = batchOf("a", "b", "c");
      const udp = made.run();
      for (const times of [1, Infinity]) {
        using _ = force("sendmmsg", EMFILE, times);
        const failed = Math.min(times, 3);
        expect([await udp[method](batch), batch.failed, batch.stopped]).toEqual([
          3 - failed,
          failed,
          undefined,
        ]);
        expect([batch.failure(0), batch.failure(2)]).toEqual([
          "EMFILE",
          failed > 2 ? "EMFILE" : undefined,
        ]);
      }
      expect([await udp[method](batch), batch.failed, batch.failure(0)]).toEqual([3, 0, undefined]);
    },
  );
});

describe("when recvmmsg fails,", () => {
  const fatal = codes.filter((code) => code !== "EINTR" && code !== "EAGAIN");
  const refusalOf = (code: Code) => ({
    name: "SystemError",
    code,
    errno: -CODES[code],
    syscall: "recvmmsg",
  });

  // What would block waits for an event, which a socket gives that is watched from then on.
  const passing = [
    ["EINTR", OFTEN],
    ["EAGAIN", 1],
  ] as const;

  test.each(passing)("batches() with %s goes on", async (code, times) => {
    using made = onWaiting((udp) => udp)();
    const udp = made.run(LONG_MS) as UdpSocket;
    using fault = force("recvmmsg", CODES[code], times);
    const { value } = await udp.batches().next();
    expect([value?.count, fault.forced]).toEqual([WAITING, times]);
  });

  test.each(passing)("onBatch() with %s goes on", async (code, times) => {
    using made = onWaiting((udp) => udp)();
    const udp = made.run(LONG_MS) as UdpSocket;
    using fault = force("recvmmsg", CODES[code], times);
    const { promise, resolve } = Promise.withResolvers<number>();
    using _ = udp.onBatch((batch) => resolve(batch.count));
    expect([await promise, fault.forced]).toEqual([WAITING, times]);
  });

  test.each(fatal)("batches() with %s throws it and ends", async (code) => {
    using made = onWaiting((udp) => udp)();
    const udp = made.run(LONG_MS) as UdpSocket;
    const steps = udp.batches();
    {
      using fault = force("recvmmsg", CODES[code], Infinity);
      expect(partsOf(await rejectionOf(() => steps.next()))).toEqual(refusalOf(code));
      expect(fault.forced).toBe(1);
    }
    expect(await steps.next()).toEqual({ value: undefined, done: true });
    expect((await udp.batches().next()).value?.count).toBe(WAITING);
  });

  test.each(fatal)("onBatch() with %s tells it and pauses, and goes on", async (code) => {
    using made = onWaiting((udp) => udp)();
    const udp = made.run(LONG_MS) as UdpSocket;
    const told: unknown[] = [];
    const reported = spyOn(globalThis, "reportError").mockImplementation((error) => {
      told.push(error);
    });
    try {
      for (const error of [undefined, (error: SystemError) => told.push(error)]) {
        const counts: number[] = [];
        let handler: BatchSubscription | undefined;
        {
          using fault = force("recvmmsg", CODES[code], Infinity);
          handler = udp.onBatch((batch) => counts.push(batch.count), error ? { error } : {});
          while (told.length === 0) await new Promise(setImmediate);
          expect(fault.forced).toBe(1);
        }
        expect(told.splice(0).map(partsOf)).toEqual([refusalOf(code)]);
        expect([handler.paused, handler.stopped, counts]).toEqual([true, false, []]);
        handler.resume();
        while (counts.length === 0) await new Promise(setImmediate);
        expect(counts.splice(0)).toEqual([error ? 1 : WAITING]);
        handler.stop();
        udp.sendToSync(data, udp.localAddress);
      }
    } finally {
      reported.mockRestore();
    }
  });
});

describe("capabilities()", () => {
  // What it has found it remembers: so each test evaluates the module anew.
  async function fresh(): Promise<() => Capabilities> {
    const module = await import(`../../lib/capabilities.ts?${Math.random()}`);
    return (module as { capabilities: () => Capabilities }).capabilities;
  }

  // What says nothing about the machine, only about this moment.
  const passing: readonly Code[] = ["ENOBUFS", "ENOMEM", "EMFILE"];
  const lasting = codes.filter((code) => !passing.includes(code));

  test.each(lasting)("takes %s of one socket(2) for a reason", async (code) => {
    const capabilities = await fresh();
    const before = openDescriptors();
    using _ = force("socket", CODES[code], 1);
    const { ipv4, unix } = capabilities();
    expect([ipv4.supported, ipv4.reason.startsWith(`${code}: `)]).toEqual([false, true]);
    expect(unix).toEqual({ supported: true, reason: "" });
    expect(openDescriptors()).toBe(before);
  });

  test.each(lasting)(
    "takes %s of setsockopt(2) for a reason, and closes what it opened",
    async (code) => {
      const capabilities = await fresh();
      const before = openDescriptors();
      using _ = force("setsockopt", CODES[code], Infinity);
      const { ipv4, reusePort, udpSegmentation } = capabilities();
      expect(ipv4.supported).toBe(true);
      for (const { supported, reason } of [reusePort, udpSegmentation])
        expect([supported, reason.startsWith(`${code}: `)]).toEqual([false, true]);
      expect(openDescriptors()).toBe(before);
    },
  );

  const calls = ["socket", "setsockopt"] as const;
  test.each(passing.flatMap((code) => calls.map((call) => [code, call] as const)))(
    "throws %s of %s(2), remembers nothing, and closes what it opened",
    async (code, call) => {
      const capabilities = await fresh();
      const before = openDescriptors();
      {
        using _ = force(call, CODES[code], 1);
        expect((errorOf(capabilities) as SystemError).code).toBe(code);
      }
      expect(openDescriptors()).toBe(before);
      const { ipv4, reusePort } = capabilities();
      expect([ipv4.supported, reusePort.supported]).toEqual([true, true]);
    },
  );

  test("throws EMFILE with a hint, and tries again the next time", async () => {
    const capabilities = await fresh();
    const before = openDescriptors();
    {
      using _ = force("socket", EMFILE, Infinity);
      const error = errorOf(capabilities) as SystemError;
      expect([error.code, error.syscall]).toEqual(["EMFILE", "socket"]);
      expect(error.hint).toContain("This library holds");
    }
    expect(capabilities().ipv4.supported).toBe(true);
    expect(openDescriptors()).toBe(before);
  });
});

test.each(codes)("listenFds() throws %s of fcntl(2), and finds them the next time", (code) => {
  const announced = { LISTEN_PID: `${process.pid}`, LISTEN_FDS: "1", LISTEN_FDNAMES: "name" };
  Object.assign(process.env, announced);
  try {
    {
      using _ = force("fcntl", CODES[code], 1);
      const refusal = { name: "SystemError", code, errno: -CODES[code], syscall: "fcntl" };
      expect(partsOf(errorOf(listenFds))).toEqual(refusal);
      expect(process.env).toMatchObject(announced);
    }
    using _ = replaceEntry("fcntl", () => 0);
    expect(listenFds()).toEqual([{ descriptor: 3, name: "name" }]);
    expect(listenFds()).toEqual([]);
  } finally {
    for (const name of Object.keys(announced)) delete process.env[name];
  }
});

// A seqpacket socket, of which adopt() also sets an option. The calls by their order: what adopt()
// undoes meets no fault.
test.each([false, true])("adopt() with own %p that fails changes no flag of what it got", (own) => {
  const fd = sys.socket(sys.AF_UNIX, sys.SOCK_SEQPACKET, 0);
  const flags = () => [sys.fcntl(fd, sys.F_GETFD, 0), sys.fcntl(fd, sys.F_GETFL, 0)];
  const before = [flags(), openDescriptors()];
  const foreign: readonly Name[] = ["getsockname", "getpeername", "close"];
  let calls = 0;
  for (let index = 0, failed = true; failed; index++) {
    calls = 0;
    const hook = (entry: Name, values: readonly unknown[], real: Entry) => {
      const isMeant = !foreign.includes(entry) && isNotCookie(values);
      return isMeant && calls++ === index ? fail(entry, ENOMEM) : real(...values);
    };
    try {
      const adopted = throughHook(hook, () => Socket.adopt(fd, { own }));
      if (own) adopted.detach();
      else adopted.close();
      failed = false;
    } catch (error) {
      expect([index, partsOf(error)]).toMatchObject([index, { code: "ENOMEM" }]);
      expect([index, flags(), openDescriptors()]).toEqual([index, ...before]);
    }
  }
  // Family, type, protocol, flags read and set, the option and a duplicate.
  expect(calls).toBeGreaterThanOrEqual(6);
  sys.close(fd);
});

test.each(codes)("close() makes close(2) once, whatever it says: %s", (code) => {
  const udp = UdpSocket.bind("127.0.0.1:0");
  const before = openDescriptors();
  using fault = force("close", CODES[code], Infinity);
  udp.close();
  udp.close();
  expect([fault.forced, udp.descriptor, openDescriptors()]).toEqual([1, -1, before - 1]);
});

describe("a short count", () => {
  const TEXT = "0123456789";
  const PART = 4;
  type Count = Extract<Name, "send" | "recv" | "recvfrom">;

  /** Lets an entry transfer the first bytes only. */
  function shorten(entry: Count): Disposable {
    const real = libc[entry] as Entry;
    return replaceEntry(entry, ((
      fd: number,
      view: Uint8Array,
      length: number,
      ...rest: unknown[]
    ) => real(fd, view, Math.min(length, PART), ...rest)) as Libc[Count]);
  }

  test.each(["trySend", "sendSync"] as const)(
    "%s() returns it, and nothing more was sent",
    (method) => {
      const [left, right] = Socket.pair();
      using _streams = on([left, right], () => {});
      {
        using _ = shorten("send");
        expect(left[method](Buffer.from(TEXT))).toBe(PART);
      }
      expect(`${Buffer.from(right.receiveBytesSync(100))}`).toBe(TEXT.slice(0, PART));
      expect(left[method](Buffer.from(TEXT).subarray(PART))).toBe(TEXT.length - PART);
      expect(`${Buffer.from(right.receiveBytesSync(100))}`).toBe(TEXT.slice(PART));
    },
  );

  test.each(["trySendTo", "sendToSync"] as const)("%s() returns it", (method) => {
    using udp = open4();
    using fault = replaceEntry("sendto", () => PART);
    expect([udp[method](Buffer.from(TEXT), "127.0.0.1:9"), fault.calls]).toEqual([PART, 1]);
  });

  const messages = ["trySendMessage", "sendMessageSync"] as const;
  test.each(messages)("%s() returns it, and advance() leaves the rest", (method) => {
    const [left, right] = Socket.pair();
    using _streams = on([left, right], () => {});
    const message = messageOf(Buffer.from(TEXT));
    {
      using _ = replaceEntry("sendmsg", (fd, _message, flags) =>
        libc.send(fd, Buffer.from(TEXT), PART, flags),
      );
      expect(left[method](message)).toBe(PART);
    }
    message.advance(PART);
    expect(left[method](message)).toBe(TEXT.length - PART);
    expect(`${Buffer.from(right.receiveBytesSync(100))}`).toBe(TEXT);
  });

  const receives = ["tryReceive", "receiveSync", "tryReceiveFrom", "receiveFromSync"] as const;
  test.each(receives)("%s() returns it, and writes nothing beyond", (method) => {
    const [left, right] = Socket.pair();
    using _streams = on([left, right], () => {});
    right.sendSync(TEXT);
    const canary = new Uint8Array(TEXT.length).fill(0xa5);
    {
      using _ = shorten(method.includes("From") ? "recvfrom" : "recv");
      const received = left[method](canary);
      expect(typeof received === "object" ? received.length : received).toBe(PART);
    }
    expect(canary.subarray(PART)).toEqual(new Uint8Array(TEXT.length - PART).fill(0xa5));
    const rest = left.receiveBytesSync(100);
    expect(`${Buffer.from(canary.subarray(0, PART))}${Buffer.from(rest)}`).toBe(TEXT);
  });

  test.each(["tryReceiveBytes", "receiveBytesSync"] as const)(
    "%s() returns so many bytes",
    (method) => {
      const [left, right] = Socket.pair();
      using _streams = on([left, right], () => {});
      right.sendSync(TEXT);
      using _ = shorten("recv");
      expect(`${Buffer.from(left[method](100) ?? [])}`).toBe(TEXT.slice(0, PART));
    },
  );

  test.each(["tryReceiveMessage", "receiveMessageSync"] as const)("%s() returns it", (method) => {
    const [left, right] = Socket.pair();
    using _streams = on([left, right], () => {});
    right.sendSync(TEXT.slice(0, PART));
    const message = messageOf(Buffer.alloc(TEXT.length));
    expect([left[method](message), message.originalLength]).toEqual([PART, PART]);
  });

  test("receiveSync() with MSG_WAITALL goes on until the target is full", () => {
    const [left, right] = Socket.pair();
    using _streams = on([left, right], () => {});
    right.sendSync(TEXT);
    const whole = Buffer.alloc(TEXT.length);
    using _ = shorten("recv");
    expect(left.receiveSync(whole, { flags: sys.MSG_WAITALL })).toBe(TEXT.length);
    expect(`${whole}`).toBe(TEXT);
  });

  const texts = ["a", "b", "c", "d", "e"];
  function receiveTexts(udp: UdpSocket): string[] {
    return texts.map(() => `${Buffer.from(udp.tryReceiveBytes(8) ?? [])}`);
  }

  test.each(["trySendBatch", "sendBatchSync"] as const)("%s() goes on behind it", (method) => {
    using server = bind4();
    using udp = open4();
    udp.connectSync(server.localAddress);
    using batch = batchOf(...texts);
    const { sendmmsg } = libc;
    using fault = replaceEntry("sendmmsg", (fd, messages, count, flags) =>
      sendmmsg(fd, messages, Math.min(count, 2), flags),
    );
    expect([udp[method](batch), batch.failed, batch.stopped]).toEqual([5, 0, undefined]);
    expect(fault.calls).toBe(3);
    expect(receiveTexts(server)).toEqual(texts);
    expect(server.tryReceive(target)).toBeUndefined();
  });

  test("trySendBatch() that an error stops behind it says where, and goes on from there", () => {
    using server = bind4();
    using udp = open4();
    udp.connectSync(server.localAddress);
    using batch = batchOf(...texts);
    const { sendmmsg } = libc;
    for (const stop of [() => failWith(ENOBUFS), () => 0]) {
      let calls = 0;
      {
        using _ = replaceEntry("sendmmsg", (fd, messages, _count, flags) =>
          calls++ === 0 ? sendmmsg(fd, messages, 2, flags) : stop(),
        );
        expect([udp.trySendBatch(batch), batch.stopped?.index, calls]).toEqual([2, 2, 2]);
      }
      expect([udp.trySendBatch(batch, 2), batch.stopped]).toEqual([3, undefined]);
      expect(receiveTexts(server)).toEqual(texts);
    }
  });

  test.each(["tryReceiveBatch", "receiveBatchSync"] as const)("%s() receives so many", (method) => {
    using udp = bind4();
    using peer = open4();
    for (const text of texts) peer.sendToSync(text, udp.localAddress);
    using batch = new DatagramBatch({ capacity: 8 });
    const { recvmmsg } = libc;
    using _ = replaceEntry("recvmmsg", (fd, messages, count, flags, timeout) =>
      recvmmsg(fd, messages, Math.min(count, 2), flags, timeout),
    );
    const received: string[][] = [];
    for (let i = 0; i < 3; i++) {
      udp[method](batch);
      received.push(Array.from({ length: batch.count }, (_, k) => `${Buffer.from(batch.view(k))}`));
    }
    expect(received).toEqual([["a", "b"], ["c", "d"], ["e"]]);
    expect([udp.tryReceiveBatch(batch), batch.count]).toEqual([0, 0]);
  });

  test("of poll, before the time is over, makes it wait again", () => {
    using made = onWaiting((udp, timeoutMs) => udp.receiveSync(target, { timeoutMs }))();
    using _ = force("recv", EAGAIN, 1);
    const { poll } = libc;
    let left = OFTEN;
    using fault = replaceEntry("poll", (...values) => (left-- > 0 ? 0 : poll(...values)));
    expect([made.run(LONG_MS), fault.calls]).toEqual([5, OFTEN + 1]);
  });
});

/** A whole life of some objects. What it returns, or answers, is the same each time. */
type Life = readonly [what: string, live: () => unknown];

const WAIT = { timeoutMs: LONG_MS };

const LIVES: readonly Life[] = [
  [
    "a UDP socket with every option",
    () => {
      const options = { reuseAddress: true, reusePort: true, broadcast: true, ipv6Only: true };
      const sizes = { receiveBufferBytes: 9000, sendBufferBytes: 9000 };
      using udp = UdpSocket.bind("[::1]:0", { ...options, ...sizes });
      return [udp.receiveBuffer.requestedBytes, udp.localAddress.host];
    },
  ],
  [
    "a seqpacket connection",
    () => {
      using listener = Socket.create("unix", "seqpacket");
      listener.bind(UnixAddress.unnamed);
      listener.listen();
      using client = Socket.create("unix", "seqpacket");
      client.connectSync(listener.localAddress, { timeoutMs: LONG_MS });
      using served = listener.acceptSync({ timeoutMs: LONG_MS });
      return served.connected;
    },
  ],
  [
    "a seqpacket pair",
    () => {
      const [left, right] = Socket.pair({ type: "seqpacket" });
      using _ends = on([left, right], () => {});
      left.sendSync(data);
      return right.receiveSync(target, { timeoutMs: LONG_MS });
    },
  ],
  [
    "a TCP connection",
    () => {
      using listener = Socket.create("ipv4", "stream");
      listener.bind("127.0.0.1:0");
      listener.listen();
      using client = Socket.create("ipv4", "stream");
      client.connectSync(listener.localAddress, { timeoutMs: LONG_MS });
      using served = listener.acceptSync({ timeoutMs: LONG_MS });
      client.sendSync(data);
      client.shutdown("write");
      return [`${served.receiveBytesSync(9)}`, served.receiveBytesSync(9).length];
    },
  ],
  [
    "a UDP conversation",
    () => {
      using server = bind4();
      using client = bind4();
      client.connectSync(server.localAddress);
      client.sendSync(data);
      const { length, address } = server.receiveFromSync(target, { timeoutMs: LONG_MS });
      server.sendToSync("yes", address);
      const answer = client.receiveMessageSync(messageOf(target), { timeoutMs: LONG_MS });
      client.disconnect();
      return [length, answer, client.connected];
    },
  ],
  [
    "a UDP conversation in promises",
    async () => {
      using server = bind4();
      using client = bind4();
      await client.connect(server.localAddress, WAIT);
      await client.send(data, WAIT);
      const { length, address } = await server.receiveFrom(target, WAIT);
      await server.sendTo("yes", address, WAIT);
      return [length, await client.receiveMessage(messageOf(target), WAIT)];
    },
  ],
  [
    "a TCP connection in promises",
    async () => {
      using listener = Socket.create("ipv4", "stream");
      listener.bind("127.0.0.1:0");
      listener.listen();
      using client = Socket.create("ipv4", "stream");
      client.connectSync(listener.localAddress, WAIT);
      using served = await listener.accept(WAIT);
      await client.send(data, WAIT);
      client.shutdown("write");
      return [`${await served.receiveBytes(9, WAIT)}`, await served.receive(target, WAIT)];
    },
  ],
  [
    "an iterator of batches",
    async () => {
      using server = bind4();
      using client = bind4();
      client.sendToSync(data, server.localAddress);
      for await (const batch of server.batches({ capacity: 4 })) return batch.count;
      return undefined;
    },
  ],
  [
    "a socket whose options are looked at",
    () => {
      using unix = UnixDatagramSocket.open();
      return Object.keys(options.dump(unix));
    },
  ],
  [
    "duplicates",
    () => {
      using udp = bind4();
      using copy = udp.duplicate();
      return `${copy.localAddress}` === `${udp.localAddress}`;
    },
  ],
  [
    "a Unix socket with mode",
    () => {
      using unix = UnixDatagramSocket.bind(new UnixAddress(join(folder, "life")), { mode: 0o600 });
      rmSync(join(folder, "life"));
      return unix.localAddress.isPath;
    },
  ],
  [
    "a Unix socket with removeStale",
    () => {
      const path = join(folder, "life");
      UnixDatagramSocket.bind(new UnixAddress(path)).close();
      using unix = UnixDatagramSocket.bind(new UnixAddress(path), { removeStale: true });
      rmSync(path);
      return unix.localAddress.isPath;
    },
  ],
];

/** Lets `hook` stand between the table and whoever calls it, until the work has its answer. */
async function throughHookSoon(hook: Hook, work: () => unknown): Promise<unknown> {
  using _hook = hookAll(hook);
  return await work();
}

function throughHook<Result>(hook: Hook, work: () => Result): Result {
  using _hook = hookAll(hook);
  return work();
}

type Hook = (entry: Name, values: readonly unknown[], real: Entry) => unknown;

function hookAll(hook: Hook): Disposable {
  const before = { ...libc };
  // These are asked when an error is made.
  const names = (Object.keys(libc) as Name[]).filter(
    (name) => name !== "__errno_location" && name !== "strerror",
  );
  for (const name of names) {
    const real = before[name] as Entry;
    Object.assign(libc, { [name]: (...values: unknown[]) => hook(name, values, real) });
  }
  return { [Symbol.dispose]: () => void Object.assign(libc, before) };
}

// What a life may survive: close(2) has done its work, the net can do without a cookie, a wait that
// is interrupted or too early is made again, and poll(2) is not needed to connect.
const RETRIED =
  /^(connect|accept4|send|sendto|sendmsg|recv|recvfrom|recvmsg|recvmmsg|poll) (EINTR|EAGAIN)$/;

function isSurvivable(entry: Name, values: readonly unknown[], code: Code): boolean {
  if (entry === "close" || entry === "poll") return true;
  if (entry === "getsockopt" && !isNotCookie(values)) return true;
  // What is learned at the birth of a pair; and files under names that nobody else knows.
  if (entry === "getpeername") return true;
  if (entry === "unlink" && !`${values[0]}`.includes("/life")) return true;
  return RETRIED.test(`${entry} ${code}`);
}

describe.each(LIVES)("the life of %s", (_, live) => {
  // A wait would make its calls more often the slower the machine is.
  const entries: Name[] = [];
  let good: unknown;
  // Then what can be answered at once is.
  beforeAll(async () => {
    poller.turnBudgetMs = Number.POSITIVE_INFINITY;
    good = await live();
    await throughHookSoon((entry, values, real) => {
      entries.push(entry);
      return real(...values);
    }, live);
  });
  afterAll(() => {
    poller.turnBudgetMs = 1;
  });

  test.each(codes)("survives %s of each of its calls, or ends in order", async (code) => {
    expect(entries.length).toBeGreaterThan(2);
    for (const file of readdirSync(folder)) rmSync(join(folder, file));
    for (const [index, entry] of entries.entries()) {
      const where = `call ${index}, ${entry}`;
      const before = openDescriptors();
      let calls = 0;
      let survivable = false;
      const hook = (name: Name, values: readonly unknown[], real: Entry) => {
        if (calls++ !== index) return real(...values);
        survivable = isSurvivable(name, values, code);
        if (worksAnyway(name)) real(...values);
        return fail(name, CODES[code]);
      };
      const result = await throughHookSoon(hook, live).catch(partsOf);
      const refusal = { name: "SystemError", code, errno: -CODES[code], syscall: entry };
      // connect(2) also tells whether a file is stale: where it does not, the file is left alone.
      const inUse = { code: "EADDRINUSE", syscall: "bind" };
      const isProbe = entry === "connect" && (result as typeof inUse).code === inUse.code;
      if (isProbe) expect([where, result]).toMatchObject([where, inUse]);
      else if (survivable && Bun.deepEquals(result, good)) expect(calls).toBeGreaterThan(index);
      else expect([where, result]).toEqual([where, refusal]);

      expect([where, openDescriptors()]).toEqual([where, before]);
      rmSync(join(folder, "life"), { force: true });
      const left = readdirSync(folder);
      expect([where, left]).toEqual([where, []]);
      expect([where, await live()]).toEqual([where, good]);
      expect([where, poller.counters.waiters]).toEqual([where, 0]);
    }
  });
});

describe("what has failed before", () => {
  test("adopt() closes its duplicate when it cannot learn the address", () => {
    using udp = bind4();
    const before = openDescriptors();
    using _ = force("getsockname", ENOBUFS, 1);
    expect(() => Socket.adopt(udp.descriptor)).toThrow("getsockname ENOBUFS");
    expect(openDescriptors()).toBe(before);
  });

  test("adopt() takes only ENOTCONN for the lack of a peer", () => {
    const [left, right] = Socket.pair();
    using _ends = on([left, right], () => {});
    using _ = force("getpeername", ENOBUFS, 1);
    expect(() => Socket.adopt(left.descriptor)).toThrow("getpeername ENOBUFS");
  });

  test("connectSync() without poll(2) takes no stranger's datagram for the peer's", () => {
    using udp = bind4();
    using peer = bind4();
    using stranger = bind4();
    stranger.sendToSync(data, udp.localAddress);
    {
      using _ = force("poll", ENOMEM, Infinity);
      udp.connectSync(peer.localAddress);
    }
    using batch = new DatagramBatch();
    expect(udp.tryReceiveBatch(batch)).toBe(1);
    expect(`${batch.address(0)}`).toBe(`${stranger.localAddress}`);
  });

  test("removeStale gives a living socket its path back when the exchange fails", () => {
    expect(receivedThrough("renameat2")).toBe(5);
  });
});

test("removeStale gives a living socket its path back when the second look fails", () => {
  expect(receivedThrough("connect")).toBe(5);
});

// Somebody binds to the path between the first look at it and the exchange, and what follows fails
// once. Returns what he then receives through the path.
function receivedThrough(entry: Name): number | undefined {
  const path = join(folder, "living");
  const local = new UnixAddress(path);
  UnixDatagramSocket.bind(local).close();
  let living: UnixDatagramSocket | undefined;
  const { renameat2 } = libc;
  using faults = new DisposableStack();
  faults.defer(() => rmSync(path, { force: true }));
  const exchange = replaceEntry("renameat2", (...values) => {
    exchange[Symbol.dispose]();
    rmSync(path);
    living = faults.use(UnixDatagramSocket.bind(local));
    const result = renameat2(...values);
    faults.use(force(entry, EMFILE, 1));
    return result;
  });
  expect(() => UnixDatagramSocket.bind(local, { removeStale: true })).toThrow("EADDRINUSE");
  using client = UnixDatagramSocket.open();
  client.sendToSync(data, local);
  return living?.tryReceive(target);
}

test("who is told to wait on a closed socket gets a ClosedError, and nobody listens to its number", async () => {
  const [left, right] = StreamSocket.pair();
  const reader = left.reader();
  const started = reader.readAll();
  left.close();
  expect((await rejectionOf(() => started)) as Error).toBeInstanceOf(ClosedError);
  // The number is another's now.
  using other = Socket.create("unix", "datagram");
  using _ = force("recv", EAGAIN, 1);
  poller.turnBudgetMs = 0;
  try {
    expect((await rejectionOf(() => reader.readAll())) as Error).toBeInstanceOf(ClosedError);
  } finally {
    poller.turnBudgetMs = 1;
  }
  expect(poller.counters.waiters).toBe(0);
  expect(other.descriptor).toBeGreaterThan(2);
  right.close();
});
