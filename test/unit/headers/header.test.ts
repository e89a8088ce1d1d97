import { describe, expect, test } from "bun:test";
import {
  ArpHeader,
  CookedHeader,
  CookedHeader2,
  EthernetHeader,
  type Header,
  type HeaderOptions,
  IcmpHeader,
  Icmpv6Header,
  Ipv4Header,
  Ipv6ExtensionHeader,
  Ipv6Header,
  LoopbackHeader,
  TcpHeader,
  UdpHeader,
  VlanHeader,
} from "../../../lib/packet/index.ts";
import { FILLER, headerAt, OFFSET, placed } from "../../support/headers.ts";

// One of each, of the length that its own fields say.
const HEADERS: readonly (readonly [make: new (memory: ArrayBufferView) => Header, hex: string])[] =
  [
    [EthernetHeader, "0200000000010200000000020800"],
    [VlanHeader, "a0640800"],
    [ArpHeader, "0001080006040001020000000002c0000202000000000000c0000201"],
    [Ipv4Header, "46c0001800004000010200000a000001e000001694040000"],
    [Ipv6Header, `6000000000003b40${"fe80000000000000000000000000000a".repeat(2)}`],
    [Ipv6ExtensionHeader, "3b01050200000000c20400010000 0000".replace(" ", "")],
    [IcmpHeader, "080055f312340001"],
    [Icmpv6Header, "8000000012340001"],
    [UdpHeader, "0035c00000080000"],
    [TcpHeader, "c0000050000000010000000060020000000000000204ffff"],
    [CookedHeader, "00000001000602000000000100000800"],
    [CookedHeader2, "86dd00000000000300010406020000000001 0000".replace(" ", "")],
    [LoopbackHeader, "1e000000"],
  ];

