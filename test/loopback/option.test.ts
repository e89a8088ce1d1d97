/**
 * Every option on a socket that has it: set, read back, and compared. One row an option; a test
 * counts that none is without. Then the other way round: whatever this kernel answers to
 * getsockopt(2) is an option here, or stands in a table with the reason why not.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { release } from "node:os";
import * as sys from "bun-sockets/sys";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  accept4,
  bind,
  close,
  connect,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPERM,
  getsockname,
  getsockopt,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_RAW,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
  IPV6_RTHDR,
  listen,
  MSG_DONTWAIT,
  recvmsg,
  SO_BINDTODEVICE,
  SO_GET_FILTER,
  SO_INCOMING_CPU,
  SO_LINGER,
  SO_MEMINFO,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVTIMEO,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
  send,
  setsockopt,
  socket,
  socketpair,
  TCP_ESTABLISHED,
  TCP_ZEROCOPY_RECEIVE,
} from "bun-sockets/sys";
import { SystemError } from "../../lib/error.ts";
import { libc } from "../../lib/ffi/libc.ts";
import { addressOf } from "../../lib/ffi/memory.ts";
import * as newer from "../../lib/internal/option_constants.ts";
import {
  dumpOptionsOf,
  getOptionOf,
  getRawOptionOf,
  IpOption,
  Ipv6Option,
  type Option,
  options,
  type ReadableOption,
  SocketOption,
  setOptionOf,
  setRawOptionOf,
  TcpOption,
  UdpOption,
} from "../../lib/option.ts";
import { cmsghdr } from "../../structs/cmsghdr.ts";
import { iovec } from "../../structs/iovec.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { type Missing, requires, testIf } from "../support/require.ts";

const LOOPBACK_INDEX = 1;
const groups = { SocketOption, IpOption, Ipv6Option, TcpOption, UdpOption };
const allOptions = Object.values(groups).flatMap((group): ReadableOption<unknown>[] =>
  Object.values(group),
);

// The rights of this process, and what a row says when one is missing.
const held = BigInt(
  `0x${/^CapEff:\s*(\w+)/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]}`,
);
const CAPABILITIES = { CAP_NET_ADMIN: 12n, CAP_NET_RAW: 13n };

function requiresRight(name: keyof typeof CAPABILITIES): Missing {
  return held & (1n << CAPABILITIES[name]) ? undefined : `needs ${name}`;
}

const admin = requiresRight("CAP_NET_ADMIN");
const raw = requiresRight("CAP_NET_RAW");
// Some options ask for the right over the whole machine, which a user namespace does not give.
const wholeMachine = / 4294967295$/m.test(readFileSync("/proc/self/uid_map", "utf8"));
const hostAdmin = admin ?? (wholeMachine ? undefined : "needs CAP_NET_ADMIN over the machine");

/** Some open sockets: the first is the one to test. */
class Sockets implements Disposable {
  readonly fds: number[] = [];

  open(domain: number, type: number, protocol = 0): number {
    const fd = socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0) throw new SystemError(fd, "socket");
    this.fds.push(fd);
    return fd;
  }

  pair(type: number): void {
    const pair = new Int32Array(2);
    expect(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)).toBe(0);
    this.fds.push(...pair);
  }

  get fd(): number {
    return this.fds[0] as number;
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds) close(fd);
  }
}

function loopback4(): Uint8Array {
  const view = new DataView(new ArrayBuffer(sockaddr_in.size));
  sockaddr_in.sin_family.set(view, 0, AF_INET);
  sockaddr_in.sin_addr.set(view, 0, 0x7f000001);
  return new Uint8Array(view.buffer);
}

function nameOf(fd: number): Uint8Array {
  const name = new Uint8Array(128);
  const length = new Uint32Array(1);
  expect(getsockname(fd, name, length)).toBe(0);
  return name.slice(0, length[0]);
}

/** A listener of TCP over IPv4. */
function listener(sockets: Sockets): number {
  const fd = sockets.open(AF_INET, SOCK_STREAM);
  expect(bind(fd, loopback4())).toBe(0);
  expect(listen(fd, 5)).toBe(0);
  return fd;
}

function connected(sockets: Sockets, domain: number, address: (listener: number) => Uint8Array) {
  const fd = sockets.open(domain, SOCK_STREAM);
  const server = listener(sockets);
  // Loopback: the connection is there before connect(2) returns, whatever it says.
  connect(fd, address(server));
  const accepted = accept4(server, new Uint8Array(128), new Uint32Array(1), SOCK_CLOEXEC);
  expect(accepted).toBeGreaterThan(0);
  sockets.fds.push(accepted);
}

/** The IPv4-mapped form of a listener's address. */
function mapped(fd: number): Uint8Array {
  const from = new DataView(nameOf(fd).buffer);
  const view = new DataView(new ArrayBuffer(sockaddr_in6.size));
  sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
  sockaddr_in6.sin6_port.set(view, 0, sockaddr_in.sin_port.get(from, 0));
  view.setUint16(sockaddr_in6.sin6_addr.offset + 10, 0xffff);
  view.setUint32(sockaddr_in6.sin6_addr.offset + 12, sockaddr_in.sin_addr.get(from, 0));
  return new Uint8Array(view.buffer);
}

