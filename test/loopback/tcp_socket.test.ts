/** TcpSocket: connecting by address and by name, half-close, and what it refuses. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  AddressList,
  ClosedError,
  ConnectError,
  Inet4Address,
  type InetAddress,
  IpOption,
  parseAddress,
  Socket,
  SocketOption,
  SystemError,
  TcpListener,
  TcpOption,
  TcpSocket,
  TimeoutError,
  UdpSocket,
} from "bun-sockets";
import { EMFILE, ENOBUFS, ENOPROTOOPT, ENOTCONN } from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import { StreamSocket } from "../../lib/stream_socket.ts";
import { readTcpInfo, type TcpInfo } from "../../lib/tcp_info.ts";
import { tcp_info } from "../../structs/tcp_info.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { reasonOf, startPoller, until, WatchedSignal, waiting } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
const ANY = "127.0.0.1:0";

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

/** An address where nobody listens. */
function closedPort(host = "127.0.0.1"): InetAddress {
  using listener = TcpListener.listen(`${host}:0`);
  return listener.localAddress;
}

/** Does it with a port that is free; another process may have taken it meanwhile. */
async function withFreePort(work: (address: InetAddress) => Promise<void>): Promise<void> {
  for (let tries = 1; ; tries++) {
    const address = closedPort();
    const { port } = address;
    const error = await work(address).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (error === undefined) return;
    const isTaken = error instanceof SystemError && error.code === "EADDRNOTAVAIL";
    if (!isTaken || tries === 10) throw new Error(`with port ${port}`, { cause: error });
  }
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

/** Both forms of connect, as one that returns a promise. */
const forms = [
  ["connect", (...values: unknown[]) => TcpSocket.connect(...(values as [string]))],
  ["connectSync", async (...values: unknown[]) => TcpSocket.connectSync(...(values as [string]))],
] as const;

describe.each(forms)("%s()", (form, connect) => {
  test("connects to an address, to its text, and to a host and a port", async () => {
    const before = openDescriptors();
    {
      using listener = TcpListener.listen(ANY);
      const { localAddress } = listener;
      for (const target of [
        [localAddress],
        [`${localAddress}`],
        ["127.0.0.1", localAddress.port],
        ["127.0.0.1", `${localAddress.port}`],
      ]) {
        using client = await connect(...target, WAIT);
        using served = listener.acceptSync(WAIT);
        expect(client).toBeInstanceOf(TcpSocket);
        expect(client).toBeInstanceOf(Socket);
        expect([client.family, client.type, client.connected]).toEqual(["ipv4", "stream", true]);
        expect(client.inheritable).toBe(false);
        expect(`${client.remoteAddress}`).toBe(`${localAddress}`);
        expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
      }
    }
    expect(openDescriptors()).toBe(before);
  });

  test("tries no address that the list of `allowed` denies, of whatever name", async () => {
    const before = openDescriptors();
    using listener = TcpListener.listen(ANY);
    const { localAddress } = listener;
    const outside = new AddressList().deny("127.0.0.0/8").deny("::1");
    const byAddress = await reasonOf(connect(localAddress, { ...WAIT, allowed: outside }));
    expect(byAddress).toMatchObject({ code: "EACCES", address: "127.0.0.1" });
    const byName = await reasonOf(
      connect("localhost", localAddress.port, { ...WAIT, allowed: outside }),
    );
    expect(byName).toBeInstanceOf(ConnectError);
    const { errors } = byName as ConnectError;
    expect(errors.length).toBeGreaterThan(0);
    for (const error of errors) expect(error).toMatchObject({ code: "EACCES" });
    expect(listener.tryAccept()).toBeUndefined();

    const inside = new AddressList({ otherwise: "deny" }).allow("127.0.0.1");
    using client = await connect("localhost", localAddress.port, { ...WAIT, allowed: inside });
    expect(`${client.remoteAddress}`).toBe(`${localAddress}`);
    for (const wrong of [null, {}, ["127.0.0.1"], "127.0.0.1"]) {
      const refused = await reasonOf(connect(localAddress, { ...WAIT, allowed: wrong }));
      expect(refused).toBeInstanceOf(TypeError);
    }
    expect(openDescriptors()).toBe(before + 2);
  });

  test("connects over IPv6", async () => {
    using listener = TcpListener.listen("[::1]:0");
    using client = await connect("::1", listener.localAddress.port, WAIT);
    using byText = await connect(`[::1]:${listener.localAddress.port}`, WAIT);
    expect([client.family, byText.family]).toEqual(["ipv6", "ipv6"]);
  });

  test("connects to the first address of a name that answers", async () => {
    using listener = TcpListener.listen(ANY);
    const { port } = listener.localAddress;
    for (const target of [["localhost", port], [`localhost:${port}`], ["localhost", `${port}`]]) {
      const before = openDescriptors();
      using client = await connect(...target, WAIT);
      using served = listener.acceptSync(WAIT);
      // ::1 was asked first, and has refused.
      expect(`${client.remoteAddress}`).toBe(`127.0.0.1:${port}`);
      expect(`${served.remoteAddress}`).toBe(`${client.localAddress}`);
      expect(openDescriptors()).toBe(before + 2);
    }
  });

  test("tries addresses of the asked family only", async () => {
    using listener = TcpListener.listen(ANY);
    const { port } = listener.localAddress;
    const error = (await reasonOf(
      connect("localhost", port, { ...WAIT, family: "ipv6" }),
    )) as ConnectError;
    expect(error.errors.map(({ address }) => address)).toEqual(["::1"]);
    using client = await connect("localhost", port, { ...WAIT, family: "ipv4" });
    expect(client.family).toBe("ipv4");
  });

  test("tells every attempt where no address of a name answers", async () => {
    const before = openDescriptors();
    const { port } = closedPort();
    const error = (await reasonOf(connect("localhost", port, WAIT))) as ConnectError;
    expect(error).toBeInstanceOf(ConnectError);
    expect(error).toMatchObject({ host: "localhost", service: port, code: "ECONNREFUSED" });
    expect(error.errors.map((each) => each instanceof SystemError && each.destination)).toEqual([
      `[::1]:${port}`,
      `127.0.0.1:${port}`,
    ]);
    expect(openDescriptors()).toBe(before);
  });

  test("tells the error of a single address itself", async () => {
    const before = openDescriptors();
    const address = closedPort();
    for (const target of [[address], [`${address}`], [address.host, address.port]]) {
      expect(await reasonOf(connect(...target, WAIT))).toMatchObject({
        name: "SystemError",
        code: "ECONNREFUSED",
        errno: -111,
        syscall: "connect",
        address: "127.0.0.1",
        port: address.port,
        destination: `${address}`,
      });
    }
    expect(openDescriptors()).toBe(before);
  });

  test("sets the options before it connects, and calls configure", async () => {
    using listener = TcpListener.listen(ANY);
    const seen: unknown[] = [];
    using client = await connect(listener.localAddress, {
      ...WAIT,
      noDelay: true,
      receiveBufferBytes: 65536,
      configure: (socket: Socket) => {
        seen.push(socket, socket.connected);
        socket.setOption(SocketOption.keepAlive, true);
      },
    });
    expect(seen).toEqual([client, false]);
    expect([client.noDelay, client.getOption(TcpOption.noDelay)]).toEqual([true, true]);
    expect(client.receiveBuffer.requestedBytes).toBe(65536);
    expect(client.getOption(SocketOption.keepAlive)).toBe(true);
    using usual = await connect(listener.localAddress, WAIT);
    expect(usual.noDelay).toBe(false);
  });

  test("throws what configure throws, and leaks nothing", async () => {
    using listener = TcpListener.listen(ANY);
    const before = openDescriptors();
    const configure = () => {
      throw new Error("not like that");
    };
    expect(await reasonOf(connect(listener.localAddress, { configure }))).toMatchObject({
      message: "not like that",
    });
    expect(
      await reasonOf(connect(`localhost:${listener.localAddress.port}`, { configure })),
    ).toMatchObject({
      message: "not like that",
    });
    expect(openDescriptors()).toBe(before);
  });

  test("connects from a local address, whose port is chosen late", async () => {
    using listener = TcpListener.listen(ANY);
    using client = await connect(listener.localAddress, { ...WAIT, localAddress: "127.0.0.9:0" });
    using served = listener.acceptSync(WAIT);
    expect(served.remoteAddress?.host).toBe("127.0.0.9");
    expect(served.remoteAddress?.port).toBe(client.localAddress.port);
    expect(client.getOption(IpOption.bindAddressNoPort)).toBe(true);
    using byName = await connect("localhost", listener.localAddress.port, {
      ...WAIT,
      localAddress: new Inet4Address("127.0.0.8", 0),
    });
    expect(byName.localAddress.host).toBe("127.0.0.8");
  });

  test("connects from a local port, once", async () => {
    using listener = TcpListener.listen(ANY);
    const local = closedPort("127.0.0.7");
    using client = await connect(listener.localAddress, { ...WAIT, localAddress: local });
    expect(client.localAddress.equals(local)).toBe(true);
    const before = openDescriptors();
    expect(await reasonOf(connect(listener.localAddress, { localAddress: local }))).toMatchObject({
      code: "EADDRINUSE",
      syscall: "bind",
    });
    expect(openDescriptors()).toBe(before);
  });

  test("connects from a kernel that does not know IP_BIND_ADDRESS_NO_PORT", async () => {
    using listener = TcpListener.listen(ANY);
    const { setsockopt } = libc;
    using _ = replaceEntry("setsockopt", (...values: Parameters<typeof setsockopt>) =>
      values[2] === 24 ? failWith(ENOPROTOOPT) : setsockopt(...values),
    );
    using client = await connect(listener.localAddress, { ...WAIT, localAddress: "127.0.0.9:0" });
    expect(client.localAddress.host).toBe("127.0.0.9");
  });

  test("lets the kernel choose of a range of ports", async () => {
    using listener = TcpListener.listen(ANY);
    await withFreePort(async ({ port }) => {
      const localPortRange = { low: port, high: port };
      using client = await connect(listener.localAddress, { ...WAIT, localPortRange });
      expect(client.localAddress.port).toBe(port);
    });
  });

  test("refuses a local address of another family before anything is opened", async () => {
    using socket = replaceEntry("socket", libc.socket);
    for (const target of [["127.0.0.1:80"], ["localhost", 80, { family: "ipv4" }]]) {
      const [first, second, third] = target as [string, number?, object?];
      const options = { ...third, localAddress: "[::1]:0" };
      const values = second === undefined ? [first, options] : [first, second, options];
      expect(await reasonOf(connect(...values))).toBeInstanceOf(TypeError);
    }
    expect(await reasonOf(connect("127.0.0.1:80", { family: "ipv6" }))).toBeInstanceOf(TypeError);
    expect(socket.calls).toBe(0);
  });

  test.each([
    [[""], TypeError],
    [["localhost"], TypeError],
    [["localhost:"], TypeError],
    [["::1:80"], TypeError],
    [["127.1:80"], TypeError],
    [["unix:/run/x.sock"], TypeError],
    [[undefined], TypeError],
    [[null, 80], TypeError],
    [["localhost", ""], TypeError],
    [["127.0.0.1:0"], RangeError],
    [["localhost:0"], RangeError],
    [["localhost", 0], RangeError],
    [["127.0.0.1:65536"], RangeError],
    [["localhost", 65536], RangeError],
    [["localhost", "65536"], RangeError],
    [["localhost", -1], RangeError],
    [["localhost", "-1"], RangeError],
    [["localhost", 1.5], RangeError],
    [["localhost", Number.NaN], RangeError],
    [["localhost", "http "], TypeError],
  ])("refuses %j before anything is opened", async (target, kind) => {
    using socket = replaceEntry("socket", libc.socket);
    expect(await reasonOf(connect(...target))).toBeInstanceOf(kind);
    expect(socket.calls).toBe(0);
  });

  test.each([
    [{ timeoutMs: Number.NaN }, RangeError],
    [{ timeoutMs: -1 }, RangeError],
    [{ timeoutMs: "1" }, TypeError],
    [{ attemptTimeoutMs: -1 }, RangeError],
    [{ attemptTimeoutMs: Number.NaN }, RangeError],
    [{ family: "ipv5" }, TypeError],
    [{ family: 4 }, TypeError],
    [{ noDelay: 1 }, TypeError],
    [{ localAddress: "here" }, TypeError],
    [{ localAddress: "unix:@here" }, TypeError],
    [{ configure: 7 }, TypeError],
    [{ receiveBufferBytes: 0 }, RangeError],
    [7, TypeError],
    [null, TypeError],
  ])("refuses the options %j before anything is opened", async (options, kind) => {
    using socket = replaceEntry("socket", libc.socket);
    const values = options === null ? ["localhost", 80, 7] : ["127.0.0.1:80", options];
    expect(await reasonOf(connect(...values))).toBeInstanceOf(kind);
    expect(socket.calls).toBe(0);
  });

  test("refuses an empty host, and says what to write instead", async () => {
    using socket = replaceEntry("socket", libc.socket);
    for (const values of [[""], ["", 80], ["", "http"], ["", WAIT]]) {
      const error = await reasonOf(connect(...values));
      expect(error).toBeInstanceOf(TypeError);
      const wanted =
        typeof values[1] === "number" || values[1] === "http" ? "a host" : '"host:port"';
      expect((error as Error).message).toBe(
        `Cannot connect to "": expected ${wanted}; "localhost" is this machine`,
      );
    }
    expect(socket.calls).toBe(0);
  });

  test("tells of a Unix path that it belongs to UnixSocket", async () => {
    for (const path of ["/run/x.sock", "./x.sock", "@name", "unix:/run/x.sock"]) {
      const error = await reasonOf(connect(path));
      expect(error).toBeInstanceOf(TypeError);
      expect((error as Error).message).toMatch(/expected .*"host:port".*; a Unix path belongs to /);
    }
  });

  test("tells that an address of one link lacks its zone", async () => {
    expect(await reasonOf(connect("[fe80::1]:80", WAIT))).toMatchObject({
      code: "EINVAL",
      hint: "That address is of one link: give the zone, as in fe80::1%eth0",
    });
  });

  test("out of time tells the address, or the name, and the limit", async () => {
    using listener = TcpListener.listen(ANY, { backlog: 0 });
    const { localAddress } = listener;
    const { port } = localAddress;
    // Linux completes one connection more than the backlog says; then nobody hears anything.
    using _first = TcpSocket.connectSync(localAddress, WAIT);
    const timeoutMs = 30;
    expect(await reasonOf(connect(localAddress, { timeoutMs }))).toMatchObject({
      name: "TimeoutError",
      message: `connect ETIMEDOUT ${localAddress}: timed out after 30 ms`,
      address: "127.0.0.1",
      port,
      destination: `${localAddress}`,
      timeoutMs,
    });
    const named = await reasonOf(connect("localhost", port, { timeoutMs, family: "ipv4" }));
    expect(named).toMatchObject({
      name: "TimeoutError",
      message: `connect ETIMEDOUT localhost:${port}: timed out after 30 ms`,
      host: "localhost",
      service: port,
    });
    const options = { ...WAIT, attemptTimeoutMs: timeoutMs, family: "ipv4" };
    const attempts = await reasonOf(connect("localhost", port, options));
    expect((attempts as ConnectError).errors).toMatchObject([
      { message: `connect ETIMEDOUT ${localAddress}: timed out after 30 ms` },
    ]);
  });

  test("says that there is no such service", async () => {
    expect(await reasonOf(connect("localhost", "no-such-service"))).toMatchObject({
      name: "ResolutionError",
      code: "EAI_SERVICE",
    });
  });

  test.each([Number.POSITIVE_INFINITY, 2 ** 31, 2 ** 40])("may take %d ms", async (timeoutMs) => {
    using listener = TcpListener.listen(ANY);
    using client = await connect(listener.localAddress, { timeoutMs, attemptTimeoutMs: timeoutMs });
    expect(client.connected).toBe(true);
  });

  test("with 0 ms tries once: it connects at once, or is out of time", async () => {
    using listener = TcpListener.listen(ANY);
    const before = openDescriptors();
    try {
      using client = await connect(listener.localAddress, { timeoutMs: 0 });
      expect(client.connected).toBe(true);
    } catch (error) {
      expect(error).toBeInstanceOf(TimeoutError);
    }
    expect(openDescriptors()).toBe(before);
    const { port } = closedPort();
    expect(await reasonOf(connect("localhost", port, { timeoutMs: 0 }))).toBeInstanceOf(Error);
    expect(openDescriptors()).toBe(before);
  });

  test(`${form} does not take itself for its peer`, async () => {
    // A connection from a port to the same port is one that nobody has accepted.
    const before = openDescriptors();
    await withFreePort(async (address) => {
      const localPortRange = { low: address.port, high: address.port };
      const error = await reasonOf(connect(address, { ...WAIT, localPortRange }));
      if ((error as SystemError).code === "EADDRNOTAVAIL") throw error;
      expect(error).toMatchObject({ code: "ECONNREFUSED", destination: `${address}` });
    });
    expect(openDescriptors()).toBe(before);
  });

  test(`${form} fails when the kernel does not say who has connected, and leaves nothing`, async () => {
    using listener = TcpListener.listen(ANY);
    const { localAddress } = listener;
    const before = openDescriptors();
    using fault = replaceEntry("getsockname", () => failWith(ENOBUFS));
    const error = await reasonOf(connect(localAddress, WAIT));
    expect(error).toMatchObject({ code: "ENOBUFS", syscall: "getsockname" });
    expect(fault.calls).toBe(1);
    expect(openDescriptors()).toBe(before);
  });
});

describe("connect()", () => {
  test("is cancelled by a signal, and leaves nothing", async () => {
    using listener = TcpListener.listen(ANY);
    const before = openDescriptors();
    const watched = new WatchedSignal();
    using client = await TcpSocket.connect(listener.localAddress, { signal: watched.signal });
    expect(client.connected).toBe(true);
    expect(watched.listeners.size).toBe(0);
    watched.abort("enough");
    expect(client.connected).toBe(true);
    const late = TcpSocket.connect(listener.localAddress, { signal: watched.signal });
    expect(await reasonOf(late)).toBe("enough");
    const named = TcpSocket.connect(`localhost:${listener.localAddress.port}`, {
      signal: watched.signal,
    });
    expect(await reasonOf(named)).toBe("enough");
    expect(openDescriptors()).toBe(before + 1);
    const signal = {} as AbortSignal;
    expect(await reasonOf(TcpSocket.connect(listener.localAddress, { signal }))).toBeInstanceOf(
      TypeError,
    );
  });

  test.each([-1, 1.5, Number.NaN, 2 ** 31, "5" as unknown as number])(
    "refuses staggerMs of %p",
    async (staggerMs) => {
      const error = await reasonOf(TcpSocket.connect("127.0.0.1:9", { staggerMs }));
      expect(error).toBeInstanceOf(typeof staggerMs === "string" ? TypeError : RangeError);
    },
  );

  test("many at once are all served", async () => {
    using listener = TcpListener.listen("localhost:0");
    const { port } = listener.localAddress;
    const before = openDescriptors();
    const clients = await Promise.all(
      Array.from({ length: 100 }, () => TcpSocket.connect("localhost", port, WAIT)),
    );
    expect(openDescriptors()).toBe(before + 100);
    for (const client of clients) client.close();
  });
});

describe("open()", () => {
  test("makes a socket that connects by its own call", async () => {
    using listener = TcpListener.listen(ANY);
    using byName = TcpSocket.open("ipv4", { noDelay: true });
    using byAddress = TcpSocket.open(listener.localAddress);
    using byText = TcpSocket.open("[::1]:0", { ipv6Only: true });
    expect([byName.family, byAddress.family, byText.family]).toEqual(["ipv4", "ipv4", "ipv6"]);
    expect([byName.noDelay, byName.connected, byName.remoteAddress]).toEqual([
      true,
      false,
      undefined,
    ]);
    await byName.connect(listener.localAddress, WAIT);
    byAddress.connectSync(listener.localAddress, WAIT);
    expect(`${byName.remoteAddress} ${byAddress.remoteAddress}`).toBe(
      `${listener.localAddress} ${listener.localAddress}`,
    );
  });

  test("connecting twice is EISCONN, and the connection stays", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    using _right = right;
    const peer = left.remoteAddress as InetAddress;
    expect(systemErrorOf(() => left.connectSync(peer)).code).toBe("EISCONN");
    expect(await reasonOf(left.connect(peer))).toMatchObject({ code: "EISCONN" });
    left.sendSync("still here");
    expect(textOf(right.receiveBytesSync(100, WAIT))).toBe("still here");
  });

  test("what needs a connection says ENOTCONN", async () => {
    using tcp = TcpSocket.open("ipv4");
    expect(systemErrorOf(() => tcp.receiveSync(new Uint8Array(1))).errno).toBe(-ENOTCONN);
    expect(systemErrorOf(() => tcp.sendSync("x")).code).toBe("EPIPE");
    for (const direction of ["read", "write", "both"] as const)
      expect(systemErrorOf(() => tcp.shutdown(direction)).code).toBe("ENOTCONN");
    expect(tcp.remoteAddress).toBeUndefined();
  });

  test("refuses other families and options", () => {
    expect(() => TcpSocket.open("unix:@x")).toThrow(TypeError);
    expect(() => TcpSocket.open("ipv5" as "ipv4")).toThrow(TypeError);
    expect(() => TcpSocket.open("ipv4", { ipv6Only: true })).toThrow(TypeError);
    expect(() => TcpSocket.open("ipv4", { noDelay: 1 as unknown as boolean })).toThrow(TypeError);
    using tcp = TcpSocket.open("ipv4");
    expect(() => {
      tcp.noDelay = 1 as unknown as boolean;
    }).toThrow(TypeError);
  });
});

