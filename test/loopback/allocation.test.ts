/**
 * The allocation contract: the `try` forms of batches and of single datagrams, and handlers of batches,
 * allocate nothing per datagram. Measured in children, because both measures need a process of their own:
 *
 * - resident memory without garbage collection (BUN_JSC_useGC=0) grows under 4 bytes a datagram;
 * - the heap after a collection grew under 0.5 bytes a datagram: nothing is kept.
 *
 * The second alone would pass for code that allocates garbage, so a control shows that the first
 * sees one object and one string per datagram.
 */
import { expect, test } from "bun:test";

const DATAGRAMS = 1_000_000;
const RESIDENT_BYTES_MAX = 4;
const HEAP_BYTES_MAX = 0.5;

// Each loop receives `count` datagrams. `touched` keeps the engine from leaving the reads out.
const loops = {
  batch: `
    let touched = 0;
    function run(count) {
      for (let received = 0; received < count; received += 64) {
        client.trySendBatch(outgoing);
        const arrived = server.tryReceiveBatch(incoming);
        for (let i = 0; i < arrived; i++) {
          const at = incoming.offset(i);
          const length = incoming.length(i);
          touched += incoming.memory[at] + incoming.memory[at + length - 1] + incoming.sender(i);
        }
        if (server.trySendBatch(incoming) !== 64) throw new Error("not all came and went back");
        if (client.tryReceiveBatch(returned) !== 64) throw new Error("not all came back");
        for (let i = 0; i < 64; i++) touched += returned.sender(i) + returned.length(i);
      }
    }`,
  metadata: `
    let touched = 0;
    const here = new Inet4Address("127.0.0.1", 0);
    server.setOption(IpOption.receivePacketInfo, true);
    server.setOption(IpOption.receiveTtl, true);
    server.setOption(IpOption.receiveTos, true);
    server.setOption(SocketOption.timestampNs, true);
    server.setOption(SocketOption.receiveQueueOverflow, true);
    function run(count) {
      for (let received = 0; received < count; received += 64) {
        for (let i = 0; i < 64; i++) outgoing.setEcn(i, i & 3);
        client.trySendBatch(outgoing);
        const arrived = server.tryReceiveBatch(incoming);
        for (let i = 0; i < arrived; i++) {
          touched += incoming.ttl(i) + incoming.trafficClass(i) + incoming.ecn(i);
          touched += incoming.interfaceIndex(i) + incoming.dropped(i) + incoming.mark(i);
          touched += incoming.timestampSeconds(i) + incoming.timestampNanoseconds(i);
          touched += incoming.segmentBytes(i) + (incoming.destination(i) !== undefined ? 1 : 0);
          if (incoming.ecn(i) !== (i & 3)) throw new Error("it was not told");
        }
        incoming.reply();
        for (let i = 0; i < arrived; i++) {
          incoming.setTtl(i, 1 + i);
          incoming.setTrafficClass(i, i);
          incoming.setSegmentBytes(i, 100);
          if (i & 1) incoming.setSource(i, here);
        }
        if (server.trySendBatch(incoming) !== 64) throw new Error("not all came and went back");
        if (client.tryReceiveBatch(returned) !== 64) throw new Error("not all came back");
      }
    }`,
  single: `
    let touched = 0;
    function run(count) {
      for (let received = 0; received < count; received++) {
        client.trySend(data);
        const length = server.tryReceive(target);
        if (length !== 64) throw new Error("it did not come");
        touched += target[0] + target[length - 1];
      }
    }`,
  "single to an address": `
    let touched = 0;
    function run(count) {
      for (let received = 0; received < count; received++) {
        stranger.trySendTo(data, address);
        const length = server.tryReceive(target);
        if (length !== 64) throw new Error("it did not come");
        touched += target[0] + target[length - 1];
      }
    }`,
  messages: `
    let touched = 0;
    const out = new Message({ vectors: data });
    const into = new Message({ vectors: target });
    function run(count) {
      for (let received = 0; received < count; received++) {
        client.trySendMessage(out);
        const length = server.tryReceiveMessage(into);
        if (length !== 64) throw new Error("it did not come");
        touched += target[0] + target[length - 1] + into.flags;
      }
    }`,
  handler: `
    let touched = 0;
    let left = 0;
    let finish;
    const next = () => {
      client.tryReceiveBatch(returned);
      client.trySendBatch(outgoing);
    };
    server.onBatch((batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.offset(i);
        touched += batch.memory[at] + batch.memory[at + batch.length(i) - 1] + batch.sender(i);
      }
      if (server.trySendBatch(batch) !== batch.count) throw new Error("not all went back");
      left -= batch.count;
      if (left > 0) next();
      else finish();
    });
    function run(count) {
      left = count;
      next();
      return new Promise((resolve) => (finish = resolve));
    }`,
  control: `
    let touched = 0;
    const seen = new Array(64);
    function run(count) {
      for (let received = 0; received < count; received++) {
        client.trySend(data);
        const length = server.tryReceive(target);
        if (length !== 64) throw new Error("it did not come");
        seen[received & 63] = { length, text: "datagram " + received };
        touched += target[0] + seen[received & 63].text.length;
      }
    }`,
};

