/**
 * Multicast groups of a socket: joining, leaving, and the sources that are heard. Loaded when a socket
 * first joins one.
 *
 * The kernel keeps the truth, with the open socket: what is remembered here is only where to ask it.
 *
 * @module
 */
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EINVAL,
  ENOBUFS,
  ENODEV,
  ENOMEM,
} from "../../structs/constants/errno.ts";
import {
  IP_MULTICAST_ALL,
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MULTICAST_ALL,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_V6ONLY,
  MCAST_BLOCK_SOURCE,
  MCAST_EXCLUDE,
  MCAST_INCLUDE,
  MCAST_JOIN_GROUP,
  MCAST_JOIN_SOURCE_GROUP,
  MCAST_LEAVE_GROUP,
  MCAST_LEAVE_SOURCE_GROUP,
  MCAST_MSFILTER,
  MCAST_UNBLOCK_SOURCE,
} from "../../structs/constants/netinet_in.ts";
import {
  AF_INET,
  SO_DOMAIN,
  SO_TYPE,
  SOCK_RAW,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { group_filter } from "../../structs/group_filter.ts";
import { group_req } from "../../structs/group_req.ts";
import { group_source_req } from "../../structs/group_source_req.ts";
import { ip_mreqn } from "../../structs/ip_mreqn.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import {
  type Address,
  addressBytes,
  addressFromBytes,
  Inet4Address,
  Inet6Address,
  type InetAddress,
} from "../address.ts";
import { check, systemError } from "../error.ts";
import type {
  GroupMembership,
  GroupOptions,
  InterfaceLike,
  JoinOptions,
  LeaveOptions,
  SourceFilter,
} from "../multicast.ts";
import { getsockopt, setsockopt } from "../sys/socket.ts";
import {
  describe,
  requireBoolean,
  requireInteger,
  requireObject,
  requireOptions,
} from "./arguments.ts";
import { type Descriptor, requireStill } from "./descriptor.ts";
import { interfaceNames } from "./interface_kernel.ts";
import {
  addressOfInterface,
  indexOfAddress,
  toInterfaceIndex,
  toUnmappedAddress,
} from "./interface_like.ts";

/** What is known of the groups of an open socket, by all of ours that share it. */
interface Groups {
  /** Whether it was decided what others' groups are to it: see `hearOnlyOwn`. */
  isDecided: boolean;
  /** What was joined. Others may have left it since. */
  joined: Joined[];
  /** The interface of outgoing IPv4 multicast, as it was set: the kernel does not tell its index. */
  outgoing: number | undefined;
}

/** A group, found and checked. */
interface Group {
  readonly address: InetAddress;
  readonly level: typeof IPPROTO_IP | typeof IPPROTO_IPV6;
  /** The interface, or 0 where the kernel is to choose it. */
  readonly index: number;
}

/** A group that was joined. */
interface Joined {
  readonly group: Group;
  /** Whether the kernel has chosen the interface. */
  readonly isChosen: boolean;
}

const STORAGE = sockaddr_storage.size;
const SOURCES = group_filter.gf_slist.offset;
// struct group_filter must not be longer than sysctl net.core.optmem_max, which was 20 KiB for long.
const SOURCES_MAX = 1024;
const HOPS_MAX = 255;
/** Interfaces that are asked one by one, before a list of them is made. */
const USUAL_INDEX_MAX = 256;

const groupsOf = new WeakMap<object, Groups>();
const word = new Int32Array(new ArrayBuffer(4));
const length = new Uint32Array(new ArrayBuffer(4));

function remembered(descriptor: Descriptor): Groups {
  const key = descriptor.shared ?? descriptor;
  const known = groupsOf.get(key);
  if (known) return known;
  const groups: Groups = { isDecided: false, joined: [], outgoing: undefined };
  groupsOf.set(key, groups);
  return groups;
}

/** MCAST_JOIN_GROUP, or MCAST_JOIN_SOURCE_GROUP. */
export function join(
  descriptor: Descriptor,
  address: Address | string,
  options: JoinOptions = {},
): void {
  const { source, interface: where, hearsAll } = requireOptions(options);
  if (hearsAll !== undefined) requireBoolean(hearsAll, "hearsAll");
  const { fd } = descriptor;
  const asked = toGroup(fd, address, where);
  const from = source === undefined ? undefined : toSource(asked, source);
  requireStill(descriptor, fd, "setsockopt");
  requireCarrier(fd, asked);
  const groups = remembered(descriptor);
  const group = placed(fd, groups, asked, true);
  if (from) requireJoinable(fd, group, from);
  // First: between the two calls nothing that others have joined may come.
  const undo = hearsAll === undefined && groups.isDecided ? undefined : hearOthers(fd, hearsAll);
  try {
    ask(fd, from ? MCAST_JOIN_SOURCE_GROUP : MCAST_JOIN_GROUP, group, from);
  } catch (error) {
    undo?.();
    throw error;
  }
  groups.isDecided = true;
  remember(fd, groups, group);
}