// What a row is tested on. Each makes its sockets anew, the one to test first.
const KINDS = {
  udp4: (sockets) => sockets.open(AF_INET, SOCK_DGRAM),
  udp6: (sockets) => sockets.open(AF_INET6, SOCK_DGRAM),
  udpConnected: (sockets) => {
    const fd = sockets.open(AF_INET, SOCK_DGRAM);
    expect(connect(fd, Uint8Array.of(...loopback4().with(3, 9)))).toBe(0);
  },
  udp6Connected: (sockets) => {
    const fd = sockets.open(AF_INET6, SOCK_DGRAM);
    const view = new DataView(new ArrayBuffer(sockaddr_in6.size));
    sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
    sockaddr_in6.sin6_port.set(view, 0, 9);
    view.setUint8(sockaddr_in6.sin6_addr.offset + 15, 1);
    expect(connect(fd, view)).toBe(0);
  },
  udpLite: (sockets) => sockets.open(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE),
  tcp4: (sockets) => sockets.open(AF_INET, SOCK_STREAM),
  tcp6: (sockets) => sockets.open(AF_INET6, SOCK_STREAM),
  tcpListening: listener,
  tcpConnected: (sockets) => connected(sockets, AF_INET, nameOf),
  tcpMapped: (sockets) => connected(sockets, AF_INET6, mapped),
  tcpRepairing: (sockets) => {
    const fd = sockets.open(AF_INET, SOCK_STREAM);
    setOptionOf({ fd }, TcpOption.repair, true);
    setOptionOf({ fd }, TcpOption.repairQueue, "send");
  },
  unixStream: (sockets) => sockets.pair(SOCK_STREAM),
  unixDatagram: (sockets) => sockets.pair(SOCK_DGRAM),
  unixSeqpacket: (sockets) => sockets.pair(SOCK_SEQPACKET),
  rawIcmp: (sockets) => sockets.open(AF_INET, SOCK_RAW, IPPROTO_ICMP),
  rawIcmp6: (sockets) => sockets.open(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
  rawUdp6: (sockets) => sockets.open(AF_INET6, SOCK_RAW, IPPROTO_UDP),
  raw6: (sockets) => sockets.open(AF_INET6, SOCK_RAW, IPPROTO_RAW),
} as const satisfies Record<string, (sockets: Sockets) => unknown>;

type Kind = keyof typeof KINDS;

const KIND_NAMES = Object.keys(KINDS) as Kind[];

function make(kind: Kind): Sockets {
  const sockets = new Sockets();
  try {
    KINDS[kind](sockets);
    return sockets;
  } catch (error) {
    sockets[Symbol.dispose]();
    throw error;
  }
}

/** Why sockets of a kind cannot be had here. */
function missingKind(kind: Kind): Missing {
  if (kind.startsWith("raw")) return raw;
  if (kind === "tcpRepairing") return admin;
  if (kind !== "udpLite") return undefined;
  const fd = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
  close(fd);
  return fd < 0 ? "needs UDP-Lite in the kernel" : undefined;
}

// The kernels from which on there are options newer than Linux 5.10.
const SINCE: Readonly<Record<string, readonly [major: number, minor: number]>> = {
  SO_PREFER_BUSY_POLL: [5, 11],
  SO_BUSY_POLL_BUDGET: [5, 11],
  SO_BUF_LOCK: [5, 14],
  SO_NETNS_COOKIE: [5, 14],
  SO_RESERVE_MEM: [5, 16],
  SO_TXREHASH: [5, 18],
  SO_RCVMARK: [5, 19],
  IP_LOCAL_PORT_RANGE: [6, 3],
  IP_PROTOCOL: [6, 4],
  SO_PASSPIDFD: [6, 5],
  TCP_IS_MPTCP: [6, 10],
  SO_RCVPRIORITY: [6, 14],
  TCP_RTO_MAX_MS: [6, 15],
  TCP_RTO_MIN_US: [6, 15],
  TCP_DELACK_MAX_US: [6, 15],
  SO_PASSRIGHTS: [6, 16],
  SO_INQ: [6, 17],
};

const [kernelMajor = 0, kernelMinor = 0] = release().split(".").map(Number);

/** An older kernel says that it does not have the option. */
function runOnThisKernel(name: string, run: () => void): void {
  const [major, minor] = SINCE[name] ?? [0, 0];
  if (kernelMajor > major || (kernelMajor === major && kernelMinor >= minor)) {
    run();
    return;
  }
  const { errno } = thrownBy(run) as SystemError;
  expect([-ENOPROTOOPT, -EOPNOTSUPP]).toContain(errno);
}

interface Row {
  readonly option: { readonly name: string };
  readonly name: string;
  readonly missing: Missing;
  readonly run: () => void;
}

/** One option that is set to another value than its first, and then has it. */
function both<Value>(
  option: Option<Value, "get set">,
  kind: Kind,
  wanted: NoInfer<Value>,
  missing?: Missing,
): Row {
  return {
    option,
    name: `${option.name} is set and read on ${kind}`,
    missing: missing ?? missingKind(kind),
    run: () => {
      using sockets = make(kind);
      expect(getOptionOf(sockets.fd, option)).not.toEqual(wanted);
      setOptionOf(sockets, option, wanted);
      expect(getOptionOf(sockets.fd, option)).toEqual(wanted);
    },
  };
}

/** One option that is set to something else, then to its first value again. */
function toggled<Value>(
  option: Option<Value, "get set">,
  kind: Kind,
  wanted: NoInfer<Value>,
  missing?: Missing,
): Row {
  const { run, ...row } = both(option, kind, wanted, missing);
  return {
    ...row,
    run: () => {
      run();
      using sockets = make(kind);
      const first = getOptionOf(sockets.fd, option);
      setOptionOf(sockets, option, wanted);
      setOptionOf(sockets, option, first);
      expect(getOptionOf(sockets.fd, option)).toEqual(first);
    },
  };
}

/** One option that is only read, or that needs more than a row, with a test of its own. */
function own(
  option: { readonly name: string },
  kind: Kind,
  what: string,
  run: (sockets: Sockets) => void,
  missing?: Missing,
): Row {
  return {
    option,
    name: `${option.name} ${what}`,
    missing: missing ?? missingKind(kind),
    run: () => {
      using sockets = make(kind);
      run(sockets);
    },
  };
}

/** One option that is only read, and what it says. */
function get<Value>(
  option: Option<Value, "get">,
  kind: Kind,
  expected: NoInfer<Value> | ((value: Value) => void),
): Row {
  const run = ({ fd }: Sockets) => {
    const value = getOptionOf(fd, option);
    if (expected instanceof Function) expected(value);
    else expect(value).toEqual(expected);
  };
  return own(option, kind, `is read on ${kind}`, run);
}

/** The call fails with an errno. */
function expectErrno(errno: number, call: () => unknown): void {
  let code = 0;
  try {
    call();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    code = -error.errno;
  }
  expect(code).toBe(errno);
}

function sysctl(path: string): string {
  return readFileSync(`/proc/sys/${path}`, "utf8").trim();
}

const loMtu = Number(readFileSync("/sys/class/net/lo/mtu", "utf8"));
const congestion = sysctl("net/ipv4/tcp_congestion_control") === "reno" ? "cubic" : "reno";
// One segment, ::1, of a segment routing header, which is of type 4. See RFC 8754.
const routing = Uint8Array.of(0, 2, 4, 0, 0, 0, 0, 0, ...new Uint8Array(15), 1);
// Four bytes of padding in an options header. See RFC 8200.
const padding = Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0);

