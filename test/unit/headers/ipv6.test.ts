import { describe, expect, test } from "bun:test";
import { Inet6Address } from "../../../lib/index.ts";
import { Ipv6ExtensionHeader, Ipv6Header, UdpHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const SOURCE = "20010db8000000000000000000000001";
const DESTINATION = "fe8000000000000002000000000000ff";
const ADDRESSES = SOURCE + DESTINATION;
const HEX = `6ab12345 0008 11 40 ${ADDRESSES}`;
const FIELDS = {
  version: 6,
  trafficClass: 0xab,
  flowLabel: 0x12345,
  payloadLength: 8,
  nextHeader: 17,
  hopLimit: 64,
};

/** A packet of these extension headers and data, its first next header given. */
function packet(first: number, rest: string): Ipv6Header {
  const bytes = rest.replaceAll(" ", "");
  const length = (bytes.length / 2).toString(16).padStart(4, "0");
  const next = first.toString(16).padStart(2, "0");
  return headerAt(Ipv6Header, `60000000${length}${next}40${ADDRESSES}${bytes}`);
}

describe("Ipv6Header", () => {
  test("reads and writes its fields", () => {
    expectFields(headerAt(Ipv6Header, HEX), {
      ...FIELDS,
      dscp: 42,
      ecn: 3,
      source: "2001:db8::1",
      destination: "fe80::200:0:0:ff",
      headerBytes: 40,
      isTruncated: true,
    });
    const blank = headerAt(Ipv6Header, `65${"a5".repeat(39)}`);
    setFields(blank, FIELDS);
    setFields(blank, { source: "2001:db8::1", destination: "fe80::200:0:0:ff" });
    expect(hexOf(blank)).toBe(HEX.replaceAll(" ", ""));
    setFields(blank, { dscp: 1, ecn: 0 });
    expectFields(blank, { trafficClass: 4, flowLabel: 0x12345, version: 6 });
    setFields(blank, { flowLabel: 0 });
    expectFields(blank, { trafficClass: 4, version: 6 });
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    expectBounds(headerAt(Ipv6Header, HEX), {
      trafficClass: 255,
      dscp: 63,
      ecn: 3,
      flowLabel: 0xf_ffff,
      payloadLength: 0xffff,
      nextHeader: 255,
      hopLimit: 255,
    });
    const header = headerAt(Ipv6Header, HEX);
    for (const wrong of ["", "1.2.3.4", "::1::", "fe80::1%lo", "12345::"])
      expect(() => setFields(header, { destination: wrong })).toThrow(TypeError);
    expect(() => setFields(header, { version: 16 })).toThrow(RangeError);
    expect(() => header.sourceWord(4)).toThrow(RangeError);
    expect(() => header.destinationWord(-1)).toThrow(RangeError);
    expect(hexOf(header)).toBe(HEX.replaceAll(" ", ""));
  });

  test("fits only what says version 6", () => {
    const memory = Buffer.from(HEX.replaceAll(" ", ""), "hex");
    const ip = new Ipv6Header(memory);
    for (const first of [0x45, 0x5f, 0x70, 0x00]) {
      memory[0] = first;
      expect(ip.at(0)).toBeFalse();
    }
    memory[0] = 0x6f;
    expect(ip.at(0)).toBeTrue();
  });

  test("ends its payload by the payload length, inside of what is there", () => {
    const ip = headerAt(Ipv6Header, `${HEX}${"00".repeat(20)}`);
    for (const [payloadLength, end, isTruncated] of [
      [8, 48, false],
      [20, 60, false],
      [21, 60, true],
      [0, 40, false],
    ] as const) {
      ip.payloadLength = payloadLength;
      expectFields(ip, { payloadEnd: OFFSET + end, isTruncated });
    }
    // A jumbogram, and a packet that Linux has not cut yet.
    for (const nextHeader of [0, 6]) {
      ip.nextHeader = nextHeader;
      expect(ip.payloadEnd).toBe(OFFSET + 60);
    }
  });

  test("takes hops off, down to 1", () => {
    const ip = headerAt(Ipv6Header, HEX);
    ip.hopLimit = 2;
    expect([ip.decrementHopLimit(), ip.decrementHopLimit(), ip.hopLimit]).toEqual([true, false, 1]);
    ip.leave();
    expect(() => ip.decrementHopLimit()).toThrow(TypeError);
  });

  test("makes addresses, copies and compares them", () => {
    const ip = headerAt(Ipv6Header, HEX);
    expect(ip.sourceAddress(53)).toEqual(new Inet6Address("2001:db8::1", 53));
    expect(`${ip.destinationAddress()}`).toBe("[fe80::200:0:0:ff]:0");
    expect(() => ip.sourceAddress(-1)).toThrow(RangeError);
    expect([0, 1, 2, 3].map((i) => ip.sourceWord(i))).toEqual([0x2001_0db8, 0, 0, 1]);
    expect([0, 1, 2, 3].map((i) => ip.destinationWord(i))).toEqual([
      0xfe80_0000, 0, 0x0200_0000, 0xff,
    ]);
    const bytes = new Uint8Array(20);
    ip.copySource(bytes, 4);
    expect(Buffer.from(bytes).toString("hex", 4)).toBe(SOURCE);
    expect([ip.sourceEquals(bytes, 4), ip.sourceEquals(bytes)]).toEqual([true, false]);
    expect(ip.destinationEquals(bytes, 4)).toBeFalse();
    ip.setDestination(bytes, 4);
    expect(ip.destination).toBe("2001:db8::1");
    ip.copyDestination(bytes, 1);
    expect(bytes[1]).toBe(0x20);
    for (const call of [
      () => ip.copySource(bytes, 5),
      () => ip.setSource(new Uint8Array(15)),
      () => ip.sourceEquals(bytes, 20),
    ])
      expect(call).toThrow(RangeError);
    expectFillerAround(ip);
  });

  test("rewrites addresses, and keeps the checksum of what it carries", () => {
    const ip = packet(17, "0035c000000b0000616263");
    const udp = new UdpHeader(ip.memory);
    expect(udp.at(ip.transportOffset, ip.payloadEnd)).toBeTrue();
    udp.fillChecksum(ip);
    const bytes = new Uint8Array(18);
    for (let round = 0; round < 100; round++) {
      crypto.getRandomValues(bytes);
      ip.rewriteSource(bytes, 1, udp);
      ip.rewriteDestination(bytes, 2, udp);
      expect(ip.destinationEquals(bytes, 2)).toBeTrue();
      expect(udp.checksum).toBe(udp.computeChecksum(ip));
    }
    expect(() => ip.rewriteSource(bytes, 3, udp)).toThrow(RangeError);
    expect(udp.checksumIsValid(ip)).toBeTrue();

    // What throws changes neither.
    const before = [hexOf(ip), udp.checksum];
    const nowhere = new UdpHeader(ip.memory);
    expect(() => ip.rewriteSource(bytes, 0, nowhere)).toThrow(TypeError);
    expect(() => ip.rewriteDestination(bytes, 0, nowhere)).toThrow(TypeError);
    expect(() => new Ipv6Header(ip.memory).rewriteSource(bytes, 0, udp)).toThrow(TypeError);
    expect(() => ip.rewriteSource([...bytes] as unknown as Uint8Array, 0, udp)).toThrow(TypeError);
    expect([hexOf(ip), udp.checksum]).toEqual(before);
  });

  describe("finds the transport header", () => {
    const UDP = "0035003500080000";
    const hop = (next: string) => `${next}00010400000000`;
    const cases: readonly [
      what: string,
      first: number,
      rest: string,
      protocol: number,
      at: number,
      isFragment?: boolean,
    ][] = [
      ["where there is no extension header", 17, UDP, 17, 40],
      ["behind hop-by-hop options", 0, `${hop("11")}${UDP}`, 17, 48],
      ["behind a long destination header", 60, `1102${"00".repeat(22)}${UDP}`, 17, 64],
      ["behind a routing header", 43, `3a02000000000000${ADDRESSES.slice(0, 32)}${UDP}`, 58, 64],
      [
        "behind an authentication header",
        51,
        `0604000000000001000000020000000000000000 00000000`,
        6,
        64,
      ],
      ["in the first fragment", 44, `1100000100000007${UDP}`, 17, 48, true],
      ["in a packet that says that it is its only fragment", 44, `1100000000000007${UDP}`, 17, 48],
      ["not in a later fragment", 44, `1100000800000007${UDP}`, -1, 48, true],
      [
        "behind all of them",
        0,
        `${hop("3c")}${hop("2b")}${hop("2c")}1100000100000007${UDP}`,
        17,
        72,
        true,
      ],
      ["as encrypted payload, behind which it does not look", 0, `${hop("32")}${UDP}`, 50, 48],
      ["not where nothing is to follow", 0, `${hop("3b")}${UDP}`, -1, 48],
      ["not behind a header that is longer than the packet", 60, `11ff${"00".repeat(30)}`, -1, 40],
      ["not behind half of a header", 60, "1100", -1, 40],
      ["behind 16 headers", 0, `${hop("00").repeat(15)}${hop("11")}${UDP}`, 17, 168],
      ["not behind 17", 0, `${hop("00").repeat(16)}${hop("11")}${UDP}`, -1, 168],
    ];

    test.each(cases)("%s", (_, first, rest, transportProtocol, at, isFragment = false) => {
      const ip = packet(first, rest);
      expectFields(ip, { transportProtocol, transportOffset: OFFSET + at, isFragment });
    });

    test("anew where a field has changed that leads there", () => {
      const ip = packet(0, `${hop("11")}${UDP}`);
      expect(ip.transportProtocol).toBe(17);
      ip.nextHeader = 58;
      expectFields(ip, { transportProtocol: 58, transportOffset: OFFSET + 40 });
      ip.nextHeader = 0;
      ip.payloadLength = 4;
      expectFields(ip, { transportProtocol: -1, transportOffset: OFFSET + 40 });
      ip.leave();
      expectFields(ip, { transportProtocol: -1, transportOffset: 0, isFragment: false });
    });
  });

  test("has the end of a route in the pseudo-header, until the route is at its end", () => {
    const end = "20010db80000000000000000000000aa";
    const other = "20010db80000000000000000000000bb";
    const direct = headerAt(Ipv6Header, `60000000 0000 3b 40 ${SOURCE}${end}`);
    const sum = direct.pseudoHeaderSum(17, 8);
    const routes = [
      // Type 0, all of the way in order; type 2, one stop; type 4, the last segment first.
      `1104 00 01 00000000 ${other}${end}`,
      `1102 02 01 00000000 ${end}`,
      `1104 04 01 01000000 ${end}${other}`,
    ];
    for (const route of routes) {
      const ip = packet(43, `${route}0035003500080000`);
      expect(ip.pseudoHeaderSum(17, 8)).toBe(sum);
      ip.memory.setUint8(OFFSET + 43, 0);
      const { payloadLength } = ip;
      ip.payloadLength = payloadLength;
      expect(ip.pseudoHeaderSum(17, 8)).not.toBe(sum);
    }
  });
});

describe("Ipv6ExtensionHeader", () => {
  test("reads and writes the fields of each kind, and has no others", () => {
    const memory = Buffer.alloc(24, 0xa5);
    const header = new Ipv6ExtensionHeader(memory);
    const place = (type: number, hex: string) => {
      memory.fill(0xa5);
      Buffer.from(hex, "hex").copy(memory);
      expect(header.at(0, hex.length / 2, type)).toBeTrue();
      expect(header.type).toBe(type);
    };
    const shown = () => memory.toString("hex", 0, header.end);

    place(44, "11a5a5a5a5a5a5a5");
    setFields(header, {
      nextHeader: 58,
      fragmentOffset: 0x1238,
      moreFragments: true,
      identification: 0xdead_beef,
    });
    expect(shown()).toBe("3aa5123ddeadbeef");
    expectFields(header, {
      nextHeader: 58,
      fragmentOffset: 0x1238,
      moreFragments: true,
      identification: 0xdead_beef,
      headerBytes: 8,
      routingType: 0,
      segmentsLeft: 0,
      sequence: 0,
      securityParametersIndex: 0,
    });
    for (const wrong of [-8, 4, 65_536])
      expect(() => setFields(header, { fragmentOffset: wrong })).toThrow(RangeError);

    place(43, "1101a5a5a5a5a5a5a5a5a5a5a5a5a5a5");
    setFields(header, { routingType: 4, segmentsLeft: 2 });
    expect(shown()).toBe("11010402a5a5a5a5a5a5a5a5a5a5a5a5");
    expectFields(header, {
      routingType: 4,
      segmentsLeft: 2,
      headerBytes: 16,
      identification: 0,
      fragmentOffset: 0,
      moreFragments: false,
    });

    place(51, "1104000000000000000000000000000000000000 00000000".replace(" ", ""));
    setFields(header, {
      securityParametersIndex: 0x0102_0304,
      sequence: 0xffff_fffe,
      headerBytes: 20,
    });
    expect(shown()).toBe(
      "11030000 01020304 fffffffe 0000000000000000 00000000".replaceAll(" ", ""),
    );
    expectFields(header, {
      securityParametersIndex: 0x0102_0304,
      sequence: 0xffff_fffe,
      headerBytes: 20,
    });

    place(60, "1101010a00000000000000000000 0000".replace(" ", ""));
    for (const name of [
      "routingType",
      "segmentsLeft",
      "fragmentOffset",
      "identification",
      "sequence",
      "securityParametersIndex",
    ])
      expect(() => setFields(header, { [name]: 0 })).toThrow("has none");
    expect(() => setFields(header, { moreFragments: true })).toThrow("has none");
    for (const wrong of [0, 4, 12, 2056])
      expect(() => setFields(header, { headerBytes: wrong })).toThrow(RangeError);
    setFields(header, { headerBytes: 2048 });
    expectFields(header, { headerBytes: 2048, payloadOffset: 16 });
  });

  test("is none where the type says nothing of what follows", () => {
    const header = new Ipv6ExtensionHeader(Buffer.alloc(64));
    for (const type of [6, 17, 50, 58, 59, 255, -1, Number.NaN])
      expect(header.at(0, 64, type)).toBeFalse();
    for (const type of [0, 43, 44, 51, 60, 135]) expect(header.at(0, 64, type)).toBeTrue();
  });

  test("walks a chain, and ends with it", () => {
    const ip = packet(
      0,
      "3c00010400000000 2b01010a00000000 0000000000000000 2c00000000000000 1100000100000007 0035003500080000",
    );
    const walk = (): [type: number, offset: number][] => {
      const header = new Ipv6ExtensionHeader(ip.memory);
      const found: [number, number][] = [];
      for (let more = header.first(ip); more; more = header.next())
        found.push([header.type, header.offset - OFFSET]);
      expect([header.isPresent, header.next()]).toEqual([false, false]);
      return found;
    };
    expect(walk()).toEqual([
      [0, 40],
      [60, 48],
      [43, 64],
      [44, 72],
    ]);
    // A later fragment: what is behind its header are data.
    ip.memory.setUint8(OFFSET + 75, 0x09);
    ip.memory.setUint8(OFFSET + 72, 60);
    expect(walk()).toEqual([
      [0, 40],
      [60, 48],
      [43, 64],
      [44, 72],
    ]);
    ip.nextHeader = 17;
    expect(walk()).toEqual([]);
    ip.leave();
    expect(walk()).toEqual([]);
  });

  test("walks options in place, fillers passed over", () => {
    const ip = packet(60, "3b02 00 c2040001 0000 0100 0102aaaa 0502 1234 0000 00000000");
    const header = new Ipv6ExtensionHeader(ip.memory);
    expect(header.first(ip)).toBeTrue();
    const { options } = header;
    const found: number[][] = [];
    while (options.next()) found.push([options.kind, options.valueBytes, options.uint16(0)]);
    expect(found).toEqual([
      [0xc2, 4, 1],
      [1, 0, 0],
      [1, 2, 0xaaaa],
      [5, 2, 0x1234],
    ]);
    expect(options.isDamaged).toBeFalse();
    // A routing header has none.
    header.at(OFFSET + 40, ip.payloadEnd, 43);
    expect(header.options.next()).toBeFalse();
  });
});
