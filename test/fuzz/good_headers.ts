/**
 * Arguments for headers, their options and PacketView. What a call writes is to lie between the two
 * offsets that `at` was given: every other byte of the memory is looked at after it.
 *
 * @module
 */
import * as packet from "bun-sockets/packet";
import { Header, Ipv4Header, PacketView } from "bun-sockets/packet";
import { HeaderOptions } from "../../lib/packet/headers/options.ts";
import type { Choices } from "./choices.ts";
import { accepts, type Draft, lengthOf, type Plan, type Row } from "./draft.ts";
import { Failure } from "./failure.ts";

type HeaderClass = new (memory: ArrayBufferView) => Header;

const MAC = "020000000001";
const IN4 = "c0000201c0000202";
const IN6 = "20010db8000000000000000000000001" + "20010db8000000000000000000000002";
const UDP = "0035c000000a0000" + "6869";
const IPV4 = `4500001e000000004011f6cd${IN4}${UDP}`;
const IPV6 = `60000000000a1140${IN6}${UDP}`;
const TARGET = "fe800000000000000000000000000001";

/** What frames have from these headers on. */
const FRAMES: Readonly<Record<string, readonly string[]>> = {
  ArpHeader: [
    `0001080006040001${MAC}c0000201000000000000c0000202`,
    "0006080003020002" + "010203c000040506c001",
  ],
  CookedHeader: [`000000010006${MAC}00000800${IPV4}`, `0004030400000000000000000000${IPV4}`],
  CookedHeader2: [`0800000000000001000100 06${MAC}0000${IPV4}`.replace(" ", "")],
  EthernetHeader: [
    `${MAC}0200000000020800${IPV4}`,
    `ffffffffffff020000000002${"81006005".repeat(2)}86dd${IPV6}`,
    `${MAC}0200000000020806${"0001080006040001"}${MAC}c0000201000000000000c0000202`,
    `${MAC}0200000000020010${"00".repeat(40)}`,
    `${MAC}0200000000020800450000280001000040060000${IN4}0050c000000000010000000250101000aabb0000`,
    `${MAC}02000000000208004500001c0001000040010000${IN4}0800f7fe00010000`,
    `${MAC}02000000000286dd6000000000183aff${IN6}8700000000000000${TARGET}`,
  ],
  IcmpHeader: [
    "0800f7fe00010000" + "6461746100",
    `0304000000000500${IPV4}`,
    "0501000001020304",
    "0c00000008000000",
  ],
  Icmpv6Header: [
    "8000000000010002" + "aabb",
    `8700000000000000${TARGET}0101${MAC}`,
    `88000000e0000000${TARGET}0201${MAC}`,
    `8600000040c007080000ea60000003e80101${MAC}05010000000005dc`,
    `8900000000000000${TARGET}${TARGET}0401000000000000`,
    `0100000000000000${IPV6}`,
    "0200000000000500",
  ],
  Ipv4Header: [
    IPV4,
    `4800002a00010000401100 00${IN4}830b04c0000203c000020400${UDP}`.replace(" ", ""),
    `4500001e0001200040110000${IN4}${UDP}`,
    `4500001e0001000240110000${IN4}${UDP}`,
    `4500000000014000ff060000${IN4}${"00".repeat(20)}`,
  ],
  Ipv6Header: [
    IPV6,
    `6000000000120040${IN6}1100050200000100${UDP}`,
    `60000000001a2b40${IN6}1102000200000000${IN6}${UDP}`,
    `6000000000122c40${IN6}1100000100000007${UDP}`,
  ],
  Ipv6ExtensionHeader: [
    "1100050200000100",
    `1102000200000000${IN6}`,
    "1100000100000007",
    `110400000000000100000002${"00".repeat(12)}`,
    "1100010400000000",
  ],
  LoopbackHeader: [`02000000${IPV4}`, `0000001e${IPV6}`],
  TcpHeader: [
    "0050c0000000000100000002a012ffff00000000" +
      "020405b4" +
      "0402080a0000000100000002" +
      "01030307",
    "0050c00000000001000000028010ffff00000000" + "0101050a0000000a0000000b",
    "0050c0000000000100000002501000ff0000000064617461",
  ],
  UdpHeader: [UDP, "0035c00000080000", "0035c000000a12346869", "0035c00000081234"],
  VlanHeader: [`60050800${IPV4}`, "e00188a8"],
};
const ALL_FRAMES = Object.values(FRAMES).flat();

