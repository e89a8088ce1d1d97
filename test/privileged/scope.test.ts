import { afterAll, beforeAll, expect } from "bun:test";
import { DatagramBatch, type InetAddress, SystemError, UdpSocket } from "bun-sockets";
import { if_nametoindex } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";

const WAIT = { timeoutMs: 5000 };
// Two ends of one cable in this namespace, each with a link-local address.
const LEFT = "bs-left";
const RIGHT = "bs-right";

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
  ip("link", "add", LEFT, "type", "veth", "peer", "name", RIGHT);
  for (const [link, host] of [
    [LEFT, "fe80::a"],
    [RIGHT, "fe80::b"],
  ] as const) {
    ip("link", "set", link, "addrgenmode", "none");
    ip("link", "set", link, "up");
    ip("-6", "addr", "add", `${host}/64`, "dev", link, "nodad");
  }
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", LEFT);
});

function indexOf(link: string): number {
  return if_nametoindex(Buffer.from(`${link}\0`));
}

for (const kind of ["name", "number"] as const) {
  const zone = (link: string) => (kind === "name" ? link : `${indexOf(link)}`);

  namespaced(`link-local addresses with their scope by ${kind} carry singles both ways`, () => {
    using right = UdpSocket.bind(`[fe80::b%${zone(RIGHT)}]:0`);
    using left = UdpSocket.bind(`[fe80::a%${zone(LEFT)}]:0`);
    // The kernel answers with indexes, also where it was given a name.
    expect(`${right.localAddress}`).toBe(`[fe80::b%${indexOf(RIGHT)}]:${right.localAddress.port}`);
    const target = Buffer.alloc(16);
    left.sendToSync("question", `[fe80::b%${zone(LEFT)}]:${right.localAddress.port}`);
    const { length, address } = right.receiveFromSync(target, WAIT);
    expect(target.toString("utf8", 0, length)).toBe("question");
    expect(`${address}`).toBe(`[fe80::a%${indexOf(RIGHT)}]:${left.localAddress.port}`);
    right.sendToSync("answer", address as InetAddress);
    const back = left.receiveFromSync(target, WAIT);
    expect(target.toString("utf8", 0, back.length)).toBe("answer");
    expect(`${back.address}`).toBe(`[fe80::b%${indexOf(LEFT)}]:${right.localAddress.port}`);
  });

  namespaced(`link-local addresses with their scope by ${kind} carry batches both ways`, () => {
    using right = UdpSocket.bind("[::]:0");
    using left = UdpSocket.bind(`[fe80::a%${zone(LEFT)}]:0`);
    using batch = new DatagramBatch({ capacity: 4 });
    batch.count = 3;
    for (let i = 0; i < 3; i++) {
      batch.write(i, `datagram ${i}`);
      batch.setAddress(i, `[fe80::b%${zone(LEFT)}]:${right.localAddress.port}`);
    }
    expect(left.sendBatchSync(batch, 0, WAIT)).toBe(3);
    let echoed = 0;
    while (echoed < 3) {
      right.receiveBatchSync(batch, WAIT);
      for (let i = 0; i < batch.count; i++) {
        expect(`${batch.address(i)}`).toBe(`[fe80::a%${indexOf(RIGHT)}]:${left.localAddress.port}`);
      }
      echoed += right.sendBatchSync(batch, 0, WAIT);
    }
    const texts: string[] = [];
    while (texts.length < 3) {
      left.receiveBatchSync(batch, WAIT);
      for (let i = 0; i < batch.count; i++) texts.push(Buffer.from(batch.view(i)).toString());
    }
    expect(texts).toEqual(["datagram 0", "datagram 1", "datagram 2"]);
  });

  namespaced(`connect() takes a link-local peer with its scope by ${kind}`, () => {
    using right = UdpSocket.bind(`[fe80::b%${zone(RIGHT)}]:0`);
    using left = UdpSocket.open("ipv6");
    using batch = new DatagramBatch({ capacity: 4 });
    left.connectSync(`[fe80::b%${zone(LEFT)}]:${right.localAddress.port}`);
    expect(`${left.remoteAddress}`).toBe(`[fe80::b%${indexOf(LEFT)}]:${right.localAddress.port}`);
    for (let round = 0; round < 3; round++) {
      left.sendSync("question");
      expect(right.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(right.sendBatchSync(batch, 0, WAIT)).toBe(1);
      expect(left.receiveBatchSync(batch, WAIT)).toBe(1);
      expect(`${batch.address(0)}`).toBe(`${left.remoteAddress}`);
      expect(Buffer.from(batch.view(0)).toString()).toBe("question");
    }
  });
}

namespaced("the same host in another scope is another sender", () => {
  using batch = new DatagramBatch({ capacity: 2 });
  batch.count = 2;
  batch.setAddress(0, `[fe80::b%${LEFT}]:9`);
  batch.setAddress(1, `[fe80::b%${RIGHT}]:9`);
  expect([batch.sender(0), batch.sender(1)]).toEqual([0, 1]);
  expect(`${batch.address(0)}`).toBe(`[fe80::b%${indexOf(LEFT)}]:9`);
  expect(`${batch.address(1)}`).toBe(`[fe80::b%${indexOf(RIGHT)}]:9`);
});

namespaced("bind() and connect() refuse a link-local address without a scope by name", () => {
  using left = UdpSocket.open("ipv6");
  for (const [syscall, run] of [
    ["bind", () => UdpSocket.bind("[fe80::a]:0")],
    ["connect", () => left.connectSync("[fe80::b]:9")],
  ] as const) {
    let error: unknown;
    try {
      run();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(SystemError);
    expect(error).toMatchObject({ code: "EINVAL", syscall });
  }
  expect(left.connected).toBe(false);
});
