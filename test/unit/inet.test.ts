import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  htonl,
  htons,
  inet_aton,
  inet_ntoa,
  inet_ntop,
  inet_pton,
  ntohl,
  ntohs,
} from "../../lib/sys/inet.ts";
import { AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC } from "../../structs/constants/sys_socket.ts";
import { requires, testIf } from "../support/require.ts";

const withPython = testIf(requires("python3"));
const UINT16_MAX = 2 ** 16 - 1;
const UINT32_MAX = 2 ** 32 - 1;
const UINT128_MAX = 2n ** 128n - 1n;

const uint32 = fc.oneof(fc.constantFrom(0, 1, 2 ** 31, UINT32_MAX), fc.nat(UINT32_MAX));
const uint128 = fc.oneof(
  fc.constantFrom(0n, 1n, 2n ** 64n - 1n, 2n ** 64n, 2n ** 127n, UINT128_MAX),
  fc.bigInt(0n, UINT128_MAX),
  uint32.map((bits) => 0xffff_0000_0000n + BigInt(bits)),
);

// What no call takes as an integer of its width.
const outOfRange = (bits: number): (number | bigint)[] => [
  -1,
  -0.5,
  0.5,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** bits,
  2 ** bits + 1,
  2 ** 128,
];
const NO_NUMBERS: unknown[] = [undefined, null, "1", true, {}, [1], Symbol.iterator];
const NO_TEXTS: unknown[] = [undefined, null, 1, 1n, true, {}, ["127.0.0.1"], Buffer.from("1")];

describe("htons() and ntohs()", () => {
  test.each([
    [0, 0],
    [1, 0x100],
    [0x100, 1],
    [0x1234, 0x3412],
    [0x00ff, 0xff00],
    [0x8000, 0x80],
    [UINT16_MAX, UINT16_MAX],
  ])("turn %d into %d", (value, swapped) => {
    expect(htons(value)).toBe(swapped);
    expect(ntohs(value)).toBe(swapped);
  });

  test.each(outOfRange(16))("refuse %p with a RangeError", (value) => {
    const error = new RangeError(`Cannot use ${value} as 16 bits: expected 0 to 65535`);
    expect(() => htons(value as number)).toThrow(error);
    expect(() => ntohs(value as number)).toThrow(error);
  });

  test.each([...NO_NUMBERS, 1n].map((value) => [value]))("refuse %p with a TypeError", (value) => {
    expect(() => htons(value as number)).toThrow(TypeError);
    expect(() => ntohs(value as number)).toThrow(TypeError);
  });

  test("undo each other", () => {
    fc.assert(
      fc.property(fc.nat(UINT16_MAX), (value) => {
        expect(ntohs(htons(value))).toBe(value);
      }),
    );
  });
});

describe("htonl() and ntohl()", () => {
  test.each([
    [0, 0],
    [1, 0x100_0000],
    [0xff, 0xff00_0000],
    [0x80, 0x8000_0000],
    [0x1234_5678, 0x7856_3412],
    [2 ** 31, 0x80],
    [UINT32_MAX, UINT32_MAX],
  ])("turn %d into %d", (value, swapped) => {
    expect(htonl(value)).toBe(swapped);
    expect(ntohl(value)).toBe(swapped);
  });

  test.each(outOfRange(32))("refuse %p with a RangeError", (value) => {
    const error = new RangeError(`Cannot use ${value} as 32 bits: expected 0 to 4294967295`);
    expect(() => htonl(value as number)).toThrow(error);
    expect(() => ntohl(value as number)).toThrow(error);
  });

  test.each([...NO_NUMBERS, 1n].map((value) => [value]))("refuse %p with a TypeError", (value) => {
    expect(() => htonl(value as number)).toThrow(TypeError);
    expect(() => ntohl(value as number)).toThrow(TypeError);
  });

  test("undo each other", () => {
    fc.assert(
      fc.property(uint32, (value) => {
        expect(ntohl(htonl(value))).toBe(value);
      }),
    );
  });
});