/** MCAST_LEAVE_GROUP, or MCAST_LEAVE_SOURCE_GROUP. */
export function leave(
  descriptor: Descriptor,
  address: Address | string,
  options: LeaveOptions = {},
): void {
  const { source, interface: where } = requireOptions(options);
  const { fd } = descriptor;
  const asked = toGroup(fd, address, where);
  const from = source === undefined ? undefined : toSource(asked, source);
  requireStill(descriptor, fd, "setsockopt");
  requireCarrier(fd, asked);
  const group = placed(fd, remembered(descriptor), asked);
  // The kernel would take it for the first of the sources that are heard, and find none.
  if (from && filterOf(fd, group)?.mode === "exclude")
    throw groupError(-EINVAL, "setsockopt", group, OF_ALL);
  ask(fd, from ? MCAST_LEAVE_SOURCE_GROUP : MCAST_LEAVE_GROUP, group, from);
}

/** MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE. */
export function setBlocked(
  descriptor: Descriptor,
  address: Address | string,
  source: Address | string,
  options: GroupOptions,
  isBlocked: boolean,
): void {
  const { fd } = descriptor;
  const asked = toGroup(fd, address, requireOptions(options).interface);
  const from = toSource(asked, source);
  requireStill(descriptor, fd, "setsockopt");
  requireCarrier(fd, asked);
  const group = placed(fd, remembered(descriptor), asked);
  const filter = requireFilter(fd, group, "setsockopt");
  if (filter.mode === "include") throw groupError(-EINVAL, "setsockopt", group, OF_SOME);
  if (hasSource(filter, from) === isBlocked)
    throw groupError(-EADDRNOTAVAIL, "setsockopt", group, isBlocked ? IS_BLOCKED : NOT_BLOCKED);
  ask(fd, isBlocked ? MCAST_BLOCK_SOURCE : MCAST_UNBLOCK_SOURCE, group, from);
}

/** What the open socket has joined by `join`, and not left. */
export function membershipsOf(descriptor: Descriptor): GroupMembership[] {
  const groups = remembered(descriptor);
  return groups.joined.flatMap(({ group }) => {
    const filter = filterOf(descriptor.fd, group);
    if (filter === undefined) return [];
    const { address, index: interfaceIndex } = group;
    const sources = filter.mode === "include" ? filter.sources : [undefined];
    return sources.map((source) => ({ group: address, interfaceIndex, source }));
  });
}

/** MCAST_MSFILTER, read. */
export function sourceFilter(
  descriptor: Descriptor,
  address: Address | string,
  options: GroupOptions,
): SourceFilter {
  const { fd } = descriptor;
  const asked = toGroup(fd, address, requireOptions(options).interface);
  requireStill(descriptor, fd, "setsockopt");
  requireCarrier(fd, asked);
  return requireFilter(fd, placed(fd, remembered(descriptor), asked), "getsockopt");
}

/** MCAST_MSFILTER, set. */
export function setSourceFilter(
  descriptor: Descriptor,
  address: Address | string,
  filter: SourceFilter,
  options: GroupOptions,
): void {
  const { mode, sources } = requireObject(filter);
  if (mode !== "include" && mode !== "exclude")
    throw new TypeError(`Cannot use ${describeMode(mode)}: expected "include" or "exclude"`);
  if (!Array.isArray(sources))
    throw new TypeError(`Cannot use ${describe(sources)} as sources: expected an array`);
  requireInteger(sources.length, 0, SOURCES_MAX, "the number of sources");
  const { fd } = descriptor;
  const asked = toGroup(fd, address, requireOptions(options).interface);
  // Each once: the kernel would count the same one twice.
  const list = new Map<string, InetAddress>();
  for (const each of Array.from(sources as readonly (InetAddress | string)[])) {
    const source = toSource(asked, each);
    list.set(source.host, source);
  }
  requireStill(descriptor, fd, "setsockopt");
  requireCarrier(fd, asked);
  const group = placed(fd, remembered(descriptor), asked);
  requireFilter(fd, group, "setsockopt");
  const view = filterView(group, list.size);
  group_filter.gf_fmode.set(view, 0, mode === "include" ? MCAST_INCLUDE : MCAST_EXCLUDE);
  let at = SOURCES;
  for (const source of list.values()) {
    bytesAt(view, at).set(addressBytes(source));
    at += STORAGE;
  }
  const result = setsockopt(fd, group.level, MCAST_MSFILTER, view);
  if (result < 0) throw groupError(result, "setsockopt", group);
}

