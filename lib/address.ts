import { IF_NAMESIZE } from "../structs/constants/net_if.ts";
import { AF_INET, AF_INET6 } from "../structs/constants/sys_socket.ts";
import { sockaddr } from "../structs/sockaddr.ts";
import { sockaddr_in } from "../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../structs/sockaddr_in6.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import { check } from "./error.ts";
import { halfSipHash } from "./internal/half_sip_hash.ts";
import { formatInet4, formatInet6, parseInet4, parseInet6 } from "./internal/inet_text.ts";
import { if_nametoindex } from "./sys/net_if.ts";

/** An address of any family. */
export type Address = Inet4Address | Inet6Address | RawAddress;

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
  | { readonly family: number; readonly sockaddr: string };

const INSPECT = Symbol.for("nodejs.util.inspect.custom");

// Set by the classes below: their private bytes, for the functions of this file. Undefined for any
// other object.
let bytesOfInet4: (address: object) => Uint8Array | undefined;
let bytesOfInet6: (address: object) => Uint8Array | undefined;
let bytesOfRaw: (address: object) => Uint8Array | undefined;

/**
 * An IPv4 address and a port. Immutable: it holds a finished `sockaddr_in`, which calls pass on as
 * it is.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7)}
 *
 * @example Make, compare, print
 * ```ts
 * import { Inet4Address } from "bun-sockets";
 *
 * const address = new Inet4Address("192.0.2.1", 53);
 * console.log(`${address}`, address.host, address.port); // 192.0.2.1:53 192.0.2.1 53
 * console.log(address.equals(Inet4Address.loopback.withPort(53))); // false
 * ```
 */
export class Inet4Address {
  // Made when asked for: an import pays for nothing that is not used.
  static #any: Inet4Address | undefined;
  static #loopback: Inet4Address | undefined;
  static #broadcast: Inet4Address | undefined;

  readonly #bytes: Uint8Array;

