import { struct, u16, u32 } from "./layout.ts";

/** `struct sockaddr_nl`, a netlink port and its multicast groups. See netlink(7). */
export const sockaddr_nl = struct("sockaddr_nl", "linux/netlink.h", {
  nl_family: u16,
  nl_pad: u16,
  nl_pid: u32,
  nl_groups: u32,
});
