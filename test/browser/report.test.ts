/**
 * The report in a browser that people have, with scripts off: what is asked of the source elsewhere
 * is asked here of what is seen.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reportPage } from "../../bench/report/page.ts";
import { recordedCharts } from "../../bench/report/recorded.ts";
import { WIDE as PIXELS } from "../../bench/report/row_chart.ts";
import { readRun } from "../../bench/report/run.ts";
import { Browser, type Look, type Page } from "../support/browser.ts";
import { requires, testIf } from "../support/require.ts";
import { ENVIRONMENT, ndjson, resultLine, spread, wholeRun } from "../support/suite_run.ts";

const needs = requires("chromium");
const inBrowser = testIf(needs);
const whole = readRun(ndjson(wholeRun()), "run.ndjson");
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-pages-"));
const TIMEOUT_MS = 30_000;

const WIDE: Look = { width: 1200 };
const NARROW: Look = { width: 390 };
// Pixels that a text may be past its drawing: rounding.
const SLACK = 1;

let browser: Browser;
let report = "";

beforeAll(async () => {
  if (needs !== undefined) return;
  browser = await Browser.start();
  report = write("report.html", await reportPage(whole));
}, TIMEOUT_MS);

afterAll(async () => {
  await browser?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true });
});

function write(name: string, content: string): string {
  const file = join(folder, name);
  writeFileSync(file, content);
  return file;
}

// Of each drawing: where it is, and by how much the text that is farthest out stands outside of it.
const DRAWINGS = `[...document.querySelectorAll("svg")].map((svg) => {
  const box = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
  const outside = texts.map((text) => Math.max(
    box.left - text.left, text.right - box.right, box.top - text.top, text.bottom - box.bottom));
  const words = [...svg.querySelectorAll(".headings text, .groups text, .labels text, .values text")];
  const boxes = words.map((text) => text.getBoundingClientRect());
  const touching = words.filter((_, i) => boxes.some((other, k) => k < i &&
    boxes[i].left < other.right && other.left < boxes[i].right &&
    boxes[i].top + 3 < other.bottom && other.top + 3 < boxes[i].bottom));
  const marks = [...svg.querySelectorAll(".bars path, .points path")];
  return {
    id: svg.id,
    isShown: box.width > 0 && box.height > 0,
    left: box.left,
    right: box.right,
    outside: Math.max(...outside),
    textHeight: Math.min(...texts.map(({ height }) => height)),
    touching: touching.map((text) => text.textContent),
    marks: marks.filter((mark) => mark.getBoundingClientRect().height > 4).length,
  };
})`;

interface SeenDrawing {
  readonly id: string;
  readonly isShown: boolean;
  readonly left: number;
  readonly right: number;
  readonly outside: number;
  readonly textHeight: number;
  readonly touching: readonly string[];
  readonly marks: number;
}

async function expectGoodDrawings(page: Page, { width }: Look, form: string): Promise<void> {
  const drawings = (await page.evaluate(DRAWINGS)) as SeenDrawing[];
  const shown = drawings.filter(({ isShown }) => isShown);
  expect(shown).toHaveLength(drawings.length / 2);
  for (const { id, left, right, outside, touching, textHeight, marks } of shown) {
    expect(id).toEndWith(form);
    expect(left, id).toBeGreaterThanOrEqual(0);
    expect(right, id).toBeLessThanOrEqual(width);
    expect(outside, id).toBeLessThanOrEqual(SLACK);
    expect(touching, id).toEqual([]);
    expect(textHeight, id).toBeGreaterThanOrEqual(10);
    expect(marks, id).toBeGreaterThan(1);
  }
  // Nothing but a table is wider than the window, and that has its own bar to move it.
  expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(width);
}

describe("the report in a browser", () => {
  for (const [name, look, form] of [
    ["a wide", WIDE, "-wide"],
    ["a narrow", NARROW, "-narrow"],
  ] as const) {
    inBrowser(
      `has room in ${name} window for the longest names and numbers`,
      async () => {
        const widest = [64, 1200].flatMap((payloadBytes) =>
          ["flat-out", "quiet"].map((form) =>
            resultLine(88_888, {
              ...{ cell: `udp4/${payloadBytes}/sendmmsg-recvmmsg/${form}`, payloadBytes, form },
              ...{ peer: "node-dgram-bun", isNoisy: form === "quiet", lost: 12, datagrams: 880 },
              datagramsPerSecond: { median: 900e3, min: 888e3, max: 8.88e6 },
              latencyUs: { p50: 8888, p90: 8888, p99: 888_888, max: 888_888 },
              ratioToC: { median: 4444, min: 4444, max: 88_888 },
              receiveCpuNs: { median: 88_888, min: 88_888, max: 88_888 },
              topology: form === "quiet" ? "one thread" : "two processes",
            }),
          ),
        );
        const text = await reportPage({ environment: ENVIRONMENT, results: widest });
        await expectGoodDrawings(await browser.open(write("long.html", text), look), look, form);
      },
      TIMEOUT_MS,
    );

    inBrowser(
      `shows each chart in ${name} window, with all of its text, and asks for nothing`,
      async () => {
        const page = await browser.open(report, look);
        await expectGoodDrawings(page, look, form);
        expect(page.requests).toEqual([Bun.pathToFileURL(report).href]);
        expect(page.complaints).toEqual([]);
      },
      TIMEOUT_MS,
    );
  }

  inBrowser(
    "can be read in light and in dark",
    async () => {
      const grounds: number[] = [];
      for (const isDark of [false, true]) {
        const page = await browser.open(report, { ...WIDE, isDark });
        const [ground, ...colours] = ((await page.evaluate(COLOURS)) as string[]).map(luminance);
        grounds.push(ground as number);
        expect(colours.length).toBeGreaterThan(2);
        for (const one of colours) expect(contrast(one, ground as number)).toBeGreaterThan(4.5);
      }
      expect(grounds[0]).toBeGreaterThan(0.9);
      expect(grounds[1]).toBeLessThan(0.1);
    },
    TIMEOUT_MS,
  );

  inBrowser(
    "shows how a latency is spread: each shape within its row, and from end to end of it",
    async () => {
      const page = await browser.open(report, WIDE);
      const seen = (await page.evaluate(`(() => {
        const svg = document.querySelector("#latency-peers-1-wide");
        const ends = (one) => {
          const { left, right, top, bottom } = one.getBoundingClientRect();
          return { left, right, top, bottom };
        };
        return {
          shapes: [...svg.querySelectorAll(".shapes path")].map(ends),
          points: [...svg.querySelectorAll(".points path")].map(ends),
        };
      })()`)) as Record<"shapes" | "points", Record<"left" | "right" | "top" | "bottom", number>[]>;
      expect(seen.shapes).toHaveLength(14);
      expect(seen.points).toHaveLength(4 * 14);
      for (const [i, { left, right, top, bottom }] of seen.shapes.entries()) {
        expect(bottom - top).toBeCloseTo(16, 0);
        expect(top).toBeGreaterThanOrEqual((seen.shapes[i - 1]?.bottom ?? 0) - SLACK);
        const [p50, , , max] = seen.points.slice(4 * i, 4 * i + 4);
        const middle = ((p50?.left ?? 0) + (p50?.right ?? 0)) / 2;
        expect(left).toBeLessThan(middle);
        // Its last step ends above the longest, which is 60 times p50, at 64 times.
        expect(right).toBeGreaterThan((max?.left ?? 0) + 2);
        expect(((p50?.top ?? 0) + (p50?.bottom ?? 0)) / 2).toBeCloseTo((top + bottom) / 2, 0);
      }
    },
    TIMEOUT_MS,
  );

  inBrowser(
    "opens the numbers of a chart without scripts, and moves a wide table on its own",
    async () => {
      const page = await browser.open(report, NARROW);
      const seen = (await page.evaluate(`(() => {
        const details = document.querySelector("figure details");
        const table = details.querySelector("table");
        const before = table.checkVisibility();
        details.querySelector("summary").click();
        const region = table.parentElement;
        return [before, table.checkVisibility(), region.scrollWidth > region.clientWidth];
      })()`)) as boolean[];
      expect(seen).toEqual([false, true, true]);
      expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(NARROW.width);
    },
    TIMEOUT_MS,
  );

  inBrowser(
    "runs nothing that stands in a name, with scripts on",
    async () => {
      const hostile = `</title></text></style><script>document.title="ran"</script><img src=http://127.0.0.1/x onerror='document.title="ran"'>`;
      const of = { cell: hostile, question: hostile, peer: hostile, send: hostile };
      const text = await reportPage({
        environment: { ...ENVIRONMENT, cpu: hostile, offloads: { [hostile]: hostile } },
        results: [resultLine(10, { ...of, ratioToC: spread(1) })],
      });
      const file = write("hostile.html", text);
      const page = await browser.open(file, { ...WIDE, hasScripts: true });
      expect(await page.evaluate("document.title")).toStartWith("bun-sockets: benchmarks");
      expect(await page.evaluate(`document.querySelectorAll("script, img").length`)).toBe(0);
      expect(await page.evaluate("document.body.textContent")).toContain(hostile);
      expect(page.requests).toHaveLength(1);
    },
    TIMEOUT_MS,
  );

  inBrowser(
    "is checked by a browser that would have told",
    async () => {
      const bad = `<link rel="icon" href="data:,"><body><img src="http://127.0.0.1:1/x.png"><script>
        console.error("planted"); throw new Error("planted too");</script>`;
      const page = await browser.open(write("bad.html", bad), { ...WIDE, hasScripts: true });
      expect(page.requests).toContain("http://127.0.0.1:1/x.png");
      expect(page.complaints.join("\n")).toContain("planted");
      expect(page.complaints.join("\n")).toContain("planted too");
      expect(page.complaints.join("\n")).toContain("ERR_");
    },
    TIMEOUT_MS,
  );
});

describe("the charts of README.md in a browser", () => {
  inBrowser(
    "are images of a size, that stand on a ground of their own, light and dark",
    async () => {
      for (const [name, svg] of Object.entries(await recordedCharts(whole, "run.ndjson"))) {
        const file = write(name, svg);
        const alone = await browser.open(file, WIDE);
        expect(await alone.evaluate("document.documentElement.tagName")).toBe("svg");
        const [seen] = (await alone.evaluate(DRAWINGS)) as SeenDrawing[];
        expect(seen?.outside).toBeLessThanOrEqual(SLACK);
        expect(seen?.marks).toBeGreaterThan(10);
        expect(alone.requests).toHaveLength(1);
        const ground = `getComputedStyle(document.querySelector("svg > rect")).fill`;
        const dark = await browser.open(file, { ...WIDE, isDark: true });
        expect(luminance((await alone.evaluate(ground)) as string)).toBeGreaterThan(0.9);
        expect(luminance((await dark.evaluate(ground)) as string)).toBeLessThan(0.1);
        const around = write("readme.html", `<img src="${name}">`);
        const page = await browser.open(around, WIDE);
        const width = await page.evaluate(`document.querySelector("img").naturalWidth`);
        expect(width).toBe(PIXELS);
      }
    },
    TIMEOUT_MS,
  );
});

// The ground, then what stands on it.
const COLOURS = `[
  getComputedStyle(document.documentElement).backgroundColor,
  ...["h1", ".environment", "a", "summary"].map(
    (name) => getComputedStyle(document.querySelector(name)).color),
  ...[...document.querySelectorAll("svg text")].map((text) => getComputedStyle(text).fill),
]`;

/** How bright a colour is: 0 to 1, as WCAG has it. */
function luminance(colour: string): number {
  const parts = /^rgb\((\d+), (\d+), (\d+)\)$/.exec(colour);
  if (!parts) throw new Error(`No colour: ${colour}`);
  const [red, green, blue] = parts.slice(1).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one: number, other: number): number {
  return (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
}

test("contrast() knows black and white", () => {
  expect(contrast(luminance("rgb(0, 0, 0)"), luminance("rgb(255, 255, 255)"))).toBeCloseTo(21, 5);
});
