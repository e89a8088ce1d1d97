// How has a cell of the suite developed? Shows the runs that bench/record.ts has put on record.
import CliTable from "cli-table3";
import { Command, CommanderError } from "commander";
import { max, min } from "simple-statistics";
import {
  HISTORY,
  type RecordedResult,
  type RecordedRun,
  type Rounds,
  readHistory,
} from "./commits/history_file.ts";
import { Failure } from "./commits/programs.ts";

/** A line of `--json`: what a peer did in a cell in one recorded run. */
export interface HistoryOutput extends RecordedResult {
  readonly at: string;
  readonly commit: string | null;
  readonly isDirty: boolean;
  readonly cell: string;
  readonly peer: string;
}

interface Options {
  readonly peer: string | undefined;
  readonly history: string;
  readonly json: boolean;
}

/** A recorded result, and the run that it is of. */
interface Point {
  readonly run: RecordedRun;
  readonly result: RecordedResult;
}

const OURS = "bun-sockets";
const FAILED = 1;
const WRONG_USE = 2;
const BARS = "▁▂▃▄▅▆▇█";

const program = new Command("bun bench/history.ts")
  .description("Shows how the cells of the suite developed.")
  .argument("[CELL]", "one cell, or a part of the names of some; without it all")
  .option("--peer <PEER>", `only this one; of several cells ${OURS} unless another is named`)
  .option("--history <FILE>", "which runs, instead of bench/history.ndjson", HISTORY)
  .option("--json", "print a line of JSON for each run, cell and peer", false)
  .addHelpText(
    "after",
    `
A line of bars reaches from the least to the most of what it shows, so it tells when something changed
and not by how much. Numbers of different machines cannot be compared: a run that was made elsewhere
than the one before it says so. The ratio to C is that of the same minute on the same machine.

Exit codes: 0, 1 when there is nothing of that name, 2 wrong usage.

Examples:
  bun bench/history.ts
  bun bench/history.ts udp4/1200/sendmmsg-recvmmsg --peer bun-sockets`,
  )
  .exitOverride()
  .action(main);

try {
  program.parse();
} catch (error) {
  process.exitCode = explain(error);
}

function explain(error: unknown): number {
  // Commander has said it, and its help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
  if (!(error instanceof Failure)) throw error;
  console.error(`error: ${error.message}`);
  return FAILED;
}

function main(cell: string | undefined, { peer, history, json }: Options): void {
  const runs = readHistory(history);
  if (runs.length === 0) throw new Failure(`${history} has no run yet: see bench/record.ts`);
  const names = [...new Set(runs.flatMap(({ cells }) => Object.keys(cells)))];
  const found = choose(names, cell);
  if (found.length === 0) throw new Failure(`no recorded cell has "${cell}" in its name`);
  const isOne = found.length === 1 && found[0] === cell;
  const peers = (name: string) =>
    peer === undefined && !isOne && !json ? [OURS] : peersOf(runs, name, peer);
  const series = found.flatMap((name) =>
    peers(name).map((one) => ({ cell: name, peer: one, points: pointsOf(runs, name, one) })),
  );
  const shown = series.filter(({ points }) => points.length > 0);
  if (shown.length === 0) throw new Failure(`${peer ?? OURS} has no recorded result there`);
  if (json) printLines(shown);
  else if (isOne) for (const one of shown) printSeries(one);
  else printOverview(shown);
}

/** The cells that are meant: the one of just this name, or all that have it in theirs. */
function choose(names: readonly string[], cell: string | undefined): readonly string[] {
  if (cell === undefined) return names;
  return names.includes(cell) ? [cell] : names.filter((name) => name.includes(cell));
}

function peersOf(runs: readonly RecordedRun[], cell: string, peer: string | undefined): string[] {
  const all = new Set(runs.flatMap(({ cells }) => Object.keys(cells[cell] ?? {})));
  return [...all].filter((name) => peer === undefined || name === peer);
}

function pointsOf(runs: readonly RecordedRun[], cell: string, peer: string): Point[] {
  return runs.flatMap((run) => {
    const result = run.cells[cell]?.[peer];
    return result ? [{ run, result }] : [];
  });
}

/** What is shown of a peer in a cell. */
interface Series {
  readonly cell: string;
  readonly peer: string;
  readonly points: readonly Point[];
}

function printLines(shown: readonly Series[]): void {
  for (const { cell, peer, points } of shown) {
    for (const { run, result } of points) {
      const { at, commit, isDirty } = run;
      const line: HistoryOutput = { at, commit, isDirty, cell, peer, ...result };
      console.log(JSON.stringify(line));
    }
  }
}

function printOverview(shown: readonly Series[]): void {
  const table = new CliTable({
    head: ["cell", "peer", "runs", "ns", "first", "last", "÷ C", "first", "last"],
    style: { head: [], border: [], compact: true },
    colAligns: ["left", "left", "right", "left", "right", "right", "left", "right", "right"],
  });
  for (const { cell, peer, points } of shown) {
    const ns = points.map(({ result }) => result.ns[0]);
    const ratios = points.map(({ result }) => result.ratioToC?.[0]);
    const known = ratios.filter((ratio) => ratio !== undefined);
    table.push([
      ...[cell, peer, points.length],
      ...[sparkline(ns), ns[0] as number, ns.at(-1) as number],
      ...[sparkline(ratios), known[0] ?? "", known.at(-1) ?? ""],
    ]);
  }
  console.log(table.toString());
}

function printSeries({ cell, peer, points }: Series): void {
  const medians = points.map(({ result }) => result.ns[0]);
  console.log(`${cell}, ${peer}: ${sparkline(medians)} from ${min(medians)} to ${max(medians)} ns`);
  const table = new CliTable({
    head: ["run", "commit", "ns", "min", "max", "÷ C", "min", "max", "lost", ""],
    style: { head: [], border: [], compact: true },
    colAligns: ["left", "left", ...Array<"right">(7).fill("right"), "left"],
  });
  for (const [index, { run, result }] of points.entries()) {
    const ratio: Rounds | readonly string[] = result.ratioToC ?? ["", "", ""];
    table.push([
      run.at.slice(0, 16).replace("T", " "),
      `${run.commit?.slice(0, 10) ?? "none"}${run.isDirty ? ", changed" : ""}`,
      ...[...result.ns, ...ratio, result.lost],
      [...(result.isNoisy ? ["too noisy"] : []), ...differences(points[index - 1]?.run, run)].join(
        "; ",
      ),
    ]);
  }
  console.log(table.toString());
}

/** What else changed since the run before, besides the commit. */
function differences(before: RecordedRun | undefined, { environment }: RecordedRun): string[] {
  if (before === undefined) return [];
  const titles = { cpu: "CPU", cores: "cores", kernel: "Linux", bun: "Bun" } as const;
  return (Object.keys(titles) as (keyof typeof titles)[])
    .filter((key) => environment[key] !== before.environment[key])
    .map((key) => `${titles[key]} ${environment[key]}, before ${before.environment[key]}`);
}

/** A bar for each value, from the least to the most; a gap where there is none. */
function sparkline(values: readonly (number | undefined)[]): string {
  const known = values.filter((value) => value !== undefined);
  if (known.length === 0) return "";
  const [least, most] = [min(known), max(known)];
  const step = (value: number) =>
    most === least ? 0 : Math.round(((value - least) / (most - least)) * (BARS.length - 1));
  return values.map((value) => (value === undefined ? " " : BARS[step(value)])).join("");
}
