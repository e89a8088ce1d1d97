// Puts a run of the suite on record: a line more in bench/history.ndjson, which bench/history.ts shows.
import { Command, CommanderError } from "commander";
import { appendRun, HISTORY, summarizeRun } from "./commits/history_file.ts";
import { Failure } from "./commits/programs.ts";
import { readRun } from "./report/run.ts";

interface Options {
  readonly allowDirty: boolean;
  readonly history: string;
}

const REFUSED = 1;
const WRONG_USE = 2;

const program = new Command("bun bench/record.ts")
  .description("Records a run of the suite, from its JSON lines.")
  .argument("[FILE]", 'what the suite printed with --json; "-" for standard input', "-")
  .option("--allow-dirty", "also a run of files that are no commit", false)
  .option("--history <FILE>", "where to, instead of bench/history.ndjson", HISTORY)
  .addHelpText(
    "after",
    `
Lines that stand there are never changed. Exit codes: 0 recorded, 1 refused, 2 wrong usage.

Examples:
  bun bench/suite.ts --json | bun bench/record.ts
  bun bench/record.ts run.ndjson`,
  )
  .exitOverride()
  .action(main);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = explain(error);
}

async function main(file: string, { allowDirty, history }: Options): Promise<void> {
  if (file === "-" && process.stdin.isTTY)
    program.error("error: name a FILE, or pipe the lines in");
  const name = file === "-" ? "standard input" : file;
  const text = await (file === "-" ? Bun.stdin : Bun.file(file)).text();
  const run = summarizeRun(readRun(text, name), allowDirty);
  appendRun(history, run);
  const count = Object.keys(run.cells).length;
  console.log(`${count === 1 ? "1 cell" : `${count} cells`} of ${run.at} in ${history}`);
}

function explain(error: unknown): number {
  // Commander has said it, and its help is no failure.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_USE;
  const isOfFiles = error instanceof Error && "syscall" in error;
  if (!(error instanceof Failure || error instanceof SyntaxError || isOfFiles)) throw error;
  console.error(`error: ${error.message}`);
  return REFUSED;
}
