/**
 * Whether the rows of a reference notice anything: each adapter is broken in several ways, one at a
 * time, and the rows listed beside the fault have to fail.
 *
 * Each reference has its sound adapter, its faults and their rows in support/*_adapter.ts. The rows
 * themselves run in a child, which is told by its environment which fault to have.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chapelVariants } from "./support/chapel_adapter.ts";
import { fomentVariants } from "./support/foment_adapter.ts";
import { guileVariants } from "./support/guile_adapter.ts";
import { pureVariants } from "./support/pure_adapter.ts";
import { VARIANT } from "./support/rows.ts";

const ROOT = join(import.meta.dir, "../..");
const CHILD_MS_MAX = 50_000;

type Faults = Readonly<Record<string, { readonly rows: readonly string[] }>>;

const DOCUMENTS: Readonly<Record<string, Faults>> = {
  pure: pureVariants,
  chapel: chapelVariants,
  foment: fomentVariants,
  guile: guileVariants,
};

/** Runs some rows of a document, sound or broken; gives the names of those that pass and fail. */
async function runRows(document: string, rows: readonly string[], variant: string) {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-broken-"));
  const report = join(folder, "junit.xml");
  try {
    const child = Bun.spawn(
      [
        process.execPath,
        "test",
        "--reporter=junit",
        `--reporter-outfile=${report}`,
        `./test/reference/${document}.test.ts`,
        `--test-name-pattern=(${rows.join("|")}): `,
      ],
      {
        cwd: ROOT,
        env: { ...process.env, [VARIANT]: variant },
        stdio: ["ignore", "ignore", "ignore"],
        timeout: CHILD_MS_MAX,
        killSignal: "SIGKILL",
      },
    );
    await child.exited;
    return readCases(readFileSync(report, "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function readCases(xml: string): { passed: string[]; failed: string[] } {
  const passed: string[] = [];
  const failed: string[] = [];
  const cases = /<testcase((?:\s+[\w-]+="[^"]*")*)\s*(?:\/>|>(.*?)<\/testcase>)/gs;
  for (const [, attributes = "", body = ""] of xml.matchAll(cases)) {
    const [, name = ""] = /\sname="(\w+-\d+):/.exec(attributes) ?? [];
    if (/<skipped\b/.test(body)) continue;
    (/<(failure|error)\b/.test(body) ? failed : passed).push(name);
  }
  return { passed, failed };
}

describe.each(Object.entries(DOCUMENTS))("%s", (document, variants) => {
  const faults = Object.entries(variants);

  test("can be broken in more than one way", () => {
    expect(faults.length).toBeGreaterThanOrEqual(4);
    for (const [, { rows }] of faults) expect(rows).not.toEqual([]);
  });

  for (const [fault, { rows }] of faults) {
    test(`${fault}: fails in ${rows.join(", ")}`, async () => {
      const { passed, failed } = await runRows(document, rows, `${document}: ${fault}`);
      expect({ passed, failed }).toEqual({ passed: [], failed: [...rows] });
    });
  }
});
