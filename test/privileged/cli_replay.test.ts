/** `bun-sockets replay`, watched by tcpdump(1) at the other end of a cable. */
import { afterAll, beforeAll, describe, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RunningCommand, runCommand, WITHOUT_RIGHTS } from "../support/command.ts";
import { type PcapFrame, pcapBytes, pcapFrames } from "../support/pcap.ts";
import { requires, testIf } from "../support/require.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";
import { until } from "../support/waiting.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "tcpdump", "setpriv")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-replay-"));
const TYPE = 0x88b5;
const MS = 1_000_000n;
const BEGIN = 1_700_000_000_123_456_789n;
let hosts: TwoHosts;

beforeAll(() => {
  if (missing === undefined) hosts = makeTwoHosts("bs-play", 84);
});

afterAll(() => {
  rmSync(folder, { recursive: true });
  if (missing === undefined) hosts[Symbol.dispose]();
});

/** A frame of so many bytes, which no other is like. */
function frame(number: number, length: number): Uint8Array {
  const bytes = Buffer.alloc(length, number);
  bytes.write("ffffffffffff020000000001", "hex");
  bytes.writeUInt16BE(TYPE, 12);
  bytes.writeUInt32BE(number, 14);
  return bytes;
}

// Some at the same time, some close together, some apart: 122 ms in all.
const GAPS = [0, 0, 0, 1, 0, 2, 5, 0.25, 0.25, 0.5, 40, 0, 3, 20, 0, 0, 50].map(
  (ms) => BigInt(ms * 1000) * 1000n,
);
const LENGTHS = [60, 61, 64, 1514, 1000, 100];
const frames: PcapFrame[] = [];
for (let i = 0, time = BEGIN; i < GAPS.length; i++) {
  time += GAPS[i] as bigint;
  frames.push({ time, bytes: frame(i, LENGTHS[i % LENGTHS.length] as number) });
}
const DURATION_MS = 122;
const BYTES = frames.reduce((sum, { bytes }) => sum + bytes.length, 0);

function write(name: string, list: readonly PcapFrame[], linkType?: number): string {
  const path = join(folder, name);
  writeFileSync(path, pcapBytes(list, linkType));
  return path;
}

const path = write("frames.pcap", frames);

/** tcpdump at the far end, once it listens. */
async function watch(name: string) {
  const target = join(folder, name);
  const options = [
    "-U",
    "--immediate-mode",
    "-s",
    "2000",
    "-B",
    "8192",
    "-Z",
    "root",
    "--time-stamp-precision=nano",
  ];
  const command = ["tcpdump", "-i", hosts.far, ...options, "-w", target, `ether proto ${TYPE}`];
  const child = Bun.spawn([...hosts.namespace.prefix, ...command], {
    stdin: "ignore",
    stderr: "pipe",
  });
  let said = "";
  const reading = (async () => {
    for await (const chunk of child.stderr) said += Buffer.from(chunk).toString();
  })();
  await until(() => said.includes("listening on"), "tcpdump listens");
  const seen = () => pcapFrames(readFileSync(target));
  return {
    /** Waits for so many frames. */
    until: (count: number) => until(() => seen().length >= count, `${count} frames are seen`),
    async end(): Promise<PcapFrame[]> {
      child.kill("SIGINT");
      await child.exited;
      await reading;
      return seen();
    },
  };
}

const bytesOf = (list: readonly PcapFrame[]) =>
  list.map(({ bytes }) => Buffer.from(bytes).toString("hex"));

function replay(...values: string[]) {
  return runCommand(["replay", "-i", hosts.near, ...values]);
}

