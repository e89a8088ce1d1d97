import type { CancelSignal } from "../error.ts";

/**
 * Those who wait with one signal. The signal has one listener for all of them: for each that it is to
 * get the engine looks through those that it has, so that ten thousand calls with the signal that ends
 * a server would pay for each other.
 */
class Crowd {
  readonly #signal: CancelSignal;
  // Most have one only.
  #first: (() => void) | undefined;
  #rest: Set<() => void> | undefined;

  constructor(signal: CancelSignal) {
    this.#signal = signal;
  }

  readonly #abort = (): void => {
    const errors: unknown[] = [];
    const run = (abort: () => void) => {
      try {
        abort();
      } catch (error) {
        // What a caller has put in the place of a method of the signal. The others hear of it, too.
        errors.push(error);
      }
    };
    if (this.#first) run(this.#first);
    this.#rest?.forEach(run);
    if (errors.length > 0) throw errors[0];
  };

  get #isEmpty(): boolean {
    return this.#first === undefined && !this.#rest?.size;
  }

  add(abort: () => void): void {
    if (this.#isEmpty) this.#signal.addEventListener("abort", this.#abort);
    // Asked again: a caller may have put something else in its place, which calls us.
    if (this.#isEmpty) {
      this.#first = abort;
      return;
    }
    this.#rest ??= new Set();
    this.#rest.add(abort);
  }

  remove(abort: () => void): void {
    if (this.#first === abort) this.#first = undefined;
    else if (!this.#rest?.delete(abort)) return;
    if (this.#isEmpty) this.#signal.removeEventListener("abort", this.#abort);
  }
}

const crowds = new WeakMap<CancelSignal, Crowd>();

/** Has a function called when the signal is aborted. Throws what adding a listener throws. */
export function hear(signal: CancelSignal, abort: () => void): void {
  let crowd = crowds.get(signal);
  if (!crowd) {
    crowd = new Crowd(signal);
    crowds.set(signal, crowd);
  }
  crowd.add(abort);
}

/** Has it called no more. Throws what removing a listener throws. */
export function unhear(signal: CancelSignal, abort: () => void): void {
  crowds.get(signal)?.remove(abort);
}
