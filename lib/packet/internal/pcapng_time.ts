/**
 * Times of pcapng: 64 bits that count parts of a second, of a power of 10 or 2.
 *
 * @module
 */

/** The resolution of an interface that says none: microseconds. */
export const RESOLUTION_US = 6;
/** Nanoseconds. */
export const RESOLUTION_NS = 9;

const IS_POWER_OF_2 = 0x80;
const NS_PER_SECOND = 1e9;
const NS = 1_000_000_000n;
const HALF = 0x1_0000;
/** Up to here a long division by halves of words is exact in doubles. */
const EXACT_EXPONENT = 9;

/** Turns the times of an interface into seconds and nanoseconds. */
export class TimeScale {
  seconds = 0;
  nanoseconds = 0;
  /** Parts of a second. */
  readonly resolution: number;
  /** Seconds that are added. */
  readonly offset: number;
  /** Nanoseconds of a part; 0: not by doubles. */
  readonly #unitNs: number;
  readonly #bigResolution: bigint = 0n;

  /**
   * @param code the value of if_tsresol
   * @param offset the value of if_tsoffset
   */
  constructor(code: number, offset: bigint) {
    const exponent = code & ~IS_POWER_OF_2;
    const isDecimal = (code & IS_POWER_OF_2) === 0;
    this.offset = Number(offset);
    this.#unitNs = isDecimal && exponent <= EXACT_EXPONENT ? 10 ** (EXACT_EXPONENT - exponent) : 0;
    if (this.#unitNs > 0) {
      this.resolution = 10 ** exponent;
    } else {
      this.#bigResolution = isDecimal ? 10n ** BigInt(exponent) : 1n << BigInt(exponent);
      this.resolution = Number(this.#bigResolution);
    }
  }

  /** Sets the two from the words of a time. Less than a nanosecond is cut off. */
  read(high: number, low: number): void {
    if (this.#unitNs === 0) {
      this.#readBig(high, low);
      return;
    }
    const { resolution } = this;
    const first = Math.floor(high / resolution);
    const second = (high - first * resolution) * HALF + (low >>> 16);
    const secondQuotient = Math.floor(second / resolution);
    const third = (second - secondQuotient * resolution) * HALF + (low & (HALF - 1));
    const thirdQuotient = Math.floor(third / resolution);
    this.seconds = first * HALF * HALF + secondQuotient * HALF + thirdQuotient + this.offset;
    this.nanoseconds = (third - thirdQuotient * resolution) * this.#unitNs;
  }

  #readBig(high: number, low: number): void {
    const ticks = (BigInt(high) << 32n) | BigInt(low);
    this.seconds = Number(ticks / this.#bigResolution) + this.offset;
    this.nanoseconds = Number(((ticks % this.#bigResolution) * NS) / this.#bigResolution);
  }
}

/** Turns seconds and nanoseconds into the words of a time. */
export class TimeWords {
  high = 0;
  low = 0;
  readonly #perSecond: number;
  readonly #unitNs: number;
  // A second has many packets.
  #seconds = -1;
  #upper = 0;
  #lower = 0;

  /** @param code `RESOLUTION_US` or `RESOLUTION_NS` */
  constructor(code: number) {
    this.#perSecond = 10 ** code;
    this.#unitNs = NS_PER_SECOND / this.#perSecond;
  }

  /** Sets the two. Less than a unit is cut off. */
  set(seconds: number, nanoseconds: number): void {
    if (seconds !== this.#seconds) {
      this.#seconds = seconds;
      const upper = Math.floor(seconds / HALF);
      this.#upper = upper * this.#perSecond;
      this.#lower = (seconds - upper * HALF) * this.#perSecond;
    }
    const lower = this.#lower + Math.floor(nanoseconds / this.#unitNs);
    const carry = Math.floor(lower / HALF);
    const middle = this.#upper + carry;
    this.high = Math.floor(middle / HALF);
    this.low = (middle - this.high * HALF) * HALF + (lower - carry * HALF);
  }
}
