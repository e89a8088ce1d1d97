/**
 * What workers.test.ts runs in a process of its own: `bun test/loopback/workers/workers.ts MODE`.
 * Its Workers run worker.ts.
 *
 * @module
 */
import { readFileSync, readlinkSync } from "node:fs";
import { DatagramBatch, type InetAddress, poller, UdpSocket } from "bun-sockets";
import {
  AF_UNIX,
  close,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_MOD,
  EPOLLIN,
  epoll_create1,
  epoll_ctl,
  eventfd,
  MFD_CLOEXEC,
  memfd_create,
  read,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  socketpair,
} from "bun-sockets/sys";
import { engine } from "../../../lib/internal/poller_engine.ts";
import { epoll_event } from "../../../structs/epoll_event.ts";
import {
  descriptors,
  difference,
  type Kinds,
  openKinds,
  say,
  threadKinds,
  until,
  WAYS,
  type Way,
} from "./support.ts";
import {
  BATCH,
  CANCELED,
  CLAIMED,
  CLAIMING,
  COUNTS,
  type Counted,
  DATAGRAMS_MAX,
  FAILED,
  hears,
  OPEN,
  OPENING,
  open,
  PROBE,
  QUEUED,
  RECEIVED,
  type Role,
  running,
  STARTED,
  STOP,
  Tally,
  WINDOW,
} from "./worker.ts";

/** How many Workers run at the same time. */
const AT_ONCE = 8;

/** What a Worker says when it has started: the descriptors of its sockets. */
type Said = readonly number[];

function startWorker(role: Role, way?: Way): Worker {
  return new Worker(new URL("worker.ts", import.meta.url), {
    env: { ...process.env, ...way?.env, WORKER_ROLE: role } as Record<string, string>,
  });
}

/** The next thing that a Worker says. */
function saidBy<Value>(worker: Worker): Promise<Value> {
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
}

/** When the thread of a Worker has nothing more to do; with its exit code. */
function endOf(worker: Worker): Promise<number> {
  return new Promise((resolve) => {
    worker.addEventListener("close", (event) => {
      resolve((event as unknown as { code: number }).code);
    });
  });
}

/** What each of many Workers does, by its number. */
type Choose = (i: number) => readonly [Role, (Way | undefined)?];

