import { EAGAIN, EINTR, EINVAL, ENOTCONN } from "../structs/constants/errno.ts";
import { F_DUPFD_CLOEXEC } from "../structs/constants/fcntl.ts";
import { POLLHUP, POLLPRI, POLLRDHUP } from "../structs/constants/poll.ts";
import { EPOLLIN, EPOLLOUT } from "../structs/constants/sys_epoll.ts";
import {
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_WAITALL,
  SO_LINGER,
  SO_OOBINLINE,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../structs/constants/sys_socket.ts";
import { linger } from "../structs/linger.ts";
import type { Address } from "./address.ts";
import { check } from "./error.ts";
import {
  optionsOf,
  requireFlags,
  requireInteger,
  requireOptions,
  toView,
} from "./internal/arguments.ts";
import { deadlineAfter, deadlineOf, mayBeReady, waitUntil } from "./internal/deadline.ts";
import { Descriptor, loadModule } from "./internal/descriptor.ts";
import type { TransferOptions } from "./internal/idle.ts";
import { adoptParts, type Kind, openPair, type Parts, readInt } from "./internal/parts.ts";
import {
  Outgoing,
  requireOpen,
  runSync,
  type Stream,
  sendSome,
  start,
  streamError,
} from "./internal/stream_call.ts";
import type { WebReadable, WebWritable } from "./internal/web_streams.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  type AsyncOptions,
  type CancelOptions,
  descriptorOf,
  duplicateParts,
  type FlagOptions,
  type PairOptions,
  Socket,
  type TimeoutOptions,
  type WaitOptions,
} from "./socket.ts";
import type { Lines, ReaderOptions, SocketReader } from "./socket_reader.ts";
import type { SocketWriter, WriterOptions } from "./socket_writer.ts";
import { fcntl } from "./sys/fcntl.ts";
import { recv, setsockopt, sockatmark } from "./sys/socket.ts";

/** What a stream sends: a view of any part of any buffer, a buffer, or a string as UTF-8. */
export type StreamData = ArrayBufferView | ArrayBuffer | string;

/** What a transfer can be told beside how long all of it may take. */
interface Transfer {
  /**
   * How long it may go on without a byte that is moved, in milliseconds, 0 or more; then it is a
   * TimeoutError, whose `transferred` says what was moved before. A peer that takes a byte now and then
   * is waited for until `timeoutMs`. It is about this transfer alone: where bytes go both ways, one
   * direction stands still while the other is used. Default no limit.
   */
  readonly idleMs?: number | undefined;
}

/** What `sendFile` can be told, beside how long all of it may take. */
export interface FileRange extends Transfer {
  /** Where in the file to begin, in bytes. Default 0. The file's own position is not moved. */
  readonly offset?: number | undefined;
  /** How many bytes to send. Default: up to the end of the file. */
  readonly length?: number | undefined;
}

/** What `spliceTo` can be told, beside how long all of it may take. */
export interface SpliceRange extends Transfer {
  /** How many bytes to move. Default: up to the end of the stream. */
  readonly length?: number | undefined;
}

const KIND: Kind = {
  name: "a stream socket",
  accepts: (_domain, type) => type === SOCK_STREAM,
  listens: false,
};
// What has a meaning for a whole transfer: not MSG_OOB, which makes the last byte of each part urgent.
const SEND_FLAGS = MSG_CONFIRM | MSG_DONTROUTE | MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL | MSG_EOR;
// What looks like an array can be endless.
const VIEWS_MAX = 1 << 20;
const BYTE_MAX = 0xff;

const urgent = new Uint8Array(new ArrayBuffer(1));
const lingerValue = new DataView(new ArrayBuffer(linger.size));

