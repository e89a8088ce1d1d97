/** UnixSocket: connecting, pairs, half-close, and what it refuses. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ClosedError,
  type Socket,
  TcpSocket,
  TimeoutError,
  UnixAddress,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { libc } from "../../lib/ffi/libc.ts";
import { StreamSocket } from "../../lib/stream_socket.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { replaceEntry } from "../support/faults.ts";
import { reasonOf, startPoller, WatchedSignal, waiting } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

/** A folder that goes, with all that is in it, at the end of the block. */
class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bun-sockets-"));

  file(name: string): string {
    return join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

const forms = [
  ["connect", (...values: unknown[]) => UnixSocket.connect(...(values as [string]))],
  ["connectSync", async (...values: unknown[]) => UnixSocket.connectSync(...(values as [string]))],
] as const;

describe.each(forms)("%s()", (_form, connect) => {
  test("connects to an address, its text, or a path", async () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    using listener = UnixListener.listen(path);
    const before = openDescriptors();
    for (const target of [new UnixAddress(path), `unix:${path}`, path]) {
      using client = await connect(target, WAIT);
      using served = listener.acceptSync(WAIT);
      expect(client).toBeInstanceOf(UnixSocket);
      expect(client).toBeInstanceOf(StreamSocket);
      expect([client.family, client.type, client.connected]).toEqual(["unix", "stream", true]);
      expect([client.inheritable, served.inheritable]).toEqual([false, false]);
      expect(`${client.remoteAddress}`).toBe(`unix:${path}`);
      expect(served.remoteAddress).toEqual(UnixAddress.unnamed);
      client.sendSync("question");
      expect(textOf(served.receiveBytesSync(100, WAIT))).toBe("question");
    }
    expect(openDescriptors()).toBe(before);
  });

  test("connects from a name of its own, which the listener sees", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed);
    const localAddress = `unix:@client-${process.pid}`;
    using client = await connect(listener.localAddress, { ...WAIT, localAddress });
    using served = listener.acceptSync(WAIT);
    expect(`${served.remoteAddress}`).toBe(localAddress);
    expect(`${client.localAddress}`).toBe(localAddress);
    const before = openDescriptors();
    expect(await reasonOf(connect(listener.localAddress, { localAddress }))).toMatchObject({
      code: "EADDRINUSE",
      syscall: "bind",
    });
    expect(openDescriptors()).toBe(before);
  });

  test("says what is wrong with the path, with a hint, and leaks nothing", async () => {
    using folder = new Folder();
    const stale = folder.file("stale.sock");
    UnixListener.listen(stale, { unlinkOnClose: false }).close();
    const plain = folder.file("plain");
    writeFileSync(plain, "");
    const packets = folder.file("packets.sock");
    using _packets = UnixListener.listen(packets, { type: "seqpacket" });
    const before = openDescriptors();
    for (const [path, code, hint] of [
      [folder.file("nobody.sock"), "ENOENT", "Nobody is bound to that path"],
      [stale, "ECONNREFUSED", "left behind"],
      [plain, "ECONNREFUSED", "left behind"],
      [packets, "EPROTOTYPE", "another type"],
    ] as const) {
      const error = await reasonOf(connect(path, WAIT));
      expect(error).toMatchObject({ name: "SystemError", code, syscall: "connect", path });
      expect((error as { hint: string }).hint).toContain(hint);
    }
    expect(openDescriptors()).toBe(before);
  });

  test("sets the options before it connects; what configure throws is thrown", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed);
    const seen: unknown[] = [];
    const configure = (socket: Socket) => seen.push(socket, socket.connected);
    using client = await connect(listener.localAddress, {
      ...WAIT,
      sendBufferBytes: 32768,
      configure,
    });
    expect(seen).toEqual([client, false]);
    expect(client.sendBuffer.effectiveBytes).toBe(32768);
    const before = openDescriptors();
    const failing = () => {
      throw new Error("not like that");
    };
    expect(await reasonOf(connect(listener.localAddress, { configure: failing }))).toMatchObject({
      message: "not like that",
    });
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ["", {}, TypeError],
    ["x.sock", {}, TypeError],
    ["127.0.0.1:80", {}, TypeError],
    [undefined, {}, TypeError],
    ["unix:@x", { timeoutMs: -1 }, RangeError],
    ["unix:@x", { timeoutMs: Number.NaN }, RangeError],
    ["unix:@x", { localAddress: 7 }, TypeError],
    ["unix:@x", { localAddress: "127.0.0.1:0" }, TypeError],
    ["unix:@x", null, TypeError],
    ["unix:@x", 7, TypeError],
  ])("refuses %j with %j before anything is opened", async (address, options, error) => {
    using socket = replaceEntry("socket", libc.socket);
    expect(await reasonOf(connect(address, options))).toBeInstanceOf(error);
    expect(socket.calls).toBe(0);
  });

  test("tells of a host and a port where they belong", async () => {
    for (const text of ["127.0.0.1:80", "localhost:80", "[::1]:80"])
      expect(`${await reasonOf(connect(text))}`).toMatch(
        /expected .*"unix:\/path" or "unix:@name"; "host:port" belongs to TcpSocket or UdpSocket$/,
      );
  });

  test("out of time tells the path and the limit", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed, { backlog: 0 });
    const { localAddress } = listener;
    using _first = await connect(localAddress, WAIT);
    expect(await reasonOf(connect(localAddress, { timeoutMs: 5 }))).toMatchObject({
      name: "TimeoutError",
      message: `connect ETIMEDOUT ${localAddress}: timed out after 5 ms`,
      timeoutMs: 5,
    });
  });
});

