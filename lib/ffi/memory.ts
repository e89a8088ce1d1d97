import type { Pointer } from "bun:ffi";
import {
  MAP_ANONYMOUS,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "../../structs/constants/sys_mman.ts";
import { ffi, libc, negativeErrno } from "./libc.ts";

/** Memory that the kernel and JavaScript share: its address, and the one ArrayBuffer over it. */
export interface Mapping {
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

// bun-types leaves out the last two parameters of toArrayBuffer. They are a context and a C
// function `void (*)(void *bytes, void *context)`, called once when the engine lets go of the
// memory.
type OwningToArrayBuffer = (
  address: number,
  offset: number,
  byteLength: number,
  context: number,
  deallocator: number,
) => ArrayBuffer;

let munmapAddress = 0;

/**
 * Maps zeroed memory, page-aligned, for reading and writing. Returns the mapping, or `-errno`.
 *
 * The ArrayBuffer owns the mapping: munmap(2) is its deallocator, with the length as context, so
 * the memory goes when the last holder lets go of it, also when somebody has transferred the
 * buffer, and never under a living view.
 */
export function mapMemory(byteLength: number): Mapping | number {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  return owned(libc.mmap(null, byteLength, PROT_READ | PROT_WRITE, flags, -1, 0), byteLength);
}

/**
 * Maps what a descriptor stands for, from `offset` on, for reading and writing, shared with the
 * kernel and with all who map the same, and in memory at once. Returns the mapping, or `-errno`.
 *
 * The ArrayBuffer owns the mapping as that of `mapMemory` does. The descriptor may be closed.
 */
export function mapDescriptor(fd: number, byteLength: number, offset: number): Mapping | number {
  const flags = MAP_SHARED | MAP_POPULATE;
  return owned(libc.mmap(null, byteLength, PROT_READ | PROT_WRITE, flags, fd, offset), byteLength);
}

// Gives an ArrayBuffer what mmap(2) has returned. The call stands in the argument.
function owned(address: number | bigint | null, byteLength: number): Mapping | number {
  // MAP_FAILED is (void *)-1, which does not fit a double and arrives as a bigint.
  if (typeof address !== "number") return negativeErrno();
  munmapAddress ||= Number(libc.dlsym(null, Buffer.from("munmap\0")));
  try {
    if (munmapAddress === 0) throw new Error("Cannot find munmap in the C library");
    const own = ffi().toArrayBuffer as unknown as OwningToArrayBuffer;
    return { address, buffer: own(address, 0, byteLength, byteLength, munmapAddress) };
  } catch (error) {
    libc.munmap(address, byteLength);
    throw error;
  }
}

/**
 * Returns a mapping to the kernel now. Every view of it is empty afterwards. Does nothing when the
 * buffer was detached: then somebody else holds the memory and it goes with them.
 */
export function unmapMemory(buffer: ArrayBuffer): void {
  // A transfer to another length copies and lets go of the old memory at once: the deallocator runs
  // inside this call.
  if (!isDetached(buffer)) transfer.call(buffer, 0);
}

// The engine's own, because a caller's objects can have properties that say something else.
const { transfer } = ArrayBuffer.prototype;
const detached = getter(ArrayBuffer.prototype, "detached") as () => boolean;
const resizable = getter(ArrayBuffer.prototype, "resizable") as () => boolean;
const typedArray = Object.getPrototypeOf(Uint8Array.prototype);
const lengthOfTypedArray = getter(typedArray, "byteLength") as () => number;
const lengthOfDataView = getter(DataView.prototype, "byteLength") as () => number;

const lengthOfArrayBuffer = getter(ArrayBuffer.prototype, "byteLength") as () => number;
const offsetOfTypedArray = getter(typedArray, "byteOffset") as () => number;
const offsetOfDataView = getter(DataView.prototype, "byteOffset") as () => number;
const bufferOfTypedArray = getter(typedArray, "buffer") as () => ArrayBufferLike;
const bufferOfDataView = getter(DataView.prototype, "buffer") as () => ArrayBufferLike;

function getter(prototype: object, name: string): unknown {
  return Object.getOwnPropertyDescriptor(prototype, name)?.get;
}

/**
 * Returns the true length of a view in bytes, which is what C is told. A subclass or an own
 * property can make `view.byteLength` say anything; the getter of the engine itself cannot be
 * fooled. Costs 5 ns.
 */
export function byteLengthOf(view: ArrayBufferView): number {
  return view instanceof DataView ? lengthOfDataView.call(view) : lengthOfTypedArray.call(view);
}

/** Reads the text at an address, up to its NUL. */
export function readText(address: number): string {
  return `${new (ffi().CString)(address as Pointer)}`;
}

/** Copies the bytes at an address. What is not mapped there ends the process. */
export function readMemory(address: number, byteLength: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(byteLength);
  libc.memcpy(bytes, address, byteLength);
  return bytes;
}

/**
 * Copies bytes from one address to another, without a view. What is not mapped at either ends the
 * process.
 */
export function copyMemory(target: number, source: number, byteLength: number): void {
  libc.memcpy(target, source, byteLength);
}

/** Returns all bytes of a view as a new view of the same memory. */
export function bytesOf(view: ArrayBufferView): Uint8Array {
  const offset = view instanceof DataView ? offsetOfDataView : offsetOfTypedArray;
  return new Uint8Array(bufferOf(view), offset.call(view), byteLengthOf(view));
}

/** Returns the true buffer of a view, by the engine's getter. */
export function bufferOf(view: ArrayBufferView): ArrayBufferLike {
  return view instanceof DataView ? bufferOfDataView.call(view) : bufferOfTypedArray.call(view);
}

/**
 * Returns the address of a view's or buffer's first byte, or 0 where there is none. It holds as long
 * as somebody holds the buffer and nobody detaches it, for a view only after `bufferOf`: until then a
 * small typed array may move.
 */
export function addressOf(memory: ArrayBufferView | ArrayBuffer): number {
  // ptr() of empty memory returns an error instead of throwing it.
  const address: unknown = ffi().ptr(memory as ArrayBuffer);
  return typeof address === "number" ? address : 0;
}

/** Whether the memory was transferred away or freed. */
export function isDetached(buffer: ArrayBuffer): boolean {
  return detached.call(buffer);
}

/** Whether the memory may change its length. */
export function isResizable(buffer: ArrayBuffer): boolean {
  return resizable.call(buffer);
}

/**
 * Tells an ArrayBuffer from a Proxy of one and from what only inherits, which `instanceof` takes.
 */
export function isArrayBuffer(value: unknown): value is ArrayBuffer {
  if (!(value instanceof ArrayBuffer)) return false;
  try {
    return lengthOfArrayBuffer.call(value) >= 0;
  } catch {
    return false;
  }
}
