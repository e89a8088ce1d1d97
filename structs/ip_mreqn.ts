import { be32, i32, struct } from "./layout.ts";

/** `struct ip_mreqn`, an IPv4 group and the interface by its address or index. See ip(7). */
export const ip_mreqn = struct("ip_mreqn", "netinet/in.h", {
  imr_multiaddr: be32,
  imr_address: be32,
  imr_ifindex: i32,
});
