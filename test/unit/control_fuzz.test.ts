/**
 * A million control buffers that nobody has made on purpose, between canaries: whatever they claim,
 * nothing is read or written outside of them, nothing throws, and reading ends. The seed of a failure
 * stands in its message; CONTROL_FUZZ_SEED repeats it.
 */
import { expect, test } from "bun:test";
import { ControlReader, ControlWriter, decodeControl } from "bun-sockets";
import {
  IP_ORIGDSTADDR,
  IP_PKTINFO,
  IP_RECVERR,
  IP_TOS,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_HOPLIMIT,
  IPV6_ORIGDSTADDR,
  IPV6_PKTINFO,
  IPV6_RECVERR,
  IPV6_TCLASS,
  SCM_CREDENTIALS,
  SCM_RIGHTS,
  SCM_TIMESTAMP,
  SCM_TIMESTAMPING,
  SCM_TIMESTAMPNS,
  SO_MARK,
  SO_PRIORITY,
  SO_RXQ_OVFL,
  SOL_SOCKET,
  SOL_UDP,
  TCP_CM_INQ,
  UDP_GRO,
  UDP_SEGMENT,
} from "bun-sockets/sys";

const INPUTS = 1_000_000;
const SEED = Number(process.env["CONTROL_FUZZ_SEED"] ?? Date.now() % 2 ** 31);

const HEADER = 16;
const BYTES_MAX = 128;
const GUARD = 32;

/** Numbers that nobody can guess and everybody can repeat. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** 32 bits, with a sign: what the engine keeps as an integer. */
  next(): number {
    let state = this.#state;
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    this.#state = state;
    return state;
  }

  /** 0 to below the limit. */
  below(limit: number): number {
    return (this.next() & 0x7fff_ffff) % limit;
  }

  of<Value>(values: readonly Value[]): Value {
    return values[this.below(values.length)] as Value;
  }
}

// A known kind, and how much data one of it has.
const KINDS: readonly (readonly [level: number, type: number, bytes: number])[] = [
  [SOL_SOCKET, SCM_RIGHTS, 12],
  [SOL_SOCKET, SCM_CREDENTIALS, 12],
  [SOL_SOCKET, SCM_TIMESTAMP, 16],
  [SOL_SOCKET, SCM_TIMESTAMPNS, 16],
  [SOL_SOCKET, SCM_TIMESTAMPING, 48],
  [SOL_SOCKET, 4, 4],
  [SOL_SOCKET, SO_RXQ_OVFL, 4],
  [SOL_SOCKET, SO_MARK, 4],
  [SOL_SOCKET, SO_PRIORITY, 4],
  [IPPROTO_IP, IP_PKTINFO, 12],
  [IPPROTO_IP, IP_TTL, 4],
  [IPPROTO_IP, IP_TOS, 1],
  [IPPROTO_IP, IP_ORIGDSTADDR, 16],
  [IPPROTO_IP, IP_RECVERR, 32],
  [IPPROTO_IPV6, IPV6_PKTINFO, 20],
  [IPPROTO_IPV6, IPV6_HOPLIMIT, 4],
  [IPPROTO_IPV6, IPV6_TCLASS, 4],
  [IPPROTO_IPV6, IPV6_ORIGDSTADDR, 28],
  [IPPROTO_IPV6, IPV6_RECVERR, 44],
  [IPPROTO_TCP, TCP_CM_INQ, 4],
  [SOL_UDP, UDP_GRO, 4],
  [SOL_UDP, UDP_SEGMENT, 2],
];

// Lower and upper half of what a header claims where that is a lie.
const CLAIMS: readonly (readonly [low: number, high: number])[] = [
  [0, 0],
  [1, 0],
  [15, 0],
  [16, 0],
  [17, 0],
  [0x7fff_ffff, 0],
  [0x8000_0000, 0],
  [0xffff_fff0, 0],
  [0xffff_ffff, 0],
  [0, 1],
  [20, 1],
  [0, 0x8000_0000],
  [0xffff_fff8, 0xffff_ffff],
  [0xffff_ffff, 0xffff_ffff],
];

