import { bytes, struct, u16 } from "./layout.ts";

/** `struct sockaddr_un`, a path or an abstract name. See unix(7). */
export const sockaddr_un = struct("sockaddr_un", "sys/un.h", {
  sun_family: u16,
  sun_path: bytes(108),
});
