/**
 * `bun-sockets blast`, `sink` and `echo` between two network namespaces, where something is too slow, or
 * full, or goes astray.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { RunningCommand, runCommand } from "../support/command.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { end, type Line, linesOf, listening, summaryOf } from "../support/traffic.ts";
import { cameOver, farHardware, NOTHING, reachAt, until, withQueue } from "../support/trouble.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "tc")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
let hosts: TwoHosts;

beforeAll(() => {
  if (missing !== undefined) return;
  hosts = makeTwoHosts("bs-slow", 84);
  // Nobody has to ask for it through a queue that takes nothing.
  reachAt(hosts, farHardware(hosts));
});

afterAll(() => {
  if (missing === undefined) hosts[Symbol.dispose]();
});

async function startSink(...options: string[]) {
  const { prefix } = hosts.namespace;
  const { running, port } = await listening(["sink", "0", ...options], { prefix });
  return { sink: running, target: `${hosts.farAddress}:${port}` };
}

async function summaryOfSink(sink: RunningCommand): Promise<Line> {
  const { exitCode, stdout } = await end(sink);
  expect(exitCode).toBe(0);
  return linesOf({ stdout }).at(-1) as Line;
}

namespaced(
  "a queue that takes nothing does not keep blast beyond its duration, or Ctrl-C",
  async () => {
    await withQueue(hosts, "near", NOTHING, async () => {
      const target = `${hosts.farAddress}:9`;
      for (const rate of [[], ["-r", "1k"]]) {
        const timed = runCommand(["blast", target, "-d", "100ms", ...rate, "--json"]);
        const summary = summaryOf(timed);
        expect(summary).toMatchObject({ sent: 0, notSent: 0 });
        expect(summary["fullQueues"]).toBeGreaterThan(0);
      }
      const blast = new RunningCommand(["blast", target, "-c", "100", "--json"]);
      await blast.until((stdout) => stdout.includes('"interval"'));
      expect(summaryOf(await end(blast))).toMatchObject({ sent: 0 });
    });
  },
);

namespaced("echo waits for room, and answers all", async () => {
  const { running, port } = await listening(["echo", "0", "--buffer", "2Mi"], {
    prefix: hosts.namespace.prefix,
  });
  const target = `${hosts.farAddress}:${port}`;
  // Slower than it is asked, and with more room than the send buffer has: that fills.
  await withQueue(hosts, "far", ["rate", "40mbit", "burst", "5kb", "limit", "4mb"], async () => {
    const sent = summaryOf(runCommand(["blast", target, "-c", "200", "-r", "50k", "--json"]));
    expect([sent["sent"], sent["refused"]]).toEqual([200, {}]);
  });
  // Its receive buffer takes what comes while it waits: with the three notices of the end.
  const answered = summaryOf(await end(running));
  expect(answered).toMatchObject({ received: 203, answered: 203, kernelDrops: 0 });
  expect(answered["failures"]).toEqual({});
});

namespaced("echo counts what it could not answer, and does not stop for it", async () => {
  const { prefix } = hosts.namespace;
  const { running, port } = await listening(["echo", "0"], { prefix });
  const target = `${hosts.farAddress}:${port}`;
  await withQueue(hosts, "far", NOTHING, async () => {
    const ping = runCommand([
      "ping",
      target,
      "-c",
      "20",
      "-i",
      "1ms",
      "--timeout",
      "50ms",
      "--json",
    ]);
    expect([ping.exitCode, linesOf(ping).at(-1)?.["lost"]]).toEqual([1, 20]);
  });
  const after = runCommand(["ping", target, "-c", "5", "-i", "1ms", "--json"]);
  expect(summaryOf(after)).toMatchObject({ answered: 5, lost: 0 });
  const { received, answered, failures } = summaryOf(await end(running));
  const failed = Object.values(failures as Record<string, number>).reduce((a, b) => a + b, 0);
  expect([received, Number(answered) + failed]).toEqual([25, 25]);
});

for (const [kind, options] of [
  ["datagrams", []],
  ["trains", ["--segments", "20"]],
] as const)
  namespaced(
    `what the receive buffer has no room for is told from what is lost on the way: ${kind}`,
    async () => {
      const { sink, target } = await startSink("--buffer", "4096");
      const count = ["-c", "20k", "-s", "500", "-b", "256", "--json"];
      const flood = summaryOf(runCommand(["blast", target, ...count, ...options]));
      const [first] = (await summaryOfSink(sink))["runs"] as [Line];
      expect(first["sent"]).toBe(flood["sent"] as number);
      expect(first["lost"]).toBeGreaterThan(0);
      expect(first["lostInBuffer"]).toBe(first["lost"] as number);
    },
  );

namespaced("what is lost on the way is not lost in the receive buffer", async () => {
  const { sink, target } = await startSink();
  const there = farHardware(hosts);
  const blast = new RunningCommand(["blast", target, "-r", "2k", "--json"]);
  const begin = cameOver(hosts);
  try {
    await until(() => cameOver(hosts) > begin + 100);
    // Of another machine: what comes for it is not taken.
    reachAt(hosts, "02:00:00:00:00:99");
    const middle = cameOver(hosts);
    await until(() => cameOver(hosts) > middle + 100);
    reachAt(hosts, there);
    const again = cameOver(hosts);
    await until(() => cameOver(hosts) > again + 100);
  } finally {
    reachAt(hosts, there);
  }
  const sent = summaryOf(await end(blast));
  const [outcome] = (await summaryOfSink(sink))["runs"] as [Line];
  expect(outcome["sent"]).toBe(sent["sent"] as number);
  expect(outcome["lost"]).toBeGreaterThan(50);
  expect(outcome["lostInBuffer"]).toBe(0);
});

namespaced("a sink at the address of a group is a member of it", async () => {
  const { near, far, namespace } = hosts;
  ip("route", "add", "239.84.0.0/16", "dev", near);
  namespace.ip("route", "add", "239.84.0.0/16", "dev", far);
  const { running: sink, port } = await listening(["sink", "239.84.0.1:0"], {
    prefix: namespace.prefix,
  });
  const sent = runCommand(["blast", `239.84.0.1:${port}`, "-c", "50", "-r", "10k", "--json"]);
  expect(summaryOf(sent)).toMatchObject({ sent: 50, notSent: 0 });
  const [outcome] = (await summaryOfSink(sink))["runs"] as [Line];
  expect(outcome).toMatchObject({ sent: 50, received: 50, lost: 0 });
});

namespaced("an address of the link takes a zone", async () => {
  const { near, far, namespace } = hosts;
  ip("-6", "addr", "add", "fe80::83:1/64", "dev", near, "nodad");
  namespace.ip("-6", "addr", "add", "fe80::83:2/64", "dev", far, "nodad");
  const { running: sink, port } = await listening(["sink", `[fe80::83:2%${far}]:0`], {
    prefix: namespace.prefix,
  });
  const target = `[fe80::83:2%${near}]:${port}`;
  const sent = summaryOf(runCommand(["blast", target, "-c", "50", "-r", "10k", "--json"]));
  expect(sent).toMatchObject({ sent: 50, notSent: 0 });
  const without = runCommand(["blast", `[fe80::83:2]:${port}`, "-c", "1"]);
  expect(without.exitCode).toBe(1);
  expect(without.stderr).toContain("hint: That address is of one link: give the zone");
  const [outcome] = (await summaryOfSink(sink))["runs"] as [Line];
  expect(outcome).toMatchObject({ received: 50, lost: 0 });
  expect(outcome["from"]).toStartWith("[fe80::83:1%");
});
