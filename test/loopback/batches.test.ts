/**
 * Batches for `for await`, and handlers of batches: what they give and for how long it is valid, how
 * they end, and what becomes of errors, theirs and those of a handler.
 */
import { beforeAll, beforeEach, describe, expect, spyOn, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type BatchHandler,
  type BatchSubscription,
  ClosedError,
  DatagramBatch,
  Message,
  type OnBatchOptions,
  Socket,
  SystemError,
  UdpSocket,
  type UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { close, ECONNREFUSED, ENOMEM } from "bun-sockets/sys";
import { caught } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { ending, firstLine } from "../support/strangers.ts";
import {
  beginCount,
  deliver,
  type Pair,
  reasonOf,
  soon,
  startPoller,
  text,
  turns,
  udp4,
  unixDatagram,
  unixDatagramNamed,
  until,
  WatchedSignal,
  waiters,
} from "../support/waiting.ts";
import type { Mode, Paused, Thrown } from "./batches.ts";

const PROGRAM = join(import.meta.dir, "batches.ts");
const POISON = 0xa5;
const WAIT = { timeoutMs: 20_000 };
const CHILD_MS_MAX = 30_000;
/** How long the poller lets pass at most where no event tells when there is room. */
const PAUSE_MS_MAX = 10;
/** For what happens at once, or never. */
const SOON_MS = 5000;

beforeAll(startPoller);
beforeEach(beginCount);

function textsOf(batch: DatagramBatch): string[] {
  return Array.from({ length: batch.count }, (_, i) => text(batch.view(i)));
}

function isPoisoned(batch: DatagramBatch): boolean {
  return batch.memory.length > 0 && batch.memory.every((byte) => byte === POISON);
}

/** Sets BUN_SOCKETS_DEBUG until the end of the block. */
function debugging(value: string | undefined): Disposable {
  const name = "BUN_SOCKETS_DEBUG";
  const before = process.env[name];
  const set = (value: string | undefined) => {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  };
  set(value);
  return { [Symbol.dispose]: () => set(before) };
}

/** What is reported until the end of the block. */
class Reports implements Disposable {
  readonly errors: unknown[] = [];
  readonly #spy = spyOn(globalThis, "reportError").mockImplementation((error) => {
    this.errors.push(error);
  });

  [Symbol.dispose](): void {
    this.#spy.mockRestore();
  }
}

/** Lets everything happen that is going to: a datagram that is sent now is heard of by then. */
async function settle(): Promise<void> {
  using pair = udp4.open();
  for (let i = 0; i < 3; i++) {
    const received = pair.receiver.receive(new Uint8Array(1), WAIT);
    await turns(1);
    deliver(pair, "x");
    await received;
  }
  await turns(3);
}

/** A socket with a peer that is gone, and has refused a datagram. */
function refused(): UdpSocket {
  using dead = UdpSocket.bind("127.0.0.1:0");
  const socket = UdpSocket.bind("127.0.0.1:0");
  socket.connectSync(dead.localAddress);
  dead.close();
  socket.sendSync("to nobody");
  return socket;
}

/** Gives a refused socket a peer that lives, and sends it something. */
function revive(socket: UdpSocket, ...texts: readonly string[]): void {
  using peer = UdpSocket.bind("127.0.0.1:0");
  peer.connectSync(socket.localAddress);
  socket.connectSync(peer.localAddress);
  for (const each of texts) peer.sendSync(each);
}

/** Two Unix datagram sockets, where there is no room for what the first one sends. */
function openFull(): {
  full: UnixDatagramSocket;
  peer: UnixDatagramSocket;
  queued: number;
} & Disposable {
  const [full, peer] = UnixDatagramSocket.pair();
  let queued = 0;
  while (full.trySend(Buffer.from("queued")) !== undefined) queued++;
  const dispose = () => {
    full.close();
    peer.close();
  };
  return { full, peer, queued, [Symbol.dispose]: dispose };
}

function empty(socket: Socket): string[] {
  const texts: string[] = [];
  for (let bytes = socket.tryReceiveBytes(100); bytes; bytes = socket.tryReceiveBytes(100))
    texts.push(text(bytes));
  return texts;
}

