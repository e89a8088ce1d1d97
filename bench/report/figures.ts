/**
 * What the report shows of a run: which lines stand in which chart, and the table of the numbers
 * beside it.
 *
 * @module
 */
import type { Latency, ResultLine, Spread } from "../results.ts";
import { type LineChart, layLines, type Series } from "./line_chart.ts";
import { BASE, questionText } from "./questions.ts";
import {
  type Group,
  type Key,
  layRows,
  type Row,
  type RowChart,
  type Scale,
  type Shape,
  type Steps,
} from "./row_chart.ts";
import { colour, type Drawing } from "./svg.ts";
import { about, type Column, PERCENTILES, spreadText, type Table, tableOf } from "./tables.ts";
import { counted, lossShare, measured, peerName, plain, range, short, shorten } from "./text.ts";

/** A chart, at any width, and its numbers. */
export interface Figure {
  /** Of letters, digits and dashes, and no other's. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
  /** What the figure's question asks; empty where that has been said. */
  readonly text: string;
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
    text: "Datagrams that arrived in a second. Each question varies one thing of the base, the question “peers”, which stands in its chart too. The bar is the median of the rounds, the line across its end goes from the slowest round to the fastest. Axes begin at 0, and each chart has its own.",
    figures: [
      ...eachQuestion(results, throughputOf),
      ...eachQuestion(results, gigabitsOf, hasManySizes),
    ],
    absent: "This run has measured no throughput.",
  };
}

