import { MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_EOR } from "../structs/constants/sys_socket.ts";
import { UIO_MAXIOV } from "../structs/constants/sys_uio.ts";
import { iovec } from "../structs/iovec.ts";
import { msghdr } from "../structs/msghdr.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import {
  type Address,
  addressBytes,
  addressFromBytes,
  sendableLength,
  toAnyAddress,
} from "./address.ts";
import type { ControlMessage, ControlWriter } from "./control.ts";
import { addressOf, bufferOf, byteLengthOf, bytesOf, isDetached } from "./ffi/memory.ts";
import { describe, requireInteger, requireOptions, requireView } from "./internal/arguments.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { Rights } from "./internal/received_rights.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import { recvmsg, sendmsg } from "./sys/socket.ts";

/** What a Message is made of. */
export interface MessageOptions {
  /** The parts of the payload, in order: 0 to 1024 views of any part of any buffer. Default none. */
  readonly vectors?: ArrayBufferView | readonly ArrayBufferView[] | undefined;
  /** Where an unconnected socket sends it, or its text. Default nowhere. */
  readonly address?: Address | string | undefined;
  /** Room for control messages, in bytes. 0 to 65536, default 0. */
  readonly controlBytes?: number | undefined;
}

// Set by the class below, for the sockets only. The package does not export them: a descriptor is
// not checked here.

/** Whether it is a Message: what only inherits from one has no memory. */
export let isMessage: (value: unknown) => value is Message;

/**
 * One sendmsg(2). Returns the bytes sent, or `-errno`. A connected socket sends to its peer,
 * whatever address the message has.
 */
export let sendMessageFrom: (
  message: Message,
  fd: number,
  flags: number,
  connected: boolean,
) => number;

/**
 * One recvmsg(2) into the message. Returns the bytes written, or `-errno`. With `MSG_TRUNC` among
 * the flags, `originalLength` is the true length of a datagram that did not fit.
 */
export let receiveMessageInto: (
  message: Message,
  fd: number,
  flags: number,
  records: Records,
) => number;

/** How a socket keeps records apart, for `receiveMessageInto`. */
export interface Records {
  /** Whether what does not fit is lost, and nothing to write to has a meaning. */
  readonly truncates: boolean;
  /** Whether it is a seqpacket socket, of which records come, and the end as 0 bytes. */
  readonly keeps: boolean;
  /** Whether each record comes with a timestamp that nobody has asked for but us. */
  readonly hidesStamp: boolean;
  /** Whether descriptors can come: so on Unix sockets. */
  readonly bringsDescriptors: boolean;
}

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const HEADER = msghdr.size;
const NAME = HEADER;
const NAME_BYTES = sockaddr_storage.size;
const VECTORS = NAME + NAME_BYTES;
const CONTROL_MAX = 65536;
const NONE: readonly ReceivedDescriptor[] = Object.freeze([]);
/** CMSG_SPACE(sizeof(struct timeval)): the control message of SO_TIMESTAMP, which comes first. */
const STAMP = 32;

const NO_VECTORS: readonly ArrayBufferView[] = [];

// What the message in a call points to. An address alone would not keep it alive, nor would a local
// variable that nobody uses any more.
const inCall = { vectors: NO_VECTORS };

/**
 * One message with all that sendmsg(2) and recvmsg(2) can say of it: a payload of several parts, an
 * address, control messages, flags. Made once and used many times.
 *
 * Lifetime: the vectors stay the caller's memory, and the message keeps them alive. What a receive
 * told is valid until the next one. While a promise form waits with it, nothing else is refused, unlike
 * with a `DatagramBatch`: other calls and its setters change what goes or where it comes to, so leave
 * it alone meanwhile.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/recvmsg.2.html | recvmsg(2)}
 * @see {@link https://man7.org/linux/man-pages/man2/sendmsg.2.html | sendmsg(2)}
 *
 * @example A header and a body, apart in memory, together on the way
 * ```ts
 * import { Message, UnixDatagramSocket } from "bun-sockets";
 *
 * const [left, right] = UnixDatagramSocket.pair();
 * const head = Buffer.from("len=5 ");
 * left.trySendMessage(new Message({ vectors: [head, Buffer.from("hello")] }));
 *
 * const [key, value] = [Buffer.alloc(6), Buffer.alloc(100)];
 * const message = new Message({ vectors: [key, value] });
 * console.log(right.tryReceiveMessage(message), `${key}`); // 11 len=5
 * left.close();
 * right.close();
 * ```
 */
