import { AF_UNIX, SOCK_SEQPACKET } from "../structs/constants/sys_socket.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import { adoptParts, type Kind, openPair, type Parts } from "./internal/parts.ts";
import { Peer } from "./internal/peer.ts";
import type { PeerCredentials } from "./option.ts";
import { type AdoptOptions, duplicateParts, Socket } from "./socket.ts";
import type { UnixAddress } from "./unix_address.ts";
import type {
  UnixConnectOptions,
  UnixConnectSyncOptions,
  UnixSocketOptions,
} from "./unix_socket.ts";

// Set by the class below, for the listener. The package does not export it.

/** Makes a UnixSeqpacketSocket of a connection that was accepted. */
export let unixSeqpacketSocketOf: (parts: Parts) => UnixSeqpacketSocket;

const KIND: Kind = {
  name: "a Unix seqpacket socket",
  accepts: (domain, type) => domain === AF_UNIX && type === SOCK_SEQPACKET,
  listens: false,
};

/**
 * A connection of records between processes of one machine: what one call sends, one call receives.
 * Reliable and in order like a stream, with the boundaries of datagrams. The rest of a record that is
 * longer than the target is lost; `receiveFrom` and messages tell of that.
 *
 * A record can be empty, and then `receive` gives 0 as it does at the end: `receiveMessage` tells them
 * apart, for the end has no `MSG_EOR` among its flags.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 *
 * @example Records keep their ends
 * ```ts
 * import { UnixSeqpacketSocket } from "bun-sockets";
 *
 * const [left, right] = UnixSeqpacketSocket.pair();
 * await left.send("one");
 * await left.send("two");
 * console.log(`${Buffer.from(await right.receiveBytes(100))}`); // one
 * console.log(`${Buffer.from(await right.receiveBytes(100))}`); // two
 * left.close();
 * right.close();
 * ```
 */
export class UnixSeqpacketSocket extends Socket<UnixAddress> {
  /** "unix". */
  declare readonly family: "unix";
  /** "seqpacket". */
  declare readonly type: "seqpacket";
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
  static open(options: UnixSocketOptions = {}): UnixSeqpacketSocket {
    return loadConnect().openUnix(SOCK_SEQPACKET, options, unixSeqpacketSocketOf);
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
  static connect(
    address: UnixAddress | string,
    options?: UnixConnectOptions,
  ): Promise<UnixSeqpacketSocket> {
    return loadConnect().connectUnix(SOCK_SEQPACKET, address, options, unixSeqpacketSocketOf);
  }

  /**
   * Connects to a listener, and blocks the thread meanwhile.
   *
   * @param address as for connect
   * @throws {SystemError} as connect
   * @throws {TimeoutError} as connect
   */
  static connectSync(
    address: UnixAddress | string,
    options?: UnixConnectSyncOptions,
  ): UnixSeqpacketSocket {
    return loadConnect().connectUnixSync(SOCK_SEQPACKET, address, options, unixSeqpacketSocketOf);
  }

  /**
   * Opens two sockets that are connected with each other.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html | socketpair(2)}
   */
  static override pair(): [UnixSeqpacketSocket, UnixSeqpacketSocket] {
    const [left, right] = openPair({ family: AF_UNIX, type: SOCK_SEQPACKET });
    return [new UnixSeqpacketSocket(left), new UnixSeqpacketSocket(right)];
  }

  /**
   * Makes a UnixSeqpacketSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no Unix seqpacket socket, or one that listens; or, with `own`, another
   * socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(descriptor: number, options: AdoptOptions = {}): UnixSeqpacketSocket {
    return new UnixSeqpacketSocket(adoptParts(descriptor, options, KIND));
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UnixSeqpacketSocket {
    return new UnixSeqpacketSocket(duplicateParts(this));
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
    unixSeqpacketSocketOf = (parts) => new UnixSeqpacketSocket(parts);
  }
}

// A part of its own: programs that only listen, or adopt, need none of it.
function loadConnect(): typeof import("./internal/unix_connect.ts") {
  return require("./internal/unix_connect.ts");
}
