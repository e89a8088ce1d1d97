import { IF_NAMESIZE } from "../structs/constants/net_if.ts";
import { AF_INET, AF_INET6 } from "../structs/constants/sys_socket.ts";
import { sockaddr } from "../structs/sockaddr.ts";
import { sockaddr_in } from "../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../structs/sockaddr_in6.ts";
import type { AddressParts } from "./address.ts";
import { check } from "./error.ts";
import { optionsOf, requireInteger } from "./internal/arguments.ts";
import { formatInet4, formatInet6, parseInet4, parseInet6 } from "./internal/inet_text.ts";
import { copyBytes, hashBytes, requireText, sameBytes, viewOf } from "./internal/sockaddr.ts";
import { if_nametoindex } from "./sys/net_if.ts";

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const PORT_MAX = 0xffff;
const UINT32_MAX = 0xffff_ffff;

// Where the address is in its sockaddr, and where an IPv4-mapped one has the IPv4 address.
const QUAD = sockaddr_in.sin_addr.offset;
const GROUPS = sockaddr_in6.sin6_addr.offset;
const MAPPED_QUAD = GROUPS + 12;

// Set by the classes below. The package does not export them.

/** The bytes of an Inet4Address: its own, read, never write. Undefined for every other object. */
export let bytesOfInet4: (address: object) => Uint8Array | undefined;

/**
 * The bytes of an Inet6Address, where a zone's name stands as 0: its own, read, never write.
 * Undefined for every other object.
 */
export let bytesOfInet6: (address: object) => Uint8Array | undefined;

