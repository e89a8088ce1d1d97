/**
 * Runs cells of the suite, for `bench/suite.ts`, the command `bun-sockets bench`, and whoever else wants
 * their lines.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Cell, Form, PeerName } from "./cells.ts";
import { environmentNow } from "./environment.ts";
import { type Allocated, measureAllocated, UNKNOWN } from "./peers/suite_memory.ts";
import { isInstalled, Pair, Tools } from "./peers/suite_programs.ts";
import type { Round } from "./peers/suite_round.ts";
import { canMakeVeth } from "./peers/veth.ts";
import type { ResultLine, SuiteLine } from "./results.ts";
import { type Extras, lineOf } from "./suite_result.ts";

/** How a run is made, and whom to tell how far it is. */
export interface RunOptions extends Form {
  /** Ends it: there are no more lines then, not even of the cell that is running. */
  readonly signal?: AbortSignal | undefined;
  /** A cell begins. */
  readonly onCell?: ((cell: Cell) => void) | undefined;
  /** Another of the steps is done: see {@link stepsOf}. */
  readonly onStep?: (() => void) | undefined;
}

/** What of some cells can be measured here. */
export interface Possible {
  /** With those peers that are installed, and none without any. */
  readonly cells: readonly Cell[];
  /** Who is not. */
  readonly missing: readonly PeerName[];
  /** Whether cells over veth were left out: they need network namespaces. */
  readonly isWithoutVeth: boolean;
}

/** What of some cells can be measured here: by all peers, or by one. */
export function possibleHere(chosen: readonly Cell[], only?: PeerName): Possible {
  const wanted = chosen
    .map((cell) => ({ ...cell, peers: cell.peers.filter((peer) => (only ?? peer) === peer) }))
    .filter(({ peers }) => peers.length > 0);
  const everybody = [...new Set(wanted.flatMap(({ peers }) => peers))];
  const installed = everybody.filter(isInstalled);
  const isWithoutVeth = wanted.some(({ topology }) => topology === "veth") && !canMakeVeth();
  const cells = wanted
    .filter(({ topology }) => topology !== "veth" || !isWithoutVeth)
    .map((cell) => ({ ...cell, peers: cell.peers.filter((peer) => installed.includes(peer)) }))
    .filter(({ peers }) => peers.length > 0);
  const missing = everybody.filter((peer) => !installed.includes(peer));
  return { cells, missing, isWithoutVeth };
}

/** How many steps a run has: of each peer in each cell the start, the rounds, and the end. */
export function stepsOf(cells: readonly Cell[], { rounds }: Form): number {
  return cells.reduce((sum, { peers }) => sum + peers.length * (rounds + 2), 0);
}

/**
 * The lines of a run of cells that are possible here: where it is made, then one for each peer of each cell,
 * as soon as that cell is done. Whoever asks for no more of them ends it, and with it all its processes.
 */
export async function* runSuite(
  cells: readonly Cell[],
  options: RunOptions,
): AsyncGenerator<SuiteLine, void> {
  const { signal } = options;
  yield environmentNow();
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-bench-"));
  try {
    const tools = new Tools(folder);
    for (const cell of cells) {
      if (signal?.aborted) return;
      options.onCell?.(cell);
      let lines: readonly ResultLine[];
      try {
        lines = await new CellRun(tools, cell, options).lines();
      } catch (error) {
        if (signal?.aborted) return;
        throw error;
      }
      yield* lines;
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// How long the round is that reads the kernel's timestamps.
const WAITS_MS = 100;

/** A cell that runs: its peers in turn, another one first in each round. */
class CellRun {
  readonly #tools: Tools;
  readonly #cell: Cell;
  readonly #options: RunOptions;
  /** All that may still have processes. */
  readonly #pairs: Pair[] = [];

  constructor(tools: Tools, cell: Cell, options: RunOptions) {
    this.#tools = tools;
    this.#cell = cell;
    this.#options = options;
  }

  async lines(): Promise<ResultLine[]> {
    const { signal } = this.#options;
    // What waits for an answer of one of them waits no longer.
    const end = () => this.#kill();
    signal?.addEventListener("abort", end);
    try {
      return await this.#run();
    } finally {
      signal?.removeEventListener("abort", end);
      await this.#kill();
    }
  }

  async #run(): Promise<ResultLine[]> {
    const { rounds: count, roundMs, onStep } = this.#options;
    const rounds = new Map<Pair, Round[]>();
    for (const peer of this.#cell.peers) {
      const pair = await this.#start(peer);
      rounds.set(pair, []);
      await pair.warmUp();
      // One that is not counted: the p99 of a latency needs compilers that are done.
      if (pair.isCompiled) await pair.round(roundMs);
      onStep?.();
    }
    const pairs = [...rounds.keys()];
    for (let round = 0; round < count; round++) {
      for (let k = 0; k < pairs.length; k++) {
        const pair = pairs[(k + round) % pairs.length] as Pair;
        rounds.get(pair)?.push(await pair.round(roundMs));
        onStep?.();
      }
    }
    const inC = pairs.find(({ peer }) => peer === "c");
    const lines: ResultLine[] = [];
    for (const pair of pairs) {
      const own = rounds.get(pair) as Round[];
      const extras = await this.#findExtras(pair, own);
      lines.push(lineOf(pair, own, inC && rounds.get(inC), extras));
      await pair.close();
      onStep?.();
    }
    return lines;
  }

  async #start(peer: PeerName, isUncollected = false): Promise<Pair> {
    const pair = await Pair.start(this.#tools, peer, this.#cell, isUncollected);
    this.#pairs.push(pair);
    this.#options.signal?.throwIfAborted();
    return pair;
  }

  /** What is not found out in the rounds, because finding it out takes time. */
  async #findExtras(pair: Pair, rounds: readonly Round[]): Promise<Extras> {
    const { cell } = pair;
    const { hasCalls, hasGrowth } = this.#options;
    const isCounted = rounds.every((one) => one.sendCalls !== null && one.receiveCalls !== null);
    const isOneSide = cell.topology === "one thread" || cell.senders > 1;
    const calls =
      !hasCalls || isCounted || isOneSide ? { send: null, receive: null } : await pair.countCalls();
    const { allocated, waits } = hasGrowth
      ? { allocated: await this.#measureAllocated(pair), waits: await pair.measureWaits(WAITS_MS) }
      : { allocated: UNKNOWN, waits: null };
    return { calls, allocated, waits };
  }

  async #measureAllocated(pair: Pair): Promise<Allocated> {
    const { peer } = pair;
    // Python does not collect but count, and its pages do not tell what it has allocated.
    if (peer === "python") return UNKNOWN;
    if (peer === "c") return await measureAllocated(pair);
    const uncollected = await this.#start(peer, true);
    const allocated = await measureAllocated(uncollected);
    await uncollected.kill();
    return allocated;
  }

  async #kill(): Promise<void> {
    await Promise.all(this.#pairs.map((pair) => pair.kill()));
  }
}
