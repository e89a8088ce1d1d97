import { afterAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { ClosedError, SystemError } from "bun-sockets";
import {
  CapturedPacket,
  CaptureFile,
  CaptureFileError,
  type CaptureFileSource,
  type CaptureReader,
  type CaptureWriterOptions,
  type FrameCursor,
  type Packet,
} from "bun-sockets/packet";
import { EAGAIN, EINTR, EIO, ENOSPC, O_CLOEXEC, O_NONBLOCK, pipe2 } from "bun-sockets/sys";
import {
  type ByteOrder,
  Bytes,
  Folder,
  type Option,
  pcapHeader,
  pcapRecord,
  randomNumbers,
  Section,
} from "../support/capture_bytes.ts";
import { failWith, replaceEntry, replaceLibc } from "../support/faults.ts";
import { until } from "../support/waiting.ts";

const folder = new Folder();
afterAll(() => folder[Symbol.dispose]());
let files = 0;
const fresh = (suffix = "pcapng") => folder.file(`${files++}.${suffix}`);

const orders = ["little", "big"] as const;
const kinds = (["pcapng", "pcap"] as const).flatMap((format) =>
  orders.flatMap((byteOrder) =>
    (["ns", "us"] as const).map((resolution) => ({ format, byteOrder, resolution })),
  ),
);

function pipe(flags = 0): [reading: number, writing: number] {
  const pair = new Int32Array(2);
  expect(pipe2(pair, O_CLOEXEC | flags)).toBe(0);
  return [pair[0] as number, pair[1] as number];
}

/** Everything that a reader gives, and what it fails with. */
function readAll(source: CaptureFileSource | CaptureReader) {
  const packets: CapturedPacket[] = [];
  try {
    const reader = source instanceof Object && "next" in source ? source : CaptureFile.open(source);
    for (const packet of reader as CaptureReader) packets.push(packet);
    return { packets, error: undefined };
  } catch (error) {
    if (!(error instanceof CaptureFileError)) throw error;
    return { packets, error };
  }
}

function text(packet: Packet): string {
  return Buffer.from(packet.bytes).toString();
}

function write(packets: readonly Packet[], options: CaptureWriterOptions, path = fresh()): Buffer {
  using file = CaptureFile.create(path, options);
  for (const packet of packets) file.write(packet);
  file.close();
  return readFileSync(path);
}

/** A cursor over memory, as the block of a ring is one. */
class Cursor implements FrameCursor {
  bytes: Uint8Array;
  index = -1;
  readonly frames: readonly Packet[];
  readonly offsets: number[] = [];

  constructor(frames: readonly Packet[]) {
    this.frames = frames;
    this.bytes = new Uint8Array(frames.reduce((sum, { bytes }) => sum + bytes.length + 7, 7));
    let at = 7;
    for (const { bytes } of frames) {
      this.offsets.push(at);
      this.bytes.set(bytes, at);
      at += bytes.length + 7;
    }
  }

  next(): boolean {
    if (this.index >= this.frames.length - 1) return false;
    this.index++;
    return true;
  }

  get #frame(): Packet {
    return this.frames[this.index] as Packet;
  }

  get offset(): number {
    return this.offsets[this.index] as number;
  }

  get length(): number {
    return this.#frame.bytes.length;
  }

  get originalLength(): number {
    return this.#frame.originalLength ?? this.length;
  }

  get seconds(): number {
    return this.#frame.seconds ?? 0;
  }

  get nanoseconds(): number {
    return this.#frame.nanoseconds ?? 0;
  }

  get vlan(): number {
    return this.#frame.vlan ?? -1;
  }

  get vlanProtocol(): number {
    return this.#frame.vlanProtocol ?? 0x8100;
  }

  get interfaceIndex(): number {
    return this.#frame.interface ?? 0;
  }
}

