/**
 * Peers that are gone: what they leave on a datagram socket wakes whom it concerns, once, and harms
 * nobody else. With each ringer, because each has its own way to ring for ever.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type Address,
  DatagramBatch,
  IpOption,
  poll,
  poller,
  type SystemError,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { close, errorName, io_uring_setup } from "bun-sockets/sys";
import { engine } from "../../lib/internal/poller_engine.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { systemErrorOf } from "../support/errors.ts";
import { replaceLibc } from "../support/faults.ts";
import { type Missing, testIf } from "../support/require.ts";
import { until } from "./helper_thread.ts";

type AnyDatagramSocket = UdpSocket | UnixDatagramSocket;

const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const LOOPBACK = "127.0.0.1:0";
const RINGERS = ["io_uring", "thread", "timer"] as const;
const LIMIT_MS = 10_000;
const CHILD_MS_MAX = 20_000;
const WAIT = { timeoutMs: LIMIT_MS };
const QUIET_MS = 60;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

function whyNoIoUring(): Missing {
  const fd = io_uring_setup(1, new DataView(new ArrayBuffer(io_uring_params.size)));
  if (fd < 0) return `needs io_uring, and io_uring_setup says ${errorName(fd)}`;
  close(fd);
  return undefined;
}

const WITHOUT: Readonly<Record<string, Missing>> = { io_uring: whyNoIoUring() };

const open = new Set<Disposable>();

/** Closes it after the test. */
function kept<Kept extends Disposable>(socket: Kept): Kept {
  open.add(socket);
  return socket;
}

const udp = () => kept(UdpSocket.bind(LOOPBACK));
const unix = () => kept(UnixDatagramSocket.bind(UnixAddress.unnamed));

/** An address that nobody has any more. */
function deadAddress(): UdpSocket["localAddress"] {
  using socket = UdpSocket.bind(LOOPBACK);
  return socket.localAddress;
}

async function expectSoon(condition: () => boolean): Promise<void> {
  expect(await until(condition, LIMIT_MS)).toBeDefined();
}

/** What a promise says. By itself a wait would look once more at its deadline. */
async function inTime<Result>(promise: Promise<Result>): Promise<Result> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error("It was not answered")), LIMIT_MS);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}

/** Lets the poller fall asleep, as far as it does. */
async function settle(): Promise<void> {
  for (let last = poller.counters; ; last = poller.counters) {
    await Bun.sleep(10);
    if (Bun.deepEquals(poller.counters, last)) return;
  }
}

/** That nothing goes round and round: neither wake-ups, nor receives, nor a thread. */
async function expectQuiet(): Promise<void> {
  await settle();
  const names = ["recv", "recvfrom", "recvmmsg", "epoll_wait", "epoll_ctl"] as const;
  const before = poller.counters;
  let busyMs = 0;
  // The engine itself may be busy with what was before. What spins does not end.
  for (let tries = 0; tries < 5; tries++) {
    using stack = new DisposableStack();
    const faults = names.map((name) => stack.use(replaceLibc(name, (real) => real)));
    const cpu = process.cpuUsage();
    await Bun.sleep(QUIET_MS);
    const { user, system } = process.cpuUsage(cpu);
    expect(poller.counters).toEqual(before);
    expect(faults.map(({ calls }) => calls)).toEqual(names.map(() => 0));
    busyMs = (user + system) / 1000;
    if (busyMs < QUIET_MS / 3) return;
  }
  expect(busyMs).toBeLessThan(QUIET_MS / 3);
}

const { BUN_SOCKETS_RINGER } = process.env;

function force(ringer: string | undefined): void {
  if (ringer === undefined) delete process.env["BUN_SOCKETS_RINGER"];
  else process.env["BUN_SOCKETS_RINGER"] = ringer;
}

/** Stops the poller, and starts it with this ringer. */
async function use(ringer: string): Promise<void> {
  force(ringer);
  // A busy machine may need longer than a bell may take to be heard.
  for (let left = 5; left > 0 && poller.ringer !== ringer; left--) {
    engine.stop();
    using socket = UdpSocket.bind(LOOPBACK);
    let hasFailed = false;
    socket.receive(new Uint8Array(1)).catch(() => {
      hasFailed = true;
    });
    await expectSoon(() => poller.ringer !== undefined || hasFailed);
  }
  expect(poller.ringer as string).toBe(ringer);
}

