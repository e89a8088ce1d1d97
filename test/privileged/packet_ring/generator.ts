/**
 * A Worker that sends numbered frames as fast as it can: told the interface, how many, and how long,
 * it answers how many it has sent.
 *
 * @module
 */
import { DatagramBatch, LinkAddress } from "bun-sockets";
import { PacketSocket } from "bun-sockets/packet";
import { ETH_P_802_EX1 } from "bun-sockets/sys";
import { type Order, writeFrame } from "./frames.ts";

declare const self: Worker;

const CAPACITY = 64;

self.onmessage = ({ data }: MessageEvent<Order>) => self.postMessage(generate(data));

function generate(order: Order): number {
  using socket = PacketSocket.open(order.interface, { protocol: 0 });
  using batch = new DatagramBatch({ capacity: CAPACITY, slotBytes: order.bytes });
  const to = new LinkAddress({ interface: order.interface, protocol: ETH_P_802_EX1 });
  for (let i = 0; i < CAPACITY; i++) batch.setAddress(i, to);
  let sent = 0;
  while (sent < order.frames) {
    batch.count = Math.min(CAPACITY, order.frames - sent);
    for (let i = 0; i < batch.count; i++) {
      writeFrame(batch.memory, batch.offset(i), order.bytes, sent + i, order.flows);
      batch.setLength(i, order.bytes);
    }
    const count = socket.sendBatchSync(batch, 0, { timeoutMs: 10_000 });
    if (batch.failed > 0) throw new Error(`A frame was refused: ${batch.failure(0)}`);
    sent += count;
  }
  return sent;
}

self.postMessage("ready");
