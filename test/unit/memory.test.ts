import { expect, test } from "bun:test";
import { byteLengthOf, mapMemory, unmapMemory } from "../../lib/ffi/memory.ts";
import { EAGAIN } from "../../structs/constants/errno.ts";
import { failWith, MAP_FAILED, replaceEntry } from "../support/faults.ts";

class Liar extends Uint8Array {
  override get byteLength(): number {
    return 1_000_000;
  }
}

const ownProperty = new Uint8Array(3);
Object.defineProperty(ownProperty, "byteLength", { value: 1_000_000 });
const liarView = new DataView(new ArrayBuffer(4));
Object.defineProperty(liarView, "byteLength", { value: 1_000_000 });

test.each([
  ["a Uint8Array", new Uint8Array(5), 5],
  ["a part of a buffer", new Uint8Array(8).subarray(2, 5), 3],
  ["a Float64Array", new Float64Array(3), 24],
  ["a DataView", new DataView(new ArrayBuffer(8), 3), 5],
  ["a Buffer", Buffer.from("ab"), 2],
  ["an empty view", new Uint8Array(0), 0],
  ["a subclass that lies", new Liar(2), 2],
  ["a view with a false property", ownProperty, 3],
  ["a DataView with a false property", liarView, 4],
])("byteLengthOf() is the true length of %s", (_name, view, expected) => {
  expect(byteLengthOf(view)).toBe(expected);
});

test("byteLengthOf() of detached memory is 0", () => {
  const buffer = new ArrayBuffer(8);
  const view = new Uint8Array(buffer);
  buffer.transfer();
  expect(byteLengthOf(view)).toBe(0);
});

test("mapMemory() returns -errno, although the failure is no number that fits", () => {
  using fault = replaceEntry("mmap", () => failWith(EAGAIN, MAP_FAILED));
  expect(mapMemory(4096)).toBe(-EAGAIN);
  expect(fault.calls).toBe(1);
});

test("mapMemory() gives memory to be used, and unmapMemory() empties it once", () => {
  const mapping = mapMemory(100);
  if (typeof mapping === "number") throw new Error(`mmap failed with ${mapping}`);
  expect(mapping.address).toBeGreaterThan(0);
  expect(mapping.buffer.byteLength).toBe(100);
  new Uint8Array(mapping.buffer).fill(1);
  unmapMemory(mapping.buffer);
  expect(mapping.buffer.detached).toBe(true);
  expect(() => unmapMemory(mapping.buffer)).not.toThrow();
});

test("unmapMemory() believes no property that a buffer has been given", () => {
  const mapping = mapMemory(4096);
  if (typeof mapping === "number") throw new Error(`mmap failed with ${mapping}`);
  const bytes = new Uint8Array(mapping.buffer);
  Object.defineProperty(mapping.buffer, "detached", { value: true });
  Object.defineProperty(mapping.buffer, "transfer", { value: () => {} });
  unmapMemory(mapping.buffer);
  expect(bytes.length).toBe(0);
});