// Until the compilers have given back what they take, which is tens of MiB. The longest loop has most
// to be compiled.
function warmUpOf(loop: keyof typeof loops): number {
  return loop === "metadata" ? 900_000 : 300_000;
}

function makeScript(loop: keyof typeof loops): string {
  return `
    import { heapStats } from "bun:jsc";
    import { DatagramBatch, Inet4Address, IpOption, Message, SocketOption, UdpSocket } from "bun-sockets";
    const server = UdpSocket.bind("127.0.0.1:0");
    const client = UdpSocket.open("ipv4");
    const stranger = UdpSocket.open("ipv4");
    const address = server.localAddress;
    client.connectSync(address);
    const data = new Uint8Array(64).fill(7);
    const target = new Uint8Array(2048);
    const outgoing = new DatagramBatch();
    const incoming = new DatagramBatch();
    const returned = new DatagramBatch();
    outgoing.count = 64;
    for (let i = 0; i < 64; i++) outgoing.write(i, data);
    ${loops[loop]}
    // What the kernel counts, not what the engine does.
    const resident = () => process.memoryUsage.rss();
    const heap = () => {
      Bun.gc(true);
      const { heapSize, extraMemorySize } = heapStats();
      return heapSize + extraMemorySize;
    };
    await run(${warmUpOf(loop)});
    const before = process.env.BUN_JSC_useGC === "0" ? resident() : heap();
    await run(${DATAGRAMS});
    const after = process.env.BUN_JSC_useGC === "0" ? resident() : heap();
    console.log(JSON.stringify({ bytes: (after - before) / ${DATAGRAMS}, touched: touched > 0 }));
    server.close();
  `;
}

async function measure(
  loop: keyof typeof loops,
  environment: Record<string, string>,
): Promise<{ bytes: number; touched: boolean }> {
  const child = Bun.spawn([process.execPath, "-e", makeScript(loop)], {
    cwd: `${import.meta.dir}/../..`,
    env: { ...process.env, BUN_SOCKETS_LEAKS: "", ...environment },
    stderr: "inherit",
  });
  const output = await child.stdout.text();
  expect(await child.exited).toBe(0);
  return JSON.parse(output);
}

const measured = [
  ...["batch", "metadata", "single", "single to an address", "messages", "handler"],
] as const;
test.each(measured)(
  "the path (%s) allocates nothing per datagram",
  async (loop) => {
    const [resident, heap] = await Promise.all([
      measure(loop, { BUN_JSC_useGC: "0" }),
      measure(loop, {}),
    ]);
    expect([resident.touched, heap.touched]).toEqual([true, true]);
    expect(resident.bytes).toBeLessThan(RESIDENT_BYTES_MAX);
    expect(heap.bytes).toBeLessThan(HEAP_BYTES_MAX);
  },
  60_000,
);

test("the measure sees one object and one string per datagram", async () => {
  const resident = await measure("control", { BUN_JSC_useGC: "0" });
  expect(resident.bytes).toBeGreaterThan(4 * RESIDENT_BYTES_MAX);
}, 60_000);

test("waking a handler looks through nothing: no wake-up makes an iterator", async () => {
  const script = `
    import { heapStats } from "bun:jsc";
    import { poller, UdpSocket } from "bun-sockets";
    const server = UdpSocket.bind("127.0.0.1:0");
    const client = UdpSocket.open("ipv4");
    client.connectSync(server.localAddress);
    const look = () => ({
      iterators: heapStats().objectTypeCounts["Set Iterator"] ?? 0,
      wakeUps: poller.counters.wakeUps,
    });
    const data = new Uint8Array(new ArrayBuffer(64));
    let calls = 0;
    let before;
    server.onBatch(() => {
      calls++;
      if (calls === 200) before = look();
      if (calls < 1200) return void setImmediate(() => client.trySend(data));
      const { iterators, wakeUps } = look();
      const grown = [iterators - before.iterators, wakeUps - before.wakeUps];
      console.log(JSON.stringify(grown));
      server.close();
    });
    client.trySend(data);`;
  const child = Bun.spawn([process.execPath, "-e", script], {
    cwd: `${import.meta.dir}/../..`,
    env: { ...process.env, BUN_SOCKETS_LEAKS: "", BUN_JSC_useGC: "0" },
    stderr: "inherit",
  });
  const [iterators, wakeUps] = JSON.parse(await child.stdout.text());
  expect(wakeUps).toBeGreaterThanOrEqual(900);
  expect(iterators).toBeLessThan(10);
}, 60_000);
