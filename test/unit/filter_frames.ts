/** Packets of many kinds, for filters to tell apart, and capture files of them. */

/** A frame, and how long it was before it was cut. */
export interface Frame {
  readonly bytes: Uint8Array;
  readonly originalLength: number;
}

type Bytes = readonly number[];

const be16 = (value: number): Bytes => [(value >> 8) & 0xff, value & 0xff];
const be32 = (value: number): Bytes => [...be16(value >>> 16), ...be16(value & 0xffff)];
const ip4 = (text: string): Bytes => text.split(".").map(Number);
const ip6 = (text: string): Bytes => {
  const [head = "", tail = ""] = text.split("::");
  const parts = (side: string) =>
    side
      .split(":")
      .filter(Boolean)
      .map((part) => Number(`0x${part}`));
  const [before, after] = [parts(head), parts(tail)];
  const zeros = new Array(8 - before.length - after.length).fill(0);
  return [...before, ...zeros, ...after].flatMap(be16);
};

function ipv4(
  protocol: number,
  payload: Bytes,
  options: {
    source?: string;
    target?: string;
    fragment?: number;
    words?: number;
    ttl?: number;
  } = {},
): Bytes {
  const { source = "10.0.0.1", target = "10.0.0.2", fragment = 0, words = 5, ttl = 64 } = options;
  const length = words * 4 + payload.length;
  return [
    0x40 | words,
    0,
    ...be16(length),
    0,
    1,
    ...be16(fragment),
    ttl,
    protocol,
    0,
    0,
    ...ip4(source),
    ...ip4(target),
    ...new Array((words - 5) * 4).fill(1),
    ...payload,
  ];
}

function ipv6(
  protocol: number,
  payload: Bytes,
  source = "2001:db8::1",
  target = "2001:db8::2",
): Bytes {
  return [
    0x60,
    0,
    0,
    0,
    ...be16(payload.length),
    protocol,
    64,
    ...ip6(source),
    ...ip6(target),
    ...payload,
  ];
}

const udp = (source: number, target: number, payload: Bytes = [1, 2, 3]): Bytes => [
  ...be16(source),
  ...be16(target),
  ...be16(8 + payload.length),
  0,
  0,
  ...payload,
];
const tcp = (source: number, target: number, flags: number, payload: Bytes = []): Bytes => [
  ...be16(source),
  ...be16(target),
  ...be32(1),
  ...be32(2),
  0x50,
  flags,
  0xff,
  0xff,
  0,
  0,
  0,
  0,
  ...payload,
];

const GET = [..."GET / HTTP/1.1"].map((letter) => letter.charCodeAt(0));

