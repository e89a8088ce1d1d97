import { nested, struct, u32, u64 } from "./layout.ts";
import { tpacket_bd_ts } from "./tpacket_bd_ts.ts";

/** `struct tpacket_hdr_v1`, what a block says of its frames. See packet(7). */
export const tpacket_hdr_v1 = struct("tpacket_hdr_v1", "linux/if_packet.h", {
  block_status: u32,
  num_pkts: u32,
  offset_to_first_pkt: u32,
  blk_len: u32,
  seq_num: u64,
  ts_first_pkt: nested(tpacket_bd_ts),
  ts_last_pkt: nested(tpacket_bd_ts),
});
