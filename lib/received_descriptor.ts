import { ClosedError, systemError } from "./error.ts";
import { Descriptor } from "./internal/descriptor.ts";
import type { PeerCredentials } from "./option.ts";
import type { ReceivedFrom, Socket } from "./socket.ts";
import type { UnixAddress } from "./unix_address.ts";

/** What a descriptor stands for. A "process" is a pidfd, a "device" also a terminal. */
export type DescriptorKind =
  | "socket"
  | "file"
  | "directory"
  | "pipe"
  | "device"
  | "process"
  | "other";

/** What can be sent as a descriptor: a socket, a received one, or the number of an open one. */
export type SendableDescriptor = Socket | ReceivedDescriptor | number;

/** How many descriptors to take. */
export interface DescriptorsMax {
  /** How many descriptors the caller takes, 0 to 253. Default 253, the most that one message has. */
  readonly max?: number | undefined;
}

/** What `receiveDescriptors` and its other forms give: the descriptors, and what came with them. */
export interface ReceivedDescriptors<Sender = UnixAddress | undefined>
  extends ReceivedFrom<Sender>,
    Iterable<ReceivedDescriptor>,
    Disposable {
  /** Those that came, in the order in which they were sent. Iterating gives the same. */
  readonly descriptors: readonly ReceivedDescriptor[];
  /**
   * `MSG_TRUNC` where the datagram was longer than the target; `MSG_EOR` for every record of a
   * seqpacket socket, and not for its end.
   */
  readonly flags: number;
  /** Who has sent it, as the kernel says. With `SocketOption.passCredentials` only. */
  readonly credentials: PeerCredentials | undefined;
  /** The process that has sent it. With `SocketOption.passProcessDescriptor` only. */
  readonly processDescriptor: ReceivedDescriptor | undefined;
  /** Closes those that nobody has taken, and `processDescriptor`. */
  close(): void;
}

// Set by the class below. The package does not export them.

/** Owns an open descriptor that has just come; `syscall` is what has opened it. */
export let receivedDescriptorOf: (fd: number, syscall: string) => ReceivedDescriptor;
/** The descriptor that a ReceivedDescriptor holds; undefined for what is none, or holds none. */
export let heldBy: (value: unknown) => Descriptor | undefined;
/** Lets go of a descriptor that has another owner now. */
export let letGo: (received: ReceivedDescriptor) => void;
/** Whether it is a ReceivedDescriptor, also one that holds none any more. */
export let isReceivedDescriptor: (value: unknown) => value is ReceivedDescriptor;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
/** What /proc says of a pidfd: the first until Linux 6.9, and in some containers. */
const PIDFD = /^(?:anon_inode:\[pidfd\]$|pidfd:)/;

/**
 * A descriptor that has come over a Unix socket: a socket, a file, a pipe, a process, or what else a
 * descriptor can stand for. It is close-on-exec, and has one owner, who closes it or passes it on:
 * `adopt` of a socket class with `{ own: true }` takes it, `take` gives the number away.
 *
 * Lifetime: until `close`, `take`, an `adopt` that owns it, or the end of a `using` block. One that
 * is dropped is closed some time after the engine has collected it. Those of a Worker that are sockets
 * are closed with its thread; others stay open when it is terminated.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/unix.7.html | unix(7), SCM_RIGHTS}
 *
 * @example A listening socket for somebody else
 * ```ts
 * import { TcpListener, UnixSocket } from "bun-sockets";
 *
 * const [left, right] = UnixSocket.pair();
 * using listener = TcpListener.listen("127.0.0.1:0");
 * left.sendDescriptorsSync("take over", [listener]);
 *
 * const buffer = Buffer.alloc(100);
 * const [descriptor] = right.receiveDescriptorsSync(buffer, { max: 1 });
 * console.log(descriptor?.kind); // socket
 * using inherited = TcpListener.adopt(descriptor!, { own: true });
 * console.log(inherited.localAddress.equals(listener.localAddress)); // true
 * left.close();
 * right.close();
 * ```
 */
export class ReceivedDescriptor {
  #descriptor: Descriptor | undefined;
  #kind: DescriptorKind | undefined;

  /** Not for callers: a receive makes them. */
  protected constructor(descriptor: Descriptor) {
    if (!(descriptor instanceof Descriptor))
      throw new TypeError("Cannot construct a ReceivedDescriptor: expected a receive");
    descriptor.rememberFile();
    this.#descriptor = descriptor;
  }

  /** The number, which stays this object's to close; -1 when it was closed or given away. */
  get descriptor(): number {
    return this.#descriptor?.fd ?? -1;
  }

  /**
   * What it stands for.
   *
   * @throws {ClosedError} it was closed or given away
   * @see {@link https://man7.org/linux/man-pages/man2/fstat.2.html | fstat(2)}
   */
  get kind(): DescriptorKind {
    const fd = this.descriptor;
    if (fd < 0) throw new ClosedError("fstat");
    this.#kind ??= kindOf(fd);
    return this.#kind;
  }

  /**
   * Gives the number away, open: from now on it is the caller's to close.
   *
   * @returns the descriptor
   * @throws {ClosedError} it was closed or given away before
   */
  take(): number {
    const fd = this.#descriptor?.release() ?? -1;
    this.#descriptor = undefined;
    if (fd < 0) throw new ClosedError("take");
    return fd;
  }

  /** Closes it. Does nothing the second time, nor when it was given away. */
  close(): void {
    this.#descriptor?.close();
    this.#descriptor = undefined;
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
    if (!(#descriptor in this)) return "ReceivedDescriptor";
    const fd = this.descriptor;
    return `ReceivedDescriptor ${fd < 0 ? "closed or taken" : `${fd}, ${this.kind}`}`;
  }

  static {
    receivedDescriptorOf = (fd, syscall) => new ReceivedDescriptor(new Descriptor(fd, syscall));
    isReceivedDescriptor = (value): value is ReceivedDescriptor =>
      value instanceof Object && #descriptor in value;
    heldBy = (value) => {
      const held = isReceivedDescriptor(value) ? value.#descriptor : undefined;
      return held && held.fd >= 0 ? held : undefined;
    };
    letGo = (received) => {
      received.#descriptor = undefined;
    };
  }
}

function kindOf(fd: number): DescriptorKind {
  const { fstatSync, readlinkSync } = process.getBuiltinModule("node:fs");
  let stat: ReturnType<typeof fstatSync>;
  try {
    stat = fstatSync(fd);
  } catch (error) {
    // Somebody has closed the number behind our back.
    throw systemError((error as { errno?: number }).errno ?? 0, "fstat");
  }
  if (stat.isSocket()) return "socket";
  if (stat.isFIFO()) return "pipe";
  if (stat.isDirectory()) return "directory";
  if (stat.isCharacterDevice() || stat.isBlockDevice()) return "device";
  try {
    if (PIDFD.test(readlinkSync(`/proc/self/fd/${fd}`))) return "process";
  } catch {
    // A machine without /proc.
  }
  return stat.isFile() ? "file" : "other";
}
