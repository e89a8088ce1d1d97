/**
 * What both programs have in common: one file in, something out, and errors in one line.
 *
 * @module
 */
import { parseArgs } from "node:util";

const FAILURE = 1;
const WRONG_USE = 2;

/**
 * Reads the command line, does the work, and prints which files were written.
 *
 * @param usage What `--help` prints after "bun".
 * @param otherwise Where it goes without `--out`.
 */
export async function runTool(
  usage: string,
  otherwise: string,
  work: (file: string, out: string) => Promise<readonly string[]>,
): Promise<void> {
  const given = readArguments();
  if (typeof given !== "string" && given.isHelp) return console.log(`usage: bun ${usage}`);
  if (typeof given === "string" || given.file === undefined) {
    const why = typeof given === "string" ? given : "which run? Name one file of JSON lines";
    return fail(`${why}\nusage: bun ${usage}`, WRONG_USE);
  }
  try {
    for (const path of await work(given.file, given.out ?? otherwise)) console.log(path);
  } catch (error) {
    if (!isExpected(error)) throw error;
    fail(error.message, FAILURE);
  }
}

function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      options: { out: { type: "string" }, help: { type: "boolean", short: "h", default: false } },
      allowPositionals: true,
    });
    const file = positionals.length === 1 ? positionals[0] : undefined;
    return { file, out: values.out, isHelp: values.help };
  } catch (error) {
    return (error as Error).message;
  }
}

// What is wrong with the run, or with the files: not with this program.
function isExpected(error: unknown): error is Error {
  return error instanceof SyntaxError || (error instanceof Error && "syscall" in error);
}

function fail(message: string, code: number): void {
  console.error(message);
  process.exitCode = code;
}
