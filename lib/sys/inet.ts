/**
 * The text of addresses, and byte order, as C has them. Addresses are integers in host byte order:
 * a number for IPv4, a bigint for IPv6.
 *
 * These are no system calls: they cannot fail but by their arguments, and C would cut an integer
 * that is too large to another one. So this file, alone among its neighbours, checks and throws: a
 * TypeError for a value of the wrong type, a RangeError for a number out of range.
 *
 * @module
 */
import { INET6_ADDRSTRLEN } from "../../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6 } from "../../structs/constants/sys_socket.ts";
import { libc } from "../ffi/libc.ts";

const UINT16_MAX = 0xffff;
const UINT32_MAX = 0xffff_ffff;
const UINT128_MAX = 2n ** 128n - 1n;

// Scratch: filled by one call and read before the next.
const binary = new DataView(new ArrayBuffer(16));
const printed = Buffer.from(new ArrayBuffer(INET6_ADDRSTRLEN));

/**
 * inet_aton(3). Reads what C calls an IPv4 address, loosely: "127.1", "0x7f.1", "017700000001",
 * "2130706433" are all 127.0.0.1, and glibc ignores what follows a space. parseAddress is strict.
 * Returns the address, or undefined.
 */
export function inet_aton(text: string): number | undefined {
  const source = toC(text);
  return source && libc.inet_aton(source, binary) === 1 ? binary.getUint32(0) : undefined;
}

/** inet_ntoa(3). Returns the dotted quad of an address. */
export function inet_ntoa(address: number): string {
  requireUint(address, UINT32_MAX, "an IPv4 address");
  return inet_ntop(AF_INET, address);
}

/**
 * inet_pton(3). Reads an address of AF_INET, four decimal numbers, or of AF_INET6, without a zone.
 * Returns a number or a bigint, by the family, or undefined.
 */
export function inet_pton(family: number, text: string): number | bigint | undefined {
  requireFamily(family);
  const source = toC(text);
  if (!source || libc.inet_pton(family, source, binary) !== 1) return undefined;
  if (family === AF_INET) return binary.getUint32(0);
  return (binary.getBigUint64(0) << 64n) | binary.getBigUint64(8);
}

/**
 * inet_ntop(3). `address` is a number or a bigint, whichever the family, but a number is exact up
 * to 2^53 only. Returns the text of the address.
 */
export function inet_ntop(family: number, address: number | bigint): string {
  requireFamily(family);
  if (family === AF_INET) {
    binary.setUint32(0, Number(requireAddress(address, BigInt(UINT32_MAX), "an IPv4 address")));
  } else {
    const value = requireAddress(address, UINT128_MAX, "an IPv6 address");
    binary.setBigUint64(0, value >> 64n);
    binary.setBigUint64(8, BigInt.asUintN(64, value));
  }
  libc.inet_ntop(family, binary, printed, printed.length);
  return printed.toString("latin1", 0, printed.indexOf(0));
}

/** htons(3). Returns 16 bits of host byte order in network byte order. */
export function htons(value: number): number {
  requireUint(value, UINT16_MAX, "16 bits");
  // Both architectures are little-endian.
  return (value >> 8) | ((value & 0xff) << 8);
}

/** ntohs(3). Returns 16 bits of network byte order in host byte order. */
export function ntohs(value: number): number {
  return htons(value);
}

/** htonl(3). Returns 32 bits of host byte order in network byte order. */
export function htonl(value: number): number {
  requireUint(value, UINT32_MAX, "32 bits");
  binary.setUint32(0, value, true);
  return binary.getUint32(0, false);
}

/** ntohl(3). Returns 32 bits of network byte order in host byte order. */
export function ntohl(value: number): number {
  return htonl(value);
}

// C reads a text up to its first NUL, so one that has another in it is not the text that C would
// read.
function toC(text: string): Uint8Array | undefined {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use a value of type ${typeof text} as text: expected a string`);
  return text.includes("\0") ? undefined : Buffer.from(`${text}\0`);
}

function requireFamily(family: number): void {
  if (typeof family !== "number") {
    throw new TypeError(
      `Cannot use a value of type ${typeof family} as a family: expected a number`,
    );
  }
  if (family !== AF_INET && family !== AF_INET6) {
    throw new RangeError(
      `Cannot use ${family} as a family: expected AF_INET (${AF_INET}) or AF_INET6 (${AF_INET6})`,
    );
  }
}

function requireUint(value: number, maximum: number, name: string): void {
  if (typeof value !== "number")
    throw new TypeError(`Cannot use a value of type ${typeof value} as ${name}: expected a number`);
  if (!Number.isInteger(value) || value < 0 || value > maximum)
    throw new RangeError(`Cannot use ${value} as ${name}: expected 0 to ${maximum}`);
}

function requireAddress(address: number | bigint, maximum: bigint, name: string): bigint {
  if (typeof address !== "number" && typeof address !== "bigint") {
    throw new TypeError(
      `Cannot use a value of type ${typeof address} as ${name}: expected a number or a bigint`,
    );
  }
  if (typeof address === "number" && !Number.isInteger(address))
    throw new RangeError(`Cannot use ${address} as ${name}: expected an integer`);
  if (address < 0 || address > maximum)
    throw new RangeError(`Cannot use ${address} as ${name}: expected 0 to ${maximum}`);
  if (typeof address === "number" && !Number.isSafeInteger(address))
    throw new RangeError(`Cannot use ${address} as ${name}: expected a bigint above 2^53`);
  return BigInt(address);
}
