import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RecordedRun } from "../../bench/commits/history_file.ts";
import type { EnvironmentLine, ResultLine, Spread } from "../../bench/results.ts";

const bench = join(import.meta.dir, "../../bench");
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-history-"));
const history = join(folder, "history.ndjson");
const file = join(folder, "run.ndjson");
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  rmSync(folder, { recursive: true });
  mkdirSync(folder);
});

const ENVIRONMENT: EnvironmentLine = {
  kind: "environment",
  at: "2031-02-03T04:05:06.000Z",
  commit: "0123456789abcdef0123456789abcdef01234567",
  isDirty: false,
  bun: "1.4.5",
  node: "v24.0.0",
  deno: null,
  python: null,
  kernel: "6.1.0",
  cpu: "A processor",
  cores: 8,
  memoryGiB: 16,
  load: 0.5,
  mitigations: { spectre_v2: "Retpolines" },
  offloads: { UDP_SEGMENT: "yes" },
};

const spread = (median: number): Spread => ({ median, min: median * 0.9, max: median * 1.1 });

function result(changes: Partial<ResultLine> & { readonly ns: Spread }): ResultLine {
  return {
    ...{ kind: "result", cell: "udp4/1200/base", question: "paths", peer: "bun-sockets" },
    ...{ send: "sendmmsg", receive: "recvmmsg", family: "ipv4", payloadBytes: 1200, batch: 64 },
    ...{ topology: "two processes", form: "try", rounds: 9, datagrams: 90_000, lost: 3 },
    ...{ sendCpuNs: spread(400), receiveCpuNs: null },
    ...{ datagramsPerSecond: spread(1e6), gbitPerSecond: spread(9.6) },
    ...{ sendCallsPerDatagram: 1 / 64, receiveCallsPerDatagram: 1 / 64 },
    ...{ bytesAllocatedPerDatagram: 0, achievedSendBatch: 64, achievedReceiveBatch: 64 },
    ...{ achievedSegments: null, sendBufferBytes: null, receiveBufferBytes: null },
    ...{ latencyUs: null, ratioToC: spread(1.05), isNoisy: false },
    ...changes,
  };
}

const text = (...lines: readonly unknown[]) =>
  lines.map((line) => `${JSON.stringify(line)}\n`).join("");

function run(program: string, values: readonly string[], stdin = "") {
  const command = [process.execPath, join(bench, program), ...values, "--history", history];
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, {
    stdin: Buffer.from(stdin),
    cwd: folder,
  });
  return { exitCode, output: stdout.toString(), complaint: stderr.toString() };
}

const record = (stdin: string, ...values: readonly string[]) => run("record.ts", values, stdin);

const recorded = () =>
  readFileSync(history, "utf8")
    .trimEnd()
    .split("\n")
    .map((line): RecordedRun => JSON.parse(line));

