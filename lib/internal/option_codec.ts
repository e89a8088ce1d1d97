/**
 * How the values of socket options lie in memory: what getsockopt(2) is given room for, what is
 * made of its answer, and what setsockopt(2) is given. Every value is checked before memory is
 * touched.
 *
 * @module
 */
import { ip_mreqn } from "../../structs/ip_mreqn.ts";
import { linger } from "../../structs/linger.ts";
import { sockaddr_in6 } from "../../structs/sockaddr_in6.ts";
import { timeval } from "../../structs/timeval.ts";
import { ucred } from "../../structs/ucred.ts";
import { byteLengthOf } from "../ffi/memory.ts";
import type { MemoryInfo, PeerCredentials, PortRange, TransmitTime } from "../option.ts";
import { describe, requireBoolean, requireInteger, requireView } from "./arguments.ts";
import { formatInet4, parseInet4 } from "./inet_text.ts";

/** One layout of values. */
export interface Codec<Value> {
  /** How much room the kernel is given for its answer, in bytes: at most `SCRATCH_BYTES`. */
  readonly size: number;
  /** Makes the value of an answer of `length` bytes. Behind them the view is zero. */
  decode(view: DataView, length: number): Value;
  /**
   * Checks a value and lays it out, in the scratch memory or where it lies already. `name` is the C
   * name of the option, for the error.
   */
  encode(value: Value, name: string): ArrayBufferView;
}

/** The size of the scratch memory: the longest values are IPv6 headers, of 8 × 255 bytes. */
export const SCRATCH_BYTES = 2048;

/**
 * The memory that one call fills and reads before the next. An explicit ArrayBuffer, because a
 * small typed array moves when its buffer is first asked for.
 */
export const scratch: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(SCRATCH_BYTES));

/** The first bytes of the scratch memory. */
export function scratchBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(scratch.buffer, 0, length);
}

/** The largest `int`. */
export const INT_MAX: number = 2 ** 31 - 1;
const INT_MIN = -(2 ** 31);
const UINT_MAX = 2 ** 32 - 1;

function intOf(value: number): Uint8Array {
  scratch.setInt32(0, value, true);
  return scratchBytes(4);
}

/** An `int` that is 0 or 1. */
export const FLAG: Codec<boolean> = {
  size: 4,
  decode: (view) => view.getInt32(0, true) !== 0,
  encode(value, name) {
    requireBoolean(value, name);
    return intOf(Number(value));
  },
};

/** An `int` between bounds, both included; an `unsigned int` where the upper one asks for it. */
export function integer(minimum = INT_MIN, maximum: number = INT_MAX): Codec<number> {
  return {
    size: 4,
    decode: (view) => (maximum > INT_MAX ? view.getUint32(0, true) : view.getInt32(0, true)),
    encode(value, name) {
      requireInteger(value, minimum, maximum, name);
      return intOf(value);
    },
  };
}

/** An `unsigned int` of any value. */
export const UINT: Codec<number> = integer(0, UINT_MAX);

/** An interface index as an `int` in network byte order. */
export const NETWORK_INDEX: Codec<number> = {
  size: 4,
  decode: (view) => view.getInt32(0, false),
  encode(value, name) {
    requireInteger(value, 0, INT_MAX, name);
    scratch.setInt32(0, value, false);
    return scratchBytes(4);
  },
};

/** What the kernel counts a duration in. */
interface Unit {
  readonly perMs: number;
  readonly multiple: string;
}

const SECOND: Unit = { perMs: 1e-3, multiple: "1000, as the kernel counts seconds" };
const MILLISECOND: Unit = { perMs: 1, multiple: "1, as the kernel counts milliseconds" };
const MICROSECOND: Unit = { perMs: 1e3, multiple: "0.001, as the kernel counts microseconds" };

