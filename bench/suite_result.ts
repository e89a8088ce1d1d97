/**
 * What the rounds of a peer come to: a line of results.
 *
 * @module
 */
import { createHistogram } from "node:perf_hooks";
import { max, median, min } from "simple-statistics";
import type { Cell } from "./cells.ts";
import type { CallCounts, Pair, Round } from "./peers/suite_programs.ts";
import type { ResultLine, Spread } from "./results.ts";

/** What was found out beside the rounds. */
export interface Extras {
  readonly calls: CallCounts;
  readonly bytesAllocated: number | null;
}

/** Who was measured, where, and with which buffers. */
export type Measured = Pick<Pair, "peer" | "cell" | "sendBufferBytes" | "receiveBufferBytes">;

const NOISE = 0.25;
const DIGITS = 5;

// More digits than any measurement has, and none of those that only make lines long.
function round(value: number): number {
  return Number(value.toPrecision(DIGITS));
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

function latencyOf(rounds: readonly Round[]): ResultLine["latencyUs"] {
  const histogram = createHistogram();
  // Not before it was sent, whatever the clocks of two cores say.
  for (const { samples } of rounds)
    for (const sample of samples) histogram.record(Math.max(1, Math.round(sample)));
  if (histogram.count === 0) return null;
  // What it gives is the end of a bucket.
  const at = (percent: number) => Math.min(histogram.percentile(percent), histogram.max) / 1000;
  return { p50: at(50), p90: at(90), p99: at(99), max: histogram.max / 1000 };
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
  { calls, bytesAllocated }: Extras,
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
    bytesAllocatedPerDatagram: bytesAllocated === null ? null : round(bytesAllocated),
    achievedSendBatch: middleOf(rounds.map((round) => round.sendBatch)),
    achievedReceiveBatch: middleOf(rounds.map((round) => round.receiveBatch)),
    achievedSegments: middleOf(rounds.map((round) => round.segments)),
    sendBufferBytes,
    receiveBufferBytes,
    latencyUs: latencyOf(rounds),
    ratioToC: inC === undefined || peer.peer === "c" ? null : spreadOf(ratios),
    isNoisy: (ns.max - ns.min) / ns.median > NOISE,
  };
}
