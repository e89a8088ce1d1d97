// The two sides of each peer of a cell of the suite: processes of their own, on cores of their own.
//
// The command line of a side is ROLE SEND RECEIVE FAMILY BYTES BATCH SEGMENTS GROUP WINDOW FLOW FORM LOCAL
// REMOTE PORT RECEIVERS; ROLE is "send", "receive", or "both" for one thread. A side prints a line of JSON
// when it is open, with its port. A receiver is told "peer PORT", and answers when it has connected.
// "run COUNT" begins a round: the receiver answers that it is ready, and at the end both say what they
// did (suite_round.ts). "times 1" makes the receiver's samples how long ago the kernel had the datagrams, and
// "times 0" again how long ago they were sent; it answers when it does so. The first byte of a datagram is its number in its group, the last what makes 255 with it; the
// first of a group has the time since the machine was started in its bytes 2 to 9, as a double in
// nanoseconds. The receiver answers to each group with how many datagrams it has, in four bytes.
import { dlopen } from "bun:ffi";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { median } from "simple-statistics";
import type { Cell, PeerName } from "../cells.ts";
import { PEERS } from "../places.ts";
import { compile, readLines } from "./programs.ts";
import type { Touched } from "./suite_memory.ts";
import {
  type CallCounts,
  type Received,
  type Round,
  roundOf,
  type Sent,
  total,
  totalOrNull,
} from "./suite_round.ts";
import { type Calls, Strace } from "./suite_trace.ts";
import { type Host, vethHosts } from "./veth.ts";

interface Opened {
  readonly port: number;
  readonly sendBufferBytes: number | null;
  readonly receiveBufferBytes: number | null;
}

const LOOPBACK = { udp4: "127.0.0.1", udp6: "::1" } as const;
const CLOCK_OF_PROCESS = 2;
/** Groups of two rounds that are not counted: the first is for the compilers. */
const WARM_UP_GROUPS = [20, 200] as const;
/** Groups of the shortest round. */
export const GROUPS_MIN = 4;
const COUNTED_GROUPS = 50;
/** How much longer the round is in which compilers work on what reads the kernel's times. */
const TIMED_WARM_UP = 6;
const PAGE_BYTES = 4096;
/** Which member of /proc/PID/stat counts the pages that were touched first, after the name. */
const MINOR_FAULTS_AT = 7;
// Where the kernel tells what a process allocates: as long as nothing is collected, by what it touches.
const WITHOUT_COLLECTION = { BUN_JSC_useGC: "0", SUITE_MEMORY: "1" } as const;
const YOUNG_MIB = 512;

const file = (name: string) => join(PEERS, name);
const cores = availableParallelism();

const { clock_gettime } = dlopen("libc.so.6", {
  // int clock_gettime(clockid_t clockid, struct timespec *tp);
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
}).symbols;
const time = new BigInt64Array(2);

/** CPU time of all threads of another process: MAKE_PROCESS_CPUCLOCK in the kernel's words. */
function cpuNsOf(pid: number): number {
  clock_gettime((~pid << 3) | CLOCK_OF_PROCESS, time);
  const [seconds = 0n, nanoseconds = 0n] = time;
  return Number(seconds * 1_000_000_000n + nanoseconds);
}

/**
 * How many bytes a process has touched for the first time. It only grows: what is resident comes and goes
 * by megabytes, because the engine gives back what compiling took.
 */
function touchedBytesOf(pid: number): number {
  const [, rest = ""] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ");
  return Number(rest.split(" ")[MINOR_FAULTS_AT]) * PAGE_BYTES;
}

/** A side. */
class Program {
  readonly #title: string;
  readonly #process;
  readonly #lines: AsyncGenerator<string, void>;

  constructor(title: string, command: string[], env: Readonly<Record<string, string>>) {
    this.#title = title;
    this.#process = Bun.spawn(command, {
      ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
      env: { ...process.env, ...env },
      // Ctrl-C is for us alone: we end them.
      detached: true,
    });
    this.#lines = readLines(this.#process.stdout);
  }

  get pid(): number {
    return this.#process.pid;
  }

  tell(line: string): void {
    this.#process.stdin.write(`${line}\n`);
    this.#process.stdin.flush();
  }

  async said<Value>(): Promise<Value> {
    const { value, done } = await this.#lines.next();
    if (done) {
      const code = await this.#process.exited;
      throw new Error(`${this.#title} has ended with exit code ${code}`);
    }
    return JSON.parse(value) as Value;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    await this.#process.exited;
  }

  async kill(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
  }
}

