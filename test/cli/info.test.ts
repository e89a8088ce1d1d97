/** `bun-sockets info` where nobody has any right, beside what other programs say. */
import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { capabilities, interfaces, UdpSocket } from "bun-sockets";
import { runCommand } from "../support/command.ts";
import { infoLines, limitsOf, showSysctl } from "../support/info_lines.ts";
import { requires, testIf } from "../support/require.ts";

function output(...command: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(command);
  if (!success) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString().trim();
}

describe("info --json", () => {
  test("tells of all parts, and of those alone that are named", () => {
    const types = (lines: readonly { readonly type: string }[]) => [
      ...new Set(lines.map(({ type }) => type)),
    ];
    const all = ["machine", "demand", "limit", "lost", "interface", "capability", "summary"];
    expect(types(infoLines())).toEqual(all);
    expect(types(infoLines("lost"))).toEqual(["lost", "summary"]);
    expect(types(infoLines("capabilities", "machine"))).toEqual([
      "machine",
      "capability",
      "summary",
    ]);
  });

  test("has the capabilities of the library, with reason and hint", () => {
    const lines = infoLines("capabilities");
    const summary = lines.pop();
    const found = Object.entries(capabilities());
    expect(lines).toEqual(
      found.map(([name, { supported, reason, detail = null, hint = null }]) => ({
        type: "capability",
        ...{ name, supported, reason, detail, hint },
      })),
    );
    const unsupported = found.filter(([, { supported }]) => !supported).map(([name]) => name);
    expect(summary).toMatchObject({ unsupported });
  });

  test("has the interfaces of the library, in their order", () => {
    const lines = infoLines("interfaces").filter(({ type }) => type === "interface");
    const theirs = interfaces();
    expect(lines).toEqual(
      theirs.map(({ name, index, mtu, up, loopback, addresses }) =>
        expect.objectContaining({
          ...{ name, index, mtu, up, loopback },
          addresses: addresses.map(
            ({ address, prefixLength }) => `${address.host}/${prefixLength}`,
          ),
        }),
      ),
    );
  });

  const withTools = testIf(requires("uname", "nproc", "taskset"));
  withTools("has the kernel, the cores, and the cores that are allowed", () => {
    const [machine] = infoLines("machine");
    expect(machine).toMatchObject({
      kernel: output("uname", "-r"),
      cores: Number(output("nproc", "--all")),
      coresAllowed: Number(output("nproc")),
      bun: Bun.version,
    });
    const [, allowed = ""] = /list: (\d+)/.exec(output("taskset", "-pc", `${process.pid}`)) ?? [];
    const [pinned] = infoLines("machine", { prefix: ["taskset", "-c", allowed] });
    expect(pinned).toMatchObject({ coresAllowed: 1 });
  });

  test.each(["io_uring", "thread", "timer"] as const)("says that %s wakes the loop", (ringer) => {
    const [machine] = infoLines("machine", { prefix: ["env", `BUN_SOCKETS_RINGER=${ringer}`] });
    const isThere =
      ringer === "timer" ||
      capabilities()[ringer === "thread" ? "helperThread" : "ioUring"].supported;
    expect(machine).toMatchObject({ ringer: isThere ? ringer : null });
  });

  test("has the values of sysctl(8)", () => {
    const limits = limitsOf(infoLines("limits"));
    const sysctls = [...limits.values()].filter(({ name }) => name.includes("."));
    expect(sysctls.length).toBeGreaterThan(12);
    for (const { name, value } of sysctls) {
      // Some are those of the host alone.
      if (value === null) {
        expect(existsSync(`/proc/sys/${name.replaceAll(".", "/")}`), name).toBe(false);
        continue;
      }
      const theirs = output("sh", "-c", showSysctl(name)).split(/\s+/).map(Number);
      expect([value].flat(), name).toEqual(theirs);
    }
  });

  const withPrlimit = testIf(requires("prlimit"));
  withPrlimit("has the limits of the process, low ones with the command", () => {
    const prefix = ["prlimit", "--nofile=500:700", "--memlock=65536:65536"];
    const limits = limitsOf(infoLines("limits", { prefix }));
    // Bun has raised the first.
    expect(limits.get("ulimit -n")).toMatchObject({
      ...{ value: 700, status: "low", change: "ulimit -n 65536" },
    });
    expect(limits.get("ulimit -l")).toMatchObject({
      ...{ value: 65536, unit: "bytes", status: "low", change: "ulimit -l unlimited" },
    });
    const shell = output(...prefix, "sh", "-c", "ulimit -H -n; ulimit -l").split("\n");
    expect(shell).toEqual(["700", "64"]);
  });

  test.each([64, 512, 1200, 9000])(
    "a socket holds as many datagrams of %d bytes as it says",
    (size) => {
      const lines = infoLines("limits", "--size", `${size}`);
      using socket = UdpSocket.bind("127.0.0.1:0");
      using sender = UdpSocket.open("ipv4");
      const payload = new Uint8Array(size);
      for (let i = 0; i < 400; i++) sender.sendToSync(payload, socket.localAddress);
      let received = 0;
      while (socket.tryReceive(payload) !== undefined) received++;
      expect(received).toBeLessThan(400);
      expect(limitsOf(lines).get("net.core.rmem_default")?.datagrams).toBe(received);
    },
  );

  test("a socket that asks for net.core.rmem_max holds as many as it says", () => {
    const size = 9000;
    const lines = infoLines("limits", "--size", `${size}`);
    const { value, datagrams } = limitsOf(lines).get("net.core.rmem_max") ?? {};
    // With a right one gets more: so no more is asked for than all get.
    const receiveBufferBytes = value as number;
    using socket = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes });
    using sender = UdpSocket.open("ipv4");
    const payload = new Uint8Array(size);
    const sent = (datagrams ?? 0) + 50;
    for (let i = 0; i < sent; i++) sender.sendToSync(payload, socket.localAddress);
    let received = 0;
    while (socket.tryReceive(payload) !== undefined) received++;
    expect(received).toBe(datagrams as number);
  });

  test("holds the limits against a rate and a pause, and says what would be enough", () => {
    const demand = (rate: number, pause: string) =>
      infoLines("limits", "--rate", `${rate}`, "--pause", pause);
    expect(demand(200_000, "5ms")[0]).toMatchObject({ rate: 200_000, pauseMs: 5, datagrams: 1000 });
    const rmemMax = (rate: number) => limitsOf(demand(rate, "1s")).get("net.core.rmem_max");
    const { datagrams, value } = rmemMax(1) ?? {};
    expect(rmemMax(datagrams ?? 0)).toMatchObject({ status: "ok", change: null });
    const low = rmemMax((datagrams ?? 0) + 1);
    expect(low).toMatchObject({ status: "low", value });
    const [, wanted] = /^sudo sysctl -w net\.core\.rmem_max=(\d+)$/.exec(low?.change ?? "") ?? [];
    const [first] = demand(1, "1s");
    const { chargedBytes } = first as unknown as { chargedBytes: number };
    // As the kernel grants it: twice.
    expect(Math.floor((2 * Number(wanted)) / chargedBytes)).toBeGreaterThan(datagrams ?? 0);
  });

  test("--strict ends with 1 when a limit is low, whether it is shown or not", () => {
    const values = ["info", "--json", "lost", "--rate", "1000000000", "--pause", "1s"];
    expect(runCommand(values).exitCode).toBe(0);
    const { exitCode, stdout } = runCommand([...values, "--strict"]);
    expect(exitCode).toBe(1);
    const summary = JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "");
    expect(summary.low).toContain("net.core.rmem_max");
  });
});

test("info shows a table, in which is what --json has", () => {
  const { exitCode, stdout, stderr } = runCommand(["info"]);
  expect([exitCode, stderr]).toEqual([0, ""]);
  for (const { type, name, value, meaning, change } of infoLines()) {
    if (type !== "limit") continue;
    const text = `${[value].flat().join(" ")}`;
    const line = stdout.split("\n").find((line) => line.startsWith(`  ${name}  `) || line === name);
    // What moves between two runs is no part of the comparison.
    expect(line, `${name}`).toContain(text);
    if (name !== "net.netfilter.nf_conntrack_max") expect(line).toContain(`${meaning}`);
    if (change !== null) expect(stdout).toContain(`change it: ${change}`);
  }
  for (const { name } of interfaces()) expect(stdout).toContain(`\n  ${name}: `);
  for (const name of Object.keys(capabilities())) expect(stdout).toContain(`\n  ${name} `);
});