const S = SocketOption;
const socketRows: readonly Row[] = [
  get(S.acceptsConnections, "tcpListening", true),
  both(S.bindToDevice, "udp4", "lo"),
  both(S.bindToInterfaceIndex, "udp4", LOOPBACK_INDEX),
  // SKF_AD_MAX of linux/filter.h.
  get(S.filterExtensions, "udp4", (count) => expect(count).toBeGreaterThanOrEqual(64)),
  toggled(S.broadcast, "udp4", true),
  toggled(S.bufferLock, "udp4", 3),
  both(S.busyPollMs, "udp4", 0.05, admin),
  own(
    S.busyPollBudget,
    "udp4",
    "is set",
    ({ fd }) => setOptionOf({ fd }, S.busyPollBudget, 16),
    hostAdmin,
  ),
  own(S.cookie, "udp4", "is another number for each socket", ({ fd }) => {
    using other = make("udp4");
    const cookie = getOptionOf(fd, S.cookie);
    expect(cookie).toBeGreaterThan(0n);
    expect(getOptionOf(fd, S.cookie)).toBe(cookie);
    expect(getOptionOf(other.fd, S.cookie)).not.toBe(cookie);
  }),
  toggled(S.debug, "udp4", true, hostAdmin),
  get(S.domain, "udp6", AF_INET6),
  toggled(S.dontRoute, "udp4", true),
  own(S.error, "udpConnected", "is read once", ({ fd }) => {
    // Nobody listens at port 9.
    send(fd, new Uint8Array(1), 0);
    expect(getOptionOf(fd, S.error)).toBe(sys.ECONNREFUSED);
    expect(getOptionOf(fd, S.error)).toBe(0);
  }),
  both(S.incomingCpu, "udp4", 0),
  get(S.incomingNapiId, "tcpConnected", 0),
  own(S.inQueue, "unixStream", "tells how much is left", ({ fds: [fd = -1, peer = -1] }) => {
    setOptionOf({ fd }, S.inQueue, true);
    expect(send(peer, new Uint8Array(5), 0)).toBe(5);
    expect(receivedInt(fd, 3)).toEqual({ level: SOL_SOCKET, type: newer.SO_INQ, value: 2 });
  }),
  toggled(S.keepAlive, "tcp4", true),
  toggled(S.lingerMs, "tcp4", 5000),
  both(S.lockFilter, "udp4", true),
  toggled(S.mark, "udp4", 0xfedcba98, admin),
  toggled(S.maxPacingBytesPerSecond, "tcp4", 5_000_000_000),
  own(S.memoryInfo, "unixDatagram", "counts what waits", ({ fds: [fd = -1, peer = -1] }) => {
    expect(getOptionOf(peer, S.memoryInfo).sendUsedBytes).toBe(0);
    expect(send(peer, new Uint8Array(100), 0)).toBe(100);
    const { sendUsedBytes, ...info } = getOptionOf(peer, S.memoryInfo);
    expect(sendUsedBytes).toBeGreaterThan(100);
    expect(info).toEqual({
      receiveUsedBytes: 0,
      receiveLimitBytes: 2 * getOptionOf(fd, S.receiveBufferBytes),
      sendLimitBytes: 2 * getOptionOf(fd, S.sendBufferBytes),
      reservedBytes: 0,
      sendQueuedBytes: 0,
      optionBytes: 0,
      backlogBytes: 0,
      dropCount: 0,
    });
  }),
  own(S.netnsCookie, "udp4", "is the same for two sockets", ({ fd }) => {
    using other = make("tcp6");
    expect(getOptionOf(fd, S.netnsCookie)).toBe(getOptionOf(other.fd, S.netnsCookie));
  }),
  toggled(S.noChecksum, "udp4", true),
  toggled(S.noFrameChecksum, "udp4", true),
  toggled(S.oobInline, "tcp4", true),
  toggled(S.passCredentials, "unixDatagram", true),
  toggled(S.passProcessDescriptor, "unixDatagram", true),
  toggled(S.passRights, "unixDatagram", false),
  toggled(S.passSecurity, "unixDatagram", true),
  toggled(S.peekOffset, "unixDatagram", 3),
  own(S.peerCredentials, "unixStream", "is this process, or nobody", ({ fd }) => {
    expect(getOptionOf(fd, S.peerCredentials)).toEqual({
      processId: process.pid,
      userId: process.getuid?.() ?? -1,
      groupId: process.getgid?.() ?? -1,
    });
    using other = make("udp4");
    expect(getOptionOf(other.fd, S.peerCredentials)).toBeUndefined();
  }),
  get(S.peerGroups, "unixStream", (list) => {
    const numbers = /^Groups:(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "";
    const expected = numbers.split(/\s+/).filter(Boolean).map(Number);
    expect(list.toSorted()).toEqual(expected.toSorted());
  }),
  own(S.peerSecurity, "unixStream", "is text, or not there", ({ fd }) => {
    try {
      expect(getOptionOf(fd, S.peerSecurity)).not.toContain("\0");
    } catch (error) {
      expect(`${error}`).toContain("getsockopt ENOPROTOOPT SO_PEERSEC");
    }
  }),
  toggled(S.preferBusyPoll, "udp4", true, hostAdmin),
  toggled(S.priority, "udp4", 7, admin),
  get(S.protocol, "tcp4", IPPROTO_TCP),
  both(S.receiveBufferBytes, "udp4", 65_536),
  toggled(S.receiveLowWaterBytes, "tcp4", 100),
  toggled(S.receiveMark, "udp4", true, raw),
  toggled(S.receivePriority, "udp4", true, raw),
  toggled(S.receiveQueueOverflow, "udp4", true),
  toggled(S.receiveTimeoutMs, "udp4", 2600),
  own(S.reserveMemoryBytes, "tcp4", "is set, where memory is accounted", ({ fd }) => {
    expect(getOptionOf(fd, S.reserveMemoryBytes)).toBe(0);
    try {
      setOptionOf({ fd }, S.reserveMemoryBytes, 4096);
      expect(getOptionOf(fd, S.reserveMemoryBytes)).toBe(4096);
    } catch (error) {
      expect((error as SystemError).errno).toBe(-EOPNOTSUPP);
    }
  }),
  toggled(S.reuseAddress, "tcp4", true),
  toggled(S.reusePort, "udp4", true),
  toggled(S.rehash, "tcp4", false),
  toggled(S.selectErrorQueue, "udp4", true),
  both(S.sendBufferBytes, "udp4", 65_536),
  get(S.sendLowWaterBytes, "tcp4", 1),
  toggled(S.sendTimeoutMs, "tcp4", 1000),
  toggled(S.timestamp, "udp4", true),
  // SOF_TIMESTAMPING_RX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE of linux/net_tstamp.h.
  toggled(S.timestamping, "udp4", (1 << 3) | (1 << 4)),
  toggled(S.timestampNs, "udp4", true),
  // CLOCK_MONOTONIC of linux/time.h.
  both(S.transmitTime, "udp4", { clockId: 1, flags: 3 }),
  get(S.type, "unixSeqpacket", SOCK_SEQPACKET),
  toggled(S.wifiStatus, "udp4", true),
  toggled(S.zeroCopy, "tcp4", true),
];

const I = IpOption;
const ipRows: readonly Row[] = [
  both(I.icmpFilter, "rawIcmp", { pass: ["echoReply", 30] }),
  toggled(I.bindAddressNoPort, "tcp4", true),
  toggled(I.freeBind, "udp4", true),
  both(I.headerIncluded, "rawIcmp", true),
  toggled(I.localPortRange, "tcp4", { low: 40_000, high: 50_000 }),
  toggled(I.minTtl, "tcp4", 255),
  // No IPv4 packet is longer than its length field can say.
  get(I.mtu, "tcpConnected", Math.min(loMtu, 65_535)),
  toggled(I.mtuDiscover, "udp4", "do"),
  toggled(I.multicastAll, "udp4", false),
  toggled(I.multicastInterface, "udp4", "127.0.0.1"),
  own(I.multicastInterfaceIndex, "udp4", "is set by index", ({ fd }) => {
    setOptionOf({ fd }, I.multicastInterfaceIndex, LOOPBACK_INDEX);
    expectErrno(EADDRNOTAVAIL, () => setOptionOf({ fd }, I.multicastInterfaceIndex, 999_999));
  }),
  toggled(I.multicastLoop, "udp4", false),
  toggled(I.multicastTtl, "udp4", 255),
  toggled(I.noDefragment, "rawIcmp", true),
  // Three times nothing, and the end of the list. See RFC 791.
  toggled(I.options, "udp4", Uint8Array.of(1, 1, 1, 0)),
  get(I.packetOptions, "tcp4", new Uint8Array(0)),
  toggled(I.passSecurity, "udp4", true),
  get(I.protocol, "rawIcmp", IPPROTO_ICMP),
  toggled(I.receiveChecksum, "udp4", true),
  toggled(I.receiveErrors, "udp4", true),
  toggled(I.receiveErrorsRfc4884, "udp4", true),
  toggled(I.receiveFragmentSize, "udp4", true),
  toggled(I.receiveOptions, "udp4", true),
  toggled(I.receiveOriginalDestination, "udp4", true),
  toggled(I.receivePacketInfo, "udp4", true),
  toggled(I.receiveReturnedOptions, "udp4", true),
  toggled(I.receiveTos, "udp4", true),
  toggled(I.receiveTtl, "udp4", true),
  toggled(I.routerAlert, "rawIcmp", true),
  toggled(I.tos, "udp4", 0xb8),
  toggled(I.transparent, "tcp4", true, admin && raw),
  toggled(I.ttl, "udp4", 7),
  toggled(I.unicastInterfaceIndex, "udp4", LOOPBACK_INDEX),
];

const I6 = Ipv6Option;
const ipv6Rows: readonly Row[] = [
  both(I6.icmpFilter, "rawIcmp6", { block: [0, "echoRequest", "redirect", 255] }),
  own(I6.addressForm, "tcpMapped", "makes an IPv4 socket of one that carries IPv4", ({ fd }) => {
    expect(getOptionOf(fd, S.domain)).toBe(AF_INET6);
    setOptionOf({ fd }, I6.addressForm, "ipv4");
    expect(getOptionOf(fd, S.domain)).toBe(AF_INET);
  }),
  // IPV6_PREFER_SRC_HOME is always on; IPV6_PREFER_SRC_TMP with it.
  both(I6.addressPreferences, "udp6", 0x401),
  toggled(I6.autoFlowLabel, "udp6", sysctl("net/ipv6/auto_flowlabels") !== "1"),
  both(I6.checksumOffset, "rawUdp6", 6),
  toggled(I6.destinationOptions, "udp6", padding, raw),
  toggled(I6.dontFragment, "udp6", true),
  toggled(I6.freeBind, "udp6", true),
  both(I6.headerIncluded, "rawIcmp6", true),
  toggled(I6.hopOptions, "udp6", padding, raw),
  toggled(I6.minHopCount, "tcp6", 255),
  own(I6.mtu, "udp6Connected", "is read of the path, and set for fragments", ({ fd }) => {
    expect(getOptionOf(fd, I6.mtu)).toBe(loMtu);
    setOptionOf({ fd }, I6.mtu, 1280);
    // RFC 8200: no link has an MTU below 1280.
    expectErrno(EINVAL, () => setOptionOf({ fd }, I6.mtu, 1279));
  }),
  toggled(I6.mtuDiscover, "udp6", "probe"),
  toggled(I6.multicastAll, "udp6", false),
  toggled(I6.multicastHops, "udp6", 255),
  toggled(I6.multicastInterfaceIndex, "udp6", LOOPBACK_INDEX),
  toggled(I6.multicastLoop, "udp6", false),
  get(I6.pathMtu, "udp6Connected", loMtu),
  toggled(I6.receiveDestinationOptions, "udp6", true),
  toggled(I6.receiveErrors, "udp6", true),
  toggled(I6.receiveErrorsRfc4884, "udp6", true),
  toggled(I6.receiveFlowInfo, "udp6", true),
  toggled(I6.receiveFragmentSize, "udp6", true),
  toggled(I6.receiveHopLimit, "udp6", true),
  toggled(I6.receiveHopOptions, "udp6", true),
  toggled(I6.receiveOriginalDestination, "udp6", true),
  toggled(I6.receivePacketInfo, "udp6", true),
  toggled(I6.receivePathMtu, "udp6", true),
  toggled(I6.receiveRoutingHeader, "udp6", true),
  toggled(I6.receiveTrafficClass, "udp6", true),
  own(I6.routerAlert, "raw6", "is taken once and given back", ({ fd }) => {
    setOptionOf({ fd }, I6.routerAlert, 5);
    expectErrno(EADDRINUSE, () => setOptionOf({ fd }, I6.routerAlert, 5));
    setOptionOf({ fd }, I6.routerAlert, -1);
    setOptionOf({ fd }, I6.routerAlert, 0);
  }),
  toggled(I6.routerAlertIsolate, "udp6", true),
  toggled(I6.routingDestinationOptions, "udp6", padding, raw),
  toggled(I6.routingHeader, "udp6", routing),
  toggled(I6.sendFlowInfo, "udp6", true),
  toggled(I6.trafficClass, "udp6", 0xb8),
  toggled(I6.transparent, "tcp6", true, admin && raw),
  toggled(I6.unicastHops, "udp6", 7),
  toggled(I6.unicastInterfaceIndex, "udp6", LOOPBACK_INDEX),
  both(I6.v6Only, "udp6", sysctl("net/ipv6/bindv6only") === "0"),
];

const T = TcpOption;
const tcpRows: readonly Row[] = [
  both(T.congestion, "tcp4", congestion),
  own(T.congestionInfo, "tcpConnected", "depends on the congestion control", ({ fd }) => {
    setOptionOf({ fd }, T.congestion, "reno");
    expect(getOptionOf(fd, T.congestionInfo)).toEqual(new Uint8Array(0));
  }),
  toggled(T.cork, "tcp4", true),
  // The series of timeouts: one second, then two more, then four.
  toggled(T.deferAcceptMs, "tcp4", 7000),
  toggled(T.delayedAckMaxMs, "tcp4", 100),
  both(T.fastOpenQueueLength, "tcp4", 5),
  toggled(T.fastOpenConnect, "tcp4", true),
  both(
    T.fastOpenKey,
    "tcp4",
    Uint8Array.from({ length: 16 }, (_, index) => index),
  ),
  toggled(T.fastOpenNoCookie, "tcp4", true),
  get(T.info, "tcpConnected", (info) => {
    expect(info.length).toBeGreaterThan(100);
    expect(info[0]).toBe(TCP_ESTABLISHED);
  }),
  toggled(T.inQueue, "tcp4", true),
  toggled(T.keepAliveCount, "tcp4", 3),
  toggled(T.keepAliveIdleMs, "tcp4", 32_000),
  toggled(T.keepAliveIntervalMs, "tcp4", 12_000),
  both(T.linger2Ms, "tcp4", undefined),
  toggled(T.maxSegmentBytes, "tcp4", 1000),
  get(T.multipath, "tcp4", false),
  toggled(T.noDelay, "tcp4", true),
  toggled(T.notSentLowWaterBytes, "tcp4", 3_000_000_000),
  both(T.queueSequence, "tcpRepairing", 4_000_000_000),
  both(T.quickAck, "tcp4", false),
  toggled(T.repair, "tcp4", true, admin),
  toggled(T.repairQueue, "tcpRepairing", "receive"),
  // snd_wl1, snd_wnd, max_window, rcv_wnd and rcv_wup.
  both(
    T.repairWindow,
    "tcpRepairing",
    new Uint8Array(Uint32Array.of(0, 1000, 2000, 3000, 0).buffer),
  ),
  toggled(T.retransmitMaxMs, "tcp4", 5000),
  toggled(T.retransmitMinMs, "tcp4", 100),
  own(T.savedSyn, "tcp4", "is read once", (sockets) => {
    const server = listener(sockets);
    setOptionOf({ fd: server }, T.saveSyn, 1);
    connect(sockets.fd, nameOf(server));
    const accepted = accept4(server, new Uint8Array(128), new Uint32Array(1), SOCK_CLOEXEC);
    sockets.fds.push(accepted);
    const headers = getOptionOf(accepted, T.savedSyn);
    // Version 4, and TCP.
    expect([(headers[0] ?? 0) >> 4, headers[9]]).toEqual([4, IPPROTO_TCP]);
    expect(getOptionOf(accepted, T.savedSyn)).toEqual(new Uint8Array(0));
  }),
  toggled(T.saveSyn, "tcp4", 1),
  toggled(T.synRetries, "tcp4", 2),
  toggled(T.thinLinearTimeouts, "tcp4", true),
  own(T.timestamp, "tcpRepairing", "runs on from where it is set", ({ fd }) => {
    setOptionOf({ fd }, T.timestamp, 3_000_000_000);
    const elapsed = getOptionOf(fd, T.timestamp) - 3_000_000_000;
    expect(elapsed).toBeGreaterThanOrEqual(0);
    expect(elapsed).toBeLessThan(1_000_000);
  }),
  toggled(T.transmitDelayMs, "tcp4", 1.5),
  own(T.upperLayerProtocol, "tcp4", "is none, and no other than there are", ({ fd }) => {
    expect(getOptionOf(fd, T.upperLayerProtocol)).toBe("");
    expectErrno(ENOENT, () => setOptionOf({ fd }, T.upperLayerProtocol, "no-such-thing"));
  }),
  toggled(T.userTimeoutMs, "tcp4", 12_345),
  both(T.windowClampBytes, "tcp4", 10_000),
];

const U = UdpOption;
const udpRows: readonly Row[] = [
  toggled(U.cork, "udp4", true),
  both(U.encapsulation, "udp4", sys.UDP_ENCAP_L2TPINUDP),
  toggled(U.gro, "udp4", true),
  both(U.liteReceiveCoverageBytes, "udpLite", 20),
  both(U.liteSendCoverageBytes, "udpLite", 20),
  toggled(U.noCheck6Rx, "udp6", true),
  toggled(U.noCheck6Tx, "udp6", true),
  toggled(U.segmentBytes, "udp4", 1200),
];

const rows = [...socketRows, ...ipRows, ...ipv6Rows, ...tcpRows, ...udpRows];

describe("getOption() and setOption()", () => {
  for (const { option, name, missing, run } of rows) {
    testIf(missing)(name, () => runOnThisKernel(option.name, run));
  }

  test("have a row for every option", () => {
    const tested = rows.map(({ option }) => option);
    expect(allOptions.filter((option) => !tested.includes(option))).toEqual([]);
    expect(new Set(tested).size).toBe(tested.length);
    expect(tested.length).toBe(allOptions.length);
  });
});

/** Receives some bytes and the one control message with an int that comes with them. */
function receivedInt(fd: number, length: number): object {
  const memory = new DataView(new ArrayBuffer(256));
  const at = { vector: 64, control: 96, payload: 192 };
  const address = addressOf(memory);
  iovec.iov_base.set(memory, at.vector, address + at.payload);
  iovec.iov_len.set(memory, at.vector, length);
  msghdr.msg_iov.set(memory, 0, address + at.vector);
  msghdr.msg_iovlen.set(memory, 0, 1);
  msghdr.msg_control.set(memory, 0, address + at.control);
  msghdr.msg_controllen.set(memory, 0, at.payload - at.control);
  expect(recvmsg(fd, memory, MSG_DONTWAIT)).toBe(length);
  return {
    level: cmsghdr.cmsg_level.get(memory, at.control),
    type: cmsghdr.cmsg_type.get(memory, at.control),
    value: memory.getInt32(at.control + cmsghdr.size, true),
  };
}

describe("setOption()", () => {
  test("gives every int its sign", () => {
    using sockets = make("udp4");
    setOptionOf(sockets, S.peekOffset, 5);
    setOptionOf(sockets, S.peekOffset, -1);
    expect(getOptionOf(sockets.fd, S.peekOffset)).toBe(-1);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_INCOMING_CPU)).toBe(-1);
  });

  test("lets -1 give the system's own TTL back", () => {
    using sockets = make("udp6");
    setOptionOf(sockets, I.ttl, 3);
    setOptionOf(sockets, I6.unicastHops, 3);
    setOptionOf(sockets, I.ttl, -1);
    setOptionOf(sockets, I6.unicastHops, -1);
    expect(getOptionOf(sockets.fd, I.ttl)).toBe(Number(sysctl("net/ipv4/ip_default_ttl")));
    expect(getOptionOf(sockets.fd, I6.unicastHops)).toBe(
      Number(sysctl("net/ipv6/conf/all/hop_limit")),
    );
  });

  test("tells linger off, a reset and a wait apart, as struct linger has them", () => {
    using sockets = make("tcp4");
    const lingerOf = () => [
      ...new Int32Array(
        (getRawOptionOf(sockets.fd, SOL_SOCKET, SO_LINGER, 8) as Uint8Array).buffer,
      ),
    ];
    for (const [wanted, layout] of [
      [0, [1, 0]],
      [3000, [1, 3]],
      // The kernel leaves the seconds as they were.
      [undefined, [0, 3]],
    ] as const) {
      setOptionOf(sockets, S.lingerMs, wanted);
      expect(lingerOf()).toEqual([...layout]);
      expect(getOptionOf(sockets.fd, S.lingerMs)).toBe(wanted);
    }
  });

  test("lays a timeout out as struct timeval, and rounds as the kernel does", () => {
    using sockets = make("udp4");
    setOptionOf(sockets, S.receiveTimeoutMs, 2600);
    const bytes = getRawOptionOf(sockets.fd, SOL_SOCKET, SO_RCVTIMEO, 16) as Uint8Array;
    expect([...new BigInt64Array(bytes.buffer)]).toEqual([2n, 600_000n]);
    setOptionOf(sockets, S.receiveTimeoutMs, 0.001);
    // A tick of the kernel is 1 to 10 ms.
    expect(getOptionOf(sockets.fd, S.receiveTimeoutMs)).toBeGreaterThanOrEqual(1);
    expect(getOptionOf(sockets.fd, S.receiveTimeoutMs)).toBeLessThanOrEqual(10);
  });

  // Taking a socket off its interface needs more than binding it.
  testIf(raw)("takes text up to the last byte, and an empty one", () => {
    using sockets = make("udp4");
    expectErrno(ENODEV, () => setOptionOf(sockets, S.bindToDevice, "fifteen-letters"));
    setOptionOf(sockets, S.bindToDevice, "lo");
    setOptionOf(sockets, S.bindToDevice, "");
    expect(getOptionOf(sockets.fd, S.bindToDevice)).toBe("");
  });

  test("hands bytes over from where they lie", () => {
    using sockets = make("udp4");
    const record = Uint8Array.of(9, 9, 1, 1, 1, 0, 9, 9);
    setOptionOf(sockets, I.options, record.subarray(2, 6));
    expect(getOptionOf(sockets.fd, I.options)).toEqual(Uint8Array.of(1, 1, 1, 0));
  });

  test("gives each reader bytes of its own", () => {
    using sockets = make("tcpConnected");
    const first = getOptionOf(sockets.fd, T.info);
    const copy = first.slice();
    expect(getOptionOf(sockets.fd, S.memoryInfo).receiveLimitBytes).toBeGreaterThan(0);
    setOptionOf(sockets, S.lingerMs, 77_000);
    expect(first).toEqual(copy);
    first.fill(0xa5);
    expect(getOptionOf(sockets.fd, I.options)).toEqual(new Uint8Array(0));
  });

  test("says which option the kernel refused, and what may be the reason", () => {
    using sockets = make("udp4");
    for (const [call, message, hint] of [
      [
        () => getOptionOf(sockets.fd, T.noDelay),
        "getsockopt ENOTSUP TCP_NODELAY: operation not supported on socket",
        "Sockets of this kind, or this kernel, do not have the option",
      ],
      [
        () => setOptionOf(sockets, I6.v6Only, true),
        "setsockopt ENOPROTOOPT IPV6_V6ONLY: protocol not available",
        "Sockets of this kind, or this kernel, do not have the option",
      ],
      [
        () => getOptionOf(sockets.fd, I.mtu),
        "getsockopt ENOTCONN IP_MTU: socket is not connected",
        "The option has a value once the socket is connected",
      ],
    ] as const) {
      const error = thrownBy(call) as SystemError;
      expect(error).toBeInstanceOf(SystemError);
      expect(error.message).toBe(message);
      expect(error.hint).toBe(hint);
    }
  });

  test("says what a missing right is called", () => {
    using sockets = make("udp4");
    using _fault = replaceEntry("setsockopt", () => failWith(EPERM));
    const error = thrownBy(() => setOptionOf(sockets, S.mark, 1)) as SystemError;
    expect(error.message).toBe("setsockopt EPERM SO_MARK: operation not permitted");
    expect(error.hint).toStartWith("It takes CAP_NET_RAW or CAP_NET_ADMIN: run ");
    expect(error.option).toBe("SO_MARK");
    const other = thrownBy(() => setOptionOf(sockets, S.broadcast, true)) as SystemError;
    expect(other.hint).toBe("The option, or this value of it, takes CAP_NET_ADMIN or CAP_NET_RAW");
  });

  test("refuses a socket that is closed", () => {
    const sockets = make("udp4");
    sockets[Symbol.dispose]();
    expect(() => setOptionOf({ fd: -1 }, S.broadcast, true)).toThrow(
      "setsockopt EBADF SO_BROADCAST",
    );
    expect(() => getOptionOf(-1, S.broadcast)).toThrow("getsockopt EBADF SO_BROADCAST");
  });
});

