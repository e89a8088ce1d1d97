import { be32, struct } from "./layout.ts";

/** `struct ip_mreq`, an IPv4 group and the interface by its address. See ip(7). */
export const ip_mreq = struct("ip_mreq", "netinet/in.h", {
  imr_multiaddr: be32,
  imr_interface: be32,
});
