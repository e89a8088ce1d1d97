import { systemError } from "./error.ts";
import { mapMemory, unmapMemory } from "./ffi/memory.ts";
import { requireInteger } from "./internal/arguments.ts";

/**
 * Zeroed, page-aligned memory at an address that never changes, which the kernel and JavaScript
 * share: for the C calls of "bun-sockets/sys", whose structs hold addresses.
 *
 * Lifetime: until `free`, or until the last view of it is collected. After `free` every view is
 * empty, never dangling.
 *
 * @see {@link https://man7.org/linux/man-pages/man2/mmap.2.html | mmap(2)}
 *
 * @example
 * ```ts
 * import { NativeBuffer } from "bun-sockets";
 *
 * const buffer = new NativeBuffer(4096);
 * const view = buffer.bytes.subarray(0, 16);
 * buffer.free();
 * console.log(view.length); // 0
 * ```
 */
export class NativeBuffer {
  /** The whole memory. Empty after `free`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where it is. Of no use, and dangerous, after `free`. */
  readonly address: number;
  // Its own reference: `bytes.buffer` is what a caller says it is.
  readonly #buffer: ArrayBuffer;

  /**
   * Maps memory.
   *
   * @param byteLength 1 to 2^32 bytes; the kernel rounds the mapping up to whole pages, the view is
   * this long
   * @throws {RangeError} byteLength is out of range
   * @throws {SystemError} `ENOMEM` there is not enough
   */
  constructor(byteLength: number) {
    requireInteger(byteLength, 1, 2 ** 32, "a length in bytes");
    const mapping = mapMemory(byteLength);
    if (typeof mapping === "number") throw systemError(mapping, "mmap");
    this.#buffer = mapping.buffer;
    this.bytes = new Uint8Array(mapping.buffer);
    this.address = mapping.address;
  }

  /** Whether the memory is gone: freed, or detached by a transfer. */
  get freed(): boolean {
    return this.#buffer.detached;
  }

  /**
   * Returns the memory to the kernel and empties every view. Does nothing the second time, nor when
   * the ArrayBuffer was transferred: the memory then belongs to who has it.
   */
  free(): void {
    unmapMemory(this.#buffer);
  }

  /** Frees at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.free();
  }
}
