/** Control messages in memory: what a writer writes, byte by byte, and what a reader makes of it. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ControlMessage,
  ControlReader,
  ControlWriter,
  decodeControl,
  Inet4Address,
  Inet6Address,
  NativeBuffer,
  type PacketFamily,
  type PacketSource,
} from "bun-sockets";
import { cmsghdr } from "bun-sockets/structs";
import {
  IP_ORIGDSTADDR,
  IP_PKTINFO,
  IP_RECVERR,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_HOPLIMIT,
  IPV6_ORIGDSTADDR,
  IPV6_PKTINFO,
  IPV6_RECVERR,
  IPV6_TCLASS,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SCM_TIMESTAMP,
  SCM_TIMESTAMPING,
  SCM_TIMESTAMPNS,
  SCM_TXTIME,
  SO_MARK,
  SO_PRIORITY,
  SO_RXQ_OVFL,
  SO_TIMESTAMPING,
  SOL_SOCKET,
  SOL_UDP,
  TCP_CM_INQ,
  UDP_GRO,
  UDP_SEGMENT,
} from "bun-sockets/sys";
import { SCM_PIDFD, SCM_TS_OPT_ID, SO_INQ } from "../../lib/internal/option_constants.ts";
import { caught } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";

const CANARY = 0xa5;
const HEADER = 16;

/** CMSG_ALIGN of cmsg(3). */
const align = (length: number) => Math.ceil(length / 8) * 8;

/** One control message, laid out by hand. */
function cmsg(level: number, type: number, data: Uint8Array, claimed = HEADER + data.length) {
  const bytes = new Uint8Array(align(HEADER + data.length));
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(claimed), true);
  view.setInt32(8, level, true);
  view.setInt32(12, type, true);
  bytes.set(data, HEADER);
  return bytes;
}

const hex = (text: string) => Uint8Array.fromHex(text.replaceAll(" ", ""));

