import { nested, struct, u32 } from "./layout.ts";
import { tpacket_hdr_v1 } from "./tpacket_hdr_v1.ts";

/** `struct tpacket_block_desc`, what a block of a ring of version 3 begins with. See packet(7). */
export const tpacket_block_desc = struct("tpacket_block_desc", "linux/if_packet.h", {
  version: u32,
  offset_to_priv: u32,
  // C has a union of this one alone.
  hdr: nested(tpacket_hdr_v1),
});
