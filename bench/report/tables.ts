/**
 * The numbers of a run as tables.
 *
 * @module
 */
import type { ResultLine, Spread } from "../results.ts";
import { counted, lossShare, measured, plain } from "./text.ts";

/** Numbers as texts: the first cell of a row names it. */
export interface Table {
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** What a latency is told by, and the shape of its point. */
export const PERCENTILES = [
  ["p50", "circle"],
  ["p90", "diamond"],
  ["p99", "triangle-up"],
  ["max", "square"],
] as const;

/** What was not measured. */
export const ABSENT = "–";

/** A head, and what a line has under it. */
export type Column = readonly [head: string, value: (line: ResultLine) => string];

/** Every number of every line. */
export function everything(results: readonly ResultLine[]): Table {
  const optional = (value: number | null, write = measured) =>
    value === null ? ABSENT : write(value);
  const columns: Column[] = [
    ["question", (line) => plain(line.question)],
    ["send", (line) => plain(line.send)],
    ["receive", (line) => plain(line.receive)],
    ["family", (line) => plain(line.family)],
    ["bytes", (line) => String(line.payloadBytes)],
    ["batch", (line) => String(line.batch)],
    ["topology", (line) => plain(line.topology)],
    ["form", (line) => plain(line.form)],
    ["rounds", (line) => String(line.rounds)],
    ["datagrams", (line) => counted(line.datagrams)],
    ["ns/datagram", (line) => spreadText(line.ns)],
    ["send CPU, ns", (line) => spreadText(line.sendCpuNs)],
    ["receive CPU, ns", (line) => spreadText(line.receiveCpuNs)],
    ["datagrams/s", (line) => spreadText(line.datagramsPerSecond)],
    ["Gbit/s", (line) => spreadText(line.gbitPerSecond)],
    ["send calls/datagram", (line) => optional(line.sendCallsPerDatagram)],
    ["receive calls/datagram", (line) => optional(line.receiveCallsPerDatagram)],
    ["bytes allocated/datagram", (line) => optional(line.bytesAllocatedPerDatagram)],
    ["send batch", (line) => optional(line.achievedSendBatch)],
    ["receive batch", (line) => optional(line.achievedReceiveBatch)],
    ["segments", (line) => optional(line.achievedSegments)],
    ["send buffer, bytes", (line) => optional(line.sendBufferBytes, counted)],
    ["receive buffer, bytes", (line) => optional(line.receiveBufferBytes, counted)],
    ...PERCENTILES.map(
      ([name]): Column => [`${name}, µs`, ({ latencyUs }) => optional(latencyUs?.[name] ?? null)],
    ),
    ["ratio to C", (line) => spreadText(line.ratioToC)],
  ];
  return tableOf(results, columns);
}

/** The median, of rounds that do not agree as no more than a hint. */
export function about({ isNoisy }: ResultLine, { median }: Spread): string {
  return `${isNoisy ? "~" : ""}${measured(median)}`;
}

/** The median, the least and the most. */
export function spreadText(spread: Spread | null): string {
  if (!spread) return ABSENT;
  return `${measured(spread.median)} (${measured(spread.min)} – ${measured(spread.max)})`;
}

/** A row for each line: whose it is, then the columns, what was lost, and whether the rounds agree. */
export function tableOf(lines: readonly ResultLine[], columns: readonly Column[]): Table {
  const all: Column[] = [
    ["cell", (line) => plain(line.cell)],
    ["peer", (line) => plain(line.peer)],
    ...columns,
    ["lost", (line) => (line.lost === 0 ? "0" : `${counted(line.lost)} (${lossShare(line)})`)],
    ["rounds agree", (line) => (line.isNoisy ? "no: noisy" : "yes")],
  ];
  return {
    head: all.map(([head]) => head),
    rows: lines.map((line) => all.map(([, value]) => value(line))),
  };
}