beforeEach(() => {
  expect(poller.counters.waiters).toBe(0);
});

afterEach(() => {
  for (const socket of open) socket[Symbol.dispose]();
  open.clear();
  force(BUN_SOCKETS_RINGER);
  expect(poller.counters.waiters).toBe(0);
});

/** What happens to a socket that waits, and how it goes on. */
interface Case {
  readonly what: string;
  readonly make: () => {
    readonly socket: AnyDatagramSocket;
    readonly happens: () => unknown;
    /** The codes that a receive may fail with, once; none where it just waits on. */
    readonly fails: readonly string[];
    /** Sends "again" to the socket; undefined where nothing can come any more. */
    readonly again?: () => unknown;
  };
}

function connectedTo(address: UdpSocket["localAddress"]): UdpSocket {
  const socket = udp();
  socket.connectSync(address);
  return socket;
}

/** Binds the address of a peer that is gone, and sends from there. */
function revive(address: UdpSocket["localAddress"], socket: UdpSocket): void {
  kept(UdpSocket.bind(address)).sendToSync("again", socket.localAddress);
}

function shutDownUdp(direction: "read" | "write" | "both"): Case {
  return {
    what: `UDP, shut down for ${direction}`,
    make() {
      const peer = udp();
      const socket = connectedTo(peer.localAddress);
      return {
        socket,
        happens: () => socket.shutdown(direction),
        fails: [],
        again: () => peer.sendToSync("again", socket.localAddress),
      };
    },
  };
}

const CASES: readonly Case[] = [
  ...[false, true].map(
    (receiveErrors): Case => ({
      what: `UDP, connected to a dead port, with IP_RECVERR ${receiveErrors ? "on" : "off"}`,
      make() {
        const address = deadAddress();
        const socket = connectedTo(address);
        socket.setOption(IpOption.receiveErrors, receiveErrors);
        return {
          socket,
          happens: () => socket.sendSync("refused"),
          fails: ["ECONNREFUSED"],
          again: () => revive(address, socket),
        };
      },
    }),
  ),
  {
    what: "UDP, not connected, after a send to a dead port",
    make() {
      const socket = udp();
      return {
        socket,
        happens: () => socket.sendToSync("refused", deadAddress()),
        fails: [],
        again: () => udp().sendToSync("again", socket.localAddress),
      };
    },
  },
  {
    what: "UDP, not connected, after sends to dead ports, with IP_RECVERR on",
    make() {
      const socket = udp();
      socket.setOption(IpOption.receiveErrors, true);
      return {
        socket,
        happens() {
          for (let i = 0; i < 5; i++)
            try {
              socket.sendToSync("refused", deadAddress());
            } catch (error) {
              // That of an earlier one, which nobody has fetched yet.
              expect((error as SystemError).code).toBe("ECONNREFUSED");
            }
        },
        fails: ["ECONNREFUSED"],
        again: () => udp().sendToSync("again", socket.localAddress),
      };
    },
  },
  shutDownUdp("read"),
  shutDownUdp("write"),
  shutDownUdp("both"),
  {
    what: "UDP, not connected, shut down for both",
    make() {
      const socket = udp();
      return {
        socket,
        // Linux shuts it down, and says that there is nothing to shut down.
        happens: () => expect(systemErrorOf(() => socket.shutdown("both")).code).toBe("ENOTCONN"),
        fails: [],
        again: () => udp().sendToSync("again", socket.localAddress),
      };
    },
  },
  {
    what: "a Unix socket whose peer is closed",
    make() {
      const [socket, peer] = [unix(), unix()];
      socket.connectSync(peer.localAddress);
      peer.connectSync(socket.localAddress);
      return {
        socket,
        happens: () => peer.close(),
        fails: [],
        again() {
          // Nobody else could reach it as long as it had a peer.
          expect(systemErrorOf(() => socket.sendSync("refused")).code).toBe("ECONNREFUSED");
          unix().sendToSync("again", socket.localAddress);
        },
      };
    },
  },
  {
    what: "a Unix socket whose peer has taken another peer",
    make() {
      const [socket, peer, other] = [unix(), unix(), unix()];
      socket.connectSync(peer.localAddress);
      peer.connectSync(socket.localAddress);
      return {
        socket,
        happens() {
          // Only then is it told: what it has sent is lost.
          socket.sendSync("unread");
          peer.connectSync(other.localAddress);
        },
        fails: ["ECONNRESET"],
        again() {
          peer.disconnect();
          peer.sendToSync("again", socket.localAddress);
        },
      };
    },
  },
  ...(["read", "both"] as const).map(
    (direction): Case => ({
      what: `a Unix socket, shut down for ${direction}`,
      make() {
        const [socket, peer] = [unix(), unix()];
        socket.connectSync(peer.localAddress);
        peer.connectSync(socket.localAddress);
        // Nothing can come any more.
        return { socket, happens: () => socket.shutdown(direction), fails: [] };
      },
    }),
  ),
  {
    what: "one of a pair of Unix sockets, the other of which is shut down and closed",
    make() {
      const [socket, peer] = UnixDatagramSocket.pair();
      kept(socket);
      kept(peer);
      return {
        socket,
        happens() {
          peer.shutdown("both");
          peer.close();
        },
        fails: [],
      };
    },
  },
];

