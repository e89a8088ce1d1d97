/**
 * Opens packet sockets: for `PacketSocket`, and for what puts a ring on one.
 *
 * The order is what keeps out packets that nobody has asked for. A packet socket with a protocol is
 * given packets from that moment on; so it is made with protocol 0, which gets none, and has its
 * options, its filter and its ring before bind(2) tells the interface and the real protocol.
 *
 * @module
 */
import { ENODEV } from "../../../structs/constants/errno.ts";
import { ETH_P_ALL } from "../../../structs/constants/linux_if_ether.ts";
import {
  PACKET_AUXDATA,
  PACKET_IGNORE_OUTGOING,
  PACKET_MR_ALLMULTI,
  PACKET_MR_PROMISC,
  PACKET_QDISC_BYPASS,
} from "../../../structs/constants/linux_if_packet.ts";
import {
  AF_PACKET,
  SO_TIMESTAMPNS,
  SOCK_DGRAM,
  SOCK_RAW,
  SOL_PACKET,
  SOL_SOCKET,
} from "../../../structs/constants/sys_socket.ts";
import { sockaddr_ll } from "../../../structs/sockaddr_ll.ts";
import { check, systemError } from "../../error.ts";
import { FilterProgram } from "../../filter_program.ts";
import { describe, requireBoolean, requireInteger } from "../../internal/arguments.ts";
import { loadModule, requireStill } from "../../internal/descriptor.ts";
import { interfaceIndexOf } from "../../internal/interface_kernel.ts";
import { copyOptions, openParts, type Parts } from "../../internal/parts.ts";
import { attachedFilter, attachFilter, detachFilter } from "../../internal/socket_filter.ts";
import type { SocketOptions } from "../../socket.ts";
import { bind, getsockname, setsockopt } from "../../sys/socket.ts";
import { LinkType, linkTypeOfHardware } from "../link_type.ts";
import type { PacketInterface, PacketSocketOptions } from "../packet_socket.ts";
import { type CopiedFanout, copyFanout, joinFanout } from "./fanout.ts";
import { changeMembership } from "./packet_membership.ts";

/** A packet socket that is open: what it is made of, and what is known of its interface. */
export interface PacketParts extends Parts {
  /** The index of its interface; 0 for every interface. */
  readonly interfaceIndex: number;
  /** What packets begin with, a number of `LinkType`. Undefined where none is known. */
  readonly linkType: number | undefined;
  /** The fanout group that it has joined. */
  readonly fanoutGroup: number | undefined;
}

const INDEX_MAX = 2 ** 31 - 1;
const PROTOCOL_MAX = 0xffff;

// Filled by one call and read in it.
const value = new Int32Array(new ArrayBuffer(4));
const address = new DataView(new ArrayBuffer(sockaddr_ll.size));
const addressLength = new Uint32Array(new ArrayBuffer(4));

/**
 * Opens a packet socket.
 *
 * @param prepare called when all is set and nothing can have come yet: the place for a ring. What it
 * throws is thrown, and the socket is closed. The parts that it gets tell everything but the group;
 * the option `configure` is its to call
 */
