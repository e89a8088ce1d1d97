import {
  PACKET_MR_ALLMULTI,
  PACKET_MR_MULTICAST,
  PACKET_MR_PROMISC,
  PACKET_MR_UNICAST,
} from "../../structs/constants/linux_if_packet.ts";
import { AF_PACKET, SOCK_DGRAM, SOCK_RAW } from "../../structs/constants/sys_socket.ts";
import { ClosedError } from "../error.ts";
import type { FilterProgram } from "../filter_program.ts";
import type { Interface, NetworkInterface } from "../interface.ts";
import { describe, requireOptions } from "../internal/arguments.ts";
import type { Descriptor } from "../internal/descriptor.ts";
import { adoptParts, type Kind } from "../internal/parts.ts";
import { type LinkAddress, toHardware } from "../link_address.ts";
import type { ReceivedDescriptor } from "../received_descriptor.ts";
import {
  type AdoptOptions,
  descriptorOf,
  duplicateParts,
  Socket,
  type SocketOptions,
} from "../socket.ts";
import { copyFanout, fanoutGroupOf, joinFanout } from "./internal/fanout.ts";
import { copyInterface, linkTypeOf, openPacket, toIndex } from "./internal/open_packet.ts";
import { changeMembership } from "./internal/packet_membership.ts";
import { readRollover, StatisticsCounter } from "./internal/statistics.ts";

/** An interface: its name, its index, or what `interfaces` or `NetworkInterface` tell of it. */
export type PacketInterface = string | number | NetworkInterface | Interface;

/** What a packet socket can be told when it is made. */
export interface PacketSocketOptions extends SocketOptions {
  /**
   * Where packets begin. "raw": at the link-layer header, as they are on the wire; what is sent has
   * one, too. "cooked": behind it, at the IP header; whom it is from and what it is stands in the
   * sender's address, and what is sent gets a header by the address that it is sent to. Default "raw".
   */
  readonly mode?: "raw" | "cooked" | undefined;
  /**
   * Which packets are received: an EtherType, `ETH_P_ARP`, in host byte order; `ETH_P_ALL`: all, also
   * those that this machine sends; 0: none, for a socket that only sends. Default `ETH_P_ALL`.
   */
  readonly protocol?: number | undefined;
  /**
   * Whether the interface takes in packets for other machines, as long as the socket is open: other
   * sockets get them, too. Default false.
   */
  readonly promiscuous?: boolean | undefined;
  /**
   * Whether the interface takes in packets for every multicast group, as long as the socket is open.
   * Default false.
   */
  readonly allMulticast?: boolean | undefined;
  /**
   * Which packets are received: a program, or the text of one, as tcpdump(1) takes it ("udp port
   * 53"), for which libpcap must be there: see `compileFilter`. A packet begins to it where it begins
   * for the socket. It is attached before anything can come; to change it later see `attachFilter`
   * and its `drains`. Default all.
   */
  readonly filter?: FilterProgram | string | undefined;
  /** The fanout group that the socket joins. Default none. */
  readonly fanout?: FanoutOptions | undefined;
  /**
   * `PACKET_IGNORE_OUTGOING`: what this machine sends is not received. The loopback interface shows
   * each packet twice without it. Default false.
   */
  readonly ignoreOutgoing?: boolean | undefined;
  /**
   * `PACKET_AUXDATA`: each packet comes with what the kernel knows of it: its length, its VLAN tag,
   * which is not among its bytes, and whether its checksum is there yet. A `DatagramBatch` tells it
   * as `vlan`, `vlanProtocol`, `checksum`; a `Message` among its control messages. Default false.
   */
  readonly auxiliaryData?: boolean | undefined;
  /**
   * `PACKET_QDISC_BYPASS`: what is sent goes to the driver at once, past the queue of the interface.
   * It is faster, shapes nothing, is not shown to other packet sockets, and is refused (`ENOBUFS`)
   * rather than kept while the driver has no room. Default false.
   */
  readonly bypassQdisc?: boolean | undefined;
  /** `SO_TIMESTAMPNS`: each packet comes with the time of its arrival. Default false. */
  readonly timestampNs?: boolean | undefined;
}

/**
 * How the sockets of a fanout group share packets.
 *
 * - "hash": by the flow (addresses, protocol, ports): all packets of one go to one member.
 * - "balance": in turn.
 * - "cpu": by the CPU that the packet came in on.
 * - "rollover": all to one member, as long as it has room, then to the next.
 * - "random": at random.
 * - "queue": by the receive queue of the device.
 * - "program": to the member whose place in the group the group's program returns, modulo their
 *   number; without a program to the first.
 */
