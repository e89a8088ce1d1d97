import { struct, u8, u16, usize } from "./layout.ts";

/** `struct ifmap`, where a device is on its bus. See netdevice(7). */
export const ifmap = struct("ifmap", "net/if.h", {
  mem_start: usize,
  mem_end: usize,
  base_addr: u16,
  irq: u8,
  dma: u8,
  port: u8,
});
