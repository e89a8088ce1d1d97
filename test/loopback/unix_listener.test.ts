/** UnixListener: paths and abstract names to listen at, and whose file goes when. */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ClosedError,
  Socket,
  SocketOption,
  TcpListener,
  UnixAddress,
  UnixDatagramSocket,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { EMFILE, EOPNOTSUPP } from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { reasonOf, startPoller, waiting } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
const TYPES = ["stream", "seqpacket"] as const;

// Its own descriptors are not counted.
beforeAll(startPoller);
afterEach(() => Bun.gc(true));

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

/** A listener of one of the types, as whoever does not know the type has it. */
function listen(
  type: "stream" | "seqpacket",
  address: UnixAddress | string = UnixAddress.unnamed,
): UnixListener<UnixSocket | UnixSeqpacketSocket> {
  return type === "stream"
    ? UnixListener.listen(address)
    : UnixListener.listen(address, { type: "seqpacket" });
}

function connectTo(listener: Socket<UnixAddress>, type: "stream" | "seqpacket") {
  const kind = type === "stream" ? UnixSocket : UnixSeqpacketSocket;
  return kind.connectSync(listener.localAddress, WAIT);
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString();
}

describe.each(TYPES)("of type %s", (type) => {
  const kind = type === "stream" ? UnixSocket : UnixSeqpacketSocket;

  test("listens at a path in one call, by address, text or path", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    const before = openDescriptors();
    for (const address of [new UnixAddress(path), `unix:${path}`, path]) {
      using listener = listen(type, address);
      expect(listener).toBeInstanceOf(Socket);
      expect([listener.family, listener.type]).toEqual(["unix", type]);
      expect(listener.localAddress.path).toBe(path);
      expect(statSync(path).isSocket()).toBe(true);
      using client = connectTo(listener, type);
      using served = listener.acceptSync(WAIT);
      client.sendSync("through the file");
      expect(textOf(served.receiveBytesSync(100, WAIT))).toBe("through the file");
    }
    expect(openDescriptors()).toBe(before);
  });

  test("listens at an abstract name, also one that the kernel chooses", () => {
    using chosen = listen(type);
    expect(chosen.localAddress.isAbstract).toBe(true);
    using named = listen(type, `unix:@listener-${type}-${process.pid}`);
    expect(named.localAddress.abstractName).toBe(`listener-${type}-${process.pid}`);
    expect([chosen.unlinkOnClose, named.unlinkOnClose]).toEqual([false, false]);
    using client = connectTo(named, type);
    expect(`${client.remoteAddress}`).toBe(`${named.localAddress}`);
  });

  test("gives sockets of its type in all forms, and in order", async () => {
    using listener = listen(type);
    expect(listener.tryAccept()).toBeUndefined();
    const clients = Array.from({ length: 4 }, (_, i) => {
      const client = connectTo(listener, type);
      client.sendSync(`client ${i}`);
      return client;
    });
    const iterator = listener.connections();
    const served = [
      listener.tryAccept(),
      listener.acceptSync(WAIT),
      await listener.accept(WAIT),
      (await iterator.next()).value,
    ];
    await iterator.return?.();
    for (const [i, socket] of served.entries()) {
      if (!(socket instanceof kind)) throw new Error(`Not a ${kind.name}: ${socket}`);
      expect([socket.connected, socket.inheritable]).toEqual([true, false]);
      expect(socket.remoteAddress?.isUnnamed).toBe(true);
      expect(textOf(socket.receiveBytesSync(100, WAIT))).toBe(`client ${i}`);
      expect(socket.peerCredentials).toMatchObject({ processId: process.pid });
      socket.close();
    }
    for (const client of clients) client.close();
  });

  test("takes a burst of 300 connections in order", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed, { type, backlog: 300 } as object);
    const clients = Array.from({ length: 300 }, (_, i) => {
      const client = connectTo(listener, type);
      client.sendSync(`${i}`);
      return client;
    });
    let next = 0;
    for await (const connection of listener) {
      using _ = connection;
      expect(textOf(connection.receiveBytesSync(10, WAIT))).toBe(`${next}`);
      if (++next === clients.length) break;
    }
    for (const client of clients) client.close();
  });

  test("a duplicate and an adopted descriptor are UnixListeners of the type", () => {
    using listener = listen(type);
    using second = listener.duplicate();
    expect(second).toBeInstanceOf(UnixListener);
    using adopted =
      type === "stream"
        ? UnixListener.adopt(listener.descriptor)
        : UnixListener.adopt(listener.descriptor, { type: "seqpacket" });
    for (const each of [second, adopted]) {
      using client = connectTo(listener, type);
      using served = each.acceptSync(WAIT);
      expect(served).toBeInstanceOf(kind);
      expect(client.connected).toBe(true);
    }
  });
});

