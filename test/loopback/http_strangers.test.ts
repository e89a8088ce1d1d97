/**
 * Programs that share no code with this library, as peers of its listeners and streams: curl, for a
 * tiny HTTP server, and nc, as client and as server.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type StreamSocket,
  TcpListener,
  TcpSocket,
  UnixAddress,
  UnixListener,
  UnixSocket,
} from "bun-sockets";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine, randomPayload } from "../support/strangers.ts";

const ROOT = join(import.meta.dir, "../..");
const TEST_MS = 30_000;
const timeoutMs = 20_000;

const withCurl = testIf(requires("curl"));
const withNc = testIf(requires("nc") ?? otherNc());

// There are several programs of this name, with other options.
function otherNc(): string | undefined {
  const { stderr } = Bun.spawnSync(["nc", "-h"]);
  return `${stderr}`.startsWith("OpenBSD netcat") ? undefined : "needs OpenBSD's nc";
}

/** A folder that goes with the block. */
class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bun-sockets-http-"));

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

async function output(child: Bun.Subprocess<"ignore" | "pipe" | Blob, "pipe", "inherit">) {
  const bytes = await child.stdout.bytes();
  return { bytes: Buffer.from(bytes), exitCode: await child.exited };
}

describe("curl, and examples/tiny_http.ts", () => {
  /** A started server, and how curl reaches it. */
  class Server implements Disposable {
    readonly #child: Bun.Subprocess<"ignore", "pipe", "inherit">;
    readonly how: readonly string[];
    readonly host: string;

    constructor(child: Bun.Subprocess<"ignore", "pipe", "inherit">, listens: string) {
      this.#child = child;
      const path = /^unix:(.*)$/.exec(listens)?.[1];
      this.host = path === undefined ? listens : "localhost";
      this.how = path === undefined ? [] : way(path);
    }

    static async start(address: string): Promise<Server> {
      const child = Bun.spawn([process.execPath, "examples/tiny_http.ts", address], {
        cwd: ROOT,
        stdio: ["ignore", "pipe", "inherit"],
      });
      const line = await firstLine(child.stdout);
      return new Server(child, line.replace("listening on ", ""));
    }

    curl(stdin: Uint8Array, ...options: readonly string[]) {
      const command = ["curl", "-sS", "--globoff", "--max-time", "20", ...this.how, ...options];
      return output(Bun.spawn(command, { stdio: [new Blob([stdin]), "pipe", "inherit"] }));
    }

    async stop(): Promise<number> {
      this.#child.kill("SIGTERM");
      return await this.#child.exited;
    }

    [Symbol.dispose](): void {
      this.#child.kill("SIGKILL");
    }
  }

  function way(path: string): string[] {
    return path.startsWith("@")
      ? ["--abstract-unix-socket", path.slice(1)]
      : ["--unix-socket", path];
  }

  const nothing = new Uint8Array();
  const addresses: readonly [name: string, address: (folder: string) => string][] = [
    ["TCP over IPv4", () => "127.0.0.1:0"],
    ["TCP over IPv6", () => "[::1]:0"],
    ["a Unix path", (folder) => join(folder, "http.sock")],
    ["an abstract name", () => `unix:@bun-sockets-${crypto.randomUUID()}`],
  ];

  for (const [name, address] of addresses) {
    withCurl(
      `over ${name}: requests with and without a body, several on one connection`,
      async () => {
        using folder = new Folder();
        using server = await Server.start(address(folder.path));
        const url = `http://${server.host}/some/path?q=1`;

        const plain = await server.curl(nothing, url);
        expect([`${plain.bytes}`, plain.exitCode]).toEqual(["GET /some/path?q=1\n", 0]);

        const body = randomPayload(300_000);
        const posted = await server.curl(body, "--data-binary", "@-", url);
        expect(posted.exitCode).toBe(0);
        expect(
          posted.bytes.equals(Buffer.concat([Buffer.from("POST /some/path?q=1\n"), body])),
        ).toBe(true);

        const head = await server.curl(nothing, "--head", url);
        expect(`${head.bytes}`).toBe("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n");

        const twice = await server.curl(nothing, "-w", "%{num_connects}\n", url, "-o", "-", url);
        // curl 7.88 does not use a connection to an abstract name again.
        const connects = name === "an abstract name" ? "[01]" : "0";
        const expected = `^GET /some/path\\?q=1\n1\nGET /some/path\\?q=1\n${connects}\n$`;
        expect(`${twice.bytes}`).toMatch(new RegExp(expected));

        const many = await Promise.all(
          Array.from({ length: 16 }, (_, i) => server.curl(nothing, `http://${server.host}/${i}`)),
        );
        expect(many.map(({ bytes }) => `${bytes}`)).toEqual(many.map((_, i) => `GET /${i}\n`));

        expect(await server.stop()).toBe(0);
        expect(existsSync(join(folder.path, "http.sock"))).toBe(false);
      },
      TEST_MS,
    );
  }

  withCurl(
    "a request too large, or none at all, is refused, and harms no other",
    async () => {
      using server = await Server.start("127.0.0.1:0");
      const large = await server.curl(
        new Uint8Array((1 << 20) + 1),
        ...["-H", "Expect:", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", "@-"],
        `http://${server.host}/`,
      );
      expect(`${large.bytes}`).toBe("400");
      using stranger = await TcpSocket.connect(server.host, { timeoutMs });
      await stranger.sendAll("nonsense\r\n\r\n");
      expect(await stranger.reader().readText({ timeoutMs })).toStartWith("HTTP/1.1 400 ");
      const after = await server.curl(nothing, `http://${server.host}/`);
      expect(`${after.bytes}`).toBe("GET /\n");
    },
    TEST_MS,
  );

  test("the server has at most 30 lines", async () => {
    const source = await Bun.file(join(ROOT, "examples/tiny_http.ts")).text();
    const lines = source.replace(/^\/\*\*.*?\*\//s, "").split("\n");
    expect(lines.filter((line) => line.trim() !== "").length).toBeLessThanOrEqual(30);
  });
});

describe("nc", () => {
  interface Place {
    readonly name: string;
    listen(folder: string): TcpListener | UnixListener;
    /** What nc is told to reach it. */
    reach(listener: TcpListener | UnixListener): string[];
    /** What nc is told to listen, and how to connect to it. */
    serve(folder: string): string[];
    connect(folder: string, said: string): Promise<StreamSocket>;
  }

  const tcp = (name: string, host: string, family: string): Place => ({
    name,
    listen: () => TcpListener.listen(`${host}:0`),
    reach: (listener) => {
      const { port } = listener.localAddress as { port?: number };
      return [family, host.replace(/[[\]]/g, ""), `${port}`];
    },
    serve: () => [family, "-lvn", host.replace(/[[\]]/g, ""), "0"],
    connect: (_, said) => TcpSocket.connect(`${host}:${said.split(" ").at(-1)}`, { timeoutMs }),
  });

  const places: readonly Place[] = [
    tcp("TCP over IPv4", "127.0.0.1", "-4"),
    tcp("TCP over IPv6", "[::1]", "-6"),
    {
      name: "Unix streams",
      listen: (folder) => UnixListener.listen(join(folder, "ours")),
      reach: (listener) => ["-U", (listener.localAddress as UnixAddress).path ?? ""],
      serve: (folder) => ["-lvU", join(folder, "theirs")],
      connect: async (folder) => {
        const address = new UnixAddress(join(folder, "theirs"));
        // It says that it is bound before it listens.
        let socket: UnixSocket | undefined;
        const connected = async () => {
          socket = await UnixSocket.connect(address, { timeoutMs }).catch(() => undefined);
          return socket !== undefined;
        };
        const end = performance.now() + timeoutMs;
        while (!(await connected()) && performance.now() < end) await Bun.sleep(1);
        return socket as UnixSocket;
      },
    },
  ];

  for (const { name, listen, reach, serve, connect } of places) {
    withNc(
      `over ${name}: a client's bytes come back as they were, after its end`,
      async () => {
        using folder = new Folder();
        using listener = listen(folder.path);
        const sent = randomPayload(1_000_000);
        const command = ["nc", "-N", ...reach(listener)];
        const child = Bun.spawn(command, { stdio: [new Blob([sent]), "pipe", "inherit"] });
        using _ = ending(child);
        using served = await listener.accept({ timeoutMs });
        // nc ends its direction, and waits for the other.
        const received = await served.reader().readAll({ timeoutMs, limitBytes: 2_000_000 });
        await served.sendAll(received, { timeoutMs });
        served.shutdown("write");
        const { bytes, exitCode } = await output(child);
        expect([bytes.equals(sent), exitCode]).toEqual([true, 0]);
      },
      TEST_MS,
    );

    withNc(
      `over ${name}: a server gets what is sent, and the other way round`,
      async () => {
        using folder = new Folder();
        const answer = randomPayload(1_000_000);
        const sent = randomPayload(1_000_000);
        const child = Bun.spawn(["nc", "-N", ...serve(folder.path)], {
          stdio: [new Blob([answer]), "pipe", "pipe"],
        });
        using _ = ending(child);
        const said = await firstLine(child.stderr);
        expect(said).toMatch(/^(Listening|Bound) on /);
        using socket = await connect(folder.path, said);
        const printed = child.stdout.bytes();
        const [received] = await Promise.all([
          socket.reader().readAll({ timeoutMs, limitBytes: 2_000_000 }),
          socket.sendAll(sent, { timeoutMs }),
        ]);
        expect(answer.equals(received)).toBe(true);
        // Not before: a listening nc that meets the end may leave the rest of its own input unsent.
        socket.shutdown("write");
        expect(sent.equals(await printed)).toBe(true);
        expect(await child.exited).toBe(0);
      },
      TEST_MS,
    );
  }
});
