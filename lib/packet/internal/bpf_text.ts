/**
 * The text of classic BPF programs: what `tcpdump -d` prints, and what bpf_asm of the kernel's tools
 * reads.
 *
 * @module
 */
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
} from "../../../structs/constants/linux_bpf_common.ts";
import {
  BPF_A,
  BPF_MEMWORDS,
  BPF_TAX,
  BPF_TXA,
  SKF_AD_ALU_XOR_X,
  SKF_AD_CPU,
  SKF_AD_HATYPE,
  SKF_AD_IFINDEX,
  SKF_AD_MARK,
  SKF_AD_NLATTR,
  SKF_AD_NLATTR_NEST,
  SKF_AD_OFF,
  SKF_AD_PAY_OFFSET,
  SKF_AD_PKTTYPE,
  SKF_AD_PROTOCOL,
  SKF_AD_QUEUE,
  SKF_AD_RANDOM,
  SKF_AD_RXHASH,
  SKF_AD_VLAN_TAG,
  SKF_AD_VLAN_TAG_PRESENT,
  SKF_AD_VLAN_TPID,
} from "../../../structs/constants/linux_filter.ts";
import type { FilterInstruction } from "../../filter_program.ts";

/** What makes an error of the assembler: what is wrong, and where, from 1. */
export type Fail = (what: string, line: number, column: number) => Error;

const INT_MIN = -(2 ** 31);
const UINT_MAX = 2 ** 32 - 1;
const JUMP_MAX = 255;

// The names as tcpdump prints them; behind them what bpf_asm calls them otherwise.
const ANCILLARY: readonly (readonly [offset: number, ...names: [string, ...string[]]])[] = [
  [SKF_AD_PROTOCOL, "proto"],
  [SKF_AD_PKTTYPE, "type", "pkttype"],
  [SKF_AD_IFINDEX, "ifidx"],
  [SKF_AD_NLATTR, "nla"],
  [SKF_AD_NLATTR_NEST, "nlan"],
  [SKF_AD_MARK, "mark"],
  [SKF_AD_QUEUE, "queue"],
  [SKF_AD_HATYPE, "hatype"],
  [SKF_AD_RXHASH, "rxhash"],
  [SKF_AD_CPU, "cpu"],
  [SKF_AD_ALU_XOR_X, "xor_x"],
  [SKF_AD_VLAN_TAG, "vlan_tci"],
  [SKF_AD_VLAN_TAG_PRESENT, "vlanp", "vlan_avail", "vlan_pr"],
  [SKF_AD_PAY_OFFSET, "poff"],
  [SKF_AD_RANDOM, "random", "rand"],
  [SKF_AD_VLAN_TPID, "vlan_tpid"],
];
const ANCILLARY_NAMES = new Map(ANCILLARY.map(([offset, name]) => [SKF_AD_OFF + offset, name]));
const ANCILLARY_OFFSETS = new Map(
  ANCILLARY.flatMap(([offset, ...names]) =>
    names.map((name) => [name, SKF_AD_OFF + offset] as const),
  ),
);

const ALU: readonly (readonly [name: string, operation: number])[] = [
  ["add", BPF_ADD],
  ["sub", BPF_SUB],
  ["mul", BPF_MUL],
  ["div", BPF_DIV],
  ["mod", BPF_MOD],
  ["and", BPF_AND],
  ["or", BPF_OR],
  ["xor", BPF_XOR],
  ["lsh", BPF_LSH],
  ["rsh", BPF_RSH],
];
const JUMPS: readonly (readonly [name: string, condition: number])[] = [
  ["jeq", BPF_JEQ],
  ["jgt", BPF_JGT],
  ["jge", BPF_JGE],
  ["jset", BPF_JSET],
];

// How the operand of each instruction is written.
type Form =
  | "none"
  | "decimal"
  | "hexadecimal"
  | "x"
  | "absolute"
  | "indirect"
  | "memory"
  | "header"
  | "length"
  | "jump";

