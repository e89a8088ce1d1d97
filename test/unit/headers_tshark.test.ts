/**
 * What our headers read of some hundreds of frames, and what tshark prints for the same: one
 * capture file, one run. The frames are put together without any of our code, but for the checksums
 * of every other one, which tshark then judges.
 *
 * @module
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type HeaderOptions,
  Ipv6ExtensionHeader,
  LinkType,
  PacketView,
} from "../../lib/packet/index.ts";
import { requires, testIf } from "../support/require.ts";

/** The values of a field, of the outer packet first, then of one that is in it. */
type Values = Record<string, (string | number)[]>;

interface Frame {
  readonly name: string;
  readonly linkType: number;
  readonly bytes: Buffer;
  /** How long it was, where it was not captured whole. */
  readonly originalLength?: number;
}

// A fixed seed: the same frames in every run.
let state = 0x2545_f491;
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}
const u8 = (value: number) => Buffer.of(value);
const u16 = (value: number) => Buffer.of(value >>> 8, value & 0xff);
const u32 = (value: number) => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)]);
const hex = (text: string) => Buffer.from(text.replace(/\s/g, ""), "hex");
const noise = (length: number) => Buffer.from(Array.from({ length }, () => random(256)));
const join_ = (...parts: readonly Buffer[]) => Buffer.concat(parts);

const mac = () => join_(u8(2 + 4 * random(60)), noise(5));
const ethernet = (type: number, ...rest: Buffer[]) => join_(mac(), mac(), u16(type), ...rest);
const tag = (type: number, ...rest: Buffer[]) => join_(u16(random(0x10000)), u16(type), ...rest);
const address4 = () => join_(hex("c000"), u8(2), u8(1 + random(250)));
const address6 = () => join_(hex("20010db8"), noise(12));

interface Ip4 {
  options?: Buffer;
  fragment?: number;
  length?: number;
}

function ipv4(
  protocol: number,
  data: Buffer,
  { options = Buffer.alloc(0), fragment, length }: Ip4 = {},
): Buffer {
  const bytes = 20 + options.length;
  return join_(
    u8(0x40 | (bytes / 4)),
    u8(random(256)),
    u16(length ?? bytes + data.length),
    u16(random(0x10000)),
    u16(fragment ?? [0, 0x4000][random(2)] ?? 0),
    u8(1 + random(255)),
    u8(protocol),
    u16(random(0x10000)),
    address4(),
    address4(),
    options,
    data,
  );
}

function ipv6(next: number, data: Buffer): Buffer {
  const first = u32((0x6000_0000 | random(0x1000_0000)) >>> 0);
  return join_(
    first,
    u16(data.length),
    u8(next),
    u8(1 + random(255)),
    address6(),
    address6(),
    data,
  );
}

// Ports that no dissector of an application listens on.
const port = () => u16(50_000 + random(1000));
const udp = (data: Buffer) =>
  join_(port(), port(), u16(8 + data.length), u16(1 + random(0xffff)), data);

function tcp(data: Buffer, options = Buffer.alloc(0)): Buffer {
  const length = (20 + options.length) / 4;
  return join_(
    port(),
    port(),
    noise(8),
    u16((length << 12) | random(0x200)),
    u16(random(0x10000)),
    u16(random(0x10000)),
    u16(random(0x10000)),
    options,
    data,
  );
}

const TCP_OPTIONS = [
  "020405b4 01 030307 0402 080a 00000064 000000c8 0000".replace("0402 ", "0402"),
  "020405b4 0402 080a deadbeef 00000000 01 030309",
  "0101 080a 01020304 fffffffe",
  "0101 050a 00000001 00000010",
  "0101 051a 00000001 00000010 00000020 00000030 fffffff0 00000000",
  "02040218 00000000",
  "1e0c 0081 1111111111111111",
];
const IPV4_OPTIONS = [
  "94040000",
  "0107070400000000",
  "44 0c 05 00 0000000000000000",
  "01010100",
  "8307 04 0a000001 00",
];

