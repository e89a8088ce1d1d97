import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Why there is no result. It is told as it stands, without a stack. */
export class Failure extends Error {
  override name = "Failure";
}

/** Somebody has asked to end, by a signal. */
export class Stopped extends Error {
  override name = "Stopped";
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals) {
    super(`stopped by ${signal}`);
    this.signal = signal;
  }
}

/** What is to be run, and where. */
export interface Program {
  readonly command: readonly string[];
  readonly cwd: string;
  /** What it is called when it fails. */
  readonly title: string;
}

// The longest benchmark takes some minutes. One that hangs is not to hang whoever compares.
const RUN_MS_MAX = 15 * 60_000;
const COMPLAINT_LINES = 12;

/**
 * Runs programs one after the other, each in a process group of its own, so that its children end
 * with it. What they print and what they put into the temporary directory stays in one folder.
 */
export class Programs {
  readonly #folder: string;
  #running: number | undefined;
  #stopped: Stopped | undefined;

  /** @param folder an empty one, which the caller removes */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Runs a program to its end and returns what it printed.
   *
   * @throws {Failure} it failed, or took more than a quarter of an hour
   * @throws {Stopped} `stop` was called
   */
  async run({ command, cwd, title }: Program): Promise<string> {
    if (this.#stopped) throw this.#stopped;
    const output = join(this.#folder, "stdout");
    const complaint = join(this.#folder, "stderr");
    await Promise.all([Bun.write(output, ""), Bun.write(complaint, "")]);
    const child = spawn(command, {
      cwd,
      // Files, because a pipe stays open as long as some grandchild holds it.
      stdio: ["ignore", Bun.file(output), Bun.file(complaint)],
      env: { ...process.env, TMPDIR: this.#folder },
      detached: true,
    });
    this.#running = child.pid;
    const timer = setTimeout(() => this.#kill(), RUN_MS_MAX);
    try {
      await child.exited;
    } finally {
      clearTimeout(timer);
      this.#running = undefined;
    }
    if (this.#stopped) throw this.#stopped;
    if (child.exitCode !== 0) {
      const how = child.signalCode
        ? `was ended by ${child.signalCode}`
        : `exited with ${child.exitCode}`;
      const last = readFileSync(complaint, "utf8").trimEnd().split("\n").slice(-COMPLAINT_LINES);
      throw new Failure([`${title} ${how}`, ...last.filter(Boolean)].join("\n  "));
    }
    return readFileSync(output, "utf8");
  }

  /** Ends what runs, with all its children; nothing more is run. */
  stop(signal: NodeJS.Signals): void {
    this.#stopped ??= new Stopped(signal);
    this.#kill();
  }

  #kill(): void {
    if (this.#running === undefined) return;
    try {
      process.kill(-this.#running, "SIGKILL");
    } catch (error) {
      // It has just ended by itself.
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }
}

function spawn(command: readonly string[], options: Parameters<typeof Bun.spawn>[1]) {
  try {
    return Bun.spawn([...command], options);
  } catch (error) {
    throw new Failure(`cannot run ${command[0]}: ${(error as Error).message}`);
  }
}
