/** What the kernel knows of each datagram of a batch, read and written by slot. */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import {
  ControlWriter,
  DatagramBatch,
  type DatagramBatchOptions,
  type InetAddress,
  IpOption,
  Ipv6Option,
  Message,
  SocketOption,
  UdpOption,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";
import { cmsghdr, mmsghdr, msghdr } from "bun-sockets/structs";
import {
  EPERM,
  IP_PKTINFO,
  IP_TTL,
  IPPROTO_IP,
  if_nametoindex,
  MSG_CTRUNC,
  readMemory,
  SCM_RIGHTS,
  SCM_TXTIME,
  SO_MARK,
  SO_RCVMARK,
  SO_TIMESTAMPNS,
  SOF_TIMESTAMPING_RX_SOFTWARE,
  SOF_TIMESTAMPING_SOFTWARE,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { caught } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";
import { requires, testIf } from "../support/require.ts";
import { ending, firstLine } from "../support/strangers.ts";

const WAIT = { timeoutMs: 5000 };
const LOOPBACK_INDEX = if_nametoindex(Buffer.from("lo\0"));

interface Kind {
  readonly name: string;
  /** What the server binds: all addresses. */
  readonly all: string;
  /** Where it is reached, and how it shows that. */
  readonly hosts: readonly (readonly [to: string, shown: string])[];
  readonly client: string;
}

const kinds: readonly Kind[] = [
  {
    name: "IPv4",
    all: "0.0.0.0:0",
    hosts: [
      ["127.0.0.1", "127.0.0.1"],
      ["127.0.0.2", "127.0.0.2"],
      ["127.9.8.7", "127.9.8.7"],
    ],
    client: "127.0.0.5:0",
  },
  { name: "IPv6", all: "[::]:0", hosts: [["[::1]", "::1"]], client: "[::1]:0" },
  {
    name: "IPv4 to an IPv6 socket",
    all: "[::]:0",
    hosts: [
      ["127.0.0.1", "::ffff:127.0.0.1"],
      ["127.0.0.2", "::ffff:127.0.0.2"],
    ],
    client: "127.0.0.5:0",
  },
  {
    name: "IPv4 between IPv6 sockets",
    all: "[::]:0",
    hosts: [
      ["[::ffff:127.0.0.1]", "::ffff:127.0.0.1"],
      ["[::ffff:127.0.0.2]", "::ffff:127.0.0.2"],
    ],
    client: "[::ffff:127.0.0.5]:0",
  },
];

/** Switches on what the kernel can tell of a datagram. */
function askAll(udp: UdpSocket): void {
  udp.setOption(SocketOption.timestampNs, true);
  udp.setOption(IpOption.receiveTtl, true);
  udp.setOption(IpOption.receiveTos, true);
  if (udp.family === "ipv4") udp.setOption(IpOption.receivePacketInfo, true);
  else {
    udp.setOption(Ipv6Option.receivePacketInfo, true);
    udp.setOption(Ipv6Option.receiveHopLimit, true);
    udp.setOption(Ipv6Option.receiveTrafficClass, true);
  }
}

function makeBatch(texts: readonly string[], options: DatagramBatchOptions = {}): DatagramBatch {
  const batch = new DatagramBatch({ capacity: Math.max(texts.length, 1), ...options });
  batch.count = texts.length;
  for (const [i, text] of texts.entries()) batch.write(i, text);
  return batch;
}

function slotsOf(batch: DatagramBatch): number[] {
  return Array.from({ length: batch.count }, (_, i) => i);
}

function textOf(batch: DatagramBatch, i: number): string {
  return Buffer.from(batch.view(i)).toString();
}

/** All that is told of a slot, but the time and the addresses. */
function toldOf(batch: DatagramBatch, i: number): unknown[] {
  return [batch.ttl(i), batch.trafficClass(i), batch.ecn(i), batch.interfaceIndex(i)];
}

const NOTHING = [-1, -1, -1, -1];

function isSilent(batch: DatagramBatch, i: number): boolean {
  return (
    Bun.deepEquals(toldOf(batch, i), NOTHING) &&
    batch.destination(i) === undefined &&
    batch.timestampNs(i) === undefined &&
    batch.timestampSeconds(i) === -1 &&
    batch.timestampNanoseconds(i) === -1 &&
    batch.dropped(i) === -1 &&
    batch.mark(i) === -1 &&
    batch.control(i).length === 0
  );
}

/** The control bytes that a send hands to the kernel, slot by slot. Nothing is sent. */
function capture(run: () => void): Buffer[] {
  const captured: Buffer[] = [];
  using _ = replaceLibc("sendmmsg", () => (_fd, messages, count) => {
    const address = messages as number;
    for (let i = 0; i < count; i++) {
      const header = readMemory(address + i * mmsghdr.size, msghdr.size);
      const view = new DataView(header.buffer);
      const length = msghdr.msg_controllen.get(view, 0);
      const from = msghdr.msg_control.get(view, 0);
      captured.push(Buffer.from(length === 0 ? new Uint8Array(0) : readMemory(from, length)));
    }
    return count;
  });
  run();
  return captured;
}

/** One control message, as C lays it out. */
function cmsg(level: number, type: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(Math.ceil((cmsghdr.size + data.length) / 8) * 8);
  const view = new DataView(bytes.buffer);
  cmsghdr.cmsg_len.set(view, 0, cmsghdr.size + data.length);
  cmsghdr.cmsg_level.set(view, 0, level);
  cmsghdr.cmsg_type.set(view, 0, type);
  bytes.set(data, cmsghdr.size);
  return bytes;
}

function int(value: number): Uint8Array {
  return new Uint8Array(new Int32Array([value]).buffer);
}

describe.each(kinds)("over $name", ({ all, hosts, client: clientName }) => {
  test.each([false, true])("what a slot was sent with is told (connected: %p)", (connected) => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind(clientName);
    using batch = new DatagramBatch({ capacity: 8 });
    for (const [host, shown] of hosts) {
      const to = `${host}:${server.localAddress.port}`;
      if (connected) client.connectSync(to);
      using outgoing = makeBatch(["first", "second", "third", "fourth"]);
      if (!connected) for (const i of slotsOf(outgoing)) outgoing.setAddress(i, to);
      outgoing.setTtl(0, 1);
      outgoing.setTtl(1, 255);
      outgoing.setTrafficClass(1, 0xb8);
      outgoing.setTrafficClass(2, 0x28);
      outgoing.setEcn(2, 3);
      outgoing.setEcn(3, 2);
      const before = BigInt(Date.now()) * 1_000_000n;
      expect(client.trySendBatch(outgoing)).toBe(4);
      expect(server.receiveBatchSync(batch, WAIT)).toBe(4);
      const after = BigInt(Date.now() + 1) * 1_000_000n;
      expect(slotsOf(batch).map((i) => textOf(batch, i))).toEqual([
        "first",
        "second",
        "third",
        "fourth",
      ]);
      expect(slotsOf(batch).map((i) => toldOf(batch, i))).toEqual([
        [1, 0, 0, LOOPBACK_INDEX],
        [255, 0xb8, 0, LOOPBACK_INDEX],
        [64, 0x2b, 3, LOOPBACK_INDEX],
        [64, 2, 2, LOOPBACK_INDEX],
      ]);
      for (const i of slotsOf(batch)) {
        expect(`${batch.address(i)}`).toContain(`${client.localAddress.port}`);
        const destination = batch.destination(i) as InetAddress;
        expect([destination.host, destination.port]).toEqual([shown, 0]);
        expect(destination.family).toBe(server.family as "ipv4");
        // One object for each address.
        expect(batch.destination(i)).toBe(batch.destination(0) as InetAddress);
        const ns = batch.timestampNs(i) as bigint;
        expect(ns >= before && ns <= after).toBe(true);
        const seconds = BigInt(batch.timestampSeconds(i));
        expect(seconds * 1_000_000_000n + BigInt(batch.timestampNanoseconds(i))).toBe(ns);
        expect([batch.dropped(i), batch.mark(i)]).toEqual([-1, -1]);
        expect([batch.controlTruncated(i), batch.control(i).length > 0]).toEqual([false, true]);
        expect(batch.segmentBytes(i)).toBe(batch.length(i));
      }
    }
  });

  test("nothing is told that nobody asked for", () => {
    using server = UdpSocket.bind(all);
    using client = UdpSocket.bind(clientName);
    using batch = new DatagramBatch({ capacity: 2 });
    client.sendToSync("x", `${hosts[0]?.[0]}:${server.localAddress.port}`);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(isSilent(batch, 0)).toBe(true);
    expect(batch.controlTruncated(0)).toBe(false);
  });

  test("reply() answers from the address that was hit", () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind(clientName);
    using batch = new DatagramBatch({ capacity: 4 });
    for (const [host] of hosts)
      client.sendToSync(`to ${host}`, `${host}:${server.localAddress.port}`);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(hosts.length);
    batch.reply();
    expect(server.trySendBatch(batch)).toBe(hosts.length);
    using answers = new DatagramBatch({ capacity: 4 });
    expect(client.receiveBatchSync(answers, WAIT)).toBe(hosts.length);
    for (const [i, [host]] of hosts.entries()) {
      expect(textOf(answers, i)).toBe(`to ${host}`);
      expect(`${answers.address(i)}`).toBe(`${host}:${server.localAddress.port}`);
    }
  });

  test("reply(i) answers one slot so, and leaves the others to the route", () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind(clientName);
    using batch = new DatagramBatch({ capacity: 4 });
    const [to] = hosts.at(-1) as readonly [string, string];
    for (const text of ["first", "second"])
      client.sendToSync(text, `${to}:${server.localAddress.port}`);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(2);
    batch.reply(1);
    expect(server.trySendBatch(batch)).toBe(2);
    using answers = new DatagramBatch({ capacity: 4 });
    expect(client.receiveBatchSync(answers, WAIT)).toBe(2);
    const from = slotsOf(answers).map((i) => (answers.address(i) as InetAddress).host);
    const [[route]] = hosts as [readonly [string, string]];
    expect(from).toEqual([route, to].map((text) => text.replace(/[[\]]/g, "")));
  });

  test("a connected socket replies from where it was hit, too", () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind(clientName);
    const [to] = hosts.at(-1) as readonly [string, string];
    client.sendToSync("question", `${to}:${server.localAddress.port}`);
    using batch = new DatagramBatch({ capacity: 4 });
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    server.connectSync(batch.address(0) as InetAddress);
    batch.reply();
    batch.setTtl(0, 9);
    expect(server.trySendBatch(batch)).toBe(1);
    askAll(client);
    expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(`${batch.address(0)}`).toBe(`${to}:${server.localAddress.port}`);
    // And it is told as much as an unconnected one. Since the connect its address is that of the route.
    const [[near, shown]] = hosts as [readonly [string, string]];
    batch.setAddress(0, `${near}:${server.localAddress.port}`);
    batch.setTtl(0, 33);
    batch.setEcn(0, 1);
    expect(client.trySendBatch(batch)).toBe(1);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(toldOf(batch, 0)).toEqual([33, 1, 1, LOOPBACK_INDEX]);
    expect(batch.destination(0)?.host).toBe(shown);
    expect(`${batch.address(0)}`).toBe(`${server.remoteAddress}`);
    batch.reply();
    expect([server.trySendBatch(batch), client.receiveBatchSync(batch, WAIT)]).toEqual([1, 1]);
    expect(`${batch.address(0)}`).toBe(`${near}:${server.localAddress.port}`);
  });

  test("setSource() and setInterfaceIndex() choose where a slot goes out", () => {
    using server = UdpSocket.bind(all);
    using client = UdpSocket.bind(all.startsWith("[") ? "[::]:0" : "0.0.0.0:0");
    for (const [host, shown] of hosts) {
      using batch = makeBatch(["by text", "by address", "left alone again"]);
      for (const i of slotsOf(batch))
        batch.setAddress(i, `${hosts[0]?.[0]}:${server.localAddress.port}`);
      batch.setSource(0, `${host}:7`);
      batch.setInterfaceIndex(0, LOOPBACK_INDEX);
      batch.setSource(2, `${host}:0`);
      batch.setSource(2, undefined);
      batch.setInterfaceIndex(2, LOOPBACK_INDEX);
      batch.setInterfaceIndex(2, 0);
      // Mapped or not is the same address.
      const other = host.startsWith("[::f") ? host.slice(8, -1) : host;
      batch.setSource(1, `${other}:0`);
      expect([client.trySendBatch(batch), batch.failed]).toEqual([3, 0]);
      using came = new DatagramBatch({ capacity: 4 });
      expect(server.receiveBatchSync(came, WAIT)).toBe(3);
      const from = slotsOf(came).map((i) => (came.address(i) as InetAddress).host);
      expect(from).toEqual([shown, shown, hosts[0]?.[1] as string]);
    }
  });

  test("a source that cannot be fails its slot, and no other", () => {
    using server = UdpSocket.bind(all);
    using client = UdpSocket.bind(all);
    using batch = makeBatch(["good", "not ours", "of the other family", "good too"]);
    const isIpv6 = hosts[0]?.[0] === "[::1]";
    for (const i of slotsOf(batch))
      batch.setAddress(i, `${hosts[0]?.[0]}:${server.localAddress.port}`);
    batch.setSource(1, isIpv6 ? "[2001:db8::1]:0" : "192.0.2.1:0");
    batch.setSource(2, isIpv6 ? "127.0.0.1:0" : "[::1]:0");
    expect(client.trySendBatch(batch)).toBe(2);
    const [first, foreign, other, last] = slotsOf(batch).map((i) => batch.failure(i));
    expect([first, other, last]).toEqual([undefined, "EINVAL", undefined]);
    // IPv4 finds no route from there.
    expect(foreign).toBeOneOf(isIpv6 ? ["EINVAL"] : ["EINVAL", "ENETUNREACH"]);
    using came = new DatagramBatch({ capacity: 4 });
    expect(server.receiveBatchSync(came, WAIT)).toBe(2);
    expect(slotsOf(came).map((i) => textOf(came, i))).toEqual(["good", "good too"]);
  });

  test("what was told is never sent on", () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind(clientName);
    askAll(client);
    using outgoing = makeBatch(["x"]);
    outgoing.setAddress(0, `${hosts.at(-1)?.[0]}:${server.localAddress.port}`);
    outgoing.setTtl(0, 7);
    outgoing.setTrafficClass(0, 0x2a);
    client.trySendBatch(outgoing);
    using batch = new DatagramBatch({ capacity: 4 });
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(batch.ttl(0)).toBe(7);
    expect(capture(() => server.trySendBatch(batch))).toEqual([Buffer.alloc(0)]);
    expect(server.trySendBatch(batch)).toBe(1);
    expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(toldOf(batch, 0).slice(0, 3)).toEqual([64, 0, 0]);
  });
});

