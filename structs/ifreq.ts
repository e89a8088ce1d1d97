import { bytes, struct } from "./layout.ts";

/**
 * `struct ifreq`, the name of an interface and a union of what may be asked of it. See
 * netdevice(7).
 */
export const ifreq = struct("ifreq", "net/if.h", {
  // ifr_name.
  ifr_ifrn: bytes(16),
  // ifr_flags, ifr_ifindex, ifr_addr and the others. The widest is ifr_map, with a long in front.
  ifr_ifru: bytes(24, 8),
});
