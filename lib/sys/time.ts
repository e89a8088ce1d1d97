import { libc, type Memory, orErrno } from "../ffi/libc.ts";

/**
 * clock_gettime(2). Writes the time of a clock, of CLOCK_*, into the struct `timespec` at `tp`. Returns
 * 0, or `-errno`.
 */
export function clock_gettime(clockid: number, tp: Memory): number {
  return orErrno(libc.clock_gettime(clockid, tp));
}
