/**
 * What the functions for interfaces do, and `NetworkInterface`.
 *
 * @module
 */
import { ENODEV, ENXIO } from "../../structs/constants/errno.ts";
import {
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFINDEX,
  SIOCGIFMAP,
  SIOCGIFMTU,
  SIOCGIFNAME,
  SIOCGIFTXQLEN,
  SIOCSIFFLAGS,
  SIOCSIFHWADDR,
  SIOCSIFMTU,
  SIOCSIFTXQLEN,
} from "../../structs/constants/linux_sockios.ts";
import {
  IF_NAMESIZE,
  IFF_BROADCAST,
  IFF_LOOPBACK,
  IFF_MULTICAST,
  IFF_POINTOPOINT,
  IFF_RUNNING,
  IFF_UP,
  IFHWADDRLEN,
} from "../../structs/constants/net_if.ts";
import {
  AF_INET,
  AF_INET6,
  AF_PACKET,
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
} from "../../structs/constants/sys_socket.ts";
import { if_nameindex } from "../../structs/if_nameindex.ts";
import { ifaddrs } from "../../structs/ifaddrs.ts";
import { ifmap } from "../../structs/ifmap.ts";
import { ifreq } from "../../structs/ifreq.ts";
import { sockaddr } from "../../structs/sockaddr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { sockaddr_ll } from "../../structs/sockaddr_ll.ts";
import { addressFromBytes, type Inet4Address, type InetAddress } from "../address.ts";
import { check, systemError } from "../error.ts";
import { readMemory, readText } from "../ffi/memory.ts";
import type {
  Interface,
  InterfaceAddress,
  InterfaceMap,
  InterfaceOptions,
  InterfacesOptions,
} from "../interface.ts";
import { Prefix } from "../prefix.ts";
import { descriptorOf as ownDescriptorOf, type Socket } from "../socket.ts";
import { freeifaddrs, getifaddrs } from "../sys/ifaddrs.ts";
import { ioctl } from "../sys/ioctl.ts";
import {
  if_freenameindex,
  if_indextoname,
  if_nametoindex,
  if_nameindex as listInterfaces,
} from "../sys/net_if.ts";
import { socket } from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import { describe, requireBoolean, requireInteger, requireOptions } from "./arguments.ts";
import { openError } from "./descriptor.ts";
import { toDomain } from "./parts.ts";
import { copyBytes, requireText } from "./sockaddr.ts";

const INT_MAX = 2 ** 31 - 1;
/** Where an `ifreq` has its value. */
const VALUE = ifreq.ifr_ifru.offset;

/** The work of `interfaces`. */
export function interfaces(options: InterfacesOptions = {}): Interface[] {
  const family = familyOf(options);
  const found = new Map<string, Found>();
  withList((at) => collect(found, at));
  const all: Interface[] = [];
  withSocket(undefined, (fd) => {
    for (const [name, each] of found) {
      const made = finish(fd, name, each, family);
      if (made) all.push(made);
    }
  });
  return all.sort((left, right) => left.index - right.index);
}

/** The work of `ipAddresses`. */
export function ipAddresses(options: InterfacesOptions = {}): string[] {
  const family = familyOf(options);
  const hosts: string[] = [];
  withList((at) => {
    const address = addressAt(readLink(at).address);
    if (address && (family === 0 || domainOf(address) === family)) hosts.push(address.host);
  });
  return hosts;
}

/** The work of `interfaceNames`. */
export function interfaceNames(): { readonly index: number; readonly name: string }[] {
  const list = check(listInterfaces(), "if_nameindex");
  try {
    const found: { index: number; name: string }[] = [];
    for (let at = list; ; at += if_nameindex.size) {
      const entry = new DataView(readMemory(at, if_nameindex.size).buffer);
      const index = if_nameindex.if_index.get(entry, 0);
      if (index === 0) return found;
      found.push({ index, name: readText(if_nameindex.if_name.get(entry, 0)) });
    }
  } finally {
    if_freenameindex(list);
  }
}

/** The work of `interfaceIndex`. */
export function interfaceIndex(name: string, options: InterfaceOptions = {}): number {
  const text = requireName(name);
  const { socket: inside } = requireOptions(options);
  if (inside === undefined)
    return checkDevice(if_nametoindex(Buffer.from(`${text}\0`)), "if_nametoindex", text);
  return new Device(text, { socket: inside }).index;
}

/** The index of an interface in the network namespace of a socket. */
export function interfaceIndexOf(fd: number, name: unknown): number {
  const request = new DataView(new ArrayBuffer(ifreq.size));
  const text = requireName(name);
  ifreq.ifr_ifrn.set(request, 0, Buffer.from(text));
  checkDevice(ioctl(fd, SIOCGIFINDEX, request), "ioctl", text, "SIOCGIFINDEX");
  return request.getInt32(VALUE, true);
}

