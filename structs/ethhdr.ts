import { be16, bytes, packed, struct } from "./layout.ts";

/** `struct ethhdr`, the header of an Ethernet frame. See packet(7). */
export const ethhdr = struct("ethhdr", "linux/if_ether.h", {
  h_dest: bytes(6),
  h_source: bytes(6),
  h_proto: packed(be16),
});
