/**
 * The rules of CONTRIBUTING.md that neither the compiler nor the linter knows. Each rule is a
 * function from source text to complaints, so that planted text shows that it finds what it should.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { lstatSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import manifest from "../package.json" with { type: "json" };
import { requires, testIf } from "./support/require.ts";

const root = join(import.meta.dir, "..");
const read = (file: string): string => readFileSync(join(root, file), "utf8");
const sources = [...new Bun.Glob("{lib,structs,cli,examples,bench,test}/**/*.ts").scanSync(root)]
  .sort()
  .map((file) => ({ file, source: read(file) }));
const library = sources.filter(({ file }) => /^(lib|structs)\//.test(file));

// The first row whose pattern matches a file says what the file may import: a path from the root
// of the checkout, or the name of a package. Tests and benches import what they like.
const ARROWS: readonly (readonly [from: RegExp, to: RegExp])[] = [
  [/^structs\//, /^structs\//],
  [/^lib\/ffi\//, /^(lib\/ffi|structs)\/|^bun:ffi$/],
  [/^lib\/sys\//, /^(lib\/(sys|ffi)|structs)\//],
  // The entry for packets stands on the main one, and that never on it.
  [
    /^lib\/packet\//,
    /^lib\/(?!index)\w+\.ts$|^lib\/ffi\/(memory|libpcap)\.ts$|^(lib\/(packet\/(?!index)|internal|sys)|structs)\/?/,
  ],
  [
    /^lib\//,
    /^lib\/(?!index)\w+\.ts$|^lib\/ffi\/(memory|helper_thread|lookup_thread|thread_end)\.ts$|^(lib\/(internal|sys)|structs)\//,
  ],
  // What the command imports besides is bundled when packing. `bench` runs the suite, so that comes too;
  // the suite's peers are programs that it starts, and the package has them as files.
  [
    /^cli\//,
    /^cli\/|^bench\/(cells|suite_\w+)\.ts$|^package\.json$|^commander$|^bun-sockets(\/\w+)?$|^node:|^bun$|^bun:(?!ffi$)/,
  ],
  [/^examples\//, /^bun-sockets(\/\w+)?$|^node:|^bun$|^bun:(?!ffi$)/],
];

// `import type` and `export type` leave nothing behind at run time, so they are free. So are Node's
// own modules fetched when they are needed.
const IMPORTS =
  /^(?:import|export)\s+(?!type\b)(?:[\w*{][^;"]*?\bfrom\s+)?"([^"]+)"|(?<!typeof )\b(?:import|require)\("([^"]+)"|\bgetBuiltinModule\("(bun:[^"]+)"/gm;

function wrongArrows(file: string, source: string): string[] {
  const allowed = ARROWS.find(([from]) => from.test(file))?.[1];
  if (!allowed) return [];
  return [...source.matchAll(IMPORTS)]
    .map(([, ...specifiers]) => specifiers.find(Boolean) ?? "")
    .map((name) => (name.startsWith(".") ? join(dirname(file), name) : name))
    .filter((target) => !allowed.test(target))
    .map((target) => `${file} imports ${target}`);
}

describe("arrows", () => {
  test("no file imports from above, nor past its neighbours", () => {
    expect(sources.length).toBeGreaterThan(40);
    expect(sources.flatMap(({ file, source }) => wrongArrows(file, source))).toEqual([]);
  });

  test.each([
    ["structs/iovec.ts", 'import { check } from "../lib/error.ts";'],
    ["structs/iovec.ts", 'import { ptr } from "bun:ffi";'],
    ["structs/constants/poll.ts", 'import "node:os";'],
    ["lib/ffi/memory.ts", 'import { check } from "../error.ts";'],
    ["lib/ffi/memory.ts", 'import { poll } from "../sys/poll.ts";'],
    ["lib/sys/socket.ts", 'import {\n  a,\n  type B,\n} from "../internal/arguments.ts";'],
    ["lib/sys/socket.ts", 'export * from "../error.ts";'],
    ["lib/sys/socket.ts", 'import { dlopen } from "bun:ffi";'],
    ["lib/error.ts", 'import { libc } from "./ffi/libc.ts";'],
    ["lib/error.ts", 'import { dlopen } from "bun:ffi";'],
    ["lib/error.ts", 'import { SystemError } from "./index.ts";'],
    ["lib/error.ts", 'export { requireSupported } from "./ffi/platform.ts";'],
    ["lib/error.ts", 'import { inspect } from "node:util";'],
    ["lib/internal/deadline.ts", 'import * as ffi from "../ffi/libc.ts";'],
    ["lib/internal/deadline.ts", 'const { libc } = await import("../ffi/libc.ts");'],
    ["lib/internal/deadline.ts", 'process.getBuiltinModule("bun:ffi").dlopen("libc.so.6", {});'],
    ["lib/internal/deadline.ts", 'const table = require("some-package");'],
    ["lib/socket.ts", 'import { PacketRing } from "./packet/packet_ring.ts";'],
    ["lib/packet/packet_ring.ts", 'import { dlopen } from "bun:ffi";'],
    ["lib/packet/packet_ring.ts", 'import { PacketSocket } from "./index.ts";'],
    ["lib/packet/packet_ring.ts", 'import { UdpSocket } from "../index.ts";'],
    ["lib/packet/packet_ring.ts", 'import { libc } from "../ffi/libc.ts";'],
    ["examples/echo.ts", 'import { UdpSocket } from "../lib/index.ts";'],
    ["examples/echo.ts", 'import { dlopen } from "bun:ffi";'],
    ["examples/echo.ts", 'import fc from "fast-check";'],
    ["cli/main.ts", 'import { libc } from "../lib/ffi/libc.ts";'],
    ["cli/main.ts", 'import { UdpSocket } from "../lib/index.ts";'],
    ["cli/main.ts", 'import fc from "fast-check";'],
    ["cli/bench.ts", 'import { startProgress } from "../bench/support.ts";'],
    ["cli/bench.ts", 'await import("../bench/peers/suite_programs.ts");'],
  ])("in %s this is found: %j", (file, source) => {
    expect(wrongArrows(file, source)).toHaveLength(1);
  });

  test.each([
    ["structs/iovec.ts", 'import { usize } from "./layout.ts";'],
    ["lib/ffi/libc.ts", 'import { dlopen } from "bun:ffi";'],
    ["lib/sys/poll.ts", 'import { libc } from "../ffi/libc.ts";'],
    ["lib/error.ts", 'import type { Libc } from "./ffi/libc.ts";'],
    ["lib/error.ts", 'export type { Memory } from "./ffi/libc.ts";'],
    ["lib/error.ts", 'type FFI = typeof import("bun:ffi");'],
    ["lib/error.ts", 'process.getBuiltinModule("node:util");'],
    ["lib/error.ts", ' * import { inspect } from "node:util";'],
    ["lib/native_buffer.ts", 'import { mapMemory } from "./ffi/memory.ts";'],
    ["lib/internal/thread_ringer.ts", 'import { start } from "../ffi/helper_thread.ts";'],
    ["lib/internal/deadline.ts", 'import { check } from "../error.ts";'],
    ["lib/packet/packet_ring.ts", 'import { Socket } from "../socket.ts";'],
    ["lib/packet/internal/a.ts", 'import { mapDescriptor } from "../../ffi/memory.ts";'],
    ["lib/packet/headers/udp.ts", 'import { udphdr } from "../../../structs/udphdr.ts";'],
    ["examples/echo.ts", 'import { bind } from "bun-sockets/sys";\nimport { $ } from "bun";'],
    ["cli/main.ts", 'import { Command } from "commander";\nimport { dump } from "./dump.ts";'],
    ["cli/bench.ts", 'await import("../bench/suite_run.ts");'],
    ["test/tidy.test.ts", 'import { cc } from "bun:ffi";'],
  ])("in %s this is allowed: %j", (file, source) => {
    expect(wrongArrows(file, source)).toEqual([]);
  });
});

// An export that declares something, and a member of a class at the formatter's indentation.
const EXPORT =
  /^export (?:abstract |async |declare )*(?:class|const|function|interface|let|type) (?!\{)/;
const MEMBER =
  /^ {2}(?!constructor|override |private )(?:abstract |async |declare |readonly |static )*(?:[gs]et (?=\S))?[*]?(?:\[?[A-Za-z][\w.]*\]?)[?]?(?:[(:;<]| =)/;

/** Lists the declarations that have no doc comment above them. */
function undocumented(file: string, source: string, declaration: RegExp): string[] {
  const lines = source.split("\n");
  return lines.flatMap((line, i) => {
    if (!declaration.test(line)) return [];
    const above = lines.slice(0, i);
    // A setter shares the comment of its getter, and an overload that of the first signature.
    const name = /^(?:export function |\s*set |\s+(?:static )?)(\w+)\(/.exec(line)?.[1];
    const shared = new RegExp(`^(?:export function |\\s*get |\\s+(?:static )?)${name}\\(`);
    if (name && above.some((other) => shared.test(other))) return [];
    const start = above.findLastIndex((other) => other.trimStart().startsWith("/**"));
    const comment = above.slice(start).join("\n");
    const isDoc = start >= 0 && comment.indexOf("*/") === comment.length - 2;
    return isDoc && !comment.includes("@module") ? [] : [`${file}:${i + 1} ${line.trim()}`];
  });
}

/** The bodies of the classes that a file exports. */
function publicClasses(source: string): string {
  const classes = source.matchAll(/^export (?:abstract )?class .*?^\}/gms);
  return [...classes].map(([text]) => text.slice(text.indexOf("{\n"))).join("\n");
}

describe("doc comments", () => {
  test("every export of lib and structs has one", () => {
    const files = library.filter(({ file }) => !file.startsWith("structs/constants/"));
    expect(files.flatMap(({ file, source }) => undocumented(file, source, EXPORT))).toEqual([]);
  });

  test("every public method, getter and field of a class has one", () => {
    const files = library.filter(({ file }) => /^lib\/(packet\/(headers\/)?)?\w+\.ts$/.test(file));
    const bodies = files.map(({ file, source }) => [file, publicClasses(source)] as const);
    expect(bodies.join("").match(new RegExp(MEMBER, "gm"))?.length).toBeGreaterThan(50);
    expect(bodies.flatMap(([file, body]) => undocumented(file, body, MEMBER))).toEqual([]);
  });

  test.each([
    "export const a = 1;",
    "/** Not this. */\nconst b = 1;\nexport const a = 1;",
    "/** Of the file. @module */\nexport async function f() {}",
    "// Says nothing to a tool.\nexport interface A {}",
    "/** Over a gap. */\n\nexport type A = 1;",
    "/** Documented. */\nexport const b = 1;\nexport abstract class A {}",
  ])("%j is found", (source) => {
    expect(undocumented("planted.ts", source, EXPORT)).toHaveLength(1);
  });

  test.each([
    "  send(data: string): number {",
    "  static open(): A {",
    "  async receive() {",
    "  get stopped(): Stopped {",
    "  set only(value: number) {",
    "  readonly capacity: number;",
    "  declare readonly port?: number;",
    "  [Symbol.dispose](): void {",
    "  *slots() {",
  ])("%j without a comment is found", (line) => {
    const body = publicClasses(`export class A {\n  #fd = 0;\n\n${line}\n  }\n}\n`);
    expect(undocumented("planted.ts", body, MEMBER)).toHaveLength(1);
  });

  test("private members, setters beside getters and overloads need none of their own", () => {
    const body = `{
  #fd = 0;
  private constructor() {}
  static {
    x();
  }
  override name = "A";
  /** Both. */
  get count(): number {
    return 1;
  }

  set count(value) {}
`;
    expect(undocumented("planted.ts", body, MEMBER)).toEqual([]);
    const overloads = "/** Both. */\nexport function f(a: 1): 1;\nexport function f(a: 2): 2;";
    expect(undocumented("planted.ts", overloads, EXPORT)).toEqual([]);
    const methods = "{\n  /** Both. */\n  f(a: 1): 1;\n  f(a: 2): 2;\n";
    expect(undocumented("planted.ts", methods, MEMBER)).toEqual([]);
  });
});

/** The code of a file: comments and the contents of strings are taken out, line ends kept. */
function codeOf(source: string): string {
  const tokens =
    /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`|\/\*.*?\*\/|\/\/[^\n]*/gs;
  return source.replace(tokens, (token) => token.replace(/[^\n]/g, " "));
}

interface Leftover {
  readonly what: string;
  readonly where: RegExp;
  readonly pattern: RegExp;
  readonly of: (source: string) => string;
  readonly except?: RegExp;
  readonly planted: string;
}

const LEFTOVERS: readonly Leftover[] = [
  {
    what: "a reminder that belongs into an issue",
    where: /./,
    pattern: /\b(TODO|FIXME|XXX)\b/,
    of: (source) => source,
    except: /^test\/tidy\.test\.ts$/,
    planted: "const a = 1; // TODO: later",
  },
  {
    what: "output of a library",
    where: /^(lib|structs)\//,
    pattern: /\bconsole\s*\./,
    of: codeOf,
    planted: "  console.log(count);",
  },
  {
    what: "the type any",
    where: /./,
    pattern: /(?<![.#\w])any\b(?!\s*[(:.])/,
    of: codeOf,
    // Said and explained there: a constraint that must accept kinds of every value type.
    except: /^structs\/layout\.ts$/,
    planted: "const rows = new Map<string, any>();",
  },
  {
    what: "a default export",
    where: /./,
    pattern: /^export (default\b|\{[^}]*\bas default\b)/m,
    of: codeOf,
    planted: "export default 1;",
  },
];

describe("leftovers", () => {
  test.each(LEFTOVERS)("nowhere is $what", ({ where, pattern, of, except }) => {
    const found = sources.filter(
      ({ file, source }) => where.test(file) && !except?.test(file) && pattern.test(of(source)),
    );
    expect(found.map(({ file }) => file)).toEqual([]);
  });

  test.each(LEFTOVERS)("$what is found", ({ pattern, of, planted }) => {
    expect(pattern.test(of(`// First line.\n${planted}\n`))).toBe(true);
  });

  test("the type any stands once, where its reason stands", () => {
    expect(codeOf(read("structs/layout.ts")).match(/\bany\b/g)).toHaveLength(1);
  });
});

/** What is wrong with the dependencies of a package. */
function looseDependencies(packageJson: {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
}): string[] {
  const { dependencies = {}, devDependencies = {} } = packageJson;
  const loose = Object.entries(devDependencies).filter(
    ([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version),
  );
  return [...Object.keys(dependencies), ...loose.map(([name]) => name)];
}

describe("package.json", () => {
  test("has no dependencies at run time, and pins those of development exactly", () => {
    expect(looseDependencies(manifest)).toEqual([]);
  });

  test.each([
    [{ dependencies: { tslib: "2.8.1" } }],
    [{ devDependencies: { bun: "^1.4.5" } }],
    [{ devDependencies: { bun: "~1.4.5" } }],
    [{ devDependencies: { bun: "latest" } }],
    [{ devDependencies: { bun: ">=1.4.5" } }],
    [{ devDependencies: { bun: "1.4" } }],
  ])("%j is found", (planted) => {
    expect(looseDependencies(planted)).toHaveLength(1);
  });
});

const FILE_BYTES_MAX = 1_000_000;

function misfit(bytes: Uint8Array): string | undefined {
  if (bytes.length > FILE_BYTES_MAX) return "too large";
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    return text.includes("\0") ? "not text" : undefined;
  } catch {
    return "not text";
  }
}

describe("files in git", () => {
  testIf(requires("git"))("are small and text", () => {
    // The owner of the checkout may be another user than the one who tests.
    const git = ["git", "-c", "safe.directory=*", "ls-files", "-z"];
    const { stdout, stderr, success } = Bun.spawnSync(git, { cwd: root });
    expect(success, stderr.toString()).toBe(true);
    const files = stdout.toString().split("\0").filter(Boolean);
    expect(files).toContain("package.json");
    // A file that was deleted and not committed yet is still listed.
    const found = files
      .filter((file) => lstatSync(join(root, file), { throwIfNoEntry: false })?.isFile())
      .map((file) => [file, misfit(readFileSync(join(root, file)))])
      .filter(([, reason]) => reason);
    expect(found).toEqual([]);
  });

  test.each([
    ["too large", new Uint8Array(FILE_BYTES_MAX + 1).fill(0x61)],
    ["not text", new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 0, 0])],
    ["not text", new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0xff])],
  ])("a file that is %s is found", (reason, bytes) => {
    expect(misfit(bytes)).toBe(reason);
  });
});
