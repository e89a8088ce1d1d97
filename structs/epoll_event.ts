import { type Kind, packed, type Struct, struct, u32, u64 } from "./layout.ts";

/**
 * `struct epoll_event` as an architecture lays it out, named as by `process.arch`: on x86-64 it is
 * packed into 12 bytes, which is the layout of 32-bit programs; on arm64 it has 16.
 */
export function epoll_eventOn(
  architecture: string,
): Struct<{ events: Kind<number>; data: Kind<number> }> {
  return struct("epoll_event", "sys/epoll.h", {
    events: architecture === "x64" ? packed(u32) : u32,
    // A union; the kernel only hands it back. As a number it is exact up to 2^53.
    data: architecture === "x64" ? packed(u64) : u64,
  });
}

/** `struct epoll_event`, what is waited for or has happened, and a token. See epoll_ctl(2). */
export const epoll_event = epoll_eventOn(process.arch);
