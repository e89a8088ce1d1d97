/**
 * The report: one HTML file that needs nothing but itself, no script either.
 *
 * @module
 */
import type { EnvironmentLine, ResultLine } from "../results.ts";
import { type Figure, type Section, sectionsOf } from "./figures.ts";
import { ROUNDS_MIN } from "./recorded.ts";
import { NARROW, WIDE } from "./row_chart.ts";
import type { Run } from "./run.ts";
import { colourStyle, renderSvg } from "./svg.ts";
import { everything, type Table } from "./tables.ts";
import { environmentText, escapeText, number } from "./text.ts";

/** Writes the report of a run. The same run becomes the same text each time. */
export async function reportPage({ environment, results }: Run): Promise<string> {
  const sections = sectionsOf(results);
  const written: string[] = [];
  for (const section of sections) written.push(await sectionHtml(section));
  const title = environment
    ? `bun-sockets: benchmarks of ${environment.at.slice(0, 10)}`
    : "bun-sockets: benchmarks";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeText(title)}</title>
<link rel="icon" href="data:,">
<style>${colourStyle(":root")}${STYLE}</style>
</head>
<body>
<header>
<h1>${escapeText(title)}</h1>
<p class="environment">${escapeText(environmentText(environment))}</p>
${environment ? machineHtml(environment) : ""}
${summaryHtml(results)}
<nav aria-label="Contents"><ul>
${[...sections, ALL].map(({ id, title }) => `<li><a href="#${id}">${escapeText(title)}</a></li>`).join("\n")}
</ul></nav>
</header>
<main>
${written.join("\n")}
<section id="${ALL.id}" aria-labelledby="${ALL.id}-heading">
<h2 id="${ALL.id}-heading">${ALL.title}</h2>
${results.length === 0 ? "<p>There are none.</p>" : `<p>The median of the rounds, and in parentheses the least and the most. “–” is what was not measured.</p>\n${tableHtml(everything(results), ALL.title)}`}
</section>
</main>
</body>
</html>
`;
}

const ALL = { id: "numbers", title: "All numbers" };

async function sectionHtml(section: Section): Promise<string> {
  const { id, title, text, figures, absent } = section;
  const content = [];
  for (const figure of figures) content.push(await figureHtml(figure));
  return `<section id="${id}" aria-labelledby="${id}-heading">
<h2 id="${id}-heading">${escapeText(title)}</h2>
<p>${escapeText(figures.length > 0 ? text : absent)}</p>
${content.join("\n")}
</section>`;
}

// Text in a drawing shrinks with it: so there is one for wide and one for narrow screens.
async function figureHtml(figure: Figure): Promise<string> {
  const { title, description, table } = figure;
  const drawings = [];
  for (const [name, width] of [
    ["wide", WIDE],
    ["narrow", NARROW],
  ] as const) {
    const id = `${figure.id}-${name}`;
    const svg = await renderSvg(figure.draw(width, id), { id, title, description });
    drawings.push(`<div class="${name}">${svg}</div>`);
  }
  return `<figure>
<figcaption>${escapeText(title)}</figcaption>
${drawings.join("\n")}
<details><summary>The numbers of this chart</summary>
${tableHtml(table, title)}
</details>
</figure>`;
}

function tableHtml({ head, rows }: Table, caption: string): string {
  const names = head.map((name) => `<th scope="col">${escapeText(name)}</th>`).join("");
  const body = rows.map((cells) => {
    const [first = "", ...others] = cells.map(escapeText);
    const isNoisy = cells.at(-1)?.startsWith("no") === true;
    const values = others.map((cell) => `<td>${cell}</td>`).join("");
    return `<tr${isNoisy ? ' class="noisy"' : ""}><th scope="row">${first}</th>${values}</tr>`;
  });
  // What can be scrolled can be reached by keyboard.
  return `<div class="scroll" role="region" tabindex="0" aria-label="${escapeText(`Numbers: ${caption}`)}"><table>
