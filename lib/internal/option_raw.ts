/**
 * Options by their numbers, for those that have no name here, and the fence around them.
 *
 * getsockopt(2) and setsockopt(2) mostly touch the bytes that they are given. Some names do not
 * keep to them: the value holds addresses that the kernel follows, or says how much the kernel
 * writes whatever the room. Those are refused, and so is every level whose names were not looked
 * through. All others are read into fresh zeroed memory, so that no stale byte is ever taken for an
 * address.
 *
 * @module
 */
import { PACKET_FANOUT_DATA } from "../../structs/constants/linux_if_packet.ts";
import {
  IP_MSFILTER,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  MCAST_MSFILTER,
} from "../../structs/constants/netinet_in.ts";
import { TCP_ZEROCOPY_RECEIVE } from "../../structs/constants/netinet_tcp.ts";
import {
  AF_VSOCK,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_GET_FILTER,
  SOL_ALG,
  SOL_MPTCP,
  SOL_NETLINK,
  SOL_PACKET,
  SOL_SOCKET,
  SOL_TLS,
  SOL_XDP,
} from "../../structs/constants/sys_socket.ts";
import { getsockopt, setsockopt } from "../sys/socket.ts";
import { describe, requireInteger, requireView } from "./arguments.ts";
import { INT_MAX } from "./option_codec.ts";
import { SO_PEERPIDFD, TCP_AO_GET_KEYS } from "./option_constants.ts";
import { optionError } from "./option_kinds.ts";

const BYTES_MAX = 2 ** 20;

// The levels whose options were looked through in the kernel's sources. AF_VSOCK is its own level;
// the ones of CAN are 100 (CAN_RAW 101, CAN_ISOTP 106, CAN_J1939 107), from linux/can.h.
const LEVELS: ReadonlySet<number> = new Set([
  SOL_SOCKET,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  IPPROTO_ICMPV6,
  IPPROTO_RAW,
  AF_VSOCK,
  101,
  106,
  107,
  SOL_PACKET,
  SOL_NETLINK,
  SOL_ALG,
  SOL_TLS,
  SOL_XDP,
  SOL_MPTCP,
]);

const FOLLOWS = "its value holds an address that the kernel follows";
const OVERFLOWS = "its value, and not the room, says how much the kernel writes";
const COUNTS = "the kernel counts its room in instructions of 8 bytes";
const OPENS = "it opens a descriptor that nobody would own";

/** Numbers of one level that have no raw form. */
interface Refusal {
  readonly level: number;
  readonly first: number;
  readonly last: number;
  readonly name: string;
  readonly reason: string;
  /** The call that is dangerous, where the other one is not. */
  readonly only: "get" | "set" | undefined;
}

function refuse(
  level: number,
  number: number,
  name: string,
  reason: string = FOLLOWS,
  only?: "get" | "set",
): Refusal {
  return { level, first: number, last: number, name, reason, only };
}

function refuseRange(level: number, first: number, last: number, name: string): Refusal {
  return { level, first, last, name, reason: FOLLOWS, only: undefined };
}

// The ranges are netfilter's, from linux/netfilter_ipv4/ip_tables.h and its neighbours: it answers
// at the levels of the protocols. SO_ORIGINAL_DST, 80 at both levels, is plain, and much used.
const REFUSALS: readonly Refusal[] = [
  refuse(SOL_SOCKET, SO_ATTACH_FILTER, "SO_ATTACH_FILTER", FOLLOWS, "set"),
  refuse(SOL_SOCKET, SO_GET_FILTER, "SO_GET_FILTER", COUNTS, "get"),
  refuse(SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, "SO_ATTACH_REUSEPORT_CBPF"),
  refuse(SOL_SOCKET, SO_PEERPIDFD, "SO_PEERPIDFD", OPENS, "get"),
  refuse(IPPROTO_IP, IP_MSFILTER, "IP_MSFILTER", OVERFLOWS, "get"),
  refuse(IPPROTO_IP, MCAST_MSFILTER, "MCAST_MSFILTER", OVERFLOWS, "get"),
  refuseRange(IPPROTO_IP, 64, 79, "a number of iptables (IPT_SO_SET_REPLACE and its kind)"),
  refuseRange(IPPROTO_IP, 81, 95, "a number of ipset (SO_IP_SET and its kind)"),
  refuseRange(IPPROTO_IP, 96, 127, "a number of arptables (ARPT_SO_SET_REPLACE and its kind)"),
  refuseRange(IPPROTO_IP, 128, 199, "a number of ebtables (EBT_SO_SET_ENTRIES and its kind)"),
  refuseRange(IPPROTO_IP, 1152, 1215, "a number of IPVS (IP_VS_SO_SET_ADD and its kind)"),
  refuse(IPPROTO_IPV6, MCAST_MSFILTER, "MCAST_MSFILTER", OVERFLOWS, "get"),
  refuseRange(IPPROTO_IPV6, 64, 65, "a number of ip6tables (IP6T_SO_SET_REPLACE and its kind)"),
  refuseRange(IPPROTO_IPV6, 68, 69, "a number of ip6tables (IP6T_SO_GET_REVISION_MATCH)"),
  refuse(IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, "TCP_ZEROCOPY_RECEIVE"),
  refuse(IPPROTO_TCP, TCP_AO_GET_KEYS, "TCP_AO_GET_KEYS", OVERFLOWS, "get"),
  refuse(SOL_PACKET, PACKET_FANOUT_DATA, "PACKET_FANOUT_DATA"),
  refuse(SOL_XDP, 4, "XDP_UMEM_REG"), // From linux/if_xdp.h.
  refuse(SOL_MPTCP, 4, "MPTCP_FULL_INFO"), // From linux/mptcp.h.
];

