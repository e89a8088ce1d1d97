/**
 * Programs that share no code with this library, as peers of its streams and records: python3's
 * socket, socat and nc, each as client and as server, over IPv4 and IPv6. What other files have of
 * them is not here: bytes and descriptors over Unix sockets (unix_strangers), whole transfers and
 * HTTP (http_strangers), and first words of each (stream_socket).
 */
import { describe, expect } from "bun:test";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  Message,
  SocketOption,
  type SystemError,
  TcpListener,
  TcpSocket,
  TimeoutError,
  UnixListener,
  UnixSeqpacketSocket,
} from "bun-sockets";
import { MSG_EOR, MSG_TRUNC } from "bun-sockets/sys";
import { systemErrorOf } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";
import { fillUp } from "../support/streams.ts";

// What is on PATH may be a script that looks for the program: a third of a second for each test.
const PYTHON = Bun.which("python3")
  ? Bun.spawnSync(["python3", "-c", "import sys; print(sys.executable)"]).stdout.toString().trim()
  : "python3";
const ALONE = ["-I", "-S", "-c"];

const timeoutMs = 10_000;
const LONG = { timeoutMs };
const SHORT = { timeoutMs: 20 };
const AT_ONCE = { timeoutMs: 0 };
const MEBIBYTE = 1 << 20;
const TEST_MS = 30_000;

const withPython = testIf(requires("python3"));
const withSocat = testIf(requires("socat"));
const withNc = testIf(requires("nc") ?? otherNc());

// -N and the words that are looked for belong to the netcat of OpenBSD.
function otherNc(): string | undefined {
  const { stderr } = Bun.spawnSync(["nc", "-h"]);
  return stderr.toString().startsWith("OpenBSD netcat") ? undefined : "needs OpenBSD's nc";
}

const families = [
  ["IPv4", "127.0.0.1"],
  ["IPv6", "[::1]"],
] as const;
const roles = ["client", "server"] as const;
const places = families.flatMap(([family, host]) =>
  roles.map((role) => [role, family, host] as const),
);

// Connected with us as `peer`, whichever role it was given; what it is told comes line by line, and
// what it says at the end is JSON.
const PRELUDE = `
import fcntl, hashlib, json, select, socket, struct, sys
role, host, port = sys.argv[1], sys.argv[2].strip("[]"), int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
if role == "server":
    listener = socket.create_server((host, 0), family=family)
    print(listener.getsockname()[1], flush=True)
    peer, _ = listener.accept()
else:
    peer = socket.create_connection((host, port))
peer.settimeout(20)
def told():
    return sys.stdin.readline().strip()
def say(what):
    print(json.dumps(what), flush=True)
def exactly(count):
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            break
        data += part
    return data
def everything():
    data = b""
    while part := peer.recv(1 << 20):
        data += part
    return data
def digest(data):
    return hashlib.sha256(data).hexdigest()
def resets():
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
`;

/** A connection with a Python program, which ends with the block. */
class Python implements Disposable {
  readonly socket: TcpSocket;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  #said = "";
  readonly #reader: { read(): Promise<{ done: boolean; value?: Uint8Array | undefined }> };

  private constructor(socket: TcpSocket, child: Bun.Subprocess<"pipe", "pipe", "inherit">) {
    this.socket = socket;
    this.#child = child;
    this.#reader = child.stdout.getReader();
  }

  static async meet(
    [role, , host]: (typeof places)[number],
    script: string,
    options: Buffers = {},
  ): Promise<Python> {
    const run = (port: number) =>
      Bun.spawn([PYTHON, ...ALONE, PRELUDE + script, role, host, `${port}`], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
      });
    if (role === "server") {
      const child = run(0);
      const port = await firstLine(child.stdout);
      return new Python(await TcpSocket.connect(`${host}:${port}`, { ...LONG, ...options }), child);
    }
    using listener = TcpListener.listen(`${host}:0`, options);
    const child = run(listener.localAddress.port);
    return new Python(await listener.accept(LONG), child);
  }

  /** Has it go on. */
  async tell(word = ""): Promise<void> {
    this.#child.stdin.write(`${word}\n`);
    await this.#child.stdin.flush();
  }

  /** What it says next. */
  async says(): Promise<unknown> {
    for (;;) {
      const [line, ...rest] = this.#said.split("\n");
      if (rest.length > 0) {
        this.#said = rest.join("\n");
        return JSON.parse(line as string);
      }
      const { value, done } = await this.#reader.read();
      if (done || !value) throw new Error(`Expected python3 to say more than ${this.#said}`);
      this.#said += Buffer.from(value).toString();
    }
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  [Symbol.dispose](): void {
    this.socket.close();
    this.#child.kill("SIGKILL");
  }
}

