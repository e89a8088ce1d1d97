/**
 * What the address classes share: each of them holds the bytes of a finished sockaddr.
 *
 * @module
 */
import { bytesOf } from "../ffi/memory.ts";
import { describe, requireView } from "./arguments.ts";
import { halfSipHash } from "./half_sip_hash.ts";

/** The bytes for the accessors of a struct. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Whether two sockaddrs are the same. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index]);
}

/** The hash of an address: 32 bits without a sign. */
export function hashBytes(bytes: Uint8Array): number {
  const words = new Int32Array(Math.ceil(bytes.length / 4));
  new Uint8Array(words.buffer).set(bytes);
  return halfSipHash(words, 0, words.length) >>> 0;
}

/** Copies bytes that a caller gives, and refuses what only looks like them. */
export function copyBytes(source: unknown, name: string): Uint8Array {
  if (!(source instanceof Uint8Array && ArrayBuffer.isView(source)))
    throw new TypeError(`Cannot use ${describe(source)} as ${name}: expected a Uint8Array`);
  requireView(source, name);
  return bytesOf(source).slice();
}

/** Returns the text of an address, or of a part of it, and refuses what is no string. */
export function requireText(text: unknown, name = "an address"): string {
  if (typeof text === "string") return text;
  throw new TypeError(`Cannot use ${describe(text)} as ${name}: expected a string`);
}
