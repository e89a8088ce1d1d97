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
import { environmentText, escapeText, number, peerName } from "./text.ts";

/** Writes the report of a run. The same run becomes the same text each time. */
export async function reportPage(run: Run): Promise<string> {
  const { environment, results } = run;
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
<p>${INTRODUCTION}</p>
<p class="environment">${escapeText(environmentText(environment))}</p>
${environment ? machineHtml(environment) : ""}
${peersHtml(results)}
${summaryHtml(results)}
<nav aria-label="Contents"><ul>
${[...sections, ALL].map(({ id, title }) => `<li><a href="#${id}">${escapeText(title)}</a></li>`).join("\n")}
</ul></nav>
</header>
<main>
${written.join("\n")}
<section id="${ALL.id}" aria-labelledby="${ALL.id}-heading">
<h2 id="${ALL.id}-heading">${ALL.title}</h2>
${results.length === 0 ? "<p>There are none.</p>" : `<p>The median of the rounds, and in parentheses the least and the most, with three digits; below each head is the name of the number in the lines of the run. “–” is what was not measured.</p>\n${linesHtml(run)}\n${tableHtml(everything(results), ALL.title)}`}
</section>
</main>
</body>
</html>
`;
}

const ALL = { id: "numbers", title: "All numbers" };

const INTRODUCTION =
  "What it costs to send and to receive datagrams with bun-sockets, in C, and with the sockets of other runtimes. Everything runs on one machine, over loopback or a veth pair: there is no network card, and what is measured is software. All take part in the same rounds, in turn.";

const WHO = [
  ["bun-sockets", "this library"],
  ["c", "the same system calls in C"],
  ["bun-udp", "Bun’s own socket"],
  ["node-dgram-bun", "node:dgram under Bun"],
  ["node-dgram", "node:dgram under Node"],
  ["deno", "Deno.listenDatagram"],
  ["python", "Python’s socket module"],
] as const;

/** Who took part, as charts and as lines call them. */
function peersHtml(results: readonly ResultLine[]): string {
  const peers = new Set(results.map(({ peer }) => peer));
  const known = WHO.filter(([peer]) => peers.has(peer));
  const terms = known.map(([peer, who]) => {
    const name = peerName(peer);
    return `<div><dt>${escapeText(name)}${name === peer ? "" : ` <code>${peer}</code>`}</dt><dd>${who}</dd></div>`;
  });
  return `<details class="machine"><summary>Who is compared</summary>
<dl>
${terms.join("\n")}
</dl>
</details>`;
}

/** The lines that everything here is made of, to take along: they are in the page. */
function linesHtml({ environment, results }: Run): string {
  const lines = [...(environment ? [environment] : []), ...results];
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const address = `data:application/x-ndjson;base64,${Buffer.from(text).toString("base64")}`;
  return `<p><a download="run.ndjson" href="${address}">The lines of this run</a>, as JSON: what everything on this page is made of, with all digits, and with the steps of each latency.</p>`;
}

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
  const { title, description, text, table } = figure;
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
<figcaption>${escapeText(title)}${text ? `<p>${escapeText(text)}</p>` : ""}</figcaption>
${drawings.join("\n")}
<details><summary>The numbers of this chart</summary>
${tableHtml(table, title)}
</details>
</figure>`;
}

function tableHtml({ head, members, words, rows }: Table, caption: string): string {
  const open = (tag: string, i: number) => `<${tag}${words[i] ? ' class="word"' : ""}>`;
  const names = head.map((name, i) => {
    const member = members?.[i] ? `<br><code>${escapeText(members[i])}</code>` : "";
    return `${open('th scope="col"', i)}${escapeText(name)}${member}</th>`;
  });
  const body = rows.map((cells) => {
    const [first = "", ...others] = cells.map(escapeText);
    const isNoisy = cells.at(-1)?.startsWith("no") === true;
    const values = others.map((cell, i) => `${open("td", i + 1)}${cell}</td>`).join("");
    return `<tr${isNoisy ? ' class="noisy"' : ""}><th scope="row">${first}</th>${values}</tr>`;
  });
  // What can be scrolled can be reached by keyboard.
  return `<div class="scroll" role="region" tabindex="0" aria-label="${escapeText(`Numbers: ${caption}`)}"><table>
<thead><tr>${names.join("")}</tr></thead>
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
  const stalled = results.filter(({ stalls = 0 }) => stalls > 0).length;
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
    stalled > 0
      ? `In ${stalled} of them a side has waited in vain for a second or more, which is in their numbers: see “stalls” below.`
      : "",
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
figcaption p{font-weight:400;font-size:.9rem;color:var(--muted)}
code{font:.85em ui-monospace,monospace;color:var(--muted);font-weight:400}
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
th.word,td.word,tbody th{text-align:left}
thead th{vertical-align:bottom}
tbody th{font-weight:400}
th:first-child{position:sticky;left:0;background:var(--paper)}
.noisy{color:var(--muted);font-style:italic}
:focus-visible{outline:2px solid var(--c);outline-offset:2px}
@media (max-width:${WIDE + 40}px){.wide{display:none}.narrow{display:block}.narrow svg{width:100%;max-width:30rem}}
@media print{.wide{display:block}.narrow{display:none}figure{break-inside:avoid-page}}
`;
