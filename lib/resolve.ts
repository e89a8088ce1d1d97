import type { InetAddress } from "./address.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { CancelOptions, SocketType, TimeoutOptions } from "./socket.ts";

/** What `resolve` is to look for, and how. All flags are false by default. */
export interface ResolveHints {
  /** Addresses of this family only: "ipv4", "ipv6", or their `AF_` constants. Default: both. */
  readonly family?: "ipv4" | "ipv6" | number | undefined;
  /**
   * Addresses for sockets of this type only, which gives each address once. Default: libc's answer
   * for all types, with an entry for each type of each address, the types in libc's order.
   */
  readonly type?: SocketType | undefined;
  /** An `IPPROTO_` constant. Default 0: whatever goes with the type. */
  readonly protocol?: number | undefined;
  /**
   * `AI_PASSIVE`: without a host, the addresses to bind a server to (0.0.0.0 and ::) in place of the
   * loopback ones. Changes nothing where there is a host.
   */
  readonly passive?: boolean | undefined;
  /** `AI_NUMERICHOST`: the host must be the text of an address; a name is EAI_NONAME. */
  readonly numericHost?: boolean | undefined;
  /** `AI_NUMERICSERV`: the service must be a port; a name is EAI_NONAME. */
  readonly numericService?: boolean | undefined;
  /** `AI_CANONNAME`: the first entry tells the canonical name of the host. */
  readonly canonicalName?: boolean | undefined;
  /**
   * `AI_V4MAPPED`: with the family "ipv6", a host without IPv6 addresses gives its IPv4 addresses as
   * IPv6 sockets take them: "::ffff:192.0.2.1".
   */
  readonly v4mapped?: boolean | undefined;
  /** `AI_ALL`: with `v4mapped`, also a host that has IPv6 addresses gives the mapped ones. */
  readonly all?: boolean | undefined;
  /**
   * `AI_ADDRCONFIG`: only families of which this machine has an address that is no loopback
   * address.
   */
  readonly addrconfig?: boolean | undefined;
  /**
   * "verbatim" is libc's order, RFC 6724 and /etc/gai.conf; "ipv4first" and "ipv6first" put a family
   * in front, and change nothing within one. Default "verbatim".
   */
  readonly order?: ResolveOrder | undefined;
}

/** The order of a resolution's addresses. */
export type ResolveOrder = "verbatim" | "ipv4first" | "ipv6first";

/** The hints of a resolution in promise form, its limit of time, and what cancels it. */
export interface ResolveOptions extends ResolveHints, CancelOptions {}

/** The hints of a blocking resolution, and its limit of time. */
export interface ResolveSyncOptions extends ResolveHints, TimeoutOptions {}

/** One answer of `resolve`: what a socket takes to reach, or to be, the host and service. */
export interface ResolvedAddress {
  /** The address, with the port of the service, and an IPv6 scope as an interface index. */
  readonly address: InetAddress;
  /** The type of socket that it is for. */
  readonly type: SocketType;
  /** The protocol that it is for: `IPPROTO_TCP`, `IPPROTO_UDP`, 0 for any. */
  readonly protocol: number;
  /** The canonical name of the host: only where it was asked for, and only in the first entry. */
  readonly canonicalName?: string;
}

/** What `reverse` is to say, and how. All flags are false by default. */
export interface ReverseHints {
  /** `NI_NUMERICHOST`: the text of the address, with its zone, in place of a name. */
  readonly numericHost?: boolean | undefined;
  /** `NI_NUMERICSERV`: the port in place of a service's name. */
  readonly numericService?: boolean | undefined;
  /** `NI_NAMEREQD`: an address without a name is EAI_NONAME. By default its text is given. */
  readonly nameRequired?: boolean | undefined;
  /** `NI_DGRAM`: the service's name over UDP, which differs from that over TCP for a few ports. */
  readonly datagram?: boolean | undefined;
  /** `NI_NOFQDN`: the name without the domain, for hosts of this machine's domain. */
  readonly noFqdn?: boolean | undefined;
}

/** The hints of a reverse lookup in promise form, its limit of time, and what cancels it. */
export interface ReverseOptions extends ReverseHints, CancelOptions {}

/** The hints of a blocking reverse lookup, and its limit of time. */
export interface ReverseSyncOptions extends ReverseHints, TimeoutOptions {}

/** The answer of `reverse`. */
export interface ReversedAddress {
  /** The host's name, or the text of its address. */
  readonly host: string;
  /** The service's name, or the port. */
  readonly service: string;
}

