import { describe, expect, test } from "bun:test";
import {
  CELLS,
  type Cell,
  cellsNamed,
  planSeconds,
  QUICK,
  QUICK_CELLS,
  WHOLE,
} from "../../bench/cells.ts";
import { type Round, roundOf } from "../../bench/peers/suite_round.ts";
import type { ResultLine } from "../../bench/results.ts";
import { type Extras, lineOf, type Measured, stepsOf } from "../../bench/suite_result.ts";
import { resultTables } from "../../bench/suite_table.ts";

const BASE = "udp4/64/sendmmsg-recvmmsg";

function named(name: string): Cell {
  const cell = CELLS.find((one) => one.name === name);
  if (cell === undefined) throw new Error(`there is no ${name}`);
  return cell;
}

describe("CELLS", () => {
  test("are at most 80, and have names of their own", () => {
    expect(CELLS.length).toBeLessThanOrEqual(80);
    expect(new Set(CELLS.map(({ name }) => name)).size).toBe(CELLS.length);
  });

  test("take less than ten minutes in nine rounds of 0.4 s", () => {
    expect([WHOLE.rounds, WHOLE.roundMs]).toEqual([9, 400]);
    expect(planSeconds(CELLS, WHOLE)).toBeLessThan(600);
    expect(planSeconds(CELLS, { ...WHOLE, rounds: 18 })).toBeGreaterThan(600);
  });

  test("vary one thing of the base cell, and have C beside ours", () => {
    // What goes with another: a train is sent in one call, and many senders are not held back.
    const free = ["name", "question", "bytes", "batch", "segments", "group", "window", "peers"];
    const together = ["senders", "receivers", "flow"];
    const base = named(BASE);
    for (const cell of CELLS) {
      const varied = (Object.keys(cell) as (keyof Cell)[]).filter(
        (key) => !free.includes(key) && !together.includes(key) && cell[key] !== base[key],
      );
      // Only trains are joined, and a ring is for a device.
      const goesWith = { gro: "send", ring: "topology" }[cell.receive as string];
      expect(varied.filter((key) => key !== goesWith).length, cell.name).toBeLessThanOrEqual(1);
      expect(cell.peers, cell.name).toContain("c");
      expect(cell.peers, cell.name).toContain("bun-sockets");
    }
  });

  test("have two groups on their way that are filled by whole calls", () => {
    for (const { name, group, window, batch, segments } of CELLS) {
      expect(window, name).toBe(2 * group);
      expect(group % (batch * segments), name).toBe(0);
    }
  });

  test("keep each path, family, topology, form and peer", () => {
    const all = <Key extends keyof Cell>(key: Key) => [...new Set(CELLS.map((cell) => cell[key]))];
    expect(all("send").sort()).toEqual([
      "gso",
      "send",
      "sendmmsg",
      "sendmsg",
      "sendto",
      "zerocopy",
    ]);
    expect(all("receive").sort()).toEqual([
      "gro",
      "recv",
      "recvfrom",
      "recvmmsg",
      "recvmsg",
      "ring",
    ]);
    expect(all("family").sort()).toEqual(["udp4", "udp6", "unix"]);
    expect(all("form").sort()).toEqual(["handler", "promise", "try"]);
    expect(all("topology").sort()).toEqual([
      "2 × 1",
      "2 × 2",
      "one thread",
      "two processes",
      "veth",
    ]);
    expect(new Set(CELLS.flatMap(({ peers }) => peers)).size).toBe(7);
  });
});

describe("QUICK_CELLS", () => {
  test("are cells of the suite with what they are in words, of each size the same", () => {
    const names = [...QUICK_CELLS.keys()].map(({ name }) => name);
    expect(names.filter((name) => name.includes("/64/"))).toHaveLength(7);
    const large = names.filter((name) => name.includes("/1200/"));
    expect(large).toEqual(names.slice(0, 7).map((name) => name.replace("/64/", "/1200/")));
    expect(names).toHaveLength(14);
    for (const cell of QUICK_CELLS.keys()) expect(CELLS).toContain(cell);
  });

  test("take 20 seconds, all of them, and begin with all peers", () => {
    const cells = [...QUICK_CELLS.keys()];
    expect(planSeconds(cells, QUICK)).toBeLessThan(20);
    expect(planSeconds(cells, { ...QUICK, roundMs: 200 })).toBeGreaterThan(20);
    expect(cells[0]?.peers).toHaveLength(7);
  });
});

