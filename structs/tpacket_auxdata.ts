import { struct, u16, u32 } from "./layout.ts";

/** `struct tpacket_auxdata`, what is told of a packet beside its bytes. See packet(7). */
export const tpacket_auxdata = struct("tpacket_auxdata", "linux/if_packet.h", {
  tp_status: u32,
  tp_len: u32,
  tp_snaplen: u32,
  tp_mac: u16,
  tp_net: u16,
  tp_vlan_tci: u16,
  tp_vlan_tpid: u16,
});
