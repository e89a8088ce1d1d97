/** A program that is talked to line by line, as a person at a terminal does. */
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const LIFE_MS_MAX = 20_000;

/** A program of this checkout, with its input and its output; killed at the end of the block. */
export class Talker implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #decoder = new TextDecoder();
  #text = "";

  /** Starts a program: its path in the checkout, and its arguments. */
  constructor(file: string, ...values: readonly string[]) {
    this.#child = Bun.spawn([process.execPath, file, ...values], {
      cwd: ROOT,
      stdio: ["pipe", "pipe", "inherit"],
      timeout: LIFE_MS_MAX,
      killSignal: "SIGKILL",
    });
    this.#chunks = this.#child.stdout[Symbol.asyncIterator]();
  }

  /** Types a line. */
  async type(line: string): Promise<void> {
    this.#child.stdin.write(`${line}\n`);
    await this.#child.stdin.flush();
  }

  /** Ends the input. */
  async endInput(): Promise<void> {
    await this.#child.stdin.end();
  }

  /** What it prints up to and with a text; what comes after it stays for later. */
  async through(text: string): Promise<string> {
    let end = this.#text.indexOf(text);
    while (end < 0) {
      const { value, done } = await this.#chunks.next();
      if (done) throw new Error(`The program ended with ${JSON.stringify(this.#text)}`);
      this.#text += this.#decoder.decode(value, { stream: true });
      end = this.#text.indexOf(text);
    }
    const printed = this.#text.slice(0, end + text.length);
    this.#text = this.#text.slice(printed.length);
    return printed;
  }

  /** The next line that it prints. */
  async line(): Promise<string> {
    return (await this.through("\n")).slice(0, -1);
  }

  /** Waits for its end: the rest of what it prints, and its exit code. */
  async end(): Promise<{ rest: string; code: number | null }> {
    for (;;) {
      const { value, done } = await this.#chunks.next();
      if (done) break;
      this.#text += this.#decoder.decode(value, { stream: true });
    }
    await this.#child.exited;
    return { rest: this.#text, code: this.#child.exitCode };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}
