/**
 * The machinery of PingSocket: one socket, a table of the requests that wait, and one place that reads
 * the socket for all of them.
 *
 * @module
 */
import {
  EACCES,
  EHOSTUNREACH,
  EMSGSIZE,
  ENOBUFS,
  EPERM,
  EPROTONOSUPPORT,
} from "../../structs/constants/errno.ts";
import { IPPROTO_ICMP, IPPROTO_ICMPV6 } from "../../structs/constants/netinet_in.ts";
import { POLLIN } from "../../structs/constants/poll.ts";
import { EPOLLIN } from "../../structs/constants/sys_epoll.ts";
import { AF_INET, AF_INET6 } from "../../structs/constants/sys_socket.ts";
import { CLOCK_REALTIME } from "../../structs/constants/time.ts";
import { timespec } from "../../structs/timespec.ts";
import {
  type Address,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  toPortlessAddress,
} from "../address.ts";
import { ControlReader } from "../control.ts";
import {
  type CancelSignal,
  ClosedError,
  SystemError,
  type SystemErrorDetails,
  TimeoutError,
} from "../error.ts";
import type { IcmpError, PathMtuError, QueuedError } from "../error_queue.ts";
import { Message } from "../message.ts";
import { IpOption, Ipv6Option, SocketOption } from "../option.ts";
import type {
  PingOptions,
  PingReply,
  PingRequest,
  PingSeriesOptions,
  PingSocketOptions,
  PingStatistics,
  PingSyncOptions,
} from "../ping_socket.ts";
import { descriptorOf, Socket } from "../socket.ts";
import { errorName } from "../sys/errno.ts";
import { clock_gettime } from "../sys/time.ts";
import { requireInteger, requireOptions, requireSignal } from "./arguments.ts";
import { deadlineAfter, waitUntil } from "./deadline.ts";
import type { Descriptor } from "./descriptor.ts";
import {
  behindIpv4Header,
  ECHO_HEADER,
  IPV4_HEADER_MAX,
  makeRequest,
  quotedSequence,
  quotesPayload,
  repeatsPayload,
  replySequence,
} from "./echo.ts";
import { ICMP_ERRORS } from "./extended_error.ts";
import { REMEDIES } from "./hints.ts";
import { loadPoller } from "./lazy_poller.ts";
import { copyOptions } from "./parts.ts";
import { PingSeries } from "./ping_series.ts";
import type { PromisedCall } from "./wait_line.ts";

/** How the kernel lets us: see `PingSocket.kind`. */
export type PingKind = "datagram" | "raw";

const PAYLOAD_BYTES = 56;
// What fits a packet of 65,535 bytes behind the headers; that of IPv6 does not count its own.
const PAYLOAD_BYTES_MAX = 65_507;
const PAYLOAD_BYTES_MAX_6 = 65_527;
const TIMEOUT_MS = 5000;
const TTL_MAX = 255;
const INT_MAX = 2 ** 31 - 1;
const SEQUENCES = 65_536;
/** Requests that are remembered when they do not wait any more: for duplicates, and late answers. */
const SETTLED_MAX = 1024;
/** Messages that are read at once: what is left makes the next event. */
const READ_MAX = 1024;
/** Room for the answers to short requests. */
const ROOM = 2048;
const CONTROL_BYTES = 256;
/** CMSG_SPACE(sizeof(int)). */
const TTL_CONTROL = 24;

const clock = new DataView(new ArrayBuffer(timespec.size));

/** A request that waits, or has waited. */
interface Flight {
  readonly sequence: number;
  readonly address: InetAddress;
  /** The host without a zone, by which answers are known. */
  readonly host: string;
  /** Whether anybody may answer: it went to many. */
  readonly isForMany: boolean;
  readonly packet: Uint8Array<ArrayBuffer>;
  readonly signal: CancelSignal | undefined;
  readonly deadline: number;
  readonly timeoutMs: number;
  /** When it was sent: on the monotonic clock, and on that of the kernel's timestamps. */
  sentAt: number;
  sentSeconds: number;
  sentNanoseconds: number;
  reply?: PingReply;
  error?: SystemError;
  /** Whether nobody wants to know any more. */
  isGivenUp: boolean;
  waiter?: PromisedCall<Flight>;
  /** Told of each answer at once, in the order of arrival: the first one, and those after it. */
  readonly onReply: ((reply: PingReply) => void) | undefined;
}