function digest(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

async function reasonOf(call: Promise<unknown>): Promise<SystemError> {
  return call.then(
    () => {
      throw new Error("Expected the call to fail");
    },
    (reason) => reason,
  );
}

type Buffers = { readonly receiveBufferBytes?: number; readonly sendBufferBytes?: number };

for (const place of places) {
  /** Registers a test with a Python program that runs the script once it is connected. */
  const python = (
    name: string,
    script: string,
    body: (socket: TcpSocket, peer: Python) => Promise<void>,
    options?: Buffers,
  ) =>
    withPython(
      `python3 as ${place[0]} over ${place[1]} ${name}`,
      async () => {
        using peer = await Python.meet(place, script, options);
        await body(peer.socket, peer);
      },
      TEST_MS,
    );

  python(
    "ends its direction first, and gets all that we send after",
    `
peer.sendall(b"question")
peer.shutdown(socket.SHUT_WR)
data = everything()
say([len(data), digest(data)])
`,
    async (socket, peer) => {
      expect(text(await socket.reader().readAll(LONG))).toBe("question");
      expect(socket.reader().ended).toBe(true);
      expect([socket.tryReceive(new Uint8Array(1)), socket.connected]).toEqual([0, true]);
      const answer = randomPayload(MEBIBYTE);
      await socket.sendAll(answer.subarray(0, 1000), LONG);
      await socket.writer().write(answer.subarray(1000), LONG);
      await socket.writer().end(LONG);
      expect(await peer.says()).toEqual([answer.length, digest(answer)]);
    },
  );

  python(
    "sees the end of our direction first, and we get all that it sends after",
    `
question = everything()
say(question.decode())
import os
answer = os.urandom(1 << 20)
peer.sendall(answer)
say(digest(answer))
peer.close()
`,
    async (socket, peer) => {
      socket.sendAllSync("question", LONG);
      socket.shutdown("write");
      expect(systemErrorOf(() => socket.sendSync("more")).code).toBe("EPIPE");
      expect(await peer.says()).toBe("question");
      const answer = await socket.reader({ limitBytes: 2 * MEBIBYTE }).readAll(LONG);
      expect([answer.length, digest(answer)]).toEqual([MEBIBYTE, `${await peer.says()}`]);
      expect(await socket.receive(new Uint8Array(1), LONG)).toBe(0);
    },
  );

  python(
    "ends with us at the same time, through our Web Streams",
    `
peer.sendall(b"theirs")
peer.shutdown(socket.SHUT_WR)
say(everything().decode())
`,
    async (socket, peer) => {
      const writer = socket.writable.getWriter();
      await writer.write("ours");
      await writer.close();
      expect(await peer.says()).toBe("ours");
      expect(socket.descriptor).toBeGreaterThan(-1);
      const readable: ReadableStream<Uint8Array> = socket.readable;
      expect(await new Response(readable).text()).toBe("theirs");
      // Both have ended.
      expect(socket.descriptor).toBe(-1);
    },
  );

  python(
    "stops reading: what we send is still taken, as Linux does",
    `
peer.shutdown(socket.SHUT_RD)
say("deaf")
peer.sendall(b"but not dumb")
told()
`,
    async (socket, peer) => {
      expect(await peer.says()).toBe("deaf");
      expect(socket.sendAllSync("unheard", LONG)).toBe(7);
      const target = new Uint8Array(12);
      expect(await socket.receiveExactly(target, LONG)).toBe(12);
      expect(text(target)).toBe("but not dumb");
      expect(socket.sendAllSync("unheard", LONG)).toBe(7);
      await peer.tell();
    },
  );

  python(
    "sends urgent bytes, which we receive in every form beside the stream",
    `
for byte in b"123":
    peer.sendall(b"abc")
    peer.send(bytes([byte]), socket.MSG_OOB)
    peer.sendall(b"def")
    told()
say(peer.recv(1).decode())
`,
    async (socket, peer) => {
      for (const [form, byte] of [
        ["promise", "1"],
        ["Sync", "2"],
        ["try", "3"],
      ] as const) {
        const came =
          form === "Sync" ? socket.receiveUrgentSync(LONG) : await socket.receiveUrgent(LONG);
        expect(String.fromCharCode(came as number)).toBe(byte);
        // It was taken, and the stream is without it.
        expect(socket.tryReceiveUrgent()).toBeUndefined();
        const target = new Uint8Array(6);
        expect(socket.receiveSync(target, LONG)).toBe(3);
        expect(socket.atMark).toBe(true);
        expect(socket.receiveExactlySync(target.subarray(3), LONG)).toBe(3);
        expect([text(target), socket.atMark]).toEqual(["abcdef", false]);
        await peer.tell();
      }
      socket.sendAllSync(".");
      expect(await peer.says()).toBe(".");
    },
  );

  python(
    "sends an urgent byte into our stream where oobInline is on",
    `
told()
peer.sendall(b"ab")
peer.send(b"!", socket.MSG_OOB)
peer.sendall(b"cd")
peer.shutdown(socket.SHUT_WR)
say("sent")
told()
`,
    async (socket, peer) => {
      socket.setOption(SocketOption.oobInline, true);
      await peer.tell();
      expect(await peer.says()).toBe("sent");
      const parts: [string, boolean][] = [];
      for (;;) {
        const bytes = await socket.receiveBytes(10, LONG);
        if (bytes.length === 0) break;
        parts.push([text(bytes), socket.atMark]);
      }
      // A receive stops at the mark, and the urgent byte is the first behind it.
      expect(parts.map(([part]) => part).join("")).toBe("ab!cd");
      expect(parts.filter(([, atMark]) => atMark)).toHaveLength(1);
      const before = parts.slice(0, parts.findIndex(([, atMark]) => atMark) + 1);
      expect(before.map(([part]) => part).join("")).toBe("ab");
      expect(systemErrorOf(() => socket.tryReceiveUrgent()).code).toBe("EINVAL");
      await peer.tell();
    },
  );

  python(
    "receives our urgent bytes, apart and in its stream",
    `
SIOCATMARK = 0x8905
def at_mark():
    return struct.unpack("i", fcntl.ioctl(peer, SIOCATMARK, struct.pack("i", 0)))[0]
select.select([], [], [peer], 20)
urgent = peer.recv(1, socket.MSG_OOB)
first = exactly(3)
mark = at_mark()
say([urgent.decode(), first.decode(), mark, exactly(3).decode()])
peer.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
say("ready")
select.select([], [], [peer], 20)
first = exactly(3)
mark = at_mark()
say([first.decode(), mark, exactly(4).decode()])
`,
    async (socket, peer) => {
      await socket.sendAll("abc", LONG);
      await socket.sendUrgent(0x21, LONG);
      await socket.sendAll("def", LONG);
      expect(await peer.says()).toEqual(["!", "abc", 1, "def"]);
      expect(await peer.says()).toBe("ready");
      socket.sendAllSync("abc", LONG);
      socket.sendUrgentSync(0x3f, LONG);
      socket.sendAllSync("def", LONG);
      expect(await peer.says()).toEqual(["abc", 1, "?def"]);
    },
  );

  python(
    "reads our lines with either end, long ones, and the last one without",
    `
file = peer.makefile("r", encoding="utf-8", newline="")
say([line if len(line) < 100 else [len(line), line[-2:]] for line in file])
`,
    async (socket, peer) => {
      const writer = socket.writer({ newline: "crlf" });
      await writer.writeLine("one", LONG);
      writer.writeLineSync("", LONG);
      writer.configure({ newline: "lf" });
      await writer.writeLine("zwei \u00e4\u20ac", LONG);
      await writer.writeLine("x".repeat(300_000), LONG);
      writer.configure({ newline: "crlf" });
      await writer.writeText("a\nb\n", LONG);
      await writer.write("the last", LONG);
      await writer.end(LONG);
      expect(await peer.says()).toEqual([
        "one\r\n",
        "\r\n",
        "zwei \u00e4\u20ac\n",
        [300_001, "x\n"],
        "a\r\n",
        "b\r\n",
        "the last",
      ]);
    },
  );

  python(
    "sends lines of every kind, cut anywhere, and we read each once",
    `
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for part in (b"one\\r", b"\\ntw", b"o\\n\\r", b"\\nz\\xc3", b"\\xa4h\\n", b"x" * 300000, b"\\r\\n", b"the last"):
    peer.sendall(part)
    told()
peer.shutdown(socket.SHUT_WR)
told()
`,
    async (socket, peer) => {
      const reader = socket.reader({ limitBytes: 1 << 20 });
      const lines: (string | undefined)[] = [];
      // The first half of a line's end is one: nobody waits for the second, which is passed over.
      lines.push(await reader.readLine(LONG));
      await peer.tell();
      expect((await reasonOf(reader.readLine(SHORT))).code).toBe("ETIMEDOUT");
      await peer.tell();
      lines.push(await reader.readLine(LONG), reader.readLineSync(LONG));
      await peer.tell();
      expect(systemErrorOf(() => reader.readLineSync(SHORT)).code).toBe("ETIMEDOUT");
      await peer.tell();
      lines.push(await reader.readLine(LONG));
      for (let i = 0; i < 2; i++) await peer.tell();
      const long = reader.readLineSync(LONG);
      expect([long?.length, long?.replaceAll("x", "")]).toEqual([300_000, ""]);
      for (let i = 0; i < 2; i++) await peer.tell();
      for await (const line of reader.lines()) lines.push(line);
      expect(lines).toEqual(["one", "two", "", "z\u00e4h", "the last"]);
      expect(await reader.readLine(LONG)).toBeUndefined();
      await peer.tell();
    },
  );

  python(
    "sends a line that is too long: it is refused, and can still be read",
    `
peer.sendall(b"short\\r\\n" + b"y" * 5000 + b"\\r\\nafter\\r\\n")
told()
`,
    async (socket, peer) => {
      const reader = socket.reader({ limitBytes: 1000, newline: "crlf" });
      expect(await reader.readLine(LONG)).toBe("short");
      expect((await reasonOf(reader.readLine(LONG))).code).toBe("EMSGSIZE");
      expect(systemErrorOf(() => reader.readLineSync(LONG)).code).toBe("EMSGSIZE");
      reader.configure({ limitBytes: 10_000 });
      expect((await reader.readLine(LONG))?.length).toBe(5000);
      expect(reader.readLineSync(LONG)).toBe("after");
      await peer.tell();
    },
  );

  for (const [form, run] of [
    ["receiveExactly()", (socket, target) => socket.receiveExactly(target, LONG)],
    ["receiveExactlySync()", async (socket, target) => socket.receiveExactlySync(target, LONG)],
    ["readInto()", (socket, target) => socket.reader().readInto(target, LONG)],
  ] as [string, (socket: TcpSocket, target: Uint8Array) => Promise<number>][]) {
    python(
      `resets the connection while ${form} waits for the rest: what came is told`,
      `
peer.sendall(b"x" * 1000)
told()
resets()
`,
      async (socket, peer) => {
        const target = new Uint8Array(3000);
        const name = `${socket.remoteAddress}`;
        await peer.tell();
        const error = await reasonOf(run(socket, target));
        expect([error.code, error.syscall, error.transferred]).toEqual([
          "ECONNRESET",
          "recv",
          1000,
        ]);
        expect(text(target.subarray(0, 1001))).toBe(`${"x".repeat(1000)}\0`);
        // Told once; then it is the end, and a send has nobody to go to.
        expect(socket.tryReceive(target)).toBe(0);
        expect(systemErrorOf(() => socket.sendSync("a")).code).toBe("EPIPE");
        expect(`${socket.remoteAddress}`).toBe(name);
        expect(socket.localAddress.port).toBeGreaterThan(0);
      },
    );
  }

  for (const [form, run] of [
    ["sendAll()", (socket, data) => socket.sendAll(data, LONG)],
    ["a writer", (socket, data) => socket.writer().write(data, LONG)],
  ] as [string, (socket: TcpSocket, data: Uint8Array) => Promise<unknown>][]) {
    python(
      `resets the connection while ${form} waits for room`,
      `
say(len(exactly(1000)))
resets()
`,
      async (socket, peer) => {
        const data = new Uint8Array(64 * MEBIBYTE);
        const sending = reasonOf(run(socket, data));
        expect(await peer.says()).toBe(1000);
        const error = await sending;
        expect(["ECONNRESET", "EPIPE"]).toContain(error.code);
        if (form === "sendAll()") expect(error.transferred).toBeGreaterThanOrEqual(1000);
        expect(systemErrorOf(() => socket.sendAllSync("a")).code).toBe("EPIPE");
        expect(await peer.exited).toBe(0);
      },
    );
  }

  python(
    "is told of our reset, and loses nothing of what it had read",
    `
first = exactly(5)
say(first.decode())
try:
    say(len(peer.recv(10)))
except ConnectionResetError:
    say("reset")
try:
    peer.send(b"a")
    say("sent")
except BrokenPipeError:
    say("broken")
`,
    async (socket, peer) => {
      socket.sendAllSync("hello");
      expect(await peer.says()).toBe("hello");
      socket.reset();
      expect([await peer.says(), await peer.says()]).toEqual(["reset", "broken"]);
    },
  );

  python(
    "reads slowly: a send that runs out of time goes on where it stopped",
    `
total = hashlib.sha256()
count = 0
while (word := told()) != "all":
    part = exactly(int(word))
    total.update(part)
    count += len(part)
rest = everything()
total.update(rest)
say([count + len(rest), total.hexdigest()])
`,
    async (socket, peer) => {
      const data = randomPayload(4 * MEBIBYTE);
      let sent = 0;
      for (let i = 0; sent < data.length; i++) {
        const part = data.subarray(sent);
        try {
          sent += i % 2 === 0 ? await socket.sendAll(part, SHORT) : socket.sendAllSync(part, SHORT);
        } catch (error) {
          expect(error).toBeInstanceOf(TimeoutError);
          sent += (error as TimeoutError).transferred ?? 0;
        }
        if (i === 0) expect(sent).toBeLessThan(data.length);
        // Never more than what it has: it would wait for us.
        await peer.tell(`${Math.floor(sent / 4)}`);
        if (i === 1) break;
      }
      await peer.tell("all");
      const writer = socket.writer();
      const writing = writer.write(data.subarray(sent), LONG).then(() => writer.end(LONG));
      await writing;
      expect(await peer.says()).toEqual([data.length, digest(data)]);
    },
    { sendBufferBytes: 65_536 },
  );

  python(
    "writes slowly: receives that run out of time lose nothing",
    `
peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for byte in b"slow but sure\\n":
    told()
    peer.sendall(bytes([byte]))
told()
`,
    async (socket, peer) => {
      const reader = socket.reader();
      const codes = new Set<string>();
      const wanted = "slow but sure";
      for (let i = 0; i < wanted.length; i++) {
        await peer.tell();
        // Until the byte is there: the line is not.
        await reader.peek(i + 1, LONG);
        codes.add(
          i % 2 === 0
            ? (await reasonOf(reader.readLine({ timeoutMs: 1 }))).code
            : systemErrorOf(() => reader.readLineSync(AT_ONCE)).code,
        );
      }
      const line = reader.readLine(LONG);
      await peer.tell();
      expect([await line, [...codes]]).toEqual([wanted, ["ETIMEDOUT"]]);
      await peer.tell();
    },
  );

  python(
    "neither reads nor writes: nothing waits longer than it may, and the connection stays",
    `
told()
say([digest(exactly(int(told()))), len(everything())])
`,
    async (socket, peer) => {
      expect((await reasonOf(socket.receive(new Uint8Array(1), SHORT))).code).toBe("ETIMEDOUT");
      const chunk = new Uint8Array(65_536);
      let taken = fillUp(socket);
      // The kernels may still move what there is, and have room again.
      for (let refused = 0; refused < 2; ) {
        const sending =
          refused === 0 ? (async () => socket.sendSync(chunk, SHORT))() : socket.send(chunk, SHORT);
        const sent = await sending.catch((reason) => reason);
        if (typeof sent === "number") taken += sent;
        else expect(sent).toBeInstanceOf(TimeoutError);
        refused = typeof sent === "number" ? 0 : refused + 1;
      }
      await peer.tell();
      await peer.tell(`${taken}`);
      await socket.sendAll("behind it", LONG);
      socket.shutdown("write");
      expect(await peer.says()).toEqual([digest(new Uint8Array(taken)), 9]);
    },
    { sendBufferBytes: 65_536 },
  );
}

describe.each(families)("a listener over %s", (_family, host) => {
  withPython(
    "hands out a connection that python3 has reset while it waited, and the next one",
    async () => {
      using listener = TcpListener.listen(`${host}:0`);
      const child = Bun.spawnSync([
        PYTHON,
        ...ALONE,
        `${PRELUDE}\nresets()\nnext = socket.create_connection((host, port))\nnext.sendall(b"next")`,
        "client",
        host,
        `${listener.localAddress.port}`,
      ]);
      expect(child.exitCode).toBe(0);
      using first = await listener.accept(LONG);
      expect((await reasonOf(first.receive(new Uint8Array(1), LONG))).code).toBe("ECONNRESET");
      expect(first.remoteAddress?.port).toBeGreaterThan(0);
      using second = listener.acceptSync(LONG);
      expect(text(await second.receiveBytes(9, LONG))).toBe("next");
    },
  );
});

/** What socat calls our side, and what it calls itself as a server. */
function socatWords(host: string): { connect: string; listen: string } {
  const version = host.startsWith("[") ? 6 : 4;
  return { connect: `TCP${version}:${host}`, listen: `TCP${version}-LISTEN:0,bind=${host}` };
}

/** socat between its standard input and output, and us. */
class Socat implements Disposable {
  readonly socket: TcpSocket;
  readonly child: Bun.Subprocess<"pipe", "pipe", "inherit" | "pipe">;

  private constructor(
    socket: TcpSocket,
    child: Bun.Subprocess<"pipe", "pipe", "inherit" | "pipe">,
  ) {
    this.socket = socket;
    this.child = child;
  }

  static async meet(
    [role, , host]: (typeof places)[number],
    addressOptions: string,
    ...options: readonly string[]
  ): Promise<Socat> {
    const { connect, listen } = socatWords(host);
    if (role === "client") {
      using listener = TcpListener.listen(`${host}:0`);
      const to = `${connect}:${listener.localAddress.port}${addressOptions}`;
      const child = Bun.spawn(["socat", ...options, "-", to], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
      });
      return new Socat(await listener.accept(LONG), child);
    }
    const child = Bun.spawn(["socat", "-dd", ...options, "-", `${listen}${addressOptions}`], {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "pipe",
    });
    let said = "";
    while (!said.includes("listening on")) {
      const more = await firstLine(child.stderr);
      if (more === "") break;
      said += `${more}\n`;
    }
    const port = /listening on .*:(\d+)/.exec(said)?.[1];
    if (!port) throw new Error(`Expected socat to listen: ${said}`);
    return new Socat(await TcpSocket.connect(`${host}:${port}`, LONG), child);
  }

  async write(data: string): Promise<void> {
    this.child.stdin.write(data);
    await this.child.stdin.flush();
  }

  [Symbol.dispose](): void {
    this.socket.close();
    this.child.kill("SIGKILL");
  }
}

