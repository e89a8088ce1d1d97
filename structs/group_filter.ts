import { nested, struct, u32 } from "./layout.ts";
import { sockaddr_storage } from "./sockaddr_storage.ts";

/**
 * `struct group_filter`, all sources that a socket hears of a group, or does not: `gf_numsrc` times
 * `gf_slist`. See RFC 3678.
 */
export const group_filter = struct("group_filter", "netinet/in.h", {
  gf_interface: u32,
  gf_group: nested(sockaddr_storage),
  gf_fmode: u32,
  gf_numsrc: u32,
  gf_slist: nested(sockaddr_storage),
});
