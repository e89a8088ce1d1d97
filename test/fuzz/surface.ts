/**
 * The public surface, as the package exports it at run time: nothing here names a class or a method.
 *
 * @module
 */
import * as main from "bun-sockets";
import * as packet from "bun-sockets/packet";
import { HeaderOptions } from "../../lib/packet/headers/options.ts";
import { RingSocket } from "../../lib/packet/internal/ring_socket.ts";
import { PacketBlock } from "../../lib/packet/packet_block.ts";
import { PacketBlocks } from "../../lib/packet/packet_ring.ts";

/** An entry of the package, by what follows its name: "" is the main one. */
export type ModuleName = "main" | "packet";

const MODULES: Readonly<Record<ModuleName, Readonly<Record<string, unknown>>>> = { main, packet };
const api: Readonly<Record<string, unknown>> = { ...main, ...packet };

/** Something that can be called. */
export interface Entry {
  /** Where it is exported, or the class whose calls give objects that have it. */
  readonly module: ModuleName;
  /** "UdpSocket.prototype.trySend", "get Socket.prototype.connected", "new Message", "options.dump". */
  readonly key: string;
  /** The key of whom it was inherited from, else its own. */
  readonly definedAs: string;
  /** The key of the member that it stands in for, in the class above. */
  readonly overrides?: string | undefined;
  /** The class, for its members. */
  readonly className: string | undefined;
  /** Whether it is called on an object of the class. */
  readonly onInstance: boolean;
  readonly invoke: (receiver: unknown, values: readonly unknown[]) => unknown;
}

type Class = abstract new (...values: never[]) => object;
type Call = (...values: readonly unknown[]) => unknown;

// What every function and every prototype has.
const OF_FUNCTIONS: readonly (string | symbol)[] = ["length", "name", "prototype"];
const OF_PROTOTYPES: readonly (string | symbol)[] = ["constructor"];

// What the poller calls. The type that callers have of a handler does not show it.
const WAITERS: readonly string[] = ["Batches", "BatchSubscription"];
const OF_WAITERS: readonly (string | symbol)[] = ["run", "end", "fail"];
// What headers call, of the walk over their options.
const OF_HEADERS: readonly (string | symbol)[] = ["rewind"];
// What CaptureFile makes, of what it has checked.
const OF_CAPTURE_FILE: readonly string[] = ["CaptureWriter"];

/** Classes that the package does not export: whoever has an object of one got it from a call. */
const given: Readonly<Record<ModuleName, Readonly<Record<string, Class>>>> = {
  main: sampleGiven(),
  // By name, because rings take rights.
  packet: { HeaderOptions, PacketBlock, PacketBlocks, RingSocket: RingSocket as unknown as Class },
};

function sampleGiven(): Record<string, Class> {
  using socket = main.UdpSocket.bind("127.0.0.1:0");
  const batches = socket.batches({ capacity: 1 });
  batches.return();
  using subscription = socket.onBatch(() => {});
  const errors = socket.errors();
  using listener = main.TcpListener.listen("127.0.0.1:0");
  const connections = listener.connections();
  connections.return?.();
  const [left, right] = main.UnixSocket.pair();
  left.close();
  right.close();
  return {
    Batches: classOf(batches),
    BatchSubscription: classOf(subscription),
    Connections: classOf(connections),
    QueuedErrors: classOf(errors),
    SocketReader: classOf(left.reader()),
    SocketWriter: classOf(left.writer()),
  };
}

function classOf(value: object): Class {
  return Object.getPrototypeOf(value).constructor;
}

/** The classes of the package by name. */
export const classes: ReadonlyMap<string, Class> = new Map([
  ...Object.entries(api).filter((pair): pair is [string, Class] => isClass(pair[1])),
  ...Object.values(given).flatMap((types) => Object.entries(types)),
]);

/** Objects of constants: the groups of options. */
export const groups: ReadonlyMap<string, Readonly<Record<string, object>>> = new Map(
  Object.entries(api).filter((pair): pair is [string, Readonly<Record<string, object>>] =>
    isGroup(pair[1]),
  ),
);

/** All that can be called. */
export const entries: readonly Entry[] = [
  ...entriesOf("main"),
  // The lines and chunks of a reader come from objects that have no class: in promise form, and from
  // `linesSync` without a promise.
  step("main", "lines.next", "next"),
  step("main", "lines.nextSync", "next"),
  step("main", "lines.return", "return"),
  ...entriesOf("packet"),
  // So do the frames of a block, and the packets of a file.
  step("packet", "frames.next", "next"),
  step("packet", "captured.next", "next"),
  step("packet", "captured.nextSync", "next"),
  step("packet", "captured.return", "return"),
  step("packet", "captured.returnSync", "return"),
];

function entriesOf(name: ModuleName): Entry[] {
  const exported = Object.entries(MODULES[name]).flatMap(([member, value]) =>
    valueEntries(name, member, value),
  );
  const others = Object.entries(given[name]).flatMap(([member, type]) =>
    members(name, member, type.prototype, ".prototype", undefined),
  );
  return [...exported, ...others];
}

