import { ICMPV6_INFOMSG_MASK } from "../../../structs/constants/linux_icmpv6.ts";
import {
  ND_NEIGHBOR_ADVERT,
  ND_NEIGHBOR_SOLICIT,
  ND_REDIRECT,
  ND_ROUTER_ADVERT,
  ND_ROUTER_SOLICIT,
} from "../../../structs/constants/netinet_icmp6.ts";
import { IPPROTO_ICMPV6 } from "../../../structs/constants/netinet_in.ts";
import { icmp6hdr } from "../../../structs/icmp6hdr.ts";
import { describe } from "../../internal/arguments.ts";
import { formatInet6, parseInet6 } from "../../internal/inet_text.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { update16 } from "../internal/sum.ts";
import {
  bytesAt,
  copyIn,
  copyOut,
  fits,
  Header,
  requirePlace,
  sameBytes,
  toWord,
  write8,
  write16,
  write32,
  writeBits8,
  writeFlag8,
} from "./header.ts";
import { type IpHeader, requireIp, statusOf, sumWithout } from "./ip.ts";
import { HeaderOptions } from "./options.ts";

const TYPE = icmp6hdr.icmp6_type.offset;
const CODE = icmp6hdr.icmp6_code.offset;
const CHECKSUM = icmp6hdr.icmp6_cksum.offset;
const REST = icmp6hdr.icmp6_dataun.offset;
const BYTES = icmp6hdr.size;
const ADDRESS_BYTES = 16;

// Neighbour discovery, RFC 4861 section 4: where their parts lie.
const REACHABLE = 8;
const RETRANSMIT = 12;
const TARGET = 8;
const REDIRECT_DESTINATION = 24;

/**
 * The header of an ICMPv6 message: 8 bytes, the last four of which mean what the type says, and of
 * neighbour discovery what follows them. Its accessors of the eight read them so or so, and none
 * looks at the type; those that need more bytes give 0 or `undefined` where they are not there, or
 * the message is another.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc4443 | RFC 4443}
 * @see {@link https://www.rfc-editor.org/rfc/rfc4861 | RFC 4861}
 *
 * @example Who is asked for
 * ```ts
 * import { Icmpv6Header } from "bun-sockets/packet";
 *
 * const target = "fe800000000000000000000000000001";
 * const icmp = new Icmpv6Header(Buffer.from(`8700000000000000${target}0101020000000002`, "hex"));
 * if (icmp.at(0)) {
 *   console.log(icmp.type, icmp.target); // 135 fe80::1
 *   const options = icmp.options;
 *   while (options.next()) console.log(options.kind, options.valueBytes); // 1 6
 * }
 * ```
 */
export class Icmpv6Header extends Header {
  readonly #options = new HeaderOptions("neighbour", this.whole);

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

  /** What the message is: 1 unreachable, 2 too big, 128 echo request, 135 who has it, … */
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

  /** Whether it is about a packet, the beginning of which follows: an IPv6 header and more. */
  get isError(): boolean {
    return this.isPresent && (this.type & ICMPV6_INFOMSG_MASK) === 0;
  }

  /** The checksum, of pseudo-header and message. */
  get checksum(): number {
    return this.view.getUint16(this.start + CHECKSUM);
  }

  set checksum(value: number) {
    write16(this.view, this.start + CHECKSUM, value, "a checksum");
  }

  /** Of an echo and its reply: whose it is. */
  get identifier(): number {
    return this.view.getUint16(this.start + REST);
  }

  set identifier(value: number) {
    write16(this.view, this.start + REST, value, "an identifier");
  }

  /** Of an echo and its reply: which one it is. */
  get sequence(): number {
    return this.view.getUint16(this.start + REST + 2);
  }

  set sequence(value: number) {
    write16(this.view, this.start + REST + 2, value, "a sequence number");
  }

  /** Of "packet too big": the largest packet that the next hop takes, in bytes. */
  get mtu(): number {
    return this.view.getUint32(this.start + REST);
  }

  set mtu(value: number) {
    write32(this.view, this.start + REST, value, "an MTU");
  }

  /** Of a parameter problem: the offset of the byte that is wrong in the packet that it is about. */
  get pointer(): number {
    return this.view.getUint32(this.start + REST);
  }

  set pointer(value: number) {
    write32(this.view, this.start + REST, value, "a pointer");
  }

