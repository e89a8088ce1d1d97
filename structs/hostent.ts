import { i32, struct, usize } from "./layout.ts";

/**
 * `struct hostent`, a host: `h_aliases` and `h_addr_list` are arrays of pointers that end with NULL.
 * See gethostbyname(3).
 */
export const hostent = struct("hostent", "netdb.h", {
  h_name: usize,
  h_aliases: usize,
  h_addrtype: i32,
  h_length: i32,
  h_addr_list: usize,
});
