import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  be16,
  be32,
  bytes,
  i16,
  i32,
  i64,
  type Kind,
  nested,
  packed,
  struct,
  u8,
  u16,
  u32,
  u64,
  usize,
} from "../../structs/layout.ts";

const int16 = { min: -(2 ** 15), max: 2 ** 15 - 1 };
const int32 = { min: -(2 ** 31), max: 2 ** 31 - 1 };
const uint64 = fc.maxSafeNat();
const int64 = fc.maxSafeInteger();

interface Row {
  readonly name: string;
  readonly kind: Kind<number>;
  readonly values: fc.Arbitrary<number>;
  /** The value by another way: the engine's own accessor. */
  readonly read: (view: DataView, at: number) => number | bigint;
}

const rows: readonly Row[] = [
  { name: "u8", kind: u8, values: fc.nat(0xff), read: (view, at) => view.getUint8(at) },
  { name: "u16", kind: u16, values: fc.nat(0xffff), read: (view, at) => view.getUint16(at, true) },
  {
    name: "i16",
    kind: i16,
    values: fc.integer(int16),
    read: (view, at) => view.getInt16(at, true),
  },
  {
    name: "u32",
    kind: u32,
    values: fc.nat(0xffff_ffff),
    read: (view, at) => view.getUint32(at, true),
  },
  {
    name: "i32",
    kind: i32,
    values: fc.integer(int32),
    read: (view, at) => view.getInt32(at, true),
  },
  { name: "u64", kind: u64, values: uint64, read: (view, at) => view.getBigUint64(at, true) },
  { name: "i64", kind: i64, values: int64, read: (view, at) => view.getBigInt64(at, true) },
  { name: "usize", kind: usize, values: uint64, read: (view, at) => view.getBigUint64(at, true) },
  { name: "be16", kind: be16, values: fc.nat(0xffff), read: (view, at) => view.getUint16(at) },
  { name: "be32", kind: be32, values: fc.nat(0xffff_ffff), read: (view, at) => view.getUint32(at) },
];

// The kernel writes into memory that held something else: a byte that is missed must show.
const DIRTY = 0xa5;

function dirtyView(length: number): DataView {
  // Behind the start of its buffer, as a view of a slot is.
  return new DataView(new Uint8Array(length + 8).fill(DIRTY).buffer, 8);
}

function bytesOf(view: DataView): number[] {
  return [...new Uint8Array(view.buffer, view.byteOffset, view.byteLength)];
}

function expectDirtyOutside(view: DataView, from: number, to: number): void {
  const outside = [...new Uint8Array(view.buffer)];
  outside.splice(view.byteOffset + from, to - from);
  expect(outside).toEqual(outside.map(() => DIRTY));
}

test.each(rows)(
  "$name writes its own bytes only, and reads them back",
  ({ kind, values, read }) => {
    fc.assert(
      fc.property(values, fc.nat(9), fc.nat(9), (value, offset, at) => {
        const view = dirtyView(32);
        const member = kind.at(offset);
        member.set(view, at, value);
        expect(member.get(view, at)).toBe(value);
        expect(Number(read(view, at + offset))).toBe(value);
        expectDirtyOutside(view, at + offset, at + offset + kind.size);
      }),
    );
  },
);

test.each([
  ["u8", u8, 0x81, [0x81]],
  ["u16", u16, 0x8102, [0x02, 0x81]],
  ["i16", i16, -2, [0xfe, 0xff]],
  ["be16", be16, 0x8102, [0x81, 0x02]],
  ["u32", u32, 0x81020304, [0x04, 0x03, 0x02, 0x81]],
  ["i32", i32, -2, [0xfe, 0xff, 0xff, 0xff]],
  ["be32", be32, 0x81020304, [0x81, 0x02, 0x03, 0x04]],
  ["u64", u64, 0x0001_0203_0405_06, [6, 5, 4, 3, 2, 1, 0, 0]],
  ["u64", u64, 2 ** 32 - 1, [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]],
  ["u64", u64, 2 ** 32, [0, 0, 0, 0, 1, 0, 0, 0]],
  ["u64", u64, 2 ** 53 - 1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0]],
  ["usize", usize, 2 ** 47 + 1, [1, 0, 0, 0, 0, 0x80, 0, 0]],
  ["i64", i64, 0, [0, 0, 0, 0, 0, 0, 0, 0]],
  ["i64", i64, -1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ["i64", i64, -(2 ** 32), [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]],
  ["i64", i64, -(2 ** 32) - 1, [0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff]],
  ["i64", i64, -(2 ** 53) + 1, [1, 0, 0, 0, 0, 0, 0xe0, 0xff]],
] as const)("%s lays out %d byte by byte", (_name, kind, value, expected) => {
  const view = dirtyView(8);
  kind.at(0).set(view, 0, value);
  expect(bytesOf(view).slice(0, kind.size)).toEqual([...expected]);
  expect(kind.at(0).get(view, 0)).toBe(value);
});

test("i64 and u64 agree with the engine's bigints at every edge", () => {
  const edges = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1, 2 ** 53];
  const view = dirtyView(8);
  for (const edge of edges) {
    u64.at(0).set(view, 0, edge);
    expect(view.getBigUint64(0, true)).toBe(BigInt(edge));
    i64.at(0).set(view, 0, -edge);
    expect(view.getBigInt64(0, true)).toBe(BigInt(-edge));
    view.setBigInt64(0, BigInt(-edge), true);
    expect(i64.at(0).get(view, 0)).toBe(0 - edge);
  }
});