const PRINTED = new Map<number, readonly [name: string, form: Form]>([
  [BPF_LD | BPF_W | BPF_ABS, ["ld", "absolute"]],
  [BPF_LD | BPF_H | BPF_ABS, ["ldh", "absolute"]],
  [BPF_LD | BPF_B | BPF_ABS, ["ldb", "absolute"]],
  [BPF_LD | BPF_W | BPF_IND, ["ld", "indirect"]],
  [BPF_LD | BPF_H | BPF_IND, ["ldh", "indirect"]],
  [BPF_LD | BPF_B | BPF_IND, ["ldb", "indirect"]],
  [BPF_LD | BPF_IMM, ["ld", "hexadecimal"]],
  [BPF_LD | BPF_MEM, ["ld", "memory"]],
  [BPF_LD | BPF_W | BPF_LEN, ["ld", "length"]],
  [BPF_LDX | BPF_IMM, ["ldx", "hexadecimal"]],
  [BPF_LDX | BPF_MEM, ["ldx", "memory"]],
  [BPF_LDX | BPF_W | BPF_LEN, ["ldx", "length"]],
  [BPF_LDX | BPF_B | BPF_MSH, ["ldxb", "header"]],
  [BPF_ST, ["st", "memory"]],
  [BPF_STX, ["stx", "memory"]],
  [BPF_JMP | BPF_JA, ["ja", "jump"]],
  ...JUMPS.flatMap(([name, condition]) => [
    [BPF_JMP | condition | BPF_K, [name, "hexadecimal"]] as const,
    [BPF_JMP | condition | BPF_X, [name, "x"]] as const,
  ]),
  ...ALU.flatMap(([name, operation]) => {
    const isMask = operation === BPF_AND || operation === BPF_OR || operation === BPF_XOR;
    return [
      [BPF_ALU | operation | BPF_K, [name, isMask ? "hexadecimal" : "decimal"]] as const,
      [BPF_ALU | operation | BPF_X, [name, "x"]] as const,
    ];
  }),
  [BPF_ALU | BPF_NEG, ["neg", "none"]],
  [BPF_MISC | BPF_TAX, ["tax", "none"]],
  [BPF_MISC | BPF_TXA, ["txa", "none"]],
  [BPF_RET | BPF_K, ["ret", "decimal"]],
  [BPF_RET | BPF_A, ["ret", "none"]],
]);

/** The lines that `tcpdump -d` prints for a program, which is given as words: two an instruction. */
export function disassemble(words: Int32Array): string {
  const lines: string[] = [];
  for (let i = 0; i < words.length; i += 2)
    lines.push(printed(i / 2, words[i] as number, words[i + 1] as number));
  return lines.join("\n");
}

// The first word has code, jt and jf.
function printed(at: number, first: number, k: number): string {
  const code = first & 0xffff;
  // Every code that a FilterProgram takes is among them.
  const [name, form] = PRINTED.get(code) as readonly [string, Form];
  const number = `(${`${at}`.padStart(3, "0")}) ${name.padEnd(8)} `;
  const operand = operandText(form, k, at);
  if (form === "jump" || code % 8 !== BPF_JMP) return number + operand;
  const jt = (first >>> 16) & 0xff;
  const jf = first >>> 24;
  return `${number}${operand.padEnd(16)} jt ${at + 1 + jt}\tjf ${at + 1 + jf}`;
}

function operandText(form: Form, k: number, at: number): string {
  switch (form) {
    case "none":
      return "";
    case "decimal":
      return `#${k}`;
    case "hexadecimal":
      return `#0x${(k >>> 0).toString(16)}`;
    case "x":
      return "x";
    case "absolute":
      return `[${ANCILLARY_NAMES.get(k) ?? k}]`;
    case "indirect":
      return `[x + ${k}]`;
    case "memory":
      return `M[${k}]`;
    case "header":
      return `4*([${k}]&0xf)`;
    case "length":
      return "#pktlen";
    case "jump":
      return `${at + 1 + k}`;
  }
}

