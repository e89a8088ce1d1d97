import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { isControl, readCases } from "../../bench/commits/cases.ts";
import { conclude, judge, medianInterval, summarize } from "../../bench/commits/verdict.ts";
import type { ComparisonOutput, ConclusionLine, RatioLine } from "../../bench/compare.ts";
import { requires, testIf } from "../support/require.ts";

const compare = join(import.meta.dir, "../../bench/compare.ts");

// A repository of its own for each test, and a temporary directory that nothing may be left in.
const place = mkdtempSync(join(tmpdir(), "bun-sockets-repository-"));
const root = join(place, "repository");
const temporary = join(place, "tmp");
const log = join(place, "log");
afterAll(() => rmSync(place, { recursive: true }));
beforeEach(() => {
  rmSync(place, { recursive: true });
  mkdirSync(root, { recursive: true });
  mkdirSync(temporary);
  writeFileSync(log, "");
});

const environment = {
  ...process.env,
  TMPDIR: temporary,
  FAKE_LOG: log,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_SYSTEM: "/dev/null",
  npm_config_cache: join(place, "npm"),
  npm_config_update_notifier: "false",
};

function git(...values: readonly string[]): string {
  const who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"];
  return execFileSync("git", [...who, ...values], { cwd: root, env: environment, stdio: "pipe" })
    .toString()
    .trimEnd();
}

function write(files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
}

/** Commits files and returns the commit. */
function commit(files: Readonly<Record<string, string>>): string {
  if (!existsSync(join(root, ".git"))) git("init", "--quiet");
  write(files);
  git("add", "--all");
  git("commit", "--quiet", "--message", "A commit");
  return git("rev-parse", "HEAD");
}

/**
 * A benchmark that says what it is told to say. It notes that it ran, as whom, in which process and
 * with which arguments, and prints a line for each case; `round` counts from 0.
 */
function fake(name: string, cases: string): string {
  return `import { appendFileSync, readFileSync } from "node:fs";
    const log = process.env.FAKE_LOG;
    const round = Math.floor((readFileSync(log, "utf8").split("\\n").length - 1) / 2);
    appendFileSync(log, [${JSON.stringify(name)}, process.pid, ...process.argv.slice(2)].join(" ") + "\\n");
    const wobble = [1, 1.02, 0.99, 1.01, 0.98, 1, 1.01, 0.99][round % 8];
    const cases = ${cases};
    for (const [name, ns] of Object.entries(cases)) {
      const [title, peer = "bun-sockets"] = name.split(" of ");
      console.log(JSON.stringify({ bench: "fake", case: title, peer, bytes: 64, batch: 1, ns }));
    }`;
}

/** Two commits whose fake benchmark says this. */
function two(base: string, head: string): readonly [string, string] {
  return [
    commit({ "bench/fake.ts": fake("base", base) }),
    commit({ "bench/fake.ts": fake("head", head) }),
  ];
}

