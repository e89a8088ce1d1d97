import { IPPROTO_UDP } from "../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6, SOCK_DGRAM } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toInetAddress } from "./address.ts";
import { requireBoolean } from "./internal/arguments.ts";
import { type Descriptor, loadModule } from "./internal/descriptor.ts";
import { loadZeroCopy } from "./internal/lazy_errors.ts";
import { loadOffload } from "./internal/lazy_offload.ts";
import { adoptParts, copyOptions, type Kind, openParts, orClose } from "./internal/parts.ts";
import type {
  GroupMembership,
  GroupOptions,
  InterfaceLike,
  JoinOptions,
  LeaveOptions,
  SourceFilter,
} from "./multicast.ts";
import type {
  Offload,
  SegmentAsyncOptions,
  SegmentOptions,
  SegmentPayload,
  SegmentWaitOptions,
} from "./offload.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  descriptorOf,
  duplicateParts,
  foundFull,
  offloadOf,
  Socket,
  type SocketOptions,
  zeroCopySenderOf,
} from "./socket.ts";
import type {
  ZeroCopyLease,
  ZeroCopyOptions,
  ZeroCopyState,
  ZeroCopyTryOptions,
  ZeroCopyWaitOptions,
} from "./zero_copy.ts";

/** What a UdpSocket can be told when it is made: set between socket(2) and bind(2). */
export interface UdpSocketOptions extends SocketOptions {
  /** Whether errors of the network are queued: see `Socket.queueErrors`. Default false. */
  readonly queueErrors?: boolean | undefined;
  /**
   * What the kernel is to tell of each datagram beside its payload, from the first one on; of an IPv6
   * socket that carries IPv4 also of that. A `DatagramBatch` tells it by slot, a `Message` among its
   * control messages. The 256 `controlBytes` that a batch has by default hold all of it. Default
   * nothing.
   *
   * Each is an option, or two, that can be set by itself and later, too; but what has come until then
   * may be told of in part only. An option that this kernel does not have, or not to us, fails the
   * call as `setOption` does, and nothing is opened.
   *
   * @example A server on all addresses of a machine, over IPv4 and IPv6
   * ```ts
   * import { DatagramBatch, UdpSocket } from "bun-sockets";
   *
   * const metadata = ["destination", "trafficClass"] as const;
   * using server = UdpSocket.bind("[::]:0", { metadata });
   * using client = UdpSocket.open("ipv4");
   * client.sendToSync("ping", `127.0.0.2:${server.localAddress.port}`);
   *
   * using batch = new DatagramBatch();
   * server.receiveBatchSync(batch, { timeoutMs: 1000 });
   * console.log(batch.destination(0)?.host, batch.ecn(0)); // ::ffff:127.0.0.2 0
   * batch.reply(); // from there
   * server.trySendBatch(batch);
   * const { address } = await client.receiveFrom(new Uint8Array(4));
   * console.log(address.host); // 127.0.0.2
   * ```
   */
  readonly metadata?: readonly DatagramMetadata[] | undefined;
}

/**
 * What the kernel can tell of a datagram beside its payload.
 *
 * - "destination": where it was sent to, and by which interface it came: `DatagramBatch.destination`,
 *   `interfaceIndex`, and what `reply` needs (`receivePacketInfo` of `IpOption` and `Ipv6Option`).
 * - "ttl": its TTL or hop limit: `ttl` (`IpOption.receiveTtl`, `Ipv6Option.receiveHopLimit`).
 * - "trafficClass": DSCP and ECN: `trafficClass`, `ecn` (`IpOption.receiveTos`,
 *   `Ipv6Option.receiveTrafficClass`).
 * - "timestamp": when it came: `timestampNs` (`SocketOption.timestampNs`).
 * - "mark": the mark that the firewall set: `mark` (`SocketOption.receiveMark`, Linux 5.19, which takes
 *   CAP_NET_RAW or CAP_NET_ADMIN).
 * - "dropped": how many the socket had dropped: `dropped` (`SocketOption.receiveQueueOverflow`).
 */
