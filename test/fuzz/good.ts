/**
 * Arguments that a call takes, one row for each member of the public surface. A member without a row
 * ends the run: whoever adds one to the package adds it here.
 *
 * @module
 */
import {
  type Address,
  addressFrom,
  type Batches,
  type BatchSubscription,
  type Message,
  parseAddress,
  poller,
  Socket,
  type SocketFamily,
  type SocketType,
  UdpSocket,
  type UnixAddress,
} from "bun-sockets";
import {
  AF_INET,
  AF_UNIX,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  MSG_DONTROUTE,
  MSG_DONTWAIT,
  MSG_EOR,
  MSG_MORE,
  MSG_NOSIGNAL,
  MSG_OOB,
  MSG_PEEK,
  MSG_TRUNC,
  MSG_WAITALL,
  SO_KEEPALIVE,
  SO_PRIORITY,
  SO_RCVBUF,
  SO_SNDBUF,
  SO_TYPE,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { readableOf, writableOf } from "../../lib/internal/option_kinds.ts";
import type { Slot } from "./arena.ts";
import type { Choices } from "./choices.ts";
import { handler, listener } from "./handlers.ts";
import { type Entry, groups } from "./surface.ts";
import {
  type AnySocket,
  type BatchRecord,
  bytesOfText,
  isOpen,
  type Kind,
  kindOf,
  openForeign,
  rightsMessage,
  type World,
} from "./world.ts";

/** One call that is about to be made. */
export interface Plan {
  receiver: unknown;
  values: unknown[];
}

/** What the arguments of one call are made with. */
export interface Draft {
  readonly world: World;
  readonly choices: Choices;
  readonly entry: Entry;
  /** The slots of the views among the arguments. */
  readonly slots: Slot[];
  /** Whether options are given so that one of them can be spoilt. */
  readonly isToSpoil: boolean;
}

type Row = (draft: Draft) => Plan;

/** Makes arguments that the call should take. */
export function planGood(draft: Draft): Plan {
  const row = rowOf(draft.entry);
  if (!row)
    throw new Error(`No good arguments for ${draft.entry.key}: add a row to ${import.meta.file}`);
  return row(draft);
}

// A class that overrides a member takes what the class above it takes, unless it has a row.
function rowOf({ definedAs, overrides }: Entry): Row | undefined {
  return ROWS.get(definedAs) ?? (overrides === undefined ? undefined : ROWS.get(overrides));
}

/** Which members of the surface have no row. */
export function withoutRow(entries: readonly Entry[]): string[] {
  return entries.filter((entry) => !rowOf(entry)).map(({ key }) => key);
}

/** Rows that belong to no member. */
export function withoutMember(entries: readonly Entry[]): string[] {
  const keys = new Set(entries.map(({ definedAs }) => definedAs));
  return [...ROWS.keys()].filter((key) => !keys.has(key));
}

// Views and data.

const LENGTHS = [0, 1, 2, 3, 7, 8, 16, 60, 64, 100, 100, 512, 1472, 4096];

/** A view of an arena, of one kind or another. */
export function view(draft: Draft, minimum = 0): ArrayBufferView {
  const { choices, world, slots } = draft;
  const lengths = LENGTHS.filter((length) => length >= minimum);
  const length = choices.chance(3)
    ? choices.pick([9000, 65507, 65536, 70_000])
    : choices.pick(lengths);
  const slot = world.arena.take(length, choices);
  if (!slot) return Buffer.alloc(length);
  slots.push(slot);
  const { buffer, start } = slot;
  if (length % 8 === 0 && length > 0 && choices.chance(20))
    return new Float64Array(buffer, start, length / 8);
  return choices.pick([
    () => new Uint8Array(buffer, start, length),
    () => new Uint8Array(buffer, start, length),
    () => Buffer.from(buffer, start, length),
    () => new DataView(buffer, start, length),
    () => new Int8Array(buffer, start, length),
  ])();
}

// A DataView of what was detached has no length to tell.
function lengthOf(view: ArrayBufferView): number {
  return (view.buffer as ArrayBuffer).detached ? 0 : view.byteLength;
}

function data(draft: Draft): ArrayBufferView | ArrayBuffer {
  const { choices, world } = draft;
  if (choices.chance(5)) return new ArrayBuffer(choices.pick([0, 1, 100]));
  // A typed array that lives in the engine's heap, and moves.
  if (choices.chance(10)) return new Uint8Array(choices.below(200));
  if (choices.chance(5)) return world.buffer(choices).bytes;
  return view(draft);
}

function dataOrText(draft: Draft): ArrayBufferView | ArrayBuffer | string {
  return draft.choices.chance(30) ? "text".repeat(draft.choices.below(50)) : data(draft);
}

// Options.

const DATAGRAM_RECEIVE = [MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_PEEK | MSG_TRUNC];
const STREAM_RECEIVE = [...DATAGRAM_RECEIVE, MSG_OOB, MSG_WAITALL];
const DATAGRAM_SEND = [MSG_DONTROUTE, MSG_DONTWAIT, MSG_NOSIGNAL];
const STREAM_SEND = [...DATAGRAM_SEND, MSG_MORE, MSG_OOB, MSG_EOR];

function flags({ choices }: Draft, socket: AnySocket, receives: boolean): number | undefined {
  if (choices.chance(70)) return choices.pick([undefined, undefined, 0]);
  const isStream = socket.type === "stream";
  if (receives) return choices.pick(isStream ? STREAM_RECEIVE : DATAGRAM_RECEIVE);
  return choices.pick(isStream ? STREAM_SEND : DATAGRAM_SEND);
}

// Waiting costs time: a call that is to wait does so for 2 ms at most. One without a limit ends when
// it would wait.
function timeoutMs({ choices }: Draft): number | undefined {
  const limits = [0, 0, 0, 0.1, 0.5, 1, 2, undefined, Number.POSITIVE_INFINITY, 2 ** 40];
  return choices.pick(limits);
}

function flagOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  if (draft.choices.chance(30)) return undefined;
  return { flags: flags(draft, socket, receives) };
}

function waitOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  if (draft.choices.chance(5)) return undefined;
  return { flags: flags(draft, socket, receives), timeoutMs: timeoutMs(draft) };
}

function timeoutOptions(draft: Draft): unknown {
  return draft.choices.chance(10) ? undefined : { timeoutMs: timeoutMs(draft) };
}

function cancelOptions(draft: Draft): Record<string, unknown> | undefined {
  const { choices, world } = draft;
  if (choices.chance(draft.isToSpoil ? 5 : 20)) return undefined;
  return {
    timeoutMs: timeoutMs(draft),
    signal: choices.chance(40) ? world.signal(choices) : undefined,
  };
}

function asyncOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  const options = cancelOptions(draft);
  return options && { flags: flags(draft, socket, receives), ...options };
}

function some(draft: Draft, all: Record<string, () => unknown>): Record<string, unknown> {
  const share = draft.isToSpoil ? 80 : 25;
  const chosen = Object.entries(all).filter(() => draft.choices.chance(share));
  return Object.fromEntries(chosen.map(([key, make]) => [key, make()]));
}

function socketOptions(draft: Draft, more: Record<string, () => unknown> = {}): unknown {
  const { choices, world } = draft;
  return some(draft, {
    receiveBufferBytes: () => choices.pick([1, 4096, 100_000]),
    sendBufferBytes: () => choices.pick([1, 4096, 100_000]),
    configure: () => (socket: unknown) => world.harvest(socket),
    ...more,
  });
}

const boolean = ({ choices }: Draft) => choices.chance(50);

function inetOptions(draft: Draft, isIpv6: boolean): unknown {
  return socketOptions(draft, {
    reuseAddress: () => boolean(draft),
    reusePort: () => boolean(draft),
    broadcast: () => boolean(draft),
    ...(isIpv6 ? { ipv6Only: () => boolean(draft) } : {}),
  });
}

// Sockets.

const anyKind = () => true;
const isConnected = ({ state }: Kind) => state === "connected";
const isNew = ({ state }: Kind) => state === "new";
const isListening = ({ state }: Kind) => state === "listening";
const isDatagram = ({ type }: Kind) => type === "datagram";
const isReceiver = ({ state, type }: Kind) =>
  state === "connected" || (type === "datagram" && state === "open");
const isReceivingDatagram = (kind: Kind) => isDatagram(kind) && isReceiver(kind);
const isSender = ({ state, type }: Kind) => state === "connected" || type === "datagram";
const isUnconnectedDatagram = ({ state, type }: Kind) =>
  type === "datagram" && state !== "connected";

function socket(draft: Draft, isWanted: (kind: Kind) => boolean = anyKind): AnySocket {
  const { world, choices, entry } = draft;
  const wanted = choices.chance(92) ? isWanted : anyKind;
  return world.socket(choices, entry.className ?? "Socket", wanted);
}

/** A socket that something has come to, mostly. */
function fed(draft: Draft, isWanted: (kind: Kind) => boolean = isReceiver): AnySocket {
  const receiver = socket(draft, isWanted);
  if (draft.choices.chance(90)) draft.world.feed(draft.choices, receiver);
  return receiver;
}

/** A socket to send from, whose peer has no room now and then. */
function clogged(draft: Draft, isWanted: (kind: Kind) => boolean): AnySocket {
  const sender = socket(draft, isWanted);
  if (draft.choices.chance(15)) draft.world.clog(sender);
  return sender;
}

const onSocket =
  (isWanted: (kind: Kind) => boolean = anyKind): Row =>
  (draft) => ({ receiver: socket(draft, isWanted), values: [] });

function newSocket(draft: Draft, isWanted: (kind: Kind) => boolean): AnySocket {
  return socket(draft, (kind) => isNew(kind) && isWanted(kind));
}

// Addresses.

/** An address as an object, or as its text. */
function given({ choices }: Draft, address: Address | string): Address | string {
  if (choices.chance(50)) return `${address}`;
  return typeof address === "string" ? parseAddress(address) : address;
}

function localFor(draft: Draft, { family }: Kind): Address | string {
  const { choices, world } = draft;
  if (family === "unix") return given(draft, choices.chance(30) ? "unix:" : world.name(choices));
  if (family === "ipv6") return given(draft, choices.pick(["[::1]:0", "[::1]:0", "[::]:0"]));
  return given(draft, choices.pick(["127.0.0.1:0", "127.0.0.1:0", "127.0.0.9:0"]));
}

// Loopback and Unix addresses only: those of the sequence's own sockets, or where nobody is.
function destinationFor(draft: Draft, { family, type }: Kind): Address | string {
  const { choices, world } = draft;
  if (choices.chance(10)) return given(draft, nobody(draft, family));
  const hears = (kind: Kind) =>
    kind.family === family &&
    kind.type === type &&
    (kind.state === "open" || kind.state === "listening");
  const className = { ipv4: "UdpSocket", ipv6: "UdpSocket", unix: "UnixDatagramSocket" }[family];
  const receiver = world.socket(choices, (type === "datagram" && className) || "Socket", hears);
  return hears(kindOf(receiver)) ? given(draft, receiver.localAddress) : nobody(draft, family);
}

