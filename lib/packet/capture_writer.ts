import { ETH_P_8021Q } from "../../structs/constants/linux_if_ether.ts";
import { IF_NAMESIZE } from "../../structs/constants/net_if.ts";
import { addressOf, bufferOf, byteLengthOf, bytesOf } from "../ffi/memory.ts";
import {
  describe,
  requireInteger,
  requireObject,
  requireOptions,
  requireView,
} from "../internal/arguments.ts";
import { if_indextoname } from "../sys/net_if.ts";
import type {
  CaptureInterfaceOptions,
  CaptureStatistics,
  CaptureTime,
} from "./capture_interface.ts";
import { type CaptureFormat, closedError } from "./capture_reader.ts";
import { CaptureOutput } from "./internal/capture_output.ts";
import {
  type CaptureResolution,
  type FrameEncoder,
  PcapEncoder,
  PcapngEncoder,
} from "./internal/frame_encoder.ts";
import {
  MAGIC_NS,
  MAGIC_US,
  VERSION_MAJOR as PCAP_MAJOR,
  VERSION_MINOR as PCAP_MINOR,
} from "./internal/pcap.ts";
import {
  type BlockOption,
  numberBytes,
  optionsBytes,
  putBlock,
  textBytes,
} from "./internal/pcapng_blocks.ts";
import {
  Block,
  BYTE_ORDER_MAGIC,
  COMMENT,
  InterfaceOption,
  PacketOption,
  SectionOption,
  StatisticsOption,
  VERSION_MAJOR,
  VERSION_MINOR,
} from "./internal/pcapng_format.ts";
import { RESOLUTION_NS, RESOLUTION_US, TimeWords } from "./internal/pcapng_time.ts";
import { LinkType, type LinkTypeName, linkTypeNumber } from "./link_type.ts";
import type { Packet } from "./packet.ts";

export type { CaptureResolution } from "./internal/frame_encoder.ts";

/** A packet as a capture file takes it. */
export interface CapturePacket extends Packet {
  /** The flags of an enhanced packet block, 32 bits: `CapturedPacket.flags`. Of pcapng only. */
  readonly flags?: number | undefined;
  /** How many packets were lost between it and the one before on its interface. Of pcapng only. */
  readonly dropCount?: number | undefined;
}

/**
 * Frames in memory, shown one after the other: a `PacketBlock` is one.
 */
export interface FrameCursor {
  /** The memory that `offset` counts in. */
  readonly bytes: Uint8Array;
  /** Goes on to the next frame; false when there is none. */
  next(): boolean;
  readonly offset: number;
  readonly length: number;
  readonly originalLength: number;
  readonly seconds: number;
  readonly nanoseconds: number;
  /** The VLAN tag that was taken out of it, -1 where there was none. */
  readonly vlan: number;
  readonly vlanProtocol: number;
  /** The index of its interface in the system. */
  readonly interfaceIndex: number;
}

/** What is written of a file before its packets. */
export interface CaptureWriterOptions {
  /** Default: by the end of the path: "pcap" of `.pcap`, `.cap` and `.dmp`, else "pcapng". */
  readonly format?: CaptureFormat | undefined;
  /** What frames begin with, where their interface says nothing else. Default "ethernet". */
  readonly linkType?: LinkTypeName | number | undefined;
  /**
   * As much of each frame is written at most, in bytes; 1 to 16 MiB, default 262144, the most that
   * other programs take.
   */
  readonly snapBytes?: number | undefined;
  /** Default: that of this machine. */
  readonly byteOrder?: "little" | "big" | undefined;
  /** Nanoseconds (default) or microseconds, of which times are cut to. */
  readonly resolution?: CaptureResolution | undefined;
  /**
   * What becomes of a VLAN tag that is told beside the frame: it is put back into it where the link
   * type is Ethernet or Linux cooked (default), or dropped.
   */
  readonly vlan?: "reinsert" | "drop" | undefined;
  /** The interfaces: rings, packet sockets, or descriptions. pcap keeps of one its link type only. */
  readonly interfaces?: readonly CaptureInterfaceOptions[] | undefined;
  /** The machine that has captured. Of pcapng only, as what follows. */
  readonly hardware?: string | undefined;
  /** Its system. */
  readonly os?: string | undefined;
  /** The program that writes. */
  readonly application?: string | undefined;
  /** A remark. */
  readonly comment?: string | undefined;
}

