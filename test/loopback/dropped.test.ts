/**
 * The net below the owners: sockets and mappings that were dropped without `close` come back, and no
 * number that means something else by then is ever closed. Children, because the limit of open
 * descriptors is the process's, and so is the collector.
 */
import { expect, test } from "bun:test";

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const SYS = JSON.stringify(new URL("../../lib/sys/index.ts", import.meta.url));
const DESCRIPTORS = 256;
const DROPPED = 10_000;

const prelude = `
import { readdirSync, readlinkSync } from "node:fs";
import { DatagramBatch, NativeBuffer, Socket, UdpSocket, UnixDatagramSocket } from ${INDEX};
import { close, dup, fcntl, F_DUPFD, socket } from ${SYS};

const turn = () => new Promise(setImmediate);
// What of /proc/self/fd is a socket of ours: anonymous inodes and pipes belong to Bun.
function sockets() {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return readlinkSync(\`/proc/self/fd/\${fd}\`).startsWith("socket:");
    } catch {
      return false;
    }
  }).length;
}
async function settle() {
  for (let i = 0; i < 20; i++) {
    Bun.gc(true);
    await Bun.sleep(5);
  }
}
`;

// Runs a module in a child with few descriptors; what it prints is JSON.
function inChild(script: string): unknown {
  const child = Bun.spawnSync(
    ["sh", "-c", `ulimit -n ${DESCRIPTORS}; exec "$@"`, "sh", process.execPath, "-e"].concat(
      prelude + script,
    ),
    // Each would be reported.
    { env: { ...process.env, BUN_SOCKETS_LEAKS: "" }, timeout: 60_000 },
  );
  expect({ exitCode: child.exitCode, errors: child.stderr.toString() }).toEqual({
    exitCode: 0,
    errors: "",
  });
  return JSON.parse(child.stdout.toString());
}

const droppings: readonly [what: string, each: string][] = [
  ["UDP sockets", 'UdpSocket.bind("127.0.0.1:0")'],
  ["sockets of any kind", 'Socket.create("unix", "stream")'],
  ["pairs", "Socket.pair()"],
  ["duplicates", "kept.duplicate()"],
  ["adopted descriptors", "UdpSocket.adopt(kept.descriptor)"],
  [
    "accepted sockets and their clients",
    `(() => {
      const client = Socket.create("ipv4", "stream");
      client.connectSync(listener.localAddress);
      listener.acceptSync({ timeoutMs: 5000 });
    })()`,
  ],
  ["mappings", "new NativeBuffer(1 << 20)"],
  ["batches", "new DatagramBatch({ capacity: 8 })"],
];

test.each(droppings)(
  `${DROPPED} dropped %s leak nothing in an asynchronous loop, with ${DESCRIPTORS} descriptors`,
  (_, each) => {
    const result = inChild(`
      const kept = UdpSocket.open("ipv4");
      const listener = Socket.create("ipv4", "stream");
      listener.bind("127.0.0.1:0");
      listener.listen();
      await settle();
      const before = sockets();
      const mapped = process.memoryUsage.rss();
      for (let i = 0; i < ${DROPPED}; i++) {
        ${each};
        await turn();
      }
      await settle();
      const grownMiB = (process.memoryUsage.rss() - mapped) / 2 ** 20;
      console.log(JSON.stringify({ left: sockets() - before, grew: grownMiB > 200 }));
    `);
    expect(result).toEqual({ left: 0, grew: false });
  },
  90_000,
);
