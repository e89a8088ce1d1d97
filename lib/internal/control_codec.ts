/**
 * What control messages are, and what is in them: loaded when the first reader or writer is made.
 *
 * @module
 */
import { ETH_P_8021Q } from "../../structs/constants/linux_if_ether.ts";
import {
  PACKET_AUXDATA,
  TP_STATUS_VLAN_TPID_VALID,
  TP_STATUS_VLAN_VALID,
} from "../../structs/constants/linux_if_packet.ts";
import {
  IP_ORIGDSTADDR,
  IP_PKTINFO,
  IP_RECVERR,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_HOPLIMIT,
  IPV6_ORIGDSTADDR,
  IPV6_PKTINFO,
  IPV6_RECVERR,
  IPV6_TCLASS,
} from "../../structs/constants/netinet_in.ts";
import { IPTOS_ECN_MASK } from "../../structs/constants/netinet_ip.ts";
import { TCP_CM_INQ } from "../../structs/constants/netinet_tcp.ts";
import { SOL_UDP, UDP_GRO, UDP_SEGMENT } from "../../structs/constants/netinet_udp.ts";
import {
  AF_INET,
  AF_INET6,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SCM_TIMESTAMP,
  SCM_TIMESTAMPING,
  SCM_TIMESTAMPNS,
  SO_MARK,
  SO_PRIORITY,
  SO_RXQ_OVFL,
  SOL_PACKET,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { in_pktinfo } from "../../structs/in_pktinfo.ts";
import { in6_pktinfo } from "../../structs/in6_pktinfo.ts";
import { sock_extended_err } from "../../structs/sock_extended_err.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { timespec } from "../../structs/timespec.ts";
import { timeval } from "../../structs/timeval.ts";
import { tpacket_auxdata } from "../../structs/tpacket_auxdata.ts";
import { ucred } from "../../structs/ucred.ts";
import { addressBytes, Inet4Address, Inet6Address, type InetAddress } from "../address.ts";
import type { ControlKind, ControlMessage, ControlTime, PacketFamily } from "../control.ts";
import type { ExtendedError } from "../error_queue.ts";
import { loadModule } from "./descriptor.ts";
import { SCM_PIDFD, SCM_TS_OPT_ID, SO_INQ } from "./option_constants.ts";
import { checksumOf } from "./packet_status.ts";
import { viewOf } from "./sockaddr.ts";

const INT = 4;
const NS_PER_SECOND = 1_000_000_000n;
const NS_PER_US = 1000;
/** Of SCM_TIMESTAMPING: by the kernel's clock, that of the hardware converted, and by itself. */
const CONVERTED = timespec.size;
const HARDWARE = 2 * timespec.size;
const TIMES_BYTES = 3 * timespec.size;
/** How the addresses of groups begin: ff00::/8. */
const GROUP = 0xff;

/** The level and the type of a control message. */
export interface ControlType {
  readonly level: number;
  readonly type: number;
}

/** How `UDP_SEGMENT` is sent. */
export const SEGMENT: ControlType = { level: SOL_UDP, type: UDP_SEGMENT };
/** How the number of a timestamp is sent. */
export const TIMESTAMP_ID: ControlType = { level: SOL_SOCKET, type: SCM_TS_OPT_ID };

/** What a control message is. One that is shorter than its kind is "unknown". */
export function kindOf(level: number, type: number, dataBytes: number): ControlKind {
  switch (level) {
    case SOL_SOCKET:
      return ofSocket(type, dataBytes);
    case IPPROTO_IP:
      return ofIp(type, dataBytes);
    case IPPROTO_IPV6:
      return ofIpv6(type, dataBytes);
    case SOL_UDP:
      return ofUdp(type, dataBytes);
    case IPPROTO_TCP:
      return type === TCP_CM_INQ && dataBytes >= INT ? "inQueue" : "unknown";
    case SOL_PACKET: {
      const isAuxiliary = type === PACKET_AUXDATA && dataBytes >= tpacket_auxdata.size;
      return isAuxiliary ? "auxiliaryData" : "unknown";
    }
    default:
      return "unknown";
  }
}

function ofSocket(type: number, dataBytes: number): ControlKind {
  switch (type) {
    case SCM_RIGHTS:
      return "descriptors";
    case SCM_CREDENTIALS:
      return dataBytes < ucred.size ? "unknown" : "credentials";
    case SCM_TIMESTAMP:
    case SCM_TIMESTAMPNS:
      return dataBytes < timespec.size ? "unknown" : "timestamp";
    case SCM_TIMESTAMPING:
      return dataBytes < TIMES_BYTES ? "unknown" : "timestamping";
    case SCM_PIDFD:
      return dataBytes < INT ? "unknown" : "processDescriptor";
    case SO_RXQ_OVFL:
      return dataBytes < INT ? "unknown" : "dropped";
    case SO_MARK:
      return dataBytes < INT ? "unknown" : "mark";
    case SO_PRIORITY:
      return dataBytes < INT ? "unknown" : "priority";
    case SO_INQ:
      return dataBytes < INT ? "unknown" : "inQueue";
    default:
      return "unknown";
  }
}

function ofIp(type: number, dataBytes: number): ControlKind {
  switch (type) {
    case IP_PKTINFO:
      return dataBytes < in_pktinfo.size ? "unknown" : "packetInfo";
    case IP_TTL:
      return dataBytes < INT ? "unknown" : "ttl";
    case IP_TOS:
      // It comes as one byte, and goes as one or as an int.
      return dataBytes < 1 ? "unknown" : "trafficClass";
    case IP_ORIGDSTADDR:
      return dataBytes < sockaddr_in.size ? "unknown" : "originalDestination";
    case IP_RECVERR:
      return dataBytes < sock_extended_err.size ? "unknown" : "extendedError";
    default:
      return "unknown";
  }
}

function ofIpv6(type: number, dataBytes: number): ControlKind {
  switch (type) {
    case IPV6_PKTINFO:
      return dataBytes < in6_pktinfo.size ? "unknown" : "packetInfo";
    case IPV6_HOPLIMIT:
      return dataBytes < INT ? "unknown" : "ttl";
    case IPV6_TCLASS:
      return dataBytes < INT ? "unknown" : "trafficClass";
    case IPV6_ORIGDSTADDR:
      return dataBytes < sockaddr_in6.size ? "unknown" : "originalDestination";
    case IPV6_RECVERR:
      return dataBytes < sock_extended_err.size ? "unknown" : "extendedError";
    default:
      return "unknown";
  }
}

function ofUdp(type: number, dataBytes: number): ControlKind {
  switch (type) {
    case UDP_GRO:
      return dataBytes < INT ? "unknown" : "segmentBytes";
    case UDP_SEGMENT:
      // What is sent is a u16.
      return dataBytes < 2 ? "unknown" : "segmentBytes";
    default:
      return "unknown";
  }
}

// What follows reads the control message whose data is at `at`, and is of the right kind and length.

/** An int, or the one byte that `IP_TOS` comes as. */
export function trafficClassOf(view: DataView, at: number, length: number): number {
  return length < INT ? view.getUint8(at) : view.getInt32(at, true);
}

/** An int, or the u16 that is sent. */
export function segmentBytesOf(view: DataView, at: number, length: number): number {
  return length < INT ? view.getUint16(at, true) : view.getInt32(at, true);
}

/** The interface of a packet info. */
export function interfaceIndexOf(level: number, view: DataView, at: number): number {
  return level === IPPROTO_IP
    ? in_pktinfo.ipi_ifindex.get(view, at)
    : in6_pktinfo.ipi6_ifindex.get(view, at);
}

/** The whole seconds of a timestamp, or of the kernel's clock in a timestamping. */
export function secondsOf(view: DataView, at: number): number {
  return timespec.tv_sec.get(view, at);
}

/** What belongs to `secondsOf`. */
export function nanosecondsOf(view: DataView, at: number, type: number): number {
  return type === SCM_TIMESTAMP
    ? timeval.tv_usec.get(view, at) * NS_PER_US
    : timespec.tv_nsec.get(view, at);
}

/** The whole seconds of the hardware's clock in a timestamping. */
export function hardwareSecondsOf(view: DataView, at: number): number {
  return timespec.tv_sec.get(view, at + HARDWARE);
}

/** What belongs to `hardwareSecondsOf`. */
export function hardwareNanosecondsOf(view: DataView, at: number): number {
  return timespec.tv_nsec.get(view, at + HARDWARE);
}

/** Both as one number. */
export function nsOf(seconds: number, nanoseconds: number): bigint {
  return BigInt(seconds) * NS_PER_SECOND + BigInt(nanoseconds);
}

/** The process of credentials. */
export function processIdOf(view: DataView, at: number): number {
  return ucred.pid.get(view, at);
}

/** The user of credentials. */
export function userIdOf(view: DataView, at: number): number {
  return ucred.uid.get(view, at);
}

/** The group of credentials. */
export function groupIdOf(view: DataView, at: number): number {
  return ucred.gid.get(view, at);
}

/** The VLAN tag of auxiliary data, or -1. */
export function vlanOf(view: DataView, at: number): number {
  const status = tpacket_auxdata.tp_status.get(view, at);
  return status & TP_STATUS_VLAN_VALID ? tpacket_auxdata.tp_vlan_tci.get(view, at) : -1;
}

/** The protocol of that tag, or -1. */
export function vlanProtocolOf(view: DataView, at: number): number {
  const status = tpacket_auxdata.tp_status.get(view, at);
  if ((status & TP_STATUS_VLAN_VALID) === 0) return -1;
  // Before Linux 3.14 it is not told.
  if ((status & TP_STATUS_VLAN_TPID_VALID) === 0) return ETH_P_8021Q;
  return tpacket_auxdata.tp_vlan_tpid.get(view, at);
}

function auxiliaryDataOf(view: DataView, at: number) {
  const status = tpacket_auxdata.tp_status.get(view, at);
  const isTagged = (status & TP_STATUS_VLAN_VALID) !== 0;
  return {
    status,
    originalLength: tpacket_auxdata.tp_len.get(view, at),
    capturedLength: tpacket_auxdata.tp_snaplen.get(view, at),
    networkOffset: tpacket_auxdata.tp_net.get(view, at),
    vlan: isTagged ? vlanOf(view, at) : undefined,
    vlanProtocol: isTagged ? vlanProtocolOf(view, at) : undefined,
    checksum: checksumOf(status),
  };
}

export { checksumOf } from "./packet_status.ts";

/** Makes the object of a control message. */
export function messageOf(
  kind: ControlKind,
  level: number,
  type: number,
  view: DataView,
  at: number,
  length: number,
): ControlMessage {
  switch (kind) {
    case "descriptors":
      return { kind, descriptors: intsOf(view, at, length) };
    case "credentials":
      return {
        kind,
        processId: processIdOf(view, at),
        userId: userIdOf(view, at),
        groupId: groupIdOf(view, at),
      };
    case "processDescriptor":
      return { kind, descriptor: view.getInt32(at, true) };
    case "packetInfo":
      return {
        kind,
        address: addressOf(kind, level, view, at),
        localAddress: localAddressOf(level, view, at),
        interfaceIndex: interfaceIndexOf(level, view, at),
      };
    case "ttl":
      return { kind, ttl: view.getInt32(at, true) };
    case "trafficClass": {
      const trafficClass = trafficClassOf(view, at, length);
      return { kind, trafficClass, ecn: trafficClass & IPTOS_ECN_MASK };
    }
    case "timestamp":
      return { kind, ...timeOf(view, at, type) };
    case "timestamping":
      return {
        kind,
        software: takenAt(view, at),
        hardware: takenAt(view, at + HARDWARE),
        hardwareConverted: takenAt(view, at + CONVERTED),
      };
    case "segmentBytes":
      return { kind, segmentBytes: segmentBytesOf(view, at, length) };
    case "dropped":
      return { kind, dropped: view.getUint32(at, true) };
    case "mark":
      return { kind, mark: view.getUint32(at, true) };
    case "priority":
      return { kind, priority: view.getUint32(at, true) };
    case "inQueue":
      return { kind, bytes: view.getInt32(at, true) };
    case "originalDestination":
      return { kind, address: addressOf(kind, level, view, at) };
    case "auxiliaryData":
      return { kind, ...auxiliaryDataOf(view, at) };
    case "extendedError":
      return { kind, ...extendedErrorOf(view, at, length) };
    default: {
      const data = new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + at, length);
      return { kind, level, type, data };
    }
  }
}

