/**
 * The results of the suite as a table that people read.
 *
 * @module
 */
import CliTable from "cli-table3";
import type { EnvironmentLine, ResultLine, Spread } from "./results.ts";

const HEAD = [
  ...["cell", "peer", "ns", "min", "max", "÷ c", "CPU ns send", "receive", "datagrams/s"],
  ...["Gbit/s", "lost", "calls send", "receive", "bytes", "batch", "p50 µs", "p99", ""],
];
const TEXTS = [0, 1, HEAD.length - 1];

function shorten(value: number | null | undefined, digits = 0): string {
  return value == null ? "" : value.toFixed(digits);
}

function middle(spread: Spread | null, digits = 0): string {
  return shorten(spread?.median, digits);
}

/** Of all that were sent. */
export function lossOf({ lost, datagrams }: ResultLine): string {
  if (lost === 0) return "0";
  const percent = (100 * lost) / datagrams;
  return percent < 0.01 ? String(lost) : `${percent.toFixed(2)} %`;
}

function batchesOf({ achievedSendBatch, achievedReceiveBatch }: ResultLine): string {
  if (achievedSendBatch === null && achievedReceiveBatch === null) return "";
  return `${shorten(achievedSendBatch)} → ${shorten(achievedReceiveBatch)}`;
}

function cellsOf(line: ResultLine): string[] {
  // A number of three digits would look exact.
  const about = line.isNoisy ? "~" : "";
  return [
    ...[line.cell, line.peer, `${about}${middle(line.ns)}`, shorten(line.ns.min)],
    ...[shorten(line.ns.max), line.isNoisy ? "" : middle(line.ratioToC, 2)],
    ...[middle(line.sendCpuNs), middle(line.receiveCpuNs)],
    Math.round(line.datagramsPerSecond.median).toLocaleString("en"),
    ...[middle(line.gbitPerSecond, 2), lossOf(line), shorten(line.sendCallsPerDatagram, 3)],
    ...[shorten(line.receiveCallsPerDatagram, 3), shorten(line.bytesAllocatedPerDatagram)],
    ...[batchesOf(line), shorten(line.latencyUs?.p50), shorten(line.latencyUs?.p99)],
    line.isNoisy ? "too noisy" : "",
  ];
}

/** One line about the machine. */
export function environmentText(line: EnvironmentLine): string {
  const { cpu, cores, memoryGiB, kernel, bun, load } = line;
  return `${cpu}, ${cores} cores, ${memoryGiB} GiB, Linux ${kernel}, Bun ${bun}, load ${load}`;
}

/** A table for each question, with the lines of each cell together. */
export function resultTables(lines: readonly ResultLine[]): string {
  const questions = Map.groupBy(lines, ({ question }) => question);
  return [...questions].map(([question, some]) => `${question}\n${tableOf(some)}`).join("\n\n");
}

function tableOf(lines: readonly ResultLine[]): string {
  const table = new CliTable({
    head: HEAD,
    style: { head: [], border: [], compact: true },
    colAligns: HEAD.map((_, i) => (TEXTS.includes(i) ? "left" : "right")),
  });
  for (const line of lines) table.push(cellsOf(line));
  return table.toString();
}
