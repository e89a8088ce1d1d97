/**
 * Reads what a run of the suite has written, and refuses what does not say what it should: a chart
 * of half understood numbers looks as exact as any other.
 *
 * @module
 */
import type { EnvironmentLine, ResultLine, Spread } from "../results.ts";

/** The lines of one run, in their order. */
export interface Run {
  /** Null when the run does not say where it was made. */
  readonly environment: EnvironmentLine | null;
  readonly results: readonly ResultLine[];
}

/** Says what a value should have been, or nothing when it is that. */
type Check = (value: unknown) => string | undefined;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isAmount = (value: unknown): value is number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0;

const text: Check = (value) => (typeof value === "string" ? undefined : "a text");
const amount: Check = (value) => (isAmount(value) ? undefined : "a number from 0 on");
const count: Check = (value) =>
  isAmount(value) && Number.isSafeInteger(value) ? undefined : "a whole number from 0 on";
const yesOrNo: Check = (value) => (typeof value === "boolean" ? undefined : "true or false");
const texts: Check = (value) =>
  isObject(value) && Object.values(value).every((one) => typeof one === "string")
    ? undefined
    : "an object of texts";

const spread: Check = (value) => {
  if (!isObject(value)) return "an object of median, min and max";
  const { median, min, max } = value as unknown as Spread;
  if (![median, min, max].every(isAmount)) return "median, min and max from 0 on";
  return min <= median && median <= max ? undefined : "min, median and max in this order";
};

// A histogram tells a percentile as the end of a step, of three digits: that may be above the longest.
const STEP = 1.01;

const latency: Check = (value) => {
  if (!isObject(value)) return "an object of p50, p90, p99 and max";
  const all = [value["p50"], value["p90"], value["p99"], value["max"]];
  if (!all.every(isAmount)) return "p50, p90, p99 and max from 0 on";
  const [p50, p90, p99, max] = all as [number, number, number, number];
  const isOrdered = p50 <= p90 && p90 <= p99 && p99 <= max * STEP;
  return isOrdered ? undefined : "p50, p90, p99 and max in this order";
};

const steps: Check = (value) => {
  const isStep = (one: unknown) =>
    Array.isArray(one) && one.length === 2 && isAmount(one[0]) && count(one[1]) === undefined;
  if (!Array.isArray(value) || !value.every(isStep)) return "a list of pairs: µs and how many";
  const isRising = value.every(([us], i) => us > 0 && (i === 0 || us > value[i - 1][0]));
  return isRising ? undefined : "steps that end at more and more µs";
};

/** What is so, or null. */
const orNull =
  (check: Check): Check =>
  (value) => {
    const expected = value === null ? undefined : check(value);
    return expected && `${expected}, or null`;
  };

/** What lines of older runs do not have. */
const orMissing =
  (check: Check): Check =>
  (value) =>
    value === undefined ? undefined : check(value);

const ENVIRONMENT: Readonly<Record<Exclude<keyof EnvironmentLine, "kind">, Check>> = {
  at: (value) =>
    typeof value === "string" && !Number.isNaN(Date.parse(value)) ? undefined : "an ISO 8601 time",
  commit: orNull(text),
  isDirty: orMissing(yesOrNo),
  bun: text,
  node: orNull(text),
  deno: orNull(text),
  python: orNull(text),
  kernel: text,
  cpu: text,
  cores: count,
  memoryGiB: amount,
  load: amount,
  mitigations: texts,
  offloads: texts,
};

const RESULT: Readonly<Record<Exclude<keyof ResultLine, "kind">, Check>> = {
  cell: text,
  question: text,
  peer: text,
  send: text,
  receive: text,
  family: text,
  payloadBytes: count,
  batch: count,
  topology: text,
  form: text,
  rounds: count,
  datagrams: count,
  lost: count,
  stalls: orMissing(count),
  ns: spread,
  sendCpuNs: orNull(spread),
  receiveCpuNs: orNull(spread),
  datagramsPerSecond: spread,
  gbitPerSecond: spread,
  sendCallsPerDatagram: orNull(amount),
  receiveCallsPerDatagram: orNull(amount),
  bytesAllocatedPerDatagram: orNull(amount),
  sendBytesPerDatagram: orMissing(orNull(amount)),
  receiveBytesPerDatagram: orMissing(orNull(amount)),
  achievedSendBatch: orNull(amount),
  achievedReceiveBatch: orNull(amount),
  achievedSegments: orNull(amount),
  plainShare: orMissing(orNull(amount)),
  sendBufferBytes: orNull(amount),
  receiveBufferBytes: orNull(amount),
  latencyUs: orNull(latency),
  latencySteps: orMissing(orNull(steps)),
  waitUs: orMissing(orNull(latency)),
  ratioToC: orNull(spread),
  isNoisy: yesOrNo,
};

/**
 * Reads the JSON lines of one run. Members that it does not know are left alone, and so are empty
 * lines.
 *
 * @param ndjson What the suite wrote with `--json`.
 * @param name What an error calls it: the name of the file.
 * @throws {SyntaxError} If a line is not what a run holds: with its number, the member and what was
 *   expected. Also if there is no line at all, or more than one run.
 */
export function readRun(ndjson: string, name: string): Run {
  let environment: EnvironmentLine | null = null;
  const results: ResultLine[] = [];
  const seen = new Map<string, number>();
  for (const [i, written] of ndjson.split("\n").entries()) {
    if (written.trim() === "") continue;
    const where = `${name}:${i + 1}`;
    const line = readLine(written, where);
    if (line["kind"] === "environment") {
      check(line, ENVIRONMENT, where);
      if (environment || results.length > 0) {
        throw new SyntaxError(
          `${where}: an environment that is not the first line: two runs in one`,
        );
      }
      environment = line as unknown as EnvironmentLine;
    } else {
      check(line, RESULT, where);
      const result = line as unknown as ResultLine;
      const key = JSON.stringify([result.question, result.cell, result.peer, result.form]);
      const first = seen.get(key);
      if (first !== undefined) {
        throw new SyntaxError(
          `${where}: ${show(result.peer)} in ${show(result.cell)} stands in line ${first} already`,
        );
      }
      seen.set(key, i + 1);
      results.push(result);
    }
  }
  if (!environment && results.length === 0) throw new SyntaxError(`${name}: no line of a run`);
  return { environment, results };
}

function readLine(written: string, where: string): Record<string, unknown> {
  let line: unknown;
  try {
    line = JSON.parse(written);
  } catch (error) {
    throw new SyntaxError(`${where}: no JSON: ${(error as Error).message}`);
  }
  if (!isObject(line)) throw new SyntaxError(`${where}: no JSON object`);
  if (line["kind"] !== "environment" && line["kind"] !== "result") {
    throw new SyntaxError(
      `${where}: kind is ${show(line["kind"])}: expected "environment" or "result"`,
    );
  }
  return line;
}

function check(
  line: Record<string, unknown>,
  members: Readonly<Record<string, Check>>,
  where: string,
): void {
  for (const [member, test] of Object.entries(members)) {
    const expected = test(line[member]);
    if (expected) {
      throw new SyntaxError(`${where}: ${member} is ${show(line[member])}: expected ${expected}`);
    }
  }
}

// A value in an error, short: a line may be long.
function show(value: unknown): string {
  const written = JSON.stringify(value) ?? "missing";
  return written.length > 60 ? `${written.slice(0, 60)}…` : written;
}
