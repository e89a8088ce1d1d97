/**
 * Whether a process lives on or ends while something waits on Bun's loop: `ref` and `unref`, the last
 * wait, exits and signals in mid-wait, and what an idle socket costs. Each in a process of its own,
 * with each way for the poller to work.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { Socket, UdpSocket, UnixDatagramSocket } from "bun-sockets";
import { testIf } from "../support/require.ts";
import { firstLine } from "../support/strangers.ts";
import {
  CASES,
  END_NAMES,
  type Idle,
  LAST_WAIT_NAMES,
  type LastWait,
  type Opened,
  type Random,
  SERVED_ROUNDS,
  type Served,
  type Toggled,
} from "./workers/life.ts";
import { type Ended, ended, pollerOpens, run, start, WAYS, type Way } from "./workers/support.ts";

const PROGRAM = "life.ts";

/** Runs a program that is to end well, and returns the last line that it printed. */
async function lastLine<Value>(mode: string, way?: Way, value = ""): Promise<Value> {
  const { end, lines, errors } = await run(PROGRAM, mode, way, [value]);
  expect({ end, errors }).toEqual({ end: 0, errors: "" });
  return lines.at(-1) as Value;
}

describe("ref and unref", () => {
  test("return the socket", () => {
    using udp = UdpSocket.open("ipv4");
    using unix = UnixDatagramSocket.open();
    using stream = Socket.create("ipv6", "stream");
    for (const socket of [udp, unix, stream]) {
      expect(socket.ref()).toBe(socket);
      expect(socket.unref()).toBe(socket);
      expect(socket.unref().ref().ref()).toBe(socket);
    }
  });

  test("do nothing on a socket that is closed", () => {
    const socket = UdpSocket.open("ipv4");
    socket.close();
    expect(socket.unref()).toBe(socket);
    expect(socket.ref()).toBe(socket);
  });
});

/** How long a program lives on at least when nothing keeps it alive: what Bun takes for its end. */
let emptyMs = Number.POSITIVE_INFINITY;

/** When a program that does not end is ended. */
const LIFE_MS_MAX = 10_000;

async function endingMs(mode: string, way?: Way, name = ""): Promise<[number, LastWait, Ended]> {
  const result = await run(PROGRAM, mode, way, [name], LIFE_MS_MAX);
  const wait = result.lines[0] as LastWait;
  return [result.endedAt - wait.at, wait, result];
}

beforeAll(async () => {
  for (let i = 0; i < 3; i++) {
    const [ms] = await endingMs("empty");
    emptyMs = Math.min(emptyMs, ms);
  }
});

const CODES: Readonly<Record<string, string>> = {
  timedOut: "ETIMEDOUT",
  aborted: "AbortError",
  closed: "EBADF",
  detached: "ECANCELED",
};

/** Those that end while something still waits. */
const WAITING = LAST_WAIT_NAMES.filter((name) => name.startsWith("unref"));
const EXIT_MS_MAX = 100;
// Others use this machine, too: one quick run shows that nothing of ours keeps the process.
const TRIES = 6;

/** How each of the programs ends that end in mid-wait, and what it says about it. */
const EXPECTED_ENDS: Readonly<
  Record<(typeof END_NAMES)[number], { readonly end: number; readonly errors: RegExp }>
> = {
  exitAtOnce: { end: 3, errors: /^$/ },
  exitInMicrotask: { end: 3, errors: /^$/ },
  exitWhileStarting: { end: 3, errors: /^$/ },
  exit: { end: 3, errors: /^$/ },
  exitInAnswer: { end: 4, errors: /^$/ },
  exitInHandler: { end: 5, errors: /^$/ },
  exitInIterator: { end: 6, errors: /^$/ },
  exitInTimeout: { end: 7, errors: /^$/ },
  exitInAbort: { end: 8, errors: /^$/ },
  throwing: { end: 1, errors: /error: planned/ },
  throwingHandler: { end: 1, errors: /error: planned/ },
  rejected: { end: 1, errors: /TimeoutError: recv ETIMEDOUT/ },
};

