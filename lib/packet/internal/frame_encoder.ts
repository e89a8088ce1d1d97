/**
 * Writes what stands around a frame in a capture file.
 *
 * @module
 */
import type { CaptureOutput } from "./capture_output.ts";
import { RECORD_BYTES } from "./pcap.ts";
import { type BlockOption, optionsBytes, putOptions } from "./pcapng_blocks.ts";
import { Block, ENHANCED_BYTES, padded } from "./pcapng_format.ts";
import { RESOLUTION_NS, RESOLUTION_US, TimeWords } from "./pcapng_time.ts";

/** Times of a file. */
export type CaptureResolution = "ns" | "us";

/** Writes what stands around a frame. Allocates nothing. */
export interface FrameEncoder {
  /** How many bytes that are at most, without options. */
  readonly bytes: number;
  /** The latest second that it can say. */
  readonly secondsMax: number;
  /** Writes what stands before a frame; its bytes come next. */
  begin(
    output: CaptureOutput,
    number: number,
    length: number,
    originalLength: number,
    seconds: number,
    nanoseconds: number,
  ): void;
  /** Writes what stands behind it. */
  end(output: CaptureOutput, length: number, options: readonly BlockOption[]): void;
}

/** Writes records of pcap, which have no room for an interface, and none for options. */
export class PcapEncoder implements FrameEncoder {
  readonly bytes = RECORD_BYTES;
  readonly secondsMax = 2 ** 32 - 1;
  readonly #unitNs: number;

  constructor(resolution: CaptureResolution) {
    this.#unitNs = resolution === "ns" ? 1 : 1000;
  }

  begin(
    output: CaptureOutput,
    _number: number,
    length: number,
    originalLength: number,
    seconds: number,
    nanoseconds: number,
  ): void {
    const { view, at, isLittle } = output;
    view.setUint32(at, seconds, isLittle);
    view.setUint32(at + 4, Math.floor(nanoseconds / this.#unitNs), isLittle);
    view.setUint32(at + 8, length, isLittle);
    view.setUint32(at + 12, originalLength, isLittle);
    output.at = at + RECORD_BYTES;
  }

  end(): void {}
}

/** Writes enhanced packet blocks of pcapng. */
export class PcapngEncoder implements FrameEncoder {
  // With what fills up to a whole word.
  readonly bytes = ENHANCED_BYTES + 3;
  // 2^64 nanoseconds.
  readonly secondsMax = 18_446_744_072;
  readonly #time: TimeWords;
  #start = 0;

  constructor(resolution: CaptureResolution) {
    this.#time = new TimeWords(resolution === "ns" ? RESOLUTION_NS : RESOLUTION_US);
  }

  begin(
    output: CaptureOutput,
    number: number,
    length: number,
    originalLength: number,
    seconds: number,
    nanoseconds: number,
  ): void {
    const { view, at, isLittle } = output;
    const time = this.#time;
    time.set(seconds, nanoseconds);
    this.#start = at;
    view.setUint32(at, Block.enhancedPacket, isLittle);
    view.setUint32(at + 8, number, isLittle);
    view.setUint32(at + 12, time.high, isLittle);
    view.setUint32(at + 16, time.low, isLittle);
    view.setUint32(at + 20, length, isLittle);
    view.setUint32(at + 24, originalLength, isLittle);
    output.at = at + 28;
  }

  end(output: CaptureOutput, length: number, options: readonly BlockOption[]): void {
    const start = this.#start;
    output.fillTo(start + 28 + padded(length));
    const bytes = ENHANCED_BYTES + padded(length) + optionsBytes(options);
    if (options.length > 0) putOptions(output, options);
    output.view.setUint32(start + 4, bytes, output.isLittle);
    output.u32(bytes);
  }
}
