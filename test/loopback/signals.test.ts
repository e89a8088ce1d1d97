/**
 * One deadline, whatever interrupts the wait: under a thousand real signals, and by fault
 * injection. The signals go to children, because the runner would have to take them too.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  DatagramBatch,
  Message,
  Socket,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  type WaitOptions,
} from "bun-sockets";
import { EAGAIN, EINTR, MSG_WAITALL } from "bun-sockets/sys";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import {
  BLOCK_BYTES,
  CALL_NAMES,
  MESSAGES,
  type Order,
  type Outcome,
  type Ready,
} from "./signals.ts";

type Call = Order["call"];

const PROGRAM = join(import.meta.dir, "signals.ts");
const SIGNALS = 1000;
/** So the last one comes shortly before the deadline, and the release in the middle at 700 ms. */
const SIGNAL_EACH_MS = 1.4;
const TIMEOUT_MS = 1500;
const LATE_MS = 250;
const INTERRUPTIONS = 100;
const LONG_MS = 4000;
const LIMIT_MS = 60_000;
const WAIT = { timeoutMs: 5000 };

/** What stands at the other end of a child's call. */
interface Peer extends Disposable {
  readonly address: string;
  /** Before the call. */
  readonly prepare?: () => void;
  /** Gives the call what it waits for. */
  readonly release: (child: Ready) => void;
  /** What the child is to have got when it was released. */
  readonly given?: () => Outcome["got"];
  /** What has come from a child that sends, released or not: `got` is what it says. */
  readonly taken?: (got: Outcome["got"]) => Outcome["got"];
}

function sendingPeer(): Peer {
  const udp = UdpSocket.bind("127.0.0.1:0");
  return {
    address: `${udp.localAddress}`,
    release({ address }) {
      for (const message of MESSAGES) udp.sendToSync(message, address);
    },
    given: () => [...MESSAGES],
    [Symbol.dispose]: () => udp.close(),
  };
}

function listen(family: "ipv4" | "unix", backlog?: number): Socket {
  const listener = Socket.create(family, "stream");
  listener.bind(family === "unix" ? UnixAddress.unnamed : "127.0.0.1:0");
  listener.listen(backlog);
  return listener;
}

function slowlySendingPeer(): Peer {
  const listener = listen("unix");
  const [first, ...others] = MESSAGES;
  let served: Socket | undefined;
  return {
    address: `${listener.localAddress}`,
    prepare() {
      served = listener.acceptSync(WAIT);
      served.sendSync(first);
    },
    release() {
      for (const message of others) served?.sendSync(message);
    },
    given: () => [MESSAGES.join("")],
    [Symbol.dispose]() {
      served?.close();
      listener.close();
    },
  };
}

function connectingPeer(): Peer {
  const client = Socket.create("ipv4", "stream");
  return {
    address: "",
    release({ address }) {
      client.connectSync(address, WAIT);
      client.sendSync("hello");
    },
    given: () => ["hello"],
    [Symbol.dispose]: () => client.close(),
  };
}

// With a backlog of 0 one connection may wait.
function fullListener(family: "ipv4" | "unix"): Peer {
  const listener = listen(family, 0);
  const first = Socket.create(family, "stream");
  first.connectSync(listener.localAddress, WAIT);
  return {
    address: `${listener.localAddress}`,
    release: () => listener.acceptSync(WAIT).close(),
    given() {
      using served = listener.acceptSync(WAIT);
      const { length } = Buffer.from(served.receiveBytesSync(100, WAIT));
      return [length];
    },
    [Symbol.dispose]() {
      first.close();
      listener.close();
    },
  };
}

function readingPeer(): Peer {
  const listener = listen("unix");
  let served: Socket | undefined;
  let bytes = 0;
  function read() {
    for (let data = served?.tryReceiveBytes(1 << 16); data?.length; ) {
      bytes += data.length;
      data = served?.tryReceiveBytes(1 << 16);
    }
  }
  return {
    address: `${listener.localAddress}`,
    prepare() {
      served = listener.acceptSync(WAIT);
    },
    release: read,
    taken([blocks = 0]) {
      read();
      return [blocks, bytes];
    },
    [Symbol.dispose]() {
      served?.close();
      listener.close();
    },
  };
}

