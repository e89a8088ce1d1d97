import { ENOTCONN, EOPNOTSUPP, EPERM } from "../../structs/constants/errno.ts";
import {
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  O_NONBLOCK,
} from "../../structs/constants/fcntl.ts";
import { IPPROTO_IPV6, IPV6_V6ONLY } from "../../structs/constants/netinet_in.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  SO_ACCEPTCONN,
  SO_BROADCAST,
  SO_DOMAIN,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_TIMESTAMP,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_RDM,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";

import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import { type Address, addressFromBytes } from "../address.ts";
import { ClosedError, check } from "../error.ts";
import {
  heldBy,
  isReceivedDescriptor,
  letGo,
  type ReceivedDescriptor,
} from "../received_descriptor.ts";
import type {
  AdoptOptions,
  PairOptions,
  Socket,
  SocketFamily,
  SocketOptions,
  SocketType,
} from "../socket.ts";
import { fcntl } from "../sys/fcntl.ts";
import {
  getpeername,
  getsockname,
  getsockopt,
  setsockopt,
  socket,
  socketpair,
} from "../sys/socket.ts";
import { requireBoolean, requireInteger, requireOptions } from "./arguments.ts";
import { Descriptor, isOwned } from "./descriptor.ts";

/** What a socket is made of: an open descriptor, and what the kernel says of it. */
export interface Parts {
  readonly descriptor: Descriptor;
  /** The address family, an `AF_` constant. */
  readonly domain: number;
  /** The type, a `SOCK_` constant without flags. */
  readonly type: number;
  /** The protocol that was asked for, or 0. */
  readonly protocol: number;
  /** What was asked for when it was made. */
  readonly requested?: SocketOptions;
  /** Whether it has a peer already. Default false. */
  readonly connected?: boolean;
  /** The address that it is bound to already. */
  readonly bound?: Address | undefined;
  /** The sockaddr of its peer, where accept4(2) has told it. */
  readonly peer?: Uint8Array;
  /** Whether others have it too. Default false. */
  readonly shared?: boolean;
  /** Whether somebody else has opened it. Default false. */
  readonly adopted?: boolean;
  /** The socket that it is a duplicate of. */
  readonly original?: object;
}

const FAMILIES: Readonly<Record<string, number>> = {
  ipv4: AF_INET,
  ipv6: AF_INET6,
  unix: AF_UNIX,
};
const TYPES: Readonly<Record<string, number>> = {
  stream: SOCK_STREAM,
  datagram: SOCK_DGRAM,
  seqpacket: SOCK_SEQPACKET,
  raw: SOCK_RAW,
  rdm: SOCK_RDM,
};
// sockaddr.sa_family has 16 bits; linux/net.h has four for the type, and the others are flags.
const FAMILY_MAX = 0xffff;
const TYPE_MAX = 0xf;
const INT_MAX = 2 ** 31 - 1;

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));
const pair = new Int32Array(new ArrayBuffer(8));
const name = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));

/** The `AF_` constant of a family. */
export function toDomain(family: SocketFamily): number {
  return toConstant(family, FAMILIES, FAMILY_MAX, "a family");
}

/** The `SOCK_` constant of a type. */
export function toSocketType(type: SocketType): number {
  return toConstant(type, TYPES, TYPE_MAX, "a socket type");
}

function toConstant(
  given: string | number,
  names: Readonly<Record<string, number>>,
  maximum: number,
  what: string,
): number {
  if (typeof given === "string") {
    const constant = Object.hasOwn(names, given) ? names[given] : undefined;
    if (constant !== undefined) return constant;
    const known = Object.keys(names).map((name) => `"${name}"`);
    throw new TypeError(
      `Cannot use ${JSON.stringify(given)} as ${what}: expected ${known.join(", ")}, or a number`,
    );
  }
  requireInteger(given, 0, maximum, what);
  return given;
}

/** The name of a domain where it has one, else its number. */
export function familyOf(domain: number): SocketFamily {
  return nameIn(FAMILIES, domain) as SocketFamily;
}

/** The name of a type where it has one, else its number. */
export function typeOf(type: number): SocketType {
  return nameIn(TYPES, type) as SocketType;
}

function nameIn(names: Readonly<Record<string, number>>, constant: number): string | number {
  return Object.keys(names).find((name) => names[name] === constant) ?? constant;
}

