import { bytes, i32, struct, u8, u16, u32, u64 } from "./layout.ts";

/**
 * `struct io_uring_sqe`, one entry of the submission queue. Each union without a name has that of
 * one of its members here. See io_uring_enter(2).
 */
export const io_uring_sqe = struct("io_uring_sqe", "linux/io_uring.h", {
  opcode: u8,
  flags: u8,
  ioprio: u16,
  fd: i32,
  // A union with addr2.
  off: u64,
  addr: u64,
  // For POLL_ADD the flags of IORING_POLL_*.
  len: u32,
  // A union of the flags of every operation: msg_flags, rw_flags, cancel_flags.
  poll32_events: u32,
  user_data: u64,
  // A union with buf_group.
  buf_index: u16,
  personality: u16,
  // A union with file_index, and with addr_len.
  splice_fd_in: i32,
  addr3: u64,
  __pad2: bytes(8, 8),
});
