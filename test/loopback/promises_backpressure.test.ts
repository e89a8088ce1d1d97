/**
 * Sends that wait for room: in order, from the caller's memory, with nothing held back by the
 * library. UDP has its test in test/privileged, because on the loopback interface there is always
 * room.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type Address,
  ClosedError,
  DatagramBatch,
  Message,
  poller,
  Socket,
  SystemError,
  TimeoutError,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { EAGAIN, ECONNREFUSED, ENOBUFS, ENOSYS, ioctl, SIOCOUTQ } from "bun-sockets/sys";
import { failWith, replaceLibc } from "../support/faults.ts";
import {
  beginCount,
  isInEpollSet,
  type Kind,
  outcomes,
  type Pair,
  reasonOf,
  receives,
  type SendName,
  sends,
  sendsOf,
  seqpacket,
  soon,
  startPoller,
  syscalls,
  tcp,
  text,
  trySend,
  turns,
  udp4,
  unixDatagram,
  unixDatagramNamed,
  unixStream,
  until,
  WatchedSignal,
  waiters,
  waiting,
} from "../support/waiting.ts";

const SMALL = { sendBufferBytes: 8192, receiveBufferBytes: 8192 };
const PIECE = 1024;
const FILL = "-";
/** Wake-ups of a few milliseconds in which nothing happens: a loop without pause has thousands. */
const WAKE_UPS_MAX = 10;

beforeAll(startPoller);
beforeEach(beginCount);

afterEach(() => {
  expect(waiters()).toBe(0);
});

/** Both ends of a pair have no name, and the room of the sender's own buffer. */
const unixDatagramPair: Kind = {
  ...unixDatagram,
  name: "pair of Unix datagram sockets",
  open: () => {
    const [sender, receiver] = UnixDatagramSocket.pair();
    const close = () => {
      sender.close();
      receiver.close();
    };
    return { sender, receiver, to: undefined, [Symbol.dispose]: close };
  },
};

const streams = [tcp, unixStream];
const records = [unixDatagram, unixDatagramNamed, unixDatagramPair, seqpacket];
const all = [...streams, ...records];

function named<Row extends Kind>(list: readonly Row[]): [string, Row][] {
  return list.map((kind) => [kind.name, kind]);
}

/** Every kind of socket with every call that sends over it. */
function* sending(list: readonly Kind[] = all): Generator<[string, Kind, SendName]> {
  for (const kind of list)
    for (const call of sendsOf(kind))
      if (kind !== unixDatagramPair || call !== "sendTo")
        yield [`${call}() over ${kind.name}`, kind, call];
}

/** Sends until there is no room, and none comes any more. Returns the bytes that went. */
async function fill(pair: Pair): Promise<number> {
  let sent = 0;
  const piece = Buffer.alloc(PIECE, FILL);
  // What a TCP socket has sent may still be on its way to the peer, and make room behind it.
  for (let full = 0; full < 3; await turns(1)) {
    const now = trySend(pair, piece);
    full = now === undefined ? full + 1 : 0;
    sent += now ?? 0;
  }
  return sent;
}

/** Receives all that comes until something is so. Returns it without what filled the queue. */
async function drainUntil(pair: Pair, condition: () => boolean): Promise<string> {
  let came = "";
  const target = new Uint8Array(65536);
  await until(() => {
    for (;;) {
      const length = pair.receiver.tryReceive(target);
      if (!length) break;
      came += text(target.subarray(0, length));
    }
    return condition();
  }, "all that was sent has come");
  return came.replaceAll(FILL, "");
}

/** Receives what is there. */
function drain(pair: Pair): Promise<string> {
  return drainUntil(pair, () => true);
}

/** Bytes that the kernel has taken and not handed on. */
function queued({ sender }: Pair): number {
  const bytes = new Int32Array(new ArrayBuffer(4));
  expect(ioctl(sender.descriptor, SIOCOUTQ, bytes)).toBe(0);
  return bytes[0] as number;
}

/** How often the thread is woken within that time. */
async function wakeUpsIn(ms: number): Promise<number> {
  using quiet = udp4.open();
  const before = poller.counters.wakeUps;
  await reasonOf(quiet.receiver.receive(new Uint8Array(1), { timeoutMs: ms }));
  return poller.counters.wakeUps - before;
}