export type DatagramMetadata =
  | "destination"
  | "ttl"
  | "trafficClass"
  | "timestamp"
  | "mark"
  | "dropped";

/**
 * What becomes of a datagram that is longer than its path carries.
 *
 * - "off": it is fragmented, by this host or by a router; what is known of the path is not used.
 * - "want": it is fragmented by this host, if it is longer than what is known of the path; else
 *   routers must not, and what they say is learnt. The system's usual one.
 * - "do": never fragmented: a send that is longer than what is known fails with `EMSGSIZE`.
 * - "probe": never fragmented, and sent whatever is known of the path: for programs that find out
 *   themselves (RFC 8899), as QUIC does.
 * - "interface": the MTU of the interface is the limit, and what routers say is not believed.
 * - "omit": as "interface", but fragmented by this host where it is longer.
 */
export type PathMtuDiscovery = "off" | "want" | "do" | "probe" | "interface" | "omit";

const KIND: Kind = {
  name: "a UDP socket",
  accepts: (domain, type, protocol) =>
    (domain === AF_INET || domain === AF_INET6) && type === SOCK_DGRAM && protocol === IPPROTO_UDP,
};

/**
 * A UDP socket over IPv4 or IPv6. What the kernel says about one datagram harms no other: see
 * `DatagramBatch.failure`.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7)}
 *
 * @example Send one, receive one
 * ```ts
 * import { UdpSocket } from "bun-sockets";
 *
 * using server = UdpSocket.bind("127.0.0.1:0");
 * using client = UdpSocket.open("ipv4");
 * client.sendToSync("hello", server.localAddress);
 *
 * const buffer = new Uint8Array(1500);
 * const { length, address } = server.receiveFromSync(buffer, { timeoutMs: 1000 });
 * console.log(`${address} says ${Buffer.from(buffer.subarray(0, length))}`);
 * ```
 */
export class UdpSocket extends Socket<InetAddress, InetAddress> {
  /**
   * "ipv4" or "ipv6". An IPv6 socket carries IPv4 too, as mapped addresses, unless made `ipv6Only`.
   */
  declare readonly family: "ipv4" | "ipv6";
  /** "datagram". */
  declare readonly type: "datagram";

  /**
   * Opens a socket that has no address yet: its first send gives it a free port.
   *
   * @param family the family, or an address (or its text) of that family
   * @throws {SystemError} `EMFILE` too many open descriptors; `EAFNOSUPPORT` the kernel has no IPv6
   * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}
   */
  static open(
    family: "ipv4" | "ipv6" | Address | string,
    options: UdpSocketOptions = {},
  ): UdpSocket {
    const named = family === "ipv4" || family === "ipv6";
    const opened = named ? family : toInetAddress(family).family;
    return UdpSocket.#open(opened, options, () => {});
  }

  /**
   * Opens a socket and binds it.
   *
   * @param address where to receive, or its text: "127.0.0.1:9000", "[::]:9000"; port 0 takes a
   * free one
   * @throws {SystemError} `EADDRINUSE` the port is taken; `EACCES` it needs a right;
   * `EADDRNOTAVAIL` not an address of ours
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html | bind(2)}
   */
  static override bind(address: Address | string, options: UdpSocketOptions = {}): UdpSocket {
    const local = toInetAddress(address);
    return UdpSocket.#open(local.family, options, (udp) => udp.bind(local));
  }