function start(...values: readonly string[]) {
  return Bun.spawn([process.execPath, compare, ...values], {
    cwd: root,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function run(...values: readonly string[]) {
  const child = start(...values);
  const [output, complaint] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const exitCode = await child.exited;
  expect(readdirSync(temporary), "left in the temporary directory").toEqual([]);
  return { exitCode, output, complaint };
}

async function runJson(...values: readonly string[]) {
  const { exitCode, output, complaint } = await run(...values, "--json");
  expect(complaint).toBe("");
  const lines = output
    .trimEnd()
    .split("\n")
    .map((text): ComparisonOutput => JSON.parse(text));
  const ratios = lines.filter((line): line is RatioLine => line.kind === "ratio");
  const conclusion = lines.at(-1) as ConclusionLine;
  expect(conclusion).toMatchObject({ kind: "conclusion", exitCode });
  return { lines, ratios, conclusion, exitCode };
}

const logged = () => readFileSync(log, "utf8").trimEnd().split("\n");

describe("bench/compare.ts", () => {
  test("finds a planted slowdown, and nothing where there is none", async () => {
    const [base, head] = two(
      // Both get slower with every round, as on a machine that has ever more to do.
      "{ equal: 100, drifting: 100 * 1.5 ** round, slower: 100 * 1.5 ** round, faster: 100, slightly: 100 }",
      `{ equal: 100 * wobble, drifting: 100 * wobble * 1.5 ** round,
         slower: 120 * wobble * 1.5 ** round, faster: 50 * wobble, slightly: 102 * wobble }`,
    );
    const { lines, ratios, exitCode } = await runJson(base, head, "fake", "--rounds", "8");
    expect(lines[0]).toMatchObject({
      kind: "comparison",
      base: { revision: base, commit: base },
      head: { revision: head, commit: head },
      rounds: 8,
      threshold: 0.05,
      changedBenchmarks: ["bench/fake.ts"],
    });
    expect(Object.fromEntries(ratios.map((line) => [line.case, line.verdict]))).toEqual({
      equal: "not slower",
      drifting: "not slower",
      slower: "slower",
      faster: "faster",
      slightly: "not slower",
    });
    const slower = ratios.find((line) => line.case === "slower") as RatioLine;
    expect(slower).toMatchObject({ bench: "fake", peer: "bun-sockets", bytes: 64, batch: 1 });
    expect(slower.ratio).toBeCloseTo(1.2, 6);
    expect([slower.min, slower.max]).toEqual([
      expect.closeTo(1.2 * 0.98, 6),
      expect.closeTo(1.2 * 1.02, 6),
    ]);
    expect(slower.interval).toMatchObject({ low: expect.closeTo(1.2 * 0.98, 6) });
    expect(exitCode).toBe(1);
  });

  test("runs a new process for each run, in the order base, head, head, base", async () => {
    const [base, head] = two("{ one: 1 }", "{ one: 1 }");
    const { exitCode } = await runJson(base, head, "fake", "--rounds", "6");
    const runs = logged().map((line) => line.split(" "));
    const abba = ["base", "head", "head", "base"];
    expect(runs.map(([side]) => side)).toEqual([...abba, ...abba, ...abba] as string[]);
    expect(new Set(runs.map(([, pid]) => pid)).size).toBe(12);
    expect(runs.map(([, , ...values]) => values.join(" "))).toEqual(
      Array<string>(12).fill("--json --rounds 1"),
    );
    expect(exitCode).toBe(0);
  });

  test("says that rounds differ too much, and exits with 3", async () => {
    const [base, head] = two(
      "{ calm: 100, wild: 100 }",
      "{ calm: 100, wild: [80, 125, 90, 118, 70, 140][round] }",
    );
    const { ratios, conclusion, exitCode } = await runJson(base, head, "fake", "--rounds", "6");
    expect(ratios.map((line) => [line.case, line.verdict, line.min, line.max])).toEqual([
      ["calm", "not slower", 1, 1],
      ["wild", "too noisy", 0.7, 1.4],
    ]);
    expect(conclusion).toMatchObject({ verdict: "too noisy", slower: 0, tooNoisy: 1 });
    expect(exitCode).toBe(3);
  });

  test("says nothing for sure after fewer than 6 rounds", async () => {
    const [base, head] = two("{ one: 100 }", "{ one: 300 }");
    const { exitCode, output } = await run(base, head, "fake", "--rounds", "2");
    expect(output).toContain("too few rounds");
    expect(output).toContain("Too few rounds: 1 case cannot be told.");
    expect(exitCode).toBe(3);
  });

  test("lets pass what the threshold lets pass, and prints a table for people", async () => {
    const [base, head] = two("{ one: 100, two: 100 }", "{ one: 108, two: 100 }");
    git("tag", "--annotate", "--message", "A release", "v1", base);
    const strict = await run("v1", "HEAD", "fake", "--rounds", "6");
    expect(strict.output).toContain(`HEAD (${head.slice(0, 10)}) ÷ v1 (${base.slice(0, 10)})`);
    expect(strict.output).toMatch(
      /one .* 100\.0 .* 108\.0 .* 1\.080 .* 1\.080 to 1\.080 .* slower/,
    );
    expect(strict.output).toContain("Slower by more than 5 %: 1 case.\n");
    expect(strict.output).toContain("a ratio may be theirs: bench/fake.ts.");
    expect(strict.exitCode).toBe(1);
    const lax = await run("v1", "HEAD", "fake", "--rounds", "6", "--threshold", "8.5%");
    expect(lax.output).toContain("Nothing is slower by more than 8.5 %.");
    expect(lax.exitCode).toBe(0);
  });

  test("names what only one side has, and compares the rest", async () => {
    const base = commit({
      "bench/fake.ts": fake("base", "{ both: 1, old: 1 }"),
      "bench/gone.ts": fake("base", "{ one: 1 }"),
    });
    rmSync(join(root, "bench/gone.ts"));
    const head = commit({
      "bench/fake.ts": fake("head", "{ both: 1, new: 1 }"),
      "bench/added.ts": fake("head", "{ one: 1 }"),
    });
    const benches = ["fake", "gone", "added"];
    const { exitCode, output } = await run(base, head, ...benches, "--rounds", "6");
    expect(output).toContain("Only BASE has fake: old, 64 bytes, bun-sockets.\n");
    expect(output).toContain("Only HEAD has fake: new, 64 bytes, bun-sockets.\n");
    expect(output).toContain("Only BASE has bench/gone.ts.\n");
    expect(output).toContain("Only HEAD has bench/added.ts.\n");
    expect(exitCode).toBe(0);
    const nothing = await run(base, head, "gone", "--rounds", "6");
    expect(nothing.complaint).toContain("no case of ours is on both sides");
    expect(nothing.complaint).toContain("Only BASE has bench/gone.ts.");
    expect(nothing.exitCode).toBe(2);
  });

  test("does not count peers that do not use the library", async () => {
    const [base, head] = two(
      '{ one: 1, "one of c": 1, "one of node": 1 }',
      '{ one: 1, "one of c": 3, "one of node": [1, 9, 1, 9, 1, 9][round] }',
    );
    const { ratios, exitCode } = await runJson(base, head, "fake", "--rounds", "6");
    expect(ratios.map((line) => [line.peer, line.verdict, line.isControl])).toEqual([
      ["bun-sockets", "not slower", false],
      ["c", "slower", true],
      ["node", "too noisy", true],
    ]);
    expect(exitCode).toBe(0);
    writeFileSync(log, "");
    const { output } = await run(base, head, "fake", "--rounds", "6");
    expect(output).toContain(
      "Controls differ too, so a ratio may be the machine's: fake, one, c.\n",
    );
  });

  test("hands arguments on, and keeps two runs of a benchmark apart by them", async () => {
    const name = "bench/udp_batch.ts";
    const base = commit({ [name]: fake("base", "{ one: 1 }") });
    const head = commit({ [name]: fake("head", "{ one: 1 }") });
    const benches = ["bench/udp_batch.ts", "udp_batch --ringer  thread"];
    const { ratios } = await runJson(base, head, ...benches, "--rounds", "1", "--quick");
    expect(ratios.map(({ bench }) => bench)).toEqual(["udp_batch", "udp_batch --ringer thread"]);
    const only = "--json --rounds 1 --quick --only bun-sockets";
    const values = logged().map((line) => line.split(" ").slice(2).join(" "));
    expect(values).toEqual([only, only, `${only} --ringer thread`, `${only} --ringer thread`]);
    writeFileSync(log, "");
    await runJson(base, head, "udp_batch", "--rounds", "1", "--controls");
    expect(logged().map((line) => line.split(" ").slice(2).join(" "))).toEqual(
      Array<string>(2).fill("--json --rounds 1"),
    );
  });

  test("runs udp_batch and udp_single when none is named", async () => {
    const [batch, single] = [fake("batch", "{ one: 1 }"), fake("single", "{ two: 1 }")];
    commit({ "bench/udp_batch.ts": batch, "bench/udp_single.ts": single });
    const { ratios } = await runJson("HEAD", "WORKTREE", "--rounds", "1");
    expect(ratios.map((line) => [line.bench, line.case])).toEqual([
      ["udp_batch", "one"],
      ["udp_single", "two"],
    ]);
  });

  test("takes the checkout as it is: changed, new and deleted files, and no ignored ones", async () => {
    const looks = `import { existsSync } from "node:fs";
      const found = ["new", "deleted", "ignored"].filter((name) => existsSync(name)).join();
      console.log(JSON.stringify({ bench: "x", case: found || "none", peer: "us", ns: 1 }));`;
    commit({ "bench/fake.ts": "", deleted: "", ".gitignore": "ignored\n" });
    write({ "bench/fake.ts": looks, new: "", ignored: "" });
    rmSync(join(root, "deleted"));
    const before = [
      git("status", "--porcelain"),
      git("worktree", "list"),
      git("rev-parse", "HEAD"),
    ];
    const { lines, ratios } = await runJson("WORKTREE", "WORKTREE", "fake", "--rounds", "1");
    expect(ratios.map((line) => line.case)).toEqual(["new"]);
    expect(lines[0]).toMatchObject({ base: { revision: "WORKTREE", commit: null } });
    const after = [git("status", "--porcelain"), git("worktree", "list"), git("rev-parse", "HEAD")];
    expect(after).toEqual(before);
  });

  test("runs the files of each commit, whatever the checkout has", async () => {
    const says = (ns: number) => ({ "lib/ns.ts": `export const ns = ${ns};` });
    const bench = 'import { ns } from "../lib/ns.ts"; const cases = { one: ns };';
    const prints =
      'console.log(JSON.stringify({ bench: "x", case: "one", peer: "us", ns: cases.one }));';
    const base = commit({ ...says(10), "bench/fake.ts": `${bench} ${prints}` });
    const head = commit(says(30));
    write(says(1000));
    const { lines, ratios } = await runJson(base, head, "fake", "--rounds", "1");
    expect(ratios).toMatchObject([{ baseNs: 10, headNs: 30, ratio: 3 }]);
    expect(lines[0]).toMatchObject({ changedBenchmarks: [] });
  });

  test("lends the checkout's dependencies to a side that has the same lock file", async () => {
    const bench =
      'import { ns } from "part"; console.log(JSON.stringify({ bench: "x", case: "one", peer: "us", ns }));';
    const lock = { "package-lock.json": '{ "lockfileVersion": 3 }' };
    commit({ "bench/fake.ts": bench, ".gitignore": "node_modules\n", ...lock });
    const part = "node_modules/part/index.js";
    write({ [part]: "export const ns = 7;" });
    const before = await runJson("HEAD", "WORKTREE", "fake", "--rounds", "1");
    expect(before.ratios).toMatchObject([{ baseNs: 7, headNs: 7 }]);
    expect(readFileSync(join(root, part), "utf8")).toBe("export const ns = 7;");
    // They may be a link themselves, which .gitignore does not mean when it names a folder.
    write({ ".gitignore": "node_modules/\n" });
    renameSync(join(root, "node_modules"), join(place, "packages"));
    symlinkSync(join(place, "packages"), join(root, "node_modules"));
    const after = await runJson("HEAD", "WORKTREE", "fake", "--rounds", "1");
    expect(after.ratios).toMatchObject([{ baseNs: 7, headNs: 7 }]);
    expect(existsSync(join(place, "packages/part/index.js"))).toBe(true);
  });

  testIf(requires("npm"))("installs for a side whose lock file is another", async () => {
    const bench =
      'import { ns } from "part"; console.log(JSON.stringify({ bench: "x", case: "one", peer: "us", ns }));';
    const manifest = { name: "whole", version: "1.0.0", dependencies: { part: "file:part" } };
    const packages = {
      "": manifest,
      "node_modules/part": { resolved: "part", link: true },
      part: { version: "1.0.0" },
    };
    const lock = { name: "whole", version: "1.0.0", lockfileVersion: 3, requires: true, packages };
    const old = commit({
      "bench/fake.ts": bench,
      ".gitignore": "node_modules\n",
      "package.json": JSON.stringify(manifest),
      "package-lock.json": JSON.stringify(lock),
      "part/package.json":
        '{ "name": "part", "version": "1.0.0", "main": "index.js", "type": "module" }',
      "part/index.js": "export const ns = 11;",
    });
    commit({ "package-lock.json": JSON.stringify({ ...lock, version: "2.0.0" }) });
    write({ "node_modules/part/index.js": "export const ns = 7;" });
    const { ratios } = await runJson(old, "WORKTREE", "fake", "--rounds", "1");
    expect(ratios).toMatchObject([{ baseNs: 11, headNs: 7 }]);
    expect(readdirSync(join(root, "node_modules"))).toEqual(["part"]);
  });

  test.each([
    ["fails", 'throw new Error("no such socket");', ["exited with 1", "error: no such socket"]],
    ["dies", 'process.kill(process.pid, "SIGKILL");', ["was ended by SIGKILL"]],
    ["prints a table", 'console.log("┌──┐");', ["printed what is no result: ┌──┐"]],
    ["prints nothing", "", ["printed no result"]],
    [
      "prints a number as text",
      'console.log(JSON.stringify({ bench: "x", case: "one", peer: "us", ns: "1" }));',
      ["printed what is no result: {"],
    ],
  ])("tells which side and which round it was that %s", async (_, source, complaints) => {
    const good = fake("good", "{ one: 1 }");
    const base = commit({ "bench/fake.ts": good });
    const head = commit({ "bench/fake.ts": source });
    const result = await run(base, head, "fake", "--rounds", "6");
    for (const part of [`HEAD (${head}), round 1: bench/fake.ts`, ...complaints]) {
      expect(result.complaint).toContain(part);
    }
    expect(result.output).toBe("");
    expect(result.exitCode).toBe(2);
  });

  test("tells of a failure in a later round of the base", async () => {
    const [base, head] = two("round < 2 ? { one: 1 } : process.exit(9)", "{ one: 1 }");
    const { complaint, exitCode } = await run(base, head, "fake", "--rounds", "6");
    expect(complaint).toContain(`BASE (${base}), round 3: bench/fake.ts exited with 9`);
    expect(exitCode).toBe(2);
  });

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
    "ends at %s with all it started, and leaves nothing behind",
    async (signal) => {
      const hangs = `import { appendFileSync, mkdtempSync } from "node:fs";
        import { tmpdir } from "node:os";
        mkdtempSync(tmpdir() + "/of-the-benchmark-");
        const child = Bun.spawn(["sleep", "1000"]);
        appendFileSync(process.env.FAKE_LOG, process.pid + " " + child.pid + "\\n");
        await child.exited;`;
      const only = commit({ "bench/fake.ts": hangs });
      const child = start(only, only, "fake");
      await until("the benchmark has started", () => readFileSync(log, "utf8").endsWith("\n"));
      child.kill(signal);
      const number = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal];
      expect(await child.exited).toBe(128 + number);
      expect(await child.stderr.text()).toContain("Stopped before the last round");
      expect(await child.stdout.text()).toBe("");
      expect(readdirSync(temporary)).toEqual([]);
      const [pids = ""] = logged();
      expect(pids.split(" ")).toHaveLength(2);
      await until("both have ended", () => !pids.split(" ").some(isRunning));
    },
  );

  test.each([
    [[], "missing required argument 'BASE'"],
    [["HEAD"], "missing required argument 'HEAD'"],
    [["nowhere", "HEAD"], 'BASE: this repository has no commit "nowhere"'],
    [["HEAD", "HEAD:bench"], 'HEAD: this repository has no commit "HEAD:bench"'],
    [["HEAD", "HEAD", "absent"], "BENCH: neither side has bench/absent.ts"],
    [["HEAD", "HEAD", "../../etc"], "value '../../etc' is invalid for argument 'BENCH'"],
    [["HEAD", "HEAD", "--rounds", "0"], "Expected an integer of 1 to 1000."],
    [["HEAD", "HEAD", "--rounds", "1e2"], "option '--rounds <N>' argument '1e2' is invalid"],
    [["HEAD", "HEAD", "--threshold", "a bit"], "Expected percent of 0 to less than 100"],
    [["HEAD", "HEAD", "--threshold", "-5%"], "argument '-5%' is invalid"],
    [["HEAD", "HEAD", "--fast"], "unknown option '--fast'"],
  ])("refuses %j with exit code 2", async (values, complaint) => {
    commit({ "bench/fake.ts": fake("only", "{ one: 1 }") });
    const result = await run(...values);
    expect(result.complaint).toContain(complaint);
    expect(result).toMatchObject({ exitCode: 2, output: "" });
    expect(logged()).toEqual([""]);
  });

  test("exits with 2, never with 1, when something goes wrong that it does not know", async () => {
    commit({
      "bench/fake.ts": fake("only", "{ one: 1 }"),
      node_modules: "a file",
      "package-lock.json": "{}",
    });
    rmSync(join(root, "node_modules"));
    write({ "node_modules/part/index.js": "" });
    const { complaint, exitCode } = await run("HEAD", "HEAD", "fake");
    expect(complaint).toContain("EEXIST");
    expect(exitCode).toBe(2);
  });

  test("says outside a repository that there is none", async () => {
    const result = await run("HEAD", "HEAD");
    expect(result.complaint).toContain("not a git repository");
    expect(result.exitCode).toBe(2);
  });

  test("explains itself with --help, and that is no failure", async () => {
    const { exitCode, output } = await run("--help");
    for (const part of ["BASE", "HEAD", "--threshold", "Exit codes:", "Examples:"]) {
      expect(output).toContain(part);
    }
    expect(exitCode).toBe(0);
  });
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`it has not come about that ${what}`);
    await Bun.sleep(5);
  }
}

