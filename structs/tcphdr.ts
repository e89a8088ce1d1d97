import { be16, be32, bitField, struct, u16 } from "./layout.ts";

/** `struct tcphdr`, the fixed part of a TCP header; options follow. See RFC 9293. */
export const tcphdr = struct("tcphdr", "linux/tcp.h", {
  source: be16,
  dest: be16,
  seq: be32,
  ack_seq: be32,
  res1: bitField(u16, 0, 4),
  doff: bitField(u16, 4, 4),
  fin: bitField(u16, 8, 1),
  syn: bitField(u16, 9, 1),
  rst: bitField(u16, 10, 1),
  psh: bitField(u16, 11, 1),
  ack: bitField(u16, 12, 1),
  urg: bitField(u16, 13, 1),
  ece: bitField(u16, 14, 1),
  cwr: bitField(u16, 15, 1),
  window: be16,
  check: be16,
  urg_ptr: be16,
});
