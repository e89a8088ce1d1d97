/** Control messages, as the kernel writes them and takes them: over UDP, TCP and Unix sockets. */
import { describe, expect, test } from "bun:test";
import { fstatSync } from "node:fs";
import { join } from "node:path";
import {
  type ControlMessage,
  ControlReader,
  IpOption,
  Ipv6Option,
  Message,
  type PacketFamily,
  Socket,
  SocketOption,
  TcpListener,
  TcpOption,
  TcpSocket,
  UdpOption,
  UdpSocket,
  UnixDatagramSocket,
  type WritableOption,
} from "bun-sockets";
import {
  IPPROTO_IPV6,
  IPV6_2292HOPLIMIT,
  MSG_CTRUNC,
  SOF_TIMESTAMPING_OPT_ID,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOF_TIMESTAMPING_TX_SOFTWARE,
} from "bun-sockets/sys";
import { openDescriptors } from "../support/descriptors.ts";
import { systemErrorOf } from "../support/errors.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine } from "../support/strangers.ts";

const WAIT = { timeoutMs: 5000 };
const LOOPBACK = 1;
/** Of time.h. */
const CLOCK_MONOTONIC = 1;
const types = ["stream", "datagram", "seqpacket"] as const;

/** One way for a datagram to go: what sends, what receives, and what that is to be told. */
interface Way {
  readonly name: string;
  /** Of which IP the packets are. */
  readonly family: PacketFamily;
  readonly open: "ipv4" | "ipv6";
  /** Every address of this machine. */
  readonly bind: string;
  /** Where the packets go, as the sender writes it, and as the receiver is told. */
  readonly to: string;
  readonly hit: string;
  readonly packetInfo: WritableOption<boolean>;
  readonly ttl: WritableOption<boolean>;
  readonly trafficClass: WritableOption<boolean>;
  readonly originalDestination: WritableOption<boolean>;
}

const IPV4 = {
  family: "ipv4",
  ttl: IpOption.receiveTtl,
  trafficClass: IpOption.receiveTos,
  originalDestination: IpOption.receiveOriginalDestination,
} as const;

const WAYS: readonly Way[] = [
  {
    ...IPV4,
    name: "IPv4",
    open: "ipv4",
    bind: "0.0.0.0:0",
    to: "127.0.0.2",
    hit: "127.0.0.2",
    packetInfo: IpOption.receivePacketInfo,
  },
  {
    name: "IPv6",
    family: "ipv6",
    open: "ipv6",
    bind: "[::]:0",
    to: "[::1]",
    hit: "::1",
    packetInfo: Ipv6Option.receivePacketInfo,
    ttl: Ipv6Option.receiveHopLimit,
    trafficClass: Ipv6Option.receiveTrafficClass,
    originalDestination: Ipv6Option.receiveOriginalDestination,
  },
  {
    ...IPV4,
    name: "IPv4 to an IPv6 socket",
    open: "ipv4",
    bind: "[::]:0",
    to: "127.0.0.2",
    hit: "::ffff:127.0.0.2",
    packetInfo: Ipv6Option.receivePacketInfo,
  },
  {
    ...IPV4,
    name: "IPv4-mapped between IPv6 sockets",
    open: "ipv6",
    bind: "[::]:0",
    to: "[::ffff:127.0.0.2]",
    hit: "::ffff:127.0.0.2",
    packetInfo: Ipv6Option.receivePacketInfo,
  },
];

/** A receiver on every address, and a sender. */
class Sockets implements Disposable {
  readonly server: UdpSocket;
  readonly client: UdpSocket;
  readonly to: string;

  constructor(way: Way) {
    this.server = UdpSocket.bind(way.bind);
    this.client = UdpSocket.open(way.open);
    this.to = `${way.to}:${this.server.localAddress.port}`;
  }

  [Symbol.dispose](): void {
    this.server.close();
    this.client.close();
  }
}

function outgoing(text: string, address?: string): Message {
  return new Message({ vectors: Buffer.from(text), address, controlBytes: 512 });
}

/** Receives one message with room for all that can be told. */
function receive(socket: Socket, controlBytes = 512): Message {
  const message = new Message({ vectors: Buffer.alloc(65536), controlBytes });
  socket.receiveMessageSync(message, WAIT);
  return message;
}

/** What came, by its kind, addresses as text. Two of one kind are an error. */
function told(message: Message): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const { kind, ...rest } of message.controlMessages()) {
    expect(Object.keys(found)).not.toContain(kind);
    found[kind] = Object.fromEntries(
      Object.entries(rest).map(([name, value]) => [
        name,
        value instanceof Object && "host" in value ? `${value}` : value,
      ]),
    );
  }
  return found;
}

