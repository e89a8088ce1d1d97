import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires, testIf } from "./support/require.ts";

const bench = join(import.meta.dir, "../bench");
const GROUPS = 100;
// The calls that move datagrams or wait for them. send(2) and recv(2) are sendto and recvfrom to
// the kernel.
const CALLS = ["sendto", "sendmmsg", "recvfrom", "recvmmsg", "poll", "ppoll"];

// What a benchmark and a peer of it ask of the kernel, by name.
function count(file: string, peer: string): Record<string, number> {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-strace-"));
  try {
    const output = join(folder, "calls");
    const options = ["--json", "--rounds", "1", "--groups", `${GROUPS}`, "--only", peer];
    const strace = ["strace", "-f", "-c", "-o", output, "-e", `trace=${CALLS.join(",")}`];
    const run = Bun.spawnSync([...strace, process.execPath, join(bench, file), ...options]);
    expect(`${run.exitCode} ${run.stderr}`).toBe("0 ");
    return parse(readFileSync(output, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// A row of `strace -c`: % time, seconds, usecs/call, calls, errors or nothing, name.
function parse(table: string): Record<string, number> {
  const rows = table.matchAll(/^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm);
  return Object.fromEntries(
    [...rows].map(([, calls, name]) => [name, Number(calls)]).filter(([name]) => name !== "total"),
  );
}

const missing = requires("strace") ?? requires("gcc");

for (const [file, calls] of [
  ["udp_batch.ts", ["sendmmsg", "recvmmsg"]],
  ["udp_single.ts", ["sendto", "recvfrom"]],
  ["unix_datagram.ts", ["sendmmsg", "recvmmsg", "sendto", "recvfrom"]],
] as const) {
  testIf(missing)(
    `bench/${file} makes the system calls of its C peer, within 2 %`,
    () => {
      const ours = count(file, "bun-sockets");
      const theirs = count(file, "c");
      for (const name of calls) expect(theirs[name]).toBeGreaterThan(GROUPS);
      for (const name of CALLS) {
        // Four calls of room for a rare one: poll stands for a wait that the machine's load caused.
        const room = Math.max(0.02 * (theirs[name] ?? 0), 4);
        const apart = Math.abs((ours[name] ?? 0) - (theirs[name] ?? 0));
        expect([name, apart <= room, ours, theirs]).toEqual([name, true, ours, theirs]);
      }
    },
    60_000,
  );
}

test("parse() reads a table of strace -c", () => {
  const table =
    "% time     seconds  usecs/call     calls    errors syscall\n" +
    "------ ----------- ----------- --------- --------- ----------------\n" +
    " 80.00    0.123456          12      1000           sendmmsg\n" +
    " 20.00    0.023456           2       500         3 poll\n" +
    "------ ----------- ----------- --------- --------- ----------------\n" +
    "100.00    0.146912                  1500         3 total\n";
  expect(parse(table)).toEqual({ sendmmsg: 1000, poll: 500 });
});
