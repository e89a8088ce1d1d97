/**
 * Memory for the views that calls are given: each slot ends at a page that nobody may touch and is
 * full of canaries, except for the bytes of its one view.
 *
 * @module
 */
import { type Pointer, toArrayBuffer } from "bun:ffi";
import {
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
} from "../../structs/constants/sys_mman.ts";
import type { Choices } from "./choices.ts";
import { Failure } from "./failure.ts";
import { map, PAGE } from "./kernel.ts";

/**
 * In memory that is nobody's business, and never in what is sent. Not what the library overwrites old
 * contents with.
 */
export const CANARY = 0xc3;

const SMALL = 160;
const LARGE = 6;
// More than the longest datagram.
const LARGE_BYTES = 20 * PAGE;

/** One slot: a view, and what stands around it. */
export class Slot {
  readonly #address: number;
  readonly #size: number;
  readonly #expected: Uint8Array;
  #bytes: Uint8Array<ArrayBuffer>;
  #start = 0;
  #end = 0;

  constructor(size: number) {
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    this.#address = map(null, size, PROT_READ | PROT_WRITE, flags, -1, 0) as number;
    this.#size = size;
    this.#expected = new Uint8Array(size);
    this.#bytes = this.#open();
  }

  // A new ArrayBuffer over the same memory: a call may have detached the last one.
  #open(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(toArrayBuffer(this.#address as Pointer, 0, this.#size));
  }

  get size(): number {
    return this.#size;
  }

  get buffer(): ArrayBuffer {
    return this.#bytes.buffer;
  }

  get start(): number {
    return this.#start;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  /** Chooses where the view lies, and fills all around it with canaries. */
  lay(length: number, choices: Choices): void {
    if (this.#bytes.buffer.detached) this.#bytes = this.#open();
    const room = this.#size - length;
    this.#start = choices.pick([0, room, room, room >> 1]);
    // What is laid as words lies at a multiple of their length.
    if (length % 8 === 0) this.#start -= this.#start % 8;
    this.#end = this.#start + length;
    this.#expected.fill(CANARY);
    for (let i = this.#start; i < this.#end; i++) this.#expected[i] = (i * 7) % CANARY;
    this.#bytes.set(this.#expected);
  }

  /**
   * Throws when a byte has changed that no call was to change. Of the view the first `writable` bytes
   * may have; to something without canaries, unless it is from the kernel itself.
   */
  check(writable: number, fromKernel: boolean, what: string): void {
    const now = this.#bytes.buffer.detached ? this.#open() : this.#bytes;
    const written = Math.min(writable, this.length);
    if (written > 0) {
      const region = now.subarray(this.#start, this.#start + written);
      if (!fromKernel && region.includes(CANARY))
        throw new Failure(`${what}: a canary was received`);
      this.#expected.set(region, this.#start);
    }
    if (Buffer.compare(now, this.#expected) === 0) return;
    const at = now.findIndex((byte, index) => byte !== this.#expected[index]);
    throw new Failure(
      `${what}: byte ${at - this.#start} of a view of ${this.length} bytes was changed`,
    );
  }
}

const small = Array.from({ length: SMALL }, () => new Slot(PAGE));
const large = Array.from({ length: LARGE }, () => new Slot(LARGE_BYTES));

/** Hands out the slots of one sequence. */
export class Arena {
  readonly used = new Set<Slot>();
  #small = 0;
  #large = 0;

  /** A slot with a view of so many bytes. When they run out, the first one is laid anew. */
  take(length: number, choices: Choices): Slot | undefined {
    const slot = length > PAGE ? large[this.#large] : small[this.#small];
    if (!slot) return undefined;
    if (length > PAGE) this.#large++;
    else this.#small++;
    slot.lay(length, choices);
    this.used.add(slot);
    return slot;
  }
}
