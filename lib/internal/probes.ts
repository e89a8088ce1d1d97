import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EMFILE,
  ENFILE,
  ENOBUFS,
  ENOMEM,
  ENOPROTOOPT,
  ENOSYS,
  EOPNOTSUPP,
  EPERM,
  ESOCKTNOSUPPORT,
} from "../../structs/constants/errno.ts";
import {
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
} from "../../structs/constants/linux_net_tstamp.ts";
import {
  IP_ADD_MEMBERSHIP,
  IP_TRANSPARENT,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_MPTCP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  IPV6_V6ONLY,
} from "../../structs/constants/netinet_in.ts";
import { TCP_FASTOPEN, TCP_FASTOPEN_CONNECT } from "../../structs/constants/netinet_tcp.ts";
import { UDP_GRO, UDP_SEGMENT } from "../../structs/constants/netinet_udp.ts";
import { CLONE_NEWNET } from "../../structs/constants/sched.ts";
import { MFD_CLOEXEC } from "../../structs/constants/sys_mman.ts";
import {
  AF_INET,
  AF_INET6,
  AF_NETLINK,
  AF_PACKET,
  AF_UNIX,
  AF_VSOCK,
  AF_XDP,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_BINDTODEVICE,
  SO_BUSY_POLL,
  SO_MARK,
  SO_RCVBUFFORCE,
  SO_REUSEPORT,
  SO_TIMESTAMPING,
  SO_TXTIME,
  SO_ZEROCOPY,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { ip_mreqn } from "../../structs/ip_mreqn.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import type { Capability } from "../capabilities.ts";
import { tryHelperThread } from "../ffi/helper_thread.ts";
import { addressOf } from "../ffi/memory.ts";
import { errorName, strerror } from "../sys/errno.ts";
import { io_uring_setup } from "../sys/io_uring.ts";
import { memfd_create } from "../sys/mman.ts";
import { setns } from "../sys/sched.ts";
import { bind, getsockopt, setsockopt, socket, socketpair } from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import { loadModule, openError } from "./descriptor.ts";
import { REMEDIES, type Remedy } from "./hints.ts";
import { SO_PASSPIDFD, SO_PASSRIGHTS, SO_PEERPIDFD } from "./option_constants.ts";

/** What a probe found: 0 or more, `-errno`, or a reason that has no errno; or how far it goes. */
type Found = number | string | { readonly detail: string };

// What says nothing about the machine, only about this moment.
const PASSING: ReadonlySet<number> = new Set([EMFILE, ENFILE, ENOBUFS, ENOMEM]);

const LOOPBACK_INDEX = 1;
const ALL_HOSTS = 0xe0000001;
/** A port that takes a right, by default. Nobody is asked for it: the socket does not listen. */
const LOW_PORT = 1;
/** Of linux/time.h: the only clock of SO_TXTIME that takes no right. */
const CLOCK_MONOTONIC = 1;
/** A bit of the sysctl net.ipv4.tcp_fastopen. */
const TFO_SERVER = 2;

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));

/**
 * What `capabilities` tries, by name. Each tries the thing itself: what a kernel was built with, and
 * which rights a container has, nobody can tell beforehand.
 */