// A chain of extension headers: each is given what follows it.
type Extension = readonly [type: number, make: (next: number) => Buffer];
const hopByHop: Extension = [0, (next) => join_(u8(next), hex("00 0502 0000 0100"))];
const destination: Extension = [
  60,
  (next) => join_(u8(next), hex("01 010c 000000000000000000000000")),
];
const routing: Extension = [43, (next) => join_(u8(next), hex("02 02 00 00000000"), address6())];
const fragment = (bits: number): Extension => [
  44,
  (next) => join_(u8(next), u8(0), u16(bits), noise(4)),
];
const authentication: Extension = [51, (next) => join_(u8(next), hex("04 0000"), noise(20))];

function chain(extensions: readonly Extension[], last: number, data: Buffer): Buffer {
  const [first, ...rest] = extensions;
  if (!first) return data;
  return join_(first[1](rest[0]?.[0] ?? last), chain(rest, last, data));
}
const extended = (extensions: readonly Extension[], last: number, data: Buffer) =>
  ipv6(extensions[0]?.[0] ?? last, chain(extensions, last, data));

const icmp = (type: number, code: number, rest: string | Buffer, data: Buffer) =>
  join_(
    u8(type),
    u8(code),
    u16(random(0x10000)),
    typeof rest === "string" ? hex(rest) : rest,
    data,
  );

