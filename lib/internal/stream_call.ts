/**
 * What the classes of streams share: a call that is made step by step, in promise and in blocking
 * form, and the errors and transfers of a stream's descriptor.
 *
 * @module
 */
import { EAGAIN, EBADF, EINTR } from "../../structs/constants/errno.ts";
import { POLLIN, POLLOUT } from "../../structs/constants/poll.ts";
import { EPOLLIN, type EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL } from "../../structs/constants/sys_socket.ts";
import { iovec } from "../../structs/iovec.ts";
import { msghdr } from "../../structs/msghdr.ts";
import {
  type CancelSignal,
  ClosedError,
  SystemError,
  type SystemErrorDetails,
  systemError,
} from "../error.ts";
import { addressOf, byteLengthOf, bytesOf } from "../ffi/memory.ts";
import { recv, send, sendmsg } from "../sys/socket.ts";
import { refuseMisspelt, requireSignal, requireView } from "./arguments.ts";
import { deadlineAfter, waitUntil } from "./deadline.ts";
import type { Descriptor } from "./descriptor.ts";
import { loadPoller } from "./lazy_poller.ts";
import type { Call } from "./wait_line.ts";

/** The direction that a call waits for. */
export type Direction = typeof EPOLLIN | typeof EPOLLOUT;

/** A call that is made step by step. */
export interface Steps<Result> extends Call<Result> {
  /** Whether the last step ended because it had done enough, and not because it would block. */
  paused?: boolean;
}

/** The options of a promise form. */
export interface CallOptions {
  readonly timeoutMs?: number | undefined;
  readonly signal?: CancelSignal | undefined;
}

/** The options of a promise form, read once. */
export interface Limits {
  readonly deadline: number;
  readonly signal: CancelSignal | undefined;
}

/** An open stream, as the readers, writers and transfers of it see it. */
export interface Stream {
  readonly descriptor: Descriptor;
  /** Whether it is a Unix one, whose errors have other remedies. */
  readonly isUnix: boolean;
}

/** How many bytes a step moves before everything else of the thread has its turn. */
export const STEP_BYTES = 1 << 20;

const VECTORS_MAX = 64;
const UNLIMITED: Limits = { deadline: Number.POSITIVE_INFINITY, signal: undefined };

/** Reads the options of a promise form. Throws the reason of a signal that was aborted before. */
export function readLimits(options: CallOptions | undefined): Limits {
  if (!options) return UNLIMITED;
  const { timeoutMs, signal } = options;
  if (timeoutMs === undefined && signal === undefined) refuseMisspelt(options);
  requireSignal(signal)?.throwIfAborted();
  return { deadline: deadlineAfter(timeoutMs), signal };
}

/** Makes a call in promise form. What `prepare` throws rejects it. */
export function start<Result>(
  descriptor: Descriptor,
  direction: Direction,
  options: CallOptions | undefined,
  prepare: () => Steps<Result>,
): Promise<Result> {
  try {
    const limits = readLimits(options);
    return startWithin(descriptor, direction, limits, prepare());
  } catch (error) {
    return Promise.reject(error);
  }
}

/** Makes a call in promise form, whose options were read before. */
export function startWithin<Result>(
  descriptor: Descriptor,
  direction: Direction,
  { deadline, signal }: Limits,
  steps: Steps<Result>,
): Promise<Result> {
  // One that has paused is ready, of which no event tells.
  const onWait = () => {
    if (steps.paused) tryAgain(descriptor);
  };
  return loadPoller().perform(descriptor, direction, steps, deadline, signal, onWait);
}

/** Has those who wait for a descriptor tried again, this turn or the next. */
export function tryAgain({ watch }: Descriptor): void {
  if (watch) loadPoller().retry(watch);
}

/** Makes a call in blocking form. */
export function runSync<Result>(
  descriptor: Descriptor,
  direction: Direction,
  deadline: number,
  steps: Steps<Result>,
): Result {
  const event = direction === EPOLLIN ? POLLIN : POLLOUT;
  try {
    let before = 0;
    for (let tries = 0; ; tries++) {
      const result = steps.attempt();
      if (result !== undefined) return result;
      const transferred = steps.transferred?.() ?? 0;
      if (transferred !== before) tries = 0;
      before = transferred;
      waitUntil(descriptor.fd, event, deadline, steps.syscall, transferred, tries);
    }
  } finally {
    steps.settled?.();
  }
}

/** The error of a call on a stream. */
export function streamError(
  { descriptor, isUnix }: Stream,
  result: number,
  syscall: string,
  details?: SystemErrorDetails,
): SystemError {
  // Another descriptor of the call may be the bad one.
  if (result === -EBADF && descriptor.fd >= 0) return new SystemError(result, syscall, details);
  return systemError(result, syscall, { ...details, unix: isUnix });
}

