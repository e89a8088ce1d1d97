import { struct, u16, u32 } from "./layout.ts";

/** `struct tpacket_hdr_variant1`, what a ring of version 3 adds to a frame's header. See packet(7). */
export const tpacket_hdr_variant1 = struct("tpacket_hdr_variant1", "linux/if_packet.h", {
  tp_rxhash: u32,
  tp_vlan_tci: u32,
  tp_vlan_tpid: u16,
  tp_padding: u16,
});
