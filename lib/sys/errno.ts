import * as constants from "../../structs/constants/errno.ts";
import { libc } from "../ffi/libc.ts";
import { readText } from "../ffi/memory.ts";

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
  return readText(libc.strerror(errno) as number);
}
