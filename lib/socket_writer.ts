import { EPIPE } from "../structs/constants/errno.ts";
import { EPOLLOUT } from "../structs/constants/sys_epoll.ts";
import { SystemError } from "./error.ts";
import { byteLengthOf, bytesOf } from "./ffi/memory.ts";
import { notHeaderBytes, requireInteger, requireOptions, toView } from "./internal/arguments.ts";
import { deadlineOf } from "./internal/deadline.ts";
import {
  type Limits,
  Outgoing,
  readLimits,
  requireOpen,
  runSync,
  type Steps,
  type Stream,
  startWithin,
  tryAgain,
} from "./internal/stream_call.ts";
import { type Encoder, encoderOf, NEWLINES, requireNewline } from "./internal/text.ts";
import type { CancelOptions, TimeoutOptions } from "./socket.ts";
import type { Newline } from "./socket_reader.ts";

/** What a writer can be told. */
export interface WriterOptions {
  /**
   * How many bytes are collected before they are sent; default 65536. It is the first call of a
   * socket's `writer` that counts.
   */
  readonly bufferBytes?: number | undefined;
  /**
   * The encoding of text: "utf-8", which is the default, "utf-16le", "utf-16be", "latin1", "ascii".
   * Text that it has no bytes for is a RangeError.
   */
  readonly encoding?: string | undefined;
  /** What a line ends with; default "lf", and "any" is that too. */
  readonly newline?: Newline | undefined;
}

/** A piece of what is to be sent. */
interface Piece {
  bytes: Uint8Array;
  /** Where what was not sent begins. */
  start: number;
  end: number;
  /** Whether the memory is the writer's own. */
  isOwn: boolean;
  /** Whether more can be written behind it. */
  isRoomy?: true;
}

/** One that more can be written behind. */
interface RoomyPiece extends Piece {
  bytes: Buffer;
  isRoomy: true;
}

const BUFFER_BYTES = 1 << 16;
const BYTES_MAX = 2 ** 31 - 1;
/** How many bytes of UTF-8 a UTF-16 unit can become. */
const UTF8_BYTES_MAX = 3;

/**
 * Writes a stream through a buffer: small pieces are collected and sent together, large ones are sent
 * from the caller's memory, behind what was collected.
 *
 * `socket.writer()` makes it; a socket has one. What it holds is sent when the buffer is full, by
 * `flush` and by `end`, and not by closing the socket. `socket.send` and the other raw calls go past
 * it, and overtake what it holds.
 *
 * What `write` was given is the writer's: it is sent once and in order, also when the call that gave
 * it times out or is aborted. Then the rest stays (`buffered`), and the next `flush` goes on with it;
 * do not write it again. A call refuses to take anything only for wrong arguments, a signal that was
 * aborted before, a closed socket, and after `end`.
 *
 * @example Lines that are sent together
 * ```ts
 * import { StreamSocket } from "bun-sockets";
 *
 * const [client, server] = StreamSocket.pair();
 * const writer = client.writer({ newline: "crlf" });
 * await writer.writeLine("EHLO example.com");
 * await writer.writeLine("QUIT");
 * console.log(writer.buffered); // 24
 * await writer.end();
 * console.log(await server.reader().readAll().then((bytes) => bytes.length)); // 24
 * client.close();
 * server.close();
 * ```
 */
export class SocketWriter {
  readonly #stream: Stream;
  readonly #shutdown: () => void;
  readonly #bufferBytes: number;
  #encodingLabel = "utf-8";
  #encoder: Encoder = encoderOf("utf-8");
  #newline: Newline = "lf";
  #newlineBytes = Buffer.from("\n");
  /** What is to be sent, in order. */
  readonly #pieces: Piece[] = [];
  #buffered = 0;
  /** Everything that was sent, to know what a call waits for. */
  #sent = 0;
  /** Memory to collect in, which is free. */
  #spare: Buffer | undefined;
  #isEnding = false;
  #isEnded = false;

