import { EBUSY } from "../../structs/constants/errno.ts";
import { POLLIN } from "../../structs/constants/poll.ts";
import { EPOLLIN } from "../../structs/constants/sys_epoll.ts";
import { SO_ERROR } from "../../structs/constants/sys_socket.ts";
import { type CancelSignal, ClosedError, SystemError, systemError } from "../error.ts";
import {
  optionsOf,
  requireBoolean,
  requireInteger,
  requireOptions,
  requireSignal,
} from "../internal/arguments.ts";
import { deadlineAfter, deadlineOf, waitUntil } from "../internal/deadline.ts";
import type { Descriptor } from "../internal/descriptor.ts";
import { loadPoller } from "../internal/lazy_poller.ts";
import { readInt } from "../internal/parts.ts";
import { attachedFilter, attachFilter } from "../internal/socket_filter.ts";
import type { Call, PromisedCall } from "../internal/wait_line.ts";
import type { CancelOptions, TimeoutOptions } from "../socket.ts";
import { openPacket, type PacketParts } from "./internal/open_packet.ts";
import { copyGeometry, makeRing, type RingMemory } from "./internal/ring_memory.ts";
import { RingSocket } from "./internal/ring_socket.ts";
import { cutTo } from "./internal/snap.ts";
import { isHandedOver, lend, PacketBlock } from "./packet_block.ts";
import type {
  PacketInterface,
  PacketSocket,
  PacketSocketOptions,
  PacketStatistics,
} from "./packet_socket.ts";

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
const SNAP_BYTES_MAX = 2 ** 31 - 1;

/** What a ring can be told when it is made. */
export interface PacketRingOptions extends PacketSocketOptions {
  /**
   * Bytes of a block: a power of 2, and whole pages; 4096 to 2^30. What is longer than a block arrives
   * cut. Small ones cost: a frame of a block of 64 KiB three times, one of 16 KiB eight times what it
   * does of the default. Default 2^20.
   */
  readonly blockBytes?: number | undefined;
  /**
   * How many blocks: 1 to 2^20. While none is free, frames are dropped. Default 16.
   *
   * Where frames come slowly, blocks are handed over by their time and not full. So a program that
   * receives nothing for `blocks` times `blockTimeoutMs` may lose frames, however few have come: 160 ms
   * by default. More and smaller blocks bear longer pauses with the same memory.
   */
  readonly blocks?: number | undefined;
  /**
   * After how many milliseconds a block with frames is handed over that is not full: where few come,
   * each waits up to about that long. 1 to 65,535, default 10.
   */
  readonly blockTimeoutMs?: number | undefined;
  /**
   * The most that the ring may have in all, in bytes: at most 2^32. The kernel gives any amount that
   * the machine has, of memory that is never swapped out. Default 2^28, which is 256 MiB.
   */
  readonly maxBytes?: number | undefined;
  /**
   * How many bytes of each frame are captured at most: 1 to 2^31 - 1. `originalLength` tells how many
   * it had. The filter does it, also where there is none else; `socket.attachFilter` puts another one
   * in its place. Default: all.
   */
  readonly snapBytes?: number | undefined;
  /** Whether the kernel computes the hash of each frame's flow: see `block.hash`. Default false. */
  readonly flowHash?: boolean | undefined;
  /**
   * Whether views of frames are empty when the loan of their block is over, for a copy of each
   * block: see PacketBlock. Default: whether the environment has `BUN_SOCKETS_DEBUG=1`.
   */
  readonly checked?: boolean | undefined;
}

/** What `blocks` can be told. */
export interface PacketBlocksOptions {
  /** Aborting it ends the iteration with the signal's reason. */
  readonly signal?: CancelSignal | undefined;
}

