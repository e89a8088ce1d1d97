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
} from "../structs/constants/linux_bpf_common.ts";
import {
  BPF_A,
  BPF_MEMWORDS,
  BPF_TAX,
  BPF_TXA,
  SKF_AD_CPU,
  SKF_AD_OFF,
  SKF_AD_QUEUE,
  SKF_NET_OFF,
} from "../structs/constants/linux_filter.ts";
import { sock_filter } from "../structs/sock_filter.ts";
import { describe, requireInteger, requireOptions } from "./internal/arguments.ts";

/** One instruction of a FilterProgram: a `struct sock_filter`. */
export interface FilterInstruction {
  /** What it does: a union of the `BPF_` constants of "bun-sockets/sys". */
  readonly code: number;
  /** How many instructions a conditional jump passes over where its condition holds. Default 0. */
  readonly jt?: number | undefined;
  /** How many it passes over where it does not. Default 0. */
  readonly jf?: number | undefined;
  /** The constant, offset, or distance of a jump. -2^31 to 2^32 - 1, default 0. */
  readonly k?: number | undefined;
}

// Set by the class below, for what hands programs to the kernel. The package does not export it.

/** The instructions of a program as the kernel takes them: read, never write. Undefined for others. */
export let programBytes: (program: unknown) => Uint8Array<ArrayBuffer> | undefined;
/** The same as words, two for each: code, jt and jf in the first, k in the second. */
export let programWords: (program: unknown) => Int32Array<ArrayBuffer> | undefined;

const INSPECT = Symbol.for("nodejs.util.inspect.custom");
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

/**
 * A classic BPF program, which the kernel runs for each packet of a socket: what it returns is how
 * many bytes of the packet the socket gets (0 drops it), or, for a group of sockets that share a
 * port, which of them gets it. Checked when it is made: opcodes, jumps, divisors, shifts and memory
 * words. Immutable.
 *
 * On a UDP socket a packet begins at its UDP header, in `attachReusePortProgram` at its payload; the
 * headers before it are at negative offsets from `SKF_NET_OFF`.
 *
 * @see {@link https://docs.kernel.org/networking/filter.html | Linux socket filtering}
 *
 * @example Only datagrams whose payload begins with an "A"
 * ```ts
 * import { FilterProgram, UdpSocket } from "bun-sockets";
 * import { BPF_ABS, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET } from "bun-sockets/sys";
 *
 * const onlyA = new FilterProgram([
 *   { code: BPF_LD | BPF_B | BPF_ABS, k: 8 }, // behind the UDP header
 *   { code: BPF_JMP | BPF_JEQ | BPF_K, k: 65, jt: 0, jf: 1 },
 *   { code: BPF_RET | BPF_K, k: 65535 },
 *   { code: BPF_RET | BPF_K, k: 0 },
 * ]);
 * using socket = UdpSocket.bind("127.0.0.1:0");
 * socket.attachFilter(onlyA);
 * socket.sendToSync("B", socket.localAddress);
 * socket.sendToSync("A", socket.localAddress);
 * console.log(`${Buffer.from(socket.receiveBytesSync(10))}`); // A
 * ```
 */
export class FilterProgram {
  static #dropAll: FilterProgram | undefined;
  static #acceptAll: FilterProgram | undefined;

  // An explicit ArrayBuffer: a small typed array of its own would move.
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #words: Int32Array<ArrayBuffer>;

  /**
   * Checks and keeps the instructions.
   *
   * @param instructions 1 to 4096, of which the last one returns
   * @throws {TypeError} it is no array of instructions
   * @throws {RangeError} the kernel would not take one of them; the message says which and why
   */
  constructor(instructions: readonly FilterInstruction[]) {
    if (!Array.isArray(instructions))
      throw new TypeError(`Cannot use ${describe(instructions)} as a program: expected an array`);
    // Read once, and no longer than the kernel allows: what looks like an array can be endless.
    const { length } = instructions;
    requireInteger(length, 1, BPF_MAXINSNS, "the number of instructions");
    const bytes = new Uint8Array(new ArrayBuffer(length * sock_filter.size));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < length; i++) {
      const { code, jt = 0, jf = 0, k = 0 } = requireOptions(instructions[i] as FilterInstruction);
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
    this.#bytes = bytes;
    this.#words = new Int32Array(bytes.buffer);
    Object.freeze(this);
  }

