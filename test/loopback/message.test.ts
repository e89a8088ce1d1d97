/** Message: what it takes, what the kernel is told of it, and what the kernel told. */
import { describe, expect, test } from "bun:test";
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Address,
  ClosedError,
  Message,
  type MessageOptions,
  NativeBuffer,
  Socket,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { cmsghdr, timeval, ucred } from "bun-sockets/structs";
import {
  close,
  F_GETFD,
  FD_CLOEXEC,
  fcntl,
  MSG_CTRUNC,
  MSG_EOR,
  MSG_PEEK,
  MSG_TRUNC,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SCM_TIMESTAMP,
  SO_PASSCRED,
  SO_TIMESTAMP,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { libc } from "../../lib/ffi/libc.ts";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { replaceEntry } from "../support/faults.ts";

const WAIT = { timeoutMs: 5000 };
const CANARY = 0xa5;
const INT = 4;

/** CMSG_ALIGN of cmsg(3). */
const align = (length: number) => Math.ceil(length / 8) * 8;
/** CMSG_LEN of cmsg(3). */
const cmsgLength = (dataBytes: number) => cmsghdr.size + dataBytes;
/** CMSG_SPACE of cmsg(3). */
const cmsgSpace = (dataBytes: number) => cmsghdr.size + align(dataBytes);

/** Two connected sockets, closed at the end of the block. */
class Pair implements Disposable {
  readonly left: Socket;
  readonly right: Socket;

  constructor(type: "stream" | "datagram" | "seqpacket" = "datagram") {
    [this.left, this.right] = Socket.pair({ type });
  }

  [Symbol.dispose](): void {
    this.left.close();
    this.right.close();
  }
}

const types = ["stream", "datagram", "seqpacket"] as const;

/** Writes one control message at the start of a message's control memory, to be sent. */
function writeControl(message: Message, type: number, data: readonly number[]): void {
  const view = controlView(message);
  cmsghdr.cmsg_len.set(view, 0, cmsgLength(data.length * INT));
  cmsghdr.cmsg_level.set(view, 0, SOL_SOCKET);
  cmsghdr.cmsg_type.set(view, 0, type);
  for (const [i, value] of data.entries()) view.setInt32(cmsghdr.size + i * INT, value, true);
  message.controlLength = cmsgSpace(data.length * INT);
}

function controlView({ control }: Message): DataView {
  return new DataView(control.buffer, control.byteOffset, control.byteLength);
}

interface Control {
  readonly level: number;
  readonly type: number;
  readonly data: Uint8Array;
}

/** The control messages that a receive has filled in. */
function readControl(message: Message): Control[] {
  const view = controlView(message);
  const found: Control[] = [];
  for (let at = 0; at + cmsghdr.size <= message.controlLength; ) {
    const length = cmsghdr.cmsg_len.get(view, at);
    found.push({
      level: cmsghdr.cmsg_level.get(view, at),
      type: cmsghdr.cmsg_type.get(view, at),
      data: message.control.slice(at + cmsghdr.size, at + length),
    });
    at += align(length);
  }
  return found;
}

/** The descriptors that came with a message: the caller's to close. */
function receivedDescriptors(message: Message): number[] {
  return readControl(message)
    .filter(({ level, type }) => level === SOL_SOCKET && type === SCM_RIGHTS)
    .flatMap(({ data }) => [...new Int32Array(data.buffer)]);
}

function texts(vectors: readonly ArrayBufferView[]): string[] {
  return vectors.map((view) =>
    Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength).toString(),
  );
}

function detachedView(): Uint8Array {
  const view = new Uint8Array(new ArrayBuffer(64));
  view.buffer.transfer();
  return view;
}

describe("new Message()", () => {
  test("without options has no payload, no address, no control memory, and says so", () => {
    const message = new Message();
    expect(message.vectors).toEqual([]);
    expect(message.address).toBeUndefined();
    expect([message.control.length, message.controlLength]).toEqual([0, 0]);
    expect([message.flags, message.originalLength]).toEqual([0, 0]);
  });

  test("keeps its vectors as they are, and its address", () => {
    const head = new Uint8Array(4);
    const body = new DataView(new ArrayBuffer(8), 2, 4);
    const message = new Message({
      vectors: [head, body],
      address: "127.0.0.1:9",
      controlBytes: 40,
    });
    expect(message.vectors).toHaveLength(2);
    expect(message.vectors[0]).toBe(head);
    expect(message.vectors[1]).toBe(body);
    expect(`${message.address}`).toBe("127.0.0.1:9");
    expect([message.control.length, message.controlLength]).toEqual([40, 0]);
    expect(message.control.every((byte) => byte === 0)).toBe(true);
  });

  test("takes one view for a list of one, and keeps a list of its own", () => {
    const view = new Uint8Array(4);
    const one = new Message({ vectors: view });
    expect(one.vectors).toHaveLength(1);
    expect(one.vectors[0]).toBe(view);
    const list = [view];
    const many = new Message({ vectors: list });
    list.push(view);
    list[0] = new Uint8Array(1);
    expect(many.vectors).toHaveLength(1);
    expect(many.vectors[0]).toBe(view);
    expect(() => (many.vectors as Uint8Array[]).push(view)).toThrow(TypeError);
  });

  const wrong: [name: string, options: object, error: typeof RangeError][] = [
    ["controlBytes -1", { controlBytes: -1 }, RangeError],
    ["controlBytes 65537", { controlBytes: 65537 }, RangeError],
    ["controlBytes 0.5", { controlBytes: 0.5 }, RangeError],
    ["controlBytes NaN", { controlBytes: Number.NaN }, RangeError],
    ["controlBytes as text", { controlBytes: "64" }, TypeError],
    ["an address of null", { address: null }, TypeError],
    ["an address that is a number", { address: 9000 }, TypeError],
    ["an address that is none", { address: "localhost" }, TypeError],
    ["an address that is the parts of one", { address: { family: "ipv4" } }, TypeError],
    ["vectors of null", { vectors: null }, TypeError],
    ["vectors that are a number", { vectors: 4096 }, TypeError],
    ["vectors that are an object", { vectors: {} }, TypeError],
    ["vectors that are an ArrayBuffer", { vectors: new ArrayBuffer(8) }, TypeError],
    ["vectors that are text", { vectors: "text" }, TypeError],
    ["vectors that are empty text", { vectors: "" }, TypeError],
  ];
  test.each(wrong)("refuses %s", (_, options, error) => {
    expect(() => new Message(options as MessageOptions)).toThrow(error);
  });

  test("takes the most control memory there is", () => {
    expect(new Message({ controlBytes: 65536 }).control.length).toBe(65536);
  });

  test("is the only way to a message", () => {
    using pair = new Pair();
    const fake = Object.create(Message.prototype);
    for (const message of [fake, {}, null, undefined, new Proxy(new Message(), {})]) {
      for (const run of [
        () => pair.left.trySendMessage(message),
        () => pair.left.sendMessageSync(message, WAIT),
        () => pair.left.tryReceiveMessage(message),
        () => pair.left.receiveMessageSync(message, WAIT),
      ])
        expect(run).toThrow(TypeError);
    }
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });
});

