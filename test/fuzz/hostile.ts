/**
 * Arguments that do something while they are read: close the socket, free the batch, transfer or
 * resize memory, call again, throw.
 *
 * @module
 */
import {
  DatagramBatch,
  Inet4Address,
  Inet6Address,
  Message,
  NativeBuffer,
  Socket,
  UnixAddress,
} from "bun-sockets";
import { Header, PacketView } from "bun-sockets/packet";
import { isBag } from "./bad.ts";
import type { Draft, Plan } from "./draft.ts";
import { Failure } from "./failure.ts";
import { isOpen } from "./world.ts";

/** Thrown by an argument: it must come out as it is. */
export class HostileError extends Error {
  override name = "HostileError";
}

/**
 * How often a trap makes its call again: a call that is answered later may spring the trap anew, and
 * would go on for ever.
 */
const AGAIN_MAX = 8;

/** What happens when an argument is read, and what has happened. */
export class Trap {
  /** How often it was sprung. */
  sprung = 0;
  /** What it threw, when it did. */
  thrown: HostileError | undefined;
  /** How often each option was read by the call itself. */
  readonly reads = new Map<string, number>();
  readonly #draft: Draft;
  readonly #plan: Plan;
  readonly #again: () => void;
  readonly #mischief: Mischief;
  #isArmed = true;
  #depth = 0;
  #agains = 0;

  /** `again` makes the same call once more. */
  constructor(draft: Draft, plan: Plan, again: () => void) {
    this.#draft = draft;
    this.#plan = plan;
    this.#again = () => {
      if (this.#agains++ < AGAIN_MAX) again();
    };
    const isOfPackets = draft.entry.module === "packet";
    this.#mischief = draft.choices.pick(isOfPackets ? MISCHIEF_WITH_PACKETS : MISCHIEF);
  }

  /** From now on what reads the arguments is the harness. */
  disarm(): void {
    this.#isArmed = false;
  }

  /** From now on it is the library: what was not answered at once reads them again. */
  arm(): void {
    this.#isArmed = true;
  }

  get isArmed(): boolean {
    return this.#isArmed && this.#depth === 0;
  }

  /** Does the mischief, unless it is being done. */
  spring(): void {
    if (!this.isArmed) return;
    this.sprung++;
    this.#depth++;
    try {
      this.#mischief(this.#draft, this.#plan, this.#again);
    } catch (error) {
      // What its own calls throw is not the business of the call that it is an argument of.
      if (error instanceof HostileError) this.thrown = error;
      if (error instanceof HostileError || error instanceof Failure) throw error;
    } finally {
      this.#depth--;
    }
  }

  /** Counts a reading of an option. */
  read(key: string): void {
    if (this.isArmed) this.reads.set(key, (this.reads.get(key) ?? 0) + 1);
  }
}

type Mischief = (draft: Draft, plan: Plan, again: () => void) => void;

