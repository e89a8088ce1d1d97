import { ELIBACC } from "../../structs/constants/errno.ts";
import {
  BPF_ABS,
  BPF_ALU,
  BPF_AND,
  BPF_IND,
  BPF_JA,
  BPF_JEQ,
  BPF_JMP,
  BPF_K,
  BPF_LD,
  BPF_LDX,
  BPF_MAXINSNS,
  BPF_MSH,
  BPF_RET,
  BPF_W,
} from "../../structs/constants/linux_bpf_common.ts";
import {
  SKF_AD_OFF,
  SKF_AD_PKTTYPE,
  SKF_AD_PROTOCOL,
  SKF_AD_VLAN_TAG,
  SKF_AD_VLAN_TAG_PRESENT,
} from "../../structs/constants/linux_filter.ts";
import { sock_filter } from "../../structs/sock_filter.ts";
import { systemError } from "../error.ts";
import { openLibpcap, pcapCompile } from "../ffi/libpcap.ts";
import { byteLengthOf } from "../ffi/memory.ts";
import { FilterProgram, programWords } from "../filter_program.ts";
import {
  describe,
  requireBoolean,
  requireInteger,
  requireObject,
  requireOptions,
} from "../internal/arguments.ts";
import type { PacketType } from "../link_address.ts";
import { runProgram } from "./internal/bpf_machine.ts";
import { assemble, disassemble } from "./internal/bpf_text.ts";
import { findNames } from "./internal/filter_names.ts";
import { LinkType, type LinkTypeName, linkTypeNumber } from "./link_type.ts";

/** How the text of a filter becomes a program. */
export interface CompileOptions {
  /**
   * What the packets begin with: a name or number of `LinkType`. "cooked" is what a cooked packet
   * socket shows its filter: packets from the network header on, and the link-layer protocol and
   * the packet type beside them. Default "ethernet".
   */
  readonly linkType?: LinkTypeName | "cooked" | number | undefined;
  /** What the program returns for a packet that it lets through, in bytes. Default 262144. */
  readonly snapBytes?: number | undefined;
  /**
   * Lets through only packets whose VLAN tag the kernel or the device has taken out of them: with
   * this number (0 to 4095), or any (true). The text is then about the packet without the tag.
   */
  readonly vlan?: number | true | undefined;
  /**
   * Whether libpcap makes the program as short as it can. Its time for that grows faster than the text,
   * and the thread waits: a hundred hosts took 0.1 s, four hundred 7 s. Default true.
   */
  readonly optimize?: boolean | undefined;
}

/**
 * What is known of a packet beside its bytes, for `runFilter`. A `PacketBlock` that stands on a frame
 * is one (with the memory of its ring as the bytes), and so is a `Packet`.
 */
export interface FilterMetadata {
  /** Where the packet begins in the bytes. Default 0. */
  readonly offset?: number | undefined;
  /** How many bytes of it are there. Default all behind `offset`. */
  readonly length?: number | undefined;
  /** How long it was: what `#len` loads. Default `length`. */
  readonly originalLength?: number | undefined;
  /** The protocol, in host byte order. Default the EtherType in bytes 12 and 13. */
  readonly protocol?: number | undefined;
  /** Whom it was for. Default "host". */
  readonly packetType?: PacketType | undefined;
  /** The index of its interface. Without one a program that loads it, or the hardware, ends there. */
  readonly interfaceIndex?: number | undefined;
  /** The kind of hardware of its interface, an `ARPHRD_` constant. Default that of Ethernet. */
  readonly hardwareType?: number | undefined;
  /** The tag that was taken out of it: its TCI, 16 bits. Default none; -1 is none, too. */
  readonly vlan?: number | undefined;
  /** The protocol of that tag. Default `ETH_P_8021Q`. */
  readonly vlanProtocol?: number | undefined;
  /** The hash of its flow. Default 0. */
  readonly hash?: number | undefined;
  /** Its mark (SO_MARK). Default 0. */
  readonly mark?: number | undefined;
  /** The queue of the device. Default 0. */
  readonly queue?: number | undefined;
  /** The CPU that handles it. Default 0. */
  readonly cpu?: number | undefined;
  /** What the program gets as a random number. Default one of 32 bits. */
  readonly random?: number | undefined;
  /** Where its payload begins, which the kernel finds out. Default 0: not known. */
  readonly payloadOffset?: number | undefined;
  /** Where its link-layer header begins, for loads at `SKF_LL_OFF`; NaN: it has none. Default 0. */
  readonly linkOffset?: number | undefined;
  /** Where its network header begins, for loads at `SKF_NET_OFF`. Default 14. */
  readonly networkOffset?: number | undefined;
}

