import { AF_INET, AF_INET6, AF_PACKET, AF_UNIX } from "../structs/constants/sys_socket.ts";
import { sockaddr } from "../structs/sockaddr.ts";
import { sockaddr_in } from "../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../structs/sockaddr_in6.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import { sockaddr_un } from "../structs/sockaddr_un.ts";
import {
  bytesOfInet4,
  bytesOfInet6,
  Inet4Address,
  Inet6Address,
  resolvedBytesOfInet6,
} from "./inet_address.ts";
import { describe } from "./internal/arguments.ts";
import { copyBytes, hashBytes, requireText, sameBytes } from "./internal/sockaddr.ts";
import {
  bytesOfLink,
  isLinkSockaddr,
  LinkAddress,
  type PacketType,
  parseLink,
  resolvedBytesOfLink,
} from "./link_address.ts";
import { bytesOfUnix, isUnixSockaddr, UnixAddress } from "./unix_address.ts";

export { Inet4Address, Inet6Address } from "./inet_address.ts";
export { LinkAddress } from "./link_address.ts";
export { UnixAddress } from "./unix_address.ts";

/** An address of any family. */
export type Address = Inet4Address | Inet6Address | UnixAddress | LinkAddress | RawAddress;

/** An address that a UDP or TCP socket takes. */
export type InetAddress = Inet4Address | Inet6Address;

/**
 * The parts of an address as plain values: `addressFrom` makes the same address of them, also after
 * JSON.
 */
export type AddressParts =
  | { readonly family: "ipv4"; readonly host: string; readonly port: number }
  | {
      readonly family: "ipv6";
      readonly host: string;
      readonly port: number;
      readonly flow?: number;
    }
  | { readonly family: "unix"; readonly path: string }
  | { readonly family: "unix"; readonly abstract: string }
  | { readonly family: "unix" }
  | {
      readonly family: "link";
      readonly interface: string | number;
      readonly protocol?: number;
      readonly hardwareAddress?: string;
      readonly hardwareType?: number;
      readonly packetType?: PacketType;
    }
  | { readonly family: number; readonly sockaddr: string };

const INSPECT = Symbol.for("nodejs.util.inspect.custom");

// Set by the class below: its private bytes, for the functions of this file. Undefined for any
// other object.
let bytesOfRaw: (address: object) => Uint8Array | undefined;

/**
 * An address of any other family: the bytes of its `sockaddr`, passed through as they are.
 *
 * @example Netlink, with the C calls
 * ```ts
 * import { RawAddress } from "bun-sockets";
 * import { AF_NETLINK, SOCK_RAW, bind, close, socket } from "bun-sockets/sys";
 *
 * // struct sockaddr_nl: the family, a port ID of 0, which lets the kernel choose one, no groups.
 * const address = new RawAddress(new Uint8Array([AF_NETLINK, ...new Uint8Array(11)]));
 * const fd = socket(AF_NETLINK, SOCK_RAW, 0);
 * console.log(bind(fd, address.bytes)); // 0
 * close(fd);
 * ```
 */
export class RawAddress {
  readonly #bytes: Uint8Array;

  /**
   * Copies the bytes of a sockaddr. Where another class may hold them, `addressFromBytes` finds it.
   *
   * @param bytes 2 to 128 bytes; the first two are the family, in host byte order
   * @throws {RangeError} too few bytes, or too many
   */
  constructor(bytes: Uint8Array) {
    // Copied first: a subclass can say another length than it has.
    this.#bytes = copyBytes(bytes, "a RawAddress");
    const { length } = this.#bytes;
    const minimum = sockaddr.sa_data.offset;
    const maximum = sockaddr_storage.size;
    if (length < minimum || length > maximum) {
      throw new RangeError(
        `Cannot make a RawAddress of ${length} bytes: expected ${minimum} to ${maximum}`,
      );
    }
    Object.freeze(this);
  }