function nobody({ choices, world }: Draft, family: string): string {
  if (family === "unix") return world.name(choices);
  return family === "ipv6" ? "[::1]:1" : "127.0.0.1:1";
}

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  Inet4Address: [
    "127.0.0.1:0",
    "192.0.2.1:53",
    "10.0.0.1:65535",
    "224.0.0.1:1",
    "255.255.255.255:9",
  ],
  Inet6Address: [
    "[::]:0",
    "[::1]:53",
    "[fe80::1%lo]:1",
    "[fe80::1%7]:1",
    "[::ffff:10.0.0.1]:9",
    "[ff02::1]:1",
  ],
  UnixAddress: ["unix:", "unix:/run/x", "unix:@name", "unix:@", "unix:relative path"],
  RawAddress: ["sockaddr:1000000000000000", "sockaddr:ffff", "sockaddr:1100010203"],
};
const ALL_ADDRESSES = Object.values(ADDRESSES).flat();

function address(draft: Draft): Address {
  const { choices, entry } = draft;
  return parseAddress(choices.pick(ADDRESSES[entry.className ?? ""] ?? ALL_ADDRESSES));
}

function onAddress(member: string): Row {
  return (draft) => ({
    receiver: address(draft),
    values:
      member === "equals"
        ? [address(draft)]
        : member === "withPort"
          ? [draft.choices.below(65536)]
          : [],
  });
}

// Every getter and method of an address, as the class has them.
function addressRows(className: string, gets: string, calls: string): [string, Row][] {
  const inspect = `${className}.prototype[nodejs.util.inspect.custom]`;
  return [
    ...gets
      .split(" ")
      .map((get): [string, Row] => [`get ${className}.prototype.${get}`, onAddress(get)]),
    ...calls
      .split(" ")
      .map((call): [string, Row] => [`${className}.prototype.${call}`, onAddress(call)]),
    [inspect, onAddress("inspect")],
  ];
}

const constant: Row = () => ({ receiver: undefined, values: [] });

// Messages and batches.

function vectors(draft: Draft): ArrayBufferView | ArrayBufferView[] {
  const { choices } = draft;
  if (choices.chance(20)) return view(draft, 1);
  return Array.from({ length: choices.pick([0, 1, 1, 2, 2, 3, 20]) }, (_, i) =>
    view(draft, i === 0 ? 1 : 0),
  );
}

function message(draft: Draft, to?: Kind): Message {
  const { world, choices, slots } = draft;
  const before = slots.length;
  const made = world.message(choices, () => ({
    vectors: vectors(draft),
    address: to && to.state !== "connected" ? destinationFor(draft, to) : undefined,
    controlBytes: choices.pick([0, 0, 16, 24, 64, 256]),
  }));
  world.vectors.set(made, [...(world.vectors.get(made) ?? []), ...slots.slice(before)]);
  if (to && choices.chance(50)) {
    if (to.state === "connected") made.address = undefined;
    else made.address = destinationFor(draft, to);
  }
  if (to?.family === "unix" && made.control.length >= 24 && choices.chance(50)) {
    made.control.set(rightsMessage());
    made.controlLength = 24;
  }
  return made;
}

function filledBatch(draft: Draft, to: Kind): BatchRecord {
  const { world, choices } = draft;
  const record = world.batch(choices);
  const { batch, capacity, slotBytes } = record;
  batch.count = 1 + choices.below(Math.min(capacity, 8));
  for (let i = 0; i < batch.count; i++) {
    if (choices.chance(50)) batch.setLength(i, choices.below(slotBytes + 1));
    if (to.state !== "connected" && choices.chance(70))
      batch.setAddress(i, destinationFor(draft, to));
  }
  return record;
}

const onBatch =
  (values: (draft: Draft, record: BatchRecord) => unknown[] = () => []): Row =>
  (draft) => {
    const record = draft.world.batch(draft.choices);
    return { receiver: record.batch, values: values(draft, record) };
  };

const slot = ({ choices }: Draft, { capacity }: BatchRecord) => choices.below(capacity);
const onSlot = onBatch((draft, record) => [slot(draft, record)]);
const onSlots = onBatch((draft, record) => [slot(draft, record), slot(draft, record)]);

const onMessage =
  (values: (draft: Draft, made: Message) => unknown[] = () => []): Row =>
  (draft) => {
    const made = message(draft);
    return { receiver: made, values: values(draft, made) };
  };

// What waits for batches.

function batchOptions(draft: Draft, more: Record<string, () => unknown>): unknown {
  const { choices } = draft;
  return some(draft, {
    capacity: () => choices.pick([1, 2, 8, 64]),
    slotBytes: () => choices.pick([1, 64, 100, 1500]),
    peersMax: () => choices.pick([1, 3]),
    ...more,
  });
}

function handlerOptions(draft: Draft, receiver: AnySocket): unknown {
  const { choices } = draft;
  return {
    ...(batchOptions(draft, {}) as object),
    ...(choices.chance(85) ? { drain: listener(draft, receiver, "drains") } : {}),
    ...(choices.chance(85) ? { error: listener(draft, receiver, "errors") } : {}),
  };
}

const CLASSES = ["Socket", "UdpSocket", "UnixDatagramSocket"] as const;

/** A socket of any class that batches can come to. */
function source(draft: Draft): AnySocket {
  const { world, choices } = draft;
  const receiver = world.socket(choices, choices.pick(CLASSES), isReceivingDatagram);
  return isReceivingDatagram(kindOf(receiver)) ? receiver : world.add(UdpSocket.bind("[::]:0"));
}

function iterator(draft: Draft): Batches {
  const { world, choices } = draft;
  const free = world.iterators.filter(({ batches }) => !isWaiting(world, batches));
  if (free.length > 0 && choices.chance(70)) {
    const { batches, socket } = choices.pick(free);
    if (choices.chance(85) && isOpen(socket)) world.feed(choices, socket);
    return batches;
  }
  const from = source(draft);
  if (choices.chance(85)) world.feed(choices, from);
  const rotate = choices.pick([1, 1, 2, 3]);
  const signal = choices.chance(20) ? world.signal(choices) : undefined;
  const batches = from.batches({ capacity: 4, slotBytes: 100, rotate, signal });
  world.iterate(batches, from);
  return batches;
}