function thrownBy(call: () => unknown): unknown {
  try {
    call();
  } catch (error) {
    return error;
  }
  return undefined;
}

describe.each([
  { option: S.receiveBufferBytes, force: SO_RCVBUFFORCE, plain: SO_RCVBUF, limit: "rmem_max" },
  { option: S.sendBufferBytes, force: SO_SNDBUFFORCE, plain: SO_SNDBUF, limit: "wmem_max" },
])("$option.name", ({ option, force, plain, limit }) => {
  const bytesMax = Number(sysctl(`net/core/${limit}`));

  test("is half of what the kernel reports", () => {
    using sockets = make("udp4");
    setOptionOf(sockets, option, 100_000);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, plain)).toBe(200_000);
    expect(getOptionOf(sockets.fd, option)).toBe(100_000);
  });

  testIf(hostAdmin)("knows no limit with the right to it", () => {
    using sockets = make("udp4");
    setOptionOf(sockets, option, bytesMax + 4096);
    expect(getOptionOf(sockets.fd, option)).toBe(bytesMax + 4096);
  });

  test("is cut off at the limit without that right", () => {
    using sockets = make("udp4");
    const names: number[] = [];
    const { setsockopt: real } = libc;
    using _fault = replaceEntry("setsockopt", (fd, level, name, value, length) => {
      names.push(name);
      return name === force ? failWith(EPERM) : real(fd, level, name, value, length);
    });
    setOptionOf(sockets, option, bytesMax + 4096);
    expect(names).toEqual([force, plain]);
    expect(getOptionOf(sockets.fd, option)).toBe(bytesMax);
  });

  test("reports what else goes wrong, and does not try again", () => {
    using sockets = make("udp4");
    using fault = replaceEntry("setsockopt", () => failWith(ENODEV));
    expect(() => setOptionOf(sockets, option, 4096)).toThrow(
      `setsockopt ENODEV ${option.name}: no such device`,
    );
    expect(fault.calls).toBe(1);
  });
});