function receivingPeer(): Peer {
  const unix = UnixDatagramSocket.bind(UnixAddress.unnamed);
  let blocks = 0;
  function read() {
    for (let data = unix.tryReceiveBytes(BLOCK_BYTES); data; ) {
      expect(data).toEqual(new Uint8Array(Buffer.alloc(BLOCK_BYTES, `${blocks++},`)));
      data = unix.tryReceiveBytes(BLOCK_BYTES);
    }
  }
  return {
    address: `${unix.localAddress}`,
    release: read,
    taken() {
      read();
      return [blocks, blocks * BLOCK_BYTES];
    },
    [Symbol.dispose]: () => unix.close(),
  };
}

// By call: what C call it waits in, its other end, and what a TimeoutError says was transferred.
const CALLS: Readonly<Record<Call, readonly [syscall: string, () => Peer, transferred?: number]>> =
  {
    receiveSync: ["recv", sendingPeer],
    receiveFromSync: ["recvfrom", sendingPeer],
    receiveMessageSync: ["recvmsg", sendingPeer],
    receiveBatchSync: ["recvmmsg", sendingPeer],
    receiveAllSync: ["recv", slowlySendingPeer, MESSAGES[0].length],
    acceptSync: ["accept4", connectingPeer],
    connectSync: ["connect", () => fullListener("ipv4")],
    connectUnixSync: ["connect", () => fullListener("unix")],
    sendSync: ["send", readingPeer],
    sendToSync: ["sendto", receivingPeer],
    sendMessageSync: ["sendmsg", receivingPeer],
    sendBatchSync: ["sendmmsg", receivingPeer],
  };

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  let text = "";
  for await (const chunk of stream) {
    text += Buffer.from(chunk).toString();
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      yield text.slice(0, end);
      text = text.slice(end + 1);
    }
  }
}

/** A child in one call, and its peer. */
class Attempt {
  readonly #peer: Peer;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #lines: AsyncGenerator<string, undefined>;
  #ready: Ready | undefined;

