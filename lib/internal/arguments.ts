import type { CancelSignal } from "../error.ts";
import { bufferOf, isArrayBuffer, isDetached, isResizable } from "../ffi/memory.ts";

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
  const buffer = bufferOf(view);
  if (buffer instanceof SharedArrayBuffer) {
    throw new TypeError(
      `Cannot use shared memory as ${name}: another thread could change it during the call`,
    );
  }
  if (isResizable(buffer)) {
    throw new TypeError(
      `Cannot use resizable memory as ${name}: expected an ArrayBuffer of fixed length`,
    );
  }
  if (isDetached(buffer)) throw detached(name);
}

/** Returns the options of a call, and refuses what has no properties. */
export function requireOptions<Options>(options: Options): Options {
  if (options instanceof Object || (typeof options === "object" && options !== null))
    return options;
  throw new TypeError(`Cannot use ${describe(options)} as options: expected an object`);
}

/** Throws a TypeError unless the value is a boolean. */
export function requireBoolean(value: unknown, name: string): void {
  if (typeof value === "boolean") return;
  throw new TypeError(`Cannot use a value of type ${typeof value} as ${name}: expected a boolean`);
}

/** What an error says of a value of the wrong type: never its text, which could be anything. */
export function describe(value: unknown): string {
  return value === null ? "null" : `a value of type ${typeof value}`;
}

/** The data of a send: a view as it is, an ArrayBuffer as a view of the whole of it. */
export function toView(data: ArrayBufferView | ArrayBuffer, name: string): ArrayBufferView {
  if (!isArrayBuffer(data)) {
    requireView(data, name);
    return data;
  }
  if (isDetached(data)) throw detached(name);
  return toView(new Uint8Array(data), name);
}

function detached(name: string): TypeError {
  return new TypeError(`Cannot use detached memory as ${name}: it was transferred or freed`);
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

/** Returns the signal of a call, or undefined. */
export function requireSignal(signal: CancelSignal | undefined): CancelSignal | undefined {
  if (signal === undefined || isAbortSignal(signal)) return signal;
  throw new TypeError(`Cannot use ${describe(signal)} as a signal: expected an AbortSignal`);
}

// The engine's own getter tells one from what only inherits from it, which `instanceof` takes.
function isAbortSignal(value: unknown): boolean {
  if (!(value instanceof AbortSignal)) return false;
  try {
    aborted ??= Object.getOwnPropertyDescriptor(AbortSignal.prototype, "aborted")?.get;
    aborted?.call(value);
    return true;
  } catch {
    return false;
  }
}

let aborted: (() => boolean) | undefined;

/** The error of a `headerBytes` that is none. */
export function notHeaderBytes(value: unknown): RangeError | TypeError {
  if (typeof value === "number")
    return new RangeError(`Cannot use ${value} as headerBytes: expected 1, 2 or 4`);
  return new TypeError(`Cannot use ${describe(value)} as headerBytes: expected 1, 2 or 4`);
}
