/**
 * How waiting ends without an answer: signals, timeouts, close() and detach(), what may be done
 * from inside of each of them, and that nothing is left behind.
 */

import { heapStats } from "bun:jsc";
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
  UdpSocket,
} from "bun-sockets";
import { MSG_WAITALL } from "bun-sockets/sys";
import {
  beginCount,
  deliver,
  isInEpollSet,
  type Kind,
  kinds,
  listen,
  outcomes,
  type Pair,
  type ReceiveName,
  reasonOf,
  receives,
  receivesOf,
  sends,
  sendsOf,
  spendBudget,
  startPoller,
  syscalls,
  TimerCount,
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
const TIMER_MS_MAX = 2 ** 31 - 1;
const BUDGET_MS = poller.turnBudgetMs;
const ROOT = `${import.meta.dir}/../..`;

beforeAll(startPoller);
beforeEach(beginCount);

afterEach(() => {
  poller.turnBudgetMs = BUDGET_MS;
  expect(waiters()).toBe(0);
});

/** Every kind of socket with every call that receives from it. */
function* receiving(): Generator<[string, Kind, ReceiveName]> {
  for (const kind of kinds)
    for (const call of receivesOf(kind)) yield [`${call}() over ${kind.name}`, kind, call];
}

/** Receives one byte, waiting. */
function wait({ receiver }: Pair, signal?: AbortSignal): Promise<string> {
  return waiting(() => receives.receive(receiver, 1, { signal }));
}

/** Blocks the thread. */
function block(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe("signal", () => {
  test.each([...receiving()])(
    "%s: aborted before, it rejects with the reason and takes nothing",
    async (_, kind, call) => {
      using pair = kind.open();
      deliver(pair, "kept");
      const signal = new WatchedSignal();
      const reason = new Error("before");
      signal.abort(reason);
      const before = poller.counters;
      const promise = receives[call](pair.receiver, 4, { ...LONG, signal: signal.signal });
      expect(await reasonOf(promise)).toBe(reason);
      expect(poller.counters).toEqual(before);
      expect(signal.added).toBe(0);
      expect(text(pair.receiver.receiveBytesSync(9, WAIT))).toBe("kept");
    },
  );

  test("aborted before, nothing is sent, connected or accepted", async () => {
    const reason = { an: "object" };
    const signal = AbortSignal.abort(reason);
    for (const kind of [...kinds, unixDatagramNamed]) {
      using pair = kind.open();
      for (const call of sendsOf(kind)) {
        expect(await reasonOf(sends[call](pair, Buffer.from("no"), { signal }))).toBe(reason);
      }
      expect(pair.receiver.tryReceive(new Uint8Array(2))).toBeUndefined();
    }
    using listener = listen("unix", "stream");
    using client = Socket.create("unix", "stream");
    expect(await reasonOf(client.connect(listener.localAddress, { signal }))).toBe(reason);
    expect(client.connected).toBe(false);
    client.connectSync(listener.localAddress);
    expect(await reasonOf(listener.accept({ signal }))).toBe(reason);
    using served = await listener.accept();
    expect(served.connected).toBe(true);
  });

  test.each([...receiving()])(
    "%s: aborted while it waits, it rejects with the reason and loses nothing",
    async (_, kind, call) => {
      using pair = kind.open();
      const signal = new WatchedSignal();
      const promise = waiting(() => receives[call](pair.receiver, 4, { signal: signal.signal }));
      expect(signal.listeners.size).toBe(1);
      await turns(2);
      const reason = new Error("enough");
      signal.abort(reason);
      expect([signal.listeners.size, waiters()]).toEqual([0, 0]);
      trySend(pair, "kept");
      expect(await reasonOf(promise)).toBe(reason);
      expect(text(await pair.receiver.receiveBytes(9, WAIT))).toBe("kept");
    },
  );

  test("accept() is cancelled, and the connection that comes then is for the next one", async () => {
    using listener = listen("ipv4", "stream");
    const signal = new WatchedSignal();
    const cancelled = waiting(() => listener.accept({ signal: signal.signal }));
    const next = waiting(() => listener.accept());
    signal.abort("closing time");
    using client = Socket.create("ipv4", "stream");
    await client.connect(listener.localAddress);
    expect(await reasonOf(cancelled)).toBe("closing time");
    using served = await next;
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test.each([
    ["null", null],
    ["0", 0],
    ["false", false],
    ["an empty string", ""],
    ["a symbol", Symbol("reason")],
    ["a function", () => {}],
  ])("the reason can be %s", async (_, reason) => {
    using pair = udp4.open();
    const controller = new AbortController();
    const promise = wait(pair, controller.signal);
    controller.abort(reason);
    expect((await reasonOf(promise)) === reason).toBe(true);
    expect((await reasonOf(receives.receive(pair.receiver, 1, controller))) === reason).toBe(true);
  });

  test("without a reason it is the signal's AbortError, also in ten calls", async () => {
    using pair = udp4.open();
    const controller = new AbortController();
    const promises = Array.from({ length: 10 }, () => wait(pair, controller.signal));
    controller.abort();
    for (const promise of promises)
      expect(await reasonOf(promise)).toBe(controller.signal.reason as unknown);
    expect(controller.signal.reason).toMatchObject({ name: "AbortError" });
  });

  test("AbortSignal.timeout() and AbortSignal.any() reject with their reasons", async () => {
    using pair = udp4.open();
    const timeout = AbortSignal.timeout(5);
    const controller = new AbortController();
    const either = AbortSignal.any([controller.signal, AbortSignal.timeout(3_600_000)]);
    const promises = [wait(pair, timeout), wait(pair, either)];
    // Nobody else holds them.
    const dropped = wait(pair, AbortSignal.timeout(5));
    const nested = wait(pair, AbortSignal.any([AbortSignal.timeout(5)]));
    Bun.gc(true);
    expect(await reasonOf(promises[0] as Promise<string>)).toBe(timeout.reason as unknown);
    expect(timeout.reason).toMatchObject({ name: "TimeoutError" });
    for (const promise of [dropped, nested])
      expect(await reasonOf(promise)).toMatchObject({ name: "TimeoutError" });
    const reason = ["any"];
    controller.abort(reason);
    expect(await reasonOf(promises[1] as Promise<string>)).toBe(reason);
  });

  const ends: Record<string, (pair: Pair, target: Uint8Array<ArrayBuffer>) => unknown> = {
    "an answer": (pair) => trySend(pair, "x"),
    "an error": (pair, target) => {
      target.buffer.transfer();
      trySend(pair, "x");
    },
    "close()": ({ receiver }) => receiver.close(),
    "detach()": ({ receiver }) => Socket.adopt(receiver.detach(), { own: true }).close(),
    "a timeout": () => {},
    abort: () => {},
  };

  test.each(Object.keys(ends))("nobody listens to it any more after %s", async (how) => {
    using pair = unixDatagram.open();
    const signal = new WatchedSignal();
    const timeoutMs = how === "a timeout" ? 2 : undefined;
    const target = new Uint8Array(new ArrayBuffer(1));
    const promise = waiting(() =>
      pair.receiver.receive(target, { signal: signal.signal, timeoutMs }),
    );
    expect([signal.added, signal.listeners.size]).toEqual([1, 1]);
    if (how === "abort") signal.abort();
    ends[how]?.(pair, target);
    await promise.catch(() => {});
    expect([signal.added, signal.listeners.size]).toEqual([1, 0]);
    // What comes too late does nothing.
    signal.abort(new Error("too late"));
    await turns(1);
  });

  test("one signal ends two thousand waits on a hundred sockets", async () => {
    const pairs = Array.from({ length: 100 }, () => udp4.open());
    const signal = new WatchedSignal();
    const options = { signal: signal.signal, ...LONG };
    const promises = pairs.flatMap(({ receiver }) =>
      Array.from({ length: 20 }, () => receiver.receive(new Uint8Array(1), options)),
    );
    const list = outcomes(promises);
    // The engine compares each listener with those that are there: two thousand would be slow.
    expect([signal.added, signal.listeners.size, waiters()]).toEqual([1, 1, 2000]);
    await turns(1);
    const reason = new Error("all of you");
    signal.abort(reason);
    await turns(1);
    expect(list.every((each) => each === reason)).toBe(true);
    expect([signal.listeners.size, waiters()]).toEqual([0, 0]);
    for (const pair of pairs) {
      trySend(pair, "x");
      expect(pair.receiver.tryReceive(new Uint8Array(1))).toBe(1);
      pair[Symbol.dispose]();
    }
  });
});

describe("timeoutMs", () => {
  test.each([...receiving()])("%s: a TimeoutError, and nothing is lost", async (_, kind, call) => {
    using pair = kind.open();
    const promise = waiting(() => receives[call](pair.receiver, 4, { timeoutMs: 2 }));
    const error = await reasonOf(promise);
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: "ETIMEDOUT", errno: -110, syscall: syscalls[call] });
    expect(error).not.toHaveProperty("transferred");
    trySend(pair, "kept");
    expect(text(await pair.receiver.receiveBytes(9, WAIT))).toBe("kept");
  });

  test("accept() gives a TimeoutError", async () => {
    using listener = listen("unix", "seqpacket");
    const error = await reasonOf(waiting(() => listener.accept({ timeoutMs: 2 })));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ code: "ETIMEDOUT", syscall: "accept4" });
  });

  test.each([...receiving()])("%s: 0 is one try", async (_, kind, call) => {
    using pair = kind.open();
    const nothing = receives[call](pair.receiver, 1, { timeoutMs: 0 });
    expect(await reasonOf(nothing)).toBeInstanceOf(TimeoutError);
    deliver(pair, "x");
    expect(await receives[call](pair.receiver, 1, { timeoutMs: 0 })).toBe("x");
  });

  test.each([...receiving()])(
    "%s: 0 is one try also when the budget of the turn is spent",
    async (_, kind, call) => {
      using pair = kind.open();
      deliver(pair, "a", "b", "c");
      spendBudget();
      const promises = [0, 1, 2, 3].map(() =>
        waiting(() => receives[call](pair.receiver, 1, { timeoutMs: 0 })),
      );
      expect(await Promise.all(promises.slice(0, 3))).toEqual(["a", "b", "c"]);
      expect(await reasonOf(promises[3] as Promise<string>)).toBeInstanceOf(TimeoutError);
    },
  );

  test("0 behind somebody who waits is no try: it would get ahead", async () => {
    using pair = udp4.open();
    const first = wait(pair);
    const second = waiting(() => receives.receive(pair.receiver, 1, { timeoutMs: 0 }));
    expect(await reasonOf(second)).toBeInstanceOf(TimeoutError);
    trySend(pair, "x");
    expect(await first).toBe("x");
  });

  test("what is there when its time is over is received all the same", async () => {
    using pair = udp4.open();
    // Both timers are due at once, and the first one sends.
    setTimeout(() => trySend(pair, "here"), 1);
    const promise = waiting(() => receives.receive(pair.receiver, 4, { timeoutMs: 1 }));
    block(20);
    expect(await promise).toBe("here");
  });

  test("a TimeoutError does not come before its time", async () => {
    using pair = udp4.open();
    const waits = [1, 2.5, 7, 13.25, 20].map(async (timeoutMs) => {
      const start = performance.now();
      const error = await reasonOf(receives.receive(pair.receiver, 1, { timeoutMs }));
      expect(error).toBeInstanceOf(TimeoutError);
      return performance.now() - start - timeoutMs;
    });
    for (const late of await Promise.all(waits)) expect(late).toBeGreaterThanOrEqual(0);
  });

  test("in the middle of a line it lets all others keep their places", async () => {
    using pair = udp4.open();
    const signal = new WatchedSignal();
    const options = [
      {},
      { timeoutMs: 2 },
      LONG,
      { signal: signal.signal },
      { timeoutMs: Number.POSITIVE_INFINITY },
      { timeoutMs: 4 },
      {},
    ];
    const promises = options.map((each) => waiting(() => receives.receive(pair.receiver, 1, each)));
    const list = outcomes(promises);
    signal.abort("cancelled");
    await until(() => waiters() === 4, "those with a timeout are gone");
    for (const each of "abcd") trySend(pair, each);
    await until(() => !list.includes("pending"), "all are answered");
    expect(list.map((each) => (each instanceof TimeoutError ? "late" : each))).toEqual([
      "a",
      "late",
      "b",
      "cancelled",
      "c",
      "late",
      "d",
    ]);
  });

  test("the first of a line that goes lets the next one have what has come", async () => {
    using pair = udp4.open();
    for (const how of ["timeout", "signal"]) {
      const signal = new WatchedSignal();
      const options = how === "timeout" ? { timeoutMs: 1 } : { signal: signal.signal };
      const first = waiting(() => receives.receive(pair.receiver, 1, options));
      const second = wait(pair);
      if (how === "signal") {
        trySend(pair, "x");
        signal.abort("gone");
        expect(await reasonOf(first)).toBe("gone");
      } else {
        expect(await reasonOf(first)).toBeInstanceOf(TimeoutError);
        trySend(pair, "x");
      }
      expect(await second).toBe("x");
    }
  });

  test("undefined and Infinity make no timer", async () => {
    using pair = udp4.open();
    // All that are made, however short: but some ringers have timers of their own.
    using timers = new TimerCount(poller.ringer === "timer" ? 1000 : -1);
    const promises = [undefined, Number.POSITIVE_INFINITY].map((timeoutMs) =>
      waiting(() => receives.receive(pair.receiver, 1, { timeoutMs })),
    );
    await turns(3);
    trySend(pair, "1");
    trySend(pair, "2");
    expect(await Promise.all(promises)).toEqual(["1", "2"]);
    expect(timers.made).toBe(0);
  });

  test.each([TIMER_MS_MAX, TIMER_MS_MAX + 1, 2 ** 32, 2 ** 53, Number.MAX_VALUE])(
    "%d does not end at once, and no timer is set for longer than it can count",
    async (timeoutMs) => {
      using pair = udp4.open();
      using timers = new TimerCount();
      const promise = waiting(() => receives.receive(pair.receiver, 1, { timeoutMs }));
      const list = outcomes([promise]);
      // A timer that overflows goes off after a millisecond.
      await receives.receive(pair.receiver, 1, { timeoutMs: 10 }).catch(() => {});
      expect(list).toEqual(["pending"]);
      for (const delay of timers.delays) expect(delay).toBeLessThanOrEqual(TIMER_MS_MAX);
      trySend(pair, "x");
      expect(await promise).toBe("x");
    },
  );

  describe("one timer serves all", () => {
    const MANY = 10_000;
    /** Numbers in an order that nobody has chosen. */
    const shuffled = Array.from({ length: MANY }, (_, i) => (i * 7919) % MANY);
    const growing = shuffled.toSorted((a, b) => a - b);

    // The first wait of each row ends before all of the rows above: the timer is always set anew.
    test.each([
      ["in any order", 900_000, shuffled, 60],
      ["with growing timeouts", 700_000, growing, 1],
      ["with the same timeout", 500_000, shuffled.map(() => 0), 1],
      ["each shorter than the one before", 300_000, growing.toReversed(), MANY],
    ])("10,000 waits, %s", async (_, base, list, madeMax) => {
      using pair = udp4.open();
      using timers = new TimerCount();
      const promises = list.map((ms) =>
        pair.receiver.receive(new Uint8Array(1), { timeoutMs: base + ms }),
      );
      const settled = Promise.allSettled(promises);
      await turns(1);
      expect(waiters()).toBe(MANY);
      expect(timers.made).toBeGreaterThan(0);
      expect(timers.made).toBeLessThanOrEqual(madeMax);
      pair.receiver.close();
      expect((await settled).length).toBe(MANY);
      expect(timers.livingMax).toBe(1);
    });

    test("5,000 waits on 10 sockets end in the order of their timeouts", async () => {
      const pairs = Array.from({ length: 10 }, () => udp4.open());
      const order: { dueFrom: number; dueTo: number }[] = [];
      const signal = new WatchedSignal();
      const promises = Array.from({ length: 5000 }, async (_, i) => {
        const ms = 20 + ((i * 7919) % 5000) / 50;
        // Every fifth one is cancelled before.
        const cancelled = i % 5 === 0;
        const options = { timeoutMs: ms, signal: cancelled ? signal.signal : undefined };
        const dueFrom = performance.now() + ms;
        const promise = (pairs[i % 10] as Pair).receiver.receive(new Uint8Array(1), options);
        const dueTo = performance.now() + ms;
        const reason = await reasonOf(promise);
        if (reason instanceof TimeoutError) order.push({ dueFrom, dueTo });
        return reason instanceof TimeoutError !== cancelled;
      });
      await turns(1);
      signal.abort();
      expect((await Promise.all(promises)).every(Boolean)).toBe(true);
      expect(order.length).toBe(4000);
      const early = order.filter(({ dueTo }, i) => i > 0 && dueTo < (order[i - 1]?.dueFrom ?? 0));
      expect(early).toEqual([]);
      for (const pair of pairs) pair[Symbol.dispose]();
    });
  });
});