/** The programs in C, where there is a compiler, and where sockets with paths are. */
export class Tools {
  readonly folder: string;
  /** The peer in C. */
  readonly inC: string | undefined;
  readonly #pinned: string | undefined;

  constructor(folder: string) {
    this.folder = folder;
    if (!isInstalled("c")) return;
    this.#pinned = compile(folder, "pinned");
    this.inC = compile(folder, "suite_c");
  }

  /** What begins a command that is to run on one core, counted from 0 among those that we may use. */
  onCore(index: number): string[] {
    if (this.#pinned !== undefined) return [this.#pinned, String(index)];
    const core = allowedCores()[index];
    // Without either the scheduler puts it where it likes.
    return core === undefined || Bun.which("taskset") === null ? [] : ["taskset", "-c", core];
  }
}

function allowedCores(): string[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const [, ranges = ""] = /^Cpus_allowed_list:\s*(\S+)$/m.exec(status) ?? [];
  return ranges.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => String(first + i));
  });
}

/**
 * Deno as its npm package brings it, or as it is installed. The package is no development dependency:
 * its file for each platform is a package of its own, and a lock file would want them all.
 */
export function findDeno(): string | null {
  const arch = process.arch === "arm64" ? "arm64" : "x64";
  const path = file(`deno/node_modules/@deno/linux-${arch}-glibc/deno`);
  return existsSync(path) ? path : Bun.which("deno");
}

/** What begins the command line of a peer; undefined where it is not installed. */
export function commandOf(peer: PeerName, isUncollected = false): string[] | undefined {
  const installed = (path: string | null, ...rest: string[]) =>
    path === null ? undefined : [path, ...rest];
  const young = `--min-semi-space-size=${YOUNG_MIB}`;
  const max = `--max-semi-space-size=${YOUNG_MIB}`;
  switch (peer) {
    case "bun-sockets":
      return inBun("suite_bun_sockets.ts");
    case "bun-udp":
      return inBun("suite_bun_udp.ts");
    case "node-dgram-bun":
      return inBun("suite_dgram.mjs");
    case "node-dgram":
      return installed(
        Bun.which("node"),
        ...(isUncollected ? [young, max] : []),
        file("suite_dgram.mjs"),
      );
    case "deno":
      return installed(
        findDeno(),
        ...["run", "--allow-all", "--quiet", "--no-config"],
        ...(isUncollected ? [`--v8-flags=${young},${max}`] : []),
        file("suite_dgram.mjs"),
      );
    case "python":
      return installed(Bun.which("python3"), file("suite_python.py"));
    default:
      return undefined;
  }
}

// Nothing of the folder that somebody happens to be in, as the command itself: see cli/bun-sockets.
function inBun(name: string): string[] {
  return [process.execPath, "--config=/dev/null", "--no-env-file", "--no-install", file(name)];
}

const known = new Map<PeerName, boolean>();

/** Whether a peer can take part here: what it runs on is there, and runs. */
export function isInstalled(peer: PeerName): boolean {
  const isKnown = known.get(peer);
  if (isKnown !== undefined) return isKnown;
  const [program] = commandOf(peer) ?? [];
  const isThere =
    peer === "c"
      ? canCompile()
      : program === process.execPath ||
        (program !== undefined && Bun.spawnSync([program, "--version"]).success);
  known.set(peer, isThere);
  return isThere;
}

// Debian's gcc comes without the headers of libc.
function canCompile(): boolean {
  const stdin = Buffer.from("#include <stdio.h>\n");
  const gcc = ["gcc", "-fsyntax-only", "-x", "c", "-"];
  return Bun.which("gcc") !== null && Bun.spawnSync(gcc, { stdin }).success;
}

interface Place {
  readonly prefix: readonly string[];
  readonly host: string;
}

interface Values {
  readonly role: "send" | "receive" | "both";
  readonly local: string;
  readonly remote: string;
  readonly port: number;
}

let opened = 0;

/** All processes of a peer in a cell. */
export class Pair {
  readonly peer: PeerName;
  readonly cell: Cell;
  readonly sendBufferBytes: number | null;
  readonly receiveBufferBytes: number | null;
  readonly #times: number[] = [];
  readonly #senders: readonly Program[];
  readonly #receivers: readonly Program[];

  private constructor(
    peer: PeerName,
    cell: Cell,
    senders: readonly Program[],
    receivers: readonly Program[],
    buffers: readonly [number | null, number | null],
  ) {
    this.peer = peer;
    this.cell = cell;
    this.#senders = senders;
    this.#receivers = receivers;
    [this.sendBufferBytes, this.receiveBufferBytes] = buffers;
  }

