import { AF_INET, AF_INET6 } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toPortlessAddress } from "./address.ts";
import type { SystemError } from "./error.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { Pinger, PingKind } from "./internal/pinger.ts";
import type { CancelOptions, SocketOptions, TimeoutOptions } from "./socket.ts";

/** What a PingSocket can be told when it is made. */
export interface PingSocketOptions
  extends Pick<
    SocketOptions,
    "receiveBufferBytes" | "sendBufferBytes" | "broadcast" | "configure"
  > {
  /**
   * Which kind of socket it is to be: "datagram" takes no right where the sysctl
   * net.ipv4.ping_group_range lets the user's groups in, "raw" takes CAP_NET_RAW. Default: the first
   * that is allowed, in this order.
   */
  readonly kind?: "datagram" | "raw" | undefined;
  /** Which address of this machine requests come from, or its text; a port means nothing. */
  readonly source?: Address | string | undefined;
  /** The one interface to use, by name or index: `SO_BINDTODEVICE`. Default by route. */
  readonly interface?: string | number | undefined;
}

/** What one request can be told. */
export interface PingRequest {
  /** Bytes behind the ICMP header, 0 to 65507 over IPv4 and 65527 over IPv6. Default 56. */
  readonly payloadBytes?: number | undefined;
  /** Over how many hops it may go, 1 to 255: TTL or hop limit. Default the socket's. */
  readonly ttl?: number | undefined;
}

/** What `pingSync` can be told. */
export interface PingSyncOptions extends PingRequest, TimeoutOptions {
  /** Milliseconds to wait for the answer. Default 5000; Infinity is no limit. */
  readonly timeoutMs?: number | undefined;
}

/** What `ping` can be told. */
export interface PingOptions extends PingRequest, CancelOptions {
  /** Milliseconds to wait for the answer. Default 5000; Infinity is no limit. */
  readonly timeoutMs?: number | undefined;
}

/** What `series` can be told. */
export interface PingSeriesOptions extends PingOptions {
  /**
   * Milliseconds between two requests, whatever becomes of them; 0 sends the next one when the one
   * before has an answer or none in time. Default 1000.
   */
  readonly intervalMs?: number | undefined;
  /** How many requests. Default Infinity: until the loop is left. */
  readonly count?: number | undefined;
}

/** An echo reply. */
export interface PingReply {
  /** Who has answered; its port is 0. */
  readonly address: InetAddress;
  /** The number of the request: 1 to 65535 in order, then 0 and so on. */
  readonly sequence: number;
  /**
   * From right before the request was sent to when the kernel has received the answer, in
   * milliseconds with their fraction.
   */
  readonly roundTripMs: number;
  /** The TTL or hop limit that the answer came with: how many hops it could have gone on. */
  readonly ttl: number;
  /** Bytes behind the ICMP header, which are those of the request. */
  readonly payloadBytes: number;
  /** Whether the request had an answer before. Only `series` tells of such ones. */
  readonly duplicate: boolean;
  /** None: it tells an answer from what stands for none. */
  readonly error?: undefined;
}

/** A request of a series that was not answered, or not sent. */
export interface PingFailure {
  /** Where it was to go. */
  readonly address: InetAddress;
  /** The number of the request. */
  readonly sequence: number;
  /** Why: a TimeoutError, or what `ping` throws. */
  readonly error: SystemError;
}

/** What became of a request of a series: one with `error` is a failure. */
export type PingResult = PingReply | PingFailure;

/** What a PingSocket has counted. */
export interface PingStatistics {
  /** Requests that were sent. */
  readonly sent: number;
  /** Requests that were answered in time. */
  readonly received: number;
  /** Requests that a node has refused by an ICMP message. */
  readonly refused: number;
  /** Answers to requests that had one. */
  readonly duplicates: number;
  /** Answers that came after their request was given up. */
  readonly late: number;
  /**
   * Messages that are no answer to a request of this socket: those of other programs, which a raw
   * socket hears too, and broken or forged ones.
   */
  readonly foreign: number;
}

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const MADE = Symbol("made by open");

/**
 * ICMP and ICMPv6 echo: asks hosts whether they are there, and for how long that takes. Where the
 * sysctl net.ipv4.ping_group_range lets the user in it takes no right; else CAP_NET_RAW.
 *
 * Any number of requests, to any hosts, may wait at once. An answer is taken for one of them when it
 * has its number, comes from the host (or, of a group or broadcast address, from any), and repeats
 * every byte, 8 of which nobody can guess; everything else is counted in `statistics` and ignored.
 * Names are the caller's to look up: see `resolve`.
 *
 * Lifetime: until `close`, or the end of a `using` block. Requests that wait keep the process alive,
 * unless `unref` was called.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/icmp.7.html | icmp(7), ping_group_range}
 *
 * @example Is it there?
 * ```ts
 * import { PingSocket } from "bun-sockets";
 *
 * using socket = PingSocket.open("ipv4");
 * const { address, roundTripMs } = await socket.ping("127.0.0.1", { timeoutMs: 1000 });
 * console.log(address.host, roundTripMs < 1000); // 127.0.0.1 true
 * ```
 */
export class PingSocket {
  /** "ipv4" or "ipv6". */
  readonly family: "ipv4" | "ipv6";
  /**
   * "datagram": the kernel gives it its own answers only. "raw": it hears the answers of all programs,
   * and sorts them out.
   */
  readonly kind: PingKind;
  readonly #pinger: Pinger;

