/** What LossWindow tells of datagrams that were lost, against what was sent and what was received. */
import { describe, expect, test } from "bun:test";
import {
  ClosedError,
  DatagramBatch,
  FilterProgram,
  type InterfaceLoss,
  LossWindow,
  type LossWindowOptions,
  type Socket,
  SocketOption,
  TcpListener,
  UdpSocket,
  UnixDatagramSocket,
} from "bun-sockets";
import { EBADF, SO_MEMINFO } from "bun-sockets/sys";
import {
  parseDevice,
  parseSnmp,
  parseSnmp6,
  parseSoftnet,
} from "../../lib/internal/loss_counters.ts";
import { caught, systemErrorOf } from "../support/errors.ts";
import { failWith, replaceLibc } from "../support/faults.ts";

const SMALL = { receiveBufferBytes: 8192 };
const SENT = 300;
const LO = 1;
/** Where SO_MEMINFO has the drops. */
const DROPS = 8;

function flood(from: UdpSocket, to: UdpSocket, count = SENT): void {
  for (let i = 0; i < count; i++) from.sendToSync("x", to.localAddress);
}

function drain(socket: UdpSocket): number {
  const target = new Uint8Array(10);
  let count = 0;
  while (socket.tryReceive(target) !== undefined) count++;
  return count;
}

/** Lets SO_MEMINFO tell other drops than there were. */
function tellDrops(drops: () => number) {
  return replaceLibc("getsockopt", (original) => (fd, level, name, value, length) => {
    const result = original(fd, level, name, value, length);
    if (name === SO_MEMINFO) (value as unknown as Uint32Array)[DROPS] = drops();
    return result;
  });
}

/** A batch whose newest datagram tells of so many drops. */
class TellingBatch extends DatagramBatch {
  told = -1;

  override dropped(): number {
    return this.told;
  }
}

