/** UnixDatagramSocket: names, files and their permissions, and receivers whose queues are full. */
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import {
  type Address,
  ClosedError,
  DatagramBatch,
  Message,
  parseAddress,
  Socket,
  SystemError,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  type UnixDatagramSocketOptions,
} from "bun-sockets";
import {
  EACCES,
  ECONNREFUSED,
  EINTR,
  EINVAL,
  ENOSYS,
  EPERM,
  MSG_PEEK,
  MSG_TRUNC,
  POLLOUT,
} from "bun-sockets/sys";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import { pollfd } from "../../structs/pollfd.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { type Fault, failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
const BITS = 0o7777;
const NOBODY_THERE =
  "Nobody receives at that path: the file was left behind by a socket that is closed";

/** A folder that goes, with all that is in it, at the end of the block. */
class Folder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "bun-sockets-"));

  file(name: string): string {
    return join(this.path, name);
  }

  address(name: string): UnixAddress {
    return new UnixAddress(this.file(name));
  }

  get names(): string[] {
    return readdirSync(this.path).toSorted();
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** A socket with a name that the kernel has chosen. */
function named(options?: UnixDatagramSocketOptions): UnixDatagramSocket {
  return UnixDatagramSocket.bind(UnixAddress.unnamed, options);
}

/** The file that a closed socket leaves behind. */
function leaveStale(address: UnixAddress, type: "datagram" | "stream" | "seqpacket"): void {
  using socket = Socket.create("unix", type);
  socket.bind(address);
  if (type !== "datagram") socket.listen();
}

function inode(path: string): number {
  return lstatSync(path).ino;
}

function receiveText(socket: UnixDatagramSocket): string {
  return Buffer.from(socket.receiveBytesSync(65536, WAIT)).toString();
}

/** Everything that is waiting. */
function drain(socket: UnixDatagramSocket): string[] {
  const came: string[] = [];
  for (;;) {
    const bytes = socket.tryReceiveBytes(65536);
    if (bytes === undefined) return came;
    came.push(Buffer.from(bytes).toString());
  }
}

/** Sends until the receiver's queue is full; returns how many datagrams that took. */
function fillQueue(receiver: UnixDatagramSocket): number {
  using sender = UnixDatagramSocket.open();
  let sent = 0;
  while (sender.trySendTo(Buffer.from(`fill ${sent}`), receiver.localAddress) !== undefined) sent++;
  return sent;
}

/** A batch of texts and where they go. */
function batchOf(slots: readonly (readonly [text: string, to: Address | undefined])[]) {
  const batch = new DatagramBatch({ capacity: slots.length, slotBytes: 4096 });
  batch.count = slots.length;
  for (const [i, [text, to]] of slots.entries()) {
    batch.write(i, text);
    batch.setAddress(i, to);
  }
  return batch;
}

function failures(batch: DatagramBatch): (string | undefined)[] {
  return Array.from({ length: batch.count }, (_, i) => batch.failure(i));
}

/** Runs something before the call of an entry with this number, counted from 1. */
function beforeCall(name: keyof Libc, number: number, work: () => void): Fault {
  let calls = 0;
  const original = libc[name] as (...values: unknown[]) => unknown;
  const replacement = (...values: unknown[]) => {
    if (++calls === number) work();
    return original(...values);
  };
  return replaceEntry(name, replacement as never);
}

/** Lets the calls of an entry with these numbers fail, counted from 1, and the others through. */
function failCalls(name: keyof Libc, numbers: readonly number[], errno: number): Fault {
  let calls = 0;
  const original = libc[name] as (...values: unknown[]) => unknown;
  const replacement = (...values: unknown[]) =>
    numbers.includes(++calls) ? failWith(errno) : original(...values);
  return replaceEntry(name, replacement as never);
}

/** What a command prints. Into a file: Bun closes the pipes of a child in its own time. */
function outputOf(command: readonly string[]): string {
  using folder = new Folder();
  const output = openSync(folder.file("output"), "w");
  try {
    Bun.spawnSync([...command], { stdio: ["ignore", output, "inherit"] });
    return readFileSync(folder.file("output"), "utf8");
  } finally {
    closeSync(output);
  }
}

function makeFifo(path: string): void {
  expect(outputOf(["mkfifo", path])).toBe("");
}

function withUmask(mask: number): Disposable {
  const before = process.umask(mask);
  return { [Symbol.dispose]: () => void process.umask(before) };
}

describe("open()", () => {
  test("has no name, and nobody can answer it", () => {
    const before = openDescriptors();
    {
      using client = UnixDatagramSocket.open();
      using server = named();
      expect(client).toBeInstanceOf(Socket);
      expect([client.family, client.type, client.connected]).toEqual(["unix", "datagram", false]);
      expect(client.localAddress).toEqual(UnixAddress.unnamed);
      expect(client.remoteAddress).toBeUndefined();
      client.sendToSync("who am I", server.localAddress);
      expect(client.localAddress.isUnnamed).toBe(true);
      expect(server.receiveFromSync(new Uint8Array(16), WAIT).address).toBe(UnixAddress.unnamed);
      expect(inspect(client)).toBe(
        `UnixDatagramSocket unix datagram, descriptor ${client.descriptor}, unix:`,
      );
    }
    expect(openDescriptors()).toBe(before);
  });

  test("sets the buffers, and calls configure with a socket without a name", () => {
    const seen: unknown[] = [];
    using made = UnixDatagramSocket.open({
      receiveBufferBytes: 65536,
      sendBufferBytes: 32768,
      configure: (socket) => seen.push(socket, `${socket.localAddress}`),
    });
    expect(seen[0]).toBe(made);
    expect(seen[1]).toBe("unix:");
    expect([made.receiveBuffer.effectiveBytes, made.sendBuffer.effectiveBytes]).toEqual([
      65536, 32768,
    ]);
  });

  test("throws what configure throws, and leaks nothing", () => {
    const before = openDescriptors();
    const configure = () => {
      throw new Error("not like that");
    };
    expect(() => UnixDatagramSocket.open({ configure })).toThrow("not like that");
    expect(() => UnixDatagramSocket.bind("unix:", { configure })).toThrow("not like that");
    expect(openDescriptors()).toBe(before);
  });

  test("refuses what is for other families", () => {
    const options = { ipv6Only: true } as UnixDatagramSocketOptions;
    expect(() => UnixDatagramSocket.open(options)).toThrow(TypeError);
    expect(() => UnixDatagramSocket.open(options)).toThrow(
      "Cannot make a unix socket ipv6Only: expected an IPv6 one",
    );
  });
});

describe("bind()", () => {
  test("to a path makes a socket's file there, and closing leaves it", () => {
    using folder = new Folder();
    const path = folder.file("socket");
    {
      using server = UnixDatagramSocket.bind(`unix:${path}`);
      expect(server.localAddress.path).toBe(path);
      expect(lstatSync(path).isSocket()).toBe(true);
      using client = UnixDatagramSocket.bind(folder.address("client"));
      client.sendToSync("by path", `unix:${path}`);
      const { address } = server.receiveFromSync(new Uint8Array(16), WAIT);
      expect(address.path).toBe(folder.file("client"));
      server.sendToSync("answer", address);
      expect(receiveText(client)).toBe("answer");
      expect(folder.names).toEqual(["client", "socket"]);
    }
    expect(folder.names).toEqual(["client", "socket"]);
  });

  // 107 bytes and a NUL fill sun_path; 108 bytes leave no room for one.
  test.each([1, 106, 107, 108])("to a path of %d bytes works from end to end", (length) => {
    using folder = new Folder();
    const before = process.cwd();
    // A path of one byte is relative.
    process.chdir(folder.path);
    try {
      const path = length === 1 ? "x" : folder.file("x".repeat(length - folder.path.length - 1));
      expect(Buffer.byteLength(path)).toBe(length);
      using server = UnixDatagramSocket.bind(new UnixAddress(path));
      using client = named();
      expect(server.localAddress.path).toBe(path);
      expect(lstatSync(path).isSocket()).toBe(true);
      client.connectSync(new UnixAddress(path));
      expect(client.remoteAddress?.path).toBe(path);
      client.sendSync("to a path");
      server.connectSync(client.localAddress);
      expect(receiveText(server)).toBe("to a path");
      server.sendSync("from a path");
      expect(client.receiveFromSync(new Uint8Array(16), WAIT).address.path).toBe(path);
    } finally {
      process.chdir(before);
    }
  });

  test("to a path of 109 bytes is refused before the call", () => {
    const before = openDescriptors();
    expect(() => UnixDatagramSocket.bind(`unix:/${"x".repeat(108)}`)).toThrow(
      new RangeError("Cannot use 109 bytes as a path: expected 1 to 108"),
    );
    expect(openDescriptors()).toBe(before);
  });

  test("takes a path that is not UTF-8, and one with everything else in it", () => {
    using folder = new Folder();
    const names = [Buffer.from([0xff, 0xfe, 0x80]), Buffer.from("grüße 🦊\n@:[]%")];
    for (const name of names) {
      const bytes = Buffer.concat([Buffer.from(`${folder.path}/`), name]);
      using server = UnixDatagramSocket.bind(UnixAddress.fromPath(bytes));
      using client = UnixDatagramSocket.open();
      expect(Buffer.from(server.localAddress.nameBytes).equals(bytes)).toBe(true);
      client.sendToSync("found", server.localAddress);
      expect(receiveText(server)).toBe("found");
      client.sendToSync("found by its text", `${server.localAddress}`);
      expect(receiveText(server)).toBe("found by its text");
    }
    const found = readdirSync(folder.path, { encoding: "buffer" });
    expect(found.map((name) => name.toString("hex")).toSorted()).toEqual(
      names.map((name) => name.toString("hex")).toSorted(),
    );
  });

  const abstract: [what: string, name: string | Uint8Array][] = [
    ["text", `bun-sockets-${process.pid}-${crypto.randomUUID()}`],
    ["107 bytes", crypto.getRandomValues(new Uint8Array(107))],
    ["NULs", new Uint8Array([0, ...crypto.getRandomValues(new Uint8Array(12)), 0, 0])],
  ];
  test.each(abstract)(
    "to an abstract name of %s makes no file, and frees it at once",
    (_, name) => {
      const address = UnixAddress.abstract(name);
      for (let round = 0; round < 2; round++) {
        using server = UnixDatagramSocket.bind(address);
        using client = UnixDatagramSocket.bind(UnixAddress.unnamed);
        expect(server.localAddress.equals(address)).toBe(true);
        client.sendToSync("by name", address);
        const { address: sender } = server.receiveFromSync(new Uint8Array(16), WAIT);
        expect(sender.equals(client.localAddress)).toBe(true);
        expect(systemErrorOf(() => UnixDatagramSocket.bind(address)).code).toBe("EADDRINUSE");
      }
    },
  );

  test("an abstract name with a NUL more is another one", () => {
    const name = Buffer.from(`bun-sockets-${crypto.randomUUID()}`);
    using one = UnixDatagramSocket.bind(UnixAddress.abstract(name));
    using other = UnixDatagramSocket.bind(
      UnixAddress.abstract(Buffer.concat([name, new Uint8Array(1)])),
    );
    using client = UnixDatagramSocket.open();
    client.sendToSync("one", one.localAddress);
    client.sendToSync("other", other.localAddress);
    expect([drain(one), drain(other)]).toEqual([["one"], ["other"]]);
  });

  test.each([UnixAddress.unnamed, "unix:"])("to %p lets the kernel choose", (address) => {
    using first = UnixDatagramSocket.bind(address);
    using second = UnixDatagramSocket.bind(address);
    for (const socket of [first, second]) {
      expect(socket.localAddress.isAbstract).toBe(true);
      expect(socket.localAddress.abstractName).toMatch(/^[0-9a-f]{5}$/);
    }
    expect(first.localAddress.equals(second.localAddress)).toBe(false);
    first.sendToSync("hello", second.localAddress);
    expect(receiveText(second)).toBe("hello");
  });

  const wrong: [name: string, value: unknown][] = [
    ["a path without its scheme", "/run/x.sock"],
    ["an IPv4 address", "127.0.0.1:0"],
    ["an IPv6 address", parseAddress("[::1]:0")],
    ["an empty text", ""],
    ["null", null],
    ["undefined", undefined],
    ["a number", 1],
    ["the parts of an address", { family: "unix", path: "/run/x.sock" }],
    ["a Proxy of an address", new Proxy(UnixAddress.unnamed, {})],
    ["what only inherits from one", Object.create(UnixAddress.prototype)],
  ];
  test.each(wrong)("refuses %s before anything is opened", (_, value) => {
    using fault = replaceLibc("socket", (original) => original);
    expect(() => UnixDatagramSocket.bind(value as UnixAddress)).toThrow(TypeError);
    expect(fault.calls).toBe(0);
  });

  const fails: [name: string, code: string, at: (folder: Folder) => string][] = [
    ["a folder that is missing", "ENOENT", (folder) => folder.file("missing/socket")],
    ["a folder that is a file", "ENOTDIR", (folder) => folder.file("file/socket")],
    ["a path that is taken", "EADDRINUSE", (folder) => folder.file("taken")],
    ["a path that is a file", "EADDRINUSE", (folder) => folder.file("file")],
    ["a path that is a folder", "EADDRINUSE", (folder) => folder.path],
    ["a path that is a dangling link", "EADDRINUSE", (folder) => folder.file("link")],
  ];
  test.each(fails)("to %s is %s, and leaves nothing behind", (_, code, at) => {
    using folder = new Folder();
    writeFileSync(folder.file("file"), "kept");
    symlinkSync(folder.file("nowhere"), folder.file("link"));
    using taken = UnixDatagramSocket.bind(folder.address("taken"));
    const before = [openDescriptors(), ...folder.names];
    const path = at(folder);
    for (const mode of [undefined, 0o600]) {
      const error = systemErrorOf(() => UnixDatagramSocket.bind(new UnixAddress(path), { mode }));
      expect([error.code, error.syscall, error.path]).toEqual([code, "bind", path]);
      expect(error.message).toStartWith(`bind ${code} unix:${path}: `);
      if (code === "EADDRINUSE") expect(error.hint).toContain("{ removeStale: true }");
    }
    expect([openDescriptors(), ...folder.names]).toEqual(before);
    expect(readFileSync(folder.file("file"), "utf8")).toBe("kept");
    expect(taken.localAddress.path).toBe(folder.file("taken"));
  });
});

describe("mode", () => {
  const modes = [0, 0o600, 0o620, 0o660, 0o666, 0o700, 0o755, 0o777, 0o7];
  describe.each([0o000, 0o022, 0o077, 0o777])("under umask %d", (mask) => {
    test.each(modes)("%d is what the file has, to the bit, and never more before", (mode) => {
      using folder = new Folder();
      const path = folder.file("socket");
      using _umask = withUmask(mask);
      const between: number[] = [];
      using _ = replaceLibc("chmod", (original) => (...values) => {
        between.push(lstatSync(path).mode & BITS);
        return original(...values);
      });
      using server = UnixDatagramSocket.bind(new UnixAddress(path), { mode });
      expect(lstatSync(path).mode & BITS).toBe(mode);
      expect(between.map((bits) => bits & ~mode)).toEqual(between.map(() => 0));
      expect(server.localAddress.path).toBe(path);
    });

    test("is 0o777 without the mask's bits by default", () => {
      using folder = new Folder();
      using _umask = withUmask(mask);
      using server = UnixDatagramSocket.bind(folder.address("socket"));
      expect(lstatSync(folder.file("socket")).mode & BITS).toBe(0o777 & ~mask);
      expect(server.localAddress.isPath).toBe(true);
    });
  });

  test("is that of the new file when a stale one is removed", () => {
    using folder = new Folder();
    using _umask = withUmask(0o000);
    leaveStale(folder.address("socket"), "datagram");
    chmodSync(folder.file("socket"), 0o777);
    const options = { mode: 0o640, removeStale: true };
    using server = UnixDatagramSocket.bind(folder.address("socket"), options);
    expect(lstatSync(folder.file("socket")).mode & BITS).toBe(0o640);
    expect(server.localAddress.isPath).toBe(true);
  });

  const wrong: [mode: unknown, error: typeof RangeError][] = [
    [-1, RangeError],
    [0o1000, RangeError],
    [0o1777, RangeError],
    [0.5, RangeError],
    [Number.NaN, RangeError],
    ["600", TypeError],
    [null, TypeError],
    [0o600n, TypeError],
  ];
  test.each(wrong)("refuses %p before anything is made", (mode, error) => {
    using folder = new Folder();
    const before = openDescriptors();
    const options = { mode } as { mode: number };
    expect(() => UnixDatagramSocket.bind(folder.address("socket"), options)).toThrow(error);
    expect([openDescriptors(), ...folder.names]).toEqual([before]);
  });

  test.each([0, "true", null])("and removeStale: %p is refused", (removeStale) => {
    using folder = new Folder();
    const options = { removeStale } as unknown as { removeStale: boolean };
    expect(() => UnixDatagramSocket.bind(folder.address("socket"), options)).toThrow(TypeError);
    expect(folder.names).toEqual([]);
  });

  test.each(["unix:", "unix:@name"])("and removeStale are refused for %s", (address) => {
    for (const options of [{ mode: 0o600 }, { removeStale: true }]) {
      expect(() => UnixDatagramSocket.bind(address, options)).toThrow(
        new TypeError(`Cannot use mode or removeStale with ${address}: it has no file`),
      );
    }
    UnixDatagramSocket.bind("unix:", { removeStale: false }).close();
  });

  test.each(["fchmod", "chmod"] as const)("that %s cannot set leaves no file behind", (name) => {
    using folder = new Folder();
    const before = openDescriptors();
    using _ = replaceLibc(name, () => () => failWith(EPERM));
    const bind = () => UnixDatagramSocket.bind(folder.address("socket"), { mode: 0o600 });
    const error = systemErrorOf(bind);
    expect([error.code, error.syscall]).toEqual(["EPERM", name]);
    expect([openDescriptors(), ...folder.names]).toEqual([before]);
  });
});

describe("removeStale", () => {
  const bind = (address: UnixAddress) => UnixDatagramSocket.bind(address, { removeStale: true });

  test.each(["datagram", "stream", "seqpacket"] as const)(
    "removes the file of a closed %s socket",
    (type) => {
      using folder = new Folder();
      const address = folder.address("socket");
      leaveStale(address, type);
      const before = [openDescriptors(), inode(folder.file("socket"))];
      expect(systemErrorOf(() => UnixDatagramSocket.bind(address)).code).toBe("EADDRINUSE");
      expect([openDescriptors(), inode(folder.file("socket"))]).toEqual(before);
      {
        using server = bind(address);
        using client = UnixDatagramSocket.open();
        client.sendToSync("new here", address);
        expect(receiveText(server)).toBe("new here");
        expect(folder.names).toEqual(["socket"]);
        expect(openDescriptors()).toBe((before[0] as number) + 2);
      }
      // And so on.
      bind(address).close();
      expect(folder.names).toEqual(["socket"]);
    },
  );

  test("does nothing where there is no file", () => {
    using folder = new Folder();
    using server = bind(folder.address("socket"));
    expect(server.localAddress.path).toBe(folder.file("socket"));
    expect(folder.names).toEqual(["socket"]);
  });

  test("works at a relative path", () => {
    using folder = new Folder();
    const before = process.cwd();
    process.chdir(folder.path);
    try {
      leaveStale(new UnixAddress("socket"), "datagram");
      using server = bind(new UnixAddress("socket"));
      expect(server.localAddress.path).toBe("socket");
      expect(folder.names).toEqual(["socket"]);
    } finally {
      process.chdir(before);
    }
  });

  test.each([100, 107, 108])("works at a path of %d bytes with a short name", (length) => {
    using folder = new Folder();
    const inner = "d".repeat(length - folder.path.length - 3);
    mkdirSync(folder.file(inner));
    const address = folder.address(join(inner, "s"));
    expect(address.nameBytes).toHaveLength(length);
    leaveStale(address, "datagram");
    const before = openDescriptors();
    using server = bind(address);
    expect(openDescriptors()).toBe(before + 1);
    expect(server.localAddress.equals(address)).toBe(true);
    expect(readdirSync(folder.file(inner))).toEqual(["s"]);
  });

  /** What is alive at a path: its end, and the proof that it works. */
  interface Living extends Disposable {
    works(): boolean;
  }
  const receivers: [name: string, make: (address: UnixAddress) => Living][] = [
    ["a datagram socket", (address) => living(UnixDatagramSocket.bind(address))],
    [
      "a datagram socket with a full queue",
      (address) => {
        const server = UnixDatagramSocket.bind(address);
        const sent = fillQueue(server);
        return {
          works: () => drain(server).length === sent,
          [Symbol.dispose]: () => server.close(),
        };
      },
    ],
    [
      "a datagram socket that is connected with somebody else",
      (address) => {
        const server = UnixDatagramSocket.bind(address);
        const peer = named();
        server.connectSync(peer.localAddress);
        return {
          works() {
            peer.sendToSync("peer", address);
            return receiveText(server) === "peer";
          },
          [Symbol.dispose]() {
            server.close();
            peer.close();
          },
        };
      },
    ],
    ["a stream listener", (address) => listener("stream", address)],
    ["a seqpacket listener", (address) => listener("seqpacket", address)],
    [
      "a stream socket that does not listen yet",
      (address) => {
        const socket = Socket.create("unix", "stream");
        socket.bind(address);
        return {
          works() {
            socket.listen();
            using client = Socket.create("unix", "stream");
            return client.tryConnect(address) === true;
          },
          [Symbol.dispose]: () => socket.close(),
        };
      },
    ],
  ];

  function living(server: UnixDatagramSocket): Living {
    return {
      works() {
        using client = UnixDatagramSocket.open();
        client.sendToSync("alive?", server.localAddress);
        return receiveText(server) === "alive?";
      },
      [Symbol.dispose]: () => server.close(),
    };
  }

  function listener(type: "stream" | "seqpacket", address: UnixAddress): Living {
    const socket = Socket.create("unix", type);
    socket.bind(address);
    socket.listen();
    return {
      works() {
        using client = Socket.create("unix", type);
        client.connectSync(address, WAIT);
        using served = socket.acceptSync(WAIT);
        client.sendSync("alive?");
        return served.receiveBytesSync(8, WAIT).length === 6;
      },
      [Symbol.dispose]: () => socket.close(),
    };
  }

  test.each(receivers)("refuses the path of %s, and harms nothing", (_, make) => {
    using folder = new Folder();
    const address = folder.address("socket");
    using receiver = make(address);
    const before = [openDescriptors(), inode(folder.file("socket"))];
    for (let round = 0; round < 3; round++) {
      const error = systemErrorOf(() => bind(address));
      expect([error.code, error.syscall, error.path]).toEqual([
        "EADDRINUSE",
        "bind",
        folder.file("socket"),
      ]);
    }
    expect([openDescriptors(), inode(folder.file("socket"))]).toEqual(before);
    expect(folder.names).toEqual(["socket"]);
    expect(receiver.works()).toBe(true);
  });

  const files: [name: string, make: (folder: Folder) => void][] = [
    ["a regular file", (folder) => writeFileSync(folder.file("socket"), "kept")],
    ["an empty file", (folder) => writeFileSync(folder.file("socket"), "")],
    ["a folder", (folder) => mkdirSync(folder.file("socket"))],
    ["a FIFO", (folder) => makeFifo(folder.file("socket"))],
    [
      "a link to a stale file",
      (folder) => {
        leaveStale(folder.address("stale"), "datagram");
        symlinkSync(folder.file("stale"), folder.file("socket"));
      },
    ],
    ["a link to nothing", (folder) => symlinkSync(folder.file("none"), folder.file("socket"))],
  ];
  test.each(files)("refuses %s, and harms nothing", (_, make) => {
    using folder = new Folder();
    make(folder);
    const state = () =>
      folder.names.map((name) => {
        const { ino, mode, size } = lstatSync(folder.file(name));
        return [name, ino, mode, size];
      });
    const before = [openDescriptors(), state()];
    const error = systemErrorOf(() => bind(folder.address("socket")));
    expect([error.code, error.syscall]).toEqual(["EADDRINUSE", "bind"]);
    expect([openDescriptors(), state()]).toEqual(before);
  });

  // Somebody else may bind to the path at any moment: what is planted happens between two steps.
  describe("that loses a race", () => {
    test("to a socket that took the stale file's place leaves everything as it is", () => {
      using folder = new Folder();
      const address = folder.address("socket");
      leaveStale(address, "datagram");
      let other: UnixDatagramSocket | undefined;
      let ino = 0;
      {
        // renameat2(2), after the file was found to be stale.
        using _ = beforeCall("renameat2", 1, () => {
          unlinkSync(folder.file("socket"));
          other = UnixDatagramSocket.bind(address);
          ino = inode(folder.file("socket"));
        });
        const error = systemErrorOf(() => bind(address));
        expect([error.code, error.syscall]).toEqual(["EADDRINUSE", "bind"]);
      }
      using winner = other as UnixDatagramSocket;
      expect(folder.names).toEqual(["socket"]);
      expect(inode(folder.file("socket"))).toBe(ino);
      expect(living(winner).works()).toBe(true);
    });

    test("to a receiver that refused one connection leaves everything as it is", () => {
      using folder = new Folder();
      const address = folder.address("socket");
      using other = UnixDatagramSocket.bind(address);
      const before = [openDescriptors(), inode(folder.file("socket"))];
      {
        using fault = failCalls("connect", [1], ECONNREFUSED);
        expect(systemErrorOf(() => bind(address)).code).toBe("EADDRINUSE");
        expect(fault.calls).toBe(2);
      }
      expect([openDescriptors(), inode(folder.file("socket"))]).toEqual(before);
      expect(folder.names).toEqual(["socket"]);
      expect(living(other).works()).toBe(true);
    });

    test("to a file or folder that took the stale file's place leaves it alone", () => {
      for (const make of [
        (path: string) => writeFileSync(path, "kept"),
        (path: string) => mkdirSync(path),
        (path: string) => symlinkSync("/nowhere", path),
      ]) {
        using folder = new Folder();
        const address = folder.address("socket");
        leaveStale(address, "datagram");
        let ino = 0;
        using _ = beforeCall("renameat2", 1, () => {
          unlinkSync(folder.file("socket"));
          make(folder.file("socket"));
          ino = inode(folder.file("socket"));
        });
        expect(systemErrorOf(() => bind(address)).code).toBe("EADDRINUSE");
        expect(folder.names).toEqual(["socket"]);
        expect(inode(folder.file("socket"))).toBe(ino);
      }
    });

    test("to somebody who binds after the stale file is gone is EADDRINUSE", () => {
      using folder = new Folder();
      const address = folder.address("socket");
      leaveStale(address, "datagram");
      let other: UnixDatagramSocket | undefined;
      {
        // The first bind(2) is refused, the second is the guard's, the third comes after it.
        let calls = 0;
        let isOurs = true;
        using _ = replaceLibc("bind", (original) => (...values) => {
          if (isOurs && ++calls === 3) {
            isOurs = false;
            other = UnixDatagramSocket.bind(address);
          }
          return original(...values);
        });
        expect(systemErrorOf(() => bind(address)).code).toBe("EADDRINUSE");
      }
      using winner = other as UnixDatagramSocket;
      expect(folder.names).toEqual(["socket"]);
      expect(living(winner).works()).toBe(true);
    });

    test("to somebody who has removed the stale file binds, or is refused by name", () => {
      using folder = new Folder();
      const address = folder.address("socket");
      leaveStale(address, "datagram");
      const before = openDescriptors();
      using _ = beforeCall("renameat2", 1, () => unlinkSync(folder.file("socket")));
      const server = bind(address);
      expect(folder.names).toEqual(["socket"]);
      expect(living(server).works()).toBe(true);
      server.close();
      expect(openDescriptors()).toBe(before);
    });

    test("twice, so that the places cannot be changed back, keeps the receiver's file", () => {
      using folder = new Folder();
      const address = folder.address("socket");
      using other = UnixDatagramSocket.bind(address);
      const ino = inode(folder.file("socket"));
      {
        using _connect = failCalls("connect", [1], ECONNREFUSED);
        // Somebody removes what lies at the path for this moment: the guard.
        using _ = beforeCall("renameat2", 2, () => unlinkSync(folder.file("socket")));
        expect(() => bind(address)).toThrow(SystemError);
      }
      expect(existsSync(folder.file("socket"))).toBe(true);
      expect(inode(folder.file("socket"))).toBe(ino);
      expect(folder.names).toEqual(["socket"]);
      expect(living(other).works()).toBe(true);
    });

    // Somebody who asks nobody: he removes what is there for this moment, our guard, and binds.
    const rude: [when: string, isAlive: boolean, entry: keyof Libc, call: number][] = [
      ["before the places are changed back", true, "renameat2", 2],
      ["before the guard is removed", false, "renameat2", 2],
    ];
    test.each(rude)("to somebody who binds %s leaves him his file", (...row) => {
      const [, isAlive, entry, call] = row;
      using folder = new Folder();
      const address = folder.address("socket");
      using first = UnixDatagramSocket.bind(address);
      if (!isAlive) first.close();
      let other: UnixDatagramSocket | undefined;
      let ino = 0;
      {
        using _connect = failCalls("connect", isAlive ? [1] : [], ECONNREFUSED);
        using _ = beforeCall(entry, call, () => {
          unlinkSync(folder.file("socket"));
          other = UnixDatagramSocket.bind(address);
          ino = inode(folder.file("socket"));
        });
        expect(() => bind(address)).toThrow(SystemError);
      }
      using winner = other as UnixDatagramSocket;
      expect(inode(folder.file("socket"))).toBe(ino);
      expect(living(winner).works()).toBe(true);
    });
  });

  const steps: [name: string, entry: keyof Libc, call: number, errno: number, code: string][] = [
    ["the file system cannot exchange names", "renameat2", 1, EINVAL, "EINVAL"],
    ["the kernel cannot exchange names", "renameat2", 1, ENOSYS, "ENOSYS"],
    ["no second name can be made", "bind", 2, EACCES, "EACCES"],
    ["no second socket can be opened", "socket", 3, EPERM, "EPERM"],
  ];
  test.each(steps)("says so when %s, with everything as it was", (...row) => {
    const [, entry, call, errno, code] = row;
    using folder = new Folder();
    const address = folder.address("socket");
    leaveStale(address, "datagram");
    const before = [openDescriptors(), inode(folder.file("socket"))];
    {
      using _ = failCalls(entry, [call], errno);
      expect(systemErrorOf(() => bind(address)).code).toBe(code);
    }
    expect([openDescriptors(), inode(folder.file("socket"))]).toEqual(before);
    expect(folder.names).toEqual(["socket"]);
    bind(address).close();
  });

  test("leaves no file of its own when the stale one cannot be removed", () => {
    using folder = new Folder();
    const address = folder.address("socket");
    leaveStale(address, "datagram");
    const before = openDescriptors();
    {
      using _ = failCalls("unlink", [1], EPERM);
      const error = systemErrorOf(() => bind(address));
      expect([error.code, error.syscall]).toEqual(["EPERM", "unlink"]);
    }
    expect(folder.names).toEqual(["socket"]);
    expect(openDescriptors()).toBe(before);
    bind(address).close();
  });

  test("refuses a socket that it may not connect to", () => {
    using folder = new Folder();
    const address = folder.address("socket");
    leaveStale(address, "datagram");
    const ino = inode(folder.file("socket"));
    using _ = replaceLibc("connect", () => () => failWith(EACCES));
    expect(systemErrorOf(() => bind(address)).code).toBe("EADDRINUSE");
    expect(inode(folder.file("socket"))).toBe(ino);
    expect(folder.names).toEqual(["socket"]);
  });
});

describe("a path that others may not use", () => {
  const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
  // Root may do everything: a child gives that up, in two ways. Everybody else is refused as he is.
  const isRoot = process.getuid?.() === 0;
  const others: [name: string, command: string[]][] = isRoot
    ? [
        ["another user", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]],
        ["root without its rights", ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]],
      ]
    : [["its owner", []]];
  const asOther = testIf(isRoot ? requires("setpriv") : undefined);

  for (const [name, command] of others) {
    asOther(`is EACCES for ${name}, in every call`, () => {
      using folder = new Folder();
      chmodSync(folder.path, 0o755);
      mkdirSync(folder.file("closed"));
      using server = UnixDatagramSocket.bind(folder.address("socket"), { mode: 0 });
      using hidden = UnixDatagramSocket.bind(folder.address("closed/socket"), { mode: 0o777 });
      chmodSync(folder.file("closed"), 0);
      const script = `
        import { DatagramBatch, Message, UnixAddress, UnixDatagramSocket } from ${INDEX};
        const [socket, closed] = ${JSON.stringify([folder.file("socket"), folder.file("closed")])};
        const codes = [];
        const attempt = (run) => {
          try {
            run();
            codes.push("it worked");
          } catch (error) {
            codes.push([error.code, error.syscall, error.hint].join(" "));
          }
        };
        using client = UnixDatagramSocket.open();
        for (const path of [socket, closed + "/socket"]) {
          const to = new UnixAddress(path);
          attempt(() => client.trySendTo(new Uint8Array(1), to));
          attempt(() => client.connectSync(to));
          attempt(() => client.trySendMessage(new Message({ address: to })));
          const batch = new DatagramBatch({ capacity: 1 });
          batch.count = 1;
          batch.setAddress(0, to);
          codes.push(client.trySendBatch(batch) + " " + batch.failure(0));
        }
        attempt(() => UnixDatagramSocket.bind(new UnixAddress(closed + "/new")));
        console.log(JSON.stringify(codes));
      `;
      try {
        const result = JSON.parse(outputOf([...command, process.execPath, "-e", script]));
        const calls = ["EACCES sendto ", "EACCES connect ", "EACCES sendmsg ", "0 EACCES"];
        expect(result.slice(0, 8)).toEqual([...calls, ...calls]);
        // The hint for ports below 1024 does not belong here.
        expect(result[8]).toBe("EACCES bind ");
        expect([drain(server), drain(hidden)]).toEqual([[], []]);
      } finally {
        chmodSync(folder.file("closed"), 0o700);
      }
    });
  }
});

