import { be16, be32, struct, u8 } from "./layout.ts";

/** `struct ip6_frag`, the fragment header of IPv6. See RFC 8200. */
export const ip6_frag = struct("ip6_frag", "netinet/ip6.h", {
  ip6f_nxt: u8,
  ip6f_reserved: u8,
  ip6f_offlg: be16,
  ip6f_ident: be32,
});
