/**
 * The format of tcpdump: a header of 24 bytes, and one of 16 before each packet. The magic number says
 * byte order and resolution.
 *
 * @see {@link https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-05.html | PCAP capture file format}
 *
 * @module
 */
import type { CaptureInput } from "./capture_input.ts";
import type { CaptureTables } from "./capture_tables.ts";
import {
  type CapturedFrame,
  type CaptureParser,
  END,
  MORE,
  PACKET,
  type Step,
} from "./captured_frame.ts";

/** Times in microseconds. */
export const MAGIC_US = 0xa1b2c3d4;
/** Times in nanoseconds. */
export const MAGIC_NS = 0xa1b23c4d;
/** Alexey Kuznetzov's: each packet has 8 bytes more of header. */
export const MAGIC_MODIFIED = 0xa1b2cd34;

/** The version that everybody writes. */
export const VERSION_MAJOR = 2;
/** Its second number. */
export const VERSION_MINOR = 4;
/** The header of a packet. */
export const RECORD_BYTES = 16;

const HEADER_BYTES = 24;

const RECORD_MODIFIED_BYTES = 24;
/** Where a field is in the header, and in the one of a packet. */
const Field = { version: 4, zone: 8, snapBytes: 16, linkType: 20 } as const;
const LINK_TYPE = 0xffff;
/** The field of the link type also tells whether frames end with a checksum, and how long it is. */
const HAS_CHECKSUM = 0x0400_0000;
const CHECKSUM_SHIFT = 28;
/** A tcpdump of DG/UX. */
const VERSION_DG_UX = 543;
const NS_PER_SECOND = 1e9;

/** Which pcap format begins with this number, read as little endian; undefined of others. */
export function pcapFormat(magic: number): PcapFormat | undefined {
  return FORMATS.get(magic);
}

/** What the magic number says. */
export interface PcapFormat {
  readonly isLittle: boolean;
  readonly resolution: "us" | "ns";
  readonly isModified: boolean;
}

const FORMATS = new Map<number, PcapFormat>(
  [
    { magic: MAGIC_US, resolution: "us", isModified: false } as const,
    { magic: MAGIC_NS, resolution: "ns", isModified: false } as const,
    { magic: MAGIC_MODIFIED, resolution: "us", isModified: true } as const,
  ].flatMap(({ magic, ...format }) => [
    [magic, { ...format, isLittle: true }],
    [swapped(magic), { ...format, isLittle: false }],
  ]),
);

function swapped(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value, true);
  return view.getUint32(0, false);
}

/** Reads pcap. */
export class PcapParser implements CaptureParser {
  readonly #isLittle: boolean;
  readonly #recordBytes: number;
  /** Nanoseconds of one unit of the times. */
  readonly #unitNs: number;
  readonly #tables: CaptureTables;
  readonly #limitBytes: number;
  #hasHeader = false;
  #swapsLengths: "never" | "always" | "if larger" = "never";

  constructor(format: PcapFormat, tables: CaptureTables, limitBytes: number) {
    this.#isLittle = format.isLittle;
    this.#recordBytes = format.isModified ? RECORD_MODIFIED_BYTES : RECORD_BYTES;
    this.#unitNs = format.resolution === "ns" ? 1 : 1000;
    this.#tables = tables;
    this.#limitBytes = limitBytes;
  }

  step(input: CaptureInput, frame: CapturedFrame, stopsEarly: boolean): Step {
    if (!this.#hasHeader) {
      if (!input.has(HEADER_BYTES)) {
        if (input.ended) throw input.damaged(input.start, "the file ends within its header");
        return MORE;
      }
      this.#readHeader(input);
    }
    if (stopsEarly) return END;
    const headerBytes = this.#recordBytes;
    if (!input.has(headerBytes)) return this.#atEnd(input);
    const { view, start } = input;
    const isLittle = this.#isLittle;
    const seconds = view.getUint32(start, isLittle);
    const fraction = view.getUint32(start + 4, isLittle) * this.#unitNs;
    let length = view.getUint32(start + 8, isLittle);
    let originalLength = view.getUint32(start + 12, isLittle);
    if (this.#swapsLengths !== "never") {
      if (this.#swapsLengths === "always" || length > originalLength)
        [length, originalLength] = [originalLength, length];
    }
    if (length > this.#limitBytes) {
      const expected = `expected at most ${this.#limitBytes}, as limitBytes says`;
      throw input.damaged(start + 8, `a packet has ${length} bytes: ${expected}`);
    }
    if (!input.has(headerBytes + length)) return this.#atEnd(input);
    frame.recordOffset = input.base + start;
    frame.offset = start + headerBytes;
    frame.length = length;
    frame.originalLength = originalLength;
    // A fraction of more than a second is not ours to refuse.
    const carry = fraction < NS_PER_SECOND ? 0 : Math.floor(fraction / NS_PER_SECOND);
    frame.seconds = seconds + carry;
    frame.nanoseconds = fraction - carry * NS_PER_SECOND;
    input.take(headerBytes + length);
    return PACKET;
  }

  #atEnd(input: CaptureInput): Step {
    if (!input.ended) return MORE;
    if (input.start === input.end) return END;
    throw input.damaged(input.start, "the file ends within a packet");
  }

  #readHeader(input: CaptureInput): void {
    const { view, start } = input;
    const isLittle = this.#isLittle;
    const major = view.getUint16(start + Field.version, isLittle);
    const minor = view.getUint16(start + Field.version + 2, isLittle);
    const isOld = major === VERSION_MAJOR && minor <= VERSION_MINOR;
    if (!isOld && major !== VERSION_DG_UX)
      throw input.damaged(start + Field.version, `version ${major}.${minor} of pcap is not known`);
    // Programs before 2.3 wrote the two lengths the other way round, and some that said 2.3 did.
    if (major === VERSION_DG_UX || minor < 3) this.#swapsLengths = "always";
    else if (minor === 3) this.#swapsLengths = "if larger";
    const link = view.getUint32(start + Field.linkType, isLittle);
    this.#tables.addSection({ offset: 0, byteOrder: isLittle ? "little" : "big" });
    this.#tables.addInterface({
      linkType: link & LINK_TYPE,
      snapBytes: view.getUint32(start + Field.snapBytes, isLittle),
      resolution: NS_PER_SECOND / this.#unitNs,
      checksumBytes: link & HAS_CHECKSUM ? 2 * (link >>> CHECKSUM_SHIFT) : undefined,
    });
    this.#hasHeader = true;
    input.take(HEADER_BYTES);
  }
}