/** The packets from the network header on, with their EtherType. */
const PACKETS: readonly (readonly [etherType: number, bytes: Bytes])[] = [
  [0x0800, ipv4(17, udp(1234, 53))],
  [0x0800, ipv4(17, udp(53, 1234, [0, 0, 0x81, 0x80]))],
  [0x0800, ipv4(17, udp(5353, 5353), { target: "224.0.0.251", ttl: 1 })],
  [
    0x0800,
    ipv4(17, udp(68, 67, new Array(600).fill(7)), { source: "0.0.0.0", target: "255.255.255.255" }),
  ],
  [0x0800, ipv4(17, udp(1234, 53), { fragment: 0x2000 })],
  [0x0800, ipv4(17, udp(1234, 53), { fragment: 0x0010 })],
  [0x0800, ipv4(17, udp(53, 53), { words: 8 })],
  [0x0800, ipv4(6, tcp(40000, 80, 0x02))],
  [0x0800, ipv4(6, tcp(80, 40000, 0x12), { source: "10.0.0.2", target: "10.0.0.1" })],
  [0x0800, ipv4(6, tcp(40000, 80, 0x18, GET))],
  [0x0800, ipv4(6, tcp(40000, 443, 0x11), { source: "192.168.1.77", target: "10.9.9.9" })],
  [0x0800, ipv4(6, tcp(22, 22, 0x10, new Array(1400).fill(3)), { words: 15, ttl: 63 })],
  [0x0800, ipv4(6, tcp(21, 1023, 0x04), { source: "192.168.1.77", target: "192.168.2.1" })],
  [0x0800, ipv4(1, [8, 0, 0, 0, 0, 1, 0, 1])],
  [0x0800, ipv4(1, [0, 0, 0, 0, 0, 1, 0, 1], { source: "10.0.0.2", target: "10.0.0.1" })],
  [0x0800, ipv4(1, [3, 3, 0, 0, 0, 0, 0, 0, 0x45])],
  [0x0800, ipv4(2, [0x16, 0, 0, 0, 224, 0, 0, 251], { target: "224.0.0.22" })],
  [0x0800, ipv4(132, [...be16(2000), ...be16(80), 0, 0, 0, 0])],
  [0x0800, ipv4(47, [0, 0, 8, 0])],
  [0x0800, ipv4(50, [0, 0, 8, 0])],
  [0x0800, ipv4(51, [0, 0, 8, 0])],
  [0x0800, ipv4(103, [0, 0, 8, 0])],
  [0x0800, ipv4(112, [0, 0, 8, 0])],
  [0x86dd, ipv6(17, udp(1234, 53))],
  [0x86dd, ipv6(17, udp(5353, 5353), "fe80::1", "ff02::fb")],
  [0x86dd, ipv6(6, tcp(40000, 80, 0x02))],
  [0x86dd, ipv6(6, tcp(80, 40000, 0x12), "2001:db8::2", "2001:db8::1")],
  [0x86dd, ipv6(58, [135, 0, 0, 0, 0, 0, 0, 0, ...ip6("fe80::1")], "::", "ff02::1")],
  [0x86dd, ipv6(58, [128, 0, 0, 0, 0, 1, 0, 1])],
  [0x86dd, ipv6(0, [17, 0, 0, 0, 0, 0, 0, 0, ...udp(1, 53)])],
  [0x86dd, ipv6(44, [17, 0, 0, 1, 0, 0, 0, 1, ...udp(1, 53)])],
  [0x86dd, ipv6(132, [...be16(80), ...be16(80), 0, 0, 0, 0], "1:2:3:4:5:6:7:8", "2001:db8::2")],
  [
    0x0806,
    [
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      1,
      2,
      0,
      0,
      0,
      0,
      1,
      ...ip4("10.0.0.1"),
      0,
      0,
      0,
      0,
      0,
      0,
      ...ip4("10.0.0.2"),
    ],
  ],
  [
    0x0806,
    [
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      2,
      2,
      0,
      0,
      0,
      0,
      2,
      ...ip4("10.0.0.2"),
      2,
      0,
      0,
      0,
      0,
      1,
      ...ip4("192.168.1.77"),
    ],
  ],
];

const OTHERS: readonly (readonly [etherType: number, bytes: Bytes])[] = [
  [0x8035, new Array(28).fill(1)],
  [0x88cc, new Array(40).fill(2)],
  [0x8100, [0, 5, ...be16(0x800), ...ipv4(17, udp(1, 53))]],
  [0x8100, [0x20, 5, ...be16(0x800), ...ipv4(6, tcp(1, 80, 2))]],
  [0x8100, [0, 7, ...be16(0x86dd), ...ipv6(17, udp(1, 53))]],
  [0x88a8, [0, 5, ...be16(0x8100), 0, 7, ...be16(0x800), ...ipv4(17, udp(1, 53))]],
  [0x8847, [...be32((100 << 12) | 0x100 | 64), ...ipv4(17, udp(1, 53))]],
  [0x8847, [...be32((7 << 12) | 64), ...be32((100 << 12) | 0x100 | 64), ...ipv4(17, udp(1, 53))]],
  [0x8863, [0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]],
  [0x8864, [0x11, 0, 0, 3, 0, 30, ...be16(0x21), ...ipv4(17, udp(1, 53))]],
  [0x8864, [0x11, 0, 0, 4, 0, 30, ...be16(0x57), ...ipv6(17, udp(1, 53))]],
  [0x809b, new Array(30).fill(3)],
  [0x80f3, new Array(30).fill(3)],
  [0x6003, new Array(30).fill(3)],
  [0x6004, new Array(30).fill(3)],
  [0x6001, new Array(30).fill(3)],
  [0x6002, new Array(30).fill(3)],
  [0x8137, new Array(30).fill(3)],
  // Lengths: IEEE 802.2 behind them.
  [0x0026, [0x42, 0x42, 3, ...new Array(35).fill(0)]],
  [0x0026, [0xfe, 0xfe, 3, ...new Array(35).fill(0)]],
  [0x0026, [0xe0, 0xe0, 3, ...new Array(35).fill(0)]],
  [0x0026, [0xf0, 0xf0, 3, ...new Array(35).fill(0)]],
  [0x0026, [0xaa, 0xaa, 3, 0, 0, 0, ...be16(0x809b), ...new Array(30).fill(0)]],
  [0x0026, [0xff, 0xff, 3, ...new Array(35).fill(0)]],
];

