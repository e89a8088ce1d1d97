import type { InetAddress } from "./address.ts";
import type { CancelSignal } from "./error.ts";
import { requireOptions, requireSignal } from "./internal/arguments.ts";
import type { Descriptor } from "./internal/descriptor.ts";
import type { KernelErrors } from "./internal/kernel_errors.ts";
import { loadPoller } from "./internal/lazy_poller.ts";
import type { End, PromisedCall } from "./internal/wait_line.ts";

/** What all entries tell that are about one datagram. */
interface AboutDatagram {
  /**
   * Where the datagram was to go. Undefined where the kernel does not say. Its port is 0 where this
   * host itself could not send it ("local", or "pathMtu" without an offender) over IPv4, from a socket
   * that is not connected: the kernel does not say which then. The call that has failed does.
   */
  readonly destination: InetAddress | undefined;
  /** The beginning of the datagram's payload, as far as it came back: often none. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** A router or the receiving host refused a datagram, or could not deliver it: an ICMP message. */
export interface IcmpError extends AboutDatagram {
  readonly kind: "icmp";
  /** The C name of the errno that the kernel makes of it: "ECONNREFUSED", "EHOSTUNREACH", … */
  readonly code: string;
  /** 4 for ICMP, 6 for ICMPv6. */
  readonly version: 4 | 6;
  /** The type of the ICMP message: 3 is "destination unreachable" of ICMP, 1 that of ICMPv6. */
  readonly type: number;
  /** Its code: 3 of ICMP is "port unreachable", 4 that of ICMPv6. */
  readonly icmpCode: number;
  /** What the two say, in words: "port unreachable", "time to live exceeded", …, or "unknown". */
  readonly reason: string;
  /** Which node has sent the message; its port is 0. Anybody can forge one who knows the ports. */
  readonly offender: InetAddress | undefined;
}

/** This host itself could not send a datagram. */
export interface LocalError extends AboutDatagram {
  readonly kind: "local";
  /** The C name of the errno. */
  readonly code: string;
}

/**
 * A datagram was too long for its path, and was not to be fragmented. From a router (it was lost on
 * its way), or from this host (the send has failed with `EMSGSIZE`), which has no offender.
 */
export interface PathMtuError extends AboutDatagram {
  readonly kind: "pathMtu";
  /** The largest IP packet that passes, in bytes, headers included. */
  readonly mtu: number;
  /** Which router has said so; its port is 0. Undefined: this host. */
  readonly offender: InetAddress | undefined;
}

/**
 * The kernel is done with the memory of sends without a copy: see `sendZeroCopy`, whose leases know it
 * already. Told while `queueErrors` is on, or once somebody has asked for errors.
 */
export interface ZeroCopyNotice {
  readonly kind: "zeroCopy";
  /** The number of the first send it is about: they count from 0, and from 2^32 - 1 on to 0. */
  readonly first: number;
  /** The number of the last one. */
  readonly last: number;
  /** Whether the kernel has copied the data after all. */
  readonly copied: boolean;
}

/** When a datagram, or a byte of a stream, got on: see `transmitTimestamps`. */
export interface TransmitTimestamp {
  readonly kind: "timestamp";
  /**
   * "scheduled" it was given to the queue of the interface, "sent" to the device, "acknowledged" a
   * TCP peer has confirmed it.
   */
  readonly what: "scheduled" | "sent" | "acknowledged";
  /**
   * Which send: datagrams count from 0 since timestamps were switched on; of TCP it is the place of
   * the send's last byte, counted from there. From 2^32 - 1 on it goes on with 0.
   */
  readonly id: number;
  /** Seconds since 1970. */
  readonly seconds: number;
  /** Nanoseconds of the second. */
  readonly nanoseconds: number;
  /** Whether it is the time of the device's clock, which need not be that of 1970. */
  readonly isHardware: boolean;
}

/** A datagram was not sent because its transmit time had passed, or was none (`SO_TXTIME`). */
export interface TransmitTimeMissed {
  readonly kind: "transmitTimeMissed";
  /** Whether the time or the queueing discipline does not fit, rather than being late. */
  readonly isInvalid: boolean;
  /** The transmit time that was asked for, in nanoseconds of the clock that was chosen. */
  readonly timeNs: bigint;
  /** The beginning of the packet, as far as it came back. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** `struct sock_extended_err`, and the address behind it. */
export interface ExtendedError {
  /** The errno, positive; 0 where it is a notice. */
  readonly errno: number;
  /** A `SO_EE_ORIGIN_` constant. */
  readonly origin: number;
  /** Of ICMP: its type. */
  readonly type: number;
  /** Of ICMP: its code; of others a `SO_EE_CODE_` constant. */
  readonly code: number;
  /** `ee_info`: of "too big" the MTU, of a range its first, of a timestamp what it tells. */
  readonly info: number;
  /** `ee_data`: of a range its last, of a timestamp its number. */
  readonly data: number;
  /** Which node has reported it. Undefined where there is none. */
  readonly offender: InetAddress | undefined;
}

/** What this library does not know. */
export interface UnknownError extends AboutDatagram {
  readonly kind: "unknown";
  /** `struct sock_extended_err`, or undefined where there was none. */
  readonly error: ExtendedError | undefined;
}

/** One entry of a socket's error queue: its `kind` tells which. */
export type QueuedError =
  | IcmpError
  | LocalError
  | PathMtuError
  | ZeroCopyNotice
  | TransmitTimestamp
  | TransmitTimeMissed
  | UnknownError;

/** How full the error queue is. */
export interface ErrorQueueState {
  /** Entries that were fetched from the kernel, and that nobody has received. */
  readonly queued: number;
  /** The most that wait. What comes when there are so many is dropped. */
  readonly queuedMax: number;
  /**
   * Entries that were dropped so far. The kernel drops in silence what its receive buffer has no room
   * for, some 255 entries by default: that takes one call that makes more of them, or a socket that
   * neither sends, receives nor waits.
   */
  readonly dropped: number;
}

/** What `errors` can be told. */
export interface ErrorsOptions {
  /** Aborting it ends the iteration with the signal's reason. */
  readonly signal?: CancelSignal | undefined;
}

type Step = IteratorResult<QueuedError, undefined>;

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });

/** The entries of a socket's error queue, for `for await`: see `Socket.errors`. */
export class QueuedErrors implements AsyncIterableIterator<QueuedError, undefined> {
  readonly #errors: KernelErrors;
  readonly #descriptor: Descriptor;
  readonly #signal: CancelSignal | undefined;
  readonly #pending = new Set<PromisedCall<Step>>();
  #isDone = false;

  /** Not for callers: `Socket.errors` makes them. */
  constructor(errors: KernelErrors, descriptor: Descriptor, options: ErrorsOptions) {
    this.#signal = requireSignal(requireOptions(options).signal);
    this.#errors = errors;
    this.#descriptor = descriptor;
  }

  /**
   * The next entry; done when the socket was closed or detached.
   *
   * @throws the reason of the signal
   */
  async next(): Promise<IteratorResult<QueuedError, undefined>> {
    if (this.#isDone || this.#descriptor.fd < 0) return this.return();
    try {
      this.#signal?.throwIfAborted();
      return await this.#step();
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  async #step(): Promise<Step> {
    let waiting: PromisedCall<Step> | undefined;
    try {
      return await this.#errors.take<Step>(this.#descriptor, {
        wrap: (value) => ({ value, done: false }),
        ended: () => DONE,
        deadline: Number.POSITIVE_INFINITY,
        signal: this.#signal,
        onWait: (waiter) => {
          waiting = waiter;
          this.#pending.add(waiter);
        },
      });
    } finally {
      if (waiting) this.#pending.delete(waiting);
    }
  }

  /** Ends the iteration; a step that still waits is done. What was not received stays queued. */
  async return(): Promise<IteratorResult<QueuedError, undefined>> {
    this.#finish();
    return DONE;
  }

  #finish(): void {
    this.#isDone = true;
    for (const pending of this.#pending) {
      if (!pending.line) continue;
      loadPoller().leave(pending);
      pending.end("closed" satisfies End);
    }
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#finish();
  }
}