/** The throughput of the lines of one question: by what varies there, and by size. */
export function throughputOf(question: string, lines: readonly ResultLine[]): Figure {
  const highest = Math.max(...lines.map((line) => line.datagramsPerSecond.max));
  return rowFigure({
    id: `throughput-${question}`,
    title: `Throughput: ${question}`,
    text: questionText(question),
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

/** Payload in a second, where a question is about sizes: datagrams of two sizes do not compare. */
function gigabitsOf(question: string, lines: readonly ResultLine[]): Figure {
  return rowFigure({
    id: `gigabits-${question}`,
    title: `Throughput in Gbit/s: ${question}`,
    description: `Bars of gigabits of payload received a second, ${whole(lines)}.`,
    lines,
    scale: {
      title: "Gbit/s of payload",
      type: "linear",
      from: 0,
      to: (Math.max(...lines.map(({ gbitPerSecond }) => gbitPerSecond.max)) || 1) * 1.02,
      format: ",~r",
    },
    keys: [],
    row: (line) => ({
      ...written(line, line.gbitPerSecond, measured, "Gbit/s"),
      bars: [{ from: 0, to: line.gbitPerSecond.median, colour: colour(line.peer) }],
      range: ends(line.gbitPerSecond),
      points: [],
    }),
    columns: [
      ["Gbit/s", (line) => about(line, line.gbitPerSecond)],
      ["from", (line) => measured(line.gbitPerSecond.min)],
      ["to", (line) => measured(line.gbitPerSecond.max)],
    ],
  });
}

function hasManySizes(lines: readonly ResultLine[]): boolean {
  return new Set(lines.map(({ payloadBytes }) => payloadBytes)).size > 2;
}

function batches(results: readonly ResultLine[]): Section {
  const figure = batchesOf(results);
  return {
    id: "batches",
    title: "Cost by batch size",
    text: "Wall time for a datagram, by how many go in one call. The point is the median of the rounds, the line through it goes from the fastest round to the slowest; points of the same batch stand side by side. A hollow point with a dotted line is noisy. The panels have the same scale, from 0.",
    figures: figure ? [figure] : [],
    absent: "This run has measured nothing at more than one batch size.",
  };
}

const SHAPES: readonly Shape[] = ["circle", "square", "triangle-up", "diamond"];

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
  const peers = [...new Set(all.map(({ peer }) => peer))];
  const seriesOf = (same: readonly ResultLine[]): Series => {
    const line = same[0] as ResultLine;
    return {
      label: [peerName(line.peer), ...names.map((name) => facet(line, name))].join(", "),
      colour: colour(line.peer),
      shape: SHAPES[peers.indexOf(line.peer) % SHAPES.length] as Shape,
      points: same.map((one) => ({
        x: one.batch,
        y: one.ns.median,
        ...ends(one.ns),
        isNoisy: one.isNoisy,
        remark: one.lost > 0 ? `${lossShare(one)} lost` : "",
        title: written(one, one.ns, measured, "ns a datagram").title,
      })),
    };
  };
  const sizes = [...Map.groupBy(groups, ([line]) => (line as ResultLine).payloadBytes)];
  const chart: LineChart = {
    xTitle: "datagrams in a call, logarithmic",
    yTitle: "ns a datagram",
    panels: sizes
      .sort(([a], [b]) => a - b)
      .map(([bytes, some]) => ({ heading: size(bytes), series: some.map(seriesOf) })),
  };
  return {
    id: "batches-cost",
    title: "Cost by batch size",
    text: "",
    description: `Lines of nanoseconds a datagram by datagrams in a call: ${groups.length} lines, in a panel for each size. ${noisy(all)}`,
    table: tableOf(all, [
      ["batch", (line) => String(line.batch)],
      ["bytes", (line) => String(line.payloadBytes)],
      ["ns/datagram", (line) => about(line, line.ns)],
      ["from", (line) => measured(line.ns.min)],
      ["to", (line) => measured(line.ns.max)],
    ]),
    draw: (width) => layLines(chart, width),
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
    text: `From before the send to after the receive, of the datagrams that were stamped, all rounds together. Half took no longer than the circle says, 9 of 10 no longer than the diamond, 99 of 100 no longer than the triangle, and none longer than the square. Of two numbers in a row the first is p50, the second p99.${results.some(({ latencySteps }) => latencySteps) ? SHAPE_TEXT : ""}`,
    figures: [WHOLE_WAY, IN_SOCKET].flatMap((way) =>
      eachQuestion(
        results.filter((line) => line[way.member]),
        (question, lines) => latencyOf(question, lines, way),
      ),
    ),
    absent: "This run has measured no latency.",
  };
}

const SHAPE_TEXT =
  " The shape behind the points is the distribution: how high it is tells how many took so long, by steps of 19 percent, beside the most frequent of the same row; the thinnest line is all that is less than a thirteenth of that.";

/** What of a datagram's way a latency is of. */
interface Way {
  readonly id: string;
  readonly title: string;
  readonly text: string;
  readonly member: "latencyUs" | "waitUs";
}

const WHOLE_WAY: Way = { id: "latency", title: "Latency", text: "", member: "latencyUs" };
const IN_SOCKET: Way = {
  id: "wait",
  title: "Latency after the kernel",
  text: "From the kernel’s receive timestamp to after the receive, in a round of its own: what a datagram waits for its receiver.",
  member: "waitUs",
};

function latencyOf(
  question: string,
  lines: readonly ResultLine[],
  { id, title, text, member }: Way,
): Figure {
  // A logarithm has no zero: what took less than the clock tells stands at its first step.
  const visible = (value: number) => Math.max(value, 0.1);
  const spreadOf = (line: ResultLine): Steps =>
    member === "latencyUs" ? stepsOf(line) : { colour: colour(line.peer), all: [] };
  const values = lines.flatMap((line) => [
    ...Object.values(line[member] ?? {}).map(visible),
    ...spreadOf(line).all.flatMap(({ from, to }) => [from, to].map(visible)),
  ]);
  const [from, to] = [Math.min(...values) / 1.1, Math.max(...values) * 1.1];
  const keys: Key[] = PERCENTILES.map(([label, shape]) => ({
    label,
    shape,
    colour: colour("muted"),
  }));
  return rowFigure({
    id: `${id}-${question}`,
    title: `${title}: ${question}`,
    text,
    description: `Points of p50, p90, p99 and the longest, in microseconds, ${whole(lines)}.`,
    lines,
    scale: {
      title: "µs, logarithmic",
      type: "log",
      from,
      to,
      ticks: latencyTicks(from, to),
      format: ",~r",
    },
    keys,
    row: (line) => {
      const us = line[member] as Latency;
      const steps = spreadOf(line);
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
        range: steps.all.length > 0 ? null : { from: visible(us.p50), to: visible(us.max) },
        steps,
        points: PERCENTILES.map(([name, shape]) => ({
          at: visible(us[name]),
          shape,
          colour: colour(line.peer),
        })),
      };
    },
    columns: PERCENTILES.map(([name]) => [
      `${name}, µs`,
      (line) => measured((line[member] as Latency)[name]),
    ]),
  });
}

/** The steps of a latency, and what is empty between them. */
function stepsOf({ peer, latencySteps }: ResultLine): Steps {
  const all: Steps["all"][number][] = [];
  for (const [to, count] of latencySteps ?? []) {
    const from = to / QUARTER;
    const before = all.at(-1)?.to ?? from;
    // Ends are rounded: what is closer than a percent is the same.
    if (from > before * 1.01) all.push({ from: before, to: from, count: 0 });
    all.push({ from: Math.max(from, before), to, count });
  }
  return { colour: colour(peer), all };
}

// Of an octave: see bench/results.ts.
const QUARTER = 2 ** 0.25;

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
    text: "Time for a datagram, divided by that of the same work in C in the same round. The point is the median of the rounds' ratios, the line goes from the least to the greatest. At 1 (the blue line) both take as long, at 2 this takes twice as long as C; left of 1 it is faster. A ratio that itself differs by more than a quarter from round to round is noisy too.",
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
      title: "times as long as C, logarithmic",
      type: "log",
      from,
      to,
      ticks: ratioTicks(from, to),
      format: "~r",
      reference: 1,
    },
    keys: [],
    row: (of) => {
      const ratio = of.ratioToC as Spread;
      const line = { ...of, isNoisy: of.isNoisy || isWide(ratio) };
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

// The same quarter as for all other numbers: see bench/results.ts.
function isWide({ median, min, max }: Spread): boolean {
  return (max - min) / median > 0.25;
}

function ratioTicks(from: number, to: number): number[] {
  const fine = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2, 2.5, 3];
  const coarse = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200];
  const widest = [0.001, 0.01, 0.1, 1, 10, 100, 1000];
  const wide = to / from;
  const steps = wide < 3 ? fine : wide < 50 ? coarse : widest;
  return steps.filter((step) => from <= step && step <= to);
}

