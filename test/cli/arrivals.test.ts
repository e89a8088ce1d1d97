/** What `sink` counts of each run, and what it reads it from. */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { Arrivals, WINDOW } from "../../cli/arrivals.ts";
import { Bars, barLines } from "../../cli/bars.ts";
import { rate } from "../../cli/blast.ts";
import {
  FOREIGN,
  kindOf,
  OVER,
  OVER_BYTES,
  PROBE,
  PROBE_BYTES,
  runOf,
  sequenceOf,
  setRun,
  setSequence,
  setTime,
  setUnsent,
  transitNs,
  unsentOf,
} from "../../cli/probe.ts";
import { requires, testIf } from "../support/require.ts";

const ARRIVALS = join(import.meta.dir, "../../cli/arrivals.ts");

function arrivalsOf(sequences: readonly number[]): Arrivals {
  const arrivals = new Arrivals();
  for (const sequence of sequences) arrivals.note(sequence);
  return arrivals;
}

function countsOf({ received, lost, duplicates, reordered, tooLate }: Arrivals) {
  return { received, lost, duplicates, reordered, tooLate };
}

const NONE = { received: 0, lost: 0, duplicates: 0, reordered: 0, tooLate: 0 };

/** The same from the definitions, with a set of all that there ever was. */
function model(sequences: readonly number[]) {
  const seen = new Set<number>();
  const counts = { ...NONE };
  let highest = -1;
  for (const sequence of sequences) {
    if (highest - sequence >= WINDOW) counts.tooLate++;
    else if (seen.has(sequence)) counts.duplicates++;
    else {
      seen.add(sequence);
      counts.received++;
      if (sequence < highest) counts.reordered++;
      highest = Math.max(highest, sequence);
    }
  }
  return { ...counts, lost: highest + 1 - counts.received };
}

