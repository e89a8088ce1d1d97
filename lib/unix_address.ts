import { AF_UNIX } from "../structs/constants/sys_socket.ts";
import { sockaddr_un } from "../structs/sockaddr_un.ts";
import type { AddressParts } from "./address.ts";
import { describe } from "./internal/arguments.ts";
import { copyBytes, hashBytes, sameBytes, viewOf } from "./internal/sockaddr.ts";

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const NAME = sockaddr_un.sun_path.offset;
const PATH_BYTES_MAX = sockaddr_un.sun_path.size;
/** The NUL in front of an abstract name takes one of them. */
const ABSTRACT_BYTES_MAX = PATH_BYTES_MAX - 1;

/**
 * The bytes of a UnixAddress: its own, read, never write. Undefined for every other object. Set by
 * the class below; the package does not export it.
 */
export let bytesOfUnix: (address: object) => Uint8Array | undefined;

/**
 * The address of a Unix socket: a path, an abstract name, or none. Immutable: it holds a finished
 * `sockaddr_un` of the exact length, which calls pass on as it is.
 *
 * A path is 1 to 108 bytes without a NUL; bind makes a file there, and closing leaves it. An
 * abstract name is 0 to 107 bytes, NULs among them, all of which count; it has no file and goes
 * with its socket. A socket that was not bound has the unnamed address, and binding to that lets
 * the kernel choose an abstract name.
 *
 * Linux does not ask names for an encoding. What is text is read and written as UTF-8, and
 * `nameBytes` has the bytes of all.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 *
 * @example A path, an abstract name, and none
 * ```ts
 * import { UnixAddress } from "bun-sockets";
 *
 * const address = new UnixAddress("/run/app.sock");
 * console.log(`${address}`, address.path); // unix:/run/app.sock /run/app.sock
 * console.log(`${UnixAddress.abstract("app")}`, `${UnixAddress.unnamed}`); // unix:@app unix:
 * ```
 *
 * @example The name that the kernel chooses
 * ```ts
 * import { UnixAddress } from "bun-sockets";
 * import { AF_UNIX, SOCK_DGRAM, bind, close, getsockname, socket } from "bun-sockets/sys";
 *
 * const fd = socket(AF_UNIX, SOCK_DGRAM, 0);
 * bind(fd, UnixAddress.unnamed.bytes);
 * const name = new Uint8Array(128);
 * const length = new Uint32Array(1);
 * getsockname(fd, name, length);
 * console.log(new UnixAddress(name.subarray(0, length[0])).isAbstract); // true
 * close(fd);
 * ```
 */
export class UnixAddress {
  static #unnamed: UnixAddress | undefined;

  readonly #bytes: Uint8Array;

  /**
   * Makes an address of a path, or of the bytes of a `sockaddr_un` as the kernel fills it: with its
   * exact length, and a final NUL or none behind a path.
   *
   * @param path relative to the working directory of the moment, or from "/"; 1 to 108 bytes as
   * UTF-8
   * @throws {TypeError} the path is empty or holds a NUL, or the bytes are no `sockaddr_un`
   * @throws {RangeError} the path is too long
   */
  constructor(path: string);
  constructor(bytes: Uint8Array);
  constructor(path: string | Uint8Array) {
    if (typeof path !== "string" && !(path instanceof Uint8Array)) {
      throw new TypeError(
        `Cannot make a UnixAddress of ${describe(path)}: expected a path, or bytes`,
      );
    }
    this.#bytes =
      typeof path === "string" ? sockaddrOfPath(encode(path, "a path")) : canonical(path);
    Object.freeze(this);
  }

  /**
   * Makes the address of an abstract name, which belongs to the network namespace instead of a
   * file system.
   *
   * @param name 0 to 107 bytes, without the NUL that C puts in front; text as UTF-8
   * @throws {RangeError} the name is too long
   */
  static abstract(name: string | Uint8Array): UnixAddress {
    const bytes =
      typeof name === "string"
        ? encode(name, "an abstract name")
        : copyBytes(name, "an abstract name");
    if (bytes.length > ABSTRACT_BYTES_MAX) {
      throw new RangeError(
        `Cannot use ${bytes.length} bytes as an abstract name: expected 0 to ${ABSTRACT_BYTES_MAX}`,
      );
    }
    return new UnixAddress(sockaddrOf(new Uint8Array(1), bytes));
  }

  /**
   * Makes the address of a path that need not be UTF-8.
   *
   * @param bytes 1 to 108 bytes without a NUL
   * @throws {TypeError} the path is empty or holds a NUL
   * @throws {RangeError} the path is too long
   */
  static fromPath(bytes: Uint8Array): UnixAddress {
    return new UnixAddress(sockaddrOfPath(copyBytes(bytes, "a path")));
  }

  /**
   * The address of a socket without a name. To bind to it is to let the kernel choose an abstract
   * name of five hexadecimal digits.
   */
  static get unnamed(): UnixAddress {
    UnixAddress.#unnamed ??= new UnixAddress(sockaddrOf());
    return UnixAddress.#unnamed;
  }

  /** "unix". */
  get family(): "unix" {
    return "unix";
  }

