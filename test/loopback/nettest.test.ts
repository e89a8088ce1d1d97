/**
 * What Go's nettest.TestConn asks of any stream, written anew: eleven behaviours, over every kind.
 */
import { describe, expect, test } from "bun:test";
import { ClosedError, type StreamSocket, TimeoutError } from "bun-sockets";
import { randomPayload } from "../support/strangers.ts";
import { streamKinds } from "../support/streams.ts";

const LONG = { timeoutMs: 10_000 };
const AT_ONCE = { timeoutMs: 0 };
const MEGABYTES = 8 << 20;
const TINY = 1024;
/** More than any two buffers hold: the kernel moves data on after the first refusal. */
const TOO_MUCH = new Uint8Array(32 << 20);

/** Receives until the stream ends. */
async function receiveAll(socket: StreamSocket): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const chunk = await socket.receiveBytes(65536, LONG);
    if (chunk.length === 0) return Buffer.concat(chunks);
    chunks.push(chunk);
  }
}

/** Throws away what comes, until the end. */
async function discard(socket: StreamSocket): Promise<number> {
  return (await receiveAll(socket)).length;
}

/** Sends what never ends, until the peer or the socket is closed. */
async function pour(socket: StreamSocket): Promise<void> {
  const chunk = randomPayload(TINY);
  for (;;) {
    try {
      await socket.sendAll(chunk);
    } catch {
      return;
    }
  }
}

/** Whether a connection still carries bytes in both directions, after what was left in it. */
async function resync(left: StreamSocket, right: StreamSocket): Promise<void> {
  const marker = randomPayload(64);
  for (const [from, to] of [
    [left, right],
    [right, left],
  ] as const) {
    const sent = from.sendAll(marker, LONG);
    let seen = Buffer.alloc(0);
    while (!seen.includes(marker))
      seen = Buffer.concat([seen.subarray(-64), await to.receiveBytes(65536, LONG)]);
    await sent;
  }
}

/** The outcome of a call that may run out of time: any other error is thrown. */
async function orTimeout<Result>(call: Promise<Result>): Promise<Result | undefined> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof TimeoutError) return undefined;
    throw error;
  }
}

async function codeOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => "done",
    (error) => error.code ?? error,
  );
}

