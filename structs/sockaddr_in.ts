import { be16, be32, bytes, struct, u16 } from "./layout.ts";

/** `struct sockaddr_in`, an IPv4 address and port. See ip(7). */
export const sockaddr_in = struct("sockaddr_in", "netinet/in.h", {
  sin_family: u16,
  sin_port: be16,
  sin_addr: be32,
  sin_zero: bytes(8),
});
