/** `bun-sockets dump` on files, which takes no right; and what commands do whose reader goes away. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { COMMAND, runCommand } from "../support/command.ts";
import { type PcapFrame, pcapBytes, pcapFrames } from "../support/pcap.ts";
import { requires, testIf } from "../support/require.ts";

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-dump-file-"));
afterAll(() => rmSync(folder, { recursive: true }));

const BEGIN = 1_700_000_000_000_000_001n;
const PACKETS = 3000;

/** A datagram from a port to another one, without a checksum. */
function datagram(source: number, target: number): Uint8Array {
  const header = "020000000002020000000001 0800 4500 0021 0000 4000 4011 0000 0a550001 0a550002";
  const bytes = Buffer.from(`${header} 0000 0000 000d 0000 68656c6c6f`.replaceAll(" ", ""), "hex");
  bytes.writeUInt16BE(source, 34);
  bytes.writeUInt16BE(target, 36);
  return bytes;
}

const frames: PcapFrame[] = Array.from({ length: PACKETS }, (_, i) => ({
  time: BEGIN + BigInt(i) * 1_000_000n,
  bytes: datagram(i, i % 3),
}));
const path = join(folder, "frames.pcap");
writeFileSync(path, pcapBytes(frames));

function shell(script: string, ...values: string[]) {
  const command = COMMAND.map((word) => `'${word}'`).join(" ");
  const text = script.replaceAll("bun-sockets", command);
  const { stdout, stderr, exitCode } = Bun.spawnSync(["bash", "-c", text, "bash", ...values]);
  return { stdout: stdout.toString(), stderr: stderr.toString(), exitCode };
}

describe("dump -r", () => {
  test("has a line for each packet, and counts on standard error", () => {
    const { exitCode, stdout, stderr } = runCommand(["dump", "-r", path]);
    expect([exitCode, stderr]).toEqual([0, `${PACKETS} packets of ${PACKETS} read\n`]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(PACKETS);
    expect(lines[0]).toBe(
      "22:13:20.000000001 10.85.0.1:0 > 10.85.0.2:0 udp payload 5 length 47 checksum none",
    );
    expect(lines[1001]).toStartWith("22:13:21.001000001 10.85.0.1:1001 > 10.85.0.2:2 udp ");
  });

  test("--json has values and nothing else", () => {
    const { stdout, stderr } = runCommand(["dump", "-r", path, "-c", "2", "--json"]);
    expect(stderr).toBe("");
    const values = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(values).toEqual([
      expect.objectContaining({ type: "packet", seconds: 1_700_000_000, nanoseconds: 1 }),
      {
        type: "packet",
        seconds: 1_700_000_000,
        nanoseconds: 1_000_001,
        protocol: "udp",
        source: "10.85.0.1",
        sourcePort: 1,
        destination: "10.85.0.2",
        destinationPort: 1,
        payloadLength: 5,
        checksum: "none",
        length: 47,
        capturedLength: 47,
      },
      { type: "summary", captured: 2, read: 2 },
    ]);
  });

  testIf(requires("tcpdump"))("shows as many as tcpdump does, whatever the filter", () => {
    for (const filter of ["udp dst port 1", "src portrange 10-20", "tcp", "not ip", "len > 46"]) {
      const { stdout } = runCommand(["dump", "-r", path, "--json", ...filter.split(" ")]);
      const { captured } = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "");
      const theirs = Bun.spawnSync(["tcpdump", "-nn", "--count", "-r", path, filter]);
      expect(theirs.stdout.toString(), filter).toBe(
        `${captured} packet${captured === 1 ? "" : "s"}\n`,
      );
    }
  });

  test("-w copies what the filter lets through, cut to -s, byte for byte and with its time", () => {
    const copy = join(folder, "copy.pcap");
    const some = frames.filter((_, i) => i % 3 === 2);
    const options = ["-r", path, "-w", copy, "-s", "44", "udp", "dst", "port", "2"];
    const { exitCode, stdout, stderr } = runCommand(["dump", ...options]);
    expect([exitCode, stdout]).toEqual([0, ""]);
    expect(stderr).toBe(`${some.length} packets of ${PACKETS} read\n`);
    const copied = pcapFrames(readFileSync(copy));
    expect(copied.map(({ time }) => time)).toEqual(some.map(({ time }) => time));
    expect(copied.map(({ bytes }) => Buffer.from(bytes).toString("hex"))).toEqual(
      some.map(({ bytes }) => Buffer.from(bytes.subarray(0, 44)).toString("hex")),
    );
    expect(new Set(copied.map(({ originalLength }) => originalLength))).toEqual(new Set([47]));
  });

  testIf(requires("bash"))("goes through pipes as pcapng", () => {
    const script = "bun-sockets dump -r - -w - < $1 | bun-sockets dump -r - -c 1 dst port 1";
    const { stdout, stderr, exitCode } = shell(script, path);
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toContain(" 10.85.0.1:1 > 10.85.0.2:1 udp ");
  });

  test("shows what comes through a pipe as it comes", async () => {
    const process = Bun.spawn([...COMMAND, "dump", "-r", "-"], { stdin: "pipe", stderr: "ignore" });
    const bytes = pcapBytes(frames.slice(0, 2));
    const record = 16 + (frames[0] as PcapFrame).bytes.length;
    const reader = process.stdout.getReader();
    process.stdin.write(bytes.subarray(0, 24 + record));
    process.stdin.flush();
    const first = Buffer.from((await reader.read()).value ?? []).toString();
    expect(first).toContain(" 10.85.0.1:0 > ");
    process.stdin.write(bytes.subarray(24 + record));
    process.stdin.end();
    const second = Buffer.from((await reader.read()).value ?? []).toString();
    expect(second).toContain(" 10.85.0.1:1 > ");
    expect(await process.exited).toBe(0);
  });

  test("says that there is no room for the file", () => {
    const { exitCode, stdout, stderr } = runCommand(["dump", "-r", path, "-w", "/dev/full"]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^bun-sockets dump: .*ENOSPC.*\/dev\/full.*\n$/);
  });

  test("tells where a file is damaged, after every packet before it", () => {
    const damaged = join(folder, "damaged.pcap");
    writeFileSync(damaged, readFileSync(path).subarray(0, 24 + 63 * 10 + 20));
    const { exitCode, stdout, stderr } = runCommand(["dump", "-r", damaged]);
    expect(exitCode).toBe(1);
    expect(stdout.trimEnd().split("\n")).toHaveLength(10);
    const [counts, message, ...rest] = stderr.trimEnd().split("\n");
    expect(counts).toBe("10 packets of 10 read");
    expect(message).toMatch(/^bun-sockets dump: .*\b654\b.*damaged\.pcap/);
    expect(rest).toEqual([]);
  });

  test("an error is a line, with --debug and its stack", () => {
    const values = ["dump", "-r", join(folder, "nothing")];
    const { exitCode, stderr } = runCommand(values);
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^bun-sockets dump: .*ENOENT.*\n$/);
    const { stderr: long } = runCommand([...values, "--debug"]);
    expect(long).toStartWith(stderr);
    expect(long).toMatch(/^ +at /m);
  });
});

