/** The buffered reader of a stream: see SocketReader. */
import { describe, expect, test } from "bun:test";
import {
  ClosedError,
  type Newline,
  type ReaderOptions,
  type SocketReader,
  SystemError,
  TimeoutError,
} from "bun-sockets";
import { EAGAIN } from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { randomPayload } from "../support/strangers.ts";
import { socketPair, streamKinds } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const AT_ONCE = { timeoutMs: 0 };
const KIBIBYTES = 64 * 1024;
const MEBIBYTE = 1 << 20;

/** A reader of what is written into it. */
function makeReader(options?: ReaderOptions) {
  const pair = socketPair();
  return {
    ...pair,
    reader: pair.right.reader(options),
    /** Sends, and ends the stream when it is told. */
    give(data: string | Uint8Array, ends = false): void {
      pair.left.sendAllSync(data, LONG);
      if (ends) pair.left.shutdown("write");
    },
  };
}

function text(bytes: Uint8Array | undefined): string | undefined {
  return bytes && Buffer.from(bytes).toString();
}

async function rejection(call: Promise<unknown>): Promise<SystemError> {
  const error = await call.then(
    () => undefined,
    (reason) => reason,
  );
  if (error instanceof SystemError) return error;
  throw new Error(`Expected the call to be rejected, found ${error}`);
}

async function allLines(reader: SocketReader): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of reader.lines()) lines.push(line);
  return lines;
}

