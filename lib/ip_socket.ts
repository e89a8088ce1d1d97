import type { Address, InetAddress } from "./address.ts";
import { requireBoolean } from "./internal/arguments.ts";
import { type Descriptor, loadModule } from "./internal/descriptor.ts";
import type {
  GroupMembership,
  GroupOptions,
  InterfaceLike,
  JoinOptions,
  LeaveOptions,
  SourceFilter,
} from "./multicast.ts";
import { descriptorOf, Socket } from "./socket.ts";

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

/** What the classes below can be told when they are made, beside `SocketOptions`. */
interface Reports {
  readonly queueErrors?: boolean | undefined;
  readonly metadata?: readonly DatagramMetadata[] | undefined;
}

/**
 * A socket over IPv4 or IPv6 whose messages keep their ends, UdpSocket or RawSocket: what the two share.
 * It can join multicast groups, and knows the MTU of the path to its peer.
 *
 * @example A function that takes whatever can join a group
 * ```ts
 * import { IpSocket, UdpSocket } from "bun-sockets";
 *
 * function joinAll(socket: IpSocket, groups: readonly string[]): void {
 *   for (const group of groups) socket.join(group, { interface: "lo" });
 * }
 *
 * using socket = UdpSocket.bind("0.0.0.0:0");
 * joinAll(socket, ["239.1.2.3", "239.1.2.4"]);
 * console.log(socket.memberships.map(({ group }) => group.host)); // [ "239.1.2.3", "239.1.2.4" ]
 * console.log(socket instanceof IpSocket); // true
 * ```
 */
export abstract class IpSocket extends Socket<InetAddress, InetAddress> {
  /**
   * "ipv4" or "ipv6". An IPv6 UdpSocket carries IPv4 too, as mapped addresses, unless made `ipv6Only`; an
   * IPv6 RawSocket carries none.
   */
  declare readonly family: "ipv4" | "ipv6";
  /** "datagram" or "raw". */
  declare readonly type: "datagram" | "raw";

  /** Makes a second socket of its class for the same open socket: see `Socket.duplicate`. */
  abstract override duplicate(): IpSocket;

  /**
   * Joins a multicast group: what comes to it by the interface is received from now on. Of a UdpSocket
   * that are the datagrams to the port that it is bound to, of a RawSocket the packets of its protocol.
   * A group is joined once for each interface, and once more for each source where only some are heard.
   *
   * A socket that joins hears its own groups only, from then on (`IP_MULTICAST_ALL` and
   * `IPV6_MULTICAST_ALL` are switched off): bound to "0.0.0.0" it would otherwise get what any other
   * socket of this machine has joined. `hearsAll` says otherwise. An IPv6 RawSocket heeds this, and
   * the sources that it is not to hear, only where it is bound to an address of this machine: so is Linux.
   *
   * Groups are IPv4 or IPv6; an IPv6 UdpSocket joins both, unless made `ipv6Only`. Interfaces are those
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
   * it is also the sender's address. An IPv6 UdpSocket has it set for IPv4, too.
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
   * link; 0 stays on this machine. An IPv6 UdpSocket has it set for IPv4, too.
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
   * Whether members on this machine hear what is sent: true at first. An IPv6 UdpSocket has it set for
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
   * bytes, headers included. Undefined without a peer. The payload of a UDP datagram is 28 bytes shorter
   * over IPv4, and 48 over IPv6.
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
   * `IPV6_MTU_DISCOVER`). An IPv6 UdpSocket has it set for IPv4, too; of a RawSocket with
   * `headerIncluded` the header says it.
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

  get #isIpv6(): boolean {
    return this.family === "ipv6";
  }
}

/**
 * Reads and checks what a new socket is to be told of by the kernel: errors, and what comes beside a
 * datagram. Returns what asks the kernel for it.
 */
export function copyReports({
  queueErrors = false,
  metadata,
}: Reports): (socket: IpSocket, ipv6Only: boolean) => void {
  requireBoolean(queueErrors, "queueErrors");
  const told = metadata === undefined ? undefined : loadMetadata().copyMetadata(metadata);
  return (socket, ipv6Only) => {
    if (queueErrors) socket.queueErrors = true;
    if (told) loadMetadata().askFor(socket, told, ipv6Only);
  };
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
