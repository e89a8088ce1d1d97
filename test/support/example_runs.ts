/**
 * How the examples that serve others are run: each function starts one as its own comment says,
 * uses it as a stranger would, checks what comes of it, and ends it.
 *
 * @module
 */
import { expect } from "bun:test";
import { lstatSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = `${import.meta.dir}/../..`;

/** A started example: what it prints, line by line, and its end. */
class Example implements Disposable {
  /** Where it listens, as it says in its first line. */
  readonly address: string;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    child: Bun.Subprocess<"ignore", "pipe", "inherit">,
    lines: AsyncIterator<string>,
    address: string,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.address = address;
  }

  /** Starts it, by default on a free port. The idle time ends it should nothing else do so. */
  static async start(file: string, where = "127.0.0.1:0"): Promise<Example> {
    const child = Bun.spawn([process.execPath, `examples/${file}`, where, "20"], {
      cwd: ROOT,
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const lines = linesOf(child.stdout);
    const { value = "" } = await lines.next();
    const address = /^listening on (.+)$/.exec(value)?.[1];
    if (address === undefined) {
      child.kill();
      throw new Error(`${file} printed ${JSON.stringify(value)} as its first line`);
    }
    return new Example(child, lines, address);
  }

  /** The port of its address. */
  get port(): string {
    return this.address.replace(/^.*:/, "");
  }

  /** The next line it prints. */
  async line(): Promise<string | undefined> {
    const { value } = await this.#lines.next();
    return value;
  }

  /** Asks it to stop, or ends it; returns its exit code. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number> {
    this.#child.kill(signal);
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

/** examples/syslog_unix.ts prints what logger sends, also after a run that was killed. */
export async function syslog_unix(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-syslog-"));
  const path = join(folder, "log.sock");
  try {
    const killed = await Example.start("syslog_unix.ts", path);
    await killed.stop("SIGKILL");
    expect(lstatSync(path).isSocket()).toBe(true);
    using example = await Example.start("syslog_unix.ts", path);
    expect(example.address).toBe(`unix:${path}`);
    expect(lstatSync(path).mode & 0o777).toBe(0o666);
    await useLogger(example, path);
    expect(await example.stop()).toBe(0);
    expect(lstatSync(path, { throwIfNoEntry: false })).toBeUndefined();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function useLogger(example: Example, path: string): Promise<void> {
  const cases: [options: string[], text: string, expected: RegExp][] = [
    [[], "plain", /^user\.notice: \S+: plain$/],
    [["--priority", "auth.warning"], "three failed", /^auth\.warning: \S+: three failed$/],
    [["--tag", "demo", "--id=77", "-p", "mail.err"], "full", /^mail\.err: demo\[77\]: full$/],
    [["--rfc5424"], "grüße [a] <b>", /^user\.notice: grüße \[a\] <b>$/],
    [["--rfc5424", "--sd-id", "x@1", "--sd-param", 'k="a b"'], "data", /^user\.notice: data$/],
    [["--rfc3164", "--tag", "demo", "-p", "local7.debug"], "old", /^local7\.debug: \S+ demo: old$/],
    [["--tag", "demo"], "\x1b[31mred", /^user\.notice: demo: {2}\[31mred$/],
    [["--tag", "demo"], "x".repeat(900), /^user\.notice: demo: x{900}$/],
  ];
  for (const [options, text, expected] of cases) {
    const logger = Bun.spawnSync(["logger", "--socket", path, ...options, text], {
      stderr: "inherit",
    });
    expect(logger.exitCode).toBe(0);
    expect(await example.line()).toMatch(expected);
  }
}

// Prints each datagram that comes, in hexadecimal, from the path or abstract name it is told.
const RECEIVER = `
import socket, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind("\\0" + name[1:] if name[0] == "@" else name)
print("ready", flush=True)
while True: print(receiver.recv(65536).hex(), flush=True)
`;

/** examples/sd_notify.ts sends what systemd-notify sends, byte for byte. */
export async function sd_notify(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-notify-"));
  try {
    await compareNotifications(join(folder, "notify"));
    await compareNotifications(`@bun-sockets-notify-${process.pid}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
  const unset = runNotifier([process.execPath, "examples/sd_notify.ts"], undefined);
  expect(unset.exitCode).toBe(1);
  expect(unset.stderr.toString()).toContain("NOTIFY_SOCKET is not set");
}

async function compareNotifications(name: string): Promise<void> {
  const receiver = Bun.spawn(["python3", "-c", RECEIVER, name], { stderr: "inherit" });
  try {
    const lines = linesOf(receiver.stdout);
    expect((await lines.next()).value).toBe("ready");
    const cases: [theirs: string[], ours: string[]][] = [
      [["--ready"], []],
      [
        ["--ready", "--status=serving 3 clients"],
        ["READY=1", "STATUS=serving 3 clients"],
      ],
      [["--status=grüße"], ["STATUS=grüße"]],
      [["WATCHDOG=1"], ["WATCHDOG=1"]],
      [
        ["--ready", "X_A=b=c"],
        ["READY=1", "X_A=b=c"],
      ],
    ];
    // Without --no-block it would also send a barrier, and wait for an answer.
    for (const [theirs, ours] of cases) {
      const sent: (string | undefined)[] = [];
      for (const command of [
        ["systemd-notify", "--no-block", ...theirs],
        [process.execPath, "examples/sd_notify.ts", ...ours],
      ]) {
        const { exitCode, stderr } = runNotifier(command, name);
        expect(`${exitCode} ${stderr}`).toBe("0 ");
        sent.push((await lines.next()).value);
      }
      expect(Buffer.from(sent[1] ?? "", "hex").toString()).toBe(
        (ours[0] ? ours : ["READY=1"]).join("\n"),
      );
      expect(sent[1]).toBe(sent[0]);
    }
  } finally {
    receiver.kill();
  }
}

function runNotifier(command: readonly string[], name: string | undefined) {
  const { NOTIFY_SOCKET: _, ...env } = process.env;
  return Bun.spawnSync([...command], {
    cwd: ROOT,
    env: name === undefined ? env : { ...env, NOTIFY_SOCKET: name },
  });
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
