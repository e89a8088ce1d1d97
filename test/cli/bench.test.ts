/** `bun-sockets bench`: what it tells of the suite, and how it ends. The numbers themselves say nothing here. */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CELLS, QUESTIONS } from "../../bench/cells.ts";
import type { ResultLine, SuiteLine } from "../../bench/results.ts";
import {
  COMMAND,
  type Outcome,
  RunningCommand,
  runCommand,
  WITHOUT_RIGHTS,
} from "../support/command.ts";
import { requires, testIf } from "../support/require.ts";

const SHORT = ["--rounds", "1", "--round-ms", "5"];
const TRAIN = "udp4/64/gso-gro";
const UNIX = ["unix/64/sendmmsg-recvmmsg", "unix/1200/sendmmsg-recvmmsg"];
const TERMINAL_COLUMNS = 100;
const LIMIT_MS = 30_000;

const folder = mkdtempSync(join(tmpdir(), "bun-sockets-test-"));
afterAll(() => rmSync(folder, { recursive: true }));
setDefaultTimeout(LIMIT_MS);

const inC = testIf(requires("gcc"));

/** The results of `--json`, behind the one line about the machine. */
function resultsOf({ exitCode, stdout, stderr }: Outcome): ResultLine[] {
  expect(exitCode, stderr).toBe(0);
  const lines = stdout.trimEnd().split("\n");
  const [environment, ...results] = lines.map((text): SuiteLine => JSON.parse(text));
  expect(environment).toMatchObject({ kind: "environment", bun: Bun.version });
  expect(new Set(results.map(({ kind }) => kind))).toEqual(new Set(["result"]));
  return results as ResultLine[];
}

/** A folder for PATH with a few programs only. Those with a text are shell scripts of that text. */
function pathOf(name: string, programs: Readonly<Record<string, string | undefined>>): string {
  const path = join(folder, name);
  mkdirSync(path);
  for (const [program, script] of Object.entries(programs)) {
    const file = join(path, program);
    const original = Bun.which(program);
    if (script !== undefined) {
      writeFileSync(file, `#!/bin/sh\n${script}\n`);
      chmodSync(file, 0o755);
    } else if (original !== null) symlinkSync(original, file);
  }
  return path;
}

describe("bench --json", () => {
  inC("has a line for each peer of each cell, and numbers that agree", () => {
    const lines = resultsOf(runCommand(["bench", TRAIN, "unix/64", ...SHORT, "--json"]));
    expect(lines.map(({ cell, peer }) => [cell, peer])).toEqual(
      [TRAIN, UNIX[0] as string].flatMap((cell) =>
        ["bun-sockets", "c"].map((peer) => [cell, peer]),
      ),
    );
    for (const line of lines) {
      const { ns, datagramsPerSecond, gbitPerSecond, payloadBytes, datagrams, lost } = line;
      expect(line.rounds).toBe(1);
      // Nobody is ahead by more than there is room for.
      expect([datagrams > 0, lost]).toEqual([true, 0]);
      expect(ns.median).toBeGreaterThan(0);
      expect((datagramsPerSecond.median * ns.median) / 1e9).toBeCloseTo(1, 3);
      expect((gbitPerSecond.median * ns.median) / (payloadBytes * 8)).toBeCloseTo(1, 3);
      const other = lines.find(({ cell, peer }) => cell === line.cell && peer === "c");
      const ratio = ns.median / (other as ResultLine).ns.median;
      if (line.peer === "c") expect(line.ratioToC).toBeNull();
      else expect((line.ratioToC?.median as number) / ratio).toBeCloseTo(1, 3);
    }
  });

  test("takes a name twice once, and one peer alone", () => {
    const values = ["unix/64", "unix", "--only", "bun-sockets", ...SHORT, "--json"];
    const lines = resultsOf(runCommand(["bench", ...values]));
    expect(lines.map(({ cell, peer }) => [cell, peer])).toEqual(
      UNIX.map((cell) => [cell, "bun-sockets"]),
    );
  });
});