export const PROBES = {
  /** IPv4 sockets. */
  ipv4: () => tryOpen(AF_INET, SOCK_DGRAM, 0),
  /** IPv6 sockets. */
  ipv6: () => tryOpen(AF_INET6, SOCK_DGRAM, 0),
  /** The address ::1, without which IPv6 reaches nobody here. */
  ipv6Loopback: () => tryOn(AF_INET6, SOCK_STREAM, 0, (fd) => bind(fd, loopback6())),
  /** IPv6 sockets that carry IPv4 too. */
  dualStack: () => tryOption(AF_INET6, SOCK_DGRAM, IPPROTO_IPV6, IPV6_V6ONLY, 0),
  /** Unix sockets. */
  unix: () => tryOpen(AF_UNIX, SOCK_DGRAM, 0),
  /** Unix sockets that keep records apart. */
  unixSeqpacket: () => tryOpen(AF_UNIX, SOCK_SEQPACKET, 0),
  /** Unix names outside the file system. */
  unixAbstract: () =>
    tryOn(AF_UNIX, SOCK_DGRAM, 0, (fd) =>
      bind(fd, new Uint16Array(new ArrayBuffer(2)).fill(AF_UNIX)),
    ),
  /** Raw IPv4 sockets: CAP_NET_RAW. */
  raw: () => tryOpen(AF_INET, SOCK_RAW, IPPROTO_ICMP),
  /** Raw IPv6 sockets: CAP_NET_RAW. */
  rawIpv6: () => tryOpen(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
  /** ICMP echo without a right: the sysctl net.ipv4.ping_group_range. */
  ping: () => tryOpen(AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
  /** The same for ICMPv6, by the same sysctl. */
  pingIpv6: () => tryOpen(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6),
  /** Packet sockets: CAP_NET_RAW. */
  packet: () => tryPacket(),
  /** Rings of packets, TPACKET_V3: what has packet sockets has them, since Linux 3.2. */
  packetRing: () => tryPacket(),
  /** AF_XDP sockets: CAP_NET_RAW. Loading their program takes more. */
  xdp: () => tryOpen(AF_XDP, SOCK_RAW, 0),
  /** Netlink sockets. */
  netlink: () => tryOpen(AF_NETLINK, SOCK_RAW, 0),
  /** Sockets between a virtual machine and its host. */
  vsock: () => tryOpen(AF_VSOCK, SOCK_STREAM, 0),
  /** Multipath TCP: the sysctl net.mptcp.enabled. */
  mptcp: () => tryOpen(AF_INET, SOCK_STREAM, IPPROTO_MPTCP),
  /** UDP-Lite, RFC 3828. */
  udpLite: () => tryOpen(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE),
  /** Groups of receivers. */
  multicast: () => tryOn(AF_INET, SOCK_DGRAM, 0, joinAllHosts),
  /** Ports below the sysctl net.ipv4.ip_unprivileged_port_start: CAP_NET_BIND_SERVICE. */
  lowPorts: () => tryOn(AF_INET, SOCK_STREAM, 0, bindLow),
  /** Several sockets of one port. */
  reusePort: () => tryUdp(SOL_SOCKET, SO_REUSEPORT, 1),
  /** A program that chooses among them. */
  reusePortProgram: () => tryOn(AF_INET, SOCK_DGRAM, 0, attachProgram),
  /** Sockets of one interface: since Linux 5.7 without CAP_NET_RAW. */
  bindToDevice: () =>
    tryOn(AF_INET, SOCK_DGRAM, 0, (fd) =>
      setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from("lo\0")),
    ),
  /** Buffers above the sysctls net.core.rmem_max and wmem_max: CAP_NET_ADMIN. */
  bufferForce: () => tryUdp(SOL_SOCKET, SO_RCVBUFFORCE, 1 << 16),
  /** `SocketOption.mark`: CAP_NET_RAW or CAP_NET_ADMIN. */
  mark: () => tryUdp(SOL_SOCKET, SO_MARK, 1),
  /** Addresses that are not ours as our own: CAP_NET_RAW or CAP_NET_ADMIN. */
  transparent: () => tryUdp(IPPROTO_IP, IP_TRANSPARENT, 1),
  /** Waiting in the driver for some microseconds: older kernels ask for CAP_NET_ADMIN. */
  busyPoll: () => tryUdp(SOL_SOCKET, SO_BUSY_POLL, 1),
  /** Packets that leave at a given time: SO_TXTIME, where the interface's queue obeys it. */
  transmitTime: () => tryOn(AF_INET, SOCK_DGRAM, 0, setTransmitTime),
  /** The time when a packet came, by the kernel's clock. */
  receiveTimestamps: () => tryStamps(SOF_TIMESTAMPING_RX_SOFTWARE),
  /** The time when a packet left, by the kernel's clock. */
  transmitTimestamps: () => tryStamps(SOF_TIMESTAMPING_TX_SOFTWARE),
  /** Sending without a copy in the kernel. */
  zeroCopy: () => tryUdp(SOL_SOCKET, SO_ZEROCOPY, 1),
  /** Many datagrams in one send: UDP_SEGMENT, Linux 4.18. */
  udpSegmentation: () => trySegmentation(),
  /** Many datagrams in one receive: UDP_GRO, Linux 5.0. */
  udpCoalescing: () => tryUdp(IPPROTO_UDP, UDP_GRO, 1),
  /** Data in the first packet to a TCP server: a bit of the sysctl net.ipv4.tcp_fastopen. */
  fastOpen: () => tryOption(AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1),
  /** Data in the first packet from a TCP client: another bit of the same. */
  fastOpenListen: () => tryFastListen(),
  /** Unix sockets that refuse descriptors: SO_PASSRIGHTS, Linux 6.16. */
  passRights: () => tryOption(AF_UNIX, SOCK_DGRAM, SOL_SOCKET, SO_PASSRIGHTS, 0),
  /** The sender of each Unix message as a pidfd: SO_PASSPIDFD, Linux 6.5. */
  passPidfd: () => tryOption(AF_UNIX, SOCK_DGRAM, SOL_SOCKET, SO_PASSPIDFD, 1),
  /** The peer of a Unix socket as a pidfd: SO_PEERPIDFD, Linux 6.5. */
  peerPidfd: () => tryPeerPidfd(),
  /** Files in memory. */
  memfd: () => tryDescriptor(memfd_create(Buffer.from("bun-sockets-probe\0"), MFD_CLOEXEC)),
  /** Sockets of another network namespace: setns(2), CAP_SYS_ADMIN. */
  namespaces: () => tryNamespace(),
  /** Waiting by io_uring: the first choice of the poller. */
  ioUring: () => tryIoUring(),
  /** Waiting by a thread in C, which Bun compiles: the poller's choice where io_uring is refused. */
  helperThread: () => tryThread(),
} as const satisfies Record<string, () => Found>;

type Name = keyof typeof PROBES;
type Helps = Readonly<Record<number, Remedy>>;

const RAW: Helps = { [EPERM]: "raw", [EAFNOSUPPORT]: "newer" };
const NO_IPV6: Helps = { [EAFNOSUPPORT]: "ipv6" };
const PING: Helps = { [EACCES]: "ping" };
const NEWER: Helps = { [ENOPROTOOPT]: "newer", [EOPNOTSUPP]: "newer" };

// By errno; 0 is for a reason that has none.
const HELPS: { readonly [Each in Name]?: Helps } = {
  ipv6: NO_IPV6,
  ipv6Loopback: { ...NO_IPV6, [EADDRNOTAVAIL]: "loopback6" },
  dualStack: NO_IPV6,
  raw: RAW,
  rawIpv6: { [EPERM]: "raw", ...NO_IPV6 },
  ping: PING,
  pingIpv6: { ...PING, ...NO_IPV6 },
  packet: RAW,
  packetRing: RAW,
  xdp: RAW,
  vsock: { [EAFNOSUPPORT]: "vsock" },
  mptcp: { [ENOPROTOOPT]: "mptcp" },
  lowPorts: { [EACCES]: "lowPorts" },
  reusePortProgram: NEWER,
  bindToDevice: { [EPERM]: "raw" },
  bufferForce: { [EPERM]: "firstAdmin" },
  mark: { [EPERM]: "rawOrAdmin" },
  transparent: { [EPERM]: "rawOrAdmin" },
  busyPoll: { [EPERM]: "firstAdmin" },
  transmitTime: NEWER,
  zeroCopy: NEWER,
  udpSegmentation: NEWER,
  udpCoalescing: NEWER,
  fastOpen: { [EOPNOTSUPP]: "fastOpen" },
  fastOpenListen: { 0: "fastOpen" },
  passRights: NEWER,
  passPidfd: NEWER,
  peerPidfd: NEWER,
  namespaces: { [EPERM]: "namespaces" },
  ioUring: { [EPERM]: "ioUring", [ENOSYS]: "ioUring", [ENOMEM]: "ioUringMemory" },
};

/** Tries everything. */
export function probeAll(): Record<string, Capability> {
  const entries = Object.entries(PROBES) as [Name, () => Found][];
  return Object.fromEntries(entries.map(([name, probe]) => [name, toCapability(name, probe())]));
}

function toCapability(name: Name, found: Found): Capability {
  if (typeof found === "object")
    return Object.freeze({ supported: true, reason: "", detail: found.detail });
  if (typeof found === "number" && found >= 0)
    return Object.freeze({ supported: true, reason: "" });
  const errno = typeof found === "number" ? -found : 0;
  const reason = typeof found === "number" ? `${errorName(errno)}: ${strerror(errno)}` : found;
  const remedy = HELPS[name]?.[errno];
  const hint = remedy && REMEDIES[remedy]();
  return Object.freeze({ supported: false, reason, ...(hint !== undefined && { hint }) });
}

/** Closes what a call has opened, and throws what says nothing about the machine. */
function tryDescriptor(result: number, work: (fd: number) => number = () => 0): number {
  if (result < 0) return requireLasting(result, "socket");
  const found = work(result);
  close(result);
  return requireLasting(found, "setsockopt");
}

function requireLasting(result: number, syscall: string): number {
  if (PASSING.has(-result)) throw openError(result, syscall);
  return result;
}

function tryOn(
  domain: number,
  type: number,
  protocol: number,
  work: (fd: number) => number,
): number {
  return tryDescriptor(socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol), work);
}

