/**
 * Where to send and where to receive, as the command line says it.
 *
 * @module
 */
import { type InetAddress, resolve, UdpSocket, type UdpSocketOptions } from "bun-sockets";
import { Argument, type Command, InvalidArgumentError, Option } from "commander";
import type { Run } from "./command.ts";

/** The options that choose among the addresses of a name. */
export interface FamilyOptions {
  readonly ipv4?: true;
  readonly ipv6?: true;
}

/** A host and a port. An empty host stands for all addresses of this machine. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** Where to receive when nothing else is said. */
const LOCAL_PORT = 9000;
const LOCAL: Endpoint = { host: "", port: LOCAL_PORT };

const FORM = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/;

/** Adds -4 and -6. */
export function withFamily(command: Command): Command {
  return command
    .addOption(new Option("-4, --ipv4", "over IPv4 only").conflicts("ipv6"))
    .addOption(new Option("-6, --ipv6", "over IPv6 only").conflicts("ipv4"));
}

/** Whether datagrams may go out in fragments. */
export interface FragmentOptions {
  /** Of payload. */
  readonly size: number;
  readonly fragment: boolean;
}

/** Bytes before the payload, from IP's on. */
const HEADERS = { ipv4: 28, ipv6: 48 } as const;

/** Adds --no-fragment. */
export function withFragments(command: Command): Command {
  return command.addOption(
    new Option("--no-fragment", "nothing that is longer than the path's MTU, here or on its way"),
  );
}

/** Says whether datagrams may go out in fragments; before the socket has a peer. */
export function setFragments(socket: UdpSocket, { fragment }: FragmentOptions): void {
  if (!fragment) socket.pathMtuDiscovery = "do";
}

/** Tells where datagrams go out in fragments: then counters of interfaces count more than there are. */
export function noteFragments(run: Run, socket: UdpSocket, options: FragmentOptions): void {
  const { pathMtu = Number.POSITIVE_INFINITY } = socket;
  const most = pathMtu - HEADERS[socket.family];
  if (!options.fragment || options.size <= most) return;
  run.note(
    `${options.size} bytes do not fit the path's MTU of ${pathMtu}: each goes out in fragments, ` +
      `and is lost with any of them; ${most} bytes fit`,
  );
}

/** Reads where to send: "example.com:9000", "[2001:db8::1]:9000". */
export function remote(text: string): Endpoint {
  const endpoint = read(text);
  if (endpoint !== undefined && endpoint.host !== "" && endpoint.port > 0) return endpoint;
  throw new InvalidArgumentError(
    'Expected host:port: "192.0.2.1:9000", "[2001:db8::1]:9000", "example.com:9000".',
  );
}

/** The operand that says where to receive. */
export function localArgument(): Argument {
  return new Argument("[address]", "where to receive: a port, or address:port")
    .argParser(local)
    .default(LOCAL, `${LOCAL_PORT}, at all addresses`);
}

/** Reads where to receive: also "9000" and ":9000", at all addresses. */
function local(text: string): Endpoint {
  const endpoint = read(/^\d+$/.test(text) ? `:${text}` : text);
  if (endpoint !== undefined) return endpoint;
  throw new InvalidArgumentError(
    'Expected a port, or address:port: "9000", "127.0.0.1:9000", "[::1]:9000".',
  );
}

function read(text: string): Endpoint | undefined {
  const [, bracketed, plain = "", digits] = FORM.exec(text) ?? [];
  const port = digits === undefined ? Number.NaN : Number(digits);
  return port <= 65_535 ? { host: bracketed ?? plain, port } : undefined;
}

/** Finds the address of an endpoint. */
export async function addressOf(
  { host, port }: Endpoint,
  { ipv4, ipv6 }: FamilyOptions,
  signal: AbortSignal,
): Promise<InetAddress> {
  const family = ipv4 ? "ipv4" : ipv6 ? "ipv6" : undefined;
  const [first] = await resolve(host, port, { type: "datagram", family, signal, passive: true });
  if (first === undefined) throw new Error(`Cannot find an address of ${host}`);
  return first.address;
}

/** Whether others may receive at the same port. */
export interface SharingOptions {
  readonly reusePort?: true;
}

/** Adds --reuse-port. */
export function withSharing(command: Command): Command {
  return command.option(
    "--reuse-port",
    "several may receive at this port (SO_REUSEPORT): each gets some of the senders",
  );
}

/** What a refusal by the network is called, with what it means. */
export function refusalText(code: string): string {
  return code === "ECONNREFUSED" ? `${code}: nobody is at that port` : code;
}

/** How an endpoint is called: as it was given, and its address where that was a name. */
export function titleOf({ host }: Endpoint, address: InetAddress): string {
  return host === address.host || host === "" ? `${address}` : `${host} (${address})`;
}

/** Opens a socket at an endpoint: without a host at all addresses, of both families if it can be. */
export async function bindAt(
  endpoint: Endpoint,
  { reusePort, ...family }: FamilyOptions & SharingOptions,
  own: UdpSocketOptions,
  signal: AbortSignal,
): Promise<UdpSocket> {
  const { host, port } = endpoint;
  const options = { ...own, reusePort: reusePort === true };
  if (host !== "") return UdpSocket.bind(await addressOf(endpoint, family, signal), options);
  if (family.ipv6) return UdpSocket.bind(`[::]:${port}`, { ...options, ipv6Only: true });
  if (!family.ipv4) {
    try {
      return UdpSocket.bind(`[::]:${port}`, options);
    } catch (error) {
      // A kernel without IPv6, or with none of its addresses.
      const { code } = error as { code?: string };
      if (code !== "EAFNOSUPPORT" && code !== "EADDRNOTAVAIL") throw error;
    }
  }
  return UdpSocket.bind(`0.0.0.0:${port}`, options);
}
