import {
  EAGAIN,
  EBADF,
  EBUSY,
  ECONNREFUSED,
  EFAULT,
  EINTR,
  ENOBUFS,
  ENOMEM,
  ENOSYS,
  ENOTSOCK,
  EPIPE,
} from "../structs/constants/errno.ts";
import {
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_PEEK,
  MSG_TRUNC,
} from "../structs/constants/sys_socket.ts";
import { UIO_MAXIOV } from "../structs/constants/sys_uio.ts";
import { iovec } from "../structs/iovec.ts";
import { mmsghdr } from "../structs/mmsghdr.ts";
import { msghdr } from "../structs/msghdr.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import { type Address, addressBytes, sendableLength, toAnyAddress } from "./address.ts";
import { check, SystemError } from "./error.ts";
import { bytesOf } from "./ffi/memory.ts";
import { describe, requireInteger, requireOptions, requireView } from "./internal/arguments.ts";
import { SenderTable } from "./internal/sender_table.ts";
import { NativeBuffer } from "./native_buffer.ts";
import { errorName } from "./sys/errno.ts";
import { recvmmsg, sendmmsg } from "./sys/socket.ts";

/** What a DatagramBatch is made of. */
export interface DatagramBatchOptions {
  /** Slots: the most datagrams of one call. 1 to 1024, default 64. */
  readonly capacity?: number | undefined;
  /** Bytes of payload a slot holds; what is longer arrives truncated. 1 to 2^24, default 2048. */
  readonly slotBytes?: number | undefined;
  /**
   * Senders remembered at the same time; the oldest is forgotten for a new one. 1 to 2^20, default
   * 4096.
   */
  readonly peersMax?: number | undefined;
}

/** Where and why sending stopped before the end of the batch. */
export interface Stopped {
  /** The first slot that was not tried. Sending again from here continues. */
  readonly index: number;
  /**
   * The C name of the error: "EAGAIN" when the socket's send buffer is full, "ENOBUFS" when the
   * device's queue is.
   */
  readonly code: string;
}

// Set by the class below, for the sockets only. The package does not export them: a descriptor is
// not checked here.

/** Whether it is a DatagramBatch: what only inherits from one has no memory. */
export let isBatch: (value: unknown) => value is DatagramBatch;

/**
 * One recvmmsg(2) into the batch. Returns the datagrams received, or `-errno`. `peer` is the
 * sockaddr of whom they all come from, where that is known: the kernel is then not asked.
 */
export let receiveInto: (
  batch: DatagramBatch,
  fd: number,
  flags: number,
  peer: Uint8Array | undefined,
) => number;
/**
 * Makes the slots from `first` on ready for `sendFrom`; a connected socket sends to its peer,
 * whatever the slots say.
 */
export let prepareSend: (batch: DatagramBatch, first: number, connected: boolean) => void;
/**
 * Sends prepared slots from `from` on. Returns how many were sent; `stopped` and `failure` tell the
 * rest. With `passOver`, "no room" fails the slots for that one receiver, and does not stop. An error of
 * the call itself tells of the `before` that were sent earlier, too.
 */
export let sendFrom: (
  batch: DatagramBatch,
  fd: number,
  from: number,
  flags: number,
  passOver: boolean,
  before?: number,
) => number;

/** The slot that the last send found no room for, or -1 when it did not stop for that. */
export let waitsFrom: (batch: DatagramBatch) => number;

/** Whether the last send found no room for some slot. */
export let foundNoRoom: (batch: DatagramBatch) => boolean;

/**
 * Takes a batch for a call that may last. Until `release` every other call is refused.
 *
 * @throws {SystemError} `EBUSY` another call has it
 */
export let claim: (batch: DatagramBatch, syscall: string) => void;
/** Gives a batch back, and frees it where that was asked for meanwhile. */
export let release: (batch: DatagramBatch) => void;
/**
 * Refuses a batch that a call has that is not answered yet.
 *
 * @throws {SystemError} `EBUSY`
 */
