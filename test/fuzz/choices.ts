/** The decisions of one call, drawn by fast-check: first as they were drawn, then derived of them. */
export class Choices {
  readonly #drawn: readonly number[];
  #at = 0;
  #state = 0x9e3779b9;

  constructor(drawn: readonly number[]) {
    this.#drawn = drawn;
    for (const value of drawn) this.#state = Math.imul(this.#state ^ value, 0x85ebca6b);
  }

  /** A whole number from 0 to `end` - 1. */
  below(end: number): number {
    const drawn = this.#drawn[this.#at++];
    return (drawn ?? this.#derive()) % end;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<Item>(items: readonly Item[]): Item {
    if (items.length === 0) throw new Error("nothing to choose from");
    return items[this.below(items.length)] as Item;
  }

  // Mulberry32: what fast-check did not draw depends on what it did.
  #derive(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let value = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return (value ^ (value >>> 14)) >>> 0;
  }
}
