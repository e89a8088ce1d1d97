/**
 * What gives a program the rights that it lacks: for `capabilities`, and for the errors of calls that
 * were refused. And what a refused address lacks.
 *
 * @module
 */
import {
  IP_HDRINCL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HDRINCL,
} from "../../structs/constants/netinet_in.ts";
import {
  AF_PACKET,
  SO_DOMAIN,
  SO_MARK,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SO_TYPE,
  SOCK_RAW,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import type { SystemErrorDetails } from "../error.ts";
import { getsockopt } from "../sys/socket.ts";
import { discoveryOf, pathMtuOf } from "./path_mtu.ts";

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));

/** A capability, and the commands that give it to Bun. */
function right(capability: string, alternative = ""): string {
  const [first = ""] = capability.split(" ");
  const file = `${first.toLowerCase()}+ep ${process.execPath}`;
  const container = first.replace("CAP_", "--cap-add ");
  return `It takes ${capability}${alternative}: run "sudo setcap ${file}", or a container with "${container}"`;
}

/** A sysctl, and the command that sets it. */
function sysctl(name: string, value: string): string {
  const quoted = value.includes(" ") ? `"${value}"` : value;
  return `It takes the sysctl ${name}: run 'sudo sysctl -w ${name}=${quoted}'`;
}

const EITHER = "CAP_NET_RAW or CAP_NET_ADMIN";
const INITIAL = " in the first user namespace";

/** What remedies there are, by name. */
export const REMEDIES = {
  raw: () => right("CAP_NET_RAW"),
  rawOrAdmin: () => right(EITHER),
  admin: () => right("CAP_NET_ADMIN"),
  firstAdmin: () => right("CAP_NET_ADMIN", INITIAL),
  namespaces: () => right("CAP_SYS_ADMIN"),
  lowPorts: () =>
    `A port below 1024 takes a right or a sysctl. ${right("CAP_NET_BIND_SERVICE")}; ` +
    'or run "sudo sysctl -w net.ipv4.ip_unprivileged_port_start=0"',
  ping: () => `${sysctl("net.ipv4.ping_group_range", "0 2147483647")}, which lets these groups in`,
  mptcp: () => sysctl("net.mptcp.enabled", "1"),
  fastOpen: () => sysctl("net.ipv4.tcp_fastopen", "3"),
  loopback6: () => sysctl("net.ipv6.conf.lo.disable_ipv6", "0"),
  ipv6: () => "The kernel has no IPv6, or was started with ipv6.disable=1",
  vsock: () => "The kernel has no such sockets, or their module is not loaded: sudo modprobe vsock",
  ioUring: () =>
    "The kernel or the container's filter of system calls refuses it; the helper thread takes its place. " +
    "It takes the sysctl kernel.io_uring_disabled=0, and a filter that allows io_uring_setup",
  ioUringMemory: () => 'Before Linux 5.12 it takes locked memory: run "ulimit -l unlimited"',
  newer: () => "It takes a newer kernel, or one that was built with it",
} as const;

/** The name of a remedy. */
export type Remedy = keyof typeof REMEDIES;

// By call, or by option, for EPERM and EACCES.
const REFUSED: Readonly<Record<string, Remedy>> = {
  "socket EPERM": "raw",
  "socket EACCES": "ping",
  "bind EACCES": "lowPorts",
  "setns EPERM": "namespaces",

  IP_TRANSPARENT: "rawOrAdmin",
  IPV6_TRANSPARENT: "rawOrAdmin",
  IPV6_HOPOPTS: "raw",
  IPV6_RTHDRDSTOPTS: "raw",
  IPV6_RTHDR: "raw",
  IPV6_DSTOPTS: "raw",
  SO_BINDTODEVICE: "raw",
  SO_BINDTOIFINDEX: "raw",
  SO_BUSY_POLL: "firstAdmin",
  SO_BUSY_POLL_BUDGET: "firstAdmin",
  SO_DEBUG: "firstAdmin",
  SO_MARK: "rawOrAdmin",
  SO_PREFER_BUSY_POLL: "firstAdmin",
  SO_PRIORITY: "rawOrAdmin",
  SO_RCVMARK: "rawOrAdmin",
  SO_TXTIME: "admin",
  TCP_CONGESTION: "admin",
  TCP_REPAIR: "admin",

  // As the raw form tells of them.
  [`${SO_MARK} at level ${SOL_SOCKET}`]: "rawOrAdmin",
  [`${SO_RCVBUFFORCE} at level ${SOL_SOCKET}`]: "firstAdmin",
  [`${SO_SNDBUFFORCE} at level ${SOL_SOCKET}`]: "firstAdmin",
};

/**
 * What helps against EPERM or EACCES of a call, or of a call about an option. Undefined where we do
 * not know.
 */
export function remedyOf(subject: string): string | undefined {
  const remedy = Object.hasOwn(REFUSED, subject) ? REFUSED[subject] : undefined;
  return remedy && REMEDIES[remedy]();
}

// The call with one of these would be refused for an address of one link without a zone.
const WITH_ADDRESS: readonly string[] = ["bind", "connect", "sendmmsg", "sendmsg", "sendto"];

/** What is known only of some arguments of a call. */
export function hintOf(
  call: string,
  code: string,
  address: SystemErrorDetails["address"],
): string | undefined {
  if (code !== "EINVAL") return remedyOf(call);
  if (!WITH_ADDRESS.some((name) => call === `${name} EINVAL`)) return undefined;
  const { host, port } = address ?? {};
  if (host !== undefined && /^fe[89ab][0-9a-f]:[^%]*$/.test(host))
    return `That address is of one link: give the zone, as in ${host}%eth0`;
  return port === 0 && call.startsWith("send") ? "No datagram can be sent to port 0" : undefined;
}

/**
 * What a datagram may be that is not fragmented on its way. Undefined where this host may fragment
 * it: then it was longer than any datagram.
 */
export function hintOfPath(fd: number, isVersion6: boolean): string | undefined {
  if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, value, valueLength) >= 0 && value[0] === AF_PACKET)
    return "A packet must fit the MTU of its interface, which counts no link-layer header";
  const ofRaw = hintOfRaw(fd, isVersion6);
  if (ofRaw !== undefined) return ofRaw;
  const mode = discoveryOf(fd, isVersion6);
  if (mode === "off" || mode === "want" || mode === "omit") return undefined;
  const mtu = mode === "do" ? pathMtuOf(fd, isVersion6) : undefined;
  const limit =
    mtu === undefined
      ? `the MTU of the ${mode === "do" ? "path: a connected socket tells it as pathMtu" : "interface"}`
      : `pathMtu, which is ${mtu}`;
  return (
    `With pathMtuDiscovery "${mode}" no datagram is fragmented: with its headers it must fit ` +
    limit
  );
}

// A raw socket carries more than UDP does; and what has its own header is never fragmented.
function hintOfRaw(fd: number, isVersion6: boolean): string | undefined {
  const read = (level: number, name: number) =>
    getsockopt(fd, level, name, value, valueLength) === 0 ? value[0] : undefined;
  if (read(SOL_SOCKET, SO_TYPE) !== SOCK_RAW) return undefined;
  const isWhole = isVersion6 ? read(IPPROTO_IPV6, IPV6_HDRINCL) : read(IPPROTO_IP, IP_HDRINCL);
  if (isWhole) return "With headerIncluded nothing is fragmented: a packet must fit the interface";
  if (discoveryOf(fd, isVersion6) !== "want") return undefined;
  return `Behind its header a packet carries at most ${isVersion6 ? 65_535 : 65_515} bytes`;
}
