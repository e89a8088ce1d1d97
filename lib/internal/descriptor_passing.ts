/**
 * Descriptors over Unix sockets: SCM_RIGHTS, by way of a Message.
 *
 * @module
 */
import {
  EBADF,
  EMFILE,
  EMSGSIZE,
  ENFILE,
  ENODATA,
  ENOTCONN,
} from "../../structs/constants/errno.ts";
import { F_DUPFD_CLOEXEC, F_GETFD } from "../../structs/constants/fcntl.ts";
import { MSG_CTRUNC, SOL_SOCKET } from "../../structs/constants/sys_socket.ts";
import type { Address } from "../address.ts";
import { check, SystemError } from "../error.ts";
import { byteLengthOf } from "../ffi/memory.ts";
import { Message } from "../message.ts";
import type { PeerCredentials } from "../option.ts";
import {
  type DescriptorsMax,
  isReceivedDescriptor,
  type ReceivedDescriptor,
  type ReceivedDescriptors as Result,
  receivedDescriptorOf,
  type SendableDescriptor,
} from "../received_descriptor.ts";
import {
  type AsyncOptions,
  descriptorOf,
  type FlagOptions,
  type Socket,
  type WaitOptions,
} from "../socket.ts";
import { fcntl } from "../sys/fcntl.ts";
import { getsockopt } from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import { UnixAddress } from "../unix_address.ts";
import { describe, optionsOf, requireInteger, requireView, toView } from "./arguments.ts";
import { openError } from "./descriptor.ts";
import { SO_PEERPIDFD } from "./option_constants.ts";
import { credentialsIn, spaceFor, writeRights } from "./received_rights.ts";

/** SCM_MAX_FD of net/scm.h: the most that one message brings. */
const DESCRIPTORS_MAX = 253;
const INT_BYTES = 4;
const INT_MAX = 2 ** 31 - 1;
/**
 * Room for what comes beside the descriptors: timestamps, credentials, a security label, a process
 * descriptor, the length of the queue.
 */
const OTHERS_BYTES = 512;

// What a send says that only concerns descriptors.
const HINTS: Readonly<Record<string, string>> = {
  EPERM: "The receiver takes no descriptors: SO_PASSRIGHTS is off there",
  ETOOMANYREFS:
    "More descriptors are on the way, sent and not received, than ulimit -n allows a user without " +
    "CAP_SYS_RESOURCE: their receivers must receive them, or close",
};

type Data = ArrayBufferView | ArrayBuffer | string;

/** Where a datagram goes. */
interface Destination {
  readonly to?: Address | string | undefined;
}

/** Sends descriptors, or answers at once. */
export function trySendDescriptors(
  socket: Socket,
  data: ArrayBufferView | ArrayBuffer,
  descriptors: readonly SendableDescriptor[],
  options: (FlagOptions & Destination) | undefined,
): number | undefined {
  const { flags, to } = optionsOf(options);
  const numbers = numbersOf(descriptors);
  const message = messageOf(socket, toView(data, "data"), numbers.length, to);
  requireAllOpen(numbers);
  write(message, numbers);
  try {
    return socket.trySendMessage(message, { flags });
  } catch (error) {
    throw explained(error, numbers);
  }
}

/** Sends descriptors, blocking the thread. */
export function sendDescriptorsSync(
  socket: Socket,
  data: Data,
  descriptors: readonly SendableDescriptor[],
  options: (WaitOptions & Destination) | undefined,
): number {
  const { flags, timeoutMs, to } = optionsOf(options);
  const numbers = numbersOf(descriptors);
  const message = messageOf(socket, toBytes(data), numbers.length, to);
  requireAllOpen(numbers);
  write(message, numbers);
  try {
    return socket.sendMessageSync(message, { flags, timeoutMs });
  } catch (error) {
    throw explained(error, numbers);
  }
}

/** Sends descriptors; the promise form. Until it is answered it has duplicates of them. */
export async function sendDescriptors(
  socket: Socket,
  data: Data,
  descriptors: readonly SendableDescriptor[],
  options: (AsyncOptions & Destination) | undefined,
): Promise<number> {
  const { flags, timeoutMs, signal, to } = optionsOf(options);
  const numbers = numbersOf(descriptors);
  const message = messageOf(socket, toBytes(data), numbers.length, to);
  using duplicates = new Duplicates(numbers);
  write(message, duplicates.numbers);
  try {
    return await socket.sendMessage(message, { flags, timeoutMs, signal });
  } catch (error) {
    throw explained(error, numbers);
  }
}

