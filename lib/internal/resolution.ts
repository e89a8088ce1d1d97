/**
 * What `resolve` and `reverse` do.
 *
 * @module
 */
import { addrinfo } from "../../structs/addrinfo.ts";
import * as constants from "../../structs/constants/netdb.ts";
import {
  AI_ADDRCONFIG,
  AI_ALL,
  AI_CANONNAME,
  AI_NUMERICHOST,
  AI_NUMERICSERV,
  AI_PASSIVE,
  AI_V4MAPPED,
  EAI_NONAME,
  EAI_SERVICE,
  NI_DGRAM,
  NI_MAXHOST,
  NI_MAXSERV,
  NI_NAMEREQD,
  NI_NOFQDN,
  NI_NUMERICHOST,
  NI_NUMERICSERV,
} from "../../structs/constants/netdb.ts";
import { AF_INET, AF_INET6, AF_UNSPEC, SOCK_RAW } from "../../structs/constants/sys_socket.ts";
import { addressBytes, addressFromBytes, type InetAddress, toInetAddress } from "../address.ts";
import { ResolutionError } from "../error.ts";
import { readMemory, readText } from "../ffi/memory.ts";
import type {
  ResolvedAddress,
  ResolveHints,
  ResolveOptions,
  ResolveOrder,
  ResolveSyncOptions,
  ReversedAddress,
  ReverseHints,
  ReverseOptions,
  ReverseSyncOptions,
} from "../resolve.ts";
import { freeaddrinfo, gai_strerror, getaddrinfo, getnameinfo } from "../sys/netdb.ts";
import {
  describe,
  requireBoolean,
  requireInteger,
  requireOptions,
  requireSignal,
} from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";
import { loadModule } from "./descriptor.ts";
import type { Question } from "./lookup.ts";
import { toDomain, toSocketType, typeOf } from "./parts.ts";
import { requireText } from "./sockaddr.ts";

/** The work of `resolve`. */
export async function resolve(
  host: string | undefined,
  service?: string | number | undefined,
  options?: ResolveOptions,
): Promise<ResolvedAddress[]> {
  const { timeoutMs, signal } = options === undefined ? {} : requireOptions(options);
  const request = prepare(host, service, options);
  requireSignal(signal)?.throwIfAborted();
  const deadline = deadlineAfter(timeoutMs);
  return resolveAtOnce(request) ?? loadLookup().lookUp(question(request), deadline, signal);
}

/** The work of `resolveSync`. */
export function resolveSync(
  host: string | undefined,
  service?: string | number | undefined,
  options?: ResolveSyncOptions,
): ResolvedAddress[] {
  const { timeoutMs } = options === undefined ? {} : requireOptions(options);
  const request = prepare(host, service, options);
  const deadline = deadlineAfter(timeoutMs);
  const answer = resolveAtOnce(request);
  if (answer) return answer;
  if (deadline === Number.POSITIVE_INFINITY) return resolveNow(request);
  return loadLookup().lookUpSync(question(request), deadline);
}

/** The work of `reverse`. */
export async function reverse(
  address: InetAddress | string,
  options?: ReverseOptions,
): Promise<ReversedAddress> {
  const { timeoutMs, signal } = options === undefined ? {} : requireOptions(options);
  const request = prepareReverse(address, options);
  requireSignal(signal)?.throwIfAborted();
  const deadline = deadlineAfter(timeoutMs);
  if (request.flags & NI_NUMERICHOST) return reverseNow(request);
  return loadLookup().lookUp(reverseQuestion(request), deadline, signal);
}

/** The work of `reverseSync`. */
export function reverseSync(
  address: InetAddress | string,
  options?: ReverseSyncOptions,
): ReversedAddress {
  const { timeoutMs } = options === undefined ? {} : requireOptions(options);
  const request = prepareReverse(address, options);
  const deadline = deadlineAfter(timeoutMs);
  if (request.flags & NI_NUMERICHOST || deadline === Number.POSITIVE_INFINITY)
    return reverseNow(request);
  return loadLookup().lookUpSync(reverseQuestion(request), deadline);
}

/** The lookups, loaded when a resolver is first asked. */
export function loadLookup() {
  return loadModule(() => require("./lookup.ts")) as typeof import("./lookup.ts");
}