describe("readLine()", () => {
  test("makes of bytes what TextDecoder makes of them, whether they are text or not", async () => {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    // Beginnings and parts of characters, byte order marks, and no ends of lines.
    const pieces = [[0xef, 0xbb, 0xbf], [0xc3], [0xa4], [0xe2, 0x82], [0xac], [0xf0, 0x9f], [0x98]];
    pieces.push([0xed, 0xa0, 0x80], [0xff], [0x41], [0xf5], [0xc0, 0x80], [0]);
    const lines = Array.from({ length: 300 }, (_, seed) => {
      const numbers = [seed, seed >> 2, seed * 7, seed * 31, seed >> 4];
      return Buffer.from(numbers.flatMap((n) => pieces[n % pieces.length] as number[]));
    });
    const data = Buffer.concat(lines.flatMap((line) => [line, Buffer.from("\n")]));
    for (const form of ["readLineSync", "linesSync"] as const) {
      using peer = makeReader();
      peer.give(data, true);
      const got =
        form === "linesSync"
          ? [...peer.reader.linesSync(LONG)]
          : lines.map(() => peer.reader.readLineSync(LONG));
      expect(got).toEqual(lines.map((line) => decoder.decode(line)));
    }
  });

  const CASES: readonly (readonly [Newline, string, readonly string[]])[] = [
    ["lf", "a\r\nb\rc\n\nd", ["a\r", "b\rc", "", "d"]],
    ["cr", "a\r\nb\rc\r\rd\r", ["a", "\nb", "c", "", "d"]],
    ["crlf", "a\nb\r\n\r\nc\rd\r\r\ne", ["a\nb", "", "c\rd\r", "e"]],
    ["any", "a\r\nb\rc\n\nd\r\n\r\r\ne", ["a", "b", "c", "", "d", "", "", "e"]],
  ];
  const ENCODINGS = ["utf-8", "utf-16le", "utf-16be", "latin1"] as const;
  const encode = (encoding: string, data: string): Buffer =>
    encoding === "utf-16be"
      ? Buffer.from(data, "utf16le").swap16()
      : Buffer.from(data, encoding as BufferEncoding);

  test.each(CASES)(
    "ends lines with %s, in every encoding, however they are cut",
    async (newline, data, lines) => {
      for (const encoding of ENCODINGS) {
        const bytes = encode(encoding, data);
        for (let piece = 1; piece <= bytes.length; piece++) {
          for (const form of ["readLine", "readLineSync", "lines", "linesSync"] as const) {
            using peer = makeReader({ newline, encoding });
            // Each receive gets a piece, as it would from a slow peer.
            using _ = replaceLibc(
              "recv",
              (recv) => (fd, buffer, length, flags) =>
                recv(fd, buffer, Math.min(length as number, piece), flags),
            );
            peer.give(bytes, true);
            const { reader } = peer;
            const found: (string | undefined)[] = [];
            if (form === "lines") found.push(...(await allLines(reader)));
            else if (form === "linesSync") found.push(...reader.linesSync(LONG));
            else
              for (
                let line = await reader[form](LONG);
                line !== undefined;
                line = await reader[form](LONG)
              )
                found.push(line);
            expect([encoding, piece, form, ...found]).toEqual([encoding, piece, form, ...lines]);
            expect([reader.ended, reader.buffered]).toEqual([true, 0]);
          }
        }
      }
    },
  );

  test('gives a line that ends with "\\r" at once, and drops the "\\n" that comes later', async () => {
    using peer = makeReader();
    const { reader } = peer;
    peer.give("one\r");
    expect(await reader.readLine(LONG)).toBe("one");
    const next = reader.readLine(LONG);
    peer.give("\ntwo\r");
    expect(await next).toBe("two");
    peer.give("\n12");
    expect(text(await reader.readExactly(2, LONG))).toBe("12");
    peer.give("\r");
    expect(await reader.readLine(LONG)).toBe("");
    peer.give("\n\n", true);
    const big = new Uint8Array(2 * KIBIBYTES);
    expect(await reader.read(big, LONG)).toBe(1);
    expect(await reader.readLine(LONG)).toBeUndefined();
  });

  test("gives the last line without an end, and then says that nothing is left", async () => {
    using peer = makeReader();
    peer.give("first\nlast", true);
    expect(await peer.reader.readLine(LONG)).toBe("first");
    expect(peer.reader.ended).toBe(false);
    expect(await peer.reader.readLine(LONG)).toBe("last");
    expect(peer.reader.ended).toBe(true);
    for (let i = 0; i < 3; i++) expect(await peer.reader.readLine(LONG)).toBeUndefined();
    expect(peer.reader.tryReadLine()).toBeUndefined();
  });

  test("refuses a line that is too long, and loses nothing of it", async () => {
    for (const newline of ["any", "lf", "crlf"] as const) {
      using peer = makeReader({ limitBytes: 10, newline });
      const end = newline === "lf" ? "\n" : "\r\n";
      peer.give(`0123456789${end}0123456789a${end}`);
      expect(peer.reader.readLineSync(LONG)).toBe("0123456789");
      const error = systemErrorOf(() => peer.reader.readLineSync(LONG));
      expect([error.code, error.syscall]).toEqual(["EMSGSIZE", "recv"]);
      expect(error.hint).toContain("limitBytes, 10");
      expect((await rejection(peer.reader.readLine(LONG))).code).toBe("EMSGSIZE");
      expect(await allLines(peer.reader).catch((reason) => reason.code)).toBe("EMSGSIZE");
      expect(peer.right.reader({ limitBytes: 11 }).readLineSync(LONG)).toBe("0123456789a");
    }
  });

  test("counts no half of an end as part of a line", async () => {
    using peer = makeReader({ limitBytes: 10, newline: "crlf" });
    const line = peer.reader.readLine(LONG);
    peer.give("0123456789\r");
    while (peer.right.unreadBytes > 0) await new Promise(setImmediate);
    await new Promise(setImmediate);
    peer.give("\n");
    expect(await line).toBe("0123456789");
  });

  test("refuses an endless line when the limit has come, and not before", async () => {
    using peer = makeReader();
    const { reader, left } = peer;
    const sending = left.sendAll(new Uint8Array(MEBIBYTE).fill(0x61), LONG);
    expect((await rejection(reader.readLine({ timeoutMs: 200 }))).code).toBe("ETIMEDOUT");
    await sending;
    peer.give("\n");
    expect((await reader.readLine(LONG))?.length).toBe(MEBIBYTE);
    const more = left.sendAll(new Uint8Array(MEBIBYTE + 1).fill(0x61), LONG);
    expect((await rejection(reader.readLine(LONG))).code).toBe("EMSGSIZE");
    await more;
    left.shutdown("write");
    expect((await reader.readAll(LONG)).length).toBe(MEBIBYTE + 1);
  });

  test("shows bytes that are no text as U+FFFD, and with `fatal` refuses and keeps them", async () => {
    const bytes = Buffer.from("good\nb\xffd\n\u00e4\n", "latin1");
    using peer = makeReader();
    peer.give(bytes, true);
    expect(await allLines(peer.reader)).toEqual(["good", "b\ufffdd", "\ufffd"]);
    using strict = makeReader({ fatal: true });
    strict.give(bytes, true);
    const found: string[] = [];
    const reading = (async () => {
      for await (const line of strict.reader.lines()) found.push(line);
    })();
    expect(await reading.catch((error) => error)).toBeInstanceOf(TypeError);
    expect(found).toEqual(["good"]);
    expect(caught(() => strict.reader.readLineSync(LONG))).toBeInstanceOf(TypeError);
    expect((await strict.reader.readUntil("\n", LONG))?.bytes).toEqual(
      Uint8Array.from([0x62, 0xff, 0x64]),
    );
  });

  test("latin1 is each byte as the character of its number", async () => {
    using peer = makeReader({ encoding: "latin1" });
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    peer.give(
      bytes.filter((byte) => byte !== 10 && byte !== 13),
      true,
    );
    const line = await peer.reader.readLine(LONG);
    expect(line).toBe(String.fromCharCode(...bytes.filter((b) => b !== 10 && b !== 13)));
  });
});

