/**
 * The vocabulary in which C structs are declared: scalar kinds, and `struct`, which lays them out
 * by the rules of the C ABI that x86-64 and arm64 Linux share (each member at the next multiple of
 * its alignment, the whole a multiple of the largest).
 *
 * A declared member is an object with `offset`, `size`, `get(view, at)` and `set(view, at, value)`,
 * where `at` is the offset of the whole struct in the view. This is C with C's dangers: nothing
 * here checks what the bytes mean.
 *
 * @module
 */

/** How one C type is laid out, and how it is read and written at a fixed offset inside a struct. */
export interface Kind<Value> {
  /** `sizeof`, in bytes. */
  readonly size: number;
  /** `_Alignof`, in bytes. */
  readonly align: number;
  /** Which bits of the unit that is `size` bytes long it has, where it is a bit-field. */
  readonly bits?: Bits | undefined;
  /** Makes the accessors of a member that lies `offset` bytes into its struct. */
  at(offset: number): Accessors<Value>;
}

/** Where a bit-field lies in its unit: `shift` bits from the lowest, `width` bits. */
export interface Bits {
  readonly shift: number;
  readonly width: number;
}

/** Reads and writes one member; `at` is the offset in bytes of the whole struct in the view. */
export interface Accessors<Value> {
  get(view: DataView, at: number): Value;
  set(view: DataView, at: number, value: Value): void;
}

/**
 * One member of a declared struct: where it is (bytes from the start of the struct) and how to
 * reach it.
 */
export interface Member<Value> extends Accessors<Value> {
  readonly offset: number;
  readonly size: number;
}

// `any` because the constraint must accept kinds of every value type at once; `unknown` would refuse
// all of them. The one exception in the project.
// biome-ignore lint/suspicious/noExplicitAny: for the reason above.
type Kinds = Record<string, Kind<any>>;

/**
 * What `struct` returns: the C tag and header, size and alignment in bytes, and each member under
 * its C name.
 */
export type Struct<Members extends Kinds> = {
  readonly [Name in keyof Members]: Members[Name] extends Kind<infer Value> ? Member<Value> : never;
} & StructInfo;

/** The facts about a declared struct that do not depend on its members' types. */
export interface StructInfo {
  /** The C tag: `struct tag`. */
  readonly tag: string;
  /** The header that declares it, as written after `#include`. */
  readonly header: string;
  /** `sizeof(struct tag)` in bytes. */
  readonly size: number;
  /** `_Alignof(struct tag)` in bytes. */
  readonly align: number;
  /** The members in the order of the header. */
  readonly members: readonly {
    readonly name: string;
    readonly offset: number;
    readonly size: number;
    readonly bits?: Bits | undefined;
  }[];
}

/**
 * Declares a C struct: its tag, the header it comes from, and its members in the header's order.
 */
export function struct<Members extends Kinds>(
  tag: string,
  header: string,
  kinds: Members,
): Struct<Members> {
  const members: { name: string; offset: number; size: number; bits?: Bits | undefined }[] = [];
  const fields: Record<string, Member<unknown>> = {};
  let end = 0;
  let align = 1;
  for (const [name, kind] of Object.entries(kinds)) {
    // A bit-field that does not begin its unit is in the one of the member before it.
    const offset = kind.bits?.shift ? end - kind.size : roundUp(end, kind.align);
    members.push({ name, offset, size: kind.size, ...(kind.bits && { bits: kind.bits }) });
    fields[name] = { offset, size: kind.size, ...kind.at(offset) };
    end = offset + kind.size;
    align = Math.max(align, kind.align);
  }
  return {
    ...fields,
    tag,
    header,
    size: roundUp(end, align),
    align,
    members,
  } as unknown as Struct<Members>;
}

function roundUp(offset: number, align: number): number {
  return Math.ceil(offset / align) * align;
}

function scalar<Value>(size: number, at: (offset: number) => Accessors<Value>): Kind<Value> {
  return { size, align: size, at };
}

/** `uint8_t`. */
export const u8: Kind<number> = scalar(1, (offset) => ({
  get: (view, at) => view.getUint8(at + offset),
  set: (view, at, value) => view.setUint8(at + offset, value),
}));

/** `uint16_t` in host byte order, which is little-endian on both architectures. */
export const u16: Kind<number> = scalar(2, (offset) => ({
  get: (view, at) => view.getUint16(at + offset, true),
  set: (view, at, value) => view.setUint16(at + offset, value, true),
}));

