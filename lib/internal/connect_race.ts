/**
 * Connecting to one of several addresses: all at once but one after the other (RFC 8305), or in
 * order.
 *
 * @module
 */
import { ECONNREFUSED } from "../../structs/constants/errno.ts";
import type { InetAddress } from "../address.ts";
import {
  type CancelSignal,
  type ConnectAttempt,
  ConnectError,
  SystemError,
  TimeoutError,
} from "../error.ts";
import type { CancelOptions, TimeoutOptions } from "../socket.ts";
import { hear, unhear } from "./crowd.ts";

/** What a race needs of a socket. */
export interface Runner {
  connect(address: InetAddress, options: CancelOptions): Promise<void>;
  connectSync(address: InetAddress, options: TimeoutOptions): void;
  close(): void;
}

/** How to connect. */
export interface Plan<Socket extends Runner> {
  /** Makes a socket for an address, ready to connect. */
  readonly open: (address: InetAddress) => Socket;
  /**
   * Whether a socket has connected to itself: to a port where nobody listens, from the same port by
   * the kernel's choice.
   */
  readonly isItself?: ((socket: Socket) => boolean) | undefined;
  /** What was asked for, where that was more than one address: its error is a ConnectError. */
  readonly name?: { readonly host: string; readonly service: string | number } | undefined;
  /** How long an attempt is alone before the next one starts. */
  readonly staggerMs: number;
  /** How long one attempt may take. */
  readonly attemptTimeoutMs: number;
  /** How long all of it may take, as errors tell it. */
  readonly timeoutMs?: number | undefined;
  /** When all has to be over, on the clock of `performance.now()`. */
  readonly deadline: number;
  readonly signal?: CancelSignal | undefined;
}

/**
 * The order of RFC 8305, section 4: as the resolver has sorted them, but the families take turns,
 * so that one that does not work holds up nobody.
 */
export function interleave(addresses: readonly InetAddress[]): InetAddress[] {
  const preferred = addresses[0]?.family;
  const first = addresses.filter(({ family }) => family === preferred);
  const others = addresses.filter(({ family }) => family !== preferred);
  const ordered: InetAddress[] = [];
  for (let i = 0; i < Math.max(first.length, others.length); i++)
    for (const list of [first, others]) ordered.push(...list.slice(i, i + 1));
  return ordered;
}

/** The attempts that have failed, by the order in which they were begun. */
class Failures<Socket extends Runner> {
  readonly #addresses: readonly InetAddress[];
  readonly #plan: Plan<Socket>;
  readonly #errors = new Map<number, SystemError>();

  constructor(addresses: readonly InetAddress[], plan: Plan<Socket>) {
    this.#addresses = addresses;
    this.#plan = plan;
  }

  /** @param isLast whether the time of all was shorter than that of one */
  add(index: number, error: SystemError, isLast: boolean): void {
    this.#errors.set(index, error instanceof TimeoutError ? this.late(index, isLast) : error);
  }

  /** The error of an attempt that took too long. */
  late(index: number, isLast: boolean): TimeoutError {
    const { timeoutMs, attemptTimeoutMs } = this.#plan;
    const address = this.#addresses[index] as InetAddress;
    const limit = isLast ? timeoutMs : attemptTimeoutMs;
    return new TimeoutError("connect", { address, sending: true, timeoutMs: limit });
  }

  /** The error of an attempt that nobody has answered but the socket itself. */
  refused(index: number): SystemError {
    const address = this.#addresses[index] as InetAddress;
    return new SystemError(ECONNREFUSED, "connect", { address, sending: true });
  }

  /** Why there is no connection: of one address its own error, of a name all of them. */
  all(): Error {
    const { name } = this.#plan;
    if (!name) return this.#errors.get(0) as SystemError;
    const attempts: ConnectAttempt[] = [];
    for (const [index, address] of this.#addresses.entries()) {
      const error = this.#errors.get(index);
      if (error) attempts.push({ address, error });
    }
    return new ConnectError(attempts, name.host, name.service);
  }

  /** That the time is over, because of all of that. */
  outOfTime(): Error {
    const { name, timeoutMs } = this.#plan;
    if (!name) return this.late(0, true);
    const error = new TimeoutError("connect", { ...name, timeoutMs });
    if (this.#errors.size > 0) error.cause = this.all();
    return error;
  }
}

/**
 * Connects to the first address that answers. Each attempt starts when the one before has failed, or
 * after `staggerMs`. The sockets of the others are closed.
 *
 * @param addresses at least one, in this order
 */
export function race<Socket extends Runner>(
  addresses: readonly InetAddress[],
  plan: Plan<Socket>,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    new Race(addresses, plan, resolve, reject).start();
  });
}

