/**
 * What the report shows of a run: which lines stand in which chart, and the table of the numbers
 * beside it.
 *
 * @module
 */
import type { ResultLine, Spread } from "../results.ts";
import { type LineChart, layLines, type Series } from "./line_chart.ts";
import { type Group, type Key, layRows, type Row, type RowChart, type Scale } from "./row_chart.ts";
import { colour, type Drawing } from "./svg.ts";
import {
  ABSENT,
  about,
  type Column,
  PERCENTILES,
  spreadText,
  type Table,
  tableOf,
} from "./tables.ts";
import { counted, lossShare, measured, plain, range, short, shorten } from "./text.ts";

/** A chart, at any width, and its numbers. */
export interface Figure {
  /** Of letters, digits and dashes, and no other's. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly table: Table;
  /** @param id Of the SVG: one page may hold the figure at two widths. */
  draw(width: number, id: string): Drawing;
}

/** Figures that answer the same. */
export interface Section {
  readonly id: string;
  readonly title: string;
  /** What its charts show, and how to read them. */
  readonly text: string;
  readonly figures: readonly Figure[];
  /** What stands there when the run has measured nothing of it. */
  readonly absent: string;
}

/** Everything that a report shows of a run, in its order. */
export function sectionsOf(results: readonly ResultLine[]): readonly Section[] {
  return [throughput(results), batches(results), latencies(results), ratios(results), cpu(results)];
}

function throughput(results: readonly ResultLine[]): Section {
  return {
    id: "throughput",
    title: "Throughput",
    text: "Datagrams that arrived in a second. Each question varies one thing of the base, the question “peers”, which stands first in its chart. The bar is the median of the rounds, the line across its end goes from the slowest round to the fastest.",
    figures: eachQuestion(results, throughputOf),
    absent: "This run has measured no throughput.",
  };
}

/** The throughput of the lines of one question: by what varies there, and by size. */
export function throughputOf(question: string, lines: readonly ResultLine[]): Figure {
  const highest = Math.max(...lines.map((line) => line.datagramsPerSecond.max));
  return rowFigure({
    id: `throughput-${question}`,
    title: `Throughput: ${question}`,
    description: `Bars of datagrams received a second, ${whole(lines)}.`,
    lines,
    scale: {
      title: "datagrams a second",
      type: "linear",
      from: 0,
      to: (highest || 1) * 1.02,
      format: "~s",
    },
    keys: [],
    row: (line) => ({
      ...written(line, line.datagramsPerSecond, short, "datagrams a second"),
      bars: [{ from: 0, to: line.datagramsPerSecond.median, colour: colour(line.peer) }],
      range: ends(line.datagramsPerSecond),
      points: [],
    }),
    columns: [
      ["datagrams/s", (line) => about(line, line.datagramsPerSecond)],
      ["from", (line) => measured(line.datagramsPerSecond.min)],
      ["to", (line) => measured(line.datagramsPerSecond.max)],
      ["Gbit/s", (line) => about(line, line.gbitPerSecond)],
      ["ns/datagram", (line) => about(line, line.ns)],
    ],
  });
}

function batches(results: readonly ResultLine[]): Section {
  const figure = batchesOf(results);
  return {
    id: "batches",
    title: "Cost by batch size",
    text: "What a datagram costs, by how many go in one call. The point is the median of the rounds, the line through it goes from the fastest round to the slowest.",
    figures: figure ? [figure] : [],
    absent: "This run has measured nothing at more than one batch size.",
  };
}

