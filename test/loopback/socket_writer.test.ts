/** The buffered writer of a stream: see SocketWriter. */
import { describe, expect, test } from "bun:test";
import { ClosedError, SystemError, TimeoutError, type WriterOptions } from "bun-sockets";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { randomPayload } from "../support/strangers.ts";
import { fillUp, socketPair, tcpPair } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const SHORT = { timeoutMs: 20 };
const MEBIBYTE = 1 << 20;

function makeWriter(options?: WriterOptions) {
  const pair = socketPair();
  return { ...pair, writer: pair.left.writer(options), reader: pair.right.reader() };
}

/** What the peer has got, when the writer has sent all and ended. */
async function written(peer: ReturnType<typeof makeWriter>): Promise<Buffer> {
  const all = peer.reader.readAll(LONG);
  await peer.writer.end(LONG);
  return Buffer.from(await all);
}

describe("write()", () => {
  test("collects small pieces, and flush() sends them with one system call", async () => {
    using peer = makeWriter();
    const { writer } = peer;
    using sent = replaceLibc("send", (send) => send);
    for (let i = 0; i < 1000; i++) {
      if (i % 3 === 0) await writer.write(`${i},`);
      else if (i % 3 === 1) writer.writeSync(Buffer.from(`${i},`));
      else
        expect(writer.tryWrite(new DataView(new Uint8Array(Buffer.from(`${i},`)).buffer))).toBe(
          `${i},`.length,
        );
    }
    const wanted = `${Array.from({ length: 1000 }, (_, i) => i).join(",")},`;
    expect([writer.buffered, sent.calls, peer.right.unreadBytes]).toEqual([wanted.length, 0, 0]);
    await writer.flush(LONG);
    expect([writer.buffered, sent.calls]).toEqual([0, 1]);
    expect(`${await written(peer)}`).toBe(wanted);
  });

  test("makes of text what TextEncoder makes of it, halves of pairs included", async () => {
    using peer = makeWriter({ bufferBytes: 4096 });
    const { writer } = peer;
    const parts = [
      "",
      "plain",
      "grüße",
      "\u{1f600}",
      "\ud800",
      "\udc00x",
      "\ufeff",
      "\uffff",
      "\0",
    ];
    let wanted = "";
    for (const text of parts) {
      const { length } = new TextEncoder().encode(text);
      // 0 bytes are taken like any other number.
      expect([writer.tryWrite(text), writer.buffered]).toEqual([
        length,
        Buffer.byteLength(wanted) + length,
      ]);
      writer.writeSync(text);
      writer.writeLineSync(text);
      wanted += `${text.toWellFormed().repeat(2)}${text.toWellFormed()}\n`;
    }
    expect((await written(peer)).toHex()).toBe(Buffer.from(wanted).toHex());
  });

  test("writes text also behind a rest of the caller's that is as long as the buffer", async () => {
    using peer = makeWriter({ bufferBytes: 16 });
    const { writer } = peer;
    fillUp(peer.left);
    const borrowed = new Uint8Array(16).fill(7);
    expect(() => writer.writeSync(borrowed, SHORT)).toThrow(TimeoutError);
    const before = peer.right.reader();
    while (before.buffered > 0 || before.tryRead(new Uint8Array(MEBIBYTE)) !== undefined);
    await writer.flush(LONG);
    for (const text of ["ab", "cd"]) expect(writer.tryWrite(text)).toBe(2);
    await writer.flush(LONG);
    const target = new Uint8Array(20);
    expect(await before.readInto(target, LONG)).toBe(20);
    expect(target.toHex()).toBe(`${"07".repeat(16)}61626364`);
  });

  test("sends what is large from the caller's memory, behind what was collected", async () => {
    using peer = makeWriter();
    const { writer } = peer;
    const large = randomPayload(3 * MEBIBYTE);
    let direct = 0;
    using _ = replaceLibc("send", (send) => (fd, buffer, length, flags) => {
      if ((buffer as Uint8Array).buffer === large.buffer) direct++;
      return send(fd, buffer, length, flags);
    });
    const reading = peer.reader.readAll(LONG);
    await writer.write("head");
    await writer.write(large, LONG);
    expect(writer.buffered).toBe(0);
    await writer.write("tail");
    await writer.end(LONG);
    const wanted = Buffer.concat([Buffer.from("head"), large, Buffer.from("tail")]);
    expect(wanted.equals(await reading)).toBe(true);
    expect(direct).toBeGreaterThan(0);
  });

  test("never writes into the caller's memory, whatever its length", async () => {
    using peer = makeWriter({ bufferBytes: 1000 });
    const data = new Uint8Array(1000).fill(1);
    await peer.writer.write(data, LONG);
    await peer.writer.write(new Uint8Array(1000).fill(2), LONG);
    await peer.writer.write("text");
    await peer.writer.writeLine("line");
    expect(data.every((byte) => byte === 1)).toBe(true);
    expect((await written(peer)).length).toBe(2009);
  });

  test("calls that are not waited for keep their order, whatever their form and length", async () => {
    using peer = makeWriter({ bufferBytes: 1000 });
    const { writer } = peer;
    const reading = peer.reader.readAll(LONG);
    const pieces = Array.from({ length: 400 }, (_, i) =>
      Buffer.from(`${i}:`.repeat(1 + Math.floor(Math.random() * (i % 7 === 0 ? 9000 : 50)))),
    );
    const calls = pieces.map((piece, i) =>
      i % 2 === 0 ? writer.write(piece, LONG) : writer.write(`${piece}`, LONG),
    );
    await Promise.all(calls);
    await writer.end(LONG);
    expect(Buffer.concat(pieces).equals(await reading)).toBe(true);
  });

  test("waits when the buffer is full: a peer that does not read holds the writer up", async () => {
    using peer = makeWriter();
    fillUp(peer.left);
    const { writer } = peer;
    let accepted = 0;
    const writing = (async () => {
      for (let i = 0; i < 100; i++) {
        await writer.write(new Uint8Array(10_000), LONG);
        accepted++;
      }
    })();
    for (let i = 0; i < 50; i++) await new Promise(setImmediate);
    expect(accepted).toBe(6);
    expect(writer.buffered).toBe(70_000);
    const reading = peer.reader.readAll(LONG);
    await writing;
    await writer.end(LONG);
    expect((await reading).length).toBeGreaterThanOrEqual(1_000_000);
  });
});