/** Switches something on that takes a right, and tells whether it was there. */
function isAllowed(run: () => void): boolean {
  try {
    run();
    return true;
  } catch (error) {
    // Also of kernels that do not have it.
    expect(["EPERM", "ENOPROTOOPT", "EINVAL"]).toContain((error as { code: string }).code);
    return false;
  }
}

describe("control messages of UDP", () => {
  test.each(WAYS)("tell what the sender has written, and where it came to ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    for (const option of [way.packetInfo, way.ttl, way.trafficClass, way.originalDestination])
      server.setOption(option, true);
    const message = outgoing("hello", to);
    message.writer.addTtl(9, way.family);
    message.writer.addTrafficClass(0xb9, way.family);
    expect(client.trySendMessage(message)).toBe(5);
    const address = `${way.hit.includes(":") ? `[${way.hit}]` : way.hit}`;
    const { port } = server.localAddress;
    // An IPv6 socket is told the original destination of an IPv4 packet as one of IPv4.
    const original = way.family === "ipv4" ? "127.0.0.2" : "[::1]";
    expect(told(receive(server))).toEqual({
      packetInfo: {
        address: `${address}:0`,
        localAddress: `${address}:0`,
        interfaceIndex: LOOPBACK,
      },
      ttl: { ttl: 9 },
      trafficClass: { trafficClass: 0xb9, ecn: 1 },
      originalDestination: { address: `${original}:${port}` },
    });
    // What was written stays written.
    client.trySendMessage(message);
    expect(told(receive(server))).toMatchObject({ ttl: { ttl: 9 } });
    // And without it the socket's own are back.
    message.writer.clear();
    client.trySendMessage(message);
    expect(told(receive(server))).toMatchObject({ ttl: { ttl: 64 }, trafficClass: { ecn: 0 } });
  });

  test.each(WAYS)("are read in place, and without an object ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    for (const option of [way.packetInfo, way.ttl, way.trafficClass])
      server.setOption(option, true);
    const message = outgoing("hello", to);
    message.writer.addTtl(77, way.family);
    const incoming = new Message({ vectors: Buffer.alloc(64), controlBytes: 512 });
    const reader = new ControlReader(incoming.control);
    for (const ecn of [0, 1, 2, 3]) {
      message.writer.clear();
      message.writer.addTtl(77 + ecn, way.family);
      message.writer.addTrafficClass(ecn, way.family);
      client.trySendMessage(message);
      server.receiveMessageSync(incoming, WAIT);
      const found: unknown[] = [];
      reader.reset(incoming.control, incoming.controlLength);
      while (reader.next()) {
        if (reader.kind === "packetInfo")
          found.push(reader.interfaceIndex, `${reader.address?.host}`);
        if (reader.kind === "ttl") found.push(reader.ttl);
        if (reader.kind === "trafficClass") found.push(reader.ecn);
      }
      expect(found).toEqual([LOOPBACK, way.hit, 77 + ecn, ecn]);
    }
  });

  test.each(WAYS)("answer from the address that was hit ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    server.setOption(way.packetInfo, true);
    // It hears nobody else.
    client.connectSync(to);
    client.sendSync("why?");
    const question = receive(server);
    const [info] = question.controlMessages();
    if (info?.kind !== "packetInfo") throw new Error("Expected a packet info");
    question.vectors = Buffer.from("because");
    const { localAddress: source, interfaceIndex } = info;
    // As it would go by itself: from the first address of the interface, where that is another.
    if (way.family === "ipv4") {
      server.trySendMessage(question);
      expect(client.tryReceive(new Uint8Array(16))).toBeUndefined();
    }
    for (const options of [{ source }, { source, interfaceIndex }]) {
      question.writer.clear();
      question.writer.addPacketInfo(options);
      expect(server.trySendMessage(question)).toBe(7);
      expect(Buffer.from(client.receiveBytesSync(64, WAIT)).toString()).toBe("because");
    }
  });

  test.each(WAYS)("with a source that is not this machine's are refused ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const message = outgoing("x", to);
    message.writer.addPacketInfo({
      source: way.family === "ipv4" ? "192.0.2.1:0" : "[2001:db8::1]:0",
    });
    expect(["EINVAL", "ENETUNREACH", "EADDRNOTAVAIL"]).toContain(
      systemErrorOf(() => client.trySendMessage(message)).code,
    );
    message.writer.clear();
    message.writer.addPacketInfo({ interfaceIndex: 2 ** 31 - 1 }, way.family);
    expect(["ENODEV", "ENETUNREACH", "EINVAL"]).toContain(
      systemErrorOf(() => client.trySendMessage(message)).code,
    );
    expect(server.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("of the other IP than the packet's make no difference to it", () => {
    const [, , , mapped] = WAYS as [Way, Way, Way, Way];
    using sockets = new Sockets(mapped);
    const { server, client, to } = sockets;
    server.setOption(IpOption.receiveTtl, true);
    const message = outgoing("x", to);
    message.writer.addTtl(3, "ipv6");
    client.trySendMessage(message);
    expect(told(receive(server))).toEqual({ ttl: { ttl: 64 } });
  });

  test("tell a broadcast, and the address to answer it from", () => {
    using server = UdpSocket.bind("0.0.0.0:0");
    server.setOption(IpOption.receivePacketInfo, true);
    using client = UdpSocket.open("ipv4", { broadcast: true });
    client.sendToSync("x", `127.255.255.255:${server.localAddress.port}`);
    expect(told(receive(server))).toEqual({
      packetInfo: {
        address: "127.255.255.255:0",
        localAddress: "127.0.0.1:0",
        interfaceIndex: LOOPBACK,
      },
    });
  });

  test.each(WAYS)("tell when the kernel received it, in nanoseconds ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const send = () => client.sendToSync("x", to);
    server.setOption(SocketOption.timestampNs, true);
    const nanoseconds = stampedBy(send, server, "timestamp");
    server.setOption(SocketOption.timestampNs, false);
    server.setOption(SocketOption.timestamp, true);
    const microseconds = stampedBy(send, server, "timestamp");
    expect(microseconds.every((ns) => ns % 1000n === 0n)).toBe(true);
    server.setOption(SocketOption.timestamp, false);
    server.setOption(
      SocketOption.timestamping,
      SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE,
    );
    untilStamped(send, server);
    const software = stampedBy(send, server, "timestamping");
    // One in a thousand has three zeros by chance; not ten of them.
    expect([...nanoseconds, ...software].some((ns) => ns % 1000n !== 0n)).toBe(true);
  });

  test.each(WAYS)("carry the mark, where there is the right ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const message = outgoing("x", to);
    message.writer.addMark(0xfeedbeef);
    const mayReceive = isAllowed(() => server.setOption(SocketOption.receiveMark, true));
    const maySend = isAllowed(() => client.trySendMessage(message));
    if (!maySend) client.sendToSync("x", to);
    const expected = { mark: { mark: maySend ? 0xfeedbeef : 0 } };
    expect(told(receive(server))).toEqual(mayReceive ? expected : {});
  });

  test.each(WAYS)("carry the priority, where kernel and rights allow it ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const message = outgoing("x", to);
    message.writer.addPriority(5);
    const mayReceive = isAllowed(() => server.setOption(SocketOption.receivePriority, true));
    const maySend = isAllowed(() => client.trySendMessage(message));
    if (!maySend) client.sendToSync("x", to);
    const expected = { priority: { priority: maySend ? 5 : 0 } };
    expect(told(receive(server))).toEqual(mayReceive ? expected : {});
  });

  test.each(WAYS)("cut a payload into datagrams, and tell of a train ($name)", (way) => {
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const message = outgoing("abcdefgh", to);
    message.writer.addSegmentBytes(3);
    expect(client.trySendMessage(message)).toBe(8);
    const texts = [1, 2, 3].map(() => Buffer.from(server.receiveBytesSync(16, WAIT)).toString());
    expect(texts).toEqual(["abc", "def", "gh"]);
    server.setOption(UdpOption.gro, true);
    client.trySendMessage(message);
    const train = receive(server);
    expect(train.originalLength).toBe(8);
    expect(told(train)).toEqual({ segmentBytes: { segmentBytes: 3 } });
  });

  test("tell how many datagrams were dropped before, once there are some", () => {
    const [way] = WAYS as [Way];
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    server.setOption(SocketOption.receiveQueueOverflow, true);
    server.setOption(SocketOption.receiveBufferBytes, 4096);
    const SENT = 500;
    client.connectSync(to);
    client.sendSync("first");
    expect(told(receive(server))).toEqual({});
    for (let i = 0; i < SENT; i++) client.sendSync("more");
    let received = 0;
    while (server.tryReceive(new Uint8Array(16)) !== undefined) received++;
    expect(received).toBeLessThan(SENT);
    client.sendSync("last");
    expect(told(receive(server))).toEqual({ dropped: { dropped: SENT - received } });
  });

  test("are cut where there is no room, and say so", () => {
    const [way] = WAYS as [Way];
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    for (const option of [way.packetInfo, way.ttl, way.trafficClass])
      server.setOption(option, true);
    client.connectSync(to);
    client.sendSync("whole");
    const whole = receive(server);
    const reader = new ControlReader(whole.control, whole.controlLength);
    const places: [start: number, end: number][] = [];
    while (reader.next())
      places.push([reader.dataOffset - 16, reader.dataOffset + reader.dataLength]);
    const full = whole.controlMessages().map(plain);
    expect(full.map(({ kind }) => kind)).toEqual(["packetInfo", "ttl", "trafficClass"]);
    const needed = (places.at(-1) as [number, number])[1];
    for (let room = 0; room <= needed + 8; room++) {
      client.sendSync("whole");
      const message = receive(server, room);
      const isCut = room < needed;
      expect(message.flags & MSG_CTRUNC, `${room} bytes`).toBe(isCut ? MSG_CTRUNC : 0);
      expect(message.controlLength).toBeLessThanOrEqual(room);
      const found = message.controlMessages().map(plain);
      const complete = places.filter(([, end]) => end <= room).length;
      expect(found.slice(0, complete)).toEqual(full.slice(0, complete));
      // The rest of one that was begun is of no kind any more.
      const [start] = places[complete] ?? [Infinity];
      const begun = room - start >= 16 ? [{ kind: "unknown" }] : [];
      expect(found.slice(complete)).toMatchObject(begun);
    }
  });

  test("that nobody knows are kept, among those that are known", () => {
    using server = UdpSocket.bind("[::1]:0");
    server.setRawOption(IPPROTO_IPV6, IPV6_2292HOPLIMIT, 1);
    server.setOption(Ipv6Option.receiveTrafficClass, true);
    using client = UdpSocket.open("ipv6");
    client.sendToSync("x", server.localAddress);
    const found = receive(server).controlMessages();
    expect(found).toHaveLength(2);
    expect(found).toContainEqual({
      kind: "unknown",
      level: IPPROTO_IPV6,
      type: IPV6_2292HOPLIMIT,
      data: Uint8Array.of(64, 0, 0, 0),
    });
    expect(found).toContainEqual({ kind: "trafficClass", trafficClass: 0, ecn: 0 });
  });

  test("that the kernel does not take are refused, and nothing is sent", () => {
    const [way] = WAYS as [Way];
    using sockets = new Sockets(way);
    const { server, client, to } = sockets;
    const message = outgoing("x", to);
    const { writer } = message;
    for (const add of [
      () => writer.add(way.family === "ipv4" ? 0 : 41, 12345, Uint8Array.of(1)),
      // Of the socket itself it must have been asked before.
      () => writer.addTransmitTime(5n),
      () => writer.addTimestampId(5),
      () => writer.addTimestamping(SOF_TIMESTAMPING_RX_SOFTWARE),
    ]) {
      writer.clear();
      add();
      const error = systemErrorOf(() => client.trySendMessage(message));
      expect([error.code, error.syscall]).toEqual(["EINVAL", "sendmsg"]);
    }
    expect(server.tryReceive(new Uint8Array(1))).toBeUndefined();
    // The same, asked for.
    client.setOption(SocketOption.transmitTime, { clockId: CLOCK_MONOTONIC, flags: 0 });
    client.setOption(SocketOption.timestamping, SOF_TIMESTAMPING_OPT_ID);
    writer.clear();
    writer.addTimestamping(SOF_TIMESTAMPING_TX_SOFTWARE);
    writer.addTransmitTime(5n);
    expect(client.trySendMessage(message)).toBe(1);
    expect(server.receiveSync(new Uint8Array(1), WAIT)).toBe(1);
  });
});

