/**
 * From a Vega-Lite specification to an SVG that stands alone: no script, no request, colours that
 * follow the reader's scheme.
 *
 * @module
 */
import * as vega from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import { escapeText } from "./text.ts";

/** A drawing that no margin has to be measured for: the library only guesses how wide text is. */
export interface Drawing {
  /** Of what lies between the axes, in pixels. */
  readonly width: number;
  readonly height: number;
  readonly margin: Readonly<Record<"left" | "right" | "top" | "bottom", number>>;
  readonly layers: readonly Layer[];
}

/** One layer of marks, as Vega-Lite has it. */
export type Layer = Readonly<Record<string, unknown>>;

/** What is said of a drawing to those who do not see it. */
export interface Caption {
  /** Unique in the page. */
  readonly id: string;
  readonly title: string;
  readonly description: string;
}

/** Who is drawn how: as CSS variables, light and dark. */
const COLOURS: Readonly<Record<string, readonly [light: string, dark: string]>> = {
  ink: ["#1f2328", "#e6edf3"],
  muted: ["#59636e", "#9198a1"],
  grid: ["#d8dee4", "#30363d"],
  stripe: ["#59636e14", "#9198a11a"],
  paper: ["#ffffff", "#0d1117"],
  "bun-sockets": ["#d9480f", "#ff922b"],
  c: ["#364fc7", "#91a7ff"],
  "bun-udp": ["#0c8599", "#3bc9db"],
  "node-dgram-bun": ["#2b8a3e", "#51cf66"],
  "node-dgram": ["#66880b", "#a9e34b"],
  deno: ["#9c36b5", "#da77f2"],
  python: ["#a37200", "#ffd43b"],
  other: ["#a61e4d", "#faa2c1"],
  sending: ["#1971c2", "#4dabf7"],
  receiving: ["#e67700", "#ffc078"],
};

/** The name of a colour, as marks take it. */
export function colour(name: string): string {
  return `var(--${Object.hasOwn(COLOURS, name) ? name : "other"})`;
}

const declare = (scheme: 0 | 1): string =>
  Object.entries(COLOURS)
    .map(([name, colours]) => `--${name}:${colours[scheme]}`)
    .join(";");

/** Declares the colours for what `selector` selects. */
export function colourStyle(selector: string): string {
  return `${selector}{${declare(0)}}@media (prefers-color-scheme:dark){${selector}{${declare(1)}}}`;
}

/** What fills the marks of rounds that do not agree, in the colour that they would have. */
export function hatch(id: string, of: string): string {
  return `url(#${id}-noisy-${of.slice("var(--".length, -1)})`;
}

// One for each colour that the drawing has taken.
function patterns(svg: string, id: string): string {
  const names = new Set(
    [...svg.matchAll(/url\(#[a-z0-9-]+-noisy-([a-z-]+)\)/g)].map(([, name]) => name),
  );
  const all = [...names].map(
    (name) =>
      `<pattern id="${id}-noisy-${name}" width="6" height="6" patternUnits="userSpaceOnUse" ` +
      `patternTransform="rotate(45)"><path d="M0,0h6v6h-6Z" fill="${colour("paper")}"/>` +
      `<path d="M1.5,0v6" stroke="var(--${name})" stroke-width="2.5"/></pattern>`,
  );
  return all.length === 0 ? "" : `<defs>${all.join("")}</defs>`;
}

const FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif";

const CONFIG = {
  font: FONT,
  view: { stroke: null },
  axis: {
    domain: false,
    ticks: false,
    gridColor: colour("grid"),
    labelColor: colour("muted"),
    labelFontSize: 11,
    labelPadding: 6,
    titleColor: colour("muted"),
    titleFontSize: 11,
    titleFontWeight: "normal",
  },
  text: { fontSize: 12, fill: colour("ink") },
};

/**
 * Draws. The same drawing becomes the same text each time.
 *
 * @param alone Whether the SVG is a file of its own, which brings its colours and its ground.
 */
export async function renderSvg(
  { width, height, margin, layers }: Drawing,
  caption: Caption,
  alone = false,
): Promise<string> {
  const specification = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width,
    height,
    background: null,
    padding: margin,
    autosize: { type: "none" },
    config: CONFIG,
    // The library wants each name once; several layers may have one class.
    layer: layers.map((layer, i) => ({ ...layer, name: `${layer["name"]}_${i}` })),
  };
  const { spec } = compile(specification as unknown as TopLevelSpec);
  const view = new vega.View(vega.parse(spec), { renderer: "none", logLevel: vega.Error });
  try {
    const svg = await view.toSVG();
    return frame(tidy(svg), caption, alone, {
      width: width + margin.left + margin.right,
      height: height + margin.top + margin.bottom,
    });
  } finally {
    view.finalize();
  }
}

/**
 * Takes out what nobody sees, rounds to hundredths of a pixel, and makes of each mark's description
 * a title, which browsers show to those who point at the mark.
 */
function tidy(svg: string): string {
  return svg
    .replace(/<path class="(?:back|fore)ground"[^>]*\/>/g, "")
    .replace(
      /<(path|line|text|rect)((?: [^>]*)?) aria-label="([^"]*)"([^>]*)\/>/g,
      "<$1$2$4><title>$3</title></$1>",
    )
    .replace(/<[^>]*>/g, (tag) =>
      tag
        .replace(
          / (?:role|aria-[a-z]+|pointer-events|stroke-miterlimit|font-family|opacity)="[^"]*"/g,
          "",
        )
        .replace(/-?\d+\.\d{3,}/g, (digits) => String(Number(Number(digits).toFixed(2)))),
    )
    .replace(/ class="mark-[a-z]+ role-mark ([a-z]+)_\d+_marks"/g, ' class="$1"')
    .replace(/ class="(?:mark-|role-)[^"]*"/g, "")
    .replace(/<g><\/g>/g, "");
}

function frame(
  svg: string,
  { id, title, description }: Caption,
  alone: boolean,
  { width, height }: { width: number; height: number },
): string {
  const content = svg.slice(svg.indexOf(">") + 1, -"</svg>".length);
  const open =
    `<svg xmlns="http://www.w3.org/2000/svg" id="${id}" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="${FONT}" role="img" aria-labelledby="${id}-title ${id}-desc">`;
  return [
    open,
    `<title id="${id}-title">${escapeText(title)}</title>`,
    `<desc id="${id}-desc">${escapeText(description)}</desc>`,
    alone ? `<style>${colourStyle(`#${id}`)}</style>` : "",
    patterns(content, id),
    alone ? `<rect width="${width}" height="${height}" rx="8" fill="${colour("paper")}"/>` : "",
    content,
    "</svg>",
  ].join("");
}
