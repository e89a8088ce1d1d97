/**
 * The error queue: what becomes of datagrams is told to whoever asks, fails nobody else's call, wakes
 * nobody for nothing, and is neither lost nor told twice. And transmit timestamps, which come the same
 * way.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type Address,
  ClosedError,
  DatagramBatch,
  type IcmpError,
  IpOption,
  Ipv6Option,
  Message,
  poll,
  poller,
  pollSync,
  type QueuedError,
  type Socket,
  SocketOption,
  socketCounters,
  TcpListener,
  TcpSocket,
  TimeoutError,
  type TransmitTimestamp,
  tryPoll,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";
import {
  ECONNREFUSED,
  EINTR,
  EINVAL,
  ENOMEM,
  ENOPROTOOPT,
  errorName,
  io_uring_setup,
  MSG_ERRQUEUE,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  close as sysClose,
} from "bun-sockets/sys";
import { engine } from "../../lib/internal/poller_engine.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { type Missing, testIf } from "../support/require.ts";
import {
  beginCount,
  reasonOf,
  soon,
  spendBudget,
  startPoller,
  turns,
  until,
  WatchedSignal,
  waiters,
  waiting,
} from "../support/waiting.ts";

const WAIT = { timeoutMs: 20_000 };
const BUDGET_MS = poller.turnBudgetMs;
const QUEUED_MAX = 1024;
const { BUN_SOCKETS_RINGER } = process.env;

const open = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  open.add(socket);
  return socket;
}

type Family = "ipv4" | "ipv6";
const LOCAL: Readonly<Record<Family, string>> = { ipv4: "127.0.0.1:0", ipv6: "[::1]:0" };

const FAMILIES: readonly Family[] = ["ipv4", "ipv6"];
const bound = (family: Family = "ipv4") => kept(UdpSocket.bind(LOCAL[family]));

/** A socket that queues errors. */
function queueing(family: Family = "ipv4"): UdpSocket {
  const socket = bound(family);
  socket.queueErrors = true;
  return socket;
}

/** An address that nobody has any more. */
function deadAddress(family: Family = "ipv4"): UdpSocket["localAddress"] {
  using socket = UdpSocket.bind(LOCAL[family]);
  return socket.localAddress;
}

const data = (text: string) => Buffer.from(text);
const textOf = ({ payload }: { readonly payload: Uint8Array }) => Buffer.from(payload).toString();

/** All entries that are queued now. */
function drain(socket: Socket): QueuedError[] {
  const entries: QueuedError[] = [];
  for (;;) {
    const entry = socket.tryReceiveError();
    if (entry === undefined) return entries;
    entries.push(entry);
  }
}

/** Whether something was fetched, by a receive that found nothing. */
function isQueued(socket: UdpSocket): boolean {
  expect(socket.tryReceive(new Uint8Array(1))).toBeUndefined();
  return socket.errorQueue.queued > 0;
}

function asIcmp(entry: QueuedError | undefined): IcmpError {
  if (entry?.kind !== "icmp") throw new Error(`Expected an ICMP error: ${entry?.kind}`);
  return entry;
}

beforeAll(startPoller);
beforeEach(beginCount);

afterEach(() => {
  for (const socket of open) socket[Symbol.dispose]();
  open.clear();
  poller.turnBudgetMs = BUDGET_MS;
  expect(waiters()).toBe(0);
});

describe("queueErrors", () => {
  test("is off at first: an unconnected socket hears nothing of dead peers", () => {
    const socket = bound();
    expect(socket.queueErrors).toBe(false);
    for (let i = 0; i < 3; i++) socket.sendToSync("x", deadAddress());
    expect(socket.getOption(IpOption.receiveErrors)).toBe(false);
    expect(socket.tryReceiveError()).toBeUndefined();
    expect(socket.errorQueue).toEqual({ queued: 0, queuedMax: QUEUED_MAX, dropped: 0 });
    expect(bound().errorQueue).toEqual({ queued: 0, queuedMax: 0, dropped: 0 });
  });

  test("is the option of each family that the socket carries", () => {
    const four = queueing();
    expect(four.getOption(IpOption.receiveErrors)).toBe(true);
    const six = queueing("ipv6");
    expect(six.getOption(Ipv6Option.receiveErrors)).toBe(true);
    expect(six.getOption(IpOption.receiveErrors)).toBe(true);
    six.queueErrors = false;
    expect(six.queueErrors).toBe(false);
    expect(six.getOption(Ipv6Option.receiveErrors)).toBe(false);
    expect(six.getOption(IpOption.receiveErrors)).toBe(false);
    expect(kept(UdpSocket.open("ipv4", { queueErrors: true })).queueErrors).toBe(true);
    expect(kept(UdpSocket.bind("[::1]:0", { queueErrors: false })).queueErrors).toBe(false);
  });

  test.each(["ipv4", "ipv6"] as const)(
    "tells who has refused which datagram, over %s",
    (family) => {
      const socket = queueing(family);
      const dead = deadAddress(family);
      expect(socket.trySendTo(data("hello"), dead)).toBe(5);
      const entry = socket.receiveErrorSync(WAIT);
      expect(entry).toMatchObject({
        kind: "icmp",
        code: "ECONNREFUSED",
        version: family === "ipv4" ? 4 : 6,
        type: family === "ipv4" ? 3 : 1,
        icmpCode: family === "ipv4" ? 3 : 4,
      });
      const { offender, destination } = asIcmp(entry);
      expect(`${offender}`).toBe(LOCAL[family]);
      expect(destination?.equals(dead)).toBe(true);
      expect(textOf(asIcmp(entry))).toBe("hello");
      expect(drain(socket)).toEqual([]);
    },
  );

  test("tells of both families on an IPv6 socket that carries IPv4", () => {
    const socket = kept(UdpSocket.bind("[::]:0", { queueErrors: true }));
    const four = deadAddress();
    const six = deadAddress("ipv6");
    socket.sendToSync("four", `[::ffff:127.0.0.1]:${four.port}`);
    socket.sendToSync("six", six);
    const entries = [socket.receiveErrorSync(WAIT), socket.receiveErrorSync(WAIT)].map(asIcmp);
    expect(entries.map((entry) => [entry.version, textOf(entry), `${entry.offender}`])).toEqual([
      [4, "four", "[::ffff:127.0.0.1]:0"],
      [6, "six", "[::1]:0"],
    ]);
    expect(`${entries[0]?.destination}`).toBe(`[::ffff:127.0.0.1]:${four.port}`);
    expect(`${entries[1]?.destination}`).toBe(`${six}`);
  });

  test("switched off leaves what was queued, and queues no more", () => {
    const socket = queueing();
    for (let i = 0; i < 3; i++) socket.sendToSync(`${i}`, deadAddress());
    socket.queueErrors = false;
    for (let i = 3; i < 6; i++) socket.sendToSync(`${i}`, deadAddress());
    expect(drain(socket).map(asIcmp).map(textOf)).toEqual(["0", "1", "2"]);
    socket.queueErrors = true;
    socket.sendToSync("6", deadAddress());
    expect(textOf(asIcmp(socket.receiveErrorSync(WAIT)))).toBe("6");
  });

  test("is for datagrams over IP", () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    const [unix] = UnixDatagramSocket.pair().map(kept) as [UnixDatagramSocket];
    const listener = kept(TcpListener.listen("127.0.0.1:0"));
    for (const socket of [left, right, unix]) {
      expect(caught(() => Object.assign(socket, { queueErrors: true }))).toBeInstanceOf(TypeError);
      expect(socket.queueErrors).toBe(false);
    }
    expect(listener).toBeDefined();
    for (const call of [
      () => unix.tryReceiveError(),
      () => unix.receiveErrorSync(),
      () => unix.errors(),
      () => Object.assign(unix, { transmitTimestamps: ["sent"] }),
    ])
      expect(caught(call).message).toBe(
        "Cannot receive the errors of a unix datagram socket: expected one over IP",
      );
    for (const wrong of [1, "yes", undefined, null])
      expect(caught(() => Object.assign(bound(), { queueErrors: wrong }))).toBeInstanceOf(
        TypeError,
      );
    expect(caught(() => UdpSocket.open("ipv4", { queueErrors: 1 as never })).message).toBe(
      "Cannot use a value of type number as queueErrors: expected a boolean",
    );
  });

  test("takes no data of a Unix socket, whose kind of receive knows no error queue", async () => {
    const [left, right] = UnixDatagramSocket.pair().map(kept) as [
      UnixDatagramSocket,
      UnixDatagramSocket,
    ];
    left.sendSync("data");
    expect(await reasonOf(right.receiveError())).toBeInstanceOf(TypeError);
    expect(caught(() => right.tryReceiveError())).toBeInstanceOf(TypeError);
    expect(Buffer.from(right.receiveBytesSync(10, WAIT)).toString()).toBe("data");
  });

  test("says what the system says when it cannot be", () => {
    const socket = bound();
    using _ = replaceLibc("setsockopt", () => () => failWith(ENOPROTOOPT));
    const error = systemErrorOf(() => {
      socket.queueErrors = true;
    });
    expect([error.code, error.syscall, error.option]).toEqual([
      "ENOPROTOOPT",
      "setsockopt",
      "IP_RECVERR",
    ]);
    expect(socket.queueErrors).toBe(false);
  });

  test("of a closed socket is false, and everything else a ClosedError", async () => {
    const socket = queueing();
    socket.close();
    expect(socket.queueErrors).toBe(false);
    for (const call of [
      () => socket.tryReceiveError(),
      () => socket.receiveErrorSync(WAIT),
      () => Object.assign(socket, { queueErrors: true }),
      () => Object.assign(socket, { queueErrors: false }),
      () => socket.transmitTimestamps,
      () => Object.assign(socket, { transmitTimestamps: ["sent"] }),
    ])
      expect(caught(call)).toBeInstanceOf(ClosedError);
    expect(await reasonOf(socket.receiveError())).toBeInstanceOf(ClosedError);
    for await (const _ of socket.errors()) throw new Error("There is nothing to tell");
  });
});

