/**
 * Names and numbers of hosts, services and protocols, under their C names. Where C returns a
 * pointer, the address is returned, and 0 for NULL: readMemory() and readText() copy what is there.
 *
 * @module
 */
import { ENOENT } from "../../structs/constants/errno.ts";
import { EAI_SYSTEM } from "../../structs/constants/netdb.ts";
import { libc, type Memory, negativeErrno } from "../ffi/libc.ts";
import { byteLengthOf, readText } from "../ffi/memory.ts";

/**
 * getaddrinfo(3). `node` and `service` end with a NUL, or are null; `hints` is an `addrinfo`, or
 * null. Sets `result[0]` to the address of the first `addrinfo`; they live until freeaddrinfo().
 * Blocks the thread. Returns 0, an EAI error, which is negative, or the errno in place of
 * EAI_SYSTEM, which is positive.
 */
export function getaddrinfo(
  node: Uint8Array | null,
  service: Uint8Array | null,
  hints: Memory,
  result: BigUint64Array,
): number {
  return orSystemErrno(libc.getaddrinfo(node, service, hints, result));
}

/** freeaddrinfo(3). Frees the whole list that begins at `address`. */
export function freeaddrinfo(address: number): void {
  libc.freeaddrinfo(address);
}

/** gai_strerror(3). Returns libc's text for an EAI error. */
export function gai_strerror(error: number): string {
  return readText(libc.gai_strerror(error) as number);
}

/**
 * getnameinfo(3). Fills `host` and `service`, unless they are null, with texts that end with a NUL.
 * Blocks the thread. Returns what getaddrinfo() returns.
 */
export function getnameinfo(
  address: ArrayBufferView,
  host: Uint8Array | null,
  service: Uint8Array | null,
  flags: number,
): number {
  return orSystemErrno(
    libc.getnameinfo(
      address,
      byteLengthOf(address),
      host,
      host === null ? 0 : byteLengthOf(host),
      service,
      service === null ? 0 : byteLengthOf(service),
      flags,
    ),
  );
}

/**
 * gethostbyname2_r(3). `name` ends with a NUL. Fills `entry`, a `hostent`, whose addresses point into
 * `buffer`, which must not move; `result[0]` is then not 0. Sets `herror[0]` to h_errno where there is
 * none. Blocks the thread. Returns 0 or `-errno`: ERANGE when the buffer is too short.
 */
export function gethostbyname2_r(
  name: Uint8Array,
  family: number,
  entry: ArrayBufferView,
  buffer: Uint8Array,
  result: BigUint64Array,
  herror: Int32Array,
): number {
  return -libc.gethostbyname2_r(name, family, entry, buffer, byteLengthOf(buffer), result, herror);
}

/**
 * gethostbyaddr_r(3). `address` is an `in_addr` or an `in6_addr`. Otherwise as gethostbyname2_r().
 */
export function gethostbyaddr_r(
  address: Uint8Array,
  family: number,
  entry: ArrayBufferView,
  buffer: Uint8Array,
  result: BigUint64Array,
  herror: Int32Array,
): number {
  return -libc.gethostbyaddr_r(
    address,
    byteLengthOf(address),
    family,
    entry,
    buffer,
    byteLengthOf(buffer),
    result,
    herror,
  );
}

/**
 * getservbyname(3). `name` and `protocol` end with a NUL; null is for every protocol. Returns the
 * address of a `servent`, which the next such call overwrites, or 0.
 */
export function getservbyname(name: Uint8Array, protocol: Uint8Array | null): number {
  return orZero(libc.getservbyname(name, protocol));
}

/** getservbyport(3). `port` is in network byte order. Otherwise as getservbyname(). */
export function getservbyport(port: number, protocol: Uint8Array | null): number {
  return orZero(libc.getservbyport(port, protocol));
}

/**
 * getservbyname_r(3). Fills `entry`, a `servent`, whose addresses point into `buffer`, which must
 * not move; `result[0]` is then not 0. Returns 0, also when there is none, or `-errno`: ERANGE when
 * the buffer is too short.
 */
export function getservbyname_r(
  name: Uint8Array,
  protocol: Uint8Array | null,
  entry: ArrayBufferView,
  buffer: Uint8Array,
  result: BigUint64Array,
): number {
  return notNegated(
    libc.getservbyname_r(name, protocol, entry, buffer, byteLengthOf(buffer), result),
  );
}

/** getservbyport_r(3). `port` is in network byte order. Otherwise as getservbyname_r(). */
export function getservbyport_r(
  port: number,
  protocol: Uint8Array | null,
  entry: ArrayBufferView,
  buffer: Uint8Array,
  result: BigUint64Array,
): number {
  return notNegated(
    libc.getservbyport_r(port, protocol, entry, buffer, byteLengthOf(buffer), result),
  );
}

/**
 * getprotobyname(3). `name` ends with a NUL. Returns the address of a `protoent`, which the next
 * such call overwrites, or 0.
 */
export function getprotobyname(name: Uint8Array): number {
  return orZero(libc.getprotobyname(name));
}

/** getprotobynumber(3). As getprotobyname(). */
export function getprotobynumber(protocol: number): number {
  return orZero(libc.getprotobynumber(protocol));
}

// errno has to be read at once, so it is returned instead of the code that says to look there: all
// EAI errors are negative.
function orSystemErrno(result: number): number {
  return result === EAI_SYSTEM ? -negativeErrno() : result;
}

// These return the errno itself. musl says ENOENT where glibc gives no entry.
function notNegated(errno: number): number {
  return errno === ENOENT ? 0 : -errno;
}

// An address of user space always fits a double.
function orZero(address: number | bigint | null): number {
  return Number(address ?? 0);
}
