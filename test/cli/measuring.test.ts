/** How `blast`, `sink`, `echo`, `ping` and `info` end, and what they refuse. */
import { afterAll, describe, expect, test } from "bun:test";
import { UdpSocket } from "bun-sockets";
import { COMMAND, RunningCommand, runCommand } from "../support/command.ts";
import { end, linesOf } from "../support/traffic.ts";

// Some take seconds by themselves, and the machine may have much else to do.
const LIMIT_MS = 30_000;

const nobody = UdpSocket.bind("127.0.0.1:0");
const SILENT = `127.0.0.1:${nobody.localAddress.port}`;
afterAll(() => nobody.close());

describe("what is absurd is refused, and named", () => {
  test.each([
    [["blast", SILENT, "-c", "0"], "--count"],
    [["blast", SILENT, "-d", "0"], "--duration"],
    [["blast", SILENT, "-r", "NaN"], "--rate"],
    [["blast", SILENT, "-s", "1e99"], "--size"],
    [["blast", SILENT, "--buffer", "1T"], "--buffer"],
    [["blast", SILENT, "--segments", "0"], "--segments"],
    [["sink", "65536"], "address"],
    [["sink", "-d", "1e99"], "--duration"],
    [["sink", "--idle", "0"], "--idle"],
    [["sink", "--buffer", "-1"], "--buffer"],
    [["echo", "-c", "NaN"], "--count"],
    [["ping", SILENT, "--timeout", "0"], "--timeout"],
    [["ping", SILENT, "-i", "-1"], "--interval"],
    [["ping", SILENT, "-c", "99999999999999999999"], "--count"],
    [["info", "--pause", "1e99"], "--pause"],
  ] as const)("%j", (values, name) => {
    const { exitCode, stdout, stderr } = runCommand(values);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toStartWith(`bun-sockets ${values[0]}: `);
    expect(stderr.split("\n")[0]).toContain(name);
  });
});

describe.each(["SIGINT", "SIGTERM"] as const)("%s", (signal) => {
  test.each([
    ["blast", [SILENT, "-r", "0.001"], 1],
    ["sink", ["127.0.0.1:0"], 0],
    ["echo", ["127.0.0.1:0"], 0],
    ["ping", [SILENT, "-i", "1h", "--timeout", "1h"], 1],
  ] as const)(
    "ends %s %j with its summary, however long it would wait",
    async (name, values, sent) => {
      const running = new RunningCommand([name, ...values, "--json"]);
      if (sent === 0) await running.until((stdout) => stdout.includes("\n"));
      // It has sent what it sends for a long time.
      else nobody.receiveSync(new Uint8Array(2000), { timeoutMs: 20_000 });
      const { exitCode, stdout, stderr } = await end(running, signal);
      // Of a ping without an answer 1 tells.
      expect([exitCode, stderr]).toEqual([name === "ping" ? 1 : 0, ""]);
      const summary = linesOf({ stdout }).at(-1);
      expect(summary).toMatchObject({ type: "summary", [sent === 0 ? "received" : "sent"]: sent });
      // The rate is that of the pace, and the time is the one that it took.
      if (name === "blast") {
        expect(summary).toMatchObject({ wantedPerSecond: 0.001, datagramsPerSecond: 0 });
        expect(summary?.["durationMs"]).toBeLessThan(LIMIT_MS);
      }
      while (nobody.tryReceive(new Uint8Array(2000)) !== undefined);
    },
  );
});

describe("who reads no more ends it quietly", () => {
  /** Runs it into `head -n 1`. Gives the line, and what is said in the end. */
  async function intoHead(values: readonly string[], during?: (line: string) => unknown) {
    const script = '{ "$@"; echo "ended $?" >&2; } | head -n 1';
    const shell = Bun.spawn(["sh", "-c", script, "sh", ...COMMAND, ...values], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
      timeout: LIMIT_MS,
    });
    // The shell holds it open to the end.
    const { value } = await shell.stdout.getReader().read();
    const line = `${Buffer.from(value ?? [])}`;
    await during?.(line);
    expect(await new Response(shell.stderr).text()).toBe("ended 0\n");
    return line;
  }

  test(
    "blast, in the first second",
    async () => {
      expect(await intoHead(["blast", SILENT, "-r", "100"])).toStartWith("run ");
    },
    LIMIT_MS,
  );

  test(
    "sink, when something has come",
    async () => {
      await intoHead(["sink", "127.0.0.1:0", "--json"], (line) => {
        const target = `127.0.0.1:${JSON.parse(line).port}`;
        const { exitCode } = runCommand(["blast", target, "-c", "10"]);
        expect(exitCode).toBe(0);
      });
    },
    LIMIT_MS,
  );

  test("ping, and echo in the end", async () => {
    await intoHead(["echo", "127.0.0.1:0", "--json", "--idle", "200ms"], (line) =>
      intoHead(["ping", `127.0.0.1:${JSON.parse(line).port}`, "-i", "1ms"]),
    );
  });

  test("info", async () => {
    expect(await intoHead(["info", "machine"])).toBe("Machine\n");
  });
});
