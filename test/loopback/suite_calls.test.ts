/** Ours and C do the same work: strace counts what both ask of the kernel, path by path. */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, type Cell } from "../../bench/cells.ts";
import { Pair, Tools } from "../../bench/peers/suite_programs.ts";
import { requires, testIf } from "../support/require.ts";

const ROOT_USER = 0;
const TIMEOUT_MS = 20_000;
// What moves datagrams, or waits for them; send(2) and recv(2) are sendto and recvfrom to the kernel.
const DATA_CALLS = [
  ...["sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg", "poll", "ppoll"],
];
const PATH_QUESTIONS = ["send paths", "receive paths", "batches", "families", "peers"];

const missing = process.getuid?.() === ROOT_USER ? requires("gcc", "strace") : "needs root";
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
let tools: Tools;

beforeAll(() => {
  if (missing === undefined) tools = new Tools(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

// On one thread nobody waits for anybody, so that what is called depends on nothing else.
const ways = CELLS.filter(
  ({ form, receive, bytes, question }) =>
    form === "try" && receive !== "ring" && bytes === 64 && PATH_QUESTIONS.includes(question),
);
for (const way of ways.filter(({ flow, topology }) => flow === "window" && topology !== "veth")) {
  testIf(missing)(
    `${way.name}: ours makes the calls of C, by name`,
    async () => {
      const cell: Cell = { ...way, topology: "one thread" };
      const [ours, inC] = await Promise.all(
        (["bun-sockets", "c"] as const).map(async (peer) => {
          const pair = await Pair.start(tools, peer, cell);
          try {
            await pair.warmUp([2, 2]);
            const { round, sides } = await pair.traceCalls(`trace=${DATA_CALLS.join(",")}`);
            expect(round.received).toBe(round.sent);
            return { round, calls: sides[0] ?? {} };
          } finally {
            await pair.kill();
          }
        }),
      );
      if (ours === undefined || inC === undefined) throw new Error("both have run");
      for (const name of DATA_CALLS) {
        const [our = 0, their = 0] = [ours.calls[name], inC.calls[name]];
        // Bun reads its standard input besides.
        const room = Math.max(0.02 * their, 4);
        expect([name, Math.abs(our - their) <= room, our, their]).toEqual([name, true, our, their]);
      }
      // A group is one call on each side at least.
      const all = Object.values(inC.calls).reduce((sum, count) => sum + count, 0);
      expect(all).toBeGreaterThanOrEqual((2 * inC.round.sent) / cell.group);
      const { sendCalls, receiveCalls } = ours.round;
      expect({ sendCalls, receiveCalls }).toEqual({
        sendCalls: inC.round.sendCalls,
        receiveCalls: inC.round.receiveCalls,
      });
    },
    TIMEOUT_MS,
  );
}
