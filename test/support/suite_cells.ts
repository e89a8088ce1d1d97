/**
 * Tests that run cells of the suite once, with few datagrams, and look at whether what they say is
 * consistent. How fast they were is not asked.
 *
 * @module
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cell, PeerName } from "../../bench/cells.ts";
import { UNKNOWN } from "../../bench/peers/suite_memory.ts";
import { isInstalled, Pair, Tools } from "../../bench/peers/suite_programs.ts";
import type { Round } from "../../bench/peers/suite_round.ts";
import type { Latency, ResultLine } from "../../bench/results.ts";
import { type Extras, lineOf } from "../../bench/suite_result.ts";
import { type Missing, requires, testIf } from "./require.ts";

const GROUPS = 6;
const WAITS_MS = 1;
const BUFFER_BYTES = 212_992;
const TIMEOUT_MS = 30_000;
// Whose calls are made one by one, and counted where they are made.
const COUNTING: readonly PeerName[] = ["bun-sockets", "c", "python"];
const NONE: Extras = {
  calls: { send: null, receive: null },
  allocated: UNKNOWN,
  waits: null,
};

/** Registers a test for each cell: all its peers run once. */
export function runOnce(cells: readonly Cell[], missing: Missing = requires("gcc")): void {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
  let tools: Tools;
  beforeAll(() => {
    if (missing === undefined) tools = new Tools(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  for (const cell of cells) {
    const peers = cell.peers.filter(isInstalled);
    testIf(missing)(
      `${cell.name} runs once, by ${peers.join(", ")}`,
      async () => {
        // Each finds the machine busy with the others, which changes only how long it takes.
        const runs = peers.map(async (peer) => [peer, await runPair(tools, peer, cell)] as const);
        const rounds = new Map(await Promise.all(runs));
        for (const [peer, { round, waits, pair }] of rounds) {
          const inC = peer === "c" ? undefined : rounds.get("c")?.round;
          const extras = { ...NONE, waits };
          const line = lineOf(pair, [round], inC && [inC], extras);
          checkCounts(line, cell);
          checkCalls(line, cell);
          checkTimes(line, cell);
        }
      },
      TIMEOUT_MS,
    );
  }
}

async function runPair(tools: Tools, peer: PeerName, cell: Cell) {
  const pair = await Pair.start(tools, peer, cell);
  try {
    // Two rounds, so that what one leaves is found by the next.
    await pair.warmUp([1, 1]);
    const round: Round = await pair.run(GROUPS * cell.group);
    return { pair, round, waits: await pair.measureWaits(WAITS_MS) };
  } finally {
    await pair.kill();
  }
}

// Sums are compared where the round is made: see roundOf().
function checkCounts(line: ResultLine, { group, senders, flow }: Cell): void {
  const { peer, datagrams, lost } = line;
  expect([peer, datagrams]).toEqual([peer, GROUPS * group * senders]);
  if (flow === "window") expect([peer, lost, line.stalls]).toEqual([peer, 0, 0]);
  else expect(lost, peer).toBeWithin(0, datagrams);
  expect([peer, line.sendBufferBytes, line.receiveBufferBytes]).toEqual([
    peer,
    BUFFER_BYTES,
    BUFFER_BYTES,
  ]);
}

/** The most datagrams that one call can move, of the peers that make the calls of the cell's name. */
function mostOf({ send, receive, batch, segments, group }: Cell) {
  const many = (path: string) => ["sendmmsg", "recvmmsg", "gso", "gro"].includes(path);
  const sent = many(send) ? batch * segments : 1;
  if (receive === "gro") return { sent, received: segments };
  if (receive === "ring") return { sent, received: Number.POSITIVE_INFINITY };
  return { sent, received: many(receive) ? (segments > 1 ? group : batch) : 1 };
}

function checkCalls(line: ResultLine, cell: Cell): void {
  const { peer, achievedSendBatch, achievedReceiveBatch } = line;
  const { sendCallsPerDatagram, receiveCallsPerDatagram } = line;
  if (!COUNTING.includes(peer as PeerName)) return;
  const most = mostOf(cell);
  expect(achievedSendBatch, peer).toBeGreaterThan(0);
  expect(achievedSendBatch, peer).toBeLessThanOrEqual(most.sent);
  expect(achievedReceiveBatch, peer).toBeGreaterThan(0);
  expect(achievedReceiveBatch, peer).toBeLessThanOrEqual(most.received);
  const isAlone = cell.flow === "flat" || cell.topology === "one thread";
  if (cell.form === "try" || peer === "c") {
    // Whoever is answered has made calls for the answers, too.
    const data = 1 / (achievedSendBatch as number);
    if (isAlone) expect(sendCallsPerDatagram, peer).toBeGreaterThanOrEqual(data * 0.9999);
    else expect(sendCallsPerDatagram, peer).toBeGreaterThan(data);
  }
  const isRing = cell.receive === "ring";
  if (cell.form === "try" && !isRing)
    expect(receiveCallsPerDatagram, peer).toBeGreaterThanOrEqual(
      0.9999 / (achievedReceiveBatch as number),
    );
  const trains = cell.segments > 1 ? cell.segments : null;
  if (cell.receive === "gro") expect(line.achievedSegments, peer).toBeWithin(1, cell.segments + 1);
  else expect([peer, line.achievedSegments]).toEqual([peer, trains]);
  // The kernel copies on each device that there is here, and all have learnt it by then.
  const plain = cell.send === "zerocopy" ? 1 : null;
  expect([peer, line.plainShare]).toEqual([peer, plain]);
}

function checkTimes(line: ResultLine, cell: Cell): void {
  const { peer, ns, sendCpuNs, receiveCpuNs, latencyUs, waitUs } = line;
  for (const spread of [ns, sendCpuNs, receiveCpuNs])
    expect(spread?.median, peer).toBeGreaterThan(0);
  expect(line.ratioToC === null, peer).toBe(peer === "c");
  checkLatency(peer, latencyUs);
  const hasTimes = ["recvmmsg", "recvmsg", "gro", "ring"].includes(cell.receive);
  const isTold = COUNTING.includes(peer as PeerName) && cell.family !== "unix";
  if (hasTimes && isTold && cell.topology !== "one thread") checkLatency(peer, waitUs);
  else expect([peer, waitUs]).toEqual([peer, null]);
}

// No clock that is another one than it was taken for would pass.
const MINUTE_US = 60e6;

function checkLatency(peer: string, latency: Latency | null | undefined): void {
  const { p50 = 0, p90 = 0, p99 = 0, max = 0 } = latency ?? {};
  expect([p50, p90, p99, max], peer).toEqual([p50, p90, p99, max].sort((a, b) => a - b));
  // In nanoseconds the first is far above what the time of two clocks differs by.
  expect(p50, peer).toBeWithin(0.1, MINUTE_US);
}
