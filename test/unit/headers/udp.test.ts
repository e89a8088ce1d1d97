import { describe, expect, test } from "bun:test";
import { Ipv4Header, Ipv6Header, UdpHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const FIELDS = { sourcePort: 0x0123, destinationPort: 0x4567, length: 8, checksum: 0xcdef };

describe("UdpHeader", () => {
  test("reads and writes its fields", () => {
    expectFields(headerAt(UdpHeader, "012345670008cdef"), FIELDS);
    const blank = headerAt(UdpHeader, "a5a5a5a5a5a5a5a5");
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe("012345670008cdef");
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const most = 0xffff;
    const numbers = { sourcePort: most, destinationPort: most, length: most, checksum: most };
    expectBounds(headerAt(UdpHeader, "012345670008cdef"), numbers);
    const udp = headerAt(UdpHeader, "012345670008cdef");
    for (const wrong of [-1, 65_536, 0.5]) {
      expect(() => udp.rewriteSourcePort(wrong)).toThrow(RangeError);
      expect(() => udp.rewriteDestinationPort(wrong)).toThrow(RangeError);
    }
    expect(hexOf(udp)).toBe("012345670008cdef");
  });

  test("ends its payload by its length, inside of what is there", () => {
    const udp = headerAt(UdpHeader, `0123456700080000${"11".repeat(10)}`);
    const cases = [
      [8, 8],
      [13, 13],
      [18, 18],
      [19, 18],
      [65_535, 18],
      // Shorter than the header itself: empty.
      [7, 8],
      // A jumbogram.
      [0, 18],
    ] as const;
    for (const [length, end] of cases) {
      udp.length = length;
      expect([udp.payloadOffset, udp.payloadEnd]).toEqual([OFFSET + 8, OFFSET + end]);
    }
  });

  describe("checksum", () => {
    const IPV4 = "4500001f00000000 40110000 c0000201 c0000202";
    const IPV6 = `60000000000b1140${"20010db8000000000000000000000001"}${"20010db8000000000000000000000002"}`;
    const DATA = "0035c000000b0000616263";
    const in4 = (data = DATA) => place(headerAt(Ipv4Header, `${IPV4}${data}`));
    const in6 = (data = DATA) => place(headerAt(Ipv6Header, `${IPV6}${data}`));
    function place<H extends Ipv4Header | Ipv6Header>(ip: H): { ip: H; udp: UdpHeader } {
      const udp = new UdpHeader(ip.memory);
      expect(udp.at(ip.transportOffset, ip.payloadEnd)).toBeTrue();
      return { ip, udp };
    }

    test("is computed over pseudo-header, header and data", () => {
      for (const { ip, udp } of [in4(), in6()]) {
        udp.checksum = 0x1234;
        expect(udp.checksumStatus(ip)).toBe("wrong");
        expect(udp.checksumIsValid(ip)).toBeFalse();
        const right = udp.computeChecksum(ip);
        expect(udp.checksum).toBe(0x1234);
        udp.fillChecksum(ip);
        expect([udp.checksum, udp.checksumStatus(ip), udp.checksumIsValid(ip)]).toEqual([
          right,
          "valid",
          true,
        ]);
        ip.memory.setUint8(udp.payloadEnd - 1, 0);
        expect(udp.checksumStatus(ip)).toBe("wrong");
      }
      // By hand: c000 + 0201 + c000 + 0202 + 0011 + 000b + 0035 + c000 + 000b + 6162 + 6300.
      expect(in4().udp.computeChecksum(in4().ip)).toBe(~(0x3_08c1 % 0xffff) & 0xffff);
    });

    test("is none where it is 0, and is sent as all ones where it comes to 0", () => {
      const { ip, udp } = in4();
      expect([udp.checksumStatus(ip), udp.checksumIsValid(ip)]).toEqual(["none", true]);
      expect([in6().udp.checksumStatus(in6().ip), in6().udp.checksumIsValid(in6().ip)]).toEqual([
        "none",
        false,
      ]);
      // The port that makes the sum all ones.
      udp.sourcePort = (udp.sourcePort + udp.computeChecksum(ip)) % 0xffff;
      expect(udp.computeChecksum(ip)).toBe(0xffff);
      udp.fillChecksum(ip);
      expect([udp.checksum, udp.checksumStatus(ip)]).toEqual([0xffff, "valid"]);
    });

    test("is kept where a port is rewritten, and none stays none", () => {
      for (const { ip, udp } of [in4(), in6()]) {
        udp.rewriteSourcePort(1);
        udp.rewriteDestinationPort(2);
        expectFields(udp, { checksum: 0, sourcePort: 1, destinationPort: 2 });
        udp.fillChecksum(ip);
        for (const port of [0, 65_535, 1, 0x1234, 0xfffe, 0x8000]) {
          udp.rewriteSourcePort(port);
          udp.rewriteDestinationPort(port ^ 0xff);
          expect(udp.checksum).toBe(udp.computeChecksum(ip));
        }
      }
    });

    test("never becomes none by a rewrite", () => {
      const { ip, udp } = in4();
      udp.fillChecksum(ip);
      // Every port once: among them the one at which the sum is all ones.
      let ones = 0;
      for (let port = 0; port < 65_536; port++) {
        udp.rewriteSourcePort(port);
        if (udp.checksum === 0) throw new Error(`none at port ${port}`);
        if (udp.checksum === 0xffff) ones++;
      }
      expect(ones).toBeGreaterThan(0);
    });

    test("is unfinished where it is the sum of the pseudo-header, or is said to be", () => {
      for (const { ip, udp } of [in4(), in6()]) {
        udp.checksum = ip.pseudoHeaderSum(17, udp.length);
        expect([udp.checksumStatus(ip), udp.checksumIsValid(ip)]).toEqual(["unfinished", false]);
        udp.checksum = 0x1234;
        expect(udp.checksumStatus(ip, "unfinished")).toBe("unfinished");
        expect(udp.checksumStatus(ip, "valid")).toBe("valid");
        expect(udp.checksumStatus(ip, "unknown")).toBe("wrong");
        udp.fillChecksum(ip);
        expect(udp.checksumStatus(ip)).toBe("valid");
      }
    });

    test("is unknown of a fragment, and of bytes that are not there", () => {
      const { ip, udp } = in4();
      udp.fillChecksum(ip);
      ip.moreFragments = true;
      expect(udp.checksumStatus(ip)).toBe("unknown");
      ip.moreFragments = false;
      ip.totalLength = 200;
      expect(udp.checksumStatus(ip)).toBe("unknown");
      ip.totalLength = 31;
      udp.length = 12;
      expect(udp.checksumStatus(ip)).toBe("unknown");
      udp.leave();
      expect(udp.checksumStatus(ip)).toBe("unknown");
      expect(() => udp.updateChecksum(1, 2)).toThrow(TypeError);
    });
  });
});
