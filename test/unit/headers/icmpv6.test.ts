import { describe, expect, test } from "bun:test";
import { Icmpv6Header, Ipv6Header } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  setFields,
} from "../../support/headers.ts";

const ADDRESS = "fe800000000000000000000000000001";
const OTHER = "20010db8000000000000000000000002";

describe("Icmpv6Header", () => {
  test("reads and writes its fields, the last four bytes so or so", () => {
    const header = headerAt(Icmpv6Header, "8001234589abcdef");
    const common = { type: 128, code: 1, checksum: 0x2345 };
    expectFields(header, {
      ...common,
      identifier: 0x89ab,
      sequence: 0xcdef,
      mtu: 0x89ab_cdef,
      pointer: 0x89ab_cdef,
      isRouter: true,
      isSolicited: false,
      isOverride: false,
      routerHopLimit: 0x89,
      isManaged: true,
      hasOtherConfiguration: false,
      routerPreference: 1,
      routerLifetimeSeconds: 0xcdef,
      isError: false,
    });
    const blank = headerAt(Icmpv6Header, "a5".repeat(8));
    setFields(blank, { ...common, identifier: 0x89ab, sequence: 0xcdef });
    expect(hexOf(blank)).toBe("8001234589abcdef");
    setFields(blank, { mtu: 0 });
    setFields(blank, { isRouter: true, isSolicited: true, isOverride: true });
    expect(hexOf(blank)).toBe("80012345e0000000");
    setFields(blank, { isRouter: false, isOverride: false });
    expect(hexOf(blank)).toBe("8001234540000000");
    setFields(blank, { routerHopLimit: 64, routerLifetimeSeconds: 1800, routerPreference: 3 });
    setFields(blank, { isManaged: true, hasOtherConfiguration: true });
    expect(hexOf(blank)).toBe("8001234540d80708");
    setFields(blank, { pointer: 0xffff_ffff });
    setFields(blank, { isManaged: false, routerPreference: 0 });
    expect(hexOf(blank)).toBe("80012345ff67ffff");
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const flags = ["isRouter", "isSolicited", "isOverride", "isManaged", "hasOtherConfiguration"];
    const numbers = {
      type: 255,
      code: 255,
      checksum: 0xffff,
      identifier: 0xffff,
      sequence: 0xffff,
      mtu: 0xffff_ffff,
      pointer: 0xffff_ffff,
      routerHopLimit: 255,
      routerPreference: 3,
      routerLifetimeSeconds: 0xffff,
    };
    expectBounds(headerAt(Icmpv6Header, "8001234589abcdef"), numbers, flags);
    const times = { reachableMs: 0xffff_ffff, retransmitMs: 0xffff_ffff };
    expectBounds(headerAt(Icmpv6Header, `86${"00".repeat(15)}`), times);
  });

  test("tells errors, which carry a packet, from the rest", () => {
    const header = headerAt(Icmpv6Header, "0000000000000000");
    for (const [type, isError] of [
      [1, true],
      [2, true],
      [127, true],
      [128, false],
      [135, false],
    ] as const) {
      header.type = type;
      expect(header.isError).toBe(isError);
    }
    header.leave();
    expect(header.isError).toBeFalse();
  });

  test("has a target in three messages of neighbour discovery, and in no other", () => {
    for (const type of [135, 136, 137]) {
      const header = headerAt(Icmpv6Header, `${type.toString(16)}00000000000000${ADDRESS}${OTHER}`);
      expectFields(header, { hasTarget: true, target: "fe80::1" });
      const bytes = new Uint8Array(18);
      expect(header.copyTarget(bytes, 2)).toBeTrue();
      expect(Buffer.from(bytes).toString("hex", 2)).toBe(ADDRESS);
      expect([header.targetEquals(bytes, 2), header.targetEquals(bytes, 1)]).toEqual([true, false]);
      header.setTarget(bytes, 1);
      expect(header.targetEquals(bytes, 1)).toBeTrue();
      header.target = "::2";
      expect(header.target).toBe("::2");
      expect(() => setFields(header, { target: "::2%lo" })).toThrow(TypeError);
      expect(() => header.setTarget(bytes, 3)).toThrow(RangeError);
      expect(header.redirectDestination).toBe(type === 137 ? "2001:db8::2" : undefined);
      expectFillerAround(header);
    }
    for (const hex of [
      `8000000000000000${ADDRESS}`,
      `87000000000000 00${ADDRESS.slice(2)}`.replace(" ", ""),
    ]) {
      const header = headerAt(Icmpv6Header, hex);
      expectFields(header, { hasTarget: false, target: undefined });
      const bytes = new Uint8Array(16).fill(1);
      expect([header.copyTarget(bytes), bytes[0], header.targetEquals(bytes)]).toEqual([
        false,
        1,
        false,
      ]);
      expect(() => setFields(header, { target: "::2" })).toThrow("has none");
      expect(hexOf(header)).toBe(hex);
    }
    expect(
      headerAt(Icmpv6Header, `8900000000000000${ADDRESS}`).redirectDestination,
    ).toBeUndefined();
  });

  test("has the times of a router advertisement, and of no other", () => {
    const header = headerAt(Icmpv6Header, `8600000040000708000000640000000a`);
    expectFields(header, { reachableMs: 100, retransmitMs: 10, routerLifetimeSeconds: 1800 });
    setFields(header, { reachableMs: 1, retransmitMs: 2 });
    expect(hexOf(header)).toBe("86000000400007080000000100000002");
    for (const hex of ["8700000040000708000000640000000a", "8600000040000708"]) {
      const other = headerAt(Icmpv6Header, hex);
      expectFields(other, { reachableMs: 0, retransmitMs: 0 });
      expect(() => setFields(other, { reachableMs: 1 })).toThrow("has none");
      expect(() => setFields(other, { retransmitMs: 1 })).toThrow("has none");
    }
  });

  test.each([
    ["a router solicitation", "85", 8],
    ["a router advertisement", "86", 16],
    ["a neighbour solicitation", "87", 24],
    ["a neighbour advertisement", "88", 24],
    ["a redirect", "89", 40],
  ])("walks the options of %s", (_, type, at) => {
    const options = "0101020000000002 0501000000000578".replace(" ", "");
    const header = headerAt(Icmpv6Header, `${type}${"00".repeat(at - 1)}${options}0501`);
    const walk = header.options;
    const found: number[][] = [];
    while (walk.next())
      found.push([walk.kind, walk.offset - header.offset, walk.valueBytes, walk.uint32(2)]);
    expect(found).toEqual([
      [1, at, 6, 2],
      [5, at + 8, 6, 1400],
    ]);
    // Two bytes that say eight.
    expect(walk.isDamaged).toBeTrue();
  });

  test("has no options in other messages, and ends before one of no length", () => {
    const echo = headerAt(Icmpv6Header, "80000000000000000101020000000002");
    expect([echo.options.next(), echo.options.isDamaged]).toEqual([false, false]);
    const zero = headerAt(Icmpv6Header, "85000000000000000100020000000002");
    const walk = zero.options;
    expect([walk.next(), walk.isDamaged]).toEqual([false, true]);
  });

  test("computes, fills, keeps and judges its checksum", () => {
    const data = "616263";
    const ip = headerAt(Ipv6Header, `60000000000b3a40${ADDRESS}${OTHER}8000000012340001${data}`);
    const icmp = new Icmpv6Header(ip.memory);
    expect(icmp.checksumStatus(ip)).toBe("unknown");
    expect(icmp.at(ip.transportOffset, ip.payloadEnd)).toBeTrue();
    expect([icmp.checksumStatus(ip), icmp.checksumIsValid(ip)]).toEqual(["wrong", false]);
    icmp.fillChecksum(ip);
    expect([icmp.checksumStatus(ip), icmp.checksumIsValid(ip)]).toEqual(["valid", true]);
    icmp.sequence = 2;
    expect(icmp.checksumIsValid(ip)).toBeFalse();
    icmp.updateChecksum(1, 2);
    expect(icmp.checksum).toBe(icmp.computeChecksum(ip));
    icmp.checksum = ip.pseudoHeaderSum(58, 11);
    expect(icmp.checksumStatus(ip)).toBe("unfinished");
    expect(icmp.checksumStatus(ip, "valid")).toBe("valid");
    ip.payloadLength = 12;
    expect(icmp.checksumStatus(ip)).toBe("unknown");
  });
});
