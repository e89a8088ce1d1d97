import { EBADF, EMSGSIZE, ETIMEDOUT } from "../structs/constants/errno.ts";
import { errorName, strerror } from "./sys/errno.ts";

/** What an error tells beside its number; each becomes the property of that name. */
export interface SystemErrorDetails {
  /** The address of the call: its text ("127.0.0.1:80") stands in the message. */
  readonly address?:
    | {
        readonly host?: string | undefined;
        readonly port?: number | undefined;
        readonly path?: string | undefined;
        toString(): string;
      }
    | undefined;
  /** Whether the socket was a Unix one, whose errors have other remedies. */
  readonly unix?: boolean;
  /** Whether `address` is where data was to go, rather than the socket's own. */
  readonly sending?: boolean;
  /** What was transferred before it failed: bytes, or datagrams of a batch. */
  readonly transferred?: number;
  /** The C name of the option that the call was about: it stands in the message. */
  readonly option?: string;
  /** What the caller can do about it. */
  readonly hint?: string | undefined;
  /** The host of the node that has refused it, and why, in words: both stand in the message. */
  readonly offender?: string | undefined;
  readonly reason?: string | undefined;
  /** What it was made of. */
  readonly cause?: unknown;
  /** The limit that has passed, in milliseconds. Of a TimeoutError only, as what follows. */
  readonly timeoutMs?: number | undefined;
  /** For how long nothing was to come to a halt, in milliseconds. */
  readonly idleMs?: number | undefined;
  /** The name that was asked for. */
  readonly host?: string | undefined;
  /** The service or port that was asked for with it. */
  readonly service?: string | number | undefined;
}

/**
 * What cancels a call: an AbortSignal, of which this is what is used. Declared here because not every
 * project has the types that declare it.
 */
export interface CancelSignal {
  readonly aborted: boolean;
  readonly reason: unknown;
  throwIfAborted(): void;
  addEventListener(type: "abort", listener: () => void): void;
  removeEventListener(type: "abort", listener: () => void): void;
}

/**
 * A system call that failed. It has the shape of Node's system errors, so
 * `util.getSystemErrorName(error.errno)` works.
 *
 * Expected outcomes are not errors: "would block" is `undefined` or 0 from the `try` forms.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/errno.3.html | errno(3)}
 *
 * @example What a failed bind says
 * ```ts
 * import { SystemError, UdpSocket } from "bun-sockets";
 *
 * using first = UdpSocket.bind("127.0.0.1:0");
 * try {
 *   UdpSocket.bind(first.localAddress);
 * } catch (error) {
 *   if (!(error instanceof SystemError)) throw error;
 *   console.log(error.code, error.syscall, error.address); // EADDRINUSE bind 127.0.0.1
 * }
 * ```
 */
export class SystemError extends Error {
  override name = "SystemError";
  /** The C name of the error: "EADDRINUSE". */
  readonly code: string;
  /** The error as a negative number: -98. */
  readonly errno: number;
  /** The C call that failed: "bind". */
  readonly syscall: string;
  /** The host of the address in the call, where there is one: "127.0.0.1". */
  declare readonly address?: string;
  /** The port of the address in the call, where there is one. */
  declare readonly port?: number;
  /** The path of the Unix address in the call, where there is one. */
  declare readonly path?: string;
  /** The C name of the option in the call, where there is one: "SO_RCVBUF". */
  declare readonly option?: string;
  /** The whole address data was to go to, where there is one: "127.0.0.1:53". */
  declare readonly destination?: string;
  /**
   * The host of the node that has refused what was sent, where one has said so in an ICMP message: a
   * router, the receiver, or this host itself.
   */
  declare readonly offender?: string;
  /** What was transferred before it failed, where something was: bytes, or datagrams of a batch. */
  declare readonly transferred?: number;
  /** What the caller can do about it, where we know. */
  declare readonly hint?: string;

