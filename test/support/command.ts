/**
 * Runs the command `bun-sockets` as a process, as it is in the checkout.
 *
 * @module
 */
import { join } from "node:path";

/** What a process is started with, in place of a shell's `bun-sockets`. */
export const COMMAND: readonly string[] = [
  process.execPath,
  join(import.meta.dir, "../../cli/main.ts"),
];

/** What came of a run. */
export interface Outcome {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a command is run. */
export interface RunOptions {
  /** What comes before the command: what enters a namespace. */
  readonly prefix?: readonly string[];
  readonly stdin?: Uint8Array;
}

const TIMEOUT_MS = 30_000;
// The command's own words, wherever the tests run.
const ENVIRONMENT = { ...process.env, TZ: "UTC", BUN_SOCKETS_DEBUG: "0" };

/** Runs the command to its end. */
export function runCommand(values: readonly string[], options: RunOptions = {}): Outcome {
  const { exitCode, stdout, stderr } = Bun.spawnSync(
    [...(options.prefix ?? []), ...COMMAND, ...values],
    { stdin: options.stdin ?? "ignore", env: ENVIRONMENT, timeout: TIMEOUT_MS },
  );
  return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
}

/** A command that runs. */
export class RunningCommand {
  readonly #process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  #stdout = "";
  #stderr = "";
  readonly #read: Promise<unknown>;

  constructor(values: readonly string[], options: Pick<RunOptions, "prefix"> = {}) {
    this.#process = Bun.spawn([...(options.prefix ?? []), ...COMMAND, ...values], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      env: ENVIRONMENT,
      timeout: TIMEOUT_MS,
    });
    this.#read = Promise.all([
      this.#collect(this.#process.stdout, (text) => {
        this.#stdout += text;
      }),
      this.#collect(this.#process.stderr, (text) => {
        this.#stderr += text;
      }),
    ]);
  }

  async #collect(stream: ReadableStream<Uint8Array>, add: (text: string) => void): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) add(decoder.decode(chunk, { stream: true }));
  }

  /** The number of the process. */
  get pid(): number {
    return this.#process.pid;
  }

  /** What it has written to standard output so far. */
  get stdout(): string {
    return this.#stdout;
  }

  /** What it has written to standard error so far. */
  get stderr(): string {
    return this.#stderr;
  }

  /** Waits until its output is so. */
  async until(condition: (stdout: string, stderr: string) => boolean): Promise<void> {
    const end = performance.now() + TIMEOUT_MS;
    while (!condition(this.#stdout, this.#stderr)) {
      if (performance.now() > end || this.#process.exitCode !== null)
        throw new Error(`It has not said so: ${this.#stdout}${this.#stderr}`);
      await Bun.sleep(2);
    }
  }

  /** Sends it a signal. */
  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  /** Waits for its end. */
  async ended(): Promise<Outcome> {
    const exitCode = await this.#process.exited;
    await this.#read;
    return { exitCode, stdout: this.#stdout, stderr: this.#stderr };
  }
}

/** What comes before a command that is to run without any right. */
export const WITHOUT_RIGHTS: readonly string[] = [
  "setpriv",
  "--inh-caps=-all",
  "--bounding-set=-all",
];
