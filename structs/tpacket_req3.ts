import { struct, u32 } from "./layout.ts";

/** `struct tpacket_req3`, the geometry of a ring of version 3. See packet(7). */
export const tpacket_req3 = struct("tpacket_req3", "linux/if_packet.h", {
  tp_block_size: u32,
  tp_block_nr: u32,
  tp_frame_size: u32,
  tp_frame_nr: u32,
  tp_retire_blk_tov: u32,
  tp_sizeof_priv: u32,
  tp_feature_req_word: u32,
});