/** Reads options once, and checks them before anything is opened. */
export function copyOptions(options: SocketOptions, domain: number): SocketOptions {
  const { receiveBufferBytes, sendBufferBytes, reuseAddress, reusePort, broadcast, configure } =
    requireOptions(options);
  let { ipv6Only } = options;
  for (const [key, bytes] of Object.entries({ receiveBufferBytes, sendBufferBytes }))
    if (bytes !== undefined) requireInteger(bytes, 1, INT_MAX, key);
  for (const [key, flag] of Object.entries({ reuseAddress, reusePort, ipv6Only, broadcast }))
    if (flag !== undefined) requireBoolean(flag, key);
  if (configure !== undefined && typeof configure !== "function") {
    throw new TypeError(
      `Cannot use a value of type ${typeof configure} as configure: expected a function`,
    );
  }
  if (ipv6Only && domain !== AF_INET6) {
    const family = domain === AF_INET ? "an IPv4" : `a ${familyOf(domain)}`;
    throw new TypeError(`Cannot make ${family} socket ipv6Only: expected an IPv6 one`);
  }
  if (domain === AF_INET6) ipv6Only ??= false;
  return {
    receiveBufferBytes,
    sendBufferBytes,
    reuseAddress,
    reusePort,
    ipv6Only,
    broadcast,
    configure,
  };
}

/** Opens a socket and sets what `copyOptions` has checked, except `configure`. */
export function openParts(
  domain: number,
  type: number,
  protocol: number,
  requested: SocketOptions = {},
): Parts {
  const descriptor = new Descriptor(
    socket(domain, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol),
    "socket",
  );
  try {
    apply(descriptor.fd, domain, type, requested);
    stamp(descriptor.fd, domain, type);
    // The kernel makes a datagram socket of a raw Unix one, and does not say so.
    const made = domain === AF_UNIX && type === SOCK_RAW ? readInt(descriptor.fd, SO_TYPE) : type;
    return { descriptor, domain, type: made, protocol, requested };
  } catch (error) {
    descriptor.close();
    throw error;
  }
}

function apply(fd: number, domain: number, type: number, options: SocketOptions): void {
  // A raw socket is of one version of IP anyway.
  if (domain === AF_INET6 && type !== SOCK_RAW)
    set(fd, IPPROTO_IPV6, IPV6_V6ONLY, Number(options.ipv6Only ?? false));
  if (options.reuseAddress) set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.reusePort) set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (options.broadcast) set(fd, SOL_SOCKET, SO_BROADCAST, 1);
  const { receiveBufferBytes, sendBufferBytes } = options;
  if (receiveBufferBytes !== undefined)
    setBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, receiveBufferBytes);
  if (sendBufferBytes !== undefined) setBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, sendBufferBytes);
}

function set(fd: number, level: number, name: number, to: number): void {
  value[0] = to;
  check(setsockopt(fd, level, name, value), "setsockopt");
}

// socket(7): the FORCE form needs CAP_NET_ADMIN and is not clamped; the plain one is, without an
// error.
function setBuffer(fd: number, force: number, plain: number, bytes: number): void {
  value[0] = bytes;
  const result = setsockopt(fd, SOL_SOCKET, force, value);
  if (result === -EPERM) set(fd, SOL_SOCKET, plain, bytes);
  else check(result, "setsockopt");
}

// An empty record and the end of a seqpacket connection are both 0 bytes, and Linux sets no MSG_EOR.
// But with SO_TIMESTAMP each record comes with a control message, and the end comes without.
function stamp(fd: number, domain: number, type: number): void {
  if (domain === AF_UNIX && type === SOCK_SEQPACKET) set(fd, SOL_SOCKET, SO_TIMESTAMP, 1);
}

/** Opens two sockets that are connected with each other. */
export function openPair(options: PairOptions): readonly [Parts, Parts] {
  const { family = "unix", type: typeName = "stream", protocol = 0 } = requireOptions(options);
  const domain = toDomain(family);
  const type = toSocketType(typeName);
  requireInteger(protocol, 0, INT_MAX, "a protocol");
  const flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const result = socketpair(domain, type | flags, protocol, pair);
  const [first = -1, second = -1] = pair;
  // Both numbers have an owner before anything else can fail.
  const left = new Descriptor(result < 0 ? result : first, "socketpair");
  const right = new Descriptor(second, "socketpair");
  const parts = (descriptor: Descriptor) => {
    stamp(descriptor.fd, domain, type);
    return { descriptor, domain, type, protocol, connected: true };
  };
  try {
    return [parts(left), parts(right)];
  } catch (error) {
    left.close();
    right.close();
    throw error;
  }
}