  /** Not for callers: `socket.writer()` makes one. */
  constructor(stream: Stream, shutdown: () => void, options: WriterOptions = {}) {
    const { bufferBytes = BUFFER_BYTES, encoding, newline } = requireOptions(options);
    this.#stream = stream;
    this.#shutdown = shutdown;
    this.#bufferBytes = bufferBytes;
    this.configure({ bufferBytes, encoding, newline });
  }

  /** Changes the options that are given, for all calls from now on. `bufferBytes` stays. */
  configure(options: WriterOptions): void {
    const {
      bufferBytes = this.#bufferBytes,
      encoding = this.#encodingLabel,
      newline = this.#newline,
    } = requireOptions(options);
    requireInteger(bufferBytes, 1, BYTES_MAX, "bufferBytes");
    requireNewline(newline);
    const made = encoderOf(encoding);
    this.#encodingLabel = encoding;
    this.#encoder = made;
    this.#newline = newline;
    this.#newlineBytes = Buffer.from(made.encode(NEWLINES[newline]));
  }

  /** Bytes that were written and not sent. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Whether `end` has ended the stream. */
  get ended(): boolean {
    return this.#isEnded;
  }

  /** The encoding of text, as it was given. */
  get encoding(): string {
    return this.#encodingLabel;
  }

  /** What a line ends with. */
  get newline(): Newline {
    return this.#newline;
  }