/** IP_MULTICAST_IF, or IPV6_MULTICAST_IF. */
export function outgoingInterface(descriptor: Descriptor, isIpv6: boolean): number {
  const { fd } = descriptor;
  if (isIpv6) return readInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF);
  const bytes = new Uint8Array(new ArrayBuffer(4));
  check(getsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, bytes, length), "getsockopt");
  const address = new Inet4Address(bytes.join("."), 0);
  if (!address.isUnspecified) return indexOfAddress(address, fd);
  return remembered(descriptor).outgoing ?? 0;
}

/** Sets both, on an IPv6 socket, which sends IPv4 too. */
export function setOutgoingInterface(
  descriptor: Descriptor,
  isIpv6: boolean,
  where: InterfaceLike | undefined,
): void {
  const { fd } = descriptor;
  const index = where === undefined ? 0 : toInterfaceIndex(where, fd);
  const address = where === undefined ? undefined : addressOfInterface(where);
  requireStill(descriptor, fd, "setsockopt");
  const told = {
    hint: `There is no such interface as ${nameOf(where, index)}, or the socket is bound to another one`,
  };
  if (isIpv6) writeInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, index, told);
  const request = new DataView(new ArrayBuffer(ip_mreqn.size));
  ip_mreqn.imr_ifindex.set(request, 0, index);
  // Who says an address means it: an interface may have several.
  if (address instanceof Inet4Address) {
    const { offset, size } = sockaddr_in.sin_addr;
    const quad = addressBytes(address).subarray(offset, offset + size);
    bytesAt(request, ip_mreqn.imr_address.offset).set(quad);
  }
  const result = setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, request);
  // That of mapped addresses.
  if (!isIpv6) check(result, "setsockopt", { option: "IP_MULTICAST_IF", ...told });
  if (result >= 0) remembered(descriptor).outgoing = index;
}

function nameOf(where: InterfaceLike | undefined, index: number): string {
  return typeof where === "string" ? `${where} (${index})` : `${index}`;
}

/** IP_MULTICAST_TTL and IPV6_MULTICAST_HOPS. */
export function hopLimit(fd: number, isIpv6: boolean): number {
  return isIpv6
    ? readInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS)
    : readInt(fd, IPPROTO_IP, IP_MULTICAST_TTL);
}

/** Sets both, as `setOutgoingInterface`. */
export function setHopLimit(fd: number, isIpv6: boolean, hops: number): void {
  requireInteger(hops, 0, HOPS_MAX, "a hop limit of multicast");
  if (isIpv6) writeInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, hops);
  writeOfIpv4(fd, isIpv6, IP_MULTICAST_TTL, hops);
}

/** IP_MULTICAST_LOOP and IPV6_MULTICAST_LOOP. */
export function loops(fd: number, isIpv6: boolean): boolean {
  const value = isIpv6
    ? readInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP)
    : readInt(fd, IPPROTO_IP, IP_MULTICAST_LOOP);
  return value !== 0;
}

/** Sets both, as `setOutgoingInterface`. */
export function setLoops(fd: number, isIpv6: boolean, isOn: boolean): void {
  requireBoolean(isOn, "multicastLoop");
  if (isIpv6) writeInt(fd, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, Number(isOn));
  writeOfIpv4(fd, isIpv6, IP_MULTICAST_LOOP, Number(isOn));
}

// An IPv6 socket carries IPv4, too, for which it has options of its own.
function writeOfIpv4(fd: number, isIpv6: boolean, option: number, value: number): void {
  word[0] = value;
  const result = setsockopt(fd, IPPROTO_IP, option, word);
  if (!isIpv6) check(result, "setsockopt");
}

// Linux gives a socket what any other of the machine has joined: that is switched off, unless it is
// asked for. Returns what puts it back as it was. Older kernels do not have it for IPv6.
function hearOthers(fd: number, hearsAll = false): () => void {
  const before: (() => void)[] = [];
  for (const [level, option] of [
    [IPPROTO_IP, IP_MULTICAST_ALL],
    [IPPROTO_IPV6, IPV6_MULTICAST_ALL],
  ] as const) {
    if (getsockopt(fd, level, option, word, length) < 0) continue;
    const was = word[0] as number;
    writeInt(fd, level, option, Number(hearsAll));
    before.push(() => writeInt(fd, level, option, was));
  }
  return () => {
    for (const put of before) put();
  };
}

