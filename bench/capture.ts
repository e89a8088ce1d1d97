// What does a captured frame cost whoever takes it? A generator in C sends frames through a veth pair
// between two network namespaces as fast as it can, on a core of its own; on another core they are
// taken from a ring, from a packet socket, by ours and in C, and written to a file.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import CliTable from "cli-table3";
import { median } from "simple-statistics";
import { hasCompiler } from "./peers/c.ts";
import { type Round, SUMS, type Taker, Wire } from "./peers/capture.ts";
import { canMakeVeth } from "./peers/veth.ts";
import {
  GROUP,
  type Line,
  noise,
  type Options,
  readOptions,
  spread,
  startProgress,
} from "./support.ts";

/** A line of results: `ns` is the CPU time of the thread that takes the frames, for one of them. */
interface CaptureLine extends Line {
  /** The same, and that of all threads of its process. */
  readonly cpu_ns: number;
  readonly process_cpu_ns: number;
  /** What the generator has sent in a second. */
  readonly frames_per_s: number;
  /** How often the thread has waited for a thousand frames. */
  readonly waits: number;
}

const SIZES = [64, 1200];
// Enough for the compilers: some 2000 blocks.
const WARM_UPS = 8;
const WARM_UP_FRAMES = 200_000;
const WARM_UP_BYTES = 1200;
const QUICK_WARM_UP_FRAMES = 2_000;
const USUAL_RATE = 600_000;
const MEMORY = "/dev/shm";

// Who takes frames. Each runs once in a round, and may stand in several comparisons.
const TAKERS = {
  count: (wire) => wire.ours("count", SUMS.nothing),
  countInC: (wire) => wire.inC("ring", "count", SUMS.nothing),
  offset: (wire) => wire.ours("offset", SUMS.touched),
  offsetInC: (wire) => wire.inC("ring", "offset", SUMS.touched),
  view: (wire) => wire.ours("view", SUMS.touched),
  packets: (wire) => wire.ours("packets", SUMS.touched),
  ports: (wire) => wire.ours("ports", SUMS.ports),
  headers: (wire) => wire.ours("headers", SUMS.ports),
  packetview: (wire) => wire.ours("packetview", SUMS.ports),
  portsInC: (wire) => wire.inC("ring", "ports", SUMS.ports),
  promise: (wire) => wire.ours("promise", SUMS.touched),
  loop: (wire) => wire.ours("loop", SUMS.touched),
  socket: (wire) => wire.ours("socket", SUMS.touched),
  recvmmsgInC: (wire) => wire.inC("recvmmsg", "offset", SUMS.touched),
  pcapng: (wire) => wire.oursToFile(),
  tcpdump: (wire) => wire.tcpdump(),
} satisfies Record<string, (wire: Wire) => Taker>;

type Name = keyof typeof TAKERS;

/** A comparison of peers by what they are called there: the first is divided by each of them. */
interface Comparison {
  readonly case: string;
  readonly peers: Readonly<Record<string, Name>>;
}

const COMPARISONS: readonly Comparison[] = [
  { case: "count", peers: { ring: "count", c: "countInC" } },
  {
    case: "offset",
    peers: { ring: "offset", c: "offsetInC", socket: "socket", "c-recvmmsg": "recvmmsgInC" },
  },
  { case: "view", peers: { ring: "view", c: "offsetInC" } },
  { case: "packets", peers: { ring: "packets", c: "offsetInC" } },
  { case: "ports", peers: { ring: "ports", c: "portsInC" } },
  { case: "headers", peers: { ring: "headers", c: "portsInC" } },
  { case: "packetview", peers: { ring: "packetview", c: "portsInC" } },
  { case: "promise", peers: { ring: "promise", c: "offsetInC" } },
  { case: "loop", peers: { ring: "loop", c: "offsetInC" } },
  { case: "pcapng", peers: { ring: "pcapng", tcpdump: "tcpdump" } },
];

/** The takers that take part: those of one peer only, if that was asked for. */
function start(wire: Wire, { only }: Options): Map<Name, Taker> {
  const names = COMPARISONS.flatMap(({ peers }) =>
    Object.entries(peers).flatMap(([peer, name]) => ((only ?? peer) === peer ? [name] : [])),
  );
  const present = names.filter((name) => name !== "tcpdump" || Bun.which("tcpdump") !== null);
  return new Map([...new Set(present)].map((name) => [name, TAKERS[name](wire)]));
}

/**
 * Runs all takers a few times, so that they have compiled their code: with the longer frames, which fill
 * more blocks. Gives how many frames the generator sends in a second.
 */
async function warmUp(
  wire: Wire,
  takers: ReadonlyMap<Name, Taker>,
  { roundMs }: Options,
): Promise<number> {
  const isQuick = roundMs < 100;
  const rates: number[] = [];
  for (const taker of takers.values()) {
    for (let k = 0; k < (isQuick ? 1 : WARM_UPS) && taker.hasToWarmUp; k++) {
      const frames = framesOf(
        taker,
        WARM_UP_BYTES,
        isQuick ? QUICK_WARM_UP_FRAMES : WARM_UP_FRAMES,
      );
      rates.push((await wire.run(taker, WARM_UP_BYTES, frames)).framesPerSecond);
    }
  }
  // Alone, with --only, tcpdump has none.
  return rates.length > 0 ? median(rates) : USUAL_RATE;
}