<thead><tr>${names}</tr></thead>
<tbody>
${body.join("\n")}
</tbody>
</table></div>`;
}

function machineHtml({ at, load, offloads, mitigations }: EnvironmentLine): string {
  const facts = [
    ["begun", at],
    ["load when it began", number(load)],
    ...Object.entries(offloads),
    ...Object.entries(mitigations),
  ] as const;
  const terms = facts.map(
    ([name, value]) => `<div><dt>${escapeText(name)}</dt><dd>${escapeText(value)}</dd></div>`,
  );
  return `<details class="machine"><summary>Offloads, limits and mitigations of this machine</summary>
<dl>
${terms.join("\n")}
</dl>
</details>`;
}

function summaryHtml(results: readonly ResultLine[]): string {
  if (results.length === 0) {
    return `<p class="warning">This run has no results: nothing was measured, or it ended early.</p>`;
  }
  const cells = new Set(results.map(({ cell }) => cell)).size;
  const peers = new Set(results.map(({ peer }) => peer)).size;
  const rounds = results.map((line) => line.rounds);
  const [least, most] = [Math.min(...rounds), Math.max(...rounds)];
  const noisy = results.filter(({ isNoisy }) => isNoisy).length;
  const lossy = results.filter(({ lost }) => lost > 0).length;
  const facts = [
    `${results.length} results: ${cells} ${cells === 1 ? "cell" : "cells"}, ${peers} ${peers === 1 ? "peer" : "peers"}, ${least === most ? least : `${least} to ${most}`} ${most === 1 ? "round" : "rounds"} each.`,
    most < ROUNDS_MIN
      ? `Fewer than ${ROUNDS_MIN} rounds tell that it works, and little about how long it takes.`
      : "",
    noisy > 0
      ? `${noisy} of them are noisy: their rounds differ by more than a quarter of the median. They are hatched, and their range stands where the number would.`
      : most > 1
        ? "The rounds of all agree."
        : "",
    lossy === 0
      ? "No datagram was lost."
      : `In ${lossy} of them datagrams were lost; their rows say so.`,
  ];
  return `<p class="summary">${facts.filter(Boolean).map(escapeText).join(" ")}</p>`;
}

const STYLE = `
*{box-sizing:border-box}
html{color-scheme:light dark;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
body{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 4rem;overflow-wrap:anywhere}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .5rem}
h2{font-size:1.3rem;margin:3rem 0 .5rem;padding-bottom:.3rem;border-bottom:1px solid var(--grid)}
p{max-width:46rem;margin:.5rem 0}
a{color:var(--c)}
.environment{color:var(--muted);max-width:none}
.warning{font-weight:600}
nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;margin:1rem 0 0;padding:0;list-style:none}
figure{margin:1.5rem 0 2.5rem}
figcaption{font-weight:600;margin-bottom:.25rem}
svg{display:block;max-width:100%;height:auto}
.narrow{display:none}
summary{cursor:pointer;color:var(--muted);padding:.3rem 0}
dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.5rem 1.5rem;margin:.5rem 0}
dt{color:var(--muted);font-size:.85rem}
dd{margin:0}
.scroll{overflow-x:auto;max-width:100%}
table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums;overflow-wrap:normal}
th,td{padding:.25rem .7rem;text-align:right;white-space:nowrap;border-bottom:1px solid var(--grid)}
thead th{color:var(--muted);font-weight:600}
th:first-child,td:nth-child(2),thead th:nth-child(2){text-align:left}
tbody th{font-weight:400}
.noisy{color:var(--muted);font-style:italic}
:focus-visible{outline:2px solid var(--c);outline-offset:2px}
@media (max-width:${WIDE + 40}px){.wide{display:none}.narrow{display:block}.narrow svg{width:100%;max-width:30rem}}
@media print{.wide{display:block}.narrow{display:none}figure{break-inside:avoid-page}}
`;
