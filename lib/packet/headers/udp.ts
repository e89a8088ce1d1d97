import { IPPROTO_UDP } from "../../../structs/constants/netinet_in.ts";
import { udphdr } from "../../../structs/udphdr.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { update16 } from "../internal/sum.ts";
import { fits, Header, requirePlace, toWord, write16 } from "./header.ts";
import { type IpHeader, requireIp, statusOf, sumWithout } from "./ip.ts";

const SOURCE = udphdr.source.offset;
const DESTINATION = udphdr.dest.offset;
const LENGTH = udphdr.len.offset;
const CHECKSUM = udphdr.check.offset;
const BYTES = udphdr.size;

/**
 * The header of a UDP datagram: 8 bytes.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc768 | RFC 768}
 *
 * @example Another port, and the checksum with it
 * ```ts
 * import { UdpHeader } from "bun-sockets/packet";
 *
 * const datagram = Buffer.from("0035c000000a12346869", "hex");
 * const udp = new UdpHeader(datagram);
 * if (udp.at(0)) {
 *   udp.rewriteDestinationPort(49153);
 *   console.log(udp.sourcePort, udp.destinationPort, udp.checksum.toString(16)); // 53 49153 1233
 * }
 * ```
 */
export class UdpHeader extends Header {
  /** Moves to a header. True: 8 bytes are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (!fits(offset, end, BYTES, this.limit)) {
      this.leave();
      return false;
    }
    this.view = this.whole;
    this.start = offset;
    this.stop = end;
    return true;
  }

  /** 8. */
  override get headerBytes(): number {
    return BYTES;
  }

  /** Where the data begin. */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /**
   * Where the data end, by `length`, and not behind `end`. A length of 0 is how a jumbogram says
   * that it goes on to the end.
   */
  override get payloadEnd(): number {
    const { length } = this;
    if (length === 0) return this.stop;
    return Math.min(this.start + Math.max(length, BYTES), this.stop);
  }

  /** The port it comes from. */
  get sourcePort(): number {
    return this.view.getUint16(this.start + SOURCE);
  }

  set sourcePort(value: number) {
    write16(this.view, this.start + SOURCE, value, "a port");
  }

  /** The port it goes to. */
  get destinationPort(): number {
    return this.view.getUint16(this.start + DESTINATION);
  }

  set destinationPort(value: number) {
    write16(this.view, this.start + DESTINATION, value, "a port");
  }

  /** The length of header and data in bytes, as the header says it. */
  get length(): number {
    return this.view.getUint16(this.start + LENGTH);
  }

  set length(value: number) {
    write16(this.view, this.start + LENGTH, value, "a length");
  }

  /** The checksum, of pseudo-header, header and data; 0 is none. */
  get checksum(): number {
    return this.view.getUint16(this.start + CHECKSUM);
  }

  set checksum(value: number) {
    write16(this.view, this.start + CHECKSUM, value, "a checksum");
  }

  /** Sets the port it comes from, and keeps the checksum right; none stays none. */
  rewriteSourcePort(value: number): void {
    const before = this.sourcePort;
    this.sourcePort = value;
    this.updateChecksum(before, value);
  }

  /** Sets the port it goes to, and keeps the checksum right; none stays none. */
  rewriteDestinationPort(value: number): void {
    const before = this.destinationPort;
    this.destinationPort = value;
    this.updateChecksum(before, value);
  }

  /**
   * Keeps the checksum right after 16 bits that it covers have changed, at an even offset of the
   * datagram or of the pseudo-header. None stays none. An unfinished checksum is to be filled first.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc1624 | RFC 1624}
   */
  updateChecksum(before: number, after: number): void {
    requirePlace(this.view, "the checksum");
    const { checksum } = this;
    // RFC 768: 0 says that there is none, and is sent as all ones.
    const changed = update16(checksum, toWord(before), toWord(after)) || 0xffff;
    if (checksum !== 0) this.checksum = changed;
  }

  /**
   * Computes what the checksum has to be, from all bytes.
   *
   * @param ip the header of the packet that it is in: its addresses count too
   */
  computeChecksum(ip: IpHeader): number {
    // RFC 768: 0 would say that there is none.
    return ~this.#sum(this.#pseudo(ip)) & 0xffff || 0xffff;
  }

  /** Computes the checksum, and sets it. */
  fillChecksum(ip: IpHeader): void {
    this.checksum = this.computeChecksum(ip);
  }

  /** Whether the checksum is right, or there is none over IPv4. */
  checksumIsValid(ip: IpHeader): boolean {
    const status = this.checksumStatus(requireIp(ip));
    return status === "valid" || (status === "none" && ip.version === 4);
  }

  /**
   * How the checksum stands. Looks at all bytes, unless told.
   *
   * @param ip the header of the packet that it is in
   * @param said what the kernel has said of it: the `checksum` of a frame in a ring or a batch.
   *   "unfinished" and "valid" are believed
   */
  checksumStatus(ip: IpHeader, said?: string): ChecksumStatus {
    if (!this.isPresent) return "unknown";
    if (said === "unfinished" || said === "valid") return said;
    if (this.checksum === 0) return "none";
    const pseudo = this.#pseudo(ip);
    const isCut = this.length > this.stop - this.start;
    return statusOf(ip, this.#sum(pseudo), pseudo, this.checksum, isCut);
  }

  #pseudo(ip: IpHeader): number {
    return requireIp(ip).pseudoHeaderSum(IPPROTO_UDP, this.payloadEnd - this.start);
  }

  #sum(pseudo: number): number {
    return sumWithout(this.view, this.start, this.payloadEnd, this.start + CHECKSUM, pseudo);
  }
}
