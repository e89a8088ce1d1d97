import { be16, be32, bytes, struct, u16, u32 } from "./layout.ts";

/** `struct sockaddr_in6`, an IPv6 address, port, flow information and scope. See ipv6(7). */
export const sockaddr_in6 = struct("sockaddr_in6", "netinet/in.h", {
  sin6_family: u16,
  sin6_port: be16,
  sin6_flowinfo: be32,
  // struct in6_addr is aligned like its widest union member, uint32_t.
  sin6_addr: bytes(16, 4),
  sin6_scope_id: u32,
});