export let requireIdle: (batch: DatagramBatch, syscall: string) => void;
/** Overwrites all payloads, so that whoever looks at old contents sees it. */
export let poison: (batch: DatagramBatch) => void;

const HEADER = mmsghdr.size;
const HEADER_WORDS = HEADER / 4;
const NAME = sockaddr_storage.size;
// Payload slots start at multiples of a cache line.
const SLOT_ALIGNMENT = 64;
// What msg_namelen says before the kernel has written to it; no address is as long as the room for
// it.
const NO_NAME = NAME;
// What old contents are overwritten with in debug mode.
const POISON = 0xa5;

/**
 * Memory for many datagrams, laid out once: what `recvmmsg` fills and `sendmmsg` sends, in place.
 * The same batch serves both directions: receive into it, edit, send it back to whoever sent it or
 * on through another socket, without a copy.
 *
 * Slots are numbered from 0. `memory` holds all payloads; slot i has `length(i)` bytes of it from
 * `offset(i)`. Reading a slot allocates nothing, except `view` and the first `address` of each
 * sender.
 *
 * Lifetime: the contents are valid until the next receive into the batch. `free` empties `memory`
 * and every view. A batch belongs to one call at a time: while a promise form waits with it, every
 * other call fails with `EBUSY`.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/recvmmsg.2.html | recvmmsg(2)}
 * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
 *
 * @example Receive, look, send back
 * ```ts
 * import { DatagramBatch, UdpSocket } from "bun-sockets";
 *
 * using server = UdpSocket.bind("127.0.0.1:0");
 * using client = UdpSocket.open("ipv4");
 * client.connectSync(server.localAddress);
 * client.sendSync("ping");
 *
 * using batch = new DatagramBatch({ capacity: 64, slotBytes: 1500 });
 * server.receiveBatchSync(batch, { timeoutMs: 1000 });
 * for (let i = 0; i < batch.count; i++) console.log(`${batch.address(i)} sent ${batch.length(i)} bytes`);
 * server.trySendBatch(batch);
 * ```
 */
export class DatagramBatch<A extends Address = Address> {
  readonly #capacity: number;
  readonly #slotBytes: number;
  readonly #payload: NativeBuffer;
  readonly #memory: Uint8Array<ArrayBuffer>;
  /** A view of the same memory that no caller can reach to lie about: empty when it is gone. */
  readonly #witness: Uint8Array;
  readonly #slotStride: number;
  /** The mapping below, which no caller ever sees: it holds addresses that the kernel follows. */
  readonly #tables: NativeBuffer;
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #layout: Layout;
  /**
   * The payload slot and name that header i uses: swapping headers moves neither bytes nor names.
   */
  readonly #homes: Uint16Array;
  readonly #failures: Uint8Array;
  readonly #peersMax: number;
  #senders: SenderTable | undefined;
  #kept: Uint16Array | undefined;
  #count = 0;
  /**
   * Headers from here on have NO_NAME in msg_namelen; those before must be reset before a receive.
   */
  #namedEnd = 0;
  /** Whether the headers to receive with have a place for the sender's name. */
  #asksNames = true;
  /** The sender of the slots below #peerEnd that have NO_NAME. */
  #peer: Uint8Array | undefined;
  #peerEnd = 0;
  /** The slots below are prepared. A call that waits sends these, whatever `count` says since. */
  #sendEnd = 0;
  #failed = 0;
  #stoppedIndex = 0;
  #stoppedErrno = 0;
  /** Whether a call has it that is not answered yet. */
  #isClaimed = false;
  #isFreedAfter = false;

