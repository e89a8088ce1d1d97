/** ReceivedDescriptor: what it stands for, who closes it, who takes it, and who has sent it. */
import { beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  ClosedError,
  ControlReader,
  capabilities,
  type DescriptorKind,
  Message,
  ReceivedDescriptor,
  Socket,
  SocketOption,
  StreamSocket,
  TcpListener,
  TcpSocket,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { pollfd } from "bun-sockets/structs";
import {
  close,
  dup3,
  EMFILE,
  ENOMEM,
  ENOPROTOOPT,
  ESRCH,
  epoll_create1,
  F_GETFD,
  FD_CLOEXEC,
  fcntl,
  MSG_CTRUNC,
  O_CLOEXEC,
  POLLIN,
  pipe2,
  poll,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry } from "../support/faults.ts";
import { type Missing, requires, testIf } from "../support/require.ts";
import { ending, firstLine } from "../support/strangers.ts";
import { startPoller, until } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
const ROOT = join(import.meta.dir, "../..");
const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
const INSPECT = Symbol.for("nodejs.util.inspect.custom");
/** SO_INQ of asm/socket.h, which is the type of its control message too. */
const SCM_INQ = 84;
/** CMSG_SPACE for one descriptor, which has room for two. */
const ONE = 24;

type Carrier = UnixSocket | UnixDatagramSocket | UnixSeqpacketSocket;
const classes = [UnixSocket, UnixDatagramSocket, UnixSeqpacketSocket] as const;
const kinds = classes.map((kind) => [kind.name, kind] as const);

/** Two connected sockets, closed with the block. */
function pairOf(kind: (typeof classes)[number] = UnixSocket) {
  const [left, right] = kind.pair() as [Carrier, Carrier];
  const close = () => {
    left.close();
    right.close();
  };
  return { left, right, [Symbol.dispose]: close };
}

/**
 * Open files of that many names in a folder, closed and removed with the block, and how many
 * descriptors mean them.
 */
function filesOf(count: number) {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  const isOurs = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder);
    } catch {
      return false;
    }
  };
  const open = () => readdirSync("/proc/self/fd").filter(isOurs).length;
  const paths = Array.from({ length: count }, (_, i) => join(folder, `${i}`));
  const numbers = paths.map((path, i) => {
    writeFileSync(path, `text of ${i}`);
    return openSync(path, "r");
  });
  const close = () => {
    for (const number of numbers) closeSync(number);
    // At the end only: a new file could get the inode of one of these, under the same number, while the
    // net still knows a dropped descriptor that was closed behind its back.
    process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  };
  return { folder, paths, numbers, open, [Symbol.dispose]: close };
}

/** What has come of one descriptor, by way of a pair. */
function passed(sendable: Socket | number): ReceivedDescriptor {
  using pair = pairOf();
  pair.left.sendDescriptorsSync("x", [sendable], WAIT);
  const [received] = pair.right.receiveDescriptorsSync(new Uint8Array(1), { max: 1, ...WAIT });
  return received as ReceivedDescriptor;
}

/**
 * Duplicates a descriptor under a number, and closes what that meant before, in one step: between two,
 * a thread of the engine could take the number.
 */
function dupTo(number: number, target: number): number {
  expect(dup3(number, target, O_CLOEXEC)).toBe(target);
  return target;
}

const isOpen = (number: number) => fcntl(number, F_GETFD, 0) >= 0;

function textOf({ descriptor }: ReceivedDescriptor): string {
  const target = Buffer.alloc(100);
  return target.toString("utf8", 0, readSync(descriptor, target, 0, 100, 0));
}

/** Collects until something is so. */
async function collectUntil(condition: () => boolean, what: string): Promise<void> {
  await until(() => {
    Bun.gc(true);
    return condition();
  }, what);
}

function lacks(name: "passPidfd" | "peerPidfd"): Missing {
  return capabilities()[name].supported ? undefined : `needs ${name}, which this kernel has not`;
}

function lacksInQueue(): Missing {
  using pair = pairOf();
  try {
    pair.left.setOption(SocketOption.inQueue, true);
    return undefined;
  } catch {
    return "needs SO_INQ of Unix streams, Linux 6.17";
  }
}

/** The process that a descriptor means, as /proc tells. */
function processOf({ descriptor }: ReceivedDescriptor): number {
  const info = readFileSync(`/proc/self/fdinfo/${descriptor}`, "utf8");
  return Number(/^Pid:\s+(-?\d+)$/m.exec(info)?.[1]);
}

// Its descriptors are not to be counted.
beforeAll(startPoller);