  /**
   * @param errno positive or negative
   * @param syscall the C name of the call
   */
  constructor(errno: number, syscall: string, details: SystemErrorDetails = {}) {
    const code = errorName(errno);
    const { address, sending, transferred, option, offender, reason, cause } = details;
    const object = address ?? option;
    const said = [reason, offender && `from ${offender}`].filter(Boolean).join(", ");
    super(
      `${syscall} ${code}${object === undefined ? "" : ` ${object}`}: ${describe(errno)}` +
        (said ? ` (${said})` : ""),
    );
    this.code = code;
    this.errno = -Math.abs(errno);
    this.syscall = syscall;
    if (address?.host !== undefined) this.address = address.host;
    if (address?.port !== undefined) this.port = address.port;
    if (address?.path !== undefined) this.path = address.path;
    if (address && sending) this.destination = `${address}`;
    if (option !== undefined) this.option = option;
    if (offender !== undefined) this.offender = offender;
    if (cause !== undefined) this.cause = cause;
    if (transferred) this.transferred = transferred;
    const call = `${kindOf(details)}${syscall} ${code}`;
    const hint = details.hint ?? hints[call] ?? rareHint(call, code, address);
    if (hint) this.hint = hint;
  }
}

/**
 * A call that waited as long as it was allowed to: `ETIMEDOUT`. Nothing was lost; `transferred`
 * says what was done.
 *
 * The message names what was waited for, where the call is about an address or a name, and the limit:
 * "connect ETIMEDOUT 192.0.2.1:80: timed out after 500 ms". `address`, `port` and `path` are those of
 * the peer for a connect, and those of the listener for an accept.
 *
 * @example
 * ```ts
 * import { TcpListener, TimeoutError } from "bun-sockets";
 *
 * using listener = TcpListener.listen("127.0.0.1:0");
 * try {
 *   await listener.accept({ timeoutMs: 20 });
 * } catch (error) {
 *   if (!(error instanceof TimeoutError)) throw error;
 *   console.log(error.syscall, error.address, error.timeoutMs); // accept4 127.0.0.1 20
 * }
 * ```
 */
export class TimeoutError extends SystemError {
  override name = "TimeoutError";
  /** The limit that has passed, in milliseconds, where it is known. */
  declare readonly timeoutMs?: number;
  /** The limit without a byte that has passed, in milliseconds, where that was the one. */
  declare readonly idleMs?: number;
  /** The name that was asked for, where the call looks it up or connects to it: "example.com". */
  declare readonly host?: string;
  /** The service or port that was asked for with the name. */
  declare readonly service?: string | number;

  /** @param syscall the C name of the call that had nothing to do */
  constructor(syscall: string, details: SystemErrorDetails = {}) {
    super(ETIMEDOUT, syscall, details);
    const { timeoutMs, idleMs, host, service } = details;
    if (timeoutMs !== undefined) this.timeoutMs = timeoutMs;
    if (idleMs !== undefined) this.idleMs = idleMs;
    if (host !== undefined) this.host = host;
    if (service !== undefined) this.service = service;
    const where = details.address ?? (host === undefined ? undefined : nameOf(host, service));
    this.message =
      `${syscall} ${this.code}${where === undefined ? "" : ` ${where}`}: ` +
      (idleMs === undefined ? "timed out" : "no byte was moved") +
      (idleMs === undefined ? after(timeoutMs) : ` for ${idleMs} ms`);
  }
}

function after(timeoutMs: number | undefined): string {
  return timeoutMs === undefined ? "" : ` after ${timeoutMs} ms`;
}

// A name can be anything that somebody has typed, but it does not end the line.
function nameOf(host: string, service: string | number | undefined): string {
  return JSON.stringify(service === undefined ? host : `${host}:${service}`).slice(1, -1);
}

/** The error of a call that took too long, with what its caller knows of it; any other as it is. */
export function withDetails(error: unknown, details: SystemErrorDetails): unknown {
  if (!(error instanceof TimeoutError)) return error;
  const { syscall, timeoutMs, idleMs, host, service, transferred = 0 } = error;
  return new TimeoutError(syscall, { timeoutMs, idleMs, host, service, transferred, ...details });
}

/** A call on a socket that is closed: `EBADF`. */
export class ClosedError extends SystemError {
  override name = "ClosedError";

  /** @param syscall the C name of the call that was refused */
  constructor(syscall: string, details?: SystemErrorDetails) {
    super(EBADF, syscall, details);
    this.message += OF_DESCRIPTORS.includes(syscall) ? ": it is closed" : ": the socket is closed";
  }
}