// Loaded with the first: most sockets have no error queue.
function extendedErrorOf(view: DataView, at: number, length: number): ExtendedError {
  const { decodeExtendedError }: typeof import("./extended_error.ts") = loadModule(() =>
    require("./extended_error.ts"),
  );
  return decodeExtendedError(view, at, length) as ExtendedError;
}

function intsOf(view: DataView, at: number, length: number): number[] {
  const count = Math.floor(length / INT);
  return Array.from({ length: count }, (_, i) => view.getInt32(at + i * INT, true));
}

function timeOf(view: DataView, at: number, type: number): ControlTime {
  const seconds = secondsOf(view, at);
  const nanoseconds = nanosecondsOf(view, at, type);
  return { seconds, nanoseconds, ns: nsOf(seconds, nanoseconds) };
}

// The kernel leaves 0 where nobody took the time.
function takenAt(view: DataView, at: number): ControlTime | undefined {
  const time = timeOf(view, at, SCM_TIMESTAMPING);
  return time.seconds === 0 && time.nanoseconds === 0 ? undefined : time;
}

/** Makes the address that a packet info, or an original destination, tells of. */
export function addressOf(
  kind: ControlKind,
  level: number,
  view: DataView,
  at: number,
): InetAddress {
  if (kind === "originalDestination")
    return level === IPPROTO_IP ? original4(view, at) : original6(view, at);
  return level === IPPROTO_IP
    ? inet4(in_pktinfo.ipi_addr.get(view, at), 0)
    : inet6(in6_pktinfo.ipi6_addr.get(view, at), in6_pktinfo.ipi6_ifindex.get(view, at));
}

