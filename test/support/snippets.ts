/**
 * The programs in documentation: each block fenced as ts, in Markdown and in doc comments.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dir, "../..");

/** One program, and where it stands. */
export interface Snippet {
  readonly file: string;
  /** The line of its fence, from 1. */
  readonly line: number;
  /** What stands after the three backticks: "ts". */
  readonly language: string;
  readonly source: string;
}

/** Lists the fenced blocks of a text, those in doc comments without their stars. */
export function snippetsOf(file: string, text: string): Snippet[] {
  const fences = /^(\s*\* ?|)```([^\n`]*)\n(.*?)^\s*(?:\* ?)?```$/gms;
  return [...text.matchAll(fences)].map((match) => {
    const [, star = "", language = "", body = ""] = match;
    return {
      file,
      line: text.slice(0, match.index).split("\n").length,
      language: language.trim(),
      source: star === "" ? body : body.replace(/^\s*\* ?/gm, ""),
    };
  });
}

/** Lists the fenced blocks of all documentation: README.md, docs/ and the doc comments. */
export function allSnippets(): Snippet[] {
  return ["README.md", "CONTRIBUTING.md", "docs/**/*.md", "{lib,structs}/**/*.ts"]
    .flatMap((pattern) => [...new Bun.Glob(pattern).scanSync(root)].sort())
    .flatMap((file) => snippetsOf(file, readFileSync(join(root, file), "utf8")));
}

/** The first program of the README. */
export function firstProgram(): string {
  const readme = snippetsOf("README.md", readFileSync(join(root, "README.md"), "utf8"));
  const first = readme.find(({ language }) => language === "ts");
  if (!first) throw new Error("README.md has no program");
  return first.source;
}

/**
 * What a program says that it prints: the comment at the end of each line with console.log, in
 * order. The lines of a loop are written with ", " between them. A comment that ends with "…" says
 * something else.
 *
 * ```ts
 * console.log(1 + 1); // 2
 * for (const word of ["a", "b"]) console.log(word); // a, b
 * console.log(performance.now()); // milliseconds …
 * ```
 */
export function expectedOutput(source: string): string[] {
  return [...source.matchAll(/\bconsole\.log\(.*\); \/\/ (.*)$/gm)]
    .map(([, comment = ""]) => comment.trim())
    .filter((comment) => !comment.endsWith("…"));
}

/** The first of the expected texts that the output lacks, or has too early. */
export function missingOutput(expected: readonly string[], output: string): string | undefined {
  const printed = `, ${output.trimEnd().replaceAll("\n", ", ")}, `;
  let at = 0;
  return expected.find((text) => {
    const found = printed.indexOf(`, ${text}, `, at);
    // The separator that ends one text begins the next.
    at = found + text.length + 2;
    return found < 0;
  });
}