for (const place of places) {
  const name = `socat as ${place[0]} over ${place[1]}`;

  withSocat(
    `${name} ends its direction with shut-down, and prints what we send after`,
    async () => {
      using peer = await Socat.meet(place, ",shut-down", "-t", "20");
      const { socket, child } = peer;
      await peer.write("question");
      await child.stdin.end();
      expect(await socket.reader().readText(LONG)).toBe("question");
      const answer = "answer ".repeat(100_000);
      const printed = new Response(child.stdout).text();
      await socket.sendAll(answer, LONG);
      socket.shutdown("write");
      expect([await printed, await child.exited]).toEqual([answer, 0]);
    },
    TEST_MS,
  );

  withSocat(
    `${name} sees our end, and with -t has time for what it sends after`,
    async () => {
      using peer = await Socat.meet(place, "", "-t", "20");
      const { socket, child } = peer;
      await socket.writer().writeLine("all of it", LONG);
      await socket.writer().end(LONG);
      expect(await firstLine(child.stdout)).toBe("all of it");
      expect((await reasonOf(socket.reader().readLine(SHORT))).code).toBe("ETIMEDOUT");
      await peer.write("late\nlater");
      await child.stdin.end();
      const lines: string[] = [];
      for await (const line of socket.lines()) lines.push(line);
      expect(lines).toEqual(["late", "later"]);
      expect(await child.exited).toBe(0);
    },
    TEST_MS,
  );

  withSocat(
    `${name} keeps its direction open with shut-none until we end ours`,
    async () => {
      using peer = await Socat.meet(place, ",shut-none", "-t", "20");
      const { socket, child } = peer;
      await peer.write("a question without an end");
      await child.stdin.end();
      const target = Buffer.alloc(25);
      expect(await socket.receiveExactly(target, LONG)).toBe(25);
      expect((await reasonOf(socket.receive(target, SHORT))).code).toBe("ETIMEDOUT");
      expect(socket.tryReceive(target)).toBeUndefined();
      socket.shutdown("write");
      expect(await socket.receive(target, LONG)).toBe(0);
      expect(await child.exited).toBe(0);
    },
    TEST_MS,
  );

  withSocat(
    `${name} translates the ends of lines with crnl, in both directions`,
    async () => {
      using peer = await Socat.meet(place, ",crnl", "-t", "20");
      const { socket, child } = peer;
      const printed = new Response(child.stdout).text();
      await peer.write("one\n\nlast");
      await child.stdin.end();
      const reader = socket.reader({ newline: "crlf" });
      expect(reader.readLineSync(LONG)).toBe("one");
      expect([...reader.linesSync(LONG)]).toEqual(["", "last"]);
      const writer = socket.writer({ newline: "crlf" });
      await writer.writeLine("eins", LONG);
      await writer.writeLine("y".repeat(20_000), LONG);
      await writer.write("zuletzt", LONG);
      await writer.end(LONG);
      expect(await printed).toBe(`eins\n${"y".repeat(20_000)}\nzuletzt`);
    },
    TEST_MS,
  );
}

