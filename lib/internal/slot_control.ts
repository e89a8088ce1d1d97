import { ETH_P_8021Q } from "../../structs/constants/linux_if_ether.ts";
import {
  PACKET_AUXDATA,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from "../../structs/constants/linux_if_packet.ts";
import {
  IP_PKTINFO,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_UDP,
  IPV6_HOPLIMIT,
  IPV6_PKTINFO,
  IPV6_TCLASS,
} from "../../structs/constants/netinet_in.ts";
import { UDP_GRO, UDP_SEGMENT } from "../../structs/constants/netinet_udp.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  SCM_TXTIME,
  SO_MARK,
  SO_RXQ_OVFL,
  SO_TIMESTAMP_NEW,
  SO_TIMESTAMP_OLD,
  SO_TIMESTAMPING_NEW,
  SO_TIMESTAMPING_OLD,
  SO_TIMESTAMPNS_NEW,
  SO_TIMESTAMPNS_OLD,
  SOL_PACKET,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { mmsghdr } from "../../structs/mmsghdr.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { tpacket_auxdata } from "../../structs/tpacket_auxdata.ts";
import type { Address } from "../address.ts";
import type { PacketChecksum } from "../control.ts";
import { NativeBuffer } from "../native_buffer.ts";
import { checksumOf } from "./packet_status.ts";
import { SenderTable } from "./sender_table.ts";

/** The tables of a batch, as far as control messages are concerned. Offsets are in bytes. */
export interface SlotTables {
  readonly capacity: number;
  /** Which memory slot i uses. The batch changes it. */
  readonly homes: Uint16Array;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** The address of `words`. */
  readonly address: number;
  /** Where the headers to send with begin; those to receive with are at 0. */
  readonly sendHeaders: number;
  /** Where the control messages to send begin: `sentStride(controlBytes)` for each slot. */
  readonly sentControl: number;
}

// The IP that a datagram goes out by; on a socket of another family none.
const NO_IP = 0;
const IPV4 = 4;
const IPV6 = 6;

/** Room for the control messages to send of one slot. The segment size has room of its own. */
export function sentStride(controlBytes: number): number {
  return controlBytes === 0 ? 0 : aligned(controlBytes) + INTEGER_SPACE;
}

// What is known of the memory of a slot, and what the caller has written there.
const PARSED = 1;
const SOURCE = 2;
const INTERFACE = 4;
const TTL = 8;
const CLASS = 16;
const MARK = 32;
const TIME = 64;
const SEGMENT = 128;
const RAW = 256;
/** The payload is the caller's: what the kernel told of the segments of the last one is over. */
const REPLACED = 512;

const WRITTEN = SOURCE | INTERFACE | TTL | CLASS | MARK | TIME | SEGMENT | RAW;

// Words that hold what was told of one slot, and what is to be said: a cache line each.
const STRIDE = 16;

// What was told. The first word has the bits below.
const TOLD_TTL = 1;
const TOLD_CLASS = 2;
const TOLD_INTERFACE = 3;
const TOLD_SEGMENT = 4;
const TOLD_DROPPED = 5;
const TOLD_MARK = 6;
const TOLD_SECONDS = 7; // two words
const TOLD_NANOSECONDS = 9;
const TOLD_DESTINATION = 10; // four words, an IPv4 address as a mapped one
const TOLD_LOCAL = 14; // of IPv4: the address of this machine that it was for

// Of packet sockets, which tell no destination: two words in the place of it.
const TOLD_STATUS = 10;
const TOLD_VLAN = 11; // the protocol of the tag in the upper half

// The kernel keeps no interface for what came before anybody asked, and then says 0: there is none.
const NOT_TOLD = -1;

// What has no value that stands for "not told".
const HAS_DROPPED = 1;
const HAS_MARK = 2;
const HAS_DESTINATION = 4;
const HAS_LOCAL = 8;
const HAS_AUXILIARY = 16;

// What is to be said.
const SAID_SOURCE = 0; // four words, an IPv4 address as a mapped one
const SAID_SCOPE = 4;
const SAID_INTERFACE = 5;
const SAID_TTL = 6;
const SAID_CLASS = 7;
const SAID_MARK = 8;
const SAID_TIME = 9; // two words
const SAID_SEGMENT = 11;
const SAID_RAW = 12;

// A struct cmsghdr in words, and what the messages take, in bytes.
const HEAD = 4;
const HEAD_BYTES = HEAD * 4;
const INTEGER_SPACE = 24;
const INFO_BYTES = 12;
const INFO6_BYTES = 20;
const INFO6_SPACE = 40;
const TIMESPEC_BYTES = 16;
const AUXILIARY_VLAN = tpacket_auxdata.tp_vlan_tci.offset / 4;
const TIMESPEC_WORDS = TIMESPEC_BYTES / 4;
const TIMESTAMPING_BYTES = 3 * TIMESPEC_BYTES;

const HEADER_WORDS = mmsghdr.size / 4;
const CONTROL_WORD = msghdr.msg_control.offset / 4;
const LENGTH_WORD = msghdr.msg_controllen.offset / 4;

// The first half of 169.254.0.0/16.
const LINK_LOCAL4 = 0xfea9;
/** The third word of an IPv4-mapped address, on machines that store the low byte first. */
const MAPPED = 0xffff0000 | 0;

// Local addresses are few; but whole networks can be local (AnyIP).
const DESTINATIONS_MAX = 1024;

/**
 * The control messages of the slots of a batch: those that came, read at the first question and into
 * words, so that no question allocates; and those that go, written when the slot is sent.
 *
 * What is known belongs to the memory of a slot (its home), so it goes along when slots are
 * exchanged. The length of what came stands in the header, as the kernel wrote it.
 */
export class SlotControl {
  readonly #tables: SlotTables;
  readonly controlBytes: number;
  readonly #receivedStride: number;
  readonly #sentStride: number;
  readonly #received: NativeBuffer | undefined;
  /** Views of the received area that no caller can reach: empty when it is gone. */
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #state: Uint16Array;
  /** Made when first asked or written. */
  #told: Int32Array | undefined;
  #said: Int32Array | undefined;
  #destinations: SenderTable | undefined;
  #name: Int32Array | undefined;
  /** The destination that was asked for last, and the words of it. */
  readonly #latest = new Int32Array(5);
  #latestDestination: Address | undefined;
  /** Whether some state is not 0. */
  #isTouched = false;
  /** How much room the headers offer the kernel. */
  #room = 0;
  /** The headers below tell how much came; the others how much room there is. */
  #end = 0;
  #domain = AF_INET;

  constructor(tables: SlotTables, controlBytes: number) {
    const { capacity } = tables;
    this.#tables = tables;
    this.controlBytes = controlBytes;
    this.#receivedStride = aligned(controlBytes);
    this.#sentStride = sentStride(controlBytes);
    this.#received =
      controlBytes === 0 ? undefined : new NativeBuffer(capacity * this.#receivedStride);
    const buffer = this.#received?.bytes.buffer ?? new ArrayBuffer(0);
    this.#words = new Int32Array(buffer);
    this.#bytes = new Uint8Array(buffer);
    this.#state = new Uint16Array(capacity);
    for (let i = 0; i < capacity; i++) {
      const at = (tables.sendHeaders >> 2) + i * HEADER_WORDS + CONTROL_WORD;
      if (controlBytes > 0)
        setPointer(tables.words, at, tables.address + tables.sentControl + i * this.#sentStride);
    }
  }

  /** Whether a caller has transferred the memory away, or it was freed. */
  get gone(): boolean {
    return this.#received !== undefined && this.#words.length === 0;
  }

  free(): void {
    this.#received?.free();
  }

  /** Overwrites what came, and forgets what was told and written. */
  poison(byte: number): void {
    if (!this.gone) this.#bytes.fill(byte);
    this.#forget();
  }

  #forget(): void {
    if (this.#isTouched) this.#state.fill(0);
    this.#isTouched = false;
  }

  /** Before a receive: offers room, and forgets what was told and written. */
  begin(domain: number): void {
    // A Unix socket would put descriptors there, which nobody would own.
    const room = domain === AF_UNIX ? 0 : this.controlBytes;
    if (room !== this.#room) this.#offer(room);
    else if (room > 0) {
      const { words } = this.#tables;
      for (let i = 0; i < this.#end; i++) words[i * HEADER_WORDS + LENGTH_WORD] = room;
    }
    this.#end = 0;
    if (domain !== this.#domain) this.#latestDestination = undefined;
    this.#domain = domain;
    this.#forget();
  }

  /** After a receive. */
  end(received: number): void {
    if (this.#room > 0) this.#end = received;
  }

  #offer(room: number): void {
    const { words, homes, capacity } = this.#tables;
    const base = this.#received?.address ?? 0;
    for (let i = 0; i < capacity; i++) {
      const at = i * HEADER_WORDS;
      const pointer = room === 0 ? 0 : base + (homes[i] as number) * this.#receivedStride;
      setPointer(words, at + CONTROL_WORD, pointer);
      words[at + LENGTH_WORD] = room;
    }
    this.#room = room;
  }

  /** Before the headers of slots change places: what one says must not depend on its place. */
  settle(i: number): void {
    if (this.#room === 0) return;
    const { words } = this.#tables;
    for (; this.#end <= i; this.#end++) words[this.#end * HEADER_WORDS + LENGTH_WORD] = 0;
  }

  /** Bytes of control messages that came with slot i. */
  length(i: number): number {
    if (i >= this.#end) return 0;
    const length = this.#tables.words[i * HEADER_WORDS + LENGTH_WORD] as number;
    return Math.min(length >>> 0, this.controlBytes);
  }

  /** The bytes themselves. */
  view(i: number): Uint8Array<ArrayBuffer> {
    const at = this.#home(i) * this.#receivedStride;
    return this.#bytes.subarray(at, at + this.length(i));
  }

  ttl(i: number): number {
    return this.#fact(i, TOLD_TTL);
  }

  trafficClass(i: number): number {
    return this.#fact(i, TOLD_CLASS);
  }

  interfaceIndex(i: number): number {
    return this.#fact(i, TOLD_INTERFACE);
  }

  timestampNanoseconds(i: number): number {
    return this.#fact(i, TOLD_NANOSECONDS);
  }

  timestampSeconds(i: number): number {
    const at = this.#ask(i);
    const told = this.#told as Int32Array;
    if ((told[at + TOLD_NANOSECONDS] as number) < 0) return -1;
    const low = (told[at + TOLD_SECONDS] as number) >>> 0;
    return low + (told[at + TOLD_SECONDS + 1] as number) * 2 ** 32;
  }

  dropped(i: number): number {
    return this.#unsigned(i, TOLD_DROPPED, HAS_DROPPED);
  }

  mark(i: number): number {
    return this.#unsigned(i, TOLD_MARK, HAS_MARK);
  }

  packetStatus(i: number): number {
    return this.#unsigned(i, TOLD_STATUS, HAS_AUXILIARY);
  }

  vlan(i: number): number {
    const status = this.packetStatus(i);
    return status >= 0 && status & TP_STATUS_VLAN_VALID ? this.#fact(i, TOLD_VLAN) & 0xffff : -1;
  }

  vlanProtocol(i: number): number {
    const status = this.packetStatus(i);
    if (status < 0 || (status & TP_STATUS_VLAN_VALID) === 0) return -1;
    return status & TP_STATUS_VLAN_TPID_VALID ? this.#fact(i, TOLD_VLAN) >>> 16 : ETH_P_8021Q;
  }

  checksum(i: number): PacketChecksum {
    return checksumOf(this.packetStatus(i));
  }

  #fact(i: number, fact: number): number {
    const at = this.#ask(i);
    return (this.#told as Int32Array)[at + fact] as number;
  }

  #unsigned(i: number, fact: number, bit: number): number {
    const at = this.#ask(i);
    const told = this.#told as Int32Array;
    return (told[at] as number) & bit ? (told[at + fact] as number) >>> 0 : -1;
  }

  /** What size the datagrams of slot i have, of which `length` bytes are in use. */
  segmentBytes(i: number, length: number): number {
    const segment = this.#segment(i);
    return segment > 0 && segment < length ? segment : length;
  }

  #segment(i: number): number {
    const home = this.#home(i);
    const state = this.#state[home] as number;
    if (state & SEGMENT) return (this.#said as Int32Array)[home * STRIDE + SAID_SEGMENT] as number;
    if (state & REPLACED || this.length(i) === 0) return 0;
    return this.#fact(i, TOLD_SEGMENT);
  }

  /** Where the datagram in slot i was sent to: an address of the socket's family, with port 0. */
  destination(i: number): Address | undefined {
    const at = this.#ask(i);
    const told = this.#told as Int32Array;
    if (((told[at] as number) & HAS_DESTINATION) === 0) return undefined;
    // Most datagrams were sent to where the one before was.
    const latest = this.#latest;
    const address = at + TOLD_DESTINATION;
    if (
      this.#latestDestination &&
      latest[0] === told[address] &&
      latest[1] === told[address + 1] &&
      latest[2] === told[address + 2] &&
      latest[3] === told[address + 3] &&
      latest[4] === told[at + TOLD_INTERFACE]
    )
      return this.#latestDestination;
    for (let k = 0; k < 4; k++) latest[k] = told[address + k] as number;
    latest[4] = told[at + TOLD_INTERFACE] as number;
    this.#latestDestination = this.#findDestination(told, at);
    return this.#latestDestination;
  }

  #findDestination(told: Int32Array, at: number): Address {
    this.#name ??= new Int32Array(sockaddr_in6.size / 4);
    this.#destinations ??= new SenderTable(DESTINATIONS_MAX);
    const length = this.#writeName(this.#name, told, at);
    return this.#destinations.address(this.#destinations.number(this.#name, 0, length));
  }

  // A sockaddr, with the interface as scope where the kernel gives senders one.
  #writeName(name: Int32Array, told: Int32Array, at: number): number {
    const address = at + TOLD_DESTINATION;
    if (this.#domain === AF_INET) {
      name[0] = AF_INET;
      name[1] = told[address + 3] as number;
      name[2] = name[3] = 0;
      return sockaddr_in.size;
    }
    name[0] = AF_INET6;
    name[1] = 0;
    for (let k = 0; k < 4; k++) name[2 + k] = told[address + k] as number;
    const index = told[at + TOLD_INTERFACE] as number;
    name[6] = index > 0 && needsScope(told[address] as number) ? index : 0;
    return sockaddr_in6.size;
  }

  /** Whether the kernel told where slot i was sent to. */
  knowsDestination(i: number): boolean {
    const at = this.#ask(i);
    return (((this.#told as Int32Array)[at] as number) & HAS_DESTINATION) !== 0;
  }

  /** Why it did not, for an error. */
  whyNoDestination(i: number, isTruncated: boolean): string {
    if (this.controlBytes === 0) return "the DatagramBatch was made with 0 controlBytes";
    if (this.#domain !== AF_INET && this.#domain !== AF_INET6)
      return "the socket that it was received from is none of IP";
    if (i >= this.#end) return "no datagram was received into it";
    if (isTruncated)
      return `controlBytes is too small: ${this.controlBytes} bytes do not hold all that the kernel had to tell`;
    const group = this.#domain === AF_INET ? "IpOption" : "Ipv6Option";
    return `${group}.receivePacketInfo was off`;
  }

  /** Makes where slot j was sent to, and where it goes out, that of slot i too. */
  copyPath(i: number, j: number): void {
    const home = this.#home(i);
    const other = this.#home(j);
    const way = SOURCE | INTERFACE;
    const state = this.#state[home] as number;
    const written = (this.#state[other] as number) & way;
    if (((state & way) | written) !== 0) {
      const said = this.#require(home, (state & ~way) | written);
      for (let k = SAID_SOURCE; k <= SAID_INTERFACE; k++)
        said[home * STRIDE + k] = said[other * STRIDE + k] as number;
      this.#set(home, (state & ~way) | written);
    }
    if (this.length(i) === 0 && this.length(j) === 0 && !this.#isTouched) return;
    const from = this.#ask(j);
    const to = this.#ask(i);
    const told = this.#told as Int32Array;
    const path = HAS_DESTINATION | HAS_LOCAL;
    told[to] = ((told[to] as number) & ~path) | ((told[from] as number) & path);
    told[to + TOLD_INTERFACE] = told[from + TOLD_INTERFACE] as number;
    for (let k = TOLD_DESTINATION; k <= TOLD_LOCAL; k++) told[to + k] = told[from + k] as number;
  }

  /**
   * Makes slot i, whose destination is known, go out from there. Without `writes` it only throws
   * what it would throw.
   */
  reply(i: number, writes: boolean): void {
    const at = this.#ask(i);
    const told = this.#told as Int32Array;
    const home = this.#home(i);
    const state = (this.#state[home] as number) & ~(SOURCE | INTERFACE);
    const said = this.#require(home, state | SOURCE);
    if (!writes) return;
    const address = at + TOLD_DESTINATION;
    const to = home * STRIDE;
    const isIpv4 = isMapped(told, address);
    const hasLocal = ((told[at] as number) & HAS_LOCAL) !== 0;
    const first = told[address] as number;
    const quad = told[hasLocal ? at + TOLD_LOCAL : address + 3] as number;
    // Nobody answers from the address of a group, or of everybody. IPv4 tells which of this machine's
    // it was for; where that is not known, the route decides.
    const isGroup = isIpv4 ? (quad & 0xff) >= 224 : (first & 0xff) === 0xff;
    const index = told[at + TOLD_INTERFACE] as number;
    const isLinkLocal = isIpv4 ? (quad & 0xffff) === LINK_LOCAL4 : needsScope(first);
    for (let k = 0; k < 3; k++) said[to + SAID_SOURCE + k] = told[address + k] as number;
    said[to + SAID_SOURCE + 3] = isIpv4 ? quad : (told[address + 3] as number);
    said[to + SAID_SCOPE] = 0;
    said[to + SAID_INTERFACE] = index;
    this.#set(home, state | (isGroup ? 0 : SOURCE) | (isLinkLocal && index > 0 ? INTERFACE : 0));
  }

  /** @param name a sockaddr of IP, whose port does not matter */
  setSource(i: number, name: Uint8Array | undefined): void {
    const home = this.#home(i);
    const state = this.#state[home] as number;
    if (!name) {
      this.#set(home, state & ~SOURCE);
      return;
    }
    const said = this.#require(home, state | SOURCE);
    const to = home * STRIDE;
    if (name.length === sockaddr_in.size) {
      said[to] = said[to + 1] = said[to + SAID_SCOPE] = 0;
      said[to + 2] = MAPPED;
      said[to + 3] = wordAt(name, sockaddr_in.sin_addr.offset);
    } else {
      const from = sockaddr_in6.sin6_addr.offset;
      for (let k = 0; k < 4; k++) said[to + k] = wordAt(name, from + 4 * k);
      said[to + SAID_SCOPE] = wordAt(name, sockaddr_in6.sin6_scope_id.offset);
    }
    this.#set(home, state | SOURCE);
  }

  setInterfaceIndex(i: number, index: number): void {
    this.#say(i, INTERFACE, SAID_INTERFACE, index === 0 ? undefined : index);
  }

  setTtl(i: number, ttl: number | undefined): void {
    this.#say(i, TTL, SAID_TTL, ttl);
  }

  setTrafficClass(i: number, trafficClass: number | undefined): void {
    this.#say(i, CLASS, SAID_CLASS, trafficClass);
  }

  setEcn(i: number, ecn: number): void {
    const home = this.#home(i);
    const isWritten = ((this.#state[home] as number) & CLASS) !== 0;
    const written = isWritten ? (this.#toWrite()[home * STRIDE + SAID_CLASS] as number) : 0;
    this.#say(i, CLASS, SAID_CLASS, (written & ~3) | ecn);
  }

  setMark(i: number, mark: number | undefined): void {
    this.#say(i, MARK, SAID_MARK, mark);
  }

  setSegmentBytes(i: number, bytes: number | undefined): void {
    this.#say(i, SEGMENT, SAID_SEGMENT, bytes);
  }

  /** The time in nanoseconds, as two words. */
  setTransmitTime(i: number, low: number | undefined, high: number): void {
    this.#say(i, TIME, SAID_TIME, low);
    if (low !== undefined) this.#toWrite()[this.#home(i) * STRIDE + SAID_TIME + 1] = high;
  }

  #say(i: number, bit: number, word: number, value: number | undefined): void {
    const home = this.#home(i);
    const state = this.#state[home] as number;
    if (value === undefined) {
      this.#set(home, state & ~bit);
      return;
    }
    const said = this.#require(home, state | bit);
    said[home * STRIDE + word] = value;
    this.#set(home, state | bit);
  }

  /** Control messages as the caller wrote them. */
  setControl(i: number, bytes: Uint8Array): void {
    const home = this.#home(i);
    const state = this.#state[home] as number;
    const { length } = bytes;
    if (length === 0) {
      this.#set(home, state & ~RAW);
      return;
    }
    const said = this.#require(home, state | RAW, length);
    const at = this.#tables.sentControl + home * this.#sentStride;
    this.#tables.bytes.set(bytes, at);
    this.#tables.bytes.fill(0, at + length, at + aligned(length));
    said[home * STRIDE + SAID_RAW] = length;
    this.#set(home, state | RAW);
  }

  /** The payload of slot i is the caller's from now on, and no train any more. */
  replace(i: number): void {
    if (i >= this.#end) return;
    const home = this.#home(i);
    this.#set(home, (this.#state[home] as number) | REPLACED);
  }

  #set(home: number, state: number): void {
    this.#state[home] = state;
    this.#isTouched = true;
  }

  // The words to write to, if there is room for all that the state says.
  #require(home: number, state: number, rawBytes?: number): Int32Array {
    const said = this.#toWrite();
    const raw = state & RAW ? (rawBytes ?? (said[home * STRIDE + SAID_RAW] as number)) : 0;
    let bytes = aligned(raw) + (state & (SOURCE | INTERFACE) ? INFO6_SPACE : 0);
    for (const bit of INTEGERS) if (state & bit) bytes += INTEGER_SPACE;
    const room = this.controlBytes;
    if (room === 0 || bytes > aligned(room))
      throw new RangeError(
        `Cannot send ${bytes} bytes of control messages with a slot: expected at most ${room}, ` +
          "the controlBytes of the DatagramBatch",
      );
    return said;
  }

  #toWrite(): Int32Array {
    this.#said ??= new Int32Array(this.#tables.capacity * STRIDE);
    return this.#said;
  }

  /** Whether something goes out with slot i beside its payload. */
  speaks(i: number): boolean {
    const state = this.#state[this.#home(i)] as number;
    return (state & WRITTEN) !== 0 || (this.length(i) > 0 && (state & REPLACED) === 0);
  }

  /**
   * Sets what slot i of `length` bytes says, in the header to send it with: from a socket of the
   * domain to the sockaddr that stands in `name` at `at`.
   */
  prepare(i: number, length: number, domain: number, name: Uint8Array, at: number): void {
    this.#tables.words[this.#lengthAt(i)] = this.#encode(i, length, ipOf(domain, name, at));
  }

  /** Says nothing with slot i. */
  clear(i: number): void {
    this.#tables.words[this.#lengthAt(i)] = 0;
  }

  /** The size of the segments that slot i was prepared to be sent in, or 0. */
  preparedSegment(i: number): number {
    const { words } = this.#tables;
    const end = this.#sentWord(this.#home(i)) + ((words[this.#lengthAt(i)] as number) >> 2);
    const at = end - INTEGER_SPACE / 4;
    const isSegment =
      at >= this.#sentWord(this.#home(i)) &&
      words[at + 2] === IPPROTO_UDP &&
      words[at + 3] === UDP_SEGMENT;
    return isSegment ? (words[at + HEAD] as number) & 0xffff : 0;
  }

  /** Makes slot i, which was prepared to be sent in segments, say all but that. */
  clearSegment(i: number): void {
    const { words } = this.#tables;
    const at = this.#lengthAt(i);
    words[at] = (words[at] as number) - INTEGER_SPACE;
  }

  #lengthAt(i: number): number {
    return (this.#tables.sendHeaders >> 2) + i * HEADER_WORDS + LENGTH_WORD;
  }

  #sentWord(home: number): number {
    return (this.#tables.sentControl + home * this.#sentStride) >> 2;
  }

  // Returns the bytes written. The size of the segments is last, so that it can be left out.
  #encode(i: number, length: number, ip: number): number {
    const home = this.#home(i);
    const state = this.#state[home] as number;
    const start = this.#sentWord(home);
    const said = this.#said;
    let at = start;
    if (said && (state & WRITTEN) !== 0) {
      const from = home * STRIDE;
      if (state & RAW) at += aligned(said[from + SAID_RAW] as number) >> 2;
      // Nothing else has a meaning on a socket of another family.
      if (ip === NO_IP) return (at - start) * 4;
      if (state & (SOURCE | INTERFACE)) at = this.#writeInfo(at, from, state, ip);
      const level = ip === IPV4 ? IPPROTO_IP : IPPROTO_IPV6;
      const ttl = ip === IPV4 ? IP_TTL : IPV6_HOPLIMIT;
      const traffic = ip === IPV4 ? IP_TOS : IPV6_TCLASS;
      if (state & TTL) at = this.#write(at, level, ttl, said[from + SAID_TTL] as number);
      if (state & CLASS) at = this.#write(at, level, traffic, said[from + SAID_CLASS] as number);
      if (state & MARK) at = this.#write(at, SOL_SOCKET, SO_MARK, said[from + SAID_MARK] as number);
      if (state & TIME) {
        const { words } = this.#tables;
        const value = at + HEAD;
        at = this.#write(at, SOL_SOCKET, SCM_TXTIME, said[from + SAID_TIME] as number, 8);
        words[value + 1] = said[from + SAID_TIME + 1] as number;
      }
    }
    const segment = ip === NO_IP ? 0 : this.#segment(i);
    if (segment > 0 && segment < length) at = this.#write(at, IPPROTO_UDP, UDP_SEGMENT, segment, 2);
    return (at - start) * 4;
  }

  #write(at: number, level: number, type: number, value: number, bytes = 4): number {
    const { words } = this.#tables;
    words[at] = HEAD_BYTES + bytes;
    words[at + 1] = 0;
    words[at + 2] = level;
    words[at + 3] = type;
    words[at + HEAD] = value;
    words[at + HEAD + 1] = 0;
    return at + INTEGER_SPACE / 4;
  }

  #writeInfo(at: number, from: number, state: number, ip: number): number {
    const { words } = this.#tables;
    const said = this.#said as Int32Array;
    const hasSource = (state & SOURCE) !== 0;
    const scope = hasSource ? (said[from + SAID_SCOPE] as number) : 0;
    const index = state & INTERFACE ? (said[from + SAID_INTERFACE] as number) : scope;
    const isIpv4 = ip === IPV4;
    // The kernel would pass over a source of the other family in silence. A message without data it
    // refuses with EINVAL, and the slot fails like any other.
    const isPossible = !hasSource || isMapped(said, from + SAID_SOURCE) === isIpv4;
    const data = at + HEAD;
    words[at] = HEAD_BYTES + (isPossible ? (isIpv4 ? INFO_BYTES : INFO6_BYTES) : 0);
    words[at + 1] = 0;
    words[at + 2] = isIpv4 ? IPPROTO_IP : IPPROTO_IPV6;
    words[at + 3] = isIpv4 ? IP_PKTINFO : IPV6_PKTINFO;
    if (isIpv4) {
      words[data] = index;
      words[data + 1] = hasSource ? (said[from + SAID_SOURCE + 3] as number) : 0;
      words[data + 2] = words[data + 3] = 0;
    } else {
      for (let k = 0; k < 4; k++)
        words[data + k] = hasSource ? (said[from + SAID_SOURCE + k] as number) : 0;
      words[data + 4] = index;
      words[data + 5] = 0;
    }
    return at + (aligned(words[at] as number) >> 2);
  }

  #home(i: number): number {
    return this.#tables.homes[i] as number;
  }

  // Where the words are that slot i was told, read if they are not yet.
  #ask(i: number): number {
    const home = this.#home(i);
    if (((this.#state[home] as number) & PARSED) === 0) this.#parse(i, home);
    return home * STRIDE;
  }

  #parse(i: number, home: number): void {
    this.#told ??= new Int32Array(this.#tables.capacity * STRIDE);
    const told = this.#told;
    const to = home * STRIDE;
    told[to] = told[to + TOLD_SEGMENT] = 0;
    told[to + TOLD_TTL] = told[to + TOLD_CLASS] = told[to + TOLD_INTERFACE] = NOT_TOLD;
    told[to + TOLD_NANOSECONDS] = NOT_TOLD;
    this.#set(home, (this.#state[home] as number) | PARSED);
    const words = this.#words;
    let at = (home * this.#receivedStride) >> 2;
    let left = this.length(i);
    while (left >= HEAD_BYTES) {
      const length = words[at] as number;
      // The kernel writes no others, but the caller can reach this memory.
      if (length < HEAD_BYTES || length > left || words[at + 1] !== 0) return;
      const level = words[at + 2] as number;
      const type = words[at + 3] as number;
      const data = at + HEAD;
      const bytes = length - HEAD_BYTES;
      if (level === IPPROTO_IP) note4(told, to, type, words, data, bytes);
      else if (level === SOL_SOCKET) noteSocket(told, to, type, words, data, bytes);
      else if (level === IPPROTO_IPV6) note6(told, to, type, words, data, bytes);
      else if (level === IPPROTO_UDP && type === UDP_GRO && bytes >= 4)
        told[to + TOLD_SEGMENT] = words[data] as number;
      else if (level === SOL_PACKET && type === PACKET_AUXDATA && bytes >= tpacket_auxdata.size)
        noteAuxiliary(told, to, words, data);
      at += aligned(length) >> 2;
      left -= aligned(length);
    }
  }
}

// The notes of one message each: `bytes` of data, which are at word `data`.

function note4(
  told: Int32Array,
  to: number,
  type: number,
  words: Int32Array,
  data: number,
  bytes: number,
): void {
  if (type === IP_TTL && bytes >= 4) told[to + TOLD_TTL] = words[data] as number;
  // It is one byte, and the rest of the word may be anything.
  else if (type === IP_TOS && bytes >= 1) told[to + TOLD_CLASS] = (words[data] as number) & 0xff;
  else if (type === IP_PKTINFO && bytes >= INFO_BYTES) {
    const local = words[data + 1] as number;
    told[to + TOLD_INTERFACE] = (words[data] as number) || NOT_TOLD;
    told[to + TOLD_LOCAL] = local;
    told[to + TOLD_DESTINATION] = told[to + TOLD_DESTINATION + 1] = 0;
    told[to + TOLD_DESTINATION + 2] = MAPPED;
    told[to + TOLD_DESTINATION + 3] = words[data + 2] as number;
    // 0.0.0.0 where the option was off when the datagram came; where it went to is in its header.
    told[to] = (told[to] as number) | HAS_DESTINATION | (local === 0 ? 0 : HAS_LOCAL);
  }
}

function note6(
  told: Int32Array,
  to: number,
  type: number,
  words: Int32Array,
  data: number,
  bytes: number,
): void {
  if (type === IPV6_HOPLIMIT && bytes >= 4) told[to + TOLD_TTL] = words[data] as number;
  else if (type === IPV6_TCLASS && bytes >= 4) told[to + TOLD_CLASS] = words[data] as number;
  else if (type === IPV6_PKTINFO && bytes >= INFO6_BYTES) {
    for (let k = 0; k < 4; k++) told[to + TOLD_DESTINATION + k] = words[data + k] as number;
    told[to + TOLD_INTERFACE] = (words[data + 4] as number) || NOT_TOLD;
    told[to] = (told[to] as number) | HAS_DESTINATION;
  }
}

function noteSocket(
  told: Int32Array,
  to: number,
  type: number,
  words: Int32Array,
  data: number,
  bytes: number,
): void {
  if (type === SO_TIMESTAMPNS_OLD || type === SO_TIMESTAMPNS_NEW) {
    if (bytes >= TIMESPEC_BYTES) noteTime(told, to, words, data, 1);
  } else if (type === SO_TIMESTAMP_OLD || type === SO_TIMESTAMP_NEW) {
    if (bytes >= TIMESPEC_BYTES) noteTime(told, to, words, data, 1000);
  } else if (type === SO_TIMESTAMPING_OLD || type === SO_TIMESTAMPING_NEW) {
    if (bytes >= TIMESTAMPING_BYTES) noteTimes(told, to, words, data);
  } else if (type === SO_RXQ_OVFL && bytes >= 4) {
    told[to + TOLD_DROPPED] = words[data] as number;
    told[to] = (told[to] as number) | HAS_DROPPED;
  } else if (type === SO_MARK && bytes >= 4) {
    told[to + TOLD_MARK] = words[data] as number;
    told[to] = (told[to] as number) | HAS_MARK;
  }
}

function noteAuxiliary(told: Int32Array, to: number, words: Int32Array, data: number): void {
  told[to] = ((told[to] as number) & ~(HAS_DESTINATION | HAS_LOCAL)) | HAS_AUXILIARY;
  told[to + TOLD_STATUS] = words[data] as number;
  told[to + TOLD_VLAN] = words[data + AUXILIARY_VLAN] as number;
}

// A timespec or timeval: four words.
function noteTime(
  told: Int32Array,
  to: number,
  words: Int32Array,
  data: number,
  unit: number,
): void {
  told[to + TOLD_SECONDS] = words[data] as number;
  told[to + TOLD_SECONDS + 1] = words[data + 1] as number;
  told[to + TOLD_NANOSECONDS] = (words[data + 2] as number) * unit;
}

// By the system's clock, by none any more, and by the device's. What is not known is 0.
function noteTimes(told: Int32Array, to: number, words: Int32Array, data: number): void {
  const device = data + 2 * TIMESPEC_WORDS;
  if (words[data] !== 0 || words[data + 1] !== 0) noteTime(told, to, words, data, 1);
  else if (
    (words[device] !== 0 || words[device + 1] !== 0) &&
    (told[to + TOLD_NANOSECONDS] ?? 0) < 0
  )
    noteTime(told, to, words, device, 1);
}

// An IPv6 socket sends to IPv4 and IPv4-mapped addresses by IPv4.
function ipOf(domain: number, name: Uint8Array, at: number): number {
  if (domain === AF_INET) return IPV4;
  if (domain !== AF_INET6) return NO_IP;
  if (name[at] === AF_INET) return IPV4;
  const from = at + sockaddr_in6.sin6_addr.offset;
  for (let k = 0; k < 10; k++) if (name[from + k] !== 0) return IPV6;
  return name[from + 10] === 0xff && name[from + 11] === 0xff ? IPV4 : IPV6;
}

// Each of these takes as much as an integer does. The segments have room of their own.
const INTEGERS: readonly number[] = [TTL, CLASS, MARK, TIME];

function aligned(bytes: number): number {
  return (bytes + 7) & ~7;
}

function wordAt(bytes: Uint8Array, at: number): number {
  const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
  return low | ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
}

function setPointer(words: Int32Array, at: number, address: number): void {
  words[at] = address | 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}

function isMapped(words: Int32Array, at: number): boolean {
  return words[at] === 0 && words[at + 1] === 0 && words[at + 2] === MAPPED;
}

// Whether the address that begins with these four bytes means nothing without an interface, as the
// kernel sees it: unicast of a link, and groups of an interface or a link.
function needsScope(first: number): boolean {
  const second = (first >> 8) & 0xff;
  if ((first & 0xff) === 0xff) return (second & 0xf) === 1 || (second & 0xf) === 2;
  return (first & 0xff) === 0xfe && (second & 0xc0) === 0x80;
}
