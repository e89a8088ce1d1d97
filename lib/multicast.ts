import type { Address, InetAddress } from "./address.ts";
import { loadModule } from "./internal/descriptor.ts";

/**
 * An interface: its index, its name ("eth0"), or an address that it has, or the text of one. 0 lets the
 * kernel choose by its routes.
 */
export type InterfaceLike = number | string | Address;

/** Where a group is meant. */
export interface GroupOptions {
  /**
   * The interface: its index, its name, or an address that it has. Default: the zone of the group
   * ("ff02::1%eth0"); or else, to join, the one to which the kernel's routes lead, and for the rest
   * the one that the group was joined on.
   */
  readonly interface?: InterfaceLike | undefined;
}

/** How a group is joined. */
export interface JoinOptions extends GroupOptions {
  /** Only what this host sends to the group. Join again for a second source. Default: all. */
  readonly source?: Address | string | undefined;
  /**
   * Whether the socket hears, beside its own groups, those that any other socket of this machine has
   * joined, as Linux has it (IP_MULTICAST_ALL). Default: the first group that is joined switches that
   * off, and others leave it as it is.
   */
  readonly hearsAll?: boolean | undefined;
}

/** How a group is left. */
export interface LeaveOptions extends GroupOptions {
  /** This source only, which was joined. Default: the whole group. */
  readonly source?: Address | string | undefined;
}

/** A group that a socket has joined. */
export interface GroupMembership {
  /** The group, with port 0. */
  readonly group: InetAddress;
  /** The interface, also where the kernel has chosen it. */
  readonly interfaceIndex: number;
  /** The one source that is heard, or undefined for all. */
  readonly source: InetAddress | undefined;
}

/** Which sources of a group a socket hears. */
export interface SourceFilter {
  /** Whether it hears those sources only, or all but those. */
  readonly mode: "include" | "exclude";
  /** The sources. "include" with none leaves the group. */
  readonly sources: readonly (InetAddress | string)[];
}

/** A group that an interface hears. */
export interface InterfaceMembership {
  /** The name of the interface. */
  readonly interface: string;
  /** Its index. */
  readonly interfaceIndex: number;
  /** The group, with port 0. */
  readonly group: InetAddress;
  /** How many have joined it: sockets, and the kernel itself. */
  readonly users: number;
}

/** Which memberships `memberships` lists. */
export interface MembershipsOptions {
  /** Those of this interface only: its index, its name, or an address that it has. */
  readonly interface?: InterfaceLike | undefined;
  /** Those of this family only. Default: both. */
  readonly family?: "ipv4" | "ipv6" | undefined;
}

/**
 * Lists the multicast groups that the interfaces of this thread's network namespace hear, whoever has
 * joined them: IPv4 first, in the order of the interfaces.
 *
 * @throws {SystemError} `ENODEV` there is no such interface; `EADDRNOTAVAIL` none has the address
 * @throws {TypeError} the family is none, or the interface can be none
 * @see {@link https://man7.org/linux/man-pages/man5/proc_pid_net.5.html | proc_pid_net(5)}
 *
 * @example
 * ```ts
 * import { memberships, UdpSocket } from "bun-sockets";
 *
 * using socket = UdpSocket.bind("0.0.0.0:0");
 * socket.join("239.1.2.3", { interface: "lo" });
 * console.log(memberships({ interface: "lo" }).some(({ group }) => group.host === "239.1.2.3")); // true
 * ```
 */
export function memberships(options: MembershipsOptions = {}): InterfaceMembership[] {
  const { listMemberships }: typeof import("./internal/memberships.ts") = loadModule(() =>
    require("./internal/memberships.ts"),
  );
  return listMemberships(options);
}
