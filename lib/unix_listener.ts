import { AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM } from "../structs/constants/sys_socket.ts";
import { requireBoolean, requireInteger, requireOptions } from "./internal/arguments.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { OwnPath } from "./internal/own_path.ts";
import {
  adoptParts,
  copyOptions,
  type Kind,
  openParts,
  orClose,
  type Parts,
} from "./internal/parts.ts";
import type * as unixPath from "./internal/unix_path.ts";
import { Listener } from "./listener.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import { type AdoptOptions, duplicateParts } from "./socket.ts";
import type { UnixAddress } from "./unix_address.ts";
import type { UnixBindOptions } from "./unix_datagram_socket.ts";
import { type UnixSeqpacketSocket, unixSeqpacketSocketOf } from "./unix_seqpacket_socket.ts";
import { type UnixSocket, unixSocketOf } from "./unix_socket.ts";

/** What a UnixListener can be told when it is made. */
export interface UnixListenOptions extends UnixBindOptions {
  /** "stream" for UnixSockets, "seqpacket" for UnixSeqpacketSockets. Default "stream". */
  readonly type?: "stream" | "seqpacket" | undefined;
  /**
   * How many connections may wait to be accepted, 0 to 2^31 - 1. Default 128. The kernel clamps it to
   * the sysctl net.core.somaxconn in silence; who comes then waits, or is told `EAGAIN`.
   */
  readonly backlog?: number | undefined;
  /** Whether `close` removes the socket's file. Default true. See `UnixListener.unlinkOnClose`. */
  readonly unlinkOnClose?: boolean | undefined;
}

/** What `UnixListener.adopt` can be told. */
export interface UnixListenerAdoptOptions extends AdoptOptions {
  /** Which type it is to be: another one is refused. Default "stream". */
  readonly type?: "stream" | "seqpacket" | undefined;
}

/** What a UnixListener hands out. */
type Connected = UnixSocket | UnixSeqpacketSocket;

const TYPES: Readonly<Record<string, number>> = { stream: SOCK_STREAM, seqpacket: SOCK_SEQPACKET };
const BACKLOG = 128;
const INT_MAX = 2 ** 31 - 1;

/**
 * Listens for connections of processes of this machine, at a path or an abstract name, and hands them
 * out as UnixSockets or UnixSeqpacketSockets.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7)}
 *
 * @example A question and its answer
 * ```ts
 * import { UnixListener, UnixSocket } from "bun-sockets";
 *
 * using listener = UnixListener.listen(`unix:@answers-${process.pid}`);
 * using client = await UnixSocket.connect(listener.localAddress);
 * using served = await listener.accept();
 * await client.send("why?");
 * const question = Buffer.from(await served.receiveBytes(100)).toString();
 * await served.send(question.toUpperCase());
 * console.log(`${Buffer.from(await client.receiveBytes(100))}`); // WHY?
 * ```
 */
export class UnixListener<Connection extends Connected = UnixSocket> extends Listener<
  UnixAddress,
  Connection
