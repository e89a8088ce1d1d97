/**
 * Names of options that are misspelt: what would silently do nothing is refused.
 *
 * @module
 */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AddressList,
  DatagramBatch,
  hostByNameSync,
  Inet6Address,
  interfaces,
  LossWindow,
  Message,
  memberships,
  PingSocket,
  pollSync,
  RawSocket,
  resolve,
  resolveSync,
  reverseSync,
  Socket,
  TcpListener,
  TcpSocket,
  UdpSocket,
  UnixDatagramSocket,
  UnixListener,
  UnixSocket,
} from "bun-sockets";
import { CaptureFile, compileFilter, PacketRing, PacketSocket } from "bun-sockets/packet";
import { OPTION_NAMES } from "../../lib/internal/arguments.ts";
import { optionLike } from "../../lib/internal/misspelt.ts";
import { openDescriptors } from "../support/descriptors.ts";

const ANY = "127.0.0.1:0";
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-names-"));
const target = new Uint8Array(new ArrayBuffer(10));

// What a program in JavaScript passes, or one whose object has another type.
type Wrong = never;

describe("an option that is misspelt is refused, before anything is done", () => {
  const udp = UdpSocket.bind(ANY);
  const [left, right] = TcpSocket.pair();
  const [unix] = UnixSocket.pair();
  const listener = TcpListener.listen(ANY);
  const lost = { timeoutMS: 5 } as Wrong;
  const calls: readonly [name: string, call: () => unknown][] = [
    ["Socket.create", () => Socket.create("ipv4", "datagram", { protocoll: 0 } as Wrong)],
    ["Socket.pair", () => Socket.pair({ familly: "unix" } as Wrong)],
    ["Socket.adopt", () => Socket.adopt(udp.descriptor, { reusePorts: true } as Wrong)],
    ["UdpSocket.bind", () => UdpSocket.bind(ANY, { resuePort: true } as Wrong)],
    ["UdpSocket.open", () => UdpSocket.open("ipv4", { brodcast: true } as Wrong)],
    ["RawSocket.open", () => RawSocket.open("ipv4", { protocol: 1, HeaderIncluded: 1 } as Wrong)],
    ["PingSocket.open", () => PingSocket.open("ipv4", { sendBuffer: 5 } as Wrong)],
    ["TcpListener.listen", () => TcpListener.listen(ANY, { backLog: 5 } as Wrong)],
    ["TcpListener.listenAll", () => TcpListener.listenAll("localhost", 0, lost)],
    ["TcpSocket.connect", () => TcpSocket.connect(listener.localAddress, { nodelay: 1 } as Wrong)],
    ["TcpSocket.connectSync", () => TcpSocket.connectSync(listener.localAddress, lost)],
    ["UnixListener.listen", () => UnixListener.listen("unix:@x", { removestale: 1 } as Wrong)],
    ["UnixDatagramSocket.bind", () => UnixDatagramSocket.bind("unix:@y", lost)],
    ["UnixSocket.connectSync", () => UnixSocket.connectSync("unix:@nobody", { local: 1 } as Wrong)],
    ["connections", () => listener.connections({ singal: undefined } as Wrong)],
    ["acceptSync", () => listener.acceptSync(lost)],
    ["accept", () => listener.accept(lost)],
    ["receiveSync", () => udp.receiveSync(target, lost)],
    ["receive", () => udp.receive(target, lost)],
    ["receiveBytes", () => udp.receiveBytes(5, lost)],
    ["receiveFromSync", () => udp.receiveFromSync(target, lost)],
    ["receiveBatchSync", () => udp.receiveBatchSync(new DatagramBatch(), lost)],
    ["sendSync", () => left.sendSync("x", lost)],
    ["sendAllSync", () => left.sendAllSync("x", lost)],
    ["sendAll", () => left.sendAll("x", lost)],
    ["sendZeroCopySync", () => left.sendZeroCopySync("x", lost)],
    ["sendSegmentsSync", () => udp.sendSegmentsSync(target, { segmentbytes: 5 } as Wrong)],
    ["sendDescriptorsSync", () => unix.sendDescriptorsSync("x", [], lost)],
    ["receiveDescriptorsSync", () => unix.receiveDescriptorsSync(target, lost)],
    ["receiveExactlySync", () => left.receiveExactlySync(target, lost)],
    ["receiveExactly", () => left.receiveExactly(target, lost)],
    ["reader", () => left.reader({ limitByte: 5 } as Wrong)],
    ["readLineSync", () => left.reader().readLineSync(lost)],
    ["readUntilSync", () => left.reader().readUntilSync("x", { limitbytes: 5 } as Wrong)],
    ["writer", () => right.writer({ encodings: "latin1" } as Wrong)],
    ["sendFileSync", () => left.sendFileSync(import.meta.path, { ofset: 5 } as Wrong)],
    ["onBatch", () => udp.onBatch(() => {}, { slotBytess: 5 } as Wrong)],
    ["batches", () => udp.batches({ capasity: 5 } as Wrong)],
    ["errors", () => udp.errors({ signall: undefined } as Wrong)],
    ["join", () => udp.join("239.1.2.3", { Source: "127.0.0.1" } as Wrong)],
    ["memberships", () => memberships({ interfce: "lo" } as Wrong)],
    ["interfaces", () => interfaces({ famly: "ipv4" } as Wrong)],
    ["DatagramBatch", () => new DatagramBatch({ slotbytes: 5 } as Wrong)],
    ["Message", () => new Message({ controlByte: 5 } as Wrong)],
    ["LossWindow", () => new LossWindow(udp, { interfaces_: 5, Interface: 1 } as Wrong)],
    ["AddressList", () => new AddressList({ otherwize: "deny" } as Wrong)],
    ["Inet6Address", () => new Inet6Address("::1", 0, { flwo_: 1, FLOW: 5 } as Wrong)],
    ["pollSync", () => pollSync([{ socket: udp, write: true }], lost)],
    ["resolve", () => resolve("localhost", 0, { numeric_host: true } as Wrong)],
    ["resolveSync", () => resolveSync("localhost", 0, lost)],
    ["reverseSync", () => reverseSync(ANY, lost)],
    ["hostByNameSync", () => hostByNameSync("localhost", lost)],
    ["PacketSocket.open", () => PacketSocket.open("lo", { promiscous: true } as Wrong)],
    [
      "PacketSocket.open",
      () => PacketSocket.open("lo", { fanout: { grup: 1, Group: 1 } } as Wrong),
    ],
    ["PacketRing.open", () => PacketRing.open("lo", { blockTimeout: 5 } as Wrong)],
    ["CaptureFile.create", () => CaptureFile.create(join(folder, "z"), { snapbytes: 5 } as Wrong)],
    ["compileFilter", () => compileFilter("udp", { linktype: 1 } as Wrong)],
  ];

  test.each(calls)("%s", async (_, call) => {
    const before = openDescriptors();
    let error: unknown;
    try {
      await call();
    } catch (reason) {
      error = reason;
    }
    expect(error).toBeInstanceOf(TypeError);
    expect((error as TypeError).message).toMatch(/^Cannot use "\w+" as an option: expected \w+$/);
    expect(openDescriptors()).toBe(before);
  });

  test("and then the sockets are as they were", () => {
    expect(right.tryReceive(target)).toBeUndefined();
    for (const socket of [udp, left, right, unix, listener]) socket.close();
    rmSync(folder, { recursive: true });
  });
});