const SNAP_BYTES = 262_144;
const SNAP_BYTES_MAX = 16 << 20;
const UINT_MAX = 2 ** 32 - 1;
const U16_MAX = 0xffff;
const NANOSECONDS_MAX = 999_999_999;
const TAG_BYTES = 4;
/** Where the tag belongs: in front of the protocol. */
const TAG_OFFSETS = new Map<number, number>([
  [LinkType.ethernet, 12],
  [LinkType.linux_sll, 14],
]);
/** Room for the description of an interface that shows up in a block. */
const INTERFACE_BYTES = 256;
const NO_OPTIONS: readonly BlockOption[] = [];

// Set by the class below, for what opens files. The package does not export it.

/** Says which file a writer writes to, and whether it closes it. */
export let attach: (writer: CaptureWriter, fd: number, isOwn: boolean) => void;

/** Closes what a writer could not begin. */
export let abandon: (writer: CaptureWriter) => void;

/** An interface of the file. */
interface Described {
  readonly linkType: number;
  readonly snapBytes: number;
  /** Where a VLAN tag goes in its frames; Infinity: nowhere. */
  readonly tagOffset: number;
}

/** The options of a writer, checked. */
export interface WriterSettings {
  readonly format: CaptureFormat;
  readonly linkType: number;
  readonly snapBytes: number;
  readonly isLittle: boolean;
  readonly resolution: CaptureResolution;
  readonly reinserts: boolean;
  readonly interfaces: readonly CaptureInterfaceOptions[];
  /** Of the section header. */
  readonly options: readonly BlockOption[];
}

/**
 * Writes a capture file: pcapng or pcap. `CaptureFile.create` and `CaptureFile.append` make it.
 *
 * `write` takes any packet, as a ring, a packet socket's caller, or a reader has it, and `writeBlock` all
 * frames of a ring's block at once, without an object for a frame. Both copy what they are given: the
 * memory is the caller's again. What was written is handed to the kernel by the MiB, by `flush`, and by
 * `close`: until then it is lost when the process ends.
 *
 * Interfaces: `Packet.interface` is the index in the system, of a frame of a ring. The file numbers its
 * interfaces itself: an index that it does not know yet makes a new one. pcap knows neither interfaces nor
 * comments, and drops them. Wireshark reads every pcapng file; libpcap, and so tcpdump, only those whose
 * interfaces have all the same link type and `snapBytes`, and of link type `raw` only one.
 *
 * Errors of the kernel, as `ENOSPC`, are thrown by the call that has met them, before it takes what it was
 * given: nothing is lost, and the same call, or `flush`, goes on where it was as soon as there is room.
 * The file is whole only then.
 *
 * The calls block the thread for as long as the kernel takes the bytes: files at once, a pipe when
 * somebody has read.
 *
 * Lifetime: until `close` or `using`. It owns the descriptor of what it has opened by a path; a
 * descriptor that was given stays open.
 *
 * @see {@link https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html | PCAP Next Generation}
 *
 * @example
 * ```ts
 * import { CaptureFile } from "bun-sockets/packet";
 *
 * using file = CaptureFile.create("/tmp/capture_writer_example.pcapng", {
 *   application: "example",
 *   interfaces: [{ name: "eth0", filter: "udp port 53" }],
 * });
 * file.write({ bytes: new Uint8Array(60), seconds: 1_700_000_000, nanoseconds: 123_456_789 });
 * file.write({ bytes: new Uint8Array(60), originalLength: 1500, comment: "cut off" });
 * file.writeStatistics({ packets: 2, drops: 0 });
 * console.log(file.packetCount, file.format); // 2 pcapng
 * ```
 */
export class CaptureWriter implements Disposable {
  /** The format. */
  readonly format: CaptureFormat;
  readonly #output: CaptureOutput;
  readonly #settings: WriterSettings;
  readonly #encoder: FrameEncoder;
  readonly #interfaces: Described[] = [];
  /** The numbers of interfaces by what packets call them. */
  readonly #numbers = new Map<number, number>();
  /** The header of an appended section is written only if something follows. */
  #hasNews: boolean;
  #packetCount = 0;
  /** Where the frames of blocks are, and its address. */
  #memory: Uint8Array | undefined;
  #address = 0;