describe("what was written is sent once and in order", () => {
  test.each(["a timeout", "a blocking timeout", "an aborted signal", "a detached view"])(
    "after %s in the middle of it",
    async (why) => {
      using peer = makeWriter();
      const { writer } = peer;
      const large = randomPayload(4 * MEBIBYTE);
      const copy = Buffer.from(large);
      writer.writeSync("head");
      if (why === "a timeout") {
        const error = await writer.write(large, SHORT).catch((reason) => reason);
        expect(error).toBeInstanceOf(TimeoutError);
        expect(error.transferred).toBe(copy.length + 4 - writer.buffered);
      } else if (why === "a blocking timeout") {
        const error = systemErrorOf(() => writer.writeSync(large, SHORT));
        expect(error.transferred).toBe(copy.length + 4 - writer.buffered);
      } else {
        const controller = new AbortController();
        const writing = writer.write(large, { signal: controller.signal });
        expect(peer.right.unreadBytes).toBeGreaterThan(0);
        if (why === "an aborted signal") {
          controller.abort("gone");
          expect(await writing.catch((reason) => reason)).toBe("gone");
        } else {
          // Its memory is another's now: what was not sent is lost, and nothing else.
          (large.buffer as ArrayBuffer).transfer();
          const received = peer.reader.readExactly(peer.right.unreadBytes, LONG);
          expect(await writing.catch((reason) => reason)).toBeInstanceOf(TypeError);
          await received;
          await writer.write("tail", LONG);
          expect(`${(await written(peer)).subarray(-4)}`).toBe("tail");
          return;
        }
      }
      // The caller has his memory back.
      large.fill(0);
      const reading = peer.reader.readAll(LONG);
      await writer.write("tail", LONG);
      await writer.end(LONG);
      const wanted = Buffer.concat([Buffer.from("head"), copy, Buffer.from("tail")]);
      expect(wanted.equals(await reading)).toBe(true);
    },
  );

  test("flush() keeps what it could not send in time, and tells what it did", async () => {
    using peer = makeWriter();
    const { writer } = peer;
    const filled = fillUp(peer.left);
    writer.writeSync("kept");
    expect(await writer.flush(SHORT).catch((error) => error)).toBeInstanceOf(TimeoutError);
    expect(caught(() => writer.flushSync(SHORT))).toBeInstanceOf(TimeoutError);
    expect(writer.tryFlush()).toBe(false);
    expect(await writer.end(SHORT).catch((error) => error)).toBeInstanceOf(TimeoutError);
    expect([writer.buffered, writer.ended]).toEqual([4, false]);
    await peer.reader.readExactly(filled, LONG);
    expect(writer.tryFlush()).toBe(true);
    expect(`${await written(peer)}`).toBe("kept");
  });

  test("a send that fails in parts sends each byte once", async () => {
    using peer = makeWriter({ bufferBytes: 100 });
    const { writer } = peer;
    let calls = 0;
    using _one = replaceLibc(
      "send",
      (send) => (fd, buffer, length, flags) =>
        calls++ % 3 === 0 ? failWith(4) : send(fd, buffer, Math.min(length as number, 7), flags),
    );
    using _many = replaceLibc("sendmsg", (sendmsg) => (...values) => {
      const turn = calls++ % 3;
      return turn === 0 ? failWith(4) : turn === 1 ? failWith(11) : sendmsg(...values);
    });
    const wanted = randomPayload(5000);
    const reading = peer.reader.readAll(LONG);
    for (let at = 0; at < wanted.length; at += 90)
      writer.writeSync(wanted.subarray(at, at + 90), LONG);
    await writer.end(LONG);
    expect(wanted.equals(await reading)).toBe(true);
  });
});