// An instruction that is not in a program yet.
interface Instruction {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

/** libpcap takes a time for long filters that grows faster than they do: the thread waits for it. */
const TEXT_BYTES_MAX = 16384;
const SOURCE_LENGTH_MAX = 1 << 20;
const SNAP_BYTES_MAX = 0x7fff_ffff;
const VLAN_MAX = 0xfff;
// DLT_RAW: the one of the link types that libpcap numbers otherwise than capture files do.
const DLT_RAW = 12;
// struct sll_header of libpcap's pcap/sll.h: the packet type is first, the protocol last.
const SLL_BYTES = 16;
const SLL_PACKET_TYPE = 0;
const SLL_PROTOCOL = 14;

/**
 * A text that is no filter: one that libpcap, or the assembler, could not make a program of.
 *
 * @example What libpcap says
 * ```ts
 * import { compileFilter, FilterError } from "bun-sockets/packet";
 *
 * try {
 *   compileFilter("udp prot 53");
 * } catch (error) {
 *   if (!(error instanceof FilterError)) throw error;
 *   console.log(error.message); // Cannot use the name "prot" in a filter: it is not that of a service or protocol
 * }
 * ```
 */
export class FilterError extends Error {
  override name = "FilterError";
  /** The line in the text, from 1, where it is known. */
  readonly line: number | undefined;
  /** The column in that line, from 1 and in UTF-16 units, where it is known. */
  readonly column: number | undefined;
  /** What the caller can do about it, where we know. */
  declare readonly hint?: string;

