/**
 * The names of Guile's network sockets on our API. A socket port is a Socket of ours; addresses are
 * integers in host byte order, and pairs are arrays of two.
 *
 * @module
 */
import {
  type Address,
  Inet4Address,
  Inet6Address,
  IpOption,
  type Option,
  protocolByName,
  Socket,
  SocketOption,
  SystemError,
  TcpSocket,
  UnixAddress,
  UnixSocket,
} from "bun-sockets";
import { ip_mreq } from "bun-sockets/structs";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  accept4,
  EAGAIN,
  getpeername,
  htonl,
  htons,
  IP_ADD_MEMBERSHIP,
  IP_DROP_MEMBERSHIP,
  IP_MULTICAST_IF,
  IPPROTO_IP,
  inet_ntop,
  inet_pton,
  MSG_DONTWAIT,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SO_LINGER,
  SO_RCVTIMEO,
  SO_SNDTIMEO,
  SO_TYPE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { chosen, PATIENCE_MS, type Variants } from "./rows.ts";

/** A socket port. */
export type Port = Socket;
/** `(CAR . CDR)`. */
export type Pair<Car = number, Cdr = number> = readonly [car: Car, cdr: Cdr];
/** `sockaddr`, or what `make-socket-address` takes. */
export type Destination =
  | readonly [sockaddr: Address]
  | readonly [family: number, address: number | bigint | string, ...rest: readonly number[]];
/** The same, and the flags of `sendto` behind it. */
export type DestinationAndFlags = Destination | readonly [sockaddr: Address, flags: number];

export const PF_UNIX = AF_UNIX;
export const PF_INET = AF_INET;
export const PF_INET6 = AF_INET6;
/** Conflict X5: Linux has the name SO_TYPE alone. */
export const SO_STYLE = SO_TYPE;
export const IN6ADDR_LOOPBACK = inet_pton(AF_INET6, Inet6Address.loopback.host) as bigint;

/** What `setvbuf` puts in front of a port, and which the direct calls pass by. */
export interface Buffered extends Disposable {
  readonly reader: ReturnType<UnixSocket["reader"]>;
  readonly writer: ReturnType<UnixSocket["writer"]>;
}

/** Guile waits for ever; a test does not. */
const WAIT = { timeoutMs: PATIENCE_MS };

// What is a property of a port there is the choice of another call in ours.
const nonblocking = new WeakSet<Port>();

const DIRECTIONS = { [SHUT_RD]: "read", [SHUT_WR]: "write", [SHUT_RDWR]: "both" } as const;
// How many arguments make-socket-address takes behind the family.
const ARITY: Readonly<Record<number, number>> = { [AF_UNIX]: 1, [AF_INET]: 2, [AF_INET6]: 4 };

function addressAndFlags(destination: DestinationAndFlags): [address: Address, flags: number] {
  const [first, ...rest] = destination;
  if (typeof first !== "number") return [first, (rest[0] as number) ?? 0];
  const arity = ARITY[first] ?? rest.length;
  const parts = rest.slice(0, arity) as [number | bigint | string, ...number[]];
  return [guile.makeSocketAddress(first, ...parts), (rest[arity] as number) ?? 0];
}

function requirePair(value: unknown): asserts value is Pair {
  const isPair = Array.isArray(value) && value.length === 2;
  if (!isPair || !value.every((part) => typeof part === "number"))
    throw new TypeError("Expected a pair of integers");
}

/** Says what Guile throws where ours gives undefined. */
function orAgain<Result>(result: Result | undefined, syscall: string): Result {
  if (result === undefined) throw new SystemError(EAGAIN, syscall);
  return result;
}

function answersAtOnce(sock: Port, flags: number): boolean {
  return nonblocking.has(sock) || (flags & MSG_DONTWAIT) !== 0;
}

// Conflict X1: what is a timeval goes as one.
const TIMEOUTS: Readonly<Record<number, Option<number, "get set">>> = {
  [SO_RCVTIMEO]: SocketOption.receiveTimeoutMs,
  [SO_SNDTIMEO]: SocketOption.sendTimeoutMs,
};

