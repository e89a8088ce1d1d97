/**
 * `bun-sockets blast`, `sink`, `echo` and `ping` between two network namespaces: what they count, the
 * interfaces at both ends count too, and so does python3.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { join } from "node:path";
import { COMMAND, type RunningCommand, runCommand } from "../support/command.ts";
import { requires, testIf } from "../support/require.ts";
import { end, type Line, linesOf, listening, summaryOf } from "../support/traffic.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";

const PROBES = join(import.meta.dir, "../support/probes.py");
const IPV6_NEAR = "2001:db8:82::1";
const IPV6_FAR = "2001:db8:82::2";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "python3", "tc")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
let hosts: TwoHosts;

function run(...command: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

const nearIp = (...values: string[]) => run("ip", ...values);

beforeAll(() => {
  if (missing !== undefined) return;
  hosts = makeTwoHosts("bs-blast", 82);
  const { near, far, namespace } = hosts;
  const ends = [
    [nearIp, near, namespace.ip, far, hosts.farAddress],
    [namespace.ip, far, nearIp, near, hosts.nearAddress],
  ] as const;
  // Nobody asks who has an address: only datagrams are on the cable.
  for (const [ip, link, otherIp, other, address] of ends) {
    const [{ address: mac }] = JSON.parse(otherIp("-j", "link", "show", other));
    ip("neigh", "replace", address, "lladdr", mac, "nud", "permanent", "dev", link);
  }
});

afterAll(() => {
  if (missing === undefined) hosts[Symbol.dispose]();
});

/** What both interfaces, and UDP in both namespaces, have counted. */
function counters() {
  const link = (ip: (...values: string[]) => string, name: string, side: "tx" | "rx") =>
    JSON.parse(ip("-j", "-s", "link", "show", name))[0].stats64[side];
  const { near, far, namespace } = hosts;
  return {
    sent: link(nearIp, near, "tx") as { packets: number; bytes: number },
    came: link(namespace.ip, far, "rx") as { packets: number; bytes: number },
    udp6: {
      sent: udp6("Udp6OutDatagrams", []),
      came: udp6("Udp6InDatagrams", namespace.prefix),
    },
  };
}

function udp6(name: string, prefix: readonly string[]): number {
  const text = run(...prefix, "cat", "/proc/net/snmp6");
  return Number(new RegExp(`^${name}\\s+(\\d+)$`, "m").exec(text)?.[1]);
}

async function startSink(...options: string[]) {
  const { prefix } = hosts.namespace;
  const { running, port } = await listening(["sink", "0", ...options], { prefix });
  return { sink: running, port };
}

function blast(target: string, ...options: string[]): Line {
  return summaryOf(runCommand(["blast", target, ...options, "--json"]));
}

/** The sink's summary; what was dropped is told on standard error, too. */
async function summaryOfSink(sink: RunningCommand): Promise<Line> {
  const { exitCode, stdout } = await end(sink);
  expect(exitCode).toBe(0);
  return linesOf({ stdout }).at(-1) as Line;
}

function runsOf(summary: Line): Line[] {
  return [...(summary["runs"] as Line[])].sort((a, b) => (`${a["run"]}` < `${b["run"]}` ? -1 : 1));
}

/** Everything that came is in exactly one of these. */
function cameIn(summary: Line): number {
  const { received, duplicates, tooLate, notices, foreign } = summary as Record<string, number>;
  return [received, duplicates, tooLate, notices, foreign].reduce<number>(
    (a, b) => a + Number(b),
    0,
  );
}

namespaced("blast and sink count what both interfaces count", async () => {
  const { sink, port } = await startSink();
  const before = counters();
  const sent = blast(`${hosts.farAddress}:${port}`, "-c", "20000", "-s", "1000");
  const after = counters();
  const came = await summaryOfSink(sink);
  expect(sent).toMatchObject({ sent: 20_000, notices: 3, notSent: 0 });
  expect([sent["failures"], sent["refused"]]).toEqual([{}, {}]);
  expect(Number(came["received"]) + Number(came["lost"])).toBe(20_000);
  expect(Number(came["datagrams"]) + Number(came["kernelDrops"])).toBe(20_003);
  expect(cameIn(came)).toBe(came["datagrams"] as number);
  expect(came).toMatchObject({ duplicates: 0, reordered: 0, foreign: 0 });
  const packets = [
    after.sent.packets - before.sent.packets,
    after.came.packets - before.came.packets,
  ];
  expect(packets).toEqual([20_003, 20_003]);
  // Ethernet, IP and UDP: 42 bytes.
  const bytes = 20_000 * 1042 + 3 * 74;
  expect([after.sent.bytes - before.sent.bytes, after.came.bytes - before.came.bytes]).toEqual([
    bytes,
    bytes,
  ]);
});

