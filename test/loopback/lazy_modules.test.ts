/**
 * Modules that are read when something first needs them: with too many open descriptors the caller
 * gets the error of a call that opens one, and not Bun's own.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loadModule } from "../../lib/internal/descriptor.ts";
import { caught, systemErrorOf } from "../support/errors.ts";

const LIB = join(import.meta.dir, "../../lib");
const DESCRIPTORS = 64;

// What reads modules, each for the first time.
const CALLS: Readonly<Record<string, string>> = {
  promise: `socket.receive(new Uint8Array(1), { timeoutMs: 1 })`,
  zeroCopy: `socket.zeroCopy`,
  errors: `socket.tryReceiveError()`,
  batches: `socket.batches()`,
  join: `socket.join("239.1.2.3", { interface: "lo" })`,
  pathMtu: `socket.pathMtu`,
  memberships: `memberships()`,
  interfaces: `ipAddresses()`,
  options: `socket.getOption(UdpOption.gro)`,
  resolve: `resolveSync("127.0.0.1", 80, { numericHost: true })`,
  services: `Array.from(services())`,
  capabilities: `capabilities()`,
  segments: `socket.sendSegmentsSync([], { to: socket.localAddress })`,
};

test("loadModule() says EMFILE with a hint when no file can be opened, and reads it later", () => {
  const script = `
    import { closeSync, openSync } from "node:fs";
    import {
      capabilities, ipAddresses, memberships, resolveSync, services, UdpOption, UdpSocket,
    } from ${JSON.stringify(join(LIB, "index.ts"))};
    const socket = UdpSocket.bind("127.0.0.1:0");
    const calls = { ${Object.entries(CALLS).map(([name, call]) => `${name}: () => ${call}`)} };
    const told = {};
    const ask = async (call) => {
      try {
        await call();
      } catch (error) {
        return [error.name, error.code, error.syscall, error.hint?.includes("ulimit -n")];
      }
    };
    const open = [];
    try { for (;;) open.push(openSync("/dev/null", "r")); } catch {}
    for (const name in calls) told[name] = [await ask(calls[name])];
    for (const fd of open) closeSync(fd);
    for (const name in calls) told[name].push(await ask(calls[name]));
    console.log(JSON.stringify(told));
    process.exit();
  `;
  const { stdout, stderr } = Bun.spawnSync(
    ["sh", "-c", `ulimit -n ${DESCRIPTORS}; exec "$@"`, "sh", process.execPath, "-e", script],
    { timeout: 20_000 },
  );
  expect(`${stderr}`).toBe("");
  const told = JSON.parse(`${stdout}`) as Record<string, unknown>;
  for (const name of Object.keys(CALLS)) {
    const late = name === "promise" ? ["TimeoutError", "ETIMEDOUT", "recv", null] : null;
    expect([name, told[name]]).toEqual([name, [["SystemError", "EMFILE", "open", true], late]]);
  }
});

test("loadModule() gives what was read, and every other error as it is", () => {
  const found = {};
  expect(loadModule(() => found)).toBe(found);
  const other = new Error("something else");
  expect(
    caught(() =>
      loadModule(() => {
        throw other;
      }),
    ),
  ).toBe(other);
  for (const [code, limit] of [
    ["EMFILE", "ulimit -n"],
    ["ENFILE", "fs.file-max"],
  ] as const) {
    const error = systemErrorOf(() =>
      loadModule(() => {
        throw new Error(`${code} reading "/some/file.ts"`);
      }),
    );
    expect([error.code, error.syscall]).toEqual([code, "open"]);
    expect(error.hint).toContain(limit);
  }
});

test("every module that is read late is read by loadModule()", () => {
  const wrong: string[] = [];
  let right = 0;
  for (const file of new Bun.Glob("**/*.ts").scanSync(LIB)) {
    // What makes the errors passes over a hint that cannot be read.
    if (file === "error.ts") continue;
    const text = readFileSync(join(LIB, file), "utf8").replace(/\s+/g, " ");
    for (const [call, before] of text.matchAll(/(.{0,20})\brequire\("\.[^"]*"\)/g))
      if (/loadModule\( ?\(\) => $/.test(before as string)) right++;
      else wrong.push(`${file}: ${call}`);
  }
  expect(wrong).toEqual([]);
  expect(right).toBeGreaterThan(20);
});