describe("sending to a path", () => {
  const data = Buffer.from("x");
  type Call = [
    name: string,
    syscall: string,
    run: (client: UnixDatagramSocket, to: UnixAddress) => unknown,
  ];
  const calls: Call[] = [
    ["trySendTo", "sendto", (client, to) => client.trySendTo(data, to)],
    ["sendToSync", "sendto", (client, to) => client.sendToSync(data, to, WAIT)],
    [
      "trySendMessage",
      "sendmsg",
      (client, to) => client.trySendMessage(new Message({ vectors: [data], address: to })),
    ],
    ["tryConnect", "connect", (client, to) => client.tryConnect(to)],
    ["connectSync", "connect", (client, to) => client.connectSync(to, WAIT)],
  ];
  test.each(calls)("%s() names code, path and remedy", (_, syscall, run) => {
    using folder = new Folder();
    leaveStale(folder.address("stale"), "datagram");
    writeFileSync(folder.file("file"), "");
    using stream = Socket.create("unix", "stream");
    stream.bind(folder.address("stream"));
    stream.listen();
    using busy = UnixDatagramSocket.bind(folder.address("busy"));
    using friend = named();
    busy.connectSync(friend.localAddress);
    using client = UnixDatagramSocket.open();
    const before = openDescriptors();
    const cases: [file: string, code: string, hint: string | undefined][] = [
      ["missing", "ENOENT", "Nobody is bound to that path"],
      ["stale", "ECONNREFUSED", NOBODY_THERE],
      ["stream", "EPROTOTYPE", "The socket at that path is of another type"],
      ["file", "ECONNREFUSED", NOBODY_THERE],
      // unix(7) does not say so: who is connected hears his peer only.
      ["busy", "EPERM", undefined],
    ];
    for (const [file, code, hint] of cases) {
      const address = folder.address(file);
      const error = systemErrorOf(() => run(client, address));
      expect([error.code, error.syscall, error.path]).toEqual([code, syscall, folder.file(file)]);
      expect(error.destination).toBe(`${address}`);
      expect(error.message).toStartWith(`${syscall} ${code} ${address}: `);
      if (hint !== undefined) expect([file, error.hint]).toEqual([file, hint]);
    }
    expect([client.connected, openDescriptors()]).toEqual([false, before]);
  });

  test.each(calls)("%s() to an abstract name of nobody tells of no file", (_, syscall, run) => {
    using client = UnixDatagramSocket.open();
    const nobody = UnixAddress.abstract(`bun-sockets-${crypto.randomUUID()}`);
    const error = systemErrorOf(() => run(client, nobody));
    expect([error.code, error.syscall]).toEqual(["ECONNREFUSED", syscall]);
    expect(error.hint ?? "").not.toContain("file");
  });

  const forms: [
    name: string,
    run: (client: UnixDatagramSocket, to: UnixAddress, bytes: Uint8Array) => unknown,
  ][] = [
    ["trySendTo", (client, to, bytes) => client.trySendTo(bytes, to)],
    ["sendToSync", (client, to, bytes) => client.sendToSync(bytes, to, WAIT)],
    [
      "trySendMessage",
      (client, to, bytes) => client.trySendMessage(new Message({ vectors: [bytes], address: to })),
    ],
    [
      "trySend",
      (client, to, bytes) => {
        client.connectSync(to);
        return client.trySend(bytes);
      },
    ],
    [
      "sendSync",
      (client, to, bytes) => {
        client.connectSync(to);
        return client.sendSync(bytes, WAIT);
      },
    ],
  ];
  test.each(forms)("%s() of more than the send buffer is EMSGSIZE with its remedy", (_, run) => {
    using server = named();
    using client = named({ sendBufferBytes: 4096 });
    const error = systemErrorOf(() => run(client, server.localAddress, new Uint8Array(65536)));
    expect(error.code).toBe("EMSGSIZE");
    expect(error.hint).toBe("A message must fit the send buffer: see sendBufferBytes");
    expect(run(client, server.localAddress, new Uint8Array(1000))).toBe(1000);
    expect(drain(server)).toHaveLength(1);
    using wide = named({ sendBufferBytes: 1 << 20 });
    expect(run(wide, server.localAddress, new Uint8Array(200_000))).toBe(200_000);
    expect(server.receiveSync(new Uint8Array(1 << 20), WAIT)).toBe(200_000);
  });

  test("sendBatchSync() of more than the send buffer fails that slot only", () => {
    using server = named();
    using client = named({ sendBufferBytes: 4096 });
    using batch = new DatagramBatch({ capacity: 3, slotBytes: 65536 });
    batch.count = 3;
    for (const [i, length] of [10, 65536, 20].entries()) {
      batch.setLength(i, length);
      batch.setAddress(i, server.localAddress);
    }
    for (const send of [
      () => client.trySendBatch(batch),
      () => client.sendBatchSync(batch, 0, WAIT),
    ]) {
      expect(send()).toBe(2);
      expect([batch.failed, ...failures(batch)]).toEqual([1, undefined, "EMSGSIZE", undefined]);
      expect(batch.stopped).toBeUndefined();
      expect(drain(server).map((text) => text.length)).toEqual([10, 20]);
    }
  });

  test.each([UnixAddress.unnamed, "unix:"])("to %p is refused by the kernel", (address) => {
    using client = UnixDatagramSocket.open();
    expect(systemErrorOf(() => client.trySendTo(data, address)).code).toBe("EINVAL");
    expect(systemErrorOf(() => client.sendToSync(data, address, WAIT)).code).toBe("EINVAL");
  });
});

