import { libc, orErrno } from "../ffi/libc.ts";
import { systemCallNumber } from "../ffi/system_call.ts";

/** rename(2). Both paths end with a NUL. Returns 0, or `-errno`. */
export function rename(path: Uint8Array, newPath: Uint8Array): number {
  return orErrno(libc.rename(path, newPath));
}

/**
 * renameat2(2), through syscall(2). Both paths end with a NUL, and start at their directory's
 * descriptor, or at the current directory for AT_FDCWD. Returns 0, or `-errno`.
 */
export function renameat2(
  directory: number,
  path: Uint8Array,
  newDirectory: number,
  newPath: Uint8Array,
  flags: number,
): number {
  const number = systemCallNumber("renameat2");
  return orErrno(libc.renameat2(number, directory, path, newDirectory, newPath, flags));
}
