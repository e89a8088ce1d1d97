import { bytes, struct } from "./layout.ts";

/**
 * `struct icmp6_filter`, eight words: a bit for each ICMPv6 type that is not to be received. See
 * RFC 3542.
 */
export const icmp6_filter = struct("icmp6_filter", "netinet/icmp6.h", {
  icmp6_filt: bytes(32, 4),
});