// What is called for descriptors that were received: they may be of anything.
const OF_DESCRIPTORS: readonly string[] = ["fcntl", "fstat", "take"];

/** One attempt to connect that failed. */
export interface ConnectAttempt {
  /** Where to. */
  readonly address: { toString(): string };
  readonly error: SystemError;
}

/**
 * A connection that could be made to none of the addresses of a name. `errors` has the error of each
 * attempt, in the order in which they were begun, each with its address; a `TimeoutError` stands for
 * one that took longer than `attemptTimeoutMs`.
 *
 * `code` and `errno` are of the attempt that tells most: an answer (`ECONNREFUSED`) before a silence
 * (`ETIMEDOUT`), and that before no way there (`ENETUNREACH`, `EHOSTUNREACH`, `EADDRNOTAVAIL`,
 * `EAFNOSUPPORT`), as where a machine has no IPv6; of two alike the first.
 *
 * @example
 * ```ts
 * import { ConnectError, TcpListener, TcpSocket } from "bun-sockets";
 *
 * const listener = TcpListener.listen("127.0.0.1:0");
 * const { port } = listener.localAddress;
 * listener.close();
 * try {
 *   await TcpSocket.connect("localhost", port, { family: "ipv4" });
 * } catch (error) {
 *   if (!(error instanceof ConnectError)) throw error;
 *   console.log(error.code, error.host, error.errors.length); // ECONNREFUSED localhost 1
 *   console.log(error.errors[0]?.address); // 127.0.0.1
 * }
 * ```
 */
export class ConnectError extends AggregateError {
  override name = "ConnectError";
  /** The error of each attempt. */
  declare readonly errors: SystemError[];
  /** The C name of the error that tells most: "ECONNREFUSED". */
  readonly code: string;
  /** The error that tells most as a negative number: -111. */
  readonly errno: number;
  /** "connect". */
  readonly syscall: "connect" = "connect";
  /** The name that was asked for. */
  readonly host: string;
  /** The service or port that was asked for. */
  readonly service: string | number;

  /** @param attempts at least one */
  constructor(attempts: readonly ConnectAttempt[], host: string, service: string | number) {
    const told = attempts
      .map((attempt) => `${attempt?.address} ${attempt?.error?.code}`)
      .join(", ");
    const errors = attempts.map((attempt) => attempt?.error);
    super(errors, `Cannot connect to ${nameOf(host, service)}: ${told}`);
    // toSorted is stable.
    const [telling] = errors.toSorted((left, right) => silenceOf(left) - silenceOf(right));
    this.code = telling?.code ?? "";
    this.errno = telling?.errno ?? 0;
    this.host = host;
    this.service = service;
  }
}

// How little an attempt that failed has heard: 0 for an answer.
function silenceOf(error: SystemError | undefined): number {
  if (error?.code === "ETIMEDOUT") return 1;
  return NO_WAY.includes(error?.code ?? "") ? 2 : 0;
}

const NO_WAY: readonly string[] = [
  "EADDRNOTAVAIL",
  "EAFNOSUPPORT",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
];

/** What a resolution error tells beside its code. */
export interface ResolutionErrorDetails {
  /** The host that was asked for: a name, or the text of an address. */
  readonly host?: string | undefined;
  /** The service that was asked for: a name, or a port. */
  readonly service?: string | undefined;
  /** The errno of an EAI_SYSTEM, positive or negative. */
  readonly errno?: number | undefined;
  /** What libc says of the code: "Name or service not known". */
  readonly text?: string | undefined;
}

/**
 * A name that could not be resolved: one of libc's `EAI_` errors.
 *
 * @see {@link https://man7.org/linux/man-pages/man3/gai_strerror.3.html | gai_strerror(3)}
 *
 * @example A name that does not exist
 * ```ts
 * import { ResolutionError, resolve } from "bun-sockets";
 *
 * try {
 *   await resolve("not a name", 80, { numericHost: true });
 * } catch (error) {
 *   if (!(error instanceof ResolutionError)) throw error;
 *   console.log(error.code, error.syscall, error.host, error.isNotFound); // EAI_NONAME getaddrinfo not a name true
 * }
 * ```
 */
