import { be16, bytes, struct, u8 } from "./layout.ts";

/** `struct icmp6hdr`; what is in `icmp6_dataun` depends on the type. See RFC 4443. */
export const icmp6hdr = struct("icmp6hdr", "linux/icmpv6.h", {
  icmp6_type: u8,
  icmp6_code: u8,
  icmp6_cksum: be16,
  icmp6_dataun: bytes(4, 4),
});
