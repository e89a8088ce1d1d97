import { IPPROTO_UDP } from "../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6, SOCK_DGRAM } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toInetAddress } from "./address.ts";
import type { Descriptor } from "./internal/descriptor.ts";
import { loadZeroCopy } from "./internal/lazy_errors.ts";
import { loadOffload } from "./internal/lazy_offload.ts";
import { adoptParts, copyOptions, type Kind, openParts, orClose } from "./internal/parts.ts";
import { copyReports, type DatagramMetadata, IpSocket } from "./ip_socket.ts";
import type {
  Offload,
  SegmentAsyncOptions,
  SegmentOptions,
  SegmentPayload,
  SegmentWaitOptions,
} from "./offload.ts";
import type { ReceivedDescriptor } from "./received_descriptor.ts";
import {
  type AdoptOptions,
  descriptorOf,
  duplicateParts,
  foundFull,
  offloadOf,
  type SocketOptions,
  zeroCopySenderOf,
} from "./socket.ts";
import type {
  ZeroCopyLease,
  ZeroCopyOptions,
  ZeroCopyState,
  ZeroCopyTryOptions,
  ZeroCopyWaitOptions,
} from "./zero_copy.ts";

/** What a UdpSocket can be told when it is made: set between socket(2) and bind(2). */
export interface UdpSocketOptions extends SocketOptions {
  /** Whether errors of the network are queued: see `Socket.queueErrors`. Default false. */
  readonly queueErrors?: boolean | undefined;
  /**
   * What the kernel is to tell of each datagram beside its payload, from the first one on; of an IPv6
   * socket that carries IPv4 also of that. A `DatagramBatch` tells it by slot, a `Message` among its
   * control messages. The 256 `controlBytes` that a batch has by default hold all of it. Default
   * nothing.
   *
   * Each is an option, or two, that can be set by itself and later, too; but what has come until then
   * may be told of in part only. An option that this kernel does not have, or not to us, fails the
   * call as `setOption` does, and nothing is opened.
   *
   * @example A server on all addresses of a machine, over IPv4 and IPv6
   * ```ts
   * import { DatagramBatch, UdpSocket } from "bun-sockets";
   *
   * const metadata = ["destination", "trafficClass"] as const;
   * using server = UdpSocket.bind("[::]:0", { metadata });
   * using client = UdpSocket.open("ipv4");
   * client.sendToSync("ping", `127.0.0.2:${server.localAddress.port}`);
   *
   * using batch = new DatagramBatch();
   * server.receiveBatchSync(batch, { timeoutMs: 1000 });
   * console.log(batch.destination(0)?.host, batch.ecn(0)); // ::ffff:127.0.0.2 0
   * batch.reply(); // from there
   * server.trySendBatch(batch);
   * const { address } = await client.receiveFrom(new Uint8Array(4));
   * console.log(address.host); // 127.0.0.2
   * ```
   */
  readonly metadata?: readonly DatagramMetadata[] | undefined;
}

const KIND: Kind = {
  name: "a UDP socket",
  accepts: (domain, type, protocol) =>
    (domain === AF_INET || domain === AF_INET6) && type === SOCK_DGRAM && protocol === IPPROTO_UDP,
};

