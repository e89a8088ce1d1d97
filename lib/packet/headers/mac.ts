/**
 * Hardware addresses of 48 bits: numbers, and six hexadecimal bytes with colons.
 *
 * @module
 */
import { describe } from "../../internal/arguments.ts";
import { requirePlace } from "./header.ts";

const HIGH = 2 ** 32;
const MAC_MAX = 2 ** 48 - 1;

/** Reads a hardware address as a number below 2^48. */
export function readMac(view: DataView, at: number): number {
  return view.getUint16(at) * HIGH + view.getUint32(at + 2);
}

/** Writes a hardware address, given as a number or as text. */
export function writeMac(view: DataView, at: number, value: number | string, name: string): void {
  const number = typeof value === "string" ? parseMac(value, name) : value;
  if (typeof number !== "number")
    throw new TypeError(`Cannot use ${describe(number)} as ${name}: expected a number or a text`);
  if (!Number.isInteger(number) || number < 0 || number > MAC_MAX)
    throw new RangeError(`Cannot use ${number} as ${name}: expected 0 to ${MAC_MAX}`);
  requirePlace(view, name);
  view.setUint16(at, Math.floor(number / HIGH));
  view.setUint32(at + 2, number % HIGH);
}

/** Formats a hardware address as "00:11:22:aa:bb:cc". */
export function formatMac(value: number): string {
  const hex = value.toString(16).padStart(12, "0");
  return `${hex.slice(0, 2)}:${hex.slice(2, 4)}:${hex.slice(4, 6)}:${hex.slice(6, 8)}:${hex.slice(8, 10)}:${hex.slice(10)}`;
}

function parseMac(text: string, name: string): number {
  if (!/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) {
    const shown = JSON.stringify(text);
    throw new TypeError(`Cannot use ${shown} as ${name}: expected six bytes, 00:11:22:aa:bb:cc`);
  }
  return Number.parseInt(text.replaceAll(":", ""), 16);
}
