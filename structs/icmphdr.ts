import { be16, bytes, struct, u8 } from "./layout.ts";

/** `struct icmphdr`; what is in `un` depends on the type. See RFC 792. */
export const icmphdr = struct("icmphdr", "linux/icmp.h", {
  type: u8,
  code: u8,
  checksum: be16,
  un: bytes(4, 4),
});
