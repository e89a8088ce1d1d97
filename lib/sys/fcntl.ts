import { libc, orErrno } from "../ffi/libc.ts";

/**
 * fcntl(2), the operations that take an integer or nothing, for which `argument` is 0. Returns what
 * the operation says, or `-errno`.
 */
export function fcntl(fd: number, operation: number, argument: number): number {
  return orErrno(libc.fcntl(fd, operation, argument));
}