  /**
   * Maps the memory and lays it out.
   *
   * @throws {RangeError} an option is out of range
   * @throws {SystemError} `ENOMEM` there is not enough memory
   */
  constructor(options: DatagramBatchOptions = {}) {
    const { capacity = 64, slotBytes = 2048, peersMax = 4096 } = requireOptions(options);
    requireInteger(capacity, 1, UIO_MAXIOV, "the capacity of a DatagramBatch");
    requireInteger(slotBytes, 1, 2 ** 24, "the slotBytes of a DatagramBatch");
    requireInteger(peersMax, 1, 2 ** 20, "the peersMax of a DatagramBatch");
    this.#capacity = capacity;
    this.#slotBytes = slotBytes;
    this.#peersMax = peersMax;
    this.#slotStride = Math.ceil(slotBytes / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
    this.#layout = layOut(capacity);
    this.#payload = new NativeBuffer(capacity * this.#slotStride);
    this.#memory = this.#payload.bytes;
    this.#witness = this.#memory.subarray();
    try {
      this.#tables = new NativeBuffer(this.#layout.end);
    } catch (error) {
      this.#payload.free();
      throw error;
    }
    const { buffer } = this.#tables.bytes;
    this.#view = new DataView(buffer);
    this.#words = new Int32Array(buffer);
    this.#bytes = this.#tables.bytes;
    this.#homes = Uint16Array.from({ length: capacity }, (_, i) => i);
    this.#failures = new Uint8Array(capacity);
    for (let i = 0; i < capacity; i++) this.#connect(i);
  }

  /** Wires header i, for both directions, to its name, its vector and its payload slot. */
  #connect(i: number): void {
    const { sendHeaders, receiveVectors, sendVectors, names } = this.#layout;
    const view = this.#view;
    const base = this.#tables.address;
    const payload = this.#payload.address + i * this.#slotStride;
    iovec.iov_base.set(view, receiveVectors + i * iovec.size, payload);
    iovec.iov_len.set(view, receiveVectors + i * iovec.size, this.#slotBytes);
    iovec.iov_base.set(view, sendVectors + i * iovec.size, payload);
    for (const [headers, vectors] of [
      [0, receiveVectors],
      [sendHeaders, sendVectors],
    ] as const) {
      const header = headers + i * HEADER;
      msghdr.msg_name.set(view, header, base + names + i * NAME);
      msghdr.msg_namelen.set(view, header, NO_NAME);
      msghdr.msg_iov.set(view, header, base + vectors + i * iovec.size);
      msghdr.msg_iovlen.set(view, header, 1);
    }
  }

  /** Slots: the most datagrams of one call. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes of payload that a slot holds. */
  get slotBytes(): number {
    return this.#slotBytes;
  }

  /** The memory of all payloads. Empty after `free`. */
  get memory(): Uint8Array<ArrayBuffer> {
    return this.#memory;
  }

  /** How many slots are in use: set by a receive, and by whoever fills slots to send. */
  get count(): number {
    return this.#count;
  }