/** What a datagram costs by batch size, where all else is equal; nothing when there are no two sizes. */
export function batchesOf(results: readonly ResultLine[]): Figure | undefined {
  const lines = new Map<string, ResultLine[]>();
  for (const line of ofBatches(results)) {
    const { peer, send, receive, family, payloadBytes, topology, form } = line;
    const key = JSON.stringify([peer, send, receive, family, payloadBytes, topology, form]);
    const same = lines.get(key) ?? [];
    // What was measured for another question too stands there once.
    if (!same.some(({ batch }) => batch === line.batch)) same.push(line);
    lines.set(
      key,
      same.sort((a, b) => a.batch - b.batch),
    );
  }
  const groups = [...lines.values()].filter((same) => same.length > 1 && same[0]?.batch !== 0);
  if (groups.length === 0) return undefined;
  const all = groups.flat();
  const names = varying(
    all.map((line) => ours(line, all)),
    ["send", "family", "topology", "form"],
  );
  const smallest = Math.min(...all.map(({ payloadBytes }) => payloadBytes));
  const series = groups.map((same): Series => {
    const [line] = same as [ResultLine];
    const parts = [
      plain(line.peer),
      size(line.payloadBytes),
      ...names.map((name) => facet(line, name)),
    ];
    return {
      label: parts.join(", "),
      colour: colour(line.peer),
      isDashed: line.payloadBytes !== smallest,
      points: same.map((one) => ({
        x: one.batch,
        y: one.ns.median,
        ...ends(one.ns),
        isNoisy: one.isNoisy,
        remark: [one.isNoisy ? "noisy" : "", one.lost > 0 ? `${lossShare(one)} lost` : ""]
          .filter(Boolean)
          .join(", "),
        title: written(one, one.ns, measured, "ns a datagram").title,
      })),
    };
  });
  const chart: LineChart = { xTitle: "datagrams in a call", yTitle: "ns a datagram", series };
  return {
    id: "batches-cost",
    title: "Cost by batch size",
    description: `Lines of nanoseconds a datagram by datagrams in a call: ${series.length} lines. ${noisy(all)}`,
    table: tableOf(all, [
      ["batch", (line) => String(line.batch)],
      ["bytes", (line) => String(line.payloadBytes)],
      ["ns/datagram", (line) => about(line, line.ns)],
      ["from", (line) => measured(line.ns.min)],
      ["to", (line) => measured(line.ns.max)],
    ]),
    draw: (width, id) => layLines(chart, width, id),
  };
}

/**
 * The lines of the questions that vary the batch, then those of the base. What else was measured with
 * one of these batches may differ in what no member of a line says.
 */
function ofBatches(results: readonly ResultLine[]): ResultLine[] {
  const questions = Map.groupBy(results, ({ question }) => question);
  const isVaried = ([, lines]: [string, ResultLine[]]) =>
    new Set(lines.map(({ batch }) => batch)).size > 1;
  const varied = [...questions].filter(isVaried).flatMap(([, lines]) => lines);
  return [...varied, ...(questions.get(BASE) ?? [])];
}

function latencies(results: readonly ResultLine[]): Section {
  return {
    id: "latency",
    title: "Latency",
    text: "From before the send to after the receive, of the datagrams that were stamped: half of them took no longer than the circle says, 9 of 10 no longer than the diamond, 99 of 100 no longer than the triangle, and none longer than the square. The scale is logarithmic.",
    figures: eachQuestion(
      results.filter((line) => line.latencyUs),
      latencyOf,
    ),
    absent: "This run has measured no latency.",
  };
}

function latencyOf(question: string, lines: readonly ResultLine[]): Figure {
  // A logarithm has no zero: what took less than the clock tells stands at its first step.
  const visible = (value: number) => Math.max(value, 0.1);
  const values = lines.flatMap(({ latencyUs }) => Object.values(latencyUs ?? {}).map(visible));
  const [from, to] = [Math.min(...values) / 1.1, Math.max(...values) * 1.1];
  const keys: Key[] = PERCENTILES.map(([label, shape]) => ({
    label,
    shape,
    colour: colour("muted"),
  }));
  return rowFigure({
    id: `latency-${question}`,
    title: `Latency: ${question}`,
    description: `Points of p50, p90, p99 and the longest, in microseconds, ${whole(lines)}.`,
    lines,
    scale: {
      title: "µs; the numbers are p50 and p99",
      type: "log",
      from,
      to,
      ticks: latencyTicks(from, to),
      format: ",~r",
    },
    keys,
    row: (line) => {
      const us = line.latencyUs as NonNullable<ResultLine["latencyUs"]>;
      const all = PERCENTILES.map(([name]) => `${name} ${measured(us[name])}`).join(", ");
      const about = line.isNoisy ? "~" : "";
      const [p50, p99] = [about + measured(us.p50), about + measured(us.p99)];
      const brief = `${p50}, ${p99}`;
      return {
        title: `${lineName(line)}: ${all} µs${remarks(line)}`,
        value: line.isNoisy ? `noisy: ${brief}` : `p50 ${p50}, p99 ${p99}`,
        brief: line.isNoisy ? "noisy" : brief,
        isNoisy: line.isNoisy,
        bars: [],
        range: { from: visible(us.p50), to: visible(us.max) },
        points: PERCENTILES.map(([name, shape]) => ({
          at: visible(us[name]),
          shape,
          colour: colour(line.peer),
        })),
      };
    },
    columns: PERCENTILES.map(([name]) => [
      `${name}, µs`,
      ({ latencyUs }) => (latencyUs ? measured(latencyUs[name]) : ABSENT),
    ]),
  });
}

