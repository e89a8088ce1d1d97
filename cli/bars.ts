// Classes for each doubling: the finest that are shown.
const STEPS = 8;
const OCTAVES = 53;
const ROWS_MAX = 16;
const ROWS_MIN = 4;
const WIDTH = 40;

/** A row of a histogram: from this on, below that, how many. */
export interface Bar {
  readonly from: number;
  readonly to: number;
  readonly count: number;
}

/** How numbers of 1 and more are spread, in classes that grow with them; for looking at. */
export class Bars {
  readonly #counts = new Float64Array(STEPS * OCTAVES);

  /** Adds a number. */
  record(value: number): void {
    const i = Math.floor(Math.log2(Math.max(1, value)) * STEPS);
    (this.#counts[Math.min(i, this.#counts.length - 1)] as number)++;
  }

  /** The rows from the lowest to the highest number: not many, and as fine as that allows. */
  rows(): Bar[] {
    const first = this.#counts.findIndex((count) => count > 0);
    const last = this.#counts.findLastIndex((count) => count > 0);
    if (first < 0) return [];
    // Few numbers in many rows are mostly gaps.
    const total = this.#counts.reduce((sum, count) => sum + count, 0);
    const most = Math.min(ROWS_MAX, Math.max(ROWS_MIN, Math.ceil(2 * Math.sqrt(total))));
    for (let merged = 1; ; merged *= 2) {
      const begin = Math.floor(first / merged);
      const end = Math.floor(last / merged) + 1;
      // Two rows at least: one alone is as wide as all of them.
      if (end - begin > most) continue;
      return Array.from({ length: end - begin }, (_, k) => this.#row((begin + k) * merged, merged));
    }
  }

  #row(first: number, merged: number): Bar {
    const counts = this.#counts.subarray(first, first + merged);
    return {
      from: 2 ** (first / STEPS),
      to: 2 ** ((first + merged) / STEPS),
      count: counts.reduce((sum, count) => sum + count, 0),
    };
  }
}

/** Rows as text: from where, how many, and a bar as long. */
export function barLines(rows: readonly Bar[], text: (value: number) => string): string[] {
  const most = Math.max(...rows.map(({ count }) => count));
  const from = rows.map((row) => text(row.from));
  const counts = rows.map(({ count }) => String(count));
  const widths = [from, counts].map((column) => Math.max(...column.map(({ length }) => length)));
  return rows.map(({ count }, k) => {
    // What there is at all is seen.
    const bar = "#".repeat(Math.ceil((count * WIDTH) / most));
    const label = (from[k] as string).padStart(widths[0] as number);
    return `  ${label}  ${(counts[k] as string).padStart(widths[1] as number)}  ${bar}`.trimEnd();
  });
}