describe("listen()", () => {
  test("gives the file the asked permissions, and takes a stale file away when asked", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    {
      using stale = Socket.create("unix", "stream");
      stale.bind(new UnixAddress(path));
    }
    const error = systemErrorOf(() => UnixListener.listen(path));
    expect(error).toMatchObject({ code: "EADDRINUSE", syscall: "bind", path });
    expect(error.hint).toContain("removeStale");
    using listener = UnixListener.listen(path, { mode: 0o600, removeStale: true });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    const taken = systemErrorOf(() => UnixListener.listen(path, { removeStale: true }));
    expect(taken).toMatchObject({ code: "EADDRINUSE", syscall: "bind", path });
    expect(taken.hint).toBe("Somebody has the socket at that path open: it is not stale");
    const file = folder.file("notes.txt");
    writeFileSync(file, "not a socket");
    const other = systemErrorOf(() => UnixListener.listen(file, { removeStale: true }));
    expect(other).toMatchObject({ code: "EADDRINUSE", syscall: "bind", path: file });
    expect(other.hint).toStartWith("What lies at that path is no socket");
    expect(readFileSync(file, "utf8")).toBe("not a socket");
    using client = UnixSocket.connectSync(path, WAIT);
    using served = listener.acceptSync(WAIT);
    expect(served.connected).toBe(client.connected);
  });

  test("has a backlog: the one who finds it full waits", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed, { backlog: 0 });
    using first = UnixSocket.connectSync(listener.localAddress, WAIT);
    const before = openDescriptors();
    expect(
      await reasonOf(UnixSocket.connect(listener.localAddress, { timeoutMs: 5 })),
    ).toMatchObject({ name: "TimeoutError", syscall: "connect" });
    expect(
      systemErrorOf(() => UnixSocket.connectSync(listener.localAddress, { timeoutMs: 5 })).name,
    ).toBe("TimeoutError");
    expect(openDescriptors()).toBe(before);
    const later = waiting(() => UnixSocket.connect(listener.localAddress, WAIT));
    using served = listener.acceptSync(WAIT);
    using second = await later;
    expect([first.connected, second.connected, served.connected]).toEqual([true, true, true]);
  });

  test("calls configure before the socket has a name; what it throws leaves nothing", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    const names: string[] = [];
    using _ = UnixListener.listen(path, {
      configure: (socket) => names.push(`${socket.localAddress}`),
    });
    expect(names).toEqual(["unix:"]);
    const before = openDescriptors();
    const configure = () => {
      throw new Error("not like that");
    };
    expect(() => UnixListener.listen(folder.file("y.sock"), { configure })).toThrow(
      "not like that",
    );
    expect(existsSync(folder.file("y.sock"))).toBe(false);
    expect(openDescriptors()).toBe(before);
  });

  test("takes the file away again when listen(2) fails", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    const before = openDescriptors();
    using _ = replaceEntry("listen", () => failWith(EOPNOTSUPP));
    const listening = () => UnixListener.listen(path, { unlinkOnClose: false });
    expect(systemErrorOf(listening)).toMatchObject({ syscall: "listen" });
    expect(existsSync(path)).toBe(false);
    expect(openDescriptors()).toBe(before);
  });

  test.each([
    ["", {}, TypeError],
    ["x.sock", {}, TypeError],
    ["127.0.0.1:80", {}, TypeError],
    [7, {}, TypeError],
    ["unix:@x", { mode: 0o600 }, TypeError],
    ["unix:@x", { removeStale: true }, TypeError],
    ["unix:@x", { type: "datagram" }, TypeError],
    ["unix:@x", { type: 1 }, TypeError],
    ["unix:@x", { type: "toString" }, TypeError],
    ["unix:@x", { unlinkOnClose: 1 }, TypeError],
    ["unix:@x", { backlog: -1 }, RangeError],
    ["/x", { mode: 0o1777 }, RangeError],
    ["unix:@x", null, TypeError],
  ])("refuses %j with %j before anything is opened", (address, options, error) => {
    using socket = replaceEntry("socket", libc.socket);
    expect(() => UnixListener.listen(address as string, options as object)).toThrow(error);
    expect(socket.calls).toBe(0);
  });
});

