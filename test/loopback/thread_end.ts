/**
 * A Worker that has sockets of all kinds when it is terminated.
 *
 * @module
 */
import { closeSync } from "node:fs";
import { TcpListener, UdpSocket, UnixSocket } from "bun-sockets";
import { eventfd } from "bun-sockets/sys";

/** What the Worker says: numbers of descriptors, and what the listener is bound to. */
export interface Opened {
  readonly address: string;
  readonly port: number;
  /** They were closed: their numbers are somebody else's. */
  readonly reused: number;
  /** It was given away. */
  readonly detached: number;
  /** Duplicates, and one that was received. */
  readonly others: readonly number[];
}

declare const self: { postMessage(value: Opened): void; onmessage: unknown };

const listener = TcpListener.listen("127.0.0.1:0");
const [left, right] = UnixSocket.pair();
left.sendDescriptorsSync("x", [listener]);
const received = [...right.receiveDescriptorsSync(new Uint8Array(8))][0];
const duplicate = left.duplicate();
const closed = UdpSocket.bind("127.0.0.1:0");
// Behind the library's back, which still takes the number for its own.
const reused = closed.descriptor;
closeSync(reused);
if (eventfd(0, 0) !== reused) throw new Error("the number was not used again");
self.postMessage({
  address: `${listener.localAddress}`,
  port: listener.localAddress.port,
  reused,
  detached: UdpSocket.bind("127.0.0.1:0").detach(),
  others: [listener, left, right, duplicate, received].map((one) => one?.descriptor ?? -1),
});
// So that nothing is collected.
self.onmessage = () => [listener, left, right, duplicate, received, closed];
