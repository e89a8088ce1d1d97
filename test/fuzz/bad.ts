/**
 * Arguments that a call should not take: of the wrong type, out of range, forged, spent. What should
 * be refused in one place may be right in another; the call is to refuse it or to make sense of it.
 *
 * @module
 */
import {
  DatagramBatch,
  Inet4Address,
  Message,
  NativeBuffer,
  Socket,
  SocketOption,
  UnixAddress,
} from "bun-sockets";
import { CaptureReader, CaptureWriter, Header, PacketRing, PacketView } from "bun-sockets/packet";
import { HeaderOptions } from "../../lib/packet/headers/options.ts";
import { RingSocket } from "../../lib/packet/internal/ring_socket.ts";
import { PacketBlock } from "../../lib/packet/packet_block.ts";
import type { Choices } from "./choices.ts";
import type { Draft, Plan } from "./draft.ts";
import { classes } from "./surface.ts";
import { type AnySocket, classOf, isIterator, isOfLink, isOpen, sendableFd } from "./world.ts";

/** What became of a plan. */
export interface Spoiled {
  readonly plan: Plan;
  /** Whether `this` is not an object of the class: the engine itself refuses that. */
  readonly isForeign: boolean;
}

const NUMBERS = [
  ...[
    Number.NaN,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    -1,
    -0.5,
    0.5,
    1.5,
    -(2 ** 31),
  ],
  ...[2 ** 16, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, -(2 ** 53), 1e300, -0],
];

