/**
 * The programs of batches.test.ts that need a process of their own, by the name in the first
 * argument: each prints one line of JSON, and ends by itself or not.
 *
 * @module
 */
import { writeSync } from "node:fs";
import { poller, UdpSocket, UnixDatagramSocket } from "bun-sockets";

/** What a handler that throws has led to. */
export interface Thrown {
  readonly reported: readonly string[];
  readonly pausedAfter: readonly boolean[];
  readonly got: readonly string[];
}

/** What the poller has done while a handler was paused. */
export interface Paused {
  readonly before: object;
  readonly after: object;
  readonly cpuMs: number;
  readonly handled: number;
  readonly left: number;
}

const LOCAL = "127.0.0.1:0";
const LIMIT_MS = 20_000;
const QUIET_MS = 300;

function say(line: unknown): void {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

function open(): { server: UdpSocket; client: UdpSocket } {
  const server = UdpSocket.bind(LOCAL);
  const client = UdpSocket.open(LOCAL);
  client.connectSync(server.localAddress);
  return { server, client };
}

async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Not so within ${LIMIT_MS} ms: ${condition}`);
    await Bun.sleep(1);
  }
}

const MODES = {
  /** Handlers that throw, with somebody who listens for what is reported. */
  async throws() {
    const reported: string[] = [];
    const pausedAfter: boolean[] = [];
    const got: string[] = [];
    process.on("uncaughtException", (error) => reported.push(`${error}`));
    const { server, client } = open();
    const handler = server.onBatch(
      (batch) => {
        const text = `${Buffer.from(batch.view(0))}`;
        got.push(text);
        if (text.startsWith("throw")) throw new RangeError(`planted: ${text}`);
        if (text.startsWith("reject")) return Promise.reject(new RangeError(`planted: ${text}`));
        return undefined;
      },
      { capacity: 1 },
    );
    for (const text of ["one", "throw 1", "two", "reject 1", "three", "throw 2", "four"])
      client.sendSync(text);
    for (let reports = 1; reports <= 3; reports++) {
      await until(() => reported.length === reports);
      pausedAfter.push(handler.paused);
      handler.resume();
    }
    await until(() => got.at(-1) === "four");
    say({ reported, pausedAfter, got } satisfies Thrown);
    server.close();
    client.close();
  },

  /** A handler that throws, and nobody who listens. */
  throwsUnheard() {
    const { server, client } = open();
    server.onBatch(() => {
      throw new RangeError("planted");
    });
    client.sendSync("x");
    setTimeout(() => say("alive"), LIMIT_MS);
  },

  /** Datagrams that come while a handler is paused. */
  async paused() {
    const { server, client } = open();
    let handled = 0;
    const handler = server.onBatch((batch) => {
      handled += batch.count;
    });
    client.sendSync("x");
    await until(() => handled === 1 && poller.ringer !== undefined);
    handler.pause();
    client.sendSync("0");
    // The bell that was armed before may ring once.
    await Bun.sleep(QUIET_MS);
    const before = poller.counters;
    const used = process.cpuUsage();
    for (let i = 1; i < 50; i++) client.sendSync(`${i}`);
    await Bun.sleep(QUIET_MS);
    const { user, system } = process.cpuUsage(used);
    const after = poller.counters;
    let left = 0;
    while (server.tryReceiveBytes(10) !== undefined) left++;
    say({ before, after, cpuMs: (user + system) / 1000, handled, left } satisfies Paused);
    server.close();
    client.close();
  },

  /** Ends by itself although the socket and its handler are open. */
  async pausedExits() {
    const { server, client } = open();
    const handler = server.onBatch(() => say("handled"));
    client.sendSync("x");
    await until(() => poller.ringer !== undefined && !server.tryReceiveBytes(1));
    handler.pause();
    handler.pause();
  },

  /** Does not end by itself: says where it is, and what it gets. */
  serves() {
    const { server } = open();
    server.onBatch((batch) => say(`${Buffer.from(batch.view(0))}`));
    say(`${server.localAddress}`);
  },

  /** What is full before the poller has started: its `drain` waits for room from the first. */
  async drainsFirst() {
    const [full, peer] = UnixDatagramSocket.pair();
    let drains = 0;
    full.onBatch(() => {}, { drain: () => void drains++ });
    let sent = 0;
    while (full.trySend(Buffer.from("x")) !== undefined) sent++;
    await until(() => poller.ringer !== undefined);
    await Bun.sleep(QUIET_MS);
    const before = drains;
    for (let i = 0; i < sent; i++) peer.tryReceiveBytes(1);
    await until(() => drains > 0);
    say([before, drains]);
    full.close();
    peer.close();
  },

  /** Ends by itself: whoever has left its loop waits for nothing. */
  async breaks() {
    const { server, client } = open();
    client.sendSync("x");
    for await (const batch of server.batches()) {
      say(batch.count);
      break;
    }
    client.sendSync("y");
    const iterator = server.batches({ rotate: 2 });
    await iterator.next();
    const waits = iterator.next();
    await iterator.return();
    await waits;
  },

  /** Ends by itself, and without a complaint, when it is closed under a handler that still works. */
  async closesUnder() {
    const { server, client } = open();
    const { promise, resolve } = Promise.withResolvers<void>();
    let texts = "";
    const handler = server.onBatch(async (batch) => {
      texts += Buffer.from(batch.view(0));
      await promise;
      texts += Buffer.from(batch.view(0));
    });
    client.sendSync("x");
    await until(() => texts === "x");
    server.close();
    resolve();
    await until(() => texts === "xx");
    await Bun.sleep(1);
    say([handler.stopped, handler.paused]);
    client.close();
  },
} as const;

export type Mode = keyof typeof MODES;

if (import.meta.main) await MODES[process.argv[2] as Mode]();
