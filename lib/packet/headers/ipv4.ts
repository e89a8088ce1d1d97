import {
  IP_DF,
  IP_MF,
  IP_OFFMASK,
  IPOPT_LSRR,
  IPOPT_SSRR,
} from "../../../structs/constants/netinet_ip.ts";
import { iphdr } from "../../../structs/iphdr.ts";
import { Inet4Address } from "../../inet_address.ts";
import { describe, requireInteger } from "../../internal/arguments.ts";
import { formatInet4, parseInet4 } from "../../internal/inet_text.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { fold, sumOf, update16, update32 } from "../internal/sum.ts";
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
  writeBits16,
  writeFlag16,
} from "./header.ts";
import { type IpHeader, requireNumbers, requireTransport, sumWithout } from "./ip.ts";
import { HeaderOptions } from "./options.ts";

const FIRST = iphdr.ihl.offset;
const TOS = iphdr.tos.offset;
const LENGTH = iphdr.tot_len.offset;
const ID = iphdr.id.offset;
const FRAGMENT = iphdr.frag_off.offset;
const TTL = iphdr.ttl.offset;
const PROTOCOL = iphdr.protocol.offset;
const CHECKSUM = iphdr.check.offset;
const SOURCE = iphdr.saddr.offset;
const DESTINATION = iphdr.daddr.offset;
const BYTES = iphdr.size;
const BYTES_MAX = 60;
const ADDRESS_BYTES = 4;

/** A transport header whose checksum covers the addresses of the packet that it is in. */
export interface CoveredByAddresses {
  /** Keeps the checksum right after 16 bits that it covers have changed. */
  updateChecksum(before: number, after: number): void;
}

/**
 * The header of an IPv4 packet: 20 bytes, and up to 40 of options.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc791 | RFC 791}
 *
 * @example Forward a packet: one hop less, and the checksum with it
 * ```ts
 * import { Ipv4Header } from "bun-sockets/packet";
 *
 * const packet = Buffer.from("45000014000040004011b8c0c0a80001c0a800c7", "hex");
 * const ip = new Ipv4Header(packet);
 * if (ip.at(0)) {
 *   ip.decrementTtl();
 *   console.log(ip.source, ip.destination, ip.ttl, ip.checksumIsValid); // 192.168.0.1 192.168.0.199 63 true
 * }
 * ```
 */
export class Ipv4Header extends Header implements IpHeader {
  readonly #options = new HeaderOptions("tcp", this.whole);

  /**
   * Moves to a header. True: it says version 4 and a length of at least 20 bytes, and so many are
   * there. The packet itself may be cut: `isTruncated`.
   */
  override at(offset: number, end: number = this.limit): boolean {
    if (fits(offset, end, BYTES, this.limit)) {
      const first = this.whole.getUint8(offset);
      const bytes = (first & 0xf) * 4;
      if (first >>> 4 === 4 && bytes >= BYTES && bytes <= end - offset) {
        this.view = this.whole;
        this.start = offset;
        this.stop = end;
        return true;
      }
    }
    this.leave();
    return false;
  }

  /** The length of the header with its options in bytes, 20 to 60; set in steps of 4. */
  get headerBytes(): number {
    return (this.view.getUint8(this.start + FIRST) & 0xf) * 4;
  }

  set headerBytes(value: number) {
    requireInteger(value, BYTES, BYTES_MAX, "the length of an IPv4 header");
    if (value % 4 !== 0)
      throw new RangeError(
        `Cannot use ${value} as the length of an IPv4 header: expected a multiple of 4`,
      );
    writeBits8(this.view, this.start + FIRST, 0, 4, value / 4, "the length of an IPv4 header");
  }

  /** Where what the packet carries begins: behind the options. */
  override get payloadOffset(): number {
    return Math.min(this.start + this.headerBytes, this.stop);
  }

  /**
   * Where it ends, by `totalLength`, and not behind `end`. A total length of 0 is how Linux writes
   * packets that it has not cut into segments yet: they go on to the end.
   */
  override get payloadEnd(): number {
    const { totalLength } = this;
    if (totalLength === 0) return this.stop;
    return Math.min(Math.max(this.start + totalLength, this.payloadOffset), this.stop);
  }

  /** Whether the packet says that it is longer than what is there of it. */
  get isTruncated(): boolean {
    return this.totalLength > this.stop - this.start;
  }

  /** 4. */
  get version(): number {
    return this.view.getUint8(this.start + FIRST) >>> 4;
  }

  set version(value: number) {
    writeBits8(this.view, this.start + FIRST, 4, 4, value, "a version");
  }

  /** Differentiated services and congestion notification as one byte. */
  get typeOfService(): number {
    return this.view.getUint8(this.start + TOS);
  }

  set typeOfService(value: number) {
    write8(this.view, this.start + TOS, value, "a type of service");
  }

  /** The code point of differentiated services, 0 to 63: RFC 2474. */
  get dscp(): number {
    return this.typeOfService >>> 2;
  }

  set dscp(value: number) {
    writeBits8(this.view, this.start + TOS, 2, 6, value, "a DSCP");
  }

