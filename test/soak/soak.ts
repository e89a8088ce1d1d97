// `npm run soak`: 5,000,000 events over io_uring and as many over the helper thread, in all
// placements of wake_ups.test.ts. What it has found is written to test/soak.json, also when a
// wake-up was lost. `npm run soak -- --events 100000` sends fewer, and writes nothing.
import { release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { PLACEMENTS, stepsOf } from "./placements.ts";
import { allowedCores, type Result, type Ringer, run, Source } from "./run.ts";

const EVENTS = 5_000_000;
const RINGERS: readonly Ringer[] = ["io_uring", "thread"];
const FILE = join(import.meta.dir, "../soak.json");

const { values } = parseArgs({ options: { events: { type: "string" } } });
const events = Number(values.events ?? EVENTS);
const cores = allowedCores();
using source = new Source();

const sum = (results: readonly Result[], key: "answered" | "voided" | "wakeUps" | "sleeps") =>
  results.reduce((total, result) => total + result[key], 0);

/** What was counted in some runs. */
function summary(results: readonly Result[]) {
  return {
    answered: sum(results, "answered"),
    longestWaitMs: Math.max(...results.map(({ longestMs }) => longestMs)),
    wakeUps: sum(results, "wakeUps"),
    sleeps: sum(results, "sleeps"),
  };
}

async function soak(ringer: Ringer) {
  const started = performance.now();
  const lost: string[] = [];
  const all: Result[] = [];
  const placements: Record<string, ReturnType<typeof summary>> = {};
  for (const placement of PLACEMENTS) {
    const results: Result[] = [];
    for (const step of stepsOf(placement, ringer, events / PLACEMENTS.length, cores)) {
      const settled = await Promise.allSettled(step.map((each) => run(source, each)));
      for (const outcome of settled)
        if (outcome.status === "fulfilled") results.push(outcome.value);
        else lost.push(`${outcome.reason}`.split("\n", 1)[0] as string);
    }
    placements[placement.name] = summary(results);
    console.log(`${ringer}, ${placement.name}: ${JSON.stringify(placements[placement.name])}`);
    all.push(...results);
  }
  const seconds = Math.round((performance.now() - started) / 1000);
  return { ...summary(all), lost, seconds, placements };
}

const found: Record<string, Awaited<ReturnType<typeof soak>>> = {};
for (const ringer of RINGERS) found[ringer] = await soak(ringer);

const record = {
  date: new Date().toISOString(),
  kernel: release(),
  bun: Bun.version,
  cores: cores.length,
  ringers: found,
};
const losses = Object.values(found).flatMap(({ lost }) => lost);
console.log(losses.length > 0 ? losses.join("\n") : "No wake-up was lost.");
if (values.events === undefined) await Bun.write(FILE, `${JSON.stringify(record, null, 2)}\n`);
process.exitCode = losses.length > 0 ? 1 : 0;