/** The kernel begins to take the time a little after it was asked to: what comes until then has none. */
function untilStamped(send: () => void, server: Socket): void {
  const end = performance.now() + WAIT.timeoutMs;
  for (;;) {
    send();
    if (receive(server).controlMessages().length > 0) return;
    if (performance.now() > end) throw new Error("The kernel takes no time");
  }
}

/** Sends ten times, and checks that each was stamped between before and after. */
function stampedBy(send: () => void, server: Socket, kind: "timestamp" | "timestamping"): bigint[] {
  return Array.from({ length: 10 }, () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    send();
    const message = receive(server);
    const after = BigInt(Date.now() + 1) * 1_000_000n;
    const [stamp, ...others] = message.controlMessages();
    expect(others).toEqual([]);
    expect(stamp?.kind).toBe(kind);
    if (stamp?.kind === "timestamping") {
      expect([stamp.hardware, stamp.hardwareConverted]).toEqual([undefined, undefined]);
      return between(before, stamp.software?.ns, after);
    }
    if (stamp?.kind !== "timestamp") throw new Error(`Expected a ${kind}`);
    expect(BigInt(stamp.seconds) * 1_000_000_000n + BigInt(stamp.nanoseconds)).toBe(stamp.ns);
    return between(before, stamp.ns, after);
  });
}

