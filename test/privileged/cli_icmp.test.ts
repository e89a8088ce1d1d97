/** `bun-sockets icmp`, beside ping(8) where both ask the same. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { RunningCommand, runCommand, WITHOUT_RIGHTS } from "../support/command.ts";
import { requires, testIf } from "../support/require.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "ping", "setpriv")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
let hosts: TwoHosts;

beforeAll(() => {
  if (missing !== undefined) return;
  hosts = makeTwoHosts("bs-icmp", 81);
  hosts.namespace.ip("-6", "addr", "add", "2001:db8:81::2/64", "dev", hosts.far, "nodad");
  Bun.spawnSync(["ip", "-6", "addr", "add", "2001:db8:81::1/64", "dev", hosts.near, "nodad"]);
});

afterAll(() => {
  if (missing === undefined) hosts[Symbol.dispose]();
});

interface Summary {
  readonly type: "summary";
  readonly sent: number;
  readonly answered: number;
  readonly lost: number;
  readonly lostPercent: number;
  readonly waiting: number;
  readonly duplicates: number;
  readonly roundTripMs: Record<"min" | "p50" | "p90" | "p99" | "max" | "mean", number> | null;
}

interface Line {
  readonly type: "reply" | "failure" | "summary";
  readonly [name: string]: unknown;
}

function parse(stdout: string): { lines: Line[]; summary: Summary } {
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Line);
  return { lines: lines.slice(0, -1), summary: lines.at(-1) as unknown as Summary };
}

/** What ping(8) counts: requests, answers, its exit code. */
function ping(...values: string[]): { sent: number; answered: number; exitCode: number | null } {
  const { stdout, exitCode } = Bun.spawnSync(["ping", "-n", ...values]);
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(stdout.toString());
  return { sent: Number(counts?.[1]), answered: Number(counts?.[2]), exitCode };
}

namespaced("icmp counts what ping counts, over IPv4 and IPv6", () => {
  for (const host of [hosts.farAddress, "2001:db8:81::2", "127.0.0.1", "::1"]) {
    const theirs = ping("-c", "4", "-i", "0.01", "-s", "100", host);
    const options = ["-c", "4", "-i", "10ms", "-s", "100", "--json"];
    const { exitCode, stdout, stderr } = runCommand(["icmp", host, ...options]);
    expect(stderr).toBe("");
    const { lines, summary } = parse(stdout);
    expect({ sent: summary.sent, answered: summary.answered, exitCode }).toEqual(theirs);
    expect(theirs).toEqual({ sent: 4, answered: 4, exitCode: 0 });
    const replies: unknown[] = lines.map(
      ({ type, address, sequence, ttl, payloadBytes, duplicate }) => ({
        type,
        address,
        sequence,
        ttl,
        payloadBytes,
        duplicate,
      }),
    );
    const reply = { address: host, ttl: 64, payloadBytes: 100, duplicate: false };
    expect(replies).toEqual(
      [1, 2, 3, 4].map((sequence) => ({ type: "reply", ...reply, sequence })),
    );
    const times = lines.map(({ roundTripMs }) => roundTripMs as number).sort((a, b) => a - b);
    const {
      min = 0,
      max = 0,
      p50 = 0,
      mean = 0,
    }: Partial<Summary["roundTripMs"] & object> = summary.roundTripMs ?? {};
    expect([min, max]).toEqual([times[0] as number, times[3] as number]);
    expect(p50).toBeGreaterThanOrEqual(times[1] as number);
    expect(p50).toBeLessThan((times[1] as number) * 1.002 + 0.001);
    expect(mean).toBeCloseTo(times.reduce((sum, time) => sum + time, 0) / 4, 2);
  }
});

