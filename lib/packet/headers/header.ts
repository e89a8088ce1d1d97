import { byteLengthOf, bytesOf } from "../../ffi/memory.ts";
import { describe, requireInteger, requireView } from "../../internal/arguments.ts";

// Where a header is that is nowhere: all of its fields are 0. Long enough for the fixed part of
// every header, and never written to.
const NOWHERE = new DataView(new ArrayBuffer(64));
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

/**
 * What all headers share: a place in memory that is not theirs, which `at` moves.
 *
 * A header is made once, over the memory in which frames arrive, and moved from frame to frame. It
 * copies nothing. `at(offset, end)` is the one check: where it gives true, all fields lie between
 * the two, in memory that is there, and reading and writing them goes no further, whatever the
 * bytes say and whatever is written into them later. Where it gives false, the header is nowhere:
 * numbers read as 0, flags as false, values that need not be there as `undefined`, texts as those
 * of zeros, and setting a field throws.
 *
 * Getters and setters of numbers and flags allocate nothing. Addresses that do not fit a number are
 * copied and compared by methods; their getters as text make a string.
 *
 * Setters write the field and nothing else. Methods that begin with `rewrite` keep the checksum
 * right as well.
 */
export abstract class Header {
  // Plain, so that the methods of each class, which are compiled for it alone, read them with one
  // load: through getters here they would share one that has seen every class.
  /** The memory. */
  protected whole: DataView;
  /** How many bytes it has. */
  protected limit: number;
  /** The same memory, or zeros where the header is nowhere. */
  protected view: DataView = NOWHERE;
  /** The offset of the header. */
  protected start = 0;
  /** The offset behind the last byte that can belong to it. */
  protected stop = 0;

  /**
   * Makes a header that is nowhere yet.
   *
   * @param memory where frames are: a DataView is used as it is, of another view one is made
   * @throws {TypeError} no view, or one of shared, resizable or detached memory
   */
  constructor(memory: ArrayBufferView) {
    this.whole = dataViewOf(memory);
    this.limit = byteLengthOf(this.whole);
  }

  /** The memory that offsets count in. */
  get memory(): DataView {
    return this.whole;
  }

  /** Where the header begins, in bytes from the start of the memory. */
  get offset(): number {
    return this.start;
  }

  /** Where the bytes end that can belong to it: the `end` that `at` was given. */
  get end(): number {
    return this.stop;
  }

  /** Whether the last `at` gave true. */
  get isPresent(): boolean {
    return this.view !== NOWHERE;
  }

  /** The length of the header in bytes, by its own fields. */
  abstract get headerBytes(): number;

  /** Where what it carries begins: never before the header, never behind `end`. */
  abstract get payloadOffset(): number;

  /** Where what it carries ends, by its own fields: never behind `end`. */
  get payloadEnd(): number {
    return this.stop;
  }

  /**
   * Moves to a header, and tells whether it fits: the one check that makes all accessors safe.
   *
   * @param offset where it begins in the memory, below 4 GiB
   * @param end where the frame, or what the header is in, ends. Default: with the memory
   */
  abstract at(offset: number, end?: number): boolean;

  /**
   * Changes the memory, and is nowhere until the next `at`.
   *
   * @returns itself
   * @throws {TypeError} no view, or one of shared, resizable or detached memory
   */
  of(memory: ArrayBufferView): this {
    this.whole = dataViewOf(memory);
    this.limit = byteLengthOf(this.whole);
    this.leave();
    return this;
  }

  /** Forgets the place: the header is nowhere. */
  leave(): void {
    this.view = NOWHERE;
    this.start = 0;
    this.stop = 0;
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    const name = this.constructor.name;
    return this.isPresent ? `${name} at ${this.start} to ${this.stop}` : `${name}, nowhere`;
  }
}

/** Whether `length` bytes are between two offsets, and those in a memory of `limit` bytes. */
export function fits(offset: number, end: number, length: number, limit: number): boolean {
  // The shifts leave only whole numbers from 0 to 2^32 - 1 as they are.
  return (
    typeof offset === "number" &&
    typeof end === "number" &&
    offset >>> 0 === offset &&
    end >>> 0 === end &&
    end <= limit &&
    end - offset >= length
  );
}

/** Writes a byte of a header, or throws a RangeError and writes nothing. */
export function write8(view: DataView, at: number, value: number, name: string): void {
  if (typeof value !== "number" || (value & 0xff) !== value) requireInteger(value, 0, 0xff, name);
  requirePlace(view, name);
  view.setUint8(at, value);
}

/** Writes 16 bits in network byte order. */
export function write16(view: DataView, at: number, value: number, name: string): void {
  if (typeof value !== "number" || (value & 0xffff) !== value)
    requireInteger(value, 0, 0xffff, name);
  requirePlace(view, name);
  view.setUint16(at, value);
}

