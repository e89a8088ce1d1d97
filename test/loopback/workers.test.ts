/**
 * Workers: each has a poller of its own, ends in mid-wait without harm to the others, and leaves
 * nothing behind but its open sockets, which another thread can take. Each in a process of its own,
 * with each way for the poller to work.
 */
import { describe, expect, test } from "bun:test";
import { testIf } from "../support/require.ts";
import { firstLine } from "../support/strangers.ts";
import { ended, type Kinds, run, start, WAYS, type Way } from "./workers/support.ts";
import {
  type Apart,
  type Claim,
  type Closing,
  type Crowd,
  type Early,
  type Ends,
  HAND_OVERS,
  type HandOver,
  MANY,
  type Terminated,
  type Thousand,
} from "./workers/workers.ts";

const PROGRAM = "workers.ts";

/** Runs a program that is to end well, and returns what it says. */
async function said<Value>(mode: string, way?: Way, limitMs?: number): Promise<Value> {
  const { end, lines, errors } = await run(PROGRAM, mode, way, [], limitMs);
  expect({ end, errors }).toEqual({ end: 0, errors: "" });
  return lines[0] as Value;
}

function total(kinds: Kinds): number {
  return Object.values(kinds).reduce((sum, count) => sum + count, 0);
}

for (const way of WAYS) {
  const testWay = testIf(way.missing);

  describe(`with ${way.name}`, () => {
    testWay("each Worker has its own poller, which counts only what is its own", async () => {
      const { received, events, waiters } = await said<Apart>("apart", way);
      // This thread, and three Workers of which the second one got datagrams.
      expect(received).toEqual([0, 0, 5, 0]);
      expect(events).toEqual([0, 0, expect.any(Number), 0]);
      expect(events[2]).toBeGreaterThan(0);
      expect(waiters).toEqual([1, 1, 1, 1]);
    });

    testWay(
      "of Workers terminated in mid-wait nothing is left, not even their sockets",
      async () => {
        expect(await said<Terminated>("terminated", way)).toEqual({
          workers: 24,
          elapsedMs: expect.any(Number),
          gone: true,
          threads: {},
          left: {},
          heard: true,
          ringMappings: 0,
          sockets: 72,
        });
      },
    );

    testWay(
      "a Worker terminated at any call of its poller's start loses what it opens",
      async () => {
        const { calls, left } = await said<Early>("early", way);
        expect(calls).toBeGreaterThan(5);
        expect(left).toHaveLength(calls);
        // What was opened and not noted yet: one descriptor, and perhaps the note itself.
        const most = left.reduce((most, kinds) => (total(kinds) > total(most) ? kinds : most), {});
        expect(total(most), JSON.stringify(most)).toBeLessThanOrEqual(2);
        // With all of them noted it loses nothing.
        expect(left.at(-1)).toEqual({});
      },
    );

    testWay("pollers that start at the same time close no descriptor of others", async () => {
      const { started, heard, used, wrong, left } = await said<Crowd>("crowd", way);
      expect(wrong).toEqual([]);
      expect(heard).toBe(started);
      expect(left).toEqual({});
      expect(used).toBeGreaterThan(1000);
    });

    // A helper thread closes everything itself, and leaves no note.
    if (way.name !== "thread") {
      testWay("a poller that comes too late to an orphan closes nothing of its heir", async () => {
        const { heldUp, reused, ...result } = await said<Claim>("claim", way);
        expect(heldUp).toBe(true);
        expect(reused).toBeGreaterThan(0);
        expect(result).toEqual({ closed: [], first: true, second: true, left: {} });
      });
    }

    testWay("a message that has a Worker close its sockets leaves no socket", async () => {
      expect(await said<Closing>("closing", way)).toEqual({ workers: 16, left: {} });
    });

    testWay("Workers that end by themselves in mid-wait leave nothing", async () => {
      const { ends, heard, threads, left } = await said<Ends>("ends", way);
      expect(ends).toEqual({
        lastWait: 0,
        unrefWait: 0,
        pausedHandler: 0,
        exit: 3,
        exitInHandler: 4,
        throwing: expect.stringContaining("error: planned"),
        rejected: expect.stringContaining("recv ETIMEDOUT"),
      });
      expect({ heard, threads }).toEqual({ heard: true, threads: {} });
      expect(left).toEqual({});
    });

    testWay("process.exit of the main thread ends Workers that wait", async () => {
      expect(await run(PROGRAM, "exitWithWorkers", way)).toMatchObject({ end: 6, errors: "" });
    });

    testWay("SIGTERM ends Workers that wait", async () => {
      const child = start(PROGRAM, "endWithWorkers", way);
      expect(await firstLine(child.stdout)).toBe('"ready"');
      child.kill("SIGTERM");
      expect(await ended(child)).toMatchObject({ end: "SIGTERM", errors: "" });
    });

    testWay(
      `a socket that goes to a Worker and back, ${HAND_OVERS} times under load, loses no datagram`,
      async () => {
        const result = await said<HandOver>("handOver", way);
        const { handOvers, queued, sent, wrong, canceled, failed, spurious } = result;
        expect({ handOvers, wrong, failed }).toEqual({
          handOvers: HAND_OVERS,
          wrong: [],
          failed: 0,
        });
        expect(sent).toBeGreaterThan(HAND_OVERS * 10);
        // It was under load, and calls were waiting.
        expect(queued).toBeGreaterThan(HAND_OVERS / 2);
        expect(canceled).toBeGreaterThan(10);
        // No poller goes on hearing of a socket that is not its own any more.
        expect(spurious).toBeLessThan(HAND_OVERS);
      },
    );
  });
}

const MANY_MS_MAX = 180_000;

test(
  `${MANY} Workers, in every way for the poller to work, are terminated in mid-wait`,
  async () => {
    const result = await said<Thousand>("thousand", undefined, MANY_MS_MAX);
    expect(result).toEqual({
      workers: MANY,
      elapsedMs: expect.any(Number),
      gone: true,
      threads: {},
      left: {},
      heard: true,
      ringMappings: 0,
    });
  },
  MANY_MS_MAX,
);
