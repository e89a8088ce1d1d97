import { expect, test } from "bun:test";
import { ioctl } from "../../lib/sys/ioctl.ts";
import { if_nametoindex } from "../../lib/sys/net_if.ts";
import { recv, send, socket, socketpair } from "../../lib/sys/socket.ts";
import { close } from "../../lib/sys/unistd.ts";
import { EAGAIN, EBADF, EFAULT, ENODEV } from "../../structs/constants/errno.ts";
import {
  SIOCGIFFLAGS,
  SIOCGIFINDEX,
  SIOCGIFNAME,
  SIOCOUTQ,
} from "../../structs/constants/linux_sockios.ts";
import { IFF_LOOPBACK } from "../../structs/constants/net_if.ts";
import { FIONBIO, FIONREAD } from "../../structs/constants/sys_ioctl.ts";
import {
  AF_INET,
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
} from "../../structs/constants/sys_socket.ts";
import { ifreq } from "../../structs/ifreq.ts";

test("ioctl() FIONREAD and SIOCOUTQ count the bytes that wait", () => {
  const fds = new Int32Array(2);
  expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)).toBe(0);
  const [left = -1, right = -1] = fds;
  const count = new Int32Array([-1]);
  expect(ioctl(right, FIONREAD, count)).toBe(0);
  expect(count[0]).toBe(0);
  expect(send(left, Buffer.from("abcde"), 0)).toBe(5);
  expect(ioctl(right, FIONREAD, count)).toBe(0);
  expect(count[0]).toBe(5);
  // unix(7) counts what the kernel has allocated for the bytes, too.
  expect(ioctl(left, SIOCOUTQ, count)).toBe(0);
  expect(count[0]).toBeGreaterThanOrEqual(5);
  for (const fd of fds) expect(close(fd)).toBe(0);
});

test("ioctl() FIONBIO makes a socket non-blocking", () => {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  expect(ioctl(fd, FIONBIO, new Int32Array([1]))).toBe(0);
  expect(recv(fd, new Uint8Array(1), 0)).toBe(-EAGAIN);
  expect(close(fd)).toBe(0);
});

test("ioctl() asks for an interface by its name, and for its name by its index", () => {
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const request = new DataView(new ArrayBuffer(ifreq.size));
  const argument = ifreq.ifr_ifru.offset;
  ifreq.ifr_ifrn.set(request, 0, Buffer.from("lo"));
  expect(ioctl(fd, SIOCGIFINDEX, request)).toBe(0);
  const index = request.getInt32(argument, true);
  expect(index).toBe(if_nametoindex(Buffer.from("lo\0")));
  expect(ioctl(fd, SIOCGIFFLAGS, request)).toBe(0);
  expect(request.getInt16(argument, true) & IFF_LOOPBACK).toBe(IFF_LOOPBACK);

  const reversed = new DataView(new ArrayBuffer(ifreq.size));
  reversed.setInt32(argument, index, true);
  expect(ioctl(fd, SIOCGIFNAME, reversed)).toBe(0);
  expect([...ifreq.ifr_ifrn.get(reversed, 0).subarray(0, 3)]).toEqual([0x6c, 0x6f, 0]);
  expect(close(fd)).toBe(0);
});

test("ioctl() that fails is -EBADF, -ENODEV and -EFAULT", () => {
  expect(ioctl(-1, FIONREAD, new Int32Array(1))).toBe(-EBADF);
  const fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const request = new DataView(new ArrayBuffer(ifreq.size));
  ifreq.ifr_ifrn.set(request, 0, Buffer.from("nosuchif0"));
  expect(ioctl(fd, SIOCGIFINDEX, request)).toBe(-ENODEV);
  expect(ioctl(fd, SIOCGIFINDEX, null)).toBe(-EFAULT);
  expect(close(fd)).toBe(0);
});
