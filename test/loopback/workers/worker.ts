/**
 * The Workers of workers.ts: each takes the role that its environment names. They import little, since
 * there are many of them.
 *
 * @module
 */
import { DatagramBatch, type InetAddress, poller, UdpSocket } from "bun-sockets";
import { libc } from "../../../lib/ffi/libc.ts";
import { F_ADD_SEALS } from "../../../structs/constants/fcntl.ts";

const RUNNING_MS_MAX = 10_000;

/** What is sent where the contents do not matter. */
export const DATA = new Uint8Array(8);
/** A socket on a free port. */
export function open(): UdpSocket {
  return UdpSocket.bind("127.0.0.1:0");
}

/** Makes a socket get a datagram, of its own sending. */
export function prod(socket: UdpSocket): void {
  socket.trySendTo(DATA, socket.localAddress);
}

/** Waits until the poller has found its ringer. */
export async function running(): Promise<void> {
  const limit = performance.now() + RUNNING_MS_MAX;
  while (poller.ringer === undefined) {
    if (performance.now() > limit)
      throw new Error(`No ringer was found: ${JSON.stringify(poller.refusals)}`);
    await new Promise(setImmediate);
  }
}

/** Waits for one datagram, and says whether it came. */
export async function hears(): Promise<boolean> {
  using socket = open();
  const received = socket.receive(new Uint8Array(64), { timeoutMs: 5000 });
  await new Promise(setImmediate);
  prod(socket);
  return await received.then(
    (length) => length === DATA.length,
    () => false,
  );
}

/** Where the hesitating Worker stands: 0 before it hesitates, and twice it waits for the next one. */
export const CLAIMING = 1;
export const CLAIMED = 2;
export const OPENING = 3;
export const OPEN = 4;

function standAt(gate: Int32Array, expected: number): void {
  if (Atomics.compareExchange(gate, 0, expected, expected + 1) === expected)
    Atomics.wait(gate, 0, expected + 1, 10_000);
}

export interface Counted {
  readonly received: number;
  readonly events: number;
  readonly waiters: number;
}

/** A side gives it away when it has got so many. */
const QUOTA = 50;
export const DATAGRAMS_MAX = 200_000;
/** How many datagrams are on their way at most: more would not fit into the buffer. */
export const WINDOW = 128;
/** What is sent so that it is answered. */
export const PROBE = 0xffff_ffff;

/** What both sides count, in the places after those of the datagrams. */
export const RECEIVED = DATAGRAMS_MAX;
export const QUEUED = DATAGRAMS_MAX + 1;
export const CANCELED = DATAGRAMS_MAX + 2;
export const FAILED = DATAGRAMS_MAX + 3;
export const STOP = DATAGRAMS_MAX + 4;
export const COUNTS = DATAGRAMS_MAX + 5;

export const BATCH = { capacity: 16, slotBytes: 64 };

/** What one side has seen: of each datagram, how often it came. */
export class Tally {
  readonly counts: Int32Array;
  #got = 0;
  readonly #batch = new DatagramBatch<InetAddress>(BATCH);
  readonly #ack = new Uint32Array(2);

  constructor(counts: Int32Array) {
    this.counts = counts;
  }

  take(number: number): void {
    if (number === PROBE) return;
    this.#got++;
    Atomics.add(this.counts, number, 1);
    Atomics.add(this.counts, RECEIVED, 1);
  }

