// Has a commit become slower than another? Chosen benchmarks run in fresh processes of both, in turn,
// the other one first in each round; what counts is the ratio of two runs that follow each other.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { constants, tmpdir } from "node:os";
import { join } from "node:path";
import CliTable from "cli-table3";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { median } from "simple-statistics";
import { type Case, isControl, keyOf, readCases } from "./commits/cases.ts";
import { type Checkout, checkOut, findRoot, resolve, WORKTREE } from "./commits/checkout.ts";
import { Failure, Programs, Stopped } from "./commits/programs.ts";
import { conclude, judge, type Ratios, summarize, type Verdict } from "./commits/verdict.ts";
import { environment, startProgress } from "./support.ts";

/** The first line of `--json`: what is compared. */
export interface ComparisonLine {
  readonly kind: "comparison";
  /** When it began, as ISO 8601. */
  readonly at: string;
  readonly base: Side;
  readonly head: Side;
  readonly rounds: number;
  /** By how much a case may get slower: 0.05 is 5 percent. */
  readonly threshold: number;
  readonly environment: string;
  /** Files of bench/ that both have and that differ: then a ratio may be that of the benchmark. */
  readonly changedBenchmarks: readonly string[];
}

/** A commit, or null for the checkout as it is. */
export interface Side {
  readonly revision: string;
  readonly commit: string | null;
}

/** A line for each case that both have. */
export interface RatioLine extends Omit<Case, "ns">, Ratios {
  readonly kind: "ratio";
  /** Medians of the rounds, in nanoseconds. `ratio` is HEAD ÷ BASE, each round by itself. */
  readonly baseNs: number;
  readonly headNs: number;
  readonly verdict: Verdict;
  /** Whether the peer does not use the library. The exit code does not depend on it. */
  readonly isControl: boolean;
}

/** A line for each case, or whole benchmark (then the rest is null), that only one side has. */
export interface OnlyLine {
  readonly kind: "only";
  readonly side: "base" | "head";
  readonly bench: string;
  readonly case: string | null;
  readonly peer: string | null;
  readonly bytes: number | null;
  readonly batch: number | null;
}

/** The last line: what the exit code says. */
export interface ConclusionLine {
  readonly kind: "conclusion";
  readonly verdict: Verdict;
  readonly slower: number;
  readonly tooNoisy: number;
  readonly exitCode: number;
}

/** What `--json` prints. */
export type ComparisonOutput = ComparisonLine | RatioLine | OnlyLine | ConclusionLine;

interface Bench {
  readonly name: string;
  readonly values: readonly string[];
}

interface Options {
  readonly rounds: number;
  readonly threshold: number;
  readonly quick: boolean;
  readonly controls: boolean;
  readonly json: boolean;
}

const DEFAULT_BENCHES = ["udp_batch", "udp_single"];
// Where one peer alone is ours, the others need not run.
const ONE_IS_OURS = ["udp_batch", "udp_single", "unix_datagram", "suite"];
const FAILED = 2;
const SIGNAL_EXIT = 128;
const SHOWN_FILES = 6;

const HELP = `
A BENCH is a file of bench/, with arguments of its own if need be: "udp_batch --ringer thread",
"suite NAME". Without any: ${DEFAULT_BENCHES.join(" and ")}.

A case is slower when its ratio is above the threshold with 95 percent confidence, by a sign test on the
rounds; it is too noisy when the threshold lies within what the rounds leave possible. It takes 6 rounds
to say anything.

Exit codes:
  0  nothing got slower than the threshold
  1  something did
  2  wrong usage, or a benchmark failed
  3  nothing surely did, but the rounds differ too much to say so of every case

Examples:
  bun bench/compare.ts main WORKTREE
  bun bench/compare.ts v0.1.0 HEAD udp_batch unix_datagram --rounds 20 --threshold 3%
  bun bench/compare.ts HEAD~1 HEAD "udp_single --ringer thread" --json`;