describe("adopt()", () => {
  test("refuses every other kind, and says which it is", () => {
    using stream = UnixListener.listen(UnixAddress.unnamed);
    using seqpacket = UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" });
    using tcp = TcpListener.listen("127.0.0.1:0");
    using datagram = UnixDatagramSocket.open();
    using fresh = UnixSocket.open();
    const before = openDescriptors();
    expect(() => UnixListener.adopt(seqpacket.descriptor)).toThrow(
      "as a Unix stream listener: it is unix seqpacket",
    );
    expect(() => UnixListener.adopt(stream.descriptor, { type: "seqpacket" })).toThrow(
      "as a Unix seqpacket listener: it is unix stream",
    );
    expect(() => UnixListener.adopt(tcp.descriptor)).toThrow("it is ipv4 stream");
    expect(() => UnixListener.adopt(datagram.descriptor)).toThrow("it is unix datagram");
    expect(() => UnixListener.adopt(fresh.descriptor)).toThrow("it does not listen");
    expect(() => UnixListener.adopt(stream.descriptor, { type: 7 as never })).toThrow(TypeError);
    expect(openDescriptors()).toBe(before);
  });
});

describe("unlinkOnClose", () => {
  test("close removes the file, before the socket is closed", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    const listener = UnixListener.listen(path);
    expect(listener.unlinkOnClose).toBe(true);
    const { unlink } = libc;
    const connects: boolean[] = [];
    {
      using _ = replaceEntry("unlink", (...values: Parameters<typeof unlink>) => {
        // Nobody finds a file where nobody listens.
        using client = UnixSocket.connectSync(path, WAIT);
        connects.push(client.connected);
        return unlink(...values);
      });
      listener.close();
      listener.close();
    }
    expect(connects).toEqual([true]);
    expect(existsSync(path)).toBe(false);
    expect(() => listener.acceptSync()).toThrow(ClosedError);
    UnixListener.listen(path).close();
  });

  test("does so at the end of a block, and after an error", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    expect(() => {
      using _ = UnixListener.listen(path);
      throw new Error("on the way");
    }).toThrow("on the way");
    expect(existsSync(path)).toBe(false);
  });

  test("set to false leaves the file, as an option or later", () => {
    using folder = new Folder();
    const first = folder.file("first.sock");
    const second = folder.file("second.sock");
    UnixListener.listen(first, { unlinkOnClose: false }).close();
    const listener = UnixListener.listen(second);
    listener.unlinkOnClose = false;
    listener.close();
    expect([existsSync(first), existsSync(second)]).toEqual([true, true]);
    const third = UnixListener.listen(folder.file("third.sock"), { unlinkOnClose: false });
    third.unlinkOnClose = true;
    third.close();
    expect(existsSync(folder.file("third.sock"))).toBe(false);
  });

  test("leaves what somebody else has put in its place", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    const listener = UnixListener.listen(path);
    renameSync(path, folder.file("moved.sock"));
    using other = UnixListener.listen(path);
    listener.close();
    expect(existsSync(path)).toBe(true);
    expect(existsSync(folder.file("moved.sock"))).toBe(true);
    using client = UnixSocket.connectSync(path, WAIT);
    using served = other.acceptSync(WAIT);
    expect(served.connected).toBe(client.connected);

    const plain = UnixListener.listen(folder.file("y.sock"));
    rmSync(folder.file("y.sock"));
    writeFileSync(folder.file("y.sock"), "not a socket");
    plain.close();
    expect(existsSync(folder.file("y.sock"))).toBe(true);
  });

  test("does not mind that the file or its folder is gone", () => {
    const listener = (() => {
      using folder = new Folder();
      return UnixListener.listen(folder.file("x.sock"));
    })();
    listener.close();
  });

  test("finds its file from another working directory", () => {
    using folder = new Folder();
    const before = process.cwd();
    try {
      process.chdir(folder.path);
      const listener = UnixListener.listen("./x.sock");
      process.chdir("/");
      expect(existsSync(folder.file("x.sock"))).toBe(true);
      listener.close();
      expect(existsSync(folder.file("x.sock"))).toBe(false);
    } finally {
      process.chdir(before);
    }
  });

  test("is not for duplicates, adopted descriptors, nor after detach", () => {
    using folder = new Folder();
    const path = folder.file("x.sock");
    using listener = UnixListener.listen(path);
    const duplicate = listener.duplicate();
    const adopted = UnixListener.adopt(listener.descriptor);
    for (const each of [duplicate, adopted]) {
      expect(each.unlinkOnClose).toBe(false);
      expect(() => {
        each.unlinkOnClose = true;
      }).toThrow("this listener has made no file");
      each.close();
      expect(existsSync(path)).toBe(true);
    }
    const fd = listener.detach();
    listener.close();
    expect(existsSync(path)).toBe(true);
    using again = UnixListener.adopt(fd, { own: true });
    using client = UnixSocket.connectSync(path, WAIT);
    using served = again.acceptSync(WAIT);
    expect(served.connected).toBe(client.connected);
  });

  test("is a boolean", () => {
    using folder = new Folder();
    using listener = UnixListener.listen(folder.file("x.sock"));
    expect(() => {
      listener.unlinkOnClose = 1 as unknown as boolean;
    }).toThrow(TypeError);
    expect(listener.unlinkOnClose).toBe(true);
  });
});

