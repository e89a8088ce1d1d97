import type { CancelSignal } from "../error.ts";
import { bufferOf, isArrayBuffer, isDetached, isResizable } from "../ffi/memory.ts";
import { loadModule } from "./descriptor.ts";

/** Throws a RangeError unless `value` is a whole number between the bounds, both included. */
export function requireInteger(
  value: unknown,
  minimum: number,
  maximum: number,
  name: string,
): void {
  if (typeof value !== "number") {
    throw new TypeError(`Cannot use a value of type ${typeof value} as ${name}: expected a number`);
  }
  if (!Number.isInteger(value) || value < minimum || value > maximum) {
    throw new RangeError(`Cannot use ${value} as ${name}: expected ${minimum} to ${maximum}`);
  }
}

/**
 * Refuses what the kernel is not to touch: anything but a view, and views of shared, resizable or
 * detached memory. Runs before every call that takes a view; costs about 12 ns.
 */
export function requireView(view: ArrayBufferView, name: string): void {
  if (!ArrayBuffer.isView(view))
    throw new TypeError(`Cannot use ${describe(view)} as ${name}: expected a view`);
  const buffer = bufferOf(view);
  if (buffer instanceof SharedArrayBuffer) {
    throw new TypeError(
      `Cannot use shared memory as ${name}: another thread could change it during the call`,
    );
  }
  if (isResizable(buffer)) {
    throw new TypeError(
      `Cannot use resizable memory as ${name}: expected an ArrayBuffer of fixed length`,
    );
  }
  if (isDetached(buffer)) throw detached(name);
}

/**
 * Returns the options of a call, and refuses what has no properties, and a name that is none of an
 * option but like one. Costs some 15 ns for each name: for a call that is made for each datagram
 * `requireObject`, and `refuseMisspelt` where it has found nothing.
 */
export function requireOptions<Options>(options: Options): Options {
  refuseMisspelt(requireObject(options));
  return options;
}

/** Returns the options of a call, and refuses what has no properties. */
export function requireObject<Options>(options: Options): Options {
  if (options instanceof Object || (typeof options === "object" && options !== null))
    return options;
  throw new TypeError(`Cannot use ${describe(options)} as options: expected an object`);
}

/** The same of options that need not be there. */
export function optionsOf<Options extends object>(options: Options | undefined): Partial<Options> {
  if (options === undefined || options === null) return {};
  refuseMisspelt(options);
  return options;
}

/**
 * Refuses a name that is like that of an option: `timeoutMS` would be no limit, `resuePort` would do
 * nothing, and neither say so. Every other name is a caller's own: one object may be the options of
 * several calls, of this package and of others.
 */
export function refuseMisspelt(options: unknown): void {
  for (const name in options as object) {
    if (OPTION_NAMES.has(name)) continue;
    const meant = nearestOption(name);
    if (meant !== undefined && !(meant in (options as object)))
      throw new TypeError(`Cannot use ${JSON.stringify(name)} as an option: expected ${meant}`);
  }
}

/** The names of all options, which mean the same wherever they are taken. */
export const OPTION_NAMES: ReadonlySet<string> = new Set(
  `addrconfig address all allMulticast allowed application attemptTimeoutMs auxiliaryData backlog
  blockBytes blockTimeoutMs blocks broadcast bufferBytes bypassQdisc byteOrder canonicalName capacity
  checked checksumOffset comment configure controlBytes count datagram defragment description drain
  drains encoding error family fanout fatal filter flags flow flowHash format group hardware
  headerIncluded hearsAll icmpFilter idleMs ignoreOutgoing interface interfaceIndex interfaces
  intervalMs ipv6Only kind length limitBytes linkType localAddress localPortRange max maxBytes
  membersMax metadata mode name nameRequired newline noDelay noFqdn numericHost numericService offset
  optimize order os otherwise own passive payloadBytes peersMax program promiscuous protocol
  queueErrors receiveBufferBytes removeStale resolution reuseAddress reusePort rollover rotate
  segmentBytes sendBufferBytes signal slotBytes snapBytes socket source speed staggerMs timeoutMs
  timestampNs to ttl type uniqueId unlinkOnClose v4mapped vectors vlan`.split(/\s+/),
);

function loadMisspelt(): typeof import("./misspelt.ts") {
  return loadModule(() => require("./misspelt.ts"));
}

function nearestOption(name: string): string | undefined {
  try {
    return loadMisspelt().optionLike(name, OPTION_NAMES);
  } catch {
    // It cannot be read, for lack of descriptors: then the name is ignored.
    return undefined;
  }
}

/** Throws a TypeError unless the value is a boolean. */
export function requireBoolean(value: unknown, name: string): void {
  if (typeof value === "boolean") return;
  throw new TypeError(`Cannot use a value of type ${typeof value} as ${name}: expected a boolean`);
}

/** What an error says of a value of the wrong type: never its text, which could be anything. */
export function describe(value: unknown): string {
  return value === null ? "null" : `a value of type ${typeof value}`;
}

/** The data of a send: a view as it is, an ArrayBuffer as a view of the whole of it. */
export function toView(data: ArrayBufferView | ArrayBuffer, name: string): ArrayBufferView {
  if (!isArrayBuffer(data)) {
    requireView(data, name);
    return data;
  }
  if (isDetached(data)) throw detached(name);
  return toView(new Uint8Array(data), name);
}

function detached(name: string): TypeError {
  return new TypeError(`Cannot use detached memory as ${name}: it was transferred or freed`);
}

/**
 * Returns the flags of a call, refusing bits that this kind of call has no meaning for: Linux would
 * ignore them.
 */
export function requireFlags(flags: number | undefined, allowed: number): number {
  if (flags === undefined) return 0;
  if (typeof flags !== "number") {
    throw new TypeError(`Cannot use a value of type ${typeof flags} as flags: expected a number`);
  }
  if (!Number.isInteger(flags) || (flags & ~allowed) !== 0 || flags < 0 || flags > 0x7fffffff) {
    throw new RangeError(
      `Cannot use ${flags} as flags: expected a union of bits of 0x${allowed.toString(16)}`,
    );
  }
  return flags;
}

/** Returns the signal of a call, or undefined. */
export function requireSignal(signal: CancelSignal | undefined): CancelSignal | undefined {
  if (signal === undefined || isAbortSignal(signal)) return signal;
  throw new TypeError(`Cannot use ${describe(signal)} as a signal: expected an AbortSignal`);
}

// The engine's own getter tells one from what only inherits from it, which `instanceof` takes.
function isAbortSignal(value: unknown): boolean {
  if (!(value instanceof AbortSignal)) return false;
  try {
    aborted ??= Object.getOwnPropertyDescriptor(AbortSignal.prototype, "aborted")?.get;
    aborted?.call(value);
    return true;
  } catch {
    return false;
  }
}

let aborted: (() => boolean) | undefined;

/** The error of a `headerBytes` that is none. */
export function notHeaderBytes(value: unknown): RangeError | TypeError {
  if (typeof value === "number")
    return new RangeError(`Cannot use ${value} as headerBytes: expected 1, 2 or 4`);
  return new TypeError(`Cannot use ${describe(value)} as headerBytes: expected 1, 2 or 4`);
}
