/**
 * What the tests of the promise forms share: pairs of sockets of every kind, every call in one shape,
 * and what counts timers, listeners and those who wait.
 *
 * @module
 */
import { expect } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import {
  type Address,
  type AsyncOptions,
  DatagramBatch,
  Message,
  poller,
  Socket,
  type SocketOptions,
  UdpSocket,
  UnixAddress,
  UnixDatagramSocket,
} from "bun-sockets";
import { MSG_PEEK } from "bun-sockets/sys";

/** How long a condition may take: the machine may have much else to do. */
const LIMIT_MS = 20_000;
/** What has happened is told within this time; who waits on does so for ever. */
const SOON_MS = 2000;
/** A timer that is set for longer is nobody's pause between two looks. */
const LONG_DELAY_MS = 1000;

/** Two sockets, where what one sends the other receives. Closed with the block. */
export interface Pair extends Disposable {
  readonly receiver: Socket;
  readonly sender: Socket;
  /** Where the sender sends to, in words of `sendTo`. */
  readonly to: Address | undefined;
}

/** A kind of socket that has promise forms. */
export interface Kind {
  readonly name: string;
  /** Whether what is sent arrives as it was cut. */
  readonly keepsBoundaries: boolean;
  /** Whether it takes batches: all but streams and seqpacket sockets. */
  readonly takesBatches: boolean;
  open(options?: SocketOptions): Pair;
}

function pairOf(receiver: Socket, sender: Socket, to?: Address): Pair {
  const close = () => {
    receiver.close();
    sender.close();
  };
  return { receiver, sender, to, [Symbol.dispose]: close };
}

function openUdp(local: string, options: SocketOptions = {}): Pair {
  const receiver = UdpSocket.bind(local, options);
  const sender = UdpSocket.open(local, options);
  sender.connectSync(receiver.localAddress);
  return pairOf(receiver, sender, receiver.localAddress);
}

/** A listening socket and its address. */
export function listen(
  family: "ipv4" | "unix",
  type: "stream" | "seqpacket",
  backlog?: number,
  options?: SocketOptions,
): Socket {
  const listener = Socket.create(family, type, options);
  listener.bind(family === "unix" ? UnixAddress.unnamed : "127.0.0.1:0");
  listener.listen(backlog);
  return listener;
}

function openStream(
  family: "ipv4" | "unix",
  type: "stream" | "seqpacket",
  options?: SocketOptions,
): Pair {
  using listener = listen(family, type, 1, options);
  const sender = Socket.create(family, type, options);
  sender.connectSync(listener.localAddress, { timeoutMs: LIMIT_MS });
  return pairOf(listener.acceptSync({ timeoutMs: LIMIT_MS }), sender);
}

function openUnixDatagram(connects: boolean, options: SocketOptions = {}): Pair {
  const receiver = UnixDatagramSocket.bind(UnixAddress.unnamed, options);
  const sender = UnixDatagramSocket.bind(UnixAddress.unnamed, options);
  if (connects) sender.connectSync(receiver.localAddress);
  return pairOf(receiver, sender, receiver.localAddress);
}

const stream = { keepsBoundaries: false, takesBatches: false };
const datagram = { keepsBoundaries: true, takesBatches: true };

export const udp4: Kind = {
  name: "UDP over IPv4",
  ...datagram,
  open: (options) => openUdp("127.0.0.1:0", options),
};
export const udp6: Kind = {
  name: "UDP over IPv6",
  ...datagram,
  open: (options) => openUdp("[::1]:0", options),
};
export const tcp: Kind = {
  name: "TCP",
  ...stream,
  open: (options) => openStream("ipv4", "stream", options),
};
export const unixStream: Kind = {
  name: "Unix stream",
  ...stream,
  open: (options) => openStream("unix", "stream", options),
};
export const unixDatagram: Kind = {
  name: "Unix datagram",
  ...datagram,
  open: (options) => openUnixDatagram(true, options),
};
/** The sender names the receiver in each call. */
export const unixDatagramNamed: Kind = {
  name: "unconnected Unix datagram",
  ...datagram,
  open: (options) => openUnixDatagram(false, options),
};
export const seqpacket: Kind = {
  name: "Unix seqpacket",
  keepsBoundaries: true,
  takesBatches: false,
  open: (options) => openStream("unix", "seqpacket", options),
};

/** Every kind of socket whose sender has a peer. */
export const kinds: readonly Kind[] = [udp4, udp6, tcp, unixStream, unixDatagram, seqpacket];

/** Receives text of at most `bytes` bytes. */
export type Receive = (socket: Socket, bytes: number, options?: AsyncOptions) => Promise<string>;

