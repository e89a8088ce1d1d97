/**
 * What process_life.test.ts runs in a process of its own: `bun test/loopback/workers/life.ts MODE`.
 *
 * @module
 */
import {
  type BatchSubscription,
  type CancelOptions,
  Message,
  poller,
  Socket,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";
import { close } from "bun-sockets/sys";
import { difference, type Kinds, now, openKinds, say } from "./support.ts";
import { DATA, open, prod, running } from "./worker.ts";

function receive(socket: Socket, options?: CancelOptions): Promise<number> {
  return socket.receive(new Uint8Array(64), options);
}

/** Waits for what fails as it is to. */
async function failing(promise: Promise<unknown>): Promise<string> {
  try {
    return `no failure: ${await promise}`;
  } catch (error) {
    const { code, name } = error as { code?: unknown; name: string };
    return typeof code === "string" ? code : name;
  }
}

/** A Unix socket that waits to send, and the one that does not read. */
async function waitingSender(): Promise<[sender: Socket, reader: Socket, sent: Promise<number>]> {
  const [sender, reader] = Socket.pair({ type: "stream" });
  while (sender.trySend(new Uint8Array(65_536)) !== undefined);
  const sent = sender.send(DATA);
  await running();
  return [sender, reader, sent];
}

// Each ends its last wait, or what of it keeps the process alive. Then nothing is left to be done.
const LAST_WAITS = {
  async received() {
    const socket = open();
    const received = receive(socket);
    await running();
    prod(socket);
    await received;
  },
  async sent() {
    const [, reader, sent] = await waitingSender();
    setTimeout(() => {
      while (reader.tryReceive(new Uint8Array(65_536)) !== undefined);
    }, 20);
    await sent;
  },
  async timedOut() {
    return await failing(receive(open(), { timeoutMs: 50 }));
  },
  async aborted() {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 50);
    return await failing(receive(open(), { signal: controller.signal }));
  },
  async closed() {
    const socket = open();
    setTimeout(() => socket.close(), 50);
    return await failing(receive(socket));
  },
  async detached() {
    const socket = open();
    setTimeout(() => close(socket.detach()), 50);
    return await failing(receive(socket));
  },
  async iterated() {
    const socket = open();
    setTimeout(() => prod(socket), 50);
    for await (const _ of socket.batches()) break;
  },
  async handled() {
    const socket = open();
    setTimeout(() => prod(socket), 50);
    await new Promise<void>((resolve) => {
      const handler = socket.onBatch(() => {
        handler.stop();
        resolve();
      });
    });
  },
  async paused() {
    const handler = open().onBatch(() => {});
    await running();
    handler.pause();
  },
  unrefBefore() {
    void receive(open().unref());
  },
  async unrefAtOnce() {
    const socket = open();
    void receive(socket);
    socket.unref();
  },
  async unrefWhileStarting() {
    const socket = open();
    void receive(socket);
    await new Promise(setImmediate);
    socket.unref();
  },
  async unrefWhileWaiting() {
    const socket = open();
    void receive(socket);
    await running();
    socket.unref();
  },
  async unrefWhileBusy() {
    poller.busyPoll = true;
    const socket = open();
    void receive(socket);
    await running();
    socket.unref();
  },
} as const;

/** What a program that ends by itself says. */
export interface LastWait {
  /** When nothing was left that keeps it alive. */
  readonly at: number;
  /** The code of the error that the last wait was to fail with. */
  readonly code?: string | undefined;
  readonly ringer: string | undefined;
}

/** The names of the last waits, and of a program that does nothing. */
export const LAST_WAIT_NAMES = Object.keys(LAST_WAITS) as (keyof typeof LAST_WAITS)[];

async function lastWait(name: string): Promise<void> {
  process.on("exit", () => say({ waiters: poller.counters.waiters }));
  const code = (await LAST_WAITS[name as keyof typeof LAST_WAITS]()) ?? undefined;
  say({ at: now(), code, ringer: poller.ringer } satisfies LastWait);
}

/** Whether the process would end by itself now, or something keeps it alive. */
export type Outcome = "lives" | "ends";

