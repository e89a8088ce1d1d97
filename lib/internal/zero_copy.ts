/**
 * Sends without a copy (`MSG_ZEROCOPY`): which memory the kernel has, until its notice comes in the
 * error queue.
 *
 * @module
 */
import { EAGAIN, EINTR, ENOBUFS } from "../../structs/constants/errno.ts";
import { POLLOUT } from "../../structs/constants/poll.ts";
import { EPOLLERR, EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import {
  AF_INET6,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_ZEROCOPY,
  SO_ZEROCOPY,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { type Address, addressBytes, toAddress } from "../address.ts";
import { ClosedError, systemError, tooLongHint } from "../error.ts";
import { byteLengthOf, bytesOf } from "../ffi/memory.ts";
import type { TimeoutOptions } from "../socket.ts";
import { send, sendto, setsockopt } from "../sys/socket.ts";
import type {
  ZeroCopyLease,
  ZeroCopyOptions,
  ZeroCopyOutcome,
  ZeroCopyState,
  ZeroCopyTryOptions,
  ZeroCopyWaitOptions,
} from "../zero_copy.ts";
import { requireFlags, requireOptions, requireView, toView } from "./arguments.ts";
import { deadlineAfter, deadlineOf, waitUntil } from "./deadline.ts";
import type { Descriptor } from "./descriptor.ts";
import type { KernelErrors } from "./kernel_errors.ts";
import { loadPoller } from "./lazy_poller.ts";
import { readLimits } from "./stream_call.ts";
import { endError, type PromisedCall } from "./wait_line.ts";

/** Sends in a row of which the kernel has copied the data: then it is not tried any more. */
const COPIED_MAX = 8;
// How long the memory is kept of which a socket that was closed leaves open what becomes: for as long
// as TCP goes on trying by its default (tcp_retries2), and for a datagram in the queue of a device.
const STREAM_KEPT_MS = 16 * 60_000;
const DATAGRAM_KEPT_MS = 60_000;
/** How much of it, and how often is looked whose time is over. */
const KEPT_BYTES_MAX = 64 * 2 ** 20;
const SWEEP_MS = 1000;
const PAGE = 4096;
const HALF = 2 ** 31;

const value = new Int32Array(new ArrayBuffer(4));

const COPIED: ZeroCopyOutcome = Object.freeze({ copied: true });
const UNCOPIED: ZeroCopyOutcome = Object.freeze({ copied: false });

/** What one send has lent to the kernel. */
class Loan {
  /** Holds the memory while the kernel has it. */
  view: ArrayBufferView | undefined;
  outcome: ZeroCopyOutcome | undefined;
  /** Those who wait for its end. */
  readonly waiters = new Set<PromisedCall<ZeroCopyOutcome>>();

  /** That of a plain send. */
  static readonly ofNothing: Loan = new Loan(undefined);

  constructor(view: ArrayBufferView | undefined) {
    this.view = view;
    if (!view) this.outcome = COPIED;
  }

  end(copied: boolean): void {
    this.view = undefined;
    this.outcome = copied ? COPIED : UNCOPIED;
    for (const waiter of this.waiters) {
      loadPoller().leave(waiter);
      waiter.finish(this.outcome);
    }
    this.waiters.clear();
  }
}

/**
 * Memory of which nobody will say when the kernel is done with it: it is kept for some time. The
 * kernel holds the pages itself, so that letting go too early harms nobody but the peer, who may get
 * what is written there then. Hence the limit, over which the oldest go first.
 */
export class KeptMemory {
  readonly #bytesMax: number;
  readonly #sweepMs: number;
  /** Until when, by what the views are of. The oldest first. */
  readonly #kept = new Map<ArrayBufferLike, { readonly bytes: number; readonly until: number }>();
  #bytes = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(bytesMax: number, sweepMs: number) {
    this.#bytesMax = bytesMax;
    this.#sweepMs = sweepMs;
  }

  /** How many bytes are kept, in whole pages: that is what the kernel holds of small ones, too. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Keeps all of the memory that a view is of. */
  keep({ buffer }: ArrayBufferView, ms: number): void {
    const before = this.#kept.get(buffer)?.until ?? 0;
    this.#drop(buffer);
    const bytes = Math.ceil(buffer.byteLength / PAGE) * PAGE;
    const until = Math.max(before, performance.now() + ms);
    this.#kept.set(buffer, { bytes, until });
    this.#bytes += bytes;
    for (const oldest of this.#kept.keys()) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#drop(oldest);
    }
    this.#schedule();
  }

  #drop(buffer: ArrayBufferLike): void {
    this.#bytes -= this.#kept.get(buffer)?.bytes ?? 0;
    this.#kept.delete(buffer);
  }

  #schedule(): void {
    if (this.#timer || this.#kept.size === 0) return;
    this.#timer = setTimeout(this.#sweep, this.#sweepMs);
    this.#timer.unref();
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    const now = performance.now();
    for (const [buffer, { until }] of this.#kept) if (until <= now) this.#drop(buffer);
    this.#schedule();
  };
}

/** What closed sockets of this thread have left behind. */
export const leftBehind: KeptMemory = new KeptMemory(KEPT_BYTES_MAX, SWEEP_MS);

/** The sends without a copy of an open socket. */
export class ZeroCopy {
  sends = 0;
  copied = 0;
  fallbacks = 0;
  reason: ZeroCopyState["reason"];
  readonly isStream: boolean;
  /** What the kernel has, by the numbers of the sends. */
  readonly #loans = new Map<number, Loan>();
  /** The number that the kernel gives the next send: of 32 bits. */
  #next = 0;
  #copiedInRow = 0;
  #isOn = false;
  #isOff = false;

  constructor(isStream: boolean) {
    this.isStream = isStream;
  }

  /** Whether the next send is tried without a copy, where nobody else can reach the open socket. */
  get isEnabled(): boolean {
    return !this.#isOff;
  }

  get outstanding(): number {
    return this.#loans.size;
  }

  /** Why the next send has to be a plain one, or undefined. */
  refusal(fd: number, isShared: boolean, byteLength: number): ZeroCopyState["reason"] {
    if (this.#isOff) return this.reason;
    if (isShared) return "shared";
    // The kernel counts no send of nothing.
    if (byteLength === 0) return "empty";
    if (this.#switchOn(fd)) return undefined;
    this.#isOff = true;
    this.reason = "unsupported";
    return this.reason;
  }

  /** Says that a send was made as a plain one. */
  fellBack(reason: ZeroCopyState["reason"]): Loan {
    this.fallbacks++;
    this.reason = reason;
    return Loan.ofNothing;
  }

  #switchOn(fd: number): boolean {
    if (this.#isOn) return true;
    value[0] = 1;
    this.#isOn = setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, value) === 0;
    // Of one that was closed nothing is learnt.
    return this.#isOn || fd < 0;
  }

  /** Notes what the kernel has now. */
  lend(view: ArrayBufferView): Loan {
    const loan = new Loan(view);
    this.#loans.set(this.#next, loan);
    this.#next = (this.#next + 1) >>> 0;
    this.sends++;
    return loan;
  }

  /** Takes a notice of the kernel: it is done with these sends. */
  complete(first: number, last: number, copied: boolean): void {
    const count = ((last - first) >>> 0) + 1;
    // A send that fails may have been counted, and then there is a notice of it.
    if ((last - this.#next) >>> 0 < HALF) this.#next = (last + 1) >>> 0;
    let ended = 0;
    const end = (id: number, loan: Loan) => {
      this.#loans.delete(id);
      loan.end(copied);
      ended++;
    };
    if (count <= this.#loans.size)
      for (let i = 0; i < count; i++) {
        const id = (first + i) >>> 0;
        const loan = this.#loans.get(id);
        if (loan) end(id, loan);
      }
    else for (const [id, loan] of this.#loans) if ((id - first) >>> 0 < count) end(id, loan);
    this.#learn(ended, copied);
  }

  #learn(ended: number, copied: boolean): void {
    if (copied) this.copied += ended;
    this.#copiedInRow = copied ? this.#copiedInRow + ended : 0;
    if (this.#copiedInRow < COPIED_MAX) return;
    this.#isOff = true;
    this.reason = "copied";
  }

  /** Says that no notice will come any more. The kernel may still read the memory. */
  end(): void {
    this.#isOff = true;
    if (this.#loans.size === 0) return;
    const ms = this.isStream ? STREAM_KEPT_MS : DATAGRAM_KEPT_MS;
    for (const loan of this.#loans.values()) {
      if (loan.view) leftBehind.keep(loan.view, ms);
      // Whoever has the lease does not keep it any longer than that.
      loan.view = undefined;
    }
    this.#loans.clear();
  }
}

/** A socket that sends without a copy. */
export interface ZeroCopySender {
  readonly descriptor: Descriptor;
  /** An `AF_` constant. */
  readonly domain: number;
  readonly errors: KernelErrors;
  /** Whether others can reach the open socket. */
  isShared(): boolean;
}

const INSPECT = Symbol.for("nodejs.util.inspect.custom");

class Lease implements ZeroCopyLease {
  readonly bytes: number;
  readonly #loan: Loan;
  readonly #sender: ZeroCopySender;
  #promise: Promise<ZeroCopyOutcome> | undefined;

  constructor(bytes: number, loan: Loan, sender: ZeroCopySender) {
    this.bytes = bytes;
    this.#loan = loan;
    this.#sender = sender;
  }

  get released(): boolean {
    const { fd } = this.#sender.descriptor;
    if (!this.#loan.outcome && fd >= 0) this.#sender.errors.drain(fd);
    return this.#loan.outcome !== undefined;
  }

  /** How console.log shows it: without asking the kernel. */
  [INSPECT](): string {
    if (!(#loan in this)) return "ZeroCopyLease";
    const { outcome } = this.#loan;
    const state = outcome ? `released${outcome.copied ? ", copied" : ""}` : "not released yet";
    return `ZeroCopyLease, ${this.bytes} bytes, ${state}`;
  }

  get whenReleased(): Promise<ZeroCopyOutcome> {
    this.#promise ??= this.#wait();
    return this.#promise;
  }

  #wait(): Promise<ZeroCopyOutcome> {
    const { descriptor } = this.#sender;
    const loan = this.#loan;
    const { outcome } = loan;
    if (outcome) return Promise.resolve(outcome);
    let waiter: PromisedCall<ZeroCopyOutcome> | undefined;
    const call = {
      syscall: "recvmsg",
      attempt: () => {
        // One that tries is answered by what it returns.
        if (waiter) loan.waiters.delete(waiter);
        const now = this.#outcome();
        if (!now && waiter) loan.waiters.add(waiter);
        return now;
      },
      settled: () => {
        if (waiter) loan.waiters.delete(waiter);
      },
    };
    const deadline = Number.POSITIVE_INFINITY;
    return loadPoller().perform(descriptor, EPOLLERR, call, deadline, undefined, (waiting) => {
      if (!waiting.line) return;
      waiter = waiting;
      loan.waiters.add(waiting);
    });
  }

  #outcome(): ZeroCopyOutcome | undefined {
    if (this.released) return this.#loan.outcome;
    const { ended } = this.#sender.descriptor;
    if (ended) throw endError(ended, "recvmsg", {});
    return undefined;
  }

  waitSync(options?: TimeoutOptions): ZeroCopyOutcome {
    const deadline = deadlineOf(options);
    for (let tries = 0; ; tries++) {
      const outcome = this.#outcome();
      if (outcome) return outcome;
      waitUntil(this.#sender.descriptor.fd, 0, deadline, "recvmsg", undefined, tries);
    }
  }
}

const FLAGS = MSG_CONFIRM | MSG_DONTROUTE | MSG_DONTWAIT | MSG_NOSIGNAL;

/** What is to be sent, and where to: read once, and checked. */
interface Outgoing {
  readonly view: ArrayBufferView;
  readonly destination: Address | undefined;
  readonly flags: number;
}

function prepare(
  { descriptor, domain, errors }: ZeroCopySender,
  data: ArrayBufferView | ArrayBuffer,
  to: Address | string | undefined,
  flags: number | undefined,
): Outgoing {
  const destination = to === undefined ? undefined : toAddress(to, domain);
  const all = requireFlags(flags, errors.zeroCopy?.isStream ? FLAGS | MSG_MORE : FLAGS);
  // In memory that stays where it is: a small view moves until its buffer was asked for.
  const view = bytesOf(toView(data, "data"));
  if (descriptor.fd < 0) throw new ClosedError(destination ? "sendto" : "send");
  return { view, destination, flags: all | MSG_DONTWAIT | MSG_NOSIGNAL };
}

/** A string as UTF-8, in memory of its own. */
function toBytes(data: ArrayBufferView | ArrayBuffer | string): ArrayBufferView | ArrayBuffer {
  return typeof data === "string" ? new TextEncoder().encode(data) : data;
}

/** Sends, or returns undefined when there is no room. */
function attempt(
  sender: ZeroCopySender,
  { view, destination, flags }: Outgoing,
): Lease | undefined {
  const { descriptor, errors } = sender;
  requireView(view, "data");
  const { fd } = descriptor;
  const zeroCopy = errors.zeroCopy as ZeroCopy;
  // Where it was copied eight times in a row is known when the notices are read.
  if (zeroCopy.outstanding > 0) errors.drain(fd);
  let refusal = zeroCopy.refusal(fd, sender.isShared(), byteLengthOf(view));
  const bytes = destination && addressBytes(destination);
  for (let tries = 0; ; tries++) {
    const all = refusal ? flags : flags | MSG_ZEROCOPY;
    const result = bytes ? sendto(fd, view, all, bytes) : send(fd, view, all);
    if (result >= 0) {
      const loan = refusal ? zeroCopy.fellBack(refusal) : zeroCopy.lend(view);
      return new Lease(result, loan, sender);
    }
    if (result === -EAGAIN) return undefined;
    if (result === -EINTR) continue;
    if (errors.passes(fd, result, tries)) continue;
    // It may have been counted all the same.
    if (!refusal) errors.drain(fd);
    if (result !== -ENOBUFS || refusal) throw sendError(sender, result, destination);
    refusal = "memory";
  }
}

function sendError(
  { descriptor, domain }: ZeroCopySender,
  result: number,
  destination: Address | undefined,
): Error {
  const hint = tooLongHint(result, "send", descriptor.fd, domain === AF_INET6);
  if (!destination) return systemError(result, "send", { hint });
  return systemError(result, "sendto", { address: destination, sending: true, hint });
}

/** What `zeroCopy` tells of a socket. */
export function stateOf({ descriptor, errors, isShared }: ZeroCopySender): ZeroCopyState {
  const { zeroCopy } = errors;
  if (zeroCopy && zeroCopy.outstanding > 0) errors.drain(descriptor.fd);
  return Object.freeze({
    enabled: !isShared() && (zeroCopy?.isEnabled ?? true),
    sends: zeroCopy?.sends ?? 0,
    copied: zeroCopy?.copied ?? 0,
    fallbacks: zeroCopy?.fallbacks ?? 0,
    outstanding: zeroCopy?.outstanding ?? 0,
    reason: zeroCopy?.reason,
  });
}

/** Sends without a copy, or answers at once. */
export function trySendZeroCopy(
  sender: ZeroCopySender,
  data: ArrayBufferView | ArrayBuffer,
  options: ZeroCopyTryOptions = {},
): ZeroCopyLease | undefined {
  const { to, flags } = requireOptions(options);
  return attempt(sender, prepare(sender, data, to, flags));
}

/** Sends without a copy, waiting for room. */
export function sendZeroCopySync(
  sender: ZeroCopySender,
  data: ArrayBufferView | ArrayBuffer | string,
  options: ZeroCopyWaitOptions = {},
): ZeroCopyLease {
  const { to, flags, timeoutMs } = requireOptions(options);
  const deadline = deadlineAfter(timeoutMs);
  const outgoing = prepare(sender, toBytes(data), to, flags);
  const syscall = outgoing.destination ? "sendto" : "send";
  for (let tries = 0; ; tries++) {
    const lease = attempt(sender, outgoing);
    if (lease) return lease;
    waitUntil(sender.descriptor.fd, POLLOUT, deadline, syscall, undefined, tries);
  }
}

/** The promise form of it. */
export function sendZeroCopy(
  sender: ZeroCopySender,
  data: ArrayBufferView | ArrayBuffer | string,
  options: ZeroCopyOptions = {},
): Promise<ZeroCopyLease> {
  try {
    const { to, flags, timeoutMs, signal: given } = requireOptions(options);
    const { deadline, signal } = readLimits({ timeoutMs, signal: given });
    const outgoing = prepare(sender, toBytes(data), to, flags);
    const call = {
      syscall: outgoing.destination ? "sendto" : "send",
      attempt: () => attempt(sender, outgoing),
    };
    return loadPoller().perform(sender.descriptor, EPOLLOUT, call, deadline, signal);
  } catch (error) {
    return Promise.reject(error);
  }
}