describe("receiving", () => {
  test("gives one address object for each sender, whatever kind of name it has", () => {
    using folder = new Folder();
    using server = named();
    using byPath = UnixDatagramSocket.bind(folder.address("path"));
    using byName = UnixDatagramSocket.bind(
      UnixAddress.abstract(`bun-sockets-${crypto.randomUUID()}`),
    );
    using byKernel = named();
    using unnamed = UnixDatagramSocket.open();
    const senders = [byPath, unnamed, byName, byKernel, unnamed];
    const target = new Uint8Array(8);
    const rounds = [0, 1, 2].map(() =>
      senders.map((sender, i) => {
        sender.sendToSync(`${i}`, server.localAddress);
        const { address, length } = server.receiveFromSync(target, WAIT);
        expect([length, target[0]]).toEqual([1, 48 + i]);
        expect(address.equals(sender.localAddress)).toBe(true);
        return address;
      }),
    );
    for (const [i] of senders.entries()) {
      expect(rounds[1]?.[i]).toBe(rounds[0]?.[i] as UnixAddress);
      expect(rounds[2]?.[i]).toBe(rounds[0]?.[i] as UnixAddress);
    }
    expect(rounds[0]?.[1]).toBe(UnixAddress.unnamed);
  });

  test("tells how long a cut datagram was, and an empty one from nothing", () => {
    using server = named();
    using client = named();
    client.sendToSync("0123456789", server.localAddress);
    const cut = server.receiveFromSync(new Uint8Array(4), WAIT);
    expect([cut.length, cut.originalLength, cut.flags]).toEqual([4, 10, MSG_TRUNC]);
    client.sendToSync("", server.localAddress);
    const empty = server.receiveFromSync(new Uint8Array(4), WAIT);
    expect([empty.length, empty.originalLength, empty.flags]).toEqual([0, 0, 0]);
    expect(empty.address.equals(client.localAddress)).toBe(true);
    expect(server.tryReceiveFrom(new Uint8Array(4))).toBeUndefined();
  });

  test("peeks at a datagram and its sender", () => {
    using server = named();
    using client = named();
    client.sendToSync("peek", server.localAddress);
    for (const flags of [MSG_PEEK, MSG_PEEK, 0]) {
      const { length, address } = server.receiveFromSync(new Uint8Array(8), { ...WAIT, flags });
      expect([length, `${address}`]).toEqual([4, `${client.localAddress}`]);
    }
    expect(server.tryReceive(new Uint8Array(1))).toBeUndefined();
  });
});