function isWaiting({ waiting }: World, batches: Batches): boolean {
  for (const { receiver } of waiting) if (receiver === batches) return true;
  return false;
}

function subscription(draft: Draft): BatchSubscription {
  const { world, choices } = draft;
  if (world.subscriptions.length > 0 && choices.chance(70))
    return choices.pick(world.subscriptions).subscription;
  const from = source(draft);
  world.unsubscribe(from);
  const listeners = {
    drain: listener(draft, from, "drains"),
    error: listener(draft, from, "errors"),
  };
  const made = from.onBatch(handler(draft, from), { capacity: 4, slotBytes: 100, ...listeners });
  world.subscribed(made, from);
  return made;
}

const onIterator: Row = (draft) => ({ receiver: iterator(draft), values: [] });
const onSubscription: Row = (draft) => ({ receiver: subscription(draft), values: [] });

/** Sockets to poll, by themselves and with what is waited for. */
function polled(draft: Draft): unknown[] {
  const { world, choices } = draft;
  return Array.from({ length: choices.pick([1, 1, 2, 3]) }, () => {
    const one = world.socket(choices, choices.pick(CLASSES), isReceiver);
    if (choices.chance(60)) world.feed(choices, one);
    if (choices.chance(50)) return one;
    const read = choices.chance(70);
    return { socket: one, read, write: !read || choices.chance(50) };
  });
}

// Options by name and by number.

// What would change more than the socket, or block the thread in close(2).
const LEFT_OUT: ReadonlyMap<string, readonly unknown[]> = new Map([
  ["TCP_ULP", []],
  ["SO_LINGER", [undefined, 0]],
]);

const CANDIDATES: readonly unknown[] = [
  ...[true, false, 0, 1, 2, 3, 10, 64, 100, 1000, 4096, 65535, -1],
  ...["", "lo", "reno", "cubic", "127.0.0.1", "0.0.0.0", "do", "dont", "want", "none", "send"],
  ...[undefined, Number.POSITIVE_INFINITY, new Uint8Array(0), new Uint8Array(8)],
  ...[
    { low: 0, high: 0 },
    { low: 40_000, high: 50_000 },
    { clockId: 1, flags: 0 },
  ],
];

interface Settable {
  readonly option: object;
  readonly value: unknown;
}

/** What sockets of one kind take. */
interface OptionsOfKind {
  readonly readable: readonly object[];
  readonly settable: readonly Settable[];
  /** Numbers, and values that can be set. */
  readonly raw: readonly (readonly [level: number, number: number, value: number])[];
}

const allReadable: object[] = [];
const allSettable: Settable[] = [];
for (const group of groups.values()) {
  for (const option of Object.values(group)) {
    if (accepts(() => readableOf(option))) allReadable.push(option);
    if (!accepts(() => writableOf(option))) continue;
    const { codec, name } = writableOf(option);
    const values = LEFT_OUT.get(name) ?? CANDIDATES;
    for (const value of values)
      if (accepts(() => codec.encode(value, name))) allSettable.push({ option, value });
  }
}

const found = new Map<string, OptionsOfKind>();

/** The options that the kernel knows for a kind of socket, found by trying. */
function optionsOf({ family, type }: AnySocket): OptionsOfKind {
  const key = `${family} ${type}`;
  let known = found.get(key);
  if (!known) {
    using probe = Socket.create(family, type, { protocol: type === "raw" ? 1 : 0 });
    known = {
      readable: allReadable.filter((option) => accepts(() => probe.getOption(option as never))),
      settable: allSettable.filter(({ option, value }) =>
        accepts(() => probe.setOption(option as never, value as never)),
      ),
      raw: RAW.filter(([level, number]) => accepts(() => probe.getRawOption(level, number))),
    };
    found.set(key, known);
  }
  return known;
}

/** Mostly what the kind of socket takes. */
function some90<Item>({ choices }: Draft, own: readonly Item[], all: readonly Item[]) {
  return own.length > 0 && choices.chance(90) ? own : all;
}

