// The two sides of each peer of a cell of the suite: processes of their own, on cores of their own.
//
// The command line of a side is ROLE SEND RECEIVE FAMILY BYTES BATCH SEGMENTS GROUP WINDOW FLOW FORM LOCAL
// REMOTE PORT RECEIVERS; ROLE is "send", "receive", or "both" for one thread. A side prints a line of JSON
// when it is open, with its port. A receiver is told "peer PORT", and answers when it has connected.
// "run COUNT" begins a round: the receiver answers that it is ready, and at the end both say what they
// did. The first byte of a datagram is its number in its group, the last what makes 255 with it; the
// first of a group has the time since the machine was started in its bytes 2 to 9, as a double in
// nanoseconds. The receiver answers to each group with how many datagrams it has, in four bytes.
import { dlopen } from "bun:ffi";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { median } from "simple-statistics";
import type { Cell, PeerName } from "../cells.ts";
import { cores } from "./echo.ts";
import { compile, readLines } from "./programs.ts";
import { type Host, vethHosts } from "./veth.ts";

/** What a side says that has sent. Calls are those of the kernel, null where it does not know them. */
interface Sent {
  readonly sent: number;
  readonly ns: number;
  readonly calls: number | null;
  readonly dataCalls: number | null;
}

/** What a side says that has received. */
interface Received {
  readonly received: number;
  /** Datagrams, or trains. */
  readonly messages: number;
  readonly sum: number;
  /** From the first to the last. */
  readonly ns: number;
  readonly calls: number | null;
  readonly dataCalls: number | null;
  /** Nanoseconds on the way of those that were stamped. */
  readonly samples: readonly number[];
}

interface Opened {
  readonly port: number;
  readonly sendBufferBytes: number | null;
  readonly receiveBufferBytes: number | null;
}

/** One round of one peer: all its processes. */
export interface Round {
  readonly sent: number;
  readonly received: number;
  /** Wall time of a datagram that was received. */
  readonly ns: number;
  readonly sendCpuNs: number | null;
  readonly receiveCpuNs: number | null;
  readonly sendCalls: number | null;
  readonly receiveCalls: number | null;
  readonly sendBatch: number | null;
  readonly receiveBatch: number | null;
  readonly segments: number | null;
  readonly samples: readonly number[];
}

/** System calls of each side for a datagram. */
export interface CallCounts {
  readonly send: number | null;
  readonly receive: number | null;
}

const SUM = 255;
const LOOPBACK = { udp4: "127.0.0.1", udp6: "::1" } as const;
const CLOCK_OF_PROCESS = 2;
/** Groups of two rounds that are not counted: the first is for the compilers. */
const WARM_UP_GROUPS = [20, 200] as const;
const GROUPS_MIN = 4;
const COUNTED_GROUPS = 50;
const ALLOCATED = 100_000;
const ALLOCATED_MS_MAX = 800;
const PAGE_BYTES = 4096;
// Where the kernel tells what a process allocates: as long as nothing is collected, by what it grows.
const WITHOUT_COLLECTION = { BUN_JSC_useGC: "0" } as const;
const YOUNG_MIB = 512;

const file = (name: string) => join(import.meta.dir, name);

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

function residentBytesOf(pid: number): number {
  const [, pages = "0"] = readFileSync(`/proc/${pid}/statm`, "utf8").split(" ");
  return Number(pages) * PAGE_BYTES;
}

/** A side. */
class Program {
  readonly #process;
  readonly #lines: AsyncGenerator<string, void>;

  constructor(command: string[], env: Readonly<Record<string, string>>) {
    this.#process = Bun.spawn(command, {
      ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
      env: { ...process.env, ...env },
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
    if (done) throw new Error(`a side ended with ${await this.#process.exited}`);
    return JSON.parse(value) as Value;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    await this.#process.exited;
  }

  kill(): void {
    this.#process.kill("SIGKILL");
  }
}

/** The programs in C, and where sockets with paths are. */
export class Tools {
  readonly folder: string;
  readonly pinned: string;
  readonly inC: string;

  constructor(folder: string) {
    this.folder = folder;
    this.pinned = compile(folder, "pinned");
    this.inC = compile(folder, "suite_c");
  }
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
      return [process.execPath, file("suite_bun_sockets.ts")];
    case "bun-udp":
      return [process.execPath, file("suite_bun_udp.ts")];
    case "node-dgram-bun":
      return [process.execPath, file("suite_dgram.mjs")];
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

/** Whether a peer can take part here. */
export function isInstalled(peer: PeerName): boolean {
  return peer === "c" ? Bun.which("gcc") !== null : commandOf(peer) !== undefined;
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
    const command = peer === "c" ? [tools.inC] : commandOf(peer, isUncollected);
    if (command === undefined) throw new Error(`${peer} is not installed`);
    const [near, far] = placesOf(tools, cell);
    const programs: Program[] = [];
    const start = ({ prefix }: Place, core: number, values: Values) => {
      const pinned = [tools.pinned, String(core % cores)];
      const line = [...prefix, ...pinned, ...command, ...argumentsOf(cell, values)];
      const program = new Program(line, isUncollected ? WITHOUT_COLLECTION : {});
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
      for (const program of programs) program.kill();
      throw error;
    } finally {
      for (const { host } of [near, far]) if (cell.family === "unix") rmSync(host, { force: true });
    }
  }

  /** Sends and receives so many datagrams, from each sender, and checks what came. */
  async run(count: number): Promise<Round> {
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
    return roundOf(this.peer, this.cell, { asked, sent, received, cpu });
  }

  /** Runs rounds of so many groups, by default until the compilers have done their work. */
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