export function openPacket(
  where: PacketInterface | undefined,
  options: PacketSocketOptions,
  prepare?: (fd: number, parts: PacketParts, configure: SocketOptions["configure"]) => void,
): PacketParts {
  const copy = copyPacketOptions(options);
  const named = copyInterface(where);
  if (named === undefined && (copy.promiscuous || copy.allMulticast)) {
    const which = copy.promiscuous ? "promiscuous" : "allMulticast";
    throw new TypeError(`Cannot make every interface ${which}: expected the name or index of one`);
  }
  const type = copy.isCooked ? SOCK_DGRAM : SOCK_RAW;
  const parts = openParts(AF_PACKET, type, 0, copy.socket);
  const { descriptor } = parts;
  try {
    const { fd } = descriptor;
    const interfaceIndex = named === undefined ? 0 : toIndex(fd, named);
    const hardwareType = interfaceIndex === 0 ? 0 : bindUnheard(fd, interfaceIndex, named);
    const { isCooked, protocol, fanout } = copy;
    const linkType = linkTypeOf(hardwareType, isCooked);
    const filter = toProgram(copy.filter, isCooked ? "cooked" : linkType);
    setOptions(fd, interfaceIndex, copy);
    if (filter) attachFilter(fd, filter);
    const made = { ...parts, interfaceIndex, linkType, fanoutGroup: undefined };
    prepare?.(fd, made, copy.socket.configure);
    requireStill(descriptor, fd, "bind");
    // A socket that is to join a group would get everything until it has.
    const last = fanout && attachedFilter(fd);
    if (fanout) attachFilter(fd, FilterProgram.dropAll);
    if (protocol !== 0) bindTo(fd, interfaceIndex, protocol, named);
    if (!fanout) return made;
    const fanoutGroup = joinFanout(fd, fanout);
    if (last) attachFilter(fd, last);
    else detachFilter(fd);
    return { ...made, fanoutGroup };
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

/** The options of a packet socket, read once and checked. */
interface CopiedOptions {
  readonly socket: SocketOptions;
  readonly isCooked: boolean;
  readonly protocol: number;
  readonly promiscuous: boolean;
  readonly allMulticast: boolean;
  readonly filter: FilterProgram | string | undefined;
  readonly fanout: CopiedFanout | undefined;
  readonly ignoreOutgoing: boolean;
  readonly auxiliaryData: boolean;
  readonly bypassQdisc: boolean;
  readonly timestampNs: boolean;
}

function copyPacketOptions(options: PacketSocketOptions): CopiedOptions {
  const socket = copyOptions(options, AF_PACKET);
  const { mode = "raw", protocol = ETH_P_ALL, filter, fanout } = options;
  const {
    promiscuous = false,
    allMulticast = false,
    ignoreOutgoing = false,
    auxiliaryData = false,
    bypassQdisc = false,
    timestampNs = false,
  } = options;
  if (mode !== "raw" && mode !== "cooked")
    throw new TypeError(`Cannot use ${textOf(mode)} as a mode: expected "raw" or "cooked"`);
  requireInteger(protocol, 0, PROTOCOL_MAX, "a protocol");
  const flags = {
    promiscuous,
    allMulticast,
    ignoreOutgoing,
    auxiliaryData,
    bypassQdisc,
    timestampNs,
  };
  for (const [name, flag] of Object.entries(flags)) requireBoolean(flag, name);
  if (filter !== undefined && typeof filter !== "string" && !(filter instanceof FilterProgram)) {
    throw new TypeError(
      `Cannot use ${describe(filter)} as a filter: expected a FilterProgram, or its text`,
    );
  }
  const copied = fanout === undefined ? undefined : copyFanout(fanout);
  if (copied && protocol === 0)
    throw new TypeError("Cannot join a fanout group with protocol 0, which receives nothing");
  return { socket, isCooked: mode === "cooked", protocol, filter, fanout: copied, ...flags };
}

function textOf(given: unknown): string {
  return typeof given === "string" ? JSON.stringify(given) : describe(given);
}

/** An interface as a caller gives it: its name, or its index. */
export function copyInterface(where: PacketInterface | undefined): string | number | undefined {
  if (where === undefined || typeof where === "string") return where;
  if (typeof where === "number") {
    requireInteger(where, 1, INDEX_MAX, "the index of an interface");
    return where;
  }
  const given = requireInterface(where);
  const { index } = given;
  requireInteger(index, 1, INDEX_MAX, "the index of an interface");
  return index;
}

function requireInterface(where: unknown): { readonly index: number } {
  if (typeof where === "object" && where !== null && "index" in where)
    return where as { readonly index: number };
  throw new TypeError(
    `Cannot use ${describe(where)} as an interface: expected its name, its index, or a NetworkInterface`,
  );
}

/** The index of an interface in the network namespace of a socket. */
export function toIndex(fd: number, named: string | number): number {
  return typeof named === "number" ? named : interfaceIndexOf(fd, named);
}

// Without a protocol no packet comes, and the socket tells what kind of hardware it is bound to.
function bindUnheard(fd: number, index: number, named: string | number | undefined): number {
  bindTo(fd, index, 0, named);
  check(getsockname(fd, address, addressLength), "getsockname");
  return sockaddr_ll.sll_hatype.get(address, 0);
}

function bindTo(
  fd: number,
  index: number,
  protocol: number,
  named: string | number | undefined,
): void {
  new Uint8Array(address.buffer).fill(0);
  sockaddr_ll.sll_family.set(address, 0, AF_PACKET);
  sockaddr_ll.sll_protocol.set(address, 0, protocol);
  sockaddr_ll.sll_ifindex.set(address, 0, index);
  const result = bind(fd, address);
  if (result >= 0) return;
  const hint =
    result === -ENODEV
      ? 'There is no such interface: "interfaces()" lists those that there are, and a socket sees those of its network namespace'
      : undefined;
  throw systemError(result, "bind", { address: { toString: () => `link:${named ?? ""}` }, hint });
}

/** What packets begin with, a number of `LinkType`, by the kind of hardware; 0 is every interface. */
export function linkTypeOf(hardwareType: number, isCooked: boolean): number | undefined {
  if (isCooked) return LinkType.raw;
  return hardwareType === 0 ? LinkType.ethernet : linkTypeOfHardware(hardwareType);
}

function toProgram(
  filter: FilterProgram | string | undefined,
  linkType: number | "cooked" | undefined,
): FilterProgram | undefined {
  if (typeof filter !== "string") return filter;
  if (linkType === undefined) {
    throw new TypeError(
      "Cannot compile a filter for this interface: its headers are not known, expected a FilterProgram",
    );
  }
  const { liveFilter }: typeof import("../filter.ts") = loadModule(() => require("../filter.ts"));
  return liveFilter(filter, linkType);
}

function setOptions(fd: number, interfaceIndex: number, copy: CopiedOptions): void {
  if (copy.promiscuous) changeMembership(fd, true, interfaceIndex, PACKET_MR_PROMISC);
  if (copy.allMulticast) changeMembership(fd, true, interfaceIndex, PACKET_MR_ALLMULTI);
  if (copy.ignoreOutgoing) switchOn(fd, PACKET_IGNORE_OUTGOING, "PACKET_IGNORE_OUTGOING");
  if (copy.auxiliaryData) switchOn(fd, PACKET_AUXDATA, "PACKET_AUXDATA");
  if (copy.bypassQdisc) switchOn(fd, PACKET_QDISC_BYPASS, "PACKET_QDISC_BYPASS");
  if (copy.timestampNs) {
    value[0] = 1;
    check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, value), "setsockopt", {
      option: "SO_TIMESTAMPNS",
    });
  }
}

function switchOn(fd: number, number: number, option: string): void {
  value[0] = 1;
  check(setsockopt(fd, SOL_PACKET, number, value), "setsockopt", { option });
}
