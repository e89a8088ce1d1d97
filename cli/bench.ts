import { isatty } from "node:tty";
import { type Command, InvalidArgumentError, Option } from "commander";
import {
  CELLS,
  type Cell,
  cellsNamed,
  EVERYBODY,
  type Form,
  type PeerName,
  planSeconds,
  QUESTIONS,
  QUICK,
  QUICK_CELLS,
  WHOLE,
} from "../bench/cells.ts";
import type { ResultLine } from "../bench/results.ts";
import type { Progress } from "../bench/suite_progress.ts";
import type { Possible } from "../bench/suite_run.ts";
import {
  type CommonOptions,
  type Help,
  makeCommand,
  type Run,
  reporting,
  SUCCESS,
  withAction,
} from "./command.ts";
import { integer } from "./values.ts";

interface BenchOptions extends CommonOptions {
  readonly whole?: true;
  readonly quick?: true;
  readonly rounds?: number;
  readonly roundMs?: number;
  readonly only?: PeerName;
  readonly list?: true;
}

/** How much is measured where nothing else is said. */
type Usual = "quick" | "whole";

const FORMS: Readonly<Record<Usual, Form>> = { quick: QUICK, whole: WHOLE };
const STDOUT = 1;
const ROUNDS_MAX = 1000;
const ROUND_MS_MAX = 60_000;
const MINUTE_SECONDS = 60;

/** `bench`: the suite of benchmarks, or what of it shows most in little time. */
export function benchCommand(): Command {
  return suiteCommand("bench", "quick", {
    examples: [
      ["bun-sockets bench", "what this machine does by each way for datagrams, in 20 seconds"],
      ["bun-sockets bench unix families --only bun-sockets", "some cells of the suite, ours alone"],
      ["bun-sockets bench --list", "the names of all cells"],
      ["bun-sockets bench --whole --json > run.ndjson", "the whole suite, for programs"],
    ],
  });
}

/** A command that runs the suite: usually all of it, or the quick form. */
export function suiteCommand(name: string, usual: Usual, help: Help): Command {
  const what =
    "Measures what datagrams cost on this machine, with this library, in C, and with what else there is.";
  const other = usual === "quick" ? "whole" : "quick";
  const usually = (key: "rounds" | "roundMs") =>
    `(default: ${FORMS[usual][key]}, with --${other} ${FORMS[other][key]})`;
  const command = makeCommand(name, what, help)
    .argument("[name...]", `cells of the suite: ${NAMES}`, addName)
    .option("--rounds <count>", `of each peer ${usually("rounds")}`, integer(1, ROUNDS_MAX))
    .option(
      "--round-ms <milliseconds>",
      `how long a round is ${usually("roundMs")}`,
      integer(1, ROUND_MS_MAX),
    )
    .addOption(new Option("--only <peer>", "nobody else").choices(EVERYBODY))
    .option("--list", "shows the names of the cells, and measures nothing");
  const minutes = Math.ceil(planSeconds(CELLS, WHOLE) / MINUTE_SECONDS);
  if (usual === "quick")
    command.option(
      "--whole",
      `all ${CELLS.length} cells, and all that is measured: ${minutes} minutes`,
    );
  else command.option("--quick", `${QUICK_CELLS.size} cells, and few short rounds: 20 seconds`);
  return withAction<BenchOptions>(command, (run, options) =>
    bench(run, options, command.processedArgs[0] ?? [], usual),
  );
}

const NAMES = `a question (${QUESTIONS.join(", ")}), or what names begin with, such as "unix"`;

function addName(name: string, before: readonly string[] = []): string[] {
  if (cellsNamed(name).length > 0) return [...before, name];
  throw new InvalidArgumentError(`There are no such cells. Expected ${NAMES}; --list shows all.`);
}