describe("vectors", () => {
  const wrong: [name: string, make: () => unknown][] = [
    ["null", () => null],
    ["a number, which C would take as an address", () => 4096],
    ["a bigint", () => 4096n],
    ["a string", () => "text"],
    ["an array", () => [1, 2]],
    ["an ArrayBuffer", () => new ArrayBuffer(8)],
    ["a Proxy of a view", () => new Proxy(new Uint8Array(4), {})],
    ["what only inherits from a view", () => Object.create(Uint8Array.prototype)],
    ["shared memory", () => new Uint8Array(new SharedArrayBuffer(8))],
    ["resizable memory", () => new Uint8Array(new ArrayBuffer(8, { maxByteLength: 16 }))],
    ["detached memory", () => detachedView()],
  ];
  test.each(wrong)("refuse %s when they are set, and stay as they were", (_, make) => {
    const view = new Uint8Array(4);
    const message = new Message({ vectors: [view] });
    const vectors = [new Uint8Array(2), make()] as unknown as Uint8Array[];
    const assign = () => {
      message.vectors = vectors;
    };
    expect(assign).toThrow(TypeError);
    expect(() => new Message({ vectors })).toThrow(TypeError);
    expect(message.vectors).toHaveLength(1);
    expect(message.vectors[0]).toBe(view);
  });

  test.each([0, 1, 2, 1024])(
    "may be %d: they are sent as one and received into as many",
    (count) => {
      using pair = new Pair();
      const { left, right } = pair;
      const parts = Array.from({ length: count }, (_, i) => Buffer.from(`<${i}>`));
      const whole = Buffer.concat(parts);
      expect(left.trySendMessage(new Message({ vectors: parts }))).toBe(whole.length);
      const targets = parts.map((part) => Buffer.alloc(part.length, CANARY));
      const message = new Message({ vectors: targets });
      expect(right.tryReceiveMessage(message)).toBe(whole.length);
      expect(Buffer.concat(targets).equals(whole)).toBe(true);
      expect(message.originalLength).toBe(whole.length);
      expect(right.tryReceiveMessage(message)).toBeUndefined();
    },
  );

  test("may not be 1025, and then stay as they were", () => {
    const message = new Message({ vectors: [Buffer.from("as it was")] });
    const vectors = Array.from({ length: 1025 }, () => new Uint8Array(1));
    const assign = () => {
      message.vectors = vectors;
    };
    const refusal = new RangeError("Cannot use 1025 as the number of vectors: expected 0 to 1024");
    expect(assign).toThrow(refusal);
    expect(() => new Message({ vectors })).toThrow(refusal);
    expect(texts(message.vectors)).toEqual(["as it was"]);
  });

  test("may grow and shrink, and the address stays", () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using client = UdpSocket.open("ipv4");
    const message = new Message({ address: server.localAddress });
    for (const count of [1, 300, 2, 1024, 0, 3]) {
      message.vectors = Array.from({ length: count }, () => Buffer.from("x"));
      expect(client.trySendMessage(message)).toBe(count);
      expect(server.receiveSync(new Uint8Array(2000), WAIT)).toBe(count);
      expect(`${message.address}`).toBe(`${server.localAddress}`);
    }
  });

  test.each(types)("that are empty are passed over on %s sockets", (type) => {
    using pair = new Pair(type);
    const { left, right } = pair;
    const empty = () => new Uint8Array(0);
    const inside = new Uint8Array([1, 2, 3]).subarray(1, 1);
    const vectors = [empty(), Buffer.from("ab"), inside, Buffer.from("c"), empty()];
    expect(left.trySendMessage(new Message({ vectors }))).toBe(3);
    const targets = [empty(), Buffer.alloc(1), inside, empty(), Buffer.alloc(2)];
    expect(right.tryReceiveMessage(new Message({ vectors: targets }))).toBe(3);
    expect(texts(targets)).toEqual(["", "a", "", "", "bc"]);
  });

  test.each(["datagram", "seqpacket"] as const)("that are all empty send an empty %s", (type) => {
    using pair = new Pair(type);
    const { left, right } = pair;
    for (const vectors of [
      [],
      [new Uint8Array(0)],
      [new Uint8Array(0), new DataView(new ArrayBuffer(0))],
    ]) {
      expect(left.trySendMessage(new Message({ vectors }))).toBe(0);
      const message = new Message({ vectors: [new Uint8Array(4)] });
      expect(right.tryReceiveMessage(message)).toBe(0);
      expect(message.originalLength).toBe(0);
      expect(right.tryReceiveMessage(message)).toBeUndefined();
    }
  });

  test.each(["datagram", "seqpacket"] as const)("without room take a %s off the queue", (type) => {
    using pair = new Pair(type);
    for (const vectors of [[], [new Uint8Array(0)]]) {
      pair.left.sendSync("lost");
      const message = new Message({ vectors });
      expect(pair.right.tryReceiveMessage(message)).toBe(0);
      expect([message.originalLength, message.flags & MSG_TRUNC]).toEqual([4, MSG_TRUNC]);
      expect(pair.right.tryReceive(new Uint8Array(8))).toBeUndefined();
    }
  });

  test("without room are refused on a stream, and lose nothing", () => {
    using pair = new Pair("stream");
    pair.left.sendSync("kept");
    for (const vectors of [[], [new Uint8Array(0), new Uint8Array(0)]]) {
      const run = () => pair.right.tryReceiveMessage(new Message({ vectors }));
      expect(run).toThrow(
        new RangeError("Cannot receive a stream into a message without room for payload"),
      );
    }
    expect(Buffer.from(pair.right.receiveBytesSync(8, WAIT)).toString()).toBe("kept");
  });

  test.each(types)("that were detached between the calls are refused (%s)", (type) => {
    using pair = new Pair(type);
    const { left, right } = pair;
    left.sendSync("kept");
    const vector = new Uint8Array(new ArrayBuffer(4));
    const message = new Message({ vectors: [Buffer.alloc(2), vector] });
    vector.buffer.transfer();
    for (const run of [() => right.tryReceiveMessage(message), () => left.trySendMessage(message)])
      expect(run).toThrow("Cannot use detached memory as a vector");
    expect(Buffer.from(right.receiveBytesSync(8, WAIT)).toString()).toBe("kept");
    expect(right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("that the options' getter detaches are refused, and nothing is lost", () => {
    using pair = new Pair();
    const { left, right } = pair;
    left.sendSync("kept");
    for (const call of ["tryReceiveMessage", "receiveMessageSync", "trySendMessage"] as const) {
      const vector = new Uint8Array(new ArrayBuffer(4));
      const message = new Message({ vectors: [vector] });
      const options = {
        ...WAIT,
        get flags() {
          vector.buffer.transfer();
          return 0;
        },
      };
      const socket = call === "trySendMessage" ? left : right;
      expect(() => socket[call](message, options)).toThrow("Cannot use detached memory");
    }
    expect(Buffer.from(right.receiveBytesSync(8, WAIT)).toString()).toBe("kept");
    expect(right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("that were freed are refused: a NativeBuffer's views", () => {
    using pair = new Pair();
    const memory = new NativeBuffer(4096);
    const message = new Message({ vectors: [memory.bytes.subarray(8, 16)] });
    memory.free();
    expect(() => pair.left.trySendMessage(message)).toThrow("Cannot use detached memory");
    expect(() => pair.right.tryReceiveMessage(message)).toThrow("Cannot use detached memory");
  });

  // Places in one block of memory, given to the message in another order than they lie in.
  const places = [
    { at: 40, length: 3 },
    { at: 8, length: 8 },
    { at: 60, length: 1 },
    { at: 24, length: 4 },
  ];
  const makers: [
    name: string,
    make: (memory: ArrayBuffer, at: number, length: number) => ArrayBufferView,
  ][] = [
    ["Uint8Arrays", (memory, at, length) => new Uint8Array(memory, at, length)],
    ["Buffers", (memory, at, length) => Buffer.from(memory, at, length)],
    ["DataViews", (memory, at, length) => new DataView(memory, at, length)],
    [
      "arrays of wider numbers where they fit",
      (memory, at, length) =>
        length % 8 === 0
          ? new Float64Array(memory, at, length / 8)
          : length % 4 === 0
            ? new Int32Array(memory, at, length / 4)
            : new Int8Array(memory, at, length),
    ],
  ];
  describe.each(makers)("of %s", (_, make) => {
    test.each(types)("are gathered in their order, and nothing else is sent (%s)", (type) => {
      using pair = new Pair(type);
      using memory = new NativeBuffer(64);
      memory.bytes.fill(CANARY);
      let letter = "a".charCodeAt(0);
      for (const { at, length } of places)
        for (let i = 0; i < length; i++) memory.bytes[at + i] = letter++;
      const vectors = places.map(({ at, length }) => make(memory.bytes.buffer, at, length));
      expect(pair.left.trySendMessage(new Message({ vectors }))).toBe(16);
      const came = Buffer.from(pair.right.receiveBytesSync(64, WAIT));
      expect(came.toString("latin1")).toBe("abcdefghijklmnop");
    });

    test.each(types)("are scattered to in their order, and nowhere else (%s)", (type) => {
      for (const text of [
        "",
        "ab",
        "abc",
        "abcd",
        "abcdefghijklmno",
        "abcdefghijklmnop",
        "abcdefghijklmnopq and more",
      ]) {
        if (type === "stream" && text === "") continue;
        using pair = new Pair(type);
        using memory = new NativeBuffer(64);
        memory.bytes.fill(CANARY);
        const expected = Buffer.alloc(64, CANARY);
        let taken = 0;
        for (const { at, length } of places) {
          expected.write(text.slice(taken, taken + length), at, "latin1");
          taken += length;
        }
        pair.left.sendSync(text);
        const vectors = places.map(({ at, length }) => make(memory.bytes.buffer, at, length));
        const message = new Message({ vectors });
        expect(pair.right.receiveMessageSync(message, WAIT)).toBe(Math.min(text.length, 16));
        expect(Buffer.compare(memory.bytes.subarray(0, 64), expected)).toBe(0);
        if (type === "stream") continue;
        const truncated = text.length > 16 ? MSG_TRUNC : 0;
        expect([message.originalLength, message.flags & MSG_TRUNC]).toEqual([
          text.length,
          truncated,
        ]);
      }
    });
  });

  test("that lie about themselves are taken as they are", () => {
    class Long extends Uint8Array<ArrayBuffer> {
      override get byteLength(): number {
        return 4096;
      }
      override get length(): number {
        return 4096;
      }
      override get byteOffset(): number {
        return 0;
      }
    }
    using pair = new Pair();
    const memory = new Uint8Array(64).fill(CANARY);
    const liar = new Long(memory.buffer, 16, 4);
    expect(pair.left.trySendMessage(new Message({ vectors: [liar] }))).toBe(4);
    expect(pair.right.tryReceiveBytes(64)).toEqual(new Uint8Array(4).fill(CANARY));
    pair.left.sendSync("0123456789");
    const message = new Message({ vectors: [liar] });
    expect(pair.right.tryReceiveMessage(message)).toBe(4);
    expect(Buffer.from(memory.buffer).toString("latin1", 15, 21)).toBe("\xa50123\xa5");
    message.advance(4);
    expect(message.vectors).toEqual([]);
  });
});

describe("advance()", () => {
  const parts = () => ["ab", "", "cde", "f"].map((text) => Buffer.from(text));
  const cases: [bytes: number, rest: string][] = [
    [0, "abcdef"],
    [1, "bcdef"],
    [2, "cdef"],
    [3, "def"],
    [5, "f"],
    [6, ""],
  ];
  test.each(cases)("of %d leaves %j, and sends exactly that", (bytes, rest) => {
    using pair = new Pair();
    const message = new Message({ vectors: parts() });
    message.advance(bytes);
    expect(texts(message.vectors).join("")).toBe(rest);
    expect(pair.left.trySendMessage(message)).toBe(rest.length);
    expect(Buffer.from(pair.right.tryReceiveBytes(8) ?? [1]).toString()).toBe(rest);
  });

  test("in steps ends where one step would", () => {
    const message = new Message({ vectors: parts() });
    for (const rest of ["bcdef", "cdef", "def", "ef", "f", ""]) {
      message.advance(1);
      expect(texts(message.vectors).join("")).toBe(rest);
    }
    message.advance(0);
    expect(message.vectors).toEqual([]);
  });

  test("of 0 leaves each view as it is", () => {
    const [head, body] = [new DataView(new ArrayBuffer(4)), new Float64Array(2)];
    const message = new Message({ vectors: [head, body] });
    message.advance(0);
    expect(message.vectors[0]).toBe(head);
    expect(message.vectors[1]).toBe(body);
    message.advance(4);
    expect(message.vectors[0]).toBe(body);
  });

  test("counts the bytes of wider arrays, and keeps the memory of a view at an offset", () => {
    const memory = Buffer.from("....abcdefgh....");
    const copy = new Uint8Array(16);
    copy.set(memory);
    for (const view of [
      new DataView(copy.buffer, 4, 8),
      new Uint32Array(copy.buffer, 4, 2),
      new Uint16Array(copy.buffer, 4, 4),
    ]) {
      const message = new Message({ vectors: [view] });
      message.advance(3);
      expect(texts(message.vectors)).toEqual(["defgh"]);
      expect(message.vectors[0]?.buffer).toBe(copy.buffer);
      expect(texts([view])).toEqual(["abcdefgh"]);
    }
  });

  test.each([7, -1, 0.5, Number.NaN, Infinity])("of %d is refused, and drops nothing", (bytes) => {
    const message = new Message({ vectors: parts() });
    expect(() => message.advance(bytes)).toThrow(
      new RangeError(`Cannot use ${bytes} as the number of bytes sent: expected 0 to 6`),
    );
    expect(texts(message.vectors).join("")).toBe("abcdef");
  });

  test.each(["1", null, undefined, 1n])("of %p is refused, and drops nothing", (bytes) => {
    const message = new Message({ vectors: parts() });
    expect(() => message.advance(bytes as unknown as number)).toThrow(TypeError);
    expect(texts(message.vectors).join("")).toBe("abcdef");
  });

  test("after each short send sends a long message whole", () => {
    using pair = new Pair("stream");
    const { left, right } = pair;
    const whole = crypto.getRandomValues(new Uint8Array(65536));
    const vectors = Array.from({ length: 200 }, (_, i) => whole.subarray(i, i + 9000 + i));
    const expected = Buffer.concat(vectors);
    const message = new Message({ vectors });
    const came: Uint8Array[] = [];
    let short = 0;
    for (let rounds = 0; message.vectors.length > 0 && rounds < 10_000; rounds++) {
      const sent = left.trySendMessage(message);
      if (sent === undefined) {
        came.push(right.receiveBytesSync(1 << 20, WAIT));
        continue;
      }
      message.advance(sent);
      if (message.vectors.length > 0) short++;
    }
    left.close();
    for (let bytes = right.receiveBytesSync(1 << 20, WAIT); bytes.length > 0; ) {
      came.push(bytes);
      bytes = right.receiveBytesSync(1 << 20, WAIT);
    }
    expect(short).toBeGreaterThan(1);
    expect(Buffer.concat(came).equals(expected)).toBe(true);
  });
});

describe("address", () => {
  const addresses = ["127.0.0.1:53", "[::1]:53", "unix:/run/x.sock", "unix:@name", "unix:"];
  test.each(addresses)("takes %s as an object and as text, and nothing again", (text) => {
    const message = new Message({ address: text });
    expect(`${message.address}`).toBe(text);
    const { address } = message;
    message.address = undefined;
    expect(message.address).toBeUndefined();
    message.address = address;
    expect(message.address?.equals(address)).toBe(true);
  });

  test("takes a shorter one after a longer one", () => {
    const message = new Message({ address: `unix:/${"x".repeat(107)}` });
    expect(`${message.address}`).toBe(`unix:/${"x".repeat(107)}`);
    for (const text of [
      "unix:/a",
      "[::1]:1",
      "unix:@b",
      "127.0.0.1:1",
      `unix:@${"y".repeat(107)}`,
    ]) {
      message.address = text;
      expect(`${message.address}`).toBe(text);
    }
  });

  test.each([null, 9000, {}, "localhost", ""])("refuses %p, and stays as it was", (value) => {
    const message = new Message({ address: "127.0.0.1:53" });
    const assign = () => {
      message.address = value as unknown as Address;
    };
    expect(assign).toThrow(TypeError);
    expect(`${message.address}`).toBe("127.0.0.1:53");
  });

  const families = ["127.0.0.1:0", "[::1]:0", "unix:"] as const;
  /** A datagram socket that is bound. */
  const bind = (free: string) => {
    const family = free === "unix:" ? "unix" : free.startsWith("[") ? "ipv6" : "ipv4";
    const socket = Socket.create(family, "datagram");
    socket.bind(free);
    return socket;
  };

  test.each(families)("is where an unconnected socket sends, and who sent (%s)", (free) => {
    using server = bind(free);
    using client = bind(free);
    const question = new Message({ vectors: [Buffer.from("why?")], address: server.localAddress });
    expect(client.trySendMessage(question)).toBe(4);
    const message = new Message({ vectors: [Buffer.alloc(8)], address: "192.0.2.1:1" });
    expect(server.receiveMessageSync(message, WAIT)).toBe(4);
    expect(`${message.address}`).toBe(`${client.localAddress}`);
    // A received message goes back to its sender as it is.
    message.vectors = [(message.vectors[0] as Buffer).subarray(0, 4), Buffer.from(" because")];
    expect(server.sendMessageSync(message, WAIT)).toBe(12);
    expect(client.receiveMessageSync(new Message({ vectors: [Buffer.alloc(32)] }), WAIT)).toBe(12);
  });

  test.each(families)("is ignored by a connected socket (%s)", (free) => {
    using server = bind(free);
    using other = bind(free);
    using client = bind(free);
    client.connectSync(server.localAddress);
    const message = new Message({
      vectors: [Buffer.from("to the peer")],
      address: other.localAddress,
    });
    expect(client.trySendMessage(message)).toBe(11);
    expect(client.sendMessageSync(message, WAIT)).toBe(11);
    expect(`${message.address}`).toBe(`${other.localAddress}`);
    expect(server.receiveSync(new Uint8Array(16), WAIT)).toBe(11);
    expect(server.receiveSync(new Uint8Array(16), WAIT)).toBe(11);
    expect(other.tryReceive(new Uint8Array(1))).toBeUndefined();
    client.disconnect();
    expect(client.trySendMessage(message)).toBe(11);
    expect(other.receiveSync(new Uint8Array(16), WAIT)).toBe(11);
  });

  test.each(families)("that is missing or of another family is refused by name (%s)", (free) => {
    using client = bind(free);
    const message = new Message({ vectors: [Buffer.from("x")] });
    const lost = systemErrorOf(() => client.trySendMessage(message));
    expect([lost.code, lost.syscall]).toEqual([
      free === "unix:" ? "ENOTCONN" : "EDESTADDRREQ",
      "sendmsg",
    ]);
    message.address = free === "unix:" ? "127.0.0.1:9" : "unix:@nobody";
    const error = systemErrorOf(() => client.trySendMessage(message));
    expect(["EINVAL", "EAFNOSUPPORT"]).toContain(error.code);
    expect(error.destination).toBe(`${message.address}`);
  });

  test("of a Unix sender without a name is undefined", () => {
    using server = UnixDatagramSocket.bind(UnixAddress.unnamed);
    using client = UnixDatagramSocket.open();
    client.sendToSync("x", server.localAddress);
    const message = new Message({ vectors: [Buffer.alloc(8)], address: "unix:@before" });
    expect(server.receiveMessageSync(message, WAIT)).toBe(1);
    expect(message.address).toBeUndefined();
  });

  test("of a path that fills it comes as it was bound", () => {
    const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
    try {
      const path = join(folder, "x".repeat(108 - folder.length - 1));
      expect(Buffer.byteLength(path)).toBe(108);
      using server = UnixDatagramSocket.bind(UnixAddress.unnamed);
      using client = UnixDatagramSocket.bind(new UnixAddress(path));
      client.sendToSync("x", server.localAddress);
      const message = new Message({ vectors: [Buffer.alloc(8)] });
      expect(server.receiveMessageSync(message, WAIT)).toBe(1);
      expect((message.address as UnixAddress).path).toBe(path);
      expect(server.sendMessageSync(message, WAIT)).toBe(8);
      expect(client.receiveSync(new Uint8Array(8), WAIT)).toBe(8);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("flags and originalLength", () => {
  test.each(["127.0.0.1:0", "[::1]:0"])("tell of each datagram anew (%s)", (loopback) => {
    using server = UdpSocket.bind(loopback);
    using client = UdpSocket.open(loopback);
    client.connectSync(server.localAddress);
    const message = new Message({ vectors: [new Uint8Array(2), new Uint8Array(2)] });
    for (const [text, length, truncated] of [
      ["0123456789", 4, MSG_TRUNC],
      ["0123", 4, 0],
      ["", 0, 0],
      ["01234", 4, MSG_TRUNC],
    ] as const) {
      client.sendSync(text);
      expect(server.receiveMessageSync(message, WAIT)).toBe(length);
      expect([message.flags, message.originalLength]).toEqual([truncated, text.length]);
    }
  });

  test.each([
    ["stream", 0],
    ["datagram", 0],
    ["seqpacket", MSG_EOR],
  ] as const)("of a whole %s message say no more than there is to say", (type, expected) => {
    using pair = new Pair(type);
    pair.left.sendSync("x");
    const message = new Message({ vectors: [new Uint8Array(4)], controlBytes: 64 });
    pair.right.receiveMessageSync(message, WAIT);
    expect(message.flags).toBe(expected);
  });

  test("stay as they were when nothing is waiting, and when a message is sent", () => {
    using pair = new Pair();
    pair.left.sendSync("0123456789");
    const message = new Message({ vectors: [new Uint8Array(4)] });
    pair.right.receiveMessageSync(message, WAIT);
    const before = [message.flags, message.originalLength];
    expect(pair.right.tryReceiveMessage(message)).toBeUndefined();
    expect([message.flags, message.originalLength]).toEqual(before);
    // What is sent is what the vectors hold, whatever was received.
    expect(pair.right.trySendMessage(message)).toBe(4);
    expect([message.flags, message.originalLength]).toEqual(before);
    expect(Buffer.from(pair.left.receiveBytesSync(16, WAIT)).toString()).toBe("0123");
  });
});

describe("control", () => {
  test("carries open descriptors, which arrive close-on-exec and are the same files", () => {
    for (const type of types) {
      using pair = new Pair(type);
      const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
      const files = ["one", "two"].map((name) => openSync(join(folder, name), "w+"));
      const before = openDescriptors();
      try {
        const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
        writeControl(message, SCM_RIGHTS, files);
        expect(pair.left.trySendMessage(message)).toBe(1);
        const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes: 64 });
        received.control.fill(CANARY);
        expect(pair.right.receiveMessageSync(received, WAIT)).toBe(1);
        expect(received.controlLength).toBe(cmsgSpace(2 * INT));
        const came = receivedDescriptors(received);
        expect(came).toHaveLength(2);
        expect(openDescriptors()).toBe(before + 2);
        for (const [i, fd] of came.entries()) {
          expect(files).not.toContain(fd);
          expect(fcntl(fd, F_GETFD, 0)).toBe(FD_CLOEXEC);
          expect(fstatSync(fd).ino).toBe(fstatSync(files[i] as number).ino);
          close(fd);
        }
        // Behind what arrived nothing is written.
        const rest = received.control.subarray(received.controlLength);
        expect(rest.every((byte) => byte === CANARY)).toBe(true);
      } finally {
        expect(openDescriptors()).toBe(before);
        for (const fd of files) closeSync(fd);
        rmSync(folder, { recursive: true });
      }
    }
  });

  test("that was received is not sent again, unless controlLength says so", () => {
    using pair = new Pair();
    using next = new Pair();
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: cmsgSpace(INT) });
    const before = openDescriptors();
    writeControl(message, SCM_RIGHTS, [pair.left.descriptor]);
    pair.left.trySendMessage(message);
    const relay = new Message({ vectors: [Buffer.alloc(1)], controlBytes: cmsgSpace(INT) });
    pair.right.receiveMessageSync(relay, WAIT);
    const [fd = -1] = receivedDescriptors(relay);
    expect(relay.controlLength).toBe(cmsgSpace(INT));

    const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes: cmsgSpace(INT) });
    next.left.trySendMessage(relay);
    expect(next.right.receiveMessageSync(received, WAIT)).toBe(1);
    expect([received.controlLength, received.flags & MSG_CTRUNC]).toEqual([0, 0]);

    relay.controlLength = cmsgSpace(INT);
    next.left.trySendMessage(relay);
    next.left.trySendMessage(relay);
    for (let round = 0; round < 2; round++) {
      next.right.receiveMessageSync(received, WAIT);
      const [again = -1] = receivedDescriptors(received);
      expect(again).toBeGreaterThan(0);
      close(again);
    }
    relay.controlLength = 0;
    next.left.trySendMessage(relay);
    next.right.receiveMessageSync(received, WAIT);
    expect(received.controlLength).toBe(0);
    close(fd);
    expect(openDescriptors()).toBe(before);
  });

  test("that the caller set to be sent is not sent any more after a receive", () => {
    using pair = new Pair();
    const before = openDescriptors();
    const message = new Message({ vectors: [Buffer.alloc(1)], controlBytes: cmsgSpace(INT) });
    writeControl(message, SCM_RIGHTS, [pair.left.descriptor]);
    pair.right.sendSync("x");
    pair.left.receiveMessageSync(message, WAIT);
    expect(message.controlLength).toBe(0);
    pair.left.trySendMessage(message);
    const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes: 64 });
    pair.right.receiveMessageSync(received, WAIT);
    expect(received.controlLength).toBe(0);
    expect(openDescriptors()).toBe(before);
  });

  test.each(types)("without room is cut, says so, and leaks no descriptor (%s)", (type) => {
    using pair = new Pair(type);
    const three = Array(3).fill(pair.left.descriptor);
    for (const [controlBytes, kept] of [
      [0, 0],
      [cmsghdr.size, 0],
      [cmsghdr.size + 3, 0],
      [cmsghdr.size + INT, 1],
      [cmsghdr.size + 2 * INT, 2],
    ] as const) {
      const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
      writeControl(message, SCM_RIGHTS, three);
      const before = openDescriptors();
      pair.left.sendMessageSync(message, WAIT);
      const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes });
      expect(pair.right.receiveMessageSync(received, WAIT)).toBe(1);
      expect(received.flags & MSG_CTRUNC).toBe(MSG_CTRUNC);
      expect(received.controlLength).toBeLessThanOrEqual(controlBytes);
      const came = receivedDescriptors(received);
      expect(came).toHaveLength(kept);
      expect(openDescriptors()).toBe(before + kept);
      for (const fd of came) close(fd);
    }
  });

  test("that is malformed is EINVAL, and nothing is sent", () => {
    using pair = new Pair();
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
    const view = controlView(message);
    const spoilers: [name: string, spoil: () => void][] = [
      ["all ones", () => message.control.fill(0xff)],
      ["a length of 0", () => cmsghdr.cmsg_len.set(view, 0, 0)],
      ["a length below its head", () => cmsghdr.cmsg_len.set(view, 0, cmsghdr.size - 1)],
      ["a length beyond the end", () => cmsghdr.cmsg_len.set(view, 0, 65)],
      ["an unknown type", () => cmsghdr.cmsg_type.set(view, 0, 12345)],
    ];
    for (const [, spoil] of spoilers) {
      writeControl(message, SCM_RIGHTS, [pair.left.descriptor]);
      spoil();
      const error = systemErrorOf(() => pair.left.trySendMessage(message));
      expect([error.code, error.syscall]).toEqual(["EINVAL", "sendmsg"]);
    }
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("with a descriptor that is not open fails, but not as if the socket were closed", () => {
    using pair = new Pair();
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
    writeControl(message, SCM_RIGHTS, [999_999]);
    const error = systemErrorOf(() => pair.left.trySendMessage(message));
    expect([error.code, error.syscall]).toEqual(["EBADF", "sendmsg"]);
    expect(error).not.toBeInstanceOf(ClosedError);
    expect(pair.right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test.each([-1, 25, 0.5, Number.NaN])(
    "refuses a controlLength of %d, and stays as it was",
    (length) => {
      const message = new Message({ controlBytes: 24 });
      message.controlLength = 16;
      const assign = () => {
        message.controlLength = length;
      };
      expect(assign).toThrow(RangeError);
      expect(message.controlLength).toBe(16);
    },
  );

  test("that was detached is refused", () => {
    using pair = new Pair();
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 24 });
    message.control.buffer.transfer();
    pair.left.sendSync("kept");
    expect(() => pair.left.trySendMessage(message)).toThrow("Cannot use detached memory");
    expect(() => pair.right.tryReceiveMessage(message)).toThrow("Cannot use detached memory");
    expect(Buffer.from(pair.right.receiveBytesSync(8, WAIT)).toString()).toBe("kept");
  });

  test.each(types)(
    "carries the credentials of the sender where they are asked for (%s)",
    (type) => {
      using pair = new Pair(type);
      pair.right.setRawOption(SOL_SOCKET, SO_PASSCRED, 1);
      pair.left.sendSync("who?");
      const message = new Message({
        vectors: [Buffer.alloc(8)],
        controlBytes: cmsgSpace(ucred.size),
      });
      expect(pair.right.receiveMessageSync(message, WAIT)).toBe(4);
      const [credentials] = readControl(message);
      expect([credentials?.level, credentials?.type]).toEqual([SOL_SOCKET, SCM_CREDENTIALS]);
      const data = credentials?.data as Uint8Array;
      const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
      expect([ucred.pid.get(view, 0), ucred.uid.get(view, 0), ucred.gid.get(view, 0)]).toEqual([
        process.pid,
        process.getuid?.() ?? -1,
        process.getgid?.() ?? -1,
      ]);
      expect(message.flags & MSG_CTRUNC).toBe(0);
    },
  );

  test("of credentials that are sent has to be true", () => {
    using pair = new Pair();
    pair.right.setRawOption(SOL_SOCKET, SO_PASSCRED, 1);
    const message = new Message({ vectors: [Buffer.from("me")], controlBytes: 64 });
    writeControl(message, SCM_CREDENTIALS, [
      process.pid,
      process.getuid?.() ?? -1,
      process.getgid?.() ?? -1,
    ]);
    expect(pair.left.trySendMessage(message)).toBe(2);
    const received = new Message({ vectors: [Buffer.alloc(8)], controlBytes: 64 });
    pair.right.receiveMessageSync(received, WAIT);
    expect(new Int32Array((readControl(received)[0] as Control).data.buffer)[0]).toBe(process.pid);
  });

  // Unix streams have none.
  test.each(["datagram", "seqpacket"] as const)(
    "carries a timestamp where it is asked for (%s)",
    (type) => {
      using pair = new Pair(type);
      pair.right.setRawOption(SOL_SOCKET, SO_TIMESTAMP, 1);
      pair.left.sendSync("when?");
      const message = new Message({ vectors: [Buffer.alloc(8)], controlBytes: 64 });
      pair.right.receiveMessageSync(message, WAIT);
      const [stamp] = readControl(message);
      expect([stamp?.level, stamp?.type]).toEqual([SOL_SOCKET, SCM_TIMESTAMP]);
      const view = new DataView((stamp as Control).data.buffer);
      expect(Math.abs(Number(timeval.tv_sec.get(view, 0)) - Date.now() / 1000)).toBeLessThan(5);
    },
  );

  test("of a seqpacket socket comes whole, also when it has no timestamps any more", () => {
    using pair = new Pair("seqpacket");
    pair.right.setRawOption(SOL_SOCKET, SO_TIMESTAMP, 0);
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
    writeControl(message, SCM_RIGHTS, [pair.left.descriptor]);
    const before = openDescriptors();
    pair.left.trySendMessage(message);
    const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes: 64 });
    pair.right.receiveMessageSync(received, WAIT);
    const came = receivedDescriptors(received);
    for (const fd of came) close(fd);
    expect([came.length, openDescriptors()]).toEqual([1, before]);
  });

  test("is peeked at like the payload", () => {
    using pair = new Pair();
    const message = new Message({ vectors: [Buffer.from("!")], controlBytes: 64 });
    writeControl(message, SCM_RIGHTS, [pair.left.descriptor]);
    const before = openDescriptors();
    pair.left.trySendMessage(message);
    const received = new Message({ vectors: [Buffer.alloc(1)], controlBytes: 64 });
    for (const flags of [MSG_PEEK, 0]) {
      expect(pair.right.receiveMessageSync(received, { ...WAIT, flags })).toBe(1);
      const came = receivedDescriptors(received);
      expect(came).toHaveLength(1);
      for (const fd of came) close(fd);
    }
    expect(openDescriptors()).toBe(before);
  });
});

test.each(["trySendMessage", "tryReceiveMessage"] as const)(
  "%s() does not hold a message after the call: its memory can go",
  async (call) => {
    using pair = new Pair();
    pair.left.sendSync("x");
    let gone = false;
    const watch = new FinalizationRegistry(() => {
      gone = true;
    });
    const callOnce = () => {
      const vector = new Uint8Array(100);
      watch.register(vector, undefined);
      expect(pair.right[call](new Message({ vectors: [vector] }))).toBeGreaterThan(0);
    };
    callOnce();
    const deadline = performance.now() + WAIT.timeoutMs;
    while (!gone && performance.now() < deadline) {
      await new Promise(setImmediate);
      Bun.gc(true);
    }
    expect(gone).toBe(true);
  },
);

test("a failing call leaves the message usable", () => {
  using pair = new Pair();
  const message = new Message({ vectors: [Buffer.from("once more")], controlBytes: 64 });
  {
    using _ = replaceEntry("sendmsg", () => {
      throw new Error("planted");
    });
    expect(() => pair.left.trySendMessage(message)).toThrow("planted");
  }
  expect(pair.left.trySendMessage(message)).toBe(9);
  {
    const { recvmsg } = libc;
    using _ = replaceEntry("recvmsg", (...values) => recvmsg(-1, values[1], values[2]));
    expect(systemErrorOf(() => pair.right.tryReceiveMessage(message)).code).toBe("EBADF");
  }
  expect(pair.right.tryReceiveMessage(message)).toBe(9);
});

// In children: forced collections are quick in a small heap only.
describe("small vectors stay where C is told that they are", () => {
  const INDEX = JSON.stringify(new URL("../../lib/index.ts", import.meta.url));
  const loop = (rounds: number, collect: string) => `
    import { Message, Socket } from ${INDEX};
    const [left, right] = Socket.pair({ type: "datagram" });
    let wrong = 0;
    for (let i = 0; i < ${rounds}; i++) {
      const out = new Message({ vectors: [Uint8Array.of(i, i >> 8, 1), new Uint16Array([i, 2])] });
      const targets = [new Uint8Array(2), new Float32Array(1), new Int8Array(1)];
      const back = new Message({ vectors: targets });
      const out2 = new Message();
      out2.vectors = [Uint8Array.of(7, 8, 9)];
      ${collect}
      left.trySendMessage(out);
      left.trySendMessage(out2);
      ${collect}
      right.tryReceiveMessage(back);
      const came = Buffer.concat(back.vectors.map((view) =>
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength)));
      const sent = [i & 255, (i >> 8) & 255, 1, i & 255, (i >> 8) & 255, 2, 0];
      if (came.some((byte, at) => byte !== sent[at])) wrong++;
      right.tryReceiveMessage(back);
      if (targets[0][0] !== 7 || targets[0][1] !== 8) wrong++;
    }
    console.log(JSON.stringify({ wrong }));
  `;
  const run = (script: string, env: Record<string, string> = {}) => {
    const child = Bun.spawnSync([process.execPath, "-e", script], {
      env: { ...process.env, BUN_SOCKETS_LEAKS: "", ...env },
      timeout: 120_000,
    });
    return [child.exitCode, child.stderr.toString(), child.stdout.toString()];
  };
  const right = [0, "", '{"wrong":0}\n'];

  test("with a collection between set and call, 10,000 times", () => {
    expect(run(loop(5000, "Bun.gc(true);"))).toEqual(right);
  }, 120_000);

  test("with a collection every 20 slow allocations", () => {
    const env = { BUN_JSC_slowPathAllocsBetweenGCs: "20" };
    expect(run(loop(3000, ""), env)).toEqual(right);
  }, 120_000);

  test("when the loop is hot", () => {
    expect(run(loop(200_000, ""))).toEqual(right);
  }, 120_000);
});

test("console.log of a Message is one short line", () => {
  const message = new Message({
    vectors: [new Uint16Array(3), new Uint8Array(4)],
    address: "127.0.0.1:9",
    controlBytes: 64,
  });
  message.writer.addTtl(3, "ipv4");
  expect(Bun.inspect(message)).toBe(
    "Message, 10 bytes in 2 vectors, 24 of 64 controlBytes, 127.0.0.1:9",
  );
  expect(Bun.inspect(new Message())).toBe("Message, 0 bytes in 0 vectors, 0 of 0 controlBytes");
  for (const view of [new Uint8Array(8), new DataView(new ArrayBuffer(8))]) {
    const gone = new Message({ vectors: view, controlBytes: 16 });
    view.buffer.transfer();
    gone.control.buffer.transfer();
    expect(Bun.inspect(gone)).toBe("Message, 0 bytes in 1 vector, 0 of 0 controlBytes");
  }
  expect(Bun.inspect(Message.prototype)).toBe("Message");
});
