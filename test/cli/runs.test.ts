/** Which runs a sink remembers, and for how long. */
import { describe, expect, test } from "bun:test";
import { Inet4Address, Inet6Address } from "bun-sockets";
import { RUNS_MAX, Runs } from "../../cli/runs.ts";

const FROM = new Inet4Address("192.0.2.1", 5000);
const HALF = RUNS_MAX / 2;

/** So many runs of one datagram each. */
function runsOf(count: number): Runs {
  const runs = new Runs();
  for (let run = 0; run < count; run++) runs.begin(run, FROM, 0, 0)?.arrivals.note(0);
  return runs;
}

describe("Runs", () => {
  test("tells so many apart, and no more", () => {
    const runs = runsOf(RUNS_MAX);
    expect(runs.begin(RUNS_MAX, FROM, 0, 0)).toBeUndefined();
    expect([runs.count, Array.from(runs).length]).toEqual([RUNS_MAX, RUNS_MAX]);
    expect(runs.get(7)?.run).toBe("00000007");
    expect(runs.get(RUNS_MAX)).toBeUndefined();
  });

  test("keeps few for ever", () => {
    const runs = runsOf(HALF);
    for (const now of [0, 1e6, 1e9]) expect(runs.takeOver(now)).toEqual([]);
    expect(runs.count).toBe(HALF);
  });

  test("of many, those that are over make room: the oldest first, and half of them stay", () => {
    const runs = runsOf(RUNS_MAX);
    for (const { arrivals } of runs) arrivals.end(1);
    expect(runs.takeOver(0)).toEqual([]);
    expect(runs.takeOver(9999)).toEqual([]);
    const over = runs.takeOver(10_000);
    expect(over.map(({ run }) => Number.parseInt(run, 16))).toEqual(
      Array.from({ length: HALF }, (_, run) => run),
    );
    expect(runs.count).toBe(HALF);
    expect(runs.begin(0, FROM, 0, 0)).toBeDefined();
  });

  test("a run whose end was not heard may be silent for a minute", () => {
    const runs = runsOf(HALF + 1);
    runs.takeOver(0);
    expect(runs.takeOver(59_999)).toEqual([]);
    expect(runs.takeOver(60_000).map(({ run }) => run)).toEqual(["00000000"]);
  });

  test("a run that goes on is not over", () => {
    const runs = runsOf(HALF + 1);
    runs.takeOver(0);
    // A duplicate, too, comes from somebody who is there.
    runs.get(0)?.arrivals.note(0);
    for (let run = 1; run <= HALF; run++) runs.get(run)?.arrivals.note(1);
    expect(runs.takeOver(60_000)).toEqual([]);
    expect(runs.takeOver(119_999)).toEqual([]);
    expect(runs.takeOver(120_000)).toHaveLength(1);
  });

  test("IPv4 is written as such, whatever the socket is", () => {
    const runs = new Runs();
    const mapped = new Inet6Address("::ffff:192.0.2.1", 5000);
    expect(String(runs.begin(1, mapped, 0, 0)?.from)).toBe("192.0.2.1:5000");
    expect(String(runs.begin(2, new Inet6Address("2001:db8::1", 5000), 0, 0)?.from)).toBe(
      "[2001:db8::1]:5000",
    );
    expect(runs.begin(3, undefined, 0, 0)?.from).toBeUndefined();
  });
});
