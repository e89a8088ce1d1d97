import { IPPROTO_TCP } from "../../../structs/constants/netinet_in.ts";
import {
  TCPOLEN_MAXSEG,
  TCPOLEN_SACK_PERMITTED,
  TCPOLEN_TIMESTAMP,
  TCPOLEN_WINDOW,
  TCPOPT_MAXSEG,
  TCPOPT_SACK,
  TCPOPT_SACK_PERMITTED,
  TCPOPT_TIMESTAMP,
  TCPOPT_WINDOW,
} from "../../../structs/constants/netinet_tcp.ts";
import { tcphdr } from "../../../structs/tcphdr.ts";
import { requireInteger } from "../../internal/arguments.ts";
import type { ChecksumStatus } from "../checksum.ts";
import { update16 } from "../internal/sum.ts";
import {
  fits,
  Header,
  requirePlace,
  toWord,
  write16,
  write32,
  writeBits8,
  writeBits16,
  writeFlag8,
} from "./header.ts";
import { type IpHeader, requireIp, statusOf, sumWithout } from "./ip.ts";
import { HeaderOptions } from "./options.ts";

const SOURCE = tcphdr.source.offset;
const DESTINATION = tcphdr.dest.offset;
const SEQUENCE = tcphdr.seq.offset;
const ACKNOWLEDGMENT = tcphdr.ack_seq.offset;
const WINDOW = tcphdr.window.offset;
const CHECKSUM = tcphdr.check.offset;
const URGENT = tcphdr.urg_ptr.offset;
const BYTES = tcphdr.size;
const BYTES_MAX = 60;

// Two bytes: the length of the header and flags; and flags.
const LENGTH = tcphdr.doff.offset;
const FLAGS = LENGTH + 1;
const FLAGS_BITS = 9;

const SACK_BLOCK_BYTES = 8;

/**
 * The header of a TCP segment: 20 bytes, and up to 40 of options.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc9293 | RFC 9293}
 *
 * @example What a connection begins with
 * ```ts
 * import { TcpHeader } from "bun-sockets/packet";
 *
 * const hex = "c0000050" + "00000001" + "00000000" + "7002ffff" + "00000000" + "020405b4" + "01030307";
 * const tcp = new TcpHeader(Buffer.from(hex, "hex"));
 * if (tcp.at(0)) {
 *   console.log(tcp.syn, tcp.ack, tcp.maximumSegmentBytes, tcp.windowScale); // true false 1460 7
 *   const options = tcp.options;
 *   while (options.next()) console.log(options.kind, options.bytes); // 2 4, 3 3
 * }
 * ```
 */
export class TcpHeader extends Header {
  readonly #options = new HeaderOptions("tcp", this.whole);

