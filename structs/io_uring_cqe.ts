import { i32, struct, u32, u64 } from "./layout.ts";

/**
 * `struct io_uring_cqe`, one entry of the completion queue: the token of what was submitted, and its
 * result, or -errno. See io_uring_enter(2).
 */
export const io_uring_cqe = struct("io_uring_cqe", "linux/io_uring.h", {
  user_data: u64,
  res: i32,
  flags: u32,
});