  /** The address family, an `AF_` constant. */
  get family(): number {
    return familyOf(this.#bytes);
  }

  /** A copy of the bytes of the sockaddr. */
  get bytes(): Uint8Array {
    return this.#bytes.slice();
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
    return hashBytes(this.#bytes);
  }

  /** Tells whether the other is a RawAddress with the same bytes. */
  equals(other: unknown): boolean {
    return other instanceof RawAddress && #bytes in other && sameBytes(this.#bytes, other.#bytes);
  }

  /** The text that parseAddress reads: "sockaddr:" and the bytes in hexadecimal. */
  toString(): string {
    return `sockaddr:${this.#bytes.toHex()}`;
  }

  /** The parts, which addressFrom turns back into this address. */
  toJSON(): AddressParts {
    return { family: this.family, sockaddr: this.#bytes.toHex() };
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return #bytes in this ? `RawAddress ${this}` : "RawAddress";
  }

  static {
    bytesOfRaw = (address) => (#bytes in address ? address.#bytes : undefined);
  }
}

// sa_family, in host byte order. A view for its accessor costs 150 ns, the rest of toAddress 5.
function familyOf(bytes: Uint8Array): number {
  return (bytes[0] as number) | ((bytes[1] as number) << 8);
}

/**
 * Reads the text of an address: "127.0.0.1:53", "[::1]:53", "[fe80::1%eth0]:53" with a port, which
 * is required; "unix:/run/x.sock", "unix:@name" for an abstract name, "unix:" for none;
 * "link:eth0/02:00:00:00:00:01/0x0800", of which an interface is enough; "sockaddr:" and bytes in
 * hexadecimal.
 *
 * Strict, and never asks a resolver: a host name, "127.1" and "127.0.0.01" are refused. What
 * follows "unix:" or "unix:@" is taken as it is, and nothing in it is an escape. `toString` gives
 * the text back, in its canonical form.
 *
 * @throws {TypeError} the text is not an address
 * @throws {RangeError} the port is above 65535, or a Unix name is too long
 *
 * @example
 * ```ts
 * import { parseAddress } from "bun-sockets";
 *
 * console.log(`${parseAddress("[2001:DB8:0:0::1]:53")}`); // [2001:db8::1]:53
 * console.log(parseAddress("unix:@name").family); // unix
 * ```
 */
export function parseAddress(text: string): Address {
  if (requireText(text).startsWith("unix:")) return parseUnix(text.slice("unix:".length));
  if (text.startsWith("link:")) return parseLink(text.slice("link:".length));
  const raw = /^sockaddr:((?:[0-9a-f]{2})+)$/.exec(text);
  if (raw) return addressFromBytes(Uint8Array.fromHex(raw[1] as string));
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(0|[1-9]\d*)$/.exec(text);
  if (!match) {
    const forms = '"host:port", "[host]:port" or "unix:path"';
    throw new TypeError(`Cannot parse ${JSON.stringify(text)} as an address: expected ${forms}`);
  }
  const port = Number(match[3]);
  return match[1] === undefined
    ? new Inet4Address(match[2] as string, port)
    : new Inet6Address(match[1], port);
}

function parseUnix(name: string): UnixAddress {
  if (name === "") return UnixAddress.unnamed;
  return name.startsWith("@") ? UnixAddress.abstract(name.slice(1)) : new UnixAddress(name);
}

/**
 * Makes an address of its parts, as `toJSON` gives them.
 *
 * @throws {TypeError} the family is not known, or a part does not fit it
 * @throws {RangeError} a part is out of range
 *
 * @example Through JSON and back
 * ```ts
 * import { addressFrom, parseAddress } from "bun-sockets";
 *
 * const address = parseAddress("[::1]:53");
 * console.log(addressFrom(JSON.parse(JSON.stringify(address))).equals(address)); // true
 * console.log(`${addressFrom({ family: "unix", path: "/run/x.sock" })}`); // unix:/run/x.sock
 * ```
 */
export function addressFrom(parts: AddressParts): Address {
  if (typeof parts !== "object" || parts === null) {
    throw new TypeError(`Cannot make an address of ${describe(parts)}: expected its parts`);
  }
  // The type lets an address through: it has all of its parts.
  if (isAddress(parts)) return parts;
  if ("sockaddr" in parts) return fromSockaddr(parts.family, parts.sockaddr);
  if (parts.family === "ipv4") return new Inet4Address(parts.host, parts.port);
  if (parts.family === "ipv6")
    return new Inet6Address(parts.host, parts.port, { flow: parts.flow ?? 0 });
  if (parts.family === "unix") return fromUnixParts(parts);
  if (parts.family === "link") return new LinkAddress(parts);
  const { family } = parts as AddressParts;
  throw new TypeError(
    `Cannot make an address of family ${familyText(family)}: expected "ipv4", "ipv6", "unix" or "link"`,
  );
}

function fromSockaddr(family: number, hex: string): Address {
  const address = parseAddress(`sockaddr:${requireText(hex, "the bytes of a sockaddr")}`);
  if (address instanceof RawAddress && address.family === family) return address;
  if (address instanceof UnixAddress && family === AF_UNIX) return address;
  if (address instanceof LinkAddress && family === AF_PACKET) return address;
  throw new TypeError(`Cannot make an address of family ${familyText(family)} of another's bytes`);
}

function familyText(family: unknown): string {
  return typeof family === "string" || typeof family === "number" ? `${family}` : describe(family);
}

function fromUnixParts(parts: AddressParts & { readonly family: "unix" }): UnixAddress {
  // A misspelled part must not make an address without a name, to which bind gives any.
  const [part, ...rest] = Object.keys(parts).filter((key) => key !== "family");
  if (part === undefined) return UnixAddress.unnamed;
  if (rest.length === 0 && "path" in parts)
    return new UnixAddress(requireText(parts.path, "a path"));
  if (rest.length === 0 && "abstract" in parts)
    return UnixAddress.abstract(requireText(parts.abstract, "an abstract name"));
  const given = [part, ...rest].map((key) => JSON.stringify(key)).join(" and ");
  throw new TypeError(
    `Cannot make a Unix address of ${given}: expected "path", or "abstract", or neither`,
  );
}

/**
 * Reads the bytes of a sockaddr, as the kernel fills them: an Inet4Address, an Inet6Address, a
 * UnixAddress, a LinkAddress, or a RawAddress for any other family. The bytes are copied.
 *
 * @throws {RangeError} fewer than 2 bytes, or more than 128
 */
export function addressFromBytes(bytes: Uint8Array): Address {
  const raw = new RawAddress(bytes);
  const own = bytesOfRaw(raw) as Uint8Array;
  if (raw.family === AF_INET && own.length >= sockaddr_in.size) return new Inet4Address(own);
  if (raw.family === AF_INET6 && own.length >= sockaddr_in6.size) return new Inet6Address(own);
  if (isUnixSockaddr(own)) return new UnixAddress(own);
  return isLinkSockaddr(own) ? new LinkAddress(own) : raw;
}

/**
 * Orders two addresses, for sort: by family, then by the bytes of the host, then by port, flow and
 * zone. Unix addresses: the one without a name, then abstract names, then paths, by their bytes.
 * Link addresses: by protocol, hardware address and interface.
 *
 * @returns negative, 0 for equal ones, or positive
 * @throws {TypeError} one of them is no address
 */
export function compareAddresses(left: Address, right: Address): number {
  for (const address of [left, right]) {
    if (!isAddress(address))
      throw new TypeError(`Cannot compare ${describe(address)}: expected an address object`);
  }
  return Buffer.compare(sortKey(left), sortKey(right)) || compareZones(zoneOf(left), zoneOf(right));
}

function zoneOf(address: Address): string | number {
  if (address instanceof Inet6Address) return address.scope;
  return address instanceof LinkAddress ? address.interface : 0;
}

// Indexes as numbers, none first; names after them.
function compareZones(left: string | number, right: string | number): number {
  if (typeof left === "number" && typeof right === "number") return left - right;
  if (typeof left === "string" && typeof right === "string") {
    return left < right ? -1 : Number(left > right);
  }
  return typeof left === "number" ? -1 : 1;
}

// The family, then what the family sorts by, each part in network byte order so that bytes compare
// like numbers.
function sortKey(address: Address): Uint8Array {
  const inet4 = bytesOfInet4(address);
  if (inet4) return Buffer.concat([familyKey(AF_INET), inet4.subarray(4, 8), inet4.subarray(2, 4)]);
  const inet6 = bytesOfInet6(address);
  if (inet6)
    return Buffer.concat([
      familyKey(AF_INET6),
      inet6.subarray(8, 24),
      inet6.subarray(2, 4),
      inet6.subarray(4, 8),
    ]);
  if (bytesOfLink(address)) return linkKey(address as LinkAddress);
  const bytes = (bytesOfUnix(address) ?? bytesOfRaw(address)) as Uint8Array;
  return Buffer.concat([familyKey(familyOf(bytes)), bytes]);
}

function linkKey({ protocol, hardwareBytes }: LinkAddress): Uint8Array {
  return Buffer.concat([familyKey(AF_PACKET), familyKey(protocol), hardwareBytes]);
}

function familyKey(family: number): Uint8Array {
  return new Uint8Array([family >> 8, family & 0xff]);
}

/**
 * Not exported by the package. The bytes of any address as the kernel takes them, a zone's name
 * resolved. They are the address's own: read, never write.
 */
export function addressBytes(address: Address): Uint8Array {
  return (bytesOfInet4(address) ??
    resolvedBytesOfInet6(address) ??
    bytesOfUnix(address) ??
    resolvedBytesOfLink(address) ??
    bytesOfRaw(address)) as Uint8Array;
}

/**
 * Not exported by the package. The length with which a name that the kernel has given goes back to
 * it: it counts a NUL behind a Unix path that fills all 108 bytes, and then refuses it.
 */
export function sendableLength(length: number): number {
  return length === sockaddr_un.size + 1
    ? sockaddr_un.size
    : Math.min(length, sockaddr_storage.size);
}

/** Not exported by the package. Takes an address of any family, or its text. */
export function toAnyAddress(value: unknown): Address {
  const address = typeof value === "string" ? parseAddress(value) : value;
  if (isAddress(address)) return address;
  throw new TypeError(
    `Cannot use ${describe(address)} as an address: expected an address object, or its text`,
  );
}

/**
 * Not exported by the package. Takes an IPv4 or IPv6 address, or its text, where the port does not
 * matter: it may be left out, and is 0 then.
 */
export function toPortlessAddress(value: Address | string): InetAddress {
  const host = typeof value === "string" ? hostAlone(value) : undefined;
  if (host === undefined) return toInetAddress(value);
  return host.includes(":") ? new Inet6Address(host, 0) : new Inet4Address(host, 0);
}

// The host of a text without a port. One colon stands before a port, more are those of IPv6.
function hostAlone(text: string): string | undefined {
  if (text.startsWith("[")) return text.endsWith("]") ? text.slice(1, -1) : undefined;
  return text.indexOf(":") === text.lastIndexOf(":") && text.includes(":") ? undefined : text;
}

/**
 * Not exported by the package. Takes an address that fits a socket of the family, an `AF_`
 * constant, or its text, and refuses everything else by name. Both versions of IP are taken for
 * either: whether an IPv6 socket can reach an IPv4 address is the kernel's to say.
 */
export function toAddress(value: unknown, family: number): Address {
  const address = typeof value === "string" ? parseFor(value, family) : value;
  if (fits(address, family)) return address;
  // The text of an address, but of nothing else: that could be anything.
  const shown = isAddress(address) ? `${address}` : describe(address);
  const owner = isAddress(address) ? ownerOf(address, family) : "";
  const forms = FORMS[family] ? `: ${FORMS[family]}` : "";
  throw new TypeError(
    `Cannot use ${shown} as an address: expected ${expectedOf(family)}, or its text${forms}${owner}`,
  );
}

// What a text looks like, for those who have given it to a socket of another family.
const FORMS: Readonly<Record<number, string>> = {
  [AF_INET]: '"host:port" or "[host]:port"',
  [AF_INET6]: '"host:port" or "[host]:port"',
  [AF_UNIX]: '"unix:/path" or "unix:@name"',
  [AF_PACKET]: '"link:eth0" or "link:eth0/02:00:00:00:00:01"',
};
const OF_UNIX = "; a Unix path belongs to UnixSocket or UnixDatagramSocket";
const OF_INET = '; "host:port" belongs to TcpSocket or UdpSocket';

function parseFor(text: string, family: number): Address {
  try {
    return parseAddress(text);
  } catch (error) {
    const isOther = family === AF_UNIX ? !text.startsWith("unix:") : isLikePath(text);
    if (!isOther || FORMS[family] === undefined) throw error;
    const owner = family === AF_UNIX ? (/[^/]:\d+$/.test(text) ? OF_INET : "") : OF_UNIX;
    throw new TypeError(
      `Cannot parse ${JSON.stringify(text)} as an address: expected ${FORMS[family]}${owner}`,
    );
  }
}

/** Not exported by the package. Whether a text that is no address looks like a path. */
export function isLikePath(text: string): boolean {
  return /^[./@]/.test(text);
}

function ownerOf(address: Address, family: number): string {
  if (family === AF_UNIX) return "port" in address ? OF_INET : "";
  return address.family === "unix" && FORMS[family] ? OF_UNIX : "";
}

/** Not exported by the package. Takes an IPv4 or IPv6 address, or its text. */
export function toInetAddress(value: Address | string): InetAddress {
  return toAddress(value, AF_INET) as InetAddress;
}

// Asks for the private bytes, because everything else can be forged.
function isAddress(value: unknown): value is Address {
  return (
    typeof value === "object" &&
    value !== null &&
    (bytesOfInet4(value) ??
      bytesOfInet6(value) ??
      bytesOfUnix(value) ??
      bytesOfLink(value) ??
      bytesOfRaw(value)) !== undefined
  );
}

function fits(value: unknown, family: number): value is Address {
  if (typeof value !== "object" || value === null) return false;
  if (family === AF_INET || family === AF_INET6)
    return bytesOfInet4(value) !== undefined || bytesOfInet6(value) !== undefined;
  if (family === AF_UNIX) return bytesOfUnix(value) !== undefined;
  if (family === AF_PACKET && bytesOfLink(value) !== undefined) return true;
  const raw = bytesOfRaw(value);
  return raw !== undefined && familyOf(raw) === family;
}

function expectedOf(family: number): string {
  if (family === AF_INET || family === AF_INET6) return "an Inet4Address, an Inet6Address";
  if (family === AF_PACKET) return "a LinkAddress";
  return family === AF_UNIX ? "a UnixAddress" : `a RawAddress of family ${family}`;
}
