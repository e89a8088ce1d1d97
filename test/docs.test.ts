/**
 * Documentation that is run: every block fenced as ts in README.md, docs/ and the doc comments is
 * a whole program that imports the package by name, ends by itself with exit code 0, and prints
 * what the comments behind its console.log lines say (see support/snippets.ts).
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { namespaceCommand } from "./support/namespace_command.ts";
import { testIf } from "./support/require.ts";
import {
  allSnippets,
  expectedOutput,
  firstProgram,
  missingOutput,
  snippetsOf,
} from "./support/snippets.ts";

const root = join(import.meta.dir, "..");
const PROGRAM_MS_MAX = 20_000;
const FIRST_PROGRAM_LINES_MAX = 15;

const snippets = allSnippets();
const programs = snippets
  .filter(({ language }) => language === "ts")
  .map((snippet) => ({ ...snippet, name: `${snippet.file}:${snippet.line}` }));

// A project as a reader would have it: the package and nothing else among its modules.
const project = mkdtempSync(join(tmpdir(), "bun-sockets-docs-"));
afterAll(() => rmSync(project, { recursive: true }));
mkdirSync(join(project, "node_modules"));
symlinkSync(root, join(project, "node_modules/bun-sockets"));
for (const { name, source } of programs) writeFileSync(pathOf(name), source);

function pathOf(name: string): string {
  return join(project, `${name.replace(/\W/g, "_")}.ts`);
}

// Programs that take a right, and whose packets are nobody else's: they run in a namespace of their own.
const PRIVILEGED = /"bun-sockets\/packet"|\b(Raw|Ping)Socket\b/;
const namespace = namespaceCommand();

function runProgram(path: string, prefix: readonly string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([...prefix, process.execPath, path], {
    cwd: project,
    timeout: PROGRAM_MS_MAX,
  });
  return { exitCode, output: stdout.toString(), errors: stderr.toString() };
}

describe("programs in the documentation", () => {
  test("are found", () => {
    expect(programs.length).toBeGreaterThan(5);
  });

  for (const { name, source } of programs) {
    const isPrivileged = PRIVILEGED.test(source);
    const missing = isPrivileged && namespace.missing ? "needs a namespace of its own" : undefined;
    testIf(missing)(
      `${name} runs, ends, and prints what it says`,
      () => {
        const prefix = isPrivileged ? namespace.command : [];
        const { exitCode, output, errors } = runProgram(pathOf(name), prefix);
        expect(exitCode, errors).toBe(0);
        expect(missingOutput(expectedOutput(source), output), output).toBeUndefined();
      },
      2 * PROGRAM_MS_MAX,
    );
  }

  test("compile under the strict flags of the checkout", () => {
    const base = join(root, "tsconfig.json");
    const config = {
      extends: base,
      compilerOptions: {
        // A block without an import is a module too, with names of its own.
        moduleDetection: "force",
        typeRoots: [join(root, "node_modules"), join(root, "node_modules/@types")],
      },
      include: ["*.ts"],
    };
    writeFileSync(join(project, "tsconfig.json"), JSON.stringify(config));
    writeFileSync(join(project, "package.json"), '{ "type": "module" }');
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    const { exitCode, stdout } = Bun.spawnSync([process.execPath, tsc, "-p", project]);
    expect(stdout.toString()).toBe("");
    expect(exitCode).toBe(0);
  });

  test("are all fenced as ts, so that none is left out", () => {
    const scripts = /^(?!ts$)(ts|tsx|typescript|js|mjs|jsx|javascript)\b/i;
    expect(snippets.filter(({ language }) => scripts.test(language))).toEqual([]);
  });

  test("begin in the README with one of at most 15 lines", () => {
    expect(existsSync(join(root, "README.md"))).toBe(true);
    const lines = firstProgram().trimEnd().split("\n");
    expect(lines.length).toBeLessThanOrEqual(FIRST_PROGRAM_LINES_MAX);
    expect(firstProgram()).toContain('from "bun-sockets"');
  });
});

describe("snippetsOf()", () => {
  test("reads Markdown", () => {
    const text = "# A\n\n```ts\na();\n\nb();\n```\n\n```sh\nls\n```\n";
    expect(snippetsOf("a.md", text)).toEqual([
      { file: "a.md", line: 3, language: "ts", source: "a();\n\nb();\n" },
      { file: "a.md", line: 9, language: "sh", source: "ls\n" },
    ]);
  });

  test("reads doc comments at any depth", () => {
    const text = "class A {\n  /**\n   * ```ts\n   * a();\n   *\n   *   b();\n   * ```\n   */\n";
    expect(snippetsOf("a.ts", text)).toEqual([
      { file: "a.ts", line: 3, language: "ts", source: "a();\n\n  b();\n" },
    ]);
  });
});

describe("expectedOutput()", () => {
  const source =
    "console.log(1); // 1\nconsole.log(now()); // a time …\nfor (const a of x) console.log(a); // b, c\n";

  test("reads the comments behind console.log, but those that end with an ellipsis", () => {
    expect(expectedOutput(source)).toEqual(["1", "b, c"]);
  });

  test.each([
    ["all is there", "1\n17\nb\nc\n", undefined],
    ["a line lacks", "1\nb\n", "b, c"],
    ["all lines lack", "", "1"],
    ["the order is another", "b\nc\n1\n", "b, c"],
    ["a line is longer", "10\nb\nc\n", "1"],
    ["the last line is longer", "1\nb\ncc\n", "b, c"],
  ])("is compared with whole lines in order: %s", (_, output, missing) => {
    expect(missingOutput(expectedOutput(source), output)).toBe(missing);
  });
});
