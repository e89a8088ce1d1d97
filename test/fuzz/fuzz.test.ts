/**
 * The whole public surface under good, bad and hostile arguments, in a child process: a crash is a
 * failure, with the seed that repeats it. `FUZZ_SEED=17 bun test test/fuzz` chooses the seed,
 * `FUZZ_CALLS=1000000` makes a longer run of it.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namespaceCommand } from "../support/namespace_command.ts";
import type { Counts, Endings } from "./harness.ts";
import {
  EACH_WAY_MIN,
  INHERITED_MIN,
  LISTENED_MIN,
  NEVER_OK,
  NEVER_REFUSED,
  REACHED_MIN,
  reasonOf,
} from "./limits.ts";

// What `EACH_WAY_MIN` takes, with so much room that no seed falls short of it.
const CALLS_USUAL = 440_000;
const CALLS = Number(process.env["FUZZ_CALLS"] ?? CALLS_USUAL);
const CALLS_SLOW = 5_000;
/**
 * The same each time, so that a run fails for what has changed. FUZZ_SEED=random looks for what nobody
 * has found yet.
 */
const SEED = "1";
/** The share of what the limits ask for: in a run that is shorter, with as much room again for chance. */
const SHARE = CALLS < CALLS_USUAL ? CALLS / CALLS_USUAL / 2 : 1;
const EACH_WAY = Math.floor(EACH_WAY_MIN * SHARE);
const LISTENED = Math.floor(LISTENED_MIN * SHARE);
const TIMEOUT_MS = 10 * 60_000;
const RES_OPTIONS = "timeout:1 attempts:1";

interface Report {
  readonly seed: number;
  readonly seconds: number;
  readonly nested: number;
  readonly sprung: number;
  readonly faults: number;
  readonly endings: Endings;
  readonly handled: Readonly<Record<"batches" | "drains" | "errors", number>>;
  /** How often the poller was started with each ringer. */
  readonly ringers: Readonly<Record<string, number>>;
  readonly descriptors: { readonly before: object; readonly after: object };
  readonly entries: Readonly<Record<string, Counts>>;
  /** The members that are another class's. */
  readonly inherited: readonly string[];
}

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-fuzz-run-"));
afterAll(() => rmSync(folder, { recursive: true }));
const { command, missing } = namespaceCommand();
const where = missing ? ` (no network namespace of its own: ${missing})` : "";

/** Runs the program and returns its report, or throws how it ended and how to see that again. */
async function run(calls: number, env: Record<string, string>): Promise<Report> {
  const { FUZZ_SEED = SEED } = process.env;
  const seed = FUZZ_SEED === "random" ? `${Math.floor(Math.random() * 2 ** 31)}` : FUZZ_SEED;
  const progress = join(folder, `${seed}-${calls}`);
  const program = join(import.meta.dir, "program.ts");
  const values = ["--seed", seed, "--calls", `${calls}`];
  const child = Bun.spawn(
    [...command, process.execPath, program, ...values, "--progress", progress],
    {
      // What a crash leaves behind goes with the folder. And no resolver is waited for.
      env: { ...process.env, RES_OPTIONS, ...env, TMPDIR: folder },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: TIMEOUT_MS,
      killSignal: "SIGKILL",
    },
  );
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const exitCode = await child.exited;
  if (exitCode === 0) return JSON.parse(output);
  // SIGALRM: a call did not come back.
  const ending = child.signalCode ?? `exit code ${exitCode}`;
  const last = readFileSync(progress, "utf8").trim();
  const sequence = /sequence (\d+)/.exec(last)?.[1] ?? "0";
  const variables = Object.entries(env).map(([key, value]) => `${key}=${value} `);
  const again = `${variables.join("")}bun test/fuzz/program.ts --seed ${seed}`;
  throw new Error(
    `${ending} at ${last}\n${errors}\nAgain: ${again} --sequence ${sequence}\n` +
      `or, with all that came before: ${again} --calls ${calls}`,
  );
}

function total(report: Report, way: keyof Counts): number {
  return Object.values(report.entries).reduce((sum, counts) => sum + counts[way], 0);
}

/** Members that ended too rarely in a way that they have. */
function tooFew(
  { entries, inherited }: Report,
  way: "ok" | "refused",
  impossible: typeof NEVER_OK,
): Record<string, number> {
  const few = Object.entries(entries)
    .filter(([key, counts]) => counts[way] < EACH_WAY && !reasonOf(key, impossible))
    .filter(([key]) => !inherited.includes(key))
    .map(([key, counts]) => [key, counts[way]]);
  return Object.fromEntries(few);
}

