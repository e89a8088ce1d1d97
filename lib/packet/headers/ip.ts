import { describe, requireInteger } from "../../internal/arguments.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { fold, sumOf } from "../internal/sum.ts";
import type { CoveredByAddresses } from "./ipv4.ts";

/** What the headers of IPv4 and IPv6 have in common, for what lies behind them. */
export interface IpHeader {
  /** 4 or 6. */
  readonly version: number;
  /**
   * The protocol of the transport header, `IPPROTO_…`, behind options and extension headers; -1
   * where there is none here: a later fragment, an encrypted packet, a chain that ends or is cut.
   */
  readonly transportProtocol: number;
  /** Where the transport header begins; where there is none, the end of what could be read. */
  readonly transportOffset: number;
  /** Where the packet ends, by its own length, and not behind the end of the frame. */
  readonly payloadEnd: number;
  /** Whether the packet is a fragment, the first or a later one. */
  readonly isFragment: boolean;
  /** Whether the packet says that it is longer than what is there of it. */
  readonly isTruncated: boolean;
  /**
   * The sum of the pseudo-header, for transport checksums: what an unfinished one has in its place.
   *
   * @param protocol the transport protocol, `IPPROTO_…`
   * @param length the bytes of transport header and data
   */
  pseudoHeaderSum(protocol: number, length: number): number;
}

/** Refuses what is no header of an IP packet. */
export function requireIp(ip: IpHeader): IpHeader {
  if (typeof ip?.pseudoHeaderSum === "function") return ip;
  throw new TypeError(
    `Cannot use ${describe(ip)} as the header of the packet: expected an Ipv4Header or Ipv6Header`,
  );
}

/** Refuses what is no protocol and no length of a pseudo-header. */
export function requireNumbers(protocol: number, length: number): void {
  requireInteger(protocol, 0, 0xff, "a protocol");
  requireInteger(length, 0, 0xffff_ffff, "a length");
}

/** Refuses what has no checksum to be kept. */
export function requireTransport(transport: CoveredByAddresses): void {
  if (typeof transport?.updateChecksum === "function") return;
  throw new TypeError(
    `Cannot use ${describe(transport)} as a transport header: expected a UdpHeader, TcpHeader or Icmpv6Header`,
  );
}

/**
 * The sum of bytes without the 16 bits of the checksum among them, which are at an even distance
 * from the first.
 */
export function sumWithout(
  view: DataView,
  start: number,
  end: number,
  field: number,
  initial: number,
): number {
  return sumOf(view, field + 2, Math.max(end, field + 2), sumOf(view, start, field, initial));
}

/** How a checksum stands: a sum of all that it covers but itself, and what is known besides. */
export function statusOf(
  ip: IpHeader,
  sum: number,
  pseudo: number,
  checksum: number,
  isCut: boolean,
): ChecksumStatus {
  if (isCut || ip.isFragment || ip.isTruncated) return "unknown";
  if (fold(sum + checksum) === 0xffff) return "valid";
  return checksum === pseudo ? "unfinished" : "wrong";
}
