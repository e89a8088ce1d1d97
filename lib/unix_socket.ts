import { AF_UNIX, SOCK_STREAM } from "../structs/constants/sys_socket.ts";
import { loadModule } from "./internal/descriptor.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import { adoptParts, type Kind, openPair, type Parts } from "./internal/parts.ts";
import { Peer } from "./internal/peer.ts";
import type { PeerCredentials } from "./option.ts";
import type {
  DescriptorsMax,
  ReceivedDescriptor,
  ReceivedDescriptors,
  SendableDescriptor,
} from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type AsyncOptions,
  type CancelOptions,
  duplicateParts,
  type FlagOptions,
  type SocketOptions,
  type TimeoutOptions,
  type WaitOptions,
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
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): UnixSocket {
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

  /**
   * Opens the process at the other end, as a pidfd: it means that very process, also when its
   * number is another's by then. `SO_PEERPIDFD`, Linux 6.5.
   *
   * @returns the caller's to close; undefined before there is a peer
   * @throws {SystemError} `ENOPROTOOPT` the kernel does not have it; `ESRCH` the process has ended,
   * and the kernel does not tell of it any more; `EMFILE` too many open descriptors
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/pidfd_open.2.html | pidfd_open(2)}
   */
  openPeerProcess(): ReceivedDescriptor | undefined {
    return loadPassing().openPeerProcess(this);
  }

  /**
   * Sends bytes with descriptors, or answers at once. The receiver gets duplicates, close-on-exec if
   * it is one of ours; those of the caller stay the caller's. They go with the first byte: where
   * fewer bytes are sent than there are, the rest is for `send`.
   *
   * @param data a view of any part of any buffer; 1 byte or more
   * @param descriptors 0 to 253 of sockets, received descriptors, and numbers
   * @returns bytes sent, perhaps fewer than there are; undefined when there is no room
   * @throws {SystemError} `EBADF` one of the descriptors is not open (`hint` tells which), and
   * nothing was sent; `EPERM` the receiver takes none (`SocketOption.passRights`); `ETOOMANYREFS`
   * too many are on the way; as trySend
   * @throws {RangeError} there are more than 253 descriptors; or no data
   * @throws {TypeError} data is no view of ordinary memory, or something cannot be sent as a
   * descriptor
   * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7), SCM_RIGHTS}
   */
  trySendDescriptors(
    data: ArrayBufferView | ArrayBuffer,
    descriptors: readonly SendableDescriptor[],
    options?: FlagOptions,
  ): number | undefined {
    return loadPassing().trySendDescriptors(this, data, descriptors, options);
  }

  /**
   * Sends bytes with descriptors, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8; 1 byte or more
   * @param descriptors as for trySendDescriptors
   * @returns bytes sent, perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendDescriptors
   * @throws {RangeError} there are more than 253 descriptors; or no data
   */
  sendDescriptorsSync(
    data: ArrayBufferView | ArrayBuffer | string,
    descriptors: readonly SendableDescriptor[],
    options?: WaitOptions,
  ): number {
    return loadPassing().sendDescriptorsSync(this, data, descriptors, options);
  }

  /**
   * Sends bytes with descriptors, waiting for room; the promise form of `sendDescriptorsSync`. The
   * descriptors are duplicated at once: the caller may close his own while it waits. The duplicates
   * are closed when the call is answered. The data is not copied.
   *
   * @param data as for sendDescriptorsSync
   * @param descriptors as for trySendDescriptors
   * @returns bytes sent, perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendDescriptors; `EMFILE` there is no room for the duplicates
   * @throws {RangeError} there are more than 253 descriptors; or no data
   *
   * @example The caller may close his own at once
   * ```ts
   * import { UnixSocket } from "bun-sockets";
   *
   * const [left, right] = UnixSocket.pair();
   * const [near, far] = UnixSocket.pair();
   * const sent = left.sendDescriptors("yours", [far]);
   * far.close();
   * await sent;
   *
   * const [descriptor] = await right.receiveDescriptors(Buffer.alloc(100), { max: 1 });
   * using theirs = UnixSocket.adopt(descriptor!, { own: true });
   * await near.send("hello");
   * console.log(`${Buffer.from(await theirs.receiveBytes(100))}`); // hello
   * for (const socket of [left, right, near]) socket.close();
   * ```
   */
  sendDescriptors(
    data: ArrayBufferView | ArrayBuffer | string,
    descriptors: readonly SendableDescriptor[],
    options?: AsyncOptions,
  ): Promise<number> {
    return loadPassing().sendDescriptors(this, data, descriptors, options);
  }

  /**
   * Receives bytes and the descriptors that come with them, or answers at once. They are
   * close-on-exec and owned: see ReceivedDescriptor. All other receives but messages drop
   * descriptors that come.
   *
   * @param target overwritten
   * @param options how many descriptors to take, and flags. Where more come than `max`, none is kept
   * @returns the descriptors, and what came with them; undefined when nothing is waiting. 0 bytes
   * are the end of the stream
   * @throws {SystemError} `EMSGSIZE` more than `max` descriptors came; `EMFILE`, `ENFILE` too many
   * are open: then all that came are closed, and the data is in the target, `transferred` bytes of
   * it; as tryReceive
   * @throws {RangeError} max is out of range; or the target is empty
   * @throws {TypeError} target is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7), SCM_RIGHTS}
   */
  tryReceiveDescriptors(
    target: ArrayBufferView,
    options?: FlagOptions & DescriptorsMax,
  ): ReceivedDescriptors | undefined {
    return loadPassing().tryReceiveDescriptors(this, target, options);
  }

  /**
   * Receives bytes and the descriptors that come with them, waiting for data.
   *
   * @param target overwritten
   * @param options as for tryReceiveDescriptors, and how long to wait
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceiveDescriptors
   * @throws {RangeError} max is out of range; or the target is empty
   */
  receiveDescriptorsSync(
    target: ArrayBufferView,
    options?: WaitOptions & DescriptorsMax,
  ): ReceivedDescriptors {
    return loadPassing().receiveDescriptorsSync(this, target, options);
  }

  /**
   * Receives bytes and the descriptors that come with them, waiting for data; the promise form of
   * `receiveDescriptorsSync`. The target is the call's until it is answered.
   *
   * @param target overwritten
   * @param options as for tryReceiveDescriptors, how long to wait, and what cancels it
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceiveDescriptors
   * @throws {RangeError} max is out of range; or the target is empty
   */
  receiveDescriptors(
    target: ArrayBufferView,
    options?: AsyncOptions & DescriptorsMax,
  ): Promise<ReceivedDescriptors> {
    return loadPassing().receiveDescriptors(this, target, options);
  }

  static {
    unixSocketOf = (parts) => new UnixSocket(parts);
  }
}

// A part of its own: programs that only listen, or adopt, need none of it.
function loadConnect(): typeof import("./internal/unix_connect.ts") {
  return loadModule(() => require("./internal/unix_connect.ts"));
}

function loadPassing(): typeof import("./internal/descriptor_passing.ts") {
  return loadModule(() => require("./internal/descriptor_passing.ts"));
}
