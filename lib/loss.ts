import type { DatagramBatch } from "./datagram_batch.ts";
import { loadModule } from "./internal/descriptor.ts";
import type { LossCounters } from "./internal/loss_counters.ts";
import type { InterfaceLike } from "./multicast.ts";
import type { Socket } from "./socket.ts";

/** What else a `LossWindow` looks at. */
export interface LossWindowOptions {
  /** An interface whose counters are told too: its index, its name, or an address that it has. */
  readonly interface?: InterfaceLike | undefined;
}

/** A buffer of a socket, and how full it is, in bytes as the kernel charges them. */
export interface BufferUse {
  /** Its size in the unit of `receiveBufferBytes` and `sendBufferBytes`. */
  readonly effectiveBytes: number;
  /** Whether the kernel gave less than was asked for when the socket was made. */
  readonly clamped: boolean;
  /** What it may hold: two times `effectiveBytes`. */
  readonly limitBytes: number;
  /** What it holds now: each datagram with the kernel's bookkeeping, some 800 bytes at least. */
  readonly usedBytes: number;
}

/** What UDP and IP lost in the network namespace, of all sockets together, in datagrams. */
export interface ProtocolLoss {
  /** Datagrams that came to a socket and were not queued, for whatever reason: InErrors. */
  readonly inErrors: number;
  /** Of these, those for which a receive buffer had no room: RcvbufErrors. */
  readonly receiveBufferErrors: number;
  /** Of these, those that came damaged: InCsumErrors. */
  readonly checksumErrors: number;
  /** Of these, those for which UDP as a whole had no memory: MemErrors. */
  readonly memoryErrors: number;
  /**
   * Of `inErrors`, those that this socket does not count: other sockets lost them, or they were short
   * and damaged, which the kernel sees before it looks for a socket.
   */
  readonly otherSockets: number;
  /** Datagrams to ports that no socket was bound to: NoPorts. */
  readonly noPorts: number;
  /** Sends for which there was no memory, or no room in the queue of an interface: SndbufErrors. */
  readonly sendBufferErrors: number;
  /** Packets that IP dropped though nothing was wrong with them: InDiscards. */
  readonly discards: number;
  /** Packets that IP did not send though nothing was wrong with them: OutDiscards. */
  readonly outDiscards: number;
  /** Fragmented packets of which a part was missing in the end: ReasmFails. */
  readonly reassemblyFailures: number;
}

/** What an interface lost, in packets. */
export interface InterfaceLoss {
  /** Its name. */
  readonly name: string;
  /** Received with an error. */
  readonly receiveErrors: number;
  /** Received and dropped, also by the device for lack of room. */
  readonly receiveDrops: number;
  /** Received into a full queue of the device. */
  readonly receiveOverruns: number;
  /** Not sent for an error. */
  readonly sendErrors: number;
  /** Not sent, but dropped. */
  readonly sendDrops: number;
}

/** What was lost since the last look, and where. */
export interface Loss {
  /** How long that was, in milliseconds. */
  readonly durationMs: number;
  /**
   * Datagrams that came to this socket and were not queued: for lack of room in its receive buffer, or
   * because its filter refused them, or damaged. What was sent is what was received and this.
   */
  readonly socketDrops: number;
  /**
   * Of the socket's drops, those that happened before the newest datagram of the batch came, and were
   * not told before: the gap in what was read. Undefined without a batch that tells
   * (`SocketOption.receiveQueueOverflow`).
   */
  readonly queueOverflow: number | undefined;
  /** The receive buffer now. */
  readonly receiveBuffer: BufferUse;
  /** The send buffer now. */
  readonly sendBuffer: BufferUse;
  /**
   * The counters of UDP. Undefined where the socket is none of UDP, or in another network namespace
   * than this thread.
   */
  readonly protocol: ProtocolLoss | undefined;
  /**
   * Packets that found the backlog of a CPU full, of the whole machine: what goes through the loopback
   * interface or a veth pair passes it. Undefined where the kernel does not tell.
   */
  readonly backlogDrops: number | undefined;
  /** The counters of the interface that was asked for; undefined without, or when it has gone. */
  readonly interface: InterfaceLoss | undefined;
  /** What can be done about it: a sentence for each place where something was lost. */
  readonly advice: readonly string[];
}

/**
 * Tells what was lost on the way to a socket, and where: between two calls of `take`, or since it was
 * made. It reads counters that the kernel keeps anyway, and costs the traffic nothing; a look takes
 * about half a millisecond.
 *
 * What the kernel tells of the socket itself is exact. The other counters are those of the network
 * namespace of this thread, or of the machine: other programs count in them.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7), SO_RXQ_OVFL}
 *
 * @example A buffer that is too small
 * ```ts
 * import { LossWindow, UdpSocket } from "bun-sockets";
 *
 * using socket = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: 4096 });
 * using client = UdpSocket.open("ipv4");
 * const window = new LossWindow(socket);
 * for (let i = 0; i < 100; i++) client.sendToSync("hello", socket.localAddress);
 *
 * let received = 0;
 * while (socket.tryReceive(new Uint8Array(100)) !== undefined) received++;
 * const loss = window.take();
 * console.log(received + loss.socketDrops, loss.advice[0]?.startsWith("The receive buffer")); // 100 true
 * console.log(window.take().socketDrops); // 0
 * ```
 */
export class LossWindow {
  readonly #counters: LossCounters;

  /**
   * Begins to count.
   *
   * @throws {TypeError} it is no socket, or the interface can be none
   * @throws {SystemError} `ENODEV`, `EADDRNOTAVAIL` there is no such interface, or the socket is in
   * another network namespace
   * @throws {ClosedError} the socket is closed
   */
  constructor(socket: Socket, options: LossWindowOptions = {}) {
    const module: typeof import("./internal/loss_counters.ts") = loadModule(() =>
      require("./internal/loss_counters.ts"),
    );
    this.#counters = new module.LossCounters(socket, options);
  }

  /**
   * Tells what was lost since the last call, and begins anew.
   *
   * @param batch what was received last: its datagrams tell what was dropped before them
   * @throws {TypeError} it is no batch
   * @throws {ClosedError} the socket is closed
   */
  take(batch?: DatagramBatch): Loss {
    return this.#counters.take(batch);
  }
}