export type FanoutMode = "hash" | "balance" | "cpu" | "rollover" | "random" | "queue" | "program";

/** Which fanout group a packet socket joins, and how. All members must say the same. */
export interface FanoutOptions {
  /**
   * The number of the group, 0 to 65535: one for all processes of a network namespace. It must be
   * left out with `uniqueId`.
   */
  readonly group?: number | undefined;
  /** How packets are shared. */
  readonly mode: FanoutMode;
  /** Whether a member without room passes packets on to one that has some. Default false. */
  readonly rollover?: boolean | undefined;
  /**
   * Whether fragments of IPv4 are put together first, so that all of a flow come to one member.
   * Default false.
   */
  readonly defragment?: boolean | undefined;
  /**
   * Whether the kernel chooses the number of a new group, which `fanoutGroup` then tells the others.
   * Default false.
   */
  readonly uniqueId?: boolean | undefined;
  /**
   * With "program": the program, for the whole group, in the place of the one that it has. To it a
   * packet begins at its network header, and the link-layer header is at `SKF_LL_OFF`.
   */
  readonly program?: FilterProgram | undefined;
  /** How many members a group can have, as its first one says: 1 to 65536. Default 256. */
  readonly membersMax?: number | undefined;
}

/** What a packet socket has counted since it was opened. */
export interface PacketStatistics {
  /** Packets that the filter has let through: those that were received or will be, and `drops`. */
  readonly packets: number;
  /** Those of them that were lost because the receive buffer, or the ring, had no room. */
  readonly drops: number;
  /** How often a ring has had no free block. */
  readonly freezes: number;
}

/** What a member of a fanout group has passed on to others since it joined. */
export interface RolloverStatistics {
  /** Packets passed on. */
  readonly passed: number;
  /** Those of them whose flow was most of what had come. */
  readonly passedOfBusyFlow: number;
  /** Packets that no member had room for. */
  readonly failed: number;
}

/**
 * What an interface takes in beside what is for it: "promiscuous" is everything on the link,
 * "allMulticast" every group; "multicast" and "unicast" are what is for one hardware address.
 */
export type PacketMembershipKind = "promiscuous" | "allMulticast" | "multicast" | "unicast";

/** What a membership is of. */
export interface PacketMembershipOptions {
  /** With "multicast" and "unicast": the hardware address, "01:00:5e:00:00:01", or its bytes. */
  readonly address?: string | Uint8Array | undefined;
  /** The interface. Default: that of the socket. */
  readonly interface?: PacketInterface | undefined;
}

const KIND: Kind = {
  name: "a packet socket",
  accepts: (domain, type) => domain === AF_PACKET && (type === SOCK_RAW || type === SOCK_DGRAM),
};

const MEMBERSHIPS: Readonly<Record<PacketMembershipKind, number>> = {
  promiscuous: PACKET_MR_PROMISC,
  allMulticast: PACKET_MR_ALLMULTI,
  multicast: PACKET_MR_MULTICAST,
  unicast: PACKET_MR_UNICAST,
};

// Duplicates have the counts of the socket that they are of.
const counters = new WeakMap<object, StatisticsCounter>();

/**
 * A packet socket: whole packets of one interface, or of all, as the driver has them. It takes
 * CAP_NET_RAW.
 *
 * It is made with protocol 0, which receives nothing, and gets the real one with its interface, when
 * filter and options are there: nothing comes that was not asked for. Addresses are LinkAddresses; the
 * sender of what came also tells, by `packetType`, whether this machine has sent it: what other
 * sockets send is received, too, where the protocol is `ETH_P_ALL`, but never what this one sends.
 *
 * Packets of virtual interfaces can be longer than the MTU (segmentation offload), and their checksums
 * unfinished: `auxiliaryData` tells. What a target is too short for is cut off, as with all datagrams:
 * `receiveFrom` tells the original length. What is sent is refused with `EMSGSIZE` where it is longer
 * than the interface carries, and with `EINVAL` where it is shorter than its header.
 *
 * Opening costs little; closing waits for the kernel to let go of it, some 10 ms of the thread.
 *
 * While the interface is down, a receive fails once with `ENETDOWN`; the socket is good again when it is
 * up. For many packets a second `PacketRing` is far cheaper.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7)}
 *
 * @example A packet that this machine sends to itself
 * ```ts
 * import { UdpSocket } from "bun-sockets";
 * import { PacketSocket } from "bun-sockets/packet";
 *
 * using packets = PacketSocket.open("lo", { ignoreOutgoing: true, protocol: 0x0800 });
 * using udp = UdpSocket.bind("127.0.0.1:0");
 * udp.sendToSync("hello", udp.localAddress);
 *
 * const buffer = new Uint8Array(2000);
 * const { length, address } = await packets.receiveFrom(buffer);
 * console.log(length, address.packetType); // 47 host
 * console.log(`${Buffer.from(buffer.subarray(42, length))}`); // hello
 * ```
 */
