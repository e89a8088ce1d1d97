import { struct, u64 } from "./layout.ts";

/** `struct tpacket_rollover_stats`, how often a member of a fanout group has passed packets on. */
export const tpacket_rollover_stats = struct("tpacket_rollover_stats", "linux/if_packet.h", {
  tp_all: u64,
  tp_huge: u64,
  tp_failed: u64,
});