describe("cellsNamed()", () => {
  test("takes a cell's own name, although others begin with it", () => {
    expect(cellsNamed(BASE).map(({ name }) => name)).toEqual([BASE]);
  });

  test("takes a question, and what names begin with", () => {
    expect(cellsNamed("sizes")).toHaveLength(4);
    expect(cellsNamed("unix/").map(({ family }) => family)).toEqual(["unix", "unix"]);
  });

  test("finds nothing by another name", () => {
    expect(cellsNamed("udp5")).toEqual([]);
  });
});

describe("roundOf()", () => {
  const sent = { sent: 64, ns: 6400, calls: 2, dataCalls: 1, stalls: 0 };
  const received = {
    received: 64,
    messages: 64,
    sum: 64 * 255,
    ns: 5000,
    calls: 5,
    dataCalls: 4,
    stalls: 0,
  };
  const said = {
    asked: 64,
    sent: [sent],
    received: [{ ...received, samples: [7] }],
    cpu: [64, 128],
  };

  test("counts for each datagram", () => {
    expect(roundOf("c", named(BASE), said)).toEqual({
      ...{ sent: 64, received: 64, ns: 100, sendCpuNs: 1, receiveCpuNs: 2, sendCalls: 2 / 64 },
      ...{ receiveCalls: 5 / 64, sendBatch: 64, receiveBatch: 16, segments: null, samples: [7] },
      ...{ stalls: 0, plain: null },
    });
  });

  test("divides by what was received where some was lost", () => {
    const some = { ...received, received: 32, messages: 32, sum: 32 * 255, samples: [] };
    const round = roundOf("c", named(BASE), { ...said, received: [some] });
    expect(round).toMatchObject({ sent: 64, received: 32, ns: 200, sendCpuNs: 1, receiveCpuNs: 4 });
  });

  test("takes the time of the slowest where nobody waits, and adds up all sides", () => {
    const half = { ...received, received: 32, messages: 32, sum: 32 * 255, samples: [] };
    const round = roundOf("c", named(`${BASE}/2x2`), {
      ...{ asked: 128, sent: [sent, sent], received: [half, { ...half, ns: 12_800 }] },
      cpu: [64, 64, 32, 32],
    });
    expect(round).toMatchObject({
      sent: 128,
      received: 64,
      ns: 200,
      sendCpuNs: 1,
      receiveCpuNs: 1,
    });
  });

  test("leaves out what a side does not know, and the halves of one thread", () => {
    const unknown = { ...sent, calls: null, dataCalls: null };
    const round = roundOf("deno", named(BASE), { ...said, sent: [unknown] });
    expect(round).toMatchObject({ sendCalls: null, sendBatch: null, receiveBatch: 16 });
    const one = roundOf("c", named(`${BASE}/one-thread`), { ...said, cpu: [64] });
    expect(one).toMatchObject({ sendCpuNs: null, receiveCpuNs: null });
    expect(one.stalls).toBe(0);
  });

  test("takes the halves of one thread from itself", () => {
    const halves = { sent: [{ ...sent, cpuNs: 640 }], cpu: [64_000] };
    const both = [{ ...received, cpuNs: 1280, samples: [] }];
    const round = roundOf("c", named(`${BASE}/one-thread`), { ...said, ...halves, received: both });
    expect(round).toMatchObject({ sendCpuNs: 10, receiveCpuNs: 20 });
  });

  test("counts who has waited in vain, on both sides", () => {
    const waited = { ...said, sent: [{ ...sent, stalls: 2 }] };
    const both = [{ ...received, stalls: 1, samples: [] }];
    expect(roundOf("c", named(BASE), { ...waited, received: both }).stalls).toBe(3);
  });

  test("tells what part of the sends without a copy were plain ones", () => {
    const some = { ...said, sent: [{ ...sent, plain: 16 }] };
    const path = named("udp4/64/zerocopy-recvmmsg");
    expect(roundOf("c", path, some).plain).toBe(0.25);
    expect(roundOf("c", path, said).plain).toBe(0);
    expect(roundOf("c", named(BASE), some).plain).toBeNull();
  });

  test.each([
    ["other bytes", { ...said, received: [{ ...received, sum: 1, samples: [] }] }],
    ["more than was sent", { ...said, asked: 63, sent: [{ ...sent, sent: 63 }] }],
    ["other than was asked for", { ...said, asked: 128 }],
    ["nothing", { ...said, received: [{ ...received, received: 0, sum: 0, samples: [] }] }],
  ])("refuses %s", (_, wrong) => {
    expect(() => roundOf("c", named(BASE), wrong)).toThrow("other than was sent");
  });
});

