import { describe, expect, test } from "bun:test";
import { CookedHeader, CookedHeader2, LoopbackHeader } from "../../../lib/packet/index.ts";
import { expectBounds, expectFields, headerAt, hexOf, setFields } from "../../support/headers.ts";

describe("CookedHeader", () => {
  const FIELDS = { packetType: 4, hardwareType: 0x304, addressBytes: 6, protocol: 0x86dd };

  test("reads and writes its fields", () => {
    expectFields(headerAt(CookedHeader, "0004030400060123456789ab000086dd"), {
      ...FIELDS,
      address: "01:23:45:67:89:ab",
    });
    const blank = headerAt(CookedHeader, "a5".repeat(16));
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe("000403040006a5a5a5a5a5a5a5a586dd");
    const most = 0xffff;
    expectBounds(blank, {
      packetType: most,
      hardwareType: most,
      addressBytes: most,
      protocol: most,
    });
  });

  test("copies addresses of up to 8 bytes", () => {
    const header = headerAt(CookedHeader, "00040304000601234567 89abcdef86dd".replace(" ", ""));
    for (const [addressBytes, copied] of [
      [0, 0],
      [6, 6],
      [8, 8],
      [20, 8],
      [65_535, 8],
    ] as const) {
      header.addressBytes = addressBytes;
      const target = new Uint8Array(10);
      expect(header.copyAddress(target, 1)).toBe(copied);
      expect(target.filter((byte) => byte !== 0)).toHaveLength(copied);
      expect(header.address).toBe(addressBytes === 6 ? "01:23:45:67:89:ab" : undefined);
    }
    expect(() => header.copyAddress(new Uint8Array(7))).toThrow(RangeError);
  });
});

describe("CookedHeader2", () => {
  const FIELDS = {
    protocol: 0x0800,
    interfaceIndex: 0x89ab_cdef,
    hardwareType: 1,
    packetType: 4,
    addressBytes: 6,
  };

  test("reads and writes its fields", () => {
    expectFields(headerAt(CookedHeader2, "0800000089abcdef000104060123456789ab0000"), {
      ...FIELDS,
      address: "01:23:45:67:89:ab",
    });
    const blank = headerAt(CookedHeader2, "a5".repeat(20));
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe(`0800a5a589abcdef00010406${"a5".repeat(8)}`);
    expectBounds(blank, {
      protocol: 0xffff,
      interfaceIndex: 0xffff_ffff,
      hardwareType: 0xffff,
      packetType: 255,
      addressBytes: 255,
    });
  });

  test("copies addresses of up to 8 bytes", () => {
    const header = headerAt(CookedHeader2, "0800000000000001000104ff0123456789abcdef");
    const target = new Uint8Array(8);
    expect([header.copyAddress(target), header.address]).toEqual([8, undefined]);
    expect(Buffer.from(target).toString("hex")).toBe("0123456789abcdef");
  });
});

describe("LoopbackHeader", () => {
  test.each([
    ["02000000", 2, 0x0800],
    ["00000002", 2, 0x0800],
    ["18000000", 24, 0x86dd],
    ["1c000000", 28, 0x86dd],
    ["1e000000", 30, 0x86dd],
    ["0000001e", 30, 0x86dd],
    ["0a000000", 10, 0x86dd],
    ["07000000", 7, 0],
    ["00000000", 0, 0],
    ["ffffffff", 0xffff_ffff, 0],
  ])("understands %s in either byte order", (hex, family, etherType) => {
    expectFields(headerAt(LoopbackHeader, hex), { family, etherType });
  });

  test("writes the family in network byte order", () => {
    const header = headerAt(LoopbackHeader, "a5a5a5a5");
    header.family = 24;
    expect(hexOf(header)).toBe("00000018");
    for (const wrong of [-1, 2 ** 32])
      expect(() => setFields(header, { family: wrong })).toThrow(RangeError);
  });
});
