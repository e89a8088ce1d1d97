/** What the suite says that a peer allocates for a datagram. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, type Cell, type PeerName } from "../../bench/cells.ts";
import { measureAllocated } from "../../bench/peers/suite_memory.ts";
import { Pair, Tools } from "../../bench/peers/suite_programs.ts";
import { requires, testIf } from "../support/require.ts";

const BASE = "udp4/64/sendmmsg-recvmmsg";
const TIMEOUT_MS = 60_000;
/** What nothing is measured as: a compiler that is still at work touches some pages. */
const NOTHING_BYTES = 8;

describe("measureAllocated()", () => {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
  let tools: Tools;
  beforeAll(() => {
    if (Bun.which("gcc") !== null) tools = new Tools(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function measure(peer: PeerName, name: string) {
    const cell = CELLS.find((one): one is Cell => one.name === name);
    if (cell === undefined) throw new Error(`there is no ${name}`);
    const pair = await Pair.start(tools, peer, cell, peer !== "c");
    try {
      return await measureAllocated(pair);
    } finally {
      await pair.kill();
    }
  }

  testIf(requires("gcc"))(
    "finds nothing in C, nor in ours, and of ours that the sender's address is an object",
    async () => {
      const [inC, ours, objects] = await Promise.all([
        measure("c", BASE),
        measure("bun-sockets", BASE),
        measure("bun-sockets", "udp4/64/sendmmsg-recvfrom"),
      ]);
      for (const { send, receive, both } of [inC, ours]) {
        expect(send).toBeLessThan(NOTHING_BYTES);
        expect(receive).toBeLessThan(NOTHING_BYTES);
        expect(both).toBe((send as number) + (receive as number));
      }
      expect(objects.send).toBeLessThan(NOTHING_BYTES);
      expect(objects.receive).toBeGreaterThan(4 * NOTHING_BYTES);
    },
    TIMEOUT_MS,
  );

  testIf(requires("gcc", "node"))(
    "finds what an event loop makes of datagrams, on both sides, in JavaScriptCore and in V8",
    async () => {
      const found = await Promise.all(
        (["node-dgram-bun", "node-dgram"] as const).map((peer) => measure(peer, BASE)),
      );
      for (const { send, receive } of found) {
        expect(send).toBeGreaterThan(4 * NOTHING_BYTES);
        expect(receive).toBeGreaterThan(4 * NOTHING_BYTES);
      }
    },
    TIMEOUT_MS,
  );

  testIf(requires("gcc"))(
    "does not tell the sides of one thread apart",
    async () => {
      const { send, receive, both } = await measure("c", `${BASE}/one-thread`);
      expect([send, receive]).toEqual([null, null]);
      expect(both).toBeLessThan(NOTHING_BYTES);
    },
    TIMEOUT_MS,
  );
});