test("a lack of descriptors drops and counts, as with TcpListener", async () => {
  using listener = UnixListener.listen(UnixAddress.unnamed);
  using first = UnixSocket.connectSync(listener.localAddress, WAIT);
  using second = UnixSocket.connectSync(listener.localAddress, WAIT);
  second.sendSync("the second one");
  const { accept4 } = libc;
  let accepts = 0;
  using _ = replaceEntry("accept4", (...values: Parameters<typeof accept4>) =>
    ++accepts === 1 ? failWith(EMFILE) : accept4(...values),
  );
  for await (const connection of listener) {
    using _connection = connection;
    expect(textOf(await connection.receiveBytes(100, WAIT))).toBe("the second one");
    break;
  }
  expect(listener.dropped).toBe(1);
  expect(first.receiveSync(new Uint8Array(1), WAIT)).toBe(0);
});

test("is made by its functions only", () => {
  const Constructor = UnixListener as unknown as new () => unknown;
  expect(() => new Constructor()).toThrow("Cannot construct a socket");
});

test("is set up by SocketOption as any other", () => {
  using listener = UnixListener.listen(UnixAddress.unnamed, { receiveBufferBytes: 65536 });
  expect(listener.getOption(SocketOption.acceptsConnections)).toBe(true);
  expect(listener.receiveBuffer.requestedBytes).toBe(65536);
});
