import { bytes, struct, u16, usize } from "./layout.ts";

/** `struct sockaddr_storage`, room for an address of any family. See sockaddr_storage(3type). */
export const sockaddr_storage = struct("sockaddr_storage", "sys/socket.h", {
  ss_family: u16,
  __ss_padding: bytes(118),
  __ss_align: usize,
});