for (const way of WAYS) {
  const testWay = testIf(way.missing);

  describe(`with ${way.name}`, () => {
    testWay("the poller opens this, and nothing more for each socket", async () => {
      const { ringer, doorbell, opened, more } = await lastLine<Opened>("opened", way);
      const forced = way.env["BUN_SOCKETS_RINGER"];
      expect(doorbell).toBe(forced === "timer" ? undefined : forced ? "socket" : "eventfd");
      if (forced) expect(`${ringer}`).toBe(forced);
      expect(opened).toEqual(pollerOpens(way, `${ringer}`));
      expect(more).toEqual({ socket: 100 });
    });

    for (const name of LAST_WAIT_NAMES) {
      testWay(
        `a program ends within ${EXIT_MS_MAX} ms of an empty one's end after this: ${name}`,
        async () => {
          let bestMs = Number.POSITIVE_INFINITY;
          for (let i = 0; i < TRIES && bestMs > emptyMs + EXIT_MS_MAX; i++) {
            const [ms, wait, { end, errors, lines }] = await endingMs("lastWait", way, name);
            expect({ end, errors }).toEqual({ end: 0, errors: "" });
            expect(wait.code).toBe(CODES[name]);
            expect(lines.slice(1)).toEqual([{ waiters: WAITING.includes(name) ? 1 : 0 }]);
            bestMs = Math.min(bestMs, ms);
          }
          expect(bestMs).toBeLessThan(emptyMs + EXIT_MS_MAX);
        },
      );
    }

    describe("keeps the process alive, or lets it end", () => {
      let outcomes: Record<string, string> | undefined;
      let failure: unknown;

      beforeAll(async () => {
        if (way.missing) return;
        try {
          ({ outcomes } = await lastLine<{ outcomes: Record<string, string> }>("cases", way));
        } catch (error) {
          failure = error;
        }
      });

      for (const [name, [expected]] of Object.entries(CASES)) {
        testWay(`${name}: it ${expected}`, () => {
          if (!outcomes) throw failure;
          expect(`${outcomes[name]}`).toBe(expected);
        });
      }

      testWay("as counted: any order of ref, unref, waits and answers", async () => {
        const seed = 1 + Math.floor(Math.random() * 1_000_000);
        const { rounds, wrong } = await lastLine<Random>("random", way, `${seed}`);
        expect(rounds).toBeGreaterThan(10);
        expect({ seed, wrong }).toEqual({ seed, wrong: [] });
      });
    });

    testWay("a socket that is unref'd gets its datagrams while something else lives", async () => {
      const { forms, waiters } = await lastLine<Served>("served", way);
      expect(Object.keys(forms)).toHaveLength(3);
      for (const { received } of Object.values(forms)) expect(received).toBe(SERVED_ROUNDS);
      expect(waiters).toBe(1);
    });

    testWay("ref and unref cost less than 1 µs", async () => {
      const { inTurn, settled } = await lastLine<Toggled>("toggle", way);
      expect(Object.keys(inTurn)).toEqual(["0", "1", "10"]);
      for (const ns of Object.values(inTurn)) expect(ns).toBeLessThan(1000);
      // And little more where each of them takes effect, but to take an eventfd up again.
      if (way.name !== "eventfd")
        for (const ns of Object.values(settled)) expect(ns).toBeLessThan(10_000);
    });

    for (const name of END_NAMES) {
      const { end, errors } = EXPECTED_ENDS[name];
      testWay(`a program in mid-wait ends as it is told: ${name}`, async () => {
        const found = await run(PROGRAM, name, way, [], LIFE_MS_MAX);
        expect(found).toMatchObject({ end, lines: [] });
        expect(found.errors).toMatch(errors);
        expect(found.errors).not.toMatch(/panic|Segmentation|crash/);
      });
    }

    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      testWay(`a program in mid-wait is ended by ${signal}`, async () => {
        const child = start(PROGRAM, "waiting", way);
        expect(await firstLine(child.stdout)).toBe('"ready"');
        child.kill(signal);
        expect(await ended(child)).toMatchObject({ end: signal, lines: [], errors: "" });
      });
    }

    testWay(
      "a program that closes what waits, in the handler of a signal, ends by itself",
      async () => {
        const child = start(PROGRAM, "closing", way);
        expect(await firstLine(child.stdout)).toBe('"ready"');
        child.kill("SIGTERM");
        expect(await ended(child)).toMatchObject({ end: 0, lines: ["EBADF"], errors: "" });
      },
    );
  });
}

describe("an idle socket", () => {
  const CPU_MS_MAX = 3;
  const IDLE_TRIES = 3;
  const quiet = WAYS.filter(({ name }) => name !== "timer");

  /** What waits, and an empty program that sleeps as long beside it. */
  const results: { sleepMs: number; idle: Record<string, Idle> }[] = [];

  const isQuiet = ({ sleepMs, idle }: (typeof results)[number]) =>
    Object.values(idle).every(({ cpuMs }) => cpuMs - sleepMs <= CPU_MS_MAX);

  beforeAll(async () => {
    for (let i = 0; i < IDLE_TRIES && !results.some(isQuiet); i++) {
      const sleep = lastLine<Idle>("sleep");
      const ways = quiet.filter(({ missing }) => !missing);
      const idle = ways.map(async (way) => [way.name, await lastLine<Idle>("idle", way)]);
      const { cpuMs } = await sleep;
      results.push({ sleepMs: cpuMs, idle: Object.fromEntries(await Promise.all(idle)) });
    }
  }, 60_000);

  for (const way of quiet) {
    const testWay = testIf(way.missing);
    testWay(`moves no counter of the poller in 5 s, with ${way.name}`, () => {
      for (const { idle } of results) {
        expect(idle[way.name]).toMatchObject({
          waiters: 1,
          moved: { wakeUps: 0, events: 0, spurious: 0 },
        });
      }
    });

    testWay(`costs at most ${CPU_MS_MAX} ms of CPU in 5 s, with ${way.name}`, () => {
      const more = results.map(({ sleepMs, idle }) => (idle[way.name]?.cpuMs ?? NaN) - sleepMs);
      expect(Math.min(...more)).toBeLessThanOrEqual(CPU_MS_MAX);
    });
  }
});
