/** runFilter() against the machines that it stands for: the kernel's, and that of libpcap. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FilterProgram, UnixDatagramSocket } from "bun-sockets";
import {
  assembleFilter,
  compileFilter,
  FilterError,
  type FilterMetadata,
  runFilter,
} from "bun-sockets/packet";
import { SKF_LL_OFF } from "bun-sockets/sys";
import fc from "fast-check";
import { requires, testIf } from "../support/require.ts";
import { ETHERNET, EVERYWHERE } from "./filter_expressions.ts";
import { frames, toPcap } from "./filter_frames.ts";
import { programs } from "./filter_programs.ts";

// Other programs are started by the hundred: on a busy machine that takes its time.
setDefaultTimeout(60_000);

const compared = testIf(requires("tcpdump"));
const ALL = 0xffff_ffff;

/** What a program makes of a packet that is of no device: a Unix datagram. */
const OF_UNIX: FilterMetadata = { protocol: 0, networkOffset: 0, linkOffset: Number.NaN };

const run = (text: string, bytes: readonly number[] = [], metadata?: FilterMetadata) =>
  runFilter(assembleFilter(text), new Uint8Array(bytes), metadata);

/** How much of each payload the kernel lets through a program; undefined for none of it. */
function lengthsOfKernel(
  pair: readonly [UnixDatagramSocket, UnixDatagramSocket],
  program: FilterProgram,
  payloads: readonly Uint8Array[],
): (number | undefined)[] {
  const [left, right] = pair;
  const target = new Uint8Array(512);
  right.attachFilter(program);
  return payloads.map((payload) => {
    left.trySend(payload);
    return right.tryReceive(target);
  });
}

const lengthsOfOurs = (program: FilterProgram, payloads: readonly Uint8Array[]) =>
  payloads.map((payload) => {
    const accepted = runFilter(program, payload, OF_UNIX);
    // The kernel cuts a packet to no less than one byte.
    return accepted === 0 ? undefined : Math.min(accepted, payload.length);
  });

// Netlink attributes, so that loads of them find some.
const attributes = fc.array(fc.tuple(fc.nat(12), fc.nat(6)), { maxLength: 5 }).map((parts) => {
  const bytes: number[] = [];
  for (const [size, type] of parts) {
    bytes.push(size + 4, 0, type, 0x80 * (type % 2), ...new Array(size).fill(type));
    while (bytes.length % 4 !== 0) bytes.push(0);
  }
  return new Uint8Array(bytes);
});
const payload = fc.oneof(
  fc.uint8Array({ maxLength: 80, size: "max" }),
  fc.uint8Array({ minLength: 60, maxLength: 68 }),
  attributes,
);