function between(before: bigint, ns: bigint | undefined, after: bigint): bigint {
  expect(ns).toBeGreaterThanOrEqual(before);
  expect(ns).toBeLessThanOrEqual(after);
  return ns as bigint;
}

/** Bytes as an array of their own, addresses as text. */
function plain(message: ControlMessage): { readonly kind: string } {
  if (message.kind !== "packetInfo") return { ...message };
  const { kind, address, localAddress, interfaceIndex } = message;
  return { kind, ...{ address: `${address}`, local: `${localAddress}`, interfaceIndex } };
}

describe("control messages of streams", () => {
  test("tell how much of a TCP stream is left", () => {
    using listener = TcpListener.listen("127.0.0.1:0");
    using client = TcpSocket.connectSync(listener.localAddress, WAIT);
    using server = listener.acceptSync(WAIT);
    server.setOption(TcpOption.inQueue, true);
    client.sendSync("0123456789");
    const message = new Message({ vectors: Buffer.alloc(4), controlBytes: 64 });
    for (const bytes of [6, 2, 0]) {
      server.receiveMessageSync(message, WAIT);
      expect(told(message)).toEqual({ inQueue: { bytes } });
    }
  });

  test("tell how much of a Unix stream is left, where the kernel knows", () => {
    const [left, right] = Socket.pair({ type: "stream" });
    using _ = left;
    using __ = right;
    const knows = isAllowed(() => right.setOption(SocketOption.inQueue, true));
    left.sendSync("0123456789");
    const message = new Message({ vectors: Buffer.alloc(4), controlBytes: 64 });
    right.receiveMessageSync(message, WAIT);
    expect(told(message)).toEqual(knows ? { inQueue: { bytes: 6 } } : {});
  });
});

