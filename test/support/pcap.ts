/**
 * pcap(5) in a few lines, so that what the library reads and writes is not looked at by itself.
 *
 * @module
 */

/** A frame and when it was seen, in nanoseconds since 1970. */
export interface PcapFrame {
  readonly time: bigint;
  readonly bytes: Uint8Array;
  /** How long it was. Default: as long as `bytes`. */
  readonly originalLength?: number;
}

const MAGIC_NS = 0xa1b23c4d;
const HEADER = 24;
const RECORD = 16;
const NS = 1_000_000_000n;

/** A capture file with times in nanoseconds. */
export function pcapBytes(frames: readonly PcapFrame[], linkType = 1): Uint8Array {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(MAGIC_NS, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(linkType, 20);
  const records = frames.map(({ time, bytes, originalLength = bytes.length }) => {
    const record = Buffer.alloc(RECORD);
    record.writeUInt32LE(Number(time / NS), 0);
    record.writeUInt32LE(Number(time % NS), 4);
    record.writeUInt32LE(bytes.length, 8);
    record.writeUInt32LE(originalLength, 12);
    return Buffer.concat([record, bytes]);
  });
  return Buffer.concat([header, ...records]);
}

/** The frames of a file of this byte order with times in nanoseconds. */
export function pcapFrames(file: Uint8Array): PcapFrame[] {
  const bytes = Buffer.from(file);
  if (bytes.readUInt32LE(0) !== MAGIC_NS) throw new Error("Not such a file");
  const frames: PcapFrame[] = [];
  for (let at = HEADER; at + RECORD <= bytes.length; ) {
    const time = BigInt(bytes.readUInt32LE(at)) * NS + BigInt(bytes.readUInt32LE(at + 4));
    const length = bytes.readUInt32LE(at + 8);
    const start = at + RECORD;
    if (start + length > bytes.length) break;
    const originalLength = bytes.readUInt32LE(at + 12);
    frames.push({ time, bytes: bytes.subarray(start, start + length), originalLength });
    at = start + length;
  }
  return frames;
}
