/**
 * The limits of a transfer that goes on in many steps: for all of it, and without a byte.
 *
 * @module
 */
import { type CancelSignal, TimeoutError, withDetails } from "../error.ts";
import { requireSignal } from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";

/** How long a transfer may take, and what cancels it. */
export interface TransferOptions {
  readonly timeoutMs?: number | undefined;
  readonly idleMs?: number | undefined;
  readonly signal?: CancelSignal | undefined;
}

/** How long a transfer may take still. */
export class TransferLimits {
  readonly signal: CancelSignal | undefined;
  readonly #timeoutMs: number | undefined;
  readonly #idleMs: number;
  /** When all of it has to be over. */
  readonly #end: number;
  /** When it has to be over unless a byte is moved. */
  #idleEnd: number;

  /** Throws the reason of a signal that was aborted before. */
  constructor({ timeoutMs, idleMs = Number.POSITIVE_INFINITY, signal }: TransferOptions) {
    requireSignal(signal)?.throwIfAborted();
    requireIdle(idleMs);
    this.signal = signal;
    this.#timeoutMs = timeoutMs;
    this.#idleMs = idleMs;
    this.#end = deadlineAfter(timeoutMs);
    this.#idleEnd = performance.now() + idleMs;
  }

  /** When the step that is under way has to be over. */
  get deadline(): number {
    return Math.min(this.#end, this.#idleEnd);
  }

  /** Notes that bytes were moved. */
  moved(): void {
    if (this.#idleMs !== Number.POSITIVE_INFINITY) this.#idleEnd = performance.now() + this.#idleMs;
  }

  /** Makes a step, up to the deadline that it is given, and again where bytes were moved since. */
  run<Result>(step: (deadline: number) => Result): Result {
    for (;;) {
      try {
        return step(this.deadline);
      } catch (error) {
        if (!this.#goesOn(error)) throw this.told(error);
      }
    }
  }

  /** Makes a step in promise form. */
  async runLater<Result>(step: (deadline: number) => Promise<Result>): Promise<Result> {
    for (;;) {
      // A step hears only of what happens to the signal while it waits.
      this.signal?.throwIfAborted();
      try {
        return await step(this.deadline);
      } catch (error) {
        if (!this.#goesOn(error)) throw this.told(error);
      }
    }
  }

  #goesOn(error: unknown): boolean {
    return error instanceof TimeoutError && performance.now() < this.deadline;
  }

  /** The error, with which limit it was. */
  told(error: unknown): unknown {
    if (this.signal?.aborted) return error;
    const isIdle = this.#idleEnd < this.#end;
    return withDetails(error, isIdle ? { idleMs: this.#idleMs } : { timeoutMs: this.#timeoutMs });
  }
}

function requireIdle(idleMs: unknown): void {
  if (typeof idleMs !== "number")
    throw new TypeError(`Cannot use a value of type ${typeof idleMs} as idleMs: expected a number`);
  if (!(idleMs >= 0))
    throw new RangeError(`Cannot use ${idleMs} as idleMs: expected 0 or more milliseconds`);
}