describe("the raw form", () => {
  test("reads and sets an int, signed or unsigned", () => {
    using sockets = make("udp4");
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_PRIORITY, 5);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_PRIORITY)).toBe(5);
    expect(getOptionOf(sockets.fd, S.priority)).toBe(5);
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_INCOMING_CPU, 2 ** 32 - 1);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_INCOMING_CPU)).toBe(-1);
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_INCOMING_CPU, -1);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_INCOMING_CPU)).toBe(-1);
  });

  test("reads as many bytes as the kernel has, and no more than were asked for", () => {
    using sockets = make("udp4");
    const lengthOf = (length: number) =>
      (getRawOptionOf(sockets.fd, SOL_SOCKET, SO_MEMINFO, length) as Uint8Array).length;
    expect(lengthOf(1000)).toBeGreaterThanOrEqual(36);
    expect(lengthOf(8)).toBe(8);
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_TYPE, 4)).toEqual(Uint8Array.of(2, 0, 0, 0));
    expect(getRawOptionOf(sockets.fd, SOL_SOCKET, SO_TYPE, 2)).toEqual(Uint8Array.of(2, 0));
  });

  test("sets bytes of any view", () => {
    using sockets = make("tcp4");
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_LINGER, Int32Array.of(1, 7));
    expect(getOptionOf(sockets.fd, S.lingerMs)).toBe(7000);
    const view = new DataView(new ArrayBuffer(32), 8, 16);
    view.setBigInt64(0, 3n, true);
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_RCVTIMEO, view);
    expect(getOptionOf(sockets.fd, S.receiveTimeoutMs)).toBe(3000);
    setRawOptionOf(sockets.fd, IPPROTO_TCP, sys.TCP_CONGESTION, Buffer.from("reno"));
    expect(getOptionOf(sockets.fd, T.congestion)).toBe("reno");
  });

  testIf(raw)("passes NULL, with a length", () => {
    using sockets = make("udp6");
    setOptionOf(sockets, S.bindToDevice, "lo");
    setRawOptionOf(sockets.fd, SOL_SOCKET, SO_BINDTODEVICE, null, 0);
    expect(getOptionOf(sockets.fd, S.bindToDevice)).toBe("");
    setOptionOf(sockets, I6.routingHeader, routing);
    setRawOptionOf(sockets.fd, IPPROTO_IPV6, IPV6_RTHDR, null, 0);
    expect(getOptionOf(sockets.fd, I6.routingHeader)).toEqual(new Uint8Array(0));
    // At a length the kernel looks, and finds that there is nothing.
    expect(() => setRawOptionOf(sockets.fd, SOL_SOCKET, SO_BINDTODEVICE, null, 8)).toThrow(
      `setsockopt EFAULT ${SO_BINDTODEVICE} at level ${SOL_SOCKET}: bad address`,
    );
  });

  test("says which numbers the kernel refused", () => {
    using sockets = make("udp4");
    expect(() => getRawOptionOf(sockets.fd, SOL_SOCKET, 9999)).toThrow(
      "getsockopt ENOPROTOOPT 9999 at level 1: protocol not available",
    );
    // 4 bytes are no struct timeval.
    expect(() => setRawOptionOf(sockets.fd, SOL_SOCKET, SO_RCVTIMEO, 1)).toThrow(
      `setsockopt EINVAL ${SO_RCVTIMEO} at level ${SOL_SOCKET}: invalid argument`,
    );
  });
});

