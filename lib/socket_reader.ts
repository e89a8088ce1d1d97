import { EBUSY, EMSGSIZE, EPROTO } from "../structs/constants/errno.ts";
import { EPOLLIN } from "../structs/constants/sys_epoll.ts";
import { SystemError } from "./error.ts";
import { bufferOf, byteLengthOf, bytesOf, isDetached } from "./ffi/memory.ts";
import {
  notHeaderBytes,
  optionsOf,
  requireBoolean,
  requireInteger,
  requireOptions,
  requireView,
} from "./internal/arguments.ts";
import { deadlineAfter, deadlineOf } from "./internal/deadline.ts";
import {
  receiveSome,
  runSync,
  STEP_BYTES,
  type Steps,
  type Stream,
  start,
  tryAgain,
} from "./internal/stream_call.ts";
import {
  type Decoder,
  decoderOf,
  delimiterBytes,
  type Encoder,
  encoderOf,
  type NewlineName,
  requireNewline,
} from "./internal/text.ts";
import { hasTime } from "./internal/turn.ts";
import type { CancelOptions, TimeoutOptions } from "./socket.ts";

/**
 * What a line ends with: "lf", "crlf", "cr", or "any", which is each of the three, a "\r\n" being one
 * end also where it comes in two parts.
 */
export type Newline = NewlineName;

/** What a reader can be told. */
export interface ReaderOptions {
  /**
   * Room for what is received at once, in bytes; default 65536. It is the first call of a socket's
   * `reader` that counts. It grows as far as a line needs.
   */
  readonly bufferBytes?: number | undefined;
  /**
   * How long a line, what is read up to a delimiter, what is peeked at, and a packet may be, in bytes
   * without the end; default 1 MiB.
   */
  readonly limitBytes?: number | undefined;
  /**
   * The encoding of text: a label that TextDecoder knows, default "utf-8". "latin1" and "iso-8859-1"
   * are each byte as the character of its number.
   */
  readonly encoding?: string | undefined;
  /** Whether bytes that are no text of the encoding are a TypeError, instead of U+FFFD. Default false. */
  readonly fatal?: boolean | undefined;
  /** What a line ends with; default "any". */
  readonly newline?: Newline | undefined;
}

/** What was read up to a delimiter. */
export interface Delimited {
  /** The bytes before the delimiter. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Whether the delimiter came: else the stream ended before, and these are the last bytes. */
  readonly complete: boolean;
}

/** The most that a call is told to read at most. */
export interface LimitOptions {
  /** How many bytes it may be at most: instead of the reader's `limitBytes`. */
  readonly limitBytes?: number | undefined;
}

/** Lines for `for await`: what `SocketReader.lines` gives. */
export interface Lines extends AsyncIterableIterator<string> {
  [Symbol.asyncIterator](): Lines;
}

/** Lines that were decoded together, and what is known of those that were not handed out. */
interface Batch {
  readonly lines: readonly string[];
  next: number;
  /** How many bytes of the buffer they are. */
  readonly byteLength: number;
}

const LF = 0x0a;
const CR = 0x0d;
const CRLF = Buffer.from("\r\n");
const BUFFER_BYTES = 1 << 16;
const LIMIT_BYTES = 1 << 20;
const BYTES_MAX = 2 ** 31 - 1;
/** Room behind the buffer for a byte that ends every search. */
const SLACK = 1;
/** How many bytes of lines are decoded together, at first. */
const BATCH_BYTES = 1 << 12;
const EMPTY = Buffer.alloc(0);
/** What a step gives at the end, where undefined says that it would block. */
const END = Symbol("end");
type End = typeof END;

/**
 * Reads a stream through a buffer: lines, exact lengths, up to a delimiter, text.
 *
 * `socket.reader()` makes it; a socket has one. It receives as much at once as its buffer holds, and
 * large pieces straight into the caller's memory. `socket.receive` and the other raw calls go past it:
 * they do not see what it holds (`buffered`, `takeBuffered`).
 *
 * Whatever fails loses nothing: after a timeout, an aborted signal, an error, a line that is too long,
 * the bytes that came can still be read. Promise forms are served in order, also when they are not
 * waited for one by one; while one waits, the `Sync` and `try` forms are refused with `EBUSY`, because
 * they would take its bytes. At the end of the stream everything answers what is left, and then says
 * so: `undefined`, or fewer bytes. What the reader holds can be read after the socket was closed.
 *
 * It needs no closing, and closing the socket is not its business; it keeps an open socket from being
 * collected.
 *
 * @example Headers, then a body of known length
 * ```ts
 * import { StreamSocket } from "bun-sockets";
 *
 * const [client, server] = StreamSocket.pair();
 * await client.sendAll("PUT /a\r\nlength: 5\r\n\r\nhello");
 * const reader = server.reader({ limitBytes: 8192 });
 * const request = await reader.readLine({ timeoutMs: 1000 });
 * let length = 0;
 * for await (const header of reader.lines()) {
 *   if (header === "") break;
 *   length = Number(/^length: (\d+)$/.exec(header)?.[1]);
 * }
 * console.log(request, `${Buffer.from(await reader.readExactly(length))}`); // PUT /a hello
 * client.close();
 * server.close();
 * ```
 */
