import { EINTR } from "../../structs/constants/errno.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { check, TimeoutError } from "../error.ts";
import { poll } from "../sys/poll.ts";

// poll(2) takes an int: a longer wait is made in parts.
const POLL_MS_MAX = 2 ** 31 - 1;

/**
 * Checks a `timeoutMs` and turns it into a deadline on the monotonic clock. Undefined and Infinity
 * are no limit.
 *
 * @throws {RangeError} it is NaN or negative
 */
export function deadlineAfter(timeoutMs: number | undefined): number {
  if (timeoutMs === undefined) return Number.POSITIVE_INFINITY;
  if (typeof timeoutMs !== "number") {
    throw new TypeError(
      `Cannot use a value of type ${typeof timeoutMs} as timeoutMs: expected a number`,
    );
  }
  if (!(timeoutMs >= 0))
    throw new RangeError(`Cannot use ${timeoutMs} as timeoutMs: expected 0 or more milliseconds`);
  return performance.now() + timeoutMs;
}

// One for the thread: a wait blocks it, so there is never a second one.
const fds = new DataView(new ArrayBuffer(pollfd.size));

/**
 * Blocks the thread until the descriptor is ready for `events` or has an error to report.
 * Interruptions by signals do not move the deadline.
 *
 * @throws {TimeoutError} naming `syscall`, when the deadline passes first
 */
export function waitUntil(
  fd: number,
  events: number,
  deadline: number,
  syscall: string,
  transferred?: number,
): void {
  for (;;) {
    const remaining = deadline - performance.now();
    if (remaining <= 0) throw new TimeoutError(syscall, transferred ? { transferred } : {});
    pollfd.fd.set(fds, 0, fd);
    pollfd.events.set(fds, 0, events);
    // Rounded up: a wait that ends early would only be made again.
    const ready = poll(
      fds,
      remaining === Number.POSITIVE_INFINITY ? -1 : Math.min(Math.ceil(remaining), POLL_MS_MAX),
    );
    if (ready > 0) return;
    if (ready !== -EINTR) check(ready, "poll");
  }
}

/** Whether the descriptor is ready for `events` now. Does not consume a pending error. */
export function isReady(fd: number, events: number): boolean {
  pollfd.fd.set(fds, 0, fd);
  pollfd.events.set(fds, 0, events);
  return poll(fds, 0) > 0 && (pollfd.revents.get(fds, 0) & events) !== 0;
}