/** The work of `interfaceName`. */
export function interfaceName(index: number, options: InterfaceOptions = {}): string {
  requireInteger(index, 1, INT_MAX, "an interface index");
  const { socket: inside } = requireOptions(options);
  if (inside !== undefined) {
    const request = new DataView(new ArrayBuffer(ifreq.size));
    request.setInt32(VALUE, index, true);
    withSocket(inside, (fd) =>
      checkDevice(ioctl(fd, SIOCGIFNAME, request), "ioctl", index, "SIOCGIFNAME"),
    );
    return textOf(ifreq.ifr_ifrn.get(request, 0));
  }
  const name = new Uint8Array(IF_NAMESIZE);
  const result = if_indextoname(index, name);
  // The two calls have two errors for one thing.
  checkDevice(result === -ENXIO ? -ENODEV : result, "if_indextoname", index);
  return textOf(name);
}

/** The work of `NetworkInterface`. */
export class Device {
  readonly name: string;
  readonly #socket: Socket | undefined;

  constructor(name: string, options: InterfaceOptions = {}) {
    this.name = requireName(name);
    this.#socket = requireOptions(options).socket;
  }

  get index(): number {
    return this.#ask("SIOCGIFINDEX", SIOCGIFINDEX).getInt32(VALUE, true);
  }

  get flags(): number {
    return this.#ask("SIOCGIFFLAGS", SIOCGIFFLAGS).getUint16(VALUE, true);
  }

  set flags(flags: number) {
    requireInteger(flags, 0, 0xffff, "flags");
    this.#tell("SIOCSIFFLAGS", SIOCSIFFLAGS, (request) => request.setUint16(VALUE, flags, true));
  }

  get up(): boolean {
    return (this.flags & IFF_UP) !== 0;
  }

  set up(up: boolean) {
    requireBoolean(up, "up");
    this.flags = up ? this.flags | IFF_UP : this.flags & ~IFF_UP;
  }

  get mtu(): number {
    return this.#ask("SIOCGIFMTU", SIOCGIFMTU).getInt32(VALUE, true);
  }

  set mtu(mtu: number) {
    requireInteger(mtu, 0, INT_MAX, "an MTU");
    this.#tell("SIOCSIFMTU", SIOCSIFMTU, (request) => request.setInt32(VALUE, mtu, true));
  }

  get transmitQueueLength(): number {
    return this.#ask("SIOCGIFTXQLEN", SIOCGIFTXQLEN).getInt32(VALUE, true);
  }

  set transmitQueueLength(packets: number) {
    requireInteger(packets, 0, INT_MAX, "a transmit queue length");
    this.#tell("SIOCSIFTXQLEN", SIOCSIFTXQLEN, (request) => request.setInt32(VALUE, packets, true));
  }

  get hardwareType(): number {
    return this.#ask("SIOCGIFHWADDR", SIOCGIFHWADDR).getUint16(VALUE, true);
  }

  get hardwareAddress(): string {
    const request = this.#ask("SIOCGIFHWADDR", SIOCGIFHWADDR);
    // Its length is not told: those of Ethernet and of the loopback interface are six bytes.
    return formatHardware(
      new Uint8Array(request.buffer, VALUE + sockaddr.sa_data.offset, IFHWADDRLEN),
    );
  }

  set hardwareAddress(address: string | Uint8Array) {
    const bytes = parseHardware(address);
    const type = this.hardwareType;
    this.#tell("SIOCSIFHWADDR", SIOCSIFHWADDR, (request) => {
      request.setUint16(VALUE, type, true);
      new Uint8Array(request.buffer, VALUE + sockaddr.sa_data.offset).set(bytes);
    });
  }

  get map(): InterfaceMap {
    const request = this.#ask("SIOCGIFMAP", SIOCGIFMAP);
    return {
      memoryStart: ifmap.mem_start.get(request, VALUE),
      memoryEnd: ifmap.mem_end.get(request, VALUE),
      baseAddress: ifmap.base_addr.get(request, VALUE),
      irq: ifmap.irq.get(request, VALUE),
      dma: ifmap.dma.get(request, VALUE),
      port: ifmap.port.get(request, VALUE),
    };
  }

  #ask(name: string, request: number): DataView {
    return this.#tell(name, request, () => {});
  }

  #tell(name: string, request: number, fill: (request: DataView) => void): DataView {
    const view = new DataView(new ArrayBuffer(ifreq.size));
    ifreq.ifr_ifrn.set(view, 0, Buffer.from(this.name));
    fill(view);
    withSocket(this.#socket, (fd) =>
      checkDevice(ioctl(fd, request, view), "ioctl", this.name, name),
    );
    return view;
  }
}

