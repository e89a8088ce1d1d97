/**
 * The charts of README.md.
 *
 * @module
 */
import type { ResultLine } from "../results.ts";
import { batchesOf, throughputOf } from "./figures.ts";
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
  const widest = withMostPeers(results);
  if (!widest) throw new SyntaxError(`${name}: no cell in which two peers were compared`);
  const batches = batchesOf(results);
  if (!batches) throw new SyntaxError(`${name}: nothing was measured at two batch sizes`);
  const throughput = {
    ...throughputOf("", widest),
    id: "throughput",
    title: "Datagrams received a second, on one machine",
  };
  return {
    "throughput.svg": await standaloneSvg(throughput, environment),
    "cost_by_batch.svg": await standaloneSvg(
      {
        ...batches,
        id: "cost-by-batch",
        title: "What a datagram costs, by how many go in one call",
      },
      environment,
    ),
  };
}

/** The lines of the question that compares the most peers: what a reader asks first. */
function withMostPeers(results: readonly ResultLine[]): readonly ResultLine[] | undefined {
  const count = (lines: readonly ResultLine[]) => new Set(lines.map(({ peer }) => peer)).size;
  const questions = [...Map.groupBy(results, ({ question }) => question).values()];
  const [widest] = questions.sort((a, b) => count(b) - count(a));
  return widest && count(widest) > 1 ? widest : undefined;
}