function isRunning(pid: string): boolean {
  // Whoever has ended and waits to be buried does not run.
  const status = join("/proc", pid, "stat");
  if (!existsSync(status)) return false;
  return !/\) [ZX] /.test(readFileSync(status, "utf8"));
}

describe("medianInterval()", () => {
  const counting = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

  // The tables of textbooks, for the median and 95 percent.
  test.each([
    [6, 1, 6, 0.96875],
    [7, 1, 7, 0.984375],
    [8, 1, 8, 0.9921875],
    [9, 2, 8, 0.9609375],
    [10, 2, 9, 0.978515625],
    [12, 3, 10, 0.9614257812],
    [20, 6, 15, 0.9586105347],
  ])(
    "of %d values reaches from the one at place %d to that at %d",
    (count, low, high, confidence) => {
      const values = counting(count);
      expect(medianInterval(values.toReversed())).toEqual({
        low,
        high,
        confidence: expect.closeTo(confidence, 9),
      });
    },
  );

  test("needs six values", () => {
    for (let count = 0; count < 6; count++) expect(medianInterval(counting(count))).toBeUndefined();
  });

  test("is as likely to hold the median as it says: counted over all that can happen", () => {
    for (const count of [6, 9, 11]) {
      let holds = 0;
      for (let signs = 0; signs < 2 ** count; signs++) {
        // Each value lies below the median, which is 0, or above it, with equal chance.
        const values = counting(count).map((value, bit) => (signs & (1 << bit) ? value : -value));
        const { low, high } = medianInterval(values) as { low: number; high: number };
        if (low < 0 && high > 0) holds++;
      }
      const { confidence } = medianInterval(counting(count)) as { confidence: number };
      expect(holds / 2 ** count).toBeCloseTo(confidence, 9);
    }
  });

  test("does not sort the caller's values, and an outlier among many does not move it", () => {
    const values = [1, 1.01, 0.99, 50, 1, 1.02, 0.98, 1, 1.01, 0.99];
    const before = [...values];
    expect(medianInterval(values)).toMatchObject({ low: 0.99, high: 1.02 });
    expect(values).toEqual(before);
  });
});

