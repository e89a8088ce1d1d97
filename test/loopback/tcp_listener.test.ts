/** TcpListener: addresses and names to listen at, accepting in all forms, and surviving. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import {
  ClosedError,
  Ipv6Option,
  parseAddress,
  Socket,
  SocketOption,
  SystemError,
  TcpListener,
  TcpSocket,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import {
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAFNOSUPPORT,
  ECONNABORTED,
  EHOSTDOWN,
  EHOSTUNREACH,
  EINTR,
  EMFILE,
  ENETDOWN,
  ENETUNREACH,
  ENFILE,
  ENOBUFS,
  ENOMEM,
  ENONET,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EPROTO,
  IPPROTO_TCP,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  TCP_INFO,
} from "bun-sockets/sys";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import { readTcpInfo } from "../../lib/tcp_info.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { type Fault, failWith, replaceEntry } from "../support/faults.ts";
import {
  beginCount,
  reasonOf,
  startPoller,
  until,
  WatchedSignal,
  waiters,
  waiting,
} from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
const ANY = "127.0.0.1:0";

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

/** Lets the first calls of an entry fail with these errors, one after the other. */
function failFirst(name: keyof Libc, errors: readonly number[]): Fault {
  const left = [...errors];
  const original = libc[name] as (...values: unknown[]) => unknown;
  const replacement = (...values: unknown[]) => {
    const errno = left.shift();
    return errno === undefined ? original(...values) : failWith(errno);
  };
  return replaceEntry(name, replacement as never);
}

function connectTo(listener: TcpListener): TcpSocket {
  return TcpSocket.connectSync(listener.localAddress, WAIT);
}

/** Everything that is given to it is closed with the block. */
function closing(sockets: readonly { close(): void }[]): Disposable {
  return {
    [Symbol.dispose]() {
      for (const socket of sockets) socket.close();
    },
  };
}

/** The backlog of a listener, as the kernel has it. */
function backlogOf(listener: TcpListener): number | undefined {
  return readTcpInfo(listener.getRawOption(IPPROTO_TCP, TCP_INFO, 512)).selectivelyAcknowledged;
}

