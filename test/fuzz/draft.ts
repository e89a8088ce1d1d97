/**
 * What the arguments of calls are made with: views, options, sockets, addresses, messages, batches.
 *
 * @module
 */
import {
  type Address,
  type Batches,
  type BatchSubscription,
  type Message,
  parseAddress,
  Socket,
  type SocketFamily,
  type SocketType,
  UdpSocket,
} from "bun-sockets";
import {
  AF_INET,
  AF_PACKET,
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
  /** Looks at what the call has done, and throws a Failure when it was not to do that. */
  check?: (what: string) => void;
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

export type Row = (draft: Draft) => Plan;

// Views and data.

export const LENGTHS = [0, 1, 2, 3, 7, 8, 16, 60, 64, 100, 100, 512, 1472, 4096];

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
export function lengthOf(view: ArrayBufferView): number {
  return (view.buffer as ArrayBuffer).detached ? 0 : view.byteLength;
}

export function data(draft: Draft): ArrayBufferView | ArrayBuffer {
  const { choices, world } = draft;
  if (choices.chance(5)) return new ArrayBuffer(choices.pick([0, 1, 100]));
  // A typed array that lives in the engine's heap, and moves.
  if (choices.chance(10)) return new Uint8Array(choices.below(200));
  if (choices.chance(5)) return world.buffer(choices).bytes;
  return view(draft);
}

export function dataOrText(draft: Draft): ArrayBufferView | ArrayBuffer | string {
  return draft.choices.chance(30) ? "text".repeat(draft.choices.below(50)) : data(draft);
}

// Options.

export const DATAGRAM_RECEIVE = [MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT, MSG_PEEK | MSG_TRUNC];
export const STREAM_RECEIVE = [...DATAGRAM_RECEIVE, MSG_OOB, MSG_WAITALL];
export const DATAGRAM_SEND = [MSG_DONTROUTE, MSG_DONTWAIT, MSG_NOSIGNAL];
export const STREAM_SEND = [...DATAGRAM_SEND, MSG_MORE, MSG_OOB, MSG_EOR];

export function flags(
  { choices }: Draft,
  socket: AnySocket,
  receives: boolean,
): number | undefined {
  if (choices.chance(70)) return choices.pick([undefined, undefined, 0]);
  const isStream = socket.type === "stream";
  if (receives) return choices.pick(isStream ? STREAM_RECEIVE : DATAGRAM_RECEIVE);
  return choices.pick(isStream ? STREAM_SEND : DATAGRAM_SEND);
}

// Waiting costs time: a call that is to wait does so for 2 ms at most. One without a limit ends when
// it would wait.
export function timeoutMs({ choices }: Draft): number | undefined {
  const limits = [0, 0, 0, 0.1, 0.5, 1, 2, undefined, Number.POSITIVE_INFINITY, 2 ** 40];
  return choices.pick(limits);
}

export function flagOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  if (draft.choices.chance(30)) return undefined;
  return { flags: flags(draft, socket, receives) };
}

export function waitOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  if (draft.choices.chance(5)) return undefined;
  return { flags: flags(draft, socket, receives), timeoutMs: timeoutMs(draft) };
}

export function timeoutOptions(draft: Draft): unknown {
  return draft.choices.chance(10) ? undefined : { timeoutMs: timeoutMs(draft) };
}

export function cancelOptions(draft: Draft): Record<string, unknown> | undefined {
  const { choices, world } = draft;
  if (choices.chance(draft.isToSpoil ? 5 : 20)) return undefined;
  return {
    timeoutMs: timeoutMs(draft),
    signal: choices.chance(40) ? world.signal(choices) : undefined,
  };
}

export function asyncOptions(draft: Draft, socket: AnySocket, receives: boolean): unknown {
  const options = cancelOptions(draft);
  return options && { flags: flags(draft, socket, receives), ...options };
}

