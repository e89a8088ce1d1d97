import { AF_UNIX, SOCK_DGRAM } from "../structs/constants/sys_socket.ts";
import { toAddress } from "./address.ts";
import { requireBoolean, requireInteger, requireOptions } from "./internal/arguments.ts";
import { loadModule } from "./internal/descriptor.ts";
import {
  adoptParts,
  copyOptions,
  type Kind,
  openPair,
  openParts,
  orClose,
} from "./internal/parts.ts";
import type * as unixPath from "./internal/unix_path.ts";
import type {
  DescriptorsMax,
  ReceivedDescriptor,
  ReceivedDescriptors,
  SendableDescriptor,
} from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type AsyncOptions,
  duplicateParts,
  type FlagOptions,
  Socket,
  type SocketOptions,
  type WaitOptions,
} from "./socket.ts";
import type { UnixAddress } from "./unix_address.ts";

/** What a UnixDatagramSocket can be told when it is made. */
export interface UnixDatagramSocketOptions
  extends Omit<SocketOptions, "ipv6Only" | "broadcast" | "reuseAddress" | "reusePort"> {}

/** What `UnixDatagramSocket.bind` can be told beside. */
export interface UnixBindOptions extends UnixDatagramSocketOptions {
  /**
   * The permission bits of the socket's file, whatever the umask says: 0 to 0o777. Whoever may write
   * to the file may send. Default: 0o777 without the umask's bits.
   */
  readonly mode?: number | undefined;
  /**
   * Whether a file that a closed socket left behind is removed first. Only a socket's file is, and
   * only if nobody receives there: a connect(2) must be refused. Default false.
   */
  readonly removeStale?: boolean | undefined;
}

/** Where a socket without a peer sends descriptors. */
interface Destination {
  /** A UnixAddress, or its text. Refused with a TypeError where the socket has a peer. */
  readonly to?: UnixAddress | string | undefined;
}

const KIND: Kind = {
  name: "a Unix datagram socket",
  accepts: (domain, type) => domain === AF_UNIX && type === SOCK_DGRAM,
};

/**
 * Datagrams between processes of one machine: reliable, in order, under a path or an abstract name.
 * A sender waits, or is told that there is no room, when the queue of the receiver is full
 * (sysctl net.unix.max_dgram_qlen, 10 datagrams unless somebody has raised it).
 *
 * A socket that is not bound has no name, and nobody can answer it: bind it to
 * `UnixAddress.unnamed` for a name that the kernel chooses. Closing leaves the file of a path.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 *
 * @example A question and its answer
 * ```ts
 * import { UnixAddress, UnixDatagramSocket } from "bun-sockets";
 *
 * using server = UnixDatagramSocket.bind(`unix:@question-${process.pid}`);
 * using client = UnixDatagramSocket.bind(UnixAddress.unnamed);
 * client.sendToSync("why?", server.localAddress);
 *
 * const buffer = Buffer.alloc(100);
 * const { length, address } = server.receiveFromSync(buffer, { timeoutMs: 1000 });
 * server.sendToSync(buffer.subarray(0, length).toString().toUpperCase(), address);
 * console.log(`${Buffer.from(client.receiveBytesSync(100, { timeoutMs: 1000 }))}`); // WHY?
 * ```
 */
export class UnixDatagramSocket extends Socket<UnixAddress, UnixAddress> {
  /** "unix". */
  declare readonly family: "unix";
  /** "datagram". */
  declare readonly type: "datagram";

  /**
   * Opens a socket without a name: for sending only.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   */
  static open(options: UnixDatagramSocketOptions = {}): UnixDatagramSocket {
    return UnixDatagramSocket.#open(options, () => {});
  }

