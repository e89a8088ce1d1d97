import { ptr } from "bun:ffi";
import { expect, test } from "bun:test";
import { readMemory, readText } from "../../lib/sys/index.ts";

test("readMemory() copies what is at an address", () => {
  const memory = Buffer.from("--abc--");
  const address = ptr(memory);
  const copy = readMemory(address + 2, 3);
  expect([...copy]).toEqual([0x61, 0x62, 0x63]);
  memory.fill(0);
  expect([...copy]).toEqual([0x61, 0x62, 0x63]);
  expect(copy.byteOffset).toBe(0);
  expect(copy.buffer.byteLength).toBe(3);
});

test("readMemory() of nothing is empty, whatever the address", () => {
  expect(readMemory(1, 0)).toEqual(new Uint8Array(0));
});

test("readText() ends at the NUL", () => {
  const memory = Buffer.from("grün\0rest\0");
  expect(readText(ptr(memory))).toBe("grün");
});
