import { ETH_P_8021Q } from "../../structs/constants/linux_if_ether.ts";
import {
  TP_STATUS_BLK_TMO,
  TP_STATUS_CSUM_VALID,
  TP_STATUS_CSUMNOTREADY,
  TP_STATUS_KERNEL,
  TP_STATUS_LOSING,
  TP_STATUS_USER,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
  TPACKET_ALIGNMENT,
  TPACKET3_HDRLEN,
} from "../../structs/constants/linux_if_packet.ts";
import { sockaddr_ll } from "../../structs/sockaddr_ll.ts";
import { tpacket_block_desc } from "../../structs/tpacket_block_desc.ts";
import { tpacket_hdr_v1 } from "../../structs/tpacket_hdr_v1.ts";
import { tpacket_hdr_variant1 } from "../../structs/tpacket_hdr_variant1.ts";
import { tpacket3_hdr } from "../../structs/tpacket3_hdr.ts";
import type { PacketChecksum } from "../control.ts";
import { unmapMemory } from "../ffi/memory.ts";
import { LinkAddress, PACKET_TYPES, type PacketType } from "../link_address.ts";
import type { RingMemory } from "./internal/ring_memory.ts";
import type { Packet } from "./packet.ts";

// Set by the class below, for the ring. The package does not export it.

/** Whether a block of the ring is full, or its time was over. */
export let isHandedOver: (memory: RingMemory, place: number) => boolean;
/** Lends the block at a place of the ring out. */
export let lend: (block: PacketBlock, place: number) => void;

// Where things are in a block: its own header, then frames with theirs.
const BLOCK_HEADER = tpacket_block_desc.size;
const INNER = tpacket_block_desc.hdr.offset;
const BLOCK_STATUS = INNER + tpacket_hdr_v1.block_status.offset;
const COUNT = INNER + tpacket_hdr_v1.num_pkts.offset;
const FIRST = INNER + tpacket_hdr_v1.offset_to_first_pkt.offset;
const SEQUENCE_LOW = INNER + tpacket_hdr_v1.seq_num.offset;
const SEQUENCE_HIGH = SEQUENCE_LOW + 4;
const USED = INNER + tpacket_hdr_v1.blk_len.offset;

const NEXT = tpacket3_hdr.tp_next_offset.offset;
const SECONDS = tpacket3_hdr.tp_sec.offset;
const NANOSECONDS = tpacket3_hdr.tp_nsec.offset;
const LENGTH = tpacket3_hdr.tp_snaplen.offset;
const ORIGINAL_LENGTH = tpacket3_hdr.tp_len.offset;
const STATUS = tpacket3_hdr.tp_status.offset;
const LINK = tpacket3_hdr.tp_mac.offset;
const NETWORK = tpacket3_hdr.tp_net.offset;
const VARIANT = tpacket3_hdr.hv1.offset;
const HASH = VARIANT + tpacket_hdr_variant1.tp_rxhash.offset;
const TCI = VARIANT + tpacket_hdr_variant1.tp_vlan_tci.offset;
const TPID = VARIANT + tpacket_hdr_variant1.tp_vlan_tpid.offset;
// A sockaddr_ll stands behind the header, at the next multiple.
const ADDRESS = Math.ceil(tpacket3_hdr.size / TPACKET_ALIGNMENT) * TPACKET_ALIGNMENT;
const PROTOCOL = ADDRESS + sockaddr_ll.sll_protocol.offset;
const INTERFACE = ADDRESS + sockaddr_ll.sll_ifindex.offset;
const PACKET_TYPE = ADDRESS + sockaddr_ll.sll_pkttype.offset;
const FRAME_HEADER = TPACKET3_HDRLEN;

const TCI_MAX = 0xffff;
const HIGH = 2 ** 32;
const POISON = 0xa5;
/** Where nothing is lent out, and where no frame is shown. */
const NOWHERE = -1;

