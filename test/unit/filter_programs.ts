/** Programs of classic BPF that the kernel takes, made at random. */
import { type FilterInstruction, FilterProgram } from "bun-sockets";
import {
  BPF_A,
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
  BPF_MEM,
  BPF_MEMWORDS,
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
  BPF_TAX,
  BPF_TXA,
  BPF_W,
  BPF_X,
  BPF_XOR,
  SKF_AD_ALU_XOR_X,
  SKF_AD_MARK,
  SKF_AD_NLATTR,
  SKF_AD_NLATTR_NEST,
  SKF_AD_OFF,
  SKF_AD_PKTTYPE,
  SKF_AD_PROTOCOL,
  SKF_AD_QUEUE,
  SKF_AD_RXHASH,
  SKF_AD_VLAN_TAG,
  SKF_AD_VLAN_TAG_PRESENT,
  SKF_AD_VLAN_TPID,
  SKF_LL_OFF,
  SKF_NET_OFF,
} from "bun-sockets/sys";
import fc from "fast-check";

const SIZES = [BPF_W, BPF_H, BPF_B];
const ALUS = [BPF_ADD, BPF_SUB, BPF_MUL, BPF_AND, BPF_OR, BPF_XOR];
const JUMPS = [BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET];
// What is the same for each packet that a test sends itself.
const STEADY = [
  SKF_AD_PROTOCOL,
  SKF_AD_PKTTYPE,
  SKF_AD_NLATTR,
  SKF_AD_NLATTR_NEST,
  SKF_AD_MARK,
  SKF_AD_QUEUE,
  SKF_AD_RXHASH,
  SKF_AD_ALU_XOR_X,
  SKF_AD_VLAN_TAG,
  SKF_AD_VLAN_TAG_PRESENT,
  SKF_AD_VLAN_TPID,
];

const word = fc.oneof(
  fc.nat(255),
  fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  fc.constantFrom(0, 1, 2 ** 31, 2 ** 31 - 1, 2 ** 32 - 1, 0xffff, 32),
);
const place = fc.oneof(
  { weight: 6, arbitrary: fc.nat(40) },
  { weight: 1, arbitrary: fc.constantFrom(60, 61, 62, 63, 64, 65, 2 ** 31 - 1, 2 ** 31 - 4) },
  { weight: 1, arbitrary: fc.nat(30).map((k) => (SKF_NET_OFF + k) >>> 0) },
  { weight: 1, arbitrary: fc.nat(30).map((k) => (SKF_LL_OFF + k) >>> 0) },
);
const size = fc.constantFrom(...SIZES);
const memory = fc.nat(BPF_MEMWORDS - 1);
const source = fc.constantFrom(BPF_K, BPF_X);
const one = (code: number, k: fc.Arbitrary<number> = fc.constant(0)) =>
  k.map((k): FilterInstruction => ({ code, k }));

// Distances are cut to what is left where the instruction comes to stand.
const instruction: fc.Arbitrary<FilterInstruction> = fc.oneof(
  fc.tuple(size, place).map(([size, k]) => ({ code: BPF_LD | size | BPF_ABS, k })),
  fc.tuple(size, place).map(([size, k]) => ({ code: BPF_LD | size | BPF_IND, k })),
  fc
    .tuple(size, fc.constantFrom(...STEADY))
    .map(([size, which]) => ({ code: BPF_LD | size | BPF_ABS, k: (SKF_AD_OFF + which) >>> 0 })),
  one(BPF_LDX | BPF_B | BPF_MSH, place),
  one(BPF_LD | BPF_IMM, word),
  one(BPF_LDX | BPF_IMM, word),
  one(BPF_LDX | BPF_IMM, fc.nat(20)),
  one(BPF_LD | BPF_W | BPF_LEN),
  one(BPF_LDX | BPF_W | BPF_LEN),
  one(BPF_LD | BPF_MEM, memory),
  one(BPF_LDX | BPF_MEM, memory),
  one(BPF_ST, memory),
  one(BPF_STX, memory),
  fc
    .tuple(fc.constantFrom(...ALUS), source, word)
    .map(([operation, source, k]) => ({ code: BPF_ALU | operation | source, k })),
  fc
    .tuple(fc.constantFrom(BPF_DIV, BPF_MOD), source, word)
    .map(([operation, source, k]) => ({ code: BPF_ALU | operation | source, k: k || 3 })),
  fc
    .tuple(fc.constantFrom(BPF_LSH, BPF_RSH), source, fc.nat(31))
    .map(([operation, source, k]) => ({ code: BPF_ALU | operation | source, k })),
  one(BPF_ALU | BPF_NEG),
  one(BPF_MISC | BPF_TAX),
  one(BPF_MISC | BPF_TXA),
  one(BPF_JMP | BPF_JA, fc.nat(6)),
  fc
    .tuple(fc.constantFrom(...JUMPS), source, word, fc.nat(6), fc.nat(6))
    .map(([condition, source, k, jt, jf]) => ({ code: BPF_JMP | condition | source, k, jt, jf })),
  { weight: 1, arbitrary: one(BPF_RET | BPF_K, word) },
);

/** Programs that the kernel takes, of all instructions; of what differs by packet, none. */
export function programs(): fc.Arbitrary<FilterProgram> {
  const end = fc.constantFrom<FilterInstruction>({ code: BPF_RET | BPF_A });
  return fc
    .tuple(fc.array(instruction, { maxLength: 30, size: "max" }), end)
    .map(([body, end]) => new FilterProgram(sound([...body, end])));
}

// The kernel takes no load of a word that some path has not stored to: so all are stored to first.
function sound(body: readonly FilterInstruction[]): FilterInstruction[] {
  const loads = body.filter(
    ({ code }) => code === (BPF_LD | BPF_MEM) || code === (BPF_LDX | BPF_MEM),
  );
  const words = new Set(loads.map(({ k }) => k));
  const stores = [...words].map((k) => ({ code: BPF_ST, k }));
  return [
    ...stores,
    ...body.map((instruction, i) => {
      const left = body.length - 2 - i;
      const { code, jt = 0, jf = 0 } = instruction;
      // No instruction looks at a constant beside a register.
      const isAlu = code % 8 === BPF_ALU || code % 8 === BPF_JMP;
      const k = isAlu && (code & BPF_X) !== 0 ? 0 : (instruction.k ?? 0);
      if (code === (BPF_JMP | BPF_JA)) return { code, k: Math.min(k, Math.max(left, 0)) };
      return { code, jt: Math.min(jt, Math.max(left, 0)), jf: Math.min(jf, Math.max(left, 0)), k };
    }),
  ];
}