/** Writes 32 bits in network byte order. */
export function write32(view: DataView, at: number, value: number, name: string): void {
  if (typeof value !== "number" || value >>> 0 !== value)
    requireInteger(value, 0, 0xffff_ffff, name);
  requirePlace(view, name);
  view.setUint32(at, value);
}

/** Writes some bits of a byte: `width` of them, `shift` from the lowest. */
export function writeBits8(
  view: DataView,
  at: number,
  shift: number,
  width: number,
  value: number,
  name: string,
): void {
  const mask = (1 << width) - 1;
  if (typeof value !== "number" || (value & mask) !== value) requireInteger(value, 0, mask, name);
  requirePlace(view, name);
  view.setUint8(at, (view.getUint8(at) & ~(mask << shift)) | (value << shift));
}

/** Writes some bits of 16 in network byte order: `width` of them, `shift` from the lowest. */
export function writeBits16(
  view: DataView,
  at: number,
  shift: number,
  width: number,
  value: number,
  name: string,
): void {
  const mask = (1 << width) - 1;
  if (typeof value !== "number" || (value & mask) !== value) requireInteger(value, 0, mask, name);
  requirePlace(view, name);
  view.setUint16(at, (view.getUint16(at) & ~(mask << shift)) | (value << shift));
}

/** Writes one bit of a byte, `shift` from the lowest. */
export function writeFlag8(
  view: DataView,
  at: number,
  shift: number,
  value: boolean,
  name: string,
): void {
  if (typeof value !== "boolean") throw notBoolean(value, name);
  writeBits8(view, at, shift, 1, value ? 1 : 0, name);
}

/** Writes one bit of 16 in network byte order, `shift` from the lowest. */
export function writeFlag16(
  view: DataView,
  at: number,
  shift: number,
  value: boolean,
  name: string,
): void {
  if (typeof value !== "boolean") throw notBoolean(value, name);
  writeBits16(view, at, shift, 1, value ? 1 : 0, name);
}

/** The lower 16 bits of a number, which is one. */
export function toWord(value: number): number {
  if (typeof value !== "number") requireInteger(value, 0, 0xffff, "16 bits");
  return value & 0xffff;
}

/** Throws a TypeError where a header is nowhere. */
export function requirePlace(view: DataView, name: string): void {
  if (view === NOWHERE)
    throw new TypeError(`Cannot set ${name} of a header that is nowhere: at() gave no true`);
}

/** Copies bytes of a frame into a target, all of them or, by a RangeError, none. */
export function copyOut(
  view: DataView,
  at: number,
  length: number,
  target: Uint8Array,
  targetOffset: number,
): void {
  requireRoom(target, targetOffset, length, "a target");
  for (let i = 0; i < length; i++) target[targetOffset + i] = view.getUint8(at + i);
}

/** Copies bytes into a frame, all of them or, by a RangeError, none. */
export function copyIn(
  view: DataView,
  at: number,
  length: number,
  source: Uint8Array,
  sourceOffset: number,
  name: string,
): void {
  requireRoom(source, sourceOffset, length, name);
  requirePlace(view, name);
  for (let i = 0; i < length; i++) view.setUint8(at + i, source[sourceOffset + i] as number);
}

/** Whether bytes of a frame are those of another view, from an offset in it. */
export function sameBytes(
  view: DataView,
  at: number,
  length: number,
  other: Uint8Array,
  otherOffset: number,
): boolean {
  requireRoom(other, otherOffset, length, "bytes to compare");
  for (let i = 0; i < length; i++)
    if (view.getUint8(at + i) !== other[otherOffset + i]) return false;
  return true;
}

/** A new Uint8Array over bytes of a frame. */
export function bytesAt(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}

/** Refuses what has not so many bytes from an offset on. */
export function requireRoom(bytes: Uint8Array, offset: number, length: number, name: string): void {
  if (!(bytes instanceof Uint8Array))
    throw new TypeError(`Cannot use ${describe(bytes)} as ${name}: expected a Uint8Array`);
  // The text is made only where it is needed.
  if (!(Number.isInteger(offset) && offset >= 0))
    requireInteger(offset, 0, Number.MAX_SAFE_INTEGER, `an offset in ${name}`);
  const room = byteLengthOf(bytes) - offset;
  if (room < length)
    throw new RangeError(`Cannot use ${Math.max(0, room)} bytes as ${name}: expected ${length}`);
}

function dataViewOf(memory: ArrayBufferView): DataView {
  requireView(memory, "the memory of a header");
  if (memory instanceof DataView) return memory;
  const { buffer, byteOffset, byteLength } = bytesOf(memory);
  return new DataView(buffer, byteOffset, byteLength);
}

function notBoolean(value: unknown, name: string): TypeError {
  return new TypeError(`Cannot use ${describe(value)} as ${name}: expected a boolean`);
}
