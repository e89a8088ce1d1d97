/**
 * The program of turn_budget.test.ts: receives on a socket that is flooded from outside without a
 * pause, in one of the forms that wait, and tells how late a timer was meanwhile, and how late a
 * second socket got its datagrams.
 *
 * The core is not ours alone, and the test is about what we do with our time: so everything is told
 * twice, by the clock on the wall, and in time that this thread has used.
 *
 * @module
 */
import { dlopen } from "bun:ffi";
import { readFileSync, writeSync } from "node:fs";
import { DatagramBatch, Message, poller, UdpSocket } from "bun-sockets";
import { EAGAIN, SO_RCVBUFFORCE, SOL_SOCKET } from "bun-sockets/sys";
import { type Libc, libc, orErrno } from "../../lib/ffi/libc.ts";

/** What the program is told, as JSON in its first argument. */
export interface Order {
  readonly form: FormName | "all";
  /** How many do the same, each on a duplicate of the socket. */
  readonly loops: number;
  /** The budget; null is none. */
  readonly budgetMs: number | null;
  readonly durationMs: number;
  /** The program that floods, and the core that it takes. */
  readonly flood: string;
  readonly floodCore: number;
}

/** How late a 1 ms timer was. */
export interface Lateness {
  readonly ticksPerSecond: number;
  /** The 99th percentile of the milliseconds above 1 between one tick and the next. */
  readonly p99Ms: number;
}

/** How late everything was, by one clock. */
export interface Times {
  readonly timer: Lateness;
  /** The latest datagram of the quiet socket. */
  readonly quietMs: number;
}

/** What the program tells, as JSON. */
export interface Outcome {
  /** The timer, before there was a socket: by the clock on the wall. */
  readonly baseline: Lateness;
  readonly wall: Times;
  readonly own: Times;
  /** How many datagrams the quiet socket got, and how many were missing. */
  readonly quiet: { readonly got: number; readonly missing: number };
  readonly handled: number;
  /** How often the flooded queue was empty. */
  readonly empty: number;
  /** What the kernel has thrown away since the flood began, because the flooded queue was full. */
  readonly dropped: number;
  readonly elapsedMs: number;
  /** How much of it others had our core: other processes, and the engine's own compilers. */
  readonly foreignMs: number;
}

const WORK_MS = 0.005;
const BASELINE_MS = 150;
/** The engine's compilers have work first, on the same core. */
const WARM_UP_MS = 150;
/** How many times longer than our own time it may take, when others have the core. */
const STRETCH_MAX = 2;
/** What is waited for in any case before it is given up. */
const LIMIT_MS = 8000;
/** How long the sender may take to send the next one. */
const QUIET_END_MS = 500;
/** Deep, so that it does not run empty while others have the core of the flood. */
const BUFFER_BYTES = 32 << 20;
const CAPACITY = 64;
/** All forms at once do a little each. */
const SHARED_CAPACITY = 4;
const CLOCK_MONOTONIC = 1;
const CLOCK_THREAD_CPUTIME_ID = 3;

type Work = (datagrams: number) => boolean;

