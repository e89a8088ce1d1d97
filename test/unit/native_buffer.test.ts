import { read } from "bun:ffi";
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { SystemError } from "../../lib/error.ts";
import { libc } from "../../lib/ffi/libc.ts";
import { NativeBuffer } from "../../lib/native_buffer.ts";
import { EINVAL, ENOMEM } from "../../structs/constants/errno.ts";
import { failWith, MAP_FAILED, replaceEntry } from "../support/faults.ts";

const PAGE = 4096;
const MIB = 2 ** 20;

// A system call fills memory whose engine object may be gone: only the process's own map tells
// whether an address may be read.
function isMapped(address: number): boolean {
  return readFileSync("/proc/self/maps", "latin1")
    .split("\n")
    .some((line) => {
      const [start, end] = line.split(" ", 1).join().split("-");
      return Number(`0x${start}`) <= address && address < Number(`0x${end}`);
    });
}

function residentBytes(): number {
  return Number(readFileSync("/proc/self/statm", "latin1").split(" ")[1]) * PAGE;
}

test.each([1, 16, PAGE, PAGE + 1, 3 * MIB])("NativeBuffer of %d bytes is that long", (length) => {
  using buffer = new NativeBuffer(length);
  expect(buffer.bytes.length).toBe(length);
  expect(buffer.bytes.buffer.byteLength).toBe(length);
  expect(buffer.freed).toBe(false);
});

test("NativeBuffer is zeroed, page-aligned memory at its address", () => {
  using buffer = new NativeBuffer(3 * PAGE);
  expect(buffer.address % PAGE).toBe(0);
  expect(buffer.bytes.every((byte) => byte === 0)).toBe(true);
  buffer.bytes[PAGE + 5] = 0x5a;
  expect(read.u8(buffer.address as Parameters<typeof read.u8>[0], PAGE + 5)).toBe(0x5a);
});

test("NativeBuffer stays where it is, whatever the collector does", () => {
  using buffer = new NativeBuffer(64);
  const address = buffer.address as Parameters<typeof read.u8>[0];
  for (let round = 0; round < 200; round++) {
    buffer.bytes.fill(round);
    if (round % 50 === 0) Bun.gc(true);
    expect(read.u8(address, 63)).toBe(round);
  }
});

test.each([0, -1, 1.5, 2 ** 32 + 1, Number.NaN, Number.POSITIVE_INFINITY])(
  "NativeBuffer refuses %d bytes before any call",
  (length) => {
    using fault = replaceEntry("mmap", () => failWith(EINVAL, MAP_FAILED));
    expect(() => new NativeBuffer(length)).toThrow(
      new RangeError(`Cannot use ${length} as a length in bytes: expected 1 to 4294967296`),
    );
    expect(fault.calls).toBe(0);
  },
);

test.each([["4096"], [undefined], [null], [4096n]])("NativeBuffer refuses %p", (length) => {
  expect(() => new NativeBuffer(length as unknown as number)).toThrow(TypeError);
});

test("NativeBuffer reports that there is no memory", () => {
  using fault = replaceEntry("mmap", () => failWith(ENOMEM, MAP_FAILED));
  const make = () => new NativeBuffer(PAGE);
  expect(make).toThrow(SystemError);
  expect(make).toThrow("mmap ENOMEM: not enough memory");
  expect(fault.calls).toBe(2);
});

test("NativeBuffer takes the failure of the real mmap for one", () => {
  // mmap(2): EINVAL when the offset is not a multiple of the page size.
  const { mmap } = libc;
  using _fault = replaceEntry("mmap", (address, length, protection, flags, fd) =>
    mmap(address, length, protection, flags, fd, 1),
  );
  expect(() => new NativeBuffer(PAGE)).toThrow("mmap EINVAL: invalid argument");
});

