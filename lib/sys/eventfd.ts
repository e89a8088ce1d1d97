import { libc, orErrno } from "../ffi/libc.ts";

/**
 * eventfd(2). Makes a counter that starts at `initial`; `flags` is of EFD_*. Returns its descriptor,
 * or `-errno`.
 */
export function eventfd(initial: number, flags: number): number {
  return orErrno(libc.eventfd(initial, flags));
}
