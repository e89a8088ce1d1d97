import {
  EAGAIN,
  EINTR,
  EINVAL,
  ENOSYS,
  EOPNOTSUPP,
  EOVERFLOW,
  ESPIPE,
} from "../../structs/constants/errno.ts";
import { O_CLOEXEC, O_NONBLOCK, O_RDONLY } from "../../structs/constants/fcntl.ts";
import { POLLIN } from "../../structs/constants/poll.ts";
import { EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import { type SystemErrorDetails, systemError } from "../error.ts";
import { sendfile } from "../sys/sendfile.ts";
import { describe, requireInteger } from "./arguments.ts";
import { waitUntil } from "./deadline.ts";
import { TransferLimits, type TransferOptions } from "./idle.ts";
import {
  Outgoing,
  requireOpen,
  runSync,
  STEP_BYTES,
  type Steps,
  type Stream,
  startWithin,
  streamError,
  tryAgain,
} from "./stream_call.ts";

/** What is read at once where the kernel does not send it by itself. */
const CHUNK_BYTES = 1 << 16;
const INT_MAX = 2 ** 31 - 1;
/** The errors with which sendfile(2) refuses a kind of file. */
const REFUSALS: readonly number[] = [-EINVAL, -ENOSYS, -EOPNOTSUPP, -ESPIPE, -EOVERFLOW];

/** Sends a file, blocking the thread. */
export function sendFileSync(
  stream: Stream,
  file: string | number,
  offset: number | undefined,
  length: number | undefined,
  options: TransferOptions,
): number {
  const limits = new TransferLimits(options);
  using source = new Source(stream, file, offset, length, limits);
  const run = (steps: Steps<unknown>) =>
    limits.run((deadline) => runSync(stream.descriptor, EPOLLOUT, deadline, steps));
  run(source.sending());
  while (source.isRefused && source.left > 0) {
    const chunk = limits.run((deadline) => source.read(deadline));
    if (chunk.length === 0) break;
    run(source.sendingChunk(chunk));
  }
  return source.sent;
}

/** Sends a file; the promise form. */
export async function sendFile(
  stream: Stream,
  file: string | number,
  offset: number | undefined,
  length: number | undefined,
  options: TransferOptions,
): Promise<number> {
  const limits = new TransferLimits(options);
  const { signal } = limits;
  using source = new Source(stream, file, offset, length, limits);
  const run = <Result>(steps: Steps<Result>) =>
    limits.runLater((deadline) =>
      startWithin(stream.descriptor, EPOLLOUT, { deadline, signal }, steps),
    );
  await run(source.sending());
  while (source.isRefused && source.left > 0) {
    const chunk = await run(source.reading());
    if (chunk.length === 0) break;
    await run(source.sendingChunk(chunk));
  }
  return source.sent;
}

/** A file that is being sent. */
class Source implements Disposable {
  /** Bytes that were sent. */
  sent = 0;
  /** Whether the kernel does not send this kind of file by itself. */
  isRefused = false;
  readonly #stream: Stream;
  readonly #fd: number;
  /** Its path, where it was opened here. */
  readonly #path: string | undefined;
  readonly #limits: TransferLimits;
  readonly #offset: number;
  readonly #length: number;
  /** Whether it can be read at an offset. */
  #seeks = true;
  // An off_t.
  readonly #position = new BigInt64Array(new ArrayBuffer(8));
  #chunk: Buffer | undefined;
  #isReading = false;
  #isOver = false;

  constructor(
    stream: Stream,
    file: string | number,
    offset: number | undefined,
    length: number | undefined,
    limits: TransferLimits,
  ) {
    if (offset !== undefined) requireInteger(offset, 0, Number.MAX_SAFE_INTEGER, "offset");
    if (length !== undefined && length !== Number.POSITIVE_INFINITY)
      requireInteger(length, 0, Number.MAX_SAFE_INTEGER, "length");
    if (typeof file === "number") requireInteger(file, 0, INT_MAX, "a descriptor");
    else if (typeof file !== "string")
      throw new TypeError(
        `Cannot send ${describe(file)} as a file: expected a path or a descriptor`,
      );
    requireOpen(stream, "sendfile");
    this.#stream = stream;
    this.#offset = offset ?? 0;
    this.#length = length ?? Number.POSITIVE_INFINITY;
    this.#limits = limits;
    this.#path = typeof file === "string" ? file : undefined;
    this.#fd = typeof file === "string" ? open(file) : file;
  }

  /** How many bytes are to be sent still. */
  get left(): number {
    return this.#length - this.sent;
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    // What reads still must not find another file under the number.
    if (!this.#isReading) this.#close();
  }

  #close(): void {
    if (this.#path !== undefined) fs().closeSync(this.#fd);
  }

  /** Sends by sendfile(2), until all is sent, or it is refused. */
  sending(): Steps<true> {
    const steps: Steps<true> = {
      syscall: "sendfile",
      attempt: () => {
        const before = this.sent;
        for (;;) {
          if (this.left === 0) return true;
          steps.paused = this.sent - before >= STEP_BYTES;
          if (steps.paused) {
            tryAgain(this.#stream.descriptor);
            return undefined;
          }
          const result = this.#send();
          if (result === undefined) return undefined;
          if (result === 0 || this.isRefused) return true;
          this.sent += result;
          this.#limits.moved();
        }
      },
      transferred: () => this.sent,
    };
    return steps;
  }

  #send(): number | undefined {
    const { fd } = this.#stream.descriptor;
    this.#position[0] = BigInt(this.#offset + this.sent);
    for (;;) {
      const count = Math.min(this.left, STEP_BYTES);
      const result = sendfile(fd, this.#fd, this.#position, count);
      if (result >= 0) return result;
      if (result === -EAGAIN) return undefined;
      if (REFUSALS.includes(result) && fd >= 0) {
        this.isRefused = true;
        return 0;
      }
      if (result !== -EINTR) throw streamError(this.#stream, result, "sendfile", this.#progress());
    }
  }

  #progress(): SystemErrorDetails {
    return this.sent > 0 ? { transferred: this.sent } : {};
  }

  /** Sends what was read. */
  sendingChunk(chunk: Buffer): Steps<number> {
    const outgoing = new Outgoing(this.#stream, [chunk], 0);
    const before = this.sent;
    const attempt = () => {
      try {
        return outgoing.attempt();
      } finally {
        if (before + outgoing.sent > this.sent) this.#limits.moved();
        this.sent = before + outgoing.sent;
      }
    };
    return { syscall: "send", attempt, transferred: () => this.sent };
  }

  /** Reads the next bytes: none at the end. */
  read(deadline: number): Buffer {
    const { chunk, length } = this.#room();
    for (;;) {
      if (!this.#seeks) waitUntil(this.#fd, POLLIN, deadline, "read", this.sent);
      try {
        const count = fs().readSync(this.#fd, chunk, 0, length, this.#at());
        return chunk.subarray(0, count);
      } catch (error) {
        this.#orInOrder(error);
      }
    }
  }

  /**
   * Reads the next bytes without blocking the thread. Reading cannot be called off: what nobody waits
   * for any more goes on by itself.
   */
  reading(): Steps<Buffer> {
    let chunk: Buffer | undefined;
    let failure: { readonly error: unknown } | undefined;
    const settled = () => {
      this.#isReading = false;
      if (this.#isOver) this.#close();
      // The socket has no event that would tell.
      tryAgain(this.#stream.descriptor);
    };
    this.#isReading = true;
    this.#readLater()
      .then(
        (read) => {
          chunk = read;
        },
        (error) => {
          failure = { error };
        },
      )
      .then(settled);
    const attempt = () => {
      if (failure) throw failure.error;
      return chunk;
    };
    return { syscall: "read", attempt, transferred: () => this.sent };
  }

  async #readLater(): Promise<Buffer> {
    const { chunk, length } = this.#room();
    for (;;) {
      try {
        const { promise, resolve, reject } = Promise.withResolvers<number>();
        fs().read(this.#fd, chunk, 0, length, this.#at(), (error, count) => {
          if (error) reject(error);
          else resolve(count);
        });
        return chunk.subarray(0, await promise);
      } catch (error) {
        // Nobody waits any more, and the caller's number may mean another file by now.
        if (this.#isOver) throw error;
        this.#orInOrder(error);
      }
    }
  }

  #room() {
    this.#chunk ??= Buffer.from(new ArrayBuffer(CHUNK_BYTES));
    return { chunk: this.#chunk, length: Math.min(this.left, CHUNK_BYTES) };
  }

  #at(): number | null {
    return this.#seeks ? this.#offset + this.sent : null;
  }

  // What has no offsets is read in order, where that is what was asked for.
  #orInOrder(error: unknown): void {
    const errno = errnoOf(error);
    if (errno !== -ESPIPE || !this.#seeks || this.#offset > 0)
      throw systemError(errno, "read", { ...this.#progress(), address: addressOf(this.#path) });
    this.#seeks = false;
  }
}

function open(path: string): number {
  if (path.includes("\0"))
    throw new TypeError(`Cannot use ${JSON.stringify(path)} as a path: it contains a NUL`);
  try {
    // A pipe that nobody writes to would block the thread.
    return fs().openSync(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } catch (error) {
    throw systemError(errnoOf(error), "open", { address: addressOf(path) });
  }
}

// A file as an error tells it.
function addressOf(path: string | undefined): SystemErrorDetails["address"] {
  return path === undefined ? undefined : { path, toString: () => path };
}

// What is no error of the system is thrown as it is.
function errnoOf(error: unknown): number {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  if (typeof errno !== "number") throw error;
  return errno;
}

function fs(): typeof import("node:fs") {
  return process.getBuiltinModule("node:fs");
}
