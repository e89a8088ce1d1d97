import { afterEach, describe, expect } from "bun:test";
import { type Mapping, mapDescriptor, mapMemory, unmapMemory } from "../../lib/ffi/memory.ts";
import { eventfd } from "../../lib/sys/eventfd.ts";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { io_uring_enter, io_uring_setup } from "../../lib/sys/io_uring.ts";
import { poll } from "../../lib/sys/poll.ts";
import { close, read } from "../../lib/sys/unistd.ts";
import {
  EBADF,
  ECANCELED,
  EINVAL,
  ENOENT,
  ENOSYS,
  EOPNOTSUPP,
  EPERM,
  ETIME,
} from "../../structs/constants/errno.ts";
import { F_GETFD, FD_CLOEXEC } from "../../structs/constants/fcntl.ts";
import {
  IORING_ENTER_GETEVENTS,
  IORING_FEAT_CQE_SKIP,
  IORING_FEAT_SINGLE_MMAP,
  IORING_OFF_CQ_RING,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_OP_ASYNC_CANCEL,
  IORING_OP_NOP,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_OP_TIMEOUT,
  IORING_OP_WRITE,
  IORING_SETUP_CLAMP,
  IORING_SETUP_COOP_TASKRUN,
  IORING_SETUP_DEFER_TASKRUN,
  IORING_SETUP_SINGLE_ISSUER,
  IOSQE_CQE_SKIP_SUCCESS,
  IOSQE_IO_LINK,
} from "../../structs/constants/linux_io_uring.ts";
import { POLLIN, POLLOUT } from "../../structs/constants/poll.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK } from "../../structs/constants/sys_eventfd.ts";
import { io_cqring_offsets } from "../../structs/io_cqring_offsets.ts";
import { io_sqring_offsets } from "../../structs/io_sqring_offsets.ts";
import { io_uring_cqe } from "../../structs/io_uring_cqe.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { io_uring_sqe } from "../../structs/io_uring_sqe.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { timespec } from "../../structs/timespec.ts";
import { type Missing, testIf } from "../support/require.ts";

const ENTRIES = 4;
const LIMIT_MS = 4000;

function paramsOf(flags: number): DataView {
  const params = new DataView(new ArrayBuffer(io_uring_params.size));
  io_uring_params.flags.set(params, 0, flags);
  return params;
}

/** Why a ring with these flags cannot be made here. */
function missing(flags: number): Missing {
  const fd = io_uring_setup(1, paramsOf(flags));
  if (fd === -ENOSYS || fd === -EPERM) return "needs a kernel that allows io_uring";
  if (fd === -EINVAL && flags !== 0) return "needs the io_uring of a newer kernel";
  // Another failure is for the tests to tell.
  if (fd >= 0) close(fd);
  return undefined;
}

const DEFERRED = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
const withRing = testIf(missing(0));
const withSingleIssuer = testIf(missing(IORING_SETUP_SINGLE_ISSUER));
const withDeferred = testIf(missing(DEFERRED));

const cleanups: (() => void)[] = [];
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
});

function opened(fd: number): number {
  expect(fd).toBeGreaterThan(2);
  cleanups.push(() => close(fd));
  return fd;
}

function owned(mapping: Mapping | number): Mapping {
  if (typeof mapping === "number") throw new Error(`mmap failed with ${mapping}`);
  cleanups.push(() => unmapMemory(mapping.buffer));
  return mapping;
}

const counter = (initial: number): number => opened(eventfd(initial, EFD_CLOEXEC | EFD_NONBLOCK));

type Entry = Partial<
  Record<"opcode" | "flags" | "fd" | "addr" | "len" | "poll32_events" | "user_data", number>
>;

interface Ring {
  readonly fd: number;
  readonly features: number;
  /** Puts entries into the queue. */
  queue(...entries: Entry[]): void;
  /** The same, and enters for them. */
  submit(...entries: Entry[]): number;
  /** How many completions there are, as the thread sees it without entering. */
  posted(): number;
  /** Takes what has completed, as [user_data, res]. */
  completions(): number[][];
}

