/**
 * What a capture file is written through: memory that is handed to the kernel by the MiB.
 *
 * @module
 */
import { EAGAIN, EINTR } from "../../../structs/constants/errno.ts";
import { POLLOUT } from "../../../structs/constants/poll.ts";
import { check, systemError } from "../../error.ts";
import { addressOf, copyMemory } from "../../ffi/memory.ts";
import { waitUntil } from "../../internal/deadline.ts";
import { close, write } from "../../sys/unistd.ts";
import { fileAddress } from "./capture_input.ts";
import { hold, letGo } from "./file_net.ts";

/** When so much has come together, it is written. */
const FULL_BYTES = 1 << 20;
const NONE = -1;

/** A file, and what is not written yet. */
export class CaptureOutput {
  /** The path of the file, where it has one. */
  readonly path: string | undefined;
  readonly isLittle: boolean;
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView<ArrayBuffer>;
  /** Where the next byte goes. */
  at = 0;
  #fd = NONE;
  #isOwn = false;
  #address: number;
  /** What of the memory is written already: after an error not all was. */
  #written = 0;
  /** What was written and is not in the memory any more. */
  #sent = 0;
  #isClosed = false;

  /**
   * Makes the memory. It has no file yet: what is wrong with a header is found before one is touched.
   *
   * @param recordBytes the longest that is put into it between two calls of `prepare`
   */
  constructor(path: string | undefined, isLittle: boolean, recordBytes: number) {
    this.path = path;
    this.isLittle = isLittle;
    this.bytes = new Uint8Array(new ArrayBuffer(FULL_BYTES + recordBytes));
    this.view = new DataView(this.bytes.buffer);
    this.#address = addressOf(this.bytes.buffer);
  }

  /** Says where it goes. */
  attach(fd: number, isOwn: boolean): void {
    this.#fd = fd;
    this.#isOwn = isOwn;
    if (isOwn) hold(this, fd);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Bytes that were put into it. */
  get length(): number {
    return this.#sent + this.at;
  }

  /** Sees to it that there is room for a record as long as was said. */
  prepare(): void {
    if (this.at >= FULL_BYTES) this.drain();
  }

  /** Sees to it that there is room for so many bytes. */
  reserve(count: number): void {
    if (this.at + count <= this.bytes.length) return;
    if (this.#fd !== NONE) this.drain();
    if (this.at + count <= this.bytes.length) return;
    const larger = new Uint8Array(new ArrayBuffer(this.at + count + FULL_BYTES));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
    this.view = new DataView(larger.buffer);
    this.#address = addressOf(larger.buffer);
  }

  /** Writes all that has come together. After an error it goes on where it was. */
  drain(): void {
    while (this.#written < this.at) {
      const result = write(this.#fd, this.bytes.subarray(this.#written, this.at));
      if (result >= 0) this.#written += result;
      else if (result === -EAGAIN) waitUntil(this.#fd, POLLOUT, Number.POSITIVE_INFINITY, "write");
      else if (result !== -EINTR)
        throw systemError(result, "write", { address: fileAddress(this.path) });
    }
    this.#sent += this.at;
    this.#written = 0;
    this.at = 0;
  }

  /** Closes the descriptor, if it is its own. */
  close(): void {
    this.#isClosed = true;
    if (!this.#isOwn) return;
    letGo(this);
    const result = close(this.#fd);
    // Closed it is then too.
    if (result !== -EINTR) check(result, "close", { address: fileAddress(this.path) });
  }

  /** Puts a number of 16 bits. */
  u16(value: number): void {
    this.view.setUint16(this.at, value, this.isLittle);
    this.at += 2;
  }

  /** Puts a number of 32 bits. */
  u32(value: number): void {
    this.view.setUint32(this.at, value, this.isLittle);
    this.at += 4;
  }

  /** Puts bytes. */
  put(source: Uint8Array): void {
    this.bytes.set(source, this.at);
    this.at += source.length;
  }

  /** Puts bytes at an address: somebody must hold them, and have told how many there are. */
  putFrom(address: number, count: number): void {
    copyMemory(this.#address + this.at, address, count);
    this.at += count;
  }

  /** Puts zeros up to a place. */
  fillTo(end: number): void {
    while (this.at < end) this.bytes[this.at++] = 0;
  }
}
