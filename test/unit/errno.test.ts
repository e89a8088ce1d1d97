import { expect, test } from "bun:test";
import { getSystemErrorName } from "node:util";
import { errorName } from "../../lib/sys/errno.ts";
import * as constants from "../../structs/constants/errno.ts";

const { EWOULDBLOCK, EDEADLOCK, EOPNOTSUPP, ...first } = constants;

test.each(Object.entries(first))(
  "errorName() knows %s by its value and its negative",
  (name, value) => {
    expect(errorName(value)).toBe(name);
    expect(errorName(-value)).toBe(name);
  },
);

test("errorName() prefers the name that Node has, of two", () => {
  expect([EWOULDBLOCK, EDEADLOCK, EOPNOTSUPP].map(errorName)).toEqual([
    "EAGAIN",
    "EDEADLK",
    "ENOTSUP",
  ]);
});

test("errorName() gives the number of what has no name", () => {
  expect([0, 41, -41, 4096].map(errorName)).toEqual(["E0", "E41", "E41", "E4096"]);
});

test("errorName() agrees with util.getSystemErrorName() on every name that one knows", () => {
  const known = Object.values(first).flatMap((value) => {
    const name = getSystemErrorName(-value);
    return name === undefined || name.startsWith("Unknown") ? [] : [[name, errorName(value)]];
  });
  expect(known.length).toBeGreaterThan(60);
  const different = known.filter(([theirs, ours]) => theirs !== ours);
  expect(different).toEqual([]);
});
