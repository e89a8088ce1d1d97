import {
  ICMP_DEST_UNREACH,
  ICMP_PARAMETERPROB,
  ICMP_REDIRECT,
  ICMP_SOURCE_QUENCH,
  ICMP_TIME_EXCEEDED,
} from "../../../structs/constants/linux_icmp.ts";
import { icmphdr } from "../../../structs/icmphdr.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { fold, update16 } from "../internal/sum.ts";
import { fits, Header, requirePlace, toWord, write8, write16, write32 } from "./header.ts";
import type { IpHeader } from "./ip.ts";
import { requireIp, sumWithout } from "./ip.ts";

const TYPE = icmphdr.type.offset;
const CODE = icmphdr.code.offset;
const CHECKSUM = icmphdr.checksum.offset;
const REST = icmphdr.un.offset;
const BYTES = icmphdr.size;

// Where the parts of a union lie, by what the message is.
const IDENTIFIER = REST;
const SEQUENCE = REST + 2;
const POINTER = REST;
const ORIGINAL_LENGTH = REST + 1;
const MTU = REST + 2;

/**
 * The header of an ICMP message of IPv4: 8 bytes, the last four of which mean what the type says.
 * Its accessors read them so or so; none looks at the type.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc792 | RFC 792}
 *
 * @example
 * ```ts
 * import { IcmpHeader } from "bun-sockets/packet";
 *
 * const icmp = new IcmpHeader(Buffer.from("080055f312340001" + "6162636465666768", "hex"));
 * if (icmp.at(0)) {
 *   icmp.fillChecksum();
 *   console.log(icmp.type, icmp.sequence, icmp.checksumIsValid); // 8 1 true
 * }
 * ```
 */
export class IcmpHeader extends Header {
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

  /** Where the data begin: of an error, the packet that it is about (`isError`). */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /** What the message is: 0 echo reply, 3 unreachable, 8 echo, 11 time exceeded, … */
  get type(): number {
    return this.view.getUint8(this.start + TYPE);
  }

  set type(value: number) {
    write8(this.view, this.start + TYPE, value, "a type");
  }

  /** Which of its kind. */
  get code(): number {
    return this.view.getUint8(this.start + CODE);
  }

  set code(value: number) {
    write8(this.view, this.start + CODE, value, "a code");
  }

  /** Whether it is about a packet, the beginning of which follows: an IPv4 header and more. */
  get isError(): boolean {
    const { type } = this;
    return (
      type === ICMP_DEST_UNREACH ||
      type === ICMP_TIME_EXCEEDED ||
      type === ICMP_PARAMETERPROB ||
      type === ICMP_REDIRECT ||
      type === ICMP_SOURCE_QUENCH
    );
  }

  /** The checksum, of the whole message. */
  get checksum(): number {
    return this.view.getUint16(this.start + CHECKSUM);
  }

  set checksum(value: number) {
    write16(this.view, this.start + CHECKSUM, value, "a checksum");
  }

  /** Of an echo and its reply: whose it is. */
  get identifier(): number {
    return this.view.getUint16(this.start + IDENTIFIER);
  }

  set identifier(value: number) {
    write16(this.view, this.start + IDENTIFIER, value, "an identifier");
  }

  /** Of an echo and its reply: which one it is. */
  get sequence(): number {
    return this.view.getUint16(this.start + SEQUENCE);
  }

  set sequence(value: number) {
    write16(this.view, this.start + SEQUENCE, value, "a sequence number");
  }

  /** Of a redirect: the better gateway, an IPv4 address as a number of 32 bits. */
  get gateway(): number {
    return this.view.getUint32(this.start + REST);
  }

  set gateway(value: number) {
    write32(this.view, this.start + REST, value, "a gateway");
  }

  /** Of unreachable, code 4: the largest packet that the next hop takes, in bytes: RFC 1191. */
  get nextHopMtu(): number {
    return this.view.getUint16(this.start + MTU);
  }

  set nextHopMtu(value: number) {
    write16(this.view, this.start + MTU, value, "an MTU");
  }

  /** Of a parameter problem: the offset of the byte that is wrong in the packet that it is about. */
  get pointer(): number {
    return this.view.getUint8(this.start + POINTER);
  }

  set pointer(value: number) {
    write8(this.view, this.start + POINTER, value, "a pointer");
  }

  /**
   * Of an error with extensions: how much of the packet is in it, in words of 32 bits; the
   * extensions follow. 0: it goes on to the end. RFC 4884.
   */
  get originalWords(): number {
    return this.view.getUint8(this.start + ORIGINAL_LENGTH);
  }

  set originalWords(value: number) {
    write8(this.view, this.start + ORIGINAL_LENGTH, value, "a length");
  }

  /** Keeps the checksum right after 16 bits of the message have changed, at an even offset of it. */
  updateChecksum(before: number, after: number): void {
    requirePlace(this.view, "the checksum");
    this.checksum = update16(this.checksum, toWord(before), toWord(after));
  }

  /** Computes what the checksum has to be, from all bytes. */
  computeChecksum(): number {
    return ~this.#sum() & 0xffff;
  }

  /** Computes the checksum, and sets it. */
  fillChecksum(): void {
    this.checksum = this.computeChecksum();
  }

  /** Whether the checksum is right. */
  get checksumIsValid(): boolean {
    return this.isPresent && fold(this.#sum() + this.checksum) === 0xffff;
  }

  /**
   * How the checksum stands. Looks at all bytes.
   *
   * @param ip the header of the packet that it is in, which tells a fragment and a cut packet
   */
  checksumStatus(ip: IpHeader): ChecksumStatus {
    const { isFragment, isTruncated } = requireIp(ip);
    if (!this.isPresent || isFragment || isTruncated) return "unknown";
    return this.checksumIsValid ? "valid" : "wrong";
  }

  #sum(): number {
    return sumWithout(this.view, this.start, this.stop, this.start + CHECKSUM, 0);
  }
}
