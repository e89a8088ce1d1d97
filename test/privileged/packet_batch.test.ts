/**
 * What packet sockets tell of each packet of a batch costs nothing: measured as in
 * test/loopback/allocation.test.ts, in a child without garbage collection.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { join } from "node:path";
import { layCable } from "../support/cable.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const NEAR = "bs-pb0";
const FAR = "bs-pb1";
const PACKETS = 300_000;
const RESIDENT_BYTES_MAX = 4;

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

beforeAll(() => {
  if (missing === undefined) layCable(NEAR, FAR);
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", NEAR);
});

// Goes through so many packets with a tag, and counts what is told of them.
const LOOP = `
  import { DatagramBatch } from "bun-sockets";
  import { PacketSocket } from "bun-sockets/packet";
  const [near, far, count, extra] = JSON.parse(process.env.VALUES);
  const sender = PacketSocket.open(near, { protocol: 0, bypassQdisc: true });
  const receiver = PacketSocket.open(far, {
    auxiliaryData: true,
    timestampNs: true,
    ignoreOutgoing: true,
    receiveBufferBytes: 4 << 20,
  });
  using outgoing = new DatagramBatch({ capacity: 64, slotBytes: 128 });
  using incoming = new DatagramBatch({ capacity: 64, slotBytes: 128 });
  const frame = new Uint8Array(100);
  const view = new DataView(frame.buffer);
  view.setUint16(12, 0x8100);
  view.setUint16(16, 0x88b5);
  for (let i = 0; i < 64; i++) {
    view.setUint16(14, 0x2000 + i);
    outgoing.write(i, frame);
  }
  outgoing.count = 64;
  let touched = 0;
  const kept = [];
  function run(rounds) {
    for (let round = 0; round < rounds; round++) {
      if (sender.trySendBatch(outgoing) !== 64) throw new Error("not all were sent");
      for (let next = 0; next < 64; ) {
        const arrived = receiver.receiveBatchSync(incoming, { timeoutMs: 5000 });
        for (let i = 0; i < arrived; i++) {
          if (incoming.vlan(i) !== 0x2000 + next++) throw new Error("another tag");
          touched += incoming.vlanProtocol(i) + incoming.packetStatus(i) + incoming.sender(i);
          if (incoming.checksum(i) === "unfinished") touched++;
          touched += incoming.timestampNanoseconds(i) + incoming.originalLength(i);
          if (extra) kept.push({ text: String(touched) });
        }
      }
    }
  }
  run(3000);
  const before = process.memoryUsage.rss();
  run(count / 64);
  console.log(JSON.stringify({ bytes: (process.memoryUsage.rss() - before) / count, touched }));
`;

function bytesPerPacket(extra: boolean): number {
  const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", LOOP], {
    cwd: join(import.meta.dir, "../.."),
    env: {
      ...process.env,
      BUN_JSC_useGC: "0",
      VALUES: JSON.stringify([NEAR, FAR, PACKETS, extra]),
    },
  });
  if (stdout.length === 0) throw new Error(stderr.toString());
  return JSON.parse(stdout.toString()).bytes;
}

namespaced("vlan, vlanProtocol, checksum and packetStatus allocate nothing", () => {
  expect(bytesPerPacket(false)).toBeLessThan(RESIDENT_BYTES_MAX);
});

namespaced("an object and a string for each packet would be seen", () => {
  expect(bytesPerPacket(true)).toBeGreaterThan(10 * RESIDENT_BYTES_MAX);
});