/** Refuses a stream that was closed or given away. */
export function requireOpen({ descriptor }: Stream, syscall: string): void {
  if (descriptor.fd < 0) throw new ClosedError(syscall);
}

/** recv(2) into a view. Returns the bytes, 0 at the end, or undefined when it would block. */
export function receiveSome(
  stream: Stream,
  view: ArrayBufferView,
  transferred?: number,
): number | undefined {
  for (;;) {
    const result = recv(stream.descriptor.fd, view, MSG_DONTWAIT);
    if (result >= 0) return result;
    if (result === -EAGAIN) return undefined;
    if (result !== -EINTR) throw streamError(stream, result, "recv", transferredOf(transferred));
  }
}

function transferredOf(transferred: number | undefined): SystemErrorDetails {
  return transferred ? { transferred } : {};
}

/** send(2) of a view. Returns the bytes, or undefined when it would block. */
export function sendSome(
  stream: Stream,
  view: ArrayBufferView,
  flags: number,
  transferred?: number,
): number | undefined {
  for (;;) {
    const result = send(stream.descriptor.fd, view, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (result >= 0) return result;
    if (result === -EAGAIN) return undefined;
    if (result !== -EINTR) throw streamError(stream, result, "send", transferredOf(transferred));
  }
}

// Scratch for sendmsg(2), and the views that it points at: an address does not keep memory alive.
let header: DataView | undefined;
const inCall: { views: readonly ArrayBufferView[] } = { views: [] };

function sendVectors(
  stream: Stream,
  views: readonly ArrayBufferView[],
  flags: number,
  transferred: number,
): number | undefined {
  header ??= new DataView(new ArrayBuffer(msghdr.size + VECTORS_MAX * iovec.size));
  const base = addressOf(header);
  let at = msghdr.size;
  for (const view of views) {
    iovec.iov_base.set(header, at, addressOf(view));
    iovec.iov_len.set(header, at, byteLengthOf(view));
    at += iovec.size;
  }
  msghdr.msg_iov.set(header, 0, base + msghdr.size);
  msghdr.msg_iovlen.set(header, 0, views.length);
  inCall.views = views;
  try {
    for (;;) {
      const result = sendmsg(stream.descriptor.fd, header, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
      if (result >= 0) return result;
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR)
        throw streamError(stream, result, "sendmsg", transferredOf(transferred));
    }
  } finally {
    inCall.views = [];
  }
}

/** Views that are on their way out, in order. */
export class Outgoing implements Steps<number> {
  readonly syscall = "send";
  paused = false;
  /** Bytes sent so far. */
  sent = 0;
  readonly #stream: Stream;
  readonly #views: ArrayBufferView[];
  readonly #flags: number;
  /** The first view that was not sent whole. */
  #next = 0;

  constructor(stream: Stream, views: readonly ArrayBufferView[], flags: number) {
    requireOpen(stream, "send");
    this.#stream = stream;
    this.#views = views.filter((view) => byteLengthOf(view) > 0);
    this.#flags = flags;
  }

  /** Sends until all is sent, or it would block. */
  attempt(): number | undefined {
    const before = this.sent;
    this.paused = false;
    for (;;) {
      if (this.#next === this.#views.length) return this.sent;
      if (this.sent - before >= STEP_BYTES) {
        this.paused = true;
        tryAgain(this.#stream.descriptor);
        return undefined;
      }
      const result = this.#send();
      if (result === undefined) return undefined;
      this.#advance(result);
    }
  }

  /** Bytes sent so far. */
  transferred(): number {
    return this.sent;
  }

  /** What is not sent, as views. */
  get rest(): ArrayBufferView[] {
    return this.#views.slice(this.#next);
  }

  #send(): number | undefined {
    const views = this.#views.slice(this.#next, this.#next + VECTORS_MAX);
    // Asked each time: it may have been detached since, and its memory be another's.
    for (const view of views) requireView(view, "data");
    const [only] = views;
    if (only && views.length === 1) return sendSome(this.#stream, only, this.#flags, this.sent);
    return sendVectors(this.#stream, views, this.#flags, this.sent);
  }

  #advance(bytes: number): void {
    this.sent += bytes;
    let left = bytes;
    while (left > 0) {
      const view = this.#views[this.#next] as ArrayBufferView;
      const length = byteLengthOf(view);
      if (left < length) {
        this.#views[this.#next] = restOf(view, left);
        return;
      }
      left -= length;
      this.#next++;
    }
  }
}

function restOf(view: ArrayBufferView, bytes: number): Uint8Array {
  return bytesOf(view).subarray(bytes);
}
