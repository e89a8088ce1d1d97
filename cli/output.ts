import { writeSync } from "node:fs";
import { pollfd } from "bun-sockets/structs";
import { POLLOUT, poll } from "bun-sockets/sys";

const STDOUT = 1;
const STDERR = 2;
// A pipe takes at least so much at once.
const FLUSH_CHARACTERS = 64 << 10;

/** Who read the output reads no more, as `head` after its lines. It ends a command quietly. */
export class BrokenPipe extends Error {
  override name = "BrokenPipe";

  constructor() {
    super("nobody reads the output any more");
  }
}

/**
 * Standard output, in whole lines. What is not flushed waits for more, so that a line a packet is not
 * a system call a packet.
 *
 * It writes by itself, and not through `process.stdout`, which makes the pipe non-blocking and keeps
 * in memory what nobody reads.
 */
export class Output {
  #pending = "";

  /** Adds a line. */
  line(text: string): void {
    this.#pending += `${text}\n`;
    if (this.#pending.length >= FLUSH_CHARACTERS) this.flush();
  }

  /** Adds a line that programs read. */
  json(value: unknown): void {
    this.line(JSON.stringify(value));
  }

  /** Adds text as it is. */
  text(text: string): void {
    this.#pending += text;
  }

  /** Writes what there is. @throws {BrokenPipe} nobody reads it */
  flush(): void {
    if (this.#pending === "") return;
    const bytes = Buffer.from(this.#pending);
    this.#pending = "";
    write(STDOUT, bytes);
  }
}

/** Says something to the person in front of the terminal, apart from the output. */
export function say(text: string): void {
  try {
    write(STDERR, Buffer.from(text));
  } catch (error) {
    // There is nobody left to tell.
    if (!(error instanceof BrokenPipe)) throw error;
  }
}

function write(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as { code?: string };
      if (code === "EPIPE") throw new BrokenPipe();
      if (code === "EINTR") continue;
      if (code !== "EAGAIN") throw error;
      // Whoever shares the pipe has made it non-blocking.
      const wait = new Uint8Array(pollfd.size);
      const view = new DataView(wait.buffer);
      pollfd.fd.set(view, 0, fd);
      pollfd.events.set(view, 0, POLLOUT);
      poll(wait, -1);
    }
  }
}