describe.each(streamKinds)("%s", (_name, make) => {
  test("basic I/O: 8 MiB arrive as they were, come back, and then the end", async () => {
    using pair = make();
    const { left, right } = pair;
    const wanted = randomPayload(MEGABYTES);
    const echo = (async () => {
      const came = await receiveAll(right);
      await right.sendAll(came, LONG);
      right.shutdown("write");
      return came;
    })();
    await left.sendAll(wanted, LONG);
    left.shutdown("write");
    const back = await receiveAll(left);
    expect((await echo).equals(wanted)).toBe(true);
    expect(back.equals(wanted)).toBe(true);
  });

  test("ping-pong: a number goes to and fro, one more each time", async () => {
    using pair = make();
    const ROUNDS = 1000;
    const play = async (socket: StreamSocket, serves: boolean) => {
      const bytes = new DataView(new ArrayBuffer(8));
      const seen: bigint[] = [];
      if (serves) await socket.sendAll(bytes, LONG);
      for (let i = 0; i < ROUNDS; i++) {
        expect(await socket.receiveExactly(bytes, LONG)).toBe(8);
        seen.push(bytes.getBigUint64(0, true));
        bytes.setBigUint64(0, bytes.getBigUint64(0, true) + 1n, true);
        if (i < ROUNDS - 1 || !serves) await socket.sendAll(bytes, LONG);
      }
      return seen;
    };
    const [left, right] = await Promise.all([play(pair.left, true), play(pair.right, false)]);
    expect(right).toEqual(Array.from({ length: ROUNDS }, (_, i) => BigInt(2 * i)));
    expect(left).toEqual(Array.from({ length: ROUNDS }, (_, i) => BigInt(2 * i + 1)));
  });

  test("racy reads: many at once, each with a timeout, lose and double nothing", async () => {
    using pair = make();
    const { left, right } = pair;
    const wanted = randomPayload(256 * TINY);
    const sending = (async () => {
      for (let at = 0; at < wanted.length; at += TINY) {
        await right.sendAll(wanted.subarray(at, at + TINY), LONG);
        if (at % (16 * TINY) === 0) await new Promise(setImmediate);
      }
      right.shutdown("write");
    })();
    const came: Uint8Array[] = [];
    let isOver = false;
    const read = async () => {
      while (!isOver) {
        const target = new Uint8Array(1 + Math.floor(Math.random() * TINY));
        const length = await orTimeout(left.receive(target, { timeoutMs: Math.random() }));
        if (length === 0) isOver = true;
        else if (length) came.push(target.subarray(0, length));
      }
    };
    await Promise.all([sending, ...Array.from({ length: 10 }, read)]);
    expect(Buffer.concat(came).equals(wanted)).toBe(true);
  });

  test("racy writes: many at once, each with a timeout, tell exactly what was sent", async () => {
    using pair = make();
    const { left, right } = pair;
    const received = discard(right);
    let sent = 0;
    const write = async () => {
      for (let i = 0; i < 40; i++) {
        const chunk = randomPayload(4 * TINY);
        try {
          const all = await left.sendAll(chunk, { timeoutMs: Math.random() });
          sent += all;
        } catch (error) {
          if (!(error instanceof TimeoutError)) throw error;
          sent += error.transferred ?? 0;
        }
      }
    };
    await Promise.all(Array.from({ length: 10 }, write));
    left.shutdown("write");
    expect(await received).toBe(sent);
    expect(sent).toBeGreaterThan(0);
  });

  test("read timeout: a read that ran out of time leaves writes alone", async () => {
    using pair = make();
    const { left, right } = pair;
    const received = discard(right);
    expect(await codeOf(left.receive(new Uint8Array(TINY), AT_ONCE))).toBe("ETIMEDOUT");
    expect(await left.sendAll(randomPayload(TINY), LONG)).toBe(TINY);
    left.shutdown("write");
    expect(await received).toBe(TINY);
  });

  test("write timeout: a write that ran out of time leaves reads alone", async () => {
    using pair = make();
    const { left, right } = pair;
    const pouring = pour(right);
    expect(await codeOf(left.sendAll(TOO_MUCH, AT_ONCE))).toBe("ETIMEDOUT");
    expect(await left.receiveExactly(new Uint8Array(TINY), LONG)).toBe(TINY);
    left.close();
    right.close();
    await pouring;
  });

  test("past timeout: 0 milliseconds are one try, and the connection goes on", async () => {
    using pair = make();
    const { left, right } = pair;
    for (let i = 0; i < 3; i++) {
      expect(await codeOf(left.receive(new Uint8Array(TINY), AT_ONCE))).toBe("ETIMEDOUT");
      expect(() => left.receiveSync(new Uint8Array(TINY), AT_ONCE)).toThrow(TimeoutError);
    }
    expect(await codeOf(left.sendAll(TOO_MUCH, AT_ONCE))).toBe("ETIMEDOUT");
    expect(() => left.sendAllSync(TOO_MUCH, AT_ONCE)).toThrow(TimeoutError);
    await resync(left, right);
  });

  test("present timeout: what waits is ended now, and the connection goes on", async () => {
    using pair = make();
    const { left, right } = pair;
    const now = new AbortController();
    const { signal } = now;
    const reading = codeOf(left.receive(new Uint8Array(TINY), { signal }));
    const writing = codeOf(left.sendAll(TOO_MUCH, { signal }));
    now.abort("now");
    expect(await Promise.all([reading, writing])).toEqual(["now", "now"]);
    await resync(left, right);
  });

  test("future timeout: what waits is ended then, and the connection goes on", async () => {
    using pair = make();
    const { left, right } = pair;
    const soon = { timeoutMs: 30 };
    const reading = codeOf(left.receive(new Uint8Array(TINY), soon));
    const writing = codeOf(left.sendAll(TOO_MUCH, soon));
    expect(await Promise.all([reading, writing])).toEqual(["ETIMEDOUT", "ETIMEDOUT"]);
    await resync(left, right);
  });

  test("close: everything that waits is told, in both directions", async () => {
    using pair = make();
    const { left } = pair;
    const calls = Array.from({ length: 20 }, (_, i) => {
      if (i % 4 === 0) return left.sendAll(TOO_MUCH, LONG);
      if (i % 4 === 1) return left.receiveExactly(new Uint8Array(TINY), LONG);
      return i % 4 === 2 ? left.reader().readLine(LONG) : left.receive(new Uint8Array(1), LONG);
    });
    const codes = Promise.all(calls.map(codeOf));
    await new Promise(setImmediate);
    left.close();
    expect(await codes).toEqual(calls.map(() => "EBADF"));
    expect(() => left.sendAllSync("a")).toThrow(ClosedError);
    expect(() => left.receiveExactlySync(new Uint8Array(1))).toThrow(ClosedError);
  });

  test("concurrent methods: everything at once, and bytes arrive in order", async () => {
    using pair = make();
    const { left, right } = pair;
    const wanted = randomPayload(100 * TINY);
    const reading = right.reader().readExactly(wanted.length, LONG);
    const working = Array.from({ length: 100 }, async (_, i) => {
      const sent = left.sendAll(wanted.subarray(i * TINY, (i + 1) * TINY), LONG);
      const timed = orTimeout(left.receive(new Uint8Array(1), { timeoutMs: i % 3 }));
      expect(left.connected && right.connected).toBe(true);
      expect(`${left.localAddress}`).toBe(`${left.localAddress}`);
      expect(left.unsentBytes).toBeGreaterThanOrEqual(0);
      expect(right.unreadBytes).toBeGreaterThanOrEqual(0);
      left.ref();
      return [await sent, await timed];
    });
    expect(await Promise.all(working)).toEqual(working.map(() => [TINY, undefined]));
    expect(Buffer.from(await reading).equals(wanted)).toBe(true);
  });
});