/** Packets of all lengths, times and comments. */
function somePackets(count: number, seed: number): Packet[] {
  const random = randomNumbers(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  return Array.from({ length: count }, () => {
    const length = random() < 0.1 ? below(65_000) : below(200);
    return {
      bytes: Uint8Array.from({ length }, () => below(256)),
      originalLength: length + (random() < 0.5 ? 0 : below(5000)),
      seconds: below(2 ** 32),
      nanoseconds: below(1e9),
      comment: random() < 0.2 ? "ä".repeat(below(30)) : undefined,
    };
  });
}

describe("CaptureFile", () => {
  test.each(kinds)(
    "$format, $byteOrder endian, in $resolution gives back what was written",
    (kind) => {
      const packets = somePackets(300, 7);
      const unit = kind.resolution === "ns" ? 1 : 1000;
      const expected = packets.map((packet) => ({
        bytes: packet.bytes,
        originalLength: packet.originalLength,
        seconds: packet.seconds,
        nanoseconds: Math.floor((packet.nanoseconds as number) / unit) * unit,
        comment: kind.format === "pcap" ? undefined : packet.comment,
        interface: 0,
        linkType: 1,
      }));
      const path = fresh(kind.format);
      write(packets, kind, path);
      const reader = CaptureFile.open(path);
      expect(reader).toMatchObject({ format: kind.format, byteOrder: kind.byteOrder, linkType: 1 });
      const read = [...reader];
      expect(
        read.map(({ offset: _o, flags: _f, dropCount: _d, ...packet }) => packet as object),
      ).toEqual(expected);
    },
  );

  test("a pcapng file is this, byte by byte", () => {
    const section = new Section("little", [
      [1, "all"],
      [2, "machine"],
      [3, "Linux"],
      [4, "test"],
    ]);
    section.interface(113, 4096, [
      [1, "remark"],
      [3, "a link"],
      [12, "theirs"],
      [15, "card"],
      [2, "eth9"],
      [11, "\0udp"],
      [8, 10_000_000_000n],
      [9, new Uint8Array([9])],
    ]);
    const time = 1_700_000_000_123_456_789n;
    section.packet("hello", {
      time,
      originalLength: 9,
      options: [
        [1, "why"],
        [2, 1],
        [4, 3n],
      ],
    });
    const words = section.body().u32(0, Number(time >> 32n), Number(BigInt.asUintN(32, time)));
    words.put(
      section.options([
        [1, "done"],
        [2, section.body().u32(0, 5).bytes],
        [3, section.body().u32(0, 6).bytes],
        [4, 1n],
        [5, 2n],
        [6, 3n],
        [7, 4n],
        [8, 5n],
      ]),
    );
    section.block(5, words.bytes);

    const path = fresh();
    using file = CaptureFile.create(path, {
      byteOrder: "little",
      comment: "all",
      hardware: "machine",
      os: "Linux",
      application: "test",
      interfaces: [
        {
          name: "eth9",
          description: "a link",
          linkType: "linux_sll",
          snapBytes: 4096,
          filter: "udp",
          os: "theirs",
          hardware: "card",
          speed: 1e10,
          comment: "remark",
        },
      ],
    });
    const at = { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
    const bytes = Buffer.from("hello");
    file.write({ bytes, ...at, originalLength: 9, comment: "why", flags: 1, dropCount: 3 });
    const counts = { packets: 1, drops: 2, accepted: 3, systemDrops: 4, delivered: 5 };
    const times = { start: { seconds: 0, nanoseconds: 5 }, end: { seconds: 0, nanoseconds: 6 } };
    expect(file.writeStatistics({ time: at, ...times, ...counts, comment: "done" })).toBe(true);
    expect(file.byteLength).toBe(section.bytes.length);
    file.close();
    expect(readFileSync(path).toString("hex")).toBe(section.bytes.toString("hex"));

    // And what a reader makes of it.
    const reader = CaptureFile.open(path);
    const [packet] = [...reader];
    expect(packet).toMatchObject({ flags: 1, dropCount: 3, direction: "inbound", ...at });
    expect(reader.sections).toEqual([
      {
        offset: 0,
        byteOrder: "little",
        comment: "all",
        hardware: "machine",
        os: "Linux",
        application: "test",
      },
    ]);
    expect(reader.interfaces).toEqual([
      {
        section: 0,
        linkType: 113,
        snapBytes: 4096,
        resolution: 1e9,
        timeOffset: 0,
        checksumBytes: undefined,
        name: "eth9",
        description: "a link",
        filter: "udp",
        os: "theirs",
        hardware: "card",
        speed: 1e10,
        comment: "remark",
        statistics: { time: at, ...times, ...counts, comment: "done" },
      },
    ]);
  });

  test.each([
    ["little", "us", 0xa1b2c3d4, 4],
    ["little", "ns", 0xa1b23c4d, 4567],
    ["big", "us", 0xa1b2c3d4, 4],
    ["big", "ns", 0xa1b23c4d, 4567],
  ] as const)("a pcap file, %s endian in %s, is this", (byteOrder, resolution, magic, fraction) => {
    const options = {
      format: "pcap",
      byteOrder,
      resolution,
      linkType: "raw",
      snapBytes: 100,
    } as const;
    const packet = {
      bytes: Buffer.from("hello"),
      seconds: 3,
      nanoseconds: 4567,
      originalLength: 8,
    };
    const expected = Buffer.concat([
      pcapHeader(magic, { byteOrder, snapBytes: 100, linkType: 101 }),
      pcapRecord("hello", { byteOrder, seconds: 3, fraction, originalLength: 8 }),
    ]);
    expect(write([packet], options).toString("hex")).toBe(expected.toString("hex"));
  });

  test("chooses the format by the end of the path, and by the option", () => {
    const formatOf = (suffix: string, options = {}) => {
      const path = fresh(suffix);
      CaptureFile.create(path, options).close();
      return CaptureFile.open(path).format;
    };
    expect(["pcap", "CAP", "dmp"].map((suffix) => formatOf(suffix))).toEqual([
      "pcap",
      "pcap",
      "pcap",
    ]);
    expect(["pcapng", "ntar", "x"].map((suffix) => formatOf(suffix))).toEqual([
      "pcapng",
      "pcapng",
      "pcapng",
    ]);
    expect(formatOf("pcap", { format: "pcapng" })).toBe("pcapng");
    expect(formatOf("pcapng", { format: "pcap" })).toBe("pcap");
  });
});

describe("CaptureWriter", () => {
  const frame = Uint8Array.from({ length: 30 }, (_, i) => i);
  const tagged = (at: number, protocol = 0x8100) =>
    Buffer.concat([
      frame.subarray(0, at),
      new Bytes("big").u16(protocol, 0x2007).bytes,
      frame.subarray(at),
    ]);

  // Each is written both ways: as a packet, and out of memory by a cursor.
  describe.each(["write", "writeBlock"] as const)("%s()", (way) => {
    function written(packets: readonly Packet[], options: CaptureWriterOptions) {
      const path = fresh();
      using file = CaptureFile.create(path, options);
      if (way === "write") for (const packet of packets) file.write(packet);
      else expect(file.writeBlock(new Cursor(packets))).toBe(packets.length);
      expect(file.packetCount).toBe(packets.length);
      file.close();
      return readAll(path).packets;
    }

    test.each([
      ["ethernet", undefined, 12, 0x8100],
      ["ethernet", 0x88a8, 12, 0x88a8],
      ["linux_sll", undefined, 14, 0x8100],
    ] as const)(
      "puts the VLAN tag back into %s, protocol %p",
      (linkType, vlanProtocol, at, protocol) => {
        const packet = { bytes: frame, vlan: 0x2007, vlanProtocol, originalLength: 40 };
        const [read] = written([packet], { linkType });
        expect(read?.bytes).toEqual(new Uint8Array(tagged(at, protocol)));
        expect(read?.originalLength).toBe(44);
      },
    );

    test("leaves a frame as it is that has no place for a tag, or where it is to be dropped", () => {
      const bytes = [frame, frame.subarray(0, 11), frame.subarray(0, 12)];
      const lengthsOf = (options: CaptureWriterOptions) =>
        written(
          bytes.map((each) => ({ bytes: each, vlan: 1 })),
          options,
        ).map((packet) => packet.bytes.length);
      expect(lengthsOf({})).toEqual([34, 11, 16]);
      expect(lengthsOf({ linkType: "raw" })).toEqual([30, 11, 12]);
      expect(lengthsOf({ vlan: "drop" })).toEqual([30, 11, 12]);
    });

    test.each(Array.from({ length: 36 }, (_, i) => i + 1))(
      "cuts a tagged frame at %d bytes",
      (snapBytes) => {
        for (const format of ["pcapng", "pcap"] as const) {
          const [read] = written([{ bytes: frame, vlan: 0x2007 }], { snapBytes, format });
          expect(read?.bytes).toEqual(new Uint8Array(tagged(12).subarray(0, snapBytes)));
          expect(read?.originalLength).toBe(34);
        }
      },
    );

    test("keeps as much as snapBytes says, and how long it was", () => {
      const packets = [1, 99, 100, 101, 5000].map((length) => ({ bytes: new Uint8Array(length) }));
      const read = written(packets, { snapBytes: 100 });
      expect(read.map(({ bytes }) => bytes.length)).toEqual([1, 99, 100, 100, 100]);
      expect(read.map(({ originalLength }) => originalLength)).toEqual([1, 99, 100, 101, 5000]);
    });

    test("adds an interface for each index that it has not seen", () => {
      const packets = [5, 5, 9, 5, 7].map((index) => ({ bytes: frame, interface: index }));
      const read = written(packets, { interfaces: [{ name: "five", interfaceIndex: 5 }] });
      expect(read.map((packet) => packet.interface)).toEqual([0, 0, 1, 0, 2]);
    });
  });

  test("writeBlock() writes the same as write(), over many times its memory", () => {
    const packets = somePackets(1000, 11).map(({ comment: _, ...packet }, i) => ({
      ...packet,
      interface: 1 + (i % 3),
      vlan: i % 5 === 0 ? i : undefined,
    }));
    for (const kind of kinds) {
      const path = fresh();
      using file = CaptureFile.create(path, kind);
      file.writeBlock(new Cursor(packets));
      file.close();
      const one = readAll(path).packets;
      const other = readAll(write(packets, kind)).packets;
      const strip = ({ offset: _, ...packet }: CapturedPacket) => packet;
      expect(one.map(strip)).toEqual(other.map(strip));
      expect(one).toHaveLength(1000);
      // The name of an index is asked for frames of this machine only.
      const { interfaces } = CaptureFile.open(path);
      expect(interfaces[0]?.name).toBe(kind.format === "pcapng" ? "lo" : undefined);
    }
  });

  test("writeBlock() goes on from the cursor, and writeFrame() writes what is shown", () => {
    const packets = ["a", "b", "c", "d"].map((each) => ({ bytes: Buffer.from(each) }));
    const path = fresh();
    using file = CaptureFile.create(path);
    const cursor = new Cursor(packets);
    cursor.next();
    cursor.next();
    file.writeFrame(cursor);
    expect(file.writeBlock(cursor)).toBe(2);
    expect(file.writeBlock(cursor)).toBe(0);
    file.close();
    expect(readAll(path).packets.map(text)).toEqual(["b", "c", "d"]);
  });

  test("one file takes frames of several rings, in turn", () => {
    const path = fresh();
    using file = CaptureFile.create(path);
    const rings = ["one", "two"].map(
      (name) =>
        new Cursor([1, 2, 3].map((number) => ({ bytes: Buffer.from(`${name} ${number}`) }))),
    );
    for (let i = 0; i < 3; i++)
      for (const ring of rings) {
        ring.next();
        file.writeFrame(ring);
      }
    file.close();
    expect(readAll(path).packets.map(text)).toEqual(
      [1, 2, 3].flatMap((number) => [`one ${number}`, `two ${number}`]),
    );
  });

  test.each([
    { offset: -1 },
    { offset: 1e9 },
    { offset: Number.NaN },
    { length: -1 },
    { length: 2 ** 40 },
    { bytes: new Uint8Array(3) },
  ])("writeBlock() refuses a cursor that shows what is not there: %p", (lie) => {
    const path = fresh();
    using file = CaptureFile.create(path);
    const cursor = new Cursor([{ bytes: frame }]);
    for (const [name, value] of Object.entries(lie)) Object.defineProperty(cursor, name, { value });
    expect(() => file.writeBlock(cursor)).toThrow(RangeError);
    file.close();
    expect(readAll(path).packets).toEqual([]);
  });

  test("writeBlock() does not touch memory that is taken away meanwhile", () => {
    using file = CaptureFile.create("/dev/null");
    const cursor = new Cursor([{ bytes: frame }, { bytes: frame }]);
    let asked = 0;
    Object.defineProperty(cursor, "vlanProtocol", { get: () => 0x8100 });
    Object.defineProperty(cursor, "interfaceIndex", {
      get: () => {
        if (asked++ === 1)
          structuredClone(cursor.bytes.buffer, { transfer: [cursor.bytes.buffer as ArrayBuffer] });
        return 1;
      },
    });
    expect(() => file.writeBlock(cursor)).toThrow(RangeError);
    expect(file.packetCount).toBe(1);
  });

  test("write() copies at once", () => {
    const path = fresh();
    using file = CaptureFile.create(path);
    const bytes = new Uint8Array([1, 2, 3]);
    file.write({ bytes });
    bytes.fill(0);
    file.close();
    expect(readAll(path).packets[0]?.bytes).toEqual(new Uint8Array([1, 2, 3]));
  });

  test("write() takes any view, and a packet that is larger than its memory", () => {
    const large = new Uint8Array(3 << 20).fill(7);
    const path = fresh();
    using file = CaptureFile.create(path, { snapBytes: 16 << 20 });
    file.write({ bytes: Buffer.from("a") });
    file.write({ bytes: large });
    file.write({ bytes: new DataView(new ArrayBuffer(2)) as unknown as Uint8Array });
    file.close();
    expect(readAll(path).packets.map(({ bytes }) => bytes.length)).toEqual([1, 3 << 20, 2]);
    expect(readAll(path).packets[1]?.bytes).toEqual(large);
  });

  test.each<[object | undefined, typeof RangeError | typeof TypeError, string]>([
    [undefined, TypeError, "Cannot use a value of type undefined as a packet: expected an object"],
    [
      {},
      TypeError,
      "Cannot use a value of type undefined as the bytes of a packet: expected a view",
    ],
    [{ bytes: "x" }, TypeError, "as the bytes of a packet: expected a view"],
    [{ bytes: new Uint8Array(new SharedArrayBuffer(1)) }, TypeError, "Cannot use shared memory"],
    [
      { originalLength: 29 },
      RangeError,
      "Cannot use 29 as originalLength: expected 30 to 4294967291",
    ],
    [{ seconds: -1 }, RangeError, "as seconds"],
    [{ seconds: 1.5 }, RangeError, "as seconds"],
    [{ seconds: 18_446_744_073 }, RangeError, "as seconds: expected 0 to 18446744072"],
    [
      { nanoseconds: 1e9 },
      RangeError,
      "Cannot use 1000000000 as nanoseconds: expected 0 to 999999999",
    ],
    [{ vlan: 65_536 }, RangeError, "as vlan"],
    [{ vlan: 1, vlanProtocol: -1 }, RangeError, "as vlanProtocol"],
    [{ interface: -1 }, RangeError, "as interface"],
    [{ interface: "eth0" }, TypeError, "as interface"],
    [{ comment: 5 }, TypeError, "as a comment: expected a string"],
    [{ comment: "ä".repeat(32_768) }, RangeError, "a text of 65536 bytes as a comment"],
    [{ flags: 2 ** 32 }, RangeError, "as flags"],
    [{ dropCount: -1 }, RangeError, "as dropCount"],
  ])("write() refuses %j before it writes", (wrong, type, message) => {
    const path = fresh();
    using file = CaptureFile.create(path);
    const packet =
      wrong && Object.keys(wrong)[0] !== "bytes" && Object.keys(wrong).length > 0
        ? { bytes: frame, ...wrong }
        : wrong;
    expect(() => file.write(packet as Packet)).toThrow(type);
    expect(() => file.write(packet as Packet)).toThrow(message);
    const before = file.byteLength;
    file.write({ bytes: frame });
    file.close();
    expect(readAll(path).packets).toHaveLength(1);
    expect(before).toBe(28);
  });

  test("pcap ends in 2106, and says so", () => {
    using file = CaptureFile.create(fresh("pcap"));
    file.write({ bytes: frame, seconds: 2 ** 32 - 1 });
    expect(() => file.write({ bytes: frame, seconds: 2 ** 32 })).toThrow(RangeError);
  });

  test("times are exact to the last nanosecond that the format has", () => {
    const times = [
      [0, 0],
      [1, 1],
      [4_294_967_295, 999_999_999],
      [18_446_744_072, 999_999_999],
      [9_007_199_254, 740_993_001],
    ] as const;
    const packets = times.map(([seconds, nanoseconds]) => ({ bytes: frame, seconds, nanoseconds }));
    const read = readAll(write(packets, {})).packets;
    expect(read.map(({ seconds, nanoseconds }) => [seconds, nanoseconds])).toEqual(
      times as unknown as number[][],
    );
  });

  test.each<[object, string]>([
    [{ format: "gzip" }, 'Cannot use "gzip" as format: expected "pcapng" or "pcap"'],
    [{ resolution: "ms" }, "as resolution"],
    [{ byteOrder: 1 }, "as byteOrder"],
    [{ vlan: true }, "as vlan"],
    [{ linkType: "token ring" }, "as a link type"],
    [{ linkType: 65_536 }, "as a link type"],
    [{ snapBytes: 0 }, "as snapBytes"],
    [{ snapBytes: 2 ** 30 }, "as snapBytes"],
    [{ interfaces: {} }, "as interfaces: expected an array"],
    [{ interfaces: [undefined] }, "as options"],
    [{ interfaces: [{ snapBytes: 262_145 }] }, "as snapBytes of an interface"],
    [{ interfaces: [{ name: 5 }] }, "as name: expected a string"],
    [{ interfaces: [{ filter: "x".repeat(65_535) }] }, "as the length of a filter"],
    [{ interfaces: [{ speed: -1 }] }, "as speed"],
    [
      { interfaces: [{ interfaceIndex: 3 }, { interfaceIndex: 3 }] },
      "Cannot use 3 as interfaceIndex",
    ],
    [{ application: "x".repeat(65_536) }, "as application"],
    [{ format: "pcap", interfaces: [{ linkType: 1 }, { linkType: 101 }] }, "expected pcapng"],
  ])("%j is refused before a file is touched", (options, message) => {
    const path = fresh();
    writeFileSync(path, "precious");
    const create = () => CaptureFile.create(path, options as CaptureWriterOptions);
    expect(create).toThrow(message);
    expect(readFileSync(path, "utf8")).toBe("precious");
  });

  test("interfaces can be described before and while packets come", () => {
    const path = fresh();
    using file = CaptureFile.create(path, {
      interfaces: [{ name: "a" }, { name: "b", linkType: "raw" }],
    });
    file.write({ bytes: frame, interface: 1 });
    expect(file.addInterface({ name: "c", interfaceIndex: 77, linkType: "null" })).toBe(77);
    file.write({ bytes: frame, interface: 77 });
    file.write({ bytes: frame });
    file.writeStatistics({ packets: 1 }, 77);
    expect(() => file.writeStatistics({}, 5)).toThrow("Cannot use 5 as an interface");
    file.close();
    const reader = CaptureFile.open(path);
    const packets = [...reader];
    expect(packets.map((packet) => [packet.interface, packet.linkType])).toEqual([
      [1, 101],
      [2, 0],
      [0, 1],
    ]);
    expect(reader.interfaces.map(({ name }) => name)).toEqual(["a", "b", "c"]);
    expect(reader.interfaces.map(({ statistics }) => statistics?.packets)).toEqual([
      undefined,
      undefined,
      1,
    ]);
  });

  test("packets that say 0, and interfaces without an index, have one each", () => {
    const path = fresh();
    using file = CaptureFile.create(path, { interfaces: [{ interfaceIndex: 5 }] });
    for (let i = 0; i < 3; i++) file.write({ bytes: frame, interface: 0 });
    file.write({ bytes: frame, interface: 2 });
    const key = file.addInterface({ name: "new" });
    expect([key, file.addInterface({ name: "newer" })]).toEqual([3, 4]);
    file.write({ bytes: frame, interface: key });
    file.close();
    const reader = CaptureFile.open(path);
    expect([...reader].map((packet) => packet.interface)).toEqual([1, 1, 1, 2, 3]);
    expect(reader.interfaces.map(({ name }) => name)).toEqual([
      undefined,
      undefined,
      undefined,
      "new",
      "newer",
    ]);
  });

  test("writeFrame() refuses a block that shows nothing", () => {
    using file = CaptureFile.create("/dev/null");
    const none = { ...new Cursor([]), next: () => false, offset: 0, length: 0 };
    expect(() => file.writeFrame(none as unknown as FrameCursor)).toThrow("expected next() before");
    for (const wrong of [undefined, {}, { next: () => true }, 5])
      expect(() => file.writeBlock(wrong as unknown as FrameCursor)).toThrow(TypeError);
    expect(file.packetCount).toBe(0);
  });

  test("an index of this machine has its name", () => {
    const bytes = write([{ bytes: frame, interface: 1 }], { interfaces: [{ interfaceIndex: 1 }] });
    expect(CaptureFile.open(bytes).interfaces[0]?.name).toBe("lo");
    // Of a packet alone nobody knows whether it is from this machine.
    expect(CaptureFile.open(write([{ bytes: frame, interface: 1 }], {})).interfaces[0]?.name).toBe(
      undefined,
    );
  });

  test("a pcap file keeps neither interfaces nor comments nor statistics", () => {
    const path = fresh("pcap");
    using file = CaptureFile.create(path, { interfaces: [{ name: "eth0", linkType: "raw" }] });
    file.write({ bytes: frame, comment: "lost", interface: 9, flags: 1, dropCount: 1 });
    expect(file.writeStatistics({ packets: 1 })).toBe(false);
    expect(file.addInterface({ linkType: "raw" })).toBe(0);
    expect(() => file.addInterface({ linkType: "ethernet" })).toThrow("expected pcapng");
    file.close();
    const reader = CaptureFile.open(path);
    expect(reader.linkType).toBe(101);
    expect([...reader]).toHaveLength(1);
    expect(statSync(path).size).toBe(24 + 16 + 30);
  });

  test("a file without packets has an interface, which others ask for", () => {
    const path = fresh();
    CaptureFile.create(path, { linkType: "ipv6" }).close();
    expect(CaptureFile.open(path)).toMatchObject({ linkType: 229 });
    expect(readAll(path)).toEqual({ packets: [], error: undefined });
  });

  test("the header is written at once, packets by the MiB, by flush() and by close()", () => {
    const path = fresh();
    using writes = replaceLibc("write", (original) => original);
    using file = CaptureFile.create(path, { interfaces: [{ name: "a" }] });
    const header = statSync(path).size;
    expect(header).toBe(file.byteLength);
    file.write({ bytes: frame });
    expect(statSync(path).size).toBe(header);
    file.flush();
    expect(statSync(path).size).toBe(file.byteLength);
    const before = writes.calls;
    for (let i = 0; i < 8; i++)
      file.writeBlock(new Cursor(new Array(1024).fill({ bytes: new Uint8Array(992) })));
    expect(writes.calls - before).toBe(8);
    file.write({ bytes: frame });
    file.close();
    expect(writes.calls - before).toBe(9);
    expect(statSync(path).size).toBe(file.byteLength);
    expect(readAll(path).packets).toHaveLength(8194);
  });

  test("writes on where the kernel took a part, was interrupted, or had no room", () => {
    const path = fresh();
    const expected = write(somePackets(200, 3), { byteOrder: "little" });
    const random = randomNumbers(5);
    const given: number[] = [];
    using _ = replaceLibc("write", (original) => (fd, bytes, count) => {
      const part = random();
      if (part < 0.2) return failWith(EINTR);
      if (part < 0.4) return failWith(EAGAIN);
      given.push(count);
      return original(fd, bytes, Math.min(count, 1 + Math.floor(random() * 5000)));
    });
    expect(write(somePackets(200, 3), { byteOrder: "little" }, path).equals(expected)).toBe(true);
    expect(given.length).toBeGreaterThan(20);
  });

  test("loses nothing to a disk that was full for a while", () => {
    const packets = somePackets(400, 13);
    const expected = write(packets, {});
    for (const way of ["write", "writeBlock"] as const) {
      const path = fresh();
      using file = CaptureFile.create(path);
      let room = 100_000;
      let failures = 0;
      using _ = replaceLibc("write", (original) => (fd, bytes, count) => {
        if (room === 0) return failWith(ENOSPC);
        const result = original(fd, bytes, Math.min(count, room));
        room -= result;
        return result;
      });
      const again = (step: () => unknown) => {
        for (;;) {
          try {
            return step();
          } catch (error) {
            expect(error).toMatchObject({ code: "ENOSPC", syscall: "write", path });
            failures++;
            room = 100_000;
          }
        }
      };
      if (way === "write") for (const packet of packets) again(() => file.write(packet));
      else {
        const cursor = new Cursor(packets.map((packet) => ({ ...packet, interface: undefined })));
        again(() => file.writeBlock(cursor));
      }
      again(() => file.flush());
      file.close();
      expect(failures).toBeGreaterThan(10);
      if (way === "write") expect(readFileSync(path).equals(expected)).toBe(true);
      const read = readAll(path);
      expect(read.error).toBe(undefined);
      expect(read.packets.map(({ bytes }) => bytes)).toEqual(packets.map(({ bytes }) => bytes));
    }
  });

  test("/dev/full is ENOSPC with its path, at once, and leaves nothing open", () => {
    const before = readdirSync("/proc/self/fd").length;
    expect(() => CaptureFile.create("/dev/full")).toThrow("write ENOSPC /dev/full: ");
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });

  test("close() throws what the last bytes met, and closes all the same", () => {
    const before = readdirSync("/proc/self/fd").length;
    const file = CaptureFile.create(fresh());
    file.write({ bytes: frame });
    using _ = replaceEntry("write", () => failWith(EIO));
    expect(() => file.close()).toThrow("write EIO");
    expect(file.closed).toBe(true);
    expect(readdirSync("/proc/self/fd").length).toBe(before);
    file.close();
  });

  test("close() tells what close(2) says", () => {
    const file = CaptureFile.create(fresh());
    using _ = replaceLibc("close", (original) => (fd) => {
      original(fd);
      return failWith(EIO);
    });
    expect(() => file.close()).toThrow("close EIO");
  });

  test("a pipe that nobody reads any more is EPIPE", () => {
    const [reading, writing] = pipe();
    closeSync(reading);
    expect(() => CaptureFile.create(writing)).toThrow("write EPIPE");
    closeSync(writing);
  });

  test("waits for a pipe that is full, also where it does not block", async () => {
    const [reading, writing] = pipe(O_NONBLOCK);
    const child = Bun.spawn(["sh", "-c", "sleep 0.1; wc -c"], { stdin: reading });
    closeSync(reading);
    const file = CaptureFile.create(writing);
    for (let i = 0; i < 300; i++) file.write({ bytes: new Uint8Array(10_000) });
    file.close();
    closeSync(writing);
    expect(Number(await child.stdout.text())).toBe(file.byteLength);
  });

  test("a descriptor that was given stays open", () => {
    const path = fresh();
    const fd = openSync(path, "w");
    const file = CaptureFile.create(fd, { format: "pcap" });
    file.write({ bytes: frame });
    file.close();
    writeSync(fd, pcapRecord("more"));
    closeSync(fd);
    expect(file.path).toBe(undefined);
    expect(readAll(path).packets.map(({ bytes }) => bytes.length)).toEqual([30, 4]);
  });

  test("is refused when it is closed, and closing twice is nothing", () => {
    const path = fresh();
    const file = CaptureFile.create(path);
    file.close();
    file.close();
    file[Symbol.dispose]();
    const cursor = new Cursor([{ bytes: frame }]);
    for (const call of [
      () => file.write({ bytes: frame }),
      () => file.writeBlock(cursor),
      () => file.writeFrame(cursor),
      () => file.writeStatistics({}),
      () => file.addInterface({}),
      () => file.flush(),
    ]) {
      expect(call).toThrow(ClosedError);
      expect(call).toThrow(`write EBADF ${path}: `);
      expect(call).toThrow("the file is closed");
    }
    expect(cursor.index).toBe(-1);
  });

  test.each<[unknown, string]>([
    [undefined, "as a capture file: expected a path or a descriptor"],
    [-1, "as a descriptor"],
    ["a\0b", "it contains a NUL"],
    ["/nowhere/at/all.pcap", "open ENOENT /nowhere/at/all.pcap: "],
  ])("create() refuses %p", (file, message) => {
    expect(() => CaptureFile.create(file as string)).toThrow(message);
  });
});

describe("CaptureReader", () => {
  test.each(orders)("reads every kind of block, %s endian", (byteOrder) => {
    const section = new Section(byteOrder);
    section
      .interface(1, 0)
      .interface(101, 5, [[9, new Uint8Array([9])]])
      .packet("enhanced", { time: 1_500_000n, originalLength: 100 })
      // A simple packet block is cut at the limit of the first interface, which has none.
      .block(3, section.body().u32(6).padded("simple").bytes)
      // The obsolete one has 16 bits of interface, and a count of what was lost.
      .block(2, section.body().u16(1, 4).u32(0, 1_000_000_007, 8, 9).padded("obsolete").bytes)
      .block(2, section.body().u16(1, 0xffff).u32(0, 0, 1, 1).padded("x").bytes)
      .block(0x0bad, section.body().u32(32_473).padded("custom").bytes)
      .block(0x4000_0bad, section.body().u32(32_473).padded("custom").bytes)
      .block(10, section.body().u32(0x544c534b, 6).padded("secret").bytes)
      .block(9, section.body().u32(6).padded("journal").bytes)
      .block(0x8000_1234, new Uint8Array(0))
      .packet("", {});
    const { packets, error } = readAll(section.bytes);
    expect(error).toBe(undefined);
    expect(
      packets.map((packet) => [text(packet), packet.originalLength, packet.interface]),
    ).toEqual([
      ["enhanced", 100, 0],
      ["simple", 6, 0],
      ["obsolete", 9, 1],
      ["x", 1, 1],
      ["", 0, 0],
    ]);
    expect(packets.map(({ seconds, nanoseconds }) => [seconds, nanoseconds])).toEqual([
      [1, 500_000_000],
      [undefined, undefined],
      [1, 7],
      [0, 0],
      [0, 0],
    ]);
    expect(packets.map(({ linkType }) => linkType)).toEqual([1, 1, 101, 101, 1]);
    expect(packets.map(({ dropCount }) => dropCount)).toEqual([
      undefined,
      undefined,
      4,
      undefined,
      undefined,
    ]);
  });

  test("a simple packet block is cut as its interface says", () => {
    const section = new Section().interface(1, 4);
    section.block(3, section.body().u32(1000).padded("four").bytes);
    const [packet] = readAll(section.bytes).packets;
    expect(packet).toMatchObject({
      bytes: new Uint8Array(Buffer.from("four")),
      originalLength: 1000,
    });
  });

  test("reads sections one behind the other, each in its own byte order", () => {
    const bytes = Buffer.concat([
      new Section("big", [[4, "one"]]).interface(1).interface(101).packet("a", { number: 1 }).bytes,
      new Section("little", [[4, "two\0"]]).bytes,
      new Section("big", [[4, "three"]])
        .interface(113, 0, [[9, new Uint8Array([0])]])
        .packet("b", { time: 7n }).bytes,
    ]);
    const reader = CaptureFile.open(bytes);
    expect(reader.byteOrder).toBe("big");
    const packets = [...reader];
    expect(
      packets.map((packet) => [text(packet), packet.interface, packet.linkType, packet.seconds]),
    ).toEqual([
      ["a", 1, 101, 0],
      ["b", 2, 113, 7],
    ]);
    expect(reader.sections.map((each) => [each.application, each.byteOrder])).toEqual([
      ["one", "big"],
      ["two", "little"],
      ["three", "big"],
    ]);
    expect(reader.interfaces.map(({ section }) => section)).toEqual([0, 0, 2]);
  });

  const T = 2n ** 64n - 1n;
  test.each<
    [code: number | undefined, offset: bigint, time: bigint, seconds: number, nanoseconds: number]
  >([
    [undefined, 0n, 1_700_000_000_123_456n, 1_700_000_000, 123_456_000],
    [0, 0n, 1_700_000_000n, 1_700_000_000, 0],
    [1, 0n, 17n, 1, 700_000_000],
    [3, 0n, 1_700_000_000_123n, 1_700_000_000, 123_000_000],
    [6, 0n, T, 18_446_744_073_709, 551_615_000],
    [8, 0n, 199_999_999n, 1, 999_999_990],
    [9, 0n, T, 18_446_744_073, 709_551_615],
    [9, 0n, 1_700_000_000_999_999_999n, 1_700_000_000, 999_999_999],
    [10, 0n, 12_345_678_901n, 1, 234_567_890],
    [12, 0n, 1_999_999_999_999n, 1, 999_999_999],
    [19, 0n, T, 1, 844_674_407],
    [20, 0n, T, 0, 184_467_440],
    [127, 0n, T, 0, 0],
    [0x80, 0n, 5n, 5, 0],
    [0x81, 0n, 3n, 1, 500_000_000],
    [0x80 | 10, 0n, 1_024n * 1_700_000_000n + 256n, 1_700_000_000, 250_000_000],
    [0x80 | 32, 0n, 0x8000_0000_8000_0000n, 0x8000_0000, 500_000_000],
    [0x80 | 64, 0n, T, 0, 999_999_999],
    [0x80 | 127, 0n, T, 0, 0],
    [6, 1_700_000_000n, 5_000_001n, 1_700_000_005, 1000],
    [9, -10n, 12_000_000_000n, 2, 0],
    [9, -10n, 1n, -10, 1],
  ])(
    "if_tsresol %p with if_tsoffset %p reads %p as %p s and %p ns",
    (code, offset, time, seconds, nanoseconds) => {
      for (const byteOrder of orders) {
        const options: Option[] = [[14, offset]];
        if (code !== undefined) options.push([9, new Uint8Array([code])]);
        const section = new Section(byteOrder).interface(1, 0, options).packet("x", { time });
        const [packet] = readAll(section.bytes).packets;
        expect([packet?.seconds, packet?.nanoseconds]).toEqual([seconds, nanoseconds]);
      }
    },
  );

  test.each(orders)("reads options, names and statistics, %s endian", (byteOrder) => {
    const section = new Section(byteOrder, [
      [1, "one"],
      [1, "two"],
      [99, "not known"],
    ]);
    section
      .interface(1, 0, [
        [1, "here"],
        [11, "\u0001\0\0\0\0\0\0\0"],
        [8, 5n],
        [13, new Uint8Array([4])],
        [2, "eth0\0\0"],
      ])
      .packet("a", {
        options: [
          [1, "first"],
          [1, "second"],
          [2, 2],
          [4, 9n],
          [3, "hash!"],
        ],
      })
      .packet("b", { options: [[0, ""]] });
    const names = section.body();
    names
      .u16(1, 12)
      .put(new Uint8Array([127, 0, 0, 1]))
      .put("a.b\0c.d\0");
    names
      .u16(1, 8)
      .put(new Uint8Array([127, 0, 0, 1]))
      .put("c.d\0");
    names
      .u16(2, 22)
      .put(new Uint8Array(15))
      .put(new Uint8Array([1]))
      .padded("local\0");
    names.u16(77, 3).padded("xyz").u16(0, 0);
    section.block(4, names.bytes);
    section.block(
      5,
      section
        .body()
        .u32(0, 0, 2_000_000)
        .put(section.options([[4, 10n]])).bytes,
    );
    section.block(
      5,
      section
        .body()
        .u32(0, 0, 3_000_001)
        .put(
          section.options([
            [4, 11n],
            [5, 2n],
            [1, "all"],
          ]),
        ).bytes,
    );
    const reader = CaptureFile.open(section.bytes);
    const packets = [...reader];
    expect(packets.map(({ comment }) => comment)).toEqual(["first\nsecond", undefined]);
    expect(packets[0]).toMatchObject({ flags: 2, direction: "outbound", dropCount: 9 });
    expect(packets[1]).toMatchObject({
      flags: undefined,
      direction: undefined,
      dropCount: undefined,
    });
    expect(reader.sections[0]?.comment).toBe("one\ntwo");
    expect(reader.interfaces[0]).toMatchObject({
      name: "eth0",
      comment: "here",
      filter: undefined,
      speed: 5,
      checksumBytes: 4,
      statistics: {
        time: { seconds: 3, nanoseconds: 1000 },
        packets: 11,
        drops: 2,
        comment: "all",
      },
    });
    expect([...reader.names]).toEqual([
      ["127.0.0.1", new Set(["a.b", "c.d"])],
      ["::1", new Set(["local"])],
    ]);
  });

  test("passes over blocks that are larger than its memory, and than its limit", () => {
    const path = fresh();
    const first = new Section().interface().packet("before");
    const large = 2 ** 26;
    const behind = first.body().u32(large).bytes;
    writeFileSync(path, Buffer.concat([first.bytes, first.body().u32(0x7777, large).bytes]));
    const end = first.bytes.length + large;
    // They take no room.
    truncateSync(path, end - 4);
    const fd = openSync(path, "a");
    writeSync(fd, Buffer.concat([behind, new Section().interface().packet("after").bytes]));
    closeSync(fd);
    expect(readAll(path).packets.map(text)).toEqual(["before", "after"]);
    truncateSync(path, end - 5);
    expect(readAll(path).error).toMatchObject({ offset: first.bytes.length, path });
  });

  test.each([
    ["little", 0xa1b2c3d4, 1_000, "us"],
    ["big", 0xa1b2c3d4, 1_000, "us"],
    ["little", 0xa1b23c4d, 1, "ns"],
    ["big", 0xa1b23c4d, 1, "ns"],
  ] as const)("reads pcap, %s endian, 0x%x", (byteOrder, magic, unit) => {
    const bytes = Buffer.concat([
      pcapHeader(magic, { byteOrder, linkType: 276, snapBytes: 0 }),
      pcapRecord("one", {
        byteOrder,
        seconds: 4_294_967_295,
        fraction: 999_999,
        originalLength: 7,
      }),
      pcapRecord("", { byteOrder, seconds: 1, fraction: 2_000_000_001 }),
    ]);
    const reader = CaptureFile.open(bytes);
    expect(reader).toMatchObject({ format: "pcap", linkType: 276, byteOrder, isModified: false });
    const [one, two] = [...reader];
    expect(one).toMatchObject({
      seconds: 4_294_967_295,
      nanoseconds: 999_999 * unit,
      originalLength: 7,
      offset: 24,
    });
    const late = 2_000_000_001 * unit;
    expect(two).toMatchObject({
      seconds: 1 + Math.floor(late / 1e9),
      nanoseconds: late % 1e9,
      offset: 43,
    });
  });

  test("a packet may be longer than its header says, which some programs do not know", () => {
    const bytes = Buffer.concat([pcapHeader(0xa1b2c3d4, { snapBytes: 2 }), pcapRecord("abc")]);
    expect(readAll(bytes).packets.map(text)).toEqual(["abc"]);
  });

  test.each(orders)("reads the longer packet headers of modified pcap, %s endian", (byteOrder) => {
    const record = (data: string) => {
      const bytes = new Bytes(byteOrder).u32(1, 2, data.length, data.length);
      return bytes.u32(3).u16(0x800).put("\0\0").put(data).bytes;
    };
    const header = pcapHeader(0xa1b2cd34, { byteOrder });
    const reader = CaptureFile.open(Buffer.concat([header, record("one"), record("three")]));
    expect(reader.isModified).toBe(true);
    expect([...reader].map(text)).toEqual(["one", "three"]);
  });

  test("tells the lengths of old programs, which wrote them the other way round", () => {
    const lengths = (version: number[], first: number, second: number) => {
      const record = new Bytes().u32(0, 0, first, second).put("abc").bytes;
      const [packet] = readAll(
        Buffer.concat([pcapHeader(0xa1b2c3d4, { version }), record]),
      ).packets;
      return [packet?.bytes.length, packet?.originalLength];
    };
    expect(lengths([2, 2], 9, 3)).toEqual([3, 9]);
    expect(lengths([543, 0], 9, 3)).toEqual([3, 9]);
    expect(lengths([2, 3], 9, 3)).toEqual([3, 9]);
    expect(lengths([2, 3], 3, 9)).toEqual([3, 9]);
    expect(lengths([2, 4], 3, 9)).toEqual([3, 9]);
  });

  test("tells the checksum at the end of frames apart from the link type", () => {
    const header = pcapHeader(0xa1b2c3d4, { linkType: 0x2400_0001 });
    expect(CaptureFile.open(header)).toMatchObject({
      linkType: 1,
      interfaces: [{ checksumBytes: 4 }],
    });
  });

  const body = (...words: number[]) => new Bytes().u32(...words).bytes;
  const start = () => new Section().interface().packet("whole");
  test.each<[what: string, bytes: Uint8Array, offset: number, message: string | RegExp]>([
    ["nothing", new Uint8Array(0), 0, "the file is empty"],
    ["two bytes", new Uint8Array(2), 0, "the file ends within its header"],
    ["text", Buffer.from("hello world"), 0, "it begins neither as pcapng nor as pcap does"],
    ["gzip", Buffer.from("1f8b0800000000000003", "hex"), 0, "it is compressed"],
    ["half a pcap header", pcapHeader().subarray(0, 20), 0, "the file ends within its header"],
    [
      "an old pcap",
      pcapHeader(0xa1b2c3d4, { version: [1, 2] }),
      4,
      "version 1.2 of pcap is not known",
    ],
    [
      "a newer pcap",
      pcapHeader(0xa1b2c3d4, { version: [2, 5] }),
      4,
      "version 2.5 of pcap is not known",
    ],
    [
      "a newer pcapng",
      new Section("big", [], [2, 0]).bytes,
      12,
      "version 2.0 of pcapng is not known",
    ],
    [
      "no byte order",
      Buffer.from(`0a0d0d0a1c000000${"00".repeat(20)}`, "hex"),
      8,
      "0x0 is no byte order",
    ],
  ])("open() refuses %s", (_, bytes, offset, message) => {
    const path = fresh("bin");
    writeFileSync(path, bytes);
    const before = readdirSync("/proc/self/fd").length;
    for (const source of [bytes, path]) {
      let error: unknown;
      try {
        CaptureFile.open(source);
      } catch (thrown) {
        error = thrown;
      }
      expect(error).toBeInstanceOf(CaptureFileError);
      expect(error).toMatchObject({ offset });
      expect((error as CaptureFileError).path).toBe(source === path ? path : undefined);
      expect((error as Error).message).toMatch(message);
    }
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });

  const whole = start().bytes.length;
  test.each<[what: string, bytes: Uint8Array, offset: number, message: string]>([
    [
      "a length of 0",
      start().bytes.fill(0, whole - 4),
      whole - 4,
      "begins with a length of 40 and ends with 0",
    ],
    [
      "a block of 0 bytes",
      Buffer.concat([start().bytes, body(6, 0, 0)]),
      whole + 4,
      "an enhanced packet block has 0 bytes: expected 32 or more",
    ],
    [
      "an unknown block of 8 bytes",
      Buffer.concat([start().bytes, body(99, 8, 8)]),
      whole + 4,
      "a block of type 0x63 has 8 bytes: expected 12 or more",
    ],
    [
      "no multiple of 4",
      Buffer.concat([start().bytes, body(99, 13, 0, 0)]),
      whole + 4,
      "has 13 bytes: expected a multiple of 4",
    ],
    [
      "a giant",
      Buffer.concat([start().bytes, body(6, 0xffff_fffc, 0, 0)]),
      whole + 4,
      "has 4294967292 bytes: expected at most 16777216, as limitBytes says",
    ],
    [
      "two lengths",
      start().block(6, body(0, 0, 0, 1, 1)).bytes,
      whole + 20,
      "1 captured bytes do not fit their block",
    ],
    [
      "an interface that is not there",
      start().packet("x", { number: 1 }).bytes,
      whole + 8,
      "interface 1 of the section is not described before",
    ],
    [
      "one of a section before",
      Buffer.concat([start().bytes, new Section().packet("x").bytes]),
      whole + 28 + 8,
      "interface 0 of the section is not described before",
    ],
    [
      "a simple packet without interface",
      Buffer.concat([start().bytes, new Section().block(3, body(0)).bytes]),
      whole + 28,
      "interface 0",
    ],
    [
      "a simple packet that is too long",
      start().block(3, body(9, 0)).bytes,
      whole + 8,
      "9 captured bytes do not fit",
    ],
    ["statistics of nobody", start().block(5, body(3, 0, 0)).bytes, whole + 8, "interface 3"],
    [
      "an option that is too long",
      start().block(
        6,
        Buffer.concat([body(0, 0, 0, 0, 0), new Bytes().u16(1, 5).padded("x").bytes]),
      ).bytes,
      whole + 30,
      "an option of 5 bytes does not fit its block",
    ],
    [
      "an option of a wrong length",
      start().packet("", { options: [[2, "xyz"]] }).bytes,
      whole + 30,
      "option 2 has 3 bytes: expected 4",
    ],
    [
      "a resolution of a wrong length",
      start().interface(1, 0, [[9, "xx"]]).bytes,
      whole + 18,
      "option 9 has 2 bytes: expected 1",
    ],
    [
      "a name that is too long",
      start().block(4, new Bytes().u16(1, 9).u32(0).bytes).bytes,
      whole + 10,
      "a name record of 9 bytes does not fit",
    ],
    [
      "a name without address",
      start().block(4, new Bytes().u16(2, 4).u32(0).bytes).bytes,
      whole + 10,
      "expected 16 or more",
    ],
    [
      "a half block",
      Buffer.concat([start().bytes, body(6)]),
      whole,
      "the file ends within a block",
    ],
    [
      "a half packet of pcap",
      Buffer.concat([pcapHeader(), pcapRecord("whole"), body(0)]),
      45,
      "the file ends within a packet",
    ],
    [
      "a giant packet of pcap",
      Buffer.concat([pcapHeader(), pcapRecord("whole"), body(0, 0, 0x7fff_ffff, 1)]),
      53,
      "a packet has 2147483647 bytes: expected at most 16777216",
    ],
  ])(
    "tells where the damage is, behind every packet before it: %s",
    async (_, bytes, offset, message) => {
      const path = fresh("bin");
      writeFileSync(path, bytes);
      for (const source of [bytes, path]) {
        const reader = CaptureFile.open(source);
        const { packets, error } = readAll(reader);
        const expected = offset === whole - 4 ? [] : ["whole"];
        expect(packets.map(text)).toEqual(expected);
        expect(error).toBeInstanceOf(CaptureFileError);
        expect(error).toMatchObject({ offset });
        expect((error as CaptureFileError).path).toBe(source === path ? path : undefined);
        expect(error?.message).toContain(message);
        // It stays so.
        expect(readAll(reader).error).toBe(error);
        expect([...packets].map(text)).toEqual(expected);
      }
      const later: string[] = [];
      const stream = CaptureFile.open(new Blob([bytes as Uint8Array<ArrayBuffer>]).stream());
      const reading = (async () => {
        for await (const packet of stream) later.push(text(packet));
      })();
      expect(reading).rejects.toMatchObject({ offset });
      await reading.catch(() => {});
      expect(later).toEqual(offset === whole - 4 ? [] : ["whole"]);
    },
  );

  test("limitBytes says what is taken for damaged", () => {
    const bytes = Buffer.concat([pcapHeader(), pcapRecord("12345678")]);
    expect([...CaptureFile.open(bytes, { limitBytes: 8 })]).toHaveLength(1);
    expect(() => [...CaptureFile.open(bytes, { limitBytes: 7 })]).toThrow("expected at most 7");
    for (const limitBytes of [0, -1, 1.5, 2 ** 31])
      expect(() => CaptureFile.open(bytes, { limitBytes })).toThrow(RangeError);
  });

  test("a file cannot fill the memory with interfaces", () => {
    const first = new Section().interface(1, 0, [[1, "x".repeat(60_000)]]);
    const block = first.blocks[1] as Buffer;
    const many = Buffer.concat([...first.blocks, ...new Array(1200).fill(block)]);
    expect(() => [...CaptureFile.open(many)]).toThrow(
      "the file has more than interfaces, sections and names of",
    );
  });

  // Of each file: where its packets end.
  function cases(): [name: string, bytes: Buffer, ends: number[], starts: number[]][] {
    const section = new Section("big", [[4, "x"]]).interface(1, 0, [[2, "eth0"]]);
    const ends: number[] = [];
    const starts: number[] = [];
    for (const data of ["a", "four", "seventeen bytes, "]) {
      starts.push(section.bytes.length);
      section.packet(data, { options: data === "four" ? [[1, "comment"]] : [] });
      ends.push(section.bytes.length);
    }
    const records = ["a", "", "seventeen bytes, "].map((data) => pcapRecord(data));
    const pcapEnds = records.map((_, i) => 24 + Buffer.concat(records.slice(0, i + 1)).length);
    const pcapStarts = pcapEnds.map((end, i) => end - (records[i] as Buffer).length);
    return [
      ["pcapng", section.bytes, ends, starts],
      ["pcap", Buffer.concat([pcapHeader(), ...records]), pcapEnds, pcapStarts],
    ];
  }

  test.each(cases())(
    "%s that is cut off anywhere gives what is whole",
    async (format, bytes, ends, starts) => {
      const first = bytes.readUInt32BE(4);
      for (let length = 1; length < bytes.length; length++) {
        const cut = bytes.subarray(0, length);
        const path = fresh(format);
        writeFileSync(path, cut);
        const count = ends.filter((end) => end <= length).length;
        const isWhole =
          ends.includes(length) ||
          length === starts[0] ||
          (format === "pcapng" && length === first);
        for (const source of [cut, path]) {
          const { packets, error } = readAll(source);
          expect(packets).toHaveLength(count);
          expect(error === undefined).toBe(isWhole);
          const begins = [0, first, ...starts].filter(
            (at) => at < length && (format === "pcapng" || at !== first),
          );
          if (error) expect(error.offset).toBe(Math.max(...begins));
        }
        let given = 0;
        const reading = (async () => {
          for await (const _ of CaptureFile.open(pieces(cut, 1))) given++;
        })();
        expect(
          await reading.then(
            () => true,
            () => false,
          ),
        ).toBe(isWhole);
        expect(given).toBe(count);
      }
    },
  );

  async function* pieces(bytes: Uint8Array, size: number) {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
  }

  test("reads what a stream gives, in pieces of any size", async () => {
    const packets = somePackets(60, 17);
    for (const kind of kinds.filter(({ resolution }) => resolution === "ns")) {
      const bytes = write(packets, kind);
      const expected = readAll(bytes).packets;
      expect(expected).toHaveLength(60);
      for (const size of [29, 1000, 65_536, bytes.length]) {
        const reader = CaptureFile.open(pieces(bytes, size));
        expect(reader.format).toBe(undefined);
        const read: CapturedPacket[] = [];
        for await (const packet of reader) read.push(packet);
        expect(read).toEqual(expected);
        expect(reader.format).toBe(kind.format);
      }
    }
  });

  test("packets stay as they are when the reader has gone on, however many it gives", () => {
    const packets = somePackets(2000, 19);
    const path = fresh();
    write(packets, {}, path);
    expect(statSync(path).size).toBeGreaterThan(4 << 20);
    const kept = readAll(path).packets;
    for (const [i, packet] of kept.entries())
      expect(Buffer.compare(packet.bytes, (packets[i] as Packet).bytes)).toBe(0);
    const copy = kept[5]?.copy();
    expect(copy).toEqual(kept[5] as CapturedPacket);
    expect(copy?.bytes.buffer.byteLength).toBe(copy?.bytes.length as number);
    expect(copy).toBeInstanceOf(CapturedPacket);
  });

  test("next() shows the same, in memory that is used again", () => {
    const packets = somePackets(2000, 19);
    const path = fresh();
    write(packets, {}, path);
    using reader = CaptureFile.open(path);
    const memories = new Set<unknown>();
    for (const packet of packets) {
      expect(reader.next()).toBe(true);
      const { offset, length, bytes } = reader;
      expect(Buffer.compare(bytes.subarray(offset, offset + length), packet.bytes)).toBe(0);
      expect(reader).toMatchObject({
        originalLength: packet.originalLength,
        seconds: packet.seconds,
        nanoseconds: packet.nanoseconds,
        comment: packet.comment,
        interface: 0,
      });
      memories.add(bytes.buffer);
    }
    expect(reader.next()).toBe(false);
    expect(reader.next()).toBe(false);
    expect(reader.position).toBe(statSync(path).size);
    expect(memories.size).toBe(1);
  });

  test("a loop that is left is gone on with by the next", async () => {
    const path = fresh();
    write(
      ["a", "b", "c", "d", "e"].map((each) => ({ bytes: Buffer.from(each) })),
      {},
      path,
    );
    using reader = CaptureFile.open(path);
    const seen: string[] = [];
    for (const packet of reader) {
      seen.push(text(packet));
      break;
    }
    for await (const packet of reader) {
      seen.push(text(packet));
      break;
    }
    expect(reader.next()).toBe(true);
    seen.push(text(reader.packet()));
    for (const packet of reader) seen.push(text(packet));
    expect(seen).toEqual(["a", "b", "c", "d", "e"]);
  });

  test("its descriptor is closed at the end, at damage and by close(), and one that was given is not", () => {
    const path = fresh();
    const bytes = write([{ bytes: Buffer.from("a") }, { bytes: Buffer.from("b") }], {}, path);
    const count = () => readdirSync("/proc/self/fd").length;
    const before = count();
    const reader = CaptureFile.open(path);
    expect(count()).toBe(before + 1);
    expect([...reader]).toHaveLength(2);
    expect(count()).toBe(before);
    const left = CaptureFile.open(path);
    left.next();
    left.close();
    left.close();
    expect(count()).toBe(before);
    expect(() => left.next()).toThrow(ClosedError);
    expect(() => [...left]).toThrow(`read EBADF ${path}: `);
    expect(left.interfaces).toHaveLength(1);
    const cut = fresh();
    writeFileSync(cut, bytes.subarray(0, bytes.length - 1));
    expect(readAll(cut).packets).toHaveLength(1);
    expect(count()).toBe(before);

    const fd = openSync(path, "r");
    expect([...CaptureFile.open(fd)]).toHaveLength(2);
    expect(count()).toBe(before + 1);
    closeSync(fd);
  });

  test("files that were dropped open are closed some time", async () => {
    const path = fresh();
    write([{ bytes: Buffer.from("a") }, { bytes: Buffer.from("b") }], {}, path);
    const open = () => readdirSync("/proc/self/fd").length;
    const before = open();
    const names: string[] = [];
    (() => {
      for (let i = 0; i < 100; i++) {
        for (const _ of CaptureFile.open(path)) break;
        names.push(fresh());
        CaptureFile.create(names[i] as string).write({ bytes: Buffer.from("lost") });
      }
    })();
    expect(open()).toBeGreaterThan(before + 100);
    // What is closed in time is not closed again, whoever has its number then.
    const numbers = (() => {
      const closing = [...names.keys()].map(() => [
        CaptureFile.open(path),
        CaptureFile.create(fresh()),
      ]);
      for (const each of closing.flat()) each.close();
      return closing.flat().map(() => openSync(path, "r"));
    })();
    await until(() => {
      Bun.gc(true);
      return open() < before + numbers.length + 20;
    }, "most are closed");
    for (const number of numbers) closeSync(number);
  });

  test("read(2) is asked again when it was interrupted, and its errors have the path", () => {
    const path = fresh();
    const bytes = write(somePackets(50, 23), {}, path);
    const expected = readAll(bytes).packets;
    const random = randomNumbers(29);
    {
      using _ = replaceLibc("read", (original) => (fd, target, count) => {
        if (random() < 0.3) return failWith(EINTR);
        return original(fd, target, Math.min(count, 1 + Math.floor(random() * 3000)));
      });
      expect(readAll(path).packets).toEqual(expected);
    }
    const reader = CaptureFile.open(path);
    using fault = replaceEntry("read", () => failWith(EIO));
    expect(() => [...reader]).toThrow(`read EIO ${path}: `);
    expect(fault.calls).toBe(1);
    expect(() => CaptureFile.open(path)).toThrow(SystemError);
    reader.close();
  });

  test("next() waits for a pipe that does not block, as for any", () => {
    const [reading, writing] = pipe(O_NONBLOCK);
    const path = fresh();
    const bytes = write(somePackets(40, 31), {}, path);
    const child = Bun.spawn(["sh", "-c", `sleep 0.1; cat ${path}`], { stdout: writing });
    closeSync(writing);
    expect(readAll(CaptureFile.open(reading)).packets).toEqual(readAll(bytes).packets);
    closeSync(reading);
    child.kill();
  });

  test("for await lets others have their turn, and reads a pipe that does not block", async () => {
    const [reading, writing] = pipe(O_NONBLOCK);
    const section = new Section().interface();
    writeSync(writing, section.bytes);
    const reader = CaptureFile.open(reading);
    const seen: string[] = [];
    const end = (async () => {
      for await (const packet of reader) seen.push(text(packet));
    })();
    for (const data of ["one", "two"]) {
      writeSync(writing, new Section().packet(data).blocks[1] as Buffer);
      await until(() => seen.includes(data), `${data} is read`);
    }
    closeSync(writing);
    await end;
    closeSync(reading);

    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const many = write(somePackets(50, 37), {});
    const large = Buffer.concat([many, ...new Array(40).fill(many)]);
    let count = 0;
    for await (const _ of CaptureFile.open(large)) {
      count++;
      for (const end = performance.now() + 0.05; performance.now() < end; );
    }
    clearInterval(timer);
    expect(count).toBe(41 * 50);
    expect(turns).toBeGreaterThan(5);
  });

  test("close() ends a loop, also one that waits, and meanwhile others are refused", async () => {
    const [reading, writing] = pipe();
    writeSync(writing, new Section().interface().bytes);
    const reader = CaptureFile.open(reading);
    const waiting = reader[Symbol.asyncIterator]().next();
    expect(() => reader.next()).toThrow("EBUSY");
    reader.close();
    expect(await waiting).toEqual({ value: undefined, done: true });
    closeSync(writing);
    closeSync(reading);

    const bytes = write(somePackets(10, 43), {});
    let count = 0;
    const one = CaptureFile.open(bytes);
    for (const _ of one) if (++count === 3) one.close();
    const other = CaptureFile.open(bytes);
    for await (const _ of other) if (++count === 7) other.close();
    expect(count).toBe(7);
    expect(() => [...other]).toThrow(ClosedError);
  });

  test("a stream is told when nobody wants more, and its errors are thrown", async () => {
    const section = new Section().interface().packet("a");
    let isCancelled = false;
    const stream = new ReadableStream({
      start: (controller) => controller.enqueue(new Uint8Array(section.bytes)),
      cancel: () => {
        isCancelled = true;
      },
    });
    const reader = CaptureFile.open(stream);
    for await (const _ of reader) break;
    reader.close();
    await until(() => isCancelled, "the stream is cancelled");

    const failing = CaptureFile.open(
      (async function* () {
        yield section.bytes;
        throw new Error("no more of that");
      })(),
    );
    const seen: string[] = [];
    const reading = (async () => {
      for await (const packet of failing) seen.push(text(packet));
    })();
    expect(reading).rejects.toThrow("no more of that");
    await reading.catch(() => {});
    expect(seen).toEqual(["a"]);
    expect(() => [...CaptureFile.open(stream)]).toThrow("expected for await");
    const wrong = CaptureFile.open(
      (async function* () {
        yield "text" as unknown as Uint8Array;
      })(),
    );
    expect(wrong[Symbol.asyncIterator]().next()).rejects.toThrow("as a piece of the stream");
  });

  test.each<[unknown, string]>([
    [undefined, "expected a path, a descriptor, bytes, or a stream of them"],
    [{}, "as a capture file"],
    [-1, "as a descriptor"],
    [1.5, "as a descriptor"],
    ["a\0b", "it contains a NUL"],
    ["/nowhere/at/all.pcap", "open ENOENT /nowhere/at/all.pcap: "],
    ["/", "read EISDIR /: "],
    [new Uint8Array(new SharedArrayBuffer(30)), "Cannot use shared memory as a capture file"],
  ])("open() refuses %p", (source, message) => {
    expect(() => CaptureFile.open(source as string)).toThrow(message);
  });

  test("open() reads an ArrayBuffer, and any view, in place", () => {
    const bytes = write([{ bytes: Buffer.from("abc") }], {});
    const whole = new Uint8Array(bytes.length + 8);
    whole.set(bytes, 4);
    const view = whole.subarray(4, 4 + bytes.length);
    for (const source of [
      view,
      new Uint8Array(view).buffer,
      new DataView(whole.buffer, 4, bytes.length),
    ])
      expect(readAll(source).packets.map(text)).toEqual(["abc"]);
    expect(readAll(view).packets[0]?.bytes.buffer).toBe(whole.buffer);
  });
});

describe("CaptureFile.append()", () => {
  test.each(kinds)("goes on with $format, $byteOrder endian, in $resolution", (kind) => {
    const packets = somePackets(30, 41).map(({ comment: _, ...packet }) => packet);
    const path = fresh();
    write(packets.slice(0, 10), { ...kind, linkType: "raw" }, path);
    for (const part of [packets.slice(10, 20), packets.slice(20)]) {
      using file = CaptureFile.append(path);
      expect(file.format).toBe(kind.format);
      for (const packet of part) file.write(packet);
    }
    if (kind.format === "pcap") {
      expect(readFileSync(path).equals(write(packets, { ...kind, linkType: "raw" }))).toBe(true);
      return;
    }
    const reader = CaptureFile.open(path);
    const read = [...reader];
    expect(read.map(({ bytes }) => bytes)).toEqual(packets.map(({ bytes }) => bytes));
    expect(reader.sections).toHaveLength(3);
    expect(reader.interfaces.map(({ linkType }) => linkType)).toEqual([101, 1, 1]);
  });

  test("looks at all of a long file, and goes on at its end", () => {
    for (const format of ["pcapng", "pcap"] as const) {
      const packets = somePackets(1000, 47);
      const path = fresh();
      const before = write(packets, { format }, path);
      expect(before.length).toBeGreaterThan(2 << 20);
      using file = CaptureFile.append(path);
      file.write({ bytes: Buffer.from("the last") });
      file.close();
      expect(readFileSync(path).subarray(0, before.length).equals(before)).toBe(true);
      const { packets: read, error } = readAll(path);
      expect(error).toBe(undefined);
      expect(read).toHaveLength(1001);
      expect(text(read[1000] as CapturedPacket)).toBe("the last");
      truncateSync(path, statSync(path).size - 1);
      expect(() => CaptureFile.append(path)).toThrow("the file ends within a");
    }
  });

  test("changes nothing where nothing was written", () => {
    for (const format of ["pcapng", "pcap"] as const) {
      const path = fresh();
      const before = write([{ bytes: Buffer.from("a") }], { format }, path);
      const file = CaptureFile.append(path, { application: "x" });
      file.flush();
      file.close();
      expect(readFileSync(path).equals(before)).toBe(true);
    }
  });

  test("creates what is not there, or empty", () => {
    for (const path of [fresh("pcap"), fresh("pcapng")]) {
      CaptureFile.append(path).close();
      const header = readFileSync(path);
      writeFileSync(path, "");
      CaptureFile.append(path).close();
      expect(readFileSync(path).equals(header)).toBe(true);
      expect(CaptureFile.open(path).format).toBe(path.endsWith("ng") ? "pcapng" : "pcap");
    }
  });

  test.each<[CaptureWriterOptions, string]>([
    [{ format: "pcapng" }, "Cannot append with format pcapng to "],
    [{ byteOrder: "big" }, "Cannot append with byteOrder big to "],
    [{ resolution: "us" }, "Cannot append with resolution us to "],
    [{ linkType: "raw" }, "Cannot append with linkType 101 to "],
    [{ interfaces: [{ linkType: "raw" }] }, "Cannot append with linkType 101 to "],
  ])("refuses %j where the file is another", (options, message) => {
    const path = fresh("pcap");
    const before = write(
      [{ bytes: Buffer.from("a") }],
      { format: "pcap", byteOrder: "little" },
      path,
    );
    const count = readdirSync("/proc/self/fd").length;
    expect(() => CaptureFile.append(path, options)).toThrow(message);
    expect(() => CaptureFile.append(path, options)).toThrow(TypeError);
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync("/proc/self/fd").length).toBe(count);
    CaptureFile.append(path, {
      format: "pcap",
      byteOrder: "little",
      resolution: "ns",
      linkType: 1,
    }).close();
  });

  test("refuses what is damaged, cut off, no capture file, modified, or no file", () => {
    const path = fresh();
    const bytes = write([{ bytes: Buffer.from("abcd") }], {});
    const modified = pcapHeader(0xa1b2cd34);
    const count = readdirSync("/proc/self/fd").length;
    for (const [content, message] of [
      [bytes.subarray(0, bytes.length - 1), "the file ends within a block"],
      [Buffer.from("hello"), "it begins neither as pcapng nor as pcap does"],
      [modified, "its packets have the headers of modified pcap"],
    ] as const) {
      writeFileSync(path, content);
      expect(() => CaptureFile.append(path)).toThrow(message);
      expect(readFileSync(path).equals(content)).toBe(true);
    }
    expect(() => CaptureFile.append("/dev/null")).toThrow("lseek ESPIPE /dev/null: ");
    expect(() => CaptureFile.append("/")).toThrow("open EISDIR /: ");
    expect(() => CaptureFile.append(5 as unknown as string)).toThrow(
      "as a path: expected a string",
    );
    expect(() => CaptureFile.append(path, { snapBytes: 0 })).toThrow(RangeError);
    expect(readdirSync("/proc/self/fd").length).toBe(count);
  });

  test("keeps the limit of a pcap file", () => {
    const path = fresh("pcap");
    write([{ bytes: new Uint8Array(9) }], { format: "pcap", snapBytes: 5 }, path);
    using file = CaptureFile.append(path);
    file.write({ bytes: new Uint8Array(9) });
    file.close();
    expect(readAll(path).packets.map(({ bytes }) => bytes.length)).toEqual([5, 5]);
  });
});

// Counted by what the process grows by while nothing is collected.
const ALLOCATIONS = `
import { CaptureFile } from "bun-sockets/packet";
import { readFileSync } from "node:fs";
const block = {
  bytes: new Uint8Array(new ArrayBuffer(1 << 20)),
  left: 0, offset: 0, length: 64, originalLength: 64, seconds: 1_700_000_000, nanoseconds: 0,
  vlan: -1, vlanProtocol: 0x8100, interfaceIndex: 1,
  next() {
    if (this.left === 0) return false;
    this.left--;
    this.offset = (this.offset + 81) % 1_000_000;
    this.nanoseconds = (this.nanoseconds + 997) % 1e9;
    this.vlan = this.left % 10 === 0 ? 7 : -1;
    return true;
  },
};
const write = (file, frames) => {
  for (let i = 0; i < frames; i += 1000) {
    block.left = 1000;
    file.writeBlock(block);
  }
};
const path = process.argv.at(-1);
using kept = CaptureFile.create(path);
write(kept, 200_000);
kept.close();
const bytes = readFileSync(path);
const read = () => {
  const reader = CaptureFile.open(bytes);
  let sum = 0;
  while (reader.next()) sum += reader.length;
  return sum;
};
using file = CaptureFile.create("/dev/null", { format: path.endsWith("ng") ? "pcapng" : "pcap" });
write(file, 200_000);
read();
const before = process.memoryUsage.rss();
write(file, 1_000_000);
const between = process.memoryUsage.rss();
for (let i = 0; i < 5; i++) read();
const after = process.memoryUsage.rss();
console.log((between - before) / 1e6, (after - between) / 1e6);
`;

test.each(["pcapng", "pcap"])(
  "a million frames of %s are written from memory, and read by the cursor, without an allocation for each",
  (suffix) => {
    const child = Bun.spawnSync([process.execPath, "-e", ALLOCATIONS, fresh(suffix)], {
      cwd: `${import.meta.dir}/../..`,
      env: { ...process.env, BUN_JSC_useGC: "0" },
    });
    const [written = Number.NaN, read = Number.NaN] = child.stdout
      .toString()
      .split(" ")
      .map(Number);
    expect(child.stderr.toString()).toBe("");
    // An object for a frame would be at least 16 bytes.
    expect(written).toBeLessThan(4);
    expect(read).toBeLessThan(4);
  },
  60_000,
);

describe("a file that is larger than memory", () => {
  // Of what is written in all, and what a process may have of it at once.
  const FILE_BYTES = 2 ** 30;
  const PEAK_BYTES = 2 ** 28;

  test.each<[ByteOrder, string]>([
    ["little", "for (const packet of CaptureFile.open(0)) add(packet.bytes.length);"],
    ["big", "for await (const packet of CaptureFile.open(0)) add(packet.bytes.length);"],
    [
      "little",
      "for await (const packet of CaptureFile.open(Bun.stdin.stream())) add(packet.bytes.length);",
    ],
    ["big", "const r = CaptureFile.open(0); while (r.next()) add(r.length);"],
  ])(
    "is written and read through a pipe, %s endian: %s",
    async (byteOrder, loop) => {
      const root = `${import.meta.dir}/../..`;
      const count = FILE_BYTES / 2 ** 15;
      const head = `import { CaptureFile } from "bun-sockets/packet";`;
      // Not ru_maxrss, which begins with what the parent has.
      const peak = `1024 * /VmHWM:\\s+(\\d+)/.exec(await Bun.file("/proc/self/status").text())[1]`;
      const writer = `${head}
      using file = CaptureFile.create(1, { byteOrder: ${JSON.stringify(byteOrder)} });
      const bytes = new Uint8Array(2 ** 15);
      for (let i = 0; i < ${count}; i++) file.write({ bytes, seconds: i });
      file.close();
      console.error(${peak});`;
      const reader = `${head}
      let packets = 0, sum = 0;
      const add = (length) => { packets++; sum += length; };
      ${loop}
      console.log(packets, sum, ${peak});`;
      const [reading, writing] = pipe();
      const common = { cwd: root, env: { ...process.env } } as const;
      const one = Bun.spawn([process.execPath, "-e", writer], {
        ...common,
        stdout: writing,
        stderr: "pipe",
      });
      const other = Bun.spawn([process.execPath, "-e", reader], {
        ...common,
        stdin: reading,
        stderr: "inherit",
      });
      closeSync(reading);
      closeSync(writing);
      const [packets, sum, peakReading] = (await other.stdout.text()).split(" ").map(Number);
      const peakWriting = Number(await one.stderr.text());
      expect({ packets, sum }).toEqual({ packets: count, sum: FILE_BYTES });
      expect(peakReading).toBeLessThan(PEAK_BYTES);
      expect(peakWriting).toBeLessThan(PEAK_BYTES);
    },
    60_000,
  );
});
