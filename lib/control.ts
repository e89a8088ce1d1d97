import { cmsghdr } from "../structs/cmsghdr.ts";
import {
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  IPV6_TCLASS,
} from "../structs/constants/netinet_in.ts";
import {
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SCM_TXTIME,
  SO_MARK,
  SO_PRIORITY,
  SO_TIMESTAMPING,
  SOL_SOCKET,
} from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toPortlessAddress } from "./address.ts";
import type { ExtendedError } from "./error_queue.ts";
import { byteLengthOf, bytesOf } from "./ffi/memory.ts";
import { describe, requireInteger, requireObject, requireView } from "./internal/arguments.ts";
import type * as Codec from "./internal/control_codec.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { HasDescriptor, PeerCredentials } from "./option.ts";

/** A moment by the system's clock, or by a clock of the hardware, counted from 1970. */
export interface ControlTime {
  /** Whole seconds. */
  readonly seconds: number;
  /** What is more than those, 0 to 999,999,999. */
  readonly nanoseconds: number;
  /** Both in nanoseconds. */
  readonly ns: bigint;
}

/**
 * What came beside the payload of a message, by its `kind`. What is not known here, or is shorter than
 * its kind, is "unknown" and keeps its bytes.
 */
export type ControlMessage =
  /** `SCM_RIGHTS`: open descriptors, the receiver's to close. */
  | { readonly kind: "descriptors"; readonly descriptors: readonly number[] }
  /** `SCM_CREDENTIALS`: who sent it. See `SocketOption.passCredentials`. */
  | ({ readonly kind: "credentials" } & PeerCredentials)
  /**
   * `SCM_PIDFD`: a descriptor of the process that sent it, the receiver's to close; `-errno` where the
   * kernel could not open one.
   */
  | { readonly kind: "processDescriptor"; readonly descriptor: number }
  /**
   * `IP_PKTINFO`, `IPV6_PKTINFO`: the address that it came to, with port 0, and through which
   * interface. An IPv6 socket tells an IPv4 address as an IPv4-mapped one. The local address is the
   * one to answer from: another where it came to an IPv4 group or by broadcast, and undefined where
   * it came to an IPv6 group.
   */
  | {
      readonly kind: "packetInfo";
      readonly address: InetAddress;
      readonly localAddress: InetAddress | undefined;
      readonly interfaceIndex: number;
    }
  /** `IP_TTL`, `IPV6_HOPLIMIT`: over how many hops it may still have gone. */
  | { readonly kind: "ttl"; readonly ttl: number }
  /**
   * `IP_TOS`, `IPV6_TCLASS`: the traffic class, all 8 bits, and the lower 2 of them: 0 is not ECN
   * capable, 1 is ECT(1), 2 is ECT(0), 3 is congestion experienced.
   */
  | { readonly kind: "trafficClass"; readonly trafficClass: number; readonly ecn: number }
  /** `SCM_TIMESTAMPNS`, `SCM_TIMESTAMP`: when the kernel received it. */
  | ({ readonly kind: "timestamp" } & ControlTime)
  /**
   * `SCM_TIMESTAMPING`: when it was received, or sent, each undefined where nobody took the time: by
   * the kernel's clock, by that of the hardware, and (no driver does any more) that converted. What
   * comes right after `SocketOption.timestamping` was set may have none yet.
   */
  | {
      readonly kind: "timestamping";
      readonly software: ControlTime | undefined;
      readonly hardware: ControlTime | undefined;
      readonly hardwareConverted: ControlTime | undefined;
    }
  /** `UDP_GRO`: it is a train of datagrams of this size, of which the last may be shorter. */
  | { readonly kind: "segmentBytes"; readonly segmentBytes: number }
  /** `SO_RXQ_OVFL`: how many this socket had to drop so far. Told once there are some. */
  | { readonly kind: "dropped"; readonly dropped: number }
  /** `SO_MARK`: the mark of the packet. */
  | { readonly kind: "mark"; readonly mark: number }
  /** `SO_PRIORITY`: the queueing priority of the packet. */
  | { readonly kind: "priority"; readonly priority: number }
  /** `TCP_CM_INQ`, `SCM_INQ`: how many bytes of the stream are left to receive. */
  | { readonly kind: "inQueue"; readonly bytes: number }
  /** `IP_ORIGDSTADDR`, `IPV6_ORIGDSTADDR`: where it was sent to, before any redirection. */
  | { readonly kind: "originalDestination"; readonly address: InetAddress }
  /**
   * `PACKET_AUXDATA`: what the kernel knows of a packet beside its bytes: how long it was, and how much
   * of that the filter has let through; where its network header begins; its VLAN tag, which is not
   * among its bytes, where it had one; `status` is a union of `TP_STATUS_` constants.
   */
  | {
      readonly kind: "auxiliaryData";
      readonly status: number;
      readonly originalLength: number;
      readonly capturedLength: number;
      readonly networkOffset: number;
      readonly vlan: number | undefined;
      readonly vlanProtocol: number | undefined;
      readonly checksum: PacketChecksum;
    }
  /** `IP_RECVERR`, `IPV6_RECVERR`: an error out of the error queue. */
  | ({ readonly kind: "extendedError" } & ExtendedError)
  /** Anything else. A view, valid until the memory is used again. */
  | {
      readonly kind: "unknown";
      readonly level: number;
      readonly type: number;
      readonly data: Uint8Array<ArrayBuffer>;
    };

