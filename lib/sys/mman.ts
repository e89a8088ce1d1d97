import { libc, orErrno } from "../ffi/libc.ts";

/**
 * memfd_create(2). Makes a file in memory; `name` ends with a NUL, `flags` is of MFD_*. Returns its
 * descriptor, or `-errno`.
 */
export function memfd_create(name: Uint8Array, flags: number): number {
  return orErrno(libc.memfd_create(name, flags));
}