/** Makes the address that answers a packet. Undefined where it came to a group of IPv6. */
export function localAddressOf(level: number, view: DataView, at: number): InetAddress | undefined {
  if (level === IPPROTO_IP) return inet4(in_pktinfo.ipi_spec_dst.get(view, at), 0);
  const group = in6_pktinfo.ipi6_addr.get(view, at);
  if (group[0] === GROUP) return undefined;
  return inet6(group, in6_pktinfo.ipi6_ifindex.get(view, at));
}

function inet4(quad: number, port: number): Inet4Address {
  const bytes = new Uint8Array(sockaddr_in.size);
  const name = viewOf(bytes);
  sockaddr_in.sin_family.set(name, 0, AF_INET);
  sockaddr_in.sin_port.set(name, 0, port);
  sockaddr_in.sin_addr.set(name, 0, quad);
  return new Inet4Address(bytes);
}

function inet6(groups: Uint8Array, interfaceIndex: number): Inet6Address {
  const bytes = new Uint8Array(sockaddr_in6.size);
  const name = viewOf(bytes);
  sockaddr_in6.sin6_family.set(name, 0, AF_INET6);
  sockaddr_in6.sin6_addr.set(name, 0, groups);
  // As the kernel does in names: an address of one link means nothing without it.
  if (isOfLink(groups)) sockaddr_in6.sin6_scope_id.set(name, 0, interfaceIndex);
  return new Inet6Address(bytes);
}

