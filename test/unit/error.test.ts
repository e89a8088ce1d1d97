import { expect, test } from "bun:test";
import { getSystemErrorName } from "node:util";
import { Inet4Address, Inet6Address } from "../../lib/address.ts";
import {
  ClosedError,
  ConnectError,
  check,
  SystemError,
  systemError,
  TimeoutError,
} from "../../lib/error.ts";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  EDESTADDRREQ,
  EHOSTUNREACH,
  EINVAL,
  EMSGSIZE,
  ENETUNREACH,
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
  ["sendmsg", EDESTADDRREQ, "Connect the socket first"],
  ["sendmmsg", EDESTADDRREQ, "Connect the socket first"],
  ["sendmsg", EACCES, "broadcast: true"],
  ["sendmmsg", EACCES, "broadcast: true"],
  ["send", ECONNREFUSED, "earlier datagram"],
  ["sendto", ECONNREFUSED, "earlier datagram"],
  ["sendmsg", ECONNREFUSED, "earlier datagram"],
  ["sendmmsg", ECONNREFUSED, "earlier datagram"],
  ["recv", ECONNREFUSED, "earlier datagram"],
  ["recvfrom", ECONNREFUSED, "earlier datagram"],
  ["recvmsg", ECONNREFUSED, "earlier datagram"],
  ["recvmmsg", ECONNREFUSED, "earlier datagram"],
  ["send", EMSGSIZE, "65507"],
  ["sendto", EMSGSIZE, "65507"],
  ["sendmsg", EMSGSIZE, "65527"],
  ["sendmmsg", EMSGSIZE, "65527"],
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

test("TimeoutError tells what was waited for, and how long", () => {
  const connect = new TimeoutError("connect", { address: http, sending: true, timeoutMs: 500 });
  expect(connect.message).toBe("connect ETIMEDOUT 127.0.0.1:80: timed out after 500 ms");
  expect(connect).toMatchObject({ address: "127.0.0.1", port: 80, timeoutMs: 500 });
  const name = new TimeoutError("getaddrinfo", { host: "a\nb", service: 80, timeoutMs: 0.5 });
  expect(name.message).toBe("getaddrinfo ETIMEDOUT a\\nb:80: timed out after 0.5 ms");
  expect(name).toMatchObject({ host: "a\nb", service: 80 });
  const idle = new TimeoutError("splice", { idleMs: 20, transferred: 3 });
  expect(idle.message).toBe("splice ETIMEDOUT: no byte was moved for 20 ms");
  expect(idle).toMatchObject({ idleMs: 20, transferred: 3 });
  for (const property of ["address", "host", "service", "timeoutMs", "idleMs"])
    expect(property in new TimeoutError("recv")).toBe(false);
});

test("ConnectError has the code that tells most: an answer, then a silence, then no way there", () => {
  const codeOf = (...errors: SystemError[]) => {
    const attempts = errors.map((error) => ({ address: http, error }));
    const error = new ConnectError(attempts, "localhost", 80);
    expect(error.errors).toEqual(errors);
    return [error.code, error.errno];
  };
  const [late, refused] = [new TimeoutError("connect"), new SystemError(ECONNREFUSED, "connect")];
  for (const errno of [ENETUNREACH, EHOSTUNREACH, EADDRNOTAVAIL, EAFNOSUPPORT]) {
    const none = new SystemError(errno, "connect");
    expect(codeOf(none, late, refused)).toEqual(["ECONNREFUSED", -111]);
    expect(codeOf(none, late)).toEqual(["ETIMEDOUT", -110]);
    expect(codeOf(none, none)).toEqual([none.code, none.errno]);
  }
  expect(codeOf(new SystemError(EACCES, "connect"), refused)[0]).toBe("EACCES");
});

test("SystemError of an IPv6 address of one link without a zone says what it lacks", () => {
  const address = new Inet6Address("fe80::1", 80);
  for (const syscall of ["connect", "bind", "sendto", "sendmsg", "sendmmsg"])
    expect(new SystemError(EINVAL, syscall, { address }).hint).toEndWith("as in fe80::1%eth0");
  const others = [new Inet6Address("fe80::1%1", 80), new Inet6Address("fec0::1", 80), http];
  for (const other of others)
    expect(new SystemError(EINVAL, "connect", { address: other }).hint).toBeUndefined();
  expect(new SystemError(EINVAL, "setsockopt", { address }).hint).toBeUndefined();
});

test("SystemError of a datagram to port 0 says so", () => {
  for (const syscall of ["sendto", "sendmsg", "sendmmsg"])
    for (const address of [http.withPort(0), new Inet6Address("::1", 0)])
      expect(new SystemError(EINVAL, syscall, { address }).hint).toContain("port 0");
  for (const [syscall, address] of [
    ["sendto", http],
    ["bind", http.withPort(0)],
    ["connect", http.withPort(0)],
    ["sendto", undefined],
  ] as const)
    expect(new SystemError(EINVAL, syscall, { address }).hint).toBeUndefined();
});

test("ClosedError says in its message that the socket is closed", () => {
  expect(new ClosedError("send").message).toBe(
    "send EBADF: bad file descriptor: the socket is closed",
  );
  expect(systemError(-EBADF, "sendto", { address: http }).message).toBe(
    "sendto EBADF 127.0.0.1:80: bad file descriptor: the socket is closed",
  );
  // A descriptor that was received may be of anything.
  expect(new ClosedError("take").message).toBe("take EBADF: bad file descriptor: it is closed");
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
