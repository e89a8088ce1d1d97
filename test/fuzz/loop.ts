/**
 * The event loop and the poller of the program: turns, and a start of the poller that may fail.
 *
 * @module
 */
import { poller, SystemError, UdpSocket } from "bun-sockets";
import { engine } from "../../lib/internal/poller_engine.ts";
import { Failure } from "./failure.ts";
import { kernel } from "./kernel.ts";

// A ringer that is not heard is given up after 200 ms.
const START_MS_MAX = 5000;

/** Lets the event loop have its turn, with what has come to its descriptors. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Whether the poller has a ringer. */
export function isStarted(): boolean {
  return poller.ringer !== undefined;
}

/** Closes what the poller has opened. */
export function stopPoller(): void {
  engine.stop();
}

/**
 * Starts the poller, by something that waits. One of the next system calls may fail; then it starts
 * with less, or refuses to.
 *
 * @param ringer the only one that it may take, or ""
 */
export async function startPoller(
  ringer: string,
  failAfter: number,
  failure: number,
): Promise<void> {
  process.env["BUN_SOCKETS_RINGER"] = ringer;
  const end = performance.now() + START_MS_MAX;
  let refusal: unknown;
  while (!isStarted() && refusal === undefined) {
    using socket = UdpSocket.bind("127.0.0.1:0");
    let isOver = false;
    const wait = socket.receive(new Uint8Array(1)).catch((error: unknown) => {
      isOver = true;
      // The socket's own call has met the fault.
      if (!(error instanceof SystemError) || error.syscall !== "recv") refusal = error;
    });
    if (failAfter >= 0) kernel.begin(failAfter, failure);
    while (!isStarted() && !isOver) {
      await turn();
      if (performance.now() > end) throw new Failure("the poller neither starts nor refuses to");
    }
    kernel.begin(-1, 0);
    failAfter = -1;
    socket.close();
    await wait;
    if (isStarted()) refusal = undefined;
  }
  // Its first turns are over.
  for (let i = 0; i < 2; i++) await turn();
}
