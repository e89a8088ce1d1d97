/**
 * Reads pcapng: blocks of a type and a length, which stands behind them once more.
 *
 * @module
 */
import { formatInet4, formatInet6 } from "../../internal/inet_text.ts";
import type { CaptureStatistics, CaptureTime } from "../capture_interface.ts";
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
import {
  BLOCK_BYTES,
  Block,
  BYTE_ORDER_MAGIC,
  COMMENT,
  END_OF_OPTIONS,
  ENHANCED_BYTES,
  ENHANCED_DATA,
  INTERFACE_BYTES,
  InterfaceOption,
  NAMES_BYTES,
  NameRecord,
  OPTION_BYTES,
  PacketOption,
  padded,
  SECTION_BYTES,
  SectionOption,
  SIMPLE_BYTES,
  SIMPLE_DATA,
  STATISTICS_BYTES,
  StatisticsOption,
  VERSION_MAJOR,
} from "./pcapng_format.ts";
import { RESOLUTION_US, TimeScale } from "./pcapng_time.ts";

/** What is needed of an interface for each of its packets. */
interface Scaled {
  /** Its index among all of the file. */
  readonly index: number;
  readonly snapBytes: number;
  readonly time: TimeScale;
}

/** Blocks that are kept may have this many bytes together: a file must not fill the memory. */
const KEPT_BYTES_MAX = 64 << 20;
const TYPE_AND_LENGTH = 8;
const LENGTH_BYTES = 4;
/** With the byte order. */
const SECTION_START = 12;
/** Some programs write 1.2, and mean 1.0. */
const MINORS: readonly number[] = [0, 2];
const DROPS_UNKNOWN = 0xffff;
/** How a filter option is said: as text, or as instructions. */
const FILTER_TEXT = 0;

const NAMES_OF_TYPES: Readonly<Record<number, string>> = {
  [Block.interface]: "an interface description block",
  [Block.obsoletePacket]: "a packet block",
  [Block.simplePacket]: "a simple packet block",
  [Block.names]: "a name resolution block",
  [Block.statistics]: "an interface statistics block",
  [Block.enhancedPacket]: "an enhanced packet block",
  [Block.section]: "a section header block",
};

const BYTES_MIN: Readonly<Record<number, number>> = {
  [Block.interface]: INTERFACE_BYTES,
  [Block.obsoletePacket]: ENHANCED_BYTES,
  [Block.simplePacket]: SIMPLE_BYTES,
  [Block.names]: NAMES_BYTES,
  [Block.statistics]: STATISTICS_BYTES,
  [Block.enhancedPacket]: ENHANCED_BYTES,
  [Block.section]: SECTION_BYTES,
};

/** Where a field is in a packet block, and in one of statistics. */
const PacketField = {
  interface: 8,
  /** Of the obsolete one, whose interface has 16 bits. */
  drops: 10,
  timeHigh: 12,
  timeLow: 16,
  length: 20,
  originalLength: 24,
} as const;
const InterfaceField = { linkType: 8, snapBytes: 12 } as const;

const COUNTS: Readonly<
  Record<number, "packets" | "drops" | "accepted" | "systemDrops" | "delivered">
> = {
  [StatisticsOption.packets]: "packets",
  [StatisticsOption.drops]: "drops",
  [StatisticsOption.accepted]: "accepted",
  [StatisticsOption.systemDrops]: "systemDrops",
  [StatisticsOption.delivered]: "delivered",
};

/** Reads pcapng. */
export class PcapngParser implements CaptureParser {
  readonly #tables: CaptureTables;
  readonly #limitBytes: number;
  #isLittle = true;
  /** The interfaces of this section. */
  #interfaces: Scaled[] = [];
  #keptBytes = 0;
  /** Of a block that is passed over: where it begins in the file, its length, how much is left. */
  #skippedOffset = 0;
  #skippedLength = 0;
  #skipBytes = 0;
  // The option that was found last.
  #code = 0;
  #at = 0;
  #length = 0;