describe.each(HEADERS.map(([make, hex]) => [make.name, make, hex] as const))(
  "%s",
  (_, make, hex) => {
    const bytes = hex.length / 2;

    test("is present where it fits, and says where it is", () => {
      const header = headerAt(make, hex);
      const { offset, end, headerBytes, payloadOffset, payloadEnd, isPresent } = header;
      expect({ offset, end, headerBytes, payloadOffset, payloadEnd, isPresent }).toEqual({
        offset: OFFSET,
        end: OFFSET + bytes,
        headerBytes: bytes,
        payloadOffset: OFFSET + bytes,
        payloadEnd: OFFSET + bytes,
        isPresent: true,
      });
    });

    test("does not fit into less than its length, wherever that ends", () => {
      const { memory } = placed(hex);
      const header = new make(memory);
      for (let length = 0; length < bytes; length++) {
        expect(header.at(OFFSET, OFFSET + length)).toBeFalse();
        // The memory ends there.
        const shorter = new make(memory.slice(0, OFFSET + length));
        expect(shorter.at(OFFSET)).toBeFalse();
      }
      expect(header.at(OFFSET, OFFSET + bytes)).toBeTrue();
    });

    test("ends with the memory where no end is given", () => {
      const { memory } = placed(hex);
      const header = new make(memory);
      expect(header.at(OFFSET)).toBeTrue();
      expect(header.end).toBe(memory.length);
      expect(header.payloadOffset).toBe(OFFSET + bytes);
    });

    test("counts offsets from the beginning of the view that it was given", () => {
      const { memory } = placed(hex);
      const header = new make(memory.subarray(OFFSET));
      expect(header.at(0, bytes)).toBeTrue();
      expect(header.memory.byteOffset).toBe(OFFSET);
      const view = new DataView(memory.buffer);
      expect(new make(view).memory).toBe(view);
    });

    test("is nowhere after offsets that are none", () => {
      const { memory, end } = placed(hex);
      const header = new make(memory);
      const wrong: unknown[] = [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 32 + OFFSET];
      for (const offset of [...wrong, memory.length, `${OFFSET}`, null, undefined, {}, 7n]) {
        header.at(OFFSET, end);
        expect(header.at(offset as number, end)).toBeFalse();
        expect(header.isPresent).toBeFalse();
      }
      for (const stop of [...wrong, memory.length + 1, 0, OFFSET - 1, `${end}`, null, {}]) {
        header.at(OFFSET, end);
        expect(header.at(OFFSET, stop as number)).toBeFalse();
        expect(header.isPresent).toBeFalse();
      }
    });

    test("reads as zeros where it is nowhere", () => {
      const { memory, end } = placed(hex);
      const header = new make(memory);
      header.at(OFFSET, end);
      header.leave();
      for (const [name, value] of Object.entries(getters(header))) {
        const allowed: unknown[] = [0, false, undefined, header.memory, header];
        if (name === "transportProtocol" || name === "type") allowed.push(-1);
        // The lengths that are the same for all.
        if (name === "headerBytes") allowed.push(value);
        if (name === "checksumStatus") allowed.push("unknown");
        if (typeof value === "string" && /^[0:.]+$/.test(value)) continue;
        if (name === "options") continue;
        expect(allowed, `${name} is ${value}`).toContain(value);
      }
      const { offset, payloadOffset, payloadEnd } = header;
      expect([offset, header.end, payloadOffset, payloadEnd]).toEqual([0, 0, 0, 0]);
    });

    test("refuses to be set where it is nowhere, and nothing is written", () => {
      const { memory } = placed(hex);
      const before = memory.slice();
      const header = new make(memory);
      const samples: unknown[] = [0, 0x14, 0x28, true, "192.0.2.1", "fe80::1", "02:00:00:00:00:01"];
      let count = 0;
      for (const name of setters(header)) {
        for (const sample of samples)
          expect(() => {
            (header as unknown as Record<string, unknown>)[name] = sample;
          }, name).toThrow();
        count++;
      }
      expect(count).toBeGreaterThan(0);
      expect(memory).toEqual(before);
      // And what all of them share has not become anything but zeros.
      for (const value of Object.values(getters(new make(memory))))
        if (typeof value === "number") expect([0, -1, 4, 8, 14, 16, 20, 40]).toContain(value);
    });

    test("moves to another memory, and is nowhere there at first", () => {
      const header = headerAt(make, hex);
      const other = placed(hex);
      expect(header.of(other.memory)).toBe(header);
      expect(header.isPresent).toBeFalse();
      expect(header.at(OFFSET, other.end)).toBeTrue();
      expect(header.memory.buffer).toBe(other.memory.buffer);
      expect(header.of(new Uint8Array(3)).at(0)).toBeFalse();
    });

    test("refuses memory that is none, or that could change under it", () => {
      const shared = new Uint8Array(new SharedArrayBuffer(64));
      const resizable = new Uint8Array(new ArrayBuffer(64, { maxByteLength: 128 }));
      const transferred = new Uint8Array(64);
      transferred.buffer.transfer();
      const header = headerAt(make, hex);
      for (const wrong of [
        shared,
        resizable,
        transferred,
        null,
        undefined,
        5,
        "frame",
        [1, 2],
        {},
      ]) {
        expect(() => new make(wrong as Uint8Array)).toThrow(TypeError);
        expect(() => header.of(wrong as Uint8Array)).toThrow(TypeError);
      }
      expect(header.isPresent).toBeTrue();
    });

    test("throws, and reads nothing, once its memory is gone", () => {
      const { memory, end } = placed(hex);
      const header = new make(memory);
      header.at(OFFSET, end);
      memory.buffer.transfer();
      const values = header as unknown as Record<string, unknown>;
      const thrown = setters(header).filter((name) => {
        try {
          // What another kind of header has is still not there.
          expect([0, false, undefined], name).toContain(values[name] as number);
          return false;
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError);
          return true;
        }
      });
      expect(thrown.length).toBeGreaterThan(0);
    });

    test("is shown with its place", () => {
      const header = headerAt(make, hex);
      expect(Bun.inspect(header)).toBe(`${make.name} at ${OFFSET} to ${OFFSET + bytes}`);
      header.leave();
      expect(Bun.inspect(header)).toBe(`${make.name}, nowhere`);
    });

    test("reads nothing behind a memory that ends with the frame, whatever is written into it", () => {
      const { memory, end } = placed(hex);
      const whole = memory.subarray(0, end);
      const header = new make(whole.slice());
      const bytesOfIt = new Uint8Array(header.memory.buffer);
      for (let round = 0; round < 500; round++) {
        bytesOfIt.set(whole);
        expect(header.at(OFFSET)).toBeTrue();
        for (let i = 0; i < 4; i++)
          bytesOfIt[OFFSET + Math.floor(Math.random() * bytes)] = Math.floor(Math.random() * 256);
        // A read behind the end throws.
        const { options } = getters(header) as { options?: HeaderOptions };
        while (options?.next()) options.uint8(options.valueBytes - 1);
      }
    });

    test("keeps the payload between its own end and the end, whatever is written into it", () => {
      const { memory, end } = placed(hex);
      const header = new make(memory);
      for (let round = 0; round < 500; round++) {
        const made = placed(hex);
        memory.set(made.memory);
        expect(header.at(OFFSET, end)).toBeTrue();
        const random = crypto.getRandomValues(new Uint8Array(bytes));
        memory.set(random, OFFSET);
        const { payloadOffset, payloadEnd } = header;
        expect(payloadOffset).toBeGreaterThanOrEqual(OFFSET);
        expect(payloadEnd).toBeGreaterThanOrEqual(payloadOffset);
        expect(payloadEnd).toBeLessThanOrEqual(end);
      }
      expect(memory[end]).toBe(FILLER);
    });
  },
);

function accessors(header: Header): [name: string, accessor: PropertyDescriptor][] {
  const found = new Map<string, PropertyDescriptor>();
  let prototype: object = Object.getPrototypeOf(header);
  while (prototype !== Object.prototype) {
    for (const [name, accessor] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
      if (accessor.get && !found.has(name)) found.set(name, accessor);
    prototype = Object.getPrototypeOf(prototype);
  }
  return [...found];
}

function getters(header: Header): Record<string, unknown> {
  const values = header as unknown as Record<string, unknown>;
  return Object.fromEntries(accessors(header).map(([name]) => [name, values[name]]));
}

function setters(header: Header): string[] {
  return accessors(header)
    .filter(([, { set }]) => set)
    .map(([name]) => name);
}