const CLASSES: ReadonlyMap<string, HeaderClass> = new Map(
  Object.entries(packet).filter((pair): pair is [string, HeaderClass & (typeof pair)[1]] => {
    const [, value] = pair as [string, unknown];
    return typeof value === "function" && value.prototype instanceof Header;
  }) as [string, HeaderClass][],
);

/** Memory with a frame in it, and where that is. */
interface Frame {
  readonly memory: ArrayBufferView;
  readonly offset: number;
  readonly end: number;
}

const ROOM = 64;

/** A frame of those, or one that something is wrong with. */
export function frameBytes({ choices }: Draft, texts: readonly string[] = ALL_FRAMES): Buffer {
  const way = choices.below(100);
  if (way < 10) return noise(choices, choices.below(120));
  const bytes = Buffer.from(choices.pick(texts), "hex");
  if (way < 60) return bytes;
  for (let i = 1 + choices.below(3); i > 0; i--)
    bytes[choices.below(bytes.length)] = choices.pick([0, 1, 0xff, choices.below(256)]);
  return choices.chance(20) ? bytes.subarray(0, choices.below(bytes.length + 1)) : bytes;
}

function noise(choices: Choices, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => choices.below(256)));
}

function frame(draft: Draft, texts?: readonly string[]): Frame {
  const { choices } = draft;
  const bytes = frameBytes(draft, texts);
  const inside = choices.pick([0, 0, 1, 14, 37]);
  const before = choices.pick([0, 8, 16]);
  const behind = choices.pick([0, 1, 30, ROOM]);
  const buffer = new ArrayBuffer(before + inside + bytes.length + behind + ROOM);
  const length = inside + bytes.length + behind;
  new Uint8Array(buffer).fill(0xc3);
  new Uint8Array(buffer).set(bytes, before + inside);
  const memory = choices.pick([
    () => new Uint8Array(buffer, before, length),
    () => Buffer.from(buffer, before, length),
    () => new DataView(buffer, before, length),
    () => new Int8Array(buffer, before, length),
  ])();
  const end = choices.chance(80)
    ? inside + bytes.length
    : inside + choices.below(bytes.length + behind + 1);
  return { memory, offset: inside, end };
}

/** A header of the class that a call is of, at a frame mostly. */
function header(draft: Draft, className = draft.entry.className as string): Header {
  const { choices, world } = draft;
  const has = world.packets.headers.filter((made) => made.constructor.name === className);
  if (has.length > 0 && choices.chance(25)) return choices.pick(has);
  const name = className === "Header" ? choices.pick([...CLASSES.keys()]) : className;
  const type = CLASSES.get(name) as HeaderClass;
  const texts = FRAMES[name];
  const only = className === draft.entry.className ? texts?.[wanted(draft.entry.key)] : undefined;
  const { memory, offset, end } = frame(draft, only === undefined ? texts : [only]);
  const made = new type(memory);
  if (choices.chance(97)) move(draft, made, offset, end);
  return world.packets.addHeader(made);
}

// The type of an extension header is not among its own bytes.
function move(draft: Draft, made: Header, offset: number, end: number): void {
  const { choices, entry } = draft;
  if (!(made instanceof packet.Ipv6ExtensionHeader)) made.at(offset, end);
  else made.at(offset, end, choices.pick(EXTENSIONS[wanted(entry.key)] ?? [0, 43, 44, 51, 60]));
}

// The numbers of extension headers in the order of the frames.
const EXTENSIONS: Readonly<Record<number, readonly number[]>> = {
  1: [43],
  2: [44],
  3: [51],
};

