import { afterAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { libc } from "../../lib/ffi/libc.ts";
import {
  byteLengthOf,
  type Mapping,
  mapDescriptor,
  mapMemory,
  unmapMemory,
} from "../../lib/ffi/memory.ts";
import { EACCES, EAGAIN, EBADF, EINVAL } from "../../structs/constants/errno.ts";
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

// The largest page of both architectures: a multiple of it is one of every other.
const PAGE = 65_536;
const folder = mkdtempSync(join(tmpdir(), "bun-sockets-memory-"));
afterAll(() => rmSync(folder, { recursive: true }));

// Maps a file of two pages, of ones and of twos, through a descriptor that is closed at once.
function mapFile(name: string, byteLength: number, offset: number, flags = "r+") {
  const path = join(folder, name);
  writeFileSync(path, new Uint8Array(2 * PAGE).fill(1).fill(2, PAGE));
  const fd = openSync(path, flags);
  const mapping = mapDescriptor(fd, byteLength, offset);
  closeSync(fd);
  return { path, mapping };
}

function mapped(mapping: Mapping | number): Mapping {
  if (typeof mapping === "number") throw new Error(`mmap failed with ${mapping}`);
  return mapping;
}

const isMapped = (path: string): boolean =>
  readFileSync("/proc/self/maps", "utf8").includes(`${path}\n`);

test("mapDescriptor() shares what the descriptor stands for, from the offset on", () => {
  const { path, mapping } = mapFile("shared", PAGE, PAGE);
  const { address, buffer } = mapped(mapping);
  expect(address).toBeGreaterThan(0);
  expect(buffer.byteLength).toBe(PAGE);
  const bytes = new Uint8Array(buffer);
  expect(bytes.every((byte) => byte === 2)).toBe(true);
  bytes[1] = 3;
  expect([...readFileSync(path).subarray(PAGE - 1, PAGE + 3)]).toEqual([1, 2, 3, 2]);
  unmapMemory(buffer);
});

test("unmapMemory() unmaps a descriptor's memory, of any length, and empties its views", () => {
  const { path, mapping } = mapFile("unmapped", PAGE - 5, 0);
  const { buffer } = mapped(mapping);
  const bytes = new Uint8Array(buffer);
  expect([bytes.length, isMapped(path)]).toEqual([PAGE - 5, true]);
  unmapMemory(buffer);
  expect([bytes.length, isMapped(path)]).toEqual([0, false]);
  expect(() => unmapMemory(buffer)).not.toThrow();
});

test("mapDescriptor()'s memory goes when nobody holds it any more", async () => {
  const paths = Array.from({ length: 20 }, (_, i) => mapFile(`dropped${i}`, PAGE, 0).path);
  const end = performance.now() + 4000;
  // The engine may keep the last of them for a while, where a register still has it.
  while (paths.filter(isMapped).length > 1 && performance.now() < end) {
    Bun.gc(true);
    await new Promise(setImmediate);
  }
  expect(paths.filter(isMapped).length).toBeLessThanOrEqual(1);
});

test("mapDescriptor() that fails is -EBADF, -EINVAL and -EACCES", () => {
  expect(mapDescriptor(-1, PAGE, 0)).toBe(-EBADF);
  expect(mapFile("refused", PAGE, 1).mapping).toBe(-EINVAL);
  expect(mapFile("refused", 0, 0).mapping).toBe(-EINVAL);
  expect(mapFile("refused", PAGE, 0, "r").mapping).toBe(-EACCES);
});

test("mapDescriptor() returns -errno, although the failure is no number that fits", () => {
  using fault = replaceEntry("mmap", () => failWith(EAGAIN, MAP_FAILED));
  expect(mapDescriptor(0, PAGE, 0)).toBe(-EAGAIN);
  expect(fault.calls).toBe(1);
});

test("mapDescriptor() unmaps what cannot become an ArrayBuffer, and says why it cannot", () => {
  const { mmap, munmap } = libc;
  const unmapped: unknown[] = [];
  let address: unknown;
  using _mmap = replaceEntry("mmap", (hint, _length, ...rest) => {
    address = mmap(hint, PAGE, ...rest);
    return address as number;
  });
  using _munmap = replaceEntry("munmap", (start) => {
    unmapped.push(start);
    return munmap(start, PAGE);
  });
  expect(() => mapFile("oversized", 2 ** 52, 0)).toThrow(RangeError);
  expect(unmapped).toEqual([address]);
  expect(isMapped(join(folder, "oversized"))).toBe(false);
});
