/**
 * What a capture file is read from: a window of bytes that moves over it. A parser looks at the window
 * and says how much it needs; who reads fills it, in either form.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../../structs/constants/errno.ts";
import { POLLIN } from "../../../structs/constants/poll.ts";
import { type SystemErrorDetails, systemError } from "../../error.ts";
import { bytesOf } from "../../ffi/memory.ts";
import { describe, toView } from "../../internal/arguments.ts";
import { waitUntil } from "../../internal/deadline.ts";
import { close, read } from "../../sys/unistd.ts";
import { CaptureFileError } from "../capture_file_error.ts";
import { hold, letGo } from "./file_net.ts";

/** Bytes that come one after the other. */
export type ByteStream = AsyncIterable<Uint8Array>;

const CHUNK_BYTES = 1 << 20;
/** A pipe gives this much at once: with less room the window moves on. */
const ROOM_BYTES = 1 << 16;
const PAUSE_MS_MAX = 10;
const EMPTY = new Uint8Array(0);
const EMPTY_VIEW = new DataView(EMPTY.buffer);

/** A window over a file that is read from its beginning to its end, once. */
export class CaptureInput {
  /** The memory that the window is in. */
  bytes: Uint8Array = EMPTY;
  /** The same. */
  view: DataView = EMPTY_VIEW;
  /** Where the window begins and ends in it. */
  start = 0;
  end = 0;
  /** Where the memory would begin in the file. */
  base = 0;
  /** Whether the file ends with the window. */
  ended = false;
  /** How long the window has to be for the next step. */
  wanted = 0;
  /** Whether views of the memory were given away, so that it must not be written to again. */
  isLent = false;
  /** The path of the file, where it has one. */
  readonly path: string | undefined;

  constructor(path: string | undefined) {
    this.path = path;
  }

  /** Looks at memory instead of at a window of its own. */
  lookAt(bytes: Uint8Array): void {
    this.base += this.start;
    this.start = 0;
    this.end = bytes.length;
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.isLent = true;
  }

  /** Whether the window has as many bytes; else how many are wanted. */
  has(count: number): boolean {
    if (this.end - this.start >= count) return true;
    this.wanted = count;
    return false;
  }

  /** Moves the window on. */
  take(count: number): void {
    this.start += count;
  }

  /** Room behind the window: at least 64 KiB. */
  room(): Uint8Array {
    const left = this.end - this.start;
    if (this.bytes.length - this.end < ROOM_BYTES) this.#move(left);
    return this.bytes.subarray(this.end);
  }

  // A length that lies gets no memory before the bytes are there: it grows with what comes.
  #move(left: number): void {
    const capacity = Math.max(CHUNK_BYTES, 2 * left);
    if (this.isLent || capacity > this.bytes.length) {
      const next = new Uint8Array(new ArrayBuffer(capacity));
      next.set(this.bytes.subarray(this.start, this.end));
      this.bytes = next;
      this.view = new DataView(next.buffer);
      this.isLent = false;
    } else {
      this.bytes.copyWithin(0, this.start, this.end);
    }
    this.base += this.start;
    this.start = 0;
    this.end = left;
  }

  /** Appends bytes of somebody else. */
  append(chunk: Uint8Array): void {
    if (this.start === this.end) {
      this.lookAt(chunk);
      return;
    }
    for (let from = 0; from < chunk.length; ) {
      const room = this.room();
      const count = Math.min(room.length, chunk.length - from);
      room.set(chunk.subarray(from, from + count));
      this.end += count;
      from += count;
    }
  }

  /** The error of damage at a place in the memory. */
  damaged(at: number, reason: string): CaptureFileError {
    return new CaptureFileError(this.base + at, reason, this.path);
  }
}

/** Where the bytes come from. */
export interface CaptureSource {
  /** Fills a part of memory. Returns how much, 0 at the end. Undefined where it cannot. */
  readonly read: ((target: Uint8Array) => number) | undefined;
  /** The same without blocking the thread, into the window. */
  readLater(input: CaptureInput): Promise<void>;
  /** Lets go of it. */
  close(): void;
}

/** A file, by its descriptor. */
export class DescriptorSource implements CaptureSource {
  readonly #fd: number;
  readonly #path: string | undefined;
  readonly #isOwn: boolean;
  #isReading = false;
  #isClosed = false;