// What only one of the frames has.
const WANTED: readonly (readonly [RegExp, number])[] = [
  [/^set Ipv6ExtensionHeader.*(routingType|segmentsLeft)/, 1],
  [/^set Ipv6ExtensionHeader.*(fragmentOffset|moreFragments|identification)/, 2],
  [/^set Ipv6ExtensionHeader.*(securityParametersIndex|sequence)/, 3],
  [/^(set )?TcpHeader.*(aximumSegmentBytes|windowScale|timestamp)/, 0],
  [/^UdpHeader.*checksumStatus/, 2],
  [/^set Icmpv6Header.*(router(HopLimit|Pref|Life)|isManaged|hasOther|Ms$)/, 3],
  [
    /^set Icmpv6Header.*(isRouter|isSolicited|isOverride|target)|^Icmpv6Header.*((copy|set)Target|targetEquals)$/,
    2,
  ],
];

/** Which of the frames a member is about; -1 for all. */
function wanted(key: string): number {
  return WANTED.find(([members]) => members.test(key))?.[1] ?? -1;
}

/** An IP header, for checksums of what it carries. */
function ip(draft: Draft): Header {
  return header(draft, draft.choices.pick(["Ipv4Header", "Ipv6Header"]));
}

/** Throws when something was written outside of what the header was given. */
function guarded(receiver: Header | HeaderOptions, place: Header): Pick<Plan, "check"> {
  const { memory } = place;
  const { buffer } = memory;
  if ((buffer as ArrayBuffer).detached) return {};
  const start = memory.byteOffset + place.offset;
  const end = memory.byteOffset + place.end;
  const before = Buffer.from(Buffer.from(buffer as ArrayBuffer));
  return {
    check: (what) => {
      if ((buffer as ArrayBuffer).detached) return;
      const now = Buffer.from(buffer as ArrayBuffer);
      const isSame = (from: number, to: number) =>
        Buffer.compare(now.subarray(from, to), before.subarray(from, to)) === 0;
      if (!isSame(0, start) || !isSame(end, now.length))
        throw new Failure(`${what} of ${receiver.constructor.name} wrote outside of its header`);
    },
  };
}

const onHeader =
  (values: (draft: Draft, receiver: Header) => unknown[] = () => []): Row =>
  (draft) => {
    const receiver = header(draft);
    return { receiver, values: values(draft, receiver), ...guarded(receiver, receiver) };
  };

/** A value that a field takes: mostly the one that it has. */
function fieldValue(draft: Draft, receiver: Header, field: string): unknown {
  const { choices } = draft;
  let now: unknown;
  accepts(() => {
    now = (receiver as unknown as Record<string, unknown>)[field];
  });
  if (typeof now === "boolean") return choices.chance(50);
  if (typeof now === "string") return choices.chance(60) ? now : choices.pick(textsLike(now));
  if (choices.chance(40)) return now ?? 1;
  return choices.pick([0, 1, 1, 3, 8, 20, 0xff, 0xffff, 2 ** 32 - 1]);
}

function textsLike(text: string): readonly string[] {
  if (/^(\w\w:){5}\w\w$/.test(text)) return ["02:00:00:00:00:09", "ff:ff:ff:ff:ff:ff"];
  return text.includes(":") ? ["::", "2001:db8::1"] : ["192.0.2.9", "0.0.0.0"];
}

const word = ({ choices }: Draft) => choices.pick([0, 1, 53, 0xfffe, 0xffff]);
const target = ({ choices }: Draft) => [
  choices.pick([new Uint8Array(40), Buffer.alloc(64), new Uint8Array(16)]),
  choices.pick([undefined, 0, 3]),
];
const noValues = () => [];