/** Ways to send one datagram to an address. */
const SENDS: Readonly<
  Record<string, (socket: UdpSocket, bytes: Uint8Array, to: Address) => unknown>
> = {
  trySendTo: (socket, bytes, to) => socket.trySendTo(bytes, to as UdpSocket["localAddress"]),
  sendToSync: (socket, bytes, to) => socket.sendToSync(bytes, `${to}`, WAIT),
  sendTo: (socket, bytes, to) => socket.sendTo(bytes, `${to}`, WAIT),
  trySendMessage: (socket, bytes, to) =>
    socket.trySendMessage(new Message({ vectors: bytes, address: to })),
  sendMessageSync: (socket, bytes, to) =>
    socket.sendMessageSync(new Message({ vectors: bytes, address: to }), WAIT),
  sendMessage: (socket, bytes, to) =>
    socket.sendMessage(new Message({ vectors: bytes, address: to }), WAIT),
  trySendBatch: (socket, bytes, to) => inBatch(bytes, to, (batch) => socket.trySendBatch(batch)),
  sendBatchSync: (socket, bytes, to) =>
    inBatch(bytes, to, (batch) => socket.sendBatchSync(batch, 0, WAIT)),
  sendSegmentsSync: (socket, bytes, to) =>
    socket.sendSegmentsSync(bytes, {
      segmentBytes: 1000,
      to: to as UdpSocket["localAddress"],
      ...WAIT,
    }),
  trySendZeroCopy: (socket, bytes, to) =>
    socket.trySendZeroCopy(bytes, { to: to as UdpSocket["localAddress"] })?.bytes,
  sendZeroCopySync: (socket, bytes, to) =>
    socket.sendZeroCopySync(bytes, { to: `${to}`, ...WAIT }).bytes,
};

function inBatch(bytes: Uint8Array, to: Address, send: (batch: DatagramBatch) => number): number {
  using batch = new DatagramBatch({ capacity: 1 });
  batch.count = 1;
  batch.write(0, bytes);
  batch.setAddress(0, to);
  expect([send(batch), batch.failed, batch.stopped]).toEqual([1, 0, undefined]);
  return bytes.length;
}

/** Ways to receive one datagram as text; undefined when nothing is waiting. */
const RECEIVES: Readonly<Record<string, (socket: UdpSocket) => unknown>> = {
  tryReceive(socket) {
    const target = Buffer.alloc(10);
    const length = socket.tryReceive(target);
    return length === undefined ? undefined : target.toString("utf8", 0, length);
  },
  receiveBytesSync: (socket) => Buffer.from(socket.receiveBytesSync(10, WAIT)).toString(),
  receiveBytes: async (socket) => Buffer.from(await socket.receiveBytes(10, WAIT)).toString(),
  tryReceiveFrom(socket) {
    const target = Buffer.alloc(10);
    const received = socket.tryReceiveFrom(target);
    return received && target.toString("utf8", 0, received.length);
  },
  tryReceiveMessage(socket) {
    const target = Buffer.alloc(10);
    const length = socket.tryReceiveMessage(new Message({ vectors: target }));
    return length === undefined ? undefined : target.toString("utf8", 0, length);
  },
  tryReceiveBatch(socket) {
    using batch = new DatagramBatch({ capacity: 1 });
    return socket.tryReceiveBatch(batch) === 1 ? Buffer.from(batch.view(0)).toString() : undefined;
  },
};