async function bench(
  run: Run,
  options: BenchOptions,
  names: readonly string[],
  usual: Usual,
): Promise<number> {
  const named = [...new Set(names.flatMap(cellsNamed))];
  if (options.list) {
    list(run, names.length > 0 ? named : CELLS);
    return SUCCESS;
  }
  const form = options.whole ? "whole" : options.quick ? "quick" : usual;
  const { rounds = FORMS[form].rounds, roundMs = FORMS[form].roundMs } = options;
  const all = form === "whole" ? CELLS : [...QUICK_CELLS.keys()];
  // What measures is loaded when there is something to be measured.
  const { possibleHere } = await import("../bench/suite_run.ts");
  const possible = possibleHere(names.length > 0 ? named : all, options.only);
  const { cells, missing, isWithoutVeth } = possible;
  if (missing.length > 0) run.note(`not installed here, so left out: ${missing.join(", ")}`);
  if (isWithoutVeth)
    run.note("left out, as they need network namespaces (root): the cells over veth");
  if (cells.length === 0)
    throw new Error(`Cannot measure any of these cells here${by(options.only)}`);
  const isWide = form === "whole";
  const lines = await measure(run, possible, { ...FORMS[form], rounds, roundMs }, isWide);
  if (lines.length === 0) run.stop.throwIfAborted();
  return SUCCESS;
}

function by(peer: PeerName | undefined): string {
  return peer === undefined ? "" : ` by ${peer}`;
}

function list({ json, output }: Run, cells: readonly Cell[]): void {
  if (json) {
    for (const { name, question, peers } of cells)
      output.json({ kind: "cell", name, question, peers });
    return;
  }
  for (const [question, some] of Map.groupBy(cells, (one) => one.question)) {
    output.line(question);
    for (const { name } of some) output.line(`  ${name}`);
  }
}

async function measure(
  run: Run,
  possible: Possible,
  form: Form,
  isWide: boolean,
): Promise<readonly ResultLine[]> {
  const { runSuite, stepsOf } = await import("../bench/suite_run.ts");
  const { startProgress } = await import("../bench/suite_progress.ts");
  const { environmentText, quickTable, resultTables } = await import("../bench/suite_table.ts");
  const { json, output, stop } = run;
  const { cells } = possible;
  const lines: ResultLine[] = [];
  let progress: Progress | undefined;
  const onCell = ({ name }: Cell) => progress?.title(name);
  const onStep = () => progress?.step();
  const work = async () => {
    try {
      for await (const line of runSuite(cells, { ...form, signal: stop, onCell, onStep })) {
        if (line.kind === "result") lines.push(line);
        if (json) output.json(line);
        else if (line.kind === "environment") {
          output.line(environmentText(line));
          output.line(`${count(cells.length, "cell")}, ${aboutTime(planSeconds(cells, form))}`);
        }
        output.flush();
        // What was told before it stays above it; nothing is told into it.
        if (!json || !isatty(STDOUT)) progress ??= startProgress(stepsOf(cells, form));
      }
    } finally {
      progress?.stop();
    }
  };
  const report = () => {
    if (json || lines.length === 0) return;
    output.line(isWide ? resultTables(lines) : quickTable(lines));
    for (const line of remarks(lines, possible, isWide)) output.line(line);
  };
  await reporting(work, report);
  return lines;
}

function* remarks(
  lines: readonly ResultLine[],
  { cells, missing }: Possible,
  isWide: boolean,
): Generator<string> {
  const done = new Set(lines.map(({ cell }) => cell)).size;
  if (done < cells.length) yield `ended after ${done} of ${count(cells.length, "cell")}`;
  if (!isWide)
    yield "ns: wall time for a datagram, from one process to another; ÷ C: how many times that of C";
  if (missing.includes("c")) yield "÷ C is empty: C takes gcc and the headers of libc";
  if (lines.some(({ isNoisy }) => isNoisy))
    yield "~, too noisy: the rounds differ by more than a quarter, so the number says little";
  if (!isWide)
    yield `--whole measures all ${count(CELLS.length, "cell")}, and latency, CPU time, system calls, memory`;
}

function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function aboutTime(seconds: number): string {
  const isLong = seconds > 2 * MINUTE_SECONDS;
  return isLong
    ? `about ${Math.ceil(seconds / MINUTE_SECONDS)} min`
    : `about ${Math.ceil(seconds)} s`;
}