describe("what is no misspelt option is the caller's own", () => {
  test("one object is the options of several calls", () => {
    const common = { timeoutMs: 1000, signal: undefined, reusePort: true, capacity: 4, host: "x" };
    using udp = UdpSocket.bind(ANY, common);
    udp.connectSync(udp.localAddress, common);
    expect(udp.sendSync("abc", common)).toBe(3);
    using batch = new DatagramBatch(common);
    expect([udp.receiveSync(target, common), batch.capacity]).toEqual([3, 4]);
  });

  test("a name that is like an option is taken where the option itself is there", () => {
    using udp = UdpSocket.bind(ANY, { reusePort: true, reuseport: 1, resuePort: 2 } as Wrong);
    expect(udp.closed).toBeFalse();
  });

  test("what an object inherits counts, too, and what it hides does not", () => {
    const base = { timeoutMS: 5 };
    using udp = UdpSocket.bind(ANY);
    expect(() => udp.receiveSync(target, Object.create(base))).toThrow(TypeError);
    const hidden = Object.defineProperty({ timeoutMs: 0 }, "timeout", { value: 5 });
    expect(() => udp.receiveSync(target, hidden)).toThrow("timed out");
  });

  test.each([
    ["timeout", "timeoutMs"],
    ["timeoutMS", "timeoutMs"],
    ["timeout_ms", "timeoutMs"],
    ["timeoutms", "timeoutMs"],
    ["timeuotMs", "timeoutMs"],
    ["reuseAddr", "reuseAddress"],
    ["ipv6only", "ipv6Only"],
    ["recieveBufferBytes", "receiveBufferBytes"],
    ["backlogg", "backlog"],
    ["TTL", undefined],
    ["host", undefined],
    ["port", undefined],
    ["path", undefined],
    ["callback", undefined],
    ["allowHalfOpen", undefined],
    ["keepAlive", undefined],
    ["highWaterMark", undefined],
    ["constructor", undefined],
    ["__proto__", undefined],
    ["toString", undefined],
  ])("%s is %p", (name, expected) => {
    expect(optionLike(name, OPTION_NAMES)).toBe(expected as string);
  });
});

test("OPTION_NAMES has every name of every interface of options", async () => {
  const optionTypes =
    /^export interface \w*(?:Options|Hints|Request|DescriptorsMax)\b[^{]*\{\n(.*?)^\}/gms;
  const missing: string[] = [];
  let found = 0;
  const lib = join(import.meta.dir, "../../lib");
  for (const file of [
    ...new Bun.Glob("*.ts").scanSync(lib),
    ...new Bun.Glob("packet/*.ts").scanSync(lib),
  ]) {
    const text = await Bun.file(join(lib, file)).text();
    for (const [, body = ""] of text.replace(/\/\*.*?\*\//gs, "").matchAll(optionTypes))
      for (const [, name = ""] of body.matchAll(/^ {2}(?:readonly )?(\w+)\??:/gm)) {
        found++;
        if (!OPTION_NAMES.has(name)) missing.push(`${file}: ${name}`);
      }
  }
  expect(missing).toEqual([]);
  expect(found).toBeGreaterThan(100);
});
