/**
 * Which ICMP messages a raw socket gets, as words: the values of `ICMP_FILTER` and `ICMP6_FILTER`.
 *
 * @module
 */
import { icmp_filter } from "../../structs/icmp_filter.ts";
import { icmp6_filter } from "../../structs/icmp6_filter.ts";
import type { IcmpFilter, IcmpType, Icmpv6Type } from "../option.ts";
import { describe, requireInteger } from "./arguments.ts";
import { type Codec, scratch, scratchBytes } from "./option_codec.ts";

// RFC 792, RFC 950 and RFC 1256; a `struct icmp_filter` has 32 bits.
const TYPES: Readonly<Record<IcmpType, number>> = {
  echoReply: 0,
  destinationUnreachable: 3,
  sourceQuench: 4,
  redirect: 5,
  echoRequest: 8,
  routerAdvertisement: 9,
  routerSolicitation: 10,
  timeExceeded: 11,
  parameterProblem: 12,
  timestampRequest: 13,
  timestampReply: 14,
  informationRequest: 15,
  informationReply: 16,
  addressMaskRequest: 17,
  addressMaskReply: 18,
};

// RFC 4443, RFC 2710, RFC 4861 and RFC 3810; a `struct icmp6_filter` has 256 bits.
const TYPES_6: Readonly<Record<Icmpv6Type, number>> = {
  destinationUnreachable: 1,
  packetTooBig: 2,
  timeExceeded: 3,
  parameterProblem: 4,
  echoRequest: 128,
  echoReply: 129,
  multicastListenerQuery: 130,
  multicastListenerReport: 131,
  multicastListenerDone: 132,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
  redirect: 137,
  multicastListenerReportV2: 143,
};

/** `struct icmp_filter`. */
export const ICMP_TYPES: Codec<IcmpFilter<IcmpType>> = codec(TYPES, icmp_filter.size);
/** `struct icmp6_filter`. */
export const ICMPV6_TYPES: Codec<IcmpFilter<Icmpv6Type>> = codec(TYPES_6, icmp6_filter.size);

// A bit that is set stands for a type that is not received, in words of 32 bits.
function codec<Type extends string>(
  table: Readonly<Record<Type, number>>,
  size: number,
): Codec<IcmpFilter<Type>> {
  const words = Object.keys(table) as Type[];
  const count = 8 * size;
  const wordOf = (type: number) => words.find((word) => table[word] === type) ?? type;
  return {
    size,
    decode(view) {
      const lists: [pass: (Type | number)[], block: (Type | number)[]] = [[], []];
      for (let type = 0; type < count; type++) {
        const bits = view.getUint32(4 * (type >> 5), true);
        lists[(bits >>> (type & 31)) & 1]?.push(wordOf(type));
      }
      const [pass, block] = lists;
      return pass.length < block.length ? { pass } : { block };
    },
    encode(value, name) {
      const { isPass, list } = copyFilter(value, name);
      const types = list.map((type) => toType(type, table, count - 1, name));
      const room = scratchBytes(size).fill(isPass ? 0xff : 0);
      for (const type of types) {
        const at = 4 * (type >> 5);
        const bit = 1 << (type & 31);
        const bits = scratch.getInt32(at, true);
        scratch.setInt32(at, isPass ? bits & ~bit : bits | bit, true);
      }
      return room;
    },
  };
}

// Read once: what looks like an object can be anything.
function copyFilter(
  value: unknown,
  name: string,
): { readonly isPass: boolean; readonly list: readonly unknown[] } {
  const isObject = typeof value === "object" && value !== null;
  const { pass, block }: { pass?: unknown; block?: unknown } = isObject ? value : {};
  if ((pass === undefined) === (block === undefined)) {
    throw new TypeError(
      `Cannot use ${isObject ? "this" : describe(value)} as ${name}: expected { pass } or { block }`,
    );
  }
  const list = pass ?? block;
  if (!Array.isArray(list))
    throw new TypeError(`Cannot use ${describe(list)} as types of ${name}: expected an array`);
  const { length } = list;
  requireInteger(length, 0, 256, `the number of types of ${name}`);
  return { isPass: pass !== undefined, list: Array.from({ length }, (_, i): unknown => list[i]) };
}

function toType(
  value: unknown,
  table: Readonly<Record<string, number>>,
  maximum: number,
  name: string,
): number {
  if (typeof value !== "string") {
    requireInteger(value, 0, maximum, `a type of ${name}`);
    return value as number;
  }
  const type = Object.hasOwn(table, value) ? table[value] : undefined;
  if (type !== undefined) return type;
  const known = Object.keys(table).map((word) => `"${word}"`);
  throw new RangeError(
    `Cannot use ${JSON.stringify(value)} as a type of ${name}: expected ${known.join(", ")}, or a number`,
  );
}