/** Descriptors of ours that stand for those of a caller. */
class Duplicates implements Disposable {
  readonly numbers: number[] = [];

  constructor(originals: readonly number[]) {
    for (const [i, original] of originals.entries()) {
      const result = fcntl(original, F_DUPFD_CLOEXEC, 0);
      if (result >= 0) this.numbers.push(result);
      else {
        this[Symbol.dispose]();
        throw result === -EBADF ? notOpen(original, i) : openError(result, "fcntl");
      }
    }
  }

  [Symbol.dispose](): void {
    for (const number of this.numbers) close(number);
  }
}

// Read once, and no longer than the kernel allows: what looks like an array can be endless.
function numbersOf(descriptors: readonly SendableDescriptor[]): number[] {
  if (!Array.isArray(descriptors))
    throw new TypeError(`Cannot use ${describe(descriptors)} as descriptors: expected an array`);
  const { length } = descriptors;
  requireInteger(length, 0, DESCRIPTORS_MAX, "the number of descriptors");
  const numbers: number[] = [];
  for (let i = 0; i < length; i++) numbers.push(numberOf(descriptors[i]));
  return numbers;
}

// -1 of one that is closed.
function numberOf(sendable: unknown): number {
  if (isReceivedDescriptor(sendable)) return sendable.descriptor;
  // Its own getter: whoever receives it can connect the open socket anew.
  if (descriptorOf(sendable)) return (sendable as Socket).descriptor;
  if (typeof sendable !== "number") {
    const expected = "a socket, a ReceivedDescriptor or a number";
    throw new TypeError(`Cannot send ${describe(sendable)} as a descriptor: expected ${expected}`);
  }
  requireInteger(sendable, 0, INT_MAX, "a descriptor");
  return sendable;
}

// The kernel would say the same, but not of which.
function requireAllOpen(numbers: readonly number[]): void {
  for (const [i, number] of numbers.entries())
    if (fcntl(number, F_GETFD, 0) < 0) throw notOpen(number, i);
}

function notOpen(number: number, index: number): SystemError {
  const which = number < 0 ? "was closed or given away" : `is ${number}, which is not open`;
  return new SystemError(EBADF, "sendmsg", { hint: `Entry ${index} of the descriptors ${which}` });
}

function toBytes(data: Data): ArrayBufferView {
  return toView(typeof data === "string" ? Buffer.from(data) : data, "data");
}

function messageOf(
  socket: Socket,
  view: ArrayBufferView,
  count: number,
  to: Address | string | undefined,
): Message {
  if (socket.type === "stream" && byteLengthOf(view) === 0)
    throw new RangeError(
      "Cannot send descriptors without data on a stream: expected 1 byte or more",
    );
  const controlBytes = count === 0 ? 0 : spaceFor(count);
  const message = new Message({ vectors: view, address: to, controlBytes });
  if (to !== undefined && socket.connected)
    throw new TypeError(`Cannot send to ${message.address}: the socket has a peer`);
  return message;
}

function write(message: Message, numbers: readonly number[]): void {
  if (numbers.length === 0) return;
  writeRights(message.control, numbers);
  message.controlLength = spaceFor(numbers.length);
}

function explained(error: unknown, numbers: readonly number[]): unknown {
  if (!(error instanceof SystemError) || numbers.length === 0) return error;
  const hint = HINTS[error.code];
  return hint === undefined ? error : Object.assign(error, { hint });
}

/** Receives descriptors, or answers at once. */
export function tryReceiveDescriptors(
  socket: Socket,
  target: ArrayBufferView,
  options: (FlagOptions & DescriptorsMax) | undefined,
): ReceivedDescriptors | undefined {
  const { flags, max } = optionsOf(options);
  const room = roomFor(target, max);
  const length = socket.tryReceiveMessage(room.message, { flags });
  return length === undefined ? undefined : resultOf(socket, room, length);
}

/** Receives descriptors, blocking the thread. */
export function receiveDescriptorsSync(
  socket: Socket,
  target: ArrayBufferView,
  options: (WaitOptions & DescriptorsMax) | undefined,
): ReceivedDescriptors {
  const { flags, timeoutMs, max } = optionsOf(options);
  const room = roomFor(target, max);
  return resultOf(socket, room, socket.receiveMessageSync(room.message, { flags, timeoutMs }));
}

