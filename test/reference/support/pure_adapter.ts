/**
 * The Pure sockets module in terms of our API: C's calls are those of "bun-sockets/sys", addresses
 * are ours. What fails returns `-errno`, where Pure has -1 and errno.
 *
 * @module
 */
import { ptr } from "bun:ffi";
import {
  type Address,
  addressFromBytes,
  capabilities,
  type InetAddress,
  resolveSync,
  reverseSync,
  UnixAddress,
} from "bun-sockets";
import { iovec, msghdr, sockaddr_storage } from "bun-sockets/structs";
import * as sys from "bun-sockets/sys";
import { chosen, type Variants } from "./rows.ts";

/** What Pure's address pointers are: empty, until a call fills it. */
export class Sockaddr {
  address: Address | undefined;

  constructor(address?: Address) {
    this.address = address;
  }
}

/** What `sockaddr_info` gives, and `sockaddr` takes. */
export type Info = [] | [family: number, path: string] | [family: number, ip: string, port: number];

type Host = [host: string, port: string | number];
type InFamily = [family: number, ...host: Host];

const FAMILIES = {
  ipv4: sys.AF_INET,
  ipv6: sys.AF_INET6,
  unix: sys.AF_UNIX,
  link: sys.AF_PACKET,
} as const;

// Scratch, filled by one call and read before the next.
const name = new Uint8Array(sockaddr_storage.size);
const nameLength = new Uint32Array(1);

function fill(address: Sockaddr | null, result: number): number {
  const length = nameLength[0] as number;
  if (result < 0 || address === null) return result;
  // On a connection the kernel gives no address.
  address.address = length === 0 ? undefined : addressFromBytes(name.subarray(0, length));
  return result;
}

// Exactly as long as the address is, unlike the original. An empty one is 128 zeros.
function bytesOf(address: Sockaddr | null): Uint8Array {
  if (address === null) return new Uint8Array(0);
  return address.address?.bytes ?? new Uint8Array(sockaddr_storage.size);
}

function inet(address: Sockaddr | null): InetAddress | undefined {
  const inner = address?.address;
  return inner && "port" in inner ? inner : undefined;
}

// A null pointer is what only recvmsg(2) can be given.
function receiveNowhere(fd: number, length: number, flags: number): number {
  const vector = new Uint8Array(iovec.size);
  const message = new Uint8Array(msghdr.size);
  iovec.iov_len.set(new DataView(vector.buffer), 0, length);
  msghdr.msg_iov.set(new DataView(message.buffer), 0, Number(ptr(vector)));
  msghdr.msg_iovlen.set(new DataView(message.buffer), 0, 1);
  return sys.recvmsg(fd, message, flags);
}