describe("what the kernel writes of an answer", () => {
  const GUARD_BYTES = 512;
  const INTACT = Buffer.alloc(GUARD_BYTES, 0xa5);

  /** Calls getsockopt(2) with a guard behind the room. Returns whether it stayed in the room. */
  function staysInRoom(fd: number, level: number, number: number, length: number): boolean {
    const memory = new Uint8Array(new ArrayBuffer(length + GUARD_BYTES)).fill(0xa5);
    const room = memory.subarray(0, length).fill(0);
    getsockopt(fd, level, number, room, new Uint32Array(1));
    return INTACT.equals(memory.subarray(length));
  }

  for (const kind of KIND_NAMES) {
    testIf(missingKind(kind))(`stays in its room, whatever the raw form takes, on ${kind}`, () => {
      using sockets = make(kind);
      let tried = 0;
      for (const { level } of LEVELS) {
        for (let number = 0; number < 256; number++) {
          if (!isTaken(level, number)) continue;
          for (const length of [1, 4, 8, 40]) {
            tried++;
            const stays = staysInRoom(sockets.fd, level, number, length);
            expect(stays, `${number} at level ${level}, ${length} bytes`).toBe(true);
          }
        }
      }
      expect(tried).toBeGreaterThan(4000);
    });
  }

  test("does not for SO_GET_FILTER, which is refused: the guard sees it", () => {
    using sockets = make("udp4");
    // BPF_RET, all of the packet: four struct sock_filter, and the struct sock_fprog of them.
    const filter = Uint32Array.from({ length: 8 }, (_, index) => (index % 2 ? 0xffff : 0x06));
    const program = new DataView(new ArrayBuffer(16));
    program.setUint16(0, 4, true);
    program.setBigUint64(8, BigInt(addressOf(filter.buffer)), true);
    expect(setsockopt(sockets.fd, SOL_SOCKET, sys.SO_ATTACH_FILTER, program)).toBe(0);
    expect(filter).toHaveLength(8);
    expect(staysInRoom(sockets.fd, SOL_SOCKET, SO_GET_FILTER, 4)).toBe(false);
    expect(isTaken(SOL_SOCKET, SO_GET_FILTER)).toBe(false);
  });
});

