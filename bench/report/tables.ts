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
  /** Members of a line of the run that the columns show, where they are to be told. */
  readonly members?: readonly string[];
  /** Which columns are words. */
  readonly words: readonly boolean[];
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

/** A head, what a line has under it, and the member that this is. */
export type Column = readonly [
  head: string,
  value: (line: ResultLine) => string,
  member?: keyof ResultLine,
];

type Member = keyof ResultLine;

/** Every number of every line, under the names that they have there. */
export function everything(results: readonly ResultLine[]): Table {
  const known: Column[] = [
    ...columnsOf(plain, {
      question: "question",
      send: "send",
      receive: "receive",
      family: "family",
      topology: "topology",
      form: "form",
    }),
    ...columnsOf(String, { payloadBytes: "bytes", batch: "batch", rounds: "rounds" }),
    ...columnsOf(counted, { datagrams: "datagrams" }),
    ...columnsOf(spreadText, {
      ns: "ns/datagram",
      ratioToC: "ratio to C",
      sendCpuNs: "send CPU, ns",
      receiveCpuNs: "receive CPU, ns",
      datagramsPerSecond: "datagrams/s",
      gbitPerSecond: "Gbit/s",
    }),
    ...columnsOf(measured, {
      sendCallsPerDatagram: "send calls/datagram",
      receiveCallsPerDatagram: "receive calls/datagram",
      bytesAllocatedPerDatagram: "bytes allocated/datagram",
      achievedSendBatch: "send batch",
      achievedReceiveBatch: "receive batch",
      achievedSegments: "segments",
    }),
    ...columnsOf(counted, {
      sendBufferBytes: "send buffer, bytes",
      receiveBufferBytes: "receive buffer, bytes",
    }),
    ...columnsOf(textOf, { latencyUs: "latency, µs" }),
  ];
  // Of a later suite, or of what this has no words for: it is shown all the same.
  const told = new Set<string>([...known.map(([, , member]) => member ?? ""), ...ELSEWHERE]);
  const others = new Set(results.flatMap((line) => Object.keys(line)));
  const more = [...others]
    .filter((name) => !told.has(name))
    .flatMap((name) => columnsOf(textOf, { [name]: LATER[name] ?? wordsOf(name) }));
  const { head, words, rows } = tableOf(results, [...known, ...more]);
  const members = [
    "cell",
    "peer",
    ...[...known, ...more].map(([, , member = ""]) => plain(member)),
  ];
  return { head, words, rows, members: [...members, "lost", "isNoisy"] };
}

// What stands in the columns of each table, and what only a chart can show.
const ELSEWHERE = ["kind", "cell", "peer", "lost", "isNoisy", "latencySteps"];

// What older runs do not have stands there only when somebody has it.
const LATER: Readonly<Record<string, string>> = {
  stalls: "stalls",
  sendBytesPerDatagram: "bytes allocated/datagram, sender",
  receiveBytesPerDatagram: "bytes allocated/datagram, receiver",
  plainShare: "zero copy: share sent plainly",
  waitUs: "after the kernel, µs",
};

/** Columns of members that are written the same way; what is missing or null was not measured. */
function columnsOf<T>(
  write: (value: T) => string,
  heads: Readonly<Record<string, string>>,
): Column[] {
  return Object.entries(heads).map(
    ([member, head]): Column => [
      head,
      (line) => {
        const value = line[member as Member] as T | null | undefined;
        return value == null ? ABSENT : write(value);
      },
      member as Member,
    ],
  );
}

/** A value of any member: numbers with three digits, of an object each with its name. */
function textOf(value: unknown): string {
  if (value === null || value === undefined) return ABSENT;
  if (typeof value === "number") return measured(value);
  if (typeof value !== "object") return plain(String(value));
  if (Array.isArray(value)) return value.map(textOf).join(" ");
  const { median, min, max } = value as Partial<Spread>;
  if ([median, min, max].every((one) => typeof one === "number"))
    return spreadText(value as Spread);
  const named = Object.entries(value).map(([name, one]) => `${plain(name)} ${textOf(one)}`);
  return named.join(", ");
}

/** "stallsPerSecond" as "stalls per second". */
function wordsOf(name: string): string {
  return plain(name).replace(/(?<=[a-z0-9])[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
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
    ["cell", (line) => plain(line.cell), "cell"],
    ["peer", (line) => plain(line.peer), "peer"],
    ...columns,
    ["lost", (line) => (line.lost === 0 ? "0" : `${counted(line.lost)} (${lossShare(line)})`)],
    ["rounds agree", (line) => (line.isNoisy ? "no: noisy" : "yes")],
  ];
  return {
    head: all.map(([head]) => head),
    words: all.map(([, , member]) => WORDS.has(member ?? "")),
    rows: lines.map((line) => all.map(([, value]) => value(line))),
  };
}

const WORDS: ReadonlySet<string> = new Set([
  ...["cell", "peer", "question", "send", "receive", "family", "topology", "form"],
]);