describe("a receiver whose queue is full", () => {
  test("makes trySendTo() undefined, and has room again after a receive", () => {
    using server = named();
    using client = UnixDatagramSocket.open();
    // sysctl net.unix.max_dgram_qlen: one more than it says.
    const limit = Number(readFileSync("/proc/sys/net/unix/max_dgram_qlen", "utf8"));
    expect(fillQueue(server)).toBe(limit + 1);
    const x = Buffer.from("x");
    for (let round = 0; round < 3; round++) {
      expect(client.trySendTo(x, server.localAddress)).toBeUndefined();
      const message = new Message({ vectors: [x], address: server.localAddress });
      expect(client.trySendMessage(message)).toBeUndefined();
      expect(receiveText(server)).toStartWith(round === 0 ? "fill 0" : `fill ${round}`);
      expect(client.trySendTo(x, server.localAddress)).toBe(1);
    }
    // Others are not held up.
    using other = named();
    expect(client.trySendTo(x, other.localAddress)).toBe(1);
    expect(drain(other)).toEqual(["x"]);
  });

  const waits: [
    name: string,
    syscall: string,
    run: (client: UnixDatagramSocket, to: UnixAddress, timeoutMs: number) => number,
  ][] = [
    [
      "sendToSync",
      "sendto",
      (client, to, timeoutMs) => client.sendToSync("waited", to, { timeoutMs }),
    ],
    [
      "sendMessageSync",
      "sendmsg",
      (client, to, timeoutMs) =>
        client.sendMessageSync(new Message({ vectors: [Buffer.from("waited")], address: to }), {
          timeoutMs,
        }),
    ],
  ];
  describe.each(waits)("%s()", (_, syscall, run) => {
    test("waits until there is room", () => {
      using server = named();
      using client = UnixDatagramSocket.open();
      fillQueue(server);
      // The third wait is the one that helps.
      using fault = beforeCall("poll", 3, () => drain(server));
      expect(run(client, server.localAddress, 5000)).toBe(6);
      expect(fault.calls).toBe(3);
      expect(drain(server)).toEqual(["waited"]);
    });

    test.each([0, 0.5, 25])("of %d ms times out, not before, and sends nothing", (timeoutMs) => {
      using server = named();
      using client = UnixDatagramSocket.open();
      const sent = fillQueue(server);
      const started = performance.now();
      const error = systemErrorOf(() => run(client, server.localAddress, timeoutMs));
      const elapsed = performance.now() - started;
      expect(error).toBeInstanceOf(TimeoutError);
      expect([error.syscall, error.transferred]).toEqual([syscall, undefined]);
      expect(elapsed).toBeGreaterThanOrEqual(timeoutMs);
      expect(elapsed).toBeLessThan(WAIT.timeoutMs);
      expect(drain(server)).toHaveLength(sent);
    });

    test("does not spin: it pauses longer and longer, up to 10 ms, and through signals", () => {
      using server = named();
      using client = UnixDatagramSocket.open();
      fillQueue(server);
      const pauses: number[] = [];
      using _ = replaceLibc("poll", (original) => (fds, count, timeout) => {
        pauses.push(timeout);
        if (pauses.length === 3) return failWith(EINTR);
        if (pauses.length === 8) drain(server);
        return original(fds, count, 0);
      });
      expect(run(client, server.localAddress, 5000)).toBe(6);
      expect(pauses).toEqual([1, 2, 4, 8, 10, 10, 10, 10]);
    });

    test("ends when the receiver goes", () => {
      using server = named();
      using client = UnixDatagramSocket.open();
      fillQueue(server);
      const to = server.localAddress;
      using _ = beforeCall("poll", 2, () => server.close());
      expect(systemErrorOf(() => run(client, to, 5000)).code).toBe("ECONNREFUSED");
    });
  });

  test("that is the peer is waited for with POLLOUT", () => {
    using server = named();
    using client = UnixDatagramSocket.open();
    client.connectSync(server.localAddress);
    const sent = fillQueue(server);
    expect(client.trySend(Buffer.from("x"))).toBeUndefined();
    const error = systemErrorOf(() => client.sendSync("x", { timeoutMs: 10 }));
    expect([error.name, error.syscall]).toEqual(["TimeoutError", "send"]);
    const asked: number[] = [];
    using _ = replaceLibc("poll", (original) => (...values) => {
      const view = values[0] as DataView;
      asked.push(pollfd.fd.get(view, 0), pollfd.events.get(view, 0));
      expect(drain(server)).toHaveLength(sent);
      return original(...values);
    });
    expect(client.sendSync("waited", WAIT)).toBe(6);
    expect(asked).toEqual([client.descriptor, POLLOUT]);
    expect(drain(server)).toEqual(["waited"]);
  });

  test("fails its own slots of trySendBatch() only, in order, and others get theirs", () => {
    using full = named();
    using free = named();
    using client = UnixDatagramSocket.open();
    fillQueue(full);
    expect(receiveText(full)).toBe("fill 0");
    // Room for one.
    const [a, b] = [full.localAddress, free.localAddress];
    using batch = batchOf([
      ["b1", b],
      ["a1", a],
      ["a2", a],
      ["b2", b],
      ["a3", a],
      ["b3", b],
    ]);
    expect(client.trySendBatch(batch)).toBe(4);
    expect(batch.failed).toBe(2);
    expect(failures(batch)).toEqual([
      undefined,
      undefined,
      "EAGAIN",
      undefined,
      "EAGAIN",
      undefined,
    ]);
    expect(batch.stopped).toBeUndefined();
    expect(drain(free)).toEqual(["b1", "b2", "b3"]);
    expect(drain(full).filter((text) => text.startsWith("a"))).toEqual(["a1"]);
    // Sending again forgets the failures.
    expect(client.trySendBatch(batch, 2)).toBe(4);
    expect([batch.failed, ...failures(batch)]).toEqual([0, ...Array(6).fill(undefined)]);
    expect(drain(full)).toEqual(["a2", "a3"]);
  });

  test("gets nothing out of order when it has room again in the middle of a batch", () => {
    using full = named();
    using free = named();
    using client = UnixDatagramSocket.open();
    fillQueue(full);
    const [a, b] = [full.localAddress, free.localAddress];
    using batch = batchOf([
      ["a1", a],
      ["b1", b],
      ["a2", a],
      ["b2", b],
    ]);
    {
      let refused = 0;
      using _ = replaceLibc("sendmmsg", (original) => (...values) => {
        const result = original(...values);
        if (result < 0 && ++refused === 1) {
          drain(full);
          return failWith(11);
        }
        return result;
      });
      expect(client.trySendBatch(batch)).toBe(2);
    }
    expect(failures(batch)).toEqual(["EAGAIN", undefined, "EAGAIN", undefined]);
    expect([drain(full), drain(free)]).toEqual([[], ["b1", "b2"]]);
  });

  test("of many that are full fails each one's slots", () => {
    const servers = Array.from({ length: 8 }, () => named());
    using client = UnixDatagramSocket.open();
    for (const [i, server] of servers.entries()) if (i % 2 === 0) fillQueue(server);
    using batch = batchOf(
      Array.from({ length: 64 }, (_, i) => [`${i}`, servers[i % 8]?.localAddress] as const),
    );
    expect(client.trySendBatch(batch)).toBe(32);
    expect(failures(batch)).toEqual(
      Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? "EAGAIN" : undefined)),
    );
    for (const [i, server] of servers.entries()) {
      const came = drain(server).filter((text) => !text.startsWith("fill"));
      const expected = Array.from({ length: 8 }, (_, round) => `${round * 8 + i}`);
      expect(came).toEqual(i % 2 === 0 ? [] : expected);
      server.close();
    }
  });

  test("is waited for by sendBatchSync(), in order for everybody", () => {
    using full = named();
    using free = named();
    using client = UnixDatagramSocket.open();
    fillQueue(full);
    const [a, b] = [full.localAddress, free.localAddress];
    using batch = batchOf(
      Array.from({ length: 30 }, (_, i) => (i % 3 === 2 ? ([`b${i}`, b] as const) : [`a${i}`, a])),
    );
    const came: string[] = [];
    const others: string[] = [];
    let waited = 0;
    using _ = replaceLibc("poll", (original) => (...values) => {
      waited++;
      // Those behind the full one have not been sent before it.
      others.push(...drain(free));
      const bytes = full.tryReceiveBytes(64);
      if (bytes) came.push(Buffer.from(bytes).toString());
      return original(...values);
    });
    expect(client.sendBatchSync(batch, 0, WAIT)).toBe(30);
    expect([batch.failed, batch.stopped]).toEqual([0, undefined]);
    expect(waited).toBeGreaterThan(10);
    came.push(...drain(full));
    others.push(...drain(free));
    const texts = Array.from({ length: 30 }, (_, i) => `${i % 3 === 2 ? "b" : "a"}${i}`);
    expect(came.filter((text) => text.startsWith("a"))).toEqual(
      texts.filter((text) => text.startsWith("a")),
    );
    expect(others).toEqual(texts.filter((text) => text.startsWith("b")));
  });

  test("makes sendBatchSync() time out: what was sent, and from where to go on", () => {
    using full = named();
    using free = named();
    using client = UnixDatagramSocket.open();
    const sent = fillQueue(full);
    const [a, b] = [full.localAddress, free.localAddress];
    using batch = batchOf([
      ["b1", b],
      ["b2", b],
      ["a1", a],
      ["b3", b],
    ]);
    const started = performance.now();
    const error = systemErrorOf(() => client.sendBatchSync(batch, 0, { timeoutMs: 25 }));
    const elapsed = performance.now() - started;
    expect(error).toBeInstanceOf(TimeoutError);
    expect([error.syscall, error.transferred]).toEqual(["sendmmsg", 2]);
    expect(batch.stopped).toEqual({ index: 2, code: "EAGAIN" });
    expect(batch.failed).toBe(0);
    expect(elapsed).toBeGreaterThanOrEqual(25);
    expect(elapsed).toBeLessThan(WAIT.timeoutMs);
    expect(drain(full)).toHaveLength(sent);
    expect(client.sendBatchSync(batch, batch.stopped?.index, WAIT)).toBe(2);
    expect([drain(full), drain(free)]).toEqual([["a1"], ["b1", "b2", "b3"]]);
  });

  test("is the peer: trySendBatch() stops, as everything goes there", () => {
    using server = named();
    using client = UnixDatagramSocket.open();
    client.connectSync(server.localAddress);
    fillQueue(server);
    expect(receiveText(server)).toBe("fill 0");
    using batch = batchOf([
      ["1", undefined],
      ["2", undefined],
      ["3", undefined],
    ]);
    expect(client.trySendBatch(batch)).toBe(1);
    expect([batch.failed, batch.stopped]).toEqual([0, { index: 1, code: "EAGAIN" }]);
    using _ = beforeCall("poll", 1, () => drain(server));
    expect(client.sendBatchSync(batch, 1, WAIT)).toBe(2);
    expect(drain(server)).toEqual(["2", "3"]);
  });
});