const MISCHIEF: readonly Mischief[] = [
  (_draft, { receiver }) => closeIt(receiver),
  (_draft, { values }) => values.forEach(closeIt),
  ({ world, choices }) => choices.pick([...world.sockets, undefined])?.close(),
  ({ world }, { receiver }) => {
    if (receiver instanceof Socket && isOpen(receiver)) world.fds.add(receiver.detach());
  },
  ({ world }) => {
    for (const { batch } of world.batches) batch.free();
  },
  ({ world }) => {
    for (const { memory } of world.batches) transfer(memory);
  },
  ({ world }) => {
    for (const { memory } of world.batches) letGo(memory);
  },
  ({ world, choices }) => world.abort(choices),
  ({ world, choices }) => world.handOver(choices.pick(world.sockets)),
  ({ world }) => {
    world.stopAll();
    for (const { batches } of world.iterators) batches.return();
  },
  ({ slots }) => {
    for (const { buffer } of slots) if (!buffer.detached) buffer.transfer();
  },
  (_draft, { receiver, values }) => [receiver, ...values].forEach(transferIn),
  (_draft, { receiver, values }) => [receiver, ...values].forEach(transferIn),
  (_draft, { values }) => values.forEach(resize),
  (_draft, _plan, again) => again(),
  (_draft, _plan, again) => again(),
  ({ world }) => {
    for (const { batch } of world.batches) if (!batch.freed) batch.count = 0;
  },
  ({ world, choices }) => {
    for (const { batch, capacity, slotBytes } of world.batches) {
      if (batch.freed) continue;
      batch.count = capacity;
      batch.swap(0, choices.below(capacity));
      batch.setLength(0, slotBytes);
    }
  },
  ({ world }) => {
    for (const message of world.messages) message.vectors = [];
  },
  ({ world, choices }) => {
    choices.pick([...world.sockets, undefined])?.tryReceiveBytes(100);
  },
  ({ choices }) => {
    if (choices.chance(10)) Bun.gc(true);
  },
  () => {
    throw new HostileError("thrown by an argument");
  },
  () => {
    throw new HostileError("thrown by an argument");
  },
];

/** To end a ring takes the kernel some 20 ms. */
const RING_CHANCE = 10;

const MISCHIEF_WITH_PACKETS: readonly Mischief[] = [
  ...MISCHIEF,
  ({ world, choices }) => {
    if (choices.chance(RING_CHANCE)) world.packets.ring(choices).close();
  },
  ({ world, choices }) => {
    if (choices.chance(RING_CHANCE)) transfer(world.packets.ring(choices).bytes);
  },
  ({ world, choices }) => world.packets.block(choices).release(),
  ({ world, choices }) => world.packets.block(choices).next(),
  ({ world, choices }) => world.packets.ring(choices).tryReceiveBlock(),
  ({ world }) => {
    for (const reader of world.packets.readers) reader.close();
  },
  ({ world }) => {
    for (const writer of world.packets.writers) world.closeWriter(writer);
  },
  (_draft, { receiver }) => {
    if (receiver instanceof Header) receiver.leave();
  },
];

function closeIt(value: unknown): void {
  if (value instanceof Socket) value.close();
  else if (value instanceof DatagramBatch || value instanceof NativeBuffer) value.free();
}

function transferIn(value: unknown): void {
  if (value instanceof DatagramBatch) transfer(value.memory);
  else if (value instanceof NativeBuffer) transfer(value.bytes);
  else if (value instanceof Message) [...value.vectors, value.control].forEach(transfer);
  else if (value instanceof Header || value instanceof PacketView) transfer(value.memory);
  else if (ArrayBuffer.isView(value)) transfer(value);
}

