/** Control messages where the interface matters: two links, and addresses that mean nothing without. */
import { afterAll, beforeAll, expect } from "bun:test";
import { Ipv6Option, interfaceIndex, Message, UdpSocket } from "bun-sockets";
import { requires, testIf } from "../support/require.ts";
import { until } from "../support/waiting.ts";

const [NEAR, FAR] = ["bs-control", "bs-control-far"] as const;
const WAIT = { timeoutMs: 5000 };

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

function ip(...values: string[]): string {
  const { success, stdout, stderr } = Bun.spawnSync(["ip", ...values]);
  if (!success) throw new Error(`ip ${values.join(" ")}: ${stderr.toString()}`);
  return stdout.toString();
}

beforeAll(async () => {
  if (missing !== undefined) return;
  ip("link", "add", NEAR, "type", "veth", "peer", "name", FAR);
  ip("-6", "addr", "add", "fe80::a/64", "dev", NEAR, "nodad");
  ip("-6", "addr", "add", "fe80::b/64", "dev", FAR, "nodad");
  for (const link of [NEAR, FAR]) ip("link", "set", link, "up");
  const isReady = (link: string) => ip("link", "show", link).includes("state UP");
  await until(() => isReady(NEAR) && isReady(FAR), "both links are up");
});

afterAll(() => {
  if (missing === undefined) ip("link", "del", NEAR);
});

/** Receives one message, and the packet info that it came with. */
function receive(server: UdpSocket) {
  const message = new Message({ vectors: Buffer.alloc(16), controlBytes: 128 });
  server.receiveMessageSync(message, WAIT);
  const [info, ...others] = message.controlMessages();
  if (info?.kind !== "packetInfo" || others.length > 0) throw new Error("Expected a packet info");
  return { message, info };
}

namespaced("the address of one link is told with its zone, and answers with it", () => {
  using server = UdpSocket.bind("[::]:0");
  server.setOption(Ipv6Option.receivePacketInfo, true);
  const { port } = server.localAddress;
  for (const [to, told] of [
    [`fe80::b%${NEAR}`, `fe80::b%${interfaceIndex(FAR)}`],
    [`fe80::a%${NEAR}`, `fe80::a%${interfaceIndex(NEAR)}`],
  ] as const) {
    using client = UdpSocket.bind(`[fe80::a%${NEAR}]:0`);
    // It hears nobody else.
    client.connectSync(`[${to}]:${port}`);
    client.sendSync("why?");
    const { message, info } = receive(server);
    expect([info.address.host, info.localAddress?.host]).toEqual([told, told]);
    expect(`%${info.interfaceIndex}`).toBe(told.slice(told.indexOf("%")));
    message.vectors = Buffer.from("because");
    message.writer.addPacketInfo({ source: info.localAddress });
    expect(server.trySendMessage(message)).toBe(7);
    expect(client.receiveSync(new Uint8Array(16), WAIT)).toBe(7);
  }
});

namespaced("a datagram goes through the interface that it names, and tells its group", () => {
  using server = UdpSocket.bind("[::]:0");
  server.setOption(Ipv6Option.receivePacketInfo, true);
  // What this machine sends comes back to it, too.
  using client = UdpSocket.open("ipv6");
  client.setOption(Ipv6Option.multicastLoop, false);
  const { port } = server.localAddress;
  for (const [through, heardOn] of [
    [NEAR, FAR],
    [FAR, NEAR],
  ] as const) {
    const message = new Message({ vectors: Buffer.from("x"), controlBytes: 64 });
    message.address = `[ff02::1]:${port}`;
    message.writer.addPacketInfo({ interfaceIndex: interfaceIndex(through) }, "ipv6");
    expect(client.trySendMessage(message)).toBe(1);
    const { info } = receive(server);
    expect(info.address.host).toBe(`ff02::1%${interfaceIndex(heardOn)}`);
    expect([info.localAddress, info.interfaceIndex]).toEqual([undefined, interfaceIndex(heardOn)]);
  }
  expect(server.tryReceive(new Uint8Array(1))).toBeUndefined();
});
