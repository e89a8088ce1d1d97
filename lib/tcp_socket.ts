import { IPPROTO_MPTCP, IPPROTO_TCP } from "../structs/constants/netinet_in.ts";
import { TCP_NODELAY } from "../structs/constants/netinet_tcp.ts";
import { AF_INET, AF_INET6, SOCK_STREAM } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toInetAddress } from "./address.ts";
import { check } from "./error.ts";
import { requireBoolean, requireOptions } from "./internal/arguments.ts";
import { loadModule } from "./internal/descriptor.ts";
import { loadZeroCopy } from "./internal/lazy_errors.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import {
  adoptParts,
  copyOptions,
  type Kind,
  openParts,
  orClose,
  type Parts,
} from "./internal/parts.ts";
import { Peer } from "./internal/peer.ts";
import type { PortRange } from "./option.ts";
import type { AddressList } from "./prefix.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type AsyncOptions,
  type CancelOptions,
  descriptorOf,
  duplicateParts,
  type FlagOptions,
  type SocketOptions,
  type TimeoutOptions,
  type WaitOptions,
  zeroCopySenderOf,
} from "./socket.ts";
import { StreamSocket } from "./stream_socket.ts";
import { getsockopt, setsockopt } from "./sys/socket.ts";
import type { TcpInfo } from "./tcp_info.ts";
import type { ZeroCopyLease, ZeroCopyState } from "./zero_copy.ts";

/** What a TcpSocket can be told when it is made. */
export interface TcpSocketOptions extends Omit<SocketOptions, "broadcast"> {
  /** `TCP_NODELAY`: small segments are sent at once. Default false, as in C. */
  readonly noDelay?: boolean | undefined;
}

/** How `TcpSocket.connect` and `connectSync` connect. */
interface ConnectOptions extends Omit<TcpSocketOptions, "ipv6Only"> {
  /** Which addresses of the name are tried. Default both. */
  readonly family?: "ipv4" | "ipv6" | undefined;
  /**
   * The address to connect from, or its text; addresses of the other family are not tried. With port
   * 0 the kernel chooses the port as it connects (`IP_BIND_ADDRESS_NO_PORT`): one port serves
   * connections to different peers.
   */
  readonly localAddress?: InetAddress | string | undefined;
  /** `IP_LOCAL_PORT_RANGE`: of which ports the kernel chooses. Linux 6.3. */
  readonly localPortRange?: PortRange | undefined;
  /** How long one address may take, in milliseconds. Default: as long as the whole call. */
  readonly attemptTimeoutMs?: number | undefined;
  /**
   * Which addresses may be connected to, where somebody else chooses the name: what the list denies is
   * not tried, and stands with `EACCES` among the attempts. Default all.
   */
  readonly allowed?: AddressList | undefined;
}

/** What `TcpSocket.connect` can be told. */
export interface TcpConnectOptions extends ConnectOptions, CancelOptions {
  /**
   * How long an address is tried alone before the next one is tried beside it, in milliseconds.
   * Default 250. Infinity is until it has failed.
   */
  readonly staggerMs?: number | undefined;
}

/** What `TcpSocket.connectSync` can be told. */
export interface TcpConnectSyncOptions extends ConnectOptions, TimeoutOptions {}

// Set by the class below, for the listener. The package does not export it.

/** Makes a TcpSocket of a connection that was accepted. */
export let tcpSocketOf: (parts: Parts) => TcpSocket;

const KIND: Kind = {
  name: "a TCP socket",
  accepts: isTcp,
  listens: false,
};

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));

/**
 * A TCP connection over IPv4 or IPv6.
 *
 * A connection has two directions, each with an end of its own. `shutdown("write")` sends the peer
 * the end and goes on reading; when the peer has sent its end, receives give 0 and sends go on. This
 * library closes neither direction by itself, and never the socket (what Node calls `allowHalfOpen`,
 * always): that is for `close`, `using`, or `reset` for a connection that is to end at once.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/tcp.7.html | tcp(7)}
 *
 * @example Ask, and read the whole answer
 * ```ts
 * import { TcpListener, TcpSocket } from "bun-sockets";
 *
 * using listener = TcpListener.listen("127.0.0.1:0");
 * using client = await TcpSocket.connect(listener.localAddress, { timeoutMs: 1000 });
 * using server = await listener.accept({ timeoutMs: 1000 });
 *
 * await client.send("what is the time?");
 * client.shutdown("write");
 * console.log(`${Buffer.from(await server.receiveBytes(100))}`); // what is the time?
 * console.log((await server.receiveBytes(100)).length); // 0
 * await server.send("late");
 * console.log(`${Buffer.from(await client.receiveBytes(100))}`); // late
 * ```
 */
export class TcpSocket extends StreamSocket<InetAddress> {
  /** "ipv4" or "ipv6". */
  declare readonly family: "ipv4" | "ipv6";
  readonly #peer: Peer<InetAddress>;