// What getaddrinfo() is told.
interface Request {
  /** The host, or "" for this machine. */
  readonly host: string;
  readonly service: string | undefined;
  readonly hints: {
    readonly flags: number;
    readonly family: number;
    readonly type: number;
    readonly protocol: number;
  };
  readonly order: ResolveOrder;
}

const ORDERS: readonly ResolveOrder[] = ["verbatim", "ipv4first", "ipv6first"];
const PORT_MAX = 0xffff;
const PROTOCOL_MAX = 0xff;
// Longer ones exist nowhere: a domain name has 253 characters, a service of /etc/services a line.
const HOST_BYTES_MAX = 1024;
const SERVICE_BYTES_MAX = 255;

function prepare(host: unknown, service: unknown, options: ResolveHints = {}): Request {
  const flags = flagsOf(options, {
    passive: AI_PASSIVE,
    numericHost: AI_NUMERICHOST,
    numericService: AI_NUMERICSERV,
    canonicalName: AI_CANONNAME,
    v4mapped: AI_V4MAPPED,
    all: AI_ALL,
    addrconfig: AI_ADDRCONFIG,
  });
  const { family = AF_UNSPEC, type = 0, protocol = 0, order = "verbatim" } = options;
  const domain = toHostFamily(family);
  requireInteger(protocol, 0, PROTOCOL_MAX, "a protocol");
  if (!ORDERS.includes(order)) {
    const known = ORDERS.map((each) => `"${each}"`).join(", ");
    const given = typeof order === "string" ? JSON.stringify(order) : describe(order);
    throw new TypeError(`Cannot use ${given} as an order: expected ${known}`);
  }
  const hints = { flags, family: domain, type: toSocketType(type), protocol };
  return { host: toHost(host), service: toService(service), hints, order };
}

/** `AF_INET`, `AF_INET6`, or `AF_UNSPEC` for both. */
export function toHostFamily(family: "ipv4" | "ipv6" | number = AF_UNSPEC): number {
  const domain = toDomain(family);
  if (![AF_UNSPEC, AF_INET, AF_INET6].includes(domain))
    throw new TypeError(`Cannot resolve addresses of family ${family}: expected "ipv4" or "ipv6"`);
  return domain;
}

function flagsOf(options: object, bits: Readonly<Record<string, number>>): number {
  let flags = 0;
  for (const [name, bit] of Object.entries(bits)) {
    const value = (options as Record<string, unknown>)[name];
    if (value === undefined) continue;
    requireBoolean(value, name);
    if (value) flags |= bit;
  }
  return flags;
}

/** A host as text, "" for none. */
export function toHost(host: unknown): string {
  if (host === undefined) return "";
  const text = requireText(host, "a host");
  if (text.includes("\0")) {
    throw new TypeError(`Cannot use ${JSON.stringify(text)} as a host: it contains a NUL`);
  }
  const length = Buffer.byteLength(text);
  if (length > HOST_BYTES_MAX) {
    throw new RangeError(
      `Cannot use ${length} bytes as a host: expected at most ${HOST_BYTES_MAX}`,
    );
  }
  return text;
}

// libc takes port numbers modulo 65536, and reads what begins with a sign or a blank as a number.
function toService(service: unknown): string | undefined {
  if (service === undefined) return undefined;
  if (typeof service === "number") {
    requireInteger(service, 0, PORT_MAX, "a port");
    return `${service}`;
  }
  const text = requireText(service, "a service");
  if (/^[+-]?\d+$/.test(text)) {
    requireInteger(Number(text), 0, PORT_MAX, "a port");
    if (/^\d/.test(text)) return `${Number(text)}`;
  }
  // Printable, without a blank, and with something that is no digit.
  if (!/^[!-~]+$/.test(text) || !/[A-Za-z]/.test(text) || text.length > SERVICE_BYTES_MAX) {
    throw new TypeError(
      `Cannot use ${JSON.stringify(text)} as a service: expected a name, or a port of 0 to ${PORT_MAX}`,
    );
  }
  return text;
}

/** The addresses of a host that no resolver is asked about; undefined for one that it takes one. */
export function addressesAtOnce(host: string, family: number): InetAddress[] | undefined {
  const request = prepare(host, undefined, { family, type: "stream" });
  return resolveAtOnce(request)?.map(({ address }) => address);
}

