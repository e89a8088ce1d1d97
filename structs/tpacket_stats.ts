import { struct, u32 } from "./layout.ts";

/** `struct tpacket_stats`, what a packet socket has counted. See packet(7), PACKET_STATISTICS. */
export const tpacket_stats = struct("tpacket_stats", "linux/if_packet.h", {
  tp_packets: u32,
  tp_drops: u32,
});