/** What a request of ours can be told beside what the public one can. */
export interface Launch {
  readonly signal?: CancelSignal | undefined;
  /** Told of each answer at once, in the order of arrival; perhaps before `launch` returns. */
  readonly onReply?: ((reply: PingReply) => void) | undefined;
}

/** A request that is on its way. */
export interface Launched {
  readonly sequence: number;
  /** Resolves with undefined when it was given up. */
  readonly promise: Promise<PingReply | undefined>;
  /** Says that nobody waits for it any more. */
  readonly giveUp: () => void;
}

/** What a request is to be like, checked. */
export interface Request {
  readonly address: InetAddress;
  readonly payloadBytes: number;
  readonly ttl: number | undefined;
  readonly timeoutMs: number;
}

/** Opens the first kind of socket that is allowed. */
export function openPinger(domain: number, options: PingSocketOptions): Pinger {
  const { kind, source, interface: device } = requireOptions(options);
  if (kind !== undefined && kind !== "datagram" && kind !== "raw") {
    const told = typeof kind === "string" ? JSON.stringify(kind) : `a value of type ${typeof kind}`;
    throw new TypeError(`Cannot use ${told} as a kind: expected "datagram" or "raw"`);
  }
  const { receiveBufferBytes, sendBufferBytes, broadcast, configure } = options;
  const copy = copyOptions(
    { receiveBufferBytes, sendBufferBytes, broadcast, configure },
    // Of another family there is no `ipv6Only`, which a raw socket does not have.
    AF_INET,
  );
  const isVersion6 = domain === AF_INET6;
  const from = source === undefined ? undefined : hostOnly(source, isVersion6, "send from");
  if (device !== undefined && typeof device !== "string")
    requireInteger(device, 1, INT_MAX, "the index of an interface");
  const socket = openFirst(isVersion6, kind, { ...copy, configure: undefined });
  try {
    if (typeof device === "string") socket.setOption(SocketOption.bindToDevice, device);
    else if (device !== undefined) socket.setOption(SocketOption.bindToInterfaceIndex, device);
    return new Pinger(socket, from, () => copy.configure?.(socket));
  } catch (error) {
    socket.close();
    throw error;
  }
}

function openFirst(
  isVersion6: boolean,
  kind: PingKind | undefined,
  options: Parameters<typeof Socket.create>[2],
): Socket {
  const family = isVersion6 ? "ipv6" : "ipv4";
  const protocol = isVersion6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
  const open = (type: PingKind) => Socket.create(family, type, { ...options, protocol });
  if (kind === "raw") return open("raw");
  try {
    return open("datagram");
  } catch (error) {
    if (!(error instanceof SystemError) || !NOT_ALLOWED.includes(-error.errno)) throw error;
    try {
      if (kind === "datagram") throw error;
      return open("raw");
    } catch (second) {
      if (!(second instanceof SystemError) || !NOT_ALLOWED.includes(-second.errno)) throw second;
      const either = kind === "datagram" ? "" : `; or without it: ${REMEDIES.raw()}`;
      throw new SystemError(error.errno, "socket", { hint: `${REMEDIES.ping()}${either}` });
    }
  }
}

// The sysctl says EACCES; a filter of system calls EPERM; a kernel without such sockets the last one.
const NOT_ALLOWED: readonly number[] = [EACCES, EPERM, EPROTONOSUPPORT];

function hostOnly(value: Address | string, isVersion6: boolean, verb: string): InetAddress {
  const address = toPortlessAddress(value);
  const given = address instanceof Inet6Address;
  if (given !== isVersion6) {
    const family = isVersion6 ? "an IPv6" : "an IPv4";
    throw new TypeError(`Cannot ${verb} ${address.host}: expected ${family} address`);
  }
  return address.port === 0 ? address : address.withPort(0);
}

