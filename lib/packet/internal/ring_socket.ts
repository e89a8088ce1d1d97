import { PacketSocket } from "../packet_socket.ts";
import type { PacketParts } from "./open_packet.ts";
import { removeRing } from "./ring_memory.ts";

/**
 * The socket that a ring is on. Whoever closes it ends the ring first: a mapping would keep the
 * closed socket capturing.
 */
export class RingSocket extends PacketSocket {
  /** The fanout group that it has joined, once it has. */
  group: number | undefined;
  readonly #endRing: () => void;

  constructor(parts: PacketParts, endRing: () => void) {
    super(parts);
    this.#endRing = endRing;
  }

  // The kernel does not tell group 0 by hash from none.
  override get fanoutGroup(): number | undefined {
    return super.fanoutGroup ?? this.group;
  }

  override close(): void {
    this.#endRing();
    super.close();
  }

  override detach(): number {
    this.#endRing();
    const fd = super.detach();
    removeRing(fd);
    return fd;
  }

  static {
    // What logs and lists of sockets call it.
    Object.defineProperty(RingSocket, "name", { value: "PacketRing" });
  }
}