describe.each(["127.0.0.1:0", "[::1]:0"])("LossWindow of %s", (address) => {
  test("what was sent is what was received and what it tells", () => {
    using socket = UdpSocket.bind(address, SMALL);
    using client = UdpSocket.open(address);
    const window = new LossWindow(socket);
    let sent = 0;
    let received = 0;
    let told = 0;
    for (const count of [1, SENT, 0, 2 * SENT, 3]) {
      flood(client, socket, count);
      sent += count;
      const loss = window.take();
      // Taken before it is read: what waits in the buffer is not lost.
      expect(loss.receiveBuffer.usedBytes > 0).toBe(count > 0);
      received += drain(socket);
      told += loss.socketDrops;
      expect(received + told).toBe(sent);
      expect(loss.socketDrops > 0).toBe(count >= SENT);
      expect(loss.protocol?.receiveBufferErrors).toBeGreaterThanOrEqual(loss.socketDrops);
      expect(loss.advice.some((text) => text.startsWith("The receive buffer"))).toBe(count >= SENT);
    }
    expect(window.take().socketDrops).toBe(0);
  });

  test("the buffers are told as they are", () => {
    using socket = UdpSocket.bind(address, { ...SMALL, sendBufferBytes: 9000 });
    using client = UdpSocket.open(address);
    const window = new LossWindow(socket);
    const empty = window.take();
    expect(empty.receiveBuffer).toEqual({
      effectiveBytes: 8192,
      clamped: false,
      limitBytes: 16384,
      usedBytes: 0,
    });
    expect(empty.sendBuffer).toEqual({
      effectiveBytes: 9000,
      clamped: false,
      limitBytes: 18000,
      usedBytes: 0,
    });
    expect(empty.queueOverflow).toBeUndefined();
    expect(empty.interface).toBeUndefined();
    expect(empty.durationMs).toBeGreaterThanOrEqual(0);
    flood(client, socket, 2);
    const two = window.take().receiveBuffer.usedBytes;
    expect(two).toBeGreaterThan(2 * 500);
    expect(two).toBe(socket.getOption(SocketOption.memoryInfo).receiveUsedBytes);
  });

  test("a batch tells what was dropped before its newest datagram, once", () => {
    using socket = UdpSocket.bind(address, SMALL);
    socket.setOption(SocketOption.receiveQueueOverflow, true);
    using client = UdpSocket.open(address);
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 64 });
    const window = new LossWindow(socket);
    flood(client, socket);
    let received = 0;
    while (socket.tryReceiveBatch(batch) > 0) received += batch.count;
    // All that was queued came before the first drop: the kernel tells nothing yet.
    const first = window.take(batch);
    expect(first.queueOverflow).toBeUndefined();
    expect(received + first.socketDrops).toBe(SENT);
    flood(client, socket, 1);
    expect(socket.tryReceiveBatch(batch)).toBe(1);
    expect(window.take(batch)).toMatchObject({
      queueOverflow: first.socketDrops,
      socketDrops: 0,
    });
    expect(window.take(batch).queueOverflow).toBe(0);
    // The second round: a gap of its own.
    flood(client, socket);
    while (socket.tryReceiveBatch(batch) > 0);
    flood(client, socket, 1);
    expect(socket.tryReceiveBatch(batch)).toBe(1);
    const second = window.take(batch);
    expect([second.queueOverflow, second.socketDrops > 0]).toEqual([second.socketDrops, true]);
  });

  test("the newest datagram of a batch tells of all drops, the others of those before them", () => {
    using socket = UdpSocket.bind(address, SMALL);
    socket.setOption(SocketOption.receiveQueueOverflow, true);
    using client = UdpSocket.open(address);
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 64 });
    const window = new LossWindow(socket);
    flood(client, socket);
    // Room for some, which tell of the first drops, and for one that tells of all.
    for (const half of [4, 3]) {
      for (let i = 0; i < half; i++) socket.tryReceive(new Uint8Array(1));
      flood(client, socket);
    }
    for (let i = 0; i < 3; i++) socket.tryReceive(new Uint8Array(1));
    flood(client, socket, 1);
    socket.tryReceiveBatch(batch);
    const told = Array.from({ length: batch.count }, (_, i) => batch.dropped(i));
    expect(new Set(told.filter((dropped) => dropped >= 0)).size).toBeGreaterThan(1);
    expect(told).toEqual(told.toSorted((left, right) => left - right));
    const loss = window.take(batch);
    expect(loss.queueOverflow).toBe(loss.socketDrops);
    expect(socket.getOption(SocketOption.memoryInfo).dropCount).toBe(loss.socketDrops);
  });

  test("what was dropped before it was made is not told, nor by a datagram that was queued then", () => {
    using socket = UdpSocket.bind(address, SMALL);
    socket.setOption(SocketOption.receiveQueueOverflow, true);
    using client = UdpSocket.open(address);
    using batch = new DatagramBatch({ capacity: 64, slotBytes: 64 });
    flood(client, socket);
    drain(socket);
    flood(client, socket);
    const window = new LossWindow(socket);
    // Those tell of the first round of drops, which are fewer than there were.
    expect(socket.tryReceiveBatch(batch)).toBeGreaterThan(0);
    expect(batch.dropped(0)).toBeGreaterThan(0);
    expect(window.take(batch)).toMatchObject({ queueOverflow: 0, socketDrops: 0 });
  });

  test("what another socket lost is not this one's", () => {
    using socket = UdpSocket.bind(address);
    using other = UdpSocket.bind(address, SMALL);
    using client = UdpSocket.open(address);
    const window = new LossWindow(socket);
    flood(client, socket, 10);
    flood(client, other);
    const lost = SENT - drain(other);
    const loss = window.take();
    expect([drain(socket), loss.socketDrops]).toEqual([10, 0]);
    expect(lost).toBeGreaterThan(0);
    expect(loss.protocol?.otherSockets).toBeGreaterThanOrEqual(lost);
    expect(loss.protocol?.receiveBufferErrors).toBeGreaterThanOrEqual(lost);
    expect(loss.advice.find((text) => text.includes("not this socket's"))).toBeDefined();
    expect(loss.advice.find((text) => text.startsWith("The receive buffer"))).toBeUndefined();
  });

  test("what the filter refused is told apart from what found no room", () => {
    using socket = UdpSocket.bind(address);
    using client = UdpSocket.open(address);
    const window = new LossWindow(socket);
    socket.attachFilter(FilterProgram.dropAll);
    flood(client, socket, 7);
    const loss = window.take();
    expect(loss.socketDrops).toBe(7);
    expect(loss.protocol?.inErrors).toBeGreaterThanOrEqual(7);
    if (loss.protocol?.receiveBufferErrors === 0)
      expect(loss.advice[0]).toStartWith("The socket dropped 7 datagrams though it had room");
  });

  test("a port that nobody has is counted", () => {
    const closed = UdpSocket.bind(address);
    const to = closed.localAddress;
    closed.close();
    using socket = UdpSocket.bind(address);
    const window = new LossWindow(socket);
    socket.sendToSync("x", to);
    expect(window.take().protocol?.noPorts).toBeGreaterThanOrEqual(1);
  });
});

test("IPv4 that an IPv6 socket carries is counted, too", () => {
  using socket = UdpSocket.bind("[::]:0", SMALL);
  using client = UdpSocket.open("ipv4");
  const window = new LossWindow(socket);
  const { port } = socket.localAddress;
  for (let i = 0; i < SENT; i++) client.sendToSync("x", `127.0.0.1:${port}`);
  const loss = window.take();
  expect(loss.socketDrops + drain(socket)).toBe(SENT);
  expect(loss.protocol?.receiveBufferErrors).toBeGreaterThanOrEqual(loss.socketDrops);
});

