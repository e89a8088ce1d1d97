import { ETH_ALEN, ETH_DATA_LEN } from "../../../structs/constants/linux_if_ether.ts";
import { ethhdr } from "../../../structs/ethhdr.ts";
import { copyIn, copyOut, fits, Header, sameBytes, write16 } from "./header.ts";
import { formatMac, readMac, writeMac } from "./mac.ts";

const DESTINATION = ethhdr.h_dest.offset;
const SOURCE = ethhdr.h_source.offset;
const TYPE = ethhdr.h_proto.offset;
const BYTES = ethhdr.size;

// The last bit of the first byte, of 48.
const GROUP_BIT = 2 ** 40;

/**
 * The header of an Ethernet frame: 14 bytes. A VLAN tag that is in the frame is a header of its own
 * behind it.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc894 | RFC 894}
 * @see {@link https://standards.ieee.org/ieee/802.3/10422/ | IEEE 802.3}
 *
 * @example Exchange the addresses of a frame, in place
 * ```ts
 * import { EthernetHeader } from "bun-sockets/packet";
 *
 * const frame = Buffer.from("020000000001020000000002" + "0800" + "45000014", "hex");
 * const ethernet = new EthernetHeader(frame);
 * if (ethernet.at(0)) {
 *   const sender = ethernet.sourceValue;
 *   ethernet.sourceValue = ethernet.destinationValue;
 *   ethernet.destinationValue = sender;
 *   console.log(ethernet.source, ethernet.etherType.toString(16)); // 02:00:00:00:00:01 800
 * }
 * ```
 */
export class EthernetHeader extends Header {
  /** Moves to a header. True: 14 bytes are there. */
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

  /** 14. */
  override get headerBytes(): number {
    return BYTES;
  }

  /** Where what the frame carries begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /** Where it ends: with the frame, padding included, unless `etherType` is a length. */
  override get payloadEnd(): number {
    const length = this.etherType;
    if (length > ETH_DATA_LEN) return this.stop;
    return Math.min(this.payloadOffset + length, this.stop);
  }

  /** Whom the frame is for, as "00:11:22:aa:bb:cc": makes a string. Set as text. */
  get destination(): string {
    return formatMac(this.destinationValue);
  }

  set destination(text: string) {
    writeMac(this.view, this.start + DESTINATION, text, "a destination");
  }

  /** Whom the frame is for, as a number of 48 bits. */
  get destinationValue(): number {
    return readMac(this.view, this.start + DESTINATION);
  }

  set destinationValue(value: number) {
    writeMac(this.view, this.start + DESTINATION, value, "a destination");
  }

  /** Copies the six bytes of the destination. */
  copyDestination(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + DESTINATION, ETH_ALEN, target, targetOffset);
  }

  /** Sets the destination to six bytes. */
  setDestination(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + DESTINATION, ETH_ALEN, bytes, bytesOffset, "a destination");
  }

  /** Whether the destination is these six bytes. */
  destinationEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + DESTINATION, ETH_ALEN, bytes, bytesOffset);
  }

  /** Whether the frame is for a group, or for all. */
  get isMulticast(): boolean {
    return Math.floor(this.destinationValue / GROUP_BIT) % 2 === 1;
  }

  /** Whether the frame is for all: ff:ff:ff:ff:ff:ff. */
  get isBroadcast(): boolean {
    return this.destinationValue === 2 ** 48 - 1;
  }

  /** Who has sent it, as "00:11:22:aa:bb:cc": makes a string. Set as text. */
  get source(): string {
    return formatMac(this.sourceValue);
  }

  set source(text: string) {
    writeMac(this.view, this.start + SOURCE, text, "a source");
  }

  /** Who has sent it, as a number of 48 bits. */
  get sourceValue(): number {
    return readMac(this.view, this.start + SOURCE);
  }

  set sourceValue(value: number) {
    writeMac(this.view, this.start + SOURCE, value, "a source");
  }

  /** Copies the six bytes of the source. */
  copySource(target: Uint8Array, targetOffset = 0): void {
    copyOut(this.view, this.start + SOURCE, ETH_ALEN, target, targetOffset);
  }

  /** Sets the source to six bytes. */
  setSource(bytes: Uint8Array, bytesOffset = 0): void {
    copyIn(this.view, this.start + SOURCE, ETH_ALEN, bytes, bytesOffset, "a source");
  }

  /** Whether the source is these six bytes. */
  sourceEquals(bytes: Uint8Array, bytesOffset = 0): boolean {
    return sameBytes(this.view, this.start + SOURCE, ETH_ALEN, bytes, bytesOffset);
  }

  /** What the frame carries: `ETH_P_…`. Up to 1500 it is a length instead, of IEEE 802.3. */
  get etherType(): number {
    return this.view.getUint16(this.start + TYPE);
  }

  set etherType(value: number) {
    write16(this.view, this.start + TYPE, value, "an EtherType");
  }
}
