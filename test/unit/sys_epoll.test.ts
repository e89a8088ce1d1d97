import { expect, test } from "bun:test";
import { epoll_create1, epoll_ctl, epoll_wait } from "../../lib/sys/epoll.ts";
import { fcntl } from "../../lib/sys/fcntl.ts";
import { send, socketpair } from "../../lib/sys/socket.ts";
import { close } from "../../lib/sys/unistd.ts";
import { EBADF, EEXIST, EINVAL, ENOENT } from "../../structs/constants/errno.ts";
import { F_GETFD, FD_CLOEXEC } from "../../structs/constants/fcntl.ts";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
} from "../../structs/constants/sys_epoll.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM } from "../../structs/constants/sys_socket.ts";
import { epoll_event } from "../../structs/epoll_event.ts";

// An epoll set and two connected sockets, which the caller closes.
function openSet() {
  const fds = new Int32Array(2);
  expect(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds)).toBe(0);
  const [left = -1, right = -1] = fds;
  const set = epoll_create1(EPOLL_CLOEXEC);
  expect(set).toBeGreaterThan(0);
  return { set, left, right, fds: [set, left, right] };
}

function event(events: number, data: number): DataView {
  const view = new DataView(new ArrayBuffer(epoll_event.size));
  epoll_event.events.set(view, 0, events);
  epoll_event.data.set(view, 0, data);
  return view;
}

// The events as [events, data], sorted by data.
function wait(set: number, count: number, timeoutMs: number): number[][] {
  const view = new DataView(new ArrayBuffer(count * epoll_event.size));
  const ready = epoll_wait(set, view, timeoutMs);
  return Array.from({ length: ready }, (_, i) => i * epoll_event.size)
    .map((at) => [epoll_event.events.get(view, at), epoll_event.data.get(view, at)])
    .sort(([, a = 0], [, b = 0]) => a - b);
}

test("epoll_wait() tells which sockets are ready, by the data that they were added with", () => {
  const { set, left, right, fds } = openSet();
  const token = 2 ** 52 + 5;
  expect(epoll_ctl(set, EPOLL_CTL_ADD, left, event(EPOLLIN | EPOLLOUT, 7))).toBe(0);
  expect(epoll_ctl(set, EPOLL_CTL_ADD, right, event((EPOLLIN | EPOLLET) >>> 0, token))).toBe(0);
  expect(wait(set, 4, 0)).toEqual([[EPOLLOUT, 7]]);
  expect(send(left, Buffer.from("a"), 0)).toBe(1);
  const both = [
    [EPOLLOUT, 7],
    [EPOLLIN, token],
  ];
  expect(wait(set, 4, 1000)).toEqual(both);
  // Told of once, by EPOLLET.
  expect(wait(set, 4, 0)).toEqual([[EPOLLOUT, 7]]);
  for (const fd of fds) expect(close(fd)).toBe(0);
});

test("epoll_ctl() changes what is waited for, and takes out of the set", () => {
  const { set, left, fds } = openSet();
  expect(epoll_ctl(set, EPOLL_CTL_ADD, left, event(EPOLLOUT, 1))).toBe(0);
  expect(epoll_ctl(set, EPOLL_CTL_MOD, left, event(EPOLLIN, 2))).toBe(0);
  expect(wait(set, 4, 0)).toEqual([]);
  expect(epoll_ctl(set, EPOLL_CTL_MOD, left, event(EPOLLOUT, 3))).toBe(0);
  expect(wait(set, 4, 0)).toEqual([[EPOLLOUT, 3]]);
  expect(epoll_ctl(set, EPOLL_CTL_DEL, left, null)).toBe(0);
  expect(wait(set, 4, 0)).toEqual([]);
  for (const fd of fds) expect(close(fd)).toBe(0);
});

test("epoll_wait() returns no more events than there is room for", () => {
  const { set, left, right, fds } = openSet();
  expect(epoll_ctl(set, EPOLL_CTL_ADD, left, event(EPOLLOUT, 1))).toBe(0);
  expect(epoll_ctl(set, EPOLL_CTL_ADD, right, event(EPOLLOUT, 2))).toBe(0);
  const room = new Uint8Array(2 * epoll_event.size).fill(0xa5);
  expect(epoll_wait(set, room.subarray(0, 2 * epoll_event.size - 1), 0)).toBe(1);
  expect([...room.subarray(epoll_event.size)]).toEqual(Array(epoll_event.size).fill(0xa5));
  for (const fd of fds) expect(close(fd)).toBe(0);
});

test("epoll_create1() sets FD_CLOEXEC, and with other flags is -EINVAL", () => {
  const set = epoll_create1(EPOLL_CLOEXEC);
  expect(fcntl(set, F_GETFD, 0)).toBe(FD_CLOEXEC);
  expect(close(set)).toBe(0);
  expect(epoll_create1(1)).toBe(-EINVAL);
});

test("epoll_ctl() that fails is -EEXIST, -ENOENT and -EBADF", () => {
  const { set, left, right, fds } = openSet();
  expect(epoll_ctl(set, EPOLL_CTL_ADD, left, event(EPOLLIN, 0))).toBe(0);
  expect(epoll_ctl(set, EPOLL_CTL_ADD, left, event(EPOLLIN, 0))).toBe(-EEXIST);
  expect(epoll_ctl(set, EPOLL_CTL_MOD, right, event(EPOLLIN, 0))).toBe(-ENOENT);
  expect(epoll_ctl(set, EPOLL_CTL_ADD, -1, event(EPOLLIN, 0))).toBe(-EBADF);
  for (const fd of fds) expect(close(fd)).toBe(0);
});

test("epoll_wait() without room is -EINVAL, and of no descriptor -EBADF", () => {
  const { set, fds } = openSet();
  expect(epoll_wait(set, new Uint8Array(epoll_event.size - 1), 0)).toBe(-EINVAL);
  expect(epoll_wait(-1, new Uint8Array(epoll_event.size), 0)).toBe(-EBADF);
  for (const fd of fds) expect(close(fd)).toBe(0);
});
