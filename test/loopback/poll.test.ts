/**
 * Many sockets at once: which of them are ready, and for what, by tryPoll, pollSync and poll.
 */
import { afterEach, beforeEach, describe, expect, spyOn, test } from "bun:test";
import {
  ClosedError,
  IpOption,
  type PollInterest,
  type PollResult,
  poll,
  poller,
  pollSync,
  Socket,
  type SystemError,
  TimeoutError,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";
import { close, dup3, EINTR, MSG_OOB } from "bun-sockets/sys";
import { tryPoll } from "../../lib/poll.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { until } from "./helper_thread.ts";

type Sockets = Iterable<Socket | PollInterest>;
type Options = NonNullable<Parameters<typeof poll>[1]>;

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const FAULTS = JSON.stringify(new URL("../support/faults.ts", import.meta.url));
const LOOPBACK = "127.0.0.1:0";
const LIMIT_MS = 10_000;
const CHILD_MS_MAX = 20_000;
const WAIT = { timeoutMs: LIMIT_MS };
const MANY = 200;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

// All three as promises, so that one test does for them all.
const FORMS: Readonly<
  Record<string, (sockets: Sockets, options?: Options) => Promise<PollResult[]>>
> = {
  tryPoll: async (sockets) => tryPoll(sockets),
  pollSync: async (sockets, options) => pollSync(sockets, options),
  poll: (sockets, options) => poll(sockets, options),
};
const NAMES = Object.keys(FORMS);
const WAITING = ["pollSync", "poll"];

function by(name: string, sockets: Sockets, options: Options = WAIT): Promise<PollResult[]> {
  return (FORMS[name] as (typeof FORMS)[string])(sockets, options);
}

/** Calls a form that finds nothing at first: then this happens. */
async function meanwhile(
  name: string,
  sockets: Sockets,
  happens: () => unknown,
): Promise<PollResult[]> {
  if (name === "pollSync") {
    let calls = 0;
    using _poll = replaceLibc("poll", (poll) => (fds, count, timeoutMs) => {
      if (calls++ === 0) {
        expect(poll(fds, count, 0)).toBe(0);
        happens();
      }
      return poll(fds, count, timeoutMs);
    });
    return pollSync(sockets, WAIT);
  }
  const waiting = poll(sockets, WAIT);
  await expectSoon(() => poller.ringer !== undefined);
  for (let i = 0; i < 5; i++) await turn();
  happens();
  // Its own deadline would make it look once more.
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("It was not answered")), LIMIT_MS / 2);
  return Promise.race([waiting, late.promise]).finally(() => clearTimeout(timer));
}

async function expectSoon(condition: () => boolean): Promise<void> {
  expect(await until(condition, LIMIT_MS)).toBeDefined();
}

/** Lets one turn serve whatever is ready, however slow the machine is. */
function unlimited(): Disposable {
  const { turnBudgetMs } = poller;
  poller.turnBudgetMs = Number.POSITIVE_INFINITY;
  return {
    [Symbol.dispose]: () => {
      poller.turnBudgetMs = turnBudgetMs;
    },
  };
}

/** What is expected of a socket. */
function ready(socket: Socket, ...what: (keyof PollResult)[]): PollResult {
  const flags = { readable: false, writable: false, urgent: false, error: false, hangUp: false };
  return { socket, ...flags, ...Object.fromEntries(what.map((name) => [name, true])) };
}

const open = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  open.add(socket);
  return socket;
}

const bound = () => kept(UdpSocket.bind(LOOPBACK));
let client: UdpSocket;

/** Sends a datagram to it. */
function feed(socket: UdpSocket): void {
  client.sendToSync("data", socket.localAddress);
}

function listening(): Socket {
  const listener = kept(Socket.create("ipv4", "stream"));
  listener.bind(LOOPBACK);
  listener.listen();
  return listener;
}