export function some(draft: Draft, all: Record<string, () => unknown>): Record<string, unknown> {
  const share = draft.isToSpoil ? 80 : 25;
  const chosen = Object.entries(all).filter(() => draft.choices.chance(share));
  return Object.fromEntries(chosen.map(([key, make]) => [key, make()]));
}

export function socketOptions(draft: Draft, more: Record<string, () => unknown> = {}): unknown {
  const { choices, world } = draft;
  return some(draft, {
    receiveBufferBytes: () => choices.pick([1, 4096, 100_000]),
    sendBufferBytes: () => choices.pick([1, 4096, 100_000]),
    configure: () => (socket: unknown) => world.harvest(socket),
    ...more,
  });
}

export const boolean = ({ choices }: Draft) => choices.chance(50);

export function udpOptions(draft: Draft, isIpv6: boolean): unknown {
  const { choices } = draft;
  const words = ["destination", "ttl", "trafficClass", "timestamp", "dropped"];
  return inetOptions(draft, isIpv6, {
    queueErrors: () => boolean(draft),
    metadata: () => Array.from({ length: choices.below(7) }, () => choices.pick(words)),
  });
}

export function inetOptions(
  draft: Draft,
  isIpv6: boolean,
  more: Record<string, () => unknown> = {},
): unknown {
  return socketOptions(draft, {
    ...more,
    reuseAddress: () => boolean(draft),
    reusePort: () => boolean(draft),
    broadcast: () => boolean(draft),
    ...(isIpv6 ? { ipv6Only: () => boolean(draft) } : {}),
  });
}

// Sockets.

export const anyKind = () => true;
export const isConnected = ({ state }: Kind) => state === "connected";
export const isNew = ({ state }: Kind) => state === "new";
export const isListening = ({ state }: Kind) => state === "listening";
export const isDatagram = ({ type }: Kind) => type === "datagram";
export const isReceiver = ({ state, type }: Kind) =>
  state === "connected" || (type === "datagram" && state === "open");
export const isReceivingDatagram = (kind: Kind) => isDatagram(kind) && isReceiver(kind);
export const isSender = ({ state, type }: Kind) => state === "connected" || type === "datagram";
export const isUnconnectedDatagram = ({ state, type }: Kind) =>
  type === "datagram" && state !== "connected";

export function socket(draft: Draft, isWanted: (kind: Kind) => boolean = anyKind): AnySocket {
  const { world, choices, entry } = draft;
  const wanted = choices.chance(92) ? isWanted : anyKind;
  return world.socket(choices, entry.className ?? "Socket", wanted);
}

/** A socket that something has come to, mostly. */
export function fed(draft: Draft, isWanted: (kind: Kind) => boolean = isReceiver): AnySocket {
  const receiver = socket(draft, isWanted);
  if (draft.choices.chance(90)) draft.world.feed(draft.choices, receiver);
  return receiver;
}

/** A socket to send from, whose peer has no room now and then. */
export function clogged(draft: Draft, isWanted: (kind: Kind) => boolean): AnySocket {
  const sender = socket(draft, isWanted);
  if (draft.choices.chance(15)) draft.world.clog(sender);
  return sender;
}

export const onSocket =
  (isWanted: (kind: Kind) => boolean = anyKind): Row =>
  (draft) => ({ receiver: socket(draft, isWanted), values: [] });

export function newSocket(draft: Draft, isWanted: (kind: Kind) => boolean): AnySocket {
  return socket(draft, (kind) => isNew(kind) && isWanted(kind));
}

// Addresses.

/** What kindOf says of a packet socket. */
export const PACKET = `${AF_PACKET}`;

/** An address as an object, or as its text. */
export function given({ choices }: Draft, address: Address | string): Address | string {
  if (choices.chance(50)) return `${address}`;
  return typeof address === "string" ? parseAddress(address) : address;
}

