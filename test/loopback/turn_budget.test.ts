/**
 * One time budget for each turn of the event loop: whatever form a program receives in, and however
 * fast datagrams come, its timers and its other sockets have their turn. A second process floods the
 * socket, so its queue is never empty; the same without a budget shows that the test would see it.
 */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Missing, requires, testIf } from "../support/require.ts";
import { FORM_NAMES, type FormName, type Order, type Outcome } from "./turn_budget.ts";

const PROGRAM = join(import.meta.dir, "turn_budget.ts");
const SOURCE = join(import.meta.dir, "turn_budget.c");

const LATE_MS_MAX = 2;
const TICKS_MIN = 250;
const QUIET_LATE_MS_MAX = 5;
/** Of the 50 a second that are sent. */
const QUIET_MIN = 10;

const DURATION_MS = 1000;
const STARVED_MS = 250;
/**
 * What others may have of our core before a measurement counts as disturbed: a slice of theirs is some
 * 3 ms, and 10 of them in a second make one tick of a hundred late.
 */
const FOREIGN_PART_MAX = 0.03;
const DISTURBED_MAX = 5;
const FAILED_MAX = 2;
const LIMIT_MS = 120_000;

// The promise that a handler returns settles in a later turn, budget or not: one batch a turn.
const BEHAVES: readonly FormName[] = [
  "onBatch() with an asynchronous handler",
  "an echo of onBatch() and sendBatch()",
];

const cores = allowedCores();
const missing: Missing =
  requires("gcc", "taskset") ?? (cores.length < 2 ? "needs two cores" : undefined);
const saturated = testIf(missing);
const folder = mkdtempSync(join(tmpdir(), "turn-budget-"));
const flood = join(folder, "flood");

beforeAll(() => {
  if (missing) return;
  const gcc = Bun.spawnSync(["gcc", "-O2", "-Wall", "-Werror", "-o", flood, SOURCE]);
  if (!gcc.success) throw new Error(`gcc failed: ${gcc.stderr}`);
});

afterAll(() => rmSync(folder, { recursive: true }));

describe.each([...FORM_NAMES, "all"] as const)("under saturation, %s", (form) => {
  saturated(
    "lets a 1 ms timer and a quiet socket have their turn",
    async () => {
      expect(await complaints({ form, budgetMs: 1, durationMs: DURATION_MS })).toEqual([]);
    },
    LIMIT_MS,
  );

  if (BEHAVES.includes(form as FormName)) {
    saturated(
      "does so without a budget too: a handler that returns a promise gets one batch a turn",
      async () => {
        expect(await complaints({ form, budgetMs: null, durationMs: DURATION_MS })).toEqual([]);
      },
      LIMIT_MS,
    );
  } else {
    saturated(
      "starves both without a budget",
      async () => {
        const outcome = await measureFull({ form, budgetMs: null, durationMs: STARVED_MS });
        expect({ outcome, complaints: complaintsOf(outcome) }).toMatchObject({
          complaints: [
            expect.stringContaining("the timer was"),
            expect.stringContaining("the timer ticked"),
            expect.stringContaining("the quiet socket was"),
          ],
        });
        // Not by a little.
        expect(outcome.own.timer.p99Ms).toBeGreaterThan(5 * LATE_MS_MAX);
        expect(outcome.own.timer.ticksPerSecond).toBeLessThan(TICKS_MIN / 10);
        expect(outcome.own.quietMs).toBeGreaterThan(2 * QUIET_LATE_MS_MAX);
      },
      LIMIT_MS,
    );
  }
});

// A quiet socket has its turn after one step of each of them, which may take longer.
const MANY: readonly (readonly [loops: number, form: FormName])[] = [
  [16, "await receiveBatch()"],
  [500, "await receive()"],
];
describe.each(MANY)("under saturation, %d loops of %s", (loops, form) => {
  saturated(
    "share one budget: a 1 ms timer has its turn",
    async () => {
      const measurement = { form, loops, budgetMs: 1, durationMs: DURATION_MS };
      expect(await complaints(measurement, Number.POSITIVE_INFINITY)).toEqual([]);
    },
    LIMIT_MS,
  );
});

