import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  LinkType,
  type LinkTypeName,
  linkTypeName,
  linkTypeNumber,
  linkTypeOfHardware,
} from "../../lib/packet/index.ts";
import { requires, testIf } from "../support/require.ts";

test("linkTypeName() and linkTypeNumber() are each other's opposite", () => {
  for (const [name, value] of Object.entries(LinkType)) {
    expect(linkTypeName(value)).toBe(name as LinkTypeName);
    expect(linkTypeNumber(name as LinkTypeName)).toBe(value);
    expect(linkTypeNumber(value)).toBe(value);
  }
  expect(linkTypeNumber(65_535)).toBe(65_535);
  expect(linkTypeName(65_535)).toBeUndefined();
});

test("linkTypeNumber() refuses other names and numbers", () => {
  for (const wrong of ["Ethernet", "", "toString", "__proto__", null, undefined, {}])
    expect(() => linkTypeNumber(wrong as LinkTypeName)).toThrow(TypeError);
  for (const wrong of [-1, 65_536, 0.5, Number.NaN])
    expect(() => linkTypeNumber(wrong)).toThrow(RangeError);
});

test("linkTypeOfHardware() knows what raw packet sockets receive", () => {
  expect([1, 772, 65_534, 519, 768, 776].map(linkTypeOfHardware)).toEqual([
    1, 1, 101, 101, 101, 101,
  ]);
  expect([32, 280, 778, -1, Number.NaN].map(linkTypeOfHardware)).toEqual(
    new Array(5).fill(undefined),
  );
});

testIf(requires("capinfos"))("LinkType has the numbers that capture files use", () => {
  // In Wireshark's words.
  const names: Record<LinkTypeName, string> = {
    null: "null",
    ethernet: "ether",
    ppp: "ppp",
    raw: "rawip",
    ieee802_11: "ieee-802-11",
    loop: "loop",
    linux_sll: "linux-sll",
    ieee802_11_radio: "ieee-802-11-radiotap",
    ipv4: "rawip4",
    ipv6: "rawip6",
    netlink: "netlink",
    linux_sll2: "linux-sll2",
  };
  expect(Object.keys(names).sort()).toEqual(Object.keys(LinkType).sort());
  const folder = mkdtempSync(join(tmpdir(), "link-types-"));
  try {
    const files = Object.entries(LinkType).map(([name, value]) => {
      // The header of a pcap file, and no packet.
      const header = Buffer.alloc(24);
      header.writeUInt32LE(0xa1b2_c3d4, 0);
      header.writeUInt32LE(0x0004_0002, 4);
      header.writeUInt32LE(65_535, 16);
      header.writeUInt32LE(value, 20);
      const file = join(folder, name);
      writeFileSync(file, header);
      return file;
    });
    const { stdout, exitCode } = Bun.spawnSync(["capinfos", "-T", "-r", "-E", ...files]);
    expect(exitCode).toBe(0);
    const lines = stdout.toString().trim().split("\n");
    const said = lines.map((line) => line.slice(folder.length + 1).split("\t"));
    expect(Object.fromEntries(said)).toEqual(names);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