const OWN = {
  processId: process.pid,
  userId: process.getuid?.() ?? -1,
  groupId: process.getgid?.() ?? -1,
};
/** What the kernel says of a sender that it has not noted: overflowuid of proc(5). */
const NOBODY = { processId: 0, userId: 65534, groupId: 65534 };

describe.each(types)("control messages of Unix sockets (%s)", (type) => {
  const cases: [name: string, left: boolean, before: boolean, after: boolean, expected: object][] =
    [
      ["when the receiver asked before it was sent", false, true, true, { credentials: OWN }],
      ["not when nobody asked", false, false, false, {}],
      ["not when only the sender would want some itself", true, false, false, {}],
      ["not when the receiver has asked no more", false, true, false, {}],
      [
        "of nobody when the receiver asked after it was sent",
        false,
        false,
        true,
        { credentials: NOBODY },
      ],
      ["when the sender had them noted for itself", true, false, true, { credentials: OWN }],
    ];
  test.each(cases)("tell who sent it: %s", (_, sender, before, after, expected) => {
    const [left, right] = Socket.pair({ type });
    using _left = left;
    using _right = right;
    if (sender) left.setOption(SocketOption.passCredentials, true);
    right.setOption(SocketOption.passCredentials, before);
    left.sendSync("who?");
    right.setOption(SocketOption.passCredentials, after);
    expect(told(receive(right))).toEqual(expected as Record<string, unknown>);
  });

  test("carry credentials that are said, and only true ones without a right", () => {
    const [left, right] = Socket.pair({ type });
    using _left = left;
    using _right = right;
    right.setOption(SocketOption.passCredentials, true);
    const message = outgoing("x");
    message.writer.addCredentials();
    expect(left.trySendMessage(message)).toBe(1);
    expect(told(receive(right))).toEqual({ credentials: OWN });
    for (const said of [{ processId: 1 }, { userId: 1234 }, { groupId: 1234 }]) {
      message.writer.clear();
      message.writer.addCredentials(said);
      if (isAllowed(() => left.trySendMessage(message)))
        expect(told(receive(right))).toEqual({ credentials: { ...OWN, ...said } });
    }
    message.writer.clear();
    message.writer.addCredentials({ processId: 2 ** 30 });
    expect(["ESRCH", "EPERM"]).toContain(systemErrorOf(() => left.trySendMessage(message)).code);
    expect(right.tryReceive(new Uint8Array(1))).toBeUndefined();
  });

  test("bring descriptors and the process beside them", () => {
    const before = openDescriptors();
    {
      const [left, right] = Socket.pair({ type });
      using _left = left;
      using _right = right;
      right.setOption(SocketOption.passCredentials, true);
      const knows = isAllowed(() => right.setOption(SocketOption.passProcessDescriptor, true));
      const message = outgoing("x");
      message.writer.addDescriptors([left, right.descriptor]);
      left.trySendMessage(message);
      const came = receive(right);
      const { credentials, descriptors, processDescriptor, ...others } = told(came);
      expect(others).toEqual({});
      expect(credentials).toEqual(OWN);
      // They are those that the message owns.
      expect(descriptors).toEqual({
        descriptors: came.descriptors.map(({ descriptor }) => descriptor),
      });
      expect(came.descriptors).toHaveLength(2);
      if (knows)
        expect(processDescriptor).toEqual({ descriptor: came.processDescriptor?.descriptor });
      left.sendSync("next");
      right.setOption(SocketOption.passCredentials, false);
      if (knows) right.setOption(SocketOption.passProcessDescriptor, false);
      // A receive into it closes what nobody has taken.
      right.receiveMessageSync(came, WAIT);
      expect(told(came)).toEqual({});
    }
    expect(openDescriptors()).toBe(before);
  });

  test("tell when it was received only where the caller asked for it", () => {
    const [left, right] = Socket.pair({ type });
    using _left = left;
    using _right = right;
    left.sendSync("x");
    // Seqpacket sockets are stamped by themselves, so that records can be told apart.
    expect(told(receive(right))).toEqual({});
    right.setOption(SocketOption.timestampNs, true);
    // The kernel stamps no byte of a Unix stream.
    if (type !== "stream") return void stampedBy(() => left.sendSync("x"), right, "timestamp");
    left.sendSync("x");
    expect(told(receive(right))).toEqual({});
  });
});

