import { afterAll, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { readReport } from "./run.ts";

// A checkout of its own for each test: run() is the gate, so what it lets through is proved here.
const root = mkdtempSync(join(tmpdir(), "bun-sockets-gate-"));
afterAll(() => rmSync(root, { recursive: true }));
beforeEach(() => {
  rmSync(root, { recursive: true });
  mkdirSync(root);
});

const PASSES = 'import { test } from "bun:test"; test("passes", () => {});';

function gate(files: Record<string, string>, ...values: string[]) {
  for (const [name, source] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), source);
  }
  const program = `import { run } from ${JSON.stringify(join(import.meta.dir, "run.ts"))};
    process.exit(await run(${JSON.stringify(values)}, ${JSON.stringify(root)}));`;
  const { exitCode, stdout } = Bun.spawnSync([process.execPath, "-e", program], { cwd: root });
  const lines = stdout.toString().trimEnd().split("\n");
  return { exitCode, last: lines.at(-1), lines };
}

test("run() sums all parts and ends with the counts", () => {
  const { exitCode, last, lines } = gate({
    "test/unit/a.test.ts": PASSES,
    "test/fuzz/c.test.ts": PASSES,
    "test/privileged/b.test.ts": `import { test } from "bun:test";
      test("passes", () => {});
      test.skip("rings (skipped: needs <rights>)", () => {});`,
  });
  expect(lines[0]).toBe(`Bun ${Bun.version} ${process.execPath}`);
  expect(lines).toContain("  test/privileged/b.test.ts: rings (skipped: needs <rights>)");
  expect(last).toBe("3 passed, 0 failed");
  expect(exitCode).toBe(0);
});

test("run() runs only the files whose name contains an argument", () => {
  const failing = 'import { test } from "bun:test"; test("fails", () => { throw 1; });';
  const files = { "test/a.test.ts": PASSES, "test/b.test.ts": failing };
  expect(gate(files, "a.test")).toMatchObject({ exitCode: 0, last: "1 passed, 0 failed" });
  expect(gate(files, "a.test", "-t", "passes")).toMatchObject({ exitCode: 0 });
});

test.each([
  ["no test file at all", "", "0 passed, 0 failed"],
  ["a file without tests", "export {};", "0 passed, 1 failed"],
  [
    "a failing test",
    `${PASSES} test("fails", () => { throw new Error(); });`,
    "1 passed, 1 failed",
  ],
  ["an error while a file is loaded", `${PASSES} throw new Error();`, "0 passed, 1 failed"],
  [
    "an exit in the middle",
    `${PASSES} test("exits", () => process.exit(0));`,
    "0 passed, 1 failed",
  ],
  [
    "a crash",
    `${PASSES} test("dies", () => { process.kill(process.pid, "SIGSEGV"); while (true); });`,
    "0 passed, 1 failed",
  ],
])("run() fails on %s", (_, source, last) => {
  const result = gate(source === "" ? {} : { "test/a.test.ts": source });
  expect(result).toMatchObject({ last });
  expect(result.exitCode).not.toBe(0);
});

test("readReport() reads names with every character that XML escapes", () => {
  const report = `<testsuite><testcase name="a &lt;b&gt; &quot;c&quot; &amp;lt; &#10;" file="x">
    <skipped /></testcase><testcase name="/>" file="x" /></testsuite>`;
  expect(readReport(report)).toEqual({
    passed: 1,
    failed: 0,
    skipped: ['x: a <b> "c" &lt; \n'],
  });
});