type Measurement = Pick<Order, "form" | "budgetMs" | "durationMs"> & { readonly loops?: number };

/**
 * What is wrong, when it is measured. What others on this machine may have caused is measured again,
 * and so is one failure without a visible cause.
 */
async function complaints(
  measurement: Measurement,
  quietLateMsMax = QUIET_LATE_MS_MAX,
): Promise<string[]> {
  let disturbed = 0;
  let failed = 0;
  for (let attempt = 0; ; attempt++) {
    const outcome = await measure(measurement, attempt);
    const found = complaintsOf(outcome, quietLateMsMax);
    if (found.length === 0) return found;
    const { baseline, empty, quiet } = outcome;
    const isAgain =
      baseline.p99Ms > LATE_MS_MAX || empty > 0 || quiet.got < QUIET_MIN || isShared(outcome);
    if (isAgain ? ++disturbed === DISTURBED_MAX : ++failed === FAILED_MAX)
      return [...found, JSON.stringify(outcome)];
  }
}

/** Measures until the queue was never empty, and the sender was not held up. */
async function measureFull(measurement: Measurement): Promise<Outcome> {
  for (let attempt = 1; ; attempt++) {
    const outcome = await measure(measurement, attempt);
    const { empty, dropped, quiet } = outcome;
    const isFull = empty === 0 && dropped > 0 && quiet.got > 0 && quiet.missing === 0;
    if (isFull || attempt === DISTURBED_MAX) return outcome;
  }
}

/** Whether others had our core for so long that our own time has to count. */
function isShared({ foreignMs, elapsedMs }: Outcome): boolean {
  return foreignMs > elapsedMs * FOREIGN_PART_MAX;
}

function complaintsOf(outcome: Outcome, quietLateMsMax = QUIET_LATE_MS_MAX): string[] {
  const { quiet, empty, dropped } = outcome;
  const { timer, quietMs } = isShared(outcome) ? outcome.own : outcome.wall;
  const found: string[] = [];
  const complain = (isWrong: boolean, text: string) => void (isWrong && found.push(text));
  complain(empty > 0, `the flooded queue was empty ${empty} times`);
  complain(dropped === 0, "nothing was dropped: the queue was not full");
  complain(timer.p99Ms > LATE_MS_MAX, `the timer was ${timer.p99Ms} ms late`);
  complain(timer.ticksPerSecond < TICKS_MIN, `the timer ticked ${timer.ticksPerSecond} times`);
  complain(quiet.got === 0, "the quiet socket got nothing");
  complain(quiet.missing > 0, `${quiet.missing} datagrams of the quiet socket are missing`);
  complain(quietMs > quietLateMsMax, `the quiet socket was ${quietMs} ms late`);
  return found;
}

/** Runs the program on one core, and the flood on another: the other way round each time. */
async function measure(measurement: Measurement, attempt: number): Promise<Outcome> {
  const own = cores[attempt % 2] as number;
  const floodCore = cores[(attempt + 1) % 2] as number;
  const order: Order = { loops: 1, ...measurement, flood, floodCore };
  const program = [process.execPath, PROGRAM, JSON.stringify(order)];
  const command = ["taskset", "-c", `${own}`, ...program];
  await using child = Bun.spawn(command, {
    stdio: ["ignore", "pipe", "pipe"],
    timeout: LIMIT_MS / 4,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const outcome = JSON.parse(stdout) as Outcome;
  expect(outcome.handled).toBeGreaterThan(0);
  return outcome;
}

function allowedCores(): number[] {
  const status = readFileSync("/proc/self/status", "latin1");
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [from = 0, to = from] = range.split("-").map(Number);
    return Array.from({ length: to - from + 1 }, (_, i) => from + i);
  });
}
