/** Programs that share no code with this library, as peers: what is sent arrives as it was. */
import { describe, expect } from "bun:test";
import { DatagramBatch, type InetAddress, UdpSocket } from "bun-sockets";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";

const WAIT = { timeoutMs: 10_000 };

const families = [
  { family: "ipv4", loopback: "127.0.0.1:0", bytesMax: 65507, socat: "UDP4" },
  { family: "ipv6", loopback: "[::1]:0", bytesMax: 65527, socat: "UDP6" },
] as const;

// Datagrams of these fit a default receive buffer many at a time.
const smallSizes = [0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 512, 1000, 1400, 1472, 1473, 2048];

function randomSizes(count: number, limit: number): number[] {
  return Array.from({ length: count }, () => Math.floor(Math.random() * limit));
}

// Prints its port, then sends every datagram back to its sender.
const pythonEcho = `
import socket, sys
host = sys.argv[1]
peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
peer.bind((host, 0))
peer.settimeout(30)
print(peer.getsockname()[1], flush=True)
while True:
    data, address = peer.recvfrom(65536)
    peer.sendto(data, address)
`;

// Sends datagrams of the sizes it is told, `ahead` of them before it reads as many, and prints how
// many came back as they were.
const pythonClient = `
import json, os, socket, sys
host, port, ahead, sizes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
peer.connect((host, port))
peer.settimeout(10)
same = 0
for start in range(0, len(sizes), ahead):
    sent = [os.urandom(size) for size in sizes[start:start + ahead]]
    for data in sent:
        peer.send(data)
    same += sum(peer.recv(65536) == data for data in sent)
print(same)
`;

