/**
 * What the values of options may be. Each says what was expected, and commander says of which option.
 *
 * @module
 */
import { InvalidArgumentError } from "commander";

/** An integer within bounds, as text in decimal digits. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value;
    const bounds = max >= Number.MAX_SAFE_INTEGER ? `of ${min} or more` : `of ${min} to ${max}`;
    throw new InvalidArgumentError(`Expected an integer ${bounds}.`);
  };
}

const COUNTS: Readonly<Record<string, number>> = { "": 1, k: 1e3, M: 1e6, G: 1e9 };

/** How many, as text: "1000", "10k", "1.5M". At least one. */
export function count(max: number): (text: string) => number {
  return (text) => {
    const [, number, factor = ""] = /^(\d+|\d*\.\d+(?=[kMG]))([kMG]?)$/.exec(text) ?? [];
    const value = exactly(Number(number) * (COUNTS[factor] as number));
    if (value >= 1 && value <= max) return value;
    const bounds = max >= Number.MAX_SAFE_INTEGER ? "1 or more" : `1 to ${max}`;
    throw new InvalidArgumentError(`Expected an integer of ${bounds}: "1000", "10k", "1.5M".`);
  };
}

const BYTES: Readonly<Record<string, number>> = {
  ...COUNTS,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

/** How many bytes, as text: "8388608", "8Mi" for the same, "8M" for 8,000,000. At least one. */
export function byteCount(max: number): (text: string) => number {
  return (text) => {
    const [, number, factor = ""] = /^(\d+)([kMG]|[KMG]i)?$/.exec(text) ?? [];
    const value = Number(number) * (BYTES[factor] as number);
    if (value >= 1 && value <= max) return value;
    throw new InvalidArgumentError(
      `Expected bytes, 1 to ${max}: "262144", "256Ki" for the same, "8Mi", "8M".`,
    );
  };
}

/** What a product of decimal fractions was meant to be; NaN where that is no integer. */
function exactly(value: number): number {
  const near = Math.round(value);
  return Math.abs(value - near) < 1e-6 && Number.isSafeInteger(near) ? near : Number.NaN;
}

/** A number above 0, as text: "0.5", "1000". */
export function positive(text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (value > 0 && value < Number.POSITIVE_INFINITY) return value;
  throw new InvalidArgumentError("Expected a number above 0.");
}

const MILLISECONDS: Readonly<Record<string, number>> = {
  "": 1000,
  us: 0.001,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** A time in milliseconds: seconds, or a number with its unit ("250ms"). */
export function duration(text: string): number {
  const value = milliseconds(text);
  if (value >= 0 && value < DURATION_END_MS) return value;
  throw new InvalidArgumentError(`Expected ${FORMS}.`);
}

/** Likewise, but not 0, which would be over before it began. */
export function durationAboveZero(text: string): number {
  const value = milliseconds(text);
  if (value > 0 && value < DURATION_END_MS) return value;
  throw new InvalidArgumentError(`Expected a time above 0, as ${FORMS}.`);
}

// Timers take no more.
const DURATION_END_MS = 2 ** 31;
const FORMS = 'seconds, or a number with us, ms, s, m or h, below 25 days: "0.2", "200ms"';

function milliseconds(text: string): number {
  const [, number = "", unit = ""] = /^(\d+\.?\d*|\.\d+)(us|ms|s|m|h)?$/.exec(text) ?? [];
  return number === "" ? Number.NaN : Number(number) * (MILLISECONDS[unit] as number);
}