describe("the kernel", () => {
  test("lets through what runFilter() says, of random programs and payloads", () => {
    const pair = UnixDatagramSocket.pair();
    let let_ = 0;
    let cut = 0;
    let dropped = 0;
    fc.assert(
      fc.property(
        programs(),
        fc.array(payload, { minLength: 1, maxLength: 8 }),
        (program, payloads) => {
          const lengths = lengthsOfKernel(pair, program, payloads);
          expect(lengthsOfOurs(program, payloads)).toEqual(lengths);
          for (const [i, length] of lengths.entries()) {
            if (length === undefined) dropped++;
            else if (length < (payloads[i] as Uint8Array).length) cut++;
            else let_++;
          }
        },
      ),
      { numRuns: 2500 },
    );
    for (const socket of pair) socket.close();
    // Of each kind there were many, so that they could differ.
    expect(Math.min(let_, cut, dropped)).toBeGreaterThan(300);
  });

  test("lets through what runFilter() says, of programs that reckon one thing", () => {
    const pair = UnixDatagramSocket.pair();
    const values = [0, 1, 31, 33, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, ALL];
    const operations = "add sub mul div mod and or xor lsh rsh".split(" ");
    const lines: string[] = [];
    for (const operation of operations) {
      for (const a of values)
        for (const b of values) {
          lines.push(`ld #${a}\nldx #${b}\n${operation} x`);
          const isSound = operation.endsWith("sh") ? b < 32 : b > 0;
          if (isSound) lines.push(`ld #${a}\n${operation} #${b}`);
        }
    }
    for (const jump of ["jeq", "jgt", "jge", "jset", "jne", "jlt", "jle"]) {
      for (const a of values) {
        for (const b of values) {
          lines.push(`ld #${a}\nldx #${b}\n${jump} x, y, n\nn: ld #3\nja e\ny: ld #7\ne: st M[0]`);
          lines.push(`ld #${a}\n${jump} #${b}, y, n\nn: ld #3\nja e\ny: ld #7\ne: st M[0]`);
        }
      }
    }
    for (const a of values) lines.push(`ld #${a}\nneg`);
    // The result goes out in four steps, of eight bits each, as a length from 1 to 256.
    const payloads = [new Uint8Array(260)];
    for (const line of lines) {
      const digits: (number | undefined)[] = [];
      const program = assembleFilter(`${line}\nst M[1]\nld #0\nld M[1]\nret`);
      const result = runFilter(program, payloads[0] as Uint8Array, OF_UNIX);
      // A jump chooses one digit.
      const digitCount = line.includes("ja") ? 1 : 4;
      for (let shift = 0; shift < 8 * digitCount; shift += 8) {
        const text = `${line}\nrsh #${shift}\nand #255\nadd #1\nret`;
        digits.push(...lengthsOfKernel(pair, assembleFilter(text), payloads));
      }
      // A division by 0 drops the packet.
      const value = digits.reduce(
        (sum: number, digit, i) => sum + ((digit ?? 1) - 1) * 256 ** i,
        0,
      );
      expect([line, result]).toEqual([line, digits[0] === undefined ? 0 : value]);
    }
    for (const socket of pair) socket.close();
  });
});

test("netlink attributes are found where the kernel finds them, also in one another", () => {
  const pair = UnixDatagramSocket.pair();
  // Sizes that are no multiple of four, flags above the type, one inside of another, one too long.
  const lists = [
    [8, 0, 1, 0, 1, 2, 3, 4, 7, 0, 2, 0, 1, 2, 3, 0, 4, 0, 3, 0, 5, 0, 4, 0x80, 9, 0, 0, 0],
    [20, 0, 1, 0x80, 6, 0, 2, 0, 1, 2, 0, 0, 9, 0, 3, 0, 1, 2, 3, 4, 5, 0, 0, 0, 4, 0, 5, 0x40],
    [8, 0, 1, 0, 3, 0, 2, 0, 8, 0, 3, 0, 0, 0, 0, 0, 200, 0, 4, 0],
    [40, 0, 1, 0, 4, 0, 2, 0],
    [4, 0, 9, 0, 12, 0, 1, 0, 4, 0, 2, 0],
    [4, 0, 0, 0],
    [1, 2, 3],
    [],
  ];
  const payloads = lists.map((list) => new Uint8Array(list));
  const found = new Set<number | undefined>();
  for (const name of ["nla", "nlan"]) {
    for (const type of [0, 1, 2, 3, 4, 5, 0x8001, -1]) {
      for (const start of [0, 1, 4, 8, 20, 24, 28, -1, -4]) {
        const text = `ld #${start}\nldx #${type}\nld #${name}\nadd #1\nret`;
        const program = assembleFilter(text);
        const lengths = lengthsOfKernel(pair, program, payloads);
        expect([text, lengthsOfOurs(program, payloads)]).toEqual([text, lengths]);
        for (const length of lengths) found.add(length);
      }
    }
  }
  for (const socket of pair) socket.close();
  expect(found.size).toBeGreaterThan(6);
});