  constructor(tables: CaptureTables, limitBytes: number) {
    this.#tables = tables;
    this.#limitBytes = limitBytes;
  }

  step(input: CaptureInput, frame: CapturedFrame, stopsEarly: boolean): Step {
    for (;;) {
      if (stopsEarly && this.#tables.interfaces.length > 0) return END;
      if (this.#skippedLength > 0) {
        if (!this.#skip(input)) return MORE;
        continue;
      }
      if (!input.has(TYPE_AND_LENGTH)) return this.#atEnd(input);
      const type = input.view.getUint32(input.start, this.#isLittle);
      if (type === Block.section && !this.#readByteOrder(input)) return this.#atEnd(input);
      const length = this.#lengthOf(input, type);
      if (BYTES_MIN[type] === undefined) {
        this.#skippedOffset = input.base + input.start;
        this.#skippedLength = length;
        this.#skipBytes = length - LENGTH_BYTES;
        continue;
      }
      if (!input.has(length)) return this.#atEnd(input);
      this.#checkEnd(input, input.start + length - LENGTH_BYTES, length);
      const isPacket = this.#read(input, frame, type, length);
      input.take(length);
      if (isPacket) return PACKET;
    }
  }

  #atEnd(input: CaptureInput): Step {
    if (!input.ended) return MORE;
    if (input.start === input.end) return END;
    throw input.damaged(input.start, "the file ends within a block");
  }

  #readByteOrder(input: CaptureInput): boolean {
    if (!input.has(SECTION_START)) return false;
    const { view } = input;
    const at = input.start + TYPE_AND_LENGTH;
    this.#isLittle = view.getUint32(at, true) === BYTE_ORDER_MAGIC;
    const magic = view.getUint32(at, false);
    if (this.#isLittle || magic === BYTE_ORDER_MAGIC) return true;
    throw input.damaged(at, `0x${magic.toString(16)} is no byte order of a section`);
  }

  #lengthOf(input: CaptureInput, type: number): number {
    const at = input.start + LENGTH_BYTES;
    const length = input.view.getUint32(at, this.#isLittle);
    const least = BYTES_MIN[type];
    const isRead = least !== undefined;
    let expected = "";
    if (length < (least ?? BLOCK_BYTES)) expected = `${least ?? BLOCK_BYTES} or more`;
    else if (length % 4 !== 0) expected = "a multiple of 4";
    else if (isRead && length > this.#limitBytes)
      expected = `at most ${this.#limitBytes}, as limitBytes says`;
    if (expected === "") return length;
    const name = NAMES_OF_TYPES[type] ?? `a block of type 0x${type.toString(16)}`;
    throw input.damaged(at, `${name} has ${length} bytes: expected ${expected}`);
  }

  #checkEnd(input: CaptureInput, at: number, length: number): void {
    const behind = input.view.getUint32(at, this.#isLittle);
    if (behind !== length)
      throw input.damaged(at, `a block begins with a length of ${length} and ends with ${behind}`);
  }

  // Whether it is over; else more of it has to come.
  #skip(input: CaptureInput): boolean {
    const count = Math.min(this.#skipBytes, input.end - input.start);
    this.#skipBytes -= count;
    input.take(count);
    if (this.#skipBytes > 0 || !input.has(LENGTH_BYTES)) {
      if (input.ended)
        throw input.damaged(this.#skippedOffset - input.base, "the file ends within a block");
      input.has(LENGTH_BYTES);
      return false;
    }
    this.#checkEnd(input, input.start, this.#skippedLength);
    this.#skippedLength = 0;
    input.take(LENGTH_BYTES);
    return true;
  }

  // Reads the block that the window begins with. Returns whether it is a packet.
  #read(input: CaptureInput, frame: CapturedFrame, type: number, length: number): boolean {
    const end = input.start + length - LENGTH_BYTES;
    switch (type) {
      case Block.enhancedPacket:
        this.#readPacket(input, frame, end, false);
        return true;
      case Block.obsoletePacket:
        this.#readPacket(input, frame, end, true);
        return true;
      case Block.simplePacket:
        this.#readSimplePacket(input, frame, end);
        return true;
      case Block.statistics:
        this.#readStatistics(input, end);
        return false;
    }
    this.#keptBytes += length;
    if (this.#keptBytes > KEPT_BYTES_MAX) {
      const limit = `interfaces, sections and names of ${KEPT_BYTES_MAX} bytes`;
      throw input.damaged(input.start, `the file has more than ${limit}`);
    }
    if (type === Block.section) this.#readSection(input, end);
    else if (type === Block.interface) this.#readInterface(input, end);
    else this.#readNames(input, end);
    return false;
  }

  #readPacket(input: CaptureInput, frame: CapturedFrame, end: number, isObsolete: boolean): void {
    const { view, start } = input;
    const isLittle = this.#isLittle;
    const number = isObsolete
      ? view.getUint16(start + PacketField.interface, isLittle)
      : view.getUint32(start + PacketField.interface, isLittle);
    const described = this.#interfaceOf(input, start + PacketField.interface, number);
    const length = view.getUint32(start + PacketField.length, isLittle);
    if (length > end - start - ENHANCED_DATA)
      throw input.damaged(start + PacketField.length, doesNotFit(length));
    const { time } = described;
    time.read(
      view.getUint32(start + PacketField.timeHigh, isLittle),
      view.getUint32(start + PacketField.timeLow, isLittle),
    );
    frame.recordOffset = input.base + start;
    frame.offset = start + ENHANCED_DATA;
    frame.length = length;
    frame.originalLength = view.getUint32(start + PacketField.originalLength, isLittle);
    frame.seconds = time.seconds;
    frame.nanoseconds = time.nanoseconds;
    frame.hasTime = true;
    frame.interface = described.index;
    frame.comment = undefined;
    frame.flags = undefined;
    const drops = isObsolete ? view.getUint16(start + PacketField.drops, isLittle) : DROPS_UNKNOWN;
    frame.dropCount = drops === DROPS_UNKNOWN ? undefined : drops;
    const at = start + ENHANCED_DATA + padded(length);
    if (at < end) this.#readPacketOptions(input, frame, at, end);
  }

  #readPacketOptions(input: CaptureInput, frame: CapturedFrame, from: number, end: number): void {
    for (let at = this.#option(input, from, end); at > 0; at = this.#option(input, at, end)) {
      if (this.#code === COMMENT) frame.comment = joined(frame.comment, this.#text(input));
      else if (this.#code === PacketOption.flags)
        frame.flags = input.view.getUint32(this.#value(input, 4), this.#isLittle);
      else if (this.#code === PacketOption.dropCount) frame.dropCount = this.#count(input);
    }
  }

  #readSimplePacket(input: CaptureInput, frame: CapturedFrame, end: number): void {
    const { view, start } = input;
    const { index, snapBytes } = this.#interfaceOf(input, start, 0);
    const originalLength = view.getUint32(start + TYPE_AND_LENGTH, this.#isLittle);
    const length = snapBytes > 0 ? Math.min(originalLength, snapBytes) : originalLength;
    if (length > end - start - SIMPLE_DATA)
      throw input.damaged(start + TYPE_AND_LENGTH, doesNotFit(length));
    frame.recordOffset = input.base + start;
    frame.offset = start + SIMPLE_DATA;
    frame.length = length;
    frame.originalLength = originalLength;
    frame.seconds = 0;
    frame.nanoseconds = 0;
    frame.hasTime = false;
    frame.interface = index;
    frame.comment = undefined;
    frame.flags = undefined;
    frame.dropCount = undefined;
  }

  #interfaceOf(input: CaptureInput, at: number, number: number): Scaled {
    const described = this.#interfaces[number];
    if (described !== undefined) return described;
    throw input.damaged(at, `interface ${number} of the section is not described before`);
  }

  #readSection(input: CaptureInput, end: number): void {
    const { view, start, base } = input;
    const major = view.getUint16(start + SECTION_START, this.#isLittle);
    const minor = view.getUint16(start + SECTION_START + 2, this.#isLittle);
    if (major !== VERSION_MAJOR || !MINORS.includes(minor)) {
      const version = `version ${major}.${minor} of pcapng is not known`;
      throw input.damaged(start + SECTION_START, version);
    }
    const texts = new Map<number, string>();
    const from = start + SECTION_BYTES - LENGTH_BYTES;
    for (let at = this.#option(input, from, end); at > 0; at = this.#option(input, at, end))
      this.#readText(input, texts);
    this.#interfaces = [];
    this.#tables.addSection({
      offset: base + start,
      byteOrder: this.#isLittle ? "little" : "big",
      hardware: texts.get(SectionOption.hardware),
      os: texts.get(SectionOption.os),
      application: texts.get(SectionOption.application),
      comment: texts.get(COMMENT),
    });
  }

  // Options of other kinds of values are not looked up.
  #readText(input: CaptureInput, texts: Map<number, string>): void {
    const text = this.#text(input);
    texts.set(this.#code, this.#code === COMMENT ? joined(texts.get(COMMENT), text) : text);
  }

  #readInterface(input: CaptureInput, end: number): void {
    const { view, start } = input;
    const isLittle = this.#isLittle;
    const texts = new Map<number, string>();
    let code = RESOLUTION_US;
    let offset = 0n;
    let speed: number | undefined;
    let checksumBytes: number | undefined;
    const from = start + INTERFACE_BYTES - LENGTH_BYTES;
    for (let at = this.#option(input, from, end); at > 0; at = this.#option(input, at, end)) {
      switch (this.#code) {
        case InterfaceOption.resolution:
          code = view.getUint8(this.#value(input, 1));
          break;
        case InterfaceOption.timeOffset:
          offset = view.getBigInt64(this.#value(input, 8), isLittle);
          break;
        case InterfaceOption.checksumBytes:
          checksumBytes = view.getUint8(this.#value(input, 1));
          break;
        case InterfaceOption.speed:
          speed = this.#count(input);
          break;
        case InterfaceOption.filter:
          if (this.#length > 0 && view.getUint8(this.#at) === FILTER_TEXT)
            texts.set(this.#code, textOf(input, this.#at + 1, this.#length - 1));
          break;
        default:
          this.#readText(input, texts);
      }
    }
    const time = new TimeScale(code, offset);
    const snapBytes = view.getUint32(start + InterfaceField.snapBytes, isLittle);
    const index = this.#tables.addInterface({
      linkType: view.getUint16(start + InterfaceField.linkType, isLittle),
      snapBytes,
      resolution: time.resolution,
      timeOffset: time.offset,
      checksumBytes,
      speed,
      name: texts.get(InterfaceOption.name),
      description: texts.get(InterfaceOption.description),
      filter: texts.get(InterfaceOption.filter),
      os: texts.get(InterfaceOption.os),
      hardware: texts.get(InterfaceOption.hardware),
      comment: texts.get(COMMENT),
    });
    this.#interfaces.push({ index, snapBytes, time });
  }

  #readStatistics(input: CaptureInput, end: number): void {
    const { view, start } = input;
    const number = view.getUint32(start + PacketField.interface, this.#isLittle);
    const { index, time } = this.#interfaceOf(input, start + PacketField.interface, number);
    const counted: { -readonly [Name in keyof CaptureStatistics]: CaptureStatistics[Name] } = {
      time: this.#time(input, start + PacketField.timeHigh, time),
    };
    const from = start + STATISTICS_BYTES - LENGTH_BYTES;
    for (let at = this.#option(input, from, end); at > 0; at = this.#option(input, at, end)) {
      if (this.#code === COMMENT) counted.comment = joined(counted.comment, this.#text(input));
      else if (this.#code === StatisticsOption.start)
        counted.start = this.#time(input, this.#value(input, 8), time);
      else if (this.#code === StatisticsOption.end)
        counted.end = this.#time(input, this.#value(input, 8), time);
      else {
        const name = COUNTS[this.#code];
        if (name !== undefined) counted[name] = this.#count(input);
      }
    }
    this.#tables.setStatistics(index, counted);
  }

  #time({ view }: CaptureInput, at: number, time: TimeScale): CaptureTime {
    time.read(view.getUint32(at, this.#isLittle), view.getUint32(at + 4, this.#isLittle));
    return { seconds: time.seconds, nanoseconds: time.nanoseconds };
  }

  #readNames(input: CaptureInput, end: number): void {
    const { view } = input;
    let at = input.start + NAMES_BYTES - LENGTH_BYTES;
    while (at + OPTION_BYTES <= end) {
      const kind = view.getUint16(at, this.#isLittle);
      const length = view.getUint16(at + 2, this.#isLittle);
      if (kind === NameRecord.end) return;
      const from = at + OPTION_BYTES;
      if (from + padded(length) > end)
        throw input.damaged(at + 2, `a name record of ${length} bytes does not fit its block`);
      this.#readName(input, kind, from, length);
      at = from + padded(length);
    }
  }

  #readName(input: CaptureInput, kind: number, at: number, length: number): void {
    const bytes = kind === NameRecord.ipv4 ? 4 : 16;
    if (kind !== NameRecord.ipv4 && kind !== NameRecord.ipv6) return;
    if (length < bytes)
      throw input.damaged(at - 2, `a name record of ${length} bytes: expected ${bytes} or more`);
    const format = kind === NameRecord.ipv4 ? formatInet4 : formatInet6;
    const address = format(input.bytes, at);
    for (const name of bufferOf(input, at + bytes, length - bytes)
      .toString()
      .split("\0"))
      if (name !== "") this.#tables.addName(address, name);
  }

  // Finds the next option, and returns where the one behind it begins: -1 when there is none.
  #option(input: CaptureInput, at: number, end: number): number {
    if (at + OPTION_BYTES > end) return -1;
    this.#code = input.view.getUint16(at, this.#isLittle);
    this.#length = input.view.getUint16(at + 2, this.#isLittle);
    this.#at = at + OPTION_BYTES;
    if (this.#code === END_OF_OPTIONS) return -1;
    const next = this.#at + padded(this.#length);
    if (next <= end) return next;
    throw input.damaged(at + 2, `an option of ${this.#length} bytes does not fit its block`);
  }

  // Where the value of the option is, which must be so long.
  #value(input: CaptureInput, length: number): number {
    if (this.#length === length) return this.#at;
    const told = `option ${this.#code} has ${this.#length} bytes`;
    throw input.damaged(this.#at - 2, `${told}: expected ${length}`);
  }

  #count(input: CaptureInput): number {
    return Number(input.view.getBigUint64(this.#value(input, 8), this.#isLittle));
  }

  #text(input: CaptureInput): string {
    return textOf(input, this.#at, this.#length);
  }
}

// Some programs end their texts with a NUL.
function textOf(input: CaptureInput, at: number, length: number): string {
  return bufferOf(input, at, length).toString().replace(/\0+$/, "");
}

function bufferOf({ bytes }: CaptureInput, at: number, length: number): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, length);
}

function joined(before: string | undefined, text: string): string {
  return before === undefined ? text : `${before}\n${text}`;
}

function doesNotFit(length: number): string {
  return `${length} captured bytes do not fit their block`;
}
