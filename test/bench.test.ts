/**
 * Every benchmark runs once, in its quick form, and prints what programs and people read. The
 * numbers of such a run mean nothing, and nothing is asked of them but to be numbers.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { CELLS } from "../bench/cells.ts";
import type { ComparisonOutput } from "../bench/compare.ts";
import { hasUnixDgram } from "../bench/peers/child.ts";
import { cores } from "../bench/peers/echo.ts";
import { isInstalled } from "../bench/peers/suite_programs.ts";
import { canMakeVeth } from "../bench/peers/veth.ts";
import type { ResultLine, SuiteLine } from "../bench/results.ts";
import { requires, testIf } from "./support/require.ts";

const root = join(import.meta.dir, "..");
const TIMEOUT_MS = 60_000;

const KEYS = [
  ...["bench", "case", "peer", "bytes", "batch", "ns", "ns_min", "ns_max", "send_ns", "receive_ns"],
  ...["lost", "rounds", "ratio", "ratio_min", "ratio_max"],
];
// What a line about an echo says besides.
const ECHO_KEYS = [
  ...["ours", "to_c", "to_bun", "cpu_ns", "client_cpu_ns", "p50_us", "p90_us", "p99_us"],
  ...["mean_us", "max_us", "rtt_per_s", "wakeups"],
];
// And what one about a stream says.
const STREAM_KEYS = ["ours", "mb_s", "mb_s_min", "mb_s_max", "speed_to_c", "calls_per_mib"];
// And one about frames.
const FRAME_KEYS = ["cpu_ns", "process_cpu_ns", "frames_per_s", "waits"];
const TEXTS = ["bench", "case", "peer", "ours"];
// What a benchmark of something other than datagrams has no value for.
const NULLABLE = ["bytes", "batch", "send_ns", "receive_ns", "lost"];

interface Line {
  readonly case: string;
  readonly peer: string;
  readonly bytes: number | null;
}

/** The lines of `--json`; says what is wrong with the first that is not as it should be. */
function readLines(output: string, keys: readonly string[] = KEYS): Line[] {
  return output
    .trimEnd()
    .split("\n")
    .map((text) => {
      const line: Record<string, unknown> = JSON.parse(text);
      expect(Object.keys(line).sort()).toEqual([...keys].sort());
      for (const [key, value] of Object.entries(line)) {
        if (TEXTS.includes(key)) expect(value, key).toBeString();
        else if (!NULLABLE.includes(key) || value !== null) expect(value, key).toBeFinite();
      }
      return line as unknown as Line;
    });
}

function runJson(file: string, expected: { peers: readonly string[]; sizes?: readonly number[] }) {
  const lines = readLines(run(file, "--quick", "--json"));
  const peers = new Set(lines.map(({ peer }) => peer));
  expect([...peers].sort()).toEqual([...expected.peers].sort());
  const sizes = new Set(lines.map(({ bytes }) => bytes).filter((bytes) => bytes !== null));
  expect([...sizes].sort()).toEqual([...(expected.sizes ?? [])].sort());
}

/** Runs a benchmark of echoes, and compares the peers of each of its cases. */
function runEchoes(file: string, expected: Record<string, readonly string[]>) {
  const lines = readLines(run(file, "--quick", "--json"), [...KEYS, ...ECHO_KEYS]);
  const peers: Record<string, string[]> = {};
  for (const line of lines) {
    peers[line.case] ??= [];
    peers[line.case]?.push(line.peer);
    expect(line.bytes).toBe(64);
  }
  expect(peers).toEqual(expected as Record<string, string[]>);
}

function run(file: string, ...values: readonly string[]): string {
  const command = [process.execPath, join(root, "bench", file), ...values];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { timeout: TIMEOUT_MS });
  expect(exitCode, stderr.toString()).toBe(0);
  return stdout.toString();
}

// What is known of every peer, whatever it is.
const SPREADS = ["ns", "sendCpuNs", "receiveCpuNs", "datagramsPerSecond", "gbitPerSecond"] as const;

/** The lines of the suite: an environment, and results that lack nothing. */
function readSuite(output: string): ResultLine[] {
  const all = output.trimEnd().split("\n");
  const [environment, ...lines] = all.map((text): SuiteLine => JSON.parse(text));
  expect(environment).toMatchObject({ kind: "environment", bun: Bun.version, cores });
  return lines.map((line) => {
    if (line.kind !== "result") throw new Error(`a second ${line.kind}`);
    expect(line.datagrams).toBeGreaterThan(0);
    // On loopback, and with room for all that are on their way.
    expect(line.lost).toBe(0);
    for (const key of SPREADS) expect(line[key]?.median, `${line.peer} ${key}`).toBeGreaterThan(0);
    expect(line.sendCallsPerDatagram === null, line.peer).toBe(!isCounted(line.peer));
    expect(line.ratioToC === null).toBe(line.peer === "c");
    const { p50 = 0, p90 = 0, p99 = 0, max = 0 } = line.latencyUs ?? {};
    expect([p50, p90, p99, max]).toEqual([p50, p90, p99, max].sort((a, b) => a - b));
    expect(p50).toBeGreaterThan(0);
    return line;
  });
}