/**
 * What the kernel knows of the checksum of a packet: the device is yet to write it, as on packets that
 * this machine sends; somebody has checked it; or nobody has, which says nothing of it.
 */
export type PacketChecksum = "unfinished" | "valid" | "unknown";

/** What a control message is. */
export type ControlKind = ControlMessage["kind"];

/**
 * Which version of IP a packet is of: "ipv4" also where an IPv6 socket sends to an IPv4-mapped
 * address.
 */
export type PacketFamily = "ipv4" | "ipv6";

/** From where a message is to go out. */
export interface PacketSource {
  /**
   * One of this machine's addresses, or its text. Its port is not looked at, and may be left out:
   * "10.1.1.1". Default by route.
   */
  readonly source?: Address | string | undefined;
  /** Through which interface. Default the zone of the source, or by route. */
  readonly interfaceIndex?: number | undefined;
}

// Set by the class below, for Message only. The package does not export them.

/** Makes a writer that tells of each change of its length. */
export let watchedWriter: (
  bytes: Uint8Array<ArrayBuffer>,
  onLength: (length: number) => void,
) => ControlWriter;

/** Says that the first bytes of a writer's memory are in use. */
export let setWritten: (writer: ControlWriter, length: number) => void;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const HEADER = cmsghdr.size;
const SHORT = 2;
const INT = 4;
const NONE = -1;
const BYTE_MAX = 0xff;
const INT_MAX = 0x7fff_ffff;
const UINT_MAX = 0xffff_ffff;
const SEGMENT_BYTES_MAX = 0xffff;
/** `SCM_MAX_FD` of the kernel: the most descriptors of one message. */
const DESCRIPTORS_MAX = 253;

/** `CMSG_ALIGN` of cmsg(3), for every length that is exact as a number. */
function align(length: number): number {
  return length + (-length & 7);
}

/**
 * Reads control messages in place: what recvmsg(2) has written beside the payload. Goes from one to
 * the next, and allocates nothing unless it is asked for an object (`data`, `address`, `ns`,
 * `message`).
 *
 * Nothing outside of the bytes is ever read, whatever they say. What claims to be longer than there
 * is room for is cut there, and `truncated`; where no control message can begin, reading ends.
 *
 * Lifetime: the memory stays the caller's. What is read is what it holds at that moment.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/cmsg.3.html | cmsg(3)}
 *
 * @example Where a datagram came to
 * ```ts
 * import { ControlReader, IpOption, Message, UdpSocket } from "bun-sockets";
 *
 * using server = UdpSocket.bind("0.0.0.0:0");
 * server.setOption(IpOption.receivePacketInfo, true);
 * using client = UdpSocket.open("ipv4");
 * client.sendToSync("hello", `127.0.0.2:${server.localAddress.port}`);
 *
 * const message = new Message({ vectors: [Buffer.alloc(100)], controlBytes: 64 });
 * server.receiveMessageSync(message, { timeoutMs: 1000 });
 * const reader = new ControlReader(message.control, message.controlLength);
 * while (reader.next()) console.log(reader.kind, reader.address?.host); // packetInfo 127.0.0.2
 * ```
 */
export class ControlReader {
  // Loaded by then: where no descriptor is left there is no reading a file when a message has come.
  readonly #codec: typeof Codec = codec();
  #source: ArrayBufferView;
  #memory: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #end: number;
  /** Where the next header would be. */
  #next = 0;
  /** Where the data of this one begins. */
  #at = 0;
  #length = 0;
  #level = NONE;
  #type = NONE;
  #truncated = false;
  #kind: ControlKind = "unknown";