function latencyTicks(from: number, to: number): number[] {
  const decades = Array.from({ length: 12 }, (_, i) => 10 ** (i - 1));
  const steps = to / from > 100 ? [1] : [1, 2, 5];
  return decades
    .flatMap((decade) => steps.map((step) => Number((step * decade).toPrecision(3))))
    .filter((step) => from <= step && step <= to);
}

function ratios(results: readonly ResultLine[]): Section {
  return {
    id: "ratio",
    title: "Ratio to C",
    text: "Time for a datagram, divided by that of the same work in C in the same round. The point is the median of the rounds' ratios, the line goes from the least to the greatest. At 1 both take as long, at 2 twice as long as C. The scale is logarithmic.",
    figures: eachQuestion(
      results.filter((line) => line.ratioToC && line.ratioToC.min > 0),
      ratioOf,
    ),
    absent: "This run has nothing that was compared with C.",
  };
}

/** The ratio to C of the lines of one question. */
export function ratioOf(question: string, lines: readonly ResultLine[]): Figure {
  const spreads = lines.map((line) => line.ratioToC as Spread);
  const from = Math.min(0.8, ...spreads.map(({ min }) => min / 1.05));
  const to = Math.max(1.5, ...spreads.map(({ max }) => max * 1.05));
  return rowFigure({
    id: `ratio-${question}`,
    title: `Ratio to C: ${question}`,
    description: `Points of the time for a datagram, divided by that of C, with the range of the rounds, ${whole(lines)}.`,
    lines,
    scale: {
      title: "times as long as C",
      type: "log",
      from,
      to,
      ticks: ratioTicks(from, to),
      format: "~r",
      reference: 1,
    },
    keys: [],
    row: (line) => {
      const ratio = line.ratioToC as Spread;
      return {
        ...written(line, ratio, measured, "times as long as C"),
        bars: [],
        range: ends(ratio),
        points: [{ at: ratio.median, shape: "circle", colour: colour(line.peer) }],
      };
    },
    columns: [
      ["ratio to C", (line) => about(line, line.ratioToC as Spread)],
      ["from", (line) => measured((line.ratioToC as Spread).min)],
      ["to", (line) => measured((line.ratioToC as Spread).max)],
    ],
  });
}

function ratioTicks(from: number, to: number): number[] {
  const steps = to / from < 6 ? [1, 1.25, 1.5, 2, 2.5, 3] : [1, 2, 4, 8, 16, 32, 64, 128, 256];
  return [...steps.slice(1).map((step) => 1 / step), ...steps]
    .map((step) => Number(step.toPrecision(3)))
    .filter((step) => from <= step && step <= to)
    .sort((a, b) => a - b);
}

function cpu(results: readonly ResultLine[]): Section {
  return {
    id: "cpu",
    title: "CPU time by side",
    text: "CPU time for a datagram, user and kernel: what the sender takes, and next to it what the receiver takes. Medians of the rounds.",
    figures: eachQuestion(
      results.filter((line) => line.sendCpuNs || line.receiveCpuNs),
      cpuOf,
    ),
    absent: "This run has measured no CPU time.",
  };
}

