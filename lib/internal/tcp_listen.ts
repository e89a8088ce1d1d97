/**
 * What `TcpListener.listen`, `listenAll` and `listenAllSync` do.
 *
 * @module
 */
import { EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT } from "../../structs/constants/errno.ts";
import { AF_INET, AF_INET6, SOCK_STREAM } from "../../structs/constants/sys_socket.ts";
import type { Address, InetAddress } from "../address.ts";
import { SystemError } from "../error.ts";
import {
  type TcpListenAllOptions,
  type TcpListenAllSyncOptions,
  type TcpListener,
  type TcpListenOptions,
  tcpListenerOf,
} from "../tcp_listener.ts";
import { requireInteger, requireOptions, requireSignal } from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";
import { endpointOf, isResolved, toEndpoint } from "./endpoint.ts";
import { addressesOf, addressesOfSync } from "./endpoint_addresses.ts";
import { copyOptions, openParts, orClose } from "./parts.ts";

const BACKLOG = 128;
const INT_MAX = 2 ** 31 - 1;
/** How often a port is looked for that is free at every address. */
const PORT_TRIES_MAX = 32;

/** `TcpListener.listen`. */
export function listen(address: Address | string, options: TcpListenOptions): TcpListener {
  const endpoint = toEndpoint(address);
  const open = opener(options);
  if (isResolved(endpoint)) return open(endpoint);
  return firstOf(addressesOfSync(endpoint, { passive: true }), open);
}

/** `TcpListener.listenAll`. An error of the arguments rejects, as everything else. */
export async function listenAll(
  host: string,
  service: string | number,
  options: TcpListenAllOptions,
): Promise<TcpListener[]> {
  const endpoint = endpointOf(host, service);
  const { family, timeoutMs, signal } = requireOptions(options);
  deadlineAfter(timeoutMs);
  requireSignal(signal)?.throwIfAborted();
  const open = opener(options, true);
  if (isResolved(endpoint)) return [open(endpoint)];
  const limits = { timeoutMs, signal };
  return allOf(await addressesOf(endpoint, { family, passive: true }, limits), open);
}

/** `TcpListener.listenAllSync`. */
export function listenAllSync(
  host: string,
  service: string | number,
  options: TcpListenAllSyncOptions,
): TcpListener[] {
  const endpoint = endpointOf(host, service);
  const { family, timeoutMs } = requireOptions(options);
  deadlineAfter(timeoutMs);
  const open = opener(options, true);
  if (isResolved(endpoint)) return [open(endpoint)];
  return allOf(addressesOfSync(endpoint, { family, passive: true }, { timeoutMs }), open);
}

/** Listens at an address. */
type Open = (address: InetAddress) => TcpListener;

/**
 * Reads the options once, and checks them before anything is opened.
 *
 * @param isOneOfAll whether there are others beside: then IPv6 is without IPv4 unless asked for
 */
function opener(options: TcpListenOptions, isOneOfAll = false): Open {
  const { reuseAddress = true, backlog = BACKLOG, ipv6Only = isOneOfAll } = requireOptions(options);
  requireInteger(backlog, 0, INT_MAX, "a backlog");
  const { receiveBufferBytes, sendBufferBytes, reusePort, configure } = options;
  const read = { receiveBufferBytes, sendBufferBytes, reusePort, configure, reuseAddress };
  const copy = copyOptions({ ...read, ipv6Only }, AF_INET6);
  return (local) => {
    const domain = local.family === "ipv4" ? AF_INET : AF_INET6;
    if (domain === AF_INET && !isOneOfAll) copyOptions({ ipv6Only }, AF_INET);
    const listener = tcpListenerOf(openParts(domain, SOCK_STREAM, 0, copy));
    return orClose(listener, () => {
      copy.configure?.(listener);
      listener.bind(local);
      listener.listen(backlog);
    });
  };
}

// What this machine does not have: an address of a name, or IPv6 at all.
const NOT_HERE: readonly number[] = [-EADDRNOTAVAIL, -EAFNOSUPPORT];

function firstOf(addresses: readonly InetAddress[], open: Open): TcpListener {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return open(address);
    } catch (error) {
      if (!(error instanceof SystemError) || !NOT_HERE.includes(error.errno)) throw error;
      failure ??= error;
    }
  }
  throw failure;
}

// A port that is free at the first address may be taken at the next one: then another is looked for.
function allOf(addresses: readonly InetAddress[], open: Open): TcpListener[] {
  for (let tries = 1; ; tries++) {
    try {
      return tryAll(addresses, open);
    } catch (error) {
      const isTaken = error instanceof SystemError && error.errno === -EADDRINUSE;
      if (!isTaken || addresses[0]?.port !== 0 || tries === PORT_TRIES_MAX) throw error;
    }
  }
}

function tryAll(addresses: readonly InetAddress[], open: Open): TcpListener[] {
  const listeners: TcpListener[] = [];
  let failure: unknown;
  try {
    for (const address of addresses) {
      const port = address.port || (listeners[0]?.localAddress.port ?? 0);
      try {
        listeners.push(open(address.withPort(port)));
      } catch (error) {
        if (!(error instanceof SystemError) || !NOT_HERE.includes(error.errno)) throw error;
        failure ??= error;
      }
    }
    if (listeners.length === 0) throw failure;
    return listeners;
  } catch (error) {
    for (const listener of listeners) listener.close();
    throw error;
  }
}