describe("ReceivedDescriptor", () => {
  test("says what it stands for", () => {
    using files = filesOf(1);
    const pipe = new Int32Array(new ArrayBuffer(8));
    pipe2(pipe, 0);
    const folder = openSync(files.folder, "r");
    const device = openSync("/dev/null", "r");
    const epoll = epoll_create1(0);
    using udp = UdpSocket.open("ipv4");
    const [reader = -1, writer = -1] = pipe;
    const given: (Socket | number)[] = [
      udp,
      files.numbers[0] as number,
      reader,
      writer,
      folder,
      device,
      epoll,
    ];
    const told = given.map((each) => {
      using received = passed(each);
      return [received.kind, received.kind];
    });
    const names: DescriptorKind[] = [
      "socket",
      "file",
      "pipe",
      "pipe",
      "directory",
      "device",
      "other",
    ];
    expect(told).toEqual(names.map((name) => [name, name]));
    for (const number of [reader, writer, folder, device, epoll]) close(number);
  });

  test("has a number, close-on-exec, until it is closed; closing again does nothing", () => {
    using files = filesOf(1);
    const before = files.open();
    const received = passed(files.numbers[0] as number);
    const { descriptor } = received;
    expect(fcntl(descriptor, F_GETFD, 0)).toBe(FD_CLOEXEC);
    expect(files.open()).toBe(before + 1);
    received.close();
    expect([received.descriptor, isOpen(descriptor)]).toEqual([-1, false]);
    const other = dupTo(files.numbers[0] as number, descriptor);
    received.close();
    expect(isOpen(other)).toBe(true);
    close(other);
    expect(() => received.kind).toThrow(ClosedError);
    expect(() => received.take()).toThrow(ClosedError);
  });

  test("is closed at the end of a block", () => {
    using files = filesOf(1);
    const before = files.open();
    {
      using received = passed(files.numbers[0] as number);
      expect(textOf(received)).toBe("text of 0");
    }
    expect(files.open()).toBe(before);
  });

  test("gives its number away, open, and is not the one to close it any more", async () => {
    using files = filesOf(1);
    const before = files.open();
    const numbers: number[] = [];
    for (let i = 0; i < 5; i++) {
      const received = passed(files.numbers[0] as number);
      numbers.push(received.take());
      expect(received.descriptor).toBe(-1);
      received.close();
    }
    for (let i = 0; i < 5; i++) {
      Bun.gc(true);
      await new Promise(setImmediate);
    }
    expect(numbers.map(isOpen)).toEqual([true, true, true, true, true]);
    for (const number of numbers) close(number);
    expect(files.open()).toBe(before);
  });

  test("tells of itself what it is", () => {
    using files = filesOf(1);
    const received = passed(files.numbers[0] as number);
    const inspect = (value: object) => (value as Record<symbol, () => string>)[INSPECT]?.();
    expect(inspect(received)).toBe(`ReceivedDescriptor ${received.descriptor}, file`);
    expect(String(received)).toBe(`ReceivedDescriptor ${received.descriptor}, file`);
    received.close();
    expect(inspect(received)).toBe("ReceivedDescriptor closed or taken");
    expect(String(received)).toBe("ReceivedDescriptor closed or taken");
    expect(inspect(ReceivedDescriptor.prototype)).toBe("ReceivedDescriptor");
  });

  test("is not for callers to make", () => {
    const Any = ReceivedDescriptor as unknown as new (...values: unknown[]) => unknown;
    for (const value of [undefined, 0, {}, { fd: 0 }])
      expect(() => new Any(value)).toThrow("Cannot construct a ReceivedDescriptor");
  });

  test("of a number that somebody has closed says so", () => {
    using files = filesOf(1);
    const received = passed(files.numbers[0] as number);
    const { descriptor } = received;
    close(descriptor);
    const error = systemErrorOf(() => received.kind);
    expect([error.code, error.syscall]).toEqual(["EBADF", "fstat"]);
  });

  test("that is dropped is closed after a collection: a thousand messages, whatever they bring", async () => {
    const script = `
      import { readdirSync } from "node:fs";
      import { Message, UnixSocket, UdpSocket } from ${INDEX};
      const [left, right] = UnixSocket.pair();
      const udp = UdpSocket.open("ipv4");
      const files = [udp, 0, 1, 2];
      const target = Buffer.alloc(1);
      const open = () => readdirSync("/proc/self/fd").length;
      let before = 0;
      let most = 0;
      for (let i = 0; i < 1000; i++) {
        left.sendDescriptorsSync("x", [files[i % 4], files[i % 3]]);
        if (i % 2) right.receiveDescriptorsSync(target);
        else right.receiveMessageSync(new Message({ vectors: target, controlBytes: 64 }));
        if (i === 0) before = open();
        if (i % 4 === 3) await new Promise(setImmediate);
        most = Math.max(most, open());
      }
      for (let i = 0; i < 200 && open() > before; i++) {
        Bun.gc(true);
        await new Promise(setImmediate);
      }
      console.log(JSON.stringify([most < 256, open() <= before]));`;
    const child = Bun.spawnSync(
      ["sh", "-c", 'ulimit -n 256; exec "$@"', "sh", process.execPath, "-e", script],
      // Its subject is when the engine collects by itself.
      { cwd: ROOT, env: { ...process.env, BUN_JSC_slowPathAllocsBetweenGCs: undefined } },
    );
    expect([child.stderr.toString(), child.stdout.toString()]).toEqual(["", "[true,true]\n"]);
  }, 60_000);

  test("that is dropped closes no number that means something else by then", async () => {
    using files = filesOf(2);
    using udp = UdpSocket.open("ipv4");
    using another = UdpSocket.open("ipv4");
    const numbers: number[] = [];
    let collected = 0;
    const watch = new FinalizationRegistry(() => {
      collected++;
    });
    const replace = (given: Socket | number, other: number) => {
      const received = passed(given);
      watch.register(received, undefined);
      numbers.push(dupTo(other, received.descriptor));
    };
    for (let i = 0; i < 3; i++) {
      replace(files.numbers[0] as number, files.numbers[1] as number);
      replace(files.numbers[0] as number, udp.descriptor);
      replace(udp, files.numbers[1] as number);
      replace(udp, another.descriptor);
    }
    await collectUntil(() => collected === numbers.length, "all are collected");
    // Each net has its own callback: all of them have run by then.
    await new Promise(setImmediate);
    expect(numbers.every(isOpen)).toBe(true);
    for (const number of numbers) close(number);
  });

  test("that is dropped closes no file that has got its number and its inode", async () => {
    using files = filesOf(1);
    const [path = "", first = -1] = [files.paths[0], files.numbers[0]];
    const before = fstatSync(first);
    let isCollected = false;
    const watch = new FinalizationRegistry(() => {
      isCollected = true;
    });
    const number = (() => {
      const received = passed(first);
      watch.register(received, undefined);
      return received.descriptor;
    })();
    // The inode is free when nobody has the file. Some file systems give it to the next one.
    dupTo(0, first);
    dupTo(0, number);
    const isAnother = () => {
      rmSync(path);
      writeFileSync(path, "another");
      return statSync(path).birthtimeMs !== before.birthtimeMs;
    };
    await until(isAnother, "the file is newer");
    const another = openSync(path, "r");
    dupTo(another, number);
    await collectUntil(() => isCollected, "it is collected");
    await new Promise(setImmediate);
    expect([isOpen(number), fstatSync(number).ino]).toEqual([true, fstatSync(another).ino]);
    for (const fd of [number, another]) close(fd);
  });
});