  /** Made by the functions of this entry. */
  constructor(
    message: string,
    details: {
      readonly line?: number | undefined;
      readonly column?: number | undefined;
      readonly hint?: string | undefined;
    } = {},
  ) {
    super(message);
    const { line, column, hint } = details;
    // The engine has put the line of the code there.
    this.line = line;
    this.column = column;
    if (hint !== undefined) this.hint = hint;
  }
}

/**
 * Makes a program of the text of a filter, in the language of pcap-filter(7): "udp port 53". libpcap
 * does it, which is opened at the first call; the instructions are those of `tcpdump -ddd`. It may take
 * seconds for hundreds of alternatives.
 *
 * Names of hosts and networks are refused, because libpcap would ask DNS for them: write addresses.
 * Names of services and protocols ("port domain") are looked up in the tables of this machine.
 *
 * The word `vlan` in the text finds tags in the bytes of a packet. On a socket it finds none: the
 * kernel takes the tag out of what is received, and tells it beside the packet. The option `vlan`
 * looks there; then the word stands for a tag behind that one. What this machine sends may still have
 * its tag in the bytes.
 *
 * libpcap does not know here what an interface has: "ip broadcast" needs its netmask, and is refused.
 * For the link type "null" it takes IPv6 to be what Linux calls it, not what BSD systems do.
 *
 * @param text at most 16384 bytes; an empty one lets everything through
 * @throws {FilterError} libpcap cannot make a program of it, with its own message; it has names of
 * hosts, or a NUL; or the kernel would not take the program (`protochain` needs a loop)
 * @throws {SystemError} `ELIBACC` there is no libpcap; `hint` names the package that has it
 * @throws {TypeError} or RangeError: an option is wrong
 * @see {@link https://man7.org/linux/man-pages/man7/pcap-filter.7.html | pcap-filter(7)}
 *
 * @example A program of four instructions
 * ```ts
 * import { compileFilter, disassembleFilter } from "bun-sockets/packet";
 *
 * console.log(disassembleFilter(compileFilter("arp")));
 * // (000) ldh      [12]
 * // (001) jeq      #0x806           jt 2	jf 3
 * // (002) ret      #262144
 * // (003) ret      #0
 * ```
 */
export function compileFilter(text: string, options: CompileOptions = {}): FilterProgram {
  if (typeof text !== "string")
    throw new TypeError(`Cannot compile ${describe(text)} as a filter: expected text`);
  const {
    linkType = "ethernet",
    snapBytes = 262144,
    vlan,
    optimize = true,
  } = requireOptions(options);
  requireInteger(snapBytes, 1, SNAP_BYTES_MAX, "snapBytes");
  if (vlan !== undefined && vlan !== true) requireInteger(vlan, 0, VLAN_MAX, "vlan");
  requireBoolean(optimize, "optimize");
  const isCooked = linkType === "cooked";
  const number = isCooked ? LinkType.linux_sll : linkTypeNumber(linkType);
  const source = toSource(text);
  refuseNames(text);
  load();
  const dlt = number === LinkType.raw ? DLT_RAW : number;
  const compiled = pcapCompile(dlt, snapBytes, source, optimize);
  if ("complaint" in compiled)
    throw new FilterError(`Cannot compile ${quoted(text)} as a filter: ${compiled.complaint}`);
  const instructions = decoded(compiled.bytes);
  if (isCooked) for (const instruction of instructions) cook(instruction, text);
  if (vlan !== undefined) instructions.unshift(...withTag(vlan));
  requireKernel(instructions, text);
  return new FilterProgram(instructions);
}

/**
 * Makes a program of its instructions as text, one a line: what `disassembleFilter` and `tcpdump -d`
 * print, and what bpf_asm(1) of the kernel's tools reads. Jumps name a label, or the number of an
 * instruction; `;` begins a comment.
 *
 * @throws {FilterError} an instruction is wrong; `line` and `column` say where
 * @see {@link https://docs.kernel.org/networking/filter.html | Linux socket filtering}
 *
 * @example Packets of one VLAN
 * ```ts
 * import { assembleFilter, runFilter } from "bun-sockets/packet";
 *
 * const program = assembleFilter(`
 *         ld #vlan_pr          ; has a tag been taken out?
 *         jeq #0, drop
 *         ld #vlan_tci
 *         and #0xfff
 *         jne #5, drop
 *         ret #0xffff
 *   drop: ret #0
 * `);
 * const frame = new Uint8Array(60);
 * console.log(runFilter(program, frame, { vlan: 5 }), runFilter(program, frame)); // 65535 0
 * ```
 */
export function assembleFilter(text: string): FilterProgram {
  if (typeof text !== "string")
    throw new TypeError(`Cannot assemble ${describe(text)}: expected text`);
  // Room for 4096 instructions with much said about each.
  requireInteger(text.length, 0, SOURCE_LENGTH_MAX, "the length of the text of a program");
  return new FilterProgram(
    assemble(text, (what, line, column) => {
      const message = `Cannot assemble line ${line}, column ${column}: ${what}`;
      return new FilterError(message, { line, column });
    }),
  );
}

/**
 * Prints the instructions of a program as `tcpdump -d` does, one a line. `assembleFilter` makes the
 * same program of it, but for constants that no instruction looks at, which are not printed.
 *
 * @throws {TypeError} it is no FilterProgram
 */
export function disassembleFilter(program: FilterProgram): string {
  const words = programWords(program);
  if (!words)
    throw new TypeError(`Cannot disassemble ${describe(program)}: expected a FilterProgram`);
  return disassemble(words);
}

/**
 * Runs a program over the bytes of a packet, without a socket and without any right, as the kernel
 * would. Allocates nothing.
 *
 * @param bytes the packet, from where the program expects it to begin
 * @param metadata what the kernel knows of it beside; or the `PacketBlock` that stands on it, and
 * then `bytes` is the whole memory of its ring
 * @returns what the program returns, 0 to 2^32 - 1: how many bytes of the packet it lets through
 * (more than there are: all), 0 for none
 * @throws {TypeError} it is no FilterProgram, or there are no bytes
 * @throws {RangeError} `offset` and `length` are not inside of the bytes
 *
 * @example
 * ```ts
 * import { compileFilter, runFilter } from "bun-sockets/packet";
 *
 * const program = compileFilter("ether[0] & 1 = 1"); // to a group of stations
 * const frame = new Uint8Array(60).fill(0xff, 0, 6);
 * console.log(runFilter(program, frame) > 0); // true
 * ```
 */
export function runFilter(
  program: FilterProgram,
  bytes: Uint8Array,
  metadata?: FilterMetadata,
): number {
  const words = programWords(program);
  if (!words) throw new TypeError(`Cannot run ${describe(program)}: expected a FilterProgram`);
  if (!(bytes instanceof Uint8Array))
    throw new TypeError(`Cannot run a filter over ${describe(bytes)}: expected a Uint8Array`);
  const size = byteLengthOf(bytes);
  if (metadata === undefined) return runProgram(words, bytes, 0, size, metadata);
  const { offset = 0, length = size - offset } = requireObject(metadata);
  if (!Number.isInteger(offset) || !Number.isInteger(length)) {
    requireInteger(offset, 0, size, "the offset of a packet");
    requireInteger(length, 0, size, "the length of a packet");
  }
  if (offset < 0 || length < 0 || offset + length > size) {
    throw new RangeError(
      `Cannot run a filter over ${length} bytes at ${offset}: there are ${size} bytes`,
    );
  }
  return runProgram(words, bytes, offset, length, metadata);
}

/**
 * Makes a program of the text of a filter for a socket.
 *
 * @internal
 */
export function liveFilter(
  text: string,
  linkType: LinkTypeName | "cooked" | number,
): FilterProgram {
  if (findNames(text).usesVlan) {
    throw new FilterError(
      `Cannot use ${quoted(text)} as the filter of a socket: the kernel takes the tag out of a packet, and vlan would not find it`,
      {
        hint: 'The option vlan of compileFilter looks where the tag is: compileFilter("udp port 53", { vlan: 5 })',
      },
    );
  }
  return compileFilter(text, { linkType });
}

// The text as libpcap reads it.
function toSource(text: string): Uint8Array<ArrayBuffer> {
  const nul = text.indexOf("\0");
  if (nul >= 0) {
    throw new FilterError(`Cannot compile a filter with a NUL in it, at ${nul}`, {
      line: 1,
      column: nul + 1,
    });
  }
  const byteLength = Buffer.byteLength(text);
  if (byteLength > TEXT_BYTES_MAX) {
    throw new FilterError(
      `Cannot compile a filter of ${byteLength} bytes: expected at most ${TEXT_BYTES_MAX}`,
    );
  }
  return new Uint8Array(Buffer.from(`${text}\0`));
}

function refuseNames(text: string): void {
  const { refused } = findNames(text);
  if (!refused) return;
  const { name, at } = refused;
  const before = text.slice(0, at).split("\n");
  throw new FilterError(
    `Cannot use the name ${quoted(name)} in a filter: it is not that of a service or protocol`,
    {
      line: before.length,
      column: (before.at(-1) as string).length + 1,
      hint: "libpcap would ask DNS, or files, for a host or network of that name: write its address",
    },
  );
}

function load(): void {
  try {
    openLibpcap();
  } catch (error) {
    const failure = systemError(ELIBACC, "dlopen", {
      hint: "apt-get install libpcap0.8 brings libpcap.so.0.8; FilterProgram and assembleFilter need no library",
    });
    failure.cause = error;
    throw failure;
  }
}

function decoded(bytes: Uint8Array<ArrayBuffer>): Instruction[] {
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

// Makes a load that expects a Linux cooked header one of a packet without, as libpcap does for its
// own sockets.
function cook(instruction: Instruction, text: string): void {
  const { code, k } = instruction;
  const kind = code & 0x07;
  const mode = code & 0xe0;
  if (kind !== BPF_LD && kind !== BPF_LDX) return;
  if (mode !== BPF_ABS && mode !== BPF_IND && mode !== BPF_MSH) return;
  if (k > SNAP_BYTES_MAX) return;
  if (k >= SLL_BYTES) instruction.k = k - SLL_BYTES;
  else if (mode === BPF_ABS && k === SLL_PACKET_TYPE)
    instruction.k = (SKF_AD_OFF + SKF_AD_PKTTYPE) >>> 0;
  else if (mode === BPF_ABS && k === SLL_PROTOCOL)
    instruction.k = (SKF_AD_OFF + SKF_AD_PROTOCOL) >>> 0;
  else {
    throw new FilterError(
      `Cannot compile ${quoted(text)} for a cooked socket: it reads the link-layer header`,
    );
  }
}

// In front of the program: what ends it for packets without the tag. It returns by itself, because
// a conditional jump reaches no further than 255 instructions.
function withTag(vlan: number | true): Instruction[] {
  const load = (which: number) => make(BPF_LD | BPF_W | BPF_ABS, (SKF_AD_OFF + which) >>> 0);
  const drop = make(BPF_RET | BPF_K, 0);
  const isEqual = BPF_JMP | BPF_JEQ | BPF_K;
  if (vlan === true) return [load(SKF_AD_VLAN_TAG_PRESENT), make(isEqual, 0, 0, 1), drop];
  return [
    load(SKF_AD_VLAN_TAG_PRESENT),
    make(isEqual, 0, 3, 0),
    load(SKF_AD_VLAN_TAG),
    make(BPF_ALU | BPF_AND | BPF_K, VLAN_MAX),
    make(isEqual, vlan, 1, 0),
    drop,
  ];
}

function make(code: number, k: number, jt = 0, jf = 0): Instruction {
  return { code, jt, jf, k };
}

// What libpcap makes for its own machine, and the kernel does not take.
function requireKernel(instructions: readonly Instruction[], text: string): void {
  if (instructions.length > BPF_MAXINSNS) {
    throw new FilterError(
      `Cannot compile ${quoted(text)} as a filter: it has ${instructions.length} instructions, and the kernel takes ${BPF_MAXINSNS}`,
    );
  }
  if (instructions.some(({ code, k }) => code === (BPF_JMP | BPF_JA) && k > SNAP_BYTES_MAX)) {
    throw new FilterError(
      `Cannot compile ${quoted(text)} as a filter: it has a loop, which the kernel does not take`,
      { hint: "protochain follows any number of headers: proto looks at the first" },
    );
  }
}

// As much of a text as fits into a message.
function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}
