import { libc, orErrno } from "../ffi/libc.ts";
import { systemCallNumber } from "../ffi/system_call.ts";

const SETUP = systemCallNumber("io_uring_setup");
const ENTER = systemCallNumber("io_uring_enter");

/**
 * io_uring_setup(2), through syscall(2). `params` is an io_uring_params, which the kernel fills in.
 * Returns the descriptor of a ring, which has FD_CLOEXEC, or `-errno`.
 */
export function io_uring_setup(entries: number, params: ArrayBufferView): number {
  return orErrno(libc.io_uring_setup(SETUP, entries, params));
}

/**
 * io_uring_enter(2), through syscall(2), without a signal mask. Submits `toSubmit` entries, and waits
 * for `minComplete` completions with IORING_ENTER_GETEVENTS. Returns how many entries were submitted,
 * or `-errno`.
 */
export function io_uring_enter(
  fd: number,
  toSubmit: number,
  minComplete: number,
  flags: number,
): number {
  return orErrno(libc.io_uring_enter(ENTER, fd, toSubmit, minComplete, flags, null, 0));
}