describe("adopt()", () => {
  /** What can be received, as its class makes it, and by which call it is adopted. */
  const adoptions: readonly (readonly [
    name: string,
    make: () => Socket,
    adopt: (received: ReceivedDescriptor, own: boolean) => Socket,
  ])[] = [
    ["Socket", () => UdpSocket.open("ipv4"), (r, own) => Socket.adopt(r, { own })],
    ["UdpSocket", () => UdpSocket.open("ipv6"), (r, own) => UdpSocket.adopt(r, { own })],
    ["StreamSocket", () => UnixSocket.open(), (r, own) => StreamSocket.adopt(r, { own })],
    ["UnixSocket", () => UnixSocket.open(), (r, own) => UnixSocket.adopt(r, { own })],
    [
      "UnixDatagramSocket",
      () => UnixDatagramSocket.open(),
      (r, own) => UnixDatagramSocket.adopt(r, { own }),
    ],
    [
      "UnixSeqpacketSocket",
      () => UnixSeqpacketSocket.open(),
      (r, own) => UnixSeqpacketSocket.adopt(r, { own }),
    ],
    [
      "TcpListener",
      () => TcpListener.listen("127.0.0.1:0"),
      (r, own) => TcpListener.adopt(r, { own }),
    ],
    ["TcpSocket", () => Socket.create("ipv4", "stream"), (r, own) => TcpSocket.adopt(r, { own })],
    [
      "UnixListener",
      () => UnixListener.listen(UnixAddress.unnamed),
      (r, own) => UnixListener.adopt(r, { own }),
    ],
    [
      "UnixListener of records",
      () => UnixListener.listen(UnixAddress.unnamed, { type: "seqpacket" }),
      (r, own) => UnixListener.adopt(r, { own, type: "seqpacket" }),
    ],
  ];

  test.each(adoptions)("takes a received descriptor (%s)", (_, make, adopt) => {
    using original = make();
    const received = passed(original);
    const { descriptor } = received;
    const adopted = adopt(received, true);
    expect([received.descriptor, adopted.descriptor]).toEqual([-1, descriptor]);
    expect(() => adopt(received, true)).toThrow(ClosedError);
    expect(() => adopt(received, false)).toThrow(ClosedError);
    received.close();
    expect(isOpen(descriptor)).toBe(true);
    adopted.close();
    expect(isOpen(descriptor)).toBe(false);
  });

  test.each(adoptions)("duplicates it unless told otherwise (%s)", (_, make, adopt) => {
    using original = make();
    using received = passed(original);
    const { descriptor } = received;
    const adopted = adopt(received, false);
    expect([received.descriptor, adopted.descriptor === descriptor]).toEqual([descriptor, false]);
    adopted.close();
    expect(isOpen(descriptor)).toBe(true);
  });

  test("that refuses it leaves it as it was", () => {
    using files = filesOf(1);
    using udp = UdpSocket.open("ipv4");
    using socket = passed(udp);
    using file = passed(files.numbers[0] as number);
    const error = caught(() => TcpListener.adopt(socket, { own: true }));
    expect(error).toBeInstanceOf(TypeError);
    expect(error.message).toContain("as a TCP listener: it is ipv4 datagram");
    expect(systemErrorOf(() => Socket.adopt(file, { own: true })).code).toBe("ENOTSOCK");
    expect([socket.kind, file.kind]).toEqual(["socket", "file"]);
  });

  test("that fails on the way leaves it as it was", () => {
    using pair = pairOf(UnixSeqpacketSocket);
    using received = passed(pair.left);
    {
      using _ = replaceEntry("setsockopt", () => failWith(ENOMEM));
      expect(() => UnixSeqpacketSocket.adopt(received, { own: true })).toThrow("ENOMEM");
    }
    using adopted = UnixSeqpacketSocket.adopt(received, { own: true });
    adopted.sendSync("still open");
    expect(Buffer.from(pair.right.receiveBytesSync(100, WAIT)).toString()).toBe("still open");
  });

  test("of one that is closed while its options are read is refused", () => {
    using udp = UdpSocket.open("ipv4");
    const received = passed(udp);
    const options = {
      get own() {
        received.close();
        return true;
      },
    };
    expect(() => UdpSocket.adopt(received, options)).toThrow(ClosedError);
  });

  test("by the number is refused while somebody owns it", () => {
    using udp = UdpSocket.open("ipv4");
    using received = passed(udp);
    expect(() => UdpSocket.adopt(received.descriptor, { own: true })).toThrow(
      "another socket of this thread owns it",
    );
    using adopted = UdpSocket.adopt(received.take(), { own: true });
    expect(adopted.family).toBe("ipv4");
  });
});

