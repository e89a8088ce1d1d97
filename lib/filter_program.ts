import { loadModule } from "./internal/descriptor.ts";
import type * as Instructions from "./internal/filter_instructions.ts";

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
const INSTRUCTION_WORDS = 2;

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
    this.#bytes = load().encodeInstructions(instructions);
    this.#words = new Int32Array(this.#bytes.buffer);
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
    return new FilterProgram(load().parseInstructions(text));
  }

  /** Lets no packet through. */
  static get dropAll(): FilterProgram {
    FilterProgram.#dropAll ??= new FilterProgram(load().constantly("nothing"));
    return FilterProgram.#dropAll;
  }

  /** Lets every packet through, whole. */
  static get acceptAll(): FilterProgram {
    FilterProgram.#acceptAll ??= new FilterProgram(load().constantly("all"));
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
    return new FilterProgram(load().byNumber("cpu", sockets));
  }

  /**
   * For `attachReusePortProgram`: the same socket for all packets of one receive queue of the device,
   * the next one for the next queue. As the kernel numbers them: from 1 where the driver tells the
   * queue, else 0 for all, as on the loopback interface.
   *
   * @param sockets how many there are in the group, 1 to 65535
   */
  static byQueue(sockets: number): FilterProgram {
    return new FilterProgram(load().byNumber("queue", sockets));
  }

  /**
   * For `attachReusePortProgram`: the same socket for all packets of one sender, by its address and
   * port, over IPv4 and IPv6 (without extension headers). It stays so when sockets of the group are
   * replaced in their places, which the kernel's own choice does not promise.
   *
   * @param sockets how many there are in the group, 1 to 65535
   */
  static bySourceHash(sockets: number): FilterProgram {
    return new FilterProgram(load().bySourceHash(sockets));
  }

  /** How many instructions it has. */
  get length(): number {
    return this.#words.length / INSTRUCTION_WORDS;
  }

  /** The instructions, as new objects; `k` from 0 to 2^32 - 1. */
  get instructions(): Required<FilterInstruction>[] {
    return load().decodeInstructions(this.#bytes);
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

function load(): typeof Instructions {
  return loadModule(() => require("./internal/filter_instructions.ts"));
}