  /** Starts them, each on a core of its own as long as there are some. */
  static async start(
    tools: Tools,
    peer: PeerName,
    cell: Cell,
    isUncollected = false,
  ): Promise<Pair> {
    const inC = tools.inC === undefined ? undefined : [tools.inC];
    const command = peer === "c" ? inC : commandOf(peer, isUncollected);
    if (command === undefined) throw new Error(`${peer} is not installed`);
    const [near, far] = placesOf(tools, cell);
    const programs: Program[] = [];
    const start = ({ prefix }: Place, core: number, values: Values) => {
      const pinned = tools.onCore(core % cores);
      const line = [...prefix, ...pinned, ...command, ...argumentsOf(cell, values)];
      const title = `${peer} in ${cell.name}`;
      const program = new Program(title, line, isUncollected ? WITHOUT_COLLECTION : {});
      programs.push(program);
      return program;
    };
    try {
      if (cell.topology === "one thread") {
        const values = { role: "both", local: far.host, remote: near.host, port: 0 } as const;
        const program = start(far, cores - 1, values);
        const { sendBufferBytes, receiveBufferBytes } = await program.said<Opened>();
        return new Pair(peer, cell, [program], [], [sendBufferBytes, receiveBufferBytes]);
      }
      const receivers: Program[] = [];
      let port = 0;
      let buffer: number | null = null;
      for (let k = 0; k < cell.receivers; k++) {
        const values = { role: "receive", local: far.host, remote: near.host, port } as const;
        const receiver = start(far, cores - 1 + k, values);
        const said = await receiver.said<Opened>();
        ({ port, receiveBufferBytes: buffer } = said);
        receivers.push(receiver);
      }
      const senders: Program[] = [];
      let sendBuffer: number | null = null;
      for (let k = 0; k < cell.senders; k++) {
        const values = { role: "send", local: near.host, remote: far.host, port } as const;
        const sender = start(near, k, values);
        const said = await sender.said<Opened>();
        sendBuffer = said.sendBufferBytes;
        senders.push(sender);
        if (cell.flow === "window") {
          receivers[0]?.tell(`peer ${said.port}`);
          await receivers[0]?.said();
        }
      }
      return new Pair(peer, cell, senders, receivers, [sendBuffer, buffer]);
    } catch (error) {
      await Promise.all(programs.map((program) => program.kill()));
      throw error;
    } finally {
      for (const { host } of [near, far]) if (cell.family === "unix") rmSync(host, { force: true });
    }
  }