describe("runFilter()", () => {
  const bytes = [0x11, 0x22, 0x33, 0x44, 0x55];

  test.each([
    ["ld [0]\nret", 0x1122_3344],
    ["ld [1]\nret", 0x2233_4455],
    ["ldh [3]\nret", 0x4455],
    ["ldb [4]\nret", 0x55],
    ["ld [2]\nret", 0],
    ["ldh [4]\nret #1", 0],
    ["ldb [5]\nret #1", 0],
    ["ld [2147483647]\nret #1", 0],
    ["ldx #3\nldh [x + 0]\nret", 0x4455],
    ["ldx #5\nldb [x + -1]\nret", 0x55],
    ["ldx #-1\nldb [x + 1]\nret", 0x11],
    ["ldx #0x80000000\nldb [x + 0x80000000]\nret", 0x11],
    ["ldxb 4*([0]&0xf)\ntxa\nret", 4],
    ["ldxb 4*([5]&0xf)\nret #1", 0],
    ["ld #len\nret", 5],
    ["ldx #len\ntxa\nret", 5],
    ["ld #-1\nadd #2\nret", 1],
    ["ld #0\nsub #1\nret", ALL],
    ["ld #65537\nmul #65537\nret", 131073],
    ["ld #-1\ndiv #2\nret", 0x7fff_ffff],
    ["ld #-1\nmod #10\nret", 5],
    ["ld #5\nldx #0\ndiv x\nret #1", 0],
    ["ld #5\nldx #0\nmod x\nret #1", 0],
    ["ld #1\nldx #33\nlsh x\nret", 2],
    ["ld #-1\nrsh #31\nret", 1],
    ["ld #5\nst M[15]\nld #0\nldx M[15]\ntxa\nret", 5],
    ["ret #-1", ALL],
    ["ret", 0],
    ["ld [-5000]\nret #1", 0],
  ])("of %j is %i", (text, result) => {
    expect(run(text, bytes)).toBe(result);
  });

  test("tells what is known beside the packet", () => {
    const metadata: FilterMetadata = {
      protocol: 0x86dd,
      packetType: "otherHost",
      interfaceIndex: 7,
      hardwareType: 772,
      vlan: 0x2005,
      vlanProtocol: 0x88a8,
      hash: 0xdead_beef,
      mark: 0x8000_0001,
      queue: 3,
      cpu: 2,
      random: 0xfedc_ba98,
      payloadOffset: 54,
      originalLength: 1500,
    };
    const of = (name: string) => run(`ld #${name}\nret`, bytes, metadata);
    const names =
      "proto type ifidx hatype vlan_tci vlan_avail vlan_tpid rxhash mark queue cpu rand poff len";
    expect(names.split(" ").map(of)).toEqual([
      0x86dd, 3, 7, 772, 0x2005, 1, 0x88a8, 0xdead_beef, 0x8000_0001, 3, 2, 0xfedc_ba98, 54, 1500,
    ]);
    const types = ["host", "broadcast", "multicast", "otherHost", "outgoing", 6] as const;
    const numbers = types.map((packetType) => run("ld #type\nret", [], { packetType }));
    expect(numbers).toEqual([0, 1, 2, 3, 4, 6]);
    const defaults = "proto type vlan_tci vlan_avail vlan_tpid rxhash mark queue cpu poff len";
    for (const metadata of [undefined, {}, { vlan: -1 }, { vlan: undefined }]) {
      const told = defaults.split(" ").map((name) => run(`ld #${name}\nret`, bytes, metadata));
      expect(told).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    }
    expect(run("ld #rand\nret #1")).toBe(1);
    const randoms = new Set(Array.from({ length: 20 }, () => run("ld #rand\nret")));
    expect(randoms.size).toBeGreaterThan(15);
  });

  test("finds the protocol in an Ethernet header where it is not told", () => {
    const frame = new Array(14).fill(0);
    expect(run("ld #proto\nret", [...frame.slice(0, 12), 0x08, 0x06])).toBe(0x806);
    expect(run("ld #proto\nret", [...frame.slice(0, 12), 0x00, 0x26])).toBe(4);
    expect(run("ld #proto\nret", frame.slice(0, 13))).toBe(0);
  });

  test("a packet of no device ends a program that asks for it, with what A is", () => {
    const text = "ld #9\nld #ifidx\nret #1";
    expect(run(text)).toBe(9);
    expect(run(text.replace("ifidx", "hatype"))).toBe(9);
    expect(run(text, [], { interfaceIndex: 1 })).toBe(1);
    const [left, right] = UnixDatagramSocket.pair();
    const payloads = [new Uint8Array(20)];
    const program = assembleFilter(text);
    expect(lengthsOfKernel([left, right], program, payloads)).toEqual([9]);
    left.close();
    right.close();
  });

  test("loads from the headers, wherever they are", () => {
    const packet = [1, 2, 3, 4, 5, 6, 7, 8];
    const net = (k: number, metadata?: FilterMetadata) =>
      run(`ldb [${-0x10_0000 + k}]\nret`, packet, metadata);
    const link = (k: number, metadata?: FilterMetadata) =>
      run(`ldb [${SKF_LL_OFF + k}]\nret`, packet, metadata);
    expect([net(0), net(1, { networkOffset: 3 }), link(0), link(7), link(8)]).toEqual([
      0, 5, 1, 8, 0,
    ]);
    // In front of the packet are only the headers, and what is in the bytes.
    const inside = { offset: 4, length: 4 };
    expect(net(0, { ...inside, networkOffset: -2 })).toBe(3);
    expect(net(0, { ...inside, networkOffset: -5 })).toBe(0);
    expect(link(1, { ...inside, linkOffset: -4 })).toBe(2);
    expect(net(5, { ...inside, networkOffset: -2 })).toBe(8);
    expect(net(6, { ...inside, networkOffset: -2 })).toBe(0);
    for (const networkOffset of [Number.NaN, Infinity, -Infinity, 2 ** 53, -(2 ** 53), 0.5])
      expect(net(0, { networkOffset })).toBe(networkOffset === 0.5 ? 1 : 0);
  });

  test("looks at a part of the bytes, and only there", () => {
    const memory = [9, 9, 1, 2, 3, 9, 9];
    const part = { offset: 2, length: 3 };
    expect(run("ldb [0]\nret", memory, part)).toBe(1);
    expect(run("ldb [2]\nret", memory, part)).toBe(3);
    expect(run("ldb [3]\nret #1", memory, part)).toBe(0);
    expect(run("ld #len\nret", memory, part)).toBe(3);
    expect(run("ld #len\nret", memory, { offset: 2 })).toBe(5);
    for (const wrong of [
      { offset: -1 },
      { offset: 8 },
      { length: 8 },
      { offset: 5, length: 3 },
      { offset: 0.5 },
      { length: Number.NaN },
      { offset: 0, length: -1 },
    ])
      expect(() => run("ret #1", memory, wrong)).toThrow(RangeError);
  });

  test("refuses what is no program, and what are no bytes", () => {
    const bytes = new Uint8Array(4);
    for (const wrong of [undefined, null, {}, "ip", [], Object.create(FilterProgram.prototype)])
      expect(() => runFilter(wrong as never, bytes)).toThrow(TypeError);
    for (const wrong of [undefined, null, {}, "ip", [1, 2], new ArrayBuffer(4)])
      expect(() => runFilter(FilterProgram.acceptAll, wrong as never)).toThrow(TypeError);
    for (const wrong of [null, 5, "ip"])
      expect(() => runFilter(FilterProgram.acceptAll, bytes, wrong as never)).toThrow(TypeError);
  });

  test("memory of an earlier run is gone", () => {
    run("ld #5\nst M[3]\nret #1");
    expect(run("ld M[3]\nret")).toBe(0);
  });

  test("bytes that are gone are an empty packet", () => {
    const bytes = new Uint8Array(8);
    bytes.buffer.transfer();
    expect(runFilter(assembleFilter("ldb [0]\nret #1"), bytes)).toBe(0);
    expect(runFilter(assembleFilter("ret #1"), bytes)).toBe(1);
  });
});