/** A batch of texts, sent to where the pair sends. */
function batchOf(pair: Pair, texts: readonly string[]): DatagramBatch {
  const batch = new DatagramBatch({ capacity: texts.length, slotBytes: 64 });
  batch.count = texts.length;
  for (const [i, each] of texts.entries()) {
    batch.write(i, each);
    batch.setAddress(i, pair.to);
  }
  return batch;
}

/** As many texts as no queue holds. */
const MANY_TEXTS = Array.from({ length: 600 }, (_, i) => `${i};`);

describe("sends wait for room", () => {
  test.each([...sending()])("%s: in order, and all of it comes", async (_, kind, call) => {
    using pair = kind.open(SMALL);
    await fill(pair);
    const promises = [..."abcdef"].map((letter) =>
      waiting(() => sends[call](pair, Buffer.alloc(PIECE, letter))),
    );
    const order: number[] = [];
    for (const [i, promise] of promises.entries()) promise.then(() => order.push(i));
    await turns(2);
    expect(order).toEqual([]);
    let settled = false;
    const results = Promise.all(promises).finally(() => {
      settled = true;
    });
    const came = await drainUntil(pair, () => settled);
    const rest = await drain(pair);
    const lengths = await results;
    expect(order).toEqual([0, 1, 2, 3, 4, 5]);
    if (kind.keepsBoundaries) expect(lengths).toEqual(Array(6).fill(PIECE));
    const wanted = [..."abcdef"].map((letter, i) => letter.repeat(lengths[i] as number)).join("");
    let total = came + rest;
    // The last bytes of a TCP stream may be on their way.
    await until(() => {
      total += text(pair.receiver.tryReceiveBytes(65536) ?? new Uint8Array());
      return total.length >= wanted.length;
    }, "the last bytes have come");
    expect(total).toBe(wanted);
  });

  test.each([...sending()])("%s: nothing is held back by the library", async (_, kind, call) => {
    using pair = kind.open(SMALL);
    let filled = await fill(pair);
    const signal = new WatchedSignal();
    const before = queued(pair);
    const options = { signal: signal.signal };
    const promises = [..."abc"].map((letter) =>
      waiting(() => sends[call](pair, Buffer.alloc(PIECE, letter), options)),
    );
    await turns(3);
    expect(queued(pair)).toBeLessThanOrEqual(before);
    expect(waiters()).toBe(3);
    signal.abort("stop");
    for (const promise of promises) expect(await reasonOf(promise)).toBe("stop");
    expect(signal.listeners.size).toBe(0);
    // The peer gets what the kernel has taken before, to the byte, and nothing else.
    pair.sender.shutdown("write");
    const target = new Uint8Array(65536);
    const wrong: string[] = [];
    await until(() => {
      for (;;) {
        const length = pair.receiver.tryReceive(target);
        if (!length) break;
        filled -= length;
        const came = text(target.subarray(0, length)).replaceAll(FILL, "");
        if (came) wrong.push(came);
      }
      return filled <= 0;
    }, "all that was sent has come");
    expect([filled, wrong]).toEqual([0, []]);
  });

  test.each([...sending()].filter(([, , call]) => call !== "sendBatch"))(
    "%s: the data are not copied: what is written to them goes out",
    async (_, kind, call) => {
      using pair = kind.open(SMALL);
      await fill(pair);
      const data = Buffer.alloc(8, "o");
      const promise = waiting(() => sends[call](pair, data));
      data.fill("n");
      let settled = false;
      promise.finally(() => {
        settled = true;
      });
      let came = await drainUntil(pair, () => settled);
      expect(await promise).toBe(8);
      await until(() => {
        came += text(pair.receiver.tryReceiveBytes(65536) ?? new Uint8Array());
        return came.replaceAll(FILL, "").length >= 8;
      }, "it has come");
      expect(came.replaceAll(FILL, "")).toBe("nnnnnnnn");
    },
  );

  test("a string is kept as it was", async () => {
    using pair = unixDatagram.open();
    await fill(pair);
    const promise = waiting(() => pair.sender.send("as it was"));
    // What may lie in the same memory as the string's bytes.
    for (let i = 0; i < 10_000; i++) Buffer.from(`something else ${i}`);
    Bun.gc(true);
    let settled = false;
    promise.finally(() => {
      settled = true;
    });
    expect((await drainUntil(pair, () => settled)) + (await drain(pair))).toBe("as it was");
    expect(await promise).toBe(9);
  });

  test.each(["transfer", "collect"])(
    "data that nobody holds but the call (%s) are sent whole",
    async (how) => {
      using pair = unixDatagram.open();
      await fill(pair);
      const promises = [..."abcdefgh"].map((letter) =>
        waiting(() =>
          how === "collect"
            ? pair.sender.send(new Uint8Array(100).fill(letter.charCodeAt(0)))
            : pair.sender.sendMessage(
                new Message({ vectors: [new Uint8Array(100).fill(letter.charCodeAt(0))] }),
              ),
        ),
      );
      for (let i = 0; i < 3; i++) {
        Bun.gc(true);
        await turns(1);
      }
      // Garbage that would take the place of what was collected.
      for (let i = 0; i < 20_000; i++) new Uint8Array(100).fill(0x2a);
      let settled = false;
      const all = Promise.all(promises).finally(() => {
        settled = true;
      });
      const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
      expect(await all).toEqual(Array(8).fill(100));
      expect(came).toBe([..."abcdefgh"].map((letter) => letter.repeat(100)).join(""));
    },
  );

  test("different calls stand in one line", async () => {
    using pair = unixDatagram.open();
    await fill(pair);
    const calls = sendsOf(unixDatagram);
    const promises = calls.map((call, i) => waiting(() => sends[call](pair, Buffer.from(`${i}`))));
    let settled = false;
    const all = Promise.all(promises).finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect([came, await all]).toEqual(["0123", [1, 1, 1, 1]]);
  });

  test("a send that finds room while others wait does not get ahead of them", async () => {
    using pair = unixDatagram.open();
    await fill(pair);
    const first = waiting(() => pair.sender.send("1"));
    // There is room now, but the first has not been told.
    const drained = drain(pair);
    const second = waiting(() => pair.sender.send("2"));
    await Promise.all([first, second]);
    expect((await drained) + (await drain(pair))).toBe("12");
  });

  test("one in the middle is cancelled, or out of time: the others keep their order", async () => {
    for (const kind of records) {
      using pair = kind.open(SMALL);
      await fill(pair);
      const signal = new WatchedSignal();
      const options = [{}, { signal: signal.signal }, {}, { timeoutMs: 2 }, {}];
      const send = kind === unixDatagramNamed ? "sendTo" : "send";
      const promises = options.map((each, i) =>
        waiting(() => sends[send](pair, Buffer.from(`${i}`), each)),
      );
      signal.abort("gone");
      expect(await reasonOf(promises[1] as Promise<number>)).toBe("gone");
      const late = await reasonOf(promises[3] as Promise<number>);
      expect(late).toBeInstanceOf(TimeoutError);
      expect(late).toMatchObject({ syscall: syscalls[send] });
      expect(late).not.toHaveProperty("transferred");
      const list = outcomes(promises);
      const came = await drainUntil(pair, () => !list.includes("pending"));
      expect([came + (await drain(pair)), waiters()]).toEqual(["024", 0]);
    }
  });

  test.each(sendsOf(unixDatagramNamed))(
    "%s() to a Unix receiver whose queue others have filled",
    async (call) => {
      using pair = unixDatagramNamed.open();
      using other = UnixDatagramSocket.open();
      while (other.trySendTo(Buffer.from(FILL), pair.to as UnixAddress) !== undefined);
      const promises = [..."ab"].map((letter) =>
        waiting(() => sends[call](pair, Buffer.from(letter))),
      );
      const list = outcomes(promises);
      expect(await wakeUpsIn(25)).toBeLessThan(WAKE_UPS_MAX);
      expect(list).toEqual(["pending", "pending"]);
      // Nothing tells the sender that there is room now.
      const came = await drainUntil(pair, () => !list.includes("pending"));
      expect([came + (await drain(pair)), list]).toEqual(["ab", [1, 1]]);
    },
  );

  test.each([...sending()])(
    "%s: the thread is not woken while there is no room",
    async (_, kind, call) => {
      using pair = kind.open(SMALL);
      await fill(pair);
      const promise = waiting(() => sends[call](pair, Buffer.alloc(PIECE, "x")));
      expect(await wakeUpsIn(25)).toBeLessThan(WAKE_UPS_MAX);
      pair.sender.close();
      await promise.catch(() => {});
    },
  );

  test("nor is it for a Unix receiver that is full, behind a peer that was", async () => {
    using pair = unixDatagram.open();
    using full = unixDatagramNamed.open();
    await fill(full);
    await fill(pair);
    const first = waiting(() => pair.sender.send("1"));
    const second = waiting(() => pair.sender.sendTo("2", full.to as UnixAddress));
    await turns(2);
    while (pair.receiver.tryReceive(new Uint8Array(PIECE)) !== undefined);
    expect(await first).toBe(1);
    expect(await wakeUpsIn(25)).toBeLessThan(WAKE_UPS_MAX);
    await drain(full);
    expect(await second).toBe(1);
  });

  test("over an unconnected Unix socket: in order, though another receiver has room", async () => {
    using full = unixDatagramNamed.open();
    using free = UnixDatagramSocket.bind(UnixAddress.unnamed);
    await fill(full);
    const first = waiting(() => full.sender.sendTo("first", full.to as Address));
    const second = waiting(() => full.sender.sendTo("second", free.localAddress));
    await turns(5);
    expect(free.tryReceive(new Uint8Array(9))).toBeUndefined();
    await drain(full);
    expect(await Promise.all([first, second])).toEqual([5, 6]);
    expect(text(await free.receiveBytes(9))).toBe("second");
  });

  test("receives go on while sends wait, and the other way round", async () => {
    for (const kind of [tcp, unixStream, unixDatagramPair, seqpacket]) {
      using pair = kind.open(SMALL);
      await fill(pair);
      const sent = waiting(() => pair.sender.send(Buffer.alloc(PIECE, "s")));
      for (const each of ["one", "two"]) {
        const received = waiting(() => receives.receive(pair.sender, 3));
        await pair.receiver.send(each);
        expect(await received).toBe(each);
      }
      const received = waiting(() => receives.receive(pair.sender, 5));
      let settled = false;
      sent.finally(() => {
        settled = true;
      });
      await drainUntil(pair, () => settled);
      expect(waiters()).toBe(1);
      await pair.receiver.send("three");
      expect(await received).toBe("three");
    }
  });

  test.each([...sending(streams)])(
    "%s: a megabyte goes through a small buffer",
    async (_, kind, call) => {
      using pair = kind.open(SMALL);
      const data = crypto.getRandomValues(new Uint8Array(65536));
      const total = 16 * data.length;
      const hash = new Bun.CryptoHasher("sha1");
      const wanted = new Bun.CryptoHasher("sha1");
      const write = async () => {
        for (let left = total; left > 0; ) {
          const from = (total - left) % data.length;
          const piece = data.subarray(from);
          const sent = await sends[call](pair, piece);
          wanted.update(piece.subarray(0, sent));
          left -= sent;
        }
      };
      const read = async () => {
        const target = new Uint8Array(10_000);
        for (let left = total; left > 0; ) {
          const length = await pair.receiver.receive(target);
          hash.update(target.subarray(0, length));
          left -= length;
        }
      };
      await Promise.all([write(), read()]);
      expect(hash.digest("hex")).toBe(wanted.digest("hex"));
    },
  );

  test.each([...sending(records)])(
    "%s: 2,000 go through a small queue in order",
    async (_, kind, call) => {
      using pair = kind.open(SMALL);
      const count = 2000;
      const write = async () => {
        for (let i = 0; i < count; i += 20) {
          const some = Array.from({ length: 20 }, (_, j) =>
            sends[call](pair, Buffer.from(`${i + j}`)),
          );
          await Promise.all(some);
        }
      };
      const came: string[] = [];
      const read = async () => {
        while (came.length < count) came.push(await receives.receive(pair.receiver, 9));
      };
      await Promise.all([write(), read()]);
      expect(came).toEqual(Array.from({ length: count }, (_, i) => `${i}`));
    },
  );
});