export class ResolutionError extends Error {
  override name = "ResolutionError";
  /**
   * The C name of the error. The common ones: "EAI_NONAME" (no such name), "EAI_AGAIN" (no resolver
   * answers, or it has failed: try again), "EAI_FAIL", "EAI_SERVICE" (no such service for the type),
   * "EAI_FAMILY", "EAI_SYSTEM" (see errno).
   */
  readonly code: string;
  /** The C call that failed: "getaddrinfo", "getnameinfo", "gethostbyname2_r", "gethostbyaddr_r". */
  readonly syscall: string;
  /** The errno of an EAI_SYSTEM, as a negative number. Not there with every other code. */
  declare readonly errno?: number;
  /** The host that was asked for, where there was one. */
  declare readonly host?: string;
  /** The service that was asked for, where there was one. */
  declare readonly service?: string;

  /**
   * @param code the C name of the error: "EAI_NONAME"
   * @param syscall the C name of the call
   */
  constructor(code: string, syscall: string, details: ResolutionErrorDetails = {}) {
    const { host, service, errno, text } = details;
    const asked = [host, service && `service ${service}`].filter(Boolean).join(", ");
    const reason = errno ? `${errorName(errno)}: ${describe(errno)}` : text;
    super(`${syscall} ${code}${reason ? `: ${reason}` : ""}${asked ? ` (${asked})` : ""}`);
    this.code = code;
    this.syscall = syscall;
    if (errno) this.errno = -Math.abs(errno);
    if (host !== undefined) this.host = host;
    if (service !== undefined) this.service = service;
  }

  /** Whether the name does not exist, or has nothing of what was asked for. */
  get isNotFound(): boolean {
    return ["EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY", "EAI_SERVICE"].includes(this.code);
  }

  /** Whether the same question may have an answer later: no resolver could be asked. */
  get isTemporary(): boolean {
    return this.code === "EAI_AGAIN";
  }
}

/** Returns the result of a `sys` function, or throws what a negative one means. */
export function check(result: number, syscall: string, details?: SystemErrorDetails): number {
  if (result < 0) throw systemError(result, syscall, details);
  return result;
}

/** Makes the error for an errno, of the subclass that stands for it. */
export function systemError(
  errno: number,
  syscall: string,
  details?: SystemErrorDetails,
): SystemError {
  if (Math.abs(errno) === EBADF) return new ClosedError(syscall, details);
  return new SystemError(errno, syscall, details);
}

function kindOf({ unix, address }: SystemErrorDetails): string {
  if (!unix) return "";
  return address && address.path === undefined ? "abstract " : "unix ";
}

function describe(errno: number): string {
  // Fetched when an error is made: importing node:util is not worth its time in a program without
  // errors.
  const text = process.getBuiltinModule("node:util").getSystemErrorMessage(-Math.abs(errno));
  // It knows the errors that libuv has a name for; libc knows all of Linux's.
  return text.startsWith("Unknown") ? strerror(Math.abs(errno)).toLowerCase() : text;
}

// What few programs need is a table of its own.
function rareHint(
  call: string,
  code: string,
  address: SystemErrorDetails["address"],
): string | undefined {
  if (code !== "EPERM" && code !== "EACCES" && code !== "EINVAL") return undefined;
  try {
    const { hintOf }: typeof import("./internal/hints.ts") = require("./internal/hints.ts");
    return hintOf(call, code, address);
  } catch {
    // It cannot be read, for lack of descriptors. The error matters more.
    return undefined;
  }
}

/**
 * What helps a send of a datagram that was too long, where the socket says what a packet may be.
 * Undefined where not, or where it is no such error.
 */
export function tooLongHint(
  result: number,
  syscall: string,
  fd: number,
  isVersion6: boolean,
): string | undefined {
  if (result !== -EMSGSIZE || !syscall.startsWith("send")) return undefined;
  try {
    const { hintOfPath }: typeof import("./internal/hints.ts") = require("./internal/hints.ts");
    return hintOfPath(fd, isVersion6);
  } catch {
    return undefined;
  }
}

const NOBODY_THERE =
  "Nobody receives at that path: the file was left behind by a socket that is closed";