const sound = {
  socket(family: number, style: number, proto: number): Port {
    return Socket.create(family, style, { protocol: proto });
  },

  socketpair(family: number, style: number, proto: number): Pair<Port, Port> {
    return Socket.pair({ family, type: style, protocol: proto });
  },

  /** `(fcntl sock F_SETFL O_NONBLOCK)` */
  setNonblocking(sock: Port): void {
    nonblocking.add(sock);
  },

  /** `(setvbuf port 'block size)`: a stream with a buffer, over the same open socket. */
  setvbuf(sock: Port, size: number): Buffered {
    const { descriptor } = sock;
    const port =
      sock.family === "unix" ? UnixSocket.adopt(descriptor) : TcpSocket.adopt(descriptor);
    return {
      reader: port.reader({ bufferBytes: size }),
      writer: port.writer({ bufferBytes: size }),
      [Symbol.dispose]: () => port.close(),
    };
  },

  /** `getprotobyname`: false where Guile throws "no such protocol". */
  getprotobyname(name: string): number | false {
    return protocolByName(name)?.number ?? false;
  },

  /** `close-port` */
  closePort(sock: Port): void {
    sock.close();
  },

  getsockopt(sock: Port, level: number, optname: number): number | Pair {
    if (level === SOL_SOCKET && optname === SO_LINGER) {
      const ms = sock.getOption(SocketOption.lingerMs);
      return [Number(ms !== undefined), (ms ?? 0) / 1000];
    }
    const timeout = level === SOL_SOCKET ? TIMEOUTS[optname] : undefined;
    if (timeout) {
      const ms = sock.getOption(timeout);
      return [Math.floor(ms / 1000), Math.round((ms % 1000) * 1000)];
    }
    if (level === IPPROTO_IP && optname === IP_MULTICAST_IF)
      return inet_pton(AF_INET, sock.getOption(IpOption.multicastInterface)) as number;
    return sock.getRawOption(level, optname);
  },

  setsockopt(sock: Port, level: number, optname: number, value: number | Pair): void {
    if (level === SOL_SOCKET && optname === SO_LINGER) {
      requirePair(value);
      const [enable, seconds] = value;
      sock.setOption(SocketOption.lingerMs, enable === 0 ? undefined : seconds * 1000);
      return;
    }
    const timeout = level === SOL_SOCKET ? TIMEOUTS[optname] : undefined;
    if (timeout) {
      requirePair(value);
      sock.setOption(timeout, value[0] * 1000 + value[1] / 1000);
      return;
    }
    if (level === IPPROTO_IP && (optname === IP_ADD_MEMBERSHIP || optname === IP_DROP_MEMBERSHIP)) {
      requirePair(value);
      const view = new DataView(new ArrayBuffer(ip_mreq.size));
      ip_mreq.imr_multiaddr.set(view, 0, value[0]);
      ip_mreq.imr_interface.set(view, 0, value[1]);
      sock.setRawOption(level, optname, view);
      return;
    }
    if (typeof value !== "number") throw new TypeError("Expected an integer");
    if (level === IPPROTO_IP && optname === IP_MULTICAST_IF)
      sock.setOption(IpOption.multicastInterface, inet_ntop(AF_INET, value));
    else sock.setRawOption(level, optname, value);
  },

  shutdown(sock: Port, how: number): void {
    sock.shutdown(DIRECTIONS[how as 0 | 1 | 2]);
  },

  /** `make-socket-address` */
  makeSocketAddress(
    family: number,
    address: number | bigint | string,
    port = 0,
    flowinfo = 0,
    scopeid = 0,
  ): Address {
    if (family === AF_UNIX) {
      if (typeof address !== "string") throw new TypeError("Expected a path");
      return address.startsWith("\0")
        ? UnixAddress.abstract(address.slice(1))
        : new UnixAddress(address);
    }
    const host = inet_ntop(family, address as number | bigint);
    if (family === AF_INET) return new Inet4Address(host, port);
    const zone = scopeid === 0 ? "" : `%${scopeid}`;
    return new Inet6Address(`${host}${zone}`, port, { flow: flowinfo });
  },

  /** `sockaddr:addr` */
  sockaddrAddr(address: Address): number | bigint {
    if (address instanceof Inet4Address) return inet_pton(AF_INET, address.host) as number;
    if (!(address instanceof Inet6Address)) throw new TypeError("Expected an IP address");
    return inet_pton(AF_INET6, address.host.replace(/%.*/, "")) as bigint;
  },

  /** `sockaddr:port` */
  sockaddrPort(address: Address): number {
    if (!("port" in address)) throw new TypeError("Expected an IP address");
    return address.port;
  },

  /** `sockaddr:path`: empty for a socket without a name. */
  sockaddrPath(address: Address): string {
    if (!(address instanceof UnixAddress)) throw new TypeError("Expected a Unix address");
    return address.isAbstract ? `\0${address.abstractName}` : (address.path ?? "");
  },

  connect(sock: Port, ...destination: Destination): boolean {
    const [address] = addressAndFlags(destination);
    if (nonblocking.has(sock)) return sock.tryConnect(address) ?? false;
    sock.connectSync(address, WAIT);
    return true;
  },

  bind(sock: Port, ...destination: Destination): void {
    sock.bind(addressAndFlags(destination)[0]);
  },

  listen(sock: Port, backlog: number): void {
    sock.listen(backlog);
  },

  accept(sock: Port, flags = 0): Pair<Port, Address> | false {
    // What ours does not know, the kernel refuses.
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) {
      const result = accept4(sock.descriptor, new Uint8Array(128), new Uint32Array(1), flags);
      throw new SystemError(result, "accept4");
    }
    const accepted = nonblocking.has(sock) ? sock.tryAccept() : sock.acceptSync(WAIT);
    if (accepted === undefined) return false;
    accepted.inheritable = (flags & SOCK_CLOEXEC) === 0;
    if (flags & SOCK_NONBLOCK) nonblocking.add(accepted);
    return [accepted, guile.getpeername(accepted)];
  },

  getsockname(sock: Port): Address {
    return sock.localAddress;
  },

  getpeername(sock: Port): Address {
    const peer = sock.remoteAddress;
    if (peer !== undefined) return peer;
    // Ours says undefined; the kernel says why.
    const result = getpeername(sock.descriptor, new Uint8Array(128), new Uint32Array(1));
    throw new SystemError(result, "getpeername");
  },

  /** `recv!` */
  recv(sock: Port, buf: Uint8Array, flags = 0): number {
    if (answersAtOnce(sock, flags)) return orAgain(sock.tryReceive(buf, { flags }), "recv");
    return sock.receiveSync(buf, { ...WAIT, flags });
  },

  send(sock: Port, message: Uint8Array, flags = 0): number {
    if (answersAtOnce(sock, flags)) return orAgain(sock.trySend(message, { flags }), "send");
    return sock.sendSync(message, { ...WAIT, flags });
  },

  /** `recvfrom!` */
  recvfrom(
    sock: Port,
    buf: Uint8Array,
    flags = 0,
    start = 0,
    end = buf.length,
  ): Pair<number, Address | false> {
    if (!(start >= 0 && start <= end && end <= buf.length))
      throw new RangeError(`Expected 0 <= start <= end <= ${buf.length}`);
    const target = buf.subarray(start, end);
    const received = answersAtOnce(sock, flags)
      ? orAgain(sock.tryReceiveFrom(target, { flags }), "recvfrom")
      : sock.receiveFromSync(target, { ...WAIT, flags });
    return [received.length, received.address ?? false];
  },

  sendto(sock: Port, message: Uint8Array, ...destination: DestinationAndFlags): number {
    const [address, flags] = addressAndFlags(destination);
    if (answersAtOnce(sock, flags))
      return orAgain(sock.trySendTo(message, address, { flags }), "sendto");
    return sock.sendToSync(message, address, { ...WAIT, flags });
  },
};