/** One socket and its requests. */
export class Pinger {
  readonly family: "ipv4" | "ipv6";
  readonly kind: PingKind;
  readonly identifier: number;
  readonly #socket: Socket;
  readonly #descriptor: Descriptor;
  readonly #isVersion6: boolean;
  readonly #broadcasts: boolean;
  readonly #inFlight = new Map<number, Flight>();
  /** Those that do not wait any more, oldest first. */
  readonly #settled = new Map<number, Flight>();
  #lastSequence = 0;
  #isRef = true;
  /** The request whose call reads the socket now. */
  #reading: Flight | undefined;
  #memory = new Uint8Array(new ArrayBuffer(ROOM));
  readonly #message: Message;
  readonly #control: ControlReader;
  #sent = 0;
  #received = 0;
  #refused = 0;
  #duplicates = 0;
  #late = 0;
  #foreign = 0;

  constructor(socket: Socket, source: InetAddress | undefined, configure: () => void) {
    this.#socket = socket;
    this.#descriptor = descriptorOf(socket) as Descriptor;
    this.family = socket.family as "ipv4" | "ipv6";
    this.kind = socket.type as PingKind;
    this.#isVersion6 = this.family === "ipv6";
    socket.queueErrors = true;
    socket.setOption(SocketOption.timestampNs, true);
    if (this.#isVersion6) socket.setOption(Ipv6Option.receiveHopLimit, true);
    else socket.setOption(IpOption.receiveTtl, true);
    if (this.kind === "raw") this.#filter();
    configure();
    this.#broadcasts = socket.getOption(SocketOption.broadcast);
    this.identifier = this.#bind(source);
    this.#message = new Message({ vectors: this.#memory, controlBytes: CONTROL_BYTES });
    this.#control = new ControlReader(this.#message.control, 0);
  }

  #filter(): void {
    if (this.#isVersion6) this.#socket.setOption(Ipv6Option.icmpFilter, { pass: ["echoReply"] });
    else this.#socket.setOption(IpOption.icmpFilter, { pass: ["echoReply"] });
  }

  // A datagram socket has its identifier where others have their port.
  #bind(source: InetAddress | undefined): number {
    const unspecified = this.#isVersion6 ? Inet6Address.any : Inet4Address.any;
    if (this.kind === "datagram") {
      this.#socket.bind(source ?? unspecified);
      return (this.#socket.localAddress as InetAddress).port;
    }
    if (source) this.#socket.bind(source);
    return (crypto.getRandomValues(new Uint16Array(1))[0] as number) || 1;
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  get statistics(): PingStatistics {
    return Object.freeze({
      sent: this.#sent,
      received: this.#received,
      refused: this.#refused,
      duplicates: this.#duplicates,
      late: this.#late,
      foreign: this.#foreign,
    });
  }

  get isRef(): boolean {
    return this.#isRef;
  }

  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    if (isRef) this.#socket.ref();
    else this.#socket.unref();
  }

  close(): void {
    this.#socket.close();
  }

  ping(address: Address | string, options: PingOptions): Promise<PingReply> {
    const request = this.#check(address, options);
    const signal = requireSignal(options.signal);
    signal?.throwIfAborted();
    return this.launch(request, { signal }).promise as Promise<PingReply>;
  }

  pingSync(address: Address | string, options: PingSyncOptions): PingReply {
    const request = this.#check(address, options);
    const flight = this.#board(request, {});
    try {
      this.#socket.sendMessageSync(this.#toSend(flight, request.ttl), {
        timeoutMs: remaining(flight),
      });
      this.#sent++;
      for (let tries = 0; ; tries++) {
        this.#read(flight);
        if (flight.reply) return flight.reply;
        if (flight.error) throw flight.error;
        waitUntil(this.#descriptor.fd, POLLIN, flight.deadline, "recvmsg", undefined, tries);
      }
    } catch (error) {
      throw explained(error, flight);
    } finally {
      this.#retire(flight);
    }
  }

