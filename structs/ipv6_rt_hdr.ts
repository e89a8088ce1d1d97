import { struct, u8 } from "./layout.ts";

/** `struct ipv6_rt_hdr`, how routing headers begin. See RFC 8200. */
export const ipv6_rt_hdr = struct("ipv6_rt_hdr", "linux/ipv6.h", {
  nexthdr: u8,
  hdrlen: u8,
  type: u8,
  segments_left: u8,
});