/** Memory with canaries before and behind what is looked at. */
class Arena {
  readonly memory: Uint8Array<ArrayBuffer> = new Uint8Array(GUARD + 8 + BYTES_MAX + GUARD);
  readonly view: DataView = new DataView(this.memory.buffer);
  readonly #targets = new Map<number, Uint8Array<ArrayBuffer>>();

  /** The bytes from `start` on: one view for each start and length. */
  target(start: number, length: number): Uint8Array<ArrayBuffer> {
    const key = start * (BYTES_MAX + 1) + length;
    let target = this.#targets.get(key);
    if (target === undefined) {
      target = this.memory.subarray(start, start + length);
      this.#targets.set(key, target);
    }
    return target;
  }

  /** Fills all that is outside. */
  guard(start: number, length: number, canary: number): void {
    this.memory.fill(canary, 0, start);
    this.memory.fill(canary, start + length);
  }

  /** Whether all that is outside is as it was filled. */
  intact(start: number, length: number, canary: number): boolean {
    const { memory } = this;
    for (let i = 0; i < start; i++) if (memory[i] !== canary) return false;
    for (let i = start + length; i < memory.length; i++) if (memory[i] !== canary) return false;
    return true;
  }
}

const noise = noiseBytes(4096);

function noiseBytes(length: number): Uint8Array {
  const random = new Random(SEED ^ 0x5bd1_e995);
  return Uint8Array.from({ length }, () => random.below(256));
}

function noiseOf(random: Random, length: number): Uint8Array {
  const start = random.below(noise.length - length);
  return noise.subarray(start, start + length);
}

/** Writes something that resembles control messages. */
function write(random: Random, arena: Arena, start: number, length: number): void {
  const { memory, view } = arena;
  const end = start + length;
  const style = random.below(8);
  // Nothing but noise, now and then.
  if (style === 0) {
    memory.set(noiseOf(random, length), start);
    return;
  }
  for (let at = start; at < end; ) {
    const [level, type, bytes] = random.of(KINDS);
    const data = style < 4 ? bytes : random.below(bytes + 8);
    const claim = random.below(6) === 0 ? undefined : HEADER + data;
    const header = at;
    const bytesLeft = Math.min(HEADER + data + 8, end - at);
    memory.set(noiseOf(random, bytesLeft), at);
    if (header + HEADER <= end) {
      const [low, high] = claim === undefined ? lie(random, end - header) : [claim, 0];
      view.setUint32(header, low, true);
      view.setUint32(header + 4, high, true);
      view.setInt32(header + 8, random.below(16) === 0 ? random.next() : level, true);
      view.setInt32(header + 12, random.below(16) === 0 ? random.below(128) : type, true);
    }
    at += HEADER + data + (-data & 7);
  }
}

function lie(random: Random, room: number): readonly [low: number, high: number] {
  return random.below(2) === 0 ? random.of(CLAIMS) : [room + random.below(17) - 8, 0];
}

// Numbers of all that was read, folded into one.
let digest = 0;

function fold(value: number): void {
  digest = (Math.imul(digest, 31) + (value | 0)) | 0;
}

/** Reads all there is to read, and nothing that allocates. Returns how many there were. */
function readAll(reader: ControlReader, length: number): number {
  let count = 0;
  let before = 0;
  while (reader.next()) {
    const { dataOffset, dataLength, kind } = reader;
    if (dataOffset < before + HEADER || dataLength < 0 || dataOffset + dataLength > length)
      throw new Error(`data at ${dataOffset}, ${dataLength} bytes of ${length}`);
    before = dataOffset + dataLength;
    count++;
    fold(reader.level);
    fold(reader.type);
    fold(dataLength);
    fold(kind.length);
    fold(reader.truncated ? 1 : 0);
    fold(reader.ttl);
    fold(reader.ecn);
    fold(reader.segmentBytes);
    fold(reader.dropped + reader.mark + reader.priority + reader.inQueueBytes);
    fold(reader.interfaceIndex);
    fold(reader.seconds);
    fold(reader.nanoseconds);
    fold(reader.hardwareSeconds);
    fold(reader.hardwareNanoseconds);
    fold(reader.processId + reader.userId + reader.groupId);
    for (let i = 0; i < reader.descriptorCount; i++) fold(reader.descriptor(i));
  }
  return count;
}