describe("bench", () => {
  inC("has a table for people that fits a terminal, and says what its numbers are", () => {
    const { exitCode, stdout, stderr } = runCommand(["bench", TRAIN, UNIX[0] ?? "", ...SHORT]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines[0]).toContain(`Bun ${Bun.version}, load `);
    expect(lines[1]).toMatch(/^2 cells, about \d+ s$/);
    const rows = lines.slice(2).filter((line) => line.startsWith("│"));
    for (const row of rows) expect(row.length, row).toBeLessThanOrEqual(TERMINAL_COLUMNS);
    expect(rows.map((row) => row.split("│")[1]?.trim().split(":")[0])).toEqual([
      ...["peer", TRAIN, "bun-sockets", "c", UNIX[0] as string, "bun-sockets", "c"],
    ]);
    const ours = rows[2]?.split("│").map((cell) => cell.trim());
    const [, , ns, perSecond, gbit, ratio, lost] = ours as string[];
    expect(Number(ns) * Number(perSecond?.replaceAll(",", ""))).toBeWithin(0.98e9, 1.02e9);
    expect(Number(gbit)).toBeCloseTo((64 * 8) / Number(ns), 1);
    expect(ratio).toMatch(/^\d+\.\d\d$/);
    expect(lost).toBe("0");
    expect(stdout).toContain("÷ C: how many times that of C");
    expect(stdout).toContain(`--whole measures all ${CELLS.length} cells`);
  });

  testIf(requires("script"))("says where it is and how long it takes, on a terminal", () => {
    const command = [...COMMAND, "bench", "unix/64", "--only", "bun-sockets", ...SHORT].join(" ");
    const { stdout, exitCode } = Bun.spawnSync(["script", "-qec", command, "/dev/null"], {
      stdin: "ignore",
    });
    expect(exitCode).toBe(0);
    expect(stdout.toString()).toMatch(/ (33|66|100) %, \S+ left, unix\/64\/sendmmsg-recvmmsg/);
    // And takes it away again: the table stands below the line that was there before.
    expect(stdout.toString()).toContain("1 cell, about 1 s\r\n");
  });

  test("without a compiler leaves out C, and says that no ratio is to it", () => {
    const path = pathOf("no_compiler", { taskset: undefined });
    const { exitCode, stdout, stderr } = runCommand(["bench", TRAIN, ...SHORT], {
      prefix: ["env", `PATH=${path}`],
    });
    expect([exitCode, stderr]).toEqual([0, "not installed here, so left out: c\n"]);
    expect(stdout).toMatch(/^│ {3}bun-sockets │ +[\d,]+ │ +[\d,]+ │ +[\d.]+ │ {5}│ {4}0 │ {2}│$/m);
    expect(stdout).toContain("÷ C is empty: C takes gcc and the headers of libc\n");
  });

  test("leaves out what is there and does not run, and measures without any tool", () => {
    const broken = { gcc: "exit 1", node: "exit 127", python3: "exit 127", deno: "exit 127" };
    const path = pathOf("broken", broken);
    const name = "udp4/64/sendmmsg-recvmmsg";
    const outcome = runCommand(["bench", name, ...SHORT, "--json"], {
      prefix: ["env", `PATH=${path}`],
    });
    const peers = resultsOf(outcome).map(({ peer, ratioToC }) => {
      expect(ratioToC).toBeNull();
      return peer;
    });
    expect(peers.filter((peer) => peer !== "deno")).toEqual([
      ...["bun-sockets", "bun-udp", "node-dgram-bun"],
    ]);
    const left = peers.includes("deno") ? "c, node-dgram, python" : "c, node-dgram, deno, python";
    expect(outcome.stderr).toBe(`not installed here, so left out: ${left}\n`);
  });

  test("says who has no part in what was asked for", () => {
    const { exitCode, stdout, stderr } = runCommand(["bench", "unix", "--only", "bun-udp"]);
    expect([exitCode, stdout]).toEqual([1, ""]);
    expect(stderr).toBe("bun-sockets bench: Cannot measure any of these cells here by bun-udp\n");
  });

  testIf(requires("setpriv"))("without rights leaves out the cells over veth, and says so", () => {
    const prefix = process.getuid?.() === 0 ? WITHOUT_RIGHTS : [];
    const { exitCode, stderr } = runCommand(["bench", "udp4/64/sendmmsg-recvmmsg/veth"], {
      prefix,
    });
    expect(exitCode).toBe(1);
    expect(stderr).toBe(
      "left out, as they need network namespaces (root): the cells over veth\n" +
        "bun-sockets bench: Cannot measure any of these cells here\n",
    );
  });

  test("tells what is done when a peer fails, and who that was", () => {
    const path = pathOf("failing", { python3: '[ "$1" = --version ]' });
    const names = [TRAIN, "udp4/64/sendmmsg-recvmmsg"];
    const { exitCode, stdout, stderr } = runCommand(["bench", ...names, ...SHORT], {
      prefix: ["env", `PATH=${path}`],
    });
    expect(exitCode).toBe(1);
    expect(stdout).toContain("│   bun-sockets │");
    expect(stdout).toContain("ended after 1 of 2 cells\n");
    expect(stderr).toEndWith(
      `bun-sockets bench: python in ${names[1]} has ended with exit code 1\n`,
    );
  });
});

