// What async_latency.ts, echo_server.ts and unix_latency.ts share: servers that are processes of their own, a client
// in C, rounds in which the servers take turns, and what is made of the rounds.
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import CliTable from "cli-table3";
import { max, mean, median, quantileSorted } from "simple-statistics";
import { GROUP, type Line, noise, type Options, spread, startProgress } from "../support.ts";
import { compile } from "./programs.ts";

/** A server that sends back what it gets. */
export interface Server {
  readonly peer: string;
  readonly command: (programs: Programs) => string[];
  /** Which of ours is divided by it: itself, when it is one of ours. */
  readonly ours: string;
  /** Whether it never sleeps, and so needs a core of its own. */
  readonly spins?: boolean;
}

/** How the client asks for echoes: one datagram at a time, or with 32 on their way. */
export interface Load {
  readonly bench: string;
  readonly case: string;
  readonly kind: "latency" | "load";
  /** Datagrams on their way at the same time. */
  readonly batch: number;
  /** Whether the client and the server share a core. */
  readonly oneCore: boolean;
  /** How long the client sleeps after each echo, in microseconds. */
  readonly pauseUs: number;
  /** Echoes of one round. */
  readonly echoes: number;
  /** Which of a round's numbers is `ns`, the one that ratios are made of. */
  readonly ns: "p50Ns" | "cpuNs";
}

/** A line of results: `ns` is the median round trip, or the server's CPU time for an echo. */
export interface EchoLine extends Line {
  /** Which of ours is divided by this peer in `ratio`. */
  readonly ours: string;
  /** This peer divided by C, and by Bun's own: `Bun.udpSocket` or `Bun.listen`. */
  readonly to_c: number | null;
  readonly to_bun: number | null;
  /** CPU time of the server, and of the client, for one echo. */
  readonly cpu_ns: number;
  readonly client_cpu_ns: number;
  readonly p50_us: number;
  readonly p90_us: number;
  readonly p99_us: number;
  readonly mean_us: number;
  /** The longest of all rounds. */
  readonly max_us: number;
  readonly rtt_per_s: number;
  /** How often the server was woken for one echo. */
  readonly wakeups: number;
}

const BYTES = 64;
const WARM_UP = 10_000;
// After a pause, and after the client is new: what caches and the kernel have forgotten.
const WARM_UP_ROUND = 200;
const WAKEUPS_MIN = 0.95;
// The client's core is the first, the server's the last: neighbours may be halves of one core.
const FIRST_CORE = "0";
const LAST_CORE = "-1";

const file = (name: string) => join(import.meta.dir, name);

/** How many cores this process may use. */
export const cores = availableParallelism();

interface Programs {
  /** For the sockets of servers that have a path. */
  readonly folder: string;
  readonly pinned: string;
  readonly client: string;
  readonly server: string;
}