describe("a reader that goes away", () => {
  const testIfBash = testIf(requires("bash", "head"));

  testIfBash("ends the command quietly, as lines and as a file", () => {
    for (const command of [
      "dump -r $1",
      "dump -r $1 --json",
      "dump -r $1 -w -",
      "dump --help",
      "--version",
    ]) {
      const script = `bun-sockets ${command} | head -c 1; echo " \${PIPESTATUS[0]}"`;
      const { stdout, stderr } = shell(script, path);
      expect(stdout.slice(1), command).toBe(" 0\n");
      expect(stderr, command).toBe("");
    }
  });

  testIfBash("who reads nothing at all ends it, too", () => {
    const script = `bun-sockets dump -r $1 | true; echo "\${PIPESTATUS[0]}"`;
    const { stdout, stderr } = shell(script, path);
    expect([stdout, stderr]).toEqual(["0\n", ""]);
  });

  testIf(requires("python3"))("who has made the pipe non-blocking gets every line", () => {
    const script = `
import fcntl, os, subprocess, sys, time
read, write = os.pipe()
fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
child = subprocess.Popen(sys.argv[1:], stdout=write)
os.close(write)
lines = 0
while data := os.read(read, 1000): lines += data.count(b"\\n")
print(lines, child.wait())`;
    const values = ["dump", "-r", path];
    const { stdout } = Bun.spawnSync(["python3", "-c", script, ...COMMAND, ...values]);
    expect(stdout.toString()).toBe(`${PACKETS} 0\n`);
  });

  testIfBash("a full disk is an error", () => {
    for (const command of ["dump -r $1", "--help"]) {
      const { stderr, exitCode } = shell(`bun-sockets ${command} > /dev/full`, path);
      expect(exitCode).toBe(1);
      expect(stderr).toMatch(/^bun-sockets.*ENOSPC.*\n$/m);
      expect(stderr).not.toContain("    at ");
    }
  });
});