/** Runs a program of batches.ts until it ends by itself. */
async function run(mode: Mode): Promise<{ exitCode: number; lines: unknown[]; errors: string }> {
  const child = Bun.spawn([process.execPath, PROGRAM, mode], {
    // It may end with sockets open: nobody is to be told of those that were collected before.
    env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: CHILD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const [printed, errors, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  const lines = printed.split("\n").filter(Boolean);
  return { exitCode, lines: lines.map((line) => JSON.parse(line)), errors };
}

describe("batches()", () => {
  test("gives every datagram, in order, with its sender", async () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using left = UdpSocket.bind("127.0.0.1:0");
    using right = UdpSocket.bind("127.0.0.1:0");
    const sent: string[] = [];
    const got: string[] = [];
    const send = () => {
      const from = sent.length % 3 === 0 ? left : right;
      const data = `${sent.length}`;
      from.sendToSync(data, server.localAddress);
      sent.push(`${data} from ${from.localAddress}`);
    };
    for (let i = 0; i < 50; i++) send();
    for await (const batch of server.batches({ capacity: 16 })) {
      expect(batch.count).toBeGreaterThan(0);
      expect(batch.count).toBeLessThanOrEqual(16);
      for (let i = 0; i < batch.count; i++)
        got.push(`${text(batch.view(i))} from ${batch.address(i)}`);
      if (got.length >= 500) break;
      while (sent.length < got.length + 50) send();
    }
    expect(got).toEqual(sent.slice(0, got.length));
    expect(waiters()).toBe(0);
  });

  test("a step waits for one datagram, and not for a full batch", async () => {
    using pair = udp4.open();
    await using iterator = pair.receiver.batches();
    const step = iterator.next();
    expect(waiters()).toBe(1);
    await settle();
    deliver(pair, "one");
    const { value, done } = await step;
    expect([textsOf(value as DatagramBatch), done]).toEqual([["one"], false]);
    deliver(pair, "two", "three");
    expect(textsOf((await iterator.next()).value as DatagramBatch)).toEqual(["two", "three"]);
  });

  test("has batches of capacity and slotBytes", async () => {
    using pair = udp4.open();
    await using iterator = pair.receiver.batches({ capacity: 3, slotBytes: 5 });
    deliver(pair, "1", "2", "3", "too long");
    const { value: first } = await iterator.next();
    expect([first?.capacity, first?.slotBytes, first?.count]).toEqual([3, 5, 3]);
    const { value: second } = await iterator.next();
    expect([second?.truncated(0), textsOf(second as DatagramBatch)]).toEqual([true, ["too l"]]);
  });

  test("is its own iterator, and is done for ever once it is done", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches();
    expect(iterator[Symbol.asyncIterator]()).toBe(iterator);
    const done = { value: undefined, done: true } as const;
    expect(await iterator.return()).toEqual(done);
    deliver(pair, "x");
    expect(await iterator.next()).toEqual(done);
    expect(await iterator.return()).toEqual(done);
    expect(await iterator.next()).toEqual(done);
    expect(pair.receiver.tryReceive(new Uint8Array(1))).toBe(1);
  });

  test("works on Unix datagrams too", async () => {
    using pair = unixDatagram.open();
    deliver(pair, "one", "two");
    for await (const batch of pair.receiver.batches()) {
      expect(textsOf(batch)).toEqual(["one", "two"]);
      break;
    }
  });

  test.each([1, 2, 3, 7])(
    "with rotate %d contents are valid until so many steps later",
    async (rotate) => {
      using _ = debugging("1");
      using pair = udp4.open();
      await using iterator = pair.receiver.batches({ rotate, capacity: 2, slotBytes: 8 });
      const given: DatagramBatch[] = [];
      for (let i = 0; i < 3 * rotate; i++) {
        deliver(pair, `${i}`);
        given.push((await iterator.next()).value as DatagramBatch);
        for (let old = Math.max(0, i - rotate + 1); old <= i; old++)
          expect(textsOf(given[old] as DatagramBatch)).toEqual([`${old}`]);
        if (i >= rotate) expect(given[i]).toBe(given[i - rotate] as DatagramBatch);
      }
      expect(new Set(given).size).toBe(rotate);
      // A step that waits has taken the oldest one already, and none of the others.
      const step = iterator.next();
      const oldest = given.at(-rotate) as DatagramBatch;
      expect(isPoisoned(oldest)).toBe(true);
      for (const younger of given.slice(given.length - rotate + 1))
        expect(isPoisoned(younger)).toBe(false);
      deliver(pair, "last");
      expect((await step).value).toBe(oldest);
    },
  );

  const leave: Record<string, (socket: Socket, seen: DatagramBatch[], rotate: number) => unknown> =
    {
      async break(socket, seen, rotate) {
        for await (const batch of socket.batches({ rotate })) {
          seen.push(batch);
          if (seen.length > rotate) break;
        }
      },
      async return(socket, seen, rotate) {
        for await (const batch of socket.batches({ rotate })) {
          seen.push(batch);
          if (seen.length > rotate) return;
        }
      },
      async throw(socket, seen, rotate) {
        const planted = new Error("planted");
        try {
          for await (const batch of socket.batches({ rotate })) {
            seen.push(batch);
            if (seen.length > rotate) throw planted;
          }
        } catch (error) {
          expect(error).toBe(planted);
        }
      },
      async "await using"(socket, seen, rotate) {
        await using iterator = socket.batches({ rotate });
        while (seen.length <= rotate) seen.push((await iterator.next()).value as DatagramBatch);
      },
    };
  test.each(
    Object.keys(leave).flatMap((how) => [
      [how, 1],
      [how, 3],
    ]) as [string, number][],
  )("%s frees the batches (rotate %d), and leaves nothing waiting", async (how, rotate) => {
    using pair = udp4.open();
    const seen: DatagramBatch[] = [];
    const sender = setInterval(() => deliver(pair, "x"), 1);
    try {
      await leave[how]?.(pair.receiver, seen, rotate);
    } finally {
      clearInterval(sender);
    }
    expect(seen.map(({ freed }) => freed)).toEqual(seen.map(() => true));
    expect(waiters()).toBe(0);
    // The socket is as before: nobody takes its datagrams.
    empty(pair.receiver);
    deliver(pair, "mine");
    await settle();
    expect(empty(pair.receiver)).toEqual(["mine"]);
  });

  test("a loop that was left lets the process end", async () => {
    const { exitCode, lines, errors } = await run("breaks");
    expect({ exitCode, lines, errors }).toEqual({ exitCode: 0, lines: [1], errors: "" });
  });

  test("return() ends a step that waits", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches();
    const step = iterator.next();
    expect(waiters()).toBe(1);
    await iterator.return();
    expect(await step).toEqual({ value: undefined, done: true });
    expect(waiters()).toBe(0);
  });

  test("return() ends all steps that wait, and loses no datagram", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches({ rotate: 3 });
    const steps = [iterator.next(), iterator.next(), iterator.next()];
    expect(waiters()).toBe(3);
    await iterator.return();
    expect(waiters()).toBe(0);
    deliver(pair, "x");
    const done = { value: undefined, done: true };
    expect(await soon(steps)).toEqual([done, done, done]);
    expect(empty(pair.receiver)).toEqual(["x"]);
  });

  test("as many steps may wait as there are batches, and are served in order", async () => {
    using pair = udp4.open();
    await using iterator = pair.receiver.batches({ rotate: 2, capacity: 1 });
    const steps = [iterator.next(), iterator.next()];
    deliver(pair, "first", "second");
    const batches = (await Promise.all(steps)).map(({ value }) => value as DatagramBatch);
    expect(batches.map(textsOf)).toEqual([["first"], ["second"]]);
  });

  test("one step more than there are batches fails with EBUSY", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches();
    const first = iterator.next();
    const error = await reasonOf(iterator.next());
    expect(error).toMatchObject({ code: "EBUSY", syscall: "recvmmsg" });
    await iterator.return();
    deliver(pair, "x");
    expect(await soon([first])).not.toContain("pending");
    expect(waiters()).toBe(0);
  });

  test("a body that does not await its sendBatch() gets EBUSY, and what it sends is sent", async () => {
    using pair = openFull();
    const { full, peer, queued } = pair;
    peer.sendSync("precious");
    let sending: Promise<number> | undefined;
    let seen: DatagramBatch | undefined;
    const loop = (async () => {
      for await (const batch of full.batches()) {
        seen = batch;
        sending = full.sendBatch(batch);
      }
    })();
    expect(await reasonOf(loop)).toMatchObject({ code: "EBUSY", syscall: "recvmmsg" });
    expect(await soon([sending as Promise<number>])).toEqual(["pending"]);
    const texts: string[] = [];
    await until(() => texts.push(...empty(peer)) > queued, "everything has come");
    expect(texts.at(-1)).toBe("precious");
    expect(await sending).toBe(1);
    expect(seen?.freed).toBe(true);
    expect(waiters()).toBe(0);
  });

  describe("signal", () => {
    const reason = new Error("enough");

    test("that was aborted before: the first step throws its reason", async () => {
      using pair = udp4.open();
      deliver(pair, "x");
      const iterator = pair.receiver.batches({ signal: AbortSignal.abort(reason) });
      expect(await reasonOf(iterator.next())).toBe(reason);
      expect(await iterator.next()).toEqual({ value: undefined, done: true });
      expect(empty(pair.receiver)).toEqual(["x"]);
      expect(waiters()).toBe(0);
    });

    test("aborted while a step waits: it throws the reason, and the batches are freed", async () => {
      using pair = udp4.open();
      const signal = new WatchedSignal();
      const seen: DatagramBatch[] = [];
      deliver(pair, "x");
      const loop = (async () => {
        for await (const batch of pair.receiver.batches({ signal: signal.signal, rotate: 2 }))
          seen.push(batch);
      })();
      await until(() => seen.length === 1 && waiters() === 1, "the second step waits");
      signal.abort(reason);
      expect(await reasonOf(loop)).toBe(reason);
      expect(seen[0]?.freed).toBe(true);
      expect(waiters()).toBe(0);
      expect(signal.listeners.size).toBe(0);
    });

    test("aborted in the body: the next step throws, whatever is waiting", async () => {
      using pair = udp4.open();
      const controller = new AbortController();
      deliver(pair, "one", "two");
      const texts: string[] = [];
      const loop = (async () => {
        for await (const batch of pair.receiver.batches({
          signal: controller.signal,
          capacity: 1,
        })) {
          texts.push(...textsOf(batch));
          controller.abort(reason);
        }
      })();
      expect(await reasonOf(loop)).toBe(reason);
      expect(texts).toEqual(["one"]);
      expect(empty(pair.receiver)).toEqual(["two"]);
    });

    test("that is never aborted has no listener after any number of steps", async () => {
      using pair = udp4.open();
      const signal = new WatchedSignal();
      let steps = 0;
      deliver(pair, "x");
      for await (const batch of pair.receiver.batches({ signal: signal.signal })) {
        steps += batch.count;
        expect(signal.listeners.size).toBe(0);
        if (steps === 300) break;
        setImmediate(() => deliver(pair, "x"));
        if (steps % 100 === 0) await turns(1);
      }
      expect(signal.listeners.size).toBe(0);
      signal.abort();
    });
  });

  const ends: Record<string, (socket: Socket) => void> = {
    close: (socket) => socket.close(),
    detach: (socket) => void close(socket.detach()),
  };
  describe.each(Object.keys(ends))("after %s()", (how) => {
    const end = ends[how] as (socket: Socket) => void;

    test("a loop that waits ends, and its batches are freed", async () => {
      using pair = udp4.open();
      deliver(pair, "x");
      const seen: DatagramBatch[] = [];
      const loop = (async () => {
        for await (const batch of pair.receiver.batches({ rotate: 2 })) seen.push(batch);
        return "ended";
      })();
      await until(() => seen.length === 1 && waiters() === 1, "the second step waits");
      end(pair.receiver);
      expect(await loop).toBe("ended");
      expect(seen.map(({ freed }) => freed)).toEqual([true]);
      expect(waiters()).toBe(0);
    });

    test("in its body a loop ends with that step", async () => {
      using pair = udp4.open();
      deliver(pair, "one", "two");
      const seen: DatagramBatch[] = [];
      const texts: string[] = [];
      for await (const batch of pair.receiver.batches({ capacity: 1 })) {
        seen.push(batch);
        end(pair.receiver);
        // Valid until the next step, also then.
        texts.push(...textsOf(batch));
      }
      expect(texts).toEqual(["one"]);
      expect(seen.map(({ freed }) => freed)).toEqual([true]);
      expect(waiters()).toBe(0);
    });

    test("a new loop ends at once", async () => {
      using pair = udp4.open();
      end(pair.receiver);
      for await (const _ of pair.receiver.batches()) expect.unreachable();
      expect(waiters()).toBe(0);
    });
  });

  test("what a peer has refused is thrown, and a new iterator goes on", async () => {
    using socket = refused();
    const iterator = socket.batches();
    const error = await reasonOf(iterator.next());
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: "ECONNREFUSED", syscall: "recvmmsg" });
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    expect(waiters()).toBe(0);
    revive(socket, "alive");
    for await (const batch of socket.batches()) {
      expect(textsOf(batch)).toEqual(["alive"]);
      break;
    }
  });

  test("a refusal that comes while a step waits is thrown into it", async () => {
    using dead = UdpSocket.bind("127.0.0.1:0");
    using socket = UdpSocket.bind("127.0.0.1:0");
    socket.connectSync(dead.localAddress);
    // Where two wait, it is the event that tells which of them is meant.
    using other = udp4.open();
    const kept = other.receiver.receive(new Uint8Array(1)).catch(() => {});
    const step = socket.batches().next();
    expect(waiters()).toBe(2);
    await settle();
    dead.close();
    socket.sendSync("x");
    expect(await reasonOf(step)).toMatchObject({ code: "ECONNREFUSED" });
    expect(waiters()).toBe(1);
    other.receiver.close();
    await kept;
  });

  test.each(["1", undefined, "0", ""])(
    "with BUN_SOCKETS_DEBUG=%p old contents are overwritten at each step, or not",
    async (value) => {
      using _ = debugging(value);
      using pair = udp4.open();
      await using iterator = pair.receiver.batches({ capacity: 4, slotBytes: 16 });
      deliver(pair, "first one", "second one");
      const { value: batch } = await iterator.next();
      const memory = (batch as DatagramBatch).memory;
      const before = Buffer.from(memory);
      const step = iterator.next();
      if (value === "1") expect(isPoisoned(batch as DatagramBatch)).toBe(true);
      else expect(before.equals(memory)).toBe(true);
      deliver(pair, "third");
      await step;
      expect(textsOf(batch as DatagramBatch)).toEqual(["third"]);
      const second = Buffer.from(memory.subarray(64, 74));
      expect(`${second}`).toBe(value === "1" ? `${Buffer.alloc(10, POISON)}` : "second one");
    },
  );

  test.each(["1", undefined])(
    "a body that frees the batch gets our error at the next step (BUN_SOCKETS_DEBUG=%p)",
    async (value) => {
      using _ = debugging(value);
      using pair = udp4.open();
      deliver(pair, "one");
      const iterator = pair.receiver.batches({ rotate: 2 });
      const { value: first } = await iterator.next();
      deliver(pair, "two");
      const { value: second } = await iterator.next();
      first?.free();
      deliver(pair, "three");
      expect(await reasonOf(iterator.next())).toEqual(
        new TypeError("Cannot use a DatagramBatch whose memory was freed or transferred"),
      );
      expect(second?.freed).toBe(true);
      expect(await iterator.next()).toEqual({ value: undefined, done: true });
      expect(empty(pair.receiver)).toEqual(["three"]);
      expect(waiters()).toBe(0);
    },
  );

  test.each([
    [{ rotate: 0 }, RangeError, "Cannot use 0 as rotate: expected 1 to 1024"],
    [{ rotate: 1025 }, RangeError, "Cannot use 1025 as rotate: expected 1 to 1024"],
    [{ rotate: 1.5 }, RangeError, "Cannot use 1.5 as rotate: expected 1 to 1024"],
    [{ rotate: Number.NaN }, RangeError, "Cannot use NaN as rotate: expected 1 to 1024"],
    [{ rotate: "2" }, TypeError, "rotate: expected a number"],
    [{ capacity: 0 }, RangeError, "the capacity of a DatagramBatch"],
    [{ capacity: 1025 }, RangeError, "the capacity of a DatagramBatch"],
    [{ slotBytes: 0 }, RangeError, "the slotBytes of a DatagramBatch"],
    [{ peersMax: 0 }, RangeError, "the peersMax of a DatagramBatch"],
    [{ signal: 5 }, TypeError, "as a signal"],
    [{ signal: "abort" }, TypeError, "as a signal"],
    [null, TypeError, "Cannot use null as options"],
    [5, TypeError, "as options: expected an object"],
  ])("refuses %p", (options, kind, message) => {
    using pair = udp4.open();
    const error = caught(() => pair.receiver.batches(options as never));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain(message);
    expect(waiters()).toBe(0);
  });

  test.each(["stream", "seqpacket"] as const)("refuses a %s socket", (type) => {
    const [left, right] = Socket.pair({ type });
    const message = `Cannot use a batch on a ${type} socket: expected a datagram one`;
    try {
      expect(() => left.batches()).toThrow(new TypeError(message));
      expect(() => left.onBatch(() => {})).toThrow(new TypeError(message));
    } finally {
      left.close();
      right.close();
    }
  });
});

