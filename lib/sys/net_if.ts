import { libc, negativeErrno } from "../ffi/libc.ts";

/** if_nametoindex(3). `name` ends with a NUL. Returns the interface index, or `-errno`. */
export function if_nametoindex(name: Uint8Array): number {
  return libc.if_nametoindex(name) || negativeErrno();
}

/**
 * if_indextoname(3). Fills `name`, at least IF_NAMESIZE bytes, with a text that ends with a NUL.
 * Returns 0, or `-errno`.
 */
export function if_indextoname(index: number, name: Uint8Array): number {
  return libc.if_indextoname(index, name) === null ? negativeErrno() : 0;
}

/**
 * if_nameindex(3). Returns the address of `if_nameindex` structs, of which the last has index 0 and
 * no name, or `-errno`. They live until if_freenameindex().
 */
export function if_nameindex(): number {
  return (libc.if_nameindex() as number | null) ?? negativeErrno();
}

/** if_freenameindex(3). Frees what if_nameindex() has returned. */
export function if_freenameindex(address: number): void {
  libc.if_freenameindex(address);
}
