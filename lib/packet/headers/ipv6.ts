import {
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_NONE,
  IPPROTO_ROUTING,
  IPPROTO_TCP,
} from "../../../structs/constants/netinet_in.ts";
import { AF_INET6 } from "../../../structs/constants/sys_socket.ts";
import { ip6_frag } from "../../../structs/ip6_frag.ts";
import { ipv6_opt_hdr } from "../../../structs/ipv6_opt_hdr.ts";
import { ipv6_rt_hdr } from "../../../structs/ipv6_rt_hdr.ts";
import { ipv6hdr } from "../../../structs/ipv6hdr.ts";
import { sockaddr_in6 } from "../../../structs/sockaddr_in6.ts";
import { Inet6Address } from "../../inet_address.ts";
import { describe, requireInteger } from "../../internal/arguments.ts";
import { formatInet6, parseInet6 } from "../../internal/inet_text.ts";
import { fold, sumOf } from "../internal/sum.ts";
import {
  bytesAt,
  copyIn,
  copyOut,
  fits,
  Header,
  requirePlace,
  requireRoom,
  sameBytes,
  write8,
  write16,
  writeBits8,
  writeBits16,
} from "./header.ts";
import { type IpHeader, requireNumbers, requireTransport } from "./ip.ts";
import type { CoveredByAddresses } from "./ipv4.ts";
import { extensionBytes, isExtension } from "./ipv6_extension.ts";

const FIRST = ipv6hdr.version.offset;
const LENGTH = ipv6hdr.payload_len.offset;
const NEXT = ipv6hdr.nexthdr.offset;
const HOPS = ipv6hdr.hop_limit.offset;
const SOURCE = ipv6hdr.saddr.offset;
const DESTINATION = ipv6hdr.daddr.offset;
const BYTES = ipv6hdr.size;
const ADDRESS_BYTES = 16;

const EXTENSION_LENGTH = ipv6_opt_hdr.hdrlen.offset;
const FRAGMENT = ip6_frag.ip6f_offlg.offset;
const ROUTING_TYPE = ipv6_rt_hdr.type.offset;
const SEGMENTS_LEFT = ipv6_rt_hdr.segments_left.offset;
const SEGMENTS = 8;

// Types of routing headers: RFC 2460, RFC 6275, RFC 8754.
const ROUTING_SOURCE = 0;
const ROUTING_MOBILE = 2;
const ROUTING_SEGMENTS = 4;

/** How many extension headers of one packet are looked at: behind them no transport is found. */
export const EXTENSIONS_MAX = 16;

/**
 * The header of an IPv6 packet: 40 bytes. Extension headers are headers of their own behind it
 * (`Ipv6ExtensionHeader`); `transportProtocol` and `transportOffset` have looked past them, past at
 * most 16.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8200 | RFC 8200}
 *
 * @example
 * ```ts
 * import { Ipv6Header } from "bun-sockets/packet";
 *
 * const packet = Buffer.alloc(48);
 * const ip = new Ipv6Header(packet);
 * packet[0] = 0x60;
 * if (ip.at(0)) {
 *   ip.payloadLength = 8;
 *   ip.nextHeader = 17;
 *   ip.hopLimit = 64;
 *   ip.flowLabel = 0xbeef;
 *   ip.source = "fe80::1";
 *   ip.destination = "ff02::1";
 *   console.log(ip.source, ip.transportProtocol, ip.transportOffset); // fe80::1 17 40
 *   console.log(packet.toString("hex", 0, 8)); // 6000beef00081140
 * }
 * ```
 */
export class Ipv6Header extends Header implements IpHeader {
  // What the walk over the extension headers has found, where it has been made.
  #walked = false;
  #transport = -1;
  #transportOffset = 0;
  #fragment = 0;
  #routeEnd = 0;

  /**
   * Moves to a header. True: it says version 6, and 40 bytes are there. The packet itself may be
   * cut: `isTruncated`.
   */
  override at(offset: number, end: number = this.limit): boolean {
    this.#walked = false;
    if (fits(offset, end, BYTES, this.limit) && this.whole.getUint8(offset) >>> 4 === 6) {
      this.view = this.whole;
      this.start = offset;
      this.stop = end;
      return true;
    }
    this.leave();
    return false;
  }

