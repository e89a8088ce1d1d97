// The receiving half of suite_bun_sockets.ts: a path as a function that receives some, and the loops around
// it. A packet ring has a file of its own.
import { ControlReader, DatagramBatch, Message, type Socket, TimeoutError } from "bun-sockets";
import { POLLIN } from "bun-sockets/sys";
import {
  isGro,
  isGso,
  readinessOf,
  seen,
  side,
  TRAIN_SLOT_BYTES,
} from "./suite_bun_sockets_side.ts";
import { ACK_BYTES, FIRST_MS, makeAge, QUIET_MS } from "./suite_side.mjs";

const { receive, bytes, batch, segments, group, isFlat } = side;
const CONTROL_BYTES = 256;
const ack = new Uint8Array(new ArrayBuffer(ACK_BYTES));
const ackView = new DataView(ack.buffer);

/** How long ago the kernel had a datagram, where that is what the samples of a round are. */
export type Age = (seconds: number, nanoseconds: number) => number;
let age: Age | undefined;

/** Makes the samples of the next rounds those of the kernel's timestamps, or no longer. */
export async function timeByKernel(isTimed: boolean): Promise<void> {
  age = isTimed ? await makeAge() : undefined;
}

/** Begins a round, and gives what tells the ages of its datagrams, where they are wanted. */
export function beginReceiving(total: number): Age | undefined {
  seen.begin(total, group);
  if (age !== undefined) seen.takeAges(isGro ? total / segments : total);
  return age;
}

// --- What is looked at ---

/** Looks at some datagrams of a batch. */
type Look = (target: DatagramBatch, view: DataView, count: number) => number;

function look(target: DatagramBatch, view: DataView, count: number): number {
  const { memory } = target;
  for (let i = 0; i < count; i++) {
    const at = target.offset(i);
    const first = memory[at] as number;
    seen.sum += first + (memory[at + target.length(i) - 1] as number);
    if (first === 0) seen.stamped(view, at);
  }
  seen.received += count;
  seen.messages += count;
  return count;
}

function lookAtTrains(target: DatagramBatch, view: DataView, count: number): number {
  const { memory } = target;
  for (let i = 0; i < count; i++) {
    const length = target.length(i);
    const each = target.segmentBytes(i);
    const start = target.offset(i);
    for (let at = 0; at < length; at += each) {
      const end = Math.min(at + each, length);
      const first = memory[start + at] as number;
      seen.sum += first + (memory[start + end - 1] as number);
      if (first === 0) seen.stamped(view, start + at);
      seen.received++;
    }
  }
  seen.messages += count;
  return count;
}

/** What is done with each batch: in a round of its own the kernel's times are read besides. */
function lookOf(): Look {
  const plain = isGro ? lookAtTrains : look;
  const ageOf = age;
  if (ageOf === undefined) return plain;
  return (target, view, count) => {
    for (let i = 0; i < count; i++)
      if (seen.wantsAge())
        seen.waited(ageOf(target.timestampSeconds(i), target.timestampNanoseconds(i)));
    return plain(target, view, count);
  };
}

// --- Paths ---

/** One call, and how many datagrams, or trains, it has brought: 0 when there are none. */
export type ReceiveSome = () => number;

export function makeTarget(): DatagramBatch {
  return new DatagramBatch({
    capacity: isGro ? 1 : isGso ? group : batch,
    slotBytes: isGro ? TRAIN_SLOT_BYTES : Math.max(2048, bytes),
  });
}

export function makeReceive(socket: Socket): ReceiveSome {
  if (receive === "recvmmsg" || isGro) {
    const target = makeTarget();
    const view = new DataView(target.memory.buffer, target.memory.byteOffset);
    const see = lookOf();
    return () => see(target, view, socket.tryReceiveBatch(target));
  }
  const buffer = new Uint8Array(new ArrayBuffer(Math.max(2048, bytes)));
  const view = new DataView(buffer.buffer);
  const see = (length: number | undefined) => {
    if (length === undefined) return 0;
    const first = buffer[0] as number;
    seen.sum += first + (buffer[length - 1] as number);
    if (first === 0) seen.stamped(view, 0);
    seen.received++;
    seen.messages++;
    return 1;
  };
  if (receive === "recvfrom") return () => see(socket.tryReceiveFrom(buffer)?.length);
  if (receive === "recvmsg") return makeReceiveMessage(socket, buffer, see);
  // Of a ring the socket takes nothing.
  if (receive === "ring") return () => 0;
  if (receive !== "recv") throw new Error(`no path ${receive}`);
  return () => see(socket.tryReceive(buffer));
}

