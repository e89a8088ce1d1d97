/**
 * Panels of lines side by side, with one scale: what a datagram costs, by how many go in one call.
 *
 * @module
 */
import { as, at, dashOf, marks, TITLED, words } from "./layers.ts";
import type { Shape } from "./row_chart.ts";
import { colour, type Drawing, type Layer } from "./svg.ts";
import { counted, shorten } from "./text.ts";

/** One measurement of a series. */
export interface LinePoint {
  readonly x: number;
  readonly y: number;
  readonly from: number;
  readonly to: number;
  readonly isNoisy: boolean;
  /** What stands beside it: what was lost. Mostly nothing. */
  readonly remark: string;
  readonly title: string;
}

/** What is joined by a line. */
export interface Series {
  readonly label: string;
  readonly colour: string;
  /** Another one for each colour, for those who do not see colours. */
  readonly shape: Shape;
  readonly points: readonly LinePoint[];
}

/** Lines that are compared with each other first of all. */
export interface Panel {
  readonly heading: string;
  readonly series: readonly Series[];
}

export interface LineChart {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly panels: readonly Panel[];
}

const HEIGHT = 230;
const LEFT = 56;
const RIGHT = 24;
const TOP = 16;
const KEY = 18;
const HEAD = 40;
const FOOT = 46;
const GAP = 70;
// Below a panel that another one stands under.
const UNDER = 24;
// Off the edges of a panel, so that ranges and marks are whole.
const INSET = 34;
// Between points of the same place, so that each shows its range.
const BESIDE = 9;

/** A panel in pixels: its upper left corner, and how wide it is. */
interface Place {
  readonly left: number;
  readonly top: number;
  readonly width: number;
}

/** Where values stand in a panel. */
interface Scales {
  readonly xs: readonly number[];
  readonly ys: readonly number[];
  x(value: number): number;
  y(value: number): number;
}

/** Lays a chart out for a width in pixels. */
export function layLines(chart: LineChart, width: number): Drawing {
  const { panels } = chart;
  const plot = width - LEFT - RIGHT;
  const isNarrow = width < 600;
  const columns = isNarrow ? 1 : Math.min(panels.length, 2);
  const wide = (plot - GAP * (columns - 1)) / columns;
  const keyRows = Math.max(...panels.map(({ series }) => series.length));
  const tall = HEAD + keyRows * KEY + HEIGHT + FOOT + UNDER;
  const layers = panels.flatMap((panel, i) => {
    const row = Math.floor(i / columns);
    const place = {
      left: (i % columns) * (wide + GAP),
      top: row * tall + HEAD + keyRows * KEY,
      width: wide,
    };
    const scales = scalesOf(chart, panel, place);
    return [
      ...axes(chart, place, scales),
      ...keys(panel, place, keyRows),
      ...curves(panel, scales),
    ];
  });
  return {
    width: plot,
    height: tall * Math.ceil(panels.length / columns) - FOOT - UNDER,
    margin: { left: LEFT, right: RIGHT, top: TOP, bottom: FOOT },
    layers: layers.filter((layer) => (layer["data"] as { values: unknown[] }).values.length > 0),
  };
}

// From 0, as far as the slowest round of any panel; along the way powers of two are equally far apart.
function scalesOf({ panels }: LineChart, { series }: Panel, place: Place): Scales {
  const all = panels.flatMap((panel) => panel.series.flatMap(({ points }) => points));
  const highest = Math.max(...all.map(({ to }) => to)) || 1;
  const step = stepOf(highest / 5);
  const steps = Math.ceil(highest / step);
  const xs = [...new Set(series.flatMap(({ points }) => points.map(({ x }) => x)))];
  xs.sort((a, b) => a - b);
  const [first, last] = [Math.log2(xs[0] ?? 1), Math.log2(xs.at(-1) ?? 1)];
  const share = (value: number) => (last > first ? (Math.log2(value) - first) / (last - first) : 0);
  return {
    xs,
    ys: Array.from({ length: steps + 1 }, (_, i) => i * step),
    x: (value) => place.left + INSET + share(value) * (place.width - 2 * INSET),
    y: (value) => place.top + HEIGHT * (1 - value / (steps * step)),
  };
}

