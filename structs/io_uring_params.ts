import { io_cqring_offsets } from "./io_cqring_offsets.ts";
import { io_sqring_offsets } from "./io_sqring_offsets.ts";
import { bytes, nested, struct, u32 } from "./layout.ts";

/**
 * `struct io_uring_params`, what a ring is to be, and how the kernel has made it. See
 * io_uring_setup(2).
 */
export const io_uring_params = struct("io_uring_params", "linux/io_uring.h", {
  sq_entries: u32,
  cq_entries: u32,
  flags: u32,
  sq_thread_cpu: u32,
  sq_thread_idle: u32,
  features: u32,
  wq_fd: u32,
  resv: bytes(12, 4),
  sq_off: nested(io_sqring_offsets),
  cq_off: nested(io_cqring_offsets),
});
