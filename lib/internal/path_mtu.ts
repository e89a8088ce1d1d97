/**
 * The path's MTU, as the kernel knows it, and what it does about it.
 *
 * @module
 */
import { ENOTCONN } from "../../structs/constants/errno.ts";
import {
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_PMTUDISC_DO,
  IP_PMTUDISC_DONT,
  IP_PMTUDISC_INTERFACE,
  IP_PMTUDISC_OMIT,
  IP_PMTUDISC_PROBE,
  IP_PMTUDISC_WANT,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
} from "../../structs/constants/netinet_in.ts";
import { check } from "../error.ts";
import type { PathMtuDiscovery } from "../ip_socket.ts";
import { getsockopt, setsockopt } from "../sys/socket.ts";
import { describe } from "./arguments.ts";

// The IPV6_PMTUDISC_ constants have the same values.
const MODES: Readonly<Record<PathMtuDiscovery, number>> = {
  off: IP_PMTUDISC_DONT,
  want: IP_PMTUDISC_WANT,
  do: IP_PMTUDISC_DO,
  probe: IP_PMTUDISC_PROBE,
  interface: IP_PMTUDISC_INTERFACE,
  omit: IP_PMTUDISC_OMIT,
};

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));

/** The MTU of the path to the peer, or undefined without one. */
export function pathMtuOf(fd: number, isVersion6: boolean): number | undefined {
  const result = isVersion6
    ? getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, value, valueLength)
    : getsockopt(fd, IPPROTO_IP, IP_MTU, value, valueLength);
  if (result === -ENOTCONN) return undefined;
  check(result, "getsockopt", { option: isVersion6 ? "IPV6_MTU" : "IP_MTU" });
  return value[0];
}

/** How path MTU discovery goes. */
export function discoveryOf(fd: number, isVersion6: boolean): PathMtuDiscovery {
  const result = isVersion6
    ? getsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value, valueLength)
    : getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, value, valueLength);
  check(result, "getsockopt", { option: nameOf(isVersion6) });
  const names = Object.keys(MODES) as PathMtuDiscovery[];
  return names.find((name) => MODES[name] === value[0]) ?? "want";
}

function nameOf(isVersion6: boolean): string {
  return isVersion6 ? "IPV6_MTU_DISCOVER" : "IP_MTU_DISCOVER";
}

/** Says how it is to go. */
export function setDiscovery(fd: number, isVersion6: boolean, mode: PathMtuDiscovery): void {
  if (typeof mode !== "string" || !Object.hasOwn(MODES, mode)) {
    const told = typeof mode === "string" ? JSON.stringify(mode) : describe(mode);
    const known = Object.keys(MODES).map((name) => `"${name}"`);
    throw new TypeError(`Cannot use ${told} as pathMtuDiscovery: expected ${known.join(", ")}`);
  }
  value[0] = MODES[mode];
  const result = isVersion6
    ? setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value)
    : setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, value);
  check(result, "setsockopt", { option: nameOf(isVersion6) });
  // That of mapped addresses.
  if (isVersion6) setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, value);
}