const program = new Command("bun bench/compare.ts")
  .description("Compares how fast two commits of this repository are.")
  .argument("<BASE>", `a commit, as git names it, or ${WORKTREE} for the checkout as it is`)
  .argument("<HEAD>", "another one")
  .argument("[BENCH...]", "what is run", readBench)
  .option("--rounds <N>", "how often each side runs", readRounds, 10)
  .option("--threshold <PERCENT>", "by how much a case may get slower", readThreshold, 0.05)
  .option("--quick", "make short rounds, whose numbers mean little", false)
  .option("--controls", "let peers that do not use the library run too", false)
  .option("--json", "print a line of JSON for each case", false)
  .addHelpText("after", HELP)
  .exitOverride()
  .action(main);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = explain(error);
}

function explain(error: unknown): number {
  // Commander has said it, and its help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : FAILED;
  if (error instanceof Stopped) {
    console.error("Stopped before the last round: nothing is compared.");
    return SIGNAL_EXIT + constants.signals[error.signal];
  }
  // Whatever it was, it is not for 1 to tell, which an error that nobody catches ends with.
  console.error(error instanceof Failure ? `error: ${error.message}` : error);
  return FAILED;
}

function readBench(text: string, before: readonly Bench[] = []): Bench[] {
  const [path = "", ...values] = text.trim().split(/\s+/);
  const name = path.replace(/^(.*\/)?bench\//, "").replace(/\.ts$/, "");
  if (!/^\w+$/.test(name)) throw new InvalidArgumentError("Expected the name of a file of bench/.");
  return [...before, { name, values }];
}

function readRounds(text: string): number {
  const rounds = /^\d+$/.test(text) ? Number(text) : 0;
  if (rounds >= 1 && rounds <= 1000) return rounds;
  throw new InvalidArgumentError("Expected an integer of 1 to 1000.");
}

function readThreshold(text: string): number {
  const [, percent] = /^(\d+(?:\.\d+)?)%?$/.exec(text) ?? [];
  if (percent !== undefined && Number(percent) < 100) return Number(percent) / 100;
  throw new InvalidArgumentError('Expected percent of 0 to less than 100: "5%", "2.5%".');
}

async function main(base: string, head: string, chosen: Bench[], options: Options) {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-compare-"));
  const own = join(folder, "tmp");
  mkdirSync(own);
  const programs = new Programs(own);
  const stop = (signal: NodeJS.Signals) => programs.stop(signal);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, stop);
  try {
    const root = await findRoot(programs, process.cwd());
    const sides = [
      { side: "base" as const, revision: base, commit: await find(programs, root, "BASE", base) },
      { side: "head" as const, revision: head, commit: await find(programs, root, "HEAD", head) },
    ];
    const checkouts = await checkOut(programs, root, folder, sides);
    const benches =
      chosen.length > 0 ? chosen : DEFAULT_BENCHES.map((name) => ({ name, values: [] }));
    const lines = await compare(programs, checkouts, benches, options);
    if (options.json) for (const line of lines) console.log(JSON.stringify(line));
    else printTable(lines);
    process.exitCode = (lines.at(-1) as ConclusionLine).exitCode;
  } finally {
    rmSync(folder, { recursive: true, force: true });
    for (const signal of signals) process.off(signal, stop);
  }
}

async function find(programs: Programs, root: string, argument: string, revision: string) {
  const commit = await resolve(programs, root, revision);
  if (commit !== undefined) return commit;
  throw new Failure(`${argument}: this repository has no commit "${revision}"`);
}

async function compare(
  programs: Programs,
  checkouts: readonly Checkout[],
  benches: readonly Bench[],
  options: Options,
): Promise<ComparisonOutput[]> {
  const [base, head] = checkouts as [Checkout, Checkout];
  const first: ComparisonLine = {
    kind: "comparison",
    at: new Date().toISOString(),
    base: { revision: base.revision, commit: base.commit },
    head: { revision: head.revision, commit: head.commit },
    rounds: options.rounds,
    threshold: options.threshold,
    environment: environment(),
    changedBenchmarks: changedFiles(base, head),
  };
  const owners = benches.map((bench) => {
    const having = checkouts.filter((one) => existsSync(fileOf(one, bench)));
    if (having.length === 0) throw new Failure(`BENCH: neither side has bench/${bench.name}.ts`);
    return { bench, having };
  });
  const only = owners
    .filter(({ having }) => having.length === 1)
    .map(({ bench, having }): OnlyLine => {
      const { side } = having[0] as Checkout;
      const nothing = { case: null, peer: null, bytes: null, batch: null };
      return { kind: "only", side, bench: bench.name, ...nothing };
    });
  const shared = owners.filter(({ having }) => having.length === 2).map(({ bench }) => bench);
  const results = await runRounds(programs, [base, head], shared, options);
  const cases = [...results.values()].map((result) => lineOf(result, options.threshold));
  const ratios = cases.filter((line) => line.kind === "ratio");
  only.push(...cases.filter((line) => line.kind === "only"));
  const own = ratios.filter((line) => !line.isControl).map(({ verdict }) => verdict);
  if (own.length === 0) {
    const named = ["no case of ours is on both sides", ...only.map(sayOnly)];
    throw new Failure(named.join("\n  "));
  }
  const slower = own.filter((one) => one === "slower").length;
  const tooNoisy = own.filter((one) => one === "too noisy" || one === "too few rounds").length;
  const last = { kind: "conclusion", slower, tooNoisy, ...conclude(own) } as const;
  return [first, ...ratios, ...only, last];
}