describe("Arrivals", () => {
  test("counts nothing before the first", () => {
    expect(countsOf(new Arrivals())).toEqual(NONE);
  });

  test.each([
    ["all in order", [0, 1, 2, 3], { received: 4 }],
    ["the first ones missing", [3, 4], { received: 2, lost: 3 }],
    ["one missing", [0, 1, 3], { received: 3, lost: 1 }],
    ["one late", [0, 2, 1, 3], { received: 4, reordered: 1 }],
    ["one twice", [0, 1, 1, 2], { received: 3, duplicates: 1 }],
    ["one late, and again", [0, 2, 1, 1], { received: 3, reordered: 1, duplicates: 1 }],
    ["backwards", [3, 2, 1, 0], { received: 4, reordered: 3 }],
    ["the same for ever", [7, 7, 7], { received: 1, lost: 7, duplicates: 2 }],
    ["the last of the window", [0, WINDOW, 1], { received: 3, lost: WINDOW - 2, reordered: 1 }],
    ["one before the window", [WINDOW, 0], { received: 1, lost: WINDOW, tooLate: 1 }],
    ["its place taken", [0, WINDOW, WINDOW], { received: 2, lost: WINDOW - 1, duplicates: 1 }],
    [
      "a window skipped",
      [5, WINDOW + 6, WINDOW + 5],
      { received: 3, lost: WINDOW + 4, reordered: 1 },
    ],
  ] as const)("%s: %j", (_, sequences, counts) => {
    expect(countsOf(arrivalsOf(sequences))).toEqual({ ...NONE, ...counts });
  });

  test("has numbers that do not fit 32 bits", () => {
    const begin = 2 ** 32 - 3;
    const arrivals = arrivalsOf([0, ...[0, 1, 4, 3, 5, 3, 2].map((k) => begin + k)]);
    expect(countsOf(arrivals)).toEqual({
      received: 7,
      lost: begin - 1,
      duplicates: 1,
      reordered: 2,
      tooLate: 0,
    });
    expect(arrivals.highest).toBe(2 ** 32 + 2);
    // The largest number that can come.
    arrivals.note(2 ** 53 - 1);
    expect(countsOf(arrivals)).toMatchObject({ received: 8, lost: 2 ** 53 - 8 });
  });

  test("takes none for one that had the same place in the window before", () => {
    for (const end of [1.25, 1.75, 2, 2.5]) {
      const highest = end * WINDOW;
      const arrivals = new Arrivals();
      for (let k = 0; k < highest - 1001; k++) arrivals.note(k);
      arrivals.note(highest);
      expect(arrivals.lost).toBe(1001);
      for (let k = highest - 1; k >= highest - 1001; k--) expect(arrivals.note(k)).toBe(true);
      expect(countsOf(arrivals)).toEqual({
        received: highest + 1,
        lost: 0,
        duplicates: 0,
        reordered: 1001,
        tooLate: 0,
      });
    }
  });

  test("knows by how much one was late", () => {
    expect(arrivalsOf([0, 5, 3, 4, 9, 8]).reorderedMax).toBe(2);
  });

  test("counts what the sender says that came of nothing", () => {
    const arrivals = arrivalsOf([0, 1]);
    arrivals.end(5);
    expect([arrivals.lost, arrivals.sent]).toEqual([3, 5]);
    // A notice that says less than what has come is not believed.
    arrivals.end(1);
    expect([arrivals.lost, arrivals.sent]).toEqual([3, 5]);
    const late = new Arrivals();
    late.end(3);
    expect(late.lost).toBe(3);
    for (const sequence of [2, 0, 1]) late.note(sequence);
    expect(late.lost).toBe(0);
  });

  test("misses nothing that the sender says it could not send", () => {
    const arrivals = arrivalsOf([0, 1, 4]);
    expect([arrivals.lost, arrivals.numbers]).toEqual([2, 5]);
    // Six numbers, two of which came to nothing: 0, 1, 4 and another one were sent.
    arrivals.end(6, 2);
    expect([arrivals.sent, arrivals.expected, arrivals.lost]).toEqual([4, 4, 1]);
    expect([arrivals.numbers, arrivals.highest]).toEqual([6, 4]);
    // It is said three times.
    arrivals.end(6, 2);
    expect([arrivals.sent, arrivals.lost]).toEqual([4, 1]);
    // More came than it says were sent.
    arrivals.end(6, 5);
    expect([arrivals.sent, arrivals.lost]).toEqual([1, 0]);
  });

  test("tells what was lost in the buffer, and not more than was lost", () => {
    const arrivals = arrivalsOf([0, 4]);
    arrivals.inBuffer = 3;
    expect([arrivals.lost, arrivals.lostInBuffer]).toEqual([3, 3]);
    // One was only late.
    arrivals.note(2);
    expect([arrivals.lost, arrivals.lostInBuffer]).toEqual([2, 2]);
  });

  test("agrees with a set of all numbers, whatever comes", () => {
    const steps = fc.oneof(
      { weight: 8, arbitrary: fc.integer({ min: -3, max: 4 }) },
      { weight: 2, arbitrary: fc.integer({ min: -200, max: 200 }) },
      fc.integer({ min: -WINDOW - 2, max: WINDOW + 2 }),
      fc.constantFrom(WINDOW, WINDOW - 1, WINDOW + 1, 1 - WINDOW, -WINDOW, 31, 32, 33),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(0, 2 ** 31 - 100, 2 ** 32 - 100, 2 ** 40),
        fc.array(steps, { maxLength: 200 }),
        (begin, gaps) => {
          let at = begin;
          const sequences = gaps.map((gap) => {
            at = Math.max(0, at + gap);
            return at;
          });
          expect(countsOf(arrivalsOf(sequences))).toEqual(model(sequences));
        },
      ),
      { numRuns: 100 },
    );
  });

  test("jitter is that of RFC 3550, by hand", () => {
    const arrivals = new Arrivals();
    const jitters = [1000, 1160, 1000, 1000].map((transit) => {
      arrivals.time(transit);
      return arrivals.jitterNs;
    });
    // 0; 160 ÷ 16; 10 + (160 - 10) ÷ 16; less a sixteenth.
    expect(jitters).toEqual([0, 10, 19.375, 18.1640625]);
  });

  test("jitter does not ask whether the clocks differ", () => {
    const [one, other] = [new Arrivals(), new Arrivals()];
    for (const transit of [5, 90, 17, 300]) {
      one.time(transit);
      other.time(transit - 1e12);
    }
    expect(other.jitterNs).toBe(one.jitterNs);
  });

  testIf(requires("python3"))("jitter is what python3 makes of the definition", () => {
    const transits = Array.from({ length: 1000 }, (_, k) => (k * 7919 * 7919) % 100_003);
    const program = [
      "import json, sys",
      "transits = json.load(sys.stdin)",
      "jitter = 0.0",
      "for before, now in zip(transits, transits[1:]):",
      "    jitter += (abs(now - before) - jitter) / 16",
      "print(repr(jitter))",
    ].join("\n");
    const { stdout } = Bun.spawnSync(["python3", "-c", program], {
      stdin: Buffer.from(JSON.stringify(transits)),
    });
    const arrivals = new Arrivals();
    for (const transit of transits) arrivals.time(transit);
    expect(arrivals.jitterNs).toBeCloseTo(Number(stdout.toString()), 6);
    expect(arrivals.jitterNs).toBeGreaterThan(10_000);
  });

  test("allocates nothing for a datagram", () => {
    const program = `
      import { Arrivals } from ${JSON.stringify(ARRIVALS)};
      const arrivals = new Arrivals();
      const work = (from, count) => {
        for (let k = from; k < from + count; k++) {
          arrivals.note(2 ** 32 + (k ^ 1));
          arrivals.time((k & 1023) + 0.5);
        }
      };
      work(0, 200_000);
      const before = process.memoryUsage.rss();
      work(200_000, 2_000_000);
      console.log((process.memoryUsage.rss() - before) / 2_000_000);
    `;
    // Without a collector nothing that was allocated is given back.
    const { stdout } = Bun.spawnSync([process.execPath, "-e", program], {
      env: { ...process.env, BUN_JSC_useGC: "0" },
    });
    expect(stdout.toString()).toMatch(/^-?\d/);
    expect(Number(stdout.toString())).toBeLessThan(4);
  });
});