/** Whether the raw form takes the numbers, as far as it can tell without a socket. */
function isTaken(level: number, number: number): boolean {
  const error = thrownBy(() => getRawOptionOf(-1, level, number, 4));
  return !(error instanceof RangeError);
}

const NAMES = new Set(allOptions.map(({ name }) => name));

function dumpOf(fd: number): Record<string, unknown> {
  return dumpOptionsOf(fd, getOptionOf(fd, S.domain), getOptionOf(fd, S.type));
}

describe("options.dump()", () => {
  for (const kind of KIND_NAMES) {
    testIf(missingKind(kind))(`reads what getOption() reads, on ${kind}`, () => {
      using sockets = make(kind);
      const dumped = options.dump({ descriptor: sockets.fd });
      expect(Object.keys(dumped).length).toBeGreaterThan(40);
      for (const option of allOptions) {
        // These two count on.
        if (!(option.name in dumped) || ["TCP_INFO", "TCP_TIMESTAMP"].includes(option.name)) {
          continue;
        }
        if (option === (I.multicastInterfaceIndex as object)) continue;
        expect(getOptionOf(sockets.fd, option), option.name).toEqual(dumped[option.name]);
      }
      expect(Object.keys(dumped).filter((name) => !NAMES.has(name))).toEqual([]);
    });
  }

  test("leaves an error where it is", () => {
    using sockets = make("udpConnected");
    send(sockets.fd, new Uint8Array(1), 0);
    expect(dumpOf(sockets.fd)).not.toHaveProperty("SO_ERROR");
    expect(getOptionOf(sockets.fd, S.error)).toBe(sys.ECONNREFUSED);
  });

  test("leaves the first headers of a connection where they are, and the key of a listener", () => {
    using sockets = new Sockets();
    const server = listener(sockets);
    setOptionOf({ fd: server }, T.saveSyn, 1);
    const client = sockets.open(AF_INET, SOCK_STREAM);
    connect(client, nameOf(server));
    const accepted = accept4(server, new Uint8Array(128), new Uint32Array(1), SOCK_CLOEXEC);
    sockets.fds.push(accepted);
    expect(dumpOf(accepted)).not.toHaveProperty("TCP_SAVED_SYN");
    expect(getOptionOf(accepted, T.savedSyn).length).toBeGreaterThan(40);
    setOptionOf({ fd: server }, T.fastOpenKey, new Uint8Array(16).fill(7));
    expect(dumpOf(server)).not.toHaveProperty("TCP_FASTOPEN_KEY");
  });

  test("asks a Unix socket nothing about IP, whose numbers may mean something else there", () => {
    using sockets = make("unixDatagram");
    const levels = new Set<number>();
    const { getsockopt: real } = libc;
    using _fault = replaceEntry("getsockopt", (fd, level, name, value, length) => {
      levels.add(level);
      return real(fd, level, name, value, length);
    });
    dumpOf(sockets.fd);
    expect([...levels]).toEqual([SOL_SOCKET]);
  });

  test("reports what is no answer", () => {
    using sockets = make("udp4");
    using _fault = replaceEntry("getsockopt", () => failWith(sys.ENOMEM));
    expect(() => dumpOptionsOf(sockets.fd, AF_INET, SOCK_DGRAM)).toThrow(
      "getsockopt ENOMEM SO_ACCEPTCONN: not enough memory",
    );
  });
});

// Names that the kernel answers to and that are no options here, and why.
const EXCEPTIONS: Readonly<Record<string, string>> = {
  SO_BSDCOMPAT: "means nothing since Linux 2.2",
  SO_ERROR: "is an option, and reading it in a dump would clear it",
  SO_PEERNAME: "is getpeername(2)",
  SO_TIMESTAMP_NEW: "is SO_TIMESTAMP on 64-bit systems",
  SO_TIMESTAMPNS_NEW: "is SO_TIMESTAMPNS on 64-bit systems",
  SO_TIMESTAMPING_NEW: "is SO_TIMESTAMPING on 64-bit systems",
  SO_RCVTIMEO_NEW: "is SO_RCVTIMEO on 64-bit systems",
  SO_SNDTIMEO_NEW: "is SO_SNDTIMEO on 64-bit systems",
  IP_MSFILTER: "belongs to multicast membership",
  MCAST_MSFILTER: "belongs to multicast membership",
  IPV6_ADDRFORM: "reads as SO_DOMAIN does",
  IPV6_2292PKTINFO: "is IPV6_RECVPKTINFO since RFC 3542",
  IPV6_2292HOPOPTS: "is IPV6_RECVHOPOPTS since RFC 3542",
  IPV6_2292DSTOPTS: "is IPV6_RECVDSTOPTS since RFC 3542",
  IPV6_2292RTHDR: "is IPV6_RECVRTHDR since RFC 3542",
  IPV6_2292HOPLIMIT: "is IPV6_RECVHOPLIMIT since RFC 3542",
  IPV6_2292PKTOPTIONS: "is what the above ask for, of TCP",
  IPV6_ROUTER_ALERT: "reads as 1 even when it was taken away",
  IPV6_FLOWLABEL_MGR: "is a question and an answer in one",
  TCP_THIN_DUPACK: "means nothing since Linux 4.11",
  TCP_SAVED_SYN: "is an option, and reading it in a dump would take it away",
  TCP_FASTOPEN_KEY: "is an option, and a secret",
};

