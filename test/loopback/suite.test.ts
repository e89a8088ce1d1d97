import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, type Cell } from "../../bench/cells.ts";
import { Pair, Tools } from "../../bench/peers/suite_programs.ts";
import type { Calls } from "../../bench/peers/suite_trace.ts";
import { requires, testIf } from "../support/require.ts";

const ROOT_USER = 0;
const BASE = "udp4/64/sendmmsg-recvmmsg";
const TIMEOUT_MS = 20_000;
// Those of the first lines, and Bun's own for its standard input.
const OTHER_CALLS_MAX = 40;

const suite = join(import.meta.dir, "../../bench/suite.ts");

function refusal(...values: readonly string[]) {
  const { exitCode, stderr } = Bun.spawnSync([process.execPath, suite, ...values]);
  return { exitCode, reason: stderr.toString() };
}

function named(name: string): Cell {
  const cell = CELLS.find((one) => one.name === name);
  if (cell === undefined) throw new Error(`there is no ${name}`);
  return cell;
}

function sumOf(calls: Calls): number {
  return Object.values(calls).reduce((sum, count) => sum + count, 0);
}

describe("a pair of the suite", () => {
  const compiled = testIf(requires("gcc"));
  const traced = testIf(
    process.getuid?.() === ROOT_USER ? requires("gcc", "strace") : "needs root",
  );
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
  let tools: Tools;

  beforeAll(() => {
    if (Bun.which("gcc") !== null) tools = new Tools(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  for (const peer of ["bun-sockets", "c"] as const) {
    traced(
      `${peer} makes the calls that it counts`,
      async () => {
        const pair = await Pair.start(tools, peer, named(BASE));
        try {
          await pair.warmUp([2, 5]);
          const { round, sides } = await pair.traceCalls("%network,poll,ppoll");
          const [send = {}, receive = {}] = sides;
          expect(send["sendmmsg"]).toBe(round.sent / (round.sendBatch as number));
          // Each group is answered.
          expect(receive["sendto"]).toBe(round.received / named(BASE).group);
          const others = [
            sumOf(send) - (round.sendCalls as number) * round.sent,
            sumOf(receive) - (round.receiveCalls as number) * round.received,
          ];
          for (const count of others) {
            expect(count).toBeGreaterThan(0);
            expect(count).toBeLessThan(OTHER_CALLS_MAX);
          }
        } finally {
          pair.kill();
        }
      },
      TIMEOUT_MS,
    );
  }

  testIf(requires("gcc", "python3"))(
    "of ours, C and Python counts how often it has waited in vain, and goes on",
    async () => {
      const found = await Promise.all(
        (["bun-sockets", "c", "python"] as const).map(async (peer) => {
          // What is on its way is no group yet when the window is full: nobody answers.
          const pair = await Pair.start(tools, peer, { ...named(BASE), group: 128, window: 64 });
          try {
            const { sent, received, stalls } = await pair.run(128);
            return { sent, received, stalls };
          } finally {
            await pair.kill();
          }
        }),
      );
      expect(found).toEqual(Array(3).fill({ sent: 128, received: 128, stalls: 1 }));
    },
    TIMEOUT_MS,
  );

  test(
    "of an event loop counts how often it has waited in vain, too",
    () => {
      const events = JSON.stringify(join(import.meta.dir, "../../bench/peers/suite_events.mjs"));
      const script = `
        import { serveSender } from ${events};
        const payloads = [new Uint8Array(64)];
        await serveSender({ group: 64, window: 128 }, payloads, () => 1, {});`;
      // Nobody answers.
      const stdin = Buffer.from("run 128\n");
      const { stdout } = Bun.spawnSync([process.execPath, "-e", script], { stdin });
      const [, said = ""] = stdout.toString().split("\n");
      expect(JSON.parse(said)).toMatchObject({ sent: 128, stalls: 1 });
    },
    TIMEOUT_MS,
  );

  compiled("of ours makes as many calls as C where nobody waits", async () => {
    const rounds = [];
    for (const peer of ["bun-sockets", "c"] as const) {
      const pair = await Pair.start(tools, peer, named(`${BASE}/one-thread`));
      try {
        rounds.push(await pair.run(6400));
      } finally {
        pair.kill();
      }
    }
    const [ours, inC] = rounds.map(({ sendCalls, receiveCalls }) => ({ sendCalls, receiveCalls }));
    expect(ours).toEqual({ sendCalls: 1 / 64, receiveCalls: 1 / 64 });
    expect(inC).toEqual(ours);
  });
});

describe("suite.ts", () => {
  test.each([
    ["a cell that there is not", ["udp5/64"], "'udp5/64' is invalid for argument 'name'"],
    [
      "a peer that there is not",
      ["--only", "rust"],
      "Allowed choices are bun-sockets, c, bun-udp,",
    ],
    ["no count of rounds", ["--rounds", "many"], "'--rounds <count>' argument 'many' is invalid"],
  ])("refuses %s", (_, values, reason) => {
    const found = refusal(...values);
    expect(found.exitCode).toBe(2);
    expect(found.reason).toContain(reason);
  });

  test("lists what a name stands for", () => {
    const { stdout } = Bun.spawnSync([process.execPath, suite, "sizes", "--list"]);
    const expected = CELLS.filter(({ question }) => question === "sizes").map(({ name }) => name);
    const found = stdout.toString().trim().split("\n");
    expect(found.map((line) => line.trim())).toEqual(["sizes", ...expected]);
  });
});
