import {
  BPF_ABS,
  BPF_ADD,
  BPF_ALU,
  BPF_AND,
  BPF_B,
  BPF_DIV,
  BPF_H,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JMP,
  BPF_JSET,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_LEN,
  BPF_LSH,
  BPF_MAXINSNS,
  BPF_MEM,
  BPF_MISC,
  BPF_MOD,
  BPF_MSH,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RET,
  BPF_RSH,
  BPF_ST,
  BPF_STX,
  BPF_SUB,
  BPF_W,
  BPF_X,
  BPF_XOR,
} from "../../structs/constants/linux_bpf_common.ts";
import {
  BPF_A,
  BPF_MEMWORDS,
  BPF_TAX,
  BPF_TXA,
  SKF_AD_CPU,
  SKF_AD_OFF,
  SKF_AD_QUEUE,
  SKF_NET_OFF,
} from "../../structs/constants/linux_filter.ts";
import { sock_filter } from "../../structs/sock_filter.ts";
import type { FilterInstruction } from "../filter_program.ts";
import { describe, requireInteger, requireObject } from "./arguments.ts";

const INT_MIN = -(2 ** 31);
const UINT_MAX = 2 ** 32 - 1;
const U16_MAX = 0xffff;
const U8_MAX = 0xff;
const SHIFT_MAX = 31;
const ALL_BYTES = 0x7fff_ffff;
// Sockets of one SO_REUSEPORT group: its array of sockets has a 16-bit length.
const GROUP_MAX = 0xffff;

const CLASS = 0x07;
const OPERATION = 0xf0;

// What the kernel takes for an instruction, as bpf_check_classic in its net/core/filter.c has it.
const CODES: ReadonlySet<number> = new Set([
  ...[
    BPF_ADD,
    BPF_SUB,
    BPF_MUL,
    BPF_DIV,
    BPF_MOD,
    BPF_AND,
    BPF_OR,
    BPF_XOR,
    BPF_LSH,
    BPF_RSH,
  ].flatMap((operation) => [BPF_ALU | operation | BPF_K, BPF_ALU | operation | BPF_X]),
  BPF_ALU | BPF_NEG,
  ...[BPF_W, BPF_H, BPF_B].flatMap((size) => [BPF_LD | size | BPF_ABS, BPF_LD | size | BPF_IND]),
  BPF_LD | BPF_W | BPF_LEN,
  BPF_LD | BPF_IMM,
  BPF_LD | BPF_MEM,
  BPF_LDX | BPF_W | BPF_LEN,
  BPF_LDX | BPF_B | BPF_MSH,
  BPF_LDX | BPF_IMM,
  BPF_LDX | BPF_MEM,
  BPF_ST,
  BPF_STX,
  BPF_MISC | BPF_TAX,
  BPF_MISC | BPF_TXA,
  BPF_RET | BPF_K,
  BPF_RET | BPF_A,
  BPF_JMP | BPF_JA,
  ...[BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET].flatMap((condition) => [
    BPF_JMP | condition | BPF_K,
    BPF_JMP | condition | BPF_X,
  ]),
]);

/** Checks instructions, and returns them as the kernel takes them. */
export function encodeInstructions(
  instructions: readonly FilterInstruction[],
): Uint8Array<ArrayBuffer> {
  if (!Array.isArray(instructions))
    throw new TypeError(`Cannot use ${describe(instructions)} as a program: expected an array`);
  // Read once, and no longer than the kernel allows: what looks like an array can be endless.
  const { length } = instructions;
  requireInteger(length, 1, BPF_MAXINSNS, "the number of instructions");
  const bytes = new Uint8Array(new ArrayBuffer(length * sock_filter.size));
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < length; i++) {
    const { code, jt = 0, jf = 0, k = 0 } = requireObject(instructions[i] as FilterInstruction);
    requireInteger(code, 0, U16_MAX, `the code of instruction ${i}`);
    requireInteger(jt, 0, U8_MAX, `the jt of instruction ${i}`);
    requireInteger(jf, 0, U8_MAX, `the jf of instruction ${i}`);
    requireInteger(k, INT_MIN, UINT_MAX, `the k of instruction ${i}`);
    requireSound(i, length, code, jt, jf, k >>> 0);
    const at = i * sock_filter.size;
    sock_filter.code.set(view, at, code);
    sock_filter.jt.set(view, at, jt);
    sock_filter.jf.set(view, at, jf);
    sock_filter.k.set(view, at, k);
  }
  return bytes;
}

/** The instructions of a program. */
export function decodeInstructions(bytes: Uint8Array<ArrayBuffer>): Required<FilterInstruction>[] {
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length / sock_filter.size }, (_, i) => {
    const at = i * sock_filter.size;
    return {
      code: sock_filter.code.get(view, at),
      jt: sock_filter.jt.get(view, at),
      jf: sock_filter.jf.get(view, at),
      k: sock_filter.k.get(view, at),
    };
  });
}

/** What `tcpdump -ddd` prints, as instructions. */
export function parseInstructions(text: string): FilterInstruction[] {
  if (typeof text !== "string")
    throw new TypeError(`Cannot parse ${describe(text)} as a program: expected text`);
  const [first = "", ...lines] = text.trim().split("\n");
  if (Number(first) !== lines.length || !/^\s*\d{1,4}\s*$/.test(first))
    throw new TypeError("Cannot parse a program: expected the number of lines in the first one");
  return lines.map((line, i) => {
    const match = /^\s*(\d{1,5})\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,10})\s*$/.exec(line);
    if (!match)
      throw new TypeError(`Cannot parse instruction ${i} of a program: expected four numbers`);
    const [, code, jt, jf, k] = match;
    return { code: Number(code), jt: Number(jt), jf: Number(jf), k: Number(k) };
  });
}

