import { i64, struct } from "./layout.ts";

/** `struct timespec`, seconds and nanoseconds. See timespec(3type). */
export const timespec = struct("timespec", "time.h", {
  tv_sec: i64,
  tv_nsec: i64,
});
