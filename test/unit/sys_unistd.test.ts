import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { socketpair } from "../../lib/sys/socket.ts";
import { close, dup, dup3, gethostname, read, unlink, write } from "../../lib/sys/unistd.ts";
import {
  EAGAIN,
  EBADF,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  EPIPE,
} from "../../structs/constants/errno.ts";
import { F_GETFD, FD_CLOEXEC, O_CLOEXEC } from "../../structs/constants/fcntl.ts";
import { HOST_NAME_MAX } from "../../structs/constants/limits.ts";
import {
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from "../../structs/constants/sys_socket.ts";

// Two connected stream sockets, which the caller closes.
function pair(): [number, number] {
  const fds = new Int32Array(2);
  expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds)).toBe(0);
  const [left = -1, right = -1] = fds;
  return [left, right];
}

test("write() and read() return the bytes, and 0 at the end", () => {
  const [left, right] = pair();
  expect(write(left, Buffer.from("--abc--").subarray(2, 5))).toBe(3);
  const target = new Uint8Array(8).fill(0xa5);
  expect(read(right, target.subarray(1))).toBe(3);
  expect([...target]).toEqual([0xa5, 0x61, 0x62, 0x63, 0xa5, 0xa5, 0xa5, 0xa5]);
  expect(read(right, target)).toBe(-EAGAIN);
  expect(close(left)).toBe(0);
  expect(read(right, target)).toBe(0);
  expect(close(right)).toBe(0);
});

test("write() to nobody is -EPIPE, and of no descriptor -EBADF, as read() is", () => {
  const [left, right] = pair();
  expect(close(left)).toBe(0);
  // SIGPIPE would end the process: Bun ignores it.
  expect(write(right, Buffer.from("a"))).toBe(-EPIPE);
  expect(close(right)).toBe(0);
  expect(write(-1, Buffer.from("a"))).toBe(-EBADF);
  expect(read(-1, new Uint8Array(1))).toBe(-EBADF);
});

test("dup() gives another descriptor of the same socket, without FD_CLOEXEC", () => {
  const [left, right] = pair();
  const copy = dup(left);
  expect(copy).toBeGreaterThan(right);
  expect(fcntl(left, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(fcntl(copy, F_GETFD, 0)).toBe(0);
  expect(close(left)).toBe(0);
  expect(write(copy, Buffer.from("a"))).toBe(1);
  expect(read(right, new Uint8Array(2))).toBe(1);
  for (const fd of [copy, right]) expect(close(fd)).toBe(0);
});

test("dup3() puts the duplicate where it is told, with its flags", () => {
  const [left, right] = pair();
  const target = dup(right);
  expect(dup3(left, target, O_CLOEXEC)).toBe(target);
  expect(fcntl(target, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(write(target, Buffer.from("a"))).toBe(1);
  expect(read(right, new Uint8Array(2))).toBe(1);
  for (const fd of [left, right, target]) expect(close(fd)).toBe(0);
});

test("dup() and dup3() of no descriptor are -EBADF, and dup3() onto itself is -EINVAL", () => {
  const [left, right] = pair();
  expect(dup(-1)).toBe(-EBADF);
  expect(dup3(-1, right, 0)).toBe(-EBADF);
  expect(dup3(left, left, 0)).toBe(-EINVAL);
  for (const fd of [left, right]) expect(close(fd)).toBe(0);
});

test("unlink() takes a name away, and of none is -ENOENT", () => {
  const folder = mkdtempSync(join(tmpdir(), "unlink-"));
  try {
    const file = join(folder, "file");
    writeFileSync(file, "");
    expect(unlink(Buffer.from(`${file}\0`))).toBe(0);
    expect(existsSync(file)).toBe(false);
    expect(unlink(Buffer.from(`${file}\0`))).toBe(-ENOENT);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("gethostname() fills in the name of this machine and a NUL", () => {
  const name = new Uint8Array(HOST_NAME_MAX + 1).fill(0xa5);
  expect(gethostname(name)).toBe(0);
  const expected = [...Buffer.from(`${hostname()}\0`)];
  expect([...name.subarray(0, expected.length)]).toEqual(expected);
});

test("gethostname() without room is -ENAMETOOLONG", () => {
  expect(gethostname(new Uint8Array(1))).toBe(-ENAMETOOLONG);
});
