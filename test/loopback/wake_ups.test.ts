/**
 * No wake-up is lost: events come from another process, one after the other and in bursts, while
 * the loop sleeps, goes to sleep, or closes and opens sockets under the same numbers. Nothing but
 * the ringer wakes it: meanwhile the poller sets no timer. A watchdog is in the other process.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { io_uring_setup } from "../../lib/sys/io_uring.ts";
import { close } from "../../lib/sys/unistd.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import type { FaultName } from "../soak/faults.ts";
import { PLACEMENTS, type Placement, stepsOf } from "../soak/placements.ts";
import {
  allowedCores,
  PATTERNS,
  type PatternName,
  type Result,
  type Ringer,
  run,
  Source,
  WATCHDOG_MS,
} from "../soak/run.ts";
import soaked from "../soak.json" with { type: "json" };
import { type Missing, requires, testIf } from "../support/require.ts";

const EVENTS = 200_000;
const TIMER_EVENTS = 20_000;
/** A timer answers at once all that has come. One event at a time would take it a minute. */
const TIMER_BURST = 16;
const SOAK_EVENTS = 5_000_000;
const LIMIT_MS = 300_000;

/** How many events of a hundred have to find the thread asleep. It works while a burst comes. */
const ASLEEP: Readonly<Record<string, number>> = {
  "one core": 50,
  "two cores": 20,
  "many sockets": 5,
  bursts: 2,
  "closed and reopened": 5,
};
const FORMS = 8;

const cores = allowedCores();

let source: Source;
const tools = requires("gcc", "taskset");
beforeAll(() => {
  if (!tools) source = new Source();
});
afterAll(() => source?.[Symbol.dispose]());

function missingFor(ringer: Ringer, twoCores = false): Missing {
  if (tools) return tools;
  if (twoCores && cores.length < 2) return "needs two cores";
  return ringer === "io_uring" ? missingRing() : undefined;
}

function missingRing(): Missing {
  const fd = io_uring_setup(1, new Uint8Array(new ArrayBuffer(io_uring_params.size)));
  if (fd < 0) return "needs io_uring";
  close(fd);
  return undefined;
}

async function answersOf(placement: Placement, ringer: Ringer, events: number): Promise<Result[]> {
  const results: Result[] = [];
  for (const step of stepsOf(placement, ringer, events, cores)) {
    const runs = step.map((each) =>
      run(source, ringer === "timer" ? { ...each, burst: TIMER_BURST } : each),
    );
    results.push(...(await Promise.all(runs)));
  }
  return results;
}

const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

describe.each([
  ["io_uring", EVENTS],
  ["thread", EVENTS],
  ["timer", TIMER_EVENTS],
] as const)("no wake-up is lost by %s", (ringer, events) => {
  for (const placement of PLACEMENTS) {
    const { name, pattern, oneCore } = placement;
    const missing = missingFor(ringer, !oneCore);
    const title = `in ${events.toLocaleString("en")} events: ${name}`;
    testIf(missing)(
      title,
      async () => {
        const results = await answersOf(placement, ringer, events);
        for (const result of results) expectSound(result, ringer);
        const sum = (key: "answered" | "wakeUps" | "sleeps" | "reopened" | "waitedForRoom") =>
          total(results.map((result) => result[key]));
        const seen = JSON.stringify(results);
        expect(sum("answered"), seen).toBeGreaterThanOrEqual(events);
        expect(sum("wakeUps"), seen).toBeGreaterThan(0);
        if (pattern === "bursts") expect(sum("waitedForRoom"), seen).toBeGreaterThan(0);
        if (PATTERNS[pattern].reopenEvery > 0) expect(sum("reopened"), seen).toBeGreaterThan(0);
        if (ringer === "timer") return;
        const asleep = (100 * Math.min(sum("sleeps"), sum("wakeUps"))) / sum("answered");
        expect(asleep, seen).toBeGreaterThan(ASLEEP[name] as number);
        for (const { received } of results) expect(Object.keys(received), seen).toHaveLength(FORMS);
      },
      LIMIT_MS,
    );
  }
});

function expectSound(result: Result, ringer: Ringer): void {
  const seen = JSON.stringify(result);
  // What was chosen in the beginning works to the end.
  expect(result, seen).toMatchObject({ ringer, refusals: [] });
  expect(result.answered + result.voided, seen).toBe(result.sent);
  expect(result.strange, seen).toBe(0);
  expect(result.longestMs, seen).toBeLessThan(WATCHDOG_MS);
  const received = total(Object.values(result.received));
  expect(received, seen).toBeGreaterThanOrEqual(result.answered);
  expect(received, seen).toBeLessThanOrEqual(result.sent);
  expect(result.numbersUsedAgain, seen).toBeGreaterThanOrEqual(0.9 * result.reopened);
  // Nothing else could have woken the poller.
  expect(result.alarms, seen).toBe(0);
  expect(result.timers, seen).toBe(result.ringerTimers);
  if (ringer === "timer") expect(result.timers, seen).toBeGreaterThan(0);
  else expect(result.timers, seen).toBe(0);
}

interface Planted {
  readonly fault: FaultName;
  readonly ringer: Ringer;
  readonly pattern: PatternName;
  readonly found: RegExp;
}

const LOST =
  /: a wake-up is lost: (event \d+, to socket \d+, (was not answered|could not be sent) for \d{4} ms|only \d+ of \d+ sockets have said hello)/;
const PLANTED: readonly Planted[] = [
  { fault: "io_uring is not armed", ringer: "io_uring", pattern: "one socket", found: LOST },
  { fault: "the thread is not armed", ringer: "thread", pattern: "one socket", found: LOST },
  ...(["io_uring", "thread", "timer"] as const).flatMap((ringer): Planted[] => [
    { fault: "events are fetched and forgotten", ringer, pattern: "many sockets", found: LOST },
    {
      fault: "a socket is not added to the set",
      ringer,
      pattern: "closed and reopened",
      found: LOST,
    },
  ]),
  {
    fault: "io_uring rings only when it is entered",
    ringer: "io_uring",
    pattern: "one socket",
    found: /io_uring: it was not heard within 2000 ms/,
  },
];

describe("a lost wake-up is found", () => {
  const messages = new Map<Planted, Promise<unknown>>();

  // Side by side: each waits for the watchdog most of the time.
  beforeAll(() => {
    const core = cores[0] as number;
    for (const planted of PLANTED) {
      const { ringer, pattern, fault } = planted;
      if (missingFor(ringer)) continue;
      const running = run(source, { ringer, pattern, fault, events: EVENTS, cores: [core, core] });
      messages.set(
        planted,
        running.then(JSON.stringify, (error: Error) => error.message),
      );
    }
  });

  for (const planted of PLANTED) {
    const { ringer, fault, found } = planted;
    const check = async () => expect(await messages.get(planted)).toMatch(found);
    testIf(missingFor(ringer))(`with ${ringer}, when ${fault}`, check, LIMIT_MS);
  }
});

describe("npm run soak", () => {
  test.each(["io_uring", "thread"] as const)(
    "has lost nothing over %s when it last ran",
    (name) => {
      const { answered, longestWaitMs, wakeUps, sleeps, lost, placements } = soaked.ringers[name];
      expect(lost).toEqual([]);
      expect(answered).toBeGreaterThanOrEqual(SOAK_EVENTS);
      expect(longestWaitMs).toBeLessThan(WATCHDOG_MS);
      expect(Math.min(wakeUps, sleeps)).toBeGreaterThan(answered / 10);
      expect(Object.keys(placements)).toEqual(PLACEMENTS.map((placement) => placement.name));
    },
  );
});
