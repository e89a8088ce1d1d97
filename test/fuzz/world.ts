/**
 * What one sequence of calls works with: sockets of all kinds, batches, buffers, messages, addresses
 * and descriptors, made when they are asked for, and all gone in the end.
 *
 * @module
 */
import { mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Address,
  type Batches,
  type BatchSubscription,
  DatagramBatch,
  IpOption,
  LinkAddress,
  Listener,
  Message,
  type MessageOptions,
  NativeBuffer,
  PingSocket,
  parseAddress,
  RawSocket,
  ReceivedDescriptor,
  type ReceivedDescriptors,
  Socket,
  StreamSocket,
  SystemError,
  TcpListener,
  TcpSocket,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
  UnixListener,
  UnixSeqpacketSocket,
  UnixSocket,
} from "bun-sockets";
import { type CaptureWriter, PacketSocket } from "bun-sockets/packet";
import { cmsghdr } from "bun-sockets/structs";
import {
  AF_INET,
  AF_INET6,
  AF_PACKET,
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_OOB,
  SCM_RIGHTS,
  SHUT_RDWR,
  SHUT_WR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { addressBytes } from "../../lib/address.ts";
import { RingSocket } from "../../lib/packet/internal/ring_socket.ts";
import { Arena, CANARY, type Slot } from "./arena.ts";
import type { Choices } from "./choices.ts";
import { Failure } from "./failure.ts";
import { guardCount, real, releaseGuards } from "./kernel.ts";
import { Packets } from "./packets.ts";

/** A socket of any class. */
export type AnySocket = Socket;

/** What reads or writes for a socket, or steps through what comes to it. */
export interface Owned {
  readonly owner: AnySocket;
  readonly object: object;
}

/** A batch, and where its slots are. */
export interface BatchRecord {
  readonly batch: DatagramBatch;
  readonly memory: Uint8Array;
  readonly capacity: number;
  readonly slotBytes: number;
}

/** A call whose promise has not settled. */
export interface Waiting {
  readonly key: string;
  readonly receiver: unknown;
  readonly values: readonly unknown[];
  /** Where it may write until it settles. */
  readonly slots: ReadonlySet<Slot>;
  /** The trap among its arguments, which is armed while the poller works. */
  readonly trap: { arm(): void; disarm(): void } | undefined;
}

/** What a signal is aborted with: it must come out as it is. */
export class Aborted extends Error {
  override name = "Aborted";
}

/** The folder of the sockets that have a path. */
const folder: string = mkdtempSync(join(tmpdir(), "bun-sockets-fuzz-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** What a sequence may have open at a time, so that a run stays small. */
const SOCKETS_MAX = 24;
const PINGERS_MAX = 3;
const BATCHES_MAX = 5;
const MESSAGES_MAX = 10;
const OWNED_MAX = 12;
const SUBSCRIPTIONS_MAX = 4;
const ITERATORS_MAX = 4;
const LENT_MAX = 8;
// More than a queue of a Unix socket takes.
const CLOG_MAX = 2000;
const FLAGS = SOCK_CLOEXEC | SOCK_NONBLOCK;
const helpers = {
  ipv4: real.socket(AF_INET, SOCK_DGRAM | FLAGS, 0),
  ipv6: real.socket(AF_INET6, SOCK_DGRAM | FLAGS, 0),
  unix: real.socket(AF_UNIX, SOCK_DGRAM | FLAGS, 0),
};
// A descriptor to send along, which belongs to nobody else.
const passed = real.socket(AF_UNIX, SOCK_DGRAM | FLAGS, 0);
const drained = new Uint8Array(new ArrayBuffer(1 << 17));
const clogging = new Uint8Array(new ArrayBuffer(1 << 13));

// A batch of which nothing is known: the library may overwrite all of it.
const NONE = new Uint8Array(0);

const listening = new WeakSet<AnySocket>();

/** A kind of socket, and how one is made. */
interface Recipe {
  readonly className: string;
  readonly family: string;
  readonly type: string;
  readonly state: "new" | "open" | "connected" | "listening";
  readonly make: (world: World) => AnySocket;
}

const LOOPBACK = { ipv4: "127.0.0.1:0", ipv6: "[::1]:0" } as const;
const IP = ["ipv4", "ipv6"] as const;
const UNIX_RECORDS = ["stream", "seqpacket"] as const;

/** A handler that was set. */
export interface Subscribed {
  readonly subscription: BatchSubscription;
  readonly socket: AnySocket;
}

/** Everything that one sequence has. */
export class World {
  readonly arena = new Arena();
  readonly packets = new Packets();
  readonly sockets: AnySocket[] = [];
  readonly pingers: PingSocket[] = [];
  readonly peers = new Map<AnySocket, AnySocket>();
  readonly batches: BatchRecord[] = [];
  readonly buffers: NativeBuffer[] = [];
  readonly messages: Message[] = [];
  /** The slots that the views of a message lie in. */
  readonly vectors = new Map<object, Slot[]>();
  /** Descriptors that have come over sockets. */
  readonly received: ReceivedDescriptor[] = [];
  /** Descriptors that are the harness's own to close. */
  readonly fds = new Set<number>();
  /** Calls that wait. */
  readonly waiting = new Set<Waiting>();
  readonly iterators: { readonly batches: Batches; readonly socket: AnySocket }[] = [];
  readonly subscriptions: Subscribed[] = [];
  /** Batches of iterators and handlers, which belong to those. */
  readonly lent: DatagramBatch[] = [];
  /** Readers, writers, web streams, and iterators of connections and lines. */
  readonly owned: Owned[] = [];
  /** What opens the gates that handlers wait at. */
  readonly gates: (() => void)[] = [];
  /** What handlers were told of as errors. */
  readonly told: unknown[] = [];
  /** What handlers have done. */
  acts = 0;
  readonly #signals: AbortController[] = [];
  readonly #guards = guardCount();
  #names = 0;

  /** Whether something happens when the event loop has its turn. */
  get hasWaiters(): boolean {
    return this.waiting.size > 0 || this.subscriptions.length > 0;
  }

  /** A signal: of one of several controllers, of none, of time, or one that was aborted before. */
  signal(choices: Choices): AbortSignal {
    if (choices.chance(8)) return AbortSignal.abort(new Aborted("before"));
    if (choices.chance(5)) return AbortSignal.timeout(1);
    const live = this.#signals.filter(({ signal }) => !signal.aborted);
    const controller =
      live.length > 0 && choices.chance(60) ? choices.pick(live) : new AbortController();
    if (!live.includes(controller)) this.#signals.push(controller);
    const { signal } = controller;
    return choices.chance(10) ? AbortSignal.any([signal, new AbortController().signal]) : signal;
  }

  /** Aborts one of the signals. */
  abort(choices: Choices): void {
    const live = this.#signals.filter(({ signal }) => !signal.aborted);
    if (live.length > 0) choices.pick(live).abort(new Aborted("while it waited"));
  }

  /** A promise that stands until somebody opens the gate: at the latest when all is closed. */
  gate(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.gates.push(resolve);
    return promise;
  }

  /** Gives the descriptor of a socket to another socket, which is then the one that is used. */
  handOver(socket: AnySocket): void {
    if (!isOpen(socket)) return;
    const isListening = listening.has(socket);
    const peer = this.peers.get(socket);
    const fd = socket.detach();
    this.fds.add(fd);
    const heir = this.add(Socket.adopt(fd, { own: true }));
    this.fds.delete(fd);
    if (isListening) markListening(heir);
    if (peer) this.peers.set(heir, peer).set(peer, heir);
  }

  /** Remembers a batch that a handler or an iterator has given. */
  lend(batch: DatagramBatch): void {
    if (!this.lent.includes(batch) && this.lent.push(batch) > LENT_MAX) this.lent.shift();
  }

  /** Remembers a handler, and stops the oldest when there are many. */
  subscribed(subscription: BatchSubscription, socket: AnySocket): void {
    if (this.subscriptions.push({ subscription, socket }) > SUBSCRIPTIONS_MAX)
      this.subscriptions.find((other) => !other.subscription.stopped)?.subscription.stop();
  }

  pauseAll(): void {
    for (const { subscription } of this.subscriptions) subscription.pause();
  }

  resumeAll(): void {
    for (const { subscription } of this.subscriptions) subscription.resume();
  }

  stopAll(): void {
    for (const { subscription } of this.subscriptions) subscription.stop();
  }

  /** Stops the handlers of a socket. */
  unsubscribe(socket: AnySocket): void {
    for (const other of this.subscriptions) if (other.socket === socket) other.subscription.stop();
  }

  /** Ends the loops over batches of a socket. */
  leaveLoops(socket: AnySocket): void {
    for (const other of this.iterators) if (other.socket === socket) other.batches.return();
  }

  /** Remembers an iterator; the oldest is forgotten when there are many. */
  iterate(batches: Batches, socket: AnySocket): void {
    if (this.iterators.push({ batches, socket }) > ITERATORS_MAX)
      this.iterators.shift()?.batches.return();
  }

  /** Remembers what a socket has given; the oldest is forgotten when there are many. */
  own(object: object, owner: AnySocket): void {
    if (this.owned.some((other) => other.object === object)) return;
    if (this.owned.push({ owner, object }) > OWNED_MAX) endIterator(this.owned.shift()?.object);
  }

  /** Those that are of a kind. */
  ownedBy(isWanted: (object: object) => boolean): Owned[] {
    return this.owned.filter(({ object }) => isWanted(object));
  }

  /** Closes what a connected socket receives from. */
  end(socket: AnySocket): void {
    const peer = this.peers.get(socket);
    if (peer && isOpen(peer)) real.shutdown(peer.descriptor, SHUT_WR);
  }

  /** Lets these bytes arrive at a connected socket. */
  give(socket: AnySocket, bytes: Uint8Array): void {
    const peer = this.peers.get(socket);
    if (peer && isOpen(peer))
      real.send(peer.descriptor, bytes, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  /** Has a socket neither receive nor listen any more. */
  shut(socket: AnySocket): void {
    real.shutdown(socket.descriptor, SHUT_RDWR);
  }

  /** Lets an urgent byte arrive. */
  urge(socket: AnySocket): void {
    const peer = this.peers.get(socket);
    const flags = MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL;
    if (peer && isOpen(peer)) real.send(peer.descriptor, Uint8Array.of(7), 1, flags);
  }

  /** Ends what connects: the sockets of such calls are nobody's yet. */
  interrupt(before: readonly string[]): void {
    for (const fd of readdirSync("/proc/self/fd"))
      if (!before.includes(fd)) real.shutdown(Number(fd), SHUT_RDWR);
  }

  /** Fills what a socket can send to, so that the next send finds no room. */
  clog(socket: AnySocket): void {
    if (!isOpen(socket) || socket.family !== "unix" || !socket.connected) return;
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    for (let i = 0; i < CLOG_MAX; i++)
      if (real.send(socket.descriptor, clogging, clogging.length, flags) < 0) break;
  }

  /** Takes away what the peer of a socket has not received. */
  unclog(socket: AnySocket): void {
    const peer = this.peers.get(socket);
    if (!peer || !isOpen(peer)) return;
    const { descriptor } = peer;
    while (real.recv(descriptor, drained, drained.length, MSG_DONTWAIT) > 0);
  }

  /** Remembers a socket, to use and to close it. */
  add<Any extends AnySocket>(socket: Any): Any {
    // That of a ring is the ring's.
    if (socket instanceof RingSocket) return socket;
    if (!this.sockets.includes(socket)) this.sockets.push(socket);
    return socket;
  }

  /** Remembers two sockets that are connected with each other, and returns one. */
  pair<Any extends AnySocket>([left, right]: readonly [Any, Any]): Any {
    this.peers.set(left, right).set(right, left);
    this.add(right);
    return this.add(left);
  }

  /** A raw socket that has a filter of ICMP types. */
  icmpSocket(choices: Choices): AnySocket {
    return this.add(
      choices.chance(50)
        ? RawSocket.open("ipv4", { protocol: "icmp" })
        : RawSocket.open("ipv6", { protocol: "icmpv6" }),
    );
  }

  /** A PingSocket, mostly open. */
  pinger(choices: Choices): PingSocket {
    const has = this.pingers.filter(({ closed }) => !closed);
    if (has.length > PINGERS_MAX || (has.length > 0 && choices.chance(80)))
      return choices.pick(has);
    const made = PingSocket.open(choices.pick(IP), { kind: choices.pick(["raw", undefined]) });
    this.pingers.push(made);
    return made;
  }

  /** An open socket of a class that is of this kind, or any of that class where none can be. */
  socket(choices: Choices, className: string, isWanted: (kind: Kind) => boolean): AnySocket {
    if (className === "RingSocket") return this.packets.openRing(choices).socket;
    const has = this.sockets.filter(
      (socket) => classOf(socket) === className && isOpen(socket) && isWanted(kindOf(socket)),
    );
    const full = this.sockets.filter(isOpen).length >= SOCKETS_MAX;
    if (has.length > 0 && (full || choices.chance(70))) return choices.pick(has);
    const extending = EXTENDED[className];
    if (extending) return this.socket(choices, choices.pick(extending), isWanted);
    const kept = className === "PacketSocket" && this.packets.takeSocket();
    if (kept) return this.add(kept);
    const ofClass = RECIPES.filter((recipe) => recipe.className === className);
    const wanted = ofClass.filter((recipe) => isWanted(recipe));
    return this.add(choices.pick(wanted.length > 0 ? wanted : ofClass).make(this));
  }

  /** A name that the sequence may have used before. */
  name(choices: Choices): string {
    const number = choices.chance(70) ? this.#names++ : choices.below(this.#names + 1);
    const name = `bun-sockets-fuzz-${process.pid}-${number}`;
    return choices.chance(50) ? `unix:@${name}` : `unix:${join(folder, `${number}`)}`;
  }

  /** A batch whose memory is full of canaries where no slot is. */
  batch(choices: Choices): BatchRecord {
    if (this.lent.length > 0 && choices.chance(5)) {
      const batch = choices.pick(this.lent);
      const { capacity, slotBytes } = batch;
      if (!batch.freed) return { batch, memory: NONE, capacity, slotBytes };
    }
    const has = this.batches.filter(({ batch }) => !batch.freed);
    if (has.length > 0 && (has.length >= BATCHES_MAX || choices.chance(75)))
      return choices.pick(has);
    const capacity = choices.pick([1, 2, 3, 8, 8, 16, 64]);
    const slotBytes = choices.pick([1, 7, 60, 64, 100, 1500]);
    const peersMax = choices.pick([1, 2, 16]);
    return this.addBatch(new DatagramBatch({ capacity, slotBytes, peersMax }));
  }

  addBatch(batch: DatagramBatch): BatchRecord {
    const { capacity, slotBytes, memory } = batch;
    const record: BatchRecord = { batch, memory, capacity, slotBytes };
    this.batches.push(record);
    eachGap(record, (start, end) => memory.fill(CANARY, start, end));
    return record;
  }

  message(choices: Choices, options: () => MessageOptions): Message {
    // One that a call waits with is that call's: what it brings could be lost.
    const free = this.messages.filter((message) => !this.#isTaken(message));
    const isFull = free.length >= MESSAGES_MAX;
    if (free.length > 0 && (isFull || choices.chance(60))) return choices.pick(free);
    const message = new Message(options());
    this.messages.push(message);
    return message;
  }

  #isTaken(message: Message): boolean {
    for (const { values } of this.waiting) if (values.includes(message)) return true;
    return false;
  }

  /** A batch whose slots have room for control messages. */
  controlBatch(choices: Choices): BatchRecord {
    const has = this.batches.filter(({ batch }) => !batch.freed && batch.controlBytes >= 64);
    if (has.length > 0 && choices.chance(75)) return choices.pick(has);
    return this.addBatch(new DatagramBatch({ capacity: 4, slotBytes: 100, controlBytes: 128 }));
  }

  /** Lets a batch have a datagram of which the kernel tells where it was sent to. */
  inform(batch: DatagramBatch): void {
    using socket = UdpSocket.bind(LOOPBACK.ipv4);
    socket.setOption(IpOption.receivePacketInfo, true);
    const name = addressBytes(socket.localAddress);
    real.sendto(helpers.ipv4, name, name.length, MSG_DONTWAIT, name, name.length);
    quietly(() => socket.tryReceiveBatch(batch));
  }

  /** A descriptor to send along. */
  readonly passable: number = passed;

  /** Has the peer of a Unix socket get a descriptor. */
  giveDescriptor(peer: AnySocket): void {
    if (!("trySendDescriptors" in peer)) return;
    quietly(() => (peer as UnixSocket).trySendDescriptors(Uint8Array.of(1), [passed]));
  }

  /** A socket that shares its port. */
  sharing(choices: Choices): AnySocket {
    return this.add(
      choices.chance(50)
        ? UdpSocket.bind(LOOPBACK.ipv4, { reusePort: true })
        : UdpSocket.bind(LOOPBACK.ipv6, { reusePort: true }),
    );
  }

  /** Has what a socket sends refused, and its queue of errors tell. */
  refuse(socket: AnySocket): void {
    if (!isOpen(socket) || socket.family === "unix" || socket.type !== "datagram") return;
    const { family, descriptor } = socket;
    quietly(() => {
      socket.queueErrors = true;
    });
    const name = bytesOfText(family === "ipv4" ? "127.0.0.1:1" : "[::1]:1");
    real.sendto(descriptor, name, name.length, MSG_DONTWAIT, name, name.length);
  }

  buffer(choices: Choices): NativeBuffer {
    const has = this.buffers.filter((buffer) => !buffer.freed);
    if (has.length > 0 && (has.length >= BATCHES_MAX || choices.chance(75)))
      return choices.pick(has);
    const buffer = new NativeBuffer(choices.pick([1, 100, 4096, 5000]));
    this.buffers.push(buffer);
    return buffer;
  }

  /** Lets something arrive at a socket, where that is possible. */
  feed(choices: Choices, socket: AnySocket, textPercent = 50): void {
    if (isOfLink(socket)) {
      this.packets.feed();
      return;
    }
    const { family, type, state } = kindOf(socket);
    const isText = type === "stream" && choices.chance(textPercent);
    const bytes = isText
      ? Buffer.from(choices.pick(TEXTS))
      : new Uint8Array(choices.pick([1, 3, 20, 100, 2000])).fill(1 + choices.below(100));
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const peer = this.peers.get(socket);
    if (peer && isOpen(peer)) {
      real.send(peer.descriptor, bytes, bytes.length, flags);
      return;
    }
    const local: Address = socket.localAddress;
    const name = addressBytes(local);
    if (state === "listening") {
      const domain = family === "unix" ? AF_UNIX : family === "ipv4" ? AF_INET : AF_INET6;
      const fd = real.socket(domain, (type === "stream" ? SOCK_STREAM : SOCK_SEQPACKET) | FLAGS, 0);
      if (fd < 0) return;
      if (real.connect(fd, name, name.length) === 0 || type === "stream")
        real.send(fd, bytes, bytes.length, flags);
      this.fds.add(fd);
    } else if (type === "datagram" && family in helpers) {
      const helper = helpers[family as keyof typeof helpers];
      real.sendto(helper, bytes, bytes.length, flags, name, name.length);
    }
  }

  /** Keeps what a call has given, so that it is used, and closed in the end. */
  harvest(result: unknown, owner?: unknown): void {
    if (this.packets.harvest(result, owner)) return;
    if (result instanceof Socket) {
      if (classOf(result) !== undefined) this.add(result);
    } else if (result instanceof PingSocket) this.pingers.push(result);
    else if (result instanceof DatagramBatch) {
      if (Object.getPrototypeOf(result) === DatagramBatch.prototype) this.addBatch(result);
    } else if (result instanceof NativeBuffer) this.buffers.push(result);
    else if (result instanceof Message) this.messages.push(result);
    else if (result instanceof ReceivedDescriptor) {
      if (Object.getPrototypeOf(result) === ReceivedDescriptor.prototype)
        this.received.push(result);
    } else if (bringsDescriptors(result)) {
      for (const item of [...result.descriptors, result.processDescriptor]) this.harvest(item);
    } else if (Array.isArray(result)) for (const item of result) this.harvest(item);
    else if (isStep(result)) {
      if (result.value instanceof DatagramBatch) this.lend(result.value);
      else this.harvest(result.value);
    }
  }

  /** Keeps the descriptors that came with a message. */
  keepReceived({ descriptors, processDescriptor }: Message): void {
    for (const item of [...descriptors, processDescriptor]) this.harvest(item);
  }

  /** Throws when a call has written between the slots of a batch, or made one too long. */
  checkBatches(what: string): void {
    for (const record of this.batches) {
      const { batch, capacity, slotBytes } = record;
      if (record.memory.length === 0) continue;
      for (let i = 0; i < capacity; i++) {
        if (batch.length(i) > slotBytes)
          throw new Failure(`${what}: a slot is longer than it can be`);
      }
      eachGap(record, (start, end) => {
        for (let at = start; at < end; at++) {
          if (record.memory[at] !== CANARY)
            throw new Failure(`${what}: byte ${at} of a batch is no canary any more`);
        }
      });
    }
  }

  /** Throws when a canary is on its way, or has come to a socket. */
  drain(): void {
    for (const socket of this.sockets) {
      if (!isOpen(socket) || isRaw(socket)) continue;
      for (let i = 0; i < 100; i++) {
        const length = real.recv(socket.descriptor, drained, drained.length, MSG_DONTWAIT);
        if (length <= 0) break;
        if (drained.subarray(0, length).includes(CANARY))
          throw new Failure("a canary was sent: bytes outside of what a call was given");
      }
    }
  }

  /** Closes a capture file, whatever the kernel thinks of that. */
  closeWriter(writer: CaptureWriter): void {
    quietly(() => writer.close());
  }

  /** Closes all sockets: then nothing has anything to wait for. */
  closeSockets(): void {
    const waited = new Set([...this.waiting].map(({ receiver }) => receiver));
    const owners = [...this.subscriptions, ...this.iterators].map(({ socket }) => socket);
    for (const owner of [...owners, ...this.owned.map(({ owner }) => owner)]) waited.add(owner);
    this.packets.release((object) => waited.has(object));
    for (const socket of this.sockets.splice(0)) {
      const isFree = isOpen(socket) && !waited.has(socket);
      if (isFree && this.packets.keepSocket(socket)) continue;
      Reflect.apply(Socket.prototype.close, socket, []);
    }
    for (const pinger of this.pingers) Reflect.apply(PingSocket.prototype.close, pinger, []);
  }

  close(): void {
    this.closeSockets();
    for (const { batches } of this.iterators) batches.return();
    for (const { object } of this.owned) endIterator(object);
    for (const open of this.gates) open();
    for (const { batch } of this.batches) batch.free();
    for (const buffer of this.buffers) buffer.free();
    for (const one of this.received) Reflect.apply(ReceivedDescriptor.prototype.close, one, []);
    const gone = [...this.fds].filter((fd) => real.close(fd) !== 0);
    for (const file of readdirSync(folder)) rmSync(join(folder, file));
    this.packets.close();
    releaseGuards(this.#guards);
    if (gone.length > 0) throw new Failure(`descriptors were closed by others: ${gone.join(", ")}`);
  }
}

function eachGap(record: BatchRecord, work: (start: number, end: number) => void): void {
  const { memory, capacity, slotBytes } = record;
  const stride = memory.length / capacity;
  if (stride === slotBytes) return;
  for (let i = 0; i < capacity; i++) work(i * stride + slotBytes, (i + 1) * stride);
}

function quietly(work: () => unknown): void {
  try {
    work();
  } catch {
    // The socket says what it thinks of that.
  }
}

// What a receive of descriptors gives.
function bringsDescriptors(result: unknown): result is ReceivedDescriptors {
  return result instanceof Object && "descriptors" in result && "close" in result;
}

// What an iterator of batches or of connections gives.
function isStep(result: unknown): result is { readonly value: DatagramBatch | Socket } {
  if (!(result instanceof Object && "value" in result)) return false;
  return result.value instanceof DatagramBatch || result.value instanceof Socket;
}

/** Whether it steps through connections, lines or chunks. */
export function isIterator(object: object): object is AsyncIterator<unknown> {
  return "next" in object && "return" in object;
}

// One of a listener has a descriptor of its own.
function endIterator(object: object | undefined): void {
  if (object && isIterator(object)) object.return?.();
}

/** What a socket is. */
export interface Kind {
  readonly family: string;
  readonly type: string;
  readonly state: Recipe["state"];
}

/** Remembers that a socket listens. */
export function markListening(socket: AnySocket): void {
  listening.add(socket);
}

export function kindOf(socket: AnySocket): Kind {
  const family = `${socket.family}`;
  const type = `${socket.type}`;
  if (listening.has(socket) || socket instanceof Listener)
    return { family, type, state: "listening" };
  if (socket.connected) return { family, type, state: "connected" };
  return { family, type, state: isNamed(socket) ? "open" : "new" };
}

function isNamed(socket: AnySocket): boolean {
  const local: Address = socket.localAddress;
  if (local instanceof UnixAddress) return !local.isUnnamed;
  if (local instanceof LinkAddress) return local.protocol !== 0;
  return "port" in local && local.port !== 0;
}

/** Whether what a socket receives begins with the kernel's own bytes: then any byte may be among them. */
export function isRaw(receiver: unknown): boolean {
  return receiver instanceof Socket && (receiver.type === "raw" || isOfLink(receiver));
}

/** Whether it is a packet socket: what it receives has bytes that the kernel has made. */
export function isOfLink(socket: AnySocket): boolean {
  return socket.family === AF_PACKET;
}

export function isOpen(socket: AnySocket): boolean {
  return socket.descriptor >= 0;
}

/** The name of the class that a socket is of: no subclass, no Proxy. */
export function classOf(socket: object): string | undefined {
  return CLASS_NAMES.get(Object.getPrototypeOf(socket));
}

/** Control messages that bring the peer a descriptor. */
export function rightsMessage(): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  cmsghdr.cmsg_len.set(view, 0, cmsghdr.size + 4);
  cmsghdr.cmsg_level.set(view, 0, SOL_SOCKET);
  cmsghdr.cmsg_type.set(view, 0, SCM_RIGHTS);
  view.setInt32(cmsghdr.size, passed, true);
  return bytes;
}

/** Opens a socket that nobody owns. */
export function openForeign(domain: number, type: number, protocol = 0): number {
  return real.socket(domain, type | FLAGS, protocol);
}

/** What a text says, for the kernel. */
export function bytesOfText(text: string): Uint8Array {
  return addressBytes(parseAddress(text));
}

/** What comes to a reader: lines, and packets with their lengths. */
const TEXTS = [
  "one\ntwo\nthree\n",
  "one\r\ntwo\r\n\r\nthree",
  "a line\rand\r\nmore",
  "\n",
  "\0\0\0\x03abc\0\0\0\0",
  "\x02ab\0\x05hello",
  "key=value;key=value;",
];

const CLASS_NAMES: ReadonlyMap<object, string> = new Map<object, string>(
  Object.entries({
    Socket,
    UdpSocket,
    UnixDatagramSocket,
    RawSocket,
    PacketSocket,
    RingSocket,
    StreamSocket,
    TcpSocket,
    TcpListener,
    UnixSocket,
    UnixListener,
    UnixSeqpacketSocket,
  }).map(([name, type]) => [type.prototype, name]),
);

/** Classes that nobody has a socket of but those that extend them. */
const EXTENDED: Readonly<Record<string, readonly string[]>> = {
  Listener: ["TcpListener", "UnixListener"],
  IpSocket: ["UdpSocket", "RawSocket"],
};

/** https://www.rfc-editor.org/rfc/rfc3692: for experiments. */
const RAW_PROTOCOL = 253;

let paths = 0;
const ownPath = () => `unix:${join(folder, `listener-${paths++}`)}`;

const KNOWN: readonly Recipe[] = [
  ...IP.flatMap((family): Recipe[] => {
    const udp = { className: "UdpSocket", family, type: "datagram" } as const;
    const datagram = { ...udp, className: "Socket" };
    const stream = { className: "Socket", family, type: "stream" } as const;
    return [
      { ...udp, state: "new", make: () => UdpSocket.open(family) },
      { ...udp, state: "open", make: () => UdpSocket.bind(LOOPBACK[family]) },
      { ...udp, state: "connected", make: (world) => udpPair(world, family) },
      { ...datagram, state: "new", make: () => Socket.create(family, "datagram") },
      { ...datagram, state: "open", make: () => bound(family, "datagram", LOOPBACK[family]) },
      { ...stream, state: "new", make: () => Socket.create(family, "stream") },
      {
        ...stream,
        state: "listening",
        make: () => listener(bound(family, "stream", LOOPBACK[family])),
      },
      { ...stream, state: "connected", make: (world) => tcpPair(world, family) },
    ];
  }),
  ...IP.flatMap((family): Recipe[] => {
    const raw = { className: "RawSocket", family, type: "raw" } as const;
    const host = family === "ipv4" ? "127.0.0.1" : "::1";
    const open = () => RawSocket.bind(host, { protocol: RAW_PROTOCOL });
    return [
      { ...raw, state: "new", make: open },
      {
        ...raw,
        state: "connected",
        make: () => {
          const socket = open();
          socket.connectSync(host);
          return socket;
        },
      },
    ];
  }),
  ...(["raw", "cooked"] as const).map(
    (mode): Recipe => ({
      className: "PacketSocket",
      family: `${AF_PACKET}`,
      type: mode === "raw" ? "raw" : "datagram",
      state: "open",
      make: () => PacketSocket.open("lo", { mode }),
    }),
  ),
  ...UNIX_RECORDS.flatMap((type): Recipe[] => {
    const kind = { className: "Socket", family: "unix", type } as const;
    return [
      { ...kind, state: "new", make: () => Socket.create("unix", type) },
      { ...kind, state: "listening", make: () => listener(bound("unix", type, "unix:")) },
      { ...kind, state: "connected", make: (world) => world.pair(Socket.pair({ type })) },
    ];
  }),
  ...["Socket", "UnixDatagramSocket"].flatMap((className): Recipe[] => {
    const kind = { className, family: "unix", type: "datagram" } as const;
    const isPlain = className === "Socket";
    return [
      {
        ...kind,
        state: "new",
        make: () => (isPlain ? Socket.create("unix", "datagram") : UnixDatagramSocket.open()),
      },
      {
        ...kind,
        state: "open",
        make: () =>
          isPlain ? bound("unix", "datagram", "unix:") : UnixDatagramSocket.bind("unix:"),
      },
      {
        ...kind,
        state: "connected",
        make: (world) =>
          world.pair(isPlain ? Socket.pair({ type: "datagram" }) : UnixDatagramSocket.pair()),
      },
    ];
  }),
  ...IP.flatMap((family): Recipe[] => {
    const tcp = { className: "TcpSocket", family, type: "stream" } as const;
    const stream = { ...tcp, className: "StreamSocket" };
    const listen = () => TcpListener.listen(LOOPBACK[family]);
    return [
      { ...tcp, state: "new", make: () => TcpSocket.open(family) },
      {
        ...tcp,
        state: "connected",
        make: (world) =>
          family === "ipv4" ? world.pair(TcpSocket.pair()) : adopted(world, TcpSocket),
      },
      { ...tcp, className: "TcpListener", state: "listening", make: listen },
      {
        ...stream,
        state: "new",
        make: () =>
          StreamSocket.adopt(openForeign(family === "ipv4" ? AF_INET : AF_INET6, SOCK_STREAM), {
            own: true,
          }),
      },
      { ...stream, state: "connected", make: (world) => adopted(world, StreamSocket, family) },
    ];
  }),
  {
    className: "StreamSocket",
    family: "unix",
    type: "stream",
    state: "connected",
    make: (world) => world.pair(StreamSocket.pair()),
  },
  ...UNIX_RECORDS.flatMap((type): Recipe[] => {
    const isStream = type === "stream";
    const className = isStream ? "UnixSocket" : "UnixSeqpacketSocket";
    const kind = { className, family: "unix", type } as const;
    const listen = (address: string) =>
      isStream ? UnixListener.listen(address) : UnixListener.listen(address, { type: "seqpacket" });
    const listening = { ...kind, className: "UnixListener", state: "listening" } as const;
    return [
      {
        ...kind,
        state: "new",
        make: () => (isStream ? UnixSocket.open() : UnixSeqpacketSocket.open()),
      },
      {
        ...kind,
        state: "connected",
        make: (world) => world.pair<Socket>((isStream ? UnixSocket : UnixSeqpacketSocket).pair()),
      },
      { ...listening, make: () => listen("unix:") },
      { ...listening, make: () => listen(ownPath()) },
    ];
  }),
  {
    className: "Socket",
    family: "ipv4",
    type: "raw",
    state: "new",
    make: () => Socket.create("ipv4", "raw", { protocol: 1 }),
  },
  {
    className: "Socket",
    family: "ipv4",
    type: "datagram",
    state: "new",
    // IPPROTO_UDPLITE, which is no UDP.
    make: () => Socket.create("ipv4", "datagram", { protocol: 136 }),
  },
];

const RECIPES = KNOWN.filter(isPossible);

// What a machine does not allow, such as IPv6 or raw sockets, is left out.
function isPossible({ make }: Recipe): boolean {
  const world = new World();
  try {
    make(world).close();
    return true;
  } catch (error) {
    if (error instanceof SystemError) return false;
    throw error;
  } finally {
    world.close();
  }
}

function bound(
  family: "ipv4" | "ipv6" | "unix",
  type: "datagram" | "stream" | "seqpacket",
  to: string,
): Socket {
  const socket = Socket.create(family, type);
  socket.bind(to);
  return socket;
}

function listener(socket: Socket): Socket {
  socket.listen(8);
  markListening(socket);
  return socket;
}

function udpPair(world: World, family: "ipv4" | "ipv6"): UdpSocket {
  const left = UdpSocket.bind(LOOPBACK[family]);
  const right = world.add(UdpSocket.bind(left.localAddress.withPort(0)));
  left.connectSync(right.localAddress);
  right.connectSync(left.localAddress);
  world.peers.set(left, right).set(right, left);
  return left;
}

function tcpPair(world: World, family: "ipv4" | "ipv6"): Socket {
  const listening = listener(bound(family, "stream", LOOPBACK[family]));
  const left = Socket.create(family, "stream");
  left.connectSync(listening.localAddress);
  const right = world.add(listening.acceptSync({ timeoutMs: 1000 }));
  listening.close();
  world.peers.set(left, right).set(right, left);
  return left;
}

// The two ends of a connection, as another class.
function adopted(
  world: World,
  type: { adopt(fd: number, options: { own: boolean }): Socket },
  family: "ipv4" | "ipv6" = "ipv6",
): Socket {
  const left = tcpPair(world, family);
  const right = world.peers.get(left) as Socket;
  world.sockets.splice(world.sockets.indexOf(right), 1);
  return world.pair([
    type.adopt(left.detach(), { own: true }),
    type.adopt(right.detach(), { own: true }),
  ]);
}

/** Opens a socket that listens and that nobody owns. */
export function openForeignListener(domain: number, type: number): number {
  const fd = openForeign(domain, type);
  // Without a name Unix sockets get one of the kernel's choice.
  if (domain === AF_UNIX) real.bind(fd, Uint8Array.of(AF_UNIX, 0), 2);
  real.listen(fd, 8);
  return fd;
}

/** The folder of a sequence's files, and the path of a file in it that can be sent. */
export const sendable: string = join(mkdtempSync(join(tmpdir(), "bun-sockets-fuzz-file-")), "file");
writeFileSync(sendable, "what is in a file\n".repeat(1000));
process.on("exit", () => rmSync(join(sendable, ".."), { recursive: true, force: true }));

/** A descriptor of that file. */
export const sendableFd: number = openSync(sendable, "r");