describe("Message.descriptors", () => {
  function messageOf(controlBytes = 64): Message {
    return new Message({ vectors: Buffer.alloc(10), controlBytes });
  }

  test.each(kinds)("are what came with the received message (%s)", (_, kind) => {
    using pair = pairOf(kind);
    using files = filesOf(2);
    const message = messageOf();
    expect([message.descriptors, message.processDescriptor]).toEqual([[], undefined]);
    pair.left.sendDescriptorsSync("x", files.numbers);
    pair.right.receiveMessageSync(message, WAIT);
    expect(message.descriptors.map(textOf)).toEqual(["text of 0", "text of 1"]);
    const [control] = message.controlMessages();
    expect(control).toEqual({
      kind: "descriptors",
      descriptors: message.descriptors.map(({ descriptor }) => descriptor),
    });
    expect(Object.isFrozen(message.descriptors)).toBe(true);
    pair.left.sendSync("y");
    pair.right.receiveMessageSync(message, WAIT);
    expect(message.descriptors).toEqual([]);
  });

  test("are closed by the next receive, unless somebody has taken them", () => {
    using pair = pairOf();
    using files = filesOf(3);
    using udp = UdpSocket.open("ipv4");
    const before = files.open();
    const message = messageOf();
    pair.left.sendDescriptorsSync("x", [...files.numbers, udp]);
    pair.right.receiveMessageSync(message, WAIT);
    const [first, second, third, last] = message.descriptors as ReceivedDescriptor[];
    // Where nothing comes, nothing changes.
    expect(pair.right.tryReceiveMessage(message)).toBeUndefined();
    expect(files.open()).toBe(before + 3);
    const taken = (first as ReceivedDescriptor).take();
    second?.close();
    using adopted = UdpSocket.adopt(last as ReceivedDescriptor, { own: true });
    pair.left.sendSync("y");
    pair.right.receiveMessageSync(message, WAIT);
    expect([third?.descriptor, isOpen(taken)]).toEqual([-1, true]);
    expect(isOpen(adopted.descriptor)).toBe(true);
    expect(files.open()).toBe(before + 1);
    close(taken);
  });

  test("are owned also where no descriptor is left to load anything with", () => {
    const script = `
      import { Message, UnixSocket } from ${INDEX};
      import { close, dup } from ${JSON.stringify(new URL("../../lib/sys/index.ts", import.meta.url))};
      const [left, right] = UnixSocket.pair();
      // Not by sendDescriptors, which would load it.
      const sent = new Message({ vectors: Buffer.from("x"), controlBytes: 64 });
      sent.writer.addDescriptors([0, 1]);
      left.sendMessageSync(sent);
      const fill = () => {
        const taken = [];
        for (let fd = dup(0); fd >= 0; fd = dup(0)) taken.push(fd);
        return taken;
      };
      const message = new Message({ vectors: Buffer.alloc(1), controlBytes: 64 });
      const [first, second] = fill();
      close(first);
      close(second);
      right.receiveMessageSync(message);
      const { length } = message.descriptors;
      for (const each of message.descriptors) each.close();
      console.log(length, fill().length);`;
    const shell = 'ulimit -n 64; exec "$@"';
    const child = Bun.spawnSync(["sh", "-c", shell, "sh", process.execPath, "-e", script], {
      cwd: ROOT,
      timeout: 60_000,
    });
    expect([child.stderr.toString(), child.stdout.toString()]).toEqual(["", "2 2\n"]);
  });

  test("are owned also where not all had room", () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(3);
      const before = files.open();
      const message = messageOf(ONE);
      pair.left.sendDescriptorsSync("x", files.numbers);
      pair.right.receiveMessageSync(message, WAIT);
      expect(message.flags & MSG_CTRUNC).toBe(MSG_CTRUNC);
      expect(message.descriptors.map(textOf)).toEqual(["text of 0", "text of 1"]);
      expect(files.open()).toBe(before + 2);
      pair.left.sendSync("y");
      pair.right.receiveMessageSync(message, WAIT);
      expect(files.open()).toBe(before);
    }
  });

  test("go on to the next socket with the control bytes, and stay this message's", () => {
    using pair = pairOf();
    using next = pairOf();
    using files = filesOf(1);
    const before = files.open();
    const relay = messageOf(ONE);
    pair.left.sendDescriptorsSync("x", files.numbers);
    pair.right.receiveMessageSync(relay, WAIT);
    relay.controlLength = ONE;
    next.left.sendMessageSync(relay, WAIT);
    using received = next.right.receiveDescriptorsSync(new Uint8Array(10), WAIT);
    expect([...received].map(textOf)).toEqual(["text of 0"]);
    expect(files.open()).toBe(before + 2);
    for (const each of relay.descriptors) each.close();
  });

  test("that were closed by their number do no harm when it is used again", () => {
    using pair = pairOf();
    using files = filesOf(1);
    const message = messageOf();
    const before = files.open();
    // By the next message, of the very same file.
    for (let i = 0; i < 3; i++) {
      pair.left.sendDescriptorsSync("x", files.numbers);
      pair.right.receiveMessageSync(message, WAIT);
      const [received] = message.descriptors as [ReceivedDescriptor];
      expect(textOf(received)).toBe("text of 0");
      if (i < 2) close(received.descriptor);
    }
    expect(files.open()).toBe(before + 1);
    // By another file.
    const [received] = message.descriptors as [ReceivedDescriptor];
    const { descriptor } = received;
    const other = dupTo(pair.left.descriptor, descriptor);
    pair.left.sendSync("y");
    pair.right.receiveMessageSync(message, WAIT);
    expect(isOpen(other)).toBe(true);
    close(other);
  });

  test("are closed when the message is dropped", async () => {
    using pair = pairOf();
    using files = filesOf(3);
    const before = files.open();
    const receive = () => {
      pair.left.sendDescriptorsSync("x", files.numbers);
      pair.right.receiveMessageSync(messageOf(), WAIT);
    };
    for (let i = 0; i < 4; i++) receive();
    expect(files.open()).toBeGreaterThan(before);
    await collectUntil(() => files.open() <= before, "all are closed");
  });

  test("stay none on sockets that are no Unix ones", () => {
    using udp = UdpSocket.bind("127.0.0.1:0");
    udp.setOption(SocketOption.timestampNs, true);
    udp.sendToSync("x", udp.localAddress);
    const message = messageOf();
    udp.receiveMessageSync(message, WAIT);
    expect([message.controlLength > 0, message.descriptors]).toEqual([true, []]);
  });
});

