import { libc, orErrno } from "../ffi/libc.ts";

/**
 * getifaddrs(3). Sets `result[0]` to the address of the first `ifaddrs`, or to 0 if there is none;
 * they live until freeifaddrs(). Returns 0, or `-errno`.
 */
export function getifaddrs(result: BigUint64Array): number {
  return orErrno(libc.getifaddrs(result));
}

/** freeifaddrs(3). Frees the whole list that begins at `address`. */
export function freeifaddrs(address: number): void {
  libc.freeifaddrs(address);
}
