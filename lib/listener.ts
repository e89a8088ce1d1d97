import type { Address } from "./address.ts";
import { type CancelSignal, ClosedError } from "./error.ts";
import { type Descriptor, loadModule } from "./internal/descriptor.ts";
import type { Parts } from "./internal/parts.ts";
import {
  type AsyncOptions,
  acceptParts,
  descriptorOf,
  type FlagOptions,
  Socket,
  type WaitOptions,
} from "./socket.ts";

/** What `connections` can be told. */
export interface ConnectionsOptions {
  /** Aborting it ends the iteration with the signal's reason. */
  readonly signal?: CancelSignal | undefined;
}

/**
 * A socket that listens, and hands out connections of a class of their own: what TcpListener and
 * UnixListener share.
 */
export abstract class Listener<A extends Address, Connection extends Socket<A>> extends Socket<A> {
  readonly #wrap: (parts: Parts) => Connection;
  #dropped = 0;

  /** Not for callers: `listen` and `adopt` make listeners. */
  protected constructor(parts: Parts, wrap: (parts: Parts) => Connection) {
    super(parts);
    this.#wrap = wrap;
  }

  /**
   * Takes a connection, or answers at once. A connection that was broken off while it waited is
   * passed over.
   *
   * @param options flags: `SOCK_CLOEXEC`, `SOCK_NONBLOCK`, both of which are set anyway
   * @returns undefined when none is waiting
   * @throws {SystemError} `EMFILE`, `ENFILE` too many open descriptors: the connection goes on
   * waiting; `EINVAL` the socket was shut down
   * @throws {RangeError} the flags are others
   * @see {@link https://man7.org/linux/man-pages/man2/accept4.2.html | accept4(2)}
   */
  override tryAccept(options?: FlagOptions): Connection | undefined {
    const parts = acceptParts(this, options?.flags);
    return parts && this.#wrap(parts);
  }

  /**
   * Takes a connection, waiting for one.
   *
   * @throws {TimeoutError} none came in time; one that comes later is for the next call
   * @throws {SystemError} as tryAccept
   */
  override acceptSync(options?: WaitOptions): Connection {
    return super.acceptSync(options) as Connection;
  }

  /**
   * Takes a connection; the promise form of `acceptSync`.
   *
   * @throws {TimeoutError} none came in time; one that comes later is for the next call. The same
   * holds when `signal` cancels the call
   * @throws {SystemError} as tryAccept
   */
  override accept(options?: AsyncOptions): Promise<Connection> {
    return super.accept(options) as Promise<Connection>;
  }

  /**
   * The connections as they come, for `for await`: each is the caller's to close. The loop ends when
   * the listener is closed or detached by this program.
   *
   * It survives what befalls single connections, and a lack of descriptors or memory: it keeps a
   * spare descriptor, with which it takes a connection that there is no room for, and closes it. See
   * `dropped`.
   *
   * @throws {SystemError} `EINVAL` the socket was shut down
   */
  connections(options: ConnectionsOptions = {}): AsyncIterableIterator<Connection, undefined> {
    const { Connections }: typeof import("./internal/connections.ts") = loadModule(() =>
      require("./internal/connections.ts"),
    );
    const descriptor = descriptorOf(this) as Descriptor;
    if (descriptor.fd < 0) throw new ClosedError("accept4");
    return new Connections<Connection>(
      {
        descriptor,
        accept: () => this.tryAccept(),
        dropped: (connection) => {
          this.#dropped++;
          connection.close();
        },
      },
      options,
    );
  }

  /** The connections as they come: see `connections`. */
  [Symbol.asyncIterator](): AsyncIterableIterator<Connection, undefined> {
    return this.connections();
  }

  /** How many connections a loop has taken and closed, because there were no descriptors for them. */
  get dropped(): number {
    return this.#dropped;
  }
}
