import { AF_UNIX, SOCK_STREAM } from "../structs/constants/sys_socket.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import { adoptParts, type Kind, openPair, type Parts } from "./internal/parts.ts";
import { Peer } from "./internal/peer.ts";
import type { PeerCredentials } from "./option.ts";
import {
  type AdoptOptions,
  type CancelOptions,
  duplicateParts,
  type SocketOptions,
  type TimeoutOptions,
} from "./socket.ts";
import { StreamSocket } from "./stream_socket.ts";
import type { UnixAddress } from "./unix_address.ts";

/** What a UnixSocket or a UnixSeqpacketSocket can be told when it is made. */
export interface UnixSocketOptions
  extends Omit<SocketOptions, "ipv6Only" | "broadcast" | "reuseAddress" | "reusePort"> {}

/** How `connect` and `connectSync` connect. */
interface ConnectOptions extends UnixSocketOptions {
  /** A name of its own, which the listener sees. Default none. A path stays when it is closed. */
  readonly localAddress?: UnixAddress | string | undefined;
}

/** What `connect` can be told. */
export interface UnixConnectOptions extends ConnectOptions, CancelOptions {}

/** What `connectSync` can be told. */
export interface UnixConnectSyncOptions extends ConnectOptions, TimeoutOptions {}

// Set by the class below, for the listener. The package does not export it.

/** Makes a UnixSocket of a connection that was accepted. */
export let unixSocketOf: (parts: Parts) => UnixSocket;

const KIND: Kind = {
  name: "a Unix stream socket",
  accepts: (domain, type) => domain === AF_UNIX && type === SOCK_STREAM,
  listens: false,
};

/**
 * A stream of bytes between processes of one machine, under a path or an abstract name.
 *
 * Each of the two directions has an end of its own: see TcpSocket.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 *
 * @example A pair
 * ```ts
 * import { UnixSocket } from "bun-sockets";
 *
 * const [left, right] = UnixSocket.pair();
 * await left.send("hello");
 * console.log(`${Buffer.from(await right.receiveBytes(100))}`); // hello
 * console.log(right.peerCredentials?.processId === process.pid); // true
 * left.close();
 * right.close();
 * ```
 */
export class UnixSocket extends StreamSocket<UnixAddress> {
  /** "unix". */
  declare readonly family: "unix";
  readonly #peer: Peer<UnixAddress>;

  /** Not for callers: `connect`, `open`, `pair`, `adopt` and listeners make sockets. */
  protected constructor(parts: Parts) {
    super(parts);
    this.#peer = new Peer(parts?.peer);
  }

  /**
   * Opens a socket that is not connected: its own `connect` does that.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   */
  static open(options: UnixSocketOptions = {}): UnixSocket {
    return loadConnect().openUnix(SOCK_STREAM, options, unixSocketOf);
  }

  /**
   * Connects to a listener. Where its queue is full, it waits until there is room.
   *
   * @param address a UnixAddress, or its text: "unix:/run/x.sock", "unix:@name"; a path that begins
   * with "/" or "." needs no "unix:"
   * @throws {SystemError} `ENOENT` no such path; `ECONNREFUSED` nobody listens there; `EACCES` no
   * right to it; `EPROTOTYPE` it is of another type of socket
   * @throws {TimeoutError} `timeoutMs` are over
   * @throws {TypeError} it is no Unix address
   * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html | connect(2)}
   */
  static connect(address: UnixAddress | string, options?: UnixConnectOptions): Promise<UnixSocket> {
    return loadConnect().connectUnix(SOCK_STREAM, address, options, unixSocketOf);
  }

  /**
   * Connects to a listener, and blocks the thread meanwhile.
   *
   * @param address as for connect
   * @throws {SystemError} as connect
   * @throws {TimeoutError} as connect
   */
  static connectSync(address: UnixAddress | string, options?: UnixConnectSyncOptions): UnixSocket {
    return loadConnect().connectUnixSync(SOCK_STREAM, address, options, unixSocketOf);
  }

  /**
   * Opens two sockets that are connected with each other.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html | socketpair(2)}
   */
  static override pair(): [UnixSocket, UnixSocket] {
    const [left, right] = openPair({ family: AF_UNIX, type: SOCK_STREAM });
    return [new UnixSocket(left), new UnixSocket(right)];
  }

  /**
   * Makes a UnixSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no Unix stream socket, or one that listens; or, with `own`, another
   * socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(descriptor: number, options: AdoptOptions = {}): UnixSocket {
    return new UnixSocket(adoptParts(descriptor, options, KIND));
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UnixSocket {
    return new UnixSocket(duplicateParts(this));
  }

  /**
   * The peer, unnamed unless it was bound; undefined before there is one. Once known it stays.
   *
   * @throws {ClosedError} the socket is closed
   */
  override get remoteAddress(): UnixAddress | undefined {
    return this.#peer.of(this, () => super.remoteAddress);
  }

  /**
   * `SO_PEERCRED`: who the peer was when it connected, or began to listen, as the kernel says.
   * Undefined before there is a peer.
   *
   * @throws {ClosedError} the socket is closed
   */
  get peerCredentials(): PeerCredentials | undefined {
    return this.getOption(loadOptions().SocketOption.peerCredentials);
  }

  static {
    unixSocketOf = (parts) => new UnixSocket(parts);
  }
}

// A part of its own: programs that only listen, or adopt, need none of it.
function loadConnect(): typeof import("./internal/unix_connect.ts") {
  return require("./internal/unix_connect.ts");
}
