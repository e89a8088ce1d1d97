/**
 * Echo requests at a pace: see `PingSocket.series`.
 *
 * @module
 */
import { type CancelSignal, ClosedError, SystemError } from "../error.ts";
import type { PingReply, PingResult } from "../ping_socket.ts";
import { requireInteger } from "./arguments.ts";
import { hear, unhear } from "./crowd.ts";
import type { Launched, Pinger, Request } from "./pinger.ts";

/** How a series goes. */
export interface Pace {
  readonly intervalMs: number;
  readonly count: number;
  readonly signal: CancelSignal | undefined;
}

type Step = IteratorResult<PingResult, undefined>;

/** One that waits for a step. */
interface Waiting {
  readonly resolve: (step: Step) => void;
  readonly reject: (error: unknown) => void;
}

/** Results that wait to be taken: then nothing more is sent. */
const UNTAKEN_MAX = 256;
/** setTimeout takes no longer ones. */
const INTERVAL_MS_MAX = 2 ** 31 - 1;
const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });

/** The results of a series, for `for await`. */
export class PingSeries implements AsyncIterableIterator<PingResult, undefined>, AsyncDisposable {
  readonly #pinger: Pinger;
  readonly #request: Request;
  readonly #pace: Pace;
  readonly #untaken: PingResult[] = [];
  readonly #waiting: Waiting[] = [];
  readonly #inFlight = new Set<Launched>();
  #left: number;
  #state: "new" | "running" | "done" = "new";
  /** When the next request is due, on the clock of `performance.now()`. */
  #dueAt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether the next request waits for room among the results. */
  #isHeld = false;
  #failure: { readonly reason: unknown } | undefined;

  constructor(pinger: Pinger, request: Request, pace: Pace) {
    const { intervalMs, count, signal } = pace;
    if (!(typeof intervalMs === "number" && intervalMs >= 0 && intervalMs <= INTERVAL_MS_MAX)) {
      if (typeof intervalMs === "number")
        throw new RangeError(
          `Cannot use ${intervalMs} as intervalMs: expected 0 to ${INTERVAL_MS_MAX}`,
        );
      throw new TypeError(
        `Cannot use a value of type ${typeof intervalMs} as intervalMs: expected a number`,
      );
    }
    if (count !== Number.POSITIVE_INFINITY)
      requireInteger(count, 1, Number.MAX_SAFE_INTEGER, "count");
    signal?.throwIfAborted();
    this.#pinger = pinger;
    this.#request = request;
    this.#pace = pace;
    this.#left = count;
  }

  /**
   * The next result; done when all requests have theirs, or the socket was closed.
   *
   * @throws the reason of the signal
   */
  next(): Promise<Step> {
    if (this.#state === "new") this.#start();
    const first = this.#untaken.shift();
    if (first) {
      this.#goOn();
      return Promise.resolve({ value: first, done: false });
    }
    if (this.#failure) {
      const { reason } = this.#failure;
      this.#failure = undefined;
      return Promise.reject(reason);
    }
    if (this.#state === "done") return Promise.resolve(DONE);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Ends the series: requests that wait are given up. */
  async return(): Promise<Step> {
    this.#untaken.length = 0;
    this.#end();
    return DONE;
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  #start(): void {
    this.#state = "running";
    try {
      const { signal } = this.#pace;
      signal?.throwIfAborted();
      if (signal) hear(signal, this.#abort);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#dueAt = performance.now();
    this.#send();
  }

  readonly #abort = (): void => this.#fail(this.#pace.signal?.reason);

  readonly #send = (): void => {
    this.#timer = undefined;
    if (this.#state !== "running") return;
    this.#left--;
    const { address } = this.#request;
    let launched: Launched | undefined;
    // On this machine the answer may be there before the call returns.
    const early: PingReply[] = [];
    const onReply = (reply: PingReply) => {
      if (launched) this.#hear(launched, reply);
      else early.push(reply);
    };
    try {
      launched = this.#pinger.launch(this.#request, { onReply });
    } catch (error) {
      if (error instanceof ClosedError) this.#end();
      else this.#fail(error);
      return;
    }
    const sent = launched;
    this.#inFlight.add(sent);
    for (const reply of early) this.#hear(sent, reply);
    const { sequence } = sent;
    sent.promise.catch((error: unknown) => {
      if (error instanceof ClosedError) this.#end();
      else if (error instanceof SystemError)
        this.#settle(sent, Object.freeze({ address, sequence, error }));
      else this.#fail(error);
    });
    if (this.#left > 0 && this.#pace.intervalMs > 0) this.#schedule();
  };

  // Late by more than an interval, the ones that were missed are not made up for.
  #schedule(): void {
    if (this.#untaken.length >= UNTAKEN_MAX) {
      this.#isHeld = true;
      return;
    }
    const now = performance.now();
    this.#dueAt += this.#pace.intervalMs;
    if (this.#dueAt < now) this.#dueAt = now;
    this.#timer = setTimeout(this.#send, Math.ceil(this.#dueAt - now));
    if (!this.#pinger.isRef) this.#timer.unref();
  }

  #goOn(): void {
    if (!this.#isHeld || this.#state !== "running") return;
    this.#isHeld = false;
    if (this.#pace.intervalMs === 0) this.#sendNext();
    else this.#schedule();
  }

  #hear(launched: Launched, reply: PingReply): void {
    if (reply.duplicate) this.#give(reply);
    else this.#settle(launched, reply);
  }

  #give(result: PingResult): void {
    if (this.#state !== "running") return;
    const waiting = this.#waiting.shift();
    if (waiting) waiting.resolve({ value: result, done: false });
    else if (this.#untaken.length < 4 * UNTAKEN_MAX) this.#untaken.push(result);
  }

  #settle(launched: Launched, result: PingResult): void {
    this.#inFlight.delete(launched);
    this.#give(result);
    if (this.#left > 0) {
      // A turn between, so that a host that does not answer at all is no endless loop.
      if (this.#pace.intervalMs === 0) this.#sendNext();
    } else if (this.#inFlight.size === 0) this.#end();
  }

  #sendNext(): void {
    if (this.#untaken.length >= UNTAKEN_MAX) this.#isHeld = true;
    else this.#timer = setTimeout(this.#send, 0);
  }

  #fail(reason: unknown): void {
    if (this.#state === "done") return;
    const waiting = this.#waiting.shift();
    if (waiting) waiting.reject(reason);
    else this.#failure = { reason };
    this.#end();
  }

  #end(): void {
    this.#state = "done";
    clearTimeout(this.#timer);
    if (this.#pace.signal) unhear(this.#pace.signal, this.#abort);
    for (const launched of this.#inFlight) launched.giveUp();
    this.#inFlight.clear();
    for (const { resolve } of this.#waiting.splice(0)) resolve(DONE);
  }
}
