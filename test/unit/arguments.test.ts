import { expect, test } from "bun:test";
import { requireFlags, requireInteger, requireView, toView } from "../../lib/internal/arguments.ts";

test.each([0, 1, 65535])("requireInteger() takes %d between 0 and 65535", (value) => {
  expect(() => requireInteger(value, 0, 65535, "a port")).not.toThrow();
});

test.each([-1, 65536, 1.5, Number.NaN, Number.POSITIVE_INFINITY, -0.1, 2 ** 53])(
  "requireInteger() refuses %d with the bounds",
  (value) => {
    expect(() => requireInteger(value, 0, 65535, "a port")).toThrow(
      new RangeError(`Cannot use ${value} as a port: expected 0 to 65535`),
    );
  },
);

test.each([["1"], [undefined], [null], [1n], [{}], [true]])(
  "requireInteger() refuses %p by its type",
  (value) => {
    expect(() => requireInteger(value, 0, 65535, "a port")).toThrow(
      new TypeError(`Cannot use a value of type ${typeof value} as a port: expected a number`),
    );
  },
);

test.each([
  ["a Uint8Array", new Uint8Array(1)],
  ["a Buffer", Buffer.from("x")],
  ["a DataView", new DataView(new ArrayBuffer(1))],
  ["a Float64Array", new Float64Array(1)],
  ["an empty view", new Uint8Array(0)],
  ["an empty DataView", new DataView(new ArrayBuffer(0))],
])("requireView() takes %s", (_name, view) => {
  expect(() => requireView(view, "a target")).not.toThrow();
});

test.each([
  ["null", null, "null"],
  ["undefined", undefined, "a value of type undefined"],
  ["a string", "text", "a value of type string"],
  ["an array", [1, 2], "a value of type object"],
  ["an ArrayBuffer", new ArrayBuffer(1), "a value of type object"],
  ["an object that looks like a view", { byteLength: 1, buffer: {} }, "a value of type object"],
])("requireView() refuses %s", (_name, value, shown) => {
  expect(() => requireView(value as Uint8Array, "a target")).toThrow(
    new TypeError(`Cannot use ${shown} as a target: expected a view`),
  );
});

test("requireView() refuses shared memory", () => {
  expect(() => requireView(new Uint8Array(new SharedArrayBuffer(1)), "a target")).toThrow(
    new TypeError(
      "Cannot use shared memory as a target: another thread could change it during the call",
    ),
  );
});

test("requireView() refuses resizable memory", () => {
  const buffer = new ArrayBuffer(1, { maxByteLength: 2 });
  expect(() => requireView(new Uint8Array(buffer), "a target")).toThrow(
    new TypeError(
      "Cannot use resizable memory as a target: expected an ArrayBuffer of fixed length",
    ),
  );
});

test.each([
  ["a Uint8Array", (buffer: ArrayBuffer) => new Uint8Array(buffer)],
  ["a DataView", (buffer: ArrayBuffer) => new DataView(buffer)],
] as const)("requireView() refuses %s of detached memory", (_name, make) => {
  const buffer = new ArrayBuffer(8);
  const view = make(buffer);
  buffer.transfer();
  expect(() => requireView(view, "a target")).toThrow(TypeError);
});

test("toView() returns a view as it is", () => {
  const view = new Uint8Array(4).subarray(1, 3);
  expect(toView(view, "data")).toBe(view);
});

test("toView() makes a view of the whole of an ArrayBuffer", () => {
  const buffer = new ArrayBuffer(4);
  const view = toView(buffer, "data");
  expect(view.buffer).toBe(buffer);
  expect(view.byteLength).toBe(4);
});

test.each([["text"], [null], [undefined], [new SharedArrayBuffer(1)]])(
  "toView() refuses %p",
  (value) => {
    expect(() => toView(value as unknown as ArrayBuffer, "data")).toThrow(TypeError);
  },
);

test("toView() refuses a detached and a resizable ArrayBuffer", () => {
  const detached = new ArrayBuffer(4);
  detached.transfer();
  expect(() => toView(detached, "data")).toThrow(TypeError);
  expect(() => toView(new ArrayBuffer(1, { maxByteLength: 2 }), "data")).toThrow(TypeError);
});

test.each([
  [undefined, 0],
  [0, 0],
  [0x02, 0x02],
  [0x22, 0x22],
])("requireFlags() takes %p out of 0x22 as %d", (flags, expected) => {
  expect(requireFlags(flags, 0x22)).toBe(expected);
});

test.each([0x01, 0x23, -1, 0x1_0000_0002, 2 ** 31, 0.5, Number.NaN])(
  "requireFlags() refuses %d, which is not out of 0x22",
  (flags) => {
    expect(() => requireFlags(flags, 0x22)).toThrow(
      new RangeError(`Cannot use ${flags} as flags: expected a union of bits of 0x22`),
    );
  },
);

test.each([["2"], [null], [2n], [[2]]])("requireFlags() refuses %p by its type", (flags) => {
  expect(() => requireFlags(flags as unknown as number, 0x22)).toThrow(TypeError);
});