/** Starts Workers, some at a time, and does something with each that has said what it is to say. */
async function withWorkers(
  count: number,
  choose: Choose,
  use: (worker: Worker, said: Said) => unknown,
): Promise<void> {
  let started = 0;
  const lane = async () => {
    while (started < count) {
      const worker = startWorker(...choose(started++));
      await use(worker, await saidBy<Said>(worker));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

/** Waits until no Worker is left, and no helper thread of one. */
async function workersGone(): Promise<boolean> {
  return await until(() => {
    const { Worker = 0, "bun-sockets": helpers = 0 } = threadKinds();
    return Worker === 0 && helpers === 0;
  });
}

// The engine keeps some threads and descriptors of its own from its first Workers.
async function warmUp(): Promise<void> {
  await withWorkers(
    2 * AT_ONCE,
    () => ["idle"],
    (worker) => worker.terminate(),
  );
  await workersGone();
}

/** The threads that are none of the engine's pools, which grow and shrink as it likes. */
function ourThreads(): Kinds {
  const threads = threadKinds();
  const names = ["Worker", "bun-sockets"].filter((name) => threads[name]);
  return Object.fromEntries(names.map((name) => [name, threads[name] ?? 0]));
}

/** How many mappings there are of io_uring instances: one that is mapped is not gone. */
function ringMappings(): number {
  return readFileSync("/proc/self/maps", "latin1").split("anon_inode:[io_uring]").length - 1;
}

const TURNS = 10;

/** Has a poller start and end in this thread. Says whether it has worked. */
async function nextPoller(): Promise<boolean> {
  const heard = await hears();
  await running();
  engine.stop();
  // The engine closes its end of the bell a little later.
  for (let i = 0; i < TURNS; i++) await new Promise(setImmediate);
  return heard;
}

// The engine closes what it has opened for a Worker a little after its thread has ended.
async function leftOver(before: Kinds, expected: Kinds = {}): Promise<Kinds> {
  await until(() => Bun.deepEquals(difference(before, openKinds()), expected), LEFT_MS_MAX);
  return difference(before, openKinds());
}

const LEFT_MS_MAX = 300;

/** What `terminated` and `thousand` say. */
export interface Terminated {
  readonly workers: number;
  readonly elapsedMs: number;
  /** Whether the threads of all Workers have ended, and what is left of them and their helpers. */
  readonly gone: boolean;
  readonly threads: Kinds;
  /** What is open more than before when the next poller has started and ended. */
  readonly left: Kinds;
  /** Whether that poller has worked. */
  readonly heard: boolean;
  readonly ringMappings: number;
  /** How many sockets the Workers had. */
  readonly sockets: number;
}

async function terminated(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  let sockets = 0;
  const workers = 3 * AT_ONCE;
  const started = performance.now();
  const choose: Choose = () => ["waiting"];
  await withWorkers(workers, choose, async (worker, said) => {
    sockets += said.length;
    await worker.terminate();
  });
  const gone = await workersGone();
  const elapsedMs = performance.now() - started;
  const threads = ourThreads();
  const heard = await nextPoller();
  say({
    workers,
    elapsedMs,
    gone,
    threads,
    left: await leftOver(kinds),
    heard,
    ringMappings: ringMappings(),
    sockets,
  } satisfies Terminated);
}

/** How many Workers `thousand` starts. */
export const MANY = 1000;

/** What `thousand` says. */
export type Thousand = Pick<
  Terminated,
  "workers" | "elapsedMs" | "gone" | "threads" | "left" | "heard" | "ringMappings"
>;

// In every way for the poller to work, at rest and under load.
async function thousand(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  const ways = WAYS.filter(({ missing }) => missing === undefined);
  const roles = ["waiting", "echoing", "unref"] as const;
  const choose: Choose = (i) => [
    roles[i % roles.length] ?? "waiting",
    ways[Math.floor(i / roles.length) % ways.length],
  ];
  const started = performance.now();
  await withWorkers(MANY, choose, (worker) => worker.terminate());
  const gone = await workersGone();
  const elapsedMs = performance.now() - started;
  const threads = ourThreads();
  const heard = await nextPoller();
  say({
    workers: MANY,
    elapsedMs,
    gone,
    threads,
    left: await leftOver(kinds),
    heard,
    ringMappings: ringMappings(),
  } satisfies Thousand);
}

/** What `early` says. */
export interface Early {
  /** How many calls of libc the start of a poller makes. */
  readonly calls: number;
  /** What was left open, for each call before which a Worker was terminated. */
  readonly left: readonly Kinds[];
}

// Terminates Workers before each call that their poller makes when it starts.
async function early(): Promise<void> {
  await warmUp();
  await nextPoller();
  const left: Kinds[] = [];
  let isOver = false;
  for (let stopAt = 1; !isOver; stopAt++) {
    const kinds = openKinds();
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const worker = startWorker("stopping");
    await saidBy(worker);
    worker.postMessage([gate, stopAt]);
    await until(() => Atomics.load(gate, 0) !== 0);
    isOver = Atomics.load(gate, 0) === STARTED;
    await worker.terminate();
    await workersGone();
    await nextPoller();
    left.push(await leftOver(kinds));
  }
  say({ calls: left.length, left } satisfies Early);
}

/** What `crowd` says. */
export interface Crowd {
  /** How many pollers started, and how many of them worked. */
  readonly started: number;
  readonly heard: number;
  /** How many descriptors of the main thread were opened, used and closed meanwhile. */
  readonly used: number;
  /** What was wrong with those that somebody else has closed. */
  readonly wrong: readonly string[];
  readonly left: Kinds;
}

const WAVES = 8;
const STRANGERS = 200;

// Waves of Workers whose pollers start at the same time, each wave after the one before it was
// terminated, while this thread opens, uses and closes other descriptors all the time.
async function crowd(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  const strangers = new Strangers();
  let isOver = false;
  const using = (async () => {
    while (!isOver) {
      strangers.replaceSome();
      await new Promise(setImmediate);
    }
  })();
  let [started, heard] = [0, 0];
  for (let wave = 0; wave < WAVES; wave++) {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const workers = Array.from({ length: AT_ONCE }, () => startWorker("crowding"));
    await Promise.all(workers.map((worker) => saidBy(worker)));
    const answers = workers.map((worker) => {
      const said = saidBy<boolean>(worker);
      worker.postMessage(gate);
      return said;
    });
    // All of them stand at the gate, or will find it open.
    await until(() => Atomics.load(gate, 0) === -AT_ONCE);
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    for (const answer of await Promise.all(answers)) {
      started++;
      if (answer) heard++;
    }
    await Promise.all(workers.map((worker) => worker.terminate()));
    await workersGone();
  }
  isOver = true;
  await using;
  const { used, wrong } = strangers;
  strangers.close();
  await nextPoller();
  const left = await leftOver(kinds);
  say({ started, heard, used, wrong, left } satisfies Crowd);
}

/** A descriptor that can be told from any other. */
interface Stranger {
  /** Returns what is wrong, and closes it. */
  check(): string | undefined;
}

// Of the same kinds as those of a poller.
const OPEN_STRANGERS: readonly ((i: number) => Stranger)[] = [
  (i) => {
    const fd = eventfd(i + 1, EFD_NONBLOCK | EFD_CLOEXEC);
    return {
      check() {
        const value = new Uint32Array(2);
        const result = read(fd, value);
        return problem("eventfd", result === 8 && value[0] === i + 1, fd);
      },
    };
  },
  () => {
    const pair = new Int32Array(2);
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    const links = [...pair].map(linkOf);
    return {
      check() {
        const [left = -1, right = -1] = pair;
        const areSame = linkOf(left) === links[0] && linkOf(right) === links[1];
        return problem("socket", areSame, left) ?? problem("socket", true, right);
      },
    };
  },
  () => {
    const fd = epoll_create1(EPOLL_CLOEXEC);
    const member = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const event = new DataView(new ArrayBuffer(epoll_event.size));
    epoll_event.events.set(event, 0, EPOLLIN);
    epoll_ctl(fd, EPOLL_CTL_ADD, member, event);
    return {
      check() {
        const isSame = epoll_ctl(fd, EPOLL_CTL_MOD, member, event) === 0;
        return problem("eventpoll", isSame, fd) ?? problem("member", true, member);
      },
    };
  },
  (i) => {
    const fd = memfd_create(Buffer.from(`stranger-${i}\0`), MFD_CLOEXEC);
    return {
      check: () => problem("memfd", linkOf(fd) === `/memfd:stranger-${i} (deleted)`, fd),
    };
  },
];

function problem(kind: string, isSame: boolean, fd: number): string | undefined {
  const result = close(fd);
  if (isSame && result === 0) return undefined;
  return `${kind} ${fd}: ${result < 0 ? `close gave ${result}` : "it is another one"}`;
}

function linkOf(fd: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined;
  }
}

class Strangers {
  used = 0;
  readonly wrong: string[] = [];
  #all = Array.from({ length: STRANGERS }, (_, i) => this.#open(i));

  #open(i: number): Stranger {
    return (OPEN_STRANGERS[i % OPEN_STRANGERS.length] as (i: number) => Stranger)(i);
  }

  #check(stranger: Stranger): void {
    this.used++;
    const wrong = stranger.check();
    if (wrong) this.wrong.push(wrong);
  }

  /** Closes some, and opens others, which take their numbers or those of the Workers. */
  replaceSome(): void {
    for (let i = 0; i < 20; i++) {
      const place = Math.floor(Math.random() * STRANGERS);
      this.#check(this.#all[place] as Stranger);
      this.#all[place] = this.#open(this.used);
    }
  }

  close(): void {
    for (const stranger of this.#all) this.#check(stranger);
  }
}

/** What `claim` says. */
export interface Claim {
  /** Whether the first poller came to what the dead one has left, and was held up. */
  readonly heldUp: boolean;
  /** How many numbers of the dead one the second poller got. */
  readonly reused: number;
  /** What the first one has closed of the second one's. */
  readonly closed: readonly string[];
  /** Whether the first poller works in the end, and whether the second one still does. */
  readonly first: boolean;
  readonly second: boolean;
  /** What is left when all Workers have ended. */
  readonly left: Kinds;
}

// One poller has read who is dead, and is held up before it claims what that one has left. Another
// one starts, claims it, and opens its own under the same numbers. Then the first one goes on.
async function claim(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  const before = descriptors();
  const dead = startWorker("waiting");
  const sockets = await saidBy<Said>(dead);
  await dead.terminate();
  await workersGone();
  const numbers = [...descriptors().keys()].filter(
    (fd) => !before.has(fd) && !sockets.includes(fd),
  );
  // So that no number is free below those of the dead one's poller but its own.
  const fillers = [...descriptors().keys()].map(() => eventfd(0, EFD_CLOEXEC));

  const gate = new Int32Array(new SharedArrayBuffer(4));
  const first = startWorker("hesitating");
  await saidBy(first);
  const firstHears = saidBy<boolean>(first);
  first.postMessage(gate);
  const heldUp = await until(() => Atomics.load(gate, 0) === CLAIMING);
  const strangers = descriptors();
  const second = startWorker("listening");
  await saidBy(second);
  const ours = [...descriptors()].filter(([fd]) => !strangers.has(fd) || numbers.includes(fd));
  openGate(gate, CLAIMED);
  await until(() => Atomics.load(gate, 0) === OPENING);
  const open = descriptors();
  const closed = ours.filter(([fd, link]) => open.get(fd) !== link).map(([, link]) => link);
  openGate(gate, OPEN);

  const firstHeard = await firstHears;
  const secondHears = saidBy<boolean>(second);
  second.postMessage("again");
  const secondHeard = await secondHears;
  await first.terminate();
  await second.terminate();
  await workersGone();
  await nextPoller();
  for (const fd of fillers) close(fd);
  say({
    heldUp,
    reused: ours.filter(([fd]) => numbers.includes(fd)).length,
    closed,
    first: firstHeard,
    second: secondHeard,
    left: await leftOver(kinds),
  } satisfies Claim);
}

function openGate(gate: Int32Array, value: number): void {
  Atomics.store(gate, 0, value);
  Atomics.notify(gate, 0);
}

/** What `apart` says. */
export interface Apart {
  /** How many datagrams each Worker got, and this thread. */
  readonly received: readonly number[];
  /** The events of each poller meanwhile, and how many wait for each. */
  readonly events: readonly number[];
  readonly waiters: readonly number[];
}

// This thread, one Worker that gets datagrams, and two that only wait.
async function apart(): Promise<void> {
  const mine = open();
  void mine.receive(new Uint8Array(8));
  const workers = Array.from({ length: 3 }, () => startWorker("counting"));
  await Promise.all(workers.map((worker) => saidBy(worker)));
  await running();
  const ask = async (message: string): Promise<Counted[]> => {
    const all: Counted[] = [{ received: 0, ...poller.counters }];
    for (const worker of workers) {
      const said = saidBy<Counted>(worker);
      worker.postMessage(message);
      all.push(await said);
    }
    return all;
  };
  const before = await ask("count");
  for (let i = 0; i < 5; i++) {
    const said = saidBy<Counted>(workers[1] as Worker);
    workers[1]?.postMessage("receive");
    await said;
  }
  const after = await ask("count");
  say({
    received: after.map(({ received }) => received),
    events: after.map(({ events }, i) => events - (before[i]?.events ?? 0)),
    waiters: after.map(({ waiters }) => waiters),
  } satisfies Apart);
}

/** What `closing` says. */
export interface Closing {
  readonly workers: number;
  /** What is open more than before when the next poller has started and ended. */
  readonly left: Kinds;
}

// The Workers are told to close their sockets, and then end or are terminated.
async function closing(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  let i = 0;
  const workers = 2 * AT_ONCE;
  await withWorkers(
    workers,
    () => ["waiting"],
    async (worker) => {
      if (i++ % 2 === 0) {
        const end = endOf(worker);
        worker.postMessage("close and exit");
        await end;
      } else {
        const said = saidBy(worker);
        worker.postMessage("close");
        await said;
        await worker.terminate();
      }
    },
  );
  await workersGone();
  await nextPoller();
  say({ workers, left: await leftOver(kinds) } satisfies Closing);
}

/** What `ends` says: of Workers that end by themselves. */
export interface Ends {
  /** The exit code of each, or "error" and the message where it was one. */
  readonly ends: Readonly<Record<string, number | string | undefined>>;
  /** Whether the poller of this thread works after each of them. */
  readonly heard: boolean;
  readonly threads: Kinds;
  /** What is open more than before when the next poller has started and ended. */
  readonly left: Kinds;
}

const ENDING = [
  "lastWait",
  "unrefWait",
  "pausedHandler",
  "exit",
  "exitInHandler",
  "throwing",
  "rejected",
] as const;

async function ends(): Promise<void> {
  await warmUp();
  await nextPoller();
  const kinds = openKinds();
  const found: Record<string, number | string | undefined> = {};
  let heard = true;
  for (const role of ENDING) {
    const worker = startWorker(role);
    const error = new Promise<string>((resolve) => {
      worker.onerror = (event) => {
        event.preventDefault();
        resolve(`error ${event.message}`);
      };
    });
    const late = new Promise<string>((resolve) => setTimeout(resolve, 10_000, "lives").unref());
    const code = endOf(worker);
    found[role] = await Promise.race([error, code, late]);
    await Promise.race([code, late]);
    heard &&= await hears();
  }
  await running();
  engine.stop();
  await workersGone();
  const threads = ourThreads();
  await nextPoller();
  const left = await leftOver(kinds);
  say({ ends: found, heard, threads, left } satisfies Ends);
}

// The process ends while its Workers wait, and so does this thread.
async function withWaiting(then: () => unknown): Promise<void> {
  void open().receive(new Uint8Array(8));
  const workers = Array.from({ length: AT_ONCE }, () => startWorker("waiting"));
  await Promise.all(workers.map((worker) => saidBy(worker)));
  await running();
  then();
}

/** What `handOver` says. */
export interface HandOver {
  readonly handOvers: number;
  /** In how many of them something was in the queue. */
  readonly queued: number;
  /** How many datagrams were sent, and which of them came not once. */
  readonly sent: number;
  readonly wrong: readonly string[];
  /** Calls that waited while the socket was given away: with ECANCELED, and with another error. */
  readonly canceled: number;
  readonly failed: number;
  /** Wake-ups for nothing, of both pollers. */
  readonly spurious: number;
}

/** How often the socket goes to the other side. */
export const HAND_OVERS = 100;
async function handOver(): Promise<void> {
  const tally = new Tally(new Int32Array(new SharedArrayBuffer(COUNTS * 4)));
  const { counts } = tally;
  const worker = startWorker("owning");
  await saidBy(worker);
  worker.postMessage(counts);
  let socket = open();
  const { port } = socket.localAddress;
  const sender = Bun.spawn([process.execPath, import.meta.path, "send", `${port}`], {
    stdout: "pipe",
    stderr: "inherit",
  });
  let fd = socket.detach();
  for (let i = 0; i < HAND_OVERS; i++) {
    const form = i >> 1;
    if (i % 2 === 0) fd = await tally.own(fd, form);
    else {
      const given = saidBy<number>(worker);
      worker.postMessage([fd, form]);
      fd = await given;
    }
  }
  Atomics.store(counts, STOP, 1);
  const batch = new DatagramBatch<InetAddress>(BATCH);
  socket = UdpSocket.adopt(fd, { own: true });
  const handler = socket.onBatch((each) => void tally.takeBatch(socket, each), BATCH);
  const sent = Number(await sender.stdout.text());
  await until(() => Atomics.load(counts, RECEIVED) >= sent, 5000);
  handler.stop();
  while (socket.tryReceiveBatch(batch) > 0) tally.takeBatch(socket, batch);
  const wrong: string[] = [];
  for (let i = 0; i < DATAGRAMS_MAX; i++) {
    const expected = i < sent ? 1 : 0;
    if (counts[i] !== expected && wrong.length < 20) wrong.push(`${i}: ${counts[i]} times`);
  }
  const spurious = saidBy<number>(worker);
  worker.postMessage("spurious");
  say({
    handOvers: HAND_OVERS,
    queued: Atomics.load(counts, QUEUED),
    sent,
    wrong,
    canceled: Atomics.load(counts, CANCELED),
    failed: Atomics.load(counts, FAILED),
    spurious: poller.counters.spurious + (await spurious),
  } satisfies HandOver);
}

// From another process, with sockets that are not ours: numbers what it sends, until it is told to
// stop, and says how many that were.
async function send(port: string): Promise<void> {
  let [sent, acknowledged] = [0, 0];
  let wake = () => {};
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port: Number(port) },
    socket: {
      data(_, data) {
        acknowledged = Math.max(acknowledged, data.readUint32LE(0));
        isOver ||= data.readUint32LE(4) === 1;
        wake();
      },
      drain: () => wake(),
    },
  });
  let isOver = false;
  const datagram = Buffer.alloc(8);
  while (!isOver && sent < DATAGRAMS_MAX) {
    datagram.writeUint32LE(sent);
    if (sent - acknowledged < WINDOW && socket.send(datagram)) {
      sent++;
      continue;
    }
    await new Promise<void>((resolve) => {
      wake = resolve;
      setTimeout(resolve, 50);
    });
    if (sent - acknowledged < WINDOW) continue;
    datagram.writeUint32LE(PROBE);
    socket.send(datagram);
  }
  console.log(sent);
  process.exit(0);
}

const MODES: Readonly<Record<string, (value: string) => unknown>> = {
  terminated,
  thousand,
  early,
  crowd,
  claim,
  apart,
  closing,
  ends,
  exitWithWorkers: () => withWaiting(() => process.exit(6)),
  endWithWorkers: () => withWaiting(() => say("ready")),
  handOver,
  send,
};

async function main(mode: string, value: string): Promise<void> {
  await MODES[mode]?.(value);
  // Workers that still wait would keep it alive.
  if (mode !== "endWithWorkers") process.exit(0);
}

// Not awaited: while a module does, Bun's loop lives on.
if (import.meta.main) void main(process.argv[2] ?? "", process.argv[3] ?? "");
