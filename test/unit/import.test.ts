/**
 * What importing the main entry loads, and what it leaves for the first call that needs it.
 *
 * `bun bench/import.ts` measures what it costs: each module some 60 µs, each KB of it some 30.
 *
 * @module
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const root = join(import.meta.dir, "../..");

// A module more has to be worth what every program that imports the package pays for it.
const MODULES_MAX = 90;

// What is required somewhere, and exported by the main entry too: required because two modules need
// each other, or for a name that few use.
const PUBLIC = ["lib/control.ts", "lib/resolve.ts", "lib/tcp_listener.ts"];

/** The modules of the package that are there after `program`, in a process of their own. */
function loadedBy(program: string): string[] {
  const script = `${program}; console.log(JSON.stringify(Object.keys(require.cache)));`;
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script], {
    cwd: root,
  });
  expect(exitCode, stderr.toString()).toBe(0);
  const paths = (JSON.parse(stdout.toString()) as string[]).map((path) => relative(root, path));
  return paths.filter((path) => /^(lib|structs)\//.test(path)).sort();
}

/** The modules that others load when they are needed, by `require`. */
function loadedLater(): string[] {
  const found = [...new Bun.Glob("lib/**/*.ts").scanSync(root)].flatMap((path) =>
    [...readFileSync(join(root, path), "utf8").matchAll(/\brequire\("(\.[^"]+)"\)/g)].map(
      ([, name = ""]) => join(dirname(path), name),
    ),
  );
  return [...new Set(found)].filter((path) => path !== "lib/internal/x.ts").sort();
}

test(`importing the main entry loads at most ${MODULES_MAX} modules`, () => {
  const loaded = loadedBy('import "bun-sockets"');
  expect(loaded).toContain("lib/index.ts");
  expect(loaded.length).toBeLessThanOrEqual(MODULES_MAX);
});

test("importing the main entry loads nothing that is required when it is needed", () => {
  const later = loadedLater();
  expect(later.length).toBeGreaterThan(30);
  const loaded = loadedBy('import "bun-sockets"');
  expect(loaded.filter((path) => later.includes(path))).toEqual(PUBLIC);
});

test("importing the main entry loads no thread, no compiler, no packets, and not the whole of sys", () => {
  const loaded = loadedBy('import "bun-sockets"');
  const wrong = /^lib\/packet\/|^lib\/sys\/index|_thread\.ts$|freestanding|poller_engine|ringer/;
  expect(loaded.filter((path) => wrong.test(path))).toEqual([]);
});

test("a first promise loads the poller, and a first option the options", () => {
  const program = `
    import { SocketOption, UdpSocket } from "bun-sockets";
    using socket = UdpSocket.bind("127.0.0.1:0");
  `;
  const before = loadedBy(program);
  expect(before).not.toContain("lib/internal/poller_engine.ts");
  const waiting = `${program} await socket.receive(new Uint8Array(1), { timeoutMs: 0 }).catch(() => {})`;
  expect(loadedBy(waiting)).toContain("lib/internal/poller_engine.ts");
  expect(before).not.toContain("lib/option.ts");
  const asked = `${program} socket.setOption(SocketOption.broadcast, true)`;
  expect(loadedBy(asked)).toContain("lib/option.ts");
});
