/**
 * HalfSipHash-1-3, the keyed 32-bit hash that Linux uses for its tables on 32-bit machines
 * (lib/siphash.c). Whoever does not know the key cannot choose addresses that collide, so no
 * stranger can slow a table down.
 *
 * @module
 */

let processKey: Uint32Array | undefined;

/**
 * Hashes `words` 32-bit words of `source` from index `at`. Returns 32 bits, signed.
 *
 * @param key two words; the default is drawn once per process
 */
export function halfSipHash(
  source: Int32Array,
  at: number,
  words: number,
  key: Uint32Array = drawKey(),
): number {
  const k0 = key[0] as number;
  const k1 = key[1] as number;
  let v0 = k0 | 0;
  let v1 = k1 | 0;
  let v2 = 0x6c796765 ^ k0;
  let v3 = 0x74656462 ^ k1;
  // One round for each word and one for the length, then 0xff and three more: 1-3.
  for (let i = 0; i < words + 4; i++) {
    const word = i < words ? (source[at + i] as number) : i === words ? words << 26 : 0;
    v3 ^= word;
    if (i === words + 1) v2 ^= 0xff;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return v1 ^ v3;
}

function drawKey(): Uint32Array {
  processKey ??= crypto.getRandomValues(new Uint32Array(2));
  return processKey;
}
