import { EINTR } from "../../structs/constants/errno.ts";
import {
  POLLERR,
  POLLHUP,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  POLLPRI,
} from "../../structs/constants/poll.ts";
import { EPOLLIN, EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { type CancelSignal, ClosedError, check } from "../error.ts";
import type { PollInterest, PollResult } from "../poll.ts";
import { type CancelOptions, descriptorOf, type Socket, type TimeoutOptions } from "../socket.ts";
import { poll as pollNow } from "../sys/poll.ts";
import {
  describe,
  requireBoolean,
  requireObject,
  requireOptions,
  requireSignal,
} from "./arguments.ts";
import { hear, unhear } from "./crowd.ts";
import { deadlineAfter, deadlineOf, waitForAny } from "./deadline.ts";
import { type Descriptor, errorsOf } from "./descriptor.ts";
import { loadPoller } from "./lazy_poller.ts";

interface Entry {
  readonly socket: Socket;
  readonly descriptor: Descriptor;
  readonly events: number;
}

/** Which of many sockets are ready now. */
export function tryPoll(sockets: Iterable<Socket | PollInterest>): PollResult[] {
  return resultsNow(toEntries(sockets));
}

/** Blocks the thread until one of many sockets is ready. */
export function pollSync(
  sockets: Iterable<Socket | PollInterest>,
  options?: TimeoutOptions,
): PollResult[] {
  const deadline = deadlineOf(options);
  const entries = toEntries(sockets);
  for (;;) {
    const view = toPollfds(entries);
    waitForAny(view, deadline);
    const results = toResults(entries, view);
    if (results.length > 0) return results;
  }
}

/** Waits until one of many sockets is ready. */
export async function poll(
  sockets: Iterable<Socket | PollInterest>,
  options: CancelOptions,
): Promise<PollResult[]> {
  const { timeoutMs, signal } = requireOptions(options);
  const deadline = deadlineAfter(timeoutMs);
  requireSignal(signal)?.throwIfAborted();
  const entries = toEntries(sockets);
  for (;;) {
    const results = resultsNow(entries);
    if (results.length > 0) return results;
    await waitForOne(entries, deadline, signal);
  }
}

// Until one of them may be ready: somebody else may have taken what was there.
async function waitForOne(
  entries: readonly Entry[],
  deadline: number,
  signal: CancelSignal | undefined,
): Promise<void> {
  const over = new AbortController();
  const abort = () => over.abort(signal?.reason);
  if (signal) hear(signal, abort);
  try {
    await Promise.race(entries.flatMap((entry) => waitsOf(entry, deadline, over.signal)));
  } finally {
    if (signal) unhear(signal, abort);
    over.abort();
  }
}

// One wait for each direction. Those that lose the race are cancelled, which nobody needs to hear.
function waitsOf(entry: Entry, deadline: number, signal: CancelSignal): Promise<unknown>[] {
  const { descriptor, events } = entry;
  const directions = [
    [POLLIN, EPOLLIN],
    [POLLOUT, EPOLLOUT],
  ] as const;
  const wanted = directions.filter(([event]) => events & event);
  return wanted.map(([event, epollEvent]) => {
    const attempt = () => resultsNow([{ ...entry, events: event }]).length > 0 || undefined;
    const call = { syscall: "poll", attempt };
    const wait = loadPoller().perform(descriptor, epollEvent, call, deadline, signal);
    wait.catch(() => {});
    return wait;
  });
}

function toEntries(sockets: Iterable<Socket | PollInterest>): Entry[] {
  const entries = toArray(sockets).map(toEntry);
  if (entries.length === 0) throw new RangeError("Cannot poll no sockets: expected 1 or more");
  return entries;
}

// Typed arrays hold numbers. What only inherits from one throws something of the engine's.
const TypedArray: new () => object = Object.getPrototypeOf(Uint8Array);

function toArray(sockets: Iterable<Socket | PollInterest>): (Socket | PollInterest)[] {
  const isIterable = sockets instanceof Object && Symbol.iterator in sockets;
  if (isIterable && !(sockets instanceof TypedArray)) return [...sockets];
  throw new TypeError(`Cannot poll ${describe(sockets)}: expected sockets in an array`);
}

function toEntry(interest: Socket | PollInterest): Entry {
  const descriptor = descriptorOf(interest as Socket);
  if (descriptor) return { socket: interest as Socket, descriptor, events: POLLIN };
  const { socket, read = false, write = false } = requireObject(interest as PollInterest);
  requireBoolean(read, "read");
  requireBoolean(write, "write");
  const own = descriptorOf(socket);
  if (!own) throw new TypeError(`Cannot poll ${describe(socket)}: expected a socket`);
  if (!read && !write)
    throw new TypeError("Cannot poll a socket for nothing: expected read or write");
  return { socket, descriptor: own, events: (read ? POLLIN : 0) | (write ? POLLOUT : 0) };
}

function toPollfds(entries: readonly Entry[]): DataView {
  const view = new DataView(new ArrayBuffer(entries.length * pollfd.size));
  for (const [i, { descriptor, events }] of entries.entries()) {
    if (descriptor.fd < 0) throw new ClosedError("poll");
    pollfd.fd.set(view, i * pollfd.size, descriptor.fd);
    pollfd.events.set(view, i * pollfd.size, events & POLLIN ? events | POLLPRI : events);
  }
  return view;
}

function resultsNow(entries: readonly Entry[]): PollResult[] {
  const view = toPollfds(entries);
  ask(view);
  return toResults(entries, view);
}

function ask(view: DataView): void {
  let ready: number;
  do ready = pollNow(view, 0);
  while (ready === -EINTR);
  check(ready, "poll");
}

// Errors that are queued are for those who ask for them, and nobody else is woken.
function fetchErrors(entries: readonly Entry[], view: DataView): boolean {
  let hasFetched = false;
  for (const [i, { descriptor }] of entries.entries()) {
    if ((pollfd.revents.get(view, i * pollfd.size) & POLLERR) === 0) continue;
    const errors = errorsOf(descriptor.fd);
    errors?.drain(descriptor.fd);
    hasFetched ||= errors !== undefined;
  }
  return hasFetched;
}

function toResults(entries: readonly Entry[], view: DataView): PollResult[] {
  if (fetchErrors(entries, view)) ask(view);
  return entries.flatMap(({ socket }, i) => {
    const events = pollfd.revents.get(view, i * pollfd.size);
    if (events === 0) return [];
    // Somebody has closed it behind our back.
    if (events & POLLNVAL) throw new ClosedError("poll");
    return {
      socket,
      readable: (events & (POLLIN | POLLHUP | POLLERR)) !== 0,
      writable: (events & (POLLOUT | POLLERR)) !== 0,
      urgent: (events & POLLPRI) !== 0,
      error: (events & POLLERR) !== 0,
      hangUp: (events & POLLHUP) !== 0,
    };
  });
}