function openRing(flags: number): Ring {
  const params = paramsOf(flags);
  const fd = opened(io_uring_setup(ENTRIES, params));
  const sq = io_uring_params.sq_off.get(params, 0);
  const cq = io_uring_params.cq_off.get(params, 0);
  const sqEntries = io_uring_params.sq_entries.get(params, 0);
  const cqEntries = io_uring_params.cq_entries.get(params, 0);
  const map = (byteLength: number, offset: number) =>
    owned(mapDescriptor(fd, byteLength, offset)).buffer;
  const array = io_sqring_offsets.array.get(params, sq);
  const cqes = io_cqring_offsets.cqes.get(params, cq);
  const submissions = new Int32Array(map(array + 4 * sqEntries, IORING_OFF_SQ_RING));
  const completionBuffer = map(cqes + cqEntries * io_uring_cqe.size, IORING_OFF_CQ_RING);
  const completions = new Int32Array(completionBuffer);
  const completionView = new DataView(completionBuffer);
  const sqes = new DataView(map(sqEntries * io_uring_sqe.size, IORING_OFF_SQES));
  const [tail, head, end] = [
    io_sqring_offsets.tail.get(params, sq) / 4,
    io_cqring_offsets.head.get(params, cq) / 4,
    io_cqring_offsets.tail.get(params, cq) / 4,
  ];
  const posted = () => Atomics.load(completions, end) - Atomics.load(completions, head);
  const queue = (...entries: Entry[]) => {
    for (const entry of entries) {
      const index = Atomics.load(submissions, tail) % sqEntries;
      const at = index * io_uring_sqe.size;
      new Uint8Array(sqes.buffer, at, io_uring_sqe.size).fill(0);
      for (const [name, value] of Object.entries(entry))
        io_uring_sqe[name as keyof Entry].set(sqes, at, value);
      submissions[array / 4 + index] = index;
      Atomics.add(submissions, tail, 1);
    }
  };
  return {
    fd,
    features: io_uring_params.features.get(params, 0),
    queue,
    posted,
    submit: (...entries) => {
      queue(...entries);
      return io_uring_enter(fd, entries.length, 0, 0);
    },
    completions: () =>
      Array.from({ length: posted() }, () => {
        const at = cqes + (Atomics.add(completions, head, 1) % cqEntries) * io_uring_cqe.size;
        return [
          io_uring_cqe.user_data.get(completionView, at),
          io_uring_cqe.res.get(completionView, at),
        ];
      }),
  };
}

const takeEvents = (ring: Ring): number => io_uring_enter(ring.fd, 0, 0, IORING_ENTER_GETEVENTS);

// Whether there is something for who polls the ring.
function isReady(ring: Ring, timeoutMs: number): boolean {
  const polled = new DataView(new ArrayBuffer(pollfd.size));
  pollfd.fd.set(polled, 0, ring.fd);
  pollfd.events.set(polled, 0, POLLIN);
  return poll(polled, timeoutMs) === 1;
}

/** Waits until so many are posted, and takes them. An enter that waits would know no limit. */
function completed(ring: Ring, count: number): number[][] {
  const end = performance.now() + LIMIT_MS;
  while (ring.posted() < count && performance.now() < end) isReady(ring, 100);
  return ring.completions();
}

