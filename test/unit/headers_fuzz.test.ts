/**
 * A million hostile inputs for each header: whatever the bytes say, no accessor reads or writes
 * outside of the frame.
 *
 * The frame stands in the middle of a larger buffer, and the same frame in a second one, whose other
 * bytes are others. What is read from both must be the same, or a byte outside has been read; the
 * other bytes must stay as they were, or one has been written. Getters and setters are found on the
 * classes themselves, so that none is forgotten.
 *
 * @module
 */
import { afterEach, expect, test } from "bun:test";
import {
  ArpHeader,
  CookedHeader,
  CookedHeader2,
  EthernetHeader,
  type Header,
  type HeaderOptions,
  IcmpHeader,
  Icmpv6Header,
  Ipv4Header,
  Ipv6ExtensionHeader,
  Ipv6Header,
  LoopbackHeader,
  PacketView,
  TcpHeader,
  UdpHeader,
  VlanHeader,
} from "../../lib/packet/index.ts";

const INPUTS = 1_000_000;
// The frame is at another place and of another length for each so many inputs.
const ROUND = 200;
const FRAME_BYTES_MAX = 320;
const FRAME_OFFSET_MIN = 64;
const BYTES = FRAME_OFFSET_MIN + 8 + FRAME_BYTES_MAX + 64;
const WORDS = BYTES / 4;

// How often what allocates, or throws, takes its turn.
const SELDOM = 64;

/** One thing that is fuzzed: two of it, each over memory of its own. */
interface Subject {
  /** Moves to the frame, after bytes were made likely; tells whether it fits. */
  at(memory: Memory, offset: number, end: number, random: number): boolean;
  /** Sums up what all numbers and flags say. */
  read(memory: Memory): number;
  /** Does one thing that changes the frame. */
  change(memory: Memory, which: number, value: number): void;
  /** Sums up what allocates: texts and copies. */
  describe(memory: Memory): number;
}

type Memory = 0 | 1;

/** How one header is fuzzed. */
interface Recipe<H extends Header> {
  readonly make: (memory: DataView) => H;
  /** The bytes of the shortest: lengths around it are the most interesting. */
  readonly shortest: number;
  /** Writes what makes the input likely to be taken; `random` has 32 bits. */
  readonly likely?: (draft: Draft, random: number) => void;
  readonly at?: (header: H, offset: number, end: number, random: number) => boolean;
  readonly read?: (header: H, ip: IpHeaders) => number;
  readonly change?: readonly ((header: H, value: number, ip: IpHeaders) => void)[];
}

/** Writes bytes of the frame, those that it has, by their place in it. */
interface Draft {
  set8(at: number, byte: number): void;
  set16(at: number, value: number): void;
}

interface IpHeaders {
  readonly ipv4: Ipv4Header;
  readonly ipv6: Ipv6Header;
}

const SCRATCH = new Uint8Array(32).fill(0x3c);
const SKIPPED = new Set(["constructor", "memory", "isPresent", "layers", "ip", "options"]);
const TEXTS =
  /^(source|destination|target|address|redirectDestination|(sender|target)(Hardware|Protocol))$/;

function readOptions(options: HeaderOptions): number {
  let sum = 0;
  let count = 0;
  while (options.next()) {
    sum = mix(sum, options.kind * 512 + options.bytes);
    sum = mix(sum, options.valueOffset + options.valueBytes);
    sum = mix(sum, options.uint8(0) + options.uint16(1) + options.uint32(2));
    if (++count > FRAME_BYTES_MAX) throw new Error("the walk over options does not end");
  }
  return mix(sum, options.isDamaged ? 1 : 0);
}

function setOptions(options: HeaderOptions, value: number): void {
  while (options.next()) {
    if (options.valueBytes >= 1) options.setUint8(options.valueBytes - 1, value & 0xff);
    if (options.valueBytes >= 2) options.setUint16(options.valueBytes - 2, value & 0xffff);
    if (options.valueBytes >= 4) options.setUint32(options.valueBytes - 4, value >>> 0);
  }
}

