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
};

/** A time in milliseconds: seconds, or a number with its unit ("250ms"). */
export function duration(text: string): number {
  const [, number = "", unit = ""] = /^(\d+\.?\d*|\.\d+)(us|ms|s|m)?$/.exec(text) ?? [];
  const value = number === "" ? Number.NaN : Number(number) * (MILLISECONDS[unit] as number);
  if (value >= 0 && value < 2 ** 31) return value;
  throw new InvalidArgumentError(
    'Expected seconds, or a number with us, ms, s or m: "0.2", "200ms".',
  );
}