  override leave(): void {
    super.leave();
    this.#walked = false;
  }

  /** 40. */
  override get headerBytes(): number {
    return BYTES;
  }

  /** Where what the packet carries begins: extension headers, or the transport header. */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /**
   * Where the packet ends, by `payloadLength`, and not behind `end`. A length of 0 in front of
   * hop-by-hop options or TCP is that of a jumbogram, or of a packet that Linux has not cut into
   * segments yet: they go on to the end.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc2675 | RFC 2675}
   */
  override get payloadEnd(): number {
    const { payloadLength } = this;
    if (payloadLength === 0) {
      const { nextHeader } = this;
      if (nextHeader === IPPROTO_HOPOPTS || nextHeader === IPPROTO_TCP) return this.stop;
    }
    return Math.min(this.payloadOffset + payloadLength, this.stop);
  }

  /** Whether the packet says that it is longer than what is there of it. */
  get isTruncated(): boolean {
    return this.payloadLength > this.stop - this.payloadOffset;
  }

  /** 6. */
  get version(): number {
    return this.view.getUint8(this.start + FIRST) >>> 4;
  }

  set version(value: number) {
    writeBits8(this.view, this.start + FIRST, 4, 4, value, "a version");
  }

  /** Differentiated services and congestion notification as one byte. */
  get trafficClass(): number {
    return (this.view.getUint16(this.start) >>> 4) & 0xff;
  }

  set trafficClass(value: number) {
    writeBits16(this.view, this.start, 4, 8, value, "a traffic class");
  }

  /** The code point of differentiated services, 0 to 63: RFC 2474. */
  get dscp(): number {
    return this.trafficClass >>> 2;
  }

  set dscp(value: number) {
    writeBits16(this.view, this.start, 6, 6, value, "a DSCP");
  }

  /** Explicit congestion notification, 0 to 3: RFC 3168. */
  get ecn(): number {
    return this.trafficClass & 3;
  }

  set ecn(value: number) {
    writeBits16(this.view, this.start, 4, 2, value, "an ECN");
  }

  /** The flow label, 20 bits: RFC 6437. */
  get flowLabel(): number {
    return this.view.getUint32(this.start) & 0xf_ffff;
  }

  set flowLabel(value: number) {
    requireInteger(value, 0, 0xf_ffff, "a flow label");
    requirePlace(this.view, "a flow label");
    this.view.setUint32(this.start, (this.view.getUint32(this.start) & ~0xf_ffff) | value);
  }

  /** The length of what follows the 40 bytes, extension headers included, as the packet says it. */
  get payloadLength(): number {
    return this.view.getUint16(this.start + LENGTH);
  }

  set payloadLength(value: number) {
    write16(this.view, this.start + LENGTH, value, "a payload length");
    this.#walked = false;
  }

  /** What follows the 40 bytes: `IPPROTO_…`, an extension header or the transport. */
  get nextHeader(): number {
    return this.view.getUint8(this.start + NEXT);
  }

  set nextHeader(value: number) {
    write8(this.view, this.start + NEXT, value, "a next header");
    this.#walked = false;
  }

  /** How many hops the packet may still go, 0 to 255. */
  get hopLimit(): number {
    return this.view.getUint8(this.start + HOPS);
  }

  set hopLimit(value: number) {
    write8(this.view, this.start + HOPS, value, "a hop limit");
  }

  /**
   * Takes one hop off. There is no checksum to keep.
   *
   * @returns whether the packet may go on: false, and nothing is changed, where it is 0 or 1
   */
  decrementHopLimit(): boolean {
    requirePlace(this.view, "a hop limit");
    const { hopLimit } = this;
    if (hopLimit < 2) return false;
    this.hopLimit = hopLimit - 1;
    return true;
  }