describe("connect()", () => {
  test("is cancelled by a signal while the queue is full, and leaves nothing", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed, { backlog: 0 });
    using _first = UnixSocket.connectSync(listener.localAddress, WAIT);
    const before = openDescriptors();
    const watched = new WatchedSignal();
    const { signal } = watched;
    const pending = waiting(() => UnixSocket.connect(listener.localAddress, { signal }));
    watched.abort("enough");
    expect(await reasonOf(pending)).toBe("enough");
    expect(await reasonOf(UnixSocket.connect(listener.localAddress, { signal }))).toBe("enough");
    expect(watched.listeners.size).toBe(0);
    expect(openDescriptors()).toBe(before);
    const wrong = UnixSocket.connect(listener.localAddress, { signal: 7 as never });
    expect(await reasonOf(wrong)).toBeInstanceOf(TypeError);
  });
});

describe("open()", () => {
  test("makes a socket that connects by its own call, once", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed);
    using unix = UnixSocket.open();
    expect([unix.connected, unix.remoteAddress, unix.peerCredentials]).toEqual([
      false,
      undefined,
      undefined,
    ]);
    await unix.connect(listener.localAddress, WAIT);
    expect(`${unix.remoteAddress}`).toBe(`${listener.localAddress}`);
    expect(systemErrorOf(() => unix.connectSync(listener.localAddress)).code).toBe("EISCONN");
  });

  test("what does not listen accepts nothing", async () => {
    using unix = UnixSocket.open();
    expect(systemErrorOf(() => unix.tryAccept()).code).toBe("EINVAL");
    expect(await reasonOf(unix.accept())).toMatchObject({ code: "EINVAL" });
    expect(systemErrorOf(() => unix.receiveSync(new Uint8Array(1))).code).toBe("EINVAL");
    expect(systemErrorOf(() => unix.sendSync("x")).code).toBe("ENOTCONN");
  });
});