describe("half-close", () => {
  test("the end in one direction leaves the other, and nobody closes by himself", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    using _right = right;
    left.sendSync("last words");
    left.shutdown("write");
    expect(textOf(await right.receiveBytes(100, WAIT))).toBe("last words");
    for (let i = 0; i < 3; i++) expect(await right.receive(new Uint8Array(1), WAIT)).toBe(0);
    expect([right.connected, left.connected]).toEqual([true, true]);
    await right.send("and yet");
    expect(textOf(await left.receiveBytes(100, WAIT))).toBe("and yet");
    expect(systemErrorOf(() => left.sendSync("more")).code).toBe("EPIPE");
    right.shutdown("write");
    expect(await left.receive(new Uint8Array(1), WAIT)).toBe(0);
    expect(left.descriptor).toBeGreaterThan(0);
  });

  test("the end reaches one who waits already", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    using _right = right;
    const received = waiting(() => right.receive(new Uint8Array(1), WAIT));
    left.shutdown("write");
    expect(await received).toBe(0);
  });

  test("shutdown of the own reading ends a receive that waits", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    using _right = right;
    const received = waiting(() => left.receive(new Uint8Array(1), WAIT));
    left.shutdown("read");
    expect(await received).toBe(0);
  });
});

describe("remoteAddress", () => {
  test("stays known when the peer has broken the connection off", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    const peer = `${left.remoteAddress}`;
    right.setOption(SocketOption.lingerMs, 0);
    right.close();
    expect(await reasonOf(left.receive(new Uint8Array(1), WAIT))).toMatchObject({
      code: "ECONNRESET",
    });
    expect(`${left.remoteAddress}`).toBe(peer);
  });

  test("is told before and after connecting, and not after close", () => {
    using listener = TcpListener.listen(ANY);
    const tcp = TcpSocket.open("ipv4");
    expect(tcp.remoteAddress).toBeUndefined();
    tcp.connectSync(listener.localAddress, WAIT);
    expect(`${tcp.remoteAddress}`).toBe(`${listener.localAddress}`);
    tcp.close();
    expect(() => tcp.remoteAddress).toThrow(ClosedError);
  });
});

