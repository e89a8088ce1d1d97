import type { LinkTypeName } from "./link_type.ts";

/** A time: seconds since 1970 and nanoseconds. */
export interface CaptureTime {
  readonly seconds: number;
  /** 0 to 999,999,999. Default 0. */
  readonly nanoseconds?: number | undefined;
}

/**
 * What is counted at an interface. Its first two are what `statistics()` of a `PacketSocket` and a
 * `PacketRing` counts, so that such can be written as they are.
 */
export interface CaptureStatistics {
  /** Packets that came (`isb_ifrecv`). */
  readonly packets?: number | undefined;
  /** Packets that were lost for want of room (`isb_ifdrop`). */
  readonly drops?: number | undefined;
  /** Packets that the filter has let pass (`isb_filteraccept`). */
  readonly accepted?: number | undefined;
  /** Packets that the system has lost (`isb_osdrop`). */
  readonly systemDrops?: number | undefined;
  /** Packets that have reached the program (`isb_usrdeliv`). */
  readonly delivered?: number | undefined;
  /** When the capture began. */
  readonly start?: CaptureTime | undefined;
  /** When it ended. */
  readonly end?: CaptureTime | undefined;
  /** When it was counted. Default: when it is written. */
  readonly time?: CaptureTime | undefined;
  /** A remark. */
  readonly comment?: string | undefined;
}

/**
 * An interface as it is described in a capture file that is written. A `PacketRing` or a
 * `PacketSocket` can stand for one: it has an index and a link type.
 */
export interface CaptureInterfaceOptions {
  /** Its name: "eth0". Default: that of `interfaceIndex` on this machine. */
  readonly name?: string | undefined;
  /** What it is, for people. */
  readonly description?: string | undefined;
  /**
   * Its index in the system, which is then what `Packet.interface` calls it, as frames of a ring do.
   * Without one, and with 0, that is its place among the interfaces of the file, from 0 on.
   */
  readonly interfaceIndex?: number | undefined;
  /** What its frames begin with. Default: that of the file. */
  readonly linkType?: LinkTypeName | number | undefined;
  /** As much of each frame is written at most, in bytes. Default: that of the file. */
  readonly snapBytes?: number | undefined;
  /** The text of the filter that was used. */
  readonly filter?: string | undefined;
  /** The system of the machine that it belongs to. */
  readonly os?: string | undefined;
  /** Its device. */
  readonly hardware?: string | undefined;
  /** Bits in a second. */
  readonly speed?: number | undefined;
  /** A remark. */
  readonly comment?: string | undefined;
}

/** An interface as a capture file describes it. */
export interface CaptureInterface {
  /** Its section, the index in `CaptureReader.sections`. */
  readonly section: number;
  /** What its frames begin with: one of `LinkType`, or another number. */
  readonly linkType: number;
  /** As much of each frame was captured at most, in bytes; 0 is no limit. */
  readonly snapBytes: number;
  /** How many parts of a second its times tell apart: 1e9 for nanoseconds; a power of 10 or 2. */
  readonly resolution: number;
  /** What is added to its times, in seconds. */
  readonly timeOffset: number;
  /** Bytes of checksum at the end of each frame, where the file says so. */
  readonly checksumBytes: number | undefined;
  readonly name: string | undefined;
  readonly description: string | undefined;
  /** The filter that was used: its text; undefined where there is none, or only its instructions. */
  readonly filter: string | undefined;
  readonly os: string | undefined;
  readonly hardware: string | undefined;
  /** Bits in a second. */
  readonly speed: number | undefined;
  readonly comment: string | undefined;
  /** What was counted at it, in the words of the last block that was read: it comes after packets. */
  readonly statistics: CaptureStatistics | undefined;
}

/** A section of a capture file: what one program has written at one time. */
export interface CaptureSection {
  /** Where it begins, in bytes from the beginning of the file. */
  readonly offset: number;
  readonly byteOrder: "little" | "big";
  /** The machine that has captured. */
  readonly hardware: string | undefined;
  /** Its system. */
  readonly os: string | undefined;
  /** The program that has written it. */
  readonly application: string | undefined;
  readonly comment: string | undefined;
}
