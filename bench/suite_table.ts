/**
 * The results of the suite as a table that people read.
 *
 * @module
 */
import CliTable from "cli-table3";
import { QUICK_CELLS } from "./cells.ts";
import type { EnvironmentLine, ResultLine, Spread } from "./results.ts";

const HEAD = [
  ...["cell", "peer", "ns", "min", "max", "÷ c", "CPU ns send", "receive", "datagrams/s"],
  ...["Gbit/s", "lost", "calls send", "receive", "bytes", "batch", "p50 µs", "p99"],
  // From when the kernel had it.
  ...["kernel p50", "p99", ""],
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

function bytesOf(line: ResultLine): string {
  const { sendBytesPerDatagram: sent, receiveBytesPerDatagram: received } = line;
  if (sent == null || received == null) return shorten(line.bytesAllocatedPerDatagram);
  return `${shorten(sent)} + ${shorten(received)}`;
}

/** What speaks against the numbers of a line. */
export function doubtsOf({ isNoisy, stalls = 0 }: ResultLine): string {
  const vain = stalls === 0 ? "" : `${stalls} ${stalls === 1 ? "stall" : "stalls"}`;
  return [isNoisy ? "too noisy" : "", vain].filter((text) => text !== "").join(", ");
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
    ...[shorten(line.receiveCallsPerDatagram, 3), bytesOf(line)],
    ...[batchesOf(line), shorten(line.latencyUs?.p50), shorten(line.latencyUs?.p99)],
    ...[shorten(line.waitUs?.p50), shorten(line.waitUs?.p99), doubtsOf(line)],
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

const QUICK_HEAD = ["peer", "ns/datagram", "datagrams/s", "Gbit/s", "÷ C", "lost", ""];

/** A table that fits a terminal: what a datagram costs, of each cell by whom. */
export function quickTable(lines: readonly ResultLine[]): string {
  const table = new CliTable({
    head: QUICK_HEAD,
    style: { head: [], border: [], compact: true },
    colAligns: QUICK_HEAD.map((_, i) =>
      i === 0 || i === QUICK_HEAD.length - 1 ? "left" : "right",
    ),
  });
  for (const [cell, some] of Map.groupBy(lines, (line) => line.cell)) {
    table.push([{ colSpan: QUICK_HEAD.length, content: titleOf(cell) }]);
    for (const line of some) table.push(quickCellsOf(line));
  }
  return table.toString();
}

function titleOf(name: string): string {
  const [, what] = [...QUICK_CELLS].find(([cell]) => cell.name === name) ?? [];
  return what === undefined ? name : `${name}: ${what}`;
}

function quickCellsOf(line: ResultLine): string[] {
  const about = line.isNoisy ? "~" : "";
  return [
    ...[`  ${line.peer}`, `${about}${middle(line.ns)}`],
    Math.round(line.datagramsPerSecond.median).toLocaleString("en"),
    ...[middle(line.gbitPerSecond, 2), line.isNoisy ? "" : middle(line.ratioToC, 2)],
    ...[lossOf(line), doubtsOf(line)],
  ];
}
