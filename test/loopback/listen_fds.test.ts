import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { UdpSocket } from "bun-sockets";
import type { Report } from "../support/activated.ts";
import { requires, testIf } from "../support/require.ts";

const PROGRAM = join(import.meta.dir, "../support/activated.ts");
const TIMEOUT_MS = 30_000;

/** Asks one question from a socket of its own and prints the answer. */
const CLIENT = `
import os, socket, sys, tempfile
kind, address, question = sys.argv[1:]
types = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}
unix = address[0] in "/@"
client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, types[kind])
client.settimeout(10)
if unix and kind == "datagram": client.bind("")
if unix: client.connect(address.replace("@", "\\0"))
else: client.connect((address.split(":")[0], int(address.split(":")[1])))
client.send(question.encode())
print(client.recv(1000).decode())
`;

function ask(kind: "stream" | "datagram", address: string, question: string): string {
  const client = Bun.spawnSync(["python3", "-c", CLIENT, kind, address, question]);
  return client.stdout.toString() + client.stderr.toString();
}

// systemd-socket-activate takes no port 0. An address out of 127.0.0.0/8 that nobody else uses has
// every port free.
function freeAddress(): string {
  const [a = 0, b = 0, c = 0] = crypto.getRandomValues(new Uint8Array(3));
  using probe = UdpSocket.bind(`127.${a}.${b}.${1 + (c % 254)}:0`);
  return `${probe.localAddress}`;
}

/** systemd-socket-activate, listening, and the program that it starts for the first client. */
class Activation implements Disposable {
  readonly #child: Bun.Subprocess<"ignore", "inherit", "pipe">;
  readonly #folder: string;

  private constructor(child: Bun.Subprocess<"ignore", "inherit", "pipe">, folder: string) {
    this.#child = child;
    this.#folder = folder;
  }

  static async start(
    options: readonly string[],
    addresses: (folder: string) => readonly string[],
  ): Promise<{ activation: Activation; addresses: readonly string[] }> {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-activated-"));
    const listening = addresses(folder);
    const command = [
      "systemd-socket-activate",
      ...options,
      ...listening.flatMap((at) => ["-l", at]),
    ];
    const child = Bun.spawn([...command, process.execPath, PROGRAM, "serve"], {
      stdio: ["ignore", "inherit", "pipe"],
    });
    const activation = new Activation(child, folder);
    const last = `Listening on ${listening.at(-1)} as ${2 + listening.length}.`;
    if (!(await activation.#says(last))) {
      activation[Symbol.dispose]();
      throw new Error(`systemd-socket-activate did not listen: ${command.join(" ")}`);
    }
    return { activation, addresses: listening };
  }

  async #says(words: string): Promise<boolean> {
    let text = "";
    const decoder = new TextDecoder();
    const reader = this.#child.stderr.getReader();
    while (!text.includes(words)) {
      const { value, done } = await reader.read();
      if (done) return false;
      text += decoder.decode(value, { stream: true });
    }
    return true;
  }

  /** Ends the program: systemd-socket-activate has become it. */
  [Symbol.dispose](): void {
    this.#child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true });
  }
}