/** The same as the kernel takes them, a zone's name resolved. */
export let resolvedBytesOfInet6: (address: object) => Uint8Array | undefined;

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
      requireInteger(port, 0, PORT_MAX, "a port");
      this.#bytes = new Uint8Array(sockaddr_in.size);
      const view = viewOf(this.#bytes);
      sockaddr_in.sin_family.set(view, 0, AF_INET);
      sockaddr_in.sin_port.set(view, 0, port as number);
      if (!parseInet4(requireText(host), this.#bytes, QUAD)) throw notAnAddress(host, "IPv4");
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
    return formatInet4(this.#bytes, QUAD);
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

  /** Whether it is 0.0.0.0, which stands for no address, or for all of this machine. */
  get isUnspecified(): boolean {
    return isUnspecified4(this.#bytes, QUAD);
  }

  /** Whether it is in 127.0.0.0/8: this machine. */
  get isLoopback(): boolean {
    return isLoopback4(this.#bytes, QUAD);
  }

  /** Whether it is in 224.0.0.0/4: a multicast group. */
  get isMulticast(): boolean {
    return isMulticast4(this.#bytes, QUAD);
  }

  /** Whether it is in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16: RFC 1918. */
  get isPrivate(): boolean {
    return isPrivate4(this.#bytes, QUAD);
  }

  /** Whether it is in 169.254.0.0/16: RFC 3927. */
  get isLinkLocal(): boolean {
    return isLinkLocal4(this.#bytes, QUAD);
  }

  /** Whether it is 255.255.255.255. The broadcast address of a network is known to its members. */
  get isBroadcast(): boolean {
    return sockaddr_in.sin_addr.get(viewOf(this.#bytes), 0) === UINT32_MAX;
  }

  /** Makes the same address with another port. */
  withPort(port: number): Inet4Address {
    return new Inet4Address(this.host, port);
  }

  /** Makes the address as IPv6 sockets write it: "::ffff:192.0.2.1", with the same port. */
  map(): Inet6Address {
    return new Inet6Address(`::ffff:${this.host}`, this.port);
  }

  /** Tells whether the other is an Inet4Address with the same host and port. */
  equals(other: unknown): boolean {
    return other instanceof Inet4Address && #bytes in other && sameBytes(this.#bytes, other.#bytes);
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
 * An IPv4-mapped address ("::ffff:192.0.2.1") is how an IPv6 socket sees an IPv4 peer. It answers
 * `isLoopback`, `isPrivate` and the like as the IPv4 address does, and `unmap` gives that.
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
 *
 * @example An IPv4 peer of an IPv6 socket
 * ```ts
 * import { Inet6Address } from "bun-sockets";
 *
 * const peer = new Inet6Address("::ffff:10.0.0.1", 53);
 * console.log(peer.isPrivate, `${peer.unmap()}`); // true 10.0.0.1:53
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
      const { flow = 0 } = optionsOf(options);
      const [text, zone] = splitZone(requireText(host));
      const scope = parseZone(zone, host);
      requireInteger(port, 0, PORT_MAX, "a port");
      requireInteger(flow, 0, UINT32_MAX, "flow information");
      this.#bytes = new Uint8Array(sockaddr_in6.size);
      const view = viewOf(this.#bytes);
      sockaddr_in6.sin6_family.set(view, 0, AF_INET6);
      sockaddr_in6.sin6_port.set(view, 0, port as number);
      sockaddr_in6.sin6_flowinfo.set(view, 0, flow);
      if (!parseInet6(text, this.#bytes, GROUPS)) throw notAnAddress(host, "IPv6");
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
    const text = formatInet6(this.#bytes, GROUPS);
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
    return this.#resolve().#bytes.slice();
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

  /** Whether it is ::, which stands for no address, or for all of this machine. */
  get isUnspecified(): boolean {
    const bytes = this.#bytes;
    return isMapped(bytes) ? isUnspecified4(bytes, MAPPED_QUAD) : startsWithZeros(bytes, 16);
  }

  /** Whether it is ::1: this machine. */
  get isLoopback(): boolean {
    const bytes = this.#bytes;
    if (isMapped(bytes)) return isLoopback4(bytes, MAPPED_QUAD);
    return startsWithZeros(bytes, 15) && bytes[GROUPS + 15] === 1;
  }

  /** Whether it is in ff00::/8: a multicast group. */
  get isMulticast(): boolean {
    const bytes = this.#bytes;
    return isMapped(bytes) ? isMulticast4(bytes, MAPPED_QUAD) : bytes[GROUPS] === 0xff;
  }

  /** Whether it is in fc00::/7: a unique local address, RFC 4193. */
  get isPrivate(): boolean {
    const bytes = this.#bytes;
    if (isMapped(bytes)) return isPrivate4(bytes, MAPPED_QUAD);
    return ((bytes[GROUPS] as number) & 0xfe) === 0xfc;
  }

  /** Whether it is in fe80::/10. To use it takes a scope. */
  get isLinkLocal(): boolean {
    const bytes = this.#bytes;
    if (isMapped(bytes)) return isLinkLocal4(bytes, MAPPED_QUAD);
    return bytes[GROUPS] === 0xfe && ((bytes[GROUPS + 1] as number) & 0xc0) === 0x80;
  }

  /** Whether it is in ::ffff:0:0/96: an IPv4 address, as IPv6 sockets write it. */
  get isV4Mapped(): boolean {
    return isMapped(this.#bytes);
  }

  /** Makes the same address with another port. */
  withPort(port: number): Inet6Address {
    return new Inet6Address(this.host, port, { flow: this.flow });
  }

  /**
   * Makes the IPv4 address of an IPv4-mapped one, with the same port and without scope and flow,
   * which IPv4 does not have. Returns every other address as it is.
   */
  unmap(): Inet4Address | Inet6Address {
    if (!isMapped(this.#bytes)) return this;
    return new Inet4Address(formatInet4(this.#bytes, MAPPED_QUAD), this.port);
  }

  /**
   * Makes the same address with its zone as an index. Asks the kernel when the zone is a name.
   *
   * @throws {SystemError} `ENODEV` the zone names no interface of this network namespace
   * @see {@link https://man7.org/linux/man-pages/man3/if_nametoindex.3.html | if_nametoindex(3)}
   */
  resolveScope(): Inet6Address {
    return this.#resolve();
  }

  // Private, so that no subclass comes between an address and the bytes that the kernel gets.
  #resolve(): Inet6Address {
    if (this.#scopeName === undefined) return this;
    const name = Buffer.from(`${this.#scopeName}\0`);
    const index = check(if_nametoindex(name), "if_nametoindex", { address: this });
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
      #bytes in other &&
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
    resolvedBytesOfInet6 = (address) => (#bytes in address ? address.#resolve().#bytes : undefined);
  }
}

// The four bytes of an IPv4 address from `at`: in a sockaddr_in, or mapped in a sockaddr_in6.

function isUnspecified4(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0 && bytes[at + 1] === 0 && bytes[at + 2] === 0 && bytes[at + 3] === 0;
}

function isLoopback4(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 127;
}

function isMulticast4(bytes: Uint8Array, at: number): boolean {
  return ((bytes[at] as number) & 0xf0) === 0xe0;
}

function isPrivate4(bytes: Uint8Array, at: number): boolean {
  const first = bytes[at];
  const second = bytes[at + 1] as number;
  if (first === 172) return (second & 0xf0) === 16;
  return first === 10 || (first === 192 && second === 168);
}

function isLinkLocal4(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 169 && bytes[at + 1] === 254;
}

// RFC 4291 section 2.5.5.2: 80 bits of zeros, 16 of ones, and the IPv4 address.
function isMapped(bytes: Uint8Array): boolean {
  return startsWithZeros(bytes, 10) && bytes[GROUPS + 10] === 0xff && bytes[GROUPS + 11] === 0xff;
}

function startsWithZeros(bytes: Uint8Array, count: number): boolean {
  for (let i = GROUPS; i < GROUPS + count; i++) if (bytes[i] !== 0) return false;
  return true;
}

function copySockaddr(
  source: Uint8Array,
  family: number,
  length: number,
  name: string,
): Uint8Array {
  const bytes = copyBytes(source, name).slice(0, length);
  if (bytes.length < length || sockaddr.sa_family.get(viewOf(bytes), 0) !== family) {
    throw new TypeError(
      `Cannot make ${name}: expected at least ${length} bytes that start with its family`,
    );
  }
  return bytes;
}

function splitZone(host: string): [text: string, zone: string | undefined] {
  const at = host.indexOf("%");
  return at < 0 ? [host, undefined] : [host.slice(0, at), host.slice(at + 1)];
}

// A number is an index, anything else that Linux would take as an interface's name is a name.
function parseZone(zone: string | undefined, host: string): string | number {
  if (zone === undefined) return 0;
  if (/^[1-9]\d*$/.test(zone)) {
    requireInteger(Number(zone), 1, UINT32_MAX, "an interface index");
    return Number(zone);
  }
  const named =
    /^[^\s/:%[\]\0]+$/.test(zone) && !/^\d/.test(zone) && Buffer.byteLength(zone) < IF_NAMESIZE;
  if (!named)
    throw new TypeError(
      `Cannot use ${JSON.stringify(host)} as an address: its zone is no interface name or index`,
    );
  return zone;
}

function notAnAddress(host: string, family: string): TypeError {
  return new TypeError(`Cannot use ${JSON.stringify(host)} as an ${family} address`);
}