describe("inet_aton()", () => {
  test.each([
    ["0.0.0.0", 0],
    ["0", 0],
    ["1", 1],
    ["127.0.0.1", 0x7f00_0001],
    ["127.0.1", 0x7f00_0001],
    ["127.1", 0x7f00_0001],
    ["2130706433", 0x7f00_0001],
    ["0x7f.1", 0x7f00_0001],
    ["0X7F000001", 0x7f00_0001],
    ["0177.0.0.01", 0x7f00_0001],
    ["017700000001", 0x7f00_0001],
    ["010.8", 0x800_0008],
    ["1.2.65535", 0x0102_ffff],
    ["1.16777215", 0x01ff_ffff],
    ["255.255.255.255", UINT32_MAX],
    ["4294967295", UINT32_MAX],
  ])("reads %j as %d", (text, address) => {
    expect(inet_aton(text)).toBe(address);
  });

  test.each([
    ...["", " ", ".", "a", "1.", "1..2", "1.2.3.4.5", "256.0.0.1", "1.2.65536", "1.16777216"],
    ...["4294967296", "18446744073709551616", "-1", "+1", "1e3", "0x", "08", "127.0.0.1\0"],
    ...["\0", "127.0.0.1\0.evil", "127.0.0.1x", "::1", "localhost", "127.0.0.1:53", "١.٢.٣.٤"],
  ])("refuses %j", (text) => {
    expect(inet_aton(text)).toBeUndefined();
  });

  test.each(NO_TEXTS.map((value) => [value]))("refuses %p with a TypeError", (value) => {
    expect(() => inet_aton(value as string)).toThrow(TypeError);
    expect(() => inet_pton(AF_INET, value as string)).toThrow(TypeError);
  });
});

describe("inet_ntoa()", () => {
  test.each([
    [0, "0.0.0.0"],
    [1, "0.0.0.1"],
    [0x7f00_0001, "127.0.0.1"],
    [2 ** 31, "128.0.0.0"],
    [UINT32_MAX, "255.255.255.255"],
  ])("writes %d as %s", (address, text) => {
    expect(inet_ntoa(address)).toBe(text);
  });

  test.each(outOfRange(32))("refuses %p with a RangeError", (value) => {
    expect(() => inet_ntoa(value as number)).toThrow(
      new RangeError(`Cannot use ${value} as an IPv4 address: expected 0 to 4294967295`),
    );
  });

  test.each([...NO_NUMBERS, 1n].map((value) => [value]))("refuses %p with a TypeError", (value) => {
    expect(() => inet_ntoa(value as number)).toThrow(TypeError);
  });

  test("is read back by inet_aton(), for any address", () => {
    fc.assert(
      fc.property(uint32, (address) => {
        expect(inet_aton(inet_ntoa(address))).toBe(address);
      }),
    );
  });
});

describe("inet_pton()", () => {
  test.each<[family: number, text: string, address: number | bigint]>([
    [AF_INET, "0.0.0.0", 0],
    [AF_INET, "127.0.0.1", 0x7f00_0001],
    [AF_INET, "128.0.0.0", 2 ** 31],
    [AF_INET, "255.255.255.255", UINT32_MAX],
    [AF_INET6, "::", 0n],
    [AF_INET6, "::1", 1n],
    [AF_INET6, "::ffff:127.0.0.1", 0xffff_7f00_0001n],
    [AF_INET6, "0:0:0:1::", 2n ** 64n],
    [AF_INET6, "::ffff:ffff:ffff:ffff", 2n ** 64n - 1n],
    [AF_INET6, "8000::", 2n ** 127n],
    [AF_INET6, "FE80::1", 0xfe80n * 2n ** 112n + 1n],
    [AF_INET6, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UINT128_MAX],
  ])("of family %d reads %s as %p", (family, text, address) => {
    expect(inet_pton(family, text)).toBe(address);
    expect(inet_pton(family, inet_ntop(family, address))).toBe(address);
  });

  test.each([
    ...["", "127.1", "0x7f.0.0.1", "010.0.0.1", "256.0.0.1", "1.2.3.4.5", "1.2.3.4 ", "::1"],
    ...["1.2.3.4\0", "\0", "1.2.3.4\0x", "localhost"],
  ])("of AF_INET refuses %j", (text) => {
    expect(inet_pton(AF_INET, text)).toBeUndefined();
  });

  test.each([
    ...["", ":", ":::", "1::2::3", "::g", "12345::", "1:2:3:4:5:6:7:8:9", "[::1]", "::1/128"],
    ...["fe80::1%lo", "fe80::1%1", "::1\0", "\0::1", "127.0.0.1", "::1 "],
  ])("of AF_INET6 refuses %j", (text) => {
    expect(inet_pton(AF_INET6, text)).toBeUndefined();
  });
});

