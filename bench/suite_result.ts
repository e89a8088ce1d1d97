/**
 * What the rounds of a peer come to: a line of results.
 *
 * @module
 */
import { createHistogram } from "node:perf_hooks";
import { max, median, min } from "simple-statistics";
import type { Cell } from "./cells.ts";
import type { Allocated } from "./peers/suite_memory.ts";
import type { Pair } from "./peers/suite_programs.ts";
import type { CallCounts, Round } from "./peers/suite_round.ts";
import type { LatencySteps, ResultLine, Spread } from "./results.ts";

/** What was found out beside the rounds. */
export interface Extras {
  readonly calls: CallCounts;
  readonly allocated: Allocated;
  /** How long datagrams have waited since the kernel had them, in nanoseconds. */
  readonly waits: readonly number[] | null;
}

/** Who was measured, where, and with which buffers. */
export type Measured = Pick<Pair, "peer" | "cell" | "sendBufferBytes" | "receiveBufferBytes">;

const NOISE = 0.25;
const DIGITS = 5;
const STEPS_OF_AN_OCTAVE = 4;

// More digits than any measurement has, and none of those that only make lines long.
function round(value: number): number {
  return Number(value.toPrecision(DIGITS));
}

function roundOrNull(value: number | null): number | null {
  return value === null ? null : round(value);
}

function spreadOf(values: readonly number[]): Spread {
  const all = [...values];
  return { median: round(median(all)), min: round(min(all)), max: round(max(all)) };
}

function middleOf(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : round(median(known));
}

function spreadOrNull(values: readonly (number | null)[]): Spread | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : spreadOf(known);
}

function latencyOf(samples: readonly number[]): ResultLine["latencyUs"] {
  const histogram = createHistogram();
  // Not before it was sent, whatever the clocks of two cores say.
  for (const sample of samples) histogram.record(Math.max(1, Math.round(sample)));
  if (histogram.count === 0) return null;
  // What it gives is the end of a bucket.
  const at = (percent: number) => Math.min(histogram.percentile(percent), histogram.max) / 1000;
  return { p50: at(50), p90: at(90), p99: at(99), max: histogram.max / 1000 };
}

/** How many samples took how long, by quarters of an octave. */
export function stepsOf(rounds: readonly Pick<Round, "samples">[]): LatencySteps | null {
  const counts = new Map<number, number>();
  for (const { samples } of rounds) {
    for (const sample of samples) {
      const step = Math.ceil(STEPS_OF_AN_OCTAVE * Math.log2(Math.max(1, sample) / 1000));
      counts.set(step, (counts.get(step) ?? 0) + 1);
    }
  }
  if (counts.size === 0) return null;
  return [...counts]
    .sort(([a], [b]) => a - b)
    .map(([step, count]) => [round(2 ** (step / STEPS_OF_AN_OCTAVE)), count]);
}

function formOf({ peer, cell }: Measured): Cell["form"] {
  if (peer === "bun-sockets") return cell.form;
  return peer === "c" || peer === "python" ? "try" : "handler";
}

/**
 * The line of a peer in a cell. `inC` are the rounds of C in the same cell, one for each of its own.
 */
export function lineOf(
  peer: Measured,
  rounds: readonly Round[],
  inC: readonly Round[] | undefined,
  { calls, allocated, waits }: Extras,
): ResultLine {
  const { cell, sendBufferBytes, receiveBufferBytes } = peer;
  const ns = spreadOf(rounds.map((round) => round.ns));
  const total = (key: "sent" | "received") => rounds.reduce((sum, round) => sum + round[key], 0);
  const ratios = rounds.map(({ ns }, i) => ns / (inC?.[i]?.ns ?? Number.NaN));
  return {
    kind: "result",
    ...{ cell: cell.name, question: cell.question, peer: peer.peer },
    ...{ send: cell.send, receive: cell.receive, family: cell.family },
    ...{ payloadBytes: cell.bytes, batch: cell.batch, topology: cell.topology },
    form: formOf(peer),
    rounds: rounds.length,
    datagrams: total("sent"),
    lost: total("sent") - total("received"),
    ns,
    sendCpuNs: spreadOrNull(rounds.map((round) => round.sendCpuNs)),
    receiveCpuNs: spreadOrNull(rounds.map((round) => round.receiveCpuNs)),
    datagramsPerSecond: spreadOf(rounds.map((round) => 1e9 / round.ns)),
    gbitPerSecond: spreadOf(rounds.map((round) => (cell.bytes * 8) / round.ns)),
    sendCallsPerDatagram: middleOf(rounds.map(({ sendCalls }) => sendCalls)) ?? calls.send,
    receiveCallsPerDatagram:
      middleOf(rounds.map(({ receiveCalls }) => receiveCalls)) ?? calls.receive,
    bytesAllocatedPerDatagram: roundOrNull(allocated.both),
    sendBytesPerDatagram: roundOrNull(allocated.send),
    receiveBytesPerDatagram: roundOrNull(allocated.receive),
    achievedSendBatch: middleOf(rounds.map((round) => round.sendBatch)),
    achievedReceiveBatch: middleOf(rounds.map((round) => round.receiveBatch)),
    achievedSegments: middleOf(rounds.map((round) => round.segments)),
    sendBufferBytes,
    receiveBufferBytes,
    plainShare: middleOf(rounds.map(({ plain }) => plain)),
    stalls: rounds.reduce((sum, { stalls }) => sum + stalls, 0),
    latencyUs: latencyOf(rounds.flatMap(({ samples }) => samples)),
    latencySteps: stepsOf(rounds),
    waitUs: latencyOf(waits ?? []),
    ratioToC: inC === undefined || peer.peer === "c" ? null : spreadOf(ratios),
    isNoisy: (ns.max - ns.min) / ns.median > NOISE,
  };
}