// Longer than a process that may end takes for it, even on a busy machine.
const LIVES_MS = 40;
const ENDS_MS_MAX = 5000;

let onEnd = (): void => {};

/** Finds out, without ending. */
async function outcome(expected: Outcome): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  // The loop has nothing left to wait for, and a timer gives it something again.
  onEnd = () => setTimeout(resolve, 0, "ends");
  const timer = setTimeout(resolve, expected === "lives" ? LIVES_MS : ENDS_MS_MAX, "lives");
  timer.unref();
  const found = await promise;
  onEnd = () => {};
  clearTimeout(timer);
  return found;
}

/** Keeps the process alive while it is ref'd. */
function keepAlive(): ReturnType<typeof setInterval> {
  return setInterval(() => {}, 1000);
}

/** What is closed when a case is over. */
class Scene {
  readonly #sockets: Socket[] = [];

  add<S extends Socket>(socket: S): S {
    this.#sockets.push(socket);
    return socket;
  }

  udp(): UdpSocket {
    return this.add(open());
  }

  /** Waits for a datagram that never comes; that the end of the scene ends it is no failure. */
  wait(socket: Socket, options?: CancelOptions): void {
    receive(socket, options).catch(() => {});
  }

  /** A socket that waits, and a poller that listens for it. */
  async waiting(): Promise<UdpSocket> {
    const socket = this.udp();
    this.wait(socket);
    await settled();
    return socket;
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
  }
}

// Until whatever was set off in this turn is done.
async function settled(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(setImmediate);
}

type Case = readonly [expected: Outcome, set: (scene: Scene) => unknown];