describe("credentials", () => {
  const ours = () => ({
    processId: process.pid,
    userId: process.getuid?.() ?? -1,
    groupId: process.getgid?.() ?? -1,
  });

  test.each(kinds)("tell who has sent it, where they are asked for (%s)", async (_, kind) => {
    using pair = pairOf(kind);
    pair.left.sendDescriptorsSync("1", [0]);
    {
      using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
      expect(received.credentials).toBeUndefined();
    }
    // What the sender asks for makes no difference to what the receiver is told.
    pair.left.setOption(SocketOption.passCredentials, true);
    pair.left.sendSync("2");
    expect(pair.right.tryReceiveDescriptors(new Uint8Array(1))?.credentials).toBeUndefined();
    pair.right.setOption(SocketOption.passCredentials, true);
    for (const list of [[0], []]) {
      pair.left.sendDescriptorsSync("3", list);
      using received = await pair.right.receiveDescriptors(new Uint8Array(1), WAIT);
      expect([received.credentials, received.descriptors.length]).toEqual([ours(), list.length]);
    }
    pair.right.setOption(SocketOption.passCredentials, false);
    pair.left.sendSync("4");
    expect(pair.right.tryReceiveDescriptors(new Uint8Array(1))?.credentials).toBeUndefined();
  });

  test("of a message that was sent before anybody asked are nobody's", () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      pair.left.sendSync("early");
      pair.right.setOption(SocketOption.passCredentials, true);
      const received = pair.right.tryReceiveDescriptors(new Uint8Array(10));
      expect(received?.credentials).toEqual({ processId: 0, userId: 65534, groupId: 65534 });
    }
  });

  testIf(requires("setpriv"))("that are sent beside descriptors have to be true", () => {
    const script = `
      import { Message, SocketOption, UnixSocket } from ${INDEX};
      const [left, right] = UnixSocket.pair();
      right.setOption(SocketOption.passCredentials, true);
      const message = new Message({ vectors: Buffer.from("x"), controlBytes: 128 });
      message.writer.addCredentials();
      message.writer.addDescriptors([0, 1]);
      left.sendMessageSync(message);
      const received = right.receiveDescriptorsSync(Buffer.alloc(1));
      const told = [received.credentials?.processId === process.pid, received.descriptors.length];
      message.writer.clear();
      message.writer.addCredentials({ processId: 1 });
      try {
        left.sendMessageSync(message);
      } catch (error) {
        told.push(error.code);
      }
      console.log(JSON.stringify(told));`;
    const isRoot = process.getuid?.() === 0;
    const prefix = isRoot ? ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] : [];
    const child = Bun.spawnSync([...prefix, process.execPath, "-e", script], {
      cwd: ROOT,
      timeout: 60_000,
    });
    expect([child.stderr.toString(), child.stdout.toString()]).toEqual(["", '[true,2,"EPERM"]\n']);
  });
});

