import { ECANCELED } from "../../structs/constants/errno.ts";
import { EPOLLERR, EPOLLIN, EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import {
  type CancelSignal,
  ClosedError,
  SystemError,
  type SystemErrorDetails,
  TimeoutError,
} from "../error.ts";
import type { Alarm } from "./alarms.ts";
import { hear, unhear } from "./crowd.ts";
import type { Patience } from "./deadline.ts";

/** A call that can wait. */
export interface Call<Result> {
  /** The C name of the call, for its errors. */
  readonly syscall: string;
  /** Does it, or returns undefined when it would block. What it throws is the answer too. */
  attempt(): Result | undefined;
  /** Whether no event tells when it can go on: then it is tried again after some milliseconds. */
  readonly pauses?: boolean;
  /** Whether nobody may read before it has its answer. */
  readonly isFirst?: boolean;
  /** Whether it may be tried for a moment before the thread sleeps, and whether that has paid. */
  readonly patience?: Patience | undefined;
  /** What was transferred so far. */
  transferred?(): number;
  /** What the error tells beside that when the time is over: where to, or of what. */
  late?(): SystemErrorDetails;
  /** The answer when the socket is closed or given away, where that is no error. */
  ended?(how: End): Result | undefined;
  /** Called once, when the call has its answer. */
  settled?(): void;
}

/** Why the waiters of a descriptor have nothing to wait for any more. */
export type End = "closed" | "detached";

/** One that stands in a line. */
export abstract class Waiter {
  line: WaitLine | undefined;
  previous: Waiter | undefined;
  next: Waiter | undefined;
  /** Whether it counts among those that keep the process alive. */
  isCounted = false;
  /** Whether no event tells when it can go on. */
  readonly pauses: boolean = false;
  /** Whether nobody may read before it has its answer. */
  readonly isFirst: boolean = false;
  /** Whether it may be tried for a moment before the thread sleeps. */
  readonly patience: Patience | undefined;
  /** Whether it stays for ever, and so lets everybody else go before. */
  readonly isLast: boolean = false;

  /** Tries to get on. Returns false when it would block. One that is done leaves its line. */
  abstract run(): boolean;
  /** Says that there is nothing to wait for any more. It was taken out of its line. */
  abstract end(how: End): void;
  /** Says that waiting is not possible. It was taken out of its line. */
  abstract fail(error: unknown): void;
}

/** Those who wait for one direction of a descriptor, or for its errors, in order. */
export class WaitLine {
  readonly watch: Watch;
  /** The event that tells that it can go on: EPOLLIN, EPOLLOUT or EPOLLERR. */
  readonly event: number;
  head: Waiter | undefined;
  tail: Waiter | undefined;
  /** Whether it stands among the lines that are to be tried in this turn or the next. */
  isReady = false;
  /** Milliseconds until the next try, where no event tells when. */
  pauseMs = 1;
  /** The next try, where no event tells when. */
  retry: Alarm | undefined;

  constructor(watch: Watch, event: number) {
    this.watch = watch;
    this.event = event;
  }

  /** Whether those who wait here have to wait until a connection is made, or not. */
  get isHeldUp(): boolean {
    return this.event === EPOLLIN && this.watch.writers.head?.isFirst === true;
  }

  append(waiter: Waiter): void {
    const { tail } = this;
    const next = tail?.isLast ? tail : undefined;
    const previous = next ? next.previous : tail;
    waiter.line = this;
    waiter.previous = previous;
    waiter.next = next;
    if (previous) previous.next = waiter;
    else this.head = waiter;
    if (next) next.previous = waiter;
    else this.tail = waiter;
  }

  remove(waiter: Waiter): void {
    const { previous, next } = waiter;
    if (previous) previous.next = next;
    else this.head = next;
    if (next) next.previous = previous;
    else this.tail = previous;
    waiter.line = waiter.previous = waiter.next = undefined;
  }
}

/**
 * What is waited for on one descriptor. It knows its waiters, who know the socket; without any it
 * does not keep the socket alive.
 */
export class Watch {
  readonly fd: number;
  readonly readers: WaitLine = new WaitLine(this, EPOLLIN);
  readonly writers: WaitLine = new WaitLine(this, EPOLLOUT);
  readonly errors: WaitLine = new WaitLine(this, EPOLLERR);
  /** All of them. Writers first: the error of a connection belongs to the call that makes it. */
  readonly lines: readonly WaitLine[] = [this.writers, this.readers, this.errors];
  /** What its events say, while it is in the epoll set. Never used twice. */
  token = 0;
  /** The events that the epoll set was told, or 0 when it is not in it. */
  interest = 0;
  /** Why there is nothing to wait for any more. */
  ended: End | undefined;
  /** Whether those who wait keep the process alive. */
  isRef = true;
  /** Whether the kernel was asked to look at the device for it. */
  isBusyPolled = false;

  constructor(fd: number) {
    this.fd = fd;
  }
}

/** The error of a call that can not go on because its socket was closed or given away. */
export function endError(how: End, syscall: string, details: SystemErrorDetails): SystemError {
  if (how === "closed") return new ClosedError(syscall, details);
  return new SystemError(ECANCELED, syscall, details);
}

/** What the promise forms of all calls share: a promise, a deadline, a signal. */
export class PromisedCall<Result> extends Waiter implements Alarm {
  dueAt = 0;
  place = -1;
  readonly promise: Promise<Result>;
  readonly #call: Call<Result>;
  readonly #signal: CancelSignal | undefined;
  readonly #timeoutMs: number | undefined;
  readonly #leave: (waiter: Waiter) => void;
  override readonly pauses: boolean;
  override readonly isFirst: boolean;
  override readonly patience: Patience | undefined;
  #resolve!: (result: Result) => void;
  #reject!: (error: unknown) => void;

  /**
   * @param leave takes it out of its line, and its alarm away
   * @param timeoutMs the limit that its alarm stands for, where it is known
   */
  constructor(
    call: Call<Result>,
    signal: CancelSignal | undefined,
    leave: (waiter: Waiter) => void,
    timeoutMs: number | undefined,
  ) {
    super();
    this.pauses = call.pauses ?? false;
    this.isFirst = call.isFirst ?? false;
    this.patience = call.patience;
    this.#call = call;
    this.#signal = signal;
    this.#leave = leave;
    this.#timeoutMs = timeoutMs;
    this.promise = new Promise<Result>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (signal) hear(signal, this.#abort);
  }

  readonly #abort = (): void => {
    this.#leave(this);
    let reason: unknown;
    try {
      reason = (this.#signal as CancelSignal).reason;
    } catch (error) {
      reason = error;
    }
    this.fail(reason);
  };

  run(): boolean {
    let result: Result | undefined;
    try {
      result = this.#call.attempt();
    } catch (error) {
      this.#leave(this);
      this.fail(error);
      return true;
    }
    if (result === undefined) return false;
    this.#leave(this);
    this.finish(result);
    return true;
  }

  due(): void {
    // It may not have been tried yet: 0 milliseconds are one try.
    const { line } = this;
    if (line?.head === this && !line.isHeldUp && this.run()) return;
    this.#leave(this);
    const details = { timeoutMs: this.#timeoutMs, ...this.#call.late?.(), ...this.#details() };
    this.fail(new TimeoutError(this.#call.syscall, details));
  }

  end(how: End): void {
    const result = this.#call.ended?.(how);
    if (result === undefined) this.fail(endError(how, this.#call.syscall, this.#details()));
    else this.finish(result);
  }

  /** Gives the answer. It was taken out of its line. */
  finish(result: Result): void {
    this.#settle();
    this.#resolve(result);
  }

  fail(error: unknown): void {
    this.#settle();
    this.#reject(error);
  }

  #details(): SystemErrorDetails {
    const transferred = this.#call.transferred?.();
    return transferred ? { transferred } : {};
  }

  #settle(): void {
    try {
      if (this.#signal) unhear(this.#signal, this.#abort);
    } catch {
      // Whatever a caller has put in its place: the call has its answer.
    }
    this.#call.settled?.();
  }
}