// Each of them receives until the work says that it is enough.
const FORMS = {
  async "await receive()"(socket: UdpSocket, work: Work) {
    const target = new Uint8Array(64);
    do await socket.receive(target);
    while (work(1));
  },
  async "await receiveFrom()"(socket: UdpSocket, work: Work) {
    const target = new Uint8Array(64);
    do await socket.receiveFrom(target);
    while (work(1));
  },
  async "await receiveMessage()"(socket: UdpSocket, work: Work) {
    const message = new Message({ vectors: new Uint8Array(64) });
    do await socket.receiveMessage(message);
    while (work(1));
  },
  async "await receiveBatch()"(socket: UdpSocket, work: Work, capacity: number) {
    using batch = new DatagramBatch({ capacity });
    do await socket.receiveBatch(batch);
    while (work(batch.count));
  },
  async "for await … of batches()"(socket: UdpSocket, work: Work, capacity: number) {
    for await (const batch of socket.batches({ capacity })) if (!work(batch.count)) break;
  },
  "onBatch() with a synchronous handler": (socket: UdpSocket, work: Work, capacity: number) =>
    subscribe(socket, work, capacity, () => undefined),
  "onBatch() with an asynchronous handler": (socket: UdpSocket, work: Work, capacity: number) =>
    subscribe(socket, work, capacity, async () => undefined),
  async "an echo of await receiveFrom() and sendTo()"(socket: UdpSocket, work: Work) {
    const target = new Uint8Array(64);
    do {
      const { length, address } = await socket.receiveFrom(target);
      await socket.sendTo(target.subarray(0, length), address);
    } while (work(1));
  },
  async "an echo of await receiveBatch() and sendBatch()"(
    socket: UdpSocket,
    work: Work,
    capacity: number,
  ) {
    using batch = new DatagramBatch({ capacity });
    do {
      await socket.receiveBatch(batch);
      await socket.sendBatch(batch);
    } while (work(batch.count));
  },
  async "an echo of batches() and sendBatch()"(socket: UdpSocket, work: Work, capacity: number) {
    for await (const batch of socket.batches({ capacity })) {
      await socket.sendBatch(batch);
      if (!work(batch.count)) break;
    }
  },
  "an echo of onBatch() and trySendBatch()": (socket: UdpSocket, work: Work, capacity: number) =>
    subscribe(socket, work, capacity, (batch) => void socket.trySendBatch(batch)),
  "an echo of onBatch() and sendBatch()": (socket: UdpSocket, work: Work, capacity: number) =>
    subscribe(socket, work, capacity, (batch) => socket.sendBatch(batch)),
} as const;

function subscribe(
  socket: UdpSocket,
  work: Work,
  capacity: number,
  answer: (batch: DatagramBatch) => Promise<unknown> | undefined,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler = (batch: DatagramBatch) => {
    const { count } = batch;
    const answered = answer(batch);
    if (!work(count)) {
      subscription.stop();
      resolve();
    }
    return answered;
  };
  const subscription = socket.onBatch(handler, { capacity });
  return promise;
}

export type FormName = keyof typeof FORMS;

/** The names of the forms. */
export const FORM_NAMES = Object.keys(FORMS) as FormName[];

if (import.meta.main) {
  const order = JSON.parse(process.argv[2] ?? "") as Order;
  writeSync(1, JSON.stringify(await measure(order)));
}

async function measure(order: Order): Promise<Outcome> {
  poller.turnBudgetMs = order.budgetMs ?? Number.POSITIVE_INFINITY;
  const clock = new Clock();
  const probe = new TimerProbe(clock);
  await Bun.sleep(BASELINE_MS);
  const baseline = probe.stop().wall;

  using socket = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: BUFFER_BYTES });
  try {
    // Past rmem_max, where that is allowed.
    socket.setRawOption(SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
  } catch {
    // What there is has to do.
  }
  using quiet = UdpSocket.bind("127.0.0.1:0");
  const { port } = socket.localAddress;
  const command = [order.flood, `${order.floodCore}`, `${port}`, `${quiet.localAddress.port}`];
  const flood = Bun.spawn(command, { stdio: ["ignore", "ignore", "inherit"] });
  try {
    const limit = performance.now() + LIMIT_MS;
    while (droppedAt(port) === 0) {
      if (performance.now() > limit) throw new Error("the flood does not fill the queue");
      await Bun.sleep(5);
    }
    return { baseline, ...(await saturate(order, clock, socket, quiet)) };
  } finally {
    flood.kill("SIGKILL");
    await flood.exited;
  }
}

