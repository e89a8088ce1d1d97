/** Whole transfers, urgent data, ends and resets of streams: see StreamSocket. */
import { describe, expect, test } from "bun:test";
import {
  ClosedError,
  Socket,
  SocketOption,
  StreamSocket,
  type SystemError,
  TcpSocket,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { MSG_MORE, MSG_OOB, MSG_PEEK } from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";
import { fillUp, socketPair, streamKinds, tcpPair, unixPair } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const SHORT = { timeoutMs: 20 };
const AT_ONCE = { timeoutMs: 0 };
const MEBIBYTE = 1 << 20;

async function codeOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => "done",
    (error) => error.code ?? error,
  );
}

describe("adopt() and pair()", () => {
  test("take stream sockets only", () => {
    using pair = tcpPair();
    using same = StreamSocket.adopt(pair.left.descriptor);
    expect([same.type, same.family, same.connected]).toEqual(["stream", "ipv4", true]);
    using udp = UdpSocket.open("ipv4");
    expect(caught(() => StreamSocket.adopt(udp.descriptor))).toBeInstanceOf(TypeError);
    expect(caught(() => StreamSocket.pair({ type: "datagram" }))).toBeInstanceOf(TypeError);
    using other = same.duplicate();
    expect(other).toBeInstanceOf(StreamSocket);
    expect(other.descriptor).not.toBe(same.descriptor);
  });
});