function makeFrames(): Frame[] {
  const frames: Frame[] = [];
  const add = (
    name: string,
    bytes: Buffer,
    linkType: number = LinkType.ethernet,
    originalLength?: number,
  ) => frames.push({ name, linkType, bytes, ...(originalLength && { originalLength }) });

  for (let round = 0; round < 12; round++) {
    const data = noise(1 + random(40));
    add("udp", ethernet(0x0800, ipv4(17, udp(data))));
    add("udp, odd", ethernet(0x0800, ipv4(17, udp(noise(round)))));
    add("udp, padded", ethernet(0x0800, ipv4(17, udp(noise(3))), Buffer.alloc(18)));
    add("udp, none", ethernet(0x0800, ipv4(17, join_(port(), port(), u16(12), u16(0), noise(4)))));
    add("udp over ipv6", ethernet(0x86dd, ipv6(17, udp(data))));
    add("tcp", ethernet(0x0800, ipv4(6, tcp(data))));
    add("tcp over ipv6", ethernet(0x86dd, ipv6(6, tcp(data))));
    add("vlan", ethernet(0x8100, tag(0x0800, ipv4(17, udp(data)))));
    add("vlan in vlan", ethernet(0x88a8, tag(0x8100, tag(0x86dd, ipv6(6, tcp(data))))));
    add("three vlans", ethernet(0x88a8, tag(0x8100, tag(0x8100, tag(0x0800, ipv4(6, tcp(data)))))));
    add("echo", ethernet(0x0800, ipv4(1, icmp(8, 0, noise(4), data))));
    add("echo over ipv6", ethernet(0x86dd, ipv6(58, icmp(128, 0, noise(4), data))));
    const arp = join_(hex("0001080006040001"), mac(), address4(), mac(), address4());
    add("arp", ethernet(0x0806, arp));
    add("first fragment", ethernet(0x0800, ipv4(17, udp(noise(16)), { fragment: 0x2000 })));
    add("later fragment", ethernet(0x0800, ipv4(17, noise(24), { fragment: 1 + random(0x1fff) })));
    const cut = ipv4(17, udp(noise(100)));
    add(
      "cut",
      ethernet(0x0800, cut.subarray(0, 40 + random(60))),
      LinkType.ethernet,
      14 + cut.length,
    );
  }
  for (const options of TCP_OPTIONS) {
    const segment = tcp(noise(5), hex(options));
    add(`tcp options ${options}`, ethernet(0x0800, ipv4(6, segment)));
    add(`tcp options ${options} over ipv6`, ethernet(0x86dd, ipv6(6, segment)));
  }
  for (const options of IPV4_OPTIONS) {
    add(
      `ipv4 options ${options}`,
      ethernet(0x0800, ipv4(17, udp(noise(9)), { options: hex(options) })),
    );
  }
  const chains: readonly (readonly Extension[])[] = [
    [hopByHop],
    [destination],
    [routing],
    [fragment(0)],
    [fragment(1)],
    [authentication],
    [hopByHop, destination, routing, destination],
    [hopByHop, routing, fragment(1), authentication, destination],
  ];
  for (const [i, extensions] of chains.entries()) {
    add(`extensions ${i}, udp`, ethernet(0x86dd, extended(extensions, 17, udp(noise(11)))));
    add(`extensions ${i}, tcp`, ethernet(0x86dd, extended(extensions, 6, tcp(noise(8)))));
    add(
      `extensions ${i}, icmpv6`,
      ethernet(0x86dd, extended(extensions, 58, icmp(128, 0, noise(4), noise(7)))),
    );
    add(`extensions ${i}, none`, ethernet(0x86dd, extended(extensions, 59, Buffer.alloc(0))));
  }
  add("later fragment of ipv6", ethernet(0x86dd, extended([fragment(0x0009)], 17, noise(24))));
  const inner4 = () => ipv4(17, udp(noise(12))).subarray(0, 28);
  add("unreachable", ethernet(0x0800, ipv4(1, icmp(3, 3, "00000000", inner4()))));
  add("fragmentation needed", ethernet(0x0800, ipv4(1, icmp(3, 4, "000004b0", inner4()))));
  add("redirect", ethernet(0x0800, ipv4(1, icmp(5, 1, address4(), inner4()))));
  add("time exceeded", ethernet(0x0800, ipv4(1, icmp(11, 0, "00000000", ipv4(6, tcp(noise(3)))))));
  add("parameter problem", ethernet(0x0800, ipv4(1, icmp(12, 0, "14000000", inner4()))));
  const inner6 = () => extended([hopByHop], 17, udp(noise(12)));
  add("unreachable, ipv6", ethernet(0x86dd, ipv6(58, icmp(1, 4, "00000000", inner6()))));
  add("too big", ethernet(0x86dd, ipv6(58, icmp(2, 0, "00000500", inner6()))));
  add(
    "hop limit, ipv6",
    ethernet(0x86dd, ipv6(58, icmp(3, 0, "00000000", ipv6(6, tcp(noise(3)))))),
  );
  add("parameter problem, ipv6", ethernet(0x86dd, ipv6(58, icmp(4, 1, "00000028", inner6()))));
  const source = () => join_(hex("0101"), mac());
  const neighbours: readonly (readonly [string, number, string | Buffer, Buffer])[] = [
    ["router solicitation", 133, "00000000", source()],
    [
      "router advertisement",
      134,
      "40d80708",
      join_(hex("000075300000 03e8 0501 0000 00000578"), source()),
    ],
    ["neighbour solicitation", 135, "00000000", join_(address6(), source())],
    ["neighbour advertisement", 136, "60000000", join_(address6(), hex("0201"), mac())],
    ["neighbour advertisement of a router", 136, "80000000", join_(address6(), hex("0201"), mac())],
    ["redirect, ipv6", 137, "00000000", join_(address6(), address6(), source())],
  ];
  for (const [name, type, rest, data] of neighbours)
    add(name, ethernet(0x86dd, ipv6(58, icmp(type, 0, rest, data))));
  add(
    "reply of arp",
    ethernet(
      0x0806,
      hex("0001080006040002"),
      mac(),
      address4(),
      mac(),
      address4(),
      Buffer.alloc(18),
    ),
  );
  const sll = (type: number) => join_(u16(random(5)), u16(1), u16(6), mac(), u16(0), u16(type));
  const sll2 = (type: number) =>
    join_(u16(type), u16(0), u32(1 + random(99)), u16(1), u8(random(5)), u8(6), mac(), u16(0));
  add("cooked", join_(sll(0x0800), ipv4(17, udp(noise(4)))), LinkType.linux_sll);
  add("cooked, ipv6", join_(sll(0x86dd), ipv6(6, tcp(noise(4)))), LinkType.linux_sll);
  add("cooked, vlan", join_(sll(0x8100), tag(0x0800, ipv4(6, tcp(noise(4))))), LinkType.linux_sll);
  add("cooked 2", join_(sll2(0x0800), ipv4(6, tcp(noise(4)))), LinkType.linux_sll2);
  add(
    "cooked 2, arp",
    join_(sll2(0x0806), hex("0001080006040001"), mac(), address4(), mac(), address4()),
    LinkType.linux_sll2,
  );
  add("null", join_(hex("02000000"), ipv4(17, udp(noise(4)))), LinkType.null);
  add("null, ipv6", join_(hex("1e000000"), ipv6(17, udp(noise(4)))), LinkType.null);
  add("loop", join_(hex("00000002"), ipv4(6, tcp(noise(4)))), LinkType.loop);
  add("loop, ipv6", join_(hex("00000018"), ipv6(6, tcp(noise(4)))), LinkType.loop);
  add("raw", ipv4(17, udp(noise(4))), LinkType.raw);
  add("raw, ipv6", ipv6(17, udp(noise(4))), LinkType.raw);
  add("ipv4", ipv4(6, tcp(noise(4))), LinkType.ipv4);
  add("ipv6", ipv6(6, tcp(noise(4))), LinkType.ipv6);
  // Every other one gets checksums that are right.
  for (const [i, frame] of frames.entries()) if (i % 2 === 0) fillChecksums(frame);
  return frames;
}