function u32(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function i64(...values: bigint[]): Uint8Array {
  return new Uint8Array(BigInt64Array.from(values).buffer);
}

/** Everything that a reader says of the message it is at. */
function allOf(reader: ControlReader): Readonly<Record<string, unknown>> {
  const { kind, level, type, dataOffset, dataLength, truncated } = reader;
  const { ttl, trafficClass, ecn, segmentBytes, dropped, mark, priority, inQueueBytes } = reader;
  const { seconds, nanoseconds, ns, hardwareSeconds, hardwareNanoseconds } = reader;
  const { processId, userId, groupId, descriptorCount, interfaceIndex } = reader;
  return {
    ...{ kind, level, type, dataOffset, dataLength, truncated, data: reader.data.toHex() },
    ...{ ttl, trafficClass, ecn, segmentBytes, dropped, mark, priority, inQueueBytes },
    ...{ seconds, nanoseconds, ns, hardwareSeconds, hardwareNanoseconds },
    ...{ processId, userId, groupId, descriptorCount, interfaceIndex },
    address: reader.address?.toString(),
    localAddress: reader.localAddress?.toString(),
  };
}

/** What a reader says that is at no message. */
const NOTHING = {
  ...{ kind: "unknown", level: -1, type: -1, dataOffset: 0, dataLength: 0, truncated: false },
  ...{ data: "", ttl: -1, trafficClass: -1, ecn: -1, segmentBytes: -1, dropped: -1, mark: -1 },
  ...{ priority: -1, inQueueBytes: -1, seconds: -1, nanoseconds: -1, ns: undefined },
  ...{ hardwareSeconds: -1, hardwareNanoseconds: -1, processId: -1, userId: -1, groupId: -1 },
  ...{ descriptorCount: 0, interfaceIndex: -1, address: undefined, localAddress: undefined },
};

/** Addresses as text, for a comparison that does not look into them. */
function plain(message: ControlMessage | undefined) {
  if (message?.kind === "packetInfo") {
    const { address, localAddress } = message;
    return { ...message, address: `${address}`, localAddress: localAddress?.toString() };
  }
  if (message?.kind === "extendedError")
    return { ...message, offender: message.offender?.toString() };
  if (message?.kind === "originalDestination") return { ...message, address: `${message.address}` };
  return message;
}

const TIME = { seconds: 1_700_000_000, nanoseconds: 123_456_789, ns: 1_700_000_000_123_456_789n };
const NO_TIME = i64(0n, 0n);

// What a message is, its bytes, the object, and what the accessors say that do not say "nothing".
const KINDS: readonly (readonly [
  name: string,
  level: number,
  type: number,
  data: Uint8Array,
  message: object,
  accessors: object,
])[] = [
  [
    "SCM_RIGHTS",
    SOL_SOCKET,
    SCM_RIGHTS,
    u32(3, 77, 1023),
    { kind: "descriptors", descriptors: [3, 77, 1023] },
    { descriptorCount: 3 },
  ],
  [
    "SCM_CREDENTIALS",
    SOL_SOCKET,
    SCM_CREDENTIALS,
    u32(4321, 0xfffffffe, 0x80000000),
    { kind: "credentials", processId: 4321, userId: 0xfffffffe, groupId: 0x80000000 },
    { processId: 4321, userId: 0xfffffffe, groupId: 0x80000000 },
  ],
  [
    "SCM_PIDFD",
    SOL_SOCKET,
    SCM_PIDFD,
    u32(9),
    { kind: "processDescriptor", descriptor: 9 },
    { descriptorCount: 1 },
  ],
  [
    "SCM_TIMESTAMPNS",
    SOL_SOCKET,
    SCM_TIMESTAMPNS,
    i64(1_700_000_000n, 123_456_789n),
    { kind: "timestamp", ...TIME },
    TIME,
  ],
  [
    "SCM_TIMESTAMP, in microseconds",
    SOL_SOCKET,
    SCM_TIMESTAMP,
    i64(1_700_000_000n, 123_456n),
    {
      ...{ kind: "timestamp", seconds: 1_700_000_000, nanoseconds: 123_456_000 },
      ns: 1_700_000_000_123_456_000n,
    },
    { seconds: 1_700_000_000, nanoseconds: 123_456_000, ns: 1_700_000_000_123_456_000n },
  ],
  [
    "SCM_TIMESTAMPNS before 1970",
    SOL_SOCKET,
    SCM_TIMESTAMPNS,
    i64(-2n, 5n),
    { kind: "timestamp", seconds: -2, nanoseconds: 5, ns: -1_999_999_995n },
    { seconds: -2, nanoseconds: 5, ns: -1_999_999_995n },
  ],
  [
    "SCM_TIMESTAMPING in software",
    SOL_SOCKET,
    SCM_TIMESTAMPING,
    Buffer.concat([i64(1_700_000_000n, 123_456_789n), NO_TIME, NO_TIME]),
    { kind: "timestamping", software: TIME, hardware: undefined, hardwareConverted: undefined },
    { ...TIME, hardwareSeconds: 0, hardwareNanoseconds: 0 },
  ],
  [
    "SCM_TIMESTAMPING of all three clocks",
    SOL_SOCKET,
    SCM_TIMESTAMPING,
    Buffer.concat([i64(1_700_000_000n, 123_456_789n), i64(7n, 8n), i64(0n, 9n)]),
    {
      kind: "timestamping",
      software: TIME,
      hardware: { seconds: 0, nanoseconds: 9, ns: 9n },
      hardwareConverted: { seconds: 7, nanoseconds: 8, ns: 7_000_000_008n },
    },
    { ...TIME, hardwareSeconds: 0, hardwareNanoseconds: 9 },
  ],
  [
    "SCM_TIMESTAMPING in hardware alone",
    SOL_SOCKET,
    SCM_TIMESTAMPING,
    Buffer.concat([NO_TIME, NO_TIME, i64(1_700_000_000n, 123_456_789n)]),
    { kind: "timestamping", software: undefined, hardware: TIME, hardwareConverted: undefined },
    {
      ...{ seconds: 0, nanoseconds: 0, ns: 0n },
      ...{ hardwareSeconds: TIME.seconds, hardwareNanoseconds: TIME.nanoseconds },
    },
  ],
  [
    "IP_PKTINFO of a broadcast",
    IPPROTO_IP,
    IP_PKTINFO,
    hex("05000000 c0000207 c00002ff"),
    {
      kind: "packetInfo",
      address: "192.0.2.255:0",
      localAddress: "192.0.2.7:0",
      interfaceIndex: 5,
    },
    { address: "192.0.2.255:0", localAddress: "192.0.2.7:0", interfaceIndex: 5 },
  ],
  [
    "IPV6_PKTINFO",
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("20010db8 00000000 00000000 00000001 03000000"),
    {
      kind: "packetInfo",
      address: "[2001:db8::1]:0",
      localAddress: "[2001:db8::1]:0",
      interfaceIndex: 3,
    },
    { address: "[2001:db8::1]:0", localAddress: "[2001:db8::1]:0", interfaceIndex: 3 },
  ],
  [
    "IPV6_PKTINFO of an IPv4-mapped address",
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("00000000 00000000 0000ffff c0000207 01000000"),
    {
      kind: "packetInfo",
      address: "[::ffff:192.0.2.7]:0",
      localAddress: "[::ffff:192.0.2.7]:0",
      interfaceIndex: 1,
    },
    { address: "[::ffff:192.0.2.7]:0", localAddress: "[::ffff:192.0.2.7]:0", interfaceIndex: 1 },
  ],
  [
    "IPV6_PKTINFO of a link's address, with its zone",
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("fe800000 00000000 00000000 00000001 04000000"),
    {
      kind: "packetInfo",
      address: "[fe80::1%4]:0",
      localAddress: "[fe80::1%4]:0",
      interfaceIndex: 4,
    },
    { address: "[fe80::1%4]:0", localAddress: "[fe80::1%4]:0", interfaceIndex: 4 },
  ],
  [
    "IPV6_PKTINFO of a link's group, which nobody can answer from",
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("ff020000 00000000 00000000 00000001 04000000"),
    {
      kind: "packetInfo",
      address: "[ff02::1%4]:0",
      localAddress: undefined,
      interfaceIndex: 4,
    },
    { address: "[ff02::1%4]:0", localAddress: undefined, interfaceIndex: 4 },
  ],
  [
    "IPV6_PKTINFO of a wider group, without a zone",
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("ff0e0000 00000000 00000000 00000001 04000000"),
    { kind: "packetInfo", address: "[ff0e::1]:0", localAddress: undefined, interfaceIndex: 4 },
    { address: "[ff0e::1]:0", localAddress: undefined, interfaceIndex: 4 },
  ],
  ["IP_TTL", IPPROTO_IP, IP_TTL, u32(64), { kind: "ttl", ttl: 64 }, { ttl: 64 }],
  ["IPV6_HOPLIMIT", IPPROTO_IPV6, IPV6_HOPLIMIT, u32(255), { kind: "ttl", ttl: 255 }, { ttl: 255 }],
  [
    "IP_TOS as it comes, in one byte",
    IPPROTO_IP,
    IP_TOS,
    hex("bb"),
    { kind: "trafficClass", trafficClass: 0xbb, ecn: 3 },
    { trafficClass: 0xbb, ecn: 3 },
  ],
  [
    "IP_TOS as it goes, as an int",
    IPPROTO_IP,
    IP_TOS,
    u32(0xb9),
    { kind: "trafficClass", trafficClass: 0xb9, ecn: 1 },
    { trafficClass: 0xb9, ecn: 1 },
  ],
  [
    "IPV6_TCLASS",
    IPPROTO_IPV6,
    IPV6_TCLASS,
    u32(2),
    { kind: "trafficClass", trafficClass: 2, ecn: 2 },
    { trafficClass: 2, ecn: 2 },
  ],
  [
    "UDP_GRO",
    SOL_UDP,
    UDP_GRO,
    u32(1200),
    { kind: "segmentBytes", segmentBytes: 1200 },
    { segmentBytes: 1200 },
  ],
  [
    "UDP_SEGMENT",
    SOL_UDP,
    UDP_SEGMENT,
    hex("ffff"),
    { kind: "segmentBytes", segmentBytes: 65535 },
    { segmentBytes: 65535 },
  ],
  [
    "SO_RXQ_OVFL",
    SOL_SOCKET,
    SO_RXQ_OVFL,
    u32(0xffffffff),
    { kind: "dropped", dropped: 0xffffffff },
    { dropped: 0xffffffff },
  ],
  [
    "SO_MARK",
    SOL_SOCKET,
    SO_MARK,
    u32(0xdeadbeef),
    { kind: "mark", mark: 0xdeadbeef },
    { mark: 0xdeadbeef },
  ],
  [
    "SO_PRIORITY",
    SOL_SOCKET,
    SO_PRIORITY,
    u32(6),
    { kind: "priority", priority: 6 },
    { priority: 6 },
  ],
  [
    "TCP_CM_INQ",
    IPPROTO_TCP,
    TCP_CM_INQ,
    u32(4096),
    { kind: "inQueue", bytes: 4096 },
    { inQueueBytes: 4096 },
  ],
  [
    "SCM_INQ",
    SOL_SOCKET,
    SO_INQ,
    u32(0x7fffffff),
    { kind: "inQueue", bytes: 0x7fffffff },
    { inQueueBytes: 0x7fffffff },
  ],
  [
    "IP_RECVERR with the offender",
    IPPROTO_IP,
    IP_RECVERR,
    hex("6f000000 02 03 01 00 dc050000 07000000 0200 0000 c0000201 0000000000000000"),
    {
      ...{ kind: "extendedError", errno: 111, origin: 2, type: 3, code: 1, info: 1500, data: 7 },
      offender: "192.0.2.1:0",
    },
    {},
  ],
  [
    "IPV6_RECVERR without an offender",
    IPPROTO_IPV6,
    IPV6_RECVERR,
    hex("5a000000 01 00 00 00 00050000 00000000"),
    {
      ...{ kind: "extendedError", errno: 90, origin: 1, type: 0, code: 0, info: 1280, data: 0 },
      offender: undefined,
    },
    {},
  ],
  [
    "IP_ORIGDSTADDR",
    IPPROTO_IP,
    IP_ORIGDSTADDR,
    hex("0200 0035 c0000201 0000000000000000"),
    { kind: "originalDestination", address: "192.0.2.1:53" },
    { address: "192.0.2.1:53" },
  ],
  [
    "IPV6_ORIGDSTADDR, whatever family it says",
    IPPROTO_IPV6,
    IPV6_ORIGDSTADDR,
    hex("ffff 0035 00000000 20010db8 00000000 00000000 00000001 00000000"),
    { kind: "originalDestination", address: "[2001:db8::1]:53" },
    { address: "[2001:db8::1]:53" },
  ],
  [
    "IPV6_ORIGDSTADDR",
    IPPROTO_IPV6,
    IPV6_ORIGDSTADDR,
    hex("0a00 0035 00000000 fe800000 00000000 00000000 00000001 02000000"),
    { kind: "originalDestination", address: "[fe80::1%2]:53" },
    { address: "[fe80::1%2]:53" },
  ],
];

describe("ControlReader", () => {
  test.each(KINDS)("reads %s", (_, level, type, data, message, accessors) => {
    const bytes = cmsg(level, type, data);
    const reader = new ControlReader(bytes);
    expect(allOf(reader)).toEqual(NOTHING);
    expect(reader.message()).toBeUndefined();
    expect(reader.next()).toBe(true);
    const { kind } = message as { kind: string };
    expect(allOf(reader)).toEqual({
      ...NOTHING,
      ...{ kind, level, type, dataOffset: HEADER, dataLength: data.length },
      data: data.toHex(),
      ...accessors,
    });
    expect<unknown>(plain(reader.message())).toEqual(message);
    expect(reader.next()).toBe(false);
    expect(allOf(reader)).toEqual(NOTHING);
    expect(reader.message()).toBeUndefined();
    expect(reader.next()).toBe(false);
    expect<unknown[]>(decodeControl(bytes).map(plain)).toEqual([message]);
  });

  // The descriptors of one that was cut are still somebody's to close.
  const CUT = KINDS.filter(
    ([name, , type]) =>
      type !== SCM_RIGHTS && type !== IP_TOS && !name.includes("with the offender"),
  );
  test.each(CUT)("keeps %s as unknown when it is shorter", (_, level, type, data) => {
    const short = data.subarray(0, -1);
    const [message] = decodeControl(cmsg(level, type, short));
    expect(message).toEqual({ kind: "unknown", level, type, data: new Uint8Array(short) });
    const reader = new ControlReader(cmsg(level, type, short));
    reader.next();
    expect(allOf(reader)).toEqual({
      ...NOTHING,
      ...{ level, type, dataOffset: HEADER, dataLength: short.length, data: short.toHex() },
    });
  });

  test.each([
    ["no data", ""],
    ["one byte of a descriptor", "01"],
    ["three bytes of a descriptor", "010000"],
  ])("finds no descriptor in SCM_RIGHTS with %s, and one in seven bytes", (_, data) => {
    const [none] = decodeControl(cmsg(SOL_SOCKET, SCM_RIGHTS, hex(data)));
    expect(none).toEqual({ kind: "descriptors", descriptors: [] });
    const [one] = decodeControl(cmsg(SOL_SOCKET, SCM_RIGHTS, hex("05000000 010000")));
    expect(one).toEqual({ kind: "descriptors", descriptors: [5] });
  });

  test("gives each descriptor by its number, and no more", () => {
    const reader = new ControlReader(cmsg(SOL_SOCKET, SCM_RIGHTS, u32(3, 0xffffffff)));
    for (const i of [-1, 0, 1, 0.5]) expect(() => reader.descriptor(i)).toThrow(RangeError);
    reader.next();
    expect([0, 1].map((i) => reader.descriptor(i))).toEqual([3, -1]);
    expect(() => reader.descriptor(2)).toThrow(
      new RangeError("Cannot use 2 as the index of a descriptor: expected 0 to 1"),
    );
    expect(() => reader.descriptor("0" as unknown as number)).toThrow(TypeError);
  });

  test.each([
    ["a level that has no kinds", 263, 8, "0102"],
    ["a type that has no kind", SOL_SOCKET, 12345, "010203040506070809"],
    ["the number of one level at another", IPPROTO_TCP, IP_TTL, "40000000"],
    ["negative numbers", -1, -2, ""],
  ])("keeps what is not known: %s", (_, level, type, text) => {
    const data = hex(text);
    const bytes = cmsg(level, type, data);
    const [message] = decodeControl(bytes);
    expect(message).toEqual({ kind: "unknown", level, type, data });
    if (message?.kind !== "unknown") throw new Error("Expected an unknown one");
    // In place.
    expect(message.data.buffer).toBe(bytes.buffer);
    expect(message.data.byteOffset).toBe(HEADER);
  });

  test("goes from each to the next, whatever their lengths", () => {
    const parts = Array.from({ length: 40 }, (_, i) => new Uint8Array(i).fill(i));
    const bytes = Buffer.concat(parts.map((data, i) => cmsg(1000 + i, i, data)));
    const found = decodeControl(bytes);
    expect(found).toEqual(
      parts.map((data, i) => ({ kind: "unknown", level: 1000 + i, type: i, data })),
    );
  });

  test("takes a last one without what fills up to the next", () => {
    const bytes = cmsg(IPPROTO_IP, IP_TTL, u32(7)).subarray(0, HEADER + 4);
    const reader = new ControlReader(bytes);
    expect([reader.next(), reader.ttl, reader.truncated]).toEqual([true, 7, false]);
    expect(reader.next()).toBe(false);
  });

  test("ends behind as many bytes as are in use", () => {
    const bytes = Buffer.concat([
      cmsg(IPPROTO_IP, IP_TTL, u32(7)),
      cmsg(IPPROTO_IP, IP_TTL, u32(8)),
    ]);
    const counts = [0, 15, 24, 39, 40, 44, 48].map((length) => decodeControl(bytes, length).length);
    // 40 hold the head of the second and nothing of its data.
    expect(counts).toEqual([0, 0, 1, 1, 2, 2, 2]);
    expect(decodeControl(bytes, 40)[1]).toEqual({
      ...{ kind: "unknown", level: IPPROTO_IP, type: IP_TTL },
      data: new Uint8Array(0),
    });
    expect(decodeControl(bytes, 43)[1]).toMatchObject({ kind: "unknown" });
    expect(decodeControl(bytes, 44)[1]).toEqual({ kind: "ttl", ttl: 8 });
  });

  test.each([
    ["0", 0n],
    ["1", 1n],
    ["less than its head", 15n],
  ])("ends at one that claims to be %s bytes long", (_, length) => {
    const bytes = Buffer.concat([
      cmsg(IPPROTO_IP, IP_TTL, u32(7)),
      cmsg(IPPROTO_IP, IP_TTL, u32(8)),
    ]);
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(24, length, true);
    expect(decodeControl(bytes)).toEqual([{ kind: "ttl", ttl: 7 }]);
    const reader = new ControlReader(bytes);
    expect([reader.next(), reader.next(), reader.next()]).toEqual([true, false, false]);
    // It has ended, whatever is written there now.
    bytes.set(cmsg(IPPROTO_IP, IP_TTL, u32(8)), 24);
    expect(reader.next()).toBe(false);
  });

  test.each([
    ["one byte more than there is", 41n],
    ["2^31", 2n ** 31n],
    ["2^32", 2n ** 32n],
    ["2^32 and its head", 2n ** 32n + 20n],
    ["what wraps around to its head", 2n ** 64n - 8n],
    ["2^64 - 1", 2n ** 64n - 1n],
  ])("cuts one that claims to be longer: %s", (_, length) => {
    const bytes = Buffer.concat([cmsg(IPPROTO_IP, IP_TTL, u32(7)), new Uint8Array(16)]);
    new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(0, length, true);
    const reader = new ControlReader(bytes);
    expect(reader.next()).toBe(true);
    expect([reader.truncated, reader.dataLength, reader.ttl]).toEqual([true, 24, 7]);
    expect(reader.next()).toBe(false);
    expect(reader.truncated).toBe(false);
  });

  test("takes one that fills the memory as whole", () => {
    const reader = new ControlReader(cmsg(SOL_SOCKET, SCM_RIGHTS, u32(3, 4)));
    expect([reader.next(), reader.truncated, reader.descriptorCount]).toEqual([true, false, 2]);
  });

  test("begins anew with reset, of the same memory or other", () => {
    const one = cmsg(IPPROTO_IP, IP_TTL, u32(1));
    const two = cmsg(IPPROTO_IP, IP_TTL, u32(2));
    const reader = new ControlReader(one);
    for (const [bytes, length, ttls] of [
      [one, undefined, [1]],
      [two, 24, [2]],
      [two, 23, [2]],
      [two, 15, []],
      [two, undefined, [2]],
      [new DataView(one.buffer), undefined, [1]],
      [new Uint8Array(0), 0, []],
      [one, undefined, [1]],
    ] as const) {
      reader.reset(bytes, length);
      expect(allOf(reader)).toEqual(NOTHING);
      const found: number[] = [];
      while (reader.next()) found.push(reader.ttl);
      expect(found).toEqual([...ttls]);
    }
    // In the middle.
    const both = Buffer.concat([one, two]);
    reader.reset(both);
    reader.next();
    reader.reset(both);
    expect(allOf(reader)).toEqual(NOTHING);
    expect([reader.next(), reader.ttl, reader.next(), reader.ttl]).toEqual([true, 1, true, 2]);
  });

  test("tells what the memory holds at that moment", () => {
    const bytes = cmsg(IPPROTO_IP, IP_TTL, u32(1));
    const reader = new ControlReader(bytes);
    reader.next();
    const { data } = reader;
    bytes[HEADER] = 9;
    // What it is was read when it was gone to, so that no change leads out of the bytes.
    bytes.fill(0xff, 0, HEADER);
    expect([reader.ttl, reader.dataLength, [...data]]).toEqual([9, 4, [9, 0, 0, 0]]);
  });

  const NOT_VIEWS: [name: string, make: () => unknown][] = [
    ["null", () => null],
    ["a number, which C would take as an address", () => 4096],
    ["an array", () => [1, 2]],
    ["an ArrayBuffer", () => new ArrayBuffer(64)],
    ["what only inherits from a view", () => Object.create(Uint8Array.prototype)],
    ["a Proxy of a view", () => new Proxy(new Uint8Array(64), {})],
    ["shared memory", () => new Uint8Array(new SharedArrayBuffer(64))],
    ["memory that can shrink", () => new Uint8Array(new ArrayBuffer(64, { maxByteLength: 64 }))],
    ["detached memory", () => detachedView()],
  ];
  test.each(NOT_VIEWS)("is refused over %s, and so is a writer", (_, make) => {
    const bytes = make() as Uint8Array;
    const reader = new ControlReader(cmsg(IPPROTO_IP, IP_TTL, u32(1)));
    expect(() => new ControlReader(bytes)).toThrow(/^Cannot use .* as control messages/);
    expect(() => reader.reset(bytes)).toThrow(TypeError);
    expect(() => decodeControl(bytes)).toThrow(TypeError);
    expect(() => new ControlWriter(bytes)).toThrow(TypeError);
    // It stays with what it had.
    expect([reader.next(), reader.ttl]).toEqual([true, 1]);
  });

  test.each([-1, 25, 0.5, Number.NaN, Infinity])("refuses a length of %d", (length) => {
    const bytes = cmsg(IPPROTO_IP, IP_TTL, u32(1));
    const reader = new ControlReader(bytes);
    const refusal = new RangeError(
      `Cannot use ${length} as the length of control messages: expected 0 to 24`,
    );
    expect(() => new ControlReader(bytes, length)).toThrow(refusal);
    expect(() => reader.reset(bytes, length)).toThrow(refusal);
    expect(() => decodeControl(bytes, length)).toThrow(refusal);
    expect([reader.next(), reader.ttl]).toEqual([true, 1]);
  });

  test("knows the true length of a view that lies", () => {
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
    const memory = Buffer.concat([new Uint8Array(8), cmsg(IPPROTO_IP, IP_TTL, u32(5))]);
    const copy = new Uint8Array(64);
    copy.set(memory);
    const liar = new Long(copy.buffer, 8, 24);
    expect(decodeControl(liar)).toEqual([{ kind: "ttl", ttl: 5 }]);
    expect(() => new ControlReader(liar, 25)).toThrow(RangeError);
  });

  test("refuses memory that was freed or transferred since, in all that it says", () => {
    const types: [kind: string, names: (keyof ControlReader & string)[], bytes: Uint8Array][] = [
      ["ttl", ["ttl", "data"], cmsg(IPPROTO_IP, IP_TTL, u32(1))],
      ["trafficClass", ["trafficClass", "ecn"], cmsg(IPPROTO_IP, IP_TOS, hex("01"))],
      ["segmentBytes", ["segmentBytes"], cmsg(SOL_UDP, UDP_SEGMENT, hex("0100"))],
      ["dropped", ["dropped"], cmsg(SOL_SOCKET, SO_RXQ_OVFL, u32(1))],
      ["mark", ["mark"], cmsg(SOL_SOCKET, SO_MARK, u32(1))],
      ["priority", ["priority"], cmsg(SOL_SOCKET, SO_PRIORITY, u32(1))],
      ["inQueue", ["inQueueBytes"], cmsg(IPPROTO_TCP, TCP_CM_INQ, u32(1))],
      [
        "packetInfo",
        ["address", "localAddress", "interfaceIndex"],
        cmsg(IPPROTO_IP, IP_PKTINFO, new Uint8Array(12)),
      ],
      [
        "credentials",
        ["processId", "userId", "groupId"],
        cmsg(SOL_SOCKET, SCM_CREDENTIALS, new Uint8Array(12)),
      ],
      [
        "timestamping",
        ["seconds", "nanoseconds", "ns", "hardwareSeconds", "hardwareNanoseconds"],
        cmsg(SOL_SOCKET, SCM_TIMESTAMPING, new Uint8Array(48)),
      ],
    ];
    for (const [kind, names, source] of types) {
      const memory = new NativeBuffer(4096);
      memory.bytes.set(source);
      const reader = new ControlReader(memory.bytes, source.length);
      reader.next();
      expect(reader.kind as string).toBe(kind);
      memory.free();
      expect(() => reader.reset(memory.bytes)).toThrow(/^Cannot use detached memory/);
      expect(() => reader.reset(memory.bytes, 0)).toThrow(/^Cannot use detached memory/);
      for (const name of [...names, "message", "next"] as const) {
        const run = () => {
          const value = reader[name as "ns"] as unknown;
          return value instanceof Function ? value.call(reader) : value;
        };
        // Behind the last there is nothing to read.
        if (name === "next") expect(run()).toBe(false);
        else expect(run, name).toThrow(/^Cannot use detached memory as control messages/);
      }
    }
    const reader = new ControlReader(cmsg(SOL_SOCKET, SCM_RIGHTS, u32(1)));
    reader.next();
    reader.data.buffer.transfer();
    expect(() => reader.descriptor(0)).toThrow("Cannot use detached memory");
    const early = new ControlReader(cmsg(SOL_SOCKET, SCM_RIGHTS, u32(1)));
    early.data.buffer.transfer();
    expect(() => early.next()).toThrow("Cannot use detached memory");
  });
});

function detachedView(): Uint8Array {
  const view = new Uint8Array(new ArrayBuffer(64));
  view.buffer.transfer();
  return view;
}

/** A writer over memory that is full of canaries, with some before and behind. */
function guarded(bytes: number, unaligned = 0) {
  const memory = new Uint8Array(64 + unaligned + bytes + 64).fill(CANARY);
  const target = memory.subarray(64 + unaligned, 64 + unaligned + bytes);
  const outside = () =>
    [...memory.subarray(0, 64 + unaligned), ...memory.subarray(64 + unaligned + bytes)].every(
      (byte) => byte === CANARY,
    );
  return { target, writer: new ControlWriter(target), outside };
}

type Add = (writer: ControlWriter) => void;

// What a writer is told, and what it is to write.
const ADDED: readonly (readonly [
  name: string,
  add: Add,
  level: number,
  type: number,
  data: Uint8Array,
])[] = [
  ["a TTL", (w) => w.addTtl(1, "ipv4"), IPPROTO_IP, IP_TTL, u32(1)],
  ["the longest TTL", (w) => w.addTtl(255, "ipv4"), IPPROTO_IP, IP_TTL, u32(255)],
  ["a hop limit", (w) => w.addTtl(0, "ipv6"), IPPROTO_IPV6, IPV6_HOPLIMIT, u32(0)],
  ["a TOS", (w) => w.addTrafficClass(255, "ipv4"), IPPROTO_IP, IP_TOS, u32(255)],
  ["a traffic class", (w) => w.addTrafficClass(3, "ipv6"), IPPROTO_IPV6, IPV6_TCLASS, u32(3)],
  ["a segment size", (w) => w.addSegmentBytes(1200), SOL_UDP, UDP_SEGMENT, hex("b004")],
  ["the longest segment", (w) => w.addSegmentBytes(65535), SOL_UDP, UDP_SEGMENT, hex("ffff")],
  ["a mark", (w) => w.addMark(0xdeadbeef), SOL_SOCKET, SO_MARK, u32(0xdeadbeef)],
  ["a priority", (w) => w.addPriority(6), SOL_SOCKET, SO_PRIORITY, u32(6)],
  ["timestamping flags", (w) => w.addTimestamping(0x302), SOL_SOCKET, SO_TIMESTAMPING, u32(0x302)],
  [
    "the number of a timestamp",
    (w) => w.addTimestampId(0xffffffff),
    SOL_SOCKET,
    SCM_TS_OPT_ID,
    u32(0xffffffff),
  ],
  [
    "a transmit time",
    (w) => w.addTransmitTime(2n ** 64n - 2n),
    SOL_SOCKET,
    SCM_TXTIME,
    hex("feffffffffffffff"),
  ],
  [
    "credentials",
    (w) => w.addCredentials({ processId: 1, userId: 4_294_967_294, groupId: 3 }),
    SOL_SOCKET,
    SCM_CREDENTIALS,
    u32(1, 4_294_967_294, 3),
  ],
  [
    "the own credentials",
    (w) => w.addCredentials(),
    SOL_SOCKET,
    SCM_CREDENTIALS,
    u32(process.pid, process.getuid?.() ?? 0, process.getgid?.() ?? 0),
  ],
  [
    "descriptors, by number and of what has one",
    (w) => w.addDescriptors([0, { descriptor: 7 }, 0x7fffffff]),
    SOL_SOCKET,
    SCM_RIGHTS,
    u32(0, 7, 0x7fffffff),
  ],
  [
    "an IPv4 source",
    (w) => w.addPacketInfo({ source: "192.0.2.1:99" }),
    IPPROTO_IP,
    IP_PKTINFO,
    hex("00000000 c0000201 00000000"),
  ],
  [
    "an IPv4 source and an interface",
    (w) => w.addPacketInfo({ source: new Inet4Address("192.0.2.1", 0), interfaceIndex: 258 }),
    IPPROTO_IP,
    IP_PKTINFO,
    hex("02010000 c0000201 00000000"),
  ],
  [
    "an IPv4-mapped source, which is an IPv4 one",
    (w) => w.addPacketInfo({ source: "[::ffff:192.0.2.1]:0" }, "ipv4"),
    IPPROTO_IP,
    IP_PKTINFO,
    hex("00000000 c0000201 00000000"),
  ],
  [
    "an interface for IPv4",
    (w) => w.addPacketInfo({ interfaceIndex: 3 }, "ipv4"),
    IPPROTO_IP,
    IP_PKTINFO,
    hex("03000000 00000000 00000000"),
  ],
  [
    "an IPv6 source",
    (w) => w.addPacketInfo({ source: "[2001:db8::1]:99" }),
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("20010db8 00000000 00000000 00000001 00000000"),
  ],
  [
    "an IPv6 source with a zone, which is the interface",
    (w) => w.addPacketInfo({ source: new Inet6Address("fe80::1%9", 0) }, "ipv6"),
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("fe800000 00000000 00000000 00000001 09000000"),
  ],
  [
    "an IPv6 source with the name of a zone, and an interface before it",
    (w) => w.addPacketInfo({ source: "[fe80::1%lo]:0", interfaceIndex: 9 }),
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("fe800000 00000000 00000000 00000001 09000000"),
  ],
  [
    "an interface for IPv6",
    (w) => w.addPacketInfo({ interfaceIndex: 3 }, "ipv6"),
    IPPROTO_IPV6,
    IPV6_PKTINFO,
    hex("00000000 00000000 00000000 00000000 03000000"),
  ],
  [
    "no source and no interface",
    (w) => w.addPacketInfo({}, "ipv4"),
    IPPROTO_IP,
    IP_PKTINFO,
    new Uint8Array(12),
  ],
  ["anything", (w) => w.add(-5, 70_000, hex("0102030405")), -5, 70_000, hex("0102030405")],
  ["anything without data", (w) => w.add(1, 2, new Uint8Array(0)), 1, 2, new Uint8Array(0)],
  [
    "the bytes of a wider view",
    (w) => w.add(1, 2, new Uint16Array([1, 2, 3]).subarray(1)),
    1,
    2,
    hex("02000300"),
  ],
];

describe("ControlWriter", () => {
  test.each(ADDED)("writes %s as C would, and no byte beside it", (_, add, level, type, data) => {
    const expected = cmsg(level, type, data);
    for (const unaligned of [0, 1, 5]) {
      const { target, writer, outside } = guarded(expected.length + 8, unaligned);
      add(writer);
      expect(writer.length).toBe(expected.length);
      expect(writer.bytes.toHex()).toBe(expected.toHex());
      // Behind it the memory is as it was.
      expect(target.subarray(expected.length).toHex()).toBe("a5".repeat(8));
      expect(outside()).toBe(true);
    }
  });

  test.each(ADDED)("writes %s behind others", (_, add, level, type, data) => {
    const first = cmsg(1, 1, hex("ff"));
    const expected = Buffer.concat([first, cmsg(level, type, data)]);
    const { writer, outside } = guarded(expected.length);
    writer.add(1, 1, hex("ff"));
    add(writer);
    expect(writer.bytes.toHex()).toBe(expected.toString("hex"));
    expect(outside()).toBe(true);
  });

  test.each(ADDED)("refuses %s where one byte is missing, and writes nothing", (...row) => {
    const [, add, , , data] = row;
    const needed = HEADER + data.length;
    const { target, writer, outside } = guarded(24 + needed - 1);
    writer.add(1, 1, hex("0102"));
    const before = target.toHex();
    expect(() => add(writer)).toThrow(
      new RangeError(
        `Cannot add a control message of ${needed} bytes: expected at most ${needed - 1}`,
      ),
    );
    expect([target.toHex(), writer.length]).toEqual([before, 24]);
    expect(outside()).toBe(true);
  });

  test.each(ADDED)("takes %s where just what fills up is missing", (_, add, level, type, data) => {
    const needed = HEADER + data.length;
    const { writer, outside } = guarded(needed);
    add(writer);
    expect(writer.length).toBe(needed);
    expect(writer.bytes.toHex()).toBe(cmsg(level, type, data).subarray(0, needed).toHex());
    expect(() => writer.add(1, 1, new Uint8Array(0))).toThrow(RangeError);
    expect(writer.length).toBe(needed);
    expect(outside()).toBe(true);
  });

  test("says how much room is left when there is none at all", () => {
    expect(() => new ControlWriter(new Uint8Array(0)).addTtl(1, "ipv4")).toThrow(
      new RangeError("Cannot add a control message of 20 bytes: expected at most 0"),
    );
  });

  test("begins anew with clear", () => {
    const { writer } = guarded(64);
    writer.addTtl(9, "ipv4");
    writer.addMark(1);
    writer.clear();
    expect([writer.length, writer.bytes.length]).toEqual([0, 0]);
    writer.addTtl(3, "ipv6");
    expect(decodeControl(writer.bytes)).toEqual([{ kind: "ttl", ttl: 3 }]);
  });

  test("takes data out of the memory that it writes to", () => {
    for (const at of [0, 4, 8, 16, 20]) {
      const memory = Uint8Array.from({ length: 64 }, (_, i) => i);
      const writer = new ControlWriter(memory);
      const data = memory.subarray(at, at + 12);
      const expected = cmsg(1, 2, data.slice());
      writer.add(1, 2, data);
      expect(writer.bytes.toHex()).toBe(expected.toHex());
    }
  });

  const WRONG: [name: string, add: Add, error: typeof RangeError | typeof TypeError][] = [
    ["a TTL of 0", (w) => w.addTtl(0, "ipv4"), RangeError],
    ["a TTL of 256", (w) => w.addTtl(256, "ipv4"), RangeError],
    ["a hop limit of -1", (w) => w.addTtl(-1, "ipv6"), RangeError],
    ["a TTL that is text", (w) => w.addTtl("1" as unknown as number, "ipv4"), TypeError],
    ["a TTL of no family", (w) => w.addTtl(1, undefined as unknown as PacketFamily), TypeError],
    ["a TTL of another family", (w) => w.addTtl(1, "unix" as PacketFamily), TypeError],
    ["a traffic class of 256", (w) => w.addTrafficClass(256, "ipv6"), RangeError],
    ["a traffic class of -1", (w) => w.addTrafficClass(-1, "ipv4"), RangeError],
    ["a traffic class of 1.5", (w) => w.addTrafficClass(1.5, "ipv4"), RangeError],
    ["a traffic class of no family", (w) => w.addTrafficClass(1, 4 as never), TypeError],
    ["segments of 0 bytes", (w) => w.addSegmentBytes(0), RangeError],
    ["segments of 65536 bytes", (w) => w.addSegmentBytes(65536), RangeError],
    ["a mark of 2^32", (w) => w.addMark(2 ** 32), RangeError],
    ["a mark of -1", (w) => w.addMark(-1), RangeError],
    ["a priority of 2^31", (w) => w.addPriority(2 ** 31), RangeError],
    ["timestamping flags of -1", (w) => w.addTimestamping(-1), RangeError],
    ["a number of a timestamp of 2^32", (w) => w.addTimestampId(2 ** 32), RangeError],
    ["a transmit time of -1", (w) => w.addTransmitTime(-1n), RangeError],
    ["a transmit time of 2^64", (w) => w.addTransmitTime(2n ** 64n), RangeError],
    ["a transmit time that is a number", (w) => w.addTransmitTime(1 as never), TypeError],
    ["a process of -1", (w) => w.addCredentials({ processId: -1 }), RangeError],
    ["a user of 2^32", (w) => w.addCredentials({ userId: 2 ** 32 }), RangeError],
    ["a group that is text", (w) => w.addCredentials({ groupId: "0" as never }), TypeError],
    ["credentials of null", (w) => w.addCredentials(null as never), TypeError],
    ["no descriptors", (w) => w.addDescriptors([]), RangeError],
    ["254 descriptors", (w) => w.addDescriptors(Array(254).fill(0)), RangeError],
    ["a descriptor of -1", (w) => w.addDescriptors([0, -1]), RangeError],
    ["a closed socket", (w) => w.addDescriptors([{ descriptor: -1 }]), RangeError],
    ["a descriptor that is text", (w) => w.addDescriptors(["0" as never]), TypeError],
    ["a hole in the descriptors", (w) => w.addDescriptors(Array(2)), TypeError],
    ["descriptors that are a set", (w) => w.addDescriptors(new Set([0]) as never), TypeError],
    ["a source that is no host", (w) => w.addPacketInfo({ source: "192.0.2" }), TypeError],
    ["a source on no network", (w) => w.addPacketInfo({ source: "unix:@a" }), TypeError],
    ["a source of null", (w) => w.addPacketInfo({ source: null } as never, "ipv4"), TypeError],
    ["an interface of -1", (w) => w.addPacketInfo({ interfaceIndex: -1 }, "ipv4"), RangeError],
    [
      "an interface of 2^31",
      (w) => w.addPacketInfo({ interfaceIndex: 2 ** 31 }, "ipv6"),
      RangeError,
    ],
    ["neither source nor family", (w) => w.addPacketInfo({ interfaceIndex: 1 }), TypeError],
    ["a source of the other IP", (w) => w.addPacketInfo({ source: "[::1]:0" }, "ipv4"), TypeError],
    [
      "a source of IPv4 for IPv6",
      (w) => w.addPacketInfo({ source: "127.0.0.1:0" }, "ipv6"),
      TypeError,
    ],
    ["packet info of null", (w) => w.addPacketInfo(null as never, "ipv4"), TypeError],
    ["a level of 2^31", (w) => w.add(2 ** 31, 0, new Uint8Array(1)), RangeError],
    ["a type of -2^31 - 1", (w) => w.add(0, -(2 ** 31) - 1, new Uint8Array(1)), RangeError],
    ["data that is text", (w) => w.add(0, 0, "data" as never), TypeError],
    ["data that is an ArrayBuffer", (w) => w.add(0, 0, new ArrayBuffer(1) as never), TypeError],
    ["detached data", (w) => w.add(0, 0, detachedView()), TypeError],
  ];
  test.each(WRONG)("refuses %s, and writes nothing", (_, add, error) => {
    const { target, writer } = guarded(2000);
    writer.addTtl(1, "ipv4");
    const before = target.toHex();
    const thrown = caught(() => add(writer));
    expect(thrown.constructor).toBe(error);
    expect(thrown.message).toStartWith("Cannot ");
    expect([target.toHex(), writer.length]).toEqual([before, 24]);
  });

  test("takes 253 descriptors, and 1012 bytes of room for them", () => {
    const numbers = Array.from({ length: 253 }, (_, i) => i);
    const writer = new ControlWriter(new Uint8Array(ControlWriter.space(1012)));
    writer.addDescriptors(numbers);
    expect(writer.length).toBe(1032);
    expect(decodeControl(writer.bytes)).toEqual([{ kind: "descriptors", descriptors: numbers }]);
  });

  test("refuses memory that was freed, also by what it asks", () => {
    const memory = new NativeBuffer(4096);
    const writer = new ControlWriter(memory.bytes);
    writer.addTtl(1, "ipv4");
    const source: PacketSource = {
      get interfaceIndex() {
        memory.free();
        return 1;
      },
    };
    const gone = /^Cannot use detached memory as control messages/;
    expect(() => writer.addPacketInfo(source, "ipv4")).toThrow(gone);
    for (const [, add] of ADDED) expect(() => add(writer)).toThrow(gone);
    expect(() => writer.bytes).toThrow(gone);
    writer.clear();
    expect(writer.length).toBe(0);
  });

  test("asks an array for its length once, and for no more than that", () => {
    const { writer } = guarded(64);
    let asked = 0;
    const liar = new Proxy([1, 2], {
      get: (target, name) => (name === "length" && asked++ > 0 ? 1e9 : Reflect.get(target, name)),
    });
    writer.addDescriptors(liar);
    expect(decodeControl(writer.bytes)).toEqual([{ kind: "descriptors", descriptors: [1, 2] }]);
  });

  test.each([
    [0, 16],
    [1, 24],
    [4, 24],
    [8, 24],
    [9, 32],
    [48, 64],
    [1012, 1032],
  ])("space() of %d bytes is %d", (bytes, space) => {
    expect(ControlWriter.space(bytes)).toBe(space);
  });

  test.each([-1, 0.5, 2 ** 31, Number.NaN])("space() refuses %d", (bytes) => {
    expect(() => ControlWriter.space(bytes)).toThrow(RangeError);
  });
});

// The macros of cmsg(3) and the names of the headers are the measure.
const PROGRAM = `
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <asm/socket.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static _Alignas(8) char control[1024];
static struct msghdr message = { .msg_control = control, .msg_controllen = sizeof control };
static struct cmsghdr *at;

static void add(int level, int type, const void *data, size_t bytes) {
  at = at ? CMSG_NXTHDR(&message, at) : CMSG_FIRSTHDR(&message);
  at->cmsg_level = level;
  at->cmsg_type = type;
  at->cmsg_len = CMSG_LEN(bytes);
  memcpy(CMSG_DATA(at), data, bytes);
  printf("%zu %zu\\n", (size_t)CMSG_SPACE(bytes), (size_t)CMSG_LEN(bytes));
}

int main(void) {
  int fds[] = { 0, 7 };
  struct ucred ucred = { 1, 2, 3 };
  int number = 77;
  uint16_t segment = 1200;
  struct in_pktinfo info = { .ipi_ifindex = 5 };
  struct in6_pktinfo info6 = { .ipi6_ifindex = 6 };
  inet_pton(AF_INET, "192.0.2.1", &info.ipi_spec_dst);
  inet_pton(AF_INET6, "2001:db8::1", &info6.ipi6_addr);
  add(SOL_SOCKET, SCM_RIGHTS, fds, sizeof fds);
  add(SOL_SOCKET, SCM_CREDENTIALS, &ucred, sizeof ucred);
  add(IPPROTO_IP, IP_TTL, &number, sizeof number);
  add(IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
  add(IPPROTO_IPV6, IPV6_HOPLIMIT, &number, sizeof number);
  add(IPPROTO_IP, IP_TOS, &number, sizeof number);
  add(IPPROTO_IPV6, IPV6_TCLASS, &number, sizeof number);
  add(IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
  add(IPPROTO_IPV6, IPV6_PKTINFO, &info6, sizeof info6);
  add(SOL_SOCKET, SO_MARK, &number, sizeof number);
  add(SOL_SOCKET, SO_PRIORITY, &number, sizeof number);
  struct timespec time = { 1700000000, 123456789 };
  add(SOL_SOCKET, SCM_TIMESTAMPNS, &time, sizeof time);
  struct scm_timestamping times = { { { 1, 2 }, { 3, 4 }, { 5, 6 } } };
  add(SOL_SOCKET, SCM_TIMESTAMPING, &times, sizeof times);
  for (size_t i = 0; i < sizeof control; i++) printf("%02x", (unsigned char)control[i]);
}
`;

testIf(requires("gcc"))("writer and reader agree with the macros and structs of C", () => {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  try {
    const [source, program] = [join(folder, "control.c"), join(folder, "control")];
    writeFileSync(source, PROGRAM);
    const { stderr, success } = Bun.spawnSync(["gcc", "-o", program, source]);
    expect(success, stderr.toString()).toBe(true);
    const lines = Bun.spawnSync([program]).stdout.toString().split("\n");
    const written = hex(lines.pop() as string);
    const spaces = lines.map((line) => line.split(" ").map(Number));
    for (const [space, length = 0] of spaces)
      expect(ControlWriter.space(length - cmsghdr.size)).toBe(space as number);

    const writer = new ControlWriter(new Uint8Array(1024));
    writer.addDescriptors([0, 7]);
    writer.addCredentials({ processId: 1, userId: 2, groupId: 3 });
    writer.addTtl(77, "ipv4");
    writer.addSegmentBytes(1200);
    writer.addTtl(77, "ipv6");
    writer.addTrafficClass(77, "ipv4");
    writer.addTrafficClass(77, "ipv6");
    writer.addPacketInfo({ source: "192.0.2.1:0", interfaceIndex: 5 });
    writer.addPacketInfo({ source: "[2001:db8::1]:0", interfaceIndex: 6 });
    writer.addMark(77);
    writer.addPriority(77);
    expect(writer.bytes.toHex()).toBe(written.subarray(0, writer.length).toHex());

    const used = spaces.reduce((sum, [space = 0]) => sum + space, 0);
    expect(decodeControl(written, used).map(plain) as unknown[]).toEqual([
      { kind: "descriptors", descriptors: [0, 7] },
      { kind: "credentials", processId: 1, userId: 2, groupId: 3 },
      { kind: "ttl", ttl: 77 },
      { kind: "segmentBytes", segmentBytes: 1200 },
      { kind: "ttl", ttl: 77 },
      { kind: "trafficClass", trafficClass: 77, ecn: 1 },
      { kind: "trafficClass", trafficClass: 77, ecn: 1 },
      {
        ...{ kind: "packetInfo", interfaceIndex: 5 },
        ...{ address: "0.0.0.0:0", localAddress: "192.0.2.1:0" },
      },
      {
        ...{ kind: "packetInfo", interfaceIndex: 6 },
        ...{ address: "[2001:db8::1]:0", localAddress: "[2001:db8::1]:0" },
      },
      { kind: "mark", mark: 77 },
      { kind: "priority", priority: 77 },
      { kind: "timestamp", ...TIME },
      {
        kind: "timestamping",
        software: { seconds: 1, nanoseconds: 2, ns: 1_000_000_002n },
        hardwareConverted: { seconds: 3, nanoseconds: 4, ns: 3_000_000_004n },
        hardware: { seconds: 5, nanoseconds: 6, ns: 5_000_000_006n },
      },
    ]);
    // The memory behind is zeroed, and zeros are the end.
    expect(decodeControl(written)).toHaveLength(spaces.length);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("console.log of a ControlReader and a ControlWriter is one short line", () => {
  const writer = new ControlWriter(new Uint8Array(64));
  writer.addTtl(12, "ipv4");
  writer.addSegmentBytes(1200);
  expect(Bun.inspect(writer)).toBe("ControlWriter, 48 of 64 bytes");
  const reader = new ControlReader(writer.bytes);
  expect(Bun.inspect(reader)).toBe("ControlReader, 48 bytes left");
  reader.next();
  expect(Bun.inspect(reader)).toBe("ControlReader at ttl, 24 bytes left");
  reader.next();
  expect(Bun.inspect(reader)).toBe("ControlReader at segmentBytes, 0 bytes left");
  reader.next();
  expect(Bun.inspect(reader)).toBe("ControlReader, 0 bytes left");
  writer.bytes.buffer.transfer();
  expect(Bun.inspect(writer)).toBe("ControlWriter, 48 of 64 bytes");
  expect(Bun.inspect(ControlReader.prototype)).toBe("ControlReader");
  expect(Bun.inspect(ControlWriter.prototype)).toBe("ControlWriter");
});