function makeReceiveMessage(
  socket: Socket,
  buffer: Uint8Array,
  see: (length: number | undefined) => number,
): ReceiveSome {
  const ageOf = age;
  if (ageOf === undefined) {
    const message = new Message({ vectors: buffer });
    return () => see(socket.tryReceiveMessage(message));
  }
  const message = new Message({ vectors: buffer, controlBytes: CONTROL_BYTES });
  const reader = new ControlReader(message.control);
  return () => {
    const length = socket.tryReceiveMessage(message);
    if (length !== undefined && seen.wantsAge()) {
      reader.reset(message.control, message.controlLength);
      while (reader.next())
        if (reader.kind === "timestamp") seen.waited(ageOf(reader.seconds, reader.nanoseconds));
    }
    return see(length);
  };
}

// --- Rounds ---

/** Answers to each group that is complete, and gives what is acknowledged by then. */
function tryAcks(socket: Socket, acked: number): number {
  let now = acked;
  while (!isFlat && seen.received - now >= group) {
    now += group;
    ackView.setUint32(0, now, true);
    seen.calls++;
    socket.trySend(ack);
  }
  return now;
}

/** How long to wait for the next one. Where nobody waits for answers, some may be lost. */
export function patienceMs(): number {
  return isFlat && seen.received > 0 ? QUIET_MS : FIRST_MS;
}

/** Ends a round: with all of it, or in vain. */
export function endRound(total: number): void {
  if (seen.received >= total) seen.last = performance.now();
  // Where some may be lost, waiting in vain is how it ends.
  else if (patienceMs() === FIRST_MS) seen.stalls++;
}

export function receiveRound(socket: Socket, some: ReceiveSome, total: number): void {
  const isReady = readinessOf(socket);
  let acked = 0;
  while (seen.received < total) {
    seen.calls++;
    if (some() > 0) {
      seen.dataCalls++;
      if (seen.first === 0) seen.first = performance.now();
      acked = tryAcks(socket, acked);
      continue;
    }
    seen.last = performance.now();
    seen.calls++;
    if (!isReady(POLLIN, patienceMs())) break;
  }
  endRound(total);
}

export async function receiveRoundPromise(
  socket: Socket,
  target: DatagramBatch,
  total: number,
): Promise<void> {
  const view = new DataView(target.memory.buffer, target.memory.byteOffset);
  const see = lookOf();
  let acked = 0;
  while (seen.received < total) {
    try {
      see(target, view, await socket.receiveBatch(target, { timeoutMs: patienceMs() }));
    } catch (error) {
      if (error instanceof TimeoutError) break;
      throw error;
    }
    seen.dataCalls++;
    seen.last = performance.now();
    if (seen.first === 0) seen.first = seen.last;
    acked = tryAcks(socket, acked);
  }
  endRound(total);
}

export function receiveRoundHandler(socket: Socket, total: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const see = lookOf();
  let acked = 0;
  let before = 0;
  let view: DataView | undefined;
  const subscription = socket.onBatch(
    (target) => {
      view ??= new DataView(target.memory.buffer, target.memory.byteOffset);
      see(target, view, target.count);
      seen.dataCalls++;
      seen.last = performance.now();
      if (seen.first === 0) seen.first = seen.last;
      acked = tryAcks(socket, acked);
      if (seen.received >= total) resolve();
    },
    { capacity: batch, slotBytes: Math.max(2048, bytes) },
  );
  let begun = performance.now();
  const timer = setInterval(() => {
    if (seen.received !== before) begun = performance.now();
    before = seen.received;
    if (performance.now() - begun <= FIRST_MS) return;
    seen.stalls++;
    resolve();
  }, QUIET_MS);
  return promise.finally(() => {
    clearInterval(timer);
    subscription.stop();
  });
}