async function saturate(
  { form, loops: count, durationMs }: Order,
  clock: Clock,
  socket: UdpSocket,
  quiet: UdpSocket,
): Promise<Omit<Outcome, "baseline">> {
  const { port } = socket.localAddress;
  const names = form === "all" ? FORM_NAMES : Array<FormName>(count).fill(form);
  const capacity = form === "all" ? SHARED_CAPACITY : CAPACITY;
  const sharers = names.map(() => socket.duplicate());
  const emptyCount = countEmpty(new Set(sharers.map(({ descriptor }) => descriptor)));
  let handled = 0;
  const snapshot = () => ({
    handled,
    empty: emptyCount(),
    wallMs: clock.wallMs(),
    ownMs: clock.ownMs(),
  });
  let before = snapshot();
  let after: typeof before | undefined;
  let timer: TimerProbe | undefined;
  const heard = new QuietProbe(quiet, clock);

  let end = performance.now() + WARM_UP_MS;
  // Returns false when it was enough, by our own time or else by the clock on the wall.
  const goesOn = (now: number, ms: number): boolean => {
    const missing = ms - (clock.ownMs() - before.ownMs);
    if (missing <= 0 || clock.wallMs() - before.wallMs > ms * STRETCH_MAX) return false;
    end = now + missing;
    return true;
  };
  const work = (datagrams: number): boolean => {
    handled += datagrams;
    let now = performance.now();
    for (let i = 0; i < datagrams; i++)
      for (const until = now + WORK_MS; now < until; ) now = performance.now();
    if (after) return false;
    if (now < end || goesOn(now, timer ? durationMs : WARM_UP_MS)) return true;
    if (timer) {
      after = snapshot();
      heard.untilMs = after.wallMs;
      return false;
    }
    timer = new TimerProbe(clock);
    before = snapshot();
    heard.fromMs = before.wallMs;
    end = now + durationMs;
    return true;
  };
  const loops = names.map((name, i) => FORMS[name](sharers[i] as UdpSocket, work, capacity));
  let isOver = false;
  // The flood has stopped, or nobody is served: what waits is not waited for any longer.
  const watchdog = setTimeout(() => {
    isOver = true;
    for (const sharer of sharers) sharer.close();
  }, LIMIT_MS);
  await Promise.allSettled(loops);
  clearTimeout(watchdog);
  if (!timer || !after || isOver) throw new Error("it did not go on until the end");
  const { wall, own } = timer.stop();
  await Promise.race([heard.end, Bun.sleep(QUIET_END_MS)]);
  const { got, missing, wallMs, ownMs } = heard;
  // What came and was not received is missing as well.
  const left = quiet.tryReceive(new Uint8Array(16)) === undefined ? 0 : 1;
  quiet.close();
  for (const sharer of sharers) sharer.close();
  const elapsedMs = after.wallMs - before.wallMs;
  return {
    wall: { timer: wall, quietMs: wallMs },
    own: { timer: own, quietMs: ownMs },
    quiet: { got, missing: missing + left },
    handled: after.handled - before.handled,
    empty: after.empty - before.empty,
    dropped: droppedAt(port),
    elapsedMs,
    foreignMs: Math.max(elapsedMs - (after.ownMs - before.ownMs), 0),
  };
}

/** Receives on the quiet socket, and tells how late what was sent between two times came. */
class QuietProbe {
  fromMs = Number.POSITIVE_INFINITY;
  untilMs = Number.POSITIVE_INFINITY;
  got = 0;
  missing = 0;
  wallMs = 0;
  ownMs = 0;
  /** Settles with the first one that was sent later, or when the socket is closed. */
  readonly end: Promise<void>;

  constructor(quiet: UdpSocket, clock: Clock) {
    this.end = this.#receive(quiet, clock).catch(() => {});
  }

  async #receive(quiet: UdpSocket, clock: Clock): Promise<void> {
    const words = new BigInt64Array(new ArrayBuffer(16));
    let expected: bigint | undefined;
    for (;;) {
      await quiet.receive(words);
      const now = clock.wallMs();
      const [sent = 0n, number = 0n] = words;
      this.missing += Number(number - (expected ?? number));
      expected = number + 1n;
      const sentMs = Number(sent) / 1e6;
      if (sentMs > this.untilMs) return;
      if (sentMs < this.fromMs) continue;
      this.got++;
      this.wallMs = Math.max(this.wallMs, now - sentMs);
      this.ownMs = Math.max(this.ownMs, Math.min(now - sentMs, clock.ownSince(sentMs)));
    }
  }
}