// fe80::/10, and the groups of one interface and of one link.
function isOfLink(bytes: Uint8Array): boolean {
  const [first = 0, second = 0] = bytes;
  if (first === GROUP) return (second & 0x0f) === 1 || (second & 0x0f) === 2;
  return first === 0xfe && (second & 0xc0) === 0x80;
}

// The family is what the level says: what was made up may say another.

function original4(view: DataView, at: number): Inet4Address {
  return inet4(sockaddr_in.sin_addr.get(view, at), sockaddr_in.sin_port.get(view, at));
}

function original6(view: DataView, at: number): Inet6Address {
  const start = view.byteOffset + at;
  const bytes = new Uint8Array(view.buffer, start, sockaddr_in6.size).slice();
  sockaddr_in6.sin6_family.set(viewOf(bytes), 0, AF_INET6);
  return new Inet6Address(bytes);
}

/** The data of credentials. */
export function encodeCredentials(pid: number, uid: number, gid: number): Uint8Array {
  const data = new Uint8Array(ucred.size);
  const view = viewOf(data);
  ucred.pid.set(view, 0, pid);
  ucred.uid.set(view, 0, uid);
  ucred.gid.set(view, 0, gid);
  return data;
}

/** A packet info as it is sent. */
export interface EncodedPacketInfo extends ControlType {
  readonly data: Uint8Array;
}

