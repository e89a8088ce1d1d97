import { loadModule } from "./internal/descriptor.ts";
import type * as Polling from "./internal/polling.ts";
import type { CancelOptions, Socket, TimeoutOptions } from "./socket.ts";

/** What is waited for on a socket. A socket by itself stands for reading. */
export interface PollInterest {
  readonly socket: Socket;
  /** Whether a receive or an accept would answer at once. Default false. */
  readonly read?: boolean | undefined;
  /** Whether a send would answer at once, or a connection has been made. Default false. */
  readonly write?: boolean | undefined;
}

/** A socket that is ready, and for what. */
export interface PollResult {
  readonly socket: Socket;
  /** A receive or an accept answers at once: with data, the end, or an error. */
  readonly readable: boolean;
  /** A send answers at once. */
  readonly writable: boolean;
  /** There is urgent data. */
  readonly urgent: boolean;
  /**
   * There is an error to be fetched, by the next call or the option `SO_ERROR`. Not of what is queued:
   * see `Socket.queueErrors`.
   */
  readonly error: boolean;
  /** The peer has ended the connection. */
  readonly hangUp: boolean;
}

/**
 * Which of many sockets are ready now.
 *
 * @param sockets sockets to be read from, or what is waited for on each
 * @returns those that are ready, in the order given; none when nothing is
 * @throws {ClosedError} one of them is closed
 * @throws {TypeError} one of them is no socket
 * @see {@link https://man7.org/linux/man-pages/man2/poll.2.html | poll(2)}
 */
export function tryPoll(sockets: Iterable<Socket | PollInterest>): PollResult[] {
  return load().tryPoll(sockets);
}

/**
 * Blocks the thread until one of many sockets is ready.
 *
 * @param sockets sockets to be read from, or what is waited for on each
 * @returns those that are ready, in the order given: at least one
 * @throws {TimeoutError} none became ready in time
 * @throws {ClosedError} one of them is closed
 * @throws {TypeError} one of them is no socket
 * @see {@link https://man7.org/linux/man-pages/man2/poll.2.html | poll(2)}
 *
 * @example Two sockets, one thread, no event loop
 * ```ts
 * import { pollSync, UdpSocket } from "bun-sockets";
 *
 * using first = UdpSocket.bind("127.0.0.1:0");
 * using second = UdpSocket.bind("127.0.0.1:0");
 * first.sendToSync("hello", second.localAddress);
 * for (const { socket } of pollSync([first, second], { timeoutMs: 1000 }))
 *   console.log(`${Buffer.from(socket.receiveBytesSync(100))}`); // hello
 * ```
 */
export function pollSync(
  sockets: Iterable<Socket | PollInterest>,
  options?: TimeoutOptions,
): PollResult[] {
  return load().pollSync(sockets, options);
}

/**
 * Waits until one of many sockets is ready; the promise form of `pollSync`.
 *
 * @param sockets sockets to be read from, or what is waited for on each
 * @returns those that are ready, in the order given: at least one
 * @throws {TimeoutError} none became ready in time
 * @throws {ClosedError} one of them is closed
 * @throws {TypeError} one of them is no socket
 */
export async function poll(
  sockets: Iterable<Socket | PollInterest>,
  options: CancelOptions = {},
): Promise<PollResult[]> {
  return load().poll(sockets, options);
}

// Loaded by the first of these calls.
function load(): typeof Polling {
  loaded ??= loadModule(() => require("./internal/polling.ts")) as typeof Polling;
  return loaded;
}

let loaded: typeof Polling | undefined;
