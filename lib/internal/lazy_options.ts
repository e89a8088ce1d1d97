/**
 * The option groups, loaded when one is first looked at: with what they need they are a quarter of
 * the library, and most programs set an option or two, or none.
 *
 * @module
 */
import type * as definitions from "../option.ts";
import { loadModule } from "./descriptor.ts";

// What can be done to an object that is no function.
const TRAPS = (
  "defineProperty deleteProperty get getOwnPropertyDescriptor getPrototypeOf has isExtensible " +
  "ownKeys preventExtensions set setPrototypeOf"
).split(" ");
const loads = new Map<object, () => object>();
const handler = makeHandler();

/** Loads lib/option.ts. */
export function loadOptions(): typeof definitions {
  return loadModule(() => require("../option.ts"));
}

/** Options of sockets of every kind. */
export const SocketOption: typeof definitions.SocketOption = lazily(
  () => loadOptions().SocketOption,
);
/** Options of IPv4. */
export const IpOption: typeof definitions.IpOption = lazily(() => loadOptions().IpOption);
/** Options of IPv6. */
export const Ipv6Option: typeof definitions.Ipv6Option = lazily(() => loadOptions().Ipv6Option);
/** Options of TCP. */
export const TcpOption: typeof definitions.TcpOption = lazily(() => loadOptions().TcpOption);
/** Options of UDP. */
export const UdpOption: typeof definitions.UdpOption = lazily(() => loadOptions().UdpOption);
/** What can be done with all options at once. */
export const options: typeof definitions.options = lazily(() => loadOptions().options);

// Stands for a frozen object, and becomes it when it is first looked at: whatever is done to it then
// is done to a frozen copy.
function lazily<Group extends object>(load: () => Group): Group {
  const group = {} as Group;
  loads.set(group, load);
  return new Proxy(group, handler as ProxyHandler<Group>);
}

// The traps of all groups. Bound, because closures take longer to make, and every import makes these.
function makeHandler(): ProxyHandler<object> {
  const traps: Record<string, unknown> = {};
  for (const name of TRAPS) traps[name] = loadAndDo.bind(null, name);
  return traps;
}

function loadAndDo(name: string, group: object, ...values: unknown[]): unknown {
  if (!Object.isFrozen(group)) Object.freeze(Object.assign(group, loads.get(group)?.()));
  return (Reflect as unknown as Record<string, (...values: unknown[]) => unknown>)[name]?.(
    group,
    ...values,
  );
}