  /**
   * Makes an address of its parts, or of the bytes of a `sockaddr_in`.
   *
   * @param host a dotted quad: four decimal numbers without leading zeros
   * @param port 0 to 65535; 0 lets bind choose a free one
   * @throws {TypeError} host is not a dotted quad
   * @throws {RangeError} port is out of range
   */
  constructor(host: string, port: number);
  constructor(bytes: Uint8Array);
  constructor(host: string | Uint8Array, port?: number) {
    if (host instanceof Uint8Array) {
      this.#bytes = copySockaddr(host, AF_INET, sockaddr_in.size, "an Inet4Address");
    } else {
      this.#bytes = new Uint8Array(sockaddr_in.size);
      const view = viewOf(this.#bytes);
      sockaddr_in.sin_family.set(view, 0, AF_INET);
      sockaddr_in.sin_port.set(view, 0, requirePort(port));
      if (!parseInet4(requireText(host), this.#bytes, sockaddr_in.sin_addr.offset))
        throw notAnAddress(host, "IPv4");
    }
    Object.freeze(this);
  }

  /** 0.0.0.0, port 0: every IPv4 address of this machine, any free port. */
  static get any(): Inet4Address {
    Inet4Address.#any ??= new Inet4Address("0.0.0.0", 0);
    return Inet4Address.#any;
  }

  /** 127.0.0.1, port 0. */
  static get loopback(): Inet4Address {
    Inet4Address.#loopback ??= new Inet4Address("127.0.0.1", 0);
    return Inet4Address.#loopback;
  }

  /** 255.255.255.255, port 0. */
  static get broadcast(): Inet4Address {
    Inet4Address.#broadcast ??= new Inet4Address("255.255.255.255", 0);
    return Inet4Address.#broadcast;
  }

  /** "ipv4". */
  get family(): "ipv4" {
    return "ipv4";
  }

  /** The address as a dotted quad: "127.0.0.1". */
  get host(): string {
    return formatInet4(this.#bytes, sockaddr_in.sin_addr.offset);
  }

  /** The port in host byte order, 0 to 65535. */
  get port(): number {
    return sockaddr_in.sin_port.get(viewOf(this.#bytes), 0);
  }

  /** A copy of the 16 bytes of `struct sockaddr_in`. */
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

  /** Makes the same address with another port. */
  withPort(port: number): Inet4Address {
    return new Inet4Address(this.host, port);
  }

  /** Tells whether the other is an Inet4Address with the same host and port. */
  equals(other: unknown): boolean {
    return other instanceof Inet4Address && sameBytes(this.#bytes, other.#bytes);
  }

  /** The text that parseAddress reads: "127.0.0.1:53". */
  toString(): string {
    return `${this.host}:${this.port}`;
  }

  /** The parts, which addressFrom turns back into this address. */
  toJSON(): AddressParts {
    return { family: "ipv4", host: this.host, port: this.port };
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return #bytes in this ? `Inet4Address ${this}` : "Inet4Address";
  }

  static {
    bytesOfInet4 = (address) => (#bytes in address ? address.#bytes : undefined);
  }
}

/**
 * An IPv6 address, a port, a scope (RFC 4007 zone) and a flow label. Immutable.
 *
 * A scope given as a name ("eth0") stays a name and becomes an index each time the address is used,
 * because indexes belong to the network namespace of the moment. `resolveScope` does that once, for
 * hot paths. The kernel answers with indexes.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/ipv6.7.html | ipv6(7)}
 *
 * @example A link-local address
 * ```ts
 * import { Inet6Address } from "bun-sockets";
 *
 * const address = new Inet6Address("fe80::1%lo", 53);
 * console.log(`${address}`, address.scope); // [fe80::1%lo]:53 lo
 * console.log(`${address.resolveScope()}`); // [fe80::1%1]:53
 * ```
 */
export class Inet6Address {
  static #any: Inet6Address | undefined;
  static #loopback: Inet6Address | undefined;

  readonly #bytes: Uint8Array;
  readonly #scopeName: string | undefined;

  /**
   * Makes an address of its parts, or of the bytes of a `sockaddr_in6`.
   *
   * @param host as RFC 4291 writes it, with an optional zone: "::1", "fe80::1%eth0", "fe80::1%2"
   * @param port 0 to 65535; 0 lets bind choose a free one
   * @param options `flow` is the flow information, 32 bits in host byte order (default 0)
   * @throws {TypeError} host is not an IPv6 address
   * @throws {RangeError} port, zone or flow is out of range
   */
  constructor(host: string, port: number, options?: { readonly flow?: number });
  constructor(bytes: Uint8Array);
  constructor(host: string | Uint8Array, port?: number, options?: { readonly flow?: number }) {
    if (host instanceof Uint8Array) {
      this.#bytes = copySockaddr(host, AF_INET6, sockaddr_in6.size, "an Inet6Address");
    } else {
      const [text, zone] = splitZone(requireText(host));
      const scope = parseZone(zone, host);
      this.#bytes = new Uint8Array(sockaddr_in6.size);
      const view = viewOf(this.#bytes);
      sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
      sockaddr_in6.sin6_port.set(view, 0, requirePort(port));
      sockaddr_in6.sin6_flowinfo.set(
        view,
        0,
        requireUint32(options?.flow ?? 0, "flow information"),
      );
      if (!parseInet6(text, this.#bytes, sockaddr_in6.sin6_addr.offset))
        throw notAnAddress(host, "IPv6");
      if (typeof scope === "string") this.#scopeName = scope;
      else sockaddr_in6.sin6_scope_id.set(view, 0, scope);
    }
    Object.freeze(this);
  }

  /** [::], port 0: every address of this machine, any free port. */
  static get any(): Inet6Address {
    Inet6Address.#any ??= new Inet6Address("::", 0);
    return Inet6Address.#any;
  }

  /** [::1], port 0. */
  static get loopback(): Inet6Address {
    Inet6Address.#loopback ??= new Inet6Address("::1", 0);
    return Inet6Address.#loopback;
  }

  /** "ipv6". */
  get family(): "ipv6" {
    return "ipv6";
  }

  /** The address as RFC 5952 writes it, with its zone where it has one: "fe80::1%eth0". */
  get host(): string {
    const text = formatInet6(this.#bytes, sockaddr_in6.sin6_addr.offset);
    return this.scope === 0 ? text : `${text}%${this.scope}`;
  }

  /** The port in host byte order, 0 to 65535. */
  get port(): number {
    return sockaddr_in6.sin6_port.get(viewOf(this.#bytes), 0);
  }

  /** The zone: an interface name as it was given, or an interface index; 0 is none. */
  get scope(): string | number {
    return this.#scopeName ?? sockaddr_in6.sin6_scope_id.get(viewOf(this.#bytes), 0);
  }

  /** The flow information: 32 bits in host byte order, the flow label the lower 20. */
  get flow(): number {
    return sockaddr_in6.sin6_flowinfo.get(viewOf(this.#bytes), 0);
  }

  /**
   * A copy of the 28 bytes of `struct sockaddr_in6`.
   *
   * @throws {SystemError} `ENODEV` the zone names no interface of this network namespace
   */
  get bytes(): Uint8Array {
    return this.resolveScope().#bytes.slice();
  }

  /**
   * The canonical text, equal for equal addresses: a key for a Map. The flow, where there is one,
   * follows a "/".
   */
  get key(): string {
    return this.flow === 0 ? this.toString() : `${this}/${this.flow}`;
  }

  /**
   * 32 bits, equal for equal addresses, different in every process: a key for tables that compare
   * afterwards.
   */
  get hash(): number {
    return hashBytes(this.#bytes);
  }

  /** Makes the same address with another port. */
  withPort(port: number): Inet6Address {
    return new Inet6Address(this.host, port, { flow: this.flow });
  }

  /**
   * Makes the same address with its zone as an index. Asks the kernel when the zone is a name.
   *
   * @throws {SystemError} `ENODEV` the zone names no interface of this network namespace
   * @see {@link https://man7.org/linux/man-pages/man3/if_nametoindex.3.html | if_nametoindex(3)}
   */
  resolveScope(): Inet6Address {
    if (this.#scopeName === undefined) return this;
    const index = check(if_nametoindex(Buffer.from(`${this.#scopeName}\0`)), "if_nametoindex", {
      address: this,
    });
    const bytes = this.#bytes.slice();
    sockaddr_in6.sin6_scope_id.set(viewOf(bytes), 0, index);
    return new Inet6Address(bytes);
  }

  /**
   * Tells whether the other is an Inet6Address with the same host, port, flow and zone. A zone's
   * name is not its index.
   */
  equals(other: unknown): boolean {
    return (
      other instanceof Inet6Address &&
      this.#scopeName === other.#scopeName &&
      sameBytes(this.#bytes, other.#bytes)
    );
  }

  /** The text that parseAddress reads: "[fe80::1%eth0]:53". */
  toString(): string {
    return `[${this.host}]:${this.port}`;
  }

  /** The parts, which addressFrom turns back into this address. */
  toJSON(): AddressParts {
    const { host, port, flow } = this;
    return flow === 0 ? { family: "ipv6", host, port } : { family: "ipv6", host, port, flow };
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return #bytes in this ? `Inet6Address ${this}` : "Inet6Address";
  }

  static {
    bytesOfInet6 = (address) => (#bytes in address ? address.#bytes : undefined);
  }
}

/**
 * An address of any other family: the bytes of its `sockaddr`, passed through as they are.
 *
 * @example A Unix address for the C calls
 * ```ts
 * import { RawAddress } from "bun-sockets";
 * import { AF_UNIX, SOCK_DGRAM, bind, close, socket } from "bun-sockets/sys";
 *
 * const name = new RawAddress(new Uint8Array([AF_UNIX, 0, 0, ...Buffer.from(`raw-${process.pid}`)]));
 * const fd = socket(AF_UNIX, SOCK_DGRAM, 0);
 * console.log(bind(fd, name.bytes)); // 0
 * close(fd);
 * ```
 */
export class RawAddress {
  readonly #bytes: Uint8Array;

  /**
   * Copies the bytes of a sockaddr.
   *
   * @param bytes 2 to 128 bytes; the first two are the family, in host byte order
   * @throws {RangeError} too few bytes, or too many
   */
  constructor(bytes: Uint8Array) {
    if (!(bytes instanceof Uint8Array))
      throw new TypeError("Cannot make a RawAddress: expected a Uint8Array");
    const minimum = sockaddr.sa_data.offset;
    if (bytes.length < minimum || bytes.length > sockaddr_storage.size) {
      throw new RangeError(
        `Cannot make a RawAddress of ${bytes.length} bytes: expected ${minimum} to ${sockaddr_storage.size}`,
      );
    }
    this.#bytes = new Uint8Array(bytes);
    Object.freeze(this);
  }

  /** The address family, an `AF_` constant. */
  get family(): number {
    return sockaddr.sa_family.get(viewOf(this.#bytes), 0);
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
    return other instanceof RawAddress && sameBytes(this.#bytes, other.#bytes);
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

/**
 * Reads the text of an address: "127.0.0.1:53", "[::1]:53", "[fe80::1%eth0]:53". The port is
 * required.
 *
 * Strict, and never asks a resolver: a host name, "127.1" and "127.0.0.01" are refused. `toString`
 * gives the text back, in the form of RFC 5952.
 *
 * @throws {TypeError} the text is not an address with a port
 * @throws {RangeError} the port is above 65535
 *
 * @example
 * ```ts
 * import { parseAddress } from "bun-sockets";
 *
 * console.log(`${parseAddress("[2001:DB8:0:0::1]:53")}`); // [2001:db8::1]:53
 * ```
 */
export function parseAddress(text: string): Address {
  const raw = /^sockaddr:((?:[0-9a-f]{2})+)$/.exec(requireText(text));
  if (raw) return addressFromBytes(Uint8Array.fromHex(raw[1] as string));
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(0|[1-9]\d*)$/.exec(text);
  if (!match) {
    throw new TypeError(
      `Cannot parse ${JSON.stringify(text)} as an address: expected "host:port" or "[host]:port"`,
    );
  }
  const port = Number(match[3]);
  return match[1] === undefined
    ? new Inet4Address(match[2] as string, port)
    : new Inet6Address(match[1], port);
}

/**
 * Makes an address of its parts, as `toJSON` gives them.
 *
 * @throws {TypeError} the family is not known, or a part does not fit it
 *
 * @example Through JSON and back
 * ```ts
 * import { addressFrom, parseAddress } from "bun-sockets";
 *
 * const address = parseAddress("[::1]:53");
 * console.log(addressFrom(JSON.parse(JSON.stringify(address))).equals(address)); // true
 * ```
 */
export function addressFrom(parts: AddressParts): Address {
  if (typeof parts !== "object" || parts === null) {
    throw new TypeError(`Cannot make an address of ${describeType(parts)}: expected its parts`);
  }
  if ("sockaddr" in parts) {
    const address = parseAddress(`sockaddr:${parts.sockaddr}`);
    const family = address instanceof RawAddress ? address.family : undefined;
    if (family === parts.family) return address;
    throw new TypeError(`Cannot make an address of family ${parts.family} of another's bytes`);
  }
  if (parts.family === "ipv4") return new Inet4Address(parts.host, parts.port);
  if (parts.family === "ipv6")
    return new Inet6Address(parts.host, parts.port, { flow: parts.flow ?? 0 });
  throw new TypeError(
    `Cannot make an address of family ${(parts as AddressParts).family}: expected "ipv4" or "ipv6"`,
  );
}

/**
 * Reads the bytes of a sockaddr, as the kernel fills them: an Inet4Address, an Inet6Address, or a
 * RawAddress for any other family. The bytes are copied.
 *
 * @throws {RangeError} fewer than 2 bytes, or more than 128
 */
export function addressFromBytes(bytes: Uint8Array): Address {
  const raw = new RawAddress(bytes);
  if (raw.family === AF_INET && bytes.length >= sockaddr_in.size) return new Inet4Address(bytes);
  if (raw.family === AF_INET6 && bytes.length >= sockaddr_in6.size) return new Inet6Address(bytes);
  return raw;
}

/**
 * Orders two addresses, for sort: by family, then by the bytes of the host, then by port, flow and
 * zone.
 *
 * @returns negative, 0 for equal ones, or positive
 */
export function compareAddresses(left: Address, right: Address): number {
  return Buffer.compare(sortKey(left), sortKey(right)) || compareZones(zoneOf(left), zoneOf(right));
}

function zoneOf(address: Address): string | number {
  return address instanceof Inet6Address ? address.scope : 0;
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
  return Buffer.concat([familyKey(address.family as number), address.bytes]);
}

function familyKey(family: number): Uint8Array {
  return new Uint8Array([family >> 8, family & 0xff]);
}

/**
 * Not exported by the package. The bytes of any address as the kernel takes them, a zone's name
 * resolved. They are the address's own: read, never write.
 */
export function addressBytes(address: Address): Uint8Array {
  const inet6 = bytesOfInet6(address);
  if (inet6) return bytesOfInet6((address as Inet6Address).resolveScope()) as Uint8Array;
  return (bytesOfInet4(address) ?? bytesOfRaw(address)) as Uint8Array;
}

/**
 * Not exported by the package. Takes an IPv4 or IPv6 address, or its text, and refuses everything
 * else by name.
 */
export function toInetAddress(value: Address | string): InetAddress {
  const address: unknown = typeof value === "string" ? parseAddress(value) : value;
  if (address instanceof Object && (bytesOfInet4(address) || bytesOfInet6(address)))
    return address as InetAddress;
  const shown = address instanceof RawAddress ? `${address}` : describeType(address);
  throw new TypeError(
    `Cannot use ${shown} as an address: expected an Inet4Address, an Inet6Address, or its text`,
  );
}

function describeType(value: unknown): string {
  return value === null ? "null" : `a value of type ${typeof value}`;
}

function copySockaddr(
  source: Uint8Array,
  family: number,
  length: number,
  name: string,
): Uint8Array {
  const bytes = new Uint8Array(source).slice(0, length);
  if (bytes.length < length || sockaddr.sa_family.get(viewOf(bytes), 0) !== family) {
    throw new TypeError(
      `Cannot make ${name}: expected at least ${length} bytes that start with its family`,
    );
  }
  return bytes;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

function hashBytes(bytes: Uint8Array): number {
  const words = new Int32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return halfSipHash(words, 0, words.length) >>> 0;
}

function splitZone(host: string): [text: string, zone: string | undefined] {
  const at = host.indexOf("%");
  return at < 0 ? [host, undefined] : [host.slice(0, at), host.slice(at + 1)];
}

// A number is an index, anything else that Linux would take as an interface's name is a name.
function parseZone(zone: string | undefined, host: string): string | number {
  if (zone === undefined) return 0;
  if (/^[1-9]\d*$/.test(zone)) return requireUint32(Number(zone), "an interface index");
  const named =
    /^[^\s/:%[\]\0]+$/.test(zone) && !/^\d/.test(zone) && Buffer.byteLength(zone) < IF_NAMESIZE;
  if (!named)
    throw new TypeError(
      `Cannot use ${JSON.stringify(host)} as an address: its zone is no interface name or index`,
    );
  return zone;
}

function requireText(host: unknown): string {
  if (typeof host !== "string")
    throw new TypeError(`Cannot use ${describeType(host)} as an address: expected a string`);
  return host;
}

function requirePort(port: number | undefined): number {
  if (typeof port !== "number")
    throw new TypeError(`Cannot use ${describeType(port)} as a port: expected a number`);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`Cannot use ${port} as a port: expected 0 to 65535`);
  }
  return port;
}

function requireUint32(value: number, name: string): number {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot use ${describeType(value)} as ${name}: expected a number`);
  }
  if (Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff) return value;
  throw new RangeError(`Cannot use ${value} as ${name}: expected 0 to 4294967295`);
}

function notAnAddress(host: string, family: string): TypeError {
  return new TypeError(`Cannot use ${JSON.stringify(host)} as an ${family} address`);
}