test("counters of 32 bits wrap, and nothing is lost or gained", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  using batch = new TellingBatch({ capacity: 1, slotBytes: 16 });
  batch.count = 1;
  let drops = 2 ** 32 - 16;
  using _ = tellDrops(() => drops);
  const window = new LossWindow(socket);
  drops = 2 ** 32 - 1;
  batch.told = 2 ** 32 - 6;
  expect(window.take(batch)).toMatchObject({ socketDrops: 15, queueOverflow: 10 });
  drops = 4;
  batch.told = 4;
  expect(window.take(batch)).toMatchObject({ socketDrops: 5, queueOverflow: 10 });
  expect(window.take(batch)).toMatchObject({ socketDrops: 0, queueOverflow: 0 });
});

test("others are not blamed for what the socket dropped before UDP has counted it", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  using other = UdpSocket.bind("127.0.0.1:0", SMALL);
  using client = UdpSocket.open("ipv4");
  let drops = 0;
  using _ = tellDrops(() => drops);
  const window = new LossWindow(socket);
  // The socket has dropped 1,000,000 that UDP has not counted yet.
  drops = 1_000_000;
  expect(window.take().protocol?.otherSockets).toBe(0);
  // What is counted then is the socket's, until it is even.
  flood(client, other);
  expect(window.take().protocol?.otherSockets).toBe(0);
});

test.each([LO, "lo", "127.0.0.1"])("the interface %p is told by its name", (where) => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  const loss = new LossWindow(socket, { interface: where }).take();
  const { name, ...counts } = loss.interface as InterfaceLoss;
  expect(name).toBe("lo");
  // Others use it, too.
  expect(Object.keys(counts)).toEqual([
    "receiveErrors",
    "receiveDrops",
    "receiveOverruns",
    "sendErrors",
    "sendDrops",
  ]);
  for (const count of Object.values(counts)) expect(count).toBeGreaterThanOrEqual(0);
  expect(loss.backlogDrops).toBeGreaterThanOrEqual(0);
});

test("sockets of other protocols have no counters of UDP", () => {
  using listener = TcpListener.listen("127.0.0.1:0");
  using unix = UnixDatagramSocket.bind("unix:@");
  for (const socket of [listener, unix] as unknown as Socket[]) {
    const loss = new LossWindow(socket).take();
    expect([loss.socketDrops, loss.protocol]).toEqual([0, undefined]);
    expect(loss.receiveBuffer.effectiveBytes).toBeGreaterThan(0);
    expect(loss.advice.filter((text) => !text.includes("backlog"))).toEqual([]);
  }
});

test("LossWindow refuses what is none, and what is closed", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  for (const wrong of [undefined, null, 3, {}, { descriptor: 3 }])
    expect(() => new LossWindow(wrong as never)).toThrow(TypeError);
  for (const options of [null, 5, { interface: null }, { interface: "" }, { interface: {} }])
    expect(() => new LossWindow(socket, options as never)).toThrow(TypeError);
  const codes = (options: LossWindowOptions) =>
    systemErrorOf(() => new LossWindow(socket, options)).code;
  expect(codes({ interface: "bs-no-such-if" })).toBe("ENODEV");
  expect(codes({ interface: 2 ** 31 - 1 })).toBe("ENODEV");
  expect(codes({ interface: "192.0.2.77" })).toBe("EADDRNOTAVAIL");
  const window = new LossWindow(socket);
  for (const wrong of [null, 1, {}])
    expect(caught(() => window.take(wrong as never))).toBeInstanceOf(TypeError);
  {
    using _ = replaceLibc("getsockopt", () => () => failWith(EBADF));
    expect(caught(() => window.take())).toBeInstanceOf(ClosedError);
  }
  socket.close();
  expect(caught(() => window.take())).toBeInstanceOf(ClosedError);
  expect(caught(() => new LossWindow(socket))).toBeInstanceOf(ClosedError);
});

test("the kernel's files are read as they are, with whatever columns they have", () => {
  const snmp = parseSnmp("Ip: A InDiscards\nIp: 1 2\nUdp: InErrors New RcvbufErrors\nUdp: 3 4 5\n");
  expect([...snmp]).toEqual([
    ["IpA", 1],
    ["IpInDiscards", 2],
    ["UdpInErrors", 3],
    ["UdpNew", 4],
    ["UdpRcvbufErrors", 5],
  ]);
  const snmp6 = parseSnmp6("Ip6InDiscards    \t7\nUdp6InErrors                \t8\n");
  expect([snmp6.get("Ip6InDiscards"), snmp6.get("Udp6InErrors")]).toEqual([7, 8]);
  const head = "Inter-|   Receive |  Transmit\n face |bytes packets errs|bytes\n";
  const dev = `${head}    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36\n`;
  expect(parseDevice(dev, "lo")).toEqual({
    receiveErrors: 3,
    receiveDrops: 4,
    receiveOverruns: 5,
    sendErrors: 11,
    sendDrops: 12,
  });
  expect(parseDevice(dev, "eth0")?.sendDrops).toBe(32);
  expect(parseDevice(dev, "eth")).toBeUndefined();
  expect(parseSoftnet("00000001 ffffffff 00000000\n00000002 0000000a 00000000\n")).toEqual([
    2 ** 32 - 1,
    10,
  ]);
});
