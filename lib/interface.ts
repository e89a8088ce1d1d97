import type { InetAddress } from "./address.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { Device } from "./internal/interface_kernel.ts";
import type { Socket } from "./socket.ts";

/** One address of an interface. */
export interface InterfaceAddress {
  /** The address, with port 0; a link-local one with the interface's index as its scope. */
  readonly address: InetAddress;
  /** The netmask, with port 0: 255.0.0.0. */
  readonly netmask: InetAddress;
  /** How many bits the netmask has: 8. */
  readonly prefixLength: number;
  /** Where datagrams to everybody on the link go, where the interface has it. */
  readonly broadcast?: InetAddress;
  /** The other end, where the interface is a link between two. */
  readonly peer?: InetAddress;
}

/** An interface as it was when it was looked at. */
export interface Interface {
  /** Its name: "eth0". */
  readonly name: string;
  /** Its number in this network namespace, from 1. */
  readonly index: number;
  /** Whether somebody has switched it on: IFF_UP. */
  readonly up: boolean;
  /** Whether it can carry packets now, as far as it knows: IFF_RUNNING. */
  readonly running: boolean;
  /** Whether it is the loopback interface: IFF_LOOPBACK. */
  readonly loopback: boolean;
  /** Whether it can reach everybody on the link at once: IFF_BROADCAST. */
  readonly broadcast: boolean;
  /** Whether it can carry multicast: IFF_MULTICAST. */
  readonly multicast: boolean;
  /** Whether it is a link between two: IFF_POINTOPOINT. */
  readonly pointToPoint: boolean;
  /** All flags, the union of the IFF_ constants. */
  readonly flags: number;
  /** The longest packet that it carries, in bytes. */
  readonly mtu: number;
  /** The hardware address: "02:00:00:00:00:01". Undefined where it has none, as a tunnel. */
  readonly hardwareAddress: string | undefined;
  /** Its bytes: none where it has no hardware address. */
  readonly hardwareBytes: Uint8Array;
  /** What kind of hardware it is, an ARPHRD_ constant; undefined where the kernel does not say. */
  readonly hardwareType: number | undefined;
  /** Its addresses, in the kernel's order. */
  readonly addresses: readonly InterfaceAddress[];
}

/** What `interfaces` and `ipAddresses` look for. */
export interface InterfacesOptions {
  /** Addresses of this family only, and interfaces that have one. Default: all interfaces. */
  readonly family?: "ipv4" | "ipv6" | number | undefined;
}

/** How an interface is found. */
export interface InterfaceOptions {
  /**
   * A socket of the network namespace that is meant: a socket belongs to the one that it was made
   * in. Default: that of this thread.
   */
  readonly socket?: Socket | undefined;
}

/**
 * Lists the network interfaces of this thread's network namespace, with their addresses, in the
 * order of their indexes.
 *
 * @throws {SystemError} the kernel cannot be asked
 * @see {@link https://man7.org/linux/man-pages/man3/getifaddrs.3.html | getifaddrs(3)}
 *
 * @example The loopback interface
 * ```ts
 * import { interfaces } from "bun-sockets";
 *
 * const lo = interfaces({ family: "ipv4" }).find(({ loopback }) => loopback);
 * const [first] = lo?.addresses ?? [];
 * console.log(lo?.name, first?.address.host, first?.prefixLength); // lo 127.0.0.1 8
 * ```
 */
export function interfaces(options: InterfacesOptions = {}): Interface[] {
  return kernel().interfaces(options);
}

/**
 * Returns the addresses of this machine as text, without ports, in the kernel's order: those of all
 * interfaces, also of those that are down. An IPv6 link-local one has its zone: "fe80::1%2".
 *
 * @throws {SystemError} the kernel cannot be asked
 * @see {@link https://man7.org/linux/man-pages/man3/getifaddrs.3.html | getifaddrs(3)}
 *
 * @example
 * ```ts
 * import { ipAddresses } from "bun-sockets";
 *
 * console.log(ipAddresses({ family: "ipv4" }).includes("127.0.0.1")); // true
 * ```
 */
export function ipAddresses(options: InterfacesOptions = {}): string[] {
  return kernel().ipAddresses(options);
}

/**
 * Lists the names and indexes of the interfaces, those without addresses too.
 *
 * @throws {SystemError} the kernel cannot be asked
 * @see {@link https://man7.org/linux/man-pages/man3/if_nameindex.3.html | if_nameindex(3)}
 */
export function interfaceNames(): { readonly index: number; readonly name: string }[] {
  return kernel().interfaceNames();
}

