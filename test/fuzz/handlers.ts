/**
 * What is called with the batches of a socket: most of it answers or looks, some throws, returns
 * promises that are none, or does away with what it was called for. None is called more than so often
 * in a sequence, because two sockets that answer each other would never end.
 *
 * @module
 */
import { DatagramBatch } from "bun-sockets";
import { CANARY } from "./arena.ts";
import type { Draft } from "./draft.ts";
import { Failure } from "./failure.ts";
import { HostileError } from "./hostile.ts";
import { type AnySocket, isOpen, isRaw } from "./world.ts";

/** What handlers have done in all sequences. */
export const handled = { batches: 0, drains: 0, errors: 0 };

type Act = (draft: Draft, socket: AnySocket, batch: DatagramBatch) => unknown;

const ACTS_MAX = 60;

// Nothing that a library call throws here comes out of the handler: what is reported then is of the
// library itself, or a HostileError.
function quietly(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (error instanceof HostileError || error instanceof Failure) throw error;
  }
}

function thrown(): never {
  throw new HostileError("thrown by a handler");
}

const nothing = () => {};
const THEN = ["then"] as const;
const thenable = (then: unknown) => Object.fromEntries(THEN.map((name) => [name, then]));

const HARMLESS: readonly Act[] = [
  nothing,
  (_draft, socket, batch) => socket.trySendBatch(batch),
  (_draft, socket, batch) => socket.trySendBatch(batch),
  (_draft, _socket, batch) => batch.keep([batch.count - 1]),
  (_draft, _socket, batch) => batch.swap(0, batch.count - 1),
  (_draft, _socket, batch) => Promise.resolve(batch.count),
  // When the gate opens the socket may be closed, and the batch be gone.
  ({ world }) => world.gate(),
  async ({ world }, socket, batch) => {
    await world.gate();
    quietly(() => socket.trySendBatch(batch));
  },
  ({ world, choices }, socket) => world.feed(choices, socket),
];

const HOSTILE: readonly Act[] = [
  thrown,
  () => Promise.reject(new HostileError("a handler's promise")),
  async ({ world }) => {
    await world.gate();
    thrown();
  },
  // Promises that are none.
  () => thenable(thrown),
  () => thenable((done: () => void) => [done(), done(), thrown()]),
  () =>
    thenable((done: () => void, fail: (error: unknown) => void) => {
      fail(new HostileError("a thenable's answer"));
      done();
    }),
  () => thenable(nothing),
  () => Object.defineProperty({}, THEN[0], { get: thrown }),
  () => Object.create(Promise.prototype),
  () => new Proxy(Promise.resolve(), {}),
  // Away with the socket, the handler, the batch, or its memory.
  (_draft, socket) => socket.close(),
  ({ world }, socket) => {
    if (isOpen(socket)) world.fds.add(socket.detach());
  },
  ({ world }, socket) => world.handOver(socket),
  ({ world }) => world.stopAll(),
  ({ world }) => world.pauseAll(),
  ({ world }) => {
    world.pauseAll();
    world.resumeAll();
  },
  (_draft, _socket, batch) => batch.free(),
  (_draft, _socket, batch) => batch.memory.buffer.transfer(),
  (_draft, _socket, batch) => batch.memory.buffer.transfer(0),
  // The same batch or the same socket once more.
  (_draft, socket, batch) => socket.tryReceiveBatch(batch),
  (_draft, socket, batch) => socket.receiveBatch(batch, { timeoutMs: 1 }).catch(nothing),
  (_draft, socket, batch) => void socket.receiveBatch(batch, { timeoutMs: 1 }).catch(nothing),
  (_draft, socket, batch) => void socket.sendBatch(batch, 0, { timeoutMs: 1 }).catch(nothing),
  (_draft, socket) => void socket.receiveBytes(10, { timeoutMs: 1 }).catch(nothing),
  (_draft, socket) => socket.onBatch(nothing),
  (_draft, socket) => socket.disconnect(),
  ({ choices }, socket) => {
    for (let i = choices.below(20); i > 0; i--) socket.tryReceiveBytes(100);
  },
  () => Bun.gc(true),
];

/** A handler for `onBatch`, and what it can be told besides. */
export function handler(draft: Draft, socket: AnySocket): (batch: unknown) => unknown {
  const { world, choices } = draft;
  const isHostile = choices.chance(50);
  return (batch) => {
    handled.batches++;
    if (!(batch instanceof DatagramBatch) || batch.count < 1)
      throw new Failure("a handler was called without a batch");
    if (!isRaw(socket)) checkPayloads(batch);
    world.lend(batch);
    if (++world.acts > ACTS_MAX) return undefined;
    const act = choices.pick(isHostile && choices.chance(50) ? HOSTILE : HARMLESS);
    let result: unknown;
    quietly(() => {
      result = act(draft, socket, batch);
    });
    return result;
  };
}

/** A function for the options `drain` and `error`. */
export function listener(
  { world, choices }: Draft,
  socket: AnySocket,
  kind: "drains" | "errors",
): (error?: unknown) => void {
  return (error) => {
    handled[kind]++;
    if (kind === "errors") world.told.push(error);
    if (++world.acts > ACTS_MAX) return;
    const act = choices.pick([
      ...[nothing, nothing, nothing, thrown],
      () => socket.close(),
      () => socket.trySend(Buffer.alloc(10)),
      () => world.stopAll(),
      () => world.resumeAll(),
    ]);
    quietly(act);
  };
}

// What came is what somebody has sent, and never memory that is nobody's business.
function checkPayloads(batch: DatagramBatch): void {
  const { memory } = batch;
  for (let i = 0; i < batch.count; i++) {
    const at = batch.offset(i);
    if (memory.subarray(at, at + batch.length(i)).includes(CANARY))
      throw new Failure("a canary came to a handler");
  }
}
