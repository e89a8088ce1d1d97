// Every constant, under its C name. One file per header.
export * from "./errno.ts";
export * from "./net_if.ts";
export * from "./netinet_in.ts";
export * from "./poll.ts";
export * from "./sys_mman.ts";
export * from "./sys_socket.ts";
export * from "./sys_uio.ts";
