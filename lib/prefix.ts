import { sockaddr_in } from "../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../structs/sockaddr_in6.ts";
import { type InetAddress, toPortlessAddress } from "./address.ts";
import { bytesOfInet4, bytesOfInet6, Inet4Address, Inet6Address } from "./inet_address.ts";
import { describe, requireInteger, requireObject, requireOptions } from "./internal/arguments.ts";
import { formatInet4, formatInet6 } from "./internal/inet_text.ts";
import { requireText, sameBytes } from "./internal/sockaddr.ts";

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const QUAD_BYTES = 4;
const GROUPS_BYTES = 16;
const MAPPED_BYTES = GROUPS_BYTES - QUAD_BYTES;

/** An address, or its text: with a port, which is ignored here, or without one. */
export type AddressLike = InetAddress | string;

// Set by the class below.
let isPrefix: (value: unknown) => value is Prefix;
let rangeOf: (prefix: Prefix) => [first: Uint8Array, last: Uint8Array];

/**
 * The addresses that begin with the same bits: "10.0.0.0/8", "fe80::/10". Immutable.
 *
 * Ports, zones and flows are no part of it. The two families are kept apart, but for IPv4-mapped
 * addresses ("::ffff:192.0.2.1"), which are how an IPv6 socket sees an IPv4 peer: everywhere here
 * they are the IPv4 address. So no IPv4 prefix is escaped through an IPv6 socket, and "::/0" does
 * not contain them. A prefix inside ::ffff:0:0/96 is the IPv4 prefix: "::ffff:10.0.0.0/104" is
 * 10.0.0.0/8. One that is wider, as "::/0", is IPv6's alone.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc4632 | RFC 4632}, and
 * {@link https://www.rfc-editor.org/rfc/rfc4291#section-2.3 | RFC 4291 section 2.3}
 *
 * @example What is in it
 * ```ts
 * import { Prefix } from "bun-sockets";
 *
 * const prefix = new Prefix("10.0.0.0/8");
 * console.log(prefix.contains("10.1.2.3"), prefix.contains("[::ffff:10.1.2.3]:80")); // true true
 * console.log(`${prefix} ${prefix.first.host} ${prefix.last.host}`); // 10.0.0.0/8 10.0.0.0 10.255.255.255
 * ```
 */
export class Prefix {
  // In network byte order, 4 or 16 of them; the bits after the length are 0.
  readonly #bytes: Uint8Array;
  readonly #length: number;

  /**
   * Makes a prefix of its text, or of an address and a length.
   *
   * @param text "192.0.2.0/24"; without a length it is one address. Bits behind the length must be
   * 0: `Prefix.of` clears them
   * @throws {TypeError} text is no prefix, or has bits behind its length
   * @throws {RangeError} the length is longer than the address
   */
  constructor(text: string) {
    const [host = "", length, ...rest] = requireText(text, "a prefix").split("/");
    if (rest.length > 0 || (length !== undefined && !/^(0|[1-9]\d*)$/.test(length)))
      throw notAPrefix(text);
    // A zone would be lost in silence.
    if (host.includes("%")) throw notAPrefix(text, ": a prefix has no zone");
    const address = addressWithoutPort(host);
    if (!address) throw notAPrefix(text);
    const whole = address instanceof Inet6Address ? 8 * GROUPS_BYTES : 8 * QUAD_BYTES;
    const [bytes, bits] = normalize(address, length === undefined ? whole : Number(length), whole);
    if (!sameBytes(bytes, masked(bytes, bits))) {
      throw notAPrefix(text, ": it has bits behind its length. Prefix.of() clears them");
    }
    this.#bytes = bytes;
    this.#length = bits;
    Object.freeze(this);
  }

