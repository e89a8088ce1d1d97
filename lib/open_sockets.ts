import type { Address } from "./address.ts";
import { counters } from "./internal/descriptor.ts";
import { listSockets } from "./internal/registry.ts";
import type { SocketFamily, SocketType } from "./socket.ts";

/** One socket that is open, as `openSockets` tells of it. */
export interface OpenSocket {
  /** The name of its class: "UdpSocket". */
  readonly kind: string;
  /** The address family, by name where it has one of ours: "ipv4", "ipv6", "unix". */
  readonly family: SocketFamily;
  /** The type, by name where it has one of ours: "stream", "datagram", "seqpacket", … */
  readonly type: SocketType;
  /** The number. It is the socket's own: to be told, not to be used. */
  readonly descriptor: number;
  /** The address it has, where its family has any. */
  readonly localAddress?: Address;
  /** The peer, where there is one. */
  readonly remoteAddress?: Address;
  /** The stack of the call that made it. Only with `BUN_SOCKETS_LEAKS=1` in the environment. */
  readonly createdAt?: string;
}

/** What has become of the sockets of this thread: `open` is what the others leave. */
export interface SocketCounters {
  /** Sockets that are open: opened and adopted, and not closed, detached or leaked. */
  readonly open: number;
  /** Sockets that were made: created, bound, connected, accepted, paired or duplicated. */
  readonly opened: number;
  /** Sockets that were made of a descriptor that was there before: `adopt`. */
  readonly adopted: number;
  /** Sockets that were closed. */
  readonly closed: number;
  /** Sockets whose descriptor was given away: `detach`. */
  readonly detached: number;
  /**
   * Sockets that were dropped open and that the engine has collected. With `BUN_SOCKETS_LEAKS=1` in
   * the environment each is reported by a warning, "LeakWarning" with the code "BUN_SOCKETS_LEAK",
   * that says where it was made. What is open when a thread or the process ends is no leak.
   */
  readonly leaked: number;
}

/**
 * Lists the sockets of this thread that are open, in the order of their making. What it tells is
 * asked of the kernel at each call; nothing is kept for it, and no socket is kept alive. One that was
 * dropped is listed until the engine has collected it.
 *
 * @example Who is still there
 * ```ts
 * import { openSockets, socketCounters, UdpSocket } from "bun-sockets";
 *
 * using server = UdpSocket.bind("127.0.0.1:0");
 * for (const { kind, family, localAddress } of openSockets())
 *   console.log(kind, family, `${localAddress}` === `${server.localAddress}`); // UdpSocket ipv4 true
 * console.log(socketCounters().open); // 1
 * ```
 */
export function openSockets(): OpenSocket[] {
  return listSockets();
}

/** Counts the sockets of this thread, since it began. */
export function socketCounters(): SocketCounters {
  const { opened, adopted, closed, detached, leaked } = counters;
  const open = opened + adopted - closed - detached - leaked;
  return { open, opened, adopted, closed, detached, leaked };
}