/**
 * A UDP socket over IPv4 or IPv6. What the kernel says about one datagram harms no other: see
 * `DatagramBatch.failure`.
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
export class UdpSocket extends IpSocket {
  /** "datagram". */
  declare readonly type: "datagram";

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
    const named = family === "ipv4" || family === "ipv6";
    const opened = named ? family : toInetAddress(family).family;
    return UdpSocket.#open(opened, options, () => {});
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
  static override bind(address: Address | string, options: UdpSocketOptions = {}): UdpSocket {
    const local = toInetAddress(address);
    return UdpSocket.#open(local.family, options, (udp) => udp.bind(local));
  }

  /**
   * Makes a UdpSocket of an open descriptor: see `Socket.adopt`.
   *
   * @throws {TypeError} it is no UDP socket; or, with `own`, another socket of this thread owns it
   * @throws {SystemError} `ENOTSOCK` it is no socket; `EBADF` (ClosedError) it is not open
   */
  static override adopt(
    descriptor: number | ReceivedDescriptor,
    options: AdoptOptions = {},
  ): UdpSocket {
    return new UdpSocket(adoptParts(descriptor, options, KIND));
  }

  static #open(
    family: "ipv4" | "ipv6",
    options: UdpSocketOptions,
    work: (udp: UdpSocket) => void,
  ): UdpSocket {
    const domain = family === "ipv4" ? AF_INET : AF_INET6;
    const copy = copyOptions(options, domain);
    const askForReports = copyReports(options);
    const udp = new UdpSocket(openParts(domain, SOCK_DGRAM, 0, copy));
    return orClose(udp, () => {
      askForReports(udp, copy.ipv6Only === true);
      copy.configure?.(udp);
      work(udp);
    });
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UdpSocket {
    return new UdpSocket(duplicateParts(this));
  }

  /**
   * What is known of segmentation offload on this socket: the longest trains, how many were sent, and
   * which destinations get none, and why.
   */
  get offload(): Offload {
    return offloadOf(this).shown;
  }

  /**
   * Sends many datagrams at once, or as many as there is room for: the cheapest way to send them. The
   * kernel gets them as trains of equal datagrams, which it cuts apart at the last moment (UDP_SEGMENT,
   * Linux 4.18). What it refuses as a train goes out datagram by datagram, at once: see `offload`.
   *
   * @param payload one payload, cut into datagrams of `segmentBytes`, the last of which may be shorter
   * (an empty payload is one empty datagram); or a list of views of any lengths, each of which is a
   * datagram: those of equal length that follow each other, and a shorter one after them, are a train
   * @param options segmentBytes, and where to; default the peer
   * @returns bytes sent, of whole datagrams; undefined when there is no room for the first
   * @throws {SystemError} as trySendTo, and trySend without `to`; `transferred` counts the bytes that
   * were sent before. That an earlier datagram was refused is told before anything is sent only
   * @throws {TypeError} a payload is no view of ordinary memory, or `to` is no IP address; one payload
   * without segmentBytes, or a list with it
   * @throws {RangeError} segmentBytes is not 1 to 65535
   * @see {@link https://man7.org/linux/man-pages/man7/udp.7.html | udp(7), UDP_SEGMENT}
   *
   * @example 50 datagrams in one call
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using receiver = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: 200_000 });
   * using socket = UdpSocket.open("ipv4");
   * const payload = new Uint8Array(50 * 1200);
   * const sent = socket.trySendSegments(payload, { segmentBytes: 1200, to: receiver.localAddress });
   * console.log(sent, socket.offload.trains, socket.offload.segments); // 60000 1 50
   * console.log(receiver.receiveSync(new Uint8Array(1500))); // 1200
   * ```
   */
  trySendSegments(payload: SegmentPayload, options: SegmentOptions = {}): number | undefined {
    const descriptor = descriptorOf(this) as Descriptor;
    const offload = offloadOf(this);
    const sent = loadOffload().trySendSegments(descriptor, offload, payload, options);
    if (offload.isFull) foundFull(this);
    return sent;
  }

  /**
   * Sends many datagrams at once, as `trySendSegments`, waiting for room.
   *
   * @returns bytes sent: all
   * @throws {TimeoutError} there was no room in time; `transferred` counts the bytes that were sent
   * @throws {SystemError} as trySendSegments
   */
  sendSegmentsSync(payload: SegmentPayload, options: SegmentWaitOptions = {}): number {
    const descriptor = descriptorOf(this) as Descriptor;
    return loadOffload().sendSegmentsSync(descriptor, offloadOf(this), payload, options);
  }

  /**
   * Sends many datagrams at once, as `trySendSegments`, waiting for room; the promise form of
   * `sendSegmentsSync`. Nothing is copied: the payload must stay as it is until the call is answered.
   *
   * @returns bytes sent: all
   * @throws {TimeoutError} there was no room in time; `transferred` counts the bytes that were sent
   * @throws {ClosedError} the socket was closed; `transferred` counts the bytes that were sent before
   * @throws {SystemError} as trySendSegments
   */
  sendSegments(payload: SegmentPayload, options: SegmentAsyncOptions = {}): Promise<number> {
    const descriptor = descriptorOf(this) as Descriptor;
    return loadOffload().sendSegments(descriptor, offloadOf(this), payload, options);
  }

  /**
   * Sends one datagram without a copy (`MSG_ZEROCOPY`), or answers at once: the kernel reads the
   * caller's memory itself, and the lease that comes back tells when it is done with it. Until then
   * the data must stay as it is. It pays from some 10,000 bytes on, and not on loopback: see
   * `zeroCopy`. Where it is not possible, or does not pay, the data is copied as by a plain send, and
   * its lease is released at once.
   *
   * @param data a view of any part of any buffer
   * @param options where to, if not to the peer
   * @returns the lease, or undefined when there is no room
   * @throws {SystemError} as trySend and trySendTo
   * @throws {TypeError} data is no view of ordinary memory, or the address is none
   * @see {@link https://docs.kernel.org/networking/msg_zerocopy.html | MSG_ZEROCOPY}
   */
  trySendZeroCopy(
    data: ArrayBufferView | ArrayBuffer,
    options: ZeroCopyTryOptions<InetAddress> = {},
  ): ZeroCopyLease | undefined {
    return loadZeroCopy().trySendZeroCopy(zeroCopySenderOf(this), data, options) ?? foundFull(this);
  }

  /**
   * Sends one datagram without a copy, waiting for room.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   */
  sendZeroCopySync(
    data: ArrayBufferView | ArrayBuffer | string,
    options: ZeroCopyWaitOptions<InetAddress> = {},
  ): ZeroCopyLease {
    return loadZeroCopy().sendZeroCopySync(zeroCopySenderOf(this), data, options);
  }

  /**
   * Sends one datagram without a copy, waiting for room; the promise form of `sendZeroCopySync`.
   *
   * @param data a view of any part of any buffer, or a string as UTF-8
   * @throws {TimeoutError} there was no room in time; nothing was sent
   * @throws {SystemError} as trySendZeroCopy
   *
   * @example The memory may be used again when the kernel says so
   * ```ts
   * import { UdpSocket } from "bun-sockets";
   *
   * using server = UdpSocket.bind("127.0.0.1:0");
   * using client = UdpSocket.open("ipv4");
   * const data = new Uint8Array(60_000);
   * const lease = await client.sendZeroCopy(data, { to: server.localAddress });
   * const { copied } = await lease.whenReleased;
   * console.log(lease.bytes, copied); // 60000 true
   * console.log(client.zeroCopy.sends, client.zeroCopy.copied); // 1 1
   * ```
   */
  sendZeroCopy(
    data: ArrayBufferView | ArrayBuffer | string,
    options: ZeroCopyOptions<InetAddress> = {},
  ): Promise<ZeroCopyLease> {
    try {
      return loadZeroCopy().sendZeroCopy(zeroCopySenderOf(this), data, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** How sends without a copy go, and whether the next one is tried without. */
  get zeroCopy(): ZeroCopyState {
    return loadZeroCopy().stateOf(zeroCopySenderOf(this));
  }
}
