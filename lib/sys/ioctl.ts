import { libc, type Memory, orErrno } from "../ffi/libc.ts";

/**
 * ioctl(2), the requests that take a pointer: `argument` is what the request reads or fills.
 * Returns what the request says, mostly 0, or `-errno`.
 */
export function ioctl(fd: number, request: number, argument: Memory): number {
  return orErrno(libc.ioctl(fd, request, argument));
}
