import {
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOPROTOOPT,
  EPROTO,
} from "../structs/constants/errno.ts";
import { POLLOUT } from "../structs/constants/poll.ts";
import { EPOLLIN, EPOLLOUT } from "../structs/constants/sys_epoll.ts";
import type { Address } from "./address.ts";
import {
  claim,
  DatagramBatch,
  type DatagramBatchOptions,
  poison,
  release,
  requireIdle,
} from "./datagram_batch.ts";
import { type CancelSignal, SystemError } from "./error.ts";
import { describe, requireInteger, requireOptions, requireSignal } from "./internal/arguments.ts";
import type { BatchSource } from "./internal/batch_source.ts";
import { mayBeReady } from "./internal/deadline.ts";
import { engine, lineOf } from "./internal/poller_engine.ts";
import { Waiter } from "./internal/wait_line.ts";

/** What `batches` can be told. */
export interface BatchesOptions extends DatagramBatchOptions {
  /**
   * Batches that are used in turn: the contents of one are valid until that many steps later. 1 to
   * 1024, default 1.
   */
  readonly rotate?: number | undefined;
  /** Aborting it ends the iteration with the signal's reason. */
  readonly signal?: CancelSignal | undefined;
}

/** What is called with each batch. A promise that it returns holds back the next batch. */
export type BatchHandler<A extends Address = Address> = (batch: DatagramBatch<A>) => unknown;

/** What `onBatch` can be told. */
export interface OnBatchOptions extends DatagramBatchOptions {
  /** Called when there is room again, after a `try…` send of this socket found none. */
  readonly drain?: (() => void) | undefined;
  /**
   * Called with an error of the socket. Without it what a peer has refused is passed over, and
   * everything else is reported (`reportError`) and pauses the socket.
   */
  readonly error?: ((error: SystemError) => void) | undefined;
}

// What the network says of datagrams that were sent before: the socket is none the worse for it.
const PASSING: readonly number[] = [
  ECONNREFUSED,
  ECONNRESET,
  EHOSTUNREACH,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOPROTOOPT,
  EPROTO,
];

const ROTATE_MAX = 1024;

/** Whether old contents are to be overwritten, so that whoever relies on them sees it. */
function isDebugging(): boolean {
  return process.env.BUN_SOCKETS_DEBUG === "1";
}

/**
 * The batches of a socket, for `for await`: see `Socket.batches`. With the environment variable
 * `BUN_SOCKETS_DEBUG=1` contents that are not valid any more are overwritten with 0xA5.
 */