  /**
   * Opens a socket.
   *
   * @param family the family, or an address (or its text) of that family
   * @throws {SystemError} `EACCES` (or `EPERM`, with `kind: "raw"`) neither kind is allowed: `hint`
   * names the sysctl, the capability, and the commands that grant them; `EADDRNOTAVAIL` the source is
   * no address of ours; `ENODEV` there is no such interface; `EMFILE` too many open descriptors;
   * `EAFNOSUPPORT` the kernel has no IPv6
   */
  static open(
    family: "ipv4" | "ipv6" | Address | string,
    options: PingSocketOptions = {},
  ): PingSocket {
    const named = family === "ipv4" || family === "ipv6";
    const opened = named ? family : toPortlessAddress(family).family;
    const { openPinger }: typeof import("./internal/pinger.ts") = loadModule(() =>
      require("./internal/pinger.ts"),
    );
    return new PingSocket(openPinger(opened === "ipv4" ? AF_INET : AF_INET6, options), MADE);
  }

  /** Not for callers: `open` makes them. */
  private constructor(pinger: Pinger, made: typeof MADE) {
    if (made !== MADE)
      throw new TypeError("Cannot construct a PingSocket: expected a call of open");
    this.#pinger = pinger;
    this.family = pinger.family;
    this.kind = pinger.kind;
  }

  /**
   * The identifier in its requests, 0 to 65535, by which others tell them from those of another
   * program. Of a datagram socket the kernel has chosen it, of a raw one chance.
   */
  get identifier(): number {
    return this.#pinger.identifier;
  }

  /** What was counted since the socket was opened. */
  get statistics(): PingStatistics {
    return this.#pinger.statistics;
  }

  /** Whether the socket was closed. */
  get closed(): boolean {
    return this.#pinger.closed;
  }

  /**
   * Sends an echo request and waits for its answer; any number may wait at once.
   *
   * A node that cannot deliver the request, or the host itself, may say so: that is a SystemError
   * whose `offender` is that node, and whose `cause` the `IcmpError` (or `PathMtuError`). Anybody can
   * forge one who sees the request.
   *
   * @param address where to, or its text: "192.0.2.1", "fe80::1%eth0"; a port means nothing
   * @throws {TimeoutError} there was no answer in time
   * @throws {SystemError} `EHOSTUNREACH`, `ENETUNREACH` no way there, or the hops ran out (reason in
   * the message: "time to live exceeded"); `EMSGSIZE` too long for the path; `EACCES` a broadcast
   * address without the option, or a firewall's refusal; `EPERM` a firewall of this host;
   * `ENOBUFS` no room, or 65536 requests wait
   * @throws {ClosedError} the socket is closed, or was while it waited
   * @throws {TypeError} it is no address of the socket's family
   * @throws {RangeError} an option is out of range
   *
   * @example How far is a router, without asking it to answer itself
   * ```ts
   * import { PingSocket, SystemError } from "bun-sockets";
   *
   * using socket = PingSocket.open("ipv4");
   * try {
   *   await socket.ping("192.0.2.1", { ttl: 1, timeoutMs: 100 });
   * } catch (error) {
   *   if (!(error instanceof SystemError)) throw error;
   *   console.log(error.code !== "", error.destination); // true 192.0.2.1
   * }
   * ```
   */
  ping(address: Address | string, options: PingOptions = {}): Promise<PingReply> {
    try {
      return this.#pinger.ping(address, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Sends an echo request and blocks the thread until its answer has come.
   *
   * @param address as for `ping`
   * @throws as `ping`
   *
   * @example
   * ```ts
   * import { PingSocket } from "bun-sockets";
   *
   * using socket = PingSocket.open("ipv6");
   * console.log(socket.pingSync("::1", { payloadBytes: 1000 }).payloadBytes); // 1000
   * ```
   */
  pingSync(address: Address | string, options: PingSyncOptions = {}): PingReply {
    return this.#pinger.pingSync(address, options);
  }

  /**
   * Sends echo requests at a pace, for `for await`: gives what becomes of each as soon as it is known,
   * which need not be in order. What was not answered has an `error`, and duplicates of answers come
   * as such; neither ends the loop. It ends when all requests have their result, or the socket is
   * closed; leaving it gives up the requests that wait.
   *
   * The pace is kept whatever the loop does meanwhile: results wait for it, 256 of them, and then
   * nothing more is sent. A request that could not be sent on time goes out late and those after it
   * keep the interval: there are no bursts.
   *
   * @param address as for `ping`
   * @throws the reason of the signal, into the loop
   * @throws {TypeError} it is no address of the socket's family
   * @throws {RangeError} an option is out of range
   *
   * @example Three, and how many were lost
   * ```ts
   * import { PingSocket } from "bun-sockets";
   *
   * using socket = PingSocket.open("ipv4");
   * let lost = 0;
   * for await (const result of socket.series("127.0.0.1", { count: 3, intervalMs: 10 })) {
   *   if (result.error) lost++;
   *   else console.log(result.sequence, result.duplicate); // 1 false, 2 false, 3 false
   * }
   * console.log(lost); // 0
   * ```
   */
  series(
    address: Address | string,
    options: PingSeriesOptions = {},
  ): AsyncIterableIterator<PingResult, undefined> & AsyncDisposable {
    return this.#pinger.series(address, options);
  }

  /** Lets requests that wait keep the process alive, which they do unless `unref` was called. */
  ref(): this {
    this.#pinger.setRef(true);
    return this;
  }

  /** Lets the process end although requests wait. */
  unref(): this {
    this.#pinger.setRef(false);
    return this;
  }

  /** Closes the socket; requests that wait fail with a ClosedError. Does nothing the second time. */
  close(): void {
    this.#pinger.close();
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What it is, for logs: what console.log shows. */
  toString(): string {
    return this[INSPECT]();
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#pinger in this)) return "PingSocket";
    const state = this.closed ? "closed" : `identifier ${this.identifier}`;
    return `PingSocket ${this.family} ${this.kind}, ${state}`;
  }
}
