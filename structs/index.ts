/**
 * Layouts of C structs and values of C constants, under their C names, for x86-64 and arm64 Linux.
 * This is C, with C's dangers: what is written through these layouts is what the kernel reads.
 *
 * @module
 */
export * from "./cmsghdr.ts";
export * from "./constants/index.ts";
export * from "./iovec.ts";
export * from "./layout.ts";
export * from "./mmsghdr.ts";
export * from "./msghdr.ts";
export * from "./pollfd.ts";
export * from "./sockaddr.ts";
export * from "./sockaddr_in.ts";
export * from "./sockaddr_in6.ts";
export * from "./sockaddr_storage.ts";
export * from "./timespec.ts";
export * from "./timeval.ts";
