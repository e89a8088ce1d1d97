import { i32, struct } from "./layout.ts";

/** `struct linger`, whether close(2) waits, and how many seconds. See socket(7). */
export const linger = struct("linger", "sys/socket.h", {
  l_onoff: i32,
  l_linger: i32,
});
