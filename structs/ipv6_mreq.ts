import { bytes, struct, u32 } from "./layout.ts";

/** `struct ipv6_mreq`, an IPv6 group and the interface by its index. See ipv6(7). */
export const ipv6_mreq = struct("ipv6_mreq", "netinet/in.h", {
  // struct in6_addr is aligned like its widest union member, uint32_t.
  ipv6mr_multiaddr: bytes(16, 4),
  ipv6mr_interface: u32,
});
