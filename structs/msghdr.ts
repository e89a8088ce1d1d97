import { i32, struct, u32, usize } from "./layout.ts";

/** `struct msghdr`, everything about one message. See recvmsg(2). */
export const msghdr = struct("msghdr", "sys/socket.h", {
  msg_name: usize,
  msg_namelen: u32,
  msg_iov: usize,
  msg_iovlen: usize,
  msg_control: usize,
  msg_controllen: usize,
  msg_flags: i32,
});
