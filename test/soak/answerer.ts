/**
 * The program that sleeps while source.c sends: it sends back every event that its sockets get,
 * each socket in a form of its own. It sets no timer, so that nothing but the poller's ringer wakes
 * it.
 *
 * Its first argument is an `Order`. It ends with its standard input, and prints its `Counts`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import {
  ClosedError,
  DatagramBatch,
  Inet4Address,
  poller,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { Alarms } from "../../lib/internal/alarms.ts";
import { type FaultName, plant } from "./faults.ts";

/** What the program is told. */
export interface Order {
  /** Where the source is: its UDP port on loopback, and its abstract Unix name. */
  readonly udp: number;
  readonly unix: string;
  readonly sockets: number;
  /** A fault that the watchdog has to find. */
  readonly fault?: FaultName | undefined;
}

/** What has happened between the first event and the end. */
export interface Counts {
  readonly ringer: string | undefined;
  readonly doorbell: string | undefined;
  /** What the poller has tried and does not use. */
  readonly refusals: readonly string[];
  /** As the poller counts them. */
  readonly wakeUps: number;
  readonly spurious: number;
  /** How often the JavaScript thread went to sleep, by the kernel's count. */
  readonly sleeps: number;
  /** Calls of setTimeout and setInterval by anybody, and how many of them the timer ringer made. */
  readonly timers: number;
  readonly ringerTimers: number;
  /** Alarms that were set in the poller: all would share one timer. */
  readonly alarms: number;
  /** Events that were received, by the form of waiting. */
  readonly received: Readonly<Record<string, number>>;
  /** Answers that had to wait for room. */
  readonly waitedForRoom: number;
  /** Sockets that were closed and opened again, and how many of them got a number used before. */
  readonly reopened: number;
  readonly numbersUsedAgain: number;
}

/** A socket, and how it is waited for. */
interface Place {
  readonly index: number;
  /** How many sockets were at this index before. */
  readonly generation: number;
  readonly form: string;
  readonly socket: UdpSocket | UnixDatagramSocket;
}

// struct message in source.c.
const MESSAGE_BYTES = 16;
const NUMBER_AT = 0;
const SOCKET_AT = 4;
const REOPEN_AT = 6;
const HELLO_AT = 8;

const BATCH = { capacity: 32, slotBytes: 64 };
/** One closed socket in so many leaves a duplicate behind, for a while. */
const KEEP_EVERY = 4;

/** The ways to wait for events and to answer them. Those that are promises end with the socket. */
const FORMS: Readonly<Record<string, (place: Place) => Promise<unknown> | undefined>> = {
  receive,
  "receive, two at a time": (place) => Promise.all([receive(place), receive(place)]),
  "receive, a turn later": async ({ socket, form }) => {
    const view = new DataView(new ArrayBuffer(MESSAGE_BYTES));
    for (;;) {
      await socket.receive(view);
      await answer(socket, form, view);
      // What comes now finds nobody who waits.
      await turn();
    }
  },
  receiveFrom: async ({ socket, form }) => {
    const view = new DataView(new ArrayBuffer(MESSAGE_BYTES));
    for (;;) {
      await socket.receiveFrom(view);
      await answer(socket, form, view);
    }
  },
  receiveBatch: async ({ socket, form }) => {
    using batch = new DatagramBatch(BATCH);
    for (;;) {
      await socket.receiveBatch(batch);
      await answerBatch(socket, form, batch);
    }
  },
  onBatch: ({ socket, form }) => {
    socket.onBatch((batch) => answerBatch(socket, form, batch)?.catch(unlessClosed), BATCH);
    return undefined;
  },
  "onBatch, a turn later": (place) => {
    const { socket, form } = place;
    const handle = async (batch: DatagramBatch) => {
      await turn();
      if (isServed(place)) await answerBatch(socket, form, batch);
    };
    socket.onBatch((batch) => handle(batch).catch(unlessClosed), BATCH);
    return undefined;
  },
  batches: async ({ socket, form }) => {
    for await (const batch of socket.batches(BATCH)) await answerBatch(socket, form, batch);
  },
};
const FORM_NAMES = Object.keys(FORMS);

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function receive({ socket, form }: Place): Promise<void> {
  const view = new DataView(new ArrayBuffer(MESSAGE_BYTES));
  for (;;) {
    await socket.receive(view);
    await answer(socket, form, view);
  }
}

async function answer(socket: Place["socket"], form: string, view: DataView): Promise<void> {
  count(form, 1);
  if (socket.trySend(view) === undefined) {
    waitedForRoom++;
    await socket.send(view);
  }
  obey(view.getUint16(REOPEN_AT, true));
}

// No asynchronous function: where there is room, the handler that calls it is to be none either.
function answerBatch(
  socket: Place["socket"],
  form: string,
  batch: DatagramBatch,
): Promise<void> | undefined {
  count(form, batch.count);
  const view = new DataView(batch.memory.buffer, batch.memory.byteOffset);
  // Read now: the first of them may close this socket, and free the batch.
  const orders = Array.from({ length: batch.count }, (_, i) =>
    view.getUint16(batch.offset(i) + REOPEN_AT, true),
  );
  socket.trySendBatch(batch);
  if (batch.failed > 0) throw new Error(`Cannot answer: ${batch.failure(0)}`);
  if (batch.stopped) {
    waitedForRoom++;
    return socket.sendBatch(batch, batch.stopped.index).then(() => orders.forEach(obey));
  }
  orders.forEach(obey);
  return undefined;
}

