/**
 * errno is always that of the call that failed: ten million failing calls of many kinds, under
 * allocation, forced collections, the last compiler, Workers, a profiler and signals. Children,
 * because the engine's options and the collector are the process's.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Order, Plant, Report } from "./errno_storm.ts";

const PROGRAM = join(import.meta.dir, "errno_storm.ts");
const LIMIT_MS = 60_000;
const SIGNALS = 1000;
/** Kinds of failing calls in errno_storm.ts, and different errnos among them. */
const KINDS = 24;
const ERRNOS = 15;

function command(order: Order, options: readonly string[] = []): string[] {
  return [process.execPath, ...options, PROGRAM, JSON.stringify(order)];
}

function run(
  order: Order,
  env: Record<string, string> = {},
  options: readonly string[] = [],
): { report: Report; errors: string } {
  const child = Bun.spawnSync(command(order, options), {
    env: { ...process.env, ...env },
    timeout: LIMIT_MS,
  });
  expect(child.exitCode, child.stderr.toString()).toBe(0);
  return { report: JSON.parse(child.stdout.toString()), errors: child.stderr.toString() };
}

function expectRight({ calls, wrong, planted, threads }: Report, order: Order): void {
  console.log(`${calls} failing calls, threads: ${threads.length}, wrong errnos: ${wrong}`);
  expect([wrong, planted]).toEqual([0, 0]);
  expect(calls).toBeGreaterThanOrEqual(order.calls);
  expect(threads).toHaveLength(order.threads);
  // Each thread had errnos that no other one had.
  const errnos = threads.flatMap((thread) => thread.errnos);
  expect([errnos.length, new Set(errnos).size]).toEqual([ERRNOS, ERRNOS]);
  const collections = threads.map((thread) => thread.collections);
  expect(Math.min(...collections)).toBeGreaterThanOrEqual(
    Math.floor(order.calls / order.threads / order.callsPerCollection),
  );
}

test(
  "5,000,000 failing calls, up to the last compiler: no wrong errno",
  () => {
    const order = { calls: 5_000_000, threads: 1, callsPerCollection: 20_000 };
    const { report, errors } = run(order, { BUN_JSC_reportFTLCompileTimes: "1" });
    expectRight(report, order);
    // The loop, and each of the calls, with the table and the reading of errno inside.
    const compiled = [...errors.matchAll(/^Optimized ((\w+)#\w+):.* using FTL/gm)];
    const calls = compiled.filter(([, , name]) => name === "call").map(([, hash]) => hash);
    expect(new Set(calls).size).toBe(KINDS);
    expect(compiled.map(([, , name]) => name)).toContain("storm");
  },
  LIMIT_MS,
);

test.each([2, 4])(
  "2,000,000 failing calls in %d threads at once, with different errnos: no wrong one",
  (threads) => {
    const order = { calls: 2_000_000, threads, callsPerCollection: 20_000 };
    expectRight(run(order).report, order);
  },
  LIMIT_MS,
);

test(
  "200,000 failing calls with a collection every 20 allocations: no wrong errno",
  () => {
    const order = { calls: 200_000, threads: 2, callsPerCollection: 5_000 };
    expectRight(run(order, { BUN_JSC_slowPathAllocsBetweenGCs: "20" }).report, order);
  },
  LIMIT_MS,
);

test(
  "600,000 failing calls under a profiler, which stops the thread by signals: no wrong errno",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-profile-"));
    try {
      const order = { calls: 600_000, threads: 1, callsPerCollection: 20_000 };
      const options = ["--cpu-prof", "--cpu-prof-interval=100", `--cpu-prof-dir=${folder}`];
      expectRight(run(order, {}, options).report, order);
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
  LIMIT_MS,
);

test(
  `600,000 failing calls under ${SIGNALS} signals: no wrong errno`,
  async () => {
    const order = { calls: 600_000, threads: 2, callsPerCollection: 20_000, signals: true };
    const child = Bun.spawn(command(order), { stderr: "inherit", timeout: LIMIT_MS });
    let output = "";
    let sent = 0;
    for await (const chunk of child.stdout) {
      output += Buffer.from(chunk).toString();
      if (sent > 0 || !output.startsWith("ready\n")) continue;
      // A signal that is still pending takes the next one in: in between the child must have run.
      for (; sent < SIGNALS && child.exitCode === null; sent++) {
        child.kill("SIGUSR2");
        await new Promise(setImmediate);
      }
    }
    expect(await child.exited).toBe(0);
    expect(sent).toBe(SIGNALS);
    expectRight(JSON.parse(output.slice("ready\n".length)), order);
  },
  LIMIT_MS,
);

const plants: readonly [what: string, planted: Plant, calls: number, least: number][] = [
  ["after another failing call", "call", 200_000, 1000],
  ["after a file was looked for", "file", 200_000, 1000],
  ["once in 20,000 times", "seldom", 1_000_000, 1],
];

test.each(plants)(
  "an errno that is read %s is counted as wrong",
  (_, planted, calls, least) => {
    const { report } = run({ calls, threads: 1, callsPerCollection: 20_000, planted });
    const { calls: made, planted: counted, wrong } = report;
    console.log(`${made} failing calls, ${counted} planted (${planted}), wrong errnos: ${wrong}`);
    expect(counted).toBeGreaterThanOrEqual(least);
    expect(wrong).toBe(counted);
  },
  LIMIT_MS,
);