describe("lineOf()", () => {
  const base: Round = {
    ...{ sent: 100, received: 100, ns: 100, sendCpuNs: 40, receiveCpuNs: 60, sendCalls: null },
    ...{ receiveCalls: null, sendBatch: 64, receiveBatch: null, segments: null, samples: [] },
    ...{ stalls: 0, plain: null },
  };
  const rounds = (...times: readonly number[]) => times.map((ns) => ({ ...base, ns }));
  const ours: Measured = {
    ...{ peer: "bun-sockets", cell: named(`${BASE}/handler`) },
    ...{ sendBufferBytes: 1, receiveBufferBytes: 2 },
  };
  const none: Extras = {
    calls: { send: null, receive: null },
    allocated: { send: null, receive: null, both: null },
    waits: null,
  };

  test("divides each round by that of C beside it", () => {
    const line = lineOf(ours, rounds(200, 300, 400), rounds(100, 300, 100), none);
    expect(line.ratioToC).toEqual({ median: 2, min: 1, max: 4 });
    expect(line.ns).toEqual({ median: 300, min: 200, max: 400 });
    expect(line.datagramsPerSecond.max).toBe(5_000_000);
    expect(line.gbitPerSecond.median).toBe(1.7067);
  });

  test("has no ratio for C, nor without it", () => {
    expect(lineOf({ ...ours, peer: "c" }, rounds(1), rounds(1), none).ratioToC).toBeNull();
    expect(lineOf(ours, rounds(1), undefined, none).ratioToC).toBeNull();
  });

  test.each([
    [[100, 112, 125], false],
    [[100, 100, 126], true],
    [[80, 100, 110], true],
  ])("calls %p too noisy: %p", (times, isNoisy) => {
    expect(lineOf(ours, rounds(...times), undefined, none).isNoisy).toBe(isNoisy);
  });

  test("adds up what was lost", () => {
    const some = [base, { ...base, received: 90 }, { ...base, received: 99 }];
    expect(lineOf(ours, some, undefined, none)).toMatchObject({ datagrams: 300, lost: 11 });
  });

  test("takes the calls that a side counts, and those of strace where it does not", () => {
    const extras = {
      calls: { send: 7, receive: 8 },
      allocated: { send: 1, receive: 82.123456, both: 83.123456 },
      waits: null,
    };
    const counted = [{ ...base, sendCalls: 0.5 }];
    expect(lineOf(ours, counted, undefined, extras)).toMatchObject({
      ...{ sendCallsPerDatagram: 0.5, receiveCallsPerDatagram: 8 },
      bytesAllocatedPerDatagram: 83.123,
    });
  });

  test("tells both sides' memory, and what they come to", () => {
    const allocated = { send: 0.123456, receive: 254.789123, both: 254.9125789 };
    expect(lineOf(ours, rounds(1), undefined, { ...none, allocated })).toMatchObject({
      ...{ sendBytesPerDatagram: 0.12346, receiveBytesPerDatagram: 254.79 },
      bytesAllocatedPerDatagram: 254.91,
    });
    const together = { send: null, receive: null, both: 8 };
    expect(lineOf(ours, rounds(1), undefined, { ...none, allocated: together })).toMatchObject({
      ...{ sendBytesPerDatagram: null, receiveBytesPerDatagram: null },
      bytesAllocatedPerDatagram: 8,
    });
  });

  test("adds up the waits in vain of all rounds", () => {
    const some = [base, { ...base, stalls: 2 }, { ...base, stalls: 1 }];
    expect(lineOf(ours, some, undefined, none).stalls).toBe(3);
  });

  test("has the middle of the rounds' plain sends, of the path without a copy alone", () => {
    const some = [1, 0.5, 0.75].map((plain) => ({ ...base, plain }));
    expect(lineOf(ours, some, undefined, none).plainShare).toBe(0.75);
    expect(lineOf(ours, [base], undefined, none).plainShare).toBeNull();
  });

  test("keeps the time since the kernel had it apart from that since it was sent", () => {
    const some = [{ ...base, samples: [5_000_000] }];
    const line = lineOf(ours, some, undefined, { ...none, waits: [1000, 2000, 3000] });
    expect(line.latencyUs?.p50).toBeWithin(4990, 5010);
    expect(line.waitUs?.p50).toBeWithin(1.9, 2.1);
    expect(line.waitUs?.max).toBeWithin(2.9, 3.1);
    expect(lineOf(ours, some, undefined, none).waitUs).toBeNull();
  });

  test("says how each peer waits", () => {
    const form = (peer: Measured["peer"]) =>
      lineOf({ ...ours, peer }, rounds(1), undefined, none).form;
    expect([form("bun-sockets"), form("c"), form("python")]).toEqual(["handler", "try", "try"]);
    expect(lineOf({ ...ours, cell: named(BASE) }, rounds(1), undefined, none).form).toBe("try");
    expect(form("deno")).toBe("handler");
  });

  test("has the latencies of all rounds, and none above the greatest", () => {
    const samples = Array.from({ length: 1000 }, (_, i) => (i + 1) * 1000);
    const halves = [samples.slice(0, 500), samples.slice(500)];
    const some = halves.map((half) => ({ ...base, samples: half }));
    const { p50 = 0, p90 = 0, p99 = 0, max } = lineOf(ours, some, undefined, none).latencyUs ?? {};
    expect(p50).toBeWithin(499, 502);
    expect(p90).toBeWithin(899, 902);
    expect(p99).toBeWithin(989, 992);
    expect(max).toBeWithin(999, 1001);
    const one = lineOf(ours, [{ ...base, samples: [1_414_494] }], undefined, none).latencyUs;
    expect(one?.p99).toBe(one?.max as number);
    expect(lineOf(ours, [base], undefined, none).latencyUs).toBeNull();
  });
});