describe("end()", () => {
  test("sends the rest and the end; the other direction goes on, and nothing more is taken", async () => {
    using peer = makeWriter();
    const { writer, reader, left, right } = peer;
    writer.writeSync("last words");
    await writer.end(LONG);
    expect(writer.ended).toBe(true);
    expect(`${Buffer.from(await reader.readAll(LONG))}`).toBe("last words");
    for (const call of [
      () => writer.writeSync("a"),
      () => writer.tryWrite("a"),
      () => writer.writeLineSync("a"),
    ])
      expect(systemErrorOf(call).code).toBe("EPIPE");
    expect(await writer.write("a").catch((error) => error.code)).toBe("EPIPE");
    await writer.end();
    writer.endSync();
    await right.sendAll("answer", LONG);
    right.shutdown("write");
    expect(`${Buffer.from(await left.reader().readAll(LONG))}`).toBe("answer");
    expect(left.descriptor).toBeGreaterThan(0);
  });

  test("takes nothing while it waits", async () => {
    using peer = makeWriter();
    const filled = fillUp(peer.left);
    peer.writer.writeSync("rest");
    const ending = peer.writer.end(LONG);
    expect(systemErrorOf(() => peer.writer.writeSync("a")).code).toBe("EPIPE");
    const all = await peer.reader.readAll(LONG);
    await ending;
    expect(all.length).toBe(filled + 4);
  });
});

describe("a peer that is gone", () => {
  test("is an error of the call, and no signal; what was not sent stays", async () => {
    using peer = makeWriter();
    peer.right.close();
    peer.writer.writeSync("nobody");
    for (let i = 0; i < 3; i++)
      expect(systemErrorOf(() => peer.writer.flushSync()).code).toBe("EPIPE");
    expect(await peer.writer.flush().catch((error) => error.code)).toBe("EPIPE");
    expect(await peer.writer.end().catch((error) => error.code)).toBe("EPIPE");
    expect([peer.writer.buffered, peer.writer.discard(), peer.writer.buffered]).toEqual([6, 6, 0]);
  });

  test("ends a write that waits", async () => {
    using pair = tcpPair();
    const writing = pair.left.writer().write(new Uint8Array(32 * MEBIBYTE), LONG);
    await pair.right.receiveExactly(new Uint8Array(MEBIBYTE), LONG);
    pair.right.reset();
    const error = await writing.catch((reason) => reason);
    expect(error).toBeInstanceOf(SystemError);
    expect(["ECONNRESET", "EPIPE"]).toContain(error.code);
  });

  test("and a socket that is closed end calls that wait, and refuse others", async () => {
    using peer = makeWriter();
    const writing = peer.writer.write(new Uint8Array(4 * MEBIBYTE), LONG);
    const flushing = peer.writer.flush(LONG);
    await new Promise(setImmediate);
    peer.left.close();
    const error = await writing.catch((reason) => reason);
    expect(error).toBeInstanceOf(ClosedError);
    expect(error.transferred).toBeGreaterThan(0);
    expect(await flushing.catch((reason) => reason)).toBeInstanceOf(ClosedError);
    for (const call of [
      () => peer.writer.writeSync("a"),
      () => peer.writer.flushSync(),
      () => peer.writer.tryFlush(),
      () => peer.writer.endSync(),
    ])
      expect(caught(call)).toBeInstanceOf(ClosedError);
  });
});

test("discard() drops what waits, and answers who waits for it", async () => {
  using peer = makeWriter();
  const filled = fillUp(peer.left);
  const writing = peer.writer.write(new Uint8Array(4 * MEBIBYTE), LONG);
  expect(peer.writer.discard()).toBe(4 * MEBIBYTE);
  await writing;
  expect((await written(peer)).length).toBe(filled);
});

