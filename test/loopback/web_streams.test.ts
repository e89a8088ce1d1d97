/** The Web Streams of a socket: `readable` and `writable`. */
import { describe, expect, test } from "bun:test";
import type { StreamSocket } from "bun-sockets";
import { randomPayload } from "../support/strangers.ts";
import { fillUp, socketPair, streamKinds, tcpPair } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const MEBIBYTE = 1 << 20;

function readableOf(socket: StreamSocket): ReadableStream<Uint8Array<ArrayBuffer>> {
  return socket.readable;
}

function writableOf(socket: StreamSocket): WritableStream<Uint8Array | ArrayBuffer | string> {
  return socket.writable;
}

async function codeOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => "done",
    (error) => error?.code ?? error,
  );
}

/** Waits until a socket is closed by somebody else. */
async function untilClosed(socket: StreamSocket): Promise<void> {
  const deadline = performance.now() + LONG.timeoutMs;
  while (socket.descriptor >= 0) {
    if (performance.now() > deadline) throw new Error("Expected it to be closed in time");
    await new Promise(setImmediate);
  }
}

describe.each(streamKinds)("over %s", (_name, make) => {
  test("what is piped in comes out, and when both have ended the socket is closed", async () => {
    using pair = make();
    const { left, right } = pair;
    const wanted = randomPayload(3 * MEBIBYTE);
    const echoing = readableOf(right).pipeTo(writableOf(right));
    const source = new ReadableStream({
      start(controller) {
        for (let at = 0; at < wanted.length; at += 100_000)
          controller.enqueue(wanted.subarray(at, at + 100_000));
        controller.close();
      },
    });
    const sending = source.pipeTo(writableOf(left));
    const back = Buffer.from(await Bun.readableStreamToArrayBuffer(readableOf(left)));
    await Promise.all([echoing, sending]);
    expect(wanted.equals(back)).toBe(true);
    await untilClosed(left);
    await untilClosed(right);
  });
});

describe("readable", () => {
  test("is always the same, and reads into the memory of a BYOB reader", async () => {
    using pair = socketPair();
    expect(pair.right.readable).toBe(pair.right.readable);
    const reader = readableOf(pair.right).getReader({ mode: "byob" });
    await pair.left.sendAll("0123456789");
    const first = await reader.read(new Uint8Array(4));
    expect(`${Buffer.from(first.value as Uint8Array)}`).toBe("0123");
    const memory = new ArrayBuffer(100);
    const second = await reader.read(new Uint8Array(memory, 10, 50));
    expect([second.value?.byteOffset, second.value?.buffer.byteLength]).toEqual([10, 100]);
    expect(`${Buffer.from(second.value as Uint8Array)}`).toBe("456789");
    const last = reader.read(new Uint8Array(10));
    pair.left.shutdown("write");
    expect(await last).toMatchObject({ done: true });
    await reader.closed;
  });

  test("gives what the reader holds first, and each chunk in memory of its own", async () => {
    using pair = socketPair();
    await pair.left.sendAll("header\nrest");
    expect(await pair.right.reader().readLine(LONG)).toBe("header");
    const chunks: Uint8Array[] = [];
    const reader = readableOf(pair.right).getReader();
    chunks.push((await reader.read()).value as Uint8Array);
    await pair.left.sendAll("more");
    chunks.push((await reader.read()).value as Uint8Array);
    expect(chunks.map((chunk) => `${Buffer.from(chunk)}`)).toEqual(["rest", "more"]);
    reader.releaseLock();
    // The reader goes on where the stream was left.
    await pair.left.sendAll("line\n");
    expect(await pair.right.reader().readLine(LONG)).toBe("line");
  });

  test("reads nothing before it is asked", async () => {
    using pair = socketPair();
    const stream = readableOf(pair.right);
    await pair.left.sendAll("abc");
    for (let i = 0; i < 5; i++) await new Promise(setImmediate);
    expect(pair.right.unreadBytes).toBe(3);
    expect((await stream.getReader().read()).value?.length).toBe(3);
  });

  test("cancelling it is the end of reading only", async () => {
    for (const waits of [true, false]) {
      using pair = socketPair();
      const { left, right } = pair;
      const reader = readableOf(right).getReader();
      const reading = waits ? reader.read() : undefined;
      await new Promise(setImmediate);
      await reader.cancel("enough");
      if (reading) expect((await reading).done).toBe(true);
      expect(await right.receive(new Uint8Array(1), LONG)).toBe(0);
      await right.sendAll("still sending");
      expect(left.receiveBytesSync(100).length).toBe(13);
      expect(right.descriptor).toBeGreaterThan(0);
      const writer = writableOf(right).getWriter();
      await writer.close();
      await untilClosed(right);
      expect(await left.receive(new Uint8Array(1), LONG)).toBe(0);
    }
  });

  test("fails with the error of the socket", async () => {
    using pair = tcpPair();
    const reader = readableOf(pair.right).getReader();
    const reading = codeOf(reader.read());
    await new Promise(setImmediate);
    pair.left.reset();
    expect(await reading).toBe("ECONNRESET");
    expect(await codeOf(reader.closed)).toBe("ECONNRESET");
    using other = socketPair();
    const waiting = codeOf(readableOf(other.right).getReader().read());
    await new Promise(setImmediate);
    other.right.close();
    expect(await waiting).toBe("EBADF");
  });
});