function ask(fd: number, option: number, group: Group, source: InetAddress | undefined): void {
  const view = new DataView(new ArrayBuffer(source ? group_source_req.size : group_req.size));
  // Both begin alike.
  group_req.gr_interface.set(view, 0, group.index);
  bytesAt(view, group_req.gr_group.offset).set(addressBytes(group.address));
  if (source) bytesAt(view, group_source_req.gsr_source.offset).set(addressBytes(source));
  const result = setsockopt(fd, group.level, option, view);
  if (result < 0) throw groupError(result, "setsockopt", group);
}

/** A filter as the kernel tells it. */
interface KernelFilter {
  readonly mode: "include" | "exclude";
  readonly sources: InetAddress[];
}

// Undefined where the socket has not joined the group on that very interface.
function filterOf(fd: number, group: Group): KernelFilter | undefined {
  for (let room = 0; ; ) {
    const view = filterView(group, room);
    const result = getsockopt(fd, group.level, MCAST_MSFILTER, view, length);
    if (result === -EADDRNOTAVAIL || result === -EINVAL || result === -ENODEV) return undefined;
    if (result < 0) throw groupError(result, "getsockopt", group);
    const count = group_filter.gf_numsrc.get(view, 0);
    if (count > room) {
      // Others may add some meanwhile.
      room = count;
      continue;
    }
    const size = addressBytes(group.address).length;
    return {
      mode: group_filter.gf_fmode.get(view, 0) === MCAST_INCLUDE ? "include" : "exclude",
      sources: Array.from({ length: count }, (_, i) => {
        const bytes = new Uint8Array(view.buffer, SOURCES + i * STORAGE, size);
        return addressFromBytes(bytes) as InetAddress;
      }),
    };
  }
}

function requireFilter(fd: number, group: Group, syscall: string): KernelFilter {
  const filter = filterOf(fd, group);
  if (filter === undefined) throw groupError(-EADDRNOTAVAIL, syscall, group, NOT_JOINED);
  return filter;
}

function hasSource({ sources }: KernelFilter, source: InetAddress): boolean {
  return sources.some(({ host }) => host === source.host);
}

// A group that is heard from all the kernel would turn into one that is heard from this source only,
// and of one that is heard already it says that it is not there.
function requireJoinable(fd: number, group: Group, source: InetAddress): void {
  const filter = filterOf(fd, group);
  if (filter?.mode === "exclude") throw groupError(-EINVAL, "setsockopt", group, OF_ALL);
  if (filter && hasSource(filter, source)) throw groupError(-EADDRINUSE, "setsockopt", group);
}

function filterView(group: Group, sources: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(SOURCES + sources * STORAGE));
  group_filter.gf_interface.set(view, 0, group.index);
  bytesAt(view, group_filter.gf_group.offset).set(addressBytes(group.address));
  group_filter.gf_numsrc.set(view, 0, sources);
  return view;
}

function bytesAt(view: DataView<ArrayBuffer>, offset: number): Uint8Array {
  return new Uint8Array(view.buffer, offset);
}

function toGroup(fd: number, address: Address | string, where: InterfaceLike | undefined): Group {
  const given = toUnmappedAddress(address);
  if (!given.isMulticast)
    throw new TypeError(`Cannot use ${given.host} as a group: expected a multicast address`);
  const isIpv4 = given instanceof Inet4Address;
  const zone = isIpv4 ? 0 : given.scope;
  const index = toInterfaceIndex(where === undefined ? zone : where, fd);
  const level = isIpv4 ? IPPROTO_IP : IPPROTO_IPV6;
  return { address: withoutZone(given), level, index };
}

function toSource(group: Group, source: Address | string): InetAddress {
  const address = withoutZone(toUnmappedAddress(source));
  if (address.family !== group.address.family)
    throw new TypeError(
      `Cannot use ${address.host} as a source of ${group.address.host}: expected the same family`,
    );
  if (address.isMulticast || address.isUnspecified)
    throw new TypeError(`Cannot use ${address.host} as a source: expected the address of a host`);
  return address;
}

// The kernel looks at the interface beside it, and a zone's name means nothing to it.
function withoutZone(address: InetAddress): InetAddress {
  if (address instanceof Inet4Address) return address.withPort(0);
  return new Inet6Address(address.host.replace(/%.*/, ""), 0);
}