export class SocketReader {
  readonly #stream: Stream;
  readonly #bufferBytes: number;
  #limitBytes = LIMIT_BYTES;
  #encoding = "utf-8";
  #fatal = false;
  #newline: Newline = "any";
  #decoder: Decoder;
  /** For delimiters that are given as text. */
  #encoder: Encoder | undefined;
  /** Made when something is first received. Its last byte is never part of what is received. */
  #memory: Buffer = EMPTY;
  #start = 0;
  #end = 0;
  /** Whether the stream has ended. */
  #isEnded = false;
  /** Whether a "\n" that comes next belongs to the line before. */
  #dropsLf = false;
  #batch: Batch | undefined;
  #batchBytes = BATCH_BYTES;
  /** Promise forms that have no answer yet. */
  #pending = 0;
  /** Where a line's end was found, from the beginning of what is buffered, and how long it is. */
  #foundAt = 0;
  #foundLength = 0;

  /** Not for callers: `socket.reader()` makes one. */
  constructor(stream: Stream, options: ReaderOptions = {}) {
    const {
      bufferBytes = BUFFER_BYTES,
      limitBytes,
      encoding,
      fatal,
      newline,
    } = requireOptions(options);
    this.#stream = stream;
    this.#bufferBytes = bufferBytes;
    this.#decoder = decoderOf(this.#encoding, this.#fatal);
    this.configure({ bufferBytes, limitBytes, encoding, fatal, newline });
  }