  /**
   * Opens a socket and binds it.
   *
   * @param address a UnixAddress, or its text: "unix:/run/x.sock", "unix:@name"; "unix:" lets the
   * kernel choose a name
   * @throws {SystemError} `EADDRINUSE` it is taken, or a file was left behind; `ENOENT`, `ENOTDIR`,
   * `EACCES`, `EROFS` the file cannot be made
   * @throws {RangeError} mode is out of range
   * @throws {TypeError} it is no Unix address; or it has no path, and there is a mode for it
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html | bind(2)}
   */
  static override bind(
    address: UnixAddress | string,
    options: UnixBindOptions = {},
  ): UnixDatagramSocket {
    const local = toAddress(address, AF_UNIX) as UnixAddress;
    const { mode, removeStale = false } = requireOptions(options);
    if (mode !== undefined) requireInteger(mode, 0, 0o777, "a mode");
    requireBoolean(removeStale, "removeStale");
    if (!local.isPath && (mode !== undefined || removeStale))
      throw new TypeError(`Cannot use mode or removeStale with ${local}: it has no file`);
    return UnixDatagramSocket.#open(options, (unix) => {
      if (mode === undefined && !removeStale) return unix.bind(local);
      const { bindPath }: typeof unixPath = loadModule(() => require("./internal/unix_path.ts"));
      bindPath(unix, local, mode, removeStale);
    });
  }

  /**
   * Opens two sockets that are connected with each other.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html | socketpair(2)}
   */
  static override pair(): [UnixDatagramSocket, UnixDatagramSocket] {
    const [left, right] = openPair({ family: AF_UNIX, type: SOCK_DGRAM });
    return [new UnixDatagramSocket(left), new UnixDatagramSocket(right)];
  }

  /**
   * Makes a UnixDatagramSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no Unix datagram socket; or, with `own`, another socket of this thread
   * owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): UnixDatagramSocket {
    return new UnixDatagramSocket(adoptParts(descriptor, options, KIND));
  }

  static #open(
    options: UnixDatagramSocketOptions,
    work: (unix: UnixDatagramSocket) => void,
  ): UnixDatagramSocket {
    const copy = copyOptions(options, AF_UNIX);
    const unix = new UnixDatagramSocket(openParts(AF_UNIX, SOCK_DGRAM, 0, copy));
    return orClose(unix, () => {
      copy.configure?.(unix);
      work(unix);
    });
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UnixDatagramSocket {
    return new UnixDatagramSocket(duplicateParts(this));
  }

  /**
   * Sends a datagram with descriptors, or answers at once. The receiver gets duplicates,
   * close-on-exec if it is one of ours; those of the caller stay the caller's.
   *
   * @param data a view of any part of any buffer; an empty one sends an empty datagram
   * @param descriptors 0 to 253 of sockets, received descriptors, and numbers
   * @param options flags, and where a socket without a peer sends it
   * @returns bytes sent; undefined when there is no room
   * @throws {SystemError} `EBADF` one of the descriptors is not open (`hint` tells which), and
   * nothing was sent; `EPERM` the receiver takes none (`SocketOption.passRights`); `ETOOMANYREFS`
   * too many are on the way; as trySend and trySendTo
   * @throws {RangeError} there are more than 253 descriptors
   * @throws {TypeError} data is no view of ordinary memory, or something cannot be sent as a
   * descriptor
   * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7), SCM_RIGHTS}
   */
  trySendDescriptors(
    data: ArrayBufferView | ArrayBuffer,
    descriptors: readonly SendableDescriptor[],
    options?: FlagOptions & Destination,
  ): number | undefined {
    return loadPassing().trySendDescriptors(this, data, descriptors, options);
  }

  /**
   * Sends a datagram with descriptors, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8; an empty one sends an empty
   * datagram
   * @param descriptors as for trySendDescriptors
   * @param options as for trySendDescriptors, and how long to wait
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendDescriptors
   * @throws {RangeError} there are more than 253 descriptors
   */
  sendDescriptorsSync(
    data: ArrayBufferView | ArrayBuffer | string,
    descriptors: readonly SendableDescriptor[],
    options?: WaitOptions & Destination,
  ): number {
    return loadPassing().sendDescriptorsSync(this, data, descriptors, options);
  }

  /**
   * Sends a datagram with descriptors, waiting for room; the promise form of `sendDescriptorsSync`.
   * The descriptors are duplicated at once: the caller may close his own while it waits. The
   * duplicates are closed when the call is answered. The data is not copied.
   *
   * @param data as for sendDescriptorsSync
   * @param descriptors as for trySendDescriptors
   * @param options as for trySendDescriptors, and how long to wait
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendDescriptors; `EMFILE` there is no room for the duplicates
   * @throws {RangeError} there are more than 253 descriptors
   */
  sendDescriptors(
    data: ArrayBufferView | ArrayBuffer | string,
    descriptors: readonly SendableDescriptor[],
    options?: AsyncOptions & Destination,
  ): Promise<number> {
    return loadPassing().sendDescriptors(this, data, descriptors, options);
  }

  /**
   * Receives a datagram and the descriptors that come with it, or answers at once. They are
   * close-on-exec and owned: see ReceivedDescriptor. All other receives but messages drop
   * descriptors that come.
   *
   * @param target overwritten
   * @param options how many descriptors to take, and flags. Where more come than `max`, none is kept
   * @returns the descriptors, and what came with them; undefined when nothing is waiting
   * @throws {SystemError} `EMSGSIZE` more than `max` descriptors came; `EMFILE`, `ENFILE` too many
   * are open: then all that came are closed, and the data is in the target, `transferred` bytes of
   * it; as tryReceive
   * @throws {RangeError} max is out of range
   * @throws {TypeError} target is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7), SCM_RIGHTS}
   */
  tryReceiveDescriptors(
    target: ArrayBufferView,
    options?: FlagOptions & DescriptorsMax,
  ): ReceivedDescriptors<UnixAddress> | undefined {
    return loadPassing().tryReceiveDescriptors(this, target, options) as
      | ReceivedDescriptors<UnixAddress>
      | undefined;
  }

  /**
   * Receives a datagram and the descriptors that come with it, waiting for data.
   *
   * @param target overwritten
   * @param options as for tryReceiveDescriptors, and how long to wait
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceiveDescriptors
   * @throws {RangeError} max is out of range
   */
  receiveDescriptorsSync(
    target: ArrayBufferView,
    options?: WaitOptions & DescriptorsMax,
  ): ReceivedDescriptors<UnixAddress> {
    return loadPassing().receiveDescriptorsSync(
      this,
      target,
      options,
    ) as ReceivedDescriptors<UnixAddress>;
  }

  /**
   * Receives a datagram and the descriptors that come with it, waiting for data; the promise form of
   * `receiveDescriptorsSync`. The target is the call's until it is answered.
   *
   * @param target overwritten
   * @param options as for tryReceiveDescriptors, how long to wait, and what cancels it
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceiveDescriptors
   * @throws {RangeError} max is out of range
   */
  receiveDescriptors(
    target: ArrayBufferView,
    options?: AsyncOptions & DescriptorsMax,
  ): Promise<ReceivedDescriptors<UnixAddress>> {
    return loadPassing().receiveDescriptors(this, target, options) as Promise<
      ReceivedDescriptors<UnixAddress>
    >;
  }
}

function loadPassing(): typeof import("./internal/descriptor_passing.ts") {
  return loadModule(() => require("./internal/descriptor_passing.ts"));
}
