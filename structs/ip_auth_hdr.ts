import { be16, be32, struct, u8 } from "./layout.ts";

/** `struct ip_auth_hdr`, the fixed part of an authentication header. See RFC 4302. */
export const ip_auth_hdr = struct("ip_auth_hdr", "linux/ip.h", {
  nexthdr: u8,
  hdrlen: u8,
  reserved: be16,
  spi: be32,
  seq_no: be32,
});
