/**
 * The poller: when it starts and with what, that it says so, what its counters count, what stays in
 * its epoll set and what does not, and that it leaves nothing behind.
 *
 * Most of it starts and stops the poller of this process, so no test may leave a call waiting.
 */
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import {
  ClosedError,
  type PollerCounters,
  type PollerRefusal,
  poller,
  Socket,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import {
  close,
  dup,
  dup3,
  EADDRINUSE,
  EFD_CLOEXEC,
  EINTR,
  EINVAL,
  EMFILE,
  ENOMEM,
  ENOSPC,
  ENOSYS,
  EPERM,
  EPOLL_CTL_ADD,
  errorName,
  eventfd,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  io_uring_setup,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  SO_BUSY_POLL,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { HELPER_THREAD_NAME } from "../../lib/ffi/helper_thread.ts";
import type { Memory } from "../../lib/ffi/libc.ts";
import { engine } from "../../lib/internal/poller_engine.ts";
import { epoll_event } from "../../structs/epoll_event.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { systemErrorOf } from "../support/errors.ts";
import { failWith, MAP_FAILED, replaceEntry, replaceLibc } from "../support/faults.ts";
import { type Missing, type Register, requires, testIf } from "../support/require.ts";
import { ending } from "../support/strangers.ts";
import { helperThreads, until } from "./helper_thread.ts";

type RingerName = NonNullable<typeof poller.ringer>;
type DoorbellName = NonNullable<typeof poller.doorbell>;

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const FAULTS = JSON.stringify(new URL("../support/faults.ts", import.meta.url));
const RINGERS: readonly RingerName[] = ["io_uring", "thread", "timer"];
const DOORBELLS: readonly DoorbellName[] = ["socket", "eventfd"];
const VARIABLES = ["BUN_SOCKETS_RINGER", "BUN_SOCKETS_DOORBELL"] as const;
const LOOPBACK = "127.0.0.1:0";
/** What is waited for at most. A wake-up that is lost would be found only then. */
const LIMIT_MS = 10_000;
const CHILD_MS_MAX = 20_000;
/** How long a bell may take to be heard, when it is tried. */
const HEARD_MS_MAX = 200;
const RING_BYTES = 8;
const NOT_HEARD = "it was not heard within 200 ms";
/** How often something is tried anew that a busy machine may have made fail. */
const TRIES = 4;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Fails unless the condition comes true. */
async function expectSoon(condition: () => boolean, limitMs = LIMIT_MS): Promise<void> {
  expect(await until(condition, limitMs)).toBeDefined();
}

/** What a promise says, or that it says nothing: a wait by itself would look again at its deadline. */
async function inTime<Result>(promise: Promise<Result>): Promise<Result> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("It was not answered")), LIMIT_MS);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function whyNoIoUring(): Missing {
  const fd = io_uring_setup(1, new DataView(new ArrayBuffer(io_uring_params.size)));
  if (fd < 0) return `needs io_uring, and io_uring_setup says ${errorName(fd)}`;
  close(fd);
  return undefined;
}

const testIoUring = testIf(whyNoIoUring());

/** `test` for what needs a ringer. */
function testOn(ringer: RingerName): Register {
  return ringer === "io_uring" ? testIoUring : testIf(undefined);
}

const environment = VARIABLES.map((name) => [name, process.env[name]] as const);

/** Says what the next start is to use; undefined leaves it to the poller. */
function force(ringer: string | undefined, doorbell?: string): void {
  for (const [name, value] of [
    ["BUN_SOCKETS_RINGER", ringer],
    ["BUN_SOCKETS_DOORBELL", doorbell],
  ] as const) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
}

/** Stops the poller, when its start is over. */
async function stop(): Promise<void> {
  await expectSoon(() => {
    try {
      engine.stop();
      return true;
    } catch (error) {
      if ((error as Error).message.includes("while it starts")) return false;
      throw error;
    }
  });
}

/** Waits for something until the poller was chosen. Throws what the wait says when none was. */
async function start(ringer?: string, doorbell?: string): Promise<void> {
  force(ringer, doorbell);
  using socket = UdpSocket.bind(LOOPBACK);
  let failure: { error: unknown } | undefined;
  socket.receive(new Uint8Array(1)).catch((error) => {
    failure = { error };
  });
  const limit = performance.now() + LIMIT_MS;
  while (poller.ringer === undefined && !failure) {
    if (performance.now() > limit) throw new Error("The poller does not start");
    await turn();
  }
  if (failure) throw failure.error;
}

/**
 * The same with what is expected of it. A machine that has much else to do may need longer than a
 * bell may take to be heard, so it is tried some times.
 */
async function startWith(ringer: RingerName, doorbell?: DoorbellName): Promise<void> {
  for (let left = TRIES; ; left--)
    try {
      await start(ringer, doorbell);
      return;
    } catch (error) {
      if (left === 0 || !(error as Error).message.includes("it was not heard within")) throw error;
      await stop();
    }
}

/** The same, without asking for one. */
async function startFreely(isExpected: () => boolean): Promise<void> {
  for (let left = TRIES; ; left--) {
    await start();
    if (left === 0 || isExpected()) return;
    await stop();
  }
}

/** Some datagrams that are waited for. */
async function expectServes(): Promise<void> {
  using server = UdpSocket.bind(LOOPBACK);
  using client = UdpSocket.open("ipv4");
  const target = new Uint8Array(1);
  for (let i = 0; i < 3; i++) {
    const waiting = server.receive(target);
    await turn();
    client.sendToSync(new Uint8Array([i]), server.localAddress);
    expect(await inTime(waiting)).toBe(1);
    expect(target[0]).toBe(i);
  }
}

/**
 * Waits that come and go, each with a datagram at about the same time, and one after each that has
 * to be answered. The loop is let go of and taken up all the time.
 */
async function expectServesAlternately(): Promise<void> {
  using server = UdpSocket.bind(LOOPBACK);
  using client = UdpSocket.open("ipv4");
  const { localAddress } = server;
  const target = new Uint8Array(1);
  for (let round = 0; round < 100; round++) {
    const controller = new AbortController();
    const given = server.receive(target, controller).catch(() => {});
    for (let i = round % 7; i > 0; i--) await turn();
    client.sendToSync("1", localAddress);
    for (let i = round % 4; i > 0; i--) await Promise.resolve();
    controller.abort("up");
    await given;
    for (let i = round % 3; i > 0; i--) await turn();
    while (server.tryReceive(target) !== undefined);
    const waiting = server.receive(target);
    for (let i = round % 5; i > 0; i--) await turn();
    client.sendToSync("2", localAddress);
    expect(await inTime(waiting)).toBe(1);
  }
}

beforeEach(async () => {
  // What an earlier file has left waiting would be among our counters.
  expect(poller.counters.waiters).toBe(0);
  await stop();
});

afterEach(async () => {
  poller.busyPoll = false;
  for (const [name, value] of environment) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  expect(poller.counters.waiters).toBe(0);
  await stop();
});

/** What is open of the kinds that a poller opens. */
function openKinds(): string[] {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  const threads = helperThreads().map(() => HELPER_THREAD_NAME);
  return [...links, ...threads]
    .map((link) => link.replace(/\d+/g, ""))
    .filter((link) => /eventpoll|eventfd|io_uring|memfd|socket|pidfd/.test(link))
    .sort();
}

/** The poller's epoll set: which descriptors are in it, by what token. Open before it starts. */
class Watched implements Disposable {
  #fd = -1;
  readonly #fault = replaceLibc("epoll_create1", (create) => (flags) => {
    this.#fd = create(flags);
    return this.#fd;
  });

  get fd(): number {
    return this.#fd;
  }

  get entries(): ReadonlyMap<number, string> {
    const text = readFileSync(`/proc/self/fdinfo/${this.#fd}`, "latin1");
    const lines = text.matchAll(/^tfd:\s*(\d+) events:\s*\w+ data:\s*(\w+)/gm);
    return new Map([...lines].map(([, fd, token]) => [Number(fd), token as string]));
  }

  [Symbol.dispose](): void {
    this.#fault[Symbol.dispose]();
  }
}

/** The counters, when they have not moved for some turns and milliseconds. */
async function settledCounters(): Promise<PollerCounters> {
  for (let last = poller.counters; ; last = poller.counters) {
    await Bun.sleep(25);
    if (Bun.deepEquals(poller.counters, last)) return last;
  }
}

