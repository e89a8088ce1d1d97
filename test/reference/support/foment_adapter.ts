/**
 * Foment's sockets, and the layer of SRFI 106 that its text points to, in terms of our API: with
 * promises where Scheme blocks. A socket is a port: what is a stream here is a StreamSocket, which has
 * a reader and a writer.
 *
 * @module
 */
import {
  type InetAddress,
  ipAddresses,
  resolve,
  Socket,
  StreamSocket,
  TcpListener,
  TcpSocket,
} from "bun-sockets";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  AI_ADDRCONFIG,
  AI_ALL,
  AI_CANONNAME,
  AI_NUMERICHOST,
  AI_V4MAPPED,
  htons,
  IPPROTO_IP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  MSG_OOB,
  MSG_PEEK,
  MSG_WAITALL,
  SHUT_RD,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_DGRAM,
  SOCK_RAW,
  SOCK_STREAM,
  SOMAXCONN,
} from "bun-sockets/sys";
import { chosen, PATIENCE_MS, type Variants } from "./rows.ts";

// No call of a row waits for longer: a broken one is to fail, not to hang.
const WAIT = { timeoutMs: PATIENCE_MS };

const ADDRESS_FAMILIES = { inet: AF_INET, inet6: AF_INET6, unspec: AF_UNSPEC };
const ADDRESS_INFOS = {
  canonname: AI_CANONNAME,
  numerichost: AI_NUMERICHOST,
  v4mapped: AI_V4MAPPED,
  all: AI_ALL,
  addrconfig: AI_ADDRCONFIG,
};
const SOCKET_DOMAINS = { stream: SOCK_STREAM, datagram: SOCK_DGRAM, raw: SOCK_RAW };
const IP_PROTOCOLS = { ip: IPPROTO_IP, tcp: IPPROTO_TCP, udp: IPPROTO_UDP };
const MESSAGE_TYPES = { none: 0, peek: MSG_PEEK, oob: MSG_OOB, "wait-all": MSG_WAITALL };
const DIRECTIONS = { [SHUT_RD]: "read", [SHUT_WR]: "write", [SHUT_RDWR]: "both" } as const;
const FAMILIES = { [AF_INET]: "ipv4", [AF_INET6]: "ipv6" } as const;

// What is a syntax error there is a TypeError of the compiler here, and one at run time.
function pick(table: Readonly<Record<string, number>>, name: string): number {
  const value = Object.hasOwn(table, name) ? table[name] : undefined;
  if (value === undefined) {
    const names = Object.keys(table).join(", ");
    throw new TypeError(`Cannot use "${name}": expected one of ${names}`);
  }
  return value;
}

function requireFlag(value: number): number {
  if (!Number.isInteger(value)) throw new TypeError(`Cannot use ${value} as flags: expected bits`);
  return value;
}

function familyOf(number: number): "ipv4" | "ipv6" | undefined {
  return FAMILIES[number as keyof typeof FAMILIES];
}

/** The first answer, as Foment takes it. */
async function firstAddress(
  node: string,
  service: string,
  hints: Parameters<typeof resolve>[2],
): Promise<InetAddress> {
  const [first] = await resolve(node, service, { ...hints, ...WAIT });
  return (first as { address: InetAddress }).address;
}

/** Gives a socket its ports. */
function withPorts(socket: Socket): Socket {
  if (socket instanceof StreamSocket || socket.type !== "stream") return socket;
  return StreamSocket.adopt(socket.detach(), { own: true });
}