describe("lines()", () => {
  test("can be left and taken up again anywhere, and everything else goes on behind it", async () => {
    using peer = makeReader();
    const { reader } = peer;
    peer.give("1\n2\r\n3\n5\n12345rest\nlast|\u00e9\n", true);
    for await (const line of reader.lines()) if (line === "2") break;
    expect(reader.buffered).toBe(22);
    for await (const line of reader.lines()) {
      if (line === "3") continue;
      expect(text(await reader.readExactly(Number(line)))).toBe("12345");
      break;
    }
    const lines = reader.lines();
    expect(await lines.next()).toEqual({ value: "rest", done: false });
    expect(text((await reader.readUntil("|"))?.bytes)).toBe("last");
    expect(await lines.next()).toEqual({ value: "\u00e9", done: false });
    expect(await lines.next()).toEqual({ value: undefined, done: true });
    expect(await lines.return?.()).toEqual({ value: undefined, done: true });
  });

  test("answers steps that were not waited for one by one in order", async () => {
    using peer = makeReader();
    const lines = peer.reader.lines();
    const steps = Array.from({ length: 5 }, () => lines.next());
    peer.give("a\nb\nc\n");
    peer.give("d\n", true);
    expect((await Promise.all(steps)).map(({ value }) => value)).toEqual([
      "a",
      "b",
      "c",
      "d",
      undefined,
    ]);
  });

  test("ends when this program closes the socket, and throws what the peer does to it", async () => {
    using peer = makeReader();
    const waiting = allLines(peer.reader);
    await new Promise(setImmediate);
    peer.right.close();
    expect(await waiting).toEqual([]);
    expect(await allLines(peer.reader)).toEqual([]);
    using partly = makeReader();
    partly.give("one\ntwo\npart");
    const found: string[] = [];
    for await (const line of partly.reader.lines()) {
      found.push(line);
      partly.right.close();
    }
    expect(found).toEqual(["one", "two"]);
    expect(text(partly.reader.takeBuffered())).toBe("part");
    const [, make] = streamKinds[0];
    using tcp = make();
    const reset = allLines(tcp.right.reader());
    await tcp.left.sendAll("one\n");
    tcp.left.reset();
    expect(await reset.catch((error) => error.code)).toBe("ECONNRESET");
  });

  test("lets timers have their turn, although every line is there", async () => {
    using peer = makeReader();
    const count = 20_000;
    const sending = peer.left.sendAll("x\n".repeat(count), LONG);
    sending.then(() => peer.left.shutdown("write"));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    let lines = 0;
    for await (const _ of peer.reader.lines()) {
      lines++;
      const until = performance.now() + 0.002;
      while (performance.now() < until);
    }
    clearInterval(timer);
    expect(lines).toBe(count);
    expect(ticks).toBeGreaterThan(5);
  });

  test("reads many lines for one system call, and one promise a line", async () => {
    using peer = makeReader();
    const count = 10_000;
    const sending = peer.left.sendAll("0123456789\n".repeat(count), LONG);
    sending.then(() => peer.left.shutdown("write"));
    using received = replaceLibc("recv", (recv) => recv);
    expect((await allLines(peer.reader)).length).toBe(count);
    expect(received.calls).toBeLessThan(count / 100);
  });
});