// A recipe of IPv4 and IPv6 headers that transport headers can be in.
function placeIp({ ipv4, ipv6 }: IpHeaders, offset: number): Ipv4Header | Ipv6Header {
  return (offset & 1) === 0 ? ipv4 : ipv6;
}

const transportChanges: readonly ((
  header: UdpHeader | TcpHeader | Icmpv6Header,
  value: number,
  ip: IpHeaders,
) => void)[] = [
  (header, value) => header.updateChecksum(value & 0xffff, value >>> 16),
  (header, _, ip) => header.fillChecksum(placeIp(ip, header.offset)),
];

function readTransport(header: UdpHeader | TcpHeader | Icmpv6Header, ip: IpHeaders): number {
  // Sums take the longest: one of sixteen will do.
  if ((header.checksum & 15) !== 0) return 0;
  const status = header.checksumStatus(placeIp(ip, header.offset));
  return mix(header.computeChecksum(placeIp(ip, header.offset)), status.length);
}

function recipe<H extends Header>(given: Recipe<H>): Recipe<Header> {
  return given as unknown as Recipe<Header>;
}

// Those with the most to do first: the engine is fastest before it has seen many classes.
const RECIPES: Readonly<Record<string, Recipe<Header>>> = {
  TcpHeader: recipe({
    make: (memory) => new TcpHeader(memory),
    shortest: 20,
    likely: (draft, random) => {
      draft.set8(12, random & 0xff);
      let at = 20;
      for (let i = 0; i < 5; i++) {
        const kind = (random >>> (8 + 4 * i)) & 0xf;
        draft.set8(at, kind);
        const bytes = [1, 1, 4, 3, 2, 18, 0, 1, 10][kind] ?? kind;
        if (bytes > 1) draft.set8(at + 1, bytes);
        at += bytes;
      }
    },
    read: (header, ip) => {
      const sack = (header.sackStart(1) ?? 0) + (header.sackEnd(header.sackBlocks - 1) ?? 0);
      return mix(mix(readOptions(header.options), readTransport(header, ip)), sack);
    },
    change: [
      ...transportChanges,
      (header, value) => header.rewriteSourcePort(value & 0xffff),
      (header, value) => header.rewriteDestinationPort(value & 0xffff),
      (header, value) => header.rewriteMaximumSegmentBytes(value & 0xffff),
      (header, value) => setOptions(header.options, value),
    ],
  }),
  Icmpv6Header: recipe({
    make: (memory) => new Icmpv6Header(memory),
    shortest: 24,
    likely: (draft, random) => {
      if ((random & 3) !== 0) draft.set8(0, 133 + ((random >>> 8) % 5));
      const at = [8, 16, 24, 24, 40][(random >>> 8) % 5] ?? 0;
      if ((random & 12) !== 0) draft.set8(at + 1, (random >>> 16) & 3);
    },
    read: (header, ip) => {
      const has = header.copyTarget(SCRATCH, 4);
      const copied = has && header.targetEquals(SCRATCH, 4) ? (SCRATCH[19] ?? 0) : 0;
      return mix(readOptions(header.options), readTransport(header, ip) + copied);
    },
    change: [
      ...transportChanges,
      (header) => header.setTarget(SCRATCH, 5),
      (header, value) => setOptions(header.options, value),
    ],
  }),
  Ipv6Header: recipe({
    make: (memory) => new Ipv6Header(memory),
    shortest: 40,
    likely: (draft, random) => {
      draft.set8(0, 0x60 | (random & 0xf));
      likelyExtension(draft, 6, random >>> 4);
      draft.set16(4, random & 0x10000 ? (random >>> 8) & 0x1ff : 0);
      // A chain of short ones, some of which say something else.
      for (let i = 0; i < 20; i++) {
        const at = 40 + i * 8;
        if (((random >>> i) & 1) === 0) continue;
        likelyExtension(draft, at, random >>> (i & 7));
        draft.set8(at + 1, (random >>> 24) & ((i & 3) === 0 ? 3 : 0));
      }
    },
    read: (header) => {
      header.copyDestination(SCRATCH, 1);
      return mix(header.pseudoHeaderSum(6, 20), header.sourceWord(3) + (SCRATCH[16] ?? 0));
    },
    change: [
      (header) => header.decrementHopLimit(),
      (header) => header.setSource(SCRATCH, 16),
      (header) => header.setDestination(SCRATCH),
      (header, _, { ipv4 }) => header.rewriteSource(SCRATCH, 3, ipv4),
    ],
  }),
  Ipv4Header: recipe({
    make: (memory) => new Ipv4Header(memory),
    shortest: 20,
    likely: (draft, random) => {
      draft.set8(0, 0x40 | (random & 0xf));
      if ((random & 0x300) === 0) draft.set8(20, 131 + ((random >>> 10) & 8));
      if ((random & 0x3000) !== 0) draft.set16(2, (random >>> 16) & 0x1ff);
    },
    read: (header) =>
      mix(
        mix(readOptions(header.options), header.computeChecksum()),
        header.pseudoHeaderSum(17, 8) + (header.sourceEquals(SCRATCH) ? 1 : 0),
      ),
    change: [
      (header) => header.fillChecksum(),
      (header) => header.decrementTtl(),
      (header, value) => header.updateChecksum(value & 0xffff, value >>> 16),
      (header, value) => header.rewriteSource(value >>> 0),
      (header, value) => header.rewriteDestination(value >>> 0),
      (header) => header.setSource(SCRATCH, 28),
      (header) => header.setDestination(SCRATCH),
      (header, value) => setOptions(header.options, value),
    ],
  }),
  Ipv6ExtensionHeader: recipe({
    make: (memory) => new Ipv6ExtensionHeader(memory),
    shortest: 8,
    likely: (draft, random) => {
      likelyExtension(draft, 0, random);
      draft.set8(1, (random >>> 16) & 7);
    },
    at: (header, offset, end, random) =>
      header.at(offset, end, [0, 43, 44, 60, 51, 135, 50, random & 0xff][(random >>> 8) & 7]),
    read: (header) => readOptions(header.options),
    change: [
      (header, value) => setOptions(header.options, value),
      (header) => {
        let count = 0;
        while (header.next()) if (++count > FRAME_BYTES_MAX) throw new Error("endless");
      },
    ],
  }),
  UdpHeader: recipe({
    make: (memory) => new UdpHeader(memory),
    shortest: 8,
    likely: (draft, random) =>
      draft.set16(4, (random & 0x1000000) === 0 ? random & 0xffff : random & 0xff),
    read: readTransport,
    change: [
      ...transportChanges,
      (header, value) => header.rewriteSourcePort(value & 0xffff),
      (header, value) => header.rewriteDestinationPort(value & 0xffff),
    ],
  }),
  ArpHeader: recipe({
    make: (memory) => new ArpHeader(memory),
    shortest: 28,
    likely: (draft, random) => {
      draft.set8(4, (random & 0x300) === 0 ? random & 0xff : 6);
      draft.set8(5, (random & 0xc00) === 0 ? (random >>> 16) & 0xff : 4);
    },
  }),
  IcmpHeader: recipe({
    make: (memory) => new IcmpHeader(memory),
    shortest: 8,
    read: (header, { ipv4 }) => {
      if ((header.checksum & 15) !== 0) return 0;
      return mix(header.computeChecksum(), header.checksumStatus(ipv4).length);
    },
    change: [
      (header) => header.fillChecksum(),
      (header, value) => header.updateChecksum(value & 0xffff, value >>> 16),
    ],
  }),
  EthernetHeader: recipe({
    make: (memory) => new EthernetHeader(memory),
    shortest: 14,
    likely: (draft, random) => draft.set16(12, random & 0x7ff),
    read: (header) => {
      header.copySource(SCRATCH);
      return header.destinationEquals(SCRATCH) ? 1 : (SCRATCH[5] ?? 0);
    },
    change: [(header) => header.setSource(SCRATCH, 7), (header) => header.setDestination(SCRATCH)],
  }),
  VlanHeader: recipe({ make: (memory) => new VlanHeader(memory), shortest: 4 }),
  CookedHeader: recipe({
    make: (memory) => new CookedHeader(memory),
    shortest: 16,
    read: (header) => mix(header.copyAddress(SCRATCH), SCRATCH[0] ?? 0),
  }),
  CookedHeader2: recipe({
    make: (memory) => new CookedHeader2(memory),
    shortest: 20,
    read: (header) => mix(header.copyAddress(SCRATCH), SCRATCH[0] ?? 0),
  }),
  LoopbackHeader: recipe({ make: (memory) => new LoopbackHeader(memory), shortest: 4 }),
};