export class Message {
  #vectors: readonly ArrayBufferView[] = [];
  /** msghdr, then the name, then the vectors: memory of ours that no caller ever sees. */
  #view: DataView<ArrayBuffer>;
  /** The caller's window into the control memory, which begins STAMP bytes before it. */
  readonly #control: Uint8Array<ArrayBuffer>;
  #nameLength = 0;
  /** Control bytes that the caller wrote, to be sent. */
  #controlToSend = 0;
  #controlLength = 0;
  #writer: ControlWriter | undefined;
  #flags = 0;
  #originalLength = 0;
  /** What a receive has brought open. */
  #rights: Rights | undefined;

  /**
   * @throws {TypeError} a vector is no view of ordinary memory, or the address is none
   * @throws {RangeError} there are more than 1024 vectors, or controlBytes is out of range
   */
  constructor(options: MessageOptions = {}) {
    const { vectors = [], address, controlBytes = 0 } = requireOptions(options);
    requireInteger(controlBytes, 0, CONTROL_MAX, "the controlBytes of a Message");
    this.#control = new Uint8Array(new ArrayBuffer(STAMP + controlBytes), STAMP);
    this.#view = new DataView(new ArrayBuffer(VECTORS));
    this.vectors = vectors;
    this.address = address;
  }

  /** The parts of the payload, in order. Setting them takes one view, or an array of 0 to 1024. */
  get vectors(): readonly ArrayBufferView[] {
    return this.#vectors;
  }