function fileOf({ folder }: Checkout, { name }: Bench): string {
  return join(folder, "bench", `${name}.ts`);
}

function changedFiles(base: Checkout, head: Checkout): string[] {
  const folder = join(base.folder, "bench");
  if (!existsSync(folder)) return [];
  const paths = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".md"))
    .map((entry) => join(entry.parentPath, entry.name).slice(base.folder.length + 1));
  return paths.sort().filter((path) => {
    const other = join(head.folder, path);
    return existsSync(other) && !readFileSync(join(base.folder, path)).equals(readFileSync(other));
  });
}

/** What each side took in a case, by round. */
interface Result {
  readonly of: Omit<Case, "ns">;
  readonly base: Map<number, number>;
  readonly head: Map<number, number>;
}

async function runRounds(
  programs: Programs,
  sides: readonly [Checkout, Checkout],
  benches: readonly Bench[],
  options: Options,
): Promise<Map<string, Result>> {
  const results = new Map<string, Result>();
  const progress = startProgress(options.json);
  const started = performance.now();
  const total = options.rounds * benches.length * sides.length;
  let done = 0;
  try {
    for (let round = 0; round < options.rounds; round++) {
      // The order is that of ABBA: what gets slower or faster by itself meanwhile does so for both.
      const order = round % 2 === 0 ? sides : sides.toReversed();
      for (const bench of benches) {
        for (const one of order) {
          progress.title(
            `${bench.name}, ${one.side}, round ${round + 1}${remaining(started, done / total)}`,
          );
          for (const { ns, ...of } of await run(programs, one, bench, options, round)) {
            const key = keyOf(of);
            const result = results.get(key) ?? { of, base: new Map(), head: new Map() };
            results.set(key, result);
            result[one.side].set(round, ns);
          }
          progress.set(++done / total);
        }
      }
    }
  } finally {
    progress.stop();
  }
  return results;
}

function remaining(started: number, share: number): string {
  if (share === 0) return "";
  const seconds = ((performance.now() - started) * (1 - share)) / share / 1000;
  return `, ${Math.ceil(seconds)} s left`;
}

async function run(
  programs: Programs,
  checkout: Checkout,
  bench: Bench,
  options: Options,
  round: number,
): Promise<Case[]> {
  const { side, revision, folder, bun } = checkout;
  const isAlone = ONE_IS_OURS.includes(bench.name) && !options.controls;
  const command = [
    ...[bun, fileOf(checkout, bench), "--json", "--rounds", "1"],
    ...(options.quick ? ["--quick"] : []),
    ...(isAlone ? ["--only", "bun-sockets"] : []),
    ...bench.values,
  ];
  const title = `${side.toUpperCase()} (${revision}), round ${round + 1}: bench/${bench.name}.ts`;
  const output = await programs.run({ command, cwd: folder, title });
  try {
    return readCases(output, [bench.name, ...bench.values].join(" "));
  } catch (error) {
    if (error instanceof Failure) throw new Failure(`${title} ${error.message}`);
    throw error;
  }
}