/** What keeps a process alive, and what not. */
export const CASES: Readonly<Record<string, Case>> = {
  "a socket that nobody waits for": ["ends", (scene) => scene.udp()],
  "a receive that waits": ["lives", (scene) => scene.waiting()],
  "a receive on a socket that was unref'd before": [
    "ends",
    (scene) => scene.wait(scene.udp().unref()),
  ],
  "a receive on a socket that is unref'd in the same turn": [
    "ends",
    (scene) => {
      const socket = scene.udp();
      scene.wait(socket);
      socket.unref();
    },
  ],
  "a receive on a socket that is unref'd while it waits": [
    "ends",
    async (scene) => (await scene.waiting()).unref(),
  ],
  "a receive on a socket that was unref'd and ref'd again": [
    "lives",
    (scene) => scene.wait(scene.udp().unref().ref()),
  ],
  "a receive on a socket that is ref'd again while it waits": [
    "lives",
    async (scene) => {
      const socket = (await scene.waiting()).unref();
      await settled();
      socket.ref();
    },
  ],
  "a receive on a socket that was ref'd first while it waits": [
    "lives",
    async (scene) => {
      const socket = scene.udp().unref();
      scene.wait(socket);
      await settled();
      socket.ref();
    },
  ],
  "unref three times and ref once": [
    "lives",
    async (scene) => (await scene.waiting()).unref().unref().unref().ref(),
  ],
  "ref three times and unref once": [
    "ends",
    async (scene) => (await scene.waiting()).ref().ref().ref().unref(),
  ],
  "unref three times and ref once, with turns between": [
    "lives",
    async (scene) => {
      const socket = await scene.waiting();
      for (let i = 0; i < 3; i++) {
        socket.unref();
        await settled();
      }
      socket.ref();
    },
  ],
  "ref three times and unref once, with turns between": [
    "ends",
    async (scene) => {
      const socket = await scene.waiting();
      for (let i = 0; i < 3; i++) {
        socket.ref();
        await settled();
      }
      socket.unref();
    },
  ],
  "a second receive on a socket that was unref'd before the first": [
    "ends",
    async (scene) => {
      const socket = scene.udp().unref();
      const received = receive(socket);
      await settled();
      prod(socket);
      await received;
      scene.wait(socket);
    },
  ],
  "a second receive on a socket that was ref'd while the first waited": [
    "lives",
    async (scene) => {
      const socket = scene.udp().unref();
      const received = receive(socket);
      await settled();
      socket.ref();
      prod(socket);
      await received;
      scene.wait(socket);
    },
  ],
  "three receives on one socket": [
    "lives",
    async (scene) => {
      const socket = scene.udp();
      for (let i = 0; i < 3; i++) scene.wait(socket);
      await settled();
    },
  ],
  "three receives on one socket that is unref'd": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      for (let i = 0; i < 3; i++) scene.wait(socket);
      await settled();
      socket.unref();
    },
  ],
  "the last of three receives": [
    "lives",
    async (scene) => {
      const socket = scene.udp();
      const received = [receive(socket), receive(socket)];
      scene.wait(socket);
      await settled();
      prod(socket);
      prod(socket);
      await Promise.all(received);
    },
  ],
  "two sockets of which one is unref'd": [
    "lives",
    async (scene) => {
      await scene.waiting();
      (await scene.waiting()).unref();
    },
  ],
  "two sockets that are both unref'd": [
    "ends",
    async (scene) => {
      (await scene.waiting()).unref();
      (await scene.waiting()).unref();
    },
  ],
  "a socket that is unref'd, and one that was closed while it waited": [
    "ends",
    async (scene) => {
      (await scene.waiting()).unref();
      (await scene.waiting()).close();
    },
  ],
  "a socket that waits, and one that was closed while it waited unref'd": [
    "lives",
    async (scene) => {
      await scene.waiting();
      (await scene.waiting()).unref().close();
    },
  ],
  "a receive that was aborted": [
    "ends",
    async (scene) => {
      const controller = new AbortController();
      scene.wait(scene.udp(), { signal: controller.signal });
      await settled();
      controller.abort();
    },
  ],
  "a receive after one that was aborted while the socket was unref'd": [
    "lives",
    async (scene) => {
      const controller = new AbortController();
      const socket = scene.udp();
      scene.wait(socket, { signal: controller.signal });
      await settled();
      socket.unref();
      controller.abort();
      socket.ref();
      await settled();
      scene.wait(socket);
    },
  ],
  "a receive that times out later": [
    "lives",
    (scene) => scene.wait(scene.udp(), { timeoutMs: 60_000 }),
  ],
  "a receive that times out later, on a socket that is unref'd": [
    "ends",
    (scene) => scene.wait(scene.udp().unref(), { timeoutMs: 60_000 }),
  ],
  "a receive of a batch, a message and with the sender, unref'd": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      socket.receiveFrom(new Uint8Array(8)).catch(() => {});
      socket.receiveMessage(new Message({ vectors: new Uint8Array(8) })).catch(() => {});
      await settled();
      socket.unref();
    },
  ],
  "a send that waits for room": [
    "lives",
    async (scene) => {
      const [sender, reader, sent] = await waitingSender();
      scene.add(sender);
      scene.add(reader);
      sent.catch(() => {});
    },
  ],
  "a send that waits for room on a socket that is unref'd": [
    "ends",
    async (scene) => {
      const [sender, reader, sent] = await waitingSender();
      scene.add(sender).unref();
      scene.add(reader);
      sent.catch(() => {});
    },
  ],
  "a send that waits for room in the queue of another": ["lives", (scene) => waitForQueue(scene)],
  "a send that waits for room in the queue of another, on a socket that is unref'd": [
    "ends",
    async (scene) => (await waitForQueue(scene)).unref(),
  ],
  "a receive and a send that wait on a socket that is unref'd": [
    "ends",
    async (scene) => {
      const [sender, reader, sent] = await waitingSender();
      scene.add(reader);
      scene.wait(scene.add(sender));
      sent.catch(() => {});
      await settled();
      sender.unref();
    },
  ],
  "an accept that waits": ["lives", (scene) => void accept(scene)],
  "an accept that waits on a socket that is unref'd": ["ends", (scene) => accept(scene).unref()],
  "a handler": ["lives", (scene) => scene.udp().onBatch(() => {})],
  "a handler of a socket that is unref'd": [
    "ends",
    (scene) =>
      scene
        .udp()
        .unref()
        .onBatch(() => {}),
  ],
  "a handler of a socket that is unref'd while it runs": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      await handled(socket);
      socket.unref();
    },
  ],
  "a handler that is paused": ["ends", async (scene) => (await handled(scene.udp())).pause()],
  "a handler that is paused twice and resumed": [
    "lives",
    async (scene) => {
      const handler = await handled(scene.udp());
      handler.pause();
      handler.pause();
      await settled();
      handler.resume();
    },
  ],
  "a handler that is resumed three times and paused": [
    "ends",
    async (scene) => {
      const handler = await handled(scene.udp());
      handler.pause();
      for (let i = 0; i < 3; i++) {
        handler.resume();
        await settled();
      }
      handler.pause();
    },
  ],
  "a handler that pauses itself": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      await new Promise<void>((resolve) => {
        const handler = socket.onBatch(() => {
          handler.pause();
          resolve();
        });
        prod(socket);
      });
    },
  ],
  "a handler that is stopped": ["ends", async (scene) => (await handled(scene.udp())).stop()],
  "a handler that has failed": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      const reported = new Promise((resolve) => process.once("uncaughtException", resolve));
      socket.onBatch(() => {
        throw new Error("planned");
      });
      prod(socket);
      await reported;
    },
  ],
  "a handler of a socket that is closed": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      await handled(socket);
      socket.close();
    },
  ],
  "an iterator in its step": ["lives", (scene) => void scene.udp().batches().next()],
  "an iterator between two steps": [
    "ends",
    async (scene) => {
      const socket = scene.udp();
      prod(socket);
      await socket.batches().next();
    },
  ],
  "an iterator in its step, of a socket that is unref'd": [
    "ends",
    (scene) => void scene.udp().unref().batches().next(),
  ],
  "an iterator that has returned in its step": [
    "ends",
    async (scene) => {
      const batches = scene.udp().batches();
      const step = batches.next();
      await settled();
      await batches.return();
      await step;
    },
  ],
  "a duplicate of a socket that is unref'd": [
    "lives",
    (scene) => {
      const socket = scene.udp().unref();
      scene.wait(socket);
      scene.wait(scene.add(socket.duplicate()));
    },
  ],
  "a socket that was adopted of one that was unref'd": [
    "lives",
    async (scene) => {
      const socket = scene.udp().unref();
      scene.wait(socket);
      await settled();
      scene.wait(scene.add(UdpSocket.adopt(socket.detach(), { own: true })));
    },
  ],
  "a socket that was unref'd after it was closed": [
    "ends",
    async (scene) => {
      const socket = await scene.waiting();
      socket.close();
      socket.unref().ref();
    },
  ],
  "a receive that waits, in busy-poll mode": [
    "lives",
    (scene) => {
      poller.busyPoll = true;
      scene.wait(scene.udp());
    },
  ],
  "a receive on a socket that is unref'd, in busy-poll mode": [
    "ends",
    async (scene) => {
      poller.busyPoll = true;
      const socket = scene.udp();
      scene.wait(socket);
      await settled();
      socket.unref();
    },
  ],
  "a receive on a socket that is ref'd again, after busy-poll mode": [
    "lives",
    async (scene) => {
      poller.busyPoll = true;
      const socket = (await scene.waiting()).unref();
      await settled();
      poller.busyPoll = false;
      await settled();
      socket.ref();
    },
  ],
};