// The answer, where no resolver is to be asked.
function resolveAtOnce(request: Request): ResolvedAddress[] | undefined {
  const { host, hints } = request;
  if (host === "") return resolveNow(request);
  if (/^(.+\.)?localhost\.?$/i.test(host) && !(hints.flags & AI_NUMERICHOST))
    return resolveLocal(request);
  if (hints.flags & AI_NUMERICHOST) return resolveNow(request);
  // No name has a colon. libc would ask the resolver for "fe80::1%nosuch" all the same.
  if (!host.includes(":") && !isNumeric(host)) return undefined;
  return resolveNow({ ...request, hints: { ...hints, flags: hints.flags | AI_NUMERICHOST } });
}

// What libc answers without a host and without AI_PASSIVE: the loopback addresses. This machine has
// them whatever else it has.
function resolveLocal(request: Request): ResolvedAddress[] {
  const { host, hints } = request;
  const flags = hints.flags & ~(AI_PASSIVE | AI_ADDRCONFIG);
  const answers = resolveNow({ ...request, host: "", hints: { ...hints, flags } }, host);
  const [first, ...rest] = answers;
  if (!first || !(hints.flags & AI_CANONNAME)) return answers;
  return [{ ...first, canonicalName: host }, ...rest];
}

function isNumeric(host: string): boolean {
  const list = new BigUint64Array(1);
  const hints = encodeHints({ flags: AI_NUMERICHOST, family: 0, type: 0, protocol: 0 });
  const result = getaddrinfo(cText(host), null, hints, list);
  if (result === 0) freeaddrinfo(Number(list[0]));
  return result !== EAI_NONAME;
}

// Blocks the thread for as long as it takes.
function resolveNow(request: Request, host = request.host): ResolvedAddress[] {
  const list = new BigUint64Array(1);
  const [node, service, hints] = encode(request);
  const result = getaddrinfo(node, service, hints, list);
  return readAnswers(result, Number(list[0]), request, host, freeaddrinfo);
}

function question(request: Request): Question<ResolvedAddress[]> {
  const [node, service, hints] = encode(request);
  return {
    call: "getaddrinfo",
    host: request.host,
    service: request.service,
    values: [node ?? 0, service ?? 0, hints, "list"],
    read: ({ result, errno, list }) =>
      readAnswers(orSystemErrno(result, errno), list, request, request.host, () => {}),
  };
}

// As lib/sys returns it: the errno in place of EAI_SYSTEM.
function orSystemErrno(result: number, errno: number): number {
  return result === constants.EAI_SYSTEM ? errno : result;
}

function encode({ host, service, hints }: Request) {
  // Without host and service there would be nothing to resolve: port 0 stands for no service.
  const node = host === "" ? null : cText(host);
  const flags = node ? hints.flags : hints.flags & ~(AI_CANONNAME | AI_NUMERICHOST);
  const port = service ?? (node ? undefined : "0");
  // libc refuses ports of raw sockets, but has entries for them among those of all types.
  const isRaw = !node && service === undefined && hints.type === SOCK_RAW;
  const wanted = isRaw ? { ...hints, type: 0, protocol: 0 } : hints;
  return [
    node,
    port === undefined ? null : cText(port),
    encodeHints({ ...wanted, flags }),
  ] as const;
}

function encodeHints({ flags, family, type, protocol }: Request["hints"]): Uint8Array {
  const view = new DataView(new ArrayBuffer(addrinfo.size));
  addrinfo.ai_flags.set(view, 0, flags);
  addrinfo.ai_family.set(view, 0, family);
  addrinfo.ai_socktype.set(view, 0, type);
  addrinfo.ai_protocol.set(view, 0, protocol);
  return new Uint8Array(view.buffer);
}

/** As C has texts. */
export function cText(text: string): Uint8Array {
  return Buffer.from(`${text}\0`);
}

function readAnswers(
  result: number,
  list: number,
  { service, hints, order }: Request,
  host: string,
  free: (list: number) => void,
): ResolvedAddress[] {
  // libc has been seen to say EAI_SYSTEM with an errno of 0.
  if (result !== 0 || list === 0)
    throw resolutionError(result, "getaddrinfo", host === "" ? undefined : host, service);
  try {
    const read = readList(list, hints);
    // libc takes what a line of the services file says modulo 65536, and 0 would be any port.
    const isWrong =
      service !== undefined && /[A-Za-z]/.test(service) && read.answers[0]?.address.port === 0;
    if (isWrong) throw resolutionError(EAI_SERVICE, "getaddrinfo", host || undefined, service);
    return sorted(read, order);
  } finally {
    free(list);
  }
}