describe("a probe", () => {
  const memory = new Uint8Array(new ArrayBuffer(64)).fill(0xa5);
  const view = new DataView(memory.buffer);
  const at = 5;
  const time = { seconds: 1_700_000_000, nanoseconds: 999_999_999 };

  function write(kind: number, sequence: number): void {
    memory.fill(0xa5);
    setRun(view, at, kind, 0xfedcba98);
    setSequence(view, at, sequence);
    setTime(view, at, time);
  }

  test("is these bytes", () => {
    write(PROBE, 2 ** 32 + 7);
    expect(Buffer.from(memory.subarray(at, at + PROBE_BYTES)).toString("hex")).toBe(
      "62730100fedcba9800000001000000076553f1003b9ac9ff",
    );
    expect([memory[at - 1], memory[at + PROBE_BYTES]]).toEqual([0xa5, 0xa5]);
  });

  test.each([0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1])("has the number %d", (sequence) => {
    write(OVER, sequence);
    expect([kindOf(view, at, PROBE_BYTES), runOf(view, at)]).toEqual([OVER, 0xfedcba98]);
    expect(sequenceOf(view, at)).toBe(sequence);
  });

  test("that says the run is over says what was never sent, if that can be", () => {
    write(OVER, 10);
    const unsent = (length: number) => unsentOf(view, at, length);
    setUnsent(view, at, 3);
    expect([unsent(OVER_BYTES), unsent(100)]).toEqual([3, 3]);
    // Who has not read this page sends it shorter.
    expect([unsent(PROBE_BYTES), unsent(OVER_BYTES - 1)]).toEqual([0, 0]);
    expect(memory[at + OVER_BYTES]).toBe(0xa5);
    for (const [count, told] of [
      [10, 10],
      [11, 0],
      [2 ** 53 - 1, 0],
    ] as const) {
      setUnsent(view, at, count);
      expect(unsent(OVER_BYTES)).toBe(told);
    }
    memory.fill(0xff, at + PROBE_BYTES, at + OVER_BYTES);
    expect(unsent(OVER_BYTES)).toBe(0);
    setSequence(view, at, 2 ** 40);
    setUnsent(view, at, 2 ** 33 + 5);
    expect(unsent(OVER_BYTES)).toBe(2 ** 33 + 5);
  });

  test("was on its way for nanoseconds, whatever year it is", () => {
    write(PROBE, 0);
    expect(transitNs(view, at, 1_700_000_001, 1)).toBe(2);
    expect(transitNs(view, at, 1_700_000_000, 0)).toBe(-999_999_999);
  });

  test.each([
    ["too short", 0, 0, PROBE_BYTES - 1],
    ["empty", 0, 0, 0],
    ["of another magic", 0, 0x63, PROBE_BYTES],
    ["of another version", 2, 2, PROBE_BYTES],
    ["of another kind", 3, 2, PROBE_BYTES],
    ["with a number above 2^53", 8, 0xff, PROBE_BYTES],
    ["with more nanoseconds than a second has", 20, 0x3c, PROBE_BYTES],
  ])("that is %s is foreign", (_, offset, byte, length) => {
    write(PROBE, 1);
    if (length === PROBE_BYTES) memory[at + offset] = byte;
    expect(kindOf(view, at, length)).toBe(FOREIGN);
  });

  test("is nothing else by chance", () => {
    const bytes = fc.uint8Array({ minLength: PROBE_BYTES, maxLength: 64 });
    fc.assert(
      fc.property(bytes, (data) => {
        const copy = new DataView(new Uint8Array(data).buffer);
        expect(kindOf(copy, 0, data.length)).toBe(FOREIGN);
      }),
    );
  });
});

