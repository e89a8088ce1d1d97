/**
 * A chart with a row for each measurement: names at the left, marks on a common scale, the number
 * at the right. Every row names itself, so that no colour has to be told from another.
 *
 * @module
 */
import { as, at, dashOf, marks, TITLED, words } from "./layers.ts";
import { colour, type Drawing, hatch, type Layer } from "./svg.ts";
import { shorten } from "./text.ts";

/** A measurement. Places of marks are values on the scale. */
export interface Row {
  readonly label: string;
  /** What is shown to those who point at it. */
  readonly title: string;
  /** The number, as text; and where there is little room. */
  readonly value: string;
  readonly brief: string;
  readonly isNoisy: boolean;
  readonly bars: readonly { readonly from: number; readonly to: number; readonly colour: string }[];
  readonly range: { readonly from: number; readonly to: number } | null;
  readonly points: readonly {
    readonly at: number;
    readonly shape: Shape;
    readonly colour: string;
  }[];
  /** How many were how much: drawn as a shape that is as high as a step has many. */
  readonly steps?: Steps;
}

/** Steps that follow each other, each with how many are in it. */
export interface Steps {
  readonly colour: string;
  readonly all: readonly {
    readonly from: number;
    readonly to: number;
    readonly count: number;
  }[];
}

/** What a point looks like: one for each kind of number, where a row has several. */
export type Shape = "circle" | "diamond" | "triangle-up" | "square";

/** Rows that are compared with each other first of all. */
export interface Group {
  readonly label: string;
  readonly rows: readonly Row[];
}

/** Groups under a heading: a payload size. */
export interface Block {
  readonly heading: string | null;
  readonly groups: readonly Group[];
}

/** The axis that all rows share. */
export interface Scale {
  readonly title: string;
  readonly type: "linear" | "log";
  readonly from: number;
  readonly to: number;
  /** Where lines stand, when the library is not to choose. */
  readonly ticks?: readonly number[];
  /** How numbers at the axis are written: a format of d3. */
  readonly format: string;
  /** A line across all rows. */
  readonly reference?: number;
}

/** What the colours and shapes of a chart say, where the rows do not. */
export interface Key {
  readonly label: string;
  readonly shape: Shape;
  readonly colour: string;
}

export interface RowChart {
  readonly blocks: readonly Block[];
  readonly scale: Scale;
  readonly keys: readonly Key[];
}

/** Where things go. Narrow is for a telephone: names of groups get a line of their own. */
interface Columns {
  readonly isNarrow: boolean;
  readonly left: number;
  readonly right: number;
  readonly groupCharacters: number;
  readonly labelCharacters: number;
}

const ROW = 19;
const BAR = 12;
const SHAPE = 16;
// Of a step that holds one of thousands: it is to be seen.
const SHAPE_MIN = 1.2;
const HEADING = 30;
const KEYS = 22;
const AXIS = 42;

export const WIDE = 920;
export const NARROW = 350;

// As wide as the longest that is written there: the browser's test measures it.
function columnsOf(width: number): Columns {
  return width < 600
    ? { isNarrow: true, left: 118, right: 124, groupCharacters: 50, labelCharacters: 16 }
    : { isNarrow: false, left: 340, right: 206, groupCharacters: 30, labelCharacters: 22 };
}

/** Lays a chart out for a width in pixels. `id` is that of the SVG it becomes. */
export function layRows({ blocks, scale, keys }: RowChart, width: number, id: string): Drawing {
  const columns = columnsOf(width);
  const { left, right } = columns;
  const plot = width - left - right;
  const placed = place(blocks, columns);
  const x = { scale: scaleOf(scale), axis: axisOf(scale, columns), type: "quantitative" };
  const layers: Layer[] = [
    stripes(placed.groups, 6 - left, plot + right - 6),
    bars(placed.rows, x, id),
    shapes(placed.rows, x, id),
    ...reference(scale, x, placed.height),
    ...ranges(placed.rows, x),
    points(placed.rows, x),
    ...names(placed, columns, plot),
    ...keyLayers(keys, columns),
  ];
  return {
    width: plot,
    height: placed.height,
    margin: { left, right, top: AXIS + (keys.length > 0 ? KEYS : 0), bottom: 8 },
    layers: layers.filter((layer) => (layer["data"] as { values: unknown[] }).values.length > 0),
  };
}