/**
 * The frames of one block of a ring, in the memory that the kernel has written them to. It is on
 * loan: until `release`, the end of a `using` block, or the next receive of its ring, whichever comes
 * first. Then the kernel writes new frames over it.
 *
 * There is one such object for each ring, which shows one block after the other, and in it one frame
 * after the other: `next` goes on to the next one, and what is below it tells of that frame, by reading
 * the ring's memory. Nothing of that allocates, however many frames there are. The frame itself is
 * at `offset` of `bytes`, for `length` bytes.
 *
 * `for … of` is the comfortable form: it gives a Packet for each frame, with a view of its bytes. That
 * costs an object and a view for each, several times what reading by offset does. It moves the same
 * cursor, so that what the block tells of a frame is there in the loop too; two loops at a time get in
 * each other's way.
 *
 * After the loan `count`, `offset` and `length` are 0 and `next` is false. Views that were made are
 * not: in fast mode, the default, they are views of the ring, and show whatever frames the kernel
 * writes there next. A frame that is to be kept has to be copied: `packet.bytes.slice()`. In checked
 * mode (the ring's option `checked`, or `BUN_SOCKETS_DEBUG=1` in the environment) the views are of a
 * copy of the block, and empty when the loan is over; and what `bytes` has at the block is overwritten
 * with 0xA5 then. That costs the copy, some 100 µs for a block of 1 MiB, once a loop asks for views,
 * and the overwriting, some 40.
 *
 * Who transfers the memory of a ring away (`ring.bytes.buffer.transfer()`) has it: what reads it here
 * throws the engine's TypeError from then on.
 *
 * @see {@link https://docs.kernel.org/networking/packet_mmap.html | packet_mmap}
 */
export class PacketBlock implements Disposable, Iterable<Packet> {
  readonly #memory: RingMemory;
  readonly #view: DataView<ArrayBuffer>;
  readonly #isChecked: boolean;
  /** Where the block begins that is lent out. */
  #base = NOWHERE;
  #end = 0;
  #count = 0;
  /** Frames that were not shown yet. */
  #left = 0;
  /** The header of the next one, of which all is inside the block. */
  #following = 0;
  /** The header of the one that is shown. */
  #at = NOWHERE;
  #offset = 0;
  #length = 0;
  /** Tells the loans apart. */
  #loan = 0;
  /** In checked mode, once somebody wants views: what they are of. */
  #copy: ArrayBuffer | undefined;

  /** Not for callers: a ring makes its block. */
  constructor(memory: RingMemory, isChecked: boolean) {
    this.#memory = memory;
    this.#view = memory.view;
    this.#isChecked = isChecked;
  }

  /** The memory of the whole ring: `offset` counts from its beginning. Empty when it is closed. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#memory.bytes;
  }

  /** The same memory as a DataView, for header views. */
  get view(): DataView<ArrayBuffer> {
    return this.#view;
  }

  /** Whether the loan is over: then there are no frames. */
  get released(): boolean {
    return this.#base === NOWHERE;
  }

  /** How many frames the block has. */
  get count(): number {
    return this.#count;
  }

