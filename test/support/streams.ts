/**
 * Pairs of connected streams of every kind.
 *
 * @module
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StreamSocket, TcpListener, TcpSocket, UnixListener, UnixSocket } from "bun-sockets";

const WAIT = { timeoutMs: 10_000 };

/** Two streams that are connected with each other, closed with the block. */
export interface StreamPair extends Disposable {
  readonly left: StreamSocket;
  readonly right: StreamSocket;
}

function pairOf(left: StreamSocket, right: StreamSocket): StreamPair {
  return {
    left,
    right,
    [Symbol.dispose]: () => {
      left.close();
      right.close();
    },
  };
}

/** A TCP connection over the loopback interface. */
export function tcpPair(): StreamPair {
  using listener = TcpListener.listen("127.0.0.1:0");
  const left = TcpSocket.connectSync(listener.localAddress, WAIT);
  return pairOf(left, listener.acceptSync(WAIT));
}

/** A Unix stream by way of a path. */
export function unixPair(): StreamPair {
  const folder = mkdtempSync(join(tmpdir(), "bun-sockets-"));
  try {
    const path = join(folder, "stream");
    using listener = UnixListener.listen(path);
    const left = UnixSocket.connectSync(path, WAIT);
    return pairOf(left, listener.acceptSync(WAIT) as UnixSocket);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Two ends of socketpair(2). */
export function socketPair(): StreamPair {
  return pairOf(...StreamSocket.pair());
}

/** Every kind of stream, by its name, for `test.each`. */
export const streamKinds = [
  ["TCP", tcpPair],
  ["a Unix stream", unixPair],
  ["a socketpair", socketPair],
] as const satisfies readonly (readonly [name: string, make: () => StreamPair])[];

/** Sends until nothing more fits: the next send waits. Returns how many bytes it took. */
export function fillUp(socket: StreamSocket): number {
  const chunk = new Uint8Array(65536);
  let sent = 0;
  for (;;) {
    const count = socket.trySend(chunk);
    if (count === undefined) return sent;
    sent += count;
  }
}
