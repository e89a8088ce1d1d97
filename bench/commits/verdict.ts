/**
 * What the rounds of a comparison say, and what they cannot say.
 *
 * @module
 */
import { binomialDistribution, max, median, min, sum } from "simple-statistics";

/** How sure an interval is to hold the median, at least. */
const CONFIDENCE = 0.95;

/**
 * What is said of a case: the whole interval lies above the threshold, at or below it, or below its
 * opposite; or the threshold lies in the interval; or there is no interval.
 */
export type Verdict = "slower" | "not slower" | "faster" | "too noisy" | "too few rounds";

/**
 * Some ratios, one of each round: median, least, most, and where their true median is. Null where no
 * round has one.
 */
export interface Ratios {
  readonly rounds: number;
  readonly ratio: number | null;
  readonly min: number | null;
  readonly max: number | null;
  /** Null where there are too few rounds to say it with 95 percent. */
  readonly interval: Interval | null;
}

/** Where the median is of that which the values are samples of. */
export interface Interval {
  readonly low: number;
  readonly high: number;
  /** How likely an interval that is made so holds it: 0.95 or more. */
  readonly confidence: number;
}

/** Sums up the ratios of the rounds. */
export function summarize(ratios: readonly number[]): Ratios {
  const rounds = ratios.length;
  if (rounds === 0) return { rounds, ratio: null, min: null, max: null, interval: null };
  return {
    rounds,
    ratio: median([...ratios]),
    min: min([...ratios]),
    max: max([...ratios]),
    interval: medianInterval(ratios) ?? null,
  };
}

/**
 * The interval that a sign test does not refute: between the k-th least and the k-th most value, with
 * the largest k that leaves 95 percent. It takes nothing for granted about how the values are spread,
 * so an outlier or two do not widen it. Undefined below six values, which cannot say as much.
 */
export function medianInterval(values: readonly number[]): Interval | undefined {
  const sorted = [...values].sort((one, other) => one - other);
  // How likely k of the values are below the median, each with the chance of a coin.
  const chances = binomialDistribution(sorted.length, 0.5) ?? [];
  let found: Interval | undefined;
  for (let k = 1; 2 * k <= sorted.length; k++) {
    const confidence = 1 - 2 * sum(chances.slice(0, k));
    if (confidence < CONFIDENCE) break;
    const low = sorted[k - 1] as number;
    found = { low, high: sorted[sorted.length - k] as number, confidence };
  }
  return found;
}

/**
 * Judges a case.
 *
 * @param threshold what may be lost: 0.05 calls a ratio of more than 1.05 slower, and one of less
 *   than 0.95 faster
 */
export function judge({ interval }: Pick<Ratios, "interval">, threshold: number): Verdict {
  if (interval === null) return "too few rounds";
  if (interval.low > 1 + threshold) return "slower";
  if (interval.high > 1 + threshold) return "too noisy";
  return interval.high < 1 - threshold ? "faster" : "not slower";
}

/** What a comparison ends with: its verdict in a word, and the exit code that says the same. */
export function conclude(verdicts: readonly Verdict[]): { verdict: Verdict; exitCode: 0 | 1 | 3 } {
  if (verdicts.includes("slower")) return { verdict: "slower", exitCode: 1 };
  const unclear = (["too noisy", "too few rounds"] as const).find((one) => verdicts.includes(one));
  return unclear ? { verdict: unclear, exitCode: 3 } : { verdict: "not slower", exitCode: 0 };
}
