import { i32, struct, usize } from "./layout.ts";

/** `struct protoent`, a protocol. See getprotobyname(3). */
export const protoent = struct("protoent", "netdb.h", {
  p_name: usize,
  p_aliases: usize,
  p_proto: i32,
});
