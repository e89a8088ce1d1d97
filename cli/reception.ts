/**
 * What `sink` and `echo` share: they receive until they have enough, and look up once a second.
 *
 * @module
 */
import { type DatagramBatch, TimeoutError, type UdpSocket } from "bun-sockets";
import { type Command, Option } from "commander";
import { count, durationAboveZero as time } from "./values.ts";

/** The options that say when to end. */
export interface EndOptions {
  readonly count?: number;
  /** In milliseconds, as `idle`. */
  readonly duration?: number;
  readonly idle?: number;
}

/** Who receives. */
export interface Receiver {
  readonly socket: UdpSocket;
  readonly batch: DatagramBatch;
  /** Looks at the batch. Returns how many datagrams of it count for the end. */
  take(): number;
  /** Called once a second. */
  tick(): void;
}

const TICK_MS = 1000;
// So often there is a turn of the event loop, for Ctrl-C.
const TURN_MS = 20;
/** What the kernel charges a receive buffer for a datagram, at least. */
const CHARGE_BYTES = 512;

/** Adds --count, --duration and --idle. */
export function withEnd(command: Command): Command {
  return command
    .option("-c, --count <datagrams>", 'end when so many have come: "10k"', count(2 ** 53 - 1))
    .addOption(
      new Option("-d, --duration <time>", 'end after so long: seconds, or "500ms"').argParser(time),
    )
    .addOption(
      new Option("--idle <time>", "end when none has come for so long, after the first").argParser(
        time,
      ),
    );
}

/** Receives until the end that the options tell, or until it is to stop. */
export async function receiveUntilEnd(
  { socket, batch, take, tick }: Receiver,
  { count = Number.POSITIVE_INFINITY, duration, idle }: EndOptions,
  stop: AbortSignal,
): Promise<void> {
  let now = performance.now();
  const last = now + (duration ?? Number.POSITIVE_INFINITY);
  let quiet = Number.POSITIVE_INFINITY;
  let next = now + TICK_MS;
  let turn = now;
  let counted = 0;
  while (counted < count && now < last && now < quiet && !stop.aborted) {
    let received = socket.tryReceiveBatch(batch);
    if (received === 0) {
      const end = Math.min(last, quiet, next);
      received = await receiveBefore(socket, batch, Math.max(0, end - now), stop);
      turn = performance.now();
    }
    if (received > 0) counted += take();
    now = performance.now();
    if (received > 0 && idle !== undefined) quiet = now + idle;
    if (now >= next) {
      tick();
      next += TICK_MS * Math.ceil((now - next + 1) / TICK_MS);
    }
    if (now - turn > TURN_MS) {
      await new Promise((resolve) => setImmediate(resolve));
      turn = now;
    }
  }
  // What has come before the end is in the receive buffer, which holds twice its size.
  let left = (2 * socket.receiveBuffer.effectiveBytes) / CHARGE_BYTES;
  for (; counted < count && left > 0 && socket.tryReceiveBatch(batch) > 0; left -= batch.count)
    counted += take();
}

/** Receives, and waits so long for it. Returns 0 when there was nothing, or it was to stop. */
async function receiveBefore(
  socket: UdpSocket,
  batch: DatagramBatch,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<number> {
  try {
    return await socket.receiveBatch(batch, { timeoutMs, signal });
  } catch (error) {
    if (error instanceof TimeoutError || signal.aborted) return 0;
    throw error;
  }
}