describe.each(families)("over $family", ({ family, loopback, bytesMax, socat }) => {
  const allSizes = [...smallSizes, 9000, 32768, 65000, bytesMax - 1, bytesMax];
  const host = loopback === "127.0.0.1:0" ? "127.0.0.1" : "::1";

  async function startEcho(): Promise<{ to: InetAddress } & Disposable> {
    const child = Bun.spawn(["python3", "-c", pythonEcho, host], { stderr: "ignore" });
    const port = Number(await firstLine(child.stdout));
    using socket = UdpSocket.bind(loopback);
    return Object.assign(ending(child), { to: socket.localAddress.withPort(port) });
  }

  const withPython = testIf(requires("python3"));

  withPython(`python3 sends back singles as they were (${family})`, async () => {
    using echo = await startEcho();
    using client = UdpSocket.open(family);
    client.connectSync(echo.to);
    const target = Buffer.alloc(65536);
    for (const size of [...allSizes, ...randomSizes(50, bytesMax)]) {
      const data = randomPayload(size);
      expect(client.sendSync(data)).toBe(size);
      expect(client.receiveSync(target, WAIT)).toBe(size);
      expect(target.subarray(0, size).equals(data)).toBe(true);
    }
  });

  withPython(`python3 answers an unconnected socket's singles (${family})`, async () => {
    using echo = await startEcho();
    using client = UdpSocket.open(family);
    const target = Buffer.alloc(65536);
    for (const size of [...allSizes, ...randomSizes(20, bytesMax)]) {
      const data = randomPayload(size);
      expect(client.sendToSync(data, echo.to)).toBe(size);
      const received = client.receiveFromSync(target, WAIT);
      expect([received.length, received.originalLength, received.flags]).toEqual([size, size, 0]);
      expect(`${received.address}`).toBe(`${echo.to}`);
      expect(target.subarray(0, size).equals(data)).toBe(true);
    }
  });

  withPython(`python3 sends back batches as they were (${family})`, async () => {
    using echo = await startEcho();
    using client = UdpSocket.open(family);
    using batch = new DatagramBatch({ capacity: 16 });
    using returned = new DatagramBatch({ capacity: 16 });
    for (let round = 0; round < 20; round++) {
      const sizes = round === 0 ? smallSizes : randomSizes(16, 2048);
      const sent = sizes.map(randomPayload);
      batch.count = 16;
      for (const [i, data] of sent.entries()) {
        batch.write(i, data);
        batch.setAddress(i, echo.to);
      }
      expect(client.sendBatchSync(batch, 0, WAIT)).toBe(16);
      const came: string[] = [];
      while (came.length < 16) {
        client.receiveBatchSync(returned, WAIT);
        for (let i = 0; i < returned.count; i++) {
          came.push(returned.view(i).toHex());
          expect(`${returned.address(i)}`).toBe(`${echo.to}`);
        }
      }
      expect(came).toEqual(sent.map((data) => data.toString("hex")));
    }
  });

  withPython(`python3 sends the longest datagrams to a batch (${family})`, async () => {
    using echo = await startEcho();
    using client = UdpSocket.open(family);
    using batch = new DatagramBatch({ capacity: 1, slotBytes: bytesMax });
    client.connectSync(echo.to);
    for (const size of [bytesMax, bytesMax - 1, 40000]) {
      const data = randomPayload(size);
      batch.count = 1;
      batch.write(0, data);
      expect(client.sendBatchSync(batch, 0, WAIT)).toBe(1);
      batch.memory.fill(0);
      expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(data.equals(batch.view(0))).toBe(true);
    }
  });

  const servers: [name: string, ahead: number, serve: (server: UdpSocket) => () => number][] = [
    ["a batch echo", 8, serveBatches],
    ["an echo of singles", 1, serveSingles],
  ];
  for (const [name, ahead, serve] of servers) {
    withPython(`python3 gets back what it sent to ${name} (${family})`, async () => {
      using server = UdpSocket.bind(loopback);
      const sizes =
        ahead === 1
          ? [...allSizes, ...randomSizes(50, bytesMax)]
          : [...smallSizes, ...randomSizes(160, 2048)];
      const args = [host, `${server.localAddress.port}`, `${ahead}`, JSON.stringify(sizes)];
      const child = Bun.spawn(["python3", "-c", pythonClient, ...args], { stderr: "inherit" });
      using _ = ending(child);
      const answer = serve(server);
      for (let answered = 0; answered < sizes.length; ) answered += answer();
      expect(await child.stdout.text()).toBe(`${sizes.length}\n`);
    });
  }

  const withSocat = testIf(requires("socat"));

  withSocat(`socat carries bytes both ways (${family})`, async () => {
    using server = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 65536 });
    const child = Bun.spawn(["socat", "-b", "65536", "-", `${socat}:${server.localAddress}`], {
      stdin: "pipe",
      stderr: "inherit",
    });
    using _ = ending(child);
    const reader = child.stdout.getReader();
    let returned = Buffer.alloc(0);
    // A pipe keeps what is written at once together up to 4096 bytes: those are one datagram each.
    const sizes = [...smallSizes.slice(1), 4096, 20_000, 65_000, ...randomSizes(30, 4096)];
    for (const size of sizes.filter((size) => size > 0)) {
      const data = randomPayload(size);
      child.stdin.write(data);
      await child.stdin.flush();
      const came: Buffer[] = [];
      while (Buffer.concat(came).length < size) {
        server.receiveBatchSync(batch, WAIT);
        for (let i = 0; i < batch.count; i++) came.push(Buffer.from(batch.view(i)));
        expect(server.trySendBatch(batch)).toBe(batch.count);
      }
      expect(Buffer.concat(came).equals(data)).toBe(true);
      if (size <= 4096) expect(came).toHaveLength(1);
      while (returned.length < size) {
        const { value, done } = await reader.read();
        if (done) break;
        returned = Buffer.concat([returned, value]);
      }
      expect(returned.equals(data)).toBe(true);
      returned = Buffer.alloc(0);
    }
  });
});

/** Answers what is waiting, in one batch; returns how many were answered. */
function serveBatches(server: UdpSocket): () => number {
  const batch = new DatagramBatch();
  return () => {
    server.receiveBatchSync(batch, WAIT);
    return server.sendBatchSync(batch, 0, WAIT);
  };
}

/** Answers one datagram. */
function serveSingles(server: UdpSocket): () => number {
  const target = new Uint8Array(65536);
  return () => {
    const { length, address } = server.receiveFromSync(target, WAIT);
    server.sendToSync(target.subarray(0, length), address as InetAddress, WAIT);
    return 1;
  };
}