export function localFor(draft: Draft, { family }: Kind): Address | string {
  const { choices, world } = draft;
  if (family === PACKET) return given(draft, choices.pick(["link:lo/0x0003", "link:0/0x0003"]));
  if (family === "unix") return given(draft, choices.chance(30) ? "unix:" : world.name(choices));
  if (family === "ipv6") return given(draft, choices.pick(["[::1]:0", "[::1]:0", "[::]:0"]));
  return given(draft, choices.pick(["127.0.0.1:0", "127.0.0.1:0", "127.0.0.9:0"]));
}

// Loopback and Unix addresses only: those of the sequence's own sockets, or where nobody is.
export function destinationFor(draft: Draft, { family, type }: Kind): Address | string {
  const { choices, world } = draft;
  if (family === PACKET || choices.chance(10)) return given(draft, nobody(draft, family));
  const hears = (kind: Kind) =>
    kind.family === family &&
    kind.type === type &&
    (kind.state === "open" || kind.state === "listening");
  const className = { ipv4: "UdpSocket", ipv6: "UdpSocket", unix: "UnixDatagramSocket" }[family];
  const receiver = world.socket(choices, (type === "datagram" && className) || "Socket", hears);
  return hears(kindOf(receiver)) ? given(draft, receiver.localAddress) : nobody(draft, family);
}

export function nobody({ choices, world }: Draft, family: string): string {
  if (family === PACKET) return "link:lo/00:00:00:00:00:00/0x88b5";
  if (family === "unix") return world.name(choices);
  return family === "ipv6" ? "[::1]:1" : "127.0.0.1:1";
}

export const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
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
  LinkAddress: [
    "link:1",
    "link:lo/02:00:00:00:00:01",
    "link:7/02:00:00:00:00:01/0x0800",
    "link:lo/0xffff",
  ],
  RawAddress: ["sockaddr:1000000000000000", "sockaddr:ffff", "sockaddr:1100010203"],
};
export const ALL_ADDRESSES = Object.values(ADDRESSES).flat();

export function address(draft: Draft): Address {
  const { choices, entry } = draft;
  return parseAddress(choices.pick(ADDRESSES[entry.className ?? ""] ?? ALL_ADDRESSES));
}