/** Milliseconds in the kernel's unit; the bounds are in that unit. */
function toUnits(
  value: unknown,
  { perMs, multiple }: Unit,
  minimum: number,
  maximum: number,
  name: string,
): number {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected a number`);
  }
  const exact = perMs < 1 ? value / 1000 : value * perMs;
  if (!(exact >= minimum && exact <= maximum)) {
    const bounds = `${fromUnits(minimum, perMs)} to ${fromUnits(maximum, perMs)} milliseconds`;
    throw new RangeError(`Cannot use ${value} as ${name}: expected ${bounds}`);
  }
  const units = Math.round(exact);
  // 0.035 * 1000 is not quite 35.
  if (Math.abs(exact - units) > 1e-6) {
    throw new RangeError(
      `Cannot use ${value} as ${name}: expected milliseconds that are a multiple of ${multiple}`,
    );
  }
  return units;
}

// A division where it can be one: 35 / 1000 is the double that 0.035 is, 35 * 0.001 is not.
function fromUnits(units: number, perMs: number): number {
  return perMs < 1 ? units * 1000 : units / perMs;
}

function duration(unit: Unit, minimum: number, maximum: number): Codec<number> {
  return {
    size: 4,
    decode: (view) => fromUnits(view.getInt32(0, true), unit.perMs),
    encode: (value, name) => intOf(toUnits(value, unit, minimum, maximum, name)),
  };
}

/** Milliseconds, as an `int` of whole seconds. */
export function seconds(minimum: number, maximum: number): Codec<number> {
  return duration(SECOND, minimum, maximum);
}

/** Milliseconds, as an `int` of them. */
export function milliseconds(minimum: number, maximum: number): Codec<number> {
  return duration(MILLISECOND, minimum, maximum);
}

/** Milliseconds, as an `int` of microseconds. */
export function microseconds(minimum: number, maximum: number): Codec<number> {
  return duration(MICROSECOND, minimum, maximum);
}

/** Milliseconds as an `int` of seconds, where undefined is a negative one. */
export function secondsOrNone(minimum: number, maximum: number): Codec<number | undefined> {
  const { decode, encode } = duration(SECOND, minimum, maximum);
  return {
    size: 4,
    decode: (view, length) => (view.getInt32(0, true) < 0 ? undefined : decode(view, length)),
    encode: (value, name) => (value === undefined ? intOf(-1) : encode(value, name)),
  };
}

/** Milliseconds as a `struct timeval`. */
export const TIMEVAL: Codec<number> = {
  size: timeval.size,
  decode: (view) => timeval.tv_sec.get(view, 0) * 1000 + timeval.tv_usec.get(view, 0) / 1000,
  encode(value, name) {
    const units = toUnits(value, MICROSECOND, 0, INT_MAX * 1e6, name);
    timeval.tv_sec.set(scratch, 0, Math.floor(units / 1e6));
    timeval.tv_usec.set(scratch, 0, units % 1e6);
    return scratchBytes(timeval.size);
  },
};

/** Milliseconds as a `struct linger`, where undefined switches it off. */
export const LINGER: Codec<number | undefined> = {
  size: linger.size,
  decode: (view) =>
    linger.l_onoff.get(view, 0) === 0 ? undefined : linger.l_linger.get(view, 0) * 1000,
  encode(value, name) {
    const units = value === undefined ? 0 : toUnits(value, SECOND, 0, INT_MAX, name);
    linger.l_onoff.set(scratch, 0, Number(value !== undefined));
    linger.l_linger.set(scratch, 0, units);
    return scratchBytes(linger.size);
  },
};

/** A buffer size, of which the kernel reports the double. */
export const HALVED: Codec<number> = {
  size: 4,
  decode: (view) => view.getInt32(0, true) / 2,
  // Above this the doubled size is no int any more: the kernel takes the value and cuts it off.
  encode: integer(0, 2 ** 30 - 1).encode,
};

/** An `int` of which each value has a word. */
export function words<Word extends string>(table: Readonly<Record<Word, number>>): Codec<Word> {
  const list = Object.keys(table) as Word[];
  return {
    size: 4,
    decode(view) {
      const value = view.getInt32(0, true);
      // A value that a later kernel may have has no word.
      return list.find((word) => table[word] === value) ?? (`${value}` as Word);
    },
    encode(value, name) {
      if (typeof value !== "string") {
        throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected a string`);
      }
      if (!list.includes(value)) {
        const expected = list.map((word) => `"${word}"`).join(", ");
        throw new RangeError(
          `Cannot use ${JSON.stringify(value)} as ${name}: expected one of ${expected}`,
        );
      }
      return intOf(table[value]);
    },
  };
}