describe("controlMessages() and writer of a Message", () => {
  test("of a message without control memory are empty, and full", () => {
    const message = new Message({ vectors: Buffer.alloc(1) });
    expect(message.controlMessages()).toEqual([]);
    expect(message.writer.length).toBe(0);
    expect(() => message.writer.addTtl(1, "ipv4")).toThrow(
      new RangeError("Cannot add a control message of 20 bytes: expected at most 0"),
    );
  });

  test("are one with control and controlLength", () => {
    const message = new Message({ controlBytes: 128 });
    const { writer } = message;
    expect(message.writer).toBe(writer);
    writer.addTtl(7, "ipv4");
    expect([message.controlLength, writer.length]).toEqual([24, 24]);
    expect(writer.bytes.buffer).toBe(message.control.buffer);
    expect(message.controlMessages()).toEqual([{ kind: "ttl", ttl: 7 }]);
    // What a caller has written by hand is not written over.
    const copy = message.control.slice(0, 24);
    message.control.set(copy, 24);
    message.controlLength = 48;
    expect(writer.length).toBe(48);
    writer.addMark(8);
    expect([message.controlLength, writer.length]).toEqual([72, 72]);
    expect(message.controlMessages().map(({ kind }) => kind)).toEqual(["ttl", "ttl", "mark"]);
    writer.clear();
    expect([message.controlLength, message.controlMessages().length]).toEqual([0, 0]);
    message.controlLength = 20;
    message.control.fill(0xa5, 20);
    // It goes on at the next place where one may begin, and leaves nothing between.
    writer.addMark(9);
    expect(message.controlMessages()).toEqual([
      { kind: "ttl", ttl: 7 },
      { kind: "mark", mark: 9 },
    ]);
    expect(message.control.toHex().slice(40, 48)).toBe("00000000");
  });

  test("take over what was set before the writer was first asked for", () => {
    const message = new Message({ controlBytes: 128 });
    const other = new Message({ controlBytes: 128 });
    other.writer.addTtl(7, "ipv4");
    message.control.set(other.writer.bytes);
    message.controlLength = other.controlLength;
    message.writer.addMark(1);
    expect(message.controlMessages().map(({ kind }) => kind)).toEqual(["ttl", "mark"]);
  });

  test("begin anew with each receive: what was received or written before is not sent", () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    server.setOption(IpOption.receiveTtl, true);
    server.setOption(IpOption.receiveTos, true);
    using client = UdpSocket.bind("127.0.0.1:0");
    client.setOption(IpOption.receiveTtl, true);
    client.setOption(IpOption.ttl, 33);
    const message = new Message({ vectors: Buffer.alloc(1), controlBytes: 64 });
    const answer = () => {
      client.sendToSync("?", server.localAddress);
      server.receiveMessageSync(message, WAIT);
      expect(told(message)).toMatchObject({ ttl: { ttl: 33 } });
    };
    const heard = () => {
      server.trySendMessage(message);
      return told(receive(client));
    };
    answer();
    expect(heard()).toEqual({ ttl: { ttl: 64 } });
    answer();
    expect(message.writer.length).toBe(0);
    message.writer.addTtl(5, "ipv4");
    expect(message.controlMessages()).toEqual([{ kind: "ttl", ttl: 5 }]);
    expect(heard()).toEqual({ ttl: { ttl: 5 } });
    expect(heard()).toEqual({ ttl: { ttl: 5 } });
    answer();
    expect(message.writer.length).toBe(0);
    expect(heard()).toEqual({ ttl: { ttl: 64 } });
    // Nothing received, nothing forgotten.
    message.writer.addTtl(6, "ipv4");
    expect(server.tryReceiveMessage(message)).toBeUndefined();
    expect(heard()).toEqual({ ttl: { ttl: 6 } });
  });

  test("are refused when the control memory was transferred", () => {
    const [early, late] = [1, 2].map(() => new Message({ controlBytes: 64 })) as [Message, Message];
    early.writer.addTtl(7, "ipv4");
    for (const message of [early, late]) {
      message.control.buffer.transfer();
      const refusal = /^Cannot use detached memory as control messages/;
      expect(() => message.controlMessages()).toThrow(refusal);
      expect(() => message.writer.addTtl(7, "ipv4")).toThrow(refusal);
    }
  });
});

