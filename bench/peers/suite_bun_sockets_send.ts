// The sending half of suite_bun_sockets.ts: a path as a function that sends some, and the loops around it.
import {
  type Address,
  DatagramBatch,
  Message,
  type Socket,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { POLLIN, POLLOUT } from "bun-sockets/sys";
import {
  clock,
  type DatagramSocket,
  each,
  type IsReady,
  isGso,
  readinessOf,
  SLOTS,
  side,
  TRAIN_SLOT_BYTES,
} from "./suite_bun_sockets_side.ts";
import { ACK_BYTES, ACK_MS, STALLS_MAX, STAMP_AT } from "./suite_side.mjs";

const { send, bytes, batch, window, isFlat } = side;
const ack = new Uint8Array(new ArrayBuffer(ACK_BYTES));
const ackView = new DataView(ack.buffer);

/** What the sender has done in this round. */
export const sent = { count: 0, calls: 0, dataCalls: 0, stalls: 0 };

export function beginSending(): void {
  Object.assign(sent, { count: 0, calls: 0, dataCalls: 0, stalls: 0 });
}

/** Sends that went as plain ones because the kernel copies anyway, since the socket was opened. */
export function plainSends(socket: Socket): number {
  return send === "zerocopy" && socket instanceof UdpSocket ? socket.zeroCopy.fallbacks : 0;
}

/** Takes what a round before has left. */
export function drainAcks(socket: Socket): void {
  while (socket.tryReceive(ack) !== undefined) {}
}

/** One call from slot `at`, and how many slots went: 0 when there is no room. */
export type SendSome = (at: number) => number;

/** How many slots the calls go round. */
export function slotsOf(): number {
  return isGso ? batch : Math.floor(SLOTS / batch) * batch;
}

export function makeSource(): DatagramBatch {
  const source = new DatagramBatch({
    capacity: isGso ? batch : SLOTS,
    slotBytes: isGso ? TRAIN_SLOT_BYTES : Math.max(2048, bytes),
  });
  for (let i = 0; i < source.capacity; i++) {
    source.setLength(i, each * bytes);
    if (isGso) source.setSegmentBytes(i, bytes);
    for (let k = 0; k < each; k++) {
      const at = source.offset(i) + k * bytes;
      source.memory[at] = isGso ? k : i;
      source.memory[at + bytes - 1] = 255 - (isGso ? k : i);
    }
  }
  source.count = source.capacity;
  return source;
}

/** `to` is where "sendto" sends: the other paths send to the peer. */
export function makeSend(socket: DatagramSocket, source: DatagramBatch, to: Address): SendSome {
  const memory = new DataView(source.memory.buffer, source.memory.byteOffset);
  const stamp = (at: number) => memory.setFloat64(source.offset(at) + STAMP_AT, clock(), true);
  const views = Array.from({ length: source.capacity }, (_, i) => source.view(i));
  if (isGso || (send === "sendmmsg" && batch === SLOTS)) {
    return () => {
      stamp(0);
      return socket.trySendBatch(source);
    };
  }
  if (send === "sendmmsg") {
    return (at) => {
      if (at === 0) stamp(0);
      source.count = at + batch;
      return socket.trySendBatch(source, at);
    };
  }
  if (send === "sendto") {
    const free = socket as Socket;
    return (at) => {
      if (at === 0) stamp(0);
      return free.trySendTo(views[at] as Uint8Array, to) === undefined ? 0 : 1;
    };
  }
  if (send === "sendmsg") {
    const messages = views.map((view) => new Message({ vectors: view }));
    return (at) => {
      if (at === 0) stamp(0);
      return socket.trySendMessage(messages[at] as Message) === undefined ? 0 : 1;
    };
  }
  if (send === "zerocopy" && socket instanceof UdpSocket) {
    return (at) => {
      if (at === 0) stamp(0);
      return socket.trySendZeroCopy(views[at] as Uint8Array) === undefined ? 0 : 1;
    };
  }
  if (send !== "send") throw new Error(`no path ${send}`);
  return (at) => {
    if (at === 0) stamp(0);
    return socket.trySend(views[at] as Uint8Array) === undefined ? 0 : 1;
  };
}

export function waitForRoom(isReady: IsReady): void {
  sent.calls++;
  if (!isReady(POLLOUT, ACK_MS)) sent.stalls++;
}

// The acknowledged count, or `before` when nothing came in time.
function receiveAck(socket: Socket, isReady: IsReady, before: number): number {
  for (;;) {
    sent.calls++;
    if (socket.tryReceive(ack) !== undefined) return ackView.getUint32(0, true);
    sent.calls++;
    if (!isReady(POLLIN, ACK_MS)) return before;
  }
}

export function sendRound(socket: Socket, sendSome: SendSome, slots: number, total: number): void {
  const isReady = readinessOf(socket);
  let at = 0;
  let count = 0;
  let acked = 0;
  let lost = 0;
  const awaitAck = () => {
    const value = receiveAck(socket, isReady, acked);
    if (value === acked) {
      lost = count - acked;
      sent.stalls++;
    } else acked = value;
  };
  while (count < total && sent.stalls < STALLS_MAX) {
    while (!isFlat && count - acked - lost + batch * each > window) awaitAck();
    const some = sendSome(at);
    sent.calls++;
    if (some === 0) {
      waitForRoom(isReady);
      continue;
    }
    sent.dataCalls++;
    at = (at + some) % slots;
    count += some * each;
  }
  sent.count = count;
  while (!isFlat && acked + lost < count) awaitAck();
}

export async function sendRoundPromise(
  socket: Socket,
  source: DatagramBatch,
  total: number,
): Promise<void> {
  const memory = new DataView(source.memory.buffer, source.memory.byteOffset);
  let count = 0;
  let acked = 0;
  let lost = 0;
  const limit = { timeoutMs: ACK_MS };
  const awaitAck = async () => {
    try {
      await socket.receive(ack, limit);
      acked = ackView.getUint32(0, true);
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      lost = count - acked;
      sent.stalls++;
    }
  };
  while (count < total && sent.stalls < STALLS_MAX) {
    while (!isFlat && count - acked - lost + batch > window) await awaitAck();
    memory.setFloat64(source.offset(0) + STAMP_AT, clock(), true);
    count += await socket.sendBatch(source);
    sent.dataCalls++;
  }
  sent.count = count;
  while (!isFlat && acked + lost < count) await awaitAck();
}

/** The acknowledgements come to a handler, which sends what may be sent by then. */
export function sendRoundHandler(
  socket: Socket,
  source: DatagramBatch,
  total: number,
): Promise<void> {
  const memory = new DataView(source.memory.buffer, source.memory.byteOffset);
  const { promise, resolve } = Promise.withResolvers<void>();
  let count = 0;
  let acked = 0;
  let lost = 0;
  let steps = 0;
  const sendMore = () => {
    while (count < total && count - acked - lost + batch <= window) {
      memory.setFloat64(source.offset(0) + STAMP_AT, clock(), true);
      const some = socket.trySendBatch(source);
      if (some === 0) break;
      count += some;
      sent.dataCalls++;
    }
    sent.count = count;
    if ((count >= total && acked + lost >= count) || sent.stalls >= STALLS_MAX) resolve();
  };
  let view: DataView | undefined;
  const subscription = socket.onBatch(
    (acks) => {
      steps++;
      view ??= new DataView(acks.memory.buffer, acks.memory.byteOffset);
      acked = view.getUint32(acks.offset(acks.count - 1), true);
      sendMore();
    },
    { capacity: 8, slotBytes: 64 },
  );
  let seenSteps = -1;
  const timer = setInterval(() => {
    if (steps === seenSteps) {
      lost = count - acked;
      sent.stalls++;
      sendMore();
    }
    seenSteps = steps;
  }, ACK_MS);
  sendMore();
  return promise.finally(() => {
    clearInterval(timer);
    subscription.stop();
  });
}
