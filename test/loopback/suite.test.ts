import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, type Cell } from "../../bench/cells.ts";
import { Pair, Tools } from "../../bench/peers/suite_programs.ts";
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
          const batches = await pair.countCalls("sendmmsg");
          expect((batches.send as number) * (batches.round.sendBatch as number)).toBeCloseTo(1, 6);
          const { send, receive, round } = await pair.countCalls("%network,poll,ppoll");
          const others = [
            ((send as number) - (round.sendCalls as number)) * round.sent,
            ((receive as number) - (round.receiveCalls as number)) * round.received,
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
    ["a cell that there is not", ["udp5/64"], "There is no cell udp5/64"],
    ["a peer that there is not", ["--only", "rust"], "There is no peer rust"],
    ["no count of rounds", ["--rounds", "many"], "--rounds takes a count, not many"],
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