describe("text", () => {
  test.each([
    ["utf-8", "lf", Buffer.from("\u00e9\u{1f600}\n1\n2\n")],
    ["utf-16le", "crlf", Buffer.from("\u00e9\u{1f600}\r\n1\r\n2\r\n", "utf16le")],
    ["utf-16be", "cr", Buffer.from("\u00e9\u{1f600}\r1\r2\r", "utf16le").swap16()],
  ] as const)("goes out as %s with %s", async (encoding, newline, wanted) => {
    using peer = makeWriter({ encoding, newline });
    const { writer } = peer;
    expect([writer.encoding, writer.newline]).toEqual([encoding, newline]);
    writer.writeLineSync("\u00e9\u{1f600}");
    await writer.writeText("1\n");
    writer.writeTextSync("2\n");
    expect(wanted.equals(await written(peer))).toBe(true);
  });

  test("what the encoding has no bytes for is refused, and nothing of it is taken", async () => {
    using peer = makeWriter({ encoding: "latin1" });
    const { writer } = peer;
    await writer.writeLine("\u00e4\u00ff");
    const error = caught(() => writer.writeLineSync("abc\u20ac"));
    expect(error).toBeInstanceOf(RangeError);
    expect(error.message).toBe("Cannot send U+20ac at 3: latin1 does not have it");
    expect(await writer.write("\u0100").catch((reason) => reason)).toBeInstanceOf(RangeError);
    peer.left.writer({ encoding: "ascii" });
    expect(caught(() => writer.writeSync("\u00e4"))).toBeInstanceOf(RangeError);
    expect([...(await written(peer))]).toEqual([0xe4, 0xff, 0x0a]);
  });

  test("is cut at no character, however small the buffer", async () => {
    for (const bufferBytes of [1, 2, 3, 7, 64]) {
      using peer = makeWriter({ bufferBytes });
      const wanted = "\u{1f600}\u00e9a\u20ac".repeat(50);
      for (const part of ["", wanted, "x", wanted]) await peer.writer.writeLine(part, LONG);
      expect(`${await written(peer)}`).toBe(`\n${wanted}\nx\n${wanted}\n`);
    }
  });
});

test("tryWrite() takes all, a part of what is large, or nothing", async () => {
  using peer = makeWriter({ bufferBytes: 1000 });
  const { writer } = peer;
  const taken = writer.tryWrite(new Uint8Array(8 * MEBIBYTE)) as number;
  expect(taken).toBeGreaterThan(1000);
  expect(taken).toBeLessThan(8 * MEBIBYTE);
  expect(writer.tryWrite(new Uint8Array(8 * MEBIBYTE))).toBeUndefined();
  expect(writer.tryWrite(new Uint8Array(999))).toBe(999);
  expect(writer.tryWrite("ab")).toBeUndefined();
  expect(writer.tryWrite("a")).toBe(1);
  expect(writer.buffered).toBe(1000);
  expect((await written(peer)).length).toBe(taken + 1000);
});

describe("arguments", () => {
  test("wrong ones are refused before anything is taken", async () => {
    using peer = makeWriter();
    const { writer, left } = peer;
    for (const call of [
      () => writer.writeSync(1 as unknown as string),
      () => writer.writeSync([] as unknown as string),
      () => writer.writeSync(new Uint8Array(new SharedArrayBuffer(1))),
      () => writer.writeLineSync(Buffer.from("a") as unknown as string),
      () => writer.writeTextSync(1 as unknown as string),
      () => writer.writeSync("a", { timeoutMs: Number.NaN }),
      () => writer.flushSync({ timeoutMs: -1 }),
      () => writer.writePacketSync(new Uint8Array(256), 1),
      () => writer.writePacketSync("a", 3 as 2),
      () => left.writer({ bufferBytes: 0 }),
      () => left.writer({ encoding: "no-such" }),
      () => left.writer({ encoding: 1 as unknown as string }),
      () => left.writer({ newline: "\n" as "lf" }),
      () => left.writer(null as unknown as WriterOptions),
    ])
      expect(caught(call).name).toMatch(/^(Type|Range)Error$/);
    expect(await writer.write("a", { signal: AbortSignal.abort("no") }).catch((e) => e)).toBe("no");
    expect(await writer.write(1 as unknown as string).catch((e) => e)).toBeInstanceOf(TypeError);
    expect(await writer.writeText(1 as unknown as string).catch((e) => e)).toBeInstanceOf(
      TypeError,
    );
    expect(writer.buffered).toBe(0);
    expect(left.writer()).toBe(writer);
    writer.writeSync("");
    writer.writeSync(new Uint8Array(0));
    expect((await written(peer)).length).toBe(0);
  });
});
