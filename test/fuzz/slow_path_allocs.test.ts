/**
 * The loopback tests once more, with a collection at every 20th allocation that takes the slow path:
 * memory that the kernel is told of and that nothing holds is gone, or something else, when the
 * kernel writes to it.
 *
 * @module
 */
import { expect, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");
// Programs that end without closing what they have open are reported here, and nowhere else: their
// sockets are collected before they end.
const ENV = { BUN_JSC_slowPathAllocsBetweenGCs: "20", BUN_SOCKETS_LEAKS: "" };
const TEST_MS_MAX = 120_000;
const TIMEOUT_MS = 10 * 60_000;
const LANES = 2;

const LEFT_OUT: Readonly<Record<string, string>> = {
  "allocation.test.ts": "measures children that run with settings of the collector of their own",
  "dropped.test.ts": "its subject is when the engine collects, in children",
  "signals.test.ts": "its deadlines are a few milliseconds, which a collection takes",
  "forced_failures.test.ts": "its calls fail before the kernel is told of memory",
  "helper_thread.test.ts": "its work is in children, with times of their own",
  "option.test.ts": "its values pass through memory that each other test of sockets uses, too",
  "peek.test.ts": "a thousand orders of the same calls, on memory that is held as elsewhere",
  "poller.test.ts":
    "it closes descriptors behind the back of an engine that opens others meanwhile",
  "process_life.test.ts": "its work is in children, whose ends it times",
  "stream_bad_input.test.ts": "its calls are refused before the kernel is told of memory",
  "suite.test.ts": "its work is in children, which measure",
  "suite_calls.test.ts": "its work is in children, which are measured",
  "suite_cells.test.ts": "its work is in children, which measure",
  "suite_cells_long.test.ts": "its work is in children, which measure",
  "suite_memory.test.ts": "its work is in children, with settings of the collector of their own",
  "thread_end.test.ts": "its work is in children, with Workers that end",
  "turn_budget.test.ts": "it measures how late a timer is, in children",
  "wake_ups.test.ts": "its work is in children, hundreds of thousands of times",
  "workers.test.ts": "its work is in children, with a thousand Workers",
};

// All other tests run.
const LEFT_OUT_NAMES: Readonly<Record<string, string>> = {
  "when the loop is hot": "rounds for the optimising compiler, which take minutes like this",
  "1,000,000 creations and closes": "a million sockets, which take half a minute like this",
  "100,000 receives with one": "a hundred thousand receives, which take long like this",
  "10,000 waits, each shorter": "ten thousand timers, which take long like this",
  "with a collection": "collects at every turn by itself",
  "of 5000 senders": "more senders than a socket remembers, which take minutes like this",
  "does not spin": "counts wake-ups, which a collection puts off and adds",
  "wakes it again and again": "counts wake-ups, which a collection puts off and adds",
  "nothing is allocated for":
    "measures children that run with settings of the collector of their own",
  "take no notice of signals": "counts interruptions, and a collection takes longer than its storm",
  "no mapping and no thread": "counts threads, and the engine starts some for its collections",
  "over TCP settles all": "fills a TCP connection, whose buffers grow meanwhile",
  "over TCP: in order": "fills a TCP connection, whose buffers grow meanwhile",
  "over TCP: nothing is held back": "fills a TCP connection, whose buffers grow meanwhile",
};
const NAMES = `^(?!.*(${Object.keys(LEFT_OUT_NAMES).join("|")}))`;

const found = [...new Bun.Glob("*.test.ts").scanSync(join(root, "test/loopback"))];
const files = found
  .filter((file) => !(file in LEFT_OUT))
  .map((file) => `./test/loopback/${file}`)
  .sort((left, right) => sizeOf(right) - sizeOf(left));

// The longest ones first, so that no lane is left with one in the end.
function sizeOf(file: string): number {
  return statSync(join(root, file)).size;
}

/** Runs one file. Returns its name and the end of its output, or undefined when it passed. */
async function failureOf(file: string): Promise<string | undefined> {
  const child = Bun.spawn(
    [
      ...[process.execPath, "test", `--timeout=${TEST_MS_MAX}`],
      ...["--test-name-pattern", NAMES, file],
    ],
    { cwd: root, env: { ...process.env, ...ENV }, stdio: ["ignore", "pipe", "pipe"] },
  );
  const [output, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  if ((await child.exited) === 0) return undefined;
  const lines = `${output}${errors}`.split("\n").filter((line) => !line.startsWith("(pass)"));
  return `${file}: ${child.signalCode ?? child.exitCode}\n${lines.join("\n")}`;
}

test(
  "the loopback tests pass when the engine collects at every turn",
  async () => {
    expect(Object.keys(LEFT_OUT).filter((file) => !found.includes(file))).toEqual([]);
    const rest = [...files];
    const failures: string[] = [];
    const lane = async () => {
      for (let file = rest.shift(); file !== undefined; file = rest.shift()) {
        const failure = await failureOf(file);
        if (failure !== undefined) failures.push(failure);
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    expect(failures.join("\n")).toBe("");
  },
  TIMEOUT_MS,
);
