import { libc, orErrno } from "../ffi/libc.ts";

/**
 * setns(2). Moves the calling thread into the namespace that `fd` stands for, of the kind `kind`, of
 * CLONE_NEW*, or any for 0. Returns 0, or `-errno`.
 */
export function setns(fd: number, kind: number): number {
  return orErrno(libc.setns(fd, kind));
}