describe("readExactly() and readInto()", () => {
  test("give exactly so many bytes, and fewer only at the end", async () => {
    using peer = makeReader();
    const { reader } = peer;
    peer.give("abcdefgh", true);
    expect(text(await reader.readExactly(3, LONG))).toBe("abc");
    expect(text(reader.readExactlySync(2, LONG))).toBe("de");
    expect((await reader.readExactly(0, LONG)).length).toBe(0);
    expect(reader.tryReadExactly(1)).toEqual(Uint8Array.from([0x66]));
    const target = new Uint8Array(5).fill(0x2d);
    expect(await reader.readInto(target, LONG)).toBe(2);
    expect(text(target)).toBe("gh---");
    expect((await reader.readExactly(5, LONG)).length).toBe(0);
  });

  test("receive large pieces straight into the target", async () => {
    using peer = makeReader();
    const wanted = randomPayload(4 * MEBIBYTE);
    const sending = peer.left.sendAll([Buffer.from("head\n"), wanted, Buffer.from("tail\n")], LONG);
    expect(await peer.reader.readLine(LONG)).toBe("head");
    const target = new Uint8Array(wanted.length);
    let direct = 0;
    using _ = replaceLibc("recv", (recv) => (fd, buffer, length, flags) => {
      if ((buffer as Uint8Array).buffer === target.buffer) direct++;
      return recv(fd, buffer, length, flags);
    });
    expect(await peer.reader.readInto(target, LONG)).toBe(wanted.length);
    await sending;
    expect(direct).toBeGreaterThan(10);
    expect(wanted.equals(target)).toBe(true);
    expect(await peer.reader.readLine(LONG)).toBe("tail");
  });

  test.each(["a timeout", "an aborted signal", "a blocking timeout", "an error"])(
    "%s loses nothing, of small and of large pieces",
    async (why) => {
      for (const length of [100, 3 * KIBIBYTES]) {
        using peer = makeReader();
        const { reader, left } = peer;
        const wanted = randomPayload(2 * length);
        const sending = left.sendAll(wanted.subarray(0, length - 1), LONG);
        if (why === "a timeout") {
          const error = await rejection(reader.readExactly(length, { timeoutMs: 30 }));
          expect(error).toBeInstanceOf(TimeoutError);
        } else if (why === "an aborted signal") {
          const controller = new AbortController();
          const reading = reader.readExactly(length, { signal: controller.signal });
          while (peer.right.unreadBytes > 0 || left.unsentBytes > 0)
            await new Promise(setImmediate);
          controller.abort("enough");
          expect(await reading.catch((reason) => reason)).toBe("enough");
        } else if (why === "a blocking timeout") {
          if (length < 2 * KIBIBYTES) await sending;
          const short = { timeoutMs: 10 };
          expect(caught(() => reader.readExactlySync(length, short))).toBeInstanceOf(TimeoutError);
        } else {
          let calls = 0;
          using _ = replaceLibc(
            "recv",
            (recv) =>
              (...values) =>
                calls++ < 1 ? recv(...values) : failWith(104),
          );
          expect((await rejection(reader.readExactly(length, LONG))).code).toBe("ECONNRESET");
        }
        const rest = sending.then(() => left.sendAll(wanted.subarray(length - 1), LONG));
        const all = await reader.readExactly(2 * length, LONG);
        await rest;
        expect(wanted.equals(all)).toBe(true);
      }
    },
  );

  test("large pieces let timers have their turn, however fast the peer is", async () => {
    using peer = makeReader();
    // A kernel that always has something.
    using _ = replaceEntry("recv", (_fd, _buffer, length) => {
      const until = performance.now() + 0.2;
      while (performance.now() < until);
      return Math.min(length as number, 1 << 18);
    });
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    const target = new Uint8Array(64 * MEBIBYTE);
    expect(await peer.reader.readInto(target, LONG)).toBe(target.length);
    const fromExact = ticks;
    const error = await rejection(peer.reader.readAll({ limitBytes: 16 * MEBIBYTE }));
    expect(error.code).toBe("EMSGSIZE");
    clearInterval(timer);
    expect(fromExact).toBeGreaterThan(5);
    expect(ticks - fromExact).toBeGreaterThan(5);
  });

  test("read() gives what is there, and straight what is large", async () => {
    using peer = makeReader();
    peer.give("abcdef", true);
    const target = new Uint8Array(4);
    expect(await peer.reader.read(target, LONG)).toBe(4);
    expect(text(target)).toBe("abcd");
    expect(peer.reader.readSync(new DataView(target.buffer, 1), LONG)).toBe(2);
    expect(text(target)).toBe("aefd");
    expect(peer.reader.tryRead(target)).toBe(0);
    using other = makeReader();
    expect(other.reader.tryRead(target)).toBeUndefined();
    other.give("x".repeat(50_000));
    const large = new Uint8Array(KIBIBYTES);
    expect(await other.reader.read(large, LONG)).toBe(50_000);
    expect(other.reader.buffered).toBe(0);
  });
});

