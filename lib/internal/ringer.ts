/**
 * What tells Bun's event loop, from outside of JavaScript, that an epoll set has an event.
 */
export interface Ringer {
  /** What it has open, where it does not close that itself when its thread has ended. */
  readonly descriptor?: number;
  /**
   * Rings the bell once, as soon as the set has an event: at once when it has one. Only called
   * when the last ring was heard.
   *
   * @returns 0, or `-errno`
   */
  arm(): number;
  /** Whether what it needs itself keeps the process alive. */
  setRef(isRef: boolean): void;
  /** Ends it, and closes what it has opened. */
  stop(): void;
}

/** The ringers there are, the best first. */
export type RingerName = "io_uring" | "thread" | "timer";

/** The ways there are to be heard on Bun's loop, the best first. */
export type DoorbellName = "socket" | "eventfd";

/** Where a ringer rings. */
export interface Doorbell {
  readonly name: DoorbellName;
  /** The descriptor that a ringer writes 8 bytes to, a 1 in 64 bits. */
  readonly fd: number;
  /** Every descriptor that it holds, ours and the one that Bun reads. */
  readonly descriptors: readonly number[];
  /** Whether the loop waits for it, and so the process stays alive. */
  setRef(isRef: boolean): void;
  close(): void;
}
