import { struct, u32 } from "./layout.ts";

/** `struct icmp_filter`: a bit for each ICMP type below 32 that is not to be received. See raw(7). */
export const icmp_filter = struct("icmp_filter", "linux/icmp.h", {
  data: u32,
});
