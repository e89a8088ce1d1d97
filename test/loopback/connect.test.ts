/** Connecting to one of several addresses: in turns, beside each other, and what is left behind. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  ConnectError,
  type InetAddress,
  parseAddress,
  SystemError,
  TcpListener,
  TcpSocket,
  TimeoutError,
} from "bun-sockets";
import { EAFNOSUPPORT, EINTR, EMFILE } from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import {
  connectInOrder,
  interleave,
  type Plan,
  type Runner,
  race,
} from "../../lib/internal/connect_race.ts";
import { deadlineAfter } from "../../lib/internal/deadline.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { reasonOf, soon, startPoller, turns, until, WatchedSignal } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
/** So long that no test waits for it. */
const NEVER_MS = 1_000_000;
const NAME = { host: "several.example", service: "http" };

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

const addressOf = (text: string): InetAddress => parseAddress(text) as InetAddress;

/** An address where nobody listens. */
function closedPort(host = "127.0.0.1"): InetAddress {
  using listener = TcpListener.listen(`${host}:0`);
  return listener.localAddress;
}

/** A listener whose queue is full, so that whoever connects hears nothing. */
class Silent implements Disposable {
  readonly #listener: TcpListener;
  readonly #clients: TcpSocket[] = [];

  constructor(host = "127.0.0.1") {
    this.#listener = TcpListener.listen(`${host}:0`, { backlog: 0 });
    // Linux completes one connection more than the backlog says.
    for (;;) {
      const client = TcpSocket.open(this.address);
      this.#clients.push(client);
      try {
        client.connectSync(this.address, { timeoutMs: 50 });
      } catch (error) {
        if (error instanceof TimeoutError) break;
        throw error;
      }
    }
  }

  get address(): InetAddress {
    return this.#listener.localAddress;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client.close();
    this.#listener.close();
  }
}

/** A plan for real sockets. */
function planWith(
  changes: Partial<Plan<TcpSocket>> & { timeoutMs?: number } = {},
): Plan<TcpSocket> {
  const { timeoutMs, ...rest } = changes;
  return {
    open: (address) => TcpSocket.open(address),
    name: NAME,
    staggerMs: NEVER_MS,
    attemptTimeoutMs: Number.POSITIVE_INFINITY,
    deadline: deadlineAfter(timeoutMs),
    ...rest,
  };
}

/** A socket that connects when the test says so. */
class Puppet implements Runner {
  readonly address: InetAddress;
  readonly timeoutMs: number | undefined;
  isClosed = false;
  connected!: () => void;
  failed!: (error: unknown) => void;

  constructor(address: InetAddress) {
    this.address = address;
  }

  connect(_address: InetAddress, { timeoutMs }: { timeoutMs?: number | undefined }): Promise<void> {
    Object.assign(this, { timeoutMs });
    return new Promise((resolve, reject) => {
      this.connected = resolve;
      this.failed = reject;
    });
  }

  connectSync(): void {
    throw new Error("not used");
  }

  close(): void {
    this.isClosed = true;
  }
}

/** The timers that are made until the end of the block: they ring when they are told to. */
class Timers implements Disposable {
  made = 0;
  readonly living = new Map<number, () => void>();
  readonly #real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

  constructor() {
    const setTimeout = (run: () => void): number => {
      this.living.set(++this.made, run);
      return this.made;
    };
    const clearTimeout = (timer: number) => void this.living.delete(timer);
    Object.assign(globalThis, { setTimeout, clearTimeout });
  }

  ring(): void {
    for (const [timer, run] of this.living) {
      this.living.delete(timer);
      run();
      return;
    }
  }

