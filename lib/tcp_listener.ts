import type { Address, InetAddress } from "./address.ts";
import { loadModule } from "./internal/descriptor.ts";
import { adoptParts, type Kind, type Parts } from "./internal/parts.ts";
import { Listener } from "./listener.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type CancelOptions,
  duplicateParts,
  type SocketOptions,
  type TimeoutOptions,
} from "./socket.ts";
import { isTcp, type TcpSocket, tcpSocketOf } from "./tcp_socket.ts";

/** What a TcpListener can be told when it is made. */
export interface TcpListenOptions extends Omit<SocketOptions, "broadcast" | "reuseAddress"> {
  /**
   * `SO_REUSEADDR`: listens although connections of an earlier listener are still being wound up.
   * Two can not listen at one address all the same. Default true.
   */
  readonly reuseAddress?: boolean | undefined;
  /**
   * How many connections may wait to be accepted, 0 to 2^31 - 1. Default 128. The kernel clamps it to
   * the sysctl net.core.somaxconn in silence.
   */
  readonly backlog?: number | undefined;
}

/** What `TcpListener.listenAllSync` can be told. */
export interface TcpListenAllSyncOptions extends TcpListenOptions, TimeoutOptions {
  /** Default both. */
  readonly family?: "ipv4" | "ipv6" | undefined;
}

/** What `TcpListener.listenAll` can be told. */
export interface TcpListenAllOptions extends TcpListenAllSyncOptions, CancelOptions {}

const KIND: Kind = { name: "a TCP listener", accepts: isTcp, listens: true };

// Set by the class below, for the functions that listen. The package does not export it.

/** Makes a TcpListener of a socket. */
export let tcpListenerOf: (parts: Parts) => TcpListener;

/**
 * Listens for TCP connections at an address, and hands them out as TcpSockets.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/tcp.7.html | tcp(7)}
 *
 * @example A server that says what it hears
 * ```ts
 * import { TcpListener, TcpSocket } from "bun-sockets";
 *
 * using listener = TcpListener.listen("127.0.0.1:0");
 * using client = await TcpSocket.connect(listener.localAddress);
 * await client.send("hello");
 * for await (const connection of listener) {
 *   using _ = connection;
 *   await connection.send(await connection.receiveBytes(100));
 *   break; // a server would go on
 * }
 * console.log(`${Buffer.from(await client.receiveBytes(100))}`); // hello
 * ```
 */
export class TcpListener extends Listener<InetAddress, TcpSocket> {
  /**
   * "ipv4" or "ipv6". An IPv6 listener takes connections over IPv4 too, from mapped addresses, unless
   * made `ipv6Only`.
   */
  declare readonly family: "ipv4" | "ipv6";
  /** "stream". */
  declare readonly type: "stream";

  /** Not for callers: `listen`, `listenAll` and `adopt` make listeners. */
  protected constructor(parts: Parts) {
    super(parts, tcpSocketOf);
  }

  /**
   * Listens at an address: socket(2), bind(2) and listen(2).
   *
   * Of a name ("localhost:7000") it is the first address that this machine has; `listenAll` takes
   * all of them. "localhost" needs no resolver; any other name asks it, and blocks until it has
   * answered.
   *
   * @param address an address, its text, or "host:service". Port 0 takes a free one. "[::]:80" is all
   * addresses of both families, whatever the sysctl net.ipv6.bindv6only says
   * @throws {SystemError} `EADDRINUSE` another socket listens there; `EACCES` the port needs a right;
   * `EADDRNOTAVAIL` not an address of ours
   * @throws {ResolutionError} the name has no address, or the service is not known
   * @throws {TypeError} it is no address and no name
   * @throws {RangeError} the port or the backlog is out of range
   * @see {@link https://man7.org/linux/man-pages/man2/listen.2.html | listen(2)}
   */
  static listen(address: Address | string, options: TcpListenOptions = {}): TcpListener {
    return loadListen().listen(address, options);
  }

  /**
   * Listens at every address of a name: one listener for each that this machine has. With port 0 all
   * of them have the same free port. IPv6 listeners take no IPv4 unless `ipv6Only` is false.
   *
   * @param host a name, the text of an address, or "" for all addresses of this machine
   * @param service a port, or the name of a service; default 0
   * @returns at least one
   * @throws {SystemError} as listen: then none is open
   * @throws {ResolutionError} as listen
   * @throws {TimeoutError} the resolver did not answer in time
   *
   * @example Both loopback addresses
   * ```ts
   * import { TcpListener } from "bun-sockets";
   *
   * const listeners = await TcpListener.listenAll("localhost");
   * const ports = new Set(listeners.map((listener) => listener.localAddress.port));
   * console.log(ports.size); // 1
   * for (const listener of listeners) listener.close();
   * ```
   */
  static listenAll(
    host: string,
    service: string | number = 0,
    options: TcpListenAllOptions = {},
  ): Promise<TcpListener[]> {
    return loadListen().listenAll(host, service, options);
  }

  /** Listens at every address of a name, and blocks meanwhile: see `listenAll`. */
  static listenAllSync(
    host: string,
    service: string | number = 0,
    options: TcpListenAllSyncOptions = {},
  ): TcpListener[] {
    return loadListen().listenAllSync(host, service, options);
  }

  /**
   * Makes a TcpListener of an open descriptor, as a service manager passes them (`listenFds`): see
   * `Socket.adopt`.
   *
   * @throws {TypeError} it is no TCP socket, or does not listen; or, with `own`, another socket of
   * this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): TcpListener {
    return new TcpListener(adoptParts(descriptor, options, KIND));
  }

  /**
   * Makes a second listener for the same open socket: each connection goes to one of them. See
   * `Socket.duplicate`.
   */
  override duplicate(): TcpListener {
    return new TcpListener(duplicateParts(this));
  }

  static {
    tcpListenerOf = (parts) => new TcpListener(parts);
  }
}

// Listening is a part of its own: programs that only connect, or adopt, need none of it.
function loadListen(): typeof import("./internal/tcp_listen.ts") {
  return loadModule(() => require("./internal/tcp_listen.ts"));
}