/** The same with C's arithmetic of 64 bits: where each message's data is, and how long. */
function expectedPlaces(memory: Uint8Array, start: number, length: number): number[] {
  const view = new DataView(memory.buffer, start, length);
  const places: number[] = [];
  for (let at = 0n; at + 16n <= BigInt(length); ) {
    const claimed = view.getBigUint64(Number(at), true);
    if (claimed < 16n) break;
    const room = BigInt(length) - at;
    const bytes = claimed > room ? room : claimed;
    places.push(Number(at) + HEADER, Number(bytes) - HEADER);
    at += (bytes + 7n) & ~7n;
  }
  return places;
}

function places(reader: ControlReader): number[] {
  const found: number[] = [];
  while (reader.next()) found.push(reader.dataOffset, reader.dataLength);
  return found;
}

test(`a million hostile buffers are read within their bounds (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const arena = new Arena();
  const reader = new ControlReader(arena.memory, 0);
  let messages = 0;
  for (let input = 0; input < INPUTS; input++) {
    const length = input % 16 === 0 ? random.below(20) : random.below(BYTES_MAX + 1);
    const start = GUARD + random.below(8);
    write(random, arena, start, length);
    const target = arena.target(start, length);
    const digests: number[] = [];
    // What is outside makes no difference to what is read.
    for (const canary of [0, 0xa5]) {
      arena.guard(start, length, canary);
      digest = 0;
      reader.reset(target);
      messages += readAll(reader, length);
      digests.push(digest);
      if (!arena.intact(start, length, canary)) throw new Error(`input ${input} wrote outside`);
    }
    if (digests[0] !== digests[1]) throw new Error(`input ${input} read outside`);
    // A part of them costs more to look at: short ones, and those of any length.
    if (input % 64 > 1) continue;
    const before = target.toHex();
    const objects = decodeControl(target).length;
    reader.reset(target);
    expect(places(reader)).toEqual(expectedPlaces(arena.memory, start, length));
    reader.reset(target);
    expect(readAll(reader, length)).toBe(objects);
    reader.reset(target, length >> 1);
    expect(places(reader)).toEqual(expectedPlaces(arena.memory, start, length >> 1));
    reader.reset(target);
    while (reader.next())
      fold([reader.data, reader.address, reader.localAddress, reader.ns].length);
    expect(target.toHex()).toBe(before);
  }
  // Most of them have some: it is not the noise alone that is read.
  expect(messages).toBeGreaterThan(INPUTS);
}, 60_000);

test(`what is written stays within its bounds, and is read again (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const arena = new Arena();
  const data = noiseOf(random, 64);
  for (let input = 0; input < 20_000; input++) {
    const length = random.below(BYTES_MAX + 1);
    const start = GUARD + random.below(8);
    arena.guard(start, length, 0xa5);
    const target = arena.target(start, length);
    target.fill(0x5a);
    const writer = new ControlWriter(target);
    const written: string[] = [];
    for (let tries = 0; tries < 6; tries++) {
      const bytes = data.subarray(0, random.below(65));
      const [level, type] = [random.next(), random.next()];
      const before = writer.length;
      const aligned = before + (-before & 7);
      try {
        writer.add(level, type, bytes);
        written.push(`${level} ${type} ${bytes.toHex()}`);
        if (aligned + HEADER + bytes.length > length) throw new Error(`input ${input} did not fit`);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        const fits = aligned + HEADER + bytes.length <= length;
        if (fits || writer.length !== before) throw new Error(`input ${input}: ${error.message}`);
      }
    }
    if (!arena.intact(start, length, 0xa5)) throw new Error(`input ${input} wrote outside`);
    if (target.subarray(writer.length).some((byte) => byte !== 0x5a))
      throw new Error(`input ${input} wrote behind its end`);
    const reader = new ControlReader(writer.bytes);
    const found: string[] = [];
    while (reader.next()) found.push(`${reader.level} ${reader.type} ${reader.data.toHex()}`);
    expect(found).toEqual(written);
  }
}, 60_000);