describe("judge()", () => {
  const interval = (low: number, high: number) => ({ interval: { low, high, confidence: 0.97 } });

  test.each([
    ["not slower", 0.99, 1.01],
    ["not slower", 1.01, 1.05],
    ["not slower", 0.8, 1.04],
    ["too noisy", 0.99, 1.051],
    ["too noisy", 1.05, 1.2],
    ["slower", 1.051, 1.2],
    ["slower", 1.06, 9],
    ["faster", 0.5, 0.949],
    ["not slower", 0.5, 0.95],
  ] as const)("calls it %s when the interval is %d to %d", (verdict, low, high) => {
    expect(judge(interval(low, high), 0.05)).toBe(verdict);
  });

  test("says that the rounds are too few where there is no interval", () => {
    expect(judge(summarize([2, 2, 2, 2, 2]), 0.05)).toBe("too few rounds");
    expect(judge(summarize([]), 0.05)).toBe("too few rounds");
    expect(judge(summarize([2, 2, 2, 2, 2, 2]), 0.05)).toBe("slower");
  });
});

test("conclude() puts what is slower first, then what cannot be told", () => {
  expect(conclude(["not slower", "too noisy", "slower"])).toEqual({
    verdict: "slower",
    exitCode: 1,
  });
  expect(conclude(["not slower", "too noisy"])).toEqual({ verdict: "too noisy", exitCode: 3 });
  expect(conclude(["too few rounds"])).toEqual({ verdict: "too few rounds", exitCode: 3 });
  expect(conclude(["faster", "not slower"])).toEqual({ verdict: "not slower", exitCode: 0 });
});

