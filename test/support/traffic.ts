/**
 * What the commands that send and receive tell programs: JSON lines.
 *
 * @module
 */
import { expect } from "bun:test";
import { type Outcome, RunningCommand, type RunOptions } from "./command.ts";

/** A line. */
export type Line = Readonly<Record<string, unknown>>;

/** Reads them. */
export function linesOf({ stdout }: Pick<Outcome, "stdout">): Line[] {
  const lines = stdout.trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line));
}

/** The last one, of a command that ended well. */
export function summaryOf(outcome: Outcome): Line {
  expect([outcome.exitCode, outcome.stderr]).toEqual([0, ""]);
  const summary = linesOf(outcome).at(-1) as Line;
  expect(summary["type"]).toBe("summary");
  return summary;
}

/** Starts what listens, and gives its port. */
export async function listening(
  values: readonly string[],
  options: Pick<RunOptions, "prefix"> = {},
): Promise<{ running: RunningCommand; port: number }> {
  const running = new RunningCommand([...values, "--json"], options);
  await running.until((stdout) => stdout.includes("\n"));
  const [first] = linesOf(running);
  expect(first?.["type"]).toBe("listening");
  return { running, port: first?.["port"] as number };
}

/** Ends it as Ctrl-C does. */
export async function end(
  running: RunningCommand,
  signal: "SIGINT" | "SIGTERM" = "SIGINT",
): Promise<Outcome> {
  running.signal(signal);
  return running.ended();
}

/** This machine, its address, and the option that chooses it. */
export const HOSTS = [
  ["127.0.0.1", "127.0.0.1", "-4"],
  ["[::1]", "::1", "-6"],
  ["localhost", "127.0.0.1", "-4"],
  ["localhost", "::1", "-6"],
] as const;
