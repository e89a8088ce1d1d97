import { describe, expect, spyOn, test } from "bun:test";
import { ClosedError, SystemError, TimeoutError } from "../../lib/error.ts";
import type { Memory } from "../../lib/ffi/libc.ts";
import { deadlineAfter, mayBeReady, Patience, waitUntil } from "../../lib/internal/deadline.ts";
import { close, send, socketpair } from "../../lib/sys/index.ts";
import { EBADF, EINTR, EINVAL } from "../../structs/constants/errno.ts";
import { POLLERR, POLLIN, POLLOUT } from "../../structs/constants/poll.ts";
import { AF_UNIX, SOCK_DGRAM } from "../../structs/constants/sys_socket.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { failWith, replaceEntry } from "../support/faults.ts";

const FOREVER = Number.POSITIVE_INFINITY;

// Answers polls with these results in turn, and keeps what each was asked.
function fakePoll(results: readonly (() => number)[]) {
  const asked: { fd: number; events: number; count: number; timeoutMs: number }[] = [];
  const fault = replaceEntry("poll", (fds: Memory, count: number, timeoutMs: number) => {
    const view = fds as DataView;
    asked.push({
      fd: pollfd.fd.get(view, 0),
      events: pollfd.events.get(view, 0),
      count,
      timeoutMs,
    });
    const result = results[asked.length - 1];
    if (!result) throw new Error(`poll was called ${asked.length} times`);
    return result();
  });
  return { asked, [Symbol.dispose]: () => fault[Symbol.dispose]() };
}

function socketPair() {
  const fds = new Int32Array(2);
  expect(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds)).toBe(0);
  const [near, far] = fds as unknown as [number, number];
  const closeBoth = () => fds.forEach(close);
  return { near, far, [Symbol.dispose]: closeBoth };
}

test.each([undefined, FOREVER])("deadlineAfter(%p) is no limit", (timeoutMs) => {
  expect(deadlineAfter(timeoutMs)).toBe(FOREVER);
});

test.each([0, 0.5, 250, 2 ** 31, 2 ** 53])("deadlineAfter(%d) is so far from now", (timeoutMs) => {
  const before = performance.now();
  const deadline = deadlineAfter(timeoutMs);
  expect(deadline).toBeGreaterThanOrEqual(before + timeoutMs);
  expect(deadline).toBeLessThanOrEqual(performance.now() + timeoutMs);
});

test.each([Number.NaN, -1, -0.001, Number.NEGATIVE_INFINITY])(
  "deadlineAfter() refuses %d",
  (timeoutMs) => {
    expect(() => deadlineAfter(timeoutMs)).toThrow(
      new RangeError(`Cannot use ${timeoutMs} as timeoutMs: expected 0 or more milliseconds`),
    );
  },
);

test.each([["100"], [null], [100n], [{}]])(
  "deadlineAfter() refuses %p by its type",
  (timeoutMs) => {
    expect(() => deadlineAfter(timeoutMs as unknown as number)).toThrow(TypeError);
  },
);

test("waitUntil() asks for one descriptor and its events, and returns when it is ready", () => {
  using poll = fakePoll([() => 1]);
  waitUntil(7, POLLIN | POLLOUT, FOREVER, "recvfrom");
  expect(poll.asked).toEqual([{ fd: 7, events: POLLIN | POLLOUT, count: 1, timeoutMs: -1 }]);
});

test("waitUntil() does not ask for the events of an earlier wait", () => {
  using poll = fakePoll([() => 1, () => 1]);
  waitUntil(7, POLLIN | POLLERR, FOREVER, "recvfrom");
  waitUntil(8, POLLOUT, FOREVER, "sendto");
  expect(poll.asked[1]).toMatchObject({ fd: 8, events: POLLOUT });
});

test("waitUntil() makes a wait that poll(2) cannot count in parts", () => {
  using poll = fakePoll([() => 0, () => 0, () => 1]);
  waitUntil(7, POLLIN, performance.now() + 2 ** 40, "recvfrom");
  expect(poll.asked.map(({ timeoutMs }) => timeoutMs)).toEqual([
    2 ** 31 - 1,
    2 ** 31 - 1,
    2 ** 31 - 1,
  ]);
});

test("waitUntil() rounds a part of a millisecond up, and is late at the deadline itself", () => {
  using _clock = spyOn(performance, "now").mockReturnValue(5000);
  using poll = fakePoll([() => 1]);
  waitUntil(7, POLLIN, 5999.25, "recvfrom");
  expect(poll.asked[0]?.timeoutMs).toBe(1000);
  expect(() => waitUntil(7, POLLIN, 5000, "recvfrom")).toThrow(TimeoutError);
});

test("waitUntil() waits on after a signal, to the same deadline", () => {
  const interrupted = () => {
    const until = performance.now() + 3;
    while (performance.now() < until);
    return failWith(EINTR);
  };
  using poll = fakePoll([interrupted, interrupted, interrupted, () => 1]);
  waitUntil(7, POLLIN, performance.now() + 60_000, "recvfrom");
  const waits = poll.asked.map(({ timeoutMs }) => timeoutMs);
  expect(waits).toHaveLength(4);
  expect((waits[0] as number) - (waits[3] as number)).toBeGreaterThanOrEqual(8);
});