const sound = {
  HAVE_AF_UNIX: capabilities().unix.supported,

  sockaddr(...given: [] | [string] | [number, string] | Host | InFamily): Sockaddr {
    if (given.length === 0) return new Sockaddr();
    const [first, second] = given;
    if (given.length === 1 && typeof first === "string")
      return new Sockaddr(new UnixAddress(first));
    if (given.length === 2 && typeof first === "number") {
      if (first !== sys.AF_UNIX) throw new TypeError(`Cannot give family ${first} a path`);
      return new Sockaddr(new UnixAddress(second as string));
    }
    return sound.sockaddrs(...(given as Host | InFamily))[0] as Sockaddr;
  },

  sockaddrs(...given: Host | InFamily): Sockaddr[] {
    const [family, host, port] = given.length === 3 ? given : [sys.AF_UNSPEC, ...given];
    const wildcard = host === "*";
    const found = resolveSync(wildcard ? "" : host, port, { family, passive: wildcard });
    const unique = new Map(found.map(({ address }) => [address.key, address]));
    return [...unique.values()].map((address) => new Sockaddr(address));
  },

  sockaddr_family(address: Sockaddr | null): number {
    const family = address?.address?.family;
    return typeof family === "string" ? FAMILIES[family] : (family ?? 0);
  },

  sockaddr_path(address: Sockaddr | null): string | null {
    const inner = address?.address;
    return inner instanceof UnixAddress ? (inner.path ?? null) : null;
  },

  sockaddr_hostname(address: Sockaddr | null): string | null {
    const inner = inet(address);
    return inner ? reverseSync(inner, { numericService: true }).host : null;
  },

  sockaddr_ip(address: Sockaddr | null): string | null {
    const inner = inet(address);
    return inner ? reverseSync(inner, { numericHost: true, numericService: true }).host : null;
  },

  sockaddr_service(address: Sockaddr | null): string | null {
    const inner = inet(address);
    return inner ? reverseSync(inner, { numericHost: true }).service : null;
  },

  sockaddr_port(address: Sockaddr | null): number {
    return inet(address)?.port ?? -1;
  },

  sockaddr_info(address: Sockaddr | null): Info {
    const inner = address?.address;
    if (inner instanceof UnixAddress && inner.path !== undefined) return [sys.AF_UNIX, inner.path];
    const ip = inet(address);
    return ip ? [FAMILIES[ip.family], ip.host, ip.port] : [];
  },

  socket: sys.socket,

  socketpair: sys.socketpair,

  shutdown: sys.shutdown,

  closesocket: sys.close,

  accept(fd: number, address: Sockaddr | null): number {
    return fill(address, sys.accept4(fd, name, nameLength, 0));
  },

  bind(fd: number, address: Sockaddr | null): number {
    return sys.bind(fd, bytesOf(address));
  },

  connect(fd: number, address: Sockaddr | null): number {
    return sys.connect(fd, bytesOf(address));
  },

  listen: sys.listen,

  recv(fd: number, buffer: Uint8Array | null, length: number, flags: number): number {
    if (buffer === null) return receiveNowhere(fd, length, flags);
    return sys.recv(fd, buffer.subarray(0, length), flags);
  },

  send(fd: number, buffer: Uint8Array, length: number, flags: number): number {
    return sys.send(fd, buffer.subarray(0, length), flags);
  },

  recvfrom(
    fd: number,
    buffer: Uint8Array | null,
    length: number,
    flags: number,
    address: Sockaddr | null,
  ): number {
    if (buffer === null) return receiveNowhere(fd, length, flags);
    const result = sys.recvfrom(fd, buffer.subarray(0, length), flags, name, nameLength);
    return fill(address, result);
  },

  sendto(
    fd: number,
    buffer: Uint8Array,
    length: number,
    flags: number,
    address: Sockaddr | null,
  ): number {
    if (address === null) return sound.send(fd, buffer, length, flags);
    return sys.sendto(fd, buffer.subarray(0, length), flags, bytesOf(address));
  },

  getsockname(fd: number, address: Sockaddr): number {
    return fill(address, sys.getsockname(fd, name, nameLength));
  },

  getpeername(fd: number, address: Sockaddr): number {
    return fill(address, sys.getpeername(fd, name, nameLength));
  },

  getsockopt(
    fd: number,
    level: number,
    option: number,
    value: Int32Array,
    length: Uint32Array,
  ): number {
    const room = new Uint8Array(value.buffer, value.byteOffset, length[0]);
    return sys.getsockopt(fd, level, option, room, length);
  },

  setsockopt(fd: number, level: number, option: number, value: Int32Array, length: number): number {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, length);
    return sys.setsockopt(fd, level, option, bytes);
  },
};

/** The functions of the module, under their names. */
export type Pure = typeof sound;

/** The broken ones. */
export const pureVariants: Variants<Pure> = {
  "ports in the wrong byte order": {
    breaks: {
      sockaddr_port: (address) => {
        const port = sound.sockaddr_port(address);
        return port < 0 ? port : sys.htons(port);
      },
    },
    rows: ["pure-09", "pure-10", "pure-19"],
  },
  "a swallowed error": {
    breaks: {
      send: (...call) => Math.max(0, sound.send(...call)),
      recv: (...call) => Math.max(0, sound.recv(...call)),
    },
    rows: ["pure-48", "pure-49", "pure-53"],
  },
  "an ignored flag": {
    breaks: {
      socket: (domain, type, protocol) => sys.socket(domain, type & 0xf, protocol),
      recv: (fd, buffer, length) => sound.recv(fd, buffer, length, 0),
      send: (fd, buffer, length) => sound.send(fd, buffer, length, 0),
    },
    rows: ["pure-23", "pure-24", "pure-54", "pure-55"],
  },
  "a leaked descriptor": {
    breaks: {
      accept: (...call) => {
        const accepted = sound.accept(...call);
        if (accepted >= 0) sys.dup(accepted);
        return accepted;
      },
    },
    rows: ["pure-44", "pure-48", "pure-59"],
  },
};

/** The adapter that the rows use. */
export const pure = chosen("pure", sound, pureVariants);