function domainOf(address: InetAddress): number {
  return address.family === "ipv4" ? AF_INET : AF_INET6;
}

function familyOf(options: InterfacesOptions): number {
  const { family } = requireOptions(options);
  const domain = family === undefined ? 0 : toDomain(family);
  if (domain === 0 || domain === AF_INET || domain === AF_INET6) return domain;
  throw new TypeError(`Cannot list addresses of family ${family}: expected "ipv4" or "ipv6"`);
}

// What is known of an interface from the list.
interface Found {
  flags: number;
  index: number | undefined;
  hardwareType: number | undefined;
  hardwareBytes: Uint8Array;
  readonly addresses: InterfaceAddress[];
}

interface Link {
  readonly name: string;
  readonly flags: number;
  readonly address: number;
  readonly netmask: number;
  readonly other: number;
  readonly next: number;
}

function withList(each: (at: number) => void): void {
  const list = new BigUint64Array(1);
  check(getifaddrs(list), "getifaddrs");
  try {
    for (let at = Number(list[0]); at !== 0; at = readLink(at).next) each(at);
  } finally {
    freeifaddrs(Number(list[0]));
  }
}

function readLink(at: number): Link {
  const view = new DataView(readMemory(at, ifaddrs.size).buffer);
  return {
    name: readText(ifaddrs.ifa_name.get(view, 0)),
    flags: ifaddrs.ifa_flags.get(view, 0),
    address: ifaddrs.ifa_addr.get(view, 0),
    netmask: ifaddrs.ifa_netmask.get(view, 0),
    other: ifaddrs.ifa_ifu.get(view, 0),
    next: ifaddrs.ifa_next.get(view, 0),
  };
}

function collect(found: Map<string, Found>, at: number): void {
  const link = readLink(at);
  // An IPv4 address can have a label, "eth0:1", which stands in the place of the name.
  const name = link.name.replace(/:.*/, "");
  const { flags } = link;
  const entry: Found = found.get(name) ?? {
    flags,
    index: undefined,
    hardwareType: undefined,
    hardwareBytes: new Uint8Array(0),
    addresses: [],
  };
  found.set(name, entry);
  if (link.address === 0) return;
  const address = addressAt(link.address);
  if (address) entry.addresses.push(toInterfaceAddress(address, link));
  else if (familyAt(link.address) === AF_PACKET) readHardware(entry, link.address);
}

function readHardware(entry: Found, at: number): void {
  const view = new DataView(readMemory(at, sockaddr_ll.sll_addr.offset).buffer);
  const length = sockaddr_ll.sll_halen.get(view, 0);
  entry.index = sockaddr_ll.sll_ifindex.get(view, 0);
  entry.hardwareType = sockaddr_ll.sll_hatype.get(view, 0);
  // libc makes room for those that are longer than the struct says, as InfiniBand's.
  entry.hardwareBytes = readMemory(at + sockaddr_ll.sll_addr.offset, length);
}

function toInterfaceAddress(address: InetAddress, link: Link): InterfaceAddress {
  const netmask = addressAt(link.netmask) ?? address;
  const other = addressAt(link.other);
  const prefixLength = link.netmask === 0 ? 0 : countBits(netmask);
  const what = other && roleOf(other, address, prefixLength);
  return {
    address,
    netmask,
    prefixLength,
    ...(other && what === "broadcast" ? { broadcast: other } : {}),
    ...(other && what === "peer" ? { peer: other } : {}),
  };
}

// One place holds the broadcast address, the peer, or the address again where there is neither, and
// the flags of the interface do not tell. A broadcast address is in the address's own network.
function roleOf(
  other: InetAddress,
  address: InetAddress,
  prefixLength: number,
): "broadcast" | "peer" | undefined {
  if (other.equals(address)) return undefined;
  if (address.family === "ipv6") return "peer";
  const isInside = Prefix.of(address, prefixLength).contains(other);
  return isInside || (other as Inet4Address).isBroadcast ? "broadcast" : "peer";
}

function countBits(netmask: InetAddress): number {
  const { bytes } = netmask;
  const { sin_addr } = sockaddr_in;
  const { sin6_addr } = sockaddr_in6;
  const { offset, size } = netmask.family === "ipv4" ? sin_addr : sin6_addr;
  let bits = 0;
  for (const byte of bytes.subarray(offset, offset + size))
    for (let rest = byte; rest !== 0; rest &= rest - 1) bits++;
  return bits;
}