describe("sends that fail while they wait", () => {
  test.each([...sending()])("%s: the peer is closed", async (_, kind, call) => {
    using pair = kind.open(SMALL);
    await fill(pair);
    const promises = [..."ab"].map((letter) =>
      waiting(() => sends[call](pair, Buffer.alloc(PIECE, letter))),
    );
    pair.receiver.close();
    const list = outcomes(promises);
    await until(() => !list.includes("pending"), "all are told");
    // What a slot of a batch is refused for is told by the batch: the call itself is answered.
    if (call === "sendBatch") {
      expect(list).toEqual([-1, -1]);
      return;
    }
    const codes = list.map((each) => (each as SystemError).code);
    const possible = kind.keepsBoundaries
      ? ["ECONNREFUSED", "ENOTCONN", "EPIPE", "ECONNRESET", "EDESTADDRREQ"]
      : ["EPIPE", "ECONNRESET"];
    for (const code of codes) expect(possible).toContain(code);
    for (const each of list) expect(each).toMatchObject({ syscall: syscalls[call] });
  });

  test.each([...sending([tcp, unixStream, seqpacket])])(
    "%s: EPIPE after shutdown(), to all who wait, at once or turns later",
    async (_, kind, call) => {
      // Somebody else who waits, for whom nothing happens.
      using quiet = udp4.open();
      const other = waiting(() => receives.receive(quiet.receiver, 1));
      for (const later of [0, 2]) {
        using pair = kind.open(SMALL);
        await fill(pair);
        const data = Buffer.alloc(PIECE, "x");
        const promises = [0, 1].map(() => waiting(() => sends[call](pair, data)));
        await turns(later);
        pair.sender.shutdown("write");
        for (const each of await soon(promises))
          expect(each).toMatchObject({ code: "EPIPE", syscall: syscalls[call] });
      }
      trySend(quiet, "x");
      expect(await other).toBe("x");
    },
  );

  test.each([...sending()])("%s: a TimeoutError, and nothing was sent", async (_, kind, call) => {
    using pair = kind.open(SMALL);
    await fill(pair);
    const promise = waiting(() => sends[call](pair, Buffer.alloc(PIECE, "x"), { timeoutMs: 2 }));
    const error = await reasonOf(promise);
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ code: "ETIMEDOUT", syscall: syscalls[call] });
    expect(error).not.toHaveProperty("transferred");
    // 0 is one try.
    const once = sends[call](pair, Buffer.alloc(PIECE, "x"), { timeoutMs: 0 });
    expect(await reasonOf(once)).toBeInstanceOf(TimeoutError);
    pair.sender.shutdown("write");
    expect(await drain(pair)).toBe("");
  });

  test.each([...sending()])("%s: close() and detach()", async (_, kind, call) => {
    for (const how of ["close", "detach"] as const) {
      using pair = kind.open(SMALL);
      await fill(pair);
      const promises = [0, 1].map(() => waiting(() => sends[call](pair, Buffer.alloc(PIECE, "x"))));
      const list = outcomes(promises);
      await turns(2);
      const given = pair.sender[how]();
      expect(waiters()).toBe(0);
      await turns(1);
      for (const each of list) {
        expect(each).toBeInstanceOf(how === "close" ? ClosedError : SystemError);
        const code = how === "close" ? "EBADF" : "ECANCELED";
        expect(each).toMatchObject({ code, syscall: syscalls[call] });
        expect(each).not.toHaveProperty("transferred");
      }
      if (given === undefined) continue;
      expect(isInEpollSet(given)).toBe(false);
      Socket.adopt(given, { own: true }).close();
    }
  });

  test("a send that waits goes to the peer that the socket is given meanwhile", async () => {
    using pair = unixDatagram.open();
    using other = UnixDatagramSocket.bind(UnixAddress.unnamed);
    await fill(pair);
    const promises = [1, 2].map((i) => waiting(() => pair.sender.send(`${i}`)));
    await turns(2);
    pair.sender.connectSync(other.localAddress);
    expect(await Promise.all(promises)).toEqual([1, 1]);
    expect([1, 2].map(() => text(other.receiveBytesSync(9)))).toEqual(["1", "2"]);
  });

  test("an error that is not of the first one fails it alone, and the next one goes out", async () => {
    using pair = unixDatagram.open();
    await fill(pair);
    const first = waiting(() => pair.sender.send("first "));
    const tooLong = waiting(() => pair.sender.send(new Uint8Array(2 ** 24)));
    const next = waiting(() => pair.sender.send("fits"));
    let settled = false;
    next.finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect(await reasonOf(tooLong)).toMatchObject({ code: "EMSGSIZE", syscall: "send" });
    expect([came, await first, await next]).toEqual(["first fits", 6, 4]);
  });

  test("a Unix receiver that is gone and another one under its name", async () => {
    using sender = UnixDatagramSocket.open();
    const address = UnixAddress.abstract(`promises-${crypto.randomUUID()}`);
    const first = UnixDatagramSocket.bind(address);
    while (sender.trySendTo(Buffer.from(FILL), address) !== undefined);
    const promises = [1, 2].map((i) => waiting(() => sender.sendTo(`${i}`, address)));
    first.close();
    using second = UnixDatagramSocket.bind(address);
    expect(await Promise.all(promises)).toEqual([1, 1]);
    expect([1, 2].map(() => text(second.receiveBytesSync(9)))).toEqual(["1", "2"]);
  });
});

