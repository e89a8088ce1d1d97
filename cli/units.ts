/**
 * How commands write rates for people. Programs get plain numbers.
 *
 * @module
 */

const UNITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"] as const;

/** Bits a second, with four digits in the unit that suits: "94.5 Mbit/s", "10.6 Gbit/s". */
export function bitRateText(bitsPerSecond: number): string {
  let value = Number(bitsPerSecond.toPrecision(4));
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(4))} ${UNITS[unit]}`;
}

/** Datagrams a second: whole ones from a hundred on. */
export function rateText(perSecond: number): string {
  return String(perSecond < 100 ? Number(perSecond.toPrecision(3)) : Math.round(perSecond));
}
