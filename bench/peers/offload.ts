import {
  DatagramBatch,
  Inet4Address,
  SocketOption,
  TimeoutError,
  UdpOption,
  UdpSocket,
} from "bun-sockets";
import { type Counts, GROUP, type Peer, SLOT_BYTES } from "../support.ts";
import { loadC } from "./c.ts";

/** How trains travel. */
export interface TrainPath {
  /** Payload of a datagram. */
  readonly bytes: number;
  /** Datagrams of a train. */
  readonly segments: number;
  /** Trains of a group, which go in one call with GSO, and come in one with GRO. */
  readonly trains: number;
  readonly gso: boolean;
  readonly gro: boolean;
}

/** A socket that sends and one that receives, connected with each other. */
export interface Pair {
  readonly sender: UdpSocket;
  readonly receiver: UdpSocket;
}

const TRAIN_SLOT_BYTES = 65536;
// A group of trains at once: the default buffer holds 208 KiB. Where the sysctl net.core.rmem_max
// allows less, what does not fit is lost, and stated.
const BUFFER_BYTES = 8 << 20;

/** Two sockets of this machine. */
export function openPair(gro: boolean): Pair {
  const receiver = UdpSocket.bind(Inet4Address.loopback);
  const sender = UdpSocket.bind(Inet4Address.loopback);
  sender.connectSync(receiver.localAddress);
  receiver.connectSync(sender.localAddress);
  prepare({ sender, receiver }, gro);
  return { sender, receiver };
}

/** Buffers and GRO, as all that are compared have them. */
export function prepare({ sender, receiver }: Pair, gro: boolean): void {
  receiver.setOption(SocketOption.receiveBufferBytes, BUFFER_BYTES);
  sender.setOption(SocketOption.sendBufferBytes, BUFFER_BYTES);
  receiver.setOption(UdpOption.gro, gro);
}

/** Ours. */
export function offload(path: TrainPath, { sender, receiver }: Pair): Peer {
  const { bytes, segments, trains, gso, gro } = path;
  const total = segments * trains;
  const source = new DatagramBatch({
    capacity: gso ? trains : Math.min(total, GROUP),
    slotBytes: gso ? TRAIN_SLOT_BYTES : SLOT_BYTES,
  });
  const target = new DatagramBatch({
    capacity: gro ? trains : GROUP,
    slotBytes: gro ? TRAIN_SLOT_BYTES : SLOT_BYTES,
  });
  for (let i = 0; i < source.capacity; i++) {
    const each = gso ? segments : 1;
    source.setLength(i, each * bytes);
    if (gso) source.setSegmentBytes(i, bytes);
    for (let k = 0; k < each; k++) {
      const at = source.offset(i) + k * bytes;
      source.memory[at] = gso ? k : i;
      source.memory[at + bytes - 1] = 255 - (gso ? k : i);
    }
  }
  return {
    name: "bun-sockets",
    group: total,
    run: async (groups) => run(path, { sender, receiver }, source, target, groups),
    close: () => {
      for (const one of [sender, receiver]) one.close();
      for (const one of [source, target]) one.free();
    },
  };
}

// The loop of offload.c.
function run(
  { segments, trains, gso }: TrainPath,
  { sender, receiver }: Pair,
  source: DatagramBatch,
  target: DatagramBatch,
  groups: number,
): Counts {
  const memory = target.memory;
  const total = segments * trains;
  const messages = gso ? trains : total;
  const each = gso ? segments : 1;
  let sendMs = 0;
  let receiveMs = 0;
  let lost = 0;
  let sum = 0;
  for (let group = 0; group < groups; group++) {
    const start = performance.now();
    let sent = 0;
    while (sent < messages) {
      source.count = Math.min(messages - sent, GROUP);
      const count = sender.trySendBatch(source);
      if (count === 0) break;
      sent += count;
    }
    const middle = performance.now();
    let received = 0;
    while (received < sent * each) {
      const count = receiver.tryReceiveBatch(target) || waitForBatch(receiver, target);
      if (count === 0) break;
      for (let i = 0; i < count; i++) {
        const length = target.length(i);
        const bytes = target.segmentBytes(i);
        const first = target.offset(i);
        for (let at = 0; at < length; at += bytes) {
          const end = Math.min(at + bytes, length);
          sum += (memory[first + at] as number) + (memory[first + end - 1] as number);
          received++;
        }
      }
    }
    const end = performance.now();
    sendMs += middle - start;
    receiveMs += end - middle;
    lost += total - received;
  }
  return { datagrams: groups * total, sendNs: sendMs * 1e6, receiveNs: receiveMs * 1e6, lost, sum };
}

/** Waits for a batch. What does not come within 100 ms is lost. */
export function waitForBatch(receiver: UdpSocket, target: DatagramBatch): number {
  try {
    return receiver.receiveBatchSync(target, { timeoutMs: 100 });
  } catch (error) {
    if (error instanceof TimeoutError) return 0;
    throw error;
  }
}

let library: ReturnType<typeof load> | undefined;

/** The same in C, called once for a whole round, in this process and thread. */
export function offloadInC(path: TrainPath, { sender, receiver }: Pair): Peer {
  const { bytes, segments, trains, gso, gro } = path;
  const result = new Float64Array(new ArrayBuffer(5 * 8));
  library ??= load();
  const { offload_run } = library;
  return {
    name: "c",
    group: segments * trains,
    close: () => {
      for (const one of [sender, receiver]) one.close();
    },
    run: async (groups) => {
      const numbers = [bytes, segments, trains, Number(gso), Number(gro), groups] as const;
      offload_run(sender.descriptor, receiver.descriptor, ...numbers, result);
      const [sendNs = 0, receiveNs = 0, sent = 0, received = 0, sum = 0] = result;
      return { datagrams: sent, sendNs, receiveNs, lost: sent - received, sum };
    },
  };
}

function load() {
  return loadC("offload", {
    // void offload_run(int sender, int receiver, int bytes, int segments, int trains, int gso,
    //                  int gro, int groups, struct result *result);
    offload_run: { args: [...new Array<"i32">(8).fill("i32"), "ptr"], returns: "void" },
  });
}