/** As many frames as were asked for, or as a file may hold. */
function framesOf({ bytesMax }: Taker, bytes: number, count: number): number {
  return Math.min(count, Math.floor(bytesMax / bytes));
}

/** Runs all takers in turn, another one first in each round; gives the rounds of each. */
async function runSize(
  wire: Wire,
  takers: ReadonlyMap<Name, Taker>,
  bytes: number,
  count: number,
  options: Options,
  onRound: () => void,
): Promise<Map<Name, Round[]>> {
  const entries = [...takers];
  const rounds = new Map<Name, Round[]>(entries.map(([name]) => [name, []]));
  for (let round = 0; round < options.rounds; round++) {
    for (let k = 0; k < entries.length; k++) {
      const [name, taker] = entries[(k + round) % entries.length] as [Name, Taker];
      rounds.get(name)?.push(await wire.run(taker, bytes, framesOf(taker, bytes, count)));
      onRound();
    }
  }
  return rounds;
}

function* linesOf(bytes: number, rounds: ReadonlyMap<Name, Round[]>): Generator<CaptureLine> {
  for (const { case: name, peers } of COMPARISONS) {
    const present = Object.entries(peers).flatMap(([peer, taker]) => {
      const theirs = rounds.get(taker);
      return theirs === undefined ? [] : [{ peer, theirs }];
    });
    for (const { peer, theirs } of present) {
      // Alone, with --only, a peer is compared with itself.
      const ours = present[0]?.theirs ?? theirs;
      const of = { bench: "capture", case: name, peer, bytes, batch: null };
      yield { ...of, ...summarize(theirs, ours) };
    }
  }
}

function summarize(theirs: readonly Round[], ours: readonly Round[]) {
  const ns = (some: readonly Round[]) => some.map(({ cpuNs }) => cpuNs);
  const middle = (key: keyof Round, digits: number, scale = 1) =>
    Number((median(theirs.map((round) => round[key])) * scale).toFixed(digits));
  return {
    ...spread(ns(theirs), ns(ours)),
    send_ns: null,
    receive_ns: null,
    lost: theirs.reduce((lost, { drops }) => lost + drops, 0),
    rounds: theirs.length,
    cpu_ns: middle("cpuNs", 1),
    process_cpu_ns: middle("processCpuNs", 1),
    frames_per_s: middle("framesPerSecond", 0),
    waits: middle("waitsPerFrame", 3, 1000),
  };
}

function printTable(lines: readonly CaptureLine[]): void {
  const table = new CliTable({
    head: [
      ...["case", "bytes", "peer", "CPU ns", "min", "max", "ours ÷ peer", "min", "max"],
      ...["all threads", "frames/s", "waits/1000", "drops", ""],
    ],
    style: { head: [], border: [], compact: true },
    colAligns: ["left", "right", "left", ...Array<"right">(10).fill("right"), "left"],
  });
  for (const line of lines) {
    table.push([
      ...[line.case, line.bytes ?? "", line.peer, line.ns, line.ns_min, line.ns_max],
      ...[line.ratio, line.ratio_min, line.ratio_max, line.process_cpu_ns],
      ...[line.frames_per_s, line.waits, line.lost ?? "", noise(line)],
    ]);
  }
  console.log(table.toString());
}

async function main(): Promise<void> {
  const options = readOptions();
  const missing = [
    ...(canMakeVeth() ? [] : ["network namespaces (root, iproute2 and util-linux)"]),
    ...(hasCompiler() ? [] : ["gcc"]),
  ];
  if (missing.length > 0) {
    console.error(`capture.ts cannot run here: it needs ${missing.join(" and ")}`);
    return;
  }
  // The programs of ours read it.
  if (options.ringer !== undefined) process.env["BUN_SOCKETS_RINGER"] = options.ringer;
  const progress = startProgress(options.json);
  const lines: CaptureLine[] = [];
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
  const storage = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), "bun-sockets-bench-"));
  try {
    const wire = new Wire(folder, storage);
    const takers = start(wire, options);
    progress.title("warming up");
    const rate = await warmUp(wire, takers, options);
    const count =
      options.groups === undefined
        ? Math.round((rate * options.roundMs) / 1000)
        : options.groups * GROUP;
    for (const [index, bytes] of SIZES.entries()) {
      progress.title(`frames of ${bytes} bytes`);
      const shares = takers.size * options.rounds * SIZES.length;
      let done = 0;
      const rounds = await runSize(wire, takers, bytes, count, options, () => {
        progress.set(index / SIZES.length + ++done / shares);
      });
      lines.push(...linesOf(bytes, rounds));
    }
    for (const taker of takers.values()) await taker.close();
    await wire.close();
  } finally {
    for (const one of [folder, storage]) rmSync(one, { recursive: true });
  }
  progress.stop();
  if (options.json) for (const line of lines) console.log(JSON.stringify(line));
  else printTable(lines);
}

await main();