describe("python3", () => {
  const withPython = testIf(requires("python3"));

  const SENDER = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
info = struct.pack("@I4s4s", 0, socket.inet_aton("127.0.0.3"), b"\\0" * 4)
s.sendmsg([b"from python"], [
  (socket.IPPROTO_IP, socket.IP_TTL, struct.pack("@i", 21)),
  (socket.IPPROTO_IP, socket.IP_TOS, struct.pack("@i", 0x2a)),
  (socket.IPPROTO_IP, 8, info),
], 0, ("127.0.0.1", int(sys.argv[1])))
`;

  withPython("sends, and is understood", () => {
    using server = UdpSocket.bind("127.0.0.1:0");
    for (const option of [IpOption.receiveTtl, IpOption.receiveTos, IpOption.receivePacketInfo])
      server.setOption(option, true);
    const child = Bun.spawnSync(["python3", "-c", SENDER, `${server.localAddress.port}`]);
    expect(child.stderr.toString()).toBe("");
    const message = receive(server);
    expect((message.address as { host: string }).host).toBe("127.0.0.3");
    expect(told(message)).toEqual({
      packetInfo: {
        ...{ address: "127.0.0.1:0", localAddress: "127.0.0.1:0" },
        interfaceIndex: LOOPBACK,
      },
      ttl: { ttl: 21 },
      trafficClass: { trafficClass: 0x2a, ecn: 2 },
    });
  });

  const RECEIVER = `
import json, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
s.setsockopt(socket.IPPROTO_IP, 12, 1)
s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
s.settimeout(10)
print(s.getsockname()[1], flush=True)
data, control, flags, address = s.recvmsg(100, 1000)
found = sorted([level, kind, value.hex()] for level, kind, value in control)
print(json.dumps([data.decode(), found, flags, address[0]]))
`;

  withPython("receives, and understands", async () => {
    const child = Bun.spawn(["python3", "-c", RECEIVER], { stdout: "pipe" });
    using _ = ending(child);
    const port = Number(await firstLine(child.stdout));
    using client = UdpSocket.open("ipv4");
    const message = outgoing("from bun", `127.0.0.1:${port}`);
    message.writer.addTtl(22, "ipv4");
    message.writer.addTrafficClass(0x2b, "ipv4");
    message.writer.addPacketInfo({ source: "127.0.0.4:0" });
    expect(client.trySendMessage(message)).toBe(8);
    const answer = JSON.parse(await firstLine(child.stdout));
    // IPPROTO_IP, IP_TOS in one byte, and IP_TTL.
    const found = [
      [0, 1, "2b"],
      [0, 2, "16000000"],
    ];
    expect(answer).toEqual(["from bun", found, 0, "127.0.0.4"]);
  });

  const UNIX = `
import array, json, os, socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind("")
s.settimeout(10)
print(s.getsockname()[1:].decode(), flush=True)
data, control, flags, address = s.recvmsg(100, 1000)
found = {}
for level, kind, value in control:
  if kind == socket.SCM_RIGHTS:
    fds = array.array("i", value)
    found["descriptors"] = [os.fstat(fd).st_ino for fd in fds]
    for fd in fds: os.close(fd)
  if kind == 2: found["credentials"] = struct.unpack("@iII", value)
print(json.dumps(found), flush=True)
r, w = os.pipe()
s.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [r, w])),
  (socket.SOL_SOCKET, 2, struct.pack("@iII", os.getpid(), os.getuid(), os.getgid()))], 0, address)
