/**
 * Capture files made by hand, field by field, for tests of what reads them.
 *
 * @module
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type ByteOrder = "little" | "big";

/** Numbers of a byte order, one behind the other. */
export class Bytes {
  readonly isLittle: boolean;
  readonly #parts: Buffer[] = [];

  constructor(byteOrder: ByteOrder = "little") {
    this.isLittle = byteOrder === "little";
  }

  u16(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(2);
      if (this.isLittle) part.writeUInt16LE(value);
      else part.writeUInt16BE(value);
      this.#parts.push(part);
    }
    return this;
  }

  u32(...values: number[]): this {
    for (const value of values) {
      const part = Buffer.alloc(4);
      if (this.isLittle) part.writeUInt32LE(value);
      else part.writeUInt32BE(value);
      this.#parts.push(part);
    }
    return this;
  }

  u64(value: bigint): this {
    const high = Number(BigInt.asUintN(64, value) >> 32n);
    const low = Number(BigInt.asUintN(32, value));
    return this.isLittle ? this.u32(low, high) : this.u32(high, low);
  }

  /** Bytes or text, as they are. */
  put(value: Uint8Array | string): this {
    this.#parts.push(Buffer.from(value as Uint8Array));
    return this;
  }

  /** The same, filled up to whole words. */
  padded(value: Uint8Array | string): this {
    const length = Buffer.from(value as Uint8Array).length;
    return this.put(value).put(new Uint8Array(-length & 3));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** An option: its code and value. A bigint is one of 64 bits, a number one of 32. */
export type Option = readonly [code: number, value: Uint8Array | string | number | bigint];

/** A section of pcapng. */
export class Section {
  readonly byteOrder: ByteOrder;
  readonly blocks: Buffer[] = [];

  constructor(byteOrder: ByteOrder = "little", options: readonly Option[] = [], version = [1, 0]) {
    this.byteOrder = byteOrder;
    const body = this.body()
      .u32(0x1a2b3c4d)
      .u16(...version)
      .u64(-1n);
    this.block(0x0a0d0d0a, body.put(this.options(options)).bytes);
  }

  body(): Bytes {
    return new Bytes(this.byteOrder);
  }

  options(options: readonly Option[]): Buffer {
    const bytes = this.body();
    for (const [code, value] of options) {
      let told = value as Uint8Array;
      if (typeof value === "string") told = Buffer.from(value);
      else if (typeof value === "number") told = this.body().u32(value).bytes;
      else if (typeof value === "bigint") told = this.body().u64(value).bytes;
      bytes.u16(code, told.length).padded(told);
    }
    return options.length > 0 ? bytes.u16(0, 0).bytes : bytes.bytes;
  }

  block(type: number, body: Uint8Array): this {
    const length = 12 + body.length;
    this.blocks.push(this.body().u32(type, length).put(body).u32(length).bytes);
    return this;
  }

  interface(linkType = 1, snapBytes = 0, options: readonly Option[] = []): this {
    return this.block(
      1,
      this.body().u16(linkType, 0).u32(snapBytes).put(this.options(options)).bytes,
    );
  }

  /** An enhanced packet block. */
  packet(
    data: Uint8Array | string,
    { number = 0, time = 0n, originalLength = data.length, options = [] as readonly Option[] } = {},
  ): this {
    const body = this.body().u32(number, Number(BigInt.asUintN(64, time) >> 32n));
    body.u32(Number(BigInt.asUintN(32, time)), data.length, originalLength).padded(data);
    return this.block(6, body.put(this.options(options)).bytes);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.blocks);
  }
}

/** The header of a pcap file. */
export function pcapHeader(
  magic = 0xa1b2c3d4,
  { byteOrder = "little" as ByteOrder, version = [2, 4], snapBytes = 65_535, linkType = 1 } = {},
): Buffer {
  const bytes = new Bytes(byteOrder).u32(magic).u16(...version);
  return bytes.u32(0, 0, snapBytes, linkType).bytes;
}

/** A record of a pcap file. */
export function pcapRecord(
  data: Uint8Array | string,
  {
    byteOrder = "little" as ByteOrder,
    seconds = 0,
    fraction = 0,
    originalLength = data.length,
  } = {},
): Buffer {
  const bytes = new Bytes(byteOrder).u32(seconds, fraction, data.length, originalLength);
  return bytes.put(data).bytes;
}

/** A folder that ends with the block. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bun-sockets-capture-"));

  /** The path of a file in it. */
  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** The same numbers for the same seed: mulberry32. */
export function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