/** A way to wait, which says what it gets and what it fails with. */
interface Form {
  readonly name: string;
  readonly wait: (socket: AnyDatagramSocket, log: string[]) => { stop(): void };
}

/** Does it again and again until it is stopped, and says what comes of it. */
function repeat(log: string[], step: (signal: AbortSignal) => Promise<string>): { stop(): void } {
  const controller = new AbortController();
  const { signal } = controller;
  const loop = async () => {
    while (!signal.aborted)
      try {
        log.push(await step(signal));
      } catch (error) {
        if (!signal.aborted) log.push((error as SystemError).code);
      }
  };
  loop();
  return { stop: () => controller.abort() };
}

const FORMS: readonly Form[] = [
  {
    name: "receive()",
    wait(socket, log) {
      const target = Buffer.alloc(16);
      return repeat(log, async (signal) =>
        target.toString("utf8", 0, await socket.receive(target, { signal })),
      );
    },
  },
  {
    name: "batches()",
    wait(socket, log) {
      return repeat(log, async (signal) => {
        for await (const batch of socket.batches({ capacity: 1, signal }))
          return Buffer.from(batch.view(0)).toString();
        return "the end";
      });
    },
  },
  {
    name: "onBatch()",
    wait(socket, log) {
      return socket.onBatch(
        (batch) => {
          for (let i = 0; i < batch.count; i++) log.push(Buffer.from(batch.view(i)).toString());
        },
        { error: ({ code }) => log.push(code) },
      );
    },
  },
];

/** One of the cases, under way. */
class Attempt {
  readonly #case: Case;
  readonly #made: ReturnType<Case["make"]>;
  readonly #log: string[] = [];