describe.each(streamKinds)("sendAll() and receiveExactly() over %s", (_name, make) => {
  test("carry everything, in promise and in blocking form", async () => {
    using pair = make();
    const wanted = randomPayload(3 * MEBIBYTE);
    const target = new Uint8Array(wanted.length);
    const [sent, received] = await Promise.all([
      pair.left.sendAll(wanted, LONG),
      pair.right.receiveExactly(target, LONG),
    ]);
    expect([sent, received]).toEqual([wanted.length, wanted.length]);
    expect(wanted.equals(target)).toBe(true);
    expect(pair.right.sendAllSync("\u00e4\u20ac", LONG)).toBe(5);
    const words = new Uint16Array(2);
    expect(pair.left.receiveExactlySync(words, LONG)).toBe(4);
    expect(`${Buffer.from(pair.left.receiveBytesSync(9, LONG))}`).toBe(
      Buffer.from("\u20ac").subarray(2).toString(),
    );
  });

  test("carry many views of many kinds in few system calls, and strings between them", async () => {
    using pair = make();
    const views = Array.from({ length: 300 }, (_, i) => randomPayload(i % 5));
    using calls = replaceLibc("sendmsg", (sendmsg) => sendmsg);
    const wanted = Buffer.concat(views);
    expect(pair.left.sendAllSync(views, LONG)).toBe(wanted.length);
    expect(calls.calls).toBeLessThanOrEqual(Math.ceil(300 / 64));
    expect(wanted.equals(pair.right.receiveBytesSync(10_000, LONG))).toBe(true);
    const words = Uint16Array.of(0x6161, 0x6262);
    const mixed = [
      "x",
      words,
      new DataView(words.buffer, 1, 2),
      words.buffer,
      "",
      new Uint8Array(0),
    ];
    expect(await pair.left.sendAll(mixed, LONG)).toBe(11);
    expect(`${Buffer.from(pair.right.receiveBytesSync(100, LONG))}`).toBe("xaabbabaabb");
    expect(await pair.left.sendAll([], LONG)).toBe(0);
    expect(pair.left.sendAllSync(new Uint8Array(0), AT_ONCE)).toBe(0);
  });

  test("tell what was transferred when the time is over", async () => {
    using pair = make();
    const { left, right } = pair;
    const large = new Uint8Array(32 * MEBIBYTE);
    const error = await left.sendAll(large, SHORT).catch((reason) => reason);
    expect(error).toBeInstanceOf(TimeoutError);
    const again = systemErrorOf(() => left.sendAllSync([large, large], SHORT));
    expect(again).toBeInstanceOf(TimeoutError);
    const sent = error.transferred + (again.transferred ?? 0);
    left.shutdown("write");
    const target = new Uint8Array(sent + 1);
    expect(await right.receiveExactly(target, LONG)).toBe(sent);
    right.sendAllSync("abc");
    const short = await left.receiveExactly(new Uint8Array(4), SHORT).catch((reason) => reason);
    expect([short.code, short.transferred]).toEqual(["ETIMEDOUT", 3]);
  });

  test("give fewer bytes only at the end of the stream", async () => {
    using pair = make();
    pair.left.sendAllSync("abc");
    pair.left.shutdown("write");
    expect(await pair.right.receiveExactly(new Uint8Array(10), LONG)).toBe(3);
    expect(pair.right.receiveExactlySync(new Uint8Array(10), LONG)).toBe(0);
  });

  test("fail with EPIPE or ECONNRESET, and without a signal, when the peer is gone", async () => {
    using pair = make();
    pair.right.close();
    const large = new Uint8Array(MEBIBYTE);
    const codes = [
      await codeOf(pair.left.sendAll(large, LONG)),
      await codeOf(pair.left.sendAll([large, large], LONG)),
      systemErrorOf(() => pair.left.sendAllSync(large, LONG)).code,
      systemErrorOf(() => pair.left.trySendAll([large])).code,
    ];
    for (const code of codes) expect(["EPIPE", "ECONNRESET"]).toContain(code as string);
    expect(codes[3]).toBe("EPIPE");
  });

  test("end when the socket is closed, detached, or the call is aborted", async () => {
    for (const [how, code] of [
      ["close", "EBADF"],
      ["detach", "ECANCELED"],
      ["abort", "stop"],
    ] as const) {
      using pair = make();
      const { left } = pair;
      const controller = new AbortController();
      const options = how === "abort" ? { signal: controller.signal } : LONG;
      const large = new Uint8Array(32 * MEBIBYTE);
      const calls = [
        left.sendAll(large, options),
        left.sendAll([large], options),
        left.receiveExactly(large, options),
        left.reader().readAll(options),
      ];
      const codes = Promise.all(calls.map(codeOf));
      await new Promise(setImmediate);
      if (how === "abort") controller.abort("stop");
      else if (how === "close") left.close();
      else Socket.adopt(left.detach(), { own: true }).close();
      expect(await codes).toEqual(calls.map(() => code));
    }
  });
});

test("several sendAll() that wait are served in order, and never mixed", async () => {
  using pair = socketPair();
  const pieces = Array.from({ length: 8 }, (_, i) => new Uint8Array(MEBIBYTE / 4).fill(i));
  const sending = Promise.all(pieces.map((piece) => pair.left.sendAll(piece, LONG)));
  const all = new Uint8Array((8 * MEBIBYTE) / 4);
  expect(await pair.right.receiveExactly(all, LONG)).toBe(all.length);
  await sending;
  expect(Buffer.concat(pieces).equals(all)).toBe(true);
});

test("a large sendAll() lets timers have their turn, however fast the peer is", async () => {
  using pair = socketPair();
  // It has waited before: then no event tells that there is room.
  const filled = fillUp(pair.left);
  const waiting = pair.left.sendAll("x", LONG);
  await pair.right.receiveExactly(new Uint8Array(filled + 1), LONG);
  await waiting;
  let isOver = false;
  let ticks = 0;
  // A kernel that always has room.
  using fake = replaceLibc("send", (send) => (fd, buffer, length, flags) => {
    const until = performance.now() + 0.2;
    while (performance.now() < until);
    return isOver ? send(fd, buffer, length, flags) : Math.min(length as number, 1 << 18);
  });
  const timer = setInterval(() => ticks++, 1);
  expect(await pair.left.sendAll(new Uint8Array(64 * MEBIBYTE), LONG)).toBe(64 * MEBIBYTE);
  clearInterval(timer);
  isOver = true;
  expect(fake.calls).toBe(256);
  expect(ticks).toBeGreaterThan(5);
});