describe("while errors are queued, a dead peer harms nobody:", () => {
  for (const family of ["ipv4", "ipv6"] as const)
    test.each(Object.keys(SENDS))(`%s() to a live one, over ${family}`, async (name) => {
      const send = SENDS[name] as (typeof SENDS)[string];
      const socket = queueing(family);
      const live = bound(family);
      const dead = Array.from({ length: 10 }, () => deadAddress(family));
      for (const [i, address] of dead.entries()) {
        expect(await send(socket, data(`dead ${i}`), address)).toBe(6);
        expect(await send(socket, data(`live ${i}`), live.localAddress)).toBe(6);
      }
      for (let i = 0; i < 10; i++)
        expect(Buffer.from(live.receiveBytesSync(10, WAIT)).toString()).toBe(`live ${i}`);
      const told: IcmpError[] = [];
      while (told.length < 10) {
        const entry = socket.receiveErrorSync(WAIT);
        // That of what is sent without a copy, where it is.
        if (entry.kind !== "zeroCopy") told.push(asIcmp(entry));
      }
      expect(told.map(textOf)).toEqual(dead.map((_, i) => `dead ${i}`));
      expect(told.map(({ destination }) => `${destination}`)).toEqual(dead.map(String));
      expect(drain(socket).filter(({ kind }) => kind !== "zeroCopy")).toEqual([]);
      expect(live.tryReceive(new Uint8Array(1))).toBeUndefined();
    });

  test.each(Object.keys(RECEIVES))("%s() from a live one", async (name) => {
    const receive = RECEIVES[name] as (typeof RECEIVES)[string];
    const socket = queueing();
    const live = bound();
    for (let i = 0; i < 10; i++) {
      socket.sendToSync(`dead ${i}`, deadAddress());
      live.sendToSync(`live ${i}`, socket.localAddress);
      expect(await receive(socket)).toBe(`live ${i}`);
      socket.sendToSync(`dead, too, ${i}`, deadAddress());
      if (name.startsWith("try")) expect(await receive(socket)).toBeUndefined();
    }
    expect(drain(socket).map(asIcmp).map(textOf)).toHaveLength(20);
  });

  test.each([
    ["batches()", true],
    ["onBatch()", false],
  ])("%s from live ones", async (_, isLoop) => {
    const socket = queueing();
    const live = bound();
    const texts: string[] = [];
    const note = (batch: DatagramBatch) => {
      for (let i = 0; i < batch.count; i++) texts.push(Buffer.from(batch.view(i)).toString());
    };
    const loop = async () => {
      for await (const batch of socket.batches()) note(batch);
    };
    if (isLoop) loop();
    else
      socket.onBatch(note, {
        error: (error) => {
          throw error;
        },
      });
    for (let i = 0; i < 20; i++) {
      socket.sendToSync(`dead ${i}`, deadAddress());
      live.sendToSync(`live ${i}`, socket.localAddress);
      if (i % 3 === 0) await turns(2);
    }
    await until(() => texts.length === 20, "all have come");
    expect(texts).toEqual(Array.from({ length: 20 }, (_, i) => `live ${i}`));
    await until(() => socket.errorQueue.queued === 20, "all errors were fetched");
    expect(drain(socket).map(asIcmp).map(textOf)).toEqual(
      Array.from({ length: 20 }, (_, i) => `dead ${i}`),
    );
  });

  test("a batch of which every other slot goes to a dead one", () => {
    const socket = queueing();
    const live = bound();
    using batch = new DatagramBatch({ capacity: 64 });
    batch.count = 64;
    for (let i = 0; i < 64; i++) {
      batch.write(i, `datagram ${i}`);
      batch.setAddress(i, i % 2 === 0 ? deadAddress() : live.localAddress);
    }
    expect(socket.trySendBatch(batch)).toBe(64);
    expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
    for (let i = 1; i < 64; i += 2)
      expect(Buffer.from(live.receiveBytesSync(20, WAIT)).toString()).toBe(`datagram ${i}`);
    const told: string[] = [];
    while (told.length < 32) told.push(textOf(asIcmp(socket.receiveErrorSync(WAIT))));
    expect(told).toEqual(Array.from({ length: 32 }, (_, i) => `datagram ${2 * i}`));
    expect(drain(socket)).toEqual([]);
  });

  test("batches, of which the kernel has room for the errors of a few only", async () => {
    const socket = queueing();
    const live = bound();
    const dead = deadAddress();
    using batch = new DatagramBatch({ capacity: 1024 });
    batch.count = 1024;
    const isDead = (i: number) => i % 2 === 0;
    for (let i = 0; i < 1024; i++) {
      batch.write(i, `${i}`);
      batch.setAddress(i, isDead(i) ? dead : live.localAddress);
    }
    const texts: string[] = [];
    live.onBatch((received) => {
      for (let i = 0; i < received.count; i++) texts.push(Buffer.from(received.view(i)).toString());
    });
    // The receiver has room for some 250 at a time.
    for (let first = 0; first < 1024; first += 256) {
      batch.count = first + 256;
      expect(socket.trySendBatch(batch, first)).toBe(256);
      expect(batch.failed).toBe(0);
      await until(() => texts.length === (first + 256) / 2, "all have come");
    }
    const all = Array.from({ length: 1024 }, (_, i) => i);
    expect(texts).toEqual(all.filter((i) => !isDead(i)).map(String));
    await until(() => isQueued(socket) && socket.errorQueue.queued === 512, "all are here");
    expect(drain(socket).map(asIcmp).map(textOf)).toEqual(all.filter(isDead).map(String));
  });

  test("all slots of one batch at a time", () => {
    const socket = queueing();
    const dead = deadAddress();
    using batch = new DatagramBatch({ capacity: 1024 });
    batch.count = 1024;
    for (let i = 0; i < 1024; i++) {
      batch.write(i, `${i}`);
      batch.setAddress(i, dead);
    }
    expect(socket.trySendBatch(batch)).toBe(1024);
    const told: string[] = [];
    while (told.length < 1024) told.push(textOf(asIcmp(socket.receiveErrorSync(WAIT))));
    expect(told).toEqual(Array.from({ length: 1024 }, (_, i) => `${i}`));
  });

  test("not even the peer itself: sends of a connected socket succeed, and it is told why", () => {
    const socket = queueing();
    const dead = deadAddress();
    socket.connectSync(dead);
    for (let i = 0; i < 5; i++) expect(socket.sendSync(`${i}`)).toBe(1);
    expect(socket.tryReceive(new Uint8Array(1))).toBeUndefined();
    const told: string[] = [];
    while (told.length < 5) told.push(textOf(asIcmp(socket.receiveErrorSync(WAIT))));
    expect(told).toEqual(["0", "1", "2", "3", "4"]);
    socket.queueErrors = false;
    socket.sendSync("5");
    expect(systemErrorOf(() => socket.receiveSync(new Uint8Array(1), WAIT)).code).toBe(
      "ECONNREFUSED",
    );
  });
});

