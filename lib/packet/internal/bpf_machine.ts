/**
 * The machine that runs classic BPF programs, as the kernel does: what is outside of the packet ends
 * a program with 0, so does a division by 0; registers have 32 bits.
 *
 * Programs come out of a FilterProgram: every code is known, every jump goes forward and inside, so
 * that no program runs for longer than it has instructions.
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
  SKF_LL_OFF,
  SKF_NET_OFF,
} from "../../../structs/constants/linux_filter.ts";
import { ARPHRD_ETHER } from "../../../structs/constants/linux_if_arp.ts";
import {
  ETH_P_802_2,
  ETH_P_802_3_MIN,
  ETH_P_8021Q,
} from "../../../structs/constants/linux_if_ether.ts";
import { PACKET_TYPES } from "../../link_address.ts";
import type { FilterMetadata } from "../filter.ts";

// One for all runs, each of which begins with 0 in it. A caller's getter may run a filter while one
// runs: then both are undefined, as a filter that reads what it has not written.
const memory = new Int32Array(new ArrayBuffer(BPF_MEMWORDS * 4));
let isUsed = false;

const ETHERNET_BYTES = 14;
const NLA_HEADER_BYTES = 4;
const NLA_TYPE_MASK = 0x3fff;
const UINT_RANGE = 2 ** 32;

/**
 * Runs a program over the bytes of a packet, which begins at `start` and has `length` of them.
 * Returns what the program does, from 0 to 2^32 - 1.
 */