const ELSEWHERE = 'getsockopt and setsockopt of "bun-sockets/sys" take everything';

function requirePlain(level: number, number: number, call: "get" | "set"): void {
  requireInteger(level, 0, INT_MAX, "the level of an option");
  requireInteger(number, 0, INT_MAX, "the number of an option");
  if (!LEVELS.has(level)) {
    throw new RangeError(
      `Cannot use level ${level} in raw form: its options may hold addresses that the kernel ` +
        `follows. ${ELSEWHERE}`,
    );
  }
  for (const { level: theirs, first, last, name, reason, only = call } of REFUSALS) {
    if (theirs === level && first <= number && number <= last && only === call) {
      throw new RangeError(`Cannot use ${name} in raw form: ${reason}. ${ELSEWHERE}`);
    }
  }
}

const answerLength = new Uint32Array(new ArrayBuffer(4));

/** Reads an option by its numbers: an `int`, or with a length the bytes of the answer. */
export function getRawOptionOf(
  fd: number,
  level: number,
  number: number,
  byteLength?: number,
): number | Uint8Array {
  requirePlain(level, number, "get");
  if (byteLength !== undefined) requireInteger(byteLength, 1, BYTES_MAX, "the length of an option");
  const room = new Uint8Array(new ArrayBuffer(byteLength ?? 4));
  const result = getsockopt(fd, level, number, room, answerLength);
  if (result < 0) throw optionError(result, "getsockopt", textOf(level, number));
  if (byteLength === undefined) return new DataView(room.buffer).getInt32(0, true);
  // Some report how much they would have written, and may say more than there was room for.
  const length = answerLength[0] as number;
  return length < byteLength ? room.slice(0, length) : room;
}

/** Sets an option by its numbers: to an `int`, to bytes, or to NULL with a length. */
export function setRawOptionOf(
  fd: number,
  level: number,
  number: number,
  value: number | ArrayBufferView | null,
  byteLength?: number,
): void {
  requirePlain(level, number, "set");
  const result = setRaw(fd, level, number, value, byteLength);
  if (result < 0) throw optionError(result, "setsockopt", textOf(level, number));
}

const int = new DataView(new ArrayBuffer(4));

function setRaw(
  fd: number,
  level: number,
  number: number,
  value: number | ArrayBufferView | null,
  byteLength: number | undefined,
): number {
  if (value === null) {
    if (byteLength === undefined) {
      throw new TypeError("Cannot use null as the value of an option: expected a length with it");
    }
    requireInteger(byteLength, 0, INT_MAX, "the length of an option");
    return setsockopt(fd, level, number, null, byteLength);
  }
  if (byteLength !== undefined) {
    throw new TypeError(
      `Cannot use ${describe(byteLength)} as the length of an option: a value has its own`,
    );
  }
  if (typeof value === "number") {
    requireInteger(value, -(2 ** 31), 2 ** 32 - 1, "the value of an option");
    int.setInt32(0, value, true);
    return setsockopt(fd, level, number, int);
  }
  requireView(value, "the value of an option");
  return setsockopt(fd, level, number, value);
}

function textOf(level: number, number: number): string {
  return `${number} at level ${level}`;
}