describe("an error of the call itself", () => {
  test("is thrown as ever, and queued where the kernel queues it", () => {
    const socket = queueing();
    socket.sendToSync("dead", deadAddress());
    const tooLong = systemErrorOf(() => socket.sendToSync(new Uint8Array(65_508), deadAddress()));
    expect(tooLong.code).toBe("EMSGSIZE");
    expect(systemErrorOf(() => socket.sendToSync("x", "255.255.255.255:9")).code).toMatch(
      /EACCES|ENETUNREACH/,
    );
    const [dead, own, ...others] = drain(socket);
    expect(textOf(asIcmp(dead))).toBe("dead");
    expect(own).toMatchObject({ kind: "pathMtu", offender: undefined });
    expect(others).toEqual([]);
  });

  test.each(FAMILIES)("that a datagram is too long tells what limits it, over %s", (family) => {
    const [socket, peer] = [bound(family), bound(family)];
    const to = peer.localAddress;
    const long = new Uint8Array(65_530);
    const calls = (isConnected: boolean) => [
      () => (isConnected ? socket.trySend(long) : socket.trySendTo(long, to)),
      () => socket.sendSegmentsSync([long], isConnected ? {} : { to }),
      () => socket.sendZeroCopySync(long, isConnected ? {} : { to }),
      () =>
        socket.trySendMessage(
          new Message({ vectors: [long], address: isConnected ? undefined : to }),
        ),
    ];
    const hints = (isConnected: boolean) =>
      calls(isConnected).map((call) => {
        const { code, hint = "" } = systemErrorOf(call);
        expect(code).toBe("EMSGSIZE");
        return hint;
      });
    for (const mode of ["want", "off", "omit"] as const) {
      socket.pathMtuDiscovery = mode;
      for (const hint of hints(false)) expect(hint).toContain("at most 65507 bytes over IPv4");
    }
    socket.pathMtuDiscovery = "do";
    for (const hint of hints(false)) {
      expect(hint).toStartWith('With pathMtuDiscovery "do" ');
      expect(hint).toEndWith("the MTU of the path: a connected socket tells it as pathMtu");
    }
    socket.connectSync(to);
    for (const hint of hints(true))
      expect(hint).toEndWith(`it must fit pathMtu, which is ${socket.pathMtu}`);
    for (const mode of ["probe", "interface"] as const) {
      socket.pathMtuDiscovery = mode;
      for (const hint of hints(true)) {
        expect(hint).toStartWith(`With pathMtuDiscovery "${mode}" `);
        expect(hint).toEndWith("the MTU of the interface");
      }
    }
  });

  test("over IPv4 tells no port of its destination, where the socket is not connected", () => {
    const long = new Uint8Array(65_530);
    for (const family of FAMILIES) {
      const [socket, peer] = [queueing(family), bound(family)];
      const { port } = peer.localAddress;
      socket.pathMtuDiscovery = "do";
      expect(() => socket.sendToSync(long, peer.localAddress)).toThrow("EMSGSIZE");
      expect(socket.tryReceiveError()).toMatchObject({
        kind: "pathMtu",
        destination: { host: peer.localAddress.host, port: family === "ipv6" ? port : 0 },
      });
      socket.connectSync(peer.localAddress);
      expect(() => socket.sendSync(long)).toThrow("EMSGSIZE");
      expect(socket.tryReceiveError()).toMatchObject({ kind: "pathMtu", destination: { port } });
    }
  });

  test("ends a call that would be refused for ever", () => {
    const socket = queueing();
    using fault = replaceLibc("sendto", () => () => failWith(ECONNREFUSED));
    expect(systemErrorOf(() => socket.trySendTo(data("x"), deadAddress())).code).toBe(
      "ECONNREFUSED",
    );
    expect(fault.calls).toBeLessThan(1100);
  });

  test("is told of a slot of a batch that would be refused for ever", () => {
    const socket = queueing();
    using batch = new DatagramBatch({ capacity: 2 });
    batch.count = 2;
    for (const i of [0, 1]) batch.setAddress(i, deadAddress());
    using fault = replaceLibc("sendmmsg", () => () => failWith(ECONNREFUSED));
    expect(socket.trySendBatch(batch)).toBe(0);
    expect([batch.failure(0), batch.failure(1)]).toEqual(["ECONNREFUSED", "ECONNREFUSED"]);
    expect(fault.calls).toBeLessThan(2300);
  });

  test("of fetching is passed over, and an interrupted one is made again", () => {
    const socket = queueing();
    socket.sendToSync("dead", deadAddress());
    {
      using _ = replaceLibc("recvmsg", () => () => failWith(ENOMEM));
      expect(socket.tryReceiveError()).toBeUndefined();
    }
    let interruptions = 3;
    using _ = replaceLibc("recvmsg", (real) => (...values) => {
      expect(values[2] & MSG_ERRQUEUE).toBe(MSG_ERRQUEUE);
      return interruptions-- > 0 ? failWith(EINTR) : real(...values);
    });
    expect(textOf(asIcmp(socket.tryReceiveError()))).toBe("dead");
  });

  test("that is pending without an entry is passed over once", () => {
    const socket = queueing();
    const live = bound();
    for (const code of [ECONNREFUSED, sysCodes.EHOSTUNREACH, sysCodes.EMSGSIZE]) {
      let failures = 1;
      using _ = replaceLibc("sendto", (real) => (...values) => {
        return failures-- > 0 ? failWith(code) : real(...values);
      });
      expect(socket.trySendTo(data("live"), live.localAddress)).toBe(4);
      failures = 1;
      using __ = replaceLibc("sendmmsg", (real) => (...values) => {
        return failures-- > 0 ? failWith(code) : real(...values);
      });
      expect(inBatch(data("live"), live.localAddress, (batch) => socket.trySendBatch(batch))).toBe(
        4,
      );
      failures = 1;
      expect(
        socket.sendSegmentsSync(data("live"), { segmentBytes: 9, to: live.localAddress }),
      ).toBe(4);
    }
    expect(drain(socket)).toEqual([]);
  });
});

const sysCodes = { EHOSTUNREACH: 113, EMSGSIZE: 90 };

describe("receiveError()", () => {
  test("waits, and is answered by what comes", async () => {
    const socket = queueing();
    const entry = waiting(() => socket.receiveError(WAIT));
    await turns(3);
    socket.sendToSync("late", deadAddress());
    expect(textOf(asIcmp(await entry))).toBe("late");
  });

  test("gives what is queued at once, in order, with one of each for several", async () => {
    const socket = queueing();
    for (let i = 0; i < 3; i++) socket.sendToSync(`${i}`, deadAddress());
    const texts = await Promise.all([0, 1, 2].map(() => socket.receiveError(WAIT)));
    expect(texts.map(asIcmp).map(textOf)).toEqual(["0", "1", "2"]);
    const more = [0, 1, 2].map(() => waiting(() => socket.receiveError(WAIT)));
    await turns(2);
    for (let i = 3; i < 6; i++) socket.sendToSync(`${i}`, deadAddress());
    expect((await Promise.all(more)).map(asIcmp).map(textOf)).toEqual(["3", "4", "5"]);
  });

  test("is served in order, also after it was tried for nothing", async () => {
    const socket = queueing();
    // Where several wait, events say whose turn it is.
    const other = bound();
    const bytes = waiting(() => other.receiveBytes(1, WAIT));
    const order: string[] = [];
    const waits = ["a", "b", "c"].map((name) =>
      waiting(() => socket.receiveError(WAIT)).then((entry) =>
        order.push(`${name} ${textOf(asIcmp(entry))}`),
      ),
    );
    for (let i = 0; i < 3; i++) {
      // Has those who wait try again.
      socket.setOption(IpOption.ttl, 64);
      await turns(2);
      socket.sendToSync(`${i}`, deadAddress());
      await until(() => order.length === i + 1, "the next one has it");
    }
    await Promise.all(waits);
    expect(order).toEqual(["a 0", "b 1", "c 2"]);
    socket.sendToSync("x", other.localAddress);
    await bytes;
  });

  test("is answered when another call has met the error", async () => {
    const socket = queueing();
    const live = bound();
    const entry = waiting(() => socket.receiveError(WAIT));
    socket.sendToSync("dead", deadAddress());
    // The next send is told of it first.
    await until(() => {
      socket.sendToSync("live", live.localAddress);
      return waiters() === 0;
    }, "it was answered");
    expect(textOf(asIcmp(await entry))).toBe("dead");
  });

  test("lets those who wait for data and for room alone", async () => {
    const socket = queueing();
    const bytes = waiting(() => socket.receiveBytes(10, WAIT));
    const entry = waiting(() => socket.receiveError(WAIT));
    socket.sendToSync("dead", deadAddress());
    expect(textOf(asIcmp(await entry))).toBe("dead");
    expect(waiters()).toBe(1);
    bound().sendToSync("live", socket.localAddress);
    expect(Buffer.from(await bytes).toString()).toBe("live");
  });

  test.each([0, 5])("is out of time after %d ms, and then loses nothing", async (timeoutMs) => {
    const socket = queueing();
    const error = (await reasonOf(socket.receiveError({ timeoutMs }))) as TimeoutError;
    expect(error).toBeInstanceOf(TimeoutError);
    expect([error.syscall, error.timeoutMs]).toEqual(["recvmsg", timeoutMs]);
    expect(caught(() => socket.receiveErrorSync({ timeoutMs }))).toBeInstanceOf(TimeoutError);
    socket.sendToSync("late", deadAddress());
    expect(textOf(asIcmp(await socket.receiveError(WAIT)))).toBe("late");
  });

  test("takes 0 ms for one try", async () => {
    const socket = queueing();
    socket.sendToSync("1", deadAddress());
    await until(() => isQueued(socket), "it is queued");
    expect(textOf(asIcmp(await socket.receiveError({ timeoutMs: 0 })))).toBe("1");
    socket.sendToSync("2", deadAddress());
    await until(() => isQueued(socket), "it is queued");
    spendBudget();
    expect(textOf(asIcmp(await socket.receiveError({ timeoutMs: 0 })))).toBe("2");
  });

  test("is rejected with the signal's reason itself, and leaves no listener", async () => {
    const socket = queueing();
    const watched = new WatchedSignal();
    const entry = waiting(() => socket.receiveError({ signal: watched.signal }));
    expect(watched.listeners.size).toBe(1);
    const reason = { of: "mine" };
    watched.abort(reason);
    expect(await reasonOf(entry)).toBe(reason);
    expect(watched.listeners.size).toBe(0);
    expect(await reasonOf(socket.receiveError({ signal: watched.signal }))).toBe(reason);
    // What comes then is the next one's.
    socket.sendToSync("next", deadAddress());
    const second = new WatchedSignal();
    const next = socket.receiveError({ signal: second.signal, ...WAIT });
    expect(textOf(asIcmp(await next))).toBe("next");
    expect(second.listeners.size).toBe(0);
  });

  test("refuses what is no option", async () => {
    const socket = queueing();
    for (const options of [{ timeoutMs: -1 }, { timeoutMs: Number.NaN }])
      expect(await reasonOf(socket.receiveError(options))).toBeInstanceOf(RangeError);
    expect(await reasonOf(socket.receiveError({ signal: {} as never }))).toBeInstanceOf(TypeError);
    expect(caught(() => socket.receiveErrorSync({ timeoutMs: -1 }))).toBeInstanceOf(RangeError);
    expect(caught(() => socket.errors({ signal: {} as never }))).toBeInstanceOf(TypeError);
    expect(caught(() => socket.errors(null as never))).toBeInstanceOf(TypeError);
  });

  test("is rejected when the socket is closed, or detached", async () => {
    const first = queueing();
    const closed = waiting(() => first.receiveError());
    first.close();
    expect(await reasonOf(closed)).toBeInstanceOf(ClosedError);
    const second = queueing();
    const detached = waiting(() => second.receiveError());
    const fd = second.detach();
    expect(await reasonOf(detached)).toMatchObject({ code: "ECANCELED", syscall: "recvmsg" });
    sysClose(fd);
  });

  test("is answered in busyPoll, too", async () => {
    const socket = queueing();
    poller.busyPoll = true;
    try {
      const entry = waiting(() => socket.receiveError(WAIT));
      await turns(3);
      socket.sendToSync("dead", deadAddress());
      expect(textOf(asIcmp(await entry))).toBe("dead");
    } finally {
      poller.busyPoll = false;
    }
  });

  test("keeps the process alive, unless the socket does not", () => {
    const index = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
    const run = (extra: string) =>
      Bun.spawnSync({
        cmd: [
          process.execPath,
          "-e",
          `import { UdpSocket } from ${index};
           const socket = UdpSocket.bind("127.0.0.1:0", { queueErrors: true });
           socket.receiveError().then(() => console.log("told"));
           const dead = UdpSocket.bind("127.0.0.1:0");
           const { localAddress } = dead;
           dead.close();
           ${extra}`,
        ],
        timeout: 20_000,
      });
    const alive = run(`setTimeout(() => socket.sendToSync("x", localAddress), 300);`);
    expect([alive.exitCode, `${alive.stdout}`]).toEqual([0, "told\n"]);
    const ended = run(`socket.unref();`);
    expect([ended.exitCode, `${ended.stdout}`]).toEqual([0, ""]);
  });
});

