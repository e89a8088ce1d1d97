/**
 * The charts of README.md.
 *
 * @module
 */
import type { ResultLine } from "../results.ts";
import { batchesOf, throughputOf } from "./figures.ts";
import { BASE } from "./questions.ts";
import type { Run } from "./run.ts";
import { standaloneSvg } from "./standalone.ts";

/** As few as a number that others are to believe has. */
export const ROUNDS_MIN = 9;

/**
 * Draws the charts: file names and SVGs.
 *
 * @param name What an error calls the run: the name of its file.
 * @throws {SyntaxError} If the run is none to be shown: without a place or a commit, with changes, of fewer than 9
 *   rounds, or without what the charts show.
 */
export async function recordedCharts(
  { environment, results }: Run,
  name: string,
): Promise<Readonly<Record<string, string>>> {
  if (!environment) throw new SyntaxError(`${name}: does not say where the run was made`);
  if (environment.commit === null) {
    throw new SyntaxError(`${name}: does not say which commit was measured`);
  }
  if (environment.isDirty) {
    throw new SyntaxError(`${name}: what was measured had changes that no commit holds`);
  }
  const short = results.find(({ rounds }) => rounds < ROUNDS_MIN);
  if (short) {
    throw new SyntaxError(
      `${name}: ${JSON.stringify(short.cell)} has ${short.rounds} rounds: a chart needs ${ROUNDS_MIN}`,
    );
  }
  const base = baseOf(results);
  if (!base) throw new SyntaxError(`${name}: no base cell in which two peers were compared`);
  const batches = batchesOf(results);
  if (!batches) throw new SyntaxError(`${name}: nothing was measured at two batch sizes`);
  const throughput = {
    ...throughputOf("", base),
    id: "throughput",
    title: "Datagrams received a second, on one machine",
    text: `${WHERE}, each in its best way. Bar: median of ${roundsOf(base)} rounds; line: slowest to fastest round; hatched: the rounds differ by more than a quarter, so no number is exact.`,
  };
  return {
    "throughput.svg": await standaloneSvg(throughput, environment),
    "cost_by_batch.svg": await standaloneSvg(
      {
        ...batches,
        id: "cost-by-batch",
        title: "What a datagram costs, by how many go in one call",
        text: `${WHERE}; wall time for a datagram that was received. Point: median of ${roundsOf(results)} rounds; line through it: fastest to slowest round; hollow and dotted: the rounds differ by more than a quarter.`,
      },
      environment,
    ),
  };
}

// So is the base, and what varies its batch: see questions.ts.
const WHERE = "UDP over loopback, from one process to another";

function roundsOf(results: readonly ResultLine[]): string {
  const all = results.map(({ rounds }) => rounds);
  const [least, most] = [Math.min(...all), Math.max(...all)];
  return least === most ? `${least}` : `${least} to ${most}`;
}

/** The lines of the base cell, where it compares peers: what a reader asks first. */
function baseOf(results: readonly ResultLine[]): readonly ResultLine[] | undefined {
  const lines = results.filter(({ question }) => question === BASE);
  return new Set(lines.map(({ peer }) => peer)).size > 1 ? lines : undefined;
}
