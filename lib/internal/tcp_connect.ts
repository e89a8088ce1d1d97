/**
 * What `TcpSocket.connect` and `connectSync` do.
 *
 * @module
 */
import { EACCES, ENOPROTOOPT } from "../../structs/constants/errno.ts";
import { IP_BIND_ADDRESS_NO_PORT, IPPROTO_IP } from "../../structs/constants/netinet_in.ts";
import { AF_INET, SOCK_STREAM } from "../../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toInetAddress } from "../address.ts";
import { check, SystemError, withDetails } from "../error.ts";
import { AddressList } from "../prefix.ts";
import { type CancelOptions, descriptorOf } from "../socket.ts";
import { setsockopt } from "../sys/socket.ts";
import {
  copyNoDelay,
  domainOf,
  type TcpConnectOptions,
  type TcpConnectSyncOptions,
  type TcpSocket,
  tcpSocketOf,
} from "../tcp_socket.ts";
import { describe, requireInteger, requireOptions, requireSignal } from "./arguments.ts";
import { connectInOrder, interleave, type Plan, race } from "./connect_race.ts";
import { deadlineAfter } from "./deadline.ts";
import { type Endpoint, endpointOf, isResolved, toEndpoint } from "./endpoint.ts";
import { addressesOf, addressesOfSync } from "./endpoint_addresses.ts";
import { loadOptions } from "./lazy_options.ts";
import { copyOptions, openParts, orClose } from "./parts.ts";

/** RFC 8305, section 8: the recommended Connection Attempt Delay. */
const STAGGER_MS = 250;
const STAGGER_MS_MAX = 2 ** 31 - 1;
const FAMILIES: readonly unknown[] = ["ipv4", "ipv6", undefined];

const value = new Int32Array(new ArrayBuffer(4));

/** `TcpSocket.connect`. An error of the arguments rejects, as everything else. */
export async function connect(
  target: Address | string,
  second: string | number | TcpConnectOptions | undefined,
  third: TcpConnectOptions | undefined,
): Promise<TcpSocket> {
  const { endpoint, options } = readArguments<TcpConnectOptions>(target, second, third);
  const { signal, staggerMs = STAGGER_MS } = options;
  requireSignal(signal)?.throwIfAborted();
  if (staggerMs !== Number.POSITIVE_INFINITY)
    requireInteger(staggerMs, 0, STAGGER_MS_MAX, "staggerMs");
  const { family, plan } = planOf(endpoint, options, staggerMs, signal);
  if (isResolved(endpoint)) return race([endpoint], plan);
  const timeoutMs = Math.max(0, plan.deadline - performance.now());
  const addresses = await addressesOf(endpoint, { family }, { timeoutMs, signal }).catch(
    (error) => {
      throw withDetails(error, { timeoutMs: plan.timeoutMs });
    },
  );
  signal?.throwIfAborted();
  return race(interleave(addresses), plan);
}

/** `TcpSocket.connectSync`. */
export function connectSync(
  target: Address | string,
  second: string | number | TcpConnectSyncOptions | undefined,
  third: TcpConnectSyncOptions | undefined,
): TcpSocket {
  const { endpoint, options } = readArguments<TcpConnectSyncOptions>(target, second, third);
  const { family, plan } = planOf(endpoint, options, STAGGER_MS);
  if (isResolved(endpoint)) return connectInOrder([endpoint], plan);
  // Without a limit it is libc's own call.
  const timeoutMs = Math.max(0, plan.deadline - performance.now());
  let addresses: InetAddress[];
  try {
    addresses = addressesOfSync(endpoint, { family }, { timeoutMs });
  } catch (error) {
    throw withDetails(error, { timeoutMs: plan.timeoutMs });
  }
  return connectInOrder(addresses, plan);
}