describe("info", () => {
  test("tells of the connection", async () => {
    const [left, right] = TcpSocket.pair();
    using _left = left;
    using _right = right;
    left.sendSync("12345");
    right.receiveSync(new Uint8Array(5), WAIT);
    await until(() => (left.info.bytesAcknowledged ?? 0) >= 5, "it is acknowledged");
    const info = left.info;
    expect(info).toMatchObject({ state: "established", congestion: "open", timestamps: true });
    expect(right.info.bytesReceived).toBe(5);
    expect(info.bytesSent).toBe(5);
    expect(info.pathMtuBytes).toBeGreaterThan(1000);
    expect(info.roundTripMs).toBeGreaterThan(0);
    expect(info.roundTripMs).toBeLessThan(1000);
    right.shutdown("write");
    await until(() => left.info.state === "close-wait", "the end has come");
    using fresh = TcpSocket.open("ipv4");
    expect(fresh.info.state).toBe("closed");
  });

  test("is read of any length, field by field", () => {
    const bytes = new Uint8Array(tcp_info.size + 64).fill(0xff);
    const view = new DataView(bytes.buffer);
    tcp_info.tcpi_state.set(view, 0, 1);
    tcp_info.tcpi_ca_state.set(view, 0, 4);
    tcp_info.tcpi_options.set(view, 0, 1 | 8);
    bytes[6] = 0x7a;
    bytes[7] = 0;
    tcp_info.tcpi_rtt.set(view, 0, 1500);
    const whole = readTcpInfo(bytes);
    expect(whole).toMatchObject({
      state: "established",
      congestion: "loss",
      timestamps: true,
      selectiveAcks: false,
      ecn: true,
      sendWindowScale: 10,
      receiveWindowScale: 7,
      rateLimitedByApplication: false,
      roundTripMs: 1.5,
      pacingRate: Number.POSITIVE_INFINITY,
      sendWindowBytes: 0xffff_ffff,
    });
    const names = Object.keys(whole);
    let before = 0;
    for (let length = 0; length <= bytes.length; length++) {
      const known = Object.keys(readTcpInfo(bytes.subarray(0, length)));
      expect(names.filter((name) => known.includes(name))).toHaveLength(known.length);
      expect(known.length).toBeGreaterThanOrEqual(before);
      before = known.length;
    }
    expect(before).toBe(names.length);
    expect(readTcpInfo(bytes.subarray(0, tcp_info.size - 1)).sendWindowBytes).toBeUndefined();
    expect(readTcpInfo(new Uint8Array(0))).toEqual({} as TcpInfo);
    bytes[0] = 200;
    expect(readTcpInfo(bytes).state).toBeUndefined();
  });
});

