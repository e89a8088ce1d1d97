import { struct, u8, u32 } from "./layout.ts";

/** `struct sock_extended_err`, a queued error; the offender's sockaddr follows. See ip(7). */
export const sock_extended_err = struct("sock_extended_err", "linux/errqueue.h", {
  ee_errno: u32,
  ee_origin: u8,
  ee_type: u8,
  ee_code: u8,
  ee_pad: u8,
  ee_info: u32,
  ee_data: u32,
});
