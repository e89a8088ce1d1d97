/** Every cell of the suite runs once: those over veth. And what is lost is what the kernel says is lost. */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, type Cell } from "../../bench/cells.ts";
import { Pair, Tools } from "../../bench/peers/suite_programs.ts";
import { canMakeVeth, vethHosts } from "../../bench/peers/veth.ts";
import { type Missing, requires, testIf } from "../support/require.ts";
import { runOnce } from "../support/suite_cells.ts";

const BASE = "udp4/64/sendmmsg-recvmmsg";
const DATAGRAMS = 64 * 400;
const TIMEOUT_MS = 30_000;

const missing: Missing =
  process.env["BUN_SOCKETS_NAMESPACE"] !== "1"
    ? "needs a network namespace of its own"
    : (requires("gcc") ?? (canMakeVeth() ? undefined : "needs the right to make namespaces"));

runOnce(
  CELLS.filter(({ topology }) => topology === "veth"),
  missing,
);

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
let tools: Tools;
beforeAll(() => {
  if (missing === undefined) tools = new Tools(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

function named(name: string): Cell {
  const cell = CELLS.find((one) => one.name === name);
  if (cell === undefined) throw new Error(`there is no ${name}`);
  return cell;
}

// Each line of /proc/net/snmp stands there twice: names, then values.
function udpCountersOf(text: string): Record<string, number> {
  const [names = [], values = []] = text
    .split("\n")
    .filter((line) => line.startsWith("Udp: "))
    .map((line) => line.split(" ").slice(1));
  return Object.fromEntries(names.map((name, i) => [name, Number(values[i])]));
}

/** What UDP counts where the receiver is. */
function udpCounters(cell: Cell): Record<string, number> {
  if (cell.topology !== "veth") return udpCountersOf(readFileSync("/proc/net/snmp", "utf8"));
  const [, { prefix }] = vethHosts();
  const { stdout } = Bun.spawnSync([...prefix, "cat", "/proc/net/snmp"]);
  return udpCountersOf(stdout.toString());
}

for (const name of [`${BASE}/flat-out`, `${BASE}/2x1`, `${BASE}/veth-flat-out`])
  for (const peer of ["bun-sockets", "c"] as const)
    testIf(missing)(
      `${name}: what ${peer} has lost is what the kernel has dropped for want of room`,
      async () => {
        const cell = named(name);
        const pair = await Pair.start(tools, peer, cell);
        try {
          await pair.warmUp([1, 1]);
          const before = udpCounters(cell);
          const { sent, received } = await pair.run(DATAGRAMS);
          const after = udpCounters(cell);
          const grown = (key: string) => (after[key] as number) - (before[key] as number);
          expect(grown("RcvbufErrors")).toBe(sent - received);
          expect(grown("InDatagrams")).toBe(received);
        } finally {
          await pair.kill();
        }
      },
      TIMEOUT_MS,
    );
