/**
 * The payload of `blast` and `ping`, which `sink` reads and `echo` sends back as it is. In network
 * byte order, and what follows is filler:
 *
 *      0  "bs", version 1, kind: 0 one of a run, 1 the run is over
 *      4  run, chosen at random: tells senders apart
 *      8  sequence number, 64 bits, from 0; of "over" how many there were
 *     16  seconds of the system's clock, just before it was sent
 *     20  nanoseconds after that
 *     24  only of "over": how many of these numbers were never sent, 64 bits
 *
 * @module
 */
import { CLOCK_REALTIME, timespec } from "bun-sockets/structs";
import { clock_gettime } from "bun-sockets/sys";

/** Bytes of payload that a datagram has at least. */
export const PROBE_BYTES = 24;
/** Bytes of payload of "over". */
export const OVER_BYTES = 32;
/** What stands in place of a kind where a datagram is not ours. */
export const FOREIGN = -1;
/** One of a run. */
export const PROBE = 0;
/** The run is over. */
export const OVER = 1;

const MAGIC = 0x62730100;
const RUN = 4;
const SEQUENCE = 8;
const SECONDS = 16;
const NANOSECONDS = 20;
const UNSENT = 24;
const HIGH = 2 ** 32;
// A sequence number is a number: exact up to 2^53.
const SEQUENCE_HIGH_MAX = 2 ** 21 - 1;

/** A number for a run, which no other has at the same time. */
export function newRun(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] as number;
}

/** How a run is written. */
export function runText(run: number): string {
  return run.toString(16).padStart(8, "0");
}

/** Writes what stays the same in a run. */
export function setRun(view: DataView, at: number, kind: number, run: number): void {
  view.setUint32(at, MAGIC + kind);
  view.setUint32(at + RUN, run);
}

/** Writes the sequence number. */
export function setSequence(view: DataView, at: number, sequence: number): void {
  setCount(view, at + SEQUENCE, sequence);
}

/** Writes into "over" how many numbers were never sent. */
export function setUnsent(view: DataView, at: number, count: number): void {
  setCount(view, at + UNSENT, count);
}

function setCount(view: DataView, at: number, count: number): void {
  view.setUint32(at, count < HIGH ? 0 : Math.floor(count / HIGH));
  view.setUint32(at + 4, count);
}

/** Writes when it is sent. */
export function setTime(view: DataView, at: number, time: Time): void {
  const { seconds, nanoseconds } = time;
  view.setUint32(at + SECONDS, seconds);
  view.setUint32(at + NANOSECONDS, nanoseconds);
}

/** What a datagram of so many bytes is: `PROBE`, `OVER`, or `FOREIGN`. Whoever sent it. */
export function kindOf(view: DataView, at: number, length: number): number {
  if (length < PROBE_BYTES) return FOREIGN;
  const kind = view.getUint32(at) - MAGIC;
  if (kind !== PROBE && kind !== OVER) return FOREIGN;
  const isReal =
    view.getUint32(at + NANOSECONDS) < 1e9 && view.getUint32(at + SEQUENCE) <= SEQUENCE_HIGH_MAX;
  return isReal ? kind : FOREIGN;
}

/** Its run. */
export function runOf(view: DataView, at: number): number {
  return view.getUint32(at + RUN);
}

/** Its sequence number. */
export function sequenceOf(view: DataView, at: number): number {
  return view.getUint32(at + SEQUENCE) * HIGH + view.getUint32(at + SEQUENCE + 4);
}

/** How many numbers "over", of so many bytes, says were never sent: 0 where it says nothing that can be. */
export function unsentOf(view: DataView, at: number, length: number): number {
  if (length < OVER_BYTES) return 0;
  const unsent = view.getUint32(at + UNSENT) * HIGH + view.getUint32(at + UNSENT + 4);
  return unsent <= sequenceOf(view, at) ? unsent : 0;
}

/** Nanoseconds from when it was sent to a time. */
export function transitNs(
  view: DataView,
  at: number,
  seconds: number,
  nanoseconds: number,
): number {
  // Exact, though neither of the two times is as nanoseconds.
  return (
    (seconds - view.getUint32(at + SECONDS)) * 1e9 +
    (nanoseconds - view.getUint32(at + NANOSECONDS))
  );
}

/** A time of the system's clock. */
export interface Time {
  /** Whole seconds since 1970. */
  readonly seconds: number;
  /** Nanoseconds after that. */
  readonly nanoseconds: number;
}

/** The system's clock, read without an object for each look. */
export class Clock implements Time {
  seconds = 0;
  nanoseconds = 0;
  readonly #bytes = new Uint8Array(new ArrayBuffer(timespec.size));
  readonly #view = new DataView(this.#bytes.buffer);

  /** Looks at it. */
  read(): void {
    clock_gettime(CLOCK_REALTIME, this.#bytes);
    this.seconds = timespec.tv_sec.get(this.#view, 0);
    this.nanoseconds = timespec.tv_nsec.get(this.#view, 0);
  }
}
