import { expect, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { memfd_create } from "../../lib/sys/mman.ts";
import { close, write } from "../../lib/sys/unistd.ts";
import { EINVAL, EPERM } from "../../structs/constants/errno.ts";
import {
  F_ADD_SEALS,
  F_GET_SEALS,
  F_GETFD,
  F_SEAL_SEAL,
  F_SEAL_WRITE,
  FD_CLOEXEC,
} from "../../structs/constants/fcntl.ts";
import { MFD_ALLOW_SEALING, MFD_CLOEXEC } from "../../structs/constants/sys_mman.ts";

const NAME_BYTES_MAX = 249;

function open(name: string, flags: number): number {
  return memfd_create(Buffer.from(`${name}\0`), flags);
}

test("memfd_create() makes a file of its own that keeps what is written to it", () => {
  const [first, second] = [open("notes", MFD_CLOEXEC), open("notes", MFD_CLOEXEC)];
  expect(second).not.toBe(first);
  expect(write(first, Buffer.from("one"))).toBe(3);
  expect(write(second, Buffer.from("another"))).toBe(7);
  expect(write(first, Buffer.from(" two"))).toBe(4);
  expect(readFileSync(`/proc/self/fd/${first}`, "utf8")).toBe("one two");
  expect(readFileSync(`/proc/self/fd/${second}`, "utf8")).toBe("another");
  expect([close(first), close(second)]).toEqual([0, 0]);
});

test("memfd_create() gives it a name that others can see", () => {
  const fd = open("bun sockets", MFD_CLOEXEC);
  expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe("/memfd:bun sockets (deleted)");
  expect(close(fd)).toBe(0);
});

test("memfd_create() takes a name up to its NUL", () => {
  const fd = memfd_create(Buffer.from("seen\0unseen\0"), MFD_CLOEXEC);
  expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe("/memfd:seen (deleted)");
  expect(close(fd)).toBe(0);
});

test("memfd_create() sets what its flags say, and no more", () => {
  const [plain, closing] = [open("plain", 0), open("closing", MFD_CLOEXEC)];
  expect([plain, closing].map((fd) => fcntl(fd, F_GETFD, 0))).toEqual([0, FD_CLOEXEC]);
  // Without MFD_ALLOW_SEALING it is sealed against seals.
  expect([plain, closing].map((fd) => fcntl(fd, F_GET_SEALS, 0))).toEqual([
    F_SEAL_SEAL,
    F_SEAL_SEAL,
  ]);
  expect([close(plain), close(closing)]).toEqual([0, 0]);
});

test("memfd_create() with MFD_ALLOW_SEALING makes a file that can be sealed once", () => {
  const fd = open("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  expect(fcntl(fd, F_GET_SEALS, 0)).toBe(0);
  expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE)).toBe(0);
  expect(write(fd, Buffer.from("late"))).toBe(-EPERM);
  expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL)).toBe(0);
  // Whoever comes second is refused: that is how two threads agree on one of them.
  expect(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL)).toBe(-EPERM);
  expect(fcntl(fd, F_GET_SEALS, 0)).toBe(F_SEAL_WRITE | F_SEAL_SEAL);
  expect(close(fd)).toBe(0);
});

test("memfd_create() with other flags, or too long a name, is -EINVAL", () => {
  expect(open("wrong", 0x4000_0000)).toBe(-EINVAL);
  expect(open("x".repeat(NAME_BYTES_MAX + 1), 0)).toBe(-EINVAL);
  const fd = open("x".repeat(NAME_BYTES_MAX), 0);
  expect(close(fd)).toBe(0);
});