describe("libpcap", () => {
  const folder = mkdtempSync(join(tmpdir(), "filters-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

  async function acceptedByTcpdump(
    linkType: number,
    texts: readonly string[],
  ): Promise<Set<number>[]> {
    const path = join(folder, `${linkType}.pcap`);
    const packets = frames(linkType);
    writeFileSync(path, toPcap(linkType, packets));
    const results: Set<number>[] = [];
    let next = 0;
    const work = async () => {
      while (next < texts.length) {
        const i = next++;
        const command = ["tcpdump", "-r", path, "-w", "-", "--", texts[i] as string];
        const child = Bun.spawn(command, { stderr: "ignore" });
        const out = new DataView(await new Response(child.stdout).arrayBuffer());
        const numbers = new Set<number>();
        // The time of a packet is its number.
        for (let at = 24; at < out.byteLength; at += 16 + out.getUint32(at + 8, true))
          numbers.add(out.getUint32(at, true));
        results[i] = numbers;
      }
    };
    await Promise.all([work(), work(), work(), work()]);
    return results;
  }

  const cases = [
    ["ethernet", 1, ETHERNET],
    ["raw", 101, EVERYWHERE],
    ["linux_sll", 113, EVERYWHERE],
    ["linux_sll2", 276, EVERYWHERE],
    ["null", 0, EVERYWHERE],
  ] as const;

  for (const [name, linkType, all] of cases) {
    compared(
      `takes the packets that runFilter() takes, of link type ${name}, by every filter`,
      async () => {
        const packets = frames(linkType);
        // A capture file does not say which way a packet went.
        const askable = all.filter((text) => !/bound/.test(text));
        const usable = askable.flatMap((text) => {
          try {
            return [[text, compileFilter(text, { linkType })] as const];
          } catch (error) {
            if (error instanceof FilterError) return [];
            throw error;
          }
        });
        const texts = usable.map(([text]) => text);
        const theirs = await acceptedByTcpdump(linkType, texts);
        const numbers = packets.map((_, i) => i);
        const ours = usable.map(([, program]) =>
          numbers.filter((i) => {
            const { bytes, originalLength } = packets[i] as (typeof packets)[number];
            return runFilter(program, bytes, { originalLength }) > 0;
          }),
        );
        expect(texts.map((text, i) => [text, ours[i]])).toEqual(
          texts.map((text, i) => [text, [...(theirs[i] as Set<number>)]]),
        );
        // Most filters tell packets apart.
        const telling = ours.filter(({ length }) => length > 0 && length < packets.length);
        expect(telling.length).toBeGreaterThan(texts.length * 0.6);
      },
    );
  }
});

test("a million hostile programs and packets are run without an error", () => {
  const sample = fc.sample(programs(), 2000);
  const bytes = new Uint8Array(128);
  let state = 1;
  let taken = 0;
  for (let i = 0; i < 1_000_000; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    bytes[(state >>> 8) & 127] = state >>> 16;
    const program = sample[(state >>> 4) % sample.length] as FilterProgram;
    const result = runFilter(program, bytes.subarray(0, (state >>> 20) & 127));
    if (result > 0) taken++;
  }
  expect(taken).toBeGreaterThan(100_000);
  expect(taken).toBeLessThan(900_000);
});

test("runFilter() allocates nothing", () => {
  const script = `
    import { assembleFilter, runFilter } from ${JSON.stringify(join(import.meta.dir, "../../lib/packet/filter.ts"))};
    const program = assembleFilter("ldh [12]\\njne #0x800, no\\nldb [23]\\nst M[0]\\nld #len\\nld M[0]\\njne #17, no\\nld #vlan_tci\\nld #proto\\nret #-1\\nno: ret #0");
    const bytes = new Uint8Array(60);
    bytes[12] = 8;
    bytes[23] = 17;
    const metadata = { vlan: 5, offset: 0, length: 60 };
    let taken = 0;
    const loop = (times) => {
      for (let i = 0; i < times; i++) if (runFilter(program, bytes, metadata) > 0) taken++;
    };
    loop(500_000);
    const before = process.memoryUsage().rss;
    loop(2_000_000);
    console.log(taken, (process.memoryUsage().rss - before) / 2_000_000);`;
  const environment = { ...process.env, BUN_JSC_useGC: "0" };
  const { stdout } = Bun.spawnSync([process.execPath, "-e", script], { env: environment });
  const [taken, bytesEach] = stdout.toString().trim().split(" ").map(Number);
  expect(taken).toBe(2_500_000);
  expect(bytesEach).toBeLessThan(1);
});