export function runProgram(
  words: Int32Array,
  bytes: Uint8Array,
  start: number,
  length: number,
  metadata: FilterMetadata | undefined,
): number {
  if (isUsed) {
    memory.fill(0);
    isUsed = false;
  }
  let a = 0;
  let x = 0;
  for (let at = 0; at < words.length; at += 2) {
    const instruction = words[at] as number;
    const k = words[at + 1] as number;
    switch (instruction & 0xffff) {
      case BPF_LD | BPF_W | BPF_ABS:
      case BPF_LD | BPF_H | BPF_ABS:
      case BPF_LD | BPF_B | BPF_ABS: {
        if (k < 0 && k >= SKF_AD_OFF) {
          const which = k - SKF_AD_OFF;
          // The kernel stops here for a packet that is of no device, with what A is.
          const isOfDevice = which === SKF_AD_IFINDEX || which === SKF_AD_HATYPE;
          if (isOfDevice && !metadata?.interfaceIndex) return a >>> 0;
          a = ancillary(which, a, x, bytes, start, length, metadata) | 0;
          break;
        }
        const value = load(instruction, k, bytes, start, length, metadata);
        if (value < 0) return 0;
        a = value | 0;
        break;
      }
      case BPF_LD | BPF_W | BPF_IND:
      case BPF_LD | BPF_H | BPF_IND:
      case BPF_LD | BPF_B | BPF_IND: {
        const value = load(instruction, (x + k) | 0, bytes, start, length, metadata);
        if (value < 0) return 0;
        a = value | 0;
        break;
      }
      case BPF_LDX | BPF_B | BPF_MSH: {
        const value = load(BPF_B, k, bytes, start, length, metadata);
        if (value < 0) return 0;
        x = (value & 0xf) << 2;
        break;
      }
      case BPF_LD | BPF_W | BPF_LEN:
        a = wholeLength(length, metadata);
        break;
      case BPF_LDX | BPF_W | BPF_LEN:
        x = wholeLength(length, metadata);
        break;
      case BPF_LD | BPF_IMM:
        a = k;
        break;
      case BPF_LDX | BPF_IMM:
        x = k;
        break;
      case BPF_LD | BPF_MEM:
        a = memory[k] as number;
        break;
      case BPF_LDX | BPF_MEM:
        x = memory[k] as number;
        break;
      case BPF_ST:
        memory[k] = a;
        isUsed = true;
        break;
      case BPF_STX:
        memory[k] = x;
        isUsed = true;
        break;
      case BPF_ALU | BPF_ADD | BPF_K:
        a = (a + k) | 0;
        break;
      case BPF_ALU | BPF_ADD | BPF_X:
        a = (a + x) | 0;
        break;
      case BPF_ALU | BPF_SUB | BPF_K:
        a = (a - k) | 0;
        break;
      case BPF_ALU | BPF_SUB | BPF_X:
        a = (a - x) | 0;
        break;
      case BPF_ALU | BPF_MUL | BPF_K:
        a = Math.imul(a, k);
        break;
      case BPF_ALU | BPF_MUL | BPF_X:
        a = Math.imul(a, x);
        break;
      case BPF_ALU | BPF_DIV | BPF_K:
        a = ((a >>> 0) / (k >>> 0)) | 0;
        break;
      case BPF_ALU | BPF_DIV | BPF_X:
        if (x === 0) return 0;
        a = ((a >>> 0) / (x >>> 0)) | 0;
        break;
      case BPF_ALU | BPF_MOD | BPF_K:
        a = ((a >>> 0) % (k >>> 0)) | 0;
        break;
      case BPF_ALU | BPF_MOD | BPF_X:
        if (x === 0) return 0;
        a = ((a >>> 0) % (x >>> 0)) | 0;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= k;
        break;
      case BPF_ALU | BPF_AND | BPF_X:
        a &= x;
        break;
      case BPF_ALU | BPF_OR | BPF_K:
        a |= k;
        break;
      case BPF_ALU | BPF_OR | BPF_X:
        a |= x;
        break;
      case BPF_ALU | BPF_XOR | BPF_K:
        a ^= k;
        break;
      case BPF_ALU | BPF_XOR | BPF_X:
        a ^= x;
        break;
      // JavaScript shifts by the lowest five bits, as the kernel does.
      case BPF_ALU | BPF_LSH | BPF_K:
        a <<= k;
        break;
      case BPF_ALU | BPF_LSH | BPF_X:
        a <<= x;
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        a = (a >>> k) | 0;
        break;
      case BPF_ALU | BPF_RSH | BPF_X:
        a = (a >>> x) | 0;
        break;
      case BPF_ALU | BPF_NEG:
        a = -a | 0;
        break;
      case BPF_JMP | BPF_JA:
        at += k * 2;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        at += skipped(instruction, a === k);
        break;
      case BPF_JMP | BPF_JEQ | BPF_X:
        at += skipped(instruction, a === x);
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        at += skipped(instruction, a >>> 0 > k >>> 0);
        break;
      case BPF_JMP | BPF_JGT | BPF_X:
        at += skipped(instruction, a >>> 0 > x >>> 0);
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += skipped(instruction, a >>> 0 >= k >>> 0);
        break;
      case BPF_JMP | BPF_JGE | BPF_X:
        at += skipped(instruction, a >>> 0 >= x >>> 0);
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        at += skipped(instruction, (a & k) !== 0);
        break;
      case BPF_JMP | BPF_JSET | BPF_X:
        at += skipped(instruction, (a & x) !== 0);
        break;
      case BPF_MISC | BPF_TAX:
        x = a;
        break;
      case BPF_MISC | BPF_TXA:
        a = x;
        break;
      case BPF_RET | BPF_K:
        return k >>> 0;
      case BPF_RET | BPF_A:
        return a >>> 0;
    }
  }
  return 0;
}

// How many words a conditional jump passes over: jt or jf, of two words each.
function skipped(instruction: number, isMet: boolean): number {
  return (isMet ? (instruction >>> 16) & 0xff : instruction >>> 24) * 2;
}

function wholeLength(length: number, metadata: FilterMetadata | undefined): number {
  return (metadata?.originalLength ?? length) | 0;
}

// A load of 4, 2 or 1 bytes in network byte order, from the packet or one of its headers. Returns -1
// for what is outside.
function load(
  instruction: number,
  k: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  metadata: FilterMetadata | undefined,
): number {
  let from = k;
  let lowest = 0;
  if (k < 0) {
    // The headers may be in front of where the packet begins for the filter.
    const header = k >= SKF_NET_OFF ? networkOffset(metadata) : linkOffset(metadata);
    const offset = k >= SKF_NET_OFF ? k - SKF_NET_OFF : k - SKF_LL_OFF;
    if (offset < 0) return -1;
    from = header + offset;
    lowest = Math.min(header, 0);
  }
  const size = instruction & (BPF_H | BPF_B);
  const count = size === BPF_W ? 4 : size === BPF_H ? 2 : 1;
  // Not so for NaN either.
  if (!(from >= lowest && from + count <= length && start + from >= 0)) return -1;
  let value = 0;
  for (let i = start + from; i < start + from + count; i++) value = value * 256 + (bytes[i] ?? 0);
  return value;
}

