import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HISTORY, readHistory } from "../../bench/commits/history_file.ts";
import { batchesOf, sectionsOf } from "../../bench/report/figures.ts";
import { reportPage } from "../../bench/report/page.ts";
import { recordedCharts } from "../../bench/report/recorded.ts";
import { NARROW, WIDE } from "../../bench/report/row_chart.ts";
import { type Run, readRun } from "../../bench/report/run.ts";
import { renderSvg } from "../../bench/report/svg.ts";
import {
  environmentText,
  escapeText,
  lossShare,
  measured,
  peerName,
  plain,
  range,
  short,
  shorten,
} from "../../bench/report/text.ts";
import type { ResultLine, SuiteLine } from "../../bench/results.ts";
import { ENVIRONMENT, ndjson, resultLine, spread, wholeRun } from "../support/suite_run.ts";

const root = join(import.meta.dir, "..", "..");
const whole = readRun(ndjson(wholeRun()), "run.ndjson");
const wholePage = reportPage(whole);
const HOSTILE = `</title></text><script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;\u0000\u202e]]>`;

function resultsOf(...lines: ResultLine[]): Run {
  return { environment: ENVIRONMENT, results: lines };
}

/** The figure of a section that answers a question. */
function figureOf(run: Run, section: string, question: string) {
  const found = sectionsOf(run.results).find(({ id }) => id === section);
  const figure = found?.figures.find(({ title }) => title.endsWith(question));
  if (!figure) throw new Error(`No ${question} in ${section}`);
  return figure;
}

function draw(run: Run, section: string, question: string, width = WIDE): Promise<string> {
  const figure = figureOf(run, section, question);
  return renderSvg(figure.draw(width, "drawn"), { ...figure, id: "drawn" });
}

/** What of a drawing has a class: "bars", "ranges", "points", "lines". */
function groupOf(svg: string, name: string): string {
  const groups = svg.matchAll(new RegExp(`<g class="${name}">(.*?)</g>`, "gs"));
  return [...groups].map(([, content]) => content).join("");
}

function countOf(svg: string, name: string): number {
  return groupOf(svg, name).match(/<(path|line|text)\b/g)?.length ?? 0;
}

function textsOf(svg: string, name: string): string[] {
  return [...groupOf(svg, name).matchAll(/>([^<]+)<\/text>/g)].map(([, text]) => text as string);
}