  /**
   * @param bytes control messages, one after another
   * @param length how many of the bytes are in use. Default all
   * @throws {TypeError} it is no view of ordinary memory
   * @throws {RangeError} there are fewer bytes
   */
  constructor(bytes: ArrayBufferView, length?: number) {
    this.#end = checkedLength(bytes, length);
    this.#source = bytes;
    this.#memory = plainBytes(bytes);
    this.#view = viewOfAll(this.#memory);
  }

  /**
   * Begins anew, with the same memory or other. The same view as before costs no allocation.
   *
   * @param bytes control messages, one after another
   * @param length how many of the bytes are in use. Default all
   * @throws {TypeError} it is no view of ordinary memory
   * @throws {RangeError} there are fewer bytes
   */
  reset(bytes: ArrayBufferView, length?: number): void {
    // Of the same view, only its memory can have gone.
    if (bytes !== this.#source || this.#memory.length === 0) {
      const end = checkedLength(bytes, length);
      this.#source = bytes;
      this.#memory = plainBytes(bytes);
      this.#view = viewOfAll(this.#memory);
      this.#end = end;
    } else {
      this.#end = lengthWithin(this.#memory.length, length);
    }
    this.#next = 0;
    this.#leave();
  }

  /**
   * Goes to the first control message, then to the next. False when there is none any more.
   *
   * @throws {TypeError} the memory was transferred or freed
   */
  next(): boolean {
    const room = this.#end - this.#next;
    if (room < HEADER) return this.#leave();
    const view = this.#usable();
    const start = this.#next;
    // In two halves: as one number it would not be an integer to the engine, nor anything after it,
    // and each read would take ten times as long.
    const low = view.getUint32(start + cmsghdr.cmsg_len.offset, true);
    const high = view.getUint32(start + cmsghdr.cmsg_len.offset + INT, true);
    if (high === 0 && low < HEADER) {
      this.#next = this.#end;
      return this.#leave();
    }
    this.#truncated = high !== 0 || low > room;
    const length = this.#truncated ? room : low;
    this.#next = start + align(length);
    this.#at = start + HEADER;
    this.#length = length - HEADER;
    this.#level = cmsghdr.cmsg_level.get(view, start);
    this.#type = cmsghdr.cmsg_type.get(view, start);
    this.#kind = this.#codec.kindOf(this.#level, this.#type, this.#length);
    return true;
  }

  /** What it is. "unknown" also before the first and after the last. */
  get kind(): ControlKind {
    return this.#kind;
  }

  /** The protocol it belongs to, such as `SOL_SOCKET`. -1 before the first and after the last. */
  get level(): number {
    return this.#level;
  }

  /** What it is at that level, such as `SCM_RIGHTS`. -1 before the first and after the last. */
  get type(): number {
    return this.#type;
  }

  /** Where its data begins, in bytes from the start of the memory. */
  get dataOffset(): number {
    return this.#at;
  }

  /** How many bytes of data it has, without what fills up to the next. */
  get dataLength(): number {
    return this.#length;
  }

  /** Whether it claims to be longer than there is: only what was made up or cut by hand does. */
  get truncated(): boolean {
    return this.#truncated;
  }

  /** A view of its data, made when asked. Holds what the memory holds, also later. */
  get data(): Uint8Array<ArrayBuffer> {
    this.#usable();
    return this.#memory.subarray(this.#at, this.#at + this.#length);
  }

  /** Over how many hops it may still have gone: TTL or hop limit. -1 where this is not that. */
  get ttl(): number {
    return this.#kind === "ttl" ? this.#int(0) : NONE;
  }

  /** The traffic class, or TOS: 0 to 255. -1 where this is not that. */
  get trafficClass(): number {
    if (this.#kind !== "trafficClass") return NONE;
    return this.#codec.trafficClassOf(this.#usable(), this.#at, this.#length);
  }

  /**
   * The lower 2 bits of the traffic class: 0 is not ECN capable, 1 is ECT(1), 2 is ECT(0), 3 is
   * congestion experienced. -1 where this is no traffic class.
   */
  get ecn(): number {
    return this.#kind === "trafficClass" ? this.trafficClass & 3 : NONE;
  }

  /** The size of the datagrams of a train. -1 where this is not that. */
  get segmentBytes(): number {
    if (this.#kind !== "segmentBytes") return NONE;
    return this.#codec.segmentBytesOf(this.#usable(), this.#at, this.#length);
  }

  /** How many messages the socket had to drop so far, modulo 2^32. -1 where this is not that. */
  get dropped(): number {
    return this.#kind === "dropped" ? this.#uint(0) : NONE;
  }

  /** The mark of the packet. -1 where this is not that. */
  get mark(): number {
    return this.#kind === "mark" ? this.#uint(0) : NONE;
  }

  /** The queueing priority of the packet. -1 where this is not that. */
  get priority(): number {
    return this.#kind === "priority" ? this.#uint(0) : NONE;
  }

  /** The union of `TP_STATUS_` bits of the packet. -1 where this is no auxiliary data. */
  get packetStatus(): number {
    return this.#kind === "auxiliaryData" ? this.#uint(0) : NONE;
  }

  /** How long the packet was. -1 where this is no auxiliary data. */
  get originalLength(): number {
    return this.#kind === "auxiliaryData" ? this.#uint(INT) : NONE;
  }

  /** The VLAN tag of the packet, its 16 bits. -1 where it had none, or this is no auxiliary data. */
  get vlan(): number {
    return this.#kind === "auxiliaryData" ? this.#codec.vlanOf(this.#usable(), this.#at) : NONE;
  }

  /** The protocol of that tag. -1 where `vlan` is. */
  get vlanProtocol(): number {
    if (this.#kind !== "auxiliaryData") return NONE;
    return this.#codec.vlanProtocolOf(this.#usable(), this.#at);
  }

  /** What is known of the checksum of the packet. "unknown" also where this is no auxiliary data. */
  get checksum(): PacketChecksum {
    return this.#codec.checksumOf(this.packetStatus);
  }

  /** How many bytes of the stream are left to receive. -1 where this is not that. */
  get inQueueBytes(): number {
    return this.#kind === "inQueue" ? this.#int(0) : NONE;
  }

  /**
   * Through which interface it came; 0 where it came by IPv4 before anybody asked. -1 where this is
   * no packet info.
   */
  get interfaceIndex(): number {
    if (this.#kind !== "packetInfo") return NONE;
    return this.#codec.interfaceIndexOf(this.#level, this.#usable(), this.#at);
  }

  /**
   * The address of a packet info, with port 0, or of an original destination. Makes one each time.
   * Undefined where this is neither.
   */
  get address(): InetAddress | undefined {
    if (this.#kind !== "packetInfo" && this.#kind !== "originalDestination") return undefined;
    return this.#codec.addressOf(this.#kind, this.#level, this.#usable(), this.#at);
  }

  /**
   * The address of a packet info to answer from: not that of a group, nor of a broadcast. Makes one
   * each time. Undefined where this is no packet info, or where it came to an IPv6 group.
   */
  get localAddress(): InetAddress | undefined {
    if (this.#kind !== "packetInfo") return undefined;
    return this.#codec.localAddressOf(this.#level, this.#usable(), this.#at);
  }

  /**
   * The whole seconds of a timestamp; of a timestamping, those of the kernel's clock, 0 where that was
   * not taken. -1 where this is neither.
   */
  get seconds(): number {
    return this.#isTime() ? this.#codec.secondsOf(this.#usable(), this.#at) : NONE;
  }

  /** What belongs to `seconds`, 0 to 999,999,999. -1 where this is no time. */
  get nanoseconds(): number {
    return this.#isTime() ? this.#codec.nanosecondsOf(this.#usable(), this.#at, this.#type) : NONE;
  }

  /** The same in nanoseconds. Allocates. Undefined where this is no time. */
  get ns(): bigint | undefined {
    return this.#isTime() ? this.#codec.nsOf(this.seconds, this.nanoseconds) : undefined;
  }

  /**
   * The whole seconds of a timestamping by the clock of the hardware, 0 where that was not taken. -1
   * where this is not that.
   */
  get hardwareSeconds(): number {
    if (this.#kind !== "timestamping") return NONE;
    return this.#codec.hardwareSecondsOf(this.#usable(), this.#at);
  }

  /** What belongs to `hardwareSeconds`, 0 to 999,999,999. -1 where this is not that. */
  get hardwareNanoseconds(): number {
    if (this.#kind !== "timestamping") return NONE;
    return this.#codec.hardwareNanosecondsOf(this.#usable(), this.#at);
  }

  /** The process that sent it; 0 in another process namespace. -1 where this is no credentials. */
  get processId(): number {
    return this.#kind === "credentials" ? this.#codec.processIdOf(this.#usable(), this.#at) : NONE;
  }

  /** The user who sent it. -1 where this is no credentials. */
  get userId(): number {
    return this.#kind === "credentials" ? this.#codec.userIdOf(this.#usable(), this.#at) : NONE;
  }

  /** The group that sent it. -1 where this is no credentials. */
  get groupId(): number {
    return this.#kind === "credentials" ? this.#codec.groupIdOf(this.#usable(), this.#at) : NONE;
  }

  /** How many descriptors came: also 1 for a process descriptor. 0 where this is neither. */
  get descriptorCount(): number {
    if (this.#kind === "processDescriptor") return 1;
    return this.#kind === "descriptors" ? Math.floor(this.#length / INT) : 0;
  }

  /**
   * Descriptor i: a number only. Whoever received it has to close it.
   *
   * @param i 0 to `descriptorCount` - 1
   * @throws {RangeError} there are fewer
   */
  descriptor(i: number): number {
    requireInteger(i, 0, this.descriptorCount - 1, "the index of a descriptor");
    return this.#int(i * INT);
  }

  /** All of it as an object. Undefined before the first and after the last. */
  message(): ControlMessage | undefined {
    if (this.#at === 0) return undefined;
    const { messageOf } = this.#codec;
    return messageOf(this.#kind, this.#level, this.#type, this.#usable(), this.#at, this.#length);
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#kind in this)) return "ControlReader";
    const left = Math.max(this.#end - this.#next, 0);
    return `ControlReader${this.#at === 0 ? "" : ` at ${this.#kind}`}, ${left} bytes left`;
  }

  #isTime(): boolean {
    return this.#kind === "timestamp" || this.#kind === "timestamping";
  }

  #int(offset: number): number {
    return this.#usable().getInt32(this.#at + offset, true);
  }

  #uint(offset: number): number {
    return this.#usable().getUint32(this.#at + offset, true);
  }

  /** The view, unless its memory is gone: the engine would throw an error of its own. */
  #usable(): DataView {
    if (this.#memory.length === 0 && this.#end > 0) throw gone();
    return this.#view;
  }

  #leave(): false {
    this.#at = this.#length = 0;
    this.#level = this.#type = NONE;
    this.#truncated = false;
    this.#kind = "unknown";
    return false;
  }
}

/**
 * Reads all control messages, each as an object.
 *
 * @param bytes control messages, one after another
 * @param length how many of the bytes are in use. Default all
 * @throws {TypeError} it is no view of ordinary memory
 * @throws {RangeError} there are fewer bytes
 *
 * @example
 * ```ts
 * import { ControlWriter, decodeControl } from "bun-sockets";
 *
 * const writer = new ControlWriter(new Uint8Array(64));
 * writer.addTtl(12, "ipv4");
 * writer.addSegmentBytes(1200);
 * console.log(decodeControl(writer.bytes).map(({ kind }) => kind)); // [ "ttl", "segmentBytes" ]
 * ```
 */
export function decodeControl(bytes: ArrayBufferView, length?: number): ControlMessage[] {
  const reader = new ControlReader(bytes, length);
  const messages: ControlMessage[] = [];
  while (reader.next()) messages.push(reader.message() as ControlMessage);
  return messages;
}

/**
 * Writes control messages in place: what sendmsg(2) is to be told beside the payload.
 *
 * What does not fit is refused with a RangeError that says how much room there is, and then nothing
 * is written. Whether the socket takes a message is the kernel's to say, when it is sent.
 *
 * Lifetime: the memory stays the caller's.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/cmsg.3.html | cmsg(3)}
 *
 * @example One datagram with a hop limit of its own, and open to marks of congestion
 * ```ts
 * import { Message, UdpSocket } from "bun-sockets";
 *
 * using socket = UdpSocket.open("ipv6");
 * const message = new Message({
 *   vectors: [Buffer.from("hello")],
 *   address: "[::1]:9",
 *   controlBytes: 64,
 * });
 * message.writer.addTtl(3, "ipv6");
 * message.writer.addTrafficClass(2, "ipv6"); // ECT(0)
 * console.log(socket.trySendMessage(message), message.writer.length); // 5 48
 * ```
 */
export class ControlWriter {
  readonly #memory: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #capacity: number;
  #length = 0;
  #onLength: ((length: number) => void) | undefined;

  /**
   * @param bytes where to write. What they hold is written over
   * @throws {TypeError} it is no view of ordinary memory
   */
  constructor(bytes: ArrayBufferView) {
    requireView(bytes, "control messages");
    this.#memory = plainBytes(bytes);
    this.#capacity = this.#memory.length;
    this.#view = viewOfAll(this.#memory);
  }

  /**
   * `CMSG_SPACE`: how many bytes a control message takes, with its header and what fills up to the
   * next.
   *
   * @param dataBytes 0 to 2^31 - 1
   * @throws {RangeError} it is out of range
   */
  static space(dataBytes: number): number {
    requireInteger(dataBytes, 0, INT_MAX, "a length in bytes");
    return HEADER + align(dataBytes);
  }

  /** How many bytes have been written. */
  get length(): number {
    return this.#length;
  }

  /**
   * A view of what has been written, made when asked.
   *
   * @throws {TypeError} the memory was transferred or freed
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    this.#requireUsable();
    return this.#memory.subarray(0, this.#length);
  }

  /** Forgets what has been written, and begins anew. */
  clear(): void {
    this.#setLength(0);
  }

  /**
   * Adds any control message.
   *
   * @param level the protocol it is for, such as `SOL_SOCKET`
   * @param type what it is at that level
   * @param data copied as it is
   * @throws {RangeError} there is no room for it, or a number is none of 32 bits
   * @throws {TypeError} data is no view of ordinary memory
   */
  add(level: number, type: number, data: ArrayBufferView): void {
    requireInteger(level, -INT_MAX - 1, INT_MAX, "the level of a control message");
    requireInteger(type, -INT_MAX - 1, INT_MAX, "the type of a control message");
    requireView(data, "the data of a control message");
    this.#add(level, type, bytesOf(data));
  }

  /**
   * Adds `IP_TTL` or `IPV6_HOPLIMIT`: over how many hops it may go.
   *
   * @param ttl 1 to 255, or from 0 for IPv6
   * @param family of which IP the packet is: "ipv4" also towards an IPv4-mapped address
   * @throws {RangeError} ttl is out of range, or there is no room
   * @throws {TypeError} the family is none
   */
  addTtl(ttl: number, family: PacketFamily): void {
    const isIpv4 = requireFamily(family) === "ipv4";
    requireInteger(ttl, isIpv4 ? 1 : 0, BYTE_MAX, "a TTL");
    if (isIpv4) this.#addInt(IPPROTO_IP, IP_TTL, ttl);
    else this.#addInt(IPPROTO_IPV6, IPV6_HOPLIMIT, ttl);
  }

  /**
   * Adds `IP_TOS` or `IPV6_TCLASS`: the traffic class, of which the lower 2 bits are ECN.
   *
   * @param trafficClass 0 to 255
   * @param family of which IP the packet is: "ipv4" also towards an IPv4-mapped address
   * @throws {RangeError} the class is out of range, or there is no room
   * @throws {TypeError} the family is none
   */
  addTrafficClass(trafficClass: number, family: PacketFamily): void {
    const isIpv4 = requireFamily(family) === "ipv4";
    requireInteger(trafficClass, 0, BYTE_MAX, "a traffic class");
    if (isIpv4) this.#addInt(IPPROTO_IP, IP_TOS, trafficClass);
    else this.#addInt(IPPROTO_IPV6, IPV6_TCLASS, trafficClass);
  }

  /**
   * Adds `IP_PKTINFO` or `IPV6_PKTINFO`: from which of this machine's addresses it goes, and through
   * which interface. IPv4 and IPv4-mapped sources are taken alike.
   *
   * @param family of which IP the packet is: "ipv4" also towards an IPv4-mapped address. Default
   * that of the source
   * @throws {TypeError} the source is none, or of the other family; the family is none, or missing
   * @throws {RangeError} the index is out of range, or there is no room
   */
  addPacketInfo(options: PacketSource, family?: PacketFamily): void {
    const { source, interfaceIndex } = requireObject(options);
    if (interfaceIndex !== undefined)
      requireInteger(interfaceIndex, 0, INT_MAX, "an interface index");
    if (family !== undefined) requireFamily(family);
    const address = source === undefined ? undefined : toPortlessAddress(source);
    if (family === undefined && address === undefined) requireFamily(family);
    const { level, type, data } = codec().encodePacketInfo(address, interfaceIndex, family);
    this.#add(level, type, data);
  }

  /**
   * Adds `UDP_SEGMENT`: the kernel cuts the payload into datagrams of this size.
   *
   * @param bytes 1 to 65535
   * @throws {RangeError} it is out of range, or there is no room
   */
  addSegmentBytes(bytes: number): void {
    requireInteger(bytes, 1, SEGMENT_BYTES_MAX, "a segment size");
    this.#view.setUint16(this.#fit(SHORT), bytes, true);
    const { level, type } = codec().SEGMENT;
    this.#begin(level, type, SHORT);
  }

  /**
   * Adds `SO_MARK`: the mark of the packet, for routing and filters. Takes CAP_NET_ADMIN or
   * CAP_NET_RAW.
   *
   * @param mark 0 to 2^32 - 1
   * @throws {RangeError} it is out of range, or there is no room
   */
  addMark(mark: number): void {
    requireInteger(mark, 0, UINT_MAX, "a mark");
    this.#addInt(SOL_SOCKET, SO_MARK, mark);
  }

  /**
   * Adds `SO_PRIORITY`: the queueing priority of the packet; above 6 takes CAP_NET_ADMIN. Linux 6.14.
   *
   * @param priority 0 to 2^31 - 1
   * @throws {RangeError} it is out of range, or there is no room
   */
  addPriority(priority: number): void {
    requireInteger(priority, 0, INT_MAX, "a priority");
    this.#addInt(SOL_SOCKET, SO_PRIORITY, priority);
  }

  /**
   * Adds `SCM_CREDENTIALS`: who sends it. The kernel takes what is true: the own process, and users
   * and groups that it may be; anything else takes CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID.
   *
   * @param credentials default those of this process
   * @throws {RangeError} a number is out of range, or there is no room
   */
  addCredentials(credentials: Partial<PeerCredentials> = {}): void {
    const { processId, userId, groupId } = requireObject(credentials);
    const pid = processId ?? process.pid;
    const uid = userId ?? process.getuid?.() ?? 0;
    const gid = groupId ?? process.getgid?.() ?? 0;
    requireInteger(pid, 0, INT_MAX, "a process ID");
    requireInteger(uid, 0, UINT_MAX, "a user ID");
    requireInteger(gid, 0, UINT_MAX, "a group ID");
    this.#add(SOL_SOCKET, SCM_CREDENTIALS, codec().encodeCredentials(pid, uid, gid));
  }

  /**
   * Adds `SCM_RIGHTS`: open descriptors, of which the receiver gets duplicates. They are looked up
   * when it is sent, and must be open until then: `sendDescriptors` of Unix sockets sees to that.
   *
   * @param descriptors 1 to 253 numbers, sockets, or received ones
   * @throws {RangeError} there are none, or too many, or one is closed; there is no room
   * @throws {TypeError} it is no array, or one is no descriptor
   */
  addDescriptors(descriptors: readonly (HasDescriptor | number)[]): void {
    const numbers = descriptorNumbers(descriptors);
    const bytes = numbers.length * INT;
    const at = this.#fit(bytes);
    for (const [i, number] of numbers.entries()) this.#view.setInt32(at + i * INT, number, true);
    this.#begin(SOL_SOCKET, SCM_RIGHTS, bytes);
  }

  /**
   * Adds `SCM_TXTIME`: when it is to leave, by the clock of `SocketOption.transmitTime`, where the
   * interface's queue obeys that.
   *
   * @param ns nanoseconds, 0 to 2^64 - 1
   * @throws {RangeError} it is out of range, or there is no room
   * @throws {TypeError} it is no bigint
   */
  addTransmitTime(ns: bigint): void {
    if (typeof ns !== "bigint")
      throw new TypeError(`Cannot use ${describe(ns)} as a time: expected a bigint`);
    if (BigInt.asUintN(64, ns) !== ns)
      throw new RangeError(`Cannot use ${ns} as a time: expected 0 to ${2n ** 64n - 1n}`);
    const bytes = BigUint64Array.BYTES_PER_ELEMENT;
    this.#view.setBigUint64(this.#fit(bytes), ns, true);
    this.#begin(SOL_SOCKET, SCM_TXTIME, bytes);
  }

  /**
   * Adds `SO_TIMESTAMPING`: which times of its way out are told in the error queue, for this message
   * in place of what `SocketOption.timestamping` says.
   *
   * @param flags `SOF_TIMESTAMPING_TX_` bits
   * @throws {RangeError} it is no union of bits, or there is no room
   */
  addTimestamping(flags: number): void {
    requireInteger(flags, 0, UINT_MAX, "timestamping flags");
    this.#addInt(SOL_SOCKET, SO_TIMESTAMPING, flags);
  }

  /**
   * Adds `SCM_TS_OPT_ID`: the number by which the error queue tells the times of this message, in
   * place of a count. Takes `SOF_TIMESTAMPING_OPT_ID`. Linux 6.13.
   *
   * @param id 0 to 2^32 - 1
   * @throws {RangeError} it is out of range, or there is no room
   */
  addTimestampId(id: number): void {
    requireInteger(id, 0, UINT_MAX, "the number of a timestamp");
    const { level, type } = codec().TIMESTAMP_ID;
    this.#addInt(level, type, id);
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#memory in this)) return "ControlWriter";
    return `ControlWriter, ${this.#length} of ${this.#capacity} bytes`;
  }

  #add(level: number, type: number, data: Uint8Array): void {
    const at = this.#fit(data.length);
    // First: it may be of the same memory, where the header is to be.
    this.#memory.set(data, at);
    this.#begin(level, type, data.length);
  }

  #addInt(level: number, type: number, value: number): void {
    this.#view.setUint32(this.#fit(INT), value, true);
    this.#begin(level, type, INT);
  }

  /** Where the data of the next control message goes. Throws unless there is room for it. */
  #fit(dataBytes: number): number {
    this.#requireUsable();
    const start = align(this.#length);
    // What fills up to the next is not needed behind the last.
    if (start + HEADER + dataBytes > this.#capacity) throw this.#noRoom(start, dataBytes);
    return start + HEADER;
  }

  /** Completes the control message whose data was written. */
  #begin(level: number, type: number, dataBytes: number): void {
    const start = align(this.#length);
    const end = start + HEADER + dataBytes;
    const filled = Math.min(align(end), this.#capacity);
    this.#memory.fill(0, this.#length, start);
    cmsghdr.cmsg_len.set(this.#view, start, HEADER + dataBytes);
    cmsghdr.cmsg_level.set(this.#view, start, level);
    cmsghdr.cmsg_type.set(this.#view, start, type);
    this.#memory.fill(0, end, filled);
    this.#setLength(filled);
  }

  #requireUsable(): void {
    if (this.#memory.length !== this.#capacity) throw gone();
  }

  #setLength(length: number): void {
    this.#length = length;
    this.#onLength?.(length);
  }

  #noRoom(start: number, dataBytes: number): RangeError {
    const left = Math.max(this.#capacity - start, 0);
    return new RangeError(
      `Cannot add a control message of ${HEADER + dataBytes} bytes: expected at most ${left}`,
    );
  }

  static {
    watchedWriter = (bytes, onLength) => {
      const writer = new ControlWriter(bytes);
      writer.#onLength = onLength;
      return writer;
    };
    setWritten = (writer, length) => {
      writer.#length = length;
    };
  }
}

function checkedLength(bytes: ArrayBufferView, length: number | undefined): number {
  requireView(bytes, "control messages");
  return lengthWithin(byteLengthOf(bytes), length);
}

function lengthWithin(most: number, length: number | undefined): number {
  if (length === undefined) return most;
  requireInteger(length, 0, most, "the length of control messages");
  return length;
}

// Shared memory was refused.
function plainBytes(bytes: ArrayBufferView): Uint8Array<ArrayBuffer> {
  return bytesOf(bytes) as Uint8Array<ArrayBuffer>;
}

function viewOfAll(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function gone(): TypeError {
  return new TypeError(
    "Cannot use detached memory as control messages: it was transferred or freed",
  );
}

function requireFamily(family: PacketFamily | undefined): PacketFamily {
  if (family === "ipv4" || family === "ipv6") return family;
  const given = typeof family === "string" ? JSON.stringify(family) : describe(family);
  throw new TypeError(`Cannot use ${given} as a family: expected "ipv4" or "ipv6"`);
}

// Read once, and no longer than the kernel allows: what looks like an array can be endless.
function descriptorNumbers(descriptors: readonly (HasDescriptor | number)[]): number[] {
  if (!Array.isArray(descriptors))
    throw new TypeError(`Cannot use ${describe(descriptors)} as descriptors: expected an array`);
  const { length } = descriptors;
  requireInteger(length, 1, DESCRIPTORS_MAX, "the number of descriptors");
  const numbers: number[] = [];
  for (let i = 0; i < length; i++) {
    const sendable: HasDescriptor | number | undefined = descriptors[i];
    const number = sendable instanceof Object ? sendable.descriptor : sendable;
    requireInteger(number, 0, INT_MAX, "a descriptor");
    numbers.push(number as number);
  }
  return numbers;
}

// What is known of each kind is loaded by the first reader, or the first writer that needs it.
function codec(): typeof Codec {
  loaded ??= loadModule(() => require("./internal/control_codec.ts")) as typeof Codec;
  return loaded;
}

let loaded: typeof Codec | undefined;