/** `int16_t` in host byte order. */
export const i16: Kind<number> = scalar(2, (offset) => ({
  get: (view, at) => view.getInt16(at + offset, true),
  set: (view, at, value) => view.setInt16(at + offset, value, true),
}));

/** `uint32_t` in host byte order. */
export const u32: Kind<number> = scalar(4, (offset) => ({
  get: (view, at) => view.getUint32(at + offset, true),
  set: (view, at, value) => view.setUint32(at + offset, value, true),
}));

/** `int32_t` in host byte order. */
export const i32: Kind<number> = scalar(4, (offset) => ({
  get: (view, at) => view.getInt32(at + offset, true),
  set: (view, at, value) => view.setInt32(at + offset, value, true),
}));

// 64-bit members are numbers, exact up to 2^53, because two 32-bit halves are 4 to 8 times faster
// than a bigint.
const HIGH = 2 ** 32;

/** `uint64_t` in host byte order, as a number: exact up to 2^53. */
export const u64: Kind<number> = scalar(8, (offset) => ({
  get: (view, at) =>
    view.getUint32(at + offset, true) + view.getUint32(at + offset + 4, true) * HIGH,
  set: (view, at, value) => {
    view.setUint32(at + offset, value, true);
    // Most values fit the lower half, and a division costs more than both stores.
    view.setUint32(at + offset + 4, value < HIGH ? 0 : Math.floor(value / HIGH), true);
  },
}));

/** `int64_t` in host byte order, as a number: exact up to ±2^53. */
export const i64: Kind<number> = scalar(8, (offset) => ({
  get: (view, at) =>
    view.getUint32(at + offset, true) + view.getInt32(at + offset + 4, true) * HIGH,
  set: (view, at, value) => {
    view.setUint32(at + offset, value, true);
    view.setInt32(at + offset + 4, Math.floor(value / HIGH), true);
  },
}));

/** `size_t`, `socklen_t`-free lengths and pointers: 64 bits on both architectures. */
export const usize: Kind<number> = u64;

/** A 16-bit member in network byte order: a port, an EtherType. */
export const be16: Kind<number> = scalar(2, (offset) => ({
  get: (view, at) => view.getUint16(at + offset, false),
  set: (view, at, value) => view.setUint16(at + offset, value, false),
}));

/** A 32-bit member in network byte order: an IPv4 address. */
export const be32: Kind<number> = scalar(4, (offset) => ({
  get: (view, at) => view.getUint32(at + offset, false),
  set: (view, at, value) => view.setUint32(at + offset, value, false),
}));

/**
 * A bit-field: `width` bits of a unit of 1, 2 or 4 bytes in host byte order, `shift` from the lowest,
 * which is the first that C names on both architectures. The one with shift 0 begins a unit, and
 * those after it are in the same.
 */
export function bitField(unit: Kind<number>, shift: number, width: number): Kind<number> {
  const ones = 2 ** width - 1;
  const mask = ones << shift;
  return {
    size: unit.size,
    align: unit.align,
    bits: { shift, width },
    at: (offset) => {
      const { get, set } = unit.at(offset);
      return {
        get: (view, at) => (get(view, at) >>> shift) & ones,
        set: (view, at, value) =>
          set(view, at, (get(view, at) & ~mask) | ((value << shift) & mask)),
      };
    },
  };
}

/** An array of `length` bytes. `get` makes a view of them, `set` copies into them. */
export function bytes(length: number, align = 1): Kind<Uint8Array> {
  return {
    size: length,
    align,
    at: (offset) => ({
      get: (view, at) => new Uint8Array(view.buffer, view.byteOffset + at + offset, length),
      set: (view, at, value) =>
        new Uint8Array(view.buffer, view.byteOffset + at + offset, length).set(value),
    }),
  };
}

/**
 * A struct inside a struct. `get` gives the offset at which the inner one starts; `set` is for its
 * own members.
 */
export function nested(inner: StructInfo): Kind<number> {
  return {
    size: inner.size,
    align: inner.align,
    at: (offset) => ({
      get: (_view, at) => at + offset,
      set: () => {
        throw new TypeError(`Cannot set struct ${inner.tag} as a whole: set its members`);
      },
    }),
  };
}

/** The same kind as a member of a packed struct: no padding in front of it. */
export function packed<Value>(kind: Kind<Value>): Kind<Value> {
  return { size: kind.size, align: 1, at: kind.at };
}