  series(address: Address | string, options: PingSeriesOptions): PingSeries {
    const request = this.#check(address, options);
    const { intervalMs = 1000, count = Number.POSITIVE_INFINITY, signal } = options;
    return new PingSeries(this, request, { intervalMs, count, signal: requireSignal(signal) });
  }

  #check(
    value: Address | string,
    options: PingRequest & { timeoutMs?: number | undefined },
  ): Request {
    const address = hostOnly(value, this.#isVersion6, "ping");
    const { payloadBytes = PAYLOAD_BYTES, ttl, timeoutMs = TIMEOUT_MS } = requireOptions(options);
    const most = this.#isVersion6 ? PAYLOAD_BYTES_MAX_6 : PAYLOAD_BYTES_MAX;
    requireInteger(payloadBytes, 0, most, "payloadBytes");
    if (ttl !== undefined) requireInteger(ttl, 1, TTL_MAX, "ttl");
    deadlineAfter(timeoutMs);
    return { address, payloadBytes, ttl, timeoutMs };
  }

  /** Makes a request and begins to wait for its answer. */
  launch(request: Request, options: Launch): Launched {
    const flight = this.#board(request, options);
    return {
      sequence: flight.sequence,
      promise: this.#fly(flight, request.ttl),
      giveUp: () => this.#giveUp(flight),
    };
  }

  // Gives it a number.
  #board({ address, payloadBytes, timeoutMs }: Request, { signal, onReply }: Launch): Flight {
    if (this.closed) throw new ClosedError("sendmsg");
    const sequence = this.#nextSequence(address);
    // The kernel is asked now, so that an unknown zone is told at once.
    if (address instanceof Inet6Address) address.resolveScope();
    const flight: Flight = {
      sequence,
      address,
      host: hostOf(address),
      isForMany: this.#broadcasts || address.isMulticast || address.isUnspecified,
      packet: makeRequest(this.#isVersion6, this.identifier, sequence, payloadBytes),
      signal,
      deadline: deadlineAfter(timeoutMs),
      timeoutMs,
      sentAt: 0,
      sentSeconds: 0,
      sentNanoseconds: 0,
      isGivenUp: false,
      onReply,
    };
    this.#makeRoom(payloadBytes);
    this.#settled.delete(sequence);
    this.#inFlight.set(sequence, flight);
    return flight;
  }

  #nextSequence(address: InetAddress): number {
    while (this.#inFlight.size < SEQUENCES) {
      this.#lastSequence = (this.#lastSequence + 1) % SEQUENCES;
      if (!this.#inFlight.has(this.#lastSequence)) return this.#lastSequence;
    }
    const hint = `${SEQUENCES} requests wait already, and ICMP has no more numbers: open another socket`;
    throw new SystemError(ENOBUFS, "sendmsg", { ...placeOf(address), hint });
  }

  #makeRoom(payloadBytes: number): void {
    const bytes = IPV4_HEADER_MAX + ECHO_HEADER + payloadBytes;
    if (bytes <= this.#memory.length) return;
    this.#memory = new Uint8Array(new ArrayBuffer(bytes));
    this.#message.vectors = this.#memory;
  }

  #toSend(flight: Flight, ttl: number | undefined): Message {
    const controlBytes = ttl === undefined ? 0 : TTL_CONTROL;
    const { packet: vectors, address } = flight;
    const message = new Message({ vectors, address, controlBytes });
    if (ttl !== undefined) message.writer.addTtl(ttl, this.family);
    this.#stamp(flight);
    return message;
  }

  #stamp(flight: Flight): void {
    flight.sentAt = performance.now();
    const result = clock_gettime(CLOCK_REALTIME, clock);
    // Without it the other clock tells.
    flight.sentSeconds = result < 0 ? Number.NaN : timespec.tv_sec.get(clock, 0);
    flight.sentNanoseconds = timespec.tv_nsec.get(clock, 0);
  }

  async #fly(flight: Flight, ttl: number | undefined): Promise<PingReply | undefined> {
    try {
      const message = this.#toSend(flight, ttl);
      if (this.#socket.trySendMessage(message) === undefined) {
        const { signal } = flight;
        await this.#socket.sendMessage(message, { signal, timeoutMs: remaining(flight) });
        // Of what waited in between, nothing is known.
        this.#stamp(flight);
      }
      this.#sent++;
      if (flight.isGivenUp) return undefined;
      await this.#landing(flight);
    } catch (error) {
      // It may have been read while the time ran out.
      if (!flight.reply && !flight.error) {
        this.#retire(flight);
        throw explained(error, flight);
      }
    }
    this.#retire(flight);
    if (flight.error) throw flight.error;
    return flight.reply;
  }

  #landing(flight: Flight): Promise<Flight> {
    const call = {
      syscall: "recvmsg",
      attempt: () => {
        this.#read(flight);
        return isDone(flight) ? flight : undefined;
      },
      late: () => {
        // The thread may have been busy for longer than this was to wait, and the answer here.
        if (!this.closed) this.#read(flight);
        return { ...placeOf(flight.address), timeoutMs: flight.timeoutMs };
      },
    };
    const { deadline, signal } = flight;
    return loadPoller().perform(this.#descriptor, EPOLLIN, call, deadline, signal, (waiter) => {
      if (waiter.line) flight.waiter = waiter;
    });
  }

  #giveUp(flight: Flight): void {
    flight.isGivenUp = true;
    this.#retire(flight);
    this.#finish(flight);
  }

  #retire(flight: Flight): void {
    if (this.#inFlight.get(flight.sequence) !== flight) return;
    this.#inFlight.delete(flight.sequence);
    this.#settled.set(flight.sequence, flight);
    if (this.#settled.size <= SETTLED_MAX) return;
    for (const [oldest] of this.#settled) {
      this.#settled.delete(oldest);
      return;
    }
  }

  // Whoever reads the socket answers for all; its own call is answered by what it returns.
  #finish(flight: Flight): void {
    const { waiter } = flight;
    if (!waiter?.line || flight === this.#reading) return;
    loadPoller().leave(waiter);
    waiter.finish(flight);
  }

  /** Reads what has come, for all requests. */
  #read(flight: Flight): void {
    this.#reading = flight;
    try {
      for (let i = 0; i < READ_MAX; i++) {
        const length = this.#socket.tryReceiveMessage(this.#message);
        if (length === undefined) break;
        this.#hear(length);
      }
      for (let i = 0; i < READ_MAX; i++) {
        const entry = this.#socket.tryReceiveError();
        if (!entry) break;
        this.#hearOfRefusal(entry);
      }
    } finally {
      this.#reading = undefined;
    }
  }

  #hear(length: number): void {
    const isRawIpv4 = this.kind === "raw" && !this.#isVersion6;
    const start = isRawIpv4 ? behindIpv4Header(this.#memory, length) : 0;
    const { identifier } = this;
    const sequence = replySequence(
      this.#memory,
      start,
      length,
      this.#isVersion6,
      identifier,
      isRawIpv4,
    );
    const flight = this.#inFlight.get(sequence) ?? this.#settled.get(sequence);
    const address = this.#message.address as InetAddress | undefined;
    const isAnswer =
      flight !== undefined &&
      address !== undefined &&
      flight.sentAt !== 0 &&
      isFrom(address, flight) &&
      repeatsPayload(this.#memory, start, length, flight.packet);
    if (!isAnswer) {
      this.#foreign++;
      return;
    }
    this.#land(flight, address);
  }

  #land(flight: Flight, address: InetAddress): void {
    if (flight.reply) {
      this.#duplicates++;
      flight.onReply?.(this.#replyOf(flight, address, true));
      return;
    }
    // A node may refuse it, and another one answer: what was said first counts.
    if (isDone(flight) || this.#inFlight.get(flight.sequence) !== flight) {
      this.#late++;
      return;
    }
    flight.reply = this.#replyOf(flight, address, false);
    this.#received++;
    this.#retire(flight);
    flight.onReply?.(flight.reply);
    this.#finish(flight);
  }

  #replyOf(flight: Flight, address: InetAddress, duplicate: boolean): PingReply {
    const elapsedMs = performance.now() - flight.sentAt;
    const control = this.#control;
    control.reset(this.#message.control, this.#message.controlLength);
    let ttl = 0;
    let roundTripMs = elapsedMs;
    while (control.next()) {
      if (control.kind === "ttl") ttl = control.ttl;
      if (control.kind !== "timestamp") continue;
      const measuredMs =
        (control.seconds - flight.sentSeconds) * 1000 +
        (control.nanoseconds - flight.sentNanoseconds) / 1e6;
      // Somebody may have set the clock meanwhile.
      if (measuredMs >= 0 && measuredMs <= elapsedMs) roundTripMs = measuredMs;
    }
    const { sequence } = flight;
    const payloadBytes = flight.packet.length - ECHO_HEADER;
    return Object.freeze({ address, sequence, roundTripMs, ttl, payloadBytes, duplicate });
  }

  #hearOfRefusal(entry: QueuedError): void {
    if (entry.kind !== "icmp" && entry.kind !== "pathMtu") return;
    const sequence = quotedSequence(entry.payload, this.#isVersion6, this.identifier);
    const flight = this.#inFlight.get(sequence);
    const isOurs =
      flight !== undefined &&
      flight.sentAt !== 0 &&
      !isDone(flight) &&
      entry.destination !== undefined &&
      isTo(entry.destination, flight) &&
      quotesPayload(entry.payload, flight.packet);
    if (!isOurs) {
      // What this host refuses itself, the send has said.
      if (entry.kind === "icmp" || entry.offender) this.#foreign++;
      return;
    }
    flight.error = refusal(entry, flight);
    this.#refused++;
    this.#retire(flight);
    this.#finish(flight);
  }
}

