import { expect, test } from "bun:test";
import { closeSync, openSync, readlinkSync } from "node:fs";
import { setns } from "../../lib/sys/sched.ts";
import { EBADF, EINVAL, EPERM } from "../../structs/constants/errno.ts";
import { CLONE_NEWNET } from "../../structs/constants/sched.ts";

const NAMESPACE = "/proc/thread-self/ns/net";

test("setns() takes a thread into a namespace, here its own, or says which right it lacks", () => {
  const before = readlinkSync(NAMESPACE);
  const fd = openSync(NAMESPACE, "r");
  try {
    expect(setns(fd, CLONE_NEWNET)).toBeOneOf([0, -EPERM]);
  } finally {
    closeSync(fd);
  }
  expect(readlinkSync(NAMESPACE)).toBe(before);
});

test("setns() returns what is wrong with the descriptor", () => {
  expect(setns(-1, CLONE_NEWNET)).toBe(-EBADF);
  const fd = openSync("/dev/null", "r");
  expect(setns(fd, CLONE_NEWNET)).toBe(-EINVAL);
  closeSync(fd);
});