  set vectors(vectors: ArrayBufferView | readonly ArrayBufferView[]) {
    const list = copyVectors(vectors);
    this.#vectors = Object.freeze(list);
    const bytes = VECTORS + list.length * iovec.size;
    if (bytes <= this.#view.byteLength) return;
    const grown = new ArrayBuffer(bytes);
    new Uint8Array(grown).set(new Uint8Array(this.#view.buffer));
    this.#view = new DataView(grown);
  }

  /**
   * Where an unconnected socket sends the message; after a receive, who sent it. Undefined where
   * there is no address. Setting it takes text too.
   */
  get address(): Address | undefined {
    const bytes = new Uint8Array(this.#view.buffer, NAME, this.#nameLength);
    return bytes.length < 2 ? undefined : addressFromBytes(bytes);
  }

  set address(address: Address | string | undefined) {
    const bytes = address === undefined ? undefined : addressBytes(toAnyAddress(address));
    if (bytes) new Uint8Array(this.#view.buffer, NAME).set(bytes);
    this.#nameLength = bytes?.length ?? 0;
  }

  /** The memory for control messages: `controlBytes` of it, of which `controlLength` are in use. */
  get control(): Uint8Array<ArrayBuffer> {
    return this.#control;
  }

  /**
   * How many bytes of `control` a receive has filled. Setting it says how many the next sends carry:
   * what was received is never sent unless it is set.
   */
  get controlLength(): number {
    return this.#controlLength;
  }

  set controlLength(length: number) {
    requireInteger(length, 0, byteLengthOf(this.#control), "the length of control messages");
    this.#controlLength = this.#controlToSend = length;
    if (this.#writer) control().setWritten(this.#writer, length);
  }

  /**
   * The control messages that a receive has filled in, each as an object: `ControlReader` over
   * `control` reads them without making any. Those that were written since are read likewise.
   *
   * @throws {TypeError} the control memory was transferred
   *
   * @example When and for how many hops more
   * ```ts
   * import { IpOption, Message, SocketOption, UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("127.0.0.1:0");
   * server.setOption(IpOption.receiveTtl, true);
   * server.setOption(SocketOption.timestampNs, true);
   * using client = UdpSocket.open("ipv4");
   * client.setOption(IpOption.ttl, 7);
   * client.sendToSync("hello", server.localAddress);
   *
   * const message = new Message({ vectors: Buffer.alloc(100), controlBytes: 128 });
   * server.receiveMessageSync(message, { timeoutMs: 1000 });
   * for (const control of message.controlMessages()) {
   *   if (control.kind === "timestamp") console.log(control.ns > 0n); // true
   *   if (control.kind === "ttl") console.log(control.ttl); // 7
   * }
   * ```
   */
  controlMessages(): ControlMessage[] {
    return control().decodeControl(this.#control, this.#controlLength);
  }

  /**
   * Writes the control messages that the next sends carry, into `control`: what it has written is
   * `controlLength`. A receive begins anew.
   *
   * @throws {TypeError} the control memory was transferred
   */
  get writer(): ControlWriter {
    if (this.#writer) return this.#writer;
    const { setWritten, watchedWriter } = control();
    this.#writer = watchedWriter(this.#control, (length) => {
      this.#controlLength = this.#controlToSend = length;
    });
    setWritten(this.#writer, this.#controlToSend);
    return this.#writer;
  }

  /**
   * What the kernel said of the received message: `MSG_TRUNC` the payload did not fit, `MSG_CTRUNC`
   * the control messages did not, `MSG_OOB` it is out-of-band data, `MSG_EOR` it is a record (set on
   * seqpacket sockets for every record, also an empty one, and not for the end of the stream: it
   * takes `SocketOption.timestamp`, which is on there unless the caller switches it off).
   */
  get flags(): number {
    return this.#flags;
  }

  /** How long the received datagram was: more than was written where it was truncated. */
  get originalLength(): number {
    return this.#originalLength;
  }

  /**
   * The descriptors that came with the received message, in the order in which they were sent. They
   * are this message's: the next receive into it closes those that nobody has taken (`take`, or
   * `adopt` with `{ own: true }`), and so does dropping the message. The numbers among the control
   * messages are these. With `MSG_CTRUNC` among `flags` there were more.
   */
  get descriptors(): readonly ReceivedDescriptor[] {
    return this.#rights?.descriptors ?? NONE;
  }

  /**
   * The process that has sent the received message, where `SocketOption.passProcessDescriptor` is
   * on. It is this message's as the `descriptors` are.
   */
  get processDescriptor(): ReceivedDescriptor | undefined {
    return this.#rights?.processDescriptor;
  }

  /**
   * Drops the first bytes of the payload: what a short send has sent. The vectors then hold the
   * rest.
   *
   * @param bytes 0 to the sum of the vectors' lengths
   * @throws {RangeError} there are fewer bytes
   * @throws {TypeError} a vector was detached
   */
  advance(bytes: number): void {
    for (const vector of this.#vectors) requireView(vector, "a vector");
    const lengths = this.#vectors.map(byteLengthOf);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    requireInteger(bytes, 0, total, "the number of bytes sent");
    let left = bytes;
    let first = 0;
    while (first < lengths.length && left >= (lengths[first] as number))
      left -= lengths[first++] as number;
    const [partly, ...rest] = this.#vectors.slice(first);
    this.#vectors = Object.freeze(partly ? [after(partly, left), ...rest] : []);
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#view in this)) return "Message";
    const { address } = this;
    const bytes = this.#vectors.reduce((sum, vector) => sum + lengthLeft(vector), 0);
    const { length } = this.#vectors;
    const payload = `${bytes} bytes in ${length} vector${length === 1 ? "" : "s"}`;
    const used = `${this.#controlLength} of ${lengthLeft(this.#control)} controlBytes`;
    return `Message, ${payload}, ${used}${address ? `, ${address}` : ""}`;
  }

  // Writes what the kernel follows, anew for each call: a caller may have moved or detached memory
  // since. Returns the sum of the lengths.
  #point(): number {
    const view = this.#view;
    let total = 0;
    let at = VECTORS;
    for (const vector of this.#vectors) {
      requireView(vector, "a vector");
      const length = byteLengthOf(vector);
      iovec.iov_base.set(view, at, addressOf(vector));
      iovec.iov_len.set(view, at, length);
      total += length;
      at += iovec.size;
    }
    const base = addressOf(view);
    msghdr.msg_iov.set(view, 0, base + VECTORS);
    msghdr.msg_iovlen.set(view, 0, this.#vectors.length);
    msghdr.msg_name.set(view, 0, base + NAME);
    msghdr.msg_flags.set(view, 0, 0);
    inCall.vectors = this.#vectors;
    return total;
  }

  #pointControl(before: number, length: number): void {
    requireView(this.#control, "the control memory");
    const used = before + length;
    const start = used === 0 ? 0 : addressOf(this.#control.buffer) + STAMP - before;
    msghdr.msg_control.set(this.#view, 0, start);
    msghdr.msg_controllen.set(this.#view, 0, used);
  }

  #send(fd: number, flags: number, connected: boolean): number {
    this.#pointControl(0, this.#controlToSend);
    this.#point();
    msghdr.msg_namelen.set(this.#view, 0, connected ? 0 : this.#nameLength);
    if (connected || this.#nameLength === 0) msghdr.msg_name.set(this.#view, 0, 0);
    const result = sendmsg(fd, this.#view, flags);
    inCall.vectors = NO_VECTORS;
    return result;
  }

  #receive(fd: number, flags: number, records: Records): number {
    const { truncates, keeps, hidesStamp, bringsDescriptors } = records;
    const before = hidesStamp ? STAMP : 0;
    const room = byteLengthOf(this.#control);
    // Loaded before: what comes may leave no descriptor to read a file with.
    if (bringsDescriptors && before + room > 0) rights ??= loadRights();
    this.#pointControl(before, room);
    const total = this.#point();
    // Nothing received and the end of a stream would both be 0.
    if (!truncates && total === 0)
      throw new RangeError("Cannot receive a stream into a message without room for payload");
    msghdr.msg_namelen.set(this.#view, 0, NAME_BYTES);
    const result = recvmsg(fd, this.#view, flags);
    inCall.vectors = NO_VECTORS;
    if (result < 0) return result;
    const controlLength = msghdr.msg_controllen.get(this.#view, 0);
    // The kernel gives the input flag back.
    const told = msghdr.msg_flags.get(this.#view, 0) & ~MSG_CMSG_CLOEXEC;
    // Only a record has bytes, a timestamp, or something that did not fit.
    const isRecord = keeps && (result > 0 || controlLength > 0 || (told & MSG_CTRUNC) !== 0);
    this.#flags = told | (isRecord ? MSG_EOR : 0);
    this.#controlLength = Math.min(Math.max(controlLength - before, 0), room);
    this.#controlToSend = 0;
    if (this.#writer) control().setWritten(this.#writer, 0);
    this.#nameLength = sendableLength(msghdr.msg_namelen.get(this.#view, 0));
    this.#originalLength = result;
    if (this.#rights || (bringsDescriptors && controlLength > 0)) this.#own(before);
    return Math.min(result, total);
  }

  // What came has its owner before what came earlier is closed: one of that may have been closed by
  // its number, and have it again.
  #own(before: number): void {
    const { ownRights, discardRights } = rights ?? loadRights();
    const earlier = this.#rights;
    const length = before + this.#controlLength;
    this.#rights = ownRights(new Uint8Array(this.#control.buffer, STAMP - before, length));
    if (earlier) discardRights(earlier);
  }

  static {
    isMessage = (value): value is Message => value instanceof Object && #view in value;
    sendMessageFrom = (message, fd, flags, connected) => message.#send(fd, flags, connected);
    receiveMessageInto = (message, fd, flags, records) => message.#receive(fd, flags, records);
  }
}

// Loaded when descriptors can come for the first time.
let rights: ReturnType<typeof loadRights> | undefined;

function loadRights(): typeof import("./internal/received_rights.ts") {
  return loadModule(() => require("./internal/received_rights.ts"));
}

// Loaded when control messages are first looked at, or written.
function control(): typeof import("./control.ts") {
  return loadModule(() => require("./control.ts"));
}

// Read once, and no longer than the kernel allows: what looks like an array can be endless.
function copyVectors(vectors: ArrayBufferView | readonly ArrayBufferView[]): ArrayBufferView[] {
  if (ArrayBuffer.isView(vectors)) {
    requireView(vectors, "a vector");
    return [vectors];
  }
  if (!Array.isArray(vectors))
    throw new TypeError(`Cannot use ${describe(vectors)} as vectors: expected a view, or an array`);
  const { length } = vectors;
  requireInteger(length, 0, UIO_MAXIOV, "the number of vectors");
  const list: ArrayBufferView[] = [];
  for (let i = 0; i < length; i++) {
    const view = vectors[i];
    requireView(view, "a vector");
    list.push(view);
  }
  return list;
}

// A view of memory that has gone has no length: a DataView throws.
function lengthLeft(view: ArrayBufferView): number {
  return isDetached(bufferOf(view) as ArrayBuffer) ? 0 : byteLengthOf(view);
}

// The rest of a view, as bytes.
function after(view: ArrayBufferView, bytes: number): ArrayBufferView {
  if (bytes === 0) return view;
  return bytesOf(view).subarray(bytes);
}