  /**
   * Writes, or answers at once: takes all of the data where the buffer has room, after sending what
   * can be sent.
   *
   * @param data a view of any part of any buffer, or text
   * @returns bytes taken, of data that is larger than the buffer perhaps fewer than there are;
   * undefined when there is no room
   * @throws {SystemError} `EPIPE` after `end`, or the peer is gone; `ECONNRESET`
   */
  tryWrite(data: ArrayBufferView | ArrayBuffer | string): number | undefined {
    this.#requireWritable();
    const taken = this.#collectText(data);
    if (taken !== undefined) return taken;
    const bytes = this.#toBytes(data);
    const { length } = bytes;
    if (this.#buffered + length > this.#bufferBytes) this.#drain();
    if (this.#buffered + length <= this.#bufferBytes) {
      this.#collect(bytes);
      return length;
    }
    if (this.#buffered > 0) return undefined;
    const outgoing = new Outgoing(this.#stream, [bytes], 0);
    do outgoing.attempt();
    while (outgoing.paused);
    this.#sent += outgoing.sent;
    return outgoing.sent || undefined;
  }

  /**
   * Writes, and waits only when the buffer is full.
   *
   * @param data a view of any part of any buffer, or text
   * @throws {TimeoutError} there was no room in time; the data is the writer's all the same.
   * `transferred` says how many bytes were sent meanwhile
   * @throws {SystemError} `EPIPE` after `end`, or the peer is gone; `ECONNRESET`
   * @throws {RangeError} the encoding has no bytes for the text
   */
  writeSync(data: ArrayBufferView | ArrayBuffer | string, options?: TimeoutOptions): void {
    const deadline = deadlineOf(options);
    this.#requireWritable();
    const steps = this.#put(data);
    if (steps) runSync(this.#stream.descriptor, EPOLLOUT, deadline, steps);
  }

  /**
   * Writes, and waits only when the buffer is full; the promise form of `writeSync`. A view that is
   * larger than the buffer must stay as it is until the call is answered.
   *
   * @param data a view of any part of any buffer, or text
   * @throws {TimeoutError} there was no room in time; the data is the writer's all the same.
   * `transferred` says how many bytes were sent meanwhile
   * @throws {SystemError} as writeSync
   * @throws {RangeError} the encoding has no bytes for the text
   */
  write(data: ArrayBufferView | ArrayBuffer | string, options?: CancelOptions): Promise<void> {
    return this.#start(() => this.#put(data), options);
  }

  /**
   * Writes text and the end of a line; see `writeSync`.
   *
   * @throws {TimeoutError} there was no room in time; the line is the writer's all the same
   * @throws {SystemError} as writeSync
   * @throws {RangeError} the encoding has no bytes for the text
   */
  writeLineSync(text: string, options?: TimeoutOptions): void {
    const deadline = deadlineOf(options);
    this.#requireWritable();
    const steps = this.#putLine(text);
    if (steps) runSync(this.#stream.descriptor, EPOLLOUT, deadline, steps);
  }

  /**
   * Writes text and the end of a line; see `write`.
   *
   * @throws {TimeoutError} there was no room in time; the line is the writer's all the same
   * @throws {SystemError} as writeSync
   * @throws {RangeError} the encoding has no bytes for the text
   */
  writeLine(text: string, options?: CancelOptions): Promise<void> {
    return this.#start(() => this.#putLine(text), options);
  }

  /**
   * Writes text, each "\n" of it as the writer's `newline`; see `writeSync`.
   *
   * @throws {TimeoutError} there was no room in time; the text is the writer's all the same
   * @throws {SystemError} as writeSync
   * @throws {RangeError} the encoding has no bytes for the text
   */
  writeTextSync(text: string, options?: TimeoutOptions): void {
    this.writeSync(this.#translated(text), options);
  }

  /**
   * Writes text, each "\n" of it as the writer's `newline`; see `write`.
   *
   * @throws {TimeoutError} there was no room in time; the text is the writer's all the same
   * @throws {SystemError} as writeSync
   * @throws {RangeError} the encoding has no bytes for the text
   */
  async writeText(text: string, options?: CancelOptions): Promise<void> {
    await this.write(this.#translated(text), options);
  }

  #translated(text: string): string {
    requireText(text);
    return text.replaceAll("\n", NEWLINES[this.#newline]);
  }

  /**
   * Writes a packet: the length of the data as a number in network byte order, then the data.
   *
   * @param headerBytes of the length: 1, 2 or 4
   * @throws {RangeError} the data is longer than the header can say
   * @throws {TimeoutError} there was no room in time; the packet is the writer's all the same
   * @throws {SystemError} as writeSync
   */
  writePacketSync(
    data: ArrayBufferView | ArrayBuffer | string,
    headerBytes: 1 | 2 | 4,
    options?: TimeoutOptions,
  ): void {
    const deadline = deadlineOf(options);
    this.#requireWritable();
    const steps = this.#putPacket(data, headerBytes);
    if (steps) runSync(this.#stream.descriptor, EPOLLOUT, deadline, steps);
  }

  /**
   * Writes a packet; the promise form of `writePacketSync`.
   *
   * @param headerBytes of the length: 1, 2 or 4
   * @throws {RangeError} the data is longer than the header can say
   * @throws {TimeoutError} there was no room in time; the packet is the writer's all the same
   * @throws {SystemError} as writeSync
   */
  writePacket(
    data: ArrayBufferView | ArrayBuffer | string,
    headerBytes: 1 | 2 | 4,
    options?: CancelOptions,
  ): Promise<void> {
    return this.#start(() => this.#putPacket(data, headerBytes), options);
  }

  /**
   * Sends everything that was written.
   *
   * @throws {TimeoutError} there was no room in time; `transferred` says how many bytes were sent, and
   * the rest stays
   * @throws {SystemError} `EPIPE`, `ECONNRESET` the peer is gone; the rest stays (`buffered`)
   */
  flushSync(options?: TimeoutOptions): void {
    const deadline = deadlineOf(options);
    requireOpen(this.#stream, "send");
    const steps = this.#until(this.#sent + this.#buffered);
    runSync(this.#stream.descriptor, EPOLLOUT, deadline, steps);
  }

  /**
   * Sends everything that was written before; the promise form of `flushSync`.
   *
   * @throws {TimeoutError} there was no room in time; `transferred` says how many bytes were sent, and
   * the rest stays
   * @throws {SystemError} as flushSync
   */
  async flush(options?: CancelOptions): Promise<void> {
    const limits = readLimits(options);
    requireOpen(this.#stream, "send");
    await this.#wait(this.#until(this.#sent + this.#buffered), limits);
  }

  /** Sends what can be sent now. Returns whether that was everything. */
  tryFlush(): boolean {
    requireOpen(this.#stream, "send");
    return this.#drain();
  }

  /**
   * Sends everything that was written, and then the end of the stream: `shutdown("write")`. Nothing
   * can be written from then on. The other direction, and the socket, stay open. Does nothing the
   * second time.
   *
   * @throws {TimeoutError} there was no room in time; the rest stays, and `end` can be called again
   * @throws {SystemError} as flushSync
   */
  endSync(options?: TimeoutOptions): void {
    if (this.#isEnded) return;
    this.flushSync(options);
    this.#finish();
  }

  /**
   * Sends everything that was written, and then the end of the stream; the promise form of `endSync`.
   *
   * @throws {TimeoutError} there was no room in time; the rest stays, and `end` can be called again
   * @throws {SystemError} as flushSync
   */
  async end(options?: CancelOptions): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnding = true;
    try {
      await this.flush(options);
      if (!this.#isEnded) this.#finish();
    } finally {
      this.#isEnding = false;
    }
  }

  #finish(): void {
    this.#shutdown();
    this.#isEnded = true;
  }

  /** Forgets what was written and not sent. Returns how many bytes that was. */
  discard(): number {
    const dropped = this.#buffered;
    // Whoever waits for them is answered: nothing is left to be sent.
    this.#sent += dropped;
    this.#buffered = 0;
    this.#pieces.length = 0;
    tryAgain(this.#stream.descriptor);
    return dropped;
  }

  #requireWritable(): void {
    requireOpen(this.#stream, "send");
    if (!this.#isEnded && !this.#isEnding) return;
    throw new SystemError(EPIPE, "send", { hint: "The writer was ended" });
  }

  // Takes the data now, in its place. What is given back is to be waited for.
  #put(data: ArrayBufferView | ArrayBuffer | string): Steps<true> | undefined {
    if (this.#collectText(data) !== undefined) return undefined;
    const isBorrowed = typeof data !== "string";
    return this.#putBytes(this.#toBytes(data), isBorrowed);
  }

  #putBytes(bytes: Uint8Array, isBorrowed: boolean): Steps<true> | undefined {
    if (bytes.length < this.#bufferBytes) {
      this.#collect(bytes);
      return this.#overflow();
    }
    const piece = { bytes, start: 0, end: bytes.length, isOwn: !isBorrowed };
    this.#pieces.push(piece);
    this.#buffered += bytes.length;
    return this.#until(this.#sent + this.#buffered, isBorrowed ? piece : undefined);
  }

  // When the buffer is full, not more than one full buffer stays.
  #overflow(): Steps<true> | undefined {
    if (this.#buffered <= this.#bufferBytes) return undefined;
    return this.#until(this.#sent + this.#buffered - this.#bufferBytes);
  }

  #putLine(text: string): Steps<true> | undefined {
    requireText(text);
    if (this.#collectText(text) !== undefined) {
      this.#collect(this.#newlineBytes);
      return this.#overflow();
    }
    const line = Buffer.concat([this.#encoder.encode(text), this.#newlineBytes]);
    return this.#putBytes(line, false);
  }

  #putPacket(
    data: ArrayBufferView | ArrayBuffer | string,
    headerBytes: 1 | 2 | 4,
  ): Steps<true> | undefined {
    if (headerBytes !== 1 && headerBytes !== 2 && headerBytes !== 4)
      throw notHeaderBytes(headerBytes);
    const bytes = this.#toBytes(data);
    requireInteger(bytes.length, 0, 256 ** headerBytes - 1, "the length of a packet");
    const header = Buffer.alloc(headerBytes);
    header.writeUIntBE(bytes.length, 0, headerBytes);
    this.#collect(header);
    return this.#putBytes(bytes, typeof data !== "string");
  }

  #toBytes(data: ArrayBufferView | ArrayBuffer | string): Uint8Array {
    return typeof data === "string" ? this.#encoder.encode(data) : bytesOf(toView(data, "data"));
  }

  // Text that is UTF-8 goes straight into the memory where it surely fits. Returns its bytes, or
  // undefined when that is not so.
  #collectText(data: ArrayBufferView | ArrayBuffer | string): number | undefined {
    if (typeof data !== "string" || !this.#encoder.isUtf8) return undefined;
    const needed = data.length * UTF8_BYTES_MAX;
    if (this.#buffered + needed > this.#bufferBytes) return undefined;
    if (needed === 0) return 0;
    const piece = this.#room(needed);
    // A TextEncoder would take a view of what is left, which costs as much again.
    const written = piece.bytes.write(data, piece.end);
    piece.end += written;
    this.#buffered += written;
    return written;
  }

  #collect(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    const piece = this.#room(bytes.length);
    piece.bytes.set(bytes, piece.end);
    piece.end += bytes.length;
    this.#buffered += bytes.length;
  }

  // The last piece, where it has room for so many bytes, or a new one. At least one byte.
  #room(byteLength: number): RoomyPiece {
    const last = this.#pieces.at(-1);
    if (last?.isRoomy && last.bytes.length - last.end >= byteLength) return last as RoomyPiece;
    const spare = this.#spare;
    this.#spare = undefined;
    const isFit = spare && spare.length >= byteLength;
    // Not of a pool, of which others have the rest.
    const bytes = isFit
      ? spare
      : Buffer.from(new ArrayBuffer(Math.max(this.#bufferBytes, byteLength)));
    const piece: RoomyPiece = { bytes, start: 0, end: 0, isOwn: true, isRoomy: true };
    this.#pieces.push(piece);
    return piece;
  }

  // Waits until so much was sent since the beginning.
  #until(mark: number, borrowed?: Piece): Steps<true> {
    const before = this.#sent;
    const steps: Steps<true> = {
      syscall: "send",
      attempt: () => {
        if (this.#sent < mark) this.#drain(steps);
        return this.#sent >= mark || undefined;
      },
      transferred: () => this.#sent - before,
      settled: () => {
        if (borrowed && borrowed.start < borrowed.end) own(borrowed);
      },
    };
    return steps;
  }

  // Sends until all is sent, which it returns, or it would block.
  #drain(steps?: Steps<true>): boolean {
    if (this.#buffered === 0) return true;
    for (const piece of this.#pieces) this.#requireAttached(piece);
    const views = this.#pieces.map(({ bytes, start, end }) => bytes.subarray(start, end));
    const outgoing = new Outgoing(this.#stream, views, 0);
    try {
      do outgoing.attempt();
      while (outgoing.paused && !steps);
    } finally {
      this.#advance(outgoing.sent);
      if (steps) steps.paused = outgoing.paused;
    }
    return this.#buffered === 0;
  }

  // What has gone can not be sent, and must not stop everything behind it.
  #requireAttached(piece: Piece): void {
    if (byteLengthOf(piece.bytes) >= piece.end) return;
    const lost = piece.end - piece.start;
    this.#pieces.splice(this.#pieces.indexOf(piece), 1);
    this.#buffered -= lost;
    this.#sent += lost;
    throw new TypeError("Cannot use detached memory as data: it was transferred or freed");
  }

  #advance(bytes: number): void {
    this.#sent += bytes;
    this.#buffered -= bytes;
    let left = bytes;
    for (;;) {
      const [first] = this.#pieces;
      if (!first) return;
      const length = first.end - first.start;
      if (length > left) {
        first.start += left;
        return;
      }
      left -= length;
      first.start = first.end;
      this.#pieces.shift();
      const { bytes: memory, isOwn } = first;
      if (isOwn && memory instanceof Buffer && memory.length === this.#bufferBytes)
        this.#spare = memory;
    }
  }

  #start(
    prepare: () => Steps<true> | undefined,
    options: CancelOptions | undefined,
  ): Promise<void> {
    try {
      const limits = readLimits(options);
      this.#requireWritable();
      const steps = prepare();
      return steps ? this.#wait(steps, limits) : Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #wait(steps: Steps<true>, limits: Limits): Promise<void> {
    return startWithin(this.#stream.descriptor, EPOLLOUT, limits, steps).then(nothing);
  }
}

function nothing(): void {}

function requireText(text: string): void {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use a value of type ${typeof text} as text: expected a string`);
}

// The caller gets his memory back: what of it was not sent is copied.
function own(piece: Piece): void {
  if (byteLengthOf(piece.bytes) < piece.end) return;
  piece.bytes = piece.bytes.slice(piece.start, piece.end);
  piece.end -= piece.start;
  piece.start = 0;
  piece.isOwn = true;
}