  /**
   * What strace counts in a run of its own, and that run; null where it may not look. `which` is what it
   * counts, in its own words; all calls by default.
   */
  async countCalls(which = "all"): Promise<CallCounts & { readonly round: Round }> {
    const traces: Strace[] = [];
    for (const { pid } of [...this.#senders, ...this.#receivers]) {
      const trace = await Strace.attach(pid, which);
      if (trace !== undefined) traces.push(trace);
    }
    const round = await this.run(COUNTED_GROUPS * this.cell.group);
    const [send, receive] = await Promise.all(traces.map((trace) => trace.end()));
    if (send === undefined || receive === undefined) return { send: null, receive: null, round };
    return { send: send / round.sent, receive: receive / round.received, round };
  }

  /**
   * By how much the processes grow for a datagram: call it where nothing is collected. Null on a machine
   * that is too busy for enough of them.
   */
  async measureGrowth(): Promise<number | null> {
    const { group, senders } = this.cell;
    const resident = () =>
      total([...this.#senders, ...this.#receivers].map(({ pid }) => residentBytesOf(pid)));
    if (this.#times.length === 0) await this.warmUp();
    if (this.countFor(ALLOCATED_MS_MAX) < ALLOCATED) return null;
    const count = Math.ceil(ALLOCATED / group) * group;
    await this.run(count);
    const before = resident();
    await this.run(count);
    return Math.max(0, resident() - before) / (count * senders);
  }

  async close(): Promise<void> {
    for (const program of [...this.#senders, ...this.#receivers]) await program.close();
  }

  kill(): void {
    for (const program of [...this.#senders, ...this.#receivers]) program.kill();
  }
}

/** What all sides have said of a round, and the CPU time of each. */
interface Said {
  /** How many datagrams were to be sent. */
  readonly asked: number;
  readonly sent: readonly Sent[];
  readonly received: readonly Received[];
  readonly cpu: readonly number[];
}

/**
 * What a round was, from what its sides have said: CPU times are those of the senders, then those of the
 * receivers. It throws unless what came is what was sent, or a part of it.
 */
export function roundOf(peer: PeerName, cell: Cell, said: Said): Round {
  const { asked, sent, received, cpu } = said;
  const count = total(sent.map((one) => one.sent));
  const arrived = total(received.map((one) => one.received));
  const sum = total(received.map((one) => one.sum));
  if (count !== asked || arrived === 0 || arrived > count || sum !== arrived * SUM) {
    const found = JSON.stringify({ asked, count, arrived, sum });
    throw new Error(`${peer} has received other than was sent in ${cell.name}: ${found}`);
  }
  // Where nobody waits for them, receivers end last; but what is handed over in blocks comes at once.
  const timed = cell.flow === "flat" ? [...sent, ...received] : sent;
  const times = timed.map(({ ns }) => ns);
  // One thread does both in turn, and its clock does not tell what for.
  const isOneThread = cell.topology === "one thread";
  const sendCpu = isOneThread ? null : total(cpu.slice(0, sent.length));
  const receiveCpu = isOneThread ? null : total(cpu.slice(sent.length));
  return {
    sent: count,
    received: arrived,
    ns: Math.max(...times) / arrived,
    sendCpuNs: quotient(sendCpu, count),
    receiveCpuNs: quotient(receiveCpu, arrived),
    sendCalls: quotient(totalOrNull(sent.map(({ calls }) => calls)), count),
    receiveCalls: quotient(totalOrNull(received.map(({ calls }) => calls)), arrived),
    sendBatch: inverse(quotient(totalOrNull(sent.map(({ dataCalls }) => dataCalls)), count)),
    receiveBatch: inverse(quotient(totalOrNull(received.map((one) => one.dataCalls)), arrived)),
    segments: segmentsOf(cell, arrived / total(received.map(({ messages }) => messages))),
    samples: received.flatMap((one) => one.samples),
  };
}

function segmentsOf({ send, receive, segments }: Cell, perMessage: number): number | null {
  if (receive === "gro") return perMessage;
  return send === "gso" ? segments : null;
}

function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0);
}

// One that is not known makes the sum unknown.
function totalOrNull(numbers: readonly (number | null)[]): number | null {
  const known = numbers.filter((one) => one !== null);
  return known.length === numbers.length ? total(known) : null;
}

function quotient(value: number | null, of: number): number | null {
  return value === null ? null : value / of;
}

function inverse(value: number | null): number | null {
  return value === null ? null : 1 / value;
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

/** strace that counts the calls of a process. */
class Strace {
  readonly #process;
  readonly #lines: AsyncGenerator<string, void>;

  private constructor(pid: number, which: string) {
    // Its summary comes on the same stream as what it says of itself.
    this.#process = Bun.spawn(["strace", "-c", "-f", "-e", which, "-p", String(pid)], {
      ...{ stdin: "ignore", stdout: "ignore", stderr: "pipe" },
    });
    this.#lines = readLines(this.#process.stderr);
  }

  /** Undefined where there is no strace, or the kernel does not allow it. */
  static async attach(pid: number, which: string): Promise<Strace | undefined> {
    if (Bun.which("strace") === null) return undefined;
    const trace = new Strace(pid, which);
    const { value, done } = await trace.#lines.next();
    return !done && value.includes("attached") ? trace : undefined;
  }

  /** Ends, and gives how many calls there were. */
  async end(): Promise<number> {
    this.#process.kill("SIGINT");
    let calls = 0;
    for await (const line of this.#lines) {
      const [, count] = /^\s*100\.00\s+\S+\s+\S+\s+(\d+)\s.*total$/.exec(line) ?? [];
      if (count !== undefined) calls = Number(count);
    }
    await this.#process.exited;
    return calls;
  }
}
