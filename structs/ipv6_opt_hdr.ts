import { struct, u8 } from "./layout.ts";

/**
 * `struct ipv6_opt_hdr`, how hop-by-hop and destination options begin, and most extension headers.
 * See RFC 8200.
 */
export const ipv6_opt_hdr = struct("ipv6_opt_hdr", "linux/ipv6.h", {
  nexthdr: u8,
  hdrlen: u8,
});
