// What the sender and the receiver of suite_bun_sockets.ts share: the command line, sockets, waiting.
import {
  type Address,
  type CreateOptions,
  parseAddress,
  type Socket,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { pollfd } from "bun-sockets/structs";
import { EINTR, poll } from "bun-sockets/sys";
import { BUFFER_BYTES, makeClock, readSide, Seen, socketsOfMine } from "./suite_side.mjs";

/** Slots of a batch that is sent. */
export const SLOTS = 64;
/** Of a slot for a train. */
export const TRAIN_SLOT_BYTES = 65_536;

export const side = readSide(process.argv.slice(2));
export const isGso = side.send === "gso";
export const isGro = side.receive === "gro";
/** Datagrams of a slot that is sent. */
export const each = isGso ? side.segments : 1;
export const clock = await makeClock();
/** What the receiver has seen in this round. */
export const seen = new Seen(clock);

export type DatagramSocket = UdpSocket | UnixDatagramSocket;

export function addressOf(host: string, port: number): Address {
  if (side.family === "unix") return new UnixAddress(host);
  return parseAddress(side.family === "udp6" ? `[${host}]:${port}` : `${host}:${port}`);
}

// By socket, for who may not look at `descriptor`.
const descriptors = new WeakMap<Socket, number>();

export function openAt(host: string, port: number): DatagramSocket {
  const before = new Set(socketsOfMine());
  const socket = bindTo(host, port);
  const [fd = -1] = socketsOfMine().filter((one) => !before.has(one));
  descriptors.set(socket, fd);
  return socket;
}

function bindTo(host: string, port: number): DatagramSocket {
  const options = { receiveBufferBytes: BUFFER_BYTES, sendBufferBytes: BUFFER_BYTES };
  if (side.family === "unix") return UnixDatagramSocket.bind(new UnixAddress(host), options);
  const shared: CreateOptions = { ...options, reusePort: side.receivers > 1 };
  return UdpSocket.bind(addressOf(host, port).toString(), shared);
}

export function connectTo(socket: DatagramSocket, peer: Address): void {
  socket.connectSync(peer.toString() as never);
}

export function portOf(socket: DatagramSocket): number {
  return socket instanceof UdpSocket ? socket.localAddress.port : 0;
}

/** What a side says of its sockets when it is open. */
export function openedOf(sender: DatagramSocket, receiver: DatagramSocket) {
  return {
    port: portOf(receiver),
    sendBufferBytes: sender.sendBuffer.effectiveBytes,
    receiveBufferBytes: receiver.receiveBuffer.effectiveBytes,
  };
}

/** Whether a socket is ready for something, in time. */
export type IsReady = (events: number, timeoutMs: number) => boolean;

/**
 * One poll(2), as in C: what waits more often than it receives must not make objects for it. The descriptor
 * is that of /proc, because a socket whose `descriptor` was looked at sends nothing without a copy.
 */
export function readinessOf(socket: Socket): IsReady {
  const fds = new DataView(new ArrayBuffer(pollfd.size));
  pollfd.fd.set(fds, 0, descriptors.get(socket) ?? -1);
  return (events, timeoutMs) => {
    pollfd.events.set(fds, 0, events);
    for (;;) {
      const ready = poll(fds, timeoutMs);
      if (ready !== -EINTR) return ready > 0;
    }
  };
}
