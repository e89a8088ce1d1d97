import { fits, Header, write16, writeBits16, writeFlag16 } from "./header.ts";

// IEEE 802.1Q: the tag control information, then the EtherType of what follows.
const TCI = 0;
const TYPE = 2;
const BYTES = 4;

/**
 * A VLAN tag in a frame, IEEE 802.1Q or, as the outer of two, 802.1ad: 4 bytes, behind an
 * EtherType of `ETH_P_8021Q` or `ETH_P_8021AD`, which stands in the header before it. Behind it can
 * be another.
 *
 * Of received frames the kernel or the device has often taken the tag out: then it is metadata.
 *
 * @see {@link https://standards.ieee.org/ieee/802.1Q/10323/ | IEEE 802.1Q}
 *
 * @example
 * ```ts
 * import { VlanHeader } from "bun-sockets/packet";
 *
 * const tag = new VlanHeader(Buffer.from("a0640800", "hex"));
 * if (tag.at(0)) console.log(tag.id, tag.priority, tag.etherType); // 100 5 2048
 * ```
 */
export class VlanHeader extends Header {
  /** Moves to a tag. True: 4 bytes are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (!fits(offset, end, BYTES, this.limit)) {
      this.leave();
      return false;
    }
    this.view = this.whole;
    this.start = offset;
    this.stop = end;
    return true;
  }

  /** 4. */
  override get headerBytes(): number {
    return BYTES;
  }

  /** Where what the frame carries begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /** The tag control information as a whole, 16 bits: priority, drop eligibility, VLAN. */
  get tci(): number {
    return this.view.getUint16(this.start + TCI);
  }

  set tci(value: number) {
    write16(this.view, this.start + TCI, value, "a TCI");
  }

  /** The priority, 0 to 7. */
  get priority(): number {
    return this.tci >>> 13;
  }

  set priority(value: number) {
    writeBits16(this.view, this.start + TCI, 13, 3, value, "a priority");
  }

  /** Whether the frame may be dropped first. */
  get isDropEligible(): boolean {
    return (this.tci & 0x1000) !== 0;
  }

  set isDropEligible(value: boolean) {
    writeFlag16(this.view, this.start + TCI, 12, value, "a drop eligibility");
  }

  /** The VLAN, 1 to 4094; 0 is none, only a priority. */
  get id(): number {
    return this.tci & 0xfff;
  }

  set id(value: number) {
    writeBits16(this.view, this.start + TCI, 0, 12, value, "a VLAN");
  }

  /** What follows the tag: `ETH_P_…`. */
  get etherType(): number {
    return this.view.getUint16(this.start + TYPE);
  }

  set etherType(value: number) {
    write16(this.view, this.start + TYPE, value, "an EtherType");
  }
}
