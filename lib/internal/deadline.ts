import { EINTR } from "../../structs/constants/errno.ts";
import { POLLERR } from "../../structs/constants/poll.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { check, TimeoutError } from "../error.ts";
import { poll } from "../sys/poll.ts";
import { refuseMisspelt } from "./arguments.ts";
import { errorsOf } from "./descriptor.ts";

// poll(2) takes an int: a longer wait is made in parts.
const POLL_MS_MAX = 2 ** 31 - 1;
const PAUSE_MS_MAX = 10;
/** poll(2): negative descriptors are ignored. */
const NOBODY = -1;
/** Wake-ups for nothing that are let pass, and how soon a wait ends that was none. */
const TRIES_MAX = 8;
const AT_ONCE_MS = 0.05;

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
  lastDeadline = performance.now() + timeoutMs;
  lastTimeoutMs = timeoutMs;
  return lastDeadline;
}

/** The deadline of a call that takes nothing else but `timeoutMs`, or has read the rest. */
export function deadlineOf(
  options: { readonly timeoutMs?: number | undefined } | undefined,
): number {
  const timeoutMs = options?.timeoutMs;
  // Only there a name may be missing: a call with a limit pays for nothing.
  if (timeoutMs === undefined) refuseMisspelt(options);
  return deadlineAfter(timeoutMs);
}

// The deadline that was made last, and the limit that it came of.
let lastDeadline = Number.NaN;
let lastTimeoutMs = 0;

/**
 * The `timeoutMs` that a deadline came of, for the error when it has passed. Only of the deadline that
 * was made last, as that of a call which has just begun to wait; undefined of any other.
 */
export function limitOf(deadline: number): number | undefined {
  return deadline === lastDeadline ? lastTimeoutMs : undefined;
}

// One for the thread: a wait blocks it, so there is never a second one.
const fds = new DataView(new ArrayBuffer(pollfd.size));

/**
 * Blocks the thread until the descriptor is ready for `events` or has an error to report.
 * Interruptions by signals do not move the deadline.
 *
 * @param tries how often the call that waits was woken for nothing. What stays ready and gives
 * nothing, as a datagram socket that was shut down, or errors that nobody reads, must not make a loop
 * without pause.
 * @throws {TimeoutError} naming `syscall`, when the deadline passes first
 */
export function waitUntil(
  fd: number,
  events: number,
  deadline: number,
  syscall: string,
  transferred?: number,
  tries = 0,
): void {
  for (;;) {
    const started = tries < TRIES_MAX ? 0 : performance.now();
    if (pollOnce(fd, events, deadline, POLL_MS_MAX, syscall, transferred) === 0) continue;
    if (tries < TRIES_MAX || performance.now() - started > AT_ONCE_MS) return;
    pauseUntil(deadline, tries - TRIES_MAX, syscall, transferred);
    return;
  }
}

/**
 * How often a blocking receive asks again before it sleeps, where that pays: some 30 µs, and a sender
 * that has to wake us for each piece spends more than that on it.
 */
export const PATIENCE_TRIES = 80;
const CREDIT = 4;
const CREDIT_MAX = 8;
/** Where it did not pay, it is tried again every so often. */
const SELDOM = 64;

/**
 * Learns whether asking again pays: it does while a sender on another core is about to send more, and
 * does not on one core, or between a question and its answer over a network.
 */
export class Patience {
  #credit = CREDIT;
  #skipped = 0;

  get isWorthwhile(): boolean {
    return this.#credit > 0 || ++this.#skipped % SELDOM === 0;
  }

  learn(hasPaid: boolean): void {
    this.#credit = hasPaid ? Math.min(this.#credit + 1, CREDIT_MAX) : Math.max(this.#credit - 1, 0);
  }
}

/**
 * Blocks the thread until one of many descriptors is ready, or has an error to report.
 *
 * @param pollfds structs `pollfd`, whose `revents` are set
 * @throws {TimeoutError} when the deadline passes first
 */
export function waitForAny(pollfds: DataView, deadline: number): void {
  // 0 milliseconds are one try.
  const ready = poll(pollfds, 0);
  if (ready !== -EINTR && check(ready, "poll") > 0) return;
  while (pollAll(pollfds, deadline, POLL_MS_MAX, "poll") === 0);
}

/**
 * Blocks the thread for a moment, for conditions that no descriptor tells of: 1 ms after the first
 * try, then 2, 4, 8, and 10 at most.
 *
 * @throws {TimeoutError} naming `syscall`, when the deadline has passed
 */
export function pauseUntil(
  deadline: number,
  tries: number,
  syscall: string,
  transferred?: number,
): void {
  pollOnce(NOBODY, 0, deadline, Math.min(2 ** tries, PAUSE_MS_MAX), syscall, transferred);
}

function pollOnce(
  fd: number,
  events: number,
  deadline: number,
  limitMs: number,
  syscall: string,
  transferred: number | undefined,
): number {
  pollfd.fd.set(fds, 0, fd);
  pollfd.events.set(fds, 0, events);
  const ready = pollAll(fds, deadline, limitMs, syscall, transferred);
  // Where somebody has asked for errors they are fetched: else each next wait would end at once.
  if (ready > 0 && pollfd.revents.get(fds, 0) & POLLERR) errorsOf(fd)?.drain(fd);
  return ready;
}

// One poll(2). Returns 0 when it was interrupted, or the time is over.
function pollAll(
  pollfds: DataView,
  deadline: number,
  limitMs: number,
  syscall: string,
  transferred?: number,
): number {
  const remaining = deadline - performance.now();
  if (remaining <= 0)
    throw new TimeoutError(syscall, {
      transferred: transferred ?? 0,
      timeoutMs: limitOf(deadline),
    });
  // Rounded up: a wait that ends early would only be made again.
  const isEndless = remaining === Number.POSITIVE_INFINITY && limitMs === POLL_MS_MAX;
  const ready = poll(pollfds, isEndless ? -1 : Math.ceil(Math.min(remaining, limitMs)));
  return ready === -EINTR ? 0 : check(ready, "poll");
}

/**
 * Whether the descriptor may be ready for `events` now: also when the kernel cannot say. Does not
 * consume a pending error.
 */
export function mayBeReady(fd: number, events: number): boolean {
  pollfd.fd.set(fds, 0, fd);
  pollfd.events.set(fds, 0, events);
  const ready = poll(fds, 0);
  return ready < 0 || (ready > 0 && (pollfd.revents.get(fds, 0) & events) !== 0);
}