// What knows its own calls says so; those of the others strace counts, but not in the quick form.
function isCounted(peer: string): boolean {
  return ["bun-sockets", "c", "python"].includes(peer);
}

/** Runs a comparison in this repository. */
function runComparison(file: string, ...values: readonly string[]): ComparisonOutput[] {
  const command = [process.execPath, join(root, "bench", file), ...values];
  // Whoever runs the tests need not be who owns the checkout.
  const git = {
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "safe.directory",
    GIT_CONFIG_VALUE_0: "*",
  };
  const options = { cwd: root, env: { ...process.env, ...git }, timeout: TIMEOUT_MS };
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, options);
  expect(stderr.toString()).toBe("");
  const lines = stdout.toString().trimEnd().split("\n");
  const output = lines.map((text): ComparisonOutput => JSON.parse(text));
  expect(output.at(-1)).toMatchObject({ kind: "conclusion", exitCode });
  return output;
}

const UDP = { peers: ["bun-sockets", "c", "bun-udp", "node-dgram", "node"], sizes: [64, 1200] };
// Node takes part where somebody has installed what it needs: see bench/README.md.
const UNIX = {
  peers: ["bun-sockets", "c", ...(hasUnixDgram() ? ["node"] : [])],
  sizes: [64, 1200],
};

const ECHO = {
  events: ["bun-udp", "node-dgram", "node"],
  waiting: ["promise", "batches", "handler", "sync"],
};
const ONE_CORE = [...ECHO.waiting, "c", ...ECHO.events];
const STREAMS = ["promise", "sync", "c", "bun", "node"];
// Who takes part in the cases of udp_offload.ts.
const OFFLOAD: Readonly<Record<string, readonly string[]>> = {
  "GSO and GRO": ["bun-sockets", "c", "bun-udp", "node"],
  GSO: ["bun-sockets", "c"],
  GRO: ["bun-sockets", "c"],
  batch: ["bun-sockets", "c"],
  metadata: ["bun-sockets", "none"],
  "metadata, with TTL and time": ["bun-sockets", "none"],
};
const VETH = ["veth, GSO and GRO", "veth, GSO"];
const TWO_CORES = [...ECHO.waiting, "busy", "c", "c-spin", ...ECHO.events];

// Who takes part in the cases of capture.ts.
const CAPTURE: Readonly<Record<string, readonly string[]>> = {
  count: ["ring", "c"],
  offset: ["ring", "c", "socket", "c-recvmmsg"],
  view: ["ring", "c"],
  packets: ["ring", "c"],
  ports: ["ring", "c"],
  headers: ["ring", "c"],
  packetview: ["ring", "c"],
  promise: ["ring", "c"],
  loop: ["ring", "c"],
  pcapng: ["ring", "tcpdump"],
};

// Files that measure nothing. What they do has tests of its own.
const NO_BENCHMARKS = [
  "cells.ts",
  "charts.ts",
  "environment.ts",
  "history.ts",
  "places.ts",
  "record.ts",
  "report.ts",
  "results.ts",
  "suite_progress.ts",
  "suite_result.ts",
  "suite_run.ts",
  "suite_table.ts",
  "support.ts",
];

