// System calls of a process, as strace counts them.
import { readLines } from "./programs.ts";

/** How many there were, by name. */
export type Calls = Readonly<Record<string, number>>;

/** strace that counts the calls of a process. */
export class Strace {
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

  /** Ends, and gives how many calls of each name there were. */
  async end(): Promise<Calls> {
    this.#process.kill("SIGINT");
    const calls: Record<string, number> = {};
    for await (const line of this.#lines) {
      // % time, seconds, usecs/call, calls, errors or nothing, name.
      const [, count, name] =
        /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/.exec(line) ?? [];
      if (name !== undefined && name !== "total") calls[name] = Number(count);
    }
    await this.#process.exited;
    return calls;
  }
}