function tryOpen(domain: number, type: number, protocol: number): number {
  return tryOn(domain, type, protocol, () => 0);
}

function tryOption(domain: number, type: number, level: number, name: number, to: number): number {
  return tryOn(domain, type, 0, (fd) => setInt(fd, level, name, to));
}

function tryUdp(level: number, name: number, to: number): number {
  return tryOption(AF_INET, SOCK_DGRAM, level, name, to);
}

function setInt(fd: number, level: number, name: number, to: number): number {
  value[0] = to;
  return setsockopt(fd, level, name, value);
}

function trySegmentation(): Found {
  const result = tryUdp(IPPROTO_UDP, UDP_SEGMENT, 0);
  if (result < 0) return result;
  const { maxSegments }: typeof import("./offload.ts") = loadModule(() => require("./offload.ts"));
  return { detail: `${maxSegments()} segments` };
}

function tryStamps(which: number): number {
  return tryUdp(SOL_SOCKET, SO_TIMESTAMPING, which | SOF_TIMESTAMPING_SOFTWARE);
}

// To close a packet socket takes the kernel 15 ms. So one is asked for that there is not: the family
// and the right are looked at before the type.
function tryPacket(): number {
  const result = tryOpen(AF_PACKET, SOCK_STREAM, 0);
  return result === -ESOCKTNOSUPPORT ? 0 : result;
}