describe("close() and detach()", () => {
  const hows = ["close", "detach"] as const;
  const rows = kinds.flatMap((kind) => hows.map((how) => [how, kind.name, kind] as const));

  test.each(rows)("%s() over %s settles all who wait, in both directions", async (how, _, kind) => {
    using pair = kind.open();
    const { sender: socket } = pair;
    const calls = receivesOf(kind);
    const promises = calls.flatMap((call) =>
      [undefined, LONG].map((options) => waiting(() => receives[call](socket, 1, options))),
    );
    const names: string[] = calls.flatMap((call) => [syscalls[call], syscalls[call]]);
    // Where this kind of socket can be filled, some wait for room.
    const room = Buffer.alloc(kind.keepsBoundaries ? 1000 : 65536);
    let free = kind.name.startsWith("UDP") ? 0 : 10_000;
    while (free > 0 && socket.trySend(room) !== undefined) free--;
    if (free > 0) {
      promises.push(waiting(() => socket.send("more").then(String)));
      promises.push(waiting(() => socket.sendMessage(new Message({ vectors: room })).then(String)));
      names.push("send", "sendmsg");
    }
    await turns(2);
    const list = outcomes(promises);
    const given = socket[how]();
    // All at once, and not one turn after the other.
    expect(waiters()).toBe(0);
    await turns(1);
    expect(list.map((each) => (each as SystemError).syscall)).toEqual(names);
    for (const each of list) {
      expect(each).toBeInstanceOf(how === "close" ? ClosedError : SystemError);
      expect(each).toMatchObject({ code: how === "close" ? "EBADF" : "ECANCELED" });
      expect(each).not.toHaveProperty("transferred");
    }
    if (given === undefined) return;
    expect(isInEpollSet(given)).toBe(false);
    // It is a socket as good as any, for whoever has it now.
    using adopted = Socket.adopt(given, { own: true });
    const received = waiting(() => receives.receive(adopted, 2));
    pair.receiver.connected && pair.receiver.trySend(Buffer.from("to"));
    if (!pair.receiver.connected)
      pair.receiver.trySendTo(Buffer.from("to"), adopted.localAddress as Address);
    expect(await received).toBe("to");
  });

  test("a descriptor that is waited for is in the epoll set, and one that is given away is not", async () => {
    using pair = udp4.open();
    const { descriptor } = pair.receiver;
    const promise = wait(pair);
    expect(isInEpollSet(descriptor)).toBe(true);
    expect(pair.receiver.detach()).toBe(descriptor);
    expect(isInEpollSet(descriptor)).toBe(false);
    expect(await reasonOf(promise)).toMatchObject({ code: "ECANCELED" });
    Socket.adopt(descriptor, { own: true }).close();
  });

  test("a duplicate is another socket: what waits on it goes on", async () => {
    using pair = udp4.open();
    using other = pair.receiver.duplicate();
    const closed = wait(pair);
    const kept = waiting(() => receives.receive(other, 4));
    await turns(1);
    pair.receiver.close();
    expect(await reasonOf(closed)).toBeInstanceOf(ClosedError);
    trySend(pair, "kept");
    expect(await kept).toBe("kept");
  });

  test("the end of a block closes, and what waits is told", async () => {
    const promise = (() => {
      using socket = UdpSocket.bind("127.0.0.1:0");
      return waiting(() => socket.receive(new Uint8Array(1)));
    })();
    expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
  });

  test("a number that is used again has nothing to do with who waited before", async () => {
    for (let i = 0; i < 50; i++) {
      const old = udp4.open();
      const promise = wait(old);
      const { descriptor } = old.receiver;
      if (i % 2 === 0) await turns(1);
      // An event that nobody has fetched yet.
      trySend(old, "o");
      old.receiver.close();
      using fresh = udp4.open();
      expect(fresh.receiver.descriptor).toBe(descriptor);
      const next = wait(fresh);
      expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
      await turns(1);
      trySend(fresh, "n");
      expect(await next).toBe("n");
      old[Symbol.dispose]();
    }
  });
});

