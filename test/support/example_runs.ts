/**
 * How the examples that serve others are run: each function starts one as its own comment says,
 * uses it as a stranger would, checks what comes of it, and ends it.
 *
 * @module
 */
import { expect } from "bun:test";

const ROOT = `${import.meta.dir}/../..`;

/** A started example: what it prints, line by line, and its end. */
class Example implements Disposable {
  readonly port: string;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    child: Bun.Subprocess<"ignore", "pipe", "inherit">,
    lines: AsyncIterator<string>,
    port: string,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.port = port;
  }

  /** Starts it on a free port. The idle time ends it should nothing else do so. */
  static async start(file: string): Promise<Example> {
    const child = Bun.spawn([process.execPath, `examples/${file}`, "127.0.0.1:0", "20"], {
      cwd: ROOT,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = linesOf(child.stdout);
    const { value = "" } = await lines.next();
    const port = /^listening on 127\.0\.0\.1:(\d+)$/.exec(value)?.[1];
    if (port === undefined) {
      child.kill();
      throw new Error(`${file} printed ${JSON.stringify(value)} as its first line`);
    }
    return new Example(child, lines, port);
  }

  /** The next line it prints. */
  async line(): Promise<string | undefined> {
    const { value } = await this.#lines.next();
    return value;
  }

  /** Asks it to stop; returns its exit code. */
  async stop(): Promise<number> {
    this.#child.kill("SIGTERM");
    return await this.#child.exited;
  }

  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
  }
}

/** examples/udp_echo.ts sends back what socat sends, and says at its end how much that was. */
export async function udp_echo(): Promise<void> {
  using example = await Example.start("udp_echo.ts");
  const socat = Bun.spawn(["socat", "-b", "65536", "-", `UDP4:127.0.0.1:${example.port}`], {
    stdin: "pipe",
    stderr: "inherit",
  });
  try {
    const reader = socat.stdout.getReader();
    for (const text of ["hello", "grüße", "x".repeat(4000)]) {
      socat.stdin.write(text);
      await socat.stdin.flush();
      let echo = Buffer.alloc(0);
      while (echo.length < Buffer.byteLength(text)) {
        const { value, done } = await reader.read();
        if (done) break;
        echo = Buffer.concat([echo, value]);
      }
      expect(echo.toString()).toBe(text);
    }
  } finally {
    socat.kill();
  }
  expect(await example.stop()).toBe(0);
  expect(await example.line()).toBe("echoed 3 datagrams");
}

/** examples/syslog_udp.ts prints what util-linux's logger sends, in both formats. */
export async function syslog_udp(): Promise<void> {
  using example = await Example.start("syslog_udp.ts");
  const cases: [options: string[], text: string, expected: RegExp][] = [
    [[], "plain", /^user\.notice: (\S+: )?plain$/],
    [["--priority", "mail.err"], "the disk is full", /^mail\.err: (\S+: )?the disk is full$/],
    [["--rfc5424=notime"], "grüße [a] <b>", /^user\.notice: grüße \[a\] <b>$/],
    [["--rfc5424", "--sd-id", "x@1", "--sd-param", 'k="a b"'], "data", /^user\.notice: data$/],
    [["--rfc3164", "--tag", "demo", "-p", "local7.debug"], "old", /^local7\.debug: demo: old$/],
    [["--rfc5424=notime"], "\x1b[31mred", /^user\.notice: \[31mred$/],
  ];
  for (const [options, text, expected] of cases) {
    const logger = Bun.spawnSync(
      ["logger", "--server", "127.0.0.1", "--port", example.port, "--udp", ...options, text],
      { stderr: "inherit" },
    );
    expect(logger.exitCode).toBe(0);
    const [, from, report = ""] = /^(\S+) (.*)$/.exec((await example.line()) ?? "") ?? [];
    expect(from).toStartWith("127.0.0.1:");
    expect(report).toMatch(expected);
  }
  expect(await example.stop()).toBe(0);
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stream) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
}