  /**
   * Makes a UdpSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no UDP socket; or, with `own`, another socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): UdpSocket {
    return new UdpSocket(adoptParts(descriptor, options, KIND));
  }

  static #open(
    family: "ipv4" | "ipv6",
    options: UdpSocketOptions,
    work: (udp: UdpSocket) => void,
  ): UdpSocket {
    const domain = family === "ipv4" ? AF_INET : AF_INET6;
    const copy = copyOptions(options, domain);
    const { queueErrors = false, metadata } = options;
    requireBoolean(queueErrors, "queueErrors");
    const told = metadata === undefined ? undefined : loadMetadata().copyMetadata(metadata);
    const udp = new UdpSocket(openParts(domain, SOCK_DGRAM, 0, copy));
    return orClose(udp, () => {
      if (queueErrors) udp.queueErrors = true;
      if (told) loadMetadata().askFor(udp, told, copy.ipv6Only === true);
      copy.configure?.(udp);
      work(udp);
    });
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UdpSocket {
    return new UdpSocket(duplicateParts(this));
  }

  /**
   * What is known of segmentation offload on this socket: the longest trains, how many were sent, and
   * which destinations get none, and why.
   */
  get offload(): Offload {
    return offloadOf(this).shown;
  }

  /**
   * Sends many datagrams at once, or as many as there is room for: the cheapest way to send them. The
   * kernel gets them as trains of equal datagrams, which it cuts apart at the last moment (UDP_SEGMENT,
   * Linux 4.18). What it refuses as a train goes out datagram by datagram, at once: see `offload`.
   *
   * @param payload one payload, cut into datagrams of `segmentBytes`, the last of which may be shorter
   * (an empty payload is one empty datagram); or a list of views of any lengths, each of which is a
   * datagram: those of equal length that follow each other, and a shorter one after them, are a train
   * @param options segmentBytes, and where to; default the peer
   * @returns bytes sent, of whole datagrams; undefined when there is no room for the first
   * @throws {SystemError} as trySendTo, and trySend without `to`; `transferred` counts the bytes that
   * were sent before. That an earlier datagram was refused is told before anything is sent only
   * @throws {TypeError} a payload is no view of ordinary memory, or `to` is no IP address; one payload
   * without segmentBytes, or a list with it
   * @throws {RangeError} segmentBytes is not 1 to 65535
   * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7), UDP_SEGMENT}
   *
   * @example 50 datagrams in one call
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using receiver = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: 200_000 });
   * using socket = UdpSocket.open("ipv4");
   * const payload = new Uint8Array(50 * 1200);
   * const sent = socket.trySendSegments(payload, { segmentBytes: 1200, to: receiver.localAddress });
   * console.log(sent, socket.offload.trains, socket.offload.segments); // 60000 1 50
   * console.log(receiver.receiveSync(new Uint8Array(1500))); // 1200
   * ```
   */
  trySendSegments(payload: SegmentPayload, options: SegmentOptions = {}): number | undefined {
    const descriptor = descriptorOf(this) as Descriptor;
    const offload = offloadOf(this);
    const sent = loadOffload().trySendSegments(descriptor, offload, payload, options);
    if (offload.isFull) foundFull(this);
    return sent;
  }

  /**
   * Sends many datagrams at once, as `trySendSegments`, waiting for room.
   *
   * @returns bytes sent: all
   * @throws {TimeoutError} there was no room in time; `transferred` counts the bytes that were sent
   * @throws {SystemError} as trySendSegments
   */
  sendSegmentsSync(payload: SegmentPayload, options: SegmentWaitOptions = {}): number {
    const descriptor = descriptorOf(this) as Descriptor;
    return loadOffload().sendSegmentsSync(descriptor, offloadOf(this), payload, options);
  }

  /**
   * Sends many datagrams at once, as `trySendSegments`, waiting for room; the promise form of
   * `sendSegmentsSync`. Nothing is copied: the payload must stay as it is until the call is answered.
   *
   * @returns bytes sent: all
   * @throws {TimeoutError} there was no room in time; `transferred` counts the bytes that were sent
   * @throws {ClosedError} the socket was closed; `transferred` counts the bytes that were sent before
   * @throws {SystemError} as trySendSegments
   */
  sendSegments(payload: SegmentPayload, options: SegmentAsyncOptions = {}): Promise<number> {
    const descriptor = descriptorOf(this) as Descriptor;
    return loadOffload().sendSegments(descriptor, offloadOf(this), payload, options);
  }