test("free() empties every view instead of leaving it dangling", () => {
  const buffer = new NativeBuffer(PAGE);
  const { address, bytes } = buffer;
  const slice = bytes.subarray(16, 32);
  const words = new Int32Array(bytes.buffer);
  const view = new DataView(bytes.buffer, 8);
  buffer.free();
  expect(buffer.freed).toBe(true);
  expect([buffer.bytes.length, slice.length, words.length]).toEqual([0, 0, 0]);
  expect(slice[0]).toBeUndefined();
  expect(() => view.getInt8(0)).toThrow(TypeError);
  expect(isMapped(address)).toBe(false);
});

test("free() frees what was mapped, whatever bytes has become", () => {
  const buffer = new NativeBuffer(PAGE);
  const { address, bytes } = buffer;
  Object.defineProperty(buffer, "bytes", { value: new Uint8Array(8) });
  buffer.free();
  expect(bytes.length).toBe(0);
  expect(buffer.bytes.length).toBe(8);
  expect(isMapped(address)).toBe(false);
});

test("free() does nothing the second time", () => {
  const first = new NativeBuffer(8 * MIB);
  first.free();
  // The kernel is likely to hand the same place out again: it must not be taken away.
  const second = new NativeBuffer(8 * MIB);
  first.free();
  Bun.gc(true);
  second.bytes.fill(7);
  expect(second.bytes.at(-1)).toBe(7);
  expect(isMapped(second.address)).toBe(true);
  second.free();
});

test("a using block frees at its end", () => {
  let bytes: Uint8Array;
  {
    using buffer = new NativeBuffer(PAGE);
    bytes = buffer.bytes;
    expect(bytes.length).toBe(PAGE);
  }
  expect(bytes.length).toBe(0);
});

test.each([
  ["transfer()", (stolen: ArrayBuffer) => stolen.transfer()],
  ["structuredClone()", (stolen: ArrayBuffer) => structuredClone(stolen, { transfer: [stolen] })],
])("memory that %s has taken belongs to the taker, and free() leaves it", (_name, take) => {
  const buffer = new NativeBuffer(PAGE);
  buffer.bytes.fill(0x5a);
  const taken = new Uint8Array(take(buffer.bytes.buffer));
  expect(buffer.freed).toBe(true);
  buffer.free();
  Bun.gc(true);
  expect(taken.length).toBe(PAGE);
  expect(taken.every((byte) => byte === 0x5a)).toBe(true);
  taken.fill(1);
  expect(taken.at(-1)).toBe(1);
});

test("memory survives the collector while a view of it lives", () => {
  const makeView = () => new NativeBuffer(PAGE).bytes.subarray(100, 200);
  const views = Array.from({ length: 50 }, makeView);
  for (const [index, view] of views.entries()) view.fill(index);
  for (let round = 0; round < 3; round++) {
    Bun.gc(true);
    // Garbage that would be given the same place if it were free.
    for (let i = 0; i < 50; i++) new NativeBuffer(PAGE).bytes.fill(0xee);
  }
  for (const [index, view] of views.entries())
    expect(view.every((byte) => byte === index)).toBe(true);
});

test("dropped buffers do not stay mapped", async () => {
  const before = residentBytes();
  for (let i = 0; i < 200; i++) {
    new NativeBuffer(4 * MIB).bytes.fill(1);
    if (i % 10 === 9) {
      await Bun.sleep(0);
      Bun.gc(true);
    }
  }
  // 800 MiB were written. The last few may still be held by the stack.
  const deadline = performance.now() + 5000;
  while (residentBytes() > before + 100 * MIB && performance.now() < deadline) {
    await Bun.sleep(1);
    Bun.gc(true);
  }
  expect(residentBytes()).toBeLessThan(before + 100 * MIB);
});

test("freed buffers are unmapped at once", () => {
  const before = residentBytes();
  for (let i = 0; i < 200; i++) {
    const buffer = new NativeBuffer(4 * MIB);
    buffer.bytes.fill(1);
    buffer.free();
  }
  expect(residentBytes()).toBeLessThan(before + 100 * MIB);
});