test("a data view that is detached while its send waits is refused", async () => {
  using pair = socketPair();
  const filled = fillUp(pair.left);
  const data = new Uint8Array(10);
  const sending = pair.left.sendAll([data, "x"], LONG);
  data.buffer.transfer();
  await pair.right.receiveExactly(new Uint8Array(filled), LONG);
  expect(await sending.catch((error) => error)).toBeInstanceOf(TypeError);
});

describe("trySendAll()", () => {
  test("gives the unsent rest as views of the same memory, from the right byte on", async () => {
    using pair = socketPair();
    const data = randomPayload(4 * MEBIBYTE);
    const views = [
      data.subarray(0, 10),
      new Uint16Array(data.buffer, data.byteOffset + 10, 45),
      data.subarray(100),
    ];
    let rest = pair.left.trySendAll(views);
    expect(rest.length).toBe(1);
    expect(rest[0]?.buffer).toBe(data.buffer);
    const received = new Uint8Array(data.length);
    const receiving = pair.right.receiveExactly(received, LONG);
    while (rest.length > 0) {
      await new Promise(setImmediate);
      rest = pair.left.trySendAll(rest);
    }
    await receiving;
    expect(data.equals(received)).toBe(true);
    expect(pair.left.trySendAll(data.subarray(0, 5))).toEqual([]);
    expect(pair.left.trySendAll([])).toEqual([]);
  });

  test("goes on where a short count or an interruption stopped it, in whichever view", () => {
    for (const part of [1, 2, 3, 5, 8]) {
      using pair = socketPair();
      let calls = 0;
      using _ = replaceLibc("sendmsg", () => () => (calls++ % 3 === 0 ? failWith(4) : part));
      using _one = replaceEntry("send", () => (calls++ % 3 === 0 ? failWith(4) : 1));
      const views = Array.from({ length: 9 }, () => new Uint8Array(7));
      expect(pair.left.sendAllSync(views, LONG)).toBe(63);
    }
  });

  test("says what was sent before an error", () => {
    using pair = socketPair();
    let calls = 0;
    using _ = replaceLibc("sendmsg", () => () => (calls++ === 0 ? 9 : failWith(32)));
    const views = Array.from({ length: 3 }, () => new Uint8Array(7));
    const error = systemErrorOf(() => pair.left.sendAllSync(views));
    expect([error.code, error.syscall, error.transferred]).toEqual(["EPIPE", "sendmsg", 9]);
  });
});