test("an IPv6 socket that others share replies to an IPv4 peer, too", () => {
  using server = UdpSocket.bind("[::]:0");
  askAll(server);
  using client = UdpSocket.bind("127.0.0.5:0");
  client.sendToSync("question", `127.0.0.2:${server.localAddress.port}`);
  using batch = new DatagramBatch({ capacity: 4 });
  expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
  server.connectSync(batch.address(0) as InetAddress);
  // What a stranger may do with the open socket, nobody here knows.
  using shared = UdpSocket.adopt(server.descriptor);
  batch.reply();
  batch.setTtl(0, 9);
  expect([shared.trySendBatch(batch), batch.failed]).toEqual([1, 0]);
  client.setOption(IpOption.receiveTtl, true);
  expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
  expect(`${batch.address(0)}`).toBe(`127.0.0.2:${server.localAddress.port}`);
});

/** A server that is told everything, and a client of it. */
function makePair(): { server: UdpSocket; client: UdpSocket } & Disposable {
  const server = UdpSocket.bind("0.0.0.0:0");
  askAll(server);
  const client = UdpSocket.bind("127.0.0.5:0");
  askAll(client);
  return {
    server,
    client,
    [Symbol.dispose]() {
      server.close();
      client.close();
    },
  };
}

/** Lets datagrams with the TTLs 1, 2, … come, each to an address of its own: 127.0.0.(100 + TTL). */
function sendNumbered({ server, client }: ReturnType<typeof makePair>, count: number): void {
  using outgoing = makeBatch(Array.from({ length: count }, (_, i) => `${i + 1}`));
  for (const i of slotsOf(outgoing)) {
    outgoing.setAddress(i, `127.0.0.${101 + i}:${server.localAddress.port}`);
    outgoing.setTtl(i, i + 1);
  }
  expect(client.trySendBatch(outgoing)).toBe(count);
}

/** What a slot tells of where it came from: all of it has the same number. */
function numberOf(batch: DatagramBatch, i: number): unknown[] {
  const last = (batch.destination(i) as InetAddress).host.split(".").at(-1);
  return [textOf(batch, i), batch.ttl(i), Number(last) - 100];
}

