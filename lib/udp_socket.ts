import { EAGAIN, EINTR, ENOTCONN, EPERM } from "../structs/constants/errno.ts";
import { IPPROTO_IPV6, IPV6_V6ONLY } from "../structs/constants/netinet_in.ts";
import { POLLIN, POLLOUT } from "../structs/constants/poll.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  MSG_CONFIRM,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_PEEK,
  MSG_TRUNC,
  SO_BROADCAST,
  SO_ERROR,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "../structs/constants/sys_socket.ts";
import { sockaddr } from "../structs/sockaddr.ts";
import { sockaddr_storage } from "../structs/sockaddr_storage.ts";
import {
  type Address,
  addressBytes,
  addressFromBytes,
  type Inet4Address,
  type Inet6Address,
  type InetAddress,
  toInetAddress,
} from "./address.ts";
import { DatagramBatch, prepareSend, receiveInto, sendFrom, waitsFrom } from "./datagram_batch.ts";
import { ClosedError, check, systemError } from "./error.ts";
import { byteLengthOf } from "./ffi/memory.ts";
import { requireFlags, requireInteger, requireView, toView } from "./internal/arguments.ts";
import { deadlineAfter, isReady, waitUntil } from "./internal/deadline.ts";
import { SenderTable } from "./internal/sender_table.ts";
import {
  bind,
  connect,
  getpeername,
  getsockname,
  getsockopt,
  recv,
  recvfrom,
  send,
  sendto,
  setsockopt,
  socket,
} from "./sys/socket.ts";
import { close } from "./sys/unistd.ts";

/** What a UdpSocket can be told when it is made: set between socket(2) and bind(2). */
export interface UdpSocketOptions {
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
   * for IPv4.
   */
  readonly ipv6Only?: boolean | undefined;
  /** `SO_BROADCAST`: broadcast addresses may be sent to. Default false. */
  readonly broadcast?: boolean | undefined;
}

/** Flags of one call: a union of `MSG_` constants, from "bun-sockets/sys". */
export interface FlagOptions {
  readonly flags?: number | undefined;
}

/** How long a blocking call may take. */
export interface WaitOptions extends FlagOptions {
  /** Milliseconds for the whole call. Undefined and Infinity are no limit; 0 is one try. */
  readonly timeoutMs?: number | undefined;
}

/** One datagram, as `receiveFrom` tells of it. */
export interface ReceivedFrom {
  /** Bytes written to the target. */
  readonly length: number;
  /** Who sent it. One object for each sender, as long as the socket remembers it. */
  readonly address: InetAddress;
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

// What has a meaning for a datagram socket. MSG_DONTWAIT and MSG_NOSIGNAL are always set;
// MSG_ZEROCOPY would let the kernel read the caller's memory after the call.
const RECEIVE_FLAGS = MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT;
const SEND_FLAGS = MSG_CONFIRM | MSG_DONTROUTE | MSG_MORE | MSG_DONTWAIT | MSG_NOSIGNAL;
// MSG_MORE would make one datagram of all slots, for the address of the first.
const SEND_BATCH_FLAGS = SEND_FLAGS & ~MSG_MORE;
const PEERS_MAX = 4096;
const INT_MAX = 2 ** 31 - 1;

// Scratch for getsockname and recvfrom: filled by one call and read before the next. In explicit
// ArrayBuffers, because a small typed array moves when its buffer is first asked for.
const name = new Uint8Array(new ArrayBuffer(sockaddr_storage.size));
const nameWords = new Int32Array(name.buffer);
const nameLength = new Uint32Array(new ArrayBuffer(4));
const option = new Int32Array(new ArrayBuffer(4));

/**
 * A UDP socket over IPv4 or IPv6. Its descriptor is close-on-exec and non-blocking.
 *
 * Every call that can wait has two forms: `try…` answers at once (`undefined`, or 0 datagrams, when
 * it would block), and `…Sync` blocks the thread, timers and all, until it is done or `timeoutMs`
 * has passed. What the kernel says about one datagram harms no other: see `DatagramBatch.failure`.
 * Nothing is retried except after a signal, and in a batch after a refusal, which tells of an
 * earlier datagram.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7)}
 *
 * @example Send one, receive one
 * ```ts
 * import { UdpSocket } from "bun-sockets";
 *
 * using server = UdpSocket.bind("127.0.0.1:0");
 * using client = UdpSocket.open("ipv4");
 * client.sendToSync("hello", server.localAddress);
 *
 * const buffer = new Uint8Array(1500);
 * const { length, address } = server.receiveFromSync(buffer, { timeoutMs: 1000 });
 * console.log(`${address} says ${Buffer.from(buffer.subarray(0, length))}`);
 * ```
 */
export class UdpSocket {
  /**
   * "ipv4" or "ipv6". An IPv6 socket carries IPv4 too, as mapped addresses, unless made `ipv6Only`.
   */
  readonly family: "ipv4" | "ipv6";
  #fd: number;
  /** The address right after bind(2): what disconnect gives back. */
  #bound: InetAddress | undefined;
  #connected = false;
  /** The sockaddr of the peer, once nothing in the queue can be older than it. */
  #onlySender: Uint8Array | undefined;
  #peer: Uint8Array | undefined;
  readonly #requested: UdpSocketOptions;
  #senders: SenderTable | undefined;