function fillChecksums({ bytes, linkType }: Frame): void {
  const packet = new PacketView(bytes);
  packet.at(0, bytes.length, linkType);
  const { ip, ipv4: header4, udp: u, tcp: t, icmp: i, icmpv6: i6 } = packet;
  header4?.fillChecksum();
  if (!ip || ip.isTruncated) return;
  if (u && u.checksum !== 0) u.fillChecksum(ip);
  t?.fillChecksum(ip);
  i?.fillChecksum();
  i6?.fillChecksum(ip);
}

// A section, an interface for each link type, and the frames: draft-ietf-opsawg-pcapng.
function pcapngOf(frames: readonly Frame[]): Buffer {
  const block = (type: number, body: Buffer) => {
    const padded = join_(body, Buffer.alloc((4 - (body.length % 4)) % 4));
    const head = Buffer.alloc(8);
    head.writeUInt32LE(type, 0);
    head.writeUInt32LE(padded.length + 12, 4);
    return join_(head, padded, head.subarray(4));
  };
  const le = (format: string, ...values: number[]) =>
    join_(
      ...values.map((value, i) => {
        const bytes = Buffer.alloc(format[i] === "H" ? 2 : 4);
        bytes.writeUIntLE(value, 0, bytes.length);
        return bytes;
      }),
    );
  const linkTypes = [...new Set(frames.map(({ linkType }) => linkType))];
  return join_(
    block(0x0a0d_0d0a, join_(le("IHH", 0x1a2b_3c4d, 1, 0), Buffer.alloc(8, 0xff))),
    ...linkTypes.map((linkType) => block(1, le("HHI", linkType, 0, 0))),
    ...frames.map(({ linkType, bytes, originalLength }) => {
      const place = linkTypes.indexOf(linkType);
      return block(
        6,
        join_(le("IIIII", place, 0, 0, bytes.length, originalLength ?? bytes.length), bytes),
      );
    }),
  );
}

const STATUS = { wrong: 0, valid: 1, unknown: 2, none: 3, unfinished: 4 };

/** What our headers read, under the names of tshark's fields. */
function ours(bytes: Buffer, linkType: number): Values {
  const values: Values = {};
  collect(values, bytes, 0, bytes.length, linkType);
  return values;
}