function familyAt(at: number): number {
  return new DataView(readMemory(at, 2).buffer).getUint16(0, true);
}

function addressAt(at: number): InetAddress | undefined {
  const family = at === 0 ? 0 : familyAt(at);
  if (family === AF_INET) return addressFromBytes(readMemory(at, sockaddr_in.size)) as InetAddress;
  if (family === AF_INET6)
    return addressFromBytes(readMemory(at, sockaddr_in6.size)) as InetAddress;
  return undefined;
}

// Undefined where the interface has no address of the family, or has gone meanwhile.
function finish(fd: number, name: string, each: Found, family: number): Interface | undefined {
  const addresses = each.addresses.filter(
    ({ address }) => family === 0 || domainOf(address) === family,
  );
  if (family !== 0 && addresses.length === 0) return undefined;
  const request = new DataView(new ArrayBuffer(ifreq.size));
  ifreq.ifr_ifrn.set(request, 0, Buffer.from(name));
  const ask = (code: number, option: string): number | undefined => {
    const result = ioctl(fd, code, request);
    if (result === -ENODEV || result === -ENXIO) return undefined;
    check(result, "ioctl", { option });
    return request.getInt32(VALUE, true);
  };
  const mtu = ask(SIOCGIFMTU, "SIOCGIFMTU");
  const index = each.index ?? ask(SIOCGIFINDEX, "SIOCGIFINDEX");
  if (mtu === undefined || index === undefined) return undefined;
  const { flags, hardwareType, hardwareBytes } = each;
  const has = (flag: number) => (flags & flag) !== 0;
  return {
    name,
    index,
    up: has(IFF_UP),
    running: has(IFF_RUNNING),
    loopback: has(IFF_LOOPBACK),
    broadcast: has(IFF_BROADCAST),
    multicast: has(IFF_MULTICAST),
    pointToPoint: has(IFF_POINTOPOINT),
    flags,
    mtu,
    hardwareAddress: hardwareBytes.length === 0 ? undefined : formatHardware(hardwareBytes),
    hardwareBytes,
    hardwareType,
    addresses,
  };
}

// Where there is no such interface its name tells more than the request.
function checkDevice(
  result: number,
  syscall: string,
  where: string | number,
  option?: string,
): number {
  const details = option === undefined ? {} : { option };
  if (result !== -ENODEV) return check(result, syscall, details);
  const hint = 'There is no such interface: "interfaces()" lists those that there are';
  throw systemError(result, syscall, {
    ...details,
    address: { toString: () => `${where}` },
    hint: option === undefined ? hint : `${hint}, and a socket sees those of its network namespace`,
  });
}

// Interfaces are asked about through any socket; a Unix one needs no network in the kernel.
function withSocket<Result>(inside: Socket | undefined, work: (fd: number) => Result): Result {
  if (inside !== undefined) return work(descriptorOf(inside));
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw openError(fd, "socket");
  try {
    return work(fd);
  } finally {
    close(fd);
  }
}

function descriptorOf(inside: Socket): number {
  // Not by its property: that gives the number away, and costs the socket a little from then on.
  const descriptor = ownDescriptorOf(inside);
  if (descriptor) return descriptor.fd;
  throw new TypeError(`Cannot use ${describe(inside)} as a socket: expected a Socket`);
}

// What the kernel takes as a name, so that nothing is cut off in silence.
function requireName(name: unknown): string {
  const text = requireText(name, "an interface name");
  const isName = /^[^\s/:\0]+$/.test(text) && text !== "." && text !== "..";
  if (isName && Buffer.byteLength(text) < IF_NAMESIZE) return text;
  throw new TypeError(
    `Cannot use ${JSON.stringify(text)} as an interface name: expected 1 to ${IF_NAMESIZE - 1} bytes without blanks, "/" and ":"`,
  );
}

function parseHardware(address: unknown): Uint8Array {
  const bytes =
    typeof address === "string" ? parseHardwareText(address) : copyBytes(address, "an address");
  if (bytes?.length === IFHWADDRLEN) return bytes;
  const given = typeof address === "string" ? JSON.stringify(address) : `${bytes?.length} bytes`;
  throw new TypeError(
    `Cannot use ${given} as a hardware address: expected ${IFHWADDRLEN} bytes, as "02:00:00:00:00:01"`,
  );
}

function parseHardwareText(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2})*$/i.test(text)) return undefined;
  return Uint8Array.fromHex(text.replaceAll(":", ""));
}

function formatHardware(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function textOf(name: Uint8Array): string {
  const end = name.indexOf(0);
  return Buffer.from(end < 0 ? name : name.subarray(0, end)).toString();
}
