/**
 * Where events come from, and how: the placements that are tested, and what is run for each.
 *
 * @module
 */
import type { PatternName, Ringer, Run } from "./run.ts";

/** What is asked of a placement. */
export interface Placement {
  readonly name: string;
  readonly pattern: PatternName;
  /** Whether events come from the core of the JavaScript thread, and from another one. */
  readonly oneCore: boolean;
  readonly twoCores: boolean;
}

/** The placements. Where both are true, one half of the events comes from the same core. */
export const PLACEMENTS: readonly Placement[] = [
  { name: "one core", pattern: "one socket", oneCore: true, twoCores: false },
  { name: "two cores", pattern: "one socket", oneCore: false, twoCores: true },
  { name: "many sockets", pattern: "many sockets", oneCore: true, twoCores: true },
  { name: "bursts", pattern: "bursts", oneCore: true, twoCores: true },
  { name: "closed and reopened", pattern: "closed and reopened", oneCore: true, twoCores: true },
];

/**
 * The runs of a placement, in steps: those of a step go on at the same time, one on each of two
 * cores, or one in each direction between them.
 */
export function stepsOf(
  { pattern, oneCore, twoCores }: Placement,
  ringer: Ringer,
  events: number,
  cores: readonly number[],
): Run[][] {
  const first = cores[0] as number;
  const last = cores.at(-1) as number;
  const pairs: (readonly [number, number])[][] = [];
  if (oneCore) pairs.push([...new Set([first, last])].map((core) => [core, core]));
  if (twoCores && first !== last)
    pairs.push([
      [first, last],
      [last, first],
    ]);
  const share = Math.ceil(events / pairs.flat().length);
  return pairs.map((step) => step.map((cores) => ({ ringer, pattern, events: share, cores })));
}