describe("what a slot was told", () => {
  test("goes along when slots are exchanged, asked before or not", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 6 });
    sendNumbered(pair, 4);
    pair.server.receiveBatchSync(batch, WAIT);
    expect(numberOf(batch, 0)).toEqual(["1", 1, 1]);
    batch.swap(0, 3);
    batch.swap(1, 2);
    batch.swap(1, 1);
    const told = slotsOf(batch).map((i) => numberOf(batch, i));
    expect(told).toEqual([4, 3, 2, 1].map((n) => [`${n}`, n, n]));
  });

  test("goes along to a slot that nothing was received into, which then tells nothing", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 6 });
    // Fills all slots once, so that there is something stale.
    sendNumbered(pair, 6);
    pair.server.receiveBatchSync(batch, WAIT);
    sendNumbered(pair, 2);
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
    batch.count = 6;
    expect([2, 3, 4, 5].map((i) => isSilent(batch, i))).toEqual([true, true, true, true]);
    batch.swap(1, 4);
    expect(numberOf(batch, 4)).toEqual(["2", 2, 2]);
    expect([1, 2, 3, 5].map((i) => isSilent(batch, i))).toEqual([true, true, true, true]);
    batch.swap(4, 2);
    expect(numberOf(batch, 2)).toEqual(["2", 2, 2]);
    expect(isSilent(batch, 4)).toBe(true);
    // And all of it again, with headers that have changed places.
    sendNumbered(pair, 6);
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(6);
    const told = slotsOf(batch).map((i) => numberOf(batch, i));
    expect(told).toEqual([1, 2, 3, 4, 5, 6].map((n) => [`${n}`, n, n]));
  });

  test("is kept with the slots that are kept", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 6 });
    sendNumbered(pair, 6);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.keep([1, 3, 5]);
    expect(slotsOf(batch).map((i) => numberOf(batch, i))).toEqual(
      [2, 4, 6].map((n) => [`${n}`, n, n]),
    );
    batch.reply();
    expect(pair.server.trySendBatch(batch)).toBe(3);
    expect(pair.client.receiveBatchSync(batch, WAIT)).toBe(3);
    const from = slotsOf(batch).map((i) => (batch.address(i) as InetAddress).host);
    expect(from).toEqual(["127.0.0.102", "127.0.0.104", "127.0.0.106"]);
  });

  test("is forgotten by the next receive, also by one that finds nothing", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4 });
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    expect(batch.ttl(1)).toBe(2);
    pair.server.setOption(IpOption.receiveTtl, false);
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    expect([batch.ttl(0), batch.ttl(1)]).toEqual([-1, -1]);
    expect(batch.destination(1)?.host).toBe("127.0.0.102");
    expect(pair.server.tryReceiveBatch(batch)).toBe(0);
    expect([isSilent(batch, 0), isSilent(batch, 1)]).toEqual([true, true]);
  });

  test("setLength() and write() leave it as it was", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4 });
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.setLength(0, 0);
    batch.write(0, "1");
    expect(numberOf(batch, 0)).toEqual(["1", 1, 1]);
  });

  test("copySender() copies where the other slot was sent to, for an answer of many parts", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 6 });
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.count = 5;
    for (const i of [2, 3, 4]) {
      batch.copySender(i, 1);
      batch.write(i, `part ${i}`);
    }
    batch.copySender(1, 1);
    expect(batch.destination(4)?.host).toBe("127.0.0.102");
    // The rest is of the datagram, and none came there.
    expect([batch.ttl(4), batch.timestampNs(4), batch.control(4).length]).toEqual([
      -1,
      undefined,
      0,
    ]);
    batch.reply();
    expect(pair.server.trySendBatch(batch)).toBe(5);
    expect(pair.client.receiveBatchSync(batch, WAIT)).toBe(5);
    const from = slotsOf(batch).map((i) => (batch.address(i) as InetAddress).host.at(-1));
    expect(from.join("")).toBe("12222");
  });

  test("copySender() copies what was written of the way, and nothing else", () => {
    using pair = makePair();
    using batch = makeBatch(["a", "b", "c"]);
    batch.setAddress(0, `127.0.0.1:${pair.server.localAddress.port}`);
    batch.setSource(0, "127.0.0.77:0");
    batch.setTtl(0, 9);
    batch.setSource(1, "127.0.0.78:0");
    batch.copySender(1, 0);
    batch.copySender(2, 1);
    using client = UdpSocket.open("ipv4");
    expect([client.trySendBatch(batch), batch.failed]).toEqual([3, 0]);
    pair.server.receiveBatchSync(batch, WAIT);
    const from = slotsOf(batch).map((i) => (batch.address(i) as InetAddress).host);
    expect(from).toEqual(["127.0.0.77", "127.0.0.77", "127.0.0.77"]);
    expect(slotsOf(batch).map((i) => batch.ttl(i))).toEqual([9, 64, 64]);
    // A slot without a source takes that of the other away.
    using bare = makeBatch(["a", "b"]);
    bare.setSource(0, "127.0.0.77:0");
    bare.copySender(0, 1);
    expect(capture(() => client.trySendBatch(bare)).map((bytes) => bytes.length)).toEqual([0, 0]);
  });

  test("is what SO_TIMESTAMP and SO_TIMESTAMPING tell of the time, too", () => {
    const software = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    for (const set of [
      (udp: UdpSocket) => udp.setOption(SocketOption.timestamp, true),
      (udp: UdpSocket) => udp.setOption(SocketOption.timestamping, software),
    ]) {
      using server = UdpSocket.bind("127.0.0.1:0");
      set(server);
      using client = UdpSocket.open("ipv4");
      using batch = new DatagramBatch({ capacity: 2 });
      const before = BigInt(Date.now()) * 1_000_000n;
      client.sendToSync("x", server.localAddress);
      server.receiveBatchSync(batch, WAIT);
      const ns = batch.timestampNs(0) as bigint;
      expect(ns >= before && ns <= BigInt(Date.now() + 1) * 1_000_000n).toBe(true);
      expect(batch.timestampNanoseconds(0)).toBeWithin(0, 1e9);
    }
  });

  test("is read from the bytes as they are: a byte is a byte, and seconds have 64 bits", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 2 });
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    // What the kernel does not write stays, and it writes one byte for the type of service.
    batch.control(0).fill(0xff);
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    const bytes = batch.control(0);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    expect(cmsghdr.cmsg_type.get(view, 0)).toBe(SO_TIMESTAMPNS);
    view.setBigInt64(cmsghdr.size, 5_000_000_000n, true);
    expect([batch.timestampSeconds(0), batch.trafficClass(0)]).toEqual([5_000_000_000, 0]);
    expect(batch.timestampNs(0)).toBeGreaterThanOrEqual(5_000_000_000_000_000_000n);
  });

  test("is the socket's count of what it dropped", () => {
    using server = UdpSocket.bind("127.0.0.1:0", { receiveBufferBytes: 4096 });
    server.setOption(SocketOption.receiveQueueOverflow, true);
    using client = UdpSocket.open("ipv4");
    client.connectSync(server.localAddress);
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 16 });
    const send = (count: number) => {
      for (let i = 0; i < count; i++) client.sendSync("x");
    };
    send(200);
    const first = server.receiveBatchSync(batch, WAIT);
    expect(first).toBeWithin(1, 64);
    // They were in the queue before the first was dropped.
    expect(slotsOf(batch).map((i) => batch.dropped(i))).toEqual(Array(first).fill(-1));
    expect(server.tryReceiveBatch(batch)).toBe(0);
    send(1);
    server.receiveBatchSync(batch, WAIT);
    expect(batch.dropped(0)).toBe(200 - first);
    send(1);
    server.receiveBatchSync(batch, WAIT);
    expect(batch.dropped(0)).toBe(200 - first);
  });

  test("is read by a loop of batches and by a handler", async () => {
    using pair = makePair();
    sendNumbered(pair, 2);
    for await (const batch of pair.server.batches({ controlBytes: 512 })) {
      expect(batch.controlBytes).toBe(512);
      expect(slotsOf(batch).map((i) => numberOf(batch, i))).toEqual([
        ["1", 1, 1],
        ["2", 2, 2],
      ]);
      batch.reply();
      expect(await pair.server.sendBatch(batch)).toBe(2);
      break;
    }
    const told = Promise.withResolvers<number[]>();
    using _ = pair.client.onBatch((batch) => {
      told.resolve(slotsOf(batch).map((i) => batch.ttl(i)));
    });
    expect(await told.promise).toEqual([64, 64]);
  });
});

