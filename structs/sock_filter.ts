import { struct, u8, u16, u32 } from "./layout.ts";

/** `struct sock_filter`, one instruction of a classic BPF program. See socket(7), SO_ATTACH_FILTER. */
export const sock_filter = struct("sock_filter", "linux/filter.h", {
  code: u16,
  jt: u8,
  jf: u8,
  k: u32,
});