describe("batches", () => {
  test("go back to those who sent, and unnamed senders fail their own slots only", () => {
    using folder = new Folder();
    using server = UnixDatagramSocket.bind(folder.address("server"));
    using byPath = UnixDatagramSocket.bind(folder.address("path"));
    using byName = UnixDatagramSocket.bind(
      UnixAddress.abstract(`bun-sockets-${crypto.randomUUID()}`),
    );
    using byKernel = named();
    using first = UnixDatagramSocket.open();
    using second = UnixDatagramSocket.open();
    const senders = [first, byPath, byName, second, byKernel, byPath, first];
    using batch = new DatagramBatch({ capacity: 16, slotBytes: 64 });
    for (let round = 0; round < 3; round++) {
      for (const [i, sender] of senders.entries())
        sender.sendToSync(`${round}.${i}`, server.localAddress);
      expect(server.receiveBatchSync(batch, WAIT)).toBe(senders.length);
      for (const [i, sender] of senders.entries()) {
        expect(Buffer.from(batch.view(i)).toString()).toBe(`${round}.${i}`);
        const unnamed = sender === first || sender === second;
        expect(batch.sender(i) === -1).toBe(unnamed);
        expect(batch.address(i)?.equals(sender.localAddress) ?? "unnamed").toBe(
          unnamed ? "unnamed" : true,
        );
      }
      expect(batch.sender(1)).toBe(batch.sender(5));
      for (const send of [
        () => server.trySendBatch(batch),
        () => server.sendBatchSync(batch, 0, WAIT),
      ]) {
        expect(send()).toBe(4);
        expect(batch.failed).toBe(3);
        expect(failures(batch)).toEqual(
          senders.map((sender) => (sender === first || sender === second ? "ENOTCONN" : undefined)),
        );
        expect(batch.stopped).toBeUndefined();
        expect([byPath, byName, byKernel].map(drain)).toEqual([
          [`${round}.1`, `${round}.5`],
          [`${round}.2`],
          [`${round}.4`],
        ]);
      }
    }
  });

  test("go back to a sender whose path fills its address", () => {
    using folder = new Folder();
    using server = named();
    const path = folder.file("x".repeat(108 - folder.path.length - 1));
    using client = UnixDatagramSocket.bind(new UnixAddress(path));
    using batch = new DatagramBatch({ capacity: 2 });
    client.sendToSync("echo", server.localAddress);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect((batch.address(0) as UnixAddress).path).toBe(path);
    expect(server.trySendBatch(batch)).toBe(1);
    expect(failures(batch)).toEqual([undefined]);
    expect(receiveText(client)).toBe("echo");
  });

  test("with dead receivers fail their slots only", () => {
    using folder = new Folder();
    leaveStale(folder.address("stale"), "datagram");
    using stream = Socket.create("unix", "stream");
    stream.bind(folder.address("stream"));
    stream.listen();
    using alive = named();
    using client = named();
    const nobody = UnixAddress.abstract(`bun-sockets-${crypto.randomUUID()}`);
    using batch = batchOf([
      ["1", folder.address("stale")],
      ["2", alive.localAddress],
      ["3", folder.address("missing")],
      ["4", nobody],
      ["5", alive.localAddress],
      ["6", folder.address("stream")],
      ["7", undefined],
      ["8", parseAddress("127.0.0.1:9")],
      ["9", alive.localAddress],
    ]);
    for (const send of [
      () => client.trySendBatch(batch),
      () => client.sendBatchSync(batch, 0, WAIT),
    ]) {
      expect(send()).toBe(3);
      expect(batch.failed).toBe(6);
      expect(failures(batch)).toEqual([
        "ECONNREFUSED",
        undefined,
        "ENOENT",
        "ECONNREFUSED",
        undefined,
        "EPROTOTYPE",
        "ENOTCONN",
        "EINVAL",
        undefined,
      ]);
      expect(batch.stopped).toBeUndefined();
      expect(drain(alive)).toEqual(["2", "5", "9"]);
    }
    // Nor is a refusal told again by a call that has nothing to do with it.
    expect(client.tryReceive(new Uint8Array(1))).toBeUndefined();
    expect(client.trySendTo(Buffer.from("after"), alive.localAddress)).toBe(5);
    expect(drain(alive)).toEqual(["after"]);
  });
});

