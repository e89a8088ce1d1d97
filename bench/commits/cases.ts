import { Failure } from "./programs.ts";

/** What a comparison compares: what one peer did in one case, in nanoseconds. Less is better. */
export interface Case {
  /** Its file, and the arguments it was given: "udp_single --ringer thread". */
  readonly bench: string;
  readonly case: string;
  readonly peer: string;
  readonly bytes: number | null;
  readonly batch: number | null;
  readonly ns: number;
}

// Whose code is not in this repository, or not in lib: what they take tells of the machine.
const CONTROLS: ReadonlySet<string> = new Set([
  ...["c", "c-single", "c-spin", "c-recvmmsg", "tcpdump", "python", "deno", "empty"],
  ...["bun", "bun-udp", "node", "node-dgram", "node-dgram-bun", "direct"],
]);

/** Whether a peer does not use the library: then no commit can make it slower. */
export function isControl(peer: string): boolean {
  return CONTROLS.has(peer);
}

/** What tells a case apart from others. */
export function keyOf({ bench, case: name, peer, bytes, batch }: Omit<Case, "ns">): string {
  return JSON.stringify([bench, name, peer, bytes, batch]);
}

/**
 * Reads what a benchmark prints with `--json`: lines of bench/support.ts, or of the suite.
 *
 * @param bench what they are put under
 * @throws {Failure} a line is neither, or there are two of the same case
 */
export function readCases(output: string, bench: string): Case[] {
  const cases = output
    .split("\n")
    .filter((text) => text.trim() !== "")
    .map((text) => readCase(text, bench))
    .filter((one) => one !== undefined);
  const seen = new Set<string>();
  for (const one of cases) {
    const key = keyOf(one);
    if (seen.has(key)) throw new Failure(`printed two results of ${key}`);
    seen.add(key);
  }
  if (cases.length === 0) throw new Failure("printed no result");
  return cases;
}

function readCase(text: string, bench: string): Case | undefined {
  const line = parse(text);
  // Of the suite: the line about the machine has no number to compare.
  if (line["kind"] === "environment") return undefined;
  const isOfSuite = line["kind"] === "result";
  const read = {
    bench,
    case: isOfSuite ? line["cell"] : line["case"],
    peer: line["peer"],
    bytes: (isOfSuite ? line["payloadBytes"] : line["bytes"]) ?? null,
    batch: line["batch"] ?? null,
    ns: isOfSuite ? (line["ns"] as { median?: unknown } | undefined)?.median : line["ns"],
  };
  const { case: name, peer, ns } = read;
  const isNamed = typeof name === "string" && typeof peer === "string";
  if (!isNamed || typeof ns !== "number") throw noResult(text);
  return read as Case;
}

function parse(text: string): Record<string, unknown> {
  try {
    const line: unknown = JSON.parse(text);
    if (typeof line === "object" && line !== null) return line as Record<string, unknown>;
  } catch {
    // Said below: a table, a warning, half a line.
  }
  throw noResult(text);
}

function noResult(text: string): Failure {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new Failure(`printed what is no result: ${shown}`);
}