// Every benchmark has a row: what it needs, and what it is to print.
const BENCHMARKS: Record<string, { needs: readonly string[]; check: (file: string) => void }> = {
  "async_latency.ts": {
    needs: ["gcc", "node"],
    check: (file) =>
      runEchoes(file, {
        "tight, one core": ONE_CORE,
        "paced, one core": ONE_CORE,
        ...(cores > 1 && { "tight, two cores": TWO_CORES, "paced, two cores": TWO_CORES }),
      }),
  },
  "capture.ts": {
    needs: ["gcc", "tcpdump"],
    check: (file) => {
      const output = run(file, "--quick", "--json");
      // Without the right to make namespaces it has said so, and ended well.
      if (!canMakeVeth()) return expect(output).toBe("");
      const lines = readLines(output, [...KEYS, ...FRAME_KEYS]);
      const found = lines.map((line) => `${line.case} ${line.peer} ${line.bytes}`);
      const expected = [64, 1200].flatMap((bytes) =>
        Object.entries(CAPTURE).flatMap(([name, peers]) =>
          peers.map((peer) => `${name} ${peer} ${bytes}`),
        ),
      );
      expect(found).toEqual(expected);
    },
  },
  "compare.ts": {
    needs: ["git", "tar"],
    check: (file) => {
      // HEAD may have another lock file, and then take an installation from the network.
      const values = ["WORKTREE", "WORKTREE", "ffi_call", "--quick", "--rounds", "1", "--json"];
      const lines = runComparison(file, ...values);
      const ratios = lines.filter((line) => line.kind === "ratio");
      const found = ratios.map((line) => `${line.case} ${line.peer}`);
      const cases = { "__errno_location()": ["table", "direct"], "listen(-1)": ["sys", "direct"] };
      const expected = Object.entries(cases).flatMap(([name, peers]) =>
        peers.map((peer) => `${name} ${peer}`),
      );
      expect(found.sort()).toEqual(expected.sort());
      for (const line of ratios) expect(line.ratio).toBeGreaterThan(0);
      // One round says nothing for sure.
      expect(lines.at(-1)).toMatchObject({ verdict: "too few rounds", exitCode: 3 });
    },
  },
  "echo_server.ts": {
    needs: ["gcc", "node"],
    check: (file) =>
      runEchoes(file, {
        [cores > 1 ? "two cores" : "one core"]: [...ECHO.waiting, "c", "c-single", ...ECHO.events],
      }),
  },
  "ffi_call.ts": {
    needs: [],
    check: (file) => runJson(file, { peers: ["table", "sys", "direct"] }),
  },
  "import.ts": {
    needs: [],
    check: (file) => runJson(file, { peers: ["bun-sockets", "empty"] }),
  },
  "suite.ts": {
    needs: ["gcc", "node", "python3"],
    check: (file) => {
      const base = "udp4/64/sendmmsg-recvmmsg";
      const names = [base, "udp4/1200/gso-gro", "unix/64/sendmmsg-recvmmsg"];
      const short = ["--quick", "--rounds", "1", "--round-ms", "10"];
      const lines = readSuite(run(file, ...names, ...short, "--json"));
      const cells = CELLS.filter(({ name }) => names.includes(name));
      const peers = cells.flatMap(({ name, peers }) =>
        peers.filter(isInstalled).map((peer) => `${name} ${peer}`),
      );
      expect(lines.map((line) => `${line.cell} ${line.peer}`).sort()).toEqual(peers.sort());
      const table = run(file, "udp4/64/gso-gro", "--only", "c", "--rounds", "1");
      for (const text of ["receive paths", "udp4/64/gso-gro", "Gbit/s", "p50 µs"])
        expect(table).toContain(text);
    },
  },
  "tcp_throughput.ts": {
    needs: ["gcc", "node"],
    check: (file) => {
      const lines = readLines(run(file, "--quick", "--json"), [...KEYS, ...STREAM_KEYS]);
      const found = lines.map(({ peer, bytes }) => `${peer} ${bytes}`);
      const peers = ["promise", "sync", "c", "bun", "node"];
      const expected = [65536, 1024].flatMap((bytes) => peers.map((peer) => `${peer} ${bytes}`));
      expect(found).toEqual(expected);
    },
  },
  "udp_batch.ts": { needs: ["gcc", "node"], check: (file) => runJson(file, UDP) },
  "udp_offload.ts": {
    needs: ["gcc", "node"],
    check: (file) => {
      const lines = readLines(run(file, "--quick", "--json"));
      const cases = [...Object.keys(OFFLOAD), ...(canMakeVeth() ? VETH : [])];
      const found = new Set(lines.map((line) => line.case));
      expect([...found].sort()).toEqual([...cases].sort());
      for (const line of lines) {
        const peers = OFFLOAD[line.case] ?? ["bun-sockets", "c"];
        expect(peers).toContain(line.peer);
        expect([64, 512, 1200]).toContain(line.bytes as number);
      }
    },
  },
  "udp_single.ts": { needs: ["gcc", "node"], check: (file) => runJson(file, UDP) },
  "unix_datagram.ts": { needs: ["gcc"], check: (file) => runJson(file, UNIX) },
  "unix_latency.ts": {
    needs: ["gcc", "node"],
    check: (file) =>
      runEchoes(file, {
        "tight, one core": STREAMS,
        "paced, one core": STREAMS,
        ...(cores > 1 && { "tight, two cores": STREAMS }),
      }),
  },
};

describe("benchmarks", () => {
  test("have a row each", () => {
    const files = [...new Bun.Glob("*.ts").scanSync(join(root, "bench"))];
    const benchmarks = files.filter((file) => !NO_BENCHMARKS.includes(file)).sort();
    expect(benchmarks).toEqual(Object.keys(BENCHMARKS));
  });

  for (const [file, { needs, check }] of Object.entries(BENCHMARKS)) {
    testIf(requires(...needs))(`${file} runs and prints its lines`, () => check(file), TIMEOUT_MS);
  }
});

describe("readLines()", () => {
  const line = Object.fromEntries(KEYS.map((key) => [key, TEXTS.includes(key) ? key : 1]));

  test("reads lines that have every key", () => {
    const text = [line, { ...line, bytes: null, lost: null }].map((one) => JSON.stringify(one));
    expect(readLines(`${text.join("\n")}\n`)).toHaveLength(2);
  });

  test.each([
    ["a key too many", { ...line, extra: 1 }],
    ["a key too few", { ...line, ratio_max: undefined }],
    ["no number", { ...line, ns: null }],
    ["a text for a number", { ...line, ratio: "1" }],
    ["a number for a text", { ...line, peer: 1 }],
  ])("refuses %s", (_, wrong) => {
    expect(() => readLines(JSON.stringify(wrong))).toThrow();
  });

  test("refuses what is no JSON", () => {
    expect(() => readLines("ns 12\n")).toThrow(SyntaxError);
  });
});