// By the name of a method, where a class has none of its own.
const METHODS: Readonly<Record<string, (draft: Draft, receiver: Header) => unknown[]>> = {
  at: ({ choices }, { memory }) => {
    const length = lengthOf(memory);
    const offset = choices.pick([0, 1, 14, choices.below(length + 1)]);
    const end = choices.pick([undefined, length, offset + choices.below(length + 1), 4]);
    return [offset, end].slice(0, 1 + choices.below(2));
  },
  of: (draft) => [frame(draft).memory],
  leave: noValues,
  "[nodejs.util.inspect.custom]": noValues,
  next: noValues,
  decrementTtl: noValues,
  decrementHopLimit: noValues,
  first: (draft) => [header(draft, "Ipv6Header")],
  sourceAddress: (draft) => [draft.choices.pick([undefined, 0, 53])],
  destinationAddress: (draft) => [draft.choices.pick([undefined, 0, 53])],
  sourceWord: ({ choices }) => [choices.below(4)],
  destinationWord: ({ choices }) => [choices.below(4)],
  sackStart: ({ choices }) => [choices.below(4)],
  sackEnd: ({ choices }) => [choices.below(4)],
  rewriteSourcePort: (draft) => [word(draft)],
  rewriteDestinationPort: (draft) => [word(draft)],
  rewriteMaximumSegmentBytes: (draft) => [word(draft)],
  updateChecksum: (draft) => [word(draft), word(draft)],
  pseudoHeaderSum: (draft) => [draft.choices.pick([6, 17, 58]), word(draft)],
  computeChecksum: (draft) => [ip(draft)],
  fillChecksum: (draft) => [ip(draft)],
  checksumIsValid: (draft) => [ip(draft)],
  checksumStatus: (draft) => [
    ip(draft),
    ...draft.choices.pick([[], ["valid"], ["unfinished"], ["unknown"]]),
  ],
};

function methodValues(name: string): ((draft: Draft, receiver: Header) => unknown[]) | undefined {
  if (/^(copy|set)[A-Z]|Equals$/.test(name)) return target;
  return METHODS[name];
}

function rewriteAddress(draft: Draft, receiver: Header): unknown[] {
  const transport = draft.choices.pick([
    undefined,
    header(draft, "UdpHeader"),
    header(draft, "TcpHeader"),
  ]);
  if (receiver instanceof Ipv4Header) return [draft.choices.pick([0, 0xc0000207, 1]), transport];
  return [new Uint8Array(20), draft.choices.pick([0, 4]), transport ?? header(draft, "UdpHeader")];
}

function rowsOf(name: string, type: { readonly prototype: object }): [string, Row][] {
  return Reflect.ownKeys(type.prototype).flatMap((member): [string, Row][] => {
    if (member === "constructor") return [];
    const { get, set } = Object.getOwnPropertyDescriptor(type.prototype, member) ?? {};
    const text = typeof member === "symbol" ? `[${member.description}]` : member;
    const suffix = `${name}.prototype${typeof member === "symbol" ? "" : "."}${text}`;
    if (!get && !set) {
      const values = /^rewrite(Source|Destination)$/.test(text)
        ? rewriteAddress
        : methodValues(text);
      return values ? [[suffix, onHeader(values)]] : [];
    }
    const rows: [string, Row][] = [];
    if (get) rows.push([`get ${suffix}`, onHeader()]);
    if (set)
      rows.push([
        `set ${suffix}`,
        onHeader((draft, receiver) => [fieldValue(draft, receiver, text)]),
      ]);
    return rows;
  });
}

function withOptions(draft: Draft): Header {
  const { memory, offset, end } = frame(draft, FRAMES["TcpHeader"]?.slice(0, 1));
  const made = new packet.TcpHeader(memory);
  made.at(offset, end);
  return made;
}

/** The options of a header, somewhere in the middle. */
function options(draft: Draft): Plan {
  const { choices } = draft;
  const kinds = ["TcpHeader", "Ipv4Header", "Icmpv6Header", "Ipv6ExtensionHeader"];
  const sets = draft.entry.key.includes(".set") && choices.chance(60);
  const owner = sets ? withOptions(draft) : header(draft, choices.pick(kinds));
  let receiver: HeaderOptions | undefined;
  accepts(() => {
    ({ options: receiver } = owner as Header & { readonly options: HeaderOptions });
    // The third of that frame has room for 32 bits.
    const first = sets ? [1, 3, 3] : [0, 1, 1, 1, 2, 3];
    for (let i = choices.pick(first); i > 0; i--) receiver.next();
  });
  receiver ??= new HeaderOptions("tcp", new DataView(new ArrayBuffer(0)));
  return { receiver, values: [], ...guarded(receiver, owner) };
}