  /**
   * Opens a socket that has no address yet: its first send gives it a free port.
   *
   * @param family the family, or an address (or its text) of that family
   * @throws {SystemError} `EMFILE` too many open descriptors; `EAFNOSUPPORT` the kernel has no IPv6
   * @see {@link https://man7.org/linux/man-pages/man2/socket.2.html | socket(2)}
   */
  static open(
    family: "ipv4" | "ipv6" | Address | string,
    options: UdpSocketOptions = {},
  ): UdpSocket {
    if (family === "ipv4" || family === "ipv6") return new UdpSocket(family, copyOptions(options));
    return new UdpSocket(toInetAddress(family).family, copyOptions(options));
  }

  /**
   * Opens a socket and binds it.
   *
   * @param address where to receive, or its text: "127.0.0.1:9000", "[::]:9000"; port 0 takes a
   * free one
   * @throws {SystemError} `EADDRINUSE` the port is taken; `EACCES` it needs a right;
   * `EADDRNOTAVAIL` not an address of ours
   * @see {@link https://man7.org/linux/man-pages/man2/bind.2.html | bind(2)}
   */
  static bind(address: Address | string, options: UdpSocketOptions = {}): UdpSocket {
    const local = toInetAddress(address);
    const udp = new UdpSocket(local.family, copyOptions(options));
    try {
      check(bind(udp.#fd, addressBytes(local)), "bind", { address: local });
      udp.#bound = udp.localAddress;
    } catch (error) {
      udp.close();
      throw error;
    }
    return udp;
  }

  private constructor(family: "ipv4" | "ipv6", options: UdpSocketOptions) {
    if (family === "ipv4" && options.ipv6Only) {
      throw new TypeError("Cannot make an IPv4 socket ipv6Only: expected an IPv6 one");
    }
    this.family = family;
    this.#requested = options;
    const domain = family === "ipv4" ? AF_INET : AF_INET6;
    this.#fd = check(socket(domain, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    try {
      this.#configure(options);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #configure(options: UdpSocketOptions): void {
    if (this.family === "ipv6")
      this.#set(IPPROTO_IPV6, IPV6_V6ONLY, Number(options.ipv6Only ?? false));
    if (options.reuseAddress) this.#set(SOL_SOCKET, SO_REUSEADDR, 1);
    if (options.reusePort) this.#set(SOL_SOCKET, SO_REUSEPORT, 1);
    if (options.broadcast) this.#set(SOL_SOCKET, SO_BROADCAST, 1);
    if (options.receiveBufferBytes !== undefined) {
      this.#setBuffer(SO_RCVBUFFORCE, SO_RCVBUF, options.receiveBufferBytes);
    }
    if (options.sendBufferBytes !== undefined)
      this.#setBuffer(SO_SNDBUFFORCE, SO_SNDBUF, options.sendBufferBytes);
  }

  #set(level: number, optionName: number, value: number): void {
    option[0] = value;
    check(setsockopt(this.#fd, level, optionName, option), "setsockopt");
  }

  // socket(7): the FORCE form needs CAP_NET_ADMIN and is not clamped; the plain one is, without an
  // error.
  #setBuffer(force: number, plain: number, bytes: number): void {
    option[0] = bytes;
    const result = setsockopt(this.#fd, SOL_SOCKET, force, option);
    if (result === -EPERM) this.#set(SOL_SOCKET, plain, bytes);
    else check(result, "setsockopt");
  }

  /**
   * Gives the socket a peer: `send` goes there, and only its datagrams are received from now on. No
   * packet is sent. Connecting again changes the peer, and forgets what an earlier one refused.
   * Datagrams that were queued before stay, whoever sent them.
   *
   * @throws {RangeError} the port is 0
   * @throws {SystemError} `ENETUNREACH` no route; `EACCES` a broadcast address without the option;
   * `EAFNOSUPPORT` an IPv6 address on an IPv4 socket
   * @see {@link https://man7.org/linux/man-pages/man2/connect.2.html | connect(2)}
   */
  connect(address: Address | string): void {
    const peer = toInetAddress(address);
    if (peer.port === 0) throw new RangeError(`Cannot connect to ${peer}: expected a port above 0`);
    check(connect(this.#fd, addressBytes(peer)), "connect", { address: peer, sending: true });
    this.#connected = true;
    this.#onlySender = undefined;
    check(getpeername(this.#fd, name, nameLength), "getpeername");
    this.#peer = name.slice(0, nameLength[0]);
    if (!isReady(this.#fd, POLLIN)) this.#onlySender = this.#peer;
    this.#forgetError();
  }

  // What an earlier peer refused would fail the next call, which has nothing to do with it.
  #forgetError(): void {
    check(getsockopt(this.#fd, SOL_SOCKET, SO_ERROR, option, nameLength), "getsockopt");
  }

  /**
   * Takes the peer away: the socket receives from everybody again. The address and port of `bind`
   * stay; those that `connect` chose are given back. Does nothing on a socket without a peer.
   *
   * An IPv6 socket hears every port of its former peer's host, but no other host: Linux does not
   * forget that part. Open another socket to receive from everybody.
   *
   * @throws {SystemError} `EADDRINUSE` the kernel had chosen the port for `bind`, gave it back, and
   * another process took it within these microseconds
   */
  disconnect(): void {
    this.#requireOpen("connect");
    if (!this.#connected) return;
    const unspecified = new Uint8Array(sockaddr.size);
    sockaddr.sa_family.set(new DataView(unspecified.buffer), 0, AF_UNSPEC);
    check(connect(this.#fd, unspecified), "connect");
    this.#connected = false;
    this.#onlySender = this.#peer = undefined;
    this.#forgetError();
    // Linux gives back every port that was not asked for by its number.
    const local = this.#bound;
    if (!local || this.localAddress.port !== 0) return;
    check(bind(this.#fd, addressBytes(local)), "bind", { address: local });
  }

  /** Whether the socket has a peer. */
  get connected(): boolean {
    return this.#connected;
  }

  /**
   * The address the socket has. Port 0 until it is bound, connected, or has sent.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/getsockname.2.html | getsockname(2)}
   */
  get localAddress(): Inet4Address | Inet6Address {
    check(getsockname(this.#fd, name, nameLength), "getsockname");
    return addressFromBytes(name.subarray(0, nameLength[0])) as InetAddress;
  }

  /**
   * The peer, or undefined without one.
   *
   * @throws {ClosedError} the socket is closed
   * @see {@link https://man7.org/linux/man-pages/man2/getpeername.2.html | getpeername(2)}
   */
  get remoteAddress(): Inet4Address | Inet6Address | undefined {
    const result = getpeername(this.#fd, name, nameLength);
    if (result === -ENOTCONN) return undefined;
    check(result, "getpeername");
    return addressFromBytes(name.subarray(0, nameLength[0])) as InetAddress;
  }

  /** The receive buffer: what was asked for, what there is, and whether that is less. */
  get receiveBuffer(): BufferSize {
    return this.#bufferSize(SO_RCVBUF, this.#requested.receiveBufferBytes);
  }

  /** The send buffer: what was asked for, what there is, and whether that is less. */
  get sendBuffer(): BufferSize {
    return this.#bufferSize(SO_SNDBUF, this.#requested.sendBufferBytes);
  }

  #bufferSize(optionName: number, requestedBytes: number | undefined): BufferSize {
    check(getsockopt(this.#fd, SOL_SOCKET, optionName, option, nameLength), "getsockopt");
    const effectiveBytes = (option[0] as number) / 2;
    return {
      requestedBytes,
      effectiveBytes,
      clamped: requestedBytes !== undefined && effectiveBytes < requestedBytes,
    };
  }

  /**
   * The descriptor, for the C calls of "bun-sockets/sys"; -1 when closed. It stays the socket's
   * own.
   */
  get descriptor(): number {
    return this.#fd;
  }

  /**
   * Sends one datagram to the peer, or answers at once.
   *
   * @param data a view of any part of any buffer; an empty one sends an empty datagram
   * @returns bytes sent, or undefined when the send buffer is full
   * @throws {SystemError} `EDESTADDRREQ` no peer; `ECONNREFUSED` an earlier datagram was refused,
   * this one was not sent; `EMSGSIZE` too long for UDP
   * @throws {TypeError} data is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man2/send.2.html | send(2)}
   */
  trySend(data: ArrayBufferView | ArrayBuffer, options?: FlagOptions): number | undefined {
    const flags = requireFlags(options?.flags, SEND_FLAGS) | MSG_DONTWAIT | MSG_NOSIGNAL;
    const view = toView(data, "data");
    for (;;) {
      const result = send(this.#fd, view, flags);
      if (result >= 0) return result;
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR) throw systemError(result, "send");
    }
  }

  /**
   * Sends one datagram to the peer, waiting for room in the send buffer.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySend
   */
  sendSync(data: ArrayBufferView | ArrayBuffer | string, options?: WaitOptions): number {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    const deadline = deadlineAfter(options?.timeoutMs);
    for (;;) {
      const sent = this.trySend(bytes, options);
      if (sent !== undefined) return sent;
      waitUntil(this.#fd, POLLOUT, deadline, "send");
    }
  }

  /**
   * Sends one datagram to an address, or answers at once.
   *
   * @param data a view of any part of any buffer; an empty one sends an empty datagram
   * @param address where to, or its text; text is read again at each call
   * @returns bytes sent, or undefined when the send buffer is full
   * @throws {SystemError} `ENETUNREACH` no route; `EMSGSIZE` too long; `EACCES` a broadcast address
   * without the option; `EINVAL` port 0
   * @throws {TypeError} data is no view of ordinary memory, or address is none
   * @see {@link https://man7.org/linux/man-pages/man2/sendto.2.html | sendto(2)}
   */
  trySendTo(
    data: ArrayBufferView | ArrayBuffer,
    address: Address | string,
    options?: FlagOptions,
  ): number | undefined {
    const destination = toInetAddress(address);
    const bytes = addressBytes(destination);
    const flags = requireFlags(options?.flags, SEND_FLAGS) | MSG_DONTWAIT | MSG_NOSIGNAL;
    const view = toView(data, "data");
    for (;;) {
      const result = sendto(this.#fd, view, flags, bytes);
      if (result >= 0) return result;
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR)
        throw systemError(result, "sendto", { address: destination, sending: true });
    }
  }

  /**
   * Sends one datagram to an address, waiting for room in the send buffer.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @returns bytes sent
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendTo
   */
  sendToSync(
    data: ArrayBufferView | ArrayBuffer | string,
    address: Address | string,
    options?: WaitOptions,
  ): number {
    const bytes = typeof data === "string" ? Buffer.from(data) : data;
    const destination = toInetAddress(address);
    const deadline = deadlineAfter(options?.timeoutMs);
    for (;;) {
      const sent = this.trySendTo(bytes, destination, options);
      if (sent !== undefined) return sent;
      waitUntil(this.#fd, POLLOUT, deadline, "sendto");
    }
  }

  /**
   * Receives one datagram into any part of any buffer, or answers at once. Whether it was cut is
   * not told: `receiveFrom` tells, and so does the flag `MSG_TRUNC`, with which the result is the
   * datagram's true length.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns bytes written (0 is an empty datagram), or undefined when nothing is waiting
   * @throws {SystemError} `ECONNREFUSED` the peer of a connected socket refused an earlier
   * datagram; told once, and nothing is lost
   * @throws {TypeError} target is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man2/recv.2.html | recv(2)}
   */
  tryReceive(target: ArrayBufferView, options?: FlagOptions): number | undefined {
    // Options first: reading them can run the caller's code, which could detach the target.
    const flags = requireFlags(options?.flags, RECEIVE_FLAGS) | MSG_DONTWAIT;
    requireView(target, "target");
    for (;;) {
      const result = recv(this.#fd, target, flags);
      if (result >= 0) return result;
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR) throw systemError(result, "recv");
    }
  }

  /**
   * Receives one datagram into any part of any buffer, waiting for it.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns bytes written; 0 is an empty datagram
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceive
   */
  receiveSync(target: ArrayBufferView, options?: WaitOptions): number {
    const deadline = deadlineAfter(options?.timeoutMs);
    for (;;) {
      const length = this.tryReceive(target, options);
      if (length !== undefined) return length;
      waitUntil(this.#fd, POLLIN, deadline, "recv");
    }
  }

  /**
   * Receives one datagram and who sent it, or answers at once. Allocates the result: batches do
   * not.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @returns undefined when nothing is waiting
   * @throws {SystemError} as tryReceive
   * @throws {TypeError} target is no view of ordinary memory
   * @see {@link https://man7.org/linux/man-pages/man2/recvfrom.2.html | recvfrom(2)}
   */
  tryReceiveFrom(target: ArrayBufferView, options?: FlagOptions): ReceivedFrom | undefined {
    // MSG_TRUNC as an input flag makes recvfrom return the true length, from which truncation can
    // be told.
    const flags = requireFlags(options?.flags, RECEIVE_FLAGS) | MSG_DONTWAIT | MSG_TRUNC;
    requireView(target, "target");
    for (;;) {
      const result = recvfrom(this.#fd, target, flags, name, nameLength);
      if (result >= 0) return this.#receivedFrom(result, byteLengthOf(target));
      if (result === -EAGAIN) return undefined;
      if (result !== -EINTR) throw systemError(result, "recvfrom");
    }
  }

  #receivedFrom(originalLength: number, room: number): ReceivedFrom {
    this.#senders ??= new SenderTable(PEERS_MAX);
    const sender = this.#senders.number(nameWords, 0, nameLength[0] as number);
    const address = this.#senders.address(sender) as InetAddress;
    const truncated = originalLength > room;
    return {
      length: truncated ? room : originalLength,
      address,
      flags: truncated ? MSG_TRUNC : 0,
      originalLength,
    };
  }

  /**
   * Receives one datagram and who sent it, waiting for it.
   *
   * @param target overwritten; an empty one takes a datagram off the queue unread
   * @throws {TimeoutError} none came in time
   * @throws {SystemError} as tryReceive
   */
  receiveFromSync(target: ArrayBufferView, options?: WaitOptions): ReceivedFrom {
    const deadline = deadlineAfter(options?.timeoutMs);
    for (;;) {
      const received = this.tryReceiveFrom(target, options);
      if (received !== undefined) return received;
      waitUntil(this.#fd, POLLIN, deadline, "recvfrom");
    }
  }

  /**
   * Sends the slots of a batch, or as many as fit the send buffer now. A connected socket sends all
   * to its peer; any other sends each slot to its `address`: after a receive that is who sent it.
   *
   * A slot that cannot be sent harms no other: it is passed over, `batch.failed` counts it and
   * `batch.failure(i)` tells why. What concerns them all stops the call: see `batch.stopped`.
   *
   * @param first the slot to start with, 0 to `batch.count`
   * @returns datagrams sent
   * @throws {TypeError} batch is none, or was freed
   * @throws {RangeError} first is out of range
   * @see {@link https://man7.org/linux/man-pages/man2/sendmmsg.2.html | sendmmsg(2)}
   */
  trySendBatch(batch: DatagramBatch, first = 0, options?: FlagOptions): number {
    requireBatch(batch);
    const flags = requireFlags(options?.flags, SEND_BATCH_FLAGS);
    this.#requireOpen("sendmmsg");
    prepareSend(batch, first, this.#connected);
    return sendFrom(batch, this.#fd, first, flags);
  }

  /**
   * Sends the slots of a batch, waiting for room in the send buffer.
   *
   * @param first the slot to start with, 0 to `batch.count`
   * @returns datagrams sent; fewer than there are when some failed, or when `batch.stopped` tells
   * of an error that waiting does not cure
   * @throws {TimeoutError} there was no room in time; `transferred` counts what was sent,
   * `batch.stopped` tells from where
   */
  sendBatchSync(batch: DatagramBatch, first = 0, options?: WaitOptions): number {
    requireBatch(batch);
    const flags = requireFlags(options?.flags, SEND_BATCH_FLAGS);
    const deadline = deadlineAfter(options?.timeoutMs);
    this.#requireOpen("sendmmsg");
    prepareSend(batch, first, this.#connected);
    let sent = sendFrom(batch, this.#fd, first, flags);
    for (let next = waitsFrom(batch); next >= 0; next = waitsFrom(batch)) {
      waitUntil(this.#fd, POLLOUT, deadline, "sendmmsg", sent);
      sent += sendFrom(batch, this.#fd, next, flags);
    }
    return sent;
  }

  /**
   * Fills a batch from slot 0 with the datagrams that are waiting, and sets its `count`. With
   * `MSG_PEEK` it gets the first one only: the kernel would put the same into every slot.
   *
   * @returns datagrams received; 0 when nothing is waiting
   * @throws {SystemError} `ECONNREFUSED` the peer of a connected socket refused an earlier
   * datagram; told once, and nothing is lost
   * @throws {TypeError} batch is none, or was freed
   * @see {@link https://man7.org/linux/man-pages/man2/recvmmsg.2.html | recvmmsg(2)}
   */
  tryReceiveBatch(batch: DatagramBatch, options?: FlagOptions): number {
    requireBatch(batch);
    const flags = requireFlags(options?.flags, RECEIVE_FLAGS);
    this.#requireOpen("recvmmsg");
    for (;;) {
      const result = receiveInto(batch, this.#fd, flags, this.#onlySender);
      if (result >= 0) return result;
      if (result === -EAGAIN) {
        // The queue is empty: what comes from now on has passed the kernel's check of the sender.
        this.#onlySender = this.#peer;
        return 0;
      }
      if (result !== -EINTR) throw systemError(result, "recvmmsg");
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
    const deadline = deadlineAfter(options?.timeoutMs);
    for (;;) {
      const count = this.tryReceiveBatch(batch, options);
      if (count > 0) return count;
      waitUntil(this.#fd, POLLIN, deadline, "recvmmsg");
    }
  }

  /**
   * Closes the socket: its port is free at once, what was not received is lost. Does nothing the
   * second time. Every other call fails with a ClosedError from then on.
   */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#connected = false;
    // close(2): the descriptor is gone even when it reports an error, and there is nothing a caller
    // could do.
    close(fd);
  }

  // A call with one datagram need not ask: the kernel refuses -1 before it looks at anything else.
  #requireOpen(syscall: string): void {
    if (this.#fd < 0) throw new ClosedError(syscall);
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }
}

// Read once and checked before anything is opened.
function copyOptions(options: UdpSocketOptions): UdpSocketOptions {
  const { receiveBufferBytes, sendBufferBytes, reuseAddress, reusePort, ipv6Only, broadcast } =
    options;
  if (receiveBufferBytes !== undefined)
    requireInteger(receiveBufferBytes, 1, INT_MAX, "receiveBufferBytes");
  if (sendBufferBytes !== undefined) requireInteger(sendBufferBytes, 1, INT_MAX, "sendBufferBytes");
  for (const [key, value] of Object.entries({ reuseAddress, reusePort, ipv6Only, broadcast })) {
    if (value === undefined || typeof value === "boolean") continue;
    throw new TypeError(`Cannot use a value of type ${typeof value} as ${key}: expected a boolean`);
  }
  return { receiveBufferBytes, sendBufferBytes, reuseAddress, reusePort, ipv6Only, broadcast };
}

function requireBatch(batch: DatagramBatch): void {
  if (!(batch instanceof DatagramBatch))
    throw new TypeError("Cannot use this as a batch: expected a DatagramBatch");
}
