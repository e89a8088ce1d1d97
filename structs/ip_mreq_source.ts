import { be32, struct } from "./layout.ts";

/** `struct ip_mreq_source`, an IPv4 group, the interface by its address, a source. See ip(7). */
export const ip_mreq_source = struct("ip_mreq_source", "netinet/in.h", {
  imr_multiaddr: be32,
  imr_interface: be32,
  imr_sourceaddr: be32,
});