describe("processDescriptor", () => {
  testIf(lacks("passPidfd"))("is the process that has sent it, where it is asked for", async () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(1);
      const before = files.open();
      pair.right.setOption(SocketOption.passProcessDescriptor, true);
      for (const list of [[], files.numbers, Array<number>(253).fill(files.numbers[0] as number)]) {
        pair.left.sendDescriptorsSync("x", list);
        using received = await pair.right.receiveDescriptors(new Uint8Array(1), {
          ...WAIT,
          max: list.length,
        });
        expect(received.descriptors).toHaveLength(list.length);
        const sender = received.processDescriptor as ReceivedDescriptor;
        expect([sender.kind, processOf(sender)]).toEqual(["process", process.pid]);
        expect(fcntl(sender.descriptor, F_GETFD, 0)).toBe(FD_CLOEXEC);
        received.close();
        expect(sender.descriptor).toBe(-1);
      }
      expect(files.open()).toBe(before);
      const message = new Message({ vectors: Buffer.alloc(1), controlBytes: 64 });
      pair.left.sendDescriptorsSync("x", files.numbers);
      pair.right.receiveMessageSync(message, WAIT);
      expect([message.descriptors.length, message.processDescriptor?.kind]).toEqual([1, "process"]);
      const sender = message.processDescriptor as ReceivedDescriptor;
      pair.right.setOption(SocketOption.passProcessDescriptor, false);
      pair.left.sendSync("y");
      pair.right.receiveMessageSync(message, WAIT);
      expect([message.processDescriptor, sender.descriptor]).toEqual([undefined, -1]);
    }
  });

  testIf(lacks("passPidfd") ?? requires("python3"))(
    "tells of its end, and of nobody else's",
    async () => {
      using listener = UnixListener.listen(UnixAddress.unnamed);
      const script = `
import socket, sys
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.connect(bytes.fromhex(sys.argv[1]))
peer.recv(1)
peer.send(b"hello")
peer.recv(1)
`;
      const name = nameOf(listener.localAddress);
      const child = Bun.spawn(["python3", "-c", script, name], { stderr: "inherit" });
      using _ = ending(child);
      using served = listener.acceptSync(WAIT);
      using peer = served.openPeerProcess() as ReceivedDescriptor;
      served.setOption(SocketOption.passProcessDescriptor, true);
      served.setOption(SocketOption.passCredentials, true);
      served.sendSync("!");
      using received = served.receiveDescriptorsSync(new Uint8Array(10), WAIT);
      const sender = received.processDescriptor as ReceivedDescriptor;
      expect([processOf(sender), processOf(peer)]).toEqual([child.pid, child.pid]);
      expect(received.credentials?.processId).toBe(child.pid);
      const both = new DataView(new ArrayBuffer(2 * pollfd.size));
      for (const [i, { descriptor }] of [sender, peer].entries()) {
        pollfd.fd.set(both, i * pollfd.size, descriptor);
        pollfd.events.set(both, i * pollfd.size, POLLIN);
      }
      expect(poll(both, 0)).toBe(0);
      child.kill("SIGKILL");
      await child.exited;
      expect(poll(both, WAIT.timeoutMs)).toBe(2);
    },
  );
});

