import { i32, struct, usize } from "./layout.ts";

/** `struct ifconf`, room for a list of `struct ifreq`, in bytes, and where it is. See netdevice(7). */
export const ifconf = struct("ifconf", "net/if.h", {
  ifc_len: i32,
  // ifc_buf and ifc_req.
  ifc_ifcu: usize,
});
