/**
 * A Worker with a ring of its own in a fanout group: it counts what comes to it, and says so in memory
 * that it shares with the test.
 *
 * @module
 */
import { TimeoutError } from "bun-sockets";
import { type PacketBlock, PacketRing } from "bun-sockets/packet";
import { COUNTS, type Share, UDP_NUMBER, UDP_PORT } from "./frames.ts";

declare const self: Worker;

self.onmessage = async ({ data }: MessageEvent<Share>) => {
  const { options, interface: where, place, form, counts, seen, flows, stalls } = data;
  using ring = PacketRing.open(where, options);
  const own = place * COUNTS.size;
  const isOver = () => Atomics.load(counts, COUNTS.stop) !== 0;

  function note(): void {
    const { packets, drops } = ring.statistics();
    Atomics.store(counts, own + COUNTS.packets, packets);
    Atomics.store(counts, own + COUNTS.drops, drops);
  }

  function look(block: PacketBlock): void {
    const { view } = block;
    while (block.next()) {
      Atomics.add(seen, view.getUint32(block.offset + UDP_NUMBER), 1);
      const flow = view.getUint16(block.offset + UDP_PORT) - 1024;
      Atomics.or(flows, flow, 1 << place);
      Atomics.add(counts, own + COUNTS.frames, 1);
    }
    note();
  }

  // Ended by whoever says that it is over, also while it waits.
  self.onmessage = () => ring.close();
  self.postMessage("ready");
  // Whoever stalls reads nothing until frames were dropped, or no more will come.
  while (stalls && ring.statistics().drops === 0 && !isOver()) Bun.sleepSync(1);
  if (form === "await") {
    for await (using block of ring) look(block);
  } else {
    while (!isOver()) {
      try {
        look(ring.receiveBlockSync({ timeoutMs: 20 }));
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error;
        note();
      }
    }
  }
  ring.close();
  self.postMessage("done");
};
