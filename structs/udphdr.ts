import { be16, struct } from "./layout.ts";

/** `struct udphdr`. See RFC 768. */
export const udphdr = struct("udphdr", "linux/udp.h", {
  source: be16,
  dest: be16,
  len: be16,
  check: be16,
});