/** Collects what a handler gets. */
function collect(
  socket: Socket,
  options?: OnBatchOptions,
): { readonly texts: string[]; readonly handler: BatchSubscription } {
  const texts: string[] = [];
  const handler = socket.onBatch((batch) => void texts.push(...textsOf(batch)), options);
  return { texts, handler };
}

describe("onBatch()", () => {
  test("gives every datagram, in order", async () => {
    using pair = udp4.open();
    let sent = 0;
    const { texts } = collect(pair.receiver, { capacity: 16 });
    while (sent < 2000) {
      for (let burst = 0; burst < 100; burst++) deliver(pair, `${sent++}`);
      await until(() => texts.length === sent, `${sent} have come`);
    }
    expect(texts).toEqual(Array.from({ length: 2000 }, (_, i) => `${i}`));
    expect(waiters()).toBe(1);
  });

  test("takes what was waiting before, but not before it returns", async () => {
    using pair = udp4.open();
    deliver(pair, "early");
    const { texts } = collect(pair.receiver);
    expect(texts).toEqual([]);
    await until(() => texts.length > 0, "it has come");
    expect(texts).toEqual(["early"]);
  });

  test("has a batch of capacity and slotBytes, always the same", async () => {
    using pair = udp4.open();
    const seen: DatagramBatch[] = [];
    pair.receiver.onBatch((batch) => void seen.push(batch), { capacity: 2, slotBytes: 100 });
    for (let i = 1; i <= 3; i++) {
      deliver(pair, "x");
      await until(() => seen.length === i, "it has come");
    }
    expect(new Set(seen).size).toBe(1);
    expect([seen[0]?.capacity, seen[0]?.slotBytes]).toEqual([2, 100]);
  });

  test("pause() and resume() do nothing the second time, and nothing is lost between them", async () => {
    using pair = udp4.open();
    const { texts, handler } = collect(pair.receiver);
    deliver(pair, "before");
    await until(() => texts.length === 1, "it has come");
    expect([handler.paused, handler.stopped, waiters()]).toEqual([false, false, 1]);
    handler.resume();
    expect(waiters()).toBe(1);
    handler.pause();
    handler.pause();
    expect([handler.paused, handler.stopped, waiters()]).toEqual([true, false, 0]);
    deliver(pair, "one", "two");
    await settle();
    expect(texts).toEqual(["before"]);
    handler.resume();
    handler.resume();
    expect([handler.paused, waiters()]).toEqual([false, 1]);
    await until(() => texts.length === 3, "all have come");
    deliver(pair, "three");
    await until(() => texts.length === 4, "all have come");
    expect(texts).toEqual(["before", "one", "two", "three"]);
  });

  test("pause() and resume() in one go leave one handler that gets everything once", async () => {
    using pair = udp4.open();
    const { texts, handler } = collect(pair.receiver);
    for (let i = 0; i < 10; i++) {
      handler.pause();
      handler.resume();
    }
    expect(waiters()).toBe(1);
    deliver(pair, "one", "two");
    await until(() => texts.length === 2, "they have come");
    await settle();
    expect(texts).toEqual(["one", "two"]);
  });

  test("what is paused can be received otherwise", async () => {
    using pair = udp4.open();
    const { texts, handler } = collect(pair.receiver);
    handler.pause();
    deliver(pair, "mine");
    await settle();
    expect(empty(pair.receiver)).toEqual(["mine"]);
    deliver(pair, "yours");
    handler.resume();
    await until(() => texts.length === 1, "it has come");
    expect(texts).toEqual(["yours"]);
  });

  test("a paused handler leaves datagrams to the kernel, and the poller does nothing", async () => {
    const { exitCode, lines, errors } = await run("paused");
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
    const { before, after, cpuMs, handled, left } = lines[0] as Paused;
    expect(after).toEqual(before);
    expect(before).toMatchObject({ waiters: 0 });
    expect({ handled, left }).toEqual({ handled: 1, left: 50 });
    expect(cpuMs).toBeLessThan(100);
  });

  test("a paused handler lets the process end", async () => {
    const { exitCode, errors } = await run("pausedExits");
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
  });

  test("a handler that is not paused keeps the process alive", async () => {
    const child = Bun.spawn([process.execPath, PROGRAM, "serves" satisfies Mode], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    using _ = ending(child);
    const reader = child.stdout.getReader();
    const next = async () =>
      JSON.parse(`${Buffer.from((await reader.read()).value ?? [])}` || '""');
    using client = UdpSocket.open("ipv4");
    const address = (await next()) as string;
    for (const data of ["one", "two"]) {
      client.sendToSync(data, address);
      expect(await next()).toBe(data);
      expect(child.exitCode).toBeNull();
    }
  });

  const inside: Record<string, (handler: BatchSubscription, socket: Socket) => void> = {
    "pause()": (handler) => handler.pause(),
    "stop()": (handler) => handler.stop(),
    "close()": (_, socket) => socket.close(),
    "detach()": (_, socket) => void close(socket.detach()),
    "pause(), resume() and pause()": (handler) => {
      handler.pause();
      handler.resume();
      handler.pause();
    },
    "close() and stop()": (handler, socket) => {
      socket.close();
      handler.stop();
    },
  };
  describe.each(["", " of an asynchronous one"])("from inside the handler%s", (kind) => {
    test.each(Object.keys(inside))("%s makes this batch the last one", async (what) => {
      using reports = new Reports();
      using pair = udp4.open();
      const texts: string[] = [];
      let settled = 0;
      const handler = pair.receiver.onBatch(
        (batch) => {
          inside[what]?.(handler, pair.receiver);
          // Valid until it returns, whatever it has called.
          texts.push(...textsOf(batch));
          if (kind === "") return undefined;
          return turns(2).then(() => settled++);
        },
        { capacity: 1 },
      );
      deliver(pair, "one", "two");
      await until(() => texts.length === 1 && (kind === "" || settled === 1), "it was called");
      await settle();
      expect(texts).toEqual(["one"]);
      expect(handler.paused).toBe(true);
      expect(handler.stopped).toBe(!what.startsWith("pause"));
      expect(waiters()).toBe(0);
      expect(reports.errors).toEqual([]);
      if (!what.startsWith("pause")) {
        handler.resume();
        expect(handler.paused).toBe(true);
        expect(waiters()).toBe(0);
        return;
      }
      handler.resume();
      await until(() => texts.length === 2, "the second has come");
      expect(texts).toEqual(["one", "two"]);
    });
  });

  test("from inside the handler pause() and resume() change nothing", async () => {
    using pair = udp4.open();
    const texts: string[] = [];
    const handler = pair.receiver.onBatch(
      (batch) => {
        handler.pause();
        texts.push(...textsOf(batch));
        handler.resume();
      },
      { capacity: 1 },
    );
    deliver(pair, "one", "two", "three");
    await until(() => texts.length === 3, "all have come");
    await settle();
    expect(texts).toEqual(["one", "two", "three"]);
    expect(waiters()).toBe(1);
  });

  test("stop() frees the batch, leaves the socket open, and makes room for another handler", async () => {
    using pair = udp4.open();
    let seen: DatagramBatch | undefined;
    const handler = pair.receiver.onBatch((batch) => {
      seen = batch;
    });
    deliver(pair, "x");
    await until(() => seen !== undefined, "it has come");
    handler.stop();
    handler.stop();
    handler.pause();
    handler.resume();
    expect([handler.stopped, handler.paused, seen?.freed, waiters()]).toEqual([
      true,
      true,
      true,
      0,
    ]);
    const { texts } = collect(pair.receiver);
    deliver(pair, "y");
    await until(() => texts.length === 1, "it has come");
    expect(texts).toEqual(["y"]);
  });

  test("the end of a using block stops it", async () => {
    using pair = udp4.open();
    let handler: BatchSubscription;
    {
      using subscription = pair.receiver.onBatch(() => {});
      handler = subscription;
      expect(waiters()).toBe(1);
    }
    expect([handler.stopped, waiters()]).toEqual([true, 0]);
  });

  const ends: Record<string, (socket: Socket) => void> = {
    "close()": (socket) => socket.close(),
    "detach()": (socket) => void close(socket.detach()),
  };
  describe.each(Object.keys(ends))("%s", (how) => {
    const end = ends[how] as (socket: Socket) => void;

    test("stops a handler that waits, and frees its batch", async () => {
      using pair = udp4.open();
      let seen: DatagramBatch | undefined;
      const handler = pair.receiver.onBatch((batch) => {
        seen = batch;
      });
      deliver(pair, "x");
      await until(() => seen !== undefined, "it has come");
      end(pair.receiver);
      expect([handler.stopped, handler.paused, seen?.freed]).toEqual([true, true, true]);
      expect(waiters()).toBe(0);
    });

    test("stops a handler that is paused, for good", async () => {
      using reports = new Reports();
      using pair = udp4.open();
      const { texts, handler } = collect(pair.receiver);
      handler.pause();
      deliver(pair, "x");
      end(pair.receiver);
      expect([handler.stopped, handler.paused]).toEqual([true, true]);
      handler.resume();
      await settle();
      expect([handler.stopped, handler.paused, waiters()]).toEqual([true, true, 0]);
      expect(texts).toEqual([]);
      expect(reports.errors).toEqual([]);
    });

    test("stops a handler whose promise is pending: its batch is valid until that settles", async () => {
      using reports = new Reports();
      using pair = udp4.open();
      const { promise, resolve } = Promise.withResolvers<void>();
      const texts: string[] = [];
      let seen: DatagramBatch | undefined;
      const handler = pair.receiver.onBatch(async (batch) => {
        seen = batch;
        texts.push(...textsOf(batch));
        await promise;
        texts.push(...textsOf(batch));
      });
      deliver(pair, "one");
      await until(() => texts.length === 1, "it was called");
      end(pair.receiver);
      expect([handler.stopped, handler.paused]).toEqual([true, true]);
      resolve();
      await until(() => seen?.freed === true, "its batch is freed");
      await settle();
      expect(texts).toEqual(["one", "one"]);
      expect([handler.stopped, handler.paused, waiters()]).toEqual([true, true, 0]);
      expect(reports.errors).toEqual([]);
    });
  });

  test("stop() while a promise of the handler is pending: its batch is valid until that settles", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    const { promise, resolve } = Promise.withResolvers<void>();
    const texts: string[] = [];
    let seen: DatagramBatch | undefined;
    const handler = pair.receiver.onBatch(async (batch) => {
      seen = batch;
      texts.push(...textsOf(batch));
      await promise;
      texts.push(...textsOf(batch));
    });
    deliver(pair, "one", "two");
    await until(() => texts.length > 0, "it was called");
    const { length } = texts;
    handler.stop();
    expect(handler.stopped).toBe(true);
    resolve();
    await until(() => seen?.freed === true, "its batch is freed");
    expect(reports.errors).toEqual([]);
    expect(texts.slice(length)).toEqual(texts.slice(0, length));
  });

  test("a socket that is closed under a handler that still works ends without a complaint", async () => {
    const { exitCode, lines, errors } = await run("closesUnder");
    expect({ exitCode, lines, errors }).toEqual({ exitCode: 0, lines: [[true, true]], errors: "" });
  });

  test("what a handler throws is reported and pauses it; resume() goes on without loss", async () => {
    const { exitCode, lines, errors } = await run("throws");
    expect({ exitCode, errors }).toEqual({ exitCode: 0, errors: "" });
    expect(lines).toEqual([
      {
        reported: ["throw 1", "reject 1", "throw 2"].map((text) => `RangeError: planted: ${text}`),
        pausedAfter: [true, true, true],
        got: ["one", "throw 1", "two", "reject 1", "three", "throw 2", "four"],
      } satisfies Thrown,
    ]);
  });

  test("what a handler throws ends the process when nobody listens", async () => {
    const { exitCode, lines, errors } = await run("throwsUnheard");
    expect({ exitCode, lines }).toEqual({ exitCode: 1, lines: [] });
    expect(errors).toContain("RangeError: planted");
  });

  test.each([undefined, null, 0, "text", Symbol("x")])("%p may be thrown too", async (thrown) => {
    using reports = new Reports();
    using pair = udp4.open();
    const handler = pair.receiver.onBatch(() => {
      throw thrown;
    });
    deliver(pair, "x");
    await until(() => handler.paused, "it is paused");
    expect(reports.errors).toEqual([thrown]);
    expect([handler.stopped, waiters()]).toEqual([false, 0]);
  });

  test("a handler that throws after it has stopped is reported, and stays stopped", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    const planted = new Error("planted");
    const handler = pair.receiver.onBatch(() => {
      pair.receiver.close();
      throw planted;
    });
    deliver(pair, "x");
    await until(() => reports.errors.length > 0, "it is reported");
    expect(reports.errors).toEqual([planted]);
    expect([handler.stopped, handler.paused, waiters()]).toEqual([true, true, 0]);
  });
});