describe("what a slot is to say", () => {
  const out = () => {
    const batch = makeBatch(["a", "b"]);
    for (const i of [0, 1]) batch.setAddress(i, "127.0.0.1:9");
    return batch;
  };
  const lengths = (batch: DatagramBatch) => {
    using udp = UdpSocket.open("ipv4");
    return capture(() => udp.trySendBatch(batch)).map(({ length }) => length);
  };

  test("stays for as many sends as there are, and goes along with the slot", () => {
    using batch = out();
    batch.setTtl(0, 9);
    expect(lengths(batch)).toEqual([24, 0]);
    expect(lengths(batch)).toEqual([24, 0]);
    batch.swap(0, 1);
    expect(lengths(batch)).toEqual([0, 24]);
    batch.keep([1]);
    expect(lengths(batch)).toEqual([24]);
  });

  test("is forgotten by a receive", () => {
    using pair = makePair();
    using batch = out();
    batch.setTtl(0, 9);
    batch.setControl(1, cmsg(IPPROTO_IP, IP_TTL, int(9)));
    expect(lengths(batch)).toEqual([24, 24]);
    expect(pair.server.tryReceiveBatch(batch)).toBe(0);
    batch.count = 2;
    expect(lengths(batch)).toEqual([0, 0]);
  });

  test("is taken back by undefined", () => {
    using batch = out();
    for (const i of [0, 1]) {
      batch.setTtl(i, 9);
      batch.setTrafficClass(i, 9);
      batch.setMark(i, 9);
      batch.setTransmitTime(i, 9);
      batch.setSource(i, "127.0.0.1:0");
      batch.setControl(i, cmsg(SOL_SOCKET, SO_MARK, int(1)));
      batch.setInterfaceIndex(i, 9);
    }
    expect(lengths(batch)).toEqual([24 * 5 + 32, 24 * 5 + 32]);
    batch.setTtl(0, undefined);
    batch.setTrafficClass(0, undefined);
    batch.setMark(0, undefined);
    batch.setTransmitTime(0, undefined);
    batch.setSource(0, undefined);
    expect(lengths(batch)).toEqual([24 + 32, 24 * 5 + 32]);
    batch.setInterfaceIndex(0, undefined);
    batch.setControl(0, undefined);
    expect(lengths(batch)).toEqual([0, 24 * 5 + 32]);
  });

  test("setControl() sends control messages as they are, and the others win over them", () => {
    using pair = makePair();
    using batch = makeBatch(["raw", "both", "none"]);
    const { port } = pair.server.localAddress;
    for (const i of slotsOf(batch)) batch.setAddress(i, `127.0.0.1:${port}`);
    const bytes = cmsg(IPPROTO_IP, IP_TTL, int(33));
    batch.setControl(0, bytes);
    // A length that the next message cannot follow is filled up.
    batch.setControl(1, new Uint8Array(24).fill(0xff));
    batch.setControl(1, new DataView(bytes.buffer, 0, 20));
    batch.setTtl(1, 44);
    const [raw, both] = capture(() => pair.client.trySendBatch(batch));
    expect([raw?.toHex(), both?.subarray(0, 24).toHex()]).toEqual([bytes.toHex(), bytes.toHex()]);
    bytes.fill(0);
    batch.setControl(2, cmsg(IPPROTO_IP, IP_TTL, int(33)).fill(0, 0, 8));
    expect(pair.client.trySendBatch(batch)).toBe(2);
    expect(slotsOf(batch).map((i) => batch.failure(i))).toEqual([undefined, undefined, "EINVAL"]);
    using came = new DatagramBatch();
    pair.server.receiveBatchSync(came, WAIT);
    expect([came.ttl(0), came.ttl(1)]).toEqual([33, 44]);
  });

  test("setTransmitTime() says nanoseconds to the last one", () => {
    using udp = UdpSocket.open("ipv4");
    const times: [seconds: number, nanoseconds: number][] = [
      [0, 1],
      [4, 294_967_296],
      [1_795_278_688, 655_273_682],
      [1_795_278_688, 999_999_999],
      [65_535, 999_999_999],
      [65_536, 0],
      [2 ** 32 + 12_345, 678_901_234],
      [2 ** 34, 0],
    ];
    for (const [seconds, nanoseconds] of times) {
      using batch = makeBatch(["x"]);
      batch.setTransmitTime(0, seconds, nanoseconds);
      const [bytes] = capture(() => udp.trySendBatch(batch)) as [Buffer];
      expect([bytes.readInt32LE(8), bytes.readInt32LE(12)]).toEqual([SOL_SOCKET, SCM_TXTIME]);
      expect(bytes.readBigUInt64LE(16)).toBe(
        BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds),
      );
    }
  });

  test("setTransmitTime() fails the slot on a socket without the option", () => {
    using pair = makePair();
    using batch = makeBatch(["x"]);
    batch.setAddress(0, `127.0.0.1:${pair.server.localAddress.port}`);
    batch.setTransmitTime(0, Math.floor(Date.now() / 1000));
    expect(pair.client.trySendBatch(batch)).toBe(0);
    expect(batch.failure(0)).toBe("EINVAL");
    // CLOCK_MONOTONIC.
    pair.client.setOption(SocketOption.transmitTime, { clockId: 1, flags: 0 });
    batch.setTransmitTime(0, Math.floor(performance.now() / 1000));
    expect(pair.client.trySendBatch(batch)).toBe(1);
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(1);
  });

  const refused: [name: string, error: typeof RangeError, set: (batch: DatagramBatch) => void][] = [
    ["setTtl(0)", RangeError, (batch) => batch.setTtl(0, 0)],
    ["setTtl(256)", RangeError, (batch) => batch.setTtl(0, 256)],
    ["setTtl(1.5)", RangeError, (batch) => batch.setTtl(0, 1.5)],
    ['setTtl("9")', TypeError, (batch) => batch.setTtl(0, "9" as never)],
    ["setTrafficClass(-1)", RangeError, (batch) => batch.setTrafficClass(0, -1)],
    ["setTrafficClass(256)", RangeError, (batch) => batch.setTrafficClass(0, 256)],
    ["setTrafficClass(null)", TypeError, (batch) => batch.setTrafficClass(0, null as never)],
    ["setEcn(4)", RangeError, (batch) => batch.setEcn(0, 4)],
    ["setEcn(undefined)", TypeError, (batch) => batch.setEcn(0, undefined as never)],
    ["setMark(2 ** 32)", RangeError, (batch) => batch.setMark(0, 2 ** 32)],
    ["setMark(-1)", RangeError, (batch) => batch.setMark(0, -1)],
    ["setInterfaceIndex(2 ** 31)", RangeError, (batch) => batch.setInterfaceIndex(0, 2 ** 31)],
    ["setSegmentBytes(-1)", RangeError, (batch) => batch.setSegmentBytes(0, -1)],
    ["setSegmentBytes(65536)", RangeError, (batch) => batch.setSegmentBytes(0, 65536)],
    ["setTransmitTime(-1)", RangeError, (batch) => batch.setTransmitTime(0, -1)],
    ["setTransmitTime(0, 1e9)", RangeError, (batch) => batch.setTransmitTime(0, 0, 1e9)],
    ["setTransmitTime(9n)", TypeError, (batch) => batch.setTransmitTime(0, 9n as never)],
    ["setSource(a Unix address)", TypeError, (batch) => batch.setSource(0, "unix:@x" as never)],
    ["setSource(text)", TypeError, (batch) => batch.setSource(0, "localhost")],
    ["setSource(42)", TypeError, (batch) => batch.setSource(0, 42 as never)],
    ["setControl(text)", TypeError, (batch) => batch.setControl(0, "x" as never)],
    [
      "setControl(shared memory)",
      TypeError,
      (batch) => batch.setControl(0, new Uint8Array(new SharedArrayBuffer(8))),
    ],
    ["setControl(too much)", RangeError, (batch) => batch.setControl(0, new Uint8Array(300))],
  ];
  test.each(refused)("%s is refused, and nothing is written", (_, error, set) => {
    using batch = out();
    expect(() => set(batch)).toThrow(error);
    expect(lengths(batch)).toEqual([0, 0]);
    batch.setTtl(0, 9);
    batch.setControl(0, cmsg(IPPROTO_IP, IP_TTL, int(1)));
    expect(() => set(batch)).toThrow(error);
    expect(lengths(batch)).toEqual([48, 0]);
  });

  const setters: [name: string, set: (batch: DatagramBatch, i: number) => void][] = [
    ["setTtl", (batch, i) => batch.setTtl(i, 9)],
    ["setTrafficClass", (batch, i) => batch.setTrafficClass(i, 9)],
    ["setEcn", (batch, i) => batch.setEcn(i, 1)],
    ["setMark", (batch, i) => batch.setMark(i, 9)],
    ["setInterfaceIndex", (batch, i) => batch.setInterfaceIndex(i, 9)],
    ["setSource", (batch, i) => batch.setSource(i, "127.0.0.1:0")],
    ["setSegmentBytes", (batch, i) => batch.setSegmentBytes(i, 9)],
    ["setTransmitTime", (batch, i) => batch.setTransmitTime(i, 9)],
    ["setControl", (batch, i) => batch.setControl(i, new Uint8Array(16))],
  ];
  test.each(setters)("%s() takes no slot that there is not, nor a batch that is gone", (_, set) => {
    const batch = out();
    for (const i of [-1, 2, 0.5, Number.NaN]) expect(() => set(batch, i)).toThrow(RangeError);
    for (const i of ["0", undefined, null]) expect(() => set(batch, i as never)).toThrow(TypeError);
    expect(lengths(batch)).toEqual([0, 0]);
    batch.free();
    expect(() => set(batch, 0)).toThrow(TypeError);
  });

  test.each(setters)("%s() needs controlBytes", (_, set) => {
    using none = makeBatch(["x"], { controlBytes: 0 });
    expect(() => set(none, 0)).toThrow(RangeError);
    expect(lengths(none)).toEqual([0]);
  });

  test("has no more room than controlBytes, and what does not fit changes nothing", () => {
    using batch = makeBatch(["x"], { controlBytes: 64 });
    batch.setAddress(0, "127.0.0.1:9");
    batch.setTtl(0, 9);
    batch.setSource(0, "127.0.0.1:0");
    const written = lengths(batch);
    expect(written).toEqual([24 + 32]);
    for (const set of [
      () => batch.setTrafficClass(0, 1),
      () => batch.setMark(0, 1),
      () => batch.setControl(0, new Uint8Array(1)),
      () => batch.setTransmitTime(0, 1),
    ])
      expect(set).toThrow(/64/);
    expect(lengths(batch)).toEqual(written);
    // There is always room for the segments.
    batch.write(0, "xxxx");
    batch.setSegmentBytes(0, 2);
    expect(lengths(batch)).toEqual([24 + 32 + 24]);
    using other = makeBatch(["x", "y"], { controlBytes: 40 });
    other.setSource(0, "127.0.0.1:0");
    other.setTtl(1, 9);
    expect(() => other.copySender(1, 0)).toThrow(RangeError);
    expect(other.address(1)).toBeUndefined();
    expect(lengths(other)).toEqual([32, 24]);
  });
});

