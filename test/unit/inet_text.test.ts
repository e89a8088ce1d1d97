import { dlopen } from "bun:ffi";
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { libcNames } from "../../lib/ffi/platform.ts";
import { formatInet4, formatInet6, parseInet4, parseInet6 } from "../../lib/internal/inet_text.ts";
import { AF_INET, AF_INET6 } from "../../structs/constants/sys_socket.ts";
import { requires, testIf } from "../support/require.ts";

// Two oracles that others wrote: the C library, and the ipaddress module of Python.
const c = openOracle();
const withPython = testIf(requires("python3"));

const bytes4 = fc.uint8Array({ minLength: 4, maxLength: 4 });
const bytes16 = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Addresses as they are: runs of zeros, and the prefixes that have a text of their own.
  fc
    .array(fc.constantFrom(0, 0, 0, 1, 0xf, 0xff, 0x100, 0xffff, 0x2001), {
      minLength: 8,
      maxLength: 8,
    })
    .map((groups) => Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]))),
  fc.tuple(fc.constantFrom(0, 0xff), bytes4).map(([fill, quad]) => {
    const bytes = new Uint8Array(16).fill(fill, 10, 12);
    bytes.set(quad, 12);
    return bytes;
  }),
);

// Texts that are almost addresses, and sometimes are.
const octet = fc.constantFrom(
  "0",
  "1",
  "9",
  "10",
  "99",
  "127",
  "255",
  "256",
  "01",
  "000",
  "0x1",
  "",
);
const quadText = fc.array(octet, { minLength: 3, maxLength: 5 }).map((octets) => octets.join("."));
const group = fc.constantFrom("0", "1", "00", "0001", "ffff", "ABCD", "aB", "10000", "g", "-1", "");
const groupsText = fc
  .array(fc.oneof({ weight: 9, arbitrary: group }, { weight: 1, arbitrary: quadText }), {
    maxLength: 9,
  })
  .chain((groups) =>
    fc.nat(groups.length).map((gap) => {
      const [head, tail] = [groups.slice(0, gap), groups.slice(gap)];
      return `${head.join(":")}${gap === groups.length ? "" : "::"}${tail.join(":")}`;
    }),
  );
const noise = fc.string({ unit: fc.constantFrom(..."0123456789abcdefF:.:. +x"), maxLength: 20 });
const plausible = fc.oneof(
  quadText,
  groupsText,
  noise,
  bytes4.map((bytes) => formatInet4(bytes, 0)),
  bytes16.map((bytes) => formatInet6(bytes, 0)),
  bytes16.map((bytes) => formatInet6(bytes, 0).toUpperCase()),
);

