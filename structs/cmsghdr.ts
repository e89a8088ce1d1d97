import { i32, struct, usize } from "./layout.ts";

/** `struct cmsghdr`, the head of one control message; its data follows. See cmsg(3). */
export const cmsghdr = struct("cmsghdr", "sys/socket.h", {
  cmsg_len: usize,
  cmsg_level: i32,
  cmsg_type: i32,
});
