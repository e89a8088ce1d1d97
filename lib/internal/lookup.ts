/**
 * Calls of libc that ask a resolver, on threads of their own: in the promise form, and in the
 * blocking form where it has a time to keep.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../structs/constants/errno.ts";
import { POLLIN } from "../../structs/constants/poll.ts";
import { EPOLLIN } from "../../structs/constants/sys_epoll.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK } from "../../structs/constants/sys_eventfd.ts";
import { pollfd } from "../../structs/pollfd.ts";
import {
  type CancelSignal,
  check,
  SystemError,
  type SystemErrorDetails,
  TimeoutError,
} from "../error.ts";
import {
  type LookupArgument,
  type LookupCall,
  type LookupResult,
  type LookupThread,
  startLookupThread,
} from "../ffi/lookup_thread.ts";
import { eventfd } from "../sys/eventfd.ts";
import { freeaddrinfo } from "../sys/netdb.ts";
import { poll } from "../sys/poll.ts";
import { read, write } from "../sys/unistd.ts";
import { limitOf, waitForAny, waitUntil } from "./deadline.ts";
import { Descriptor } from "./descriptor.ts";
import { loadPoller } from "./lazy_poller.ts";
import type { Call } from "./wait_line.ts";

/** A call, and what is made of its result. The list of the result is freed afterwards. */
export interface Question<Result> {
  readonly call: LookupCall;
  /** What is asked for, as errors tell it. */
  readonly host: string;
  readonly service?: string | undefined;
  readonly values: readonly LookupArgument[];
  readonly read: (result: LookupResult) => Result;
}

/**
 * How many threads a JavaScript thread has at most, those that nobody waits for any more among
 * them. The rest waits its turn.
 */
export const LOOKUPS_MAX = 8;

/** After so long a lookup that nobody waits for is looked at again. */
const AGAIN_MS = 10;

const bell = new Uint8Array(new ArrayBuffer(8));
const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** Asks, and answers when there is an answer. Whoever stops waiting leaves the thread to its end. */
export function lookUp<Result>(
  question: Question<Result>,
  deadline: number,
  signal: CancelSignal | undefined,
): Promise<Result> {
  if (deadline <= performance.now()) throw lateFor(question, deadline);
  const lookup = new Lookup(question);
  waiting.push(lookup);
  startWaiting();
  return lookup.answer(deadline, signal);
}

/** Asks, and blocks the thread until there is an answer. */
export function lookUpSync<Result>(question: Question<Result>, deadline: number): Result {
  if (deadline <= performance.now()) throw lateFor(question, deadline);
  try {
    waitForPlace(deadline);
    const lookup = new Lookup(question);
    lookup.start();
    return lookup.answerSync(deadline);
  } catch (error) {
    throw error instanceof TimeoutError ? lateFor(question, deadline) : error;
  }
}

function lateFor(question: Question<unknown>, deadline: number): TimeoutError {
  const details = { timeoutMs: limitOf(deadline), ...askedOf(question) };
  return new TimeoutError(question.call, details);
}

// Without a host it is a service that is asked for.
function askedOf({ host, service }: Question<unknown>): SystemErrorDetails {
  return host === "" ? {} : { host, service };
}

// Each of them is known here for as long as its thread may ring its bell, so that nobody collects
// the descriptor under it.
const running = new Set<Lookup<unknown>>();
const waiting: Lookup<unknown>[] = [];

function startWaiting(): void {
  while (running.size < LOOKUPS_MAX) {
    const next = waiting.shift();
    if (!next) return;
    next.start();
  }
}

// The loop does not turn meanwhile, so that what is done is still among the running ones.
function waitForPlace(deadline: number): void {
  for (;;) {
    for (const lookup of running) lookup.collectAbandoned();
    const busy = [...running].filter((lookup) => !lookup.hasRung);
    if (busy.length < LOOKUPS_MAX) return;
    const fds = new DataView(new ArrayBuffer(pollfd.size * busy.length));
    for (const [i, { fd }] of busy.entries()) {
      pollfd.fd.set(fds, i * pollfd.size, fd);
      pollfd.events.set(fds, i * pollfd.size, POLLIN);
    }
    waitForAny(fds, deadline);
  }
}

const polled = new DataView(new ArrayBuffer(pollfd.size));