describe("a peer", () => {
  test("is the only one who is heard, and others are told so", () => {
    using server = named();
    using peer = named();
    using stranger = named();
    stranger.sendToSync("before", server.localAddress);
    server.connectSync(peer.localAddress);
    peer.sendToSync("peer", server.localAddress);
    const error = systemErrorOf(() => stranger.sendToSync("after", server.localAddress, WAIT));
    expect([error.code, error.destination]).toEqual(["EPERM", `${server.localAddress}`]);
    // What was queued before the first connect stays.
    expect(drain(server)).toEqual(["before", "peer"]);
    server.disconnect();
    expect([server.connected, server.remoteAddress]).toEqual([false, undefined]);
    stranger.sendToSync("now", server.localAddress);
    expect(drain(server)).toEqual(["now"]);
  });

  // The kernel empties the queue of a socket that leaves its peer, unlike a UDP socket's.
  test("that is left takes what is queued with it, and is told when it was connected too", () => {
    for (const leave of [
      (socket: UnixDatagramSocket) => socket.disconnect(),
      (socket: UnixDatagramSocket, other: UnixDatagramSocket) =>
        socket.connectSync(other.localAddress),
    ]) {
      using socket = named();
      using peer = named();
      using other = named();
      socket.connectSync(peer.localAddress);
      peer.connectSync(socket.localAddress);
      peer.sendSync("queued");
      leave(socket, other);
      expect(drain(socket)).toEqual([]);
      expect(systemErrorOf(() => peer.tryReceive(new Uint8Array(1))).code).toBe("ECONNRESET");
      // Once, and nothing else is lost.
      expect(peer.tryReceive(new Uint8Array(1))).toBeUndefined();
      other.sendToSync("still heard", socket.localAddress);
      expect(drain(socket)).toEqual(["still heard"]);
    }
  });

  test("that dies harms nobody else", () => {
    const before = openDescriptors();
    {
      using server = named();
      using alive = named();
      const dead = named();
      const target = new Uint8Array(16);
      dead.sendToSync("last words", server.localAddress);
      alive.sendToSync("hello", server.localAddress);
      const deadAddress = dead.localAddress;
      dead.close();
      const received = server.receiveFromSync(target, WAIT);
      expect([received.length, `${received.address}`]).toEqual([10, `${deadAddress}`]);
      for (let round = 0; round < 3; round++) {
        const error = systemErrorOf(() => server.sendToSync("too late", received.address));
        expect([error.code, error.destination]).toEqual(["ECONNREFUSED", `${deadAddress}`]);
        server.sendToSync("to the living", alive.localAddress);
        expect(drain(alive)).toEqual(["to the living"]);
      }
      expect(receiveText(server)).toBe("hello");
      expect(server.tryReceive(target)).toBeUndefined();
    }
    expect(openDescriptors()).toBe(before);
  });

  test("that dies is told to who is connected, and he can have another one", () => {
    using client = named();
    const dead = named();
    client.connectSync(dead.localAddress);
    dead.close();
    expect(systemErrorOf(() => client.sendSync("x")).code).toBe("ECONNREFUSED");
    // The kernel has taken the peer away.
    expect(systemErrorOf(() => client.sendSync("x")).code).toBe("ENOTCONN");
    using next = named();
    client.sendToSync("to another", next.localAddress);
    client.connectSync(next.localAddress);
    client.sendSync("connected");
    expect(drain(next)).toEqual(["to another", "connected"]);
  });

  test("that died does not take the addresses of messages and slots away", () => {
    using client = named();
    using next = named();
    const dead = named();
    client.connectSync(dead.localAddress);
    dead.close();
    expect(systemErrorOf(() => client.sendSync("x")).code).toBe("ECONNREFUSED");
    expect([client.connected, client.remoteAddress]).toEqual([false, undefined]);
    using batch = batchOf([["slot", next.localAddress]]);
    expect(client.trySendBatch(batch)).toBe(1);
    const vectors = [Buffer.from("message")];
    expect(client.trySendMessage(new Message({ vectors, address: next.localAddress }))).toBe(7);
    expect(drain(next)).toEqual(["slot", "message"]);
  });
});

