/**
 * What process_life.test.ts, workers.test.ts and their programs share: the ways a poller can be told
 * to work, children that run a program that way, and what /proc counts.
 *
 * @module
 */
import { readdirSync, readFileSync, readlinkSync, writeSync } from "node:fs";
import { release } from "node:os";
import { join } from "node:path";
import { close, io_uring_setup } from "bun-sockets/sys";
import { io_uring_params } from "../../../structs/io_uring_params.ts";
import type { Missing } from "../../support/require.ts";

/** A way for the poller to work, as its process is told. */
export interface Way {
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  /** What of it is not on this machine. */
  readonly missing: Missing;
}

/** All of them. */
export const WAYS: readonly Way[] = [
  { name: "io_uring", env: { BUN_SOCKETS_RINGER: "io_uring" }, missing: missingIoUring() },
  { name: "thread", env: { BUN_SOCKETS_RINGER: "thread" }, missing: undefined },
  { name: "timer", env: { BUN_SOCKETS_RINGER: "timer" }, missing: undefined },
  { name: "eventfd", env: { BUN_SOCKETS_DOORBELL: "eventfd" }, missing: undefined },
];

function missingIoUring(): Missing {
  const fd = io_uring_setup(1, new DataView(new ArrayBuffer(io_uring_params.size)));
  if (fd < 0) return "needs io_uring, which this kernel or container does not allow";
  close(fd);
  return undefined;
}

/** What the poller of one thread opens in a way, by kind, when that ringer is in use. */
export function pollerOpens(way: Way, ringer: string): Kinds {
  // Of a pair the engine has one end; an eventfd it duplicates while it reads it.
  const bell: Kinds = way.name === "eventfd" ? { eventfd: 2 } : { socket: 2 };
  switch (ringer) {
    case "io_uring":
      return sum(bell, { eventpoll: 1, io_uring: 1, memfd: 1 });
    case "thread":
      return sum(bell, { eventpoll: 1, eventfd: 1, pidfd: hasThreadPidfds() ? 1 : 0 });
    default:
      return { eventpoll: 1, memfd: 1 };
  }
}

// Since Linux 6.9 a pidfd can mean a thread.
function hasThreadPidfds(): boolean {
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 9);
}

/** Adds two counts. */
export function sum(left: Kinds, right: Kinds): Kinds {
  const kinds = [...Object.keys(left), ...Object.keys(right)].sort();
  const sums = kinds.map((kind) => [kind, (left[kind] ?? 0) + (right[kind] ?? 0)]);
  return Object.fromEntries(sums.filter(([, count]) => count !== 0));
}

/** The environment of this process, with the poller told to work in a way, or in any. */
export function environment(way?: Way): Record<string, string | undefined> {
  return {
    ...process.env,
    BUN_SOCKETS_RINGER: undefined,
    BUN_SOCKETS_DOORBELL: undefined,
    // These programs end with sockets open, of which some may have been collected.
    BUN_SOCKETS_LEAKS: undefined,
    ...way?.env,
  };
}

/** How a child has ended. */
export interface Ended {
  /** Its exit code, or the name of the signal. */
  readonly end: number | string | null;
  /** The lines it printed, each of them JSON. */
  readonly lines: readonly unknown[];
  readonly errors: string;
  /** When it was gone, in milliseconds since 1970. */
  readonly endedAt: number;
}

const CHILD_MS_MAX = 50_000;

/** A running program. */
export type Child = Bun.Subprocess<"ignore", "pipe", "pipe">;

/** Starts a program of this folder. */
export function start(
  program: string,
  mode: string,
  way?: Way,
  values: readonly string[] = [],
  limitMs = CHILD_MS_MAX,
): Child {
  return Bun.spawn([process.execPath, join(import.meta.dir, program), mode, ...values], {
    env: environment(way),
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: limitMs,
    killSignal: "SIGKILL",
  });
}

/** Waits for the end of a program. */
export async function ended(child: Child): Promise<Ended> {
  const output = Promise.all([rest(child.stdout), rest(child.stderr)]);
  await child.exited;
  const endedAt = now();
  const [text, errors] = await output;
  const lines = text.split("\n").filter(Boolean).map(toValue);
  return { end: child.signalCode ?? child.exitCode, lines, errors, endedAt };
}

// Its beginning may have been read by somebody else.
async function rest(stream: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += Buffer.from(chunk).toString();
  return text;
}

// What is no JSON is shown by the assertion that fails.
function toValue(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return line;
  }
}

/** Runs a program of this folder to its end. */
export function run(...values: Parameters<typeof start>): Promise<Ended> {
  return ended(start(...values));
}

/** Prints a value as a line of JSON, at once. */
export function say(value: unknown): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

/** Milliseconds since 1970, with all their decimals. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** Waits for a condition, and says whether it came true. */
export async function until(condition: () => boolean, limitMs = 10_000): Promise<boolean> {
  const limit = performance.now() + limitMs;
  while (!condition()) {
    if (performance.now() > limit) return false;
    await Bun.sleep(1);
  }
  return true;
}

/** How many there are of each kind. */
export type Kinds = Readonly<Record<string, number>>;

/** The open descriptors of this process: their numbers, and what each of them is. */
export function descriptors(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      found.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // It was that of the listing itself, or was closed meanwhile.
    }
  }
  return found;
}

/** Counts the open descriptors of this process by their kind: "socket", "eventpoll", "memfd", … */
export function openKinds(): Kinds {
  return count([...descriptors().values()].map(kindOf));
}

// socket:[123], pipe:[123], anon_inode:[eventpoll], /memfd:name (deleted), /path
function kindOf(link: string): string {
  const [, inode, anonymous, memory] =
    /^(?:anon_inode:\[?([\w-]+)\]?|(\w+):\[\d+\]|\/(memfd):.*)$/.exec(link) ?? [];
  return inode ?? anonymous ?? memory ?? "file";
}

/** Counts the threads of this process by their name. */
export function threadKinds(): Kinds {
  const names = readdirSync("/proc/self/task").flatMap((id) => {
    try {
      return [readFileSync(`/proc/self/task/${id}/comm`, "utf8").trim()];
    } catch {
      return [];
    }
  });
  return count(names);
}

function count(kinds: readonly string[]): Kinds {
  const counts: Record<string, number> = {};
  for (const kind of kinds.toSorted()) counts[kind] = (counts[kind] ?? 0) + 1;
  return counts;
}

/** What there is more of, or less. */
export function difference(before: Kinds, after: Kinds): Kinds {
  const kinds = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  const differences = kinds.map((kind) => [kind, (after[kind] ?? 0) - (before[kind] ?? 0)]);
  return Object.fromEntries(differences.filter(([, more]) => more !== 0));
}
