/**
 * The names of services and protocols, as services(5) and protocols(5) have them.
 *
 * @module
 */
import { loadModule } from "./internal/descriptor.ts";
/** A service and its port. */
export interface Service {
  /** Its official name. */
  readonly name: string;
  /** Its other names. */
  readonly aliases: readonly string[];
  /** Its port, in host byte order. */
  readonly port: number;
  /** The protocol that it is spoken over: "tcp", "udp". */
  readonly protocol: string;
}

/** A protocol above IP and its number. */
export interface Protocol {
  /** Its official name. */
  readonly name: string;
  /** Its other names. */
  readonly aliases: readonly string[];
  /** Its number: `IPPROTO_TCP`. */
  readonly number: number;
}

/**
 * Finds a service by one of its names, in /etc/services and wherever else nsswitch.conf(5) says.
 * Blocks the thread meanwhile.
 *
 * @param protocol "tcp" or "udp". Default: whichever stands first
 * @returns undefined when nobody knows it
 * @see {@link https://man7.org/linux/man-pages/man3/getservbyname.3.html | getservbyname(3)}
 *
 * @example Both ways
 * ```ts
 * import { serviceByName, serviceByPort } from "bun-sockets";
 *
 * console.log(serviceByName("https", "tcp")?.port); // 443
 * console.log(serviceByPort(443, "tcp")?.name); // https
 * ```
 */
export function serviceByName(name: string, protocol?: string): Service | undefined {
  return tables().serviceByName(name, protocol);
}

/**
 * Finds a service by its port. Blocks the thread meanwhile.
 *
 * @param port 0 to 65535
 * @param protocol "tcp" or "udp". Default: whichever stands first
 * @returns undefined when nobody knows it
 * @throws {RangeError} port is out of range
 * @see {@link https://man7.org/linux/man-pages/man3/getservbyport.3.html | getservbyport(3)}
 */
export function serviceByPort(port: number, protocol?: string): Service | undefined {
  return tables().serviceByPort(port, protocol);
}

/**
 * Returns all services of /etc/services, in its order. That is read here and not by libc, whose
 * enumeration has one place in the list for the whole process, Workers included.
 *
 * @see {@link https://man7.org/linux/man-pages/man5/services.5.html | services(5)}
 */
export function services(): Service[] {
  return tables().services();
}

/**
 * Finds a protocol by one of its names in /etc/protocols.
 *
 * @returns undefined when it is not there
 * @see {@link https://man7.org/linux/man-pages/man3/getprotoent.3.html | getprotobyname(3)}
 *
 * @example Both ways
 * ```ts
 * import { protocolByName, protocolByNumber } from "bun-sockets";
 *
 * console.log(protocolByName("UDP")?.number); // 17
 * console.log(protocolByNumber(6)?.name); // tcp
 * ```
 */
export function protocolByName(name: string): Protocol | undefined {
  return tables().protocolByName(name);
}

/**
 * Finds a protocol by its number in /etc/protocols.
 *
 * @param number 0 to 255
 * @returns undefined when it is not there
 * @throws {RangeError} number is out of range
 * @see {@link https://man7.org/linux/man-pages/man3/getprotoent.3.html | getprotobynumber(3)}
 */
export function protocolByNumber(number: number): Protocol | undefined {
  return tables().protocolByNumber(number);
}

/**
 * Returns all protocols of /etc/protocols, in its order. libc's own functions keep their answer in
 * memory of the whole process, Workers included, so the file is read here.
 *
 * @see {@link https://man7.org/linux/man-pages/man5/protocols.5.html | protocols(5)}
 */
export function protocols(): Protocol[] {
  return tables().protocols();
}

// Loaded when something is first looked up: an import pays for nothing that is not used.
function tables() {
  return loadModule(() =>
    require("./internal/service_tables.ts"),
  ) as typeof import("./internal/service_tables.ts");
}
