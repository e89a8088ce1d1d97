/**
 * Socket options by name: `socket.setOption(TcpOption.noDelay, true)`.
 *
 * Adding one is one line here: its English name, its C name for errors and dumps, its two numbers
 * and the layout of its value. Inside a group the order is that of the C names.
 *
 * @module
 */
import {
  EINVAL,
  ENODATA,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  EPERM,
} from "../structs/constants/errno.ts";
import { ICMP_FILTER } from "../structs/constants/linux_icmp.ts";
import { IPV6_FLOWINFO, IPV6_FLOWINFO_SEND } from "../structs/constants/linux_in6.ts";
import { IFNAMSIZ } from "../structs/constants/net_if.ts";
import { ICMP6_FILTER } from "../structs/constants/netinet_icmp6.ts";
import {
  IP_BIND_ADDRESS_NO_PORT,
  IP_CHECKSUM,
  IP_FREEBIND,
  IP_HDRINCL,
  IP_MINTTL,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_MULTICAST_ALL,
  IP_MULTICAST_IF,
  IP_MULTICAST_LOOP,
  IP_MULTICAST_TTL,
  IP_NODEFRAG,
  IP_OPTIONS,
  IP_ORIGDSTADDR,
  IP_PASSSEC,
  IP_PKTINFO,
  IP_PKTOPTIONS,
  IP_PMTUDISC_DO,
  IP_PMTUDISC_DONT,
  IP_PMTUDISC_INTERFACE,
  IP_PMTUDISC_OMIT,
  IP_PMTUDISC_PROBE,
  IP_PMTUDISC_WANT,
  IP_RECVERR,
  IP_RECVERR_RFC4884,
  IP_RECVFRAGSIZE,
  IP_RECVOPTS,
  IP_RECVTOS,
  IP_RECVTTL,
  IP_RETOPTS,
  IP_ROUTER_ALERT,
  IP_TOS,
  IP_TRANSPARENT,
  IP_TTL,
  IP_UNICAST_IF,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  IPV6_ADDR_PREFERENCES,
  IPV6_ADDRFORM,
  IPV6_AUTOFLOWLABEL,
  IPV6_CHECKSUM,
  IPV6_DONTFRAG,
  IPV6_DSTOPTS,
  IPV6_FREEBIND,
  IPV6_HDRINCL,
  IPV6_HOPOPTS,
  IPV6_MINHOPCOUNT,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_MULTICAST_ALL,
  IPV6_MULTICAST_HOPS,
  IPV6_MULTICAST_IF,
  IPV6_MULTICAST_LOOP,
  IPV6_PATHMTU,
  IPV6_RECVDSTOPTS,
  IPV6_RECVERR,
  IPV6_RECVERR_RFC4884,
  IPV6_RECVFRAGSIZE,
  IPV6_RECVHOPLIMIT,
  IPV6_RECVHOPOPTS,
  IPV6_RECVORIGDSTADDR,
  IPV6_RECVPATHMTU,
  IPV6_RECVPKTINFO,
  IPV6_RECVRTHDR,
  IPV6_RECVTCLASS,
  IPV6_ROUTER_ALERT,
  IPV6_ROUTER_ALERT_ISOLATE,
  IPV6_RTHDR,
  IPV6_RTHDRDSTOPTS,
  IPV6_TCLASS,
  IPV6_TRANSPARENT,
  IPV6_UNICAST_HOPS,
  IPV6_UNICAST_IF,
  IPV6_V6ONLY,
} from "../structs/constants/netinet_in.ts";
import {
  TCP_CC_INFO,
  TCP_CONGESTION,
  TCP_CORK,
  TCP_DEFER_ACCEPT,
  TCP_FASTOPEN,
  TCP_FASTOPEN_CONNECT,
  TCP_FASTOPEN_KEY,
  TCP_FASTOPEN_NO_COOKIE,
  TCP_INFO,
  TCP_INQ,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_LINGER2,
  TCP_MAXSEG,
  TCP_NO_QUEUE,
  TCP_NODELAY,
  TCP_NOTSENT_LOWAT,
  TCP_QUEUE_SEQ,
  TCP_QUICKACK,
  TCP_RECV_QUEUE,
  TCP_REPAIR,
  TCP_REPAIR_QUEUE,
  TCP_REPAIR_WINDOW,
  TCP_SAVE_SYN,
  TCP_SAVED_SYN,
  TCP_SEND_QUEUE,
  TCP_SYNCNT,
  TCP_THIN_LINEAR_TIMEOUTS,
  TCP_TIMESTAMP,
  TCP_TX_DELAY,
  TCP_ULP,
  TCP_USER_TIMEOUT,
  TCP_WINDOW_CLAMP,
} from "../structs/constants/netinet_tcp.ts";
import {
  UDP_CORK,
  UDP_ENCAP,
  UDP_GRO,
  UDP_NO_CHECK6_RX,
  UDP_NO_CHECK6_TX,
  UDP_SEGMENT,
} from "../structs/constants/netinet_udp.ts";
import {
  AF_INET,
  AF_INET6,
  SO_ACCEPTCONN,
  SO_BINDTODEVICE,
  SO_BINDTOIFINDEX,
  SO_BPF_EXTENSIONS,
  SO_BROADCAST,
  SO_BUF_LOCK,
  SO_BUSY_POLL,
  SO_BUSY_POLL_BUDGET,
  SO_COOKIE,
  SO_DEBUG,
  SO_DOMAIN,
  SO_DONTROUTE,
  SO_ERROR,
  SO_INCOMING_CPU,
  SO_INCOMING_NAPI_ID,
  SO_KEEPALIVE,
  SO_LINGER,
  SO_LOCK_FILTER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SO_MEMINFO,
  SO_NETNS_COOKIE,
  SO_NO_CHECK,
  SO_NOFCS,
  SO_OOBINLINE,
  SO_PASSCRED,
  SO_PASSSEC,
  SO_PEEK_OFF,
  SO_PEERCRED,
  SO_PEERGROUPS,
  SO_PEERSEC,
  SO_PREFER_BUSY_POLL,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_RCVMARK,
  SO_RCVTIMEO,
  SO_RESERVE_MEM,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SELECT_ERR_QUEUE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_SNDLOWAT,
  SO_SNDTIMEO,
  SO_TIMESTAMP,
  SO_TIMESTAMPING,
  SO_TIMESTAMPNS,
  SO_TXREHASH,
  SO_TXTIME,
  SO_TYPE,
  SO_WIFI_STATUS,
  SO_ZEROCOPY,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../structs/constants/sys_socket.ts";
import { describe, requireInteger } from "./internal/arguments.ts";
import { ICMP_TYPES, ICMPV6_TYPES } from "./internal/icmp_filter.ts";
import {
  bytes,
  CREDENTIALS,
  FLAG,
  GROUPS,
  INET4,
  INT_MAX,
  integer,
  LINGER,
  MEMORY,
  MREQN_INDEX,
  MTU_INFO,
  microseconds,
  milliseconds,
  NETWORK_INDEX,
  PORT_RANGE,
  RATE,
  SCRATCH_BYTES,
  seconds,
  secondsOrNone,
  TEXT,
  TIMEVAL,
  TRANSMIT_TIME,
  text,
  U64,
  UINT,
  words,
} from "./internal/option_codec.ts";
import {
  IP_LOCAL_PORT_RANGE,
  IP_PROTOCOL,
  SO_INQ,
  SO_PASSPIDFD,
  SO_PASSRIGHTS,
  SO_RCVPRIORITY,
  TCP_DELACK_MAX_US,
  TCP_IS_MPTCP,
  TCP_RTO_MAX_MS,
  TCP_RTO_MIN_US,
  UDPLITE_RECV_CSCOV,
  UDPLITE_SEND_CSCOV,
} from "./internal/option_constants.ts";
import {
  ask,
  buffer,
  definitionOf,
  flag,
  option,
  optionError,
  read,
  readableOf,
  readOnce,
  readOnly,
  secret,
  writableOf,
  write,
  writeOnly,
} from "./internal/option_kinds.ts";

export { getRawOptionOf, setRawOptionOf } from "./internal/option_raw.ts";

// Only the compiler sees these members: they tell it what an option takes and gives.
declare const GET: unique symbol;
declare const SET: unique symbol;

/** An option that can be read. */
export interface ReadableOption<out Value> {
  /** The C name: "SO_RCVBUF". */
  readonly name: string;
  readonly [GET]: Value;
}

/** An option that can be set. */
export interface WritableOption<in Value> {
  /** The C name: "SO_RCVBUF". */
  readonly name: string;
  readonly [SET]: (value: Value) => void;
}

/**
 * One option of a socket, with the type of its value and what can be done with it. There are those
 * of `SocketOption`, `IpOption`, `Ipv6Option`, `TcpOption` and `UdpOption`, and no others. What is
 * used in the wrong direction, or with a value of another type, does not compile, and in plain
 * JavaScript is a TypeError.
 */
export type Option<Value, Access extends "get" | "set" | "get set"> = {
  readonly get: ReadableOption<Value>;
  readonly set: WritableOption<Value>;
  readonly "get set": ReadableOption<Value> & WritableOption<Value>;
}[Access];

/** Who is at the other end of a Unix socket. */
export interface PeerCredentials {
  /** The process that connected, listened, or made the pair. 0 in another process namespace. */
  readonly processId: number;
  readonly userId: number;
  readonly groupId: number;
}

/** The memory of a socket, as the kernel charges it: with the bookkeeping around each packet. */
export interface MemoryInfo {
  /** Bytes of what was received and not yet read. */
  readonly receiveUsedBytes: number;
  /** How many of them there may be: two times `receiveBufferBytes`. */
  readonly receiveLimitBytes: number;
  /** Bytes of what was sent and has not left yet. */
  readonly sendUsedBytes: number;
  /** How many of them there may be: two times `sendBufferBytes`. */
  readonly sendLimitBytes: number;
  /** Bytes set aside for later use. */
  readonly reservedBytes: number;
  /** Bytes in the queue of a stream. */
  readonly sendQueuedBytes: number;
  /** Bytes of options and filters. */
  readonly optionBytes: number;
  /** Bytes that came while the socket was busy. */
  readonly backlogBytes: number;
  /** Datagrams that were dropped for want of room. */
  readonly dropCount: number;
}

/** Local ports, both included. A bound of 0 is that of the sysctl ip_local_port_range. */
export interface PortRange {
  readonly low: number;
  readonly high: number;
}

/** The types of ICMP messages that have a word here. Others are given by number. */
export type IcmpType =
  | "echoReply"
  | "destinationUnreachable"
  | "sourceQuench"
  | "redirect"
  | "echoRequest"
  | "routerAdvertisement"
  | "routerSolicitation"
  | "timeExceeded"
  | "parameterProblem"
  | "timestampRequest"
  | "timestampReply"
  | "informationRequest"
  | "informationReply"
  | "addressMaskRequest"
  | "addressMaskReply";

/** The types of ICMPv6 messages that have a word here. Others are given by number. */
export type Icmpv6Type =
  | "destinationUnreachable"
  | "packetTooBig"
  | "timeExceeded"
  | "parameterProblem"
  | "echoRequest"
  | "echoReply"
  | "multicastListenerQuery"
  | "multicastListenerReport"
  | "multicastListenerDone"
  | "routerSolicitation"
  | "routerAdvertisement"
  | "neighborSolicitation"
  | "neighborAdvertisement"
  | "redirect"
  | "multicastListenerReportV2";

/**
 * Which ICMP messages a raw socket receives: these types and no others, or all others. Read, it is the
 * shorter of the two lists, in the order of the numbers.
 */
export type IcmpFilter<Type extends string = IcmpType | Icmpv6Type> =
  | { readonly pass: readonly (Type | number)[]; readonly block?: undefined }
  | { readonly block: readonly (Type | number)[]; readonly pass?: undefined };

/** How packets tell the time to send them at. */
export interface TransmitTime {
  /** A `CLOCK_` constant. Others than CLOCK_MONOTONIC take CAP_NET_ADMIN. */
  readonly clockId: number;
  /** 1: a deadline rather than a start. 2: report what was missed in the error queue. */
  readonly flags: number;
}

const U8 = integer(0, 255);
const U16 = integer(0, 65535);
const HOPS = integer(-1, 255);
const INDEX = integer(0, INT_MAX);
const TO_200_MS = microseconds(1, 200_000);
const USER_TIMEOUT = milliseconds(0, INT_MAX);
const UDPLITE = IPPROTO_UDPLITE;
// RFC 8200: the length field of an extension header counts 8 bytes and is a byte.
const HEADER = bytes(8 * 255);

// The IPV6_PMTUDISC_ constants have the same values.
const MTU_DISCOVER = words({
  dont: IP_PMTUDISC_DONT,
  want: IP_PMTUDISC_WANT,
  do: IP_PMTUDISC_DO,
  probe: IP_PMTUDISC_PROBE,
  interface: IP_PMTUDISC_INTERFACE,
  omit: IP_PMTUDISC_OMIT,
});

const REPAIR_QUEUE = words({
  none: TCP_NO_QUEUE,
  receive: TCP_RECV_QUEUE,
  send: TCP_SEND_QUEUE,
});

/** Options of every socket, at `SOL_SOCKET`. See socket(7), and unix(7) for those of Unix ones. */
export const SocketOption = Object.freeze({
  /** `SO_ACCEPTCONN`: whether the socket listens. */
  acceptsConnections: readOnly("SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN, FLAG),
  /** `SO_BINDTODEVICE`: the one interface to use, by name; "" is all, and takes CAP_NET_RAW. */
  bindToDevice: option("SO_BINDTODEVICE", SOL_SOCKET, SO_BINDTODEVICE, text(IFNAMSIZ - 1)),
  /** `SO_BINDTOIFINDEX`: the one interface to use, by index; 0 is all of them. */
  bindToInterfaceIndex: option("SO_BINDTOIFINDEX", SOL_SOCKET, SO_BINDTOIFINDEX, INDEX),
  /** `SO_BPF_EXTENSIONS`: how many extensions the kernel's packet filters have. */
  filterExtensions: readOnly("SO_BPF_EXTENSIONS", SOL_SOCKET, SO_BPF_EXTENSIONS, integer()),
  /** `SO_BROADCAST`: datagrams may be sent to broadcast addresses. */
  broadcast: flag("SO_BROADCAST", SOL_SOCKET, SO_BROADCAST),
  /** `SO_BUF_LOCK`: sizes the kernel leaves alone: 1 send buffer, 2 receive buffer. Linux 5.14. */
  bufferLock: option("SO_BUF_LOCK", SOL_SOCKET, SO_BUF_LOCK, integer(0, 3)),
  /** `SO_BUSY_POLL`: how long a receive asks the device before it waits. Counted in µs. */
  busyPollMs: option("SO_BUSY_POLL", SOL_SOCKET, SO_BUSY_POLL, microseconds(0, INT_MAX)),
  /** `SO_BUSY_POLL_BUDGET`: the most packets of a poll. Takes CAP_NET_ADMIN. Linux 5.11. */
  busyPollBudget: writeOnly("SO_BUSY_POLL_BUDGET", SOL_SOCKET, SO_BUSY_POLL_BUDGET, U16),
  /** `SO_COOKIE`: the kernel's number of the socket, never used twice. */
  cookie: readOnly("SO_COOKIE", SOL_SOCKET, SO_COOKIE, U64),
  /** `SO_DEBUG`: debugging of the protocol. Takes CAP_NET_ADMIN. */
  debug: flag("SO_DEBUG", SOL_SOCKET, SO_DEBUG),
  /** `SO_DOMAIN`: the address family, an `AF_` constant. */
  domain: readOnly("SO_DOMAIN", SOL_SOCKET, SO_DOMAIN, integer()),
  /** `SO_DONTROUTE`: send to hosts of the own network only. */
  dontRoute: flag("SO_DONTROUTE", SOL_SOCKET, SO_DONTROUTE),
  /** `SO_ERROR`: what went wrong since, an errno constant or 0. Reading clears it. */
  error: readOnce("SO_ERROR", SOL_SOCKET, SO_ERROR, integer()),
  /**
   * `SO_INCOMING_CPU`: the CPU that handled the last packet of a socket with a peer, or -1; set, the
   * one to take packets of. In a group with `reusePort` the one with that CPU gets them (UDP: Linux 6.2).
   */
  incomingCpu: option("SO_INCOMING_CPU", SOL_SOCKET, SO_INCOMING_CPU, integer(-1, INT_MAX)),
  /** `SO_INCOMING_NAPI_ID`: the device queue of the last packet, or 0. */
  incomingNapiId: readOnly("SO_INCOMING_NAPI_ID", SOL_SOCKET, SO_INCOMING_NAPI_ID, UINT),
  /** `SO_INQ`: on Unix streams, tell the bytes left after each receive. Linux 6.17. */
  inQueue: writeOnly("SO_INQ", SOL_SOCKET, SO_INQ, FLAG),
  /** `SO_KEEPALIVE`: probe an idle connection. When and how often: `TcpOption.keepAlive…`. */
  keepAlive: flag("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE),
  /**
   * `SO_LINGER`: how long closing waits for unsent data, in whole seconds. Undefined is off:
   * closing returns at once and the kernel sends on. 0 drops the data and resets the connection.
   * Anything else blocks the thread in `close()`.
   */
  lingerMs: option("SO_LINGER", SOL_SOCKET, SO_LINGER, LINGER),
  /** `SO_LOCK_FILTER`: the packet filter stays as it is, and so does this. */
  lockFilter: flag("SO_LOCK_FILTER", SOL_SOCKET, SO_LOCK_FILTER),
  /** `SO_MARK`: the mark of outgoing packets. Takes CAP_NET_ADMIN or CAP_NET_RAW. */
  mark: option("SO_MARK", SOL_SOCKET, SO_MARK, UINT),
  /** `SO_MAX_PACING_RATE`: the most bytes a second, or Infinity. UDP needs the fq qdisc for it. */
  maxPacingBytesPerSecond: option("SO_MAX_PACING_RATE", SOL_SOCKET, SO_MAX_PACING_RATE, RATE),
  /** `SO_MEMINFO`: memory in use, its limits, and datagrams dropped. */
  memoryInfo: readOnly("SO_MEMINFO", SOL_SOCKET, SO_MEMINFO, MEMORY),
  /** `SO_NETNS_COOKIE`: the kernel's number of the network namespace. Linux 5.14. */
  netnsCookie: readOnly("SO_NETNS_COOKIE", SOL_SOCKET, SO_NETNS_COOKIE, U64),
  /** `SO_NO_CHECK`: send UDP over IPv4 without checksum. */
  noChecksum: flag("SO_NO_CHECK", SOL_SOCKET, SO_NO_CHECK),
  /** `SO_NOFCS`: frames come with their checksum from the caller. For packet sockets. */
  noFrameChecksum: flag("SO_NOFCS", SOL_SOCKET, SO_NOFCS),
  /** `SO_OOBINLINE`: urgent data stays in the stream. */
  oobInline: flag("SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE),
  /** `SO_PASSCRED`: messages tell the sender's process, user and group. For Unix sockets. */
  passCredentials: flag("SO_PASSCRED", SOL_SOCKET, SO_PASSCRED),
  /**
   * `SO_PASSPIDFD`: each message brings a descriptor of the sender's process, for the receiver to
   * close. For Unix sockets. Linux 6.5.
   */
  passProcessDescriptor: flag("SO_PASSPIDFD", SOL_SOCKET, SO_PASSPIDFD),
  /** `SO_PASSRIGHTS`: messages may bring descriptors; on at first. Unix sockets, Linux 6.16. */
  passRights: flag("SO_PASSRIGHTS", SOL_SOCKET, SO_PASSRIGHTS),
  /** `SO_PASSSEC`: messages tell the sender's security context. For Unix sockets. */
  passSecurity: flag("SO_PASSSEC", SOL_SOCKET, SO_PASSSEC),
  /**
   * `SO_PEEK_OFF`: where `MSG_PEEK` looks next, in bytes; -1 is always at the start. A peek moves it
   * on, a receive back. Of UDP, peeks that tell a sender or flags then do not know how long the
   * datagram was: `originalLength` is what was seen of it.
   */
  peekOffset: option("SO_PEEK_OFF", SOL_SOCKET, SO_PEEK_OFF, integer(-1, INT_MAX)),
  /** `SO_PEERCRED`: who connected a Unix socket, or made the pair; undefined without a peer. */
  peerCredentials: readOnly("SO_PEERCRED", SOL_SOCKET, SO_PEERCRED, CREDENTIALS),
  /** `SO_PEERGROUPS`: the supplementary groups of a Unix socket's peer. */
  peerGroups: readOnly("SO_PEERGROUPS", SOL_SOCKET, SO_PEERGROUPS, GROUPS),
  /** `SO_PEERSEC`: the security context of a Unix socket's peer. Needs SELinux or its like. */
  peerSecurity: readOnly("SO_PEERSEC", SOL_SOCKET, SO_PEERSEC, TEXT),
  /** `SO_PREFER_BUSY_POLL`: the device waits to be polled. Takes CAP_NET_ADMIN. Linux 5.11. */
  preferBusyPoll: flag("SO_PREFER_BUSY_POLL", SOL_SOCKET, SO_PREFER_BUSY_POLL),
  /** `SO_PRIORITY`: the queueing priority of packets; above 6 takes CAP_NET_ADMIN. */
  priority: option("SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, integer(0, INT_MAX)),
  /** `SO_PROTOCOL`: an `IPPROTO_` constant, or 0. */
  protocol: readOnly("SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL, integer()),
  /**
   * `SO_RCVBUF`: receive buffer in bytes. `SO_RCVBUFFORCE` is tried first, which knows no limit and
   * takes CAP_NET_ADMIN; without that the sysctl net.core.rmem_max cuts the size off, and no error
   * tells: read it back. The kernel doubles the size for its own bookkeeping and reports that; half
   * of it is read here, so that what was set is what is read.
   */
  receiveBufferBytes: buffer("SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, SO_RCVBUFFORCE),
  /** `SO_RCVLOWAT`: how many bytes a stream has before it is readable. */
  receiveLowWaterBytes: option("SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, integer(1, INT_MAX)),
  /** `SO_RCVMARK`: messages tell the mark of their packet. Takes CAP_NET_RAW. Linux 5.19. */
  receiveMark: flag("SO_RCVMARK", SOL_SOCKET, SO_RCVMARK),
  /** `SO_RCVPRIORITY`: messages tell their packet's priority. Takes CAP_NET_RAW. Linux 6.14. */
  receivePriority: flag("SO_RCVPRIORITY", SOL_SOCKET, SO_RCVPRIORITY),
  /**
   * `SO_RCVTIMEO`: how long a receive blocks in the kernel; 0 is for ever. The kernel rounds up to
   * its ticks. Our own sockets do not block there: use `timeoutMs`.
   */
  receiveTimeoutMs: option("SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, TIMEVAL),
  /** `SO_RESERVE_MEM`: bytes kept for the socket, where cgroups account memory. Linux 5.16. */
  reserveMemoryBytes: option("SO_RESERVE_MEM", SOL_SOCKET, SO_RESERVE_MEM, integer(0, INT_MAX)),
  /** `SO_REUSEADDR`: bind to an address still in use; for datagrams that shares the traffic. */
  reuseAddress: flag("SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR),
  /** `SO_REUSEPORT`: several sockets share a port, and the kernel spreads the senders. */
  reusePort: flag("SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT),
  /** `SO_RXQ_OVFL`: messages tell how many were dropped before them. */
  receiveQueueOverflow: flag("SO_RXQ_OVFL", SOL_SOCKET, SO_RXQ_OVFL),
  /** `SO_SELECT_ERR_QUEUE`: queued errors make poll(2) report `POLLPRI` beside `POLLERR`. */
  selectErrorQueue: flag("SO_SELECT_ERR_QUEUE", SOL_SOCKET, SO_SELECT_ERR_QUEUE),
  /**
   * `SO_SNDBUF`: send buffer in bytes, by `SO_SNDBUFFORCE` where that is allowed and else cut off
   * at the sysctl net.core.wmem_max. Read as `receiveBufferBytes` is.
   */
  sendBufferBytes: buffer("SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, SO_SNDBUFFORCE),
  /** `SO_SNDLOWAT`: always 1 on Linux. */
  sendLowWaterBytes: readOnly("SO_SNDLOWAT", SOL_SOCKET, SO_SNDLOWAT, integer()),
  /** `SO_SNDTIMEO`: how long a send blocks in the kernel; 0 is for ever. As `receiveTimeoutMs`. */
  sendTimeoutMs: option("SO_SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, TIMEVAL),
  /** `SO_TIMESTAMP`: messages tell when they came, in µs. Off once `timestampNs` is on. */
  timestamp: flag("SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP),
  /** `SO_TIMESTAMPING`: which times packets and messages tell, a union of `SOF_TIMESTAMPING_`. */
  timestamping: option("SO_TIMESTAMPING", SOL_SOCKET, SO_TIMESTAMPING, integer(0, INT_MAX)),
  /** `SO_TIMESTAMPNS`: messages tell when they came, in ns. Off once `timestamp` is on. */
  timestampNs: flag("SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS),
  /** `SO_TXREHASH`: a TCP connection that gets no answer tries another path. Linux 5.18. */
  rehash: flag("SO_TXREHASH", SOL_SOCKET, SO_TXREHASH),
  /** `SO_TXTIME`: packets tell the time to send them at, by the clock given here. */
  transmitTime: option("SO_TXTIME", SOL_SOCKET, SO_TXTIME, TRANSMIT_TIME),
  /** `SO_TYPE`: a `SOCK_` constant. */
  type: readOnly("SO_TYPE", SOL_SOCKET, SO_TYPE, integer()),
  /** `SO_WIFI_STATUS`: packets tell whether the station acknowledged them. */
  wifiStatus: flag("SO_WIFI_STATUS", SOL_SOCKET, SO_WIFI_STATUS),
  /** `SO_ZEROCOPY`: sends may ask for `MSG_ZEROCOPY`. */
  zeroCopy: flag("SO_ZEROCOPY", SOL_SOCKET, SO_ZEROCOPY),
});

/**
 * Options of IPv4, at `IPPROTO_IP`. IPv6 sockets of TCP and UDP have them too, for the IPv4 that
 * they carry. See ip(7).
 */
export const IpOption = Object.freeze({
  /**
   * `ICMP_FILTER`, at `SOL_RAW`: which types a raw ICMP socket receives, of those from 0 to 31. Others
   * always come.
   */
  icmpFilter: option("ICMP_FILTER", IPPROTO_RAW, ICMP_FILTER, ICMP_TYPES),
  /** `IP_BIND_ADDRESS_NO_PORT`: binding to port 0 leaves the port open until connect. */
  bindAddressNoPort: flag("IP_BIND_ADDRESS_NO_PORT", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
  /** `IP_CHECKSUM`: messages tell the checksum that their packet came with. */
  receiveChecksum: flag("IP_CHECKSUM", IPPROTO_IP, IP_CHECKSUM),
  /** `IP_FREEBIND`: bind to an address that no interface has yet. */
  freeBind: flag("IP_FREEBIND", IPPROTO_IP, IP_FREEBIND),
  /** `IP_HDRINCL`: data begins with the caller's own IP header. For raw sockets. */
  headerIncluded: flag("IP_HDRINCL", IPPROTO_IP, IP_HDRINCL),
  /** `IP_LOCAL_PORT_RANGE`: where a free port is taken from; 0 as the sysctl. Linux 6.3. */
  localPortRange: option("IP_LOCAL_PORT_RANGE", IPPROTO_IP, IP_LOCAL_PORT_RANGE, PORT_RANGE),
  /** `IP_MINTTL`: packets with a smaller TTL are dropped. */
  minTtl: option("IP_MINTTL", IPPROTO_IP, IP_MINTTL, U8),
  /** `IP_MTU`: the path's MTU as known now. Needs a peer. */
  mtu: readOnly("IP_MTU", IPPROTO_IP, IP_MTU, integer()),
  /** `IP_MTU_DISCOVER`: what happens to a packet that is longer than the path allows. */
  mtuDiscover: option("IP_MTU_DISCOVER", IPPROTO_IP, IP_MTU_DISCOVER, MTU_DISCOVER),
  /** `IP_MULTICAST_ALL`: hear groups that others of this machine joined; on at first. */
  multicastAll: flag("IP_MULTICAST_ALL", IPPROTO_IP, IP_MULTICAST_ALL),
  /** `IP_MULTICAST_IF`: where multicast goes out, by an own address; "0.0.0.0" is by route. */
  multicastInterface: option("IP_MULTICAST_IF", IPPROTO_IP, IP_MULTICAST_IF, INET4),
  /** `IP_MULTICAST_IF`: where multicast goes out, by the interface's index. 0 is by route. */
  multicastInterfaceIndex: writeOnly("IP_MULTICAST_IF", IPPROTO_IP, IP_MULTICAST_IF, MREQN_INDEX),
  /** `IP_MULTICAST_LOOP`: own multicast is heard on this machine; on at first. */
  multicastLoop: flag("IP_MULTICAST_LOOP", IPPROTO_IP, IP_MULTICAST_LOOP),
  /** `IP_MULTICAST_TTL`: TTL of outgoing multicast; 1 at first, and by -1. */
  multicastTtl: option("IP_MULTICAST_TTL", IPPROTO_IP, IP_MULTICAST_TTL, HOPS),
  /** `IP_NODEFRAG`: fragments are not put together on the way out. For raw sockets. */
  noDefragment: flag("IP_NODEFRAG", IPPROTO_IP, IP_NODEFRAG),
  /** `IP_OPTIONS`: the options of the header of each packet, as they stand there. */
  options: option("IP_OPTIONS", IPPROTO_IP, IP_OPTIONS, bytes(40)),
  /** `IP_ORIGDSTADDR`: messages tell where they were sent to, before redirection. */
  receiveOriginalDestination: flag("IP_ORIGDSTADDR", IPPROTO_IP, IP_ORIGDSTADDR),
  /** `IP_PASSSEC`: messages tell the peer's security context. */
  passSecurity: flag("IP_PASSSEC", IPPROTO_IP, IP_PASSSEC),
  /** `IP_PKTINFO`: messages tell the interface and the address that they came to. */
  receivePacketInfo: flag("IP_PKTINFO", IPPROTO_IP, IP_PKTINFO),
  /** `IP_PKTOPTIONS`: what the `receive…` options ask for, as control messages. For TCP. */
  packetOptions: readOnly("IP_PKTOPTIONS", IPPROTO_IP, IP_PKTOPTIONS, bytes(SCRATCH_BYTES)),
  /** `IP_PROTOCOL`: the protocol of a raw socket; of others, the local port. Linux 6.4. */
  protocol: readOnly("IP_PROTOCOL", IPPROTO_IP, IP_PROTOCOL, integer()),
  /** `IP_RECVERR`: errors of each packet wait in a queue of their own, read by `MSG_ERRQUEUE`. */
  receiveErrors: flag("IP_RECVERR", IPPROTO_IP, IP_RECVERR),
  /** `IP_RECVERR_RFC4884`: errors tell where the extensions of RFC 4884 begin. */
  receiveErrorsRfc4884: flag("IP_RECVERR_RFC4884", IPPROTO_IP, IP_RECVERR_RFC4884),
  /** `IP_RECVFRAGSIZE`: messages tell the largest fragment that they came in. */
  receiveFragmentSize: flag("IP_RECVFRAGSIZE", IPPROTO_IP, IP_RECVFRAGSIZE),
  /** `IP_RECVOPTS`: messages tell the options of their header. */
  receiveOptions: flag("IP_RECVOPTS", IPPROTO_IP, IP_RECVOPTS),
  /** `IP_RECVTOS`: messages tell their type of service. */
  receiveTos: flag("IP_RECVTOS", IPPROTO_IP, IP_RECVTOS),
  /** `IP_RECVTTL`: messages tell their TTL. */
  receiveTtl: flag("IP_RECVTTL", IPPROTO_IP, IP_RECVTTL),
  /** `IP_RETOPTS`: messages tell the options of their header as an answer would carry them. */
  receiveReturnedOptions: flag("IP_RETOPTS", IPPROTO_IP, IP_RETOPTS),
  /** `IP_ROUTER_ALERT`: packets with that option come here instead of being forwarded. Raw. */
  routerAlert: flag("IP_ROUTER_ALERT", IPPROTO_IP, IP_ROUTER_ALERT),
  /** `IP_TOS`: type of service of outgoing packets. TCP keeps the lower two bits for itself. */
  tos: option("IP_TOS", IPPROTO_IP, IP_TOS, U8),
  /** `IP_TRANSPARENT`: bind and send with any address. Takes CAP_NET_ADMIN or CAP_NET_RAW. */
  transparent: flag("IP_TRANSPARENT", IPPROTO_IP, IP_TRANSPARENT),
  /** `IP_TTL`: TTL of outgoing packets, from 1; -1 is the system's. */
  ttl: option("IP_TTL", IPPROTO_IP, IP_TTL, HOPS),
  /** `IP_UNICAST_IF`: where unicast goes out, by the interface's index; 0 is by route. */
  unicastInterfaceIndex: option("IP_UNICAST_IF", IPPROTO_IP, IP_UNICAST_IF, NETWORK_INDEX),
});

/** Options of IPv6, at `IPPROTO_IPV6`. See ipv6(7), and RFC 3542 for those about headers. */
export const Ipv6Option = Object.freeze({
  /** `ICMP6_FILTER`, at `IPPROTO_ICMPV6`: which types a raw ICMPv6 socket receives, 0 to 255. */
  icmpFilter: option("ICMP6_FILTER", IPPROTO_ICMPV6, ICMP6_FILTER, ICMPV6_TYPES),
  /** `IPV6_ADDR_PREFERENCES`: which own address to choose, a union of `IPV6_PREFER_SRC_`. */
  addressPreferences: option("IPV6_ADDR_PREFERENCES", IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, U16),
  /** `IPV6_ADDRFORM`: make an IPv4 socket of one that is connected to a mapped address. */
  addressForm: writeOnly("IPV6_ADDRFORM", IPPROTO_IPV6, IPV6_ADDRFORM, words({ ipv4: AF_INET })),
  /** `IPV6_AUTOFLOWLABEL`: packets get a flow label by their connection. */
  autoFlowLabel: flag("IPV6_AUTOFLOWLABEL", IPPROTO_IPV6, IPV6_AUTOFLOWLABEL),
  /** `IPV6_CHECKSUM`: where a raw socket's packets have their checksum, even; -1 is nowhere. */
  checksumOffset: option("IPV6_CHECKSUM", IPPROTO_IPV6, IPV6_CHECKSUM, integer(-1, INT_MAX)),
  /** `IPV6_DONTFRAG`: a packet that is longer than the path allows is an error. */
  dontFragment: flag("IPV6_DONTFRAG", IPPROTO_IPV6, IPV6_DONTFRAG),
  /** `IPV6_DSTOPTS`: the destination options of each packet, as a header. Takes CAP_NET_RAW. */
  destinationOptions: option("IPV6_DSTOPTS", IPPROTO_IPV6, IPV6_DSTOPTS, HEADER),
  /** `IPV6_FLOWINFO`: messages tell the traffic class and flow label of their packet. */
  receiveFlowInfo: flag("IPV6_FLOWINFO", IPPROTO_IPV6, IPV6_FLOWINFO),
  /** `IPV6_FLOWINFO_SEND`: the flow label of the destination address goes into packets. */
  sendFlowInfo: flag("IPV6_FLOWINFO_SEND", IPPROTO_IPV6, IPV6_FLOWINFO_SEND),
  /** `IPV6_FREEBIND`: bind to an address that no interface has yet. */
  freeBind: flag("IPV6_FREEBIND", IPPROTO_IPV6, IPV6_FREEBIND),
  /** `IPV6_HDRINCL`: data begins with the caller's own IPv6 header. For raw sockets. */
  headerIncluded: flag("IPV6_HDRINCL", IPPROTO_IPV6, IPV6_HDRINCL),
  /** `IPV6_HOPOPTS`: the hop-by-hop options of each packet, as a header. Takes CAP_NET_RAW. */
  hopOptions: option("IPV6_HOPOPTS", IPPROTO_IPV6, IPV6_HOPOPTS, HEADER),
  /** `IPV6_MINHOPCOUNT`: packets with a smaller hop limit are dropped. */
  minHopCount: option("IPV6_MINHOPCOUNT", IPPROTO_IPV6, IPV6_MINHOPCOUNT, U8),
  /** `IPV6_MTU`: read, the path's MTU, which needs a peer; set, the longest fragment to send. */
  mtu: option("IPV6_MTU", IPPROTO_IPV6, IPV6_MTU, integer(0, INT_MAX)),
  /** `IPV6_MTU_DISCOVER`: what happens to a packet that is longer than the path allows. */
  mtuDiscover: option("IPV6_MTU_DISCOVER", IPPROTO_IPV6, IPV6_MTU_DISCOVER, MTU_DISCOVER),
  /** `IPV6_MULTICAST_ALL`: hear groups that others of this machine joined; on at first. */
  multicastAll: flag("IPV6_MULTICAST_ALL", IPPROTO_IPV6, IPV6_MULTICAST_ALL),
  /** `IPV6_MULTICAST_HOPS`: hop limit of outgoing multicast; 1 at first, and by -1. */
  multicastHops: option("IPV6_MULTICAST_HOPS", IPPROTO_IPV6, IPV6_MULTICAST_HOPS, HOPS),
  /** `IPV6_MULTICAST_IF`: where multicast goes out, by the interface's index; 0 is by route. */
  multicastInterfaceIndex: option("IPV6_MULTICAST_IF", IPPROTO_IPV6, IPV6_MULTICAST_IF, INDEX),
  /** `IPV6_MULTICAST_LOOP`: own multicast is heard on this machine; on at first. */
  multicastLoop: flag("IPV6_MULTICAST_LOOP", IPPROTO_IPV6, IPV6_MULTICAST_LOOP),
  /** `IPV6_PATHMTU`: the path's MTU as known now. Needs a peer. */
  pathMtu: readOnly("IPV6_PATHMTU", IPPROTO_IPV6, IPV6_PATHMTU, MTU_INFO),
  /** `IPV6_RECVDSTOPTS`: messages tell the destination options of their packet. */
  receiveDestinationOptions: flag("IPV6_RECVDSTOPTS", IPPROTO_IPV6, IPV6_RECVDSTOPTS),
  /** `IPV6_RECVERR`: errors of each packet wait in a queue of their own, read by `MSG_ERRQUEUE`. */
  receiveErrors: flag("IPV6_RECVERR", IPPROTO_IPV6, IPV6_RECVERR),
  /** `IPV6_RECVERR_RFC4884`: errors tell where the extensions of RFC 4884 begin. */
  receiveErrorsRfc4884: flag("IPV6_RECVERR_RFC4884", IPPROTO_IPV6, IPV6_RECVERR_RFC4884),
  /** `IPV6_RECVFRAGSIZE`: messages tell the largest fragment that they came in. */
  receiveFragmentSize: flag("IPV6_RECVFRAGSIZE", IPPROTO_IPV6, IPV6_RECVFRAGSIZE),
  /** `IPV6_RECVHOPLIMIT`: messages tell their hop limit. */
  receiveHopLimit: flag("IPV6_RECVHOPLIMIT", IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
  /** `IPV6_RECVHOPOPTS`: messages tell the hop-by-hop options of their packet. */
  receiveHopOptions: flag("IPV6_RECVHOPOPTS", IPPROTO_IPV6, IPV6_RECVHOPOPTS),
  /** `IPV6_RECVORIGDSTADDR`: messages tell where they were sent to, before redirection. */
  receiveOriginalDestination: flag("IPV6_RECVORIGDSTADDR", IPPROTO_IPV6, IPV6_RECVORIGDSTADDR),
  /** `IPV6_RECVPATHMTU`: the path's MTU is told when it shrinks. */
  receivePathMtu: flag("IPV6_RECVPATHMTU", IPPROTO_IPV6, IPV6_RECVPATHMTU),
  /** `IPV6_RECVPKTINFO`: messages tell the interface and the address that they came to. */
  receivePacketInfo: flag("IPV6_RECVPKTINFO", IPPROTO_IPV6, IPV6_RECVPKTINFO),
  /** `IPV6_RECVRTHDR`: messages tell the routing header of their packet. */
  receiveRoutingHeader: flag("IPV6_RECVRTHDR", IPPROTO_IPV6, IPV6_RECVRTHDR),
  /** `IPV6_RECVTCLASS`: messages tell their traffic class. */
  receiveTrafficClass: flag("IPV6_RECVTCLASS", IPPROTO_IPV6, IPV6_RECVTCLASS),
  /** `IPV6_ROUTER_ALERT`: take packets with this alert, 0 to 65535; -1 ends it. Raw sockets. */
  routerAlert: writeOnly("IPV6_ROUTER_ALERT", IPPROTO_IPV6, IPV6_ROUTER_ALERT, integer(-1, 65535)),
  /** `IPV6_ROUTER_ALERT_ISOLATE`: alerts of other network namespaces are not taken. */
  routerAlertIsolate: flag("IPV6_ROUTER_ALERT_ISOLATE", IPPROTO_IPV6, IPV6_ROUTER_ALERT_ISOLATE),
  /** `IPV6_RTHDR`: the routing header of each packet. */
  routingHeader: option("IPV6_RTHDR", IPPROTO_IPV6, IPV6_RTHDR, HEADER),
  /** `IPV6_RTHDRDSTOPTS`: destination options in front of the routing header. CAP_NET_RAW. */
  routingDestinationOptions: option("IPV6_RTHDRDSTOPTS", IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, HEADER),
  /** `IPV6_TCLASS`: traffic class of outgoing packets; 0 at first, and by -1. */
  trafficClass: option("IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS, HOPS),
  /** `IPV6_TRANSPARENT`: bind and send with any address. Takes CAP_NET_ADMIN or CAP_NET_RAW. */
  transparent: flag("IPV6_TRANSPARENT", IPPROTO_IPV6, IPV6_TRANSPARENT),
  /** `IPV6_UNICAST_HOPS`: hop limit of outgoing packets; -1 is the system's. */
  unicastHops: option("IPV6_UNICAST_HOPS", IPPROTO_IPV6, IPV6_UNICAST_HOPS, HOPS),
  /** `IPV6_UNICAST_IF`: where unicast goes out, by the interface's index; 0 is by route. */
  unicastInterfaceIndex: option("IPV6_UNICAST_IF", IPPROTO_IPV6, IPV6_UNICAST_IF, NETWORK_INDEX),
  /** `IPV6_V6ONLY`: no IPv4 through this socket. Before bind. */
  v6Only: flag("IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY),
});

/** Options of TCP, at `IPPROTO_TCP`. See tcp(7). */
export const TcpOption = Object.freeze({
  /** `TCP_CC_INFO`: figures of the congestion control, in a layout of its own. */
  congestionInfo: readOnly("TCP_CC_INFO", IPPROTO_TCP, TCP_CC_INFO, bytes(256)),
  /** `TCP_CONGESTION`: the congestion control: "cubic", "reno", "bbr" or what else is loaded. */
  congestion: option("TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION, text(15)),
  /** `TCP_CORK`: only full segments are sent, until this is off or for 200 ms. */
  cork: flag("TCP_CORK", IPPROTO_TCP, TCP_CORK),
  /**
   * `TCP_DEFER_ACCEPT`: a listener hears of a connection when data has come, for at most so many
   * whole seconds. Rounded up to a series of timeouts: 1, 3, 7, 15, 31 seconds and so on.
   */
  deferAcceptMs: option("TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds(0, INT_MAX)),
  /** `TCP_DELACK_MAX_US`: the longest delay of an acknowledgement, to 200 ms. Linux 6.15. */
  delayedAckMaxMs: option("TCP_DELACK_MAX_US", IPPROTO_TCP, TCP_DELACK_MAX_US, TO_200_MS),
  /** `TCP_FASTOPEN`: how many connections with data a listener holds before they are complete. */
  fastOpenQueueLength: option("TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, integer(0, INT_MAX)),
  /** `TCP_FASTOPEN_CONNECT`: connect waits for the first data, to send both at once. */
  fastOpenConnect: flag("TCP_FASTOPEN_CONNECT", IPPROTO_TCP, TCP_FASTOPEN_CONNECT),
  /** `TCP_FASTOPEN_KEY`: the key of a listener's cookies, 16 or 32 bytes. No dump shows it. */
  fastOpenKey: secret("TCP_FASTOPEN_KEY", IPPROTO_TCP, TCP_FASTOPEN_KEY, bytes(32)),
  /** `TCP_FASTOPEN_NO_COOKIE`: fast open without a cookie. */
  fastOpenNoCookie: flag("TCP_FASTOPEN_NO_COOKIE", IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE),
  /** `TCP_INFO`: the state and figures of the connection, as `struct tcp_info` of any length. */
  info: readOnly("TCP_INFO", IPPROTO_TCP, TCP_INFO, bytes(SCRATCH_BYTES)),
  /** `TCP_INQ`: tell the bytes left after each receive. */
  inQueue: flag("TCP_INQ", IPPROTO_TCP, TCP_INQ),
  /** `TCP_IS_MPTCP`: whether the connection really is Multipath TCP. Linux 6.10. */
  multipath: readOnly("TCP_IS_MPTCP", IPPROTO_TCP, TCP_IS_MPTCP, FLAG),
  /** `TCP_KEEPCNT`: after how many probes without answer a connection is dead. */
  keepAliveCount: option("TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, integer(1, 127)),
  /** `TCP_KEEPIDLE`: after how long without data the first probe goes out, in whole seconds. */
  keepAliveIdleMs: option("TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, seconds(1, 32767)),
  /** `TCP_KEEPINTVL`: how long to wait between probes, in whole seconds. */
  keepAliveIntervalMs: option("TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, seconds(1, 32767)),
  /**
   * `TCP_LINGER2`: how long a closed socket waits for the peer to close too, in whole seconds, at
   * most 120. 0 is the sysctl tcp_fin_timeout, undefined is not at all.
   */
  linger2Ms: option("TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, secondsOrNone(0, 120)),
  /** `TCP_MAXSEG`: the longest segment, 88 to 32767; 0 is by the path. Before connect. */
  maxSegmentBytes: option("TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, integer(0, 32767)),
  /** `TCP_NODELAY`: small segments are sent at once. */
  noDelay: flag("TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY),
  /** `TCP_NOTSENT_LOWAT`: below how many unsent bytes the socket is writable; 0 by the sysctl. */
  notSentLowWaterBytes: option("TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, UINT),
  /** `TCP_QUEUE_SEQ`: the sequence number of the queue under repair. */
  queueSequence: option("TCP_QUEUE_SEQ", IPPROTO_TCP, TCP_QUEUE_SEQ, UINT),
  /** `TCP_QUICKACK`: acknowledge at once, for now: the kernel changes it back as it sees fit. */
  quickAck: flag("TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK),
  /** `TCP_REPAIR`: the connection is being taken apart or put together. Takes CAP_NET_ADMIN. */
  repair: flag("TCP_REPAIR", IPPROTO_TCP, TCP_REPAIR),
  /** `TCP_REPAIR_QUEUE`: the queue under repair. */
  repairQueue: option("TCP_REPAIR_QUEUE", IPPROTO_TCP, TCP_REPAIR_QUEUE, REPAIR_QUEUE),
  /** `TCP_REPAIR_WINDOW`: the windows, as `struct tcp_repair_window`. During repair. */
  repairWindow: option("TCP_REPAIR_WINDOW", IPPROTO_TCP, TCP_REPAIR_WINDOW, bytes(20)),
  /** `TCP_RTO_MAX_MS`: the longest time to a retransmission, 1 to 120 seconds. Linux 6.15. */
  retransmitMaxMs: option("TCP_RTO_MAX_MS", IPPROTO_TCP, TCP_RTO_MAX_MS, milliseconds(1e3, 12e4)),
  /** `TCP_RTO_MIN_US`: the shortest time to a retransmission, to 200 ms. Linux 6.15. */
  retransmitMinMs: option("TCP_RTO_MIN_US", IPPROTO_TCP, TCP_RTO_MIN_US, TO_200_MS),
  /** `TCP_SAVE_SYN`: a listener keeps each connection's first headers; 2 is with the link's. */
  saveSyn: option("TCP_SAVE_SYN", IPPROTO_TCP, TCP_SAVE_SYN, integer(0, 2)),
  /** `TCP_SAVED_SYN`: the headers that the connection began with, once. See `saveSyn`. */
  savedSyn: readOnce("TCP_SAVED_SYN", IPPROTO_TCP, TCP_SAVED_SYN, bytes(SCRATCH_BYTES)),
  /** `TCP_SYNCNT`: how many times connect asks again. */
  synRetries: option("TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, integer(1, 127)),
  /** `TCP_THIN_LINEAR_TIMEOUTS`: retransmissions of a thin stream do not back off at first. */
  thinLinearTimeouts: flag("TCP_THIN_LINEAR_TIMEOUTS", IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS),
  /** `TCP_TIMESTAMP`: the timestamp clock now; set during repair only. */
  timestamp: option("TCP_TIMESTAMP", IPPROTO_TCP, TCP_TIMESTAMP, UINT),
  /** `TCP_TX_DELAY`: each segment is held back so long, to try out a slow network. Counted in µs. */
  transmitDelayMs: option("TCP_TX_DELAY", IPPROTO_TCP, TCP_TX_DELAY, microseconds(0, INT_MAX)),
  /** `TCP_ULP`: the protocol that works inside the connection: "tls", or "" for none. */
  upperLayerProtocol: option("TCP_ULP", IPPROTO_TCP, TCP_ULP, text(15)),
  /** `TCP_USER_TIMEOUT`: after how long without acknowledgement a connection ends; 0 as ever. */
  userTimeoutMs: option("TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT),
  /** `TCP_WINDOW_CLAMP`: the largest window to offer; 0 is no limit, before connect. */
  windowClampBytes: option("TCP_WINDOW_CLAMP", IPPROTO_TCP, TCP_WINDOW_CLAMP, integer(0, INT_MAX)),
});

/** Options of UDP, at `IPPROTO_UDP`, and of UDP-Lite. See udp(7) and udplite(7). */
export const UdpOption = Object.freeze({
  /** `UDP_CORK`: what is sent becomes one datagram, which goes out when this is off. */
  cork: flag("UDP_CORK", IPPROTO_UDP, UDP_CORK),
  /** `UDP_ENCAP`: packets of a tunnel come through the socket, a `UDP_ENCAP_` constant. */
  encapsulation: option("UDP_ENCAP", IPPROTO_UDP, UDP_ENCAP, U8),
  /**
   * `UDP_GRO`: datagrams of one sender and size may come as one train, of which batches
   * (`segmentBytes`) and control messages of a `Message` tell the size. Every other receive is refused
   * while it is on, and so is a batch whose slots do not hold every train. Linux 5.0.
   */
  gro: flag("UDP_GRO", IPPROTO_UDP, UDP_GRO),
  /** `UDP_NO_CHECK6_RX`: take IPv6 datagrams without checksum. */
  noCheck6Rx: flag("UDP_NO_CHECK6_RX", IPPROTO_UDP, UDP_NO_CHECK6_RX),
  /** `UDP_NO_CHECK6_TX`: send IPv6 datagrams without checksum. */
  noCheck6Tx: flag("UDP_NO_CHECK6_TX", IPPROTO_UDP, UDP_NO_CHECK6_TX),
  /**
   * `UDP_SEGMENT`: the kernel cuts what is sent into datagrams of this size; 0 is not at all. What it
   * then refuses fails: `sendSegments` does it for one call, and falls back.
   */
  segmentBytes: option("UDP_SEGMENT", IPPROTO_UDP, UDP_SEGMENT, U16),
  /** `UDPLITE_RECV_CSCOV`: how many bytes a checksum must cover; 0 is all, else from 8. */
  liteReceiveCoverageBytes: option("UDPLITE_RECV_CSCOV", UDPLITE, UDPLITE_RECV_CSCOV, U16),
  /** `UDPLITE_SEND_CSCOV`: how many bytes the checksum covers; 0 is all, else from 8. */
  liteSendCoverageBytes: option("UDPLITE_SEND_CSCOV", UDPLITE, UDPLITE_SEND_CSCOV, U16),
});

/**
 * Reads an option of a descriptor.
 *
 * @throws {TypeError} it is no option that can be read
 * @throws {SystemError} `ENOPROTOOPT`, `ENOTSUP` not on this kind of socket, or this kernel
 */
export function getOptionOf<Value>(fd: number, option: Option<Value, "get">): Value {
  return read(fd, readableOf(option)) as Value;
}

/**
 * Sets an option of a descriptor.
 *
 * @throws {TypeError} it is no option that can be set, or the value is of another type
 * @throws {RangeError} the value is out of bounds
 * @throws {SystemError} `ENOPROTOOPT`, `ENOTSUP` not on this kind of socket, or this kernel;
 * `EPERM`, `EACCES` it takes a right; `EINVAL` not in this state
 */
export function setOptionOf<Value>(
  descriptor: { readonly fd: number },
  option: Option<Value, "set">,
  value: NoInfer<Value>,
): void {
  write(descriptor, writableOf(option), value);
}

// Why the kernel has no value to show, where that is no failure.
const ABSENT: ReadonlySet<number> = new Set([
  ENOPROTOOPT, // This kernel, or this kind of socket, has no such option.
  EOPNOTSUPP, // The same, from other protocols.
  EINVAL, // Not in this state: TCP_QUEUE_SEQ outside of a repair.
  EPERM, // The same, or not without a right: TCP_REPAIR_WINDOW.
  ENOTCONN, // Not before there is a peer: IP_MTU.
  ENODATA, // There is nothing: SO_PEERGROUPS of a socket that is no Unix one.
]);

/**
 * Reads every option of a descriptor that its family and type can have, under the C names. See
 * `options.dump`.
 */
export function dumpOptionsOf(fd: number, domain: number, type: number): Record<string, unknown> {
  const isInet = domain === AF_INET || domain === AF_INET6;
  const groups: object[] = [SocketOption];
  // Elsewhere the numbers of these levels are those of other protocols.
  if (isInet) groups.push(IpOption);
  if (domain === AF_INET6) groups.push(Ipv6Option);
  if (isInet && type === SOCK_STREAM) groups.push(TcpOption);
  if (isInet && type === SOCK_DGRAM) groups.push(UdpOption);
  const values: Record<string, unknown> = {};
  for (const option of groups.flatMap((group) => Object.values(group))) {
    const definition = definitionOf(option);
    if (definition.access === "set" || !definition.harmless) continue;
    const answer = ask(fd, definition);
    if (typeof answer !== "number") {
      values[definition.name] = definition.codec.decode(answer.view, answer.length);
    } else if (!ABSENT.has(-answer)) {
      throw optionError(answer, "getsockopt", definition.name);
    }
  }
  return values;
}

/** What `options.dump` looks at: every socket of this library. */
export interface HasDescriptor {
  /** An open descriptor. */
  readonly descriptor: number;
}

/** What can be done with all options at once. */
export const options = Object.freeze({ dump });

/**
 * Reads every option that a socket has now, under its C name: to look at, or to compare two sockets.
 * The values are those of `getOption`. Changes nothing: `SO_ERROR` and `TCP_SAVED_SYN`, which
 * reading takes away, are left out, and so is the secret in `TCP_FASTOPEN_KEY`.
 *
 * @throws {ClosedError} the socket is closed
 *
 * @example What two sockets do not have in common
 * ```ts
 * import { options, UdpSocket } from "bun-sockets";
 *
 * using plain = UdpSocket.open("ipv4");
 * using shared = UdpSocket.open("ipv4", { reusePort: true });
 * const before = options.dump(plain);
 * for (const [name, value] of Object.entries(options.dump(shared))) {
 *   if (typeof value === "boolean" && value !== before[name]) console.log(name); // SO_REUSEPORT
 * }
 * ```
 */
function dump(socket: HasDescriptor): Record<string, unknown> {
  if (!(socket instanceof Object))
    throw new TypeError(`Cannot dump ${describe(socket)}: expected a socket`);
  const { descriptor } = socket;
  requireInteger(descriptor, -1, INT_MAX, "a descriptor");
  const domain = getOptionOf(descriptor, SocketOption.domain);
  return dumpOptionsOf(descriptor, domain, getOptionOf(descriptor, SocketOption.type));
}