type Answer = { -readonly [Key in keyof ResolvedAddress]: ResolvedAddress[Key] };

function readList(
  list: number,
  { type, protocol }: Request["hints"],
): { answers: Answer[]; canonicalName: string | undefined } {
  const answers: Answer[] = [];
  let canonicalName: string | undefined;
  for (let at = list; at !== 0; ) {
    const link = new DataView(readMemory(at, addrinfo.size).buffer);
    const family = addrinfo.ai_family.get(link, 0);
    const isWanted = type === 0 || addrinfo.ai_socktype.get(link, 0) === type;
    const name = addrinfo.ai_canonname.get(link, 0);
    if (name !== 0) canonicalName ??= readText(name);
    if (isWanted && (family === AF_INET || family === AF_INET6)) {
      const bytes = readMemory(addrinfo.ai_addr.get(link, 0), addrinfo.ai_addrlen.get(link, 0));
      answers.push({
        address: addressFromBytes(bytes) as InetAddress,
        type: typeOf(addrinfo.ai_socktype.get(link, 0)),
        protocol: addrinfo.ai_protocol.get(link, 0) || protocol,
      });
    }
    at = addrinfo.ai_next.get(link, 0);
  }
  return { answers, canonicalName };
}

function sorted(
  { answers, canonicalName }: ReturnType<typeof readList>,
  order: ResolveOrder,
): ResolvedAddress[] {
  if (order !== "verbatim") {
    const first = order === "ipv4first" ? "ipv4" : "ipv6";
    const rank = ({ address }: Answer) => Number(address.family !== first);
    answers.sort((left, right) => rank(left) - rank(right));
  }
  const [first] = answers;
  if (first && canonicalName !== undefined) first.canonicalName = canonicalName;
  return answers;
}

// What getnameinfo() is told.
interface ReverseRequest {
  readonly address: InetAddress;
  readonly bytes: Uint8Array;
  readonly flags: number;
}

function prepareReverse(address: InetAddress | string, options: ReverseHints = {}): ReverseRequest {
  const flags = flagsOf(options, {
    numericHost: NI_NUMERICHOST,
    numericService: NI_NUMERICSERV,
    nameRequired: NI_NAMEREQD,
    datagram: NI_DGRAM,
    noFqdn: NI_NOFQDN,
  });
  const known = toInetAddress(address);
  return { address: known, bytes: addressBytes(known), flags };
}

function reverseNow(request: ReverseRequest): ReversedAddress {
  const host = new Uint8Array(NI_MAXHOST);
  const service = new Uint8Array(NI_MAXSERV);
  const result = getnameinfo(request.bytes, host, service, request.flags);
  return readNames(result, host, service, request);
}

function reverseQuestion(request: ReverseRequest): Question<ReversedAddress> {
  const { bytes, flags } = request;
  const host = new Uint8Array(NI_MAXHOST);
  const service = new Uint8Array(NI_MAXSERV);
  return {
    call: "getnameinfo",
    host: request.address.host,
    values: [bytes, bytes.length, host, host.length, service, service.length, flags],
    read: ({ result, errno, memory }) =>
      readNames(orSystemErrno(result, errno), memory[2], memory[4], request),
  };
}

function readNames(
  result: number,
  host: Uint8Array | undefined,
  service: Uint8Array | undefined,
  { address }: ReverseRequest,
): ReversedAddress {
  if (result !== 0) throw resolutionError(result, "getnameinfo", address.host, `${address.port}`);
  return { host: upToNul(host), service: upToNul(service) };
}

function upToNul(bytes: Uint8Array = new Uint8Array(1)): string {
  return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString();
}

let names: Map<number, string> | undefined;

/** Of what lib/sys returns: an EAI error, which is negative, or the errno of EAI_SYSTEM. */
export function resolutionError(
  result: number,
  syscall: string,
  host: string | undefined,
  service: string | undefined,
): ResolutionError {
  names ??= new Map(
    Object.entries(constants)
      .filter(([name]) => name.startsWith("EAI_"))
      .map(([name, value]) => [value, name]),
  );
  if (result >= 0)
    return new ResolutionError("EAI_SYSTEM", syscall, { host, service, errno: result });
  const code = names.get(result) ?? `EAI_${-result}`;
  return new ResolutionError(code, syscall, { host, service, text: gai_strerror(result) });
}