function likelyExtension(draft: Draft, at: number, random: number): void {
  draft.set8(at, [0, 43, 44, 60, 51, 17, 6, 58, 59, 50, 0, 43, 44, 60, 51, 0][random & 15] ?? 0);
}

/** The property descriptors of a class and of those above it, below Object. */
function accessorsOf(value: object): [name: string, accessor: PropertyDescriptor][] {
  const found = new Map<string, PropertyDescriptor>();
  let prototype: object = Object.getPrototypeOf(value);
  while (prototype !== Object.prototype) {
    for (const [name, accessor] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
      if (accessor.get && !SKIPPED.has(name) && !found.has(name)) found.set(name, accessor);
    prototype = Object.getPrototypeOf(prototype);
  }
  return [...found];
}

/**
 * A function that sums up what getters say. Compiled for each class, because the engine is slow
 * where one place in the code sees many classes.
 */
function compileRead(names: readonly string[]): (header: object) => number {
  const lines = names.map((name) => {
    const value = `value = header.${name};`;
    // Of hardware addresses, what is above 32 bits counts too.
    const high = name.endsWith("Value") ? "sum = mix(sum, value / 0x100000000);" : "";
    return `${value} sum = mix(sum, +value); ${high}`;
  });
  const body = `return (header) => { let sum = 0, value; ${lines.join("\n")} return sum; };`;
  return new Function("mix", body)(mix);
}

function compileAt(): NonNullable<Recipe<Header>["at"]> {
  const body = "return header.at(offset, end)";
  return new Function("header", "offset", "end", body) as ReturnType<typeof compileAt>;
}

// The largest of some numbers that a setter takes: how wide its field is.
function widthOf(header: Header, name: string): number {
  for (const bits of [48, 32, 20, 16, 13, 12, 9, 8, 6, 4, 3, 2]) {
    try {
      (header as unknown as Record<string, number>)[name] = 2 ** bits - 1;
      return 2 ** bits;
    } catch (error) {
      if (error instanceof TypeError) return 0x10000;
    }
  }
  return 0x100;
}

// Compiled for the same reason.
function compileSet(header: Header, name: string): (header: Header, random: number) => void {
  const steps = name === "headerBytes" ? 4 : name === "fragmentOffset" ? 8 : 1;
  const isFlag = typeof (header as unknown as Record<string, unknown>)[name] === "boolean";
  const width = isFlag ? 2 : widthOf(header, name);
  const value = isFlag ? "(random & 1) === 1" : `value - value % ${steps}`;
  const body = `const value = random % ${width}; header.${name} = ${value};`;
  return new Function("header", "random", body) as ReturnType<typeof compileSet>;
}

function subjectOf(
  { make, likely, at, read, change = [] }: Recipe<Header>,
  views: readonly DataView[],
): Subject {
  const headers = views.map((view) => make(view));
  const ips = views.map((view) => ({ ipv4: new Ipv4Header(view), ipv6: new Ipv6Header(view) }));
  const probe = make(new DataView(new ArrayBuffer(FRAME_BYTES_MAX)));
  likely?.(
    {
      set8: (at, byte) => probe.memory.setUint8(at, byte),
      set16: (at, value) => probe.memory.setUint16(at, value),
    },
    0x0505_0505,
  );
  probe.memory.setUint8(0, probe instanceof Ipv6Header ? 0x60 : 0x45);
  if (probe instanceof TcpHeader) probe.memory.setUint8(12, 0x50);
  expect(probe.at(0)).toBeTrue();

  const accessors = accessorsOf(probe);
  const numbers = accessors.filter(([name]) => !TEXTS.test(name)).map(([name]) => name);
  const texts = accessors.filter(([name]) => TEXTS.test(name)).map(([name]) => name);
  const setters = accessors
    .filter(([name, { set }]) => set && !TEXTS.test(name))
    .map(([name]) => compileSet(probe, name));
  const readNumbers = compileRead(numbers);
  const move = at ?? compileAt();
  const changes = [...setters, ...change];

  return {
    at(memory, offset, end, random) {
      const ip = ips[memory] as IpHeaders;
      // What a transport header is in need not be in front of it.
      ip.ipv4.at(offset, end);
      ip.ipv6.at(offset, end);
      return move(headers[memory] as Header, offset, end, random);
    },
    read(memory) {
      const header = headers[memory] as Header;
      const sum = readNumbers(header);
      return read ? mix(sum, read(header, ips[memory] as IpHeaders)) : sum;
    },
    change(memory, which, value) {
      changes[which % changes.length]?.(headers[memory] as Header, value, ips[memory] as IpHeaders);
    },
    describe(memory) {
      const header = headers[memory] as unknown as Record<string, string | undefined>;
      let sum = 0;
      for (const name of texts) sum = mix(sum, Bun.hash.crc32(header[name] ?? "none"));
      return sum;
    },
  };
}

function mix(sum: number, value: number): number {
  return Math.imul((sum ^ value) + 0x9e37_79b9, 0x85eb_ca6b) | 0;
}

// Marsaglia's xorshift: a seed tells the whole run.
let state = 0;
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return state >>> 0;
}