describe("arguments", () => {
  test("wrong ones are refused before anything is sent", async () => {
    using pair = socketPair();
    const { left, right } = pair;
    const bytes = new Uint8Array(1);
    const shared = new Uint8Array(new SharedArrayBuffer(1));
    for (const call of [
      () => left.sendAllSync([bytes, 1 as unknown as string]),
      () => left.sendAllSync([bytes, shared]),
      () => left.sendAllSync(null as unknown as string),
      () => left.sendAllSync(bytes, { flags: MSG_OOB }),
      () => left.sendAllSync(bytes, { timeoutMs: -1 }),
      () => left.sendAllSync(bytes, { timeoutMs: Number.NaN }),
      () => left.trySendAll(["a" as unknown as Uint8Array]),
      () => left.trySendAll(bytes, { flags: MSG_PEEK }),
      () => left.receiveExactlySync(new Uint8Array(0)),
      () => left.trySendUrgent(256),
      () => left.sendUrgentSync(-1),
      () => left.spliceToSync({} as StreamSocket),
      () => left.spliceToSync(right, { length: -1 }),
      () => left.spliceToSync(right, null as unknown as object),
      () => left.sendFileSync(-1),
      () => left.sendFileSync({} as string),
      () => left.sendFileSync("/etc/passwd", { offset: -1 }),
      () => left.sendFileSync("/etc/passwd", { length: 1.5 }),
    ])
      expect(caught(call).name).toMatch(/^(Type|Range)Error$/);
    for (const call of [
      left.sendAll([bytes, shared]),
      left.sendAll(bytes, { signal: {} as AbortSignal }),
      left.receiveExactly(new Uint8Array(0)),
      left.sendUrgent(1.5),
      left.spliceTo(1 as unknown as StreamSocket),
      left.sendFile(null as unknown as string),
      left.sendFile("/etc/passwd", { length: -1 }),
    ])
      expect((await call.catch((error) => error)).name).toMatch(/^(Type|Range)Error$/);
    expect(await left.sendAll(bytes, { signal: AbortSignal.abort("no") }).catch((e) => e)).toBe(
      "no",
    );
    expect(right.unreadBytes).toBe(0);
    const endless = new Proxy([], { get: (_, key) => (key === "length" ? 2 ** 40 : 0) });
    expect(caught(() => left.sendAllSync(endless))).toBeInstanceOf(RangeError);
    expect(left.sendAllSync(bytes, { flags: MSG_MORE, timeoutMs: 2 ** 31 })).toBe(1);
  });

  test("everything is refused on a closed socket, and closing twice is nothing", async () => {
    const { left, right } = socketPair();
    left.close();
    left.close();
    left.reset();
    for (const call of [
      () => left.sendAllSync("a"),
      () => left.trySendAll([]),
      () => left.receiveExactlySync(new Uint8Array(1)),
      () => left.sendFileSync("/etc/passwd"),
      () => left.spliceToSync(right),
      () => right.spliceToSync(left),
      () => left.trySendUrgent(1),
      () => left.tryReceiveUrgent(),
      () => left.receiveUrgentSync(),
      () => left.resetOnClose(),
      () => left.atMark,
      () => left.unreadBytes,
      () => left.unsentBytes,
      () => left.reader().readLineSync(),
    ])
      expect(caught(call)).toBeInstanceOf(ClosedError);
    const calls = [
      left.sendAll("a"),
      left.receiveExactly(new Uint8Array(1)),
      left.sendFile("/etc/passwd"),
      left.spliceTo(right),
      left.sendUrgent(1),
      left.receiveUrgent(),
      left.reader().readLine(),
      left.writer().flush(),
    ];
    for (const result of await Promise.allSettled(calls))
      expect(result).toMatchObject({ status: "rejected", reason: expect.any(ClosedError) });
    right.close();
  });
});

describe("unreadBytes and unsentBytes", () => {
  test.each(streamKinds)("tell what waits in the queues of %s", async (_name, make) => {
    using pair = make();
    const { left, right } = pair;
    expect([right.unreadBytes, left.unsentBytes]).toEqual([0, 0]);
    left.sendAllSync("0123456789");
    expect(right.unreadBytes).toBe(10);
    right.receiveExactlySync(new Uint8Array(4));
    expect(right.unreadBytes).toBe(6);
    expect(right.receiveSync(new Uint8Array(100), { flags: MSG_PEEK })).toBe(6);
    expect(right.unreadBytes).toBe(6);
    fillUp(left);
    expect(left.unsentBytes).toBeGreaterThan(0);
  });

  test("tell of the first datagram, and are refused where there is no queue", () => {
    using udp = UdpSocket.bind("127.0.0.1:0");
    udp.sendToSync("abc", udp.localAddress);
    udp.sendToSync("defgh", udp.localAddress);
    expect(udp.unreadBytes).toBe(3);
    using listener = Socket.create("ipv4", "stream");
    listener.bind("127.0.0.1:0");
    listener.listen();
    expect(systemErrorOf(() => listener.unreadBytes).code).toBe("EINVAL");
    expect(systemErrorOf(() => listener.unsentBytes).code).toBe("EINVAL");
  });
});

