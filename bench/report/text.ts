/**
 * Numbers and names as the report writes them.
 *
 * @module
 */
import type { EnvironmentLine, ResultLine, Spread } from "../results.ts";

// Control characters are no XML, and marks of direction turn around what stands beside them.
const UNPRINTABLE = /\p{C}/gu;
const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** A name that anybody may have chosen, as text that can be shown: still not escaped. */
export function plain(name: string): string {
  return name.toWellFormed().replace(UNPRINTABLE, "\u{fffd}");
}

/** A text for HTML and XML, between tags and in quotation marks. */
export function escapeText(text: string): string {
  return plain(text).replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

const PEERS: Readonly<Record<string, string>> = {
  c: "C",
  "bun-udp": "Bun.udpSocket",
  "node-dgram-bun": "node:dgram, Bun",
  "node-dgram": "node:dgram, Node",
  deno: "Deno",
  python: "Python",
};

/** A peer as people call it, where it is one that is known: "Bun.udpSocket" for "bun-udp". */
export function peerName(peer: string): string {
  return plain(Object.hasOwn(PEERS, peer) ? (PEERS[peer] as string) : peer);
}

/** A text of at most so many characters: what is cut off is replaced by "…". */
export function shorten(text: string, characters: number): string {
  const all = [...text];
  return all.length <= characters ? text : `${all.slice(0, characters - 1).join("")}…`;
}

/** At most three digits that count, never an exponent: 15.6, 12,300, 0.0123. */
export function number(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** Three digits that count, also zeros: what was measured as 1.40 is not 1.4. */
export function measured(value: number): string {
  if (value === 0) return "0";
  const digits = { minimumSignificantDigits: 3, maximumSignificantDigits: 3 };
  return value.toLocaleString("en", digits);
}

/** A number of things, in full. */
export function counted(value: number): string {
  return value.toLocaleString("en");
}

/** A large number, short: "5.23 M". */
export function short(value: number): string {
  if (value >= 999_500) return `${measured(value / 1e6)} M`;
  return value >= 999.5 ? `${measured(value / 1e3)} k` : measured(value);
}

/** The least and the most of the rounds: "3.1–6 M", "900 k – 1.2 M". */
export function range({ min, max }: Spread, write: (value: number) => string): string {
  const [from, to] = [write(min), write(max)];
  const unit = (text: string) => text.replace(/^[\d.,]+/, "");
  return unit(from) === unit(to)
    ? `${from.slice(0, from.length - unit(from).length)}–${to}`
    : `${from} – ${to}`;
}

/** Of the datagrams that were sent, those that did not come: "1.2 %". */
export function lossShare({ lost, datagrams }: ResultLine): string {
  if (lost === 0) return "0";
  const percent = (100 * lost) / Math.max(1, datagrams);
  return percent < 0.01
    ? "<0.01 %"
    : `${percent.toLocaleString("en", { maximumSignificantDigits: 2 })} %`;
}

/** Where a run was made, on one line. */
export function environmentText(environment: EnvironmentLine | null): string {
  if (!environment) return "The run does not say where it was made.";
  const { at, commit, isDirty, kernel, cpu, cores, memoryGiB, load, bun, node, deno, python } =
    environment;
  const parts = [
    `${at.slice(0, 10)}, ${commit === null ? "no commit" : `commit ${[...plain(commit)].slice(0, 12).join("")}`}${isDirty ? " with changes" : ""}`,
    `Linux ${plain(kernel).replace(/^Linux /, "")}`,
    `${plain(cpu)}, ${cores} ${cores === 1 ? "core" : "cores"}, ${number(memoryGiB)} GiB`,
    `load ${number(load)}`,
    `Bun ${plain(bun)}`,
    node === null ? "" : `Node ${plain(node)}`,
    deno === null ? "" : `Deno ${plain(deno)}`,
    python === null ? "" : `Python ${plain(python)}`,
  ];
  return parts.filter(Boolean).join(" · ");
}
