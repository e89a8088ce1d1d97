import { IPPROTO_UDP } from "../structs/constants/netinet_in.ts";
import { AF_INET, AF_INET6, SOCK_DGRAM } from "../structs/constants/sys_socket.ts";
import { type Address, type InetAddress, toInetAddress } from "./address.ts";
import { adoptParts, copyOptions, type Kind, openParts, orClose } from "./internal/parts.ts";
import { type AdoptOptions, duplicateParts, Socket, type SocketOptions } from "./socket.ts";

/** What a UdpSocket can be told when it is made: set between socket(2) and bind(2). */
export interface UdpSocketOptions extends SocketOptions {}

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
export class UdpSocket extends Socket<InetAddress, InetAddress> {
  /**
   * "ipv4" or "ipv6". An IPv6 socket carries IPv4 too, as mapped addresses, unless made `ipv6Only`.
   */
  declare readonly family: "ipv4" | "ipv6";
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
  static override adopt(descriptor: number, options: AdoptOptions = {}): UdpSocket {
    return new UdpSocket(adoptParts(descriptor, options, KIND));
  }

  static #open(
    family: "ipv4" | "ipv6",
    options: UdpSocketOptions,
    work: (udp: UdpSocket) => void,
  ): UdpSocket {
    const domain = family === "ipv4" ? AF_INET : AF_INET6;
    const copy = copyOptions(options, domain);
    const udp = new UdpSocket(openParts(domain, SOCK_DGRAM, 0, copy));
    return orClose(udp, () => {
      copy.configure?.(udp);
      work(udp);
    });
  }

  /** Makes a second socket for the same open socket: see `Socket.duplicate`. */
  override duplicate(): UdpSocket {
    return new UdpSocket(duplicateParts(this));
  }
}