test.each(rows)("$name is aligned to its size, and packed() takes the padding away", ({ kind }) => {
  const padded = struct("padded", "", { first: u8, second: kind });
  expect(padded).toMatchObject({ size: 2 * kind.size, align: kind.size });
  expect(padded.second).toMatchObject({ offset: kind.size, size: kind.size });

  const tight = struct("tight", "", { first: u8, second: packed(kind) });
  expect(tight).toMatchObject({ size: 1 + kind.size, align: 1 });
  expect(tight.second).toMatchObject({ offset: 1, size: kind.size });
});

test("packed() keeps value and byte order", () => {
  // struct epoll_event of x86-64 has this shape.
  const event = struct("event", "", { events: u32, data: packed(u64), port: packed(be16) });
  const view = dirtyView(32);
  event.data.set(view, 3, 2 ** 40 + 5);
  event.port.set(view, 3, 0x0102);
  expect(event.data.get(view, 3)).toBe(2 ** 40 + 5);
  expect(bytesOf(view).slice(15, 17)).toEqual([1, 2]);
  expectDirtyOutside(view, 3 + 4, 3 + 14);
});

test("bytes() copies in, and hands out a view of the same memory", () => {
  const named = struct("named", "", { family: u16, name: bytes(6), tail: u8 });
  const view = dirtyView(24);
  named.name.set(view, 4, new Uint8Array([1, 2, 3, 4, 5, 6]));
  const name = named.name.get(view, 4);
  expect([...name]).toEqual([1, 2, 3, 4, 5, 6]);
  expectDirtyOutside(view, 4 + 2, 4 + 8);
  view.setUint8(4 + 2, 9);
  expect(name[0]).toBe(9);
  name[5] = 7;
  expect(view.getUint8(4 + 7)).toBe(7);
});

test("bytes() leaves the rest alone when given fewer, and refuses more", () => {
  const named = struct("named", "", { name: bytes(6), tail: u8 });
  const view = dirtyView(8);
  named.name.set(view, 0, new Uint8Array([1, 2]));
  expect(bytesOf(view)).toEqual([1, 2, DIRTY, DIRTY, DIRTY, DIRTY, DIRTY, DIRTY]);
  expect(() => named.name.set(view, 0, new Uint8Array(7))).toThrow(RangeError);
  expectDirtyOutside(view, 0, 2);
});

test("bytes() takes the alignment of the C type that it stands for", () => {
  const aligned = struct("aligned", "", { first: u8, address: bytes(16, 4), last: u8 });
  expect(aligned).toMatchObject({ size: 24, align: 4 });
  expect(aligned.address.offset).toBe(4);
});

test("nested() places a struct by its own alignment and reaches it by its offset", () => {
  const inner = struct("inner", "", { length: usize, flags: i32 });
  const outer = struct("outer", "", { first: u8, inner: nested(inner), last: u32 });
  // The inner struct ends in padding, and that padding stays.
  expect(outer).toMatchObject({ size: 32, align: 8 });
  expect(outer.inner).toMatchObject({ offset: 8, size: 16 });
  expect(outer.last.offset).toBe(24);

  const view = dirtyView(64);
  expect(outer.inner.get(view, 16)).toBe(24);
  inner.flags.set(view, outer.inner.get(view, 16), -5);
  expect(view.getInt32(16 + 8 + 8, true)).toBe(-5);
  expectDirtyOutside(view, 32, 36);
});

test("nested() refuses to be set as a whole", () => {
  const inner = struct("inner", "", { value: u8 });
  const outer = struct("outer", "", { inner: nested(inner) });
  const view = dirtyView(8);
  expect(() => outer.inner.set(view, 0, 1)).toThrow(
    new TypeError("Cannot set struct inner as a whole: set its members"),
  );
});

test("struct() keeps tag, header and the members in their order", () => {
  const declared = struct("tagged", "some/header.h", { b: u8, a: u32, c: u16 });
  expect(declared).toMatchObject({ tag: "tagged", header: "some/header.h", size: 12, align: 4 });
  expect(declared.members).toEqual([
    { name: "b", offset: 0, size: 1 },
    { name: "a", offset: 4, size: 4 },
    { name: "c", offset: 8, size: 2 },
  ]);
});

test("struct() follows the C ABI's rules for any members", () => {
  const kinds = fc.constantFrom(u8, u16, u32, u64, bytes(3), bytes(5), bytes(16, 4), packed(u32));
  fc.assert(
    fc.property(fc.array(kinds, { minLength: 1, maxLength: 12 }), (list) => {
      const declared = struct(
        "any",
        "",
        Object.fromEntries(list.map((kind, i) => [`m${i}`, kind])),
      );
      let end = 0;
      for (const [i, kind] of list.entries()) {
        const offset = declared.members[i]?.offset ?? Number.NaN;
        expect(offset % kind.align).toBe(0);
        // No earlier place would have done.
        expect(offset - end).toBeWithin(0, kind.align);
        end = offset + kind.size;
      }
      expect(declared.align).toBe(Math.max(...list.map((kind) => kind.align)));
      expect(declared.size % declared.align).toBe(0);
      expect(declared.size - end).toBeWithin(0, declared.align);
    }),
  );
});

test("the members of an array of structs do not reach into the neighbours", () => {
  const item = struct("item", "", { length: u32, flags: i16, name: bytes(2) });
  const view = dirtyView(3 * item.size);
  item.length.set(view, item.size, 1);
  item.flags.set(view, item.size, -1);
  item.name.set(view, item.size, new Uint8Array(2));
  expectDirtyOutside(view, item.size, 2 * item.size);
});