describe("readUntil()", () => {
  test("takes any delimiter, in bytes or text, however it is cut", async () => {
    const DELIMITERS = ["|", "\r\n\r\n", "aab", Uint8Array.of(0), Uint8Array.of(1, 1, 2)] as const;
    for (const delimiter of DELIMITERS)
      for (let piece = 1; piece < 6; piece++) {
        using peer = makeReader();
        using _ = replaceLibc(
          "recv",
          (recv) => (fd, buffer, length, flags) =>
            recv(fd, buffer, Math.min(length as number, piece), flags),
        );
        const end = Buffer.from(delimiter as string);
        peer.give(Buffer.concat([Buffer.from("aa"), end, end, Buffer.from("r\u0001\u0001")]), true);
        expect(await peer.reader.readUntil(delimiter, LONG)).toEqual({
          bytes: new Uint8Array(Buffer.from("aa")),
          complete: true,
        });
        expect(peer.reader.readUntilSync(delimiter, LONG)?.bytes.length).toBe(0);
        const rest = { bytes: Uint8Array.of(0x72, 1, 1), complete: false };
        expect(await peer.reader.readUntil(delimiter, LONG)).toEqual(rest);
        expect(await peer.reader.readUntil(delimiter, LONG)).toBeUndefined();
      }
  });

  test("does not take half of one character and half of the next for a delimiter", async () => {
    using peer = makeReader({ encoding: "utf-16le" });
    // U+0A41 U+0100 hold 41 0a 00 01: "\n" at an odd place.
    peer.give(Buffer.from("\u0a41\u0100x\ny", "utf16le"), true);
    const found = await peer.reader.readUntil("\n", LONG);
    expect(Buffer.from(found?.bytes ?? []).toString("utf16le")).toBe("\u0a41\u0100x");
  });

  test("refuses what is too long, and keeps it", async () => {
    using peer = makeReader();
    peer.give("0123456789|x");
    const options = { ...LONG, limitBytes: 9 };
    expect((await rejection(peer.reader.readUntil("|", options))).code).toBe("EMSGSIZE");
    expect(systemErrorOf(() => peer.reader.readUntilSync("/", options)).code).toBe("EMSGSIZE");
    expect(systemErrorOf(() => peer.reader.tryReadUntil("|", options)).code).toBe("EMSGSIZE");
    expect(text(peer.reader.tryReadUntil("|", { limitBytes: 10 })?.bytes)).toBe("0123456789");
    expect(peer.reader.tryReadUntil("|")).toBeUndefined();
    expect(peer.reader.buffered).toBe(1);
  });
});

test("peek() shows the next bytes, takes none, and gives copies", async () => {
  using peer = makeReader({ limitBytes: 100 });
  const { reader } = peer;
  expect(reader.tryPeek(1)).toBeUndefined();
  peer.give("abc");
  const seen = await reader.peek(2, LONG);
  seen.fill(0);
  expect(text(reader.peekSync(3, LONG))).toBe("abc");
  expect(reader.tryPeek(4)).toBeUndefined();
  expect((await rejection(reader.peek(4, AT_ONCE))).code).toBe("ETIMEDOUT");
  peer.left.shutdown("write");
  expect(text(await reader.peek(4, LONG))).toBe("abc");
  expect(caught(() => reader.peekSync(101, LONG))).toBeInstanceOf(RangeError);
  expect(reader.buffered).toBe(3);
});

test("readAll() and readText() wait for the end, and lose nothing when it does not come", async () => {
  using peer = makeReader();
  const { reader } = peer;
  peer.give("one\r\ntwo");
  expect((await rejection(reader.readAll({ timeoutMs: 20 }))).code).toBe("ETIMEDOUT");
  expect(systemErrorOf(() => reader.readAllSync(AT_ONCE)).code).toBe("ETIMEDOUT");
  expect((await rejection(reader.readAll({ limitBytes: 3 }))).code).toBe("EMSGSIZE");
  peer.give("\rthree\n", true);
  expect(await reader.readText(LONG)).toBe("one\ntwo\nthree\n");
  expect(reader.readTextSync(LONG)).toBe("");
  using large = makeReader({ newline: "lf" });
  const wanted = randomPayload(5 * MEBIBYTE);
  const sending = large.left.sendAll(wanted, LONG).then(() => large.left.shutdown("write"));
  expect(wanted.equals(await large.reader.readAll(LONG))).toBe(true);
  await sending;
  using strict = makeReader({ fatal: true });
  strict.give(Uint8Array.of(0x61, 0xff), true);
  expect(await strict.reader.readText(LONG).catch((error) => error)).toBeInstanceOf(TypeError);
  expect([...(await strict.reader.readAll(LONG))]).toEqual([0x61, 0xff]);
});

