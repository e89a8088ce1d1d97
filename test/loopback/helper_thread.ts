/**
 * What helper_thread.test.ts runs in a process of its own, because a signal, a crash or an exit
 * would be the runner's: `bun test/loopback/helper_thread.ts MODE`. Workers run it too.
 *
 * @module
 */
import { cc } from "bun:ffi";
import { readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread } from "node:worker_threads";
import {
  AF_UNIX,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLLIN,
  epoll_create1,
  epoll_ctl,
  eventfd,
  read,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socketpair,
  write,
} from "bun-sockets/sys";
import {
  HELPER_THREAD_NAME,
  type HelperThread,
  startHelperThread,
} from "../../lib/ffi/helper_thread.ts";
import { epoll_event } from "../../structs/epoll_event.ts";

/** The size of a ring, and of what an eventfd counts. */
export const RING_BYTES = 8;

/** What is waited for at most. */
export const LIMIT_MS = 5000;

/** The descriptors that a helper thread works with. */
export interface Parts {
  readonly epollFd: number;
  /** The eventfd in the epoll set: the set is ready while it counts something. */
  readonly source: number;
  /** Where the thread rings, and where that is heard. */
  readonly bell: number;
  readonly ear: number;
}

/** Opens them. */
export function openParts(): Parts {
  const epollFd = opened(epoll_create1(EPOLL_CLOEXEC));
  const source = opened(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const event = new DataView(new ArrayBuffer(epoll_event.size));
  epoll_event.events.set(event, 0, EPOLLIN);
  opened(epoll_ctl(epollFd, EPOLL_CTL_ADD, source, event));
  const pair = new Int32Array(2);
  opened(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
  return { epollFd, source, bell: pair[0] ?? -1, ear: pair[1] ?? -1 };
}

/** Returns what is not an error. */
export function opened(result: number): number {
  if (result < 0) throw new Error(`A call returned ${result}`);
  return result;
}

const ONE = new BigUint64Array([1n]);

/** Makes the epoll set ready. */
export function makeReady({ source }: Parts): void {
  opened(write(source, ONE));
}

/** Makes the epoll set wait again. */
export function drain({ source }: Parts): void {
  opened(read(source, new BigUint64Array(1)));
}

/** The ids of the helper threads of this process. */
export function helperThreads(): string[] {
  return readdirSync("/proc/self/task").filter((id) => {
    try {
      return readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim() === HELPER_THREAD_NAME;
    } catch {
      // It has ended in between.
      return false;
    }
  });
}

/** What /proc counts of this process. */
export interface Counts {
  readonly threads: number;
  readonly descriptors: number;
  readonly pidfds: number;
  readonly mappings: number;
}

/** Counts it. */
export function counts(): Counts {
  const descriptors = readdirSync("/proc/self/fd");
  const pidfds = descriptors.filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes("pidfd");
    } catch {
      // It was that of the listing itself.
      return false;
    }
  });
  return {
    threads: readdirSync("/proc/self/task").length,
    descriptors: descriptors.length,
    pidfds: pidfds.length,
    mappings: readFileSync("/proc/self/maps", "utf8").split("\n").length,
  };
}

/** Waits for a condition, and returns how long that took, or undefined when it took too long. */
export async function until(
  condition: () => boolean,
  limitMs = LIMIT_MS,
): Promise<number | undefined> {
  const started = performance.now();
  while (!condition()) {
    if (performance.now() > started + limitMs) return undefined;
    await Bun.sleep(1);
  }
  return performance.now() - started;
}

function say(value: unknown): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

/** Hears a bell on Bun's event loop. */
class Ear implements Disposable {
  rings = 0;
  #wake = () => {};
  readonly #socket: { end(): void };

  private constructor(connected: (data: (bytes: Uint8Array) => void) => { end(): void }) {
    this.#socket = connected((bytes) => {
      this.rings += bytes.length / RING_BYTES;
      this.#wake();
    });
  }

  static async open(fd: number): Promise<Ear> {
    // bun-types has no overload for a descriptor.
    const connect = Bun.connect as unknown as (options: unknown) => Promise<{ end(): void }>;
    let hear = (_bytes: Uint8Array) => {};
    const data = (_socket: unknown, bytes: Uint8Array) => hear(bytes);
    const socket = await connect({ fd, socket: { data } });
    return new Ear((heard) => {
      hear = heard;
      return socket;
    });
  }

  /** Does what makes it ring, and tells whether it did in time. */
  async rung(ring: () => void): Promise<boolean> {
    const before = this.rings;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const timer = setTimeout(resolve, LIMIT_MS);
    ring();
    await promise;
    clearTimeout(timer);
    return this.rings > before;
  }

  [Symbol.dispose](): void {
    this.#socket.end();
  }
}

/** What `storm` says at its end. */
export interface Storm {
  /** How often the thread was armed and the set made ready, and how often the bell rang. */
  readonly rounds: number;
  readonly rings: number;
  /** Signals that JavaScript handled: of the storm, and of those that came one by one after it. */
  readonly inStorm: number;
  readonly afterStorm: number;
}

/** The signals of the storm. */
export const STORM_SIGNALS = ["SIGUSR1", "SIGWINCH"] as const;

/** How many signals are sent one by one when the storm is over. */
export const SINGLE_SIGNALS = 100;