describe("bench --list", () => {
  test("shows all cells by question", () => {
    const { exitCode, stdout, stderr } = runCommand(["bench", "--list"]);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.filter((line) => !line.startsWith("  "))).toEqual([...QUESTIONS]);
    const names = lines.filter((line) => line.startsWith("  ")).map((line) => line.trim());
    expect(names.sort()).toEqual(CELLS.map(({ name }) => name).sort());
  });

  test("--json shows what programs want", () => {
    const { stdout } = runCommand(["bench", "--list", "unix/64", "--json"]);
    expect(
      stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual([{ kind: "cell", name: UNIX[0], question: "families", peers: ["bun-sockets", "c"] }]);
  });
});

/** All processes below one, as long as it is there, with their command lines. */
function childrenOf(pid: number): { readonly pid: number; readonly values: string[] }[] {
  try {
    const path = `/proc/${pid}/task`;
    const own = readdirSync(path).flatMap((task) => {
      const list = readFileSync(join(path, task, "children"), "utf8");
      return list.split(" ").filter(Boolean).map(Number);
    });
    const known = own.map((child) => ({
      pid: child,
      values: readFileSync(`/proc/${child}/cmdline`, "utf8").split("\0"),
    }));
    return [...known, ...own.flatMap(childrenOf)];
  } catch {
    return [];
  }
}

/** Whether a process has been on a core for 0.1 s, in ticks of 10 ms. */
function isBusy(pid: number): boolean {
  const [, rest = ""] = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ");
  const [user = 0, system = 0] = rest.split(" ").slice(11, 13).map(Number);
  return user + system >= 10;
}

describe("Ctrl-C", () => {
  // As a terminal sends it: to all processes of the group, and setsid makes one.
  const testIfSetsid = testIf(requires("setsid"));

  /** Runs two cells, until the first is done and the second has a process. */
  async function runInto(name: string, ...values: readonly string[]) {
    const temporary = join(folder, name);
    mkdirSync(temporary);
    const prefix = ["setsid", "env", `TMPDIR=${temporary}`];
    const names = [UNIX[0] ?? "", "udp6/64", "--only", "bun-sockets"];
    const running = new RunningCommand(
      ["bench", ...names, "--rounds", "1", "--round-ms", "300", ...values],
      { prefix },
    );
    let children = childrenOf(running.pid);
    await running.until(() => {
      children = childrenOf(running.pid);
      return children.some(({ values }) => values.includes("udp6"));
    });
    process.kill(-running.pid, "SIGINT");
    const outcome = await running.ended();
    expect(children.filter(({ pid }) => existsSync(`/proc/${pid}`))).toEqual([]);
    const left = readdirSync(temporary).filter((name) => name.startsWith("bun-sockets"));
    expect(left).toEqual([]);
    return outcome;
  }

  testIfSetsid(
    "ends with the table of the cells that are done, and leaves no process",
    async () => {
      const { exitCode, stdout, stderr } = await runInto("table");
      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(stdout).toContain(`│ ${UNIX[0]}: `);
      expect(stdout).toContain("│   bun-sockets │");
      expect(stdout).not.toContain("udp6");
      expect(stdout).toContain("ended after 1 of 2 cells\n");
    },
  );

  testIfSetsid("ends with their lines", async () => {
    const lines = resultsOf(await runInto("lines", "--json"));
    expect(lines.map(({ cell }) => cell)).toEqual([UNIX[0] as string]);
  });

  testIf(requires("setsid", "gcc"))(
    "in the first cell ends at once, with 1 and nothing to tell",
    async () => {
      const values = ["unix/64", "--only", "c", "--rounds", "1", "--round-ms", "60000", "--json"];
      const running = new RunningCommand(["bench", ...values], { prefix: ["setsid"] });
      // Until the round has begun: before it there is less to be done.
      await running.until(() =>
        childrenOf(running.pid).some(({ pid, values }) => values.includes("send") && isBusy(pid)),
      );
      process.kill(-running.pid, "SIGINT");
      const { exitCode, stdout, stderr } = await running.ended();
      expect([exitCode, stderr]).toEqual([1, ""]);
      expect(stdout.trimEnd().split("\n")).toHaveLength(1);
    },
  );
});