function loopback6(): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(sockaddr_in6.size));
  const view = new DataView(bytes.buffer);
  sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
  bytes[sockaddr_in6.sin6_addr.offset + 15] = 1;
  return bytes;
}

// The right is asked for before the port: a port that is taken is as good as a free one.
function bindLow(fd: number): number {
  const view = new DataView(new ArrayBuffer(sockaddr_in.size));
  sockaddr_in.sin_family.set(view, 0, AF_INET);
  sockaddr_in.sin_port.set(view, 0, LOW_PORT);
  const result = bind(fd, view);
  return result === -EADDRINUSE ? 0 : result;
}

// Every host is in this group, and says so to nobody.
function joinAllHosts(fd: number): number {
  const view = new DataView(new ArrayBuffer(ip_mreqn.size));
  ip_mreqn.imr_multiaddr.set(view, 0, ALL_HOSTS);
  ip_mreqn.imr_ifindex.set(view, 0, LOOPBACK_INDEX);
  return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, view);
}

// struct sock_fprog, and behind it one struct sock_filter: "return 0".
function attachProgram(fd: number): number {
  const BPF_RET = 0x06;
  const fprogBytes = 16;
  const view = new DataView(new ArrayBuffer(fprogBytes + 8));
  view.setUint16(0, 1, true);
  view.setBigUint64(8, BigInt(addressOf(view.buffer) + fprogBytes), true);
  view.setUint16(fprogBytes, BPF_RET, true);
  const result = setInt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  return result < 0
    ? result
    : setsockopt(
        fd,
        SOL_SOCKET,
        SO_ATTACH_REUSEPORT_CBPF,
        new Uint8Array(view.buffer, 0, fprogBytes),
      );
}

