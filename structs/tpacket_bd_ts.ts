import { struct, u32 } from "./layout.ts";

/** `struct tpacket_bd_ts`, when the first or the last frame of a block came. See packet(7). */
export const tpacket_bd_ts = struct("tpacket_bd_ts", "linux/if_packet.h", {
  ts_sec: u32,
  ts_nsec: u32,
});
