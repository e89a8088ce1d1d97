/**
 * Programs that share no code with this library, as peers on Unix sockets: what is sent arrives as
 * it was.
 */
import { describe, expect } from "bun:test";
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatagramBatch, Message, Socket, UnixAddress, UnixDatagramSocket } from "bun-sockets";
import { cmsghdr } from "bun-sockets/structs";
import { close, MSG_EOR, SCM_RIGHTS, SOL_SOCKET } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";

const WAIT = { timeoutMs: 10_000 };
const INT = 4;

// Datagrams of these lengths, and longer ones: the default send buffer holds the last.
const smallSizes = [0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 512, 1000, 1472, 2048];
const allSizes = [...smallSizes, 4095, 4096, 4097, 65535, 65536, 100_000];

const withPython = testIf(requires("python3"));
const withSocat = testIf(requires("socat"));

function randomSizes(count: number, limit: number): number[] {
  return Array.from({ length: count }, () => 1 + Math.floor(Math.random() * limit));
}

/** Names for one test, which go with the block. */
class Names implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  readonly #prefix = `bun-sockets-${crypto.randomUUID()}`;
  readonly #kind: "path" | "abstract";

  constructor(kind: "path" | "abstract") {
    this.#kind = kind;
  }

  /** What socat and others call the name. */
  text(name: string): string {
    return this.#kind === "path" ? join(this.#folder, name) : `${this.#prefix}-${name}`;
  }

  address(name: string): UnixAddress {
    const text = this.text(name);
    return this.#kind === "path" ? new UnixAddress(text) : UnixAddress.abstract(text);
  }

  /** The bytes that Python takes, in hexadecimal. */
  hex(name: string): string {
    const text = Buffer.from(this.text(name)).toString("hex");
    return this.#kind === "path" ? text : `00${text}`;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** Waits for what a child does in its own time. */
async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + WAIT.timeoutMs;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error("Expected it in time");
    await new Promise(setImmediate);
  }
}

/** Reads from a child until there are as many bytes. */
async function readBytes(
  reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> },
  length: number,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (let came = 0; came < length; ) {
    const { value, done } = await reader.read();
    if (done || !value) break;
    chunks.push(value);
    came += value.length;
  }
  return Buffer.concat(chunks);
}

function canConnect(type: "datagram" | "seqpacket", address: UnixAddress): boolean {
  using probe = Socket.create("unix", type);
  try {
    return probe.tryConnect(address) === true;
  } catch {
    return false;
  }
}

// Binds to the name it is told, says so, then sends every datagram back to its sender.
const pythonEcho = `
import socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
peer.bind(bytes.fromhex(sys.argv[1]))
peer.settimeout(30)
print("ready", flush=True)
while True:
    data, address = peer.recvfrom(1 << 20)
    peer.sendto(data, address)
`;

// Sends datagrams of the sizes it is told, `ahead` of them before it reads as many, and prints how
// many came back as they were.
const pythonClient = `
import json, os, socket, sys
to, own = (bytes.fromhex(name) for name in sys.argv[1:3])
ahead, sizes = int(sys.argv[3]), json.loads(sys.argv[4])
peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
peer.bind(own)
peer.connect(to)
peer.settimeout(10)
same = 0
for start in range(0, len(sizes), ahead):
    sent = [os.urandom(size) for size in sizes[start:start + ahead]]
    for data in sent:
        peer.send(data)
    same += sum(peer.recv(1 << 20) == data for data in sent)
print(same)
`;

// Listens under the name it is told, says so, then sends each record of each client back.
const pythonSeqpacketEcho = `
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(bytes.fromhex(sys.argv[1]))
listener.listen()
listener.settimeout(30)
print("ready", flush=True)
while True:
    peer, _ = listener.accept()
    peer.settimeout(30)
    while True:
        data = peer.recv(1 << 20)
        if data == b"":
            break
        peer.send(data)
    peer.close()
`;

// Sends records of the sizes it is told, then an empty one, and prints how many came back as they
// were; the last answer is empty too.
const pythonSeqpacketClient = `
import json, os, socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect(bytes.fromhex(sys.argv[1]))
peer.settimeout(10)
same = 0
for size in json.loads(sys.argv[2]):
    data = os.urandom(size)
    peer.send(data)
    same += peer.recv(1 << 20) == data
print(same)
`;