/** Both ends of a TCP connection. */
function connection(): [Socket, Socket] {
  const listener = listening();
  const near = kept(Socket.create("ipv4", "stream"));
  near.connectSync(listener.localAddress, WAIT);
  return [near, kept(listener.acceptSync(WAIT))];
}

let waitersBefore = 0;

beforeEach(() => {
  waitersBefore = poller.counters.waiters;
  client = kept(UdpSocket.open("ipv4"));
});

afterEach(() => {
  const { waiters } = poller.counters;
  for (const socket of open) socket[Symbol.dispose]();
  open.clear();
  // Whatever a call has come to, it leaves nobody behind.
  expect(waiters).toBe(waitersBefore);
});

interface Kind {
  readonly what: string;
  /** Makes what is polled, what happens to it, and what it says then. */
  readonly make: () => {
    readonly polled: Socket | PollInterest;
    readonly happens: () => unknown;
    readonly says: readonly (keyof PollResult)[];
  };
}

const KINDS: readonly Kind[] = [
  {
    what: "a datagram that has come",
    make() {
      const socket = bound();
      return { polled: socket, happens: () => feed(socket), says: ["readable"] };
    },
  },
  {
    what: "a datagram, where reading is asked for by name",
    make() {
      const socket = bound();
      return {
        polled: { socket, read: true, write: false },
        happens: () => feed(socket),
        says: ["readable"],
      };
    },
  },
  {
    what: "room for a datagram",
    make() {
      const [socket, peer] = UnixDatagramSocket.pair();
      kept(socket);
      kept(peer);
      while (socket.trySend(Buffer.from("data")) !== undefined);
      return {
        polled: { socket, write: true },
        happens: () => {
          while (peer.tryReceive(new Uint8Array(8)) !== undefined);
        },
        says: ["writable"],
      };
    },
  },
  {
    what: "a datagram while there is no room, where both are asked for",
    make() {
      const [socket, peer] = UnixDatagramSocket.pair();
      kept(socket);
      kept(peer);
      while (socket.trySend(Buffer.from("data")) !== undefined);
      return {
        polled: { socket, read: true, write: true },
        happens: () => peer.sendSync("data"),
        says: ["readable"],
      };
    },
  },
  {
    what: "room while there is no datagram, where both are asked for",
    make() {
      const [socket, peer] = UnixDatagramSocket.pair();
      kept(socket);
      kept(peer);
      while (socket.trySend(Buffer.from("data")) !== undefined);
      return {
        polled: { socket, read: true, write: true },
        happens: () => {
          while (peer.tryReceive(new Uint8Array(8)) !== undefined);
        },
        says: ["writable"],
      };
    },
  },
  {
    what: "a connection to be accepted",
    make() {
      const socket = listening();
      return {
        polled: socket,
        happens: () => kept(Socket.create("ipv4", "stream")).connectSync(socket.localAddress, WAIT),
        says: ["readable"],
      };
    },
  },
  {
    what: "bytes of a stream",
    make() {
      const [near, far] = connection();
      return { polled: near, happens: () => far.sendSync("data"), says: ["readable"] };
    },
  },
  {
    what: "urgent data",
    make() {
      const [near, far] = connection();
      return {
        polled: near,
        happens: () => far.sendSync("!", { flags: MSG_OOB }),
        says: ["urgent"],
      };
    },
  },
  {
    what: "the end of what a peer sends",
    make() {
      const [near, far] = connection();
      return { polled: near, happens: () => far.shutdown("write"), says: ["readable"] };
    },
  },
  {
    what: "the end of a connection in both directions",
    make() {
      const [near, far] = connection();
      near.shutdown("write");
      return { polled: near, happens: () => far.close(), says: ["readable", "hangUp"] };
    },
  },
  {
    what: "a peer of a Unix stream that was closed, where only writing is asked for",
    make() {
      const [socket, peer] = Socket.pair();
      kept(socket);
      kept(peer);
      while (socket.trySend(new Uint8Array(4096)) !== undefined);
      return {
        polled: { socket, write: true },
        happens: () => peer.close(),
        says: ["readable", "writable", "error", "hangUp"],
      };
    },
  },
  {
    what: "a connection that was broken off",
    make() {
      const [near, far] = connection();
      // Closed with something unread, it resets.
      near.sendSync("unread");
      return {
        polled: near,
        happens: () => far.close(),
        says: ["readable", "writable", "error", "hangUp"],
      };
    },
  },
  {
    what: "an error of a datagram socket",
    make() {
      const dead = UdpSocket.bind(LOOPBACK);
      const { localAddress } = dead;
      dead.close();
      const socket = kept(UdpSocket.open("ipv4"));
      socket.connectSync(localAddress);
      return {
        polled: socket,
        happens: () => socket.sendSync("refused"),
        says: ["readable", "writable", "error"],
      };
    },
  },
  {
    what: "an error that waits in a queue of its own",
    make() {
      const dead = UdpSocket.bind(LOOPBACK);
      const { localAddress } = dead;
      dead.close();
      const socket = bound();
      socket.setOption(IpOption.receiveErrors, true);
      return {
        polled: socket,
        happens: () => socket.sendToSync("refused", localAddress),
        says: ["readable", "writable", "error"],
      };
    },
  },
];

