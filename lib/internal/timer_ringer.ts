import { POLLIN } from "../../structs/constants/poll.ts";
import { mayBeReady } from "./deadline.ts";
import type { Ringer } from "./ringer.ts";

const LEAST_MS = 1;
const MOST_MS = 10;

/**
 * Looks at the epoll set from a timer, every 1 to 10 ms: often while something happens. It needs
 * nothing but a clock, and no bell.
 */
export class TimerRinger implements Ringer {
  readonly #isReady: () => boolean;
  readonly #ring: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #delayMs = LEAST_MS;
  #isRef = false;

  /** @param isReady whether there is a reason to ring */
  constructor(isReady: () => boolean, ring: () => void) {
    this.#isReady = isReady;
    this.#ring = ring;
  }

  /** A ringer for an epoll set. */
  static of(epollFd: number, ring: () => void): TimerRinger {
    return new TimerRinger(() => mayBeReady(epollFd, POLLIN), ring);
  }

  arm(): number {
    this.#timer ??= this.#wait();
    return 0;
  }

  #wait(): ReturnType<typeof setTimeout> {
    const timer = setTimeout(this.#look, this.#delayMs);
    if (!this.#isRef) timer.unref();
    return timer;
  }

  readonly #look = (): void => {
    this.#timer = undefined;
    if (this.#isReady()) {
      this.#delayMs = LEAST_MS;
      this.#ring();
      return;
    }
    this.#delayMs = Math.min(this.#delayMs * 2, MOST_MS);
    this.#timer = this.#wait();
  };

  setRef(isRef: boolean): void {
    this.#isRef = isRef;
    if (isRef) this.#timer?.ref();
    else this.#timer?.unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
