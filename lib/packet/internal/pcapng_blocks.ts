/**
 * Writes blocks of pcapng that come seldom.
 *
 * @module
 */
import type { CaptureOutput } from "./capture_output.ts";
import {
  BLOCK_BYTES,
  END_OF_OPTIONS,
  OPTION_BYTES,
  OPTION_VALUE_MAX,
  padded,
} from "./pcapng_format.ts";

/** An option: its code and what stands in it. */
export interface BlockOption {
  readonly code: number;
  readonly value: Uint8Array;
}

/** Bytes of options with what ends them; none of none. */
export function optionsBytes(options: readonly BlockOption[]): number {
  let bytes = 0;
  for (const { value } of options) bytes += OPTION_BYTES + padded(value.length);
  return bytes === 0 ? 0 : bytes + OPTION_BYTES;
}

/** Puts options, for which there is room. */
export function putOptions(output: CaptureOutput, options: readonly BlockOption[]): void {
  if (options.length === 0) return;
  for (const { code, value } of options) {
    output.u16(code);
    output.u16(value.length);
    const end = output.at + padded(value.length);
    output.put(value);
    output.fillTo(end);
  }
  output.u16(END_OF_OPTIONS);
  output.u16(0);
}

/** Puts a whole block. Throws before it puts anything. */
export function putBlock(
  output: CaptureOutput,
  type: number,
  fixed: readonly (readonly ["u16" | "u32", number])[],
  options: readonly BlockOption[],
): void {
  const fixedBytes = fixed.reduce((sum, [kind]) => sum + (kind === "u16" ? 2 : 4), 0);
  const bytes = BLOCK_BYTES + fixedBytes + optionsBytes(options);
  output.reserve(bytes);
  output.u32(type);
  output.u32(bytes);
  for (const [kind, value] of fixed) output[kind](value);
  putOptions(output, options);
  output.u32(bytes);
}

/**
 * The text of an option.
 *
 * @throws {TypeError} it is none
 * @throws {RangeError} it has more than 65,535 bytes of UTF-8
 */
export function textBytes(text: unknown, name: string): Uint8Array {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use a value of type ${typeof text} as ${name}: expected a string`);
  const bytes = Buffer.from(text);
  if (bytes.length <= OPTION_VALUE_MAX) return bytes;
  const limit = `expected at most ${OPTION_VALUE_MAX} bytes`;
  throw new RangeError(`Cannot use a text of ${bytes.length} bytes as ${name}: ${limit}`);
}

/** The number of an option, of 4 or 8 bytes. */
export function numberBytes(value: number, bytes: 4 | 8, isLittle: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(bytes));
  if (bytes === 4) view.setUint32(0, value, isLittle);
  else view.setBigUint64(0, BigInt(value), isLittle);
  return new Uint8Array(view.buffer);
}
