/**
 * One run of the answerer, beside its source of events: what `wake_ups.test.ts` and `npm run soak`
 * share.
 *
 * @module
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Counts, Order } from "./answerer.ts";
import type { FaultName } from "./faults.ts";

/** How long an event may wait for its answer. */
export const WATCHDOG_MS = 2000;
/** How long the answerer may take to end, once it was told. */
const END_MS = 20_000;

/** What comes: how many sockets, how many events at once, how much later the next ones. */
export interface Pattern {
  readonly sockets: number;
  /** The most events that are sent without waiting for an answer. */
  readonly burst: number;
  readonly pauseUs: number;
  /** One event in so many has a socket closed and opened again; 0 for none. */
  readonly reopenEvery: number;
}

/** The patterns, by name. Single sockets change too, now and then: into another form of waiting. */
export const PATTERNS = {
  "one socket": { sockets: 1, burst: 1, pauseUs: 20, reopenEvery: 2500 },
  "many sockets": { sockets: 200, burst: 16, pauseUs: 20, reopenEvery: 0 },
  bursts: { sockets: 16, burst: 32, pauseUs: 20, reopenEvery: 0 },
  "closed and reopened": { sockets: 32, burst: 12, pauseUs: 20, reopenEvery: 16 },
} as const satisfies Record<string, Pattern>;

/** The name of a pattern. */
export type PatternName = keyof typeof PATTERNS;

/** How the loop is woken. */
export type Ringer = "io_uring" | "thread" | "timer";

/** What is run, and where. */
export interface Run {
  readonly ringer: Ringer;
  readonly pattern: PatternName;
  readonly events: number;
  /** The core of the answerer, and that of the source. */
  readonly cores: readonly [answerer: number, source: number];
  /** Where the pattern is not to be the one of that name. */
  readonly burst?: number;
  readonly fault?: FaultName;
}

/** What the source has counted. */
interface SourceCounts {
  readonly sent: number;
  readonly answered: number;
  /** Those that a socket had got, and not answered, when it was closed. */
  readonly voided: number;
  /** Answers to nothing. */
  readonly strange: number;
  /** Sends to a socket that was closed, and to one whose queue was full. */
  readonly refused: number;
  readonly full: number;
  /** The longest time between an event and its answer. */
  readonly longestMs: number;
  readonly seconds: number;
}

/** An event that was not answered in time. */
interface Lost {
  readonly event: number;
  readonly socket: number;
  readonly waitedMs: number;
  /** How many were not answered. */
  readonly onTheirWay: number;
  /** Whether an answer came after one more event. */
  readonly recovered: boolean;
}

/** What a run has come to. */
export type Result = SourceCounts & Counts & { readonly seed: number };

/** The cores that this process may use. */
export function allowedCores(): number[] {
  const status = readFileSync("/proc/self/status", "latin1");
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** source.c, compiled until the end of the block. */
export class Source implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), "bun-sockets-soak-"));
  readonly program: string;

  constructor() {
    this.program = join(this.#folder, "source");
    const code = join(import.meta.dir, "source.c");
    const flags = ["-O2", "-Wall", "-Wextra", "-Werror"];
    const gcc = Bun.spawnSync(["gcc", ...flags, "-o", this.program, code]);
    if (!gcc.success) throw new Error(`gcc failed: ${gcc.stderr}`);
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/**
 * Runs the answerer until it has answered so many events.
 *
 * @throws {Error} a wake-up was lost, or a program failed; the message says which and where
 */
export async function run(source: Source, run: Run): Promise<Result> {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
  const where = `${run.ringer}, ${describeCores(run)}, ${run.pattern}, seed ${seed}`;
  const sending = startSource(source, run, seed);
  const lines = readLines(sending.stdout);
  const { value: addresses } = await lines.next();
  if (addresses === undefined)
    throw new Error(`${where}: no source: ${await sending.stderr.text()}`);

  const { sockets } = PATTERNS[run.pattern];
  const { ringer, fault, cores } = run;
  const answering = startAnswerer(ringer, cores[0], { ...JSON.parse(addresses), sockets, fault });
  const output = answering.stdout.text();
  const errors = answering.stderr.text();
  // When it has ended, or failed.
  answering.exited.then(() => sending.kill("SIGKILL"));
  const { value: last } = await lines.next();
  answering.stdin.end();
  const limit = setTimeout(() => answering.kill("SIGKILL"), END_MS);
  await answering.exited;
  clearTimeout(limit);

  const said = (await errors) || (await sending.stderr.text());
  const answered = await output;
  if (last === undefined) throw new Error(`${where}: ${said || "it has ended"}`);
  const { lost, ...counts } = JSON.parse(last) as SourceCounts & { lost: Lost | null };
  // What a program says after that may follow from it.
  if (lost) throw new Error(`${where}: ${describeLost(lost)} ${answered}`);
  if (said || !answered) throw new Error(`${where}: ${said || "it does not end"}`);
  return { seed, ...counts, ...(JSON.parse(answered) as Counts) };
}

function describeCores({ cores: [answerer, source] }: Run): string {
  return answerer === source ? "one core" : "two cores";
}

function describeLost({ event, socket, waitedMs, onTheirWay, recovered }: Lost): string {
  const after = recovered ? "one more event was answered" : "nor was one more event answered";
  const which = onTheirWay === 0 ? "could not be sent" : "was not answered";
  return (
    `a wake-up is lost: event ${event}, to socket ${socket}, ${which} for ${waitedMs} ms, ` +
    `with ${onTheirWay} on their way; after that ${after}.`
  );
}

function startSource(source: Source, { pattern, events, cores, burst }: Run, seed: number) {
  const { sockets, pauseUs, reopenEvery, burst: usual } = PATTERNS[pattern];
  const isOneCore = Number(cores[0] === cores[1]);
  const numbers = [events, sockets, burst ?? usual, pauseUs, reopenEvery, isOneCore, WATCHDOG_MS];
  const command = [
    "taskset",
    "-c",
    `${cores[1]}`,
    source.program,
    ...numbers.map(String),
    `${seed}`,
  ];
  return Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
}

function startAnswerer(ringer: string, core: number, order: Order) {
  const program = join(import.meta.dir, "answerer.ts");
  const command = [process.execPath, program, JSON.stringify(order)];
  return Bun.spawn(["taskset", "-c", `${core}`, ...command], {
    stdio: ["pipe", "pipe", "pipe"],
    env: {
      ...process.env,
      BUN_SOCKETS_RINGER: ringer,
      BUN_SOCKETS_DEBUG: "1",
      // The engine's collector has a timer of its own on the loop.
      BUN_GC_TIMER_DISABLE: "1",
    },
  });
}

async function* readLines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  let text = "";
  for await (const chunk of stream) {
    text += Buffer.from(chunk).toString();
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
