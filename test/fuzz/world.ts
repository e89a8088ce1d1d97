/**
 * What one sequence of calls works with: sockets of all kinds, batches, buffers, messages, addresses
 * and descriptors, made when they are asked for, and all gone in the end.
 *
 * @module
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Address,
  type Batches,
  type BatchSubscription,
  DatagramBatch,
  Message,
  type MessageOptions,
  NativeBuffer,
  parseAddress,
  Socket,
  SystemError,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { cmsghdr } from "bun-sockets/structs";
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SCM_RIGHTS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SOL_SOCKET,
} from "bun-sockets/sys";
import { addressBytes } from "../../lib/address.ts";
import { Arena, CANARY, type Slot } from "./arena.ts";
import type { Choices } from "./choices.ts";
import { Failure } from "./failure.ts";
import { guardCount, real, releaseGuards } from "./kernel.ts";

/** A socket of any class. */
export type AnySocket = Socket | UdpSocket | UnixDatagramSocket;

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
const BATCHES_MAX = 5;
const MESSAGES_MAX = 10;
const SUBSCRIPTIONS_MAX = 4;
const ITERATORS_MAX = 4;
const LENT_MAX = 8;
// More than a queue of a Unix socket takes.
const CLOG_MAX = 2000;
// Linux 6.5, in no header of ours: a control message that brings a descriptor too.
const SCM_PIDFD = 4;

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
  readonly sockets: AnySocket[] = [];
  readonly peers = new Map<AnySocket, AnySocket>();
  readonly batches: BatchRecord[] = [];
  readonly buffers: NativeBuffer[] = [];
  readonly messages: Message[] = [];
  /** The slots that the views of a message lie in. */
  readonly vectors = new Map<object, Slot[]>();
  /** Descriptors that are the harness's own to close. */
  readonly fds = new Set<number>();
  /** Calls that wait. */
  readonly waiting = new Set<Waiting>();
  readonly iterators: { readonly batches: Batches; readonly socket: AnySocket }[] = [];
  readonly subscriptions: Subscribed[] = [];
  /** Batches of iterators and handlers, which belong to those. */
  readonly lent: DatagramBatch[] = [];
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

  /** Remembers an iterator; the oldest is forgotten when there are many. */
  iterate(batches: Batches, socket: AnySocket): void {
    if (this.iterators.push({ batches, socket }) > ITERATORS_MAX)
      this.iterators.shift()?.batches.return();
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
    if (!this.sockets.includes(socket)) this.sockets.push(socket);
    return socket;
  }

  /** Remembers two sockets that are connected with each other, and returns one. */
  pair<Any extends AnySocket>([left, right]: readonly [Any, Any]): Any {
    this.peers.set(left, right).set(right, left);
    this.add(right);
    return this.add(left);
  }

  /** An open socket of a class that is of this kind, or any of that class where none can be. */
  socket(choices: Choices, className: string, isWanted: (kind: Kind) => boolean): AnySocket {
    const has = this.sockets.filter(
      (socket) => classOf(socket) === className && isOpen(socket) && isWanted(kindOf(socket)),
    );
    const full = this.sockets.filter(isOpen).length >= SOCKETS_MAX;
    if (has.length > 0 && (full || choices.chance(70))) return choices.pick(has);
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

  buffer(choices: Choices): NativeBuffer {
    const has = this.buffers.filter((buffer) => !buffer.freed);
    if (has.length > 0 && (has.length >= BATCHES_MAX || choices.chance(75)))
      return choices.pick(has);
    const buffer = new NativeBuffer(choices.pick([1, 100, 4096, 5000]));
    this.buffers.push(buffer);
    return buffer;
  }

  /** Lets something arrive at a socket, where that is possible. */
  feed(choices: Choices, socket: AnySocket): void {
    const { family, type, state } = kindOf(socket);
    const bytes = new Uint8Array(choices.pick([1, 3, 20, 100, 2000])).fill(1 + choices.below(100));
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
      real.connect(fd, name, name.length);
      this.fds.add(fd);
    } else if (type === "datagram" && family in helpers) {
      const helper = helpers[family as keyof typeof helpers];
      real.sendto(helper, bytes, bytes.length, flags, name, name.length);
    }
  }

  /** Keeps what a call has given, so that it is used, and closed in the end. */
  harvest(result: unknown): void {
    if (result instanceof Socket) {
      if (classOf(result) !== undefined) this.add(result);
    } else if (result instanceof DatagramBatch) {
      if (Object.getPrototypeOf(result) === DatagramBatch.prototype) this.addBatch(result);
    } else if (result instanceof NativeBuffer) this.buffers.push(result);
    else if (result instanceof Message) this.messages.push(result);
    else if (Array.isArray(result)) for (const item of result) this.harvest(item);
    else if (isStep(result)) this.lend(result.value);
  }

  /** Closes the descriptors that came with a message: they are the caller's. */
  closeReceived(message: Message): void {
    const { control, controlLength } = message;
    if (control.length === 0) return;
    const view = new DataView(control.buffer, control.byteOffset, control.byteLength);
    const data = cmsghdr.size;
    for (let at = 0; at + data <= Math.min(controlLength, view.byteLength); ) {
      const length = cmsghdr.cmsg_len.get(view, at);
      if (length < data) break;
      const type = cmsghdr.cmsg_type.get(view, at);
      const bringsDescriptors =
        cmsghdr.cmsg_level.get(view, at) === SOL_SOCKET &&
        (type === SCM_RIGHTS || type === SCM_PIDFD);
      const end = Math.min(at + length, view.byteLength);
      for (let fd = at + data; bringsDescriptors && fd + 4 <= end; fd += 4) {
        const number = view.getInt32(fd, true);
        if (number >= 0) real.close(number);
        view.setInt32(fd, -1, true);
      }
      at += Math.ceil(length / 8) * 8;
    }
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
      // What a raw socket receives begins with the kernel's own bytes.
      if (!isOpen(socket) || socket.type === "raw") continue;
      for (let i = 0; i < 100; i++) {
        const length = real.recv(socket.descriptor, drained, drained.length, MSG_DONTWAIT);
        if (length <= 0) break;
        if (drained.subarray(0, length).includes(CANARY))
          throw new Failure("a canary was sent: bytes outside of what a call was given");
      }
    }
  }

  /** Closes all sockets: then nothing has anything to wait for. */
  closeSockets(): void {
    for (const socket of this.sockets) Reflect.apply(Socket.prototype.close, socket, []);
  }

  close(): void {
    this.closeSockets();
    for (const { batches } of this.iterators) batches.return();
    for (const open of this.gates) open();
    for (const { batch } of this.batches) batch.free();
    for (const buffer of this.buffers) buffer.free();
    const gone = [...this.fds].filter((fd) => real.close(fd) !== 0);
    for (const file of readdirSync(folder)) rmSync(join(folder, file));
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

// What an iterator of batches gives.
function isStep(result: unknown): result is { readonly value: DatagramBatch } {
  return result instanceof Object && "value" in result && result.value instanceof DatagramBatch;
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
  if (listening.has(socket)) return { family, type, state: "listening" };
  if (socket.connected) return { family, type, state: "connected" };
  return { family, type, state: isNamed(socket) ? "open" : "new" };
}

function isNamed(socket: AnySocket): boolean {
  const local: Address = socket.localAddress;
  if (local instanceof UnixAddress) return !local.isUnnamed;
  return "port" in local && local.port !== 0;
}

export function isOpen(socket: AnySocket): boolean {
  return socket.descriptor >= 0;
}

/** The name of the class that a socket is of: no subclass, no Proxy. */
export function classOf(socket: object): string | undefined {
  const prototype = Object.getPrototypeOf(socket);
  if (prototype === UdpSocket.prototype) return "UdpSocket";
  if (prototype === UnixDatagramSocket.prototype) return "UnixDatagramSocket";
  return prototype === Socket.prototype ? "Socket" : undefined;
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
export function openForeign(domain: number, type: number): number {
  return real.socket(domain, type | FLAGS, 0);
}

/** What a text says, for the kernel. */
export function bytesOfText(text: string): Uint8Array {
  return addressBytes(parseAddress(text));
}

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
