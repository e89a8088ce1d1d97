import {
  DatagramBatch,
  Inet4Address,
  type InetAddress,
  IpOption,
  SocketOption,
  type UdpSocket,
} from "bun-sockets";
import { type Counts, GROUP, type Peer, SLOT_BYTES } from "../support.ts";
import { openPair, type Pair, waitForBatch } from "./offload.ts";

const TTL = 64;
const ECN = 1;

/**
 * What the receiver is told of each datagram, and reads: the address and interface that it came to and
 * its ECN, as a server of QUIC does; its TTL and its time besides; or nothing.
 */
export type Facts = "path" | "all" | "none";

/** Groups of 64 datagrams in one call. */
export function metadata(bytes: number, facts: Facts): Peer {
  const pair = openPair(false);
  const { sender, receiver } = pair;
  ask(pair, facts);
  const source = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  const target = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  for (let i = 0; i < GROUP; i++) {
    source.setLength(i, bytes);
    source.memory[source.offset(i)] = i;
    source.memory[source.offset(i) + bytes - 1] = 255 - i;
  }
  source.count = GROUP;
  return {
    name: facts === "none" ? "none" : "bun-sockets",
    run: async (groups) => run(pair, source, target, groups, LOOKS[facts]),
    close: () => {
      for (const one of [sender, receiver]) one.close();
      for (const one of [source, target]) one.free();
    },
  };
}

function ask({ sender, receiver }: Pair, facts: Facts): void {
  sender.setOption(IpOption.tos, ECN);
  if (facts === "none") return;
  receiver.setOption(IpOption.receivePacketInfo, true);
  receiver.setOption(IpOption.receiveTos, true);
  if (facts === "path") return;
  receiver.setOption(IpOption.receiveTtl, true);
  receiver.setOption(SocketOption.timestampNs, true);
}

// One object for each address, so the first one that is right stands for all.
let loopback: InetAddress | undefined;

// What is read of a datagram has to be what was sent.
function lookAtPath(batch: DatagramBatch, i: number): boolean {
  return (
    batch.ecn(i) === ECN &&
    (batch.destination(i) === loopback || isLoopback(batch.destination(i))) &&
    batch.interfaceIndex(i) === 1
  );
}

function lookAtAll(batch: DatagramBatch, i: number): boolean {
  return (
    lookAtPath(batch, i) &&
    batch.ttl(i) === TTL &&
    batch.timestampSeconds(i) > 0 &&
    batch.timestampNanoseconds(i) >= 0
  );
}

const LOOKS: Readonly<Record<Facts, (batch: DatagramBatch, i: number) => boolean>> = {
  path: lookAtPath,
  all: lookAtAll,
  none: () => true,
};

function isLoopback(address: InetAddress | undefined): boolean {
  if (!address?.equals(Inet4Address.loopback)) return false;
  loopback = address;
  return true;
}

function run(
  { sender, receiver }: { readonly sender: UdpSocket; readonly receiver: UdpSocket },
  source: DatagramBatch,
  target: DatagramBatch,
  groups: number,
  isRight: (batch: DatagramBatch, i: number) => boolean,
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
        // One wrong value makes the sum wrong, which is checked.
        if (!isRight(target, i)) sum++;
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
