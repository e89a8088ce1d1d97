/**
 * Numbers of the format pcapng.
 *
 * @see {@link https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html | PCAP Next Generation}
 *
 * @module
 */

/** Types of blocks. The one of a section header reads the same in both byte orders. */
export const Block = {
  interface: 1,
  obsoletePacket: 2,
  simplePacket: 3,
  names: 4,
  statistics: 5,
  enhancedPacket: 6,
  section: 0x0a0d0d0a,
} as const;

/** In a section header: tells the byte order. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
/** The version that everybody writes. */
export const VERSION_MAJOR = 1;
/** Its second number. */
export const VERSION_MINOR = 0;

/** Type and length before, length behind. */
export const BLOCK_BYTES = 12;
/** A section header block without options, as those that follow: the least that a block has. */
export const SECTION_BYTES = 28;
/** An interface description block. */
export const INTERFACE_BYTES = 20;
/** An interface statistics block. */
export const STATISTICS_BYTES = 24;
/** A name resolution block. */
export const NAMES_BYTES = 12;
/** A simple packet block. */
export const SIMPLE_BYTES = 16;
/** An enhanced packet block, and the obsolete one. */
export const ENHANCED_BYTES = 32;

/** Where data begins in an enhanced packet block, and the obsolete one. */
export const ENHANCED_DATA = 28;
/** The same in a simple packet block. */
export const SIMPLE_DATA = 12;

/** The code of what ends options. */
export const END_OF_OPTIONS = 0;
/** The code of a comment, in every block. */
export const COMMENT = 1;
/** Code and length of an option. */
export const OPTION_BYTES = 4;
/** The most that an option has. */
export const OPTION_VALUE_MAX = 0xffff;

/** Options of a section. */
export const SectionOption = { hardware: 2, os: 3, application: 4 } as const;
/** Options of an interface. */
export const InterfaceOption = {
  name: 2,
  description: 3,
  speed: 8,
  resolution: 9,
  filter: 11,
  os: 12,
  checksumBytes: 13,
  timeOffset: 14,
  hardware: 15,
} as const;
/** Options of an enhanced packet block. */
export const PacketOption = { flags: 2, dropCount: 4 } as const;
/** Options of statistics. */
export const StatisticsOption = {
  start: 2,
  end: 3,
  packets: 4,
  drops: 5,
  accepted: 6,
  systemDrops: 7,
  delivered: 8,
} as const;

/** Kinds of records of a name resolution block. */
export const NameRecord = { end: 0, ipv4: 1, ipv6: 2 } as const;

/** What a length is with what fills it up to whole words. */
export function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}
