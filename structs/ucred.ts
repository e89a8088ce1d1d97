import { i32, struct, u32 } from "./layout.ts";

/** `struct ucred`, process, user and group of a peer. See unix(7). */
export const ucred = struct("ucred", "sys/socket.h", {
  pid: i32,
  uid: u32,
  gid: u32,
});