/** A running handler. */
async function handled(socket: UdpSocket): Promise<BatchSubscription> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const handler = socket.onBatch(() => resolve());
  prod(socket);
  await promise;
  await settled();
  return handler;
}

// No event tells when a Unix datagram socket may send to one that it is not connected with.
async function waitForQueue(scene: Scene): Promise<Socket> {
  const reader = scene.add(UnixDatagramSocket.bind(`unix:@bun-sockets-life-${process.pid}`));
  const sender = scene.add(UnixDatagramSocket.open());
  while (sender.trySendTo(DATA, reader.localAddress) !== undefined);
  sender.sendTo(DATA, reader.localAddress).catch(() => {});
  await settled();
  return sender;
}

function accept(scene: Scene): Socket {
  const listener = scene.add(Socket.create("ipv4", "stream"));
  listener.bind("127.0.0.1:0");
  listener.listen();
  listener.accept().catch(() => {});
  return listener;
}

async function cases(): Promise<void> {
  process.on("beforeExit", () => onEnd());
  // The handler that fails is one of them.
  process.on("uncaughtException", () => {});
  const first = open();
  const received = receive(first);
  await running();
  prod(first);
  await received;
  const outcomes: Record<string, Outcome> = {};
  const keeper = keepAlive();
  for (const [name, [expected, set]] of Object.entries(CASES)) {
    const scene = new Scene();
    keeper.ref();
    await set(scene);
    keeper.unref();
    outcomes[name] = await outcome(expected);
    poller.busyPoll = false;
    scene.close();
    await settled();
  }
  clearInterval(keeper);
  say({ ringer: poller.ringer, outcomes, waiters: poller.counters.waiters });
}