  /** The path, or undefined where there is none, or where it is not UTF-8. */
  get path(): string | undefined {
    return this.isPath ? decode(nameOf(this.#bytes)) : undefined;
  }

  /** The abstract name without its leading NUL, or undefined as with `path`. */
  get abstractName(): string | undefined {
    return this.isAbstract ? decode(nameOf(this.#bytes)) : undefined;
  }

  /** A copy of the bytes of the path, or of the abstract name without its leading NUL. */
  get nameBytes(): Uint8Array {
    return nameOf(this.#bytes).slice();
  }

  /** Whether it is a path. */
  get isPath(): boolean {
    return !this.isUnnamed && !this.isAbstract;
  }

  /** Whether it is an abstract name. */
  get isAbstract(): boolean {
    return isAbstract(this.#bytes);
  }

  /** Whether there is no name. */
  get isUnnamed(): boolean {
    return this.#bytes.length === NAME;
  }

  /**
   * A copy of the bytes of `struct sockaddr_un`, of the length that belongs to the address: a path
   * with its final NUL, for which one of 108 bytes has no room; an abstract name without one.
   */
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

  /** Tells whether the other is a UnixAddress with the same name of the same kind. */
  equals(other: unknown): boolean {
    return other instanceof UnixAddress && #bytes in other && sameBytes(this.#bytes, other.#bytes);
  }

  /**
   * The text that parseAddress reads: "unix:" and the path, "unix:@" and the abstract name, or
   * "unix:" alone. Where that would not be read back, or not be seen as it is (bytes that are not
   * UTF-8, control characters, a path that begins with "@"), it is "sockaddr:" and the bytes in
   * hexadecimal.
   */
  toString(): string {
    const text = decode(nameOf(this.#bytes));
    if (text === undefined || HIDDEN.test(text) || (this.isPath && text.startsWith("@")))
      return `sockaddr:${this.#bytes.toHex()}`;
    return `unix:${this.isAbstract ? "@" : ""}${text}`;
  }

  /** The parts, which addressFrom turns back into this address. */
  toJSON(): AddressParts {
    const { path, abstractName } = this;
    if (path !== undefined) return { family: "unix", path };
    if (abstractName !== undefined) return { family: "unix", abstract: abstractName };
    if (this.isUnnamed) return { family: "unix" };
    return { family: AF_UNIX, sockaddr: this.#bytes.toHex() };
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return #bytes in this ? `UnixAddress ${this}` : "UnixAddress";
  }

  static {
    bytesOfUnix = (address) => (#bytes in address ? address.#bytes : undefined);
  }
}

// What a terminal would act on, or not show: control and format characters, line separators.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/**
 * Tells whether the bytes are those of a `sockaddr_un` with its exact length. The package does not
 * export it.
 */
export function isUnixSockaddr(bytes: Uint8Array): boolean {
  const { length } = bytes;
  if (length < NAME || sockaddr_un.sun_family.get(viewOf(bytes), 0) !== AF_UNIX) return false;
  // unix(7): the length of a path that fills sun_path is one more than sizeof(struct sockaddr_un),
  // for the kernel counts the NUL that it keeps behind it.
  const counted = length === sockaddr_un.size + 1 && bytes[length - 1] === 0 && !isAbstract(bytes);
  return length <= sockaddr_un.size || counted;
}

function isAbstract(bytes: Uint8Array): boolean {
  return bytes.length > NAME && bytes[NAME] === 0;
}

// Without the NUL in front of an abstract name, or behind a path.
function nameOf(bytes: Uint8Array): Uint8Array {
  if (isAbstract(bytes)) return bytes.subarray(NAME + 1);
  const end = bytes.indexOf(0, NAME);
  return bytes.subarray(NAME, end < 0 ? bytes.length : end);
}

// Equal addresses have equal bytes: a path ends where the kernel stops reading it.
function canonical(source: Uint8Array): Uint8Array {
  const bytes = copyBytes(source, "a UnixAddress");
  if (!isUnixSockaddr(bytes)) {
    const lengths = `${NAME} to ${sockaddr_un.size}`;
    throw new TypeError(
      `Cannot make a UnixAddress: expected ${lengths} bytes that start with its family`,
    );
  }
  return bytes.length === NAME || isAbstract(bytes) ? bytes : sockaddrOfPath(nameOf(bytes));
}

function sockaddrOfPath(path: Uint8Array): Uint8Array {
  if (path.length === 0)
    throw new TypeError(
      "Cannot use an empty path: the address without a name is UnixAddress.unnamed",
    );
  if (path.includes(0))
    throw new TypeError("Cannot use a path with a NUL: abstract names take UnixAddress.abstract");
  if (path.length > PATH_BYTES_MAX) {
    throw new RangeError(
      `Cannot use ${path.length} bytes as a path: expected 1 to ${PATH_BYTES_MAX}`,
    );
  }
  return sockaddrOf(path, new Uint8Array(path.length < PATH_BYTES_MAX ? 1 : 0));
}

function sockaddrOf(...name: readonly Uint8Array[]): Uint8Array {
  const family = new Uint8Array(NAME);
  sockaddr_un.sun_family.set(viewOf(family), 0, AF_UNIX);
  return new Uint8Array(Buffer.concat([family, ...name]));
}

function encode(text: string, what: string): Uint8Array {
  // It would become another name, with U+FFFD in it.
  if (!text.isWellFormed())
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as ${what}: it has a lone surrogate`);
  return Buffer.from(text);
}

function decode(name: Uint8Array): string | undefined {
  const text = Buffer.from(name).toString();
  // What is not UTF-8 becomes U+FFFD and does not come back.
  return sameBytes(Buffer.from(text), name) ? text : undefined;
}