function collect(
  values: Values,
  bytes: Buffer,
  offset: number,
  end: number,
  linkType: number,
  start = offset,
): void {
  const packet = new PacketView(bytes);
  expect(packet.at(offset, end, linkType)).toBeTrue();
  const put = (fields: Record<string, string | number | boolean | undefined>) => {
    for (const [name, value] of Object.entries(fields)) {
      if (value === undefined) continue;
      values[name] = [...(values[name] ?? []), typeof value === "boolean" ? Number(value) : value];
    }
  };
  const putOptions = (name: string, options: HeaderOptions | undefined) => {
    while (options?.next()) put({ [name]: options.kind });
  };
  const { ethernet: eth, cooked, cooked2, loopback, arp, ipv4: ip4, ipv6: ip6, ip } = packet;
  if (eth) put({ "eth.dst": eth.destination, "eth.src": eth.source, "eth.type": eth.etherType });
  if (cooked)
    put({
      "sll.pkttype": cooked.packetType,
      "sll.hatype": cooked.hardwareType,
      "sll.halen": cooked.addressBytes,
      "sll.src.eth": cooked.address,
      "sll.etype": cooked.protocol,
    });
  if (cooked2)
    put({
      "sll.etype": cooked2.protocol,
      "sll.ifindex": cooked2.interfaceIndex,
      "sll.hatype": cooked2.hardwareType,
      "sll.pkttype": cooked2.packetType,
      "sll.halen": cooked2.addressBytes,
      "sll.src.eth": cooked2.address,
    });
  if (loopback) put({ "null.family": loopback.family });
  for (let i = 0; i < packet.vlanCount; i++) {
    const vlan = packet.vlanAt(i);
    // An outer tag of IEEE 802.1ad has fields of its own.
    const isOuter = i === 0 && eth?.etherType === 0x88a8;
    const prefix = isOuter ? "ieee8021ad" : "vlan";
    put({
      [`${prefix}.priority`]: vlan?.priority,
      [`${prefix}.dei`]: vlan?.isDropEligible,
      [`${prefix}.id`]: vlan?.id,
    });
    if (!isOuter) put({ "vlan.etype": vlan?.etherType });
  }
  if (arp)
    put({
      "arp.hw.type": arp.hardwareType,
      "arp.proto.type": arp.protocolType,
      "arp.hw.size": arp.hardwareBytes,
      "arp.proto.size": arp.protocolBytes,
      "arp.opcode": arp.operation,
      "arp.src.hw_mac": arp.senderHardware,
      "arp.src.proto_ipv4": arp.senderProtocol,
      "arp.dst.hw_mac": arp.targetHardware,
      "arp.dst.proto_ipv4": arp.targetProtocol,
    });
  if (ip4) {
    put({
      "ip.version": ip4.version,
      "ip.hdr_len": ip4.headerBytes,
      "ip.dsfield": ip4.typeOfService,
      "ip.dsfield.dscp": ip4.dscp,
      "ip.dsfield.ecn": ip4.ecn,
      "ip.len": ip4.totalLength,
      "ip.id": ip4.identification,
      "ip.flags.df": ip4.dontFragment,
      "ip.flags.mf": ip4.moreFragments,
      // In units of 8 bytes, as the header has it.
      "ip.frag_offset": ip4.fragmentOffset / 8,
      "ip.ttl": ip4.ttl,
      "ip.proto": ip4.protocol,
      "ip.checksum": ip4.checksum,
      "ip.checksum.status": STATUS[ip4.checksumStatus],
      "ip.src": ip4.source,
      "ip.dst": routeEnd(ip4.options) ?? ip4.destination,
    });
    putOptions("ip.opt.type", ip4.options);
  }
  if (ip6) {
    put({
      "ip.version": ip6.version,
      "ipv6.version": ip6.version,
      "ipv6.tclass": ip6.trafficClass,
      "ipv6.tclass.dscp": ip6.dscp,
      "ipv6.tclass.ecn": ip6.ecn,
      "ipv6.flow": ip6.flowLabel,
      "ipv6.plen": ip6.payloadLength,
      "ipv6.nxt": ip6.nextHeader,
      "ipv6.hlim": ip6.hopLimit,
      "ipv6.src": ip6.source,
      "ipv6.dst": ip6.destination,
    });
    const extension = new Ipv6ExtensionHeader(bytes);
    for (let more = extension.first(ip6); more; more = extension.next()) {
      putOptions("ipv6.opt.type", extension.options);
      const { type } = extension;
      if (type === 43)
        put({
          "ipv6.routing.type": extension.routingType,
          "ipv6.routing.segleft": extension.segmentsLeft,
          "ipv6.routing.nxt": extension.nextHeader,
        });
      if (type === 44)
        put({
          // In units of 8 bytes.
          "ipv6.fraghdr.offset": extension.fragmentOffset / 8,
          "ipv6.fraghdr.more": extension.moreFragments,
          "ipv6.fraghdr.ident": extension.identification,
        });
      if (type === 51)
        put({ "ah.spi": extension.securityParametersIndex, "ah.sequence": extension.sequence });
    }
  }
  const { udp: u, tcp: t, icmp: i4, icmpv6: i6 } = packet;
  if (!ip) return;
  if (u) {
    const status = u.checksumStatus(ip);
    put({
      "udp.srcport": u.sourcePort,
      "udp.dstport": u.destinationPort,
      "udp.length": u.length,
      "udp.checksum": u.checksum,
      "udp.checksum.status": STATUS[status],
    });
  }
  if (t) {
    put({
      "tcp.srcport": t.sourcePort,
      "tcp.dstport": t.destinationPort,
      // Of a segment in an error of IPv4 tshark shows no such number.
      "tcp.seq_raw": ip6 || offset === start ? t.sequence : undefined,
      "tcp.ack_raw": t.acknowledgment,
      "tcp.hdr_len": t.headerBytes,
      "tcp.flags": t.flags,
      "tcp.flags.fin": t.fin,
      "tcp.flags.syn": t.syn,
      "tcp.flags.reset": t.rst,
      "tcp.flags.push": t.psh,
      "tcp.flags.ack": t.ack,
      "tcp.flags.urg": t.urg,
      "tcp.flags.ece": t.ece,
      "tcp.flags.cwr": t.cwr,
      "tcp.window_size_value": t.window,
      "tcp.checksum": t.checksum,
      "tcp.checksum.status": STATUS[t.checksumStatus(ip)],
      "tcp.urgent_pointer": t.urgentPointer,
      "tcp.options.mss_val": t.maximumSegmentBytes,
      "tcp.options.wscale.shift": t.windowScale,
      "tcp.options.timestamp.tsval": t.timestamp,
      "tcp.options.timestamp.tsecr": t.timestampEcho,
    });
    for (let i = 0; i < t.sackBlocks; i++)
      put({ "tcp.options.sack_le": t.sackStart(i), "tcp.options.sack_re": t.sackEnd(i) });
    putOptions("tcp.option_kind", t.options);
  }
  const { payloadOffset, payloadEnd } = packet;
  if (i4) {
    put({
      "icmp.type": i4.type,
      "icmp.code": i4.code,
      "icmp.checksum": i4.checksum,
      "icmp.checksum.status": STATUS[i4.checksumStatus(ip)],
    });
    if (i4.type === 8) put({ "icmp.ident": i4.identifier, "icmp.seq": i4.sequence });
    if (i4.type === 3 && i4.code === 4) put({ "icmp.mtu": i4.nextHopMtu });
    if (i4.type === 5) {
      const octets = [24, 16, 8, 0].map((shift) => (i4.gateway >>> shift) & 0xff);
      put({ "icmp.redir_gw": octets.join(".") });
    }
    if (i4.type === 12) put({ "icmp.pointer": i4.pointer });
    if (i4.isError) collect(values, bytes, payloadOffset, payloadEnd, LinkType.raw, start);
  }
  if (i6) {
    const { type } = i6;
    put({
      "icmpv6.type": type,
      "icmpv6.code": i6.code,
      "icmpv6.checksum": i6.checksum,
      "icmpv6.checksum.status": STATUS[i6.checksumStatus(ip)],
    });
    if (type === 128)
      put({ "icmpv6.echo.identifier": i6.identifier, "icmpv6.echo.sequence_number": i6.sequence });
    if (type === 2) put({ "icmpv6.mtu": i6.mtu });
    if (type === 4) put({ "icmpv6.pointer": i6.pointer });
    if (type === 134)
      put({
        "icmpv6.nd.ra.cur_hop_limit": i6.routerHopLimit,
        "icmpv6.nd.ra.flag.m": i6.isManaged,
        "icmpv6.nd.ra.flag.o": i6.hasOtherConfiguration,
        "icmpv6.nd.ra.flag.prf": i6.routerPreference,
        "icmpv6.nd.ra.router_lifetime": i6.routerLifetimeSeconds,
        "icmpv6.nd.ra.reachable_time": i6.reachableMs,
        "icmpv6.nd.ra.retrans_timer": i6.retransmitMs,
      });
    if (type === 135) put({ "icmpv6.nd.ns.target_address": i6.target });
    if (type === 136)
      put({
        "icmpv6.nd.na.target_address": i6.target,
        "icmpv6.nd.na.flag.r": i6.isRouter,
        "icmpv6.nd.na.flag.s": i6.isSolicited,
        "icmpv6.nd.na.flag.o": i6.isOverride,
      });
    if (type === 137)
      put({
        "icmpv6.nd.rd.target_address": i6.target,
        "icmpv6.rd.na.destination_address": i6.redirectDestination,
      });
    putOptions("icmpv6.opt.type", i6.options);
    if (i6.isError) collect(values, bytes, payloadOffset, payloadEnd, LinkType.raw, start);
  }
}

