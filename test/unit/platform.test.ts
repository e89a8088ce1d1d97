import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { libcNames, requireSupported } from "../../lib/ffi/platform.ts";

const ROOT = join(import.meta.dir, "../..");

test.each([
  ["linux", "x64"],
  ["linux", "arm64"],
])("requireSupported() takes %s on %s", (platform, architecture) => {
  expect(() => requireSupported(platform, architecture)).not.toThrow();
});

test.each([
  ["darwin", "arm64"],
  ["win32", "x64"],
  ["freebsd", "x64"],
  ["linux", "ia32"],
  ["linux", "riscv64"],
])("requireSupported() names %s on %s, and what it wants", (platform, architecture) => {
  expect(() => requireSupported(platform, architecture)).toThrow(
    `bun-sockets runs on Linux, on x64 and arm64: this is ${platform} on ${architecture}.`,
  );
});

test("requireSupported() looks at this process", () => {
  expect(() => requireSupported()).not.toThrow();
});

test("libcNames() begins with glibc, and has musl under both of its names", () => {
  expect(libcNames("x64")).toEqual([
    "libc.so.6",
    "libc.musl-x86_64.so.1",
    "/lib/ld-musl-x86_64.so.1",
  ]);
  expect(libcNames("arm64")).toEqual([
    "libc.so.6",
    "libc.musl-aarch64.so.1",
    "/lib/ld-musl-aarch64.so.1",
  ]);
  expect(libcNames()).toEqual(libcNames(process.arch));
});

test.each(["bun-sockets", "bun-sockets/sys"])(
  "importing %s elsewhere fails with one error that names the platform",
  (entry) => {
    const { exitCode, stdout, stderr } = importOn("darwin", "arm64", entry);
    expect(exitCode).toBe(1);
    expect(stdout).toBe("");
    const errors = stderr.split("\n").filter((line) => line.startsWith("error:"));
    expect(errors).toEqual([
      "error: bun-sockets runs on Linux, on x64 and arm64: this is darwin on arm64. " +
        "Its struct layouts and system calls are Linux's own",
    ]);
  },
);

test("importing bun-sockets/structs works everywhere: it is layouts only", () => {
  expect(importOn("darwin", "arm64", "bun-sockets/structs")).toMatchObject({
    exitCode: 0,
    stdout: "imported\n",
  });
});

test("importing bun-sockets on the platforms it is for works", () => {
  expect(importOn("linux", "arm64", "bun-sockets")).toMatchObject({
    exitCode: 0,
    stdout: "imported\n",
  });
});

// Imports the package in a process that takes itself for one on another platform.
function importOn(platform: string, architecture: string, entry: string) {
  const folder = mkdtempSync(join(tmpdir(), "platform-"));
  try {
    const preload = join(folder, "preload.ts");
    writeFileSync(
      preload,
      `Object.defineProperty(process, "platform", { value: ${JSON.stringify(platform)} });
       Object.defineProperty(process, "arch", { value: ${JSON.stringify(architecture)} });`,
    );
    const script = `await import(${JSON.stringify(entry)}); console.log("imported");`;
    const child = Bun.spawnSync({
      cmd: [process.execPath, "--preload", preload, "-e", script],
      cwd: ROOT,
      env: { ...process.env, NO_COLOR: "1" },
    });
    return {
      exitCode: child.exitCode,
      stdout: child.stdout.toString(),
      stderr: child.stderr.toString(),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
