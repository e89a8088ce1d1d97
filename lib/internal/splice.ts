import { EAGAIN, EINTR, EINVAL, ENOSYS, EOPNOTSUPP } from "../../structs/constants/errno.ts";
import {
  F_SETPIPE_SZ,
  O_CLOEXEC,
  O_NONBLOCK,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from "../../structs/constants/fcntl.ts";
import { POLLIN, POLLOUT } from "../../structs/constants/poll.ts";
import { EPOLLIN, EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import { check, type SystemErrorDetails, TimeoutError } from "../error.ts";
import { fcntl, splice } from "../sys/fcntl.ts";
import { close, pipe2, read } from "../sys/unistd.ts";
import { waitUntil } from "./deadline.ts";
import type { TransferLimits } from "./idle.ts";
import {
  receiveSome,
  type Steps,
  type Stream,
  sendSome,
  startWithin,
  streamError,
} from "./stream_call.ts";

export { TransferLimits } from "./idle.ts";

/** What goes into a pipe at once, and how large it is where the system allows it. */
const PIPE_BYTES = 1 << 18;
/** What is received at once where the kernel does not splice. */
const BUFFER_BYTES = 1 << 16;
const POOL_MAX = 4;
/** After so many pieces without a wait, which would have looked at the time, it is looked at. */
const ROUNDS = 64;
const FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
const REFUSALS: readonly number[] = [-EINVAL, -ENOSYS, -EOPNOTSUPP];

/** What was taken off a stream and could not be delivered: where it is kept for the next time. */
export interface Leftovers {
  take(): Uint8Array;
  keep(bytes: Uint8Array<ArrayBuffer>): void;
}

interface Pipe {
  readonly reader: number;
  readonly writer: number;
}

// Empty pipes for the next one. They go when the turn ends: a thread that is terminated would leave
// them open.
const pool: Pipe[] = [];
let isEmptying = false;

/** Moves bytes from one stream to another, step by step. */
export class Splice {
  readonly #source: Stream;
  readonly #target: Stream;
  readonly #length: number;
  readonly #leftovers: Leftovers;
  readonly #limits: TransferLimits;
  /** Bytes that were delivered, and that were taken off the source. */
  #moved = 0;
  #taken = 0;
  #isEnded = false;
  #pipe: Pipe | undefined;
  #inPipe = 0;
  /** What is to be delivered by send(2). */
  #pending: Uint8Array;
  /** Where the kernel does not splice. */
  #buffer: Uint8Array<ArrayBuffer> | undefined;

  constructor(
    source: Stream,
    target: Stream,
    length: number,
    leftovers: Leftovers,
    limits: TransferLimits,
  ) {
    this.#limits = limits;
    this.#source = source;
    this.#target = target;
    this.#length = length;
    this.#leftovers = leftovers;
    const left = leftovers.take();
    this.#pending = left.subarray(0, Math.min(left.length, length));
    if (this.#pending.length < left.length) leftovers.keep(left.slice(this.#pending.length));
    this.#taken = this.#pending.length;
  }

  /** Bytes that were delivered. */
  get moved(): number {
    return this.#moved;
  }

  /** Whether everything that was to be moved was delivered. */
  get isDone(): boolean {
    const isAll = this.#isEnded || this.#taken >= this.#length;
    return isAll && this.#inPipe === 0 && this.#pending.length === 0;
  }

  readonly #transferred = (): number => this.#moved;

  /** Takes bytes off the source. */
  readonly taking: Steps<true> = {
    syscall: "splice",
    attempt: () => this.#take(),
    transferred: this.#transferred,
  };

  /** Delivers what was taken. */
  readonly delivering: Steps<true> = {
    syscall: "splice",
    attempt: () => this.#deliver(),
    transferred: this.#transferred,
  };

  #take(): true | undefined {
    const left = this.#length - this.#taken;
    if (left === 0) return true;
    const result = this.#buffer ? this.#receive(left) : this.#splice(left);
    if (result === undefined) return undefined;
    if (result === 0) this.#isEnded = true;
    this.#taken += result;
    this.#limits.moved();
    return true;
  }

  #receive(left: number): number | undefined {
    const buffer = (this.#buffer as Uint8Array).subarray(0, Math.min(left, BUFFER_BYTES));
    const received = receiveSome(this.#source, buffer, this.#moved);
    if (received) this.#pending = buffer.subarray(0, received);
    return received;
  }

  #splice(left: number): number | undefined {
    this.#pipe ??= takePipe();
    const { fd } = this.#source.descriptor;
    for (;;) {
      const room = Math.min(left, PIPE_BYTES);
      const result = splice(fd, null, this.#pipe.writer, null, room, FLAGS);
      if (result >= 0) {
        this.#inPipe += result;
        return result;
      }
      // The pipe is empty: it is the source that has nothing.
      if (result === -EAGAIN) return undefined;
      if (REFUSALS.includes(result)) {
        this.#buffer = new Uint8Array(BUFFER_BYTES);
        return this.#receive(left);
      }
      if (result !== -EINTR) throw streamError(this.#source, result, "splice", this.#progress());
    }
  }

  #deliver(): true | undefined {
    while (this.#pending.length > 0) {
      const sent = sendSome(this.#target, this.#pending, 0, this.#moved);
      if (sent === undefined) return undefined;
      this.#moved += sent;
      this.#limits.moved();
      this.#pending = this.#pending.subarray(sent);
    }
    while (this.#inPipe > 0) {
      const { reader } = this.#pipe as Pipe;
      const result = splice(reader, null, this.#target.descriptor.fd, null, this.#inPipe, FLAGS);
      if (result === -EAGAIN) return undefined;
      if (result === -EINTR) continue;
      if (REFUSALS.includes(result)) {
        this.#pending = this.#drain();
        this.#buffer = new Uint8Array(BUFFER_BYTES);
        return this.#deliver();
      }
      if (result < 0) throw streamError(this.#target, result, "splice", this.#progress());
      this.#moved += result;
      this.#inPipe -= result;
      this.#limits.moved();
    }
    return true;
  }

  #progress(): SystemErrorDetails {
    return this.#moved > 0 ? { transferred: this.#moved } : {};
  }

  // Reads the pipe empty.
  #drain(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#inPipe);
    let length = 0;
    while (length < bytes.length) {
      const result = read((this.#pipe as Pipe).reader, bytes.subarray(length));
      if (result === -EINTR) continue;
      if (result <= 0) break;
      length += result;
    }
    this.#inPipe -= length;
    return bytes.subarray(0, length);
  }

  /** Keeps what was not delivered, and gives the pipe back. */
  finish(): void {
    const inPipe = this.#pipe ? this.#drain() : new Uint8Array(0);
    // Bytes that were to be sent came before those in the pipe.
    const left = Buffer.concat([this.#pending, inPipe, this.#leftovers.take()]);
    if (left.length > 0) this.#leftovers.keep(new Uint8Array(left));
    if (this.#pipe) givePipe(this.#pipe, this.#inPipe === 0);
    this.#pipe = undefined;
  }

  /** Throws when the time is over: what is always ready would never be told. */
  requireTime(): void {
    this.#limits.signal?.throwIfAborted();
    if (performance.now() > this.#limits.deadline)
      throw this.#limits.told(new TimeoutError("splice", this.#progress()));
  }

  /** Blocks until one of the two ends can go on. */
  wait(direction: "source" | "target", tries: number): void {
    const isSource = direction === "source";
    const { fd } = (isSource ? this.#source : this.#target).descriptor;
    const event = isSource ? POLLIN : POLLOUT;
    this.#limits.run((deadline) => {
      waitUntil(fd, event, deadline, "splice", this.#moved, tries);
    });
  }

  /** Makes a step in promise form. */
  step(direction: "source" | "target"): Promise<true> {
    const { signal } = this.#limits;
    return this.#limits.runLater((deadline) =>
      direction === "source"
        ? startWithin(this.#source.descriptor, EPOLLIN, { deadline, signal }, this.taking)
        : startWithin(this.#target.descriptor, EPOLLOUT, { deadline, signal }, this.delivering),
    );
  }
}

/** Moves everything, blocking the thread. */
export function runSpliceSync(job: Splice): number {
  try {
    for (let round = 1; ; round++) {
      for (let tries = 0, before = job.moved; !job.delivering.attempt(); tries++) {
        if (job.moved > before) tries = 0;
        before = job.moved;
        job.wait("target", tries);
      }
      if (job.isDone) return job.moved;
      if (round % ROUNDS === 0) job.requireTime();
      for (let tries = 0; !job.taking.attempt(); tries++) job.wait("source", tries);
    }
  } finally {
    job.finish();
  }
}

/** Moves everything, in promise form. */
export async function runSplice(job: Splice): Promise<number> {
  try {
    for (let round = 1; ; round++) {
      await job.step("target");
      if (job.isDone) return job.moved;
      if (round % ROUNDS === 0) job.requireTime();
      await job.step("source");
    }
  } finally {
    job.finish();
  }
}

function takePipe(): Pipe {
  const pooled = pool.pop();
  if (pooled) return pooled;
  const pair = new Int32Array(new ArrayBuffer(8));
  check(pipe2(pair, O_CLOEXEC | O_NONBLOCK), "pipe2");
  const [reader = -1, writer = -1] = pair;
  // A smaller one does too.
  fcntl(writer, F_SETPIPE_SZ, PIPE_BYTES);
  return { reader, writer };
}

function givePipe(pipe: Pipe, isEmpty: boolean): void {
  if (!isEmpty || pool.length >= POOL_MAX) {
    closePipe(pipe);
    return;
  }
  pool.push(pipe);
  if (isEmptying) return;
  isEmptying = true;
  setImmediate(() => {
    isEmptying = false;
    for (const pooled of pool.splice(0)) closePipe(pooled);
  });
}

function closePipe({ reader, writer }: Pipe): void {
  close(reader);
  close(writer);
}