// An IPv6 socket carries IPv4 too. One that does not would join and never hear anything.
function requireCarrier(fd: number, group: Group): void {
  const isIpv4Socket = readInt(fd, SOL_SOCKET, SO_DOMAIN) === AF_INET;
  const isIpv4Group = group.level === IPPROTO_IP;
  if (isIpv4Group === isIpv4Socket) return;
  const hint = isIpv4Group ? whyIpv6Only(fd) : "An IPv4 socket hears IPv4 groups only";
  if (hint !== undefined) throw groupError(-EAFNOSUPPORT, "setsockopt", group, hint);
}

function whyIpv6Only(fd: number): string | undefined {
  if (readInt(fd, SOL_SOCKET, SO_TYPE) === SOCK_RAW)
    return "A raw IPv6 socket carries no IPv4: IPv4 groups take an IPv4 socket";
  if (readInt(fd, IPPROTO_IPV6, IPV6_V6ONLY) !== 0)
    return "The socket was made `ipv6Only`: IPv4 groups take one without, or an IPv4 socket";
  return undefined;
}

// The group with the interface that it was joined on, where the caller left that to the kernel.
function placed(fd: number, groups: Groups, group: Group, joins = false): Group {
  if (group.index !== 0) return group;
  forgetLeft(fd, groups);
  const those = sameGroup(groups, group);
  const chosen = those.find(({ isChosen }) => isChosen)?.group;
  if (chosen || joins) return chosen ?? group;
  return those[0]?.group ?? whereJoined(fd, group, []) ?? group;
}

function sameGroup(groups: Groups, { address }: Group): Joined[] {
  return groups.joined.filter(({ group }) => group.address.host === address.host);
}

function forgetLeft(fd: number, groups: Groups): void {
  groups.joined = groups.joined.filter(({ group }) => filterOf(fd, group) !== undefined);
}

function remember(fd: number, groups: Groups, group: Group): void {
  if (group.index !== 0) forgetLeft(fd, groups);
  const others = sameGroup(groups, group).map((each) => each.group.index);
  const isChosen = group.index === 0;
  const found = isChosen ? (whereJoined(fd, group, others) ?? group) : group;
  if (!others.includes(found.index)) groups.joined.push({ group: found, isChosen });
}

// Where the kernel has chosen the interface it tells of the group only when asked about that one.
function whereJoined(fd: number, group: Group, others: readonly number[]): Group | undefined {
  for (const index of candidates()) {
    const there = { ...group, index };
    if (!others.includes(index) && filterOf(fd, there)) return there;
  }
  return undefined;
}

function* candidates(): Generator<number> {
  for (let index = 1; index <= USUAL_INDEX_MAX; index++) yield index;
  for (const { index } of interfaceNames()) if (index > USUAL_INDEX_MAX) yield index;
}

function describeMode(mode: unknown): string {
  return `${typeof mode === "string" ? JSON.stringify(mode) : describe(mode)} as a mode`;
}

const OF_ALL =
  "The socket hears that group from all sources on this interface: block some, or leave it first";
const OF_SOME =
  "The socket hears some sources of that group only: leave those that it is not to hear";
const NOT_JOINED = "The socket has not joined that group on this interface";
const IS_BLOCKED = "That source is blocked already";
const NOT_BLOCKED = "That source is not blocked";
const NO_ROUTE =
  "No interface carries it: there is no route for multicast and no interface was named. Name one: " +
  '{ interface: "eth0" }';

const HINTS: Readonly<Record<number, string>> = {
  [EADDRINUSE]: "The socket has joined it already, on this interface",
  [EADDRNOTAVAIL]: "The socket has not joined it on this interface, or does not hear that source",
  [ENOBUFS]:
    "A socket may join so many IPv4 groups as the sysctl net.ipv4.igmp_max_memberships says, and hear " +
    "so many sources as net.ipv4.igmp_max_msf or net.ipv6.mld_max_msf does",
  [ENOMEM]:
    "All groups and options of the socket together take more than the sysctl net.core.optmem_max",
};

function groupError(result: number, syscall: string, group: Group, hint = hintOf(result, group)) {
  const { address } = group;
  return systemError(result, syscall, { address, ...(hint === undefined ? {} : { hint }) });
}

function hintOf(result: number, { index }: Group): string | undefined {
  if (result === -ENODEV && index === 0) return NO_ROUTE;
  if (result === -ENODEV || result === -EINVAL)
    return `There is no such interface as ${index}, or it does not carry that family`;
  return HINTS[-result];
}

function readInt(fd: number, level: number, option: number): number {
  check(getsockopt(fd, level, option, word, length), "getsockopt");
  return word[0] as number;
}

function writeInt(
  fd: number,
  level: number,
  option: number,
  value: number,
  details: { readonly hint?: string } = {},
): void {
  word[0] = value;
  check(setsockopt(fd, level, option, word), "setsockopt", details);
}
