import { be32, i32, struct } from "./layout.ts";

/** `struct in_pktinfo`, where an IPv4 packet came in, or is to go out. See ip(7). */
export const in_pktinfo = struct("in_pktinfo", "netinet/in.h", {
  ipi_ifindex: i32,
  ipi_spec_dst: be32,
  ipi_addr: be32,
});