namespaced("a tiny receive buffer loses, and every one is accounted for", async () => {
  const { sink, port } = await startSink("--buffer", "4096", "--no-gro");
  const sent = blast(`${hosts.farAddress}:${port}`, "-c", "30000", "-b", "256");
  const came = await summaryOfSink(sink);
  const { received, lost, kernelDrops, notices } = came as Record<string, number>;
  expect(sent["sent"]).toBe(30_000);
  expect(lost).toBeGreaterThan(0);
  expect(Number(received) + Number(lost)).toBe(30_000);
  // Of the notices of the end, too, some may be.
  expect(kernelDrops).toBe(Number(lost) + 3 - Number(notices));
  expect((came["advice"] as string[])[0]).toStartWith("The receive buffer had no room for ");
});

namespaced("trains arrive as their datagrams", async () => {
  const { sink, port } = await startSink();
  const sent = blast(`${hosts.farAddress}:${port}`, "-c", "5005", "--segments", "10", "-b", "8");
  const came = await summaryOfSink(sink);
  expect(sent).toMatchObject({ sent: 5005, trainsRefused: 0 });
  expect(sent["trains"]).toBeGreaterThan(0);
  expect(Number(came["received"]) + Number(came["lost"])).toBe(5005);
  expect(came).toMatchObject({ duplicates: 0, reordered: 0, foreign: 0 });
});

namespaced("a full queue of the device delays, and loses nothing", async () => {
  const { near } = hosts;
  run(
    "tc",
    "qdisc",
    "add",
    "dev",
    near,
    "root",
    "tbf",
    "rate",
    "40mbit",
    "burst",
    "5kb",
    "limit",
    "10kb",
  );
  try {
    const { sink, port } = await startSink();
    const sent = blast(`${hosts.farAddress}:${port}`, "-c", "1000");
    const came = await summaryOfSink(sink);
    expect(sent).toMatchObject({ sent: 1000, notSent: 0 });
    expect(sent["fullQueues"]).toBeGreaterThan(0);
    expect(came).toMatchObject({ received: 1000, lost: 0, duplicates: 0, reordered: 0 });
  } finally {
    run("tc", "qdisc", "del", "dev", near, "root");
  }
});

namespaced("several senders at once are told apart", async () => {
  const { sink, port } = await startSink();
  const options = ["-r", "2000", "-c", "400", "--json"];
  const target = `${hosts.farAddress}:${port}`;
  const blasts = [0, 1, 2].map(() =>
    Bun.spawn([...COMMAND, "blast", target, ...options], { stdout: "pipe" }),
  );
  const texts = await Promise.all(blasts.map(({ stdout }) => new Response(stdout).text()));
  const runs = texts.map((stdout) => linesOf({ stdout }).at(-1)?.["run"] as string).sort();
  const came = await summaryOfSink(sink);
  expect(new Set(runs).size).toBe(3);
  expect(runsOf(came)).toEqual(
    runs.map((name) =>
      expect.objectContaining({ run: name, sent: 400, received: 400, lost: 0, duplicates: 0 }),
    ),
  );
  expect(came).toMatchObject({ received: 1200, lost: 0, notices: 9 });
});

type Told =
  | readonly ["probe" | "over", run: number, sequence: number, unsent?: number]
  | readonly ["raw", string];