const NO_SUCH_NAME = "Nobody is bound to that name";
const OTHER_TYPE = "The socket at that path is of another type";
const NO_SUCH_PATH = "Nobody is bound to that path";
const TOO_LONG_FOR_UNIX = "A message must fit the send buffer: see sendBufferBytes";
const BROADCAST = "A broadcast address takes the creation option { broadcast: true }";
const REFUSED = "The peer refused an earlier datagram; this call did nothing and may be made again";
const NO_PEER = "Connect the socket first, or name the destination";
const TOO_LONG = "A datagram carries at most 65507 bytes over IPv4 and 65527 over IPv6";

// By call and code: the remedies that hold whatever the arguments were.
const hints: Readonly<Record<string, string>> = {
  "bind EADDRNOTAVAIL": "No interface of this machine has that address",
  "connect EACCES": BROADCAST,
  "recv ECONNREFUSED": REFUSED,
  "recvfrom ECONNREFUSED": REFUSED,
  "recvmmsg ECONNREFUSED": REFUSED,
  "recvmsg ECONNREFUSED": REFUSED,
  "send ECONNREFUSED": REFUSED,
  "send EDESTADDRREQ": NO_PEER,
  "send EMSGSIZE": TOO_LONG,
  "sendmmsg EACCES": BROADCAST,
  "sendmmsg ECONNREFUSED": REFUSED,
  "sendmmsg EDESTADDRREQ": NO_PEER,
  "sendmmsg EMSGSIZE": TOO_LONG,
  "sendmsg EACCES": BROADCAST,
  "sendmsg ECONNREFUSED": REFUSED,
  "sendmsg EDESTADDRREQ": NO_PEER,
  "sendmsg EMSGSIZE": TOO_LONG,
  "sendto EACCES": BROADCAST,
  "sendto ECONNREFUSED": REFUSED,
  "sendto EMSGSIZE": TOO_LONG,
  "unix bind EADDRINUSE":
    "Another socket has that name, or its file was left behind: { removeStale: true } removes a file that nobody listens on",
  "unix connect ECONNREFUSED": NOBODY_THERE,
  "unix connect ENOENT": NO_SUCH_PATH,
  "unix connect EPROTOTYPE": OTHER_TYPE,
  "unix send EMSGSIZE": TOO_LONG_FOR_UNIX,
  "unix sendmmsg ECONNREFUSED": NOBODY_THERE,
  "unix sendmmsg EMSGSIZE": TOO_LONG_FOR_UNIX,
  "unix sendmmsg ENOENT": NO_SUCH_PATH,
  "unix sendmmsg EPROTOTYPE": OTHER_TYPE,
  "unix sendmsg ECONNREFUSED": NOBODY_THERE,
  "unix sendmsg EMSGSIZE": TOO_LONG_FOR_UNIX,
  "unix sendmsg ENOENT": NO_SUCH_PATH,
  "unix sendmsg EPROTOTYPE": OTHER_TYPE,
  "unix sendto ECONNREFUSED": NOBODY_THERE,
  "unix sendto EMSGSIZE": TOO_LONG_FOR_UNIX,
  "unix sendto ENOENT": NO_SUCH_PATH,
  "unix sendto EPROTOTYPE": OTHER_TYPE,
  "abstract bind EADDRINUSE": "Another socket has that name",
  "abstract connect ECONNREFUSED": NO_SUCH_NAME,
  "abstract connect EPROTOTYPE": OTHER_TYPE,
  "abstract sendmmsg ECONNREFUSED": NO_SUCH_NAME,
  "abstract sendmmsg EMSGSIZE": TOO_LONG_FOR_UNIX,
  "abstract sendmmsg EPROTOTYPE": OTHER_TYPE,
  "abstract sendmsg ECONNREFUSED": NO_SUCH_NAME,
  "abstract sendmsg EMSGSIZE": TOO_LONG_FOR_UNIX,
  "abstract sendmsg EPROTOTYPE": OTHER_TYPE,
  "abstract sendto ECONNREFUSED": NO_SUCH_NAME,
  "abstract sendto EMSGSIZE": TOO_LONG_FOR_UNIX,
  "abstract sendto EPROTOTYPE": OTHER_TYPE,
};