  /**
   * What is behind the extension headers: `IPPROTO_…`, among them `IPPROTO_ESP`, behind which all is
   * encrypted. -1 where there is nothing to be found: no next header, a later fragment, a header
   * that does not fit, more than 16 of them. Looked up once for each `at`.
   */
  get transportProtocol(): number {
    this.#walk();
    return this.#transport;
  }

  /** Where it begins. */
  get transportOffset(): number {
    this.#walk();
    return this.#transportOffset;
  }

  /**
   * Whether the packet is a fragment, the first or a later one. One that says that it is the only
   * one ("atomic", RFC 6946) is none.
   */
  get isFragment(): boolean {
    this.#walk();
    return (this.#fragment & 0xfff9) !== 0;
  }

  /** Where the packet comes from, as "2001:db8::1": makes a string. Set as text, without a zone. */
  get source(): string {
    return this.#text(SOURCE);
  }

  set source(text: string) {
    this.setSource(parse(text, "a source"));
  }

  /** Makes an address of where the packet comes from. */
  sourceAddress(port = 0): Inet6Address {
    return this.#address(SOURCE, port);
  }

  /** 32 bits of the source, by their place in it: 0 to 3. All four make a key without a string. */
  sourceWord(index: number): number {
    requireInteger(index, 0, 3, "a word of an address");
    return this.view.getUint32(this.start + SOURCE + index * 4);
  }

  /** Copies the sixteen bytes of the source. */
  copySource(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + SOURCE, ADDRESS_BYTES, target, targetOffset);
  }

  /** Sets the source to sixteen bytes. */
  setSource(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + SOURCE, ADDRESS_BYTES, bytes, bytesOffset, "a source");
  }

  /** Whether the source is these sixteen bytes. */
  sourceEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + SOURCE, ADDRESS_BYTES, bytes, bytesOffset);
  }

  /**
   * Sets the source, and keeps the checksum of the transport header right, which covers it.
   *
   * @param transport the UDP, TCP or ICMPv6 header in this packet
   * @throws {TypeError} one of the two headers is nowhere; nothing has changed
   */
  rewriteSource(bytes: Uint8Array, bytesOffset: number, transport: CoveredByAddresses): void {
    rewrite(this.view, this.start + SOURCE, bytes, bytesOffset, "a source", transport);
  }

  /** Where the packet goes to, as "2001:db8::1": makes a string. Set as text, without a zone. */
  get destination(): string {
    return this.#text(DESTINATION);
  }

  set destination(text: string) {
    this.setDestination(parse(text, "a destination"));
  }

  /** Makes an address of where the packet goes to. */
  destinationAddress(port = 0): Inet6Address {
    return this.#address(DESTINATION, port);
  }

  /** 32 bits of the destination, by their place in it: 0 to 3. */
  destinationWord(index: number): number {
    requireInteger(index, 0, 3, "a word of an address");
    return this.view.getUint32(this.start + DESTINATION + index * 4);
  }

  /** Copies the sixteen bytes of the destination. */
  copyDestination(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + DESTINATION, ADDRESS_BYTES, target, targetOffset);
  }

  /** Sets the destination to sixteen bytes. */
  setDestination(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + DESTINATION, ADDRESS_BYTES, bytes, bytesOffset, "a destination");
  }

  /** Whether the destination is these sixteen bytes. */
  destinationEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + DESTINATION, ADDRESS_BYTES, bytes, bytesOffset);
  }

  /** Sets the destination, as `rewriteSource` does the source. */
  rewriteDestination(bytes: Uint8Array, bytesOffset: number, transport: CoveredByAddresses): void {
    const at = this.start + DESTINATION;
    rewrite(this.view, at, bytes, bytesOffset, "a destination", transport);
  }

  /**
   * The sum of the pseudo-header, for transport checksums. Where a routing header is not yet at its
   * end, the destination in it is the last of the route: RFC 8200 section 8.1.
   */
  pseudoHeaderSum(protocol: number, length: number): number {
    requireNumbers(protocol, length);
    this.#walk();
    const source = this.start + SOURCE;
    const destination = this.#routeEnd === 0 ? this.start + DESTINATION : this.#routeEnd;
    const addresses = sumOf(
      this.view,
      destination,
      destination + ADDRESS_BYTES,
      sumOf(this.view, source, source + ADDRESS_BYTES, 0),
    );
    return fold(addresses + protocol + length);
  }

  // Bounded by the number of headers and by the end of the packet, whatever the bytes say.
  #walk(): void {
    if (this.#walked) return;
    this.#walked = true;
    this.#fragment = 0;
    this.#routeEnd = 0;
    const { view, payloadEnd: end } = this;
    let at = this.payloadOffset;
    let protocol = this.isPresent ? this.nextHeader : IPPROTO_NONE;
    let count = 0;
    while (isExtension(protocol)) {
      const bytes =
        end - at < 8 ? 0 : extensionBytes(protocol, view.getUint8(at + EXTENSION_LENGTH));
      if (bytes < 8 || bytes > end - at || ++count > EXTENSIONS_MAX) {
        protocol = IPPROTO_NONE;
        break;
      }
      if (protocol === IPPROTO_ROUTING) this.#routeEnd = routeEnd(view, at, bytes);
      if (protocol === IPPROTO_FRAGMENT) this.#fragment = view.getUint16(at + FRAGMENT);
      protocol = this.#fragment > 7 ? IPPROTO_NONE : view.getUint8(at);
      at += bytes;
    }
    this.#transport = protocol === IPPROTO_NONE ? -1 : protocol;
    this.#transportOffset = at;
  }

  #text(at: number): string {
    return formatInet6(bytesAt(this.view, this.start + at, ADDRESS_BYTES), 0);
  }

  #address(at: number, port: number): Inet6Address {
    requireInteger(port, 0, 0xffff, "a port");
    const bytes = new Uint8Array(sockaddr_in6.size);
    const view = new DataView(bytes.buffer);
    sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
    sockaddr_in6.sin6_port.set(view, 0, port);
    copyOut(this.view, this.start + at, ADDRESS_BYTES, bytes, sockaddr_in6.sin6_addr.offset);
    return new Inet6Address(bytes);
  }
}