test.each(["trySendBatch", "sendBatchSync"] as const)(
  "%s() to a peer that has died learns of it, and the next one goes where its slots say",
  (name) => {
    using client = named();
    using next = named();
    const dead = named();
    client.connectSync(dead.localAddress);
    dead.close();
    using batch = batchOf([
      ["1", next.localAddress],
      ["2", next.localAddress],
    ]);
    expect(client[name](batch)).toBe(0);
    expect([batch.failed, batch.stopped]).toEqual([2, undefined]);
    expect([client.connected, client.remoteAddress]).toEqual([false, undefined]);
    expect(client[name](batch)).toBe(2);
    expect(drain(next)).toEqual(["1", "2"]);
  },
);

describe("pair()", () => {
  test("is two sockets without names that hear each other only", () => {
    const before = openDescriptors();
    const [left, right] = UnixDatagramSocket.pair();
    expect(openDescriptors()).toBe(before + 2);
    for (const end of [left, right]) {
      expect(end.constructor).toBe(UnixDatagramSocket);
      expect([end.family, end.type, end.connected]).toEqual(["unix", "datagram", true]);
      expect([`${end.localAddress}`, `${end.remoteAddress}`]).toEqual(["unix:", "unix:"]);
    }
    left.sendSync("to the right");
    right.sendSync("");
    right.sendSync("to the left");
    expect(right.receiveFromSync(new Uint8Array(16), WAIT).address).toBe(UnixAddress.unnamed);
    expect(drain(left)).toEqual(["", "to the left"]);
    left.close();
    expect(systemErrorOf(() => right.sendSync("x")).code).toBe("ECONNREFUSED");
    right.close();
    expect(openDescriptors()).toBe(before);
  });

  test("carries batches, whatever addresses they have", () => {
    const [left, right] = UnixDatagramSocket.pair();
    using _left = left;
    using _right = right;
    using nobody = named();
    using batch = batchOf([
      ["1", undefined],
      ["2", nobody.localAddress],
      ["3", parseAddress("127.0.0.1:9")],
    ]);
    expect(left.sendBatchSync(batch, 0, WAIT)).toBe(3);
    using came = new DatagramBatch({ capacity: 8 });
    expect(right.receiveBatchSync(came, WAIT)).toBe(3);
    expect([came.sender(0), came.address(0)]).toEqual([-1, undefined]);
    expect(right.trySendBatch(came)).toBe(3);
    expect(drain(left)).toEqual(["1", "2", "3"]);
    expect(drain(nobody)).toEqual([]);
  });

  test("has room again when the other end has received", () => {
    const [left, right] = UnixDatagramSocket.pair();
    using _left = left;
    using _right = right;
    let sent = 0;
    while (left.trySend(new Uint8Array(1000)) !== undefined) sent++;
    expect(sent).toBeGreaterThan(10);
    expect(systemErrorOf(() => left.sendSync("x", { timeoutMs: 5 }))).toBeInstanceOf(TimeoutError);
    using _ = beforeCall("poll", 1, () => drain(right));
    expect(left.sendSync("room", WAIT)).toBe(4);
    expect(drain(right)).toEqual(["room"]);
  });
});

