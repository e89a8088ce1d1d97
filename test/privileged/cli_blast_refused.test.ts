/**
 * `bun-sockets blast` and `ping` between two network namespaces, where what they send is refused: by a
 * firewall, for want of a route, or because it is too long.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { RunningCommand, runCommand } from "../support/command.ts";
import { ip } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";
import { end, type Line, linesOf, listening } from "../support/traffic.ts";
import { cameOver, firewall, run, until, withoutFirewall } from "../support/trouble.ts";
import { makeTwoHosts, type TwoHosts } from "../support/two_hosts.ts";

const LIMIT_MS = 30_000;

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "nsenter", "python3")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);
const walled = testIf(missing ?? withoutFirewall());
let hosts: TwoHosts;

beforeAll(() => {
  if (missing === undefined) hosts = makeTwoHosts("bs-refuse", 83);
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

/** What keeps datagrams from going out, and what lets them out again. */
const OBSTACLES = [
  ["EPERM", ["-r", "2k"], () => firewall("on"), () => firewall("off")],
  [
    "EACCES",
    // Trains.
    ["-r", "20k", "--segments", "10"],
    () => ip("route", "add", "prohibit", hosts.farAddress),
    () => ip("route", "del", "prohibit", hosts.farAddress),
  ],
  [
    "ENETUNREACH",
    // As fast as it goes.
    [],
    () => ip("link", "set", hosts.near, "down"),
    () => ip("link", "set", hosts.near, "up"),
  ],
] as const;

for (const [code, options, close, open] of OBSTACLES)
  (code === "EPERM" ? walled : namespaced)(
    `${["blast", ...options].join(" ")} outlives ${code} in the middle, and who receives misses nothing that was not sent`,
    async () => {
      const { sink, target } = await startSink();
      const blast = new RunningCommand(["blast", target, ...options, "--json"]);
      const begin = cameOver(hosts);
      await until(() => cameOver(hosts) > begin + 500);
      close();
      try {
        await blast.until((stdout) => /"notSent":[1-9]/.test(stdout));
      } finally {
        open();
      }
      const again = cameOver(hosts);
      await until(() => cameOver(hosts) > again + 500);
      const { exitCode, stdout, stderr } = await end(blast);
      // Some could not be sent: that is told by the exit code, too.
      expect([exitCode, stderr]).toEqual([1, ""]);
      const sent = linesOf({ stdout }).at(-1) as Line;
      const failures = sent["failures"] as Record<string, number>;
      expect(Object.keys(failures)).toEqual([code]);
      expect([sent["notSent"], sent["refused"]]).toEqual([failures[code], {}]);
      const [outcome] = (await summaryOfSink(sink))["runs"] as [Line];
      expect(outcome["sent"]).toBe(sent["sent"] as number);
      expect(Number(outcome["received"]) + Number(outcome["lost"])).toBe(sent["sent"] as number);
      // What is lost is lost in the buffer of a machine that has much else to do, or while the link
      // goes up and down.
      if (code !== "ENETUNREACH") expect(outcome["lost"]).toBe(outcome["lostInBuffer"] as number);
      expect(outcome["duplicates"]).toBe(0);
    },
    LIMIT_MS,
  );

walled("blast gives up where nothing goes out at all, and says why", () => {
  const target = `${hosts.farAddress}:9`;
  firewall("on");
  try {
    const { exitCode, stdout, stderr } = runCommand(["blast", target, "-c", "10"]);
    expect(exitCode).toBe(1);
    expect(stdout).toContain("\nnot sent: 10 (EPERM)\n");
    expect(stderr).toBe(
      "bun-sockets blast: nothing can be sent: EPERM\nhint: A firewall of this machine drops it\n",
    );
    const ping = runCommand(["ping", target, "-c", "1", "--timeout", "10ms"]);
    expect(ping.exitCode).toBe(1);
    expect(ping.stdout).toContain("no answer: seq 0: EPERM\n");
  } finally {
    firewall("off");
  }
});