describe("receiveErrorSync()", () => {
  test("waits until something comes", async () => {
    const socket = queueing();
    const dead = deadAddress();
    using worker = kept(
      Object.assign(
        new Worker(
          `data:text/javascript,${encodeURIComponent(
            `import { UdpSocket } from ${JSON.stringify(`${new URL("../../lib/index.ts", import.meta.url)}`)};
             const socket = UdpSocket.adopt(${socket.descriptor});
             setTimeout(() => socket.sendToSync("from a Worker", "${dead}"), 50);`,
          )}`,
        ),
        {
          [Symbol.dispose](this: Worker) {
            this.terminate();
          },
        },
      ),
    );
    expect(worker).toBeDefined();
    expect(textOf(asIcmp(socket.receiveErrorSync(WAIT)))).toBe("from a Worker");
  });
});

describe("errors()", () => {
  test("tells of all, and leaving the loop loses nothing", async () => {
    const socket = queueing();
    for (let i = 0; i < 5; i++) socket.sendToSync(`${i}`, deadAddress());
    const texts: string[] = [];
    for await (const entry of socket.errors()) {
      texts.push(textOf(asIcmp(entry)));
      if (texts.length === 2) break;
    }
    expect(texts).toEqual(["0", "1"]);
    for await (const entry of socket.errors()) {
      texts.push(textOf(asIcmp(entry)));
      if (texts.length === 4) socket.sendToSync("5", deadAddress());
      if (texts.length === 6) break;
    }
    expect(texts).toEqual(["0", "1", "2", "3", "4", "5"]);
  });

  test.each(["close", "detach"] as const)("is done after %s()", async (how) => {
    const socket = queueing();
    const errors = socket.errors();
    const step = waiting(() => errors.next());
    const fd = socket[how]();
    if (typeof fd === "number") sysClose(fd);
    expect(await step).toEqual({ value: undefined, done: true });
    expect(await errors.next()).toEqual({ value: undefined, done: true });
  });

  test("ends with the signal's reason, and is done then", async () => {
    const socket = queueing();
    const watched = new WatchedSignal();
    const errors = socket.errors({ signal: watched.signal });
    const steps = [waiting(() => errors.next()), waiting(() => errors.next())];
    watched.abort("enough");
    expect(await soon(outcomesOf(steps))).toEqual(["enough", expect.anything()]);
    expect(watched.listeners.size).toBe(0);
    expect(await errors.next()).toEqual({ value: undefined, done: true });
    const aborted = socket.errors({ signal: watched.signal });
    expect(await reasonOf(aborted.next())).toBe("enough");
  });

  test("return() and the end of `await using` answer steps that wait", async () => {
    const socket = queueing();
    const errors = socket.errors();
    const steps = [0, 1].map(() => waiting<unknown>(() => errors.next()));
    expect(await errors.return()).toEqual({ value: undefined, done: true });
    const done = { value: undefined, done: true };
    expect(await Promise.all(steps)).toEqual([done, done]);
    let step: Promise<unknown>;
    {
      await using other = socket.errors();
      step = waiting<unknown>(() => other.next());
      expect(other[Symbol.asyncIterator]()).toBe(other);
    }
    expect(await step).toEqual(done);
    socket.sendToSync("later", deadAddress());
    expect(textOf(asIcmp(await socket.receiveError(WAIT)))).toBe("later");
  });
});

function outcomesOf(promises: readonly Promise<unknown>[]): Promise<unknown>[] {
  return promises.map((promise) => promise.catch((reason) => reason));
}