describe("Bars", () => {
  test("has no rows of nothing", () => {
    expect(new Bars().rows()).toEqual([]);
  });

  test("puts each number into one row, and has few", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 1e12 }), { minLength: 1 }), (values) => {
        const bars = new Bars();
        for (const value of values) bars.record(value);
        const rows = bars.rows();
        expect(rows.length).toBeLessThanOrEqual(16);
        // Of few numbers few.
        expect(rows.length).toBeLessThanOrEqual(
          Math.max(4, Math.ceil(2 * Math.sqrt(values.length))),
        );
        for (const [k, { from, to, count }] of rows.entries()) {
          expect(from).toBe(k === 0 ? from : (rows[k - 1]?.to as number));
          // As near as a logarithm is.
          const near = (low: number, high: number) =>
            values.filter((value) => value >= low && value < high).length;
          expect(count).toBeGreaterThanOrEqual(near(from * 1.000001, to * 0.999999));
          expect(count).toBeLessThanOrEqual(near(from * 0.999999, to * 1.000001));
        }
        expect(rows.reduce((sum, { count }) => sum + count, 0)).toBe(values.length);
        expect(rows[0]?.count).toBeGreaterThan(0);
        expect(rows.at(-1)?.count).toBeGreaterThan(0);
      }),
    );
  });

  test("are drawn as long as they are", () => {
    const rows = [
      { from: 1, to: 2, count: 80 },
      { from: 2, to: 4, count: 0 },
      { from: 4, to: 8, count: 1 },
      { from: 8, to: 16, count: 40 },
    ];
    expect(barLines(rows, (value) => `${value} ns`)).toEqual([
      `  1 ns  80  ${"#".repeat(40)}`,
      "  2 ns   0",
      "  4 ns   1  #",
      `  8 ns  40  ${"#".repeat(20)}`,
    ]);
  });
});

describe("rate", () => {
  test.each([
    ["50000", 50_000, "datagrams"],
    ["50k", 50_000, "datagrams"],
    ["2.5M", 2_500_000, "datagrams"],
    ["0.5", 0.5, "datagrams"],
    ["100Mbit", 1e8, "bits"],
    ["1Gbit/s", 1e9, "bits"],
    ["9600bit", 9600, "bits"],
  ] as const)("%s is %d %s a second", (text, perSecond, unit) => {
    expect(rate(text)).toEqual({ perSecond, unit });
  });

  test.each(["", "0", "-1", "1e3", "k", "1m", "1Mbyte", "1 Mbit", "Infinity", "9999999G"])(
    "%j is none",
    (text) => {
      expect(() => rate(text)).toThrow("Expected datagrams a second, or bits");
    },
  );
});
