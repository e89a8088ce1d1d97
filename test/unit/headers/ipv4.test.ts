import { describe, expect, test } from "bun:test";
import { Inet4Address } from "../../../lib/index.ts";
import { Ipv4Header, internetChecksum, TcpHeader, UdpHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const HEX = "45b9 0123 4567 6abc 4011 89ab c0000201 cb007107";
const FIELDS = {
  version: 4,
  headerBytes: 20,
  typeOfService: 0xb9,
  totalLength: 0x123,
  identification: 0x4567,
  dontFragment: true,
  moreFragments: true,
  fragmentOffset: 0xabc * 8,
  ttl: 64,
  protocol: 17,
  checksum: 0x89ab,
  sourceValue: 0xc000_0201,
  destinationValue: 0xcb00_7107,
};

describe("Ipv4Header", () => {
  test("reads and writes its fields", () => {
    expectFields(headerAt(Ipv4Header, HEX), {
      ...FIELDS,
      dscp: 46,
      ecn: 1,
      source: "192.0.2.1",
      destination: "203.0.113.7",
      isFragment: true,
      transportProtocol: -1,
      isTruncated: true,
    });
    const blank = headerAt(Ipv4Header, HEX);
    for (let at = 1; at < 20; at++) blank.memory.setUint8(OFFSET + at, 0xa5);
    // The reserved bit of the flags is nobody's.
    blank.memory.setUint8(OFFSET + 6, 0x25);
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe(HEX.replaceAll(" ", ""));
    setFields(blank, { dscp: 0, ecn: 2, moreFragments: false, dontFragment: false });
    setFields(blank, { source: "255.255.255.255", destination: "0.0.0.0" });
    expect(hexOf(blank)).toBe("450201234567 0abc401189ab ffffffff00000000".replaceAll(" ", ""));
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const numbers = {
      typeOfService: 255,
      dscp: 63,
      ecn: 3,
      totalLength: 0xffff,
      identification: 0xffff,
      ttl: 255,
      protocol: 255,
      checksum: 0xffff,
      sourceValue: 0xffff_ffff,
      destinationValue: 0xffff_ffff,
    };
    expectBounds(headerAt(Ipv4Header, HEX), numbers, ["dontFragment", "moreFragments"]);
    const header = headerAt(Ipv4Header, HEX);
    for (const wrong of [0, 16, 21, 22, 64, -4, Number.NaN])
      expect(() => setFields(header, { headerBytes: wrong })).toThrow(RangeError);
    for (const wrong of [-8, 1, 7, 65_536, 65_529])
      expect(() => setFields(header, { fragmentOffset: wrong })).toThrow(RangeError);
    for (const wrong of ["", "::1", "1.2.3.256", "localhost"])
      expect(() => setFields(header, { source: wrong })).toThrow(TypeError);
    expect(() => setFields(header, { version: 16 })).toThrow(RangeError);
    expect(hexOf(header)).toBe(HEX.replaceAll(" ", ""));
    setFields(header, { headerBytes: 60, fragmentOffset: 65_528 });
    expectFields(header, { headerBytes: 60, fragmentOffset: 65_528, payloadOffset: OFFSET + 20 });
  });

  test("fits only what says version 4 and a length that is there", () => {
    const memory = Buffer.from(HEX.replaceAll(" ", ""), "hex");
    const ip = new Ipv4Header(memory);
    for (const first of [0x40, 0x44, 0x46, 0x4f, 0x55, 0x65, 0x05, 0x00, 0xff]) {
      memory[0] = first;
      expect(ip.at(0)).toBeFalse();
    }
    memory[0] = 0x45;
    expect(ip.at(0)).toBeTrue();
  });

  test("ends its payload by the total length, inside of what is there", () => {
    const ip = headerAt(Ipv4Header, `${HEX}${"00".repeat(40)}`);
    const cases = [
      [60, 60, false],
      [25, 25, false],
      [61, 60, true],
      [65_535, 60, true],
      [20, 20, false],
      // Shorter than its own header: empty.
      [3, 20, false],
      // As Linux writes packets above 64 KiB.
      [0, 60, false],
    ] as const;
    for (const [totalLength, end, isTruncated] of cases) {
      ip.totalLength = totalLength;
      expectFields(ip, { payloadEnd: OFFSET + end, isTruncated });
    }
  });

  test("tells where a transport header is", () => {
    const ip = headerAt(Ipv4Header, HEX);
    expect(ip.transportProtocol).toBe(-1);
    ip.fragmentOffset = 0;
    expectFields(ip, { transportProtocol: 17, isFragment: true, transportOffset: OFFSET + 20 });
    ip.moreFragments = false;
    expectFields(ip, { transportProtocol: 17, isFragment: false });
  });

  test("walks its options in place", () => {
    // Router alert, a filler, a record of a route, the end, and what follows that.
    const options = "94040000 01 070704c0000201 00 0403";
    const ip = headerAt(
      Ipv4Header,
      `49${HEX.slice(2)}${options}`.replaceAll(" ", "").padEnd(72, "0"),
    );
    const walk = ip.options;
    expect(walk.next()).toBeTrue();
    expectOption(walk, 148, OFFSET + 20, 4);
    expect(walk.next()).toBeTrue();
    expectOption(walk, 7, OFFSET + 25, 7);
    expect([walk.uint8(0), walk.uint32(1), walk.uint32(2), walk.uint8(5)]).toEqual([
      4, 0xc000_0201, 0, 0,
    ]);
    walk.setUint32(1, 0x0a00_0001);
    walk.setUint8(0, 8);
    expect(hexOf(ip).slice(50, 64)).toBe("0707080a000001");
    expect(() => walk.setUint32(2, 1)).toThrow(RangeError);
    expect(() => walk.setUint8(5, 1)).toThrow(RangeError);
    expect(() => walk.setUint16(0, -1)).toThrow(RangeError);
    expect(walk.next()).toBeFalse();
    expect([walk.next(), walk.isDamaged, walk.kind, walk.bytes]).toEqual([false, false, 0, 0]);
    // The same walk, from the first.
    expect(ip.options).toBe(walk);
    expect([walk.next(), walk.kind]).toEqual([true, 148]);
  });

  test.each([
    ["a length that goes on behind the header", "94050000"],
    ["a length of 0", "94000000"],
    ["a length of 1", "94010000"],
    ["no room for a length", "01010194"],
  ])("ends the walk before %s", (_, options) => {
    const ip = headerAt(Ipv4Header, `46${HEX.slice(2)}${options}${"44".repeat(20)}`);
    const walk = ip.options;
    expect([walk.next(), walk.isDamaged]).toEqual([false, true]);
    expect([walk.next(), walk.uint8(0)]).toEqual([false, 0]);
    expect(() => walk.setUint8(0, 1)).toThrow(RangeError);
  });

  describe("checksum", () => {
    // The example of many textbooks, and of RFC 1071's arithmetic.
    const PACKET = "450000730000400040 11b861c0a80001c0a800c7".replace(" ", "");

    test("is computed, filled and judged", () => {
      const ip = headerAt(Ipv4Header, PACKET);
      expectFields(ip, { checksum: 0xb861, checksumIsValid: true, checksumStatus: "valid" });
      ip.checksum = 0x1234;
      expectFields(ip, { checksumIsValid: false, checksumStatus: "wrong" });
      expect(ip.computeChecksum()).toBe(0xb861);
      expect(ip.checksum).toBe(0x1234);
      ip.fillChecksum();
      expect(hexOf(ip)).toBe(PACKET);
    });

    test("covers options", () => {
      const ip = headerAt(Ipv4Header, `46${PACKET.slice(2)}94040000`);
      ip.fillChecksum();
      expect(ip.checksumIsValid).toBeTrue();
      expect(internetChecksum(Buffer.from(hexOf(ip), "hex"))).toBe(0);
      ip.memory.setUint8(OFFSET + 23, 1);
      expect(ip.checksumIsValid).toBeFalse();
    });

    test("is kept where a hop is taken off, down to 1", () => {
      const ip = headerAt(Ipv4Header, PACKET);
      for (let ttl = 63; ttl > 0; ttl--) {
        expect(ip.decrementTtl()).toBeTrue();
        expectFields(ip, { ttl, protocol: 17, checksum: ip.computeChecksum() });
      }
      const before = hexOf(ip);
      expect(ip.decrementTtl()).toBeFalse();
      ip.ttl = 0;
      expect(ip.decrementTtl()).toBeFalse();
      ip.ttl = 1;
      expect(hexOf(ip)).toBe(before);
    });

    test("is kept where an address is rewritten, and that of the transport header", () => {
      const data = "0035c000000b0000616263";
      const ip = headerAt(Ipv4Header, `4500001f00000000 40110000 c0000201 c0000202 ${data}`);
      ip.fillChecksum();
      const udp = new UdpHeader(ip.memory);
      expect(udp.at(ip.payloadOffset, ip.payloadEnd)).toBeTrue();
      udp.fillChecksum(ip);
      for (let round = 0; round < 200; round++) {
        const [source, destination] = crypto.getRandomValues(new Uint32Array(2)) as unknown as [
          number,
          number,
        ];
        ip.rewriteSource(source, udp);
        ip.rewriteDestination(destination, udp);
        udp.rewriteSourcePort(source & 0xffff);
        udp.rewriteDestinationPort(destination >>> 16);
        expect([ip.sourceValue, ip.destinationValue]).toEqual([source, destination]);
        expect(ip.checksumIsValid).toBeTrue();
        expect(udp.checksum).toBe(udp.computeChecksum(ip));
      }
      // Without one, its own only.
      ip.rewriteSource(0x0102_0304);
      expect([ip.checksumIsValid, udp.checksumIsValid(ip)]).toEqual([true, false]);
      expect(() => ip.rewriteSource(-1, udp)).toThrow(RangeError);
      expect(() => ip.rewriteDestination(0.5)).toThrow(RangeError);
      expect(ip.sourceValue).toBe(0x0102_0304);
    });

    test("is as it was, like all else, where a rewrite throws", () => {
      const ip = headerAt(Ipv4Header, "4500001f00000000 40110000 c0000201 c0000202");
      ip.fillChecksum();
      const before = hexOf(ip);
      for (const nowhere of [new UdpHeader(ip.memory), new TcpHeader(ip.memory)]) {
        expect(() => ip.rewriteSource(1, nowhere)).toThrow(TypeError);
        expect(() => ip.rewriteDestination(1, nowhere)).toThrow(TypeError);
      }
      expect(() => ip.rewriteSource(1, {} as UdpHeader)).toThrow(TypeError);
      expect(hexOf(ip)).toBe(before);

      // The other way round: what it carries is as it was.
      const udp = headerAt(UdpHeader, "0035c0000008abcd");
      for (const call of [
        () => new Ipv4Header(ip.memory).rewriteSource(1, udp),
        () => ip.rewriteDestination(2 ** 32, udp),
        () => ip.rewriteDestination("1" as unknown as number, udp),
      ])
        expect(call).toThrow(/^Cannot (set|use) /);
      expect([hexOf(ip), udp.checksum]).toEqual([before, 0xabcd]);
    });
  });

  test("has the end of a source route in the pseudo-header, until the route is at its end", () => {
    // Loose source route over 10.0.0.1 to 10.0.0.9, the pointer at the first.
    const route = "830b04 0a000001 0a000009 00";
    const ip = headerAt(
      Ipv4Header,
      `480000340000000040060000 c0000201 c0000202 ${route}${"00".repeat(20)}`,
    );
    const direct = headerAt(
      Ipv4Header,
      `450000280000000040060000 c0000201 0a000009 ${"00".repeat(20)}`,
    );
    expect(ip.pseudoHeaderSum(6, 20)).toBe(direct.pseudoHeaderSum(6, 20));
    ip.memory.setUint8(OFFSET + 22, 12);
    direct.destination = "192.0.2.2";
    expect(ip.pseudoHeaderSum(6, 20)).toBe(direct.pseudoHeaderSum(6, 20));
    const tcp = new TcpHeader(direct.memory);
    expect(tcp.at(direct.payloadOffset, direct.payloadEnd)).toBeFalse();
  });

  test("makes addresses, copies and compares them", () => {
    const ip = headerAt(Ipv4Header, HEX);
    expect(ip.sourceAddress(53)).toEqual(new Inet4Address("192.0.2.1", 53));
    expect(`${ip.destinationAddress()}`).toBe("203.0.113.7:0");
    expect(() => ip.sourceAddress(65_536)).toThrow(RangeError);
    const bytes = new Uint8Array(9);
    ip.copySource(bytes, 5);
    ip.copyDestination(bytes, 1);
    expect([...bytes]).toEqual([0, 203, 0, 113, 7, 192, 0, 2, 1]);
    expect([ip.sourceEquals(bytes, 5), ip.sourceEquals(bytes, 1)]).toEqual([true, false]);
    expect([ip.destinationEquals(bytes, 1), ip.destinationEquals(bytes)]).toEqual([true, false]);
    ip.setSource(bytes, 1);
    ip.setDestination(bytes, 5);
    expectFields(ip, { source: "203.0.113.7", destination: "192.0.2.1" });
    expect(() => ip.setSource(bytes, 6)).toThrow(RangeError);
    expect(() => ip.copyDestination(bytes, 6)).toThrow(RangeError);
  });
});

function expectOption(
  walk: Ipv4Header["options"],
  kind: number,
  offset: number,
  bytes: number,
): void {
  const { kind: isKind, offset: isOffset, bytes: isBytes, valueOffset, valueBytes } = walk;
  expect([isKind, isOffset, isBytes]).toEqual([kind, offset, bytes]);
  expect([valueOffset, valueBytes]).toEqual([offset + 2, bytes - 2]);
}
