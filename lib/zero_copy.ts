import type { Address } from "./address.ts";
import type { AsyncOptions, TimeoutOptions, WaitOptions } from "./socket.ts";

/** What becomes of a send without a copy. */
export interface ZeroCopyOutcome {
  /** Whether the kernel has copied the data after all. */
  readonly copied: boolean;
}

/**
 * The memory of a send without a copy, on loan to the kernel: until it is released the data must stay
 * as it is, for what the kernel sends, also again, is what stands there then. The library keeps the
 * memory meanwhile, whatever becomes of the lease.
 *
 * A socket that is closed or detached asks the kernel once more. Of what it still has then nobody is
 * told the end, so the memory is kept for some time: 16 minutes for TCP, which tries for so long, and
 * a minute for datagrams; but in all no more than 64 MiB for each thread, over which the oldest is let
 * go of first. The kernel holds the pages itself, so nothing breaks then: but if the program uses that
 * memory for something else, this may go out in place of the data. Where that matters, wait for the
 * leases before closing.
 */
export interface ZeroCopyLease {
  /** Bytes sent: of a stream perhaps fewer than there are. */
  readonly bytes: number;
  /** Whether the kernel is done with the memory. Asks it. */
  readonly released: boolean;
  /**
   * Fulfilled when the kernel is done with the memory: for TCP when the peer has acknowledged the
   * data. Rejected with a ClosedError when the socket was closed before, and with `ECANCELED` when it
   * was detached: the kernel may then still read the memory, and does not say how long.
   */
  readonly whenReleased: Promise<ZeroCopyOutcome>;
  /**
   * Blocks the thread until the kernel is done with the memory.
   *
   * @throws {TimeoutError} it was not in time
   * @throws {ClosedError} the socket was closed before
   * @throws {SystemError} `ECANCELED` the socket was detached before
   */
  waitSync(options?: TimeoutOptions): ZeroCopyOutcome;
}

/** How a socket's sends without a copy go, by what the kernel has said until now: it is asked. */
export interface ZeroCopyState {
  /** Whether the next one is tried without a copy. */
  readonly enabled: boolean;
  /** Sends that were made without a copy, as far as the kernel had promised. */
  readonly sends: number;
  /** Those of which the kernel has said that it has copied them after all. */
  readonly copied: number;
  /** Sends that were made as plain ones. */
  readonly fallbacks: number;
  /** Leases that are not released: 0 once the socket is closed, see `ZeroCopyLease`. */
  readonly outstanding: number;
  /**
   * Why the last plain one was: "copied" the kernel has copied eight in a row, as it does on loopback
   * and where the device cannot gather, which is slower than a plain send, so none is tried any more;
   * "unsupported" it does not know it for this kind of socket; "shared" others can reach the open
   * socket and take the notices away (its `descriptor` was looked at, or it was adopted); "memory" the
   * limit of locked memory (net.core.optmem_max, ulimit -l) is reached, as long as it is; "empty" there
   * was nothing to copy.
   */
  readonly reason: "copied" | "unsupported" | "shared" | "memory" | "empty" | undefined;
}

/** Where a datagram without a copy goes. */
interface To<A> {
  /** Where to, or its text. Default: to the peer. */
  readonly to?: A | string | undefined;
}

/** What the promise form of a datagram without a copy can be told. */
export interface ZeroCopyOptions<A extends Address = Address> extends AsyncOptions, To<A> {}

/** What the blocking form can be told. */
export interface ZeroCopyWaitOptions<A extends Address = Address> extends WaitOptions, To<A> {}

/** What the immediate form can be told. */
export interface ZeroCopyTryOptions<A extends Address = Address> extends To<A> {
  /** A union of `MSG_` constants. */
  readonly flags?: number | undefined;
}
