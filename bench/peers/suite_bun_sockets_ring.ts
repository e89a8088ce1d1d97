// The receiving half of suite_bun_sockets.ts on a packet ring: the loop of suite_c.c.
import { FilterProgram, interfaces, TimeoutError, type UdpSocket } from "bun-sockets";
import { type PacketBlock, PacketRing } from "bun-sockets/packet";
import { type Age, endRound, patienceMs } from "./suite_bun_sockets_receive.ts";
import { seen, side } from "./suite_bun_sockets_side.ts";

const ETHERNET_BYTES = 14;
const ETH_P_IP = 0x0800;
const IPPROTO_UDP = 17;
const UDP_AT = ETHERNET_BYTES + 20;
const UDP_BYTES = 8;

/** A ring of the interface that has our address. The socket keeps the port, and takes nothing. */
export class RingReceiver {
  readonly #ring: PacketRing;
  readonly #port: number;

  constructor(socket: UdpSocket) {
    this.#port = socket.localAddress.port;
    socket.attachFilter(FilterProgram.dropAll);
    const here = interfaces().find(({ addresses }) =>
      addresses.some(({ address }) => address.toString() === `${side.local}:0`),
    );
    if (here === undefined) throw new Error(`no interface has ${side.local}`);
    this.#ring = PacketRing.open(here.name);
  }

  /** Takes what a round before has left. */
  drain(): void {
    while (this.#ring.tryReceiveBlock() !== undefined) {}
  }

  receiveRound(total: number, age: Age | undefined): void {
    const ring = this.#ring;
    while (seen.received < total) {
      seen.last = performance.now();
      try {
        const timeoutMs = patienceMs();
        this.#look(ring.tryReceiveBlock() ?? ring.receiveBlockSync({ timeoutMs }), age);
      } catch (error) {
        if (error instanceof TimeoutError) break;
        throw error;
      }
      if (seen.first === 0 && seen.received > 0) seen.first = performance.now();
    }
    endRound(total);
  }

  #look(block: PacketBlock, age: Age | undefined): void {
    const { bytes: memory, view } = this.#ring;
    const port = this.#port;
    seen.dataCalls++;
    while (block.next()) {
      const at = block.offset;
      if (
        view.getUint16(at + 12) !== ETH_P_IP ||
        memory[at + ETHERNET_BYTES + 9] !== IPPROTO_UDP ||
        view.getUint16(at + UDP_AT + 2) !== port
      )
        continue;
      if (age !== undefined && seen.wantsAge()) seen.waited(age(block.seconds, block.nanoseconds));
      const start = at + UDP_AT + UDP_BYTES;
      const length = view.getUint16(at + UDP_AT + 4) - UDP_BYTES;
      const first = memory[start] as number;
      seen.sum += first + (memory[start + length - 1] as number);
      if (first === 0) seen.stamped(view, start);
      seen.received++;
      seen.messages++;
    }
  }
}