// struct sock_txtime: a clock and flags.
function setTransmitTime(fd: number): number {
  const words = new Int32Array(new ArrayBuffer(8));
  words[0] = CLOCK_MONOTONIC;
  return setsockopt(fd, SOL_SOCKET, SO_TXTIME, words);
}

// The kernel takes the option also where it does nothing: a sysctl decides.
function tryFastListen(): Found {
  const result = tryOption(AF_INET, SOCK_STREAM, IPPROTO_TCP, TCP_FASTOPEN, 1);
  if (result < 0) return result;
  const flags = readSysctl("net/ipv4/tcp_fastopen");
  const isOff = flags !== undefined && (Number(flags) & TFO_SERVER) === 0;
  return isOff ? `net.ipv4.tcp_fastopen is ${flags}: without its bit ${TFO_SERVER}` : 0;
}

function readSysctl(name: string): string | undefined {
  try {
    return process.getBuiltinModule("node:fs").readFileSync(`/proc/sys/${name}`, "latin1").trim();
  } catch {
    return undefined;
  }
}

// Asked of a pair, which has a peer at once: ourselves.
function tryPeerPidfd(): number {
  const pair = new Int32Array(new ArrayBuffer(8));
  const result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
  if (result < 0) return requireLasting(result, "socketpair");
  const [left = -1, right = -1] = pair;
  const asked = getsockopt(left, SOL_SOCKET, SO_PEERPIDFD, value, valueLength);
  if (asked >= 0) close(value[0] as number);
  close(left);
  close(right);
  return requireLasting(asked, "getsockopt");
}

// Into the namespace in which this thread is: nothing changes.
function tryNamespace(): Found {
  const { closeSync, openSync } = process.getBuiltinModule("node:fs");
  let fd: number;
  try {
    fd = openSync("/proc/thread-self/ns/net", "r");
  } catch (error) {
    return reasonOf(error);
  }
  const result = setns(fd, CLONE_NEWNET);
  closeSync(fd);
  return result;
}

// Before Linux 5.12 a ring takes locked memory, of which a process may have little: that lasts.
function tryIoUring(): number {
  const params = new DataView(new ArrayBuffer(io_uring_params.size));
  const result = io_uring_setup(1, params);
  if (result === -ENOMEM) return result;
  return tryDescriptor(result);
}

function tryThread(): Found {
  try {
    tryHelperThread();
    return 0;
  } catch (error) {
    return reasonOf(error);
  }
}

function reasonOf(error: unknown): Found {
  const { errno, syscall = "" } = error as { errno?: number; syscall?: string };
  if (errno === undefined) return (error as Error).message;
  return requireLasting(errno, syscall);
}