export class PacketSocket extends Socket<LinkAddress, LinkAddress> {
  /** `AF_PACKET`. */
  declare readonly family: number;
  /** "raw" where packets begin at the link-layer header, "datagram" where behind it. */
  declare readonly type: "raw" | "datagram";

  /** The groups that were joined here. The kernel does not tell group 0 by hash from none. */
  #fanoutGroup: number | undefined;

  /**
   * Opens a packet socket.
   *
   * @param where the interface: its name, its index, a NetworkInterface; undefined is every one
   * @throws {SystemError} `EPERM` it takes CAP_NET_RAW; `ENODEV` there is no such interface in the
   * network namespace of this thread; `EINVAL` the filter was refused, or the members of the fanout
   * group are of another kind; `EMFILE` too many open descriptors
   * @throws {TypeError} an option is no such, or the text of the filter does not compile
   * @throws {RangeError} a number is out of range
   * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7)}
   *
   * @example Sends only
   * ```ts
   * import { PacketSocket } from "bun-sockets/packet";
   *
   * using sender = PacketSocket.open("lo", { protocol: 0 });
   * const frame = new Uint8Array(60); // to 00:00:00:00:00:00, which is lo itself
   * new DataView(frame.buffer).setUint16(12, 0x88b5); // an EtherType for experiments
   * console.log(sender.trySend(frame)); // 60
   * ```
   */
  static open(where?: PacketInterface, options: PacketSocketOptions = {}): PacketSocket {
    let socket: PacketSocket | undefined;
    const parts = openPacket(where, requireOptions(options), (_, unbound, configure) => {
      socket = new PacketSocket(unbound);
      configure?.(socket);
    });
    (socket as PacketSocket).#fanoutGroup = parts.fanoutGroup;
    return socket as PacketSocket;
  }

  /**
   * Makes a PacketSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no packet socket; or, with `own`, another socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): PacketSocket {
    return new PacketSocket(adoptParts(descriptor, options, KIND));
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): PacketSocket {
    const second = new PacketSocket(duplicateParts(this));
    second.#fanoutGroup = this.#fanoutGroup;
    counters.set(second, counterOf(this));
    return second;
  }

  /**
   * The index of the interface that the socket is bound to: 0 for every one, -1 when it has gone.
   *
   * @throws {ClosedError} the socket is closed
   */
  get interfaceIndex(): number {
    return this.localAddress.interfaceIndex;
  }

  /**
   * What packets begin with, a number of `LinkType`: of a cooked socket "raw"; of every interface
   * "ethernet", which most have. Undefined where the interface is of a kind that has none here.
   *
   * @throws {ClosedError} the socket is closed
   */
  get linkType(): number | undefined {
    return linkTypeOf(this.localAddress.hardwareType, this.type !== "raw");
  }

