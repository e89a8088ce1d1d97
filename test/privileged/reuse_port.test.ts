/** A group of sockets that share a port, behind a device with several queues. */
import { expect } from "bun:test";
import { FilterProgram, UdpSocket } from "bun-sockets";
import {
  BPF_A,
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_K,
  BPF_LD,
  BPF_RET,
  BPF_W,
  SKF_AD_OFF,
  SKF_AD_QUEUE,
} from "bun-sockets/sys";
import { ip, makeNamespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const SIZE = 4;
const SENDERS = 64;
const PAYLOAD = 100;
const UDP_HEADER = 8;

const namespaced = testIf(
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter")
    : "needs a network namespace of its own",
);

// Cuts a datagram to the number of its queue, and one byte.
const tellQueue = new FilterProgram([
  { code: BPF_LD | BPF_W | BPF_ABS, k: SKF_AD_OFF + SKF_AD_QUEUE },
  { code: BPF_ALU | BPF_ADD | BPF_K, k: UDP_HEADER + 1 },
  { code: BPF_RET | BPF_A },
]);

namespaced("FilterProgram.byQueue gives all of one queue to one of four sockets", async () => {
  using far = makeNamespace();
  const queues = ["numrxqueues", `${SIZE}`, "numtxqueues", `${SIZE}`];
  const peer = ["type", "veth", "peer", "name", "bs-rp-1", ...queues, "netns", `${far.processId}`];
  ip("link", "add", "bs-rp-0", ...queues, ...peer);
  ip("addr", "add", "192.0.2.1/24", "dev", "bs-rp-0");
  ip("link", "set", "bs-rp-0", "up");
  far.ip("addr", "add", "192.0.2.2/24", "dev", "bs-rp-1");
  far.ip("link", "set", "bs-rp-1", "up");
  const group = [UdpSocket.bind("192.0.2.1:0", { reusePort: true })];
  const [first] = group as [UdpSocket];
  try {
    const { localAddress } = first;
    while (group.length < SIZE) group.push(UdpSocket.bind(localAddress, { reusePort: true }));
    for (const socket of group) socket.attachFilter(tellQueue);
    first.attachReusePortProgram(FilterProgram.byQueue(SIZE));
    // A flow has one queue: that of its hash.
    for (let i = 0; i < SENDERS; i++) {
      using sender = far.inside(() => UdpSocket.open("ipv4"));
      sender.sendToSync(new Uint8Array(PAYLOAD), localAddress);
    }
    const counts = group.map(() => 0);
    while (counts.reduce((sum, count) => sum + count) < SENDERS) {
      for (const [place, socket] of group.entries()) {
        const length = socket.tryReceive(new Uint8Array(PAYLOAD));
        if (length === undefined) continue;
        expect((length - 1) % SIZE).toBe(place);
        counts[place] = (counts[place] ?? 0) + 1;
      }
      await Bun.sleep(0);
    }
    // By chance alone one of four gets none of 64 once in 20,000,000 runs.
    for (const count of counts) expect(count).toBeGreaterThan(0);
  } finally {
    for (const socket of group) socket.close();
    ip("link", "del", "bs-rp-0");
  }
});
