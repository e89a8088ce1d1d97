/**
 * What is known of a host: all its names and all its addresses.
 *
 * @module
 */
import type { InetAddress } from "./address.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { AddressLike } from "./prefix.ts";
import type { CancelOptions, TimeoutOptions } from "./socket.ts";

/** A host, by its names and its addresses. */
export interface HostEntry {
  /** Its official name. */
  readonly name: string;
  /** Its other names: those that stand beside it in /etc/hosts, or lead to it in DNS (CNAME). */
  readonly aliases: readonly string[];
  /** Its addresses, with port 0. */
  readonly addresses: readonly InetAddress[];
}

/** What `hostByName` is to look for. */
export interface HostHints {
  /** Addresses of this family only: "ipv4", "ipv6", or their `AF_` constants. Default: both. */
  readonly family?: "ipv4" | "ipv6" | number | undefined;
}

/** The hints of `hostByName`, its limit of time, and what cancels it. */
export interface HostOptions extends HostHints, CancelOptions {}

/** The hints of `hostByNameSync`, and its limit of time. */
export interface HostSyncOptions extends HostHints, TimeoutOptions {}

/**
 * Finds all names and all addresses of a host: what other languages call gethostbyname_ex. To
 * connect, or to bind, use `resolve`, whose addresses are in the order in which to try them.
 *
 * Each family is a question of its own, and both are asked at the same time; what one has is the
 * answer where the other has nothing. Runs, is cancelled and ends as `resolve`. What needs no resolver
 * has no other names: "localhost" and all names below it, and the text of an address.
 *
 * @param host a name, or the text of an address as libc reads it
 * @throws {TypeError} host is no string, or is empty, or contains a NUL; or the family is neither
 * @throws {RangeError} host is too long
 * @throws {ResolutionError} `EAI_NONAME` there is no such host; `EAI_NODATA` it has no address;
 * `EAI_AGAIN` no resolver answers; `EAI_FAIL` one has refused for good
 * @throws {TimeoutError} there was no answer in time
 * @see {@link https://man7.org/linux/man-pages/man3/gethostbyname.3.html | gethostbyname2_r(3)}
 *
 * @example
 * ```ts
 * import { hostByName } from "bun-sockets";
 *
 * const { name, aliases, addresses } = await hostByName("localhost", { family: "ipv4" });
 * console.log(name, aliases.length, `${addresses[0]?.host}`); // localhost 0 127.0.0.1
 * ```
 */
export async function hostByName(host: string, options?: HostOptions): Promise<HostEntry> {
  return entries().hostByName(host, options);
}

/**
 * `hostByName`, blocking the thread, with one question after the other. Without `timeoutMs` it is
 * libc's own call, which can take half a minute.
 *
 * @throws as hostByName
 * @see {@link https://man7.org/linux/man-pages/man3/gethostbyname.3.html | gethostbyname2_r(3)}
 */
export function hostByNameSync(host: string, options?: HostSyncOptions): HostEntry {
  return entries().hostByNameSync(host, options);
}

/**
 * Finds all names of the host that has an address.
 *
 * Runs, is cancelled and ends as `resolve`.
 *
 * @param address an address, or its text: with a port, which is ignored, or without one
 * @returns with the address itself as its only one, as a rule
 * @throws {TypeError} address is none
 * @throws {ResolutionError} `EAI_NONAME` it has no name; `EAI_AGAIN` no resolver answers
 * @throws {TimeoutError} there was no answer in time
 * @see {@link https://man7.org/linux/man-pages/man3/gethostbyname.3.html | gethostbyaddr_r(3)}
 */
export async function hostByAddress(
  address: AddressLike,
  options?: CancelOptions,
): Promise<HostEntry> {
  return entries().hostByAddress(address, options);
}

/**
 * `hostByAddress`, blocking the thread; `timeoutMs` is as in `hostByNameSync`.
 *
 * @throws as hostByAddress
 * @see {@link https://man7.org/linux/man-pages/man3/gethostbyname.3.html | gethostbyaddr_r(3)}
 */
export function hostByAddressSync(address: AddressLike, options?: TimeoutOptions): HostEntry {
  return entries().hostByAddressSync(address, options);
}

// Loaded when a host is first asked for: an import pays for nothing that is not used.
function entries() {
  return loadModule(() =>
    require("./internal/host_entries.ts"),
  ) as typeof import("./internal/host_entries.ts");
}