describe("reply()", () => {
  test("refuses slots of which the kernel did not tell, and changes none", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4 });
    expect(() => batch.reply(0)).toThrow(TypeError);
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.count = 3;
    expect(() => batch.reply()).toThrow(/slot 2 .*no datagram was received into it/);
    expect(capture(() => pair.server.trySendBatch(batch)).map((b) => b.length)).toEqual([0, 0, 0]);
    for (const i of [-1, 4, 0.5]) expect(() => batch.reply(i)).toThrow(RangeError);
    expect(() => batch.reply("0" as never)).toThrow(TypeError);
    batch.count = 2;
    batch.reply();
    batch.reply(1);
    expect(capture(() => pair.server.trySendBatch(batch)).map((b) => b.length)).toEqual([32, 32]);
  });

  test.each([
    ["0.0.0.0:0", "127.0.0.1", IpOption.receiveTtl, "IpOption.receivePacketInfo was off"],
    ["[::]:0", "127.0.0.1", IpOption.receiveTtl, "Ipv6Option.receivePacketInfo was off"],
    ["[::]:0", "[::1]", Ipv6Option.receiveHopLimit, "Ipv6Option.receivePacketInfo was off"],
  ])(
    "on %s names the slot and the option that was off for a datagram to %s",
    (all, to, option, why) => {
      using server = UdpSocket.bind(all);
      server.setOption(option, true);
      using client = UdpSocket.open(to.startsWith("[") ? "ipv6" : "ipv4");
      const send = () => client.sendToSync("x", `${to}:${server.localAddress.port}`);
      using batch = new DatagramBatch({ capacity: 4 });
      send();
      server.receiveBatchSync(batch, WAIT);
      expect(() => batch.reply()).toThrow(
        `Cannot reply from where slot 0 was sent to, which is not known: ${why}`,
      );
      expect(() => batch.reply(3)).toThrow(
        "slot 3 was sent to, which is not known: no datagram was",
      );
    },
  );

  test("says so where controlBytes are too few, or none", () => {
    using server = UdpSocket.bind("0.0.0.0:0", { metadata: ["timestamp", "destination"] });
    using client = UdpSocket.open("ipv4");
    for (const [controlBytes, why] of [
      [32, "controlBytes is too small: 32 bytes do not hold all that the kernel had to tell"],
      [0, "the DatagramBatch was made with 0 controlBytes"],
    ] as const) {
      client.sendToSync("x", `127.0.0.1:${server.localAddress.port}`);
      using batch = new DatagramBatch({ capacity: 4, controlBytes });
      server.receiveBatchSync(batch, WAIT);
      expect(batch.controlTruncated(0)).toBe(true);
      expect(() => batch.reply()).toThrow(`slot 0 was sent to, which is not known: ${why}`);
    }
  });

  test("says so of what came by a Unix socket", () => {
    const [left, right] = UnixDatagramSocket.pair();
    using batch = new DatagramBatch();
    left.sendSync("x");
    right.receiveBatchSync(batch, WAIT);
    expect(() => batch.reply()).toThrow("slot 0 was sent to, which is not known: the socket that");
    left.close();
    right.close();
  });

  test("refuses all slots where one has no room, and changes none", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4, controlBytes: 160 });
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.setControl(1, new Uint8Array(136));
    expect(() => batch.reply()).toThrow(RangeError);
    expect(capture(() => pair.server.trySendBatch(batch)).map((b) => b.length)).toEqual([0, 136]);
  });

  test("takes back a source that was written", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4 });
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.setSource(0, "127.0.0.99:0");
    batch.setInterfaceIndex(0, 12345);
    batch.reply();
    expect(pair.server.trySendBatch(batch)).toBe(1);
    pair.client.receiveBatchSync(batch, WAIT);
    expect((batch.address(0) as InetAddress).host).toBe("127.0.0.101");
  });

  test("works for datagrams that came before the option was on", () => {
    using server = UdpSocket.bind("0.0.0.0:0");
    using client = UdpSocket.bind("127.0.0.5:0");
    client.sendToSync("early", `127.0.0.2:${server.localAddress.port}`);
    server.setOption(IpOption.receivePacketInfo, true);
    using batch = new DatagramBatch({ capacity: 4 });
    server.receiveBatchSync(batch, WAIT);
    expect(batch.destination(0)?.host).toBe("127.0.0.2");
    batch.reply();
    expect(server.trySendBatch(batch)).toBe(1);
    client.receiveBatchSync(batch, WAIT);
    expect((batch.address(0) as InetAddress).host).toBe("127.0.0.2");
  });

  // The kernel keeps the interface beside a packet: of IPv6 always, of IPv4 once somebody has asked.
  test.each([
    ["0.0.0.0:0", "127.0.0.2", "127.0.0.2", -1],
    ["[::]:0", "127.0.0.2", "::ffff:127.0.0.2", -1],
    ["[::]:0", "[::1]", "::1", LOOPBACK_INDEX],
  ])("on %s for one to %s, of which the interface may not be known", (all, to, shown, index) => {
    using server = UdpSocket.bind(all);
    using client = UdpSocket.open(to.startsWith("[") ? "ipv6" : "ipv4");
    const send = () => client.sendToSync("x", `${to}:${server.localAddress.port}`);
    send();
    askAll(server);
    send();
    using batch = new DatagramBatch({ capacity: 4 });
    expect(server.receiveBatchSync(batch, WAIT)).toBe(2);
    const told = [0, 1].map((i) => [batch.destination(i)?.host, batch.interfaceIndex(i)]);
    expect(told).toEqual([
      [shown, index],
      [shown, LOOPBACK_INDEX],
    ]);
  });
});

