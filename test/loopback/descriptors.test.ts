/** Descriptors over Unix sockets: who owns what came, and what becomes of what is sent. */

import { type Pointer, toArrayBuffer } from "bun:ffi";
import { beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type AsyncOptions,
  ClosedError,
  capabilities,
  DatagramBatch,
  type DescriptorsMax,
  Message,
  type ReceivedDescriptor,
  type ReceivedDescriptors,
  type SendableDescriptor,
  type Socket,
  SocketOption,
  type SystemError,
  TimeoutError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { cmsghdr, msghdr } from "bun-sockets/structs";
import {
  close,
  dup,
  EMFILE,
  ETOOMANYREFS,
  F_GETFD,
  FD_CLOEXEC,
  fcntl,
  MSG_EOR,
  MSG_PEEK,
  SCM_RIGHTS,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { systemErrorOf } from "../support/errors.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { type Missing, requires, testIf } from "../support/require.ts";
import { outcomes, reasonOf, startPoller, until } from "../support/waiting.ts";

const WAIT = { timeoutMs: 10_000 };
/** SCM_MAX_FD of net/scm.h. */
const MOST = 253;
const INT = 4;

type Carrier = UnixSocket | UnixDatagramSocket | UnixSeqpacketSocket;
const classes = [UnixSocket, UnixDatagramSocket, UnixSeqpacketSocket] as const;

/** Two connected sockets, closed with the block. */
function pairOf(kind: (typeof classes)[number] = UnixSocket) {
  const [left, right] = kind.pair() as [Carrier, Carrier];
  const close = () => {
    left.close();
    right.close();
  };
  return { left, right, [Symbol.dispose]: close };
}

/** A folder for files, removed with the block. */
function folderOf() {
  const path = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  const close = () => rmSync(path, { recursive: true });
  return { path, [Symbol.dispose]: close };
}

/** Open files of that many names, closed with the block, and how many descriptors mean them. */
function filesOf(count: number) {
  const folder = folderOf();
  const isOurs = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(folder.path);
    } catch {
      return false;
    }
  };
  const open = () => readdirSync("/proc/self/fd").filter(isOurs).length;
  const numbers = Array.from({ length: count }, (_, i) => {
    writeFileSync(join(folder.path, `${i}`), `text of ${i}`);
    return openSync(join(folder.path, `${i}`), "r");
  });
  const close = () => {
    for (const number of numbers) closeSync(number);
    folder[Symbol.dispose]();
  };
  return { numbers, open, [Symbol.dispose]: close };
}

/** The three forms of a call, in one shape. */
interface Form {
  readonly name: string;
  send(socket: Carrier, data: Uint8Array, sent: readonly SendableDescriptor[]): Promise<unknown>;
  receive(
    socket: Carrier,
    target: Uint8Array,
    options?: DescriptorsMax,
  ): Promise<ReceivedDescriptors>;
}

const forms: readonly Form[] = [
  {
    name: "try",
    send: async (socket, data, sent) => socket.trySendDescriptors(data, sent),
    receive: async (socket, target, options) =>
      socket.tryReceiveDescriptors(target, options) as ReceivedDescriptors,
  },
  {
    name: "Sync",
    send: async (socket, data, sent) => socket.sendDescriptorsSync(data, sent, WAIT),
    receive: async (socket, target, options) =>
      socket.receiveDescriptorsSync(target, { ...options, ...WAIT }),
  },
  {
    name: "promise",
    send: (socket, data, sent) => socket.sendDescriptors(data, sent, WAIT),
    receive: (socket, target, options) =>
      socket.receiveDescriptors(target, { ...options, ...WAIT }),
  },
];
const cases = classes.flatMap((kind) =>
  forms.map((form) => [`${kind.name}, ${form.name}`, kind, form] as const),
);

/** One received descriptor of the number, by way of a pair. */
function passed(sendable: SendableDescriptor): ReceivedDescriptor {
  using pair = pairOf();
  pair.left.sendDescriptorsSync("x", [sendable], WAIT);
  const [received] = pair.right.receiveDescriptorsSync(new Uint8Array(1), { max: 1, ...WAIT });
  return received as ReceivedDescriptor;
}

/** Sends until nothing more fits. */
function fillUp(socket: Carrier): void {
  const chunk = new Uint8Array(4096);
  while (socket.trySend(chunk) !== undefined);
}