const onOptions =
  (values: (draft: Draft) => unknown[] = noValues): Row =>
  (draft) => ({ ...options(draft), values: values(draft) });

const index = ({ choices }: Draft) => choices.pick([0, 0, 0, 0, 1, 2, 6]);

const LINK_TYPES = ["ethernet", "raw", "linux_sll", "linux_sll2", "null", "loop", "ipv4", "ipv6"];

/** A PacketView, at a frame mostly. */
function packetView(draft: Draft): PacketView {
  const { choices, world } = draft;
  const { views } = world.packets;
  if (views.length > 0 && choices.chance(20)) return choices.pick(views);
  const { memory, offset, end } = frame(draft, FRAMES["EthernetHeader"]);
  const made = new PacketView(memory);
  if (choices.chance(90)) made.at(offset, Math.max(0, end - offset));
  if (views.push(made) > 4) views.shift();
  return made;
}

const onView =
  (values: (draft: Draft) => unknown[] = noValues): Row =>
  (draft) => ({ receiver: packetView(draft), values: values(draft) });

const VIEW = "PacketView.prototype.";

const headerEntries: [string, { readonly prototype: object }][] = [
  ["Header", Header],
  ...CLASSES.entries(),
];

const NO_IP: readonly unknown[] = [undefined, null, {}, 5, "ip", []];

/** Arguments that a call of a header refuses for reasons of its own; undefined where there are none. */
export function planRefusedHeader(draft: Draft): Plan | undefined {
  const { entry, choices } = draft;
  if (!/^\w+Header\.prototype\.checksumStatus$/.test(entry.key) || choices.chance(50))
    return undefined;
  const receiver = header(draft);
  return { receiver, values: [choices.pick(NO_IP)], ...guarded(receiver, receiver) };
}

/** Rows of headers. */
export const HEADER_ROWS: readonly [string, Row][] = [
  ...headerEntries.flatMap(([name, type]): [string, Row][] => [
    [`new ${name}`, (draft) => ({ receiver: undefined, values: [frame(draft).memory] })],
    ...rowsOf(name, type),
  ]),
  ...["kind", "offset", "bytes", "valueOffset", "valueBytes", "isDamaged"].map(
    (get): [string, Row] => [`get HeaderOptions.prototype.${get}`, onOptions()],
  ),
  ["HeaderOptions.prototype.next", onOptions()],
  ...["uint8", "uint16", "uint32"].map((call): [string, Row] => [
    `HeaderOptions.prototype.${call}`,
    onOptions((draft) => [index(draft)]),
  ]),
  ...["setUint8", "setUint16", "setUint32"].map((call): [string, Row] => [
    `HeaderOptions.prototype.${call}`,
    onOptions((draft) => [index(draft), draft.choices.pick([0, 1, 255])]),
  ]),
  ["new PacketView", (draft) => ({ receiver: undefined, values: [frame(draft).memory] })],
  ...(
    "memory offset payloadOffset payloadEnd etherType ethernet cooked cooked2 loopback vlan vlanCount " +
    "arp ipv4 ipv6 ip udp tcp icmp icmpv6 layers"
  )
    .split(" ")
    .map((get): [string, Row] => [`get ${VIEW}${get}`, onView()]),
  [`${VIEW}of`, onView((draft) => [frame(draft).memory])],
  [`${VIEW}vlanAt`, onView(({ choices }) => [choices.below(3)])],
  [
    `${VIEW}at`,
    (draft) => {
      const { choices } = draft;
      const name = choices.pick(Object.keys(FRAMES));
      const { memory, offset, end } = frame(draft, FRAMES[name]);
      const linkType = choices.pick([...LINK_TYPES, 1, 12, 14, 101, 276, undefined]);
      const receiver = new PacketView(memory);
      draft.world.packets.views.push(receiver);
      return { receiver, values: [offset, end, linkType] };
    },
  ],
];