/** Returns the same for every packet: nothing of it, or all. */
export function constantly(what: "nothing" | "all"): FilterInstruction[] {
  return [{ code: BPF_RET | BPF_K, k: what === "all" ? ALL_BYTES : 0 }];
}

/** The socket whose place is a number of the packet, modulo the number of sockets. */
export function byNumber(which: "cpu" | "queue", sockets: number): FilterInstruction[] {
  requireInteger(sockets, 1, GROUP_MAX, "the number of sockets");
  return [
    {
      code: BPF_LD | BPF_W | BPF_ABS,
      k: SKF_AD_OFF + (which === "cpu" ? SKF_AD_CPU : SKF_AD_QUEUE),
    },
    { code: BPF_ALU | BPF_MOD | BPF_K, k: sockets },
    { code: BPF_RET | BPF_A },
  ];
}

/** The socket whose place is a hash of the packet's source, modulo the number of sockets. */
export function bySourceHash(sockets: number): FilterInstruction[] {
  requireInteger(sockets, 1, GROUP_MAX, "the number of sockets");
  const port = 0;
  const sum = 1;
  const xor = (offset: number): FilterInstruction[] => [
    { code: BPF_LD | BPF_W | BPF_ABS, k: SKF_NET_OFF + offset },
    { code: BPF_LDX | BPF_MEM, k: sum },
    { code: BPF_ALU | BPF_XOR | BPF_X },
    { code: BPF_ST, k: sum },
  ];
  // RFC 8200: the source is in the bytes 8 to 23, and the transport header begins at 40.
  const ipv6: FilterInstruction[] = [
    { code: BPF_LD | BPF_H | BPF_ABS, k: SKF_NET_OFF + 40 },
    { code: BPF_ST, k: port },
    ...[8, 12, 16, 20].flatMap(xor),
  ];
  // RFC 791: the low half of the first byte is the length of the header, in words; the source is
  // in the bytes 12 to 15.
  const ipv4: FilterInstruction[] = [
    { code: BPF_LDX | BPF_B | BPF_MSH, k: SKF_NET_OFF },
    { code: BPF_LD | BPF_H | BPF_IND, k: SKF_NET_OFF },
    { code: BPF_ST, k: port },
    ...xor(12),
  ];
  return [
    { code: BPF_LD | BPF_IMM, k: 0 },
    { code: BPF_ST, k: sum },
    { code: BPF_LD | BPF_B | BPF_ABS, k: SKF_NET_OFF },
    { code: BPF_ALU | BPF_RSH | BPF_K, k: 4 },
    { code: BPF_JMP | BPF_JEQ | BPF_K, k: 6, jt: 0, jf: ipv6.length + 1 },
    ...ipv6,
    { code: BPF_JMP | BPF_JA, k: ipv4.length },
    ...ipv4,
    { code: BPF_LD | BPF_MEM, k: sum },
    { code: BPF_LDX | BPF_MEM, k: port },
    { code: BPF_ALU | BPF_XOR | BPF_X },
    // Knuth's multiplier: neighbouring ports and addresses get far apart, in the upper bits.
    { code: BPF_ALU | BPF_MUL | BPF_K, k: 0x9e37_79b1 },
    { code: BPF_ALU | BPF_RSH | BPF_K, k: 16 },
    { code: BPF_ALU | BPF_MOD | BPF_K, k: sockets },
    { code: BPF_RET | BPF_A },
  ];
}

// What the kernel refuses with EINVAL and no word of where. Loads from memory that some path has not
// stored to are left to it.
function requireSound(
  i: number,
  length: number,
  code: number,
  jt: number,
  jf: number,
  k: number,
): void {
  const refuse = (why: string) => {
    throw new RangeError(`Cannot use instruction ${i} of ${length} in a program: ${why}`);
  };
  if (!CODES.has(code)) refuse(`0x${code.toString(16)} is no code`);
  const left = length - 1 - i;
  if ((code & CLASS) === BPF_JMP) {
    const isAlways = (code & OPERATION) === BPF_JA;
    // Compared without adding: k can be anything.
    if (isAlways ? k >= left : Math.max(jt, jf) >= left) refuse("it jumps behind the end");
  } else if (left === 0 && (code & CLASS) !== BPF_RET) refuse("the last one has to return");
  if (usesMemory(code) && k >= BPF_MEMWORDS) refuse(`there are ${BPF_MEMWORDS} words of memory`);
  if ((code & CLASS) !== BPF_ALU || (code & BPF_X) !== 0) return;
  const operation = code & OPERATION;
  if ((operation === BPF_DIV || operation === BPF_MOD) && k === 0) refuse("it divides by 0");
  if ((operation === BPF_LSH || operation === BPF_RSH) && k > SHIFT_MAX)
    refuse("it shifts by more than 31 bits");
}

function usesMemory(code: number): boolean {
  return (
    code === BPF_ST ||
    code === BPF_STX ||
    code === (BPF_LD | BPF_MEM) ||
    code === (BPF_LDX | BPF_MEM)
  );
}
