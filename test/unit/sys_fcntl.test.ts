import { expect, test } from "bun:test";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { socket } from "../../lib/sys/socket.ts";
import { close } from "../../lib/sys/unistd.ts";
import { EBADF, EINVAL } from "../../structs/constants/errno.ts";
import {
  F_DUPFD,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  F_GETFL,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
} from "../../structs/constants/fcntl.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM } from "../../structs/constants/sys_socket.ts";

test("fcntl() reads and sets the flags of a descriptor", () => {
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  expect(fcntl(fd, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(fcntl(fd, F_SETFD, 0)).toBe(0);
  expect(fcntl(fd, F_GETFD, 0)).toBe(0);
  expect(close(fd)).toBe(0);
});

test("fcntl() reads and sets the status flags of a socket", () => {
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  expect(fcntl(fd, F_GETFL, 0)).toBe(O_RDWR);
  expect(fcntl(fd, F_SETFL, O_NONBLOCK)).toBe(0);
  expect(fcntl(fd, F_GETFL, 0)).toBe(O_RDWR | O_NONBLOCK);
  expect(close(fd)).toBe(0);
});

test("fcntl() duplicates at or above the number that it is given", () => {
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const copy = fcntl(fd, F_DUPFD_CLOEXEC, 200);
  expect(copy).toBeGreaterThanOrEqual(200);
  expect(fcntl(copy, F_GETFD, 0)).toBe(FD_CLOEXEC);
  for (const each of [fd, copy]) expect(close(each)).toBe(0);
});

test("fcntl() of no descriptor is -EBADF, and with a wrong argument -EINVAL", () => {
  expect(fcntl(-1, F_GETFD, 0)).toBe(-EBADF);
  const fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  expect(fcntl(fd, F_DUPFD, -1)).toBe(-EINVAL);
  expect(fcntl(fd, 0x7fff_ffff, 0)).toBe(-EINVAL);
  expect(close(fd)).toBe(0);
});
