/**
 * One function per C call, under its C name, and the C constants. This is C, with C's dangers: a
 * wrong length, address or descriptor here can crash the process. Each call returns the kernel's
 * result, or `-errno`.
 *
 * @module
 */
export * from "../../structs/constants/index.ts";
/** What a call takes where C has a pointer to a struct: a view, an address, or null. */
export type { Memory } from "../ffi/libc.ts";
/** What C gives as an address is read by these two; a wrong address ends the process. */
export { readMemory, readText } from "../ffi/memory.ts";
export * from "./epoll.ts";
export * from "./errno.ts";
export * from "./eventfd.ts";
export * from "./fcntl.ts";
export * from "./ifaddrs.ts";
export * from "./inet.ts";
export * from "./io_uring.ts";
export * from "./ioctl.ts";
export * from "./mman.ts";
export * from "./net_if.ts";
export * from "./netdb.ts";
export * from "./poll.ts";
export * from "./sched.ts";
export * from "./sendfile.ts";
export * from "./socket.ts";
export * from "./stat.ts";
export * from "./stdio.ts";
export * from "./time.ts";
export * from "./unistd.ts";