// Numbers without a constant here, by level, and what they are.
const NUMBERS: readonly (readonly [level: number, first: number, last: number, what: string])[] = [
  [IPPROTO_IP, 64, 127, "netfilter"],
  [IPPROTO_IPV6, 64, 65, "netfilter"],
  [IPPROTO_IPV6, 68, 69, "netfilter"],
  [IPPROTO_IPV6, 80, 80, "netfilter's IP6T_SO_ORIGINAL_DST"],
  [IPPROTO_TCP, 42, 42, "TCP_AO_REPAIR, of the authentication option, which is none of these"],
];

const LEVELS = [
  { level: SOL_SOCKET, prefix: /^SO_/, leaveOut: [SO_GET_FILTER, newer.SO_PEERPIDFD] },
  { level: IPPROTO_IP, prefix: /^(IP|MCAST)_/, leaveOut: [] },
  { level: IPPROTO_IPV6, prefix: /^(IPV6|MCAST)_/, leaveOut: [] },
  {
    level: IPPROTO_TCP,
    prefix: /^TCP_/,
    leaveOut: [TCP_ZEROCOPY_RECEIVE, newer.TCP_AO_GET_KEYS],
  },
  { level: IPPROTO_UDP, prefix: /^UDP(LITE)?_/, leaveOut: [] },
] as const;

const constants = Object.entries({ ...sys, ...newer });

/** What a number may be called: some constants that are no options have the same. */
function namesOf(prefix: RegExp, number: number): string[] {
  return constants.filter(([name, value]) => value === number && prefix.test(name)).map(([n]) => n);
}

/** Every number of a level that the kernel knows something about, and whether it gave a value. */
function answered(fd: number, level: number, leaveOut: readonly number[]): Map<number, boolean> {
  const answers = new Map<number, boolean>();
  const room = new Uint8Array(new ArrayBuffer(8192));
  const length = new Uint32Array(1);
  for (let number = 0; number < 128; number++) {
    if (leaveOut.includes(number)) continue;
    // Some take what lies there for a question.
    room.fill(0);
    const result = getsockopt(fd, level, number, room, length);
    if (result === -ENOPROTOOPT || result === -EOPNOTSUPP) continue;
    answers.set(number, result >= 0);
  }
  return answers;
}

/**
 * What a socket answers to and is neither an option nor excused: with a value, an option of the
 * dump; without one in this state, any option.
 */
function unknownTo(fd: number, dumped: object, names: ReadonlySet<string>): string[] {
  return LEVELS.flatMap(({ level, prefix, leaveOut }) =>
    [...answered(fd, level, leaveOut)].flatMap(([number, hasValue]) => {
      const called = namesOf(prefix, number);
      const isKnown = called.some((name) => (hasValue ? name in dumped : names.has(name)));
      const isExcused =
        called.some((name) => name in EXCEPTIONS) ||
        NUMBERS.some(([of, first, last]) => of === level && first <= number && number <= last);
      return isKnown || isExcused ? [] : [`${number} at level ${level} (${called.join(", ")})`];
    }),
  );
}

describe("whatever the kernel answers is an option", () => {
  for (const kind of KIND_NAMES) {
    testIf(missingKind(kind))(`on ${kind}`, () => {
      using sockets = make(kind);
      expect(unknownTo(sockets.fd, dumpOf(sockets.fd), NAMES)).toEqual([]);
    });
  }

  test("and one that is left out is found, with a value and without", () => {
    using sockets = make("udp4");
    const { SO_COOKIE: _cookie, IP_MINTTL: _ttl, UDP_GRO: _gro, ...dumped } = dumpOf(sockets.fd);
    const names = new Set(NAMES);
    names.delete("IP_MTU");
    expect(unknownTo(sockets.fd, dumped, names)).toEqual([
      "57 at level 1 (SO_COOKIE)",
      "14 at level 0 (IP_MTU)",
      "21 at level 0 (IP_MINTTL)",
      "104 at level 17 (UDP_GRO)",
    ]);
  });

  test("and no exception stands for a name that is none", () => {
    const known = new Set(constants.map(([name]) => name));
    expect(Object.keys(EXCEPTIONS).filter((name) => !known.has(name))).toEqual([]);
  });
});

// What Python's socket module reads of a new socket, by names of its own.
const PYTHON = `
import json, socket
def read(domain, type, names):
    with socket.socket(domain, type) as s:
        return {n: s.getsockopt(getattr(socket, level), getattr(socket, n)) for level, n in names}
tcp = [("SOL_SOCKET", n) for n in ("SO_RCVBUF", "SO_SNDBUF", "SO_KEEPALIVE", "SO_RCVLOWAT")]
tcp += [("IPPROTO_IP", n) for n in ("IP_TTL", "IP_TOS", "IP_MULTICAST_TTL", "IP_MULTICAST_LOOP")]
tcp += [("IPPROTO_TCP", n) for n in ("TCP_NODELAY", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT",
    "TCP_SYNCNT", "TCP_USER_TIMEOUT", "TCP_MAXSEG", "TCP_LINGER2")]
udp = [("SOL_SOCKET", n) for n in ("SO_RCVBUF", "SO_BROADCAST", "SO_TYPE", "SO_DOMAIN")]
udp += [("IPPROTO_IPV6", n) for n in ("IPV6_UNICAST_HOPS", "IPV6_V6ONLY", "IPV6_TCLASS")]
print(json.dumps({
    "tcp": read(socket.AF_INET, socket.SOCK_STREAM, tcp),
    "udp": read(socket.AF_INET6, socket.SOCK_DGRAM, udp),
}))
`;

testIf(requires("python3"))("a new socket has what Python reads of one", () => {
  const { stdout, stderr } = Bun.spawnSync(["python3", "-c", PYTHON], { stderr: "pipe" });
  expect(stderr.toString()).toBe("");
  const { tcp, udp } = JSON.parse(stdout.toString());
  // In our units: half of the doubled buffer, booleans, milliseconds.
  const convert = (name: string, value: number) => {
    if (/BUF$/.test(name)) return value / 2;
    if (/KEEPALIVE|LOOP|NODELAY|BROADCAST|V6ONLY/.test(name)) return value !== 0;
    return /KEEPIDLE|KEEPINTVL|LINGER2/.test(name) ? value * 1000 : value;
  };
  const converted = (values: Record<string, number>) =>
    Object.fromEntries(Object.entries(values).map(([name, value]) => [name, convert(name, value)]));
  using tcpSockets = make("tcp4");
  using udpSockets = make("udp6");
  expect(Object.keys(tcp).length + Object.keys(udp).length).toBe(23);
  expect(dumpOf(tcpSockets.fd)).toMatchObject(converted(tcp));
  expect(dumpOf(udpSockets.fd)).toMatchObject(converted(udp));
});
