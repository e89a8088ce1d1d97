import { struct, u16, u32 } from "./layout.ts";

/** `struct fanout_args`, how packet sockets share what comes. See packet(7), PACKET_FANOUT. */
export const fanout_args = struct("fanout_args", "linux/if_packet.h", {
  id: u16,
  type_flags: u16,
  max_num_members: u32,
});
