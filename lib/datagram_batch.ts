import {
  EAGAIN,
  EBADF,
  EBUSY,
  ECONNREFUSED,
  EFAULT,
  EINTR,
  EMSGSIZE,
  ENOBUFS,
  ENOMEM,
  ENOSYS,
  ENOTSOCK,
  EPIPE,
} from "../structs/constants/errno.ts";
import {
  AF_INET6,
  AF_UNIX,
  MSG_CTRUNC,
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
import {
  type Address,
  addressBytes,
  type InetAddress,
  sendableLength,
  toAnyAddress,
  toPortlessAddress,
} from "./address.ts";
import type { PacketChecksum } from "./control.ts";
import { check, SystemError, systemError, tooLongHint } from "./error.ts";
import { bytesOf } from "./ffi/memory.ts";
import { describe, requireInteger, requireOptions, requireView } from "./internal/arguments.ts";
import { errorsOf, loadModule } from "./internal/descriptor.ts";
import type { BatchTables, SegmentationOffload } from "./internal/offload.ts";
import { SenderTable } from "./internal/sender_table.ts";
import type * as slotControl from "./internal/slot_control.ts";
import { NativeBuffer } from "./native_buffer.ts";
import { errorName } from "./sys/errno.ts";
import { recvmmsg, sendmmsg } from "./sys/socket.ts";

/** What a DatagramBatch is made of. */
export interface DatagramBatchOptions {
  /** Slots: the most datagrams of one call. 1 to 1024, default 64. */
  readonly capacity?: number | undefined;
  /**
   * Bytes of payload a slot holds; what is longer arrives truncated. 1 to 2^24, default 2048. While
   * `UdpOption.gro` is on, fewer than 65,535, which hold every train, are refused: `batches` and
   * `onBatch` have 65,536 by default then.
   */
  readonly slotBytes?: number | undefined;
  /**
   * Senders remembered at the same time; the oldest is forgotten for a new one. 1 to 2^20, default
   * 4096.
   */
  readonly peersMax?: number | undefined;
  /**
   * Bytes of control messages of a slot, to receive and again to send: what the kernel tells of a
   * datagram beside its payload, once options of the socket ask for it, and what is said with one.
   * 0 to 65536, default 256, which holds all that the methods here read and write; 0 is none. While
   * `UdpOption.gro` is on, fewer than 24, which tell the size of the segments, are refused.
   */
  readonly controlBytes?: number | undefined;
}

/** Where and why sending stopped before the end of the batch. */
export interface Stopped {
  /**
   * The first slot that was not tried, or a train that the kernel refused whose datagrams have gone
   * out in part. Sending again from here continues.
   */
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
 * `MSG_TRUNC` among the flags makes the lengths those of the datagrams, and not of what did fit.
 * `domain` is the socket's: a Unix one gets no room for control messages.
 */
export let receiveInto: (
  batch: DatagramBatch,
  fd: number,
  flags: number,
  peer: Uint8Array | undefined,
  domain: number,
) => number;
/**
 * Makes the slots from `first` on ready for `sendFrom`; a connected socket sends to its peer,
 * whatever the slots say. `peer` is its sockaddr, which only an IPv6 socket needs whose peer can be
 * an IPv4 one, and only when `speaks`.
 */
export let prepareSend: (
  batch: DatagramBatch,
  first: number,
  connected: boolean,
  domain: number,
  peer: Uint8Array | undefined,
) => void;
/** Whether some slot from `first` on has control messages to send. */
export let speaks: (batch: DatagramBatch, first: number) => boolean;
/**
 * Refuses a batch that trains would not fit.
 *
 * @throws {RangeError} its slots are too short for them, or have no room for the segments' size
 */
export let requireTrainRoom: (batch: DatagramBatch) => void;
/** Whether some prepared slot is a train. */
export let hasTrains: (batch: DatagramBatch) => boolean;
/**
 * Sends prepared slots from `from` on. Returns how many were sent; `stopped` and `failure` tell the
 * rest. With `passOver`, "no room" fails the slots for that one receiver, and does not stop. An error of
 * the call itself tells of the `before` that were sent earlier, too. `offload` is needed where there
 * are trains.
 */
export let sendFrom: (
  batch: DatagramBatch,
  fd: number,
  from: number,
  flags: number,
  passOver: boolean,
  before: number,
  offload: SegmentationOffload | undefined,
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

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
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
const CONTROL_MAX = 65536;
/** The longest train: what the length field of UDP counts. */
const TRAIN_BYTES_MAX = 65_535;
/** CMSG_SPACE(sizeof(int)): the control message that tells the size of the segments. */
const SEGMENT_CONTROL = 24;
const INT_MAX = 2 ** 31 - 1;
const UINT_MAX = 2 ** 32 - 1;

/**
 * Memory for many datagrams, laid out once: what `recvmmsg` fills and `sendmmsg` sends, in place.
 * The same batch serves both directions: receive into it, edit, send it back to whoever sent it or
 * on through another socket, without a copy.
 *
 * Slots are numbered from 0. `memory` holds all payloads; slot i has `length(i)` bytes of it from
 * `offset(i)`. Reading a slot allocates nothing, except `view` and the first `address` of each
 * sender.
 *
 * What the kernel knows of each datagram beside its payload is read by slot too (`destination`,
 * `ttl`, `ecn`, `timestampSeconds`, `segmentBytes` …), once an option of the socket asks for it; and
 * what a datagram is to be sent with is written by slot (`setSource`, `setTtl`, `setEcn`, `reply` …).
 * What was told is never sent on unless it is written, but a train goes out as a train. What was
 * written stays with the slot until the next receive.
 *
 * Lifetime: the contents are valid until the next receive into the batch. `free` empties `memory`
 * and every view. A batch belongs to one transfer at a time: while a promise form waits with it,
 * every other receive into it and send of it fails with `EBUSY`. Its own methods work all the same,
 * and what they write to slots that a send has not sent yet may go out: leave it alone meanwhile.
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
  readonly #controlBytes: number;
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
  readonly #control: slotControl.SlotControl;
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
  /** The address family of the socket that has sent last. */
  #sendDomain = 0;
  /** What may be sent by it, once it has refused a slot as too long. */
  #tooLong: string | undefined;
  #hasTooLong = false;
  /** Whether a prepared slot is a train. */
  #hasTrains = false;
  /** The slot of a train that went out datagram by datagram, and not to its end; or -1. */
  #partSlot = -1;
  /** How many bytes of it have gone out. */
  #partBytes = 0;
  #trainTables: BatchTables | undefined;
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
    const {
      capacity = 64,
      slotBytes = 2048,
      peersMax = 4096,
      controlBytes = 256,
    } = requireOptions(options);
    requireInteger(capacity, 1, UIO_MAXIOV, "the capacity of a DatagramBatch");
    requireInteger(slotBytes, 1, 2 ** 24, "the slotBytes of a DatagramBatch");
    requireInteger(peersMax, 1, 2 ** 20, "the peersMax of a DatagramBatch");
    requireInteger(controlBytes, 0, CONTROL_MAX, "the controlBytes of a DatagramBatch");
    this.#capacity = capacity;
    this.#slotBytes = slotBytes;
    this.#controlBytes = controlBytes;
    this.#peersMax = peersMax;
    this.#slotStride = Math.ceil(slotBytes / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
    const { SlotControl, sentStride } = loadSlotControl();
    this.#layout = layOut(capacity, sentStride(controlBytes));
    this.#homes = Uint16Array.from({ length: capacity }, (_, i) => i);
    this.#failures = new Uint8Array(capacity);
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
    try {
      this.#control = new SlotControl(
        {
          capacity,
          homes: this.#homes,
          words: this.#words,
          bytes: this.#bytes,
          address: this.#tables.address,
          sendHeaders: this.#layout.sendHeaders,
          sentControl: this.#layout.sentControl,
        },
        controlBytes,
      );
    } catch (error) {
      this.#payload.free();
      this.#tables.free();
      throw error;
    }
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

  /** Bytes of control messages that a slot has room for, to receive and again to send. */
  get controlBytes(): number {
    return this.#control.controlBytes;
  }

  /** The memory of all payloads. Empty after `free`. */
  get memory(): Uint8Array<ArrayBuffer> {
    return this.#memory;
  }

  /**
   * How many slots are in use: set by a receive, and by whoever fills slots to send.
   *
   * @throws {RangeError} it is more than the capacity
   * @throws {TypeError} the memory was freed or transferred
   */
  get count(): number {
    return this.#count;
  }

  set count(count: number) {
    requireInteger(count, 0, this.#capacity, "the count of a DatagramBatch");
    this.#requireUsable();
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
    this.#forgetPart(i);
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
    this.#forgetPart(i);
    if (bytes) this.#bytes.set(bytes, this.#nameOffset(i));
    this.#setNameLength(i, bytes?.length ?? 0);
  }

  /**
   * Makes slot i go where slot j goes: copies the address of j to i, and from where and by which
   * interface it goes. `destination(i)` and `interfaceIndex(i)` are then those of j, so that `reply`
   * works with i too.
   *
   * @throws {RangeError} `controlBytes` have no room for it; nothing is written
   */
  copySender(i: number, j: number): void {
    this.#requireUsable();
    this.#requireSlot(i);
    this.#requireSlot(j);
    if (i === j) return;
    this.#control.copyPath(i, j);
    this.#forgetPart(i);
    const length = this.#nameLength(j);
    const source = this.#nameOffset(j) >> 2;
    this.#words.copyWithin(this.#nameOffset(i) >> 2, source, source + NAME / 4);
    this.#setNameLength(i, length);
  }

  /**
   * The bytes of each datagram in slot i but the last one, which may be shorter: where the socket
   * takes trains (`UdpOption.gro`), a slot may hold many datagrams of one sender and size, one after
   * another. `length(i)` where it holds a single one; never 0 unless that is.
   *
   * The size comes as a control message: where `controlTruncated(i)`, a train may look like a single
   * datagram. A train that was received goes out as the same train. `setSegmentBytes` says
   * otherwise, and `write` puts a single datagram in its place.
   *
   * @example Trains, datagram by datagram, without a view of each
   * ```ts
   * import { UdpOption, UdpSocket } from "bun-sockets";
   *
   * using receiver = UdpSocket.bind("127.0.0.1:0");
   * receiver.setOption(UdpOption.gro, true);
   * using sender = UdpSocket.open("ipv4");
   * sender.sendSegmentsSync(new Uint8Array(2500), { segmentBytes: 1200, to: receiver.localAddress });
   *
   * const lengths: number[] = [];
   * for await (const batch of receiver.batches()) {
   *   for (let i = 0; i < batch.count; i++) {
   *     const step = batch.segmentBytes(i);
   *     for (let at = 0; at < batch.length(i); at += step)
   *       lengths.push(Math.min(step, batch.length(i) - at)); // from batch.offset(i) + at
   *   }
   *   break; // a server would go on
   * }
   * console.log(lengths.join(" ")); // 1200 1200 100
   * ```
   */
  segmentBytes(i: number): number {
    this.#requireSlot(i);
    return this.#control.segmentBytes(i, this.#length(i));
  }

  /**
   * Makes slot i go out in datagrams of this size, the last one shorter, where it is longer than
   * that. What the kernel refuses as a train goes out datagram by datagram in its place, and counts as
   * one slot still: see `UdpSocket.offload`.
   *
   * @param bytes 1 to 65535; 0 is one datagram, whatever was received; undefined takes back what was
   * set
   * @throws {RangeError} bytes is out of range, or `controlBytes` is 0
   */
  setSegmentBytes(i: number, bytes: number | undefined): void {
    this.#requireWritable(i, bytes, 0, 0xffff, "the size of segments");
    this.#forgetPart(i);
    this.#control.setSegmentBytes(i, bytes);
  }

  /**
   * Where the datagram in slot i was sent to, with port 0: an address of this machine, a group, or
   * everybody. Of the socket's family, as `address`: on an IPv6 socket IPv4 ones are mapped. One
   * object for each. Undefined where the kernel did not tell: it does when
   * `IpOption.receivePacketInfo` is on, or of an IPv6 socket `Ipv6Option.receivePacketInfo`.
   */
  destination(i: number): InetAddress | undefined {
    this.#requireSlot(i);
    return this.#control.destination(i) as InetAddress | undefined;
  }

  /**
   * By which interface the datagram in slot i came in. -1 where the kernel did not tell: it does when
   * it tells the `destination`, but for what came by IPv4 before the option was on.
   */
  interfaceIndex(i: number): number {
    this.#requireSlot(i);
    return this.#control.interfaceIndex(i);
  }

  /**
   * The TTL or hop limit that the datagram in slot i arrived with, 0 to 255. -1 where the kernel did
   * not tell: it does when `IpOption.receiveTtl` is on, for IPv6 `Ipv6Option.receiveHopLimit`.
   */
  ttl(i: number): number {
    this.#requireSlot(i);
    return this.#control.ttl(i);
  }

  /**
   * The type of service or traffic class that the datagram in slot i arrived with, 0 to 255: six bits
   * of DSCP, two of ECN. -1 where the kernel did not tell: it does when `IpOption.receiveTos` is on,
   * for IPv6 `Ipv6Option.receiveTrafficClass`.
   */
  trafficClass(i: number): number {
    this.#requireSlot(i);
    return this.#control.trafficClass(i);
  }

  /**
   * The congestion mark that the datagram in slot i arrived with: 0 not capable, 1 ECT(1), 2 ECT(0),
   * 3 congestion experienced. -1 where the traffic class is not known.
   */
  ecn(i: number): number {
    const trafficClass = this.trafficClass(i);
    return trafficClass < 0 ? -1 : trafficClass & 3;
  }

  /**
   * When the datagram in slot i came, by the system's clock: whole seconds since 1970. -1 where the
   * kernel did not tell: it does when `SocketOption.timestampNs`, `timestamp` or `timestamping` is
   * on. The device's clock only where there is no other time.
   */
  timestampSeconds(i: number): number {
    this.#requireSlot(i);
    return this.#control.timestampSeconds(i);
  }

  /** The nanoseconds after `timestampSeconds(i)`; -1 where the kernel did not tell. */
  timestampNanoseconds(i: number): number {
    this.#requireSlot(i);
    return this.#control.timestampNanoseconds(i);
  }

  /**
   * When the datagram in slot i came, in nanoseconds since 1970; undefined where the kernel did not
   * tell. Allocates a bigint: the two halves above do not.
   */
  timestampNs(i: number): bigint | undefined {
    const seconds = this.timestampSeconds(i);
    if (seconds < 0) return undefined;
    return BigInt(seconds) * 1_000_000_000n + BigInt(this.timestampNanoseconds(i));
  }

  /**
   * How many datagrams the socket had dropped for lack of room when that in slot i came in, counted
   * since it was opened, modulo 2^32. -1 where the kernel did not tell: it does when
   * `SocketOption.receiveQueueOverflow` is on, once there was one.
   */
  dropped(i: number): number {
    this.#requireSlot(i);
    return this.#control.dropped(i);
  }

  /**
   * The mark of the datagram in slot i, 32 bits that the firewall set. -1 where the kernel did not
   * tell: it does when `SocketOption.receiveMark` is on.
   */
  mark(i: number): number {
    this.#requireSlot(i);
    return this.#control.mark(i);
  }

  /**
   * The VLAN tag of the packet in slot i, its 16 bits (TCI): the kernel or the device has taken it out
   * of the packet. -1 where it had none, or the kernel did not tell: it does to a `PacketSocket` with
   * `auxiliaryData`; so for the three that follow.
   */
  vlan(i: number): number {
    this.#requireSlot(i);
    return this.#control.vlan(i);
  }

  /** The protocol of that tag, `ETH_P_8021Q` or `ETH_P_8021AD`. -1 where `vlan(i)` is. */
  vlanProtocol(i: number): number {
    this.#requireSlot(i);
    return this.#control.vlanProtocol(i);
  }

  /**
   * What the kernel knows of the checksum of the packet in slot i: "unfinished" where the device is
   * yet to write it, as on packets that this machine sends; "valid" where somebody has checked it;
   * "unknown" where nobody has, or the kernel did not tell.
   */
  checksum(i: number): PacketChecksum {
    this.#requireSlot(i);
    return this.#control.checksum(i);
  }

  /** The union of `TP_STATUS_` bits of the packet in slot i. -1 where the kernel did not tell. */
  packetStatus(i: number): number {
    this.#requireSlot(i);
    return this.#control.packetStatus(i);
  }

  /**
   * The control messages that came with slot i, as the kernel wrote them: a view made when asked,
   * overwritten by the next receive. For those that have no method here.
   */
  control(i: number): Uint8Array<ArrayBuffer> {
    this.#requireUsable();
    this.#requireSlot(i);
    return this.#control.view(i);
  }

  /** Whether `controlBytes` were too few for what the kernel had to tell of slot i. */
  controlTruncated(i: number): boolean {
    this.#requireSlot(i);
    return this.#controlTruncated(i);
  }

  /**
   * Makes slot i, or every slot in use, go back from the address that its datagram was sent to, so
   * that a client of a machine with many addresses hears from the one that it asked; and by the
   * interface that it came in by where addresses mean nothing without one. What was sent to a group
   * or to everybody is answered from the address of this machine that IPv4 tells for it (an IPv6
   * socket too, when `IpOption.receivePacketInfo` is on), and else from the one that the route
   * chooses.
   *
   * @throws {TypeError} the kernel did not tell where a slot was sent to: see `destination`. The
   * message names the slot and says why; nothing is written to any slot
   * @throws {RangeError} `controlBytes` have no room for it; nothing is written
   *
   * @example A server on all addresses of a machine
   * ```ts
   * import { DatagramBatch, IpOption, UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("0.0.0.0:0");
   * server.setOption(IpOption.receivePacketInfo, true);
   * using client = UdpSocket.open("ipv4");
   * client.sendToSync("ping", `127.0.0.2:${server.localAddress.port}`);
   *
   * using batch = new DatagramBatch();
   * server.receiveBatchSync(batch);
   * batch.reply();
   * server.trySendBatch(batch);
   * console.log(batch.destination(0)?.host); // 127.0.0.2
   * console.log((await client.receiveFrom(new Uint8Array(4))).address.host); // 127.0.0.2
   * ```
   */
  reply(i?: number): void {
    this.#requireUsable();
    if (i !== undefined) this.#requireSlot(i);
    const first = i ?? 0;
    const end = i === undefined ? this.#count : first + 1;
    for (let k = first; k < end; k++) {
      if (!this.#control.knowsDestination(k))
        throw new TypeError(
          `Cannot reply from where slot ${k} was sent to, which is not known: ` +
            this.#control.whyNoDestination(k, this.#controlTruncated(k)),
        );
      this.#control.reply(k, false);
    }
    for (let k = first; k < end; k++) this.#control.reply(k, true);
  }

  /**
   * Sets the address that slot i goes out from. The slot fails with `EINVAL` where it is of another
   * family than where the slot goes, and with that or `ENETUNREACH` where it is not of this machine.
   *
   * @param address an address, or its text, whose port does not matter and may be left out:
   * "10.1.1.1", "fe80::1%eth0"; undefined leaves it to the kernel
   * @throws {TypeError} it is no IP address
   * @throws {RangeError} `controlBytes` have no room for it
   */
  setSource(i: number, address: InetAddress | string | undefined): void {
    const bytes = address === undefined ? undefined : addressBytes(toPortlessAddress(address));
    this.#requireUsable();
    this.#requireSlot(i);
    this.#control.setSource(i, bytes);
  }

  /**
   * Sets the interface that slot i goes out by.
   *
   * @param index of the interface, to 2^31 - 1; 0 or undefined leaves it to the route
   * @throws {RangeError} index is out of range, or `controlBytes` have no room for it
   */
  setInterfaceIndex(i: number, index: number | undefined): void {
    this.#requireWritable(i, index, 0, INT_MAX, "an interface index");
    this.#control.setInterfaceIndex(i, index ?? 0);
  }

  /**
   * Sets the TTL or hop limit that slot i goes out with.
   *
   * @param ttl 1 to 255; undefined is the socket's
   * @throws {RangeError} ttl is out of range, or `controlBytes` have no room for it
   */
  setTtl(i: number, ttl: number | undefined): void {
    this.#requireWritable(i, ttl, 1, 255, "a TTL");
    this.#control.setTtl(i, ttl);
  }

  /**
   * Sets the type of service or traffic class that slot i goes out with: DSCP and ECN together, so
   * that what `setEcn` has set before is overwritten.
   *
   * @param trafficClass 0 to 255; undefined is the socket's
   * @throws {RangeError} trafficClass is out of range, or `controlBytes` have no room for it
   */
  setTrafficClass(i: number, trafficClass: number | undefined): void {
    this.#requireWritable(i, trafficClass, 0, 255, "a traffic class");
    this.#control.setTrafficClass(i, trafficClass);
  }

  /**
   * Sets the ECN bits that slot i goes out with. The DSCP is that of `setTrafficClass`, called
   * before; without that it is 0, and not that of the socket. A `setTrafficClass` after it
   * overwrites the ECN bits.
   *
   * @param ecn 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion experienced
   * @throws {RangeError} ecn is out of range, or `controlBytes` have no room for it
   */
  setEcn(i: number, ecn: number): void {
    requireInteger(ecn, 0, 3, "ECN bits");
    this.#requireUsable();
    this.#requireSlot(i);
    this.#control.setEcn(i, ecn);
  }

  /**
   * Sets the mark that slot i goes out with, for the firewall and for routing. Takes CAP_NET_RAW or
   * CAP_NET_ADMIN: else the slot fails with `EPERM`.
   *
   * @param mark 0 to 2^32 - 1; undefined is the socket's
   * @throws {RangeError} mark is out of range, or `controlBytes` have no room for it
   */
  setMark(i: number, mark: number | undefined): void {
    this.#requireWritable(i, mark, 0, UINT_MAX, "a mark");
    this.#control.setMark(i, mark);
  }

  /**
   * Sets when slot i is to go out, by the clock that `SocketOption.transmitTime` names: without that
   * option the slot fails with `EINVAL`. It takes a queueing discipline (etf, fq) that holds it back
   * until then.
   *
   * @param seconds whole seconds, to 2^34; undefined is at once
   * @param nanoseconds after that, 0 to 999,999,999
   * @throws {RangeError} one is out of range, or `controlBytes` have no room for it
   */
  setTransmitTime(i: number, seconds: number | undefined, nanoseconds = 0): void {
    requireInteger(nanoseconds, 0, 999_999_999, "the nanoseconds of a time");
    this.#requireWritable(i, seconds, 0, 2 ** 34, "the seconds of a time");
    if (seconds === undefined) this.#control.setTransmitTime(i, undefined, 0);
    else {
      // The product has more than the 53 bits of a number: in parts of 16 bits each has fewer.
      const upper = Math.floor(seconds / 65536) * 1e9;
      const lower = (seconds % 65536) * 1e9 + nanoseconds + (upper % 65536) * 65536;
      const high = Math.floor(upper / 65536) + Math.floor(lower / 2 ** 32);
      this.#control.setTransmitTime(i, (lower % 2 ** 32) | 0, high | 0);
    }
  }

  /**
   * Sets control messages that slot i goes out with as they are, before those of the other methods,
   * which the kernel prefers where both say something. The slot fails with `EINVAL` where they are
   * none.
   *
   * @param bytes as `struct cmsghdr` lays them out, copied; undefined is none
   * @throws {TypeError} it is no view
   * @throws {RangeError} `controlBytes` have no room for them
   */
  setControl(i: number, bytes: ArrayBufferView | undefined): void {
    if (bytes !== undefined) requireView(bytes, "control messages");
    this.#requireUsable();
    this.#requireSlot(i);
    this.#control.setControl(i, bytes === undefined ? NO_BYTES : bytesOf(bytes));
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
    this.#control.replace(i);
  }

  /** Exchanges two slots, by exchanging their headers: no payload moves. */
  swap(i: number, j: number): void {
    this.#requireSlot(i);
    this.#requireSlot(j);
    this.#requireUsable();
    // What a header without a name means depends on its place: so it is settled before it moves.
    this.#setNameLength(i, this.#nameLength(i));
    this.#setNameLength(j, this.#nameLength(j));
    this.#control.settle(Math.max(i, j));
    const { sendHeaders } = this.#layout;
    swapWords(this.#words, i * HEADER_WORDS, j * HEADER_WORDS);
    swapWords(this.#words, sendHeaders / 4 + i * HEADER_WORDS, sendHeaders / 4 + j * HEADER_WORDS);
    const home = this.#homes[i] as number;
    this.#homes[i] = this.#homes[j] as number;
    this.#homes[j] = home;
    if (this.#partSlot === i) this.#partSlot = j;
    else if (this.#partSlot === j) this.#partSlot = i;
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
   * "EMSGSIZE" (too long, or truncated when received), … Undefined where it was sent, or not tried. Of
   * a train that went out datagram by datagram the first ones may have been sent.
   * The numbers are those of the send: `swap` and `keep` do not move them, the next send forgets
   * them.
   */
  failure(i: number): string | undefined {
    this.#requireSlot(i);
    const errno = this.#failures[i] as number;
    return errno === 0 ? undefined : errorName(errno);
  }

  /**
   * The same as the error that a single send of slot i would have thrown, with a `hint` where we know
   * what helps; made when asked. Undefined where `failure(i)` is. Its address is that of the slot as
   * it stands: ask before it is changed.
   */
  failureError(i: number): SystemError | undefined {
    this.#requireSlot(i);
    const errno = this.#failures[i] as number;
    if (errno === 0) return undefined;
    const address = this.#sendNameLength(i) > 0 ? this.address(i) : undefined;
    let hint: string | undefined;
    if (errno === EMSGSIZE) hint = this.#truncated(i) ? CUT : this.#tooLong;
    const details = { hint, unix: this.#sendDomain === AF_UNIX };
    return systemError(
      errno,
      "sendmmsg",
      address ? { ...details, address, sending: true } : details,
    );
  }

  /** Whether the memory is gone: freed, or its ArrayBuffer was transferred. */
  get freed(): boolean {
    return this.#gone() || this.#control.gone;
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
    this.#control.free();
    this.#count = 0;
  }

  /** Frees at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.free();
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#homes in this)) return "DatagramBatch";
    if (this.#gone() || this.#control.gone) return "DatagramBatch, freed";
    return `DatagramBatch, ${this.#count} of ${this.#capacity} slots of ${this.#slotBytes} bytes`;
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

  #requireWritable(
    i: number,
    value: number | undefined,
    minimum: number,
    maximum: number,
    name: string,
  ): void {
    if (value !== undefined) requireInteger(value, minimum, maximum, name);
    this.#requireUsable();
    this.#requireSlot(i);
  }

  // What the kernel is told comes from private members only: a subclass may override the others.

  #forgetPart(i: number): void {
    if (this.#partSlot === i) this.#partSlot = -1;
  }

  #length(i: number): number {
    return Math.min(mmsghdr.msg_len.get(this.#view, i * HEADER), this.#slotBytes);
  }

  #truncated(i: number): boolean {
    return (msghdr.msg_flags.get(this.#view, i * HEADER) & MSG_TRUNC) !== 0;
  }

  #controlTruncated(i: number): boolean {
    return (msghdr.msg_flags.get(this.#view, i * HEADER) & MSG_CTRUNC) !== 0;
  }

  #gone(): boolean {
    return this.#witness.length === 0 || this.#words.length === 0;
  }

  #requireUsable(): void {
    if (this.#gone() || this.#control.gone)
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

  /** Bytes of the address that slot i was prepared with: 0 on a connected socket. */
  #sendNameLength(i: number): number {
    return msghdr.msg_namelen.get(this.#view, this.#layout.sendHeaders + i * HEADER);
  }

  #setNameLength(i: number, length: number): void {
    msghdr.msg_namelen.set(this.#view, i * HEADER, length);
    this.#namedEnd = Math.max(this.#namedEnd, i + 1);
  }

  /** One recvmmsg. Returns the datagrams received, or `-errno`. */
  #receive(fd: number, flags: number, peer: Uint8Array | undefined, domain: number): number {
    this.#requireUsable();
    this.#control.begin(domain);
    // The kernel reads how much room there is for a name where it wrote how long the last one was.
    for (let i = 0; i < this.#namedEnd; i++) {
      msghdr.msg_namelen.set(this.#view, i * HEADER, NO_NAME);
    }
    this.#count = this.#namedEnd = this.#peerEnd = 0;
    this.#partSlot = -1;
    if (this.#asksNames !== (peer === undefined)) this.#askNames(peer === undefined);
    const slots = flags & MSG_PEEK ? 1 : this.#capacity;
    const received = recvmmsg(fd, this.#tables.address, slots, flags | MSG_DONTWAIT, null);
    if (received <= 0) return received;
    this.#count = received;
    this.#control.end(received);
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
  #prepareSend(
    first: number,
    connected: boolean,
    domain: number,
    peer: Uint8Array | undefined,
  ): void {
    this.#requireUsable();
    requireInteger(first, 0, this.#count, "the first slot to send");
    const { sendHeaders, sendVectors } = this.#layout;
    const view = this.#view;
    const homes = this.#homes;
    const control = this.#control;
    if (this.#failed > 0) this.#forgetFailures();
    this.#sendDomain = domain;
    this.#hasTrains = false;
    if (this.#partSlot !== first) this.#partSlot = -1;
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
      if (!control.speaks(i)) control.clear(i);
      else {
        const name = connected ? (peer ?? NO_BYTES) : this.#bytes;
        control.prepare(i, this.#length(i), domain, name, connected ? 0 : this.#nameOffset(i));
        if (control.preparedSegment(i) > 0) this.#hasTrains = true;
      }
    }
  }

  #speaks(first: number): boolean {
    // Asked before anything else is: a number far below 0 would be counted up from.
    this.#requireUsable();
    requireInteger(first, 0, this.#count, "the first slot to send");
    for (let i = first; i < this.#count; i++) if (this.#control.speaks(i)) return true;
    return false;
  }

  /**
   * Sends the prepared slots from `from` on. Returns how many were sent; `stopped` and `failure`
   * tell the rest.
   */
  #send(
    fd: number,
    from: number,
    flags: number,
    passOver: boolean,
    before: number,
    offload: SegmentationOffload | undefined,
  ): number {
    // Asked each time: a call that waited may find it gone.
    this.#requireUsable();
    this.#stoppedErrno = 0;
    // Slots whose receivers have no room.
    let full: number[] | undefined;
    let sent = 0;
    let refused = -1;
    let passed = 0;
    let wasShort = false;
    let i = from;
    while (i < this.#sendEnd) {
      const end = full ? this.#nextFull(i, full) : this.#nextAlone(i, offload);
      if (full && end === i) {
        // Sent now, it could overtake what the same receiver had no room for.
        this.#fail(i++, EAGAIN, fd);
        continue;
      }
      const result = this.#sendSome(fd, i, end, flags | MSG_DONTWAIT | MSG_NOSIGNAL, offload);
      if (result > 0) {
        sent += result;
        i += result;
        // What stopped the one before was a pending error, which that call has used up.
        if (wasShort) errorsOf(fd)?.drain(fd);
        wasShort = i < end;
      } else if (result === -EAGAIN && passOver) {
        full ??= [];
        full.push(i);
      } else if (result === 0 || stopsBatch(-result)) {
        this.#stoppedIndex = i;
        this.#stoppedErrno = -result || EAGAIN;
        break;
      } else if (errorsOf(fd)?.passes(fd, result, refused === i ? passed : 0)) {
        // It tells of an earlier datagram, and was queued for whoever wants to know.
        passed = refused === i ? passed + 1 : 1;
        refused = i;
      } else if (result === -ECONNREFUSED && refused !== i) {
        // It tells of an earlier datagram to the peer. This one has not been tried yet.
        refused = i;
      } else if (result !== -EINTR) {
        if (failsBatch(-result)) check(result, "sendmmsg", { transferred: before + sent });
        this.#fail(i++, -result, fd);
      }
    }
    return sent;
  }

  #forgetFailures(): void {
    this.#failures.fill(0);
    this.#failed = 0;
    this.#hasTooLong = false;
  }

  #fail(i: number, errno: number, fd: number): void {
    this.#forgetPart(i);
    this.#failures[i] = errno;
    this.#failed++;
    if (errno !== EMSGSIZE || this.#hasTooLong || this.#sendDomain === AF_UNIX) return;
    // Now, while there is a socket to ask.
    this.#hasTooLong = true;
    this.#tooLong = tooLongHint(-errno, "sendmmsg", fd, this.#sendDomain === AF_INET6);
  }

  /** Sends slots i to `end`, or slot i datagram by datagram where that is `end`, or it is refused. */
  #sendSome(
    fd: number,
    i: number,
    end: number,
    flags: number,
    offload: SegmentationOffload | undefined,
  ): number {
    if (offload && end === i) return this.#sendAlone(fd, i, flags, offload, 0);
    const headers = this.#tables.address + this.#layout.sendHeaders;
    let result = sendmmsg(fd, headers + i * HEADER, end - i, flags);
    if (!offload) return result;
    for (let tries = 0; offload.isStale(fd, result, tries); tries++)
      result = sendmmsg(fd, headers + i * HEADER, end - i, flags);
    for (let k = i; k < i + result; k++) {
      const segment = this.#control.preparedSegment(k);
      if (segment > 0) offload.count(Math.ceil(this.#length(k) / segment));
    }
    const isTrain = this.#control.preparedSegment(i) > 0 && !this.#truncated(i);
    const isRefused = isTrain && offload.isAboutTrain(-result);
    return isRefused ? this.#sendAlone(fd, i, flags, offload, -result) : result;
  }

  /** The first slot from `from` on that goes out datagram by datagram, or where the slots end. */
  #nextAlone(from: number, offload: SegmentationOffload | undefined): number {
    if (!offload) return this.#sendEnd;
    for (let i = from; i < this.#sendEnd; i++) {
      if (i === this.#partSlot) return i;
      const segment = this.#control.preparedSegment(i);
      if (segment === 0 || this.#truncated(i)) continue;
      const length = this.#sendNameLength(i);
      if (offload.refuses(this.#words, this.#nameOffset(i) >> 2, length, segment)) return i;
    }
    return this.#sendEnd;
  }

  /** Sends what is left of slot i datagram by datagram. Returns 1, or `-errno` when it is not done. */
  #sendAlone(
    fd: number,
    i: number,
    flags: number,
    offload: SegmentationOffload,
    errno: number,
  ): number {
    const { sendHeaders } = this.#layout;
    this.#trainTables ??= { view: this.#view, words: this.#words, address: this.#tables.address };
    const from = this.#partSlot === i ? this.#partBytes : 0;
    const header = sendHeaders + i * HEADER;
    const sent = offload.sendAlone(fd, flags, this.#trainTables, header, from, errno);
    this.#partSlot = offload.stopped === 0 || sent === 0 ? -1 : i;
    this.#partBytes = sent;
    return offload.stopped === 0 ? 1 : -offload.stopped;
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
    receiveInto = (batch, fd, flags, peer, domain) => batch.#receive(fd, flags, peer, domain);
    prepareSend = (batch, first, connected, domain, peer) =>
      batch.#prepareSend(first, connected, domain, peer);
    speaks = (batch, first) => batch.#speaks(first);
    requireTrainRoom = (batch) => {
      if (batch.#slotBytes < TRAIN_BYTES_MAX) throw tooShortForTrains(batch.#slotBytes);
      if (batch.#controlBytes < SEGMENT_CONTROL) throw tooFewForSegments(batch.#controlBytes);
    };
    hasTrains = (batch) => batch.#hasTrains;
    sendFrom = (batch, fd, from, flags, passOver, before, offload) =>
      batch.#send(fd, from, flags, passOver, before, offload);
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
      batch.#control.poison(POISON);
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
  readonly sentControl: number;
  readonly end: number;
}

function layOut(capacity: number, sentStride: number): Layout {
  const sendHeaders = capacity * HEADER;
  const receiveVectors = sendHeaders + capacity * HEADER;
  const sendVectors = receiveVectors + capacity * iovec.size;
  const names = sendVectors + capacity * iovec.size;
  const sentControl = names + capacity * NAME;
  const end = sentControl + capacity * sentStride;
  return { sendHeaders, receiveVectors, sendVectors, names, sentControl, end };
}

// Loaded by the first batch: an import pays for nothing that is not used.
function loadSlotControl(): typeof slotControl {
  return loadModule(() => require("./internal/slot_control.ts"));
}

const NO_BYTES = new Uint8Array(0);
const CUT =
  "It was longer than its slot when it was received: setLength makes what is there a datagram";

/** The error of slots that would lose datagrams of a train. */
export function tooShortForTrains(slotBytes: number): RangeError {
  return new RangeError(
    `Cannot receive into slots of ${slotBytes} bytes while UdpOption.gro is on: expected ${TRAIN_BYTES_MAX} or more, which hold every train`,
  );
}

/** The error of control memory without which a train looks like one datagram. */
export function tooFewForSegments(controlBytes: number): RangeError {
  return new RangeError(
    `Cannot receive with ${controlBytes} controlBytes while UdpOption.gro is on: expected ${SEGMENT_CONTROL} or more, which tell the size of the segments`,
  );
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
