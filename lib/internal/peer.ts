import { type Address, addressFromBytes } from "../address.ts";
import { ClosedError } from "../error.ts";
import { descriptorOf, type Socket } from "../socket.ts";

/**
 * The peer of a connection, once it is known. A connection never has another one, and the kernel
 * forgets it when the peer has broken the connection off: which is when a log asks.
 */
export class Peer<A extends Address> {
  #known: Uint8Array | A | undefined;

  /** @param bytes its sockaddr, where accept4(2) has told it */
  constructor(bytes: Uint8Array | undefined) {
    this.#known = bytes;
  }

  /**
   * @param socket whose peer it is
   * @param ask asks the kernel
   * @throws {ClosedError} the socket is closed
   */
  of(socket: Socket<A>, ask: () => A | undefined): A | undefined {
    if ((descriptorOf(socket)?.fd ?? -1) < 0) throw new ClosedError("getpeername");
    if (this.#known instanceof Uint8Array) this.#known = addressFromBytes(this.#known) as A;
    // IPV6_ADDRFORM makes a socket one of the other family, and its peer too.
    if (this.#known === undefined || this.#known.family !== socket.family) this.#known = ask();
    return this.#known;
  }
}
