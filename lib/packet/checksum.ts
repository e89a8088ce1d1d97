import { byteLengthOf, bytesOf } from "../ffi/memory.ts";
import { requireInteger, requireView } from "../internal/arguments.ts";
import { sumOf, update16 } from "./internal/sum.ts";

/**
 * Computes the Internet checksum of bytes: the one's complement of their one's complement sum, in
 * words of 16 bits, an odd byte at the end padded with zero.
 *
 * Over a header that has its checksum in it, the result is 0 where that is right; to compute what
 * to put there, the field is set to 0 before.
 *
 * @param memory where the bytes are: a DataView is read as it is, of another view one is made
 * @param offset of the first byte. Default 0
 * @param end the offset behind the last one. Default: all of the memory
 * @param initial a sum to begin with, as `internetSum` gives it: of a pseudo-header, or of what
 *   comes before. Default 0
 * @returns 0 to 65535
 * @throws {RangeError} the bytes are not in the memory
 * @see {@link https://www.rfc-editor.org/rfc/rfc1071 | RFC 1071}
 *
 * @example The header of an IPv4 packet
 * ```ts
 * import { internetChecksum } from "bun-sockets/packet";
 *
 * const header = Buffer.from("45000073000040004011b861c0a80001c0a800c7", "hex");
 * console.log(internetChecksum(header)); // 0
 * header.writeUInt16BE(0, 10);
 * console.log(internetChecksum(header).toString(16)); // b861
 * ```
 */
export function internetChecksum(
  memory: ArrayBufferView,
  offset = 0,
  end?: number,
  initial = 0,
): number {
  return ~internetSum(memory, offset, end, initial) & 0xffff;
}

/**
 * Computes the one's complement sum of bytes, in words of 16 bits: what `internetChecksum` is the
 * complement of. Sums can be added up in parts, where all but the last are of an even length.
 *
 * @param memory where the bytes are
 * @param offset of the first byte. Default 0
 * @param end the offset behind the last one. Default: all of the memory
 * @param initial a sum to begin with. Default 0
 * @returns 0 to 65535
 * @throws {RangeError} the bytes are not in the memory
 * @see {@link https://www.rfc-editor.org/rfc/rfc1071 | RFC 1071}
 */
export function internetSum(
  memory: ArrayBufferView,
  offset = 0,
  end?: number,
  initial = 0,
): number {
  requireView(memory, "memory");
  const length = byteLengthOf(memory);
  const stop = end ?? length;
  requireInteger(stop, 0, length, "the end of bytes");
  requireInteger(offset, 0, stop, "the offset of bytes");
  requireInteger(initial, 0, 0xffff_ffff, "an initial sum");
  return sumOf(viewOf(memory), offset, stop, initial);
}

/**
 * Computes what a checksum becomes when 16 bits that it covers change, without looking at the rest.
 *
 * @param checksum as it is, 0 to 65535
 * @param before the 16 bits as they were, at an even offset of what is covered
 * @param after as they will be
 * @returns the new checksum, 0 to 65535
 * @see {@link https://www.rfc-editor.org/rfc/rfc1624 | RFC 1624}
 *
 * @example The one of RFC 1624
 * ```ts
 * import { updatedChecksum } from "bun-sockets/packet";
 *
 * console.log(updatedChecksum(0xdd2f, 0x5555, 0x3285)); // 0
 * ```
 */
export function updatedChecksum(checksum: number, before: number, after: number): number {
  requireInteger(checksum, 0, 0xffff, "a checksum");
  requireInteger(before, 0, 0xffff, "16 bits");
  requireInteger(after, 0, 0xffff, "16 bits");
  return update16(checksum, before, after);
}

/** How a checksum stands, as the headers' `checksumStatus` tells it. */
export type ChecksumStatus =
  /** It is right. */
  | "valid"
  /** It is wrong. */
  | "wrong"
  /**
   * The kernel has left it to the device, which has not seen the frame yet: usual on veth and lo.
   * In its place is the sum of the pseudo-header.
   */
  | "unfinished"
  /** There is none: 0, which UDP allows. */
  | "none"
  /** It cannot be computed: a fragment, or bytes that were not captured. */
  | "unknown";

function viewOf(memory: ArrayBufferView): DataView {
  if (memory instanceof DataView) return memory;
  const bytes = bytesOf(memory);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