> {
  /** "unix". */
  declare readonly family: "unix";
  /** "stream" or "seqpacket". */
  declare readonly type: "stream" | "seqpacket";
  #ownPath: OwnPath | undefined;
  #unlinkOnClose = false;

  /** Not for callers: `listen` and `adopt` make listeners. */
  protected constructor(parts: Parts) {
    const make = parts?.type === SOCK_SEQPACKET ? unixSeqpacketSocketOf : unixSocketOf;
    super(parts, make as (parts: Parts) => Connection);
  }

  /**
   * Listens at an address: socket(2), bind(2) and listen(2).
   *
   * @param address a UnixAddress, or its text: "unix:/run/x.sock", "unix:@name"; "unix:" lets the
   * kernel choose a name; a path that begins with "/" or "." needs no "unix:"
   * @throws {SystemError} `EADDRINUSE` it is taken, or a file was left behind; `ENOENT`, `ENOTDIR`,
   * `EACCES`, `EROFS` the file cannot be made
   * @throws {RangeError} mode or backlog is out of range
   * @throws {TypeError} it is no Unix address; or it has no path, and there is a mode for it
   * @see {@link https://man7.org/linux/man-pages/man2/listen.2.html | listen(2)}
   */
  static listen(
    address: UnixAddress | string,
    options?: UnixListenOptions & { readonly type?: "stream" | undefined },
  ): UnixListener<UnixSocket>;
  static listen(
    address: UnixAddress | string,
    options: UnixListenOptions & { readonly type: "seqpacket" },
  ): UnixListener<UnixSeqpacketSocket>;
  static listen(
    address: UnixAddress | string,
    options: UnixListenOptions = {},
  ): UnixListener<Connected> {
    const { toUnixAddress }: typeof import("./internal/unix_connect.ts") = loadModule(() =>
      require("./internal/unix_connect.ts"),
    );
    const local = toUnixAddress(address);
    const {
      mode,
      removeStale = false,
      unlinkOnClose = true,
      backlog = BACKLOG,
    } = requireOptions(options);
    const type = toType(options.type);
    if (mode !== undefined) requireInteger(mode, 0, 0o777, "a mode");
    requireBoolean(removeStale, "removeStale");
    requireBoolean(unlinkOnClose, "unlinkOnClose");
    requireInteger(backlog, 0, INT_MAX, "a backlog");
    if (!local.isPath && (mode !== undefined || removeStale))
      throw new TypeError(`Cannot use mode or removeStale with ${local}: it has no file`);
    const copy = copyOptions(options, AF_UNIX);
    const listener = new UnixListener<Connected>(openParts(AF_UNIX, type, 0, copy));
    return orClose(listener, () => {
      copy.configure?.(listener);
      if (mode === undefined && !removeStale) listener.bind(local);
      else {
        const { bindPath }: typeof unixPath = loadModule(() => require("./internal/unix_path.ts"));
        bindPath(listener, local, mode, removeStale);
      }
      // From here on a failure takes the file away again.
      if (local.isPath) listener.#ownPath = ownPathOf(local);
      listener.#unlinkOnClose = true;
      listener.listen(backlog);
      listener.#unlinkOnClose = unlinkOnClose;
    });
  }

  /**
   * Makes a UnixListener of an open descriptor, as a service manager passes them (`listenFds`): see
   * `Socket.adopt`. Its file is not this process's to remove.
   *
   * @throws {TypeError} it is no Unix socket of this type, or does not listen; or, with `own`, another
   * socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options?: UnixListenerAdoptOptions & { readonly type?: "stream" | undefined },
  ): UnixListener<UnixSocket>;
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: UnixListenerAdoptOptions & { readonly type: "seqpacket" },
  ): UnixListener<UnixSeqpacketSocket>;
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: UnixListenerAdoptOptions = {},
  ): UnixListener<Connected> {
    const wanted = toType(requireOptions(options).type);
    const kind: Kind = {
      name: `a Unix ${wanted === SOCK_STREAM ? "stream" : "seqpacket"} listener`,
      accepts: (domain, type) => domain === AF_UNIX && type === wanted,
      listens: true,
    };
    return new UnixListener<Connected>(adoptParts(descriptor, options, kind));
  }

  /**
   * Makes a second listener for the same open socket: each connection goes to one of them. The file
   * is still the first one's to remove. See `Socket.duplicate`.
   */
  override duplicate(): UnixListener<Connection> {
    return new UnixListener<Connection>(duplicateParts(this));
  }

  /**
   * Whether `close` removes the socket's file, right before it closes the socket: only a file that
   * `listen` of this very listener has made, and only if it is still the same one. Set it to false
   * when somebody else goes on listening there, as after `duplicate`, or after the descriptor was sent
   * away.
   *
   * A listener that is dropped without `close`, and a process that ends without it, leave the file:
   * `removeStale` is for these.
   *
   * @throws {TypeError} there is no file of this listener's making to remove
   */
  get unlinkOnClose(): boolean {
    return this.#unlinkOnClose && this.#ownPath !== undefined;
  }

  set unlinkOnClose(unlinkOnClose: boolean) {
    requireBoolean(unlinkOnClose, "unlinkOnClose");
    if (unlinkOnClose && !this.#ownPath)
      throw new TypeError("Cannot use unlinkOnClose: this listener has made no file");
    this.#unlinkOnClose = unlinkOnClose;
  }

  /** Closes the listener, and removes its file: see `Socket.close` and `unlinkOnClose`. */
  override close(): void {
    const { unlinkOnClose } = this;
    // The file first: nobody is to connect to what is about to close, or to take it for stale.
    if (unlinkOnClose) this.#ownPath?.remove();
    this.#ownPath = undefined;
    super.close();
  }

  /** Gives the descriptor away, and the file with it: see `Socket.detach`. */
  override detach(): number {
    this.#ownPath = undefined;
    return super.detach();
  }
}

function toType(type: unknown = "stream"): number {
  const constant = typeof type === "string" && Object.hasOwn(TYPES, type) ? TYPES[type] : undefined;
  if (constant !== undefined) return constant;
  const given = typeof type === "string" ? JSON.stringify(type) : `a value of type ${typeof type}`;
  throw new TypeError(`Cannot use ${given} as a type: expected "stream" or "seqpacket"`);
}

function ownPathOf(local: UnixAddress): OwnPath | undefined {
  const { OwnPath }: typeof import("./internal/own_path.ts") = loadModule(() =>
    require("./internal/own_path.ts"),
  );
  return OwnPath.of(local);
}