/** What `random` says. */
export interface Random {
  readonly rounds: number;
  /** What was done, in each round that came out otherwise than it was to. */
  readonly wrong: readonly string[];
}

const RANDOM_ROUNDS = 60;
const STEPS_MAX = 10;

/** A socket, and what is to be true of it. */
class Known {
  readonly socket = open();
  isRef = true;
  readonly waits: { readonly controller: AbortController; readonly done: Promise<unknown> }[] = [];

  get keepsAlive(): boolean {
    return this.isRef && this.waits.length > 0;
  }
}

const STEPS: Readonly<Record<string, (known: Known) => unknown>> = {
  ref(known) {
    known.socket.ref();
    known.isRef = true;
  },
  unref(known) {
    known.socket.unref();
    known.isRef = false;
  },
  wait(known) {
    const controller = new AbortController();
    const done = receive(known.socket, { signal: controller.signal }).catch(() => {});
    known.waits.push({ controller, done });
  },
  // The last one, so that the first ones stay in their order.
  abort(known) {
    known.waits.pop()?.controller.abort();
  },
  async answer(known) {
    const first = known.waits.shift();
    if (!first) return;
    prod(known.socket);
    await first.done;
  },
  settle: () => settled(),
};

// A small generator of Lehmer's, so that a round can be done again.
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

async function random(seed: string): Promise<void> {
  process.on("beforeExit", () => onEnd());
  const below = generator(Number(seed));
  const all = Array.from({ length: 4 }, () => new Known());
  const names = Object.keys(STEPS);
  const wrong: string[] = [];
  const keeper = keepAlive();
  STEPS["wait"]?.(all[0] as Known);
  await running();
  for (let round = 0; round < RANDOM_ROUNDS; round++) {
    const done: string[] = [];
    keeper.ref();
    for (let steps = 1 + below(STEPS_MAX); steps > 0; steps--) {
      const name = names[below(names.length)] ?? "";
      const index = below(all.length);
      done.push(`${name} ${index}`);
      await STEPS[name]?.(all[index] as Known);
    }
    keeper.unref();
    const expected = all.some(({ keepsAlive }) => keepsAlive) ? "lives" : "ends";
    const found = await outcome(expected);
    if (found !== expected) wrong.push(`round ${round}: ${done.join(", ")}: ${found}`);
  }
  for (const { socket } of all) socket.close();
  clearInterval(keeper);
  say({ rounds: RANDOM_ROUNDS, wrong } satisfies Random);
}

/** What `served` says: for each form, how many datagrams came, and the longest that one took. */
export interface Served {
  readonly ringer: string | undefined;
  readonly forms: Readonly<Record<string, { received: number; slowestMs: number }>>;
  /** Of a receive that waits unref'd when nothing else is left. */
  readonly waiters: number;
}

/** How many datagrams are sent in each form. */
export const SERVED_ROUNDS = 200;

const FORMS: Readonly<Record<string, (socket: UdpSocket, heard: () => void) => unknown>> = {
  async receive(socket, heard) {
    const target = new Uint8Array(64);
    for (let i = 0; i < SERVED_ROUNDS; i++) {
      await socket.receive(target);
      heard();
    }
  },
  async batches(socket, heard) {
    for await (const batch of socket.batches()) for (let i = 0; i < batch.count; i++) heard();
  },
  onBatch(socket, heard) {
    socket.onBatch((batch) => {
      for (let i = 0; i < batch.count; i++) heard();
    });
  },
};

