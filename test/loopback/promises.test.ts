/**
 * The promise forms over every kind of socket: what they answer, in which order, and what they
 * refuse. Cancelling is in promises_cancel, waiting for room in promises_backpressure.
 */
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  type Address,
  type AsyncOptions,
  ClosedError,
  DatagramBatch,
  Message,
  poller,
  Socket,
  SystemError,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import {
  EAGAIN,
  EINPROGRESS,
  EMFILE,
  ENOMEM,
  ENOSPC,
  EPOLL_CTL_DEL,
  MSG_CONFIRM,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
} from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import {
  beginCount,
  deliver,
  type Kind,
  kinds,
  listen,
  outcomes,
  type Pair,
  type ReceiveName,
  reasonOf,
  receives,
  receivesOf,
  type SendName,
  sends,
  sendsOf,
  seqpacket,
  soon,
  spendBudget,
  startPoller,
  syscalls,
  TimerCount,
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

const WAIT = { timeoutMs: 20_000 };
const LONG = { timeoutMs: 3_600_000 };
const BUDGET_MS = poller.turnBudgetMs;

const connections = [
  ["ipv4", "stream"],
  ["unix", "stream"],
  ["unix", "seqpacket"],
] as const;

beforeAll(startPoller);
beforeEach(beginCount);

afterEach(() => {
  poller.turnBudgetMs = BUDGET_MS;
  expect(waiters()).toBe(0);
});

/** Every kind of socket with every call that receives from it. */
function* receiving(all: readonly Kind[] = kinds): Generator<[string, Kind, ReceiveName]> {
  for (const kind of all)
    for (const call of receivesOf(kind)) yield [`${call}() over ${kind.name}`, kind, call];
}

/** Every kind of socket with every call that sends over it. */
function* sending(): Generator<[string, Kind, SendName]> {
  for (const kind of [...kinds, unixDatagramNamed])
    for (const call of sendsOf(kind)) yield [`${call}() over ${kind.name}`, kind, call];
}

/** Does what must neither wait nor set a timer nor listen to its signal. */
async function atOnce<Result>(
  start: (options: AsyncOptions) => Promise<Result>,
  signal = new WatchedSignal(),
): Promise<Result> {
  // A machine that has much else to do must not spend the budget.
  poller.turnBudgetMs = Number.POSITIVE_INFINITY;
  using timers = new TimerCount();
  const before = poller.counters;
  const promise = start({ ...LONG, signal: signal.signal });
  promise.catch(() => {});
  expect(poller.counters).toEqual(before);
  expect([timers.made, signal.added]).toEqual([0, 0]);
  return await promise;
}

describe("what can be answered at once", () => {
  test.each([...receiving()])("%s: the poller is not asked", async (_, kind, call) => {
    using pair = kind.open();
    deliver(pair, "now");
    expect(await atOnce((options) => receives[call](pair.receiver, 3, options))).toBe("now");
  });

  test.each([...sending()])("%s: the poller is not asked", async (_, kind, call) => {
    using pair = kind.open();
    const data = Buffer.from("now");
    expect(await atOnce((options) => sends[call](pair, data, options))).toBe(3);
    expect(text(pair.receiver.receiveBytesSync(9, WAIT))).toBe("now");
  });

  test.each(connections)("accept() over %s %s: the poller is not asked", async (family, type) => {
    using listener = listen(family, type);
    using client = Socket.create(family, type);
    client.connectSync(listener.localAddress, WAIT);
    using served = await atOnce((options) => listener.accept(options));
    expect([served.type, served.connected]).toEqual([type, true]);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test.each([
    ["ipv4", "datagram"],
    ["unix", "stream"],
    ["unix", "seqpacket"],
  ] as const)("connect() over %s %s: the poller is not asked", async (family, type) => {
    using peer = type === "datagram" ? UdpSocket.bind("127.0.0.1:0") : listen("unix", type);
    using client = Socket.create(family, type);
    expect(await atOnce((options) => client.connect(peer.localAddress, options))).toBeUndefined();
    expect(client.connected).toBe(true);
  });

  test("strings are sent as UTF-8", async () => {
    using pair = unixDatagramNamed.open();
    expect(await pair.sender.sendTo("grüße", pair.to as Address)).toBe(7);
    expect(text(await pair.receiver.receiveBytes(20))).toBe("grüße");
    pair.sender.connectSync(pair.to as Address);
    expect(await pair.sender.send("€")).toBe(3);
    expect(text(await pair.receiver.receiveBytes(20))).toBe("€");
  });

  test("an ArrayBuffer, any view of it and nothing are sent", async () => {
    using pair = udp4.open();
    const buffer = new Uint8Array([97, 98, 99, 100]).buffer;
    const data = [buffer, new DataView(buffer, 1, 2), new Uint16Array(buffer, 2), ""];
    for (const each of data) await pair.sender.send(each);
    const came: string[] = [];
    for (const _ of data) came.push(text(await pair.receiver.receiveBytes(9)));
    expect(came).toEqual(["abcd", "bc", "cd", ""]);
  });

  test("a spent budget lets it wait for the next turn, with its order kept", async () => {
    using pair = udp4.open();
    deliver(pair, "0", "1", "2");
    spendBudget();
    const promises = [0, 1, 2].map(() => waiting(() => receives.receive(pair.receiver, 1)));
    const list = outcomes(promises);
    // No number of microtasks is a turn.
    for (let i = 0; i < 1000; i++) await undefined;
    expect(list).toEqual(["pending", "pending", "pending"]);
    expect(await Promise.all(promises)).toEqual(["0", "1", "2"]);
  });
});

describe("what has to wait", () => {
  test.each([...receiving()])("%s: waits, and gets", async (_, kind, call) => {
    using pair = kind.open();
    const promise = waiting(() => receives[call](pair.receiver, 5));
    await turns(3);
    expect(waiters()).toBe(1);
    trySend(pair, "later");
    expect(await promise).toBe("later");
    expect(waiters()).toBe(0);
  });

  test.each([...receiving()])("%s: waits again and again", async (_, kind, call) => {
    using pair = kind.open();
    for (let i = 10; i < 40; i++) {
      const promise = waiting(() => receives[call](pair.receiver, 2));
      // Now and then it comes within the microtasks of the wait, or in the turn after.
      if (i % 3 === 1) await undefined;
      if (i % 3 === 2) await turns(1);
      trySend(pair, `${i}`);
      expect(await promise).toBe(`${i}`);
    }
  });

  test.each([...receiving()])("%s: several are served in order", async (_, kind, call) => {
    using pair = kind.open();
    const order: string[] = [];
    const promises = Array.from({ length: 6 }, () =>
      waiting(() => receives[call](pair.receiver, 1)).then((came) => order.push(came)),
    );
    for (const each of "abc") trySend(pair, each);
    await Promise.all(promises.slice(0, 3));
    expect(order).toEqual(["a", "b", "c"]);
    for (const each of "def") trySend(pair, each);
    await Promise.all(promises);
    expect(order.join("")).toBe("abcdef");
  });

  test.each(kinds.map((kind) => [kind.name, kind] as const))(
    "different calls over %s stand in one line",
    async (_, kind) => {
      using pair = kind.open();
      const calls = receivesOf(kind);
      const promises = calls.map((call) => waiting(() => receives[call](pair.receiver, 1)));
      for (const [i] of calls.entries()) trySend(pair, `${i}`);
      expect(await Promise.all(promises)).toEqual(calls.map((_, i) => `${i}`));
    },
  );

  test.each([tcp, unixStream].map((kind) => [kind.name, kind] as const))(
    "receives of several lengths cut a %s stream in their order",
    async (_, kind) => {
      using pair = kind.open();
      const lengths = [3, 1, 4, 2];
      const promises = lengths.map((length) =>
        waiting(() => receives.receive(pair.receiver, length)),
      );
      trySend(pair, "aaabccccdd");
      expect(await Promise.all(promises)).toEqual(["aaa", "b", "cccc", "dd"]);
    },
  );

  test("datagrams of several lengths are cut by the target they come to", async () => {
    using pair = udp4.open();
    const targets = [1, 3, 2].map((length) => new Uint8Array(length));
    const promises = targets.map((target) => waiting(() => pair.receiver.receiveFrom(target)));
    for (const each of ["one", "two", "three"]) trySend(pair, each);
    const came = await Promise.all(promises);
    expect(targets.map(text)).toEqual(["o", "two", "th"]);
    expect(came.map(({ flags, originalLength }) => [flags, originalLength])).toEqual([
      [MSG_TRUNC, 3],
      [0, 3],
      [MSG_TRUNC, 5],
    ]);
    expect(came.map(({ address }) => `${address}`)).toEqual(
      Array(3).fill(`${pair.sender.localAddress}`),
    );
  });

  test("a receive that comes while others wait does not get ahead of them", async () => {
    using pair = unixDatagram.open();
    const first = waiting(() => receives.receive(pair.receiver, 1));
    trySend(pair, "1");
    trySend(pair, "2");
    // Both are there by now, but the first has not got its own yet.
    const second = waiting(() => receives.receive(pair.receiver, 1));
    expect(await Promise.all([second, first])).toEqual(["2", "1"]);
  });

  test("both directions of a socket wait beside each other", async () => {
    using pair = unixStream.open({ sendBufferBytes: 4096 });
    const back = waiting(() => receives.receive(pair.sender, 4));
    while (trySend(pair, Buffer.alloc(1024)) !== undefined);
    const sent = waiting(() => pair.sender.send(new Uint8Array(10)));
    const there = waiting(() => receives.receive(pair.sender, 4));
    pair.receiver.trySend(Buffer.from("backhere"));
    expect(await Promise.all([back, there])).toEqual(["back", "here"]);
    expect(waiters()).toBe(1);
    while (pair.receiver.tryReceive(new Uint8Array(65536)) !== undefined);
    expect(await sent).toBe(10);
  });

  test("an event that nobody waited for does not make the next wait deaf", async () => {
    using pair = udp4.open();
    using others = new DisposableStack();
    for (const direction of ["readers", "both"]) {
      const first = waiting(() => receives.receive(pair.receiver, 1));
      trySend(pair, "1");
      expect(await first).toBe("1");
      trySend(pair, "2");
      // Two who wait elsewhere: their events are fetched, and this one with them.
      const [near, far] = [others.use(udp4.open()), others.use(udp4.open())];
      const promises = [near, far].map(({ receiver }) =>
        waiting(() => receives.receive(receiver, 1)),
      );
      await turns(2);
      trySend(near, "n");
      await promises[0];
      if (direction === "both") {
        // A writer that is told at once keeps the socket in the set.
        let calls = 0;
        using _ = replaceLibc(
          "send",
          (original) =>
            (...values) =>
              ++calls === 1 ? failWith(EAGAIN) : original(...values),
        );
        pair.receiver.connectSync(pair.sender.localAddress);
        await waiting(() => pair.receiver.send("back"));
      }
      trySend(far, "f");
      await promises[1];
      expect(await receives.receive(pair.receiver, 1)).toBe("2");
      for (const each of "345") {
        const next = waiting(() => receives.receive(pair.receiver, 1));
        await turns(1);
        trySend(pair, each);
        expect(await next).toBe(each);
      }
    }
  });

  test("two sockets for one queue: each datagram goes to one of them, and none is lost", async () => {
    using pair = udp4.open();
    using other = pair.receiver.duplicate();
    const both = [pair.receiver, other];
    const promises = both.flatMap((socket) =>
      Array.from({ length: 4 }, () => waiting(() => receives.receive(socket, 1))),
    );
    for (const each of "01234567") trySend(pair, each);
    expect((await Promise.all(promises)).toSorted().join("")).toBe("01234567");
  });

  test("of several hundred sockets each one is told", async () => {
    const pairs = Array.from({ length: 300 }, () => unixDatagram.open());
    const promises = pairs.map(({ receiver }) => waiting(() => receives.receive(receiver, 9)));
    await turns(2);
    for (const [i, pair] of pairs.entries()) trySend(pair, `${i}`);
    expect(await Promise.all(promises)).toEqual(pairs.map((_, i) => `${i}`));
    for (const pair of pairs) pair[Symbol.dispose]();
  });

  test.each(
    [...receiving([tcp, unixStream, seqpacket])].filter(([, , call]) => call !== "receiveBatch"),
  )("%s: the end comes as nothing, to all", async (_, kind, call) => {
    using pair = kind.open();
    const promises = [1, 2].map(() => waiting(() => receives[call](pair.receiver, 5)));
    trySend(pair, "last");
    pair.sender.shutdown("write");
    expect(await Promise.all(promises)).toEqual(["last", ""]);
    expect(await receives[call](pair.receiver, 5)).toBe("");
  });

  test.each(
    [...receiving([tcp, unixStream, seqpacket])].filter(([, , call]) => call !== "receiveBatch"),
  )("%s: shutdown() of reading gives the end to all who wait", async (_, kind, call) => {
    using quiet = udp4.open();
    const other = waiting(() => receives.receive(quiet.receiver, 1));
    for (const later of [0, 2]) {
      using pair = kind.open();
      const promises = [1, 2].map(() => waiting(() => receives[call](pair.receiver, 5)));
      await turns(later);
      pair.receiver.shutdown("read");
      expect(await soon(promises)).toEqual(["", ""]);
    }
    trySend(quiet, "x");
    expect(await other).toBe("x");
  });

  test.each([...receiving([udp4, unixDatagram, seqpacket])])(
    "%s: an empty one is received, and is not the end",
    async (_, kind, call) => {
      using pair = kind.open();
      const promises = [1, 2].map(() => waiting(() => receives[call](pair.receiver, 5)));
      trySend(pair, "");
      trySend(pair, "more");
      expect(await Promise.all(promises)).toEqual(["", "more"]);
    },
  );

  test("receiveMessage() tells an empty record from the end by MSG_EOR", async () => {
    using pair = seqpacket.open();
    const messages = [0, 1].map(() => new Message({ vectors: new Uint8Array(4) }));
    const promises = messages.map((message) =>
      waiting(() => pair.receiver.receiveMessage(message)),
    );
    trySend(pair, "");
    pair.sender.close();
    expect(await Promise.all(promises)).toEqual([0, 0]);
    expect(messages.map(({ flags }) => flags !== 0)).toEqual([true, false]);
  });

  test("receiveBatch() gets all that is there, and waits for no more", async () => {
    using pair = udp4.open();
    using batch = new DatagramBatch({ capacity: 4, slotBytes: 16 });
    const promise = waiting(() => pair.receiver.receiveBatch(batch));
    for (const each of "abcdef") trySend(pair, each);
    expect(await promise).toBe(4);
    expect(Array.from({ length: batch.count }, (_, i) => text(batch.view(i)))).toEqual([..."abcd"]);
    expect(`${batch.address(3)}`).toBe(`${pair.sender.localAddress}`);
    expect(await pair.receiver.receiveBatch(batch)).toBe(2);
  });

  test("a peer's refusal goes to the first receive, and the others wait on", async () => {
    const address = (() => {
      using gone = UdpSocket.bind("127.0.0.1:0");
      return gone.localAddress;
    })();
    using client = UdpSocket.open("ipv4");
    client.connectSync(address);
    const promises = [1, 2].map(() => waiting(() => client.receive(new Uint8Array(1))));
    client.trySend(Buffer.from("anybody?"));
    const refusal = await reasonOf(promises[0] as Promise<number>);
    expect(refusal).toBeInstanceOf(SystemError);
    expect(refusal).toMatchObject({ code: "ECONNREFUSED", syscall: "recv" });
    await turns(3);
    expect(waiters()).toBe(1);
    client.close();
    expect(await reasonOf(promises[1] as Promise<number>)).toBeInstanceOf(ClosedError);
  });

  test("an error of a broken connection reaches one receive, and the others get the end", async () => {
    using pair = tcp.open();
    const promises = [1, 2].map(() => waiting(() => receives.receive(pair.receiver, 1)));
    // Closed with something unread: the peer is told with a reset.
    pair.receiver.trySend(Buffer.from("unread"));
    pair.sender.receiveSync(new Uint8Array(1), { flags: MSG_PEEK, ...WAIT });
    pair.sender.close();
    const list = await soon(promises);
    expect(list[0]).toMatchObject({ code: "ECONNRESET", syscall: "recv" });
    expect(list[1]).toBe("");
  });

  test("a receive that fails lets the next one have its turn", async () => {
    using pair = udp4.open();
    const target = new Uint8Array(new ArrayBuffer(8));
    const first = waiting(() => pair.receiver.receive(target));
    const second = waiting(() => receives.receive(pair.receiver, 4));
    target.buffer.transfer();
    trySend(pair, "kept");
    expect(await reasonOf(first)).toBeInstanceOf(TypeError);
    expect(await second).toBe("kept");
  });

  test("a socket that the epoll set does not take fails, and leaves nothing behind", async () => {
    using pair = udp4.open();
    using batch = new DatagramBatch();
    {
      using _ = replaceLibc("epoll_ctl", (original) => (epfd, operation, fd, event) => {
        if (operation === EPOLL_CTL_DEL) return original(epfd, operation, fd, event);
        return failWith(ENOSPC);
      });
      const { signal, listeners } = new WatchedSignal();
      const reason = await reasonOf(pair.receiver.receiveBatch(batch, { ...WAIT, signal }));
      expect(reason).toMatchObject({ code: "ENOSPC", syscall: "epoll_ctl" });
      expect([listeners.size, waiters()]).toEqual([0, 0]);
    }
    const promise = waiting(() => pair.receiver.receiveBatch(batch));
    trySend(pair, "again");
    expect(await promise).toBe(1);
  });
});

describe("flags", () => {
  test.each([...receiving([udp4, unixDatagram, tcp, unixStream, seqpacket])])(
    "%s: MSG_PEEK leaves what it shows",
    async (_, kind, call) => {
      using pair = kind.open();
      const peeks = [1, 2].map(() =>
        waiting(() => receives[call](pair.receiver, 2, { flags: MSG_PEEK })),
      );
      const taken = waiting(() => receives[call](pair.receiver, 2));
      trySend(pair, "it");
      expect(await Promise.all([...peeks, taken])).toEqual(["it", "it", "it"]);
      expect(pair.receiver.tryReceive(new Uint8Array(2))).toBeUndefined();
    },
  );

  test.each([udp4, unixDatagram, seqpacket].map((kind) => [kind.name, kind] as const))(
    "receive() over %s: MSG_TRUNC gives the true length",
    async (_, kind) => {
      using pair = kind.open();
      const target = new Uint8Array(2);
      const promise = waiting(() => pair.receiver.receive(target, { flags: MSG_TRUNC }));
      trySend(pair, "longer");
      expect([await promise, text(target)]).toEqual([6, "lo"]);
    },
  );

  test("receive() over TCP: MSG_TRUNC throws bytes away unread", async () => {
    using pair = tcp.open();
    const target = new Uint8Array(2);
    const promise = waiting(() => pair.receiver.receive(target, { flags: MSG_TRUNC }));
    const rest = waiting(() => receives.receive(pair.receiver, 9));
    trySend(pair, "away");
    expect([await promise, target[0], await rest]).toEqual([2, 0, "ay"]);
  });

  describe.each([tcp, unixStream].map((kind) => [kind.name, kind] as const))(
    "MSG_WAITALL over %s",
    (_, kind) => {
      const ALL = { flags: MSG_WAITALL };

      test("receive() fills the target, piece by piece, and leaves the rest", async () => {
        using pair = kind.open();
        const target = new Uint8Array(10);
        const promise = waiting(() => pair.receiver.receive(target, ALL));
        const next = waiting(() => receives.receive(pair.receiver, 9));
        const list = outcomes([promise, next]);
        for (const [i, piece] of ["abc", "d", "efgh"].entries()) {
          trySend(pair, piece);
          await until(() => target[[2, 3, 7][i] as number] !== 0, `piece ${i} has come`);
        }
        expect(list).toEqual(["pending", "pending"]);
        trySend(pair, "ijkl");
        expect([await promise, text(target), await next]).toEqual([10, "abcdefghij", "kl"]);
      });

      test("receive() is answered at once when all is there", async () => {
        using pair = kind.open();
        deliver(pair, "whole");
        const target = new Uint8Array(5);
        const options = { flags: MSG_WAITALL };
        expect(await atOnce((more) => pair.receiver.receive(target, { ...more, ...options }))).toBe(
          5,
        );
        expect(text(target)).toBe("whole");
      });

      test("receive() gives what has come before the end", async () => {
        using pair = kind.open();
        const target = new Uint8Array(10);
        const promise = waiting(() => pair.receiver.receive(target, ALL));
        trySend(pair, "part");
        pair.sender.shutdown("write");
        expect([await promise, text(target.subarray(0, 4))]).toEqual([4, "part"]);
        expect(await pair.receiver.receive(target, ALL)).toBe(0);
      });

      test("what has come stands in the error of a timeout, and in the target", async () => {
        using pair = kind.open();
        deliver(pair, "part");
        const target = new Uint8Array(10);
        const promise = waiting(() => pair.receiver.receive(target, { ...ALL, timeoutMs: 5 }));
        const reason = await reasonOf(promise);
        expect(reason).toBeInstanceOf(TimeoutError);
        expect(reason).toMatchObject({ code: "ETIMEDOUT", syscall: "recv", transferred: 4 });
        expect(text(target.subarray(0, 4))).toBe("part");
      });

      test.each([
        ["close", "EBADF"],
        ["detach", "ECANCELED"],
      ] as const)("what has come stands in the error of %s()", async (how, code) => {
        using pair = kind.open();
        deliver(pair, "part");
        const promises = [1, 2].map(() =>
          waiting(() => pair.receiver.receive(new Uint8Array(10), ALL)),
        );
        const given = pair.receiver[how]();
        if (given !== undefined) Socket.adopt(given, { own: true }).close();
        const list = await soon(promises);
        expect(list[0]).toMatchObject({ code, syscall: "recv", transferred: 4 });
        expect(list[1]).toMatchObject({ code, syscall: "recv" });
        expect(list[1]).not.toHaveProperty("transferred");
      });

      test("a target that is transferred in between gives a TypeError", async () => {
        using pair = kind.open();
        deliver(pair, "ab");
        const target = new Uint8Array(new ArrayBuffer(10));
        const promise = waiting(() => pair.receiver.receive(target, ALL));
        const kept = structuredClone(target, { transfer: [target.buffer] });
        trySend(pair, "cd");
        expect(await reasonOf(promise)).toBeInstanceOf(TypeError);
        expect([text(kept.subarray(0, 2)), kept[2]]).toEqual(["ab", 0]);
        expect(await receives.receive(pair.receiver, 9)).toBe("cd");
      });

      test("MSG_PEEK and MSG_OOB beside it, and an empty target, are RangeErrors", async () => {
        using pair = kind.open();
        for (const flag of [MSG_PEEK, MSG_OOB]) {
          const options = { flags: MSG_WAITALL | flag };
          const promise = pair.receiver.receive(new Uint8Array(2), options);
          expect(await reasonOf(promise)).toBeInstanceOf(RangeError);
        }
        const promise = pair.receiver.receive(new Uint8Array(0), ALL);
        expect(await reasonOf(promise)).toBeInstanceOf(RangeError);
      });
    },
  );
});

describe("memory that goes while a call waits", () => {
  const detach: Record<string, (buffer: ArrayBuffer) => void> = {
    "transfer()": (buffer) => void buffer.transfer(),
    "transfer() to another length": (buffer) => void buffer.transfer(1),
    structuredClone: (buffer) => void structuredClone(buffer, { transfer: [buffer] }),
    postMessage: (buffer) => {
      const { port1 } = new MessageChannel();
      port1.postMessage(buffer, [buffer]);
      port1.close();
    },
  };
  const targets = {
    receive: (socket: Socket, target: Uint8Array) => socket.receive(target),
    receiveFrom: (socket: Socket, target: Uint8Array) => socket.receiveFrom(target),
    receiveMessage: (socket: Socket, target: Uint8Array) =>
      socket.receiveMessage(new Message({ vectors: [new Uint8Array(1), target] })),
  };
  const rows = Object.keys(detach).flatMap((how) =>
    Object.keys(targets).map((call) => [how, call as keyof typeof targets] as const),
  );

  test.each(rows)(
    "%s of the target of %s(): a TypeError, and no datagram is lost",
    async (how, call) => {
      using pair = udp4.open();
      const target = new Uint8Array(new ArrayBuffer(64), 8, 16);
      const promise = waiting(() => targets[call](pair.receiver, target) as Promise<unknown>);
      detach[how]?.(target.buffer);
      trySend(pair, "kept");
      expect(await reasonOf(promise)).toBeInstanceOf(TypeError);
      expect(text(pair.receiver.tryReceiveBytes(9) as Uint8Array)).toBe("kept");
    },
  );

  test.each(Object.keys(detach))(
    "%s of the memory of receiveBatch(): a TypeError, and no datagram is lost",
    async (how) => {
      using pair = udp4.open();
      using batch = new DatagramBatch({ capacity: 4 });
      const promise = waiting(() => pair.receiver.receiveBatch(batch));
      detach[how]?.(batch.memory.buffer);
      trySend(pair, "kept");
      expect(await reasonOf(promise)).toBeInstanceOf(TypeError);
      expect(text(pair.receiver.tryReceiveBytes(9) as Uint8Array)).toBe("kept");
    },
  );

  test.each(Object.keys(detach))(
    "%s of the data of send(), sendTo() and sendMessage(): TypeErrors, and nothing is sent",
    async (how) => {
      using pair = unixDatagram.open();
      let filled = 0;
      while (trySend(pair, "full") !== undefined) filled++;
      const data = [0, 1, 2].map(() => new Uint8Array(new ArrayBuffer(64), 8, 16));
      const [a, b, c] = data as [Uint8Array, Uint8Array, Uint8Array];
      const promises = [
        waiting(() => pair.sender.send(a)),
        waiting(() => pair.sender.sendTo(b, pair.to as Address)),
        waiting(() => pair.sender.sendMessage(new Message({ vectors: c }))),
      ];
      for (const { buffer } of data) detach[how]?.(buffer as ArrayBuffer);
      for (let i = 0; i < filled; i++) pair.receiver.tryReceive(new Uint8Array(9));
      for (const promise of promises) expect(await reasonOf(promise)).toBeInstanceOf(TypeError);
      expect(pair.receiver.tryReceive(new Uint8Array(64))).toBeUndefined();
    },
  );

  test.each(Object.keys(detach))(
    "%s of the memory of sendBatch(): a TypeError, and no memory of others is sent",
    async (how) => {
      using pair = unixDatagram.open();
      let filled = 0;
      while (trySend(pair, "full") !== undefined) filled++;
      const options = { capacity: 4, slotBytes: 4096 };
      using batch = new DatagramBatch(options);
      batch.count = 2;
      for (let i = 0; i < 2; i++) batch.write(i, Buffer.alloc(1000, "m"));
      const promise = waiting(() => pair.sender.sendBatch(batch));
      detach[how]?.(batch.memory.buffer);
      // What is mapped next may lie where the memory was.
      const others = Array.from({ length: 20 }, () => new DatagramBatch(options));
      for (const { memory } of others) memory.fill(0x53);
      for (let i = 0; i < filled; i++) pair.receiver.tryReceive(new Uint8Array(9));
      const [outcome] = await soon([promise]);
      const came = pair.receiver.tryReceiveBytes(4096);
      for (const other of others) other.free();
      expect(came === undefined ? "nothing" : text(came.subarray(0, 8))).toBe("nothing");
      expect(outcome).toBeInstanceOf(TypeError);
    },
  );
});

describe("a batch", () => {
  type Settle = (pair: Pair, abort: () => void) => unknown;
  // Every way in which a receiveBatch() that waits comes to its end.
  const ways: Record<string, Settle> = {
    "an answer": (pair) => trySend(pair, "answer"),
    abort: (_, abort) => abort(),
    "close()": ({ receiver }) => receiver.close(),
    "detach()": ({ receiver }) => Socket.adopt(receiver.detach(), { own: true }).close(),
    "a timeout": () => {},
    "an error": (pair) => trySend(pair, "never received"),
  };

  function startWay(way: string, pair: Pair, batch: DatagramBatch) {
    const controller = new AbortController();
    const timeoutMs = way === "a timeout" ? 5 : undefined;
    const promise = waiting(() =>
      pair.receiver.receiveBatch(batch, { signal: controller.signal, timeoutMs }),
    );
    const settle = async () => {
      const fails = way === "an error";
      using _ = replaceLibc(
        "recvmmsg",
        (original) =>
          (...values) =>
            fails ? failWith(ENOMEM) : original(...values),
      );
      ways[way]?.(pair, () => controller.abort());
      await promise.catch(() => {});
    };
    return { promise, settle };
  }

  test.each(Object.keys(ways))(
    "that a receiveBatch() waits with is refused with EBUSY by every other call, until %s",
    async (way) => {
      using pair = udp4.open();
      using other = UdpSocket.bind("127.0.0.1:0");
      using batch = new DatagramBatch({ capacity: 2 });
      const { settle } = startWay(way, pair, batch);
      for (const socket of [pair.receiver, other, pair.sender]) {
        for (const call of [
          () => socket.tryReceiveBatch(batch),
          () => socket.receiveBatchSync(batch, WAIT),
          () => socket.trySendBatch(batch),
          () => socket.sendBatchSync(batch, 0, WAIT),
        ]) {
          expect(systemErrorOf(call).code).toBe("EBUSY");
        }
        expect(await reasonOf(socket.receiveBatch(batch))).toMatchObject({
          code: "EBUSY",
          syscall: "recvmmsg",
        });
        expect(await reasonOf(socket.sendBatch(batch))).toMatchObject({
          code: "EBUSY",
          syscall: "sendmmsg",
        });
      }
      expect(waiters()).toBe(1);
      await settle();
      expect(other.tryReceiveBatch(batch)).toBe(0);
      expect(other.trySendBatch(batch)).toBe(0);
    },
  );

  test("that a sendBatch() waits with is refused too, until it is sent", async () => {
    using pair = unixDatagram.open();
    let filled = 0;
    while (trySend(pair, "full") !== undefined) filled++;
    using batch = new DatagramBatch({ capacity: 2 });
    batch.count = 1;
    batch.write(0, "last");
    const promise = waiting(() => pair.sender.sendBatch(batch));
    for (const call of [
      () => pair.receiver.tryReceiveBatch(batch),
      () => pair.sender.trySendBatch(batch),
      () => pair.receiver.receiveBatchSync(batch, WAIT),
      () => pair.sender.sendBatchSync(batch, 0, WAIT),
    ]) {
      expect(systemErrorOf(call).code).toBe("EBUSY");
    }
    for (let i = 0; i < filled; i++) pair.receiver.tryReceive(new Uint8Array(9));
    expect(await promise).toBe(1);
    expect(pair.receiver.tryReceiveBatch(batch)).toBe(1);
    expect(text(batch.view(0))).toBe("last");
  });

  test("sends what it held when sendBatch() was called, however many slots it is told to have since", async () => {
    using pair = unixDatagram.open();
    let filled = 0;
    while (trySend(pair, "full") !== undefined) filled++;
    using batch = new DatagramBatch({ capacity: 4 });
    batch.count = 4;
    for (let i = 0; i < 4; i++) batch.write(i, `old ${i}`);
    batch.count = 2;
    const promise = waiting(() => pair.sender.sendBatch(batch));
    // It may as well be refused: the batch is the call's.
    try {
      batch.count = 4;
    } catch (error) {
      expect(error).toMatchObject({ code: "EBUSY" });
    }
    for (let i = 0; i < filled; i++) pair.receiver.tryReceive(new Uint8Array(9));
    expect(await promise).toBe(2);
    expect(batch.failed).toBe(0);
    const came = [1, 2, 3].map(() => pair.receiver.tryReceiveBytes(9));
    expect(came.map((bytes) => bytes && text(bytes))).toEqual(["old 0", "old 1", undefined]);
  });

  test("that an iterator waits with is refused, and one that a call has stops the iterator", async () => {
    using pair = udp4.open();
    const iterator = pair.receiver.batches({ capacity: 2 });
    deliver(pair, "1");
    const { value: batch } = await iterator.next();
    if (!batch) throw new Error("Expected a batch");
    const next = iterator.next();
    expect(systemErrorOf(() => pair.receiver.tryReceiveBatch(batch)).code).toBe("EBUSY");
    expect(systemErrorOf(() => pair.sender.trySendBatch(batch)).code).toBe("EBUSY");
    expect(await reasonOf(pair.sender.sendBatch(batch))).toMatchObject({ code: "EBUSY" });
    trySend(pair, "2");
    expect((await next).value).toBe(batch);
    const held = waiting(() => pair.receiver.receiveBatch(batch));
    expect(await reasonOf(iterator.next())).toMatchObject({ code: "EBUSY", syscall: "recvmmsg" });
    trySend(pair, "3");
    expect(await held).toBe(1);
    expect(batch.freed).toBe(true);
  });

  test.each(Object.keys(ways))("that is freed while a call waits goes with %s", async (way) => {
    using pair = udp4.open();
    const batch = new DatagramBatch({ capacity: 2 });
    const view = batch.memory.subarray(0, 8);
    const { settle } = startWay(way, pair, batch);
    batch.free();
    batch.free();
    expect([batch.freed, view.length]).toEqual([false, 8]);
    await settle();
    expect([batch.freed, view.length]).toEqual([true, 0]);
    expect(caught(() => pair.sender.tryReceiveBatch(batch))).toBeInstanceOf(TypeError);
  });

  test("that is freed by its block is filled by nobody afterwards", async () => {
    using pair = udp4.open();
    const start = () => {
      using batch = new DatagramBatch({ capacity: 2 });
      return waiting(() => pair.receiver.receiveBatch(batch));
    };
    const promise = start();
    trySend(pair, "late");
    expect(await promise).toBe(1);
  });

  const refusals: [what: string, (socket: Socket, batch: DatagramBatch) => Promise<unknown>][] = [
    ["wrong flags", (socket, batch) => socket.receiveBatch(batch, { flags: MSG_OOB })],
    ["wrong flags of a send", (socket, batch) => socket.sendBatch(batch, 0, { flags: MSG_OOB })],
    ["a wrong first slot", (socket, batch) => socket.sendBatch(batch, 3)],
    ["a wrong timeoutMs", (socket, batch) => socket.receiveBatch(batch, { timeoutMs: -1 })],
    [
      "an aborted signal",
      (socket, batch) => socket.receiveBatch(batch, { signal: AbortSignal.abort() }),
    ],
    [
      "a wrong signal",
      (socket, batch) => socket.receiveBatch(batch, { signal: {} as AbortSignal }),
    ],
    [
      "a signal that cannot be listened to",
      (socket, batch) => socket.receiveBatch(batch, { signal: deafSignal() }),
    ],
    [
      "a signal that cannot be listened to, of a send",
      (socket, batch) => {
        while (socket.trySend(Buffer.from("full")) !== undefined);
        batch.count = 1;
        return socket.sendBatch(batch, 0, { signal: deafSignal() });
      },
    ],
    [
      "a closed socket",
      (socket, batch) => {
        socket.close();
        return socket.receiveBatch(batch);
      },
    ],
    [
      "a closed socket of a send",
      (socket, batch) => {
        socket.close();
        return socket.sendBatch(batch);
      },
    ],
    [
      "a stream",
      (_, batch) => {
        using stream = Socket.create("unix", "stream");
        return stream.receiveBatch(batch);
      },
    ],
  ];

  test.each(refusals)("is given back by a call that fails: %s", async (_, call) => {
    using pair = unixDatagram.open();
    using other = UdpSocket.bind("127.0.0.1:0");
    using batch = new DatagramBatch({ capacity: 2 });
    await reasonOf(call(pair.sender, batch));
    expect(other.tryReceiveBatch(batch)).toBe(0);
  });

  /** A signal that takes no listener, though it looks like any other. */
  function deafSignal(): AbortSignal {
    const { signal } = new AbortController();
    return Object.assign(signal, {
      addEventListener: () => {
        throw new Error("deaf");
      },
    });
  }
});

describe("accept()", () => {
  test.each(connections)(
    "over %s %s: several wait, and are served in order",
    async (family, type) => {
      using listener = listen(family, type);
      const promises = [0, 1, 2].map(() => waiting(() => listener.accept()));
      using clients = new DisposableStack();
      for (let i = 0; i < 3; i++) {
        const client = clients.use(Socket.create(family, type));
        await client.connect(listener.localAddress);
        await client.send(`${i}`);
      }
      const accepted = await Promise.all(promises);
      for (const [i, served] of accepted.entries()) {
        clients.use(served);
        expect(served.connected).toBe(true);
        expect(text(await served.receiveBytes(9))).toBe(`${i}`);
      }
    },
  );

  test("fails one at a time when there are too many descriptors, and loses no connection", async () => {
    using listener = listen("ipv4", "stream");
    using client = Socket.create("ipv4", "stream");
    const promises = [0, 1].map(() => waiting(() => listener.accept()));
    {
      let calls = 0;
      using _ = replaceLibc(
        "accept4",
        (original) =>
          (...values) =>
            ++calls === 1 ? failWith(EMFILE) : original(...values),
      );
      client.connectSync(listener.localAddress, WAIT);
      const reason = await reasonOf(promises[0] as Promise<unknown>);
      expect(reason).toMatchObject({ code: "EMFILE", syscall: "accept4" });
      expect((reason as SystemError).hint).toContain("ulimit -n");
    }
    using served = await (promises[1] as Promise<Socket>);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("fails while the process is at its limit, and works again below it", () => {
    const script = `
      import { poller, Socket } from "bun-sockets";
      const listener = Socket.create("ipv4", "stream");
      listener.bind("127.0.0.1:0");
      listener.listen();
      // The poller has opened its own before the limit is reached.
      while (!poller.ringer) await listener.accept({ timeoutMs: 10 }).catch(() => {});
      const client = Socket.create("ipv4", "stream");
      const kept = [];
      try {
        for (;;) kept.push(Socket.create("unix", "datagram"));
      } catch {}
      const waiting = listener.accept().then(() => "accepted", (error) => error.code);
      client.connectSync(listener.localAddress, { timeoutMs: 10_000 });
      const first = await waiting;
      kept.pop().close();
      const served = await listener.accept({ timeoutMs: 10_000 });
      console.log(first, served.connected);
      process.exit(0);
    `;
    const command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", process.execPath, "-e", script];
    const child = Bun.spawnSync(command, { timeout: 30_000 });
    expect(`${child.stdout}${child.stderr}`.trim()).toBe("EMFILE true");
  });

  test("is told when its listener is closed, or shut down", async () => {
    using closed = listen("ipv4", "stream");
    using down = listen("ipv4", "stream");
    const promises = [closed, closed, down].map((each) => waiting(() => each.accept()));
    closed.close();
    down.shutdown("both");
    const list = await soon(promises);
    expect(list[0]).toBeInstanceOf(ClosedError);
    expect(list[0]).toMatchObject({ syscall: "accept4" });
    expect(list[1]).toBeInstanceOf(ClosedError);
    expect(list[2]).toMatchObject({ code: "EINVAL", syscall: "accept4" });
  });

  test("is refused by sockets that do not listen, or cannot", async () => {
    using stream = Socket.create("ipv4", "stream");
    using datagram = Socket.create("ipv4", "datagram");
    expect(await reasonOf(stream.accept())).toMatchObject({ code: "EINVAL" });
    expect(await reasonOf(datagram.accept())).toMatchObject({ code: "ENOTSUP" });
  });
});

describe("connect()", () => {
  test.each(connections)("over %s %s: is connected, and carries data", async (family, type) => {
    using listener = listen(family, type);
    using client = Socket.create(family, type);
    expect(await client.connect(listener.localAddress, WAIT)).toBeUndefined();
    expect(client.connected).toBe(true);
    using served = await listener.accept();
    await served.send("hi");
    expect(text(await client.receiveBytes(9))).toBe("hi");
    expect(await reasonOf(client.connect(listener.localAddress))).toMatchObject({
      code: "EISCONN",
      syscall: "connect",
    });
    expect(client.connected).toBe(true);
  });

  test("takes the text of an address", async () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using client = UdpSocket.open("ipv4");
    await client.connect(`${server.localAddress}`);
    expect(`${client.remoteAddress}`).toBe(`${server.localAddress}`);
  });

  function deadAddress(): Address {
    using gone = listen("ipv4", "stream");
    return gone.localAddress;
  }

  test("is refused where nobody listens, and the socket can be used again", async () => {
    const dead = deadAddress();
    using client = Socket.create("ipv4", "stream");
    const reason = await reasonOf(client.connect(dead));
    expect(reason).toMatchObject({
      code: "ECONNREFUSED",
      syscall: "connect",
      destination: `${dead}`,
    });
    expect(client.connected).toBe(false);
    using listener = listen("ipv4", "stream");
    await client.connect(listener.localAddress);
    expect(client.connected).toBe(true);
  });

  test("gets its own error, also with a receive that waits beside it", async () => {
    using client = Socket.create("ipv4", "stream");
    const connecting = client.connect(deadAddress());
    const receiving = client.receive(new Uint8Array(1));
    const [connected, received] = await soon([connecting, receiving]);
    expect(connected).toMatchObject({ code: "ECONNREFUSED", syscall: "connect" });
    expect(received).toMatchObject({ code: "ENOTCONN", syscall: "recv" });
  });

  test("is not answered yet: no receive asks the kernel, which would tell it the error", async () => {
    using client = Socket.create("ipv4", "stream");
    using _ = replaceLibc("connect", () => () => failWith(EINPROGRESS));
    using asked = replaceLibc("recv", (original) => original);
    const connecting = waiting(() => client.connect(deadAddress()));
    const promises = [0, 2, undefined].map((timeoutMs) =>
      waiting(() => client.receive(new Uint8Array(1), { timeoutMs })),
    );
    for (const promise of promises.slice(0, 2))
      expect(await reasonOf(promise)).toBeInstanceOf(TimeoutError);
    expect([asked.calls, waiters()]).toEqual([0, 2]);
    client.close();
    for (const promise of [connecting, promises[2]])
      expect(await reasonOf(promise as Promise<unknown>)).toBeInstanceOf(ClosedError);
  });

  test("says where there is no way, and no path", async () => {
    using client = Socket.create("ipv4", "stream");
    // A group of many is nobody to connect with, whatever the routes are.
    expect(await reasonOf(client.connect("224.0.0.1:9"))).toMatchObject({ code: "ENETUNREACH" });
    using unix = Socket.create("unix", "stream");
    expect(await reasonOf(unix.connect("unix:/nowhere/at/all"))).toMatchObject({ code: "ENOENT" });
  });

  test.each(["stream", "seqpacket"] as const)(
    "over unix %s: waits while the listener's queue is full",
    async (type) => {
      using listener = listen("unix", type, 0);
      using clients = new DisposableStack();
      const make = () => clients.use(Socket.create("unix", type));
      while (make().tryConnect(listener.localAddress) === true);
      const promises = [0, 1, 2].map(() => waiting(() => make().connect(listener.localAddress)));
      const list = outcomes(promises);
      await turns(5);
      expect(list).toEqual(["pending", "pending", "pending"]);
      // One makes room for one.
      for (let open = 2; open >= 0; open--) {
        clients.use(await listener.accept());
        await until(
          () => list.filter((each) => each === "pending").length <= open,
          "one more is connected",
        );
        expect(list.filter((each) => each === "pending")).toHaveLength(open);
      }
    },
  );

  test("over unix: is cancelled, timed out, or refused while the queue is full", async () => {
    using listener = listen("unix", "stream", 0);
    const to = listener.localAddress;
    using clients = new DisposableStack();
    const make = () => clients.use(Socket.create("unix", "stream"));
    while (make().tryConnect(to) === true);
    const signal = new WatchedSignal();
    const cancelled = make();
    const promises = [
      waiting(() => cancelled.connect(to, { signal: signal.signal })),
      waiting(() => make().connect(to, { timeoutMs: 5 })),
      waiting(() => make().connect(to)),
    ];
    const reason = { why: "no more" };
    signal.abort(reason);
    expect(await reasonOf(promises[0] as Promise<void>)).toBe(reason);
    expect(signal.listeners.size).toBe(0);
    const late = await reasonOf(promises[1] as Promise<void>);
    expect(late).toBeInstanceOf(TimeoutError);
    expect(late).toMatchObject({ code: "ETIMEDOUT", syscall: "connect" });
    listener.close();
    expect(await reasonOf(promises[2] as Promise<void>)).toMatchObject({ code: "ECONNREFUSED" });
    expect([cancelled.connected, waiters()]).toEqual([false, 0]);
  });

  test("over TCP: times out, is cancelled, goes on, and is done once", async () => {
    using listener = listen("ipv4", "stream", 0);
    const to = listener.localAddress;
    using first = Socket.create("ipv4", "stream");
    first.connectSync(to, WAIT);
    // The queue is full now: the kernel drops what asks for more, and the client asks again.
    using client = Socket.create("ipv4", "stream");
    expect(await reasonOf(client.connect(to, { timeoutMs: 5 }))).toBeInstanceOf(TimeoutError);
    const signal = new WatchedSignal();
    const cancelled = waiting(() => client.connect(to, { signal: signal.signal }));
    signal.abort("enough");
    expect(await reasonOf(cancelled)).toBe("enough");
    const promises = [
      waiting(() => client.connect(to, LONG)),
      waiting(() => client.connect(to, LONG)),
      // What is sent meanwhile goes out after it.
      waiting(() => client.send("first words")),
    ];
    (await listener.accept()).close();
    const list = outcomes(promises);
    await until(() => !list.includes("pending"), "all are answered");
    expect(list[0]).toBeUndefined();
    expect(list[1]).toMatchObject({ code: "EISCONN" });
    expect(list[2]).toBe(11);
    using served = await listener.accept();
    expect(text(await served.receiveBytes(20))).toBe("first words");
  });

  test("over TCP: is told when the socket is closed or detached", async () => {
    using listener = listen("ipv4", "stream", 0);
    using first = Socket.create("ipv4", "stream");
    first.connectSync(listener.localAddress, WAIT);
    const sockets = [0, 1].map(() => Socket.create("ipv4", "stream"));
    const [closed, detached] = sockets as [Socket, Socket];
    const promises = sockets.map((each) => waiting(() => each.connect(listener.localAddress)));
    closed.close();
    Socket.adopt(detached.detach(), { own: true }).close();
    const list = await soon(promises);
    expect(list[0]).toBeInstanceOf(ClosedError);
    expect(list[1]).toMatchObject({ code: "ECANCELED", syscall: "connect" });
  });
});

describe("wrong arguments", () => {
  const shared = new Uint8Array(new SharedArrayBuffer(8));
  const resizable = new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }));
  const detached = new Uint8Array(new ArrayBuffer(8));
  const gone = detached.buffer;
  gone.transfer();
  const freed = new DatagramBatch({ capacity: 1 });
  freed.free();
  const heir = (prototype: object) => Object.create(prototype);

  const views = [5, "text", null, undefined, {}, [1], shared, resizable, detached, () => {}];
  const data = [5, null, undefined, {}, [1], shared, shared.buffer, resizable, detached, gone];
  const lengths = [0, -1, 1.5, Number.NaN, 2 ** 31, "5", null, undefined, {}];
  const messages = [5, null, undefined, {}, heir(Message.prototype), new Uint8Array(1)];
  const batches = [5, null, undefined, {}, heir(DatagramBatch.prototype), freed];
  const addresses = [5, null, undefined, {}, "nowhere", "unix:@", "127.0.0.1:99999"];
  const firsts = [-1, 2, 1.5, Number.NaN, "0", null, {}];
  const flags = ["1", 1.5, -1, Number.NaN, 2 ** 31, 2 ** 40, MSG_OOB, null, {}];
  const timeouts = [-1, -0.1, Number.NaN, "5", null, {}, 5n];
  const signals = [5, "abort", null, {}, new AbortController(), heir(AbortSignal.prototype)];

  const view = new Uint8Array(8);
  const peer = "127.0.0.1:9";

  // How each call is made with good arguments, and what else each argument may not be.
  const calls: Record<string, { good: () => unknown[]; bad: readonly (readonly unknown[])[] }> = {
    receive: { good: () => [view], bad: [views] },
    receiveBytes: { good: () => [8], bad: [lengths] },
    receiveFrom: { good: () => [view], bad: [views] },
    receiveMessage: { good: () => [new Message({ vectors: view })], bad: [messages] },
    receiveBatch: { good: () => [new DatagramBatch({ capacity: 1 })], bad: [batches] },
    send: { good: () => [view], bad: [data] },
    sendTo: { good: () => [view, peer], bad: [data, addresses] },
    sendMessage: { good: () => [new Message({ vectors: view, address: peer })], bad: [messages] },
    sendBatch: { good: () => [new DatagramBatch({ capacity: 1 }), 0], bad: [batches, firsts] },
    accept: { good: () => [], bad: [] },
    connect: { good: () => [peer], bad: [addresses.concat("127.0.0.1:0")] },
  };
  const takesFlags = (call: string) => call !== "accept" && call !== "connect";

  /** Every wrong list of arguments of a call. */
  function wrong(call: string): unknown[][] {
    const { good, bad } = calls[call] as (typeof calls)[string];
    const lists = bad.flatMap((values, at) => values.map((value) => good().with(at, value)));
    const options = [
      ...(takesFlags(call) ? flags.map((value) => ({ flags: value })) : []),
      ...timeouts.map((value) => ({ timeoutMs: value })),
      ...signals.map((value) => ({ signal: value })),
    ];
    // MSG_WAITALL is receive's alone, and of streams.
    const waitAll = call.startsWith("receive") ? [{ flags: MSG_WAITALL }] : [];
    return [...lists, ...[...options, ...waitAll].map((each) => [...good(), each])];
  }

  type Method = (...values: unknown[]) => Promise<unknown>;

  /** Makes a call. It must not throw: what it refuses, its promise is rejected with. */
  function make(socket: Socket, call: string, values: unknown[]): Promise<unknown> {
    let promise: Promise<unknown>;
    try {
      promise = (socket as unknown as Record<string, Method>)[call]?.(...values) as typeof promise;
    } catch (error) {
      throw new Error(`${call}(${show(values)}) threw`, { cause: error });
    }
    expect(promise).toBeInstanceOf(Promise);
    promise.catch(() => {});
    return promise;
  }

  function show(values: readonly unknown[]): string {
    const shown = values.map((value) => {
      const isLong = value instanceof DatagramBatch || value instanceof Message;
      return isLong ? value.constructor.name : Bun.inspect(value);
    });
    return shown.join(", ");
  }

  /** What was not refused as it should be. */
  async function unrefused(socket: Socket, call: string): Promise<string[]> {
    const lists = wrong(call);
    const results = await soon(lists.map((values) => make(socket, call, values)));
    const isRefused = (result: unknown) =>
      result instanceof TypeError || result instanceof RangeError;
    return lists.flatMap((values, i) =>
      isRefused(results[i]) ? [] : [`${call}(${show(values)}): ${results[i]}`],
    );
  }

  test.each(Object.keys(calls))("of %s() reject it", async (call) => {
    expect(wrong(call).length).toBeGreaterThan(10);
    using socket = UdpSocket.bind("127.0.0.1:0");
    expect(await unrefused(socket, call)).toEqual([]);
  });

  test.each(Object.keys(calls))(
    "of %s() reject it also when nothing is left of the budget",
    async (call) => {
      using socket = UdpSocket.bind("127.0.0.1:0");
      poller.turnBudgetMs = 0;
      expect(await unrefused(socket, call)).toEqual([]);
    },
  );

  test.each(Object.keys(calls).filter((call) => call.startsWith("receive")))(
    "of %s() reject it also while others wait, who stay where they are",
    async (call) => {
      using pair = udp4.open();
      const first = waiting(() => receives.receive(pair.receiver, 5));
      expect(await unrefused(pair.receiver, call)).toEqual([]);
      expect(waiters()).toBe(1);
      trySend(pair, "first");
      expect(await first).toBe("first");
    },
  );

  test.each(Object.keys(calls).filter((call) => call.startsWith("send")))(
    "of %s() reject it also while others wait for room",
    async (call) => {
      using pair = unixDatagram.open();
      while (trySend(pair, "full") !== undefined);
      const first = waiting(() => pair.sender.send("first"));
      // A good one of this family takes the place of the address.
      const lists = wrong(call)
        .filter(([, to]) => typeof to !== "string" || !to.startsWith("unix:"))
        .map((values) => values.map((each) => (each === peer ? pair.to : each)));
      const results = await soon(lists.map((values) => make(pair.sender, call, values)));
      const pending = lists.filter((_, i) => results[i] === "pending");
      pair.sender.close();
      await first.catch(() => {});
      expect(pending.map(show)).toEqual([]);
    },
  );

  test.each(["receive", "receiveBytes", "receiveFrom", "receiveMessage"])(
    "of %s() on a stream: MSG_WAITALL is receive's alone, MSG_TRUNC gives no bytes, and nothing fits in nothing",
    async (call) => {
      using pair = unixStream.open();
      const refused: unknown[][] = [];
      const { good } = calls[call] as (typeof calls)[string];
      if (call !== "receive") refused.push([...good(), { flags: MSG_WAITALL }]);
      if (call === "receiveBytes") refused.push([8, { flags: MSG_TRUNC }]);
      if (call === "receiveMessage") refused.push([new Message()]);
      if (call === "receive" || call === "receiveFrom") refused.push([new Uint8Array(0)]);
      for (const values of refused) {
        const reason = await reasonOf(make(pair.receiver, call, values));
        expect(reason).toBeInstanceOf(RangeError);
      }
      refused.push([...good(), { flags: MSG_CONFIRM }]);
      expect(await reasonOf(make(pair.receiver, call, refused.at(-1) as unknown[]))).toBeInstanceOf(
        RangeError,
      );
    },
  );

  test.each(Object.keys(calls))("of %s(): what an option throws rejects it", async (call) => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const { good } = calls[call] as (typeof calls)[string];
    for (const name of takesFlags(call)
      ? ["flags", "timeoutMs", "signal"]
      : ["timeoutMs", "signal"]) {
      const thrown = new Error(name);
      const options = Object.defineProperty({}, name, {
        get: () => {
          throw thrown;
        },
      });
      expect(await reasonOf(make(socket, call, [...good(), options]))).toBe(thrown);
    }
  });

  test.each(Object.keys(calls))("%s() reads each option once", async (call) => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const { good } = calls[call] as (typeof calls)[string];
    const reads: string[] = [];
    const options = new Proxy(
      { flags: undefined, timeoutMs: 0, signal: undefined },
      {
        get: (target, name) => {
          reads.push(`${String(name)}`);
          return Reflect.get(target, name);
        },
      },
    );
    await soon([make(socket, call, [...good(), options])]);
    expect(reads.filter((name, i) => reads.indexOf(name) !== i)).toEqual([]);
    expect(reads).toContain("timeoutMs");
  });

  test.each(Object.keys(calls))("%s() of a closed socket gives a ClosedError", async (call) => {
    const { good } = calls[call] as (typeof calls)[string];
    const names: Record<string, string> = { ...syscalls, accept: "accept4", connect: "connect" };
    for (const waited of [false, true]) {
      const socket = UdpSocket.bind("127.0.0.1:0");
      if (waited) await socket.receive(view, { timeoutMs: 0 }).catch(() => {});
      socket.close();
      const signal = new WatchedSignal();
      for (const budget of [BUDGET_MS, 0]) {
        poller.turnBudgetMs = budget;
        // The second one is told in the next turn where there is no budget.
        for (const options of [LONG, { ...LONG, signal: signal.signal }]) {
          const reason = await reasonOf(make(socket, call, [...good(), options]));
          expect(reason).toBeInstanceOf(ClosedError);
          expect(reason).toMatchObject({ code: "EBADF", syscall: names[call] });
        }
      }
      expect([signal.listeners.size, waiters()]).toEqual([0, 0]);
    }
  });
});