/**
 * A stream of bytes to a peer: what TcpSocket and UnixSocket share.
 *
 * A socket is a port. Whole transfers (`sendAll`, `receiveExactly`, `sendFile`, `spliceTo`) go on
 * until all is done. The buffered forms are a reader and a writer, of which a socket has one each:
 * `reader`, `lines`, `for await` over the socket and `readable` all read through the one reader and
 * miss nothing of each other, `writer` and `writable` share the one writer. The raw calls (`receive`,
 * `send`, their other forms, and the whole transfers) go past both: they do not see what the reader
 * holds, and overtake what the writer holds. `reader().takeBuffered()` and `writer().flush()` come
 * before them.
 *
 * The two directions end by themselves: `shutdown("write")` or `writer().end()` tells the peer that
 * all was sent, and what it sends still comes; the socket is open until `close`. A send to a peer
 * that is gone is refused with `EPIPE` or `ECONNRESET`; no signal is raised.
 *
 * @example A line server, half-closed by its client
 * ```ts
 * import { StreamSocket } from "bun-sockets";
 *
 * const [client, server] = StreamSocket.pair();
 * await client.sendAll("one\ntwo\n");
 * client.shutdown("write");
 * for await (const line of server.lines()) await server.sendAll(`<${line}>\n`);
 * server.close();
 * console.log(JSON.stringify(await client.reader().readText())); // "<one>\n<two>\n"
 * client.close();
 * ```
 */
export class StreamSocket<A extends Address = Address> extends Socket<A> {
  /** "stream". */
  declare readonly type: "stream";
  #reader: SocketReader | undefined;
  #writer: SocketWriter | undefined;
  #readable: WebReadable | undefined;
  #writable: WebWritable | undefined;
  /** How many of `readable` and `writable` have ended. */
  #endedStreams = 0;
  /** Duplicates that wait for urgent data. */
  #urgentWaits: Set<Descriptor> | undefined;
  /** What a splice has taken off the stream and could not deliver. */
  #undelivered: Uint8Array<ArrayBuffer> | undefined;
  readonly #stream: Stream;