// tshark shows the last address of a source route as the destination.
function routeEnd(options: HeaderOptions): string | undefined {
  while (options.next()) {
    if (options.kind !== 131) continue;
    const last = options.valueBytes - 4;
    return [0, 1, 2, 3].map((i) => options.uint8(last + i)).join(".");
  }
  return undefined;
}

// Fillers and ends, which a walk over options passes over and tshark lists.
const FILLERS: Readonly<Record<string, readonly number[]>> = {
  "tcp.option_kind": [0, 1],
  "ip.opt.type": [0, 1],
  "ipv6.opt.type": [0],
};

function tsharkOf(file: string, fields: readonly string[]): Values[] {
  const preferences = [
    "ip.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "udp.try_heuristic_first:FALSE",
  ];
  const command = [
    "tshark",
    "-n",
    "-r",
    file,
    "-T",
    "fields",
    "-E",
    "occurrence=a",
    "-E",
    "aggregator=;",
  ];
  command.push(
    ...preferences.flatMap((each) => ["-o", each]),
    ...fields.flatMap((name) => ["-e", name]),
  );
  const { stdout, stderr, exitCode } = Bun.spawnSync(command, { stderr: "pipe" });
  expect(exitCode, stderr.toString()).toBe(0);
  const lines = stdout.toString().split("\n").slice(0, -1);
  return lines.map((line) => {
    const cells = line.split("\t");
    const values: Values = {};
    for (const [i, name] of fields.entries()) {
      const list = (cells[i] ?? "")
        .split(";")
        .filter((text) => text !== "")
        .map(parsed);
      const kept = list.filter((value) => !FILLERS[name]?.includes(value as number));
      if (kept.length > 0) values[name] = kept;
    }
    return values;
  });
}

