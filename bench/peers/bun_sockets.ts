import {
  DatagramBatch,
  Inet4Address,
  type Socket,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { type Counts, GROUP, type Peer, SLOT_BYTES } from "../support.ts";

/** How the datagrams travel: in one call for 64 or one call for each, with or without an address. */
export interface Path {
  readonly batch: 64 | 1;
  readonly connected: boolean;
  /** Over loopback, or from one Unix socket to another. Default "udp". */
  readonly kind?: "udp" | "unix";
}

/** Two sockets of this machine, and ours moving groups of 64 datagrams from one to the other. */
export function bunSockets(path: Path, bytes: number): Peer & { sockets: Sockets } {
  const sockets = path.kind === "unix" ? openUnix(path.connected) : openUdp(path.connected);
  const { sender, receiver } = sockets;
  const source = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  const target = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  for (let i = 0; i < GROUP; i++) {
    source.setLength(i, bytes);
    source.memory[source.offset(i)] = i;
    source.memory[source.offset(i) + bytes - 1] = 255 - i;
    if (!path.connected) source.setAddress(i, receiver.localAddress);
  }
  source.count = GROUP;
  const buffer = new Uint8Array(new ArrayBuffer(SLOT_BYTES));
  const run = path.batch === 1 ? runSingle : runBatch;
  return {
    name: "bun-sockets",
    sockets,
    run: async (groups) => run(sockets, source, target, buffer, groups),
    close: () => {
      for (const one of [sender, receiver]) one.close();
      for (const one of [source, target]) one.free();
    },
  };
}

export interface Sockets {
  readonly sender: Socket;
  readonly receiver: Socket;
}

function openUdp(connected: boolean): Sockets {
  const receiver = UdpSocket.bind(Inet4Address.loopback);
  const sender = UdpSocket.bind(Inet4Address.loopback);
  if (connected) {
    sender.connectSync(receiver.localAddress);
    receiver.connectSync(sender.localAddress);
  }
  return { sender, receiver };
}

function openUnix(connected: boolean): Sockets {
  if (connected) {
    const [sender, receiver] = UnixDatagramSocket.pair();
    return { sender, receiver };
  }
  const receiver = UnixDatagramSocket.bind(UnixAddress.unnamed);
  const sender = UnixDatagramSocket.bind(UnixAddress.unnamed);
  // Only strangers are held to net.unix.max_dgram_qlen: the receiver's peer may fill its buffer.
  receiver.connectSync(sender.localAddress);
  return { sender, receiver };
}

// The two loops below are written out, and each is the loop of udp.c: sharing them through a
// callback would measure the callback.

function runBatch(
  { sender, receiver }: Sockets,
  source: DatagramBatch,
  target: DatagramBatch,
  _buffer: Uint8Array,
  groups: number,
): Counts {
  const memory = target.memory;
  let sendMs = 0;
  let receiveMs = 0;
  let lost = 0;
  let sum = 0;
  for (let group = 0; group < groups; group++) {
    const start = performance.now();
    const sent = sender.trySendBatch(source);
    const middle = performance.now();
    let received = 0;
    while (received < sent) {
      const count = receiver.tryReceiveBatch(target) || waitForBatch(receiver, target);
      if (count === 0) break;
      for (let i = 0; i < count; i++) {
        const offset = target.offset(i);
        sum += (memory[offset] as number) + (memory[offset + target.length(i) - 1] as number);
      }
      received += count;
    }
    const end = performance.now();
    sendMs += middle - start;
    receiveMs += end - middle;
    lost += GROUP - received;
  }
  return { datagrams: groups * GROUP, sendNs: sendMs * 1e6, receiveNs: receiveMs * 1e6, lost, sum };
}

function runSingle(
  { sender, receiver }: Sockets,
  source: DatagramBatch,
  _target: DatagramBatch,
  buffer: Uint8Array,
  groups: number,
): Counts {
  const views = Array.from({ length: GROUP }, (_, i) => source.view(i));
  const address = sender.connected ? undefined : receiver.localAddress;
  let sendMs = 0;
  let receiveMs = 0;
  let lost = 0;
  let sum = 0;
  for (let group = 0; group < groups; group++) {
    const start = performance.now();
    let sent = 0;
    for (let i = 0; i < GROUP; i++) {
      const view = views[i] as Uint8Array;
      const count = address ? sender.trySendTo(view, address) : sender.trySend(view);
      if (count !== undefined) sent++;
    }
    const middle = performance.now();
    let received = 0;
    while (received < sent) {
      const length = receiver.tryReceive(buffer) ?? waitForOne(receiver, buffer);
      if (length < 0) break;
      sum += (buffer[0] as number) + (buffer[length - 1] as number);
      received++;
    }
    const end = performance.now();
    sendMs += middle - start;
    receiveMs += end - middle;
    lost += GROUP - received;
  }
  return { datagrams: groups * GROUP, sendNs: sendMs * 1e6, receiveNs: receiveMs * 1e6, lost, sum };
}

function waitForBatch(receiver: Socket, target: DatagramBatch): number {
  return orTimeout(() => receiver.receiveBatchSync(target, { timeoutMs: 100 }), 0);
}

function waitForOne(receiver: Socket, buffer: Uint8Array): number {
  return orTimeout(() => receiver.receiveSync(buffer, { timeoutMs: 100 }), -1);
}

// What does not come within 100 ms is lost.
function orTimeout(wait: () => number, otherwise: number): number {
  try {
    return wait();
  } catch (error) {
    if (error instanceof TimeoutError) return otherwise;
    throw error;
  }
}