describe("the queue", () => {
  test("holds so many, counts what it drops, and drops the newest", async () => {
    const socket = queueing();
    const dead = deadAddress();
    const sent = QUEUED_MAX + 100;
    for (let i = 0; i < sent; i++) {
      socket.sendToSync(`${i}`, dead);
      socket.tryReceive(new Uint8Array(1));
    }
    await until(() => {
      socket.tryReceive(new Uint8Array(1));
      return socket.errorQueue.queued + socket.errorQueue.dropped === sent;
    }, "all have come");
    expect(socket.errorQueue).toEqual({ queued: QUEUED_MAX, queuedMax: QUEUED_MAX, dropped: 100 });
    const entries = drain(socket).map(asIcmp).map(textOf);
    expect(entries).toEqual(Array.from({ length: QUEUED_MAX }, (_, i) => `${i}`));
    socket.sendToSync("there is room again", dead);
    expect(textOf(asIcmp(socket.receiveErrorSync(WAIT)))).toBe("there is room again");
    expect(socket.errorQueue.dropped).toBe(100);
  });

  test("does not take the room of datagrams where nobody reads it", async () => {
    const server = kept(UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: 4096 }));
    server.transmitTimestamps = ["scheduled", "sent"];
    server.queueErrors = true;
    let echoed = 0;
    server.onBatch((batch) => {
      echoed += server.trySendBatch(batch);
    });
    const client = bound();
    for (let i = 0; i < 200; i++) {
      client.sendToSync(`${i}`, server.localAddress);
      expect(Buffer.from(await client.receiveBytes(10, WAIT)).toString()).toBe(`${i}`);
    }
    expect(echoed).toBe(200);
    await until(() => server.errorQueue.queued === 400, "all were fetched");
    expect(server.errorQueue.dropped).toBe(0);
  });

  test("is one for all duplicates of a thread, whichever of them has met the error", async () => {
    const socket = queueing();
    const duplicate = kept(socket.duplicate());
    expect(duplicate.queueErrors).toBe(true);
    const early = kept(bound());
    const other = kept(early.duplicate());
    early.queueErrors = true;
    expect(other.queueErrors).toBe(true);
    const live = bound();
    const entry = waiting(() => duplicate.receiveError(WAIT));
    socket.sendToSync("dead", deadAddress());
    expect(socket.sendToSync("live", live.localAddress)).toBe(4);
    expect(textOf(asIcmp(await entry))).toBe("dead");
    socket.sendToSync("1", deadAddress());
    duplicate.sendToSync("2", deadAddress());
    socket.close();
    const texts = [duplicate.receiveErrorSync(WAIT), duplicate.receiveErrorSync(WAIT)];
    expect(texts.map(asIcmp).map(textOf)).toEqual(["1", "2"]);
    expect(drain(duplicate)).toEqual([]);
  });

  test("of another who shares the open socket is his own: each error is told once", async () => {
    const socket = queueing();
    // As another thread or process would have it.
    const stranger = kept(UdpSocket.adopt(socket.descriptor));
    expect(stranger.queueErrors).toBe(false);
    stranger.queueErrors = true;
    const texts: string[] = [];
    const tell = async (own: UdpSocket) => {
      for await (const entry of own.errors()) texts.push(textOf(asIcmp(entry)));
    };
    const loops = [tell(socket), tell(stranger)];
    for (let i = 0; i < 100; i++) {
      (i % 2 === 0 ? socket : stranger).sendToSync(`${i}`, deadAddress());
      if (i % 5 === 0) await turns(1);
    }
    await until(() => texts.length === 100, "all were told");
    socket.close();
    stranger.close();
    await Promise.all(loops);
    expect(texts.toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 100 }, (_, i) => `${i}`),
    );
  });

  test("does not keep a socket that was dropped", async () => {
    const { leaked } = socketCounters();
    const drop = () => {
      for (let i = 0; i < 20; i++) {
        const socket = UdpSocket.bind("127.0.0.1:0", { queueErrors: true });
        socket.transmitTimestamps = ["sent"];
        socket.sendToSync("x", deadAddress());
        socket.tryReceive(new Uint8Array(1));
      }
    };
    drop();
    await until(() => {
      Bun.gc(true);
      return socketCounters().leaked - leaked > 10;
    }, "most of them were collected");
  });
});

function whyNoIoUring(): Missing {
  const fd = io_uring_setup(1, new DataView(new ArrayBuffer(io_uring_params.size)));
  if (fd < 0) return `needs io_uring, and io_uring_setup says ${errorName(fd)}`;
  sysClose(fd);
  return undefined;
}

/** Stops the poller, and starts it with this ringer. */
async function use(ringer: string): Promise<void> {
  process.env["BUN_SOCKETS_RINGER"] = ringer;
  try {
    for (let left = 5; left > 0 && poller.ringer !== ringer; left--) {
      engine.stop();
      using socket = UdpSocket.bind("127.0.0.1:0");
      let hasFailed = false;
      socket.receive(new Uint8Array(1)).catch(() => {
        hasFailed = true;
      });
      await until(() => poller.ringer !== undefined || hasFailed, "it has started");
    }
    expect(poller.ringer as string).toBe(ringer);
  } finally {
    if (BUN_SOCKETS_RINGER === undefined) delete process.env["BUN_SOCKETS_RINGER"];
    else process.env["BUN_SOCKETS_RINGER"] = BUN_SOCKETS_RINGER;
  }
}

/** Lets the poller fall asleep, as far as it does, and sees that it stays so. */
async function expectQuiet(): Promise<void> {
  for (let last = poller.counters; ; last = poller.counters) {
    await Bun.sleep(10);
    if (Bun.deepEquals(poller.counters, last)) break;
  }
  using stack = new DisposableStack();
  const names = ["recvmsg", "recv", "recvmmsg", "epoll_wait", "epoll_ctl"] as const;
  const faults = names.map((name) => stack.use(replaceLibc(name, (real) => real)));
  const before = poller.counters;
  await Bun.sleep(60);
  expect(poller.counters).toEqual(before);
  expect(faults.map(({ calls }) => calls)).toEqual(names.map(() => 0));
}

