import { AF_UNIX, SOCK_DGRAM } from "../structs/constants/sys_socket.ts";
import { toAddress } from "./address.ts";
import { requireBoolean, requireInteger, requireOptions } from "./internal/arguments.ts";
import {
  adoptParts,
  copyOptions,
  type Kind,
  openPair,
  openParts,
  orClose,
} from "./internal/parts.ts";
import type * as unixPath from "./internal/unix_path.ts";
import { type AdoptOptions, duplicateParts, Socket, type SocketOptions } from "./socket.ts";
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
      const { bindPath }: typeof unixPath = require("./internal/unix_path.ts");
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
  static override adopt(descriptor: number, options: AdoptOptions = {}): UnixDatagramSocket {
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
}
