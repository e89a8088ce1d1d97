/**
 * The memory of a ring that the kernel fills with frames: how it is asked for, mapped and ended.
 *
 * @module
 */
import { EINVAL, ENOMEM } from "../../../structs/constants/errno.ts";
import {
  PACKET_RX_RING,
  PACKET_VERSION,
  TP_FT_REQ_FILL_RXHASH,
  TPACKET_V3,
} from "../../../structs/constants/linux_if_packet.ts";
import { SOL_PACKET } from "../../../structs/constants/sys_socket.ts";
import { tpacket_req3 } from "../../../structs/tpacket_req3.ts";
import { check, systemError } from "../../error.ts";
import { isDetached, mapDescriptor, unmapMemory } from "../../ffi/memory.ts";
import { requireBoolean, requireInteger } from "../../internal/arguments.ts";
import { setsockopt } from "../../sys/socket.ts";

/** How a ring is laid out. */
export interface Geometry {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly blockTimeoutMs: number;
  readonly flowHash: boolean;
}

/** A geometry as a caller gives it. */
export interface GeometryOptions {
  readonly blockBytes?: number | undefined;
  readonly blocks?: number | undefined;
  readonly blockTimeoutMs?: number | undefined;
  readonly maxBytes?: number | undefined;
  readonly flowHash?: boolean | undefined;
}

// Measured: a block of 16 KiB costs eight times as much per frame, one of 256 KiB a third more, and
// larger ones nothing less.
const BLOCK_BYTES = 1 << 20;
const BLOCKS = 16;
const BLOCK_TIMEOUT_MS = 10;
const MAX_BYTES = 256 << 20;

// The smallest page that Linux has here; the kernel refuses what is no whole number of larger ones.
const PAGE_BYTES = 4096;
const BLOCK_BYTES_MAX = 2 ** 30;
const BLOCKS_MAX = 2 ** 20;
// The kernel keeps it in 16 bits.
const BLOCK_TIMEOUT_MS_MAX = 65_535;
// What one ArrayBuffer holds.
const BYTES_MAX = 2 ** 32;
// Of no meaning in version 3, where frames are as long as they are, but it has to divide a block.
const FRAME_BYTES = 2048;

// Filled by one call and read in it.
const version = new Int32Array(new ArrayBuffer(4));
const request = new DataView(new ArrayBuffer(tpacket_req3.size));

/** Reads the options of a geometry once, and checks them before the kernel is asked. */
export function copyGeometry(options: GeometryOptions): Geometry {
  const {
    blockBytes = BLOCK_BYTES,
    blocks = BLOCKS,
    blockTimeoutMs = BLOCK_TIMEOUT_MS,
    maxBytes = MAX_BYTES,
    flowHash = false,
  } = options;
  requireInteger(blockBytes, PAGE_BYTES, BLOCK_BYTES_MAX, "blockBytes");
  requireInteger(blocks, 1, BLOCKS_MAX, "blocks");
  requireInteger(blockTimeoutMs, 1, BLOCK_TIMEOUT_MS_MAX, "blockTimeoutMs");
  requireInteger(maxBytes, PAGE_BYTES, BYTES_MAX, "maxBytes");
  requireBoolean(flowHash, "flowHash");
  if (!Number.isInteger(Math.log2(blockBytes)))
    throw new RangeError(`Cannot use ${blockBytes} as blockBytes: expected a power of 2`);
  const bytes = blockBytes * blocks;
  if (bytes > maxBytes) {
    throw new RangeError(
      `Cannot make a ring of ${blocks} blocks of ${blockBytes} bytes: expected at most ` +
        `${maxBytes} bytes in all, the maxBytes, since no such memory is ever swapped out`,
    );
  }
  return { blockBytes, blocks, blockTimeoutMs, flowHash };
}

/** The mapped memory of a ring. It has one owner, who ends it before the socket is closed. */
export class RingMemory {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly buffer: ArrayBuffer;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** For what the kernel and this thread tell each other. */
  readonly words: Int32Array<ArrayBuffer>;

  constructor(buffer: ArrayBuffer, blockBytes: number) {
    this.buffer = buffer;
    this.blockBytes = blockBytes;
    this.blocks = buffer.byteLength / blockBytes;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.words = new Int32Array(buffer);
  }

  /** Whether it was ended, or transferred away. */
  get isGone(): boolean {
    return isDetached(this.buffer);
  }

  /** Empties every view and unmaps it. Does nothing the second time. */
  end(): void {
    unmapMemory(this.buffer);
  }
}

/**
 * Gives a packet socket a ring of version 3 and maps it: before it is bound, so that what comes has a
 * place.
 *
 * @throws {SystemError} `ENOMEM` there is not enough memory; else an error of setsockopt(2) or mmap(2)
 */
export function makeRing(fd: number, geometry: Geometry): RingMemory {
  const { blockBytes, blocks, blockTimeoutMs, flowHash } = geometry;
  version[0] = TPACKET_V3;
  check(setsockopt(fd, SOL_PACKET, PACKET_VERSION, version), "setsockopt", {
    option: "PACKET_VERSION",
  });
  tpacket_req3.tp_block_size.set(request, 0, blockBytes);
  tpacket_req3.tp_block_nr.set(request, 0, blocks);
  tpacket_req3.tp_frame_size.set(request, 0, FRAME_BYTES);
  tpacket_req3.tp_frame_nr.set(request, 0, (blockBytes / FRAME_BYTES) * blocks);
  tpacket_req3.tp_retire_blk_tov.set(request, 0, blockTimeoutMs);
  tpacket_req3.tp_feature_req_word.set(request, 0, flowHash ? TP_FT_REQ_FILL_RXHASH : 0);
  const result = setRing(fd);
  if (result < 0) {
    throw systemError(result, "setsockopt", { option: "PACKET_RX_RING", hint: hintOf(result) });
  }
  const mapping = mapDescriptor(fd, blockBytes * blocks, 0);
  if (typeof mapping === "number") throw systemError(mapping, "mmap", { hint: hintOf(mapping) });
  return new RingMemory(mapping.buffer, blockBytes);
}

/** Takes the ring from a socket, whose packets wait in its receive buffer from then on. */
export function removeRing(fd: number): void {
  new Uint8Array(request.buffer).fill(0);
  setRing(fd);
}

function setRing(fd: number): number {
  return setsockopt(fd, SOL_PACKET, PACKET_RX_RING, request);
}

function hintOf(result: number): string | undefined {
  if (result === -ENOMEM)
    return "The kernel has no memory for a ring of this size: ask for fewer blocks, or smaller ones";
  if (result === -EINVAL)
    return "A block is a whole number of pages of this machine: getconf PAGESIZE tells their size";
  return undefined;
}