// Sets an address, and keeps the checksum right that covers it.
function rewrite(
  view: DataView,
  at: number,
  bytes: Uint8Array,
  bytesOffset: number,
  name: string,
  transport: CoveredByAddresses,
): void {
  requireTransport(transport);
  requirePlace(view, name);
  requireRoom(bytes, bytesOffset, ADDRESS_BYTES, name);
  let after = 0;
  for (let i = bytesOffset; i < bytesOffset + ADDRESS_BYTES; i += 2)
    after += ((bytes[i] as number) << 8) | (bytes[i + 1] as number);
  // First what may refuse, being nowhere: then nothing has changed.
  transport.updateChecksum(sumOf(view, at, at + ADDRESS_BYTES, 0), fold(after));
  copyIn(view, at, ADDRESS_BYTES, bytes, bytesOffset, name);
}

// Where the last address of an unfinished route is, or 0.
function routeEnd(view: DataView, at: number, bytes: number): number {
  if (view.getUint8(at + SEGMENTS_LEFT) === 0 || bytes < SEGMENTS + ADDRESS_BYTES) return 0;
  const type = view.getUint8(at + ROUTING_TYPE);
  // RFC 8754 lists the segments from the last to the first.
  if (type === ROUTING_SEGMENTS || type === ROUTING_MOBILE) return at + SEGMENTS;
  if (type !== ROUTING_SOURCE) return 0;
  const count = Math.floor((bytes - SEGMENTS) / ADDRESS_BYTES);
  return at + SEGMENTS + (count - 1) * ADDRESS_BYTES;
}

function parse(text: string, name: string): Uint8Array {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use ${describe(text)} as ${name}: expected a string`);
  const bytes = new Uint8Array(ADDRESS_BYTES);
  if (!parseInet6(text, bytes, 0))
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as ${name}: expected an IPv6 address`);
  return bytes;
}