describe("openPeerProcess()", () => {
  testIf(lacks("peerPidfd"))("is who made the pair, and none before there is a peer", () => {
    for (const kind of [UnixSocket, UnixSeqpacketSocket]) {
      using pair = pairOf(kind);
      using peer = (pair.left as UnixSocket).openPeerProcess() as ReceivedDescriptor;
      expect([peer.kind, processOf(peer)]).toEqual(["process", process.pid]);
      expect(fcntl(peer.descriptor, F_GETFD, 0)).toBe(FD_CLOEXEC);
      using alone = kind.open();
      expect(alone.openPeerProcess()).toBeUndefined();
      pair.left.close();
      expect(() => (pair.left as UnixSocket).openPeerProcess()).toThrow(ClosedError);
    }
  });
});

test.each([
  [ENOPROTOOPT, "ENOPROTOOPT", undefined],
  [ESRCH, "ESRCH", undefined],
  [EMFILE, "EMFILE", "ulimit -n"],
])("openPeerProcess() passes on what the kernel says: %d is %s", (errno, code, hint) => {
  using pair = pairOf();
  using _ = replaceEntry("getsockopt", () => failWith(errno));
  const error = systemErrorOf(() => (pair.left as UnixSocket).openPeerProcess());
  expect([error.code, error.syscall]).toEqual([code, "getsockopt"]);
  if (hint === undefined) expect(error.hint).toBeUndefined();
  else expect(error.hint).toContain(hint);
});

/** A name as Python takes it, in hexadecimal. */
function nameOf(address: UnixAddress): string {
  return Buffer.from(address.bytes.subarray(2)).toString("hex");
}

const python = testIf(requires("python3"));

describe("with Python", () => {
  python("what it sends is received, and served to socat", async () => {
    using listener = UnixListener.listen(UnixAddress.unnamed);
    using files = filesOf(1);
    const script = `
import os, socket, sys
server = socket.create_server(("127.0.0.1", 0))
reader, writer = os.pipe()
os.write(writer, b"through a pipe")
peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
peer.connect(bytes.fromhex(sys.argv[1]))
socket.send_fds(peer, [b"take ", b"these"], [os.open(sys.argv[2], os.O_RDONLY), server.fileno(), reader])
socket.send_fds(peer, [b"many"], [0] * 253)
`;
    const args = [nameOf(listener.localAddress), files.paths[0] as string];
    const child = Bun.spawn(["python3", "-c", script, ...args], { stderr: "inherit" });
    using _ = ending(child);
    using served = listener.acceptSync(WAIT);
    const target = Buffer.alloc(10);
    using received = await served.receiveDescriptors(target, { max: 3, ...WAIT });
    expect([`${target}`, ...[...received].map(({ kind }) => kind)]).toEqual([
      "take these",
      "file",
      "socket",
      "pipe",
    ]);
    const [file, server, pipe] = received.descriptors as ReceivedDescriptor[];
    expect(textOf(file as ReceivedDescriptor)).toBe("text of 0");
    expect(await child.exited).toBe(0);
    const text = Buffer.alloc(100);
    const { descriptor } = pipe as ReceivedDescriptor;
    expect(text.toString("utf8", 0, readSync(descriptor, text))).toBe("through a pipe");
    using many = await served.receiveDescriptors(target, WAIT);
    expect(many.descriptors).toHaveLength(253);
    // The one who has bound it is gone; the socket is here.
    using tcp = TcpListener.adopt(server as ReceivedDescriptor, { own: true });
    using client = TcpSocket.connectSync(tcp.localAddress, WAIT);
    using connection = await tcp.accept(WAIT);
    await client.send("hello");
    expect(Buffer.from(await connection.receiveBytes(10, WAIT)).toString()).toBe("hello");
  });

  python("what we send arrives there, and comes back", async () => {
    for (const [type, word] of [
      ["stream", "SOCK_STREAM"],
      ["seqpacket", "SOCK_SEQPACKET"],
    ] as const) {
      const listen = { type } as { type: "stream" };
      using listener = UnixListener.listen(UnixAddress.unnamed, listen);
      using files = filesOf(2);
      using udp = UdpSocket.bind("127.0.0.1:0");
      const script = `
import os, socket, sys
peer = socket.socket(socket.AF_UNIX, socket.${word})
peer.connect(bytes.fromhex(sys.argv[1]))
data, fds, flags, _ = socket.recv_fds(peer, 16, 10)
texts = [os.read(fd, 100).decode() for fd in fds[:2]]
udp = socket.socket(fileno=fds[2])
print(data.decode(), flags, texts, udp.getsockname()[1], flush=True)
socket.send_fds(peer, [b"back"], fds[::-1])
peer.recv(1)
`;
      const command = ["python3", "-c", script, nameOf(listener.localAddress)];
      const child = Bun.spawn(command, { stderr: "inherit" });
      using _ = ending(child);
      using served = listener.acceptSync(WAIT);
      await served.sendDescriptors("take", [...files.numbers, udp], WAIT);
      const { port } = udp.localAddress;
      expect(await firstLine(child.stdout)).toBe(`take 0 ['text of 0', 'text of 1'] ${port}`);
      using received = served.receiveDescriptorsSync(new Uint8Array(10), WAIT);
      const [back, ...rest] = received.descriptors as ReceivedDescriptor[];
      using adopted = UdpSocket.adopt(back as ReceivedDescriptor, { own: true });
      expect(adopted.localAddress.port).toBe(port);
      const inodes = rest.map(({ descriptor }) => fstatSync(descriptor).ino);
      expect(inodes).toEqual(files.numbers.map((number) => fstatSync(number).ino).reverse());
    }
  });

  testIf(requires("python3", "socat"))("a listener of its making serves socat here", async () => {
    using inbox = UnixDatagramSocket.bind(UnixAddress.unnamed);
    const script = `
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
carrier = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
carrier.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, server.fileno().to_bytes(4, "little"))], 0, bytes.fromhex(sys.argv[1]))
`;
    const command = ["python3", "-c", script, nameOf(inbox.localAddress)];
    expect(Bun.spawnSync(command, { stderr: "inherit" }).exitCode).toBe(0);
    using received = inbox.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    expect([received.length, `${received.address}`]).toEqual([0, `${UnixAddress.unnamed}`]);
    const [server] = received;
    using tcp = TcpListener.adopt(server as ReceivedDescriptor, { own: true });
    const socat = Bun.spawn(["socat", "-", `TCP:${tcp.localAddress}`], {
      stdin: Buffer.from("why?"),
      stderr: "inherit",
    });
    using _ = ending(socat);
    using connection = await tcp.accept(WAIT);
    const question = Buffer.from(await connection.receiveBytes(10, WAIT)).toString();
    await connection.send(question.toUpperCase());
    connection.close();
    expect(await socat.stdout.text()).toBe("WHY?");
  });
});