describe("readPacket()", () => {
  test.each([1, 2, 4] as const)(
    "takes what writePacket() gives, with %d bytes of length",
    async (bytes) => {
      using peer = makeReader();
      const writer = peer.left.writer();
      const payloads = ["", "a", "x".repeat(200), "\u00e4\u20ac"];
      for (const payload of payloads) await writer.writePacket(payload, bytes, LONG);
      writer.writePacketSync(Uint8Array.of(1, 2), bytes, LONG);
      await writer.end(LONG);
      for (const payload of payloads)
        expect(text(await peer.reader.readPacket(bytes, LONG))).toBe(payload);
      expect([...(peer.reader.readPacketSync(bytes, LONG) ?? [])]).toEqual([1, 2]);
      expect(await peer.reader.readPacket(bytes, LONG)).toBeUndefined();
    },
  );

  test("refuses what is too long or cut short, and keeps it", async () => {
    using peer = makeReader({ limitBytes: 4 });
    peer.give(Uint8Array.of(0, 5, 1, 2, 3, 4, 5, 0, 3, 1), true);
    expect((await rejection(peer.reader.readPacket(2, LONG))).code).toBe("EMSGSIZE");
    peer.reader.configure({ limitBytes: 5 });
    expect((await peer.reader.readPacket(2, LONG))?.length).toBe(5);
    expect((await rejection(peer.reader.readPacket(2, LONG))).code).toBe("EPROTO");
    expect([...peer.reader.takeBuffered()]).toEqual([0, 3, 1]);
    expect(caught(() => peer.reader.readPacketSync(3 as 2, LONG))).toBeInstanceOf(RangeError);
  });
});

describe("one buffer", () => {
  test("everything of a socket reads through one reader; raw calls go past it", async () => {
    using peer = makeReader();
    const { reader, right } = peer;
    expect(right.reader({ newline: "lf" })).toBe(reader);
    expect(reader.newline).toBe("lf");
    expect([reader.encoding, reader.limitBytes]).toEqual(["utf-8", MEBIBYTE]);
    peer.give("first\nsecond\n");
    expect(await reader.readLine(LONG)).toBe("first");
    peer.give("raw");
    // The raw call does not see "second\n", which the reader holds.
    expect(text(await right.receiveBytes(100, LONG))).toBe("raw");
    for await (const line of right.lines()) {
      expect(line).toBe("second");
      break;
    }
    peer.give("chunk\nmore");
    expect(await reader.readLine(LONG)).toBe("chunk");
    for await (const chunk of right) {
      expect(text(chunk)).toBe("more");
      break;
    }
    peer.give("x\nbuffered");
    await reader.readLine(LONG);
    expect(text(reader.takeBuffered())).toBe("buffered");
    expect(reader.takeBuffered().length).toBe(0);
  });

  test("chunks are the caller's for ever, and end with the stream or the socket", async () => {
    using peer = makeReader();
    const chunks: Uint8Array[] = [];
    const reading = (async () => {
      for await (const chunk of peer.right) chunks.push(chunk);
    })();
    const wanted = randomPayload(MEBIBYTE);
    for (let at = 0; at < wanted.length; at += 50_000)
      await peer.left.sendAll(wanted.subarray(at, at + 50_000), LONG);
    peer.left.shutdown("write");
    await reading;
    expect(wanted.equals(Buffer.concat(chunks))).toBe(true);
    using closed = makeReader();
    const ended = closed.right[Symbol.asyncIterator]().next();
    await new Promise(setImmediate);
    closed.right.close();
    expect(await ended).toEqual({ value: undefined, done: true });
  });

  test("blocking forms are refused while a promise form waits: they would take its bytes", async () => {
    using peer = makeReader();
    const { reader } = peer;
    const line = reader.readLine(LONG);
    peer.give("half");
    await new Promise(setImmediate);
    for (const call of [
      () => reader.readLineSync(LONG),
      () => reader.tryReadLine(),
      () => reader.tryRead(new Uint8Array(1)),
      () => reader.tryReadExactly(1),
      () => reader.tryReadUntil("a"),
      () => reader.tryPeek(1),
      () => reader.takeBuffered(),
      () => reader.readAllSync(LONG),
      () => reader.linesSync(LONG).next(),
    ])
      expect(systemErrorOf(call).code).toBe("EBUSY");
    peer.give("\n");
    expect(await line).toBe("half");
    expect(reader.tryReadLine()).toBeUndefined();
  });

  test("promise forms are served in order, also when one of them is cancelled", async () => {
    using peer = makeReader();
    const { reader } = peer;
    const controller = new AbortController();
    const calls = [
      reader.readLine(LONG),
      reader.readExactly(3, { signal: controller.signal }),
      reader.readUntil("|", LONG),
      reader.peek(1, LONG),
      reader.readLine(LONG),
    ] as const;
    peer.give("line\nab");
    await calls[0];
    controller.abort("gone");
    expect(await calls[1].catch((reason) => reason)).toBe("gone");
    peer.give("c|d\n");
    expect(text((await calls[2])?.bytes)).toBe("abc");
    expect(text(await calls[3])).toBe("d");
    expect(await calls[4]).toBe("d");
  });

  test("what it holds can be read after the socket was closed, and nothing more", async () => {
    using peer = makeReader();
    peer.give("one\ntwo\nthree");
    expect(await peer.reader.readLine(LONG)).toBe("one");
    peer.right.close();
    expect(await peer.reader.readLine(LONG)).toBe("two");
    expect(await rejection(peer.reader.readLine(LONG))).toBeInstanceOf(ClosedError);
    expect(text(peer.reader.takeBuffered())).toBe("three");
  });

  test("a socket whose reader is held is not collected", async () => {
    const { left, reader } = (() => {
      const peer = socketPair();
      return { left: peer.left, reader: peer.right.reader() };
    })();
    for (let i = 0; i < 5; i++) {
      Bun.gc(true);
      await new Promise(setImmediate);
    }
    await left.sendAll("still here\n", LONG);
    expect(await reader.readLine(LONG)).toBe("still here");
    left.close();
    await reader.readAll(LONG);
  });
});

