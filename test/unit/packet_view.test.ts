import { describe, expect, test } from "bun:test";
import { LinkType, type LinkTypeName, PacketView } from "../../lib/packet/index.ts";

const MACS = "020000000001020000000002";
const IPV4 = "4500001f00004000 40110000 c0000201 c0000202".replaceAll(" ", "");
const UDP = "0035c000000b0000616263";
const IPV6 = `60000000000b1140${"20010db8000000000000000000000001".repeat(2)}`;
const SLL = "0000000100060200000000010000";

function view(hex: string, linkType?: LinkTypeName | number): PacketView {
  const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
  const packet = new PacketView(
    Buffer.concat([Buffer.alloc(9, 0xff), bytes, Buffer.alloc(9, 0xff)]),
  );
  expect(packet.at(9, 9 + bytes.length, linkType)).toBeTrue();
  return packet;
}

function names(packet: PacketView): string[] {
  return packet.layers.map((layer) => layer.constructor.name.replace("Header", ""));
}

describe("PacketView", () => {
  const cases: readonly [
    what: string,
    linkType: LinkTypeName | number,
    hex: string,
    layers: string,
  ][] = [
    ["UDP", "ethernet", `${MACS}0800${IPV4}${UDP}`, "Ethernet Ipv4 Udp"],
    ["UDP over IPv6", 1, `${MACS}86dd${IPV6}${UDP}`, "Ethernet Ipv6 Udp"],
    ["a VLAN", 1, `${MACS}8100 0001 0800${IPV4}${UDP}`, "Ethernet Vlan Ipv4 Udp"],
    [
      "VLANs in VLANs",
      1,
      `${MACS}88a8 0001 8100 0002 9100 0003 0800${IPV4}${UDP}`,
      "Ethernet Vlan Vlan Vlan Ipv4 Udp",
    ],
    [
      "TCP",
      "raw",
      `${IPV4.replace("4011", "4006")}${"00".repeat(12)}50${"00".repeat(7)}`.replace(
        "001f",
        "0028",
      ),
      "Ipv4 Tcp",
    ],
    ["ICMP", "ipv4", `${IPV4.replace("4011", "4001")}0800000000000000616263`, "Ipv4 Icmp"],
    ["ICMPv6", "ipv6", `${IPV6.replace("1140", "3a40")}8000000000000000616263`, "Ipv6 Icmpv6"],
    ["ICMPv6 not in IPv4", "raw", `${IPV4.replace("4011", "403a")}8000000000000000616263`, "Ipv4"],
    ["ICMP not in IPv6", "raw", `${IPV6.replace("1140", "0140")}8000000000000000616263`, "Ipv6"],
    ["IP as older files say it", 12, `${IPV4}${UDP}`, "Ipv4 Udp"],
    ["IP as OpenBSD's files say it", 14, `${IPV6}${UDP}`, "Ipv6 Udp"],
    [
      "ARP",
      1,
      `${MACS}0806 0001080006040001${MACS.slice(0, 12)}c0000201${"00".repeat(6)}c0000202${"00".repeat(18)}`,
      "Ethernet Arp",
    ],
    ["cooked", "linux_sll", `${SLL}0800${IPV4}${UDP}`, "Cooked Ipv4 Udp"],
    [
      "cooked, second version",
      "linux_sll2",
      `86dd0000 00000001 0001 0006 0200000000010000 ${IPV6}${UDP}`,
      "Cooked2 Ipv6 Udp",
    ],
    ["loopback of a little-endian machine", "null", `02000000${IPV4}${UDP}`, "Loopback Ipv4 Udp"],
    ["loopback of OpenBSD", "loop", `00000018${IPV6}${UDP}`, "Loopback Ipv6 Udp"],
    ["another protocol", 1, `${MACS}88cc0203`, "Ethernet"],
    ["half of an IP header", 1, `${MACS}0800${IPV4.slice(0, 30)}`, "Ethernet"],
    ["half of a UDP header", 1, `${MACS}0800${IPV4}${UDP.slice(0, 10)}`, "Ethernet Ipv4"],
    ["half of a VLAN tag", 1, `${MACS}81000001`, "Ethernet"],
    ["IPv6 that says it is IPv4", 1, `${MACS}0800${IPV6}${UDP}`, "Ethernet"],
    ["a later fragment", "raw", `${IPV4.replace("00004000", "00000001")}${UDP}`, "Ipv4"],
  ];

  test.each(cases)("finds the headers of %s", (_, linkType, hex, layers) => {
    const packet = view(hex, linkType);
    expect(names(packet).join(" ")).toBe(layers);
    for (const layer of packet.layers) expect(layer.isPresent).toBeTrue();
  });

  test("gives what is there, and undefined for the rest", () => {
    const packet = view(`${MACS}8100 a064 0800${IPV4}${UDP}${"ee".repeat(6)}`);
    const { ethernet, vlan, ipv4, udp, ip, etherType, vlanCount, memory } = packet;
    expect([ethernet?.source, vlan?.id, ipv4?.source, udp?.sourcePort]).toEqual([
      "02:00:00:00:00:02",
      100,
      "192.0.2.1",
      53,
    ]);
    expect([ip, etherType, vlanCount]).toEqual([ipv4, 0x0800, 1]);
    const { arp, ipv6, tcp, icmp, icmpv6, cooked, cooked2, loopback } = packet;
    const absent = [arp, ipv6, tcp, icmp, icmpv6, cooked, cooked2, loopback, packet.vlanAt(1)];
    expect(absent).toEqual(new Array(9).fill(undefined));
    // The padding is behind.
    const { payloadOffset, payloadEnd } = packet;
    expect(
      Buffer.from(memory.buffer, memory.byteOffset).toString("latin1", payloadOffset, payloadEnd),
    ).toBe("abc");
    expect(packet.offset).toBe(9);
  });

  test("has the payload behind the last header that it knows", () => {
    const behind = (packet: PacketView) => [packet.payloadOffset - 9, packet.payloadEnd - 9];
    expect(behind(view(`${MACS}88cc020304`))).toEqual([14, 17]);
    expect(behind(view(`${MACS}8100 0001 88cc 0203`))).toEqual([18, 20]);
    expect(behind(view(`${IPV4.replace("4011", "4084")}${UDP}00`, "raw"))).toEqual([20, 31]);
    const chain = IPV6.replace("000b11", "001300");
    expect(behind(view(`${chain}84000104 00000000 ${UDP}00`, "raw"))).toEqual([48, 59]);
    expect(behind(view(`${MACS}0005 0102030405 0000`))).toEqual([14, 19]);
  });

  test("moves the same headers from frame to frame, and forgets what was in the last", () => {
    const first = Buffer.from(`${MACS}81000001 0800${IPV4}${UDP}`.replaceAll(" ", ""), "hex");
    const second = Buffer.from(`${MACS}86dd${IPV6}${UDP}`, "hex");
    const packet = new PacketView(Buffer.concat([first, second]));
    expect(packet.at(0, first.length)).toBeTrue();
    const { ethernet, udp } = packet;
    expect(packet.at(first.length, first.length + second.length)).toBeTrue();
    expect(packet.ethernet).toBe(ethernet);
    expect(packet.udp).toBe(udp);
    expect(names(packet).join(" ")).toBe("Ethernet Ipv6 Udp");
    expect(packet.vlan).toBeUndefined();
    expect(packet.at(0, 13)).toBeFalse();
    expect([packet.layers, packet.ethernet, packet.ip, packet.etherType]).toEqual([
      [],
      undefined,
      undefined,
      0,
    ]);
    expect([packet.offset, packet.payloadOffset, packet.payloadEnd]).toEqual([0, 0, 0]);
  });

  test("looks into the packet that an ICMP error is about, with another of its kind", () => {
    const inner = `${IPV4}${UDP}`;
    const outer = view(
      `${IPV4.replace("001f", "003b").replace("4011", "4001")}0303000000000000${inner}`,
      "raw",
    );
    const within = new PacketView(outer.memory);
    expect(outer.icmp?.isError).toBeTrue();
    const { payloadOffset, payloadEnd } = outer;
    expect(within.at(payloadOffset, payloadEnd, "raw")).toBeTrue();
    expect([within.udp?.sourcePort, outer.udp]).toEqual([53, undefined]);
  });

  test("stops after 8 VLAN tags", () => {
    const packet = view(`${MACS}${"81000001".repeat(9)}0800${IPV4}${UDP}`);
    expect([packet.vlanCount, packet.vlanAt(7)?.id, packet.vlanAt(8), packet.etherType]).toEqual([
      8,
      1,
      undefined,
      0x8100,
    ]);
    expect(packet.ipv4).toBeUndefined();
  });

  test("refuses link types that it does not know, and frames that are not there", () => {
    const packet = new PacketView(Buffer.alloc(64));
    for (const linkType of [
      LinkType.ppp,
      LinkType.ieee802_11,
      LinkType.netlink,
      65_535,
      -1,
      Number.NaN,
    ])
      expect(packet.at(0, 64, linkType)).toBeFalse();
    expect(() => packet.at(0, 64, "none" as LinkTypeName)).toThrow(TypeError);
    expect(() => packet.at(0, 64, null as unknown as number)).toThrow(TypeError);
    const wrong: [number, number][] = [
      [0, 65],
      [-1, 64],
      [64, 65],
      [0.5, 60],
      [Number.NaN, 64],
      [0, Number.NaN],
      [1, 0],
      [32, 40],
    ];
    for (const [offset, end] of wrong) expect(packet.at(offset, end)).toBeFalse();
    expect(packet.at("0" as unknown as number, 64)).toBeFalse();
    expect(packet.at(0, 64)).toBeTrue();
  });

  test("moves to another memory with all of its headers", () => {
    const packet = new PacketView(Buffer.alloc(64));
    expect(packet.at(0, 64, "linux_sll")).toBeTrue();
    const frame = Buffer.from(`${SLL}8100 0001 0800${IPV4}${UDP}`.replaceAll(" ", ""), "hex");
    expect(packet.of(frame)).toBe(packet);
    expect(packet.layers).toEqual([]);
    expect(packet.at(0, frame.length, "linux_sll")).toBeTrue();
    expect(packet.udp?.memory.buffer).toBe(frame.buffer);
    expect(
      packet.of(Buffer.concat([frame, frame])).at(frame.length, 2 * frame.length, "linux_sll"),
    ).toBeTrue();
    expect([packet.udp?.sourcePort, packet.vlan?.id]).toEqual([53, 1]);
    expect(() => new PacketView("frame" as unknown as Uint8Array)).toThrow(TypeError);
    expect(() => packet.of(new Uint8Array(new SharedArrayBuffer(64)))).toThrow(TypeError);
  });
});
