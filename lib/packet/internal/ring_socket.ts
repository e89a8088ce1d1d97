import { PacketSocket } from "../packet_socket.ts";
import type { PacketParts } from "./open_packet.ts";
import { removeRing } from "./ring_memory.ts";

// A duplicate keeps the ring alive that nobody else has: dropped, the ring would end only here, and
// the kernel go on filling it.
const rings = new WeakMap<PacketSocket, RingSocket>();

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

  // Whoever else has the open socket, by a duplicate, in a child process or over a Unix socket, would
  // keep the ring: so the kernel lets go of its memory first, and the others have a packet socket.
  override close(): void {
    this.#endRing();
    const { descriptor } = this;
    if (descriptor >= 0) removeRing(descriptor);
    super.close();
  }

  override duplicate(): PacketSocket {
    const second = super.duplicate();
    rings.set(second, this);
    return second;
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