function cpuOf(question: string, lines: readonly ResultLine[]): Figure {
  const sum = ({ sendCpuNs, receiveCpuNs }: ResultLine) =>
    (sendCpuNs?.median ?? 0) + (receiveCpuNs?.median ?? 0);
  const keys: Key[] = [
    { label: "sender", shape: "square", colour: colour("sending") },
    { label: "receiver", shape: "square", colour: colour("receiving") },
  ];
  const side = (name: string, spread: Spread | null) =>
    spread
      ? `${name} ${measured(spread.median)} (${range(spread, measured)}) ns`
      : `${name} not measured`;
  return rowFigure({
    id: `cpu-${question}`,
    title: `CPU time by side: ${question}`,
    description: `Bars of nanoseconds of CPU time a datagram, of the sender and of the receiver, ${whole(lines)}.`,
    lines,
    scale: {
      title: "ns a datagram",
      type: "linear",
      from: 0,
      to: (Math.max(...lines.map(sum)) || 1) * 1.02,
      format: ",~r",
    },
    keys,
    row: (line) => {
      const { sendCpuNs, receiveCpuNs } = line;
      const one = (spread: Spread | null) => (spread ? about(line, spread) : "?");
      const both = `${one(sendCpuNs)} + ${one(receiveCpuNs)}`;
      const sending = sendCpuNs?.median ?? 0;
      return {
        title: `${lineName(line)}: ${side("sender", sendCpuNs)}, ${side("receiver", receiveCpuNs)}${remarks(line)}`,
        value: `${line.isNoisy ? "noisy: " : ""}${both} ns`,
        brief: line.isNoisy ? "noisy" : both,
        isNoisy: line.isNoisy,
        bars: [
          ...(sendCpuNs ? [{ from: 0, to: sending, colour: colour("sending") }] : []),
          ...(receiveCpuNs ? [{ from: sending, to: sum(line), colour: colour("receiving") }] : []),
        ],
        range: null,
        points: [],
      };
    },
    columns: [
      ["sender, ns", ({ sendCpuNs }) => spreadText(sendCpuNs)],
      ["receiver, ns", ({ receiveCpuNs }) => spreadText(receiveCpuNs)],
    ],
  });
}

// The question whose lines the others vary: see cells.ts.
const BASE = "peers";

function eachQuestion(
  lines: readonly ResultLine[],
  make: (question: string, lines: readonly ResultLine[]) => Figure,
): Figure[] {
  const questions = Map.groupBy(lines, ({ question }) => question);
  const base = questions.get(BASE) ?? [];
  const figures = [...questions].map(([question, some]) =>
    make(plain(question), question === BASE ? some : [...partOf(base, some), ...some]),
  );
  // Two questions may differ in what an identifier cannot hold.
  return figures.map((figure, i) => ({ ...figure, id: `${figure.id}-${i + 1}` }));
}

/** What a question's lines are compared with: those of the base with their peers and sizes. */
function partOf(base: readonly ResultLine[], lines: readonly ResultLine[]): ResultLine[] {
  const peers = new Set(lines.map(({ peer }) => peer));
  const sizes = new Set(lines.map(({ payloadBytes }) => payloadBytes));
  const same = base.filter(({ peer }) => peers.has(peer));
  const sized = same.filter(({ payloadBytes }) => sizes.has(payloadBytes));
  // A question about sizes has others than the base.
  return sized.length > 0 ? sized : same;
}

function identifier(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, 40);
}

interface RowFigure {
  readonly id: string;
  readonly title: string;
  readonly description: string;
  readonly lines: readonly ResultLine[];
  readonly scale: Scale;
  readonly keys: readonly Key[];
  readonly row: (line: ResultLine) => Omit<Row, "label">;
  readonly columns: readonly Column[];
}

function rowFigure({ lines, scale, keys, row, columns, ...of }: RowFigure): Figure {
  const chart: RowChart = { blocks: blocksOf(lines, row), scale, keys };
  return {
    ...of,
    id: identifier(of.id),
    description: `${of.description} ${noisy(lines)}`,
    table: tableOf(lines, columns),
    draw: (width, id) => layRows(chart, width, id),
  };
}