function stripes(groups: readonly PlacedGroup[], from: number, to: number): Layer {
  return marks(
    "stripes",
    groups.filter((_, i) => i % 2 === 0),
    { type: "rect", fill: colour("stripe") },
    { x: { value: from }, x2: { value: to }, y: at("y"), y2: { field: "y2" } },
  );
}

function bars(rows: readonly PlacedRow[], x: object, id: string): Layer {
  const values = rows.flatMap(({ row, y }) =>
    row.bars.map((bar) => ({
      ...bar,
      title: row.title,
      y: y - BAR / 2,
      y2: y + BAR / 2,
      fill: row.isNoisy ? hatch(id, bar.colour) : bar.colour,
      edge: row.isNoisy ? bar.colour : "none",
    })),
  );
  return marks(
    "bars",
    values,
    { type: "rect", strokeWidth: 1 },
    {
      x: { ...x, field: "from" },
      x2: { field: "to" },
      y: at("y"),
      y2: { field: "y2" },
      fill: as("fill"),
      stroke: as("edge"),
      ...TITLED,
    },
  );
}

// One path for each row: its highest step is as high as a row has room.
function shapes(rows: readonly PlacedRow[], x: object, id: string): Layer {
  const values = rows.flatMap(({ row, y }, i) => {
    const { all = [], colour: own = "" } = row.steps ?? {};
    const highest = Math.max(...all.map(({ count }) => count));
    const fill = row.isNoisy ? hatch(id, own) : own;
    return all.flatMap(({ from, to, count }) => {
      const half = count === 0 ? 0 : Math.max(SHAPE_MIN, (SHAPE * count) / highest) / 2;
      const corner = { row: i, y: y - half, y2: y + half, fill, edge: own, title: row.title };
      return [
        { ...corner, at: from },
        { ...corner, at: to },
      ];
    });
  });
  return marks(
    "shapes",
    values,
    { type: "area", fillOpacity: 0.4, strokeWidth: 0.75, line: false },
    {
      x: { ...x, field: "at" },
      y: at("y"),
      y2: { field: "y2" },
      detail: { field: "row", type: "nominal" },
      fill: as("fill"),
      stroke: as("edge"),
      ...TITLED,
    },
  );
}

function reference({ reference: value }: Scale, x: object, height: number): Layer[] {
  if (value === undefined) return [];
  return [
    marks(
      "reference",
      [{ at: value }],
      { type: "rule", stroke: colour("c"), strokeWidth: 1.5 },
      { x: { ...x, field: "at" }, y: { value: 0 }, y2: { value: height } },
    ),
  ];
}

function ranges(rows: readonly PlacedRow[], x: object): Layer[] {
  const values = rows.flatMap(({ row, y }) =>
    row.range ? [{ ...row.range, title: row.title, y, dash: dashOf(row) }] : [],
  );
  const ends = values.flatMap(({ from, to, y }) =>
    [from, to].map((end) => ({ end, y: y - 3, y2: y + 3 })),
  );
  const line = { type: "rule", stroke: colour("ink"), strokeWidth: 1.25 };
  return [
    marks("ranges", values, line, {
      x: { ...x, field: "from" },
      x2: { field: "to" },
      y: at("y"),
      strokeDash: as("dash"),
      ...TITLED,
    }),
    marks("ends", ends, line, { x: { ...x, field: "end" }, y: at("y"), y2: { field: "y2" } }),
  ];
}

function points(rows: readonly PlacedRow[], x: object): Layer {
  const values = rows.flatMap(({ row, y }) =>
    row.points.map((point) => ({
      ...point,
      title: row.title,
      y,
      fill: row.isNoisy ? colour("paper") : point.colour,
      edge: point.colour,
    })),
  );
  return marks("points", values, POINT, {
    x: { ...x, field: "at" },
    y: at("y"),
    shape: as("shape"),
    fill: as("fill"),
    stroke: as("edge"),
    ...TITLED,
  });
}