  /**
   * What the kernel has counted since the socket was opened; it counts from 0 again after each read,
   * which is added up here. Duplicates made by `duplicate` have the same counts; whoever else reads
   * them, in another process, takes them away. What a filter refused is not counted.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7), PACKET_STATISTICS}
   */
  statistics(): PacketStatistics {
    return counterOf(this).read(this.#open("getsockopt"));
  }

  /**
   * What this member of a fanout group has passed on to others, by mode "rollover" or `rollover`.
   *
   * @throws {SystemError} `EINVAL` the socket is in no such group
   * @throws {ClosedError} the socket is closed
   */
  rolloverStatistics(): RolloverStatistics {
    return readRollover(this.#open("getsockopt"));
  }

  /**
   * Lets the interface take in more than what is for it, until it is dropped or the socket is closed,
   * in whatever way. Each counts: what is added twice must be dropped twice.
   *
   * @throws {SystemError} `ENODEV` there is no such interface; `EINVAL` the address has another length
   * than those of the interface; `ENOBUFS` there are too many
   * @throws {TypeError} the kind is none, the address is missing, or not expected, or the socket is for
   * every interface and none is named
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7), PACKET_ADD_MEMBERSHIP}
   *
   * @example
   * ```ts
   * import { PacketSocket } from "bun-sockets/packet";
   *
   * using socket = PacketSocket.open("lo");
   * socket.addMembership("promiscuous");
   * socket.dropMembership("promiscuous");
   * ```
   */
  addMembership(kind: PacketMembershipKind, options: PacketMembershipOptions = {}): void {
    this.#change(true, kind, options);
  }

  /**
   * Takes back a membership. The interface goes on taking in what other memberships are for. Nothing
   * happens where there is none.
   *
   * @throws {SystemError} as addMembership
   * @throws {TypeError} as addMembership
   */
  dropMembership(kind: PacketMembershipKind, options: PacketMembershipOptions = {}): void {
    this.#change(false, kind, options);
  }

  #change(adds: boolean, kind: PacketMembershipKind, options: PacketMembershipOptions): void {
    const membership = copyMembership(kind, options);
    const fd = this.#open("setsockopt");
    const index =
      membership.where === undefined ? this.interfaceIndex : toIndex(fd, membership.where);
    if (index === 0) {
      throw new TypeError(`Cannot use "${kind}" on every interface: expected the option interface`);
    }
    changeMembership(fd, adds, index, membership.type, membership.address);
  }

  /**
   * Joins a fanout group, for good: from now on each packet goes to one of its members. What has come
   * until then stays to be received; the creation option `fanout` leaves no such time. The socket must
   * be bound, and its interface up.
   *
   * @returns the number of the group, which the kernel chooses with `uniqueId`
   * @throws {SystemError} `EALREADY` the socket is in a group; `EINVAL` the members are of another
   * kind, or the socket is not bound; `ENOSPC` the group is full
   * @throws {TypeError} an option is no such
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7), PACKET_FANOUT}
   *
   * @example Two sockets, each of which gets half of what comes
   * ```ts
   * import { PacketSocket } from "bun-sockets/packet";
   *
   * using first = PacketSocket.open("lo");
   * const group = first.joinFanout({ mode: "balance", uniqueId: true });
   * using second = PacketSocket.open("lo", { fanout: { mode: "balance", group } });
   * console.log(second.fanoutGroup === group); // true
   * ```
   */
  joinFanout(options: FanoutOptions): number {
    const fanout = copyFanout(options);
    this.#fanoutGroup = joinFanout(this.#open("setsockopt"), fanout);
    return this.#fanoutGroup;
  }

  /**
   * The number of the fanout group that the socket is in, or undefined.
   *
   * @throws {ClosedError} the socket is closed
   */
  get fanoutGroup(): number | undefined {
    return fanoutGroupOf(this.#open("getsockopt")) ?? this.#fanoutGroup;
  }

  #open(syscall: string): number {
    const { fd } = descriptorOf(this) as Descriptor;
    if (fd < 0) throw new ClosedError(syscall);
    return fd;
  }
}

function counterOf(socket: PacketSocket): StatisticsCounter {
  const counter = counters.get(socket) ?? new StatisticsCounter();
  counters.set(socket, counter);
  return counter;
}

/** A membership, read once and checked. */
interface CopiedMembership {
  readonly type: number;
  readonly address: Uint8Array | undefined;
  readonly where: string | number | undefined;
}

function copyMembership(
  kind: PacketMembershipKind,
  options: PacketMembershipOptions,
): CopiedMembership {
  const isKind = typeof kind === "string" && Object.hasOwn(MEMBERSHIPS, kind);
  if (!isKind) {
    const given = typeof kind === "string" ? JSON.stringify(kind) : describe(kind);
    const known = Object.keys(MEMBERSHIPS).map((name) => `"${name}"`);
    throw new TypeError(`Cannot use ${given} as a membership: expected ${known.join(", ")}`);
  }
  const { address, interface: where } = requireOptions(options);
  const takesAddress = kind === "multicast" || kind === "unicast";
  if (takesAddress !== (address !== undefined)) {
    const expected = takesAddress ? "one" : "none";
    throw new TypeError(
      `Cannot use ${describe(address)} as the address of "${kind}": expected ${expected}`,
    );
  }
  return {
    type: MEMBERSHIPS[kind],
    address: address === undefined ? undefined : toHardware(address),
    where: copyInterface(where),
  };
}
