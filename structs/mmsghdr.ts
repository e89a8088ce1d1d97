import { nested, struct, u32 } from "./layout.ts";
import { msghdr } from "./msghdr.ts";

/** `struct mmsghdr`, one message of a batch and its length in bytes. See recvmmsg(2). */
export const mmsghdr = struct("mmsghdr", "sys/socket.h", {
  msg_hdr: nested(msghdr),
  msg_len: u32,
});
