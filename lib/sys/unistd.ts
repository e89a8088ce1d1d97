import { libc, orErrno } from "../ffi/libc.ts";
import { byteLengthOf } from "../ffi/memory.ts";

/** pipe2(2). Fills `pair` with the reading and the writing end. Returns 0, or `-errno`. */
export function pipe2(pair: Int32Array, flags: number): number {
  return orErrno(libc.pipe2(pair, flags));
}

/** dup(2). The duplicate is inherited across execve(2). Returns it, or `-errno`. */
export function dup(fd: number): number {
  return orErrno(libc.dup(fd));
}

/**
 * dup3(2). Makes `target` a duplicate of `fd`, and closes in silence what it was before; `flags` is
 * O_CLOEXEC or 0. Returns `target`, or `-errno`.
 */
export function dup3(fd: number, target: number, flags: number): number {
  return orErrno(libc.dup3(fd, target, flags));
}

/** read(2). Fills `buffer`. Returns the byte count, 0 at the end, or `-errno`. */
export function read(fd: number, buffer: ArrayBufferView): number {
  return orErrno(libc.read(fd, buffer, byteLengthOf(buffer)));
}

/** write(2). Returns the bytes written, or `-errno`. */
export function write(fd: number, buffer: ArrayBufferView): number {
  return orErrno(libc.write(fd, buffer, byteLengthOf(buffer)));
}

/**
 * close(2). Returns 0, or `-errno`; the descriptor is gone either way, so it is never to be called
 * again.
 */
export function close(fd: number): number {
  return orErrno(libc.close(fd));
}

/** unlink(2). `path` ends with a NUL. Returns 0, or `-errno`. */
export function unlink(path: Uint8Array): number {
  return orErrno(libc.unlink(path));
}

/**
 * gethostname(2). Fills `name`, at least HOST_NAME_MAX + 1 bytes, with a text that ends with a NUL.
 * Returns 0, or `-errno`.
 */
export function gethostname(name: Uint8Array): number {
  return orErrno(libc.gethostname(name, byteLengthOf(name)));
}

/** sethostname(2). `name` needs no NUL. Takes CAP_SYS_ADMIN. Returns 0, or `-errno`. */
export function sethostname(name: Uint8Array): number {
  return orErrno(libc.sethostname(name, byteLengthOf(name)));
}