describe("urgent data", () => {
  test("goes past the stream, and the mark stays where it was sent", async () => {
    using pair = tcpPair();
    const { left, right } = pair;
    left.sendAllSync("before");
    await left.sendUrgent(0x21, LONG);
    left.sendAllSync("after");
    expect(await right.receiveUrgent(LONG)).toBe(0x21);
    expect(right.tryReceiveUrgent()).toBeUndefined();
    expect(right.atMark).toBe(false);
    // A receive does not go past the mark.
    expect(right.receiveBytesSync(100, LONG).length).toBe(6);
    expect(right.atMark).toBe(true);
    expect(`${Buffer.from(right.receiveBytesSync(100, LONG))}`).toBe("after");
    expect(right.atMark).toBe(false);
  });

  test("wakes who waits for it, beside who waits for ordinary data", async () => {
    using pair = tcpPair();
    const { left, right } = pair;
    const ordinary = right.receiveBytes(10, LONG);
    const urgent = right.receiveUrgent(LONG);
    const second = right.receiveUrgent({ signal: AbortSignal.timeout(20) });
    await new Promise(setImmediate);
    left.sendUrgentSync(7, LONG);
    expect(await Promise.race([urgent, second])).toBe(7);
    left.sendAllSync("x");
    expect(`${Buffer.from(await ordinary)}`).toBe("x");
    await Promise.allSettled([second]);
  });

  test("waits in blocking form, and ends with the time or with the stream", async () => {
    using pair = tcpPair();
    const { left, right } = pair;
    left.sendAllSync("ordinary data is not what is waited for");
    expect(caught(() => right.receiveUrgentSync(SHORT))).toBeInstanceOf(TimeoutError);
    expect(await codeOf(right.receiveUrgent(SHORT))).toBe("ETIMEDOUT");
    expect(left.trySendUrgent(9)).toBe(true);
    expect(right.receiveUrgentSync(LONG)).toBe(9);
    const waiting = right.receiveUrgent(LONG);
    left.shutdown("write");
    expect(await waiting).toBeUndefined();
    expect(right.receiveUrgentSync(LONG)).toBeUndefined();
  });

  test("is refused while it is part of the stream, and atMark tells where", () => {
    using pair = tcpPair();
    const { left, right } = pair;
    right.setOption(SocketOption.oobInline, true);
    left.sendAllSync("a");
    left.sendUrgentSync(0x62);
    left.sendAllSync("c");
    const error = systemErrorOf(() => right.tryReceiveUrgent());
    expect([error.code, error.hint]).toEqual(["EINVAL", expect.stringContaining("oobInline")]);
    expect(`${Buffer.from(right.receiveBytesSync(9, LONG))}`).toBe("a");
    expect(right.atMark).toBe(true);
    expect(`${Buffer.from(right.receiveBytesSync(9, LONG))}`).toBe("bc");
  });

  test("goes over Unix streams too, or is refused by kernels before 5.15", async () => {
    using pair = socketPair();
    try {
      await pair.left.sendUrgent(0x55, LONG);
    } catch (error) {
      expect((error as SystemError).code).toBe("ENOTSUP");
      return;
    }
    expect(await pair.right.receiveUrgent(LONG)).toBe(0x55);
    const waiting = pair.right.receiveUrgent(LONG);
    pair.left.close();
    expect(await waiting).toBeUndefined();
  });

  test("who waits is told when the socket is closed or detached, and the connection ends", async () => {
    for (const how of ["close", "detach"] as const) {
      using pair = tcpPair();
      const waiting = codeOf(pair.right.receiveUrgent(LONG));
      await new Promise(setImmediate);
      if (how === "close") pair.right.close();
      else Socket.adopt(pair.right.detach(), { own: true }).close();
      expect(await waiting).toBe("EBADF");
      expect(await pair.left.receive(new Uint8Array(1), LONG)).toBe(0);
    }
  });
});

