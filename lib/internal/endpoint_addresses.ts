/**
 * The addresses of a host and a service, for the classes that connect and listen.
 *
 * @module
 */
import type { InetAddress } from "../address.ts";
import type { ResolvedAddress } from "../resolve.ts";
import type { CancelOptions, TimeoutOptions } from "../socket.ts";
import { loadModule } from "./descriptor.ts";
import type { Endpoint } from "./endpoint.ts";

/** Which addresses are wanted. */
export interface EndpointHints {
  readonly family?: "ipv4" | "ipv6" | undefined;
  /** Whether they are to be listened at. */
  readonly passive?: boolean | undefined;
}

// Loaded when a name is first given: programs with addresses need none of it.
function loadResolver(): typeof import("../resolve.ts") {
  return loadModule(() => require("../resolve.ts"));
}

/** Asks the resolver, without blocking the thread. */
export async function addressesOf(
  { host, service }: Endpoint,
  hints: EndpointHints,
  limits: CancelOptions,
): Promise<InetAddress[]> {
  return distinct(
    await loadResolver().resolve(host, service, { ...hints, ...limits, type: "stream" }),
  );
}

/** Asks the resolver, and blocks until it has answered. */
export function addressesOfSync(
  { host, service }: Endpoint,
  hints: EndpointHints,
  limits: TimeoutOptions = {},
): InetAddress[] {
  return distinct(
    loadResolver().resolveSync(host, service, { ...hints, ...limits, type: "stream" }),
  );
}

// Each once, in the order of the answer.
function distinct(answers: readonly ResolvedAddress[]): InetAddress[] {
  return [...new Map(answers.map(({ address }) => [address.key, address])).values()];
}