/** Two buffers with the same frame, and other bytes around it. */
class Arena implements Draft {
  readonly views: readonly [DataView, DataView];
  offset = 0;
  end = 0;
  readonly #words: readonly [Int32Array, Int32Array];
  readonly #poison: readonly [number, number] = [0, -1];

  constructor() {
    const buffers = [new ArrayBuffer(BYTES), new ArrayBuffer(BYTES)] as const;
    this.views = [new DataView(buffers[0]), new DataView(buffers[1])];
    this.#words = [new Int32Array(buffers[0]), new Int32Array(buffers[1])];
  }

  /** Chooses a place and a length, and fills everything anew. */
  renew(shortest: number): void {
    const kind = random() & 3;
    const near = shortest - 4 + (random() % 12);
    const length = kind === 0 ? near : random() % (kind === 1 ? FRAME_BYTES_MAX + 1 : 100);
    this.offset = FRAME_OFFSET_MIN + (random() & 7);
    this.end = this.offset + Math.max(0, length);
    for (const memory of [0, 1] as const) this.#words[memory].fill(this.#poison[memory]);
    for (let at = this.offset; at < this.end; at++) this.#set(at, random() & 0xff);
  }

  #set(at: number, byte: number): void {
    this.views[0].setUint8(at, byte);
    this.views[1].setUint8(at, byte);
  }

  /** Changes a few bytes, most of them at the beginning, and lets a recipe make them likely. */
  mutate(likely: Recipe<Header>["likely"]): void {
    const length = this.end - this.offset;
    for (let i = 0; i < 2 && length > 0; i++) {
      const where = random();
      const place = (where >>> 16) % ((where & 1) === 0 ? length : Math.min(length, 64));
      this.#set(this.offset + place, (where >>> 1) & 0xff);
    }
    if (!likely || (random() & 7) === 0) return;
    likely(this, random());
  }

  set8(at: number, byte: number): void {
    if (this.offset + at < this.end) this.#set(this.offset + at, byte);
  }

  set16(at: number, value: number): void {
    this.set8(at, value >>> 8);
    this.set8(at + 1, value & 0xff);
  }

  /** Whether all bytes around the frame are as they were, and the frames the same. */
  isWhole(): boolean {
    const first = this.#words[0];
    const second = this.#words[1];
    // Words that are partly in the frame are looked at byte by byte.
    const start = this.offset >>> 2;
    const stop = (this.end + 3) >>> 2;
    for (let i = 0; i < start; i++) if (first[i] !== 0 || second[i] !== -1) return false;
    for (let i = stop; i < WORDS; i++) if (first[i] !== 0 || second[i] !== -1) return false;
    for (let at = start * 4; at < this.offset; at++) if (!this.#isPoison(at)) return false;
    for (let at = this.end; at < stop * 4; at++) if (!this.#isPoison(at)) return false;
    return true;
  }

  #isPoison(at: number): boolean {
    return this.views[0].getUint8(at) === 0 && this.views[1].getUint8(at) === 0xff;
  }

  /** The frame, to see a failure again. */
  get hex(): string {
    return Buffer.from(this.views[0].buffer).toString("hex", this.offset, this.end);
  }
}

