// How fast do bytes go through a TCP connection, and what does a KiB cost? One process sends, another
// one reads, each on a core of its own; 64 KiB or 1 KiB are sent in a call.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import CliTable from "cli-table3";
import { max, median, min } from "simple-statistics";
import { compile, readLines } from "./peers/programs.ts";
import { type Line, noise, type Options, readOptions, spread, startProgress } from "./support.ts";

/** A line of results: `ns` is the CPU time of both processes for a KiB. */
interface StreamLine extends Line {
  readonly ours: string;
  /** Million bytes a second, from the first byte sent until the last one was read. */
  readonly mb_s: number;
  readonly mb_s_min: number;
  readonly mb_s_max: number;
  /** How many times as fast as C. */
  readonly speed_to_c: number | null;
  readonly calls_per_mib: number;
}

interface Peer {
  readonly name: string;
  /** Which of ours is divided by it. */
  readonly ours: string;
  readonly command: readonly string[];
}

interface Round {
  readonly nsPerKib: number;
  readonly sendNsPerKib: number;
  readonly receiveNsPerKib: number;
  readonly mbPerSecond: number;
  readonly callsPerMib: number;
}

interface Sent {
  readonly ns: number;
  readonly cpu_ns: number;
}

interface Received {
  readonly bytes: number;
  readonly wrong: number;
  readonly calls: number;
  readonly cpu_ns: number;
}

const SIZES = [64 << 10, 1 << 10];
const KIB = 1024;
const MIB = 1 << 20;
// Enough for the compilers, and to find out how much makes a round.
const WARM_UP_MIB = 64;

const file = (name: string) => join(import.meta.dir, "peers", name);

/** A process that is told something by a line, and says something by a line. */
class Program {
  readonly #process;
  readonly #lines: AsyncGenerator<string, void>;

  constructor(command: string[]) {
    this.#process = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
    this.#lines = readLines(this.#process.stdout);
  }

  tell(line: string): void {
    this.#process.stdin.write(`${line}\n`);
    this.#process.stdin.flush();
  }

  async said<Value>(): Promise<Value> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`a peer ended with ${await this.#process.exited}`);
    return JSON.parse(value) as Value;
  }

  signal(signal: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    this.#process.kill(signal);
  }
}

function peersIn(stream: string, { only }: Options): Peer[] {
  const bun = process.execPath;
  const node = Bun.which("node");
  const peers: Peer[] = [
    { name: "promise", ours: "promise", command: [bun, file("stream_bun_sockets.ts"), "promise"] },
    { name: "sync", ours: "sync", command: [bun, file("stream_bun_sockets.ts"), "sync"] },
    { name: "c", ours: "sync", command: [stream] },
    { name: "bun", ours: "promise", command: [bun, file("stream_bun.ts")] },
    ...(node ? [{ name: "node", ours: "promise", command: [node, file("stream_node.mjs")] }] : []),
  ];
  return peers.filter(({ name }) => only === undefined || name === only);
}

/** A sender and a receiver, which live for all rounds and are stopped while others are measured. */
class Pair {
  readonly rounds: Round[] = [];
  readonly peer: Peer;
  readonly #sender: Program;
  readonly #receiver: Program;
  #mib = WARM_UP_MIB;

  private constructor(peer: Peer, sender: Program, receiver: Program) {
    this.peer = peer;
    this.#sender = sender;
    this.#receiver = receiver;
  }

  static async start(peer: Peer, pinned: string, bytes: number): Promise<Pair> {
    const receiver = new Program([pinned, "-1", ...peer.command, "receive"]);
    const { port } = await receiver.said<{ port: number }>();
    const values = ["send", `${port}`, `${bytes}`];
    const sender = new Program([pinned, "0", ...peer.command, ...values]);
    return new Pair(peer, sender, receiver);
  }

  async calibrate({ roundMs, groups }: Options): Promise<void> {
    await this.run();
    const { mbPerSecond } = await this.run();
    this.#mib = groups ?? Math.max(1, Math.round((mbPerSecond * 1e6 * roundMs) / 1000 / MIB));
    this.signal("SIGSTOP");
  }

  signal(signal: "SIGSTOP" | "SIGCONT" | "SIGKILL"): void {
    this.#sender.signal(signal);
    this.#receiver.signal(signal);
  }