describe("bench/record.ts", () => {
  test("keeps when, what, where, and medians with their ranges by cell and peer", () => {
    const c = result({ peer: "c", ns: spread(700), ratioToC: null, lost: 0, isNoisy: true });
    const other = result({ cell: "unix/64/base", ns: { median: 1.23456789, min: 1, max: 2 } });
    const lines = text(ENVIRONMENT, result({ ns: spread(800) }), c, other);
    const { exitCode, output, complaint } = record(lines);
    expect({ exitCode, complaint }).toEqual({ exitCode: 0, complaint: "" });
    expect(output).toBe(`2 cells of ${ENVIRONMENT.at} in ${history}\n`);
    const { kind: _, at, commit, isDirty, ...environment } = ENVIRONMENT;
    const ours = {
      ...{ ns: [800, 720, 880], sendCpuNs: [400, 360, 440], receiveCpuNs: null },
      ...{ ratioToC: [1.05, 0.945, 1.155], rounds: 9, lost: 3, isNoisy: false },
    };
    expect(recorded()).toEqual([
      {
        ...{ at, commit, isDirty: false, environment },
        cells: {
          "udp4/1200/base": {
            "bun-sockets": ours,
            c: { ...ours, ns: [700, 630, 770], ratioToC: null, lost: 0, isNoisy: true },
          },
          "unix/64/base": { "bun-sockets": { ...ours, ns: [1.2346, 1, 2] } },
        },
      },
    ] as unknown as RecordedRun[]);
  });

  test("adds lines and never changes old ones, however they are written", () => {
    record(text(ENVIRONMENT, result({ ns: spread(800) })));
    const [first] = recorded();
    // What somebody has written by hand, with other spaces and members.
    const old = `${JSON.stringify({ ...first, note: "by hand" }).replaceAll(",", " , ")}\n`;
    writeFileSync(history, old);
    const later = { ...ENVIRONMENT, at: "2031-02-04T00:00:00.000Z" };
    writeFileSync(file, text(later, result({ ns: spread(900) })));
    expect(run("record.ts", [file])).toMatchObject({ exitCode: 0, complaint: "" });
    const after = readFileSync(history, "utf8");
    expect(after.startsWith(old)).toBe(true);
    expect(recorded().map(({ at }) => at)).toEqual([ENVIRONMENT.at, later.at]);
  });

  test("records a run once", () => {
    const lines = text(ENVIRONMENT, result({ ns: spread(800) }));
    expect(record(lines).exitCode).toBe(0);
    const { exitCode, complaint } = record(lines);
    expect(complaint).toContain(`the run of ${ENVIRONMENT.at} is recorded already`);
    expect(exitCode).toBe(1);
    expect(recorded()).toHaveLength(1);
  });

  const one = result({ ns: spread(800) });
  const { isDirty: _, ...unknown } = ENVIRONMENT;
  test.each([
    [
      "of changed files",
      [{ ...ENVIRONMENT, isDirty: true }, one],
      "files differed from the commit",
    ],
    ["of no commit", [{ ...ENVIRONMENT, commit: null }, one], "the run is of no commit"],
    ["that does not say whether it is one", [unknown, one], "does not say whether"],
  ])("refuses a run %s, unless told", (_, lines, complaint) => {
    const refused = record(text(...lines));
    expect(refused.complaint).toContain(complaint);
    expect(refused.complaint).toContain("--allow-dirty");
    expect(refused.exitCode).toBe(1);
    expect(existsSync(history)).toBe(false);
    expect(record(text(...lines), "--allow-dirty")).toMatchObject({ exitCode: 0, complaint: "" });
    const [run] = recorded();
    expect(run?.isDirty === true || run?.commit === null).toBe(true);
  });

  test.each([
    ["without its environment", text(one), "environment line is missing"],
    ["without a result", text(ENVIRONMENT), "the run has no result"],
    ["with no line", "", "no line of a run"],
    ["that is two", text(ENVIRONMENT, one, ENVIRONMENT, one), "two runs in one"],
    ["with half a line", text(ENVIRONMENT, one).slice(0, -20), "standard input:2"],
    ["with a number as text", text(ENVIRONMENT, { ...one, lost: "3" }), "lost"],
    [
      "with two results of a peer in a cell",
      text(ENVIRONMENT, one, { ...one, question: "sizes" }),
      "bun-sockets has two results in udp4/1200/base",
    ],
  ])("refuses a run %s, also when told to take anything", (_, lines, complaint) => {
    const refused = record(lines, "--allow-dirty");
    expect(refused.complaint).toContain(complaint);
    expect(refused.complaint.trimEnd().split("\n")).toHaveLength(1);
    expect(refused).toMatchObject({ exitCode: 1, output: "" });
    expect(existsSync(history)).toBe(false);
  });

  test.each([
    ["a line that is none", "{}\n", `${history}:1: no recorded run`],
    ["half a line at the end", '{"at": "20', "its last line has no end"],
  ])("leaves a file alone that has %s", (_, broken, complaint) => {
    writeFileSync(history, broken);
    const refused = record(text(ENVIRONMENT, one));
    expect(refused.complaint).toContain(complaint);
    expect(refused.exitCode).toBe(1);
    expect(readFileSync(history, "utf8")).toBe(broken);
  });

  test("says which file it cannot read, and which option it does not know", () => {
    const absent = run("record.ts", [join(folder, "absent")]);
    expect(absent.complaint).toContain("absent");
    expect(absent.exitCode).toBe(1);
    expect(record("", "--fast")).toMatchObject({ exitCode: 2 });
  });
});