function valueEntries(module: ModuleName, name: string, value: unknown): Entry[] {
  if (isClass(value)) return classEntries(module, name, value);
  if (typeof value === "function") return [plain(module, name, value as Call, undefined)];
  if (isGroup(value) || isTable(value)) return [];
  if (Object.getPrototypeOf(value) !== Object.prototype)
    return ownEntries(module, name, value as object);
  return Object.entries(value as Record<string, Call>).map(([member, call]) => {
    if (typeof call !== "function") throw new Error(`Cannot tell what ${name}.${member} is`);
    return plain(module, `${name}.${member}`, call, value);
  });
}

const STEPS =
  /^(Batches|Connections|QueuedErrors|PacketBlocks)\.prototype(\.next|\.return|\[Symbol\.asyncDispose\])$|^(lines|captured)\.return$/;
const keys: ReadonlySet<string> = new Set(entries.map(({ key }) => key));

/** Whether it is a member of another class, that this one has too. */
export function isInherited({ key, definedAs }: Entry): boolean {
  return key !== definedAs;
}

/** Whether a call answers with a promise whatever happens: wrong arguments reject it. */
export function isPromiseForm({ key }: Entry): boolean {
  return (keys.has(`${key}Sync`) && !key.endsWith(".lines")) || STEPS.test(key);
}

function isClass(value: unknown): value is Class {
  return typeof value === "function" && Function.prototype.toString.call(value).startsWith("class");
}

function isGroup(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (Object.getPrototypeOf(value) !== Object.prototype) return false;
  const members = Object.values(value);
  return members.length > 0 && members.every((member) => typeof member === "object");
}

// Numbers by name.
function isTable(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const numbers = Object.values(value);
  return numbers.length > 0 && numbers.every((member) => typeof member === "number");
}

function plain(module: ModuleName, key: string, call: Call, self: unknown): Entry {
  return {
    module,
    key,
    definedAs: key,
    className: undefined,
    onInstance: false,
    invoke: (_receiver, values) => Reflect.apply(call, self, values),
  };
}

function step(module: ModuleName, key: string, member: string): Entry {
  return {
    module,
    key,
    definedAs: key,
    className: undefined,
    onInstance: true,
    invoke: (receiver, values) => (receiver as Record<string, Call>)[member]?.(...values),
  };
}

/** The members of the one object of a class. */
function ownEntries(module: ModuleName, name: string, value: object): Entry[] {
  const prototype = Object.getPrototypeOf(value);
  const members = Reflect.ownKeys(prototype).filter((member) => !OF_PROTOTYPES.includes(member));
  return members.flatMap((member) =>
    accessors(prototype, member, (prefix, call) =>
      plain(module, `${prefix}${name}.${String(member)}`, call, value),
    ),
  );
}

function classEntries(module: ModuleName, name: string, type: Class): Entry[] {
  const construct: Entry = {
    module,
    key: `new ${name}`,
    definedAs: `new ${name}`,
    className: name,
    onInstance: false,
    invoke: (_receiver, values) => Reflect.construct(type as unknown as new () => object, values),
  };
  return [
    ...(OF_CAPTURE_FILE.includes(name) ? [] : [construct]),
    ...members(module, name, type, "", type),
    ...members(module, name, type.prototype, ".prototype", undefined),
  ];
}

/** The members of an object and of those that it inherits from, as far as they are the package's. */
function members(
  module: ModuleName,
  name: string,
  start: object,
  path: string,
  self: object | undefined,
): Entry[] {
  const found = new Map<string | symbol, Entry[]>();
  for (let holder = start; ; holder = Object.getPrototypeOf(holder)) {
    const owner = ownerOf(holder);
    if (owner === undefined) return [...found.values()].flat();
    for (const member of Reflect.ownKeys(holder)) {
      const usual = typeof holder === "function" ? OF_FUNCTIONS : OF_PROTOTYPES;
      if (usual.includes(member) || found.has(member)) continue;
      if (WAITERS.includes(name) && OF_WAITERS.includes(member)) continue;
      if (name === "HeaderOptions" && OF_HEADERS.includes(member)) continue;
      const above = ownerOf(holderOf(Object.getPrototypeOf(holder), member));
      const suffix = `${path}${typeof member === "symbol" ? `[${member.description}]` : `.${member}`}`;
      const make = (prefix: string, call: Call): Entry => ({
        module,
        key: `${prefix}${name}${suffix}`,
        definedAs: `${prefix}${owner}${suffix}`,
        overrides: above && `${prefix}${above}${suffix}`,
        className: name,
        onInstance: self === undefined,
        invoke: (receiver, values) => Reflect.apply(call, self ?? receiver, values),
      });
      found.set(member, accessors(holder, member, make));
    }
  }
}

function accessors(
  holder: object,
  member: string | symbol,
  make: (prefix: string, call: Call) => Entry,
): Entry[] {
  const { get, set, value } = Object.getOwnPropertyDescriptor(holder, member) ?? {};
  if (typeof value === "function") return [make("", value as Call)];
  const made: Entry[] = [];
  if (get) made.push(make("get ", get as Call));
  if (set) made.push(make("set ", set as Call));
  if (made.length === 0) throw new Error(`Cannot tell what ${String(member)} is`);
  return made;
}

function holderOf(start: object, member: string | symbol): object | null {
  let holder: object | null = start;
  while (holder && !Object.hasOwn(holder, member)) holder = Object.getPrototypeOf(holder);
  return holder;
}

function ownerOf(holder: object | null): string | undefined {
  for (const [name, type] of classes) if (holder === type || holder === type.prototype) return name;
  return undefined;
}
