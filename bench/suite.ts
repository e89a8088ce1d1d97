// The suite: every way for datagrams in one table. `npm run bench` runs all of it in less than ten
// minutes, `npm run bench -- NAME …` the cells of that name, of that question, or that begin with it.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import * as os from "node:os";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Capability, capabilities } from "bun-sockets";
import { SingleBar } from "cli-progress";
import { CELLS, type Cell, cellsNamed, planSeconds } from "./cells.ts";
import { findDeno, isInstalled, Pair, type Round, Tools } from "./peers/suite_programs.ts";
import { canMakeVeth } from "./peers/veth.ts";
import type { EnvironmentLine, ResultLine, SuiteLine } from "./results.ts";
import { type Extras, lineOf } from "./suite_result.ts";
import { environmentText, resultTables } from "./suite_table.ts";

interface Options {
  readonly rounds: number;
  readonly roundMs: number;
  /** Whether memory is measured, which takes a run of its own that is long enough to tell. */
  readonly hasGrowth: boolean;
  /** Groups of the rounds that are not counted. */
  readonly warmUp: readonly number[] | undefined;
  readonly only: string | undefined;
  readonly json: boolean;
}

const QUICK = { rounds: 1, roundMs: 10, hasGrowth: false, warmUp: [5, 20] } as const;
const WHOLE = { rounds: 9, roundMs: 400, hasGrowth: true, warmUp: undefined } as const;
const GIB = 2 ** 30;

const USAGE = `bench/suite.ts [NAME …] [--quick] [--json] [--rounds N] [--only PEER] [--list]

NAME is a cell, a question, or what names of cells begin with:`;

function list(cells: readonly Cell[]): string {
  const questions = Map.groupBy(cells, ({ question }) => question);
  return [...questions]
    .map(([question, some]) => `  ${question}\n${some.map(({ name }) => `    ${name}`).join("\n")}`)
    .join("\n");
}

/** What is not found out in the rounds, because finding it out takes time. */
async function findExtras(
  tools: Tools,
  pair: Pair,
  rounds: readonly Round[],
  options: Options,
): Promise<Extras> {
  const { cell, peer } = pair;
  const isCounted = rounds.every((one) => one.sendCalls !== null && one.receiveCalls !== null);
  const isOneSide = cell.topology === "one thread" || cell.senders > 1;
  const calls = isCounted || isOneSide ? { send: null, receive: null } : await pair.countCalls();
  // Python does not collect but count, and its pages do not tell what it has allocated.
  if (peer === "python" || cell.flow === "flat" || !options.hasGrowth)
    return { calls, bytesAllocated: null };
  if (peer === "c") return { calls, bytesAllocated: await pair.measureGrowth() };
  const uncollected = await Pair.start(tools, peer, cell, true);
  try {
    return { calls, bytesAllocated: await uncollected.measureGrowth() };
  } finally {
    uncollected.kill();
  }
}

/** Runs a cell: its peers in turn, another one first in each round. */
async function runCell(
  tools: Tools,
  cell: Cell,
  options: Options,
  onStep: () => void,
): Promise<ResultLine[]> {
  const pairs: Pair[] = [];
  try {
    const rounds = new Map<Pair, Round[]>();
    for (const peer of peersOf(cell, options)) {
      const pair = await Pair.start(tools, peer, cell);
      pairs.push(pair);
      rounds.set(pair, []);
      await pair.warmUp(options.warmUp);
      onStep();
    }
    for (let round = 0; round < options.rounds; round++) {
      for (let k = 0; k < pairs.length; k++) {
        const pair = pairs[(k + round) % pairs.length] as Pair;
        rounds.get(pair)?.push(await pair.round(options.roundMs));
        onStep();
      }
    }
    const inC = pairs.find(({ peer }) => peer === "c");
    const lines: ResultLine[] = [];
    for (const pair of pairs) {
      const own = rounds.get(pair) as Round[];
      const extras = await findExtras(tools, pair, own, options);
      lines.push(lineOf(pair, own, inC && rounds.get(inC), extras));
      await pair.close();
      onStep();
    }
    return lines;
  } finally {
    for (const pair of pairs) pair.kill();
  }
}

function peersOf(cell: Cell, { only }: Options) {
  return cell.peers.filter((peer) => (only ?? peer) === peer && isInstalled(peer));
}

function versionOf(path: string | null, pattern: RegExp): string | null {
  if (path === null) return null;
  const { stdout } = Bun.spawnSync([path, "--version"]);
  return pattern.exec(stdout.toString())?.[1] ?? null;
}

function commitNow(): string | null {
  return git("rev-parse", "HEAD");
}

// Without a commit to compare with nobody knows.
function isDirtyNow(): boolean {
  return git("status", "--porcelain") !== "";
}

function git(...values: string[]): string | null {
  if (Bun.which("git") === null) return null;
  const { success, stdout } = Bun.spawnSync(["git", ...values], { cwd: import.meta.dir });
  return success ? stdout.toString().trim() : null;
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return null;
  }
}

