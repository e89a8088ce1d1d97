import { epoll_event } from "../../structs/epoll_event.ts";
import { libc, type Memory, orErrno } from "../ffi/libc.ts";
import { byteLengthOf } from "../ffi/memory.ts";

/** epoll_create1(2). Returns the new descriptor, or `-errno`. */
export function epoll_create1(flags: number): number {
  return orErrno(libc.epoll_create1(flags));
}

/**
 * epoll_ctl(2). `event` is an `epoll_event`, or its address, or null for EPOLL_CTL_DEL. Returns 0,
 * or `-errno`.
 */
export function epoll_ctl(epollFd: number, operation: number, fd: number, event: Memory): number {
  return orErrno(libc.epoll_ctl(epollFd, operation, fd, event));
}

/**
 * epoll_wait(2). Fills `events` with as many `epoll_event`s as it has room for. Blocks the thread.
 * Returns how many there are, or `-errno`.
 */
export function epoll_wait(epollFd: number, events: ArrayBufferView, timeoutMs: number): number {
  const countMax = Math.floor(byteLengthOf(events) / epoll_event.size);
  return orErrno(libc.epoll_wait(epollFd, events, countMax, timeoutMs));
}