const sound = {
  isSocket(value: unknown): boolean {
    return value instanceof Socket;
  },

  makeSocket(family: number, domain: number, protocol: number): Socket {
    return withPorts(Socket.create(family, domain, { protocol }));
  },

  async bindSocket(
    socket: Socket,
    node: string,
    service: string,
    family: number,
    type: number,
    protocol: number,
  ): Promise<void> {
    socket.bind(await firstAddress(node, service, { family, type, protocol, passive: true }));
  },

  listenSocket(socket: Socket, backlog = SOMAXCONN): void {
    socket.listen(backlog);
  },

  async acceptSocket(socket: Socket): Promise<Socket> {
    return withPorts(await socket.accept(WAIT));
  },

  async connectSocket(
    socket: Socket,
    node: string,
    service: string,
    family: number,
    type: number,
    addressInfo: number,
    protocol: number,
  ): Promise<void> {
    const hints = {
      canonicalName: (addressInfo & AI_CANONNAME) !== 0,
      numericHost: (addressInfo & AI_NUMERICHOST) !== 0,
      v4mapped: (addressInfo & AI_V4MAPPED) !== 0,
      all: (addressInfo & AI_ALL) !== 0,
      addrconfig: (addressInfo & AI_ADDRCONFIG) !== 0,
    };
    await socket.connect(
      await firstAddress(node, service, { family, type, protocol, ...hints }),
      WAIT,
    );
  },

  shutdownSocket(socket: Socket, how: number): void {
    socket.shutdown(DIRECTIONS[how as keyof typeof DIRECTIONS]);
  },

  // The whole of it, and how much that was: X19.
  async sendSocket(socket: Socket, bytes: Uint8Array, flags = 0): Promise<number> {
    if (!(bytes instanceof Uint8Array))
      throw new TypeError("Cannot send this: expected a bytevector");
    if (!(socket instanceof StreamSocket)) return await socket.send(bytes, { ...WAIT, flags });
    const urgent = (flags & MSG_OOB) === 0 ? undefined : bytes.at(-1);
    if (urgent === undefined) return await socket.sendAll(bytes, { ...WAIT, flags });
    await socket.sendAll(bytes.subarray(0, -1), WAIT);
    await socket.sendUrgent(urgent, WAIT);
    return bytes.length;
  },

  // A block of no more than size bytes; with MSG_WAITALL of just as many, unless the end comes.
  async recvSocket(socket: Socket, size: number, flags = 0): Promise<Uint8Array> {
    if ((flags & MSG_WAITALL) === 0) return await socket.receiveBytes(size, { ...WAIT, flags });
    const target = new Uint8Array(size);
    return target.subarray(0, await socket.receive(target, { ...WAIT, flags }));
  },

  getIpAddresses(family: number): string[] {
    return ipAddresses({ family: familyOf(family) });
  },

  addressFamily: (name: string) => pick(ADDRESS_FAMILIES, name),
  addressInfo: (...names: string[]) =>
    sound.mergeFlags(...names.map((name) => pick(ADDRESS_INFOS, name))),
  socketDomain: (name: string) => pick(SOCKET_DOMAINS, name),
  ipProtocol: (name: string) => pick(IP_PROTOCOLS, name),
  messageType: (...names: string[]) =>
    sound.mergeFlags(...names.map((name) => pick(MESSAGE_TYPES, name))),

  shutdownMethod(...names: string[]): number {
    const how = { read: SHUT_RD, write: SHUT_WR, "read write": SHUT_RDWR };
    return pick(how, names.length === 2 ? names.toSorted().join(" ") : names.join(" "));
  },

  mergeFlags: (...flags: number[]) => flags.reduce((all, flag) => all | requireFlag(flag), 0),

  purgeFlags: (base: number, ...flags: number[]) =>
    flags.reduce((rest, flag) => rest & ~requireFlag(flag), requireFlag(base)),

  // SRFI 106. `addrconfig` and `v4mapped`, its default, are for those that try one address only.
  async makeClientSocket(
    node: string,
    service: string,
    family = AF_INET,
    type = SOCK_STREAM,
    addressInfo = 0,
    protocol = IPPROTO_IP,
  ): Promise<Socket> {
    if (type === SOCK_STREAM)
      return await TcpSocket.connect(node, service, { ...WAIT, family: familyOf(family) });
    const socket = sound.makeSocket(family, type, protocol);
    try {
      await sound.connectSocket(socket, node, service, family, type, addressInfo, protocol);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  },

  async makeServerSocket(
    service: string,
    family = AF_INET,
    type = SOCK_STREAM,
    protocol = IPPROTO_IP,
  ): Promise<Socket> {
    if (type === SOCK_STREAM) {
      const listeners = await TcpListener.listenAll("", service, {
        ...WAIT,
        family: familyOf(family),
      });
      return listeners[0] as TcpListener;
    }
    const socket = sound.makeSocket(family, type, protocol);
    try {
      await sound.bindSocket(socket, "", service, family, type, protocol);
      return socket;
    } catch (error) {
      socket.close();
      throw error;
    }
  },

  closeSocket(socket: Socket): void {
    socket.close();
  },

  async callWithSocket<Result>(
    socket: Socket,
    run: (socket: Socket) => Result | Promise<Result>,
  ): Promise<Result> {
    using owned = socket;
    return await run(owned);
  },
};

/** The procedures, under their names in camel case. */
export type Foment = typeof sound;

/** The broken ones. */
export const fomentVariants: Variants<Foment> = {
  "ports in the wrong byte order": {
    breaks: {
      bindSocket: async (socket, node, service, family, type, protocol) => {
        const { port, host } = await firstAddress(node, service, { family, type, protocol });
        const swapped = `${htons(port)}`;
        await sound.bindSocket(socket, host, swapped, family, type, protocol);
      },
    },
    rows: ["foment-04"],
  },
  "a swallowed error": {
    breaks: {
      sendSocket: (...call) => sound.sendSocket(...call).catch(() => 0),
      recvSocket: (...call) => sound.recvSocket(...call).catch(() => new Uint8Array()),
    },
    rows: ["foment-10", "foment-11"],
  },
  "an ignored flag": {
    breaks: {
      sendSocket: (socket, bytes) => sound.sendSocket(socket, bytes),
      recvSocket: (socket, size) => sound.recvSocket(socket, size),
    },
    rows: ["foment-10", "foment-11", "foment-17"],
  },
  "a leaked descriptor": {
    breaks: {
      makeClientSocket: async (...call) => {
        const socket = await sound.makeClientSocket(...call);
        socket.duplicate().detach();
        return socket;
      },
      acceptSocket: async (listener) => {
        const accepted = await sound.acceptSocket(listener);
        accepted.duplicate().detach();
        return accepted;
      },
    },
    rows: ["foment-07", "foment-41", "foment-43"],
  },
};

/** The adapter that the rows use. */
export const foment = chosen("foment", sound, fomentVariants);