describe("sendBatch()", () => {
  const kinds = named([unixDatagram, unixDatagramNamed, unixDatagramPair]);

  test.each(kinds)("over %s: goes on where it stopped, until all is sent", async (_, kind) => {
    using pair = kind.open();
    using batch = batchOf(pair, MANY_TEXTS);
    const promise = waiting(() => pair.sender.sendBatch(batch));
    let settled = false;
    promise.finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect(await promise).toBe(MANY_TEXTS.length);
    expect(came).toBe(MANY_TEXTS.join(""));
    expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
  });

  test.each(kinds)("over %s: starts with the slot it is told to", async (_, kind) => {
    using pair = kind.open();
    using batch = batchOf(pair, MANY_TEXTS);
    const promise = waiting(() => pair.sender.sendBatch(batch, 100));
    let settled = false;
    promise.finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect(await promise).toBe(MANY_TEXTS.length - 100);
    expect(came).toBe(MANY_TEXTS.slice(100).join(""));
  });

  test.each(kinds)("over %s: several wait, and do not mix", async (_, kind) => {
    using pair = kind.open();
    const batches = [0, 1, 2].map((i) => batchOf(pair, MANY_TEXTS.slice(i * 200, (i + 1) * 200)));
    // The first may fit where only the sender's own buffer counts.
    await fill(pair);
    const promises = batches.map((batch) => waiting(() => pair.sender.sendBatch(batch)));
    let settled = false;
    const all = Promise.all(promises).finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect(await all).toEqual([200, 200, 200]);
    expect(came).toBe(MANY_TEXTS.join(""));
    for (const batch of batches) batch.free();
  });

  const ends: Record<string, (pair: Pair, abort: (reason: unknown) => void) => unknown> = {
    "a timeout": () => {},
    "close()": ({ sender }) => sender.close(),
    "detach()": ({ sender }) => Socket.adopt(sender.detach(), { own: true }).close(),
    abort: (_, abort) => abort("enough"),
  };
  const codes: Record<string, string> = {
    "a timeout": "ETIMEDOUT",
    "close()": "EBADF",
    "detach()": "ECANCELED",
  };
  const rows = kinds.flatMap(([name, kind]) =>
    Object.keys(ends).map((how) => [how, name, kind] as const),
  );

  test.each(rows)("after %s over %s it says what was sent before", async (how, _, kind) => {
    using pair = kind.open();
    using batch = batchOf(pair, MANY_TEXTS);
    const controller = new AbortController();
    const { signal } = controller;
    const timeoutMs = how === "a timeout" ? 5 : undefined;
    const promise = waiting(() => pair.sender.sendBatch(batch, 0, { signal, timeoutMs }));
    await turns(2);
    // Some of it goes, and the rest waits again.
    for (let i = 0; i < 3; i++) pair.receiver.tryReceive(new Uint8Array(64));
    ends[how]?.(pair, (reason) => controller.abort(reason));
    const reason = await reasonOf(promise);
    let came = 3;
    while (pair.receiver.tryReceive(new Uint8Array(64))) came++;
    expect(batch.stopped).toEqual({ index: came, code: "EAGAIN" });
    if (how === "abort") expect(reason).toBe("enough");
    else expect(reason).toMatchObject({ code: codes[how], syscall: "sendmmsg", transferred: came });
    // It can go on from there, when it was not the socket that went.
    if (how === "close()" || how === "detach()") return;
    const next = MANY_TEXTS[came] as string;
    expect(pair.sender.trySendBatch(batch, came)).toBeGreaterThan(0);
    expect(text(pair.receiver.receiveBytesSync(64))).toBe(next);
  });

  test("an error of the call itself says what was sent before, and gives the batch back", async () => {
    using pair = unixDatagram.open();
    using batch = batchOf(pair, MANY_TEXTS);
    const promise = waiting(() => pair.sender.sendBatch(batch));
    let came = 0;
    {
      using _ = replaceLibc("sendmmsg", () => () => failWith(ENOSYS));
      while (pair.receiver.tryReceive(new Uint8Array(64))) came++;
      const reason = await reasonOf(promise);
      expect(reason).toMatchObject({ code: "ENOSYS", syscall: "sendmmsg", transferred: came });
    }
    expect(pair.sender.trySendBatch(batch, came)).toBeGreaterThan(0);
  });

  test("an error that waiting does not cure stops it, and a refusal harms one slot", async () => {
    using pair = unixDatagram.open();
    using batch = batchOf(pair, ["a", "b", "c", "d"]);
    await fill(pair);
    for (const [errno, failed, sent] of [
      [ENOBUFS, 0, 0],
      [ECONNREFUSED, 1, 3],
    ] as const) {
      const promise = waiting(() => pair.sender.sendBatch(batch));
      let calls = 0;
      using _ = replaceLibc("sendmmsg", (original) => (...values) => {
        // A refusal tells of an earlier datagram, and is passed over once.
        calls++;
        return calls <= (errno === ENOBUFS ? 1 : 2) ? failWith(errno) : original(...values);
      });
      const list = outcomes([promise]);
      await drainUntil(pair, () => !list.includes("pending"));
      expect([await promise, batch.failed]).toEqual([sent, failed]);
      if (errno === ENOBUFS) {
        expect(batch.stopped).toEqual({ index: 0, code: "ENOBUFS" });
        await fill(pair);
      } else expect(batch.failure(0)).toBe("ECONNREFUSED");
      await drain(pair);
      if (errno === ENOBUFS) await fill(pair);
    }
  });

  test("an empty one is answered at once, though others wait for room", async () => {
    using pair = unixDatagram.open();
    using batch = new DatagramBatch({ capacity: 1 });
    expect(await pair.sender.sendBatch(batch)).toBe(0);
  });

  test("its contents may not be changed, but what is written to them goes out", async () => {
    using pair = unixDatagram.open();
    await fill(pair);
    using batch = batchOf(pair, ["old 0", "old 1"]);
    const promise = waiting(() => pair.sender.sendBatch(batch));
    batch.view(1).set(Buffer.from("new 1"));
    let settled = false;
    promise.finally(() => {
      settled = true;
    });
    const came = (await drainUntil(pair, () => settled)) + (await drain(pair));
    expect([await promise, came]).toEqual([2, "old 0new 1"]);
  });
});

describe("UDP", () => {
  // The loopback interface always has room: the kernel's word is made up once for each send.
  test.each(["send", "sendTo", "sendMessage", "sendBatch"] as const)(
    "%s() waits for the event when there is no room, and then sends",
    async (call) => {
      using pair = udp4.open();
      const entry = syscalls[call];
      const full = new Set<number>([1]);
      let calls = 0;
      using _ = replaceLibc(
        entry,
        (original: unknown) =>
          ((...values: unknown[]) =>
            full.has(++calls)
              ? failWith(EAGAIN)
              : (original as (...values: unknown[]) => number)(...values)) as never,
      );
      const promises = ["1", "2", "3"].map((each) =>
        waiting(() => sends[call](pair, Buffer.from(each))),
      );
      expect(calls).toBe(1);
      expect(await Promise.all(promises)).toEqual([1, 1, 1]);
      expect(calls).toBe(4);
      const came = [1, 2, 3].map(() =>
        text(pair.receiver.receiveBytesSync(9, { timeoutMs: 5000 })),
      );
      expect(came).toEqual(["1", "2", "3"]);
    },
  );
});
