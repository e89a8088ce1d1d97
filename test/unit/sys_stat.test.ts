import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chmod, fchmod } from "../../lib/sys/stat.ts";
import { EBADF, ENOENT } from "../../structs/constants/errno.ts";
import {
  S_IFMT,
  S_IFREG,
  S_IRUSR,
  S_IWGRP,
  S_IWUSR,
  S_IXOTH,
} from "../../structs/constants/sys_stat.ts";

const folder = mkdtempSync(join(tmpdir(), "chmod-"));
const file = join(folder, "file");
writeFileSync(file, "");

afterAll(() => {
  rmSync(folder, { recursive: true });
});

test("chmod() sets the permissions of a path", () => {
  const mode = S_IRUSR | S_IWGRP | S_IXOTH;
  expect(chmod(Buffer.from(`${file}\0`), mode)).toBe(0);
  expect(statSync(file).mode & ~S_IFMT).toBe(mode);
  expect(statSync(file).mode & S_IFMT).toBe(S_IFREG);
});

test("fchmod() sets the permissions of an open file", () => {
  const fd = openSync(file, "r");
  expect(fchmod(fd, S_IRUSR | S_IWUSR)).toBe(0);
  closeSync(fd);
  expect(statSync(file).mode & ~S_IFMT).toBe(0o600);
});

test("chmod() of no file is -ENOENT, and fchmod() of no descriptor -EBADF", () => {
  expect(chmod(Buffer.from(`${folder}/nothing\0`), S_IRUSR)).toBe(-ENOENT);
  expect(fchmod(-1, S_IRUSR)).toBe(-EBADF);
});