function accepts(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

// Integers that every socket has, then some that only some have.
const RAW: readonly (readonly [level: number, number: number, value: number])[] = [
  [SOL_SOCKET, SO_RCVBUF, 10_000],
  [SOL_SOCKET, SO_SNDBUF, 10_000],
  [SOL_SOCKET, SO_PRIORITY, 3],
  [SOL_SOCKET, SO_KEEPALIVE, 1],
  [SOL_SOCKET, SO_RCVBUF, 20_000],
  [SOL_SOCKET, SO_SNDBUF, 20_000],
  [IPPROTO_IP, 1, 16],
  [IPPROTO_IPV6, 16, 64],
  [IPPROTO_TCP, 1, 1],
  [IPPROTO_UDP, 1, 0],
];

const families: readonly (readonly [SocketFamily, SocketType])[] = [
  ["ipv4", "datagram"],
  ["ipv6", "datagram"],
  ["unix", "datagram"],
  ["ipv4", "stream"],
  ["ipv6", "stream"],
  ["unix", "stream"],
  ["unix", "seqpacket"],
  [AF_INET, SOCK_DGRAM],
  [AF_UNIX, SOCK_STREAM],
];

// The variables that tell of descriptors which the service manager has opened.
function setListenFds(count: string | undefined): void {
  const { env } = process;
  if (count === undefined) delete env["LISTEN_FDS"];
  else env["LISTEN_FDS"] = count;
  env["LISTEN_PID"] = `${process.pid}`;
}

function adopt(draft: Draft): Plan {
  const { world, choices, entry } = draft;
  const isUnix =
    entry.className !== "UdpSocket" && (entry.className !== "Socket" || choices.chance(50));
  const isStream = entry.className === "Socket" && choices.chance(50);
  const fd = openForeign(isUnix ? AF_UNIX : AF_INET, isStream ? SOCK_STREAM : SOCK_DGRAM);
  world.fds.add(fd);
  return {
    receiver: undefined,
    values: [fd, choices.pick([undefined, {}, { own: true }, { own: false }])],
  };
}

const BUDGETS = [0, 0.1, 1, 1, 2, Number.POSITIVE_INFINITY];

const SOCKET = "Socket.prototype.";
const BATCH = "DatagramBatch.prototype.";

const ROWS: ReadonlyMap<string, Row> = new Map<string, Row>([
  // Nobody makes a socket with new.
  ["new Socket", () => ({ receiver: undefined, values: [{ descriptor: 1 }] })],
  ["new UdpSocket", () => ({ receiver: undefined, values: [undefined] })],
  ["new UnixDatagramSocket", () => ({ receiver: undefined, values: [{}] })],
  [
    "Socket.create",
    (draft) => {
      const [family, type] = draft.choices.pick(families);
      const isInet = family !== "unix" && family !== AF_UNIX;
      const options = isInet ? inetOptions(draft, family === "ipv6") : socketOptions(draft);
      return { receiver: undefined, values: [family, type, options] };
    },
  ],
  [
    "Socket.pair",
    (draft) => {
      const { choices } = draft;
      const types = ["stream", "datagram", "seqpacket"] as const;
      const options = some(draft, {
        family: () => choices.pick(["unix", AF_UNIX]),
        type: () => choices.pick(types),
        protocol: () => 0,
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ["Socket.adopt", adopt],
  ["UdpSocket.adopt", adopt],
  ["UnixDatagramSocket.adopt", adopt],
  [
    "UdpSocket.open",
    (draft) => {
      const isIpv6 = draft.choices.chance(50);
      const text = isIpv6 ? "[::1]:0" : "127.0.0.1:0";
      const family = draft.choices.chance(50) ? given(draft, text) : isIpv6 ? "ipv6" : "ipv4";
      return { receiver: undefined, values: [family, inetOptions(draft, isIpv6)] };
    },
  ],
  [
    "UdpSocket.bind",
    (draft) => {
      const family = draft.choices.pick(["ipv4", "ipv6"]);
      const local = localFor(draft, { family, type: "datagram", state: "new" });
      return { receiver: undefined, values: [local, inetOptions(draft, family === "ipv6")] };
    },
  ],
  ["UnixDatagramSocket.open", (draft) => ({ receiver: undefined, values: [socketOptions(draft)] })],
  [
    "UnixDatagramSocket.bind",
    (draft) => {
      const { choices, world } = draft;
      const local = given(draft, choices.chance(20) ? "unix:" : world.name(choices));
      const isPath = (typeof local === "string" ? parseAddress(local) : local) as UnixAddress;
      const more = isPath.isPath
        ? { mode: () => choices.pick([0o600, 0o777, 0]), removeStale: () => choices.chance(70) }
        : {};
      return { receiver: undefined, values: [local, socketOptions(draft, more)] };
    },
  ],
  ["UnixDatagramSocket.pair", () => ({ receiver: undefined, values: [] })],

  [`get ${SOCKET}protocol`, onSocket()],
  [
    `${SOCKET}bind`,
    (draft) => {
      const receiver = newSocket(draft, ({ type }) => type !== "raw");
      return { receiver, values: [localFor(draft, kindOf(receiver))] };
    },
  ],
  [
    `${SOCKET}tryConnect`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver))] };
    },
  ],
  [
    `${SOCKET}connectSync`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver)), timeoutOptions(draft)] };
    },
  ],
  [`${SOCKET}disconnect`, onSocket(isDatagram)],
  [`get ${SOCKET}connected`, onSocket()],
  [
    `${SOCKET}listen`,
    (draft) => {
      const isStream = ({ type, family }: Kind) =>
        type === "stream" || (type === "seqpacket" && family === "unix");
      const receiver = socket(
        draft,
        (kind) => isStream(kind) && (isListening(kind) || (isNew(kind) && kind.family !== "unix")),
      );
      return { receiver, values: [draft.choices.pick([undefined, 0, 1, 16, 2 ** 31 - 1])] };
    },
  ],
  [`${SOCKET}tryAccept`, (draft) => ({ receiver: fed(draft, isListening), values: [] })],
  [
    `${SOCKET}acceptSync`,
    (draft) => ({ receiver: fed(draft, isListening), values: [timeoutOptions(draft)] }),
  ],
  [`get ${SOCKET}localAddress`, onSocket()],
  [`get ${SOCKET}remoteAddress`, onSocket()],
  [`get ${SOCKET}unreadBytes`, onSocket()],
  [`get ${SOCKET}unsentBytes`, onSocket()],
  [`get ${SOCKET}receiveBuffer`, onSocket()],
  [`get ${SOCKET}sendBuffer`, onSocket()],
  [`get ${SOCKET}descriptor`, onSocket()],
  [`get ${SOCKET}inheritable`, onSocket()],
  [`set ${SOCKET}inheritable`, (draft) => ({ receiver: socket(draft), values: [boolean(draft)] })],
  [
    `${SOCKET}getOption`,
    (draft) => {
      const receiver = socket(draft);
      const { readable } = optionsOf(receiver);
      return { receiver, values: [draft.choices.pick(some90(draft, readable, allReadable))] };
    },
  ],
  [
    `${SOCKET}setOption`,
    (draft) => {
      const receiver = socket(draft);
      const { settable } = optionsOf(receiver);
      const { option, value } = draft.choices.pick(some90(draft, settable, allSettable));
      return { receiver, values: [option, value] };
    },
  ],
  [
    `${SOCKET}getRawOption`,
    (draft) => {
      const receiver = socket(draft);
      const all = [
        ...some90(draft, optionsOf(receiver).raw, RAW),
        [SOL_SOCKET, SO_TYPE, 0] as const,
      ];
      const [level, number] = draft.choices.pick(all);
      const lengths = [[], [], [1], [4], [100], [4096]];
      return { receiver, values: [level, number, ...draft.choices.pick(lengths)] };
    },
  ],
  [
    `${SOCKET}setRawOption`,
    (draft) => {
      const { choices } = draft;
      const receiver = socket(draft);
      const [level, number, value] = choices.pick(some90(draft, optionsOf(receiver).raw, RAW));
      const values = [
        ...[[value], [value], [value], [value], [Int32Array.of(value)]],
        ...[[Buffer.alloc(8)], [null, 0], [null, 8]],
      ];
      return { receiver, values: [level, number, ...choices.pick(values)] };
    },
  ],
  [
    `${SOCKET}trySend`,
    (draft) => {
      const receiver = socket(draft, isConnected);
      return { receiver, values: [data(draft), flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendSync`,
    (draft) => {
      const receiver = socket(draft, isConnected);
      return { receiver, values: [dataOrText(draft), waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}trySendTo`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [data(draft), to, flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendToSync`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [dataOrText(draft), to, waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}trySendMessage`,
    (draft) => {
      const receiver = socket(draft, isSender);
      const options = flagOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}sendMessageSync`,
    (draft) => {
      const receiver = socket(draft, isSender);
      const options = waitOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}tryReceive`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveBytes`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBytesSync`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveFrom`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveFromSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}tryReceiveMessage`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveMessageSync`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}trySendBatch`,
    (draft) => {
      const receiver = socket(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, flagOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendBatchSync`,
    (draft) => {
      const receiver = socket(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, waitOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}tryReceiveBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, flagOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBatchSync`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, waitOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}connect`,
    (draft) => {
      const receiver = socket(draft, (kind) => isNew(kind) || isUnconnectedDatagram(kind));
      return { receiver, values: [destinationFor(draft, kindOf(receiver)), cancelOptions(draft)] };
    },
  ],
  [
    `${SOCKET}accept`,
    (draft) => ({ receiver: fed(draft, isListening), values: [cancelOptions(draft)] }),
  ],
  [
    `${SOCKET}send`,
    (draft) => {
      const receiver = clogged(draft, isConnected);
      return { receiver, values: [dataOrText(draft), asyncOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendTo`,
    (draft) => {
      const receiver = socket(draft, isUnconnectedDatagram);
      const to = destinationFor(draft, kindOf(receiver));
      return { receiver, values: [dataOrText(draft), to, asyncOptions(draft, receiver, false)] };
    },
  ],
  [
    `${SOCKET}sendMessage`,
    (draft) => {
      const receiver = clogged(draft, isSender);
      const options = asyncOptions(draft, receiver, false);
      return { receiver, values: [message(draft, kindOf(receiver)), options] };
    },
  ],
  [
    `${SOCKET}sendBatch`,
    (draft) => {
      const receiver = clogged(draft, isDatagram);
      const { batch } = filledBatch(draft, kindOf(receiver));
      const first = draft.choices.pick([undefined, 0, draft.choices.below(batch.count + 1)]);
      return { receiver, values: [batch, first, asyncOptions(draft, receiver, false)] };
    },
  ],
  ...["receive", "receiveFrom"].map((call): [string, Row] => [
    `${SOCKET}${call}`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [view(draft, 1), asyncOptions(draft, receiver, true)] };
    },
  ]),
  [
    `${SOCKET}receiveBytes`,
    (draft) => {
      const receiver = fed(draft);
      const bytesMax = draft.choices.pick([1, 10, 100, 2000, 65536]);
      return { receiver, values: [bytesMax, asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveMessage`,
    (draft) => {
      const receiver = fed(draft);
      return { receiver, values: [message(draft), asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}receiveBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { batch } = draft.world.batch(draft.choices);
      return { receiver, values: [batch, asyncOptions(draft, receiver, true)] };
    },
  ],
  [
    `${SOCKET}batches`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      const { choices, world } = draft;
      const options = batchOptions(draft, {
        rotate: () => choices.pick([1, 2, 3]),
        signal: () => world.signal(choices),
      });
      return { receiver, values: draft.isToSpoil || choices.chance(80) ? [options] : [] };
    },
  ],
  [
    `${SOCKET}onBatch`,
    (draft) => {
      const receiver = fed(draft, isReceivingDatagram);
      if (draft.choices.chance(85)) draft.world.unsubscribe(receiver);
      return { receiver, values: [handler(draft, receiver), handlerOptions(draft, receiver)] };
    },
  ],
  [`${SOCKET}ref`, onSocket()],
  [`${SOCKET}unref`, onSocket()],
  [
    `${SOCKET}shutdown`,
    (draft) => ({
      receiver: socket(draft, isConnected),
      values: [draft.choices.pick(["read", "write", "both"])],
    }),
  ],
  [`${SOCKET}duplicate`, onSocket()],
  [`${SOCKET}detach`, onSocket()],
  [`${SOCKET}close`, onSocket()],
  ["Socket.prototype[Symbol.dispose]", onSocket()],
  ["Socket.prototype[nodejs.util.inspect.custom]", onSocket()],

  [
    "new DatagramBatch",
    (draft) => {
      const { choices } = draft;
      const options = some(draft, {
        capacity: () => choices.pick([1, 2, 16, 16, 1024]),
        slotBytes: () => choices.pick([1, 63, 64, 65, 1500, 9000]),
        peersMax: () => choices.pick([1, 3, 64]),
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ...["capacity", "slotBytes", "memory", "count", "stopped", "failed", "freed"].map(
    (get): [string, Row] => [`get ${BATCH}${get}`, onBatch()],
  ),
  [`set ${BATCH}count`, onBatch(({ choices }, { capacity }) => [choices.below(capacity + 1)])],
  ...[
    "offset",
    "length",
    "originalLength",
    "flags",
    "truncated",
    "sender",
    "address",
    "view",
    "failure",
  ].map((call): [string, Row] => [`${BATCH}${call}`, onSlot]),
  [
    `${BATCH}setLength`,
    onBatch((draft, record) => [slot(draft, record), draft.choices.below(record.slotBytes + 1)]),
  ],
  [
    `${BATCH}setAddress`,
    onBatch((draft, record) => {
      const family = draft.choices.pick(["ipv4", "ipv6", "unix"]);
      const to = destinationFor(draft, { family, type: "datagram", state: "new" });
      return [slot(draft, record), draft.choices.pick([to, to, undefined])];
    }),
  ],
  [`${BATCH}copySender`, onSlots],
  [`${BATCH}swap`, onSlots],
  [
    `${BATCH}write`,
    onBatch((draft, record) => {
      const length = draft.choices.below(record.slotBytes + 1);
      const small = draft.choices.pick([
        new Uint8Array(length),
        Buffer.alloc(length),
        "x".repeat(length),
      ]);
      return [slot(draft, record), small];
    }),
  ],
  [
    `${BATCH}keep`,
    onBatch(({ choices }, { batch }) => {
      const indices = Array.from({ length: batch.count }, (_, i) => i).filter(() =>
        choices.chance(60),
      );
      return [
        choices.pick([indices, Uint16Array.from(indices), { ...indices, length: indices.length }]),
      ];
    }),
  ],
  [`${BATCH}free`, onBatch()],
  ["DatagramBatch.prototype[Symbol.dispose]", onBatch()],

  [
    "new Message",
    (draft) => {
      const { choices } = draft;
      const options = some(draft, {
        vectors: () => vectors(draft),
        address: () => given(draft, nobody(draft, choices.pick(["ipv4", "ipv6", "unix"]))),
        controlBytes: () => choices.pick([0, 16, 100, 65536]),
      });
      return { receiver: undefined, values: [options] };
    },
  ],
  ...["vectors", "address", "control", "controlLength", "flags", "originalLength"].map(
    (get): [string, Row] => [`get Message.prototype.${get}`, onMessage()],
  ),
  ["set Message.prototype.vectors", onMessage((draft) => [vectors(draft)])],
  [
    "set Message.prototype.address",
    onMessage((draft) => {
      const family = draft.choices.pick(["ipv4", "ipv6", "unix"]);
      return [draft.choices.pick([undefined, given(draft, nobody(draft, family))])];
    }),
  ],
  [
    "set Message.prototype.controlLength",
    onMessage(({ choices }, { control }) => [choices.below(control.length + 1)]),
  ],
  [
    "Message.prototype.advance",
    onMessage(({ choices }, made) => {
      const total = made.vectors.reduce((sum, vector) => sum + lengthOf(vector), 0);
      return [choices.below(total + 1)];
    }),
  ],

  [
    "new NativeBuffer",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick([1, 100, 4096, 4097, 100_000])],
    }),
  ],
  ...["get NativeBuffer.prototype.freed", "NativeBuffer.prototype.free"].map(
    (key): [string, Row] => [
      key,
      ({ world, choices }) => ({ receiver: world.buffer(choices), values: [] }),
    ],
  ),
  [
    "NativeBuffer.prototype[Symbol.dispose]",
    ({ world, choices }) => ({ receiver: world.buffer(choices), values: [] }),
  ],

  [
    "new Inet4Address",
    (draft) => {
      const { host, port, bytes } = address(draft) as {
        host: string;
        port: number;
        bytes: Uint8Array;
      };
      return { receiver: undefined, values: draft.choices.chance(30) ? [bytes] : [host, port] };
    },
  ],
  [
    "new Inet6Address",
    (draft) => {
      const made = draft.choices.pick(["[::1]:53", "[fe80::1%7]:1", "[::ffff:10.0.0.1]:9"]);
      const { host, port, bytes } = parseAddress(made) as {
        host: string;
        port: number;
        bytes: Uint8Array;
      };
      const options = draft.choices.pick([undefined, {}, { flow: 5 }, { flow: 0xffff_ffff }]);
      return {
        receiver: undefined,
        values: draft.choices.chance(30) ? [bytes] : [host, port, options],
      };
    },
  ],
  [
    "new UnixAddress",
    (draft) => {
      const { bytes } = address(draft);
      return { receiver: undefined, values: [draft.choices.pick(["/run/x", "relative", bytes])] };
    },
  ],
  [
    "new RawAddress",
    (draft) => ({
      receiver: undefined,
      values: [
        bytesOfText(draft.choices.pick([...ALL_ADDRESSES].filter((text) => !text.includes("%")))),
      ],
    }),
  ],
  [
    "UnixAddress.abstract",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick(["", "name", "\0\0", Buffer.from([255, 0, 1]), "x".repeat(107)])],
    }),
  ],
  [
    "UnixAddress.fromPath",
    ({ choices }) => ({
      receiver: undefined,
      values: [choices.pick([Buffer.from("/run/x"), Buffer.alloc(108, 1), Buffer.from([255])])],
    }),
  ],
  ...["Inet4Address.any", "Inet4Address.loopback", "Inet4Address.broadcast"].map(
    (key): [string, Row] => [`get ${key}`, constant],
  ),
  ...["Inet6Address.any", "Inet6Address.loopback", "UnixAddress.unnamed"].map(
    (key): [string, Row] => [`get ${key}`, constant],
  ),
  ...addressRows(
    "Inet4Address",
    "family host port bytes key hash isUnspecified isLoopback isMulticast isPrivate isLinkLocal isBroadcast",
    "withPort map equals toString toJSON",
  ),
  ...addressRows(
    "Inet6Address",
    "family host port scope flow bytes key hash isUnspecified isLoopback isMulticast isPrivate isLinkLocal isV4Mapped",
    "withPort unmap resolveScope equals toString toJSON",
  ),
  ...addressRows(
    "UnixAddress",
    "family path abstractName nameBytes isPath isAbstract isUnnamed bytes key hash",
    "equals toString toJSON",
  ),
  ...addressRows("RawAddress", "family bytes key hash", "equals toString toJSON"),

  [
    "parseAddress",
    ({ choices }) => ({ receiver: undefined, values: [choices.pick(ALL_ADDRESSES)] }),
  ],
  [
    "addressFrom",
    (draft) => {
      const parts = address(draft).toJSON();
      return {
        receiver: undefined,
        values: [draft.choices.chance(80) ? parts : addressFrom(parts)],
      };
    },
  ],
  [
    "addressFromBytes",
    ({ choices }) => ({
      receiver: undefined,
      values: [bytesOfText(choices.pick(ALL_ADDRESSES.filter((text) => !text.includes("%"))))],
    }),
  ],
  [
    "compareAddresses",
    (draft) => ({ receiver: undefined, values: [address(draft), address(draft)] }),
  ],

  ...["next", "return"].map((call): [string, Row] => [`Batches.prototype.${call}`, onIterator]),
  ["Batches.prototype[Symbol.asyncIterator]", onIterator],
  ["Batches.prototype[Symbol.asyncDispose]", onIterator],
  ...["get paused", "get stopped", "pause", "resume", "stop"].map((key): [string, Row] => [
    key.replace(/(\w+)$/, "BatchSubscription.prototype.$1"),
    onSubscription,
  ]),
  ["BatchSubscription.prototype[Symbol.dispose]", onSubscription],

  ["poll", (draft) => ({ receiver: undefined, values: [polled(draft), cancelOptions(draft)] })],
  [
    "pollSync",
    (draft) => ({ receiver: undefined, values: [polled(draft), timeoutOptions(draft)] }),
  ],
  ["tryPoll", (draft) => ({ receiver: undefined, values: [polled(draft)] })],
  ...["ringer", "doorbell", "refusals", "counters", "turnBudgetMs", "busyPoll"].map(
    (get): [string, Row] => [`get poller.${get}`, constant],
  ),
  [
    "set poller.turnBudgetMs",
    ({ choices }) => ({
      receiver: undefined,
      // While the thread looks all the time, it does nothing else for so long.
      values: [poller.busyPoll ? choices.pick([0, 0.1, 1]) : choices.pick(BUDGETS)],
    }),
  ],
  [
    "set poller.busyPoll",
    ({ choices }) => ({
      receiver: undefined,
      values: [poller.turnBudgetMs <= 1 && choices.chance(30)],
    }),
  ],

  ["capabilities", constant],
  [
    "listenFds",
    ({ choices }) => {
      // Descriptors from 3 on are named, and closed for programs that are started, which they are.
      setListenFds(choices.pick([undefined, "0", "1"]));
      return { receiver: undefined, values: [] };
    },
  ],
  [
    "options.dump",
    ({ world, choices }) => {
      const className = choices.pick(["Socket", "UdpSocket", "UnixDatagramSocket"]);
      return { receiver: undefined, values: [world.socket(choices, className, anyKind)] };
    },
  ],

  [
    "new SystemError",
    (draft) => {
      const { choices } = draft;
      const details = some(draft, {
        address: () => address(draft),
        unix: () => boolean(draft),
        sending: () => boolean(draft),
        transferred: () => choices.below(100),
        option: () => "SO_RCVBUF",
        hint: () => "Try again",
      });
      return { receiver: undefined, values: [choices.pick([-98, 98, 9999]), "bind", details] };
    },
  ],
  [
    "new TimeoutError",
    ({ choices }) => ({
      receiver: undefined,
      values: ["recv", choices.pick([undefined, {}, { transferred: 5 }])],
    }),
  ],
  [
    "new ClosedError",
    ({ choices }) => ({
      receiver: undefined,
      values: ["recv", choices.pick([undefined, {}, { transferred: 5 }])],
    }),
  ],
]);

/** Arguments that a call refuses for reasons of its own; undefined where there are none. */
export function planRefused(draft: Draft): Plan | undefined {
  const { entry, choices } = draft;
  if (entry.definedAs === "listenFds") {
    setListenFds(choices.pick(["x", "-1", "1.5", "9999", "1000000000"]));
    return { receiver: undefined, values: [] };
  }
  if (entry.key === "Batches.prototype.next") {
    // The batch is another step's, which waits.
    const from = draft.world.add(UdpSocket.bind("127.0.0.1:0"));
    const batches = from.batches({ capacity: 1 });
    batches.next().catch(() => {});
    draft.world.iterate(batches, from);
    return { receiver: batches, values: [] };
  }
  if (entry.definedAs.endsWith(".batches") && choices.chance(40)) {
    const options = { rotate: choices.pick([0, 1025, 1.5]), capacity: choices.pick([1, 0, 2000]) };
    return { receiver: socket(draft), values: [options] };
  }
  if (!entry.definedAs.endsWith(".adopt") || choices.chance(60)) return undefined;
  // It has an owner.
  return { receiver: undefined, values: [socket(draft).descriptor, { own: true }] };
}
