import { struct, u32, usize } from "./layout.ts";

/** `struct ifaddrs`, one address of one interface, and a link to the next. See getifaddrs(3). */
export const ifaddrs = struct("ifaddrs", "ifaddrs.h", {
  ifa_next: usize,
  ifa_name: usize,
  ifa_flags: u32,
  ifa_addr: usize,
  ifa_netmask: usize,
  // ifa_broadaddr or ifa_dstaddr, as ifa_flags say.
  ifa_ifu: usize,
  ifa_data: usize,
});