function attempt(change: () => void): string {
  try {
    change();
    return "";
  } catch (error) {
    // A setter of what the header has not, or whose value is not one of its own.
    if (error instanceof RangeError || error instanceof TypeError) return error.message;
    throw error;
  }
}

function fuzz(subject: Subject, arena: Arena, { likely, shortest }: Recipe<Header>): number {
  let taken = 0;
  for (let i = 0; i < INPUTS; i++) {
    if (i % ROUND === 0) arena.renew(shortest);
    arena.mutate(likely);
    const choice = random();
    const { offset, end } = arena;
    const isTaken = subject.at(0, offset, end, choice);
    const agrees = subject.at(1, offset, end, choice) === isTaken;
    if (!agrees || subject.read(0) !== subject.read(1)) fail(arena, "read outside of");
    if (isTaken) taken++;
    if (i % SELDOM === 0 && subject.describe(0) !== subject.describe(1))
      fail(arena, "read outside of");
    // What is nowhere refuses every change.
    if (i % 16 !== 0 || !(isTaken || i % 64 === 0)) continue;
    const value = random();
    const which = value >>> 8;
    const told = attempt(() => subject.change(0, which, value));
    const toldToo = attempt(() => subject.change(1, which, value));
    if (told !== toldToo || subject.read(0) !== subject.read(1)) fail(arena, "told of");
    if (!arena.isWhole()) fail(arena, "written outside of");
  }
  return taken;
}

