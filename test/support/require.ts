/**
 * The house rule about skips: a test that needs what this machine does not have says so in its
 * name, and with REQUIRE_ALL=1 in the environment (as in CI) it fails instead of being skipped.
 *
 * ```ts
 * const compiled = testIf(requires("gcc"));
 * compiled("struct layouts agree with gcc", () => { … });
 * // struct layouts agree with gcc (skipped: needs gcc)
 * ```
 *
 * @module
 */
import { test } from "bun:test";

/** Why a test cannot run here, as it stands in its name: "needs gcc". Undefined when it can. */
export type Missing = string | undefined;

/** Registers one test, as bun:test's `test` does. */
export type Register = (name: string, body: () => unknown, timeoutMs?: number) => void;

/** Tells which of the commands is not on PATH, or undefined when all are. */
export function requires(...commands: readonly string[]): Missing {
  const absent = commands.filter((command) => Bun.which(command) === null);
  return absent.length === 0 ? undefined : `needs ${absent.join(" and ")}`;
}

/**
 * Returns what stands for `test` under a condition: `test` itself when nothing is missing; else a
 * form that skips with the reason in the name, or fails with it under REQUIRE_ALL=1.
 */
export function testIf(missing: Missing): Register {
  return (name, body, timeoutMs) => {
    const run = async () => {
      await body();
    };
    if (missing === undefined) test(name, run, timeoutMs);
    else if (process.env["REQUIRE_ALL"] === "1") test(name, () => refuse(missing));
    else test.skip(`${name} (skipped: ${missing})`, run);
  };
}

/** Throws what is missing: REQUIRE_ALL=1 turns a skip into a failure. */
export function refuse(missing: string): never {
  throw new Error(`REQUIRE_ALL=1 lets no test be skipped, and this one ${missing}`);
}