describe("from inside", () => {
  const acts: Record<string, (socket: Socket) => unknown> = {
    "close()": (socket) => socket.close(),
    "detach()": (socket) => {
      if (socket.descriptor >= 0) Socket.adopt(socket.detach(), { own: true }).close();
    },
  };
  const codes: Record<string, string> = { "close()": "EBADF", "detach()": "ECANCELED" };

  test.each(Object.keys(acts))(
    "%s in a continuation, with more there and more who wait",
    async (act) => {
      using pair = udp4.open();
      const first = wait(pair).then((came) => {
        acts[act]?.(pair.receiver);
        return came;
      });
      const rest = [wait(pair), wait(pair)];
      const list = outcomes([first, ...rest]);
      for (const each of "abc") trySend(pair, each);
      await until(() => !list.includes("pending"), "all are settled");
      expect(list[0]).toBe("a");
      // Those that were answered in the same turn have their answer, and the others are told.
      const codesOrData = list.slice(1).map((each) => (each as SystemError).code ?? each);
      const possible = [
        ["b", "c"],
        ["b", codes[act]],
        [codes[act], codes[act]],
      ];
      expect(possible).toContainEqual(codesOrData as string[]);
    },
  );

  test.each(Object.keys(acts))("%s in the listener of the signal, before ours", async (act) => {
    using pair = udp4.open();
    const controller = new AbortController();
    const { signal } = controller;
    signal.addEventListener("abort", () => acts[act]?.(pair.receiver));
    const promises = [wait(pair, signal), wait(pair), wait(pair, signal)];
    const list = outcomes(promises);
    controller.abort("reason");
    await turns(2);
    expect(list.map((each) => (each as SystemError).code)).toEqual(
      Array(3).fill(codes[act] as string),
    );
  });

  test.each(Object.keys(acts))("%s in the listener of the signal, after ours", async (act) => {
    using pair = udp4.open();
    const controller = new AbortController();
    const { signal } = controller;
    const promises = [wait(pair, signal), wait(pair)];
    signal.addEventListener("abort", () => acts[act]?.(pair.receiver));
    // Those that wait with one signal hear of it together.
    const last = wait(pair, signal);
    const list = outcomes([...promises, last]);
    controller.abort("reason");
    await turns(2);
    expect(list).toEqual(["reason", expect.objectContaining({ code: codes[act] }), "reason"]);
  });

  test.each([...Object.keys(acts), "another call"])(
    "%s in the getter of the reason",
    async (act) => {
      using pair = udp4.open();
      const controller = new AbortController();
      const reason = { from: "a getter" };
      let again: Promise<string> | undefined;
      Object.defineProperty(controller.signal, "reason", {
        get: () => {
          if (acts[act]) acts[act](pair.receiver);
          else again = receives.receive(pair.receiver, 1);
          return reason;
        },
      });
      const promise = wait(pair, controller.signal);
      const behind = wait(pair);
      const list = outcomes([promise, behind]);
      controller.abort();
      await turns(2);
      expect(list[0]).toBe(reason);
      if (acts[act]) {
        expect(list[1]).toMatchObject({ code: codes[act] });
        return;
      }
      trySend(pair, "1");
      trySend(pair, "2");
      expect([await behind, await again]).toEqual(["1", "2"]);
    },
  );

  test("a reason that cannot be read rejects with what its getter throws", async () => {
    // What a listener throws would end the test.
    const script = `
      import { DatagramBatch, UdpSocket } from "bun-sockets";
      const socket = UdpSocket.bind("127.0.0.1:0");
      const batch = new DatagramBatch({ capacity: 1 });
      process.on("uncaughtException", (error) => console.log("uncaught", error.message));
      const controller = new AbortController();
      Object.defineProperty(controller.signal, "reason", {
        get: () => { throw new Error("unreadable"); },
      });
      const promise = socket.receiveBatch(batch, { signal: controller.signal });
      setTimeout(() => { console.log("never settled"); process.exit(); }, 2000);
      controller.abort();
      await promise.catch((reason) => console.log("rejected:", reason.message));
      console.log(socket.tryReceiveBatch(batch));
      process.exit();
    `;
    const child = Bun.spawnSync([process.execPath, "-e", script], { cwd: ROOT, timeout: 30_000 });
    expect(`${child.stdout}`.trim().split("\n")).toEqual(["rejected: unreadable", "0"]);
  });

  const getters: Record<string, (pair: Pair) => unknown> = {
    ...Object.fromEntries(
      Object.entries(acts).map(([name, act]) => [name, ({ receiver }: Pair) => act(receiver)]),
    ),
    "a sync receive": ({ receiver }) => receiver.tryReceive(new Uint8Array(1)),
  };
  const options = ["flags", "timeoutMs", "signal"];
  const rows = options.flatMap((option) =>
    Object.keys(getters).flatMap((act) =>
      receivesOf(udp4).map((call) => [act, option, call] as const),
    ),
  );

  test.each(rows)("%s in the getter of %s of %s()", async (act, option, call) => {
    using pair = udp4.open();
    deliver(pair, "1", "2");
    const values = Object.defineProperty({}, option, {
      get: () => {
        getters[act]?.(pair);
        return undefined;
      },
      configurable: true,
    });
    const promise = receives[call](pair.receiver, 1, values);
    if (acts[act]) {
      expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
      return;
    }
    expect(await promise).toBe("2");
  });

  test("another call with the same batch in the getter of an option: the second has it", async () => {
    using pair = udp4.open();
    using batch = new DatagramBatch({ capacity: 1 });
    let inner: Promise<number> | undefined;
    const outer = pair.receiver.receiveBatch(batch, {
      get signal() {
        inner = waiting(() => pair.receiver.receiveBatch(batch));
        return undefined;
      },
    });
    expect(await reasonOf(outer)).toMatchObject({ code: "EBUSY" });
    trySend(pair, "x");
    expect(await inner).toBe(1);
  });

  test("memory that goes in the getter of an option is refused", async () => {
    using pair = udp4.open();
    deliver(pair, "kept");
    const target = new Uint8Array(new ArrayBuffer(8));
    const batch = new DatagramBatch({ capacity: 1 });
    const gone = [
      pair.receiver.receive(target, {
        get flags() {
          target.buffer.transfer();
          return 0;
        },
      }),
      pair.receiver.receiveBatch(batch, {
        get timeoutMs() {
          batch.free();
          return 0;
        },
      }),
    ];
    for (const promise of gone) expect(await reasonOf(promise)).toBeInstanceOf(TypeError);
    expect(await receives.receive(pair.receiver, 4)).toBe("kept");
  });

  test("a call in a continuation comes behind those who wait", async () => {
    using pair = udp4.open();
    const order: string[] = [];
    const first = wait(pair).then(async (came) => {
      order.push(`first ${came}`);
      order.push(`again ${await receives.receive(pair.receiver, 1)}`);
    });
    const second = wait(pair).then((came) => order.push(`second ${came}`));
    for (const each of "abc") trySend(pair, each);
    await Promise.all([first, second]);
    expect(order).toEqual(["first a", "second b", "again c"]);
  });

  test("a call in a listener of the signal comes behind those who wait", async () => {
    using pair = udp4.open();
    const controller = new AbortController();
    let again: Promise<string> | undefined;
    controller.signal.addEventListener("abort", () => {
      again = wait(pair);
    });
    const first = wait(pair, controller.signal);
    const second = wait(pair);
    controller.abort(0);
    expect(await reasonOf(first)).toBe(0);
    trySend(pair, "1");
    trySend(pair, "2");
    expect([await second, await again]).toEqual(["1", "2"]);
  });

  test("a signal that aborts another one, and closes a third socket", async () => {
    const pairs = [udp4.open(), udp4.open(), udp4.open()] as const;
    const controllers = [new AbortController(), new AbortController()] as const;
    controllers[0].signal.addEventListener("abort", () => {
      controllers[1].abort("second");
      pairs[2].receiver.close();
    });
    const promises = [
      wait(pairs[0], controllers[0].signal),
      wait(pairs[1], controllers[1].signal),
      wait(pairs[2]),
    ];
    const list = outcomes(promises);
    controllers[0].abort("first");
    await turns(2);
    expect(list.slice(0, 2)).toEqual(["first", "second"]);
    expect(list[2]).toBeInstanceOf(ClosedError);
    for (const pair of pairs) pair[Symbol.dispose]();
  });

  test("sockets that close each other when they are told", async () => {
    const pairs = Array.from({ length: 20 }, () => udp4.open());
    const promises = pairs.map((pair, i) =>
      wait(pair).catch((error) => {
        pairs[i + 1]?.receiver.close();
        throw error;
      }),
    );
    const list = outcomes(promises);
    pairs[0]?.receiver.close();
    await until(() => !list.includes("pending"), "all are told");
    for (const each of list) expect(each).toBeInstanceOf(ClosedError);
    for (const pair of pairs) pair[Symbol.dispose]();
  });

  test("close() while others of the same turn still have to be served", async () => {
    const pairs = Array.from({ length: 20 }, () => udp4.open());
    // Whoever is served first closes all others.
    const promises = pairs.map((pair) =>
      wait(pair).then((came) => {
        for (const other of pairs) if (other !== pair) other.receiver.close();
        return came;
      }),
    );
    const list = outcomes(promises);
    await turns(2);
    for (const pair of pairs) trySend(pair, "x");
    await until(() => !list.includes("pending"), "all are settled");
    for (const each of list) if (each !== "x") expect(each).toBeInstanceOf(ClosedError);
    expect(list).toContain("x");
    for (const pair of pairs) pair[Symbol.dispose]();
  });
});

