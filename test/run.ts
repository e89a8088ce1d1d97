/**
 * What `npm test` runs: every test file. First the fuzz, beside those of test/privileged and then
 * those that only compute; then all that talk and measure, alone; then the loopback tests once more.
 * The privileged ones have a user and network namespace of their own, and so has the fuzz. Arguments
 * are parts of file names; from the first one with a dash on, they go to `bun test`.
 * The last line is `N passed, N failed`, and the exit code says the same.
 *
 * The counts come from the JUnit files of `bun test`. A run that leaves none has crashed, or a test
 * has called process.exit(0), which Bun itself takes for success.
 *
 * @module
 */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: readonly string[];
}

const ROOT_USER = 0;
// A call through the FFI that never returns also stops Bun's own timer for the test.
const PART_MS_MAX = 19 * 60_000;
const TEST_MS_MAX = 60_000;

/** Runs the tests of a checkout and returns the exit code. */
export async function run(values: readonly string[], root: string): Promise<number> {
  console.log(`Bun ${Bun.version} ${process.execPath}`);
  const dash = values.findIndex((value) => value.startsWith("-"));
  const filters = dash < 0 ? values : values.slice(0, dash);
  const options = dash < 0 ? [] : values.slice(dash);
  const files = [...new Bun.Glob("test/**/*.test.ts").scanSync(root)]
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)))
    .sort()
    .map((file) => `./${file}`);
  const isIn = (folder: string) => (file: string) => file.startsWith(`./test/${folder}/`);
  const fuzz = files.filter((file) => file.endsWith("/fuzz.test.ts"));
  const again = files.filter(isIn("fuzz")).filter((file) => !fuzz.includes(file));
  const privileged = files.filter(isIn("privileged"));
  const computing = ["unit", "structs", "reference"].flatMap((name) => files.filter(isIn(name)));
  const apart = new Set([...fuzz, ...again, ...privileged, ...computing]);
  const others = files.filter((file) => !apart.has(file));
  const { command, env } = enterNamespace();
  const besideFuzz = async () => [
    await runPart({ root, files: privileged, options, command, env }),
    await runPart({ root, files: computing, options }),
  ];
  const fuzzing = runPart({ root, files: fuzz, options, command, isQuiet: true });
  const parts = [
    ...(await Promise.all([fuzzing, besideFuzz()])).flat(),
    await runPart({ root, files: others, options }),
    await runPart({ root, files: again, options }),
  ];

  const passed = parts.reduce((sum, part) => sum + part.passed, 0);
  const failed = parts.reduce((sum, part) => sum + part.failed, 0);
  const skipped = parts.flatMap((part) => part.skipped);
  if (skipped.length > 0) console.log(`\n${skipped.length} skipped:`);
  for (const name of skipped) console.log(`  ${name}`);
  if (passed + failed === 0) console.log("\nNo test ran.");
  console.log(`\n${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

// As root a network namespace is enough; a user namespace would take rights over files away. Where
// neither is allowed, the files run outside, and skip themselves or fail as REQUIRE_ALL says.
function enterNamespace(): { command: readonly string[]; env: Record<string, string> } {
  const flags = process.getuid?.() === ROOT_USER ? "-n" : "-rn";
  const command = ["unshare", flags, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"];
  try {
    const { success, stderr } = Bun.spawnSync([...command, "true"], { stdin: "ignore" });
    if (success) return { command, env: { BUN_SOCKETS_NAMESPACE: "1" } };
    console.log(`No namespace of its own for test/privileged: ${stderr.toString().trim()}`);
  } catch (error) {
    console.log(`No namespace of its own for test/privileged: ${(error as Error).message}`);
  }
  return { command: [], env: {} };
}

interface Part {
  readonly root: string;
  readonly files: readonly string[];
  /** For `bun test`. */
  readonly options: readonly string[];
  /** What stands before the command. */
  readonly command?: readonly string[];
  readonly env?: Record<string, string>;
  /** Whether it says nothing before it has ended: another one speaks meanwhile. */
  readonly isQuiet?: boolean;
}

async function runPart(part: Part): Promise<Counts> {
  const { root, files, options, command = [], env = {}, isQuiet = false } = part;
  if (files.length === 0) return { passed: 0, failed: 0, skipped: [] };
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-run-"));
  const report = join(folder, "junit.xml");
  const output = join(folder, "output");
  try {
    const target = isQuiet ? openSync(output, "a") : "inherit";
    const child = Bun.spawn(
      [
        ...command,
        process.execPath,
        "test",
        `--timeout=${TEST_MS_MAX}`,
        // With a name filter one part may well be empty. The sum of all may not.
        "--pass-with-no-tests",
        "--reporter=junit",
        `--reporter-outfile=${report}`,
        ...files,
        ...options,
      ],
      {
        cwd: root,
        // Whoever relies on the contents of an old batch, or forgets a socket, is to find out here.
        env: { ...process.env, ...env, BUN_SOCKETS_DEBUG: "1", BUN_SOCKETS_LEAKS: "1" },
        stdio: ["ignore", target, target],
        timeout: PART_MS_MAX,
        killSignal: "SIGKILL",
      },
    );
    await child.exited;
    if (typeof target === "number") closeSync(target);
    if (isQuiet) await Bun.write(Bun.stdout, Bun.file(output));
    const { exitCode, signalCode } = child;
    const counts = existsSync(report) ? readReport(readFileSync(report, "utf8")) : undefined;
    if (counts && (exitCode === 0 || counts.failed > 0)) return counts;
    const why = signalCode ?? `exit code ${exitCode}`;
    console.log(`\nbun test ran no test, ended early, or met an error outside of tests: ${why}`);
    return { passed: counts?.passed ?? 0, failed: 1, skipped: counts?.skipped ?? [] };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Counts the test cases of a JUnit file as Bun writes it. */
export function readReport(xml: string): Counts {
  const skipped: string[] = [];
  let passed = 0;
  let failed = 0;
  const cases = /<testcase((?:\s+[\w-]+="[^"]*")*)\s*(?:\/>|>(.*?)<\/testcase>)/gs;
  for (const [, attributes = "", body = ""] of xml.matchAll(cases)) {
    if (/<(failure|error)\b/.test(body)) failed++;
    else if (!/<skipped\b/.test(body)) passed++;
    else skipped.push(`${attribute(attributes, "file")}: ${attribute(attributes, "name")}`);
  }
  return { passed, failed, skipped };
}

const ENTITIES: Readonly<Record<string, string>> = { lt: "<", gt: ">", quot: '"', apos: "'" };

function attribute(attributes: string, name: string): string {
  const value = new RegExp(`\\s${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value
    .replace(/&(lt|gt|quot|apos);/g, (_, entity: string) => ENTITIES[entity] as string)
    .replace(/&#(\d+);/g, (_, code: string) => String.fromCodePoint(Number(code)))
    .replaceAll("&amp;", "&");
}

if (import.meta.main) process.exit(await run(process.argv.slice(2), join(import.meta.dir, "..")));