  async run(): Promise<Round> {
    const bytes = this.#mib * MIB;
    this.#sender.tell(`${bytes}`);
    const received = await this.#receiver.said<Received>();
    const sent = await this.#sender.said<Sent>();
    if (received.bytes !== bytes || received.wrong > 0)
      throw new Error(
        `${this.peer.name} read other bytes than were sent: ${JSON.stringify(received)}`,
      );
    return {
      nsPerKib: ((sent.cpu_ns + received.cpu_ns) / bytes) * KIB,
      sendNsPerKib: (sent.cpu_ns / bytes) * KIB,
      receiveNsPerKib: (received.cpu_ns / bytes) * KIB,
      mbPerSecond: (bytes / sent.ns) * 1000,
      callsPerMib: received.calls / this.#mib,
    };
  }

  async measure(): Promise<void> {
    this.signal("SIGCONT");
    this.rounds.push(await this.run());
    this.signal("SIGSTOP");
  }
}

function summarize(bytes: number, { peer, rounds }: Pair, all: readonly Pair[]): StreamLine {
  const of = (name: string) => all.find((pair) => pair.peer.name === name)?.rounds;
  const values = (some: readonly Round[], key: keyof Round) => some.map((round) => round[key]);
  const middle = (key: keyof Round, digits: number) =>
    Number(median(values(rounds, key)).toFixed(digits));
  const speeds = values(rounds, "mbPerSecond");
  const c = of("c");
  const toC = c && median(speeds.map((speed, i) => speed / (c[i] as Round).mbPerSecond));
  return {
    bench: "tcp_throughput",
    case: "two processes",
    peer: peer.name,
    bytes,
    batch: null,
    // Alone, with --only, a peer is compared with itself.
    ...spread(values(rounds, "nsPerKib"), values(of(peer.ours) ?? rounds, "nsPerKib")),
    send_ns: middle("sendNsPerKib", 1),
    receive_ns: middle("receiveNsPerKib", 1),
    // Not one byte, or it would have been no result.
    lost: 0,
    rounds: rounds.length,
    ours: peer.ours,
    mb_s: middle("mbPerSecond", 0),
    mb_s_min: Math.round(min(speeds)),
    mb_s_max: Math.round(max(speeds)),
    speed_to_c: toC === undefined ? null : Number(toC.toFixed(3)),
    calls_per_mib: middle("callsPerMib", 1),
  };
}

function printTable(lines: readonly StreamLine[]): void {
  const right = Array<"right">(9).fill("right");
  const table = new CliTable({
    head: [
      ...["bytes", "peer", "MB/s", "min", "max", "÷ c", "CPU ns/KiB", "send", "receive"],
      ...["calls/MiB", "ours ÷ peer", ""],
    ],
    style: { head: [], border: [], compact: true },
    colAligns: ["right", "left", ...right, "left"],
  });
  for (const line of lines) {
    table.push([
      ...[line.bytes ?? "", line.peer, line.mb_s, line.mb_s_min, line.mb_s_max],
      ...[line.speed_to_c ?? "", line.ns, line.send_ns ?? "", line.receive_ns ?? ""],
      ...[line.calls_per_mib, line.ratio, noise(line)],
    ]);
  }
  console.log(table.toString());
}

const options = readOptions();
const progress = startProgress(options.json);
const lines: StreamLine[] = [];
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
try {
  const pinned = compile(folder, "pinned");
  const peers = peersIn(compile(folder, "stream"), options);
  for (const [index, bytes] of SIZES.entries()) {
    progress.title(`${bytes} bytes in a call`);
    const pairs: Pair[] = [];
    try {
      for (const peer of peers) {
        const pair = await Pair.start(peer, pinned, bytes);
        pairs.push(pair);
        await pair.calibrate(options);
      }
      for (let round = 0; round < options.rounds; round++) {
        for (let k = 0; k < pairs.length; k++) {
          await (pairs[(k + round) % pairs.length] as Pair).measure();
          const done = (round * pairs.length + k + 1) / (options.rounds * pairs.length);
          progress.set((index + done) / SIZES.length);
        }
      }
    } finally {
      for (const pair of pairs) pair.signal("SIGKILL");
    }
    lines.push(...pairs.map((pair) => summarize(bytes, pair, pairs)));
  }
} finally {
  rmSync(folder, { recursive: true });
}
progress.stop();
if (options.json) for (const line of lines) console.log(JSON.stringify(line));
else printTable(lines);