describe("adopt(), duplicate() and pair()", () => {
  test("pair() gives two ends of one connection", () => {
    const before = openDescriptors();
    const [left, right] = TcpSocket.pair();
    expect(openDescriptors()).toBe(before + 2);
    left.sendSync("across");
    expect(textOf(right.receiveBytesSync(100, WAIT))).toBe("across");
    expect(`${left.remoteAddress}`).toBe(`${right.localAddress}`);
    expect(`${right.remoteAddress}`).toBe(`${left.localAddress}`);
    left.close();
    right.close();
  });

  test("pair() lets nobody come between", () => {
    const before = openDescriptors();
    const stranger = TcpSocket.open("ipv4");
    const { connect } = libc;
    let connects = 0;
    {
      // It is faster by one call.
      using _ = replaceEntry("connect", (...values: Parameters<typeof connect>) => {
        if (++connects === 1) connect(stranger.descriptor, values[1], values[2]);
        return connect(...values);
      });
      const [left, right] = TcpSocket.pair();
      expect(`${right.remoteAddress}`).toBe(`${left.localAddress}`);
      left.close();
      right.close();
    }
    expect(stranger.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
    stranger.close();
    using _fault = replaceEntry("accept4", () => failWith(EMFILE));
    expect(systemErrorOf(() => TcpSocket.pair()).code).toBe("EMFILE");
    expect(openDescriptors()).toBe(before);
  });

  test("a duplicate is a TcpSocket of the same connection", () => {
    const [left, right] = TcpSocket.pair();
    using _right = right;
    using second = left.duplicate();
    left.close();
    expect(second).toBeInstanceOf(TcpSocket);
    second.sendSync("from the duplicate");
    expect(textOf(right.receiveBytesSync(100, WAIT))).toBe("from the duplicate");
    expect(`${second.remoteAddress}`).toBe(`${right.localAddress}`);
  });

  test("a descriptor is adopted with its peer", () => {
    const [left, right] = TcpSocket.pair();
    using _right = right;
    using adopted = TcpSocket.adopt(left.detach(), { own: true });
    expect(adopted.connected).toBe(true);
    expect(`${adopted.remoteAddress}`).toBe(`${right.localAddress}`);
  });

  test("refuses every other kind, and says which it is", () => {
    using udp = UdpSocket.bind(ANY);
    using unix = Socket.create("unix", "stream");
    using listener = TcpListener.listen(ANY);
    const before = openDescriptors();
    expect(() => TcpSocket.adopt(udp.descriptor)).toThrow("as a TCP socket: it is ipv4 datagram");
    expect(() => TcpSocket.adopt(unix.descriptor)).toThrow("as a TCP socket: it is unix stream");
    expect(() => TcpSocket.adopt(listener.descriptor)).toThrow("as a TCP socket: it listens");
    expect(() => TcpSocket.adopt(-1)).toThrow(RangeError);
    expect(openDescriptors()).toBe(before);
  });

  test("is made by its functions only", () => {
    const Constructor = TcpSocket as unknown as new () => unknown;
    expect(() => new Constructor()).toThrow("Cannot construct a socket");
  });
});

test("every call after close says that it is closed", async () => {
  const [left, right] = TcpSocket.pair();
  right.close();
  left.close();
  left.close();
  const target = new Uint8Array(4);
  const address = parseAddress("127.0.0.1:9") as InetAddress;
  const calls: readonly (() => unknown)[] = [
    () => left.bind(address),
    () => left.tryConnect(address),
    () => left.connectSync(address),
    () => left.listen(),
    () => left.tryAccept(),
    () => left.acceptSync(),
    () => left.trySend(target),
    () => left.sendSync("x"),
    () => left.tryReceive(target),
    () => left.receiveSync(target),
    () => left.receiveBytesSync(4),
    () => left.tryReceiveFrom(target),
    () => left.shutdown("both"),
    () => left.duplicate(),
    () => left.detach(),
    () => left.localAddress,
    () => left.remoteAddress,
    () => left.noDelay,
    () => {
      left.noDelay = true;
    },
    () => left.info,
    () => left.getOption(TcpOption.noDelay),
  ];
  for (const call of calls) expect(caught(call)).toBeInstanceOf(ClosedError);
  for (const promise of [
    left.connect(address),
    left.accept(),
    left.send("x"),
    left.receive(target),
    left.receiveBytes(4),
    left.receiveFrom(target),
  ])
    expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
  expect([left.connected, left.descriptor]).toEqual([false, -1]);
});

test("is a StreamSocket", () => {
  expect(TcpSocket.prototype).toBeInstanceOf(StreamSocket);
});