/**
 * Makes the packet info of a source and an interface.
 *
 * @throws {TypeError} the source is of the other family
 */
export function encodePacketInfo(
  source: InetAddress | undefined,
  interfaceIndex: number | undefined,
  family: PacketFamily | undefined,
): EncodedPacketInfo {
  // Of the bytes: what a subclass says of itself may be something else.
  const name = source && viewOf(addressBytes(source));
  const quad = name && quadOf(name);
  const own = name && (quad === undefined ? "ipv6" : "ipv4");
  if (own && family !== undefined && own !== family)
    throw new TypeError(`Cannot use an ${NAMES[own]} source for an ${NAMES[family]} packet`);
  const level = (family ?? own) === "ipv4" ? IPPROTO_IP : IPPROTO_IPV6;
  if (level === IPPROTO_IP) {
    const data = new Uint8Array(in_pktinfo.size);
    in_pktinfo.ipi_ifindex.set(viewOf(data), 0, interfaceIndex ?? 0);
    if (quad !== undefined) in_pktinfo.ipi_spec_dst.set(viewOf(data), 0, quad);
    return { level, type: IP_PKTINFO, data };
  }
  const data = new Uint8Array(in6_pktinfo.size);
  const zone = name ? sockaddr_in6.sin6_scope_id.get(name, 0) : 0;
  if (name) in6_pktinfo.ipi6_addr.set(viewOf(data), 0, sockaddr_in6.sin6_addr.get(name, 0));
  in6_pktinfo.ipi6_ifindex.set(viewOf(data), 0, interfaceIndex ?? zone);
  return { level, type: IPV6_PKTINFO, data };
}

const NAMES = { ipv4: "IPv4", ipv6: "IPv6" } as const;

/** The IPv4 address of a sockaddr, also of an IPv4-mapped one. */
function quadOf(name: DataView): number | undefined {
  if (sockaddr_in.sin_family.get(name, 0) === AF_INET) return sockaddr_in.sin_addr.get(name, 0);
  const group = viewOf(sockaddr_in6.sin6_addr.get(name, 0));
  const isMapped =
    group.getUint32(0) === 0 && group.getUint32(4) === 0 && group.getUint32(8) === 0xffff;
  return isMapped ? group.getUint32(12) : undefined;
}