/**
 * Returns the index of an interface.
 *
 * @throws {TypeError} name can be no interface's name
 * @throws {SystemError} `ENODEV` there is none of that name
 * @see {@link https://man7.org/linux/man-pages/man3/if_nametoindex.3.html | if_nametoindex(3)}
 *
 * @example Both ways
 * ```ts
 * import { interfaceIndex, interfaceName } from "bun-sockets";
 *
 * console.log(interfaceIndex("lo"), interfaceName(1)); // 1 lo
 * ```
 */
export function interfaceIndex(name: string, options: InterfaceOptions = {}): number {
  return kernel().interfaceIndex(name, options);
}

/**
 * Returns the name of an interface.
 *
 * @throws {RangeError} index is out of range
 * @throws {SystemError} `ENODEV` there is none with that index
 * @see {@link https://man7.org/linux/man-pages/man3/if_indextoname.3.html | if_indextoname(3)}
 */
export function interfaceName(index: number, options: InterfaceOptions = {}): string {
  return kernel().interfaceName(index, options);
}

/** Where a device is on its bus, of the few that say. */
export interface InterfaceMap {
  /** The first byte of its memory. */
  readonly memoryStart: number;
  /** The end of its memory. */
  readonly memoryEnd: number;
  /** The first of its ports. */
  readonly baseAddress: number;
  /** Its interrupt. */
  readonly irq: number;
  /** Its DMA channel. */
  readonly dma: number;
  /** Which of its connectors it uses. */
  readonly port: number;
}

/**
 * One interface by its name: each property asks the kernel, and setting one tells it. It holds no
 * descriptor.
 *
 * To set takes CAP_NET_ADMIN in the user namespace of the network namespace.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/netdevice.7.html | netdevice(7)}
 *
 * @example
 * ```ts
 * import { NetworkInterface } from "bun-sockets";
 *
 * const lo = new NetworkInterface("lo");
 * console.log(lo.index, lo.mtu > 1280, lo.up); // 1 true true
 * ```
 */
export class NetworkInterface {
  /** Its name. */
  readonly name: string;
  readonly #device: Device;

  /**
   * Takes the name of an interface, which needs not exist yet.
   *
   * @throws {TypeError} name can be no interface's name
   */
  constructor(name: string, options: InterfaceOptions = {}) {
    this.#device = new (kernel().Device)(name, options);
    this.name = this.#device.name;
  }

  /**
   * Its index.
   *
   * @throws {SystemError} `ENODEV` there is none of that name; so for all properties
   */
  get index(): number {
    return this.#device.index;
  }

  /**
   * Its flags, the union of the IFF_ constants that fit 16 bits. Which of them can be set is the
   * kernel's to say: it passes over others in silence.
   */
  get flags(): number {
    return this.#device.flags;
  }

  set flags(flags: number) {
    this.#device.flags = flags;
  }

  /** Whether it is switched on: IFF_UP. Setting it changes no other flag. */
  get up(): boolean {
    return this.#device.up;
  }

  set up(up: boolean) {
    this.#device.up = up;
  }

  /**
   * The longest packet that it carries, in bytes.
   *
   * @throws {SystemError} `EINVAL` when it is set to what the device cannot do
   */
  get mtu(): number {
    return this.#device.mtu;
  }

  set mtu(mtu: number) {
    this.#device.mtu = mtu;
  }

  /** How many packets may wait to be sent. */
  get transmitQueueLength(): number {
    return this.#device.transmitQueueLength;
  }

  set transmitQueueLength(packets: number) {
    this.#device.transmitQueueLength = packets;
  }

  /** What kind of hardware it is: an ARPHRD_ constant. */
  get hardwareType(): number {
    return this.#device.hardwareType;
  }

  /**
   * Its hardware address as text: "02:00:00:00:00:01". Of devices whose addresses have
   * another length than six bytes, `interfaces` tells all of it. Some devices take another one only
   * while they are down.
   *
   * @throws {TypeError} the text is no hardware address
   * @throws {SystemError} `EADDRNOTAVAIL` it is no address that a device can have, as a multicast
   * one; `EBUSY` the device is up
   */
  get hardwareAddress(): string {
    return this.#device.hardwareAddress;
  }

  set hardwareAddress(address: string | Uint8Array) {
    this.#device.hardwareAddress = address;
  }

  /** Where the device is on its bus: all 0 for most. */
  get map(): InterfaceMap {
    return this.#device.map;
  }
}

// Loaded when an interface is first looked at: an import pays for nothing that is not used.
function kernel() {
  return loadModule(() =>
    require("./internal/interface_kernel.ts"),
  ) as typeof import("./internal/interface_kernel.ts");
}
