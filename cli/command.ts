/**
 * What all commands share: options, output, the end by Ctrl-C, errors and exit codes.
 *
 * @module
 */
import { Command, CommanderError } from "commander";
import { BrokenPipe, Output, say } from "./output.ts";

/** 0: done. */
export const SUCCESS = 0;
/** 1: something failed while running; `icmp`: nobody answered. */
export const FAILURE = 1;
/** 2: the command line was wrong. */
export const USAGE = 2;

/** What an action has besides its operands and options. */
export interface Run {
  readonly output: Output;
  /** Whether programs read the output: one JSON value a line, and nothing else. */
  readonly json: boolean;
  /** Aborted by Ctrl-C and SIGTERM: the action ends with its summary. A second one ends the process. */
  readonly stop: AbortSignal;
  /** Tells the person in front of the terminal something that is no part of the output. */
  note(text: string): void;
}

/** The options that every command has. */
export interface CommonOptions {
  readonly json?: true;
  readonly debug?: true;
}

/** A value of the command line was wrong: its name, and what was expected. Exit code 2. */
export class UsageError extends Error {
  override name = "UsageError";
  /** What to do about it. Default: read the help. */
  readonly hint: string | undefined;

  constructor(message: string, hint?: string) {
    super(message);
    this.hint = hint;
  }
}

/** What a command does; the result is the exit code. */
export type Action<Options> = (run: Run, options: Options, operands: string[]) => Promise<number>;

/** What stands at the end of a command's help. */
export interface Help {
  /** Lines of a shell, each with what it does. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  /** Exit codes that mean something else than for all commands. */
  readonly exitCodes?: string;
}

/** What exit codes mean, where a command says nothing else. */
export const EXIT_CODES =
  "Exit codes: 0 done (also when ended by Ctrl-C), 1 failed while running, 2 wrong usage.";

/** A command with what all have. `action` is given it with its operands and options added. */
export function makeCommand(name: string, summary: string, help: Help): Command {
  const command = new Command(name).description(summary);
  return command.addHelpText("after", helpEnd(help)).allowExcessArguments(false);
}

/** What stands behind the options in a help. */
export function helpEnd({ examples, exitCodes = EXIT_CODES }: Help): string {
  const lines = examples.map(([line, meaning]) => `  ${line}\n      ${meaning}`);
  return `\nExamples:\n${lines.join("\n")}\n\n${exitCodes}`;
}

/** Adds the options that every command has, and what it does. */
export function withAction<Options extends CommonOptions>(
  command: Command,
  action: Action<Options>,
): Command {
  return command
    .option("--json", "one JSON value a line on standard output, and nothing else there")
    .option("--debug", "errors with their stack")
    .action(async () => {
      const options = command.opts<Options>();
      process.exitCode = await execute(command, action, options);
    });
}

async function execute<Options extends CommonOptions>(
  command: Command,
  action: Action<Options>,
  options: Options,
): Promise<number> {
  const output = new Output();
  const stop = new AbortController();
  const end = () => stop.abort();
  // Once: who presses Ctrl-C again does not wait for the summary.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, end);
  const run: Run = {
    output,
    json: options.json === true,
    stop: stop.signal,
    // Lines that are still waiting come first.
    note: (text) => {
      output.flush();
      say(`${text}\n`);
    },
  };
  try {
    const code = await action(run, options, command.args);
    output.flush();
    return code;
  } catch (thrown) {
    const error = firstOf(thrown);
    if (isBrokenPipe(error)) return SUCCESS;
    // Ctrl-C came before there was anything to sum up.
    if (stop.signal.aborted && error === stop.signal.reason) return FAILURE;
    return report(error, commandPath(command), options.debug === true, output);
  }
}

/** What went wrong first, where closing what was open went wrong after it. */
function firstOf(error: unknown): unknown {
  const isSuppressed = error instanceof Error && error.name === "SuppressedError";
  return isSuppressed ? firstOf((error as Error & { suppressed: unknown }).suppressed) : error;
}

/** Does something and reports, also of what was done before an error; not to who has gone away. */
export async function reporting(work: () => Promise<void>, report: () => void): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isBrokenPipe(firstOf(error))) report();
    throw error;
  }
  report();
}

/** Whether nobody reads any more what is written: text, or a file on standard output. */
function isBrokenPipe(error: unknown): boolean {
  return error instanceof BrokenPipe || (error as { code?: unknown } | null)?.code === "EPIPE";
}

/** Runs a program, with all commands that it has, and sets the exit code. */
export async function runProgram(program: Command, values: readonly string[]): Promise<void> {
  const output = new Output();
  for (const command of [program, ...program.commands]) {
    command.helpOption("-h, --help", "this text").exitOverride();
    command.configureOutput({
      writeOut: (text) => output.text(text),
      writeErr: say,
      outputError: (text, write) => write(errorLines(command, text)),
      // Colours nowhere, so nothing has to find out about terminals.
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  }
  try {
    await program.parseAsync(values, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    process.exitCode = error.exitCode === 0 ? SUCCESS : USAGE;
  }
  try {
    output.flush();
  } catch (error) {
    if (error instanceof BrokenPipe) return;
    say(`${program.name()}: ${(error as Error).message}\n`);
    process.exitCode = FAILURE;
  }
}

/** Commander's "error: …" in the form of all our errors, with where to read on. */
function errorLines(command: Command, text: string): string {
  const name = commandPath(command);
  const message = text.replace(/^error: /, "").trimEnd();
  return `${name}: ${message.replaceAll("\n", " ")}\nhint: ${name} --help\n`;
}

/** How a command is called: "bun-sockets dump". */
export function commandPath(command: Command): string {
  return command.parent ? `${command.parent.name()} ${command.name()}` : command.name();
}

/** Tells of an error in one line, with the remedy on the next, and gives the exit code. */
function report(error: unknown, name: string, debug: boolean, output: Output): number {
  try {
    // What happened before it.
    output.flush();
  } catch (flushed) {
    if (!(flushed instanceof BrokenPipe)) throw flushed;
  }
  const { message, hint, stack } = describe(error);
  const lines = [`${name}: ${message.replaceAll(/\s*\n\s*/g, " ")}`];
  const remedy = hint ?? (error instanceof UsageError ? `${name} --help` : undefined);
  if (remedy !== undefined) lines.push(`hint: ${remedy.replaceAll(/\s*\n\s*/g, " ")}`);
  if (debug && stack !== undefined) lines.push(stack);
  say(`${lines.join("\n")}\n`);
  return error instanceof UsageError ? USAGE : FAILURE;
}

function describe(error: unknown): {
  readonly message: string;
  readonly hint?: string | undefined;
  readonly stack?: string | undefined;
} {
  return error instanceof Error ? error : { message: String(error) };
}
