import { describe, expect, test } from "bun:test";
import { Ipv4Header, Ipv6Header, TcpHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const HEX = "01234567 89abcdef fedcba98 5155 1122 3344 5566";
const FIELDS = {
  sourcePort: 0x0123,
  destinationPort: 0x4567,
  sequence: 0x89ab_cdef,
  acknowledgment: 0xfedc_ba98,
  headerBytes: 20,
  flags: 0x155,
  window: 0x1122,
  checksum: 0x3344,
  urgentPointer: 0x5566,
};
const FLAGS = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"] as const;
const OPTIONS = "020405b4 0402 080a000000640000 00c8 01 030307".replaceAll(" ", "");
const WITH_OPTIONS = `0123456789abcdeffedcba98a01211223344 5566${OPTIONS}`.replace(" ", "");

describe("TcpHeader", () => {
  test("reads and writes its fields", () => {
    expectFields(headerAt(TcpHeader, HEX), FIELDS);
    const blank = headerAt(TcpHeader, HEX);
    for (let at = 0; at < 20; at++) if (at !== 12) blank.memory.setUint8(OFFSET + at, 0xa5);
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe(HEX.replaceAll(" ", ""));
    expectFillerAround(blank);
  });

  test("has its flags one by one, each in its place", () => {
    const tcp = headerAt(TcpHeader, HEX);
    for (const [bit, name] of FLAGS.entries()) {
      tcp.flags = 0;
      setFields(tcp, { [name]: true });
      expect(tcp.flags).toBe(1 << bit);
      for (const [other, otherName] of FLAGS.entries())
        expectFields(tcp, { [otherName]: other === bit });
      tcp.flags = 0x1ff;
      setFields(tcp, { [name]: false });
      expect(tcp.flags).toBe(0x1ff & ~(1 << bit));
    }
    expect(tcp.headerBytes).toBe(20);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const numbers = {
      sourcePort: 0xffff,
      destinationPort: 0xffff,
      sequence: 0xffff_ffff,
      acknowledgment: 0xffff_ffff,
      flags: 0x1ff,
      window: 0xffff,
      checksum: 0xffff,
      urgentPointer: 0xffff,
    };
    expectBounds(headerAt(TcpHeader, HEX), numbers, FLAGS);
    const tcp = headerAt(TcpHeader, HEX);
    for (const wrong of [0, 16, 22, 64])
      expect(() => setFields(tcp, { headerBytes: wrong })).toThrow(RangeError);
    expect(() => tcp.rewriteSourcePort(-1)).toThrow(RangeError);
    expect(() => tcp.rewriteDestinationPort(65_536)).toThrow(RangeError);
    expect(hexOf(tcp)).toBe(HEX.replaceAll(" ", ""));
  });

  test("fits only what says a length that is there", () => {
    const memory = Buffer.from(HEX.replaceAll(" ", ""), "hex");
    const tcp = new TcpHeader(memory);
    for (const first of [0x00, 0x40, 0x4f, 0x60, 0xf0]) {
      memory[12] = first;
      expect(tcp.at(0)).toBeFalse();
    }
    memory[12] = 0x5f;
    expect(tcp.at(0)).toBeTrue();
  });

  test("reads its options by name", () => {
    const tcp = headerAt(TcpHeader, WITH_OPTIONS);
    expectFields(tcp, {
      headerBytes: 40,
      payloadOffset: OFFSET + 40,
      maximumSegmentBytes: 1460,
      sackPermitted: true,
      timestamp: 100,
      timestampEcho: 200,
      windowScale: 7,
      sackBlocks: 0,
    });
    expectFields(headerAt(TcpHeader, HEX), {
      maximumSegmentBytes: undefined,
      sackPermitted: false,
      timestamp: undefined,
      timestampEcho: undefined,
      windowScale: undefined,
      sackBlocks: 0,
    });
  });

  test("reads blocks of selective acknowledgments", () => {
    const blocks = "0101 0512 0000000100000002 fffffffe00000010";
    const tcp = headerAt(TcpHeader, `0123456789abcdeffedcba98a01011223344 5566 ${blocks}`);
    expect(tcp.sackBlocks).toBe(2);
    expect([0, 1, 2, -1, 0.5].map((i) => tcp.sackStart(i))).toEqual([
      1,
      0xffff_fffe,
      undefined,
      undefined,
      undefined,
    ]);
    expect([0, 1, 2].map((i) => tcp.sackEnd(i))).toEqual([2, 0x10, undefined]);
  });

  test("does not take an option of another length for one that it knows", () => {
    const damaged = "02030500 0303ff 0809000000000000 00 080a0000"
      .replaceAll(" ", "")
      .padEnd(40, "0");
    const tcp = headerAt(TcpHeader, `0123456789abcdeffedcba98a01211223344 5566 ${damaged}`);
    expectFields(tcp, { maximumSegmentBytes: undefined, timestamp: undefined });
  });

  test("writes options that are there, and refuses others", () => {
    const tcp = headerAt(TcpHeader, WITH_OPTIONS);
    setFields(tcp, {
      maximumSegmentBytes: 1400,
      windowScale: 9,
      timestamp: 0xffff_ffff,
      timestampEcho: 1,
    });
    expect(hexOf(tcp).slice(40)).toBe(
      "02040578 0402 080affffffff00000001 01 030309".replaceAll(" ", ""),
    );
    for (const wrong of [{ maximumSegmentBytes: 65_536 }, { windowScale: 256 }, { timestamp: -1 }])
      expect(() => setFields(tcp, wrong)).toThrow(RangeError);
    const bare = headerAt(TcpHeader, HEX);
    for (const field of ["maximumSegmentBytes", "windowScale", "timestamp", "timestampEcho"])
      expect(() => setFields(bare, { [field]: 1 })).toThrow("there is no such option");
    expect(hexOf(bare)).toBe(HEX.replaceAll(" ", ""));
    expectFillerAround(tcp);
  });

  test("walks its options in place", () => {
    const tcp = headerAt(TcpHeader, WITH_OPTIONS);
    const found: number[][] = [];
    const { options } = tcp;
    while (options.next()) found.push([options.kind, options.offset - OFFSET, options.bytes]);
    expect(found).toEqual([
      [2, 20, 4],
      [4, 24, 2],
      [8, 26, 10],
      [3, 37, 3],
    ]);
    expect(options.isDamaged).toBeFalse();
  });

  test("ends the walk at an option without a length at the very end of the memory", () => {
    const memory = Buffer.from(`0123456789abcdeffedcba98601011223344556601010108`, "hex");
    const tcp = new TcpHeader(memory);
    expect(tcp.at(0)).toBeTrue();
    expect([tcp.options.next(), tcp.options.isDamaged]).toEqual([false, false]);
    const { options } = tcp;
    expect([options.next(), options.isDamaged]).toEqual([false, true]);
    expect(tcp.timestamp).toBeUndefined();
  });

  describe("checksum", () => {
    const SEGMENT = `${WITH_OPTIONS}616263`;
    const in4 = () =>
      place(headerAt(Ipv4Header, `4500003f00000000 40060000 c0000201 c0000202 ${SEGMENT}`));
    const in6 = () =>
      place(
        headerAt(
          Ipv6Header,
          `60000000002b0640${"20010db8000000000000000000000001".repeat(2)}${SEGMENT}`,
        ),
      );
    function place(ip: Ipv4Header | Ipv6Header) {
      const tcp = new TcpHeader(ip.memory);
      expect(tcp.at(ip.transportOffset, ip.payloadEnd)).toBeTrue();
      return { ip, tcp };
    }

    test("is computed over pseudo-header, header, options and data", () => {
      for (const { ip, tcp } of [in4(), in6()]) {
        expect(tcp.checksumStatus(ip)).toBe("wrong");
        tcp.fillChecksum(ip);
        expect([tcp.checksumStatus(ip), tcp.checksumIsValid(ip)]).toEqual(["valid", true]);
        for (const at of [tcp.end - 1, tcp.offset + 39, tcp.offset]) {
          const before = ip.memory.getUint8(at);
          ip.memory.setUint8(at, before ^ 1);
          expect(tcp.checksumIsValid(ip)).toBeFalse();
          ip.memory.setUint8(at, before);
        }
        expect(tcp.checksumIsValid(ip)).toBeTrue();
      }
    });

    test("is kept where a port or the segment size is rewritten", () => {
      for (const { ip, tcp } of [in4(), in6()]) {
        tcp.fillChecksum(ip);
        for (const value of [0, 1, 0xffff, 0x1234, 0x8000]) {
          tcp.rewriteSourcePort(value);
          tcp.rewriteDestinationPort(value ^ 0xff);
          expect(tcp.rewriteMaximumSegmentBytes(value)).toBeTrue();
          expectFields(tcp, { sourcePort: value, maximumSegmentBytes: value });
          expect(tcp.checksum).toBe(tcp.computeChecksum(ip));
        }
      }
    });

    test("is kept where the segment size stands at an odd place", () => {
      const { ip, tcp } = in4();
      // A filler in front: the two bytes are in two words.
      Buffer.from(`01020405b4${"01".repeat(15)}`, "hex").forEach((byte, i) => {
        ip.memory.setUint8(tcp.offset + 20 + i, byte);
      });
      tcp.fillChecksum(ip);
      for (const value of [0, 0x1234, 0xff00, 0x00ff, 1400]) {
        expect(tcp.rewriteMaximumSegmentBytes(value)).toBeTrue();
        expect(tcp.checksum).toBe(tcp.computeChecksum(ip));
      }
    });

    test("is left alone where there is no segment size to rewrite", () => {
      const tcp = headerAt(TcpHeader, HEX);
      expect(tcp.rewriteMaximumSegmentBytes(1400)).toBeFalse();
      expect(hexOf(tcp)).toBe(HEX.replaceAll(" ", ""));
    });

    test("is unfinished where it is the sum of the pseudo-header, or is said to be", () => {
      for (const { ip, tcp } of [in4(), in6()]) {
        tcp.checksum = ip.pseudoHeaderSum(6, tcp.end - tcp.offset);
        expect([tcp.checksumStatus(ip), tcp.checksumIsValid(ip)]).toEqual(["unfinished", false]);
        tcp.checksum = 0;
        expect(tcp.checksumStatus(ip)).toBe("wrong");
        expect(tcp.checksumStatus(ip, "unfinished")).toBe("unfinished");
      }
    });

    test("is unknown of a fragment, and of bytes that are not there", () => {
      const { ip, tcp } = in4();
      tcp.fillChecksum(ip);
      (ip as Ipv4Header).moreFragments = true;
      expect(tcp.checksumStatus(ip)).toBe("unknown");
      (ip as Ipv4Header).moreFragments = false;
      (ip as Ipv4Header).totalLength = 1500;
      expect(tcp.checksumStatus(ip)).toBe("unknown");
      tcp.leave();
      expect(tcp.checksumStatus(ip)).toBe("unknown");
      expect(() => tcp.updateChecksum(1, 2)).toThrow(TypeError);
    });
  });
});