describe("parseInet4()", () => {
  test.each([
    ["0.0.0.0", [0, 0, 0, 0]],
    ["127.0.0.1", [127, 0, 0, 1]],
    ["255.255.255.255", [255, 255, 255, 255]],
    ["1.20.255.4", [1, 20, 255, 4]],
  ])("reads %p", (text, expected) => {
    expect([...(parsed4(text) ?? [])]).toEqual(expected);
  });

  test.each([
    ...["", ".", "1", "127.1", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.256"],
    ...["01.2.3.4", "1.2.3.04", "00.0.0.0", "0x7f.0.0.1", "1.2.3.4 ", " 1.2.3.4", "1.2.3.4\n"],
    ...["1.2.3.4\0", "+1.2.3.4", "1.2.3.-4", "1e0.2.3.4", "2130706433", "١.2.3.4", "1,2.3.4"],
    ...["1.2.3.1000", "localhost", "::1", "1.2.3.4%lo", "1.2.3.4/8"],
  ])("refuses %p", (text) => {
    expect(parsed4(text)).toBeUndefined();
  });

  test("agrees with inet_pton(3) on whatever looks like an address", () => {
    fc.assert(
      fc.property(plausible, (text) => {
        expect(parsed4(text)).toEqual(c.parse(AF_INET, text));
      }),
      { numRuns: 2000 },
    );
  });

  test("writes four bytes and no others", () => {
    const target = new Uint8Array(8).fill(0xa5);
    expect(parseInet4("1.2.3.4", target, 2)).toBe(true);
    expect([...target]).toEqual([0xa5, 0xa5, 1, 2, 3, 4, 0xa5, 0xa5]);
  });
});

describe("formatInet4()", () => {
  test("agrees with inet_ntop(3), and parseInet4() reads it back", () => {
    fc.assert(
      fc.property(bytes4, fc.nat(5), (bytes, at) => {
        const source = new Uint8Array(16).fill(0xa5);
        source.set(bytes, at);
        const text = formatInet4(source, at);
        expect(text).toBe(c.format(AF_INET, bytes));
        expect(parsed4(text)).toEqual(bytes);
      }),
    );
  });
});

describe("parseInet6()", () => {
  test.each([
    ["::", "00000000000000000000000000000000"],
    ["::1", "00000000000000000000000000000001"],
    ["1::", "00010000000000000000000000000000"],
    ["2001:DB8:0:0::1", "20010db8000000000000000000000001"],
    ["0001:02:3:4:5:6:7:8", "00010002000300040005000600070008"],
    // RFC 4291 allows "::" for one group, and RFC 5952 does not write it.
    ["1:2:3:4:5:6:7::", "00010002000300040005000600070000"],
    ["::2:3:4:5:6:7:8", "00000002000300040005000600070008"],
    ["1:2:3::5:6:7:8", "00010002000300000005000600070008"],
    ["::ffff:1.2.3.4", "00000000000000000000ffff01020304"],
    ["::1.2.3.4", "00000000000000000000000001020304"],
    ["64:ff9b::192.0.2.33", "0064ff9b0000000000000000c0000221"],
    ["1:2:3:4:5:6:7.8.9.10", "0001000200030004000500060708090a"],
  ])("reads %p", (text, expected) => {
    expect(parsed6(text)?.toHex()).toBe(expected);
  });

  test.each([
    ...["", ":", ":::", "1", "1:", ":1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3"],
    ...["::1::", "1:2:3:4:5:6:7:8::", "::1:2:3:4:5:6:7:8", "1:2:3:4::5:6:7:8", "12345::", "g::"],
    ...["::1 ", " ::1", "::1\n", "::1\0", "::-1", "::0x1", "[::1]", "::1%lo", "::1/64", ":1::"],
    ...[
      "1.2.3.4",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "::1.2.3",
      "::1.2.3.256",
      "::01.2.3.4",
      "::1.2.3.4.5",
    ],
    ...["1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4::1", "1::1.2.3.4:", "::1:", "1:2:3:4:5:6:7:"],
  ])("refuses %p", (text) => {
    expect(parsed6(text)).toBeUndefined();
  });

  test("agrees with inet_pton(3) on whatever looks like an address", () => {
    fc.assert(
      fc.property(plausible, (text) => {
        expect(parsed6(text)).toEqual(c.parse(AF_INET6, text));
      }),
      { numRuns: 4000 },
    );
  });

  test("writes sixteen bytes and no others, whatever stood there", () => {
    const target = new Uint8Array(24).fill(0xa5);
    expect(parseInet6("1::2", target, 4)).toBe(true);
    expect(target.toHex()).toBe("a5a5a5a500010000000000000000000000000002a5a5a5a5");
  });

  test("leaves the target alone when it refuses", () => {
    const target = new Uint8Array(16).fill(0xa5);
    expect(parseInet6("1:2:3", target, 0)).toBe(false);
    expect(target.every((byte) => byte === 0xa5)).toBe(true);
  });
});

describe("formatInet6()", () => {
  // RFC 5952, by section.
  test.each([
    ["4.1 no leading zeros", "20010db8000000000000000000000001", "2001:db8::1"],
    ["4.2.1 as short as possible", "20010db8000000000000000000020001", "2001:db8::2:1"],
    ["4.2.2 one group of zeros stays", "20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"],
    ["4.2.3 the longest run", "20010000000000010000000000000001", "2001:0:0:1::1"],
    ["4.2.3 the first of two", "20010db8000000000001000000000001", "2001:db8::1:0:0:1"],
    ["4.3 lower case", "abcdef00000000000000000000000000", "abcd:ef00::"],
    ["5 mapped addresses", "00000000000000000000ffffc0000201", "::ffff:192.0.2.1"],
    ["all zeros", "00000000000000000000000000000000", "::"],
    ["no zeros", "11112222333344445555666677778888", "1111:2222:3333:4444:5555:6666:7777:8888"],
    ["compatible addresses are not mapped", "00000000000000000000000001020304", "::102:304"],
  ])("follows RFC 5952: %s", (_section, hex, expected) => {
    expect(formatInet6(Uint8Array.fromHex(hex), 0)).toBe(expected);
  });

  test("agrees with inet_ntop(3), which differs for ::a.b.c.d only", () => {
    const notCompatible = bytes16.filter((bytes) => bytes.subarray(0, 12).some((byte) => byte > 0));
    fc.assert(
      fc.property(notCompatible, (bytes) => {
        expect(formatInet6(bytes, 0)).toBe(c.format(AF_INET6, bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test("is read back by parseInet6(), from any offset", () => {
    fc.assert(
      fc.property(bytes16, fc.nat(5), (bytes, at) => {
        const source = new Uint8Array(32).fill(0xa5);
        source.set(bytes, at);
        expect(parsed6(formatInet6(source, at))).toEqual(bytes);
      }),
    );
  });
});

withPython("formatInet6() agrees with Python's ipaddress, mapped addresses aside", async () => {
  // Python before 3.13 writes mapped addresses in hexadecimal.
  const mapped = "00000000000000000000ffff";
  const hexes = fc
    .sample(bytes16, 3000)
    .map((bytes) => bytes.toHex())
    .filter((hex) => !hex.startsWith(mapped));
  const expected = await askPython("str(IPv6Address(bytes.fromhex(each)))", hexes);
  const ours = hexes.map((hex) => formatInet6(Uint8Array.fromHex(hex), 0));
  expect(named(hexes, ours)).toEqual(named(hexes, expected));
});

withPython("parseInet4() and parseInet6() agree with Python's ipaddress", async () => {
  const texts = fc.sample(plausible, 5000);
  const expected = await askPython("ip_address(each).packed.hex()", texts);
  const ours = texts.map((text) => (parsed4(text) ?? parsed6(text))?.toHex() ?? null);
  expect(named(texts, ours)).toEqual(named(texts, expected));
  // Worth something only if both answers are frequent.
  const accepted = ours.filter((answer) => answer !== null).length;
  expect(accepted).toBeWithin(500, 4500);
});

function parsed4(text: string): Uint8Array | undefined {
  const target = new Uint8Array(4);
  return parseInet4(text, target, 0) ? target : undefined;
}

function parsed6(text: string): Uint8Array | undefined {
  const target = new Uint8Array(16);
  return parseInet6(text, target, 0) ? target : undefined;
}

// Pairs of input and answer, so that a failure shows both.
function named(inputs: readonly string[], answers: readonly (string | null)[]) {
  return inputs.map((input, index) => `${JSON.stringify(input)} is ${answers[index]}`);
}

// One Python for all of them; what it refuses is null.
async function askPython(
  expression: string,
  inputs: readonly string[],
): Promise<(string | null)[]> {
  const script = `
import json, sys
from ipaddress import IPv6Address, ip_address
def answer(each):
    try: return ${expression}
    except ValueError: return None
json.dump([answer(each) for each in json.load(sys.stdin)], sys.stdout)
`;
  return Bun.$`python3 -c ${script} < ${Buffer.from(JSON.stringify(inputs))}`.json();
}

function openOracle() {
  const prototypes = {
    // int inet_pton(int af, const char *src, void *dst);
    inet_pton: { args: ["i32", "ptr", "ptr"], returns: "i32" },
    // const char *inet_ntop(int af, const void *src, char *dst, socklen_t size);
    inet_ntop: { args: ["i32", "ptr", "ptr", "u32"], returns: "ptr" },
  } as const;
  const open = (name: string) => {
    try {
      return [dlopen(name, prototypes).symbols];
    } catch {
      return [];
    }
  };
  const [symbols] = libcNames().flatMap(open);
  if (!symbols) throw new Error("No C library by any of its names");
  return {
    parse(family: number, text: string): Uint8Array | undefined {
      const target = new Uint8Array(family === AF_INET ? 4 : 16);
      return symbols.inet_pton(family, Buffer.from(`${text}\0`), target) === 1 ? target : undefined;
    },
    format(family: number, bytes: Uint8Array): string {
      const target = Buffer.alloc(64);
      symbols.inet_ntop(family, bytes, target, target.length);
      return target.toString("latin1", 0, target.indexOf(0));
    },
  };
}
