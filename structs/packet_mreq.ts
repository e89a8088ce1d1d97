import { bytes, i32, struct, u16 } from "./layout.ts";

/** `struct packet_mreq`, what a packet socket also receives. See packet(7). */
export const packet_mreq = struct("packet_mreq", "linux/if_packet.h", {
  mr_ifindex: i32,
  mr_type: u16,
  mr_alen: u16,
  mr_address: bytes(8),
});