for (const ringer of ["io_uring", "thread", "timer"] as const)
  describe(`with ${ringer}, an idle socket makes no wake-ups`, () => {
    const register = testIf(ringer === "io_uring" ? whyNoIoUring() : undefined);

    register("whose errors somebody waits for, when they were told", async () => {
      await use(ringer);
      const socket = queueing();
      const texts: string[] = [];
      const loop = async () => {
        for await (const entry of socket.errors()) texts.push(textOf(asIcmp(entry)));
      };
      const ended = loop();
      for (let i = 0; i < 50; i++) socket.sendToSync(`${i}`, deadAddress());
      await until(() => texts.length === 50, "all were told");
      expect(texts).toEqual(Array.from({ length: 50 }, (_, i) => `${i}`));
      await expectQuiet();
      const { wakeUps } = poller.counters;
      socket.sendToSync("late", deadAddress());
      await until(() => texts.length === 51, "the last one was told");
      expect(poller.counters.wakeUps - wakeUps).toBeLessThanOrEqual(2);
      socket.close();
      await ended;
    });

    register("which waits for data while its queue is full of errors", async () => {
      await use(ringer);
      const socket = queueing();
      socket.transmitTimestamps = ["scheduled", "sent"];
      const bytes = waiting(() => socket.receiveBytes(10, WAIT));
      for (let i = 0; i < 500; i++) socket.sendToSync(`${i}`, deadAddress());
      await expectQuiet();
      const { queued, dropped } = socket.errorQueue;
      expect([queued, dropped]).toEqual([QUEUED_MAX, 1500 - QUEUED_MAX]);
      bound().sendToSync("live", socket.localAddress);
      expect(Buffer.from(await bytes).toString()).toBe("live");
      expect(drain(socket)).toHaveLength(QUEUED_MAX);
    });

    register("whose errors somebody has waited for, and nobody does any more", async () => {
      await use(ringer);
      // Somebody else keeps the bell armed.
      const other = bound();
      const bytes = waiting(() => other.receiveBytes(10, WAIT));
      const socket = queueing();
      await reasonOf(socket.receiveError({ timeoutMs: 5 }));
      await expectQuiet();
      const { wakeUps } = poller.counters;
      for (let i = 0; i < 6; i++) {
        socket.sendToSync(`${i}`, deadAddress());
        await turns(10);
        await Bun.sleep(5);
      }
      await expectQuiet();
      expect(poller.counters.wakeUps - wakeUps).toBeLessThanOrEqual(2);
      expect(drain(socket)).toHaveLength(6);
      bound().sendToSync("end", other.localAddress);
      await bytes;
    });

    register("which nobody waits for any more, whose errors stay in the kernel", async () => {
      await use(ringer);
      // Somebody else keeps the bell armed.
      const other = bound();
      const bytes = waiting(() => other.receiveBytes(10, WAIT));
      const socket = queueing();
      // They have waited once, so it is in the set.
      await reasonOf(socket.receiveError({ timeoutMs: 5 }));
      await reasonOf(socket.receive(new Uint8Array(1), { timeoutMs: 5 }));
      socket.transmitTimestamps = ["sent"];
      for (let i = 0; i < 20; i++) bound().sendToSync("x", other.localAddress);
      await bytes;
      while (other.tryReceive(new Uint8Array(1)) !== undefined);
      const again = waiting(() => other.receiveBytes(10, WAIT));
      await expectQuiet();
      const { wakeUps } = poller.counters;
      for (let i = 0; i < 20; i++) socket.sendToSync(`${i}`, deadAddress());
      await expectQuiet();
      expect(poller.counters.wakeUps - wakeUps).toBeLessThanOrEqual(2);
      const entries = drain(socket);
      const told = entries.filter(({ kind }) => kind === "icmp").map((entry) => asIcmp(entry));
      expect(told.map(textOf)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
      expect(entries).toHaveLength(40);
      bound().sendToSync("end", other.localAddress);
      await again;
    });
  });

describe("poll", () => {
  test("is told of no queued error, in any of its forms", async () => {
    const socket = queueing();
    socket.transmitTimestamps = ["sent"];
    const send = () => socket.sendToSync("dead", deadAddress());
    send();
    expect(tryPoll([socket])).toEqual([]);
    send();
    expect(caught(() => pollSync([socket], { timeoutMs: 20 }))).toBeInstanceOf(TimeoutError);
    send();
    const results = waiting(() => poll([socket], WAIT));
    send();
    await turns(5);
    expect(waiters()).toBe(1);
    bound().sendToSync("live", socket.localAddress);
    expect(await results).toMatchObject([{ socket, readable: true, error: false }]);
    expect(pollSync([{ socket, write: true }])).toMatchObject([{ writable: true, error: false }]);
    expect(drain(socket)).toHaveLength(8);
    // What a peer has refused of a socket that queues none.
    const other = bound();
    other.transmitTimestamps = ["sent"];
    other.connectSync(deadAddress());
    other.sendSync("refused");
    expect(pollSync([other], WAIT)).toMatchObject([{ socket: other, error: true }]);
  });
});

describe("a blocking wait", () => {
  test("of a stream is not either", () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    left.transmitTimestamps = ["scheduled", "sent", "acknowledged"];
    for (let i = 0; i < 5; i++) left.sendSync("x");
    expect(right.receiveExactlySync(new Uint8Array(5), WAIT)).toBe(5);
    using fault = replaceLibc("poll", (real) => real);
    expect(
      caught(() => left.receiveExactlySync(new Uint8Array(1), { timeoutMs: 30 })),
    ).toBeInstanceOf(TimeoutError);
    expect(fault.calls).toBeLessThan(5);
    expect(left.errorQueue.queued).toBe(15);
  });

  test("is not ended again and again by errors that nobody reads", () => {
    const socket = queueing();
    socket.transmitTimestamps = ["scheduled", "sent"];
    for (let i = 0; i < 5; i++) socket.sendToSync(`${i}`, deadAddress());
    using fault = replaceLibc("poll", (real) => real);
    expect(caught(() => socket.receiveSync(new Uint8Array(1), { timeoutMs: 30 }))).toBeInstanceOf(
      TimeoutError,
    );
    expect(fault.calls).toBeLessThan(5);
    expect(socket.errorQueue.queued).toBe(15);
  });
});

function stamps(entries: readonly QueuedError[]): TransmitTimestamp[] {
  return entries.map((entry) => {
    if (entry.kind !== "timestamp") throw new Error(`Expected a timestamp: ${entry.kind}`);
    return entry;
  });
}

/** So many timestamps, and no more. */
async function stampsOf(socket: Socket, count: number): Promise<TransmitTimestamp[]> {
  const entries: QueuedError[] = [];
  while (entries.length < count) entries.push(await socket.receiveError(WAIT));
  expect(socket.tryReceiveError()).toBeUndefined();
  return stamps(entries);
}