function fail(arena: Arena, what: string): never {
  throw new Error(`A byte was ${what} the frame: seed of the moment ${state}, ${arena.hex}`);
}

const { stackTraceLimit } = Error;
afterEach(() => {
  Error.stackTraceLimit = stackTraceLimit;
});

test.each(Object.entries(RECIPES))(
  "%s never leaves a frame, a million times",
  (name, made) => {
    state = Bun.hash.crc32(name) | 1;
    // Of errors that are thrown only to be caught.
    Error.stackTraceLimit = 0;
    const arena = new Arena();
    const taken = fuzz(subjectOf(made, arena.views), arena, made);
    // Inputs that are refused at once prove little.
    expect(taken).toBeGreaterThan(INPUTS / 4);
    expect(taken).toBeLessThan(INPUTS);
  },
  120_000,
);

// Link types, where each says what it carries, and where that begins.
const LINKS: readonly (readonly [linkType: number, type: number, bytes: number])[] = [
  [1, 12, 14],
  [1, 12, 14],
  [1, 12, 14],
  [113, 14, 16],
  [276, 0, 20],
  [0, -1, 4],
  [108, -1, 4],
  [101, -1, 0],
  [228, -1, 0],
  [229, -1, 0],
  [12, -1, 0],
  [9, -1, 0],
];