withRing("io_uring_setup() tells what it has made, and sets FD_CLOEXEC", () => {
  const params = paramsOf(IORING_SETUP_CLAMP);
  const fd = opened(io_uring_setup(3, params));
  expect(fcntl(fd, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(io_uring_params.sq_entries.get(params, 0)).toBe(4);
  expect(io_uring_params.cq_entries.get(params, 0)).toBe(8);
  expect(io_uring_params.flags.get(params, 0)).toBe(IORING_SETUP_CLAMP);
  const features = io_uring_params.features.get(params, 0);
  expect(features & IORING_FEAT_SINGLE_MMAP).toBe(IORING_FEAT_SINGLE_MMAP);
  const sq = io_uring_params.sq_off.get(params, 0);
  expect(io_sqring_offsets.array.get(params, sq)).toBeGreaterThan(0);
});

withRing("io_uring_setup() of more entries than there may be is -EINVAL without the clamp", () => {
  const many = 2 ** 20;
  expect(io_uring_setup(many, paramsOf(0))).toBe(-EINVAL);
  const params = paramsOf(IORING_SETUP_CLAMP);
  opened(io_uring_setup(many, params));
  expect(io_uring_params.sq_entries.get(params, 0)).toBeWithin(1, many);
});

withRing("io_uring_setup() of no entries, and with other flags, is -EINVAL", () => {
  expect(io_uring_setup(0, paramsOf(0))).toBe(-EINVAL);
  expect(io_uring_setup(1, paramsOf(0x8000_0000))).toBe(-EINVAL);
});

withRing("io_uring_enter() submits, and the completion has the token", () => {
  const ring = openRing(0);
  const token = 2 ** 52 + 5;
  expect(ring.submit({ opcode: IORING_OP_NOP, user_data: token })).toBe(1);
  expect(ring.completions()).toEqual([[token, 0]]);
  expect(ring.posted()).toBe(0);
});

withRing("io_uring_enter() submits no more than there is, and no more than it is told", () => {
  const ring = openRing(0);
  expect(io_uring_enter(ring.fd, ENTRIES, 0, 0)).toBe(0);
  ring.queue({ user_data: 1 }, { user_data: 2 }, { user_data: 3 });
  expect(io_uring_enter(ring.fd, 1, 0, 0)).toBe(1);
  expect(ring.completions()).toEqual([[1, 0]]);
  expect(io_uring_enter(ring.fd, ENTRIES, 0, 0)).toBe(2);
  expect(ring.completions()).toEqual([
    [2, 0],
    [3, 0],
  ]);
});

withRing("io_uring_enter() waits for as many completions as it is told", () => {
  const ring = openRing(0);
  const timeout = owned(mapMemory(timespec.size));
  timespec.tv_nsec.set(new DataView(timeout.buffer), 0, 20_000_000);
  const entry = { opcode: IORING_OP_TIMEOUT, addr: timeout.address, len: 1, user_data: 7 };
  expect(ring.submit(entry)).toBe(1);
  expect(takeEvents(ring)).toBe(0);
  expect(ring.posted()).toBe(0);
  expect(io_uring_enter(ring.fd, 0, 1, IORING_ENTER_GETEVENTS)).toBe(0);
  expect(ring.completions()).toEqual([[7, -ETIME]]);
});

withRing("io_uring_enter() of no descriptor is -EBADF, and of no ring -EOPNOTSUPP", () => {
  expect(io_uring_enter(-1, 0, 0, 0)).toBe(-EBADF);
  expect(io_uring_enter(counter(0), 0, 0, 0)).toBe(-EOPNOTSUPP);
});

withRing("io_uring_enter() with other flags is -EINVAL", () => {
  const ring = openRing(0);
  expect(io_uring_enter(ring.fd, 0, 0, 0x8000_0000)).toBe(-EINVAL);
});

withRing("POLL_ADD of what is ready completes with its events", () => {
  const ring = openRing(0);
  const poll32_events = POLLIN | POLLOUT;
  const opcode = IORING_OP_POLL_ADD;
  expect(ring.submit({ opcode, fd: counter(1), poll32_events, user_data: 7 })).toBe(1);
  expect(completed(ring, 1)).toEqual([[7, POLLIN | POLLOUT]]);
});

withRing("a refused entry completes with -errno", () => {
  const ring = openRing(0);
  expect(ring.submit({ opcode: IORING_OP_POLL_ADD, fd: -1, user_data: 7 })).toBe(1);
  expect(ring.submit({ opcode: IORING_OP_ASYNC_CANCEL, addr: 99, user_data: 8 })).toBe(1);
  expect(ring.completions()).toEqual([
    [7, -EBADF],
    [8, -ENOENT],
  ]);
});

withRing("POLL_REMOVE takes back a POLL_ADD, which completes with -ECANCELED", () => {
  const ring = openRing(0);
  const waiting = { opcode: IORING_OP_POLL_ADD, fd: counter(0), poll32_events: POLLIN };
  expect(ring.submit({ ...waiting, user_data: 7 })).toBe(1);
  expect(ring.posted()).toBe(0);
  expect(ring.submit({ opcode: IORING_OP_POLL_REMOVE, addr: 7, user_data: 8 })).toBe(1);
  expect(completed(ring, 2).sort(([a = 0], [b = 0]) => a - b)).toEqual([
    [7, -ECANCELED],
    [8, 0],
  ]);
});

withRing("a WRITE that is linked to a POLL_ADD is made when the poll is ready, by itself", () => {
  const ring = openRing(0);
  const skips = ring.features & IORING_FEAT_CQE_SKIP;
  const [source, target] = [counter(1), counter(0)];
  const payload = owned(mapMemory(8));
  new BigUint64Array(payload.buffer)[0] = 5n;
  const link = IOSQE_IO_LINK | (skips && IOSQE_CQE_SKIP_SUCCESS);
  const first = { opcode: IORING_OP_POLL_ADD, flags: link, fd: source, poll32_events: POLLIN };
  const then = { opcode: IORING_OP_WRITE, fd: target, addr: payload.address, len: 8 };
  expect(ring.submit({ ...first, user_data: 7 }, { ...then, user_data: 8 })).toBe(2);
  // The flag leaves out the completion of what has succeeded.
  const expected = [...(skips ? [] : [[7, POLLIN]]), [8, 8]];
  expect(completed(ring, expected.length)).toEqual(expected);
  const taken = new BigUint64Array(1);
  expect(read(target, taken)).toBe(8);
  expect(taken[0]).toBe(5n);
});

/** Has another thread write to an eventfd, and comes back when it has. */
async function writeElsewhere(fd: number): Promise<void> {
  const unistd = JSON.stringify(new URL("../../lib/sys/unistd.ts", import.meta.url));
  const script = `
    import { write } from ${unistd};
    onmessage = ({ data }) => postMessage(write(data, new BigUint64Array([1n])));
    postMessage("ready");
  `;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url);
  try {
    const answers: unknown[] = [];
    await new Promise<void>((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(event.message));
      worker.onmessage = ({ data }) => {
        answers.push(data);
        if (data === "ready") worker.postMessage(fd);
        else resolve();
      };
    });
    expect(answers).toEqual(["ready", 8]);
  } finally {
    worker.terminate();
    URL.revokeObjectURL(url);
  }
}