/** What the two forms of connect have in common: one argument, or a host and a service. */
function readArguments<Options extends TcpConnectSyncOptions>(
  target: Address | string,
  second: string | number | Options | undefined,
  third: Options | undefined,
): { endpoint: InetAddress | Endpoint; options: Options } {
  const isPair = typeof second === "string" || typeof second === "number";
  // getaddrinfo(3) takes it for this machine, which is hardly what a name that is missing means.
  if (target === "") {
    const wanted = isPair ? "a host" : '"host:port"';
    throw new TypeError(`Cannot connect to "": expected ${wanted}; "localhost" is this machine`);
  }
  const endpoint = isPair ? endpointOf(target, second) : toEndpoint(target);
  const options = requireOptions((isPair ? third : second) ?? {}) as Options;
  const port = isResolved(endpoint) ? endpoint.port : endpoint.service;
  if (port === 0) {
    const where = isResolved(endpoint) ? `${endpoint}` : `${endpoint.host}:0`;
    throw new RangeError(`Cannot connect to ${where}: expected a port above 0`);
  }
  return { endpoint, options };
}

/** Reads the options of connect once, and checks them before anything is opened. */
function planOf(
  endpoint: InetAddress | Endpoint,
  options: TcpConnectSyncOptions & CancelOptions,
  staggerMs: number,
  signal?: CancelOptions["signal"],
): { family: "ipv4" | "ipv6" | undefined; plan: Plan<TcpSocket> } {
  const { timeoutMs } = options;
  const deadline = deadlineAfter(timeoutMs);
  const { attemptTimeoutMs = Number.POSITIVE_INFINITY, localPortRange, localAddress } = options;
  const allowed = requireList(options.allowed);
  deadlineAfter(attemptTimeoutMs);
  const local = localAddress === undefined ? undefined : toInetAddress(localAddress);
  const family = familyOf(endpoint, options.family, local);
  const copy = copyOptions(options, AF_INET);
  const noDelay = copyNoDelay(options);
  const range = localPortRange && { low: localPortRange.low, high: localPortRange.high };
  const open = (address: InetAddress): TcpSocket => {
    if (allowed?.check(address) === false) throw denied(address);
    const tcp = tcpSocketOf(openParts(domainOf(address.family), SOCK_STREAM, 0, copy));
    return orClose(tcp, () => {
      if (noDelay !== undefined) tcp.noDelay = noDelay;
      if (range) tcp.setOption(loadOptions().IpOption.localPortRange, range);
      copy.configure?.(tcp);
      if (local) bindLocal(tcp, local);
    });
  };
  const name = isResolved(endpoint) ? undefined : endpoint;
  // Who asks for the very port that he connects to means it.
  const isItself = local?.port ? undefined : isConnectedToItself;
  const limits = { staggerMs, attemptTimeoutMs, timeoutMs, deadline, signal };
  return { family, plan: { open, isItself, name, ...limits } };
}

function requireList(list: AddressList | undefined): AddressList | undefined {
  if (list === undefined || list instanceof AddressList) return list;
  throw new TypeError(`Cannot use ${describe(list)} as allowed: expected an AddressList`);
}

function denied(address: InetAddress): SystemError {
  const hint = "The AddressList of `allowed` denies it; nothing was sent";
  return new SystemError(EACCES, "connect", { address, sending: true, hint });
}

/** Which addresses can be connected to: of both where nothing says otherwise. */
function familyOf(
  endpoint: InetAddress | Endpoint,
  asked: "ipv4" | "ipv6" | undefined,
  local: InetAddress | undefined,
): "ipv4" | "ipv6" | undefined {
  if (!FAMILIES.includes(asked)) {
    const given =
      typeof asked === "string" ? JSON.stringify(asked) : `a value of type ${typeof asked}`;
    throw new TypeError(`Cannot use ${given} as a family: expected "ipv4" or "ipv6"`);
  }
  const family = asked ?? local?.family;
  const given = isResolved(endpoint) ? endpoint.family : family;
  if (local && local.family !== given)
    throw new TypeError(`Cannot connect from ${local}: expected an address of family ${given}`);
  if (given !== family && family !== undefined)
    throw new TypeError(`Cannot connect to ${endpoint}: expected an address of family ${family}`);
  return family;
}

// Of two open ends at one port the kernel makes one connection, whoever they belong to.
function isConnectedToItself(tcp: TcpSocket): boolean {
  return tcp.localAddress.equals(tcp.remoteAddress);
}

function bindLocal(tcp: TcpSocket, local: InetAddress): void {
  if (local.port === 0) {
    value[0] = 1;
    const fd = descriptorOf(tcp)?.fd ?? -1;
    const result = setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, value);
    if (result !== -ENOPROTOOPT) check(result, "setsockopt");
  }
  tcp.bind(local);
}
