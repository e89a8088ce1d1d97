/**
 * Charts as files of their own, for where HTML cannot stand: README.md.
 *
 * @module
 */
import type { EnvironmentLine } from "../results.ts";
import type { Figure } from "./figures.ts";
import { words } from "./layers.ts";
import { WIDE } from "./row_chart.ts";
import { colour, renderSvg } from "./svg.ts";
import { environmentText } from "./text.ts";

const LINE = 15;
const HEADING = 34;
// As many as fit the width of a chart: the font is not known.
const CHARACTERS = 140;

/** Draws a figure with its heading and how to read it, and below it the machine it is true of. */
export function standaloneSvg(figure: Figure, environment: EnvironmentLine): Promise<string> {
  const { title, description, text } = figure;
  const id = figure.id;
  const drawing = figure.draw(WIDE, id);
  const { margin, height, layers } = drawing;
  const left = 14 - margin.left;
  const told = wrap(environmentText(environment), CHARACTERS);
  const below = height + margin.bottom + 8;
  const said = wrap(text, CHARACTERS);
  const above = HEADING + said.length * LINE;
  const heading = { text: title, y: 20 - margin.top - above, ink: colour("ink") };
  const how = said.map((line, i) => ({
    ...{ text: line, y: heading.y + 20 + i * LINE, ink: colour("muted") },
  }));
  const machine = told.map((text, i) => ({ text, y: below + i * LINE, ink: colour("muted") }));
  const extra = [
    words("title", [heading], left, { fontSize: 15, fontWeight: "bold" }),
    words("how", how, left, { fontSize: 11 }),
    words("environment", machine, left, { fontSize: 11 }),
  ];
  return renderSvg(
    {
      ...drawing,
      margin: {
        ...margin,
        top: margin.top + above,
        bottom: margin.bottom + 14 + told.length * LINE,
      },
      layers: [...layers, ...extra],
    },
    { id, title, description: `${description} ${text} ${environmentText(environment)}` },
    true,
  );
}

/** Lines of at most so many characters, broken between words. */
function wrap(text: string, characters: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + word.length >= characters) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
