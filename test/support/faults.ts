/**
 * Fault injection: puts other functions in the place of entries of the libc table, to force errors
 * that the kernel would not give.
 *
 * ```ts
 * using fault = replaceEntry("recvmmsg", () => failWith(ENOMEM));
 * expect(() => socket.tryReceiveBatch(batch)).toThrow("recvmmsg ENOMEM");
 * expect(fault.calls).toBe(1);
 * ```
 *
 * @module
 */
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { type Libc, libc } from "../../lib/ffi/libc.ts";

// Opens libc: from here on libc[name] is the real function, and errno can be read.
libc.__errno_location();

/** What mmap(2) returns when it fails, as it arrives from C: (void *)-1 does not fit a double. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** A replaced entry; the end of its `using` block puts the old one back. */
export interface Fault extends Disposable {
  /** How often the entry was called since it was replaced. */
  readonly calls: number;
}

/**
 * Replaces an entry of the libc table until the end of the `using` block. The replacement gets the
 * arguments of the call; one that wants the real function keeps `libc[name]` beforehand.
 */
export function replaceEntry<Name extends keyof Libc>(name: Name, replacement: Libc[Name]): Fault {
  const previous = libc[name];
  let calls = 0;
  const counted = (...values: never[]) => {
    calls++;
    return (replacement as (...values: never[]) => unknown)(...values);
  };
  Object.assign(libc, { [name]: counted });
  return {
    get calls() {
      return calls;
    },
    [Symbol.dispose]: () => {
      Object.assign(libc, { [name]: previous });
    },
  };
}

/** Replaces an entry of the libc table by what is made of the present function. */
export function replaceLibc<Name extends keyof Libc>(
  name: Name,
  make: (original: Libc[Name]) => Libc[Name],
): Fault {
  return replaceEntry(name, make(libc[name]));
}

let errno: Int32Array | undefined;

/**
 * Sets the thread's errno and returns -1, as a C call does that fails; or `result`, for one that
 * says it otherwise: `failWith(ENOMEM, MAP_FAILED)`, `failWith(ENODEV, 0)`.
 */
export function failWith(value: number): -1;
export function failWith<Result>(value: number, result: Result): Result;
export function failWith(value: number, result: unknown = -1): unknown {
  // The errno of a thread stays where it is, and each Worker loads this module for itself.
  errno ??= new Int32Array(toArrayBuffer(libc.__errno_location() as Pointer, 0, 4));
  errno[0] = value;
  return result;
}
