import { copyOut, fits, Header, write8, write16, write32 } from "./header.ts";
import { formatMac, readMac } from "./mac.ts";

// LINKTYPE_LINUX_SLL: all in network byte order.
const V1_PACKET_TYPE = 0;
const V1_HARDWARE_TYPE = 2;
const V1_ADDRESS_BYTES = 4;
const V1_ADDRESS = 6;
const V1_PROTOCOL = 14;
const V1_BYTES = 16;

// LINKTYPE_LINUX_SLL2.
const V2_PROTOCOL = 0;
const V2_INTERFACE = 4;
const V2_HARDWARE_TYPE = 8;
const V2_PACKET_TYPE = 10;
const V2_ADDRESS_BYTES = 11;
const V2_ADDRESS = 12;
const V2_BYTES = 20;

const ADDRESS_BYTES_MAX = 8;
const MAC_BYTES = 6;

/**
 * The header of a Linux cooked capture, which stands for a link-layer header where there is none, or
 * where interfaces differ: 16 bytes. `CookedHeader2` is the second version, with the interface.
 *
 * @see {@link https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html | LINKTYPE_LINUX_SLL}
 *
 * @example
 * ```ts
 * import { CookedHeader } from "bun-sockets/packet";
 *
 * const cooked = new CookedHeader(Buffer.from("0000000100060200000000010000" + "0800", "hex"));
 * if (cooked.at(0)) console.log(cooked.packetType, cooked.address, cooked.protocol); // 0 02:00:00:00:00:01 2048
 * ```
 */
export class CookedHeader extends Header {
  /** Moves to a header. True: 16 bytes are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (!fits(offset, end, V1_BYTES, this.limit)) {
      this.leave();
      return false;
    }
    this.view = this.whole;
    this.start = offset;
    this.stop = end;
    return true;
  }

  /** 16. */
  override get headerBytes(): number {
    return V1_BYTES;
  }

  /** Where what was captured begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + V1_BYTES, this.stop);
  }

  /** Whom the packet was for: `PACKET_HOST`, `PACKET_OUTGOING`, … */
  get packetType(): number {
    return this.view.getUint16(this.start + V1_PACKET_TYPE);
  }

  set packetType(value: number) {
    write16(this.view, this.start + V1_PACKET_TYPE, value, "a packet type");
  }

  /** What the device is: `ARPHRD_…`. */
  get hardwareType(): number {
    return this.view.getUint16(this.start + V1_HARDWARE_TYPE);
  }

  set hardwareType(value: number) {
    write16(this.view, this.start + V1_HARDWARE_TYPE, value, "a hardware type");
  }

  /** The length of the sender's hardware address in bytes; of more than 8, 8 are there. */
  get addressBytes(): number {
    return this.view.getUint16(this.start + V1_ADDRESS_BYTES);
  }

  set addressBytes(value: number) {
    write16(this.view, this.start + V1_ADDRESS_BYTES, value, "a length");
  }

  /** The sender's hardware address, where it has 6 bytes, as text: makes a string. Else undefined. */
  get address(): string | undefined {
    if (this.addressBytes !== MAC_BYTES) return undefined;
    return formatMac(readMac(this.view, this.start + V1_ADDRESS));
  }

  /** Copies the bytes of the sender's hardware address, at most 8. Returns how many. */
  copyAddress(target: Uint8Array, targetOffset = 0): number {
    const bytes = Math.min(this.addressBytes, ADDRESS_BYTES_MAX);
    copyOut(this.view, this.start + V1_ADDRESS, bytes, target, targetOffset);
    return bytes;
  }

  /** What was captured: `ETH_P_…`. */
  get protocol(): number {
    return this.view.getUint16(this.start + V1_PROTOCOL);
  }

  set protocol(value: number) {
    write16(this.view, this.start + V1_PROTOCOL, value, "a protocol");
  }
}

/**
 * The header of a Linux cooked capture, second version: 20 bytes. What `tcpdump -i any` writes.
 *
 * @see {@link https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html | LINKTYPE_LINUX_SLL2}
 *
 * @example
 * ```ts
 * import { CookedHeader2 } from "bun-sockets/packet";
 *
 * const hex = "86dd0000" + "00000003" + "0001" + "0406" + "0200000000010000";
 * const cooked = new CookedHeader2(Buffer.from(hex, "hex"));
 * if (cooked.at(0)) console.log(cooked.interfaceIndex, cooked.packetType, cooked.address); // 3 4 02:00:00:00:00:01
 * ```
 */
export class CookedHeader2 extends Header {
  /** Moves to a header. True: 20 bytes are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (!fits(offset, end, V2_BYTES, this.limit)) {
      this.leave();
      return false;
    }
    this.view = this.whole;
    this.start = offset;
    this.stop = end;
    return true;
  }

  /** 20. */
  override get headerBytes(): number {
    return V2_BYTES;
  }

  /** Where what was captured begins. */
  override get payloadOffset(): number {
    return Math.min(this.start + V2_BYTES, this.stop);
  }

  /** What was captured: `ETH_P_…`. */
  get protocol(): number {
    return this.view.getUint16(this.start + V2_PROTOCOL);
  }

  set protocol(value: number) {
    write16(this.view, this.start + V2_PROTOCOL, value, "a protocol");
  }

  /** The index of the interface on the machine that captured. */
  get interfaceIndex(): number {
    return this.view.getUint32(this.start + V2_INTERFACE);
  }

  set interfaceIndex(value: number) {
    write32(this.view, this.start + V2_INTERFACE, value, "an interface index");
  }

  /** What the device is: `ARPHRD_…`. */
  get hardwareType(): number {
    return this.view.getUint16(this.start + V2_HARDWARE_TYPE);
  }

  set hardwareType(value: number) {
    write16(this.view, this.start + V2_HARDWARE_TYPE, value, "a hardware type");
  }

  /** Whom the packet was for: `PACKET_HOST`, `PACKET_OUTGOING`, … */
  get packetType(): number {
    return this.view.getUint8(this.start + V2_PACKET_TYPE);
  }

  set packetType(value: number) {
    write8(this.view, this.start + V2_PACKET_TYPE, value, "a packet type");
  }

  /** The length of the sender's hardware address in bytes; of more than 8, 8 are there. */
  get addressBytes(): number {
    return this.view.getUint8(this.start + V2_ADDRESS_BYTES);
  }

  set addressBytes(value: number) {
    write8(this.view, this.start + V2_ADDRESS_BYTES, value, "a length");
  }

  /** The sender's hardware address, where it has 6 bytes, as text: makes a string. Else undefined. */
  get address(): string | undefined {
    if (this.addressBytes !== MAC_BYTES) return undefined;
    return formatMac(readMac(this.view, this.start + V2_ADDRESS));
  }

  /** Copies the bytes of the sender's hardware address, at most 8. Returns how many. */
  copyAddress(target: Uint8Array, targetOffset = 0): number {
    const bytes = Math.min(this.addressBytes, ADDRESS_BYTES_MAX);
    copyOut(this.view, this.start + V2_ADDRESS, bytes, target, targetOffset);
    return bytes;
  }
}