function unlessClosed(error: unknown): void {
  if (!(error instanceof ClosedError)) throw error;
}

const received: Record<string, number> = {};
let waitedForRoom = 0;
let reopened = 0;
let numbersUsedAgain = 0;
const numbers = new Set<number>();
let kept: Disposable | undefined;

function count(form: string, events: number): void {
  received[form] = (received[form] ?? 0) + events;
}

const order = JSON.parse(process.argv[2] ?? "") as Order;
const places: Place[] = [];

// Each socket that takes the place of another one is waited for in another form, and nearly always
// of the other kind.
function open(index: number, generation: number): Place {
  const number = index + generation;
  const form = FORM_NAMES[number % FORM_NAMES.length] as string;
  const isUnix = (number + Math.floor(number / FORM_NAMES.length)) % 2 === 1;
  if (isUnix) {
    const socket = UnixDatagramSocket.bind(UnixAddress.unnamed);
    socket.connectSync(UnixAddress.abstract(order.unix));
    return { index, generation, form, socket };
  }
  const socket = UdpSocket.bind(Inet4Address.loopback);
  socket.connectSync(Inet4Address.loopback.withPort(order.udp));
  return { index, generation, form, socket };
}

/** Whether no other socket has taken its place. */
function isServed(place: Place): boolean {
  return places[place.index] === place;
}

/** Waits for the events of a socket, from now on, and says hello to the source. */
function serve(place: Place): void {
  places[place.index] = place;
  const end = (error: unknown) => {
    if (!isServed(place) && error instanceof ClosedError) return;
    console.error(`${place.form}:`, error);
    process.exit(1);
  };
  FORMS[place.form]?.(place)?.then(() => end(new ClosedError(place.form)), end);
  const hello = new DataView(new ArrayBuffer(MESSAGE_BYTES));
  hello.setUint32(NUMBER_AT, place.generation, true);
  hello.setUint16(SOCKET_AT, place.index, true);
  hello.setUint32(HELLO_AT, 1, true);
  place.socket.send(hello).catch(end);
}

/** Closes a socket, and opens another one, which gets its number. Counted from 1; 0 is none. */
function obey(reopen: number): void {
  const place = places[reopen - 1];
  if (!place) return;
  const { index, generation, socket } = place;
  numbers.add(socket.descriptor);
  if (reopened++ % KEEP_EVERY === 0) {
    kept?.[Symbol.dispose]();
    kept = socket.duplicate();
  }
  socket.close();
  const next = open(index, generation + 1);
  if (numbers.has(next.socket.descriptor)) numbersUsedAgain++;
  serve(next);
}

// The names are looked up when they are called, also by the modules that were loaded before.
function countTimers(): () => Pick<Counts, "timers" | "ringerTimers" | "alarms"> {
  const counts = { timers: 0, ringerTimers: 0, alarms: 0 };
  for (const name of ["setTimeout", "setInterval"] as const) {
    const original = globalThis[name] as (...values: unknown[]) => unknown;
    const counted = (...values: unknown[]) => {
      counts.timers++;
      if (new Error().stack?.includes("timer_ringer.ts")) counts.ringerTimers++;
      return original(...values);
    };
    Object.assign(globalThis, { [name]: counted });
  }
  const { set } = Alarms.prototype;
  Alarms.prototype.set = function (...values) {
    counts.alarms++;
    return set.apply(this, values);
  };
  return () => ({ ...counts });
}

/** The main thread's, which has the number of the process. */
function countSleeps(): number {
  const status = readFileSync(`/proc/self/task/${process.pid}/status`, "latin1");
  return Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]);
}

// The poller starts with the first wait, and tries its ringer: with a time limit.
async function startPoller(): Promise<void> {
  const [left, right] = UnixDatagramSocket.pair();
  const waiting = left.receive(new Uint8Array(1));
  while (poller.ringer === undefined) await Promise.race([waiting, turn()]);
  right.trySend(new Uint8Array(1));
  await waiting;
  left.close();
  right.close();
}

const timersNow = countTimers();
if (order.fault) plant(order.fault);
await startPoller();
for (let i = 0; i < order.sockets; i++) places.push(open(i, 0));
const before = { ...poller.counters, ...timersNow(), sleeps: countSleeps() };
for (const place of places) serve(place);

for await (const _ of Bun.stdin.stream()) {
  // Nothing comes but the end.
}

const after = { ...poller.counters, ...timersNow(), sleeps: countSleeps() };
const counts: Counts = {
  ringer: poller.ringer,
  doorbell: poller.doorbell,
  refusals: poller.refusals.map(({ name, reason }) => `${name}: ${reason}`),
  wakeUps: after.wakeUps - before.wakeUps,
  spurious: after.spurious - before.spurious,
  sleeps: after.sleeps - before.sleeps,
  timers: after.timers - before.timers,
  ringerTimers: after.ringerTimers - before.ringerTimers,
  alarms: after.alarms - before.alarms,
  received,
  waitedForRoom,
  reopened,
  numbersUsedAgain,
};
console.log(JSON.stringify(counts));
process.exit();