describe("segments", () => {
  /** A sender, and a receiver that takes trains. */
  function makeTrains(): { sender: UdpSocket; receiver: UdpSocket; to: string } & Disposable {
    const receiver = UdpSocket.bind("127.0.0.1:0");
    receiver.setOption(UdpOption.gro, true);
    const sender = UdpSocket.bind("127.0.0.1:0");
    return {
      sender,
      receiver,
      to: `${receiver.localAddress}`,
      [Symbol.dispose]() {
        sender.close();
        receiver.close();
      },
    };
  }
  const BIG = { capacity: 8, slotBytes: 65536 };

  /** What comes one by one at a socket that takes no trains. */
  function drain(udp: UdpSocket): number[] {
    const lengths: number[] = [];
    const target = Buffer.alloc(65536);
    for (;;) {
      const length = udp.tryReceive(target);
      if (length === undefined) return lengths;
      lengths.push(length);
    }
  }

  test("setSegmentBytes() cuts a slot into datagrams; segmentBytes() tells of a train", () => {
    using trains = makeTrains();
    using plain = UdpSocket.bind("127.0.0.1:0");
    using batch = new DatagramBatch(BIG);
    batch.count = 3;
    const payload = Buffer.from(Array.from({ length: 1000 }, (_, i) => i & 0xff));
    for (const i of slotsOf(batch)) batch.write(i, payload);
    batch.setSegmentBytes(0, 300);
    batch.setSegmentBytes(1, 1000);
    batch.setSegmentBytes(2, 65535);
    expect(slotsOf(batch).map((i) => batch.segmentBytes(i))).toEqual([300, 1000, 1000]);
    for (const i of slotsOf(batch)) batch.setAddress(i, plain.localAddress);
    // Nothing is said of segments where there is only one.
    expect(capture(() => trains.sender.trySendBatch(batch)).map((said) => said.length)).toEqual([
      24, 0, 0,
    ]);
    expect(trains.sender.trySendBatch(batch)).toBe(3);
    expect(drain(plain)).toEqual([300, 300, 300, 100, 1000, 1000]);
    for (const i of slotsOf(batch)) batch.setAddress(i, trains.to);
    expect(trains.sender.trySendBatch(batch)).toBe(3);
    expect(trains.receiver.receiveBatchSync(batch, WAIT)).toBe(3);
    expect(slotsOf(batch).map((i) => [batch.length(i), batch.segmentBytes(i)])).toEqual([
      [1000, 300],
      [1000, 1000],
      [1000, 1000],
    ]);
    expect(Buffer.from(batch.view(0)).equals(payload)).toBe(true);
  });

  test("a train goes back as the same train, swapped and kept, and in part", () => {
    using trains = makeTrains();
    using batch = new DatagramBatch(BIG);
    batch.count = 2;
    for (const i of slotsOf(batch)) {
      batch.write(i, Buffer.alloc(1000 + i, i));
      batch.setAddress(i, trains.to);
      batch.setSegmentBytes(i, 300 + i);
    }
    expect(trains.sender.trySendBatch(batch)).toBe(2);
    expect(trains.receiver.receiveBatchSync(batch, WAIT)).toBe(2);
    expect(trains.receiver.trySendBatch(batch)).toBe(2);
    expect(drain(trains.sender)).toEqual([300, 300, 300, 100, 301, 301, 301, 98]);
    batch.swap(0, 1);
    expect(batch.segmentBytes(0)).toBe(301);
    batch.swap(0, 5);
    batch.swap(5, 1);
    batch.setLength(1, 650);
    expect(trains.receiver.trySendBatch(batch, 1)).toBe(1);
    expect(drain(trains.sender)).toEqual([301, 301, 48]);
    batch.setLength(1, 301);
    expect([batch.segmentBytes(1), trains.receiver.trySendBatch(batch, 1)]).toEqual([301, 1]);
    expect(drain(trains.sender)).toEqual([301]);
  });

  test("write() puts a single datagram in the place of a train", () => {
    using trains = makeTrains();
    using batch = new DatagramBatch(BIG);
    batch.count = 1;
    const bring = () => {
      using outgoing = makeBatch(["x".repeat(1000)]);
      outgoing.setAddress(0, trains.to);
      outgoing.setSegmentBytes(0, 300);
      trains.sender.trySendBatch(outgoing);
      expect(trains.receiver.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(batch.segmentBytes(0)).toBe(300);
    };
    bring();
    batch.write(0, "y".repeat(1000));
    expect(batch.segmentBytes(0)).toBe(1000);
    trains.receiver.trySendBatch(batch);
    expect(drain(trains.sender)).toEqual([1000]);
    bring();
    batch.setSegmentBytes(0, 0);
    expect(batch.segmentBytes(0)).toBe(1000);
    trains.receiver.trySendBatch(batch);
    expect(drain(trains.sender)).toEqual([1000]);
    batch.setSegmentBytes(0, undefined);
    expect(batch.segmentBytes(0)).toBe(300);
    batch.setSegmentBytes(0, 500);
    batch.write(0, "z".repeat(1000));
    trains.receiver.trySendBatch(batch);
    expect(drain(trains.sender)).toEqual([500, 500]);
  });

  test("one call sends trains to many, each with its own source, ECN and time", () => {
    using sender = UdpSocket.bind("0.0.0.0:0");
    // CLOCK_MONOTONIC.
    sender.setOption(SocketOption.transmitTime, { clockId: 1, flags: 0 });
    const receivers = [1, 2].map(() => UdpSocket.bind("127.0.0.1:0"));
    using batch = new DatagramBatch(BIG);
    batch.count = 8;
    for (const i of slotsOf(batch)) {
      batch.write(i, Buffer.alloc(500 + i, i));
      batch.setAddress(i, receivers[i % 2]?.localAddress as InetAddress);
      batch.setSegmentBytes(i, 100 + i);
      batch.setSource(i, `127.0.1.${i}:0`);
      batch.setEcn(i, i & 3);
      batch.setTtl(i, 10 + i);
      batch.setTransmitTime(i, 1, i);
    }
    {
      using calls = replaceLibc(
        "sendmmsg",
        (original) =>
          (...values) =>
            original(...values),
      );
      expect([sender.trySendBatch(batch), batch.failed]).toEqual([8, 0]);
      expect(calls.calls).toBe(1);
    }
    for (const [odd, receiver] of receivers.entries()) {
      // Of what is waiting already: the option concerns what is read from now on.
      askAll(receiver);
      using came = new DatagramBatch({ capacity: 64 });
      receiver.receiveBatchSync(came, WAIT);
      const told = slotsOf(came).map((k) => [
        Buffer.from(came.view(k)).every((byte) => byte === came.view(k)[0]),
        came.view(k)[0],
        came.length(k),
        (came.address(k) as InetAddress).host,
        came.ecn(k),
        came.ttl(k),
      ]);
      const expected = [0, 2, 4, 6].flatMap((even) => {
        const i = even + odd;
        const slot = [`127.0.1.${i}`, i & 3, 10 + i];
        const segments = Math.ceil((500 + i) / (100 + i));
        return Array.from({ length: segments }, (_, k) => {
          const length = Math.min(100 + i, 500 + i - k * (100 + i));
          return [true, i, length, ...slot];
        });
      });
      expect(told).toEqual(expected);
      receiver.close();
    }
  });

  test("a train replies from where it was hit, in one call", () => {
    using server = UdpSocket.bind("0.0.0.0:0");
    askAll(server);
    server.setOption(UdpOption.gro, true);
    using client = UdpSocket.bind("127.0.0.5:0");
    client.setOption(UdpOption.gro, true);
    askAll(client);
    using batch = new DatagramBatch(BIG);
    batch.count = 1;
    batch.write(0, Buffer.alloc(6000, 1));
    batch.setAddress(0, `127.0.0.2:${server.localAddress.port}`);
    batch.setSegmentBytes(0, 1200);
    batch.setEcn(0, 1);
    expect(client.trySendBatch(batch)).toBe(1);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect([batch.segmentBytes(0), batch.ecn(0)]).toEqual([1200, 1]);
    batch.reply();
    batch.setEcn(0, 2);
    batch.setTtl(0, 5);
    expect(server.trySendBatch(batch)).toBe(1);
    expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
    expect([batch.length(0), batch.segmentBytes(0)]).toEqual([6000, 1200]);
    expect(toldOf(batch, 0)).toEqual([5, 2, 2, LOOPBACK_INDEX]);
    expect((batch.address(0) as InetAddress).host).toBe("127.0.0.2");
  });
});

describe("controlBytes", () => {
  test.each([1, 15, 16, 20, 40, 57])(
    "%d are too few: it is said, and what fits is told",
    (bytes) => {
      using pair = makePair();
      using batch = new DatagramBatch({ capacity: 4, controlBytes: bytes });
      sendNumbered(pair, 2);
      expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
      for (const i of [0, 1]) {
        expect([batch.controlTruncated(i), batch.flags(i) & MSG_CTRUNC]).toEqual([
          true,
          MSG_CTRUNC,
        ]);
        expect(batch.control(i).length).toBeLessThanOrEqual(bytes);
        expect(textOf(batch, i)).toBe(`${i + 1}`);
        // The time comes first, then the destination, each with 16 bytes more.
        expect(batch.timestampNs(i) !== undefined).toBe(bytes >= 32);
        expect(batch.destination(i)).toBeUndefined();
        expect([batch.ttl(i), batch.trafficClass(i)]).toEqual([-1, -1]);
      }
      expect(pair.server.trySendBatch(batch)).toBe(2);
      // The next receive has as much room as the first.
      sendNumbered(pair, 2);
      expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
      expect(batch.timestampNs(1) !== undefined).toBe(bytes >= 32);
    },
  );

  test("0 are none: nothing is told, and everything else goes on", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 4, controlBytes: 0 });
    sendNumbered(pair, 2);
    expect(pair.server.receiveBatchSync(batch, WAIT)).toBe(2);
    expect([isSilent(batch, 0), batch.controlTruncated(0)]).toEqual([true, true]);
    expect(() => batch.reply()).toThrow(/controlBytes/);
    batch.swap(0, 1);
    batch.copySender(1, 0);
    expect(batch.segmentBytes(0)).toBe(1);
    expect(pair.server.trySendBatch(batch)).toBe(2);
    expect([batch.controlBytes, batch.freed]).toEqual([0, false]);
  });

  test("256 hold everything that is told of a datagram at once", () => {
    using pair = makePair();
    pair.server.setOption(SocketOption.receiveQueueOverflow, true);
    pair.server.setOption(UdpOption.gro, true);
    using batch = new DatagramBatch({ capacity: 4, slotBytes: 65536 });
    expect(batch.controlBytes).toBe(256);
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    expect(batch.controlTruncated(1)).toBe(false);
    expect(numberOf(batch, 1)).toEqual(["2", 2, 2]);
  });

  test("65536 work, and no more are taken", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 2, controlBytes: 65536 });
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    expect(numberOf(batch, 1)).toEqual(["2", 2, 2]);
    batch.reply();
    expect(pair.server.trySendBatch(batch)).toBe(2);
    for (const controlBytes of [65537, -1, 0.5, Number.NaN])
      expect(() => new DatagramBatch({ controlBytes })).toThrow(RangeError);
    expect(() => new DatagramBatch({ controlBytes: "9" as never })).toThrow(TypeError);
  });
});