  /** Counts a batch and tells the sender. Says whether this side has had enough. */
  takeBatch(socket: UdpSocket, batch: DatagramBatch<InetAddress>): boolean {
    for (let i = 0; i < batch.count; i++) this.take(numberIn(batch.view(i)));
    this.#ack[0] = Atomics.load(this.counts, RECEIVED);
    this.#ack[1] = Atomics.load(this.counts, STOP);
    const sender = batch.address(0);
    if (sender) socket.trySendTo(this.#ack, sender);
    return this.#got >= QUOTA;
  }

  /** Takes the socket, receives for a while in one of the forms, and gives it away. */
  async own(fd: number, form: number): Promise<number> {
    const socket = UdpSocket.adopt(fd, { own: true });
    this.#got = 0;
    if (socket.tryReceiveBatch(this.#batch) > 0) {
      Atomics.add(this.counts, QUEUED, 1);
      this.takeBatch(socket, this.#batch);
    }
    const given = await FORMS[form % FORMS.length]?.(socket, this);
    return given ?? -1;
  }
}

function numberIn(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
}

const FORMS: readonly ((socket: UdpSocket, tally: Tally) => Promise<number>)[] = [
  async (socket, tally) => {
    const batch = new DatagramBatch<InetAddress>(BATCH);
    do await socket.receiveBatch(batch);
    while (!tally.takeBatch(socket, batch));
    return socket.detach();
  },
  (socket, tally) =>
    new Promise((resolve) => {
      socket.onBatch((batch) => {
        if (tally.takeBatch(socket, batch)) resolve(socket.detach());
      }, BATCH);
    }),
  async (socket, tally) => {
    for await (const batch of socket.batches(BATCH))
      if (tally.takeBatch(socket, batch)) return socket.detach();
    return -1;
  },
  // While calls wait, unless they have their answer.
  async (socket, tally) => {
    const batch = new DatagramBatch<InetAddress>(BATCH);
    do await socket.receiveBatch(batch);
    while (!tally.takeBatch(socket, batch));
    while (socket.tryReceiveBatch(batch) > 0) tally.takeBatch(socket, batch);
    const calls = Array.from({ length: 3 }, async () => {
      const target = new Uint8Array(64);
      try {
        await socket.receive(target);
        tally.take(numberIn(target));
      } catch (error) {
        const isCanceled = (error as { code?: string }).code === "ECANCELED";
        Atomics.add(tally.counts, isCanceled ? CANCELED : FAILED, 1);
      }
    });
    const fd = socket.detach();
    await Promise.all(calls);
    return fd;
  },
  // At a moment that has nothing to do with what comes.
  async (socket, tally) => {
    let fd = -1;
    setTimeout(() => {
      fd = socket.detach();
    }, 2);
    for await (const batch of socket.batches(BATCH)) tally.takeBatch(socket, batch);
    return fd;
  },
];

function post(value: unknown): void {
  postMessage(value);
}

/** In a Worker: says what is done with each message. It keeps the Worker alive. */
function onMessage<Value>(listener: (value: Value) => unknown): void {
  addEventListener("message", (event) => listener((event as MessageEvent<Value>).data));
}

/** Sockets in every kind of wait; tells their numbers when the poller listens for them. */
async function waitInWorker(sockets: readonly UdpSocket[]): Promise<void> {
  await running();
  onMessage<string>((message) => {
    for (const socket of sockets) socket.close();
    if (message === "close and exit") process.exit();
    post("closed");
  });
  post(sockets.map(({ descriptor }) => descriptor));
}

/** Where the stopping Worker stands. */
export const STOPPED = 1;
export const STARTED = 2;

/** Runs something before the call of libc that has this number, from here on. */
function beforeCall(number: number, run: () => void): void {
  let calls = 0;
  // The table is filled by its first call.
  libc.__errno_location();
  const table = libc as unknown as Record<string, (...values: unknown[]) => unknown>;
  for (const [name, call] of Object.entries(table)) {
    table[name] = (...values) => {
      if (++calls === number) run();
      return call(...values);
    };
  }
}

/** What Workers do. */
const ROLES = {
  idle: () => post([]),
  /** Stops before one of the calls that its poller makes when it starts. */
  stopping() {
    const socket = open();
    onMessage<readonly [gate: Int32Array, stopAt: number]>(async ([gate, stopAt]) => {
      beforeCall(stopAt, () => {
        Atomics.store(gate, 0, STOPPED);
        for (;;);
      });
      socket.receive(new Uint8Array(8)).catch(() => {});
      await running();
      Atomics.store(gate, 0, STARTED);
    });
    post([socket.descriptor]);
  },
  async waiting() {
    const sockets = [open(), open(), open()] as const;
    sockets[0].receive(new Uint8Array(8)).catch(() => {});
    sockets[1].onBatch(() => {});
    sockets[2].batches().next();
    await waitInWorker(sockets);
  },
  /** Two sockets that never come to rest, and a quiet one. */
  async echoing() {
    const sockets = [open(), open()];
    for (const socket of sockets) {
      socket.onBatch((batch) => void socket.trySendBatch(batch));
      for (let i = 0; i < 8; i++) prod(socket);
    }
    const quiet = open();
    quiet.receive(new Uint8Array(8)).catch(() => {});
    await waitInWorker([...sockets, quiet]);
  },
  async unref() {
    const sockets = [open(), open()] as const;
    sockets[0].receive(new Uint8Array(8)).catch(() => {});
    sockets[1].unref().onBatch(() => {});
    await waitInWorker(sockets);
  },
  /** Starts its poller when all others do. */
  crowding() {
    onMessage<Int32Array>(async (gate) => {
      Atomics.sub(gate, 0, 1);
      for (let value = 0; value !== 1; value = Atomics.load(gate, 0))
        Atomics.wait(gate, 0, value, 20);
      const heard = await hears();
      void open().receive(new Uint8Array(8));
      await running();
      post(heard);
    });
    post([]);
  },
  /** Stops before it claims what a poller has left, and before it opens its own. */
  hesitating() {
    onMessage<Int32Array>(async (gate) => {
      // The table is filled by its first call.
      libc.__errno_location();
      const { fcntl, epoll_create1 } = libc;
      libc.fcntl = (fd, command, argument) => {
        if (command === F_ADD_SEALS) standAt(gate, 0);
        return fcntl(fd, command, argument);
      };
      libc.epoll_create1 = (flags) => {
        standAt(gate, CLAIMED);
        return epoll_create1(flags);
      };
      post(await hears());
    });
    post([]);
  },
  async listening() {
    await hears();
    await running();
    onMessage(async () => post(await hears()));
    post([]);
  },
  counting() {
    const socket = open();
    let received = 0;
    socket.onBatch((batch) => {
      received += batch.count;
      post({ received, ...poller.counters });
    });
    onMessage<string>((message) => {
      if (message === "receive") prod(socket);
      else post({ received, ...poller.counters });
    });
    post([]);
  },
  owning() {
    let tally: Tally | undefined;
    onMessage<Int32Array | readonly [number, number] | "spurious">(async (message) => {
      if (message instanceof Int32Array) tally = new Tally(message);
      else if (message === "spurious") post(poller.counters.spurious);
      else post(await tally?.own(message[0], message[1]));
    });
    post([]);
  },
  /** These end by themselves, and so say nothing. */
  async lastWait() {
    await hears();
  },
  async unrefWait() {
    const socket = open();
    socket.receive(new Uint8Array(8)).catch(() => {});
    await running();
    socket.unref();
  },
  async pausedHandler() {
    const handler = open().onBatch(() => {});
    await running();
    handler.pause();
  },
  async exit() {
    void open().receive(new Uint8Array(8));
    await running();
    process.exit(3);
  },
  async exitInHandler() {
    const socket = open();
    socket.onBatch(() => process.exit(4));
    await running();
    prod(socket);
  },
  async throwing() {
    void open().receive(new Uint8Array(8));
    await running();
    setTimeout(() => {
      throw new Error("planned");
    }, 1);
  },
  async rejected() {
    void open().receive(new Uint8Array(8));
    await running();
    void open().receive(new Uint8Array(8), { timeoutMs: 1 });
  },
} as const;

export type Role = keyof typeof ROLES;

if (!Bun.isMainThread) void ROLES[process.env["WORKER_ROLE"] as Role]();