/** Takes everything that waits, and what waits behind it. */
async function drain(socket: Carrier, isOver: () => boolean): Promise<ReceivedDescriptor[]> {
  const found: ReceivedDescriptor[] = [];
  const target = new Uint8Array(8192);
  await until(() => {
    for (;;) {
      const received = socket.tryReceiveDescriptors(target);
      if (!received) return isOver();
      found.push(...received);
    }
  }, "all was received");
  return found;
}

const texts = (received: Iterable<ReceivedDescriptor>) =>
  [...received].map(({ descriptor }) => {
    const target = Buffer.alloc(100);
    return target.toString("utf8", 0, readSync(descriptor, target, 0, 100, 0));
  });

/** What a kernel without something lacks, for testIf. */
function lacks(name: "passRights" | "passPidfd" | "peerPidfd"): Missing {
  return capabilities()[name].supported ? undefined : `needs ${name}, which this kernel has not`;
}

// Its descriptors are not to be counted.
beforeAll(startPoller);

describe.each(cases)("sendDescriptors() and receiveDescriptors() (%s)", (_, kind, form) => {
  test("pass open files in order, close-on-exec, with the data", async () => {
    using pair = pairOf(kind);
    using files = filesOf(3);
    const before = files.open();
    expect(await form.send(pair.left, Buffer.from("hello"), files.numbers)).toBe(5);
    const target = Buffer.alloc(8, "-");
    using received = await form.receive(pair.right, target, { max: 3 });
    expect(`${target}`).toBe("hello---");
    expect([received.length, received.originalLength]).toEqual([5, 5]);
    expect(texts(received)).toEqual(["text of 0", "text of 1", "text of 2"]);
    expect([...received]).toEqual([...received.descriptors]);
    for (const { descriptor } of received) {
      expect(files.numbers).not.toContain(descriptor);
      expect(fcntl(descriptor, F_GETFD, 0)).toBe(FD_CLOEXEC);
    }
    expect(files.open()).toBe(before + 3);
    received.close();
    expect(files.open()).toBe(before);
  });

  test("pass sockets, received descriptors and numbers in one message", async () => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    using udp = UdpSocket.bind("127.0.0.1:0");
    using again = passed(files.numbers[0] as number);
    await form.send(pair.left, Buffer.from("x"), [udp, again, files.numbers[0] as number]);
    using received = await form.receive(pair.right, new Uint8Array(1));
    const [first, ...rest] = received;
    expect(rest.map((each) => each.kind)).toEqual(["file", "file"]);
    using adopted = UdpSocket.adopt(first as ReceivedDescriptor, { own: true });
    expect(adopted.localAddress.equals(udp.localAddress)).toBe(true);
  });

  test(`pass ${MOST} at once, and refuse one more before anything is done`, async () => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    const before = files.open();
    const many = Array<number>(MOST).fill(files.numbers[0] as number);
    await form.send(pair.left, Buffer.from("x"), many);
    using received = await form.receive(pair.right, new Uint8Array(1));
    expect(received.descriptors).toHaveLength(MOST);
    expect(files.open()).toBe(before + MOST);
    received.close();
    const reason = await reasonOf(form.send(pair.left, Buffer.from("x"), [...many, 0]));
    expect(reason).toBeInstanceOf(RangeError);
    expect(`${reason}`).toContain("254 as the number of descriptors: expected 0 to 253");
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
    expect(files.open()).toBe(before);
  });

  test("pass no descriptor, which is a plain message", async () => {
    using pair = pairOf(kind);
    await form.send(pair.left, Buffer.from("plain"), []);
    const received = await form.receive(pair.right, new Uint8Array(8), { max: 0 });
    expect([received.length, [...received]]).toEqual([5, []]);
  });

  test("with one that is not open send nothing, say which it is, and leak nothing", async () => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    const closed = UdpSocket.open("ipv4");
    closed.close();
    const gone = passed(files.numbers[0] as number);
    gone.close();
    const before = files.open();
    for (const [bad, why] of [
      [999_999, "is 999999, which is not open"],
      [closed, "was closed or given away"],
      [gone, "was closed or given away"],
    ] as const) {
      const list = [files.numbers[0] as number, pair.left, bad];
      const reason = await reasonOf(form.send(pair.left, Buffer.from("x"), list));
      expect(reason).not.toBeInstanceOf(ClosedError);
      expect(reason).toMatchObject({ code: "EBADF", syscall: "sendmsg" });
      expect((reason as SystemError).hint).toBe(`Entry 2 of the descriptors ${why}`);
      expect(files.open()).toBe(before);
    }
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test.each<[string, unknown, typeof TypeError | typeof RangeError]>([
    ["undefined", undefined, TypeError],
    ["a number", 5, TypeError],
    ["a Set", new Set([0]), TypeError],
    ["what looks like an array", { length: 1, 0: 0 }, TypeError],
    ["a hole", new Array(1), TypeError],
    ["text", ["0"], TypeError],
    ["an object that has one", [{ descriptor: 0 }], TypeError],
    ["an array in an array", [[0]], TypeError],
    ["-1", [-1], RangeError],
    ["half a number", [0.5], RangeError],
    ["2^31", [2 ** 31], RangeError],
    ["NaN", [Number.NaN], RangeError],
  ])("refuse %s as descriptors", async (_, list, error) => {
    using pair = pairOf(kind);
    const reason = await reasonOf(form.send(pair.left, Buffer.from("x"), list as number[]));
    expect(reason).toBeInstanceOf(error);
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test.each<[unknown, typeof TypeError | typeof RangeError]>([
    [-1, RangeError],
    [254, RangeError],
    [1.5, RangeError],
    ["1", TypeError],
    [null, TypeError],
  ])("refuse %j as max, and lose nothing", async (max, error) => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    await form.send(pair.left, Buffer.from("x"), files.numbers);
    const reason = await reasonOf(
      form.receive(pair.right, new Uint8Array(1), { max: max as number }),
    );
    expect(reason).toBeInstanceOf(error);
    using received = await form.receive(pair.right, new Uint8Array(1));
    expect(received.descriptors).toHaveLength(1);
  });

  test("refuse data and targets that are no views, and lose nothing", async () => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    for (const bad of [
      undefined,
      5,
      [1],
      new SharedArrayBuffer(1),
      new Uint8Array(new SharedArrayBuffer(1)),
    ]) {
      const reason = await reasonOf(form.send(pair.left, bad as Uint8Array, files.numbers));
      expect(reason).toBeInstanceOf(TypeError);
    }
    await form.send(pair.left, Buffer.from("x"), files.numbers);
    for (const bad of [undefined, 5, [new Uint8Array(1)], new ArrayBuffer(1)]) {
      const reason = await reasonOf(form.receive(pair.right, bad as unknown as Uint8Array));
      expect(reason).toBeInstanceOf(TypeError);
    }
    using received = await form.receive(pair.right, new Uint8Array(1));
    expect(received.descriptors).toHaveLength(1);
  });

  // With room for one the kernel opens a second one: CMSG_SPACE rounds up.
  test.each([
    [2, 1],
    [3, 1],
    [200, 1],
    [MOST, 252],
    [1, 0],
  ])("%d where the caller takes %d: all are closed, and the data is there", async (sent, max) => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    const before = files.open();
    const many = Array<number>(sent).fill(files.numbers[0] as number);
    await form.send(pair.left, Buffer.from("data"), many);
    const target = Buffer.alloc(8, "-");
    const reason = await reasonOf(form.receive(pair.right, target, { max }));
    expect(reason).toMatchObject({ code: "EMSGSIZE", syscall: "recvmsg", transferred: 4 });
    expect((reason as SystemError).hint).toContain(`more than \`max\`, which is ${max}`);
    expect(`${target}`).toBe("data----");
    expect(files.open()).toBe(before);
    // The socket goes on.
    await form.send(pair.left, Buffer.from("x"), files.numbers);
    using received = await form.receive(pair.right, target, { max: 1 });
    expect(received.descriptors).toHaveLength(1);
  });
});

