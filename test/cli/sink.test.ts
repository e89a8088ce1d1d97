/** `bun-sockets sink` on one machine: when it ends, and what it tells people. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { COMMAND, RunningCommand, runCommand, WITHOUT_RIGHTS } from "../support/command.ts";
import { requires, testIf } from "../support/require.ts";
import { end, linesOf, listening, summaryOf } from "../support/traffic.ts";

// Some take seconds by themselves, and the machine may have much else to do.
const LIMIT_MS = 30_000;

test("sink ends after so many", async () => {
  const { running, port } = await listening(["sink", "127.0.0.1:0", "-c", "10"]);
  runCommand(["blast", `127.0.0.1:${port}`, "-c", "10"]);
  expect(summaryOf(await running.ended())).toMatchObject({ received: 10 });
});

test("sink ends after a time", () => {
  const timed = runCommand(["sink", "127.0.0.1:0", "-d", "20ms", "--json"]);
  expect(summaryOf(timed)).toMatchObject({ datagrams: 0, received: 0, runs: [] });
});

test("sink ends when nothing comes any more", async () => {
  const { running, port } = await listening(["sink", "127.0.0.1:0", "--idle", "200ms"]);
  runCommand(["blast", `127.0.0.1:${port}`, "-c", "10"]);
  expect(summaryOf(await running.ended())).toMatchObject({ received: 10, lost: 0 });
});

test("sink has lines for people", async () => {
  const running = new RunningCommand(["sink", "127.0.0.1:0", "--buffer", "100000"]);
  await running.until((stdout) => stdout.includes("\n"));
  const [, port] = /^receiving at 127\.0\.0\.1:(\d+), 100000 bytes/.exec(running.stdout) ?? [];
  const { stdout } = runCommand(["blast", `127.0.0.1:${port}`, "-c", "20"]);
  const [, run] = /^run ([0-9a-f]{8}) to 127\.0\.0\.1:/.exec(stdout) ?? [];
  expect(stdout).toMatch(/^20 datagrams, 24000 bytes in [\d.]+ s: [\d.]+ datagrams\/s, /m);
  expect(stdout).toMatch(/^CPU time: [\d.]+ ns a datagram/m);
  const { stdout: told, exitCode, stderr } = await end(running, "SIGTERM");
  expect([exitCode, stderr]).toEqual([0, ""]);
  expect(told).toContain(
    ": 20 sent, 20 received, 0 lost (0 %), 0 duplicates, 0 reordered\n  24000 bytes in ",
  );
  expect(told).toContain(`\nrun ${run} from 127.0.0.1:`);
  expect(told).toMatch(/^ {2}one way in µs, if both have the same clock: min [\d.]+, mean /m);
  expect(told).toEndWith(
    "23 datagrams came: 20 received, 0 duplicates, 0 too late to tell, 3 notices of the end, " +
      "0 foreign\ndropped by the kernel: 0\n",
  );
});

testIf(requires("script"))(
  "sink paints its table anew each second, on a terminal",
  () => {
    const sink = [...COMMAND, "sink", "127.0.0.1:0", "-d", "2200ms"].join(" ");
    const command = `stty cols 50; ${sink}`;
    const { stdout } = Bun.spawnSync(["script", "-qec", command, "/dev/null"], { stdin: "ignore" });
    const tables = stdout.toString().split("\x1b[2F\x1b[J");
    // And once more in the end.
    expect(tables).toHaveLength(3);
    // What is wider than the terminal is cut.
    const header = "run  from  datagrams/s  bit/s  lost  lost so far  ".slice(0, 50);
    for (const table of tables)
      expect(table).toContain(`${header}\r\ndropped by the kernel 0, foreign 0\r\n`);
  },
  LIMIT_MS,
);

testIf(requires("setpriv"))(
  "sink says when the receive buffer is smaller than it was to be",
  () => {
    const most = Number(readFileSync("/proc/sys/net/core/rmem_max", "utf8"));
    // Root may have more.
    const prefix = process.getuid?.() === 0 ? WITHOUT_RIGHTS : [];
    const options = ["--buffer", String(most + 1), "-d", "1ms"];
    const { exitCode, stderr } = runCommand(["sink", "127.0.0.1:0", ...options], { prefix });
    expect(exitCode).toBe(0);
    expect(stderr).toBe(
      `the receive buffer is smaller than ${most + 1} bytes: ` +
        `'sudo sysctl -w net.core.rmem_max=${most + 1}' allows them\n`,
    );
  },
);

test(
  "Ctrl-C ends a sink that gets more than it can take",
  async () => {
    const { running, port } = await listening(["sink", "127.0.0.1:0", "--no-gro"]);
    const flood = new RunningCommand(["blast", `127.0.0.1:${port}`, "--gso", "-s", "100"]);
    await running.until((stdout) => stdout.includes('"interval"'));
    const { exitCode, stdout } = await end(running);
    const lines = linesOf({ stdout });
    expect([exitCode, lines.at(-1)?.["type"]]).toEqual([0, "summary"]);
    // Those of each second, and what came after the last.
    const drops = lines.slice(0, -1).map(({ kernelDrops }) => Number(kernelDrops ?? 0));
    const told = drops.reduce((sum, some) => sum + some, 0);
    expect(told).toBeGreaterThan(0);
    expect(lines.at(-1)?.["kernelDrops"]).toBeGreaterThanOrEqual(told);
    await end(flood);
  },
  LIMIT_MS,
);