`;

  withPython("hands descriptors and credentials over, both ways", async () => {
    const child = Bun.spawn(["python3", "-c", UNIX], { stdout: "pipe" });
    using _ = ending(child);
    const name = await firstLine(child.stdout);
    using socket = UnixDatagramSocket.bind("unix:");
    socket.setOption(SocketOption.passCredentials, true);
    const message = outgoing("x", `unix:@${name}`);
    message.writer.addDescriptors([socket]);
    message.writer.addCredentials();
    socket.sendMessageSync(message, WAIT);
    const { ino } = fstatSync(socket.descriptor);
    expect(JSON.parse(await firstLine(child.stdout))).toEqual({
      descriptors: [ino],
      credentials: [OWN.processId, OWN.userId, OWN.groupId],
    });
    const came = receive(socket);
    expect(came.descriptors.map(({ kind }) => kind)).toEqual(["pipe", "pipe"]);
    expect(told(came)).toMatchObject({ credentials: { ...OWN, processId: child.pid } });
    for (const descriptor of came.descriptors) descriptor.close();
  });
});

describe("reading and writing in place", () => {
  const loops = {
    accessors: `
      reader.reset(bytes, bytes.length);
      while (reader.next()) {
        sum += reader.ttl + reader.ecn + reader.interfaceIndex + reader.seconds + reader.mark;
        sum += reader.descriptorCount + reader.segmentBytes + (reader.kind === "ttl" ? 1 : 0);
      }`,
    writer: `
      writer.clear();
      writer.addTtl(1 + (i & 63), "ipv4");
      writer.addTrafficClass(i & 255, "ipv4");
      writer.addSegmentBytes(1 + (i & 1023));
      writer.addMark(i);
      sum += writer.length;`,
    objects: `
      reader.reset(bytes, bytes.length);
      while (reader.next()) kept[i & 63] = reader.message();
      sum++;`,
  };

  /** Resident bytes that grow with each round when nothing is collected. */
  function grownBy(loop: keyof typeof loops, count: number): number {
    const source = `
      import { ControlReader, ControlWriter } from "bun-sockets";
      const first = new ControlWriter(new Uint8Array(256));
      first.addTtl(7, "ipv4");
      first.addTrafficClass(3, "ipv6");
      first.addPacketInfo({ source: "127.0.0.1:0", interfaceIndex: 1 });
      first.add(1, 35, new Uint8Array(16));
      const bytes = first.bytes;
      const reader = new ControlReader(bytes);
      const writer = new ControlWriter(new Uint8Array(256));
      const kept = new Array(64);
      let sum = 0;
      function run(count) {
        for (let i = 0; i < count; i++) {${loops[loop]}
        }
      }
      run(${count});
      const before = process.memoryUsage.rss();
      run(${count});
      const bytesGrown = (process.memoryUsage.rss() - before) / ${count};
      if (sum === 0) throw new Error("nothing was read");
      console.log(bytesGrown);`;
    const child = Bun.spawnSync([process.execPath, "-e", source], {
      cwd: join(import.meta.dir, "../.."),
      env: { ...process.env, BUN_JSC_useGC: "0" },
    });
    expect(child.stderr.toString()).toBe("");
    return Number(child.stdout.toString());
  }

  test.each(["accessors", "writer"] as const)("allocates nothing (%s)", (loop) => {
    // Of four messages each. What the engine compiles meanwhile takes some, too.
    expect(grownBy(loop, 500_000)).toBeLessThan(8);
  });

  test("is what this measure sees: objects take memory", () => {
    expect(grownBy("objects", 20_000)).toBeGreaterThan(256);
  });
});
