import { afterAll, beforeEach, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rename, renameat2 } from "../../lib/sys/stdio.ts";
import { EBADF, EEXIST, EINVAL, ENOENT } from "../../structs/constants/errno.ts";
import { AT_FDCWD } from "../../structs/constants/fcntl.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE } from "../../structs/constants/stdio.ts";

const folder = mkdtempSync(join(tmpdir(), "rename-"));
const [first, second] = [join(folder, "first"), join(folder, "second")] as const;

beforeEach(() => {
  writeFileSync(first, "1");
  writeFileSync(second, "2");
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

const text = (path: string): Uint8Array => Buffer.from(`${path}\0`);

test("rename() replaces what had the name", () => {
  expect(rename(text(first), text(second))).toBe(0);
  expect(existsSync(first)).toBe(false);
  expect(readFileSync(second, "utf8")).toBe("1");
});

test("rename() of no file is -ENOENT", () => {
  expect(rename(text(join(folder, "nothing")), text(second))).toBe(-ENOENT);
});

test("renameat2() exchanges two files", () => {
  expect(renameat2(AT_FDCWD, text(first), AT_FDCWD, text(second), RENAME_EXCHANGE)).toBe(0);
  expect([readFileSync(first, "utf8"), readFileSync(second, "utf8")]).toEqual(["2", "1"]);
});

test("renameat2() starts at the directories that it is given", () => {
  const fd = openSync(folder, "r");
  expect(renameat2(fd, text("first"), fd, text("third"), RENAME_NOREPLACE)).toBe(0);
  expect(readFileSync(join(folder, "third"), "utf8")).toBe("1");
  expect(renameat2(fd, text("second"), AT_FDCWD, text(first), 0)).toBe(0);
  expect(readFileSync(first, "utf8")).toBe("2");
  closeSync(fd);
});

test("renameat2() that fails is -EEXIST, -ENOENT, -EBADF and -EINVAL", () => {
  expect(renameat2(AT_FDCWD, text(first), AT_FDCWD, text(second), RENAME_NOREPLACE)).toBe(-EEXIST);
  const nothing = text(join(folder, "nothing"));
  expect(renameat2(AT_FDCWD, nothing, AT_FDCWD, text(second), RENAME_EXCHANGE)).toBe(-ENOENT);
  expect(renameat2(-1, text("first"), AT_FDCWD, text(second), 0)).toBe(-EBADF);
  expect(renameat2(AT_FDCWD, text(first), AT_FDCWD, text(second), 0x8000_0000)).toBe(-EINVAL);
  expect([readFileSync(first, "utf8"), readFileSync(second, "utf8")]).toEqual(["1", "2"]);
});
