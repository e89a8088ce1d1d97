import { be16, bytes, i32, struct, u8, u16 } from "./layout.ts";

/** `struct sockaddr_ll`, a link-layer address. See packet(7). */
export const sockaddr_ll = struct("sockaddr_ll", "linux/if_packet.h", {
  sll_family: u16,
  sll_protocol: be16,
  sll_ifindex: i32,
  sll_hatype: u16,
  sll_pkttype: u8,
  sll_halen: u8,
  sll_addr: bytes(8),
});
