import { expect, test } from "bun:test";
import { poll } from "../../lib/sys/poll.ts";
import {
  accept4,
  bind,
  connect,
  getsockname,
  listen,
  recv,
  send,
  sockatmark,
  socket,
} from "../../lib/sys/socket.ts";
import { close } from "../../lib/sys/unistd.ts";
import { EBADF, ENOTTY } from "../../structs/constants/errno.ts";
import { INADDR_LOOPBACK } from "../../structs/constants/netinet_in.ts";
import { POLLIN, POLLPRI } from "../../structs/constants/poll.ts";
import {
  AF_INET,
  MSG_OOB,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
} from "../../structs/constants/sys_socket.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";

test("sockatmark() tells whether the next byte follows the urgent one", () => {
  const listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const address = new DataView(new ArrayBuffer(sockaddr_in.size));
  sockaddr_in.sin_family.set(address, 0, AF_INET);
  sockaddr_in.sin_addr.set(address, 0, INADDR_LOOPBACK);
  expect(bind(listener, address)).toBe(0);
  expect(getsockname(listener, address, new Uint32Array(1))).toBe(0);
  expect(listen(listener, 1)).toBe(0);
  expect(connect(client, address)).toBe(0);
  const server = accept4(listener, address, new Uint32Array(1), SOCK_CLOEXEC);

  expect(send(client, Buffer.from("ab"), 0)).toBe(2);
  expect(send(client, Buffer.from("!"), MSG_OOB)).toBe(1);
  waitFor(server, POLLPRI);
  waitFor(server, POLLIN);
  expect(sockatmark(server)).toBe(0);
  expect(recv(server, new Uint8Array(16), 0)).toBe(2);
  expect(sockatmark(server)).toBe(1);

  for (const fd of [server, client, listener]) expect(close(fd)).toBe(0);
});

test("sockatmark() of no descriptor is -EBADF, and of a datagram socket -ENOTTY", () => {
  expect(sockatmark(-1)).toBe(-EBADF);
  const datagrams = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  expect(sockatmark(datagrams)).toBe(-ENOTTY);
  expect(close(datagrams)).toBe(0);
});

function waitFor(fd: number, event: number): void {
  const view = new DataView(new ArrayBuffer(pollfd.size));
  pollfd.fd.set(view, 0, fd);
  pollfd.events.set(view, 0, event);
  expect(poll(view, 5000)).toBe(1);
}