export type ReceiveName =
  | "receive"
  | "receiveBytes"
  | "receiveFrom"
  | "receiveMessage"
  | "receiveBatch";

/** The promise forms that receive, by name, each with memory of its own. */
export const receives: Readonly<Record<ReceiveName, Receive>> = {
  receive: async (socket, bytes, options) => {
    const target = new Uint8Array(bytes);
    return text(target.subarray(0, await socket.receive(target, options)));
  },
  receiveBytes: async (socket, bytes, options) => text(await socket.receiveBytes(bytes, options)),
  receiveFrom: async (socket, bytes, options) => {
    const target = new Uint8Array(bytes);
    return text(target.subarray(0, (await socket.receiveFrom(target, options)).length));
  },
  receiveMessage: async (socket, bytes, options) => {
    const target = new Uint8Array(bytes);
    const message = new Message({ vectors: target });
    return text(target.subarray(0, await socket.receiveMessage(message, options)));
  },
  receiveBatch: async (socket, bytes, options) => {
    using batch = new DatagramBatch({ capacity: 1, slotBytes: bytes });
    expect(await socket.receiveBatch(batch, options)).toBe(1);
    return text(batch.view(0));
  },
};

/** The names of the promise forms that receive from a kind of socket. */
export function receivesOf(kind: Kind): ReceiveName[] {
  const names = Object.keys(receives) as ReceiveName[];
  return names.filter((name) => kind.takesBatches || name !== "receiveBatch");
}

/** What an error says is called, for each promise form. */
export const syscalls = {
  receive: "recv",
  receiveBytes: "recv",
  receiveFrom: "recvfrom",
  receiveMessage: "recvmsg",
  receiveBatch: "recvmmsg",
  send: "send",
  sendTo: "sendto",
  sendMessage: "sendmsg",
  sendBatch: "sendmmsg",
} as const;

/** Sends data over a pair; gives the bytes that were sent. */
export type Send = (pair: Pair, data: Uint8Array, options?: AsyncOptions) => Promise<number>;

function messageOf({ to }: Pair, data: Uint8Array): Message {
  return new Message({ vectors: data, address: to });
}

export type SendName = "send" | "sendTo" | "sendMessage" | "sendBatch";

/** The promise forms that send, by name. */
export const sends: Readonly<Record<SendName, Send>> = {
  send: ({ sender }, data, options) => sender.send(data, options),
  sendTo: ({ sender, to }, data, options) => sender.sendTo(data, to as Address, options),
  sendMessage: (pair, data, options) => pair.sender.sendMessage(messageOf(pair, data), options),
  sendBatch: async ({ sender, to }, data, options) => {
    using batch = new DatagramBatch({ capacity: 1, slotBytes: data.length });
    batch.count = 1;
    batch.write(0, data);
    batch.setAddress(0, to);
    const sent = await sender.sendBatch(batch, 0, options);
    return sent === 1 && batch.failed === 0 ? data.length : -1;
  },
};

/** The names of the promise forms that send over a kind of socket. */
export function sendsOf(kind: Kind): SendName[] {
  if (kind === unixDatagramNamed) return ["sendTo", "sendMessage", "sendBatch"];
  if (kind.takesBatches) return ["send", "sendTo", "sendMessage", "sendBatch"];
  return ["send", "sendMessage"];
}

/** Sends over a pair, or answers at once. */
export function trySend({ sender, to }: Pair, data: string | Uint8Array): number | undefined {
  const bytes = Buffer.from(data);
  return to === undefined ? sender.trySend(bytes) : sender.trySendTo(bytes, to);
}

/** Sends, and waits until it has arrived. */
export function deliver(pair: Pair, ...texts: readonly string[]): void {
  for (const each of texts) expect(trySend(pair, each)).toBe(each.length);
  if (texts.length === 0) return;
  pair.receiver.receiveSync(new Uint8Array(1), { flags: MSG_PEEK, timeoutMs: LIMIT_MS });
}

/** Bytes as text. */
export function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
}

let waitersBefore = 0;

/** Says that from here on it is counted who waits: what an earlier test left is not this one's. */
export function beginCount(): void {
  waitersBefore = poller.counters.waiters;
}

/** How many calls wait that did not when the count began. */
export function waiters(): number {
  return poller.counters.waiters - waitersBefore;
}

/** Starts a call that has to wait, and says so when it does not. */
export function waiting<Result>(start: () => Promise<Result>): Promise<Result> {
  const before = waiters();
  const promise = start();
  // It may be rejected before the test looks at it.
  promise.catch(() => {});
  expect(waiters()).toBe(before + 1);
  return promise;
}

