import { describe, expect, test } from "bun:test";
import { IcmpHeader, Ipv4Header, internetChecksum } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  setFields,
} from "../../support/headers.ts";

describe("IcmpHeader", () => {
  test("reads and writes its fields, the last four bytes so or so", () => {
    const header = headerAt(IcmpHeader, "0b01234589abcdef");
    const common = { type: 11, code: 1, checksum: 0x2345 };
    expectFields(header, {
      ...common,
      identifier: 0x89ab,
      sequence: 0xcdef,
      gateway: 0x89ab_cdef,
      nextHopMtu: 0xcdef,
      pointer: 0x89,
      originalWords: 0xab,
    });
    const blank = headerAt(IcmpHeader, "a5".repeat(8));
    setFields(blank, { ...common, identifier: 0x89ab, sequence: 0xcdef });
    expect(hexOf(blank)).toBe("0b01234589abcdef");
    setFields(blank, { gateway: 0x0102_0304 });
    expect(hexOf(blank)).toBe("0b01234501020304");
    setFields(blank, { nextHopMtu: 1280, pointer: 9, originalWords: 32 });
    expect(hexOf(blank)).toBe("0b01234509200500");
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    expectBounds(headerAt(IcmpHeader, "0b01234589abcdef"), {
      type: 255,
      code: 255,
      checksum: 0xffff,
      identifier: 0xffff,
      sequence: 0xffff,
      gateway: 0xffff_ffff,
      nextHopMtu: 0xffff,
      pointer: 255,
      originalWords: 255,
    });
  });

  test("tells errors, which carry a packet, from the rest", () => {
    const header = headerAt(IcmpHeader, "0000000000000000");
    const errors = Array.from({ length: 256 }, (_, type) => type).filter((type) => {
      header.type = type;
      return header.isError;
    });
    expect(errors).toEqual([3, 4, 5, 11, 12]);
  });

  test("computes, fills and keeps its checksum", () => {
    for (const data of ["", "61", "6162636465666768696a6b6c6d6e6f70"]) {
      const header = headerAt(IcmpHeader, `0800ffff12340001${data}`);
      expect(header.checksumIsValid).toBeFalse();
      header.fillChecksum();
      expect(header.checksumIsValid).toBeTrue();
      expect(header.checksum).toBe(header.computeChecksum());
      expect(internetChecksum(Buffer.from(hexOf(header), "hex"))).toBe(0);
      header.type = 0;
      expect(header.checksumIsValid).toBeFalse();
      header.updateChecksum(0x0800, 0);
      expect(header.checksumIsValid).toBeTrue();
    }
    // All zeros: the sum of nothing is 0, and its complement all ones.
    const zeros = headerAt(IcmpHeader, "0000000000000000");
    expect(zeros.computeChecksum()).toBe(0xffff);
  });

  test("knows nothing of the checksum of a fragment, or of what is not all there", () => {
    const ip = headerAt(
      Ipv4Header,
      "4500001c00000000 40010000 7f000001 7f000001 08000000 12340001",
    );
    const icmp = new IcmpHeader(ip.memory);
    expect(icmp.checksumStatus(ip)).toBe("unknown");
    expect(icmp.at(ip.payloadOffset, ip.payloadEnd)).toBeTrue();
    expect(icmp.checksumStatus(ip)).toBe("wrong");
    icmp.fillChecksum();
    expect(icmp.checksumStatus(ip)).toBe("valid");
    ip.moreFragments = true;
    expect(icmp.checksumStatus(ip)).toBe("unknown");
    ip.moreFragments = false;
    ip.totalLength = 100;
    expect(icmp.checksumStatus(ip)).toBe("unknown");
    icmp.leave();
    expect(icmp.checksumIsValid).toBeFalse();
  });
});