/** What is open under a number, or undefined. */
function socketAt(number: number): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${number}`);
  } catch {
    return undefined;
  }
}

test("a received descriptor goes to a Worker by its number", async () => {
  using listener = TcpListener.listen("127.0.0.1:0");
  const address = `${listener.localAddress}`;
  const source = `
    import { TcpListener } from ${INDEX};
    onmessage = async ({ data }) => {
      if (typeof data !== "number") return postMessage([Object.keys(data), data.descriptor]);
      using listener = TcpListener.adopt(data, { own: true });
      using connection = await listener.accept({ timeoutMs: 10000 });
      await connection.sendAll("served by a Worker");
      postMessage("done");
    };
    postMessage("ready");`;
  const worker = new Worker(URL.createObjectURL(new Blob([source])));
  try {
    const messages: unknown[] = [];
    worker.onmessage = ({ data }) => messages.push(data);
    worker.onerror = ({ message }) => messages.push(message);
    const said = async () => {
      await until(() => messages.length > 0, "the Worker has said something");
      return messages.shift();
    };
    expect(await said()).toBe("ready");
    const received = passed(listener);
    listener.close();
    // The object itself does not go there: what arrives is nothing, and closes nothing.
    worker.postMessage(received);
    expect(await said()).toEqual([[], undefined]);
    const number = received.take();
    const socket = socketAt(number);
    worker.postMessage(number);
    using client = await TcpSocket.connect(address, WAIT);
    expect(Buffer.from(await client.receiveBytes(100, WAIT)).toString()).toBe("served by a Worker");
    expect(await said()).toBe("done");
    // The number may be another's by then.
    await until(() => socketAt(number) !== socket, "the Worker has closed it");
  } finally {
    worker.terminate();
  }
});

testIf(lacksInQueue())("a Unix stream tells with each message how many bytes are left", () => {
  using pair = pairOf();
  pair.right.setOption(SocketOption.inQueue, true);
  pair.left.sendSync("0123456789");
  const message = new Message({ vectors: Buffer.alloc(4), controlBytes: 64 });
  const left: number[] = [];
  for (let i = 0; i < 3; i++) {
    pair.right.receiveMessageSync(message, WAIT);
    const reader = new ControlReader(message.control, message.controlLength);
    while (reader.next())
      if (reader.level === SOL_SOCKET && reader.type === SCM_INQ)
        left.push(
          new DataView(message.control.buffer).getInt32(
            message.control.byteOffset + reader.dataOffset,
            true,
          ),
        );
  }
  expect(left).toEqual([6, 2, 0]);
});
