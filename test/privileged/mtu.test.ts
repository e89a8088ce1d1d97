import { afterAll, beforeAll, expect } from "bun:test";
import { DatagramBatch, UdpSocket } from "bun-sockets";
import { IP_MTU_DISCOVER, IPPROTO_IP, setsockopt } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";

const LINK = "bs-mtu";
// ip(7): "never fragment, always set DF".
const IP_PMTUDISC_DO = 2;

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
  ip("link", "add", LINK, "mtu", "1500", "type", "veth", "peer", "name", `${LINK}-peer`);
  ip("addr", "add", "192.0.2.1/24", "dev", LINK);
  ip("link", "set", LINK, "up");
  ip("link", "set", `${LINK}-peer`, "up");
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", LINK);
});

namespaced("a slot longer than the link carries unfragmented fails alone", () => {
  using server = UdpSocket.bind("127.0.0.1:0");
  using client = UdpSocket.open("ipv4");
  const option = new Int32Array(new ArrayBuffer(4)).fill(IP_PMTUDISC_DO);
  expect(setsockopt(client.descriptor, IPPROTO_IP, IP_MTU_DISCOVER, option)).toBe(0);
  using batch = new DatagramBatch({ capacity: 4, slotBytes: 4096 });
  batch.count = 4;
  // 1500 bytes hold 20 of IPv4, 8 of UDP and 1472 of ours. Nobody answers at 192.0.2.2.
  for (const [i, [length, to]] of [
    [3000, server.localAddress],
    [1473, "192.0.2.2:9"],
    [1472, "192.0.2.2:9"],
    [3000, server.localAddress],
  ].entries() as Iterable<[number, [number, string]]>) {
    batch.setLength(i, length);
    batch.setAddress(i, to);
  }
  expect(client.trySendBatch(batch)).toBe(3);
  expect([0, 1, 2, 3].map((i) => batch.failure(i))).toEqual([
    undefined,
    "EMSGSIZE",
    undefined,
    undefined,
  ]);
  expect(batch.failureError(1)).toMatchObject({
    destination: "192.0.2.2:9",
    hint: expect.stringContaining("pathMtuDiscovery"),
  });
  expect(batch.stopped).toBeUndefined();
  expect([0, 1].map(() => server.tryReceive(new Uint8Array(4096)))).toEqual([3000, 3000]);
});