describe("arguments", () => {
  const WRONG: readonly (readonly [ReaderOptions, "TypeError" | "RangeError"])[] = [
    [{ bufferBytes: 0 }, "RangeError"],
    [{ limitBytes: 0 }, "RangeError"],
    [{ limitBytes: 2 ** 31 }, "RangeError"],
    [{ limitBytes: "1" as unknown as number }, "TypeError"],
    [{ encoding: "no-such" }, "RangeError"],
    [{ encoding: 8 as unknown as string }, "TypeError"],
    [{ fatal: 1 as unknown as boolean }, "TypeError"],
    [{ newline: "lfcr" as "lf" }, "TypeError"],
    [null as unknown as ReaderOptions, "TypeError"],
  ];
  test.each(WRONG)("%j are refused as options, and nothing changes", (options, kind) => {
    using peer = makeReader();
    expect(caught(() => peer.reader.configure(options)).name).toBe(kind);
    expect(caught(() => socketPairReader(options)).name).toBe(kind);
    peer.give("still\n");
    expect(peer.reader.readLineSync(LONG)).toBe("still");
  });

  test("wrong ones are refused before anything is taken", async () => {
    using peer = makeReader();
    const { reader } = peer;
    peer.give("kept");
    for (const call of [
      () => reader.readExactlySync(-1),
      () => reader.readExactlySync(1.5),
      () => reader.tryReadExactly(2 ** 31),
      () => reader.readUntilSync(""),
      () => reader.readUntilSync(new Uint8Array(0)),
      () => reader.readUntilSync(1 as unknown as string),
      () => reader.readSync(new Uint8Array(0)),
      () => reader.readSync([] as unknown as Uint8Array),
      () => reader.readIntoSync(new Uint8Array(0)),
      () => reader.readLineSync({ timeoutMs: -1 }),
      () => reader.readAllSync({ limitBytes: 0 }),
      () => reader.peekSync(-1),
    ])
      expect(caught(call).name).toMatch(/^(Type|Range)Error$/);
    expect(await reader.readExactly(-1).catch((error) => error)).toBeInstanceOf(RangeError);
    expect(await reader.readLine({ timeoutMs: Number.NaN }).catch((e) => e)).toBeInstanceOf(
      RangeError,
    );
    expect(await reader.readLine({ signal: AbortSignal.abort("no") }).catch((e) => e)).toBe("no");
    expect(text(await reader.readExactly(4, LONG))).toBe("kept");
  });

  test("a target that is detached while it waits is refused", async () => {
    using peer = makeReader();
    const target = new Uint8Array(10);
    const reading = peer.reader.readInto(target, LONG);
    await new Promise(setImmediate);
    target.buffer.transfer();
    peer.give("0123456789");
    expect(await reading.catch((error) => error)).toBeInstanceOf(TypeError);
    expect(text(await peer.reader.readExactly(10, LONG))).toBe("0123456789");
  });

  test("a call that is interrupted goes on", () => {
    using peer = makeReader();
    let calls = 0;
    using _ = replaceLibc(
      "recv",
      (recv) =>
        (...values) =>
          calls++ % 3 === 0 ? failWith(4) : calls % 3 === 2 ? failWith(EAGAIN) : recv(...values),
    );
    peer.give("a\nb\n", true);
    expect([...peer.reader.linesSync(LONG)]).toEqual(["a", "b"]);
  });
});

