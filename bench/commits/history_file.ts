/**
 * The file of recorded runs: a line of JSON for each, the oldest first. Lines are only ever added, so
 * that what was measured stays what was measured.
 *
 * @module
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Run } from "../report/run.ts";
import type { EnvironmentLine, ResultLine, Spread } from "../results.ts";
import { Failure } from "./programs.ts";

/** Where runs are recorded unless somebody says otherwise. */
export const HISTORY = join(import.meta.dir, "../history.ndjson");

/** Median, least and most of the rounds. */
export type Rounds = readonly [median: number, min: number, max: number];

/** What is kept of one peer in one cell. Times are nanoseconds a datagram. */
export interface RecordedResult {
  readonly ns: Rounds;
  readonly sendCpuNs: Rounds | null;
  readonly receiveCpuNs: Rounds | null;
  readonly ratioToC: Rounds | null;
  readonly rounds: number;
  readonly lost: number;
  readonly isNoisy: boolean;
}

/** A recorded run. */
export interface RecordedRun {
  /** When it began, as ISO 8601. */
  readonly at: string;
  /** Null, or of a checkout that differed from it, only where somebody insisted. */
  readonly commit: string | null;
  readonly isDirty: boolean;
  readonly environment: Omit<EnvironmentLine, "kind" | "at" | "commit" | "isDirty">;
  /** By the name of the cell, then by that of the peer. */
  readonly cells: Readonly<Record<string, Readonly<Record<string, RecordedResult>>>>;
}

/**
 * Makes the line of a run.
 *
 * @param allowDirty whether it may be of a checkout that is no commit, or does not say which
 * @throws {Failure} the run says not where it was made or what of, or found nothing
 */
export function summarizeRun({ environment, results }: Run, allowDirty: boolean): RecordedRun {
  if (environment === null) {
    throw new Failure("the run does not say where it was made: its environment line is missing");
  }
  if (results.length === 0) throw new Failure("the run has no result");
  const { kind: _, at, commit, isDirty, ...rest } = environment;
  if (!allowDirty) {
    const insist = "--allow-dirty records it all the same";
    if (commit === null) throw new Failure(`the run is of no commit; ${insist}`);
    if (isDirty === undefined) {
      throw new Failure(`the run does not say whether it is of just its commit; ${insist}`);
    }
    if (isDirty) throw new Failure(`files differed from the commit of the run; ${insist}`);
  }
  const cells: Record<string, Record<string, RecordedResult>> = {};
  for (const result of results) {
    cells[result.cell] ??= {};
    const cell = cells[result.cell] as Record<string, RecordedResult>;
    if (Object.hasOwn(cell, result.peer)) {
      throw new Failure(`${result.peer} has two results in ${result.cell}`);
    }
    cell[result.peer] = keep(result);
  }
  return { at, commit, isDirty: isDirty ?? true, environment: rest, cells };
}

function keep(result: ResultLine): RecordedResult {
  return {
    ns: roundsOf(result.ns),
    sendCpuNs: result.sendCpuNs && roundsOf(result.sendCpuNs),
    receiveCpuNs: result.receiveCpuNs && roundsOf(result.receiveCpuNs),
    ratioToC: result.ratioToC && roundsOf(result.ratioToC),
    rounds: result.rounds,
    lost: result.lost,
    isNoisy: result.isNoisy,
  };
}

function roundsOf({ median, min, max }: Spread): Rounds {
  // No clock knows more digits, and the file is to stay small.
  const short = (value: number) => Number(value.toPrecision(5));
  return [short(median), short(min), short(max)];
}

/**
 * Reads all recorded runs; none where there is no file yet.
 *
 * @throws {Failure} a line is none, or the last one has no end
 */
export function readHistory(path: string): RecordedRun[] {
  if (!existsSync(path)) return [];
  const text = readFileSync(path, "utf8");
  if (text !== "" && !text.endsWith("\n")) throw new Failure(`${path}: its last line has no end`);
  return text
    .split("\n")
    .slice(0, -1)
    .map((line, index) => {
      const run = parse(line);
      if (run === undefined) throw new Failure(`${path}:${index + 1}: no recorded run`);
      return run;
    });
}

function parse(line: string): RecordedRun | undefined {
  try {
    const run = JSON.parse(line) as Partial<RecordedRun> | null;
    const isRun =
      typeof run?.at === "string" &&
      typeof run.environment === "object" &&
      typeof run.cells === "object";
    return isRun ? (run as RecordedRun) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Adds a run at the end of the file, and leaves all that stands there as it is.
 *
 * @throws {Failure} it stands there already, or the file is not what it should be
 */
export function appendRun(path: string, run: RecordedRun): void {
  const isThere = readHistory(path).some(
    ({ at, commit }) => at === run.at && commit === run.commit,
  );
  if (isThere) throw new Failure(`the run of ${run.at} is recorded already`);
  appendFileSync(path, `${JSON.stringify(run)}\n`);
}
