import * as os from "node:os";
import { parseArgs } from "node:util";
import { SingleBar } from "cli-progress";
import CliTable from "cli-table3";
import { max, median, min } from "simple-statistics";

/**
 * Datagrams that are on their way at the same time: as many as the smallest default buffer holds.
 */
export const GROUP = 64;
export const SLOT_BYTES = 2048;

/** What one round of one peer did. `sum` is first plus last byte of each payload: 255 for each. */
export interface Counts {
  readonly datagrams: number;
  readonly sendNs: number;
  readonly receiveNs: number;
  readonly lost: number;
  readonly sum: number;
}

/** One of the programs that are compared: it moves groups of datagrams when asked. */
export interface Peer {
  readonly name: string;
  /** Datagrams of a group. Default 64. */
  readonly group?: number;
  run(groups: number): Promise<Counts>;
  close(): void | Promise<void>;
}

/** One comparison: what is done, at which size, by whom. The first peer is ours. */
export interface Case {
  readonly bench: string;
  readonly case: string;
  readonly bytes: number | null;
  readonly batch: number | null;
  readonly peers: readonly Peer[];
}

/** A line of results, as `--json` prints it. Times are nanoseconds a datagram, or a call. */
export interface Line {
  readonly bench: string;
  readonly case: string;
  readonly peer: string;
  readonly bytes: number | null;
  readonly batch: number | null;
  /** Median, least and most of the rounds. */
  readonly ns: number;
  readonly ns_min: number;
  readonly ns_max: number;
  readonly send_ns: number | null;
  readonly receive_ns: number | null;
  /** Datagrams that were sent and did not come, in all rounds. */
  readonly lost: number | null;
  readonly rounds: number;
  /** Ours divided by this peer's, each round by itself: median, least and most. */
  readonly ratio: number;
  readonly ratio_min: number;
  readonly ratio_max: number;
}

/** The common command line of all benchmarks. */
export interface Options {
  readonly json: boolean;
  readonly rounds: number;
  readonly roundMs: number;
  /** Groups of each round, instead of as many as fit `roundMs`: for counting system calls. */
  readonly groups: number | undefined;
  /** Only this peer, without ours beside it. */
  readonly only: string | undefined;
  /** How our sockets wake Bun's event loop, instead of the best way there is: for comparing them. */
  readonly ringer: string | undefined;
}

export function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      rounds: { type: "string" },
      groups: { type: "string" },
      only: { type: "string" },
      ringer: { type: "string" },
    },
  });
  return {
    json: values.json,
    rounds: Number(values.rounds ?? (values.quick ? 1 : 9)),
    roundMs: values.quick ? 10 : 400,
    groups: values.groups === undefined ? undefined : Number(values.groups),
    only: values.only,
    ringer: values.ringer,
  };
}

/**
 * Runs a case: the peers in turn, another one first in each round, after a round that is not
 * counted and that tells how many groups make a round of the length that was asked for.
 */
async function runCase(
  { peers, ...of }: Case,
  options: Options,
  onRound: () => void,
): Promise<Line[]> {
  const chosen = peers.filter(({ name }) => options.only === undefined || name === options.only);
  const rounds = new Map<string, Counts[]>(chosen.map(({ name }) => [name, []]));
  const groups = new Map<string, number>();
  for (const peer of chosen)
    groups.set(peer.name, options.groups ?? (await calibrate(peer, options)));
  for (let round = 0; round < options.rounds; round++) {
    for (let k = 0; k < chosen.length; k++) {
      const peer = chosen[(k + round) % chosen.length] as Peer;
      const counts = await runChecked(peer, groups.get(peer.name) as number);
      rounds.get(peer.name)?.push(counts);
      onRound();
    }
  }
  for (const peer of peers) await peer.close();
  const ours = (rounds.get((chosen[0] as Peer).name) as Counts[]).map(nsPerDatagram);
  return chosen.map(({ name }) => ({
    ...of,
    peer: name,
    ...summarize(rounds.get(name) ?? [], ours),
  }));
}

async function calibrate(peer: Peer, { roundMs }: Options): Promise<number> {
  // The second trial runs compiled code; the first is for the compiler.
  await runChecked(peer, 200);
  const { sendNs, receiveNs } = await runChecked(peer, 200);
  return Math.max(10, Math.round((roundMs * 1e6 * 200) / (sendNs + receiveNs)));
}

