import { be16, be32, bitField, struct, u8 } from "./layout.ts";

/** `struct iphdr`, the fixed part of an IPv4 header; options follow. See RFC 791. */
export const iphdr = struct("iphdr", "linux/ip.h", {
  ihl: bitField(u8, 0, 4),
  version: bitField(u8, 4, 4),
  tos: u8,
  tot_len: be16,
  id: be16,
  frag_off: be16,
  ttl: u8,
  protocol: u8,
  check: be16,
  saddr: be32,
  daddr: be32,
});