  /** Not for callers: `connect`, `open`, `pair`, `adopt` and listeners make sockets. */
  protected constructor(parts: Parts) {
    super(parts);
    this.#peer = new Peer(parts?.peer);
  }

  /**
   * Opens a socket that is not connected: its own `connect` does that. For sockets that need more
   * than `TcpSocket.connect` can be told.
   *
   * @param family the family, or an address (or its text) of that family
   * @throws {SystemError} `EMFILE` too many open descriptors; `EAFNOSUPPORT` the kernel has no IPv6
   * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}
   */
  static open(
    family: "ipv4" | "ipv6" | Address | string,
    options: TcpSocketOptions = {},
  ): TcpSocket {
    const named = family === "ipv4" || family === "ipv6";
    const domain = domainOf(named ? family : toInetAddress(family).family);
    const copy = copyOptions(options, domain);
    const noDelay = copyNoDelay(options);
    const tcp = new TcpSocket(openParts(domain, SOCK_STREAM, 0, copy));
    return orClose(tcp, () => {
      if (noDelay !== undefined) tcp.noDelay = noDelay;
      copy.configure?.(tcp);
    });
  }

  /**
   * Connects to an address, or to the first address of a name that answers. The addresses of a name
   * are tried in the order of the resolver, but the families take turns; each starts when the one
   * before has failed, or after `staggerMs`, and the first connection wins (RFC 8305). What the
   * others had open is closed.
   *
   * @param address an address, its text, or "host:service"; or the host and the service, each by
   * itself. An empty host is refused: "localhost" is this machine
   * @returns a connected socket
   * @throws {SystemError} the one address did not answer: `ECONNREFUSED` nobody listens there;
   * `ENETUNREACH`, `EHOSTUNREACH` no way there; `EADDRNOTAVAIL`, `EADDRINUSE` not with this
   * `localAddress`
   * @throws {ConnectError} no address of the name has answered
   * @throws {ResolutionError} the name has no address, or the service is not known
   * @throws {TimeoutError} `timeoutMs` are over; with a name, `cause` is the ConnectError of the
   * attempts
   * @throws {TypeError} it is no address and no name
   * @throws {RangeError} the port is not between 1 and 65535, or an option is out of range
   * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html | connect(2)}
   *
   * @example By name
   * ```ts
   * import { TcpListener, TcpSocket } from "bun-sockets";
   *
   * using listener = TcpListener.listen("localhost:0");
   * const { port } = listener.localAddress;
   * using client = await TcpSocket.connect("localhost", port, { timeoutMs: 5000 });
   * console.log(client.remoteAddress?.port === port); // true
   * ```
   */
  static connect(address: Address | string, options?: TcpConnectOptions): Promise<TcpSocket>;
  static connect(
    host: string,
    service: string | number,
    options?: TcpConnectOptions,
  ): Promise<TcpSocket>;
  static connect(
    target: Address | string,
    second?: string | number | TcpConnectOptions,
    third?: TcpConnectOptions,
  ): Promise<TcpSocket> {
    return loadConnect().connect(target, second, third);
  }

  /**
   * Connects to an address, or to the first address of a name that answers, one after the other in
   * the order of the resolver, and blocks the thread meanwhile.
   *
   * @param address an address, its text, or "host:service"
   * @returns a connected socket
   * @throws {SystemError} as connect
   * @throws {ConnectError} as connect
   * @throws {ResolutionError} as connect
   * @throws {TimeoutError} as connect
   */
  static connectSync(address: Address | string, options?: TcpConnectSyncOptions): TcpSocket;
  static connectSync(
    host: string,
    service: string | number,
    options?: TcpConnectSyncOptions,
  ): TcpSocket;
  static connectSync(
    target: Address | string,
    second?: string | number | TcpConnectSyncOptions,
    third?: TcpConnectSyncOptions,
  ): TcpSocket {
    return loadConnect().connectSync(target, second, third);
  }

  /**
   * Makes two sockets that are connected with each other over the loopback address of IPv4.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   */
  static override pair(): [TcpSocket, TcpSocket] {
    const { TcpListener }: typeof import("./tcp_listener.ts") = loadModule(() =>
      require("./tcp_listener.ts"),
    );
    using listener = TcpListener.listen("127.0.0.1:0");
    const left = TcpSocket.connectSync(listener.localAddress);
    try {
      for (;;) {
        const right = listener.acceptSync();
        // Anybody may have connected.
        if (left.localAddress.equals(right.remoteAddress)) return [left, right];
        right.close();
      }
    } catch (error) {
      left.close();
      throw error;
    }
  }

  /**
   * Makes a TcpSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no TCP socket, or one that listens; or, with `own`, another socket of
   * this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): TcpSocket {
    return new TcpSocket(adoptParts(descriptor, options, KIND));
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): TcpSocket {
    return new TcpSocket(duplicateParts(this));
  }

  /**
   * The peer, or undefined before there is one. Once known it stays, also when the peer has broken
   * the connection off.
   *
   * @throws {ClosedError} the socket is closed
   */
  override get remoteAddress(): InetAddress | undefined {
    return this.#peer.of(this, () => super.remoteAddress);
  }