/** Members that a class has from another one, and that were hardly called on it. */
function tooSeldom({ entries, inherited }: Report): Record<string, number> {
  const few = inherited
    .map((key): [string, number] => [key, entries[key]?.calls ?? 0])
    .filter(([, calls]) => calls < Math.floor(INHERITED_MIN * SHARE));
  return Object.fromEntries(few);
}

/** Members of which limits.ts says that they never end so, and that did. */
function tooMany(
  { entries, inherited }: Report,
  way: "ok" | "refused",
  impossible: typeof NEVER_OK,
): string[] {
  return Object.entries(entries)
    .filter(([key, counts]) => counts[way] >= EACH_WAY && reasonOf(key, impossible))
    .filter(([key]) => !inherited.includes(key))
    .map(([key]) => key);
}

function listed(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([name, count]) => `${count} ${name}`)
    .join(", ");
}

function summary(report: Report): string {
  const least = (way: "ok" | "refused", impossible: typeof NEVER_OK) => {
    const possible = Object.entries(report.entries).filter(
      ([key]) => !reasonOf(key, impossible) && !report.inherited.includes(key),
    );
    const [key, counts] = possible.sort(([, a], [, b]) => a[way] - b[way])[0] ?? ["", undefined];
    return `${counts?.[way]} ${key}`;
  };
  const ways = (["ok", "refused", "foreign", "passed", "waited", "reached"] as const).map(
    (way) => `${total(report, way)} ${way}`,
  );
  return (
    `seed ${report.seed}: ${total(report, "calls")} calls of ${Object.keys(report.entries).length} ` +
    `members in ${report.seconds.toFixed(1)} s: ${ways.join(", ")}; ${report.nested} from inside ` +
    `of others, ${report.sprung} traps sprung, ${report.faults} failed by hand. Of those that ` +
    `waited: ${listed({ ...report.endings })}; handlers: ${listed(report.handled)}; ringers: ` +
    `${listed(report.ringers)}. Least returned: ` +
    `${least("ok", NEVER_OK)}; least refused: ${least("refused", NEVER_REFUSED)}`
  );
}

// Both at the same time, on a core each: the first test waits for one of them, the second for the other.
function startSlow(): Promise<Report> {
  const report = run(CALLS_SLOW, { BUN_JSC_slowPathAllocsBetweenGCs: "20" });
  // Until the second test looks at it.
  report.catch(() => {});
  return report;
}
let slow: Promise<Report> | undefined;

test(
  `no call of the public surface crashes, leaks or touches what is not its own${where}`,
  async () => {
    slow = startSlow();
    const report = await run(CALLS, {});
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(CALLS);
    expect(total(report, "reached") / total(report, "calls")).toBeGreaterThanOrEqual(REACHED_MIN);
    expect(tooFew(report, "ok", NEVER_OK)).toEqual({});
    expect(tooFew(report, "refused", NEVER_REFUSED)).toEqual({});
    expect(tooMany(report, "ok", NEVER_OK)).toEqual([]);
    expect(tooMany(report, "refused", NEVER_REFUSED)).toEqual([]);
    expect(report.descriptors.after).toEqual(report.descriptors.before);
    expect(report.nested).toBeGreaterThan(EACH_WAY);
    expect(report.faults).toBeGreaterThan(EACH_WAY);
    for (const [ending, count] of Object.entries(report.endings))
      expect([ending, count, count >= EACH_WAY]).toEqual([ending, count, true]);
    expect(report.handled.batches).toBeGreaterThan(EACH_WAY);
    expect(report.handled.drains).toBeGreaterThan(LISTENED);
    expect(report.handled.errors).toBeGreaterThan(LISTENED);
    expect(tooSeldom(report)).toEqual({});
  },
  TIMEOUT_MS,
);

test(
  `nor when the engine collects at every turn${where}`,
  async () => {
    const report = await (slow ?? startSlow());
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(CALLS_SLOW);
    expect(total(report, "reached") / total(report, "calls")).toBeGreaterThanOrEqual(REACHED_MIN);
    expect(report.descriptors.after).toEqual(report.descriptors.before);
  },
  TIMEOUT_MS,
);

describe("limits.ts", () => {
  test.each([
    ["ok", NEVER_OK],
    ["refused", NEVER_REFUSED],
  ])("says of each way that does not exist (%s) for which members", async (_, impossible) => {
    const { entries } = await import("./surface.ts");
    const idle = impossible.filter(({ members }) => !entries.some(({ key }) => members.test(key)));
    expect(idle).toEqual([]);
  });
});