  /**
   * Joins a multicast group: datagrams to it that come in by the interface are received from now on,
   * those to the port that the socket is bound to. A group is joined once for each interface, and
   * once more for each source where only some are heard.
   *
   * A socket that joins hears its own groups only, from then on (`IP_MULTICAST_ALL` and
   * `IPV6_MULTICAST_ALL` are switched off): bound to "0.0.0.0" it would otherwise get what any other
   * socket of this machine has joined. `hearsAll` says otherwise.
   *
   * Groups are IPv4 or IPv6; an IPv6 socket joins both, unless made `ipv6Only`. Interfaces are those
   * of the network namespace that the socket was made in. An IPv6 group that the socket has joined on
   * one interface it hears on every other where anybody of this machine has joined it: so is Linux.
   *
   * @param group the group, or its text: "239.1.2.3", "ff02::1%eth0"; its port means nothing
   * @param options the interface, and the source where only one is heard
   * @throws {SystemError} `EADDRINUSE` it is joined already; `ENODEV` there is no such interface, or
   * without one no route; `EADDRNOTAVAIL` no interface has the address; `ENOBUFS` there are as many
   * as the sysctls net.ipv4.igmp_max_memberships or igmp_max_msf allow; `EINVAL` it is joined from all
   * sources, and this is one; `EAFNOSUPPORT` the socket carries no such groups
   * @throws {TypeError} it is no multicast group, or the source is of the other family, or no host
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), MCAST_JOIN_GROUP}
   *
   * @example A group on the loopback interface
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using member = UdpSocket.bind("0.0.0.0:0");
   * member.join("239.1.2.3", { interface: "lo" });
   * using sender = UdpSocket.open("ipv4");
   * sender.multicastInterface = "lo";
   * sender.sendToSync("to all", `239.1.2.3:${member.localAddress.port}`);
   * console.log(`${Buffer.from(await member.receiveBytes(100))}`); // to all
   * ```
   */
  join(group: Address | string, options: JoinOptions = {}): void {
    loadMulticast().join(descriptorOf(this) as Descriptor, group, options);
  }

  /**
   * Leaves a group; with a `source` only that source of it, which was joined. Closing the socket
   * leaves all.
   *
   * @param options the interface and the source; without an interface, the one that the group was
   * joined on
   * @throws {SystemError} `EADDRNOTAVAIL` the socket has not joined it there; `EINVAL` it has joined
   * it from all sources, and this is one
   * @throws {TypeError} as `join`
   */
  leave(group: Address | string, options: LeaveOptions = {}): void {
    loadMulticast().leave(descriptorOf(this) as Descriptor, group, options);
  }

  /**
   * Hears a source no more in a group that was joined for all sources.
   *
   * @throws {SystemError} `EADDRNOTAVAIL` the group was not joined there, or the source is blocked
   * already; `EINVAL` the group was joined for some sources only; `ENOBUFS` there are as many as the
   * sysctls net.ipv4.igmp_max_msf and net.ipv6.mld_max_msf allow
   * @throws {TypeError} as `join`
   */
  blockSource(group: Address | string, source: Address | string, options: GroupOptions = {}): void {
    loadMulticast().setBlocked(descriptorOf(this) as Descriptor, group, source, options, true);
  }

  /**
   * Hears a blocked source again.
   *
   * @throws {SystemError} `EADDRNOTAVAIL` the group was not joined there, or the source is not
   * blocked; `EINVAL` the group was joined for some sources only
   * @throws {TypeError} as `join`
   */
  unblockSource(
    group: Address | string,
    source: Address | string,
    options: GroupOptions = {},
  ): void {
    loadMulticast().setBlocked(descriptorOf(this) as Descriptor, group, source, options, false);
  }

