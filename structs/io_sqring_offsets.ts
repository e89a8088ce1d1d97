import { struct, u32, u64 } from "./layout.ts";

/**
 * `struct io_sqring_offsets`, where the parts of the submission queue are in its mapping, in bytes.
 * See io_uring_setup(2).
 */
export const io_sqring_offsets = struct("io_sqring_offsets", "linux/io_uring.h", {
  head: u32,
  tail: u32,
  ring_mask: u32,
  ring_entries: u32,
  flags: u32,
  dropped: u32,
  array: u32,
  resv1: u32,
  // user_addr since Linux 6.5.
  resv2: u64,
});
