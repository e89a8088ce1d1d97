/** What LossWindow tells in a network namespace of its own, where nobody else counts: exact numbers. */
import { afterAll, beforeAll, expect } from "bun:test";
import { DatagramBatch, FilterProgram, LossWindow, SocketOption, UdpSocket } from "bun-sockets";
import { systemErrorOf } from "../support/errors.ts";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const LINK = "bs-loss";
const PEER = "bs-loss-far";
const SMALL = { receiveBufferBytes: 8192 };
const ZERO = {
  inErrors: 0,
  receiveBufferErrors: 0,
  checksumErrors: 0,
  memoryErrors: 0,
  otherSockets: 0,
  noPorts: 0,
  sendBufferErrors: 0,
  discards: 0,
  outDiscards: 0,
  reassemblyFailures: 0,
};

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter", "python3")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

let far: Namespace;

beforeAll(() => {
  if (missing !== undefined) return;
  far = makeNamespace();
  ip(
    "link",
    "add",
    LINK,
    "mtu",
    "4000",
    "type",
    "veth",
    "peer",
    "name",
    PEER,
    "netns",
    `${far.processId}`,
  );
  ip("addr", "add", "192.0.2.1/24", "dev", LINK);
  far.ip("addr", "add", "192.0.2.2/24", "dev", PEER);
  ip("link", "set", LINK, "up");
  far.ip("link", "set", PEER, "up");
});

afterAll(() => {
  if (missing !== undefined) return;
  ip("link", "del", LINK);
  far[Symbol.dispose]();
});