const TEXTS = [
  ...["", " ", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:-1", "127.1:1", "127.0.0.01:1", "[::1]"],
  ...[
    "[::1%]:1",
    "[fe80::1%nosuch]:1",
    "localhost:80",
    "unix",
    "unix:a\0b",
    `unix:@${"x".repeat(108)}`,
  ],
  ...[
    "sockaddr:",
    "sockaddr:0",
    "sockaddr:zz",
    "sockaddr:0100",
    `unix:/${"y".repeat(200)}`,
    "a\0b",
  ],
  ...["\ud800", "x".repeat(70_000), "__proto__", "constructor", "toString", "ipv5", "READ"],
];

/** Views and buffers that the kernel is not to touch. */
const MEMORY: readonly (() => unknown)[] = [
  () => new Uint8Array(0),
  () => detachedView(),
  () => new Uint8Array(new SharedArrayBuffer(100)),
  () => new Uint8Array(new ArrayBuffer(100, { maxByteLength: 200 })),
  () => new Uint8Array(new ArrayBuffer(100, { maxByteLength: 200 }), 10, 50),
  () => outOfBounds(),
  () => new DataView(new SharedArrayBuffer(100), 10),
  () => new ArrayBuffer(0),
  () => new SharedArrayBuffer(10),
  () => detachedView().buffer,
  () => new ArrayBuffer(10, { maxByteLength: 20 }),
  () => Object.create(Uint8Array.prototype),
  () => Object.create(ArrayBuffer.prototype),
  () => new Proxy(new Uint8Array(10), {}),
  () => new Proxy(new ArrayBuffer(10), {}),
  () => [1, 2, 3],
  () => new Blob(["x"]),
];

const OTHERS: readonly (() => unknown)[] = [
  () => undefined,
  () => null,
  () => true,
  () => false,
  () => 10n,
  () => 2n ** 64n,
  () => Symbol("fuzz"),
  () => ({}),
  () => [],
  () => () => {},
  () => new Date(0),
  () => /x/,
  () => Object.create(null),
  () => Object.freeze({ length: 2 ** 32 }),
  () => ({ length: -1 }),
  () => Promise.resolve(),
  () => globalThis,
];

function detachedView(): Uint8Array {
  const view = new Uint8Array(100);
  view.buffer.transfer();
  return view;
}

function outOfBounds(): Uint8Array {
  const buffer = new ArrayBuffer(100, { maxByteLength: 200 });
  const view = new Uint8Array(buffer, 50, 50);
  buffer.resize(10);
  return view;
}

const text = { value: () => "forged" };
const LOOKS = {
  descriptor: { value: -1 },
  bytes: { value: new Uint8Array(16) },
  toString: text,
  valueOf: text,
};

// Objects that look like one of ours and are not.
function forged(choices: Choices, { world }: Draft): unknown {
  const like = choices.pick([...classes.values()]);
  const real = choices.pick([
    () =>
      world.socket(
        choices,
        choices.pick(["Socket", "UdpSocket", "UnixDatagramSocket"]),
        () => true,
      ),
    () => world.batch(choices).batch,
    () => new Message(),
    () => Inet4Address.loopback,
    () => UnixAddress.unnamed,
    () => SocketOption.keepAlive,
    () => new AbortController().signal,
  ]);
  return choices.pick<() => unknown>([
    () => Object.create(like.prototype, LOOKS),
    () => Object.create(like.prototype, LOOKS),
    () => new Proxy(real(), {}),
    () => Object.create(real()),
    () => ({ ...real() }),
    real,
    () => like,
    () => like.prototype,
  ])();
}

/** Anything at all. */
function badValue(draft: Draft, good: unknown): unknown {
  const { choices } = draft;
  // What is nearly right finds more than what is wrong altogether.
  const isObject = typeof good === "object" && good !== null;
  if (typeof good === "number" && choices.chance(70)) return choices.pick(NUMBERS);
  if (typeof good === "string" && choices.chance(70)) return choices.pick(TEXTS);
  if (isMemory(good) && choices.chance(70)) return choices.pick(MEMORY)();
  if (isObject && isBag(good) && choices.chance(80)) return badBag(draft, good);
  return choices.pick<() => unknown>([
    () => choices.pick(NUMBERS),
    () => choices.pick(TEXTS),
    () => choices.pick(MEMORY)(),
    () => choices.pick(OTHERS)(),
    () => choices.pick(OTHERS)(),
    () => forged(choices, draft),
  ])();
}

/** Whether it is an object of options, and nothing else. */
export function isBag(value: object): value is Record<string, unknown> {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype && !Object.isFrozen(value);
}

function isMemory(value: unknown): boolean {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
}

const KEYS = [
  ...[
    "flags",
    "timeoutMs",
    "capacity",
    "slotBytes",
    "peersMax",
    "vectors",
    "address",
    "controlBytes",
  ],
  ...["own", "protocol", "type", "family", "receiveBufferBytes", "reuseAddress", "ipv6Only"],
  ...["configure", "mode", "removeStale", "flow", "host", "port", "path", "sockaddr"],
  ...["signal", "rotate", "drain", "error", "socket", "read", "write"],
  ...["offset", "length", "bufferBytes", "limitBytes", "encoding", "newline", "backlog", "noDelay"],
  ...["localAddress", "localPortRange", "staggerMs", "attemptTimeoutMs", "unlinkOnClose", "order"],
];

const CALLBACKS = ["configure", "drain", "error", "next"];

function badBag(draft: Draft, good: Record<string, unknown>): Record<string, unknown> {
  const { choices } = draft;
  const keys = Object.keys(good);
  const key = keys.length > 0 && choices.chance(90) ? choices.pick(keys) : choices.pick(KEYS);
  const value = badValue(draft, good[key]);
  // A class is a function that the library cannot call: what happens then is the caller's business.
  return { ...good, [key]: CALLBACKS.includes(key) ? notCallable(value) : value };
}

function notCallable(value: unknown): unknown {
  return typeof value === "function" ? 1 : value;
}

/** Makes a plan bad: by its arguments, or by the object that it is called on. */
export function spoil(draft: Draft, plan: Plan): Spoiled {
  const { choices, entry } = draft;
  const { receiver, values } = plan;
  if (entry.onInstance) {
    const chance = values.length === 0 ? [92, 8] : [25, 10];
    if (choices.chance(chance[0] as number)) {
      const gone = spent(draft, receiver);
      if (gone !== undefined) return { plan: { receiver: gone, values }, isForeign: false };
    }
    if (values.length === 0 || choices.chance(chance[1] as number)) {
      const foreign = choices.chance(50) ? forged(choices, draft) : badValue(draft, receiver);
      return { plan: { receiver: foreign, values }, isForeign: true };
    }
  }
  const at = choices.below(Math.max(values.length, 1));
  const spoiled = values.map((value, i) => {
    if (i !== at) return value;
    const bad = badValue(draft, value);
    return typeof value === "function" ? notCallable(bad) : bad;
  });
  if (values.length > 0 && choices.chance(5)) spoiled.length = at;
  return { plan: { receiver, values: spoiled }, isForeign: false };
}

/** An object of the class of `like` that is closed or freed, or in the middle of nothing. */
function spent(draft: Draft, like: unknown): unknown {
  const { world, choices } = draft;
  const ofPackets = spentOfPackets(draft, like);
  if (ofPackets !== undefined) return ofPackets;
  if (like instanceof Socket) {
    const socket: AnySocket = world.socket(choices, classOf(like) ?? "Socket", () => true);
    // The kernel takes a while to end a packet socket, but not one of two descriptors.
    const isItself = !isOfLink(socket) && (socket === like || choices.chance(50));
    const gone = isItself || !isOpen(socket) ? socket : socket.duplicate();
    world.add(gone);
    if (choices.chance(20) && gone.descriptor >= 0) world.fds.add(gone.detach());
    else gone.close();
    return gone;
  }
  const owned = world.owned.find(({ object }) => object === like);
  if (owned) {
    // One that steps can be at its end, too.
    const { object, owner } = owned;
    if (isIterator(object) && choices.chance(30)) object.return?.();
    else owner.close();
    return like;
  }
  if (like instanceof DatagramBatch) {
    const { batch } = world.batch(choices);
    if (choices.chance(30)) batch.memory.buffer.transfer();
    else batch.free();
    return batch;
  }
  if (like instanceof NativeBuffer) {
    const buffer = world.buffer(choices);
    if (choices.chance(50)) buffer.free();
    else buffer.bytes.buffer.transfer();
    return buffer;
  }
  if (
    like === world.iterators.at(-1)?.batches ||
    like === world.subscriptions.at(-1)?.subscription
  ) {
    endIt(draft, like);
    return like;
  }
  if (like instanceof Message) {
    const [vector] = like.vectors;
    if (vector && choices.chance(50)) transfer(vector);
    else transfer(like.control);
    return like;
  }
  return undefined;
}

/** What is closed, nowhere, or whose memory is gone. */
function spentOfPackets(draft: Draft, like: unknown): unknown {
  const { choices, world } = draft;
  const { packets } = world;
  if (like instanceof RingSocket) return packets.closedRing(choices).socket;
  if (like instanceof PacketRing) return packets.closedRing(choices);
  if (like instanceof PacketBlock) {
    like.release();
    return like;
  }
  if (like instanceof CaptureReader || like instanceof CaptureWriter) {
    if (like instanceof CaptureWriter) world.closeWriter(like);
    else like.close();
    return like;
  }
  if (like instanceof Header || like instanceof PacketView) {
    if (like instanceof Header && choices.chance(60)) like.leave();
    else transfer(like.memory);
    return like;
  }
  if (like instanceof HeaderOptions) {
    while (like.next());
    return like;
  }
  const steps = packets.steps.find(({ object }) => object === like);
  if (steps) {
    steps.end();
    return like;
  }
  return undefined;
}

/** Ends an iterator or a handler, or what it has its batches from. */
function endIt({ world, choices }: Draft, like: unknown): void {
  for (const { batches, socket } of world.iterators)
    if (batches === like) choices.chance(50) ? batches.return() : socket.close();
  for (const { subscription, socket } of world.subscriptions)
    if (subscription === like) choices.chance(50) ? subscription.stop() : socket.close();
}

function transfer(view: ArrayBufferView): void {
  const { buffer } = view;
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer();
}

/** A number of a descriptor that nobody has: never one of Bun's own. */
export const CLOSED_FD = 700_000;

/**
 * Whether adopting the number can do no harm: what is no descriptor, or one that the harness or one
 * of its sockets has.
 */
export function isHarmlessFd({ world }: Draft, fd: unknown): boolean {
  if (typeof fd !== "number" || !Number.isInteger(fd) || fd < 0 || fd > CLOSED_FD) return true;
  return (
    fd === sendableFd ||
    world.fds.has(fd) ||
    world.packets.fds.includes(fd) ||
    world.sockets.some(({ descriptor }) => descriptor === fd)
  );
}