describe.each(NAMES)("%s()", (name) => {
  test.each(KINDS)("tells of $what that is there", async ({ make }) => {
    const { polled, happens, says } = make();
    const socket = polled instanceof Socket ? polled : polled.socket;
    happens();
    // It may take the loopback a moment to come back with an error.
    await expectSoon(() => tryPoll([polled]).length > 0);
    expect(await by(name, [polled])).toEqual([ready(socket, ...says)]);
    // To ask takes nothing away.
    expect(await by(name, [polled])).toEqual([ready(socket, ...says)]);
  });

  if (WAITING.includes(name))
    test.each(KINDS)("tells of $what that comes while it waits", async ({ make }) => {
      const { polled, happens, says } = make();
      const socket = polled instanceof Socket ? polled : polled.socket;
      expect(tryPoll([polled])).toEqual([]);
      const quiet = bound();
      const results = await meanwhile(name, [quiet, polled], happens);
      expect(results).toEqual([ready(socket, ...says)]);
      if (socket instanceof UdpSocket) {
        // It goes on as before.
        while (true)
          try {
            if (socket.tryReceive(new Uint8Array(8)) === undefined) break;
          } catch (error) {
            expect((error as SystemError).code).toBe("ECONNREFUSED");
          }
      }
    });

  test("tells of a connection that was made", async () => {
    const socket = kept(Socket.create("ipv4", "stream"));
    const { localAddress } = listening();
    socket.tryConnect(localAddress);
    expect(await by(name, [{ socket, write: true }])).toEqual([ready(socket, "writable")]);
    expect(socket.tryConnect(localAddress)).toBe(true);
  });

  test("tells of two sockets, and for what each is ready", async () => {
    const [first, second] = [bound(), bound()];
    feed(second);
    const both = [
      { socket: first, read: true, write: true },
      { socket: second, read: true, write: true },
    ];
    expect(await by(name, both)).toEqual([
      ready(first, "writable"),
      ready(second, "readable", "writable"),
    ]);
    expect(await by(name, [first, second])).toEqual([ready(second, "readable")]);
  });

  test(`tells of those of ${MANY} sockets that are ready, in the order given`, async () => {
    const sockets = Array.from({ length: MANY }, bound);
    const chosen = sockets.filter((_, i) => i % 7 === 3);
    // Not in the order of what has come.
    for (const socket of chosen.toReversed()) feed(socket);
    expect(await by(name, sockets)).toEqual(chosen.map((socket) => ready(socket, "readable")));
    // Nor in that of their numbers.
    const order = sockets.toReversed();
    const expected = chosen.toReversed().map((socket) => ready(socket, "readable"));
    expect(await by(name, order)).toEqual(expected);
  });

  test("tells of each as often as it is given", async () => {
    const [socket, quiet] = [bound(), bound()];
    feed(socket);
    const list = [socket, quiet, { socket, write: true }, socket];
    expect(await by(name, list)).toEqual([
      ready(socket, "readable"),
      ready(socket, "writable"),
      ready(socket, "readable"),
    ]);
  });

  test("takes anything that can be iterated, and iterates it once", async () => {
    const socket = bound();
    feed(socket);
    let times = 0;
    function* list() {
      times++;
      yield socket;
    }
    for (const sockets of [new Set([socket]), new Map([[1, socket]]).values(), list()])
      expect(await by(name, sockets)).toEqual([ready(socket, "readable")]);
    expect(times).toBe(1);
    const failing = {
      [Symbol.iterator]: () => {
        throw new RangeError("Mine");
      },
    };
    await expect(by(name, failing)).rejects.toThrow(new RangeError("Mine"));
  });

  test.each([
    [undefined, "Cannot poll a value of type undefined: expected sockets in an array"],
    [null, "Cannot poll null: expected sockets in an array"],
    [5, "Cannot poll a value of type number: expected sockets in an array"],
    ["sockets", "Cannot poll a value of type string: expected sockets in an array"],
    [{}, "Cannot poll a value of type object: expected sockets in an array"],
    [[undefined], "Cannot use a value of type undefined as options: expected an object"],
    [[null], "Cannot use null as options: expected an object"],
    [[5], "Cannot use a value of type number as options: expected an object"],
    [[{}], "Cannot poll a value of type undefined: expected a socket"],
    [[{ socket: 5, read: true }], "Cannot poll a value of type number: expected a socket"],
    [
      [{ socket: Object.create(Socket.prototype), read: true }],
      "Cannot poll a value of type object: expected a socket",
    ],
  ])("refuses %j", async (wrong, message) => {
    await expect(by(name, wrong as unknown as Sockets)).rejects.toThrow(new TypeError(message));
    // Also behind one that is right.
    if (!Array.isArray(wrong)) return;
    const socket = bound();
    feed(socket);
    await expect(by(name, [socket, ...wrong] as Socket[])).rejects.toThrow(new TypeError(message));
  });

  test("refuses to poll nothing, and for nothing", async () => {
    const socket = bound();
    await expect(by(name, [])).rejects.toThrow(
      new RangeError("Cannot poll no sockets: expected 1 or more"),
    );
    for (const nothing of [{ socket }, { socket, read: false, write: false }])
      await expect(by(name, [nothing])).rejects.toThrow(
        new TypeError("Cannot poll a socket for nothing: expected read or write"),
      );
    for (const wrong of [{ read: 1 }, { write: "yes" }, { read: null }])
      await expect(by(name, [{ socket, ...wrong } as unknown as PollInterest])).rejects.toThrow(
        /^Cannot use a value of type \w+ as (read|write): expected a boolean$/,
      );
  });

  test("refuses a closed socket, wherever it stands", async () => {
    const [socket, closed] = [bound(), bound()];
    feed(socket);
    closed.close();
    for (const list of [[closed], [socket, closed], [closed, socket]]) {
      const refused = by(name, list);
      await expect(refused).rejects.toThrow(ClosedError);
      await expect(refused).rejects.toMatchObject({ code: "EBADF", syscall: "poll" });
    }
  });

  test("refuses a socket whose descriptor was closed behind our back", async () => {
    const [socket, gone] = [bound(), bound()];
    feed(socket);
    close(gone.descriptor);
    for (const list of [[gone], [gone, socket], [socket, gone]])
      await expect(by(name, list, { timeoutMs: 1000 })).rejects.toMatchObject({ code: "EBADF" });
  });

  test("asks again when a signal has interrupted it", async () => {
    const socket = bound();
    feed(socket);
    let left = 10;
    using fault = replaceLibc("poll", (poll) => (...values) => {
      if (left > 0 && left--) return failWith(EINTR);
      return poll(...values);
    });
    expect(await by(name, [socket])).toEqual([ready(socket, "readable")]);
    expect(fault.calls).toBeGreaterThan(10);
  });

  test("says what the system says, where that is no interruption", async () => {
    const socket = bound();
    // ENOMEM
    using _fault = replaceEntry("poll", () => failWith(12));
    await expect(by(name, [socket])).rejects.toThrow("poll ENOMEM");
  });

  if (!WAITING.includes(name)) return;

  test.each([0, 20])("waits for %d ms", async (timeoutMs) => {
    const sockets = [bound(), bound()];
    const started = performance.now();
    const late = by(name, sockets, { timeoutMs });
    await expect(late).rejects.toThrow(TimeoutError);
    await expect(late).rejects.toMatchObject({ code: "ETIMEDOUT", syscall: "poll" });
    expect(performance.now() - started).toBeWithin(timeoutMs, LIMIT_MS / 2);
    // What is ready is told all the same.
    feed(sockets[1] as UdpSocket);
    expect(await by(name, sockets, { timeoutMs })).toEqual([
      ready(sockets[1] as UdpSocket, "readable"),
    ]);
  });

  test.each([undefined, Number.POSITIVE_INFINITY, 2 ** 40])(
    "takes %d for a timeout",
    async (timeoutMs) => {
      const socket = bound();
      const sockets = [bound(), socket];
      if (name === "poll") {
        const waiting = poll(sockets, { timeoutMs });
        await Bun.sleep(10);
        feed(socket);
        expect(await waiting).toEqual([ready(socket, "readable")]);
      } else {
        feed(socket);
        expect(pollSync(sockets, { timeoutMs })).toEqual([ready(socket, "readable")]);
      }
    },
  );

  test("refuses timeouts that are none, and looks at no socket before", async () => {
    for (const timeoutMs of [Number.NaN, -1, Number.NEGATIVE_INFINITY])
      await expect(by(name, [bound()], { timeoutMs })).rejects.toThrow(
        new RangeError(`Cannot use ${timeoutMs} as timeoutMs: expected 0 or more milliseconds`),
      );
    for (const timeoutMs of ["1", null, 1n])
      await expect(
        by(name, [bound()], { timeoutMs: timeoutMs as unknown as number }),
      ).rejects.toThrow(TypeError);
  });
});

