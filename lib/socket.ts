import {
  EAGAIN,
  EALREADY,
  EBADF,
  ECONNABORTED,
  ECONNREFUSED,
  EHOSTDOWN,
  EHOSTUNREACH,
  EINPROGRESS,
  EINTR,
  EISCONN,
  ENETDOWN,
  ENETUNREACH,
  ENONET,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  EPROTO,
} from "../structs/constants/errno.ts";
import { F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, FD_CLOEXEC } from "../structs/constants/fcntl.ts";
import { SIOCINQ, SIOCOUTQ } from "../structs/constants/linux_sockios.ts";
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
} from "../structs/constants/netinet_in.ts";
import { UDP_GRO, UDP_SEGMENT } from "../structs/constants/netinet_udp.ts";
import { POLLIN, POLLOUT } from "../structs/constants/poll.ts";
import { EPOLLIN, EPOLLOUT } from "../structs/constants/sys_epoll.ts";
import {
  AF_INET,
  AF_INET6,
  AF_PACKET,
  AF_UNIX,
  AF_UNSPEC,
  MSG_CMSG_CLOEXEC,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SO_DOMAIN,
  SO_ERROR,
  SO_PEEK_OFF,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_SNDBUF,
  SO_TIMESTAMP,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "../structs/constants/sys_socket.ts";
import { sockaddr } from "../structs/sockaddr.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import { type Address, addressBytes, addressFromBytes, toAddress } from "./address.ts";
import type {
  Batches,
  BatchesOptions,
  BatchHandler,
  BatchSubscription,
  OnBatchOptions,
} from "./batches.ts";
import {
  claim,
  type DatagramBatch,
  type DatagramBatchOptions,
  foundNoRoom,
  hasTrains,
  isBatch,
  prepareSend,
  receiveInto,
  release,
  requireIdle,
  requireTrainRoom,
  sendFrom,
  speaks,
  tooFewForSegments,
  tooShortForTrains,
  waitsFrom,
} from "./datagram_batch.ts";
import {
  type CancelSignal,
  ClosedError,
  check,
  SystemError,
  type SystemErrorDetails,
  systemError,
  tooLongHint,
  withDetails,
} from "./error.ts";
import type {
  ErrorQueueState,
  ErrorsOptions,
  QueuedError,
  QueuedErrors,
  TransmitTimestamp,
} from "./error_queue.ts";
import { byteLengthOf, bytesOf } from "./ffi/memory.ts";
import type { FilterProgram } from "./filter_program.ts";
import {
  describe,
  optionsOf,
  refuseMisspelt,
  requireBoolean,
  requireFlags,
  requireInteger,
  requireOptions,
  requireSignal,
  requireView,
  toView,
} from "./internal/arguments.ts";
import type { BatchSource } from "./internal/batch_source.ts";
import {
  deadlineAfter,
  deadlineOf,
  mayBeReady,
  PATIENCE_TRIES,
  Patience,
  pauseUntil,
  waitUntil,
} from "./internal/deadline.ts";
import { Descriptor, loadModule, openError } from "./internal/descriptor.ts";
import type { KernelErrors } from "./internal/kernel_errors.ts";
import { loadErrorQueue, loadErrors, loadZeroCopy } from "./internal/lazy_errors.ts";
import { loadOffload } from "./internal/lazy_offload.ts";
import { loadOptions } from "./internal/lazy_options.ts";
import { loadPoller } from "./internal/lazy_poller.ts";
import type { SegmentationOffload } from "./internal/offload.ts";
import {
  acceptedParts,
  adoptParts,
  copyOptions,
  familyOf,
  openPair,
  openParts,
  orClose,
  type Parts,
  readInt,
  toDomain,
  toSocketType,
  typeOf,
} from "./internal/parts.ts";
import { SenderTable } from "./internal/sender_table.ts";
import type { Call } from "./internal/wait_line.ts";
import type { ZeroCopySender } from "./internal/zero_copy.ts";
import {
  isMessage,
  type Message,
  type Records,
  receiveMessageInto,
  sendMessageFrom,
} from "./message.ts";
import type { Option } from "./option.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import { fcntl } from "./sys/fcntl.ts";
import { ioctl } from "./sys/ioctl.ts";
import {
  accept4,
  bind,
  connect,
  getpeername,
  getsockname,
  getsockopt,
  listen,
  recv,
  recvfrom,
  send,
  sendto,
  shutdown,
} from "./sys/socket.ts";
import { UnixAddress } from "./unix_address.ts";

/** An address family: one of the common ones by name, or any by its `AF_` constant. */
export type SocketFamily = "ipv4" | "ipv6" | "unix" | number;

/** A socket type: one of the common ones by name, or any by its `SOCK_` constant. */
export type SocketType = "stream" | "datagram" | "seqpacket" | "raw" | "rdm" | number;

/** What a socket can be told when it is made: set between socket(2) and bind(2). */
export interface SocketOptions {
  /**
   * `SO_RCVBUF`: bytes of receive buffer. The kernel charges each datagram at least 832 bytes of
   * it, whatever its length. Clamped to the sysctl net.core.rmem_max without CAP_NET_ADMIN;
   * `receiveBuffer` tells.
   */
  readonly receiveBufferBytes?: number | undefined;
  /**
   * `SO_SNDBUF`: bytes of send buffer. Clamped to net.core.wmem_max without CAP_NET_ADMIN;
   * `sendBuffer` tells.
   */
  readonly sendBufferBytes?: number | undefined;
  /**
   * `SO_REUSEADDR`. Default false: with UDP it lets a second socket take the first one's datagrams
   * in silence.
   */
  readonly reuseAddress?: boolean | undefined;
  /**
   * `SO_REUSEPORT`: several sockets share the port and the kernel spreads the senders over them.
   * Default false.
   */
  readonly reusePort?: boolean | undefined;
  /**
   * `IPV6_V6ONLY`: an IPv6 socket without IPv4. Default false, whatever the sysctl says. Refused
   * for other families.
   */
  readonly ipv6Only?: boolean | undefined;
  /** `SO_BROADCAST`: broadcast addresses may be sent to. Default false. */
  readonly broadcast?: boolean | undefined;
  /**
   * Called with the new socket before bind(2) and connect(2): the place for every other option. What
   * it throws is thrown, and the socket is closed.
   */
  readonly configure?: ((socket: Socket) => void) | undefined;
}

/** What `Socket.create` can be told. */
export interface CreateOptions extends SocketOptions {
  /** An `IPPROTO_` constant, or another number that the family knows. Default 0: the usual one. */
  readonly protocol?: number | undefined;
}

/** What `Socket.pair` can be told. */
export interface PairOptions {
  /** Default "unix", which is the only one on most kernels. */
  readonly family?: SocketFamily | undefined;
  /** Default "stream". */
  readonly type?: SocketType | undefined;
  /** Default 0: the usual one. */
  readonly protocol?: number | undefined;
}

/** What `adopt` can be told. */
export interface AdoptOptions {
  /**
   * Whether the socket takes the descriptor itself, and closes it in the end. Default false: it
   * duplicates the descriptor, and the caller keeps his.
   */
  readonly own?: boolean | undefined;
}

/** Flags of one call: a union of `MSG_` constants, from "bun-sockets/sys". */
export interface FlagOptions {
  readonly flags?: number | undefined;
}

/** How long a call may take. */
export interface TimeoutOptions {
  /** Milliseconds for the whole call. Undefined and Infinity are no limit; 0 is one try. */
  readonly timeoutMs?: number | undefined;
}

/** How long a blocking transfer may take, and its flags. */
export interface WaitOptions extends FlagOptions, TimeoutOptions {}

/** How long a promise form may wait, and what cancels it. */
export interface CancelOptions extends TimeoutOptions {
  /** Aborting it rejects the call with the signal's reason; nothing of the call is left behind. */
  readonly signal?: CancelSignal | undefined;
}

/** How long a transfer in promise form may wait, what cancels it, and its flags. */
export interface AsyncOptions extends FlagOptions, CancelOptions {}

/** One datagram, or a piece of a stream, as `receiveFrom` tells of it. */
export interface ReceivedFrom<Sender = Address | undefined> {
  /** Bytes written to the target. */
  readonly length: number;
  /**
   * Who sent it. One object for each sender, as long as the socket remembers it. Undefined where the
   * kernel does not say, as on streams; a Unix sender without a name is `UnixAddress.unnamed`.
   */
  readonly address: Sender;
  /** `MSG_TRUNC` where the datagram was longer than the target, else 0. */
  readonly flags: number;
  /** How long the datagram was. */
  readonly originalLength: number;
}

/** The size of one of a socket's buffers, in the unit of the creation option. */
export interface BufferSize {
  /** What was asked for when the socket was made, or undefined. */
  readonly requestedBytes: number | undefined;
  /**
   * What there is: half of what the kernel reports, which doubles every request for its own
   * bookkeeping.
   */
  readonly effectiveBytes: number;
  /** Whether the kernel gave less than was asked for. */
  readonly clamped: boolean;
}

/** A receive that fills a whole target, step by step. */
interface Progress {
  readonly target: ArrayBufferView;
  readonly flags: number;
  filled: number;
}

/** What is known of an open socket, by all of ours that share it. */
interface Link<A> {
  /** Whether the socket has a peer. */
  connected: boolean;
  /** The address right after bind(2): what disconnect gives back. */
  bound?: A | undefined;
  /** The sockaddr of the peer, where it is certain to keep it. */
  peer?: Uint8Array | undefined;
  /** The same, once nothing in the queue can be older than the peer. */
  onlySender?: Uint8Array | undefined;
  /** Whether others can reach the open socket, and connect it anew without our knowing. */
  shared: boolean;
  /** What is known of segmentation offload, once something asks. */
  offload?: SegmentationOffload | undefined;
  /** Whether what is received may be trains of datagrams (UDP_GRO). */
  coalesces: boolean;
  /** The errors that were queued, once somebody has asked for them. */
  errors?: KernelErrors | undefined;
}

// Set by the class below, for the classes that extend it. The package does not export it.

/** What is known of segmentation offload on an open socket. */
export let offloadOf: (socket: Socket) => SegmentationOffload;
/** What a socket's sends without a copy need of it. */
export let zeroCopySenderOf: (socket: Socket) => ZeroCopySender;
/** Says that a send found no room: the handler of batches wants to know. */
export let foundFull: (socket: Socket) => undefined;
/** Duplicates the descriptor of a socket, for another of its class. */
export let duplicateParts: (socket: Socket) => Parts;
/** The descriptor of a socket; undefined for what is none. */
export let descriptorOf: (socket: unknown) => Descriptor | undefined;
/** Takes a connection, for a class of its own; undefined when none is waiting. */
export let acceptParts: (socket: Socket, flags: number | undefined) => Parts | undefined;

const DIRECTIONS: Readonly<Record<string, number>> = {
  read: SHUT_RD,
  write: SHUT_WR,
  both: SHUT_RDWR,
};

// What has a meaning for a kind of socket. MSG_DONTWAIT and MSG_NOSIGNAL are always set;
// MSG_ZEROCOPY would let the kernel read the caller's memory after the call.
const DATAGRAM_RECEIVE = MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT;
const DATAGRAM_SEND = MSG_CONFIRM | MSG_DONTROUTE | MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL;
const STREAM_RECEIVE = DATAGRAM_RECEIVE | MSG_OOB | MSG_WAITALL;
const STREAM_SEND = DATAGRAM_SEND | MSG_OOB | MSG_EOR;

// Protocols that have an error queue; 0 is TCP or UDP.
const WITH_ERRORS: readonly number[] = [
  0,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPPROTO_UDPLITE,
];

const ACCEPT = SOCK_NONBLOCK | SOCK_CLOEXEC;
// What accept4(2) says of a connection that is none any more, as its manual page lists it; and how
// many are passed over in one call, for a filter of system calls may say so each time.
const BROKEN_OFF: readonly number[] = [
  ECONNABORTED,
  EHOSTDOWN,
  EHOSTUNREACH,
  ENETDOWN,
  ENETUNREACH,
  ENONET,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPROTO,
];
const BROKEN_OFF_MAX = 1024;

// Chapel's backlogDefault, min(SOMAXCONN, 128).
const BACKLOG = 128;
/** Slots for trains: one byte more than the longest, so that they begin at a page. */
const TRAIN_SLOT_BYTES = 65_536;
/** CMSG_SPACE(sizeof(int)): the control message that tells the size of the segments. */
const SEGMENT_CONTROL = 24;
const NO_TRAINS =
  "Cannot receive but into a batch or a message while UdpOption.gro is on: nothing else tells the datagrams of a train apart";
const PEERS_MAX = 4096;
const INT_MAX = 2 ** 31 - 1;
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

// Scratch, filled by one call and read before the next. In explicit ArrayBuffers, because a small
// typed array moves when its buffer is first asked for.
const name = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
const nameWords = new Int32Array(name.buffer);
const nameLength = new Uint32Array(new ArrayBuffer(4));
const option = new Int32Array(new ArrayBuffer(4));

/**
 * A socket of any family and type. The other socket classes are this one, and add what makes sense
 * for one family. The descriptor is close-on-exec and non-blocking.
 *
 * Every call that can wait has three forms. The plain one returns a promise and waits on Bun's event
 * loop, beside everything else, with `signal` and `timeoutMs`. `try…` answers at once (`undefined`, or
 * 0 datagrams, when it would block). `…Sync` blocks the thread, timers and all, until it is done or
 * `timeoutMs` has passed. Nothing is retried except after a signal, and where the error is not the
 * call's own: in a batch after a refusal, which tells of an earlier datagram, and with `queueErrors`.
 *
 * Promise forms that wait for the same direction are served in order. Buffers, messages and batches
 * given to one are the call's until it is answered. All promise forms, iterators and handlers of a
 * thread share one time budget for each turn of the loop (see `poller`). `close` rejects what waits
 * with a ClosedError, `detach` with `ECANCELED`.
 *
 * A promise form is tried at once, before it returns, unless another one waits for that direction or
 * the turn has no time left: then later. So of a send that was not awaited before `close` nobody
 * knows whether it was made. Await it first, or use `try…` or `…Sync`.
 *
 * Lifetime: until `close`, `detach` or the end of a `using` block. A socket that is dropped open is
 * closed some time after the engine has collected it; those of a Worker, however that ends, with its
 * thread. With `BUN_SOCKETS_LEAKS=1` in the environment a warning says of a dropped one where it was
 * made. `openSockets` lists what is open.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7)}
 *
 * @example Any family, any type
 * ```ts
 * import { Socket } from "bun-sockets";
 *
 * using listener = Socket.create("ipv4", "stream");
 * listener.bind("127.0.0.1:0");
 * listener.listen();
 * using client = Socket.create("ipv4", "stream");
 * client.connectSync(listener.localAddress, { timeoutMs: 1000 });
 * using served = listener.acceptSync({ timeoutMs: 1000 });
 * client.sendSync("hello");
 * console.log(`${Buffer.from(served.receiveBytesSync(100))}`); // hello
 * ```
 */
export class Socket<A extends Address = Address, Sender = A | undefined> {
  /** The address family, by name where it has one of ours: "ipv4", "ipv6", "unix". */
  readonly family: SocketFamily;
  /** The type, by name where it has one of ours: "stream", "datagram", "seqpacket", … */
  readonly type: SocketType;
  readonly #descriptor: Descriptor;
  #domain: number;
  readonly #type: number;
  /** What was asked for, or read of an adopted one: 0 is the usual one of the type. */
  readonly #protocol: number;
  readonly #isUdp: boolean;
  readonly #receiveFlags: number;
  readonly #sendFlags: number;
  /** Whether what does not fit is lost. */
  readonly #truncates: boolean;
  readonly #keepsRecords: boolean;
  readonly #requested: SocketOptions;
  /** What we know of the open socket: shared with the duplicates that we have made of it. */
  readonly #link: Link<A>;
  #connecting = false;
  #somePatience: Patience | undefined;
  /** Whether the caller wants to see the timestamps of records. */
  #showsStamps: boolean;
  #plainRecords: Records | undefined;
  #senders: SenderTable | undefined;
  /** What is called when a send finds no room: the handler of batches wants to know. */
  #onFull: (() => undefined) | undefined;
  #subscription: BatchSubscription | undefined;
  /** The loops of batches that have begun and not ended. */
  #loops = 0;

  /**
   * Creates a socket.
   *
   * @param family "ipv4", "ipv6", "unix", or an `AF_` constant
   * @param type "stream", "datagram", "seqpacket", "raw", "rdm", or a `SOCK_` constant
   * @throws {SystemError} `EAFNOSUPPORT` the kernel does not know the family; `ESOCKTNOSUPPORT`,
   * `EPROTONOSUPPORT` the family does not know the type or protocol; `EPERM`, `EACCES` it takes a
   * right; `EMFILE` too many open descriptors
   * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}
   */
  static create(family: SocketFamily, type: SocketType, options: CreateOptions = {}): Socket {
    const domain = toDomain(family);
    const socketType = toSocketType(type);
    const { protocol = 0 } = requireOptions(options);
    requireInteger(protocol, 0, INT_MAX, "a protocol");
    const copy = copyOptions(options, domain);
    const created = new Socket(openParts(domain, socketType, protocol, copy));
    return orClose(created, () => copy.configure?.(created));
  }

  /**
   * Creates two sockets that are connected with each other and have no names.
   *
   * @throws {SystemError} `ENOTSUP` the family has no pairs; else as `create`
   * @see {@link https://man7.org/linux/man-pages/man2/socketpair.2.html | socketpair(2)}
   */
  static pair(options: PairOptions = {}): [Socket, Socket] {
    const [left, right] = openPair(options);
    return [new Socket(left), new Socket(right)];
  }

  /**
   * Makes a socket of an open descriptor: inherited, received, or from another library. Reads its
   * family, type and protocol, and makes it close-on-exec and non-blocking; the latter is seen by
   * everybody who shares the open socket, and so is `SO_TIMESTAMP`, which a Unix seqpacket socket
   * gets so that the end can be told from an empty record.
   *
   * @param descriptor the number, or a ReceivedDescriptor, which with `own` holds none any more
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   * @throws {TypeError} with `own`: another socket of this thread owns the descriptor
   */
  static adopt(descriptor: number | ReceivedDescriptor, options: AdoptOptions = {}): Socket {
    return new Socket(adoptParts(descriptor, options));
  }

  /** Not for callers: `create`, `pair` and `adopt` make sockets. */
  protected constructor(parts: Parts) {
    if (!(parts?.descriptor instanceof Descriptor))
      throw new TypeError("Cannot construct a socket: expected a call of create, pair or adopt");
    const { descriptor, domain, type, protocol, requested = {} } = parts;
    this.family = familyOf(domain);
    this.type = typeOf(type);
    this.#descriptor = descriptor;
    this.#domain = domain;
    this.#type = type;
    this.#protocol = protocol;
    this.#requested = requested;
    this.#isUdp =
      isInet(domain) && type === SOCK_DGRAM && (protocol === 0 || protocol === IPPROTO_UDP);
    const isStream = type === SOCK_STREAM;
    this.#receiveFlags = isStream ? STREAM_RECEIVE : DATAGRAM_RECEIVE;
    this.#sendFlags =
      type === SOCK_SEQPACKET ? DATAGRAM_SEND | MSG_EOR : isStream ? STREAM_SEND : DATAGRAM_SEND;
    this.#truncates = !isStream;
    this.#keepsRecords = type === SOCK_SEQPACKET;
    const original = parts.original as Socket<A, Sender> | undefined;
    this.#link = original
      ? original.#link
      : {
          connected: parts.connected ?? false,
          bound: parts.bound as A | undefined,
          shared: parts.shared ?? false,
          coalesces: false,
        };
    if (parts.adopted && this.#isUdp) this.#learnOfTrains(false);
    this.#showsStamps = original ? original.#showsStamps : false;
    descriptor.share(this.#link);
    descriptor.belongTo(new.target, parts.adopted ?? false);
  }

  /** The protocol, an `IPPROTO_` constant for IP sockets: what the kernel chose where it was 0. */
  get protocol(): number {
    return readInt(this.#descriptor.fd, SO_PROTOCOL);
  }

  /**
   * Gives the socket an address of its own. Binding a Unix socket to `UnixAddress.unnamed` lets the
   * kernel choose an abstract name.
   *
   * @throws {SystemError} `EADDRINUSE` it is taken; `EADDRNOTAVAIL` not an address of ours; `EACCES`
   * it takes a right; `EINVAL` the socket has an address already
   * @throws {TypeError} it is no address of this family
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html | bind(2)}
   */
  bind(address: A | string): void {
    const local = toAddress(address, this.#domain);
    const result = bind(this.#descriptor.fd, addressBytes(local));
    if (result < 0) throw this.#error(result, "bind", { address: local });
    this.#link.bound = this.localAddress;
  }

  /**
   * Gives the socket a peer, or answers at once. A datagram socket's `send` goes there, and only its
   * datagrams are received from now on; no packet is sent. Connecting a datagram socket again
   * changes the peer, and forgets what an earlier one refused. Datagrams that were queued before
   * stay, whoever sent them; but a Unix socket that leaves a peer empties its queue, and the peer
   * learns of it (`ECONNRESET`).
   *
   * @returns true when connected; undefined when the connection is still being made, or the queue of
   * a Unix listener is full: call again, or `connectSync`
   * @throws {RangeError} the port is 0
   * @throws {SystemError} `ECONNREFUSED` nobody listens there; `ENETUNREACH` no route; `EACCES` a
   * broadcast address without the option, or no right to the path; `ENOENT` no such path;
   * `EISCONN` a stream is connected already; `EPROTOTYPE` the path is of another type of socket
   * @throws {TypeError} it is no address of this family
   * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html | connect(2)}
   */
  tryConnect(address: A | string): true | undefined {
    const peer = toAddress(address, this.#domain);
    if ("port" in peer && peer.port === 0 && this.#type !== SOCK_RAW)
      throw new RangeError(`Cannot connect to ${peer}: expected a port above 0`);
    const result = connect(this.#descriptor.fd, addressBytes(peer));
    if (result === -EINPROGRESS || result === -EALREADY || result === -EINTR) {
      this.#connecting = true;
      return undefined;
    }
    if (result === -EAGAIN && this.#domain === AF_UNIX) return undefined;
    const finished = this.#connecting && result === -EISCONN;
    this.#connecting = false;
    if (result < 0 && !finished)
      throw this.#error(result, "connect", { address: peer, sending: true });
    this.#rememberPeer();
    this.#retry();
    return true;
  }

  // Only a UDP socket's peer keeps its address for as long as it is the peer.
  #rememberPeer(): void {
    this.#link.connected = true;
    this.#link.onlySender = this.#link.peer = undefined;
    this.#link.offload?.forgetPeer();
    if (!this.#isUdp) return;
    this.#forgetError();
    if (this.#link.shared) return;
    check(getpeername(this.#descriptor.fd, name, nameLength), "getpeername");
    this.#link.peer = name.slice(0, nameLength[0]);
    if (!mayBeReady(this.#descriptor.fd, POLLIN)) this.#link.onlySender = this.#link.peer;
  }

  // What an earlier peer refused would fail the next call, which has nothing to do with it.
  #forgetError(): void {
    check(getsockopt(this.#descriptor.fd, SOL_SOCKET, SO_ERROR, option, nameLength), "getsockopt");
  }

  /**
   * Gives the socket a peer, waiting for a stream's connection to be made. A datagram socket's
   * connection needs no waiting.
   *
   * @throws {TimeoutError} it was not made in time; it still may be: close the socket, or call again
   * @throws {SystemError} as tryConnect; `ETIMEDOUT` the kernel gave up
   */
  connectSync(address: A | string, options?: TimeoutOptions): void {
    const peer = toAddress(address, this.#domain) as A;
    const deadline = deadlineOf(options);
    for (let tries = 0; this.tryConnect(peer) === undefined; tries++) {
      try {
        // poll(2) does not tell when a Unix listener has room.
        if (this.#domain === AF_UNIX) pauseUntil(deadline, tries, "connect");
        else waitUntil(this.#descriptor.fd, POLLOUT, deadline, "connect", undefined, tries);
      } catch (error) {
        throw withDetails(error, { address: peer, sending: true });
      }
    }
  }

  /**
   * Gives the socket a peer; the promise form of `connectSync`.
   *
   * @throws {TimeoutError} it was not made in time; it still may be: close the socket, or call again.
   * The same holds when `signal` cancels the call
   * @throws {SystemError} as tryConnect; `ETIMEDOUT` the kernel gave up
   */
  async connect(address: A | string, options?: CancelOptions): Promise<void> {
    const peer = toAddress(address, this.#domain) as A;
    // poll(2) does not tell when a Unix listener has room.
    const pauses = this.#domain === AF_UNIX;
    // What a receive would fetch first is the answer to this call.
    const isFirst = this.#type !== SOCK_DGRAM;
    const attempt = () => this.tryConnect(peer);
    const late = () => ({ address: peer, sending: true });
    await this.#wait(EPOLLOUT, "connect", options, () => ({ attempt, pauses, isFirst, late }));
  }

  /**
   * Takes the peer of a datagram socket away: the socket receives from everybody again. The address
   * and port of `bind` stay; those that `connect` chose are given back. Does nothing on a socket
   * without a peer.
   *
   * An IPv6 socket hears every port of its former peer's host, but no other host: Linux does not
   * forget that part. Open another socket to receive from everybody.
   *
   * @throws {SystemError} `EADDRINUSE` the kernel had chosen the port for `bind`, gave it back, and
   * another process took it within these microseconds
   * @throws {TypeError} it is a stream: close it instead
   */
  disconnect(): void {
    this.#requireOpen("connect");
    if (this.#type === SOCK_STREAM || this.#type === SOCK_SEQPACKET)
      throw new TypeError(`Cannot disconnect a ${this.type} socket: close it`);
    if (!this.#link.connected) return;
    const unspecified = new Uint8Array(sockaddr.size);
    sockaddr.sa_family.set(new DataView(unspecified.buffer), 0, AF_UNSPEC);
    check(connect(this.#descriptor.fd, unspecified), "connect");
    this.#retry();
    this.#link.connected = false;
    this.#link.onlySender = this.#link.peer = undefined;
    this.#link.offload?.forgetPeer();
    this.#forgetError();
    // Linux gives back every port that was not asked for by its number.
    const local = this.#link.bound;
    if (!local || !isInet(this.#domain)) return;
    const now: Address = this.localAddress;
    if (!("port" in now) || now.port !== 0) return;
    check(bind(this.#descriptor.fd, addressBytes(local)), "bind", { address: local });
  }

  /** Whether the socket has a peer. False when closed. */
  get connected(): boolean {
    return this.#descriptor.fd >= 0 && this.#link.connected;
  }

  /**
   * Makes a bound stream or seqpacket socket take connections, which `accept` hands out.
   *
   * @param backlog connections that may wait to be accepted, 0 to 2^31 - 1; default 128. The kernel
   * clamps it to the sysctl net.core.somaxconn in silence. When they are so many, TCP clients wait,
   * and Unix clients are told `EAGAIN`.
   * @throws {SystemError} `ENOTSUP` the type has no connections; `EINVAL` a Unix socket is not
   * bound, or it is connected; `EADDRINUSE` another socket listens there
   * @see {@link https://man7.org/linux/man-pages/man2/listen.2.html | listen(2)}
   */
  listen(backlog = BACKLOG): void {
    requireInteger(backlog, 0, INT_MAX, "a backlog");
    check(listen(this.#descriptor.fd, backlog), "listen");
    this.#retry();
  }

  /**
   * Takes a connection, or answers at once. A connection that was broken off while it waited is
   * passed over.
   *
   * @param options flags: `SOCK_CLOEXEC`, `SOCK_NONBLOCK`, both of which are set anyway
   * @returns a connected socket, close-on-exec and non-blocking; undefined when none is waiting
   * @throws {SystemError} `EINVAL` the socket does not listen; `ENOTSUP` its type has no
   * connections; `EMFILE` too many open descriptors
   * @see {@link https://man7.org/linux/man-pages/man2/accept4.2.html | accept4(2)}
   */
  tryAccept(options?: FlagOptions): Socket<A, Sender> | undefined {
    const parts = this.#accept(options?.flags);
    return parts && new Socket<A, Sender>(parts);
  }

  #accept(flags: number | undefined): Parts | undefined {
    requireFlags(flags, ACCEPT);
    for (let passed = 0; ; ) {
      const result = accept4(this.#descriptor.fd, name, nameLength, ACCEPT);
      if (result >= 0) {
        const peer = name.slice(0, nameLength[0]);
        return acceptedParts(result, this.#domain, this.#type, peer);
      }
      if (result === -EAGAIN) return undefined;
      if (result === -EINTR) continue;
      // accept(2): "Linux passes already-pending network errors on the new socket as an error code
      // […] For reliable operation the application should […] treat them like EAGAIN by retrying."
      const passes = this.#hasConnections() && BROKEN_OFF.includes(-result);
      if (!passes || ++passed > BROKEN_OFF_MAX) throw openError(result, "accept4");
    }
  }

  // Of others EOPNOTSUPP says just that.
  #hasConnections(): boolean {
    return this.#type === SOCK_STREAM || this.#type === SOCK_SEQPACKET;
  }

  /**
   * Takes a connection, waiting for one.
   *
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryAccept
   */
  acceptSync(options?: WaitOptions): Socket<A, Sender> {
    const wait = copyWait(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    for (let tries = 0; ; tries++) {
      const accepted = this.tryAccept(wait);
      if (accepted !== undefined) return accepted;
      try {
        waitUntil(this.#descriptor.fd, POLLIN, deadline, "accept4", undefined, tries);
      } catch (error) {
        throw withDetails(error, this.#here());
      }
    }
  }

  /**
   * Takes a connection; the promise form of `acceptSync`.
   *
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryAccept
   */
  accept(options?: AsyncOptions): Promise<Socket<A, Sender>> {
    return this.#wait(EPOLLIN, "accept4", options, (limits) => {
      requireFlags(limits.flags, ACCEPT);
      return { attempt: () => this.tryAccept(limits), late: () => this.#here() };
    });
  }

  // What the error of a wait tells of the socket itself. Its own error matters more than this one.
  #here(): SystemErrorDetails {
    const result = getsockname(this.#descriptor.fd, name, nameLength);
    return result < 0 ? {} : { address: addressFromBytes(name.subarray(0, nameLength[0])) };
  }

  /**
   * The address the socket has. An IP socket has port 0 until it is bound, connected, or has sent; a
   * Unix socket is unnamed until it is bound.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/getsockname.2.html | getsockname(2)}
   */
  get localAddress(): A {
    check(getsockname(this.#descriptor.fd, name, nameLength), "getsockname");
    return addressFromBytes(name.subarray(0, nameLength[0])) as A;
  }

  /**
   * The peer, or undefined without one.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/getpeername.2.html | getpeername(2)}
   */
  get remoteAddress(): A | undefined {
    const result = getpeername(this.#descriptor.fd, name, nameLength);
    if (result === -ENOTCONN) return undefined;
    check(result, "getpeername");
    return addressFromBytes(name.subarray(0, nameLength[0])) as A;
  }

  /** Whether the socket was closed, or given away by `detach`: every other call is refused then. */
  get closed(): boolean {
    return this.#descriptor.fd < 0;
  }

  /** The receive buffer: what was asked for, what there is, and whether that is less. */
  get receiveBuffer(): BufferSize {
    return this.#bufferSize(SO_RCVBUF, this.#requested.receiveBufferBytes);
  }

  /** The send buffer: what was asked for, what there is, and whether that is less. */
  get sendBuffer(): BufferSize {
    return this.#bufferSize(SO_SNDBUF, this.#requested.sendBufferBytes);
  }

  /**
   * Bytes that have come and were not received: of a stream all of them, of a datagram socket those of
   * the first datagram.
   *
   * @throws {SystemError} `EINVAL` a TCP socket listens; `EBADF` (ClosedError) the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/tcp.7.html | tcp(7), SIOCINQ}
   */
  get unreadBytes(): number {
    check(ioctl(this.#descriptor.fd, SIOCINQ, option), "ioctl");
    return option[0] as number;
  }

  /**
   * Bytes that are in the send buffer: for TCP those that the peer has not acknowledged, for a Unix
   * socket the memory (more than the bytes) of what its peer has not received.
   *
   * @throws {SystemError} `EINVAL` a TCP socket listens; `EBADF` (ClosedError) the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/tcp.7.html | tcp(7), SIOCOUTQ}
   */
  get unsentBytes(): number {
    check(ioctl(this.#descriptor.fd, SIOCOUTQ, option), "ioctl");
    return option[0] as number;
  }

  #bufferSize(optionName: number, requestedBytes: number | undefined): BufferSize {
    const effectiveBytes = readInt(this.#descriptor.fd, optionName) / 2;
    return {
      requestedBytes,
      effectiveBytes,
      clamped: requestedBytes !== undefined && effectiveBytes < requestedBytes,
    };
  }

  /**
   * The descriptor, for the C calls of "bun-sockets/sys"; -1 when closed. It stays the socket's
   * own. As others could give the socket another peer by it, a connected UDP socket asks each
   * datagram for its sender from then on, which costs a little.
   */
  get descriptor(): number {
    this.#share();
    return this.#descriptor.fd;
  }

  // From now on each datagram is asked for its sender: it costs 67 ns.
  #share(): void {
    this.#link.shared = true;
    this.#link.onlySender = this.#link.peer = undefined;
  }

  /**
   * Whether programs that C code starts from this one get the descriptor, under the same number:
   * false, unless it is set. `Bun.spawn` and `node:child_process` do not ask: they pass on what their
   * `stdio` names and nothing else, in its order from number 3 on, a descriptor once each.
   *
   * What is passed is the same open socket, which stays open here too: close it here when the child
   * is to have it alone. It is non-blocking, which not every program expects, and blocking again for
   * both when the child makes it so: here `tryAccept` would then wait.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/fcntl.2.html | fcntl(2)}
   *
   * @example A child has the socket as descriptor 3, and no other of ours
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using socket = UdpSocket.bind("127.0.0.1:0");
   * const child = Bun.spawn(["readlink", "/proc/self/fd/3"], {
   *   stdio: ["ignore", "pipe", "inherit", socket.descriptor],
   * });
   * console.log((await child.stdout.text()).startsWith("socket:")); // true
   * ```
   */
  get inheritable(): boolean {
    return (check(fcntl(this.#descriptor.fd, F_GETFD, 0), "fcntl") & FD_CLOEXEC) === 0;
  }

  set inheritable(inheritable: boolean) {
    requireBoolean(inheritable, "inheritable");
    this.#share();
    check(fcntl(this.#descriptor.fd, F_SETFD, inheritable ? 0 : FD_CLOEXEC), "fcntl");
  }

  /**
   * Reads an option.
   *
   * @param option one of the groups `SocketOption`, `IpOption`, `Ipv6Option`, `TcpOption`,
   * `UdpOption`
   * @throws {SystemError} `ENOPROTOOPT`, `ENOTSUP` this kind of socket does not have it
   * @throws {TypeError} it is no option that can be read
   * @see {@link https://man7.org/linux/man-pages/man2/getsockopt.2.html | getsockopt(2)}
   */
  getOption<Value>(option: Option<Value, "get">): Value {
    return loadOptions().getOptionOf(this.#descriptor.fd, option);
  }

  /**
   * Sets an option.
   *
   * @param option as for `getOption`
   * @throws {SystemError} `ENOPROTOOPT`, `ENOTSUP` this kind of socket does not have it; `EPERM`
   * it takes a right; `EINVAL` not now, or not this value
   * @throws {TypeError} it is no option that can be set, or the value is of another type
   * @throws {RangeError} the value is out of range
   */
  setOption<Value>(option: Option<Value, "set">, value: NoInfer<Value>): void {
    const { setOptionOf, SocketOption, UdpOption } = loadOptions();
    setOptionOf(this.#descriptor, option, value);
    this.#afterOption(option === SocketOption.timestamp);
    if (option === UdpOption.gro || option === UdpOption.segmentBytes)
      this.#learnOfTrains(value === true);
  }

  /**
   * Reads any option by its numbers: a 32-bit integer, or with a length the bytes that the kernel
   * gives.
   *
   * @param level `SOL_SOCKET`, or an `IPPROTO_` constant, from "bun-sockets/sys"
   * @param optionName an `SO_`, `IP_`, `TCP_` … constant
   * @param byteLength room for the value, 0 to 65536 bytes; the result is as long as the kernel says
   * @throws {TypeError} the value would carry an address that the kernel follows; or the level is
   * not known to be harmless: "bun-sockets/sys" has the C call
   * @throws {SystemError} as getOption
   */
  getRawOption(level: number, optionName: number): number;
  getRawOption(level: number, optionName: number, byteLength: number): Uint8Array;
  getRawOption(level: number, optionName: number, byteLength?: number): number | Uint8Array {
    return loadOptions().getRawOptionOf(this.#descriptor.fd, level, optionName, byteLength);
  }

  /**
   * Sets any option by its numbers.
   *
   * @param value a 32-bit integer, the bytes of a struct, or null, which is passed as NULL with
   * `byteLength`
   * @throws {TypeError} as getRawOption
   * @throws {SystemError} as setOption; `EFAULT` NULL with a length that is not 0
   */
  setRawOption(level: number, optionName: number, value: number | ArrayBufferView): void;
  setRawOption(level: number, optionName: number, value: null, byteLength: number): void;
  setRawOption(
    level: number,
    optionName: number,
    value: number | ArrayBufferView | null,
    byteLength?: number,
  ): void {
    loadOptions().setRawOptionOf(this.#descriptor.fd, level, optionName, value, byteLength);
    this.#afterOption(level === SOL_SOCKET && optionName === SO_TIMESTAMP);
    if (level === IPPROTO_UDP && (optionName === UDP_GRO || optionName === UDP_SEGMENT))
      this.#learnOfTrains(value !== 0);
  }

  // Before Linux 5.13 UDP_GRO can be set, and not be asked for.
  #learnOfTrains(wasSet: boolean): void {
    const { fd } = this.#descriptor;
    const result = getsockopt(fd, IPPROTO_UDP, UDP_GRO, option, nameLength);
    this.#link.coalesces = result === 0 ? option[0] !== 0 : wasSet;
    this.#link.offload?.learnOfSocket(fd);
  }

  /**
   * Attaches a filter in the place of the one that the socket has: the kernel runs it for each
   * packet, and drops the packet or lets so many bytes of it through. On a UDP socket a packet
   * begins at its UDP header. What was queued before stays, unless `drains` takes it away: then
   * nothing that the program refuses is received afterwards.
   *
   * `SocketOption.lockFilter` keeps it for good.
   *
   * @param program a FilterProgram, which the kernel copies
   * @param options drains: lets nothing through, empties the queue, and attaches the program then.
   * Default false
   * @throws {SystemError} `EPERM` the filter was locked; `EINVAL` the program reads memory that it
   * has not written; `ENOMEM` it is longer than the sysctl net.core.optmem_max
   * @throws {TypeError} it is no FilterProgram; or `drains` on a stream
   * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7), SO_ATTACH_FILTER}
   */
  attachFilter(
    program: FilterProgram,
    options: { readonly drains?: boolean | undefined } = {},
  ): void {
    const { drains = false } = requireOptions(options);
    requireBoolean(drains, "drains");
    if (!drains) loadFilters().attachFilter(this.#descriptor.fd, program);
    else {
      if (this.#hasConnections())
        throw new TypeError(`Cannot drain a ${this.type} socket: it would lose what has come`);
      loadFilters().attachFilterAndDrain(this.#descriptor.fd, program);
    }
  }

  /**
   * Takes the filter away.
   *
   * @returns whether there was one
   * @throws {SystemError} `EPERM` it was locked
   */
  detachFilter(): boolean {
    return loadFilters().detachFilter(this.#descriptor.fd);
  }

  /**
   * The filter that is attached, instruction by instruction; undefined for none.
   *
   * @throws {SystemError} `EACCES` what is attached is an eBPF program, which cannot be read
   */
  attachedFilter(): FilterProgram | undefined {
    return loadFilters().attachedFilter(this.#descriptor.fd);
  }

  /**
   * Lets a program choose which socket of a group that shares its port (`reusePort`) gets a datagram
   * or a connection: it returns the place in the group, in the order in which the sockets were bound.
   * It holds for the whole group, also for sockets that come to it later; what it returns beyond the
   * group is chosen as without it. A packet begins at its payload.
   *
   * @param program `FilterProgram.byCpu`, `byQueue`, `bySourceHash`, or one of your own
   * @throws {SystemError} `EINVAL` the socket was not made with `reusePort`; `ENOMEM` it is longer
   * than the sysctl net.core.optmem_max
   * @throws {TypeError} it is no FilterProgram
   * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7), SO_ATTACH_REUSEPORT_CBPF}
   */
  attachReusePortProgram(program: FilterProgram): void {
    loadFilters().attachReusePortProgram(this.#descriptor.fd, program);
  }

  /**
   * Leaves the choice to the kernel again: by a hash of both addresses and ports.
   *
   * @returns whether there was a program
   * @throws {SystemError} `EINVAL` the socket was not made with `reusePort`
   */
  detachReusePortProgram(): boolean {
    return loadFilters().detachReusePortProgram(this.#descriptor.fd);
  }

  // IPV6_ADDRFORM turns an IPv6 socket with a mapped peer into an IPv4 one, with other addresses.
  #afterOption(aboutStamps: boolean): void {
    this.#retry();
    if (aboutStamps) this.#showsStamps = readInt(this.#descriptor.fd, SO_TIMESTAMP) !== 0;
    if (this.#domain !== AF_INET6) return;
    const domain = readInt(this.#descriptor.fd, SO_DOMAIN);
    if (domain === this.#domain) return;
    this.#domain = domain;
    (this as { family: SocketFamily }).family = familyOf(domain);
    this.#link.onlySender = this.#link.peer = undefined;
  }

  /**
   * Sends to the peer, or answers at once.
   *
   * @param data a view of any part of any buffer; on datagram sockets an empty one sends an empty
   * datagram
   * @returns bytes sent, on a stream perhaps fewer than there are; undefined when there is no room
   * @throws {SystemError} `EDESTADDRREQ`, `ENOTCONN` no peer; `ECONNREFUSED` an earlier datagram was
   * refused, this one was not sent; `EMSGSIZE` too long for a datagram; `EPIPE` the stream was shut
   * down
   * @throws {TypeError} data is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man2/send.2.html | send(2)}
   */
  trySend(data: ArrayBufferView | ArrayBuffer, options?: FlagOptions): number | undefined {
    const flags = requireFlags(options?.flags, this.#sendFlags);
    return this.#send(toView(data, "data"), flags) ?? this.#onFull?.();
  }

  #send(view: ArrayBufferView, flags: number): number | undefined {
    for (let tries = 0; ; tries++) {
      const result = send(this.#descriptor.fd, view, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
      if (result >= 0) return this.#sent(result, 1);
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR && !this.#passes(result, tries)) throw this.#error(result, "send");
    }
  }

  // Whether a call has failed for an error that was queued, and is to be tried again.
  #passes(result: number, tries: number): boolean {
    return this.#link.errors?.passes(this.#descriptor.fd, result, tries) ?? false;
  }

  // The kernel queues timestamps of a few datagrams only.
  #sent(result: number, datagrams: number): number {
    this.#link.errors?.countSent(this.#descriptor.fd, datagrams);
    return result;
  }

  // What is queued takes the room of datagrams.
  #foundNothing(): undefined {
    this.#link.errors?.drain(this.#descriptor.fd);
  }

  /**
   * Sends to the peer, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent, on a stream perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySend
   */
  sendSync(data: ArrayBufferView | ArrayBuffer | string, options?: WaitOptions): number {
    const wait = copyWait(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    const flags = requireFlags(wait?.flags, this.#sendFlags);
    const view = toSend(data);
    for (let tries = 0; ; tries++) {
      const sent = this.#send(view, flags);
      if (sent !== undefined) return sent;
      this.#waitToSend(deadline, tries, "send", true);
    }
  }

  /**
   * Sends to the peer, waiting for room; the promise form of `sendSync`. Nothing is copied: the data
   * must stay as it is until the call is answered.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent, on a stream perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySend
   */
  send(data: ArrayBufferView | ArrayBuffer | string, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLOUT, "send", options, (limits) => {
      const flags = requireFlags(limits.flags, this.#sendFlags);
      const view = toSend(data);
      return { attempt: () => this.#send(requireAttached(view), flags) };
    });
  }

  // Whether another Unix datagram socket has room, poll(2) tells of the peer only.
  #waitToSend(
    deadline: number,
    tries: number,
    syscall: string,
    toPeer: boolean,
    transferred?: number,
  ): void {
    const polls = toPeer || this.#domain !== AF_UNIX;
    if (polls) waitUntil(this.#descriptor.fd, POLLOUT, deadline, syscall, transferred, tries);
    else pauseUntil(deadline, tries, syscall, transferred);
  }

  /**
   * Sends one datagram to an address, or answers at once.
   *
   * @param data a view of any part of any buffer; an empty one sends an empty datagram
   * @param address where to, or its text; text is read again at each call
   * @returns bytes sent; undefined when there is no room, for Unix datagrams also in the receiver's
   * queue
   * @throws {SystemError} `ENETUNREACH` no route; `EMSGSIZE` too long; `EACCES` a broadcast address
   * without the option, or no right to the path; `EINVAL` port 0; `ENOENT` no such path;
   * `ECONNREFUSED` nobody receives at the path
   * @throws {TypeError} data is no view of ordinary memory, or address is none of this family
   * @see {@link https://man7.org/linux/man-pages/man2/sendto.2.html | sendto(2)}
   */
  trySendTo(
    data: ArrayBufferView | ArrayBuffer,
    address: A | string,
    options?: FlagOptions,
  ): number | undefined {
    const destination = toAddress(address, this.#domain);
    const flags = requireFlags(options?.flags, this.#sendFlags);
    return this.#sendTo(toView(data, "data"), destination, flags) ?? this.#onFull?.();
  }

  #sendTo(view: ArrayBufferView, destination: Address, flags: number): number | undefined {
    const bytes = addressBytes(destination);
    for (let tries = 0; ; tries++) {
      const result = sendto(this.#descriptor.fd, view, flags | MSG_DONTWAIT | MSG_NOSIGNAL, bytes);
      if (result >= 0) return this.#sent(result, 1);
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR && !this.#passes(result, tries))
        throw this.#error(result, "sendto", { address: destination, sending: true });
    }
  }

  /**
   * Sends one datagram to an address, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendTo
   */
  sendToSync(
    data: ArrayBufferView | ArrayBuffer | string,
    address: A | string,
    options?: WaitOptions,
  ): number {
    const destination = toAddress(address, this.#domain);
    const wait = copyWait(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    const flags = requireFlags(wait?.flags, this.#sendFlags);
    const view = toSend(data);
    for (let tries = 0; ; tries++) {
      const sent = this.#sendTo(view, destination, flags);
      if (sent !== undefined) return sent;
      this.#waitToSend(deadline, tries, "sendto", false);
    }
  }

  /**
   * Sends one datagram to an address, waiting for room; the promise form of `sendToSync`. Nothing is
   * copied: the data must stay as it is until the call is answered.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendTo
   */
  sendTo(
    data: ArrayBufferView | ArrayBuffer | string,
    address: A | string,
    options?: AsyncOptions,
  ): Promise<number> {
    return this.#wait(EPOLLOUT, "sendto", options, (limits) => {
      const destination = toAddress(address, this.#domain);
      const flags = requireFlags(limits.flags, this.#sendFlags);
      const view = toSend(data);
      // Whether another Unix datagram socket has room, no event tells.
      const pauses = this.#domain === AF_UNIX;
      return { attempt: () => this.#sendTo(requireAttached(view), destination, flags), pauses };
    });
  }

  /**
   * Sends a message, or answers at once. A connected socket sends it to its peer, any other one to
   * the message's address.
   *
   * @returns bytes sent, on a stream perhaps fewer than there are (`message.advance` drops them);
   * undefined when there is no room
   * @throws {SystemError} as trySend and trySendTo; `EINVAL` the control messages are malformed
   * @throws {TypeError} it is no Message, or its memory was detached
   * @see {@link https://man7.org/linux/man-pages/man2/sendmsg.2.html | sendmsg(2)}
   */
  trySendMessage(message: Message, options?: FlagOptions): number | undefined {
    requireMessage(message);
    const flags = requireFlags(options?.flags, this.#sendFlags);
    return this.#sendMessage(message, flags) ?? this.#onFull?.();
  }

  #sendMessage(message: Message, flags: number): number | undefined {
    const { fd } = this.#descriptor;
    const allFlags = flags | MSG_DONTWAIT | MSG_NOSIGNAL;
    for (let tries = 0; ; tries++) {
      const result = sendMessageFrom(message, fd, allFlags, this.#link.connected);
      if (result >= 0) return this.#sent(result, 1);
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR && !this.#passes(result, tries))
        throw this.#error(result, "sendmsg", this.#destination(message));
    }
  }

  #destination(message: Message): SystemErrorDetails {
    const address = this.#link.connected ? undefined : message.address;
    return address ? { address, sending: true } : {};
  }

  /**
   * Sends a message, waiting for room.
   *
   * @returns bytes sent, on a stream perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendMessage
   */
  sendMessageSync(message: Message, options?: WaitOptions): number {
    const wait = copyWait(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    requireMessage(message);
    const flags = requireFlags(wait?.flags, this.#sendFlags);
    for (let tries = 0; ; tries++) {
      const sent = this.#sendMessage(message, flags);
      if (sent !== undefined) return sent;
      this.#waitToSend(deadline, tries, "sendmsg", this.#link.connected);
    }
  }

  /**
   * Sends a message, waiting for room; the promise form of `sendMessageSync`.
   *
   * @returns bytes sent, on a stream perhaps fewer than there are
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendMessage
   */
  sendMessage(message: Message, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLOUT, "sendmsg", options, (limits) => {
      requireMessage(message);
      const flags = requireFlags(limits.flags, this.#sendFlags);
      const attempt = () => this.#sendMessage(message, flags);
      return { attempt, pauses: this.#hasQueuesOfOthers() };
    });
  }

  /**
   * Receives into any part of any buffer, or answers at once. Whether a datagram was cut is not
   * told: `receiveFrom` tells, and so does the flag `MSG_TRUNC`, with which the result is the
   * datagram's true length (on TCP it throws the bytes away unread).
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns bytes written (0 is the end of a stream, or an empty datagram), or undefined when
   * nothing is waiting
   * @throws {SystemError} `ECONNREFUSED` the peer of a connected socket refused an earlier
   * datagram; told once, and nothing is lost; `ENOTCONN` a stream is not connected; `ECONNRESET` its
   * peer broke it off
   * @throws {TypeError} target is no view of ordinary memory; or trains may come, of which nothing
   * would tell the datagrams apart (`UdpOption.gro`)
   * @throws {RangeError} it is empty, and the socket is a stream
   * @see {@link https://man7.org/linux/man-pages/man2/recv.2.html | recv(2)}
   */
  tryReceive(target: ArrayBufferView, options?: FlagOptions): number | undefined {
    // Options first: reading them can run the caller's code, which could detach the target.
    const flags = requireFlags(options?.flags, this.#receiveFlags) | MSG_DONTWAIT;
    this.#requireTarget(target);
    return this.#receiveSome(target, flags);
  }

  get #patience(): Patience {
    this.#somePatience ??= new Patience();
    return this.#somePatience;
  }

  #receiveSome(target: ArrayBufferView, flags: number): number | undefined {
    for (let tries = 0; ; tries++) {
      const result = recv(this.#descriptor.fd, target, flags);
      if (result >= 0) return result;
      if (result === -EAGAIN) return this.#foundNothing();
      if (result !== -EINTR && !this.#passes(result, tries)) throw this.#error(result, "recv");
    }
  }

  // Nothing received and the end of a stream are both 0 for an empty target.
  #requireTarget(target: ArrayBufferView): void {
    requireView(target, "target");
    if (this.#link.coalesces) throw new TypeError(NO_TRAINS);
    if (this.#type === SOCK_STREAM && byteLengthOf(target) === 0)
      throw new RangeError("Cannot receive a stream into an empty target: expected 1 byte or more");
  }

  /**
   * Receives into any part of any buffer, waiting for data. With the flag `MSG_WAITALL` it waits
   * until a stream has filled the target, or ended.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns bytes written; 0 is the end of a stream, or an empty datagram
   * @throws {TimeoutError} nothing came in time; with `MSG_WAITALL`, `transferred` says what did
   * @throws {SystemError} as tryReceive
   */
  receiveSync(target: ArrayBufferView, options?: WaitOptions): number {
    const timeoutMs = options?.timeoutMs;
    if (options && timeoutMs === undefined) refuseMisspelt(options);
    const deadline = deadlineAfter(timeoutMs);
    const flags = requireFlags(options?.flags, this.#receiveFlags);
    if (flags & MSG_WAITALL) return this.#receiveAll(target, flags, deadline);
    this.#requireTarget(target);
    let length = this.#receiveSome(target, flags | MSG_DONTWAIT);
    const asksAgain = length === undefined && !this.#truncates && timeoutMs !== 0;
    if (asksAgain && this.#patience.isWorthwhile) {
      for (let tries = 0; length === undefined && tries < PATIENCE_TRIES; tries++)
        length = this.#receiveSome(target, flags | MSG_DONTWAIT);
      this.#patience.learn(length !== undefined);
    }
    for (let tries = 0; length === undefined; tries++) {
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "recv", undefined, tries);
      length = this.#receiveSome(target, flags | MSG_DONTWAIT);
    }
    return length;
  }

  #receiveAll(target: ArrayBufferView, flags: number, deadline: number): number {
    const progress = this.#startReceiveAll(target, flags);
    while (!this.#receiveMore(progress))
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "recv", progress.filled);
    return progress.filled;
  }

  #startReceiveAll(target: ArrayBufferView, flags: number): Progress {
    if (flags & (MSG_PEEK | MSG_OOB))
      throw new RangeError("Cannot use MSG_WAITALL together with MSG_PEEK or MSG_OOB");
    this.#requireTarget(target);
    return { target, flags: flags | MSG_DONTWAIT, filled: 0 };
  }

  // Returns false when it would block.
  #receiveMore(progress: Progress): boolean {
    const { target, flags } = progress;
    // Asked each time: it may have been detached since.
    this.#requireTarget(target);
    const whole = bytesOf(target);
    while (progress.filled < whole.length) {
      const result = recv(this.#descriptor.fd, whole.subarray(progress.filled), flags);
      if (result === 0) break;
      if (result > 0) progress.filled += result;
      else if (result === -EAGAIN) return false;
      else if (result !== -EINTR)
        throw this.#error(result, "recv", { transferred: progress.filled });
    }
    return true;
  }

  /**
   * Receives into any part of any buffer, waiting for data; the promise form of `receiveSync`. The
   * target is the call's until it is answered.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns bytes written; 0 is the end of a stream, or an empty datagram
   * @throws {TimeoutError} nothing came in time; with `MSG_WAITALL`, `transferred` says what did
   * @throws {SystemError} as tryReceive
   */
  receive(target: ArrayBufferView, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLIN, "recv", options, (limits) => {
      const flags = requireFlags(limits.flags, this.#receiveFlags);
      if (flags & MSG_WAITALL) return this.#receiveWhole(target, flags);
      this.#requireTarget(target);
      const patience = this.#truncates ? undefined : this.#patience;
      return { attempt: () => this.tryReceive(target, limits), patience };
    });
  }

  #receiveWhole(target: ArrayBufferView, flags: number): Attempt<number> {
    const progress = this.#startReceiveAll(target, flags);
    return {
      attempt: () => (this.#receiveMore(progress) ? progress.filled : undefined),
      transferred: () => progress.filled,
    };
  }

  /**
   * Receives into new memory, or answers at once: the convenient form of `tryReceive`.
   *
   * @param bytesMax room for the data; the rest of a longer datagram is lost. 1 to 2^31 - 1
   * @returns the data: empty at the end of a stream, or for an empty datagram; undefined when nothing
   * is waiting
   * @throws {SystemError} as tryReceive
   */
  tryReceiveBytes(bytesMax: number, options?: FlagOptions): Uint8Array<ArrayBuffer> | undefined {
    requireInteger(bytesMax, 1, INT_MAX, "bytesMax");
    const flags = this.#refuseDiscard(options?.flags);
    const target = new Uint8Array(bytesMax);
    const length = this.tryReceive(target, { flags });
    return length === undefined ? undefined : target.slice(0, length);
  }

  // On a stream MSG_TRUNC throws the bytes away: nothing would be there to return.
  #refuseDiscard(flags: number | undefined): number | undefined {
    if (!this.#truncates && typeof flags === "number" && flags & MSG_TRUNC)
      throw new RangeError("Cannot use MSG_TRUNC here: it throws the bytes of a stream away");
    return flags;
  }

  /**
   * Receives into new memory, waiting for data.
   *
   * @param bytesMax as for tryReceiveBytes
   * @returns the data: empty at the end of a stream, or for an empty datagram
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  receiveBytesSync(bytesMax: number, options?: WaitOptions): Uint8Array<ArrayBuffer> {
    requireInteger(bytesMax, 1, INT_MAX, "bytesMax");
    const wait = refuseWaitAll(options);
    this.#refuseDiscard(wait?.flags);
    const target = new Uint8Array(bytesMax);
    return target.slice(0, this.receiveSync(target, wait));
  }

  /**
   * Receives into new memory, waiting for data; the promise form of `receiveBytesSync`.
   *
   * @param bytesMax as for tryReceiveBytes
   * @returns the data: empty at the end of a stream, or for an empty datagram
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  async receiveBytes(bytesMax: number, options?: AsyncOptions): Promise<Uint8Array<ArrayBuffer>> {
    requireInteger(bytesMax, 1, INT_MAX, "bytesMax");
    const { flags, timeoutMs, signal } = optionsOf(options);
    refuseWaitAll({ flags });
    this.#refuseDiscard(flags);
    const target = new Uint8Array(bytesMax);
    return target.slice(0, await this.receive(target, { flags, timeoutMs, signal }));
  }

  /**
   * Receives and tells who sent it, or answers at once. Allocates the result: batches do not.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns undefined when nothing is waiting
   * @throws {SystemError} as tryReceive
   * @throws {TypeError} target is no view of ordinary memory; or `UdpOption.gro` is on
   * @see {@link https://man7.org/linux/man-pages/man2/recvfrom.2.html | recvfrom(2)}
   */
  tryReceiveFrom(target: ArrayBufferView, options?: FlagOptions): ReceivedFrom<Sender> | undefined {
    const asked = requireFlags(options?.flags, this.#receiveFlags);
    const flags = this.#withLength(asked) | MSG_DONTWAIT;
    this.#requireTarget(target);
    for (let tries = 0; ; tries++) {
      const result = recvfrom(this.#descriptor.fd, target, flags, name, nameLength);
      if (result >= 0) return this.#receivedFrom(result, byteLengthOf(target));
      if (result === -EAGAIN) return this.#foundNothing();
      if (result !== -EINTR && !this.#passes(result, tries)) throw this.#error(result, "recvfrom");
    }
  }

  // MSG_TRUNC as an input flag: the result is the true length of a datagram, from which truncation
  // can be told. On a stream it would throw bytes away; and where UDP peeks at the rest of a datagram
  // (SO_PEEK_OFF), the result would be the length of the whole, more than was written.
  #withLength(flags: number): number {
    if (!this.#truncates) return flags;
    const peeksAtRest = (flags & MSG_PEEK) !== 0 && isInet(this.#domain) && this.#hasPeekOffset();
    return peeksAtRest ? flags & ~MSG_TRUNC : flags | MSG_TRUNC;
  }

  #hasPeekOffset(): boolean {
    const { fd } = this.#descriptor;
    return getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, option, nameLength) === 0 && option[0] !== -1;
  }

  #receivedFrom(originalLength: number, room: number): ReceivedFrom<Sender> {
    const truncated = originalLength > room;
    return {
      length: truncated ? room : originalLength,
      address: this.#sender(nameLength[0] as number) as Sender,
      flags: truncated ? MSG_TRUNC : 0,
      originalLength,
    };
  }

  #sender(length: number): Address | undefined {
    // The kernel gives no name at all where a datagram's sender has none.
    if (length === 0 || this.#type === SOCK_STREAM)
      return this.#domain === AF_UNIX && this.#type !== SOCK_STREAM
        ? UnixAddress.unnamed
        : undefined;
    // Whole words are compared, so the bytes after the name must not differ.
    if (length & 3) name.fill(0, length, length + 4 - (length & 3));
    this.#senders ??= new SenderTable(PEERS_MAX);
    return this.#senders.address(this.#senders.number(nameWords, 0, length));
  }

  /**
   * Receives and tells who sent it, waiting for data.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  receiveFromSync(target: ArrayBufferView, options?: WaitOptions): ReceivedFrom<Sender> {
    const wait = refuseWaitAll(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    for (let tries = 0; ; tries++) {
      const received = this.tryReceiveFrom(target, wait);
      if (received !== undefined) return received;
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "recvfrom", undefined, tries);
    }
  }

  /**
   * Receives and tells who sent it, waiting for data; the promise form of `receiveFromSync`. The
   * target is the call's until it is answered.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  receiveFrom(target: ArrayBufferView, options?: AsyncOptions): Promise<ReceivedFrom<Sender>> {
    return this.#wait(EPOLLIN, "recvfrom", options, (limits) => {
      requireFlags(refuseWaitAll(limits)?.flags, this.#receiveFlags);
      this.#requireTarget(target);
      return { attempt: () => this.tryReceiveFrom(target, limits) };
    });
  }

  /**
   * Receives into the vectors of a message, with its address, flags and control messages, or answers
   * at once. Descriptors that arrive among the control messages are close-on-exec, and the message's to
   * close: see its `descriptors`.
   *
   * @returns bytes written (0 is an empty datagram, or the end of a stream: on seqpacket sockets the
   * bit `MSG_EOR` of `message.flags` tells them apart), or undefined when nothing is waiting
   * @throws {SystemError} as tryReceive
   * @throws {TypeError} it is no Message, or its memory was detached
   * @throws {RangeError} it has no room for payload, and the socket is a stream; or it has fewer than
   * 24 `controlBytes`, and `UdpOption.gro` is on
   * @see {@link https://man7.org/linux/man-pages/man2/recvmsg.2.html | recvmsg(2)}
   */
  tryReceiveMessage(message: Message, options?: FlagOptions): number | undefined {
    requireMessage(message);
    const asked = requireFlags(options?.flags, this.#receiveFlags);
    // Packet sockets bring no descriptors, and refuse the flag.
    const closes = this.#domain === AF_PACKET ? 0 : MSG_CMSG_CLOEXEC;
    const flags = this.#withLength(asked) | MSG_DONTWAIT | closes;
    this.#requireOpen("recvmsg");
    if (this.#link.coalesces && message.control.length < SEGMENT_CONTROL)
      throw tooFewForSegments(message.control.length);
    for (let tries = 0; ; tries++) {
      const result = receiveMessageInto(message, this.#descriptor.fd, flags, this.#records());
      if (result >= 0) return result;
      if (result === -EAGAIN) return this.#foundNothing();
      if (result !== -EINTR && !this.#passes(result, tries)) throw this.#error(result, "recvmsg");
    }
  }

  #records(): Records {
    const keeps = this.#keepsRecords;
    // Asked each time: others may have switched it off, and what then comes first is the caller's.
    const hidesStamp =
      keeps && !this.#showsStamps && readInt(this.#descriptor.fd, SO_TIMESTAMP) !== 0;
    const bringsDescriptors = this.#domain === AF_UNIX;
    if (hidesStamp) return { truncates: this.#truncates, keeps, hidesStamp, bringsDescriptors };
    // Made once: no datagram costs an object.
    this.#plainRecords ??= { truncates: this.#truncates, keeps, hidesStamp, bringsDescriptors };
    return this.#plainRecords;
  }

  /**
   * Receives into the vectors of a message, with its address, flags and control messages, waiting
   * for data.
   *
   * @returns bytes written, as tryReceiveMessage
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  receiveMessageSync(message: Message, options?: WaitOptions): number {
    const wait = refuseWaitAll(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    for (let tries = 0; ; tries++) {
      const length = this.tryReceiveMessage(message, wait);
      if (length !== undefined) return length;
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "recvmsg", undefined, tries);
    }
  }

  /**
   * Receives into the vectors of a message, with its address, flags and control messages, waiting
   * for data; the promise form of `receiveMessageSync`. The message is the call's until it is
   * answered.
   *
   * @returns bytes written, as tryReceiveMessage
   * @throws {TimeoutError} nothing came in time
   * @throws {SystemError} as tryReceive
   */
  receiveMessage(message: Message, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLIN, "recvmsg", options, (limits) => {
      requireMessage(message);
      requireFlags(refuseWaitAll(limits)?.flags, this.#receiveFlags);
      return { attempt: () => this.tryReceiveMessage(message, limits) };
    });
  }

  // The promise form of a call: options are read once, then the arguments are checked, and then it is
  // tried. Whatever is wrong rejects it.
  #wait<Result>(
    event: typeof EPOLLIN | typeof EPOLLOUT,
    syscall: string,
    options: AsyncOptions | undefined,
    prepare: (limits: Limits) => Attempt<Result>,
  ): Promise<Result> {
    try {
      const limits = copyLimits(options);
      const call = { syscall, ...prepare(limits) };
      return loadPoller().perform(this.#descriptor, event, call, limits.deadline, limits.signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Sends the slots of a batch, or as many as fit the send buffer now. A connected socket sends all
   * to its peer; any other sends each slot to its `address`: after a receive that is who sent it.
   *
   * A slot that cannot be sent harms no other: it is passed over, `batch.failed` counts it and
   * `batch.failure(i)` tells why, `batch.failureError(i)` with what helps. What concerns them all
   * stops the call: see `batch.stopped`. On an unconnected Unix socket a receiver whose queue is full
   * fails its own slots only, with "EAGAIN"; the kernel says the same of every slot when the socket's
   * own send buffer is full.
   *
   * @param first the slot to start with, 0 to `batch.count`
   * @returns datagrams sent
   * @throws {TypeError} batch is none, or was freed; or the socket is a stream
   * @throws {RangeError} first is out of range
   * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
   */
  trySendBatch(batch: DatagramBatch, first = 0, options?: FlagOptions): number {
    this.#requireBatch(batch, "sendmmsg");
    // MSG_MORE would make one datagram of all slots, for the address of the first.
    const flags = requireFlags(options?.flags, this.#sendFlags & ~MSG_MORE);
    this.#requireOpen("sendmmsg");
    this.#prepareSend(batch, first);
    const passesOver = this.#hasQueuesOfOthers();
    const { fd } = this.#descriptor;
    const sent = sendFrom(batch, fd, first, flags, passesOver, 0, this.#offloadFor(batch));
    if (sent < batch.count - first) {
      this.#forgetDeadPeer();
      if (foundNoRoom(batch)) this.#onFull?.();
    }
    return this.#sent(sent, sent);
  }

  #prepareSend(batch: DatagramBatch, first: number): void {
    const { connected, peer } = this.#link;
    // The control messages for an IPv4 peer are others.
    const needsPeer = connected && !peer && this.#domain === AF_INET6 && speaks(batch, first);
    const receiver = needsPeer ? this.#peerName() : peer;
    prepareSend(batch, first, connected, this.#domain, receiver);
  }

  #peerName(): Uint8Array | undefined {
    const result = getpeername(this.#descriptor.fd, name, nameLength);
    return result < 0 ? undefined : name.slice(0, nameLength[0]);
  }

  /** What is known of segmentation offload, for a batch that has trains. */
  #offloadFor(batch: DatagramBatch): SegmentationOffload | undefined {
    return isInet(this.#domain) && hasTrains(batch) ? this.#offload() : undefined;
  }

  #offload(): SegmentationOffload {
    this.#link.offload ??= new (loadOffload().SegmentationOffload)(this.#descriptor.fd);
    return this.#link.offload;
  }

  /** Whether "no room" tells of one receiver, and not of all: so with Unix datagrams. */
  #hasQueuesOfOthers(): boolean {
    return this.#domain === AF_UNIX && !this.#link.connected;
  }

  /**
   * Sends the slots of a batch, waiting for room: in order, so a Unix receiver whose queue is full
   * holds up those behind it.
   *
   * @param first the slot to start with, 0 to `batch.count`
   * @returns datagrams sent; fewer than there are when some failed, or when `batch.stopped` tells
   * of an error that waiting does not cure
   * @throws {TimeoutError} there was no room in time; `transferred` counts what was sent,
   * `batch.stopped` tells from where
   */
  sendBatchSync(batch: DatagramBatch, first = 0, options?: WaitOptions): number {
    this.#requireBatch(batch, "sendmmsg");
    const flags = requireFlags(options?.flags, this.#sendFlags & ~MSG_MORE);
    const deadline = deadlineOf(options);
    this.#requireOpen("sendmmsg");
    this.#prepareSend(batch, first);
    const { fd } = this.#descriptor;
    const offload = this.#offloadFor(batch);
    let sent = sendFrom(batch, fd, first, flags, false, 0, offload);
    let tries = 0;
    for (let next = waitsFrom(batch); next >= 0; next = waitsFrom(batch)) {
      this.#waitToSend(deadline, tries++, "sendmmsg", this.#link.connected, sent);
      const more = sendFrom(batch, fd, next, flags, false, sent, offload);
      if (more > 0) tries = 0;
      sent += more;
    }
    if (sent < batch.count - first) this.#forgetDeadPeer();
    return this.#sent(sent, sent);
  }

  /**
   * Sends the slots of a batch, waiting for room; the promise form of `sendBatchSync`. The batch is
   * the call's until it is answered: every other receive into it and send of it fails with `EBUSY`.
   *
   * @param first the slot to start with, 0 to `batch.count`
   * @returns datagrams sent; fewer than there are when some failed, or when `batch.stopped` tells
   * of an error that waiting does not cure
   * @throws {TimeoutError} there was no room in time; `transferred` counts what was sent,
   * `batch.stopped` tells from where
   * @throws {ClosedError} the socket was closed; `transferred` counts what was sent before
   */
  sendBatch(batch: DatagramBatch, first = 0, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLOUT, "sendmmsg", options, (limits) => {
      this.#requireBatch(batch, "sendmmsg");
      const flags = requireFlags(limits.flags, this.#sendFlags & ~MSG_MORE);
      this.#requireOpen("sendmmsg");
      this.#prepareSend(batch, first);
      return this.#sendWhole(batch, first, flags);
    });
  }

  #sendWhole(batch: DatagramBatch, first: number, flags: number): Attempt<number> {
    const count = batch.count - first;
    const offload = this.#offloadFor(batch);
    let sent = 0;
    let next = first;
    claim(batch, "sendmmsg");
    return {
      pauses: this.#hasQueuesOfOthers(),
      attempt: () => {
        sent += sendFrom(batch, this.#descriptor.fd, next, flags, false, sent, offload);
        next = waitsFrom(batch);
        if (next >= 0) return undefined;
        if (sent < count) this.#forgetDeadPeer();
        return this.#sent(sent, sent);
      },
      transferred: () => sent,
      settled: () => release(batch),
    };
  }

  /**
   * Fills a batch from slot 0 with the datagrams that are waiting, and sets its `count`. With
   * `MSG_PEEK` it gets the first one only: the kernel would put the same into every slot.
   *
   * @returns datagrams received; 0 when nothing is waiting
   * @throws {SystemError} `ECONNREFUSED` the peer of a connected socket refused an earlier
   * datagram; told once, and nothing is lost
   * @throws {TypeError} batch is none, or was freed; or the socket is a stream
   * @throws {RangeError} its slots do not hold every train, and `UdpOption.gro` is on
   * @see {@link https://man7.org/linux/man-pages/man2/recvmmsg.2.html | recvmmsg(2)}
   */
  tryReceiveBatch(batch: DatagramBatch, options?: FlagOptions): number {
    this.#requireBatch(batch, "recvmmsg");
    const flags = requireFlags(options?.flags, this.#receiveFlags);
    this.#requireOpen("recvmmsg");
    return this.#receiveBatch(batch, flags);
  }

  #receiveBatch(batch: DatagramBatch, asked: number): number {
    if (this.#link.coalesces) requireTrainRoom(batch);
    const flags = this.#withLength(asked);
    for (let tries = 0; ; tries++) {
      const result = receiveInto(
        batch,
        this.#descriptor.fd,
        flags,
        this.#link.onlySender,
        this.#domain,
      );
      if (result >= 0) return result;
      if (result === -EAGAIN) {
        // The queue is empty: what comes from now on has passed the kernel's check of the sender.
        this.#link.onlySender = this.#link.peer;
        this.#foundNothing();
        return 0;
      }
      if (result !== -EINTR && !this.#passes(result, tries)) throw this.#error(result, "recvmmsg");
    }
  }

  /**
   * Fills a batch with the datagrams that are waiting, and waits for at least one. It does not wait
   * for a full batch.
   *
   * @returns datagrams received, at least 1
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceiveBatch
   */
  receiveBatchSync(batch: DatagramBatch, options?: WaitOptions): number {
    const wait = copyWait(options);
    const deadline = deadlineAfter(wait?.timeoutMs);
    for (let tries = 0; ; tries++) {
      const count = this.tryReceiveBatch(batch, wait);
      if (count > 0) return count;
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "recvmmsg", undefined, tries);
    }
  }

  /**
   * Fills a batch with the datagrams that are waiting, and waits for at least one; the promise form
   * of `receiveBatchSync`. The batch is the call's until it is answered: every other receive into it
   * and send of it fails with `EBUSY`.
   *
   * @returns datagrams received, at least 1
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceiveBatch
   */
  receiveBatch(batch: DatagramBatch, options?: AsyncOptions): Promise<number> {
    return this.#wait(EPOLLIN, "recvmmsg", options, (limits) => {
      this.#requireBatch(batch, "recvmmsg");
      const flags = requireFlags(limits.flags, this.#receiveFlags);
      this.#requireOpen("recvmmsg");
      claim(batch, "recvmmsg");
      return {
        attempt: () => {
          this.#requireOpen("recvmmsg");
          return this.#receiveBatch(batch, flags) || undefined;
        },
        settled: () => release(batch),
      };
    });
  }

  /**
   * Receives batches for `for await`: each step waits until there are datagrams, and gives them in a
   * DatagramBatch whose contents are valid until the next step. Leaving the loop frees it. The loop
   * ends when the socket is closed or detached by this program; an error of the socket is thrown
   * into it.
   *
   * Set `UdpOption.gro` before: where it is on, slots have 65,536 bytes by default, which hold every
   * train; and `slotBytes` below 65,535 or `controlBytes` below 24 are refused. Set after, the batches
   * are the ones that were made, and the next step fails where they are too small.
   *
   * A handler (`onBatch`) that is not stopped would have to let the loop go before for ever, so there
   * may only be one of the two.
   *
   * @throws {TypeError} the socket is a stream, or has a handler, here or in the first step
   * @throws {RangeError} an option is out of range, or too small for trains
   *
   * @example An echo server that serves beside everything else
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using socket = UdpSocket.bind("127.0.0.1:0");
   * using client = UdpSocket.open("ipv4");
   * await client.sendTo("hello", socket.localAddress);
   * for await (const batch of socket.batches()) {
   *   await socket.sendBatch(batch);
   *   break; // a server would go on
   * }
   * console.log(`${Buffer.from(await client.receiveBytes(100))}`); // hello
   * ```
   */
  batches(options: BatchesOptions = {}): Batches<A> {
    this.#requireDatagrams();
    this.#requireNoHandler();
    const { Batches }: typeof import("./batches.ts") = loadModule(() => require("./batches.ts"));
    return new Batches(this.#source(), this.#withTrainRoom(options));
  }

  /**
   * Calls a function with each batch of datagrams that comes, until the socket is closed: the
   * cheapest way to serve. The contents are valid until the function returns, or until the promise
   * settles that it returns: nothing more is received before. What it throws is reported
   * (`reportError`) and pauses the socket. Promise forms that receive go before it.
   *
   * Set `UdpOption.gro` before, as for `batches`.
   *
   * Unlike a loop, this returns at once: `using` at the top of a program would close the socket when
   * the last line of the program has run, so a server's socket is a `const`.
   *
   * @param handler called with the batch, in the order of arrival
   * @throws {TypeError} the socket is a stream, or has a handler already, or a loop of `batches` that
   * has begun and not ended
   * @throws {RangeError} an option is out of range, or too small for trains
   *
   * @example Echo, and stop
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using socket = UdpSocket.bind("127.0.0.1:0");
   * using client = UdpSocket.open("ipv4");
   * using echo = socket.onBatch((batch) => void socket.trySendBatch(batch));
   * await client.sendTo("hello", socket.localAddress);
   * console.log(`${Buffer.from(await client.receiveBytes(100))}`, echo.paused); // hello false
   * ```
   */
  onBatch(handler: BatchHandler<A>, options: OnBatchOptions = {}): BatchSubscription {
    this.#requireDatagrams();
    this.#requireOpen("recvmmsg");
    if (this.#subscription?.stopped === false)
      throw new TypeError("Cannot add a second handler to a socket: stop the first one");
    if (this.#loops > 0)
      throw new TypeError(
        "Cannot add a handler to a socket beside a loop of batches: end the loop",
      );
    const { subscribe }: typeof import("./batches.ts") = loadModule(() => require("./batches.ts"));
    this.#subscription = subscribe(
      this.#source(),
      handler as BatchHandler,
      this.#withTrainRoom(options),
    );
    return this.#subscription;
  }

  // Slots that hold every train, where the caller does not say how long they are; and room for the
  // size of their segments.
  #withTrainRoom<Options extends DatagramBatchOptions>(options: Options): Options {
    if (!this.#link.coalesces) return options;
    const { slotBytes, controlBytes } = requireOptions(options);
    // What is out of any range the batch itself refuses.
    if (typeof controlBytes === "number" && controlBytes >= 0 && controlBytes < SEGMENT_CONTROL)
      throw tooFewForSegments(controlBytes);
    if (slotBytes === undefined) return { ...options, slotBytes: TRAIN_SLOT_BYTES };
    if (typeof slotBytes === "number" && slotBytes < TRAIN_SLOT_BYTES - 1)
      throw tooShortForTrains(slotBytes);
    return options;
  }

  // What an iterator or a handler needs of its socket.
  #source(): BatchSource {
    return {
      descriptor: this.#descriptor,
      receive: (batch) => this.#receiveBatch(batch, 0),
      onFull: (listener) => {
        this.#onFull = listener;
      },
      hasQueuesOfOthers: () => this.#hasQueuesOfOthers(),
      enterLoop: () => {
        this.#requireNoHandler();
        this.#loops++;
      },
      leaveLoop: () => {
        this.#loops--;
      },
    };
  }

  #requireNoHandler(): void {
    if (this.#subscription?.stopped === false)
      throw new TypeError(
        "Cannot loop over batches of a socket that has a handler: stop that first",
      );
  }

  // At the end of a seqpacket connection recvmmsg(2) would fill every slot with nothing.
  #requireBatch(batch: DatagramBatch, syscall: string): void {
    if (!isBatch(batch))
      throw new TypeError("Cannot use this as a batch: expected a DatagramBatch");
    this.#requireDatagrams();
    requireIdle(batch, syscall);
  }

  #requireDatagrams(): void {
    if (this.#type === SOCK_STREAM || this.#type === SOCK_SEQPACKET)
      throw new TypeError(`Cannot use a batch on a ${this.type} socket: expected a datagram one`);
  }

  /**
   * Whether errors of the network are queued (`IP_RECVERR`, `IPV6_RECVERR`), for `errors` and
   * `receiveError`; false at first. An IPv6 socket queues those of IPv4 too.
   *
   * While they are, no send and no receive fails because of what happened to an earlier datagram,
   * not even to one for the peer of a connected socket; and an unconnected socket learns what became
   * of its datagrams, which it does not otherwise. What was queued stays to be received when it is
   * switched off.
   *
   * Errors belong to the open socket. All sockets of this thread that share it, by `duplicate`, have
   * one queue; another thread or process that shares it has its own, and each error is told to
   * whoever asks first.
   *
   * @throws {TypeError} it is a stream, which fails for good; or no socket over IP
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man7/ip.7.html | ip(7), IP_RECVERR}
   */
  get queueErrors(): boolean {
    return this.#descriptor.fd >= 0 && this.#link.errors?.isQueueing === true;
  }

  set queueErrors(queueErrors: boolean) {
    requireBoolean(queueErrors, "queueErrors");
    const errors = this.#kernelErrors();
    if (this.#type === SOCK_STREAM)
      throw new TypeError("Cannot queue the errors of a stream socket: expected a datagram one");
    this.#requireOpen("setsockopt");
    loadErrors().queueErrors(errors, this.#descriptor.fd, this.#domain, queueErrors);
  }

  #kernelErrors(): KernelErrors {
    // Of others MSG_ERRQUEUE would take ordinary data.
    const isKnown = this.#type === SOCK_RAW || WITH_ERRORS.includes(this.#protocol);
    if (!isInet(this.#domain) || !isKnown) {
      throw new TypeError(
        `Cannot receive the errors of a ${this.family} ${this.type} socket: expected one over IP`,
      );
    }
    this.#link.errors ??= new (loadErrors().KernelErrors)();
    return this.#link.errors;
  }

  /**
   * The first entry of the socket's error queue, or undefined: see `queueErrors`,
   * `transmitTimestamps` and `sendZeroCopy`, which make some. They wait in a queue of this library,
   * `errorQueue`; the kernel's is emptied into it whenever the socket is used or waits.
   *
   * @throws {TypeError} it is no socket over IP
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/recvmsg.2.html | recvmsg(2), MSG_ERRQUEUE}
   */
  tryReceiveError(): QueuedError | undefined {
    const errors = this.#kernelErrors();
    this.#requireOpen("recvmsg");
    return errors.shift(this.#descriptor.fd);
  }

  /**
   * The first entry of the socket's error queue, waiting for one.
   *
   * @throws {TimeoutError} none came in time
   * @throws {TypeError} it is no socket over IP
   */
  receiveErrorSync(options?: TimeoutOptions): QueuedError {
    const errors = this.#kernelErrors();
    const deadline = deadlineOf(options);
    this.#requireOpen("recvmsg");
    return errors.takeSync(this.#descriptor, deadline);
  }

  /**
   * The first entry of the socket's error queue; the promise form of `receiveErrorSync`. It stands in
   * no line with those who wait for data or room.
   *
   * @throws {TimeoutError} none came in time
   * @throws {TypeError} it is no socket over IP
   *
   * @example Who has refused which datagram
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using socket = UdpSocket.bind("127.0.0.1:0");
   * socket.queueErrors = true;
   * const dead = UdpSocket.bind("127.0.0.1:0");
   * const { localAddress } = dead;
   * dead.close();
   * await socket.sendTo("anybody there?", localAddress);
   * const error = await socket.receiveError({ timeoutMs: 1000 });
   * if (error.kind === "icmp")
   *   console.log(error.code, error.offender?.host, error.destination?.equals(localAddress));
   * // ECONNREFUSED 127.0.0.1 true
   * ```
   */
  receiveError(options?: CancelOptions): Promise<QueuedError> {
    try {
      const { deadline, signal } = copyLimits(options);
      const errors = this.#kernelErrors();
      this.#requireOpen("recvmsg");
      return errors.take(this.#descriptor, { wrap: (error) => error, deadline, signal });
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * The entries of the socket's error queue, for `for await`. The loop ends when the socket is closed
   * or detached by this program; leaving it leaves the socket as it is, and loses nothing.
   *
   * @throws {TypeError} it is no socket over IP
   *
   * @example One stream for all there is to tell
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("127.0.0.1:0");
   * using socket = UdpSocket.open("ipv4");
   * socket.queueErrors = true;
   * socket.transmitTimestamps = ["sent"];
   * await socket.sendTo("hello", server.localAddress);
   * for await (const entry of socket.errors()) {
   *   if (entry.kind === "timestamp") console.log(`send ${entry.id} was ${entry.what}`);
   *   break; // send 0 was sent
   * }
   * ```
   */
  errors(options: ErrorsOptions = {}): QueuedErrors {
    const { QueuedErrors } = loadErrorQueue();
    return new QueuedErrors(this.#kernelErrors(), this.#descriptor, options);
  }

  /** How many entries of the error queue wait to be received, and how many were dropped. */
  get errorQueue(): ErrorQueueState {
    const { queued = 0, queuedMax = 0, dropped = 0 } = this.#link.errors ?? {};
    return Object.freeze({ queued, queuedMax, dropped });
  }

  /**
   * Which transmit timestamps are queued as errors are: "scheduled", "sent", and of TCP
   * "acknowledged"; none at first. Each tells by its `id` which send it is of: datagrams count from 0
   * since the list was empty, also those that are sent by a batch; a train of segments is one. They
   * are software timestamps, and add to the receive timestamps that options ask for. The kernel has
   * room for some 255 of one call (more with a larger receive buffer): batches should be smaller.
   *
   * @throws {TypeError} it is no list of these, or no socket over IP
   * @throws {ClosedError} the socket is closed
   * @see {@link https://docs.kernel.org/networking/timestamping.html | SO_TIMESTAMPING}
   */
  get transmitTimestamps(): readonly TransmitTimestamp["what"][] {
    return loadErrors().transmitTimestamps(this.#descriptor.fd);
  }

  set transmitTimestamps(whats: Iterable<TransmitTimestamp["what"]>) {
    this.#kernelErrors();
    loadErrors().setTransmitTimestamps(this.#descriptor, this.#type === SOCK_STREAM, whats);
  }

  #zeroCopySender(): ZeroCopySender {
    const errors = this.#kernelErrors();
    errors.zeroCopy ??= new (loadZeroCopy().ZeroCopy)(this.#type === SOCK_STREAM);
    return {
      descriptor: this.#descriptor,
      domain: this.#domain,
      errors,
      isShared: () => this.#link.shared,
    };
  }

  /**
   * Ends one direction of a connection, or both; the socket stays open. After "write" the peer gets
   * what was sent and then the end. After "read" receives give the end once what has come is read;
   * Linux still takes what comes later. Datagrams have no end: receives then find nothing more.
   *
   * @param direction "read", "write" or "both"
   * @throws {SystemError} `ENOTCONN` there is no connection (a Unix socket needs none); Linux has
   * ended the direction all the same, also of a connection that is made later
   * @see {@link https://man7.org/linux/man-pages/man2/shutdown.2.html | shutdown(2)}
   */
  shutdown(direction: "read" | "write" | "both"): void {
    const isWord = typeof direction === "string" && Object.hasOwn(DIRECTIONS, direction);
    const how = isWord ? DIRECTIONS[direction] : undefined;
    if (how === undefined) {
      throw new TypeError(
        `Cannot shut down ${describe(direction)}: expected "read", "write" or "both"`,
      );
    }
    check(shutdown(this.#descriptor.fd, how), "shutdown");
    this.#retry();
  }

  // The kernel does not tell of every change that we make ourselves.
  #retry(): void {
    const { watch } = this.#descriptor;
    if (watch) loadPoller().retry(watch);
  }

  /**
   * Makes a second socket of the same kind for the same open socket: both receive from one queue,
   * and what is set on one is set on the other. The connection ends when both are closed.
   *
   * @throws {SystemError} `EMFILE` too many open descriptors
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/dup.2.html | dup(2)}
   */
  duplicate(): Socket<A, Sender> {
    return new Socket<A, Sender>(this.#duplicateParts());
  }

  #duplicateParts(): Parts {
    const result = fcntl(this.#descriptor.fd, F_DUPFD_CLOEXEC, 0);
    return {
      descriptor: new Descriptor(result, "fcntl"),
      domain: this.#domain,
      type: this.#type,
      protocol: this.#protocol,
      requested: this.#requested,
      original: this,
    };
  }

  /**
   * Gives the descriptor away, open: from now on it is the caller's to close, and this socket is
   * closed.
   *
   * @returns the descriptor
   * @throws {ClosedError} the socket is closed already
   */
  detach(): number {
    this.#requireOpen("detach");
    this.#share();
    const fd = this.#descriptor.release();
    if (fd < 0) throw new ClosedError("detach");
    return fd;
  }

  /**
   * Closes the socket: its port is free at once, what was not received is lost. Does nothing the
   * second time. Every other call fails with a ClosedError from then on.
   */
  close(): void {
    this.#descriptor.close();
  }

  // A call with one datagram need not ask: the kernel refuses -1 before it looks at anything else.
  #requireOpen(syscall: string): void {
    if (this.#descriptor.fd < 0) throw new ClosedError(syscall);
  }

  #error(result: number, syscall: string, details?: SystemErrorDetails): Error {
    // A descriptor among the control messages may be the bad one.
    if (result === -EBADF && this.#descriptor.fd >= 0) return new SystemError(result, syscall);
    if (result === -ECONNREFUSED) this.#forgetDeadPeer();
    const unix = this.#domain === AF_UNIX;
    const hint = unix
      ? undefined
      : tooLongHint(result, syscall, this.#descriptor.fd, this.#domain === AF_INET6);
    return systemError(result, syscall, { hint, ...details, ...this.#portless(details), unix });
  }

  // To a raw socket over IP a port means nothing.
  #portless(details: SystemErrorDetails | undefined): SystemErrorDetails {
    const { host, port } = details?.address ?? {};
    if (this.#type !== SOCK_RAW || host === undefined || port === undefined) return {};
    return { address: { host, toString: () => host } };
  }

  // A Unix datagram socket whose peer was closed has none any more, once a send has been refused.
  #forgetDeadPeer(): void {
    if (this.#domain !== AF_UNIX || !this.#link.connected) return;
    this.#link.connected = getpeername(this.#descriptor.fd, name, nameLength) === 0;
  }

  /**
   * Lets calls, iterators and handlers that wait keep the process alive, which they do unless
   * `unref` was called. Does nothing the second time.
   */
  ref(): this {
    loadPoller().setRef(this.#descriptor, true);
    return this;
  }

  /**
   * Lets the process end although something waits for this socket. What waits goes on waiting as long
   * as something else keeps the process alive.
   */
  unref(): this {
    loadPoller().setRef(this.#descriptor, false);
    return this;
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What it is, its descriptor and its addresses, for logs: what console.log shows. */
  toString(): string {
    return this[INSPECT]();
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#descriptor in this)) return "Socket";
    const { fd } = this.#descriptor;
    // A family without a name is told by the name of the class.
    const isNamed = typeof this.family === "string" || this.constructor === Socket;
    const kind = `${this.constructor.name} ${isNamed ? `${this.family} ` : ""}${this.type}`;
    if (fd < 0) return `${kind}, closed`;
    try {
      const peer = this.#link.connected ? this.remoteAddress : undefined;
      return `${kind}, descriptor ${fd}, ${this.localAddress}${peer ? ` to ${peer}` : ""}`;
    } catch {
      return `${kind}, descriptor ${fd}`;
    }
  }

  static {
    offloadOf = (socket) => socket.#offload();
    zeroCopySenderOf = (socket) => socket.#zeroCopySender();
    foundFull = (socket) => socket.#onFull?.();
    duplicateParts = (socket) => socket.#duplicateParts();
    acceptParts = (socket, flags) => socket.#accept(flags);
    descriptorOf = (socket) =>
      socket instanceof Object && #descriptor in socket ? socket.#descriptor : undefined;
  }
}

function loadFilters(): typeof import("./internal/socket_filter.ts") {
  return loadModule(() => require("./internal/socket_filter.ts"));
}

function isInet(domain: number): boolean {
  return domain === AF_INET || domain === AF_INET6;
}

// Read once: a call that tries again must do the same again, and reading can run the caller's code.
function copyWait(options: WaitOptions | undefined): WaitOptions | undefined {
  if (!options) return undefined;
  const { flags, timeoutMs } = options;
  if (flags === undefined && timeoutMs === undefined) refuseMisspelt(options);
  return { flags, timeoutMs };
}

// Waiting for all of it can run out of time, and then what has come must be in the caller's hands.
function refuseWaitAll(options: WaitOptions | undefined): WaitOptions | undefined {
  const wait = copyWait(options);
  if (typeof wait?.flags === "number" && wait.flags & MSG_WAITALL)
    throw new RangeError("Cannot use MSG_WAITALL here: receiveSync fills a whole target");
  return wait;
}

/** A call that can wait, without its name. */
type Attempt<Result> = Omit<Call<Result>, "syscall">;

/** The options of a promise form, read once. */
interface Limits extends FlagOptions {
  readonly deadline: number;
  readonly signal: CancelSignal | undefined;
}

// Throws the reason of a signal that was aborted before: nothing is done then.
function copyLimits(options: AsyncOptions | undefined): Limits {
  if (!options) return UNLIMITED;
  const { flags, timeoutMs, signal } = options;
  if (flags === undefined && timeoutMs === undefined && signal === undefined)
    refuseMisspelt(options);
  requireSignal(signal)?.throwIfAborted();
  return { flags, deadline: deadlineAfter(timeoutMs), signal };
}

const UNLIMITED: Limits = {
  flags: undefined,
  deadline: Number.POSITIVE_INFINITY,
  signal: undefined,
};

/** The data of a send that may wait: a string as UTF-8. */
function toSend(data: ArrayBufferView | ArrayBuffer | string): ArrayBufferView {
  return toView(typeof data === "string" ? Buffer.from(data) : data, "data");
}

/** Refuses data that has gone while its send waited: it would be sent as an empty datagram. */
function requireAttached(view: ArrayBufferView): ArrayBufferView {
  requireView(view, "data");
  return view;
}

function requireMessage(message: Message): void {
  if (!isMessage(message)) throw new TypeError("Cannot use this as a message: expected a Message");
}