  /** Not for callers: see `CaptureFile`. */
  constructor(settings: WriterSettings, path: string | undefined, isNew: boolean) {
    const { format, resolution } = settings;
    this.format = format;
    this.#settings = settings;
    this.#encoder = format === "pcap" ? new PcapEncoder(resolution) : new PcapngEncoder(resolution);
    const recordBytes = this.#encoder.bytes + settings.snapBytes + TAG_BYTES + INTERFACE_BYTES;
    this.#output = new CaptureOutput(path, settings.isLittle, recordBytes);
    this.#hasNews = isNew;
    this.#begin(isNew);
  }

  static {
    attach = (writer, fd, isOwn) => writer.#output.attach(fd, isOwn);
    abandon = (writer) => writer.#output.close();
  }

  /** The path of the file, where it was opened by one. */
  get path(): string | undefined {
    return this.#output.path;
  }

  /** How many packets were written. */
  get packetCount(): number {
    return this.#packetCount;
  }

  /** How many bytes were written, by this writer, with what is still to be handed to the kernel. */
  get byteLength(): number {
    return this.#output.length;
  }

  /** Whether it is closed. */
  get closed(): boolean {
    return this.#output.isClosed;
  }

  /**
   * Adds an interface.
   *
   * @returns what `Packet.interface` calls it: its index in the system, or where it has none, its
   * number in the file, or the next one that is free. pcap has one interface only: 0
   * @throws {RangeError} a value is out of range, or there is one of that index already
   * @throws {TypeError} a value of the wrong type; in pcap another link type
   * @throws {SystemError} the file cannot be written
   * @throws {ClosedError} it is closed
   */
  addInterface(options: CaptureInterfaceOptions): number {
    this.#requireOpen();
    const key = this.#addInterface(requireOptions(options), true);
    this.#hasNews = true;
    return key;
  }