  /** Of a neighbour advertisement: whether it is a router's. */
  get isRouter(): boolean {
    return this.#flag(7);
  }

  set isRouter(value: boolean) {
    writeFlag8(this.view, this.start + REST, 7, value, "a flag");
  }

  /** Of a neighbour advertisement: whether it answers a solicitation. */
  get isSolicited(): boolean {
    return this.#flag(6);
  }

  set isSolicited(value: boolean) {
    writeFlag8(this.view, this.start + REST, 6, value, "a flag");
  }

  /** Of a neighbour advertisement: whether it replaces what is known. */
  get isOverride(): boolean {
    return this.#flag(5);
  }

  set isOverride(value: boolean) {
    writeFlag8(this.view, this.start + REST, 5, value, "a flag");
  }

  /** Of a router advertisement: the hop limit to use; 0 says nothing of it. */
  get routerHopLimit(): number {
    return this.view.getUint8(this.start + REST);
  }

  set routerHopLimit(value: number) {
    write8(this.view, this.start + REST, value, "a hop limit");
  }

  /** Of a router advertisement: whether addresses are to be asked for by DHCPv6. */
  get isManaged(): boolean {
    return (this.view.getUint8(this.start + REST + 1) & 0x80) !== 0;
  }

  set isManaged(value: boolean) {
    writeFlag8(this.view, this.start + REST + 1, 7, value, "a flag");
  }

  /** Of a router advertisement: whether anything else is to be asked for by DHCPv6. */
  get hasOtherConfiguration(): boolean {
    return (this.view.getUint8(this.start + REST + 1) & 0x40) !== 0;
  }

  set hasOtherConfiguration(value: boolean) {
    writeFlag8(this.view, this.start + REST + 1, 6, value, "a flag");
  }

  /** Of a router advertisement: how much the router is preferred: 1 high, 0 medium, 3 low. */
  get routerPreference(): number {
    return (this.view.getUint8(this.start + REST + 1) >>> 3) & 3;
  }

  set routerPreference(value: number) {
    writeBits8(this.view, this.start + REST + 1, 3, 2, value, "a preference");
  }

  /** Of a router advertisement: how long it is a default router, in seconds. */
  get routerLifetimeSeconds(): number {
    return this.view.getUint16(this.start + REST + 2);
  }

  set routerLifetimeSeconds(value: number) {
    write16(this.view, this.start + REST + 2, value, "a lifetime");
  }

  /** Of a router advertisement: how long a neighbour counts as reachable; 0 says nothing of it. */
  get reachableMs(): number {
    return this.#hasWord(REACHABLE) ? this.view.getUint32(this.start + REACHABLE) : 0;
  }

  set reachableMs(value: number) {
    this.#require(this.#hasWord(REACHABLE), "a reachable time");
    write32(this.view, this.start + REACHABLE, value, "a reachable time");
  }

  /** Of a router advertisement: the time between solicitations; 0 says nothing of it. */
  get retransmitMs(): number {
    return this.#hasWord(RETRANSMIT) ? this.view.getUint32(this.start + RETRANSMIT) : 0;
  }

  set retransmitMs(value: number) {
    this.#require(this.#hasWord(RETRANSMIT), "a retransmission time");
    write32(this.view, this.start + RETRANSMIT, value, "a retransmission time");
  }

  /** Whether the message has a target: neighbour solicitation and advertisement, redirect. */
  get hasTarget(): boolean {
    const { type } = this;
    const has = type === ND_NEIGHBOR_SOLICIT || type === ND_NEIGHBOR_ADVERT || type === ND_REDIRECT;
    return has && this.#has(TARGET, ADDRESS_BYTES);
  }

  /**
   * Whose hardware address is asked for or told, or the better next hop, as "fe80::1": makes a
   * string. Undefined where there is none. Set as text, without a zone.
   *
   * @throws {TypeError} on setting: the message has no target, or the text is no address
   */
  get target(): string | undefined {
    return this.hasTarget ? this.#text(TARGET) : undefined;
  }

  set target(text: string) {
    this.setTarget(parse(text));
  }

  /** Copies the sixteen bytes of the target. Returns whether there is one. */
  copyTarget(target: Uint8Array, targetOffset = 0): boolean {
    if (!this.hasTarget) return false;
    copyOut(this.view, this.start + TARGET, ADDRESS_BYTES, target, targetOffset);
    return true;
  }

