// The programs of bench/capture.ts: a generator of frames in one network namespace, and what takes
// them in another one, each a process of its own.
import { readFileSync, rmSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { readCapture } from "./capture_file.ts";
import { compile, readLines } from "./programs.ts";
import { type Link, makeLink } from "./veth.ts";

/** What was sent. `dropped` are those that the device has lost: they are frames that never were. */
interface Sent {
  readonly sent: number;
  readonly sum: number;
  readonly ns: number;
  readonly cpu_ns: number;
  readonly dropped: number;
}

/** What a program saw of it. */
export interface Received {
  readonly frames: number;
  readonly bytes: number;
  readonly sum: number;
  readonly drops: number;
  /** How often it has waited. */
  readonly waits: number;
  /** CPU time of its thread, and of all its threads. */
  readonly cpu_ns: number;
  readonly process_cpu_ns: number;
}

/** What one round of one program was. CPU times are nanoseconds a frame that was seen. */
export interface Round {
  readonly cpuNs: number;
  readonly processCpuNs: number;
  readonly drops: number;
  readonly framesPerSecond: number;
  readonly waitsPerFrame: number;
}

/** One that takes frames. */
export interface Taker {
  readonly name: string;
  /** What the sum of a frame is: of its first and last byte, of its ports, or of nothing. */
  readonly sumOfFrame: number;
  /** Whether it is to run a few times before it is measured. */
  readonly hasToWarmUp: boolean;
  /** Most bytes of a round: what a file may hold. */
  readonly bytesMax: number;
  /** Takes `count` frames, which `generate` sends once it is ready. */
  take(count: number, generate: () => Promise<void>): Promise<Received>;
  close(): Promise<void>;
}

/** What a program does with a frame, and what the sum of that is. */
export const SUMS = { nothing: 0, touched: 255, ports: 65_535 } as const;

const CORES = { generator: "0", taker: "-1" } as const;
const FILE_BYTES_MAX = 128 << 20;
const ASK_MS = 100;
const ASKED_MAX = 50;
const LINK_TYPE_ETHERNET = 1;

const file = (name: string) => join(import.meta.dir, name);

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

  async close(): Promise<void> {
    this.#process.stdin.end();
    await this.#process.exited;
  }
}

/** A veth pair, the generator at one end of it, and what the takers at the other are made of. */
export class Wire {
  readonly #link: Link = makeLink();
  readonly #storage: string;
  readonly #pinned: string;
  readonly #capture: string;
  readonly #generator: Program;

