import { byteLengthOf, lengthOfArrayBuffer } from "../ffi/memory.ts";

/** Throws a RangeError unless `value` is a whole number between the bounds, both included. */
export function requireInteger(
  value: unknown,
  minimum: number,
  maximum: number,
  name: string,
): void {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot use a value of type ${typeof value} as ${name}: expected a number`);
  }
  if (!Number.isInteger(value) || value < minimum || value > maximum) {
    throw new RangeError(`Cannot use ${value} as ${name}: expected ${minimum} to ${maximum}`);
  }
}

/**
 * Refuses what the kernel is not to touch: anything but a view, and views of shared, resizable or
 * detached memory. Runs before every call that takes a view; costs about 12 ns.
 */
export function requireView(view: ArrayBufferView, name: string): void {
  if (!ArrayBuffer.isView(view))
    throw new TypeError(`Cannot use ${describe(view)} as ${name}: expected a view`);
  const buffer = view.buffer;
  if (buffer instanceof SharedArrayBuffer) {
    throw new TypeError(
      `Cannot use shared memory as ${name}: another thread could change it during the call`,
    );
  }
  if (buffer.resizable) {
    throw new TypeError(
      `Cannot use resizable memory as ${name}: expected an ArrayBuffer of fixed length`,
    );
  }
  // Only an empty view can be a detached one.
  if (byteLengthOf(view) === 0 && buffer.detached) {
    throw new TypeError(`Cannot use detached memory as ${name}: it was transferred or freed`);
  }
}

function describe(value: unknown): string {
  return value === null ? "null" : `a value of type ${typeof value}`;
}

/** The data of a send: a view as it is, an ArrayBuffer as a view of the whole of it. */
export function toView(data: ArrayBufferView | ArrayBuffer, name: string): ArrayBufferView {
  const view = isArrayBuffer(data) ? new Uint8Array(data) : data;
  requireView(view, name);
  return view;
}

// `instanceof` is also true for a Proxy and for what only inherits: the engine's getter is not.
function isArrayBuffer(data: ArrayBufferView | ArrayBuffer): data is ArrayBuffer {
  if (!(data instanceof ArrayBuffer)) return false;
  try {
    return lengthOfArrayBuffer.call(data) >= 0;
  } catch {
    return false;
  }
}

/**
 * Returns the flags of a call, refusing bits that this kind of call has no meaning for: Linux would
 * ignore them.
 */
export function requireFlags(flags: number | undefined, allowed: number): number {
  if (flags === undefined) return 0;
  if (typeof flags !== "number") {
    throw new TypeError(`Cannot use a value of type ${typeof flags} as flags: expected a number`);
  }
  if (!Number.isInteger(flags) || (flags & ~allowed) !== 0 || flags < 0 || flags > 0x7fffffff) {
    throw new RangeError(
      `Cannot use ${flags} as flags: expected a union of bits of 0x${allowed.toString(16)}`,
    );
  }
  return flags;
}