/** A timer of 1 ms, and how late it is. */
class TimerProbe {
  readonly #clock: Clock;
  readonly #wall: number[] = [];
  readonly #own: number[] = [];
  readonly #timer: ReturnType<typeof setInterval>;
  #ticks = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    clock.sample();
    this.#timer = setInterval(() => {
      this.#ticks++;
      this.#measure();
    }, 1);
  }

  #measure(): void {
    const { wallMs, ownMs } = this.#clock.sample();
    this.#wall.push(wallMs);
    this.#own.push(ownMs);
  }

  // The tick that did not come any more was late too.
  stop(): { wall: Lateness; own: Lateness } {
    clearInterval(this.#timer);
    this.#measure();
    return { wall: lateness(this.#wall, this.#ticks), own: lateness(this.#own, this.#ticks) };
  }
}

function lateness(gaps: number[], ticks: number): Lateness {
  const elapsed = gaps.reduce((sum, gap) => sum + gap, 0);
  gaps.sort((left, right) => left - right);
  const p99 = gaps[Math.ceil(gaps.length * 0.99) - 1] ?? 0;
  return { ticksPerSecond: (ticks * 1000) / elapsed, p99Ms: Math.max(p99 - 1, 0) };
}

/** What time it is, and how much of it this thread had. */
class Clock {
  readonly #clock_gettime = dlopen("libc.so.6", {
    clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
  }).symbols.clock_gettime;
  readonly #time = new BigInt64Array(new ArrayBuffer(16));
  readonly #samples: { readonly wallMs: number; readonly ownMs: number }[] = [];

  #read(id: number): number {
    this.#clock_gettime(id, this.#time);
    const [seconds = 0n, nanoseconds = 0n] = this.#time;
    return Number(seconds) * 1000 + Number(nanoseconds) / 1e6;
  }

  /** Milliseconds of CLOCK_MONOTONIC, as the sender tells them. */
  wallMs(): number {
    return this.#read(CLOCK_MONOTONIC);
  }

  /** What this thread has used. */
  ownMs(): number {
    return this.#read(CLOCK_THREAD_CPUTIME_ID);
  }

  /** How much time has passed since the last sample, on both clocks. */
  sample(): { wallMs: number; ownMs: number } {
    const wallMs = this.wallMs();
    const ownMs = this.ownMs();
    const last = this.#samples.at(-1) ?? { wallMs, ownMs };
    this.#samples.push({ wallMs, ownMs });
    return { wallMs: wallMs - last.wallMs, ownMs: ownMs - last.ownMs };
  }

  /** What this thread has used since a time, or since the last sample before it. */
  ownSince(wallMs: number): number {
    const sample = this.#samples.findLast((sample) => sample.wallMs <= wallMs);
    return this.ownMs() - (sample?.ownMs ?? 0);
  }
}

/** Counts from now on how often nothing was waiting at these descriptors. */
function countEmpty(fds: ReadonlySet<number>): () => number {
  let empty = 0;
  for (const name of ["recv", "recvfrom", "recvmsg", "recvmmsg"] as const) {
    const original = libc[name] as (fd: number, ...values: unknown[]) => number;
    const counted = (fd: number, ...values: unknown[]) => {
      const result = original(fd, ...values);
      if (result < 0 && fds.has(fd) && orErrno(result) === -EAGAIN) empty++;
      return result;
    };
    Object.assign(libc, { [name]: counted as Libc[typeof name] });
  }
  return () => empty;
}

/** What the kernel has thrown away of a port's datagrams: the last column of its table. */
function droppedAt(port: number): number {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = readFileSync("/proc/net/udp", "latin1").split("\n");
  const line = lines.find((line) => line.trim().split(/\s+/)[1]?.endsWith(local));
  return Number(line?.trim().split(/\s+/).at(-1) ?? 0);
}
