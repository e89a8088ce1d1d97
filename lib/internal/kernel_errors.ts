/**
 * The error queue of an open socket, fetched from the kernel into a queue of ours: there it does not
 * take the room of datagrams that come, and neither fails a call nor wakes anybody twice.
 *
 * @module
 */
import { ECONNREFUSED, EINTR, EINVAL, EMSGSIZE } from "../../structs/constants/errno.ts";
import {
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_OPT_TSONLY,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_ACK,
  SOF_TIMESTAMPING_TX_SCHED,
  SOF_TIMESTAMPING_TX_SOFTWARE,
} from "../../structs/constants/linux_net_tstamp.ts";
import {
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
} from "../../structs/constants/netinet_in.ts";
import { EPOLLERR } from "../../structs/constants/sys_epoll.ts";
import {
  AF_INET6,
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  SO_TIMESTAMPING,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { iovec } from "../../structs/iovec.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import { type CancelSignal, check } from "../error.ts";
import type { QueuedError, TransmitTimestamp } from "../error_queue.ts";
import { addressOf } from "../ffi/memory.ts";
import { errorName } from "../sys/errno.ts";
import { getsockopt, recvmsg, setsockopt } from "../sys/socket.ts";
import { describe } from "./arguments.ts";
import { waitUntil } from "./deadline.ts";
import type { Descriptor } from "./descriptor.ts";
import { decodeQueued, ICMP_ERRORS, inetAddressAt } from "./extended_error.ts";
import { loadPoller } from "./lazy_poller.ts";
import { SOF_TIMESTAMPING_OPT_ID_TCP } from "./option_constants.ts";
import type { End, PromisedCall } from "./wait_line.ts";
import type { ZeroCopy } from "./zero_copy.ts";

/** Entries that wait to be received. */
const QUEUED_MAX = 1024;
/** Entries fetched at once: what is left makes the next event, or fails the next call. */
const DRAINED_MAX = 1024;
/** Datagrams sent after which they are fetched: the usual receive buffer holds 255 entries. */
const UNFETCHED_MAX = 32;
/** How often one call is tried again because of errors that are not its own. */
const TRIES_MAX = 1024;

// Where the kernel writes an entry. What an ICMP message quotes is shorter than the smallest MTU of
// IPv6, and timestamps come without their packet.
const NAME = msghdr.size + iovec.size;
const CONTROL = NAME + sockaddr_storage.size;
const CONTROL_BYTES = 512;
const PAYLOAD = CONTROL + CONTROL_BYTES;
const PAYLOAD_BYTES = 2048;
const memory = new ArrayBuffer(PAYLOAD + PAYLOAD_BYTES);
const header = new DataView(memory);
const control = new DataView(memory, CONTROL, CONTROL_BYTES);

/** How an entry is waited for. */
export interface Take<Result> {
  /** Makes the answer of an entry. */
  wrap(error: QueuedError): Result;
  /** The answer when the socket is closed or given away, where that is no error. */
  ended?(how: End): Result | undefined;
  readonly deadline: number;
  readonly signal: CancelSignal | undefined;
  /** Gets the waiter, when it has to wait. */
  onWait?(waiter: PromisedCall<Result>): void;
}

/** The queued errors of an open socket: one for all sockets of this thread that share it. */
export class KernelErrors {
  /** Whether errors of the network are queued: then they fail no call. */
  isQueueing = false;
  /** Entries that had no room. */
  dropped = 0;
  /** Its sends without a copy, once there was one. */
  zeroCopy: ZeroCopy | undefined;
  /** Whether completions are for somebody beside their leases. */
  #showsCompletions = false;
  /** Datagrams that were sent since entries were fetched. */
  #unfetched = 0;
  readonly #queue: QueuedError[] = [];
  /** Who waits, in order: each can be given an entry. */
  readonly #takers = new Set<(error: QueuedError) => void>();

  /** How many entries nobody has received. */
  get queued(): number {
    return this.#queue.length;
  }

  /** The most entries that wait. */
  get queuedMax(): number {
    return QUEUED_MAX;
  }

  /**
   * Fetches what the kernel has queued, and gives it to those who wait for it. Never throws.
   *
   * @param of asks after an errno: returns whether some entries are why a call fails with it that has
   * done nothing, and none says that it was the call itself
   */
  drain(fd: number, of = 0): "foreign" | "own" | "none" {
    const found = this.#fetch(fd, of);
    this.#serve();
    return found;
  }

  /** Says how many datagrams were sent: after some the kernel would have no room for more entries. */
  countSent(fd: number, datagrams: number): void {
    this.#unfetched += datagrams;
    if (this.#unfetched >= UNFETCHED_MAX) this.drain(fd);
  }

  #fetch(fd: number, of: number): "foreign" | "own" | "none" {
    let found: "foreign" | "own" | "none" = "none";
    this.#unfetched = 0;
    for (let i = 0; i < DRAINED_MAX; i++) {
      const error = fetchError(fd);
      if (error === undefined) break;
      if (error.kind === "zeroCopy") {
        this.zeroCopy?.complete(error.first, error.last, error.copied);
        if (!this.#showsCompletions && !this.isQueueing) continue;
      }
      if (of !== 0) {
        const isOwnError = isOwn(error, of);
        // sendmmsg(2) that stops at a datagram is called again with it, and it fails twice.
        if (isOwnError && found === "own") continue;
        if (isOwnError) found = "own";
        else if (found === "none" && isForeign(error)) found = "foreign";
      }
      if (this.#queue.length < QUEUED_MAX) this.#queue.push(error);
      else this.dropped++;
    }
    return found;
  }

  #serve(): void {
    for (const take of this.#takers) {
      const error = this.#queue.shift();
      if (error === undefined) return;
      this.#takers.delete(take);
      take(error);
    }
  }

  /**
   * Whether a call has failed for something that happened to an earlier datagram, so that it is to be
   * tried again.
   *
   * @param result what it returned: `-errno`
   * @param tries how often it was tried before
   */
  passes(fd: number, result: number, tries: number): boolean {
    if (!this.isQueueing || tries >= TRIES_MAX || !ICMP_ERRORS.includes(-result)) return false;
    const found = this.drain(fd, -result);
    // The kernel queues an error and then makes it pending: between the two somebody may have fetched
    // it. Nor is there always room in the queue.
    return found === "foreign" || (found === "none" && (tries === 0 || result === -ECONNREFUSED));
  }

  /** The first entry, or undefined. */
  shift(fd: number): QueuedError | undefined {
    const error = this.#next(fd);
    this.#serve();
    return error;
  }

  #next(fd: number): QueuedError | undefined {
    this.#showsCompletions = true;
    if (this.#queue.length === 0) this.#fetch(fd, 0);
    return this.#queue.shift();
  }

  /** Waits for an entry. */
  take<Result>(descriptor: Descriptor, options: Take<Result>): Promise<Result> {
    let waiter: PromisedCall<Result> | undefined;
    const give = (error: QueuedError) => {
      if (!waiter) return;
      loadPoller().leave(waiter);
      waiter.finish(options.wrap(error));
    };
    const { ended, deadline, signal } = options;
    const call = {
      syscall: "recvmsg",
      attempt: () => {
        const error = this.#next(descriptor.fd);
        if (error === undefined) return undefined;
        // It is answered by what it returns; the rest is for the others.
        this.#takers.delete(give);
        this.#serve();
        return options.wrap(error);
      },
      ...(ended && { ended }),
      settled: () => void this.#takers.delete(give),
    };
    return loadPoller().perform(descriptor, EPOLLERR, call, deadline, signal, (waiting) => {
      waiter = waiting;
      if (!waiting.line) return;
      this.#takers.add(give);
      options.onWait?.(waiting);
    });
  }

  /** Waits for an entry, and blocks the thread. */
  takeSync(descriptor: Descriptor, deadline: number): QueuedError {
    for (let tries = 0; ; tries++) {
      const error = this.shift(descriptor.fd);
      if (error !== undefined) return error;
      // poll(2) reports errors whatever it is asked for.
      waitUntil(descriptor.fd, 0, deadline, "recvmsg", undefined, tries);
    }
  }

  /** Fetches what tells that the kernel is done with memory: nobody can any more when all is closed. */
  settle(fd: number): void {
    if (this.zeroCopy && this.zeroCopy.outstanding > 0) this.drain(fd);
  }

  /** Says that the last of the sockets was closed or given away. */
  end(): void {
    this.zeroCopy?.end();
  }
}

// Whether it tells that this very call has failed.
function isOwn(error: QueuedError, errno: number): boolean {
  if (error.kind === "pathMtu") return !error.offender && errno === EMSGSIZE;
  return error.kind === "local" && error.code === errorName(errno);
}

// Whether it tells of a datagram that had left.
function isForeign(error: QueuedError): boolean {
  return error.kind === "icmp" || (error.kind === "pathMtu" && error.offender !== undefined);
}

// One entry, or undefined where there is none, or the descriptor is none.
function fetchError(fd: number): QueuedError | undefined {
  for (;;) {
    const base = addressOf(memory);
    iovec.iov_base.set(header, msghdr.size, base + PAYLOAD);
    iovec.iov_len.set(header, msghdr.size, PAYLOAD_BYTES);
    msghdr.msg_iov.set(header, 0, base + msghdr.size);
    msghdr.msg_iovlen.set(header, 0, 1);
    msghdr.msg_name.set(header, 0, base + NAME);
    msghdr.msg_namelen.set(header, 0, sockaddr_storage.size);
    msghdr.msg_control.set(header, 0, base + CONTROL);
    msghdr.msg_controllen.set(header, 0, CONTROL_BYTES);
    msghdr.msg_flags.set(header, 0, 0);
    const result = recvmsg(fd, header, MSG_ERRQUEUE | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (result === -EINTR) continue;
    if (result < 0) return undefined;
    const nameLength = Math.min(msghdr.msg_namelen.get(header, 0), sockaddr_storage.size);
    const payload = memory.slice(PAYLOAD, PAYLOAD + Math.min(result, PAYLOAD_BYTES));
    return decodeQueued(control, msghdr.msg_controllen.get(header, 0), {
      destination: inetAddressAt(header, NAME, nameLength),
      payload: new Uint8Array(payload),
    });
  }
}

const value = new Int32Array(new ArrayBuffer(4));
const valueLength = new Uint32Array(new ArrayBuffer(4));

/** Has the errors of a datagram or raw socket queued, or not any more. */
export function queueErrors(
  errors: KernelErrors,
  fd: number,
  domain: number,
  isQueueing: boolean,
): void {
  // The kernel throws away what is queued when it is switched off.
  if (!isQueueing) errors.drain(fd);
  value[0] = Number(isQueueing);
  const option = domain === AF_INET6 ? "IPV6_RECVERR" : "IP_RECVERR";
  const result =
    domain === AF_INET6
      ? setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, value)
      : setsockopt(fd, IPPROTO_IP, IP_RECVERR, value);
  check(result, "setsockopt", { option });
  // Those of mapped addresses. A raw IPv6 socket has none, and says so.
  if (domain === AF_INET6) setsockopt(fd, IPPROTO_IP, IP_RECVERR, value);
  errors.isQueueing = isQueueing;
}

type What = TransmitTimestamp["what"];

const STAMP_BITS: Readonly<Record<What, number>> = {
  scheduled: SOF_TIMESTAMPING_TX_SCHED,
  sent: SOF_TIMESTAMPING_TX_SOFTWARE,
  acknowledged: SOF_TIMESTAMPING_TX_ACK,
};
const STAMPS = Object.keys(STAMP_BITS) as readonly What[];
const ALL_STAMPS = STAMPS.reduce((bits, what) => bits | STAMP_BITS[what], 0);
// That there is one at all is told by SOFTWARE, which receive timestamps need too.
const WITH_STAMPS = SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;

/** Which transmit timestamps an open socket queues. */
export function transmitTimestamps(fd: number): readonly What[] {
  const bits = timestamping(fd);
  return Object.freeze(STAMPS.filter((what) => bits & STAMP_BITS[what]));
}

function timestamping(fd: number): number {
  const result = getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, value, valueLength);
  check(result, "getsockopt", { option: "SO_TIMESTAMPING" });
  return value[0] as number;
}

/** Chooses them. Receive timestamps stay as they are. */
export function setTransmitTimestamps(
  descriptor: Descriptor,
  isStream: boolean,
  whats: Iterable<What>,
): void {
  const asked = bitsOf(whats, isStream);
  const { fd } = descriptor;
  const kept = timestamping(fd) & ~(ALL_STAMPS | WITH_STAMPS | SOF_TIMESTAMPING_OPT_ID_TCP);
  if (asked === 0) {
    check(setTimestamping(fd, kept), "setsockopt", { option: "SO_TIMESTAMPING" });
    return;
  }
  const bits = kept | asked | WITH_STAMPS | SOF_TIMESTAMPING_SOFTWARE;
  let result = setTimestamping(fd, isStream ? bits | SOF_TIMESTAMPING_OPT_ID_TCP : bits);
  // Before Linux 6.2 bytes of a stream count from the first one that is not acknowledged.
  if (result === -EINVAL && isStream) result = setTimestamping(fd, bits);
  check(result, "setsockopt", { option: "SO_TIMESTAMPING" });
}

function bitsOf(whats: Iterable<What>, isStream: boolean): number {
  // No view: one of detached memory cannot be iterated.
  const isList = whats instanceof Object && Symbol.iterator in whats && !ArrayBuffer.isView(whats);
  if (!isList)
    throw new TypeError(`Cannot use ${describe(whats)} as transmitTimestamps: expected an array`);
  let bits = 0;
  for (const what of whats) {
    if (typeof what !== "string" || !Object.hasOwn(STAMP_BITS, what)) {
      const told = typeof what === "string" ? JSON.stringify(what) : describe(what);
      const known = STAMPS.map((name) => `"${name}"`).join(", ");
      throw new TypeError(`Cannot use ${told} as a transmit timestamp: expected ${known}`);
    }
    if (what === "acknowledged" && !isStream)
      throw new TypeError(`Cannot stamp datagrams as acknowledged: expected a TCP socket`);
    bits |= STAMP_BITS[what];
  }
  return bits;
}

function setTimestamping(fd: number, bits: number): number {
  value[0] = bits;
  return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, value);
}
