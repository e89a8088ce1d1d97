import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import {
  ClosedError,
  DatagramBatch,
  type DatagramBatchOptions,
  Inet4Address,
  type InetAddress,
  parseAddress,
  SystemError,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import {
  EACCES,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  EFAULT,
  EHOSTUNREACH,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENETUNREACH,
  ENOBUFS,
  ENOMEM,
  ENOSYS,
  ENOTSOCK,
  EPERM,
  EPIPE,
  errorName,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_ERRQUEUE,
  MSG_MORE,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITFORONE,
  MSG_ZEROCOPY,
} from "bun-sockets/sys";
import { type Fault, failWith, MAP_FAILED, replaceEntry, replaceLibc } from "../support/faults.ts";
import { testIf } from "../support/require.ts";

// Set where the engine collects at every turn: see test/fuzz/slow_path_allocs.test.ts.
const STRESS = "BUN_JSC_slowPathAllocsBetweenGCs";
const WAIT = { timeoutMs: 2000 };
const CANARY = 0xa5;

const families = [
  { family: "ipv4", loopback: "127.0.0.1:0" },
  { family: "ipv6", loopback: "[::1]:0" },
] as const;

/** A server, and a client that is connected to it. */
function makePair(loopback: string): { server: UdpSocket; client: UdpSocket } & Disposable {
  const server = UdpSocket.bind(loopback);
  const client = UdpSocket.open(loopback);
  client.connectSync(server.localAddress);
  return {
    server,
    client,
    [Symbol.dispose]() {
      server.close();
      client.close();
    },
  };
}

function makeBatch(texts: readonly string[], options: DatagramBatchOptions = {}): DatagramBatch {
  const batch = new DatagramBatch({ capacity: Math.max(texts.length, 1), ...options });
  batch.count = texts.length;
  for (const [i, text] of texts.entries()) batch.write(i, text);
  return batch;
}

/** What the slots in use hold. */
function textsOf(batch: DatagramBatch): string[] {
  return Array.from({ length: batch.count }, (_, i) => Buffer.from(batch.view(i)).toString());
}

/** What waits in a socket's queue: loopback delivers before a send returns. */
function drain(udp: UdpSocket): string[] {
  const target = Buffer.alloc(65536);
  const texts: string[] = [];
  for (;;) {
    const length = udp.tryReceive(target);
    if (length === undefined) return texts;
    texts.push(target.toString("utf8", 0, length));
  }
}

function numbered(count: number, prefix = "datagram "): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}`);
}

function systemErrorOf(run: () => unknown): SystemError {
  try {
    run();
  } catch (error) {
    if (error instanceof SystemError) return error;
    throw error;
  }
  throw new Error("Expected the call to throw");
}

/** Plays sendmmsg: each call takes the next answer, an errno or the most it may send. */
function scriptSendmmsg(...answers: readonly ({ errno: number } | { atMost: number })[]): Fault {
  let calls = 0;
  return replaceLibc("sendmmsg", (original) => (fd, messages, count, flags) => {
    const answer = answers[calls++];
    if (answer === undefined) return original(fd, messages, count, flags);
    if ("errno" in answer) return failWith(answer.errno);
    return answer.atMost === 0 ? 0 : original(fd, messages, Math.min(count, answer.atMost), flags);
  });
}

describe.each(families)("DatagramBatch over $family", ({ family, loopback }) => {
  const other = family === "ipv4" ? "[::1]:9" : "192.0.2.1:9";
  // A socket of the family alone: an address of the other one fails in it.
  const openOnly = () => UdpSocket.open(family, family === "ipv6" ? { ipv6Only: true } : {});
  const wrongFamily = family === "ipv4" ? "EAFNOSUPPORT" : "ENETUNREACH";

  const receives = ["tryReceiveBatch", "receiveBatchSync"] as const;
  const sends = ["trySendBatch", "sendBatchSync"] as const;

  describe.each(receives)("%s()", (name) => {
    test("receives what is waiting, in order, with lengths, offsets and senders", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 8, slotBytes: 100 });
      const texts = ["first", "", "the third one", "4"];
      for (const text of texts) pair.client.sendSync(text);
      expect(pair.server[name](batch, WAIT)).toBe(4);
      expect(batch.count).toBe(4);
      expect(textsOf(batch)).toEqual(texts);
      for (const [i, text] of texts.entries()) {
        const { length } = text;
        expect([batch.length(i), batch.originalLength(i)]).toEqual([length, length]);
        expect([batch.flags(i) & MSG_TRUNC, batch.truncated(i)]).toEqual([0, false]);
        const at = batch.offset(i);
        expect(Buffer.from(batch.memory.subarray(at, at + length)).toString()).toBe(text);
        expect(`${batch.address(i)}`).toBe(`${pair.client.localAddress}`);
      }
    });

    test("fills the batch to its capacity and leaves the rest for the next call", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 3, slotBytes: 32 });
      const texts = numbered(7);
      for (const text of texts) pair.client.sendSync(text);
      const received: string[] = [];
      for (const expected of [3, 3, 1]) {
        expect(pair.server[name](batch, WAIT)).toBe(expected);
        expect(batch.count).toBe(expected);
        received.push(...textsOf(batch));
      }
      expect(received).toEqual(texts);
      expect(pair.server.tryReceiveBatch(batch)).toBe(0);
    });

    test("tells which datagrams were cut, and how long they were", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 4, slotBytes: 8 });
      for (const text of ["1234567", "12345678", "123456789", "x".repeat(5000)]) {
        pair.client.sendSync(text);
      }
      pair.server[name](batch, WAIT);
      const slots = [0, 1, 2, 3];
      expect(slots.map((i) => batch.length(i))).toEqual([7, 8, 8, 8]);
      expect(slots.map((i) => batch.originalLength(i))).toEqual([7, 8, 9, 5000]);
      expect(slots.map((i) => batch.truncated(i))).toEqual([false, false, true, true]);
      expect(slots.map((i) => (batch.flags(i) & MSG_TRUNC) !== 0)).toEqual([
        false,
        false,
        true,
        true,
      ]);
      expect(textsOf(batch)).toEqual(["1234567", "12345678", "12345678", "xxxxxxxx"]);
    });

    test("with MSG_PEEK shows the first datagram and loses none", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 4 });
      pair.client.sendSync("first");
      pair.client.sendSync("second");
      expect(pair.server[name](batch, { ...WAIT, flags: MSG_PEEK })).toBeGreaterThan(0);
      expect(new Set(textsOf(batch))).toEqual(new Set(["first"]));
      expect(pair.server[name](batch, WAIT)).toBe(2);
      expect(textsOf(batch)).toEqual(["first", "second"]);
    });

    const refusedFlags = [MSG_OOB, MSG_ERRQUEUE, MSG_WAITFORONE, -1, 0.5, NaN, 2 ** 32];
    test.each(refusedFlags)("refuses the flags %d; batch and queue stay as they were", (flags) => {
      using pair = makePair(loopback);
      using batch = makeBatch(["kept"], { capacity: 2 });
      pair.client.sendSync("waiting");
      expect(() => pair.server[name](batch, { ...WAIT, flags })).toThrow(RangeError);
      expect(textsOf(batch)).toEqual(["kept"]);
      expect(drain(pair.server)).toEqual(["waiting"]);
    });

    const noBatches: [name: string, value: unknown][] = [
      ["null", null],
      ["undefined", undefined],
      ["a view", new Uint8Array(64)],
      ["a number", 4096],
      ["the parts of a batch", { capacity: 1, count: 0, memory: new Uint8Array(64) }],
      ["a Proxy of a batch", new Proxy(new DatagramBatch({ capacity: 1 }), {})],
      ["what only inherits from a batch", Object.create(DatagramBatch.prototype)],
    ];
    test.each(noBatches)("refuses %s and loses nothing", (_, value) => {
      using pair = makePair(loopback);
      pair.client.sendSync("waiting");
      expect(() => pair.server[name](value as DatagramBatch, WAIT)).toThrow(TypeError);
      expect(drain(pair.server)).toEqual(["waiting"]);
    });

    test("on a closed socket fails and leaves the batch as it was", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 4 });
      pair.client.sendSync("kept");
      pair.server[name](batch, WAIT);
      pair.server.close();
      expect(() => pair.server[name](batch, WAIT)).toThrow(ClosedError);
      expect(textsOf(batch)).toEqual(["kept"]);
      expect(`${batch.address(0)}`).toBe(`${pair.client.localAddress}`);
    });

    test("refuses a batch that the options' getter frees, and loses nothing", () => {
      using pair = makePair(loopback);
      const batch = new DatagramBatch({ capacity: 4 });
      pair.client.sendSync("waiting");
      const options = {
        ...WAIT,
        get flags() {
          batch.free();
          return 0;
        },
      };
      expect(() => pair.server[name](batch, options)).toThrow(TypeError);
      expect(drain(pair.server)).toEqual(["waiting"]);
    });

    test("fails with a ClosedError when the options' getter closes the socket", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(["kept"]);
      const options = {
        ...WAIT,
        get flags() {
          pair.server.close();
          return 0;
        },
      };
      expect(() => pair.server[name](batch, options)).toThrow(ClosedError);
      expect(batch.memory.subarray(0, 4).toHex()).toBe(Buffer.from("kept").toString("hex"));
    });

    test("is made again after signals, and loses nothing", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 4 });
      for (const text of numbered(3)) pair.client.sendSync(text);
      let calls = 0;
      using _ = replaceLibc("recvmmsg", (original) => (...values) => {
        return ++calls <= 3 ? failWith(EINTR) : original(...values);
      });
      expect(pair.server[name](batch, WAIT)).toBe(3);
      expect(calls).toBe(4);
      expect(textsOf(batch)).toEqual(numbered(3));
    });

    test("tells a refused peer once, before the data that is already queued", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 4 });
      for (const text of numbered(3)) {
        pair.server.sendToSync(text, pair.client.localAddress);
      }
      pair.server.close();
      pair.client.trySend(new Uint8Array(1));
      const error = systemErrorOf(() => pair.client[name](batch, WAIT));
      expect([error.code, error.syscall]).toEqual(["ECONNREFUSED", "recvmmsg"]);
      expect(pair.client[name](batch, WAIT)).toBe(3);
      expect(textsOf(batch)).toEqual(numbered(3));
      expect(pair.client.tryReceiveBatch(batch)).toBe(0);
    });

    test("reports what the kernel cannot do by name", () => {
      using server = UdpSocket.bind(loopback);
      using batch = new DatagramBatch({ capacity: 1 });
      using _ = replaceEntry("recvmmsg", () => failWith(ENOMEM));
      const error = systemErrorOf(() => server[name](batch, WAIT));
      expect([error.code, error.syscall]).toEqual(["ENOMEM", "recvmmsg"]);
    });
  });

  test("tryReceiveBatch() gives 0 and an empty batch when nothing is waiting", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 4 });
    pair.client.sendSync("one");
    pair.server.tryReceiveBatch(batch);
    expect(pair.server.tryReceiveBatch(batch)).toBe(0);
    expect(batch.count).toBe(0);
    expect(batch.sender(0)).toBe(-1);
  });

  test("receiveBatchSync() waits for the first datagram, not for a full batch", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 64 });
    using _ = replaceLibc("poll", (original) => (...values) => {
      pair.client.sendSync("late");
      return original(...values);
    });
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(textsOf(batch)).toEqual(["late"]);
  });

  describe.each(sends)("%s()", (name) => {
    test("echoes to many senders in one call", () => {
      using server = UdpSocket.bind(loopback);
      using batch = new DatagramBatch({ capacity: 16, slotBytes: 64 });
      const clients = Array.from({ length: 5 }, () => UdpSocket.bind(loopback));
      for (let i = 0; i < 15; i++) {
        clients[i % 5]?.sendToSync(`datagram ${i}`, server.localAddress);
      }
      expect(server.receiveBatchSync(batch, WAIT)).toBe(15);
      using calls = replaceLibc(
        "sendmmsg",
        (original) =>
          (...values) =>
            original(...values),
      );
      expect(server[name](batch)).toBe(15);
      expect(calls.calls).toBe(1);
      expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
      for (const [i, client] of clients.entries()) {
        expect(drain(client)).toEqual([i, i + 5, i + 10].map((n) => `datagram ${n}`));
        client.close();
      }
    });

    test("forwards through another socket, to its peer when it has one", () => {
      using server = UdpSocket.bind(loopback);
      using sink = UdpSocket.bind(loopback);
      using out = UdpSocket.open(family);
      using client = UdpSocket.bind(loopback);
      using batch = new DatagramBatch({ capacity: 4 });
      for (const text of numbered(3)) client.sendToSync(text, server.localAddress);
      server.receiveBatchSync(batch, WAIT);
      out.connectSync(sink.localAddress);
      expect(out[name](batch)).toBe(3);
      expect(drain(sink)).toEqual(numbered(3));
      // The slots know their senders still: an unconnected socket answers them.
      out.disconnect();
      expect(out[name](batch)).toBe(3);
      expect(drain(client)).toEqual(numbered(3));
      for (let i = 0; i < 3; i++) batch.setAddress(i, sink.localAddress);
      expect(server[name](batch)).toBe(3);
      expect(drain(sink)).toEqual(numbered(3));
      expect(drain(client)).toEqual([]);
    });

    test("on a connected socket ignores the addresses of the slots, and keeps them", () => {
      using pair = makePair(loopback);
      using stranger = UdpSocket.bind(loopback);
      using batch = makeBatch(["a", "b", "c"]);
      batch.setAddress(0, stranger.localAddress);
      batch.setAddress(1, other);
      expect(pair.client[name](batch)).toBe(3);
      expect(drain(pair.server)).toEqual(["a", "b", "c"]);
      expect(drain(stranger)).toEqual([]);
      expect(`${batch.address(0)}`).toBe(`${stranger.localAddress}`);
      expect(`${batch.address(1)}`).toBe(other);
      expect(batch.address(2)).toBeUndefined();
    });

    test("sends empty datagrams and slots full to the last byte", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(["", "12345678", ""], { slotBytes: 8 });
      expect(pair.client[name](batch)).toBe(3);
      expect(drain(pair.server)).toEqual(["", "12345678", ""]);
    });

    test("starts at the slot it is given", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      expect(pair.client[name](batch, 3)).toBe(2);
      expect(drain(pair.server)).toEqual(["datagram 3", "datagram 4"]);
      expect(pair.client[name](batch, 5)).toBe(0);
      expect(batch.stopped).toBeUndefined();
      batch.count = 2;
      expect(pair.client[name](batch, 1)).toBe(1);
      expect(drain(pair.server)).toEqual(["datagram 1"]);
      batch.count = 0;
      expect(pair.client[name](batch)).toBe(0);
      expect(drain(pair.server)).toEqual([]);
    });

    test.each([-1, 4, 0.5, NaN, Infinity, 2 ** 32])("refuses %d as the first slot", (first) => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(3), { capacity: 8 });
      expect(() => pair.client[name](batch, first)).toThrow(RangeError);
      expect(drain(pair.server)).toEqual([]);
    });

    test.each(["0", null, 0n])("refuses %p as the first slot", (first) => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(3));
      expect(() => pair.client[name](batch, first as unknown as number)).toThrow(TypeError);
      expect(drain(pair.server)).toEqual([]);
    });

    test.each([MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_ZEROCOPY, -1, 0.5, NaN])(
      "refuses the flags %d and sends nothing",
      (flags) => {
        using pair = makePair(loopback);
        using batch = makeBatch(["x"]);
        expect(() => pair.client[name](batch, 0, { flags })).toThrow(RangeError);
        expect(drain(pair.server)).toEqual([]);
      },
    );

    test.each([0, MSG_CONFIRM, MSG_DONTROUTE, MSG_MORE])(
      "with the flags %d no byte of a slot reaches the address of another",
      (flags) => {
        using first = UdpSocket.bind(loopback);
        using second = UdpSocket.bind(loopback);
        using client = UdpSocket.open(family);
        using batch = makeBatch(["to the first", "to the second"]);
        batch.setAddress(0, first.localAddress);
        batch.setAddress(1, second.localAddress);
        try {
          client[name](batch, 0, { flags });
        } catch (error) {
          // To refuse a flag that would join the slots is as good as to heed it.
          expect(error).toBeInstanceOf(RangeError);
        }
        // Ends what MSG_MORE may have begun.
        client.trySendTo(new Uint8Array(0), second.localAddress);
        expect(drain(first).join()).not.toContain("second");
        expect(drain(second).join()).not.toContain("first");
      },
    );

    test.each([null, undefined, {}, new Uint8Array(8), Object.create(DatagramBatch.prototype)])(
      "refuses what is no batch: %#",
      (value) => {
        using pair = makePair(loopback);
        expect(() => pair.client[name](value as DatagramBatch)).toThrow(TypeError);
        expect(drain(pair.server)).toEqual([]);
      },
    );

    test("refuses a batch that the options' getter frees", () => {
      using pair = makePair(loopback);
      const batch = makeBatch(["gone"]);
      const options = {
        get flags() {
          batch.free();
          return 0;
        },
      };
      expect(() => pair.client[name](batch, 0, options)).toThrow(TypeError);
      expect(drain(pair.server)).toEqual([]);
    });

    test("fails with a ClosedError when the options' getter closes the socket", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(["x"]);
      const options = {
        get flags() {
          pair.client.close();
          return 0;
        },
      };
      const error = systemErrorOf(() => pair.client[name](batch, 0, options));
      expect(error).toBeInstanceOf(ClosedError);
      expect([error.syscall, error.transferred]).toEqual(["sendmmsg", undefined]);
    });

    test("a truncated slot is not sent, the others are, until its length is set", () => {
      using pair = makePair(loopback);
      using sink = UdpSocket.bind(loopback);
      using out = UdpSocket.open(family);
      using batch = new DatagramBatch({ capacity: 4, slotBytes: 8 });
      for (const text of ["before", "much too long", "after"]) pair.client.sendSync(text);
      pair.server.receiveBatchSync(batch, WAIT);
      out.connectSync(sink.localAddress);
      expect(out[name](batch)).toBe(2);
      expect(drain(sink)).toEqual(["before", "after"]);
      expect([0, 1, 2].map((i) => batch.failure(i))).toEqual([undefined, "EMSGSIZE", undefined]);
      expect(batch.failureError(1)?.hint).toContain("setLength");
      expect([batch.failed, batch.stopped]).toEqual([1, undefined]);
      batch.setLength(1, 4);
      expect([batch.truncated(1), batch.length(1), batch.originalLength(1)]).toEqual([false, 4, 4]);
      expect(batch.flags(1) & MSG_TRUNC).toBe(0);
      expect(out[name](batch)).toBe(3);
      expect(drain(sink)).toEqual(["before", "much", "after"]);
      expect([batch.failed, batch.failure(1)]).toEqual([0, undefined]);
    });

    test("a truncated slot is sent again after a write", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 1, slotBytes: 8 });
      pair.client.sendSync("much too long");
      pair.server.receiveBatchSync(batch, WAIT);
      batch.write(0, "short");
      expect(pair.server[name](batch)).toBe(1);
      expect(drain(pair.client)).toEqual(["short"]);
    });

    const bad: [where: string, indices: number[]][] = [
      ["at the start", [0]],
      ["in the middle", [2]],
      ["at the end", [4]],
      ["at both ends", [0, 4]],
      ["side by side", [1, 2]],
      ["everywhere", [0, 1, 2, 3, 4]],
    ];
    describe.each(bad)("with bad destinations %s", (_, indices) => {
      const kinds: [name: string, address: string | undefined, code: string][] = [
        ["port 0", loopback, "EINVAL"],
        ["the other family", other, wrongFamily],
        ["no address", undefined, "EDESTADDRREQ"],
      ];
      test.each(kinds)("(%s) sends every other slot", (_, address, code) => {
        using server = UdpSocket.bind(loopback);
        using client = openOnly();
        using batch = makeBatch(numbered(5));
        for (let i = 0; i < 5; i++) {
          batch.setAddress(i, indices.includes(i) ? address : server.localAddress);
        }
        const good = [0, 1, 2, 3, 4].filter((i) => !indices.includes(i));
        expect(client[name](batch)).toBe(good.length);
        expect(drain(server)).toEqual(good.map((i) => `datagram ${i}`));
        expect(batch.failed).toBe(indices.length);
        expect(batch.stopped).toBeUndefined();
        for (let i = 0; i < 5; i++) {
          expect(batch.failure(i)).toBe(indices.includes(i) ? code : undefined);
        }
      });
    });

    test("a slot longer than UDP carries fails alone", () => {
      using pair = makePair(loopback);
      using batch = new DatagramBatch({ capacity: 3, slotBytes: 70000 });
      batch.count = 3;
      batch.write(0, "before");
      batch.setLength(1, 70000);
      batch.write(2, "after");
      expect(pair.client[name](batch)).toBe(2);
      expect(batch.failure(1)).toBe("EMSGSIZE");
      expect(drain(pair.server)).toEqual(["before", "after"]);
    });

    test("failures are forgotten by the next send", () => {
      using pair = makePair(loopback);
      using client = UdpSocket.open(family);
      using batch = makeBatch(["a", "b"]);
      batch.setAddress(0, loopback);
      expect(client[name](batch)).toBe(0);
      expect([batch.failed, batch.failure(0), batch.failure(1)]).toEqual([
        2,
        "EINVAL",
        "EDESTADDRREQ",
      ]);
      for (const i of [0, 1]) batch.setAddress(i, pair.server.localAddress);
      expect(client[name](batch)).toBe(2);
      expect([batch.failed, batch.failure(0), batch.failure(1)]).toEqual([0, undefined, undefined]);
      expect([batch.failureError(0), batch.failureError(1)]).toEqual([undefined, undefined]);
    });

    test("failures come with what a single send would have said", () => {
      using client = UdpSocket.open(family);
      using batch = makeBatch(["a", "b", "c"], { slotBytes: 70_000 });
      batch.setAddress(0, loopback);
      batch.setAddress(1, loopback.replace(/0$/, "9"));
      batch.setLength(1, 70_000);
      expect(client[name](batch)).toBe(0);
      const long = new Uint8Array(70_000);
      for (const [i, call] of [
        () => client.sendToSync("a", loopback),
        () => client.sendToSync(long, batch.address(1) as InetAddress),
        () => client.sendSync("c"),
      ].entries()) {
        const [single, error] = [systemErrorOf(call), batch.failureError(i)];
        expect(error).toBeInstanceOf(SystemError);
        expect([single.hint, error?.syscall]).toEqual([expect.any(String), "sendmmsg"]);
        for (const name of ["code", "address", "port", "destination", "hint"] as const)
          expect([name, error?.[name]]).toEqual([name, single[name]]);
      }
    });

    test("goes on after short counts", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(10));
      using fault = scriptSendmmsg({ atMost: 3 }, { atMost: 1 }, { atMost: 2 });
      expect(pair.client[name](batch)).toBe(10);
      expect(fault.calls).toBe(4);
      expect(batch.stopped).toBeUndefined();
      expect(drain(pair.server)).toEqual(numbered(10));
    });

    test("sends each slot once through signals", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      using _ = scriptSendmmsg({ errno: EINTR }, { atMost: 2 }, { errno: EINTR });
      expect(pair.client[name](batch)).toBe(5);
      expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
      expect(drain(pair.server)).toEqual(numbered(5));
    });

    const slotErrors = [EPERM, EIO, EACCES, EINVAL, EMSGSIZE, ENETUNREACH, EHOSTUNREACH];
    test("tries a slot again after a refusal, which tells of an earlier datagram", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      using _ = scriptSendmmsg({ atMost: 2 }, { errno: ECONNREFUSED });
      expect(pair.client[name](batch)).toBe(5);
      expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
      expect(drain(pair.server)).toEqual(numbered(5));
    });

    test("gives a slot up that is refused twice", () => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      using _ = scriptSendmmsg({ atMost: 2 }, { errno: ECONNREFUSED }, { errno: ECONNREFUSED });
      expect(pair.client[name](batch)).toBe(4);
      expect([batch.failed, batch.failure(2)]).toEqual([1, "ECONNREFUSED"]);
      expect(drain(pair.server)).toEqual(numbered(5).toSpliced(2, 1));
    });

    test("loses nothing when an earlier peer was dead", () => {
      using pair = makePair(loopback);
      using client = UdpSocket.open(family);
      using dead = UdpSocket.bind(loopback);
      client.connectSync(dead.localAddress);
      dead.close();
      client.sendSync("refused");
      client.connectSync(pair.server.localAddress);
      pair.server.disconnect();
      using batch = makeBatch(numbered(3));
      expect(client[name](batch)).toBe(3);
      expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
    });

    test.each(slotErrors)("errno %d is a failure of one slot", (errno) => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      using _ = scriptSendmmsg({ atMost: 2 }, { errno });
      expect(pair.client[name](batch)).toBe(4);
      expect([batch.failed, batch.failure(2)]).toEqual([1, errorName(errno)]);
      expect(drain(pair.server)).toEqual(numbered(5).toSpliced(2, 1));
    });

    test.each([ENOBUFS, ENOMEM, EPIPE])(
      "errno %d stops, and a send from there goes on",
      (errno) => {
        using pair = makePair(loopback);
        using batch = makeBatch(numbered(5));
        using _ = scriptSendmmsg({ atMost: 2 }, { errno });
        expect(pair.client[name](batch)).toBe(2);
        expect(batch.stopped).toEqual({ index: 2, code: errorName(errno) });
        expect([batch.failed, batch.failure(2)]).toEqual([0, undefined]);
        expect(pair.client[name](batch, batch.stopped?.index)).toBe(3);
        expect(batch.stopped).toBeUndefined();
        expect(drain(pair.server)).toEqual(numbered(5));
      },
    );

    test.each([EBADF, ENOTSOCK, EFAULT, ENOSYS])("errno %d fails the call", (errno) => {
      using pair = makePair(loopback);
      using batch = makeBatch(numbered(5));
      using _ = scriptSendmmsg({ atMost: 2 }, { errno });
      const error = systemErrorOf(() => pair.client[name](batch));
      expect([error.errno, error.syscall, error.transferred]).toEqual([-errno, "sendmmsg", 2]);
      expect(drain(pair.server)).toEqual(numbered(2));
    });

    test("sends what the slots hold, whatever a subclass says of them", () => {
      class Liar extends DatagramBatch {
        override length(): number {
          return 4096;
        }
        override offset(): number {
          return 1 << 20;
        }
        override truncated(): boolean {
          return false;
        }
        override get memory(): Uint8Array<ArrayBuffer> {
          return new Uint8Array(1);
        }
      }
      using pair = makePair(loopback);
      using batch = new Liar({ capacity: 4, slotBytes: 60 });
      batch.count = 2;
      batch.setLength(0, 3);
      batch.setLength(1, 60);
      expect(pair.client[name](batch)).toBe(2);
      expect(drain(pair.server).map((text) => text.length)).toEqual([3, 60]);
    });

    test("sends the slots in use, whatever a subclass says of their number", () => {
      class Liar extends DatagramBatch {
        override get count(): number {
          return 1000;
        }
        override set count(count: number) {
          super.count = count;
        }
      }
      using pair = makePair(loopback);
      using batch = new Liar({ capacity: 4, slotBytes: 64 });
      batch.count = 1;
      batch.write(0, "only");
      expect(pair.client[name](batch)).toBe(1);
      expect(() => pair.client[name](batch, 500)).toThrow(RangeError);
      expect(drain(pair.server)).toEqual(["only"]);
    });
  });

  test("trySendBatch() stops at a full send buffer, and a send from there goes on", () => {
    using pair = makePair(loopback);
    using batch = makeBatch(numbered(6));
    using _ = scriptSendmmsg({ atMost: 2 }, { errno: EAGAIN }, { atMost: 1 }, { errno: EAGAIN });
    let first = 0;
    let sent = 0;
    const stops: number[] = [];
    for (;;) {
      sent += pair.client.trySendBatch(batch, first);
      if (!batch.stopped) break;
      expect(batch.stopped.code).toBe("EAGAIN");
      first = batch.stopped.index;
      stops.push(first);
    }
    expect([sent, stops]).toEqual([6, [2, 3]]);
    expect(drain(pair.server)).toEqual(numbered(6));
  });

  test("trySendBatch() stops where the kernel sent nothing and gave no error", () => {
    using pair = makePair(loopback);
    using batch = makeBatch(numbered(3));
    using _ = scriptSendmmsg({ atMost: 1 }, { atMost: 0 });
    expect(pair.client.trySendBatch(batch)).toBe(1);
    expect(batch.stopped).toEqual({ index: 1, code: "EAGAIN" });
    expect(drain(pair.server)).toEqual(["datagram 0"]);
  });

  test("sendBatchSync() waits for room and sends every slot once", () => {
    using pair = makePair(loopback);
    using batch = makeBatch(numbered(6));
    using _ = scriptSendmmsg({ atMost: 2 }, { errno: EAGAIN }, { errno: EAGAIN }, { atMost: 1 });
    using poll = replaceLibc(
      "poll",
      (original) =>
        (...values) =>
          original(...values),
    );
    expect(pair.client.sendBatchSync(batch, 0, WAIT)).toBe(6);
    expect(poll.calls).toBe(2);
    expect(batch.stopped).toBeUndefined();
    expect(drain(pair.server)).toEqual(numbered(6));
  });

  test("sendBatchSync() remembers failures from before a wait", () => {
    using pair = makePair(loopback);
    using client = UdpSocket.open(family);
    using batch = makeBatch(numbered(4));
    for (const i of [0, 2, 3]) batch.setAddress(i, pair.server.localAddress);
    using _ = scriptSendmmsg({ atMost: 1 }, { atMost: 1 }, { errno: EAGAIN });
    expect(client.sendBatchSync(batch, 0, WAIT)).toBe(3);
    expect([batch.failed, batch.failure(1)]).toEqual([1, "EDESTADDRREQ"]);
    expect(drain(pair.server)).toEqual(numbered(4).toSpliced(1, 1));
  });

  test("sendBatchSync() tells at its deadline how many were sent, and from where to go on", () => {
    using pair = makePair(loopback);
    using batch = makeBatch(numbered(5));
    {
      let calls = 0;
      using _ = replaceLibc("sendmmsg", (original) => (fd, messages, _count, flags) => {
        return ++calls > 1 ? failWith(EAGAIN) : original(fd, messages, 3, flags);
      });
      const started = performance.now();
      const error = systemErrorOf(() => pair.client.sendBatchSync(batch, 0, { timeoutMs: 20 }));
      expect(error).toBeInstanceOf(TimeoutError);
      expect([error.syscall, error.transferred]).toEqual(["sendmmsg", 3]);
      expect(performance.now() - started).toBeGreaterThanOrEqual(20);
      expect(batch.stopped).toEqual({ index: 3, code: "EAGAIN" });
    }
    expect(pair.client.sendBatchSync(batch, 3, WAIT)).toBe(2);
    expect(drain(pair.server)).toEqual(numbered(5));
  });

  test("sendBatchSync() returns at an error that waiting does not cure", () => {
    using pair = makePair(loopback);
    using batch = makeBatch(numbered(3));
    using _ = scriptSendmmsg({ atMost: 1 }, { errno: EAGAIN }, { errno: ENOBUFS });
    expect(pair.client.sendBatchSync(batch, 0, WAIT)).toBe(1);
    expect(batch.stopped).toEqual({ index: 1, code: "ENOBUFS" });
  });

  test("sendBatchSync() goes on from where it stopped, whatever a subclass says", () => {
    class Liar extends DatagramBatch {
      override get stopped() {
        return super.stopped && { index: -1, code: "EAGAIN" };
      }
    }
    using pair = makePair(loopback);
    using batch = new Liar({ capacity: 2, slotBytes: 64 });
    batch.memory.fill(CANARY);
    batch.count = 2;
    batch.write(0, "a");
    batch.write(1, "b");
    const starts: number[] = [];
    using _ = replaceLibc("sendmmsg", (original) => (fd, messages, count, flags) => {
      starts.push(messages as number);
      return starts.length === 1 ? failWith(EAGAIN) : original(fd, messages, count, flags);
    });
    expect(pair.client.sendBatchSync(batch, 0, WAIT)).toBe(2);
    expect(starts[1]).toBe(starts[0]);
    expect(drain(pair.server)).toEqual(["a", "b"]);
  });

  test.each([NaN, -1])("sendBatchSync() refuses a timeout of %d and sends nothing", (timeoutMs) => {
    using pair = makePair(loopback);
    using batch = makeBatch(["x"]);
    expect(() => pair.client.sendBatchSync(batch, 0, { timeoutMs })).toThrow(RangeError);
    expect(drain(pair.server)).toEqual([]);
  });

  test("a dead peer harms no other slot of an unconnected socket, round after round", () => {
    using alive = UdpSocket.bind(loopback);
    using client = UdpSocket.open(family);
    const dead = UdpSocket.bind(loopback);
    const address = dead.localAddress;
    dead.close();
    using batch = makeBatch(numbered(4));
    for (const i of [0, 2]) batch.setAddress(i, address);
    for (const i of [1, 3]) batch.setAddress(i, alive.localAddress);
    for (let round = 0; round < 5; round++) {
      expect(client.trySendBatch(batch)).toBe(4);
      expect(batch.failed).toBe(0);
      expect(drain(alive)).toEqual(["datagram 1", "datagram 3"]);
      expect(drain(client)).toEqual([]);
    }
  });

  test("sender() is stable, an index from 0, and another for another address", () => {
    using server = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 8 });
    using first = UdpSocket.bind(loopback);
    using second = UdpSocket.bind(loopback);
    for (let round = 0; round < 3; round++) {
      for (const client of [first, second, first]) client.sendToSync("x", server.localAddress);
      server.receiveBatchSync(batch, WAIT);
      expect([0, 1, 2].map((i) => batch.sender(i))).toEqual([0, 1, 0]);
      expect(batch.address(2)).toBe(batch.address(0) as InetAddress);
      expect(`${batch.address(0)} ${batch.address(1)}`).toBe(
        `${first.localAddress} ${second.localAddress}`,
      );
    }
  });

  test("address() gives the same object for a sender as long as it is remembered", () => {
    using server = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 1 });
    using client = UdpSocket.bind(loopback);
    const objects = new Set<unknown>();
    for (let round = 0; round < 3; round++) {
      client.sendToSync("x", server.localAddress);
      server.receiveBatchSync(batch, WAIT);
      objects.add(batch.address(0));
    }
    batch.setAddress(0, `${client.localAddress}`);
    objects.add(batch.address(0));
    expect(objects.size).toBe(1);
  });

  test.each([1, 2, 3])("with peersMax %d a forgotten sender gets a new number", (peersMax) => {
    using batch = new DatagramBatch({ capacity: 1, peersMax });
    const given = new Set<number>();
    const base = (parseAddress(loopback) as InetAddress).withPort(1000);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i <= peersMax; i++) {
        const address = base.withPort(1000 + i);
        batch.setAddress(0, address);
        const sender = batch.sender(0);
        expect(given.has(sender)).toBe(false);
        given.add(sender);
        expect([batch.sender(0), `${batch.address(0)}`]).toEqual([sender, `${address}`]);
      }
    }
    expect(given.size).toBe(3 * (peersMax + 1));
  });

  test("with peersMax n the n newest keep their numbers", () => {
    using batch = new DatagramBatch({ capacity: 1, peersMax: 100 });
    const base = parseAddress(loopback) as InetAddress;
    const numberOf = (port: number) => {
      batch.setAddress(0, base.withPort(port));
      return batch.sender(0);
    };
    for (let port = 1; port <= 1000; port++) expect(numberOf(port)).toBe(port - 1);
    for (let port = 901; port <= 1000; port++) expect(numberOf(port)).toBe(port - 1);
    expect(numberOf(900)).toBe(1000);
  });

  const nonBatchFamilies: [name: string, value: unknown][] = [
    ["a number", 9],
    ["null", null],
    ["a host name", "localhost:9"],
    ["an address without a port", "127.0.0.1"],
    ["an object that looks like an address", Object.create(Inet4Address.prototype)],
    ["the parts of an address", { host: "127.0.0.1", port: 9 }],
  ];
  test.each(nonBatchFamilies)("setAddress() refuses %s and changes nothing", (_, value) => {
    using batch = makeBatch(["x"]);
    batch.setAddress(0, loopback);
    expect(() => batch.setAddress(0, value as InetAddress)).toThrow(TypeError);
    expect(`${batch.address(0)}`).toBe(loopback);
  });

  test("setAddress() takes an object, a text or undefined for none", () => {
    using batch = makeBatch(["x"]);
    const address = parseAddress(loopback) as InetAddress;
    expect([batch.address(0), batch.sender(0)]).toEqual([undefined, -1]);
    batch.setAddress(0, address.withPort(7));
    expect(batch.address(0)?.equals(address.withPort(7))).toBe(true);
    batch.setAddress(0, loopback);
    expect(batch.address(0)?.equals(address)).toBe(true);
    batch.setAddress(0, undefined);
    expect([batch.address(0), batch.sender(0)]).toEqual([undefined, -1]);
  });

  test("copySender() makes a slot go where another goes", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 4 });
    pair.client.sendSync("question");
    pair.server.receiveBatchSync(batch, WAIT);
    batch.count = 3;
    batch.write(1, "answer 1");
    batch.copySender(1, 0);
    batch.write(2, "nowhere");
    batch.copySender(2, 3);
    expect([0, 1, 2].map((i) => batch.sender(i))).toEqual([0, 0, -1]);
    expect(pair.server.trySendBatch(batch)).toBe(2);
    expect(drain(pair.client)).toEqual(["question", "answer 1"]);
    expect(batch.failure(2)).toBe("EDESTADDRREQ");
    batch.copySender(0, 3);
    expect(batch.address(0)).toBeUndefined();
  });

  test("a connected socket's datagrams have its peer as sender, others theirs", () => {
    using first = UdpSocket.bind(loopback);
    using second = UdpSocket.bind(loopback);
    using server = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 8 });
    const { localAddress } = server;
    const senders = () => {
      server.receiveBatchSync(batch, WAIT);
      return Array.from({ length: batch.count }, (_, i) => `${batch.address(i)}`);
    };
    const [one, two] = [`${first.localAddress}`, `${second.localAddress}`];
    // Queued before there is a peer: a stranger's stays a stranger's.
    second.sendToSync("before", localAddress);
    server.connectSync(one);
    first.sendToSync("peer", localAddress);
    second.sendToSync("kept out", localAddress);
    expect(senders()).toEqual([two, one]);
    expect(textsOf(batch)).toEqual(["before", "peer"]);
    expect(server.tryReceiveBatch(batch)).toBe(0);
    for (let round = 0; round < 3; round++) {
      first.sendToSync("a", localAddress);
      first.sendToSync("b", localAddress);
      expect(senders()).toEqual([one, one]);
      expect(batch.sender(0)).toBe(batch.sender(1));
      expect(batch.address(0)).toBe(batch.address(1) as InetAddress);
    }
    // The first peer's datagrams wait while the peer changes.
    first.sendToSync("late", localAddress);
    server.connectSync(two);
    second.sendToSync("new", localAddress);
    expect(senders()).toEqual([one, two]);
    second.sendToSync("new", localAddress);
    expect(senders()).toEqual([two]);
    expect(server.tryReceiveBatch(batch)).toBe(0);
    second.sendToSync("new", localAddress);
    expect(senders()).toEqual([two]);
    server.disconnect();
    first.sendToSync("anybody", localAddress);
    second.sendToSync("anybody", localAddress);
    expect(senders()).toEqual([one, two]);
  });

  test("a batch serves two connected sockets in turn", () => {
    using first = makePair(loopback);
    using second = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 4 });
    for (const { server, client } of [first, second]) server.connectSync(client.localAddress);
    for (let round = 0; round < 3; round++) {
      for (const { server, client } of [first, second]) {
        client.sendSync("x");
        client.sendSync("y");
        expect(server.receiveBatchSync(batch, WAIT)).toBe(2);
        expect(`${batch.address(0)} ${batch.address(1)}`).toBe(
          `${client.localAddress} ${client.localAddress}`,
        );
      }
    }
    expect([batch.sender(0), batch.sender(1)]).toEqual([1, 1]);
  });

  test("a batch serves connected and unconnected sockets in turn", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 4 });
    for (let round = 0; round < 5; round++) {
      pair.client.sendSync(`to the server ${round}`);
      pair.client.sendSync("and again");
      expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
      expect(`${batch.address(1)}`).toBe(`${pair.client.localAddress}`);
      expect(pair.server.trySendBatch(batch)).toBe(2);
      expect(pair.client.receiveBatchSync(batch, WAIT)).toBe(2);
      expect(`${batch.address(1)}`).toBe(`${pair.server.localAddress}`);
      expect(textsOf(batch)).toEqual([`to the server ${round}`, "and again"]);
      expect(pair.client.tryReceiveBatch(batch)).toBe(0);
      expect(batch.address(0)).toBeUndefined();
    }
  });

  test("a slot without an address has none after a swap with one of a connected socket", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 4 });
    pair.server.connectSync(pair.client.localAddress);
    pair.client.sendSync("x");
    pair.client.sendSync("y");
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
    batch.count = 4;
    batch.write(3, "nameless");
    batch.swap(0, 3);
    expect(batch.address(0)).toBeUndefined();
    expect(`${batch.address(3)}`).toBe(`${pair.client.localAddress}`);
    expect(`${batch.address(1)}`).toBe(`${pair.client.localAddress}`);
    batch.keep([0, 1, 3]);
    expect([batch.address(0), `${batch.address(2)}`]).toEqual([
      undefined,
      `${pair.client.localAddress}`,
    ]);
    expect(textsOf(batch)).toEqual(["nameless", "y", "x"]);
  });

  test("swap() exchanges bytes, lengths, flags and addresses", () => {
    using pair = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 3, slotBytes: 8 });
    pair.client.sendSync("much too long");
    pair.server.receiveBatchSync(batch, WAIT);
    batch.count = 2;
    batch.write(1, "short");
    const offsets = [batch.offset(0), batch.offset(1)];
    batch.swap(0, 1);
    expect(textsOf(batch)).toEqual(["short", "much too"]);
    expect([batch.truncated(0), batch.truncated(1)]).toEqual([false, true]);
    expect([batch.originalLength(0), batch.originalLength(1)]).toEqual([5, 13]);
    expect([batch.offset(0), batch.offset(1)]).toEqual(offsets.reverse());
    expect([batch.address(0), `${batch.address(1)}`]).toEqual([
      undefined,
      `${pair.client.localAddress}`,
    ]);
    batch.swap(1, 1);
    expect(textsOf(batch)).toEqual(["short", "much too"]);
    // The next receive fills slots in order, wherever they lie by now.
    pair.client.sendSync("first");
    pair.client.sendSync("second");
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
    expect(textsOf(batch)).toEqual(["first", "second"]);
    expect(pair.server.trySendBatch(batch)).toBe(2);
    expect(drain(pair.client)).toEqual(["first", "second"]);
  });

  const keeps: [name: string, indices: ArrayLike<number>, expected: number[]][] = [
    ["no slots", [], []],
    ["the first slot", [0], [0]],
    ["the last slot", [5], [5]],
    ["every other slot", [1, 3, 5], [1, 3, 5]],
    ["all slots", [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]],
    ["the slots of a Uint16Array", new Uint16Array([2, 3, 4]), [2, 3, 4]],
    ["the slots of what is like an array", { length: 2, 0: 4, 1: 5 }, [4, 5]],
  ];
  test.each(keeps)("keep() keeps %s, in order", (_, indices, expected) => {
    using server = UdpSocket.bind(loopback);
    using client = UdpSocket.open(family);
    using batch = makeBatch(numbered(6), { capacity: 8 });
    for (let i = 0; i < 6; i++) batch.setAddress(i, server.localAddress);
    batch.keep(indices);
    expect(batch.count).toBe(expected.length);
    expect(textsOf(batch)).toEqual(expected.map((i) => `datagram ${i}`));
    expect(client.trySendBatch(batch)).toBe(expected.length);
    expect(drain(server)).toEqual(expected.map((i) => `datagram ${i}`));
  });

  const badKeeps: [name: string, indices: unknown][] = [
    ["falling numbers", [2, 1]],
    ["a number twice", [1, 1]],
    ["a negative number", [-1]],
    ["a number that is not below the count", [0, 4]],
    ["more numbers than slots in use", [0, 1, 2, 3, 3]],
    ["a fraction", [0.5]],
    ["NaN", [Number.NaN]],
    ["text", ["1"]],
    ["a hole", new Array(2)],
    ["an array of a length it has not", { length: 3, 0: 1 }],
    ["a negative length", { length: -1 }],
    ["a fraction of a length", { length: 1.5, 0: 0 }],
    ["a number", 3],
    ["null", null],
  ];
  test.each(badKeeps)("keep() refuses %s and changes nothing", (_, indices) => {
    using batch = makeBatch(numbered(4), { capacity: 8 });
    const offsets = [0, 1, 2, 3].map((i) => batch.offset(i));
    expect(() => batch.keep(indices as number[])).toThrow();
    expect(textsOf(batch)).toEqual(numbered(4));
    expect([0, 1, 2, 3].map((i) => batch.offset(i))).toEqual(offsets);
  });

  test("random work on a batch does what it does to a plain list of datagrams", () => {
    using first = UdpSocket.bind(loopback);
    using second = UdpSocket.bind(loopback);
    using connected = UdpSocket.bind(loopback);
    using client = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 7, slotBytes: 40 });
    connected.connectSync(client.localAddress);
    const to = [first.localAddress, second.localAddress, undefined];
    const next = randomNumbers(0x5eed);
    let model: { text: string; address: string }[] = [];
    const seen = () =>
      Array.from({ length: batch.count }, (_, i) => ({
        text: Buffer.from(batch.view(i)).toString(),
        address: `${batch.address(i)}`,
      }));
    const fill = (i: number) => {
      const text = `${next(1 << 30)}`.repeat(next(4));
      const address = to[next(3)];
      batch.write(i, text);
      batch.setAddress(i, address);
      model[i] = { text, address: `${address}` };
    };
    for (let step = 0; step < (process.env[STRESS] ? 300 : 4000); step++) {
      const { count } = batch;
      const [i, j] = [next(Math.max(count, 1)), next(Math.max(count, 1))];
      const kind = next(8);
      if (kind === 0 || count === 0) {
        batch.count = next(7) + 1;
        for (let slot = count; slot < batch.count; slot++) fill(slot);
        model = model.slice(0, batch.count);
      } else if (kind === 1) {
        fill(i);
      } else if (kind === 2) {
        batch.swap(i, j);
        const [left, right] = [model[i], model[j]];
        if (left && right) [model[i], model[j]] = [right, left];
      } else if (kind === 3) {
        batch.copySender(i, j);
        model = model.map((slot, k) =>
          k === i ? { ...slot, address: `${model[j]?.address}` } : slot,
        );
      } else if (kind === 4) {
        const kept = model.map((_, k) => k).filter(() => next(3) > 0);
        batch.keep(kept);
        model = model.filter((_, k) => kept.includes(k));
      } else if (kind === 5) {
        const good = model.filter(({ address }) => address !== "undefined");
        // What a client that is connected sent would come back to it.
        const mine = good.filter(({ address }) => address === `${client.localAddress}`);
        expect(client.trySendBatch(batch)).toBe(good.length);
        for (const socket of [first, second]) {
          const expected = good.filter(({ address }) => address === `${socket.localAddress}`);
          expect(drain(socket)).toEqual(expected.map(({ text }) => text));
        }
        expect(drain(client)).toEqual(mine.map(({ text }) => text));
      } else {
        const server = kind === 6 ? first : connected;
        const texts = numbered(next(8) + 1, `${step} `);
        for (const text of texts) client.sendToSync(text, server.localAddress);
        expect(server.tryReceiveBatch(batch)).toBe(Math.min(texts.length, 7));
        model = texts.slice(0, 7).map((text) => ({ text, address: `${client.localAddress}` }));
        drain(server);
      }
      expect(seen()).toEqual(model);
    }
  });

  test("contents stay right in a hot loop with collections", () => {
    using server = UdpSocket.bind(loopback);
    using clients = makePair(loopback);
    using batch = new DatagramBatch({ capacity: 16, slotBytes: 64 });
    using reply = new DatagramBatch({ capacity: 16, slotBytes: 64 });
    clients.client.connectSync(server.localAddress);
    const rounds = process.env[STRESS] ? 100 : 3000;
    for (let round = 0; round < rounds; round++) {
      reply.count = 16;
      for (let i = 0; i < 16; i++) {
        const at = reply.offset(i);
        reply.setLength(i, 1 + ((round + i) % 64));
        reply.memory.fill((round + i) & 0xff, at, at + reply.length(i));
      }
      if (clients.client.trySendBatch(reply) !== 16) throw new Error("not all were sent");
      if (round % 50 === 0) Bun.gc(true);
      if (server.receiveBatchSync(batch, WAIT) !== 16) throw new Error("not all were received");
      if (server.trySendBatch(batch) !== 16) throw new Error("not all were echoed");
      if (round % 50 === 25) Bun.gc(true);
      if (clients.client.receiveBatchSync(reply, WAIT) !== 16) throw new Error("not all came back");
      for (let i = 0; i < 16; i++) {
        const expected = Buffer.alloc(1 + ((round + i) % 64), (round + i) & 0xff);
        if (expected.compare(reply.view(i)) !== 0) {
          expect(reply.view(i).toHex()).toBe(expected.toString("hex"));
        }
      }
    }
    expect(reply.count).toBe(16);
    expect(batch.sender(15)).toBe(0);
  });

  const buffer = (() => {
    using socket = UdpSocket.open(family, { receiveBufferBytes: 2 << 20 });
    return socket.receiveBuffer;
  })();
  const largeTest = testIf(
    buffer.clamped ? "needs CAP_NET_ADMIN, or a sysctl net.core.rmem_max of 2 MiB" : undefined,
  );
  largeTest(`1024 slots are sent and received in one call each over ${family}`, () => {
    using server = UdpSocket.bind(loopback, { receiveBufferBytes: 2 << 20 });
    using client = UdpSocket.open(family);
    client.connectSync(server.localAddress);
    using batch = makeBatch(numbered(1024), { slotBytes: 33 });
    using calls = replaceLibc(
      "sendmmsg",
      (original) =>
        (...values) =>
          original(...values),
    );
    expect(client.trySendBatch(batch)).toBe(1024);
    expect(calls.calls).toBe(1);
    batch.memory.fill(0);
    expect(server.tryReceiveBatch(batch)).toBe(1024);
    expect(textsOf(batch)).toEqual(numbered(1024));
    expect(server.tryReceiveBatch(batch)).toBe(0);
  });
});

describe("DatagramBatch", () => {
  test("has 64 slots of 2048 bytes unless told otherwise", () => {
    using batch = new DatagramBatch();
    expect([batch.capacity, batch.slotBytes, batch.count]).toEqual([64, 2048, 0]);
    expect(batch.memory.length).toBeGreaterThanOrEqual(64 * 2048);
    expect([batch.failed, batch.stopped, batch.freed]).toEqual([0, undefined, false]);
  });

  const sizes: { capacity: number; slotBytes: number; peersMax: number }[] = [
    { capacity: 1, slotBytes: 1, peersMax: 1 },
    { capacity: 1024, slotBytes: 1, peersMax: 2 },
    { capacity: 1, slotBytes: 2 ** 24, peersMax: 1 },
    { capacity: 3, slotBytes: 65, peersMax: 2 ** 20 },
    { capacity: 2, slotBytes: 64, peersMax: 9 },
  ];
  test.each(sizes)("$capacity slots of $slotBytes bytes: none lies over another", (options) => {
    using batch = new DatagramBatch(options);
    const { capacity, slotBytes } = batch;
    expect([capacity, slotBytes]).toEqual([options.capacity, options.slotBytes]);
    batch.count = capacity;
    for (let i = 0; i < capacity; i++) {
      expect(batch.offset(i)).toBeGreaterThanOrEqual(i === 0 ? 0 : batch.offset(i - 1) + slotBytes);
      batch.setLength(i, slotBytes);
      expect(batch.view(i).length).toBe(slotBytes);
    }
  });

  const badOptions: [name: string, value: unknown, error: typeof RangeError][] = [
    ["capacity", 0, RangeError],
    ["capacity", 1025, RangeError],
    ["capacity", 1.5, RangeError],
    ["capacity", NaN, RangeError],
    ["capacity", "4", TypeError],
    ["capacity", null, TypeError],
    ["slotBytes", 0, RangeError],
    ["slotBytes", -1, RangeError],
    ["slotBytes", 2 ** 24 + 1, RangeError],
    ["slotBytes", 1.5, RangeError],
    ["slotBytes", 64n, TypeError],
    ["peersMax", 0, RangeError],
    ["peersMax", 2 ** 20 + 1, RangeError],
    ["peersMax", NaN, RangeError],
  ];
  test.each(badOptions)("refuses the %s %p", (name, value, type) => {
    expect(() => new DatagramBatch({ [name]: value })).toThrow(type);
  });

  test("refuses more memory than an ArrayBuffer may have", () => {
    const options = { capacity: 1024, slotBytes: 2 ** 24 };
    expect(() => new DatagramBatch(options)).toThrow(RangeError);
  });

  test("names the option and the range", () => {
    expect(() => new DatagramBatch({ capacity: 1025 })).toThrow(
      new RangeError("Cannot use 1025 as the capacity of a DatagramBatch: expected 1 to 1024"),
    );
  });

  test.each([1, 2])("reports ENOMEM when mapping %d fails, and keeps no memory", (failing) => {
    let calls = 0;
    const mapped: number[] = [];
    using _ = replaceLibc("mmap", (original) => (...values) => {
      if (++calls === failing) return failWith(ENOMEM, MAP_FAILED);
      const address = original(...values);
      mapped.push(address as number);
      return address;
    });
    const error = systemErrorOf(() => new DatagramBatch({ capacity: 16, slotBytes: 1 << 20 }));
    expect([error.code, error.syscall]).toEqual(["ENOMEM", "mmap"]);
    expect(mapped).toHaveLength(failing - 1);
    for (const address of mapped) {
      expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(`\n${address.toString(16)}-`);
    }
  });

  test.each([-1, 5, 0.5, NaN, Infinity])("count refuses %d and stays", (count) => {
    using batch = makeBatch(numbered(2), { capacity: 4 });
    expect(() => {
      batch.count = count;
    }).toThrow(RangeError);
    expect(batch.count).toBe(2);
  });

  test("count is settable from 0 to the capacity", () => {
    using batch = new DatagramBatch({ capacity: 4 });
    for (const count of [4, 0, 2]) {
      batch.count = count;
      expect(batch.count).toBe(count);
    }
  });

  const members: [name: string, run: (batch: DatagramBatch, i: number) => unknown][] = [
    ["offset", (batch, i) => batch.offset(i)],
    ["length", (batch, i) => batch.length(i)],
    ["setLength", (batch, i) => batch.setLength(i, 0)],
    ["originalLength", (batch, i) => batch.originalLength(i)],
    ["flags", (batch, i) => batch.flags(i)],
    ["truncated", (batch, i) => batch.truncated(i)],
    ["sender", (batch, i) => batch.sender(i)],
    ["address", (batch, i) => batch.address(i)],
    ["setAddress", (batch, i) => batch.setAddress(i, "127.0.0.1:9")],
    ["setAddress to none", (batch, i) => batch.setAddress(i, undefined)],
    ["copySender to", (batch, i) => batch.copySender(i, 0)],
    ["copySender from", (batch, i) => batch.copySender(0, i)],
    ["view", (batch, i) => batch.view(i)],
    ["write", (batch, i) => batch.write(i, "x")],
    ["swap left", (batch, i) => batch.swap(i, 0)],
    ["swap right", (batch, i) => batch.swap(0, i)],
    ["failure", (batch, i) => batch.failure(i)],
    ["failureError", (batch, i) => batch.failureError(i)],
  ];
  test.each(members)("%s() refuses what is no slot's number", (_, run) => {
    using batch = makeBatch(numbered(4));
    for (const i of [-1, 4, 1024, 0.5, NaN, Infinity, 2 ** 32, -(2 ** 32)]) {
      expect(() => run(batch, i)).toThrow(RangeError);
    }
    for (const i of ["0", null, undefined, 0n, [0]]) {
      expect(() => run(batch, i as unknown as number)).toThrow(TypeError);
    }
    expect(textsOf(batch)).toEqual(numbered(4));
    expect(batch.address(0)).toBeUndefined();
  });

  test.each([-1, 9, 0.5, NaN])("setLength() refuses %d bytes and changes nothing", (length) => {
    using batch = makeBatch(["abc"], { slotBytes: 8 });
    expect(() => batch.setLength(0, length)).toThrow(RangeError);
    expect(textsOf(batch)).toEqual(["abc"]);
  });

  const written: [name: string, data: ArrayBufferView | string, expected: number[]][] = [
    ["a string as UTF-8", "ß", [0xc3, 0x9f]],
    ["an empty string", "", []],
    ["a view at an offset", new Uint8Array([9, 1, 2, 9]).subarray(1, 3), [1, 2]],
    ["a DataView", new DataView(new Uint8Array([9, 1, 2, 9]).buffer, 1, 2), [1, 2]],
    ["a Uint16Array", new Uint16Array([1, 2]), [1, 0, 2, 0]],
    ["as much as fits", new Uint8Array(8).fill(7), Array(8).fill(7)],
  ];
  test.each(written)("write() copies %s and nothing else", (_, data, expected) => {
    using batch = new DatagramBatch({ capacity: 3, slotBytes: 8 });
    batch.memory.fill(CANARY);
    batch.count = 3;
    batch.write(1, data);
    expect([...batch.view(1)]).toEqual(expected);
    const at = batch.offset(1);
    batch.memory.fill(CANARY, at, at + expected.length);
    expect(batch.memory.every((byte) => byte === CANARY)).toBe(true);
  });

  test("write() takes the batch's own memory", () => {
    using batch = makeBatch(["abcd", "-"], { slotBytes: 8 });
    batch.write(1, batch.view(0));
    batch.write(0, batch.view(0).subarray(1));
    expect(textsOf(batch)).toEqual(["bcd", "abcd"]);
  });

  const unwritable: [name: string, make: () => unknown, type: typeof RangeError][] = [
    ["more than fits", () => new Uint8Array(9), RangeError],
    ["a string whose UTF-8 does not fit", () => "ßßßß!", RangeError],
    ["null", () => null, TypeError],
    ["a number", () => 4096, TypeError],
    ["an ArrayBuffer", () => new ArrayBuffer(4), TypeError],
    ["a Proxy of a view", () => new Proxy(new Uint8Array(4), {}), TypeError],
    ["shared memory", () => new Uint8Array(new SharedArrayBuffer(4)), TypeError],
    ["resizable memory", () => new Uint8Array(new ArrayBuffer(4, { maxByteLength: 8 })), TypeError],
    [
      "detached memory",
      () => {
        const view = new Uint8Array(new ArrayBuffer(4));
        view.buffer.transfer();
        return view;
      },
      TypeError,
    ],
  ];
  test.each(unwritable)("write() refuses %s and changes nothing", (_, make, type) => {
    using batch = makeBatch(["kept"], { slotBytes: 8 });
    expect(() => batch.write(0, make() as string)).toThrow(type);
    expect(textsOf(batch)).toEqual(["kept"]);
  });

  test("write() stays inside the slot, whatever a view says of itself", () => {
    using batch = new DatagramBatch({ capacity: 3, slotBytes: 8 });
    batch.memory.fill(CANARY);
    batch.count = 3;
    for (const lie of [{ byteLength: 4096 }, { byteLength: -1 }, { byteOffset: -8 }]) {
      const view = new Uint8Array(8).fill(1);
      for (const [key, value] of Object.entries(lie)) Object.defineProperty(view, key, { value });
      try {
        batch.write(1, view);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
      const at = batch.offset(1);
      batch.memory.fill(CANARY, at, at + 8);
      expect(batch.memory.every((byte) => byte === CANARY)).toBe(true);
    }
  });

  test("write() asks the engine about the data, and not the data's own properties", () => {
    using batch = new DatagramBatch({ capacity: 1 });
    const view = new Uint8Array(8).fill(7);
    for (const property of ["buffer", "byteOffset", "byteLength", "length"]) {
      Object.defineProperty(view, property, {
        get() {
          batch.free();
          return 0;
        },
      });
    }
    batch.write(0, view);
    expect([batch.freed, batch.length(0), ...batch.view(0)]).toEqual([
      false,
      8,
      ...Array(8).fill(7),
    ]);
  });

  test("keep() refuses a batch that the list frees while it is read", () => {
    const batch = makeBatch(numbered(3));
    const indices = {
      length: 2,
      0: 1,
      get 1() {
        batch.free();
        return 2;
      },
    };
    expect(() => batch.keep(indices)).toThrow();
    expect([batch.freed, batch.count]).toEqual([true, 0]);
  });

  test("keep() survives a list that changes the batch while it is read", () => {
    using batch = makeBatch(numbered(5), { capacity: 8 });
    const indices = {
      length: 3,
      0: 0,
      get 1() {
        batch.keep([4]);
        batch.count = 5;
        return 3;
      },
      2: 4,
    };
    try {
      batch.keep(indices);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
    // Whatever came of it, each slot still has a home of its own.
    expect(new Set(Array.from({ length: 8 }, (_, i) => batch.offset(i))).size).toBe(8);
    expect(batch.count).toBeLessThanOrEqual(8);
  });

  test("its size cannot be changed from outside", () => {
    using batch = new DatagramBatch({ capacity: 2, slotBytes: 64 });
    for (const key of ["capacity", "slotBytes", "memory", "freed"]) {
      expect(() => Object.assign(batch, { [key]: 4096 })).toThrow(TypeError);
    }
    expect([batch.capacity, batch.slotBytes]).toEqual([2, 64]);
    for (const key of ["capacity", "slotBytes"]) Object.defineProperty(batch, key, { value: 4096 });
    expect(() => batch.setLength(0, 65)).toThrow(RangeError);
    expect(() => batch.length(2)).toThrow(RangeError);
  });

  test("a subclass may have fields of its own", () => {
    class Named extends DatagramBatch {
      label = "mine";
    }
    using batch = new Named({ capacity: 1 });
    expect([batch.label, batch.capacity]).toEqual(["mine", 1]);
  });

  const gone: [name: string, take: (batch: DatagramBatch) => unknown][] = [
    ["free()", (batch) => batch.free()],
    ["using", (batch) => batch[Symbol.dispose]()],
    ["a transfer", (batch) => batch.memory.buffer.transfer()],
    ["a transfer to another length", (batch) => batch.memory.buffer.transfer(64)],
    [
      "structuredClone",
      ({ memory }) => structuredClone(memory.buffer, { transfer: [memory.buffer] }),
    ],
  ];
  describe.each(gone)("after %s", (_, take) => {
    test("memory and every view are empty", () => {
      const batch = makeBatch(numbered(3));
      const { memory } = batch;
      const view = batch.view(1);
      expect(view.length).toBe(10);
      take(batch);
      expect([batch.freed, memory.length, batch.memory.length, view.length]).toEqual([
        true,
        0,
        0,
        0,
      ]);
      expect(view[0]).toBeUndefined();
      batch.free();
      batch.free();
      expect(batch.freed).toBe(true);
    });

    test("every call that would touch it is refused, and loses nothing", () => {
      using pair = makePair("127.0.0.1:0");
      const batch = makeBatch(numbered(3));
      take(batch);
      pair.client.sendSync("waiting");
      for (const run of [
        () => pair.server.tryReceiveBatch(batch),
        () => pair.server.receiveBatchSync(batch, WAIT),
        () => pair.client.trySendBatch(batch),
        () => pair.client.sendBatchSync(batch),
        () => batch.write(0, "x"),
        () => batch.view(0)[0]?.toString() ?? batch.keep([]),
        () => batch.setAddress(0, "127.0.0.1:9"),
        () => batch.setAddress(0, undefined),
        () => batch.copySender(0, 1),
        () => batch.swap(0, 1),
        () => batch.keep([]),
        () => Object.assign(batch, { count: 2 }),
        () => Object.assign(batch, { count: 0 }),
      ]) {
        expect(run).toThrow(TypeError);
      }
      expect(drain(pair.server)).toEqual(["waiting"]);
    });

    test("reading a slot gives an error or a number, never memory that is gone", () => {
      const batch = makeBatch(numbered(3));
      take(batch);
      for (const run of [
        () => batch.offset(0),
        () => batch.length(0),
        () => batch.originalLength(0),
        () => batch.flags(0),
        () => batch.sender(0),
      ]) {
        try {
          expect(run()).toBeNumber();
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError);
        }
      }
    });
  });

  test("memory that was transferred away keeps its contents for who has it", () => {
    const batch = makeBatch(["moved"]);
    const moved = batch.memory.buffer.transfer();
    batch.free();
    Bun.gc(true);
    expect(Buffer.from(moved, 0, 5).toString()).toBe("moved");
    new Uint8Array(moved).fill(1);
  });

  test("a view outlives a batch that nobody holds", () => {
    const views = Array.from({ length: 50 }, (_, i) => makeBatch([`batch ${i}`]).view(0));
    Bun.gc(true);
    expect(views.map((view) => Buffer.from(view).toString())).toEqual(numbered(50, "batch "));
  });

  test("using frees at the end of the block", () => {
    let kept: DatagramBatch;
    {
      using batch = new DatagramBatch({ capacity: 1 });
      kept = batch;
      expect(kept.freed).toBe(false);
    }
    expect(kept.freed).toBe(true);
  });

  test("slots beyond the count are stale, and say nothing of the datagrams before", () => {
    using pair = makePair("127.0.0.1:0");
    using batch = new DatagramBatch({ capacity: 4 });
    for (const text of numbered(4)) pair.client.sendSync(text);
    pair.server.receiveBatchSync(batch, WAIT);
    pair.client.sendSync("one");
    pair.server.receiveBatchSync(batch, WAIT);
    expect([batch.count, batch.sender(1), batch.address(3)]).toEqual([1, -1, undefined]);
    batch.count = 4;
    expect(pair.server.trySendBatch(batch)).toBe(1);
    expect([1, 2, 3].map((i) => batch.failure(i))).toEqual(Array(3).fill("EDESTADDRREQ"));
    expect(drain(pair.client)).toEqual(["one"]);
  });

  test("one batch serves IPv4 and IPv6 in turn", () => {
    using four = makePair("127.0.0.1:0");
    using six = makePair("[::1]:0");
    using batch = new DatagramBatch({ capacity: 2 });
    for (let round = 0; round < 4; round++) {
      const pair = round % 2 === 0 ? four : six;
      pair.client.sendSync(`round ${round}`);
      pair.client.sendSync("again");
      expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
      expect(`${batch.address(0)}`).toBe(`${pair.client.localAddress}`);
      expect(batch.sender(1)).toBe(round % 2);
      expect(pair.server.trySendBatch(batch)).toBe(2);
      expect(drain(pair.client)).toEqual([`round ${round}`, "again"]);
    }
    // From one family on to the other.
    four.client.sendSync("over");
    four.server.receiveBatchSync(batch, WAIT);
    expect(six.client.trySendBatch(batch)).toBe(1);
    expect(drain(six.server)).toEqual(["over"]);
  });

  test("an IPv6 socket answers IPv4 senders from a batch", () => {
    using server = UdpSocket.bind("[::]:0");
    using client = UdpSocket.bind("127.0.0.1:0");
    using batch = new DatagramBatch({ capacity: 2 });
    client.sendToSync("four", `127.0.0.1:${server.localAddress.port}`);
    server.receiveBatchSync(batch, WAIT);
    expect(`${batch.address(0)}`).toBe(`[::ffff:127.0.0.1]:${client.localAddress.port}`);
    expect(server.trySendBatch(batch)).toBe(1);
    expect(drain(client)).toEqual(["four"]);
  });
});

/** A repeatable source of whole numbers below `limit` (mulberry32). */
function randomNumbers(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

describe("the first slot to send", () => {
  test.each(["127.0.0.1:0", "[::1]:0"])("is refused at once where it is none, from %s", (local) => {
    using receiver = UdpSocket.bind(local);
    using socket = UdpSocket.open(local);
    socket.connectSync(receiver.localAddress);
    // Others may have it from now on: the peer is asked for.
    expect(socket.descriptor).toBeGreaterThan(0);
    const batch = new DatagramBatch({ capacity: 2, slotBytes: 10, controlBytes: 64 });
    batch.count = 1;
    for (const first of [
      -1,
      2,
      0.5,
      Number.NaN,
      -(2 ** 31),
      -(2 ** 53),
      Number.NEGATIVE_INFINITY,
    ]) {
      const error = new RangeError(
        `Cannot use ${first} as the first slot to send: expected 0 to 1`,
      );
      expect(() => socket.trySendBatch(batch, first)).toThrow(error);
      expect(() => socket.sendBatchSync(batch, first, { timeoutMs: 0 })).toThrow(error);
      expect(socket.sendBatch(batch, first)).rejects.toThrow(error);
    }
    batch.free();
  });
});

test("console.log of a DatagramBatch is one short line", () => {
  const batch = makeBatch(numbered(3));
  expect(Bun.inspect(batch)).toBe(
    `DatagramBatch, 3 of ${batch.capacity} slots of ${batch.slotBytes} bytes`,
  );
  batch.free();
  expect(Bun.inspect(batch)).toBe("DatagramBatch, freed");
  expect(Bun.inspect(DatagramBatch.prototype)).toBe("DatagramBatch");
});