  /** Changes the options that are given, for all calls from now on. `bufferBytes` stays. */
  configure(options: ReaderOptions): void {
    const { bufferBytes, limitBytes, encoding, fatal, newline } = requireOptions(options);
    if (bufferBytes !== undefined) requireInteger(bufferBytes, 1, BYTES_MAX, "bufferBytes");
    if (limitBytes !== undefined) requireInteger(limitBytes, 1, BYTES_MAX, "limitBytes");
    if (fatal !== undefined) requireBoolean(fatal, "fatal");
    if (newline !== undefined) requireNewline(newline);
    const decoder = decoderOf(encoding ?? this.#encoding, fatal ?? this.#fatal);
    this.#cut();
    this.#decoder = decoder;
    this.#encoding = encoding ?? this.#encoding;
    this.#encoder = undefined;
    this.#fatal = fatal ?? this.#fatal;
    this.#newline = newline ?? this.#newline;
    this.#limitBytes = limitBytes ?? this.#limitBytes;
  }

  /** Bytes that were received and not read. */
  get buffered(): number {
    this.#cut();
    return this.#end - this.#start;
  }

  /** Whether the stream has ended, and everything was read. */
  get ended(): boolean {
    return this.#isEnded && this.buffered === 0;
  }

  /**
   * Gives what was received and not read, and forgets it: for raw calls that go on from here.
   *
   * @throws {SystemError} `EBUSY` a promise form waits
   */
  takeBuffered(): Uint8Array<ArrayBuffer> {
    this.#requireIdle();
    this.#cut();
    return this.#take(this.#end - this.#start);
  }

  /**
   * Reads what there is, or answers at once.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written, 0 at the end of the stream; undefined when nothing is there
   * @throws {SystemError} `EBUSY` a promise form waits; `ECONNRESET` the peer broke it off
   */
  tryRead(target: ArrayBufferView): number | undefined {
    this.#requireIdle();
    return this.#reading(target).attempt();
  }

  /**
   * Reads what there is, waiting for at least one byte.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written, 0 at the end of the stream
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryRead
   */
  readSync(target: ArrayBufferView, options?: TimeoutOptions): number {
    return this.#runSync(this.#reading(target), options);
  }

  /**
   * Reads what there is, waiting for at least one byte; the promise form of `readSync`. The target is
   * the call's until it is answered.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written, 0 at the end of the stream
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} `ECONNRESET` the peer broke it off
   */
  read(target: ArrayBufferView, options?: CancelOptions): Promise<number> {
    return this.#promise(() => this.#reading(target), options);
  }

  #reading(target: ArrayBufferView): Steps<number> {
    requireTarget(target);
    return {
      syscall: "recv",
      attempt: () => {
        // Asked each time: it may have been detached since.
        requireTarget(target);
        this.#cut();
        if (this.#start === this.#end) {
          if (this.#isEnded) return 0;
          const isLarge = byteLengthOf(target) >= this.#bufferBytes && !this.#dropsLf;
          const received = isLarge ? this.#receive(target) : this.#fill();
          if (isLarge || received === undefined || received === 0) return received;
        }
        return this.#takeInto(bytesOf(target));
      },
    };
  }

  /**
   * Reads exactly so many bytes, or answers at once.
   *
   * @param bytes 0 to 2^31 - 1
   * @returns fewer bytes only at the end of the stream; undefined when they have not all come: nothing
   * is taken then
   * @throws {SystemError} as tryRead
   */
  tryReadExactly(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    this.#requireIdle();
    requireInteger(bytes, 0, BYTES_MAX, "bytes");
    return this.#waitFor(bytes) ? this.#take(bytes) : undefined;
  }

  /**
   * Reads exactly so many bytes.
   *
   * @param bytes 0 to 2^31 - 1; memory for all of them is made at once
   * @returns fewer bytes only at the end of the stream
   * @throws {TimeoutError} they did not all come in time; those that did are read again by the next call
   * @throws {SystemError} as tryRead
   */
  readExactlySync(bytes: number, options?: TimeoutOptions): Uint8Array<ArrayBuffer> {
    requireInteger(bytes, 0, BYTES_MAX, "bytes");
    const target = new Uint8Array(bytes);
    return shortened(target, this.#runSync(this.#filling(target), options));
  }

  /**
   * Reads exactly so many bytes; the promise form of `readExactlySync`.
   *
   * @param bytes 0 to 2^31 - 1; memory for all of them is made at once
   * @returns fewer bytes only at the end of the stream
   * @throws {TimeoutError} they did not all come in time; those that did are read again by the next call
   * @throws {SystemError} `ECONNRESET` the peer broke it off
   */
  async readExactly(bytes: number, options?: CancelOptions): Promise<Uint8Array<ArrayBuffer>> {
    requireInteger(bytes, 0, BYTES_MAX, "bytes");
    const target = new Uint8Array(bytes);
    return shortened(target, await this.#promise(() => this.#filling(target), options));
  }

  /**
   * Fills a target, or answers what was left at the end of the stream.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written: fewer than there is room for only at the end of the stream
   * @throws {TimeoutError} they did not all come in time; those that did are read again by the next call
   * @throws {SystemError} as tryRead
   */
  readIntoSync(target: ArrayBufferView, options?: TimeoutOptions): number {
    requireTarget(target);
    return this.#runSync(this.#filling(target), options);
  }

  /**
   * Fills a target; the promise form of `readIntoSync`. The target is the call's until it is answered.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written: fewer than there is room for only at the end of the stream
   * @throws {TimeoutError} they did not all come in time; those that did are read again by the next call
   * @throws {SystemError} `ECONNRESET` the peer broke it off
   */
  readInto(target: ArrayBufferView, options?: CancelOptions): Promise<number> {
    return this.#promise(() => {
      requireTarget(target);
      return this.#filling(target);
    }, options);
  }

  // Large pieces go straight into the target. What fails gives back what it has taken.
  #filling(target: ArrayBufferView): Steps<number> {
    const length = byteLengthOf(target);
    let filled = 0;
    let isDone = false;
    const attempt = (): number | undefined => {
      requireView(target, "target");
      this.#cut();
      const whole = bytesOf(target);
      const before = filled;
      for (;;) {
        filled += this.#takeInto(whole.subarray(filled));
        if (filled === length || this.#isEnded) break;
        if (this.#pausesAfter(filled - before, steps)) return undefined;
        const isLarge = length - filled >= this.#bufferBytes && !this.#dropsLf;
        const received = isLarge
          ? this.#receive(whole.subarray(filled), filled)
          : this.#fill(filled);
        if (received === undefined) return undefined;
        if (isLarge) filled += received;
      }
      isDone = true;
      return filled;
    };
    const settled = () => {
      if (isDone || filled === 0) return;
      // Where the target is gone, so is what was put into it.
      if (!isDetached(bufferOf(target) as ArrayBuffer))
        this.#unread(bytesOf(target).subarray(0, filled));
    };
    const transferred = () => filled;
    const steps: Steps<number> = { syscall: "recv", attempt, settled, transferred };
    return steps;
  }

  /**
   * Reads a line, or answers at once.
   *
   * @returns the line without its end; the last one may have none. Undefined when no whole line is
   * there, or nothing is left: `ended` tells
   * @throws {SystemError} `EMSGSIZE` it is longer than `limitBytes`; else as tryRead
   * @throws {TypeError} it is no text of the encoding, and the reader is `fatal`
   */
  tryReadLine(): string | undefined {
    this.#requireIdle();
    const line = this.#liningUp().attempt();
    return line === END ? undefined : line;
  }

  /**
   * Reads a line.
   *
   * @returns the line without its end; the last one may have none. Undefined at the end of the stream
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} `EMSGSIZE` it is longer than `limitBytes`; else as tryRead
   * @throws {TypeError} it is no text of the encoding, and the reader is `fatal`: it is still there
   */
  readLineSync(options?: TimeoutOptions): string | undefined {
    const line = this.#runSync(this.#liningUp(), options);
    return line === END ? undefined : line;
  }

  /**
   * Reads a line; the promise form of `readLineSync`.
   *
   * @returns the line without its end; the last one may have none. Undefined at the end of the stream
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} `EMSGSIZE` it is longer than `limitBytes`; `ECONNRESET` the peer broke it off
   * @throws {TypeError} it is no text of the encoding, and the reader is `fatal`: it is still there
   */
  readLine(options?: CancelOptions): Promise<string | undefined> {
    return this.#promise(() => this.#liningUp(), options).then(withoutEnd);
  }

  #liningUp(): Steps<string | End> {
    let searched = 0;
    const attempt = (): string | End | undefined => {
      this.#cut();
      for (;;) {
        if (this.#findNewline(searched)) return this.#takeLine(this.#foundAt, this.#foundLength);
        searched = Math.max(0, this.#end - this.#start - this.#decoder.unit);
        // The first half of an end is not part of the line.
        const half = this.#newline === "crlf" ? this.#decoder.unit : 0;
        this.#requireLimit(this.#limitBytes + half, "no end of a line", this.#limitBytes);
        if (this.#isEnded) return this.#takeLastLine();
        if (this.#fill() === undefined) return undefined;
      }
    };
    return { syscall: "recv", attempt };
  }

  // Decoded first: what is no text stays.
  #takeLine(length: number, endLength: number): string {
    if (length > this.#limitBytes) throw tooLong(this.#limitBytes, "no end of a line");
    const text = this.#decoder.decode(this.#memory, this.#start, this.#start + length);
    this.#skipLine(length, endLength);
    return text;
  }

  // A line that ends with the "\r" that came last may have its "\n" still to come.
  #skipLine(length: number, endLength: number): void {
    const { unit } = this.#decoder;
    const at = this.#start + length + (endLength - unit);
    this.#start += length + endLength;
    const isLast = this.#end - this.#start < unit && !this.#isEnded;
    this.#dropsLf = isLast && this.#newline === "any" && endLength > 0 && this.#isAt(at, CR);
    this.#rewind();
  }

  #takeLastLine(): string | End {
    const length = this.#end - this.#start;
    return length === 0 ? END : this.#takeLine(length, 0);
  }

  /** What a line ends with. */
  get newline(): Newline {
    return this.#newline;
  }

  /** The encoding of text, as it was given. */
  get encoding(): string {
    return this.#encoding;
  }

  /** How long a line, and what else has no known length, may be, in bytes. */
  get limitBytes(): number {
    return this.#limitBytes;
  }

  /**
   * The lines that come, for `for await`, without their ends; many are decoded together. It ends at the
   * end of the stream, or when this program closes the socket; an error is thrown into it. Leaving the
   * loop loses nothing, and inside the loop everything of the reader can be called: it goes on behind
   * the line that was given last.
   *
   * A line shares memory with its neighbours as long as it is kept: at most what the buffer held.
   *
   * @throws {SystemError} `EMSGSIZE` a line is longer than `limitBytes`; `ECONNRESET`
   */
  lines(): Lines {
    // Made once: a loop steps often.
    const steps = this.#stepping();
    const next = (): Promise<IteratorResult<string>> => {
      if (this.#pending === 0 && this.#batch && hasTime())
        return Promise.resolve({ value: this.#nextOfBatch(this.#batch), done: false });
      return this.#promise(steps, undefined).then(toResult);
    };
    return withReturn(next);
  }

  /**
   * The lines that come, for `for … of`, blocking the thread.
   *
   * @throws {TimeoutError} a line did not come in time
   * @throws {SystemError} as lines
   */
  linesSync(options?: TimeoutOptions): IterableIterator<string> {
    const { timeoutMs } = optionsOf(options);
    deadlineAfter(timeoutMs);
    const steps = this.#stepping();
    const iterator: IterableIterator<string> = {
      next: () => {
        if (this.#pending === 0 && this.#batch)
          return { value: this.#nextOfBatch(this.#batch), done: false };
        return toResult(this.#runSync(steps(), { timeoutMs }));
      },
      return: (value) => ({ value, done: true }),
      [Symbol.iterator]: () => iterator,
    };
    return iterator;
  }

  // One line, of a batch where there can be one.
  #stepping(): () => Steps<string | End> {
    return () => {
      // With its own memory of what was searched: it is made anew for each call.
      const single = this.#liningUp();
      const attempt = (): string | End | undefined => {
        const batch = this.#batch ?? this.#makeBatch();
        if (batch) return this.#nextOfBatch(batch);
        if (this.#isClosed && !this.#findNewline(0)) return END;
        return single.attempt();
      };
      return { syscall: "recv", attempt, ended: (how) => (how === "closed" ? END : undefined) };
    };
  }

  get #isClosed(): boolean {
    return this.#stream.descriptor.fd < 0;
  }

  #nextOfBatch(batch: Batch): string {
    const line = batch.lines[batch.next++] as string;
    if (batch.next === batch.lines.length) this.#finishBatch(batch);
    return line;
  }

  #finishBatch(batch: Batch): void {
    this.#batch = undefined;
    this.#batchBytes = Math.min(this.#batchBytes * 4, BYTES_MAX);
    // Its last end is a unit long at least.
    this.#skipLine(batch.byteLength - 1, 1);
  }

  // Decodes the whole lines that are there, where that gives what each would give by itself.
  #makeBatch(): Batch | undefined {
    const { isPerByte, fatal } = this.#decoder;
    if (!isPerByte || this.#start === this.#end) return undefined;
    const room = Math.min(this.#end - this.#start, this.#limitBytes, this.#batchBytes);
    const piece = this.#memory.subarray(this.#start, this.#start + room);
    const byteLength = this.#lastNewline(piece);
    if (byteLength === 0) return undefined;
    let text: string;
    try {
      text = this.#decoder.decode(piece.subarray(0, byteLength));
    } catch (error) {
      // The lines before the one that is none are good.
      if (fatal) return undefined;
      throw error;
    }
    const lines = splitLines(text, this.#newline);
    this.#batch = { lines, next: 0, byteLength };
    return this.#batch;
  }

  // How many bytes end with the last end of a line.
  #lastNewline(piece: Buffer): number {
    switch (this.#newline) {
      case "lf":
        return piece.lastIndexOf(LF) + 1;
      case "cr":
        return piece.lastIndexOf(CR) + 1;
      case "crlf":
        return piece.includes(CRLF) ? piece.lastIndexOf(CRLF) + CRLF.length : 0;
      case "any": {
        const length = Math.max(piece.lastIndexOf(LF), piece.lastIndexOf(CR)) + 1;
        // Where more is there, a "\r" at the end of the piece may be half an end.
        const at = this.#start + length;
        return length > 0 &&
          at < this.#end &&
          this.#memory[at - 1] === CR &&
          this.#memory[at] === LF
          ? this.#lastNewline(piece.subarray(0, length - 1))
          : length;
      }
    }
  }

  // Finds out where the line stands that was handed out last: somebody else reads on from there.
  #cut(): void {
    const batch = this.#batch;
    if (!batch) return;
    this.#batch = undefined;
    // Whoever reads between two lines will do so again.
    this.#batchBytes = 1 << 8;
    for (let i = 0; i < batch.next; i++) {
      this.#findNewline(0);
      this.#skipLine(this.#foundAt, this.#foundLength);
    }
  }

  /**
   * Reads up to a delimiter, or answers at once.
   *
   * @param delimiter bytes, or text in the reader's encoding; not empty. It is taken, and not given
   * @returns undefined when it has not come, or nothing is left: `ended` tells
   * @throws {SystemError} `EMSGSIZE` it did not come within the limit; else as tryRead
   */
  tryReadUntil(
    delimiter: ArrayBufferView | string,
    options: LimitOptions = {},
  ): Delimited | undefined {
    this.#requireIdle();
    const result = this.#delimiting(delimiter, requireOptions(options).limitBytes).attempt();
    return result === END ? undefined : result;
  }

  /**
   * Reads up to a delimiter.
   *
   * @param delimiter bytes, or text in the reader's encoding; not empty. It is taken, and not given
   * @returns undefined at the end of the stream; `complete` is false where it ended before
   * @throws {TimeoutError} it did not come in time
   * @throws {SystemError} `EMSGSIZE` it did not come within the limit; else as tryRead
   */
  readUntilSync(
    delimiter: ArrayBufferView | string,
    options: LimitOptions & TimeoutOptions = {},
  ): Delimited | undefined {
    const { limitBytes, timeoutMs } = requireOptions(options);
    const result = this.#runSync(this.#delimiting(delimiter, limitBytes), { timeoutMs });
    return result === END ? undefined : result;
  }

  /**
   * Reads up to a delimiter; the promise form of `readUntilSync`.
   *
   * @param delimiter bytes, or text in the reader's encoding; not empty. It is taken, and not given
   * @returns undefined at the end of the stream; `complete` is false where it ended before
   * @throws {TimeoutError} it did not come in time
   * @throws {SystemError} `EMSGSIZE` it did not come within the limit; `ECONNRESET`
   */
  async readUntil(
    delimiter: ArrayBufferView | string,
    options: LimitOptions & CancelOptions = {},
  ): Promise<Delimited | undefined> {
    const { limitBytes, timeoutMs, signal } = requireOptions(options);
    const steps = () => this.#delimiting(delimiter, limitBytes);
    const result = await this.#promise(steps, { timeoutMs, signal });
    return result === END ? undefined : result;
  }

  #delimiting(
    delimiter: ArrayBufferView | string,
    limitBytes: number | undefined,
  ): Steps<Delimited | End> {
    const limit = limitBytes ?? this.#limitBytes;
    requireInteger(limit, 1, BYTES_MAX, "limitBytes");
    const isText = typeof delimiter === "string";
    const bytes = Buffer.from(delimiterBytes(delimiter, isText ? this.#ownEncoder() : UNUSED));
    const unit = isText ? this.#decoder.unit : 1;
    let searched = 0;
    const attempt = (): Delimited | End | undefined => {
      this.#cut();
      for (;;) {
        const length = this.#indexOf(bytes, searched, unit);
        if (length > limit) throw tooLong(limit, "no delimiter");
        if (length >= 0) {
          const found = this.#take(length);
          this.#start += bytes.length;
          this.#rewind();
          return { bytes: found, complete: true };
        }
        searched = Math.max(0, this.#end - this.#start - bytes.length + 1);
        this.#requireLimit(limit + bytes.length - 1, "no delimiter", limit);
        if (this.#isEnded) {
          const left = this.#end - this.#start;
          return left === 0 ? END : { bytes: this.#take(left), complete: false };
        }
        if (this.#fill() === undefined) return undefined;
      }
    };
    return { syscall: "recv", attempt };
  }

  #ownEncoder(): Encoder {
    this.#encoder ??= encoderOf(this.#encoding);
    return this.#encoder;
  }

  #indexOf(bytes: Buffer, from: number, unit: number): number {
    const piece = this.#memory.subarray(this.#start, this.#end);
    let at = piece.indexOf(bytes, from);
    while (at > 0 && at % unit !== 0) at = piece.indexOf(bytes, at + 1);
    return at;
  }

  /**
   * Looks at the next bytes without taking them, or answers at once.
   *
   * @param bytes 0 to `limitBytes`
   * @returns a copy; fewer bytes only at the end of the stream; undefined when they have not all come
   * @throws {SystemError} as tryRead
   */
  tryPeek(bytes: number): Uint8Array<ArrayBuffer> | undefined {
    this.#requireIdle();
    return this.#peeking(bytes).attempt();
  }

  /**
   * Looks at the next bytes without taking them, waiting for them.
   *
   * @param bytes 0 to `limitBytes`
   * @returns a copy; fewer bytes only at the end of the stream
   * @throws {TimeoutError} they did not all come in time
   * @throws {SystemError} as tryRead
   */
  peekSync(bytes: number, options?: TimeoutOptions): Uint8Array<ArrayBuffer> {
    return this.#runSync(this.#peeking(bytes), options);
  }

  /**
   * Looks at the next bytes without taking them; the promise form of `peekSync`.
   *
   * @param bytes 0 to `limitBytes`
   * @returns a copy; fewer bytes only at the end of the stream
   * @throws {TimeoutError} they did not all come in time
   * @throws {SystemError} `ECONNRESET` the peer broke it off
   */
  peek(bytes: number, options?: CancelOptions): Promise<Uint8Array<ArrayBuffer>> {
    return this.#promise(() => this.#peeking(bytes), options);
  }

  #peeking(bytes: number): Steps<Uint8Array<ArrayBuffer>> {
    requireInteger(bytes, 0, this.#limitBytes, "bytes");
    return {
      syscall: "recv",
      attempt: () => (this.#waitFor(bytes) ? this.#copy(bytes) : undefined),
    };
  }

  /**
   * Reads everything up to the end of the stream.
   *
   * @param options `limitBytes` is none unless it is given here
   * @throws {TimeoutError} the end did not come in time; what came is read again by the next call
   * @throws {SystemError} `EMSGSIZE` more came than `limitBytes`; else as tryRead
   */
  readAllSync(options: LimitOptions & TimeoutOptions = {}): Uint8Array<ArrayBuffer> {
    const { limitBytes, timeoutMs } = requireOptions(options);
    return this.#runSync(this.#readingAll(limitBytes), { timeoutMs });
  }

  /**
   * Reads everything up to the end of the stream; the promise form of `readAllSync`.
   *
   * @param options `limitBytes` is none unless it is given here
   * @throws {TimeoutError} the end did not come in time; what came is read again by the next call
   * @throws {SystemError} `EMSGSIZE` more came than `limitBytes`; `ECONNRESET`
   */
  readAll(options: LimitOptions & CancelOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const { limitBytes, timeoutMs, signal } = requireOptions(options);
      return this.#promise(() => this.#readingAll(limitBytes), { timeoutMs, signal });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #readingAll(limitBytes = BYTES_MAX): Steps<Uint8Array<ArrayBuffer>> {
    requireInteger(limitBytes, 1, BYTES_MAX, "limitBytes");
    const attempt = (): Uint8Array<ArrayBuffer> | undefined => {
      this.#cut();
      const before = this.#end - this.#start;
      while (!this.#isEnded) {
        this.#requireLimit(limitBytes, "no end of the stream");
        if (this.#pausesAfter(this.#end - this.#start - before, steps)) return undefined;
        if (this.#fill() === undefined) return undefined;
      }
      this.#requireLimit(limitBytes, "no end of the stream");
      return this.#take(this.#end - this.#start);
    };
    const steps: Steps<Uint8Array<ArrayBuffer>> = { syscall: "recv", attempt };
    return steps;
  }

  /**
   * Reads everything up to the end of the stream, as text with "\n" at the end of each line, whatever
   * `newline` says that comes.
   *
   * @throws {TimeoutError} the end did not come in time; what came is read again by the next call
   * @throws {SystemError} as readAllSync
   * @throws {TypeError} it is no text of the encoding, and the reader is `fatal`
   */
  readTextSync(options: LimitOptions & TimeoutOptions = {}): string {
    return this.#toText(this.readAllSync(options));
  }

  /**
   * Reads everything up to the end of the stream, as text; the promise form of `readTextSync`.
   *
   * @throws {TimeoutError} the end did not come in time; what came is read again by the next call
   * @throws {SystemError} as readAll
   * @throws {TypeError} it is no text of the encoding, and the reader is `fatal`
   */
  async readText(options: LimitOptions & CancelOptions = {}): Promise<string> {
    return this.#toText(await this.readAll(options));
  }

  #toText(bytes: Uint8Array<ArrayBuffer>): string {
    try {
      const text = this.#decoder.decode(bytes);
      if (this.#newline === "lf" || !text.includes("\r")) return text;
      return splitLines(text, this.#newline, true).join("\n");
    } catch (error) {
      this.#unread(bytes);
      throw error;
    }
  }

  /**
   * Reads a packet: its length as a number in network byte order, then so many bytes.
   *
   * @param headerBytes of the length: 1, 2 or 4
   * @returns the bytes after the length; undefined at the end of the stream
   * @throws {TimeoutError} it did not come in time
   * @throws {SystemError} `EMSGSIZE` it is longer than `limitBytes`; `EPROTO` the stream ended in the
   * middle of one: the bytes can still be read; else as tryRead
   */
  readPacketSync(
    headerBytes: 1 | 2 | 4,
    options?: TimeoutOptions,
  ): Uint8Array<ArrayBuffer> | undefined {
    const packet = this.#runSync(this.#unpacking(headerBytes), options);
    return packet === END ? undefined : packet;
  }

  /**
   * Reads a packet; the promise form of `readPacketSync`.
   *
   * @param headerBytes of the length: 1, 2 or 4
   * @returns the bytes after the length; undefined at the end of the stream
   * @throws {TimeoutError} it did not come in time
   * @throws {SystemError} as readPacketSync
   */
  async readPacket(
    headerBytes: 1 | 2 | 4,
    options?: CancelOptions,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const packet = await this.#promise(() => this.#unpacking(headerBytes), options);
    return packet === END ? undefined : packet;
  }

  #unpacking(headerBytes: 1 | 2 | 4): Steps<Uint8Array<ArrayBuffer> | End> {
    if (headerBytes !== 1 && headerBytes !== 2 && headerBytes !== 4)
      throw notHeaderBytes(headerBytes);
    const attempt = (): Uint8Array<ArrayBuffer> | End | undefined => {
      if (!this.#waitFor(headerBytes)) return undefined;
      const buffered = this.#end - this.#start;
      if (buffered === 0) return END;
      if (buffered < headerBytes) throw endedInside();
      const length = this.#memory.readUIntBE(this.#start, headerBytes);
      if (length > this.#limitBytes) throw tooLong(this.#limitBytes, `a packet of ${length} bytes`);
      if (!this.#waitFor(headerBytes + length)) return undefined;
      if (this.#end - this.#start < headerBytes + length) throw endedInside();
      this.#start += headerBytes;
      return this.#take(length);
    };
    return { syscall: "recv", attempt };
  }

  /**
   * The chunks that come, for `for await`, each in memory of its own: what `for await` over the socket
   * gives.
   *
   * @throws {SystemError} `ECONNRESET` the peer broke it off
   */
  chunks(): AsyncIterableIterator<Uint8Array<ArrayBuffer>> {
    const steps = (): Steps<Uint8Array<ArrayBuffer> | End> => ({
      syscall: "recv",
      attempt: () => this.#takeChunk(),
      ended: (how) => (how === "closed" ? END : undefined),
    });
    return withReturn(() => this.#promise(steps, undefined).then(toResult));
  }

  #takeChunk(): Uint8Array<ArrayBuffer> | End | undefined {
    this.#cut();
    const buffered = this.#end - this.#start;
    if (buffered > 0) return this.#take(buffered);
    if (this.#isEnded || this.#isClosed) return END;
    const received = this.#fill();
    if (received === undefined) return undefined;
    if (this.#start === this.#end) return this.#isEnded ? END : this.#takeChunk();
    // A chunk that is most of the memory gets the memory itself.
    return this.#end > this.#bufferBytes / 2 ? this.#takeMemory() : this.#take(received);
  }

  #takeMemory(): Uint8Array<ArrayBuffer> {
    const { buffer, byteOffset } = this.#memory;
    const bytes = new Uint8Array(
      buffer as ArrayBuffer,
      byteOffset + this.#start,
      this.#end - this.#start,
    );
    this.#memory = EMPTY;
    this.#start = this.#end = 0;
    return bytes;
  }

  // The machinery of the buffer.

  /** Whether so many bytes are there, or no more will come. */
  #waitFor(bytes: number): boolean {
    this.#cut();
    while (this.#end - this.#start < bytes && !this.#isEnded)
      if (this.#fill() === undefined) return false;
    return true;
  }

  /** Receives into the buffer. Returns 0 at the end, or undefined when it would block. */
  #fill(transferred?: number): number | undefined {
    this.#makeRoom();
    const room = this.#memory.subarray(this.#end, this.#memory.length - SLACK);
    const received = this.#receive(room, transferred);
    if (received === undefined || received === 0) return received;
    this.#end += received;
    this.#dropLf();
    return received;
  }

  // After many bytes everything else of the thread has its turn.
  #pausesAfter(bytes: number, steps: Steps<unknown>): boolean {
    steps.paused = bytes >= STEP_BYTES;
    if (steps.paused) tryAgain(this.#stream.descriptor);
    return steps.paused;
  }

  #receive(target: ArrayBufferView, transferred?: number): number | undefined {
    const received = receiveSome(this.#stream, target, transferred);
    if (received === 0) this.#isEnded = true;
    return received;
  }

  #makeRoom(): void {
    const room = this.#memory.length - SLACK - this.#end;
    if (room > 0 && this.#start < this.#end) {
      // What is left of a line is moved when that costs less than the system calls it saves.
      if (room * 4 >= this.#bufferBytes) return;
    } else if (room > 0) return;
    const buffered = this.#end - this.#start;
    const capacity = this.#memory.length - SLACK;
    if (capacity <= 0) this.#move(this.#bufferBytes);
    else if (buffered * 2 <= capacity) this.#move(capacity);
    else this.#move(capacity * 2);
  }

  // Moves what is buffered to the beginning of memory for so many bytes.
  #move(capacity: number): void {
    const isSame = this.#memory.length === capacity + SLACK;
    const memory = isSame ? this.#memory : Buffer.from(new ArrayBuffer(capacity + SLACK));
    this.#memory.copy(memory, 0, this.#start, this.#end);
    this.#memory = memory;
    this.#end -= this.#start;
    this.#start = 0;
  }

  // Once everything is read, memory that has grown is let go.
  #rewind(): void {
    if (this.#start < this.#end) return;
    this.#start = this.#end = 0;
    if (this.#memory.length > this.#bufferBytes + SLACK) this.#memory = EMPTY;
  }

  #dropLf(): void {
    if (!this.#dropsLf) return;
    const { unit } = this.#decoder;
    if (this.#end - this.#start < unit) return;
    this.#dropsLf = false;
    if (this.#isAt(this.#start, LF)) this.#start += unit;
    this.#rewind();
  }

  #isAt(at: number, character: number): boolean {
    if (this.#decoder.unit === 1) return this.#memory[at] === character;
    return this.#characterAt(at) === character;
  }

  #characterAt(at: number): number {
    const isBigEndian = UTF16BE.test(this.#encoding);
    return isBigEndian ? this.#memory.readUInt16BE(at) : this.#memory.readUInt16LE(at);
  }

  #copy(bytes: number): Uint8Array<ArrayBuffer> {
    const end = Math.min(this.#end, this.#start + bytes);
    const copy = new Uint8Array(end - this.#start);
    copy.set(this.#memory.subarray(this.#start, end));
    return copy;
  }

  #take(bytes: number): Uint8Array<ArrayBuffer> {
    const taken = this.#copy(bytes);
    this.#start += taken.length;
    this.#rewind();
    return taken;
  }

  #takeInto(target: Uint8Array): number {
    const length = Math.min(target.length, this.#end - this.#start);
    if (length === 0) return 0;
    target.set(this.#memory.subarray(this.#start, this.#start + length));
    this.#start += length;
    this.#rewind();
    return length;
  }

  // Puts bytes back before all others.
  #unread(bytes: Uint8Array): void {
    this.#cut();
    const { length } = bytes;
    if (this.#start < length) {
      const buffered = this.#end - this.#start;
      const capacity = Math.max(this.#bufferBytes, length + buffered);
      const memory = Buffer.from(new ArrayBuffer(capacity + SLACK));
      this.#memory.copy(memory, length, this.#start, this.#end);
      this.#memory = memory;
      this.#start = length;
      this.#end = length + buffered;
    }
    this.#start -= length;
    this.#memory.set(bytes, this.#start);
  }

  // Finds the first end of a line that begins at or behind `from`, in bytes from the first one.
  #findNewline(from: number): boolean {
    if (this.#decoder.unit === 2) return this.#findWideNewline(from);
    const start = this.#start + from;
    const newline = this.#newline;
    if (start >= this.#end) return false;
    if (newline === "crlf") {
      const at = this.#memory.subarray(this.#start, this.#end).indexOf(CRLF, from);
      return this.#found(at, 2);
    }
    const lf = this.#indexOfByte(newline === "cr" ? CR : LF, start, this.#end);
    if (newline !== "any") return this.#found(lf - this.#start, 1);
    const at = this.#indexOfByte(CR, start, lf < 0 ? this.#end : lf);
    if (at < 0) return this.#found(lf - this.#start, 1);
    const isBoth = at + 1 < this.#end && this.#memory[at + 1] === LF;
    return this.#found(at - this.#start, isBoth ? 2 : 1);
  }

  #found(at: number, length: number): boolean {
    this.#foundAt = at;
    this.#foundLength = length;
    return at >= 0;
  }

  // The byte at `end`, for which there is always memory, ends the search, which would go through all of
  // it; a view of a part costs more than a short search.
  #indexOfByte(byte: number, start: number, end: number): number {
    const memory = this.#memory;
    const kept = memory[end] as number;
    memory[end] = byte;
    const at = memory.indexOf(byte, start);
    memory[end] = kept;
    return at === end ? -1 - memory.length : at;
  }

  #findWideNewline(from: number): boolean {
    const first = this.#start + from - (from & 1);
    for (let at = first; at + 1 < this.#end; at += 2) {
      const character = this.#characterAt(at);
      if (character !== LF && character !== CR) continue;
      const isCr = character === CR;
      const hasNext = at + 3 < this.#end;
      const isBoth = isCr && hasNext && this.#characterAt(at + 2) === LF;
      const length = this.#wideNewline(isCr, isBoth);
      if (length > 0) return this.#found(at - this.#start, length);
    }
    return false;
  }

  #wideNewline(isCr: boolean, isBoth: boolean): number {
    switch (this.#newline) {
      case "lf":
        return isCr ? 0 : 2;
      case "cr":
        return isCr ? 2 : 0;
      case "crlf":
        return isBoth ? 4 : 0;
      case "any":
        return isBoth ? 4 : 2;
    }
  }

  #requireLimit(bytes: number, what: string, limit = bytes): void {
    if (this.#end - this.#start > bytes) throw tooLong(limit, what);
  }

  #requireIdle(): void {
    if (this.#pending > 0) {
      const hint = "A promise form waits on this reader: wait for it first";
      throw new SystemError(EBUSY, "recv", { hint });
    }
  }

  #runSync<Result>(steps: Steps<Result>, options: TimeoutOptions | undefined): Result {
    const deadline = deadlineOf(options);
    this.#requireIdle();
    return runSync(this.#stream.descriptor, EPOLLIN, deadline, steps);
  }

  #promise<Result>(
    prepare: () => Steps<Result>,
    options: CancelOptions | undefined,
  ): Promise<Result> {
    return start(this.#stream.descriptor, EPOLLIN, options, () => {
      const steps = prepare();
      const { settled } = steps;
      this.#pending++;
      steps.settled = () => {
        this.#pending--;
        settled?.();
      };
      return steps;
    });
  }
}

const UTF16BE = /^utf-?16be$/i;
/** For delimiters that are bytes. */
const UNUSED: Encoder = { isUtf8: true, encode: () => EMPTY };

function requireTarget(target: ArrayBufferView): void {
  requireView(target, "target");
  if (byteLengthOf(target) === 0)
    throw new RangeError("Cannot read a stream into an empty target: expected 1 byte or more");
}

function shortened(target: Uint8Array<ArrayBuffer>, length: number): Uint8Array<ArrayBuffer> {
  return length === target.length ? target : target.slice(0, length);
}

function withoutEnd<Result>(result: Result | End): Result | undefined {
  return result === END ? undefined : result;
}

function toResult<Value>(value: Value | End): IteratorResult<Value> {
  return value === END ? { value: undefined, done: true } : { value, done: false };
}

function withReturn<Value>(
  next: () => Promise<IteratorResult<Value>>,
): AsyncIterableIterator<Value> {
  const iterator: AsyncIterableIterator<Value> = {
    next,
    return: (value) => Promise.resolve({ value: value as undefined, done: true }),
    [Symbol.asyncIterator]: () => iterator,
  };
  return iterator;
}

// The lines of a text that ends with the end of the last one; `isRest`: what follows that is one too.
function splitLines(text: string, newline: Newline, isRest = false): string[] {
  const lines = text.split(separator(text, newline));
  if (!isRest) lines.pop();
  return lines;
}

function separator(text: string, newline: Newline): string | RegExp {
  if (newline === "any") return text.includes("\r") ? /\r\n|\n|\r/ : "\n";
  return newline === "lf" ? "\n" : newline === "cr" ? "\r" : "\r\n";
}

function tooLong(limit: number, what: string): SystemError {
  const hint = `Found ${what} within limitBytes, ${limit}: what came can still be read`;
  return new SystemError(EMSGSIZE, "recv", { hint });
}

function endedInside(): SystemError {
  const hint = "The stream ended in the middle of a packet: what came can still be read";
  return new SystemError(EPROTO, "recv", { hint });
}