export function onAddress(member: string): Row {
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
export function addressRows(className: string, gets: string, calls: string): [string, Row][] {
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

export const constant: Row = () => ({ receiver: undefined, values: [] });

// Messages and batches.

export function vectors(draft: Draft): ArrayBufferView | ArrayBufferView[] {
  const { choices } = draft;
  if (choices.chance(20)) return view(draft, 1);
  return Array.from({ length: choices.pick([0, 1, 1, 2, 2, 3, 20]) }, (_, i) =>
    view(draft, i === 0 ? 1 : 0),
  );
}

export function message(draft: Draft, to?: Kind): Message {
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

export function filledBatch(draft: Draft, to: Kind): BatchRecord {
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

export const onBatch =
  (values: (draft: Draft, record: BatchRecord) => unknown[] = () => []): Row =>
  (draft) => {
    const record = draft.world.batch(draft.choices);
    return { receiver: record.batch, values: values(draft, record) };
  };

export const slot = ({ choices }: Draft, { capacity }: BatchRecord) => choices.below(capacity);
export const onSlot = onBatch((draft, record) => [slot(draft, record)]);
export const onSlots = onBatch((draft, record) => [slot(draft, record), slot(draft, record)]);

export const onMessage =
  (values: (draft: Draft, made: Message) => unknown[] = () => []): Row =>
  (draft) => {
    const made = message(draft);
    return { receiver: made, values: values(draft, made) };
  };

// What waits for batches.

export function batchOptions(draft: Draft, more: Record<string, () => unknown>): unknown {
  const { choices } = draft;
  return some(draft, {
    capacity: () => choices.pick([1, 2, 8, 64]),
    slotBytes: () => choices.pick([1, 64, 100, 1500]),
    peersMax: () => choices.pick([1, 3]),
    ...more,
  });
}

export function handlerOptions(draft: Draft, receiver: AnySocket): unknown {
  const { choices } = draft;
  return {
    ...(batchOptions(draft, {}) as object),
    ...(choices.chance(85) ? { drain: listener(draft, receiver, "drains") } : {}),
    ...(choices.chance(85) ? { error: listener(draft, receiver, "errors") } : {}),
  };
}

export const CLASSES = ["Socket", "UdpSocket", "UnixDatagramSocket"] as const;

/** A socket of any class that batches can come to. */
export function source(draft: Draft): AnySocket {
  const { world, choices } = draft;
  const receiver = world.socket(choices, choices.pick(CLASSES), isReceivingDatagram);
  return isReceivingDatagram(kindOf(receiver)) ? receiver : world.add(UdpSocket.bind("[::]:0"));
}

export function iterator(draft: Draft): Batches {
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
  world.unsubscribe(from);
  const batches = from.batches({ capacity: 4, slotBytes: 100, rotate, signal });
  world.iterate(batches, from);
  return batches;
}

export function isWaiting({ waiting }: World, batches: Batches): boolean {
  for (const { receiver } of waiting) if (receiver === batches) return true;
  return false;
}

export function subscription(draft: Draft): BatchSubscription {
  const { world, choices } = draft;
  if (world.subscriptions.length > 0 && choices.chance(70))
    return choices.pick(world.subscriptions).subscription;
  const from = source(draft);
  world.unsubscribe(from);
  world.leaveLoops(from);
  const listeners = {
    drain: listener(draft, from, "drains"),
    error: listener(draft, from, "errors"),
  };
  const made = from.onBatch(handler(draft, from), { capacity: 4, slotBytes: 100, ...listeners });
  world.subscribed(made, from);
  return made;
}

export const onIterator: Row = (draft) => ({ receiver: iterator(draft), values: [] });
export const onSubscription: Row = (draft) => ({ receiver: subscription(draft), values: [] });

/** Sockets to poll, by themselves and with what is waited for. */
export function polled(draft: Draft): unknown[] {
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
export const LEFT_OUT: ReadonlyMap<string, readonly unknown[]> = new Map([
  ["TCP_ULP", []],
  ["SO_LINGER", [undefined, 0]],
]);

export const CANDIDATES: readonly unknown[] = [
  ...[true, false, 0, 1, 2, 3, 10, 64, 100, 1000, 4096, 65535, -1],
  ...["", "lo", "reno", "cubic", "127.0.0.1", "0.0.0.0", "do", "dont", "want", "none", "send"],
  ...[undefined, Number.POSITIVE_INFINITY, new Uint8Array(0), new Uint8Array(8)],
  ...[
    { low: 0, high: 0 },
    { low: 40_000, high: 50_000 },
    { clockId: 1, flags: 0 },
  ],
];

export interface Settable {
  readonly option: object;
  readonly value: unknown;
}

/** What sockets of one kind take. */
export interface OptionsOfKind {
  readonly readable: readonly object[];
  readonly settable: readonly Settable[];
  /** Numbers, and values that can be set. */
  readonly raw: readonly (readonly [level: number, number: number, value: number])[];
}

export const allReadable: object[] = [];
export const allSettable: Settable[] = [];
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

export const found = new Map<string, OptionsOfKind>();

/** The options that the kernel knows for a kind of socket, found by trying. */
export function optionsOf({ family, type }: AnySocket): OptionsOfKind {
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
export function some90<Item>({ choices }: Draft, own: readonly Item[], all: readonly Item[]) {
  return own.length > 0 && choices.chance(90) ? own : all;
}

export function accepts(work: () => unknown): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}

// Integers that every socket has, then some that only some have.
export const RAW: readonly (readonly [level: number, number: number, value: number])[] = [
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

export const families: readonly (readonly [SocketFamily, SocketType])[] = [
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
export function setListenFds(count: string | undefined): void {
  const { env } = process;
  if (count === undefined) delete env["LISTEN_FDS"];
  else env["LISTEN_FDS"] = count;
  env["LISTEN_PID"] = `${process.pid}`;
}

export function adopt(draft: Draft): Plan {
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