export class Batches<A extends Address = Address>
  implements AsyncIterableIterator<DatagramBatch<A>, undefined>
{
  readonly #source: BatchSource;
  readonly #batches: DatagramBatch<A>[] = [];
  readonly #signal: CancelSignal | undefined;
  readonly #isDebugging = isDebugging();
  #turn = 0;
  #isDone = false;
  /** Whether a step was taken: until then it stands in nobody's way. */
  #hasBegun = false;
  readonly #pending = new Set<Waiter>();

  /** Not for callers: `Socket.batches` makes them. */
  constructor(source: BatchSource, options: BatchesOptions) {
    const { rotate = 1, signal, ...batch } = requireOptions(options);
    requireInteger(rotate, 1, ROTATE_MAX, "rotate");
    this.#signal = requireSignal(signal);
    this.#source = source;
    try {
      for (let i = 0; i < rotate; i++) this.#batches.push(new DatagramBatch<A>(batch));
    } catch (error) {
      this.#free();
      throw error;
    }
  }

  /**
   * The next batch, with at least one datagram. What was given `rotate` steps before is overwritten.
   *
   * @throws {SystemError} `EBUSY` another call still has the batch; or an error of the socket
   * @throws {TypeError} the socket has got a handler since
   */
  async next(): Promise<IteratorResult<DatagramBatch<A>, undefined>> {
    if (this.#isDone || this.#source.descriptor.fd < 0) return this.return();
    const batch = this.#batches[this.#turn] as DatagramBatch<A>;
    try {
      this.#signal?.throwIfAborted();
      this.#begin();
      claim(batch, "recvmmsg");
    } catch (error) {
      this.#finish();
      throw error;
    }
    this.#turn = (this.#turn + 1) % this.#batches.length;
    if (this.#isDebugging) poison(batch);
    let waiting: Waiter | undefined;
    try {
      const step = await engine.perform(
        this.#source.descriptor,
        EPOLLIN,
        {
          syscall: "recvmmsg",
          attempt: () => this.#receive(batch),
          ended: () => DONE,
          settled: () => release(batch),
        },
        Number.POSITIVE_INFINITY,
        this.#signal,
        (waiter) => {
          waiting = waiter;
          this.#pending.add(waiter);
        },
      );
      if (step.done) this.#finish();
      return step;
    } catch (error) {
      this.#finish();
      throw error;
    } finally {
      if (waiting) this.#pending.delete(waiting);
    }
  }

  #begin(): void {
    if (this.#hasBegun) return;
    this.#source.enterLoop();
    this.#hasBegun = true;
  }

  #receive(batch: DatagramBatch<A>): IteratorResult<DatagramBatch<A>, undefined> | undefined {
    if (this.#source.descriptor.fd < 0) return DONE;
    return this.#source.receive(batch) > 0 ? { value: batch, done: false } : undefined;
  }

  /** Ends the iteration and frees the batches. A step that still waits is done. */
  async return(): Promise<IteratorResult<DatagramBatch<A>, undefined>> {
    this.#finish();
    return DONE;
  }

  #finish(): void {
    if (this.#hasBegun && !this.#isDone) this.#source.leaveLoop();
    this.#isDone = true;
    for (const pending of this.#pending) {
      if (!pending.line) continue;
      engine.leave(pending);
      // Which it takes for the end of the iteration.
      pending.end("closed");
    }
    this.#free();
  }

  #free(): void {
    for (const batch of this.#batches) batch.free();
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

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });

/** A handler of batches, as `Socket.onBatch` has set it. */
export interface BatchSubscription extends Disposable {
  /** Whether nothing is received: after `pause`, after an error of the handler, or when stopped. */
  readonly paused: boolean;
  /** Whether it has ended: by `stop`, or because the socket was closed. */
  readonly stopped: boolean;
  /**
   * Receives nothing until `resume`: datagrams wait in the kernel's buffer, and a paused handler does
   * not keep the process alive. Does nothing the second time.
   */
  pause(): void;
  /** Goes on after `pause` or an error. Does nothing when it is not paused, or was stopped. */
  resume(): void;
  /** Ends it and frees its batch. The socket stays open. Does nothing the second time. */
  stop(): void;
}

/** Starts a handler. */
export function subscribe(
  source: BatchSource,
  handler: BatchHandler,
  options: OnBatchOptions,
): BatchSubscription {
  const { drain, error, ...batch } = requireOptions(options);
  requireFunction(handler, "a handler");
  if (drain !== undefined) requireFunction(drain, "drain");
  if (error !== undefined) requireFunction(error, "error");
  const drainer = drain && new Drainer(source, drain);
  const subscription = new Subscription(source, handler, new DatagramBatch(batch), error, drainer);
  if (drainer) source.onFull(() => drainer.start());
  subscription.resume();
  return subscription;
}

function requireFunction(value: unknown, name: string): void {
  if (typeof value === "function") return;
  throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected a function`);
}

class Subscription extends Waiter implements BatchSubscription {
  override readonly isLast = true;
  readonly #source: BatchSource;
  readonly #handler: BatchHandler;
  readonly #batch: DatagramBatch;
  readonly #onError: ((error: SystemError) => void) | undefined;
  readonly #drainer: Drainer | undefined;
  readonly #isDebugging = isDebugging();
  #isPaused = true;
  #isStopped = false;
  /** Whether the handler has not returned yet, or its promise has not settled. */
  #isHandling = false;

  constructor(
    source: BatchSource,
    handler: BatchHandler,
    batch: DatagramBatch,
    onError: ((error: SystemError) => void) | undefined,
    drainer: Drainer | undefined,
  ) {
    super();
    this.#source = source;
    this.#handler = handler;
    this.#batch = batch;
    this.#onError = onError;
    this.#drainer = drainer;
  }

  get paused(): boolean {
    return this.#isPaused || this.stopped;
  }

  get stopped(): boolean {
    return this.#isStopped || this.#source.descriptor.fd < 0;
  }

  pause(): void {
    if (this.#isStopped) return;
    this.#isPaused = true;
    engine.leave(this);
  }

  resume(): void {
    if (this.stopped || !this.#isPaused) return;
    this.#isPaused = false;
    this.#listen();
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = this.#isPaused = true;
    this.#source.onFull(undefined);
    engine.leave(this);
    this.#drainer?.stop();
    // The contents are valid until the handler has returned, and its promise has settled.
    if (!this.#isHandling) this.#batch.free();
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  #listen(): void {
    // It was closed while a promise of the handler was pending.
    if (this.stopped) this.stop();
    if (this.paused || this.#isHandling || this.line) return;
    engine.enqueue(lineOf(this.#source.descriptor, EPOLLIN), this, true);
  }

  run(): boolean {
    try {
      requireIdle(this.#batch, "recvmmsg");
      if (this.#source.receive(this.#batch) === 0) return false;
    } catch (error) {
      this.#onReceiveError(error);
      return true;
    }
    this.#handle();
    return true;
  }

  #handle(): void {
    this.#isHandling = true;
    try {
      const result = this.#handler(this.#batch);
      if (isThenable(result)) {
        this.#await(result);
        return;
      }
    } catch (error) {
      this.#fail(error);
    }
    this.#settle();
  }

  #await(result: PromiseLike<unknown>): void {
    engine.leave(this);
    // Through a promise of ours: theirs may call both functions, or one twice, or none and throw.
    new Promise((resolve) => resolve(result)).then(
      () => this.#settle(),
      (error) => {
        this.#fail(error);
        this.#settle();
      },
    );
  }

  // The contents of the batch are not valid any more.
  #settle(): void {
    this.#isHandling = false;
    if (this.#isDebugging) poison(this.#batch);
    if (this.stopped) this.#batch.free();
    this.#listen();
  }

  #onReceiveError(error: unknown): void {
    const isPassing = error instanceof SystemError && PASSING.includes(-error.errno);
    if (!(error instanceof SystemError) || (!this.#onError && !isPassing)) {
      this.#fail(error);
      return;
    }
    if (!isPassing) this.pause();
    try {
      this.#onError?.(error);
    } catch (thrown) {
      this.#fail(thrown);
    }
  }

  #fail(error: unknown): void {
    this.pause();
    reportError(error);
  }

  end(): void {
    this.stop();
  }

  fail(error: unknown): void {
    this.stop();
    reportError(error);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  const isObject = (typeof value === "object" && value !== null) || typeof value === "function";
  return isObject && typeof (value as { then?: unknown }).then === "function";
}

/** Calls the handler's `drain` when there is room, each time that a send found none. */
class Drainer {
  readonly #source: BatchSource;
  readonly #drain: () => void;
  #waiting: DrainWaiter | undefined;

  constructor(source: BatchSource, drain: () => void) {
    this.#source = source;
    this.#drain = drain;
  }

  start(): undefined {
    if (this.#waiting?.line) return undefined;
    this.#waiting = new DrainWaiter(this.#source, this.#drain);
    engine.enqueue(lineOf(this.#source.descriptor, EPOLLOUT), this.#waiting, false);
    return undefined;
  }

  stop(): void {
    if (this.#waiting) engine.leave(this.#waiting);
  }
}

class DrainWaiter extends Waiter {
  override readonly isLast = true;
  override readonly pauses: boolean;
  readonly #source: BatchSource;
  readonly #drain: () => void;

  constructor(source: BatchSource, drain: () => void) {
    super();
    this.#source = source;
    this.#drain = drain;
    this.pauses = source.hasQueuesOfOthers();
  }

  run(): boolean {
    if (!this.pauses && !mayBeReady(this.#source.descriptor.fd, POLLOUT)) return false;
    engine.leave(this);
    try {
      this.#drain();
    } catch (error) {
      reportError(error);
    }
    return true;
  }

  end(): void {}

  fail(error: unknown): void {
    reportError(error);
  }
}