namespaced("icmp has a line for each answer, and two at the end", () => {
  const { exitCode, stdout, stderr } = runCommand(["icmp", hosts.farAddress, "-c", "2", "-i", "0"]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  const [title, first, second, counts, times, ...rest] = stdout.trimEnd().split("\n");
  const number = "\\d+(\\.\\d{1,3})?";
  expect(title).toBe(`${hosts.farAddress}: 56 bytes of payload`);
  const answer = `56 bytes from ${hosts.farAddress}: seq N ttl 64 time ${number} ms`;
  expect(first).toMatch(new RegExp(`^${answer.replace("N", "1")}$`));
  expect(second).toMatch(new RegExp(`^${answer.replace("N", "2")}$`));
  expect(counts).toBe(`${hosts.farAddress}: 2 sent, 2 answered, 0 lost (0 %)`);
  const names = ["min", "mean", "p50", "p90", "p99", "p99.9", "max"].map(
    (name) => `${name} ${number}`,
  );
  expect(times).toMatch(new RegExp(`^round trip in ms: ${names.join(", ")}$`));
  expect(rest).toEqual([]);
});

namespaced("icmp looks names up, and -4 and -6 choose among their addresses", () => {
  for (const [option, address] of [
    ["-4", "127.0.0.1"],
    ["-6", "::1"],
  ] as const) {
    const { exitCode, stdout } = runCommand(["icmp", "localhost", option, "-c", "1"]);
    expect(exitCode).toBe(0);
    expect(stdout).toStartWith(
      `localhost (${address}): 56 bytes of payload\n56 bytes from ${address}: `,
    );
  }
});

namespaced("icmp without an answer ends with 1, as ping does", () => {
  const silent = "10.81.0.99";
  const theirs = ping("-c", "2", "-i", "0.01", "-W", "0.2", silent);
  const options = ["-c", "2", "-i", "10ms", "--timeout", "200ms"];
  const { exitCode, stdout, stderr } = runCommand(["icmp", silent, ...options, "--json"]);
  const { lines, summary } = parse(stdout);
  expect({ sent: summary.sent, answered: summary.answered, exitCode }).toEqual(theirs);
  expect([exitCode, stderr]).toEqual([1, ""]);
  expect(lines.map(({ type, sequence }) => [type, sequence])).toEqual([
    ["failure", 1],
    ["failure", 2],
  ]);
  expect(summary).toMatchObject({ lost: 2, lostPercent: 100, waiting: 0, roundTripMs: null });
  const text = runCommand(["icmp", silent, ...options]);
  expect(text.stdout).toContain("\nno answer: seq 1");
  expect(text.stdout).toEndWith(`${silent}: 2 sent, 0 answered, 2 lost (100 %)\n`);
});

namespaced("icmp tells who refuses, and why", () => {
  hosts.namespace.ip("route", "add", "unreachable", "198.51.100.0/24");
  Bun.spawnSync(["ip", "route", "add", "198.51.100.0/24", "via", hosts.farAddress]);
  Bun.spawnSync([...hosts.namespace.prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
  const { exitCode, stdout } = runCommand(["icmp", "198.51.100.1", "-c", "1", "--json"]);
  const { lines } = parse(stdout);
  expect(exitCode).toBe(1);
  expect(lines).toMatchObject([{ type: "failure", sequence: 1, code: "EHOSTUNREACH" }]);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  namespaced(`icmp ends by ${signal} with its summary`, async () => {
    const running = new RunningCommand(["icmp", hosts.farAddress, "-i", "10ms", "--json"]);
    await running.until((stdout) => stdout.split("\n").length > 50);
    running.signal(signal);
    const { exitCode, stdout, stderr } = await running.ended();
    expect([exitCode, stderr]).toEqual([0, ""]);
    const { lines, summary } = parse(stdout);
    expect(lines.length).toBeGreaterThanOrEqual(50);
    expect(summary).toMatchObject({ type: "summary", answered: lines.length, lost: 0 });
    expect(summary.sent).toBe(summary.answered + summary.waiting);
    expect(summary.waiting).toBeLessThanOrEqual(1);
  });
}

namespaced("icmp says which right is missing, and what grants it", () => {
  // A new namespace lets nobody in.
  const { exitCode, stdout, stderr } = runCommand(["icmp", "127.0.0.1", "-c", "1"], {
    prefix: ["unshare", "-n", ...WITHOUT_RIGHTS],
  });
  expect([exitCode, stdout]).toEqual([1, ""]);
  const [message, hint, ...rest] = stderr.trimEnd().split("\n");
  expect(message).toMatch(/^bun-sockets icmp: socket E(ACCES|PERM): /);
  expect(hint).toStartWith("hint: ");
  expect(hint).toContain("net.ipv4.ping_group_range");
  expect(hint).toContain("cap_net_raw");
  expect(rest).toEqual([]);
});

test("icmp says that there is no such host", () => {
  const { exitCode, stdout, stderr } = runCommand(["icmp", "no such host"]);
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/^bun-sockets icmp: .*EAI_/);
});
