// One side of a cell of the suite in ours. The command line, what is said and told, and what a datagram
// is made of are those of suite_c.c, and so are the loops of the form "try".
import {
  type Address,
  type CreateOptions,
  DatagramBatch,
  FilterProgram,
  interfaces,
  Message,
  parseAddress,
  pollSync,
  type Socket,
  TimeoutError,
  UdpOption,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import type { PacketBlock, PacketRing } from "bun-sockets/packet";
import { pollfd } from "bun-sockets/structs";
import { EINTR, POLLIN, POLLOUT, poll } from "bun-sockets/sys";
import {
  ACK_BYTES,
  ACK_MS,
  BUFFER_BYTES,
  FIRST_MS,
  makeClock,
  QUIET_MS,
  readSide,
  Seen,
  STAMP_AT,
  say,
  serve,
} from "./suite_side.mjs";

const SLOTS = 64;
const SLOT_BYTES = 65_536;

const side = readSide(process.argv.slice(2));
const { send, receive, bytes, batch, segments, group, window, isFlat } = side;
const isGso = send === "gso";
const isGro = receive === "gro";
const each = isGso ? segments : 1;
const clock = await makeClock();
const seen = new Seen(clock);
const ack = new Uint8Array(new ArrayBuffer(ACK_BYTES));
const ackView = new DataView(ack.buffer);
const sent = { calls: 0, dataCalls: 0 };

function addressOf(host: string, port: number): Address {
  if (side.family === "unix") return new UnixAddress(host);
  return parseAddress(side.family === "udp6" ? `[${host}]:${port}` : `${host}:${port}`);
}

function openAt(host: string, port: number): UdpSocket | UnixDatagramSocket {
  const options = { receiveBufferBytes: BUFFER_BYTES, sendBufferBytes: BUFFER_BYTES };
  if (side.family === "unix") return UnixDatagramSocket.bind(new UnixAddress(host), options);
  const shared: CreateOptions = { ...options, reusePort: side.receivers > 1 };
  return UdpSocket.bind(addressOf(host, port).toString(), shared);
}

function portOf(socket: UdpSocket | UnixDatagramSocket): number {
  return socket instanceof UdpSocket ? socket.localAddress.port : 0;
}

// --- Sending ---

// One call from slot `at`, and how many slots went: 0 when there is no room.
type SendSome = (at: number) => number;

function makeSource(): DatagramBatch {
  const source = new DatagramBatch({
    capacity: isGso ? batch : SLOTS,
    slotBytes: isGso ? SLOT_BYTES : Math.max(2048, bytes),
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

function makeSend(socket: UdpSocket | UnixDatagramSocket, source: DatagramBatch): SendSome {
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
    const to = addressOf(side.remote, side.port);
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

/** Whether a socket is ready for something, in time. */
type IsReady = (events: number, timeoutMs: number) => boolean;

// One poll(2), as in C: what waits more often than it receives must not make objects for it.
function readinessOf(socket: Socket): IsReady {
  // A socket whose descriptor was looked at sends nothing without a copy.
  if (send === "zerocopy") {
    return (events, timeoutMs) => {
      try {
        const interest = { socket, read: events === POLLIN, write: events === POLLOUT };
        return pollSync([interest], { timeoutMs }).length > 0;
      } catch (error) {
        if (error instanceof TimeoutError) return false;
        throw error;
      }
    };
  }
  const fds = new DataView(new ArrayBuffer(pollfd.size));
  pollfd.fd.set(fds, 0, socket.descriptor);
  return (events, timeoutMs) => {
    pollfd.events.set(fds, 0, events);
    for (;;) {
      const ready = poll(fds, timeoutMs);
      if (ready !== -EINTR) return ready > 0;
    }
  };
}

function waitForRoom(isReady: IsReady): void {
  sent.calls++;
  isReady(POLLOUT, ACK_MS);
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

function sendRound(socket: Socket, sendSome: SendSome, slots: number, total: number) {
  const isReady = readinessOf(socket);
  let at = 0;
  let count = 0;
  let acked = 0;
  let lost = 0;
  const awaitAck = () => {
    const value = receiveAck(socket, isReady, acked);
    if (value === acked) lost = count - acked;
    else acked = value;
  };
  while (count < total) {
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
  while (!isFlat && acked + lost < count) awaitAck();
}

async function sendRoundPromise(socket: Socket, source: DatagramBatch, total: number) {
  const memory = new DataView(source.memory.buffer, source.memory.byteOffset);
  let count = 0;
  let acked = 0;
  let lost = 0;
  const awaitAck = async () => {
    try {
      await socket.receive(ack, { timeoutMs: ACK_MS });
      acked = ackView.getUint32(0, true);
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      lost = count - acked;
    }
  };
  while (count < total) {
    while (!isFlat && count - acked - lost + batch > window) await awaitAck();
    memory.setFloat64(source.offset(0) + STAMP_AT, clock(), true);
    count += await socket.sendBatch(source);
    sent.dataCalls++;
  }
  while (!isFlat && acked + lost < count) await awaitAck();
}

// The acknowledgements come to a handler, which sends what may be sent by then.
function sendRoundHandler(socket: Socket, source: DatagramBatch, total: number): Promise<void> {
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
    if (count >= total && acked + lost >= count) resolve();
  };
  const subscription = socket.onBatch(
    (acks) => {
      steps++;
      const last = acks.offset(acks.count - 1);
      acked = new DataView(acks.memory.buffer, acks.memory.byteOffset).getUint32(last, true);
      sendMore();
    },
    { capacity: 8, slotBytes: 64 },
  );
  let seenSteps = 0;
  const timer = setInterval(() => {
    if (steps === seenSteps) {
      lost = count - acked;
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

// --- Receiving ---

// One call, and how many datagrams it has brought: 0 when there are none.
type ReceiveSome = () => number;

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

function makeTarget(): DatagramBatch {
  return new DatagramBatch({
    capacity: isGro ? 1 : isGso ? group : batch,
    slotBytes: isGro ? SLOT_BYTES : Math.max(2048, bytes),
  });
}

function makeReceive(socket: Socket): ReceiveSome {
  if (receive === "recvmmsg" || isGro) {
    const target = makeTarget();
    const view = new DataView(target.memory.buffer, target.memory.byteOffset);
    const see = isGro ? lookAtTrains : look;
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
  if (receive === "recvmsg") {
    const message = new Message({ vectors: buffer });
    return () => see(socket.tryReceiveMessage(message));
  }
  if (receive !== "recv") throw new Error(`no path ${receive}`);
  return () => see(socket.tryReceive(buffer));
}

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

function receiveRound(socket: Socket, some: ReceiveSome, total: number): void {
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
    if (!isReady(POLLIN, isFlat && seen.received > 0 ? QUIET_MS : FIRST_MS)) return;
  }
  seen.last = performance.now();
}

async function receiveRoundPromise(socket: Socket, target: DatagramBatch, total: number) {
  const view = new DataView(target.memory.buffer, target.memory.byteOffset);
  let acked = 0;
  while (seen.received < total) {
    try {
      const timeoutMs = isFlat && seen.received > 0 ? QUIET_MS : FIRST_MS;
      look(target, view, await socket.receiveBatch(target, { timeoutMs }));
    } catch (error) {
      if (error instanceof TimeoutError) return;
      throw error;
    }
    seen.dataCalls++;
    seen.last = performance.now();
    if (seen.first === 0) seen.first = seen.last;
    acked = tryAcks(socket, acked);
  }
}

function receiveRoundHandler(socket: Socket, total: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let acked = 0;
  let before = 0;
  let view: DataView | undefined;
  const subscription = socket.onBatch(
    (target) => {
      view ??= new DataView(target.memory.buffer, target.memory.byteOffset);
      look(target, view, target.count);
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
    if (performance.now() - begun > FIRST_MS) resolve();
  }, QUIET_MS);
  return promise.finally(() => {
    clearInterval(timer);
    subscription.stop();
  });
}

// --- A packet ring ---

const ETHERNET_BYTES = 14;
const ETH_P_IP = 0x0800;
const IPPROTO_UDP = 17;
const UDP_AT = ETHERNET_BYTES + 20;
const UDP_BYTES = 8;

// The loop of suite_c.c. The socket keeps the port, and takes nothing.
async function openRing(socket: UdpSocket): Promise<PacketRing> {
  const { PacketRing } = await import("bun-sockets/packet");
  socket.attachFilter(FilterProgram.dropAll);
  const here = interfaces().find(({ addresses }) =>
    addresses.some(({ address }) => address.toString() === `${side.local}:0`),
  );
  if (here === undefined) throw new Error(`no interface has ${side.local}`);
  return PacketRing.open(here.name);
}

function lookAtBlock({ bytes: memory, view }: PacketRing, block: PacketBlock, port: number): void {
  seen.dataCalls++;
  while (block.next()) {
    const at = block.offset;
    if (
      view.getUint16(at + 12) !== ETH_P_IP ||
      memory[at + ETHERNET_BYTES + 9] !== IPPROTO_UDP ||
      view.getUint16(at + UDP_AT + 2) !== port
    )
      continue;
    const start = at + UDP_AT + UDP_BYTES;
    const length = view.getUint16(at + UDP_AT + 4) - UDP_BYTES;
    const first = memory[start] as number;
    seen.sum += first + (memory[start + length - 1] as number);
    if (first === 0) seen.stamped(view, start);
    seen.received++;
    seen.messages++;
  }
}

function receiveRoundRing(ring: PacketRing, port: number, total: number): void {
  while (seen.received < total) {
    seen.last = performance.now();
    try {
      const timeoutMs = isFlat && seen.received > 0 ? QUIET_MS : FIRST_MS;
      const block = ring.tryReceiveBlock() ?? ring.receiveBlockSync({ timeoutMs });
      lookAtBlock(ring, block, port);
    } catch (error) {
      if (error instanceof TimeoutError) return;
      throw error;
    }
    if (seen.first === 0 && seen.received > 0) seen.first = performance.now();
  }
  seen.last = performance.now();
}

// --- One thread ---

function bothRound(
  sender: Socket,
  sendSome: SendSome,
  slots: number,
  receiver: Socket,
  some: ReceiveSome,
  total: number,
): void {
  const isReady = readinessOf(receiver);
  let count = 0;
  let lost = 0;
  seen.first = performance.now();
  while (count < total) {
    for (let at = 0, left = group; left > 0; ) {
      const slotsSent = sendSome(at);
      sent.calls++;
      if (slotsSent === 0) {
        waitForRoom(readinessOf(sender));
        continue;
      }
      sent.dataCalls++;
      at = (at + slotsSent) % slots;
      count += slotsSent * each;
      left -= slotsSent * each;
    }
    while (seen.received < count - lost) {
      seen.calls++;
      if (some() > 0) seen.dataCalls++;
      else {
        seen.calls++;
        if (!isReady(POLLIN, ACK_MS)) lost = count - seen.received;
      }
    }
  }
  seen.last = performance.now();
}

// --- What is told ---

function slotsOf(): number {
  return isGso ? batch : Math.floor(SLOTS / batch) * batch;
}

async function serveSender(): Promise<void> {
  const socket = openAt(side.local, 0);
  if (send !== "sendto") socket.connectSync(addressOf(side.remote, side.port).toString() as never);
  const source = makeSource();
  const sendSome = makeSend(socket, source);
  say({
    port: portOf(socket),
    sendBufferBytes: socket.sendBuffer.effectiveBytes,
    receiveBufferBytes: socket.receiveBuffer.effectiveBytes,
  });
  await serve(async (_, total) => {
    while (socket.tryReceive(ack) !== undefined) {}
    Object.assign(sent, { calls: 0, dataCalls: 0 });
    const start = performance.now();
    if (side.form === "promise") await sendRoundPromise(socket, source, total);
    else if (side.form === "handler") await sendRoundHandler(socket, source, total);
    else sendRound(socket, sendSome, slotsOf(), total);
    // The forms that wait on the event loop do not know how often the kernel is called for them.
    const counts = { ...sent, ...(side.form !== "try" && { calls: null }) };
    say({ sent: total, ns: (performance.now() - start) * 1e6, ...counts });
  });
}

async function serveReceiver(): Promise<void> {
  const socket = openAt(side.local, side.port);
  // Who sends on one core is received by one of those that share a port.
  if (side.receivers > 1 && side.port === 0)
    socket.attachReusePortProgram(FilterProgram.byCpu(side.receivers));
  if (isGro) socket.setOption(UdpOption.gro, true);
  const ring = receive === "ring" ? await openRing(socket as UdpSocket) : undefined;
  const some = ring === undefined ? makeReceive(socket) : () => 0;
  const target = makeTarget();
  say({
    port: portOf(socket),
    sendBufferBytes: socket.sendBuffer.effectiveBytes,
    receiveBufferBytes: socket.receiveBuffer.effectiveBytes,
  });
  await serve(async (word, number) => {
    if (word === "peer") {
      socket.connectSync(addressOf(side.remote, number).toString() as never);
      say({ ready: true });
      return;
    }
    while (some() > 0) {}
    while (ring?.tryReceiveBlock() !== undefined) {}
    seen.begin(number, group);
    say({ ready: true });
    if (ring !== undefined) receiveRoundRing(ring, portOf(socket), number);
    else if (side.form === "promise") await receiveRoundPromise(socket, target, number);
    else if (side.form === "handler") await receiveRoundHandler(socket, number);
    else receiveRound(socket, some, number);
    say(
      side.form === "try" && ring === undefined ? seen.result() : { ...seen.result(), calls: null },
    );
  });
}

async function serveBoth(): Promise<void> {
  const receiver = openAt(side.local, 0);
  const sender = openAt(side.remote, 0);
  if (isGro) receiver.setOption(UdpOption.gro, true);
  const to = addressOf(side.local, portOf(receiver));
  sender.connectSync(to.toString() as never);
  const some = makeReceive(receiver);
  const sendSome = makeSend(sender, makeSource());
  say({
    port: portOf(receiver),
    sendBufferBytes: sender.sendBuffer.effectiveBytes,
    receiveBufferBytes: receiver.receiveBuffer.effectiveBytes,
  });
  await serve((_, total) => {
    while (some() > 0) {}
    seen.begin(total, group);
    Object.assign(sent, { calls: 0, dataCalls: 0 });
    bothRound(sender, sendSome, slotsOf(), receiver, some, total);
    say({ sent: total, ns: (seen.last - seen.first) * 1e6, ...sent });
    say(seen.result());
  });
}

const roles: Readonly<Record<string, () => Promise<void>>> = {
  send: serveSender,
  receive: serveReceiver,
  both: serveBoth,
};
await roles[side.role]?.();
