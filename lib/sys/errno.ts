import type { Pointer } from "bun:ffi";
import * as constants from "../../structs/constants/errno.ts";
import { ffi, libc } from "../ffi/libc.ts";

// Two names have one value: these are the second ones, by the choice of util.getSystemErrorName.
const SECOND_NAMES: readonly string[] = ["EWOULDBLOCK", "EDEADLOCK", "EOPNOTSUPP"];

let names: Map<number, string> | undefined;

/**
 * Returns the C name of an errno, positive or negative (`-98` gives "EADDRINUSE"), or `"E"` and its
 * number.
 */
export function errorName(errno: number): string {
  names ??= new Map(
    Object.entries(constants)
      .filter(([name]) => !SECOND_NAMES.includes(name))
      .map(([name, value]) => [value, name]),
  );
  const value = Math.abs(errno);
  return names.get(value) ?? `E${value}`;
}

/** strerror(3). Returns libc's text for a positive errno. */
export function strerror(errno: number): string {
  return `${new (ffi().CString)(libc.strerror(errno) as Pointer)}`;
}