describe.each(families)("nc over %s", (family, host) => {
  const words = [family === "IPv4" ? "-4" : "-6", host.replace(/[[\]]/g, "")];
  const spawn = (...command: readonly string[]) =>
    Bun.spawn(["nc", ...command], { stdin: "pipe", stdout: "pipe", stderr: "inherit" });

  withNc(
    "without -N never ends its direction: a read times out, and our close ends it",
    async () => {
      using listener = TcpListener.listen(`${host}:0`);
      const child = spawn(...words, `${listener.localAddress.port}`);
      using _ = ending(child);
      using served = await listener.accept(LONG);
      child.stdin.write("no end");
      await child.stdin.end();
      const reader = served.reader();
      expect(text(await reader.readExactly(6, LONG))).toBe("no end");
      expect((await reasonOf(reader.readLine(SHORT))).code).toBe("ETIMEDOUT");
      const printed = new Response(child.stdout).text();
      await served.sendAll("but an answer\n", LONG);
      served.close();
      expect([await printed, await child.exited]).toEqual(["but an answer\n", 0]);
    },
    TEST_MS,
  );

  withNc(
    "with -C and -N speaks a line protocol, and ends it",
    async () => {
      using listener = TcpListener.listen(`${host}:0`);
      const child = spawn("-C", "-N", ...words, `${listener.localAddress.port}`);
      using _ = ending(child);
      using served = await listener.accept(LONG);
      const reader = served.reader({ newline: "crlf" });
      const writer = served.writer({ newline: "crlf" });
      const printed = new Response(child.stdout).text();
      child.stdin.write("EHLO\nQUIT\n");
      await child.stdin.flush();
      for (const wanted of ["EHLO", "QUIT"]) {
        expect(await reader.readLine(LONG)).toBe(wanted);
        await writer.writeLine(`250 ${wanted}`, LONG);
      }
      await child.stdin.end();
      expect(await reader.readLine(LONG)).toBeUndefined();
      await writer.end(LONG);
      expect(await printed).toBe("250 EHLO\r\n250 QUIT\r\n");
    },
    TEST_MS,
  );

  withNc("with -z only looks whether we listen: a connection that ends at once", async () => {
    using listener = TcpListener.listen(`${host}:0`);
    const { port } = listener.localAddress;
    expect(await spawn("-z", ...words, `${port}`).exited).toBe(0);
    using served = await listener.accept(LONG);
    expect(await served.reader().readLine(LONG)).toBeUndefined();
    listener.close();
    const refused = Bun.spawn(["nc", "-z", ...words, `${port}`], { stderr: "ignore" });
    expect(await refused.exited).toBe(1);
  });
});