describe("memory", () => {
  const readers: [name: string, read: (batch: DatagramBatch, i: number) => unknown][] = [
    ["ttl", (batch, i) => batch.ttl(i)],
    ["trafficClass", (batch, i) => batch.trafficClass(i)],
    ["ecn", (batch, i) => batch.ecn(i)],
    ["interfaceIndex", (batch, i) => batch.interfaceIndex(i)],
    ["destination", (batch, i) => batch.destination(i)],
    ["timestampSeconds", (batch, i) => batch.timestampSeconds(i)],
    ["timestampNanoseconds", (batch, i) => batch.timestampNanoseconds(i)],
    ["timestampNs", (batch, i) => batch.timestampNs(i)],
    ["dropped", (batch, i) => batch.dropped(i)],
    ["mark", (batch, i) => batch.mark(i)],
    ["control", (batch, i) => batch.control(i)],
    ["controlTruncated", (batch, i) => batch.controlTruncated(i)],
    ["segmentBytes", (batch, i) => batch.segmentBytes(i)],
  ];
  test.each(readers)(
    "%s() takes no slot that there is not, nor a batch that is gone",
    (_, read) => {
      const batch = new DatagramBatch({ capacity: 4 });
      for (const i of [-1, 4, 0.5, Number.NaN]) expect(() => read(batch, i)).toThrow(RangeError);
      for (const i of ["0", undefined, null])
        expect(() => read(batch, i as never)).toThrow(TypeError);
      batch.free();
      expect(() => read(batch, 0)).toThrow(TypeError);
    },
  );

  test("a view of control messages is empty once the batch is free", () => {
    using pair = makePair();
    const batch = new DatagramBatch({ capacity: 4 });
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    const view = batch.control(0);
    expect(view.length).toBeGreaterThan(0);
    batch.free();
    expect(view.length).toBe(0);
  });

  test("a batch whose control memory was transferred away is gone, and loses nothing", () => {
    using pair = makePair();
    const batch = new DatagramBatch({ capacity: 4 });
    sendNumbered(pair, 2);
    pair.server.receiveBatchSync(batch, WAIT);
    const kept = batch.control(0).buffer.transfer();
    expect(batch.freed).toBe(true);
    sendNumbered(pair, 3);
    expect(() => pair.server.tryReceiveBatch(batch)).toThrow(TypeError);
    expect(() => pair.server.trySendBatch(batch)).toThrow(TypeError);
    expect(() => batch.control(0)).toThrow(TypeError);
    expect(() => batch.reply()).toThrow(TypeError);
    for (const [, read] of readers.filter(([name]) => name !== "control")) {
      try {
        read(batch, 0);
      } catch (error) {
        expect(error).toBeInstanceOf(TypeError);
      }
    }
    expect(kept.byteLength).toBe(4 * 256);
    batch.free();
    using other = new DatagramBatch({ capacity: 4 });
    expect(pair.server.receiveBatchSync(other, WAIT)).toBe(3);
  });

  test("whatever a caller writes into the control memory, slots stay what they are", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 3 });
    const random = new Uint8Array(256);
    for (let round = 0; round < 100; round++) {
      sendNumbered(pair, 3);
      pair.server.receiveBatchSync(batch, WAIT);
      const view = batch.control(1);
      crypto.getRandomValues(random);
      // Half of the rounds leave the heads of the messages alone but for one byte.
      if (round % 2 === 0) view.set(random.subarray(0, view.length));
      else view[round % view.length] = random[0] as number;
      for (const i of [0, 2]) expect(numberOf(batch, i)).toEqual([`${i + 1}`, i + 1, i + 1]);
      for (const [, read] of readers) read(batch, 1);
      pair.server.trySendBatch(batch);
      expect(pair.client.receiveBatchSync(batch, WAIT)).toBeGreaterThanOrEqual(2);
    }
  });

  test("a batch that lasts an error forgets what it knew", () => {
    using pair = makePair();
    using batch = new DatagramBatch({ capacity: 3 });
    sendNumbered(pair, 3);
    pair.server.receiveBatchSync(batch, WAIT);
    expect(batch.ttl(2)).toBe(3);
    sendNumbered(pair, 1);
    pair.server.receiveBatchSync(batch, WAIT);
    batch.count = 3;
    expect([batch.ttl(0), batch.ttl(1), batch.ttl(2)]).toEqual([1, -1, -1]);
  });
});