namespaced("datagrams that are longer than the MTU are told of, or not sent", async () => {
  const { near, far, namespace } = hosts;
  const { sink, target } = await startSink();
  ip("link", "set", near, "mtu", "1280");
  try {
    const whole = ["blast", target, "-c", "100", "-r", "10k"];
    const fits = runCommand([...whole, "-s", "1252"]);
    expect([fits.exitCode, fits.stderr]).toEqual([0, ""]);
    const before = cameOver(hosts);
    const { exitCode, stderr } = runCommand([...whole, "-s", "1253"]);
    expect(exitCode).toBe(0);
    expect(stderr).toBe(
      "1253 bytes do not fit the path's MTU of 1280: each goes out in fragments, and is lost with " +
        "any of them; 1252 bytes fit\n",
    );
    // So each is two; and who the other one is may have been asked.
    expect(cameOver(hosts) - before).toBeGreaterThanOrEqual(203);
    expect(cameOver(hosts) - before).toBeLessThan(210);
    const refused = runCommand([...whole, "-s", "1253", "--no-fragment", "--json"]);
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toBe(
      "bun-sockets blast: nothing can be sent: EMSGSIZE\nhint: A smaller --size, or no --no-fragment\n",
    );
    const summary = linesOf(refused).at(-1) as Line;
    expect(summary["failures"]).toEqual({ EMSGSIZE: summary["notSent"] });
    expect([summary["sent"], summary["refused"]]).toEqual([0, {}]);
    const ping = ["ping", target, "-s", "1253", "-c", "1", "--timeout", "10ms"];
    expect(runCommand(ping).stderr).toStartWith("1253 bytes do not fit the path's MTU of 1280: ");
    expect(runCommand([...ping, "--no-fragment"]).stdout).toContain("no answer: seq 0: EMSGSIZE\n");
  } finally {
    ip("link", "set", near, "mtu", "1500");
  }
  const all = await summaryOfSink(sink);
  expect(all).toMatchObject({ received: 201, lost: 0, duplicates: 0 });
  expect(namespace.ip("link", "show", far)).toContain("mtu 1500");
});

namespaced(
  "a router that is narrower is heard of, and then nothing that is longer goes out",
  () => {
    const { namespace, farAddress } = hosts;
    namespace.ip("link", "add", "narrow", "mtu", "1280", "type", "veth", "peer", "name", "nowhere");
    namespace.ip("addr", "add", "10.84.9.1/24", "dev", "narrow");
    for (const name of ["narrow", "nowhere"]) namespace.ip("link", "set", name, "up");
    // Nobody has to ask who that is, and in vain.
    for (const host of [2, 3])
      namespace.ip(
        "neigh",
        "add",
        `10.84.9.${host}`,
        "lladdr",
        "02:00:00:00:00:99",
        "dev",
        "narrow",
      );
    run(...namespace.prefix, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    ip("route", "add", "10.84.9.0/24", "via", farAddress);
    const options = ["-s", "1400", "-r", "1k", "-c", "100", "--json"];
    const blast = (host: string, ...more: string[]) =>
      linesOf(runCommand(["blast", `10.84.9.${host}:9`, ...options, ...more])).at(-1) as Line;
    const strict = blast("2", "--no-fragment");
    // The first ones went out, until the router had answered.
    expect(strict["sent"]).toBeGreaterThan(0);
    expect(strict["failures"]).toEqual({ EMSGSIZE: strict["notSent"] });
    expect(Number(strict["sent"]) + Number(strict["notSent"])).toBe(100);
    expect(strict["refused"]).toEqual({ EMSGSIZE: expect.any(Number) });
    // Otherwise all go out: the first ones are refused, and the others are fragments.
    const other = blast("3");
    expect(other).toMatchObject({ sent: 100, notSent: 0 });
    expect(other["refused"]).toEqual({ EMSGSIZE: expect.any(Number) });
  },
);