// The storm comes from another process, and is over with the end of stdin.
async function storm(): Promise<void> {
  let handled = 0;
  let wake = () => {};
  for (const name of STORM_SIGNALS) {
    process.on(name, () => {
      handled++;
      wake();
    });
  }
  const parts = openParts();
  using ear = await Ear.open(parts.ear);
  const thread = startHelperThread(parts.epollFd, parts.bell);
  let isOver = false;
  const over = Bun.stdin.text().then(() => {
    isOver = true;
  });
  say("ready");
  let rounds = 0;
  while (!isOver && ear.rings === rounds) {
    rounds++;
    await ear.rung(() => {
      thread.arm();
      makeReady(parts);
    });
    drain(parts);
  }
  await over;
  const inStorm = handled;
  handled = 0;
  for (let i = 0; i < SINGLE_SIGNALS; i++) {
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    process.kill(process.pid, STORM_SIGNALS[i % STORM_SIGNALS.length]);
    await promise;
  }
  thread.stop();
  say({ rounds, rings: ear.rings, inStorm, afterStorm: handled } satisfies Storm);
}

/** What `workers` says at its end. */
export interface Workers {
  readonly before: Counts;
  /** While the Workers ran: at most how many helper threads, and how many pidfds. */
  readonly running: number;
  readonly pidfds: number;
  /** How long the last helper thread lived on when all Workers had been terminated. */
  readonly orphanedMs: number | undefined;
  readonly after: Counts;
}

/** How many more threads and descriptors the engine keeps of its own when Workers have run. */
export const ENGINE_THREADS = 10;
export const ENGINE_DESCRIPTORS = 4;

/** How many Workers run at the same time. */
export const WORKERS_AT_ONCE = 10;

async function startWorker(mode: Mode): Promise<[Worker, unknown]> {
  // A Worker gets the arguments of its process, but its own environment.
  const worker = new Worker(import.meta.url, { env: { HELPER_THREAD_MODE: mode } });
  const said = await new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
  return [worker, said];
}

async function terminateWorkers(mode: Mode, count: number, each: () => void): Promise<void> {
  for (let started = 0; started < count; started += WORKERS_AT_ONCE) {
    const all = Array.from({ length: WORKERS_AT_ONCE }, () => startWorker(mode));
    const running = await Promise.all(all);
    each();
    await Promise.all(running.map(([worker]) => worker.terminate()));
  }
}

async function workers(): Promise<void> {
  const before = counts();
  let [running, pidfds] = [0, 0];
  await terminateWorkers("waitingWorker", Number(process.argv[3]), () => {
    running = Math.max(running, helperThreads().length);
    pidfds = Math.max(pidfds, counts().pidfds);
  });
  const orphanedMs = await until(() => helperThreads().length === 0);
  // The engine ends what belongs to a Worker a little after it was terminated.
  let after = counts();
  await until(() => {
    after = counts();
    return (
      after.threads <= before.threads + ENGINE_THREADS &&
      after.descriptors <= before.descriptors + ENGINE_DESCRIPTORS
    );
  });
  say({ before, running, pidfds, orphanedMs, after } satisfies Workers);
}

// Holds what would be lost with its function.
let held: HelperThread | undefined;

// Nothing ever comes to its epoll set.
function waitingWorker(): void {
  const parts = openParts();
  held = startHelperThread(parts.epollFd, parts.bell, Object.values(parts));
  held.arm();
  postMessage("started");
}

/** What `own` says at its end: which of five descriptors are open. */
export interface Owned {
  readonly before: readonly boolean[];
  readonly after: readonly boolean[];
}

async function own(): Promise<void> {
  const [worker, said] = await startWorker("owningWorker");
  const areOpen = () => {
    const open = readdirSync("/proc/self/fd");
    return (said as number[]).map((fd) => open.includes(`${fd}`));
  };
  const before = areOpen();
  await worker.terminate();
  // The thread closes its own eventfd last.
  await until(() => areOpen()[0] === false);
  say({ before, after: areOpen() } satisfies Owned);
}

// What it owned first is not what it owns last.
function owningWorker(): void {
  const { epollFd, source, bell, ear } = openParts();
  held = startHelperThread(epollFd, bell, [source, bell]);
  held.own([epollFd, ear]);
  postMessage([held.fd, epollFd, ear, source, bell]);
}

// The thread waits for a set that is never ready, and nobody stops it.
async function leave(): Promise<void> {
  const { epollFd, bell } = openParts();
  held = startHelperThread(epollFd, bell);
  held.arm();
  await until(() => helperThreads().length > 0);
  say(helperThreads().length);
}

/** What `hear` says. */
export interface Heard {
  readonly rung: boolean;
  /** What the compiler says to a program for which it needs a header, and to one without. */
  readonly withHeader: string;
  readonly withoutHeader: string;
}

async function hear(): Promise<void> {
  const parts = openParts();
  using ear = await Ear.open(parts.ear);
  const thread = startHelperThread(parts.epollFd, parts.bell);
  const rung = await ear.rung(() => {
    thread.arm();
    makeReady(parts);
  });
  thread.stop();
  say({
    rung,
    withHeader: compile("#include <stdio.h>\nint f(void) { return EOF; }\n"),
    withoutHeader: compile("int f(void) { return 1; }\n"),
  } satisfies Heard);
}

function compile(text: string): string {
  const source = join(tmpdir(), "plain.c");
  writeFileSync(source, text);
  try {
    cc({ source, symbols: { f: { args: [], returns: "i32" } } }).close();
    return "compiled";
  } catch (error) {
    return (error as Error).message;
  } finally {
    rmSync(source);
  }
}

const MODES = {
  storm,
  workers,
  waitingWorker,
  own,
  owningWorker,
  leave,
  async leaveByCall() {
    await leave();
    process.exit(0);
  },
  hear,
} as const;

/** What this program does. */
export type Mode = keyof typeof MODES;

const mode = process.env["HELPER_THREAD_MODE"] ?? (import.meta.main ? process.argv[2] : undefined);
if (mode !== undefined) {
  await MODES[mode as Mode]();
  // A Worker stays until it is terminated.
  if (!isMainThread) setInterval(() => {}, LIMIT_MS);
}