  /**
   * Makes the prefix that an address is in: its first bits. A port and a zone are left out.
   *
   * @param address an address, or its text
   * @param length in bits: 0 to 32, or to 128
   * @throws {TypeError} address is none
   * @throws {RangeError} the length is out of range
   */
  static of(address: AddressLike, length: number): Prefix {
    const known = toPortlessAddress(address);
    const whole = known instanceof Inet6Address ? 8 * GROUPS_BYTES : 8 * QUAD_BYTES;
    const [bytes, bits] = normalize(known, length, whole);
    return new Prefix(`${textOf(masked(bytes, bits))}/${bits}`);
  }

  /** "ipv4" or "ipv6". */
  get family(): "ipv4" | "ipv6" {
    return this.#bytes.length === QUAD_BYTES ? "ipv4" : "ipv6";
  }

  /** How many bits are the same, 0 to 32 or to 128. */
  get length(): number {
    return this.#length;
  }

  /** The first address, with port 0: the name of an IPv4 network. */
  get first(): InetAddress {
    return addressOf(this.#bytes);
  }

  /** The last address, with port 0: of an IPv4 network mostly the broadcast address. */
  get last(): InetAddress {
    return addressOf(this.#lastBytes());
  }

  /** The netmask, with port 0: 255.255.255.0 for a length of 24. */
  get netmask(): InetAddress {
    return addressOf(masked(new Uint8Array(this.#bytes.length).fill(0xff), this.#length));
  }

  /**
   * Tells whether an address is in it, or all of another prefix.
   *
   * @throws {TypeError} it is neither, nor the text of an address
   */
  contains(other: AddressLike | Prefix): boolean {
    if (isPrefix(other))
      return other.#length >= this.#length && holds(this.#bytes, this.#length, other.#bytes);
    return holds(this.#bytes, this.#length, hostBytes(toPortlessAddress(other)));
  }

  /**
   * Tells whether any address is in both.
   *
   * @throws {TypeError} it is no Prefix
   */
  overlaps(other: Prefix): boolean {
    if (!isPrefix(other))
      throw new TypeError(`Cannot use ${describe(other)} as a prefix: expected a Prefix`);
    return this.contains(other) || other.contains(this);
  }

  /** Tells whether the other is a prefix of the same addresses. */
  equals(other: unknown): boolean {
    return isPrefix(other) && other.#length === this.#length && other.contains(this);
  }

  /** The text that the constructor reads: "10.0.0.0/8". */
  toString(): string {
    return `${textOf(this.#bytes)}/${this.#length}`;
  }

  /** The same text. */
  toJSON(): string {
    return this.toString();
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return #bytes in this ? `Prefix ${this}` : "Prefix";
  }

  #lastBytes(): Uint8Array {
    const mask = masked(new Uint8Array(this.#bytes.length).fill(0xff), this.#length);
    return this.#bytes.map((byte, i) => byte | ~(mask[i] as number));
  }

  static {
    isPrefix = (value): value is Prefix =>
      typeof value === "object" && value !== null && #bytes in value;
    rangeOf = (prefix) => [prefix.#bytes, prefix.#lastBytes()];
  }
}

/** An entry of an address list, as `toJSON` gives it and `AddressList.from` takes it. */
export type AddressListEntry =
  | { readonly address: string }
  | { readonly prefix: string }
  | { readonly from: string; readonly to: string };

/** An address list as plain values, also after JSON. */
export interface AddressListParts {
  /** What is said of an address that is in neither list. Default "allow". */
  readonly otherwise?: "allow" | "deny" | undefined;
  /** The rules in the order in which they were given. */
  readonly rules: readonly (AddressListEntry & { readonly verdict: "allow" | "deny" })[];
}

/** What `new AddressList` can be told. */
export interface AddressListOptions {
  /**
   * What is said of an address that no rule names. Default "allow", which makes a list of what is
   * denied; "deny" makes one of what is allowed.
   */
  readonly otherwise?: "allow" | "deny" | undefined;
}

interface Rule {
  readonly verdict: "allow" | "deny";
  readonly first: Uint8Array;
  readonly last: Uint8Array;
  readonly entry: AddressListEntry;
}

/**
 * Which addresses are allowed, and which are not: single ones, ranges and prefixes. The first rule
 * that names an address decides, in the order in which the rules were given.
 *
 * Ports, zones and flows do not count; IPv4-mapped addresses are their IPv4 addresses, as in
 * `Prefix`. `TcpSocket.connect` asks it, as `allowed`; whoever accepts or receives calls `check`.
 *
 * @example Peers that are served
 * ```ts
 * import { AddressList } from "bun-sockets";
 *
 * const list = new AddressList({ otherwise: "deny" });
 * list.deny("10.0.0.66").allow("10.0.0.0/8").allow("192.0.2.10", "192.0.2.20");
 * console.log(list.check("10.1.2.3:53"), list.check("10.0.0.66:53")); // true false
 * const copy = AddressList.from(JSON.parse(JSON.stringify(list)));
 * console.log(copy.check("192.0.2.15:53"), copy.check("192.0.2.21:53")); // true false
 * ```
 */
export class AddressList {
  readonly #rules: Rule[] = [];
  readonly #otherwise: "allow" | "deny";

  /** Makes a list without rules. */
  constructor(options: AddressListOptions = {}) {
    const { otherwise = "allow" } = requireOptions(options);
    requireVerdict(otherwise, "otherwise");
    this.#otherwise = otherwise;
    Object.freeze(this);
  }

  /**
   * Makes a list of its parts, as `toJSON` gives them.
   *
   * @throws {TypeError} a part is missing, or is not what it should be
   */
  static from(parts: AddressListParts): AddressList {
    const { otherwise, rules } = requireObject(parts);
    if (!Array.isArray(rules))
      throw new TypeError(`Cannot use ${describe(rules)} as rules: expected an array`);
    const list = new AddressList({ otherwise });
    for (const rule of rules as (Record<string, unknown> & { verdict: "allow" | "deny" })[]) {
      const { verdict, address, prefix, from, to } = requireObject(rule);
      requireVerdict(verdict, "a verdict");
      const first = address ?? prefix ?? from;
      list.#add(verdict, first as AddressLike | Prefix, to as AddressLike | undefined);
    }
    return list;
  }

  /** How many rules there are. */
  get size(): number {
    return this.#rules.length;
  }

  /**
   * Allows an address, a prefix, or all addresses from one to another, both included, unless an
   * earlier rule names them. Returns the list.
   *
   * @param first an address, a prefix, or the text of either
   * @param last the end of the range, of the same family
   * @throws {TypeError} what is given is neither, or the ends are of two families
   * @throws {RangeError} the last address is before the first
   */
  allow(first: AddressLike | Prefix, last?: AddressLike): this {
    return this.#add("allow", first, last);
  }

  /** Denies what `allow` would allow. Returns the list. */
  deny(first: AddressLike | Prefix, last?: AddressLike): this {
    return this.#add("deny", first, last);
  }

  /**
   * Tells whether an address is allowed.
   *
   * @param address an address, or its text
   * @throws {TypeError} address is none
   */
  check(address: AddressLike): boolean {
    const bytes = hostBytes(toPortlessAddress(address));
    const rule = this.#rules.find(({ first, last }) => isBetween(bytes, first, last));
    return (rule?.verdict ?? this.#otherwise) === "allow";
  }

  /** The parts, which `AddressList.from` turns back into this list. */
  toJSON(): AddressListParts {
    const rules = this.#rules.map(({ verdict, entry }) => ({ verdict, ...entry }));
    return { otherwise: this.#otherwise, rules };
  }

  #add(verdict: "allow" | "deny", first: AddressLike | Prefix, last?: AddressLike): this {
    this.#rules.push({ verdict, ...toRange(first, last) });
    return this;
  }
}

function requireVerdict(value: unknown, name: string): void {
  if (value === "allow" || value === "deny") return;
  const given = typeof value === "string" ? JSON.stringify(value) : describe(value);
  throw new TypeError(`Cannot use ${given} as ${name}: expected "allow" or "deny"`);
}

function toRange(first: AddressLike | Prefix, last?: AddressLike): Omit<Rule, "verdict"> {
  const isText = typeof first === "string" && first.includes("/");
  if (isPrefix(first) || isText) {
    if (last !== undefined)
      throw new TypeError("Cannot make a range of a prefix and an address: expected two addresses");
    const prefix = isText ? new Prefix(first) : (first as Prefix);
    const [begin, end] = rangeOf(prefix);
    return { first: begin, last: end, entry: { prefix: `${prefix}` } };
  }
  const begin = hostBytes(toPortlessAddress(first as AddressLike));
  if (last === undefined) return { first: begin, last: begin, entry: { address: textOf(begin) } };
  const end = hostBytes(toPortlessAddress(last));
  const [from, to] = [textOf(begin), textOf(end)];
  if (begin.length !== end.length)
    throw new TypeError(`Cannot make a range of ${from} and ${to}: they are of two families`);
  if (Buffer.compare(begin, end) > 0)
    throw new RangeError(`Cannot make a range from ${from} to ${to}: it ends before it begins`);
  return { first: begin, last: end, entry: { from, to } };
}

function isBetween(bytes: Uint8Array, first: Uint8Array, last: Uint8Array): boolean {
  return (
    bytes.length === first.length &&
    Buffer.compare(bytes, first) >= 0 &&
    Buffer.compare(bytes, last) <= 0
  );
}

// Whether the first bits of an address are those of a prefix.
function holds(prefix: Uint8Array, length: number, bytes: Uint8Array): boolean {
  return bytes.length === prefix.length && sameBytes(masked(bytes, length), prefix);
}

function masked(bytes: Uint8Array, length: number): Uint8Array {
  return bytes.map((byte, i) => {
    const kept = Math.min(Math.max(length - 8 * i, 0), 8);
    return byte & ~(0xff >> kept);
  });
}

// The bytes of an address, IPv4-mapped ones as IPv4, and the length that goes with them. A mapped
// address with fewer than 96 bits of prefix has more than IPv4 in it, and stays what it is.
function normalize(
  address: InetAddress,
  length: number,
  whole: number,
): [bytes: Uint8Array, length: number] {
  requireInteger(length, 0, whole, "the length of a prefix");
  const bits = 8 * MAPPED_BYTES;
  const isMapped = address instanceof Inet6Address && address.isV4Mapped;
  if (isMapped && length >= bits) return [hostBytes(address), length - bits];
  return [rawBytes(address), length];
}

function hostBytes(address: InetAddress): Uint8Array {
  const bytes = rawBytes(address);
  return address instanceof Inet6Address && address.isV4Mapped
    ? bytes.subarray(MAPPED_BYTES)
    : bytes;
}

function rawBytes(address: InetAddress): Uint8Array {
  const inet4 = bytesOfInet4(address);
  if (inet4) return inet4.subarray(sockaddr_in.sin_addr.offset).subarray(0, QUAD_BYTES);
  const inet6 = bytesOfInet6(address) as Uint8Array;
  return inet6.subarray(sockaddr_in6.sin6_addr.offset).subarray(0, GROUPS_BYTES);
}

function addressOf(bytes: Uint8Array): InetAddress {
  return bytes.length === QUAD_BYTES
    ? new Inet4Address(textOf(bytes), 0)
    : new Inet6Address(textOf(bytes), 0);
}

function textOf(bytes: Uint8Array): string {
  return bytes.length === QUAD_BYTES ? formatInet4(bytes, 0) : formatInet6(bytes, 0);
}

// The text of an address without a port, as prefixes are written.
function addressWithoutPort(text: string): InetAddress | undefined {
  try {
    return text.includes(":") ? new Inet6Address(text, 0) : new Inet4Address(text, 0);
  } catch {
    return undefined;
  }
}

function notAPrefix(text: string, why = ': expected "address/length"'): TypeError {
  return new TypeError(`Cannot use ${JSON.stringify(text)} as a prefix${why}`);
}