/** Lets one turn serve whatever is ready, however slow the machine is: else the next one looks, too. */
function unlimited(): Disposable {
  const { turnBudgetMs } = poller;
  poller.turnBudgetMs = Number.POSITIVE_INFINITY;
  return {
    [Symbol.dispose]: () => {
      poller.turnBudgetMs = turnBudgetMs;
    },
  };
}

/** How far the counters have moved since. */
function moved(since: PollerCounters): Omit<PollerCounters, "waiters"> {
  const { wakeUps, events, spurious } = poller.counters;
  return {
    wakeUps: wakeUps - since.wakeUps,
    events: events - since.events,
    spurious: spurious - since.spurious,
  };
}

const NOTHING = { wakeUps: 0, events: 0, spurious: 0 };

interface Child {
  readonly exitCode: number | null;
  readonly errors: string;
  readonly said: unknown;
}

/** Runs a module in a process of its own. The last line that it prints is JSON. */
async function inChild(
  script: string,
  env: Record<string, string> = {},
  prefix: readonly string[] = [],
): Promise<Child> {
  const child = Bun.spawn([...prefix, process.execPath, "-e", script], {
    // Those of this process must not say it; and sockets are left to the end of the process.
    env: {
      ...process.env,
      BUN_SOCKETS_RINGER: "",
      BUN_SOCKETS_DOORBELL: "",
      BUN_SOCKETS_LEAKS: "",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: CHILD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const [text, errors, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  const line = text.trim().split("\n").at(-1) || "null";
  return { exitCode, errors, said: JSON.parse(line) };
}

const LIST = `
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
function list() {
  const links = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync("/proc/self/fd/" + fd).replace(/\\d+/g, "");
    } catch {
      return "";
    }
  });
  const threads = readdirSync("/proc/self/task").map((id) =>
    readFileSync(\`/proc/self/task/\${id}/comm\`, "utf8").trim(),
  );
  // Those of the engine come and go.
  const ours = threads.filter((name) => !/^(bun(\\.exe)?|Bun .*|JITWorker|JSC.*|mi-.*|Heap.*)$/.test(name));
  return { links: links.sort(), threads: ours.sort() };
}
`;

describe("poller", () => {
  test("starts with the first wait, and not with an import or calls that do not wait", async () => {
    const empty = await inChild(`${LIST} console.log(JSON.stringify([list()]));`);
    const child = await inChild(
      `${LIST}
      import { DatagramBatch, poll, poller, pollSync, tryPoll, UdpSocket } from ${INDEX};
      const imported = list();
      const { turnBudgetMs } = poller;
      // What is put off to the next turn waits for that.
      poller.turnBudgetMs = Number.POSITIVE_INFINITY;
      const server = UdpSocket.bind("127.0.0.1:0");
      const client = UdpSocket.bind("127.0.0.1:0");
      const target = new Uint8Array(8);
      const batch = new DatagramBatch({ capacity: 2, slotBytes: 8 });
      for (let i = 0; i < 10; i++) {
        client.sendToSync("one", server.localAddress);
        client.trySendTo(target, server.localAddress);
        tryPoll([server]);
        pollSync([server, { socket: client, write: true }], { timeoutMs: 1000 });
        server.receiveSync(target);
        server.receiveBatchSync(batch, { timeoutMs: 1000 });
        server.trySendBatch(batch);
        server.tryReceive(target);
        // What is answered at once does not wait.
        await client.sendTo("three", server.localAddress);
        await poll([server]);
        await server.receive(target);
        await client.receiveBatch(batch);
      }
      server.unref().ref();
      const { ringer, doorbell, refusals, counters, busyPoll } = poller;
      server.close();
      client.close();
      batch.free();
      const used = list();
      const last = UdpSocket.bind("127.0.0.1:0");
      last.receive(target, { timeoutMs: 5000 }).catch(() => {});
      while (poller.ringer === undefined) await new Promise(setImmediate);
      last.close();
      console.log(JSON.stringify([
        imported, used, list(), { ringer, doorbell, refusals, counters, busyPoll, turnBudgetMs },
      ]));`,
      { BUN_SOCKETS_RINGER: "thread" },
    );
    expect(child).toMatchObject({ exitCode: 0, errors: "" });
    const [unused] = empty.said as object[];
    const [imported, used, waited, state] = child.said as [
      object,
      object,
      { links: string[]; threads: string[] },
      object,
    ];
    expect(imported).toEqual(unused as object);
    expect(used).toEqual(unused as object);
    expect(state).toEqual({
      refusals: [],
      counters: { wakeUps: 0, events: 0, spurious: 0, waiters: 0 },
      busyPoll: false,
      turnBudgetMs: 1,
    });
    // The list would have shown it.
    expect(waited.threads).toEqual([HELPER_THREAD_NAME]);
    const polls = (links: readonly string[]) => links.filter((link) => link.includes("eventpoll"));
    const before = (unused as { links: string[] }).links;
    expect(polls(waited.links).length).toBe(polls(before).length + 1);
  });

  testIoUring("takes io_uring and a socket where nothing forbids them", async () => {
    await startFreely(() => poller.refusals.length === 0);
    expect(poller.ringer).toBe("io_uring");
    expect(poller.doorbell).toBe("socket");
    expect(poller.refusals).toEqual([]);
    await expectServes();
  });

  test("hands out copies of its refusals and counters", async () => {
    using _fault = replaceEntry("io_uring_setup", () => failWith(EPERM));
    await start();
    const { refusals, counters } = poller;
    (refusals as PollerRefusal[]).length = 0;
    (counters as { wakeUps: number }).wakeUps = -1;
    expect(poller.refusals).toHaveLength(1);
    expect(poller.counters.wakeUps).toBeGreaterThanOrEqual(0);
  });
});

/** Does nothing for some of the rings that are written, counted from 1, and says that it was done. */
function swallowRings(...silent: readonly number[]): Disposable {
  let rings = 0;
  return replaceLibc("write", (write) => (fd, memory, length) => {
    if (length === RING_BYTES && silent.includes(++rings)) return RING_BYTES;
    return write(fd, memory, length);
  });
}

function all(...faults: readonly Disposable[]): Disposable {
  const stack = new DisposableStack();
  for (const fault of faults) stack.use(fault);
  return stack;
}

/** Fails what maps a descriptor, as only a ring of io_uring is. */
function noRing(): Disposable {
  return replaceLibc("mmap", (mmap) => (address, length, protection, flags, fd, offset) => {
    if (fd >= 0) return failWith(ENOMEM, MAP_FAILED);
    return mmap(address, length, protection, flags, fd, offset);
  });
}

/** Fails what the helper thread keeps its state in. */
function noThread(): Disposable {
  return replaceLibc("mmap", (mmap) => (address, length, protection, flags, fd, offset) => {
    if (fd < 0 && flags === (MAP_PRIVATE | MAP_ANONYMOUS) && length === 4096)
      return failWith(ENOMEM, MAP_FAILED);
    return mmap(address, length, protection, flags, fd, offset);
  });
}

const noIoUring = (errno = ENOSYS) => replaceEntry("io_uring_setup", () => failWith(errno));

const NO_BELL = "no doorbell was heard";

interface Case {
  readonly what: string;
  /** Whether there has to be an io_uring for it. */
  readonly needsIoUring?: boolean;
  readonly fault: () => Disposable;
  readonly ringer: RingerName;
  readonly doorbell?: DoorbellName;
  /** The names of what is refused, and how the reasons begin. */
  readonly refusals: readonly (readonly [PollerRefusal["name"], string])[];
  /** How many trials wait for a bell that is silent. */
  readonly silent?: number;
}

const CASES: readonly Case[] = [
  {
    what: "a kernel without io_uring",
    fault: noIoUring,
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", "io_uring_setup ENOSYS: "]],
  },
  {
    what: "a container that forbids io_uring",
    fault: () => noIoUring(EPERM),
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", "io_uring_setup EPERM: "]],
  },
  {
    what: "a ring that cannot be mapped",
    needsIoUring: true,
    fault: noRing,
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", "mmap ENOMEM: "]],
  },
  {
    what: "a ring that cannot be armed",
    needsIoUring: true,
    fault: () => replaceEntry("io_uring_enter", () => failWith(EPERM)),
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", "arm EPERM: "]],
  },
  {
    what: "a ring that never rings",
    needsIoUring: true,
    fault: () => replaceEntry("io_uring_enter", (_number, _fd, count) => count),
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", NOT_HEARD]],
    silent: 1,
  },
  {
    what: "a ring with IORING_SETUP_DEFER_TASKRUN, which rings when this thread asks for it only",
    needsIoUring: true,
    fault: () =>
      replaceLibc("io_uring_setup", (setup) => (number, entries, params) => {
        const flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        io_uring_params.flags.set(params as DataView, 0, flags);
        return setup(number, entries, params);
      }),
    ringer: "thread",
    doorbell: "socket",
    refusals: [["io_uring", NOT_HEARD]],
    silent: 1,
  },
  {
    what: "neither io_uring nor a thread",
    fault: () => all(noIoUring(), noThread()),
    ringer: "timer",
    refusals: [
      ["io_uring", "io_uring_setup ENOSYS: "],
      ["thread", "Cannot start the helper thread: mmap ENOMEM: "],
    ],
  },
  {
    what: "a thread that does not hear that it is armed",
    // The first ring tries the doorbell.
    fault: () => all(noIoUring(), swallowRings(2)),
    ringer: "timer",
    refusals: [
      ["io_uring", "io_uring_setup ENOSYS: "],
      ["thread", NOT_HEARD],
    ],
    silent: 1,
  },
  {
    what: "no socketpair for a doorbell",
    fault: () =>
      all(
        noIoUring(),
        replaceEntry("socketpair", () => failWith(EMFILE)),
      ),
    ringer: "thread",
    doorbell: "eventfd",
    refusals: [
      ["socket", "socketpair EMFILE: "],
      ["io_uring", "io_uring_setup ENOSYS: "],
    ],
  },
  {
    what: "a socket that is not heard",
    needsIoUring: true,
    fault: () => swallowRings(1),
    ringer: "io_uring",
    doorbell: "eventfd",
    refusals: [["socket", NOT_HEARD]],
    silent: 1,
  },
  {
    what: "neither a socket nor an eventfd for a doorbell",
    fault: () =>
      all(
        replaceEntry("socketpair", () => failWith(EMFILE)),
        replaceEntry("eventfd", () => failWith(EMFILE)),
      ),
    ringer: "timer",
    refusals: [
      ["socket", "socketpair EMFILE: "],
      ["eventfd", "eventfd EMFILE: "],
      ["io_uring", NO_BELL],
      ["thread", NO_BELL],
    ],
  },
  {
    what: "doorbells that are not heard",
    fault: () => swallowRings(1, 2),
    ringer: "timer",
    refusals: [
      ["socket", NOT_HEARD],
      ["eventfd", NOT_HEARD],
      ["io_uring", NO_BELL],
      ["thread", NO_BELL],
    ],
    silent: 2,
  },
];

describe("poller.refusals and poller.ringer", () => {
  for (const { what, needsIoUring = false, fault, ringer, doorbell, refusals, silent = 0 } of CASES)
    (needsIoUring ? testIoUring : testIf(undefined))(
      `tell of ${what}: it is ${ringer}`,
      async () => {
        // The first start compiles the helper thread and lets the engine open what it keeps.
        for (const warm of ["thread", "timer"] as const) {
          await startWith(warm);
          await stop();
        }
        const before = openKinds();
        let tookMs = 0;
        for (let left = TRIES; left > 0; left--) {
          const started = performance.now();
          {
            using _fault = fault();
            await start();
          }
          tookMs = performance.now() - started;
          if (poller.refusals.length === refusals.length) break;
          await stop();
        }
        expect(poller.ringer).toBe(ringer);
        expect(poller.doorbell).toBe(doorbell);
        expect(poller.refusals.map(({ name }) => name)).toEqual(refusals.map(([name]) => name));
        for (const [i, [, reason]] of refusals.entries())
          expect(poller.refusals[i]?.reason).toStartWith(reason);
        // Timers may be early by a part of a millisecond.
        expect(tookMs).toBeGreaterThanOrEqual(silent * (HEARD_MS_MAX - 1));
        await expectServes();
        await stop();
        // Also what was refused is gone.
        await until(() => Bun.deepEquals(openKinds(), before), 1000);
        expect(openKinds()).toEqual(before);
      },
    );

  testIoUring("are none where only IORING_SETUP_SINGLE_ISSUER is not known", async () => {
    const flags: number[] = [];
    using _fault = replaceLibc("io_uring_setup", (setup) => (number, entries, params) => {
      flags.push(io_uring_params.flags.get(params as DataView, 0));
      return flags.length === 1 ? failWith(EINVAL) : setup(number, entries, params);
    });
    await start();
    expect(flags).toEqual([IORING_SETUP_SINGLE_ISSUER, 0]);
    expect(poller.ringer).toBe("io_uring");
    expect(poller.refusals).toEqual([]);
    await expectServes();
  });

  testIoUring("are none when arming is interrupted, or done in parts", async () => {
    let calls = 0;
    using _fault = replaceLibc("io_uring_enter", (enter) => (number, fd, _count, ...others) => {
      if (++calls % 3 === 1) return failWith(EINTR);
      return enter(number, fd, 1, ...others);
    });
    await start();
    expect(poller.ringer).toBe("io_uring");
    expect(poller.refusals).toEqual([]);
    await expectServes();
    expect(calls).toBeGreaterThan(6);
  });

  // The engine keeps what it has compiled, so the failure comes in a process that has nothing yet.
  test("tell of a helper thread that cannot be compiled", async () => {
    const child = await inChild(`
      import { poller, UdpSocket } from ${INDEX};
      import { failWith, replaceEntry, replaceLibc } from ${FAULTS};
      using io_uring = replaceEntry("io_uring_setup", () => failWith(${ENOSYS}));
      using fault = replaceLibc("dlsym", (dlsym) => (handle, name) =>
        String(name).startsWith("pthread_create") ? null : dlsym(handle, name));
      using server = UdpSocket.bind("127.0.0.1:0");
      using client = UdpSocket.open("ipv4");
      const waiting = server.receive(new Uint8Array(8));
      while (poller.ringer === undefined) await new Promise(setImmediate);
      client.sendToSync("hello", server.localAddress);
      const length = await waiting;
      console.log(JSON.stringify({ length, ringer: poller.ringer, refusals: poller.refusals }));`);
    expect(child).toEqual({
      exitCode: 0,
      errors: "",
      said: {
        length: 5,
        ringer: "timer",
        refusals: [
          { name: "io_uring", reason: expect.stringContaining("ENOSYS") },
          { name: "thread", reason: "Cannot find pthread_create in the C library" },
        ],
      },
    });
  });

  // Answers io_uring_setup(2) with EPERM, as container runtimes do, and starts what follows.
  const WITHOUT_IO_URING = `
import ctypes, os, struct, sys
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, IO_URING_SETUP, EPERM = 38, 22, 2, 425, 1
BPF_LD_W_ABS, BPF_JEQ_K, BPF_RET_K, ALLOW, ERRNO = 0x20, 0x15, 0x06, 0x7fff0000, 0x00050000
code = b"".join(struct.pack("HBBI", *line) for line in [
    (BPF_LD_W_ABS, 0, 0, 0), (BPF_JEQ_K, 0, 1, IO_URING_SETUP),
    (BPF_RET_K, 0, 0, ERRNO | EPERM), (BPF_RET_K, 0, 0, ALLOW)])
instructions = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(instructions))
libc = ctypes.CDLL(None, use_errno=True)
for values in [(PR_SET_NO_NEW_PRIVS, 1), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)]:
    values = (*values, 0, 0, 0, 0)[:5]
    if libc.prctl(*[v if isinstance(v, bytes) else ctypes.c_ulong(v) for v in values]):
        sys.exit(os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[1], sys.argv[1:])
`;

  testIf(requires("python3"))("tell of a filter that really forbids io_uring", async () => {
    const child = await inChild(
      `import { poller, UdpSocket } from ${INDEX};
      using server = UdpSocket.bind("127.0.0.1:0");
      using client = UdpSocket.open("ipv4");
      const waiting = server.receive(new Uint8Array(8));
      while (poller.ringer === undefined) await new Promise(setImmediate);
      client.sendToSync("hello", server.localAddress);
      const length = await waiting;
      console.log(JSON.stringify({ length, ringer: poller.ringer, refusals: poller.refusals }));`,
      {},
      ["python3", "-c", WITHOUT_IO_URING],
    );
    expect(child).toEqual({
      exitCode: 0,
      errors: "",
      said: {
        length: 5,
        ringer: "thread",
        refusals: [{ name: "io_uring", reason: expect.stringMatching(/^io_uring_setup EPERM: /) }],
      },
    });
  });

  test("do not tell of notes that cannot be left: waiting works without", async () => {
    // As without /proc, or without a descriptor to read it with.
    const fs = process.getBuiltinModule("node:fs");
    using _read = spyOn(fs, "readdirSync").mockImplementation(() => {
      throw new Error("EMFILE: too many open files, open '/proc/self/fd'");
    });
    using _link = spyOn(fs, "readlinkSync").mockImplementation(() => {
      throw new Error("ENOENT: no such file or directory, readlink '/proc/thread-self'");
    });
    using _memory = replaceEntry("memfd_create", () => failWith(EMFILE));
    force("timer");
    using socket = UdpSocket.bind(LOOPBACK);
    await expect(socket.receive(new Uint8Array(1), { timeoutMs: 50 })).rejects.toThrow(
      TimeoutError,
    );
    expect(poller.ringer).toBe("timer");
    expect(poller.refusals).toEqual([]);
    await expectServes();
  });
});

describe("BUN_SOCKETS_RINGER and BUN_SOCKETS_DOORBELL", () => {
  for (const ringer of RINGERS)
    for (const doorbell of DOORBELLS)
      testOn(ringer)(`force ${ringer} and ${doorbell}`, async () => {
        await startWith(ringer, doorbell);
        expect(poller.ringer).toBe(ringer);
        // A timer needs no bell.
        expect(poller.doorbell).toBe(ringer === "timer" ? undefined : doorbell);
        expect(poller.refusals).toEqual([]);
        await expectServes();
        await expectServesAlternately();
        // Also without what keeps the process alive: the bell is then another one.
        using server = UdpSocket.bind(LOOPBACK).unref();
        using client = UdpSocket.open("ipv4");
        for (let round = 0; round < 3; round++) {
          const waiting = server.receive(new Uint8Array(8));
          await settledCounters();
          client.sendToSync("unref'd", server.localAddress);
          expect(await inTime(waiting)).toBe(7);
        }
      });

  test.each([
    ["eventpoll", undefined, "BUN_SOCKETS_RINGER", '"io_uring", "thread", "timer"'],
    ["Timer", undefined, "BUN_SOCKETS_RINGER", '"io_uring", "thread", "timer"'],
    [undefined, "pipe", "BUN_SOCKETS_DOORBELL", '"socket", "eventfd"'],
  ])("with wrong values reject every wait: %p, %p", async (ringer, doorbell, name, expected) => {
    const before = openKinds();
    const value = ringer ?? doorbell;
    const message = `Cannot use "${value}" as ${name}: expected ${expected}`;
    await expect(start(ringer, doorbell)).rejects.toThrow(new TypeError(message));
    // Each later one, too.
    await expect(start(ringer, doorbell)).rejects.toThrow(new TypeError(message));
    expect(poller.ringer).toBeUndefined();
    expect(poller.counters.waiters).toBe(0);
    // What need not wait works.
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    expect(await client.sendTo("hello", server.localAddress)).toBe(5);
    expect(server.receiveSync(new Uint8Array(8), { timeoutMs: LIMIT_MS })).toBe(5);
    await stop();
    server.close();
    client.close();
    await until(() => Bun.deepEquals(openKinds(), before), 1000);
    expect(openKinds()).toEqual(before);
    // And after that the next wait starts it anew.
    await startWith("timer");
    expect(poller.ringer).toBe("timer");
  });

  test("are not there when they are empty", async () => {
    await start("", "");
    expect(poller.ringer).toBeDefined();
  });

  test("reject every wait when what they ask for does not work, and say why", async () => {
    {
      using _fault = noIoUring();
      await expect(start("io_uring")).rejects.toThrow(
        /^Cannot use the ringer that BUN_SOCKETS_RINGER asks for: io_uring: io_uring_setup ENOSYS: /,
      );
      expect(poller.refusals.map(({ name }) => name)).toEqual(["io_uring"]);
      expect(poller.ringer).toBeUndefined();
      await stop();
    }
    {
      using _fault = noThread();
      await expect(start("thread")).rejects.toThrow(
        /BUN_SOCKETS_RINGER asks for: thread: Cannot start the helper thread: mmap ENOMEM: /,
      );
      await stop();
    }
    {
      using _fault = swallowRings(2);
      await expect(start("thread")).rejects.toThrow(
        `BUN_SOCKETS_RINGER asks for: thread: it was not heard within 2000 ms`,
      );
      await stop();
    }
    {
      using _fault = replaceEntry("socketpair", () => failWith(EMFILE));
      await expect(start(undefined, "socket")).rejects.toThrow(
        /BUN_SOCKETS_DOORBELL asks for: .*socketpair EMFILE/,
      );
      await stop();
    }
  });

  test.each([
    [{ BUN_SOCKETS_RINGER: "eventpoll" }, "TypeError", "BUN_SOCKETS_RINGER"],
    [{ BUN_SOCKETS_DOORBELL: "pipe" }, "TypeError", "BUN_SOCKETS_DOORBELL"],
    [{ BUN_SOCKETS_RINGER: "io_uring" }, "Error", "io_uring_setup ENOSYS"],
  ])("let the process end that waits in vain, with %j", async (env, name, text) => {
    const child = await inChild(
      `import { DatagramBatch, poll, poller, Socket, UdpSocket } from ${INDEX};
      import { failWith, replaceEntry } from ${FAULTS};
      using fault = replaceEntry("io_uring_setup", () => failWith(${ENOSYS}));
      let unhandled = 0;
      let reported = 0;
      process.on("unhandledRejection", () => unhandled++);
      process.on("uncaughtException", () => reported++);
      const open = () => UdpSocket.bind("127.0.0.1:0");
      const listener = Socket.create("ipv4", "stream");
      listener.bind("127.0.0.1:0");
      listener.listen();
      const batch = new DatagramBatch({ capacity: 1 });
      const waits = [
        () => open().receive(new Uint8Array(1)),
        () => open().receiveFrom(new Uint8Array(1), { timeoutMs: 5000 }),
        () => open().receiveBytes(1, { signal: new AbortController().signal }),
        () => open().receiveBatch(batch),
        () => open().batches().next(),
        () => listener.accept(),
        () => poll([open(), open()]),
      ];
      const errors = [];
      // The first ones at the same time, while the poller still starts; the others after that.
      const first = await Promise.allSettled(waits.map((wait) => wait()));
      for (const { reason } of first) errors.push(reason);
      for (const wait of waits) await wait().catch((error) => errors.push(error));
      const handled = open().onBatch(() => {});
      await new Promise(setImmediate);
      // It is the caller's again.
      batch.free();
      console.log(JSON.stringify({
        errors: errors.map(({ name, message }) => name + ": " + message),
        stopped: handled.stopped, unhandled, reported, ...poller.counters,
      }));`,
      env,
    );
    expect(child).toMatchObject({ errors: "" });
    const { errors, ...others } = child.said as { errors: readonly string[] };
    expect(errors).toHaveLength(14);
    for (const error of errors) {
      expect(error).toStartWith(`${name}: Cannot use `);
      expect(error).toContain(text);
    }
    expect(others).toEqual({
      stopped: true,
      unhandled: 0,
      reported: 1,
      wakeUps: 0,
      events: 0,
      spurious: 0,
      waiters: 0,
    } as object);
    expect(child.exitCode).toBe(0);
  });
});

describe("a wait while the poller starts", () => {
  // A silent doorbell makes it last.
  const slowly = () => swallowRings(1);

  test("is answered all the same, before there is a ringer", async () => {
    force(undefined);
    using _fault = slowly();
    using first = UdpSocket.bind(LOOPBACK);
    using second = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const waiting = [first, second].map((socket) => socket.receive(new Uint8Array(4)));
    await turn();
    client.sendToSync("one", first.localAddress);
    expect(await inTime(waiting[0] as Promise<number>)).toBe(3);
    expect(poller.ringer).toBeUndefined();
    expect(() => engine.stop()).toThrow("Cannot stop the poller: 1 calls wait");
    await expectSoon(() => poller.ringer !== undefined);
    client.sendToSync("two!", second.localAddress);
    expect(await inTime(waiting[1] as Promise<number>)).toBe(4);
  });

  test("keeps its deadline, its signal and its end", async () => {
    force(undefined);
    using _fault = slowly();
    using socket = UdpSocket.bind(LOOPBACK);
    const controller = new AbortController();
    const { signal } = controller;
    const waits = [
      socket.receive(new Uint8Array(1), { timeoutMs: 10 }),
      socket.receive(new Uint8Array(1), { signal }),
      socket.receive(new Uint8Array(1)),
    ] as const;
    const [late, cancelled, closed] = waits.map((wait) => wait.catch((error) => error));
    expect(await late).toBeInstanceOf(TimeoutError);
    controller.abort("enough");
    expect(await cancelled).toBe("enough");
    socket.close();
    expect(await closed).toBeInstanceOf(ClosedError);
    expect(poller.ringer).toBeUndefined();
    expect(poller.counters.waiters).toBe(0);
    expect(() => engine.stop()).toThrow("Cannot stop the poller while it starts");
  });

  test("fails with the error of the system when there can be no epoll set, but not for ever", async () => {
    {
      using _fault = replaceEntry("epoll_create1", () => failWith(EMFILE));
      await expect(start()).rejects.toThrow("epoll_create1 EMFILE: too many open files");
    }
    // A limit that was met once need not be met again.
    await start();
    expect(poller.ringer).toBeDefined();
    await expectServes();
  });
});

describe("a ringer that does not work any more", () => {
  testIoUring("is replaced by the timer, which is told, and nothing is lost", async () => {
    await startWith("io_uring");
    const before = openKinds().filter((kind) => kind.includes("io_uring")).length;
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const target = new Uint8Array(8);
    const first = server.receive(target);
    await settledCounters();
    using _fault = replaceEntry("io_uring_enter", () => failWith(ENOMEM));
    // It was armed before.
    client.sendToSync("one", server.localAddress);
    expect(await inTime(first)).toBe(3);
    const second = server.receive(target);
    await expectSoon(() => poller.ringer === "timer");
    expect(poller.refusals).toEqual([
      { name: "io_uring", reason: expect.stringMatching(/^arm ENOMEM: /) },
    ]);
    expect(openKinds().filter((kind) => kind.includes("io_uring")).length).toBe(before - 1);
    client.sendToSync("second", server.localAddress);
    expect(await inTime(second)).toBe(6);
    await expectServes();
  });
});

describe("poller.counters", () => {
  test("count as waiters the calls, iterators and handlers that wait", async () => {
    await start();
    const sockets = Array.from({ length: 3 }, () => UdpSocket.bind(LOOPBACK));
    const [first, second, third] = sockets as [UdpSocket, UdpSocket, UdpSocket];
    const receives = [first, first].map((socket) => socket.receive(new Uint8Array(1)));
    const iterator = second.batches();
    const step = iterator.next();
    const handler = third.onBatch(() => {});
    expect(poller.counters.waiters).toBe(4);
    handler.pause();
    expect(poller.counters.waiters).toBe(3);
    handler.resume();
    expect(poller.counters.waiters).toBe(4);
    first.close();
    expect(poller.counters.waiters).toBe(2);
    await expect(receives[0]).rejects.toThrow(ClosedError);
    await expect(receives[1]).rejects.toThrow(ClosedError);
    await iterator.return();
    expect(await step).toEqual({ value: undefined, done: true });
    expect(poller.counters.waiters).toBe(1);
    third.close();
    expect(poller.counters.waiters).toBe(0);
    second.close();
  });

  for (const ringer of RINGERS) {
    testOn(ringer)(`count one wake-up and one event for a datagram, with ${ringer}`, async () => {
      await startWith(ringer);
      using _budget = unlimited();
      using server = UdpSocket.bind(LOOPBACK);
      using client = UdpSocket.open("ipv4");
      for (let round = 0; round < 5; round++) {
        const waiting = server.receive(new Uint8Array(1));
        const before = await settledCounters();
        client.sendToSync("1", server.localAddress);
        await inTime(waiting);
        await settledCounters();
        expect(moved(before)).toEqual({ wakeUps: 1, events: 1, spurious: 0 });
      }
      // What is answered at once is not their business.
      const before = await settledCounters();
      for (let i = 0; i < 10; i++) {
        client.sendToSync("1", server.localAddress);
        await server.receive(new Uint8Array(1));
      }
      await settledCounters();
      expect(moved(before)).toEqual(NOTHING);
    });

    testOn(ringer)(`count all events of one wake-up, with ${ringer}`, async () => {
      await startWith(ringer);
      // More than are fetched with one call.
      const servers = Array.from({ length: 300 }, () => UdpSocket.bind(LOOPBACK));
      using client = UdpSocket.open("ipv4");
      const waiting = servers.map((server) => server.receive(new Uint8Array(1)));
      const before = await settledCounters();
      for (const { localAddress } of servers) client.sendToSync("1", localAddress);
      expect(await inTime(Promise.all(waiting))).toEqual(servers.map(() => 1));
      await settledCounters();
      const { wakeUps, events, spurious } = moved(before);
      expect(events).toBe(servers.length);
      // The budget of a turn cuts it into some.
      expect(wakeUps).toBeWithin(1, servers.length / 2);
      expect(spurious).toBe(0);
      for (const server of servers) server.close();
    });

    testOn(ringer)(`stand still while nothing comes, with ${ringer}`, async () => {
      await startWith(ringer);
      using server = UdpSocket.bind(LOOPBACK);
      const handler = server.onBatch(() => {});
      const before = await settledCounters();
      await Bun.sleep(300);
      expect(poller.counters).toEqual(before);
      handler.stop();
    });

    testOn(ringer)(
      `tell that datagrams which nobody waits for wake once at most, with ${ringer}`,
      async () => {
        using watched = new Watched();
        await startWith(ringer);
        using server = UdpSocket.bind(LOOPBACK);
        using other = UdpSocket.bind(LOOPBACK);
        using client = UdpSocket.open("ipv4");
        const { descriptor } = server;
        const target = new Uint8Array(8);
        // Somebody always waits, so the bell is always armed.
        let others = 0;
        const handler = other.onBatch(() => {
          others++;
        });
        const first = server.receive(target);
        const before = await settledCounters();
        expect(watched.entries.has(descriptor)).toBe(true);
        client.sendToSync("first", server.localAddress);
        expect(await inTime(first)).toBe(5);
        expect((await settledCounters()).waiters).toBe(1);
        client.sendToSync("second", server.localAddress);
        await settledCounters();
        expect(moved(before).wakeUps).toBeWithin(1, 3);
        expect(moved(before).spurious).toBeLessThanOrEqual(1);
        // It was taken out.
        expect(watched.entries.has(descriptor)).toBe(false);
        const still = await settledCounters();
        for (let i = 0; i < 200; i++) {
          client.sendToSync("more", server.localAddress);
          await turn();
        }
        await settledCounters();
        expect(moved(still)).toEqual(NOTHING);
        // And goes in again.
        expect(await server.receive(target)).toBe(6);
        while (server.tryReceive(target) !== undefined);
        const last = server.receive(target);
        await settledCounters();
        expect(watched.entries.has(descriptor)).toBe(true);
        client.sendToSync("last", server.localAddress);
        expect(await inTime(last)).toBe(4);
        expect(others).toBe(0);
        client.sendToSync("other", other.localAddress);
        await expectSoon(() => others === 1);
        handler.stop();
      },
    );
  }

  test("count as spurious a wake-up whose datagram somebody else has taken", async () => {
    await startWith("timer");
    using server = UdpSocket.bind(LOOPBACK);
    using twin = server.duplicate();
    using client = UdpSocket.open("ipv4");
    const waiting = server.receive(new Uint8Array(8));
    const before = await settledCounters();
    // Between the look of the timer at the set and the one of the poller into it.
    let stolen = 0;
    const real = replaceLibc("poll", (poll) => (fds, count, timeoutMs) => {
      const ready = poll(fds, count, timeoutMs);
      if (ready > 0 && timeoutMs === 0 && twin.tryReceive(new Uint8Array(8)) !== undefined)
        stolen++;
      return ready;
    });
    client.sendToSync("stolen", server.localAddress);
    await expectSoon(() => stolen === 1);
    real[Symbol.dispose]();
    await settledCounters();
    expect(moved(before)).toEqual({ wakeUps: 1, events: 0, spurious: 1 });
    client.sendToSync("kept", server.localAddress);
    expect(await inTime(waiting)).toBe(4);
  });
});

/** The tokens that descriptors were put into a set with. */
function recordTokens(tokens: number[]): Disposable {
  return replaceLibc("epoll_ctl", (control) => (epollFd, operation, fd, event: Memory) => {
    if (operation === EPOLL_CTL_ADD) tokens.push(epoll_event.data.get(event as DataView, 0));
    return control(epollFd, operation, fd, event);
  });
}

/** A socket under this number, which is closed before where it is open. */
function openAt(number: number): UdpSocket {
  const elsewhere = UdpSocket.bind(LOOPBACK).detach();
  if (elsewhere !== number) {
    expect(dup3(elsewhere, number, 0)).toBe(number);
    close(elsewhere);
  }
  return UdpSocket.adopt(number, { own: true });
}

/** Waits until a socket is in the poller's set, and gives up. */
async function enterSet(socket: Socket, watched: Watched): Promise<void> {
  const controller = new AbortController();
  const waiting = socket.receive(new Uint8Array(1), { signal: controller.signal });
  const { descriptor } = socket;
  await expectSoon(() => watched.entries.has(descriptor));
  controller.abort("in");
  await waiting.catch(() => {});
}

describe("the epoll set", () => {
  test("never uses a token twice", async () => {
    await start();
    const tokens: number[] = [];
    using _record = recordTokens(tokens);
    using client = UdpSocket.open("ipv4");
    const kept = UdpSocket.bind(LOOPBACK);
    using other = UdpSocket.bind(LOOPBACK);
    const handler = other.onBatch(() => {});
    const target = new Uint8Array(1);
    for (let round = 0; round < 50; round++) {
      using server = UdpSocket.bind(LOOPBACK);
      for (const socket of [server, kept]) {
        const waiting = socket.receive(target);
        await turn();
        client.sendToSync("1", socket.localAddress);
        await inTime(waiting);
      }
      // Nobody waits for it, so it is taken out, and put in again.
      const { spurious } = poller.counters;
      client.sendToSync("2", kept.localAddress);
      await expectSoon(() => poller.counters.spurious > spurious);
      expect(await kept.receive(target)).toBe(1);
    }
    kept.close();
    handler.stop();
    expect(tokens.length).toBeGreaterThanOrEqual(100);
    expect(new Set(tokens).size).toBe(tokens.length);
  });

  for (const ringer of RINGERS)
    testOn(ringer)(
      `lets go of a socket before it is closed or detached, with ${ringer}`,
      async () => {
        using watched = new Watched();
        await startWith(ringer);
        let closing = -1;
        const inSet: boolean[] = [];
        using _close = replaceLibc("close", (close) => (fd) => {
          if (fd === closing) inSet.push(watched.entries.has(fd));
          return close(fd);
        });
        for (const ends of ["close", "using", "detach"] as const)
          for (const waits of [true, false]) {
            const socket = UdpSocket.bind(LOOPBACK);
            const { descriptor } = socket;
            await enterSet(socket, watched);
            expect(watched.entries.has(descriptor)).toBe(true);
            const waiting = waits ? socket.receive(new Uint8Array(1)) : undefined;
            closing = descriptor;
            inSet.length = 0;
            if (ends === "detach") {
              expect(socket.detach()).toBe(descriptor);
              expect(watched.entries.has(descriptor)).toBe(false);
              close(descriptor);
            } else if (ends === "close") socket.close();
            else socket[Symbol.dispose]();
            expect(inSet).toEqual([false]);
            const code = ends === "detach" ? "ECANCELED" : "EBADF";
            if (waiting) await expect(waiting).rejects.toMatchObject({ code });
          }
      },
    );

  test("lets go of a dropped socket before that is closed", async () => {
    using watched = new Watched();
    await start();
    const closed = new Map<number, boolean>();
    using _close = replaceLibc("close", (close) => (fd) => {
      if (watched.fd >= 0) closed.set(fd, watched.entries.has(fd));
      return close(fd);
    });
    const drop = async () => {
      const socket = UdpSocket.bind(LOOPBACK);
      await enterSet(socket, watched);
      return socket.descriptor;
    };
    const dropped: number[] = [];
    for (let i = 0; i < 20; i++) dropped.push(await drop());
    // The engine may take a number on its stack for one of them.
    await expectSoon(() => {
      Bun.gc(true);
      return dropped.filter((fd) => closed.has(fd)).length >= 15;
    });
    expect(dropped.filter((fd) => closed.get(fd))).toEqual([]);
  });

  test("is not asked again for a socket that waits again", async () => {
    await start();
    const tokens: number[] = [];
    using _record = recordTokens(tokens);
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    for (let round = 0; round < 20; round++) {
      const waiting = server.receive(new Uint8Array(1));
      await turn();
      client.sendToSync("1", server.localAddress);
      await inTime(waiting);
    }
    expect(tokens).toHaveLength(1);
  });

  for (const ringer of RINGERS)
    testOn(ringer)(
      `hears nothing of a closed socket that a child has, when its number is used again, with ${ringer}`,
      async () => {
        using watched = new Watched();
        await startWith(ringer);
        const old = UdpSocket.bind(LOOPBACK);
        using client = UdpSocket.open("ipv4");
        const { descriptor: number, localAddress: oldAddress } = old;
        const waiting = old.receive(new Uint8Array(8));
        await expectSoon(() => watched.entries.has(number));
        const child = Bun.spawn(["sleep", "60"], { stdio: ["ignore", "ignore", "ignore", number] });
        using _end = ending(child);
        old.close();
        await expect(waiting).rejects.toThrow(ClosedError);
        expect(watched.entries.has(number)).toBe(false);
        // The child has it.
        expect(systemErrorOf(() => UdpSocket.bind(oldAddress)).errno).toBe(-EADDRINUSE);

        using fresh = openAt(number);
        expect(fresh.descriptor).toBe(number);
        let answers = 0;
        const fromFresh = fresh.receive(new Uint8Array(8)).then((length) => {
          answers++;
          return length;
        });
        const before = await settledCounters();
        for (let i = 0; i < 50; i++) {
          client.sendToSync("old", oldAddress);
          await turn();
        }
        await settledCounters();
        expect(moved(before)).toEqual(NOTHING);
        expect(answers).toBe(0);
        client.sendToSync("fresh", fresh.localAddress);
        expect(await inTime(fromFresh)).toBe(5);
        expect(moved(before)).toEqual({ wakeUps: 1, events: 1, spurious: 0 });
      },
    );

  for (const ringer of RINGERS)
    testOn(ringer)(`leaves the port free at once after close, with ${ringer}`, async () => {
      await startWith(ringer);
      for (let round = 0; round < 20; round++) {
        const socket = UdpSocket.bind(LOOPBACK);
        const { localAddress } = socket;
        const waiting = socket.receive(new Uint8Array(1));
        // Some are armed when they are closed, some are not yet.
        for (let i = 0; i < round % 4; i++) await turn();
        socket.close();
        UdpSocket.bind(localAddress).close();
        await expect(waiting).rejects.toThrow(ClosedError);
      }
      const listener = Socket.create("ipv4", "stream");
      listener.bind(LOOPBACK);
      listener.listen();
      const { localAddress } = listener;
      const accepting = listener.accept();
      await settledCounters();
      listener.close();
      await expect(accepting).rejects.toThrow(ClosedError);
      using second = Socket.create("ipv4", "stream");
      second.bind(localAddress);
    });

  test("refuses with the error of the system, and the socket goes on", async () => {
    await start();
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const target = new Uint8Array(8);
    {
      using _fault = replaceEntry("epoll_ctl", () => failWith(ENOSPC));
      const waits = [server.receive(target), server.receive(target)];
      for (const wait of waits) await expect(wait).rejects.toThrow("epoll_ctl ENOSPC");
      expect(poller.counters.waiters).toBe(0);
    }
    const waiting = server.receive(target);
    await turn();
    client.sendToSync("after", server.localAddress);
    expect(await inTime(waiting)).toBe(5);
  });
});

describe("a descriptor that was closed behind our back", () => {
  test("ends what waits when the socket is closed, and refuses what comes", async () => {
    await start();
    const socket = UdpSocket.bind(LOOPBACK);
    const waiting = socket.receive(new Uint8Array(1));
    await settledCounters();
    close(socket.descriptor);
    const before = poller.counters;
    await expect(socket.receive(new Uint8Array(1), { timeoutMs: 20 })).rejects.toBeInstanceOf(
      Error,
    );
    await settledCounters();
    expect(moved(before).wakeUps).toBeLessThanOrEqual(1);
    socket.close();
    await expect(waiting).rejects.toThrow(ClosedError);
    await expect(socket.receive(new Uint8Array(1))).rejects.toThrow(ClosedError);
  });

  test("is refused when nothing waits for it yet", async () => {
    await start();
    const socket = UdpSocket.bind(LOOPBACK);
    close(socket.descriptor);
    await expect(socket.receive(new Uint8Array(1))).rejects.toMatchObject({ code: "EBADF" });
    await expect(socket.sendTo("a", "127.0.0.1:9")).rejects.toMatchObject({ code: "EBADF" });
    socket.close();
  });

  test("and is something else now, harms neither that nor others", async () => {
    await start();
    const socket = UdpSocket.bind(LOOPBACK);
    const { descriptor } = socket;
    const waiting = socket.receive(new Uint8Array(1));
    await settledCounters();
    close(descriptor);
    const foreign = eventfd(0, EFD_CLOEXEC);
    if (foreign !== descriptor) {
      expect(dup3(foreign, descriptor, 0)).toBe(descriptor);
      close(foreign);
    }
    await expectServes();
    const late = socket.receive(new Uint8Array(1), { timeoutMs: 20 });
    await expect(late).rejects.toBeInstanceOf(Error);
    socket.close();
    await expect(waiting).rejects.toThrow(ClosedError);
    await expectServes();
  });

  // `dup` stands for whoever has the open socket, too: it stays in the set.
  describe.each([
    ["that had gone", false],
    ["that lives on elsewhere", true],
  ])("and is another socket of ours now, instead of one %s,", (_, livesOn) => {
    test.each([
      ["nobody waited", false],
      ["somebody waits", true],
    ])("harms no wait of that, where %s before", async (_, waits) => {
      using watched = new Watched();
      await start();
      const old = UdpSocket.bind(LOOPBACK);
      using client = UdpSocket.open("ipv4");
      const { descriptor: number, localAddress: oldAddress } = old;
      await enterSet(old, watched);
      const waiting = waits ? old.receive(new Uint8Array(8)) : undefined;
      waiting?.catch(() => {});
      const elsewhere = livesOn ? dup(number) : -1;
      close(number);
      using fresh = openAt(number);
      let length = fresh.receive(new Uint8Array(8));
      await settledCounters();
      for (let i = 0; i < 3; i++) {
        client.sendToSync("old", oldAddress);
        await settledCounters();
      }
      client.sendToSync("fresh", fresh.localAddress);
      expect(await inTime(length)).toBe(5);
      // The end of the old one is not the end of the new one.
      length = fresh.receive(new Uint8Array(8));
      old.close();
      if (waiting) await expect(waiting).rejects.toThrow(ClosedError);
      await settledCounters();
      client.sendToSync("again!", fresh.localAddress);
      expect(await inTime(length)).toBe(6);
      const before = await settledCounters();
      for (let i = 0; i < 20; i++) client.sendToSync("old", oldAddress);
      await settledCounters();
      expect(moved(before).wakeUps).toBeLessThanOrEqual(1);
      if (elsewhere >= 0) close(elsewhere);
    });
  });
});

describe("poller.busyPoll", () => {
  test("is off, and takes a boolean only", () => {
    expect(poller.busyPoll).toBe(false);
    for (const wrong of [1, 0, "true", null, undefined, {}])
      expect(() => {
        poller.busyPoll = wrong as boolean;
      }).toThrow(
        new TypeError(`Cannot use a value of type ${typeof wrong} as busyPoll: expected a boolean`),
      );
    expect(poller.busyPoll).toBe(false);
    poller.busyPoll = true;
    expect(poller.busyPoll).toBe(true);
  });

  for (const ringer of RINGERS)
    testOn(ringer)(`answers waits without a wake-up, with ${ringer}`, async () => {
      await startWith(ringer);
      poller.busyPoll = true;
      using server = UdpSocket.bind(LOOPBACK);
      using client = UdpSocket.open("ipv4");
      client.connectSync(server.localAddress);
      const before = await settledCounters();
      let echoed = 0;
      const handler = server.onBatch((batch) => {
        echoed += server.trySendBatch(batch);
      });
      for (let i = 0; i < 200; i++) {
        const waiting = client.receive(new Uint8Array(4));
        // The answer comes in a later turn than the question.
        setImmediate(() => client.trySend(new Uint8Array(4)));
        expect(await inTime(waiting)).toBe(4);
      }
      handler.stop();
      expect(echoed).toBe(200);
      expect(moved(before)).toEqual(NOTHING);
    });

  test("answers a new wait also when an earlier one was given up", async () => {
    await start();
    using first = UdpSocket.bind(LOOPBACK);
    using second = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    // The bell is left armed for it.
    await expect(first.receive(new Uint8Array(1), { timeoutMs: 20 })).rejects.toThrow(TimeoutError);
    poller.busyPoll = true;
    const before = poller.counters;
    const waiting = second.receive(new Uint8Array(8));
    await turn();
    client.sendToSync("second", second.localAddress);
    expect(await inTime(waiting)).toBe(6);
    expect(moved(before).wakeUps).toBe(0);
  });

  test("answers a wait that keeps no process alive, beside one that is given up at once", async () => {
    await start();
    poller.busyPoll = true;
    using quiet = UdpSocket.bind(LOOPBACK);
    using server = UdpSocket.bind(LOOPBACK).unref();
    using client = UdpSocket.open("ipv4");
    const controller = new AbortController();
    const given = quiet.receive(new Uint8Array(1), controller);
    const waiting = server.receive(new Uint8Array(8));
    controller.abort("up");
    await expect(given).rejects.toBe("up");
    await settledCounters();
    client.sendToSync("here", server.localAddress);
    expect(await inTime(waiting)).toBe(4);
  });

  test("answers a wait that was under way, and one that is when it is switched off", async () => {
    await start();
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const first = server.receive(new Uint8Array(8));
    await settledCounters();
    poller.busyPoll = true;
    await turn();
    client.sendToSync("on", server.localAddress);
    expect(await inTime(first)).toBe(2);
    const second = server.receive(new Uint8Array(8));
    for (let i = 0; i < 3; i++) await turn();
    poller.busyPoll = false;
    await settledCounters();
    const before = poller.counters;
    client.sendToSync("off", server.localAddress);
    expect(await inTime(second)).toBe(3);
    expect(moved(before).wakeUps).toBe(1);
  });

  for (const ringer of RINGERS)
    testOn(ringer)(`loses nothing when it is switched at any time, with ${ringer}`, async () => {
      await startWith(ringer);
      const servers = Array.from({ length: 4 }, () => UdpSocket.bind(LOOPBACK));
      using client = UdpSocket.open("ipv4");
      // The same in each run.
      let seed = 1;
      const random = (below: number) => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
        return (seed >>> 16) % below;
      };
      const toggle = () => {
        if (random(2) === 0) poller.busyPoll = !poller.busyPoll;
      };
      for (let round = 0; round < 150; round++) {
        const some = servers.filter(() => random(2) === 0);
        const waiting = some.map((server) => server.receive(new Uint8Array(4)));
        const controller = new AbortController();
        const given = servers[random(4)]?.receive(new Uint8Array(4), controller);
        toggle();
        for (let i = random(4); i > 0; i--) await turn();
        toggle();
        controller.abort("up");
        await given?.catch(() => {});
        if (random(3) === 0) toggle();
        for (const { localAddress } of some) client.sendToSync("1", localAddress);
        toggle();
        expect(await inTime(Promise.all(waiting))).toEqual(some.map(() => 1));
      }
      for (const server of servers) server.close();
    });

  test("answers sends that wait for room, and those that no event tells of", async () => {
    await start();
    poller.busyPoll = true;
    using server = UnixDatagramSocket.bind(UnixAddress.unnamed);
    using connected = UnixDatagramSocket.open();
    connected.connectSync(server.localAddress);
    using other = UnixDatagramSocket.open();
    const data = Buffer.from("data");
    while (connected.trySend(data) !== undefined);
    const before = poller.counters;
    const waiting = Promise.all([connected.send(data), other.sendTo(data, server.localAddress)]);
    for (let i = 0; i < 5; i++) await turn();
    const target = new Uint8Array(8);
    for (let i = 0; i < 3; i++) server.tryReceive(target);
    expect(await inTime(waiting)).toEqual([4, 4]);
    expect(moved(before).wakeUps).toBe(0);
  });

  test("lets timers and everything else have their turns", async () => {
    await start();
    poller.busyPoll = true;
    using server = UdpSocket.bind(LOOPBACK);
    const waiting = server.receive(new Uint8Array(1), { timeoutMs: 300 });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const wrote = Bun.spawn(["echo", "hello"], { stdout: "pipe" }).stdout.text();
    await expect(waiting).rejects.toThrow(TimeoutError);
    clearInterval(timer);
    // A machine that is not busy gives more than 100.
    expect(ticks).toBeGreaterThan(20);
    expect(await inTime(wrote)).toBe("hello\n");
  });

  test("stops looking when nothing waits", async () => {
    await start();
    poller.busyPoll = true;
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const waiting = server.receive(new Uint8Array(1));
    await turn();
    client.sendToSync("1", server.localAddress);
    await inTime(waiting);
    using recv = replaceLibc("recv", (recv) => recv);
    using immediate = spyOn(globalThis, "setImmediate");
    await Bun.sleep(50);
    expect(recv.calls).toBe(0);
    expect(immediate.mock.calls.length).toBeLessThanOrEqual(2);
  });

  test("asks the kernel once for each socket that waits, and does without its answer", async () => {
    await start();
    poller.busyPoll = true;
    using server = UdpSocket.bind(LOOPBACK);
    const asked: [fd: number, us: number][] = [];
    {
      using _fault = replaceLibc("setsockopt", (set) => (fd, level, name, value, length) => {
        if (level !== SOL_SOCKET || name !== SO_BUSY_POLL)
          return set(fd, level, name, value, length);
        asked.push([fd, (value as Int32Array)[0] as number]);
        return failWith(EPERM);
      });
      for (let i = 0; i < 3; i++)
        await expect(server.receive(new Uint8Array(1), { timeoutMs: 5 })).rejects.toThrow(
          TimeoutError,
        );
    }
    expect(asked).toEqual([[server.descriptor, expect.any(Number)]]);
    expect(asked[0]?.[1]).toBeGreaterThan(0);
  });

  test("does not keep the process alive for a wait that does not, and ends with the last", async () => {
    const child = await inChild(`
      import { poller, UdpSocket } from ${INDEX};
      poller.busyPoll = true;
      const silent = UdpSocket.bind("127.0.0.1:0");
      silent.unref();
      silent.receive(new Uint8Array(1)).catch(() => {});
      const server = UdpSocket.bind("127.0.0.1:0");
      const waiting = server.receive(new Uint8Array(1));
      setTimeout(() => UdpSocket.open("ipv4").sendToSync("1", server.localAddress), 20);
      console.log(JSON.stringify(await waiting));`);
    expect(child).toEqual({ exitCode: 0, errors: "", said: 1 });
  });
});

describe("poller.turnBudgetMs", () => {
  const original = poller.turnBudgetMs;
  afterEach(() => {
    poller.turnBudgetMs = original;
  });

  test("is 1, and takes what is not negative", () => {
    expect(original).toBe(1);
    for (const budget of [0, 0.25, 5, 1e9, Number.POSITIVE_INFINITY]) {
      poller.turnBudgetMs = budget;
      expect(poller.turnBudgetMs).toBe(budget);
    }
  });

  test.each([Number.NaN, -1, -0.001, Number.NEGATIVE_INFINITY])("refuses %d", (wrong) => {
    expect(() => {
      poller.turnBudgetMs = wrong;
    }).toThrow(
      new RangeError(`Cannot use ${wrong} as turnBudgetMs: expected 0 or more milliseconds`),
    );
    expect(poller.turnBudgetMs).toBe(original);
  });

  test.each([["1"], [null], [undefined], [1n], [{}]])("refuses %p by its type", (wrong) => {
    expect(() => {
      poller.turnBudgetMs = wrong as number;
    }).toThrow(
      new TypeError(
        `Cannot use a value of type ${typeof wrong} as turnBudgetMs: expected a number`,
      ),
    );
    expect(poller.turnBudgetMs).toBe(original);
  });

  test.each([0, Number.POSITIVE_INFINITY])("serves with a budget of %d", async (budget) => {
    await start();
    poller.turnBudgetMs = budget;
    await expectServes();
  });

  // In a process of its own: what would look for ever would do that to this one.
  test.each([0, Number.POSITIVE_INFINITY])(
    "lets everything else have its turns in busyPoll with a budget of %d",
    async (budget) => {
      const child = await inChild(`
        import { poller, UdpSocket } from ${INDEX};
        poller.busyPoll = true;
        poller.turnBudgetMs = ${budget};
        const server = UdpSocket.bind("127.0.0.1:0");
        const waiting = server.receive(new Uint8Array(1));
        let ticks = 0;
        const timer = setInterval(() => {
          if (++ticks < 10) return;
          clearInterval(timer);
          UdpSocket.open("ipv4").sendToSync("1", server.localAddress);
        }, 1);
        console.log(JSON.stringify([await waiting, ticks]));`);
      expect(child).toEqual({ exitCode: 0, errors: "", said: [1, 10] });
    },
  );
});

describe("a poller that is stopped", () => {
  const ROUNDS = 500;
  const WARM_UP = 10;

  for (const ringer of RINGERS)
    testOn(ringer)(
      `and started ${ROUNDS} times leaves nothing behind, with ${ringer}`,
      async () => {
        const counts = () => ({
          descriptors: readdirSync("/proc/self/fd").length,
          helpers: helperThreads().length,
        });
        const tasks = () => readdirSync("/proc/self/task").length;
        for (let round = 0; round < WARM_UP; round++) {
          await startWith(ringer);
          await stop();
        }
        const before = counts();
        const tasksBefore = tasks();
        for (let round = 0; round < ROUNDS; round++) {
          await startWith(ringer);
          await stop();
        }
        // What the runner has open of its own may have been closed meanwhile.
        const isBack = () =>
          counts().descriptors <= before.descriptors && counts().helpers <= before.helpers;
        if ((await until(isBack, 2000)) === undefined) expect(counts()).toEqual(before);
        // The engine takes and ends some threads of its own.
        expect(tasks()).toBeLessThan(tasksBefore + ROUNDS / 20);
      },
    );

  test("leaves nothing behind with an eventfd for a doorbell, either", async () => {
    for (let round = 0; round < WARM_UP; round++) {
      await startWith("timer");
      await stop();
    }
    const before = readdirSync("/proc/self/fd").length;
    for (let round = 0; round < 100; round++) {
      await startWith("thread", "eventfd");
      await stop();
    }
    await until(() => readdirSync("/proc/self/fd").length <= before, 2000);
    expect(readdirSync("/proc/self/fd").length).toBeLessThanOrEqual(before);
  });

  test("while somebody waits, refuses, and goes on", async () => {
    await start();
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    const waits = [server.receive(new Uint8Array(8)), server.receive(new Uint8Array(8))];
    await turn();
    expect(() => engine.stop()).toThrow("Cannot stop the poller: 2 calls wait");
    client.sendToSync("one", server.localAddress);
    client.sendToSync("second", server.localAddress);
    expect(await inTime(Promise.all(waits))).toEqual([3, 6]);
    engine.stop();
    engine.stop();
    expect(poller.ringer).toBeUndefined();
    expect(poller.doorbell).toBeUndefined();
    expect(poller.refusals).toEqual([]);
  });

  test("forgets the sockets in its set, and the next one takes them again", async () => {
    using watched = new Watched();
    await start();
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    for (const ringer of ["thread", "timer", "thread"] as const) {
      await enterSet(server, watched);
      await stop();
      await startWith(ringer);
      expect(watched.entries.has(server.descriptor)).toBe(false);
      const waiting = server.receive(new Uint8Array(8));
      await settledCounters();
      client.sendToSync("again", server.localAddress);
      expect(await inTime(waiting)).toBe(5);
    }
  });

  test("hears no ring that was still on its way", async () => {
    using server = UdpSocket.bind(LOOPBACK);
    using client = UdpSocket.open("ipv4");
    for (const doorbell of DOORBELLS)
      for (const ringer of RINGERS)
        for (let round = 0; round < 5; round++) {
          if (ringer === "io_uring" && whyNoIoUring()) continue;
          await startWith(ringer, doorbell);
          await expect(server.receive(new Uint8Array(1), { timeoutMs: 2 })).rejects.toThrow(
            TimeoutError,
          );
          client.sendToSync("1", server.localAddress);
          for (let i = 0; i < round; i++) await turn();
          const { wakeUps } = poller.counters;
          engine.stop();
          await settledCounters();
          expect(poller.counters.wakeUps).toBe(wakeUps);
          server.receiveSync(new Uint8Array(1), { timeoutMs: LIMIT_MS });
        }
  });
});