  constructor(call: Call, timeoutMs: number) {
    this.#peer = CALLS[call][1]();
    const order: Order = { call, address: this.#peer.address, timeoutMs };
    this.#child = Bun.spawn([process.execPath, PROGRAM, JSON.stringify(order)], {
      stdin: "pipe",
      stderr: "inherit",
      timeout: LIMIT_MS,
    });
    this.#lines = linesOf(this.#child.stdout);
  }

  async #next(): Promise<unknown> {
    const { value } = await this.#lines.next();
    return JSON.parse(value ?? "null");
  }

  async start(): Promise<void> {
    this.#ready = (await this.#next()) as Ready;
    this.#peer.prepare?.();
  }

  go(): void {
    this.#child.stdin.write("go\n");
    this.#child.stdin.flush();
  }

  signal(): void {
    this.#child.kill("SIGUSR2");
  }

  release(): void {
    this.#peer.release(this.#ready as Ready);
  }

  /** Returns what the child says, and what it should have got. */
  async finish(released: boolean): Promise<Result> {
    const outcome = (await this.#next()) as Outcome;
    const given = released ? this.#peer.given?.() : [];
    return { outcome, expected: this.#peer.taken?.(outcome.got) ?? given ?? [] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.stdin.end();
    await this.#child.exited;
    this.#peer[Symbol.dispose]();
  }
}

interface Result {
  readonly outcome: Outcome;
  readonly expected: Outcome["got"];
}

// All children wait at the same time, so that they all wait little.
async function attemptAll(timeoutMs: number, released: boolean): Promise<Map<Call, Result>> {
  await using attempts = new AsyncDisposableStack();
  const all = CALL_NAMES.map((call) => attempts.use(new Attempt(call, timeoutMs)));
  await Promise.all(all.map((attempt) => attempt.start()));
  for (const attempt of all) attempt.go();
  const started = performance.now();
  for (let sent = 0; sent < SIGNALS; sent++) {
    while (performance.now() < started + sent * SIGNAL_EACH_MS) await Bun.sleep(1);
    for (const attempt of all) attempt.signal();
    if (released && sent === SIGNALS / 2) for (const attempt of all) attempt.release();
  }
  const results = await Promise.all(all.map((attempt) => attempt.finish(released)));
  return new Map(results.map((result, i) => [CALL_NAMES[i] as Call, result]));
}

describe.each([
  ["until its deadline", TIMEOUT_MS, false],
  ["until it gets what it waits for", LONG_MS, true],
])(`under ${SIGNALS} signals`, (what, timeoutMs, released) => {
  let results: Map<Call, Result>;
  beforeAll(async () => {
    results = await attemptAll(timeoutMs, released);
  }, LIMIT_MS);

  test.each(CALL_NAMES)(`%s() waits ${what}`, (call) => {
    const [syscall, , transferred = 0] = CALLS[call];
    const { outcome, expected } = results.get(call) as Result;
    const { elapsedMs, interruptions, error, got } = outcome;
    console.log(`${call}: ${interruptions} EINTR of poll, ${elapsedMs.toFixed(1)} ms`);
    expect(error).toEqual(released ? undefined : ["TimeoutError", syscall, transferred]);
    expect(got).toEqual(expected);
    expect(interruptions).toBeGreaterThanOrEqual(INTERRUPTIONS);
    if (released) {
      expect(elapsedMs).toBeLessThan(LONG_MS);
    } else {
      expect(elapsedMs).toBeGreaterThanOrEqual(TIMEOUT_MS);
      expect(elapsedMs).toBeLessThan(TIMEOUT_MS + LATE_MS);
    }
  });
});

/** One blocking call in this process, with nothing to do until `release`. */
interface Blocked extends Disposable {
  readonly run: (options: WaitOptions) => unknown;
  readonly release: () => void;
}

function blockedReceive(receive: (udp: UdpSocket, options: WaitOptions) => unknown): Blocked {
  const udp = UdpSocket.bind("127.0.0.1:0");
  const peer = UdpSocket.open("ipv4");
  peer.connectSync(udp.localAddress);
  return {
    run: (options) => receive(udp, options),
    release: () => peer.sendSync("data"),
    [Symbol.dispose]() {
      udp.close();
      peer.close();
    },
  };
}

function blockedSend(send: (unix: UnixDatagramSocket, options: WaitOptions) => unknown): Blocked {
  const [unix, peer] = UnixDatagramSocket.pair();
  while (unix.trySend(Buffer.from("data")) !== undefined);
  return {
    run: (options) => send(unix, options),
    release() {
      while (peer.tryReceive(new Uint8Array(8)) !== undefined);
    },
    [Symbol.dispose]() {
      unix.close();
      peer.close();
    },
  };
}

function blockedSendTo(): Blocked {
  const server = UnixDatagramSocket.bind(UnixAddress.unnamed);
  const unix = UnixDatagramSocket.open();
  const { localAddress } = server;
  while (unix.trySendTo(Buffer.from("data"), localAddress) !== undefined);
  return {
    run: (options) => unix.sendToSync("data", localAddress, options),
    release() {
      while (server.tryReceive(new Uint8Array(8)) !== undefined);
    },
    [Symbol.dispose]() {
      server.close();
      unix.close();
    },
  };
}

function blockedAll(): Blocked {
  const [left, right] = Socket.pair();
  right.sendSync("d");
  const target = Buffer.alloc(4);
  return {
    run: (options) => left.receiveSync(target, { ...options, flags: MSG_WAITALL }),
    release: () => right.sendSync("ata"),
    [Symbol.dispose]() {
      left.close();
      right.close();
    },
  };
}

function blockedAccept(): Blocked {
  const listener = listen("ipv4");
  const client = Socket.create("ipv4", "stream");
  return {
    run: (options) => {
      listener.acceptSync(options).close();
      return 4;
    },
    release: () => client.connectSync(listener.localAddress, WAIT),
    [Symbol.dispose]() {
      listener.close();
      client.close();
    },
  };
}

function blockedConnect(): Blocked {
  const listener = listen("unix", 0);
  const [first, client] = [Socket.create("unix", "stream"), Socket.create("unix", "stream")];
  first.connectSync(listener.localAddress, WAIT);
  return {
    run: (options) => {
      client.connectSync(listener.localAddress, options);
      return 4;
    },
    release: () => listener.acceptSync(WAIT).close(),
    [Symbol.dispose]() {
      for (const socket of [listener, first, client]) socket.close();
    },
  };
}

function batchOf(text: string): DatagramBatch {
  const batch = new DatagramBatch({ capacity: 4 });
  batch.count = 1;
  batch.write(0, text);
  return batch;
}

// By method: the C call it makes, and what it is called on. Released, each of them gives 4.
const BLOCKED: readonly (readonly [method: string, syscall: keyof Libc, make: () => Blocked])[] = [
  [
    "receiveSync",
    "recv",
    () => blockedReceive((udp, options) => udp.receiveSync(new Uint8Array(8), options)),
  ],
  [
    "receiveBytesSync",
    "recv",
    () => blockedReceive((udp, options) => udp.receiveBytesSync(8, options).length),
  ],
  ["receiveSync with MSG_WAITALL", "recv", blockedAll],
  [
    "receiveFromSync",
    "recvfrom",
    () => blockedReceive((udp, options) => udp.receiveFromSync(new Uint8Array(8), options).length),
  ],
  [
    "receiveMessageSync",
    "recvmsg",
    () =>
      blockedReceive((udp, options) =>
        udp.receiveMessageSync(new Message({ vectors: new Uint8Array(8) }), options),
      ),
  ],
  [
    "receiveBatchSync",
    "recvmmsg",
    () =>
      blockedReceive((udp, options) => {
        using batch = batchOf("");
        udp.receiveBatchSync(batch, options);
        return batch.length(0);
      }),
  ],
  ["acceptSync", "accept4", blockedAccept],
  ["connectSync", "connect", blockedConnect],
  ["sendSync", "send", () => blockedSend((unix, options) => unix.sendSync("data", options))],
  ["sendToSync", "sendto", blockedSendTo],
  [
    "sendMessageSync",
    "sendmsg",
    () =>
      blockedSend((unix, options) =>
        unix.sendMessageSync(new Message({ vectors: Buffer.from("data") }), options),
      ),
  ],
  [
    "sendBatchSync",
    "sendmmsg",
    () =>
      blockedSend((unix, options) => {
        using batch = batchOf("data");
        return 4 * unix.sendBatchSync(batch, 0, options);
      }),
  ],
];

describe.each(BLOCKED)("%s(), interrupted by fault injection,", (_, syscall, make) => {
  const SHORT_MS = 50;
  const TIMES = 1000;

  test("keeps its deadline when poll(2) is interrupted for ever", () => {
    using blocked = make();
    const started = performance.now();
    using fault = replaceEntry("poll", () => {
      if (performance.now() > started + LONG_MS) throw new Error("The deadline was not kept");
      return failWith(EINTR);
    });
    let error: unknown;
    try {
      blocked.run({ timeoutMs: SHORT_MS });
    } catch (thrown) {
      error = thrown;
    }
    const elapsed = performance.now() - started;
    expect(error).toBeInstanceOf(TimeoutError);
    expect((error as TimeoutError).syscall).toBe(syscall);
    expect(elapsed).toBeGreaterThanOrEqual(SHORT_MS);
    expect(elapsed).toBeLessThan(SHORT_MS + LATE_MS);
    expect(fault.calls).toBeGreaterThan(INTERRUPTIONS);
  });

  test(`succeeds when it gets what it waits for after ${TIMES} interruptions of poll(2)`, () => {
    using blocked = make();
    const { poll } = libc;
    let left = TIMES;
    using fault = replaceEntry("poll", (...values) => {
      if (left-- > 0) return failWith(EINTR);
      if (left === -1) blocked.release();
      return poll(...values);
    });
    expect(blocked.run({ timeoutMs: LONG_MS })).toBe(4);
    expect(fault.calls).toBeGreaterThan(TIMES);
  });

  // connect(2) that was interrupted goes on by itself, so there is a pause after each.
  const times = syscall === "connect" ? 10 : TIMES;
  test(`makes its own call again after ${times} interruptions of that`, () => {
    using blocked = make();
    blocked.release();
    const real = libc[syscall] as (...values: unknown[]) => number;
    let left = times;
    using fault = replaceEntry(syscall, ((...values: unknown[]) =>
      left-- > 0 ? failWith(EINTR) : real(...values)) as Libc[typeof syscall]);
    expect(blocked.run({ timeoutMs: LONG_MS })).toBe(4);
    expect(fault.calls).toBeGreaterThan(times);
  });

  test("keeps its deadline when each try is interrupted before it would block", () => {
    using blocked = make();
    let calls = 0;
    using _fault = replaceEntry(syscall, (() =>
      failWith(++calls % 3 === 0 ? EAGAIN : EINTR)) as unknown as Libc[typeof syscall]);
    const started = performance.now();
    using poll = replaceEntry("poll", () => {
      if (performance.now() > started + LONG_MS) throw new Error("The deadline was not kept");
      return 1;
    });
    expect(() => blocked.run({ timeoutMs: SHORT_MS })).toThrow(TimeoutError);
    const elapsed = performance.now() - started;
    expect(elapsed).toBeGreaterThanOrEqual(SHORT_MS);
    expect(elapsed).toBeLessThan(SHORT_MS + LATE_MS);
    expect(poll.calls).toBeGreaterThan(INTERRUPTIONS);
  });
});