/**
 * Frames of an interface, in memory that the kernel fills and JavaScript reads in place: no system
 * call and no copy for each of them. The kernel writes frames into blocks of this memory and hands a
 * block over when it is full, or when `blockTimeoutMs` have passed; the ring lends it to the program, one
 * at a time, as a PacketBlock. A frame waits up to about that long: where each has to be answered at
 * once, a PacketSocket is quicker.
 *
 * ```text
 * for await (using block of ring)
 *   while (block.next()) look(block.bytes, block.offset, block.length); // allocates nothing
 * ```
 *
 * Frames are dropped only while no block is free. `statistics` tells how many: frames shown and drops
 * are together what the filter has let through. The default geometry holds 16 MiB, or what comes in
 * 160 ms: see `blocks`.
 *
 * **Several threads.** Each Worker opens a ring of its own with the same `fanout`, and gets the frames
 * of its share; the memory of a ring must stay with its thread. All counts added up are exact.
 *
 * ```text
 * // worker.ts, started as often as there are cores to spare
 * using ring = PacketRing.open("eth0", { fanout: { group: 7, mode: "hash" } });
 * let frames = 0;
 * for await (using block of ring) frames += block.count;
 * ```
 *
 * A group with "hash" keeps a flow on one ring, so a single flow keeps a single Worker busy;
 * "balance" takes turns. When a Worker ends, or is terminated, its ring ends with its thread, and the
 * others get its share.
 *
 * It takes CAP_NET_RAW. To send, use `PacketSocket` and `sendBatch`: a ring for sending measured
 * slower.
 *
 * Lifetime: until `close` or the end of a `using` block, whatever is under way: what waits is
 * rejected with a ClosedError, a loop ends, the block that is lent out has no frames any more, and all
 * views of the memory are empty. The kernel takes some 20 ms to end a ring, which the thread waits for.
 * A ring that is dropped open ends some time after the engine has collected it and all views of its
 * memory.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/packet.7.html | packet(7)}
 * @see {@link https://docs.kernel.org/networking/packet_mmap.html | packet_mmap}
 *
 * @example What this machine says to itself
 * ```ts
 * import { UdpSocket } from "bun-sockets";
 * import { PacketRing } from "bun-sockets/packet";
 *
 * using server = UdpSocket.bind("127.0.0.1:0");
 * using ring = PacketRing.open("lo", { ignoreOutgoing: true });
 * using client = UdpSocket.open("ipv4");
 * client.sendToSync("hello", server.localAddress);
 * search: for await (using block of ring)
 *   while (block.next()) {
 *     const { offset, length } = block;
 *     const text = Buffer.from(block.bytes.subarray(offset + length - 5, offset + length));
 *     if (block.view.getUint16(offset + 36) !== server.localAddress.port) continue;
 *     console.log(`${text}`, length, block.packetType); // hello 47 host
 *     break search;
 *   }
 * ```
 */
export class PacketRing implements AsyncIterable<PacketBlock>, Disposable {
  /**
   * The memory of all blocks. Empty when the ring is closed. Only what stands in the block that is
   * lent out has a meaning.
   */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory as a DataView: for header views, which read frames in place. */
  readonly view: DataView<ArrayBuffer>;
  /**
   * What frames begin with, as capture files say it: a number of `LinkType`. Undefined where the
   * interface is of a kind that has none here.
   */
  readonly linkType: number | undefined;
  readonly #socket: RingSocket;
  readonly #descriptor: Descriptor;
  readonly #memory: RingMemory;
  readonly #block: PacketBlock;
  /** The block that is handed over next. */
  #place = 0;
  #isReceiving = false;

  /**
   * Opens a ring.
   *
   * @param where the interface, by name or index; undefined is every interface
   * @throws {RangeError} the geometry is out of range, or has more than `maxBytes`
   * @throws {TypeError} an option is none
   * @throws {SystemError} `EPERM` it takes CAP_NET_RAW, as the hint says; `ENODEV` there is no such
   * interface; `ENOMEM` there is not enough memory; else as PacketSocket.open
   */
  static open(where?: PacketInterface, options: PacketRingOptions = {}): PacketRing {
    const geometry = copyGeometry(requireOptions(options));
    const { checked = process.env.BUN_SOCKETS_DEBUG === "1", snapBytes } = options;
    requireBoolean(checked, "checked");
    if (snapBytes !== undefined) requireInteger(snapBytes, 1, SNAP_BYTES_MAX, "snapBytes");
    let ring: PacketRing | undefined;
    try {
      const parts = openPacket(where, options, (fd, unbound, configure) => {
        ring = new PacketRing(unbound, makeRing(fd, geometry), checked);
        configure?.(ring.socket);
        if (snapBytes !== undefined && !ring.closed)
          attachFilter(fd, cutTo(snapBytes, attachedFilter(fd)));
      });
      const made = ring as unknown as PacketRing;
      made.#socket.group = parts.fanoutGroup;
      return made;
    } catch (error) {
      ring?.close();
      throw error;
    }
  }