async function runChecked(peer: Peer, groups: number): Promise<Counts> {
  const counts = await peer.run(groups);
  const expected = (counts.datagrams - counts.lost) * 255;
  if (counts.sum !== expected || counts.datagrams !== groups * (peer.group ?? GROUP)) {
    throw new Error(`${peer.name} read other bytes than were sent: ${JSON.stringify(counts)}`);
  }
  return counts;
}

function nsPerDatagram({ sendNs, receiveNs, datagrams, lost }: Counts): number {
  return (sendNs + receiveNs) / (datagrams - lost);
}

function summarize(rounds: readonly Counts[], ours: readonly number[]) {
  const half = (key: "sendNs" | "receiveNs") =>
    median(rounds.map((counts) => counts[key] / (counts.datagrams - counts.lost)));
  return {
    ...spread(rounds.map(nsPerDatagram), ours),
    send_ns: round(half("sendNs")),
    receive_ns: round(half("receiveNs")),
    lost: rounds.reduce((lost, counts) => lost + counts.lost, 0),
    rounds: rounds.length,
  };
}

/** Median and range of some rounds, and of the ratios of our rounds to them. */
export function spread(theirs: readonly number[], ours: readonly number[]) {
  const ratios = theirs.map((ns, index) => (ours[index] as number) / ns);
  return {
    ns: round(median([...theirs])),
    ns_min: round(min([...theirs])),
    ns_max: round(max([...theirs])),
    ratio: round(median(ratios), 3),
    ratio_min: round(min(ratios), 3),
    ratio_max: round(max(ratios), 3),
  };
}

function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}

/** Runs cases one after the other and prints their lines, as JSON or as a table. */
export async function runCases(cases: readonly (() => Case)[], options: Options): Promise<void> {
  const progress = startProgress(options.json);
  const lines: Line[] = [];
  for (const [index, make] of cases.entries()) {
    const one = make();
    progress.title(`${one.case} ${one.bytes ?? ""}`);
    const shares = one.peers.length * options.rounds * cases.length;
    let done = 0;
    lines.push(
      ...(await runCase(one, options, () => {
        progress.set(index / cases.length + ++done / shares);
      })),
    );
  }
  progress.stop();
  print(lines, options);
}

/** Prints lines as `--json` or for people. */
export function print(lines: readonly Line[], options: Options): void {
  if (options.json) for (const line of lines) console.log(JSON.stringify(line));
  else printTable(lines);
}

function printTable(lines: readonly Line[]): void {
  const table = new CliTable({
    head: [
      "case",
      "bytes",
      "batch",
      "peer",
      "ns",
      "min",
      "max",
      "ours ÷ peer",
      "min",
      "max",
      "lost",
      "",
    ],
    style: { head: [], border: [], compact: true },
    colAligns: ["left", "right", "right", "left", ...Array<"right">(7).fill("right"), "left"],
  });
  for (const line of lines) {
    table.push([
      line.case,
      line.bytes ?? "",
      line.batch ?? "",
      line.peer,
      line.ns,
      line.ns_min,
      line.ns_max,
      line.ratio,
      line.ratio_min,
      line.ratio_max,
      line.lost ?? "",
      noise(line),
    ]);
  }
  console.log(table.toString());
}

/** What is to be said about a line whose rounds differ too much: no ratio of it says anything. */
export function noise({ ns, ns_min, ns_max }: Pick<Line, "ns" | "ns_min" | "ns_max">): string {
  return (ns_max - ns_min) / ns > 0.25 ? "too noisy" : "";
}

/** A progress bar on a terminal, and nothing elsewhere. */
export function startProgress(silent = false) {
  if (silent || !process.stderr.isTTY) return { title() {}, set() {}, stop() {} };
  const bar = new SingleBar({
    format: "{bar} {percentage} % {title}",
    barsize: 30,
    clearOnComplete: true,
    hideCursor: true,
  });
  bar.start(1, 0, { title: "" });
  return {
    title: (title: string) => bar.update({ title }),
    set: (share: number) => bar.update(share),
    stop: () => bar.stop(),
  };
}

/** The machine and the programs that were measured, in one line. */
export function environment(): string {
  const { model = "unknown processor" } = os.cpus()[0] ?? {};
  const cores = os.availableParallelism();
  return `${model.trim()}, ${cores} cores, Linux ${os.release()}, Bun ${Bun.version}`;
}
