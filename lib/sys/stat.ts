import { libc, orErrno } from "../ffi/libc.ts";

/** chmod(2). `path` ends with a NUL. Returns 0, or `-errno`. */
export function chmod(path: Uint8Array, mode: number): number {
  return orErrno(libc.chmod(path, mode));
}

/** fchmod(2). Returns 0, or `-errno`. */
export function fchmod(fd: number, mode: number): number {
  return orErrno(libc.fchmod(fd, mode));
}