/** Owns the result of accept4(2) on a socket of this kind. */
export function acceptedParts(
  result: number,
  domain: number,
  type: number,
  peer: Uint8Array,
): Parts {
  const descriptor = new Descriptor(result, "accept4");
  try {
    stamp(descriptor.fd, domain, type);
  } catch (error) {
    descriptor.close();
    throw error;
  }
  return { descriptor, domain, type, protocol: 0, connected: true, peer };
}

/** What a class takes: `adoptParts` refuses everything else. */
export interface Kind {
  /** As it stands in the error: "a UDP socket". */
  readonly name: string;
  readonly accepts: (domain: number, type: number, protocol: number) => boolean;
  /** Whether it is one that listens. Undefined where that does not matter. */
  readonly listens?: boolean;
}

/**
 * Takes an open descriptor, or a duplicate of it. When it fails, the caller's descriptor is as it
 * was.
 */
export function adoptParts(
  given: number | ReceivedDescriptor,
  options: AdoptOptions,
  kind?: Kind,
): Parts {
  const isReceived = isReceivedDescriptor(given);
  if (!isReceived) requireInteger(given, 0, INT_MAX, "a descriptor");
  // Before it is asked for its number: reading options can run the caller's code.
  const { own = false } = requireOptions(options);
  requireBoolean(own, "own");
  const held = heldBy(given);
  if (isReceived && !held) throw new ClosedError("fcntl");
  const fd = held ? held.fd : (given as number);
  const domain = readInt(fd, SO_DOMAIN);
  const type = readInt(fd, SO_TYPE);
  const protocol = readInt(fd, SO_PROTOCOL);
  if (kind && !kind.accepts(domain, type, protocol)) {
    throw new TypeError(
      `Cannot adopt descriptor ${fd} as ${kind.name}: it is ${familyOf(domain)} ${typeOf(type)}`,
    );
  }
  if (kind?.listens !== undefined && (readInt(fd, SO_ACCEPTCONN) !== 0) !== kind.listens) {
    const found = kind.listens ? "does not listen" : "listens";
    throw new TypeError(`Cannot adopt descriptor ${fd} as ${kind.name}: it ${found}`);
  }
  if (own && !held && isOwned(fd)) {
    throw new TypeError(
      `Cannot adopt descriptor ${fd}: another socket of this thread owns it. Detach it there first`,
    );
  }
  const flags = check(fcntl(fd, F_GETFL, 0), "fcntl");
  const closeOnExec = check(fcntl(fd, F_GETFD, 0), "fcntl");
  try {
    check(fcntl(fd, F_SETFL, flags | O_NONBLOCK), "fcntl");
    if (own) check(fcntl(fd, F_SETFD, FD_CLOEXEC), "fcntl");
    const connected = hasPeer(fd);
    const bound = connected ? undefined : localAddressOf(fd);
    const taken = own ? held : undefined;
    const descriptor = taken ?? new Descriptor(own ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl");
    try {
      stamp(fd, domain, type);
    } catch (error) {
      if (!own) descriptor.close();
      else if (!taken) descriptor.release();
      throw error;
    }
    if (taken) letGo(given as ReceivedDescriptor);
    return {
      descriptor,
      domain,
      type,
      protocol,
      connected,
      bound,
      shared: true,
      adopted: true,
    };
  } catch (error) {
    fcntl(fd, F_SETFL, flags);
    if (own) fcntl(fd, F_SETFD, closeOnExec);
    throw error;
  }
}

// Some families have no peers, or no names, and say so.
function hasPeer(fd: number): boolean {
  const result = getpeername(fd, name, valueLength);
  if (result === -ENOTCONN || result === -EOPNOTSUPP) return false;
  return check(result, "getpeername") === 0;
}

function localAddressOf(fd: number): Address | undefined {
  const result = getsockname(fd, name, valueLength);
  if (result === -EOPNOTSUPP) return undefined;
  check(result, "getsockname");
  return addressFromBytes(name.subarray(0, valueLength[0]));
}

/** Reads an integer option of SOL_SOCKET. */
export function readInt(fd: number, name: number): number {
  check(getsockopt(fd, SOL_SOCKET, name, value, valueLength), "getsockopt");
  return value[0] as number;
}

/** Does what is left of making a socket, and closes it when that throws. */
export function orClose<Made extends Socket>(made: Made, work: () => void): Made {
  try {
    work();
  } catch (error) {
    made.close();
    throw error;
  }
  return made;
}