function cpu(results: readonly ResultLine[]): Section {
  return {
    id: "cpu",
    title: "CPU time by side",
    text: "CPU time for a datagram, user and kernel: what the sender takes, and next to it what the receiver takes. Medians of the rounds. Both together are what a machine spends.",
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

function eachQuestion(
  lines: readonly ResultLine[],
  make: (question: string, lines: readonly ResultLine[]) => Figure,
  isShown: (lines: readonly ResultLine[]) => boolean = () => true,
): Figure[] {
  const questions = Map.groupBy(lines, ({ question }) => question);
  const base = questions.get(BASE) ?? [];
  const figures = [...questions]
    .map(([question, some]) => ({
      question: plain(question),
      lines: question === BASE ? some : [...partOf(base, some), ...some],
    }))
    .filter((one) => isShown(one.lines))
    .map((one) => make(one.question, one.lines));
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
  readonly text?: string;
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
    text: "",
    ...of,
    id: identifier(of.id),
    description: `${of.description} ${noisy(lines)}`,
    table: tableOf(lines, columns),
    draw: (width, id) => layRows(chart, width, id),
  };
}

/**
 * Rows by payload size, and within a size by cell. A cell is called what it varies, and the base what all
 * others vary; where each size has one cell, they are called by that.
 */
function blocksOf(lines: readonly ResultLine[], row: RowFigure["row"]): RowChart["blocks"] {
  const cells = [...Map.groupBy(lines, ({ cell }) => cell).values()];
  const leaders = cells.map((some) => ours(some[0] as ResultLine, some));
  const base = leaders.find(({ question }) => question === BASE);
  const varied = varying(leaders, ["path", "family", "batch", "topology", "form"]);
  // How many go in a call follows from the path: a train is one.
  const names = varied.filter((name) => name !== "batch" || !varied.includes("path"));
  const groups = cells.map((some, i) => {
    const line = leaders[i] as ResultLine;
    return { line, parts: partsOf(line, base, names, leaders), rows: rowsOf(some, row) };
  });
  if (names.length === 1 && names[0] === "batch")
    groups.sort((a, b) => a.line.batch - b.line.batch);
  const bySize = [...Map.groupBy(groups, ({ line }) => line.payloadBytes)];
  bySize.sort(([a], [b]) => a - b);
  if (bySize.length === cells.length) {
    const all = bySize.flatMap(([payloadBytes, some]) =>
      some.map(({ parts, rows }) => ({ label: [size(payloadBytes), ...parts].join(", "), rows })),
    );
    return [{ heading: null, groups: all }];
  }
  return bySize.map(([payloadBytes, some]) => ({
    heading: bySize.length > 1 ? size(payloadBytes) : null,
    groups: tellApart(
      some.map(({ line, parts, rows }) => ({ line, label: parts.join(", "), rows })),
    ),
  }));
}

/** Of what varies, that which is not as in the base; always the path. */
function partsOf(
  line: ResultLine,
  base: ResultLine | undefined,
  names: readonly Facet[],
  all: readonly ResultLine[],
) {
  const isTold = (name: Facet) =>
    name === "path" || base === undefined || facet(line, name) !== facet(base, name);
  const write = (name: Facet) =>
    name === "path" && base !== undefined ? pathOf(line, base, all) : facet(line, name);
  const parts = names.filter(isTold).map(write);
  // No member of a line says it.
  if (FLAT_OUT.test(line.cell)) parts.push("flat-out");
  return parts.length > 0 ? parts : names.map(write);
}

/** The end of a path that its question varies, and both where the other one is not as in the base. */
function pathOf(line: ResultLine, base: ResultLine, all: readonly ResultLine[]): string {
  const count = (name: "send" | "receive") => new Set(all.map((one) => one[name])).size;
  if (count("receive") === 1) return plain(line.send);
  const isOther = line.send !== base.send;
  return isOther || count("send") > 2 ? facet(line, "path") : plain(line.receive);
}

const FLAT_OUT = /[/-]flat-out$/;

function rowsOf(lines: readonly ResultLine[], row: RowFigure["row"]): Row[] {
  const hasForms = new Set(lines.map(({ peer }) => peer)).size < lines.length;
  return lines.map((line) => ({
    label: hasForms ? `${peerName(line.peer)}, ${plain(line.form)}` : peerName(line.peer),
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
  const stalls = line.stalls
    ? `; waited in vain ${line.stalls === 1 ? "once" : `${line.stalls} times`}`
    : "";
  const loss = (line.lost === 0 ? "" : `; ${lossShare(line)} lost`) + stalls;
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
