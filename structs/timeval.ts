import { i64, struct } from "./layout.ts";

/** `struct timeval`, seconds and microseconds. See timeval(3type). */
export const timeval = struct("timeval", "sys/time.h", {
  tv_sec: i64,
  tv_usec: i64,
});