/** Leaves nothing of the budget of this turn, and gives the next ones hardly any. */
export function spendBudget(): void {
  poller.turnBudgetMs = 0;
  using pair = udp4.open();
  const before = waiters();
  for (let tries = 0; waiters() === before; tries++) {
    if (tries > 10) throw new Error("The budget of this turn has no end");
    deliver(pair, "x");
    pair.receiver.receive(new Uint8Array(1)).catch(() => {});
  }
}

/** What a promise is rejected with. */
export async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (reason) {
    return reason;
  }
  throw new Error("Expected the call to be rejected");
}

/** What has become of promises, each "pending", its result, or its reason. */
export function outcomes(promises: readonly Promise<unknown>[]): unknown[] {
  const list: unknown[] = promises.map(() => "pending");
  for (const [i, promise] of promises.entries()) {
    const note = (value: unknown) => {
      list[i] = value;
    };
    promise.then(note, note);
  }
  return list;
}

/** Lets turns of the event loop pass. */
export async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits until something is so. */
export async function until(condition: () => boolean, what: string, ms = LIMIT_MS): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`Not so within ${ms} ms: ${what}`);
    await Bun.sleep(1);
  }
}

/** What has become of promises that something has settled already; "pending" of those it has not. */
export async function soon(promises: readonly Promise<unknown>[]): Promise<unknown[]> {
  const list = outcomes(promises);
  await until(() => !list.includes("pending"), "all are settled", SOON_MS).catch(() => {});
  return list;
}

/** Starts the poller, and waits until its ringer is chosen. */
export async function startPoller(): Promise<void> {
  using pair = udp4.open();
  const received = receives.receive(pair.receiver, 1);
  trySend(pair, "x");
  await received;
  // Chosen while something waits: the first answer may have come before.
  const kept = pair.receiver.receive(new Uint8Array(1));
  await until(() => poller.ringer !== undefined, "a ringer is chosen");
  await turns(2);
  trySend(pair, "x");
  await kept;
}

/** Counts the long timers that are made until the end of the block, and those that live. */
export class TimerCount implements Disposable {
  made = 0;
  livingMax = 0;
  readonly delays: number[] = [];
  readonly #setTimeout = globalThis.setTimeout;
  readonly #clearTimeout = globalThis.clearTimeout;
  readonly #living = new Set<unknown>();

  constructor(longerThanMs = LONG_DELAY_MS) {
    const set = this.#setTimeout;
    const counted = (run: (...values: unknown[]) => void, ms: number, ...values: unknown[]) => {
      const timer = set(
        (...given: unknown[]) => {
          this.#living.delete(timer);
          run(...given);
        },
        ms,
        ...values,
      );
      if (!(ms > longerThanMs)) return timer;
      this.made++;
      this.delays.push(ms);
      this.#living.add(timer);
      this.livingMax = Math.max(this.livingMax, this.#living.size);
      return timer;
    };
    const cleared = (timer: Timer) => {
      this.#living.delete(timer);
      this.#clearTimeout(timer);
    };
    Object.assign(globalThis, { setTimeout: counted, clearTimeout: cleared });
  }

  [Symbol.dispose](): void {
    Object.assign(globalThis, { setTimeout: this.#setTimeout, clearTimeout: this.#clearTimeout });
  }
}

/** A signal that knows its listeners. */
export class WatchedSignal {
  readonly controller = new AbortController();
  readonly listeners = new Set<unknown>();
  added = 0;

  constructor() {
    const { signal } = this.controller;
    const { addEventListener, removeEventListener } = signal;
    const add: typeof addEventListener = (type: string, listener: unknown, ...rest: unknown[]) => {
      this.added++;
      this.listeners.add(listener);
      addEventListener.call(signal, type, listener as () => void, ...(rest as []));
    };
    const remove: typeof add = (type: string, listener: unknown, ...rest: unknown[]) => {
      this.listeners.delete(listener);
      removeEventListener.call(signal, type, listener as () => void, ...(rest as []));
    };
    Object.assign(signal, { addEventListener: add, removeEventListener: remove });
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  abort(reason?: unknown): void {
    this.controller.abort(reason);
  }
}

/** Whether any epoll set of this process has a descriptor. */
export function isInEpollSet(descriptor: number): boolean {
  return readdirSync("/proc/self/fd").some((fd) => {
    try {
      if (!readlinkSync(`/proc/self/fd/${fd}`).includes("[eventpoll]")) return false;
      const info = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
      return new RegExp(`^tfd:\\s+${descriptor}\\s`, "m").test(info);
    } catch {
      return false;
    }
  });
}
