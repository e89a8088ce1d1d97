/** What the kernel knows of each datagram of a batch, where a machine has many addresses. */
import { afterAll, beforeAll, expect } from "bun:test";
import {
  DatagramBatch,
  type InetAddress,
  IpOption,
  Ipv6Option,
  SocketOption,
  UdpSocket,
} from "bun-sockets";
import { if_nametoindex } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
// A network of which we are many hosts, and two ends of one cable.
const NET = "bs-net";
const LEFT = "bs-left";
const RIGHT = "bs-right";
const HOSTS4 = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
// The first one ends like an IPv4-mapped one, and is none.
const HOSTS6 = ["2001:db8:77::ffff:a4d:1", "2001:db8:77::2", "2001:db8:77::3"];

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

function ip(...values: string[]): void {
  const { success, stderr } = Bun.spawnSync(["ip", ...values]);
  if (!success) throw new Error(`ip ${values.join(" ")}: ${stderr.toString()}`);
}

beforeAll(() => {
  if (missing !== undefined) return;
  ip("link", "add", NET, "type", "veth", "peer", "name", "bs-net-far");
  ip("link", "add", LEFT, "type", "veth", "peer", "name", RIGHT);
  for (const [link, host] of [
    [NET, "fe80::1"],
    ["bs-net-far", "fe80::2"],
    [LEFT, "fe80::a"],
    [RIGHT, "fe80::b"],
  ] as const) {
    ip("link", "set", link, "addrgenmode", "none");
    ip("link", "set", link, "up");
    ip("-6", "addr", "add", `${host}/64`, "dev", link, "nodad");
  }
  for (const host of HOSTS4)
    ip("addr", "add", `${host}/24`, "broadcast", "10.77.0.255", "dev", NET);
  for (const host of HOSTS6) ip("-6", "addr", "add", `${host}/64`, "dev", NET, "nodad");
});

afterAll(() => {
  if (missing !== undefined) return;
  ip("link", "del", NET);
  ip("link", "del", LEFT);
});

function indexOf(link: string): number {
  return if_nametoindex(Buffer.from(`${link}\0`));
}

function askAll(udp: UdpSocket): void {
  udp.setOption(IpOption.receivePacketInfo, true);
  if (udp.family === "ipv6") udp.setOption(Ipv6Option.receivePacketInfo, true);
}

function slotsOf(batch: DatagramBatch): number[] {
  return Array.from({ length: batch.count }, (_, i) => i);
}

function host(address: InetAddress | undefined): string | undefined {
  return address?.host;
}

for (const [name, all, hosts, client] of [
  ["IPv4", "0.0.0.0:0", HOSTS4, "10.77.0.1:0"],
  ["IPv6", "[::]:0", HOSTS6, "[2001:db8:77::ffff:a4d:1]:0"],
  ["IPv4 to an IPv6 socket", "[::]:0", HOSTS4, "10.77.0.1:0"],
] as const)
  namespaced(`reply() answers from each address of a machine that was hit (${name})`, () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using asker = UdpSocket.bind(client);
    using batch = new DatagramBatch({ capacity: 16 });
    const { port } = server.localAddress;
    const asked = [...hosts, ...hosts.toReversed()];
    for (const to of asked)
      asker.sendToSync(to, to.includes(":") ? `[${to}]:${port}` : `${to}:${port}`);
    expect(server.receiveBatchSync(batch, WAIT)).toBe(asked.length);
    const shown = (to: string) => (all === "[::]:0" && !to.includes(":") ? `::ffff:${to}` : to);
    expect(slotsOf(batch).map((i) => host(batch.destination(i)))).toEqual(asked.map(shown));
    // One object for each address.
    expect(batch.destination(0)).toBe(batch.destination(asked.length - 1) as InetAddress);
    batch.reply();
    expect(server.trySendBatch(batch)).toBe(asked.length);
    expect(asker.receiveBatchSync(batch, WAIT)).toBe(asked.length);
    expect(slotsOf(batch).map((i) => host(batch.address(i) as InetAddress))).toEqual(asked);
  });

namespaced("destination() and reply() know the interface of link-local addresses", () => {
  using server = UdpSocket.bind("[::]:0");
  askAll(server);
  using client = UdpSocket.bind(`[fe80::a%${LEFT}]:0`);
  client.sendToSync("question", `[fe80::b%${LEFT}]:${server.localAddress.port}`);
  using batch = new DatagramBatch({ capacity: 4 });
  expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
  expect(`${batch.destination(0)}`).toBe(`[fe80::b%${indexOf(RIGHT)}]:0`);
  expect(batch.interfaceIndex(0)).toBe(indexOf(RIGHT));
  batch.reply();
  // Where the peer is says its interface, and it is enough that one of both does.
  batch.setAddress(0, `[fe80::a]:${client.localAddress.port}`);
  expect([server.trySendBatch(batch), batch.failure(0)]).toEqual([1, undefined]);
  expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
  expect(`${batch.address(0)}`).toBe(`[fe80::b%${indexOf(LEFT)}]:${server.localAddress.port}`);
});