/** 1, 2 or 5, times a power of ten: the next one from a number on. */
function stepOf(least: number): number {
  const decade = 10 ** Math.floor(Math.log10(least));
  const digit = [1, 2, 5].find((one) => one * decade >= least) ?? 10;
  return digit * decade;
}

function axes({ xTitle, yTitle }: LineChart, { left, top, width }: Place, scales: Scales): Layer[] {
  const ink = colour("muted");
  const small = { fontSize: 11 };
  return [
    ...scales.ys.map((value) =>
      marks(
        "grid",
        [{ y: scales.y(value) }],
        { type: "rule", stroke: colour("grid") },
        { x: { value: left }, x2: { value: left + width }, y: at("y") },
      ),
    ),
    words(
      "ticks",
      scales.ys.map((value) => ({ text: counted(value), y: scales.y(value), ink })),
      left - 8,
      { ...small, align: "right" },
    ),
    ...scales.xs.map((value) =>
      words("ticks", [{ text: counted(value), y: top + HEIGHT + 14, ink }], scales.x(value), {
        ...small,
        align: "center",
      }),
    ),
    words("ticks", [{ text: yTitle, y: top - 14, ink }], left - 40, small),
    words("ticks", [{ text: xTitle, y: top + HEIGHT + 31, ink }], left + width / 2, {
      ...small,
      align: "center",
    }),
  ];
}

// Which line is whose, above the panel.
function keys({ heading, series }: Panel, { left, top, width }: Place, rows: number): Layer[] {
  const above = top - HEAD - rows * KEY;
  const title = { text: heading, y: above, ink: colour("ink") };
  const named = series.flatMap(({ label, colour: stroke, shape }, i) => {
    const y = above + 20 + i * KEY;
    const text = shorten(label, Math.floor((width - 34) / 6.2));
    return [
      marks(
        "keys",
        [{ y }],
        { type: "rule", stroke, strokeWidth: 2 },
        { x: { value: left }, x2: { value: left + 26 }, y: at("y") },
      ),
      marks(
        "keys",
        [{ y }],
        { ...POINT, shape, fill: stroke, stroke },
        { x: { value: left + 13 }, y: at("y") },
      ),
      words("keys", [{ y, text, ink: colour("ink") }], left + 34, { fontSize: 11 }),
    ];
  });
  return [words("headings", [title], left - 40, { fontSize: 13, fontWeight: "bold" }), ...named];
}

const POINT = { type: "point", size: 60, opacity: 1, strokeWidth: 1.5 };

function curves({ series }: Panel, { x, y }: Scales): Layer[] {
  const all = series.flatMap(({ points, ...of }, i) =>
    points.map((point) => ({
      ...of,
      ...point,
      x: x(point.x) + (i - (series.length - 1) / 2) * BESIDE,
      y: y(point.y),
      from: y(point.from),
      to: y(point.to),
      dash: dashOf(point),
      fill: point.isNoisy ? colour("paper") : of.colour,
    })),
  );
  const place = { x: at("x"), y: at("y") };
  return [
    marks(
      "lines",
      all,
      { type: "line", strokeWidth: 2 },
      { ...place, detail: { field: "label", type: "nominal" }, stroke: as("colour") },
    ),
    marks(
      "ranges",
      all,
      { type: "rule", strokeWidth: 1.5 },
      {
        x: at("x"),
        y: at("from"),
        y2: { field: "to" },
        stroke: as("colour"),
        strokeDash: as("dash"),
        ...TITLED,
      },
    ),
    marks("points", all, POINT, {
      ...place,
      shape: as("shape"),
      fill: as("fill"),
      stroke: as("colour"),
      ...TITLED,
    }),
    marks(
      "remarks",
      all.filter(({ remark }) => remark !== ""),
      { type: "text", align: "left", dx: 8, dy: -8, fontSize: 11, fill: colour("muted") },
      { ...place, text: { field: "remark", type: "nominal" } },
    ),
  ];
}