// What the assembler makes of an operand.
type Operand =
  | { readonly form: "absolute" | "indirect" | "memory" | "header" | "constant"; k: number }
  | { readonly form: "length" | "x" | "a" };

// Where a jump goes: to a label, or to a number as tcpdump writes it.
interface Target {
  readonly to: string | number;
  readonly column: number;
}

// An instruction whose jumps are not known yet.
interface Draft {
  readonly code: number;
  readonly k: number;
  readonly line: number;
  readonly column: number;
  readonly yes?: Target;
  readonly no?: Target;
  readonly always?: Target;
}

const SIZES = new Map([
  ["ld", BPF_W],
  ["ldh", BPF_H],
  ["ldb", BPF_B],
]);
const ALU_NAMES = new Map(ALU);
// What the condition is, and whether both ways are swapped.
const JUMP_NAMES = new Map<string, readonly [condition: number, isSwapped: boolean]>([
  ...JUMPS.map(([name, condition]) => [name, [condition, false]] as const),
  ["jne", [BPF_JEQ, true]],
  ["jneq", [BPF_JEQ, true]],
  ["jle", [BPF_JGT, true]],
  ["jlt", [BPF_JGE, true]],
]);

const SPACES = /[ \t\r\v\f]*/y;
const NUMBERING = /\((\d{1,9})\)/y;
const NAME = /[A-Za-z_][A-Za-z0-9_]*/y;
const NUMBER = /[+-]?(?:0[xX][0-9A-Fa-f]+|0[bB][01]+|[0-9]+)(?![A-Za-z0-9_])/y;
const REGISTER_X = /%?[xX](?![A-Za-z0-9_])/y;
const REGISTER_A = /%?[aA](?![A-Za-z0-9_])/y;
const MEMORY = /[mM](?=[ \t]*\[)/y;
// In a message: as much of what stands there as helps.
const SHOWN = /[^ \t\r,]{1,20}|./uy;

/**
 * Reads the text of a program.
 *
 * @param fail makes the error that is thrown
 */
export function assemble(text: string, fail: Fail): FilterInstruction[] {
  const drafts: Draft[] = [];
  const labels = new Map<string, number>();
  const lines = withoutComments(text, fail).split("\n");
  for (const [i, line] of lines.entries()) {
    const scanner = new Scanner(line, i + 1, fail);
    readLine(scanner, labels, drafts);
  }
  const final = drafts.at(-1);
  if (!final) throw fail("expected an instruction", lines.length, 1);
  // A jump that is last goes behind the end, which is what is said of it.
  if (![BPF_RET, BPF_JMP].includes(final.code % 8))
    throw fail("the last instruction has to return", final.line, final.column);
  return drafts.map((draft, at) => linked(draft, at, drafts.length, labels, fail));
}

// Puts spaces in the place of comments, so that everything else stays where it was.
function withoutComments(text: string, fail: Fail): string {
  return text.replace(/\/\*[\s\S]*?(?:\*\/|$)|;[^\n]*/g, (comment, at: number) => {
    if (comment.startsWith("/*") && (comment.length < 4 || !comment.endsWith("*/"))) {
      const before = text.slice(0, at).split("\n");
      throw fail("the comment has no end", before.length, (before.at(-1) as string).length + 1);
    }
    return comment.replace(/[^\n]/g, " ");
  });
}

// A line of the text and how far it was read.
class Scanner {
  readonly #fail: Fail;
  readonly #text: string;
  readonly line: number;
  #at = 0;

  constructor(text: string, line: number, fail: Fail) {
    this.#text = text;
    this.line = line;
    this.#fail = fail;
    this.#skip();
  }

  get column(): number {
    return this.#at + 1;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#text.length;
  }

  /** Reads what the pattern matches here, and the spaces behind it. */
  take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (!match) return undefined;
    this.#at = pattern.lastIndex;
    this.#skip();
    return match;
  }

  takeText(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    this.#skip();
    return true;
  }

  expectText(text: string): void {
    if (!this.takeText(text)) throw this.unexpected(JSON.stringify(text));
  }

  number(minimum: number = INT_MIN, maximum: number = UINT_MAX): number {
    const { column } = this;
    const match = this.take(NUMBER);
    if (!match) throw this.unexpected("a number");
    const value = numberOf(match[0]);
    if (value >= minimum && value <= maximum) return value;
    throw this.error(`${match[0]} is not from ${minimum} to ${maximum}`, column);
  }

  error(what: string, column: number): Error {
    return this.#fail(what, this.line, column);
  }

  unexpected(expected: string): Error {
    SHOWN.lastIndex = this.#at;
    const [found] = SHOWN.exec(this.#text) ?? [];
    const what = found === undefined ? "the end of the line" : JSON.stringify(found);
    return this.error(`expected ${expected} instead of ${what}`, this.column);
  }

  #skip(): void {
    SPACES.lastIndex = this.#at;
    SPACES.test(this.#text);
    this.#at = SPACES.lastIndex;
  }
}

// A leading 0 is octal, as in C.
function numberOf(text: string): number {
  const [, sign, digits = ""] = /^([+-]?)(.*)$/.exec(text) ?? [];
  const value = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return sign === "-" ? -value : value;
}

function readLine(scanner: Scanner, labels: Map<string, number>, drafts: Draft[]): void {
  readPlaces(scanner, labels, drafts.length);
  if (scanner.isAtEnd) return;
  const { column } = scanner;
  const [name] = scanner.take(NAME) ?? [];
  if (name === undefined) throw scanner.unexpected("an instruction");
  const draft = readInstruction(scanner, name.toLowerCase());
  if (!draft) throw scanner.error(`${JSON.stringify(name)} is no instruction`, column);
  if (!scanner.isAtEnd) throw scanner.unexpected("the end of the line");
  if (drafts.length === BPF_MAXINSNS)
    throw scanner.error(`more than ${BPF_MAXINSNS} instructions`, column);
  drafts.push({ ...draft, line: scanner.line, column });
}

// Numbers and labels in front of an instruction.
function readPlaces(scanner: Scanner, labels: Map<string, number>, at: number): void {
  for (;;) {
    const { column } = scanner;
    const numbering = scanner.take(NUMBERING);
    if (numbering) {
      if (Number(numbering[1]) === at) continue;
      throw scanner.error(`this is instruction ${at}, not ${numbering[1]}`, column);
    }
    const label = scanner.take(/[A-Za-z_][A-Za-z0-9_]*(?=[ \t]*:)/y)?.[0];
    if (label === undefined) return;
    scanner.expectText(":");
    if (labels.has(label)) throw scanner.error(`the label ${label} stands twice`, column);
    labels.set(label, at);
  }
}

function readInstruction(scanner: Scanner, name: string): Unplaced | undefined {
  const size = SIZES.get(name);
  if (size !== undefined) return readLoad(scanner, size);
  const operation = ALU_NAMES.get(name);
  if (operation !== undefined) return readAlu(scanner, operation);
  const jump = JUMP_NAMES.get(name);
  if (jump) return readJump(scanner, ...jump);
  switch (name) {
    case "ldi":
      return { code: BPF_LD | BPF_IMM, k: readConstant(scanner) };
    case "ldxi":
      return { code: BPF_LDX | BPF_IMM, k: readConstant(scanner) };
    case "ldx":
    case "ldxb":
      return readLoadX(scanner, name === "ldxb");
    case "st":
    case "stx":
      return readStore(scanner, name === "st" ? BPF_ST : BPF_STX);
    case "ja":
    case "jmp":
      return { code: BPF_JMP | BPF_JA, k: 0, always: readTarget(scanner) };
    case "neg":
      return { code: BPF_ALU | BPF_NEG, k: 0 };
    case "tax":
      return { code: BPF_MISC | BPF_TAX, k: 0 };
    case "txa":
      return { code: BPF_MISC | BPF_TXA, k: 0 };
    case "ret":
      return readReturn(scanner);
  }
  return undefined;
}

type Unplaced = Omit<Draft, "line" | "column">;

function readLoad(scanner: Scanner, size: number): Unplaced {
  const refuse = unfit(scanner, "what is loaded");
  const operand = readOperand(scanner);
  if (operand.form === "absolute") return { code: BPF_LD | size | BPF_ABS, k: operand.k };
  if (operand.form === "indirect") return { code: BPF_LD | size | BPF_IND, k: operand.k };
  // The rest is words.
  if (size !== BPF_W) throw refuse();
  if (operand.form === "memory") return { code: BPF_LD | BPF_MEM, k: operand.k };
  if (operand.form === "constant") return { code: BPF_LD | BPF_IMM, k: operand.k };
  if (operand.form === "length") return { code: BPF_LD | BPF_W | BPF_LEN, k: 0 };
  throw refuse();
}

function readLoadX(scanner: Scanner, isByte: boolean): Unplaced {
  const refuse = unfit(scanner, "what is loaded");
  const operand = readOperand(scanner);
  if (operand.form === "header") return { code: BPF_LDX | BPF_B | BPF_MSH, k: operand.k };
  if (isByte) throw refuse();
  if (operand.form === "memory") return { code: BPF_LDX | BPF_MEM, k: operand.k };
  if (operand.form === "constant") return { code: BPF_LDX | BPF_IMM, k: operand.k };
  if (operand.form === "length") return { code: BPF_LDX | BPF_W | BPF_LEN, k: 0 };
  throw refuse();
}

function readStore(scanner: Scanner, code: number): Unplaced {
  const refuse = unfit(scanner, "a word of memory");
  const operand = readOperand(scanner);
  if (operand.form !== "memory") throw refuse();
  return { code, k: operand.k };
}

function readAlu(scanner: Scanner, operation: number): Unplaced {
  const { column } = scanner;
  const operand = readConstantOrX(scanner);
  if (operand === "x") return { code: BPF_ALU | operation | BPF_X, k: 0 };
  if ((operation === BPF_DIV || operation === BPF_MOD) && operand === 0)
    throw scanner.error("it divides by 0", column);
  if ((operation === BPF_LSH || operation === BPF_RSH) && operand >>> 0 > 31)
    throw scanner.error("it shifts by more than 31 bits", column);
  return { code: BPF_ALU | operation | BPF_K, k: operand };
}

function readReturn(scanner: Scanner): Unplaced {
  if (scanner.isAtEnd) return { code: BPF_RET | BPF_A, k: 0 };
  const refuse = unfit(scanner, "a constant or a");
  const operand = readOperand(scanner);
  if (operand.form === "a") return { code: BPF_RET | BPF_A, k: 0 };
  if (operand.form === "constant") return { code: BPF_RET | BPF_K, k: operand.k };
  throw refuse();
}

function readJump(scanner: Scanner, condition: number, isSwapped: boolean): Unplaced {
  const operand = readConstantOrX(scanner);
  const code = BPF_JMP | condition | (operand === "x" ? BPF_X : BPF_K);
  const k = operand === "x" ? 0 : operand;
  let met: Target;
  let unmet: Target | undefined;
  if (scanner.take(/jt\b/y)) {
    met = readTarget(scanner);
    scanner.takeText(",");
    if (!scanner.take(/jf\b/y)) throw scanner.unexpected('"jf"');
    unmet = readTarget(scanner);
  } else {
    scanner.expectText(",");
    met = readTarget(scanner);
    if (scanner.takeText(",")) unmet = readTarget(scanner);
  }
  const [yes, no] = isSwapped ? [unmet, met] : [met, unmet];
  return { code, k, ...(yes && { yes }), ...(no && { no }) };
}

function readTarget(scanner: Scanner): Target {
  const { column } = scanner;
  const label = scanner.take(NAME)?.[0];
  if (label !== undefined) return { to: label, column };
  const number = scanner.take(NUMBER)?.[0];
  if (number === undefined) throw scanner.unexpected("a label");
  return { to: numberOf(number), column };
}

function readConstantOrX(scanner: Scanner): number | "x" {
  if (scanner.take(REGISTER_X)) return "x";
  return readConstant(scanner);
}

function readConstant(scanner: Scanner): number {
  scanner.takeText("#");
  return scanner.number();
}

function unfit(scanner: Scanner, expected: string): () => Error {
  const { column } = scanner;
  return () => scanner.error(`it takes no such operand: expected ${expected}`, column);
}

function readOperand(scanner: Scanner): Operand {
  if (scanner.takeText("[")) return readPlace(scanner);
  if (scanner.takeText("#")) return readNamed(scanner) ?? constantOf(scanner);
  if (scanner.take(MEMORY)) {
    scanner.expectText("[");
    const k = scanner.number(0, BPF_MEMWORDS - 1);
    scanner.expectText("]");
    return { form: "memory", k };
  }
  if (scanner.take(REGISTER_X)) return { form: "x" };
  if (scanner.take(REGISTER_A)) return { form: "a" };
  if (scanner.take(/4[ \t]*\*/y)) return readHeader(scanner);
  const named = readNamed(scanner);
  if (named) return named;
  if (scanner.isAtEnd) throw scanner.unexpected("an operand");
  return constantOf(scanner);
}

function constantOf(scanner: Scanner): Operand {
  return { form: "constant", k: scanner.number() };
}

// Behind "[".
function readPlace(scanner: Scanner): Operand {
  let operand: Operand;
  if (scanner.take(REGISTER_X)) {
    let sign = 1;
    if (scanner.takeText("-")) sign = -1;
    else scanner.expectText("+");
    operand = {
      form: "indirect",
      k: sign * scanner.number(INT_MIN, sign > 0 ? UINT_MAX : 2 ** 31),
    };
  } else operand = readAncillary(scanner) ?? { form: "absolute", k: scanner.number() };
  scanner.expectText("]");
  return operand;
}

// Behind "4*".
function readHeader(scanner: Scanner): Operand {
  scanner.expectText("(");
  scanner.expectText("[");
  const k = scanner.number();
  scanner.expectText("]");
  scanner.expectText("&");
  const { column } = scanner;
  if (scanner.number() !== 0xf) throw scanner.error("expected 0xf", column);
  scanner.expectText(")");
  return { form: "header", k };
}

function readNamed(scanner: Scanner): Operand | undefined {
  if (scanner.take(/(?:pkt)?len(?![A-Za-z0-9_])/y)) return { form: "length" };
  return readAncillary(scanner);
}

function readAncillary(scanner: Scanner): Operand | undefined {
  const { column } = scanner;
  const name = scanner.take(NAME)?.[0];
  if (name === undefined) return undefined;
  const k = ANCILLARY_OFFSETS.get(name);
  if (k === undefined) throw scanner.error(`${JSON.stringify(name)} is no operand`, column);
  return { form: "absolute", k };
}

function linked(
  { code, k, line, always, yes, no }: Draft,
  at: number,
  length: number,
  labels: ReadonlyMap<string, number>,
  fail: Fail,
): FilterInstruction {
  const distance = (target: Target | undefined, most: number): number => {
    if (!target) return 0;
    const { to, column } = target;
    const place = typeof to === "number" ? to : labels.get(to);
    if (place === undefined) throw fail(`there is no label ${to}`, line, column);
    if (place <= at) throw fail(`it jumps back, from ${at} to ${place}`, line, column);
    if (place >= length) throw fail("it jumps behind the end", line, column);
    const far = place - at - 1;
    if (far <= most) return far;
    throw fail(`it passes over ${far} instructions, more than ${most}`, line, column);
  };
  if (always) return { code, k: distance(always, BPF_MAXINSNS) };
  return { code, k, jt: distance(yes, JUMP_MAX), jf: distance(no, JUMP_MAX) };
}
