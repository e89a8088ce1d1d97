import { nested, struct, u32 } from "./layout.ts";
import { sockaddr_storage } from "./sockaddr_storage.ts";

/** `struct group_req`, a group of any family and the interface by its index. See RFC 3678. */
export const group_req = struct("group_req", "netinet/in.h", {
  gr_interface: u32,
  gr_group: nested(sockaddr_storage),
});
