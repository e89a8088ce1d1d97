/** What the options of the command may be, and how it writes rates. */
import { describe, expect, test } from "bun:test";
import { bitRateText, rateText } from "../../cli/units.ts";
import { byteCount, count, duration, durationAboveZero } from "../../cli/values.ts";

/** What nobody can mean. */
const ABSURD = [
  "",
  " ",
  "-1",
  "NaN",
  "Infinity",
  "1e99",
  "0x10",
  "1 000",
  "1,000",
  "٣",
  "1k1",
  "k",
];

describe("count", () => {
  test.each([
    ["1", 1],
    ["1000", 1000],
    ["10k", 10_000],
    ["1.5M", 1_500_000],
    [".5k", 500],
    ["0.001k", 1],
    // In binary it is no integer.
    ["1.001M", 1_001_000],
    ["2G", 2e9],
  ])("%s is %d", (text, value) => {
    expect(count(2 ** 53 - 1)(text)).toBe(value);
  });

  test.each([...ABSURD, "0", "0k", "1.5", "1.", "0.0001k", "10K", "10m", "9007199254740992"])(
    "%j is none",
    (text) => {
      expect(() => count(2 ** 53 - 1)(text)).toThrow('Expected an integer of 1 or more: "1000",');
    },
  );

  test("has a most", () => {
    expect(count(2000)("2k")).toBe(2000);
    expect(() => count(2000)("2001")).toThrow("Expected an integer of 1 to 2000: ");
  });
});

describe("byteCount", () => {
  test.each([
    ["1", 1],
    ["262144", 2 ** 18],
    ["256Ki", 2 ** 18],
    ["8Mi", 2 ** 23],
    ["8M", 8e6],
    ["64k", 64_000],
    ["1Gi", 2 ** 30],
  ])("%s are %d", (text, value) => {
    expect(byteCount(2 ** 30)(text)).toBe(value);
  });

  test.each([...ABSURD, "0", "1.5Mi", "8MB", "2Gi", "8mi"])("%j are none", (text) => {
    expect(() => byteCount(2 ** 30)(text)).toThrow('Expected bytes, 1 to 1073741824: "262144",');
  });
});

describe("duration", () => {
  test.each([
    ["0", 0],
    ["0.25", 250],
    ["10", 10_000],
    ["500us", 0.5],
    ["200ms", 200],
    ["2s", 2000],
    ["1.5m", 90_000],
    ["2h", 7_200_000],
  ])("%s are %d ms", (text, value) => {
    expect(duration(text)).toBe(value);
  });

  test.each([...ABSURD, "soon", "1d", "1 s", "600h", "2147483.648"])("%j is none", (text) => {
    expect(() => duration(text)).toThrow("Expected seconds, or a number with us, ms, s, m or h");
  });

  test.each(["0", "0ms", "-1", "1e99"])("%j is none that is above 0", (text) => {
    expect(() => durationAboveZero(text)).toThrow("Expected a time above 0, as seconds, or");
  });

  test("the shortest above 0 is one", () => {
    expect(durationAboveZero("1us")).toBe(0.001);
  });
});

test.each([
  [0, "0 bit/s"],
  [9600, "9.6 kbit/s"],
  [999.9, "999.9 bit/s"],
  // Rounded first: there are no 1000 kbit/s.
  [999_999, "1 Mbit/s"],
  [94_498_800, "94.5 Mbit/s"],
  [10_601_397_000, "10.6 Gbit/s"],
  [3.2e12, "3.2 Tbit/s"],
  [1e18, "1000000 Tbit/s"],
])("%d bits a second are written %s", (value, text) => {
  expect(bitRateText(value)).toBe(text);
});

test.each([
  [0, "0"],
  [0.5, "0.5"],
  [99.94, "99.9"],
  [9843.6, "9844"],
  [1_889_218.8, "1889219"],
])("%d datagrams a second are written %s", (value, text) => {
  expect(rateText(value)).toBe(text);
});
