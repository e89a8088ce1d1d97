/** What is taken for a classic BPF program, and what is not: the kernel is not asked here. */
import { expect, test } from "bun:test";
import { type FilterInstruction, FilterProgram } from "bun-sockets";
import {
  BPF_A,
  BPF_ABS,
  BPF_ALU,
  BPF_DIV,
  BPF_JA,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LSH,
  BPF_MAXINSNS,
  BPF_MEM,
  BPF_MOD,
  BPF_RET,
  BPF_ST,
  BPF_W,
} from "bun-sockets/sys";
import { requires, testIf } from "../support/require.ts";

const RETURN: FilterInstruction = { code: BPF_RET | BPF_K, k: 1 };
const make = (...instructions: FilterInstruction[]) => new FilterProgram(instructions);

const refused: readonly [why: string, program: FilterInstruction[], message: string][] = [
  ["an unknown code", [{ code: 0xff }, RETURN], "instruction 0 of 2 in a program: 0xff is no code"],
  ["a load of the kernel's own programs", [{ code: 0x18 }, RETURN], "0x18 is no code"],
  [
    "a program that does not return",
    [RETURN, { code: BPF_LD | BPF_W | BPF_ABS }],
    "the last one has to return",
  ],
  ["a jump behind the end", [{ code: BPF_JMP | BPF_JA, k: 1 }, RETURN], "jumps behind the end"],
  [
    "a jump that wraps",
    [{ code: BPF_JMP | BPF_JA, k: 0xffff_ffff }, RETURN],
    "jumps behind the end",
  ],
  ["a jump to itself", [{ code: BPF_JMP | BPF_JA, k: -1 }, RETURN], "jumps behind the end"],
  [
    "a branch behind the end",
    [{ code: BPF_JMP | BPF_JEQ | BPF_K, jt: 0, jf: 1 }, RETURN],
    "jumps behind the end",
  ],
  ["a jump at the end", [RETURN, { code: BPF_JMP | BPF_JA }], "jumps behind the end"],
  ["a word that there is not", [{ code: BPF_ST, k: 16 }, RETURN], "16 words of memory"],
  ["a word to load that there is not", [{ code: BPF_LDX | BPF_MEM, k: -1 }, RETURN], "16 words"],
  ["a division by 0", [{ code: BPF_ALU | BPF_DIV | BPF_K, k: 0 }, RETURN], "divides by 0"],
  ["a remainder by 0", [{ code: BPF_ALU | BPF_MOD | BPF_K, k: 0 }, RETURN], "divides by 0"],
  ["a long shift", [{ code: BPF_ALU | BPF_LSH | BPF_K, k: 32 }, RETURN], "more than 31 bits"],
  ["no instruction", [], "the number of instructions: expected 1 to 4096"],
  ["too many", new Array(BPF_MAXINSNS + 1).fill(RETURN), "expected 1 to 4096"],
  ["a code of 17 bits", [{ code: 0x10006 }], "the code of instruction 0"],
  ["a negative branch", [{ code: 6, jt: -1 }], "the jt of instruction 0"],
  ["a branch of 9 bits", [{ code: 6, jf: 256 }], "the jf of instruction 0"],
  ["a k of 33 bits", [{ code: 6, k: 2 ** 32 }], "the k of instruction 0"],
  ["a k that is none", [{ code: 6, k: Number.NaN }], "the k of instruction 0"],
];

test.each(refused)("FilterProgram refuses %s", (_, program, message) => {
  expect(() => new FilterProgram(program)).toThrow(RangeError);
  expect(() => new FilterProgram(program)).toThrow(message);
});

test.each([undefined, null, 7, "6 0 0 1", { length: 1 }, [undefined], [7]])(
  "FilterProgram refuses %p, which is no array of instructions",
  (value) => {
    expect(() => new FilterProgram(value as never)).toThrow(TypeError);
  },
);

test("FilterProgram takes the longest program, with the longest jump", () => {
  const body = new Array(BPF_MAXINSNS - 1).fill(RETURN);
  const program = make({ code: BPF_JMP | BPF_JA, k: BPF_MAXINSNS - 2 }, ...body);
  expect(program.length).toBe(BPF_MAXINSNS);
});

test("FilterProgram reads each instruction once, and keeps what it read", () => {
  let reads = 0;
  const tricky = {
    code: BPF_RET | BPF_K,
    get k() {
      return ++reads;
    },
  };
  const program = make(tricky);
  expect(program.instructions).toEqual([{ code: 6, jt: 0, jf: 0, k: 1 }]);
  expect(reads).toBe(1);
  const copy = program.instructions as { code: number }[];
  (copy[0] as { code: number }).code = 0;
  expect(program.instructions[0]?.code).toBe(6);
});

test("FilterProgram.toString() and parse() are each other's inverse; k is unsigned", () => {
  const program = make(
    { code: BPF_LD | BPF_W | BPF_ABS, k: -4096 },
    { code: BPF_JMP | BPF_JEQ | BPF_K, jt: 0, jf: 1, k: 7 },
    { code: BPF_RET | BPF_A },
    RETURN,
  );
  expect(program.toString()).toBe("4\n32 0 0 4294963200\n21 0 1 7\n22 0 0 0\n6 0 0 1");
  expect(FilterProgram.parse(`${program}`).toString()).toBe(`${program}`);
  for (const program of [
    FilterProgram.dropAll,
    FilterProgram.acceptAll,
    FilterProgram.byCpu(3),
    FilterProgram.byQueue(4),
    FilterProgram.bySourceHash(65535),
  ])
    expect(FilterProgram.parse(program.toString()).toString()).toBe(program.toString());
});

test.each(["", "1", "2\n6 0 0 1", "1\n6 0 0", "1\n6 0 0 x", "x\n6 0 0 1", "1\n6 0 0 1 9", "1\n\n"])(
  "FilterProgram.parse(%p) is refused",
  (text) => {
    expect(() => FilterProgram.parse(text)).toThrow(/Cannot parse/);
  },
);

test("FilterProgram.parse() refuses what is no text, and what the constructor refuses", () => {
  expect(() => FilterProgram.parse(7 as never)).toThrow(TypeError);
  expect(() => FilterProgram.parse("1\n255 0 0 0")).toThrow("0xff is no code");
});

test.each([0, -1, 1.5, 65536, Number.NaN])("no group has %p sockets", (sockets) => {
  expect(() => FilterProgram.byCpu(sockets)).toThrow(RangeError);
  expect(() => FilterProgram.byQueue(sockets)).toThrow(RangeError);
  expect(() => FilterProgram.bySourceHash(sockets)).toThrow(RangeError);
});

testIf(requires("tcpdump"))("FilterProgram.parse() reads what tcpdump -ddd prints", () => {
  const compiled = Bun.spawnSync(["tcpdump", "-ddd", "-y", "EN10MB", "udp port 53"]);
  const text = compiled.stdout.toString();
  expect(FilterProgram.parse(text).toString()).toBe(text.trim());
});

test("console.log of a FilterProgram is one short line", () => {
  expect(Bun.inspect(FilterProgram.byCpu(4))).toBe("FilterProgram, 3 instructions");
  expect(Bun.inspect(FilterProgram.dropAll)).toBe("FilterProgram, 1 instruction");
  expect(Bun.inspect(FilterProgram.prototype)).toBe("FilterProgram");
});
