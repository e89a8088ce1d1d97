import { struct, usize } from "./layout.ts";

/** `struct iovec`, one piece of memory of a vectored call. See iovec(3type). */
export const iovec = struct("iovec", "sys/uio.h", {
  iov_base: usize,
  iov_len: usize,
});
