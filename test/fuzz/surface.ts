/**
 * The public surface, as the package exports it at run time: nothing here names a class or a method.
 *
 * @module
 */
import * as api from "bun-sockets";

/** Something that can be called. */
export interface Entry {
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

/** Classes that the package does not export: whoever has an object of one got it from a call. */
const given: Readonly<Record<string, Class>> = sampleGiven();

function sampleGiven(): Record<string, Class> {
  using socket = api.UdpSocket.bind("127.0.0.1:0");
  const batches = socket.batches({ capacity: 1 });
  batches.return();
  using subscription = socket.onBatch(() => {});
  const errors = socket.errors();
  using listener = api.TcpListener.listen("127.0.0.1:0");
  const connections = listener.connections();
  connections.return?.();
  const [left, right] = api.UnixSocket.pair();
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
  ...Object.entries(api as Record<string, unknown>).filter((pair): pair is [string, Class] =>
    isClass(pair[1]),
  ),
  ...Object.entries(given),
]);

/** Objects of constants: the groups of options. */
export const groups: ReadonlyMap<string, Readonly<Record<string, object>>> = new Map(
  Object.entries(api as Record<string, unknown>).filter(
    (pair): pair is [string, Readonly<Record<string, object>>] => isGroup(pair[1]),
  ),
);

/** All that can be called. */
export const entries: readonly Entry[] = [
  ...Object.entries(api as Record<string, unknown>).flatMap(([name, value]) => {
    if (isClass(value)) return classEntries(name, value);
    if (typeof value === "function") return [plain(name, value as Call, undefined)];
    if (isGroup(value)) return [];
    if (Object.getPrototypeOf(value) !== Object.prototype) return ownEntries(name, value as object);
    return Object.entries(value as Record<string, Call>).map(([member, call]) => {
      if (typeof call !== "function") throw new Error(`Cannot tell what ${name}.${member} is`);
      return plain(`${name}.${member}`, call, value);
    });
  }),
  ...Object.entries(given).flatMap(([name, type]) =>
    members(name, type.prototype, ".prototype", undefined),
  ),
  // The lines and chunks of a reader come from objects that have no class: in promise form, and from
  // `linesSync` without a promise.
  step("lines.next", "next"),
  step("lines.nextSync", "next"),
  step("lines.return", "return"),
];

const STEPS =
  /^(Batches|Connections|QueuedErrors)\.prototype(\.next|\.return|\[Symbol\.asyncDispose\])$|^lines\.return$/;
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

function plain(key: string, call: Call, self: unknown): Entry {
  return {
    key,
    definedAs: key,
    className: undefined,
    onInstance: false,
    invoke: (_receiver, values) => Reflect.apply(call, self, values),
  };
}

function step(key: string, member: string): Entry {
  return {
    key,
    definedAs: key,
    className: undefined,
    onInstance: true,
    invoke: (receiver, values) => (receiver as Record<string, Call>)[member]?.(...values),
  };
}

/** The members of the one object of a class. */
function ownEntries(name: string, value: object): Entry[] {
  const prototype = Object.getPrototypeOf(value);
  const members = Reflect.ownKeys(prototype).filter((member) => !OF_PROTOTYPES.includes(member));
  return members.flatMap((member) =>
    accessors(prototype, member, (prefix, call) =>
      plain(`${prefix}${name}.${String(member)}`, call, value),
    ),
  );
}

function classEntries(name: string, type: Class): Entry[] {
  const construct: Entry = {
    key: `new ${name}`,
    definedAs: `new ${name}`,
    className: name,
    onInstance: false,
    invoke: (_receiver, values) => Reflect.construct(type as unknown as new () => object, values),
  };
  return [
    construct,
    ...members(name, type, "", type),
    ...members(name, type.prototype, ".prototype", undefined),
  ];
}

/** The members of an object and of those that it inherits from, as far as they are the package's. */
function members(name: string, start: object, path: string, self: object | undefined): Entry[] {
  const found = new Map<string | symbol, Entry[]>();
  for (let holder = start; ; holder = Object.getPrototypeOf(holder)) {
    const owner = ownerOf(holder);
    if (owner === undefined) return [...found.values()].flat();
    for (const member of Reflect.ownKeys(holder)) {
      const usual = typeof holder === "function" ? OF_FUNCTIONS : OF_PROTOTYPES;
      if (usual.includes(member) || found.has(member)) continue;
      if (WAITERS.includes(name) && OF_WAITERS.includes(member)) continue;
      const above = ownerOf(holderOf(Object.getPrototypeOf(holder), member));
      const suffix = `${path}${typeof member === "symbol" ? `[${member.description}]` : `.${member}`}`;
      const make = (prefix: string, call: Call): Entry => ({
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