describe.each(["path", "abstract"] as const)("by %s", (kind) => {
  async function startPython(script: string, name: string): Promise<Disposable> {
    const child = Bun.spawn(["python3", "-c", script, name], { stderr: "ignore" });
    expect(await firstLine(child.stdout)).toBe("ready");
    return ending(child);
  }

  withPython(`python3 sends back singles as they were (${kind})`, async () => {
    using names = new Names(kind);
    using _ = await startPython(pythonEcho, names.hex("echo"));
    using client = UnixDatagramSocket.bind(names.address("client"));
    const to = names.address("echo");
    const target = Buffer.alloc(1 << 20);
    for (const size of [...allSizes, ...randomSizes(50, 100_000)]) {
      const data = randomPayload(size);
      expect(client.sendToSync(data, to, WAIT)).toBe(size);
      const { length, address, originalLength } = client.receiveFromSync(target, WAIT);
      expect([length, originalLength, `${address}`]).toEqual([size, size, `${to}`]);
      expect(target.subarray(0, size).equals(data)).toBe(true);
    }
  });

  withPython(
    `python3 sends back messages and what a connected socket sends (${kind})`,
    async () => {
      using names = new Names(kind);
      using _ = await startPython(pythonEcho, names.hex("echo"));
      using client = UnixDatagramSocket.bind(UnixAddress.unnamed);
      const to = names.address("echo");
      for (const connects of [false, true]) {
        if (connects) client.connectSync(to);
        for (const size of [...allSizes, ...randomSizes(20, 100_000)]) {
          const data = randomPayload(size);
          const middle = Math.floor(size / 2);
          const vectors = [data.subarray(0, middle), data.subarray(middle)];
          expect(client.sendMessageSync(new Message({ vectors, address: to }), WAIT)).toBe(size);
          const [head, tail] = [Buffer.alloc(size - middle), Buffer.alloc(middle)];
          const message = new Message({ vectors: [head, tail] });
          expect(client.receiveMessageSync(message, WAIT)).toBe(size);
          expect(`${message.address}`).toBe(`${to}`);
          expect(Buffer.concat([head, tail]).equals(data)).toBe(true);
        }
      }
    },
  );

  withPython(`python3 sends back batches as they were (${kind})`, async () => {
    using names = new Names(kind);
    using _ = await startPython(pythonEcho, names.hex("echo"));
    using client = UnixDatagramSocket.bind(names.address("client"));
    const to = names.address("echo");
    using batch = new DatagramBatch({ capacity: 8 });
    using returned = new DatagramBatch({ capacity: 8 });
    for (let round = 0; round < 20; round++) {
      const sizes = round === 0 ? smallSizes.slice(0, 8) : randomSizes(8, 2048);
      const sent = sizes.map(randomPayload);
      batch.count = 8;
      for (const [i, data] of sent.entries()) {
        batch.write(i, data);
        batch.setAddress(i, to);
      }
      expect(client.sendBatchSync(batch, 0, WAIT)).toBe(8);
      const came: string[] = [];
      while (came.length < 8) {
        client.receiveBatchSync(returned, WAIT);
        for (let i = 0; i < returned.count; i++) {
          came.push(returned.view(i).toHex());
          expect(`${returned.address(i)}`).toBe(`${to}`);
        }
      }
      expect(came).toEqual(sent.map((data) => data.toString("hex")));
    }
  });

  const servers: [
    name: string,
    ahead: number,
    serve: (server: UnixDatagramSocket) => () => number,
  ][] = [
    ["a batch echo", 8, serveBatches],
    ["an echo of singles", 1, serveSingles],
    ["an echo of messages", 4, serveMessages],
  ];
  for (const [name, ahead, serve] of servers) {
    withPython(`python3 gets back what it sent to ${name} (${kind})`, async () => {
      using names = new Names(kind);
      using server = UnixDatagramSocket.bind(names.address("server"));
      const sizes = [...(ahead === 8 ? smallSizes : allSizes), ...randomSizes(100, 2048)];
      const args = [names.hex("server"), names.hex("client"), `${ahead}`, JSON.stringify(sizes)];
      const child = Bun.spawn(["python3", "-c", pythonClient, ...args], { stderr: "inherit" });
      using _ = ending(child);
      const answer = serve(server);
      for (let answered = 0; answered < sizes.length; ) answered += answer();
      expect(await child.stdout.text()).toBe(`${sizes.length}\n`);
    });
  }

  withPython(`python3 sends back the records of a seqpacket connection (${kind})`, async () => {
    using names = new Names(kind);
    using _ = await startPython(pythonSeqpacketEcho, names.hex("echo"));
    const target = Buffer.alloc(1 << 20);
    for (let round = 0; round < 3; round++) {
      using client = Socket.create("unix", "seqpacket");
      client.connectSync(names.address("echo"), WAIT);
      for (const size of [...allSizes, ...randomSizes(20, 100_000)].filter((size) => size > 0)) {
        const data = randomPayload(size);
        expect(client.sendSync(data, { ...WAIT, flags: MSG_EOR })).toBe(size);
        expect(client.receiveSync(target, WAIT)).toBe(size);
        expect(target.subarray(0, size).equals(data)).toBe(true);
      }
      client.shutdown("write");
      expect(client.receiveSync(target, WAIT)).toBe(0);
    }
  });

  withPython(
    `python3 gets back its records, empty ones too, and the end is told (${kind})`,
    async () => {
      using names = new Names(kind);
      using listener = Socket.create("unix", "seqpacket");
      listener.bind(names.address("server"));
      listener.listen();
      const sizes = [...allSizes, 0, 0, ...randomSizes(20, 10_000), 0];
      const args = [names.hex("server"), JSON.stringify(sizes)];
      const child = Bun.spawn(["python3", "-c", pythonSeqpacketClient, ...args], {
        stderr: "inherit",
      });
      using _ = ending(child);
      using served = listener.acceptSync(WAIT);
      const target = Buffer.alloc(1 << 20);
      const message = new Message({ vectors: [target] });
      const lengths: number[] = [];
      for (;;) {
        const length = served.receiveMessageSync(message, WAIT);
        if ((message.flags & MSG_EOR) === 0) break;
        lengths.push(length);
        served.sendSync(target.subarray(0, length), WAIT);
      }
      expect(lengths).toEqual(sizes);
      expect(await child.stdout.text()).toBe(`${sizes.length}\n`);
    },
  );

  const [sendTo, receiveFrom, connect, listen] =
    kind === "path"
      ? ["UNIX-SENDTO", "UNIX-RECVFROM", "UNIX-CONNECT", "UNIX-LISTEN"]
      : ["ABSTRACT-SENDTO", "ABSTRACT-RECVFROM", "ABSTRACT-CONNECT", "ABSTRACT-LISTEN"];
  // A pipe keeps what is written at once together up to 4096 bytes: those are one datagram each.
  const socatSizes = [...smallSizes.slice(1), 4096, ...randomSizes(30, 4096)];

  withSocat(`${sendTo} carries datagrams both ways`, async () => {
    using names = new Names(kind);
    using server = UnixDatagramSocket.bind(names.address("server"));
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 65536 });
    const peer = `${sendTo}:${names.text("server")},bind=${names.text("client")}`;
    const child = Bun.spawn(["socat", "-b", "65536", "-", peer], {
      stdin: "pipe",
      stderr: "inherit",
    });
    using _ = ending(child);
    const reader = child.stdout.getReader();
    for (const size of socatSizes) {
      const data = randomPayload(size);
      child.stdin.write(data);
      await child.stdin.flush();
      expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(data.equals(batch.view(0))).toBe(true);
      expect(`${batch.address(0)}`).toBe(`${names.address("client")}`);
      expect(server.trySendBatch(batch)).toBe(1);
      expect((await readBytes(reader, size)).equals(data)).toBe(true);
    }
  });

  withSocat(`${sendTo} without a name of its own is an unnamed sender`, async () => {
    using names = new Names(kind);
    using server = UnixDatagramSocket.bind(names.address("server"));
    const child = Bun.spawn(["socat", "-u", "-", `${sendTo}:${names.text("server")}`], {
      stdin: new Blob(["nobody can answer"]),
      stderr: "inherit",
    });
    using _ = ending(child);
    const target = Buffer.alloc(64);
    const { length, address } = server.receiveFromSync(target, WAIT);
    expect(target.toString("utf8", 0, length)).toBe("nobody can answer");
    expect(address).toBe(UnixAddress.unnamed);
  });

  withSocat(`${receiveFrom} sends back what it gets`, async () => {
    using names = new Names(kind);
    using client = UnixDatagramSocket.bind(names.address("client"));
    const to = names.address("echo");
    const target = Buffer.alloc(65536);
    // It answers one datagram, and is done.
    for (const size of [1, 100, 4096, 20_000]) {
      const peer = `${receiveFrom}:${names.text("echo")}`;
      const child = Bun.spawn(["socat", "-b", "65536", peer, "EXEC:cat"], { stderr: "inherit" });
      using _ = ending(child);
      await until(() => canConnect("datagram", to));
      const data = randomPayload(size);
      client.sendToSync(data, to, WAIT);
      const came: Buffer[] = [];
      while (Buffer.concat(came).length < size) {
        const { length } = client.receiveFromSync(target, WAIT);
        came.push(Buffer.from(target.subarray(0, length)));
      }
      expect(Buffer.concat(came).equals(data)).toBe(true);
      child.kill("SIGKILL");
      await child.exited;
      if (kind === "path") rmSync(names.text("echo"), { force: true });
    }
  });

  withSocat(`${connect} with socktype=5 carries records both ways`, async () => {
    using names = new Names(kind);
    using listener = Socket.create("unix", "seqpacket");
    listener.bind(names.address("server"));
    listener.listen();
    const peer = `${connect}:${names.text("server")},socktype=5`;
    const child = Bun.spawn(["socat", "-b", "65536", "-", peer], {
      stdin: "pipe",
      stderr: "inherit",
    });
    using _ = ending(child);
    const reader = child.stdout.getReader();
    using served = listener.acceptSync(WAIT);
    const target = Buffer.alloc(65536);
    for (const size of socatSizes) {
      const data = randomPayload(size);
      child.stdin.write(data);
      await child.stdin.flush();
      expect(served.receiveSync(target, WAIT)).toBe(size);
      expect(target.subarray(0, size).equals(data)).toBe(true);
      served.sendSync(data, { ...WAIT, flags: MSG_EOR });
      expect((await readBytes(reader, size)).equals(data)).toBe(true);
    }
    child.stdin.end();
    const message = new Message({ vectors: [target] });
    expect(served.receiveMessageSync(message, WAIT)).toBe(0);
    expect(message.flags & MSG_EOR).toBe(0);
  });

  withSocat(`${listen} with socktype=5 sends records back`, async () => {
    using names = new Names(kind);
    const peer = `${listen}:${names.text("echo")},socktype=5,fork`;
    const child = Bun.spawn(["socat", "-b", "65536", peer, "PIPE"], { stderr: "inherit" });
    using _ = ending(child);
    const to = names.address("echo");
    await until(() => canConnect("seqpacket", to));
    for (let round = 0; round < 3; round++) {
      using client = Socket.create("unix", "seqpacket");
      client.connectSync(to, WAIT);
      const target = Buffer.alloc(65536);
      for (const size of socatSizes) {
        const data = randomPayload(size);
        client.sendSync(data, WAIT);
        expect(client.receiveSync(target, WAIT)).toBe(size);
        expect(target.subarray(0, size).equals(data)).toBe(true);
      }
    }
  });
});

