/**
 * Frames that our headers have written, and what the kernel of another namespace makes of them: it
 * looks at every checksum and answers what is right; and frames of its own, whose checksums it has
 * left unfinished.
 */
import { afterAll, beforeAll, expect } from "bun:test";
import { DatagramBatch, TcpListener, UdpSocket } from "bun-sockets";
import { LinkType, PacketSocket, PacketView } from "bun-sockets/packet";
import { ip, makeNamespace, type Namespace } from "../support/namespaces.ts";
import { requires, testIf } from "../support/require.ts";

const NEAR = "bs-hd0";
const FAR = "bs-hd1";
const NEAR_MAC = "02:00:00:00:00:0a";
const FAR_MAC = "02:00:00:00:00:0b";
// The far end's addresses, and those that we pretend to have.
const FAR4 = "192.0.2.2";
const NEAR4 = "192.0.2.1";
const FAR6 = "2001:db8:7::2";
const NEAR6 = "2001:db8:7::1";
const LIMIT = { timeoutMs: 5000 };

const missing =
  process.env["BUN_SOCKETS_NAMESPACE"] === "1"
    ? requires("ip", "unshare", "nsenter")
    : "needs a network namespace of its own";
const namespaced = testIf(missing);

let far: Namespace;
let wire: PacketSocket;
const memory = new Uint8Array(2048);
const packet = new PacketView(memory);
const answer = new Uint8Array(65_536);
const answered = new PacketView(answer);

beforeAll(() => {
  if (missing !== undefined) return;
  far = makeNamespace();
  const peer = ["peer", "name", FAR, "address", FAR_MAC, "netns", `${far.processId}`];
  ip("link", "add", NEAR, "address", NEAR_MAC, "type", "veth", ...peer);
  ip("link", "set", NEAR, "addrgenmode", "none", "up");
  far.ip("link", "set", FAR, "addrgenmode", "none", "up");
  far.ip("addr", "add", `${FAR4}/24`, "dev", FAR);
  far.ip("addr", "add", `${FAR6}/64`, "dev", FAR, "nodad");
  // It need not ask where we are.
  for (const address of [NEAR4, NEAR6])
    far.ip("neigh", "add", address, "lladdr", NEAR_MAC, "dev", FAR, "nud", "permanent");
  wire = PacketSocket.open(NEAR, { ignoreOutgoing: true });
  untilAnswered();
});

afterAll(() => {
  if (missing !== undefined) return;
  wire.close();
  ip("link", "del", NEAR);
  far[Symbol.dispose]();
});

type Family = 4 | 6;

/** Begins a frame from us to the far end: everything but what its IP packet carries. */
function begin(family: Family, protocol: number, length: number): number {
  memory.fill(0);
  const bytes = family === 4 ? 34 : 54;
  // What `at` looks at has to be there before.
  new DataView(memory.buffer).setUint16(12, family === 4 ? 0x0800 : 0x86dd);
  memory[14] = family === 4 ? 0x45 : 0x60;
  expect(packet.at(0, bytes + length)).toBeTrue();
  const { ethernet, ipv4, ipv6 } = packet;
  if (!ethernet) throw new Error("no Ethernet header");
  ethernet.source = NEAR_MAC;
  ethernet.destination = FAR_MAC;
  if (ipv4) {
    ipv4.totalLength = 20 + length;
    ipv4.ttl = 64;
    ipv4.protocol = protocol;
    ipv4.source = NEAR4;
    ipv4.destination = FAR4;
    ipv4.fillChecksum();
  }
  if (ipv6) {
    ipv6.payloadLength = length;
    ipv6.hopLimit = 64;
    ipv6.nextHeader = protocol;
    ipv6.source = NEAR6;
    ipv6.destination = FAR6;
  }
  // A length of TCP's header, which `at` looks at, too.
  if (protocol === 6) memory[bytes + 12] = 0x50;
  expect(packet.at(0, bytes + length)).toBeTrue();
  return bytes;
}

function makeUdp(family: Family, port: number, text: string): void {
  const at = begin(family, 17, 8 + text.length);
  memory.set(Buffer.from(text), at + 8);
  const { udp, ip: header } = packet;
  if (!udp || !header) throw new Error("no UDP header");
  udp.sourcePort = 40_000;
  udp.destinationPort = port;
  udp.length = 8 + text.length;
  udp.fillChecksum(header);
}

function send(): void {
  const { ethernet } = packet;
  wire.sendSync(memory.subarray(0, ethernet?.end), LIMIT);
}

/** The next frame from the far end that is such a one. */
function receive(wanted: (view: PacketView) => boolean, limit = LIMIT): void {
  const end = performance.now() + limit.timeoutMs;
  for (;;) {
    const length = wire.receiveSync(answer, { timeoutMs: Math.max(0, end - performance.now()) });
    if (answered.at(0, length) && wanted(answered)) return;
  }
}