function transfer({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer();
}

// To another length it is copied, and the old memory is gone at once.
function letGo({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

function resize(value: unknown): void {
  const buffer = ArrayBuffer.isView(value) ? value.buffer : value;
  if (buffer instanceof ArrayBuffer && buffer.resizable) buffer.resize(0);
}

/** Puts the trap into one of the arguments. */
export function arm(draft: Draft, values: readonly unknown[], trap: Trap): unknown[] {
  const { choices } = draft;
  if (values.length === 0) return [armValue(draft, undefined, trap)];
  const at = choices.below(values.length);
  return values.map((value, i) => (i === at ? armValue(draft, value, trap) : value));
}

function armValue(draft: Draft, value: unknown, trap: Trap): unknown {
  const { choices } = draft;
  if (typeof value === "function") return armCallback(draft, trap);
  if (typeof value !== "object" || value === null) {
    if (value === undefined && choices.chance(70)) return armedProxy({}, trap);
    return armedPrimitive(value, trap);
  }
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer)
    return armedMemory(draft, value, trap);
  if (Array.isArray(value)) return armedList(draft, value, trap);
  if (value instanceof AbortSignal) return armedSignal(draft, value, trap);
  if (value instanceof DatagramBatch || value instanceof Message || value instanceof Socket)
    return choices.chance(30) ? armedProxy(value, trap) : armedCopy(draft, value, trap);
  if (
    value instanceof Inet4Address ||
    value instanceof Inet6Address ||
    value instanceof UnixAddress
  )
    return choices.chance(30) ? armedProxy(value, trap) : armedAddress(value, trap);
  return isBag(value) ? armedBag(draft, value, trap) : armedProxy(value, trap);
}

// A callback gets what the call has made: it is as good a victim as any other.
function armCallback({ world, choices }: Draft, trap: Trap): (made: unknown) => void {
  return (made) => {
    // A handler's batch stays its owner's.
    if (made instanceof DatagramBatch) world.lend(made);
    else world.harvest(made);
    if (choices.chance(30)) closeIt(made);
    trap.spring();
  };
}

function armedPrimitive(value: unknown, trap: Trap): object {
  const convert = () => {
    trap.spring();
    return value as string;
  };
  return { valueOf: convert, toString: convert, [Symbol.toPrimitive]: convert };
}

function armedProxy(target: object, trap: Trap): object {
  return new Proxy(target, {
    get(_target, key) {
      if (typeof key === "string" && isBag(target)) trap.read(key);
      trap.spring();
      return Reflect.get(target, key);
    },
    has(_target, key) {
      trap.spring();
      return Reflect.has(target, key);
    },
    getPrototypeOf() {
      trap.spring();
      return Reflect.getPrototypeOf(target);
    },
    ownKeys() {
      trap.spring();
      return Reflect.ownKeys(target);
    },
  });
}

function armedBag(draft: Draft, good: Record<string, unknown>, trap: Trap): object {
  const { choices } = draft;
  if (choices.chance(25)) return armedProxy(good, trap);
  const keys = Object.keys(good);
  // Some options are read that the plan has nothing for.
  const all = keys.length > 0 ? keys : ["flags", "timeoutMs", "own", "configure", "address"];
  const springing = "configure" in good && choices.chance(50) ? "configure" : choices.pick(all);
  const armed = {};
  for (const key of all) {
    const isCallback = typeof good[key] === "function";
    const isArmed =
      key === springing && (isCallback || good[key] instanceof AbortSignal || choices.chance(25));
    const value = isArmed ? armValue(draft, good[key], trap) : good[key];
    Object.defineProperty(armed, key, {
      enumerable: true,
      get() {
        trap.read(key);
        if (key === springing && !isCallback) trap.spring();
        return value;
      },
    });
  }
  return armed;
}

const LIES = [0, 1, 2 ** 31 - 1, 2 ** 53, -1, Number.NaN];

/** Getters of the object's own that go before those of its class, and lie. */
function shadow(draft: Draft, target: object, keys: readonly string[], trap: Trap): void {
  for (const key of keys) {
    const lie = draft.choices.pick<unknown>([...LIES, undefined, new Uint8Array(3)]);
    Object.defineProperty(target, key, {
      configurable: true,
      get() {
        if (!trap.isArmed) return Reflect.get(Object.getPrototypeOf(target), key, target);
        trap.spring();
        return lie;
      },
      set() {},
    });
  }
}

const VIEW_KEYS = ["byteLength", "byteOffset", "buffer", "length", "constructor", "subarray"];

function armedMemory(draft: Draft, value: ArrayBufferView | ArrayBuffer, trap: Trap): unknown {
  const { choices } = draft;
  if (choices.chance(25)) return armedProxy(value, trap);
  if (choices.chance(10)) {
    const resizable = new ArrayBuffer(100, { maxByteLength: 200 });
    return new Uint8Array(resizable);
  }
  const view = ArrayBuffer.isView(value) ? value : new Uint8Array(value);
  const { buffer, byteOffset, byteLength } = view;
  class Lying extends Uint8Array {
    static get [Symbol.species](): Uint8ArrayConstructor {
      trap.spring();
      return Uint8Array;
    }
  }
  const armed = choices.chance(50)
    ? new Lying(buffer as ArrayBuffer, byteOffset, byteLength)
    : new Uint8Array(buffer, byteOffset, byteLength);
  shadow(draft, armed, VIEW_KEYS, trap);
  return armed;
}

function armedList(draft: Draft, list: readonly unknown[], trap: Trap): unknown {
  const { choices } = draft;
  const at = choices.below(list.length + 1);
  return choices.pick<() => unknown>([
    () => armedProxy(list, trap),
    () => Object.defineProperty([...list], at, { get: () => [trap.spring(), list[at]][1] }),
    () =>
      Object.defineProperty({ ...list }, "length", {
        get: () => [trap.spring(), choices.pick([list.length, list.length + 1, ...LIES])][1],
      }),
    () => ({
      *[Symbol.iterator]() {
        for (const item of list) {
          trap.spring();
          yield item;
        }
        trap.spring();
      },
    }),
  ])();
}

/** A real signal with members of its own that go before those of its class. */
function armedSignal({ choices }: Draft, signal: AbortSignal, trap: Trap): object {
  if (choices.chance(25)) return armedProxy(signal, trap);
  // Of its own, because others have the same signal.
  const { signal: armed } = new AbortController();
  const lie = new HostileError("a reason");
  for (const key of ["throwIfAborted", "addEventListener", "removeEventListener"])
    Object.defineProperty(armed, key, { value: () => trap.spring() });
  Object.defineProperty(armed, "aborted", { get: () => [trap.spring(), true][1] });
  Object.defineProperty(armed, "reason", { get: () => [trap.spring(), lie][1] });
  return armed;
}

/** An object of the same kind, real, with getters that lie. */
function armedCopy(draft: Draft, value: DatagramBatch | Message | Socket, trap: Trap): object {
  const { world } = draft;
  if (value instanceof DatagramBatch) {
    const { batch } = world.addBatch(new DatagramBatch({ capacity: 4, slotBytes: 100 }));
    batch.count = 2;
    batch.copySender(0, 1);
    shadow(draft, batch, ["count", "memory", "capacity", "slotBytes", "freed"], trap);
    return batch;
  }
  if (value instanceof Message) {
    const { address } = value;
    const vectors = value.vectors.filter(({ buffer }) => !(buffer as ArrayBuffer).detached);
    const message = new Message({ vectors, address, controlBytes: 64 });
    world.vectors.set(message, [...(world.vectors.get(value) ?? [])]);
    shadow(draft, message, ["vectors", "address", "control", "controlLength"], trap);
    return message;
  }
  return {
    get descriptor() {
      trap.spring();
      return value.descriptor;
    },
  };
}

// Addresses are frozen, so a class of their own lies for them.
function armedAddress(address: Inet4Address | Inet6Address | UnixAddress, trap: Trap): object {
  const { bytes } = address;
  const lie = () => {
    trap.spring();
    return 0;
  };
  if (address instanceof Inet4Address) {
    class Lying extends Inet4Address {
      override get port(): number {
        return lie();
      }
      override get bytes(): Uint8Array {
        trap.spring();
        return new Uint8Array(3);
      }
      override toString(): string {
        return `${lie()}`;
      }
    }
    return new Lying(bytes);
  }
  if (address instanceof Inet6Address) {
    class Lying extends Inet6Address {
      override get port(): number {
        return lie();
      }
      override get host(): string {
        return `${lie()}`;
      }
      override resolveScope(): Inet6Address {
        trap.spring();
        return this;
      }
    }
    return new Lying(bytes);
  }
  class Lying extends UnixAddress {
    override get isPath(): boolean {
      return lie() === 1;
    }
    override get nameBytes(): Uint8Array {
      trap.spring();
      return new Uint8Array(200);
    }
    override toString(): string {
      return `${lie()}`;
    }
  }
  return new Lying(bytes);
}