  set count(count: number) {
    requireInteger(count, 0, this.#capacity, "the count of a DatagramBatch");
    this.#count = count;
  }

  /** Where slot i starts in `memory`, in bytes. */
  offset(i: number): number {
    this.#requireSlot(i);
    return (this.#homes[i] as number) * this.#slotStride;
  }

  /** How many bytes of slot i are in use: never more than `slotBytes`. */
  length(i: number): number {
    this.#requireSlot(i);
    return this.#length(i);
  }

  /**
   * Sets how many bytes of slot i are in use. Makes a truncated slot an ordinary one, which may be
   * sent.
   *
   * @param length 0 to `slotBytes`
   * @throws {RangeError} the slot holds fewer bytes
   */
  setLength(i: number, length: number): void {
    this.#requireSlot(i);
    requireInteger(length, 0, this.#slotBytes, "the length of a slot");
    const header = i * HEADER;
    mmsghdr.msg_len.set(this.#view, header, length);
    msghdr.msg_flags.set(this.#view, header, msghdr.msg_flags.get(this.#view, header) & ~MSG_TRUNC);
  }

  /**
   * How long the datagram in slot i was when it arrived: more than `length(i)` where it was
   * truncated.
   */
  originalLength(i: number): number {
    this.#requireSlot(i);
    return mmsghdr.msg_len.get(this.#view, i * HEADER);
  }

  /** What the kernel said of the datagram in slot i: `MSG_` bits. */
  flags(i: number): number {
    this.#requireSlot(i);
    return msghdr.msg_flags.get(this.#view, i * HEADER);
  }

  /**
   * Whether the datagram in slot i was longer than the slot. It is not sent until `setLength` says
   * what it is now.
   */
  truncated(i: number): boolean {
    this.#requireSlot(i);
    return this.#truncated(i);
  }

  /**
   * A small integer for the sender of slot i, the same for the same address while it is kept, never
   * given again to another in the batch's life: an index for tables of the caller. -1 where there
   * is no address.
   */
  sender(i: number): number {
    this.#requireSlot(i);
    const length = this.#nameLength(i);
    if (length === 0) return -1;
    const at = this.#nameOffset(i);
    // Whole words are compared, so the bytes after the name must not differ.
    if (length & 3) this.#bytes.fill(0, at + length, at + length + 4 - (length & 3));
    this.#senders ??= new SenderTable(this.#peersMax);
    return this.#senders.number(this.#words, at >> 2, length);
  }

  /**
   * The address of slot i: who sent it, or where it goes. One object for each sender. Undefined
   * where there is none.
   */
  address(i: number): A | undefined {
    const sender = this.sender(i);
    return sender < 0 ? undefined : ((this.#senders as SenderTable).address(sender) as A);
  }

  /**
   * Sets where slot i goes when an unconnected socket sends it.
   *
   * @param address an address, its text, or undefined for none
   * @throws {TypeError} it is none
   */
  setAddress(i: number, address: Address | string | undefined): void {
    const bytes = address === undefined ? undefined : addressBytes(toAnyAddress(address));
    this.#requireUsable();
    this.#requireSlot(i);
    if (bytes) this.#bytes.set(bytes, this.#nameOffset(i));
    this.#setNameLength(i, bytes?.length ?? 0);
  }

  /** Makes slot i go where slot j goes: copies the address of j to i. */
  copySender(i: number, j: number): void {
    this.#requireUsable();
    this.#requireSlot(i);
    this.#requireSlot(j);
    const length = this.#nameLength(j);
    const source = this.#nameOffset(j) >> 2;
    this.#words.copyWithin(this.#nameOffset(i) >> 2, source, source + NAME / 4);
    this.#setNameLength(i, length);
  }

  /**
   * A view of the bytes of slot i that are in use, made when asked. Overwritten by the next
   * receive.
   */
  view(i: number): Uint8Array<ArrayBuffer> {
    const offset = this.offset(i);
    return this.#memory.subarray(offset, offset + this.length(i));
  }

  /**
   * Copies data into slot i and sets its length.
   *
   * @param data a view, or a string as UTF-8
   * @throws {RangeError} the slot holds fewer bytes; nothing is written
   */
  write(i: number, data: ArrayBufferView | string): void {
    const view = typeof data === "string" ? Buffer.from(data) : data;
    requireView(view, "data");
    const source = bytesOf(view);
    this.#requireUsable();
    this.setLength(i, source.length);
    this.#memory.set(source, this.offset(i));
  }

  /** Exchanges two slots, by exchanging their headers: no payload moves. */
  swap(i: number, j: number): void {
    this.#requireSlot(i);
    this.#requireSlot(j);
    this.#requireUsable();
    // What a header without a name means depends on its place: so it is settled before it moves.
    this.#setNameLength(i, this.#nameLength(i));
    this.#setNameLength(j, this.#nameLength(j));
    const { sendHeaders } = this.#layout;
    swapWords(this.#words, i * HEADER_WORDS, j * HEADER_WORDS);
    swapWords(this.#words, sendHeaders / 4 + i * HEADER_WORDS, sendHeaders / 4 + j * HEADER_WORDS);
    const home = this.#homes[i] as number;
    this.#homes[i] = this.#homes[j] as number;
    this.#homes[j] = home;
  }

  /**
   * Keeps the slots with these numbers, in this order, as slots 0, 1, … and sets `count`. No
   * payload moves.
   *
   * @param indices rising numbers below `count`
   * @throws {RangeError} they do not rise, or one is not below `count`; nothing is changed
   * @throws {TypeError} it is no array
   */
  keep(indices: ArrayLike<number>): void {
    this.#requireUsable();
    const length = lengthOf(indices);
    requireInteger(length, 0, this.#count, "the number of kept slots");
    this.#kept ??= new Uint16Array(this.#capacity);
    // Read once and checked before anything moves: reading a caller's object can run the caller's
    // code.
    for (let k = 0, minimum = 0; k < length; k++) {
      const index = indices[k] as number;
      requireInteger(index, minimum, this.#count - 1, "the index of a kept slot");
      this.#kept[k] = index;
      minimum = index + 1;
    }
    this.#requireUsable();
    for (let k = 0; k < length; k++) if (this.#kept[k] !== k) this.swap(k, this.#kept[k] as number);
    this.#count = length;
  }

  /** Where and why the last send stopped, or undefined when it tried every slot. */
  get stopped(): Stopped | undefined {
    if (this.#stoppedErrno === 0) return undefined;
    return { index: this.#stoppedIndex, code: errorName(this.#stoppedErrno) };
  }

  /**
   * How many slots the last send could not send, each for a reason of its own. The others went out.
   */
  get failed(): number {
    return this.#failed;
  }

  /**
   * Why slot i could not be sent by the last send, as the C name of the error: "ENETUNREACH",
   * "EMSGSIZE" (too long, or truncated when received), … Undefined where it was sent, or not tried.
   * The numbers are those of the send: `swap` and `keep` do not move them, the next send forgets
   * them.
   */
  failure(i: number): string | undefined {
    this.#requireSlot(i);
    const errno = this.#failures[i] as number;
    return errno === 0 ? undefined : errorName(errno);
  }

  /** Whether the memory is gone: freed, or its ArrayBuffer was transferred. */
  get freed(): boolean {
    return this.#gone();
  }

  /**
   * Returns the memory to the kernel; `memory` and every view are empty afterwards. Does nothing
   * the second time. While a call waits with the batch, it goes when that has its answer.
   */
  free(): void {
    if (this.#isClaimed) {
      this.#isFreedAfter = true;
      return;
    }
    this.#payload.free();
    this.#tables.free();
    this.#count = 0;
  }

  /** Frees at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.free();
  }

  #requireIdle(syscall: string): void {
    if (!this.#isClaimed) return;
    const hint = "A batch belongs to one call at a time: wait for the first, or use another batch";
    throw new SystemError(EBUSY, syscall, { hint });
  }

  #release(): void {
    this.#isClaimed = false;
    if (this.#isFreedAfter) this.free();
  }

  #requireSlot(i: number): void {
    if (this.#gone()) this.#requireUsable();
    // The type first: a shift of anything but a number runs the caller's code.
    if (typeof i !== "number" || i >>> 0 !== i || i >= this.#capacity)
      requireInteger(i, 0, this.#capacity - 1, "the index of a slot");
  }

  // What the kernel is told comes from private members only: a subclass may override the others.

  #length(i: number): number {
    return Math.min(mmsghdr.msg_len.get(this.#view, i * HEADER), this.#slotBytes);
  }

  #truncated(i: number): boolean {
    return (msghdr.msg_flags.get(this.#view, i * HEADER) & MSG_TRUNC) !== 0;
  }

  #gone(): boolean {
    return this.#witness.length === 0 || this.#words.length === 0;
  }

  #requireUsable(): void {
    if (this.#gone())
      throw new TypeError("Cannot use a DatagramBatch whose memory was freed or transferred");
  }

  #nameOffset(i: number): number {
    return this.#layout.names + (this.#homes[i] as number) * NAME;
  }

  /** Bytes of the address of slot i; 0 where there is none. */
  #nameLength(i: number): number {
    const length = msghdr.msg_namelen.get(this.#view, i * HEADER);
    if (length < NO_NAME) return length;
    if (i >= this.#peerEnd || !this.#peer) return 0;
    this.#bytes.set(this.#peer, this.#nameOffset(i));
    this.#setNameLength(i, this.#peer.length);
    return this.#peer.length;
  }

  #setNameLength(i: number, length: number): void {
    msghdr.msg_namelen.set(this.#view, i * HEADER, length);
    this.#namedEnd = Math.max(this.#namedEnd, i + 1);
  }

  /** One recvmmsg. Returns the datagrams received, or `-errno`. */
  #receive(fd: number, flags: number, peer: Uint8Array | undefined): number {
    this.#requireUsable();
    // The kernel reads how much room there is for a name where it wrote how long the last one was.
    for (let i = 0; i < this.#namedEnd; i++) {
      msghdr.msg_namelen.set(this.#view, i * HEADER, NO_NAME);
    }
    this.#count = this.#namedEnd = this.#peerEnd = 0;
    if (this.#asksNames !== (peer === undefined)) this.#askNames(peer === undefined);
    // MSG_TRUNC as an input flag: msg_len tells the true length of a datagram that did not fit.
    const inputFlags = flags | MSG_DONTWAIT | MSG_TRUNC;
    const slots = flags & MSG_PEEK ? 1 : this.#capacity;
    const received = recvmmsg(fd, this.#tables.address, slots, inputFlags, null);
    if (received <= 0) return received;
    this.#count = received;
    if (peer === undefined) this.#namedEnd = received;
    else this.#peerEnd = received;
    this.#peer = peer;
    return received;
  }

  /** Gives the headers a place for the sender's name, or none: a name costs 67 ns a datagram. */
  #askNames(asks: boolean): void {
    for (let i = 0; i < this.#capacity; i++) {
      const name = asks ? this.#tables.address + this.#nameOffset(i) : 0;
      msghdr.msg_name.set(this.#view, i * HEADER, name);
    }
    this.#asksNames = asks;
  }

  /** Sets the headers that `#send` sends, from the lengths and addresses of the slots. */
  #prepareSend(first: number, connected: boolean): void {
    this.#requireUsable();
    requireInteger(first, 0, this.#count, "the first slot to send");
    const { sendHeaders, sendVectors } = this.#layout;
    const view = this.#view;
    const homes = this.#homes;
    if (this.#failed > 0) this.#failures.fill(0);
    this.#failed = 0;
    this.#sendEnd = this.#count;
    for (let i = first; i < this.#count; i++) {
      const header = sendHeaders + i * HEADER;
      const vector = sendVectors + (homes[i] as number) * iovec.size;
      iovec.iov_len.set(view, vector, this.#length(i));
      // A connected socket sends to its peer: an address here would go before it.
      msghdr.msg_namelen.set(view, header, connected ? 0 : sendableLength(this.#nameLength(i)));
      // The rest of a truncated datagram is lost, so it must not go on as if it were whole. This
      // many vectors the kernel refuses with EMSGSIZE before it reads one, and the slot fails like
      // any other.
      msghdr.msg_iovlen.set(view, header, this.#truncated(i) ? UIO_MAXIOV + 1 : 1);
    }
  }

  /**
   * Sends the prepared slots from `from` on. Returns how many were sent; `stopped` and `failure`
   * tell the rest.
   */
  #send(fd: number, from: number, flags: number, passOver: boolean, before: number): number {
    // Asked each time: a call that waited may find it gone.
    this.#requireUsable();
    const headers = this.#tables.address + this.#layout.sendHeaders;
    this.#stoppedErrno = 0;
    // Slots whose receivers have no room.
    let full: number[] | undefined;
    let sent = 0;
    let refused = -1;
    let i = from;
    while (i < this.#sendEnd) {
      const end = full ? this.#nextFull(i, full) : this.#sendEnd;
      if (end === i) {
        // Sent now, it could overtake what the same receiver had no room for.
        this.#fail(i++, EAGAIN);
        continue;
      }
      const result = sendmmsg(
        fd,
        headers + i * HEADER,
        end - i,
        flags | MSG_DONTWAIT | MSG_NOSIGNAL,
      );
      if (result > 0) {
        sent += result;
        i += result;
      } else if (result === -EAGAIN && passOver) {
        full ??= [];
        full.push(i);
      } else if (result === 0 || stopsBatch(-result)) {
        this.#stoppedIndex = i;
        this.#stoppedErrno = -result || EAGAIN;
        break;
      } else if (result === -ECONNREFUSED && refused !== i) {
        // It tells of an earlier datagram to the peer. This one has not been tried yet.
        refused = i;
      } else if (result !== -EINTR) {
        if (failsBatch(-result)) check(result, "sendmmsg", { transferred: before + sent });
        this.#fail(i++, -result);
      }
    }
    return sent;
  }

  #fail(i: number, errno: number): void {
    this.#failures[i] = errno;
    this.#failed++;
  }

  /** The first slot from `from` on that goes where one of the `full` goes, or `count`. */
  #nextFull(from: number, full: readonly number[]): number {
    for (let i = from; i < this.#sendEnd; i++)
      if (full.some((j) => this.#isSameReceiver(i, j))) return i;
    return this.#count;
  }

  #isSameReceiver(i: number, j: number): boolean {
    const length = this.#nameLength(i);
    if (length !== this.#nameLength(j)) return false;
    const at = this.#nameOffset(i);
    const other = this.#nameOffset(j);
    for (let k = 0; k < length; k++)
      if (this.#bytes[at + k] !== this.#bytes[other + k]) return false;
    return true;
  }

  static {
    isBatch = (value): value is DatagramBatch => value instanceof Object && #homes in value;
    receiveInto = (batch, fd, flags, peer) => batch.#receive(fd, flags, peer);
    prepareSend = (batch, first, connected) => batch.#prepareSend(first, connected);
    sendFrom = (batch, fd, from, flags, passOver, before = 0) =>
      batch.#send(fd, from, flags, passOver, before);
    requireIdle = (batch, syscall) => batch.#requireIdle(syscall);
    foundNoRoom = (batch) =>
      batch.#stoppedErrno === EAGAIN || (batch.#failed > 0 && batch.#failures.includes(EAGAIN));
    claim = (batch, syscall) => {
      batch.#requireUsable();
      batch.#requireIdle(syscall);
      batch.#isClaimed = true;
    };
    release = (batch) => batch.#release();
    poison = (batch) => {
      if (!batch.#gone()) batch.#memory.fill(POISON);
    };
    waitsFrom = (batch) => (batch.#stoppedErrno === EAGAIN ? batch.#stoppedIndex : -1);
  }
}

/** Where things are in the mapping of tables, in bytes. The headers to receive with come first. */
interface Layout {
  readonly sendHeaders: number;
  readonly receiveVectors: number;
  readonly sendVectors: number;
  readonly names: number;
  readonly end: number;
}

function layOut(capacity: number): Layout {
  const sendHeaders = capacity * HEADER;
  const receiveVectors = sendHeaders + capacity * HEADER;
  const sendVectors = receiveVectors + capacity * iovec.size;
  const names = sendVectors + capacity * iovec.size;
  return { sendHeaders, receiveVectors, sendVectors, names, end: names + capacity * NAME };
}

function swapWords(words: Int32Array, left: number, right: number): void {
  for (let i = 0; i < HEADER_WORDS; i++) {
    const word = words[left + i] as number;
    words[left + i] = words[right + i] as number;
    words[right + i] = word;
  }
}

// The length of anything like an array, but not of what only inherits from a typed array, or stands for
// one: that throws something of the engine's.
function lengthOf(indices: ArrayLike<number>): number {
  const isTyped = indices instanceof Object.getPrototypeOf(Uint8Array);
  if (!(indices instanceof Object) || (isTyped && !ArrayBuffer.isView(indices)))
    throw new TypeError(`Cannot keep ${describe(indices)}: expected an array of indices`);
  return indices.length;
}

// Errors of the socket or the device, not of one datagram: the rest would meet them too, and may be
// tried again later.
function stopsBatch(errno: number): boolean {
  return errno === EAGAIN || errno === ENOBUFS || errno === ENOMEM || errno === EPIPE;
}

// Errors of the call itself.
function failsBatch(errno: number): boolean {
  return errno === EBADF || errno === ENOTSOCK || errno === EFAULT || errno === ENOSYS;
}
