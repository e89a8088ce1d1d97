import { nested, struct, u32 } from "./layout.ts";
import { sockaddr_storage } from "./sockaddr_storage.ts";

/** `struct group_source_req`, a group, the interface by its index, and a source. See RFC 3678. */
export const group_source_req = struct("group_source_req", "netinet/in.h", {
  gsr_interface: u32,
  gsr_group: nested(sockaddr_storage),
  gsr_source: nested(sockaddr_storage),
});
