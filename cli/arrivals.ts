/** Sequence numbers below the highest one of which it is known whether they have come. */
export const WINDOW = 2 ** 20;

const MASK = WINDOW - 1;

/**
 * Which datagrams of a run have come: lost, twice, late, and how evenly. The sequence numbers begin
 * at 0. Nothing of it allocates.
 */
export class Arrivals {
  /** Datagrams that came, each counted once. */
  received = 0;
  /** Those that had come before. */
  duplicates = 0;
  /** Of the received ones, those that came after one with a higher number. */
  reordered = 0;
  /** By how much the number of such a one was below the highest, at most. */
  reorderedMax = 0;
  /**
   * Those so far behind the highest number that nobody knows whether they had come: neither received
   * nor duplicates.
   */
  tooLate = 0;
  /** The number of the first that came, or -1. */
  first = -1;
  /** The highest number that came, or -1. */
  highest = -1;
  /** Datagrams that were lost for want of room in the receive buffer of this host, as far as known. */
  inBuffer = 0;
  /** How unevenly they come, in nanoseconds: the interarrival jitter of RFC 3550, section 6.4.1. */
  jitterNs = 0;
  #transitNs = Number.NaN;
  /** Numbers that there are, and those of them that were never sent, once the sender has said so. */
  #numbers: number | undefined;
  #unsent = 0;
  readonly #seen = new Int32Array(WINDOW / 32);

  /** Numbers that are known to have been given to datagrams. */
  get numbers(): number {
    return Math.max(this.#numbers ?? 0, this.highest + 1);
  }

  /** How many were sent, once the sender has said so. */
  get sent(): number | undefined {
    return this.#numbers === undefined ? undefined : this.#numbers - this.#unsent;
  }

  /** Datagrams that are known to have been sent. */
  get expected(): number {
    return this.numbers - this.#unsent;
  }

  /** Datagrams that were sent and have not come. */
  get lost(): number {
    // Of a train that could not be sent some may have been.
    return Math.max(0, this.expected - this.received);
  }

  /** Of the lost ones, those for which the receive buffer of this host had no room. */
  get lostInBuffer(): number {
    // What was missed may have come later.
    return Math.min(this.inBuffer, this.lost);
  }

  /** Notes a number that has come. Tells whether it counts: not when it is a duplicate, or too late. */
  note(sequence: number): boolean {
    const ahead = sequence - this.highest;
    if (ahead > 0) {
      if (this.first < 0) this.first = sequence;
      if (ahead > 1) this.#forget(this.highest + 1, ahead - 1);
      this.highest = sequence;
    } else if (-ahead >= WINDOW) {
      this.tooLate++;
      return false;
    } else if (this.#has(sequence)) {
      this.duplicates++;
      return false;
    } else {
      this.reordered++;
      this.reorderedMax = Math.max(this.reorderedMax, -ahead);
    }
    this.received++;
    const i = sequence & MASK;
    (this.#seen[i >>> 5] as number) |= 1 << (i & 31);
    return true;
  }

  /** Notes how long one that counts was on its way, by two clocks that may differ. */
  time(transitNs: number): void {
    const difference = Math.abs(transitNs - this.#transitNs);
    // Of the first there is none.
    if (difference >= 0) this.jitterNs += (difference - this.jitterNs) / 16;
    this.#transitNs = transitNs;
  }

  /** Notes how many numbers there are, and how many of them were never sent, as the sender says in the end. */
  end(numbers: number, unsent = 0): void {
    // Less than what has come is not believed.
    if (numbers < (this.#numbers ?? 0)) return;
    this.#numbers = numbers;
    this.#unsent = unsent;
  }

  #has(sequence: number): boolean {
    const i = sequence & MASK;
    return (((this.#seen[i >>> 5] as number) >>> (i & 31)) & 1) === 1;
  }

  /** Says of numbers that they have not come: their places in the window were those of older ones. */
  #forget(from: number, count: number): void {
    if (count >= WINDOW) {
      this.#seen.fill(0);
      return;
    }
    for (let i = from & MASK, left = count; left > 0; ) {
      const bit = i & 31;
      const some = Math.min(32 - bit, left);
      const ones = some === 32 ? -1 : ((1 << some) - 1) << bit;
      (this.#seen[i >>> 5] as number) &= ~ones;
      i = (i + some) & MASK;
      left -= some;
    }
  }
}
