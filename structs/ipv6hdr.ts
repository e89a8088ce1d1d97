import { be16, bitField, bytes, struct, u8 } from "./layout.ts";

/**
 * `struct ipv6hdr`, the fixed part of an IPv6 header. See RFC 8200. `priority` is the upper half of
 * the traffic class; the lower one is in front of the flow label.
 */
export const ipv6hdr = struct("ipv6hdr", "linux/ipv6.h", {
  priority: bitField(u8, 0, 4),
  version: bitField(u8, 4, 4),
  flow_lbl: bytes(3),
  payload_len: be16,
  nexthdr: u8,
  hop_limit: u8,
  saddr: bytes(16, 4),
  daddr: bytes(16, 4),
});
