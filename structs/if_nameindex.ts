import { struct, u32, usize } from "./layout.ts";

/** `struct if_nameindex`, index and name of one interface. See if_nameindex(3). */
export const if_nameindex = struct("if_nameindex", "net/if.h", {
  if_index: u32,
  if_name: usize,
});
