/**
 * One's complement arithmetic on 16 bits, unchecked: RFC 1071 and RFC 1624.
 *
 * @module
 */

// So many bytes of 16-bit words, added up in two halves, stay below 2^31, where numbers are fast.
const CHUNK_BYTES = 1 << 16;

/** Folds a sum of any size below 2^53 into 16 bits. */
export function fold(sum: number): number {
  let low = sum;
  while (low > 0xffff) low = (low % 0x10000) + Math.floor(low / 0x10000);
  return low;
}

/** The sum of bytes that are there, and of `initial`, in words of 16 bits in network byte order. */
export function sumOf(view: DataView, offset: number, end: number, initial: number): number {
  // RFC 1071 section 2(B): the order of bytes does not matter until the end, and the host's is the
  // faster one to load.
  let total = 0;
  let at = offset;
  while (end - at >= 4) {
    const stop = Math.min(end - 3, at + CHUNK_BYTES);
    let low = 0;
    let high = 0;
    for (; at < stop; at += 4) {
      const word = view.getInt32(at, true);
      low += word & 0xffff;
      high += word >>> 16;
    }
    total += low + high;
  }
  if (end - at >= 2) {
    total += view.getUint16(at, true);
    at += 2;
  }
  if (end - at >= 1) total += view.getUint8(at);
  const swapped = fold(total);
  return fold((((swapped & 0xff) << 8) | (swapped >>> 8)) + initial);
}

/** A checksum after 16 bits that it covers have changed. */
export function update16(checksum: number, before: number, after: number): number {
  // RFC 1624, equation 3: HC' = ~(~HC + ~m + m').
  let sum = (~checksum & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >>> 16);
  return ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
}

/** A checksum after 32 bits that it covers have changed. */
export function update32(checksum: number, before: number, after: number): number {
  const half = update16(checksum, before >>> 16, after >>> 16);
  return update16(half, before & 0xffff, after & 0xffff);
}
