/**
 * What the functions for the names of hosts do.
 *
 * @module
 */
import { ERANGE } from "../../structs/constants/errno.ts";
import {
  EAI_AGAIN,
  EAI_FAIL,
  EAI_NODATA,
  EAI_NONAME,
  HOST_NOT_FOUND,
  NO_DATA,
  NO_RECOVERY,
  TRY_AGAIN,
} from "../../structs/constants/netdb.ts";
import { AF_INET, AF_INET6, AF_UNSPEC } from "../../structs/constants/sys_socket.ts";
import { hostent } from "../../structs/hostent.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { addressBytes, type InetAddress, toPortlessAddress } from "../address.ts";
import { ResolutionError } from "../error.ts";
import { addressOf } from "../ffi/memory.ts";
import type { HostEntry, HostHints, HostOptions, HostSyncOptions } from "../hosts.ts";
import { Inet4Address, Inet6Address } from "../inet_address.ts";
import type { AddressLike } from "../prefix.ts";
import type { CancelOptions, TimeoutOptions } from "../socket.ts";
import { gethostbyaddr_r, gethostbyname2_r } from "../sys/netdb.ts";
import { requireOptions, requireSignal } from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";
import { formatInet4, formatInet6 } from "./inet_text.ts";
import type { Question } from "./lookup.ts";
import {
  addressesAtOnce,
  cText,
  loadLookup,
  resolutionError,
  toHost,
  toHostFamily,
} from "./resolution.ts";

const BUFFER_BYTES = 4096;
const BUFFER_BYTES_MAX = 1 << 20;
const POINTER_BYTES = 8;

// One question: of a host for the addresses of a family, or of an address.
interface Request {
  readonly call: "gethostbyname2_r" | "gethostbyaddr_r";
  readonly family: number;
  /** The name with its NUL, or the bytes of the address. */
  readonly bytes: Uint8Array;
  /** As errors tell it. */
  readonly host: string;
  /** The address that is asked for, with its zone, which libc's answer lacks. */
  readonly asked?: InetAddress;
}

/** The work of `hostByName`. */
export async function hostByName(host: string, options?: HostOptions): Promise<HostEntry> {
  const { timeoutMs, signal, family } = options === undefined ? {} : requireOptions(options);
  const requests = prepare(host, { family });
  requireSignal(signal)?.throwIfAborted();
  const deadline = deadlineAfter(timeoutMs);
  const atOnce = entryAtOnce(host, { family });
  if (atOnce) return atOnce;
  const answers = await Promise.allSettled(
    requests.map((request) => ask(request, deadline, signal)),
  );
  return merge(
    answers.map((answer) =>
      answer.status === "fulfilled" ? answer.value : toFailure(answer.reason),
    ),
  );
}

/** The work of `hostByNameSync`. */
export function hostByNameSync(host: string, options?: HostSyncOptions): HostEntry {
  const { timeoutMs, family } = options === undefined ? {} : requireOptions(options);
  const requests = prepare(host, { family });
  const deadline = deadlineAfter(timeoutMs);
  const atOnce = entryAtOnce(host, { family });
  if (atOnce) return atOnce;
  return merge(
    requests.map((request) => {
      try {
        return askSync(request, deadline);
      } catch (error) {
        return toFailure(error);
      }
    }),
  );
}

/** The work of `hostByAddress`. */
export async function hostByAddress(
  address: AddressLike,
  options?: CancelOptions,
): Promise<HostEntry> {
  const { timeoutMs, signal } = options === undefined ? {} : requireOptions(options);
  const request = prepareAddress(address);
  requireSignal(signal)?.throwIfAborted();
  return ask(request, deadlineAfter(timeoutMs), signal);
}

/** The work of `hostByAddressSync`. */
export function hostByAddressSync(address: AddressLike, options?: TimeoutOptions): HostEntry {
  const { timeoutMs } = options === undefined ? {} : requireOptions(options);
  return askSync(prepareAddress(address), deadlineAfter(timeoutMs));
}

function prepare(host: string, options: HostHints = {}): Request[] {
  const name = toHost(host);
  if (name === "") throw new TypeError('Cannot use "" as a host: expected a name or an address');
  const family = toHostFamily(options.family);
  const families = family === AF_UNSPEC ? [AF_INET, AF_INET6] : [family];
  const bytes = cText(name);
  return families.map((each) => ({
    call: "gethostbyname2_r",
    family: each,
    bytes,
    host: name,
  }));
}

function prepareAddress(address: AddressLike): Request {
  const asked = toPortlessAddress(address);
  const sockaddr = addressBytes(asked);
  const { host } = asked;
  const call = "gethostbyaddr_r";
  if (asked.family === "ipv6") {
    const at = sockaddr_in6.sin6_addr.offset;
    return { call, family: AF_INET6, bytes: sockaddr.slice(at, at + 16), host, asked };
  }
  const at = sockaddr_in.sin_addr.offset;
  return { call, family: AF_INET, bytes: sockaddr.slice(at, at + 4), host, asked };
}

// The answer, where no resolver is to be asked.
function entryAtOnce(host: string, { family }: HostHints = {}): HostEntry | undefined {
  const addresses = addressesAtOnce(host, toHostFamily(family));
  return addresses && { name: host, aliases: [], addresses };
}

// What has come of one of several questions. Who has no time left gets no answer at all.
function toFailure(error: unknown): ResolutionError {
  if (error instanceof ResolutionError) return error;
  throw error;
}

