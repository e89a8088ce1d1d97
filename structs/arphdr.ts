import { be16, struct, u8 } from "./layout.ts";

/** `struct arphdr`, the fixed part of an ARP packet; four addresses follow. See RFC 826. */
export const arphdr = struct("arphdr", "linux/if_arp.h", {
  ar_hrd: be16,
  ar_pro: be16,
  ar_hln: u8,
  ar_pln: u8,
  ar_op: be16,
});
