import { bytes, struct, u16 } from "./layout.ts";

/** `struct sockaddr`, the part that every socket address starts with. See sockaddr(3type). */
export const sockaddr = struct("sockaddr", "sys/socket.h", {
  sa_family: u16,
  sa_data: bytes(14),
});
