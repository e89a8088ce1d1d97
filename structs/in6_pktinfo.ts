import { bytes, struct, u32 } from "./layout.ts";

/** `struct in6_pktinfo`, where an IPv6 packet came in, or is to go out. See ipv6(7). */
export const in6_pktinfo = struct("in6_pktinfo", "netinet/in.h", {
  // struct in6_addr is aligned like its widest union member, uint32_t.
  ipi6_addr: bytes(16, 4),
  ipi6_ifindex: u32,
});
