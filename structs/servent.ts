import { i32, struct, usize } from "./layout.ts";

/** `struct servent`, a service; `s_port` is in network byte order. See getservbyname(3). */
export const servent = struct("servent", "netdb.h", {
  s_name: usize,
  s_aliases: usize,
  s_port: i32,
  s_proto: usize,
});
