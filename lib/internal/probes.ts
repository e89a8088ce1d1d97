import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from "../../structs/constants/errno.ts";
import {
  IP_TRANSPARENT,
  IPPROTO_ICMP,
  IPPROTO_IP,
  IPPROTO_MPTCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
} from "../../structs/constants/netinet_in.ts";
import { UDP_GRO, UDP_SEGMENT } from "../../structs/constants/netinet_udp.ts";
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AF_PACKET,
  AF_UNIX,
  AF_VSOCK,
  SO_MARK,
  SO_RCVBUFFORCE,
  SO_REUSEPORT,
  SO_ZEROCOPY,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import type { Capability } from "../capabilities.ts";
import { check } from "../error.ts";
import { errorName, strerror } from "../sys/errno.ts";
import { setsockopt, socket } from "../sys/socket.ts";
import { Descriptor } from "./descriptor.ts";

// What says nothing about the machine, only about this moment.
const PASSING: ReadonlySet<number> = new Set([EMFILE, ENFILE, ENOBUFS, ENOMEM]);
const value = new Int32Array(new ArrayBuffer(4));

/**
 * What `capabilities` tries, by name. Each tries the thing itself and returns 0 or `-errno`: what a
 * kernel was built with, and which rights a container has, nobody can tell beforehand.
 */
export const PROBES = {
  /** IPv4 sockets. */
  ipv4: () => tryOpen(AF_INET, SOCK_DGRAM, 0),
  /** IPv6 sockets. */
  ipv6: () => tryOpen(AF_INET6, SOCK_DGRAM, 0),
  /** Unix sockets. */
  unix: () => tryOpen(AF_UNIX, SOCK_DGRAM, 0),
  /** Unix sockets that keep records apart. */
  unixSeqpacket: () => tryOpen(AF_UNIX, SOCK_SEQPACKET, 0),
  /** Raw IP sockets: CAP_NET_RAW. */
  raw: () => tryOpen(AF_INET, SOCK_RAW, IPPROTO_ICMP),
  /** ICMP echo without a right: the sysctl net.ipv4.ping_group_range. */
  ping: () => tryOpen(AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
  /** Packet sockets: CAP_NET_RAW. */
  packet: () => tryOpen(AF_PACKET, SOCK_RAW, 0),
  /** Netlink sockets. */
  netlink: () => tryOpen(AF_NETLINK, SOCK_RAW, 0),
  /** Sockets between a virtual machine and its host. */
  vsock: () => tryOpen(AF_VSOCK, SOCK_STREAM, 0),
  /** Multipath TCP: the sysctl net.mptcp.enabled. */
  mptcp: () => tryOpen(AF_INET, SOCK_STREAM, IPPROTO_MPTCP),
  /** UDP-Lite, RFC 3828. */
  udpLite: () => tryOpen(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE),
  /** Several sockets of one port. */
  reusePort: () => tryOption(SOL_SOCKET, SO_REUSEPORT, 1),
  /** Buffers above the sysctls net.core.rmem_max and wmem_max. */
  bufferForce: () => tryOption(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 16),
  /** `SocketOption.mark`: CAP_NET_RAW or CAP_NET_ADMIN. */
  mark: () => tryOption(SOL_SOCKET, SO_MARK, 1),
  /** Addresses that are not ours as our own: CAP_NET_RAW or CAP_NET_ADMIN. */
  transparent: () => tryOption(IPPROTO_IP, IP_TRANSPARENT, 1),
  /** Sending without a copy in the kernel. */
  zeroCopy: () => tryOption(SOL_SOCKET, SO_ZEROCOPY, 1),
  /** Many datagrams in one send: UDP_SEGMENT, Linux 4.18. */
  udpSegmentation: () => tryOption(IPPROTO_UDP, UDP_SEGMENT, 0),
  /** Many datagrams in one receive: UDP_GRO, Linux 5.0. */
  udpCoalescing: () => tryOption(IPPROTO_UDP, UDP_GRO, 1),
} as const;

/** Tries everything. */
export function probeAll(): Record<string, Capability> {
  return Object.fromEntries(
    Object.entries(PROBES).map(([name, probe]) => [name, toCapability(probe())]),
  );
}

function toCapability(result: number): Capability {
  const reason = result < 0 ? `${errorName(result)}: ${strerror(-result)}` : "";
  return Object.freeze({ supported: result >= 0, reason });
}

function tryOpen(domain: number, type: number, protocol: number): number {
  const result = socket(domain, type | SOCK_CLOEXEC, protocol);
  if (result < 0 && !PASSING.has(-result)) return result;
  new Descriptor(result, "socket").close();
  return 0;
}

function tryOption(level: number, name: number, to: number): number {
  const descriptor = new Descriptor(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  value[0] = to;
  const result = setsockopt(descriptor.fd, level, name, value);
  descriptor.close();
  return PASSING.has(-result) ? check(result, "setsockopt") : result;
}
