import {
  IPPROTO_AH,
  IPPROTO_DSTOPTS,
  IPPROTO_FRAGMENT,
  IPPROTO_HOPOPTS,
  IPPROTO_MH,
  IPPROTO_ROUTING,
} from "../../../structs/constants/netinet_in.ts";
import { ip_auth_hdr } from "../../../structs/ip_auth_hdr.ts";
import { ip6_frag } from "../../../structs/ip6_frag.ts";
import { ipv6_opt_hdr } from "../../../structs/ipv6_opt_hdr.ts";
import { ipv6_rt_hdr } from "../../../structs/ipv6_rt_hdr.ts";
import { describe, requireInteger } from "../../internal/arguments.ts";
import { fits, Header, write8, write32, writeBits16, writeFlag16 } from "./header.ts";
import type { Ipv6Header } from "./ipv6.ts";
import { HeaderOptions } from "./options.ts";

const NEXT = ipv6_opt_hdr.nexthdr.offset;
const LENGTH = ipv6_opt_hdr.hdrlen.offset;
const ROUTING_TYPE = ipv6_rt_hdr.type.offset;
const SEGMENTS_LEFT = ipv6_rt_hdr.segments_left.offset;
const FRAGMENT = ip6_frag.ip6f_offlg.offset;
const FRAGMENT_ID = ip6_frag.ip6f_ident.offset;
const SPI = ip_auth_hdr.spi.offset;
const SEQUENCE = ip_auth_hdr.seq_no.offset;

// RFC 8200: each is a multiple of 8 bytes, the fragment header just these.
const UNIT_BYTES = 8;
const OPTIONS = ipv6_opt_hdr.size;

/** Whether a protocol number stands for an extension header that says what comes behind it. */
export function isExtension(protocol: number): boolean {
  return (
    protocol === IPPROTO_HOPOPTS ||
    protocol === IPPROTO_ROUTING ||
    protocol === IPPROTO_FRAGMENT ||
    protocol === IPPROTO_DSTOPTS ||
    protocol === IPPROTO_AH ||
    protocol === IPPROTO_MH
  );
}

/** The length of an extension header in bytes, by its kind and the byte that tells it. */
export function extensionBytes(protocol: number, said: number): number {
  if (protocol === IPPROTO_FRAGMENT) return UNIT_BYTES;
  // RFC 4302 section 2.2: in units of 4 bytes, minus 2.
  if (protocol === IPPROTO_AH) return (said + 2) * 4;
  return (said + 1) * UNIT_BYTES;
}

/**
 * An extension header of IPv6: hop-by-hop or destination options, routing, fragment, mobility, or
 * authentication. What it is stands in the header before it, so `at` takes it as a third argument;
 * `first` and `next` walk a chain.
 *
 * Encrypted payload (ESP) and "no next header" are no such headers: a chain ends there.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc8200#section-4 | RFC 8200 section 4}
 * @see {@link https://www.rfc-editor.org/rfc/rfc4302 | RFC 4302}
 *
 * @example Walk the chain of a packet
 * ```ts
 * import { Ipv6ExtensionHeader, Ipv6Header } from "bun-sockets/packet";
 *
 * const addresses = `${"0".repeat(31)}1`.repeat(2);
 * const chain = "2c00010400000000" + "1100000000000007";
 * const packet = Buffer.from(`6000000000180040${addresses}${chain}0035003500080000`, "hex");
 * const ip = new Ipv6Header(packet);
 * const extension = new Ipv6ExtensionHeader(packet);
 * if (ip.at(0)) {
 *   for (let more = extension.first(ip); more; more = extension.next())
 *     console.log(extension.type, extension.headerBytes); // 0 8, 44 8
 *   console.log(ip.transportProtocol, ip.transportOffset); // 17 56
 * }
 * ```
 */
export class Ipv6ExtensionHeader extends Header {
  readonly #options = new HeaderOptions("ipv6", this.whole);
  #type = -1;

  /**
   * Moves to a header. True: it is of a kind that says its length, and that many bytes are there.
   *
   * @param type what it is: the next header that the one before says, `IPPROTO_…`. Default: hop by
   *   hop options
   */
  override at(offset: number, end: number = this.limit, type: number = IPPROTO_HOPOPTS): boolean {
    if (isExtension(type) && fits(offset, end, UNIT_BYTES, this.limit)) {
      const bytes = extensionBytes(type, this.whole.getUint8(offset + LENGTH));
      if (bytes <= end - offset && bytes >= UNIT_BYTES) {
        this.view = this.whole;
        this.start = offset;
        this.stop = end;
        this.#type = type;
        return true;
      }
    }
    this.leave();
    return false;
  }

  /** Moves to the first extension header of a packet in the same memory; false: it has none. */
  first(ip: Ipv6Header): boolean {
    if (!(ip instanceof Object))
      throw new TypeError(`Cannot use ${describe(ip)} as a header: expected an Ipv6Header`);
    return this.at(ip.payloadOffset, ip.payloadEnd, ip.isPresent ? ip.nextHeader : -1);
  }

  /** Moves to the header behind this one; false: it is no extension header, or does not fit. */
  next(): boolean {
    if (!this.isPresent) return false;
    // Behind the header of a later fragment are data.
    if (this.fragmentOffset > 0) {
      this.leave();
      return false;
    }
    return this.at(this.payloadOffset, this.stop, this.nextHeader);
  }

  override leave(): void {
    super.leave();
    this.#type = -1;
  }