function mitigationsNow(): Record<string, string> {
  const folder = "/sys/devices/system/cpu/vulnerabilities";
  try {
    const all = readdirSync(folder).map((name) => [name, textOf(join(folder, name)) ?? ""]);
    return Object.fromEntries(all.filter(([, text]) => text?.includes("Mitigation")));
  } catch {
    return {};
  }
}

function offloadsNow(): Record<string, string> {
  const { udpSegmentation, udpCoalescing, zeroCopy, ioUring, helperThread } = capabilities();
  const able = ({ supported, reason, detail }: Capability) =>
    supported ? (detail ?? "yes") : reason;
  return {
    UDP_SEGMENT: able(udpSegmentation),
    UDP_GRO: able(udpCoalescing),
    MSG_ZEROCOPY: able(zeroCopy),
    // The best that there is, as our sockets choose it.
    ringer: ioUring.supported ? "io_uring" : helperThread.supported ? "thread" : "timer",
    rmem_max: textOf("/proc/sys/net/core/rmem_max") ?? "",
    wmem_max: textOf("/proc/sys/net/core/wmem_max") ?? "",
  };
}

function environmentNow(): EnvironmentLine {
  const version = /(\d+\.\d+\S*)/;
  return {
    kind: "environment",
    at: new Date().toISOString(),
    commit: commitNow(),
    isDirty: isDirtyNow(),
    bun: Bun.version,
    node: versionOf(Bun.which("node"), version),
    deno: versionOf(findDeno(), version),
    python: versionOf(Bun.which("python3"), version),
    kernel: os.release(),
    cpu: os.cpus()[0]?.model.trim() ?? "unknown",
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / GIB),
    load: Number((os.loadavg()[0] ?? 0).toFixed(2)),
    mitigations: mitigationsNow(),
    offloads: offloadsNow(),
  };
}

/** How far it is, and how long it will take, on a terminal; nothing elsewhere. */
function startProgress(steps: number) {
  if (!process.stderr.isTTY) return { title() {}, step() {}, stop() {} };
  const bar = new SingleBar({
    format: "{bar} {percentage} %, {eta_formatted} left, {title}",
    ...{ barsize: 30, clearOnComplete: true, hideCursor: true, etaBuffer: 100 },
  });
  bar.start(steps, 0, { title: "" });
  return {
    title: (title: string) => bar.update({ title }),
    step: () => bar.increment(),
    stop: () => bar.stop(),
  };
}

function refuse(reason: string): never {
  console.error(reason);
  process.exit(2);
}

function choose(names: readonly string[]): readonly Cell[] {
  if (names.length === 0) return CELLS;
  const chosen = names.map((name) => ({ name, cells: cellsNamed(name) }));
  const unknown = chosen.find(({ cells }) => cells.length === 0);
  if (unknown !== undefined) refuse(`There is no cell ${unknown.name}. ${USAGE}\n${list(CELLS)}`);
  return [...new Set(chosen.flatMap(({ cells }) => cells))];
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      rounds: { type: "string" },
      only: { type: "string" },
    },
  });
  const wanted = choose(positionals);
  const everybody = new Set(CELLS.flatMap(({ peers }) => peers));
  if (values.only !== undefined && ![...everybody].some((peer) => peer === values.only))
    refuse(`There is no peer ${values.only}: ${[...everybody].join(", ")}`);
  if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds))
    refuse(`--rounds takes a count, not ${values.rounds}`);
  if (values.list) {
    console.log(list(wanted));
    return;
  }
  const base = values.quick ? QUICK : WHOLE;
  const rounds = values.rounds === undefined ? base.rounds : Number(values.rounds);
  const options = { ...base, rounds, only: values.only, json: values.json };
  const isPossible = canMakeVeth();
  const cells = wanted.filter(({ topology }) => topology !== "veth" || isPossible);
  const missing = [...new Set(cells.flatMap(({ peers }) => peers))].filter(
    (one) => !isInstalled(one),
  );
  if (missing.length > 0) console.error(`Not installed here, so left out: ${missing.join(", ")}`);
  if (cells.length < wanted.length)
    console.error("Left out, as they need network namespaces (root): the cells over veth");
  const environment = environmentNow();
  if (options.json) console.log(JSON.stringify(environment));
  else {
    const minutes = Math.ceil(planSeconds(cells, options.rounds, options.roundMs) / 60);
    console.log(`${environmentText(environment)}\n${cells.length} cells, about ${minutes} min`);
  }
  const lines: ResultLine[] = [];
  const steps = cells.map((cell) => peersOf(cell, options).length * (options.rounds + 2));
  const progress = startProgress(steps.reduce((sum, one) => sum + one, 0));
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
  try {
    const tools = new Tools(folder);
    for (const cell of cells) {
      progress.title(cell.name);
      const some: readonly SuiteLine[] = await runCell(tools, cell, options, progress.step);
      for (const line of some) {
        if (line.kind === "result") lines.push(line);
        if (options.json) console.log(JSON.stringify(line));
      }
    }
  } finally {
    progress.stop();
    rmSync(folder, { recursive: true });
  }
  if (!options.json) console.log(resultTables(lines));
}

await main();