  /** Explicit congestion notification, 0 to 3: RFC 3168. */
  get ecn(): number {
    return this.typeOfService & 3;
  }

  set ecn(value: number) {
    writeBits8(this.view, this.start + TOS, 0, 2, value, "an ECN");
  }

  /** The length of the packet in bytes, header included, as it says it. */
  get totalLength(): number {
    return this.view.getUint16(this.start + LENGTH);
  }

  set totalLength(value: number) {
    write16(this.view, this.start + LENGTH, value, "a total length");
  }

  /** What the fragments of a packet have in common. */
  get identification(): number {
    return this.view.getUint16(this.start + ID);
  }

  set identification(value: number) {
    write16(this.view, this.start + ID, value, "an identification");
  }

  /** Whether routers may not cut the packet into fragments. */
  get dontFragment(): boolean {
    return (this.view.getUint16(this.start + FRAGMENT) & IP_DF) !== 0;
  }

  set dontFragment(value: boolean) {
    writeFlag16(this.view, this.start + FRAGMENT, 14, value, "a flag");
  }

  /** Whether more fragments follow. */
  get moreFragments(): boolean {
    return (this.view.getUint16(this.start + FRAGMENT) & IP_MF) !== 0;
  }

  set moreFragments(value: boolean) {
    writeFlag16(this.view, this.start + FRAGMENT, 13, value, "a flag");
  }

  /** Where the fragment lies in the packet, in bytes; set in steps of 8. */
  get fragmentOffset(): number {
    return (this.view.getUint16(this.start + FRAGMENT) & IP_OFFMASK) * 8;
  }

  set fragmentOffset(value: number) {
    requireInteger(value, 0, IP_OFFMASK * 8, "a fragment offset");
    if (value % 8 !== 0)
      throw new RangeError(`Cannot use ${value} as a fragment offset: expected a multiple of 8`);
    writeBits16(this.view, this.start + FRAGMENT, 0, 13, value / 8, "a fragment offset");
  }

  /** Whether the packet is a fragment, the first or a later one. */
  get isFragment(): boolean {
    return (this.view.getUint16(this.start + FRAGMENT) & (IP_MF | IP_OFFMASK)) !== 0;
  }

  /** How many hops the packet may still go, 0 to 255. */
  get ttl(): number {
    return this.view.getUint8(this.start + TTL);
  }

  set ttl(value: number) {
    write8(this.view, this.start + TTL, value, "a TTL");
  }

  /** What the packet carries: `IPPROTO_…`. */
  get protocol(): number {
    return this.view.getUint8(this.start + PROTOCOL);
  }

  set protocol(value: number) {
    write8(this.view, this.start + PROTOCOL, value, "a protocol");
  }

  /** The same where a transport header begins here; -1 in a later fragment, and nowhere. */
  get transportProtocol(): number {
    const isFirst = (this.view.getUint16(this.start + FRAGMENT) & IP_OFFMASK) === 0;
    return isFirst && this.isPresent ? this.protocol : -1;
  }

  /** Where a transport header begins: at `payloadOffset`. */
  get transportOffset(): number {
    return this.payloadOffset;
  }

  /** The checksum of the header. */
  get checksum(): number {
    return this.view.getUint16(this.start + CHECKSUM);
  }

  set checksum(value: number) {
    write16(this.view, this.start + CHECKSUM, value, "a checksum");
  }

  /** Computes what the checksum has to be, from all bytes of the header. */
  computeChecksum(): number {
    const field = this.start + CHECKSUM;
    return ~sumWithout(this.view, this.start, this.payloadOffset, field, 0) & 0xffff;
  }

  /** Computes the checksum, and sets it. */
  fillChecksum(): void {
    this.checksum = this.computeChecksum();
  }

  /** Whether the checksum is right. */
  get checksumIsValid(): boolean {
    return this.isPresent && sumOf(this.view, this.start, this.payloadOffset, 0) === 0xffff;
  }

  /** How the checksum stands: "valid" or "wrong"; "unknown" nowhere. */
  get checksumStatus(): ChecksumStatus {
    if (!this.isPresent) return "unknown";
    return this.checksumIsValid ? "valid" : "wrong";
  }

  /**
   * Keeps the checksum right after 16 bits of the header have changed, at an even distance from its
   * beginning.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc1624 | RFC 1624}
   */
  updateChecksum(before: number, after: number): void {
    this.checksum = update16(this.checksum, toWord(before), toWord(after));
  }

  /**
   * Takes one hop off, and keeps the checksum right.
   *
   * @returns whether the packet may go on: false, and nothing is changed, where `ttl` is 0 or 1
   */
  decrementTtl(): boolean {
    requirePlace(this.view, "a TTL");
    const before = this.view.getUint16(this.start + TTL);
    if (before < 0x200) return false;
    this.view.setUint16(this.start + TTL, before - 0x100);
    this.updateChecksum(before, before - 0x100);
    return true;
  }

  /** Where the packet comes from, as "192.0.2.1": makes a string. Set as text. */
  get source(): string {
    return this.#text(SOURCE);
  }

  set source(text: string) {
    this.sourceValue = parse(text, "a source");
  }