describe("writable", () => {
  test("takes views, buffers and strings, and closing it is the end of writing only", async () => {
    using pair = socketPair();
    const { left, right } = pair;
    expect(left.writable).toBe(left.writable);
    const writer = writableOf(left).getWriter();
    await writer.write("a");
    await writer.write(Uint8Array.of(0x62));
    await writer.write(Uint8Array.of(0x63).buffer);
    await writer.close();
    expect(await right.reader().readText(LONG)).toBe("abc");
    await right.sendAll("answer");
    expect(left.receiveBytesSync(100).length).toBe(6);
    right.shutdown("write");
    for await (const _ of readableOf(left));
    await untilClosed(left);
  });

  test("holds up who writes as long as the peer does not read", async () => {
    using pair = socketPair();
    const filled = fillUp(pair.left);
    const writer = writableOf(pair.left).getWriter();
    expect(writer.desiredSize).toBe(65536);
    const writing = writer.write(new Uint8Array(100_000));
    expect(writer.desiredSize).toBe(65536 - 100_000);
    let isReady = false;
    const ready = writer.ready.then(() => {
      isReady = true;
    });
    for (let i = 0; i < 20; i++) await new Promise(setImmediate);
    expect(isReady).toBe(false);
    await pair.right.reader().readExactly(filled + 100_000, LONG);
    await Promise.all([writing, ready]);
    expect(writer.desiredSize).toBe(65536);
  });

  test("aborting it drops what waits, and has the connection reset", async () => {
    using pair = tcpPair();
    const { left, right } = pair;
    const writer = writableOf(left).getWriter();
    const writing = codeOf(writer.write(new Uint8Array(32 * MEBIBYTE)));
    const queued = codeOf(writer.write("never sent"));
    await new Promise(setImmediate);
    const aborting = writer.abort("stop");
    expect(await Promise.race([writing, queued])).toBe("stop");
    await aborting;
    expect(left.writer().buffered).toBe(0);
    expect(left.descriptor).toBeGreaterThan(0);
    await readableOf(left).cancel();
    await untilClosed(left);
    expect(await codeOf(right.reader().readAll(LONG))).toBe("ECONNRESET");
  });

  test("fails with the error of the socket", async () => {
    using pair = socketPair();
    pair.right.close();
    const writer = writableOf(pair.left).getWriter();
    expect(await codeOf(writer.write("nobody"))).toBe("EPIPE");
    expect(await codeOf(writer.closed)).toBe("EPIPE");
    expect(await codeOf(writer.write("again"))).toBe("EPIPE");
    using other = socketPair();
    const wrong = writableOf(other.left).getWriter();
    expect(await wrong.write(1 as unknown as string).catch((error) => error)).toBeInstanceOf(
      TypeError,
    );
  });
});