  /**
   * Tells which sources of a group the socket hears.
   *
   * @throws {SystemError} `EADDRNOTAVAIL` the socket has not joined the group there
   * @throws {TypeError} as `join`
   */
  sourceFilter(group: Address | string, options: GroupOptions = {}): SourceFilter {
    return loadMulticast().sourceFilter(descriptorOf(this) as Descriptor, group, options);
  }

  /**
   * Sets all sources of a group at once, that the socket hears or does not hear: nothing is missed
   * between. The group has to be joined before, and to hear none leaves it.
   *
   * @throws {SystemError} `EADDRNOTAVAIL` the socket has not joined it there; `ENOBUFS` there are more
   * sources than the sysctls net.ipv4.igmp_max_msf and net.ipv6.mld_max_msf allow
   * @throws {TypeError} as `join`, or the filter is none
   * @throws {RangeError} there are more than 1024 sources
   */
  setSourceFilter(group: Address | string, filter: SourceFilter, options: GroupOptions = {}): void {
    loadMulticast().setSourceFilter(descriptorOf(this) as Descriptor, group, filter, options);
  }

  /**
   * The groups that the open socket has joined through this object and its duplicates of this thread,
   * in order: asked of the kernel, so that what was left, however, is gone. One for each source, where
   * only some are heard.
   */
  get memberships(): readonly GroupMembership[] {
    return loadMulticast().membershipsOf(descriptorOf(this) as Descriptor);
  }