describe("poll()", () => {
  test("throws nothing itself: what is wrong rejects", async () => {
    const calls: readonly (() => Promise<unknown>)[] = [
      () => poll(5 as unknown as Sockets),
      () => poll([]),
      () => poll([bound()], null as unknown as Options),
      () => poll([bound()], 5 as unknown as Options),
      () => poll([bound()], { signal: {} as AbortSignal }),
      () => poll([bound()], { timeoutMs: Number.NaN }),
    ];
    for (const call of calls) {
      let promise: Promise<unknown> | undefined;
      expect(() => {
        promise = call();
        promise.catch(() => {});
      }).not.toThrow();
      await expect(promise as Promise<unknown>).rejects.toBeInstanceOf(Error);
    }
  });

  test(`waits for ${MANY} sockets, also for both directions of each`, async () => {
    const sockets = Array.from({ length: MANY }, () => {
      const [socket, peer] = UnixDatagramSocket.pair();
      kept(socket);
      kept(peer);
      while (socket.trySend(Buffer.from("data")) !== undefined);
      return { socket, peer };
    });
    const interests = sockets.map(({ socket }) => ({ socket, read: true, write: true }));
    for (const chosen of [0, 117, MANY - 1]) {
      const { socket, peer } = sockets[chosen] as (typeof sockets)[number];
      const results = await meanwhile("poll", interests, () => peer.sendSync("data"));
      expect(results).toEqual([ready(socket, "readable")]);
      socket.tryReceive(new Uint8Array(8));
      expect(poller.counters.waiters).toBe(waitersBefore);
    }
  });

  test("tells of all that are ready when it is answered", async () => {
    const sockets = Array.from({ length: 10 }, bound);
    const results = await meanwhile("poll", sockets, () => {
      for (const socket of sockets.toReversed()) feed(socket);
    });
    expect(results).toEqual(sockets.map((socket) => ready(socket, "readable")));
  });

  test("rejects with a ClosedError when one of the sockets is closed", async () => {
    for (const position of [0, 1, 2]) {
      const sockets = [bound(), bound(), bound()];
      const waiting = meanwhile("poll", sockets, () => sockets[position]?.close());
      await expect(waiting).rejects.toThrow(ClosedError);
      await expect(waiting).rejects.toMatchObject({ syscall: "poll" });
      expect(poller.counters.waiters).toBe(waitersBefore);
    }
  });

  test("rejects with ECANCELED when one of the sockets is detached", async () => {
    const sockets = [bound(), bound()];
    const waiting = meanwhile("poll", sockets, () => close((sockets[1] as UdpSocket).detach()));
    await expect(waiting).rejects.toMatchObject({ code: "ECANCELED", syscall: "poll" });
  });

  test("rejects with the signal's reason itself, before it waits and while it does", async () => {
    for (const reason of [new Error("enough"), "enough", 0, null, { why: "enough" }]) {
      const sockets = [bound(), bound()];
      const controller = new AbortController();
      const waiting = poll(sockets, controller).then(
        () => "answered",
        (error) => ({ error }),
      );
      for (let i = 0; i < 3; i++) await turn();
      controller.abort(reason);
      const told = (await waiting) as { error: unknown };
      expect(told.error).toBe(controller.signal.reason);
      expect(told.error).toBe(reason);
      feed(sockets[0] as UdpSocket);
      const before = await poll(sockets, controller).catch((error) => ({ error }));
      expect(before).toEqual({ error: reason });
    }
    const controller = new AbortController();
    const waiting = poll([bound()], controller);
    controller.abort();
    const error = await waiting.catch((error) => error);
    expect(error).toBe(controller.signal.reason);
    expect(error.name).toBe("AbortError");
  });

  test("leaves nothing with a signal, however it ends", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    let listeners = 0;
    using _add = spyOn(signal, "addEventListener").mockImplementation(() => {
      listeners++;
    });
    using _remove = spyOn(signal, "removeEventListener").mockImplementation(() => {
      listeners--;
    });
    const sockets = [bound(), bound()];
    for (let i = 0; i < 100; i++) {
      await expect(poll(sockets, { signal, timeoutMs: 0 })).rejects.toThrow(TimeoutError);
      feed(sockets[0] as UdpSocket);
      await poll(sockets, { signal });
      sockets[0]?.tryReceive(new Uint8Array(8));
    }
    const closed = bound();
    const waiting = poll([...sockets, closed], { signal });
    await turn();
    closed.close();
    await expect(waiting).rejects.toThrow(ClosedError);
    expect(listeners).toBe(0);
  });

  test("leaves nothing with the poller that wakes it again and again", async () => {
    const sockets = Array.from({ length: 20 }, bound);
    for (let i = 0; i < 50; i++)
      await expect(poll(sockets, { timeoutMs: 0 })).rejects.toThrow(TimeoutError);
    expect(poller.counters.waiters).toBe(waitersBefore);
    // Each of them may be told of once.
    const before = poller.counters;
    for (let i = 0; i < 10; i++) {
      for (const socket of sockets) feed(socket);
      await Bun.sleep(5);
    }
    expect(poller.counters.wakeUps - before.wakeUps).toBeLessThanOrEqual(sockets.length);
    expect(poller.counters.spurious - before.spurious).toBeLessThanOrEqual(sockets.length);
  });

  test("answers all who poll the same socket", async () => {
    const socket = bound();
    const others = [
      poll([socket], WAIT),
      poll([bound(), socket], WAIT),
      poll([{ socket, read: true, write: true }], WAIT),
    ];
    const results = await meanwhile("poll", [socket], () => feed(socket));
    expect(results).toEqual([ready(socket, "readable")]);
    expect(await Promise.all(others)).toEqual([
      [ready(socket, "readable")],
      [ready(socket, "readable")],
      [ready(socket, "writable")],
    ]);
  });

  test("waits on when somebody else has taken what it was told of", async () => {
    const [quiet, socket] = [bound(), bound()];
    let answered = false;
    const waiting = poll([quiet, socket], WAIT).then((results) => {
      answered = true;
      return results;
    });
    // A handler is served after those who wait once, and in the same turn before they hear of it.
    using _budget = unlimited();
    let taken = 0;
    const handler = socket.onBatch((batch) => {
      taken += batch.count;
    });
    await expectSoon(() => poller.ringer !== undefined);
    const rounds = 50;
    let most = 0;
    for (let round = 1; round <= rounds; round++) {
      feed(socket);
      await expectSoon(() => taken === round);
      for (let i = 0; i < 3; i++) await turn();
      most = Math.max(most, poller.counters.waiters - waitersBefore);
    }
    expect(answered).toBe(false);
    // The handler, and one for each socket; nobody is added each time.
    expect(most).toBeLessThanOrEqual(4);
    handler.stop();
    feed(socket);
    expect(await waiting).toEqual([ready(socket, "readable")]);
  });

  test("rejects when a socket was closed before it could look at it again", async () => {
    const [closing, socket] = [bound(), bound()];
    const number = closing.descriptor;
    // In the set once before, so that its number is known there.
    await expect(closing.receive(new Uint8Array(1), { timeoutMs: 5 })).rejects.toThrow();
    const other: { socket?: UdpSocket } = {};
    using _budget = unlimited();
    const waiting = poll([closing, socket], WAIT);
    const handler = socket.onBatch(() => {
      if (other.socket) return;
      closing.close();
      // Its number is somebody else's at once.
      const elsewhere = UdpSocket.bind(LOOPBACK).detach();
      if (elsewhere !== number) {
        expect(dup3(elsewhere, number, 0)).toBe(number);
        close(elsewhere);
      }
      other.socket = kept(UdpSocket.adopt(number, { own: true }));
    });
    await expectSoon(() => poller.ringer !== undefined);
    for (let i = 0; i < 5; i++) await turn();
    feed(socket);
    await expect(waiting).rejects.toThrow(ClosedError);
    // And that one is served.
    const received = (other.socket as UdpSocket).receive(new Uint8Array(8), WAIT);
    await turn();
    feed(other.socket as UdpSocket);
    expect(await received).toBe(4);
    handler.stop();
  });

  test("stands in line with those who receive", async () => {
    const socket = bound();
    const target = new Uint8Array(8);
    // Behind a receive it is told of what that leaves.
    const first = socket.receive(target, WAIT);
    const behind = poll([socket], WAIT);
    await turn();
    feed(socket);
    expect(await first).toBe(4);
    feed(socket);
    expect(await behind).toEqual([ready(socket, "readable")]);
    expect(socket.tryReceive(target)).toBe(4);
    // Before one it takes nothing from it.
    const before = poll([socket], WAIT);
    const second = socket.receive(target, WAIT);
    await turn();
    feed(socket);
    expect(await second).toBe(4);
    feed(socket);
    expect(await before).toEqual([ready(socket, "readable")]);
  });

  test("is answered in busyPoll, too", async () => {
    poller.busyPoll = true;
    try {
      const socket = bound();
      const results = await meanwhile("poll", [bound(), socket], () => feed(socket));
      expect(results).toEqual([ready(socket, "readable")]);
    } finally {
      poller.busyPoll = false;
    }
  });

  test("does not keep the process alive when none of its sockets does", async () => {
    const child = Bun.spawnSync(
      [
        process.execPath,
        "-e",
        `import { poll, UdpSocket } from ${INDEX};
        const sockets = [1, 2].map(() => UdpSocket.bind("127.0.0.1:0").unref());
        poll(sockets).then(() => console.log("answered"));
        console.log("waits");`,
      ],
      { timeout: CHILD_MS_MAX, env: { ...process.env, BUN_SOCKETS_LEAKS: "" } },
    );
    expect(`${child.stdout}${child.stderr}`).toBe("waits\n");
    expect(child.exitCode).toBe(0);
  });
});