  /**
   * Whether frames were dropped because all blocks were full, since `statistics` was read last: it
   * tells how many.
   */
  get losing(): boolean {
    return (this.#blockWord(BLOCK_STATUS) & TP_STATUS_LOSING) !== 0;
  }

  /** Whether its time was over before it was full. */
  get timedOut(): boolean {
    return (this.#blockWord(BLOCK_STATUS) & TP_STATUS_BLK_TMO) !== 0;
  }

  /** The number of the block: the kernel counts those that it fills, from 1 on. */
  get sequence(): number {
    return this.#blockWord(SEQUENCE_LOW) + this.#blockWord(SEQUENCE_HIGH) * HIGH;
  }

  /** Shows the next frame; false when there is none left, or the loan is over. */
  next(): boolean {
    if (this.#left === 0) return this.#showNone();
    const view = this.#view;
    const at = this.#following;
    // Read once: whatever stands there, nothing outside of the block is shown. Numbers that do not fit
    // are negative here, and so fail the same comparisons.
    const offset = at + view.getUint16(at + LINK, true);
    const length = view.getInt32(at + LENGTH, true);
    if (length < 0 || offset + length > this.#end) return this.#showNone();
    this.#at = at;
    this.#offset = offset;
    this.#length = length;
    this.#left--;
    // Behind the last one the kernel leaves 0.
    if (this.#left > 0) this.#follow(at, view.getInt32(at + NEXT, true));
    return true;
  }

  // A header has room for itself in front of the next one, and that one too.
  #follow(from: number, distance: number): void {
    const following = from + distance;
    if (distance < FRAME_HEADER || following + FRAME_HEADER > this.#end) this.#left = 0;
    else this.#following = following;
  }

  #showNone(): false {
    this.#left = 0;
    this.#at = NOWHERE;
    this.#offset = 0;
    this.#length = 0;
    return false;
  }

  /** Begins anew: `next` shows the first frame again. */
  rewind(): void {
    this.#showNone();
    if (this.#base === NOWHERE || this.#count === 0) return;
    this.#left = this.#count;
    const first = this.#view.getInt32(this.#base + FIRST, true);
    if (first < BLOCK_HEADER || this.#base + first + FRAME_HEADER > this.#end) this.#left = 0;
    else this.#following = this.#base + first;
  }

  /** Where the frame begins in `bytes`, at its link-layer header; cooked ones behind that. */
  get offset(): number {
    return this.#offset;
  }

  /** How many bytes of it were captured. */
  get length(): number {
    return this.#length;
  }

  /** Where it ends in `bytes`: `offset + length`, as header views want it. */
  get end(): number {
    return this.#offset + this.#length;
  }

  /** How many bytes it had. More than `length` where a filter or the size of a block has cut it. */
  get originalLength(): number {
    return this.#word(ORIGINAL_LENGTH);
  }

  /** Where its network header begins in `bytes`, as far as the kernel knows: inside the frame. */
  get networkOffset(): number {
    if (this.#at === NOWHERE) return 0;
    const offset = this.#at + this.#view.getUint16(this.#at + NETWORK, true);
    return Math.min(Math.max(offset, this.#offset), this.#offset + this.#length);
  }

  /** When it came: seconds since 1970. */
  get seconds(): number {
    return this.#word(SECONDS);
  }

  /** And nanoseconds. */
  get nanoseconds(): number {
    return this.#word(NANOSECONDS);
  }

  /** What the kernel says of it: a union of `TP_STATUS_` constants, of "bun-sockets/sys". */
  get status(): number {
    return this.#word(STATUS);
  }

  /**
   * The VLAN tag that was taken out of the frame: the TCI, whose lower 12 bits are the number of the
   * VLAN; -1 where it had none.
   */
  get vlan(): number {
    return this.#word(STATUS) & TP_STATUS_VLAN_VALID ? this.#word(TCI) & TCI_MAX : -1;
  }

  /** The protocol of that tag, `ETH_P_8021Q` or `ETH_P_8021AD`; 0 where it had none. */
  get vlanProtocol(): number {
    const status = this.#word(STATUS);
    if (!(status & TP_STATUS_VLAN_VALID)) return 0;
    if (!(status & TP_STATUS_VLAN_TPID_VALID)) return ETH_P_8021Q;
    return this.#view.getUint16(this.#at + TPID, true);
  }

  /** What the kernel knows of its checksum. */
  get checksum(): PacketChecksum {
    const status = this.#word(STATUS);
    if (status & TP_STATUS_CSUMNOTREADY) return "unfinished";
    return status & TP_STATUS_CSUM_VALID ? "valid" : "unknown";
  }

  /** The hash of its flow, where the ring was made with `flowHash`; else 0. */
  get hash(): number {
    return this.#word(HASH);
  }

  /** Whom it was for: see LinkAddress. "host" also where no frame is shown. */
  get packetType(): PacketType {
    const type = this.#at === NOWHERE ? 0 : this.#view.getUint8(this.#at + PACKET_TYPE);
    return PACKET_TYPES[type] ?? type;
  }

  /** Its protocol, an `ETH_P_` constant: what follows the link-layer header. */
  get protocol(): number {
    return this.#at === NOWHERE ? 0 : this.#view.getUint16(this.#at + PROTOCOL, false);
  }

  /** The index of the interface that it was seen at. */
  get interfaceIndex(): number {
    return this.#word(INTERFACE);
  }

  /**
   * The frame that is shown, as a Packet with a view of its bytes: what `for … of` gives. Allocates.
   *
   * @returns undefined when none is shown
   */
  packet(): Packet | undefined {
    return this.#at === NOWHERE ? undefined : this.#packet();
  }

  #packet(): Packet {
    const hasTag = (this.#word(STATUS) & TP_STATUS_VLAN_VALID) !== 0;
    return {
      bytes: this.#bytesOfFrame(),
      originalLength: this.#word(ORIGINAL_LENGTH),
      seconds: this.#word(SECONDS),
      nanoseconds: this.#word(NANOSECONDS),
      vlan: hasTag ? this.vlan : undefined,
      vlanProtocol: hasTag ? this.vlanProtocol : undefined,
      interface: this.#word(INTERFACE),
    };
  }

  #bytesOfFrame(): Uint8Array {
    const { buffer } = this.#memory;
    if (!this.#isChecked) return new Uint8Array(buffer, this.#offset, this.#length);
    this.#copy ??= buffer.slice(this.#base, this.#end);
    return new Uint8Array(this.#copy, this.#offset - this.#base, this.#length);
  }

  /** The frames from the first one on, each as a Packet. Ends with the loan. */
  [Symbol.iterator](): IterableIterator<Packet, undefined> {
    this.rewind();
    return new Packets(
      this,
      () => this.#packet(),
      this.#loan,
      () => this.#loan,
    );
  }

  /**
   * Who has sent the frame that is shown: what a packet socket tells as the sender. Allocates.
   *
   * @returns undefined when none is shown
   */
  sender(): LinkAddress | undefined {
    if (this.#at === NOWHERE) return undefined;
    const at = this.#at + ADDRESS;
    return new LinkAddress(this.#memory.bytes.slice(at, at + sockaddr_ll.size));
  }

  /** Gives the block back to the kernel. Does nothing the second time. */
  release(): void {
    const base = this.#base;
    if (base === NOWHERE) return;
    this.#base = NOWHERE;
    this.#loan++;
    this.#count = 0;
    this.#showNone();
    // Which empties the views of any buffer of ours, and leaves one alone that was transferred.
    if (this.#copy) unmapMemory(this.#copy);
    this.#copy = undefined;
    const { bytes, words, isGone } = this.#memory;
    if (isGone) return;
    if (this.#isChecked) {
      const used = Math.min(this.#view.getUint32(base + USED, true), this.#end - base);
      bytes.fill(POISON, base + BLOCK_HEADER, base + used);
    }
    // With a barrier: whatever was read of the block was read before.
    Atomics.store(words, (base + BLOCK_STATUS) / 4, TP_STATUS_KERNEL);
  }

  /** Gives it back at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.release();
  }

  #word(offset: number): number {
    return this.#at === NOWHERE ? 0 : this.#view.getUint32(this.#at + offset, true);
  }

  #blockWord(offset: number): number {
    return this.#base === NOWHERE ? 0 : this.#view.getUint32(this.#base + offset, true);
  }

  #lend(place: number): void {
    const { blockBytes } = this.#memory;
    this.#base = place * blockBytes;
    this.#end = this.#base + blockBytes;
    const count = this.#view.getUint32(this.#base + COUNT, true);
    this.#count = Math.min(count, Math.floor(blockBytes / FRAME_HEADER));
    this.rewind();
  }

  static {
    isHandedOver = ({ words, blockBytes }, place) => {
      // With a barrier: whatever is read of the block is read after.
      const status = Atomics.load(words, (place * blockBytes + BLOCK_STATUS) / 4);
      return (status & TP_STATUS_USER) !== 0;
    };
    lend = (block, place) => block.#lend(place);
  }
}

/** The frames of a block, until the end of its loan. */
class Packets implements IterableIterator<Packet, undefined> {
  readonly #block: PacketBlock;
  readonly #packet: () => Packet;
  readonly #loan: number;
  readonly #loanNow: () => number;

  constructor(block: PacketBlock, packet: () => Packet, loan: number, loanNow: () => number) {
    this.#block = block;
    this.#packet = packet;
    this.#loan = loan;
    this.#loanNow = loanNow;
  }

  next(): IteratorResult<Packet, undefined> {
    if (this.#loanNow() !== this.#loan || !this.#block.next()) return DONE;
    return { value: this.#packet(), done: false };
  }

  [Symbol.iterator](): this {
    return this;
  }
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });
