import {
  IPPROTO_AH,
  IPPROTO_DCCP,
  IPPROTO_ESP,
  IPPROTO_GRE,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IGMP,
  IPPROTO_IPIP,
  IPPROTO_IPV6,
  IPPROTO_PIM,
  IPPROTO_RAW,
  IPPROTO_RSVP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
} from "../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6, SOCK_RAW } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toPortlessAddress } from "./address.ts";
import { byteLengthOf } from "./ffi/memory.ts";
import { describe, requireBoolean, requireInteger, requireView } from "./internal/arguments.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import { adoptParts, copyOptions, type Kind, openParts, orClose } from "./internal/parts.ts";
import { copyReports, type DatagramMetadata, IpSocket } from "./ip_socket.ts";
import type { IcmpFilter, IcmpType, Icmpv6Type } from "./option.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type AsyncOptions,
  type CancelOptions,
  duplicateParts,
  type FlagOptions,
  type SocketOptions,
  type TimeoutOptions,
  type WaitOptions,
} from "./socket.ts";

/** The protocols over IP that have a name here. Others are given by number. */
export type RawProtocol = keyof typeof PROTOCOLS;

// https://www.iana.org/assignments/protocol-numbers
const PROTOCOLS = Object.freeze({
  icmp: IPPROTO_ICMP,
  igmp: IPPROTO_IGMP,
  ipip: IPPROTO_IPIP,
  tcp: IPPROTO_TCP,
  udp: IPPROTO_UDP,
  dccp: IPPROTO_DCCP,
  ipv6: IPPROTO_IPV6,
  rsvp: IPPROTO_RSVP,
  gre: IPPROTO_GRE,
  esp: IPPROTO_ESP,
  ah: IPPROTO_AH,
  icmpv6: IPPROTO_ICMPV6,
  eigrp: 88,
  ospf: 89,
  pim: IPPROTO_PIM,
  vrrp: 112,
  l2tp: 115,
  sctp: IPPROTO_SCTP,
  udplite: IPPROTO_UDPLITE,
  raw: IPPROTO_RAW,
});

/** What a RawSocket can be told when it is made: set between socket(2) and bind(2). */
export interface RawSocketOptions extends Omit<SocketOptions, "ipv6Only"> {
  /**
   * The protocol over IP, by name or number, 1 to 255: what is received, and what stands in the headers
   * that the kernel writes. "raw" (255) is for sending any protocol, with `headerIncluded`, which is on
   * by default then; it receives nothing. More names: `protocolByName("isis")?.number`.
   */
  readonly protocol: RawProtocol | number;
  /**
   * `IP_HDRINCL`, `IPV6_HDRINCL`: whether what is sent begins with an IP header of the caller's: see
   * RawSocket. Default false, and true for the protocol "raw".
   */
  readonly headerIncluded?: boolean | undefined;
  /**
   * `IPV6_CHECKSUM`, IPv6 only: where in what is sent and received the checksum stands that the kernel
   * is to fill in, and to verify: an even number of bytes, 6 for UDP, 16 for TCP. What comes with a
   * wrong one is not received. Default nowhere; of ICMPv6 the kernel does it always.
   */
  readonly checksumOffset?: number | undefined;
  /** Which types of ICMP or ICMPv6 messages are received. Default all: see `icmpFilter`. */
  readonly icmpFilter?: IcmpFilter | undefined;
  /** The one interface to use, by name or index: `SO_BINDTODEVICE`. Default all, and by route. */
  readonly interface?: string | number | undefined;
  /** Whether errors of the network are queued: see `Socket.queueErrors`. Default false. */
  readonly queueErrors?: boolean | undefined;
  /** What the kernel is to tell of each packet beside its payload: see `UdpSocketOptions`. */
  readonly metadata?: readonly DatagramMetadata[] | undefined;
}

const KIND: Kind = {
  name: "a raw IP socket",
  accepts: (domain, type) => (domain === AF_INET || domain === AF_INET6) && type === SOCK_RAW,
};

const NUMBER_MAX = 255;
const INT_MAX = 2 ** 31 - 1;
const OFFSET_MAX = 65_534;
const NONE = -1;
const IPV4_HEADER_MIN = 20;
// A socket without a port in its peer's address has no peer for getpeername(2).
const PEER_PORT = 1;

/**
 * A raw socket over IPv4 or IPv6: packets of one protocol, without the kernel's TCP or UDP between.
 * It takes CAP_NET_RAW, in the user namespace that owns the network namespace.
 *
 * **What is received.** A copy of each packet of the protocol that comes to this machine, also of those
 * that the kernel handles itself. Over IPv4 it begins with the IP header, over IPv6 it does not:
 * `payloadOffset` tells where the payload begins, for both. It was put together of its fragments, and
 * nobody has looked at the checksum of the payload, except over IPv6 with `checksumOffset`, and of ICMPv6.
 *
 * **What is sent.** The payload, before which the kernel writes the header; or with `headerIncluded`
 * all of the packet. Of an IPv4 header the kernel then always fills in the checksum and the total
 * length, the source where it is 0.0.0.0, and the identification where it is 0; of an IPv6 one nothing.
 * Nothing is fragmented then: what is longer than the MTU of the interface is refused with `EMSGSIZE`.
 * The header need not name the address that the packet is sent to.
 *
 * **Addresses** have no port: where one is given it means nothing, where one is told it is 0, and text
 * goes without: `sendTo(data, "192.0.2.1")`. A `DatagramBatch` and a `Message` take what they are given:
 * there the port of an address should be 0, as over IPv6 the kernel takes it for the protocol.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/raw.7.html | raw(7)}
 * @see {@link https://man7.org/linux/man-pages/man7/ipv6.7.html | ipv6(7)}
 *
 * @example All ICMP that comes to this machine
 * ```ts
 * import { RawSocket } from "bun-sockets";
 *
 * using socket = RawSocket.open("ipv4", { protocol: "icmp", icmpFilter: { pass: ["echoRequest"] } });
 * // Type 8, code 0, and a checksum over all of it.
 * socket.sendToSync(Uint8Array.of(8, 0, 0xf7, 0xff, 0, 0, 0, 0), "127.0.0.1");
 * const packet = new Uint8Array(1500);
 * const { length, address } = await socket.receiveFrom(packet, { timeoutMs: 1000 });
 * const message = packet.subarray(socket.payloadOffset(packet), length);
 * console.log(address.host, length, message.length, message[0]); // 127.0.0.1 28 8 8
 * ```
 */
export class RawSocket extends IpSocket {
  /** "raw". */
  declare readonly type: "raw";

  /**
   * Opens a socket, which receives from now on.
   *
   * @param family the family, or an address (or its text) of that family
   * @throws {SystemError} `EPERM` it takes CAP_NET_RAW: `hint` names the command that grants it;
   * `ENODEV` there is no such interface; `EMFILE` too many open descriptors; `EAFNOSUPPORT` the kernel
   * has no IPv6; `EINVAL` `checksumOffset` of ICMPv6, which has one
   * @throws {TypeError} an option does not fit the family or the protocol
   * @throws {RangeError} an option is out of range
   * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}
   */
  static open(family: "ipv4" | "ipv6" | Address | string, options: RawSocketOptions): RawSocket {
    const named = family === "ipv4" || family === "ipv6";
    const opened = named ? family : toPortlessAddress(family).family;
    return RawSocket.#open(opened, options, () => {});
  }

  /**
   * Opens a socket and binds it: it receives what is sent to that address, and sends from there.
   *
   * @param address one of this machine, or its text without a port: "192.0.2.1", "fe80::1%eth0"
   * @throws {SystemError} as open; `EADDRNOTAVAIL` not an address of ours
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html | bind(2)}
   */
  static override bind(address: Address | string, options: RawSocketOptions): RawSocket {
    const local = toPortlessAddress(address);
    return RawSocket.#open(local.family, options, (raw) => raw.bind(local));
  }

  /**
   * Makes a RawSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no raw socket over IP; or, with `own`, another socket of this thread owns
   * it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): RawSocket {
    return new RawSocket(adoptParts(descriptor, options, KIND));
  }

  static #open(
    family: "ipv4" | "ipv6",
    options: RawSocketOptions,
    work: (raw: RawSocket) => void,
  ): RawSocket {
    const domain = family === "ipv4" ? AF_INET : AF_INET6;
    const copy = copyOptions(options, domain);
    const { protocol, headerIncluded, checksumOffset, icmpFilter, interface: device } = options;
    const number = toProtocol(protocol);
    if (headerIncluded !== undefined) requireBoolean(headerIncluded, "headerIncluded");
    if (checksumOffset !== undefined) requireOffset(checksumOffset, domain);
    if (icmpFilter !== undefined) requireIcmp(number, domain);
    if (device !== undefined && typeof device !== "string")
      requireInteger(device, 1, INT_MAX, "the index of an interface");
    const askForReports = copyReports(options);
    const raw = new RawSocket(openParts(domain, SOCK_RAW, number, copy));
    return orClose(raw, () => {
      const { IpOption, Ipv6Option, SocketOption } = loadOptions();
      const group = domain === AF_INET ? IpOption : Ipv6Option;
      if (icmpFilter !== undefined) raw.icmpFilter = icmpFilter;
      if (headerIncluded !== undefined) raw.setOption(group.headerIncluded, headerIncluded);
      if (checksumOffset !== undefined) raw.setOption(Ipv6Option.checksumOffset, checksumOffset);
      if (typeof device === "string") raw.setOption(SocketOption.bindToDevice, device);
      else if (device !== undefined) raw.setOption(SocketOption.bindToInterfaceIndex, device);
      // A raw IPv6 socket carries no IPv4.
      askForReports(raw, domain === AF_INET6);
      copy.configure?.(raw);
      work(raw);
    });
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): RawSocket {
    return new RawSocket(duplicateParts(this));
  }

  /**
   * Where the payload begins in a packet that this socket has received: behind the header over IPv4,
   * at the beginning over IPv6. Never behind the packet's end: of one that has no whole header, it is
   * that end.
   *
   * @param bytes what a receive has filled: a target, or the `memory` of a batch
   * @param offset where the packet begins in it, as `batch.offset(i)` says. Default 0
   * @param length how long it is, as `batch.length(i)` says. Default up to the end of `bytes`
   * @returns an index into `bytes`
   * @throws {TypeError} bytes is no Uint8Array
   * @throws {RangeError} the packet is not within `bytes`
   *
   * @example Of a batch, without a view for each packet
   * ```ts
   * import { DatagramBatch, RawSocket } from "bun-sockets";
   *
   * using socket = RawSocket.bind("127.0.0.1", { protocol: 253 });
   * socket.sendToSync("hello", "127.0.0.1");
   * using batch = new DatagramBatch();
   * socket.receiveBatchSync(batch, { timeoutMs: 1000 });
   * const at = socket.payloadOffset(batch.memory, batch.offset(0), batch.length(0));
   * console.log(at - batch.offset(0), String.fromCharCode(batch.memory[at] ?? 0)); // 20 h
   * ```
   */
  payloadOffset(bytes: Uint8Array, offset = 0, length?: number): number {
    requireView(bytes, "bytes");
    if (!(bytes instanceof Uint8Array))
      throw new TypeError("Cannot read the header of another view: expected a Uint8Array");
    const room = byteLengthOf(bytes);
    requireInteger(offset, 0, room, "the offset of a packet");
    if (length !== undefined) requireInteger(length, 0, room - offset, "the length of a packet");
    if (this.family === "ipv6") return offset;
    const end = length === undefined ? room : offset + length;
    if (end - offset < IPV4_HEADER_MIN) return end;
    const header = 4 * ((bytes[offset] as number) & 0xf);
    return Math.min(offset + Math.max(header, IPV4_HEADER_MIN), end);
  }

  /**
   * Which types of ICMP or ICMPv6 messages come (`ICMP_FILTER`, `ICMP6_FILTER`): of a list of those
   * that pass, or of those that do not, the shorter one. What was queued before stays. Over IPv4,
   * types above 31 always come.
   *
   * @throws {TypeError} it is no filter
   * @throws {RangeError} a type is none of ICMP, or of ICMPv6
   * @throws {SystemError} `ENOTSUP`, `ENOPROTOOPT` the socket is of another protocol
   */
  get icmpFilter(): IcmpFilter {
    const { IpOption, Ipv6Option } = loadOptions();
    return this.family === "ipv4"
      ? this.getOption(IpOption.icmpFilter)
      : this.getOption(Ipv6Option.icmpFilter);
  }

  set icmpFilter(filter: IcmpFilter) {
    const { IpOption, Ipv6Option } = loadOptions();
    // A word of the other version is refused there.
    if (this.family === "ipv4") this.setOption(IpOption.icmpFilter, filter as IcmpFilter<IcmpType>);
    else this.setOption(Ipv6Option.icmpFilter, filter as IcmpFilter<Icmpv6Type>);
  }

  /** Whether what is sent begins with an IP header of the caller's. */
  get headerIncluded(): boolean {
    const { IpOption, Ipv6Option } = loadOptions();
    return this.getOption(
      this.family === "ipv4" ? IpOption.headerIncluded : Ipv6Option.headerIncluded,
    );
  }

  /**
   * Where the checksum stands that the kernel fills in and verifies, in bytes behind the IPv6 header;
   * undefined where it does not, as always over IPv4.
   */
  get checksumOffset(): number | undefined {
    if (this.family === "ipv4") return undefined;
    const offset = this.getOption(loadOptions().Ipv6Option.checksumOffset);
    return offset === NONE ? undefined : offset;
  }

  /**
   * The address that the socket is bound to, with port 0; unspecified until then. A socket with a peer
   * has the address that leads there.
   *
   * @throws {ClosedError} the socket is closed
   */
  override get localAddress(): InetAddress {
    return portless(super.localAddress);
  }

  /**
   * The peer, with port 0, or undefined without one.
   *
   * @throws {ClosedError} the socket is closed
   */
  override get remoteAddress(): InetAddress | undefined {
    const peer = super.remoteAddress;
    return peer && portless(peer);
  }