describe("transmitTimestamps", () => {
  test("are none at first, and what was set", () => {
    const socket = bound();
    expect(socket.transmitTimestamps).toEqual([]);
    socket.setOption(SocketOption.timestamping, SOF_TIMESTAMPING_RX_SOFTWARE);
    socket.transmitTimestamps = new Set(["sent", "scheduled"] as const);
    expect(socket.transmitTimestamps).toEqual(["scheduled", "sent"]);
    socket.transmitTimestamps = [];
    expect(socket.transmitTimestamps).toEqual([]);
    // That of receives stays.
    const bits = socket.getOption(SocketOption.timestamping);
    expect(bits & SOF_TIMESTAMPING_RX_SOFTWARE).toBe(SOF_TIMESTAMPING_RX_SOFTWARE);
    const [left] = TcpSocket.pair().map(kept) as [TcpSocket];
    left.transmitTimestamps = ["acknowledged"];
    expect(left.transmitTimestamps).toEqual(["acknowledged"]);
  });

  test.each(["ipv4", "ipv6"] as const)(
    "tell which datagram was sent when, over %s",
    async (family) => {
      const socket = bound(family);
      const live = bound(family);
      socket.sendToSync("not this one", live.localAddress);
      socket.transmitTimestamps = ["scheduled", "sent"];
      const before = Date.now() / 1000;
      const to = live.localAddress;
      socket.sendToSync("0", to);
      await socket.sendTo("1", to);
      socket.sendMessageSync(new Message({ vectors: data("2"), address: to }));
      using batch = new DatagramBatch({ capacity: 3 });
      batch.count = 3;
      for (let i = 0; i < 3; i++) {
        batch.write(i, `${3 + i}`);
        batch.setAddress(i, to);
      }
      expect(socket.sendBatchSync(batch)).toBe(3);
      const told = await stampsOf(socket, 12);
      for (const what of ["scheduled", "sent"])
        expect(told.filter((stamp) => stamp.what === what).map(({ id }) => id)).toEqual([
          0, 1, 2, 3, 4, 5,
        ]);
      for (const { seconds, nanoseconds, isHardware } of told) {
        expect(isHardware).toBe(false);
        const time = seconds + nanoseconds / 1e9;
        expect(time).toBeGreaterThan(before - 1);
        expect(time).toBeLessThan(Date.now() / 1000 + 1);
        expect(nanoseconds).toBeLessThan(1e9);
      }
      const at = (id: number, what: string) => {
        const stamp = told.find((each) => each.id === id && each.what === what);
        return (stamp?.seconds ?? 0) * 1e9 + (stamp?.nanoseconds ?? 0);
      };
      for (let id = 0; id < 6; id++)
        expect(at(id, "sent")).toBeGreaterThanOrEqual(at(id, "scheduled"));
      socket.transmitTimestamps = [];
      socket.sendToSync("nor this one", to);
      expect(socket.tryReceiveError()).toBeUndefined();
      // It counts anew.
      socket.transmitTimestamps = ["sent"];
      socket.sendToSync("0", to);
      expect((await stampsOf(socket, 1)).map(({ id }) => id)).toEqual([0]);
    },
  );

  test("are not lost where a program only sends", async () => {
    const socket = bound();
    socket.transmitTimestamps = ["scheduled", "sent"];
    const to = bound().localAddress;
    for (let i = 0; i < 400; i++) socket.trySendTo(data("x"), to);
    expect((await stampsOf(socket, 800)).map(({ id }) => id)).toEqual(
      Array.from({ length: 800 }, (_, i) => i >> 1),
    );
    using batch = new DatagramBatch({ capacity: 100 });
    for (let round = 0; round < 4; round++) {
      batch.count = 100;
      for (let i = 0; i < 100; i++) batch.setAddress(i, to);
      expect(socket.trySendBatch(batch)).toBe(100);
    }
    expect((await stampsOf(socket, 800)).map(({ id }) => id - 400)).toEqual(
      Array.from({ length: 800 }, (_, i) => i >> 1),
    );
  });

  test("a datagram that was refused takes no number away", async () => {
    const socket = bound();
    socket.transmitTimestamps = ["sent"];
    const live = bound();
    socket.sendToSync("0", live.localAddress);
    for (const wrong of ["255.255.255.255:9", "127.0.0.1:9"])
      expect(systemErrorOf(() => socket.sendToSync(new Uint8Array(65_508), wrong)).code).toMatch(
        /EMSGSIZE|EACCES|ENETUNREACH/,
      );
    socket.sendToSync("1", live.localAddress);
    expect((await stampsOf(socket, 2)).map(({ id }) => id)).toEqual([0, 1]);
  });

  test("of TCP tell the last byte of each send, and when the peer has confirmed it", async () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    left.sendSync("before");
    left.transmitTimestamps = ["scheduled", "sent", "acknowledged"];
    for (const [sends, end] of [
      ["hello", 4],
      ["you", 7],
      ["x", 8],
    ] as const) {
      left.sendSync(sends);
      const told = await stampsOf(left, 3);
      expect(told.map(({ id }) => id)).toEqual([end, end, end]);
      expect(told.map(({ what }) => what).toSorted()).toEqual([
        "acknowledged",
        "scheduled",
        "sent",
      ]);
    }
    expect(right.unreadBytes).toBe(15);
  });

  test("of TCP are set on a kernel that counts only from what was acknowledged", () => {
    const [left] = TcpSocket.pair().map(kept) as [TcpSocket];
    const asked: number[] = [];
    using _ = replaceLibc("setsockopt", (real) => (...values) => {
      asked.push((values[3] as Int32Array)[0] as number);
      return asked.length === 1 ? failWith(EINVAL) : real(...values);
    });
    left.transmitTimestamps = ["sent"];
    // SOF_TIMESTAMPING_OPT_ID_TCP
    expect(asked.map((bits) => bits & 0x10000)).toEqual([0x10000, 0]);
    expect(left.transmitTimestamps).toEqual(["sent"]);
  });

  test("of a stream are fetched while its reader waits", async () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    left.transmitTimestamps = ["scheduled", "sent", "acknowledged"];
    const line = waiting(() => left.reader().readLine());
    await turns(2);
    for (let i = 0; i < 10; i++) left.sendSync("x");
    await until(() => left.errorQueue.queued === 30, "all were fetched");
    right.sendSync("a line\n");
    expect(await line).toBe("a line");
  });

  test("come beside data, of which none is lost", async () => {
    const [left, right] = TcpSocket.pair().map(kept) as [TcpSocket, TcpSocket];
    left.transmitTimestamps = ["scheduled", "sent", "acknowledged"];
    const bytes = waiting(() => left.receiveBytes(10, WAIT));
    for (let i = 0; i < 10; i++) left.sendSync("x");
    await turns(5);
    right.sendSync("data");
    expect(Buffer.from(await bytes).toString()).toBe("data");
    expect(Buffer.from(await right.receiveBytes(20, WAIT)).toString()).toBe("x".repeat(10));
  });

  test("refuses what is none", () => {
    const detached = new Uint8Array(8);
    structuredClone(detached, { transfer: [detached.buffer] });
    const socket = bound();
    const [left] = TcpSocket.pair().map(kept) as [TcpSocket];
    for (const [wrong, message] of [
      ["sent", /^Cannot use a value of type string as transmitTimestamps: expected an array$/],
      [7, /^Cannot use a value of type number as transmitTimestamps/],
      [null, /^Cannot use null as transmitTimestamps/],
      [detached, /^Cannot use a value of type object as transmitTimestamps/],
      [["send"], /^Cannot use "send" as a transmit timestamp: expected "scheduled", "sent", "ack/],
      [[1], /^Cannot use a value of type number as a transmit timestamp/],
      [["toString"], /^Cannot use "toString" as a transmit timestamp/],
    ] as const) {
      const error = caught(() => Object.assign(left, { transmitTimestamps: wrong }));
      expect(error).toBeInstanceOf(TypeError);
      expect(error.message).toMatch(message);
    }
    expect(
      caught(() => Object.assign(socket, { transmitTimestamps: ["acknowledged"] })).message,
    ).toBe("Cannot stamp datagrams as acknowledged: expected a TCP socket");
    expect(socket.transmitTimestamps).toEqual([]);
  });
});

describe("path MTU", () => {
  test("is that of the way to the peer, and unknown without one", () => {
    const socket = bound();
    expect(socket.pathMtu).toBeUndefined();
    socket.connectSync(bound().localAddress);
    // Of lo 65536, of which an IPv4 packet uses 65535 at most.
    expect(socket.pathMtu).toBeGreaterThanOrEqual(65_535);
    const six = bound("ipv6");
    expect(six.pathMtu).toBeUndefined();
    six.connectSync(bound("ipv6").localAddress);
    expect(six.pathMtu).toBeGreaterThanOrEqual(65_535);
    six.close();
    expect(caught(() => six.pathMtu)).toBeInstanceOf(ClosedError);
    expect(caught(() => six.pathMtuDiscovery)).toBeInstanceOf(ClosedError);
  });

  test.each([
    ["off", "dont"],
    ["want", "want"],
    ["do", "do"],
    ["probe", "probe"],
    ["interface", "interface"],
    ["omit", "omit"],
  ] as const)("discovery can be %j", (mode, option) => {
    const four = bound();
    four.pathMtuDiscovery = mode;
    expect(four.pathMtuDiscovery).toBe(mode);
    expect(four.getOption(IpOption.mtuDiscover)).toBe(option);
    const six = bound("ipv6");
    six.pathMtuDiscovery = mode;
    expect(six.pathMtuDiscovery).toBe(mode);
    expect(six.getOption(Ipv6Option.mtuDiscover)).toBe(option);
    expect(six.getOption(IpOption.mtuDiscover)).toBe(option);
  });

  test("discovery refuses other words", () => {
    const socket = bound();
    const before = socket.pathMtuDiscovery;
    for (const wrong of ["dont", "toString", 2, undefined, null])
      expect(caught(() => Object.assign(socket, { pathMtuDiscovery: wrong })).message).toMatch(
        /as pathMtuDiscovery: expected "off", "want", "do", "probe", "interface", "omit"$/,
      );
    expect(socket.pathMtuDiscovery).toBe(before);
  });
});