  /** Moves to a header. True: it says a length of at least 20 bytes, and so many are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (fits(offset, end, BYTES, this.limit)) {
      const bytes = (this.whole.getUint8(offset + LENGTH) >>> 4) * 4;
      if (bytes >= BYTES && bytes <= end - offset) {
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
    return (this.view.getUint8(this.start + LENGTH) >>> 4) * 4;
  }

  set headerBytes(value: number) {
    const name = "the length of a TCP header";
    requireInteger(value, BYTES, BYTES_MAX, name);
    if (value % 4 !== 0)
      throw new RangeError(`Cannot use ${value} as ${name}: expected a multiple of 4`);
    writeBits8(this.view, this.start + LENGTH, 4, 4, value / 4, name);
  }

  /** Where the data begin: behind the options. */
  override get payloadOffset(): number {
    return Math.min(this.start + this.headerBytes, this.stop);
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

  /** The number of the first byte of data, 32 bits. */
  get sequence(): number {
    return this.view.getUint32(this.start + SEQUENCE);
  }

  set sequence(value: number) {
    write32(this.view, this.start + SEQUENCE, value, "a sequence number");
  }

  /** The number of the byte that is expected next, 32 bits; it counts where `ack` is set. */
  get acknowledgment(): number {
    return this.view.getUint32(this.start + ACKNOWLEDGMENT);
  }

  set acknowledgment(value: number) {
    write32(this.view, this.start + ACKNOWLEDGMENT, value, "an acknowledgment number");
  }

  /** All flags as bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128, AE 256. */
  get flags(): number {
    return this.view.getUint16(this.start + LENGTH) & 0x1ff;
  }

  set flags(value: number) {
    writeBits16(this.view, this.start + LENGTH, 0, FLAGS_BITS, value, "flags");
  }

  /** Whether the sender has sent all. */
  get fin(): boolean {
    return this.#flag(0);
  }

  set fin(value: boolean) {
    this.#setFlag(0, value);
  }

  /** Whether a connection begins. */
  get syn(): boolean {
    return this.#flag(1);
  }

  set syn(value: boolean) {
    this.#setFlag(1, value);
  }

  /** Whether the connection is broken off. */
  get rst(): boolean {
    return this.#flag(2);
  }

  set rst(value: boolean) {
    this.#setFlag(2, value);
  }

  /** Whether the data are to be handed on at once. */
  get psh(): boolean {
    return this.#flag(3);
  }

  set psh(value: boolean) {
    this.#setFlag(3, value);
  }

  /** Whether the acknowledgment number counts. */
  get ack(): boolean {
    return this.#flag(4);
  }

  set ack(value: boolean) {
    this.#setFlag(4, value);
  }

  /** Whether the urgent pointer counts. */
  get urg(): boolean {
    return this.#flag(5);
  }

  set urg(value: boolean) {
    this.#setFlag(5, value);
  }

  /** Whether congestion was met: RFC 3168. */
  get ece(): boolean {
    return this.#flag(6);
  }

  set ece(value: boolean) {
    this.#setFlag(6, value);
  }

  /** Whether the sender has slowed down for it: RFC 3168. */
  get cwr(): boolean {
    return this.#flag(7);
  }

  set cwr(value: boolean) {
    this.#setFlag(7, value);
  }

  /** How much may be sent, in bytes, before it is scaled. */
  get window(): number {
    return this.view.getUint16(this.start + WINDOW);
  }

  set window(value: number) {
    write16(this.view, this.start + WINDOW, value, "a window");
  }

  /** The checksum, of pseudo-header, header and data. */
  get checksum(): number {
    return this.view.getUint16(this.start + CHECKSUM);
  }

  set checksum(value: number) {
    write16(this.view, this.start + CHECKSUM, value, "a checksum");
  }

  /** Where urgent data end, counted from `sequence`; it counts where `urg` is set. */
  get urgentPointer(): number {
    return this.view.getUint16(this.start + URGENT);
  }

  set urgentPointer(value: number) {
    write16(this.view, this.start + URGENT, value, "an urgent pointer");
  }

  /** The options, from the first: one walk for each header, which every call rewinds. */
  get options(): HeaderOptions {
    return this.#options.rewind(this.view, this.start + BYTES, this.payloadOffset);
  }

  /**
   * The largest segment that the sender takes, in bytes; undefined: the option is not there.
   * Setting it changes an option that is there, and leaves the checksum: `rewriteMaximumSegmentBytes`
   * keeps it.
   *
   * @throws {TypeError} on setting: there is no such option
   */
  get maximumSegmentBytes(): number | undefined {
    return this.#find(TCPOPT_MAXSEG, TCPOLEN_MAXSEG) ? this.#options.uint16(0) : undefined;
  }

  set maximumSegmentBytes(value: number) {
    this.#require(TCPOPT_MAXSEG, TCPOLEN_MAXSEG, "a maximum segment size");
    this.#options.setUint16(0, value);
  }

  /** By how many bits windows are shifted; undefined: the option is not there. Set as above. */
  get windowScale(): number | undefined {
    return this.#find(TCPOPT_WINDOW, TCPOLEN_WINDOW) ? this.#options.uint8(0) : undefined;
  }

  set windowScale(value: number) {
    this.#require(TCPOPT_WINDOW, TCPOLEN_WINDOW, "a window scale");
    this.#options.setUint8(0, value);
  }

  /** Whether selective acknowledgments are understood: RFC 2018. */
  get sackPermitted(): boolean {
    return this.#find(TCPOPT_SACK_PERMITTED, TCPOLEN_SACK_PERMITTED);
  }

  /** How many blocks are selectively acknowledged. */
  get sackBlocks(): number {
    return this.#find(TCPOPT_SACK, 0) ? Math.floor(this.#options.valueBytes / SACK_BLOCK_BYTES) : 0;
  }

  /** The number of the first byte of a block, by its index; undefined: there are not so many. */
  sackStart(index: number): number | undefined {
    const isThere = isIndex(index) && index < this.sackBlocks;
    return isThere ? this.#options.uint32(index * SACK_BLOCK_BYTES) : undefined;
  }

  /** The number of the byte behind a block, by its index; undefined: there are not so many. */
  sackEnd(index: number): number | undefined {
    const isThere = isIndex(index) && index < this.sackBlocks;
    return isThere ? this.#options.uint32(index * SACK_BLOCK_BYTES + 4) : undefined;
  }

  /** The sender's clock, 32 bits: RFC 7323; undefined: the option is not there. Set as above. */
  get timestamp(): number | undefined {
    return this.#find(TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP) ? this.#options.uint32(0) : undefined;
  }

  set timestamp(value: number) {
    this.#require(TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP, "a timestamp");
    this.#options.setUint32(0, value);
  }

  /** The timestamp that it answers; undefined: the option is not there. Set as above. */
  get timestampEcho(): number | undefined {
    return this.#find(TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP) ? this.#options.uint32(4) : undefined;
  }

  set timestampEcho(value: number) {
    this.#require(TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP, "a timestamp");
    this.#options.setUint32(4, value);
  }

  /** Sets the port it comes from, and keeps the checksum right. */
  rewriteSourcePort(value: number): void {
    const before = this.sourcePort;
    this.sourcePort = value;
    this.updateChecksum(before, value);
  }

  /** Sets the port it goes to, and keeps the checksum right. */
  rewriteDestinationPort(value: number): void {
    const before = this.destinationPort;
    this.destinationPort = value;
    this.updateChecksum(before, value);
  }

  /**
   * Sets the largest segment that the sender takes, and keeps the checksum right.
   *
   * @returns whether the option is there; where it is not, nothing is changed
   */
  rewriteMaximumSegmentBytes(value: number): boolean {
    const before = this.maximumSegmentBytes;
    if (before === undefined) return false;
    const isOdd = (this.#options.valueOffset - this.start) % 2 === 1;
    this.#options.setUint16(0, value);
    // At an odd place its bytes are in two words, each in the other half.
    if (isOdd) this.updateChecksum(swap(before), swap(value));
    else this.updateChecksum(before, value);
    return true;
  }

  /**
   * Keeps the checksum right after 16 bits that it covers have changed, at an even offset of the
   * segment or of the pseudo-header. An unfinished checksum is to be filled first.
   *
   * @see {@link https://www.rfc-editor.org/rfc/rfc1624 | RFC 1624}
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
    return requireIp(ip).pseudoHeaderSum(IPPROTO_TCP, this.stop - this.start);
  }

  #sum(pseudo: number): number {
    return sumWithout(this.view, this.start, this.stop, this.start + CHECKSUM, pseudo);
  }

  #flag(bit: number): boolean {
    return (this.view.getUint8(this.start + FLAGS) & (1 << bit)) !== 0;
  }

  #setFlag(bit: number, value: boolean): void {
    writeFlag8(this.view, this.start + FLAGS, bit, value, "a flag");
  }

  // Moves the walk to the first option of a kind that has its length; 0 is any.
  #find(kind: number, bytes: number): boolean {
    const { options } = this;
    while (options.next())
      if (options.kind === kind && (bytes === 0 || options.bytes === bytes)) return true;
    return false;
  }

  #require(kind: number, bytes: number, name: string): void {
    requirePlace(this.view, name);
    if (!this.#find(kind, bytes))
      throw new TypeError(`Cannot set ${name}: there is no such option`);
  }
}

function isIndex(index: unknown): index is number {
  return typeof index === "number" && index >>> 0 === index;
}

function swap(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