describe("listen()", () => {
  test("listens in one call, at an address or its text", () => {
    const before = openDescriptors();
    {
      using listener = TcpListener.listen(ANY);
      expect(listener).toBeInstanceOf(Socket);
      expect([listener.family, listener.type]).toEqual(["ipv4", "stream"]);
      expect(listener.localAddress.port).toBeGreaterThan(0);
      expect(listener.getOption(SocketOption.acceptsConnections)).toBe(true);
      using second = TcpListener.listen(parseAddress("[::1]:0"));
      expect(second.family).toBe("ipv6");
      expect(second.localAddress.host).toBe("::1");
    }
    expect(openDescriptors()).toBe(before);
  });

  test("at [::] takes both families, and says so to the kernel", () => {
    using listener = TcpListener.listen("[::]:0");
    expect(listener.getOption(Ipv6Option.v6Only)).toBe(false);
    const { port } = listener.localAddress;
    using over4 = TcpSocket.connectSync(`127.0.0.1:${port}`, WAIT);
    using over6 = TcpSocket.connectSync(`[::1]:${port}`, WAIT);
    using first = listener.acceptSync(WAIT);
    using second = listener.acceptSync(WAIT);
    expect(first.remoteAddress?.host).toBe("::ffff:127.0.0.1");
    expect(first.remoteAddress?.port).toBe(over4.localAddress.port);
    expect(`${second.remoteAddress}`).toBe(`${over6.localAddress}`);
  });

  test("with ipv6Only takes one family, and IPv4 can have the same port", () => {
    using listener = TcpListener.listen("[::]:0", { ipv6Only: true });
    const { port } = listener.localAddress;
    expect(systemErrorOf(() => TcpSocket.connectSync(`127.0.0.1:${port}`, WAIT)).code).toBe(
      "ECONNREFUSED",
    );
    using over4 = TcpListener.listen(`0.0.0.0:${port}`);
    expect(over4.localAddress.port).toBe(port);
    expect(() => TcpListener.listen(ANY, { ipv6Only: true })).toThrow(
      "Cannot make an IPv4 socket ipv6Only",
    );
  });

  test("listens again at a port whose connections are being wound up, unless told not to", () => {
    using listener = TcpListener.listen(ANY);
    const local = listener.localAddress;
    expect(listener.getOption(SocketOption.reuseAddress)).toBe(true);
    const client = connectTo(listener);
    const served = listener.acceptSync(WAIT);
    // Who closes first has the port in TIME_WAIT.
    served.close();
    expect(client.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
    client.close();
    listener.close();
    expect(systemErrorOf(() => TcpListener.listen(local, { reuseAddress: false })).code).toBe(
      "EADDRINUSE",
    );
    using again = TcpListener.listen(local);
    expect(again.localAddress.equals(local)).toBe(true);
  });

  test("is refused where somebody listens, and leaks nothing", () => {
    using listener = TcpListener.listen(ANY);
    const before = openDescriptors();
    const error = systemErrorOf(() => TcpListener.listen(listener.localAddress));
    expect(error).toMatchObject({
      code: "EADDRINUSE",
      syscall: "bind",
      port: listener.localAddress.port,
    });
    expect(openDescriptors()).toBe(before);
  });

  test("with reusePort is not: the kernel spreads the connections", () => {
    using first = TcpListener.listen(ANY, { reusePort: true });
    using second = TcpListener.listen(first.localAddress, { reusePort: true });
    expect(second.localAddress.equals(first.localAddress)).toBe(true);
  });

  test("has a backlog of 128, or what was asked for", () => {
    using usual = TcpListener.listen(ANY);
    using small = TcpListener.listen(ANY, { backlog: 7 });
    expect([backlogOf(usual), backlogOf(small)]).toEqual([128, 7]);
  });

  test.each([
    ["localhost", "ipv6"],
    ["LOCALHOST", "ipv6"],
    ["127.0.0.1", "ipv4"],
    ["[::1]", "ipv6"],
  ])("at %s takes the first address, which is %s", (host, family) => {
    using listener = TcpListener.listen(`${host}:0`);
    expect(`${listener.family}`).toBe(family);
    expect(["::1", "127.0.0.1"]).toContain(listener.localAddress.host);
  });

  test.each([
    ["EADDRNOTAVAIL", "bind", EADDRNOTAVAIL],
    ["EAFNOSUPPORT", "socket", EAFNOSUPPORT],
  ] as const)(
    "by name passes over an address that this machine does not have: %s",
    (_, call, errno) => {
      const before = openDescriptors();
      {
        using _fault = failFirst(call, [errno]);
        using listener = TcpListener.listen("localhost:0");
        expect(listener.localAddress.host).toBe("127.0.0.1");
      }
      {
        using _fault = failFirst(call, [errno, errno]);
        expect(systemErrorOf(() => TcpListener.listen("localhost:0")).errno).toBe(-errno);
      }
      expect(openDescriptors()).toBe(before);
    },
  );

  test("by name does not pass over any other error", () => {
    using _fault = failFirst("bind", [EADDRINUSE]);
    expect(systemErrorOf(() => TcpListener.listen("localhost:0")).code).toBe("EADDRINUSE");
  });

  test("calls configure with the socket before it has an address", () => {
    const seen: unknown[] = [];
    using listener = TcpListener.listen(ANY, {
      configure: (socket) => seen.push(socket, socket.localAddress.toString()),
    });
    expect(seen).toEqual([listener, "0.0.0.0:0"]);
    const before = openDescriptors();
    const configure = () => {
      throw new Error("not like that");
    };
    expect(() => TcpListener.listen(ANY, { configure })).toThrow("not like that");
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ["", TypeError],
    ["localhost", TypeError],
    ["localhost:", TypeError],
    [":80", TypeError],
    ["127.1:80", TypeError],
    ["[localhost]:80", TypeError],
    ["[127.0.0.1]:80", TypeError],
    ["unix:/run/x.sock", TypeError],
    ["127.0.0.1:65536", RangeError],
    ["127.0.0.1:-1", RangeError],
    ["localhost:65536", RangeError],
    [undefined as unknown as string, TypeError],
    [7 as unknown as string, TypeError],
  ])("refuses %j before anything is opened", (address, kind) => {
    using socket = replaceEntry("socket", libc.socket);
    expect(() => TcpListener.listen(address)).toThrow(kind);
    expect(socket.calls).toBe(0);
  });

  test.each([
    [{ backlog: -1 }, RangeError],
    [{ backlog: 2 ** 31 }, RangeError],
    [{ backlog: 1.5 }, RangeError],
    [{ backlog: "7" as unknown as number }, TypeError],
    [{ reuseAddress: 1 as unknown as boolean }, TypeError],
    [null as unknown as object, TypeError],
  ])("refuses the options %j before anything is opened", (options, kind) => {
    using socket = replaceEntry("socket", libc.socket);
    expect(() => TcpListener.listen(ANY, options)).toThrow(kind);
    expect(socket.calls).toBe(0);
  });

  test("says that there is no such service", () => {
    expect(caught(() => TcpListener.listen("localhost:no-such-service"))).toMatchObject({
      name: "ResolutionError",
      code: "EAI_SERVICE",
    });
  });
});

describe.each(["listenAll", "listenAllSync"] as const)("%s()", (form) => {
  const all = async (...values: Parameters<typeof TcpListener.listenAllSync>) =>
    TcpListener[form](...values);

  test("listens at each loopback address, at one free port", async () => {
    const listeners = await all("localhost");
    using _ = closing(listeners);
    expect(listeners.map(({ localAddress }) => localAddress.host)).toEqual(["::1", "127.0.0.1"]);
    const ports = new Set(listeners.map(({ localAddress }) => localAddress.port));
    expect([...ports]).toEqual([listeners[0]?.localAddress.port as number]);
    for (const listener of listeners) {
      using client = connectTo(listener);
      using served = listener.acceptSync(WAIT);
      expect(served.remoteAddress?.equals(client.localAddress)).toBe(true);
    }
  });

  test("listens at all addresses of both families, each with its own listener", async () => {
    const listeners = await all("", 0);
    using _ = closing(listeners);
    expect(listeners.map(({ localAddress }) => localAddress.host).toSorted()).toEqual([
      "0.0.0.0",
      "::",
    ]);
    for (const listener of listeners)
      if (listener.family === "ipv6") expect(listener.getOption(Ipv6Option.v6Only)).toBe(true);
  });

  test("listens at the addresses of one family, or at the one address", async () => {
    using _ = closing(await all("localhost", 0, { family: "ipv4" }));
    const [only, ...rest] = await all("127.0.0.3", "0");
    using listener = only as TcpListener;
    expect(rest).toEqual([]);
    expect(listener.localAddress.host).toBe("127.0.0.3");
  });

  test("looks for another port where one is taken at the second address", async () => {
    const before = openDescriptors();
    let binds = 0;
    const { bind } = libc;
    {
      // The second one of each round, twice.
      using fault = replaceEntry("bind", (...values: Parameters<typeof bind>) =>
        ++binds === 2 || binds === 4 ? failWith(EADDRINUSE) : bind(...values),
      );
      using _ = closing(await all("localhost"));
      // Three rounds, or more where somebody else has such a port.
      expect(fault.calls % 2).toBe(0);
      expect(fault.calls).toBeGreaterThanOrEqual(6);
    }
    expect(openDescriptors()).toBe(before);
  });

  test("gives up after 32 ports, and at once where one was asked for; nothing stays open", async () => {
    const before = openDescriptors();
    let binds = 0;
    const { bind } = libc;
    using fault = replaceEntry("bind", (...values: Parameters<typeof bind>) =>
      ++binds % 2 === 0 ? failWith(EADDRINUSE) : bind(...values),
    );
    expect(await reasonOf(all("localhost"))).toMatchObject({ code: "EADDRINUSE" });
    expect(fault.calls).toBe(64);
    using free = TcpListener.listen("127.0.0.9:0");
    const { port } = free.localAddress;
    binds = 0;
    expect(await reasonOf(all("localhost", port))).toMatchObject({ code: "EADDRINUSE", port });
    expect(binds).toBe(2);
    expect(openDescriptors()).toBe(before + 1);
  });

  test("passes over what this machine does not have, unless that is all", async () => {
    {
      using _fault = failFirst("bind", [EADDRNOTAVAIL]);
      const listeners = await all("localhost");
      using _ = closing(listeners);
      expect(listeners.map(({ localAddress }) => localAddress.host)).toEqual(["127.0.0.1"]);
    }
    using _fault = failFirst("bind", [EADDRNOTAVAIL, EADDRNOTAVAIL]);
    expect(await reasonOf(all("localhost"))).toMatchObject({ code: "EADDRNOTAVAIL" });
  });

  test("refuses what is no host, port or option", async () => {
    expect(await reasonOf(all(7 as unknown as string))).toBeInstanceOf(TypeError);
    expect(await reasonOf(all("localhost", -1))).toBeInstanceOf(RangeError);
    expect(await reasonOf(all("localhost", 65536))).toBeInstanceOf(RangeError);
    expect(await reasonOf(all("localhost", ""))).toBeInstanceOf(TypeError);
    for (const host of ["localhost", "127.0.0.1"])
      expect(await reasonOf(all(host, 0, { timeoutMs: -1 }))).toBeInstanceOf(RangeError);
  });
});

describe("accepting", () => {
  test("gives TcpSockets, close-on-exec and non-blocking, in all forms and in order", async () => {
    using listener = TcpListener.listen(ANY);
    expect(listener.tryAccept()).toBeUndefined();
    const clients = Array.from({ length: 4 }, () => connectTo(listener));
    using _ = closing(clients);
    const served = [
      listener.tryAccept() as TcpSocket,
      listener.acceptSync(WAIT),
      await listener.accept(WAIT),
      listener.acceptSync({ ...WAIT, flags: SOCK_CLOEXEC | SOCK_NONBLOCK }),
    ];
    using _served = closing(served);
    for (const [i, socket] of served.entries()) {
      expect(socket).toBeInstanceOf(TcpSocket);
      expect([socket.connected, socket.inheritable]).toEqual([true, false]);
      expect(socket.tryReceive(new Uint8Array(1))).toBeUndefined();
      expect(`${socket.remoteAddress}`).toBe(`${clients[i]?.localAddress}`);
    }
  });

  test("remembers the peer that accept4(2) has told, without asking", () => {
    using listener = TcpListener.listen(ANY);
    using client = connectTo(listener);
    using served = listener.acceptSync(WAIT);
    using getpeername = replaceEntry("getpeername", libc.getpeername);
    expect(served.remoteAddress?.equals(client.localAddress)).toBe(true);
    expect(served.remoteAddress).toBe(served.remoteAddress as never);
    expect(getpeername.calls).toBe(0);
  });

  test("takes no other flags than those that are set anyway", async () => {
    using listener = TcpListener.listen(ANY);
    for (const flags of [1, 0x40, -1, 1.5, 2 ** 31]) {
      expect(() => listener.tryAccept({ flags })).toThrow(RangeError);
      expect(() => listener.acceptSync({ flags })).toThrow(RangeError);
      expect(await reasonOf(listener.accept({ flags }))).toBeInstanceOf(RangeError);
    }
    expect(() => listener.tryAccept({ flags: "1" as unknown as number })).toThrow(TypeError);
  });

  test("says in a log where it listens, and whether it is closed", () => {
    using listener = TcpListener.listen(ANY);
    const { descriptor, localAddress } = listener;
    expect(`${listener}`).toBe(
      `TcpListener ipv4 stream, descriptor ${descriptor}, ${localAddress}`,
    );
    expect(listener.closed).toBe(false);
    listener.close();
    expect([`${listener}`, listener.closed]).toEqual(["TcpListener ipv4 stream, closed", true]);
  });

  test("a timeout loses no connection", async () => {
    using listener = TcpListener.listen(ANY);
    for (const timeoutMs of [0, 1]) {
      expect(caught(() => listener.acceptSync({ timeoutMs }))).toBeInstanceOf(TimeoutError);
      expect(await reasonOf(listener.accept({ timeoutMs }))).toMatchObject({
        name: "TimeoutError",
        code: "ETIMEDOUT",
        syscall: "accept4",
        message: `accept4 ETIMEDOUT ${listener.localAddress}: timed out after ${timeoutMs} ms`,
        port: listener.localAddress.port,
      });
      expect(() => listener.acceptSync({ timeoutMs })).toThrow(
        `ETIMEDOUT ${listener.localAddress}`,
      );
    }
    for (const timeoutMs of [Number.NaN, -1, -Infinity]) {
      expect(() => listener.acceptSync({ timeoutMs })).toThrow(RangeError);
      expect(await reasonOf(listener.accept({ timeoutMs }))).toBeInstanceOf(RangeError);
    }
    const pending = waiting(() => listener.accept({ timeoutMs: 2 ** 31 }));
    using client = connectTo(listener);
    using first = await pending;
    expect(`${first.remoteAddress}`).toBe(`${client.localAddress}`);
    using other = connectTo(listener);
    using second = listener.acceptSync({ timeoutMs: 0 });
    expect(`${second.remoteAddress}`).toBe(`${other.localAddress}`);
  });

  test("a cancelled call loses no connection, and leaves no listener behind", async () => {
    using listener = TcpListener.listen(ANY);
    beginCount();
    const watched = new WatchedSignal();
    const cancelled = waiting(() => listener.accept({ signal: watched.signal }));
    const next = listener.accept(WAIT);
    watched.abort("enough");
    expect(await reasonOf(cancelled)).toBe("enough");
    using client = connectTo(listener);
    using served = await next;
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    expect([watched.added, watched.listeners.size, waiters()]).toEqual([1, 0, 0]);
    expect(await reasonOf(listener.accept({ signal: watched.signal }))).toBe("enough");
  });

  test("close settles those who wait", async () => {
    const listener = TcpListener.listen(ANY);
    const pending = [waiting(() => listener.accept()), listener.accept(WAIT)];
    listener.close();
    for (const promise of pending) expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
    for (const call of ["tryAccept", "acceptSync", "connections"] as const)
      expect(() => listener[call]()).toThrow(ClosedError);
    expect(await reasonOf(listener.accept())).toBeInstanceOf(ClosedError);
  });

  test("on what does not listen is EINVAL", async () => {
    using socket = TcpSocket.open("ipv4");
    expect(systemErrorOf(() => socket.tryAccept())).toMatchObject({
      code: "EINVAL",
      syscall: "accept4",
    });
    expect(await reasonOf(socket.accept())).toMatchObject({ code: "EINVAL" });
    using udp = UdpSocket.bind(ANY);
    expect(systemErrorOf(() => udp.tryAccept()).code).toBe("ENOTSUP");
    using listener = TcpListener.listen(ANY);
    listener.shutdown("both");
    expect(systemErrorOf(() => listener.tryAccept()).code).toBe("EINVAL");
    expect(await reasonOf(listener.connections().next() as Promise<unknown>)).toMatchObject({
      code: "EINVAL",
    });
  });

  test.each(
    Object.entries({
      ECONNABORTED,
      EHOSTDOWN,
      EHOSTUNREACH,
      EINTR,
      ENETDOWN,
      ENETUNREACH,
      ENONET,
      ENOPROTOOPT,
      EOPNOTSUPP,
      EPROTO,
    }),
  )("%s befalls one connection, and the next one is taken", async (_, errno) => {
    using listener = TcpListener.listen(ANY);
    const clients = Array.from({ length: 4 }, () => connectTo(listener));
    using _clients = closing(clients);
    const served: TcpSocket[] = [];
    using _served = closing(served);
    const injected = () => failFirst("accept4", [errno, errno]);
    {
      using _fault = injected();
      served.push(listener.tryAccept() as TcpSocket);
    }
    {
      using _fault = injected();
      served.push(listener.acceptSync(WAIT));
    }
    {
      using _fault = injected();
      served.push(await listener.accept(WAIT));
    }
    {
      using _fault = injected();
      for await (const connection of listener) {
        served.push(connection);
        break;
      }
    }
    expect(served.map(({ remoteAddress }) => `${remoteAddress}`)).toEqual(
      clients.map(({ localAddress }) => `${localAddress}`),
    );
  });

  test("a client that breaks off before it is taken harms nobody", async () => {
    using listener = TcpListener.listen(ANY);
    const gone = connectTo(listener);
    const peer = `${gone.localAddress}`;
    gone.setOption(SocketOption.lingerMs, 0);
    gone.close();
    using client = connectTo(listener);
    const served: TcpSocket[] = [];
    using _served = closing(served);
    for await (const connection of listener) {
      served.push(connection);
      if (served.length === 2) break;
    }
    const [first, second] = served as [TcpSocket, TcpSocket];
    // Linux hands it out all the same, and tells when it is used.
    expect(`${first.remoteAddress}`).toBe(peer);
    expect(systemErrorOf(() => first.receiveSync(new Uint8Array(1))).code).toBe("ECONNRESET");
    expect(`${second.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("what is said each time is an error in the end, and no loop without one", () => {
    using listener = TcpListener.listen(ANY);
    using fault = replaceEntry("accept4", () => failWith(EPROTO));
    expect(systemErrorOf(() => listener.tryAccept()).code).toBe("EPROTO");
    expect(fault.calls).toBeLessThan(2000);
  });

  test.each([
    ["EMFILE", EMFILE],
    ["ENFILE", ENFILE],
  ])("%s comes with a hint, and the connection goes on waiting", async (code, errno) => {
    using listener = TcpListener.listen(ANY);
    using client = connectTo(listener);
    {
      using _fault = failFirst("accept4", [errno, errno, errno]);
      for (const run of [() => listener.tryAccept(), () => listener.acceptSync(WAIT)]) {
        const error = systemErrorOf(run);
        expect(error.code).toBe(code);
        expect(error.hint).toContain("sockets open in this thread");
      }
      expect(await reasonOf(listener.accept())).toMatchObject({ code });
    }
    using served = listener.acceptSync({ timeoutMs: 0 });
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    expect(listener.dropped).toBe(0);
  });
});

describe("for await", () => {
  test("takes a burst of 1000 connections in order", async () => {
    using listener = TcpListener.listen(ANY, { backlog: 1000 });
    const clients = Array.from({ length: 1000 }, () => connectTo(listener));
    using _clients = closing(clients);
    const peers: string[] = [];
    let turnsMeanwhile = 0;
    const interval = setInterval(() => turnsMeanwhile++, 0);
    for await (const connection of listener) {
      peers.push(`${connection.remoteAddress}`);
      connection.close();
      if (peers.length === clients.length) break;
    }
    clearInterval(interval);
    expect(peers).toEqual(clients.map(({ localAddress }) => `${localAddress}`));
    // Nobody else has starved.
    expect(turnsMeanwhile).toBeGreaterThan(0);
    expect(listener.dropped).toBe(0);
  });

  test("waits for connections that come later, and ends when the listener is closed", async () => {
    const before = openDescriptors();
    const listener = TcpListener.listen(ANY);
    const peers: string[] = [];
    const served = (async () => {
      for await (const connection of listener) {
        using _ = connection;
        peers.push(`${connection.remoteAddress}`);
      }
      return "ended";
    })();
    const expected: string[] = [];
    for (let i = 0; i < 3; i++) {
      using client = await TcpSocket.connect(listener.localAddress, WAIT);
      expected.push(`${client.localAddress}`);
      await until(() => peers.length > i, "it is accepted");
    }
    listener.close();
    expect(await served).toBe("ended");
    expect(peers).toEqual(expected);
    expect(openDescriptors()).toBe(before);
  });

  test("ends when the listener is detached, whose connections go on waiting", async () => {
    const listener = TcpListener.listen(ANY);
    const step = waiting(() => listener.connections().next() as Promise<unknown>);
    using again = TcpListener.adopt(listener.detach(), { own: true });
    expect(await step).toEqual({ value: undefined, done: true });
    using client = connectTo(again);
    using served = again.acceptSync(WAIT);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("is cancelled by a signal, with its reason", async () => {
    using listener = TcpListener.listen(ANY);
    const watched = new WatchedSignal();
    const step = waiting(
      () => listener.connections({ signal: watched.signal }).next() as Promise<unknown>,
    );
    watched.abort("enough");
    expect(await reasonOf(step)).toBe("enough");
    expect(watched.listeners.size).toBe(0);
    const late = listener.connections({ signal: watched.signal });
    expect(await reasonOf(late.next() as Promise<unknown>)).toBe("enough");
    expect(() => listener.connections({ signal: {} as AbortSignal })).toThrow(TypeError);
    expect(() => listener.connections(7 as unknown as object)).toThrow(TypeError);
  });

  test("return() ends a step that waits, and takes no connection with it", async () => {
    using listener = TcpListener.listen(ANY);
    const iterator = listener[Symbol.asyncIterator]();
    const step = waiting(() => iterator.next() as Promise<unknown>);
    await iterator.return?.();
    expect(await step).toEqual({ value: undefined, done: true });
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
    using client = connectTo(listener);
    using served = listener.acceptSync({ timeoutMs: 0 });
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("without descriptors takes a connection with its spare one, closes it and counts it", async () => {
    using listener = TcpListener.listen(ANY);
    using first = connectTo(listener);
    using second = connectTo(listener);
    const iterator = listener.connections();
    {
      // The call that fails, and not the one with the spare descriptor.
      using _fault = failFirst("accept4", [EMFILE]);
      const step = await iterator.next();
      using served = step.value as TcpSocket;
      expect(`${served.remoteAddress}`).toBe(`${second.localAddress}`);
    }
    expect(listener.dropped).toBe(1);
    expect(first.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
    await iterator.return?.();
  });

  test.each([
    ["EMFILE", EMFILE],
    ["ENFILE", ENFILE],
    ["ENOBUFS", ENOBUFS],
    ["ENOMEM", ENOMEM],
  ])("survives %s that the spare descriptor does not cure", async (_, errno) => {
    using listener = TcpListener.listen(ANY);
    using client = connectTo(listener);
    using fault = failFirst("accept4", [errno, errno, errno, errno, errno, errno]);
    const iterator = listener.connections();
    const step = await iterator.next();
    using served = step.value as TcpSocket;
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    expect(fault.calls).toBe(7);
    expect(listener.dropped).toBe(0);
    await iterator.return?.();
  });

  test("looks again after a pause while there is no room, and not all the time", async () => {
    using listener = TcpListener.listen(ANY);
    using client = connectTo(listener);
    const { accept4 } = libc;
    let hasRoom = false;
    using fault = replaceEntry("accept4", (...values: Parameters<typeof accept4>) =>
      hasRoom ? accept4(...values) : failWith(ENOMEM),
    );
    const iterator = listener.connections();
    const step = iterator.next();
    setTimeout(() => {
      hasRoom = true;
    }, 30);
    using served = (await step).value as TcpSocket;
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    expect(fault.calls).toBeLessThan(100);
    await iterator.return?.();
  });

  test("takes its spare descriptor later, where there was none at first", async () => {
    using listener = TcpListener.listen(ANY);
    using eventfd = failFirst("eventfd", [EMFILE]);
    using first = connectTo(listener);
    using second = connectTo(listener);
    const iterator = listener.connections();
    for (const client of [first, second]) {
      using served = (await iterator.next()).value as TcpSocket;
      expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
    }
    expect(eventfd.calls).toBe(2);
    await iterator.return?.();
  });

  test("any other error ends it", async () => {
    using listener = TcpListener.listen(ANY);
    using _fault = failFirst("accept4", [22]);
    const iterator = listener.connections();
    expect(await reasonOf(iterator.next() as Promise<unknown>)).toBeInstanceOf(SystemError);
    expect(await iterator.next()).toEqual({ value: undefined, done: true });
  });

  test("keeps one descriptor beside, and gives it back at the end", async () => {
    using eventfd = replaceEntry("eventfd", libc.eventfd);
    using close = replaceEntry("close", libc.close);
    using listener = TcpListener.listen(ANY);
    const iterator = listener.connections();
    expect(eventfd.calls).toBe(1);
    const closed = close.calls;
    await iterator.return?.();
    await iterator.return?.();
    expect(close.calls).toBe(closed + 1);
  });

  test("serves on at the limit of open descriptors of a real process", () => {
    const program = join(import.meta.dir, "tcp_listener_limit.ts");
    const { exitCode, stdout, stderr } = Bun.spawnSync(
      ["sh", "-c", `ulimit -n 64; exec "$0" "$1"`, process.execPath, program],
      { env: { ...process.env } },
    );
    expect(stderr.toString()).toBe("");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout.toString())).toEqual({
      plain: "EMFILE",
      dropped: 5,
      ended: 5,
      servedAfter: true,
    });
  });
});

describe("adopt() and duplicate()", () => {
  test("a duplicate is a TcpListener, and outlives the first", () => {
    const listener = TcpListener.listen(ANY);
    using second = listener.duplicate();
    expect(second).toBeInstanceOf(TcpListener);
    listener.close();
    using client = connectTo(second);
    using served = second.acceptSync(WAIT);
    expect(served).toBeInstanceOf(TcpSocket);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("a duplicate of its descriptor is adopted", () => {
    using listener = TcpListener.listen(ANY);
    using adopted = TcpListener.adopt(listener.descriptor);
    using client = connectTo(adopted);
    using served = adopted.acceptSync(WAIT);
    expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
  });

  test("refuses every other kind, and says which it is", () => {
    using udp = UdpSocket.bind(ANY);
    using connecting = TcpSocket.open("ipv4");
    using unix = Socket.create("unix", "stream");
    const before = openDescriptors();
    expect(() => TcpListener.adopt(udp.descriptor)).toThrow(
      `as a TCP listener: it is ipv4 datagram`,
    );
    expect(() => TcpListener.adopt(unix.descriptor)).toThrow(
      "as a TCP listener: it is unix stream",
    );
    expect(() => TcpListener.adopt(connecting.descriptor)).toThrow(
      `Cannot adopt descriptor ${connecting.descriptor} as a TCP listener: it does not listen`,
    );
    expect(() => TcpListener.adopt(-1)).toThrow(RangeError);
    expect(openDescriptors()).toBe(before);
  });

  test("is made by its functions only", () => {
    const Constructor = TcpListener as unknown as new () => unknown;
    expect(() => new Constructor()).toThrow("Cannot construct a socket");
  });
});