function lineOf({ of, base, head }: Result, threshold: number): RatioLine | OnlyLine {
  if (base.size === 0) return { kind: "only", side: "head", ...of };
  if (head.size === 0) return { kind: "only", side: "base", ...of };
  // A difference of two times, as import.ts prints, can be nothing or less in a short round.
  const ratios = [...base]
    .map(([round, ns]) => (head.get(round) ?? Number.NaN) / ns)
    .filter((ratio) => ratio > 0 && ratio < Number.POSITIVE_INFINITY);
  const summary = summarize(ratios);
  return {
    kind: "ratio",
    ...of,
    baseNs: median([...base.values()]),
    headNs: median([...head.values()]),
    ...summary,
    verdict: judge(summary, threshold),
    isControl: isControl(of.peer),
  };
}

function printTable(lines: readonly ComparisonOutput[]): void {
  const [first] = lines as readonly [ComparisonLine];
  const last = lines.at(-1) as ConclusionLine;
  const table = new CliTable({
    head: [
      ...["bench", "case", "bytes", "batch", "peer", "base ns", "head ns", "head ÷ base"],
      ...["min", "max", "95 % interval", ""],
    ],
    style: { head: [], border: [], compact: true },
    colAligns: [
      ...(["left", "left", "right", "right", "left"] as const),
      ...(["right", "right", "right", "right", "right", "left", "left"] as const),
    ],
  });
  for (const line of lines) {
    if (line.kind !== "ratio") continue;
    const { interval } = line;
    table.push([
      ...[line.bench, line.case, line.bytes ?? "", line.batch ?? "", line.peer],
      ...[line.baseNs.toFixed(1), line.headNs.toFixed(1)],
      ...[line.ratio, line.min, line.max].map((ratio) => ratio?.toFixed(3) ?? ""),
      interval ? `${interval.low.toFixed(3)} to ${interval.high.toFixed(3)}` : "",
      line.isControl ? `control: ${line.verdict}` : line.verdict,
    ]);
  }
  const name = ({ revision, commit }: Side) =>
    commit === null ? "the checkout" : `${revision} (${commit.slice(0, 10)})`;
  const rounds = first.rounds === 1 ? "1 round" : `${first.rounds} rounds`;
  console.log(`${name(first.head)} ÷ ${name(first.base)}, ${rounds}. ${first.environment}`);
  console.log(table.toString());
  for (const line of lines) {
    if (line.kind === "only") console.log(sayOnly(line));
  }
  const changed = first.changedBenchmarks;
  if (changed.length > 0) {
    const more = changed.length > SHOWN_FILES ? ` and ${changed.length - SHOWN_FILES} more` : "";
    const shown = changed.slice(0, SHOWN_FILES).join(", ");
    console.log(`These differ too, and a ratio may be theirs: ${shown}${more}.`);
  }
  const differing = lines.filter((line) => line.kind === "ratio").filter(isDifferentControl);
  if (differing.length > 0) {
    const names = [
      ...new Set(differing.map(({ bench, case: name, peer }) => `${bench}, ${name}, ${peer}`)),
    ];
    console.log(`Controls differ too, so a ratio may be the machine's: ${names.join("; ")}.`);
  }
  console.log(sentence(last, first.threshold));
}

// No commit can have made it so.
function isDifferentControl({ isControl, verdict }: RatioLine): boolean {
  return isControl && (verdict === "slower" || verdict === "faster");
}

function sayOnly({ side, bench, case: name, peer, bytes }: OnlyLine): string {
  const title = `${bench}: ${name}, ${bytes === null ? "" : `${bytes} bytes, `}${peer}`;
  return `Only ${side.toUpperCase()} has ${name === null ? `bench/${bench}.ts` : title}.`;
}

function sentence({ slower, tooNoisy, verdict }: ConclusionLine, threshold: number): string {
  const by = `${Number((threshold * 100).toPrecision(6))} %`;
  const cases = (count: number) => (count === 1 ? "1 case" : `${count} cases`);
  const unclear = `${cases(tooNoisy)} cannot be told`;
  if (slower > 0) {
    const besides = tooNoisy > 0 ? `, and ${unclear}` : "";
    return `Slower by more than ${by}: ${cases(slower)}${besides}.`;
  }
  if (tooNoisy > 0)
    return `${verdict === "too noisy" ? "Too noisy" : "Too few rounds"}: ${unclear}.`;
  return `Nothing is slower by more than ${by}.`;
}
