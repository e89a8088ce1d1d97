/**
 * What the tests of header views share: a frame for each class, and checks that hold for all.
 *
 * @module
 */
import { expect } from "bun:test";
import type { Header } from "../../lib/packet/index.ts";

/** What stands around a header, and in it before anything is written. */
export const FILLER = 0xa5;
/** Where `placed` puts a header: at an odd place, as frames in rings are. */
export const OFFSET = 7;

type Fields = Readonly<Record<string, number | boolean | string | undefined>>;

/** Bytes in the middle of others. */
export function placed(hex: string): { memory: Uint8Array<ArrayBuffer>; end: number } {
  const bytes = Buffer.from(hex.replace(/\s/g, ""), "hex");
  const memory: Uint8Array<ArrayBuffer> = new Uint8Array(OFFSET + bytes.length + 9).fill(FILLER);
  memory.set(bytes, OFFSET);
  return { memory, end: OFFSET + bytes.length };
}

/** The bytes of a header that `placed` has put somewhere. */
export function hexOf(header: Header): string {
  const { memory, offset, end } = header;
  return Buffer.from(memory.buffer, memory.byteOffset).toString("hex", offset, end);
}

/** Whether nothing was written around a header. */
export function expectFillerAround(header: Header): void {
  const { memory } = header;
  const bytes = new Uint8Array(memory.buffer, memory.byteOffset, memory.byteLength);
  const around = [...bytes.subarray(0, OFFSET), ...bytes.subarray(-9)];
  expect(around).toEqual(around.map(() => FILLER));
}

/** Makes a header and moves it to bytes in the middle of others. */
export function headerAt<H extends Header>(make: new (memory: Uint8Array) => H, hex: string): H {
  const { memory, end } = placed(hex);
  const header = new make(memory);
  expect(header.at(OFFSET, end)).toBeTrue();
  return header;
}

/** Compares fields with what they should read as. */
export function expectFields(header: Header, fields: Fields): void {
  const values = header as unknown as Record<string, unknown>;
  expect(Object.fromEntries(Object.keys(fields).map((name) => [name, values[name]]))).toEqual({
    ...fields,
  });
}

/** Sets fields in the order given. */
export function setFields(header: Header, fields: Fields): void {
  for (const [name, value] of Object.entries(fields))
    (header as unknown as Record<string, unknown>)[name] = value;
}

/**
 * Checks that the setters of numbers take their largest value and what is below, and refuse the rest
 * without having written anything; and that those of flags take booleans only.
 */
export function expectBounds(
  header: Header,
  numbers: Readonly<Record<string, number>>,
  flags: readonly string[] = [],
): void {
  const values = header as unknown as Record<string, unknown>;
  for (const [name, largest] of Object.entries(numbers)) {
    const before = hexOf(header);
    for (const wrong of [-1, largest + 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => setFields(header, { [name]: wrong }), `${name} = ${wrong}`).toThrow(RangeError);
    for (const wrong of ["x", undefined, null, {}, 1n, true])
      expect(
        () => {
          values[name] = wrong;
        },
        `${name} = ${typeof wrong}`,
      ).toThrow(TypeError);
    expect(hexOf(header), name).toBe(before);
    values[name] = largest;
    expect(values[name], name).toBe(largest);
    values[name] = 0;
    expect(values[name], name).toBe(0);
    const bytes = Buffer.from(before, "hex");
    new Uint8Array(header.memory.buffer, header.memory.byteOffset).set(bytes, header.offset);
  }
  for (const name of flags) {
    const before = hexOf(header);
    for (const wrong of [1, 0, "true", undefined, null])
      expect(() => {
        values[name] = wrong;
      }, `${name} = ${wrong}`).toThrow(TypeError);
    expect(hexOf(header), name).toBe(before);
    for (const value of [true, false]) {
      values[name] = value;
      expect(values[name], name).toBe(value);
    }
    const bytes = Buffer.from(before, "hex");
    new Uint8Array(header.memory.buffer, header.memory.byteOffset).set(bytes, header.offset);
  }
  expectFillerAround(header);
}
