import type { DatagramBatch } from "../datagram_batch.ts";
import type { Descriptor } from "./descriptor.ts";

/** What an iterator or a handler of batches needs of its socket. */
export interface BatchSource {
  readonly descriptor: Descriptor;
  /** Fills a batch. Returns 0 when nothing is waiting. */
  receive(batch: DatagramBatch): number;
  /** Says who is called when a send finds no room. */
  onFull(listener: (() => undefined) | undefined): void;
  /**
   * Says that a loop begins.
   *
   * @throws {TypeError} there is a handler, which it would starve
   */
  enterLoop(): void;
  /** Says that it has ended. */
  leaveLoop(): void;
  /** Whether no event tells when there is room. */
  hasQueuesOfOthers(): boolean;
}