  constructor(fd: number, path: string | undefined, isOwn: boolean) {
    this.#fd = fd;
    this.#path = path;
    this.#isOwn = isOwn;
    if (isOwn) hold(this, fd);
  }

  /** Blocks the thread as long as nothing comes. */
  read(target: Uint8Array): number {
    for (;;) {
      const result = read(this.#fd, target);
      if (result >= 0) return result;
      if (result === -EAGAIN) waitUntil(this.#fd, POLLIN, Number.POSITIVE_INFINITY, "read");
      else if (result !== -EINTR) throw this.#failure(result);
    }
  }

  /** Reads on a thread of Bun's. */
  async readLater(input: CaptureInput): Promise<void> {
    const target = input.room();
    this.#isReading = true;
    try {
      const count = await this.#readInto(target);
      input.end += count;
      input.ended = count === 0;
    } finally {
      this.#isReading = false;
      if (this.#isClosed) this.#close();
    }
  }

  async #readInto(target: Uint8Array): Promise<number> {
    for (let pauseMs = 1; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MS_MAX)) {
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      fs().read(this.#fd, target, 0, target.length, null, (error, count) => {
        if (error) reject(error);
        else resolve(count);
      });
      try {
        return await promise;
      } catch (error) {
        const errno = errnoOf(error);
        if (this.#isClosed || (errno !== -EAGAIN && errno !== -EINTR)) throw this.#failure(errno);
        // Nothing tells of a descriptor that is not a socket of ours.
        if (errno === -EAGAIN) await new Promise((wake) => setTimeout(wake, pauseMs));
        if (this.#isClosed) throw this.#failure(errno);
      }
    }
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // What reads still must not find another file under the number.
    if (!this.#isReading) this.#close();
  }

  #close(): void {
    if (!this.#isOwn) return;
    letGo(this);
    close(this.#fd);
  }

  #failure(errno: number): Error {
    return systemError(errno, "read", { address: fileAddress(this.#path) });
  }
}

/** Memory: all of it is in the window from the beginning. */
export class MemorySource implements CaptureSource {
  read(): number {
    return 0;
  }

  async readLater(input: CaptureInput): Promise<void> {
    input.ended = true;
  }

  close(): void {}
}

/** A stream, which has the promise form only. */
export class StreamSource implements CaptureSource {
  readonly read = undefined;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #isOver = false;

  constructor(stream: ByteStream) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }

  async readLater(input: CaptureInput): Promise<void> {
    const { value, done } = await this.#chunks.next();
    if (done) {
      this.#isOver = true;
      input.ended = true;
      return;
    }
    const chunk = bytesOf(toView(value, "a piece of the stream"));
    if (chunk.length > 0) input.append(chunk);
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    // Whoever gives the bytes is told; what it has to say of that concerns nobody any more.
    this.#chunks.return?.().catch(() => {});
  }
}

/** Opens a file by its path. */
export function openFile(path: string, flags: "r" | "w" | "r+"): number {
  if (path.includes("\0"))
    throw new TypeError(`Cannot use ${JSON.stringify(path)} as a path: it contains a NUL`);
  try {
    return fs().openSync(path, flags);
  } catch (error) {
    throw systemError(errnoOf(error), "open", { address: fileAddress(path) });
  }
}

/** Refuses what is no file: neither a path nor the number of a descriptor. */
export function requireFile(file: unknown): void {
  if (typeof file === "string") return;
  throw new TypeError(
    `Cannot use ${describe(file)} as a capture file: expected a path or a descriptor`,
  );
}

/** A file as an error tells it. */
export function fileAddress(path: string | undefined): SystemErrorDetails["address"] {
  return path === undefined ? undefined : { path, toString: () => path };
}

/** The errno of an error of Node's; what is no error of the system is thrown as it is. */
export function errnoOf(error: unknown): number {
  const errno = error instanceof Error && "errno" in error ? error.errno : undefined;
  if (typeof errno !== "number") throw error;
  return errno;
}

/** Node's own. @internal */
export function fs(): typeof import("node:fs") {
  return process.getBuiltinModule("node:fs");
}