/** Waits on the event loop, without entering the ring, until something is posted or time is up. */
async function postedWithin(ring: Ring, limitMs: number): Promise<number> {
  const end = performance.now() + limitMs;
  while (ring.posted() === 0 && performance.now() < end) await Bun.sleep(1);
  return ring.posted();
}

describe("a POLL_ADD of what becomes ready later", () => {
  async function openWaiting(flags: number): Promise<Ring> {
    const ring = openRing(flags);
    const fd = counter(0);
    const entry = { opcode: IORING_OP_POLL_ADD, fd, poll32_events: POLLIN, user_data: 7 };
    expect(ring.submit(entry)).toBe(1);
    expect(ring.posted()).toBe(0);
    await writeElsewhere(fd);
    return ring;
  }

  withSingleIssuer("completes by itself with SINGLE_ISSUER", async () => {
    const ring = await openWaiting(IORING_SETUP_SINGLE_ISSUER);
    expect(await postedWithin(ring, LIMIT_MS)).toBe(1);
    expect(ring.completions()).toEqual([[7, POLLIN]]);
  });

  withSingleIssuer("completes with COOP_TASKRUN at the next system call of any kind", async () => {
    const ring = await openWaiting(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN);
    expect(await postedWithin(ring, LIMIT_MS)).toBe(1);
    expect(ring.completions()).toEqual([[7, POLLIN]]);
  });

  withDeferred("posts nothing with DEFER_TASKRUN until the thread enters for events", async () => {
    const ring = await openWaiting(DEFERRED);
    // The event loop, and every call but the one, leave the completion where it is.
    expect(await postedWithin(ring, 50)).toBe(0);
    expect(io_uring_enter(ring.fd, 0, 0, 0)).toBe(0);
    expect(ring.posted()).toBe(0);
    // What polls the ring itself is told all the same.
    expect(isReady(ring, 0)).toBe(true);
    expect(ring.posted()).toBe(0);
    expect(takeEvents(ring)).toBe(0);
    expect(ring.completions()).toEqual([[7, POLLIN]]);
  });
});
