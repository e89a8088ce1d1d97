// One side of a cell of the suite in ours. The command line, what is said and told, and what a datagram
// is made of are those of suite_c.c, and so are the loops of the form "try".
import { FilterProgram, SocketOption, UdpOption, type UdpSocket } from "bun-sockets";
import { clock_gettime, POLLIN } from "bun-sockets/sys";
import {
  beginReceiving,
  makeReceive,
  makeTarget,
  type ReceiveSome,
  receiveRound,
  receiveRoundHandler,
  receiveRoundPromise,
  timeByKernel,
} from "./suite_bun_sockets_receive.ts";
import type { RingReceiver } from "./suite_bun_sockets_ring.ts";
import {
  beginSending,
  drainAcks,
  makeSend,
  makeSource,
  plainSends,
  type SendSome,
  sendRound,
  sendRoundHandler,
  sendRoundPromise,
  sent,
  slotsOf,
  waitForRoom,
} from "./suite_bun_sockets_send.ts";
import {
  addressOf,
  connectTo,
  type DatagramSocket,
  each,
  isGro,
  openAt,
  openedOf,
  portOf,
  readinessOf,
  seen,
  side,
} from "./suite_bun_sockets_side.ts";
import { ACK_MS, STALLS_MAX, say, serve } from "./suite_side.mjs";

const { send, receive, group, form } = side;
// The forms that wait on the event loop do not know how often the kernel is called for them, and neither
// does a ring.
const unknownCalls = form === "try" && receive !== "ring" ? {} : { calls: null };

async function serveSender(): Promise<void> {
  const socket = openAt(side.local, 0);
  const to = addressOf(side.remote, side.port);
  if (send !== "sendto") connectTo(socket, to);
  const source = makeSource();
  const sendSome = makeSend(socket, source, to);
  say(openedOf(socket, socket));
  await serve(async (_, total) => {
    drainAcks(socket);
    beginSending();
    const plain = plainSends(socket);
    const start = performance.now();
    if (form === "promise") await sendRoundPromise(socket, source, total);
    else if (form === "handler") await sendRoundHandler(socket, source, total);
    else sendRound(socket, sendSome, slotsOf(), total);
    const ns = (performance.now() - start) * 1e6;
    saySent(ns, form === "try" ? {} : { calls: null }, plainSends(socket) - plain);
  });
}

function saySent(ns: number, other: object, plain: number): void {
  const { count, calls, dataCalls, stalls } = sent;
  say({ sent: count, ns, calls, dataCalls, stalls, plain, ...other });
}

async function serveReceiver(): Promise<void> {
  const socket = openAt(side.local, side.port);
  // Who sends on one core is received by one of those that share a port.
  if (side.receivers > 1 && side.port === 0)
    socket.attachReusePortProgram(FilterProgram.byCpu(side.receivers));
  if (isGro) socket.setOption(UdpOption.gro, true);
  const ring = receive === "ring" ? await openRing(socket) : undefined;
  const target = makeTarget();
  let some = makeReceive(socket);
  say(openedOf(socket, socket));
  await serve(async (word, number) => {
    if (word === "peer") connectTo(socket, addressOf(side.remote, number));
    if (word === "times") {
      socket.setOption(SocketOption.timestampNs, number === 1);
      await timeByKernel(number === 1);
      some = makeReceive(socket);
    }
    if (word !== "run") return say({ ready: true });
    while (some() > 0) {}
    ring?.drain();
    const age = beginReceiving(number);
    say({ ready: true });
    if (ring !== undefined) ring.receiveRound(number, age);
    else if (form === "promise") await receiveRoundPromise(socket, target, number);
    else if (form === "handler") await receiveRoundHandler(socket, number);
    else receiveRound(socket, some, number);
    say({ ...seen.result(), ...unknownCalls });
  });
}

// Only these cells pay for what they import.
async function openRing(socket: DatagramSocket): Promise<RingReceiver> {
  const { RingReceiver } = await import("./suite_bun_sockets_ring.ts");
  return new RingReceiver(socket as UdpSocket);
}

// --- One thread ---

async function serveBoth(): Promise<void> {
  const receiver = openAt(side.local, 0);
  const sender = openAt(side.remote, 0);
  if (isGro) receiver.setOption(UdpOption.gro, true);
  const to = addressOf(side.local, portOf(receiver));
  if (send !== "sendto") connectTo(sender, to);
  connectTo(receiver, addressOf(side.remote, portOf(sender)));
  const some = makeReceive(receiver);
  const sendSome = makeSend(sender, makeSource(), to);
  say(openedOf(sender, receiver));
  await serve((_, total) => {
    while (some() > 0) {}
    beginReceiving(total);
    beginSending();
    const plain = plainSends(sender);
    const cpu = bothRound(sender, sendSome, receiver, some, total);
    const ns = (seen.last - seen.first) * 1e6;
    saySent(ns, { cpuNs: cpu.send }, plainSends(sender) - plain);
    say({ ...seen.result(), cpuNs: cpu.receive });
  });
}

const CLOCK_THREAD_CPUTIME_ID = 3;

// CPU time of this thread in nanoseconds. It makes no bigint.
const spent = new Uint32Array(new ArrayBuffer(16));
function spentNs(): number {
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, spent);
  return (spent[0] as number) * 1e9 + (spent[2] as number);
}

function bothRound(
  sender: DatagramSocket,
  sendSome: SendSome,
  receiver: DatagramSocket,
  some: ReceiveSome,
  total: number,
) {
  const isWritable = readinessOf(sender);
  const isReadable = readinessOf(receiver);
  const slots = slotsOf();
  const cpu = { send: 0, receive: 0 };
  let count = 0;
  let lost = 0;
  seen.first = performance.now();
  let mark = spentNs();
  while (count < total && sent.stalls + seen.stalls < STALLS_MAX) {
    for (let at = 0, left = group; left > 0 && sent.stalls < STALLS_MAX; ) {
      const slotsSent = sendSome(at);
      sent.calls++;
      if (slotsSent === 0) {
        waitForRoom(isWritable);
        continue;
      }
      sent.dataCalls++;
      at = (at + slotsSent) % slots;
      count += slotsSent * each;
      left -= slotsSent * each;
    }
    const half = spentNs();
    cpu.send += half - mark;
    while (seen.received < count - lost) {
      seen.calls++;
      if (some() > 0) seen.dataCalls++;
      else {
        seen.calls++;
        if (isReadable(POLLIN, ACK_MS)) continue;
        lost = count - seen.received;
        seen.stalls++;
      }
    }
    mark = spentNs();
    cpu.receive += mark - half;
  }
  seen.last = performance.now();
  sent.count = count;
  return cpu;
}

const roles: Readonly<Record<string, () => Promise<void>>> = {
  send: serveSender,
  receive: serveReceiver,
  both: serveBoth,
};
await roles[side.role]?.();