// A timer keeps the process alive. The socket is unref'd, and in half of the rounds it was ref'd in
// between, so that whatever listens for it is let go and taken up again.
async function served(): Promise<void> {
  const keeper = keepAlive();
  const forms: Record<string, { received: number; slowestMs: number }> = {};
  for (const [name, serve] of Object.entries(FORMS)) {
    const socket = open().unref();
    const form = { received: 0, slowestMs: 0 };
    forms[name] = form;
    let wake = () => {};
    const over = serve(socket, () => {
      form.received++;
      wake();
    });
    for (let i = 0; i < SERVED_ROUNDS; i++) {
      if (i % 2 === 1) {
        socket.ref();
        if (i % 4 === 1) await settled();
        socket.unref();
        if (i % 8 === 1) await settled();
      }
      const heard = new Promise<boolean>((resolve) => {
        wake = () => resolve(true);
        setTimeout(resolve, SERVED_MS_MAX, false);
      });
      const sentAt = performance.now();
      prod(socket);
      if (!(await heard)) break;
      form.slowestMs = Math.max(form.slowestMs, performance.now() - sentAt);
    }
    socket.close();
    await over;
  }
  void receive(open().unref());
  clearInterval(keeper);
  const { ringer, counters } = poller;
  say({ ringer, forms, waiters: counters.waiters } satisfies Served);
  // The timers of the rounds have not gone off yet.
  process.exit(0);
}

const SERVED_MS_MAX = 5000;

/** What `toggle` says: nanoseconds for one call of ref or unref, the median of some rounds. */
export interface Toggled {
  readonly ringer: string | undefined;
  /** By how many calls wait; in one turn, in which nothing takes effect. */
  readonly inTurn: Readonly<Record<number, number>>;
  /** The same, with what it takes to take effect after each call. */
  readonly settled: Readonly<Record<number, number>>;
}

const TOGGLES = 100_000;
const SETTLED_TOGGLES = 5000;
const TOGGLE_ROUNDS = 9;
// As many microtasks as the poller lets pass before it says whether it keeps the process alive.
const MICROTASKS = 7;

async function toggle(): Promise<void> {
  const inTurn: Record<number, number> = {};
  const effective: Record<number, number> = {};
  for (const waiters of [0, 1, 10]) {
    const socket = open();
    for (let i = 0; i < waiters; i++) receive(socket).catch(() => {});
    if (waiters > 0) await running();
    const calls: number[] = [];
    const settling: number[] = [];
    for (let round = 0; round < TOGGLE_ROUNDS; round++) {
      const started = performance.now();
      for (let i = 0; i < TOGGLES; i += 2) {
        socket.unref();
        socket.ref();
      }
      calls.push(performance.now() - started);
      await settled();
      const without = await settleEach(() => {});
      const both = [() => socket.unref(), () => socket.ref()] as const;
      settling.push((await settleEach((i) => both[i & 1]?.())) - without);
    }
    inTurn[waiters] = (median(calls) * 1e6) / TOGGLES;
    effective[waiters] = (median(settling) * 1e6) / SETTLED_TOGGLES;
    socket.close();
  }
  say({ ringer: poller.ringer, inTurn, settled: effective } satisfies Toggled);
}

