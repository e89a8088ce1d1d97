import { expect, test } from "bun:test";
import fc from "fast-check";
import { halfSipHash } from "../../lib/internal/half_sip_hash.ts";

// lib/tests/siphash_kunit.c of Linux, test_vectors_hsiphash of 32-bit machines: this key, and the
// input 0, 1, 2, … of so many bytes.
const key = new Uint32Array([0x03020100, 0x07060504]);
const counting = new Int32Array(Uint8Array.from({ length: 64 }, (_, i) => i).buffer);

test.each([
  [0, 0x5814c896],
  [4, 0x7e059ea6],
  [8, 0x577999b1],
  [16, 0x8b31d501],
  [28, 0x0a4100d0],
])("halfSipHash() of %d bytes is Linux's hsiphash", (byteLength, expected) => {
  expect(halfSipHash(counting, 0, byteLength / 4, key) >>> 0).toBe(expected);
});

const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
const words = fc.array(word, { maxLength: 28 });

test("halfSipHash() looks at its words only, wherever they stand", () => {
  fc.assert(
    fc.property(words, words, words, (before, source, after) => {
      const alone = halfSipHash(new Int32Array(source), 0, source.length, key);
      const among = new Int32Array([...before, ...source, ...after]);
      expect(halfSipHash(among, before.length, source.length, key)).toBe(alone);
      expect(alone).toBe(alone | 0);
    }),
  );
});

test("halfSipHash() tells words of zeros apart by their number", () => {
  const zeros = new Int32Array(8);
  const hashes = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((count) => halfSipHash(zeros, 0, count, key));
  expect(new Set(hashes).size).toBe(9);
});

test("halfSipHash() depends on both words of the key", () => {
  const hashes = [
    [1, 2],
    [1, 3],
    [0, 2],
    [2, 1],
    [0x8000_0001, 2],
  ].map((each) => halfSipHash(counting, 0, 7, new Uint32Array(each)));
  expect(new Set(hashes).size).toBe(hashes.length);
});

test("halfSipHash() depends on every bit of the source", () => {
  const plain = halfSipHash(counting, 0, 7, key);
  for (let bit = 0; bit < 7 * 32; bit++) {
    const flipped = counting.slice();
    flipped[bit >> 5] = (flipped[bit >> 5] ?? 0) ^ (1 << (bit & 31));
    expect(halfSipHash(flipped, 0, 7, key)).not.toBe(plain);
  }
});

test("halfSipHash() spreads addresses that differ by little over the low bits", () => {
  const buckets = new Uint32Array(1024);
  const source = new Int32Array(4);
  for (let i = 0; i < 65536; i++) {
    source[0] = i << 16;
    const bucket = halfSipHash(source, 0, 4) & 1023;
    buckets[bucket] = (buckets[bucket] ?? 0) + 1;
  }
  // 64 are expected in each, with a standard deviation of 8: 40 and more away is no accident.
  expect(Math.max(...buckets)).toBeLessThan(64 + 80);
  expect(Math.min(...buckets)).toBeGreaterThan(0);
});

test("halfSipHash() without a key uses one that is drawn for each process", async () => {
  const module = JSON.stringify(new URL("../../lib/internal/half_sip_hash.ts", import.meta.url));
  const script = `
    const { halfSipHash } = await import(${module});
    console.log([1, 2, 3].map((count) => halfSipHash(new Int32Array(4), 0, count)).join());
  `;
  const run = () => Bun.$`${process.execPath} -e ${script}`.text();
  const [first, second] = await Promise.all([run(), run()]);
  expect(first).toMatch(/^-?\d+,-?\d+,-?\d+\n$/);
  expect(second).not.toBe(first);
});