  private constructor(parts: PacketParts, memory: RingMemory, isChecked: boolean) {
    // Refuses what are no parts.
    this.#socket = new RingSocket(parts, () => this.#end());
    this.#descriptor = parts.descriptor;
    this.#memory = memory;
    this.#block = new PacketBlock(memory, isChecked);
    this.bytes = memory.bytes;
    this.view = memory.view;
    this.linkType = parts.linkType;
  }

  /**
   * The socket that the ring is on: for options, memberships and filters, and `unref`. Nothing can be
   * received from it; closing it closes the ring, and detaching it takes the ring away. Nor can anything
   * be received from a duplicate, here or in another process, until the ring is closed: then it is a
   * packet socket like any other.
   */
  get socket(): PacketSocket {
    return this.#socket;
  }

  /**
   * The index of its interface: 0 for every one, -1 when it has gone.
   *
   * @throws {ClosedError} the ring is closed
   */
  get interfaceIndex(): number {
    return this.#socket.interfaceIndex;
  }

  /** Bytes of a block. */
  get blockBytes(): number {
    return this.#memory.blockBytes;
  }

  /** How many blocks there are. */
  get blockCount(): number {
    return this.#memory.blocks;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#descriptor.fd < 0;
  }

  /**
   * What the ring has counted since it was opened: frames that the filter has let through, those of
   * them that were dropped, and how often no block was free. Asks the kernel.
   *
   * @throws {ClosedError} the ring is closed
   */
  statistics(): PacketStatistics {
    return this.#socket.statistics();
  }

  /**
   * The next block that was handed over, at once. The one that is lent out goes back first.
   *
   * @returns undefined when there is none
   * @throws {ClosedError} the ring is closed
   * @throws {SystemError} `EBUSY` a promise form is waiting for it; `ENETDOWN` the interface went
   * down, told once: it goes on when it is up again
   */
  tryReceiveBlock(): PacketBlock | undefined {
    this.#requireIdle();
    this.#block.release();
    return this.#take();
  }

