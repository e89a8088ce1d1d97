import { describe, expect, test } from "bun:test";
import { ArpHeader } from "../../../lib/packet/index.ts";
import {
  expectBounds,
  expectFields,
  expectFillerAround,
  headerAt,
  hexOf,
  OFFSET,
  setFields,
} from "../../support/headers.ts";

const HEX = "0001080006040002 020000000002 c0000202 0200000000ff c0000201";
const TEXTS = {
  senderHardware: "02:00:00:00:00:02",
  senderProtocol: "192.0.2.2",
  targetHardware: "02:00:00:00:00:ff",
  targetProtocol: "192.0.2.1",
};

describe("ArpHeader", () => {
  test("reads and writes its fields", () => {
    const fields = {
      hardwareType: 1,
      protocolType: 0x0800,
      hardwareBytes: 6,
      protocolBytes: 4,
      operation: 2,
    };
    expectFields(headerAt(ArpHeader, HEX), {
      ...fields,
      ...TEXTS,
      senderHardwareValue: 0x0200_0000_0002,
      senderProtocolValue: 0xc000_0202,
      targetHardwareValue: 0x0200_0000_00ff,
      targetProtocolValue: 0xc000_0201,
    });
    const blank = headerAt(ArpHeader, HEX);
    const { memory } = blank;
    for (let at = 0; at < 28; at++) if (at < 4 || at > 5) memory.setUint8(OFFSET + at, 0xa5);
    setFields(blank, { ...fields, ...TEXTS });
    expect(hexOf(blank)).toBe(HEX.replaceAll(" ", ""));
    setFields(blank, { senderProtocolValue: 1, targetHardwareValue: 2 });
    expectFields(blank, { senderProtocol: "0.0.0.1", targetHardware: "00:00:00:00:00:02" });
    setFields(blank, { senderHardwareValue: 3, targetProtocolValue: 4 });
    expectFields(blank, { senderHardware: "00:00:00:00:00:03", targetProtocol: "0.0.0.4" });
    expectFillerAround(blank);
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const word = 0xffff;
    expectBounds(headerAt(ArpHeader, HEX), {
      hardwareType: word,
      protocolType: word,
      hardwareBytes: 255,
      protocolBytes: 255,
      operation: word,
      senderProtocolValue: 0xffff_ffff,
      targetProtocolValue: 0xffff_ffff,
    });
    const header = headerAt(ArpHeader, HEX);
    for (const text of ["", "1.2.3", "1.2.3.4.5", "::1", "01.2.3.4"])
      expect(() => setFields(header, { targetProtocol: text })).toThrow(TypeError);
    expect(() => setFields(header, { senderHardware: "02" })).toThrow(TypeError);
    expect(hexOf(header)).toBe(HEX.replaceAll(" ", ""));
  });

  test("finds addresses of other lengths, and has no values for them", () => {
    const infiniband = `0020080014040001${"11".repeat(20)}c0000202${"00".repeat(20)}c0000201`;
    const header = headerAt(ArpHeader, infiniband);
    expectFields(header, {
      headerBytes: 56,
      senderHardwareOffset: OFFSET + 8,
      senderProtocolOffset: OFFSET + 28,
      targetHardwareOffset: OFFSET + 32,
      targetProtocolOffset: OFFSET + 52,
      senderHardware: undefined,
      senderHardwareValue: 0,
      targetHardware: undefined,
      senderProtocol: "192.0.2.2",
      targetProtocol: "192.0.2.1",
    });
    expect(() => setFields(header, { senderHardware: "02:00:00:00:00:01" })).toThrow("others");
    expect(() => setFields(header, { senderHardwareValue: 1 })).toThrow(TypeError);
    expect(hexOf(header)).toBe(infiniband);
  });

  test("has no value for what later lengths have moved behind the end", () => {
    const header = headerAt(ArpHeader, HEX);
    header.hardwareBytes = 255;
    expectFields(header, { senderHardware: undefined, targetProtocol: undefined });
    expect(() => setFields(header, { targetProtocolValue: 1 })).toThrow(TypeError);
    expect(header.payloadOffset).toBe(header.end);
  });
});