  /**
   * Where multicast goes out: the index of the interface, 0 where the kernel's routes say. Setting it
   * takes an index, a name, or an address that the interface has; undefined is 0. By its IPv4 address
   * it is also the sender's address. An IPv6 socket has it set for IPv4, too.
   *
   * Of an IPv4 socket the kernel tells it by the address only: set by others by index, it reads 0.
   *
   * @throws {SystemError} `ENODEV`, `EADDRNOTAVAIL` there is no such interface; `EINVAL` the socket is
   * bound to another one
   */
  get multicastInterface(): number {
    return loadMulticast().outgoingInterface(descriptorOf(this) as Descriptor, this.#isIpv6);
  }

  set multicastInterface(where: InterfaceLike | undefined) {
    loadMulticast().setOutgoingInterface(descriptorOf(this) as Descriptor, this.#isIpv6, where);
  }

  /**
   * How many routers multicast may pass: TTL or hop limit, 0 to 255. 1 at first, which stays on the
   * link; 0 stays on this machine. An IPv6 socket has it set for IPv4, too.
   *
   * @throws {RangeError} it is out of range
   */
  get multicastHops(): number {
    return loadMulticast().hopLimit((descriptorOf(this) as Descriptor).fd, this.#isIpv6);
  }

  set multicastHops(hops: number) {
    loadMulticast().setHopLimit((descriptorOf(this) as Descriptor).fd, this.#isIpv6, hops);
  }

  /**
   * Whether members on this machine hear what is sent: true at first. An IPv6 socket has it set for
   * IPv4, too.
   */
  get multicastLoop(): boolean {
    return loadMulticast().loops((descriptorOf(this) as Descriptor).fd, this.#isIpv6);
  }

  set multicastLoop(isOn: boolean) {
    loadMulticast().setLoops((descriptorOf(this) as Descriptor).fd, this.#isIpv6, isOn);
  }

  /**
   * The MTU of the path to the peer, as the kernel knows it now: the largest IP packet that passes, in
   * bytes, headers included. Undefined without a peer. A datagram's payload is 28 bytes shorter over
   * IPv4, and 48 over IPv6.
   *
   * It shrinks when a router says so, which is queued as an error too (`queueErrors`: "pathMtu"), and
   * is forgotten after ten minutes.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), IP_MTU}
   */
  get pathMtu(): number | undefined {
    return loadPathMtu().pathMtuOf((descriptorOf(this) as Descriptor).fd, this.#isIpv6);
  }

  /**
   * What becomes of a datagram that is longer than its path carries (`IP_MTU_DISCOVER`,
   * `IPV6_MTU_DISCOVER`). An IPv6 socket has it set for IPv4, too.
   *
   * @throws {TypeError} it is none of the words
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), IP_MTU_DISCOVER}
   *
   * @example For a protocol that finds out itself what passes
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("127.0.0.1:0");
   * using socket = UdpSocket.open("ipv4", { queueErrors: true });
   * socket.pathMtuDiscovery = "probe";
   * socket.connectSync(server.localAddress);
   * console.log(socket.pathMtuDiscovery, socket.pathMtu); // probe 65535
   * ```
   */
  get pathMtuDiscovery(): PathMtuDiscovery {
    return loadPathMtu().discoveryOf((descriptorOf(this) as Descriptor).fd, this.#isIpv6);
  }

  set pathMtuDiscovery(mode: PathMtuDiscovery) {
    loadPathMtu().setDiscovery((descriptorOf(this) as Descriptor).fd, this.#isIpv6, mode);
  }

  /**
   * Sends one datagram without a copy (`MSG_ZEROCOPY`), or answers at once: the kernel reads the
   * caller's memory itself, and the lease that comes back tells when it is done with it. Until then
   * the data must stay as it is. It pays from some 10,000 bytes on, and not on loopback: see
   * `zeroCopy`. Where it is not possible, or does not pay, the data is copied as by a plain send, and
   * its lease is released at once.
   *
   * @param data a view of any part of any buffer
   * @param options where to, if not to the peer
   * @returns the lease, or undefined when there is no room
   * @throws {SystemError} as trySend and trySendTo
   * @throws {TypeError} data is no view of ordinary memory, or the address is none
   * @see {@link https://docs.kernel.org/networking/msg_zerocopy.html | MSG_ZEROCOPY}
   */
  trySendZeroCopy(
    data: ArrayBufferView | ArrayBuffer,
    options: ZeroCopyTryOptions<InetAddress> = {},
  ): ZeroCopyLease | undefined {
    return loadZeroCopy().trySendZeroCopy(zeroCopySenderOf(this), data, options) ?? foundFull(this);
  }

  /**
   * Sends one datagram without a copy, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   */
  sendZeroCopySync(
    data: ArrayBufferView | ArrayBuffer | string,
    options: ZeroCopyWaitOptions<InetAddress> = {},
  ): ZeroCopyLease {
    return loadZeroCopy().sendZeroCopySync(zeroCopySenderOf(this), data, options);
  }

  /**
   * Sends one datagram without a copy, waiting for room; the promise form of `sendZeroCopySync`.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   *
   * @example The memory may be used again when the kernel says so
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("127.0.0.1:0");
   * using client = UdpSocket.open("ipv4");
   * const data = new Uint8Array(60_000);
   * const lease = await client.sendZeroCopy(data, { to: server.localAddress });
   * const { copied } = await lease.whenReleased;
   * console.log(lease.bytes, copied); // 60000 true
   * console.log(client.zeroCopy.sends, client.zeroCopy.copied); // 1 1
   * ```
   */
  sendZeroCopy(
    data: ArrayBufferView | ArrayBuffer | string,
    options: ZeroCopyOptions<InetAddress> = {},
  ): Promise<ZeroCopyLease> {
    try {
      return loadZeroCopy().sendZeroCopy(zeroCopySenderOf(this), data, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** How sends without a copy go, and whether the next one is tried without. */
  get zeroCopy(): ZeroCopyState {
    return loadZeroCopy().stateOf(zeroCopySenderOf(this));
  }

  get #isIpv6(): boolean {
    return this.family === "ipv6";
  }
}

function loadMetadata(): typeof import("./internal/metadata.ts") {
  return loadModule(() => require("./internal/metadata.ts"));
}

function loadPathMtu(): typeof import("./internal/path_mtu.ts") {
  return loadModule(() => require("./internal/path_mtu.ts"));
}

function loadMulticast(): typeof import("./internal/multicast.ts") {
  return loadModule(() => require("./internal/multicast.ts"));
}