describe("an asynchronous handler of onBatch()", () => {
  test("is backpressure: never two at once, and the kernel holds the rest", async () => {
    using pair = udp4.open();
    const texts: string[] = [];
    let running = 0;
    let runningMax = 0;
    let go: () => void = () => {};
    const handler = pair.receiver.onBatch(
      async (batch) => {
        runningMax = Math.max(runningMax, ++running);
        texts.push(...textsOf(batch));
        await new Promise<void>((resolve) => {
          go = resolve;
        });
        running--;
      },
      { capacity: 2 },
    );
    deliver(pair, ...Array.from({ length: 10 }, (_, i) => `${i}`));
    for (let calls = 1; calls <= 5; calls++) {
      await until(() => texts.length === 2 * calls, "it was called");
      await settle();
      expect(texts).toHaveLength(2 * calls);
      expect([handler.paused, waiters()]).toEqual([false, 0]);
      if (calls === 2) {
        // The kernel has all but what was given.
        expect(pair.receiver.tryReceiveBytes(10)).toEqual(new Uint8Array([0x34]));
        deliver(pair, "10");
      }
      const next = go;
      next();
      await until(() => running === 0 || go !== next, "it goes on");
    }
    expect(texts).toEqual(["0", "1", "2", "3", "5", "6", "7", "8", "9", "10"]);
    expect(runningMax).toBe(1);
    await until(() => waiters() === 1, "it waits again");
  });

  test("one that is answered at once gets everything too", async () => {
    using pair = udp4.open();
    const texts: string[] = [];
    pair.receiver.onBatch(
      async (batch) => {
        texts.push(...textsOf(batch));
      },
      { capacity: 4 },
    );
    for (let sent = 0; sent < 500; ) {
      for (let burst = 0; burst < 50; burst++) deliver(pair, `${sent++}`);
      await until(() => texts.length === sent, `${sent} have come`);
    }
    expect(texts).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`));
  });

  test("an echo by sendBatch() waits for room, and loses nothing", async () => {
    using pair = openFull();
    const { full, peer, queued } = pair;
    let calls = 0;
    full.onBatch(
      (batch) => {
        calls++;
        return full.sendBatch(batch);
      },
      { capacity: 1 },
    );
    for (let i = 0; i < 8; i++) peer.sendSync(`${i}`);
    await until(() => calls === 1, "it was called");
    await settle();
    expect(calls).toBe(1);
    const texts: string[] = [];
    await until(() => texts.push(...empty(peer)) === queued + 8, "everything has come back");
    expect(texts.slice(queued)).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
  });

  test("pause() and resume() while its promise is pending do not call it twice", async () => {
    using pair = udp4.open();
    const texts: string[] = [];
    let running = 0;
    let go: () => void = () => {};
    const handler = pair.receiver.onBatch(
      async (batch) => {
        expect(++running).toBe(1);
        texts.push(...textsOf(batch));
        await new Promise<void>((resolve) => {
          go = resolve;
        });
        running--;
      },
      { capacity: 1 },
    );
    deliver(pair, "one", "two");
    await until(() => texts.length === 1, "it was called");
    for (let i = 0; i < 3; i++) {
      handler.pause();
      expect(handler.paused).toBe(true);
      handler.resume();
      expect(handler.paused).toBe(false);
    }
    await settle();
    expect(texts).toEqual(["one"]);
    handler.pause();
    go();
    await settle();
    expect(texts).toEqual(["one"]);
    expect(waiters()).toBe(0);
    handler.resume();
    await until(() => texts.length === 2, "the second has come");
    go();
  });

  test("whose promise is rejected is reported and paused; resume() goes on without loss", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    const planted = new Error("planted");
    const texts: string[] = [];
    const handler = pair.receiver.onBatch(
      async (batch) => {
        texts.push(...textsOf(batch));
        await turns(1);
        if (texts.length === 1) throw planted;
      },
      { capacity: 1 },
    );
    deliver(pair, "one", "two");
    await until(() => handler.paused, "it is paused");
    await settle();
    expect(reports.errors).toEqual([planted]);
    expect([texts, handler.stopped, waiters()]).toEqual([["one"], false, 0]);
    handler.resume();
    await until(() => texts.length === 2, "the second has come");
    expect(reports.errors).toHaveLength(1);
  });

  type Then = (resolve: (value?: unknown) => void, reject: (reason: unknown) => void) => void;
  // The linter refuses the word as a property: it is what these tests are about.
  const THEN = "then";
  const thenable = (then: Then): unknown => ({ [THEN]: then });
  const planted = new Error("planted");
  const fail = (): never => {
    throw planted;
  };

  const thens: Record<string, { behaves: Then; reports: readonly unknown[] }> = {
    throws: { behaves: fail, reports: [planted] },
    "calls back at once": { behaves: (resolve) => resolve(), reports: [] },
    "calls back twice": {
      behaves: (resolve) => {
        resolve();
        resolve();
        setImmediate(resolve);
      },
      reports: [],
    },
    "calls back both ways": {
      behaves: (resolve, reject) => {
        resolve();
        reject(planted);
        setImmediate(() => reject(planted));
      },
      reports: [],
    },
    "calls back both ways, the other way round": {
      behaves: (resolve, reject) => {
        reject(planted);
        resolve();
      },
      reports: [planted],
    },
    "calls back, and throws": {
      behaves: (resolve) => {
        resolve();
        fail();
      },
      reports: [],
    },
    "gives another thenable": {
      behaves: (resolve) => resolve(thenable((again) => void setImmediate(again))),
      reports: [],
    },
    "gives one that throws": { behaves: (resolve) => resolve(thenable(fail)), reports: [planted] },
  };
  const containers: Record<string, (then: Then) => unknown> = {
    "an object": thenable,
    "an object without a prototype": (then) => Object.assign(Object.create(null), { [THEN]: then }),
    "a function": (then) => Object.assign(() => {}, { [THEN]: then }),
    // Of the engine's own kind.
    "a promise": (then) => Object.defineProperty(Promise.resolve(), THEN, { value: then }),
  };
  const nasty = Object.keys(containers).flatMap((container) =>
    Object.keys(thens).map((name) => [container, name] as const),
  );
  test.each(nasty)("may return %s whose then() %s", async (container, name) => {
    const { behaves, reports: expected } = thens[name] as (typeof thens)[string];
    using reports = new Reports();
    using pair = udp4.open();
    const texts: string[] = [];
    let isFirst = true;
    let running = 0;
    let runningMax = 0;
    const handler = pair.receiver.onBatch(
      (batch) => {
        texts.push(...textsOf(batch));
        if (isFirst) {
          isFirst = false;
          return containers[container]?.(behaves);
        }
        // While this promise is pending nothing else is to be called, whatever the first one does.
        runningMax = Math.max(runningMax, ++running);
        return turns(3).then(() => {
          running--;
        });
      },
      { capacity: 1 },
    );
    deliver(pair, "1", "2", "3", "4");
    if (expected.length > 0) {
      await until(() => handler.paused, "it is paused", SOON_MS);
      expect(texts).toEqual(["1"]);
      handler.resume();
    }
    await until(() => texts.length === 4 && running === 0, "all have come", SOON_MS);
    await settle();
    expect(texts).toEqual(["1", "2", "3", "4"]);
    expect(runningMax).toBe(1);
    expect(reports.errors).toEqual([...expected]);
    expect([handler.paused, waiters()]).toEqual([false, 1]);
  });

  test("a thenable that never calls back holds everything, and stop() ends it", async () => {
    using pair = udp4.open();
    let calls = 0;
    const handler = pair.receiver.onBatch(
      () => {
        calls++;
        return thenable(() => {});
      },
      { capacity: 1 },
    );
    deliver(pair, "one", "two");
    await until(() => calls === 1, "it was called");
    await settle();
    expect([calls, waiters()]).toEqual([1, 0]);
    handler.stop();
    expect(handler.stopped).toBe(true);
    expect(empty(pair.receiver)).toEqual(["two"]);
  });

  /** Something with a property that is looked up: `get` is told how often, from 1. */
  function looked(target: object, key: string, get: (times: number) => unknown): unknown {
    let times = 0;
    return Object.defineProperty(target, key, { get: () => get(++times) });
  }

  const answer: Then = (resolve) => resolve();
  const getters: Record<string, () => unknown> = {
    throws: () => looked({}, THEN, fail),
    "throws the second time": () => looked({}, THEN, (times) => (times > 1 ? fail() : answer)),
    "gives a function the second time": () =>
      looked({}, THEN, (times) => (times > 1 ? answer : undefined)),
    "belongs to a promise, and throws": () => looked(Promise.resolve(), THEN, fail),
    "is the constructor of a promise, and throws": () =>
      looked(Promise.resolve(), "constructor", fail),
  };
  test.each(Object.keys(getters))("may return something with a getter that %s", async (name) => {
    using reports = new Reports();
    using pair = udp4.open();
    const texts: string[] = [];
    const handler = pair.receiver.onBatch(
      (batch) => {
        texts.push(...textsOf(batch));
        return texts.length === 1 ? getters[name]?.() : undefined;
      },
      { capacity: 1 },
    );
    deliver(pair, "one", "two");
    await until(() => texts.length === 2 || handler.paused, "it was called");
    await settle();
    // Whether it is told of is one thing; what matters is that it goes on.
    expect(handler.paused).toBe(reports.errors.length > 0);
    expect(reports.errors.filter((error) => error !== planted)).toEqual([]);
    handler.resume();
    await until(() => texts.length === 2, "both have come", SOON_MS);
    expect(texts).toEqual(["one", "two"]);
    expect([handler.paused, waiters()]).toEqual([false, 1]);
  });
});

describe("drain of onBatch()", () => {
  /** What the tries of a send find: undefined, or 0 datagrams, when there is no room. */
  const tries: Record<string, (socket: UnixDatagramSocket, to: UnixAddress) => unknown> = {
    trySend: (socket) => socket.trySend(Buffer.from("x")),
    trySendTo: (socket, to) => socket.trySendTo(Buffer.from("x"), to),
    trySendMessage: (socket, to) =>
      socket.trySendMessage(
        new Message({ vectors: Buffer.from("x"), ...(socket.connected ? {} : { address: to }) }),
      ),
    trySendBatch: (socket, to) => {
      using batch = new DatagramBatch({ capacity: 1, slotBytes: 8 });
      batch.count = 1;
      batch.write(0, "x");
      batch.setAddress(0, to);
      return socket.trySendBatch(batch) || undefined;
    },
  };

  function open(pair: Pair, options: Omit<OnBatchOptions, "drain"> = {}) {
    let drains = 0;
    const socket = pair.sender as UnixDatagramSocket;
    const peer = pair.receiver as UnixDatagramSocket;
    const handler = socket.onBatch(() => {}, { ...options, drain: () => void drains++ });
    return { socket, peer, to: peer.localAddress, handler, drains: () => drains };
  }

  test.each(Object.keys(tries))(
    "is called when there is room again after %s() found none",
    async (name) => {
      using pair = unixDatagram.open();
      const { socket, peer, to, drains } = open(pair);
      const attempt = () => tries[name]?.(socket, to);
      for (let round = 1; round <= 3; round++) {
        let sent = 0;
        while (attempt() !== undefined) sent++;
        expect(sent).toBeGreaterThan(0);
        for (let i = 0; i < 5; i++) expect(attempt()).toBeUndefined();
        await settle();
        // Not before there is room.
        expect(drains()).toBe(round - 1);
        expect(empty(peer)).toHaveLength(sent);
        await until(() => drains() === round, "it was called");
        await settle();
        expect(drains()).toBe(round);
        expect(waiters()).toBe(1);
      }
    },
  );

  test.each(["trySendTo", "trySendMessage", "trySendBatch"])(
    "is called after %s() of a socket without a peer found none",
    async (name) => {
      using pair = unixDatagramNamed.open();
      const { socket, peer, to, drains } = open(pair);
      while (tries[name]?.(socket, to) !== undefined);
      empty(peer);
      await until(() => drains() > 0, "it was called", SOON_MS);
      expect(tries[name]?.(socket, to)).toBe(1);
    },
  );

  test("is not called too early either when it is the first that the poller is asked for", async () => {
    const { exitCode, lines, errors } = await run("drainsFirst");
    expect({ exitCode, lines, errors }).toEqual({ exitCode: 0, lines: [[0, 1]], errors: "" });
  });

  test("is not called when there was room, and when it is read from", async () => {
    using pair = unixDatagram.open();
    const { socket, peer, drains } = open(pair);
    for (let i = 0; i < 50; i++) {
      socket.trySend(Buffer.from("x"));
      empty(peer);
      await turns(1);
    }
    await settle();
    expect(drains()).toBe(0);
    expect(waiters()).toBe(1);
  });

  const patient: Record<string, (socket: UnixDatagramSocket, to: UnixAddress) => Promise<unknown>> =
    {
      send: (socket) => socket.send("waited"),
      sendTo: (socket, to) => socket.sendTo("waited", to),
      sendMessage: (socket) => socket.sendMessage(new Message({ vectors: Buffer.from("waited") })),
      sendBatch: async (socket) => {
        using batch = new DatagramBatch({ capacity: 1, slotBytes: 8 });
        batch.count = 1;
        batch.write(0, "waited");
        await socket.sendBatch(batch);
      },
    };
  test.each(Object.keys(patient))(
    "is not called after %s(), which waits by itself",
    async (name) => {
      using pair = unixDatagram.open();
      const { socket, peer, to, drains } = open(pair);
      // Filled from elsewhere: no try of this socket finds it full.
      using other = socket.duplicate();
      while (other.trySend(Buffer.from("x")) !== undefined);
      const sending = patient[name]?.(socket, to);
      await settle();
      expect(empty(peer).length).toBeGreaterThan(0);
      await sending;
      await settle();
      expect(drains()).toBe(0);
      expect(empty(peer)).toEqual(["waited"]);
      expect(waiters()).toBe(1);
    },
  );

  test("may find no room again, and is called again then", async () => {
    using pair = unixDatagram.open();
    const socket = pair.sender as UnixDatagramSocket;
    const peer = pair.receiver;
    const sent: string[] = [];
    const fill = () => {
      while (sent.length < 200 && socket.trySend(Buffer.from(`${sent.length}`)) !== undefined)
        sent.push(`${sent.length}`);
    };
    let drains = 0;
    socket.onBatch(() => {}, {
      drain() {
        drains++;
        fill();
      },
    });
    fill();
    const got: string[] = [];
    while (got.length < 200) got.push(text(await peer.receiveBytes(10, WAIT)));
    expect(got).toEqual(sent);
    expect(drains).toBeGreaterThan(1);
    await settle();
    expect(waiters()).toBe(1);
  });

  test("looks at the peer that the socket has then, not at the one it had before", async () => {
    using pair = unixDatagramNamed.open();
    const { socket, peer, to, drains } = open(pair);
    socket.connectSync(to);
    while (socket.trySend(Buffer.from("x")) !== undefined);
    await Bun.sleep(PAUSE_MS_MAX);
    await settle();
    expect(drains()).toBe(0);
    empty(peer);
    await until(() => drains() === 1, "it was called", SOON_MS);
  });

  test("that finds no room again and again, without a peer, has pauses between", async () => {
    using pair = unixDatagramNamed.open();
    const socket = pair.sender as UnixDatagramSocket;
    const to = pair.receiver.localAddress as UnixAddress;
    let drains = 0;
    const fill = () => {
      while (socket.trySendTo(Buffer.from("x"), to) !== undefined);
    };
    socket.onBatch(() => {}, {
      drain() {
        drains++;
        fill();
      },
    });
    const started = performance.now();
    fill();
    // No event tells when a queue of another has room: it is looked at after a millisecond or more.
    await until(() => drains >= 20 || performance.now() - started > 1000, "it was tried");
    expect(drains).toBeGreaterThan(0);
    expect(drains).toBeLessThanOrEqual(performance.now() - started + 2);
    empty(pair.receiver);
  });

  test("is not called any more after stop(), and nothing waits for it", async () => {
    using pair = unixDatagram.open();
    const { socket, peer, handler, drains } = open(pair);
    while (socket.trySend(Buffer.from("x")) !== undefined);
    handler.stop();
    expect(waiters()).toBe(0);
    empty(peer);
    await settle();
    while (socket.trySend(Buffer.from("x")) !== undefined);
    empty(peer);
    await settle();
    expect(drains()).toBe(0);
    expect(waiters()).toBe(0);
  });

  test.each([false, true])("is not called after close() (handler paused: %p)", async (isPaused) => {
    using reports = new Reports();
    using pair = unixDatagram.open();
    const { socket, peer, handler, drains } = open(pair);
    if (isPaused) handler.pause();
    while (socket.trySend(Buffer.from("x")) !== undefined);
    socket.close();
    empty(peer);
    await settle();
    expect([drains(), waiters()]).toEqual([0, 0]);
    expect(reports.errors).toEqual([]);
  });

  test("is called while the handler is paused: that is about what comes in", async () => {
    using pair = unixDatagram.open();
    const { socket, peer, handler, drains } = open(pair);
    handler.pause();
    while (socket.trySend(Buffer.from("x")) !== undefined);
    empty(peer);
    await until(() => drains() === 1, "it was called");
  });

  test("that throws is reported, and is called the next time", async () => {
    using reports = new Reports();
    using pair = unixDatagram.open();
    const socket = pair.sender as UnixDatagramSocket;
    const planted = new Error("planted");
    let drains = 0;
    const handler = socket.onBatch(() => {}, {
      drain() {
        drains++;
        throw planted;
      },
    });
    for (let round = 1; round <= 2; round++) {
      while (socket.trySend(Buffer.from("x")) !== undefined);
      empty(pair.receiver);
      await until(() => drains === round, "it was called");
    }
    expect(reports.errors).toEqual([planted, planted]);
    expect(handler.stopped).toBe(false);
  });

  test("a handler without it is as before when there is no room", async () => {
    using pair = openFull();
    const { texts } = collect(pair.full);
    expect(pair.full.trySend(Buffer.from("x"))).toBeUndefined();
    expect(waiters()).toBe(1);
    pair.peer.sendSync("y");
    await until(() => texts.length === 1, "it has come");
  });
});

describe("error of onBatch()", () => {
  test("is called with what a dead peer has refused, and the handler goes on", async () => {
    using reports = new Reports();
    using socket = refused();
    const errors: SystemError[] = [];
    const { texts, handler } = collect(socket, { error: (error) => void errors.push(error) });
    await until(() => errors.length > 0, "it was called");
    expect(errors).toHaveLength(1);
    expect(errors[0]).toBeInstanceOf(SystemError);
    expect(errors[0]).toMatchObject({
      code: "ECONNREFUSED",
      errno: -ECONNREFUSED,
      syscall: "recvmmsg",
    });
    expect(handler.paused).toBe(false);
    revive(socket, "alive");
    await until(() => texts.length === 1, "it has come");
    expect(texts).toEqual(["alive"]);
    expect(reports.errors).toEqual([]);
  });

  test("is called for each refusal, while the handler waits", async () => {
    using dead = UdpSocket.bind("127.0.0.1:0");
    using socket = UdpSocket.bind("127.0.0.1:0");
    socket.connectSync(dead.localAddress);
    const codes: string[] = [];
    const handler = socket.onBatch(() => {}, { error: ({ code }) => void codes.push(code) });
    dead.close();
    for (let sent = 1; sent <= 3; sent++) {
      socket.sendSync("x");
      await until(() => codes.length === sent, "it was called");
    }
    expect(codes).toEqual(["ECONNREFUSED", "ECONNREFUSED", "ECONNREFUSED"]);
    expect([handler.paused, waiters()]).toEqual([false, 1]);
  });

  test("without it what a dead peer has refused is passed over", async () => {
    using reports = new Reports();
    using socket = refused();
    const { texts, handler } = collect(socket);
    await settle();
    expect([handler.paused, waiters()]).toEqual([false, 1]);
    revive(socket, "alive");
    await until(() => texts.length === 1, "it has come");
    expect(reports.errors).toEqual([]);
  });

  /** Lets one receive fail with an errno. */
  function failOnce(errno: number) {
    let calls = 0;
    return replaceLibc("recvmmsg", (original) => (...values) => {
      return ++calls === 1 ? failWith(errno) : original(...values);
    });
  }

  test("without it an error of the socket's own is reported and pauses; nothing is lost", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    deliver(pair, "one", "two");
    using fault = failOnce(ENOMEM);
    const { texts, handler } = collect(pair.receiver);
    await until(() => handler.paused, "it is paused");
    expect(fault.calls).toBe(1);
    expect(reports.errors).toMatchObject([{ code: "ENOMEM", syscall: "recvmmsg" }]);
    handler.resume();
    await until(() => texts.length === 2, "both have come");
    expect(texts).toEqual(["one", "two"]);
  });

  test("is called with an error of the socket's own, which pauses; nothing is lost", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    deliver(pair, "one", "two");
    using fault = failOnce(ENOMEM);
    const codes: string[] = [];
    const { texts, handler } = collect(pair.receiver, {
      error: ({ code }) => void codes.push(code),
    });
    await until(() => codes.length > 0, "it was called");
    expect([codes, handler.paused, fault.calls, waiters()]).toEqual([["ENOMEM"], true, 1, 0]);
    handler.resume();
    await until(() => texts.length === 2, "both have come");
    expect(reports.errors).toEqual([]);
  });

  test("that throws is reported, and pauses", async () => {
    using reports = new Reports();
    using socket = refused();
    const planted = new Error("planted");
    const handler = socket.onBatch(() => {}, {
      error() {
        throw planted;
      },
    });
    await until(() => handler.paused, "it is paused");
    expect(reports.errors).toEqual([planted]);
    handler.resume();
    expect(waiters()).toBe(1);
  });

  test("may pause, stop or close", async () => {
    const ways: ((socket: UdpSocket, handler: BatchSubscription) => void)[] = [
      (_, handler) => handler.pause(),
      (_, handler) => handler.stop(),
      (socket) => socket.close(),
    ];
    for (const way of ways) {
      using reports = new Reports();
      using socket = refused();
      let calls = 0;
      const handler = socket.onBatch(() => {}, {
        error() {
          calls++;
          way(socket, handler);
        },
      });
      await until(() => handler.paused, "it is paused");
      await settle();
      expect([calls, waiters()]).toEqual([1, 0]);
      expect(reports.errors).toEqual([]);
    }
  });

  test("is not called for what the handler throws", async () => {
    using reports = new Reports();
    using pair = udp4.open();
    const planted = new Error("planted");
    let calls = 0;
    const handler = pair.receiver.onBatch(
      () => {
        throw planted;
      },
      { error: () => void calls++ },
    );
    deliver(pair, "x");
    await until(() => handler.paused, "it is paused");
    expect([calls, reports.errors]).toEqual([0, [planted]]);
  });
});

describe("onBatch() beside others", () => {
  test("a second handler is refused until the first was stopped", async () => {
    using pair = udp4.open();
    const first = pair.receiver.onBatch(() => {});
    const message = "Cannot add a second handler to a socket: stop the first one";
    expect(() => pair.receiver.onBatch(() => {})).toThrow(new TypeError(message));
    first.pause();
    expect(() => pair.receiver.onBatch(() => {})).toThrow(new TypeError(message));
    first.stop();
    const { texts } = collect(pair.receiver);
    deliver(pair, "x");
    await until(() => texts.length === 1, "it has come");
    expect(waiters()).toBe(1);
  });

  test("a handler of a refused call is not there: options are looked at first", async () => {
    using pair = udp4.open();
    expect(() => pair.receiver.onBatch(() => {}, { capacity: 0 })).toThrow(RangeError);
    expect(waiters()).toBe(0);
    const { texts } = collect(pair.receiver);
    deliver(pair, "x");
    await until(() => texts.length === 1, "it has come");
  });

  test("receive() gets its turn first, and the handler the rest", async () => {
    using pair = udp4.open();
    const { texts } = collect(pair.receiver);
    await settle();
    const received = [pair.receiver.receiveBytes(10, WAIT), pair.receiver.receiveBytes(10, WAIT)];
    expect(waiters()).toBe(3);
    deliver(pair, "one", "two", "three", "four");
    expect((await Promise.all(received)).map(text)).toEqual(["one", "two"]);
    await until(() => texts.length === 2, "the rest has come");
    expect(texts).toEqual(["three", "four"]);
  });

  test("receive() has its turn also when datagrams came before it", async () => {
    using pair = udp4.open();
    const { texts } = collect(pair.receiver, { capacity: 1 });
    await settle();
    deliver(pair, "one", "two");
    const received = pair.receiver.receiveBytes(10, WAIT);
    expect(text(await received)).toBe("one");
    await until(() => texts.length === 1, "the rest has come");
    expect(texts).toEqual(["two"]);
  });

  const BESIDE_HANDLER = "Cannot loop over batches of a socket that has a handler: stop that first";
  const BESIDE_LOOP = "Cannot add a handler to a socket beside a loop of batches: end the loop";

  test("a loop of batches() would starve the handler, also a paused one, and is refused", async () => {
    using pair = udp4.open();
    const { texts, handler } = collect(pair.receiver);
    expect(() => pair.receiver.batches()).toThrow(BESIDE_HANDLER);
    handler.pause();
    expect(() => pair.receiver.batches()).toThrow(new TypeError(BESIDE_HANDLER));
    handler.resume();
    deliver(pair, "one");
    await until(() => texts.length > 0, "it has come");
    handler.stop();
    const iterator = pair.receiver.batches();
    deliver(pair, "two");
    expect(textsOf((await iterator.next()).value as DatagramBatch)).toEqual(["two"]);
    deliver(pair, "three");
    expect(textsOf((await iterator.next()).value as DatagramBatch)).toEqual(["three"]);
    await iterator.return();
    expect(texts).toEqual(["one"]);
    // However many steps it had, it was one loop.
    expect(pair.receiver.onBatch(() => {}).stopped).toBe(false);
  });

  test.each([
    ["that waits", 0],
    ["between two steps", 1],
  ])("a loop of batches() %s lets no handler in, until it has ended", async (_, before) => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches();
    const other = pair.receiver.batches();
    deliver(pair, "one");
    const step = iterator.next();
    if (before > 0) await step;
    expect(() => pair.receiver.onBatch(() => {})).toThrow(new TypeError(BESIDE_LOOP));
    expect(textsOf((await step).value as DatagramBatch)).toEqual(["one"]);
    // Loops share, and each of them counts once.
    const second = other.next();
    await iterator.return();
    await iterator.return();
    expect(() => pair.receiver.onBatch(() => {})).toThrow(BESIDE_LOOP);
    deliver(pair, "two");
    expect(textsOf((await second).value as DatagramBatch)).toEqual(["two"]);
    await other.return();
    const { texts } = collect(pair.receiver);
    deliver(pair, "three");
    await until(() => texts.length > 0, "it has come");
    expect(texts).toEqual(["three"]);
  });

  test("a loop of batches() that an error or its signal has ended lets a handler in", async () => {
    using pair = udp4.open();
    const controller = new AbortController();
    const step = pair.receiver.batches({ signal: controller.signal }).next();
    controller.abort(new Error("enough"));
    expect(await reasonOf(step)).toMatchObject({ message: "enough" });
    {
      using _ = replaceLibc("recvmmsg", () => () => failWith(ENOMEM));
      expect(await reasonOf(pair.receiver.batches().next())).toBeInstanceOf(SystemError);
    }
    const { texts } = collect(pair.receiver);
    deliver(pair, "x");
    await until(() => texts.length > 0, "it has come");
  });

  test("a loop of batches() that has not begun lets a handler in, and is refused then", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches();
    const { texts, handler } = collect(pair.receiver);
    const error = await reasonOf(iterator.next());
    expect(error).toBeInstanceOf(TypeError);
    expect((error as Error).message).toBe(BESIDE_HANDLER);
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    deliver(pair, "x");
    await until(() => texts.length > 0, "it has come");
    handler.stop();
    expect(pair.receiver.onBatch(() => {}).stopped).toBe(false);
  });

  test("close() ends the handler and every call that waits beside it", async () => {
    using pair = udp4.open();
    const handler = pair.receiver.onBatch(() => {});
    const received = pair.receiver.receiveBytes(10);
    pair.receiver.close();
    expect(await reasonOf(received)).toBeInstanceOf(ClosedError);
    expect([handler.stopped, waiters()]).toEqual([true, 0]);
  });

  test("two handlers on duplicates share the queue: each datagram comes once", async () => {
    using pair = udp4.open();
    using duplicate = pair.receiver.duplicate();
    const left = collect(pair.receiver, { capacity: 3 });
    const right = collect(duplicate, { capacity: 3 });
    const got = () => left.texts.length + right.texts.length;
    let sent = 0;
    while (sent < 600) {
      for (let burst = 0; burst < 60; burst++) deliver(pair, `${sent++}`);
      await until(() => got() === sent, `${sent} have come`);
    }
    const sorted = [...left.texts, ...right.texts].map(Number).sort((a, b) => a - b);
    expect(sorted).toEqual(Array.from({ length: 600 }, (_, i) => i));
    // Each goes on without the other.
    left.handler.stop();
    deliver(pair, "right");
    await until(() => right.texts.includes("right"), "it has come");
    duplicate.close();
    const again = collect(pair.receiver);
    deliver(pair, "left");
    await until(() => again.texts.includes("left"), "it has come");
  });

  test("many sockets with handlers each get their own", async () => {
    const pairs = Array.from({ length: 20 }, () => udp4.open());
    try {
      const all = pairs.map((pair) => collect(pair.receiver));
      for (let round = 1; round <= 5; round++) {
        for (const [i, pair] of pairs.entries()) deliver(pair, `${i}`);
        await until(() => all.every(({ texts }) => texts.length === round), "all have come");
      }
      for (const [i, { texts }] of all.entries()) expect(texts).toEqual(Array(5).fill(`${i}`));
    } finally {
      for (const pair of pairs) pair[Symbol.dispose]();
    }
    expect(waiters()).toBe(0);
  });
});

describe("the batch of a handler", () => {
  test("that the handler frees is reported at the next receive; nothing is lost", async () => {
    for (const value of ["1", undefined]) {
      using _ = debugging(value);
      using reports = new Reports();
      using pair = udp4.open();
      const handler = pair.receiver.onBatch((batch) => batch.free(), { capacity: 1 });
      deliver(pair, "one", "two");
      await until(() => handler.paused, "it is paused");
      await settle();
      expect(reports.errors).toEqual([
        new TypeError("Cannot use a DatagramBatch whose memory was freed or transferred"),
      ]);
      expect(waiters()).toBe(0);
      expect(empty(pair.receiver)).toEqual(["two"]);
      handler.stop();
      const { texts } = collect(pair.receiver);
      deliver(pair, "three");
      await until(() => texts.length === 1, "it has come");
    }
  });

  test("that is still being sent is reported with EBUSY, and what is sent is sent", async () => {
    using _ = debugging(undefined);
    using reports = new Reports();
    using pair = openFull();
    const { full, peer, queued } = pair;
    let sending: Promise<number> | undefined;
    const handler = full.onBatch(
      (batch) => {
        sending = full.sendBatch(batch);
      },
      { capacity: 1 },
    );
    peer.sendSync("precious");
    peer.sendSync("later");
    await until(() => handler.paused, "it is paused");
    expect(reports.errors).toMatchObject([{ code: "EBUSY", syscall: "recvmmsg" }]);
    const texts: string[] = [];
    await until(() => texts.push(...empty(peer)) > queued, "everything has come");
    expect(texts.at(-1)).toBe("precious");
    expect(await sending).toBe(1);
    handler.resume();
    await until(() => texts.push(...empty(peer)) > queued + 1, "the next has come");
    expect(texts.at(-1)).toBe("later");
  });

  test.each(["1", undefined, "0"])(
    "with BUN_SOCKETS_DEBUG=%p is overwritten when the handler has returned, or not",
    async (value) => {
      using _ = debugging(value);
      using pair = udp4.open();
      let seen: DatagramBatch | undefined;
      pair.receiver.onBatch((batch) => {
        expect(textsOf(batch)).toEqual(["contents"]);
        seen = batch;
      });
      deliver(pair, "contents");
      await until(() => seen !== undefined, "it was called");
      expect(isPoisoned(seen as DatagramBatch)).toBe(value === "1");
      if (value !== "1")
        expect(text((seen as DatagramBatch).memory.subarray(0, 8))).toBe("contents");
    },
  );

  test.each(["1", undefined])(
    "with BUN_SOCKETS_DEBUG=%p is overwritten when the handler's promise has settled, or not",
    async (value) => {
      using reports = new Reports();
      using _ = debugging(value);
      using pair = udp4.open();
      for (const fails of [false, true]) {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        let seen: DatagramBatch | undefined;
        using handler = pair.receiver.onBatch((batch) => {
          seen = batch;
          return promise;
        });
        deliver(pair, "contents");
        await until(() => seen !== undefined, "it was called");
        await settle();
        expect(textsOf(seen as DatagramBatch)).toEqual(["contents"]);
        if (fails) reject(new Error("planted"));
        else resolve();
        await settle();
        expect(handler.paused).toBe(fails);
        expect(isPoisoned(seen as DatagramBatch)).toBe(value === "1");
      }
      expect(reports.errors).toHaveLength(1);
    },
  );
});

describe("onBatch() refuses", () => {
  const handler: BatchHandler = () => {};
  test.each([
    [undefined, undefined, TypeError, "as a handler: expected a function"],
    [{}, undefined, TypeError, "as a handler: expected a function"],
    [null, undefined, TypeError, "Cannot use null as a handler: expected a function"],
    [handler, null, TypeError, "Cannot use null as options"],
    [handler, 5, TypeError, "as options: expected an object"],
    [handler, { drain: 5 }, TypeError, "as drain: expected a function"],
    [handler, { drain: null }, TypeError, "Cannot use null as drain: expected a function"],
    [handler, { error: "x" }, TypeError, "as error: expected a function"],
    [handler, { capacity: 0 }, RangeError, "the capacity of a DatagramBatch"],
    [handler, { capacity: 1025 }, RangeError, "the capacity of a DatagramBatch"],
    [handler, { slotBytes: 2 ** 24 + 1 }, RangeError, "the slotBytes of a DatagramBatch"],
    [handler, { slotBytes: "9" }, TypeError, "the slotBytes of a DatagramBatch"],
  ])("%p with options %p", (handler, options, kind, message) => {
    using pair = udp4.open();
    const error = caught(() => pair.receiver.onBatch(handler as never, options as never));
    expect(error).toBeInstanceOf(kind);
    expect(error.message).toContain(message);
    expect(waiters()).toBe(0);
  });

  test("a socket that is closed", () => {
    const pair = udp4.open();
    pair[Symbol.dispose]();
    expect(caught(() => pair.receiver.onBatch(() => {}))).toBeInstanceOf(ClosedError);
    expect(waiters()).toBe(0);
  });
});

// Program 1 of the design, word for word.
const ECHO = `import { UdpSocket } from "bun-sockets";

using socket = UdpSocket.bind("127.0.0.1:9000");
for await (const batch of socket.batches()) await socket.sendBatch(batch);
`;

// Its port may be taken: it gets another one, and tells which.
const PRELOAD = `
import { UdpSocket } from "bun-sockets";
const { bind } = UdpSocket;
UdpSocket.bind = (address) => {
  if (address !== "127.0.0.1:9000") throw new Error(address);
  const socket = bind.call(UdpSocket, "127.0.0.1:0");
  console.log(String(socket.localAddress));
  return socket;
};
`;

test("the echo server of four lines answers everybody, and loses nothing", async () => {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-echo-"));
  try {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(join(import.meta.dir, "../.."), join(folder, "node_modules/bun-sockets"));
    const program = join(folder, "echo.ts");
    const preload = join(folder, "preload.ts");
    writeFileSync(program, ECHO);
    writeFileSync(preload, PRELOAD);
    const child = Bun.spawn([process.execPath, "--preload", preload, program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    using _ = ending(child);
    const address = await firstLine(child.stdout);
    using left = UdpSocket.bind("127.0.0.1:0");
    using right = UdpSocket.bind("127.0.0.1:0");
    for (const client of [left, right]) client.connectSync(address);
    using dead = UdpSocket.open("ipv4");
    for (let round = 0; round < 50; round++) {
      const texts = Array.from({ length: 20 }, (_, i) => `${round}.${i} ${"x".repeat(i)}`);
      // Who does not wait for the answer harms nobody.
      dead.sendToSync("nobody reads the answer", address);
      for (const each of texts)
        for (const client of [left, right]) client.sendSync(`${client.localAddress.port} ${each}`);
      for (const client of [left, right]) {
        const got: string[] = [];
        while (got.length < texts.length) got.push(text(await client.receiveBytes(200, WAIT)));
        expect(got).toEqual(texts.map((each) => `${client.localAddress.port} ${each}`));
      }
    }
    expect(child.exitCode).toBeNull();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