function python(prefix: readonly string[], script: string, ...values: string[]): void {
  const { exitCode, stderr } = Bun.spawnSync([...prefix, "python3", "-c", script, ...values]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}

function drain(socket: UdpSocket): number {
  const target = new Uint8Array(10);
  let count = 0;
  while (socket.tryReceive(target) !== undefined) count++;
  return count;
}

for (const address of ["127.0.0.1:0", "[::1]:0"]) {
  namespaced(`what two sockets lost is told apart, to the datagram (${address})`, () => {
    using socket = UdpSocket.bind(address, SMALL);
    using other = UdpSocket.bind(address, SMALL);
    using client = UdpSocket.open(address);
    const window = new LossWindow(socket);
    for (const count of [100, 200, 0, 400]) {
      for (let i = 0; i < count; i++) client.sendToSync("x", socket.localAddress);
      for (let i = 0; i < 2 * count; i++) client.sendToSync("x", other.localAddress);
      const loss = window.take();
      expect(loss.socketDrops).toBe(count - drain(socket));
      const lostByOther = 2 * count - drain(other);
      expect(loss.protocol).toEqual({
        ...ZERO,
        inErrors: loss.socketDrops + lostByOther,
        receiveBufferErrors: loss.socketDrops + lostByOther,
        otherSockets: lostByOther,
      });
    }
  });
}

namespaced("what the filter refused is told by the advice", () => {
  using socket = UdpSocket.bind("127.0.0.1:0", SMALL);
  using client = UdpSocket.open("ipv4");
  const window = new LossWindow(socket);
  socket.attachFilter(FilterProgram.dropAll);
  for (let i = 0; i < 3; i++) client.sendToSync("x", socket.localAddress);
  const refused = window.take();
  expect([refused.socketDrops, refused.protocol]).toEqual([3, { ...ZERO, inErrors: 3 }]);
  expect(refused.advice).toEqual([
    "The socket dropped 3 datagrams though it had room: its filter refused them, or they came damaged",
  ]);
  socket.detachFilter();
  for (let i = 0; i < 100; i++) client.sendToSync("x", socket.localAddress);
  const { advice, socketDrops } = window.take();
  expect(advice).toHaveLength(1);
  expect(advice[0]).toStartWith(`The receive buffer had no room for ${socketDrops} datagrams: `);
  expect(advice[0]).toContain("{ receiveBufferBytes: 16384 }");
});

// Datagrams whose checksum is wrong, through the loopback interface.
const DAMAGED = `
import socket, struct, sys
port, length = int(sys.argv[1]), int(sys.argv[2])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
for i in range(4):
    s.sendto(struct.pack("!HHHH", 9, port, 8 + length, 0x1234 + i) + b"x" * length, ("127.0.0.1", 0))
`;

namespaced("what came damaged is told, and that it is not for lack of room", () => {
  using socket = UdpSocket.bind("127.0.0.1:0");
  const window = new LossWindow(socket);
  const damaged =
    "4 datagrams with a wrong checksum: they came damaged, from the link or their sender";
  // Long ones are looked at when they are read.
  python([], DAMAGED, `${socket.localAddress.port}`, "200");
  expect(drain(socket)).toBe(0);
  const long = window.take();
  expect([long.socketDrops, long.protocol]).toEqual([
    4,
    { ...ZERO, inErrors: 4, checksumErrors: 4 },
  ]);
  expect(long.advice).toEqual([
    "The socket dropped 4 datagrams though it had room: its filter refused them, or they came damaged",
    damaged,
  ]);
  // Short ones before a socket is looked for.
  python([], DAMAGED, `${socket.localAddress.port}`, "1");
  const short = window.take();
  expect([short.socketDrops, short.protocol]).toEqual([
    0,
    { ...ZERO, inErrors: 4, checksumErrors: 4, otherSockets: 4 },
  ]);
  expect(short.advice).toEqual([expect.stringContaining("or they came damaged"), damaged]);
});

// Frames of a protocol that nobody knows.
const STRANGE = `
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for i in range(int(sys.argv[2])): s.send(b"\\xff" * 6 + b"\\x02\\0\\0\\0\\0\\x01" + b"\\x99\\x99" + b"\\0" * 50)
`;

namespaced("what the interface dropped is told, in both directions", async () => {
  using socket = UdpSocket.bind("192.0.2.1:0");
  const window = new LossWindow(socket, { interface: LINK });
  python(far.prefix, STRANGE, PEER, "5");
  let received = 0;
  const advice: string[] = [];
  while (received < 5) {
    const loss = window.take();
    received += loss.interface?.receiveDrops ?? 0;
    advice.push(...loss.advice);
    await Bun.sleep(1);
  }
  expect(received).toBe(5);
  expect(advice.join()).toContain(`${LINK} dropped 5 packets that came: enlarge its ring`);
  expect(window.take().interface?.receiveDrops).toBe(0);

  // The other end takes 1500 bytes only.
  const payload = new Uint8Array(3000);
  // Before the first one the neighbour is asked for.
  ip("neigh", "replace", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", LINK);
  for (let i = 0; i < 3; i++) socket.sendToSync(payload, "192.0.2.2:9");
  const sent = window.take();
  expect(sent.interface).toEqual({
    name: LINK,
    receiveErrors: 0,
    receiveDrops: 0,
    receiveOverruns: 0,
    sendErrors: 0,
    sendDrops: 3,
  });
  expect(sent.protocol).toEqual({ ...ZERO, sendBufferErrors: 3, outDiscards: 3 });
  expect(sent.advice.at(-1)).toStartWith(`${LINK} dropped 3 packets that were to go`);
});

namespaced("a fragment that is missing loses the datagram, which is told", async () => {
  ip("link", "set", LINK, "mtu", "1500");
  ip("-4", "neigh", "flush", "dev", LINK);
  await Bun.write("/proc/sys/net/ipv4/ipfrag_time", "1");
  using socket = UdpSocket.bind("192.0.2.1:0");
  const window = new LossWindow(socket);
  const FRAGMENT = `
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 7, 0x2000, 64, 17, 0, socket.inet_aton("192.0.2.2"), socket.inet_aton("192.0.2.1"))
s.sendto(head + struct.pack("!HHHH", 9, int(sys.argv[1]), 100, 0) + b"x" * 8, ("192.0.2.1", 0))
`;
  python(far.prefix, FRAGMENT, `${socket.localAddress.port}`);
  let failures = 0;
  while (failures === 0) {
    const loss = window.take();
    failures += loss.protocol?.reassemblyFailures ?? 0;
    if (failures > 0) expect(loss.advice[0]).toContain("of which a fragment was missing");
    else await Bun.sleep(20);
  }
  expect(failures).toBe(1);
  expect(socket.tryReceive(new Uint8Array(10))).toBeUndefined();
});

namespaced("an interface that has gone is undefined, and one that is back begins anew", () => {
  const add = () => {
    ip("link", "add", "bs-loss-2", "type", "veth", "peer", "name", "bs-loss-3");
    ip("link", "set", "bs-loss-2", "up");
    ip("link", "set", "bs-loss-3", "up");
  };
  add();
  using socket = UdpSocket.bind("127.0.0.1:0");
  const window = new LossWindow(socket, { interface: "bs-loss-2" });
  expect(window.take().interface?.name).toBe("bs-loss-2");
  ip("link", "del", "bs-loss-2");
  expect(window.take().interface).toBeUndefined();
  add();
  expect(window.take().interface).toMatchObject({ receiveDrops: 0, sendDrops: 0 });
  python([], STRANGE, "bs-loss-3", "9");
  let drops = 0;
  while (drops < 9) drops += window.take().interface?.receiveDrops ?? 0;
  // It counts from 0 again, and has less than before.
  ip("link", "del", "bs-loss-2");
  add();
  expect(window.take().interface).toMatchObject({ receiveDrops: 0, sendDrops: 0 });
  ip("link", "del", "bs-loss-2");
});

namespaced("a socket of another namespace tells its own losses only", () => {
  using there = far.inside(() => UdpSocket.bind("127.0.0.1:0", SMALL));
  using client = far.inside(() => UdpSocket.open("ipv4"));
  using batch = new DatagramBatch({ capacity: 8, slotBytes: 16 });
  using here = UdpSocket.open("ipv4");
  const cookies = [there, client, here].map((each) => each.getOption(SocketOption.netnsCookie));
  expect([cookies[0] === cookies[1], cookies[0] === cookies[2]]).toEqual([true, false]);
  const window = new LossWindow(there);
  for (let i = 0; i < 100; i++) client.sendToSync("x", there.localAddress);
  expect(there.tryReceiveBatch(batch)).toBe(8);
  const loss = window.take(batch);
  expect(loss.socketDrops).toBe(100 - 8 - drain(there));
  expect([loss.protocol, loss.interface]).toEqual([undefined, undefined]);
  expect(loss.advice[0]).toStartWith("The receive buffer had no room");
  const error = systemErrorOf(() => new LossWindow(there, { interface: PEER }));
  expect([error.code, error.hint]).toEqual([
    "ENODEV",
    expect.stringContaining("network namespace"),
  ]);
  expect(systemErrorOf(() => new LossWindow(there, { interface: LINK })).code).toBe("ENODEV");
});
