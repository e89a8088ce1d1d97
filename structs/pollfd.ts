import { i16, i32, struct } from "./layout.ts";

/** `struct pollfd`, a descriptor, what is waited for and what happened. See poll(2). */
export const pollfd = struct("pollfd", "poll.h", {
  fd: i32,
  events: i16,
  revents: i16,
});
