import { struct, u32 } from "./layout.ts";

/** `struct tpacket_stats_v3`, what a ring of version 3 has counted. See packet(7). */
export const tpacket_stats_v3 = struct("tpacket_stats_v3", "linux/if_packet.h", {
  tp_packets: u32,
  tp_drops: u32,
  tp_freeze_q_cnt: u32,
});
