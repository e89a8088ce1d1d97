import { i32, struct, u32, usize } from "./layout.ts";

/** `struct addrinfo`, hints for a resolution, and a link of its result. See getaddrinfo(3). */
export const addrinfo = struct("addrinfo", "netdb.h", {
  ai_flags: i32,
  ai_family: i32,
  ai_socktype: i32,
  ai_protocol: i32,
  ai_addrlen: u32,
  ai_addr: usize,
  ai_canonname: usize,
  ai_next: usize,
});