/** Rows by payload size, and within a size by cell; of cells that differ in their size alone by that. */
function blocksOf(lines: readonly ResultLine[], row: RowFigure["row"]): RowChart["blocks"] {
  const cells = [...Map.groupBy(lines, ({ cell }) => cell).values()];
  const names = varying(
    cells.map((some) => ours(some[0] as ResultLine, some)),
    ["path", "family", "batch", "topology", "form"],
  );
  const groups = cells.map((some) => {
    const line = ours(some[0] as ResultLine, some);
    const label = names.map((name) => facet(line, name)).join(", ");
    return { line, label: label || size(line.payloadBytes), rows: rowsOf(some, row) };
  });
  const bySize = [...Map.groupBy(groups, ({ line }) => line.payloadBytes)];
  bySize.sort(([a], [b]) => a - b);
  if (names.length === 0) return [{ heading: null, groups: bySize.flatMap(([, some]) => some) }];
  return bySize.map(([payloadBytes, some]) => ({
    heading: bySize.length > 1 ? size(payloadBytes) : null,
    groups: tellApart(some),
  }));
}

function rowsOf(lines: readonly ResultLine[], row: RowFigure["row"]): Row[] {
  const hasForms = new Set(lines.map(({ peer }) => peer)).size < lines.length;
  return lines.map((line) => ({
    label: plain(hasForms ? `${line.peer}, ${line.form}` : line.peer),
    ...row(line),
  }));
}

/** Cells that differ in what no member of a line says have it at the end of their names. */
function tellApart(groups: readonly (Group & { readonly line: ResultLine })[]): Group[] {
  return groups.map(({ line, label, rows }) => {
    const isShared = groups.filter((other) => other.label === label).length > 1;
    const suffix = plain(line.cell.split("/").slice(3).join("/"));
    return { label: isShared && suffix ? `${label}, ${suffix}` : label, rows };
  });
}

type Facet = "path" | "send" | "family" | "batch" | "topology" | "form";

function facet(line: ResultLine, name: Facet): string {
  if (name === "path") return plain(`${line.send} → ${line.receive}`);
  return name === "batch" ? `${line.batch} a call` : plain(line[name]);
}

/** Those facets in which the lines differ: they name what a question varies. */
function varying(lines: readonly ResultLine[], names: readonly Facet[]): Facet[] {
  return names.filter((name) => new Set(lines.map((line) => facet(line, name))).size > 1);
}

/** The line of ours that stands for a cell, where there is one: others call their calls otherwise. */
function ours(line: ResultLine, lines: readonly ResultLine[]): ResultLine {
  const same = lines.find(({ cell, peer }) => cell === line.cell && peer === "bun-sockets");
  return same ?? line;
}

function written(
  line: ResultLine,
  spread: Spread,
  write: (value: number) => string,
  unit: string,
): Pick<Row, "title" | "value" | "brief" | "isNoisy"> {
  const loss = line.lost === 0 ? "" : `, ${lossShare(line)} lost`;
  const rounds = range(spread, write);
  const value = line.isNoisy ? `noisy: ${rounds}` : write(spread.median);
  return {
    title: `${lineName(line)}: ${write(spread.median)} ${unit}, rounds ${rounds}${remarks(line)}`,
    value: value + loss,
    brief: line.isNoisy && loss ? `noisy${loss}` : value + loss,
    isNoisy: line.isNoisy,
  };
}

function lineName(line: ResultLine): string {
  return `${shorten(plain(line.peer), 40)}, ${shorten(plain(line.cell), 80)}, ${plain(line.form)}`;
}

function remarks(line: ResultLine): string {
  const loss = line.lost === 0 ? "" : `; ${lossShare(line)} lost`;
  return line.isNoisy ? `; noisy, no exact number${loss}` : loss;
}

function ends({ min, max }: Spread) {
  return { from: min, to: max };
}

function size(bytes: number): string {
  return `${counted(bytes)} ${bytes === 1 ? "byte" : "bytes"}`;
}

function whole(lines: readonly ResultLine[]): string {
  const cells = new Set(lines.map(({ cell }) => cell)).size;
  return `${lines.length} rows of ${cells} ${cells === 1 ? "cell" : "cells"}`;
}

function noisy(lines: readonly ResultLine[]): string {
  const some = lines.filter(({ isNoisy }) => isNoisy).length;
  return some === 0
    ? "The rounds of all agree."
    : `The rounds of ${some} do not agree: these are hatched, and no exact number is given.`;
}
