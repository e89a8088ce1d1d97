import { expect, test } from "bun:test";
import { getSystemErrorName } from "node:util";
import { Inet4Address, Inet6Address } from "../../lib/address.ts";
import { ClosedError, check, SystemError, systemError, TimeoutError } from "../../lib/error.ts";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  EBADF,
  EDESTADDRREQ,
  EINVAL,
  EMSGSIZE,
  ENOBUFS,
  ETIMEDOUT,
} from "../../structs/constants/errno.ts";

const http = new Inet4Address("127.0.0.1", 80);

test("SystemError says call, code, address and meaning", () => {
  const error = new SystemError(EADDRINUSE, "bind", { address: http });
  expect(error.message).toBe("bind EADDRINUSE 127.0.0.1:80: address already in use");
  expect(`${error}`).toBe(`SystemError: ${error.message}`);
});

test("SystemError without an address leaves its place out", () => {
  expect(new SystemError(EINVAL, "setsockopt").message).toBe("setsockopt EINVAL: invalid argument");
});

test("SystemError has the shape of Node's system errors", () => {
  const error = new SystemError(EADDRINUSE, "bind", { address: http });
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({
    name: "SystemError",
    code: "EADDRINUSE",
    errno: -98,
    syscall: "bind",
    address: "127.0.0.1",
    port: 80,
  });
  expect(getSystemErrorName(error.errno)).toBe("EADDRINUSE");
});

test.each([EADDRINUSE, -EADDRINUSE])("SystemError takes %d, as it takes its negative", (errno) => {
  const { code, errno: reported } = new SystemError(errno, "bind");
  expect([code, reported]).toEqual(["EADDRINUSE", -98]);
});

test("SystemError of an errno without a name has its number", () => {
  expect(new SystemError(4095, "ioctl")).toMatchObject({ code: "E4095", errno: -4095 });
  expect(new SystemError(4095, "ioctl").message).toStartWith("ioctl E4095: ");
});

test("SystemError has no property for what it does not know", () => {
  const error = new SystemError(EINVAL, "setsockopt");
  for (const name of ["address", "port", "destination", "transferred", "hint"])
    expect(name in error).toBe(false);
});

test("SystemError names the destination of data as a whole", () => {
  const address = new Inet6Address("::1", 53);
  const error = new SystemError(ENOBUFS, "sendto", { address, sending: true });
  expect(error).toMatchObject({ address: "::1", port: 53, destination: "[::1]:53" });
  expect(error.message).toStartWith("sendto ENOBUFS [::1]:53: ");
  expect("destination" in new SystemError(EADDRINUSE, "bind", { address })).toBe(false);
});

test("SystemError tells what was transferred, where something was", () => {
  expect(new SystemError(EINVAL, "sendmmsg", { transferred: 3 }).transferred).toBe(3);
  expect("transferred" in new SystemError(EINVAL, "sendmmsg", { transferred: 0 })).toBe(false);
});

test.each([
  ["bind", EACCES, "CAP_NET_BIND_SERVICE"],
  ["bind", EADDRNOTAVAIL, "No interface of this machine"],
  ["connect", EACCES, "broadcast: true"],
  ["sendto", EACCES, "broadcast: true"],
  ["send", EDESTADDRREQ, "Connect the socket first"],
  ["send", EMSGSIZE, "65507"],
  ["sendto", EMSGSIZE, "65507"],
])("SystemError of a %s that fails with %d has a hint", (syscall, errno, expected) => {
  expect(new SystemError(-errno, syscall).hint).toContain(expected);
});

test("SystemError has no hint that belongs to another call, and takes one of its own", () => {
  expect("hint" in new SystemError(EACCES, "recvfrom")).toBe(false);
  expect("hint" in new SystemError(EADDRINUSE, "bind")).toBe(false);
  expect(new SystemError(EACCES, "bind", { hint: "Knock first" }).hint).toBe("Knock first");
});

test("TimeoutError is the SystemError of ETIMEDOUT", () => {
  const error = new TimeoutError("recvfrom", { transferred: 7 });
  expect(error).toBeInstanceOf(SystemError);
  expect(error).toMatchObject({
    name: "TimeoutError",
    code: "ETIMEDOUT",
    errno: -110,
    syscall: "recvfrom",
    transferred: 7,
  });
  expect(error.message).toBe("recvfrom ETIMEDOUT: timed out");
});

test("ClosedError is the SystemError of EBADF", () => {
  const error = new ClosedError("send", { address: http, sending: true });
  expect(error).toBeInstanceOf(SystemError);
  expect(error).toMatchObject({ name: "ClosedError", code: "EBADF", errno: -9, syscall: "send" });
  expect(error.destination).toBe("127.0.0.1:80");
});

test("systemError() makes a ClosedError of EBADF and a SystemError of the rest", () => {
  for (const errno of [EBADF, -EBADF])
    expect(systemError(errno, "send")).toBeInstanceOf(ClosedError);
  const other = systemError(-EINVAL, "send", { transferred: 2 });
  expect(other.constructor).toBe(SystemError);
  expect(other.transferred).toBe(2);
  // A connection that timed out is not a call that waited as long as it was told to.
  expect(systemError(-ETIMEDOUT, "connect").constructor).toBe(SystemError);
});

test("check() returns what is no error", () => {
  for (const result of [0, 1, 0x7fff_ffff]) expect(check(result, "recv")).toBe(result);
});

test("check() throws what a negative result means", () => {
  expect(() => check(-EAGAIN, "recv", { address: http })).toThrow(
    "recv EAGAIN 127.0.0.1:80: resource temporarily unavailable",
  );
  expect(() => check(-EBADF, "recv")).toThrow(ClosedError);
});

test("SystemError tells what libc says of an errno that Node has no text for", () => {
  expect(new SystemError(-115, "connect").message).toBe(
    "connect EINPROGRESS: operation now in progress",
  );
});