test("adopt() takes Unix datagram sockets, and refuses all others by name", () => {
  const before = openDescriptors();
  {
    using server = named();
    using copy = UnixDatagramSocket.adopt(server.descriptor);
    using client = UnixDatagramSocket.open();
    client.sendToSync("shared", copy.localAddress);
    expect(drain(copy)).toEqual(["shared"]);
    using udp = UdpSocket.open("ipv4");
    using stream = Socket.create("unix", "stream");
    for (const [socket, kind] of [
      [udp, "ipv4 datagram"],
      [stream, "unix stream"],
    ] as const) {
      const { descriptor } = socket;
      expect(() => UnixDatagramSocket.adopt(descriptor)).toThrow(
        new TypeError(
          `Cannot adopt descriptor ${descriptor} as a Unix datagram socket: it is ${kind}`,
        ),
      );
    }
  }
  expect(openDescriptors()).toBe(before);
});

test("after close() every call is a ClosedError, and the file stays", () => {
  using folder = new Folder();
  using nobody = named();
  const socket = UnixDatagramSocket.bind(folder.address("socket"));
  socket.close();
  socket.close();
  using batch = batchOf([["x", nobody.localAddress]]);
  for (const run of [
    () => socket.trySendTo(new Uint8Array(1), nobody.localAddress),
    () => socket.sendToSync("x", nobody.localAddress, WAIT),
    () => socket.trySendBatch(batch),
    () => socket.sendBatchSync(batch, 0, WAIT),
    () => socket.tryReceiveFrom(new Uint8Array(1)),
    () => socket.receiveBatchSync(batch, WAIT),
    () => socket.localAddress,
  ])
    expect(systemErrorOf(run)).toBeInstanceOf(ClosedError);
  expect(folder.names).toEqual(["socket"]);
  expect(drain(nobody)).toEqual([]);
});