describe("listenFds() under systemd-socket-activate", () => {
  const missing = requires("systemd-socket-activate", "python3");

  testIf(missing)(
    "takes stream sockets of several families",
    async () => {
      const { activation, addresses } = await Activation.start([], (folder) => [
        freeAddress(),
        join(folder, "stream"),
        `@bun-sockets-stream-${process.pid}`,
      ]);
      using _ = activation;
      const [inet = "", path = "", abstract = ""] = addresses;
      expect(ask("stream", inet, "one")).toBe("unknown ipv4 stream ONE\n");
      expect(ask("stream", path, "two")).toBe("unknown unix stream TWO\n");
      expect(ask("stream", abstract, "three")).toBe("unknown unix stream THREE\n");
      expect(ask("stream", inet, "again")).toBe("unknown ipv4 stream AGAIN\n");
    },
    TIMEOUT_MS,
  );

  testIf(missing)(
    "takes UDP sockets in the order of the command, each with its name",
    async () => {
      const { activation, addresses } = await Activation.start(
        ["--datagram", "--fdname=first:second"],
        () => [freeAddress(), freeAddress()],
      );
      using _ = activation;
      const [first = "", second = ""] = addresses;
      expect(ask("datagram", second, "two")).toBe("second ipv4 datagram TWO\n");
      expect(ask("datagram", first, "one")).toBe("first ipv4 datagram ONE\n");
    },
    TIMEOUT_MS,
  );

  testIf(missing)(
    "takes Unix datagram sockets with paths and abstract names, beside UDP",
    async () => {
      const { activation, addresses } = await Activation.start(
        ["--datagram", "--fdname=path", "--fdname=abstract", "--fdname=udp"],
        (folder) => [join(folder, "log"), `@bun-sockets-${process.pid}`, freeAddress()],
      );
      using _ = activation;
      const [path = "", abstract = "", udp = ""] = addresses;
      expect(ask("datagram", path, "one")).toBe("path unix datagram ONE\n");
      expect(ask("datagram", abstract, "two")).toBe("abstract unix datagram TWO\n");
      expect(ask("datagram", udp, "three")).toBe("udp ipv4 datagram THREE\n");
    },
    TIMEOUT_MS,
  );

  testIf(requires("systemd-socket-activate", "socat"))(
    "serves the datagram that had the program started",
    async () => {
      const { activation, addresses } = await Activation.start(["--datagram"], () => [
        freeAddress(),
      ]);
      using _ = activation;
      const socat = Bun.spawn(["socat", "-T", "10", "-", `UDP4:${addresses[0]}`], {
        stdin: "pipe",
      });
      socat.stdin.write("hello");
      await socat.stdin.flush();
      const { value = new Uint8Array() } = await socat.stdout.getReader().read();
      socat.kill();
      expect(Buffer.from(value).toString()).toBe("unknown ipv4 datagram HELLO");
    },
    TIMEOUT_MS,
  );
});