function names({ headings, groups, rows }: Placed, columns: Columns, plot: number): Layer[] {
  const { left, isNarrow, groupCharacters, labelCharacters } = columns;
  const inkOf = ({ isNoisy }: Row) => colour(isNoisy ? "muted" : "ink");
  const fontSize = isNarrow ? 11 : 12;
  const groupNames = groups.map(({ label, labelY: y }) => ({
    ...{ text: shorten(label, groupCharacters), y, ink: colour("ink") },
  }));
  const labels = rows.map(({ row, y }) => ({
    ...{ text: shorten(row.label, labelCharacters), y, ink: inkOf(row) },
  }));
  const values = rows.map(({ row, y }) => ({
    ...{ text: isNarrow ? row.brief : row.value, y, ink: inkOf(row) },
  }));
  return [
    words("headings", headings, 8 - left, { fontWeight: "bold", fontSize: 13 }),
    words("groups", groupNames, 10 - left, { fontWeight: 600 }),
    words("labels", labels, -8, { align: "right", fontSize }),
    words("values", values, plot + 8, { fontSize }),
  ];
}

const POINT = { type: "point", size: 55, opacity: 1, strokeWidth: 1.5 };

interface Placed {
  readonly headings: readonly { readonly text: string; readonly y: number; readonly ink: string }[];
  readonly groups: readonly PlacedGroup[];
  readonly rows: readonly PlacedRow[];
  readonly height: number;
}

interface PlacedRow {
  readonly row: Row;
  /** Its middle. */
  readonly y: number;
}

interface PlacedGroup {
  readonly label: string;
  readonly labelY: number;
  readonly y: number;
  readonly y2: number;
}

function place(blocks: readonly Block[], { isNarrow }: Columns): Placed {
  const headings: { text: string; y: number; ink: string }[] = [];
  const groups: PlacedGroup[] = [];
  const rows: PlacedRow[] = [];
  let y = 0;
  for (const { heading, groups: members } of blocks) {
    if (heading !== null) {
      headings.push({ text: heading, y: y + HEADING / 2 + 3, ink: colour("ink") });
      y += HEADING;
    }
    for (const group of members) {
      const top = y;
      const own = isNarrow && group.label !== "" ? ROW : 0;
      y += own + 3;
      for (const [i, row] of group.rows.entries()) rows.push({ row, y: y + ROW * (i + 0.5) });
      y += group.rows.length * ROW + 3;
      const labelY = top + 3 + ROW / 2;
      groups.push({ label: group.label, labelY, y: top, y2: y });
    }
  }
  return { headings, groups, rows, height: y };
}

function keyLayers(keys: readonly Key[], { isNarrow, left }: Columns): Layer[] {
  const y = -AXIS - 8;
  // The library only guesses how wide text is; so does this, and generously.
  let x = isNarrow ? 14 - left : 6;
  return keys.flatMap((key) => {
    const from = x;
    x += 22 + key.label.length * 6.6;
    const mark = { ...POINT, fill: key.colour, stroke: key.colour };
    return [
      marks("keys", [{ y, ...key }], mark, {
        ...{ x: { value: from }, y: at("y"), shape: as("shape") },
      }),
      words("keys", [{ text: key.label, y, ink: colour("muted") }], from + 8, { fontSize: 11 }),
    ];
  });
}

function scaleOf({ type, from, to }: Scale) {
  return {
    type,
    domain: [from, to],
    nice: false,
    clamp: true,
    ...(type === "linear" && { zero: true }),
  };
}

function axisOf({ title, format, ticks }: Scale, { isNarrow }: Columns) {
  return {
    orient: "top",
    title,
    titleAnchor: "start",
    titlePadding: 4,
    // By itself the library gives all numbers of an axis one unit, also 0.
    labelExpr: `format(datum.value, '${format}')`,
    labelFlush: true,
    labelOverlap: "greedy",
    labelSeparation: 10,
    tickCount: isNarrow ? 3 : 6,
    ...(ticks && { values: ticks }),
  };
}
