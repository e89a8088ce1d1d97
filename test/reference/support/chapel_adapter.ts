/**
 * The names of Chapel's `Socket` module on our API. The three kinds of socket are ours; what are
 * methods there are functions here that take the socket first.
 *
 * @module
 */
import {
  type AddressParts,
  addressFrom,
  ClosedError,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  SocketOption,
  SystemError,
  TcpListener,
  TcpOption,
  TcpSocket,
  UdpSocket,
} from "bun-sockets";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  close,
  getpeername,
  htonl,
  htons,
  INADDR_ANY,
  INADDR_BROADCAST,
  INADDR_LOOPBACK,
  inet_ntoa,
  inet_ntop,
  inet_pton,
  SOMAXCONN,
} from "bun-sockets/sys";
import { chosen, PATIENCE_MS, type Variants } from "./rows.ts";

/** `tcpConn`. */
export type Conn = TcpSocket;
/** `tcpListener`. */
export type Listener = TcpListener;
/** `udpSocket`. */
export type Udp = UdpSocket;
/** An address and its port are one value, as in ours. */
export type IpAddr = InetAddress;

/** `struct_timeval`, or seconds as a real number. */
export type Timeout = number | { readonly tv_sec: number; readonly tv_usec: number };

export const IPFamily = { IPv4: AF_INET, IPv6: AF_INET6, IPUnspec: AF_UNSPEC } as const;
const FAMILIES: Readonly<Record<number, "ipv4" | "ipv6">> = {
  [AF_INET]: "ipv4",
  [AF_INET6]: "ipv6",
};

/** `sys_in_addr_t` and `ipv4Addr`: 32 bits in host byte order, as everywhere in `bun-sockets/sys`. */
export const IPv4Any = INADDR_ANY;
export const IPv4Broadcast = INADDR_BROADCAST;
export const IPv4Localhost = INADDR_LOOPBACK;
/** `sys_in6_addr_t` and `ipv6Addr`: 128 bits. */
export const in6addr_any = inet_pton(AF_INET6, Inet6Address.any.host) as bigint;
export const in6addr_loopback = inet_pton(AF_INET6, Inet6Address.loopback.host) as bigint;
export const IPv6Any = in6addr_any;
export const IPv6Localhost = in6addr_loopback;

export const indefiniteTimeout: Timeout = { tv_sec: -1, tv_usec: 0 };
export const backlogDefault = Math.min(SOMAXCONN, 128);

/** Ours: undefined is no limit. */
function limit(timeout: Timeout): { timeoutMs: number | undefined } {
  if (typeof timeout === "number") return { timeoutMs: timeout * 1000 };
  if (timeout.tv_sec === -1) return { timeoutMs: undefined };
  return { timeoutMs: timeout.tv_sec * 1000 + timeout.tv_usec / 1000 };
}

const sound = {
  /** `ipAddr.create` */
  create(host = "127.0.0.1", port = 8000, family: number = IPFamily.IPv4): IpAddr {
    return addressFrom({ family: FAMILIES[family], host, port } as AddressParts) as IpAddr;
  },

  /** `ipAddr.ipv4` */
  ipv4(host: number, port = 8000): IpAddr {
    return new Inet4Address(inet_ntoa(host), port);
  },

  /** `ipAddr.ipv6` */
  ipv6(host: bigint, port = 8000): IpAddr {
    return new Inet6Address(inet_ntop(AF_INET6, host), port);
  },

  /** `tcpConn.socketFd` */
  connFd(conn: Conn): number {
    if (conn.descriptor < 0) throw new ClosedError("socketFd");
    return conn.descriptor;
  },

  /** `tcpListener.socketFd`, `udpSocket.socketFd` */
  socketFd(socket: Listener | Udp): number {
    return socket.descriptor;
  },

  // The defaults are ours, and the same.
  listen(address: IpAddr, reuseAddr?: boolean, backlog?: number): Listener {
    return TcpListener.listen(address, { reuseAddress: reuseAddr, backlog });
  },

  /** `tcpListener.accept` */
  accept(listener: Listener, timeout: Timeout = indefiniteTimeout): Conn {
    return listener.acceptSync(limit(timeout));
  },

  connect(address: IpAddr, timeout: Timeout = indefiniteTimeout): Conn {
    return TcpSocket.connectSync(address, limit(timeout));
  },

  /** `connect` with a host, and a service or port: the timeout is for each address. */
  connectTo(
    host: string,
    service: string | number,
    family: number = IPFamily.IPUnspec,
    timeout: Timeout = indefiniteTimeout,
  ): Conn {
    const { timeoutMs: attemptTimeoutMs } = limit(timeout);
    return TcpSocket.connectSync(host, service, { family: FAMILIES[family], attemptTimeoutMs });
  },

  /** `tcpListener.close`, `udpSocket.close` */
  close(socket: Conn | Listener | Udp): void {
    // Our own close() does nothing the second time.
    const result = close(socket.detach());
    if (result < 0) throw new SystemError(result, "close");
  },

  /** `deinit` */
  deinit(socket: Disposable): void {
    socket[Symbol.dispose]();
  },

  /** `tcpListener.addr` */
  listenerAddr(listener: Listener): IpAddr {
    return listener.localAddress;
  },

  setNagle(socket: Conn | Listener, enable: boolean): void {
    socket.setOption(TcpOption.noDelay, !enable);
  },

  setDelayAck(socket: Conn | Listener, enable: boolean): void {
    socket.setOption(TcpOption.quickAck, !enable);
  },

  /** `new udpSocket` */
  udpSocket(family: number = IPFamily.IPv4): Udp {
    return UdpSocket.open(FAMILIES[family] ?? `${family}`);
  },

  recvfrom(
    udp: Udp,
    bufferLen: number,
    timeout: Timeout = indefiniteTimeout,
    flags = 0,
  ): [data: Uint8Array, address: IpAddr] {
    const buffer = new Uint8Array(bufferLen);
    const { length, address } = udp.receiveFromSync(buffer, { ...limit(timeout), flags });
    return [buffer.subarray(0, length), address];
  },

  recv(udp: Udp, bufferLen: number, timeout: Timeout = indefiniteTimeout): Uint8Array {
    return udp.receiveBytesSync(bufferLen, limit(timeout));
  },

  send(udp: Udp, data: Uint8Array, address: IpAddr, timeout: Timeout = indefiniteTimeout): number {
    return udp.sendToSync(data, address, limit(timeout));
  },

  setSockOpt(
    socket: Conn | Listener | Udp,
    level: number,
    optname: number,
    value: number | Uint8Array | null,
    optlen = 0,
  ): void {
    if (value === null) socket.setRawOption(level, optname, null, optlen);
    else socket.setRawOption(level, optname, value);
  },

  getSockOpt(socket: Conn | Listener | Udp, level: number, optname: number): number {
    return socket.getRawOption(level, optname);
  },

  /** `getSockOpt` with `buflen` */
  getSockOptBytes(
    socket: Conn | Listener | Udp,
    level: number,
    optname: number,
    buflen: number,
  ): Uint8Array {
    return socket.getRawOption(level, optname, buflen);
  },

  /** `getPeerName`, `tcpConn.addr` */
  getPeerName(conn: Conn): IpAddr {
    const peer = conn.remoteAddress;
    if (peer) return peer;
    // Ours says undefined; the kernel says why.
    throw new SystemError(
      getpeername(conn.descriptor, new Uint8Array(28), new Uint32Array(1)),
      "getpeername",
    );
  },

  getSockName(socket: Conn | Listener | Udp): IpAddr {
    return socket.localAddress;
  },

  bind(socket: Conn | Listener | Udp, address: IpAddr, reuseAddr = true): void {
    socket.setOption(SocketOption.reuseAddress, reuseAddr);
    socket.bind(address);
  },
};