describe("readCases()", () => {
  const line = { bench: "x", case: "one", peer: "us", bytes: 64, batch: 1, ns: 5, rounds: 1 };
  const text = (...lines: readonly unknown[]) => lines.map((one) => JSON.stringify(one)).join("\n");

  test("reads lines of the suite, without the one about the machine", () => {
    const result = {
      ...{ kind: "result", cell: "udp4/64", peer: "bun-sockets", payloadBytes: 64, batch: 8 },
      ns: { median: 12, min: 11, max: 13 },
    };
    expect(readCases(text({ kind: "environment", bun: "1" }, result), "suite")).toEqual([
      { bench: "suite", case: "udp4/64", peer: "bun-sockets", bytes: 64, batch: 8, ns: 12 },
    ]);
  });

  test("refuses two results of the same case", () => {
    expect(readCases(text(line, { ...line, batch: 2 }), "x")).toHaveLength(2);
    expect(() => readCases(text(line, { ...line, ns: 6 }), "x")).toThrow("two results of");
  });

  const wrong = [null, 12, "text", [], {}, { ...line, peer: 1 }, { ...line, ns: null }];
  test.each(wrong.map((one) => [one]))("refuses %j", (one) => {
    expect(() => readCases(text(line, one), "x")).toThrow("printed what is no result");
  });
});

test("isControl() knows who does not use the library", () => {
  for (const peer of ["c", "node", "bun-udp", "python"]) expect(isControl(peer)).toBe(true);
  for (const peer of ["bun-sockets", "promise", "ring"]) expect(isControl(peer)).toBe(false);
});