  /**
   * Reads a program as `tcpdump -ddd` prints it: the number of instructions, then a line of four
   * decimal numbers for each: code, jt, jf, k.
   *
   * @throws {TypeError} it is not of that form
   * @throws {RangeError} as the constructor
   */
  static parse(text: string): FilterProgram {
    if (typeof text !== "string")
      throw new TypeError(`Cannot parse ${describe(text)} as a program: expected text`);
    const [first = "", ...lines] = text.trim().split("\n");
    if (Number(first) !== lines.length || !/^\s*\d{1,4}\s*$/.test(first))
      throw new TypeError("Cannot parse a program: expected the number of lines in the first one");
    return new FilterProgram(
      lines.map((line, i) => {
        const match = /^\s*(\d{1,5})\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,10})\s*$/.exec(line);
        if (!match)
          throw new TypeError(`Cannot parse instruction ${i} of a program: expected four numbers`);
        const [, code, jt, jf, k] = match;
        return { code: Number(code), jt: Number(jt), jf: Number(jf), k: Number(k) };
      }),
    );
  }

  /** Lets no packet through. */
  static get dropAll(): FilterProgram {
    FilterProgram.#dropAll ??= new FilterProgram([{ code: BPF_RET | BPF_K, k: 0 }]);
    return FilterProgram.#dropAll;
  }

  /** Lets every packet through, whole. */
  static get acceptAll(): FilterProgram {
    FilterProgram.#acceptAll ??= new FilterProgram([{ code: BPF_RET | BPF_K, k: ALL_BYTES }]);
    return FilterProgram.#acceptAll;
  }

  /**
   * For `attachReusePortProgram`: the socket whose place in the group is the number of the CPU that
   * handles the packet, modulo the number of sockets. With a thread for each CPU, data stays in its
   * cache.
   *
   * @param sockets how many there are in the group, 1 to 65535
   */
  static byCpu(sockets: number): FilterProgram {
    return byNumber(SKF_AD_CPU, sockets);
  }

  /**
   * For `attachReusePortProgram`: the same socket for all packets of one receive queue of the device,
   * the next one for the next queue. As the kernel numbers them: from 1 where the driver tells the
   * queue, else 0 for all, as on the loopback interface.
   *
   * @param sockets how many there are in the group, 1 to 65535
   */
  static byQueue(sockets: number): FilterProgram {
    return byNumber(SKF_AD_QUEUE, sockets);
  }

  /**
   * For `attachReusePortProgram`: the same socket for all packets of one sender, by its address and
   * port, over IPv4 and IPv6 (without extension headers). It stays so when sockets of the group are
   * replaced in their places, which the kernel's own choice does not promise.
   *
   * @param sockets how many there are in the group, 1 to 65535
   */
  static bySourceHash(sockets: number): FilterProgram {
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
    return new FilterProgram([
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
    ]);
  }

  /** How many instructions it has. */
  get length(): number {
    return this.#bytes.length / sock_filter.size;
  }

  /** The instructions, as new objects; `k` from 0 to 2^32 - 1. */
  get instructions(): Required<FilterInstruction>[] {
    const view = new DataView(this.#bytes.buffer);
    return Array.from({ length: this.length }, (_, i) => {
      const at = i * sock_filter.size;
      return {
        code: sock_filter.code.get(view, at),
        jt: sock_filter.jt.get(view, at),
        jf: sock_filter.jf.get(view, at),
        k: sock_filter.k.get(view, at),
      };
    });
  }

  /** The text that `parse` reads, and `tcpdump -ddd` prints. */
  toString(): string {
    const lines = this.instructions.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}`);
    return [`${lines.length}`, ...lines].join("\n");
  }

  /** How console.log shows it. */
  [INSPECT](): string {
    if (!(#bytes in this)) return "FilterProgram";
    return `FilterProgram, ${this.length} instruction${this.length === 1 ? "" : "s"}`;
  }

  static {
    programBytes = (program) =>
      program instanceof Object && #bytes in program ? program.#bytes : undefined;
    programWords = (program) =>
      program instanceof Object && #bytes in program ? program.#words : undefined;
  }
}

// The socket whose place is a number of the packet, modulo the number of sockets.
function byNumber(which: number, sockets: number): FilterProgram {
  requireInteger(sockets, 1, GROUP_MAX, "the number of sockets");
  return new FilterProgram([
    { code: BPF_LD | BPF_W | BPF_ABS, k: SKF_AD_OFF + which },
    { code: BPF_ALU | BPF_MOD | BPF_K, k: sockets },
    { code: BPF_RET | BPF_A },
  ]);
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