const MACS: readonly Bytes[] = [
  [2, 0, 0, 0, 0, 1],
  [2, 0, 0, 0, 0, 2],
  [2, 0, 0, 0, 0, 3],
  [2, 0, 0, 0, 0, 4],
];
const EVERYBODY = [255, 255, 255, 255, 255, 255];

/** Packets under the first header of a link type, whole and cut short. */
export function frames(linkType: number): Frame[] {
  const all = linkType === 1 ? [...PACKETS, ...OTHERS] : PACKETS;
  return all.flatMap(([etherType, packet], i) => {
    const header = headerOf(linkType, etherType, i);
    if (!header) return [];
    const bytes = new Uint8Array([...header, ...packet]);
    const originalLength = bytes.length;
    const cuts = [originalLength, 60, 34, 20, header.length, 3].filter(
      (at) => at <= originalLength,
    );
    return cuts.map((at) => ({ bytes: bytes.slice(0, at), originalLength }));
  });
}

function headerOf(linkType: number, etherType: number, i: number): Bytes | undefined {
  const source = MACS[i % 4] as Bytes;
  const target = MACS[(i + 1) % 4] as Bytes;
  switch (linkType) {
    case 1: {
      const group = i % 3 === 0 ? EVERYBODY : i % 3 === 1 ? [1, 0, 0x5e, 0, 0, 0xfb] : target;
      return [...group, ...source, ...be16(etherType)];
    }
    case 101:
      return etherType === 0x806 ? undefined : [];
    case 113:
      return [0, i % 5, 0, 1, 0, 6, ...source, 0, 0, ...be16(etherType)];
    case 276:
      return [...be16(etherType), 0, 0, 0, 0, 0, i % 3, 0, 1, i % 5, 6, ...source, 0, 0];
    default:
      // The family of the machine that captured: little-endian, as both architectures are. For a file
      // libpcap takes IPv6 to be what the BSD systems call it, and by itself what Linux does.
      return etherType === 0x800 ? [2, 0, 0, 0] : undefined;
  }
}

/** A capture file in which the time of each packet is its number. */
export function toPcap(linkType: number, packets: readonly Frame[]): Uint8Array<ArrayBuffer> {
  const length = packets.reduce((sum, { bytes }) => sum + 16 + bytes.length, 24);
  const file = new Uint8Array(length);
  const view = new DataView(file.buffer);
  const words = (at: number, ...values: number[]) => {
    for (const [i, value] of values.entries()) view.setUint32(at + 4 * i, value, true);
  };
  words(0, 0xa1b2c3d4, 0x0004_0002, 0, 0, 262144, linkType);
  let at = 24;
  for (const [i, { bytes, originalLength }] of packets.entries()) {
    words(at, i, 0, bytes.length, originalLength);
    file.set(bytes, at + 16);
    at += 16 + bytes.length;
  }
  return file;
}