  /**
   * Writes one packet. Its bytes are copied at once.
   *
   * @throws {RangeError} a value is out of range; the packet is not written
   * @throws {TypeError} a value of the wrong type; neither
   * @throws {SystemError} the kernel does not take what came before (`ENOSPC`, `EPIPE` …): the packet is
   * not written, and can be written again
   * @throws {ClosedError} the file is closed
   */
  write(packet: CapturePacket): void {
    if (!(packet instanceof Object))
      throw new TypeError(`Cannot use ${describe(packet)} as a packet: expected an object`);
    const { bytes: memory, seconds = 0, nanoseconds = 0, vlan, interface: key } = packet;
    const { vlanProtocol = ETH_P_8021Q } = packet;
    requireView(memory, "the bytes of a packet");
    const bytes = bytesOf(memory);
    const { length } = bytes;
    const { originalLength = length } = packet;
    requireInteger(originalLength, length, UINT_MAX - TAG_BYTES, "originalLength");
    requireInteger(seconds, 0, this.#encoder.secondsMax, "seconds");
    requireInteger(nanoseconds, 0, NANOSECONDS_MAX, "nanoseconds");
    if (key !== undefined) requireInteger(key, 0, UINT_MAX, "interface");
    if (vlan !== undefined) {
      requireInteger(vlan, 0, U16_MAX, "vlan");
      requireInteger(vlanProtocol, 0, U16_MAX, "vlanProtocol");
    }
    const options = this.#optionsOf(packet);
    this.#requireOpen();
    const output = this.#output;
    const number = this.#numberOf(key, false);
    const { snapBytes, tagOffset } = this.#interfaces[number] as Described;
    const isTagged = vlan !== undefined && length >= tagOffset;
    const captured = Math.min(isTagged ? length + TAG_BYTES : length, snapBytes);
    output.reserve(this.#encoder.bytes + captured + TAG_BYTES + optionsBytes(options));
    const original = isTagged ? originalLength + TAG_BYTES : originalLength;
    this.#encoder.begin(output, number, captured, original, seconds, nanoseconds);
    if (isTagged) {
      output.put(bytes.subarray(0, Math.min(tagOffset, captured)));
      this.#putTag(vlan, vlanProtocol, captured - tagOffset);
      if (captured > tagOffset + TAG_BYTES)
        output.put(bytes.subarray(tagOffset, captured - TAG_BYTES));
    } else {
      output.put(captured < length ? bytes.subarray(0, captured) : bytes);
    }
    this.#encoder.end(output, captured, options);
    this.#wrote();
  }

  /**
   * Writes the frames of a block, from its cursor on: all of a block that was just received. Allocates
   * nothing for a frame.
   *
   * An error leaves the cursor in front of the first frame that was not written: the same call goes on
   * there.
   *
   * @returns how many frames were written
   * @throws {SystemError} the kernel does not take what came before (`ENOSPC`, `EPIPE` …)
   * @throws {RangeError} the cursor shows a frame outside of its memory
   * @throws {ClosedError} the file is closed
   */
  writeBlock(block: FrameCursor): number {
    this.#requireCursor(block);
    const before = this.#packetCount;
    const output = this.#output;
    for (;;) {
      this.#requireOpen();
      output.prepare();
      if (!block.next()) return this.#packetCount - before;
      this.#writeFrame(block);
    }
  }

  /**
   * Writes the frame that a block shows, as `writeBlock` does: for those that want some only.
   *
   * @throws {SystemError} the kernel does not take what came before: the frame is not written
   * @throws {RangeError} it shows none, or one outside of its memory
   * @throws {ClosedError} the file is closed
   */
  writeFrame(block: FrameCursor): void {
    this.#requireCursor(block);
    if (block.offset === 0 && block.length === 0)
      throw new RangeError(
        "Cannot write the frame of a block that shows none: expected next() before",
      );
    this.#requireOpen();
    this.#output.prepare();
    this.#writeFrame(block);
  }

  /**
   * Writes what was counted at an interface, to stand behind its packets: what `statistics()` of a ring
   * or a packet socket gives can be written as it is.
   *
   * @param key the interface, as `Packet.interface` says it; default the first
   * @returns false where the format has no room for it: pcap
   * @throws {RangeError} a value is out of range, or there is no such interface
   * @throws {SystemError} the file cannot be written
   * @throws {ClosedError} it is closed
   */
  writeStatistics(statistics: CaptureStatistics, key?: number): boolean {
    const { time = now() } = requireObject(statistics);
    this.#requireOpen();
    if (this.format === "pcap") return false;
    const number = key === undefined ? this.#numberOf(undefined, false) : this.#numbers.get(key);
    if (number === undefined)
      throw new RangeError(
        `Cannot use ${key} as an interface: the file has none that is called so`,
      );
    const { high, low } = this.#wordsOf(time, "time");
    const options = this.#statisticsOptions(statistics);
    putBlock(
      this.#output,
      Block.statistics,
      [
        ["u32", number],
        ["u32", high],
        ["u32", low],
      ],
      options,
    );
    this.#hasNews = true;
    return true;
  }

  /**
   * Hands everything to the kernel. It does not wait for a disk: see fsync(2).
   *
   * @throws {SystemError} it does not take it: `ENOSPC`, `EPIPE` … The next call goes on where it was
   * @throws {ClosedError} the file is closed
   */
  flush(): void {
    this.#requireOpen();
    if (this.#hasNews) this.#output.drain();
  }

  /**
   * Flushes, and closes its own descriptor. Does nothing the second time.
   *
   * @throws {SystemError} what was left could not be written, and is lost: who wants to keep it calls
   * `flush` before
   */
  close(): void {
    const output = this.#output;
    if (output.isClosed) return;
    try {
      if (!this.#hasNews) return;
      // Others refuse a file without an interface.
      this.#numberOf(undefined, false);
      output.drain();
    } finally {
      output.close();
    }
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  #begin(isNew: boolean): void {
    const { format, linkType, snapBytes, options, interfaces } = this.#settings;
    if (format === "pcap") {
      for (const each of interfaces) this.#addInterface(requireOptions(each), true);
      if (this.#interfaces.length === 0) this.#describe(linkType, snapBytes);
      if (isNew) this.#putPcapHeader();
    } else {
      const fixed = [
        ["u32", BYTE_ORDER_MAGIC],
        ["u16", VERSION_MAJOR],
        ["u16", VERSION_MINOR],
        // The length of the section: not known.
        ["u32", UINT_MAX],
        ["u32", UINT_MAX],
      ] as const;
      putBlock(this.#output, Block.section, fixed, options);
      for (const each of interfaces) this.#addInterface(requireOptions(each), true);
    }
  }

  #putPcapHeader(): void {
    const output = this.#output;
    const { linkType, snapBytes } = this.#interfaces[0] as Described;
    output.u32(this.#settings.resolution === "ns" ? MAGIC_NS : MAGIC_US);
    output.u16(PCAP_MAJOR);
    output.u16(PCAP_MINOR);
    // Zone and accuracy, which nobody writes.
    output.u32(0);
    output.u32(0);
    output.u32(snapBytes);
    output.u32(linkType);
  }

  // Returns what packets call it.
  #addInterface(options: CaptureInterfaceOptions, asksName: boolean, called?: number): number {
    const { interfaceIndex = 0, linkType: link, snapBytes = this.#settings.snapBytes } = options;
    requireInteger(interfaceIndex, 0, UINT_MAX, "interfaceIndex");
    requireInteger(snapBytes, 1, SNAP_BYTES_MAX, "snapBytes");
    if (snapBytes > this.#settings.snapBytes)
      requireInteger(snapBytes, 1, this.#settings.snapBytes, "snapBytes of an interface");
    const linkType = link === undefined ? this.#settings.linkType : linkTypeNumber(link);
    if (this.format === "pcap") return this.#onlyInterface(linkType, snapBytes);
    const key = called ?? (interfaceIndex || this.#freeKey());
    if (this.#numbers.has(key))
      throw new RangeError(`Cannot use ${key} as interfaceIndex: the file has such an interface`);
    putBlock(
      this.#output,
      Block.interface,
      [
        ["u16", linkType],
        ["u16", 0],
        ["u32", snapBytes],
      ],
      this.#interfaceOptions(options, asksName ? interfaceIndex : 0),
    );
    this.#numbers.set(key, this.#interfaces.length);
    this.#describe(linkType, snapBytes);
    return key;
  }

  #freeKey(): number {
    let key = this.#interfaces.length;
    while (this.#numbers.has(key)) key++;
    return key;
  }

  #onlyInterface(linkType: number, snapBytes: number): number {
    const only = this.#interfaces[0];
    if (only === undefined) this.#describe(linkType, snapBytes);
    else if (only.linkType !== linkType)
      throw new TypeError(
        `Cannot add frames of link type ${linkType} to a pcap file of ${only.linkType}: expected pcapng`,
      );
    return 0;
  }

  #describe(linkType: number, snapBytes: number): void {
    const tagOffset = this.#settings.reinserts ? TAG_OFFSETS.get(linkType) : undefined;
    this.#interfaces.push({
      linkType,
      snapBytes,
      tagOffset: tagOffset ?? Number.POSITIVE_INFINITY,
    });
  }

  // Asks the system for the name of an interface that has an index, and no name.
  #interfaceOptions(options: CaptureInterfaceOptions, index: number): BlockOption[] {
    const { name = index > 0 ? nameOf(index) : undefined, filter, speed } = options;
    const { resolution } = this.#settings;
    const list = textOptions(options, INTERFACE_TEXTS);
    if (name !== undefined)
      list.push({ code: InterfaceOption.name, value: textBytes(name, "name") });
    if (filter !== undefined) {
      const text = textBytes(filter, "filter");
      // One byte in front says that it is text.
      const value = new Uint8Array(Buffer.concat([new Uint8Array(1), text]));
      requireInteger(value.length, 1, U16_MAX, "the length of a filter");
      list.push({ code: InterfaceOption.filter, value });
    }
    if (speed !== undefined) {
      requireInteger(speed, 0, Number.MAX_SAFE_INTEGER, "speed");
      list.push({ code: InterfaceOption.speed, value: this.#number(speed, 8) });
    }
    const code = resolution === "ns" ? RESOLUTION_NS : RESOLUTION_US;
    list.push({ code: InterfaceOption.resolution, value: new Uint8Array([code]) });
    return list;
  }

  #optionsOf({ comment, flags, dropCount }: CapturePacket): readonly BlockOption[] {
    if (comment === undefined && flags === undefined && dropCount === undefined) return NO_OPTIONS;
    const list: BlockOption[] = [];
    if (comment !== undefined) list.push({ code: COMMENT, value: textBytes(comment, "a comment") });
    if (flags !== undefined) {
      requireInteger(flags, 0, UINT_MAX, "flags");
      list.push({ code: PacketOption.flags, value: this.#number(flags, 4) });
    }
    if (dropCount !== undefined) {
      requireInteger(dropCount, 0, Number.MAX_SAFE_INTEGER, "dropCount");
      list.push({ code: PacketOption.dropCount, value: this.#number(dropCount, 8) });
    }
    return this.format === "pcap" ? NO_OPTIONS : list;
  }

  #statisticsOptions(statistics: CaptureStatistics): BlockOption[] {
    const list: BlockOption[] = [];
    const { comment } = statistics;
    if (comment !== undefined) list.push({ code: COMMENT, value: textBytes(comment, "a comment") });
    for (const name of ["start", "end"] as const) {
      const time = statistics[name];
      if (time === undefined) continue;
      const { high, low } = this.#wordsOf(time, name);
      const value = new Uint8Array(8);
      value.set(this.#number(high, 4));
      value.set(this.#number(low, 4), 4);
      list.push({ code: StatisticsOption[name], value });
    }
    for (const name of COUNTS) {
      const count = statistics[name];
      if (count === undefined) continue;
      requireInteger(count, 0, Number.MAX_SAFE_INTEGER, name);
      list.push({ code: StatisticsOption[name], value: this.#number(count, 8) });
    }
    return list;
  }

  #wordsOf(time: CaptureTime, name: string): TimeWords {
    const { seconds, nanoseconds = 0 } = requireObject(time);
    requireInteger(seconds, 0, this.#encoder.secondsMax, `the seconds of ${name}`);
    requireInteger(nanoseconds, 0, NANOSECONDS_MAX, `the nanoseconds of ${name}`);
    const words = new TimeWords(this.#settings.resolution === "ns" ? RESOLUTION_NS : RESOLUTION_US);
    words.set(seconds, nanoseconds);
    return words;
  }

  #number(value: number, bytes: 4 | 8): Uint8Array {
    return numberBytes(value, bytes, this.#output.isLittle);
  }

  // The number of the interface of a packet: a new one where it is not known yet.
  #numberOf(key: number | undefined, isSystems: boolean): number {
    if (this.format === "pcap") return 0;
    if (key === undefined) {
      if (this.#interfaces.length === 0) this.#addInterface({}, false);
      return 0;
    }
    const number = this.#numbers.get(key);
    if (number !== undefined) return number;
    this.#addInterface({ interfaceIndex: key }, isSystems, key);
    return this.#interfaces.length - 1;
  }

  #writeFrame(block: FrameCursor): void {
    const { bytes, offset, length, originalLength, seconds, nanoseconds, vlan } = block;
    const isFrame =
      Number.isInteger(offset) &&
      Number.isInteger(length) &&
      Number.isInteger(originalLength) &&
      Number.isInteger(seconds) &&
      Number.isInteger(nanoseconds) &&
      Number.isInteger(vlan);
    if (!isFrame) refuseFrame({ offset, length, originalLength, seconds, nanoseconds, vlan });
    const number = this.#numberOf(block.interfaceIndex, true);
    const { snapBytes, tagOffset } = this.#interfaces[number] as Described;
    const output = this.#output;
    // Read last: from here on nobody else is asked who could take the memory away.
    const vlanProtocol = vlan < 0 ? 0 : block.vlanProtocol;
    if (!Number.isInteger(vlanProtocol)) refuseFrame({ vlanProtocol });
    const isTagged = vlan >= 0 && length >= tagOffset;
    if (!(offset >= 0 && length >= 0 && offset + length <= byteLengthOf(bytes)))
      throw new RangeError(`Cannot write ${length} bytes at ${offset}: the memory ends before`);
    if (bytes !== this.#memory) this.#lookAt(bytes);
    const source = this.#address + offset;
    const captured = Math.min(isTagged ? length + TAG_BYTES : length, snapBytes);
    const original = isTagged ? originalLength + TAG_BYTES : originalLength;
    this.#encoder.begin(output, number, captured, original, seconds, nanoseconds);
    if (isTagged) {
      output.putFrom(source, Math.min(tagOffset, captured));
      this.#putTag(vlan, vlanProtocol, captured - tagOffset);
      if (captured > tagOffset + TAG_BYTES)
        output.putFrom(source + tagOffset, captured - tagOffset - TAG_BYTES);
    } else {
      output.putFrom(source, captured);
    }
    this.#encoder.end(output, captured, NO_OPTIONS);
    this.#wrote();
  }

  // The address of memory stays as long as it is not detached, which the length has told.
  #lookAt(bytes: Uint8Array): void {
    bufferOf(bytes);
    this.#memory = bytes;
    this.#address = addressOf(bytes);
  }

  // As much of the tag as there is room for under the limit; in network byte order.
  #putTag(vlan: number, protocol: number, room: number): void {
    if (room <= 0) return;
    const { view, at } = this.#output;
    view.setUint16(at, protocol, false);
    view.setUint16(at + 2, vlan, false);
    this.#output.at = at + Math.min(room, TAG_BYTES);
  }

  #wrote(): void {
    this.#packetCount++;
    this.#hasNews = true;
  }

  #requireOpen(): void {
    if (this.#output.isClosed) throw closedError("write", this.path);
  }

  #requireCursor(block: FrameCursor): void {
    if (!(block instanceof Object) || typeof block.next !== "function")
      throw new TypeError(`Cannot use ${describe(block)} as a block: expected that of a ring`);
    requireView(block.bytes, "the memory of a block");
  }
}

const INTERFACE_TEXTS = {
  comment: COMMENT,
  description: InterfaceOption.description,
  os: InterfaceOption.os,
  hardware: InterfaceOption.hardware,
} as const;
const SECTION_TEXTS = { comment: COMMENT, ...SectionOption } as const;
const COUNTS = ["packets", "drops", "accepted", "systemDrops", "delivered"] as const;

function textOptions(options: object, codes: Readonly<Record<string, number>>): BlockOption[] {
  const list: BlockOption[] = [];
  for (const [name, code] of Object.entries(codes)) {
    const text: unknown = options[name as keyof typeof options];
    if (text !== undefined) list.push({ code, value: textBytes(text, name) });
  }
  return list;
}

/** Checks the options of a writer. */
export function settingsOf(
  options: CaptureWriterOptions,
  path: string | undefined,
): WriterSettings {
  const { linkType = "ethernet", snapBytes = SNAP_BYTES, interfaces = [] } = options;
  const { resolution = "ns", vlan = "reinsert", byteOrder = machineOrder() } = options;
  const format = options.format ?? (/\.(pcap|cap|dmp)$/i.test(path ?? "") ? "pcap" : "pcapng");
  requireInteger(snapBytes, 1, SNAP_BYTES_MAX, "snapBytes");
  requireWord(format, ["pcapng", "pcap"], "format");
  requireWord(resolution, ["ns", "us"], "resolution");
  requireWord(byteOrder, ["little", "big"], "byteOrder");
  requireWord(vlan, ["reinsert", "drop"], "vlan");
  if (!Array.isArray(interfaces))
    throw new TypeError(`Cannot use ${describe(interfaces)} as interfaces: expected an array`);
  return {
    format,
    linkType: linkTypeNumber(linkType),
    snapBytes,
    isLittle: byteOrder === "little",
    resolution,
    reinserts: vlan === "reinsert",
    interfaces,
    options: textOptions(options, SECTION_TEXTS),
  };
}

// Throws for the first that is no whole number.
function refuseFrame(numbers: Readonly<Record<string, number>>): void {
  const { MIN_SAFE_INTEGER, MAX_SAFE_INTEGER } = Number;
  for (const [name, value] of Object.entries(numbers))
    requireInteger(value, MIN_SAFE_INTEGER, MAX_SAFE_INTEGER, `the ${name} of a frame`);
}

function machineOrder(): "little" | "big" {
  return new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? "little" : "big";
}

function requireWord(value: unknown, words: readonly string[], name: string): void {
  if (typeof value === "string" && words.includes(value)) return;
  const told = typeof value === "string" ? JSON.stringify(value) : describe(value);
  const expected = words.map((word) => `"${word}"`).join(" or ");
  throw new TypeError(`Cannot use ${told} as ${name}: expected ${expected}`);
}

// An interface that is gone, or of another namespace, has no name here.
function nameOf(index: number): string | undefined {
  const name = new Uint8Array(IF_NAMESIZE);
  if (if_indextoname(index, name) < 0) return undefined;
  return Buffer.from(name.subarray(0, name.indexOf(0))).toString();
}

function now(): CaptureTime {
  const ms = Date.now();
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanoseconds: (ms - seconds * 1000) * 1e6 };
}