  constructor(one: Case, { wait }: Form) {
    this.#case = one;
    this.#made = one.make();
    const waiting = wait(this.#made.socket, this.#log);
    kept({ [Symbol.dispose]: () => waiting.stop() });
  }

  happens(): void {
    expect(this.#log).toEqual([]);
    this.#made.happens();
  }

  /** That it has failed as it may, and no more often than once for each of five. */
  expectFailure(): void {
    expect([this.#case.what, ...new Set(this.#log)]).toEqual([
      this.#case.what,
      ...this.#made.fails,
    ]);
    expect(this.#log.length).toBeLessThanOrEqual(5);
    this.#log.length = 0;
  }

  /** Has something come for it, and waits until it has got that. */
  async goOn(): Promise<void> {
    const { again, fails } = this.#made;
    if (!again) return;
    again();
    await expectSoon(() => this.#log.includes("again"));
    expect(this.#log.filter((text) => text !== "again" && !fails.includes(text))).toEqual([]);
  }
}

describe.each(FORMS)("$name, where it alone waits,", (form) => {
  test.each(CASES)("waits on, and does not spin: $what", async (one) => {
    const attempt = new Attempt(one, form);
    await settle();
    attempt.happens();
    await expectQuiet();
    attempt.expectFailure();
    await attempt.goOn();
    await expectQuiet();
  });
});

for (const ringer of RINGERS)
  describe(`with ${ringer}`, () => {
    const register = testIf(WITHOUT[ringer]);

    for (const form of FORMS)
      register(`${form.name} waits on, and does not spin, for all of these at a time`, async () => {
        await use(ringer);
        const attempts = CASES.map((one) => new Attempt(one, form));
        await settle();
        for (const attempt of attempts) attempt.happens();
        await expectQuiet();
        for (const attempt of attempts) attempt.expectFailure();
        // Others are served as well.
        const other = udp();
        const received = other.receiveBytes(16, WAIT);
        await settle();
        udp().sendToSync("other", other.localAddress);
        expect(Buffer.from(await inTime(received)).toString()).toBe("other");
        for (const attempt of attempts) await attempt.goOn();
        await expectQuiet();
      });

    register("nobody who waits leaves nothing that spins", async () => {
      await use(ringer);
      // Somebody else keeps the bell armed.
      udp().onBatch(() => {});
      for (const { make } of CASES) {
        const { socket, happens } = make();
        // It has waited once, so it is in the set.
        const late = socket.receive(new Uint8Array(1), { timeoutMs: 5 });
        await expect(late).rejects.toThrow(TimeoutError);
        const { wakeUps } = poller.counters;
        happens();
        await settle();
        expect(poller.counters.wakeUps - wakeUps).toBeLessThanOrEqual(1);
      }
      await expectQuiet();
    });
  });

test("a handler without `error` passes over what a peer has refused", async () => {
  const address = deadAddress();
  const socket = connectedTo(address);
  let received = 0;
  const handler = socket.onBatch((batch) => {
    received += batch.count;
  });
  for (let i = 0; i < 10; i++) {
    try {
      socket.sendSync("refused");
    } catch (error) {
      expect((error as SystemError).code).toBe("ECONNREFUSED");
    }
    await turn();
  }
  expect(handler.paused).toBe(false);
  revive(address, socket);
  await expectSoon(() => received === 1);
  expect(handler.paused).toBe(false);
  handler.stop();
});

describe("a peer's error", () => {
  test("reaches the socket of that peer, and no other", async () => {
    const [dead, live] = [deadAddress(), udp()];
    const [near, far] = [connectedTo(dead), connectedTo(live.localAddress)];
    const target = new Uint8Array(16);
    const toDead = near.receive(target, WAIT);
    const toLive = far.receive(target, WAIT);
    await turn();
    near.sendSync("refused");
    await expect(toDead).rejects.toMatchObject({ code: "ECONNREFUSED", syscall: "recv" });
    live.sendToSync("live", far.localAddress);
    expect(await inTime(toLive)).toBe(4);
  });

  test("reaches the first who waits, and the others wait on", async () => {
    const address = deadAddress();
    const socket = connectedTo(address);
    const waits = Array.from({ length: 3 }, () => socket.receiveBytes(16, WAIT));
    const results = waits.map((wait) =>
      wait.then(
        (bytes) => Buffer.from(bytes).toString(),
        (error) => error.code,
      ),
    );
    await turn();
    socket.sendSync("refused");
    expect(await inTime(results[0] as Promise<string>)).toBe("ECONNREFUSED");
    for (let i = 0; i < 5; i++) await turn();
    expect(poller.counters.waiters).toBe(2);
    const revived = kept(UdpSocket.bind(address));
    for (const text of ["second", "third"]) revived.sendToSync(text, socket.localAddress);
    expect(await inTime(Promise.all(results))).toEqual(["ECONNREFUSED", "second", "third"]);
  });

  test("is told by poll() as an error, and fetched by the next call", async () => {
    const socket = connectedTo(deadAddress());
    const waiting = poll([udp(), socket], WAIT);
    await turn();
    socket.sendSync("refused");
    const [result, ...others] = await inTime(waiting);
    expect(others).toEqual([]);
    expect(result?.socket).toBe(socket);
    expect(result?.error).toBe(true);
    await expect(socket.receive(new Uint8Array(1), WAIT)).rejects.toMatchObject({
      code: "ECONNREFUSED",
    });
    await expect(poll([socket], { timeoutMs: 20 })).rejects.toThrow(TimeoutError);
  });

  test("does not reach those who wait when the socket has another peer", async () => {
    const live = udp();
    const socket = connectedTo(deadAddress());
    const waiting = socket.receive(new Uint8Array(16), WAIT);
    await settle();
    // The refusal is there before the next line.
    socket.sendSync("refused");
    socket.connectSync(live.localAddress);
    live.sendToSync("live", socket.localAddress);
    expect(await inTime(waiting)).toBe(4);
  });

  test("does not swallow what is queued already", async () => {
    const address = deadAddress();
    const peer = UdpSocket.bind(address);
    const socket = connectedTo(address);
    for (const text of ["one", "two"]) peer.sendToSync(text, socket.localAddress);
    peer.close();
    socket.sendSync("refused");
    const texts: string[] = [];
    const { stop } = (FORMS[0] as Form).wait(socket, texts);
    await expectSoon(() => texts.length >= 3);
    stop();
    expect(texts.toSorted()).toEqual(["ECONNREFUSED", "one", "two"]);
    await turn();
  });

  test("fails no other slot of a batch, also with IP_RECVERR on", async () => {
    const live = udp();
    const socket = udp();
    socket.setOption(IpOption.receiveErrors, true);
    using batch = new DatagramBatch({ capacity: 32, slotBytes: 16 });
    for (let round = 0; round < 5; round++) {
      batch.count = batch.capacity;
      let healthy = 0;
      for (let i = 0; i < batch.count; i++) {
        const isDead = i % 5 === 1;
        if (!isDead) healthy++;
        batch.write(i, `slot ${i}`);
        batch.setAddress(i, isDead ? deadAddress() : live.localAddress);
      }
      expect(await socket.sendBatch(batch, 0, WAIT)).toBe(batch.count);
      expect(batch.stopped).toBeUndefined();
      expect(batch.failed).toBe(0);
      for (let i = 0; i < healthy; i++)
        expect(`${Buffer.from(await live.receiveBytes(16, WAIT))}`).toStartWith("slot ");
    }
  });

  test("fails the send that waits for its room, and not those behind it", async () => {
    const [dead, live] = [unix(), unix()];
    const socket = kept(UnixDatagramSocket.open());
    const data = Buffer.from("data");
    while (socket.trySendTo(data, dead.localAddress) !== undefined);
    const toDead = socket.sendTo(data, dead.localAddress, WAIT);
    const toLive = socket.sendTo(data, live.localAddress, WAIT);
    await turn();
    expect(poller.counters.waiters).toBe(2);
    dead.close();
    await expect(inTime(toDead)).rejects.toMatchObject({ code: "ECONNREFUSED", syscall: "sendto" });
    expect(await inTime(toLive)).toBe(4);
    expect(live.receiveSync(Buffer.alloc(8), WAIT)).toBe(4);
  });

  test("fails the sends of a connected Unix socket that wait when its peer goes", async () => {
    const peer = unix();
    const socket = unix();
    socket.connectSync(peer.localAddress);
    const data = Buffer.from("data");
    while (socket.trySend(data) !== undefined);
    const receiving = socket.receive(Buffer.alloc(8), WAIT);
    const sending = socket.send(data, WAIT);
    await settle();
    peer.close();
    await expect(inTime(sending)).rejects.toMatchObject({ code: "ECONNREFUSED", syscall: "send" });
    // What waits for others goes on waiting.
    expect(poller.counters.waiters).toBe(1);
    unix().sendToSync("other", socket.localAddress);
    expect(await inTime(receiving)).toBe(5);
  });
});

/** Runs a program in a process of its own, which a throw or a report would end. */
async function expectRuns(ringer: string, script: string, says: unknown): Promise<void> {
  const child = Bun.spawn([process.execPath, "-e", script], {
    env: {
      ...process.env,
      BUN_SOCKETS_RINGER: ringer,
      BUN_SOCKETS_DOORBELL: "",
      BUN_SOCKETS_LEAKS: "",
    },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: CHILD_MS_MAX,
    killSignal: "SIGKILL",
  });
  const [text, errors, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  expect({ errors, exitCode }).toEqual({ errors: "", exitCode: 0 });
  expect(JSON.parse(text)).toEqual(says as object);
}

// What answers each datagram with itself, by each form.
const SERVERS: Readonly<Record<string, string>> = {
  "promise forms": `
    const target = new Uint8Array(2048);
    while (true) {
      const { length, address } = await server.receiveFrom(target);
      await server.sendTo(target.subarray(0, length), address);
      served++;
    }`,
  "batch promise forms": `
    const batch = new DatagramBatch({ capacity: 16 });
    while (true) {
      served += await server.receiveBatch(batch);
      failed += batch.count - await server.sendBatch(batch);
    }`,
  "batches()": `
    for await (const batch of server.batches({ capacity: 16 })) {
      served += batch.count;
      failed += batch.count - await server.sendBatch(batch);
    }`,
  "onBatch()": `
    server.onBatch((batch) => {
      served += batch.count;
      failed += batch.count - server.trySendBatch(batch);
    });
    await new Promise(() => {});`,
};

for (const ringer of RINGERS)
  describe(`with ${ringer}`, () => {
    const register = testIf(WITHOUT[ringer]);

    // The program of https://github.com/oven-sh/bun/pull/35922: the answer comes to a closed port, and
    // what the kernel says of that ends a server on Bun.udpSocket.
    for (const [form, server] of Object.entries(SERVERS))
      register(`an echo server by ${form} outlives clients that close early`, () =>
        expectRuns(
          ringer,
          `import { DatagramBatch, UdpSocket } from ${INDEX};
          const server = UdpSocket.bind("127.0.0.1:0").unref();
          let served = 0;
          let failed = 0;
          (async () => {${server}})();
          const early = 50;
          for (let i = 0; i < early; i++) {
            const client = await Bun.udpSocket({ hostname: "127.0.0.1" });
            client.send("q", server.localAddress.port, "127.0.0.1");
            client.close();
            await new Promise(setImmediate);
          }
          const live = UdpSocket.open("ipv4");
          const answers = [];
          for (let i = 0; i < 5; i++) {
            await live.sendTo("live " + i, server.localAddress);
            answers.push(\`\${Buffer.from(await live.receiveBytes(16, { timeoutMs: 5000 }))}\`);
          }
          console.log(JSON.stringify({ served, failed, answers }));`,
          {
            served: 55,
            failed: 0,
            answers: ["live 0", "live 1", "live 2", "live 3", "live 4"],
          },
        ),
      );

    // The program of https://github.com/oven-sh/bun/pull/36249: the send to the live peer throws
    // ECONNREFUSED there, and its datagram is lost.
    register("a send to a live peer is not harmed by one to a dead peer before it", () =>
      expectRuns(
        ringer,
        `import { DatagramBatch, UdpSocket } from ${INDEX};
        const got = [];
        const live = UdpSocket.bind("127.0.0.1:0");
        const handler = live.onBatch((batch) => {
          for (let i = 0; i < batch.count; i++) got.push(String(Buffer.from(batch.view(i))));
        });
        const gone = UdpSocket.bind("127.0.0.1:0");
        const dead = gone.localAddress;
        gone.close();
        const socket = UdpSocket.bind("127.0.0.1:0");
        const errors = [];
        // Somebody waits meanwhile, whom it does not concern either.
        const waiting = socket.receive(new Uint8Array(8)).catch((error) => errors.push(error.code));
        const arrived = async (count) => {
          for (let i = 0; got.length < count && i < 1000; i++) await Bun.sleep(1);
          return got.splice(0).length;
        };
        const arrivals = [];
        for (let i = 0; i < 50; i++)
          try {
            await socket.sendTo("to-dead", dead);
            await socket.sendTo("victim", live.localAddress);
          } catch (error) {
            errors.push(error.code);
          }
        arrivals.push(await arrived(50));
        for (let i = 0; i < 50; i++)
          try {
            socket.trySendTo(Buffer.from("to-dead"), dead);
            socket.trySendTo(Buffer.from("victim"), live.localAddress);
          } catch (error) {
            errors.push(error.code);
          }
        arrivals.push(await arrived(50));
        const batch = new DatagramBatch({ capacity: 11 });
        for (let round = 0; round < 10; round++) {
          batch.count = 11;
          for (let i = 0; i < 11; i++) {
            batch.write(i, "healthy");
            batch.setAddress(i, i === 1 ? dead : live.localAddress);
          }
          const sent = await socket.sendBatch(batch);
          if (sent !== 11 || batch.stopped || batch.failed) errors.push(sent);
        }
        arrivals.push(await arrived(100));
        // Told at once, and not a second time by another call.
        try {
          await socket.sendTo(new Uint8Array(65510), live.localAddress);
        } catch (error) {
          arrivals.push(error.code);
        }
        await Bun.sleep(10);
        await socket.sendTo("last", live.localAddress);
        arrivals.push(await arrived(1));
        live.sendToSync("answer", socket.localAddress);
        arrivals.push(await waiting);
        handler.stop();
        console.log(JSON.stringify({ arrivals, errors }));`,
        { arrivals: [50, 50, 100, "EMSGSIZE", 1, 6], errors: [] },
      ),
    );
  });

describe("1,000 dead peers", () => {
  const DEAD = 1000;
  const LIVE = 20;

  test("take nothing away from the live ones of a server", async () => {
    const server = udp();
    let served = 0;
    let failed = 0;
    const handler = server.onBatch((batch) => {
      served += batch.count;
      failed += batch.count - server.trySendBatch(batch);
    });
    const live = Array.from({ length: LIVE }, udp);
    const texts: string[][] = live.map(() => []);
    for (const [i, socket] of live.entries())
      socket.onBatch((batch) => {
        for (let j = 0; j < batch.count; j++) texts[i]?.push(Buffer.from(batch.view(j)).toString());
      });
    let sent = 0;
    for (let i = 0; i < DEAD; i++) {
      const early = UdpSocket.open("ipv4");
      early.sendToSync("early", server.localAddress);
      early.close();
      sent++;
      if (i % 50 === 0)
        for (const [j, socket] of live.entries()) {
          socket.sendToSync(`${i} of ${j}`, server.localAddress);
          sent++;
        }
      // Not more than its queue can hold.
      if (i % 50 === 49) await expectSoon(() => served === sent);
    }
    const rounds = Array.from({ length: DEAD / 50 }, (_, round) => round * 50);
    await expectSoon(() => texts.every(({ length }) => length >= rounds.length));
    expect(texts).toEqual(live.map((_, j) => rounds.map((i) => `${i} of ${j}`)));
    expect({ served, failed }).toEqual({ served: DEAD + LIVE * rounds.length, failed: 0 });
    expect(handler.paused).toBe(false);
    await expectQuiet();
  });

  test("among live ones in one batch fail nothing of it", async () => {
    const socket = udp();
    const live = Array.from({ length: LIVE }, udp);
    const waits = live.map((one) => one.receiveBytes(16, WAIT));
    const waiting = socket.receive(new Uint8Array(8), WAIT);
    const addresses: Address[] = [];
    for (let i = 0; i < DEAD; i++) addresses.push(deadAddress());
    for (const [i, { localAddress }] of live.entries())
      addresses.splice(i * 51 + 1, 0, localAddress);
    using batch = new DatagramBatch({ capacity: DEAD + LIVE, slotBytes: 16 });
    batch.count = addresses.length;
    for (const [i, address] of addresses.entries()) {
      batch.write(i, `slot ${i}`);
      batch.setAddress(i, address);
    }
    expect(await inTime(socket.sendBatch(batch, 0, WAIT))).toBe(DEAD + LIVE);
    expect(batch.stopped).toBeUndefined();
    expect(batch.failed).toBe(0);
    const received = (await inTime(Promise.all(waits))).map((bytes) => `${Buffer.from(bytes)}`);
    expect(received).toEqual(live.map((_, i) => `slot ${i * 51 + 1}`));
    // Whoever waits hears of none of them.
    live[0]?.sendToSync("live", socket.localAddress);
    expect(await inTime(waiting)).toBe(4);
  });

  test("with Unix addresses fail by themselves, and the live ones get theirs", async () => {
    const socket = unix();
    const live = Array.from({ length: LIVE }, unix);
    const addresses: Address[] = [];
    for (let i = 0; i < DEAD; i++) {
      using dead = UnixDatagramSocket.bind(UnixAddress.unnamed);
      addresses.push(dead.localAddress);
    }
    for (const [i, { localAddress }] of live.entries())
      addresses.splice(i * 51 + 1, 0, localAddress);
    using batch = new DatagramBatch({ capacity: DEAD + LIVE, slotBytes: 16 });
    batch.count = addresses.length;
    for (const [i, address] of addresses.entries()) {
      batch.write(i, `slot ${i}`);
      batch.setAddress(i, address);
    }
    expect(await inTime(socket.sendBatch(batch, 0, WAIT))).toBe(LIVE);
    expect(batch.stopped).toBeUndefined();
    expect(batch.failed).toBe(DEAD);
    for (let i = 0; i < batch.count; i++) {
      const isLive = i % 51 === 1 && i < LIVE * 51;
      expect(batch.failure(i)).toBe(isLive ? undefined : "ECONNREFUSED");
    }
    for (const [i, one] of live.entries())
      expect(`${Buffer.from(await one.receiveBytes(16, WAIT))}`).toBe(`slot ${i * 51 + 1}`);
  });
});