/** How long the bars are, in pixels. */
function lengthsOf(svg: string): number[] {
  const paths = groupOf(svg, "bars").matchAll(/d="M[-\d.]+,[-\d.]+h([\d.]+)v/g);
  return [...paths].map(([, length]) => Number(length));
}

const firstNumber = (found: RegExpMatchArray) => Number(found[1]);

/** Where the ranges begin and end, in pixels. */
function rangesOf(svg: string): { from: number; to: number }[] {
  const lines = groupOf(svg, "ranges").matchAll(/translate\(([\d.]+),[^>]*? x2="(-?[\d.]+)"/g);
  return [...lines].map(([, from, long]) => ({
    from: Number(from),
    to: Number(from) + Number(long),
  }));
}

describe("readRun()", () => {
  test("reads the environment and the results of a run, in their order", () => {
    const lines = wholeRun();
    const { environment, results } = readRun(ndjson(lines), "run.ndjson");
    expect(environment).toEqual(ENVIRONMENT);
    expect([environment, ...results] as SuiteLine[]).toEqual(lines);
  });

  test("reads lines of before there were steps of latency, and those with steps or without any", () => {
    for (const more of [{}, { latencySteps: null }, { latencySteps: STEPS }])
      expect(readRun(ndjson([resultLine(10, more)]), "run.ndjson").results).toHaveLength(1);
  });

  test("counts empty lines too", () => {
    expect(() => readRun("\n\n\n{}\n", "run.ndjson")).toThrow("run.ndjson:4: ");
  });

  test("leaves empty lines and members that it does not know alone", () => {
    const text = `\n${JSON.stringify({ ...ENVIRONMENT, more: 1 })}\r\n\n${JSON.stringify({ ...resultLine(10), more: [] })}`;
    expect(readRun(text, "run.ndjson").results).toHaveLength(1);
  });

  test("reads a run that ended early, and one that does not say where it was made", () => {
    expect(readRun(ndjson([ENVIRONMENT]), "run.ndjson").results).toEqual([]);
    expect(readRun(ndjson([resultLine(10)]), "run.ndjson").environment).toBeNull();
  });

  test("takes a percentile above the longest when it is the step of a histogram", () => {
    const of = (p99: number) =>
      resultLine(10, { latencyUs: { p50: 1, p90: 2, p99, max: 5332.304 } });
    expect(readRun(ndjson([of(5332.991)]), "run.ndjson").results).toHaveLength(1);
    expect(() => readRun(ndjson([of(5400)]), "run.ndjson")).toThrow("in this order");
  });

  const good = resultLine(10);
  test.each<[string, unknown, string]>([
    ["what is no JSON", "{", "run.ndjson:2: no JSON: "],
    ["a list", [], "run.ndjson:2: no JSON object"],
    ["null", null, "run.ndjson:2: no JSON object"],
    ["a line of another kind", { kind: "other" }, 'run.ndjson:2: kind is "other": expected'],
    ["a line without a kind", {}, "run.ndjson:2: kind is missing: expected"],
    [
      "a second environment",
      ENVIRONMENT,
      "run.ndjson:2: an environment that is not the first line",
    ],
    [
      "a missing member",
      { ...good, ns: undefined },
      "run.ndjson:2: ns is missing: expected an object",
    ],
    [
      "null for a number",
      { ...good, ns: { median: null, min: 1, max: 1 } },
      "run.ndjson:2: ns is {",
    ],
    [
      "a range that is turned around",
      { ...good, ns: { median: 1, min: 2, max: 3 } },
      "in this order",
    ],
    [
      "a negative number",
      { ...good, lost: -1 },
      "run.ndjson:2: lost is -1: expected a whole number",
    ],
    ["half a datagram", { ...good, datagrams: 1.5 }, "run.ndjson:2: datagrams is 1.5: expected"],
    ["a text for a number", { ...good, batch: "64" }, 'run.ndjson:2: batch is "64": expected'],
    ["a number for a text", { ...good, peer: 7 }, "run.ndjson:2: peer is 7: expected a text"],
    ["a text for yes or no", { ...good, isNoisy: "no" }, 'isNoisy is "no": expected true or false'],
    ["a spread of nothing", { ...good, ratioToC: {} }, "ratioToC is {}: expected"],
    [
      "percentiles that fall",
      { ...good, latencyUs: { p50: 3, p90: 2, p99: 4, max: 5 } },
      "p50, p90, p99 and max in this order, or null",
    ],
    [
      "steps that are no pairs",
      { ...good, latencySteps: [[1, 2, 3]] },
      "a list of pairs: µs and how many, or null",
    ],
    ["half a sample in a step", { ...good, latencySteps: [[1, 0.5]] }, "a list of pairs"],
    [
      "steps that fall",
      {
        ...good,
        latencySteps: [
          [2, 1],
          [1, 1],
        ],
      },
      "more and more µs, or null",
    ],
    ["an endless text", { ...good, cell: ["x".repeat(999)] }, "…: expected a text"],
  ])("refuses %s, with the number of the line", (_, line, message) => {
    const text = typeof line === "string" ? line : JSON.stringify(line);
    expect(() => readRun(`${JSON.stringify(ENVIRONMENT)}\n${text}\n`, "run.ndjson")).toThrow(
      message,
    );
  });

  test.each([
    ["mitigations", { ...ENVIRONMENT, mitigations: { a: 1 } }, "expected an object of texts"],
    ["a time", { ...ENVIRONMENT, at: "yesterday" }, "run.ndjson:1: at is "],
    ["whether it is dirty", { ...ENVIRONMENT, isDirty: 1 }, "isDirty is 1: expected true or false"],
  ])("refuses an environment with a wrong value for %s", (_, line, message) => {
    expect(() => readRun(JSON.stringify(line), "run.ndjson")).toThrow(message);
  });

  test("refuses an empty file, and the same result twice", () => {
    expect(() => readRun(" \n\n", "run.ndjson")).toThrow("run.ndjson: no line of a run");
    const twice = ndjson([ENVIRONMENT, good, resultLine(11), good]);
    expect(() => readRun(twice, "run.ndjson")).toThrow("run.ndjson:3: ");
  });
});

describe("numbers as text", () => {
  test("have three digits that count, and no exponent", () => {
    expect([0, 1.4, 712.4, 12345, 0.001234].map(measured)).toEqual([
      "0",
      "1.40",
      "712",
      "12,300",
      "0.00123",
    ]);
    expect([999.4, 999.6, 12_340, 999_499, 999_500, 2e7].map(short)).toEqual([
      ...["999", "1.00 k", "12.3 k", "999 k", "1.00 M", "20.0 M"],
    ]);
  });

  test("name a unit once when both ends of a range have it", () => {
    expect(range({ median: 2, min: 1e6, max: 2e6 }, short)).toBe("1.00–2.00 M");
    expect(range({ median: 2, min: 900e3, max: 2e6 }, short)).toBe("900 k – 2.00 M");
  });

  test("never call a loss nothing", () => {
    const of = (lost: number) => lossShare(resultLine(10, { datagrams: 1e6, lost }));
    expect([0, 1, 12_345, 1e6].map(of)).toEqual(["0", "<0.01 %", "1.2 %", "100 %"]);
  });

  test("names lose what cannot be shown, and what is too long", () => {
    expect(plain("a\u0000b\u202ec\ud800")).toBe("a\u{fffd}b\u{fffd}c\u{fffd}");
    expect(escapeText(`<a b="c" d='&'>`)).toBe("&lt;a b=&quot;c&quot; d=&#39;&amp;&#39;&gt;");
    expect([shorten("abcd", 4), shorten("abcde", 4), shorten("😀😀😀", 2)]).toEqual([
      "abcd",
      "abc…",
      "😀…",
    ]);
  });

  test("peerName() calls peers as people do, and others by their own names", () => {
    expect(["bun-sockets", "c", "bun-udp", "toString", "<other>"].map(peerName)).toEqual([
      ...["bun-sockets", "C", "Bun.udpSocket", "toString", "<other>"],
    ]);
  });

  test("environmentText() tells commit, machine and programs, and which are missing is left out", () => {
    expect(environmentText(ENVIRONMENT)).toBe(
      "2026-01-02, commit 0123456789ab · Linux 6.12.0-fixture · Fixture CPU, not measured, 4 cores, 15.6 GiB · load 0.42 · Bun 1.4.5 · Node v26.1.0 · Python 3.13.1",
    );
    expect(environmentText({ ...ENVIRONMENT, isDirty: true, cores: 1 })).toContain(
      "ab with changes",
    );
    expect(environmentText({ ...ENVIRONMENT, commit: null })).toContain("2026-01-02, no commit · ");
    expect(environmentText(null)).toContain("does not say");
  });
});

describe("charts of rows", () => {
  test("have a bar, a range and a number for each result, as long as it is large", async () => {
    const lines = [100, 200, 400].map((ns, i) =>
      resultLine(ns, { peer: `peer ${i}`, cell: `udp4/64/a-${i}`, send: `a${i}` }),
    );
    const svg = await draw(resultsOf(...lines), "throughput", "paths");
    expect(countOf(svg, "bars")).toBe(3);
    expect(countOf(svg, "ranges")).toBe(3);
    expect(textsOf(svg, "values")).toEqual(["10.0 M", "5.00 M", "2.50 M"]);
    expect(textsOf(svg, "labels")).toEqual(["peer 0", "peer 1", "peer 2"]);
    expect(textsOf(svg, "groups")).toEqual(["a0 → recvmmsg", "a1 → recvmmsg", "a2 → recvmmsg"]);
    const [first, second, third] = lengthsOf(svg) as [number, number, number];
    expect(first / second).toBeCloseTo(2, 2);
    expect(second / third).toBeCloseTo(2, 2);
    // A bar ends at the median: these ranges are as long on both sides of it.
    for (const [i, { from, to }] of rangesOf(svg).entries())
      expect((from + to) / 2).toBeCloseTo([first, second, third][i] as number, 0);
    expect(rangesOf(svg)[0]?.to).toBeLessThan(WIDE);
  });

  test("hatch what is noisy, and write its range in place of a number", async () => {
    const lines = [
      resultLine(100, { isNoisy: true, ratioToC: spread(2, 0.3), latencyUs: LATENCY }),
      resultLine(200, { peer: "c" }),
    ];
    const svg = await draw(resultsOf(...lines), "throughput", "paths");
    expect(groupOf(svg, "bars").match(/fill="url\(#drawn-noisy-bun-sockets\)"/g)).toHaveLength(1);
    expect(svg.match(/<pattern id="drawn-noisy-bun-sockets"/g)).toHaveLength(1);
    expect(svg.match(/<pattern/g)).toHaveLength(1);
    expect(textsOf(svg, "values")).toEqual(["noisy: 7.00–13.0 M", "5.00 M"]);
    expect(groupOf(svg, "bars")).toContain("noisy, no exact number</title>");
    for (const section of ["ratio", "latency", "cpu"]) {
      const other = await draw(resultsOf(...lines), section, "paths");
      expect(textsOf(other, "values")[0], section).toStartWith("noisy: ");
      expect(other, section).toMatch(/fill="(url\(#drawn-noisy-|var\(--paper\))/);
    }
    expect(figureOf(resultsOf(...lines), "throughput", "paths").table.rows[0]).toContain(
      "~10,000,000",
    );
  });

  test("say beside the number what was lost", async () => {
    const line = resultLine(100, { lost: 500, datagrams: 10_000 });
    expect(textsOf(await draw(resultsOf(line), "throughput", "paths"), "values")).toEqual([
      "10.0 M, 5 % lost",
    ]);
    const noisy = resultsOf({ ...line, isNoisy: true });
    expect(textsOf(await draw(noisy, "throughput", "paths"), "values")[0]).toEndWith(", 5 % lost");
    const narrow = await draw(noisy, "throughput", "paths", NARROW);
    expect(textsOf(narrow, "values")).toEqual(["noisy, 5 % lost"]);
    expect(figureOf(noisy, "throughput", "paths").table.rows[0]).toContain("500 (5 %)");
  });

  test("set each question beside the base, and name what it varies", async () => {
    const svg = await draw(whole, "throughput", "forms");
    // The base takes part with the peers and sizes that the question has.
    expect(textsOf(svg, "groups")).toEqual(["try", "promise", "handler"]);
    expect(new Set(textsOf(svg, "labels"))).toEqual(new Set(["bun-sockets"]));
    const peers = await draw(whole, "throughput", "peers");
    expect(textsOf(peers, "groups")).toEqual(["64 bytes", "1,200 bytes"]);
    expect(countOf(peers, "bars")).toBe(14);
    const paths = await draw(whole, "throughput", "paths");
    expect(textsOf(paths, "headings")).toEqual(["64 bytes", "1,200 bytes"]);
    expect(countOf(paths, "bars")).toBe(2 * 5 * 4 * 2);
  });

  test("show four points of a latency, from the median to the longest, on a logarithmic scale", async () => {
    const svg = await draw(resultsOf(resultLine(9, { latencyUs: LATENCY })), "latency", "paths");
    expect(countOf(svg, "points")).toBe(4);
    expect(textsOf(svg, "values")).toEqual(["p50 10.0, p99 1,000"]);
    const places = [...groupOf(svg, "points").matchAll(/translate\(([\d.]+),/g)].map(firstNumber);
    const [p50, p90, p99, max] = places as [number, number, number, number];
    expect(p90 - p50).toBeGreaterThan(20);
    expect(p90 - p50).toBeCloseTo(p99 - p90, 0);
    expect(max - p99).toBeCloseTo(p90 - p50, 0);
    const none = resultsOf(resultLine(9, { latencyUs: { p50: 0, p90: 0, p99: 0, max: 0 } }));
    expect(countOf(await draw(none, "latency", "paths"), "points")).toBe(4);
  });

  test("show how a latency is spread: as high as many took so long, and nothing where none did", async () => {
    const line = resultLine(9, { latencyUs: LATENCY, latencySteps: STEPS });
    const svg = await draw(resultsOf(line), "latency", "paths");
    expect(countOf(svg, "shapes")).toBe(1);
    expect(countOf(svg, "ranges")).toBe(0);
    const [, outline = ""] = /d="M([^"]+)"/.exec(groupOf(svg, "shapes")) ?? [];
    const corners = outline.replace("Z", "").split("L");
    const places = corners.map((one) => one.split(",").map(Number) as [number, number]);
    // Along the top to the right, and along the bottom back.
    expect(places).toHaveLength(2 * 2 * 4);
    const [top, bottom] = [places.slice(0, 8), places.slice(8).reverse()];
    const heights = top.map(([, y], i) => (bottom[i] as [number, number])[1] - y);
    expect(heights.map((height) => Math.round(height * 10) / 10)).toEqual([
      ...[4, 4, 16, 16, 0, 0, 1.2, 1.2],
    ]);
    const ends = top.map(([x]) => x);
    const widths = ends.slice(1).map((x, i) => x - (ends[i] as number));
    for (const i of [2, 4, 6]) expect(widths[i]).toBeCloseTo(widths[0] as number, 1);
    for (const i of [1, 3, 5]) expect(widths[i]).toBe(0);
    const noisy = resultsOf({ ...line, isNoisy: true });
    expect(groupOf(await draw(noisy, "latency", "paths"), "shapes")).toContain("url(#drawn-noisy-");
  });

  test("show what a datagram waits for after the kernel has it, where that was measured", async () => {
    const waitUs = { p50: 3, p90: 5, p99: 7, max: 9 };
    const run = resultsOf(
      resultLine(9, { latencyUs: LATENCY, waitUs }),
      resultLine(9, { peer: "c" }),
    );
    const svg = await draw(run, "latency", "after the kernel: paths");
    expect(textsOf(svg, "values")).toEqual(["p50 3.00, p99 7.00"]);
    expect(figureOf(run, "latency", "after the kernel: paths").table.rows).toHaveLength(1);
    expect(await reportPage(run)).toContain("<code>waitUs</code>");
    const latency = sectionsOf(whole.results).find(({ id }) => id === "latency");
    for (const { title } of latency?.figures ?? []) expect(title).not.toContain("kernel");
  });

  test("say who has waited in vain", async () => {
    const run = resultsOf(
      resultLine(100, { stalls: 1 }),
      resultLine(100, { peer: "c", stalls: 0 }),
    );
    const svg = await draw(run, "throughput", "paths");
    expect(groupOf(svg, "bars").match(/waited in vain once<\/title>/g)).toHaveLength(1);
    expect(await reportPage(run)).toContain("In 1 of them a side has waited in vain");
    expect(await wholePage).not.toContain("in vain");
  });

  test("call a cell what it varies, and put batches and sizes in their order", async () => {
    const of = (question: string, cell: string, other: Partial<ResultLine>) =>
      resultLine(10, { question, cell: `udp4/64/${cell}`, ...other });
    const run = resultsOf(
      of("peers", "sendmmsg-recvmmsg", {}),
      of("peers", "long", { payloadBytes: 1200 }),
      of("receive paths", "sendmmsg-recv", { receive: "recv" }),
      of("receive paths", "gso-gro", { send: "gso", receive: "gro", batch: 1 }),
      of("receive paths", "sendmmsg-ring/veth-flat-out", { receive: "ring", topology: "veth" }),
      of("send paths", "gso-recvmmsg", { send: "gso", batch: 1 }),
      of("topologies", "sendmmsg-recvmmsg/flat-out", {}),
      of("batches", "sendmmsg-recvmmsg/batch-16", { batch: 16 }),
      of("batches", "sendmmsg-recvmmsg/batch-1", { batch: 1 }),
      of("sizes", "most", { payloadBytes: 65_507, batch: 2 }),
      of("sizes", "more", { payloadBytes: 512 }),
    );
    const groups = async (question: string) =>
      textsOf(await draw(run, "throughput", `Throughput: ${question}`), "groups");
    expect(await groups("receive paths")).toEqual([
      ...["recvmmsg", "recv", "gso → gro", "ring, veth, flat-out"],
    ]);
    expect(await groups("send paths")).toEqual(["sendmmsg", "gso"]);
    expect((await groups("topologies")).at(-1)).toBe("flat-out");
    expect(await groups("batches")).toEqual(["1 a call", "16 a call", "64 a call"]);
    expect(await groups("sizes")).toEqual([
      ...["64 bytes, 64 a call", "512 bytes, 64 a call", "1,200 bytes, 64 a call"],
      "65,507 bytes, 2 a call",
    ]);
    const [section] = sectionsOf(run.results);
    const gigabits = section?.figures.filter(({ title }) => title.includes("Gbit/s"));
    expect(gigabits?.map(({ title }) => title)).toEqual(["Throughput in Gbit/s: sizes"]);
    expect(gigabits?.[0]?.table.rows).toHaveLength(4);
  });

  test("show ratios to C with their range, and where C itself stands", async () => {
    const lines = [
      resultLine(10, { ratioToC: { median: 1, min: 0.9, max: 1.1 } }),
      resultLine(40, { ratioToC: { median: 4, min: 3.5, max: 4.5 }, peer: "deno" }),
      resultLine(10, { peer: "c" }),
    ];
    const svg = await draw(resultsOf(...lines), "ratio", "paths");
    expect(countOf(svg, "points")).toBe(2);
    expect(countOf(svg, "ranges")).toBe(2);
    expect(countOf(svg, "ends")).toBe(4);
    expect(textsOf(svg, "values")).toEqual(["1.00", "4.00"]);
    const one = /translate\(([\d.]+),/.exec(groupOf(svg, "reference"))?.[1];
    const [ours] = [...groupOf(svg, "points").matchAll(/translate\(([\d.]+),/g)].map(firstNumber);
    expect(ours).toBeCloseTo(Number(one), 1);
    expect(groupOf(svg, "points")).not.toContain("var(--paper)");
    // Rounds that agree may have ratios that do not, where C's do not.
    const wide = resultLine(10, { ratioToC: { median: 1, min: 0.9, max: 1.2 } });
    const doubtful = await draw(resultsOf(wide), "ratio", "paths");
    expect(textsOf(doubtful, "values")).toEqual(["noisy: 0.900–1.20"]);
    expect(groupOf(doubtful, "points")).toContain("var(--paper)");
  });

  test("show the CPU time of both sides, and which was not measured", async () => {
    const lines = [
      resultLine(10, { sendCpuNs: spread(300), receiveCpuNs: spread(100) }),
      resultLine(10, { peer: "deno", sendCpuNs: null, receiveCpuNs: spread(200) }),
    ];
    const svg = await draw(resultsOf(...lines), "cpu", "paths");
    expect(textsOf(svg, "values")).toEqual(["300 + 100 ns", "? + 200 ns"]);
    const [sending, receiving, alone] = lengthsOf(svg) as [number, number, number];
    expect(sending / receiving).toBeCloseTo(3, 1);
    expect(alone / receiving).toBeCloseTo(2, 1);
    expect(groupOf(svg, "bars")).toContain("sender not measured");
  });
});

const LATENCY = { p50: 10, p90: 100, p99: 1000, max: 10_000 };
// Four times as many in the second step as in the first, none in the third.
const STEPS = [
  [8, 100],
  [9.5137, 400],
  [13.454, 1],
] as const;

describe("the cost by batch size", () => {
  const svgOf = async (run: Run) => {
    const figure = batchesOf(run.results);
    return figure && renderSvg(figure.draw(WIDE, "drawn"), { ...figure, id: "drawn" });
  };

  test("has a line for each peer and size, and a point for each batch", async () => {
    const svg = (await svgOf(whole)) as string;
    expect(countOf(svg, "points")).toBe(2 * 2 * 5);
    expect(countOf(svg, "ranges")).toBe(2 * 2 * 5);
    expect(textsOf(svg, "headings")).toEqual(["64 bytes", "1,200 bytes"]);
    expect(textsOf(svg, "keys")).toEqual(["bun-sockets", "C", "bun-sockets", "C"]);
    expect(groupOf(svg, "points").match(/fill="var\(--paper\)"/g)).toHaveLength(1);
    expect(groupOf(svg, "ranges").match(/stroke-dasharray="3,2"/g)).toHaveLength(1);
  });

  test("has one scale for all panels: from 0, and twice as dear is twice as high", async () => {
    const of = (payloadBytes: number, batch: number, ns: number) =>
      resultLine(ns, {
        payloadBytes,
        batch,
        question: "batches",
        cell: `${payloadBytes}/${batch}`,
      });
    const lines = [of(64, 1, 4000), of(64, 4, 2000), of(64, 16, 1000)];
    const others = [of(1200, 1, 4000), of(1200, 4, 1000)];
    const svg = (await svgOf(resultsOf(...lines, ...others))) as string;
    const places = [...groupOf(svg, "points").matchAll(/translate\(([\d.]+),([\d.]+)\)/g)];
    const [a, b, c, d, e] = places.map(([, x, y]) => [Number(x), Number(y)]) as [number, number][] &
      Record<0 | 1 | 2 | 3 | 4, [number, number]>;
    // Points that cost as much are as high in both panels; one of 0 would be at the lowest tick.
    expect(d[1]).toBeCloseTo(a[1], 1);
    expect(e[1]).toBeCloseTo(c[1], 1);
    expect((b[1] - a[1]) / (c[1] - b[1])).toBeCloseTo(2, 1);
    expect(textsOf(svg, "ticks")).toContain("0");
    const zero = 2 * b[1] - a[1];
    const grid = [...groupOf(svg, "grid").matchAll(/translate\([\d.]+,([\d.]+)\)/g)].map(
      firstNumber,
    );
    expect(Math.max(...grid)).toBeCloseTo(zero, 0);
    // Each batch four times the one before: as far apart.
    expect(c[0] - b[0]).toBeCloseTo(b[0] - a[0], 1);
  });

  test("takes no point from a question about something else", async () => {
    const flatOut = resultLine(99_999, { question: "topologies", cell: "udp4/64/a-b/flat-out" });
    const lines = whole.results.filter(({ peer }) => peer === "bun-sockets");
    const alone = await svgOf(resultsOf(...lines));
    expect(await svgOf(resultsOf(flatOut, ...lines))).toBe(alone as string);
  });

  test("joins nothing that differs in more than the batch, and is absent where nothing is left", async () => {
    const lines = [1, 4].map((batch) =>
      resultLine(10 * batch, { batch, cell: `${batch}`, family: `${batch}` }),
    );
    expect(await svgOf(resultsOf(...lines))).toBeUndefined();
    const same = lines.map((line) => ({ ...line, family: "udp4", lost: 90, datagrams: 9000 }));
    const svg = (await svgOf(resultsOf(...same))) as string;
    expect(textsOf(svg, "remarks")).toEqual(["1 % lost", "1 % lost"]);
  });
});

describe("reportPage()", () => {
  test("asks for nothing, and holds no script", async () => {
    const page = await wholePage;
    expect(page).not.toMatch(/<script|<link rel="stylesheet|@import|<iframe|\son\w+=/i);
    const addresses = page.match(/\b(?:https?:)?\/\/[^\s"'<]+/g) ?? [];
    expect(new Set(addresses)).toEqual(new Set(["http://www.w3.org/2000/svg"]));
    expect(page).toContain("default-src 'none'");
  });

  test("says first where it was measured, and how much of it is to be believed", async () => {
    const page = await wholePage;
    expect(page.indexOf(escapeText(environmentText(ENVIRONMENT)))).toBeGreaterThan(0);
    expect(page.indexOf(escapeText(environmentText(ENVIRONMENT)))).toBeLessThan(
      page.indexOf("<svg"),
    );
    expect(page).toContain("spectre_v2");
    expect(page).toMatch(/4 of them are noisy: .* In 12 of them datagrams were lost/);
    const short = resultsOf(resultLine(10, { rounds: 1 }));
    expect(await reportPage(short)).toContain("Fewer than 9 rounds");
  });

  test("has each number in a table too", async () => {
    const page = await wholePage;
    const numbers = page.slice(page.indexOf('<section id="numbers"'));
    expect(numbers.match(/<tr/g)).toHaveLength(whole.results.length + 1);
    const figures = sectionsOf(whole.results).flatMap((section) => section.figures);
    expect(page.match(/<figure>/g)).toHaveLength(figures.length);
    expect(page.match(/<details><summary>The numbers of this chart/g)).toHaveLength(figures.length);
    for (const { table } of figures)
      for (const row of table.rows) expect(row).toHaveLength(table.head.length);
    expect(numbers).toContain("425,984");
    expect(numbers).toContain("<td>–</td>");
  });

  test("holds the lines that it is made of, and says which member each number is", async () => {
    const page = await wholePage;
    const [, text = ""] = /download="run.ndjson" href="data:[^,]+,([^"]+)"/.exec(page) ?? [];
    expect(Buffer.from(text, "base64").toString()).toBe(ndjson(wholeRun()));
    const numbers = page.slice(page.indexOf('<section id="numbers"'));
    const head = numbers.slice(0, numbers.indexOf("</thead>"));
    const members = [...head.matchAll(/<code>(\w+)<\/code>/g)].map(([, name]) => name as string);
    expect(members.sort()).toEqual(
      Object.keys(resultLine(10))
        .filter((name) => name !== "kind")
        .sort(),
    );
  });

  test("shows a member of a later suite among the numbers, whatever it holds", async () => {
    const later = {
      ...resultLine(10),
      stallsPerSecond: 12.5,
      kernelUs: { p50: 1, p99: 2 },
      wakeNs: spread(300),
      list: [1, [2]],
      nothing: null,
    };
    const page = await reportPage(readRun(ndjson([ENVIRONMENT, later]), "run.ndjson"));
    const numbers = page.slice(page.indexOf('<section id="numbers"'));
    expect(numbers).toContain("stalls per second<br><code>stallsPerSecond</code>");
    for (const cell of ["12.5", "p50 1.00, p99 2.00", "300 (288 – 312)", "1.00 2.00"])
      expect(numbers).toContain(`<td>${cell}</td>`);
    expect(numbers).toContain("<code>nothing</code>");
  });

  test("says what was measured, and who takes part, before the first chart", async () => {
    const page = await wholePage;
    const before = page.slice(0, page.indexOf("<svg"));
    expect(before).toContain("What it costs to send and to receive datagrams");
    expect(before).toContain("there is no network card");
    expect(before).toContain("Bun.udpSocket <code>bun-udp</code>");
    expect(page).toContain("The base: UDP over IPv4 on loopback");
  });

  test("gives each drawing an id, a title and a description of its own", async () => {
    const page = await wholePage;
    const ids = [...page.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const named = [...page.matchAll(/<svg [^>]*aria-labelledby="([^"]+)"/g)];
    expect(named.length).toBe(2 * page.split("<figure>").length - 2);
    for (const [, both = ""] of named) for (const id of both.split(" ")) expect(ids).toContain(id);
  });

  test("shows a name as the text that it is, whatever it is", async () => {
    const hostile = {
      cell: HOSTILE,
      question: HOSTILE,
      peer: HOSTILE,
      send: HOSTILE,
      form: HOSTILE,
    };
    const page = await reportPage({
      environment: {
        ...ENVIRONMENT,
        cpu: HOSTILE,
        commit: HOSTILE,
        offloads: { [HOSTILE]: HOSTILE },
      },
      results: [
        resultLine(10, { ...hostile, ratioToC: spread(1), latencyUs: LATENCY }),
        resultLine(10, { ...hostile, batch: 1, cell: `${HOSTILE} 2`, isNoisy: true, lost: 1 }),
      ],
    });
    expect(page).toContain("&lt;script&gt;");
    expect(page).not.toMatch(/<script|<img|\0|\u202e/);
    const found: string[] = [];
    const rewriter = new HTMLRewriter().on("*", {
      element: ({ tagName, attributes }) => {
        found.push(tagName);
        for (const [name] of attributes) if (name.startsWith("on")) found.push(name);
      },
    });
    rewriter.transform(page);
    for (const name of ["script", "img", "onerror"]) expect(found).not.toContain(name);
    expect(found).toContain("svg");
  });

  test("says of a run with nothing in it that there is nothing", async () => {
    const page = await reportPage({ environment: ENVIRONMENT, results: [] });
    expect(page).toContain("This run has no results");
    expect(page).not.toContain("<svg");
    const part = await reportPage({ environment: null, results: [resultLine(10)] });
    expect(part).toContain("does not say where it was made");
    expect(part).toContain("This run has measured no latency.");
    expect(part).toContain("This run has measured nothing at more than one batch size.");
    expect(part).toContain("This run has nothing that was compared with C.");
  });

  test("is the same each time, whatever was drawn before", async () => {
    const small = resultsOf(resultLine(10), resultLine(5, { peer: "c" }));
    const first = await reportPage(small);
    await wholePage;
    expect(await reportPage(small)).toBe(first);
  });
});

describe("recordedCharts()", () => {
  test("draws two charts that say where they were measured, the same each time", async () => {
    const charts = await recordedCharts(whole, "run.ndjson");
    expect(Object.keys(charts)).toEqual(["throughput.svg", "cost_by_batch.svg"]);
    for (const svg of Object.values(charts)) {
      expect(svg).toStartWith("<svg xmlns=");
      expect(svg).toContain("prefers-color-scheme:dark");
      expect(textsOf(svg, "environment").join(" ")).toBe(environmentText(ENVIRONMENT));
      expect(textsOf(svg, "how").join(" ")).toMatch(/^UDP over loopback, .* median of 9 rounds/);
      expect(svg.length).toBeLessThan(100_000);
      expect(svg).not.toMatch(/<script|<foreignObject|\son\w+=|@import|\shref=|url\((?!#)/i);
    }
    expect(countOf(charts["throughput.svg"] as string, "bars")).toBe(14);
    expect(await recordedCharts(whole, "run.ndjson")).toEqual(charts);
  });

  test("draws another chart when a number is another", async () => {
    const charts = await recordedCharts(whole, "run.ndjson");
    const results = whole.results.map((line) =>
      line.peer === "python" ? { ...line, datagramsPerSecond: spread(777_000) } : line,
    );
    const others = await recordedCharts({ ...whole, results }, "run.ndjson");
    expect(others["throughput.svg"]).toContain("777 k");
    expect(others["throughput.svg"]).not.toBe(charts["throughput.svg"]);
    expect(others["cost_by_batch.svg"]).toBe(charts["cost_by_batch.svg"] as string);
  });

  const { results } = whole;
  test.each<[string, Run, string]>([
    ["of nobody knows where", { environment: null, results }, "where the run was made"],
    ["of no commit", { environment: { ...ENVIRONMENT, commit: null }, results }, "which commit"],
    ["of changed files", { environment: { ...ENVIRONMENT, isDirty: true }, results }, "changes"],
    ["of few rounds", resultsOf(resultLine(10, { rounds: 8 })), "has 8 rounds: a chart needs 9"],
    ["of one peer", resultsOf(resultLine(10)), "two peers"],
    [
      "of one batch size",
      resultsOf(
        resultLine(10, { question: "peers" }),
        resultLine(9, { question: "peers", peer: "c" }),
      ),
      "two batch sizes",
    ],
    [
      "of another question alone",
      resultsOf(resultLine(10), resultLine(9, { peer: "c" })),
      "no base cell in which two peers were compared",
    ],
    ["of nothing", resultsOf(), "two peers"],
  ])("refuses a run %s", (_, run, message) => {
    expect(recordedCharts(run, "run.ndjson")).rejects.toThrow(message);
  });
});

describe("docs/charts", () => {
  const charts = join(root, "docs", "charts");
  const names = existsSync(charts) ? readdirSync(charts) : [];

  test("holds only what charts.ts draws", () => {
    for (const name of names) expect(["cost_by_batch.svg", "throughput.svg"]).toContain(name);
  });

  test.each(names)("%s is of a run that bench/history.ndjson has", (name) => {
    const svg = readFileSync(join(charts, name), "utf8");
    const recorded = readHistory(HISTORY).map(({ at, commit, isDirty, environment }) =>
      environmentText({ kind: "environment", at, commit, isDirty, ...environment }),
    );
    expect(recorded).toContain(textsOf(svg, "environment").join(" "));
  });
});

describe("on the command line", () => {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-report-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "run.ndjson");
  writeFileSync(file, ndjson(wholeRun()));
  const run = (...values: string[]) => {
    const command = [process.execPath, ...values];
    const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd: root, timeout: 20_000 });
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
  };

  test("report.ts writes the page of this process, and says where", async () => {
    const out = join(folder, "new", "report.html");
    const ended = run("bench/report.ts", file, "--out", out);
    expect(ended).toEqual({ exitCode: 0, stdout: `${out}\n`, stderr: "" });
    expect(readFileSync(out, "utf8")).toBe(await wholePage);
  });

  test("charts.ts writes both charts, or none", async () => {
    const out = join(folder, "charts");
    expect(run("bench/charts.ts", file, "--out", out).exitCode).toBe(0);
    expect(readdirSync(out).sort()).toEqual(["cost_by_batch.svg", "throughput.svg"]);
    const charts = await recordedCharts(whole, "run.ndjson");
    const written = readFileSync(join(out, "throughput.svg"), "utf8");
    expect(written).toBe(charts["throughput.svg"] as string);
    const few = join(folder, "few.ndjson");
    const base = [{}, { peer: "c" }].map((of) => resultLine(10, { question: "peers", ...of }));
    writeFileSync(few, ndjson([ENVIRONMENT, ...base]));
    const none = join(folder, "none");
    const ended = run("bench/charts.ts", few, "--out", none);
    expect(ended.exitCode).toBe(1);
    expect(ended.stderr).toBe(`${few}: nothing was measured at two batch sizes\n`);
    expect(() => readdirSync(none)).toThrow("ENOENT");
  });

  test.each([
    ["no file", [], 2, "which run?"],
    ["two files", ["a", "b"], 2, "which run?"],
    ["an unknown option", ["a", "--colour"], 2, "--colour"],
    ["a file that is not there", ["/nowhere/run.ndjson"], 1, "ENOENT"],
    ["a file that is no run", ["package.json"], 1, "package.json:1: no JSON: "],
  ])("%s is refused in one line and the usage", (_, values, exitCode, message) => {
    for (const program of ["bench/report.ts", "bench/charts.ts"]) {
      const ended = run(program, ...values);
      expect(ended.exitCode).toBe(exitCode);
      expect(ended.stderr).toContain(message);
      expect(ended.stderr.trimEnd().split("\n")).toHaveLength(exitCode);
    }
  });

  test("--help shows how to use it", () => {
    expect(run("bench/report.ts", "--help").stdout).toBe(
      "usage: bun bench/report.ts RUN.ndjson [--out report.html]\n",
    );
  });
});
