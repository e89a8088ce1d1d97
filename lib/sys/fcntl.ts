import { libc, type Memory, orErrno } from "../ffi/libc.ts";

/**
 * fcntl(2), the operations that take an integer or nothing, for which `argument` is 0. Returns what
 * the operation says, or `-errno`.
 */
export function fcntl(fd: number, operation: number, argument: number): number {
  return orErrno(libc.fcntl(fd, operation, argument));
}

/**
 * splice(2). Moves up to `length` bytes between two descriptors, one of which is a pipe; the offsets
 * are an `off_t` each, which is moved on, or null. Returns the bytes moved, 0 at the end, or
 * `-errno`.
 */
export function splice(
  fdIn: number,
  offsetIn: Memory,
  fdOut: number,
  offsetOut: Memory,
  length: number,
  flags: number,
): number {
  return orErrno(libc.splice(fdIn, offsetIn, fdOut, offsetOut, length, flags));
}

/**
 * tee(2). Duplicates up to `length` bytes from one pipe into another, and takes none of them. Returns
 * the bytes duplicated, 0 at the end, or `-errno`.
 */
export function tee(fdIn: number, fdOut: number, length: number, flags: number): number {
  return orErrno(libc.tee(fdIn, fdOut, length, flags));
}