// Writes what leads on to the next header.
function likelyFrame(draft: Draft, link: (typeof LINKS)[number], choice: number): void {
  const [, type, bytes] = link;
  const isIpv6 = (choice & 1) === 1;
  const isTagged = type >= 0 && (choice & 6) === 6;
  const etherType = (choice & 0x78) === 0x78 ? 0x0806 : isIpv6 ? 0x86dd : 0x0800;
  const at = isTagged ? bytes + 4 : bytes;
  if (isTagged) draft.set16(bytes + 2, etherType);
  if (type >= 0) draft.set16(type, isTagged ? 0x8100 : etherType);
  else if (bytes === 4) {
    draft.set16(0, 0);
    draft.set16(2, isIpv6 ? 30 : 2);
  }
  const protocol = [17, 6, 1, 58][(choice >>> 12) & 3] ?? 0;
  if (isIpv6) {
    draft.set8(at, 0x60);
    draft.set16(at + 4, choice >>> 24);
    draft.set8(at + 6, protocol);
    return;
  }
  draft.set8(at, 0x45 + ((choice >>> 8) & 3));
  draft.set16(at + 2, choice >>> 24);
  draft.set8(at + 6, (choice & 0x4000) === 0 ? 0 : 0x20);
  draft.set8(at + 7, 0);
  draft.set8(at + 9, protocol);
}

// The compiled getters of each kind of header, by its class.
const readers = new Map<unknown, (header: object) => number>();

function readLayer(header: Header): number {
  let read = readers.get(header.constructor);
  if (!read) {
    read = compileRead(
      accessorsOf(header)
        .map(([name]) => name)
        .filter((name) => !TEXTS.test(name)),
    );
    readers.set(header.constructor, read);
  }
  return read(header);
}

function readPacket(packet: PacketView): number {
  const { payloadOffset, payloadEnd, etherType, vlanCount, ip, udp, tcp } = packet;
  let sum = mix(mix(payloadOffset, payloadEnd), etherType + vlanCount);
  sum = mix(sum, udp ? udp.sourcePort : tcp ? tcp.destinationPort : -1);
  return mix(sum, ip ? ip.payloadEnd : -1);
}

test("PacketView never leaves a frame, a million times", () => {
  state = Bun.hash.crc32("PacketView") | 1;
  const arena = new Arena();
  const packets = arena.views.map((view) => new PacketView(view)) as [PacketView, PacketView];
  const seen = new Set<string>();
  let taken = 0;
  for (let i = 0; i < INPUTS; i++) {
    if (i % ROUND === 0) arena.renew(40);
    const link = LINKS[random() % LINKS.length] as (typeof LINKS)[number];
    const linkType = link[0];
    arena.mutate((draft, choice) => likelyFrame(draft, link, choice));
    const { offset, end } = arena;
    const isTaken = packets[0].at(offset, end, linkType);
    if (packets[1].at(offset, end, linkType) !== isTaken) fail(arena, "read outside of");
    if (readPacket(packets[0]) !== readPacket(packets[1])) fail(arena, "read outside of");
    if (!isTaken) continue;
    taken++;
    const { payloadOffset, payloadEnd } = packets[0];
    if (payloadOffset < offset || payloadEnd < payloadOffset || payloadEnd > end)
      fail(arena, "given outside of");
    if (i % 16 !== 0) continue;
    const layers = packets.map((packet) => packet.layers) as [Header[], Header[]];
    seen.add(layers[0].map((layer) => layer.constructor.name.replace("Header", "")).join(" "));
    for (const [place, layer] of layers[0].entries()) {
      const other = layers[1][place];
      if (!other || readLayer(layer) !== readLayer(other)) fail(arena, "read outside of");
      if (layer.offset < offset || layer.end > end) fail(arena, "given outside of");
    }
  }
  expect(taken).toBeGreaterThan(INPUTS / 2);
  // That it has gone far down, on many ways.
  expect(seen.size).toBeGreaterThan(40);
  for (const deep of [
    "Ethernet Vlan Ipv4 Udp",
    "Ethernet Ipv6 Tcp",
    "Cooked2 Vlan Ipv4 Icmp",
    "Loopback Ipv6 Icmpv6",
  ])
    expect([...seen].join(", ")).toContain(deep);
}, 120_000);