  /** Not for callers: `pair` and `adopt` make sockets. */
  protected constructor(parts: Parts) {
    super(parts);
    this.#stream = {
      descriptor: descriptorOf(this) as Descriptor,
      isUnix: this.family === "unix",
    };
  }

  /**
   * Creates two Unix streams that are connected with each other and have no names.
   *
   * @throws {TypeError} the options ask for another type than "stream"
   * @throws {SystemError} as `Socket.pair`
   * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html | socketpair(2)}
   */
  static override pair(options: PairOptions = {}): [StreamSocket, StreamSocket] {
    const { family, type = "stream", protocol } = requireOptions(options);
    if (type !== "stream" && type !== SOCK_STREAM)
      throw new TypeError(`Cannot make a pair of ${typeof type} sockets here: expected "stream"`);
    const [left, right] = openPair({ family, type, protocol });
    return [new StreamSocket(left), new StreamSocket(right)];
  }

  /**
   * Makes a StreamSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no stream socket; or, with `own`, another socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): StreamSocket {
    return new StreamSocket(adoptParts(descriptor, options, KIND));
  }

  /**
   * Makes a second socket for the same open socket: see `Socket.duplicate`. It has a reader and a
   * writer of its own: what one reader holds, the other does not get.
   */
  override duplicate(): StreamSocket<A> {
    return new StreamSocket<A>(duplicateParts(this));
  }

  /**
   * Sends all of it, or as much as fits the send buffer now; with several views in few system calls,
   * and without a copy.
   *
   * @param data a view or buffer, or an array of them
   * @returns the unsent rest, as views of the same memory: empty when all was sent
   * @throws {SystemError} as `trySend`; `transferred` says what was sent before
   * @throws {TypeError} something is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man2/sendmsg.2.html | sendmsg(2)}
   */
  trySendAll(
    data: ArrayBufferView | ArrayBuffer | readonly (ArrayBufferView | ArrayBuffer)[],
    options?: FlagOptions,
  ): ArrayBufferView[] {
    const flags = requireFlags(options?.flags, SEND_FLAGS);
    const outgoing = new Outgoing(this.#stream, toViews(data, false), flags);
    do outgoing.attempt();
    while (outgoing.paused);
    return outgoing.rest;
  }

  /**
   * Sends all of it, waiting for room. One deadline holds for the whole.
   *
   * @param data a view, buffer or string (as UTF-8), or an array of them, sent in order with few
   * system calls and without a copy of the views
   * @returns bytes sent: all of them
   * @throws {TimeoutError} it took longer; `transferred` says how many bytes were sent
   * @throws {SystemError} as `trySend`, with `transferred`
   */
  sendAllSync(data: StreamData | readonly StreamData[], options?: WaitOptions): number {
    const { flags, timeoutMs } = optionsOf(options);
    const deadline = deadlineAfter(timeoutMs);
    const bits = requireFlags(flags, SEND_FLAGS);
    const outgoing = new Outgoing(this.#stream, toViews(data, true), bits);
    return runSync(this.#stream.descriptor, EPOLLOUT, deadline, outgoing);
  }

  /**
   * Sends all of it, waiting for room; the promise form of `sendAllSync`. Nothing is copied: the data
   * must stay as it is until the call is answered. Several calls are served in order, and never mixed.
   *
   * An aborted call rejects with the signal's reason, which cannot tell how much was sent: `writer`
   * keeps the rest.
   *
   * @param data as for `sendAllSync`
   * @returns bytes sent: all of them
   * @throws {TimeoutError} it took longer; `transferred` says how many bytes were sent
   * @throws {SystemError} as `trySend`, with `transferred`
   */
  sendAll(data: StreamData | readonly StreamData[], options?: AsyncOptions): Promise<number> {
    try {
      const { flags, timeoutMs, signal } = optionsOf(options);
      return start(this.#stream.descriptor, EPOLLOUT, { timeoutMs, signal }, () => {
        const bits = requireFlags(flags, SEND_FLAGS);
        return new Outgoing(this.#stream, toViews(data, true), bits);
      });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives until the target is full, or the stream has ended. Past the reader.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written: fewer than there is room for only at the end of the stream
   * @throws {TimeoutError} it took longer; `transferred` says how many bytes are in the target
   * @throws {SystemError} `ECONNRESET` the peer broke it off; with `transferred`
   */
  receiveExactlySync(target: ArrayBufferView, options?: TimeoutOptions): number {
    return this.receiveSync(target, {
      timeoutMs: optionsOf(options).timeoutMs,
      flags: MSG_WAITALL,
    });
  }

  /**
   * Receives until the target is full, or the stream has ended; the promise form of
   * `receiveExactlySync`. The target is the call's until it is answered. An aborted call cannot tell
   * what came: `reader().readExactly()` loses nothing.
   *
   * @param target overwritten; 1 byte or more
   * @returns bytes written: fewer than there is room for only at the end of the stream
   * @throws {TimeoutError} it took longer; `transferred` says how many bytes are in the target
   * @throws {SystemError} `ECONNRESET` the peer broke it off; with `transferred`
   */
  receiveExactly(target: ArrayBufferView, options?: CancelOptions): Promise<number> {
    try {
      const { timeoutMs, signal } = optionsOf(options);
      return this.receive(target, { timeoutMs, signal, flags: MSG_WAITALL });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Sends a file, or a part of it, without reading it into the program: sendfile(2). What the kernel
   * cannot send so (most of /proc, devices, pipes) is read and sent. Sends fewer bytes than `length`
   * only where the file ends before.
   *
   * Reading a disk blocks the thread as long as the disk takes, in every form.
   *
   * @param file a path, or a descriptor, which stays the caller's and whose position is not moved.
   * What cannot be read at an offset, as a pipe, is read in order, and what was read and could not be
   * sent is lost when the call fails
   * @returns bytes sent
   * @throws {TimeoutError} it took longer, or no byte could be sent for `idleMs`; `transferred` says
   * how many bytes were sent
   * @throws {SystemError} `ENOENT`, `EACCES` no such file, or no right; `EISDIR` it is a directory;
   * `EPIPE`, `ECONNRESET` the peer is gone; with `transferred`
   * @see {@link https://man7.org/linux/man-pages/man2/sendfile.2.html | sendfile(2)}
   */
  sendFileSync(file: string | number, options: FileRange & TimeoutOptions = {}): number {
    const { offset, length, timeoutMs, idleMs } = requireOptions(options);
    const limits = { timeoutMs, idleMs };
    return loadSendFile().sendFileSync(this.#stream, file, offset, length, limits);
  }

  /**
   * Sends a file, or a part of it; the promise form of `sendFileSync`.
   *
   * @returns bytes sent
   * @throws {TimeoutError} it took longer; `transferred` says how many bytes were sent
   * @throws {SystemError} as sendFileSync
   *
   * @example A file behind a header
   * ```ts
   * import { StreamSocket } from "bun-sockets";
   *
   * const [client, server] = StreamSocket.pair();
   * const path = import.meta.path;
   * await server.sendAll(`${Bun.file(path).size}\n`);
   * const sent = await server.sendFile(path, { timeoutMs: 5000 });
   * server.close();
   * const header = await client.reader().readLine();
   * console.log(Number(header) === sent); // true
   * client.close();
   * ```
   */
  sendFile(file: string | number, options: FileRange & CancelOptions = {}): Promise<number> {
    try {
      const { offset, length, timeoutMs, idleMs, signal } = requireOptions(options);
      const limits = { timeoutMs, idleMs, signal };
      return loadSendFile().sendFile(this.#stream, file, offset, length, limits);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Moves what this stream receives to another stream, up to its end or for `length` bytes, without
   * reading it into the program: splice(2) through a pipe, and by receive and send where the kernel
   * refuses that. The other direction, and the end of the other stream, are the caller's.
   *
   * Past the reader and the writer. Bytes that were taken off this stream and could not be delivered
   * before the call failed are kept: the next `spliceTo` of this socket delivers them first, and
   * `takeUndelivered` gives them away.
   *
   * @param other another stream, or this one, which is an echo
   * @returns bytes moved
   * @throws {TimeoutError} it took longer, or no byte came or went for `idleMs`; `transferred` says
   * how many bytes were delivered
   * @throws {SystemError} `EPIPE`, `ECONNRESET` one of the peers is gone; with `transferred`
   * @throws {TypeError} other is no stream socket
   * @see {@link https://man7.org/linux/man-pages/man2/splice.2.html | splice(2)}
   */
  spliceToSync(other: StreamSocket, options: SpliceRange & TimeoutOptions = {}): number {
    const { length, timeoutMs, idleMs } = requireOptions(options);
    return loadSplice().runSpliceSync(this.#splice(other, length, { timeoutMs, idleMs }));
  }

  /**
   * Moves what this stream receives to another stream; the promise form of `spliceToSync`. What else
   * is sent to the other stream meanwhile comes between two parts.
   *
   * @returns bytes moved
   * @throws {TimeoutError} it took longer, or no byte came or went for `idleMs`; `transferred` says
   * how many bytes were delivered
   * @throws {SystemError} as spliceToSync
   *
   * @example A proxy, in one direction
   * ```ts
   * import { StreamSocket } from "bun-sockets";
   *
   * const [client, front] = StreamSocket.pair();
   * const [back, server] = StreamSocket.pair();
   * await client.sendAll("through two sockets");
   * client.shutdown("write");
   * console.log(await front.spliceTo(back)); // 19
   * back.shutdown("write");
   * console.log(await server.reader().readText()); // through two sockets
   * for (const socket of [client, front, back, server]) socket.close();
   * ```
   */
  spliceTo(other: StreamSocket, options: SpliceRange & CancelOptions = {}): Promise<number> {
    try {
      const { length, timeoutMs, idleMs, signal } = requireOptions(options);
      return loadSplice().runSplice(this.#splice(other, length, { timeoutMs, idleMs, signal }));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #splice(other: StreamSocket, length: number | undefined, options: TransferOptions) {
    const { Splice, TransferLimits } = loadSplice();
    const limits = new TransferLimits(options);
    if (!(other instanceof Object && #stream in other))
      throw new TypeError("Cannot splice to this: expected a StreamSocket");
    if (length !== undefined) requireInteger(length, 0, Number.MAX_SAFE_INTEGER, "length");
    requireOpen(this.#stream, "splice");
    requireOpen(other.#stream, "splice");
    const leftovers = {
      take: () => this.takeUndelivered(),
      keep: (bytes: Uint8Array<ArrayBuffer>) => {
        this.#undelivered = bytes;
      },
    };
    const most = length ?? Number.POSITIVE_INFINITY;
    return new Splice(this.#stream, other.#stream, most, leftovers, limits);
  }

  /**
   * Gives what a `spliceTo` that failed had taken off this stream and could not deliver: empty where
   * there is nothing. It is the caller's from then on.
   */
  takeUndelivered(): Uint8Array<ArrayBuffer> {
    const bytes = this.#undelivered ?? new Uint8Array(0);
    this.#undelivered = undefined;
    return bytes;
  }

  /**
   * Sends one byte of urgent data, or answers at once: TCP's urgent pointer then stands behind it, and
   * the peer is told (`receiveUrgent`, `atMark`). TCP keeps one urgent byte: a second one makes the
   * first one an ordinary byte, or lets it be lost.
   *
   * @param byte 0 to 255
   * @returns true; undefined when there is no room
   * @throws {SystemError} `ENOTSUP` this kind of stream has none (Unix ones have from Linux 5.15 on);
   * else as `trySend`
   */
  trySendUrgent(byte: number): true | undefined {
    requireInteger(byte, 0, BYTE_MAX, "an urgent byte");
    urgent[0] = byte;
    return sendSome(this.#stream, urgent, MSG_OOB) === undefined ? undefined : true;
  }

  /**
   * Sends one byte of urgent data, waiting for room.
   *
   * @param byte 0 to 255
   * @throws {TimeoutError} there was no room in time
   * @throws {SystemError} as trySendUrgent
   */
  sendUrgentSync(byte: number, options?: TimeoutOptions): void {
    const deadline = deadlineOf(options);
    const attempt = () => this.trySendUrgent(byte);
    runSync(this.#stream.descriptor, EPOLLOUT, deadline, { syscall: "send", attempt });
  }

  /**
   * Sends one byte of urgent data; the promise form of `sendUrgentSync`.
   *
   * @param byte 0 to 255
   * @throws {TimeoutError} there was no room in time
   * @throws {SystemError} as trySendUrgent
   */
  async sendUrgent(byte: number, options?: CancelOptions): Promise<void> {
    requireInteger(byte, 0, BYTE_MAX, "an urgent byte");
    const attempt = () => this.trySendUrgent(byte);
    await start(this.#stream.descriptor, EPOLLOUT, options, () => ({ syscall: "send", attempt }));
  }

  /**
   * Receives the urgent byte, or answers at once. It is not part of what `receive` gives, unless
   * `SocketOption.oobInline` is on: then `atMark` tells where it stands, and this is refused.
   *
   * @returns 0 to 255; undefined when there is none, or it has not come yet
   * @throws {SystemError} `EINVAL` the option oobInline is on; `ENOTSUP` this kind of stream has none;
   * `ENOTCONN` it is not connected
   */
  tryReceiveUrgent(): number | undefined {
    const byte = this.#receiveUrgent(this.#stream.descriptor);
    return byte === ENDED ? undefined : byte;
  }

  /**
   * Receives the urgent byte, waiting for it, beside what waits for ordinary data.
   *
   * @returns 0 to 255; undefined when the stream has ended without
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceiveUrgent
   */
  receiveUrgentSync(options?: TimeoutOptions): number | undefined {
    const deadline = deadlineOf(options);
    const { descriptor } = this.#stream;
    for (let tries = 0; ; tries++) {
      const byte = this.#receiveUrgent(descriptor);
      if (byte === ENDED) return undefined;
      if (byte !== undefined) return byte;
      waitUntil(descriptor.fd, POLLPRI | POLLRDHUP, deadline, "recv", undefined, tries);
    }
  }

  /**
   * Receives the urgent byte; the promise form of `receiveUrgentSync`. It does not stand in line
   * behind those who wait for ordinary data.
   *
   * @returns 0 to 255; undefined when the stream has ended without
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceiveUrgent
   */
  async receiveUrgent(options?: CancelOptions): Promise<number | undefined> {
    requireOpen(this.#stream, "recv");
    // A descriptor of its own has a line of its own. Whoever closes the socket closes it first.
    const own = new Descriptor(fcntl(this.#stream.descriptor.fd, F_DUPFD_CLOEXEC, 0), "fcntl");
    this.#urgentWaits ??= new Set();
    this.#urgentWaits.add(own);
    try {
      const attempt = () => this.#receiveUrgent(own);
      const byte = await start(own, EPOLLIN, options, () => ({ syscall: "recv", attempt }));
      return byte === ENDED ? undefined : byte;
    } finally {
      this.#urgentWaits.delete(own);
      own.close();
    }
  }

  #receiveUrgent(descriptor: Descriptor): number | typeof ENDED | undefined {
    for (;;) {
      const result = recv(descriptor.fd, urgent, MSG_OOB | MSG_DONTWAIT);
      if (result > 0) return urgent[0] as number;
      if (result === 0) return ENDED;
      if (result === -EAGAIN) return undefined;
      if (result === -EINVAL && descriptor.fd >= 0) return this.#noUrgent(descriptor);
      if (result !== -EINTR) throw streamError({ ...this.#stream, descriptor }, result, "recv");
    }
  }

  // EINVAL: none has come, it was received already, or it is in the stream.
  #noUrgent(descriptor: Descriptor): typeof ENDED | undefined {
    if (readInt(descriptor.fd, SO_OOBINLINE) !== 0) {
      const hint = "Urgent data stays in the stream: SocketOption.oobInline is on. See atMark";
      throw streamError(this.#stream, -EINVAL, "recv", { hint });
    }
    if (mayBeReady(descriptor.fd, POLLRDHUP)) return ENDED;
    // One that was never connected hangs up and has no end.
    if (mayBeReady(descriptor.fd, POLLHUP)) throw streamError(this.#stream, -ENOTCONN, "recv");
    return undefined;
  }

  /**
   * Whether the next byte to receive stands at the urgent mark. A receive never goes past the mark.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man3/sockatmark.3.html | sockatmark(3)}
   */
  get atMark(): boolean {
    return check(sockatmark(this.#stream.descriptor.fd), "sockatmark") === 1;
  }

  /**
   * Has `close` reset a TCP connection: what was not sent is dropped, and the peer gets `ECONNRESET`
   * instead of the end. Unix streams have no reset: their peer gets the end.
   *
   * @throws {ClosedError} the socket is closed
   */
  resetOnClose(): void {
    linger.l_onoff.set(lingerValue, 0, 1);
    linger.l_linger.set(lingerValue, 0, 0);
    const { fd } = this.#stream.descriptor;
    check(setsockopt(fd, SOL_SOCKET, SO_LINGER, lingerValue), "setsockopt", {
      option: "SO_LINGER",
    });
  }

  /**
   * Resets the connection: `resetOnClose` and `close`. Does nothing on a closed socket. A duplicate
   * keeps the connection open.
   */
  reset(): void {
    if (this.#stream.descriptor.fd < 0) return;
    this.resetOnClose();
    this.close();
  }

  /**
   * The buffered reader of this socket. There is one, and what it holds is not lost between two calls:
   * the first call makes it, and a later one returns it, with the options that are given then.
   *
   * @throws {RangeError} an option is out of range
   */
  reader(options?: ReaderOptions): SocketReader {
    if (this.#reader) {
      if (options !== undefined) this.#reader.configure(options);
      return this.#reader;
    }
    const { SocketReader }: typeof import("./socket_reader.ts") = loadModule(() =>
      require("./socket_reader.ts"),
    );
    this.#reader = new SocketReader(this.#stream, options);
    return this.#reader;
  }

  /**
   * The buffered writer of this socket. There is one: the first call makes it, and a later one returns
   * it, with the options that are given then. What it holds is sent by `flush`, not by `close`.
   *
   * @throws {RangeError} an option is out of range
   */
  writer(options?: WriterOptions): SocketWriter {
    if (this.#writer) {
      if (options !== undefined) this.#writer.configure(options);
      return this.#writer;
    }
    const { SocketWriter }: typeof import("./socket_writer.ts") = loadModule(() =>
      require("./socket_writer.ts"),
    );
    const shutdown = () => this.shutdown("write");
    this.#writer = new SocketWriter(this.#stream, shutdown, options);
    return this.#writer;
  }

  /**
   * The lines that come, for `for await`: `reader(options).lines()`. Leaving the loop leaves the socket
   * open and loses nothing.
   */
  lines(options?: ReaderOptions): Lines {
    return this.reader(options).lines();
  }

  /**
   * The chunks that come, for `for await`, each in memory of its own. The loop ends at the end of the
   * stream, or when this program closes the socket; leaving it leaves the socket open and loses
   * nothing.
   */
  [Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array<ArrayBuffer>> {
    return this.reader().chunks();
  }

  /**
   * What comes, as a Web Stream of bytes; always the same one. It reads into the memory of a BYOB
   * reader, and takes what the socket's reader holds first. Cancelling it is `shutdown("read")`. When
   * it and `writable` have both ended, the socket is closed.
   *
   * @see {@link https://streams.spec.whatwg.org/#readable-byte-stream | readable byte streams}
   */
  get readable(): WebReadable {
    this.#readable ??= loadWebStreams().openReadable(
      this.reader(),
      () => this.shutdown("read"),
      () => this.#endStream(),
    );
    return this.#readable;
  }

  /**
   * What goes, as a Web Stream of chunks and strings; always the same one. It goes through the
   * socket's writer, and each write waits until it is sent. Closing it is `shutdown("write")`; aborting
   * it drops what waits, and has the connection reset when the socket is closed. When it and `readable`
   * have both ended, the socket is closed.
   *
   * @see {@link https://streams.spec.whatwg.org/#ws-class | WritableStream}
   */
  get writable(): WebWritable {
    this.#writable ??= loadWebStreams().openWritable(
      this.writer(),
      () => {
        if (this.#stream.descriptor.fd >= 0) this.resetOnClose();
      },
      () => this.#endStream(),
    );
    return this.#writable;
  }

  // Each of the two says once that it has ended.
  #endStream(): void {
    this.#endedStreams++;
    if (this.#endedStreams === 2) this.close();
  }

  override detach(): number {
    this.#closeUrgentWaits();
    return super.detach();
  }

  override close(): void {
    this.#closeUrgentWaits();
    super.close();
  }

  // A duplicate would keep the connection open.
  #closeUrgentWaits(): void {
    for (const descriptor of this.#urgentWaits ?? []) descriptor.close();
  }
}

/** The end of a stream, where a number is expected. */
const ENDED = "ended";

/** What is to be sent, as views; strings only where they may be. */
function toViews(data: StreamData | readonly StreamData[], textToo: boolean): ArrayBufferView[] {
  if (!Array.isArray(data)) return [toOneView(data as StreamData, textToo)];
  const { length } = data as readonly StreamData[];
  requireInteger(length, 0, VIEWS_MAX, "the number of views");
  const views: ArrayBufferView[] = [];
  for (let i = 0; i < length; i++) views.push(toOneView(data[i] as StreamData, textToo));
  return views;
}

function toOneView(data: StreamData, textToo: boolean): ArrayBufferView {
  if (typeof data === "string" && textToo) return Buffer.from(data);
  return toView(data as ArrayBufferView, "data");
}

// What not every program needs is loaded when it is first called.
function loadSendFile(): typeof import("./internal/sendfile.ts") {
  return loadModule(() => require("./internal/sendfile.ts"));
}

function loadSplice(): typeof import("./internal/splice.ts") {
  return loadModule(() => require("./internal/splice.ts"));
}

function loadWebStreams(): typeof import("./internal/web_streams.ts") {
  return loadModule(() => require("./internal/web_streams.ts"));
}
