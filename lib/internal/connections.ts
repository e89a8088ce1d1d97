import { EMFILE, ENFILE, ENOBUFS, ENOMEM } from "../../structs/constants/errno.ts";
import { EPOLLIN } from "../../structs/constants/sys_epoll.ts";
import { type CancelSignal, SystemError } from "../error.ts";
import type { ConnectionsOptions } from "../listener.ts";
import { requireOptions, requireSignal } from "./arguments.ts";
import type { Descriptor } from "./descriptor.ts";
import { engine } from "./poller_engine.ts";
import { SpareDescriptor } from "./spare_descriptor.ts";
import type { Waiter } from "./wait_line.ts";

/** What the iterator needs of its listener. */
export interface ConnectionSource<Connection> {
  readonly descriptor: Descriptor;
  /** Takes a connection; undefined when none is waiting. */
  accept(): Connection | undefined;
  /** Counts one that was taken to be dropped. */
  dropped(connection: Connection): void;
}

type Step<Connection> = IteratorResult<Connection, undefined>;

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });
/** A connection was taken and dropped: there may be more. */
const DROPPED = Symbol("dropped");
/** The kernel has no room for a connection now. */
const STARVED = Symbol("starved");

const NO_DESCRIPTOR: readonly number[] = [-EMFILE, -ENFILE];
const NO_MEMORY: readonly number[] = [-ENOBUFS, -ENOMEM];

/** The connections of a listener, for `for await`. */
export class Connections<Connection> implements AsyncIterableIterator<Connection, undefined> {
  readonly #source: ConnectionSource<Connection>;
  readonly #signal: CancelSignal | undefined;
  readonly #spare: SpareDescriptor;
  readonly #pending = new Set<Waiter>();
  #isDone = false;

  constructor(source: ConnectionSource<Connection>, options: ConnectionsOptions) {
    this.#signal = requireSignal(requireOptions(options).signal);
    this.#source = source;
    this.#spare = new SpareDescriptor();
  }

  /**
   * The next connection.
   *
   * @throws {SystemError} the listener does not listen any more
   */
  async next(): Promise<Step<Connection>> {
    try {
      const step = await this.#next();
      if (step.done) this.#finish();
      return step;
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  async #next(): Promise<Step<Connection>> {
    // Where the kernel has no room, no event tells when it has.
    for (let pauses = false; ; ) {
      if (this.#isDone || this.#source.descriptor.fd < 0) return DONE;
      this.#signal?.throwIfAborted();
      const step = await this.#wait(pauses);
      if (typeof step !== "symbol") return step;
      pauses = step === STARVED;
    }
  }

  async #wait(pauses: boolean): Promise<Step<Connection> | symbol> {
    let waiting: Waiter | undefined;
    try {
      return await engine.perform<Step<Connection> | symbol>(
        this.#source.descriptor,
        EPOLLIN,
        {
          syscall: "accept4",
          pauses,
          attempt: () => {
            const step = this.#attempt();
            return step === STARVED && pauses ? undefined : step;
          },
          ended: () => DONE,
        },
        Number.POSITIVE_INFINITY,
        this.#signal,
        (waiter) => {
          waiting = waiter;
          this.#pending.add(waiter);
        },
      );
    } finally {
      if (waiting) this.#pending.delete(waiting);
    }
  }

  #attempt(): Step<Connection> | symbol | undefined {
    const { descriptor } = this.#source;
    if (descriptor.fd < 0) return DONE;
    try {
      const connection = this.#source.accept();
      this.#spare.take();
      return connection && { value: connection, done: false };
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      if (NO_DESCRIPTOR.includes(error.errno)) return this.#drop();
      if (NO_MEMORY.includes(error.errno)) return STARVED;
      throw error;
    }
  }

  // Whoever connects learns at once that there is no room, instead of waiting for nothing.
  #drop(): symbol | undefined {
    if (!this.#spare.give()) return STARVED;
    try {
      const connection = this.#source.accept();
      if (!connection) return undefined;
      this.#source.dropped(connection);
      return DROPPED;
    } catch (error) {
      // Somebody else has taken what was given back.
      if (error instanceof SystemError && NO_DESCRIPTOR.includes(error.errno)) return STARVED;
      throw error;
    } finally {
      this.#spare.take();
    }
  }

  /** Ends the iteration. A step that still waits is done; connections that wait stay. */
  async return(): Promise<Step<Connection>> {
    this.#finish();
    return DONE;
  }

  #finish(): void {
    this.#isDone = true;
    for (const pending of this.#pending) {
      if (!pending.line) continue;
      engine.leave(pending);
      // Which it takes for the end of the iteration.
      pending.end("closed");
    }
    this.#spare.give();
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