// Answers "length" with a record's length, "flags" with what recvmsg(2) says of it.
const SEQPACKET = `
import json, os, socket, sys
role, path = sys.argv[1:3]
if role == "server":
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    peer, _ = listener.accept()
else:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(path)
peer.settimeout(20)
for size in (5, 0, 1, 70000, 0):
    peer.send(b"x" * size)
peer.shutdown(socket.SHUT_WR)
lengths = []
for _ in range(6):
    data, _, flags, _ = peer.recvmsg(1000)
    lengths.append([len(data), bool(flags & socket.MSG_TRUNC)])
print(json.dumps(lengths), flush=True)
`;

describe.each(roles)("python3 as %s of seqpacket records", (role) => {
  withPython(
    "keeps their ends: empty ones are records, a long one is cut and told, and then it is the end",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
      try {
        const path = join(folder, "records");
        const run = () =>
          Bun.spawn([PYTHON, ...ALONE, SEQPACKET, role, path], {
            stdout: "pipe",
            stderr: "inherit",
          });
        const met = async () => {
          if (role === "client") {
            using listener = UnixListener.listen(path, { type: "seqpacket" });
            const child = run();
            return { child, socket: await listener.accept(LONG) };
          }
          const child = run();
          expect(await firstLine(child.stdout)).toBe("ready");
          return { child, socket: await UnixSeqpacketSocket.connect(path, LONG) };
        };
        const { child, socket } = await met();
        using _ = ending(child);
        using records: UnixSeqpacketSocket = socket;
        expect(records.peerCredentials?.processId).toBe(child.pid);

        const message = new Message({ vectors: Buffer.alloc(1000) });
        const told: unknown[] = [];
        for (let i = 0; i < 7; i++) {
          const length =
            i % 2 === 0
              ? await records.receiveMessage(message, LONG)
              : records.receiveMessageSync(message, LONG);
          const { flags, originalLength } = message;
          const isRecord = (flags & MSG_EOR) !== 0;
          told.push([length, isRecord, (flags & MSG_TRUNC) !== 0, originalLength]);
        }
        expect(told).toEqual([
          [5, true, false, 5],
          [0, true, false, 0],
          [1, true, false, 1],
          [1000, true, true, 70_000],
          [0, true, false, 0],
          [0, false, false, 0],
          [0, false, false, 0],
        ]);

        expect(await records.send("three", LONG)).toBe(5);
        expect(records.sendSync(new Uint8Array(0), LONG)).toBe(0);
        expect(records.trySend(new Uint8Array(1))).toBe(1);
        expect(await records.send(new Uint8Array(2000), LONG)).toBe(2000);
        const vectors = [Buffer.from("in "), Buffer.from("two")];
        expect(await records.sendMessage(new Message({ vectors }), LONG)).toBe(6);
        records.shutdown("write");
        expect(await firstLine(child.stdout)).toBe(
          "[[5, false], [0, false], [1, false], [1000, true], [6, false], [0, false]]",
        );
        expect(await child.exited).toBe(0);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    TEST_MS,
  );
});
