/**
 * A host of our own on a cable, as far as ARP goes: arping(8) asks for it from another namespace.
 */
import { expect } from "bun:test";
import { ArpHeader, EthernetHeader, PacketSocket } from "bun-sockets/packet";
import { ARPOP_REPLY, ARPOP_REQUEST, ETH_P_ARP } from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";
import { makeTwoHosts } from "../support/two_hosts.ts";

const HOST = "10.77.0.9";
const HOST_VALUE = 0x0a4d0009;
const MAC = "02:00:00:00:00:77";
const ASKED = 3;
const LIMIT_MS = 20_000;

const missing =
  requires("arping", "ip", "unshare", "nsenter") ??
  (process.env["BUN_SOCKETS_NAMESPACE"] === "1" ? undefined : "needs a namespace of its own");

testIf(missing)("arping finds a host that only answers with header views", async () => {
  using hosts = makeTwoHosts("arp", 77);
  using socket = PacketSocket.open(hosts.near, { protocol: ETH_P_ARP, ignoreOutgoing: true });
  const frame = new Uint8Array(1514);
  const ethernet = new EthernetHeader(frame);
  const arp = new ArpHeader(frame);
  const asks = Bun.spawn(
    [...hosts.namespace.prefix, "arping", "-c", `${ASKED}`, "-w", "10", "-I", hosts.far, HOST],
    { stdin: "ignore", stderr: "pipe" },
  );
  let answered = 0;
  const ended = new AbortController();
  const exited = asks.exited.finally(() => ended.abort());
  while (answered < ASKED) {
    const length = await socket.receive(frame, { signal: ended.signal, timeoutMs: LIMIT_MS });
    expect(ethernet.at(0, length)).toBeTrue();
    expect(arp.at(ethernet.payloadOffset, ethernet.payloadEnd)).toBeTrue();
    if (arp.operation !== ARPOP_REQUEST || arp.targetProtocolValue !== HOST_VALUE) continue;
    // In place: the question becomes the answer.
    const asker = arp.senderHardwareValue;
    const from = arp.senderProtocolValue;
    arp.operation = ARPOP_REPLY;
    arp.targetHardwareValue = asker;
    arp.targetProtocolValue = from;
    arp.senderHardware = MAC;
    arp.senderProtocolValue = HOST_VALUE;
    ethernet.destinationValue = ethernet.sourceValue;
    ethernet.source = MAC;
    await socket.send(frame.subarray(0, length));
    answered++;
  }
  const said = await asks.stdout.text();
  expect(said).toContain(`Unicast reply from ${HOST} [${MAC.toUpperCase()}]`);
  expect(said).toContain(`Received ${ASKED} response(s)`);
  expect(await exited).toBe(0);
});

testIf(missing)("arping finds nobody where nobody answers", () => {
  using hosts = makeTwoHosts("none", 78);
  const { exitCode, stdout } = Bun.spawnSync([
    ...hosts.namespace.prefix,
    ...["arping", "-c", "1", "-w", "1", "-I", hosts.far, "10.78.0.9"],
  ]);
  expect(stdout.toString()).toContain("Received 0 response(s)");
  expect(exitCode).toBe(1);
});
