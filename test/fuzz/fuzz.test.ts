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
import { testIf } from "../support/require.ts";
import type { Counts, Endings } from "./harness.ts";
import {
  EACH_WAY_MIN,
  EACH_WAY_OF_PACKETS_MIN,
  INHERITED_MIN,
  LISTENED_MIN,
  NEVER_OK,
  NEVER_REFUSED,
  REACHED_MIN,
  reasonOf,
} from "./limits.ts";
import type { ModuleName } from "./surface.ts";

// What `EACH_WAY_MIN` takes, with so much room that no seed falls short of it.
const CALLS_USUAL = 455_000;
const CALLS = Number(process.env["FUZZ_CALLS"] ?? CALLS_USUAL);
const CALLS_SLOW = 3_600;
// Of "bun-sockets/packet": most of it computes only, in few ways.
const PACKET_CALLS_USUAL = 120_000;
const PACKET_CALLS = Math.ceil((CALLS * PACKET_CALLS_USUAL) / CALLS_USUAL);
const PACKET_CALLS_SLOW = 300;
/**
 * The same each time, so that a run fails for what has changed. FUZZ_SEED=random looks for what nobody
 * has found yet.
 */
const SEED = "1";
/** The share of what the limits ask for: in a run that is shorter, with as much room again for chance. */
const SHARE = CALLS < CALLS_USUAL ? CALLS / CALLS_USUAL / 2 : 1;
const EACH_WAY = Math.floor(EACH_WAY_MIN * SHARE);
const EACH_WAY_OF_PACKETS = Math.floor(EACH_WAY_OF_PACKETS_MIN * SHARE);
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
async function run(
  calls: number,
  env: Record<string, string>,
  module: ModuleName = "main",
): Promise<Report> {
  const { FUZZ_SEED = SEED } = process.env;
  const seed = FUZZ_SEED === "random" ? `${Math.floor(Math.random() * 2 ** 31)}` : FUZZ_SEED;
  const progress = join(folder, `${module}-${seed}-${calls}`);
  const program = join(import.meta.dir, "program.ts");
  const values = ["--entry", module, "--seed", seed, "--calls", `${calls}`];
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
  const again = `${variables.join("")}bun test/fuzz/program.ts --entry ${module} --seed ${seed}`;
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
  least: number,
): Record<string, number> {
  const few = Object.entries(entries)
    .filter(([key, counts]) => counts[way] < least && !reasonOf(key, impossible))
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
  least: number,
): string[] {
  return Object.entries(entries)
    .filter(([key, counts]) => counts[way] >= least && reasonOf(key, impossible))
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

/** Every member has ended in each way that exists for it, and in no other. */
function expectEachWay(report: Report, least: number): void {
  expect(tooFew(report, "ok", NEVER_OK, least)).toEqual({});
  expect(tooFew(report, "refused", NEVER_REFUSED, least)).toEqual({});
  expect(tooMany(report, "ok", NEVER_OK, least)).toEqual([]);
  expect(tooMany(report, "refused", NEVER_REFUSED, least)).toEqual([]);
  expect(tooSeldom(report)).toEqual({});
}

const SLOWLY = { BUN_JSC_slowPathAllocsBetweenGCs: "20" };

/** All runs: two at a time, on a core each. Each test waits for one. */
interface Runs {
  readonly main: Promise<Report>;
  readonly mainSlow: Promise<Report>;
  readonly packets: Promise<Report>;
  readonly packetsSlow: Promise<Report>;
}

function start(): Runs {
  const main = run(CALLS, {});
  const mainSlow = run(CALLS_SLOW, SLOWLY);
  const after = (report: Promise<Report>, next: () => Promise<Report>) =>
    missing === undefined ? report.then(next, next) : report;
  const packets = after(mainSlow, () => run(PACKET_CALLS, {}, "packet"));
  const packetsSlow = after(main, () => run(PACKET_CALLS_SLOW, SLOWLY, "packet"));
  const runs = { main, mainSlow, packets, packetsSlow };
  // Until its test looks at it.
  for (const report of Object.values(runs)) report.catch(() => {});
  return runs;
}

let started: Runs | undefined;
function runs(): Runs {
  started ??= start();
  return started;
}

test(
  `no call of the public surface crashes, leaks or touches what is not its own${where}`,
  async () => {
    const report = await runs().main;
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(CALLS);
    expect(total(report, "reached") / total(report, "calls")).toBeGreaterThanOrEqual(REACHED_MIN);
    expectEachWay(report, EACH_WAY);
    expect(report.descriptors.after).toEqual(report.descriptors.before);
    expect(report.nested).toBeGreaterThan(EACH_WAY);
    expect(report.faults).toBeGreaterThan(EACH_WAY);
    for (const [ending, count] of Object.entries(report.endings))
      expect([ending, count, count >= EACH_WAY]).toEqual([ending, count, true]);
    expect(report.handled.batches).toBeGreaterThan(EACH_WAY);
    expect(report.handled.drains).toBeGreaterThan(LISTENED);
    expect(report.handled.errors).toBeGreaterThan(LISTENED);
  },
  TIMEOUT_MS,
);

test(
  `nor when the engine collects at every turn${where}`,
  async () => {
    const report = await runs().mainSlow;
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(CALLS_SLOW);
    expect(total(report, "reached") / total(report, "calls")).toBeGreaterThanOrEqual(REACHED_MIN);
    expect(report.descriptors.after).toEqual(report.descriptors.before);
  },
  TIMEOUT_MS,
);

// Packet sockets see what others send: only where there are no others.
const apart = testIf(missing && `needs a network namespace of its own: ${missing}`);

apart(
  "nor does one of bun-sockets/packet, or write outside of a header",
  async () => {
    const report = await runs().packets;
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(PACKET_CALLS);
    expectEachWay(report, EACH_WAY_OF_PACKETS);
    expect(report.descriptors.after).toEqual(report.descriptors.before);
    expect(report.nested).toBeGreaterThan(EACH_WAY_OF_PACKETS);
    expect(report.faults).toBeGreaterThan(EACH_WAY_OF_PACKETS);
  },
  TIMEOUT_MS,
);

apart(
  "nor one of bun-sockets/packet when the engine collects at every turn",
  async () => {
    const report = await runs().packetsSlow;
    console.log(summary(report));
    expect(total(report, "calls")).toBeGreaterThanOrEqual(PACKET_CALLS_SLOW);
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