test("waitUntil() gives up at the deadline although signals keep coming", () => {
  const until = performance.now() + 5;
  using _fault = replaceEntry("poll", () => failWith(EINTR));
  expect(() => waitUntil(7, POLLIN, until, "recvfrom")).toThrow(TimeoutError);
  expect(performance.now()).toBeGreaterThanOrEqual(until);
});

test("waitUntil() throws a TimeoutError that names the call, without asking, when it is late", () => {
  using poll = fakePoll([]);
  const wait = () => waitUntil(7, POLLIN, performance.now(), "recvfrom");
  expect(wait).toThrow(TimeoutError);
  expect(wait).toThrow("recvfrom ETIMEDOUT: timed out");
  expect(poll.asked).toEqual([]);
});

test("waitUntil() tells what was transferred before", () => {
  const late = (transferred?: number) => {
    try {
      waitUntil(7, POLLIN, 0, "sendmmsg", transferred);
    } catch (error) {
      return error as TimeoutError;
    }
    throw new Error("It did not throw");
  };
  expect(late(3).transferred).toBe(3);
  expect("transferred" in late(0)).toBe(false);
  expect("transferred" in late()).toBe(false);
});

test("waitUntil() reports what poll(2) refuses", () => {
  {
    using _poll = fakePoll([() => failWith(EINVAL)]);
    expect(() => waitUntil(7, POLLIN, FOREVER, "recvfrom")).toThrow(
      "poll EINVAL: invalid argument",
    );
  }
  {
    using _poll = fakePoll([() => failWith(EBADF)]);
    expect(() => waitUntil(7, POLLIN, FOREVER, "recvfrom")).toThrow(ClosedError);
  }
  expect(ClosedError.prototype).toBeInstanceOf(SystemError);
});

test("waitUntil() returns at once for a socket that has data", () => {
  using pair = socketPair();
  expect(send(pair.far, new Uint8Array(1), 0)).toBe(1);
  waitUntil(pair.near, POLLIN, FOREVER, "recv");
});

test("waitUntil() returns for an error that the descriptor has to report", () => {
  const pair = socketPair();
  pair[Symbol.dispose]();
  // poll(2): POLLNVAL for a descriptor that is not open, whatever was asked for.
  waitUntil(pair.near, POLLIN, performance.now() + 10_000, "recv");
});

test("waitUntil() blocks until the deadline, and not much longer", () => {
  using pair = socketPair();
  const start = performance.now();
  expect(() => waitUntil(pair.near, POLLIN, start + 30, "recv")).toThrow(TimeoutError);
  expect(performance.now() - start).toBeWithin(30, 1000);
});

test("mayBeReady() tells at once whether one of the events is there", () => {
  using pair = socketPair();
  expect(mayBeReady(pair.near, POLLIN)).toBe(false);
  expect(mayBeReady(pair.near, POLLIN | POLLOUT)).toBe(true);
  expect(send(pair.far, new Uint8Array(1), 0)).toBe(1);
  expect(mayBeReady(pair.near, POLLIN)).toBe(true);
  // Asking does not receive.
  expect(mayBeReady(pair.near, POLLIN)).toBe(true);
});

test("mayBeReady() is false for what was not asked, and true where poll(2) cannot say", () => {
  const pair = socketPair();
  pair[Symbol.dispose]();
  expect(mayBeReady(pair.near, POLLIN)).toBe(false);
  using poll = fakePoll([() => failWith(EINVAL)]);
  expect(mayBeReady(pair.near, POLLIN)).toBe(true);
  expect(poll.asked).toEqual([{ fd: pair.near, events: POLLIN, count: 1, timeoutMs: 0 }]);
});

describe("Patience", () => {
  test("is worth while at first, and seldom after it has not paid", () => {
    const patience = new Patience();
    let asked = 0;
    while (patience.isWorthwhile && asked < 100) {
      patience.learn(false);
      asked++;
    }
    expect(asked).toBeWithin(1, 10);
    const more = Array.from({ length: 640 }, () => patience.isWorthwhile);
    expect(more.filter(Boolean)).toHaveLength(10);
  });

  test("comes back as soon as it pays, and forgets no sooner than it learned", () => {
    const patience = new Patience();
    for (let i = 0; i < 100; i++) patience.learn(false);
    patience.learn(true);
    expect(patience.isWorthwhile).toBe(true);
    patience.learn(false);
    expect(patience.isWorthwhile).toBe(false);
    for (let i = 0; i < 100; i++) patience.learn(true);
    for (let i = 0; i < 7; i++) patience.learn(false);
    expect(patience.isWorthwhile).toBe(true);
    for (let i = 0; i < 10; i++) patience.learn(false);
    expect(patience.isWorthwhile).toBe(false);
  });
});