/** Receives descriptors; the promise form. */
export async function receiveDescriptors(
  socket: Socket,
  target: ArrayBufferView,
  options: (AsyncOptions & DescriptorsMax) | undefined,
): Promise<ReceivedDescriptors> {
  const { flags, timeoutMs, signal, max } = optionsOf(options);
  const room = roomFor(target, max);
  const length = await socket.receiveMessage(room.message, { flags, timeoutMs, signal });
  return resultOf(socket, room, length);
}

/** What a message is received into, and how many descriptors the caller takes. */
interface Room {
  readonly message: Message;
  readonly max: number;
}

function roomFor(target: ArrayBufferView, max = DESCRIPTORS_MAX): Room {
  requireView(target, "target");
  requireInteger(max, 0, DESCRIPTORS_MAX, "max");
  const controlBytes = OTHERS_BYTES + spaceFor(max);
  return { message: new Message({ vectors: target, controlBytes }), max };
}

function resultOf(socket: Socket, { message, max }: Room, length: number): ReceivedDescriptors {
  const result = new ReceivedDescriptors(message, length, addressIn(socket, message));
  // There is room for more than `max`, where nothing else has taken it.
  const hasMore = (message.flags & MSG_CTRUNC) !== 0;
  if (!hasMore && result.descriptors.length <= max) return result;
  const error = lossOf(socket, result.descriptors.length, max, length);
  result.close();
  throw error;
}

function addressIn(socket: Socket, message: Message): UnixAddress | undefined {
  if (socket.type === "stream") return undefined;
  // The kernel gives no name at all where a datagram's sender has none.
  return (message.address as UnixAddress | undefined) ?? UnixAddress.unnamed;
}

// Why not all of them have come, told before those that have are closed.
function lossOf(socket: Socket, count: number, max: number, transferred: number): SystemError {
  const closed = "All descriptors that came were closed";
  if (count > max) {
    const hint = `${closed}: they were more than \`max\`, which is ${max}`;
    return new SystemError(EMSGSIZE, "recvmsg", { transferred, hint });
  }
  const error = noneLeft(socket);
  const hint = error
    ? `${closed}: the limit does not allow as many as were sent (ulimit -n, sysctl fs.file-max)`
    : `${closed}: the kernel refused some, or had more to tell than there was room for`;
  return new SystemError(error || EMSGSIZE, "recvmsg", { transferred, hint });
}

// The error of opening one more, where that is for lack of descriptors.
function noneLeft(socket: Socket): number {
  const result = fcntl(descriptorOf(socket)?.fd ?? -1, F_DUPFD_CLOEXEC, 0);
  if (result >= 0) close(result);
  return result === -EMFILE || result === -ENFILE ? result : 0;
}

class ReceivedDescriptors implements Result {
  readonly descriptors: readonly ReceivedDescriptor[];
  readonly processDescriptor: ReceivedDescriptor | undefined;
  readonly length: number;
  readonly originalLength: number;
  readonly flags: number;
  readonly address: UnixAddress | undefined;
  readonly credentials: PeerCredentials | undefined;

  constructor(message: Message, length: number, address: UnixAddress | undefined) {
    this.descriptors = message.descriptors;
    this.processDescriptor = message.processDescriptor;
    this.length = length;
    this.originalLength = message.originalLength;
    this.flags = message.flags & ~MSG_CTRUNC;
    this.address = address;
    this.credentials = credentialsIn(message.control.subarray(0, message.controlLength));
  }

  [Symbol.iterator](): IterableIterator<ReceivedDescriptor> {
    return this.descriptors[Symbol.iterator]();
  }

  close(): void {
    for (const descriptor of this.descriptors) descriptor.close();
    this.processDescriptor?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** `SO_PEERPIDFD`: the process at the other end. Undefined without a peer. */
export function openPeerProcess(socket: Socket): ReceivedDescriptor | undefined {
  const value = new Int32Array(new ArrayBuffer(INT_BYTES));
  const fd = descriptorOf(socket)?.fd ?? -1;
  const result = getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, value, lengthOfValue);
  if (result === -ENODATA || result === -ENOTCONN) return undefined;
  if (result === -EMFILE || result === -ENFILE) throw openError(result, "getsockopt");
  check(result, "getsockopt", { option: "SO_PEERPIDFD" });
  return receivedDescriptorOf(value[0] as number, "getsockopt");
}

const lengthOfValue = new Uint32Array(new ArrayBuffer(4));
