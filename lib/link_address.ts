import { IF_NAMESIZE } from "../structs/constants/net_if.ts";
import { AF_PACKET } from "../structs/constants/sys_socket.ts";
import { sockaddr_ll } from "../structs/sockaddr_ll.ts";
import type { AddressParts } from "./address.ts";
import { check } from "./error.ts";
import { describe, requireInteger } from "./internal/arguments.ts";
import { copyBytes, hashBytes, requireText, sameBytes, viewOf } from "./internal/sockaddr.ts";
import { if_nametoindex } from "./sys/net_if.ts";

/**
 * Whom a packet was for, as the kernel tells of those that a packet socket receives: this machine, all
 * on the link, a group, another machine (which only a promiscuous interface takes in), or it was sent
 * by this machine. A number where this library has no name for it.
 */
export type PacketType =
  | "host"
  | "broadcast"
  | "multicast"
  | "otherHost"
  | "outgoing"
  | "loopback"
  | "user"
  | "kernel"
  | number;

/** What a LinkAddress is made of. */
export interface LinkAddressParts {
  /**
   * The interface: its name, or its index; 0 is any. -1 is one that has gone, as the kernel says of a
   * socket that was bound to it.
   */
  readonly interface: string | number;
  /** The EtherType, an `ETH_P_` constant in host byte order. Default 0: not said. */
  readonly protocol?: number | undefined;
  /** The hardware address: "02:00:00:00:00:01", or its bytes, up to 32. Default none. */
  readonly hardwareAddress?: string | Uint8Array | undefined;
  /** The kind of hardware, an `ARPHRD_` constant. Default 0. */
  readonly hardwareType?: number | undefined;
  /** Whom the packet was for. Default "host". */
  readonly packetType?: PacketType | undefined;
}

/** By the numbers of linux/if_packet.h, from PACKET_HOST on. The package does not export it. */
export const PACKET_TYPES: readonly PacketType[] = [
  "host",
  "broadcast",
  "multicast",
  "otherHost",
  "outgoing",
  "loopback",
  "user",
  "kernel",
];

// Set by the class below: its private bytes, for lib/address.ts. The package does not export it.

/** The bytes of an address as it holds them, without the index of a name. Undefined for others. */
export let bytesOfLink: (address: object) => Uint8Array | undefined;
/** The same as the kernel takes them. */
export let resolvedBytesOfLink: (address: object) => Uint8Array | undefined;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const U16_MAX = 0xffff;
const U8_MAX = 0xff;
const INDEX_MAX = 2 ** 31 - 1;
const GONE = -1;
const HARDWARE = sockaddr_ll.sll_addr.offset;
/** MAX_ADDR_LEN of the kernel's linux/netdevice.h. The struct has room for eight. */
const HARDWARE_MAX = 32;

/**
 * A link-layer address: an interface, an EtherType and a hardware address, as packet sockets take and
 * tell them. Immutable.
 *
 * An interface given by name stays a name and becomes an index each time the address is used, because
 * indexes belong to the network namespace of the moment; `resolveInterface` does that once. The kernel
 * answers with indexes.
 *
 * Addresses are equal when interface, protocol and hardware address are. `hardwareType` and
 * `packetType` are what the kernel tells of a received packet beside its sender: they count for
 * nothing when one is sent, nor in `equals`, `key` and the text.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7)}
 *
 * @example Text, and what it means
 * ```ts
 * import { LinkAddress, parseAddress } from "bun-sockets";
 *
 * const address = new LinkAddress({
 *   interface: "eth0",
 *   hardwareAddress: "02:00:00:00:00:01",
 *   protocol: 0x0800,
 * });
 * console.log(`${address}`); // link:eth0/02:00:00:00:00:01/0x0800
 * console.log(parseAddress("link:eth0").family); // link
 * ```
 */
export class LinkAddress {
  readonly #bytes: Uint8Array;
  readonly #name: string | undefined;

