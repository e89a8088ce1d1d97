import { libc, orErrno } from "../ffi/libc.ts";

/**
 * close(2). Returns 0, or `-errno`; the descriptor is gone either way, so it is never to be called
 * again.
 */
export function close(fd: number): number {
  return orErrno(libc.close(fd));
}
