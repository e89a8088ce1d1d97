import { requireObject } from "../internal/arguments.ts";
import type { Packet } from "./packet.ts";

/** What an enhanced packet block says in its flags of where a packet went. */
export type PacketDirection = "inbound" | "outbound";

const DIRECTION = 0b11;
const INBOUND = 1;
const OUTBOUND = 2;

/**
 * A packet that was read from a capture file: what `CaptureReader` gives, and `CaptureWriter` takes.
 *
 * Its bytes are a view of what was read, not a copy. They are never overwritten, so packets can be
 * kept, but a packet that is kept holds the piece of the file that it came with, about 1 MiB: keep
 * `copy()` of the few that are kept for long.
 *
 * @example
 * ```ts
 * import { CaptureFile, type CapturedPacket } from "bun-sockets/packet";
 *
 * const header = Buffer.from("d4c3b2a1020004000000000000000000ffff000001000000", "hex");
 * const bytes = Buffer.concat([header, Buffer.from("01000000020000000300000009000000aabbcc", "hex")]);
 * const [packet] = CaptureFile.open(bytes) as Iterable<CapturedPacket>;
 * console.log(packet?.seconds, packet?.nanoseconds, packet?.originalLength); // 1 2000 9
 * console.log(packet?.copy().bytes.length, packet?.offset); // 3 24
 * ```
 */
export class CapturedPacket implements Packet {
  /** The frame, from its link-layer header on: as much of it as was captured. */
  readonly bytes: Uint8Array;
  /** How long it was, in bytes. */
  readonly originalLength: number;
  /** When it was captured: seconds since 1970. Undefined where the file does not say when. */
  readonly seconds: number | undefined;
  /** And nanoseconds, 0 to 999,999,999. */
  readonly nanoseconds: number | undefined;
  /** The interface: its index in `CaptureReader.interfaces`. */
  readonly interface: number;
  /** The link type of that interface: what the frame begins with, one of `LinkType`. */
  readonly linkType: number;
  /** Where its record or block begins, in bytes from the beginning of the file. */
  readonly offset: number;
  /** What the file says of it; several comments are divided by line feeds. */
  readonly comment: string | undefined;
  /** The flags of an enhanced packet block, 32 bits; see `direction`. */
  readonly flags: number | undefined;
  /** How many packets were lost between this one and the one before on its interface. */
  readonly dropCount: number | undefined;

  /** @param packet everything but what is derived */
  constructor(packet: Omit<CapturedPacket, "copy" | "direction">) {
    requireObject(packet);
    this.bytes = packet.bytes;
    this.originalLength = packet.originalLength;
    this.seconds = packet.seconds;
    this.nanoseconds = packet.nanoseconds;
    this.interface = packet.interface;
    this.linkType = packet.linkType;
    this.offset = packet.offset;
    this.comment = packet.comment;
    this.flags = packet.flags;
    this.dropCount = packet.dropCount;
  }

  /** Whether it came in or went out, where its flags say so. */
  get direction(): PacketDirection | undefined {
    const direction = (this.flags ?? 0) & DIRECTION;
    if (direction === INBOUND) return "inbound";
    return direction === OUTBOUND ? "outbound" : undefined;
  }

  /** The same with bytes of its own, which hold nothing else. */
  copy(): CapturedPacket {
    return new CapturedPacket({ ...this, bytes: new Uint8Array(this.bytes) });
  }
}