describe("ends", () => {
  test.each(streamKinds)("of one direction leave the other, over %s", async (_name, make) => {
    using pair = make();
    const { left, right } = pair;
    left.shutdown("write");
    expect(await right.receive(new Uint8Array(1), LONG)).toBe(0);
    expect(systemErrorOf(() => left.sendAllSync("a")).code).toBe("EPIPE");
    for (let i = 0; i < 3; i++) {
      right.sendAllSync(`more ${i}\n`);
      expect(await left.reader().readLine(LONG)).toBe(`more ${i}`);
    }
    right.shutdown("write");
    expect(await left.reader().readLine(LONG)).toBeUndefined();
  });

  test("reset() gives a TCP peer ECONNRESET, and drops what was not sent", async () => {
    for (const wait of [true, false]) {
      using pair = tcpPair();
      const receiving = wait ? codeOf(pair.right.receive(new Uint8Array(1), LONG)) : undefined;
      await new Promise(setImmediate);
      pair.left.reset();
      pair.left.reset();
      expect(await (receiving ?? codeOf(pair.right.receive(new Uint8Array(1), LONG)))).toBe(
        "ECONNRESET",
      );
      expect(systemErrorOf(() => pair.right.sendAllSync("a")).code).toBe("EPIPE");
    }
  });

  test("reset() gives a Unix peer the end, and what was not read of it ECONNRESET", async () => {
    using pair = unixPair();
    pair.left.reset();
    expect(await pair.right.receive(new Uint8Array(1), LONG)).toBe(0);
    using other = socketPair();
    other.right.sendAllSync("nobody reads this");
    other.left.close();
    expect(await codeOf(other.right.receive(new Uint8Array(1), LONG))).toBe("ECONNRESET");
  });
});

test("a fault of the kernel comes out as what it is", async () => {
  using pair = socketPair();
  {
    using _ = replaceEntry("sockatmark", () => failWith(25));
    expect(systemErrorOf(() => pair.left.atMark).code).toBe("ENOTTY");
  }
  {
    using _ = replaceEntry("ioctl", () => failWith(22));
    expect(systemErrorOf(() => pair.left.unreadBytes).syscall).toBe("ioctl");
  }
  {
    using _ = replaceEntry("fcntl", () => failWith(24));
    expect(await codeOf(pair.left.receiveUrgent(LONG))).toBe("EMFILE");
  }
});

// What programs that share no code with this library do with the same connection.
const withPython = testIf(requires("python3"));
const withSocat = testIf(requires("socat"));

const PYTHON = `
import socket, sys
def line(connection):
    data = b""
    while not data.endswith(b"\\n"):
        data += connection.recv(1)
    return data
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
connection.settimeout(20)
`;