  /**
   * The next block, and blocks the thread until there is one. The one that is lent out goes back
   * first.
   *
   * @throws {TimeoutError} there was none in time
   * @throws {SystemError} as tryReceiveBlock
   */
  receiveBlockSync(options?: TimeoutOptions): PacketBlock {
    const deadline = deadlineOf(options);
    for (let tries = 0; ; tries++) {
      const block = this.tryReceiveBlock();
      if (block) return block;
      waitUntil(this.#descriptor.fd, POLLIN, deadline, "poll", undefined, tries);
    }
  }

  /**
   * The next block, and waits until there is one; the promise form of `receiveBlockSync`. Until it is
   * answered, every other receive fails with `EBUSY`: there is one block at a time.
   *
   * @throws {TimeoutError} there was none in time
   * @throws {SystemError} as tryReceiveBlock
   */
  receiveBlock(options?: CancelOptions): Promise<PacketBlock> {
    try {
      const { signal, timeoutMs } = optionsOf(options);
      requireSignal(signal)?.throwIfAborted();
      const deadline = deadlineAfter(timeoutMs);
      return this.#perform({ attempt: () => this.#take() }, deadline, signal);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Receives blocks for `for await`: each step waits for the next block and lends it out until the next
   * step, or until it is released. Leaving the loop gives the last one back. The loop ends when the
   * ring is closed; an error of the ring is thrown into it.
   *
   * @throws the reason of the signal, from the loop
   * @throws {SystemError} as tryReceiveBlock, from the loop
   */
  blocks(options: PacketBlocksOptions = {}): PacketBlocks {
    return new PacketBlocks(
      {
        descriptor: this.#descriptor,
        block: this.#block,
        step: (signal, onWait) => {
          const call: Attempt<Step> = {
            attempt: () => {
              if (this.closed) return DONE;
              const value = this.#take();
              return value && { value, done: false };
            },
            ended: () => DONE,
          };
          return this.#perform(call, Number.POSITIVE_INFINITY, signal, onWait);
        },
      },
      options,
    );
  }

  /** The blocks of the ring, as `blocks` without options. */
  [Symbol.asyncIterator](): PacketBlocks {
    return this.blocks();
  }

  #perform<Result>(
    call: Attempt<Result>,
    deadline: number,
    signal: CancelSignal | undefined,
    onWait?: (waiter: PromisedCall<Result>) => void,
  ): Promise<Result> {
    const poller = loadPoller();
    this.#requireIdle();
    this.#block.release();
    this.#isReceiving = true;
    const settled = () => {
      this.#isReceiving = false;
    };
    const whole = { syscall: "poll", settled, ...call };
    return poller.perform(this.#descriptor, EPOLLIN, whole, deadline, signal, onWait);
  }

  #requireIdle(): void {
    this.#requireOpen();
    if (this.#isReceiving) {
      throw new SystemError(EBUSY, "poll", {
        hint: "Another receive of this ring waits for the next block: there is one at a time",
      });
    }
  }

  #requireOpen(): void {
    if (this.closed) throw new ClosedError("poll");
    if (this.#memory.isGone)
      throw new TypeError("Cannot receive into detached memory: the ring's was transferred");
  }

  #take(): PacketBlock | undefined {
    this.#requireOpen();
    const memory = this.#memory;
    const block = this.#block;
    for (let tries = 0; tries < memory.blocks; tries++) {
      if (!isHandedOver(memory, this.#place)) break;
      lend(block, this.#place);
      this.#place = (this.#place + 1) % memory.blocks;
      if (block.count > 0) return block;
      block.release();
    }
    // Nobody else asks: a ring has no call that would be told.
    const error = readInt(this.#descriptor.fd, SO_ERROR);
    if (error !== 0) throw systemError(-error, "poll");
    return undefined;
  }

  /**
   * Ends the ring: see the class. Does nothing the second time. Takes some 20 ms.
   */
  close(): void {
    this.#socket.close();
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** What it is, its socket and its geometry, for logs: what console.log shows. */
  toString(): string {
    return this[INSPECT]();
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    return `${this.#socket}, ${this.blockCount} blocks of ${this.blockBytes} bytes`;
  }

  // A mapping would keep the closed socket capturing: it goes before the descriptor does.
  #end(): void {
    this.#block.release();
    this.#memory.end();
  }
}

type Attempt<Result> = Pick<Call<Result>, "attempt" | "ended">;
type Step = IteratorResult<PacketBlock, undefined>;

/** What the blocks of a ring need of it. */
interface BlockSource {
  readonly descriptor: Descriptor;
  readonly block: PacketBlock;
  step(
    signal: CancelSignal | undefined,
    onWait: (waiter: PromisedCall<Step>) => void,
  ): Promise<Step>;
}

const DONE: IteratorReturnResult<undefined> = Object.freeze({ value: undefined, done: true });

/** The blocks of a ring, for `for await`: see `PacketRing.blocks`. */
export class PacketBlocks implements AsyncIterableIterator<PacketBlock, undefined> {
  readonly #source: BlockSource;
  readonly #signal: CancelSignal | undefined;
  #waiting: PromisedCall<Step> | undefined;
  #isDone = false;

  /** Not for callers: `PacketRing.blocks` makes them. */
  constructor(source: BlockSource, options: PacketBlocksOptions) {
    this.#signal = requireSignal(requireOptions(options).signal);
    this.#source = source;
  }

  /**
   * The next block. The one before it goes back.
   *
   * @throws {SystemError} as PacketRing.tryReceiveBlock
   */
  async next(): Promise<Step> {
    if (this.#isDone || this.#source.descriptor.fd < 0) return this.return();
    try {
      this.#signal?.throwIfAborted();
      const step = await this.#source.step(this.#signal, (waiter) => {
        this.#waiting = waiter;
      });
      if (step.done) this.#isDone = true;
      return step;
    } catch (error) {
      this.#finish();
      throw error;
    }
  }

  /** Ends the iteration and gives the block back. A step that still waits is done. */
  async return(): Promise<Step> {
    this.#finish();
    return DONE;
  }

  #finish(): void {
    this.#isDone = true;
    const waiting = this.#waiting;
    if (waiting?.line) {
      loadPoller().leave(waiting);
      waiting.end("closed");
    }
    this.#source.block.release();
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Ends at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#finish();
  }
}