  /** Sends and receives so many datagrams, from each sender, and checks what came. */
  async run(count: number): Promise<Round> {
    return (await this.#run(count)).round;
  }

  async #run(count: number) {
    const all = [...this.#senders, ...this.#receivers];
    for (const receiver of this.#receivers) receiver.tell(`run ${count * this.cell.senders}`);
    for (const receiver of this.#receivers) await receiver.said();
    const before = all.map(({ pid }) => cpuNsOf(pid));
    for (const sender of this.#senders) sender.tell(`run ${count}`);
    const sent = await Promise.all(this.#senders.map((sender) => sender.said<Sent>()));
    const sides = this.#receivers.length > 0 ? this.#receivers : this.#senders;
    const received = await Promise.all(sides.map((side) => side.said<Received>()));
    const cpu = all.map(({ pid }, i) => cpuNsOf(pid) - (before[i] as number));
    const asked = count * this.cell.senders;
    const round = roundOf(this.peer, this.cell, { asked, sent, received, cpu });
    return { round, sent, received };
  }

  /**
   * Whether compilers work while it runs, on the cores that its sides are bound to: that takes them
   * away for milliseconds.
   */
  get isCompiled(): boolean {
    return this.peer !== "c" && this.peer !== "python";
  }

  /** Runs rounds of so many groups, by default until it is known about how long one takes. */
  async warmUp(rounds: readonly number[] = WARM_UP_GROUPS): Promise<void> {
    for (const groups of rounds) {
      const { ns } = await this.run(groups * this.cell.group);
      this.#times.push(ns);
    }
    // The first of them was theirs.
    this.#times.shift();
  }

  /** As many datagrams as fit so long, by how long they took until now. */
  countFor(milliseconds: number): number {
    const { group, senders } = this.cell;
    const groups = Math.round((milliseconds * 1e6) / (median(this.#times) * senders) / group);
    return Math.max(GROUPS_MIN, groups) * group;
  }

  /** One round of so long. */
  async round(milliseconds: number): Promise<Round> {
    const round = await this.run(this.countFor(milliseconds));
    this.#times.push(round.ns);
    return round;
  }

  /** What strace counts for a datagram in a run of its own; null where it may not look. */
  async countCalls(): Promise<CallCounts> {
    const { round, sides } = await this.traceCalls();
    const [send, receive] = sides.map((calls) => total(Object.values(calls)));
    if (send === undefined || receive === undefined) return { send: null, receive: null };
    return { send: send / round.sent, receive: receive / round.received };
  }

  /**
   * What strace counts of each process, senders first, in a run of its own; of none where it may not look.
   * `which` is what it counts, in its own words.
   */
  async traceCalls(which = "all") {
    const traces: Strace[] = [];
    for (const { pid } of [...this.#senders, ...this.#receivers]) {
      const trace = await Strace.attach(pid, which);
      if (trace !== undefined) traces.push(trace);
    }
    let round: Round;
    let sides: Calls[] = [];
    try {
      round = await this.run(COUNTED_GROUPS * this.cell.group);
    } finally {
      sides = await Promise.all(traces.map((trace) => trace.end()));
    }
    return { round, sides };
  }

  /**
   * How long datagrams have waited since the kernel had them, in nanoseconds, in a round of its own of so
   * long. Null where nothing of a datagram but its payload is read.
   */
  async measureWaits(milliseconds: number): Promise<readonly number[] | null> {
    const { receive, family, topology } = this.cell;
    const isTold = ["bun-sockets", "c", "python"].includes(this.peer);
    const isRead = ["recvmsg", "recvmmsg", "gro", "ring"].includes(receive);
    // One thread looks when it has sent all, and a Unix socket has no times.
    if (!isTold || !isRead || family === "unix" || topology === "one thread") return null;
    await this.#timeByKernel(true);
    const count = this.countFor(milliseconds);
    // What reads the times has not run yet.
    if (this.isCompiled) await this.run(count * TIMED_WARM_UP);
    const { samples } = await this.run(count);
    await this.#timeByKernel(false);
    return samples;
  }

  async #timeByKernel(isTimed: boolean): Promise<void> {
    for (const receiver of this.#receivers) receiver.tell(`times ${Number(isTimed)}`);
    for (const receiver of this.#receivers) await receiver.said();
  }

  /** Runs a round, and says what memory it took: call it where nothing is collected. */
  async runTouching(count: number): Promise<Touched> {
    const touched = (programs: readonly Program[]) =>
      total(programs.map(({ pid }) => touchedBytesOf(pid)));
    const [sendBefore, receiveBefore] = [touched(this.#senders), touched(this.#receivers)];
    const { round, sent, received } = await this.#run(count);
    return {
      send: allocatedOf(sent) ?? touched(this.#senders) - sendBefore,
      receive: allocatedOf(received) ?? touched(this.#receivers) - receiveBefore,
      ...{ sendCount: round.sent, receiveCount: round.received },
    };
  }

  async close(): Promise<void> {
    for (const program of [...this.#senders, ...this.#receivers]) await program.close();
  }

  /** Ends them at once, whatever they do. */
  async kill(): Promise<void> {
    await Promise.all([...this.#senders, ...this.#receivers].map((program) => program.kill()));
  }
}

function allocatedOf(said: readonly { readonly allocated?: number | null }[]): number | null {
  return totalOrNull(said.map(({ allocated }) => allocated ?? null));
}

function placesOf({ folder }: Tools, { family, topology }: Cell): [near: Place, far: Place] {
  if (topology === "veth") {
    const place = ({ address, prefix }: Host) => ({ host: address, prefix });
    const [near, far] = vethHosts();
    return [place(near), place(far)];
  }
  const hosts =
    family === "unix"
      ? [join(folder, `near-${++opened}`), join(folder, `far-${opened}`)]
      : [LOOPBACK[family], LOOPBACK[family]];
  const [near = "", far = ""] = hosts;
  return [
    { host: near, prefix: [] },
    { host: far, prefix: [] },
  ];
}

function argumentsOf(cell: Cell, { role, local, remote, port }: Values): string[] {
  const { send, receive, family, bytes, batch, segments, group, window, flow, form } = cell;
  const numbers = [bytes, batch, segments, group, window].map(String);
  const ends = [local, remote, String(port), String(cell.receivers)];
  return [role, send, receive, family, ...numbers, flow, form, ...ends];
}