describe("resultTables()", () => {
  const spread = (median: number) => ({ median, min: median - 1, max: median + 1 });
  const line: ResultLine = {
    ...{ kind: "result", cell: BASE, question: "peers", peer: "bun-sockets", send: "sendmmsg" },
    ...{ receive: "recvmmsg", family: "udp4", payloadBytes: 64, batch: 64, form: "try" },
    ...{ topology: "two processes", rounds: 9, datagrams: 1000, lost: 0, ns: spread(731) },
    ...{ sendCpuNs: spread(411), receiveCpuNs: null, datagramsPerSecond: spread(1_234_567) },
    ...{ gbitPerSecond: spread(7), sendCallsPerDatagram: 0.25, receiveCallsPerDatagram: null },
    ...{ bytesAllocatedPerDatagram: 3, achievedSendBatch: 64, achievedReceiveBatch: 21 },
    ...{ achievedSegments: null, sendBufferBytes: 1, receiveBufferBytes: 1, latencyUs: null },
    ...{ ratioToC: spread(1.25), isNoisy: false },
  };

  test("says what there is, and nothing of what is not known", () => {
    const table = resultTables([line]);
    for (const text of ["731", "1.25", "1,234,567", "0.250", "64 → 21"])
      expect(table).toContain(text);
    expect(table).not.toContain("null");
    expect(table).not.toContain("too noisy");
  });

  test("gives no ratio of rounds that differ too much, and says so", () => {
    const table = resultTables([{ ...line, isNoisy: true }]);
    expect(table).toContain("too noisy");
    expect(table).toContain("~731");
    expect(table).not.toContain("1.25");
  });

  test("states loss, and how much of all it is where that is not next to nothing", () => {
    expect(resultTables([{ ...line, lost: 500 }])).toContain("50.00 %");
    expect(resultTables([{ ...line, lost: 3, datagrams: 1_000_000 }])).toContain(" 3 ");
  });

  test("says how often a side has waited in vain", () => {
    expect(resultTables([line])).not.toContain("stall");
    expect(resultTables([{ ...line, stalls: 1 }])).toContain(" 1 stall ");
    expect(resultTables([{ ...line, stalls: 2, isNoisy: true }])).toContain("too noisy, 2 stalls");
  });

  test("tells the memory of each side, and of one thread all of it", () => {
    const sides = { sendBytesPerDatagram: 1, receiveBytesPerDatagram: 254 };
    expect(resultTables([{ ...line, ...sides }])).toContain("1 + 254");
    expect(resultTables([{ ...line, bytesAllocatedPerDatagram: 777 }])).toContain(" 777 ");
  });

  test("has a table for each question", () => {
    const table = resultTables([line, { ...line, question: "forms" }, line]);
    expect(table.match(/^(peers|forms)$/gm)).toEqual(["peers", "forms"]);
  });
});

test("stepsOf() counts samples by quarters of an octave, of all rounds together", () => {
  // Nanoseconds. A sample at the end of a step is in it, and one of before it was sent in the first.
  const rounds = [{ samples: [1000, 1001, 1189, 1190, -5] }, { samples: [1500, 2001, 8000] }];
  expect(stepsOf(rounds)).toEqual([
    [0.0011613, 1],
    [1, 1],
    [1.1892, 2],
    [Number(Math.SQRT2.toPrecision(5)), 1],
    [1.6818, 1],
    [2.3784, 1],
    [8, 1],
  ]);
  expect(stepsOf([{ samples: [] }])).toBeNull();
});