describe("replay", () => {
  namespaced("sends every byte of every frame in order, at the times of the capture", async () => {
    const watcher = await watch("paced.pcap");
    const { exitCode, stdout, stderr } = replay(path, "--json");
    expect(exitCode, stderr).toBe(0);
    await watcher.until(frames.length);
    const seen = await watcher.end();
    expect(bytesOf(seen)).toEqual(bytesOf(frames));
    const summary = JSON.parse(stdout);
    expect(summary).toMatchObject({
      type: "summary",
      frames: frames.length,
      bytes: BYTES,
      cutInCapture: 0,
    });
    expect(summary.failures).toEqual({});
    // Nothing is sent before it is due.
    expect(summary.durationMs).toBeGreaterThanOrEqual(DURATION_MS);
    expect(summary.framesPerSecond).toBeCloseTo((1000 * frames.length) / summary.durationMs, 0);
    const { min, p50, p99, max } = summary.pacingErrorUs;
    expect([min, p50, p99, max]).toEqual([min, p50, p99, max].toSorted((a, b) => a - b));
    // How well it was kept depends on what else the machine does: told, and not asserted.
    const since = (list: readonly PcapFrame[], i: number) =>
      Number((list[i] as PcapFrame).time - (list[0] as PcapFrame).time) / 1000;
    const off = seen
      .map((_, i) => Math.abs(since(seen, i) - since(frames, i)))
      .sort((a, b) => a - b);
    const told = [off[off.length >> 1], off.at(-1)].map((us) => us?.toFixed(0));
    console.log(`replay: the frames were off by ${told[0]} µs (median), ${told[1]} µs (most)`);
  });

  namespaced(
    "--speed, --rate and --topspeed change the pace, and --loop goes on with it",
    async () => {
      const watcher = await watch("loops.pcap");
      const json = (...values: string[]) => {
        const { exitCode, stdout, stderr } = replay(path, "--json", ...values);
        expect(exitCode, stderr).toBe(0);
        return JSON.parse(stdout);
      };
      const fast = json("--speed", "4", "--loop", "2");
      expect(fast.frames).toBe(2 * frames.length);
      expect(fast.durationMs).toBeGreaterThanOrEqual((2 * DURATION_MS) / 4);
      const rated = json("--rate", "1000", "--loop", "3");
      expect(rated.frames).toBe(3 * frames.length);
      expect(rated.durationMs).toBeGreaterThanOrEqual(3 * frames.length - 1);
      const top = json("--topspeed", "--loop", "20");
      expect([top.frames, top.bytes]).toEqual([20 * frames.length, 20 * BYTES]);
      expect(top.pacingErrorUs).toBeNull();
      await watcher.until(25 * frames.length);
      const once = bytesOf(frames);
      expect(bytesOf(await watcher.end())).toEqual(Array(25).fill(once).flat());
    },
  );

  namespaced("tells in two lines what was sent, and how well the pace was kept", () => {
    const { exitCode, stdout, stderr } = replay(path, "--speed", "100");
    expect(exitCode).toBe(0);
    expect(stderr).toBe(`sending ${path} at ${hosts.near}\n`);
    const [counts, pacing, ...rest] = stdout.trimEnd().split("\n");
    const number = "[\\d.]+";
    expect(counts).toMatch(
      new RegExp(
        `^${frames.length} frames, ${BYTES} bytes in ${number} s: ${number} frames/s, ${number} Mbit/s$`,
      ),
    );
    expect(pacing).toMatch(
      new RegExp(`^pacing error: p50 ${number} µs, p99 ${number} µs, max ${number} µs$`),
    );
    expect(rest).toEqual([]);
  });

  namespaced("reads standard input, and pcapng, also what dump has written", async () => {
    const watcher = await watch("again.pcap");
    const stdin = readFileSync(path);
    const command = ["replay", "-", "-i", hosts.near, "--topspeed"];
    expect(runCommand(command, { stdin }).exitCode).toBe(0);
    const copy = join(folder, "copy.pcapng");
    expect(runCommand(["dump", "-r", path, "-w", copy]).exitCode).toBe(0);
    expect(replay(copy, "--topspeed").exitCode).toBe(0);
    await watcher.until(2 * frames.length);
    expect(bytesOf(await watcher.end())).toEqual([...bytesOf(frames), ...bytesOf(frames)]);
  });

  namespaced("passes over a frame that the interface does not take, and says so", async () => {
    const watcher = await watch("large.pcap");
    const large = { time: BEGIN, bytes: frame(1, 1600) };
    const huge = { time: BEGIN, bytes: frame(2, 70_000) };
    const cut = { time: BEGIN, bytes: frame(3, 80), originalLength: 1000 };
    const [first, last] = frames as [PcapFrame, PcapFrame];
    const file = write("large", [first, large, huge, cut, last]);
    const { exitCode, stdout } = replay(file, "--json", "--topspeed");
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      frames: 3,
      failures: { EMSGSIZE: 2 },
      cutInCapture: 1,
    });
    const text = replay(file, "--topspeed").stdout;
    expect(text).toContain("not sent: 2 frames (EMSGSIZE)\n");
    expect(text).toContain("sent as short as they were captured: 1 frames\n");
    await watcher.until(6);
    const sent = bytesOf([first, cut, last]);
    expect(bytesOf(await watcher.end())).toEqual([...sent, ...sent]);
  });

  namespaced("sends what is before the damage of a file, and tells where it is", async () => {
    const watcher = await watch("damaged.pcap");
    const file = join(folder, "damaged");
    const bytes = readFileSync(path);
    writeFileSync(file, bytes.subarray(0, bytes.length - 10));
    const { exitCode, stdout, stderr } = replay(file, "--topspeed", "--json");
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout).frames).toBe(frames.length - 1);
    const offset = bytes.length - 16 - (frames.at(-1) as PcapFrame).bytes.length;
    const [, message, ...rest] = stderr.trimEnd().split("\n");
    expect(message).toMatch(new RegExp(`^bun-sockets replay: .*\\b${offset}\\b`));
    expect(rest).toEqual([]);
    await watcher.until(frames.length - 1);
    expect(bytesOf(await watcher.end())).toEqual(bytesOf(frames.slice(0, -1)));
  });

  namespaced("refuses frames of another link type than the interface has", () => {
    const raw = write("raw", [{ time: BEGIN, bytes: Buffer.from("45", "hex") }], 101);
    const { exitCode, stdout, stderr } = replay(raw, "--json");
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout).frames).toBe(0);
    expect(stderr).toContain(
      `Cannot send frames of link type raw at ${hosts.near}: expected ethernet\n`,
    );
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    namespaced(`ends by ${signal} with its summary, in a pause or at full speed`, async () => {
      const [first, second] = frames as [PcapFrame, PcapFrame];
      const slow = write("slow", [first, { ...second, time: BEGIN + 60_000n * MS }]);
      const watcher = await watch(`${signal}.pcap`);
      const running = new RunningCommand(["replay", slow, "-i", hosts.near, "--json"]);
      await watcher.until(1);
      running.signal(signal);
      const paused = await running.ended();
      expect(paused.exitCode).toBe(0);
      const summary = JSON.parse(paused.stdout);
      expect(summary.frames).toBe(1);
      expect(summary.failures).toEqual({});
      await watcher.end();
      const loops = ["--topspeed", "--loop", "2147483647"];
      const busy = new RunningCommand(["replay", path, "-i", hosts.near, "--json", ...loops]);
      await busy.until((_, stderr) => stderr.startsWith("sending "));
      busy.signal(signal);
      const stopped = await busy.ended();
      expect(stopped.exitCode).toBe(0);
      expect(JSON.parse(stopped.stdout).failures).toEqual({});
    });
  }

  namespaced("says which right is missing, and that there is no such interface or file", () => {
    const { exitCode, stdout, stderr } = runCommand(["replay", path, "-i", hosts.near], {
      prefix: WITHOUT_RIGHTS,
    });
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^bun-sockets replay: socket EPERM: .*\nhint: .*CAP_NET_RAW.*\n$/);
    const nowhere = runCommand(["replay", path, "-i", "bs-nowhere"]);
    expect([nowhere.exitCode, nowhere.stdout]).toEqual([1, ""]);
    expect(nowhere.stderr).toContain("ENODEV");
    const nothing = replay(join(folder, "nothing"));
    expect(nothing.exitCode).toBe(1);
    expect(nothing.stderr).toContain("ENOENT");
  });
});