describe("sendDescriptors()", () => {
  test.each(forms)("on a stream takes at least one byte ($name)", async (form) => {
    using pair = pairOf();
    using files = filesOf(1);
    const reason = await reasonOf(form.send(pair.left, new Uint8Array(0), files.numbers));
    expect(reason).toBeInstanceOf(RangeError);
  });

  test.each([
    ["datagram", UnixDatagramSocket],
    ["record", UnixSeqpacketSocket],
  ] as const)("with an empty %s passes them too", (_, kind) => {
    using pair = pairOf(kind);
    using files = filesOf(1);
    expect(pair.left.trySendDescriptors(new Uint8Array(0), files.numbers)).toBe(0);
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    expect([received.length, texts(received)]).toEqual([0, ["text of 0"]]);
  });

  test.each(["sendDescriptors", "sendDescriptorsSync"] as const)(
    "%s() takes a string as UTF-8, and an ArrayBuffer",
    async (name) => {
      using pair = pairOf();
      expect(await pair.left[name]("grüße", [])).toBe(7);
      expect(await pair.left[name](Uint8Array.of(33).buffer, [])).toBe(1);
      expect(Buffer.from(pair.right.receiveBytesSync(100)).toString()).toBe("grüße!");
    },
  );

  test("in try form takes no string", () => {
    using pair = pairOf();
    expect(() => pair.left.trySendDescriptors("x" as unknown as Uint8Array, [])).toThrow(TypeError);
  });

  test("on a stream sends as much as fits, and the descriptors with the first byte", () => {
    using pair = pairOf();
    using files = filesOf(1);
    const data = new Uint8Array(4 << 20);
    const sent = pair.left.trySendDescriptors(data, files.numbers) as number;
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(data.length);
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    expect([received.length, received.descriptors.length]).toEqual([1, 1]);
  });

  test("sends a datagram to an address, whose receiver is told of the sender", async () => {
    using receiver = UnixDatagramSocket.bind(UnixAddress.unnamed);
    using sender = UnixDatagramSocket.bind(UnixAddress.unnamed);
    using nameless = UnixDatagramSocket.open();
    using files = filesOf(1);
    const to = receiver.localAddress;
    expect(sender.trySendDescriptors(Buffer.from("1"), files.numbers, { to })).toBe(1);
    expect(sender.sendDescriptorsSync("2", files.numbers, { to: `${to}` })).toBe(1);
    expect(await nameless.sendDescriptors("3", files.numbers, { to })).toBe(1);
    const senders: string[] = [];
    for (const name of ["1", "2", "3"]) {
      const target = Buffer.alloc(10);
      using received = receiver.receiveDescriptorsSync(target, WAIT);
      expect([target.toString("utf8", 0, received.length), received.descriptors.length]).toEqual([
        name,
        1,
      ]);
      senders.push(`${received.address}`);
    }
    const name = `${sender.localAddress}`;
    expect(senders).toEqual([name, name, `${UnixAddress.unnamed}`]);
    expect(() => nameless.trySendDescriptors(Buffer.from("x"), files.numbers)).toThrow("ENOTCONN");
    const missing = `unix:@nobody-${process.pid}`;
    const error = systemErrorOf(() =>
      nameless.trySendDescriptors(Buffer.from("x"), files.numbers, { to: missing }),
    );
    expect([error.code, error.destination]).toEqual(["ECONNREFUSED", missing]);
  });

  test("with an address is refused where the socket has a peer", () => {
    using pair = pairOf(UnixDatagramSocket);
    const to = `unix:@nobody-${process.pid}`;
    const socket = pair.left as UnixDatagramSocket;
    expect(() => socket.trySendDescriptors(Buffer.from("x"), [], { to })).toThrow(TypeError);
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("waits for room while the caller closes his own: what arrives is what was sent", async () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(1);
      fillUp(pair.left);
      const before = files.open();
      const own = dup(files.numbers[0] as number);
      const socket = UdpSocket.bind("127.0.0.1:0");
      const { port } = socket.localAddress;
      const sent = pair.left.sendDescriptors(Buffer.from("late"), [own, socket], WAIT);
      const [outcome] = outcomes([sent]);
      close(own);
      socket.close();
      // Its own are open as long as it waits.
      expect(files.open()).toBe(before + 1);
      let isSent = false;
      sent.then(() => {
        isSent = true;
      });
      const found = await drain(pair.right, () => isSent);
      expect(await sent).toBe(4);
      expect(outcome).toBe("pending");
      expect(files.open()).toBe(before + 1);
      expect(texts(found.slice(0, 1))).toEqual(["text of 0"]);
      using adopted = UdpSocket.adopt(found[1] as ReceivedDescriptor, { own: true });
      expect(adopted.localAddress.port).toBe(port);
      found[0]?.close();
      adopted.close();
      expect(files.open()).toBe(before);
    }
  });

  test.each<[string, (socket: Carrier, cancel: AbortController) => void, AsyncOptions, string]>([
    ["cancelled", (_, cancel) => cancel.abort(new Error("enough")), {}, "Error: enough"],
    ["closed", (socket) => socket.close(), {}, "ClosedError: sendmsg EBADF"],
    ["detached", (socket) => void close(socket.detach()), {}, "SystemError: sendmsg ECANCELED"],
    ["too late", () => {}, { timeoutMs: 20 }, "TimeoutError: sendmsg ETIMEDOUT"],
  ])("that waits and is %s closes its duplicates", async (_, end, options, told) => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(5);
      fillUp(pair.left);
      const cancel = new AbortController();
      const before = files.open();
      const sent = pair.left.sendDescriptors("late", files.numbers, {
        ...options,
        signal: cancel.signal,
      });
      expect(files.open()).toBe(before + 5);
      const reason = reasonOf(sent);
      end(pair.left, cancel);
      expect(`${await reason}`).toStartWith(told);
      expect(files.open()).toBe(before);
    }
  });

  test("with a signal that was aborted before sends and keeps nothing", async () => {
    using pair = pairOf();
    using files = filesOf(2);
    const before = files.open();
    const signal = AbortSignal.abort(new Error("before"));
    const reason = await reasonOf(pair.left.sendDescriptors("x", files.numbers, { signal }));
    expect(`${reason}`).toBe("Error: before");
    expect(files.open()).toBe(before);
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("whose data is detached while it waits is refused, and closes its duplicates", async () => {
    using pair = pairOf();
    using files = filesOf(2);
    fillUp(pair.left);
    const before = files.open();
    const data = new Uint8Array(64);
    const sent = pair.left.sendDescriptors(data, files.numbers, WAIT);
    const reason = reasonOf(sent);
    data.buffer.transfer();
    while (pair.right.tryReceive(new Uint8Array(65536)));
    expect(await reason).toBeInstanceOf(TypeError);
    expect(files.open()).toBe(before);
  });

  test("without room gives undefined at once, or a TimeoutError in blocking form", () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(1);
      fillUp(pair.left);
      const before = files.open();
      expect(pair.left.trySendDescriptors(new Uint8Array(4096), files.numbers)).toBeUndefined();
      const send = () => pair.left.sendDescriptorsSync("x", files.numbers, { timeoutMs: 5 });
      expect(send).toThrow(TimeoutError);
      expect(files.open()).toBe(before);
    }
  });

  test("without room for the duplicates says so, and closes those it has made", async () => {
    using pair = pairOf();
    using files = filesOf(3);
    const before = files.open();
    let left = 2;
    {
      using _ = replaceLibc("fcntl", (original) => (fd, operation, argument) => {
        if (operation === F_GETFD || left-- > 0) return original(fd, operation, argument);
        return failWith(EMFILE);
      });
      const reason = await reasonOf(pair.left.sendDescriptors("x", files.numbers));
      expect(reason).toMatchObject({ code: "EMFILE", syscall: "fcntl" });
      expect((reason as SystemError).hint).toContain("ulimit -n");
    }
    expect(files.open()).toBe(before);
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  testIf(lacks("passRights"))("to a receiver that takes none is EPERM, with a hint", async () => {
    for (const kind of classes)
      for (const form of forms) {
        using pair = pairOf(kind);
        using files = filesOf(2);
        pair.right.setOption(SocketOption.passRights, false);
        const before = files.open();
        const reason = await reasonOf(form.send(pair.left, Buffer.from("x"), files.numbers));
        expect(reason).toMatchObject({ code: "EPERM", syscall: "sendmsg" });
        expect((reason as SystemError).hint).toContain("SO_PASSRIGHTS");
        expect(files.open()).toBe(before);
        // Data without descriptors still goes.
        expect(await form.send(pair.left, Buffer.from("data"), [])).toBe(4);
        expect(Buffer.from(pair.right.receiveBytesSync(10, WAIT)).toString()).toBe("data");
        pair.right.setOption(SocketOption.passRights, true);
        await form.send(pair.left, Buffer.from("x"), files.numbers);
        using received = await form.receive(pair.right, new Uint8Array(1));
        expect(received.descriptors).toHaveLength(2);
      }
  });

  test("of more than may be on the way is ETOOMANYREFS, with a hint", async () => {
    using pair = pairOf();
    using _ = replaceEntry("sendmsg", () => failWith(ETOOMANYREFS));
    for (const form of forms) {
      const reason = await reasonOf(form.send(pair.left, Buffer.from("x"), [0]));
      expect(reason).toMatchObject({ code: "ETOOMANYREFS", syscall: "sendmsg" });
      expect((reason as SystemError).hint).toContain("on the way");
    }
  });

  testIf(requires("setpriv"))("of more than may be on the way is refused by the kernel", () => {
    const script = `
      import { UnixSocket } from "bun-sockets";
      const [left, right] = UnixSocket.pair();
      let sent = 0;
      try {
        for (; sent < 200; sent++) left.sendDescriptorsSync("x", [0]);
      } catch (error) {
        const { received } = { received: right.receiveDescriptorsSync(Buffer.alloc(1)) };
        console.log(error.code, error.hint.includes("on the way"), sent <= 65, [...received].length);
      }`;
    const isRoot = process.getuid?.() === 0;
    const prefix = isRoot ? ["setpriv", "--bounding-set=-sys_resource,-sys_admin"] : [];
    expect(inChild(script, 64, prefix)).toBe("ETOOMANYREFS true true 1");
  });

  test("of a connected socket makes it ask who sends: its receiver can connect it anew", () => {
    using pair = pairOf();
    using udp = UdpSocket.bind("127.0.0.1:0");
    using first = UdpSocket.bind("127.0.0.1:0");
    using second = UdpSocket.bind("127.0.0.1:0");
    using batch = new DatagramBatch();
    udp.connectSync(first.localAddress);
    // An empty queue makes the peer the only sender there can be.
    expect(udp.tryReceiveBatch(batch)).toBe(0);
    pair.left.sendDescriptorsSync("x", [udp]);
    const [received] = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    using theirs = UdpSocket.adopt(received as ReceivedDescriptor, { own: true });
    theirs.connectSync(second.localAddress);
    second.sendToSync("hello", udp.localAddress);
    expect(udp.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(`${batch.address(0)}`).toBe(`${second.localAddress}`);
  });

  test("takes a descriptor that is on its way out itself", () => {
    using pair = pairOf();
    using inner = pairOf();
    pair.left.sendDescriptorsSync("x", [inner.left as Socket, inner.left as Socket], WAIT);
    inner.left.close();
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    const [first, second] = received;
    using one = UnixSocket.adopt(first as ReceivedDescriptor, { own: true });
    using other = UnixSocket.adopt(second as ReceivedDescriptor, { own: true });
    one.sendSync("one");
    other.sendSync("two");
    expect(Buffer.from(inner.right.receiveBytesSync(10, WAIT)).toString()).toBe("onetwo");
  });
});

/** Runs a program in a child with few descriptors; what it prints. */
function inChild(script: string, descriptors: number, prefix: readonly string[] = []): string {
  const child = Bun.spawnSync(
    [...prefix, "sh", "-c", `ulimit -n ${descriptors}; exec "$@"`, "sh"].concat(
      process.execPath,
      "-e",
      script,
    ),
    {
      cwd: join(import.meta.dir, "../.."),
      env: { ...process.env, BUN_SOCKETS_LEAKS: "" },
      timeout: 60_000,
    },
  );
  expect({ exitCode: child.exitCode, errors: child.stderr.toString() }).toEqual({
    exitCode: 0,
    errors: "",
  });
  return child.stdout.toString().trim();
}

describe("receiveDescriptors()", () => {
  test("gives the address, lengths and flags of the message", () => {
    using pair = pairOf(UnixDatagramSocket);
    pair.left.sendDescriptorsSync("longer than that", [0]);
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(6), WAIT);
    const { length, originalLength, flags } = received;
    expect([length, originalLength, flags]).toEqual([6, 16, 0x20]);
    expect(`${received.address}`).toBe(`${UnixAddress.unnamed}`);
    using stream = pairOf();
    stream.left.sendDescriptorsSync("x", [0]);
    using other = stream.right.receiveDescriptorsSync(new Uint8Array(6), WAIT);
    expect(other.address).toBeUndefined();
  });

  test("at the end of a stream gives 0 bytes and nothing else", async () => {
    using pair = pairOf();
    pair.left.close();
    for (const form of forms) {
      const received = await form.receive(pair.right, new Uint8Array(1));
      expect([received.length, received.descriptors.length, received.flags]).toEqual([0, 0, 0]);
    }
  });

  test("tells an empty record from the end of a seqpacket connection", () => {
    using pair = pairOf(UnixSeqpacketSocket);
    pair.left.sendDescriptorsSync("", [0]);
    pair.left.sendDescriptorsSync("", []);
    pair.left.close();
    const seen: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
      seen.push([received.length, received.descriptors.length, received.flags]);
    }
    expect(seen).toEqual([
      [0, 1, MSG_EOR],
      [0, 0, MSG_EOR],
      [0, 0, 0],
    ]);
  });

  test("waits, in order, and is cancelled like every receive", async () => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      expect(pair.right.tryReceiveDescriptors(new Uint8Array(1))).toBeUndefined();
      expect(() => pair.right.receiveDescriptorsSync(new Uint8Array(1), { timeoutMs: 5 })).toThrow(
        TimeoutError,
      );
      const late = pair.right.receiveDescriptors(new Uint8Array(1), { timeoutMs: 5 });
      expect(await reasonOf(late)).toBeInstanceOf(TimeoutError);
      const cancel = new AbortController();
      const { signal } = cancel;
      const first = pair.right.receiveDescriptors(new Uint8Array(1), { signal });
      const second = pair.right.receiveDescriptors(new Uint8Array(1), WAIT);
      const reason = reasonOf(first);
      cancel.abort(new Error("not any more"));
      expect(`${await reason}`).toBe("Error: not any more");
      pair.left.sendDescriptorsSync("x", [0]);
      using received = await second;
      expect(received.descriptors).toHaveLength(1);
      const closing = reasonOf(pair.right.receiveDescriptors(new Uint8Array(1)));
      pair.right.close();
      expect(await closing).toBeInstanceOf(ClosedError);
    }
  });

  test("peeks at descriptors, each time at new ones", () => {
    using pair = pairOf();
    using files = filesOf(1);
    pair.left.sendDescriptorsSync("x", files.numbers);
    const before = files.open();
    using peeked = pair.right.receiveDescriptorsSync(new Uint8Array(1), {
      ...WAIT,
      flags: MSG_PEEK,
    });
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    expect([texts(peeked), texts(received)]).toEqual([["text of 0"], ["text of 0"]]);
    expect(files.open()).toBe(before + 2);
  });

  test("refuses an empty target on a stream, and flags that have no meaning", async () => {
    using pair = pairOf();
    pair.left.sendDescriptorsSync("x", [0]);
    for (const form of forms) {
      const reason = await reasonOf(form.receive(pair.right, new Uint8Array(0)));
      expect(reason).toBeInstanceOf(RangeError);
    }
    const flags = 1 << 28;
    expect(() => pair.right.tryReceiveDescriptors(new Uint8Array(1), { flags })).toThrow(
      RangeError,
    );
    using received = pair.right.receiveDescriptorsSync(new Uint8Array(1), WAIT);
    expect(received.descriptors).toHaveLength(1);
  });

  test("when the limit is reached opens what the kernel can, closes it, and says so", () => {
    const script = `
      import { readdirSync } from "node:fs";
      import { UnixSocket } from "bun-sockets";
      import { close, dup } from "bun-sockets/sys";
      const [left, right] = UnixSocket.pair();
      // Everything is loaded that is read from files.
      left.sendDescriptorsSync("x", [0]);
      right.receiveDescriptorsSync(Buffer.alloc(10)).close();
      const open = () => readdirSync("/proc/self/fd").length;
      const before = open();
      left.sendDescriptorsSync("data", Array(10).fill(0));
      const taken = [];
      for (let fd = dup(0); fd >= 0; fd = dup(0)) taken.push(fd);
      for (const fd of taken.splice(0, 3)) close(fd);
      const target = Buffer.alloc(10);
      let told;
      try {
        right.receiveDescriptorsSync(target);
      } catch (error) {
        const { name, code, syscall, transferred, hint } = error;
        told = [name, code, syscall, transferred, hint.includes("ulimit -n"), hint.includes("closed")];
      }
      // As many are free as before.
      const free = [];
      for (let fd = dup(0); fd >= 0; fd = dup(0)) free.push(fd);
      for (const fd of [...free, ...taken]) close(fd);
      console.log(JSON.stringify([told, target.toString("utf8", 0, 4), free.length, open() - before]));`;
    const told = ["SystemError", "EMFILE", "recvmsg", 4, true, true];
    expect(JSON.parse(inChild(script, 128))).toEqual([told, "data", 3, 0]);
  });

  test("with nothing loaded and the limit reached leaks nothing", () => {
    const script = `
      import { UnixSocket } from "bun-sockets";
      import { close, dup } from "bun-sockets/sys";
      const [left, right] = UnixSocket.pair();
      left.sendDescriptorsSync("data", Array(3).fill(0));
      const taken = [];
      for (let fd = dup(0); fd >= 0; fd = dup(0)) taken.push(fd);
      for (const fd of taken.splice(0, 3)) close(fd);
      const received = right.receiveDescriptorsSync(Buffer.alloc(10));
      const kinds = [...received].map(({ descriptor }) => descriptor >= 0);
      received.close();
      const free = [];
      for (let fd = dup(0); fd >= 0; fd = dup(0)) free.push(fd);
      console.log(JSON.stringify([kinds, free.length]));`;
    expect(JSON.parse(inChild(script, 128))).toEqual([[true, true, true], 3]);
  });

  test("owns what several SCM_RIGHTS in one control buffer bring", () => {
    using pair = pairOf();
    using files = filesOf(3);
    const before = files.open();
    for (const max of [3, 2]) {
      pair.left.sendDescriptorsSync("x", files.numbers);
      using _ = replaceLibc("recvmsg", (original) => (fd, message, flags) => {
        const result = original(fd, message, flags);
        splitRights(message as DataView);
        return result;
      });
      const receive = () => pair.right.receiveDescriptorsSync(new Uint8Array(1), { max });
      if (max === 2) expect(systemErrorOf(receive).code).toBe("EMSGSIZE");
      else {
        using received = receive();
        expect(texts(received)).toEqual(["text of 0", "text of 1", "text of 2"]);
      }
      expect(files.open()).toBe(before);
    }
  });

  test.each([
    ["receive", (socket: Carrier) => socket.receiveSync(new Uint8Array(100), WAIT)],
    ["receiveFrom", (socket: Carrier) => socket.receiveFromSync(new Uint8Array(100), WAIT).length],
    ["receiveBytes", (socket: Carrier) => socket.receiveBytesSync(100, WAIT).length],
    [
      "receiveMessage without room",
      (socket: Carrier) =>
        socket.receiveMessageSync(new Message({ vectors: Buffer.alloc(10) }), WAIT),
    ],
  ])("is the only one that keeps them: %s() does not, and leaks none", (_, receive) => {
    for (const kind of classes) {
      using pair = pairOf(kind);
      using files = filesOf(3);
      const before = files.open();
      for (let i = 0; i < 20; i++) {
        pair.left.sendDescriptorsSync("x", files.numbers);
        expect(receive(pair.right)).toBe(1);
      }
      expect(files.open()).toBe(before);
    }
  });

  test("is the only one that keeps them: receiveBatch() and readers do not, and leak none", async () => {
    using pair = pairOf(UnixDatagramSocket);
    using files = filesOf(3);
    const before = files.open();
    using batch = new DatagramBatch();
    for (let i = 0; i < 5; i++) {
      pair.left.sendDescriptorsSync("x", files.numbers);
      pair.left.sendDescriptorsSync("y", files.numbers);
      expect(pair.right.receiveBatchSync(batch, WAIT)).toBe(2);
      expect(files.open()).toBe(before);
    }
    using stream = pairOf();
    stream.left.sendDescriptorsSync("line\n", files.numbers);
    const after = files.open();
    expect(await (stream.right as UnixSocket).reader().readLine()).toBe("line");
    expect(files.open()).toBe(after);
  });
});

/** Makes a control message of its own of each descriptor, as a kernel might. */
function splitRights(message: DataView): void {
  const address = msghdr.msg_control.get(message, 0);
  const length = msghdr.msg_controllen.get(message, 0);
  const space = cmsghdr.size + 8;
  const control = new DataView(toArrayBuffer(address as Pointer, 0, 512));
  const count = (cmsghdr.cmsg_len.get(control, 0) - cmsghdr.size) / INT;
  expect(length).toBeGreaterThan(cmsghdr.size);
  const numbers = Array.from({ length: count }, (_, i) =>
    control.getInt32(cmsghdr.size + i * INT, true),
  );
  for (const [i, number] of numbers.entries()) {
    cmsghdr.cmsg_len.set(control, i * space, cmsghdr.size + INT);
    cmsghdr.cmsg_level.set(control, i * space, SOL_SOCKET);
    cmsghdr.cmsg_type.set(control, i * space, SCM_RIGHTS);
    control.setInt32(i * space + cmsghdr.size, number, true);
  }
  msghdr.msg_controllen.set(message, 0, count * space);
}
