import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { internetChecksum, internetSum, updatedChecksum } from "../../lib/packet/index.ts";
import { requires, testIf } from "../support/require.ts";

// RFC 1071 in its own words: 16 bits at a time, carries added back.
function slowly(bytes: Uint8Array, initial = 0): number {
  let sum = initial;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] as number) * 256 + (bytes[i + 1] ?? 0);
    while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return sum;
}

describe("internetSum()", () => {
  test("gives what RFC 1071 section 3 has worked out", () => {
    const bytes = Buffer.from("0001f203f4f5f6f7", "hex");
    expect(internetSum(bytes)).toBe(0xddf2);
    expect(internetChecksum(bytes)).toBe(0x220d);
  });

  test("is the slow way's, for any bytes at any place and of any length", () => {
    const input = fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.nat(8), fc.nat(8), fc.nat(0xffff));
    fc.assert(
      fc.property(input, ([bytes, front, back, initial]) => {
        const memory = new Uint8Array(front + bytes.length + back).fill(0xa5);
        memory.set(bytes, front);
        const end = front + bytes.length;
        expect(internetSum(memory, front, end, initial)).toBe(slowly(bytes, initial));
        // A view that does not begin with its buffer counts from its own beginning.
        const view = new DataView(memory.buffer, front, bytes.length);
        expect(internetSum(view, 0, undefined, initial)).toBe(slowly(bytes, initial));
      }),
      { numRuns: 2000 },
    );
  });

  test("adds up in parts of even length", () => {
    const bytes = crypto.getRandomValues(new Uint8Array(1001));
    const whole = internetSum(bytes);
    for (const cut of [0, 2, 4, 998, 1000])
      expect(internetSum(bytes, cut, 1001, internetSum(bytes, 0, cut))).toBe(whole);
  });

  test("stays exact over the largest sums", () => {
    const bytes = new Uint8Array(300_003).fill(0xff);
    expect(internetSum(bytes)).toBe(slowly(bytes));
    bytes[300_002] = 1;
    expect(internetSum(bytes, 0, 300_003, 0xffff_ffff)).toBe(slowly(bytes, 0xffff_ffff));
  });

  test("of nothing is what it began with", () => {
    expect(internetSum(new Uint8Array(0))).toBe(0);
    expect(internetSum(new Uint8Array(4), 3, 3, 0x1_0001)).toBe(2);
    expect(internetChecksum(new Uint8Array(4))).toBe(0xffff);
  });

  test("refuses what is not in the memory, and what is no memory", () => {
    const memory = new Uint8Array(8);
    for (const [offset, end] of [
      [0, 9],
      [-1, 4],
      [5, 4],
      [0.5, 4],
      [0, Number.NaN],
    ])
      expect(() => internetSum(memory, offset, end)).toThrow(RangeError);
    expect(() => internetSum(memory, 0, 8, -1)).toThrow(RangeError);
    expect(() => internetSum(memory, 0, 8, 2 ** 32)).toThrow(RangeError);
    expect(() => internetSum([1, 2] as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => internetSum(new Uint8Array(new SharedArrayBuffer(8)))).toThrow(TypeError);
    expect(() => internetChecksum(memory, "0" as unknown as number)).toThrow(TypeError);
  });

  testIf(requires("python3"))("is what python3 computes of whole IPv4, UDP and TCP packets", () => {
    // Python's own arithmetic over struct.unpack, without any of this code's shortcuts.
    const program = `
import struct, sys
for line in sys.stdin:
    data = bytes.fromhex(line.strip())
    if len(data) % 2: data += b"\\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    print(~(total % 0xffff or (0xffff if total else 0)) & 0xffff)
`;
    const inputs = Array.from({ length: 200 }, (_, i) =>
      Buffer.from(crypto.getRandomValues(new Uint8Array(1 + i * 7))),
    );
    const { stdout, exitCode } = Bun.spawnSync(["python3", "-c", program], {
      stdin: Buffer.from(inputs.map((bytes) => `${bytes.toString("hex")}\n`).join("")),
    });
    expect(exitCode).toBe(0);
    const theirs = stdout.toString().trim().split("\n").map(Number);
    expect(inputs.map((bytes) => internetChecksum(bytes))).toEqual(theirs);
  });
});

describe("updatedChecksum()", () => {
  test("gives what RFC 1624 section 4 has worked out", () => {
    expect(updatedChecksum(0xdd2f, 0x5555, 0x3285)).toBe(0x0000);
  });

  test("agrees with a checksum of all bytes, whatever changes", () => {
    const word = fc.nat(0xffff);
    const input = fc.tuple(fc.array(word, { minLength: 2, maxLength: 30 }), fc.nat(), word);
    fc.assert(
      fc.property(input, ([words, which, after]) => {
        const bytes = new DataView(new ArrayBuffer(words.length * 2));
        for (const [i, value] of words.entries()) bytes.setUint16(i * 2, value);
        const at = (which % words.length) * 2;
        const before = bytes.getUint16(at);
        const checksum = internetChecksum(bytes);
        bytes.setUint16(at, after);
        // All zeros but one: there the two zeros of one's complement differ, and both are right.
        const updated = updatedChecksum(checksum, before, after);
        const full = internetChecksum(bytes);
        expect(updated === full || (updated === 0 && full === 0xffff)).toBeTrue();
        expect(internetSum(bytes, 0, undefined, updated)).toBe(0xffff);
      }),
      { numRuns: 2000 },
    );
  });

  test("refuses what are no 16 bits", () => {
    for (const wrong of [-1, 0x1_0000, 0.5, Number.NaN]) {
      expect(() => updatedChecksum(wrong, 0, 0)).toThrow(RangeError);
      expect(() => updatedChecksum(0, wrong, 0)).toThrow(RangeError);
      expect(() => updatedChecksum(0, 0, wrong)).toThrow(RangeError);
    }
    expect(() => updatedChecksum("0" as unknown as number, 0, 0)).toThrow(TypeError);
  });
});