/** Sends what it is told by python3, and gives the port that it came from. */
function send(target: string, port: number, told: readonly Told[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(
    ["python3", PROBES, "send", target, String(port)],
    { stdin: Buffer.from(told.map((one) => `${JSON.stringify(one)}\n`).join("")) },
  );
  expect([success, stderr.toString()]).toEqual([true, ""]);
  return stdout.toString().trim();
}

namespaced("what python3 sends twice, late and not at all is counted so", async () => {
  const { sink, port } = await startSink();
  const { farAddress, nearAddress } = hosts;
  const numbers = [0, 1, 2, 4, 3, 3, 5, 9, 9, 9, 7, 0];
  const told = [
    ...numbers.map((k) => ["probe", 0xdeadbeef, k] as const),
    ["over", 0xdeadbeef, 12] as const,
    // Of another run, where 2 of the 5 numbers came to nothing, and a notice that says less is not believed.
    ["probe", 2, 0] as const,
    ["over", 2, 5, 2] as const,
    ["over", 2, 4, 9] as const,
    // Of another run, all of it; beyond 32 bits, where all before are lost.
    ["probe", 1, 2 ** 32] as const,
    ["probe", 1, 2 ** 32 - 1] as const,
    ["probe", 1, 2 ** 32 - 2 ** 20] as const,
  ];
  const before = counters();
  const from = send(farAddress, port, told);
  const after = counters();
  const came = await summaryOfSink(sink);
  const [small, short, large] = runsOf(came);
  expect(short).toMatchObject({ run: "00000002", sent: 3, received: 1, lost: 2, lostInBuffer: 0 });
  expect(large).toMatchObject({
    run: "deadbeef",
    from: `${nearAddress}:${from}`,
    sent: 12,
    received: 8,
    lost: 4,
    duplicates: 4,
    reordered: 2,
    reorderedMax: 2,
    bytes: 8 * 50,
  });
  expect(small).toMatchObject({
    run: "00000001",
    sent: null,
    received: 2,
    lost: 2 ** 32 - 1,
    reordered: 1,
    tooLate: 1,
    duplicates: 0,
  });
  expect(came["datagrams"]).toBe(told.length);
  expect(cameIn(came)).toBe(told.length);
  expect(after.came.packets - before.came.packets).toBe(told.length);
});

namespaced("what is not ours is foreign, and disturbs nobody", async () => {
  const { sink, port } = await startSink();
  const whole = `62730100${"00000007"}${"00".repeat(8)}${"00".repeat(8)}`;
  const hostile = [
    "",
    "00",
    "62730100",
    whole.slice(0, -2),
    // Another magic, version and kind; a number above 2^53; a second of 2^32 nanoseconds.
    `63${whole.slice(2)}`,
    `62730200${whole.slice(8)}`,
    `62730102${whole.slice(8)}`,
    `${whole.slice(0, 16)}00200000${whole.slice(24)}`,
    `${whole.slice(0, 40)}ffffffff`,
    "a5".repeat(1400),
    "ff".repeat(40_000),
  ];
  const told = [
    ["probe", 7, 0] as const,
    ...hostile.map((text) => ["raw", text] as const),
    ["probe", 7, 1] as const,
  ];
  send(hosts.farAddress, port, told);
  const came = await summaryOfSink(sink);
  expect(came).toMatchObject({ datagrams: 13, received: 2, foreign: 11, lost: 0, duplicates: 0 });
  expect(came["foreignBytes"]).toBe(hostile.join("").length / 2);
  expect(runsOf(came).map(({ run: name }) => name)).toEqual(["00000007"]);
});

namespaced("who makes up runs does not fill the memory", async () => {
  const { sink, port } = await startSink();
  const told = Array.from(
    { length: 300 },
    (_, k) => ["probe", k, k % 2 === 0 ? 0 : 2 ** 53 - 1 - k] as const,
  );
  send(hosts.farAddress, port, told);
  const came = await summaryOfSink(sink);
  expect(runsOf(came)).toHaveLength(256);
  expect(came).toMatchObject({ received: 256, foreign: 44 });
});

namespaced("ping tells duplicates, order and strangers by what python3 answers", async () => {
  const server = Bun.spawn(
    [...hosts.namespace.prefix, "python3", PROBES, "echo", hosts.farAddress],
    { stdout: "pipe" },
  );
  try {
    const { value } = await server.stdout.getReader().read();
    const port = Buffer.from(value ?? [])
      .toString()
      .trim();
    const options = ["-c", "20", "-i", "1ms", "--json"];
    const outcome = runCommand(["ping", `${hosts.farAddress}:${port}`, ...options]);
    expect(summaryOf(outcome)).toMatchObject({
      sent: 20,
      answered: 20,
      lost: 0,
      duplicates: 10,
      reordered: 10,
      late: 0,
    });
  } finally {
    server.kill();
  }
});

namespaced("ping counts what is lost on the way", async () => {
  const { near, namespace, farAddress } = hosts;
  const { running, port } = await listening(["echo", "0"], { prefix: namespace.prefix });
  const target = `${farAddress}:${port}`;
  const options = ["-c", "10", "-i", "1ms", "--timeout", "300ms", "--json"];
  const whole = summaryOf(runCommand(["ping", target, ...options]));
  expect(whole).toMatchObject({ sent: 10, answered: 10, lost: 0 });
  // Of another machine: what comes for it is not taken.
  const [{ address: mac }] = JSON.parse(namespace.ip("-j", "link", "show", hosts.far));
  const reach = (lladdr: string) =>
    nearIp("neigh", "replace", farAddress, "lladdr", lladdr, "nud", "permanent", "dev", near);
  reach("02:00:00:00:00:99");
  try {
    const { exitCode, stdout } = runCommand(["ping", target, ...options]);
    expect(exitCode).toBe(1);
    expect(linesOf({ stdout }).at(-1)).toMatchObject({ sent: 10, answered: 0, lost: 10 });
  } finally {
    reach(mac);
  }
  expect(summaryOf(await end(running))).toMatchObject({ received: 10, answered: 10 });
});

namespaced("over IPv6, blast and sink count what UDP counts", async () => {
  // Last, for who has an IPv6 address speaks of groups.
  const { near, far, namespace } = hosts;
  nearIp("-6", "addr", "add", `${IPV6_NEAR}/64`, "dev", near, "nodad");
  namespace.ip("-6", "addr", "add", `${IPV6_FAR}/64`, "dev", far, "nodad");
  const { sink, port } = await startSink();
  const before = counters();
  const sent = blast(`[${IPV6_FAR}]:${port}`, "-c", "5000", "-r", "50k");
  const came = await summaryOfSink(sink);
  // UDP counts what is received, when it is.
  const after = counters();
  expect(sent).toMatchObject({ sent: 5000, notices: 3 });
  expect(Number(came["received"]) + Number(came["lost"])).toBe(5000);
  expect(after.udp6.sent - before.udp6.sent).toBe(5003);
  expect(after.udp6.came - before.udp6.came).toBe(5003 - Number(came["kernelDrops"]));
  expect(runsOf(came)[0]?.["from"]).toStartWith(`[${IPV6_NEAR}]:`);
});