function parsed(text: string): string | number {
  if (text === "True") return 1;
  if (text === "False") return 0;
  return /^(0x[0-9a-f]+|\d+)$/.test(text) ? Number(text) : text;
}

describe("headers and tshark", () => {
  const folder = mkdtempSync(join(tmpdir(), "headers-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const missing = requires("tshark");
  const frames = makeFrames();
  const read = frames.map(({ bytes, linkType }) => ours(bytes, linkType));
  const fields = [...new Set(read.flatMap((values) => Object.keys(values)))].sort();
  let theirs: Values[] = [];

  beforeAll(() => {
    if (missing) return;
    const file = join(folder, "frames.pcapng");
    writeFileSync(file, pcapngOf(frames));
    theirs = tsharkOf(file, fields);
  }, 60_000);

  testIf(missing)("see the same frames, with all kinds of headers in them", () => {
    expect(theirs).toHaveLength(frames.length);
    expect(frames.length).toBeGreaterThan(250);
    expect(fields.length).toBeGreaterThan(100);
    const statuses = read.flatMap((values) => [
      ...(values["udp.checksum.status"] ?? []),
      ...(values["tcp.checksum.status"] ?? []),
      ...(values["icmpv6.checksum.status"] ?? []),
    ]);
    expect([...new Set(statuses)].sort()).toEqual([0, 1, 2, 3]);
  });

  for (const field of fields) {
    testIf(missing)(`read the same as ${field}`, () => {
      const name = (i: number) => `${i} ${frames[i]?.name}`;
      const table = (values: readonly Values[]) =>
        Object.fromEntries(values.map((each, i) => [name(i), each[field]]));
      expect(table(read)).toEqual(table(theirs));
    });
  }

  test("say the same of a frame wherever it lies", () => {
    for (const { bytes, linkType } of frames) {
      const memory = Buffer.concat([Buffer.alloc(13, 0xff), bytes, Buffer.alloc(64, 0xff)]);
      const values: Values = {};
      collect(values, memory, 13, 13 + bytes.length, linkType);
      expect(values).toEqual(ours(bytes, linkType));
    }
  });
});