// Throws where the kernel cannot say, as no event would tell again.
function isReadable(fd: number): boolean {
  pollfd.fd.set(polled, 0, fd);
  pollfd.events.set(polled, 0, POLLIN);
  let ready: number;
  do ready = poll(polled, 0);
  while (ready === -EINTR);
  return check(ready, "poll") > 0 && (pollfd.revents.get(polled, 0) & POLLIN) !== 0;
}

// What cannot be started says in the shape of a system error why.
function asSystemError(error: unknown): unknown {
  const { errno, syscall, message } = error as SystemError;
  return typeof errno === "number" ? new SystemError(errno, syscall, { hint: message }) : error;
}

class Lookup<Result> {
  readonly #question: Question<Result>;
  readonly #bell: Descriptor;
  #thread: LookupThread | undefined;
  /** Why it could not be started. */
  #failure: unknown;
  #isAbandoned = false;

  /** @throws {SystemError} `EMFILE` too many open descriptors */
  constructor(question: Question<Result>) {
    this.#question = question;
    this.#bell = new Descriptor(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
  }

  get fd(): number {
    return this.#bell.fd;
  }

  /** Whether its thread has rung: then it is done with the memory, and with the bell. */
  get hasRung(): boolean {
    return isReadable(this.fd) && this.#thread?.isDone() === true;
  }

  /** Starts its thread. A failure is the answer of whoever waits. */
  start(): void {
    const { call, values } = this.#question;
    try {
      this.#thread = startLookupThread(call, values, this.fd);
      running.add(this);
    } catch (error) {
      this.#failure = asSystemError(error);
      write(this.fd, ONE);
    }
  }

  async answer(deadline: number, signal: CancelSignal | undefined): Promise<Result> {
    const call: Call<{ readonly value: Result }> = {
      syscall: this.#question.call,
      attempt: () => this.#collect(),
      late: () => askedOf(this.#question),
      settled: () => this.#end(),
    };
    const { value } = await loadPoller().perform(this.#bell, EPOLLIN, call, deadline, signal);
    return value;
  }

  answerSync(deadline: number): Result {
    try {
      for (;;) {
        const result = this.#collect();
        if (result) return result.value;
        waitUntil(this.fd, POLLIN, deadline, this.#question.call);
      }
    } finally {
      this.#end();
    }
  }

  /** Takes an answer that nobody waits for. */
  collectAbandoned(): void {
    if (!this.#isAbandoned || !this.hasRung) return;
    const list = this.#finish()?.list ?? 0;
    if (list !== 0) freeaddrinfo(list);
    this.#bell.close();
    startWaiting();
  }

  // The answer, when the bell was rung. In an object, because undefined is an answer too.
  #collect(): { readonly value: Result } | undefined {
    if (this.#failure !== undefined) throw this.#failure;
    let result: number;
    // The bell rings once: no event would tell again.
    do result = read(this.fd, bell);
    while (result === -EINTR);
    if (result === -EAGAIN) return undefined;
    check(result, "read");
    // Somebody who has no business here may have rung.
    if (!this.#thread?.isDone()) return undefined;
    const answer = this.#finish() as LookupResult;
    try {
      return { value: this.#question.read(answer) };
    } finally {
      if (answer.list !== 0) freeaddrinfo(answer.list);
    }
  }

  #finish(): LookupResult | undefined {
    const thread = this.#thread;
    this.#thread = undefined;
    running.delete(this);
    return thread?.finish();
  }

  // Whoever waited has an answer, or waits no more.
  #end(): void {
    const isWaiting = waiting.indexOf(this);
    if (isWaiting >= 0) waiting.splice(isWaiting, 1);
    if (this.#thread) {
      this.#isAbandoned = true;
      queueMicrotask(() => this.#abandon());
      return;
    }
    this.#bell.close();
    startWaiting();
  }

  // Waits on for the thread, but keeps no process alive.
  #abandon(): void {
    if (this.fd < 0) return;
    const poller = loadPoller();
    poller.setRef(this.#bell, false);
    const nobody = {
      syscall: this.#question.call,
      attempt: () => (this.hasRung ? true : undefined),
    };
    poller
      .perform(this.#bell, EPOLLIN, nobody, Number.POSITIVE_INFINITY, undefined)
      .then(() => this.collectAbandoned())
      .catch(() => {})
      .finally(() => {
        // It could not be waited for, or looked at, for lack of memory.
        if (this.fd >= 0) setTimeout(() => this.#abandon(), AGAIN_MS).unref();
      });
  }
}