describe("bench/history.ts", () => {
  const CELL = "udp4/1200/base";

  /** Records a run for each: what ours and C took in a cell, and what is different there. */
  function past(
    ...runs: readonly {
      readonly ns: number;
      readonly ratio?: number;
      readonly cell?: string;
      readonly environment?: Partial<EnvironmentLine>;
      readonly isNoisy?: boolean;
    }[]
  ) {
    for (const [
      index,
      { ns, ratio, cell = CELL, environment, isNoisy = false },
    ] of runs.entries()) {
      const ratioToC = ratio === undefined ? null : spread(ratio);
      const lines = [
        { ...ENVIRONMENT, at: `2031-02-1${index}T04:05:06.000Z`, ...environment },
        result({ cell, ns: spread(ns), ratioToC, isNoisy }),
        result({ cell, peer: "c", ns: spread(500), ratioToC: null }),
      ];
      expect(record(text(...lines), "--allow-dirty").complaint).toBe("");
    }
  }

  const show = (...values: readonly string[]) => run("history.ts", values);

  test("shows how one cell developed, for each peer", () => {
    past(
      { ns: 800, ratio: 1.6 },
      { ns: 900, ratio: 1.8, environment: { bun: "1.4.6", kernel: "6.2.0" } },
      { ns: 1500, isNoisy: true, environment: { isDirty: true, bun: "1.4.6", kernel: "6.2.0" } },
    );
    const { exitCode, output, complaint } = show(CELL);
    expect({ exitCode, complaint }).toEqual({ exitCode: 0, complaint: "" });
    expect(output).toContain(`${CELL}, bun-sockets: ▁▂█ from 800 to 1500 ns`);
    expect(output).toContain(`${CELL}, c: ▁▁▁ from 500 to 500 ns`);
    expect(cells(output, "2031-02-10")).toEqual(
      "2031-02-10 04:05|0123456789|800|720|880|1.6|1.44|1.76|3|".split("|"),
    );
    expect(cells(output, "2031-02-11")).toEqual(
      "2031-02-11 04:05|0123456789|900|810|990|1.8|1.62|1.98|3|Linux 6.2.0, before 6.1.0; Bun 1.4.6, before 1.4.5".split(
        "|",
      ),
    );
    expect(cells(output, "2031-02-12")).toEqual(
      "2031-02-12 04:05|0123456789, changed|1500|1350|1650||||3|too noisy".split("|"),
    );
    const ours = show(CELL, "--peer", "c").output;
    expect(ours).toContain(`${CELL}, c:`);
    expect(ours).not.toContain("bun-sockets");
  });

  test("shows all cells, or those with a word in their names, a line each", () => {
    past(
      { ns: 800, ratio: 1.6 },
      { ns: 700 },
      { ns: 600, ratio: 1.2 },
      { ns: 50, cell: "unix/64/base" },
    );
    const all = show().output;
    expect(cells(all, CELL)).toEqual(`${CELL}|bun-sockets|3|█▅▁|800|600|█ ▁|1.6|1.2`.split("|"));
    expect(cells(all, "unix/64/base")).toEqual("unix/64/base|bun-sockets|1|▁|50|50|||".split("|"));
    expect(all).not.toContain(" c ");
    const some = show("udp4").output;
    expect(some).toContain(CELL);
    expect(some).not.toContain("unix");
    expect(cells(show("--peer", "c").output, CELL)?.slice(1, 4)).toEqual(["c", "3", "▁▁▁"]);
  });

  test("takes a whole name for just that cell, where others begin with it", () => {
    past({ ns: 800 }, { ns: 900, cell: `${CELL}/batch-1` });
    const { output } = show(CELL);
    expect(output).toContain(`${CELL}, bun-sockets: ▁ from 800 to 800 ns`);
    expect(output).not.toContain("batch-1");
    expect(cells(show("base/b").output, `${CELL}/batch-1`)?.[4]).toBe("900");
  });

  test("prints lines for programs", () => {
    past({ ns: 800, ratio: 1.6 }, { ns: 700 });
    const { output } = show(CELL, "--peer", "bun-sockets", "--json");
    const lines = output.trimEnd().split("\n");
    const { commit } = ENVIRONMENT;
    const where = { commit, isDirty: false, cell: CELL, peer: "bun-sockets" };
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      {
        ...where,
        at: "2031-02-10T04:05:06.000Z",
        ns: [800, 720, 880],
        ratioToC: [1.6, 1.44, 1.76],
      },
      { ...where, at: "2031-02-11T04:05:06.000Z", ns: [700, 630, 770], ratioToC: null },
    ]);
    expect(show("--json").output.trimEnd().split("\n")).toHaveLength(4);
  });

  test("says that there is nothing", () => {
    expect(show()).toMatchObject({ exitCode: 1, output: "" });
    expect(show().complaint).toContain("has no run yet");
    past({ ns: 800 });
    expect(show("udp5").complaint).toContain('no recorded cell has "udp5" in its name');
    expect(show(CELL, "--peer", "nobody").complaint).toContain("nobody has no recorded result");
    expect(show(CELL, "--peer", "nobody").exitCode).toBe(1);
    expect(show("--fast").exitCode).toBe(2);
  });
});

/** The cells of the row of a table whose first one begins so. */
function cells(table: string, first: string): string[] | undefined {
  const rows = table.split("\n").map((row) => row.split("│").slice(1, -1));
  // A gap in a line of bars is a space too, but between two bars.
  return rows.find(([cell]) => cell?.trim().startsWith(first))?.map((cell) => cell.trim());
}
