/**
 * A million damaged capture files: each is read to its end or its damage, between canaries that tell
 * whether anything beside it was looked at.
 *
 * CAPTURE_FUZZ_INPUTS and CAPTURE_FUZZ_SEED in the environment choose others.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { CaptureFile, CaptureFileError, type CaptureReader } from "bun-sockets/packet";
import { Bytes, pcapHeader, pcapRecord, randomNumbers, Section } from "../support/capture_bytes.ts";

const INPUTS = Number(process.env["CAPTURE_FUZZ_INPUTS"] ?? 1_000_000);
const SEED = Number(process.env["CAPTURE_FUZZ_SEED"] ?? 20_261_121);
const CANARY_BYTES = 64;
/** One of so many is read twice, between other canaries. */
const TWICE = 8;
/** The shortest that a packet takes in any format. */
const PACKET_BYTES_MIN = 16;
const LENGTHS = [0, 1, 3, 4, 7, 8, 11, 12, 13, 16, 28, 32, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/** A file that is whole. */
interface Base {
  readonly name: string;
  readonly bytes: Buffer;
  /** Where each packet begins, and where it ends, with all that tells its bytes. */
  readonly packets: readonly {
    readonly start: number;
    readonly end: number;
    readonly sum: number;
  }[];
}

/** What reading has given. */
class Outcome {
  packets = 0;
  /** Of packets: what tells one reading from another. */
  sum = 0;
  error: CaptureFileError | undefined;
}

function sumOf(reader: CaptureReader): number {
  const { bytes, offset, length } = reader;
  // Every byte that belongs to the packet, and all that is told of it.
  let sum = reader.originalLength ^ (reader.seconds | 0) ^ reader.nanoseconds ^ reader.interface;
  for (let at = offset; at < offset + length; at++)
    sum = (Math.imul(sum, 31) + (bytes[at] as number)) | 0;
  return (sum + (reader.comment?.length ?? 0)) | 0;
}

function read(bytes: Uint8Array, sums?: number[]): Outcome {
  const outcome = new Outcome();
  try {
    const reader = CaptureFile.open(bytes, { limitBytes: 1 << 16 });
    while (reader.next()) {
      const { offset, length } = reader;
      if (!(offset >= 0 && length >= 0 && offset + length <= bytes.length))
        throw new Error(`a packet of ${length} bytes at ${offset} of ${bytes.length}`);
      if (++outcome.packets > bytes.length / PACKET_BYTES_MIN)
        throw new Error(`${outcome.packets} packets in ${bytes.length} bytes`);
      const sum = sumOf(reader);
      sums?.push(sum);
      outcome.sum = (Math.imul(outcome.sum, 31) + sum) | 0;
    }
  } catch (error) {
    if (!(error instanceof CaptureFileError)) throw error;
    if (!(error.offset >= 0 && error.offset <= bytes.length))
      throw new Error(`damage at ${error.offset} of ${bytes.length}`);
    outcome.error = error;
  }
  return outcome;
}

function baseOf(
  name: string,
  parts: readonly (readonly [bytes: Uint8Array, isPacket: boolean])[],
): Base {
  const bytes = Buffer.concat(parts.map(([part]) => part));
  const sums: number[] = [];
  expect(read(bytes, sums).error).toBe(undefined);
  let at = 0;
  const packets: Base["packets"][number][] = [];
  for (const [part, isPacket] of parts) {
    if (isPacket)
      packets.push({ start: at, end: at + part.length, sum: sums[packets.length] as number });
    at += part.length;
  }
  expect(packets).toHaveLength(sums.length);
  return { name, bytes, packets };
}

function pcapng(byteOrder: "little" | "big"): Base {
  const section = new Section(byteOrder, [
    [1, "all"],
    [4, "fuzz"],
  ]);
  section.interface(1, 0, [
    [2, "eth0"],
    [9, new Uint8Array([9])],
    [11, "\0udp"],
    [14, 5n],
  ]);
  section.interface(113, 40);
  section.packet("the first packet", { time: 1_700_000_000_123_456_789n });
  const comment = [
    [1, "remark"],
    [2, 1],
    [4, 7n],
  ] as const;
  section.packet("another", { number: 1, time: 5n, originalLength: 99, options: comment });
  section.block(3, section.body().u32(6).padded("simple").bytes);
  section.block(2, section.body().u16(0, 3).u32(0, 9, 3, 3).padded("old").bytes);
  const names = section
    .body()
    .u16(1, 8)
    .put(new Uint8Array([10, 0, 0, 1]))
    .put("a.b\0")
    .u16(0, 0);
  section.block(4, names.bytes);
  section.block(
    5,
    section
      .body()
      .u32(0, 0, 1)
      .put(
        section.options([
          [4, 3n],
          [2, 1n],
        ]),
      ).bytes,
  );
  section.block(0xbad, section.body().u32(1).bytes);
  section.packet("the last", { number: 1 });
  const other = new Section(byteOrder === "big" ? "little" : "big").interface().packet("and one");
  const isPacket = (block: Buffer, order: string) =>
    [2, 3, 6].includes(order === "big" ? block.readUInt32BE() : block.readUInt32LE());
  return baseOf(`pcapng, ${byteOrder} endian first`, [
    ...section.blocks.map((block) => [block, isPacket(block, byteOrder)] as const),
    ...other.blocks.map((block) => [block, isPacket(block, other.byteOrder)] as const),
  ]);
}

function pcap(magic: number, byteOrder: "little" | "big", version = [2, 4]): Base {
  const record = (data: string) => {
    const bytes = Buffer.from(pcapRecord(data, { byteOrder, seconds: 5, fraction: 6 }));
    const more = new Bytes(byteOrder).u32(1).u16(0x800, 0).bytes;
    const isModified = magic === 0xa1b2cd34;
    return isModified ? Buffer.concat([bytes.subarray(0, 16), more, bytes.subarray(16)]) : bytes;
  };
  const records = ["one", "", "the third packet", "x".repeat(40)].map(record);
  const header = pcapHeader(magic, { byteOrder, version });
  return baseOf(`pcap 0x${magic.toString(16)} ${version}, ${byteOrder} endian`, [
    [header, false],
    ...records.map((bytes) => [bytes, true] as const),
  ]);
}

const bases = [
  pcapng("little"),
  pcapng("big"),
  pcap(0xa1b2c3d4, "little"),
  pcap(0xa1b23c4d, "big"),
  pcap(0xa1b2cd34, "little", [2, 3]),
];

/** Damages a copy. Returns the first byte that may differ, and how long the copy is now. */
function damage(
  target: Uint8Array,
  base: Base,
  random: () => number,
): [first: number, length: number] {
  const below = (limit: number) => Math.floor(random() * limit);
  let length = base.bytes.length;
  target.set(base.bytes);
  let first = length;
  for (let times = 1 + below(3); times > 0; times--) {
    const at = below(length);
    const kind = below(8);
    if (kind === 0) {
      // Cut off.
      length = at;
      first = Math.min(first, at);
      if (length === 0) break;
    } else if (kind < 4) {
      target[at] = (target[at] as number) ^ (1 << below(8));
      first = Math.min(first, at);
    } else if (kind < 5) {
      target[at] = below(256);
      first = Math.min(first, at);
    } else if (kind < 7) {
      // A length that lies, where lengths are.
      const word = at & ~3;
      const value = LENGTHS[below(LENGTHS.length)] as number;
      const isLittle = below(2) === 0;
      for (let i = 0; i < 4 && word + i < length; i++)
        target[word + i] = value >>> (8 * (isLittle ? i : 3 - i));
      first = Math.min(first, word);
    } else {
      // A part of itself at another place.
      const from = below(length);
      const count = Math.min(below(40), length - at, length - from);
      target.copyWithin(at, from, from + count);
      first = Math.min(first, at);
    }
  }
  return [first, length];
}

// Where an error was made costs more than all else.
const stackTraceLimit = Error.stackTraceLimit;
beforeAll(() => {
  Error.stackTraceLimit = 0;
});
afterAll(() => {
  Error.stackTraceLimit = stackTraceLimit;
});

describe("CaptureReader", () => {
  const each = Math.ceil(INPUTS / bases.length);
  test.each(bases)(
    `reads nothing beside a damaged file, and every packet before the damage: $name`,
    (base) => {
      const random = randomNumbers(SEED);
      const memory = new Uint8Array(2 * CANARY_BYTES + base.bytes.length);
      let whole = 0;
      let damaged = 0;
      for (let input = 0; input < each; input++) {
        const isTwice = input % TWICE === 0;
        if (isTwice) memory.fill(0xa5);
        const [first, length] = damage(memory.subarray(CANARY_BYTES), base, random);
        const place = memory.subarray(CANARY_BYTES, CANARY_BYTES + length);
        const sums: number[] = [];
        const outcome = read(place, sums);
        if (outcome.error) damaged++;
        else whole++;
        // Whatever has come before the first byte that was touched is as it was.
        for (const [i, { end, sum }] of base.packets.entries()) {
          if (end > first) break;
          if (sums[i] !== sum)
            throw new Error(`input ${input}: packet ${i} before ${first} is lost`);
        }
        if (!isTwice) continue;
        const copy = new Uint8Array(memory.length).fill(0x06);
        copy.set(place, CANARY_BYTES);
        const again = read(copy.subarray(CANARY_BYTES, CANARY_BYTES + length));
        if (again.sum !== outcome.sum || again.error?.message !== outcome.error?.message)
          throw new Error(`input ${input}: what is beside the file was read`);
      }
      expect(whole + damaged).toBe(each);
      // Both happen, or the test is none.
      expect(Math.min(whole, damaged)).toBeGreaterThan(each / 100);
    },
    60_000,
  );

  test("reads random bytes behind a beginning that is right", () => {
    const random = randomNumbers(SEED);
    for (let input = 0; input < INPUTS / 50; input++) {
      const base = bases[input % bases.length] as Base;
      const { start } = base.packets[0] as Base["packets"][number];
      const bytes = new Uint8Array(start + Math.floor(random() * 200));
      bytes.set(base.bytes.subarray(0, start));
      for (let at = start; at < bytes.length; at++) bytes[at] = random() < 0.7 ? 0 : random() * 256;
      read(bytes);
    }
  });
});
