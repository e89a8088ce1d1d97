/**
 * What the kernel says of a queued error: `struct sock_extended_err` with the offender's address
 * behind it, as control messages carry them. The bytes may be anything: nothing is read beyond the
 * length that is given.
 *
 * @module
 */

import { cmsghdr } from "../../structs/cmsghdr.ts";
import {
  EACCES,
  ECONNREFUSED,
  EHOSTDOWN,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETUNREACH,
  ENONET,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPROTO,
} from "../../structs/constants/errno.ts";
import {
  SCM_TSTAMP_ACK,
  SCM_TSTAMP_SCHED,
  SCM_TSTAMP_SND,
  SO_EE_CODE_TXTIME_MISSED,
  SO_EE_CODE_ZEROCOPY_COPIED,
  SO_EE_ORIGIN_ICMP,
  SO_EE_ORIGIN_ICMP6,
  SO_EE_ORIGIN_LOCAL,
  SO_EE_ORIGIN_TIMESTAMPING,
  SO_EE_ORIGIN_TXTIME,
  SO_EE_ORIGIN_ZEROCOPY,
} from "../../structs/constants/linux_errqueue.ts";
import {
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
} from "../../structs/constants/netinet_in.ts";
import {
  AF_INET,
  AF_INET6,
  SCM_TIMESTAMPING,
  SO_TIMESTAMPING_NEW,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { sock_extended_err } from "../../structs/sock_extended_err.ts";
import { sockaddr } from "../../structs/sockaddr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { timespec } from "../../structs/timespec.ts";
import { addressFromBytes, type InetAddress } from "../address.ts";
import type { ExtendedError, QueuedError } from "../error_queue.ts";
import { errorName } from "../sys/errno.ts";

const SIZES: Readonly<Record<number, number>> = {
  [AF_INET]: sockaddr_in.size,
  [AF_INET6]: sockaddr_in6.size,
};

/**
 * What the kernel makes of ICMP messages, as icmp_err_convert of net/ipv4/icmp.c and tab_unreach of
 * net/ipv6/icmp.c have it.
 */
export const ICMP_ERRORS: readonly number[] = [
  EACCES,
  ECONNREFUSED,
  EHOSTDOWN,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETUNREACH,
  ENONET,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPROTO,
];

/** Whether a control message carries an extended error. */
export function isExtendedError(level: number, type: number): boolean {
  return (
    (level === IPPROTO_IP && type === IP_RECVERR) ||
    (level === IPPROTO_IPV6 && type === IPV6_RECVERR)
  );
}

/**
 * Decodes the data of a control message: `length` bytes from `offset` on, of which only those in the
 * view are looked at. Undefined where they are too few.
 */
export function decodeExtendedError(
  view: DataView,
  offset: number,
  length: number,
): ExtendedError | undefined {
  const room = Math.min(length, view.byteLength - offset);
  if (!(offset >= 0 && room >= sock_extended_err.size)) return undefined;
  const origin = sock_extended_err.ee_origin.get(view, offset);
  return {
    errno: sock_extended_err.ee_errno.get(view, offset),
    origin,
    type: sock_extended_err.ee_type.get(view, offset),
    code: sock_extended_err.ee_code.get(view, offset),
    info: sock_extended_err.ee_info.get(view, offset),
    data: sock_extended_err.ee_data.get(view, offset),
    offender: inetAddressAt(view, offset + sock_extended_err.size, room - sock_extended_err.size),
  };
}

/** The address that stands in `room` bytes; undefined of no family, as where the kernel names nobody. */
export function inetAddressAt(view: DataView, at: number, room: number): InetAddress | undefined {
  if (room < sockaddr.sa_family.size) return undefined;
  const size = SIZES[sockaddr.sa_family.get(view, at)];
  if (size === undefined || room < size) return undefined;
  return addressFromBytes(new Uint8Array(view.buffer, view.byteOffset + at, size)) as InetAddress;
}

/** What a message from the error queue tells beside its control messages. */
export interface Quoted {
  /** Where the datagram was to go that it is about. */
  readonly destination: InetAddress | undefined;
  /** What came back of the datagram. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

const ALIGNMENT = 8;
const align = (length: number): number => (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1);

/**
 * Decodes a message from the error queue.
 *
 * @param view its control messages
 * @param length bytes of them that the kernel has filled, of which only those in the view are looked at
 */
export function decodeQueued(view: DataView, length: number, quoted: Quoted): QueuedError {
  const end = Math.min(length, view.byteLength);
  let error: ExtendedError | undefined;
  let stamp: Stamp | undefined;
  for (let at = 0; at + cmsghdr.size <= end; ) {
    const claimed = cmsghdr.cmsg_len.get(view, at);
    if (!(claimed >= cmsghdr.size)) break;
    const level = cmsghdr.cmsg_level.get(view, at);
    const type = cmsghdr.cmsg_type.get(view, at);
    const data = at + cmsghdr.size;
    const room = Math.min(claimed, end - at) - cmsghdr.size;
    if (isExtendedError(level, type)) error ??= decodeExtendedError(view, data, room);
    else if (isStamp(level, type)) stamp ??= decodeStamp(view, data, room);
    if (claimed > end - at) break;
    at += align(claimed);
  }
  return classify(error, stamp, quoted);
}

function isStamp(level: number, type: number): boolean {
  return level === SOL_SOCKET && (type === SCM_TIMESTAMPING || type === SO_TIMESTAMPING_NEW);
}

interface Stamp {
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly isHardware: boolean;
}

// struct scm_timestamping: the time by software, one that is none any more, and that of the device.
function decodeStamp(view: DataView, at: number, room: number): Stamp | undefined {
  for (const place of [0, 2]) {
    const from = at + place * timespec.size;
    if (room < (place + 1) * timespec.size) return undefined;
    const seconds = timespec.tv_sec.get(view, from);
    const nanoseconds = timespec.tv_nsec.get(view, from);
    if (seconds !== 0 || nanoseconds !== 0)
      return { seconds, nanoseconds, isHardware: place !== 0 };
  }
  return undefined;
}

const STAMPS: Readonly<Record<number, "scheduled" | "sent" | "acknowledged">> = {
  [SCM_TSTAMP_SCHED]: "scheduled",
  [SCM_TSTAMP_SND]: "sent",
  [SCM_TSTAMP_ACK]: "acknowledged",
};

// ICMP's types and codes that tell of the path's MTU: RFC 792 with RFC 1191, and RFC 4443.
const ICMP_DEST_UNREACH = 3;
const ICMP_FRAG_NEEDED = 4;
const ICMPV6_PKT_TOOBIG = 2;

function classify(
  error: ExtendedError | undefined,
  stamp: Stamp | undefined,
  quoted: Quoted,
): QueuedError {
  switch (error?.origin) {
    case SO_EE_ORIGIN_ICMP:
    case SO_EE_ORIGIN_ICMP6:
      return ofIcmp(error, quoted);
    case SO_EE_ORIGIN_LOCAL:
      if (error.errno === EMSGSIZE) return ofPath(error, quoted);
      return { kind: "local", code: errorName(error.errno), ...quoted };
    case SO_EE_ORIGIN_ZEROCOPY: {
      const copied = (error.code & SO_EE_CODE_ZEROCOPY_COPIED) !== 0;
      return { kind: "zeroCopy", first: error.info, last: error.data, copied };
    }
    case SO_EE_ORIGIN_TIMESTAMPING: {
      const what = STAMPS[error.info];
      if (what === undefined || stamp === undefined) break;
      return { kind: "timestamp", what, id: error.data, ...stamp };
    }
    case SO_EE_ORIGIN_TXTIME:
      return {
        kind: "transmitTimeMissed",
        isInvalid: error.code !== SO_EE_CODE_TXTIME_MISSED,
        timeNs: (BigInt(error.data) << 32n) | BigInt(error.info),
        payload: quoted.payload,
      };
  }
  return { kind: "unknown", error, ...quoted };
}

// By type and code: RFC 792, RFC 1122 and RFC 1812; RFC 4443 with what was assigned since.
const REASONS_4: Readonly<Record<number, readonly string[]>> = {
  3: [
    "network unreachable",
    "host unreachable",
    "protocol unreachable",
    "port unreachable",
    "fragmentation needed",
    "source route failed",
    "network unknown",
    "host unknown",
    "host isolated",
    "network prohibited",
    "host prohibited",
    "network unreachable for this service",
    "host unreachable for this service",
    "communication prohibited",
    "host precedence violation",
    "precedence cutoff",
  ],
  4: ["source quench"],
  11: ["time to live exceeded", "fragment reassembly time exceeded"],
  12: ["invalid header", "required option missing", "invalid length"],
};
const REASONS_6: Readonly<Record<number, readonly string[]>> = {
  1: [
    "no route to destination",
    "communication prohibited",
    "beyond scope of source address",
    "address unreachable",
    "port unreachable",
    "source address failed policy",
    "route rejected",
    "source route failed",
  ],
  2: ["packet too big"],
  3: ["hop limit exceeded", "fragment reassembly time exceeded"],
  4: ["invalid header", "unknown next header", "unknown option"],
};

function ofIcmp(error: ExtendedError, quoted: Quoted): QueuedError {
  const isVersion6 = error.origin === SO_EE_ORIGIN_ICMP6;
  const isTooBig = isVersion6
    ? error.type === ICMPV6_PKT_TOOBIG
    : error.type === ICMP_DEST_UNREACH && error.code === ICMP_FRAG_NEEDED;
  if (isTooBig) return ofPath(error, quoted);
  return {
    kind: "icmp",
    code: errorName(error.errno),
    version: isVersion6 ? 6 : 4,
    type: error.type,
    icmpCode: error.code,
    reason: (isVersion6 ? REASONS_6 : REASONS_4)[error.type]?.[error.code] ?? "unknown",
    offender: error.offender,
    ...quoted,
  };
}

function ofPath({ info, offender }: ExtendedError, quoted: Quoted): QueuedError {
  return { kind: "pathMtu", mtu: info, offender, ...quoted };
}