function makeEcho(family: Family, identifier: number): void {
  begin(family, family === 4 ? 1 : 58, 12);
  const { icmp, icmpv6, ip: header } = packet;
  if (icmp) {
    icmp.type = 8;
    icmp.identifier = identifier;
    icmp.sequence = 7;
    icmp.fillChecksum();
  }
  if (icmpv6 && header) {
    icmpv6.type = 128;
    icmpv6.identifier = identifier;
    icmpv6.sequence = 7;
    icmpv6.fillChecksum(header);
  }
}

// The kernel learns of a carrier later than `ip` returns, and loses what is sent until then.
function untilAnswered(): void {
  const end = performance.now() + LIMIT.timeoutMs;
  for (const family of [4, 6] as const) {
    for (;;) {
      if (performance.now() > end) throw new Error("The cable is not up");
      makeEcho(family, 1);
      try {
        send();
        receive((view) => (view.icmp ?? view.icmpv6) !== undefined, { timeoutMs: 50 });
        break;
      } catch {
        Bun.sleepSync(1);
      }
    }
  }
}

for (const family of [4, 6] as const) {
  const bind = (): UdpSocket =>
    far.inside(() => UdpSocket.bind(family === 4 ? `${FAR4}:0` : `[${FAR6}]:0`));
  const receiveText = (socket: UdpSocket): string => {
    const target = new Uint8Array(100);
    return Buffer.from(target.subarray(0, socket.receiveSync(target, LIMIT))).toString();
  };

  namespaced(
    `the kernel takes a UDP datagram over IPv${family} with our checksum, and none with a wrong one`,
    () => {
      using socket = bind();
      const { port } = socket.localAddress;
      for (const text of ["", "a", "odd", "even"]) {
        makeUdp(family, port, text);
        const { udp } = packet;
        if (!udp) throw new Error("no UDP header");
        udp.checksum = udp.checksum === 0xffff ? 1 : udp.checksum + 1;
        send();
        makeUdp(family, port, text);
        send();
        // The wrong one would have come first, and twice.
        makeUdp(family, port, `after ${text}`);
        send();
        expect([receiveText(socket), receiveText(socket)]).toEqual([text, `after ${text}`]);
      }
    },
  );

  namespaced(`the kernel takes what was rewritten in place over IPv${family}`, () => {
    using socket = bind();
    const { port } = socket.localAddress;
    makeUdp(family, 9, "rewritten");
    const { udp, ipv4, ipv6 } = packet;
    if (!udp) throw new Error("no UDP header");
    if (ipv4) {
      ipv4.destinationValue = 0x0102_0304;
      ipv4.fillChecksum();
      udp.fillChecksum(ipv4);
      // From here on nothing but the changes is looked at.
      ipv4.rewriteDestination(0xc000_0202, udp);
      ipv4.rewriteSource(0xc000_0263, udp);
      expect(ipv4.decrementTtl()).toBeTrue();
    }
    if (ipv6) {
      ipv6.destination = "2001:db8:ffff::ffff";
      udp.fillChecksum(ipv6);
      const address = Buffer.from("20010db8000700000000000000000002", "hex");
      ipv6.rewriteDestination(address, 0, udp);
      address[15] = 0x63;
      ipv6.rewriteSource(address, 0, udp);
      expect(ipv6.decrementHopLimit()).toBeTrue();
    }
    udp.rewriteDestinationPort(port);
    udp.rewriteSourcePort(1234);
    send();
    const target = new Uint8Array(100);
    const { length, address } = socket.receiveFromSync(target, LIMIT);
    expect(Buffer.from(target.subarray(0, length)).toString()).toBe("rewritten");
    const sender = family === 4 ? "192.0.2.99:1234" : "[2001:db8:7::63]:1234";
    expect(`${address}`).toBe(sender);
  });

  namespaced(
    `the kernel answers an echo over IPv${family} of our making, and we understand it`,
    () => {
      makeEcho(family, 0x1234);
      send();
      receive(({ icmp, icmpv6 }) => (icmp ?? icmpv6)?.identifier === 0x1234);
      const { icmp, icmpv6, ip: header, ipv4, ethernet } = answered;
      const echo = icmp ?? icmpv6;
      expect([echo?.type, echo?.sequence]).toEqual([family === 4 ? 0 : 129, 7]);
      if (!header) throw new Error("no IP header");
      expect(echo?.checksumStatus(header)).toBe("valid");
      if (ipv4) expect(ipv4.checksumIsValid).toBeTrue();
      expect(header.source).toBe(family === 4 ? FAR4 : FAR6);
      expect(header.destination).toBe(family === 4 ? NEAR4 : NEAR6);
      expect([ethernet?.source, ethernet?.destination]).toEqual([FAR_MAC, NEAR_MAC]);
    },
  );

  namespaced(
    `the kernel answers a TCP segment over IPv${family} whose option was rewritten`,
    () => {
      using listener = far.inside(() =>
        TcpListener.listen(family === 4 ? `${FAR4}:0` : `[${FAR6}]:0`),
      );
      const { port } = listener.localAddress as { port: number };
      const at = begin(family, 6, 28);
      memory[at + 12] = 0x70;
      memory.set(Buffer.from("020405b401030307", "hex"), at + 20);
      const { tcp, ip: header } = packet;
      if (!tcp || !header) throw new Error("no TCP header");
      tcp.headerBytes = 28;
      tcp.sourcePort = 41_000;
      tcp.destinationPort = port;
      tcp.sequence = 0xffff_fff0;
      tcp.syn = true;
      tcp.window = 65_535;
      tcp.fillChecksum(header);
      expect(tcp.rewriteMaximumSegmentBytes(600)).toBeTrue();
      send();
      receive((view) => view.tcp?.destinationPort === 41_000);
      const { tcp: reply, ip: from } = answered;
      if (!reply || !from) throw new Error("no TCP header");
      const { syn, ack, rst, acknowledgment, sourcePort } = reply;
      expect({ syn, ack, rst, acknowledgment, sourcePort }).toEqual({
        syn: true,
        ack: true,
        rst: false,
        acknowledgment: 0xffff_fff1,
        sourcePort: port,
      });
      expect(reply.maximumSegmentBytes).toBe(family === 4 ? 1460 : 1440);
      expect(reply.windowScale).toBeNumber();
      // Left to a device that a cable of this kind has not.
      const status = reply.checksumStatus(from);
      expect(["unfinished", "valid"]).toContain(status);
      reply.fillChecksum(from);
      expect(reply.checksumStatus(from)).toBe("valid");
    },
  );

  namespaced(
    `a datagram of the kernel's over IPv${family} is unfinished, by our sum as by its word`,
    () => {
      using receiver = PacketSocket.open(NEAR, {
        ignoreOutgoing: true,
        auxiliaryData: true,
        protocol: family === 4 ? 0x0800 : 0x86dd,
      });
      using batch = new DatagramBatch({
        capacity: 4,
        slotBytes: 2048,
      });
      using socket = bind();
      socket.sendToSync("unfinished", family === 4 ? `${NEAR4}:9` : `[${NEAR6}]:9`, LIMIT);
      const view = new PacketView(batch.memory);
      const find = (): number => {
        for (;;) {
          receiver.receiveBatchSync(batch, LIMIT);
          for (let i = 0; i < batch.count; i++)
            if (
              view.at(batch.offset(i), batch.offset(i) + batch.length(i), LinkType.ethernet) &&
              view.udp
            )
              return i;
        }
      };
      const slot = find();
      const { udp, ip: header } = view;
      if (!udp || !header) throw new Error("no UDP header");
      expect(batch.checksum(slot)).toBe("unfinished");
      expect(udp.checksumStatus(header)).toBe("unfinished");
      expect(udp.checksumStatus(header, batch.checksum(slot))).toBe("unfinished");
      expect(udp.checksum).toBe(header.pseudoHeaderSum(17, udp.length));
      udp.fillChecksum(header);
      expect(udp.checksumStatus(header)).toBe("valid");
    },
  );
}

namespaced("the kernel answers an ARP request of our making, and we understand it", () => {
  memory.fill(0);
  const view = new DataView(memory.buffer);
  view.setUint16(12, 0x0806);
  view.setUint8(18, 6);
  view.setUint8(19, 4);
  expect(packet.at(0, 42)).toBeTrue();
  const { arp, ethernet } = packet;
  if (!arp || !ethernet) throw new Error("no ARP packet");
  ethernet.source = NEAR_MAC;
  ethernet.destination = "ff:ff:ff:ff:ff:ff";
  arp.hardwareType = 1;
  arp.protocolType = 0x0800;
  arp.operation = 1;
  arp.senderHardware = NEAR_MAC;
  arp.senderProtocol = NEAR4;
  arp.targetProtocol = FAR4;
  send();
  receive((found) => found.arp?.operation === 2);
  const { senderHardware, senderProtocol, targetHardware, targetProtocol } = answered.arp ?? {};
  expect({ senderHardware, senderProtocol, targetHardware, targetProtocol }).toEqual({
    senderHardware: FAR_MAC,
    senderProtocol: FAR4,
    targetHardware: NEAR_MAC,
    targetProtocol: NEAR4,
  });
});
