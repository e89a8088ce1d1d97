import { DatagramBatch, Inet4Address, IpOption, SocketOption, type UdpSocket } from "bun-sockets";
import { type Counts, GROUP, type Peer, SLOT_BYTES } from "../support.ts";
import { openPair, type Pair, waitForBatch } from "./offload.ts";

const TTL = 64;
const ECN = 1;

/**
 * Groups of 64 datagrams in one call, of each of which the receiver is told the address and interface
 * that it came to, its TTL, ECN and time, and reads them; or nothing of all that.
 */
export function metadata(bytes: number, isRead: boolean): Peer {
  const pair = openPair(false);
  const { sender, receiver } = pair;
  if (isRead) ask(pair);
  const source = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  const target = new DatagramBatch({ capacity: GROUP, slotBytes: SLOT_BYTES });
  for (let i = 0; i < GROUP; i++) {
    source.setLength(i, bytes);
    source.memory[source.offset(i)] = i;
    source.memory[source.offset(i) + bytes - 1] = 255 - i;
  }
  source.count = GROUP;
  return {
    name: isRead ? "bun-sockets" : "none",
    run: async (groups) => run(pair, source, target, groups, isRead ? look : () => true),
    close: () => {
      for (const one of [sender, receiver]) one.close();
      for (const one of [source, target]) one.free();
    },
  };
}

function ask({ sender, receiver }: Pair): void {
  for (const option of [IpOption.receivePacketInfo, IpOption.receiveTtl, IpOption.receiveTos])
    receiver.setOption(option, true);
  receiver.setOption(SocketOption.timestampNs, true);
  sender.setOption(IpOption.tos, ECN);
}

// What is read of a datagram has to be what was sent.
function look(batch: DatagramBatch, i: number): boolean {
  return (
    batch.ttl(i) === TTL &&
    batch.ecn(i) === ECN &&
    batch.destination(i)?.equals(Inet4Address.loopback) === true &&
    batch.interfaceIndex(i) === 1 &&
    batch.timestampSeconds(i) > 0 &&
    batch.timestampNanoseconds(i) >= 0
  );
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
