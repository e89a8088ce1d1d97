/**
 * What connect and listen take: an address, its text, or a host and a service.
 *
 * @module
 */
import {
  Inet4Address,
  Inet6Address,
  type InetAddress,
  isLikePath,
  toInetAddress,
} from "../address.ts";
import { describe, requireInteger } from "./arguments.ts";

/** A host and a service, of which at least one has to be looked up. */
export interface Endpoint {
  /** A name, or the text of an IP address. "" is all addresses of this machine. */
  readonly host: string;
  /** A port, or the name of a service. */
  readonly service: string | number;
}

const PORT_MAX = 65535;
// An IPv6 address stands in brackets; a name has no colon.
const HOST_AND_SERVICE = /^(?:\[([^\]]+)\]|([^:[\]]+)):([^:]+)$/;
const OTHER_FAMILIES = /^(?:unix|sockaddr):/;

/**
 * Reads one argument: an address, its text, or "host:service".
 *
 * @throws {TypeError} it is none of these
 * @throws {RangeError} the port is above 65535
 */
export function toEndpoint(value: unknown): InetAddress | Endpoint {
  if (typeof value !== "string" || OTHER_FAMILIES.test(value))
    return toInetAddress(value as string);
  const match = HOST_AND_SERVICE.exec(value);
  if (!match) {
    const forms = '"host:port", "[host]:port" or "host:service"';
    const owner = isLikePath(value) ? "; a Unix path belongs to UnixSocket" : "";
    throw new TypeError(
      `Cannot parse ${JSON.stringify(value)} as an address: expected ${forms}${owner}`,
    );
  }
  const [, inBrackets, bare, service] = match;
  // In brackets stands an IPv6 address, and no name.
  if (inBrackets !== undefined && !inBrackets.includes(":")) new Inet6Address(inBrackets, 0);
  return endpointOf(inBrackets ?? bare, service);
}

/**
 * Reads a host and a service.
 *
 * @throws {TypeError} the host is no text, or looks like an IP address and is none; the service is
 * neither number nor text
 * @throws {RangeError} the port is out of range
 */
export function endpointOf(host: unknown, service: unknown): InetAddress | Endpoint {
  if (typeof host !== "string")
    throw new TypeError(`Cannot use ${describe(host)} as a host: expected its name or address`);
  const port = toPort(service);
  if (typeof port === "string") return { host, service: port };
  // What can be no name is an address, or nothing.
  if (host.includes(":")) return new Inet6Address(host, port);
  if (/^[\d.]+$/.test(host)) return new Inet4Address(host, port);
  return { host, service: port };
}

function toPort(service: unknown): string | number {
  if (typeof service === "number") {
    requireInteger(service, 0, PORT_MAX, "a port");
    return service;
  }
  if (typeof service !== "string")
    throw new TypeError(`Cannot use ${describe(service)} as a service: expected a port or a name`);
  if (service === "") throw new TypeError('Cannot use "" as a service: expected a port or a name');
  if (!/^-?\d+$/.test(service)) return service;
  requireInteger(Number(service), 0, PORT_MAX, "a port");
  return Number(service);
}

/** Whether it is an address already. */
export function isResolved(endpoint: InetAddress | Endpoint): endpoint is InetAddress {
  return "family" in endpoint;
}