  /** What the header is: `IPPROTO_HOPOPTS`, `…ROUTING`, `…FRAGMENT`, `…DSTOPTS`, `…AH`; -1 nowhere. */
  get type(): number {
    return this.#type;
  }

  /** Its length in bytes; set in steps of 8, of authentication 4. The fragment header has just 8. */
  get headerBytes(): number {
    if (this.#type === -1) return 0;
    return extensionBytes(this.#type, this.view.getUint8(this.start + LENGTH));
  }

  set headerBytes(value: number) {
    const shortest = extensionBytes(this.#type, 0);
    const longest = extensionBytes(this.#type, 0xff);
    const name = "the length of an extension header";
    requireInteger(value, Math.max(shortest, UNIT_BYTES), longest, name);
    const unit = this.#type === IPPROTO_AH ? 4 : UNIT_BYTES;
    if (value % unit !== 0)
      throw new RangeError(`Cannot use ${value} as ${name}: expected a multiple of ${unit}`);
    if (this.#type !== IPPROTO_FRAGMENT)
      write8(this.view, this.start + LENGTH, (value - shortest) / unit, name);
  }

  /** Where what is behind the header begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + this.headerBytes, this.stop);
  }

  /** What is behind it: `IPPROTO_…`. */
  get nextHeader(): number {
    return this.view.getUint8(this.start + NEXT);
  }

  set nextHeader(value: number) {
    write8(this.view, this.start + NEXT, value, "a next header");
  }

  /** The options of a hop-by-hop or destination header, from the first; of another, none. */
  get options(): HeaderOptions {
    const hasOptions = this.#type === IPPROTO_HOPOPTS || this.#type === IPPROTO_DSTOPTS;
    const end = hasOptions ? this.payloadOffset : this.start;
    return this.#options.rewind(this.view, this.start + OPTIONS, end);
  }

  /** The type of a routing header; 0 in another. */
  get routingType(): number {
    return this.#is(IPPROTO_ROUTING) ? this.view.getUint8(this.start + ROUTING_TYPE) : 0;
  }

  set routingType(value: number) {
    this.#require(IPPROTO_ROUTING, "a routing type");
    write8(this.view, this.start + ROUTING_TYPE, value, "a routing type");
  }

  /** How many stops of a routing header are still to come; 0 in another. */
  get segmentsLeft(): number {
    return this.#is(IPPROTO_ROUTING) ? this.view.getUint8(this.start + SEGMENTS_LEFT) : 0;
  }

  set segmentsLeft(value: number) {
    this.#require(IPPROTO_ROUTING, "the segments left");
    write8(this.view, this.start + SEGMENTS_LEFT, value, "the segments left");
  }

  /** Where a fragment lies in the packet, in bytes; set in steps of 8. 0 in another header. */
  get fragmentOffset(): number {
    return this.#is(IPPROTO_FRAGMENT) ? this.view.getUint16(this.start + FRAGMENT) & 0xfff8 : 0;
  }

  set fragmentOffset(value: number) {
    this.#require(IPPROTO_FRAGMENT, "a fragment offset");
    requireInteger(value, 0, 0xfff8, "a fragment offset");
    if (value % 8 !== 0)
      throw new RangeError(`Cannot use ${value} as a fragment offset: expected a multiple of 8`);
    writeBits16(this.view, this.start + FRAGMENT, 3, 13, value / 8, "a fragment offset");
  }

  /** Whether more fragments follow; false in another header. */
  get moreFragments(): boolean {
    return this.#is(IPPROTO_FRAGMENT) && (this.view.getUint16(this.start + FRAGMENT) & 1) !== 0;
  }

  set moreFragments(value: boolean) {
    this.#require(IPPROTO_FRAGMENT, "a flag");
    writeFlag16(this.view, this.start + FRAGMENT, 0, value, "a flag");
  }

  /** What the fragments of a packet have in common, 32 bits; 0 in another header. */
  get identification(): number {
    return this.#is(IPPROTO_FRAGMENT) ? this.view.getUint32(this.start + FRAGMENT_ID) : 0;
  }

  set identification(value: number) {
    this.#require(IPPROTO_FRAGMENT, "an identification");
    write32(this.view, this.start + FRAGMENT_ID, value, "an identification");
  }

  /** The security parameters index of an authentication header; 0 in another. */
  get securityParametersIndex(): number {
    return this.#is(IPPROTO_AH) ? this.view.getUint32(this.start + SPI) : 0;
  }

  set securityParametersIndex(value: number) {
    this.#require(IPPROTO_AH, "a security parameters index");
    write32(this.view, this.start + SPI, value, "a security parameters index");
  }

  /** The sequence number of an authentication header; 0 in another, or in one too short for it. */
  get sequence(): number {
    return this.#is(IPPROTO_AH) && this.#hasSequence()
      ? this.view.getUint32(this.start + SEQUENCE)
      : 0;
  }

  set sequence(value: number) {
    this.#require(IPPROTO_AH, "a sequence number");
    if (!this.#hasSequence())
      throw new RangeError(
        "Cannot set a sequence number: the authentication header ends before it",
      );
    write32(this.view, this.start + SEQUENCE, value, "a sequence number");
  }

  #hasSequence(): boolean {
    return this.payloadOffset - this.start >= SEQUENCE + 4;
  }

  #is(type: number): boolean {
    return this.#type === type;
  }

  #require(type: number, name: string): void {
    if (this.#type !== type)
      throw new TypeError(
        `Cannot set ${name} of an extension header that has none: it is ${this.#type}`,
      );
  }
}