namespaced("setInterfaceIndex() and the scope of setSource() choose the interface", () => {
  using server = UdpSocket.bind(`[fe80::b%${RIGHT}]:0`);
  using client = UdpSocket.open("ipv6");
  using batch = new DatagramBatch({ capacity: 4 });
  batch.count = 4;
  for (const i of slotsOf(batch)) {
    batch.write(i, `${i}`);
    batch.setAddress(i, `[fe80::b]:${server.localAddress.port}`);
  }
  batch.setInterfaceIndex(0, indexOf(LEFT));
  batch.setSource(1, `[fe80::a%${LEFT}]:0`);
  batch.setInterfaceIndex(3, 4242);
  client.trySendBatch(batch);
  expect([0, 1, 3].map((i) => batch.failure(i))).toEqual([undefined, undefined, "ENODEV"]);
  // The third has taken a way of its own: an address of ours is near by.
  expect(server.receiveBatchSync(batch, WAIT)).toBeGreaterThanOrEqual(2);
  const left = `[fe80::a%${indexOf(RIGHT)}]:${client.localAddress.port}`;
  const came = slotsOf(batch).map((i) => [`${Buffer.from(batch.view(i))}`, `${batch.address(i)}`]);
  const byLeft = came.filter(([, from]) => from === left).map(([text]) => text);
  expect(byLeft).toEqual(["0", "1"]);
});

for (const all of ["0.0.0.0:0", "[::]:0"])
  namespaced(`reply() answers a broadcast from an address of the interface (${all})`, () => {
    using server = UdpSocket.bind(all);
    askAll(server);
    using client = UdpSocket.bind("10.77.0.2:0", { broadcast: true });
    client.sendToSync("who is there?", `10.77.0.255:${server.localAddress.port}`);
    using batch = new DatagramBatch({ capacity: 4 });
    expect(server.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(host(batch.destination(0))).toEndWith("10.77.0.255");
    batch.reply();
    expect([server.trySendBatch(batch), batch.failure(0)]).toEqual([1, undefined]);
    expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
    expect(host(batch.address(0) as InetAddress)).toBe("10.77.0.1");
  });

namespaced("reply() answers a group by the route where only IPv6 tells of it", () => {
  using server = UdpSocket.bind("[::]:0");
  server.setOption(Ipv6Option.receivePacketInfo, true);
  using client = UdpSocket.bind(`[fe80::a%${LEFT}]:0`);
  // All nodes of the link: every host has joined.
  client.sendToSync("who is there?", `[ff02::1%${LEFT}]:${server.localAddress.port}`);
  using batch = new DatagramBatch({ capacity: 4 });
  expect(server.receiveBatchSync(batch, WAIT)).toBeGreaterThanOrEqual(1);
  expect(`${batch.destination(0)}`).toMatch(/^\[ff02::1%\d+\]:0$/);
  const came = slotsOf(batch).map((i) => batch.interfaceIndex(i));
  const slot = came.indexOf(indexOf(RIGHT));
  expect(slot).toBeGreaterThanOrEqual(0);
  batch.reply(slot);
  batch.keep([slot]);
  expect([server.trySendBatch(batch), batch.failure(0)]).toEqual([1, undefined]);
  expect(client.receiveBatchSync(batch, WAIT)).toBe(1);
  expect(`${batch.address(0)}`).toBe(`[fe80::b%${indexOf(LEFT)}]:${server.localAddress.port}`);
});

namespaced("mark() tells the mark that setMark() has set", () => {
  for (const loopback of ["127.0.0.1:0", "[::1]:0"]) {
    using server = UdpSocket.bind(loopback);
    using client = UdpSocket.bind(loopback);
    using batch = new DatagramBatch({ capacity: 8 });
    const marks = [1, 0xffff_ffff, 0x8000_0000, 0, undefined];
    const send = () => {
      using outgoing = new DatagramBatch({ capacity: 8 });
      outgoing.count = marks.length;
      for (const [i, mark] of marks.entries()) {
        outgoing.write(i, "x");
        outgoing.setAddress(i, server.localAddress);
        outgoing.setMark(i, mark);
      }
      expect(client.trySendBatch(outgoing)).toBe(marks.length);
      expect(server.receiveBatchSync(batch, WAIT)).toBe(marks.length);
    };
    send();
    expect(slotsOf(batch).map((i) => batch.mark(i))).toEqual(marks.map(() => -1));
    server.setOption(SocketOption.receiveMark, true);
    send();
    expect(slotsOf(batch).map((i) => batch.mark(i))).toEqual(marks.map((mark) => mark ?? 0));
    using asked = UdpSocket.bind(loopback, { metadata: ["mark"] });
    expect(asked.getOption(SocketOption.receiveMark)).toBe(true);
  }
});

testIf(missing ?? requires("setpriv"))(
  "setMark() without the right fails its slot with EPERM",
  () => {
    const script = `
    import { DatagramBatch, UdpSocket } from "bun-sockets";
    const server = UdpSocket.bind("127.0.0.1:0");
    const client = UdpSocket.open("ipv4");
    const batch = new DatagramBatch();
    batch.count = 3;
    for (let i = 0; i < 3; i++) {
      batch.write(i, "x");
      batch.setAddress(i, server.localAddress);
    }
    batch.setMark(1, 7);
    console.log(client.trySendBatch(batch), batch.failure(1));
  `;
    const drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    const { stdout, stderr } = Bun.spawnSync([...drop, process.execPath, "-e", script], {
      cwd: `${import.meta.dir}/../..`,
    });
    expect(`${stdout}${stderr}`).toBe("2 EPERM\n");
  },
);