  /**
   * Gives the socket an address of its own: it receives what is sent to that one, and sends from there.
   *
   * @param address one of this machine, or its text without a port
   * @throws {SystemError} `EADDRNOTAVAIL` not an address of ours; `EINVAL` the socket has a peer, or
   * the address is of one link and has no zone
   * @throws {TypeError} it is no address of this family
   */
  override bind(address: InetAddress | string): void {
    super.bind(toHost(address));
  }

  /**
   * Gives the socket a peer: `send` goes there, and only its packets are received from now on. No
   * packet is sent. Connecting it again changes the peer.
   *
   * @param address a host, or its text without a port
   * @returns true
   * @throws {SystemError} `ENETUNREACH` no route; `EACCES` a broadcast address without the option
   * @throws {TypeError} it is no address of this family
   */
  override tryConnect(address: InetAddress | string): true | undefined {
    return super.tryConnect(toHost(address).withPort(PEER_PORT));
  }

  /** Gives the socket a peer, as `tryConnect`, which has nothing to wait for either. */
  override connectSync(address: InetAddress | string, options?: TimeoutOptions): void {
    super.connectSync(toHost(address), options);
  }

  /** Gives the socket a peer, as `tryConnect`, which has nothing to wait for either. */
  override async connect(address: InetAddress | string, options?: CancelOptions): Promise<void> {
    await super.connect(toHost(address), options);
  }

  /**
   * Not possible: Linux takes a raw socket that leaves its peer out of its tables, and it would receive
   * nothing any more. Open another one.
   *
   * @throws {TypeError} the socket has a peer
   */
  override disconnect(): void {
    if (!this.connected) {
      super.disconnect();
      return;
    }
    throw new TypeError(
      "Cannot disconnect a raw socket: Linux would give it nothing any more. Open another one",
    );
  }

  /**
   * Sends one packet to a host, or answers at once: see `Socket.trySendTo`.
   *
   * @param data the payload; with `headerIncluded` the whole packet
   * @param address where to, or its text without a port
   * @throws {SystemError} `EMSGSIZE` too long for a packet, or with `headerIncluded` for the interface;
   * `EINVAL` with `headerIncluded`, it is no header; else as `Socket.trySendTo`
   */
  override trySendTo(
    data: ArrayBufferView | ArrayBuffer,
    address: InetAddress | string,
    options?: FlagOptions,
  ): number | undefined {
    return super.trySendTo(data, toHost(address), options);
  }

  /**
   * Sends one packet to a host, waiting for room: see `Socket.sendToSync`.
   *
   * @param address where to, or its text without a port
   * @throws {SystemError} as trySendTo
   */
  override sendToSync(
    data: ArrayBufferView | ArrayBuffer | string,
    address: InetAddress | string,
    options?: WaitOptions,
  ): number {
    return super.sendToSync(data, toHost(address), options);
  }

  /**
   * Sends one packet to a host, waiting for room; the promise form of `sendToSync`.
   *
   * @param address where to, or its text without a port
   * @throws {SystemError} as trySendTo
   */
  override async sendTo(
    data: ArrayBufferView | ArrayBuffer | string,
    address: InetAddress | string,
    options?: AsyncOptions,
  ): Promise<number> {
    return await super.sendTo(data, toHost(address), options);
  }
}

function toHost(address: Address | string): InetAddress {
  return portless(toPortlessAddress(address));
}

function portless(address: InetAddress): InetAddress {
  return address.port === 0 ? address : address.withPort(0);
}

function toProtocol(protocol: unknown): number {
  if (typeof protocol === "number") {
    requireInteger(protocol, 1, NUMBER_MAX, "a protocol");
    return protocol;
  }
  if (typeof protocol !== "string")
    throw new TypeError(
      `Cannot use ${describe(protocol)} as a protocol: expected its name or number`,
    );
  if (Object.hasOwn(PROTOCOLS, protocol)) return PROTOCOLS[protocol as RawProtocol];
  const known = Object.keys(PROTOCOLS).map((name) => `"${name}"`);
  throw new TypeError(
    `Cannot use ${JSON.stringify(protocol)} as a protocol: expected ${known.join(", ")}, or a number`,
  );
}

function requireOffset(offset: number, domain: number): void {
  if (domain === AF_INET)
    throw new TypeError("Cannot have a checksumOffset over IPv4: expected an IPv6 socket");
  requireInteger(offset, 0, OFFSET_MAX, "checksumOffset");
  if (offset % 2 !== 0)
    throw new RangeError(`Cannot use ${offset} as checksumOffset: expected an even number`);
}

function requireIcmp(protocol: number, domain: number): void {
  const isVersion6 = domain === AF_INET6;
  if (protocol === (isVersion6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) return;
  const expected = isVersion6 ? '"icmpv6"' : '"icmp"';
  throw new TypeError(`Cannot filter types of protocol ${protocol}: expected ${expected}`);
}
