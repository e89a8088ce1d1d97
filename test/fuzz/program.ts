/**
 * Calls the whole public surface in sequences that fast-check draws, with good, bad and hostile
 * arguments, and prints what became of the calls as JSON.
 *
 *     bun test/fuzz/program.ts --seed 1 --calls 100000             ends at the first failure
 *     bun test/fuzz/program.ts --seed 1 --sequence 17              runs one sequence of it again
 *     bun test/fuzz/program.ts --seed 1 --calls 100000 --survey    goes on, and lists all failures
 *     bun test/fuzz/program.ts --entry packet                      calls "bun-sockets/packet"
 *
 * One sequence alone is made as short as possible before it is shown. Run the program in a network
 * namespace of its own (`unshare -rn`, loopback up): then nothing that it sends can leave, whatever
 * it finds.
 *
 * @module
 */
import { dlopen } from "bun:ffi";
import { openSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import fc from "fast-check";
import { Failure } from "./failure.ts";
import { withoutMember, withoutRow } from "./good.ts";
import { handled } from "./handlers.ts";
import { descriptorKinds, Harness, type Step } from "./harness.ts";
import { faultCount, install } from "./kernel.ts";
import { NEVER_REFUSED, RARELY, reasonOf } from "./limits.ts";
import { stopPoller } from "./loop.ts";
import { enterFolder, Packets } from "./packets.ts";
import { type Entry, entries, isInherited, type ModuleName } from "./surface.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: `${Date.now() % 2 ** 31}` },
    calls: { type: "string", default: "100000" },
    sequence: { type: "string" },
    entry: { type: "string", default: "main" },
    progress: { type: "string" },
    survey: { type: "boolean", default: false },
  },
});
const seed = Number(values.seed);
const module: ModuleName = values.entry === "packet" ? "packet" : "main";
// What packets take is kept for the next sequence, and most of it computes only.
const SEQUENCE_MAX = module === "packet" ? 200 : 80;
// The others are derived of these, at much less cost.
const DRAWN = 4;
// Where the engine collects at every turn, everything takes many times as long.
const CALL_SECONDS = process.env["BUN_JSC_slowPathAllocsBetweenGCs"] ? 60 : 10;

// SIGALRM ends the process when a call does not come back.
const { symbols } = dlopen("libc.so.6", { alarm: { args: ["u32"], returns: "u32" } });
const progressFd = values.progress === undefined ? undefined : openSync(values.progress, "w");

/** Tells where it is, for whoever finds it dead. */
function progress(text: string): void {
  symbols.alarm(CALL_SECONDS);
  if (progressFd !== undefined) writeSync(progressFd, `seed ${seed}, ${text}`.padEnd(200), 0);
}

const missing = withoutRow(entries);
if (missing.length > 0) throw new Error(`No good arguments for ${missing.join(", ")}: see good.ts`);
const spare = withoutMember(entries);
if (spare.length > 0) throw new Error(`Good arguments for what is not there: ${spare.join(", ")}`);

if (module === "packet") enterFolder();
install();
const harness = new Harness(progress, values.survey, module);
// What can end in more ways, and has more state, is called more often; what a class has from another
// one, and does as that one does, more seldom.
const weighted = entries.flatMap((entry, index) => {
  if (entry.module !== module) return [];
  return Array.from({ length: weightOf(entry) }, () => index);
});
function weightOf(entry: Entry): number {
  if (isInherited(entry)) return 1;
  if (RARELY.test(entry.key)) return 20;
  return reasonOf(entry.key, NEVER_REFUSED) === undefined ? 10 : 5;
}

const step: fc.Arbitrary<Step> = fc.record({
  entry: fc.nat({ max: weighted.length - 1 }).map((at) => weighted[at] as number),
  way: fc.nat({ max: 99 }),
  drawn: fc.array(fc.nat(), { minLength: DRAWN, maxLength: DRAWN }),
});
// They are half as long on average; a few more, so that there are enough calls.
const sequences = Math.ceil((Number(values.calls) / SEQUENCE_MAX) * 2 * 1.05) + 5;
let sequence = Number(values.sequence ?? 0);
const run = fc.asyncProperty(
  fc.array(step, { minLength: 1, maxLength: SEQUENCE_MAX, size: "max" }),
  async (steps) => harness.run(`sequence ${sequence++}`, steps),
);

const before = descriptorKinds();
const started = performance.now();
const result = await fc.check(run, {
  seed,
  numRuns: values.sequence === undefined ? sequences : 1,
  ...(values.sequence === undefined ? {} : { path: values.sequence }),
  unbiased: true,
  // Shrinking takes a while: it is for who runs the one sequence again.
  endOnFailure: values.sequence === undefined,
});
symbols.alarm(0);
if (result.failed) {
  const { errorInstance, counterexamplePath } = result;
  const first = counterexamplePath?.split(":")[0];
  if (errorInstance instanceof Failure) console.error(errorInstance.message);
  else console.error(errorInstance);
  console.error(
    `seed ${seed}, sequence ${first}: bun test/fuzz/program.ts --entry ${module} --seed ${seed} --sequence ${first}`,
  );
  process.exit(1);
}
Packets.retire();
stopPoller();
const { counts, nested, sprung, found, endings, ringers } = harness;
for (const [text, { times, first }] of found) console.error(`${times} × ${text}\n    ${first}`);
console.log(
  JSON.stringify({
    seed,
    seconds: (performance.now() - started) / 1000,
    nested,
    sprung,
    faults: faultCount(),
    endings,
    handled,
    ringers,
    descriptors: { before, after: descriptorKinds() },
    residentBytes: process.memoryUsage.rss(),
    entries: Object.fromEntries(counts),
    inherited: entries
      .filter((entry) => entry.module === module && isInherited(entry))
      .map(({ key }) => key),
  }),
);