describe("nothing is left behind", () => {
  const ROUND = 100;
  const CALLS = 100_000;

  /** How many objects the heap has grown by while something was done. */
  async function growth(work: () => Promise<void>): Promise<number> {
    const count = async () => {
      await turns(2);
      Bun.gc(true);
      await turns(2);
      Bun.gc(true);
      return heapStats().objectCount;
    };
    await work();
    const before = await count();
    await work();
    return (await count()) - before;
  }

  /** Waits with many receives at once, and answers them. */
  async function rounds(pair: Pair, calls: number, options: object): Promise<void> {
    const target = new Uint8Array(new ArrayBuffer(1));
    const data = Buffer.from("x");
    for (let i = 0; i < calls; i += ROUND) {
      const promises: Promise<number>[] = [];
      for (let j = 0; j < ROUND; j++) promises.push(pair.receiver.receive(target, options));
      for (let j = 0; j < ROUND; j++) pair.sender.trySend(data);
      await Promise.all(promises);
    }
  }

  test("100,000 receives with one signal", async () => {
    using pair = udp4.open();
    const signal = new WatchedSignal();
    const grown = await growth(() => rounds(pair, CALLS / 2, { signal: signal.signal }));
    expect(signal.added).toBeGreaterThan(0);
    expect([signal.listeners.size, waiters()]).toEqual([0, 0]);
    expect(grown).toBeLessThan(500);
  }, 60_000);

  test("100,000 receives with one timeout", async () => {
    using pair = udp4.open();
    using timers = new TimerCount();
    const grown = await growth(() => rounds(pair, CALLS / 2, LONG));
    expect(waiters()).toBe(0);
    expect(timers.made).toBeLessThan(10);
    expect(timers.livingMax).toBeLessThanOrEqual(1);
    expect(grown).toBeLessThan(500);
  }, 60_000);

  test("20,000 receives that time out, are cancelled, or lose their socket", async () => {
    const grown = await growth(async () => {
      for (let i = 0; i < 10; i++) {
        const pairs = [udp4.open(), udp4.open(), udp4.open()] as const;
        const signal = new WatchedSignal();
        const promises = Array.from({ length: 1000 }, (_, j) => {
          const { receiver } = pairs[j % 3] as Pair;
          const options = [{ timeoutMs: 1 }, { signal: signal.signal }, LONG][j % 3];
          return receiver.receive(new Uint8Array(1), options);
        });
        const settled = Promise.allSettled(promises);
        await turns(1);
        signal.abort();
        pairs[2].receiver.close();
        expect((await settled).every(({ status }) => status === "rejected")).toBe(true);
        expect(signal.listeners.size).toBe(0);
        for (const pair of pairs) pair[Symbol.dispose]();
      }
    });
    expect(grown).toBeLessThan(500);
  }, 60_000);

  test("a socket that has waited can be collected, and so can what was received", async () => {
    const grown = await growth(async () => {
      for (let i = 0; i < 200; i++) {
        using pair = unixStream.open();
        const promise = receives.receiveBytes(pair.receiver, 65536, LONG);
        trySend(pair, "x");
        await promise;
      }
    });
    expect(grown).toBeLessThan(500);
  });

  test("where no ringer can be used, what has to wait is rejected and gives all back", () => {
    const script = `
      import { DatagramBatch, poller, UdpSocket } from "bun-sockets";
      const socket = UdpSocket.bind("127.0.0.1:0");
      const batch = new DatagramBatch({ capacity: 1 });
      const controller = new AbortController();
      const options = { signal: controller.signal, timeoutMs: 3_600_000 };
      // What is there is received, though it is the next turn's and the poller fails before.
      poller.turnBudgetMs = 0;
      for (const each of ["1", "2"]) socket.trySendTo(Buffer.from(each), socket.localAddress);
      const early = [1, 2, 3].map(() => socket.receive(new Uint8Array(1), options));
      const statuses = (await Promise.allSettled(early)).map(({ status }) => status);
      const names = [];
      for (let i = 0; i < 2; i++) {
        const promises = [socket.receiveBatch(batch, options), socket.receive(new Uint8Array(1), options)];
        for (const { reason } of await Promise.allSettled(promises)) names.push(reason?.name);
      }
      await socket.sendTo("x", socket.localAddress);
      const received = await socket.receiveBatch(batch);
      console.log(JSON.stringify({ statuses, names, waiters: poller.counters.waiters, received }));
    `;
    const child = Bun.spawnSync([process.execPath, "-e", script], {
      cwd: ROOT,
      env: { ...process.env, BUN_SOCKETS_RINGER: "none of them" },
      timeout: 30_000,
    });
    // It ends by itself: nothing keeps it alive.
    expect([child.exitCode, `${child.stderr}`]).toEqual([0, ""]);
    expect(JSON.parse(`${child.stdout}`)).toEqual({
      statuses: ["fulfilled", "fulfilled", "rejected"],
      names: Array(4).fill("TypeError"),
      waiters: 0,
      received: 1,
    });
  });

  test("no rejection inside the library goes unhandled", () => {
    // Whoever calls handles what the call gives him: anything else would end the process.
    const script = `
      import { DatagramBatch, Message, Socket, UdpSocket, UnixAddress, UnixDatagramSocket } from "bun-sockets";
      const unhandled = [];
      process.on("unhandledRejection", (reason) => unhandled.push(String(reason)));
      process.on("uncaughtException", (reason) => unhandled.push(String(reason)));
      const view = new Uint8Array(8);
      const all = (socket, options) => [
        socket.receive(view, options),
        socket.receive(view, { ...options, flags: ${MSG_WAITALL} }),
        socket.receiveBytes(8, options),
        socket.receiveFrom(view, options),
        socket.receiveMessage(new Message({ vectors: view }), options),
        socket.receiveBatch(new DatagramBatch({ capacity: 1 }), options),
        socket.accept(options),
        socket.connect("127.0.0.1:1", options),
        socket.send(view, options),
        socket.sendTo(view, "127.0.0.1:1", options),
        socket.sendTo(view, 5, options),
        socket.sendMessage(new Message({ vectors: view }), options),
        socket.sendMessage({}, options),
        socket.sendBatch(new DatagramBatch({ capacity: 1 }), 0, options),
        socket.sendBatch({}, 0, options),
      ];
      const makers = [
        () => UdpSocket.bind("127.0.0.1:0"),
        () => Socket.create("ipv4", "stream"),
        () => Socket.pair()[0],
        () => Socket.pair({ type: "seqpacket" })[0],
        () => UnixDatagramSocket.bind(UnixAddress.unnamed),
      ];
      let rejected = 0;
      for (const make of makers) {
        for (const how of ["close", "detach", "abort", "timeout", "wrong", "closed"]) {
          const socket = make();
          const controller = new AbortController();
          const options = {
            close: undefined, detach: {}, abort: { signal: controller.signal },
            timeout: { timeoutMs: 3 }, wrong: { timeoutMs: -1 }, closed: undefined,
          }[how];
          if (how === "closed") socket.close();
          const promises = all(socket, options);
          const settled = Promise.allSettled(promises);
          await Bun.sleep(1);
          if (how === "close") socket.close();
          if (how === "detach") Socket.adopt(socket.detach(), { own: true }).close();
          if (how === "abort") controller.abort(new Error("aborted"));
          for (const { status } of await settled) if (status === "rejected") rejected++;
          socket.close();
        }
      }
      for (let i = 0; i < 3; i++) await Bun.sleep(1);
      Bun.gc(true);
      await Bun.sleep(1);
      console.log(JSON.stringify({ unhandled, some: rejected > 200 }));
      process.exit(0);
    `;
    const child = Bun.spawnSync([process.execPath, "-e", script], {
      cwd: ROOT,
      // It drops sockets.
      env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
      timeout: 30_000,
    });
    expect(`${child.stderr}`).toBe("");
    expect(JSON.parse(`${child.stdout}`)).toEqual({ unhandled: [], some: true });
  });
});
