import { createHistogram, type RecordableHistogram } from "node:perf_hooks";

/** What is told of many times, each in the unit of the name that it goes under. */
export interface SpreadSummary {
  readonly min: number;
  readonly mean: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  /** 999 of a thousand took at most so long. */
  readonly p999: number;
  readonly max: number;
}

/** How times are spread: any number of them in little memory, percentiles to a thousandth. */
export class Spread {
  readonly #histogram: RecordableHistogram = createHistogram();

  /** How many there are. */
  get count(): number {
    return this.#histogram.count;
  }

  /** Adds a time in nanoseconds. */
  record(nanoseconds: number): void {
    // A histogram begins at 1.
    this.#histogram.record(Math.max(1, Math.round(nanoseconds)));
  }

  /** The times in a unit of so many nanoseconds; undefined where there are none. */
  summary(unitNs: number): SpreadSummary | undefined {
    const histogram = this.#histogram;
    if (histogram.count === 0) return undefined;
    const { min, max } = histogram;
    const inUnit = (nanoseconds: number) => round(nanoseconds / unitNs, 3);
    // The histogram gives the end of a class, which may be above what was recorded.
    const percentile = (percent: number) => inUnit(Math.min(histogram.percentile(percent), max));
    return {
      min: inUnit(min),
      mean: inUnit(histogram.mean),
      p50: percentile(50),
      p90: percentile(90),
      p99: percentile(99),
      p999: percentile(99.9),
      max: inUnit(max),
    };
  }
}

/** A summary as people read it: "min 1.2, mean 3, …". */
export function spreadText(summary: SpreadSummary): string {
  const parts = Object.entries(summary).map(([name, value]) => `${name} ${value}`);
  return parts.join(", ").replace("p999", "p99.9");
}

/** A number with so many decimals at most. */
export function round(value: number, decimals: number): number {
  return Number(value.toFixed(decimals));
}
