/**
 * Segmentation offload (UDP_SEGMENT): payloads that the kernel cuts into datagrams, and what goes out
 * datagram by datagram because it does not.
 *
 * One table of headers for each thread serves every call: nothing is allocated for a train.
 *
 * @module
 */

import { cmsghdr } from "../../structs/cmsghdr.ts";
import {
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  EINTR,
  EINVAL,
  EIO,
  EMSGSIZE,
  ENOPROTOOPT,
} from "../../structs/constants/errno.ts";
import { IPPROTO_UDP } from "../../structs/constants/netinet_in.ts";
import { UDP_GRO, UDP_SEGMENT } from "../../structs/constants/netinet_udp.ts";
import { EPOLLOUT } from "../../structs/constants/sys_epoll.ts";
import {
  AF_INET,
  AF_INET6,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "../../structs/constants/sys_socket.ts";
import { iovec } from "../../structs/iovec.ts";
import { mmsghdr } from "../../structs/mmsghdr.ts";
import { msghdr } from "../../structs/msghdr.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { sockaddr_storage } from "../../structs/sockaddr_storage.ts";
import { addressBytes, addressFromBytes, type InetAddress, toInetAddress } from "../address.ts";
import { systemError, tooLongHint } from "../error.ts";
import { addressOf, byteLengthOf } from "../ffi/memory.ts";
import type {
  Offload,
  OffloadReason,
  RefusedDestination,
  SegmentAsyncOptions,
  SegmentOptions,
  SegmentPayload,
  SegmentWaitOptions,
} from "../offload.ts";
import { errorName } from "../sys/errno.ts";
import {
  bind,
  connect,
  getpeername,
  getsockname,
  getsockopt,
  sendmmsg,
  sendmsg,
  setsockopt,
  socket,
} from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import {
  requireBoolean,
  requireFlags,
  requireInteger,
  requireOptions,
  requireView,
  toView,
} from "./arguments.ts";
import { deadlineAfter } from "./deadline.ts";
import { type Descriptor, errorsOf } from "./descriptor.ts";
import { SenderTable } from "./sender_table.ts";
import { runSync, STEP_BYTES, type Steps, start, tryAgain } from "./stream_call.ts";

const HEADER = mmsghdr.size;
// Headers and vectors of one call: there are as many as one train of the longest has segments.
const HEADERS = 128;
const VECTORS_MAX = 1024;
/** CMSG_SPACE(sizeof(uint16_t)) and CMSG_LEN of it: the control message that makes a train. */
const CONTROL = 24;
const CONTROL_LENGTH = 18;
const VECTORS = HEADERS * HEADER;
const CONTROLS = VECTORS + VECTORS_MAX * iovec.size;
const NAME = CONTROLS + HEADERS * CONTROL;
const END = NAME + sockaddr_storage.size;

/** The most bytes of one train, as of one datagram: 65535 without the headers of UDP and IPv4. */
const BYTES_MAX_4 = 65_507;
/** The same over IPv6, whose own header does not count. */
const BYTES_MAX_6 = 65_527;
const SEGMENT_MAX = 0xffff;
const DATAGRAMS_MAX = 2 ** 20;
/** How many datagrams a step sends before everything else of the thread has its turn. */
const STEP_DATAGRAMS = 4096;

// MSG_MORE would make one datagram of all.
const FLAGS = MSG_CONFIRM | MSG_DONTROUTE | MSG_DONTWAIT | MSG_NOSIGNAL;

const REFUSED_MAX = 1024;
const NO_LIMIT = 2 ** 16;
/** 127.0.0.1, in host byte order. */
const INADDR_LOOPBACK = 0x7f000001;
/** What every kernel takes that has segmentation offload, and how long trains would be without. */
const MINIMUM = 64;
const PROBE_BYTES = 32;

// The only views of the memory that the kernel follows: every call is given the first one.
const tables = new DataView(new ArrayBuffer(END));
const tableWords = new Int32Array(tables.buffer);
const nameLength = new Uint32Array(new ArrayBuffer(4));
const option = new Int32Array(new ArrayBuffer(4));
const base = addressOf(tables.buffer);
for (let i = 0; i < HEADERS; i++) {
  cmsghdr.cmsg_len.set(tables, CONTROLS + i * CONTROL, CONTROL_LENGTH);
  cmsghdr.cmsg_level.set(tables, CONTROLS + i * CONTROL, IPPROTO_UDP);
  cmsghdr.cmsg_type.set(tables, CONTROLS + i * CONTROL, UDP_SEGMENT);
}

// What each header of the table stands for.
const lengths = new Int32Array(HEADERS);
const counts = new Int32Array(HEADERS);
const segments = new Int32Array(HEADERS);
const ends = new Float64Array(HEADERS);

/** Whether an error of a train may be none of its datagrams. */
function refusesTrain(errno: number): boolean {
  return errno === EIO || errno === EINVAL || errno === EMSGSIZE;
}

/** Whether a send has failed for what happened to an earlier datagram: told once. */
function tellsOfEarlier(fd: number, result: number, tries: number): boolean {
  if (errorsOf(fd)?.passes(fd, result, tries)) return true;
  return tries === 0 && (result === -ECONNREFUSED || result === -EMSGSIZE);
}

/** The most bytes of one train to a sockaddr in `words`. */
function bytesMaxOf(words: Int32Array, at: number): number {
  if (((words[at] as number) & 0xffff) !== AF_INET6) return BYTES_MAX_4;
  const host = at + sockaddr_in6.sin6_addr.offset / 4;
  // ::ffff:0:0/96, IPv4 in the words of IPv6.
  const isMapped = words[host] === 0 && words[host + 1] === 0 && words[host + 2] === -0x10000;
  return isMapped ? BYTES_MAX_4 : BYTES_MAX_6;
}

/** The tables of a batch, whose headers point into them. */
export interface BatchTables {
  readonly view: DataView;
  readonly words: Int32Array;
  readonly address: number;
}

const INSPECT = Symbol.for("nodejs.util.inspect.custom");

/** What the caller sees of it: no member of the other class would check what it is given. */
class ShownOffload implements Offload {
  readonly #state: SegmentationOffload;

  constructor(state: SegmentationOffload) {
    this.#state = state;
  }

  get maxSegments(): number {
    return this.#state.maxSegments;
  }

  get enabled(): boolean {
    return this.#state.enabled;
  }

  set enabled(enabled: boolean) {
    requireBoolean(enabled, "enabled");
    this.#state.enable(enabled);
  }

  get trains(): number {
    return this.#state.trains;
  }

  get segments(): number {
    return this.#state.segments;
  }

  get fallbacks(): number {
    return this.#state.fallbacks;
  }

  get lastReason(): OffloadReason | undefined {
    return this.#state.lastReason;
  }

  get refusedDestinations(): readonly RefusedDestination[] {
    return this.#state.refusedDestinations;
  }

  /** The counters and the reason, for JSON and console.log. */
  toJSON(): object {
    const { maxSegments, enabled, trains, segments, fallbacks, lastReason } = this;
    return { maxSegments, enabled, trains, segments, fallbacks, lastReason };
  }

  [INSPECT](): object | string {
    return #state in this ? this.toJSON() : "Offload";
  }
}

/** What is known of segmentation offload on an open socket, and what of it goes out in which way. */
export class SegmentationOffload {
  readonly shown: Offload = new ShownOffload(this);
  trains = 0;
  segments = 0;
  fallbacks = 0;
  lastReason: OffloadReason | undefined;
  /** Why the last `sendAlone` has not sent all: an errno, or 0. */
  stopped = 0;
  /** Whether the last send of segments has stopped because there was no room. */
  isFull = false;
  /** `UDP_SEGMENT` of the socket itself: what has no control message is cut by it. */
  socketSegmentBytes = 0;
  #isWanted = true;
  #maxSegments = -1;
  /** From which segment size on the peer gets no trains, and why. */
  #peerLimit = NO_LIMIT;
  #peerErrno = 0;
  #peer: InetAddress | undefined;
  #peerBytesMax = 0;
  /** The same of others: by the slots of the table, which are made when they are needed. */
  #table: SenderTable | undefined;
  #limits: Uint32Array | undefined;
  #errnos: Uint8Array | undefined;

  constructor(fd: number) {
    this.learnOfSocket(fd);
  }

  /** Asks for the option of the socket itself. */
  learnOfSocket(fd: number): void {
    const result = getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, option, nameLength);
    this.socketSegmentBytes = result === 0 ? (option[0] as number) : 0;
  }

  get maxSegments(): number {
    if (this.#maxSegments < 0) {
      this.#maxSegments = maxSegments();
      if (this.#maxSegments === 0)
        this.lastReason = Object.freeze({ code: errorName(ENOPROTOOPT), destination: undefined });
    }
    return this.#maxSegments;
  }

  get enabled(): boolean {
    return this.#isWanted && this.maxSegments > 0;
  }

  /** Whether only the kernel keeps trains from being sent. */
  get isWanted(): boolean {
    return this.#isWanted;
  }

  enable(enabled: boolean): void {
    this.#isWanted = enabled;
    if (!enabled) return;
    this.forgetPeer();
    this.#table = this.#limits = this.#errnos = undefined;
  }

  get refusedDestinations(): readonly RefusedDestination[] {
    const refused: RefusedDestination[] = [];
    if (this.#peerLimit < NO_LIMIT)
      refused.push(toRefused(this.#peer, this.#peerErrno, this.#peerLimit));
    const given = this.#table?.given ?? 0;
    for (let number = Math.max(0, given - REFUSED_MAX); number < given; number++) {
      const slot = number % REFUSED_MAX;
      const destination = this.#table?.address(number) as InetAddress;
      refused.push(
        toRefused(destination, this.#errnos?.[slot] as number, this.#limits?.[slot] as number),
      );
    }
    return Object.freeze(refused);
  }

  /**
   * Whether trains of such segments are not to be tried.
   *
   * @param words has the sockaddr of the destination at word `at`; where its length is 0 it is the
   * peer
   */
  refuses(words: Int32Array, at: number, length: number, segmentBytes: number): boolean {
    if (!this.enabled) return true;
    if (length === 0) return segmentBytes >= this.#peerLimit;
    const number = this.#table?.find(words, at, length) ?? -1;
    return (
      number >= 0 && segmentBytes >= ((this.#limits as Uint32Array)[number % REFUSED_MAX] as number)
    );
  }

  /** Remembers that a train was refused whose datagrams were not. Else as `refuses`. */
  refuse(
    fd: number,
    words: Int32Array,
    at: number,
    length: number,
    segmentBytes: number,
    errno: number,
  ): void {
    // The other two may be about the length of the segments: shorter ones are tried.
    const limit = errno === EIO ? 1 : segmentBytes;
    let destination: InetAddress | undefined;
    if (length === 0) {
      destination = peerOf(fd);
      this.#peer = destination;
      this.#peerErrno = errno;
      this.#peerLimit = Math.min(this.#peerLimit, limit);
    } else {
      this.#table ??= new SenderTable(REFUSED_MAX);
      this.#limits ??= new Uint32Array(REFUSED_MAX);
      this.#errnos ??= new Uint8Array(REFUSED_MAX);
      const before = this.#table.given;
      const number = this.#table.number(words, at, length);
      const slot = number % REFUSED_MAX;
      if (number >= before) this.#limits[slot] = limit;
      else this.#limits[slot] = Math.min(this.#limits[slot] as number, limit);
      this.#errnos[slot] = errno;
      destination = this.#table.address(number) as InetAddress;
    }
    this.lastReason = Object.freeze({ code: errorName(errno), destination });
  }

  /** Counts a train of so many datagrams. */
  count(segments: number): void {
    this.trains++;
    this.segments += segments;
  }

  /** Whether an error of a train may be none of its datagrams. */
  isAboutTrain(errno: number): boolean {
    return refusesTrain(errno);
  }

  /**
   * Whether a train was refused for what happened to an earlier datagram, which is told once, so that
   * it is tried again.
   *
   * @param tries how often it was tried before
   */
  isStale(fd: number, result: number, tries: number): boolean {
    return refusesTrain(-result) && tellsOfEarlier(fd, result, tries);
  }

  /**
   * Sends the train of one prepared header of a batch datagram by datagram; or in shorter trains where
   * it is the length that was refused, as of one that came from elsewhere.
   *
   * @param from the bytes of it that were sent before
   * @param errno why the train was refused just now; 0 where it was not tried
   * @returns the bytes that are sent then, all in all; `stopped` tells why not more
   */
  sendAlone(
    fd: number,
    flags: number,
    { view, words, address }: BatchTables,
    header: number,
    from: number,
    errno: number,
  ): number {
    const name = msghdr.msg_name.get(view, header);
    const nameBytes = msghdr.msg_namelen.get(view, header);
    const nameAt = (name - address) >> 2;
    const controlBytes = msghdr.msg_controllen.get(view, header);
    // The size of the segments is the last of the control messages.
    const end = msghdr.msg_control.get(view, header) - address + controlBytes;
    const segmentAt = end - CONTROL + cmsghdr.size;
    const segment = view.getUint16(segmentAt, true);
    const vector = msghdr.msg_iov.get(view, header) - address;
    const payload = iovec.iov_base.get(view, vector);
    const length = iovec.iov_len.get(view, vector);
    const bytesMax = this.bytesMax(fd, words, nameAt, nameBytes);
    const countMax = Math.max(1, Math.min(this.maxSegments, Math.floor(bytesMax / segment)));
    const isTooLong = Math.ceil(length / segment) > countMax || length > bytesMax;
    let isAlone = errno === 0 ? this.refuses(words, nameAt, nameBytes, segment) : !isTooLong;
    let refusal = isAlone ? errno : 0;
    let isCounted = from > 0;
    let tries = 0;
    let position = from;
    this.stopped = 0;
    while (position < length && this.stopped === 0) {
      const whole = isAlone ? segment : segment * countMax;
      const isSingle = isAlone || length - position <= segment;
      // Zero says that it is one datagram, whatever the option of the socket says.
      view.setUint16(segmentAt, isSingle ? 0 : segment, true);
      let headers = 0;
      for (let at = position; at < length && headers < HEADERS; headers++) {
        const bytes = Math.min(whole, length - at);
        if (!isSingle && bytes <= segment) break;
        copyHeader(headers, view, header);
        setVector(headers, payload + at, bytes);
        lengths[headers] = bytes;
        at += bytes;
      }
      const result = sendmmsg(fd, tables, headers, flags);
      if (result > 0) {
        for (let i = 0; i < result; i++) {
          position += lengths[i] as number;
          if (!isSingle) this.count(Math.ceil((lengths[i] as number) / segment));
        }
        if (refusal !== 0) this.refuse(fd, words, nameAt, nameBytes, segment, refusal);
        if (isAlone && !isCounted && this.#isWanted) this.fallbacks++;
        isCounted ||= isAlone;
        refusal = tries = 0;
      } else if (tellsOfEarlier(fd, result, tries)) {
        tries++;
      } else if (!isSingle && refusesTrain(-result)) {
        isAlone = true;
        refusal = -result;
      } else if (result !== -EINTR) {
        this.stopped = -result || EAGAIN;
      }
    }
    view.setUint16(segmentAt, segment, true);
    return position;
  }

  /** Says that the socket has another peer, or none. */
  forgetPeer(): void {
    this.#peerLimit = NO_LIMIT;
    this.#peerErrno = this.#peerBytesMax = 0;
    this.#peer = undefined;
  }

  /** The most bytes of one train. As `refuses`. */
  bytesMax(fd: number, words: Int32Array, at: number, length: number): number {
    if (length > 0) return bytesMaxOf(words, at);
    if (this.#peerBytesMax === 0) {
      const found = getpeername(fd, nameInTables, nameLength) === 0;
      this.#peerBytesMax = found ? bytesMaxOf(tableWords, NAME / 4) : BYTES_MAX_4;
    }
    return this.#peerBytesMax;
  }
}

const nameInTables = new Uint8Array(tables.buffer, NAME, sockaddr_storage.size);

function peerOf(fd: number): InetAddress | undefined {
  const bytes = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
  if (getpeername(fd, bytes, nameLength) < 0) return undefined;
  return addressFromBytes(bytes.subarray(0, nameLength[0])) as InetAddress;
}

function toRefused(
  destination: InetAddress | undefined,
  errno: number,
  segmentBytes: number,
): RefusedDestination {
  return Object.freeze({ code: errorName(errno), destination, segmentBytes });
}

/** A send of segments, as far as it has come. */
class SegmentSend implements Steps<number> {
  readonly syscall = "sendmmsg";
  /** Whether the last step ended because it had done enough, and not because it would block. */
  paused = false;
  /** Whether a call has it that is not answered yet. */
  isBusy = false;
  #descriptor: Descriptor | undefined;
  #offload: SegmentationOffload | undefined;
  #flags = 0;
  #to: InetAddress | undefined;
  #name: Uint8Array | undefined;
  /** The payload; undefined where there is a list. */
  #view: ArrayBufferView | undefined;
  /** The datagrams, where each is a view. */
  readonly #views: ArrayBufferView[] = [];
  #segmentBytes = 0;
  /** Bytes of the payload, or datagrams of the list; and how many of them were sent. */
  #end = 0;
  #position = 0;
  #sent = 0;
  /** How many bytes are sent before everything else of the thread has its turn. */
  #stepBytes = 0;
  /** The same as a distance of positions: small datagrams take their time, too. */
  #stepLength = 0;
  /** Up to here everything goes out datagram by datagram. */
  #aloneEnd = 0;
  /** Why, until the first of them has gone out: the reason may be theirs, and not the train's. */
  #refusal = 0;
  #refusedBytes = 0;
  // The train that `#measure` has found: its datagrams, its bytes, and those of the first datagram.
  #count = 0;
  #bytes = 0;
  #segment = 0;

  /** Takes the arguments of a call. Nothing after it runs code of the caller. */
  begin(
    descriptor: Descriptor,
    offload: SegmentationOffload,
    payload: SegmentPayload,
    options: SegmentOptions,
    stepBytes: number,
  ): this {
    this.isBusy = true;
    const { segmentBytes, to, flags } = requireOptions(options);
    const destination = to === undefined ? undefined : toInetAddress(to);
    this.#flags = requireFlags(flags, FLAGS) | MSG_DONTWAIT | MSG_NOSIGNAL;
    this.#end = Array.isArray(payload)
      ? this.#takeList(payload, segmentBytes)
      : this.#takePayload(payload as ArrayBufferView | ArrayBuffer, segmentBytes);
    this.#descriptor = descriptor;
    this.#offload = offload;
    this.#to = destination;
    this.#name = destination && addressBytes(destination);
    this.#position = this.#sent = this.#aloneEnd = this.#refusal = 0;
    this.#stepBytes = stepBytes;
    const isWhole = stepBytes === Number.POSITIVE_INFINITY;
    this.#stepLength = isWhole ? stepBytes : STEP_DATAGRAMS * (this.#view ? this.#segmentBytes : 1);
    this.paused = false;
    return this;
  }

  #takePayload(payload: ArrayBufferView | ArrayBuffer, segmentBytes: number | undefined): number {
    if (segmentBytes === undefined)
      throw new TypeError("Cannot send segments without segmentBytes, except a list of views");
    requireInteger(segmentBytes, 1, SEGMENT_MAX, "segmentBytes");
    const view = toView(payload, "data");
    const bytes = byteLengthOf(view);
    this.#segmentBytes = segmentBytes;
    this.#view = bytes === 0 ? undefined : view;
    if (bytes > 0) return bytes;
    this.#views[0] = view;
    return 1;
  }

  // Each is read once: the caller's array may be anything that runs code.
  #takeList(list: readonly ArrayBufferView[], segmentBytes: number | undefined): number {
    if (segmentBytes !== undefined)
      throw new TypeError("Cannot use segmentBytes with a list: each of its views is a datagram");
    const { length } = list;
    requireInteger(length, 0, DATAGRAMS_MAX, "the number of datagrams");
    for (let i = 0; i < length; i++) {
      const view = list[i] as ArrayBufferView;
      requireView(view, "a datagram");
      this.#views[i] = view;
    }
    this.#view = undefined;
    return length;
  }

  /** Lets go of what the caller gave. */
  settled(): void {
    this.#descriptor = this.#offload = this.#to = this.#name = this.#view = undefined;
    if (this.#views.length > 0) this.#views.length = 0;
    this.isBusy = false;
  }

  transferred(): number {
    return this.#sent;
  }

  attempt(): number | undefined {
    const { fd } = this.#descriptor as Descriptor;
    const offload = this.#offload as SegmentationOffload;
    if (fd < 0) throw this.#error(-EBADF);
    offload.isFull = false;
    // Before anything is in the table, which it uses too.
    const trains = offload.maxSegments || MINIMUM;
    this.#requireAttached();
    this.paused = false;
    const stopAt = this.#sent + this.#stepBytes;
    const stopBefore = this.#position + this.#stepLength;
    let tries = 0;
    let wasShort = false;
    while (this.#position < this.#end) {
      if (this.#sent >= stopAt || this.#position >= stopBefore) {
        this.paused = true;
        tryAgain(this.#descriptor as Descriptor);
        return undefined;
      }
      const headers = this.#fill(fd, offload, trains);
      const result = sendmmsg(fd, tables, headers, this.#flags);
      if (result > 0) {
        this.#advance(result, fd, offload);
        // What stopped the one before was a pending error, which that call has used up.
        if (wasShort) errorsOf(fd)?.drain(fd);
        wasShort = result < headers;
        tries = 0;
      } else if (result === -EAGAIN || result === 0) {
        offload.isFull = true;
        return undefined;
      } else if (this.#passes(fd, result, tries)) {
        tries++;
      } else if (result !== -EINTR) {
        if ((counts[0] as number) < 2 || !refusesTrain(-result)) throw this.#error(result);
        this.#aloneEnd = ends[0] as number;
        this.#refusal = -result;
        this.#refusedBytes = segments[0] as number;
      }
    }
    return this.#sent;
  }

  // What has happened before the call is told, as `trySend` tells it; not what happens within.
  #passes(fd: number, result: number, tries: number): boolean {
    if (result === -ECONNREFUSED && this.#sent === 0)
      return errorsOf(fd)?.passes(fd, result, tries) ?? false;
    return tellsOfEarlier(fd, result, tries);
  }

  // What has gone while the call waited would be sent as empty datagrams.
  #requireAttached(): void {
    if (this.#view) requireView(this.#view, "data");
    else
      for (let i = this.#position; i < this.#end; i++)
        requireView(this.#views[i] as ArrayBufferView, "a datagram");
  }

  #error(result: number): Error {
    const fd = this.#descriptor?.fd ?? -1;
    const isVersion6 = this.#to?.family === "ipv6";
    const hint = tooLongHint(result, this.syscall, fd, isVersion6);
    const details = { transferred: this.#sent, hint };
    return systemError(
      result,
      this.syscall,
      this.#to ? { ...details, address: this.#to, sending: true } : details,
    );
  }

  /** Writes as many trains and datagrams into the table as it holds. Returns the headers. */
  #fill(fd: number, offload: SegmentationOffload, trains: number): number {
    const nameBytes = this.#name?.length ?? 0;
    const bytesMax = this.#point(fd, offload);
    const payload = this.#view ? addressOf(this.#view) : 0;
    let position = this.#position;
    let headers = 0;
    let vectors = 0;
    while (headers < HEADERS && position < this.#end) {
      this.#measure(position, bytesMax, trains);
      this.#unlink(position, offload, nameBytes);
      const vectorCount = this.#view ? 1 : this.#count;
      if (vectors + vectorCount > VECTORS_MAX) break;
      this.#setHeader(headers, vectors, vectorCount, nameBytes, offload.socketSegmentBytes);
      if (this.#view) setVector(vectors, payload + position, this.#bytes);
      else
        for (let i = 0; i < vectorCount; i++) {
          const view = this.#views[position + i] as ArrayBufferView;
          setVector(vectors + i, addressOf(view), byteLengthOf(view));
        }
      vectors += vectorCount;
      position += this.#view ? this.#bytes : vectorCount;
      ends[headers++] = position;
    }
    return headers;
  }

  /** Writes the destination into the table. Returns the most bytes of a train to it. */
  #point(fd: number, offload: SegmentationOffload): number {
    if (!this.#name) return offload.bytesMax(fd, tableWords, NAME / 4, 0);
    nameInTables.set(this.#name);
    return offload.bytesMax(fd, tableWords, NAME / 4, this.#name.length);
  }

  /** Finds the train that begins at a position: equal datagrams, and one shorter one at its end. */
  #measure(position: number, bytesMax: number, trains: number): void {
    const segment = this.#view ? this.#segmentBytes : this.#lengthOf(position);
    const countMax = Math.max(1, Math.min(trains, Math.floor(bytesMax / segment)));
    this.#segment = segment;
    if (this.#view) {
      this.#bytes = Math.min(segment * countMax, this.#end - position);
      this.#count = Math.ceil(this.#bytes / segment);
      return;
    }
    let count = 1;
    this.#bytes = segment;
    const last = Math.min(countMax, this.#end - position);
    // An empty one is no segment.
    while (segment > 0 && count < last) {
      const length = this.#lengthOf(position + count);
      if (length === 0 || length > segment) break;
      this.#bytes += length;
      count++;
      if (length < segment) break;
    }
    this.#count = count;
  }

  #lengthOf(index: number): number {
    return byteLengthOf(this.#views[index] as ArrayBufferView);
  }

  /** Makes the first datagram of a train alone what is sent, where the train is not. */
  #unlink(position: number, offload: SegmentationOffload, nameBytes: number): void {
    if (this.#count < 2) return;
    if (position >= this.#aloneEnd) {
      if (!offload.refuses(tableWords, NAME / 4, nameBytes, this.#segment)) return;
      this.#aloneEnd = position + (this.#view ? this.#bytes : this.#count);
      if (offload.isWanted) offload.fallbacks++;
    }
    this.#count = 1;
    this.#bytes = this.#segment;
  }

  #setHeader(
    i: number,
    vector: number,
    vectorCount: number,
    nameBytes: number,
    socketSegmentBytes: number,
  ): void {
    const header = i * HEADER;
    const isTrain = this.#count > 1;
    // Zero says that it is one datagram, whatever the option of the socket says.
    const hasControl = isTrain || socketSegmentBytes > 0;
    const control = CONTROLS + i * CONTROL;
    if (hasControl) tables.setUint16(control + cmsghdr.size, isTrain ? this.#segment : 0, true);
    msghdr.msg_name.set(tables, header, nameBytes > 0 ? base + NAME : 0);
    msghdr.msg_namelen.set(tables, header, nameBytes);
    msghdr.msg_iov.set(tables, header, base + VECTORS + vector * iovec.size);
    msghdr.msg_iovlen.set(tables, header, vectorCount);
    msghdr.msg_control.set(tables, header, hasControl ? base + control : 0);
    msghdr.msg_controllen.set(tables, header, hasControl ? CONTROL : 0);
    lengths[i] = this.#bytes;
    counts[i] = this.#count;
    segments[i] = this.#segment;
  }

  /** Counts what the kernel has taken. */
  #advance(headers: number, fd: number, offload: SegmentationOffload): void {
    for (let i = 0; i < headers; i++) {
      this.#sent += lengths[i] as number;
      const count = counts[i] as number;
      if (count > 1) offload.count(count);
    }
    this.#position = ends[headers - 1] as number;
    if (this.#refusal === 0) return;
    const nameBytes = this.#name?.length ?? 0;
    offload.refuse(fd, tableWords, NAME / 4, nameBytes, this.#refusedBytes, this.#refusal);
    this.#refusal = 0;
    offload.fallbacks++;
  }
}

/** Writes the header of one datagram, or train, that says the same as one of a batch. */
function copyHeader(i: number, view: DataView, header: number): void {
  const to = i * HEADER;
  msghdr.msg_name.set(tables, to, msghdr.msg_name.get(view, header));
  msghdr.msg_namelen.set(tables, to, msghdr.msg_namelen.get(view, header));
  msghdr.msg_iov.set(tables, to, base + VECTORS + i * iovec.size);
  msghdr.msg_iovlen.set(tables, to, 1);
  msghdr.msg_control.set(tables, to, msghdr.msg_control.get(view, header));
  msghdr.msg_controllen.set(tables, to, msghdr.msg_controllen.get(view, header));
}

function setVector(i: number, address: number, length: number): void {
  const vector = VECTORS + i * iovec.size;
  iovec.iov_base.set(tables, vector, address);
  iovec.iov_len.set(tables, vector, length);
}

// A call that does not outlive its turn needs none of its own, unless what it reads calls again.
const immediate = new SegmentSend();

function borrow(): SegmentSend {
  return immediate.isBusy ? new SegmentSend() : immediate;
}

/** `trySendSegments`: bytes sent, or undefined when there was no room for any. */
export function trySendSegments(
  descriptor: Descriptor,
  offload: SegmentationOffload,
  payload: SegmentPayload,
  options: SegmentOptions,
): number | undefined {
  const send = borrow();
  try {
    const sent = send
      .begin(descriptor, offload, payload, options, Number.POSITIVE_INFINITY)
      .attempt();
    return sent ?? (send.transferred() || undefined);
  } finally {
    send.settled();
  }
}

/** `sendSegmentsSync`: bytes sent. */
export function sendSegmentsSync(
  descriptor: Descriptor,
  offload: SegmentationOffload,
  payload: SegmentPayload,
  options: SegmentWaitOptions,
): number {
  const deadline = deadlineAfter(requireOptions(options).timeoutMs);
  const send = borrow();
  try {
    // Between steps the time is looked at: a peer that is quick always has room.
    const stepBytes = deadline === Number.POSITIVE_INFINITY ? deadline : STEP_BYTES;
    send.begin(descriptor, offload, payload, options, stepBytes);
    return runSync(descriptor, EPOLLOUT, deadline, send);
  } finally {
    send.settled();
  }
}

/** `sendSegments`: bytes sent. */
export function sendSegments(
  descriptor: Descriptor,
  offload: SegmentationOffload,
  payload: SegmentPayload,
  options: SegmentAsyncOptions,
): Promise<number> {
  return start(descriptor, EPOLLOUT, options, () =>
    new SegmentSend().begin(descriptor, offload, payload, options, STEP_BYTES),
  );
}

let known = -1;

/**
 * The most segments of one train that this kernel takes, by powers of two. It is asked, with trains
 * from a socket to itself.
 */
export function maxSegments(): number {
  if (known >= 0) return known;
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return MINIMUM;
  let most = MINIMUM;
  if (getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, option, nameLength) < 0) {
    known = most = 0;
  } else if (reachItself(fd)) {
    const payload = new Uint8Array(new ArrayBuffer(PROBE_BYTES * VECTORS_MAX));
    for (let count = MINIMUM * 2; count <= VECTORS_MAX; count *= 2) {
      const result = tryTrain(fd, payload, count);
      if (result === PROBE_BYTES * count) most = count;
      // Anything else tells nothing of trains: the loopback interface may be down.
      else if (result === -EINVAL) known = most;
      if (most !== count) break;
    }
    if (most === VECTORS_MAX) known = most;
  }
  close(fd);
  return most;
}

// Its peer is itself, and a train comes whole: datagrams without room would count as lost.
function reachItself(fd: number): boolean {
  option[0] = 1;
  setsockopt(fd, IPPROTO_UDP, UDP_GRO, option);
  const address = new Uint8Array(new ArrayBuffer(sockaddr_in.size));
  const view = new DataView(address.buffer);
  sockaddr_in.sin_family.set(view, 0, AF_INET);
  sockaddr_in.sin_addr.set(view, 0, INADDR_LOOPBACK);
  if (bind(fd, address) < 0 || getsockname(fd, address, nameLength) < 0) return false;
  return connect(fd, address) === 0;
}

function tryTrain(fd: number, payload: Uint8Array, count: number): number {
  setVector(0, addressOf(payload), PROBE_BYTES * count);
  tables.setUint16(CONTROLS + cmsghdr.size, PROBE_BYTES, true);
  msghdr.msg_name.set(tables, 0, 0);
  msghdr.msg_namelen.set(tables, 0, 0);
  msghdr.msg_iov.set(tables, 0, base + VECTORS);
  msghdr.msg_iovlen.set(tables, 0, 1);
  msghdr.msg_control.set(tables, 0, base + CONTROLS);
  msghdr.msg_controllen.set(tables, 0, CONTROL);
  const result = sendmsg(fd, tables, MSG_DONTWAIT | MSG_NOSIGNAL);
  // It holds the payload until here.
  return payload.length > 0 ? result : 0;
}