// Who waits for what does not come is not to wait for long.
function shorter(timeout: Timeout = indefiniteTimeout): Timeout {
  return Math.min(limit(timeout).timeoutMs ?? PATIENCE_MS, PATIENCE_MS) / 1000;
}

function toMilliseconds(timeout: Timeout = indefiniteTimeout): Timeout {
  return typeof timeout === "number" ? timeout / 1000 : timeout;
}

// So that nobody collects them.
const leaked: unknown[] = [];

export type Chapel = typeof sound;

/** The broken adapters, and the rows that must notice each. */
export const chapelVariants: Variants<Chapel> = {
  "numbers in network byte order": {
    breaks: {
      create: (host, port = 8000, family) => sound.create(host, htons(port), family),
      ipv4: (host, port) => sound.ipv4(htonl(host), port),
    },
    rows: ["chapel-05", "chapel-10", "chapel-12", "chapel-16", "chapel-17", "chapel-24"],
  },
  "a swallowed error": {
    breaks: {
      connect(address, timeout) {
        try {
          return sound.connect(address, timeout);
        } catch {
          return TcpSocket.open(address);
        }
      },
      setSockOpt(...values) {
        try {
          sound.setSockOpt(...values);
        } catch {}
      },
    },
    rows: [
      "chapel-35",
      "chapel-44",
      "chapel-45",
      "chapel-62",
      "chapel-67",
      "chapel-70",
      "chapel-77",
    ],
  },
  "an ignored flag": {
    breaks: {
      recvfrom: (udp, bufferLen, timeout) => sound.recvfrom(udp, bufferLen, shorter(timeout)),
      bind: (socket, address) => sound.bind(socket, address),
      listen: (address, _reuseAddr, backlog) => sound.listen(address, true, backlog),
    },
    rows: ["chapel-43", "chapel-56", "chapel-57", "chapel-82"],
  },
  "a leaked descriptor": {
    breaks: {
      connect(address, timeout) {
        const conn = TcpSocket.open(address);
        leaked.push(conn);
        conn.connectSync(address, limit(timeout ?? indefiniteTimeout));
        return conn;
      },
      accept(listener, timeout) {
        const conn = sound.accept(listener, timeout);
        leaked.push(conn.duplicate());
        return conn;
      },
    },
    rows: ["chapel-36", "chapel-37", "chapel-40", "chapel-44", "chapel-45", "chapel-46"],
  },
  "seconds taken for milliseconds": {
    breaks: {
      accept: (listener, timeout) => sound.accept(listener, toMilliseconds(timeout)),
      connect: (address, timeout) => sound.connect(address, toMilliseconds(timeout)),
      recvfrom: (udp, bufferLen, timeout, flags) =>
        sound.recvfrom(udp, bufferLen, toMilliseconds(timeout), flags),
      recv: (udp, bufferLen, timeout) => sound.recv(udp, bufferLen, toMilliseconds(timeout)),
    },
    rows: ["chapel-37", "chapel-46", "chapel-57", "chapel-59"],
  },
  "a flag the wrong way round": {
    breaks: {
      setNagle: (socket, enable) => sound.setNagle(socket, !enable),
      setDelayAck: (socket, enable) => sound.setDelayAck(socket, !enable),
    },
    rows: ["chapel-31", "chapel-32", "chapel-40", "chapel-41"],
  },
};

export const chapel: Chapel = chosen("chapel", sound, chapelVariants);