class Race<Socket extends Runner> {
  readonly #addresses: readonly InetAddress[];
  readonly #plan: Plan<Socket>;
  readonly #resolve: (socket: Socket) => void;
  readonly #reject: (error: unknown) => void;
  readonly #failures: Failures<Socket>;
  readonly #running = new Map<number, Socket>();
  #next = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(
    addresses: readonly InetAddress[],
    plan: Plan<Socket>,
    resolve: (socket: Socket) => void,
    reject: (error: unknown) => void,
  ) {
    this.#addresses = addresses;
    this.#plan = plan;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#failures = new Failures(addresses, plan);
  }

  start(): void {
    if (this.#plan.signal) hear(this.#plan.signal, this.#abort);
    this.#startNext();
  }

  readonly #abort = (): void => this.#fail(this.#plan.signal?.reason);

  // Until one is under way, or none is left.
  #startNext(): void {
    clearTimeout(this.#timer);
    while (!this.#isOver && this.#next < this.#addresses.length)
      if (this.#start(this.#next++)) return;
    if (!this.#isOver && this.#running.size === 0) this.#fail(this.#failures.all());
  }

  #start(index: number): boolean {
    const { open, staggerMs, attemptTimeoutMs, deadline } = this.#plan;
    const address = this.#addresses[index] as InetAddress;
    const remainingMs = Math.max(0, deadline - performance.now());
    let socket: Socket;
    try {
      socket = open(address);
    } catch (error) {
      if (error instanceof SystemError) this.#failures.add(index, error, false);
      else this.#fail(error);
      return false;
    }
    // What prepares a socket is the caller's code, and can cancel it all.
    if (this.#isOver) {
      socket.close();
      return false;
    }
    this.#running.set(index, socket);
    socket.connect(address, { timeoutMs: Math.min(attemptTimeoutMs, remainingMs) }).then(
      () => this.#won(index),
      (error) => this.#lost(index, error, remainingMs <= attemptTimeoutMs),
    );
    if (this.#next < this.#addresses.length && staggerMs !== Number.POSITIVE_INFINITY)
      this.#timer = setTimeout(() => this.#startNext(), staggerMs);
    return true;
  }

  #won(index: number): void {
    const socket = this.#running.get(index);
    if (!socket) return;
    try {
      if (this.#plan.isItself?.(socket)) throw this.#failures.refused(index);
    } catch (error) {
      this.#lost(index, error, false);
      return;
    }
    this.#running.delete(index);
    this.#end();
    this.#resolve(socket);
  }

  #lost(index: number, error: unknown, isLast: boolean): void {
    const socket = this.#running.get(index);
    if (!socket) return;
    this.#running.delete(index);
    socket.close();
    if (!(error instanceof SystemError)) {
      this.#fail(error);
      return;
    }
    this.#failures.add(index, error, isLast);
    if (error instanceof TimeoutError && isLast) {
      for (const other of this.#running.keys()) this.#failures.add(other, error, true);
      this.#fail(this.#failures.outOfTime());
    } else this.#startNext();
  }

  #fail(error: unknown): void {
    this.#end();
    this.#reject(error);
  }

  #end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    try {
      if (this.#plan.signal) unhear(this.#plan.signal, this.#abort);
    } catch {
      // What passes for a signal and is none. The answer is the one that there is.
    }
    const losers = [...this.#running.values()];
    this.#running.clear();
    for (const socket of losers) socket.close();
  }
}

/** Connects to the first address that answers, asking one after the other, and blocks meanwhile. */
export function connectInOrder<Socket extends Runner>(
  addresses: readonly InetAddress[],
  plan: Plan<Socket>,
): Socket {
  const { open, attemptTimeoutMs, deadline } = plan;
  const failures = new Failures(addresses, plan);
  for (const [index, address] of addresses.entries()) {
    const remainingMs = deadline - performance.now();
    // The first one is tried, whatever the time.
    if (remainingMs <= 0 && index > 0) throw failures.outOfTime();
    const timeoutMs = Math.max(0, Math.min(attemptTimeoutMs, remainingMs));
    let socket: Socket | undefined;
    try {
      socket = open(address);
      socket.connectSync(address, { timeoutMs });
      if (plan.isItself?.(socket)) throw failures.refused(index);
      return socket;
    } catch (error) {
      socket?.close();
      if (!(error instanceof SystemError)) throw error;
      const isLast = remainingMs <= attemptTimeoutMs;
      failures.add(index, error, isLast);
      if (error instanceof TimeoutError && isLast) throw failures.outOfTime();
    }
  }
  throw failures.all();
}