function networkOffset(metadata: FilterMetadata | undefined): number {
  return Math.trunc(metadata?.networkOffset ?? ETHERNET_BYTES);
}

function linkOffset(metadata: FilterMetadata | undefined): number {
  return Math.trunc(metadata?.linkOffset ?? 0);
}

// What the kernel knows of a packet beside its bytes.
function ancillary(
  which: number,
  a: number,
  x: number,
  bytes: Uint8Array,
  start: number,
  length: number,
  metadata: FilterMetadata | undefined,
): number {
  switch (which) {
    case SKF_AD_PROTOCOL:
      return metadata?.protocol ?? etherType(bytes, start, length);
    case SKF_AD_PKTTYPE: {
      const type = metadata?.packetType ?? 0;
      return typeof type === "string" ? Math.max(PACKET_TYPES.indexOf(type), 0) : type;
    }
    case SKF_AD_IFINDEX:
      return metadata?.interfaceIndex ?? 0;
    case SKF_AD_HATYPE:
      return metadata?.hardwareType ?? ARPHRD_ETHER;
    case SKF_AD_NLATTR:
      return attribute(bytes, start, length, a >>> 0, x);
    case SKF_AD_NLATTR_NEST:
      return nestedAttribute(bytes, start, length, a >>> 0, x);
    case SKF_AD_MARK:
      return metadata?.mark ?? 0;
    case SKF_AD_QUEUE:
      return metadata?.queue ?? 0;
    case SKF_AD_RXHASH:
      return metadata?.hash ?? 0;
    case SKF_AD_CPU:
      return metadata?.cpu ?? 0;
    case SKF_AD_ALU_XOR_X:
      return a ^ x;
    case SKF_AD_VLAN_TAG:
      return Math.max(metadata?.vlan ?? 0, 0);
    case SKF_AD_VLAN_TAG_PRESENT:
      return (metadata?.vlan ?? -1) >= 0 ? 1 : 0;
    case SKF_AD_VLAN_TPID:
      return (metadata?.vlan ?? -1) >= 0 ? (metadata?.vlanProtocol ?? ETH_P_8021Q) : 0;
    case SKF_AD_PAY_OFFSET:
      return metadata?.payloadOffset ?? 0;
    case SKF_AD_RANDOM:
      return metadata?.random ?? Math.floor(Math.random() * UINT_RANGE);
  }
  return 0;
}

// What an Ethernet device makes of the header: a length there is a frame of IEEE 802.2.
function etherType(bytes: Uint8Array, start: number, length: number): number {
  if (length < ETHERNET_BYTES) return 0;
  const type = (bytes[start + 12] as number) * 256 + (bytes[start + 13] as number);
  return type < ETH_P_802_3_MIN ? ETH_P_802_2 : type;
}

// The offset of a netlink attribute of type x among those from `first` on; 0 for none.
function attribute(
  bytes: Uint8Array,
  start: number,
  length: number,
  first: number,
  x: number,
): number {
  if (length < NLA_HEADER_BYTES || first > length - NLA_HEADER_BYTES) return 0;
  return findAttribute(bytes, start, first, length, x);
}

// The same among those inside of the attribute at `outer`.
function nestedAttribute(
  bytes: Uint8Array,
  start: number,
  length: number,
  outer: number,
  x: number,
): number {
  if (length < NLA_HEADER_BYTES || outer > length - NLA_HEADER_BYTES) return 0;
  const size = host16(bytes, start + outer);
  if (size > length - outer) return 0;
  return findAttribute(bytes, start, outer + NLA_HEADER_BYTES, outer + size, x);
}

function findAttribute(
  bytes: Uint8Array,
  start: number,
  first: number,
  end: number,
  x: number,
): number {
  let at = first;
  while (end - at >= NLA_HEADER_BYTES) {
    const size = host16(bytes, start + at);
    if (size < NLA_HEADER_BYTES || size > end - at) return 0;
    if ((host16(bytes, start + at + 2) & NLA_TYPE_MASK) === x) return at;
    // Attributes begin at multiples of four.
    at += (size + 3) & ~3;
  }
  return 0;
}

// Netlink has the byte order of the machine, which is little-endian on both architectures.
function host16(bytes: Uint8Array, at: number): number {
  return (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
}
