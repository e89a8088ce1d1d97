/**
 * A chart of lines: what a datagram costs, by how many go in one call.
 *
 * @module
 */
import { as, at, dashOf, marks, TITLED, words } from "./layers.ts";
import { colour, type Drawing, hatch, type Layer } from "./svg.ts";
import { shorten } from "./text.ts";

/** One measurement of a series. */
export interface LinePoint {
  readonly x: number;
  readonly y: number;
  readonly from: number;
  readonly to: number;
  readonly isNoisy: boolean;
  /** What stands beside it: that it is noisy, what was lost. Mostly nothing. */
  readonly remark: string;
  readonly title: string;
}

/** What is joined by a line. */
export interface Series {
  readonly label: string;
  readonly colour: string;
  readonly isDashed: boolean;
  readonly points: readonly LinePoint[];
}

export interface LineChart {
  readonly xTitle: string;
  readonly yTitle: string;
  readonly series: readonly Series[];
}

const ROW = 18;
const HEIGHT = 280;
const LEFT = 56;
const RIGHT = 24;
const TITLE = 26;
const DASHES = [6, 4];

/** Lays a chart out for a width in pixels. `id` is that of the SVG it becomes. */
export function layLines(chart: LineChart, width: number, id: string): Drawing {
  const { series } = chart;
  const plot = width - LEFT - RIGHT;
  const columns = width < 600 ? 1 : 2;
  const all = series.flatMap(({ points, ...of }) =>
    points.map((point) => ({
      ...of,
      ...point,
      dash: dashOf(point),
      fill: point.isNoisy ? hatch(id) : of.colour,
      edge: point.isNoisy ? colour("noisy") : of.colour,
      shape: of.isDashed ? "square" : "circle",
    })),
  );
  const x = { field: "x", ...xOf(chart, all) };
  const y = yOf(chart, all);
  const layers: Layer[] = [
    marks(
      "lines",
      all,
      { type: "line", strokeWidth: 2 },
      {
        x,
        y: { ...y, field: "y" },
        detail: { field: "label", type: "nominal" },
        stroke: as("colour"),
        strokeDash: {
          field: "isDashed",
          type: "nominal",
          legend: null,
          scale: { domain: [false, true], range: [[1, 0], DASHES] },
        },
      },
    ),
    marks(
      "ranges",
      all,
      { type: "rule", strokeWidth: 1.25, stroke: colour("ink") },
      {
        x,
        y: { ...y, field: "from" },
        y2: { field: "to" },
        strokeDash: as("dash"),
        ...TITLED,
      },
    ),
    marks(
      "points",
      all,
      { type: "point", size: 60, opacity: 1, strokeWidth: 1.5 },
      {
        x,
        y: { ...y, field: "y" },
        shape: as("shape"),
        fill: as("fill"),
        stroke: as("edge"),
        ...TITLED,
      },
    ),
    marks(
      "remarks",
      all.filter(({ remark }) => remark !== ""),
      { type: "text", align: "left", dx: 8, dy: -8, fontSize: 11, fill: colour("muted") },
      { x, y: { ...y, field: "y" }, text: { field: "remark", type: "nominal" } },
    ),
    ...keys(series, columns, plot),
  ];
  const top = 16 + Math.ceil(series.length / columns) * ROW + TITLE;
  return {
    width: plot,
    height: HEIGHT,
    margin: { left: LEFT, right: RIGHT, top, bottom: 46 },
    layers: layers.filter((layer) => (layer["data"] as { values: unknown[] }).values.length > 0),
  };
}

function xOf({ xTitle }: LineChart, points: readonly LinePoint[]) {
  const places = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
  const [first = 1] = places;
  return {
    type: "quantitative",
    scale: {
      type: "log",
      base: 2,
      nice: false,
      // The first and the last place stand off the edges, so that their ranges are whole.
      domain: [first / 1.15, (places.at(-1) ?? 1) * 1.15],
    },
    axis: { title: xTitle, values: places, format: "d", grid: false, labelOverlap: "greedy" },
  };
}

function yOf({ yTitle }: LineChart, points: readonly LinePoint[]) {
  const highest = Math.max(...points.map(({ to }) => to));
  return {
    type: "quantitative",
    scale: { domain: [0, highest * 1.05 || 1], nice: true },
    axis: {
      title: yTitle,
      tickCount: 6,
      labelExpr: "format(datum.value, ',~r')",
      // Above the axis, where no width has to be guessed.
      titleAngle: 0,
      titleAlign: "left",
      titleX: -LEFT + 14,
      titleY: -16,
    },
  };
}

// Which line is whose, above the chart, in columns.
function keys(series: readonly Series[], columns: number, plot: number): Layer[] {
  const rows = Math.ceil(series.length / columns);
  const wide = plot / columns;
  return series.flatMap(({ label, colour: stroke, isDashed }, i) => {
    const from = Math.floor(i / rows) * wide;
    const y = ((i % rows) - rows) * ROW - TITLE;
    const text = shorten(label, Math.floor((wide - 34) / 6.2));
    const strokeDash = isDashed ? DASHES : [1, 0];
    return [
      marks(
        "keys",
        [{ y }],
        { type: "rule", stroke, strokeWidth: 2, strokeDash },
        {
          ...{ x: { value: from }, x2: { value: from + 26 }, y: at("y") },
        },
      ),
      words("keys", [{ y, text, ink: colour("ink") }], from + 34, { fontSize: 11 }),
    ];
  });
}
