/**
 * What makes an option of a name, two numbers and a layout, and what reads and sets one.
 *
 * What the library knows of an option lies here, where nobody else can reach it: an object of other
 * origin has no level and no number, so it cannot make the kernel write anywhere.
 *
 * @module
 */
import {
  EACCES,
  ENOPROTOOPT,
  ENOTCONN,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
} from "../../structs/constants/errno.ts";
import { systemError } from "../error.ts";
import type { Option } from "../option.ts";
import { getsockopt, setsockopt } from "../sys/socket.ts";
import { describe } from "./arguments.ts";
import { remedyOf } from "./hints.ts";
import { type Codec, FLAG, HALVED, SCRATCH_BYTES, scratch, scratchBytes } from "./option_codec.ts";

/** What can be done with an option. */
export type Access = "get" | "set" | "get set";

/** All that is known of an option. */
export interface Definition {
  readonly name: string;
  readonly access: Access;
  readonly level: number;
  readonly number: number;
  readonly codec: Codec<unknown>;
  /** The number under which the same value can be set past its limit, by those with the right. */
  readonly force: number | undefined;
  /** Whether reading it changes nothing, and shows nothing secret. */
  readonly harmless: boolean;
}

const definitions = new WeakMap<object, Definition>();

function define<Value, Way extends Access>(
  access: Way,
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
  special: { readonly force?: number; readonly harmless?: boolean } = {},
): Option<Value, Way> {
  const { force, harmless = true } = special;
  const option = Object.freeze({ name });
  definitions.set(option, { name, access, level, number, codec, force, harmless });
  return option as Option<Value, Way>;
}

/** An option that is read and set. */
export function option<Value>(
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
): Option<Value, "get set"> {
  return define("get set", name, level, number, codec);
}

/** An option that is on or off. */
export function flag(name: string, level: number, number: number): Option<boolean, "get set"> {
  return define("get set", name, level, number, FLAG);
}

/** The size of a buffer, with the number that sets it past the limit. */
export function buffer(
  name: string,
  level: number,
  number: number,
  force: number,
): Option<number, "get set"> {
  return define("get set", name, level, number, HALVED, { force });
}

/** An option that is only read. */
export function readOnly<Value>(
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
): Option<Value, "get"> {
  return define("get", name, level, number, codec);
}

/** An option that reading takes away. */
export function readOnce<Value>(
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
): Option<Value, "get"> {
  return define("get", name, level, number, codec, { harmless: false });
}

/** An option that is nobody else's business. */
export function secret<Value>(
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
): Option<Value, "get set"> {
  return define("get set", name, level, number, codec, { harmless: false });
}

/** An option that is only set. */
export function writeOnly<Value>(
  name: string,
  level: number,
  number: number,
  codec: Codec<Value>,
): Option<Value, "set"> {
  return define("set", name, level, number, codec);
}

/** Returns what is known of an option, or throws unless it is one of ours. */
export function definitionOf(option: unknown): Definition {
  const definition = definitions.get(option as object);
  if (definition !== undefined) return definition;
  throw new TypeError(
    `Cannot use ${describe(option)} as an option: expected one of SocketOption, IpOption, ` +
      "Ipv6Option, TcpOption or UdpOption",
  );
}

/** Returns what is known of an option, or throws unless it is one of ours that can be read. */
export function readableOf(option: unknown): Definition {
  const definition = definitionOf(option);
  if (definition.access !== "set") return definition;
  throw new TypeError(`Cannot read ${definition.name}: it can only be set`);
}

/** Returns what is known of an option, or throws unless it is one of ours that can be set. */
export function writableOf(option: unknown): Definition {
  const definition = definitionOf(option);
  if (definition.access !== "get") return definition;
  throw new TypeError(`Cannot set ${definition.name}: it can only be read`);
}

/** An answer of getsockopt(2): its bytes, with zeros behind them, and how many they are. */
interface Answer {
  readonly view: DataView;
  readonly length: number;
}

const answerLength = new Uint32Array(new ArrayBuffer(4));

/** Asks the kernel for an option. Returns the answer, or `-errno`. */
export function ask(fd: number, { level, number, codec }: Definition): Answer | number {
  let view: DataView = scratch;
  let room = scratchBytes(codec.size).fill(0);
  let result = getsockopt(fd, level, number, room, answerLength);
  const wanted = answerLength[0] as number;
  if (result === -ERANGE && wanted > SCRATCH_BYTES) {
    room = new Uint8Array(new ArrayBuffer(wanted));
    view = new DataView(room.buffer);
    result = getsockopt(fd, level, number, room, answerLength);
  }
  if (result < 0) return result;
  return { view, length: Math.min(answerLength[0] as number, room.length) };
}

/** Reads an option. */
export function read(fd: number, definition: Definition): unknown {
  const answer = ask(fd, definition);
  if (typeof answer === "number") throw optionError(answer, "getsockopt", definition.name);
  return definition.codec.decode(answer.view, answer.length);
}

/** Sets an option. */
export function write(
  descriptor: { readonly fd: number },
  definition: Definition,
  value: unknown,
): void {
  const { name, level, number, codec, force } = definition;
  const bytes = codec.encode(value, name);
  // Not before: reading the value can run code of the caller, which closes the socket.
  const { fd } = descriptor;
  if (force !== undefined) {
    // socket(7): the FORCE form takes CAP_NET_ADMIN and knows no limit; the plain one is cut off at
    // it without an error.
    const result = setsockopt(fd, level, force, bytes);
    if (result >= 0) return;
    if (result !== -EPERM) throw optionError(result, "setsockopt", name);
  }
  const result = setsockopt(fd, level, number, bytes);
  if (result < 0) throw optionError(result, "setsockopt", name);
}

const RIGHTS = "The option, or this value of it, takes CAP_NET_ADMIN or CAP_NET_RAW";
const UNKNOWN = "Sockets of this kind, or this kernel, do not have the option";

const hints: Readonly<Record<number, string>> = {
  [EPERM]: RIGHTS,
  [EACCES]: RIGHTS,
  [ENOPROTOOPT]: UNKNOWN,
  [EOPNOTSUPP]: UNKNOWN,
  [ENOTCONN]: "The option has a value once the socket is connected",
};

/** Makes the error of a call about an option. */
export function optionError(result: number, syscall: string, option: string): Error {
  const isRefused = result === -EPERM || result === -EACCES;
  const hint = (isRefused ? remedyOf(option) : undefined) ?? hints[-result];
  return systemError(result, syscall, { option, hint });
}