const encoder = new TextEncoder();

function textOf(view: DataView, length: number): string {
  const bytes = Buffer.from(view.buffer, view.byteOffset, length);
  const end = bytes.indexOf(0);
  return bytes.toString("utf8", 0, end < 0 ? length : end);
}

/** Text of at most so many bytes of UTF-8, and a NUL behind them. */
export function text(bytesMax: number): Codec<string> {
  return {
    size: bytesMax + 1,
    decode: textOf,
    encode(value, name) {
      if (typeof value !== "string") {
        throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected a string`);
      }
      const room = scratchBytes(bytesMax);
      const { read, written } = encoder.encodeInto(value, room);
      if (read < value.length || value.includes("\0")) {
        const expected = `expected at most ${bytesMax} bytes of text without NUL`;
        throw new RangeError(`Cannot use ${JSON.stringify(value)} as ${name}: ${expected}`);
      }
      scratch.setUint8(written, 0);
      return scratchBytes(written + 1);
    },
  };
}

/** Text that the kernel gives, of any length. */
export const TEXT: Codec<string> = { ...text(SCRATCH_BYTES - 1), size: SCRATCH_BYTES };

/** Bytes as they are, at most so many. */
export function bytes(bytesMax: number): Codec<Uint8Array> {
  return {
    size: bytesMax,
    decode: (view, length) =>
      new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + length) as ArrayBuffer),
    encode(value, name) {
      requireView(value, name);
      const length = byteLengthOf(value);
      if (length > bytesMax) {
        throw new RangeError(
          `Cannot use ${length} bytes as ${name}: expected at most ${bytesMax} bytes`,
        );
      }
      return value;
    },
  };
}

/** A `uint64_t` that only the kernel writes. */
export const U64: Codec<bigint> = {
  size: 8,
  decode: (view) => view.getBigUint64(0, true),
  encode: refuse,
};

/** An `unsigned long`, of which the largest is no limit. */
export const RATE: Codec<number> = {
  size: 8,
  decode(view) {
    const rate = view.getBigUint64(0, true);
    return rate === 2n ** 64n - 1n ? Number.POSITIVE_INFINITY : Number(rate);
  },
  encode(value, name) {
    const unlimited = value === Number.POSITIVE_INFINITY;
    if (!unlimited) requireInteger(value, 1, Number.MAX_SAFE_INTEGER, name);
    scratch.setBigUint64(0, unlimited ? 2n ** 64n - 1n : BigInt(value), true);
    return scratchBytes(8);
  },
};

/** `struct ucred`. A socket without a peer has a process of 0, and -1 for the others. */
export const CREDENTIALS: Codec<PeerCredentials | undefined> = {
  size: ucred.size,
  decode(view) {
    const processId = ucred.pid.get(view, 0);
    const userId = ucred.uid.get(view, 0);
    const groupId = ucred.gid.get(view, 0);
    const none = processId === 0 && userId === UINT_MAX && groupId === UINT_MAX;
    return none ? undefined : { processId, userId, groupId };
  },
  encode: refuse,
};

/** An array of `gid_t`. */
export const GROUPS: Codec<readonly number[]> = {
  size: SCRATCH_BYTES,
  decode: (view, length) =>
    Array.from({ length: length >> 2 }, (_, index) => view.getUint32(4 * index, true)),
  encode: refuse,
};

// In the order of the SK_MEMINFO_ constants of linux/sock_diag.h.
const MEMORY_INFO: readonly (keyof MemoryInfo)[] = [
  "receiveUsedBytes",
  "receiveLimitBytes",
  "sendUsedBytes",
  "sendLimitBytes",
  "reservedBytes",
  "sendQueuedBytes",
  "optionBytes",
  "backlogBytes",
  "dropCount",
];

/** An array of `uint32_t`, one for each member of `MemoryInfo`. */
export const MEMORY: Codec<MemoryInfo> = {
  size: 4 * MEMORY_INFO.length,
  decode: (view) =>
    Object.fromEntries(
      MEMORY_INFO.map((name, index) => [name, view.getUint32(4 * index, true)] as const),
    ) as unknown as MemoryInfo,
  encode: refuse,
};

/** A `uint32_t` that holds the lowest port in its lower half and the highest in its upper one. */
export const PORT_RANGE: Codec<PortRange> = {
  size: 4,
  decode: (view) => ({ low: view.getUint16(0, true), high: view.getUint16(2, true) }),
  encode(value, name) {
    requireObject(value, name);
    const { low, high } = value;
    requireInteger(low, 0, 65535, `low of ${name}`);
    requireInteger(high, 0, 65535, `high of ${name}`);
    scratch.setUint16(0, low, true);
    scratch.setUint16(2, high, true);
    return scratchBytes(4);
  },
};

/** `struct sock_txtime` of linux/net_tstamp.h: a `clockid_t` and 32 flags. */
export const TRANSMIT_TIME: Codec<TransmitTime> = {
  size: 8,
  decode: (view) => ({ clockId: view.getInt32(0, true), flags: view.getUint32(4, true) }),
  encode(value, name) {
    requireObject(value, name);
    const { clockId, flags } = value;
    requireInteger(clockId, INT_MIN, INT_MAX, `clockId of ${name}`);
    requireInteger(flags, 0, UINT_MAX, `flags of ${name}`);
    scratch.setInt32(0, clockId, true);
    scratch.setUint32(4, flags, true);
    return scratchBytes(8);
  },
};

function requireObject(value: unknown, name: string): void {
  if (typeof value !== "object" || value === null) {
    throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected an object`);
  }
}

/** A `struct in_addr`, as text. */
export const INET4: Codec<string> = {
  size: 4,
  decode: (view) => formatInet4(new Uint8Array(view.buffer, view.byteOffset, 4), 0),
  encode(value, name) {
    if (typeof value !== "string") {
      throw new TypeError(`Cannot use ${describe(value)} as ${name}: expected a string`);
    }
    const address = scratchBytes(4);
    if (!parseInet4(value, address, 0)) {
      throw new RangeError(
        `Cannot use ${JSON.stringify(value)} as ${name}: expected an IPv4 address`,
      );
    }
    return address;
  },
};

/** An interface index in a `struct ip_mreqn`, the only form that takes one. */
export const MREQN_INDEX: Codec<number> = {
  size: ip_mreqn.size,
  decode: (view) => ip_mreqn.imr_ifindex.get(view, 0),
  encode(value, name) {
    requireInteger(value, 0, INT_MAX, name);
    const request = scratchBytes(ip_mreqn.size).fill(0);
    ip_mreqn.imr_ifindex.set(scratch, 0, value);
    return request;
  },
};

/** The number in a `struct ip6_mtuinfo`, which has a `sockaddr_in6` in front of it. */
export const MTU_INFO: Codec<number> = {
  size: sockaddr_in6.size + 4,
  decode: (view) => view.getUint32(sockaddr_in6.size, true),
  encode: refuse,
};

// Stands where no value is ever laid out: these layouts belong to options that are only read.
function refuse(_value: unknown, name: string): never {
  throw new TypeError(`Cannot set ${name}: it can only be read`);
}