function merge(answers: readonly (HostEntry | ResolutionError)[]): HostEntry {
  const entries = answers.filter(
    (answer): answer is HostEntry => !(answer instanceof ResolutionError),
  );
  const [first, ...others] = entries;
  if (!first) {
    const errors = answers.filter((answer) => answer instanceof ResolutionError);
    // What is not there is only known when everybody has said so; a host without addresses exists.
    throw (
      errors.find(({ isNotFound }) => !isNotFound) ??
      errors.find(({ code }) => code === "EAI_NODATA") ??
      errors[0]
    );
  }
  if (others.length === 0) return first;
  const names = new Set(entries.flatMap(({ name, aliases }) => [name, ...aliases]));
  names.delete(first.name);
  const addresses = entries.flatMap((entry) => entry.addresses);
  return { name: first.name, aliases: [...names], addresses };
}

// A buffer that was too short is followed by a longer one.
async function ask(
  request: Request,
  deadline: number,
  signal: CancelOptions["signal"],
): Promise<HostEntry> {
  for (let bytes = BUFFER_BYTES; ; bytes *= 4) {
    const entry = await loadLookup().lookUp(question(request, bytes), deadline, signal);
    if (entry !== "short") return entry;
  }
}

function askSync(request: Request, deadline: number): HostEntry {
  for (let bytes = BUFFER_BYTES; ; bytes *= 4) {
    const entry =
      deadline === Number.POSITIVE_INFINITY
        ? askNow(request, bytes)
        : loadLookup().lookUpSync(question(request, bytes), deadline);
    if (entry !== "short") return entry;
  }
}

function askNow(request: Request, length: number): HostEntry | "short" {
  const { call, bytes, family } = request;
  const entry = new DataView(new ArrayBuffer(hostent.size));
  // Not in the collected heap, where it could move.
  const buffer = new Uint8Array(new ArrayBuffer(length));
  const found = new BigUint64Array(1);
  const herror = new Int32Array(1);
  const find = call === "gethostbyname2_r" ? gethostbyname2_r : gethostbyaddr_r;
  const result = find(bytes, family, entry, buffer, found, herror);
  const place = addressOf(buffer);
  return readAnswer(request, {
    errno: -result,
    isFound: found[0] !== 0n,
    herror: herror[0],
    entry,
    buffer,
    place,
  });
}

function question(request: Request, length: number): Question<HostEntry | "short"> {
  const { call, bytes, family } = request;
  const [entry, buffer] = [new Uint8Array(hostent.size), new Uint8Array(length)];
  const memory = [entry, buffer, length, new Uint8Array(8), new Uint8Array(4)];
  const isName = call === "gethostbyname2_r";
  const values = isName ? [bytes, family, ...memory] : [bytes, bytes.length, family, ...memory];
  const first = values.length - memory.length;
  return {
    call,
    host: request.host,
    values,
    read: ({ result, memory, places }) => {
      const viewAt = (i: number) => {
        const each = memory[first + i] as Uint8Array;
        return new DataView(each.buffer, each.byteOffset, each.byteLength);
      };
      return readAnswer(request, {
        errno: result,
        isFound: viewAt(3).getBigUint64(0, true) !== 0n,
        herror: viewAt(4).getInt32(0, true),
        entry: viewAt(0),
        buffer: memory[first + 1] as Uint8Array,
        place: places[first + 1] as number,
      });
    },
  };
}

// What a call has left.
interface Answer {
  /** What it has returned: an errno, or 0. */
  readonly errno: number;
  readonly isFound: boolean;
  readonly herror: number | undefined;
  readonly entry: DataView;
  readonly buffer: Uint8Array;
  /** Where the buffer was when the addresses in entry and buffer were. */
  readonly place: number;
}

const EAI_OF_H_ERRNO: Readonly<Record<number, number>> = {
  [HOST_NOT_FOUND]: EAI_NONAME,
  [TRY_AGAIN]: EAI_AGAIN,
  [NO_RECOVERY]: EAI_FAIL,
  [NO_DATA]: EAI_NODATA,
};

// "short": the buffer was.
function readAnswer(request: Request, answer: Answer): HostEntry | "short" {
  const { errno, isFound, herror = 0, buffer } = answer;
  if (isFound) return readEntry(request, answer);
  if (errno === ERANGE && buffer.length < BUFFER_BYTES_MAX) return "short";
  const error = EAI_OF_H_ERRNO[herror] ?? errno;
  throw resolutionError(error, request.call, request.host, undefined);
}

function readEntry({ asked }: Request, { entry, buffer, place }: Answer): HostEntry {
  const textAt = (address: number) => {
    const rest = buffer.subarray(address - place);
    return Buffer.from(rest.subarray(0, rest.indexOf(0))).toString();
  };
  const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  const pointersAt = (address: number) => {
    const pointers: number[] = [];
    if (address === 0) return pointers;
    for (let at = address - place; ; at += POINTER_BYTES) {
      const pointer = Number(view.getBigUint64(at, true));
      if (pointer === 0) return pointers;
      pointers.push(pointer);
    }
  };
  const isIpv6 = hostent.h_addrtype.get(entry, 0) === AF_INET6;
  const addresses = pointersAt(hostent.h_addr_list.get(entry, 0)).map((pointer) => {
    const address = isIpv6
      ? new Inet6Address(formatInet6(buffer, pointer - place), 0)
      : new Inet4Address(formatInet4(buffer, pointer - place), 0);
    // libc knows of no zones.
    return asked && withoutZone(asked) === address.host ? withoutPort(asked) : address;
  });
  return {
    name: textAt(hostent.h_name.get(entry, 0)),
    aliases: pointersAt(hostent.h_aliases.get(entry, 0)).map(textAt),
    addresses,
  };
}

function withoutZone({ host }: InetAddress): string {
  return host.replace(/%.*/, "");
}

function withoutPort({ family, host }: InetAddress): InetAddress {
  return family === "ipv6" ? new Inet6Address(host, 0) : new Inet4Address(host, 0);
}