describe("pair()", () => {
  test("has half-close, and knows its peer", async () => {
    const [left, right] = UnixSocket.pair();
    using _left = left;
    using _right = right;
    expect([left, right].every((each) => each instanceof UnixSocket)).toBe(true);
    expect(left.peerCredentials).toEqual({
      processId: process.pid,
      userId: process.getuid?.() as number,
      groupId: process.getgid?.() as number,
    });
    left.sendSync("last words");
    left.shutdown("write");
    expect(textOf(await right.receiveBytes(100, WAIT))).toBe("last words");
    expect(await right.receive(new Uint8Array(1), WAIT)).toBe(0);
    await right.send("and yet");
    expect(textOf(await left.receiveBytes(100, WAIT))).toBe("and yet");
    expect(systemErrorOf(() => left.sendSync("more")).code).toBe("EPIPE");
  });

  test("remembers its peer's name", () => {
    const [left, right] = UnixSocket.pair();
    expect(left.remoteAddress).toEqual(UnixAddress.unnamed);
    right.close();
    expect(left.remoteAddress).toEqual(UnixAddress.unnamed);
    left.close();
    expect(() => left.remoteAddress).toThrow(ClosedError);
    expect(() => left.peerCredentials).toThrow(ClosedError);
  });
});

describe("adopt() and duplicate()", () => {
  test("give UnixSockets of the same connection", () => {
    const [left, right] = UnixSocket.pair();
    using _right = right;
    using second = left.duplicate();
    using adopted = UnixSocket.adopt(left.detach(), { own: true });
    expect([second, adopted].every((each) => each instanceof UnixSocket)).toBe(true);
    second.sendSync("one ");
    adopted.sendSync("two");
    expect(textOf(right.receiveBytesSync(100, WAIT))).toBe("one two");
  });

  test("adopt() refuses every other kind, and says which it is", () => {
    using listener = UnixListener.listen(UnixAddress.unnamed);
    const [packets, others] = UnixSeqpacketSocket.pair();
    using _packets = packets;
    using _others = others;
    using tcp = TcpSocket.open("ipv4");
    expect(() => UnixSocket.adopt(listener.descriptor)).toThrow("a Unix stream socket: it listens");
    expect(() => UnixSocket.adopt(packets.descriptor)).toThrow("it is unix seqpacket");
    expect(() => UnixSocket.adopt(tcp.descriptor)).toThrow("it is ipv4 stream");
  });
});

test("a client's own path stays when it is closed, and is nobody's to remove here", () => {
  using folder = new Folder();
  using listener = UnixListener.listen(UnixAddress.unnamed);
  const localAddress = folder.file("client.sock");
  UnixSocket.connectSync(listener.localAddress, { ...WAIT, localAddress }).close();
  expect(existsSync(localAddress)).toBe(true);
});

test("every call after close says that it is closed", async () => {
  const [unix, peer] = UnixSocket.pair();
  peer.close();
  unix.close();
  const target = new Uint8Array(1);
  const calls: readonly (() => unknown)[] = [
    () => unix.bind("unix:@x"),
    () => unix.connectSync("unix:@x"),
    () => unix.listen(),
    () => unix.acceptSync(),
    () => unix.sendSync("x"),
    () => unix.receiveSync(target),
    () => unix.shutdown("both"),
    () => unix.duplicate(),
    () => unix.detach(),
    () => unix.localAddress,
  ];
  for (const call of calls) expect(caught(call)).toBeInstanceOf(ClosedError);
  for (const promise of [
    unix.connect("unix:@x"),
    unix.accept(),
    unix.send("x"),
    unix.receive(target),
  ])
    expect(await reasonOf(promise)).toBeInstanceOf(ClosedError);
});

test("a receive that finds nothing is out of time, and the next one gets what comes", async () => {
  const [left, right] = UnixSocket.pair();
  using _left = left;
  using _right = right;
  expect(await reasonOf(left.receive(new Uint8Array(1), { timeoutMs: 0 }))).toBeInstanceOf(
    TimeoutError,
  );
  right.sendSync("x");
  expect(await left.receive(new Uint8Array(1), WAIT)).toBe(1);
});