  /**
   * Makes an address of its parts, or of the bytes of a `sockaddr_ll` as the kernel fills it.
   *
   * @throws {TypeError} the interface can be no interface's name, the hardware address is none, or
   * the bytes are no `sockaddr_ll`
   * @throws {RangeError} a number is out of range, or the hardware address longer than 32 bytes
   */
  constructor(parts: LinkAddressParts | Uint8Array) {
    if (parts instanceof Uint8Array) {
      this.#bytes = canonical(parts);
      Object.freeze(this);
      return;
    }
    if (typeof parts !== "object" || parts === null) {
      throw new TypeError(
        `Cannot make a LinkAddress of ${describe(parts)}: expected its parts, or bytes`,
      );
    }
    const { protocol = 0, hardwareAddress, hardwareType = 0, packetType = "host" } = parts;
    const device = toDevice(parts.interface);
    const hardware = toHardware(hardwareAddress);
    requireInteger(protocol, 0, U16_MAX, "a protocol");
    requireInteger(hardwareType, 0, U16_MAX, "a hardware type");
    const type = toNumber(packetType);
    this.#bytes = room(hardware.length);
    const view = viewOf(this.#bytes);
    sockaddr_ll.sll_protocol.set(view, 0, protocol);
    sockaddr_ll.sll_hatype.set(view, 0, hardwareType);
    sockaddr_ll.sll_pkttype.set(view, 0, type);
    this.#bytes.set(hardware, HARDWARE);
    if (typeof device === "string") this.#name = device;
    else sockaddr_ll.sll_ifindex.set(view, 0, device);
    Object.freeze(this);
  }

  /** "link". */
  get family(): "link" {
    return "link";
  }

  /** The interface: its name as it was given, or its index; 0 is any, -1 one that has gone. */
  get interface(): string | number {
    return this.#name ?? sockaddr_ll.sll_ifindex.get(viewOf(this.#bytes), 0);
  }

  /**
   * The index of the interface. Asks the kernel when it is given by name.
   *
   * @throws {SystemError} `ENODEV` this network namespace has no interface of that name
   */
  get interfaceIndex(): number {
    return sockaddr_ll.sll_ifindex.get(viewOf(this.#resolve().#bytes), 0);
  }

  /** The EtherType, an `ETH_P_` constant in host byte order; 0 where it is not said. */
  get protocol(): number {
    return sockaddr_ll.sll_protocol.get(viewOf(this.#bytes), 0);
  }

  /** The hardware address: "02:00:00:00:00:01". Undefined where there is none. */
  get hardwareAddress(): string | undefined {
    const bytes = hardwareOf(this.#bytes);
    if (bytes.length === 0) return undefined;
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
  }

  /** A copy of the bytes of the hardware address: none where there is none. */
  get hardwareBytes(): Uint8Array {
    return hardwareOf(this.#bytes).slice();
  }

  /** The kind of hardware, an `ARPHRD_` constant; 0 where it is not said. */
  get hardwareType(): number {
    return sockaddr_ll.sll_hatype.get(viewOf(this.#bytes), 0);
  }

  /** Whom the packet was for. "host" also where nothing is said. */
  get packetType(): PacketType {
    const type = sockaddr_ll.sll_pkttype.get(viewOf(this.#bytes), 0);
    return PACKET_TYPES[type] ?? type;
  }

  /**
   * A copy of the bytes of `struct sockaddr_ll`: 20, more where the hardware address has more than
   * eight.
   *
   * @throws {SystemError} `ENODEV` this network namespace has no interface of that name
   */
  get bytes(): Uint8Array {
    return this.#resolve().#bytes.slice();
  }

  /** The canonical text, equal for equal addresses: a key for a Map. */
  get key(): string {
    return this.toString();
  }

  /**
   * 32 bits, equal for equal addresses, different in every process: a key for tables that compare
   * afterwards.
   */
  get hash(): number {
    return hashBytes(identity(this.#bytes));
  }

  /**
   * Makes the same address with its interface as an index. Asks the kernel when it is a name.
   *
   * @throws {SystemError} `ENODEV` this network namespace has no interface of that name
   * @see {@link https://man7.org/linux/man-pages/man3/if_nametoindex.3.html | if_nametoindex(3)}
   */
  resolveInterface(): LinkAddress {
    return this.#resolve();
  }

  // Private, so that no subclass comes between an address and the bytes that the kernel gets.
  #resolve(): LinkAddress {
    if (this.#name === undefined) return this;
    const name = Buffer.from(`${this.#name}\0`);
    const index = check(if_nametoindex(name), "if_nametoindex", { address: this });
    const bytes = this.#bytes.slice();
    sockaddr_ll.sll_ifindex.set(viewOf(bytes), 0, index);
    return new LinkAddress(bytes);
  }

  /**
   * Tells whether the other is a LinkAddress with the same interface, protocol and hardware address.
   * An interface's name is not its index.
   */
  equals(other: unknown): boolean {
    return (
      other instanceof LinkAddress &&
      #bytes in other &&
      this.#name === other.#name &&
      sameBytes(identity(this.#bytes), identity(other.#bytes))
    );
  }

  /**
   * The text that parseAddress reads: "link:" and the interface, then, where there are such, the
   * hardware address and the protocol: "link:eth0/02:00:00:00:00:01/0x0800".
   */
  toString(): string {
    const { hardwareAddress, protocol } = this;
    const hardware = hardwareAddress === undefined ? "" : `/${hardwareAddress}`;
    const type = protocol === 0 ? "" : `/0x${protocol.toString(16).padStart(4, "0")}`;
    return `link:${this.interface}${hardware}${type}`;
  }

  /** The parts, which addressFrom turns back into this address. */
  toJSON(): AddressParts {
    const { protocol, hardwareAddress, hardwareType, packetType } = this;
    return {
      family: "link",
      interface: this.interface,
      ...(protocol === 0 ? {} : { protocol }),
      ...(hardwareAddress === undefined ? {} : { hardwareAddress }),
      ...(hardwareType === 0 ? {} : { hardwareType }),
      ...(packetType === "host" ? {} : { packetType }),
    };
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#bytes in this)) return "LinkAddress";
    return `LinkAddress ${this}${this.packetType === "host" ? "" : `, ${this.packetType}`}`;
  }

  static {
    bytesOfLink = (address) => (#bytes in address ? address.#bytes : undefined);
    resolvedBytesOfLink = (address) => (#bytes in address ? address.#resolve().#bytes : undefined);
  }
}

/** Reads what follows "link:". The package does not export it. */
export function parseLink(text: string): LinkAddress {
  const [device = "", ...rest] = text.split("/");
  const [first = "", second = ""] = rest;
  const hardwareAddress = PAIRS.test(first) ? first : undefined;
  const last = hardwareAddress === undefined ? first : second;
  const parts = (hardwareAddress === undefined ? 0 : 1) + (last === "" ? 0 : 1);
  const isSound = rest.length === parts && (last === "" || PROTOCOL.test(last));
  if (!isSound || device === "") {
    throw new TypeError(
      `Cannot parse ${JSON.stringify(`link:${text}`)} as an address: expected "link:eth0" or "link:eth0/02:00:00:00:00:01/0x0800"`,
    );
  }
  return new LinkAddress({
    interface: INDEX.test(device) ? Number(device) : device,
    hardwareAddress,
    protocol: last === "" ? 0 : Number(last),
  });
}

const PAIRS = /^[0-9a-f]{2}(:[0-9a-f]{2})*$/i;
const PROTOCOL = /^0x[0-9a-f]{4}$/i;
const INDEX = /^(0|-?[1-9]\d*)$/;

/**
 * Tells whether the bytes are those of a `sockaddr_ll`: some lengths are the kernel's own. The
 * package does not export it.
 */
export function isLinkSockaddr(bytes: Uint8Array): boolean {
  if (bytes.length < HARDWARE) return false;
  const view = viewOf(bytes);
  const hardwareBytes = sockaddr_ll.sll_halen.get(view, 0);
  return (
    sockaddr_ll.sll_family.get(view, 0) === AF_PACKET &&
    sockaddr_ll.sll_ifindex.get(view, 0) >= GONE &&
    hardwareBytes <= HARDWARE_MAX &&
    bytes.length >= HARDWARE + hardwareBytes
  );
}

// Equal addresses have equal bytes: what lies behind a hardware address means nothing.
function canonical(source: Uint8Array): Uint8Array {
  const bytes = copyBytes(source, "a LinkAddress");
  if (!isLinkSockaddr(bytes)) {
    throw new TypeError(
      `Cannot make a LinkAddress: expected at least ${HARDWARE} bytes that start with its family`,
    );
  }
  const length = sockaddr_ll.sll_halen.get(viewOf(bytes), 0);
  const made = room(length);
  made.set(bytes.subarray(0, HARDWARE + length));
  return made;
}

// bind(2) takes no fewer bytes than the struct has.
function room(hardwareBytes: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(sockaddr_ll.size, HARDWARE + hardwareBytes));
  const view = viewOf(bytes);
  sockaddr_ll.sll_family.set(view, 0, AF_PACKET);
  sockaddr_ll.sll_halen.set(view, 0, hardwareBytes);
  return bytes;
}

function hardwareOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(HARDWARE, HARDWARE + sockaddr_ll.sll_halen.get(viewOf(bytes), 0));
}

/** What makes an address that one: everything but what is told of a packet. */
function identity(bytes: Uint8Array): Uint8Array {
  const same = bytes.slice();
  const view = viewOf(same);
  sockaddr_ll.sll_hatype.set(view, 0, 0);
  sockaddr_ll.sll_pkttype.set(view, 0, 0);
  return same;
}

function toDevice(given: unknown): string | number {
  if (typeof given === "number") {
    requireInteger(given, GONE, INDEX_MAX, "the index of an interface");
    return given;
  }
  const name = requireText(given, "an interface");
  // What the kernel takes as a name, but for those that would be read back as an index.
  const isName = /^[^\s/:\0]+$/.test(name) && name !== "." && name !== ".." && !INDEX.test(name);
  if (isName && Buffer.byteLength(name) < IF_NAMESIZE) return name;
  throw new TypeError(
    `Cannot use ${JSON.stringify(name)} as an interface: expected a name of 1 to ${IF_NAMESIZE - 1} bytes without blanks, "/" and ":", or an index as a number`,
  );
}

/** Reads a hardware address, or its text. The package does not export it. */
export function toHardware(given: unknown): Uint8Array {
  if (given === undefined) return new Uint8Array(0);
  const bytes =
    typeof given === "string" ? fromText(given) : copyBytes(given, "a hardware address");
  if (bytes.length > HARDWARE_MAX) {
    throw new RangeError(
      `Cannot use ${bytes.length} bytes as a hardware address: expected 0 to ${HARDWARE_MAX}`,
    );
  }
  return bytes;
}

function fromText(text: string): Uint8Array {
  if (PAIRS.test(text)) return Uint8Array.fromHex(text.replaceAll(":", ""));
  throw new TypeError(
    `Cannot use ${JSON.stringify(text)} as a hardware address: expected pairs of digits, as "02:00:00:00:00:01"`,
  );
}

function toNumber(type: PacketType): number {
  if (typeof type === "number") {
    requireInteger(type, 0, U8_MAX, "a packet type");
    return type;
  }
  const number = PACKET_TYPES.indexOf(type);
  if (number >= 0) return number;
  const known = PACKET_TYPES.map((name) => `"${name}"`).join(", ");
  const given = typeof type === "string" ? JSON.stringify(type) : describe(type);
  throw new TypeError(`Cannot use ${given} as a packet type: expected ${known}, or a number`);
}
