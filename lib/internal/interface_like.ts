/**
 * Finds interfaces by what a caller has of them: an index, a name, or an address. A socket belongs to
 * the network namespace that it was made in, which need not be that of the thread: what is for a
 * socket is asked of it.
 *
 * @module
 */
import { EADDRNOTAVAIL } from "../../structs/constants/errno.ts";
import { SIOCGIFCONF, SIOCGIFINDEX } from "../../structs/constants/linux_sockios.ts";
import {
  AF_UNIX,
  SO_NETNS_COOKIE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { ifconf } from "../../structs/ifconf.ts";
import { ifreq } from "../../structs/ifreq.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import {
  type Address,
  addressFromBytes,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  toPortlessAddress,
} from "../address.ts";
import { check, systemError } from "../error.ts";
import { addressOf } from "../ffi/memory.ts";
import type { InterfaceLike } from "../multicast.ts";
import { ioctl } from "../sys/ioctl.ts";
import { getsockopt, socket } from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import { describe, requireInteger } from "./arguments.ts";
import { interfaceIndex, interfaceIndexOf, interfaces } from "./interface_kernel.ts";

const INDEX_MAX = 2 ** 31 - 1;
/** Where an `ifreq` has its value. */
const VALUE = ifreq.ifr_ifru.offset;
const IPV4_TEXT = /^\d+\.\d+\.\d+\.\d+(:|$)/;

/** What is asked of the kernel of the addresses of interfaces: one whose name may have a label. */
interface Labelled {
  readonly bytes: Uint8Array;
  readonly host: string;
}

/**
 * Takes an address without a port, too: a group, a source or an interface has none. One that is
 * IPv4-mapped is the IPv4 address.
 */
export function toUnmappedAddress(address: Address | string): InetAddress {
  const found = toPortlessAddress(address);
  return found instanceof Inet6Address ? found.unmap() : found;
}

/** The address that an interface is given by, or undefined where it is given by index or name. */
export function addressOfInterface(where: InterfaceLike): InetAddress | undefined {
  if (typeof where === "number") return undefined;
  // No name of an interface has a colon, and few look like addresses.
  if (typeof where === "string" && !where.includes(":") && !IPV4_TEXT.test(where)) return undefined;
  const given: unknown = where;
  if (typeof given !== "string" && (typeof given !== "object" || given === null))
    throw new TypeError(
      `Cannot use ${describe(given)} as an interface: expected its index, its name, or an address`,
    );
  return toUnmappedAddress(where);
}

/**
 * The index of an interface, in the network namespace of a socket; without one in that of this thread.
 *
 * @throws {SystemError} `ENODEV` there is none of that name; `EADDRNOTAVAIL` none has the address
 */
export function toInterfaceIndex(where: InterfaceLike, fd?: number): number {
  if (typeof where === "number") {
    requireInteger(where, 0, INDEX_MAX, "the index of an interface");
    return where;
  }
  const address = addressOfInterface(where);
  if (address === undefined)
    return fd === undefined
      ? interfaceIndex(where as string, {})
      : interfaceIndexOf(fd, where as string);
  if (address instanceof Inet6Address && address.scope !== 0)
    return toInterfaceIndex(address.scope, fd);
  return indexOfAddress(address, fd);
}

/** The index of the interface that has an address. */
export function indexOfAddress(address: InetAddress, fd?: number): number {
  if (fd !== undefined && address instanceof Inet4Address) return indexOfIpv4(address, fd);
  const found = fd === undefined || isOfThread(fd) ? indexesOf(address) : [];
  const [index] = found;
  if (index !== undefined && found.length === 1) return index;
  throw systemError(-EADDRNOTAVAIL, "getifaddrs", {
    address: address.withPort(0),
    hint: hintOf(found.length, fd),
  });
}

function hintOf(count: number, fd: number | undefined): string {
  if (count > 1) return "Several interfaces have it: give the zone, as in fe80::1%eth0";
  if (fd === undefined || isOfThread(fd))
    return 'No interface has that address: "interfaces()" lists those that there are';
  return "The socket is in another network namespace than this thread: name its interface by index or name";
}

// Those of a link are told with their zones.
function indexesOf(address: InetAddress): number[] {
  const { host } = address;
  return interfaces({})
    .filter(({ addresses }) => addresses.some((each) => bare(each.address.host) === host))
    .map(({ index }) => index);
}

function bare(host: string): string {
  return host.replace(/%.*/, "");
}

// SIOCGIFCONF lists the IPv4 addresses of the socket's own network namespace.
function indexOfIpv4(address: Inet4Address, fd: number): number {
  const { host } = address;
  const entry = listIpv4(fd).find((each) => each.host === host);
  if (entry === undefined)
    throw systemError(-EADDRNOTAVAIL, "ioctl", {
      address: address.withPort(0),
      hint: "No interface has that address in the network namespace of the socket",
    });
  const request = new DataView(new ArrayBuffer(ifreq.size));
  // The kernel cuts a label off: "eth0:1".
  ifreq.ifr_ifrn.set(request, 0, entry.bytes.subarray(0, VALUE));
  check(ioctl(fd, SIOCGIFINDEX, request), "ioctl", { option: "SIOCGIFINDEX" });
  return request.getInt32(VALUE, true);
}

function listIpv4(fd: number): Labelled[] {
  const request = new DataView(new ArrayBuffer(ifconf.size));
  for (;;) {
    ifconf.ifc_ifcu.set(request, 0, 0);
    ask(fd, request);
    // Others may be added meanwhile: with room for one more it is known to be all.
    const room = ifconf.ifc_len.get(request, 0) + ifreq.size;
    const list = new Uint8Array(new ArrayBuffer(room));
    ifconf.ifc_len.set(request, 0, room);
    ifconf.ifc_ifcu.set(request, 0, addressOf(list));
    ask(fd, request);
    const length = ifconf.ifc_len.get(request, 0);
    if (length + ifreq.size > room) continue;
    return Array.from({ length: length / ifreq.size }, (_, i) => {
      const bytes = list.subarray(i * ifreq.size, (i + 1) * ifreq.size);
      const sockaddr = bytes.slice(VALUE, VALUE + sockaddr_in.size);
      return { bytes, host: (addressFromBytes(sockaddr) as InetAddress).host };
    });
  }
}

function ask(fd: number, request: DataView): void {
  check(ioctl(fd, SIOCGIFCONF, request), "ioctl", { option: "SIOCGIFCONF" });
}

/** Whether a socket is in the network namespace of this thread. Before Linux 5.14 we take it so. */
export function isOfThread(fd: number): boolean {
  const own = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  check(own, "socket");
  try {
    return cookieOf(own) === cookieOf(fd);
  } finally {
    close(own);
  }
}

function cookieOf(fd: number): bigint {
  const cookie = new BigUint64Array(new ArrayBuffer(8));
  const length = new Uint32Array(new ArrayBuffer(4));
  return getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie, length) < 0 ? 0n : (cookie[0] ?? 0n);
}