  /** Sets the target to sixteen bytes. Throws as setting `target` does. */
  setTarget(bytes: Uint8Array, bytesOffset = 0): void {
    this.#require(this.hasTarget, "a target");
    copyIn(this.view, this.start + TARGET, ADDRESS_BYTES, bytes, bytesOffset, "a target");
  }

  /** Whether the target is these sixteen bytes; false where there is none. */
  targetEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return (
      this.hasTarget && sameBytes(this.view, this.start + TARGET, ADDRESS_BYTES, bytes, bytesOffset)
    );
  }

  /** Of a redirect: what has a better next hop, as text: makes a string. Else undefined. */
  get redirectDestination(): string | undefined {
    const has = this.type === ND_REDIRECT && this.#has(REDIRECT_DESTINATION, ADDRESS_BYTES);
    return has ? this.#text(REDIRECT_DESTINATION) : undefined;
  }

  /**
   * The options of neighbour discovery, from the first: one walk for each header, which every call
   * rewinds. Of another message, none. 1 is the source's hardware address, 2 the target's, 3 a
   * prefix, 5 an MTU.
   */
  get options(): HeaderOptions {
    const start = Math.min(this.start + optionsOffset(this.type), this.stop);
    return this.#options.rewind(this.view, start, this.stop);
  }

  /**
   * Keeps the checksum right after 16 bits that it covers have changed, at an even offset of the
   * message or of the pseudo-header.
   */
  updateChecksum(before: number, after: number): void {
    requirePlace(this.view, "the checksum");
    this.checksum = update16(this.checksum, toWord(before), toWord(after));
  }

  /**
   * Computes what the checksum has to be, from all bytes.
   *
   * @param ip the header of the packet that it is in: its addresses count too
   */
  computeChecksum(ip: IpHeader): number {
    return ~this.#sum(this.#pseudo(ip)) & 0xffff;
  }

  /** Computes the checksum, and sets it. */
  fillChecksum(ip: IpHeader): void {
    this.checksum = this.computeChecksum(ip);
  }

  /** Whether the checksum is right. */
  checksumIsValid(ip: IpHeader): boolean {
    return this.checksumStatus(ip) === "valid";
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
    const pseudo = this.#pseudo(ip);
    return statusOf(ip, this.#sum(pseudo), pseudo, this.checksum, false);
  }

  #pseudo(ip: IpHeader): number {
    return requireIp(ip).pseudoHeaderSum(IPPROTO_ICMPV6, this.stop - this.start);
  }

  #sum(pseudo: number): number {
    return sumWithout(this.view, this.start, this.stop, this.start + CHECKSUM, pseudo);
  }

  #flag(bit: number): boolean {
    return (this.view.getUint8(this.start + REST) & (1 << bit)) !== 0;
  }

  #has(at: number, bytes: number): boolean {
    return this.stop - this.start >= at + bytes;
  }

  // Of a router advertisement, behind the first eight bytes.
  #hasWord(at: number): boolean {
    return this.type === ND_ROUTER_ADVERT && this.#has(at, 4);
  }

  #require(isThere: boolean, name: string): void {
    requirePlace(this.view, name);
    if (!isThere) throw new TypeError(`Cannot set ${name} of a message that has none`);
  }

  #text(at: number): string {
    return formatInet6(bytesAt(this.view, this.start + at, ADDRESS_BYTES), 0);
  }
}

// Where options begin, by the type of the message.
function optionsOffset(type: number): number {
  switch (type) {
    case ND_ROUTER_SOLICIT:
      return BYTES;
    case ND_ROUTER_ADVERT:
      return RETRANSMIT + 4;
    case ND_NEIGHBOR_SOLICIT:
    case ND_NEIGHBOR_ADVERT:
      return TARGET + ADDRESS_BYTES;
    case ND_REDIRECT:
      return REDIRECT_DESTINATION + ADDRESS_BYTES;
    default:
      return Number.MAX_SAFE_INTEGER;
  }
}

function parse(text: string): Uint8Array {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use ${describe(text)} as a target: expected a string`);
  const bytes = new Uint8Array(ADDRESS_BYTES);
  if (!parseInet6(text, bytes, 0))
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as a target: expected an IPv6 address`);
  return bytes;
}