function orDefault<Result>(run: () => Result, otherwise: Result): Result {
  try {
    return run();
  } catch {
    return otherwise;
  }
}

// So that nobody collects them.
const leaked: unknown[] = [];

export type Guile = typeof sound;

/** The broken adapters, and the rows that must notice each. */
export const guileVariants: Variants<Guile> = {
  "integers in network byte order": {
    breaks: {
      makeSocketAddress: (family, address, port = 0, ...rest) =>
        sound.makeSocketAddress(
          family,
          family === AF_INET ? htonl(address as number) : address,
          htons(port),
          ...rest,
        ),
    },
    rows: ["guile-04", "guile-54", "guile-59", "guile-68", "guile-77", "guile-78", "guile-84"],
  },
  "a swallowed error": {
    breaks: {
      bind: (sock, ...destination) => orDefault(() => sound.bind(sock, ...destination), undefined),
      connect: (sock, ...destination) => orDefault(() => sound.connect(sock, ...destination), true),
    },
    rows: ["guile-53", "guile-54", "guile-56", "guile-58", "guile-59", "guile-60", "guile-61"],
  },
  "an ignored flag": {
    breaks: {
      accept: (sock) => sound.accept(sock),
      recv: (sock, buf, flags = 0) => sound.recv(sock, buf, flags & MSG_DONTWAIT),
      sendto: (sock, message, ...destination) =>
        sound.sendto(sock, message, addressAndFlags(destination)[0]),
    },
    rows: ["guile-67", "guile-77", "guile-78", "guile-81", "guile-82"],
  },
  "a leaked descriptor": {
    breaks: {
      accept: (sock, flags) => {
        const accepted = sound.accept(sock, flags);
        if (accepted) leaked.push(accepted[0].duplicate());
        return accepted;
      },
    },
    rows: ["guile-46", "guile-49", "guile-54", "guile-57", "guile-65", "guile-66", "guile-67"],
  },
  "the parts of a pair the wrong way round": {
    breaks: {
      setsockopt: (sock, level, optname, value) =>
        sound.setsockopt(
          sock,
          level,
          optname,
          Array.isArray(value) ? [value[1] as number, value[0] as number] : value,
        ),
    },
    rows: ["guile-38", "guile-39", "guile-40", "guile-41", "guile-43", "guile-44"],
  },
};

export const guile: Guile = chosen("guile", sound, guileVariants);
