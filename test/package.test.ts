/**
 * What a user gets: the tarball of `npm pack`, installed into empty projects.
 *
 * It is packed from a copy of the checkout, because prepack builds the declaration files anew, and
 * a test writes nothing beside itself.
 *
 * @module
 */
import { afterAll, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { isBuiltin } from "node:module";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { EVERYBODY } from "../bench/cells.ts";
import { isInstalled } from "../bench/peers/suite_programs.ts";
import type { SuiteLine } from "../bench/results.ts";
import manifest from "../package.json" with { type: "json" };
import { pcapBytes } from "./support/pcap.ts";
import { requires, testIf } from "./support/require.ts";
import { firstProgram } from "./support/snippets.ts";

const root = join(import.meta.dir, "..");
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-package-"));
const TIMEOUT_MS = 60_000;
afterAll(() => rmSync(folder, { recursive: true }), TIMEOUT_MS);

// Half as much again as now: a stray file shows, a new class does not.
const TARBALL_BYTES_MAX = 920_000;

const missing = requires("npm", "tar");
const testIfNpm = testIf(missing);
const tarball = missing ? "" : pack();
const contents = missing ? [] : list(tarball);
const unpacked = missing ? "" : project("unpacked", { install: "npm" }).installed;

/** Packs a copy of the checkout, which then has also what must stay out of the tarball. */
function pack(): string {
  const copy = join(folder, "copy");
  const leftOut = [".git", "node_modules", "types"].map((name) => join(root, name));
  cpSync(root, copy, { recursive: true, filter: (source) => !leftOut.includes(source) });
  // Stale declaration files of a type that is gone must not be shipped.
  mkdirSync(join(copy, "types/lib"), { recursive: true });
  writeFileSync(join(copy, "types/lib/gone.d.ts"), "export {};\n");
  symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
  execute(copy, "npm", "pack", "--pack-destination", folder);
  return join(folder, `${manifest.name}-${manifest.version}.tgz`);
}

function list(archive: string): string[] {
  const names = execute(folder, "tar", "-tzf", archive).trim().split("\n");
  return names.map((name) => name.replace(/^package\//, "")).sort();
}

interface Project {
  readonly path: string;
  /** The folder of the installed package. */
  readonly installed: string;
}

/** Makes an empty project and installs the tarball into it, and nothing else: no registry is asked. */
function project(name: string, { install }: { readonly install: "npm" | "bun" }): Project {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, "package.json"), '{ "private": true, "type": "module" }\n');
  const nowhere = "--registry=http://127.0.0.1:9";
  if (install === "bun") execute(path, process.execPath, "add", tarball, nowhere);
  else execute(path, "npm", "install", tarball, "--offline", "--no-audit", "--no-fund");
  return { path, installed: join(path, "node_modules", manifest.name) };
}

/** Runs a command, and returns its output or throws with it. */
function execute(cwd: string, ...command: string[]): string {
  const env = { ...process.env, BUN_INSTALL_CACHE_DIR: join(folder, "cache") };
  const { exitCode, stdout, stderr } = Bun.spawnSync(command, { cwd, env, timeout: TIMEOUT_MS });
  if (exitCode === 0) return stdout.toString();
  throw new Error(`${command.join(" ")}: exit code ${exitCode}\n${stdout}${stderr}`);
}

describe("the tarball", () => {
  testIfNpm("has the sources, their declaration files, the command and the papers only", () => {
    const papers = ["CHANGELOG.md", "LICENSE", "README.md", "package.json"];
    expect(contents.filter((name) => !name.includes("/"))).toEqual(papers);
    const command = ["cli/bun-sockets", "cli/bun-sockets.js"];
    expect(contents.filter((name) => name.startsWith("cli/"))).toEqual(command);
    const code = contents.filter((name) => /^(?!(bench|cli)\/).*\//.test(name));
    expect(code.filter((name) => !/^(lib|structs)\/.*\.ts$|^types\/.*\.d\.ts$/.test(name))).toEqual(
      [],
    );
    const sources = code.filter((name) => !name.startsWith("types/"));
    expect(sources).toEqual([...new Bun.Glob("{lib,structs}/**").scanSync(root)].sort());
    const declarations = sources.map((name) => `types/${name.replace(/\.ts$/, ".d.ts")}`);
    expect(code.filter((name) => name.startsWith("types/"))).toEqual(declarations.sort());
  });

  testIfNpm("has the programs that the command `bench` starts, and what they import", () => {
    const inC = ["bench/peers/pinned.c", "bench/peers/suite_c.c"];
    const inBun = ["suite_bun_sockets.ts", "suite_bun_udp.ts", "suite_dgram.mjs"];
    const programs = new Set([...inC, "bench/peers/suite_python.py"]);
    for (const name of inBun) addWithImports(`bench/peers/${name}`, programs);
    expect(contents.filter((name) => name.startsWith("bench/"))).toEqual([...programs].sort());
  });

  testIfNpm(`has at most ${TARBALL_BYTES_MAX / 1000} kB`, () => {
    expect(statSync(tarball).size).toBeLessThan(TARBALL_BYTES_MAX);
  });

  testIfNpm("has nothing that publint would say, strictly", async () => {
    const bytes = new Uint8Array(readFileSync(tarball));
    const { messages, pkg } = await publint({ strict: true, pack: { tarball: bytes.buffer } });
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([]);
  });

  testIfNpm("has every file that its exports name, under types and then bun", () => {
    const { exports } = JSON.parse(readFileSync(join(unpacked, "package.json"), "utf8"));
    expect(exports).toEqual(manifest.exports);
    for (const conditions of Object.values<Record<string, string>>(manifest.exports)) {
      expect(Object.keys(conditions)).toEqual(["types", "bun"]);
      for (const path of Object.values(conditions)) {
        expect(existsSync(join(unpacked, path)), path).toBe(true);
      }
    }
  });

  testIfNpm("has declaration files without Bun's own types and without paths of a machine", () => {
    const declarations = contents.filter((name) => name.endsWith(".d.ts"));
    const wrong = declarations.filter((name) =>
      machineBound(readFileSync(join(unpacked, name), "utf8")),
    );
    expect(wrong).toEqual([]);
  });

  test.each([
    'import type { Pointer } from "bun:ffi";',
    "export declare const a: import('bun:ffi').Pointer;",
    '/// <reference types="bun-types" />',
    "export declare const server: Bun.Server;",
    "export declare function read(): Buffer;",
    'import { a } from "/srv/project/lib/a.ts";',
    `/** In ${root}. */`,
  ])("%j is found", (planted) => {
    expect(machineBound(planted)).toBe(true);
  });
});

/** Adds a file of the checkout, and those that it needs when it runs, by their paths. */
function addWithImports(file: string, to: Set<string>): void {
  if (to.has(file)) return;
  to.add(file);
  const loader = file.endsWith(".ts") ? "ts" : "js";
  const imports = new Bun.Transpiler({ loader }).scanImports(
    readFileSync(join(root, file), "utf8"),
  );
  for (const { path } of imports) {
    if (path.startsWith(".")) addWithImports(join(dirname(file), path), to);
    // What else there is, is in a project that has nothing else.
    else expect(isBuiltin(path) || path.startsWith(manifest.name), `${file}: ${path}`).toBe(true);
  }
}

/** Whether a declaration file needs types that its reader may not have, or names a path of ours. */
function machineBound(source: string): boolean {
  const code = source.replace(/\/\*.*?\*\//gs, "");
  return (
    /["'](bun|bun:\w+|bun-types|node|node:\w+)["']|\b(Bun|NodeJS)\.|\bBuffer\b|["']\//.test(code) ||
    source.includes(root) ||
    source.includes(homedir() === "/" ? root : `${homedir()}/`)
  );
}

// Every flag that can find fault with somebody else's declarations, or with their use.
const STRICT_FLAGS = {
  strict: true,
  allowUnreachableCode: false,
  allowUnusedLabels: false,
  erasableSyntaxOnly: true,
  exactOptionalPropertyTypes: true,
  forceConsistentCasingInFileNames: true,
  isolatedDeclarations: true,
  isolatedModules: true,
  noFallthroughCasesInSwitch: true,
  noImplicitOverride: true,
  noImplicitReturns: true,
  noPropertyAccessFromIndexSignature: true,
  noUncheckedIndexedAccess: true,
  noUncheckedSideEffectImports: true,
  noUnusedLocals: true,
  noUnusedParameters: true,
  skipDefaultLibCheck: false,
  skipLibCheck: false,
  verbatimModuleSyntax: true,
  declaration: true,
  noEmit: true,
  types: [],
};

const USE = `import {
  type Address,
  type BufferSize,
  DatagramBatch,
  type DatagramBatchOptions,
  Inet4Address,
  NativeBuffer,
  parseAddress,
  type ReceivedFrom,
  type Stopped,
  SystemError,
  TimeoutError,
  UdpSocket,
  type UdpSocketOptions,
  type WaitOptions,
} from "bun-sockets";
import { iovec, type Member, type Struct, struct, u16 } from "bun-sockets/structs";
import { AF_INET, errorName, recvmmsg, SOCK_DGRAM, socket } from "bun-sockets/sys";

export const socketOptions: UdpSocketOptions = { receiveBufferBytes: 1 << 20, reusePort: undefined };
export const batchOptions: DatagramBatchOptions = { capacity: 8 };
export const wait: WaitOptions = { timeoutMs: 5, flags: 0 };

export function echo(address: Inet4Address | string): number {
  using server = UdpSocket.bind(address, socketOptions);
  using batch = new DatagramBatch(batchOptions);
  try {
    server.receiveBatchSync(batch, wait);
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    const transferred: number | undefined = error.transferred;
    return transferred ?? 0;
  }
  const memory: Uint8Array<ArrayBuffer> = batch.memory;
  const sender: Address | undefined = batch.address(0);
  const stopped: Stopped | undefined = batch.stopped;
  const buffer: BufferSize = server.receiveBuffer;
  if (sender === undefined || stopped !== undefined || buffer.clamped) return memory.length;
  return server.trySendBatch(batch);
}

export function ask(server: UdpSocket, target: Uint8Array): ReceivedFrom | undefined {
  const peer: Address = parseAddress("127.0.0.1:9");
  const sent: number | undefined = server.trySendTo(target, peer.toString());
  return sent === undefined ? undefined : server.tryReceiveFrom(target);
}

export function raw(): string {
  const fd: number = socket(AF_INET, SOCK_DGRAM, 0);
  using memory = new NativeBuffer(iovec.size);
  const result: number = recvmmsg(fd, memory.address, 1, 0, null);
  const error: Error & { code: string } = new SystemError(result, "recvmmsg");
  return errorName(result) + error.code;
}

export const pair: Struct<{ left: typeof u16; right: typeof u16 }> = struct("pair", "pair.h", {
  left: u16,
  right: u16,
});
export const left: Member<number> = pair.left;
`;

// One file for each entry that asks for every public name, as test/api.txt lists them.
function everyName(entry: string): string {
  const sections = readFileSync(join(import.meta.dir, "api.txt"), "utf8").split("\n\n");
  const lines = sections.find((section) => section.startsWith(`${entry}\n`))?.split("\n") ?? [];
  const names = lines.slice(1).filter((name) => /^(type )?\w+$/.test(name));
  return `export { ${names.join(", ")} } from "${entry}";\n`;
}

describe("in a project without bun-types", () => {
  const entries = Object.keys(manifest.exports).map((key) => join(manifest.name, key));
  const files = missing ? "" : project("typed", { install: "npm" }).path;
  const modes = [
    ["nodenext", "nodenext", "esnext"],
    ["esnext", "bundler", "esnext"],
    ["preserve", "bundler", "esnext"],
    ["preserve", "bundler", "es2022"],
  ] as const;

  function compile(name: string, source: string, mode: readonly [string, string, string]): string {
    const [module, moduleResolution, target] = mode;
    const compilerOptions = { ...STRICT_FLAGS, module, moduleResolution, target, lib: [target] };
    writeFileSync(join(files, `${name}.ts`), source);
    const config = { compilerOptions, files: [`${name}.ts`] };
    writeFileSync(join(files, "tsconfig.json"), JSON.stringify(config));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    return Bun.spawnSync([process.execPath, tsc, "-p", "."], { cwd: files }).stdout.toString();
  }

  for (const mode of modes) {
    const [module, moduleResolution, target] = mode;
    const flags = `--module ${module} --moduleResolution ${moduleResolution} --target ${target}`;
    testIfNpm(`every strict flag of tsc is content with the use of it: ${flags}`, () => {
      expect(compile("use", USE, mode)).toBe("");
      for (const [index, entry] of entries.entries()) {
        expect(compile(`entry${index}`, everyName(entry), mode), entry).toBe("");
      }
    });
  }

  testIfNpm("tsc refuses wrong use: the types are not any", () => {
    const wrong = [
      "export const a: string = UdpSocket.bind(1);",
      'export const b = UdpSocket.bind("[::]:0", { no: 1 });',
      "export const c: number = new DatagramBatch().view(0);",
    ];
    const source = `import { DatagramBatch, UdpSocket } from "bun-sockets";\n${wrong.join("\n")}\n`;
    const errors = compile("wrong", source, modes[0]);
    for (const line of [2, 3, 4]) expect(errors).toContain(`wrong.ts(${line},`);
  });
});

describe("in a project of Bun", () => {
  testIfNpm(
    "the first program of the README runs as pasted",
    () => {
      const { path } = project("first", { install: "bun" });
      writeFileSync(join(path, "first.ts"), firstProgram());
      expect(execute(path, process.execPath, "first.ts")).not.toBe("");
    },
    TIMEOUT_MS,
  );

  testIfNpm(
    "every entry is imported, from the package itself",
    () => {
      const { path, installed } = project("imported", { install: "bun" });
      for (const key of Object.keys(manifest.exports)) {
        const entry = join(manifest.name, key);
        const program = `await import("${entry}"); console.log(import.meta.resolve("${entry}"));`;
        writeFileSync(join(path, "import.ts"), program);
        expect(execute(path, process.execPath, "import.ts")).toContain(installed);
      }
    },
    TIMEOUT_MS,
  );
});

describe("the command of the package", () => {
  const path = missing ? "" : project("command", { install: "npm" }).path;
  const link = join(path, "node_modules/.bin", manifest.name);
  const version = `${manifest.version}\n`;
  // What the start of the command needs, and no Bun.
  const tools = join(folder, "tools");
  mkdirSync(tools);
  for (const name of ["sh", "readlink", "node"]) {
    const tool = Bun.which(name);
    if (tool !== null) symlinkSync(tool, join(tools, name));
  }
  const bare = { PATH: tools, HOME: folder };
  // The file of a Bun that npm has installed has another name.
  const bins = join(folder, "bins");
  mkdirSync(bins);
  symlinkSync(process.execPath, join(bins, "bun"));
  const withBun = { ...bare, PATH: `${bins}:${tools}` };

  function run(command: readonly string[], env: Record<string, string>, cwd = folder) {
    const { exitCode, stdout, stderr } = Bun.spawnSync([...command], {
      cwd,
      env,
      timeout: TIMEOUT_MS,
    });
    return { exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
  }

  testIfNpm("is one file that imports the package and nothing else", () => {
    const bundle = readFileSync(join(unpacked, "cli/bun-sockets.js"), "utf8");
    const imports = new Bun.Transpiler({ loader: "js" }).scanImports(bundle);
    const others = imports.map((one) => one.path).filter((one) => !isBuiltin(one));
    expect(others.length).toBeGreaterThan(0);
    expect(others.filter((one) => !one.startsWith(manifest.name))).toEqual([]);
    expect(bundle).toContain(`commander ${manifest.devDependencies.commander}\n`);
    expect(bundle).toContain("Copyright (c)");
    expect(bundle).not.toContain(root);
    expect(bundle).not.toContain(folder);
  });

  testIfNpm("runs from node_modules/.bin, in a project that has nothing else", () => {
    expect(run([link, "--version"], withBun)).toEqual({ exitCode: 0, stdout: version, stderr: "" });
    const packages = [
      ...new Bun.Glob("*").scanSync({ cwd: join(path, "node_modules"), onlyFiles: false }),
    ];
    expect(packages).toEqual([manifest.name]);
  });

  testIfNpm("runs through bunx", () => {
    const { exitCode, stdout, stderr } = run(
      [process.execPath, "x", "--no-install", manifest.name, "--version"],
      withBun,
      path,
    );
    expect([exitCode, stdout], stderr).toEqual([0, version]);
  });

  testIfNpm("runs through npx", () => {
    const env = { ...withBun, PATH: `${withBun.PATH}:${process.env["PATH"]}` };
    const { exitCode, stdout, stderr } = run(
      ["npx", "--offline", "--no-install", manifest.name, "--version"],
      env,
      path,
    );
    expect([exitCode, stdout], stderr).toEqual([0, version]);
  });

  testIfNpm("runs alike in a folder that has settings for Bun", () => {
    const settings = join(folder, "settings");
    mkdirSync(settings);
    writeFileSync(join(settings, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
    const { exitCode, stdout, stderr } = run([link, "--version"], withBun, settings);
    expect([exitCode, stdout], stderr).toEqual([0, version]);
  });

  testIfNpm("uses the library of the package that it is in", () => {
    const capture = join(folder, "frame.pcap");
    const bytes = Buffer.from("ffffffffffff02000000000188b500", "hex");
    writeFileSync(capture, pcapBytes([{ time: 1n, bytes }]));
    const { exitCode, stdout, stderr } = run([link, "dump", "-r", capture, "--json"], withBun);
    expect(exitCode, stderr).toBe(0);
    const [packet, summary] = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(packet).toMatchObject({ protocol: "0x88b5", source: "02:00:00:00:00:01", length: 15 });
    expect(summary).toEqual({ type: "summary", captured: 1, read: 1 });
  });

  testIf(missing ?? requires("git"))(
    "measures with the programs of the package, in a project that has nothing else",
    () => {
      // Whatever is installed here: all that the suite can be without.
      const env = { ...withBun, PATH: `${withBun.PATH}:${process.env["PATH"]}` };
      const values = [
        "udp4/64/sendmmsg-recvmmsg",
        "unix/64",
        "--rounds",
        "1",
        "--round-ms",
        "5",
        "--json",
      ];
      const settings = join(folder, "bench_settings");
      mkdirSync(settings);
      writeFileSync(join(settings, "bunfig.toml"), 'preload = ["./missing.ts"]\n');
      execute(path, "git", "init", "--quiet");
      const who = ["-c", "user.name=A", "-c", "user.email=a@example.com"];
      execute(path, "git", ...who, "commit", "--quiet", "--allow-empty", "--message", "Theirs");
      const { exitCode, stdout, stderr } = run([link, "bench", ...values], env, settings);
      expect(exitCode, stderr).toBe(0);
      const [first, ...lines] = stdout
        .trimEnd()
        .split("\n")
        .map((line): SuiteLine => JSON.parse(line));
      // The checkout that the project is in is not this library's.
      expect(first).toMatchObject({ kind: "environment", commit: null });
      const peers = lines.map((line) => (line.kind === "result" ? line.peer : ""));
      const installed = EVERYBODY.filter((peer) => peer !== "deno" && isInstalled(peer));
      const found = EVERYBODY.filter((peer) => peer !== "deno" && peers.includes(peer));
      expect(found).toEqual(installed);
      const own = lines.filter((line) => line.kind === "result" && line.peer === "bun-sockets");
      expect(own).toHaveLength(2);
    },
    TIMEOUT_MS,
  );

  testIfNpm("without Bun says what to install", () => {
    const { exitCode, stdout, stderr } = run([link, "--version"], bare);
    expect([exitCode, stdout]).toEqual([1, ""]);
    const [what, hint, ...rest] = stderr.trimEnd().split("\n");
    expect(what).toStartWith("bun-sockets: Bun is missing");
    expect(hint).toStartWith("hint: npm install --global bun");
    expect(rest).toEqual([]);
  });

  testIfNpm("finds the Bun that npm has put beside it, and the one in a home", () => {
    const beside = join(path, "node_modules/.bin/bun");
    symlinkSync(process.execPath, beside);
    expect(run([link, "--version"], bare).stdout).toBe(version);
    rmSync(beside);
    expect(run([link, "--version"], bare).exitCode).toBe(1);
    const home = join(folder, "home");
    mkdirSync(join(home, ".bun/bin"), { recursive: true });
    symlinkSync(process.execPath, join(home, ".bun/bin/bun"));
    expect(run([link, "--version"], { ...bare, HOME: home }).stdout).toBe(version);
  });
});
