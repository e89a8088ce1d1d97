// Bun's timers are a millisecond late, and blocking the thread about a tenth of that: what is left then
// is spent looking at the clock.
const TIMER_SLACK_NS = 2e6;
const SLEEP_SLACK_NS = 150e3;
// So often at least there is a turn of the event loop, for Ctrl-C.
const TURN_NS = 20e6;
const NEVER = new Int32Array(new SharedArrayBuffer(4));

/** Waits for moments of `Bun.nanoseconds`, to some microseconds, and lets the event loop have its turns. */
export class Pause {
  readonly #stop: AbortSignal;
  #turn = Bun.nanoseconds();

  constructor(stop: AbortSignal) {
    this.#stop = stop;
  }

  /** Whether the event loop has had no turn for long. */
  isTurnDue(now: number): boolean {
    return now - this.#turn > TURN_NS;
  }

  /** Gives the event loop a turn. */
  async turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#turn = Bun.nanoseconds();
  }

  /** Waits, or not at all where it is over; ends early when it is to stop. */
  async until(at: number): Promise<void> {
    while (!this.tryUntil(at) && !this.#stop.aborted) {
      const left = at - Bun.nanoseconds() - TIMER_SLACK_NS;
      if (left > 0) await Bun.sleep(Math.min(TURN_NS, left) / 1e6);
      await this.turn();
    }
  }

  /** Waits without the event loop where it is not for long. Tells whether it is over. */
  tryUntil(at: number): boolean {
    for (;;) {
      const now = Bun.nanoseconds();
      const left = at - now;
      if (left > TIMER_SLACK_NS || this.isTurnDue(now)) return false;
      if (left <= 0) return true;
      // Nobody wakes it: it is a sleep of parts of a millisecond, which Bun.sleepSync is not. What is
      // left then is too short to sleep.
      if (left > SLEEP_SLACK_NS) Atomics.wait(NEVER, 0, 0, (left - SLEEP_SLACK_NS) / 1e6);
    }
  }
}