withPython("python3 gets open descriptors from a message, and gives them back", async () => {
  using names = new Names("path");
  writeFileSync(names.text("file"), "the same file");
  using listener = Socket.create("unix", "stream");
  listener.bind(names.address("server"));
  listener.listen();
  const script = `
import array, os, socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.connect(bytes.fromhex(sys.argv[1]))
peer.settimeout(10)
data, fds, flags, _ = socket.recv_fds(peer, 16, 4)
print(data.decode(), len(fds), os.read(fds[0], 100).decode(), flush=True)
socket.send_fds(peer, [b"back"], fds)
peer.recv(1)
`;
  const child = Bun.spawn(["python3", "-c", script, names.hex("server")], { stderr: "inherit" });
  using _ = ending(child);
  using served = listener.acceptSync(WAIT);
  const fd = openSync(names.text("file"), "r");
  const message = new Message({ vectors: [Buffer.from("take")], controlBytes: 24 });
  const { control } = message;
  const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
  cmsghdr.cmsg_len.set(view, 0, cmsghdr.size + INT);
  cmsghdr.cmsg_level.set(view, 0, SOL_SOCKET);
  cmsghdr.cmsg_type.set(view, 0, SCM_RIGHTS);
  view.setInt32(cmsghdr.size, fd, true);
  message.controlLength = 24;
  served.sendMessageSync(message, WAIT);
  close(fd);
  expect(await firstLine(child.stdout)).toBe("take 1 the same file");
  const received = new Message({ vectors: [Buffer.alloc(16)], controlBytes: 24 });
  expect(served.receiveMessageSync(received, WAIT)).toBe(4);
  const came = new DataView(received.control.buffer, received.control.byteOffset);
  expect(cmsghdr.cmsg_type.get(came, 0)).toBe(SCM_RIGHTS);
  const back = came.getInt32(cmsghdr.size, true);
  // It is at the end of the file, where Python has read to.
  expect(readFileSync(`/proc/self/fd/${back}`, "utf8")).toBe("the same file");
  expect(readFileSync(back, "utf8")).toBe("");
  close(back);
});

/** Answers what is waiting, in one batch; returns how many were answered. */
function serveBatches(server: UnixDatagramSocket): () => number {
  const batch = new DatagramBatch();
  return () => {
    server.receiveBatchSync(batch, WAIT);
    return server.sendBatchSync(batch, 0, WAIT);
  };
}

/** Answers one datagram. */
function serveSingles(server: UnixDatagramSocket): () => number {
  const target = new Uint8Array(1 << 20);
  return () => {
    const { length, address } = server.receiveFromSync(target, WAIT);
    server.sendToSync(target.subarray(0, length), address, WAIT);
    return 1;
  };
}

/** Answers one datagram with the message that it came in. */
function serveMessages(server: UnixDatagramSocket): () => number {
  const target = new Uint8Array(1 << 20);
  const message = new Message();
  return () => {
    message.vectors = [target];
    const length = server.receiveMessageSync(message, WAIT);
    message.vectors = [target.subarray(0, length)];
    server.sendMessageSync(message, WAIT);
    return 1;
  };
}