test("tryPoll() is empty when nothing is ready", () => {
  expect(tryPoll([bound(), bound()])).toEqual([]);
});

test("pollSync() keeps its deadline when signals interrupt it for ever", () => {
  const timeoutMs = 50;
  const started = performance.now();
  using fault = replaceEntry("poll", () => {
    if (performance.now() > started + LIMIT_MS) throw new Error("The deadline was not kept");
    return failWith(EINTR);
  });
  expect(() => pollSync([bound()], { timeoutMs })).toThrow(TimeoutError);
  expect(performance.now() - started).toBeWithin(timeoutMs, LIMIT_MS / 2);
  expect(fault.calls).toBeGreaterThan(100);
});

interface Stormed {
  readonly interruptions: number;
  readonly tries: readonly string[];
  readonly errors: readonly (readonly [name: string, elapsedMs: number])[];
}

// In a process of its own: the runner would have to take the signals, too.
test("all three take no notice of signals", async () => {
  const timeoutMs = 300;
  const child = Bun.spawn(
    [
      process.execPath,
      "-e",
      `import { poll, pollSync, tryPoll, UdpSocket } from ${INDEX};
      import { replaceLibc } from ${FAULTS};
      let interruptions = 0;
      using fault = replaceLibc("poll", (poll) => (...values) => {
        const result = poll(...values);
        if (result < 0) interruptions++;
        return result;
      });
      process.on("SIGUSR2", () => {});
      const sockets = [1, 2, 3].map(() => UdpSocket.bind("127.0.0.1:0"));
      console.log("ready");
      for await (const _ of Bun.stdin.stream()) break;
      const tries = new Set();
      const until = performance.now() + 10 * ${timeoutMs};
      while (performance.now() < until && interruptions < 20)
        try {
          if (tryPoll(sockets).length > 0) tries.add("ready");
        } catch (error) {
          tries.add(error.message);
        }
      const errors = [];
      for (const form of [pollSync, poll]) {
        const started = performance.now();
        try {
          await form(sockets, { timeoutMs: ${timeoutMs} });
        } catch (error) {
          errors.push([error.name, performance.now() - started]);
        }
      }
      console.log(JSON.stringify({ interruptions, tries: [...tries], errors }));
      process.exit();`,
    ],
    { stdio: ["pipe", "pipe", "inherit"], timeout: CHILD_MS_MAX, killSignal: "SIGKILL" },
  );
  let text = "";
  let sender: Bun.Subprocess | undefined;
  for await (const chunk of child.stdout) {
    text += Buffer.from(chunk);
    if (sender || !text.startsWith("ready\n")) continue;
    // It ends with the process that it sends to.
    sender = Bun.spawn(["sh", "-c", `while kill -USR2 ${child.pid}; do :; done`], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    child.stdin.write("go\n");
    child.stdin.flush();
  }
  await child.exited;
  sender?.kill();
  await sender?.exited;
  const { interruptions, tries, errors } = JSON.parse(text.slice("ready\n".length)) as Stormed;
  expect(interruptions).toBeGreaterThanOrEqual(20);
  expect(tries).toEqual([]);
  expect(errors.map(([name]) => name)).toEqual(["TimeoutError", "TimeoutError"]);
  for (const [, elapsedMs] of errors) expect(elapsedMs).toBeWithin(timeoutMs, LIMIT_MS);
}, 60_000);
