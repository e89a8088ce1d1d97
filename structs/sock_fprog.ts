import { struct, u16, usize } from "./layout.ts";

/** `struct sock_fprog`, a classic BPF program: how many instructions, and where they are. */
export const sock_fprog = struct("sock_fprog", "linux/filter.h", {
  len: u16,
  filter: usize,
});