describe("inet_ntop()", () => {
  test.each<[family: number, address: number | bigint, text: string]>([
    [AF_INET, 0, "0.0.0.0"],
    [AF_INET, 0n, "0.0.0.0"],
    [AF_INET, UINT32_MAX, "255.255.255.255"],
    [AF_INET, 2n ** 32n - 1n, "255.255.255.255"],
    [AF_INET6, 0, "::"],
    [AF_INET6, 1, "::1"],
    [AF_INET6, 0n, "::"],
    [AF_INET6, 1n, "::1"],
    [AF_INET6, 2 ** 53 - 1, "::1f:ffff:ffff:ffff"],
    [AF_INET6, 2n ** 53n, "::20:0:0:0"],
    [AF_INET6, 2n ** 64n - 1n, "::ffff:ffff:ffff:ffff"],
    [AF_INET6, 2n ** 64n, "0:0:0:1::"],
    [AF_INET6, 2n ** 127n, "8000::"],
    [AF_INET6, UINT128_MAX, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
  ])("of family %d writes %p as %s", (family, address, text) => {
    expect(inet_ntop(family, address)).toBe(text);
  });

  test.each([...outOfRange(32), -1n, 2n ** 32n, 2n ** 128n])(
    "of AF_INET refuses %p with a RangeError",
    (value) => {
      expect(() => inet_ntop(AF_INET, value)).toThrow(RangeError);
      expect(() => inet_ntop(AF_INET, value)).toThrow(`Cannot use ${value} as an IPv4 address`);
    },
  );

  test.each([...outOfRange(128), -1n, 2n ** 128n, 2n ** 200n, 2 ** 53, 2 ** 64])(
    "of AF_INET6 refuses %p with a RangeError",
    (value) => {
      expect(() => inet_ntop(AF_INET6, value)).toThrow(RangeError);
      expect(() => inet_ntop(AF_INET6, value)).toThrow(`Cannot use ${value} as an IPv6 address`);
    },
  );

  test("says the bounds", () => {
    expect(() => inet_ntop(AF_INET6, -1n)).toThrow(
      `Cannot use -1 as an IPv6 address: expected 0 to ${UINT128_MAX}`,
    );
    expect(() => inet_ntop(AF_INET6, 2 ** 53)).toThrow(
      "Cannot use 9007199254740992 as an IPv6 address: expected a bigint above 2^53",
    );
    expect(() => inet_ntop(AF_INET, 2n ** 32n)).toThrow(
      "Cannot use 4294967296 as an IPv4 address: expected 0 to 4294967295",
    );
    expect(() => inet_ntop(AF_INET, 1.5)).toThrow("expected an integer");
  });

  test.each(NO_NUMBERS.map((value) => [value]))("refuses %p with a TypeError", (value) => {
    expect(() => inet_ntop(AF_INET, value as number)).toThrow(TypeError);
    expect(() => inet_ntop(AF_INET6, value as number)).toThrow(TypeError);
  });

  test("leaves nothing of a longer text behind a shorter one", () => {
    expect(inet_ntop(AF_INET6, UINT128_MAX)).toHaveLength(39);
    expect(inet_ntop(AF_INET6, 0n)).toBe("::");
  });

  test("is read back by inet_pton(), for any address", () => {
    fc.assert(
      fc.property(uint128, uint32, (long, short) => {
        expect(inet_pton(AF_INET6, inet_ntop(AF_INET6, long))).toBe(long);
        expect(inet_pton(AF_INET, inet_ntop(AF_INET, short))).toBe(short);
      }),
    );
  });
});

describe("families", () => {
  test.each([AF_UNSPEC, AF_UNIX, -1, 99, 2 ** 32 + AF_INET, 2.5, Number.NaN])(
    "%p is refused with a RangeError",
    (family) => {
      const error = `Cannot use ${family} as a family: expected AF_INET (2) or AF_INET6 (10)`;
      expect(() => inet_pton(family, "127.0.0.1")).toThrow(new RangeError(error));
      expect(() => inet_ntop(family, 1)).toThrow(new RangeError(error));
    },
  );

  test.each(["2", 2n, null, undefined, [2]].map((family) => [family]))(
    "%p is refused with a TypeError",
    (family) => {
      const forced = family as unknown as number;
      expect(() => inet_pton(forced, "127.0.0.1")).toThrow(TypeError);
      expect(() => inet_ntop(forced, 1)).toThrow(TypeError);
    },
  );
});

// Texts that are addresses by the loose rules about as often as not.
const number = fc.oneof(
  fc.nat(300).map(String),
  fc.nat(300).map((value) => `0x${value.toString(16)}`),
  fc.nat(300).map((value) => `0${value.toString(8)}`),
  uint32.map(String),
  fc.constantFrom("", "08", "0x", "-1", "65535", "65536", "16777215", "16777216", "4294967296"),
);
const loose = fc.array(number, { minLength: 1, maxLength: 5 }).map((parts) => parts.join("."));

describe("Python's socket module agrees with", () => {
  withPython("inet_aton()", async () => {
    const texts = fc.sample(loose, 4000);
    const expected = await askPython('int.from_bytes(socket.inet_aton(each), "big")', texts);
    const ours = texts.map((text) => inet_aton(text) ?? null);
    expect(paired(texts, ours)).toEqual(paired(texts, expected));
    // Worth something only if both answers are frequent.
    expect(expected.filter((answer) => answer !== null).length).toBeWithin(400, 3600);
  });

  withPython("inet_ntoa(), htonl() and htons()", async () => {
    const values = fc.sample(uint32, 2000);
    const expected = await askPython(
      '[socket.inet_ntoa(each.to_bytes(4, "big")), socket.htonl(each), socket.htons(each >> 16)]',
      values,
    );
    const ours = values.map((value) => [inet_ntoa(value), htonl(value), htons(value >>> 16)]);
    expect(paired(values, ours)).toEqual(paired(values, expected));
  });

  withPython("inet_ntop() and inet_pton()", async () => {
    const values = fc.sample(uint128, 2000).map((value) => value.toString());
    const expected = (await askPython(
      'socket.inet_ntop(socket.AF_INET6, int(each).to_bytes(16, "big"))',
      values,
    )) as string[];
    expect(
      paired(
        values,
        values.map((value) => inet_ntop(AF_INET6, BigInt(value))),
      ),
    ).toEqual(paired(values, expected));
    expect(expected.map((text) => `${inet_pton(AF_INET6, text)}`)).toEqual(values);
  });
});

// Pairs of input and answer, so that a failure shows both.
function paired(inputs: readonly unknown[], answers: readonly unknown[]): unknown[][] {
  return inputs.map((input, index) => [input, answers[index]]);
}

// One Python for all of them; what it refuses is null.
async function askPython(expression: string, inputs: readonly unknown[]): Promise<unknown[]> {
  const script = `
import json, socket, sys
def answer(each):
    try: return ${expression}
    except OSError: return None
json.dump([answer(each) for each in json.load(sys.stdin)], sys.stdout)
`;
  return Bun.$`python3 -c ${script} < ${Buffer.from(JSON.stringify(inputs))}`.json();
}
