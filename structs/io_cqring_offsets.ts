import { struct, u32, u64 } from "./layout.ts";

/**
 * `struct io_cqring_offsets`, where the parts of the completion queue are in its mapping, in bytes.
 * See io_uring_setup(2).
 */
export const io_cqring_offsets = struct("io_cqring_offsets", "linux/io_uring.h", {
  head: u32,
  tail: u32,
  ring_mask: u32,
  ring_entries: u32,
  overflow: u32,
  cqes: u32,
  flags: u32,
  resv1: u32,
  // user_addr since Linux 6.5.
  resv2: u64,
});
