import { describe, expect, test } from "bun:test";
import { EthernetHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const HEX = "0123456789abfedcba987654 86dd";
const FIELDS = {
  destinationValue: 0x0123_4567_89ab,
  sourceValue: 0xfedc_ba98_7654,
  etherType: 0x86dd,
};

describe("EthernetHeader", () => {
  test("reads and writes its fields", () => {
    expectFields(headerAt(EthernetHeader, HEX), {
      ...FIELDS,
      destination: "01:23:45:67:89:ab",
      source: "fe:dc:ba:98:76:54",
      isMulticast: true,
      isBroadcast: false,
    });
    const blank = headerAt(EthernetHeader, "a5".repeat(14));
    setFields(blank, FIELDS);
    expect(hexOf(blank)).toBe(HEX.replaceAll(" ", ""));
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const largest = { destinationValue: 2 ** 48 - 1, sourceValue: 2 ** 48 - 1, etherType: 0xffff };
    expectBounds(headerAt(EthernetHeader, HEX), { etherType: largest.etherType });
    const header = headerAt(EthernetHeader, HEX);
    for (const wrong of [-1, 2 ** 48, 0.5, Number.NaN]) {
      expect(() => setFields(header, { sourceValue: wrong })).toThrow(RangeError);
      expect(() => setFields(header, { destinationValue: wrong })).toThrow(RangeError);
    }
    expect(hexOf(header)).toBe(HEX.replaceAll(" ", ""));
    setFields(header, largest);
    expectFields(header, largest);
    expectFields(header, { isBroadcast: true, isMulticast: true });
  });

  test("takes addresses as text in one form only", () => {
    const header = headerAt(EthernetHeader, HEX);
    setFields(header, { source: "02:00:00:AA:bb:Cc", destination: "33:33:00:00:00:01" });
    expectFields(header, { source: "02:00:00:aa:bb:cc", destination: "33:33:00:00:00:01" });
    const wrong = ["", "02:00:00:00:00", "2:0:0:0:0:1", "02-00-00-00-00-01", "020000000001"];
    for (const text of [
      ...wrong,
      "02:00:00:00:00:01 ",
      "02:00:00:00:00:0g",
      "02:00:00:00:00:01:02",
    ])
      expect(() => setFields(header, { source: text })).toThrow(TypeError);
    expect(header.source).toBe("02:00:00:aa:bb:cc");
  });

  test("copies, sets and compares addresses as bytes", () => {
    const header = headerAt(EthernetHeader, HEX);
    const bytes = new Uint8Array(8);
    header.copySource(bytes, 2);
    expect(Buffer.from(bytes).toString("hex")).toBe("0000fedcba987654");
    expect([header.sourceEquals(bytes, 2), header.sourceEquals(bytes)]).toEqual([true, false]);
    expect(header.destinationEquals(bytes, 2)).toBeFalse();
    header.setDestination(bytes, 2);
    expect(header.destinationEquals(bytes, 2)).toBeTrue();
    header.copyDestination(bytes);
    header.setSource(bytes, 1);
    expect(header.source).toBe("dc:ba:98:76:54:76");
    for (const call of [
      () => header.copySource(bytes, 3),
      () => header.copyDestination(bytes, -1),
      () => header.setSource(new Uint8Array(5)),
      () => header.setDestination(bytes, Number.NaN),
      () => header.sourceEquals(new Uint8Array(0)),
    ])
      expect(call).toThrow(RangeError);
    expect(() => header.copySource([0, 0, 0, 0, 0, 0] as unknown as Uint8Array)).toThrow(TypeError);
    expectFillerAround(header);
  });

  test("ends its payload by a length of IEEE 802.3, and not by an EtherType", () => {
    const header = headerAt(EthernetHeader, `${"00".repeat(12)}0003${"11".repeat(46)}`);
    expect([header.payloadOffset, header.payloadEnd]).toEqual([OFFSET + 14, OFFSET + 17]);
    header.etherType = 1500;
    expect(header.payloadEnd).toBe(header.end);
    header.etherType = 0x0800;
    expect(header.payloadEnd).toBe(header.end);
  });
});