function isDone(flight: Flight): boolean {
  return flight.reply !== undefined || flight.error !== undefined || flight.isGivenUp;
}

function remaining({ deadline }: Flight): number {
  return Math.max(deadline - performance.now(), 0);
}

function isFrom(address: InetAddress, flight: Flight): boolean {
  return flight.isForMany || isTo(address, flight);
}

function isTo(address: InetAddress, { host }: Flight): boolean {
  return hostOf(address) === host;
}

// Without the zone, of which the kernel tells the index, and the caller often the name.
function hostOf({ host }: InetAddress): string {
  const at = host.indexOf("%");
  return at < 0 ? host : host.slice(0, at);
}

// Without the port, which means nothing.
function placeOf(address: InetAddress): SystemErrorDetails {
  const { host } = address;
  return { address: { host, toString: () => host }, sending: true };
}

function refusal(entry: IcmpError | PathMtuError, flight: Flight): SystemError {
  const code = entry.kind === "icmp" ? entry.code : errorName(EMSGSIZE);
  const errno = ICMP_ERRORS.find((number) => errorName(number) === code) ?? EHOSTUNREACH;
  return new SystemError(errno, "sendmsg", {
    ...placeOf(flight.address),
    offender: entry.offender?.host,
    reason: entry.kind === "icmp" ? entry.reason : `the path carries ${entry.mtu} bytes`,
    cause: entry,
  });
}

/** An error of the socket as one of the request: with where it was to go. */
function explained(error: unknown, flight: Flight): unknown {
  if (!(error instanceof SystemError) || error.offender !== undefined) return error;
  const { errno, syscall, hint } = error;
  const place = placeOf(flight.address);
  if (error instanceof TimeoutError)
    return new TimeoutError(syscall, { ...place, timeoutMs: flight.timeoutMs });
  if (error instanceof ClosedError) return error;
  return new SystemError(errno, syscall, { ...place, hint });
}