  [Symbol.dispose](): void {
    Object.assign(globalThis, this.#real);
  }
}

/** A race of puppets, and those that have begun. */
function puppetRace(count: number, changes: Partial<Plan<Puppet>> = {}) {
  const addresses = Array.from({ length: count }, (_, i) => addressOf(`192.0.2.${i + 1}:80`));
  const begun: Puppet[] = [];
  const open = (address: InetAddress): Puppet => {
    const puppet = new Puppet(address);
    begun.push(puppet);
    return puppet;
  };
  const plan = { ...planWith(), open, ...changes } as Plan<Puppet>;
  return { begun, winner: race(addresses, plan), addresses };
}

const refused = () => new SystemError(111, "connect");

describe("interleave()", () => {
  const list = (...texts: string[]) => texts.map((text) => addressOf(`${text}:1`));
  const names = (addresses: InetAddress[]) => addresses.map(({ host }) => host);

  test("lets the families take turns, the first one's first", () => {
    expect(names(interleave(list("[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2")))).toEqual([
      "::1",
      "1.1.1.1",
      "::2",
      "2.2.2.2",
      "::3",
    ]);
    expect(names(interleave(list("1.1.1.1", "2.2.2.2", "3.3.3.3", "[::1]")))).toEqual([
      "1.1.1.1",
      "::1",
      "2.2.2.2",
      "3.3.3.3",
    ]);
  });

  test("leaves the order of one family as it is", () => {
    expect(names(interleave(list("[::3]", "[::1]", "[::2]")))).toEqual(["::3", "::1", "::2"]);
    expect(interleave([])).toEqual([]);
  });
});

describe("race()", () => {
  test("starts one alone, and the next one when it fails", async () => {
    const { begun, winner, addresses } = puppetRace(3);
    expect(begun.map(({ address }) => address)).toEqual(addresses.slice(0, 1));
    await turns(3);
    expect(begun).toHaveLength(1);
    begun[0]?.failed(refused());
    await turns(1);
    expect(begun).toHaveLength(2);
    expect(begun[0]?.isClosed).toBe(true);
    begun[1]?.connected();
    expect(await winner).toBe(begun[1] as Puppet);
    expect(begun[1]?.isClosed).toBe(false);
    await turns(3);
    expect(begun).toHaveLength(2);
  });

  test("starts the next one beside it after staggerMs; the first connection wins", async () => {
    const { begun, winner } = puppetRace(3, { staggerMs: 5 });
    await until(() => begun.length === 3, "all have begun");
    expect(begun.map(({ isClosed }) => isClosed)).toEqual([false, false, false]);
    begun[1]?.connected();
    expect(await winner).toBe(begun[1] as Puppet);
    expect(begun.map(({ isClosed }) => isClosed)).toEqual([true, false, true]);
  });

  test("closes one that connects in the same moment as the winner", async () => {
    const { begun, winner } = puppetRace(2, { staggerMs: 0 });
    await until(() => begun.length === 2, "both have begun");
    begun[1]?.connected();
    begun[0]?.connected();
    expect(await winner).toBe(begun[1] as Puppet);
    expect(begun[0]?.isClosed).toBe(true);
  });

  test("with staggerMs of Infinity starts nothing beside another", async () => {
    const { begun, winner } = puppetRace(2, { staggerMs: Number.POSITIVE_INFINITY });
    await turns(5);
    expect(begun).toHaveLength(1);
    begun[0]?.connected();
    await winner;
  });

  test("a failure starts the next one at once, and its time anew", async () => {
    using timers = new Timers();
    const { begun, winner } = puppetRace(4);
    for (const i of [0, 1, 2]) {
      expect([timers.made, timers.living.size]).toEqual([i + 1, 1]);
      begun[i]?.failed(refused());
      await turns(1);
      expect(begun).toHaveLength(i + 2);
    }
    // There is none to start after the last one.
    expect([timers.made, timers.living.size]).toEqual([3, 0]);
    begun[3]?.connected();
    await winner;
  });

  test("a failure starts the next one also while others are under way", async () => {
    using timers = new Timers();
    const { begun, winner } = puppetRace(4);
    timers.ring();
    expect(begun).toHaveLength(2);
    begun[0]?.failed(refused());
    await turns(1);
    expect(begun).toHaveLength(3);
    begun[1]?.connected();
    expect(await winner).toBe(begun[1] as Puppet);
    // Nothing is left that would start the last one.
    expect([timers.living.size, begun.length]).toEqual([0, 3]);
    expect(begun[2]?.isClosed).toBe(true);
  });

  test("tells every attempt in the order in which they were begun", async () => {
    const { begun, winner, addresses } = puppetRace(3, { staggerMs: 0 });
    await until(() => begun.length === 3, "all have begun");
    const errors = [101, 111, 113].map((errno, i) => {
      const address = addresses[i] as InetAddress;
      return new SystemError(errno, "connect", { address, sending: true });
    });
    for (const i of [2, 0, 1]) begun[i]?.failed(errors[i]);
    const error = await reasonOf(winner);
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toBeInstanceOf(AggregateError);
    expect((error as ConnectError).errors).toEqual(errors);
    expect(error).toMatchObject({
      ...NAME,
      name: "ConnectError",
      code: "ECONNREFUSED",
      errno: -111,
      syscall: "connect",
      message:
        "Cannot connect to several.example:http: 192.0.2.1:80 ENETUNREACH, " +
        "192.0.2.2:80 ECONNREFUSED, 192.0.2.3:80 EHOSTUNREACH",
    });
    expect(begun.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test("says how long an attempt, or all of them, were waited for, and for what", async () => {
    const one = puppetRace(2, { staggerMs: NEVER_MS, attemptTimeoutMs: 40 });
    one.begun[0]?.failed(new TimeoutError("connect", { timeoutMs: 39.9 }));
    await until(() => one.begun.length === 2, "the second has begun");
    one.begun[1]?.failed(refused());
    const { errors, code } = (await reasonOf(one.winner)) as ConnectError;
    expect(errors[0]?.message).toBe("connect ETIMEDOUT 192.0.2.1:80: timed out after 40 ms");
    expect(code).toBe("ECONNREFUSED");

    const all = puppetRace(2, { timeoutMs: 500, deadline: deadlineAfter(500) });
    all.begun[0]?.failed(new TimeoutError("connect", { timeoutMs: 499.9 }));
    const late = await reasonOf(all.winner);
    expect(late).toBeInstanceOf(TimeoutError);
    expect(late).toMatchObject({ ...NAME, timeoutMs: 500, cause: { code: "ETIMEDOUT" } });
    expect((late as Error).message).toBe(
      "connect ETIMEDOUT several.example:http: timed out after 500 ms",
    );
  });

  test("of one address without a name it tells the error itself", async () => {
    const { begun, winner } = puppetRace(1, { name: undefined });
    const error = refused();
    begun[0]?.failed(error);
    expect(await reasonOf(winner)).toBe(error);
  });

  test("passes over a socket that cannot be made, and tells of it", async () => {
    const { winner } = puppetRace(3, {
      open: () => {
        throw new SystemError(EMFILE, "socket");
      },
    });
    const error = (await reasonOf(winner)) as ConnectError;
    expect(error.errors.map(({ code }) => code)).toEqual(["EMFILE", "EMFILE", "EMFILE"]);
  });

  test("what is no system error ends it, and is thrown as it is", async () => {
    const thrown = new RangeError("of the caller's making");
    const early = puppetRace(3, {
      open: () => {
        throw thrown;
      },
    });
    expect(await reasonOf(early.winner)).toBe(thrown);
    const { begun, winner } = puppetRace(3, { staggerMs: 0 });
    await until(() => begun.length === 3, "all have begun");
    begun[1]?.failed(thrown);
    expect(await reasonOf(winner)).toBe(thrown);
    expect(begun.every(({ isClosed }) => isClosed)).toBe(true);
  });

  test("an abort closes all and rejects with the reason; its listener goes in any case", async () => {
    const watched = new WatchedSignal();
    const { begun, winner } = puppetRace(3, { staggerMs: 0, signal: watched.signal });
    await until(() => begun.length === 3, "all have begun");
    watched.abort("enough");
    expect(await reasonOf(winner)).toBe("enough");
    expect(begun.every(({ isClosed }) => isClosed)).toBe(true);
    expect(watched.listeners.size).toBe(0);

    const won = new WatchedSignal();
    const other = puppetRace(1, { signal: won.signal });
    other.begun[0]?.connected();
    await other.winner;
    expect([won.added, won.listeners.size]).toEqual([1, 0]);
    won.abort();
    expect(other.begun[0]?.isClosed).toBe(false);
  });

  test("an abort while a socket is made closes that one too", async () => {
    const controller = new AbortController();
    const begun: Puppet[] = [];
    const { winner } = puppetRace(2, {
      signal: controller.signal,
      open: (address) => {
        begun.push(new Puppet(address));
        controller.abort("enough");
        return begun.at(-1) as Puppet;
      },
    });
    expect(await reasonOf(winner)).toBe("enough");
    expect(begun.map(({ isClosed }) => isClosed)).toEqual([true]);
  });

  test("gives each attempt its own limit, within that of the whole", async () => {
    const { begun, winner } = puppetRace(2, {
      attemptTimeoutMs: 50,
      deadline: deadlineAfter(undefined),
    });
    expect(begun[0]?.timeoutMs).toBe(50);
    begun[0]?.failed(new TimeoutError("connect"));
    await turns(1);
    begun[1]?.failed(new TimeoutError("connect"));
    const error = (await reasonOf(winner)) as ConnectError;
    expect(error.errors.map(({ name, address }) => [name, address])).toEqual([
      ["TimeoutError", "192.0.2.1"],
      ["TimeoutError", "192.0.2.2"],
    ]);
    const short = puppetRace(1, { attemptTimeoutMs: NEVER_MS, deadline: deadlineAfter(20_000) });
    expect(short.begun[0]?.timeoutMs).toBeLessThanOrEqual(20_000);
    short.begun[0]?.connected();
    await short.winner;
  });

  test("the end of the whole time is a TimeoutError, whose cause are the attempts", async () => {
    const { begun, winner } = puppetRace(3, { staggerMs: 0, deadline: deadlineAfter(20_000) });
    await until(() => begun.length === 3, "all have begun");
    begun[1]?.failed(refused());
    await turns(1);
    begun[0]?.failed(new TimeoutError("connect"));
    const error = (await reasonOf(winner)) as TimeoutError;
    expect(error).toBeInstanceOf(TimeoutError);
    expect((error.cause as ConnectError).errors.map(({ code }) => code)).toEqual([
      "ETIMEDOUT",
      "ECONNREFUSED",
      "ETIMEDOUT",
    ]);
    expect(begun.every(({ isClosed }) => isClosed)).toBe(true);
  });
});

describe("race() over loopback", () => {
  test("a closed port is passed over at once, a silent address after staggerMs", async () => {
    const before = openDescriptors();
    {
      using silent = new Silent("127.0.0.1");
      using listener = TcpListener.listen("127.0.0.2:0");
      const among = openDescriptors();
      const addresses = [closedPort(), closedPort("[::1]"), silent.address, listener.localAddress];
      using socket = await race(addresses, planWith({ staggerMs: 5, ...WAIT }));
      expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
      // The loser is closed, and nothing else is open.
      expect(openDescriptors()).toBe(among + 1);
      using served = listener.acceptSync(WAIT);
      expect(`${served.remoteAddress}`).toBe(`${socket.localAddress}`);
      expect(listener.tryAccept()).toBeUndefined();
    }
    expect(openDescriptors()).toBe(before);
  });

  test("nobody answers: a limit for each, or for all", async () => {
    using first = new Silent("127.0.0.1");
    using second = new Silent("127.0.0.2");
    const before = openDescriptors();
    const addresses = [first.address, closedPort(), second.address];
    const each = await reasonOf(race(addresses, planWith({ attemptTimeoutMs: 20 })));
    expect((each as ConnectError).errors.map(({ code }) => code)).toEqual([
      "ETIMEDOUT",
      "ECONNREFUSED",
      "ETIMEDOUT",
    ]);
    const all = await reasonOf(race(addresses, planWith({ timeoutMs: 20, staggerMs: 1 })));
    expect(all).toBeInstanceOf(TimeoutError);
    const alone = await reasonOf(
      race([first.address], planWith({ timeoutMs: 20, name: undefined })),
    );
    expect(alone).toMatchObject({
      name: "TimeoutError",
      syscall: "connect",
      address: "127.0.0.1",
      port: first.address.port,
    });
    expect(openDescriptors()).toBe(before);
  });

  test("an abort leaves nothing open", async () => {
    using silent = new Silent();
    const before = openDescriptors();
    const controller = new AbortController();
    const addresses = [silent.address, silent.address];
    const running = race(addresses, planWith({ staggerMs: 0, signal: controller.signal }));
    await until(() => openDescriptors() === before + 2, "both have begun");
    controller.abort("enough");
    expect(await soon([running])).toEqual(["enough"]);
    expect(openDescriptors()).toBe(before);
  });

  test("a family that the kernel does not have is passed over", async () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    const { socket } = libc;
    using _ = replaceEntry("socket", (...values: Parameters<typeof socket>) =>
      values[0] === 10 ? failWith(EAFNOSUPPORT) : socket(...values),
    );
    const addresses = [addressOf("[::1]:9"), listener.localAddress];
    using connected = await race(addresses, planWith(WAIT));
    expect(connected.family).toBe("ipv4");
  });
});

describe("connectInOrder()", () => {
  test("asks one after the other, and gives the first that answers", () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    using other = TcpListener.listen("127.0.0.2:0");
    const before = openDescriptors();
    {
      const addresses = [closedPort(), listener.localAddress, other.localAddress];
      using socket = connectInOrder(addresses, planWith(WAIT));
      expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
      expect(openDescriptors()).toBe(before + 1);
    }
    expect(other.tryAccept()).toBeUndefined();
  });

  test("tells every attempt", () => {
    const before = openDescriptors();
    const addresses = [closedPort(), closedPort("[::1]")];
    const error = caught(() => connectInOrder(addresses, planWith())) as ConnectError;
    expect(error).toBeInstanceOf(ConnectError);
    expect(error.errors.map(({ destination, code }) => [destination, code])).toEqual(
      addresses.map((address) => [`${address}`, "ECONNREFUSED"]),
    );
    const alone = caught(() =>
      connectInOrder([addresses[0] as InetAddress], planWith({ name: undefined })),
    );
    expect(alone).toMatchObject({
      name: "SystemError",
      code: "ECONNREFUSED",
      address: "127.0.0.1",
    });
    expect(openDescriptors()).toBe(before);
  });

  test("has a limit for each attempt, and one for all", () => {
    using silent = new Silent();
    using listener = TcpListener.listen("127.0.0.1:0");
    const before = openDescriptors();
    {
      const addresses = [silent.address, listener.localAddress];
      using socket = connectInOrder(addresses, planWith({ attemptTimeoutMs: 20, ...WAIT }));
      expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
    }
    const addresses = [closedPort(), silent.address, listener.localAddress];
    const error = caught(() => connectInOrder(addresses, planWith({ timeoutMs: 30 })));
    expect(error).toBeInstanceOf(TimeoutError);
    expect((error.cause as ConnectError).errors.map(({ code }) => code)).toEqual([
      "ECONNREFUSED",
      "ETIMEDOUT",
    ]);
    expect(openDescriptors()).toBe(before);
  });

  test("counts the total time over all attempts", () => {
    using silent = new Silent();
    const addresses = Array.from({ length: 50 }, () => silent.address);
    let opened = 0;
    const open = (address: InetAddress) => {
      opened++;
      return TcpSocket.open(address);
    };
    const plan = planWith({ open, attemptTimeoutMs: 10, timeoutMs: 35 });
    expect(caught(() => connectInOrder(addresses, plan))).toBeInstanceOf(TimeoutError);
    expect(opened).toBeLessThan(6);
  });

  test("asks nobody more when the time is over", () => {
    let opened = 0;
    const open = (address: InetAddress) => {
      opened++;
      const end = performance.now() + 6;
      while (performance.now() < end);
      return TcpSocket.open(address);
    };
    const addresses = [closedPort(), closedPort()];
    const error = caught(() => connectInOrder(addresses, planWith({ open, timeoutMs: 5 })));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(opened).toBe(1);
  });

  test("goes on after a signal", () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    const { connect, poll } = libc;
    let connects = 0;
    using _connect = replaceEntry("connect", (...values: Parameters<typeof connect>) => {
      const result = connect(...values);
      return ++connects === 1 ? failWith(EINTR) : result;
    });
    let polls = 0;
    using _poll = replaceEntry("poll", (...values: Parameters<typeof poll>) =>
      ++polls === 1 ? failWith(EINTR) : poll(...values),
    );
    using socket = connectInOrder([listener.localAddress], planWith(WAIT));
    expect(`${socket.remoteAddress}`).toBe(`${listener.localAddress}`);
  });

  test("what is no system error is thrown as it is", () => {
    const thrown = new RangeError("of the caller's making");
    const open = () => {
      throw thrown;
    };
    expect(caught(() => connectInOrder([closedPort(), closedPort()], planWith({ open })))).toBe(
      thrown,
    );
  });
});