describe("listenFds() by its environment", () => {
  // The shell that sets LISTEN_PID becomes the program, and keeps its number. $PROGRAM_ID is ours.
  const LAUNCHER = 'eval "$1"; shift; exec "$@"';

  /** Starts `report` with variables as the shell sets them, and with descriptor 3, or 3 and 4. */
  function reportOf(variables: string, descriptors: readonly number[] = []): Report {
    const { LISTEN_PID: _, LISTEN_FDS: __, LISTEN_FDNAMES: ___, ...env } = process.env;
    const command = ["sh", "-c", LAUNCHER, "sh", variables, process.execPath, PROGRAM, "report"];
    const { stdout, stderr, exitCode } = Bun.spawnSync(command, {
      env,
      stdio: ["ignore", "pipe", "pipe", ...descriptors],
    });
    expect(`${exitCode} ${stderr}`).toBe("0 ");
    return JSON.parse(stdout.toString());
  }

  const FOR_IT = "export LISTEN_PID=$$";

  test("gives none when there are no variables", () => {
    expect(reportOf("")).toMatchObject({ found: [], again: [], variables: [] });
  });

  test.each([
    ["of another process", "export LISTEN_PID=1 LISTEN_FDS=1"],
    ["of the process that started it", "export LISTEN_PID=$PPID LISTEN_FDS=1"],
    ["missing", "export LISTEN_FDS=1"],
    ["empty", "export LISTEN_PID= LISTEN_FDS=1"],
    ["no number", "export LISTEN_PID=x LISTEN_FDS=1"],
  ])("gives none, and leaves the variables, when LISTEN_PID is %s", (_, variables) => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const { found, error, variables: left } = reportOf(variables, [socket.descriptor]);
    expect({ found, error }).toEqual({ found: [], error: undefined });
    expect(left).toContain("LISTEN_FDS");
  });

  test("gives none when LISTEN_FDS is missing or 0", () => {
    expect(reportOf(FOR_IT)).toMatchObject({ found: [], variables: ["LISTEN_PID"] });
    expect(reportOf(`${FOR_IT} LISTEN_FDS=0`)).toMatchObject({ found: [], again: [] });
  });

  test.each(["", "x", "-1", "1.5", "1e3", "0x1", " 1", "1234567", "99999999999999999999"])(
    "refuses %j as LISTEN_FDS, and leaves the variables",
    (count) => {
      const report = reportOf(`${FOR_IT} LISTEN_FDS='${count}'`);
      expect(report).toMatchObject({ found: [], error: "RangeError" });
      expect(report.message).toBe(
        `Cannot use ${JSON.stringify(count)} as LISTEN_FDS: expected a count`,
      );
      expect(report.variables.toSorted()).toEqual(["LISTEN_FDS", "LISTEN_PID"]);
    },
  );

  test("reports an announced descriptor that is not open, and leaves the variables", () => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    // Far above what Bun opens for itself.
    const report = reportOf(`${FOR_IT} LISTEN_FDS=500`, [socket.descriptor]);
    expect(report).toMatchObject({ found: [], error: "ClosedError EBADF" });
    expect(report.variables.toSorted()).toEqual(["LISTEN_FDS", "LISTEN_PID"]);
  });

  test.each([
    ["all", "a:b", ["a", "b"]],
    ["fewer", "a", ["a", "unknown"]],
    ["more", "a:b:c", ["a", "b"]],
    ["an empty one among", ":b", ["", "b"]],
    ["no", "", ["unknown", "unknown"]],
  ])("gives descriptors in order, and %s names that it was told", (_, names, expected) => {
    using first = UdpSocket.bind("127.0.0.1:0");
    using second = UdpSocket.bind("[::1]:0");
    const { found, adopted } = reportOf(`${FOR_IT} LISTEN_FDS=2 LISTEN_FDNAMES=${names}`, [
      first.descriptor,
      second.descriptor,
    ]);
    expect(found).toEqual(expected.map((name, index) => ({ descriptor: 3 + index, name })));
    expect(adopted).toEqual(["ipv4 datagram", "ipv6 datagram"]);
  });

  test("gives them once: the variables are gone", () => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const variables = `${FOR_IT} LISTEN_FDS=1 LISTEN_FDNAMES=a`;
    const { found, again, variables: left } = reportOf(variables, [socket.descriptor]);
    expect(found).toHaveLength(1);
    expect({ again, left }).toEqual({ again: [], left: [] });
  });

  test("makes them close-on-exec: programs that it starts do not see them", () => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const { inheritedBefore, inheritedAfter } = reportOf(`${FOR_IT} LISTEN_FDS=1`, [
      socket.descriptor,
    ]);
    expect(inheritedBefore).toContain(3);
    expect(inheritedAfter).not.toContain(3);
  });

  test("leaves descriptors alone that were announced to another process", () => {
    using socket = UdpSocket.bind("127.0.0.1:0");
    const { inheritedAfter } = reportOf("export LISTEN_PID=1 LISTEN_FDS=1", [socket.descriptor]);
    expect(inheritedAfter).toContain(3);
  });

  test("gives none in a Worker, whose environment announces them again", async () => {
    const index = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
    const script = `import { listenFds } from ${index}; postMessage([process.env.LISTEN_FDS, listenFds()]);`;
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    const env = { ...process.env, LISTEN_PID: `${process.pid}`, LISTEN_FDS: "1" };
    const worker = new Worker(url, { env });
    try {
      const answer = await new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = reject;
      });
      expect(answer).toEqual(["1", []]);
    } finally {
      worker.terminate();
      URL.revokeObjectURL(url);
    }
  });

  test("gives a descriptor that is no socket, which adopt refuses", () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-listen-"));
    try {
      const open = `exec 3>${join(folder, "file")}; ${FOR_IT} LISTEN_FDS=1`;
      expect(reportOf(open).adopted).toEqual(["SystemError ENOTSOCK"]);
      expect(existsSync(join(folder, "file"))).toBe(true);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
