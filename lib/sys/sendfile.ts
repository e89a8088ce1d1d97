import { libc, type Memory, orErrno } from "../ffi/libc.ts";

/**
 * sendfile(2). Sends up to `count` bytes of a file; `offset` is an `off_t`, which is moved on, or null
 * for the file's own position. Returns the bytes sent, 0 at the end, or `-errno`.
 */
export function sendfile(fdOut: number, fdIn: number, offset: Memory, count: number): number {
  return orErrno(libc.sendfile(fdOut, fdIn, offset, count));
}