async function settleEach(call: (i: number) => unknown): Promise<number> {
  const started = performance.now();
  for (let i = 0; i < SETTLED_TOGGLES; i++) {
    call(i);
    for (let j = 0; j < MICROTASKS; j++) await undefined;
  }
  return performance.now() - started;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** What `idle` and `sleep` say. */
export interface Idle {
  /** What the counters of the poller have moved by. */
  readonly moved: Readonly<Record<string, number>>;
  readonly waiters: number;
  /** Milliseconds of CPU of the whole process. */
  readonly cpuMs: number;
}

const IDLE_MS = 5000;

async function idle(waits: boolean): Promise<void> {
  if (waits) {
    void receive(open());
    await running();
  }
  Bun.gc(true);
  await settled();
  const before = poller.counters;
  const cpu = process.cpuUsage();
  await Bun.sleep(IDLE_MS);
  const { user, system } = process.cpuUsage(cpu);
  const { waiters, ...after } = poller.counters;
  const moved = Object.entries(after).map(([name, value]) => [
    name,
    value - before[name as keyof typeof after],
  ]);
  say({ moved: Object.fromEntries(moved), waiters, cpuMs: (user + system) / 1000 } satisfies Idle);
  process.exit(0);
}

/** What `opened` says. */
export interface Opened {
  readonly ringer: string | undefined;
  readonly doorbell: string | undefined;
  /** What the poller has opened in this thread, by kind. */
  readonly opened: Kinds;
  /** What it has opened more for a hundred sockets that wait. */
  readonly more: Kinds;
}

async function opened(): Promise<void> {
  const socket = open();
  const before = openKinds();
  const received = receive(socket);
  await running();
  prod(socket);
  await received;
  const after = openKinds();
  const more = Array.from({ length: 100 }, () => open());
  for (const each of more) void receive(each);
  await settled();
  const { ringer, doorbell } = poller;
  say({
    ringer,
    doorbell,
    opened: difference(before, after),
    more: difference(after, openKinds()),
  } satisfies Opened);
  process.exit(0);
}

// How a program ends in mid-wait.
const ENDS = {
  /** In the turn in which it waits, in the next one, and later. */
  async exitAtOnce() {
    void receive(open());
    process.exit(3);
  },
  async exitInMicrotask() {
    void receive(open());
    for (let i = 0; i < MICROTASKS; i++) await undefined;
    process.exit(3);
  },
  async exitWhileStarting() {
    void receive(open());
    await new Promise(setImmediate);
    process.exit(3);
  },
  async exit() {
    const sockets = Array.from({ length: 10 }, () => open());
    for (const socket of sockets) void receive(socket);
    await running();
    process.exit(3);
  },
  async exitInAnswer() {
    const socket = open();
    receive(socket).then(() => process.exit(4));
    void receive(socket);
    await running();
    prod(socket);
  },
  async exitInHandler() {
    const socket = open();
    socket.onBatch(() => process.exit(5));
    await running();
    prod(socket);
  },
  async exitInIterator() {
    const socket = open();
    setTimeout(() => prod(socket), 20);
    for await (const _ of socket.batches()) process.exit(6);
  },
  async exitInTimeout() {
    await failing(receive(open(), { timeoutMs: 20 }));
    process.exit(7);
  },
  async exitInAbort() {
    const controller = new AbortController();
    void receive(open());
    receive(open(), { signal: controller.signal }).catch(() => process.exit(8));
    await running();
    controller.abort();
  },
  /** An error that nobody catches. */
  async throwing() {
    void receive(open());
    await running();
    setTimeout(() => {
      throw new Error("planned");
    }, 1);
  },
  async throwingHandler() {
    const socket = open();
    socket.onBatch(() => {
      throw new Error("planned");
    });
    await running();
    prod(socket);
  },
  async rejected() {
    void receive(open());
    await running();
    void receive(open(), { timeoutMs: 1 });
  },
} as const;

/** The ways in which a program ends in mid-wait. */
export const END_NAMES = Object.keys(ENDS) as (keyof typeof ENDS)[];

// Until a signal ends it, which nobody handles.
async function waiting(): Promise<void> {
  void receive(open());
  open().onBatch(() => {});
  await running();
  say("ready");
}

// Until a signal has its handler close what waits.
async function closing(): Promise<void> {
  const socket = open();
  process.on("SIGTERM", () => socket.close());
  const received = failing(receive(socket));
  await running();
  say("ready");
  say(await received);
}

const MODES: Readonly<Record<string, (value: string) => unknown>> = {
  ...ENDS,
  empty: () => say({ at: now(), ringer: undefined } satisfies LastWait),
  lastWait,
  cases,
  random,
  served,
  toggle,
  idle: () => idle(true),
  sleep: () => idle(false),
  opened,
  waiting,
  closing,
};

// Not awaited: while a module does, Bun's loop lives on.
if (import.meta.main) void MODES[process.argv[2] ?? ""]?.(process.argv[3] ?? "");