/** Compiles the programs in C, and runs what needs them. */
async function withPrograms(run: (programs: Programs) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
  try {
    await run({
      folder,
      pinned: compile(folder, "pinned"),
      client: compile(folder, "echo_client"),
      server: compile(folder, "echo_server"),
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A server in C, in one of the forms of echo_server.c. */
export function cServer(peer: string, form: string, ours: string, spins = false): Server {
  return { peer, command: ({ server }) => [server, form], ours, spins };
}

/** The servers of Bun and Node; there is no `node` where there is no Node. */
export function eventServers(ours: string): Server[] {
  const bun = process.execPath;
  const node = Bun.which("node");
  const inNode = node
    ? [{ peer: "node", command: () => [node, file("echo_dgram.mjs")], ours }]
    : [];
  return [
    { peer: "bun-udp", command: () => [bun, file("echo_bun_udp.ts")], ours },
    { peer: "node-dgram", command: () => [bun, file("echo_dgram.mjs")], ours },
    ...inNode,
  ];
}

/** Servers of Unix streams: ours in two forms, and the others. */
export function unixServers(): Server[] {
  const bun = process.execPath;
  const node = Bun.which("node");
  let started = 0;
  // Each time another path: the file of one that was killed stays.
  const on = (peer: string, ours: string, command: (programs: Programs) => string[]): Server => ({
    peer,
    ours,
    command: (programs) => [...command(programs), join(programs.folder, `${++started}.sock`)],
  });
  const inNode = node ? [on("node", "promise", () => [node, file("echo_unix_node.mjs")])] : [];
  return [
    on("promise", "promise", () => [bun, file("echo_unix_bun_sockets.ts"), "promise"]),
    on("sync", "sync", () => [bun, file("echo_unix_bun_sockets.ts"), "sync"]),
    on("c", "sync", ({ server }) => [server, "stream"]),
    on("bun", "promise", () => [bun, file("echo_unix_bun.ts")]),
    ...inNode,
  ];
}

/** A server of ours, in one of the forms of echo_bun_sockets.ts. */
export function ourServer(form: string, spins = false): Server {
  const command = [process.execPath, file("echo_bun_sockets.ts"), form];
  return { peer: form, command: () => command, ours: form, spins };
}

/** What one round of one server was. Times are nanoseconds; CPU time and wake-ups are per echo. */
interface Round {
  readonly p50Ns: number;
  readonly p90Ns: number;
  readonly p99Ns: number;
  readonly meanNs: number;
  readonly maxNs: number;
  readonly cpuNs: number;
  readonly clientCpuNs: number;
  readonly wakeups: number;
  readonly perSecond: number;
  readonly lost: number;
}

interface Used {
  readonly cpu_ns: number;
  readonly wakeups: number;
}

/** The line that the client prints. */
interface Report {
  readonly ns: number;
  readonly cpu_ns: number;
  readonly lost: number;
  readonly before: Used;
  readonly after: Used;
  readonly round_trips: readonly number[];
}

/** A server's process. It is stopped whenever it is not measured, so that it disturbs no other. */
async function start(programs: Programs, server: Server, options: Options) {
  const env = { ...process.env };
  if (options.ringer !== undefined) env["BUN_SOCKETS_RINGER"] = options.ringer;
  const command = [programs.pinned, LAST_CORE, ...server.command(programs)];
  const running = Bun.spawn(command, { env, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  const { value } = await running.stdout.getReader().read();
  if (value === undefined) throw new Error(`${server.peer} ended with ${await running.exited}`);
  const said = JSON.parse(new TextDecoder().decode(value)) as { port?: number; path?: string };
  return { server, running, address: said.port ?? said.path ?? "", rounds: [] as Round[] };
}

type Running = Awaited<ReturnType<typeof start>>;

async function runRound(
  { pinned, client }: Programs,
  { kind, oneCore, pauseUs }: Load,
  { server, running, address }: Running,
  warmUp: number,
  echoes: number,
): Promise<Round> {
  const core = oneCore ? LAST_CORE : FIRST_CORE;
  const values = [address, warmUp, echoes, pauseUs].map(String);
  running.kill("SIGCONT");
  const asking = Bun.spawn([pinned, core, client, kind, ...values], { stderr: "pipe" });
  const [output, errors, code] = await Promise.all([
    asking.stdout.text(),
    asking.stderr.text(),
    asking.exited,
  ]);
  running.kill("SIGSTOP");
  if (code !== 0) throw new Error(`the client of ${server.peer} ended with ${code}: ${errors}`);
  return toRound(JSON.parse(output) as Report);
}

function toRound({ ns, cpu_ns, lost, before, after, round_trips }: Report): Round {
  const sorted = round_trips.toSorted((a, b) => a - b);
  const echoes = sorted.length;
  return {
    p50Ns: quantileSorted(sorted, 0.5),
    p90Ns: quantileSorted(sorted, 0.9),
    p99Ns: quantileSorted(sorted, 0.99),
    meanNs: mean(sorted),
    maxNs: max(sorted),
    cpuNs: (after.cpu_ns - before.cpu_ns) / echoes,
    clientCpuNs: cpu_ns / echoes,
    wakeups: (after.wakeups - before.wakeups) / echoes,
    perSecond: (1e9 * echoes) / ns,
    lost,
  };
}

/**
 * Runs one load against the servers in turn, another one first in each round. Each is one process
 * for all rounds, and has compiled its code before the first.
 */
async function runLoad(
  programs: Programs,
  load: Load,
  servers: readonly Server[],
  options: Options,
  onRound: () => void,
): Promise<EchoLine[]> {
  const quick = options.roundMs < 100;
  const echoes =
    options.groups === undefined
      ? Math.ceil(load.echoes / (quick ? 100 : 1))
      : options.groups * GROUP;
  const running: Running[] = [];
  try {
    for (const server of servers) {
      const one = await start(programs, server, options);
      running.push(one);
      await runRound(programs, { ...load, pauseUs: 0 }, one, 0, quick ? WARM_UP_ROUND : WARM_UP);
    }
    for (let round = 0; round < options.rounds; round++) {
      for (let k = 0; k < running.length; k++) {
        const one = running[(k + round) % running.length] as Running;
        one.rounds.push(await runRound(programs, load, one, WARM_UP_ROUND, echoes));
        onRound();
      }
    }
  } finally {
    for (const one of running) one.running.kill("SIGKILL");
    for (const one of running) await one.running.exited;
  }
  return running.map((one) => summarize(load, one, running));
}

function summarize(load: Load, { server, rounds }: Running, all: readonly Running[]): EchoLine {
  const ns = (some: readonly Round[]) => some.map((round) => round[load.ns]);
  const roundsOf = (peer: string) => all.find((one) => one.server.peer === peer)?.rounds;
  const to = (peer: string) => {
    const theirs = roundsOf(peer);
    return theirs === undefined ? null : spread(ns(theirs), ns(rounds)).ratio;
  };
  const middle = (key: keyof Round, digits: number, scale = 1) =>
    Number((median(rounds.map((round) => round[key])) * scale).toFixed(digits));
  return {
    bench: load.bench,
    case: load.case,
    peer: server.peer,
    bytes: BYTES,
    batch: load.batch,
    // Alone, with --only, a server is compared with itself.
    ...spread(ns(rounds), ns(roundsOf(server.ours) ?? rounds)),
    send_ns: null,
    receive_ns: null,
    lost: rounds.reduce((lost, round) => lost + round.lost, 0),
    rounds: rounds.length,
    ours: server.ours,
    to_c: to("c"),
    to_bun: to("bun-udp") ?? to("bun"),
    cpu_ns: middle("cpuNs", 0),
    client_cpu_ns: middle("clientCpuNs", 0),
    p50_us: middle("p50Ns", 2, 1e-3),
    p90_us: middle("p90Ns", 2, 1e-3),
    p99_us: middle("p99Ns", 2, 1e-3),
    mean_us: middle("meanNs", 2, 1e-3),
    max_us: Number((max(rounds.map((round) => round.maxNs)) / 1000).toFixed(2)),
    rtt_per_s: middle("perSecond", 0),
    wakeups: middle("wakeups", 3),
  };
}

/**
 * Runs loads one after the other, and prints their lines as JSON or as a table. A machine with one
 * core runs what needs no more.
 *
 * Where the client sleeps, a server that waits must have been woken for nearly every echo: one that
 * was not has been measured at something else. The exit code says so after the lines.
 */
export async function runLoads(
  loads: readonly Load[],
  servers: readonly Server[],
  options: Options,
): Promise<void> {
  const jobs = loads
    .filter(({ oneCore }) => oneCore || cores > 1)
    .map((load) => ({ load, servers: servers.filter((one) => takesPart(one, load, options)) }));
  const shares = jobs.reduce((sum, job) => sum + job.servers.length * options.rounds, 0);
  const progress = startProgress(options.json);
  const lines: EchoLine[] = [];
  const complaints: string[] = [];
  let done = 0;
  await withPrograms(async (programs) => {
    for (const { load, servers } of jobs) {
      progress.title(load.case);
      const some = await runLoad(programs, load, servers, options, () => {
        progress.set(++done / shares);
      });
      lines.push(...some);
      if (load.pauseUs > 0) complaints.push(...servers.flatMap((one, i) => check(one, some[i])));
    }
  });
  progress.stop();
  if (options.json) for (const line of lines) console.log(JSON.stringify(line));
  else printTable(lines);
  if (jobs.length < loads.length && !options.json) {
    console.log("This machine has one core: what needs two was left out.");
  }
  if (complaints.length > 0) throw new Error(complaints.join("\n"));
}

function takesPart({ peer, spins }: Server, load: Load, { only }: Options): boolean {
  return (only === undefined || peer === only) && !(spins && load.oneCore);
}

function check({ spins }: Server, line: EchoLine | undefined): string[] {
  if (spins || line === undefined || line.wakeups >= WAKEUPS_MIN) return [];
  return [`${line.case}, ${line.peer}: woken only ${line.wakeups} times for an echo`];
}

function printTable(lines: readonly EchoLine[]): void {
  const numbers: Record<string, (line: EchoLine) => string | number> = {
    "p50 µs": ({ p50_us }) => p50_us,
    "p90 µs": ({ p90_us }) => p90_us,
    "p99 µs": ({ p99_us }) => p99_us,
    "max µs": ({ max_us }) => max_us,
    "echoes/s": ({ rtt_per_s }) => rtt_per_s.toLocaleString("en"),
    "CPU ns": ({ cpu_ns }) => cpu_ns,
    "wake-ups": ({ wakeups }) => wakeups,
    "÷ c": ({ to_c }) => to_c ?? "",
    "÷ bun": ({ to_bun }) => to_bun ?? "",
    spread: ({ ns, ns_min, ns_max }) => `${Math.round((100 * (ns_max - ns_min)) / ns)} %`,
    lost: ({ lost }) => lost ?? "",
  };
  const columns = Object.entries(numbers);
  const table = new CliTable({
    head: ["case", "server", ...columns.map(([name]) => name), ""],
    style: { head: [], border: [], compact: true },
    colAligns: ["left", "left", ...columns.map(() => "right" as const), "left"],
  });
  for (const line of lines) {
    table.push([line.case, line.peer, ...columns.map(([, value]) => value(line)), noise(line)]);
  }
  console.log(table.toString());
}
