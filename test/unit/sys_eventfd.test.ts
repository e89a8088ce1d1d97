import { expect, test } from "bun:test";
import { eventfd } from "../../lib/sys/eventfd.ts";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { close, read, write } from "../../lib/sys/unistd.ts";
import { EAGAIN, EINVAL } from "../../structs/constants/errno.ts";
import { F_GETFD, F_GETFL, FD_CLOEXEC, O_NONBLOCK } from "../../structs/constants/fcntl.ts";
import { EFD_CLOEXEC, EFD_NONBLOCK, EFD_SEMAPHORE } from "../../structs/constants/sys_eventfd.ts";

// Reads once: the counter, or -errno. A read that blocks would never end.
function take(fd: number): number {
  expect(fcntl(fd, F_GETFL, 0) & O_NONBLOCK).toBe(O_NONBLOCK);
  const counter = new BigUint64Array(1);
  const result = read(fd, counter);
  return result === 8 ? Number(counter[0]) : result;
}

test("eventfd() makes a counter that a write adds to and a read takes", () => {
  const fd = eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK);
  expect(take(fd)).toBe(3);
  expect(take(fd)).toBe(-EAGAIN);
  expect(write(fd, new BigUint64Array([4n]))).toBe(8);
  expect(write(fd, new BigUint64Array([5n]))).toBe(8);
  expect(take(fd)).toBe(9);
  expect(close(fd)).toBe(0);
});

test("eventfd() starts at up to 2^32 - 1", () => {
  const fd = eventfd(0xffff_ffff, EFD_CLOEXEC | EFD_NONBLOCK);
  expect(take(fd)).toBe(0xffff_ffff);
  expect(close(fd)).toBe(0);
});

test("eventfd() with EFD_SEMAPHORE is taken from one by one", () => {
  const fd = eventfd(2, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
  expect([take(fd), take(fd), take(fd)]).toEqual([1, 1, -EAGAIN]);
  expect(close(fd)).toBe(0);
});

test("eventfd() sets what its flags say, and no more", () => {
  const plain = eventfd(0, 0);
  const both = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const flags = [plain, both].map((fd) => [
    fcntl(fd, F_GETFD, 0) & FD_CLOEXEC,
    fcntl(fd, F_GETFL, 0) & O_NONBLOCK,
  ]);
  expect(flags).toEqual([
    [0, 0],
    [FD_CLOEXEC, O_NONBLOCK],
  ]);
  for (const fd of [plain, both]) expect(close(fd)).toBe(0);
});

test("eventfd() with other flags is -EINVAL", () => {
  expect(eventfd(0, 2)).toBe(-EINVAL);
});