function socketPairReader(options: ReaderOptions): SocketReader {
  using pair = socketPair();
  return pair.left.reader(options);
}

test("any mix of calls on any cut of any bytes gives what a reader of the whole would give", async () => {
  // A small alphabet, so that every end of a line comes in every cut.
  const ALPHABET = Buffer.from("ab\r\n\r\n|\u00e9");
  const pick = (limit: number) => Math.floor(Math.random() * limit);
  for (let round = 0; round < 300; round++) {
    const data = Buffer.from(
      Array.from({ length: pick(200) }, () => ALPHABET[pick(ALPHABET.length)] as number),
    );
    const newline = (["any", "lf", "cr", "crlf"] as const)[pick(4)] as Newline;
    using peer = makeReader({ newline, encoding: "latin1", bufferBytes: 1 + pick(40) });
    const piece = 1 + pick(20);
    using _ = replaceLibc(
      "recv",
      (recv) => (fd, buffer, length, flags) =>
        recv(fd, buffer, Math.min(length as number, piece), flags),
    );
    peer.give(data, true);
    const { reader } = peer;
    const trace: string[] = [];
    let at = 0;
    const lines = reader.lines();
    const ends = { any: /\r\n|\r|\n/, lf: /\n/, cr: /\r/, crlf: /\r\n/ }[newline];
    const line = (): string | undefined => {
      if (at === data.length) return undefined;
      const rest = data.toString("latin1", at);
      const found = ends.exec(rest);
      at = found ? at + found.index + found[0].length : data.length;
      return found ? rest.slice(0, found.index) : rest;
    };
    const until = (): string | undefined => {
      if (at === data.length) return undefined;
      const end = data.indexOf("|", at);
      const bytes = data.subarray(at, end < 0 ? data.length : end);
      at = end < 0 ? data.length : end + 1;
      return bytes.toString("latin1");
    };
    const latin1 = (bytes: Uint8Array | undefined) =>
      bytes && Buffer.from(bytes).toString("latin1");
    while (at < data.length) {
      const length = pick(20);
      const call = pick(7);
      let got: string | undefined;
      let wanted: string | undefined;
      if (call === 0) [got, wanted] = [await reader.readLine(LONG), line()];
      else if (call < 3) [got, wanted] = [(await lines.next()).value, line()];
      else if (call === 3) {
        wanted = data.toString("latin1", at, at + length);
        got = latin1(await reader.readExactly(length, LONG));
        at = Math.min(data.length, at + length);
      } else if (call === 4)
        [got, wanted] = [latin1((await reader.readUntil("|", LONG))?.bytes), until()];
      else if (call === 5) {
        wanted = data.toString("latin1", at, at + length);
        got = latin1(await reader.peek(length, LONG));
      } else [got, wanted] = [reader.readLineSync(LONG), line()];
      trace.push(`${call}:${length}:${JSON.stringify(got)}`);
      if (got !== wanted)
        throw new Error(
          `${JSON.stringify(data.toString("latin1"))} ${newline} ${piece} ${trace.join(" ")} expected ${JSON.stringify(wanted)}`,
        );
    }
    expect(await reader.readLine(LONG)).toBeUndefined();
  }
});

test("readInto() whose target is detached after a part has come is refused, and not left waiting", async () => {
  using pair = socketPair();
  pair.right.sendSync("ab");
  const target = new Uint8Array(new ArrayBuffer(4));
  const read = pair.left
    .reader()
    .readInto(target)
    .catch((error: unknown) => error);
  await Bun.sleep(0);
  target.buffer.transfer();
  pair.right.sendSync("cd");
  expect(await read).toBeInstanceOf(TypeError);
});