  /**
   * `TCP_NODELAY`: whether small segments are sent at once, instead of waiting until what was sent
   * before is acknowledged.
   *
   * @throws {ClosedError} the socket is closed
   */
  get noDelay(): boolean {
    const fd = descriptorOf(this)?.fd ?? -1;
    check(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, value, valueLength), "getsockopt");
    return value[0] !== 0;
  }

  set noDelay(noDelay: boolean) {
    requireBoolean(noDelay, "noDelay");
    const fd = descriptorOf(this)?.fd ?? -1;
    value[0] = Number(noDelay);
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, value), "setsockopt");
  }

  /**
   * `TCP_INFO`: what the kernel knows of the connection now. What it is too old to tell is
   * undefined.
   *
   * @throws {ClosedError} the socket is closed
   */
  get info(): TcpInfo {
    const { readTcpInfo }: typeof import("./tcp_info.ts") = loadModule(() =>
      require("./tcp_info.ts"),
    );
    return readTcpInfo(this.getOption(loadOptions().TcpOption.info));
  }

  /**
   * Sends to the peer without a copy (`MSG_ZEROCOPY`), or answers at once: the kernel reads the
   * caller's memory itself, and the lease that comes back tells when it is done with it. Until then
   * the data must stay as it is. It pays from some 10,000 bytes on, and not on loopback: see
   * `zeroCopy`. Where it is not possible, or does not pay, the data is copied as by a plain send, and
   * its lease is released at once.
   *
   * @param data a view of any part of any buffer
   * @returns the lease, or undefined when there is no room
   * @throws {SystemError} as trySend
   * @throws {TypeError} data is no view of ordinary memory
   * @see {@link https://docs.kernel.org/networking/msg_zerocopy.html | MSG_ZEROCOPY}
   */
  trySendZeroCopy(
    data: ArrayBufferView | ArrayBuffer,
    options: FlagOptions = {},
  ): ZeroCopyLease | undefined {
    const { flags } = requireOptions(options);
    return loadZeroCopy().trySendZeroCopy(zeroCopySenderOf(this), data, { flags });
  }

  /**
   * Sends to the peer without a copy, waiting for room for some of it.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns the lease, whose `bytes` are perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   */
  sendZeroCopySync(
    data: ArrayBufferView | ArrayBuffer | string,
    options: WaitOptions = {},
  ): ZeroCopyLease {
    const { flags, timeoutMs } = requireOptions(options);
    return loadZeroCopy().sendZeroCopySync(zeroCopySenderOf(this), data, { flags, timeoutMs });
  }

  /**
   * Sends to the peer without a copy, waiting for room for some of it; the promise form of
   * `sendZeroCopySync`.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns the lease, whose `bytes` are perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   *
   * @example A large buffer, part by part
   * ```ts
   * import { TcpSocket } from "bun-sockets";
   *
   * const [left, right] = TcpSocket.pair();
   * const data = new Uint8Array(100_000);
   * for (let rest = data; rest.length > 0; ) {
   *   const lease = await left.sendZeroCopy(rest);
   *   rest = rest.subarray(lease.bytes);
   *   await right.receiveExactly(new Uint8Array(lease.bytes));
   *   await lease.whenReleased;
   * }
   * console.log(left.zeroCopy.outstanding); // 0
   * left.close();
   * right.close();
   * ```
   */
  async sendZeroCopy(
    data: ArrayBufferView | ArrayBuffer | string,
    options: AsyncOptions = {},
  ): Promise<ZeroCopyLease> {
    const { flags, timeoutMs, signal } = requireOptions(options);
    const call = { flags, timeoutMs, signal };
    return loadZeroCopy().sendZeroCopy(zeroCopySenderOf(this), data, call);
  }

  /** How sends without a copy go, and whether the next one is tried without. */
  get zeroCopy(): ZeroCopyState {
    return loadZeroCopy().stateOf(zeroCopySenderOf(this));
  }

  static {
    tcpSocketOf = (parts) => new TcpSocket(parts);
  }
}

/** Whether it is TCP over IP, of one path or several. */
export function isTcp(domain: number, type: number, protocol: number): boolean {
  return (
    (domain === AF_INET || domain === AF_INET6) &&
    type === SOCK_STREAM &&
    (protocol === IPPROTO_TCP || protocol === IPPROTO_MPTCP)
  );
}

/** The domain of a family. */
export function domainOf(family: "ipv4" | "ipv6"): number {
  return family === "ipv4" ? AF_INET : AF_INET6;
}

/** Reads `noDelay`, and checks it. */
export function copyNoDelay({ noDelay }: TcpSocketOptions): boolean | undefined {
  if (noDelay !== undefined) requireBoolean(noDelay, "noDelay");
  return noDelay;
}

// Connecting is a part of its own: programs that only listen need none of it.
function loadConnect(): typeof import("./internal/tcp_connect.ts") {
  return loadModule(() => require("./internal/tcp_connect.ts"));
}