describe("one batch for sockets of other families", () => {
  test("tells each socket's own, in turn", () => {
    using batch = new DatagramBatch({ capacity: 4 });
    for (const all of ["0.0.0.0:0", "[::]:0", "0.0.0.0:0", "[::]:0"]) {
      using server = UdpSocket.bind(all);
      askAll(server);
      using client = UdpSocket.open("ipv4");
      client.sendToSync("x", `127.0.0.2:${server.localAddress.port}`);
      server.receiveBatchSync(batch, WAIT);
      expect(batch.destination(0)?.family).toBe(all === "[::]:0" ? "ipv6" : "ipv4");
      expect(batch.ttl(0)).toBe(64);
      const [left, right] = UnixDatagramSocket.pair();
      using _ = left;
      using __ = right;
      left.sendSync("unix");
      right.receiveBatchSync(batch, WAIT);
      expect([textOf(batch, 0), isSilent(batch, 0)]).toEqual(["unix", true]);
    }
  });

  test("gets no descriptor over a Unix socket, and says that something was cut", () => {
    const [left, right] = UnixDatagramSocket.pair();
    using _ = left;
    using __ = right;
    using batch = new DatagramBatch({ capacity: 4 });
    const message = new Message({ vectors: [Buffer.from("x")], controlBytes: 64 });
    const bytes = cmsg(SOL_SOCKET, SCM_RIGHTS, int(left.descriptor));
    const count = () => readdirSync("/proc/self/fd").length;
    // Also after the batch has served an Internet socket.
    for (const serves of [false, true]) {
      if (serves) {
        using pair = makePair();
        sendNumbered(pair, 4);
        pair.server.receiveBatchSync(batch, WAIT);
        batch.swap(0, 3);
      }
      message.control.set(bytes);
      message.controlLength = bytes.length;
      expect(left.trySendMessage(message)).toBe(1);
      const before = count();
      expect(right.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(count()).toBe(before);
      expect([textOf(batch, 0), batch.controlTruncated(0)]).toEqual(["x", true]);
      expect(isSilent(batch, 0)).toBe(true);
    }
  });

  test("says nothing of IP over a Unix socket", () => {
    const [left, right] = UnixDatagramSocket.pair();
    using _ = left;
    using __ = right;
    using batch = makeBatch(["x", "y"]);
    batch.setTtl(0, 9);
    batch.setMark(0, 9);
    batch.setSource(0, "127.0.0.1:0");
    batch.setSegmentBytes(0, 1);
    expect(left.trySendBatch(batch)).toBe(2);
    right.receiveBatchSync(batch, WAIT);
    expect([textOf(batch, 0), textOf(batch, 1)]).toEqual(["x", "y"]);
  });
});

test("BUN_SOCKETS_DEBUG=1 takes metadata away that is not valid any more", async () => {
  const script = `
    import { IpOption, UdpSocket } from "bun-sockets";
    const server = UdpSocket.bind("127.0.0.1:0");
    server.setOption(IpOption.receiveTtl, true);
    const client = UdpSocket.open("ipv4");
    client.sendToSync("x", server.localAddress);
    server.onBatch((batch) => {
      const [ttl, control] = [batch.ttl(0), batch.control(0)];
      setTimeout(() => {
        const isGone = control.length > 0 && control.every((byte) => byte === 0xa5);
        console.log(JSON.stringify([ttl, batch.ttl(0), isGone]));
        server.close();
      }, 0);
    });
  `;
  const child = Bun.spawn([process.execPath, "-e", script], {
    cwd: `${import.meta.dir}/../..`,
    env: { ...process.env, BUN_SOCKETS_DEBUG: "1" },
    stderr: "inherit",
  });
  expect(JSON.parse(await child.stdout.text())).toEqual([64, -1, true]);
});

// Answers each datagram from the address that it hit, with the TTL and TOS that its text asks for, and
// tells what it came with.
const pythonServer = `
import json, socket, struct, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
peer = socket.socket(family, socket.SOCK_DGRAM)
peer.settimeout(20)
if family == socket.AF_INET:
    IP_PKTINFO = 8
    peer.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    peer.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    peer.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
    peer.bind(("0.0.0.0", 0))
else:
    peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    peer.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
    peer.bind(("::", 0))
print(peer.getsockname()[1], flush=True)
while True:
    data, messages, flags, address = peer.recvmsg(2048, 512)
    ttl, tos = struct.unpack("BB", data[:2])
    told = {"from": address[0]}
    answer = []
    for level, kind, value in messages:
        if level == socket.IPPROTO_IP and kind == 8:
            index, local, to = struct.unpack("i4s4s", value)
            told["to"] = socket.inet_ntop(socket.AF_INET, to)
            told["index"] = index
            answer.append((level, kind, struct.pack("i4s4s", 0, local, bytes(4))))
        elif level == socket.IPPROTO_IP and kind == socket.IP_TTL:
            told["ttl"] = struct.unpack("i", value)[0]
        elif level == socket.IPPROTO_IP and kind == socket.IP_TOS:
            told["tos"] = value[0]
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            to, index = struct.unpack("16sI", value)
            told["to"] = socket.inet_ntop(socket.AF_INET6, to)
            told["index"] = index
            answer.append((level, kind, value))
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_HOPLIMIT:
            told["ttl"] = struct.unpack("i", value)[0]
        elif level == socket.IPPROTO_IPV6 and kind == socket.IPV6_TCLASS:
            told["tos"] = struct.unpack("i", value)[0]
    if family == socket.AF_INET:
        answer += [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("i", ttl)),
                   (socket.IPPROTO_IP, socket.IP_TOS, struct.pack("i", tos))]
    else:
        answer += [(socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", ttl)),
                   (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, struct.pack("i", tos))]
    peer.sendmsg([json.dumps(told).encode()], answer, 0, address)
`;

const strangers = [
  { family: "4", hosts: ["127.0.0.2", "127.0.0.3"], source: "127.0.0.8", all: "0.0.0.0:0" },
  { family: "6", hosts: ["::1", "::1"], source: "::1", all: "[::]:0" },
] as const;
for (const { family, hosts, source, all } of strangers) {
  testIf(requires("python3"))(
    `python3 reads and writes the same TTL, TOS and packet info over IPv${family}`,
    async () => {
      const child = Bun.spawn(["python3", "-c", pythonServer, family], { stderr: "inherit" });
      using _ = ending(child);
      const port = Number(await firstLine(child.stdout));
      using client = UdpSocket.bind(all);
      askAll(client);
      using batch = new DatagramBatch({ capacity: 2 });
      batch.count = 2;
      const bracketed = (host: string) => (family === "6" ? `[${host}]` : host);
      for (const [i, host] of hosts.entries()) {
        batch.write(i, Uint8Array.of(40 + i, 0xa1 + i));
        batch.setAddress(i, `${bracketed(host)}:${port}`);
        batch.setSource(i, `${bracketed(source)}:0`);
        batch.setTtl(i, 20 + i);
        batch.setTrafficClass(i, 0x10);
        batch.setEcn(i, 1 + i);
      }
      expect(client.trySendBatch(batch)).toBe(2);
      using answers = new DatagramBatch({ capacity: 1 });
      for (const [i, host] of hosts.entries()) {
        await client.receiveBatch(answers, WAIT);
        expect(JSON.parse(textOf(answers, 0))).toEqual({
          from: source,
          to: host,
          index: LOOPBACK_INDEX,
          ttl: 20 + i,
          tos: 0x11 + i,
        });
        expect(answers.address(0)).toMatchObject({ host, port });
        expect(answers.destination(0)).toMatchObject({ host: source, port: 0 });
        expect(toldOf(answers, 0)).toEqual([40 + i, 0xa1 + i, (1 + i) & 3, LOOPBACK_INDEX]);
      }
    },
    20_000,
  );
}

describe("UdpSocketOptions.metadata", () => {
  const words = ["destination", "ttl", "trafficClass", "timestamp", "dropped"] as const;

  /** What the options of a socket say. */
  function asked(udp: UdpSocket): Record<string, boolean> {
    const of4 = {
      destination4: IpOption.receivePacketInfo,
      ttl4: IpOption.receiveTtl,
      trafficClass4: IpOption.receiveTos,
    };
    const of6 = {
      destination6: Ipv6Option.receivePacketInfo,
      ttl6: Ipv6Option.receiveHopLimit,
      trafficClass6: Ipv6Option.receiveTrafficClass,
    };
    const both = {
      timestamp: SocketOption.timestampNs,
      dropped: SocketOption.receiveQueueOverflow,
    };
    const all = Object.entries({ ...of4, ...(udp.family === "ipv6" ? of6 : {}), ...both });
    return Object.fromEntries(
      all.filter(([, option]) => udp.getOption(option)).map(([name]) => [name, true]),
    );
  }

  test.each([
    ["0.0.0.0:0", {}, ["4"]],
    ["[::]:0", {}, ["4", "6"]],
    ["[::]:0", { ipv6Only: true }, ["6"]],
  ] as const)("asks on %s with %j for what it names, and for nothing else", (all, options, of) => {
    for (const word of words) {
      using udp = UdpSocket.bind(all, { ...options, metadata: [word] });
      const isOfFamily = ["destination", "ttl", "trafficClass"].includes(word);
      const names = isOfFamily ? of.map((family) => `${word}${family}`) : [word];
      expect(asked(udp)).toEqual(Object.fromEntries(names.map((name) => [name, true])));
    }
    using none = UdpSocket.bind(all, { ...options, metadata: [] });
    expect(asked(none)).toEqual({});
    using opened = UdpSocket.open(all, { ...options, metadata: ["timestamp", "timestamp"] });
    expect(asked(opened)).toEqual({ timestamp: true });
  });

  test.each([
    ["127.0.0.2", "::ffff:127.0.0.2"],
    ["[::1]", "::1"],
  ])("one on all addresses knows all of a datagram to %s, and replies from there", (to, shown) => {
    using server = UdpSocket.bind("[::]:0", { metadata: words });
    using client = UdpSocket.open(to.startsWith("[") ? "ipv6" : "ipv4");
    using batch = makeBatch(["x"]);
    batch.setAddress(0, `${to}:${server.localAddress.port}`);
    batch.setTtl(0, 9);
    batch.setTrafficClass(0, 0xb9);
    expect(client.trySendBatch(batch)).toBe(1);
    server.receiveBatchSync(batch, WAIT);
    expect(batch.destination(0)?.host).toBe(shown);
    expect(toldOf(batch, 0)).toEqual([9, 0xb9, 1, LOOPBACK_INDEX]);
    expect(Math.abs(batch.timestampSeconds(0) - Date.now() / 1000)).toBeLessThan(60);
    expect(batch.controlTruncated(0)).toBe(false);
    batch.reply();
    expect(server.trySendBatch(batch)).toBe(1);
    const { address } = client.receiveFromSync(new Uint8Array(10), WAIT);
    expect(`${address.host}`).toBe(to.replace(/[[\]]/g, ""));
  });

  test("is set before the address is taken, and before configure", () => {
    const calls: string[] = [];
    using _set = replaceLibc("setsockopt", (original) => (...values) => {
      if (values[2] === IP_PKTINFO) calls.push("setsockopt");
      return original(...values);
    });
    using _bind = replaceLibc("bind", (original) => (...values) => {
      calls.push("bind");
      return original(...values);
    });
    const configure = () => void calls.push("configure");
    UdpSocket.bind("127.0.0.1:0", { metadata: ["destination"], configure }).close();
    expect(calls).toEqual(["setsockopt", "configure", "bind"]);
  });

  test("that the kernel refuses fails the call by the option's name, and nothing is open", () => {
    const before = readdirSync("/proc/self/fd").length;
    using _ = replaceLibc("setsockopt", (original) => (...values) => {
      return values[2] === SO_RCVMARK ? failWith(EPERM) : original(...values);
    });
    const error = caught(() => UdpSocket.bind("127.0.0.1:0", { metadata: ["ttl", "mark"] }));
    expect(error.message).toMatch(/EPERM.*SO_RCVMARK|SO_RCVMARK.*EPERM/s);
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });

  test("is read once", () => {
    let reads = 0;
    const list = ["ttl"];
    const options = {
      get metadata() {
        return reads++ === 0 ? (list as ["ttl"]) : (["no"] as never);
      },
      configure: () => void list.push("nothing"),
    };
    using udp = UdpSocket.bind("127.0.0.1:0", options);
    expect([reads, udp.getOption(IpOption.receiveTtl)]).toEqual([1, true]);
  });

  test.each([
    [null, TypeError, "Cannot use null as metadata: expected an array"],
    ["ttl", TypeError, "Cannot use a value of type string as metadata: expected an array"],
    [{ length: 1, 0: "ttl" }, TypeError, "expected an array"],
    [["ttl", "ecn"], TypeError, 'Cannot use "ecn" as metadata: expected "destination", "ttl"'],
    [["toString"], TypeError, 'Cannot use "toString" as metadata'],
    [[undefined], TypeError, "Cannot use a value of type undefined as metadata"],
    [[["ttl"]], TypeError, "Cannot use a value of type object as metadata"],
    [Array(7).fill("ttl"), RangeError, "Cannot use 7 as the number of metadata: expected 0 to 6"],
  ])("refuses %j before anything is opened", (metadata, type, message) => {
    const before = readdirSync("/proc/self/fd").length;
    for (const make of [UdpSocket.open, UdpSocket.bind]) {
      const error = caught(() => make("127.0.0.1:0", { metadata: metadata as never }));
      expect(error).toBeInstanceOf(type);
      expect(error.message).toContain(message);
    }
    expect(readdirSync("/proc/self/fd").length).toBe(before);
  });
});

describe("a source without a port", () => {
  test.each(["127.0.0.77", "127.0.0.77:9", "::ffff:127.0.0.77"])("%s is taken", (text) => {
    using server = UdpSocket.bind("127.0.0.1:0");
    using client = UdpSocket.open("ipv4");
    using batch = makeBatch(["x"]);
    batch.setAddress(0, server.localAddress);
    batch.setSource(0, text);
    expect(client.trySendBatch(batch)).toBe(1);
    const { address } = server.receiveFromSync(new Uint8Array(10), WAIT);
    expect(address.host).toBe("127.0.0.77");
  });

  test.each(["127.0.0", "localhost", "eth0", "unix:/x", "", 7, null])("%p is none", (source) => {
    using batch = makeBatch(["x"]);
    expect(() => batch.setSource(0, source as string)).toThrow(TypeError);
  });

  test("is taken by ControlWriter.addPacketInfo(), which writes the same", () => {
    const [bare, whole] = ["127.0.0.77", "127.0.0.77:9"].map((source) => {
      const writer = new ControlWriter(new Uint8Array(64));
      writer.addPacketInfo({ source });
      return Buffer.from(writer.bytes).toString("hex");
    });
    expect(bare).toBe(whole as string);
    expect(bare).toContain("7f00004d");
    const writer = new ControlWriter(new Uint8Array(64));
    writer.addPacketInfo({ source: "::1" });
    expect(writer.length).toBe(40);
  });
});

describe("ECN and traffic class", () => {
  test("setEcn() alone sends DSCP 0; setTrafficClass() overwrites both, setEcn() only its bits", () => {
    using server = UdpSocket.bind("127.0.0.1:0", { metadata: ["trafficClass"] });
    using client = UdpSocket.open("ipv4");
    client.setOption(IpOption.tos, 0xb8);
    client.connectSync(server.localAddress);
    using batch = makeBatch(["none", "ecn", "class, ecn", "ecn, class"]);
    batch.setEcn(1, 1);
    batch.setTrafficClass(2, 0x28);
    batch.setEcn(2, 1);
    batch.setEcn(3, 1);
    batch.setTrafficClass(3, 0x28);
    expect(client.trySendBatch(batch)).toBe(4);
    server.receiveBatchSync(batch, WAIT);
    expect(slotsOf(batch).map((i) => batch.trafficClass(i))).toEqual([0xb8, 0x01, 0x29, 0x28]);
  });
});