  /** The programs in C are compiled into `folder`, and capture files are written to `storage`. */
  constructor(folder: string, storage: string) {
    this.#storage = storage;
    this.#pinned = compile(folder, "pinned");
    this.#capture = compile(folder, "capture");
    const { prefix, interfaceName } = this.#link.near;
    const command = [this.#pinned, CORES.generator, this.#capture, "send", interfaceName];
    this.#generator = new Program([...prefix, ...command]);
  }

  close(): Promise<void> {
    return this.#generator.close();
  }

  /** A program in C: see capture.c. */
  inC(role: "ring" | "recvmmsg", form: string, sumOfFrame: number): Taker {
    const name = `c ${role} ${form}`;
    return programTaker(name, sumOfFrame, [this.#capture, role, this.#farName, form], this.#far);
  }

  /** Ours: see capture_bun_sockets.ts. */
  ours(form: string, sumOfFrame: number): Taker {
    const command = [process.execPath, file("capture_bun_sockets.ts"), form, this.#farName];
    return programTaker(form, sumOfFrame, command, this.#far);
  }

  /** Ours, which writes a file. */
  oursToFile(): Taker {
    const path = join(this.#storage, "ours.pcapng");
    const name = "pcapng";
    const command = [process.execPath, file("capture_bun_sockets.ts"), name, this.#farName, path];
    const program = programTaker(name, SUMS.touched, command, this.#far);
    return { ...program, ...fileOf(path, (count, send) => program.take(count, send)) };
  }

  /** tcpdump, which writes a file. It has as much memory for frames as our ring. */
  tcpdump(): Taker {
    const path = join(this.#storage, "tcpdump.pcap");
    const values = ["-i", this.#farName, "-n", "-Z", "root", "-B", "16384", "-w", path];
    const command = [...this.#far, "tcpdump", ...values];
    return {
      name: "tcpdump",
      sumOfFrame: SUMS.touched,
      hasToWarmUp: false,
      close: async () => {},
      ...fileOf(path, (count, send) => runTcpdump(command, count, send)),
    };
  }

  /** One round: it throws unless every frame was seen as it was sent, or is counted as a drop. */
  async run(taker: Taker, bytes: number, count: number): Promise<Round> {
    let sent: Sent | undefined;
    const received = await taker.take(count, async () => {
      this.#generator.tell(`${bytes} ${count}`);
      sent = await this.#generator.said<Sent>();
    });
    if (sent === undefined) throw new Error(`${taker.name} has not waited for what was sent`);
    const { frames, drops, sum } = received;
    const isComplete = sent.sent === count && frames + drops === sent.sent - sent.dropped;
    const isRight = received.bytes === frames * bytes && sum === frames * taker.sumOfFrame;
    if (!isComplete || !isRight || sent.sum !== sent.sent * SUMS.touched || frames === 0) {
      const found = JSON.stringify({ sent, received });
      throw new Error(`${taker.name} has seen other frames than were sent: ${found}`);
    }
    return {
      cpuNs: received.cpu_ns / frames,
      processCpuNs: received.process_cpu_ns / frames,
      drops,
      framesPerSecond: (sent.sent / sent.ns) * 1e9,
      waitsPerFrame: received.waits / frames,
    };
  }

  // What comes before the command of a taker.
  get #far(): string[] {
    return [...this.#link.far.prefix, this.#pinned, CORES.taker];
  }

  get #farName(): string {
    return this.#link.far.interfaceName;
  }
}

function programTaker(
  name: string,
  sumOfFrame: number,
  command: readonly string[],
  prefix: readonly string[],
): Taker {
  const program = new Program([...prefix, ...command]);
  return {
    name,
    sumOfFrame,
    hasToWarmUp: true,
    bytesMax: Number.POSITIVE_INFINITY,
    take: async (count, generate) => {
      program.tell(`${count}`);
      await program.said();
      await generate();
      return program.said<Received>();
    },
    close: () => program.close(),
  };
}

// What is in the file counts, not what its writer says of it.
function fileOf(path: string, take: Taker["take"]): Pick<Taker, "bytesMax" | "take"> {
  return {
    bytesMax: Math.min(FILE_BYTES_MAX, freeBytes(path) / 2),
    take: async (count, generate) => {
      const received = await take(count, generate);
      const found = readCapture(readFileSync(path), LINK_TYPE_ETHERNET);
      rmSync(path);
      return { ...received, ...found };
    },
  };
}

async function runTcpdump(
  command: string[],
  count: number,
  generate: () => Promise<void>,
): Promise<Received> {
  const tcpdump = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const said = readLines(tcpdump.stderr);
  const next = async (pattern: RegExp) => {
    for (;;) {
      const { value, done } = await said.next();
      if (done) throw new Error(`tcpdump ended with ${await tcpdump.exited}`);
      const match = pattern.exec(value);
      if (match) return match.slice(1).map(Number);
    }
  };
  await next(/listening on/);
  const start = cpuNsOf(tcpdump.pid);
  await generate();
  // It takes a block that is not full after a second, and tells how far it is when it is asked.
  let drops = 0;
  for (let captured = 0, asked = 0; captured + drops < count && asked < ASKED_MAX; asked++) {
    await Bun.sleep(ASK_MS);
    tcpdump.kill("SIGUSR1");
    [captured = 0, drops = 0] = await next(/(\d+) .*captured.*filter, (\d+)/);
  }
  const cpu_ns = cpuNsOf(tcpdump.pid) - start;
  tcpdump.kill("SIGINT");
  await tcpdump.exited;
  return { frames: 0, bytes: 0, sum: 0, drops, waits: 0, cpu_ns, process_cpu_ns: cpu_ns };
}

function freeBytes(path: string): number {
  const { bavail, bsize } = statfsSync(dirname(path));
  return bavail * bsize;
}

/** CPU time of the first thread of another process. */
function cpuNsOf(pid: number): number {
  const [ns = ""] = readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ");
  return Number(ns);
}