/**
 * Finds all addresses of a host and a service, in order: what libc finds in /etc/hosts, by DNS, and
 * wherever else nsswitch.conf(5) sends it, and in /etc/services.
 *
 * The lookup runs on a thread of its own, so the event loop goes on. Whoever stops waiting, because
 * of `signal` or `timeoutMs`, has his answer at once; libc's own lookup cannot be stopped and ends
 * in the background, at the latest when the resolver's own time is over. At most 8 lookups of a
 * thread run at the same time, and others wait. What needs no resolver is answered without a thread:
 * no host, the text of an address, and "localhost" with all names below it, which are the loopback
 * addresses whatever a resolver says (RFC 6761). A pending lookup keeps the process alive; one that
 * nobody waits for does not.
 *
 * @param host a name, or the text of an address as libc reads it ("192.0.2.1", "fe80::1%eth0",
 * "127.1"). "" and undefined are this machine: the loopback addresses, or with `passive` those that
 * stand for all of its addresses
 * @param service a port of 0 to 65535, as number or text, or a name of /etc/services. Default: 0
 * @throws {TypeError} an argument of the wrong type, or a text that no service can have as name
 * @throws {RangeError} a port above 65535 or below 0
 * @throws {ResolutionError} `EAI_NONAME` there is no such host; `EAI_SERVICE` there is no such
 * service; `EAI_AGAIN` no resolver answers
 * @throws {TimeoutError} there was no answer in time
 * @see {@link https://man7.org/linux/man-pages/man3/getaddrinfo.3.html | getaddrinfo(3)}
 *
 * @example All addresses, and this machine's
 * ```ts
 * import { resolve } from "bun-sockets";
 *
 * const answers = await resolve("localhost", 8080, { type: "stream", order: "ipv4first" });
 * console.log(answers.map(({ address }) => `${address}`).join(" ")); // 127.0.0.1:8080 [::1]:8080
 * const [any] = await resolve("", 8080, { family: "ipv4", type: "stream", passive: true });
 * console.log(`${any?.address}`); // 0.0.0.0:8080
 * ```
 */
export async function resolve(
  host: string | undefined,
  service?: string | number | undefined,
  options?: ResolveOptions,
): Promise<ResolvedAddress[]> {
  return resolution().resolve(host, service, options);
}

/**
 * `resolve`, blocking the thread. Without `timeoutMs` it is libc's own call, which can take half a
 * minute; with it the lookup runs on a thread of its own, and ends in the background where the time
 * was too short.
 *
 * @throws as resolve
 * @see {@link https://man7.org/linux/man-pages/man3/getaddrinfo.3.html | getaddrinfo(3)}
 */
export function resolveSync(
  host: string | undefined,
  service?: string | number | undefined,
  options?: ResolveSyncOptions,
): ResolvedAddress[] {
  return resolution().resolveSync(host, service, options);
}

/**
 * Finds the names of an address: of its host, and of the service at its port. Where there is none,
 * the numbers stand for it.
 *
 * Runs, is cancelled and ends as `resolve`. With `numericHost` no resolver is asked.
 *
 * @param address an address, or its text: "192.0.2.1:80"
 * @throws {TypeError} address is none
 * @throws {ResolutionError} `EAI_NONAME` it has no name, and one was required; `EAI_AGAIN` no
 * resolver answers, and a name was required
 * @throws {TimeoutError} there was no answer in time
 * @see {@link https://man7.org/linux/man-pages/man3/getnameinfo.3.html | getnameinfo(3)}
 *
 * @example Numbers only
 * ```ts
 * import { reverse } from "bun-sockets";
 *
 * const { host, service } = await reverse("[fe80::1%lo]:80", {
 *   numericHost: true,
 *   numericService: true,
 * });
 * console.log(host, service); // fe80::1%lo 80
 * ```
 */
export async function reverse(
  address: InetAddress | string,
  options?: ReverseOptions,
): Promise<ReversedAddress> {
  return resolution().reverse(address, options);
}

/**
 * `reverse`, blocking the thread; `timeoutMs` is as in `resolveSync`.
 *
 * @throws as reverse
 * @see {@link https://man7.org/linux/man-pages/man3/getnameinfo.3.html | getnameinfo(3)}
 */
export function reverseSync(
  address: InetAddress | string,
  options?: ReverseSyncOptions,
): ReversedAddress {
  return resolution().reverseSync(address, options);
}

// Loaded when something is first resolved: an import pays for nothing that is not used.
function resolution() {
  return loadModule(() =>
    require("./internal/resolution.ts"),
  ) as typeof import("./internal/resolution.ts");
}