  /** Where the packet comes from, as a number of 32 bits. */
  get sourceValue(): number {
    return this.view.getUint32(this.start + SOURCE);
  }

  set sourceValue(value: number) {
    write32(this.view, this.start + SOURCE, value, "a source");
  }

  /** Makes an address of where the packet comes from. */
  sourceAddress(port = 0): Inet4Address {
    return new Inet4Address(this.source, port);
  }

  /** Copies the four bytes of the source. */
  copySource(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + SOURCE, ADDRESS_BYTES, target, targetOffset);
  }

  /** Sets the source to four bytes. */
  setSource(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + SOURCE, ADDRESS_BYTES, bytes, bytesOffset, "a source");
  }

  /** Whether the source is these four bytes. */
  sourceEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + SOURCE, ADDRESS_BYTES, bytes, bytesOffset);
  }

  /**
   * Sets the source, and keeps the checksum right, and that of the transport header, which covers it
   * too.
   *
   * @param value the address as a number of 32 bits
   * @param transport the UDP or TCP header in this packet, if its checksum is to be kept
   * @throws {TypeError} one of the two headers is nowhere; nothing has changed
   */
  rewriteSource(value: number, transport?: CoveredByAddresses): void {
    this.#rewrite(SOURCE, value, "a source", transport);
  }

  /** Where the packet goes to, as "192.0.2.1": makes a string. Set as text. */
  get destination(): string {
    return this.#text(DESTINATION);
  }

  set destination(text: string) {
    this.destinationValue = parse(text, "a destination");
  }

  /** Where the packet goes to, as a number of 32 bits. */
  get destinationValue(): number {
    return this.view.getUint32(this.start + DESTINATION);
  }

  set destinationValue(value: number) {
    write32(this.view, this.start + DESTINATION, value, "a destination");
  }

  /** Makes an address of where the packet goes to. */
  destinationAddress(port = 0): Inet4Address {
    return new Inet4Address(this.destination, port);
  }

  /** Copies the four bytes of the destination. */
  copyDestination(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + DESTINATION, ADDRESS_BYTES, target, targetOffset);
  }

  /** Sets the destination to four bytes. */
  setDestination(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + DESTINATION, ADDRESS_BYTES, bytes, bytesOffset, "a destination");
  }

  /** Whether the destination is these four bytes. */
  destinationEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + DESTINATION, ADDRESS_BYTES, bytes, bytesOffset);
  }

  /** Sets the destination, as `rewriteSource` does the source. */
  rewriteDestination(value: number, transport?: CoveredByAddresses): void {
    this.#rewrite(DESTINATION, value, "a destination", transport);
  }

  /** The options, from the first: one walk for each header, which every call rewinds. */
  get options(): HeaderOptions {
    return this.#options.rewind(this.view, this.start + BYTES, this.payloadOffset);
  }

  /**
   * The sum of the pseudo-header, for transport checksums. Where a source route is not yet at its
   * end, the destination in it is the last of the route: RFC 1122 section 4.1.3.4.
   */
  pseudoHeaderSum(protocol: number, length: number): number {
    requireNumbers(protocol, length);
    const { sourceValue } = this;
    const routeEnd = this.#sourceRouteEnd();
    const destination = routeEnd === 0 ? this.destinationValue : this.view.getUint32(routeEnd);
    return fold(
      (sourceValue >>> 16) +
        (sourceValue & 0xffff) +
        (destination >>> 16) +
        (destination & 0xffff) +
        protocol +
        length,
    );
  }

  // Where the last address of an unfinished source route is, or 0.
  #sourceRouteEnd(): number {
    if (this.headerBytes === BYTES) return 0;
    const { options } = this;
    while (options.next()) {
      const { kind, bytes } = options;
      if (kind !== IPOPT_LSRR && kind !== IPOPT_SSRR) continue;
      // The pointer counts from the beginning of the option, and from 1.
      return bytes >= 7 && options.uint8(0) <= bytes ? options.offset + bytes - ADDRESS_BYTES : 0;
    }
    return 0;
  }

  #rewrite(at: number, value: number, name: string, transport?: CoveredByAddresses): void {
    if (typeof value !== "number" || value >>> 0 !== value)
      requireInteger(value, 0, 0xffff_ffff, name);
    requirePlace(this.view, name);
    const before = this.view.getUint32(this.start + at);
    // First what may refuse, being nowhere: then nothing has changed.
    if (transport !== undefined) {
      requireTransport(transport);
      transport.updateChecksum(before >>> 16, value >>> 16);
      transport.updateChecksum(before & 0xffff, value & 0xffff);
    }
    this.view.setUint32(this.start + at, value);
    this.checksum = update32(this.checksum, before, value);
  }

  #text(at: number): string {
    return formatInet4(bytesAt(this.view, this.start + at, ADDRESS_BYTES), 0);
  }
}

function parse(text: string, name: string): number {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use ${describe(text)} as ${name}: expected a string`);
  const bytes = new Uint8Array(ADDRESS_BYTES);
  if (!parseInet4(text, bytes, 0))
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as ${name}: expected an IPv4 address`);
  return new DataView(bytes.buffer).getUint32(0);
}
