/**
 * What happens between two calls while something waits: signals are aborted, datagrams come, room is
 * made, sockets are closed and handed over, and memory is taken away that a call waits with.
 *
 * @module
 */
import { DatagramBatch, Message, Socket } from "bun-sockets";
import type { Choices } from "./choices.ts";
import { type AnySocket, isOpen, type World } from "./world.ts";

type Event = readonly [what: string, happens: (world: World, choices: Choices) => void];

const EVENTS: readonly Event[] = [
  ["a signal is aborted", (world, choices) => world.abort(choices)],
  ["a signal is aborted", (world, choices) => world.abort(choices)],
  ["something comes", (world, choices) => feedOne(world, choices)],
  ["something comes", (world, choices) => feedOne(world, choices)],
  ["something comes", (world, choices) => feedOne(world, choices)],
  ["there is room", makeRoom],
  ["there is room", makeRoom],
  ["there is no room", fill],
  ["there is no room", fill],
  ["there is no room", fill],
  ["a peer is not there", refuse],
  ["a peer is not there", refuse],
  ["a socket is closed", (world, choices) => one(world, choices)?.close()],
  [
    "a socket is handed over",
    (world, choices) => {
      const socket = one(world, choices);
      if (socket) world.handOver(socket);
    },
  ],
  [
    "a socket is given away",
    (world, choices) => {
      const socket = one(world, choices);
      if (socket && isOpen(socket)) world.fds.add(socket.detach());
    },
  ],
  ["a gate is opened", (world) => world.gates.shift()?.()],
  ["a gate is opened", (world) => world.gates.shift()?.()],
  ["batches are freed", freeAll],
  ["batches are swapped", (world) => batchesOf(world).forEach(mix)],
  ["memory is let go of", (world) => memoryOf(world).forEach(letGo)],
  [
    "a handler is paused",
    (world, choices) => choices.pick([...world.subscriptions, NOBODY]).subscription.pause(),
  ],
  ["handlers go on", (world) => world.resumeAll()],
  [
    "a handler is stopped",
    (world, choices) => choices.pick([...world.subscriptions, NOBODY]).subscription.stop(),
  ],
  ["an iterator is left", (world) => world.iterators.shift()?.batches.return()],
];

function makeRoom(world: World): void {
  for (const socket of socketsOf(world)) world.unclog(socket);
}

function freeAll(world: World): void {
  for (const batch of batchesOf(world)) batch.free();
}

/** The sockets that have handlers. */
function handledOf({ subscriptions }: World): AnySocket[] {
  return subscriptions.map(({ socket }) => socket).filter(isOpen);
}

// Sends find no room, and then there is some again.
function fill(world: World, choices: Choices): void {
  for (const socket of handledOf(world)) {
    world.clog(socket);
    quietly(() => socket.trySend(Buffer.alloc(10)));
    if (choices.chance(80)) world.unclog(socket);
  }
}

// What is sent to nobody comes back as an error of the socket.
function refuse(world: World): void {
  for (const socket of handledOf(world)) {
    if (socket.family === "unix") continue;
    quietly(() => {
      socket.tryConnect(socket.family === "ipv4" ? "127.0.0.1:1" : "[::1]:1");
      socket.trySend(Buffer.alloc(10));
    });
  }
}

const nothing = () => {};
const NOBODY = { subscription: { pause: nothing, stop: nothing } };

/** Lets one thing happen, and says what. */
export function happen(world: World, choices: Choices): string {
  const [what, happens] = choices.pick(EVENTS);
  happens(world, choices);
  return what;
}

/** The sockets that something waits for. */
function socketsOf({ waiting, subscriptions }: World): AnySocket[] {
  const receivers = [...waiting].map(({ receiver }) => receiver);
  const own = receivers.filter((receiver): receiver is AnySocket =>
    isReal(receiver, Socket, ({ descriptor }) => descriptor),
  );
  return [...own, ...subscriptions.map(({ socket }) => socket)].filter(isOpen);
}

function one(world: World, choices: Choices): AnySocket | undefined {
  return choices.pick([...socketsOf(world), undefined]);
}

function feedOne(world: World, choices: Choices): void {
  const socket = one(world, choices);
  if (socket && isOpen(socket)) world.feed(choices, socket);
}

/** The batches that calls wait with. */
function batchesOf({ waiting, lent }: World): DatagramBatch[] {
  const values = [...waiting].flatMap(({ values: [first] }) => first);
  return [...values, ...lent].filter((value): value is DatagramBatch =>
    isReal(value, DatagramBatch, ({ capacity }) => capacity),
  );
}

function quietly(work: () => unknown): void {
  try {
    work();
  } catch {
    // The socket says what it thinks of that.
  }
}

// No Proxy of one, nothing that only inherits, and no getters of its own.
function isReal<Type extends object>(
  value: unknown,
  type: { readonly prototype: Type },
  use: (value: Type) => unknown,
): value is Type {
  try {
    if (!(value instanceof (type as abstract new () => Type))) return false;
    use(value);
    return Object.values(Object.getOwnPropertyDescriptors(value)).every(({ get }) => !get);
  } catch {
    return false;
  }
}

function mix(batch: DatagramBatch): void {
  if (batch.freed) return;
  batch.count = batch.capacity;
  batch.swap(0, batch.capacity - 1);
  batch.setLength(0, batch.slotBytes);
}

/** What calls that wait were given to write to or to send. */
function memoryOf(world: World): ArrayBufferView[] {
  const firsts = [...world.waiting].map(({ values: [first] }) => first);
  return [
    ...batchesOf(world).map(({ memory }) => memory),
    ...firsts.filter((value) => ArrayBuffer.isView(value)),
    ...firsts
      .filter((value) => isReal(value, Message, ({ flags }) => flags))
      .flatMap(({ vectors }) => vectors),
  ];
}

// To another length it is copied, and the old memory is gone at once.
function letGo({ buffer }: ArrayBufferView): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}
