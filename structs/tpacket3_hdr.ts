import { bytes, nested, struct, u16, u32 } from "./layout.ts";
import { tpacket_hdr_variant1 } from "./tpacket_hdr_variant1.ts";

/** `struct tpacket3_hdr`, what stands before each frame in a ring of version 3. See packet(7). */
export const tpacket3_hdr = struct("tpacket3_hdr", "linux/if_packet.h", {
  tp_next_offset: u32,
  tp_sec: u32,
  tp_nsec: u32,
  tp_snaplen: u32,
  tp_len: u32,
  tp_status: u32,
  tp_mac: u16,
  tp_net: u16,
  hv1: nested(tpacket_hdr_variant1),
  tp_padding: bytes(8),
});