async function python(script: string) {
  const child = Bun.spawn(["python3", "-c", PYTHON + script], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const port = Number(await firstLine(child.stdout));
  const { TcpSocket } = await import("bun-sockets");
  const socket = await TcpSocket.connect(`127.0.0.1:${port}`, LONG);
  return { socket, child, end: ending(child) };
}

describe("strangers", () => {
  withPython("python3 and this library talk in lines, of each other's ends", async () => {
    const { socket, child, end } = await python(`
file = connection.makefile("rwb")
for text in file:
    file.write(b"<" + text.strip() + b">\\r\\n")
    file.flush()
file.write(b"done")
file.flush()
connection.shutdown(socket.SHUT_WR)
`);
    using _end = end;
    using _ = socket;
    const writer = socket.writer();
    for (const text of ["one", "", "\u00e4\u20ac", "x".repeat(100_000)]) {
      await writer.writeLine(text, LONG);
      await writer.flush(LONG);
      expect(await socket.reader().readLine(LONG)).toBe(`<${text}>`);
    }
    // The half-close: python sees the end, and still answers.
    await writer.end(LONG);
    expect(await socket.reader().readLine(LONG)).toBe("done");
    expect(await socket.reader().readLine(LONG)).toBeUndefined();
    expect(await child.exited).toBe(0);
  });

  withPython("python3 and this library send each other urgent bytes", async () => {
    const { socket, child, end } = await python(`
connection.sendall(b"ab")
connection.send(b"!", socket.MSG_OOB)
connection.sendall(b"cd")
line(connection)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
import select
select.select([], [], [connection], 20)
urgent = connection.recv(1, socket.MSG_OOB)
rest = b""
while len(rest) < 4:
    rest += connection.recv(10)
connection.sendall(urgent + rest + b"\\n")
`);
    using _end = end;
    using _ = socket;
    expect(await socket.receiveUrgent(LONG)).toBe(0x21);
    expect(socket.receiveBytesSync(10, LONG).length).toBe(2);
    expect(socket.atMark).toBe(true);
    expect(`${Buffer.from(socket.receiveBytesSync(10, LONG))}`).toBe("cd");
    await socket.sendAll("go\nxy");
    await socket.sendUrgent(0x3f);
    await socket.sendAll("zw");
    expect(await socket.reader().readLine(LONG)).toBe("?xyzw");
    expect(await child.exited).toBe(0);
  });

  withSocat("socat and this library end one direction after the other", async () => {
    const { TcpListener } = await import("bun-sockets");
    using listener = TcpListener.listen("127.0.0.1:0");
    const to = `TCP4:127.0.0.1:${listener.localAddress.port}`;
    const child = Bun.spawn(["socat", "-t", "10", "-", to], { stdin: "pipe", stdout: "pipe" });
    using _end = ending(child);
    using socket = await listener.accept(LONG);
    child.stdin.write("one\r\ntwo\rthree");
    await child.stdin.end();
    const lines: string[] = [];
    for await (const line of socket.lines()) lines.push(line);
    expect(lines).toEqual(["one", "two", "three"]);
    await socket.writer().writeLine("answer");
    await socket.writer().end();
    expect(await new Response(child.stdout).text()).toBe("answer\n");
    expect(await child.exited).toBe(0);
  });

  withSocat(
    "socat gets and gives back what is larger than all buffers, over a Unix path",
    async () => {
      const { UnixSocket } = await import("bun-sockets");
      const { mkdtempSync, rmSync } = await import("node:fs");
      const { tmpdir } = await import("node:os");
      const folder = mkdtempSync(`${tmpdir()}/bun-sockets-`);
      const path = `${folder}/echo`;
      const child = Bun.spawn(["socat", `UNIX-LISTEN:${path}`, "EXEC:cat"]);
      using _end = ending(child);
      // The path is there before anybody listens on it.
      let connected: StreamSocket | undefined;
      while (!connected) {
        await new Promise(setImmediate);
        if (child.exitCode !== null) throw new Error("Expected socat to listen");
        connected = await UnixSocket.connect(path, LONG).catch(() => undefined);
      }
      using socket = connected;
      const wanted = randomPayload(2 * MEBIBYTE);
      const sending = socket
        .writer()
        .write(wanted, LONG)
        .then(() => socket.writer().end(LONG));
      expect(wanted.equals(await socket.reader().readAll(LONG))).toBe(true);
      await sending;
      rmSync(folder, { recursive: true });
    },
  );
});

test("receiveUrgent() refuses a socket that has no peer, and does not wait for one", async () => {
  using socket = TcpSocket.open("ipv4");
  const refused = expect.objectContaining({ code: "ENOTCONN" });
  expect(() => socket.receiveUrgentSync()).toThrow(refused);
  expect(() => socket.tryReceiveUrgent()).toThrow(refused);
  await expect(socket.receiveUrgent()).rejects.toEqual(refused);
});
