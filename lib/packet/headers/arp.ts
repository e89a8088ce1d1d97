import { arphdr } from "../../../structs/arphdr.ts";
import { ETH_ALEN } from "../../../structs/constants/linux_if_ether.ts";
import { describe } from "../../internal/arguments.ts";
import { formatInet4, parseInet4 } from "../../internal/inet_text.ts";
import { bytesAt, fits, Header, requirePlace, write8, write16, write32 } from "./header.ts";
import { formatMac, readMac, writeMac } from "./mac.ts";

const HARDWARE_TYPE = arphdr.ar_hrd.offset;
const PROTOCOL_TYPE = arphdr.ar_pro.offset;
const HARDWARE_BYTES = arphdr.ar_hln.offset;
const PROTOCOL_BYTES = arphdr.ar_pln.offset;
const OPERATION = arphdr.ar_op.offset;
const BYTES = arphdr.size;
const IPV4_BYTES = 4;

/**
 * An ARP packet: 8 bytes, and the hardware and protocol addresses of sender and target, in lengths
 * that the packet says. The accessors of addresses are for hardware addresses of 6 bytes and
 * protocol addresses of 4, Ethernet and IPv4; for others they give 0 or `undefined`, and setting
 * throws; `senderHardwareOffset` and the like tell where they are.
 *
 * @see {@link https://www.rfc-editor.org/rfc/rfc826 | RFC 826}
 *
 * @example
 * ```ts
 * import { ArpHeader } from "bun-sockets/packet";
 *
 * const hex = "0001080006040001" + "020000000002" + "c0000202" + "000000000000" + "c0000201";
 * const arp = new ArpHeader(Buffer.from(hex, "hex"));
 * if (arp.at(0)) {
 *   console.log(arp.operation, arp.senderHardware); // 1 02:00:00:00:00:02
 *   console.log(arp.senderProtocol, arp.targetProtocol); // 192.0.2.2 192.0.2.1
 * }
 * ```
 */
export class ArpHeader extends Header {
  /** Moves to a packet. True: its fixed part and the addresses that it says are there. */
  override at(offset: number, end: number = this.limit): boolean {
    if (fits(offset, end, BYTES, this.limit)) {
      const hardware = this.whole.getUint8(offset + HARDWARE_BYTES);
      const protocol = this.whole.getUint8(offset + PROTOCOL_BYTES);
      if (BYTES + 2 * (hardware + protocol) <= end - offset) {
        this.view = this.whole;
        this.start = offset;
        this.stop = end;
        return true;
      }
    }
    this.leave();
    return false;
  }

  /** The length of the packet in bytes, 28 for Ethernet and IPv4. */
  override get headerBytes(): number {
    return BYTES + 2 * (this.hardwareBytes + this.protocolBytes);
  }

  /** Where the packet ends: behind it are at most fillers. */
  override get payloadOffset(): number {
    return Math.min(this.start + this.headerBytes, this.stop);
  }

  /** The same: an ARP packet carries nothing. */
  override get payloadEnd(): number {
    return this.payloadOffset;
  }

  /** What the hardware is: 1 for Ethernet. */
  get hardwareType(): number {
    return this.view.getUint16(this.start + HARDWARE_TYPE);
  }

  set hardwareType(value: number) {
    write16(this.view, this.start + HARDWARE_TYPE, value, "a hardware type");
  }

  /** What the protocol is: `ETH_P_IP` for IPv4. */
  get protocolType(): number {
    return this.view.getUint16(this.start + PROTOCOL_TYPE);
  }

  set protocolType(value: number) {
    write16(this.view, this.start + PROTOCOL_TYPE, value, "a protocol type");
  }

  /** The length of a hardware address in bytes. */
  get hardwareBytes(): number {
    return this.view.getUint8(this.start + HARDWARE_BYTES);
  }

  set hardwareBytes(value: number) {
    write8(this.view, this.start + HARDWARE_BYTES, value, "a length");
  }

  /** The length of a protocol address in bytes. */
  get protocolBytes(): number {
    return this.view.getUint8(this.start + PROTOCOL_BYTES);
  }

  set protocolBytes(value: number) {
    write8(this.view, this.start + PROTOCOL_BYTES, value, "a length");
  }

  /** What the packet does: 1 asks, 2 answers. */
  get operation(): number {
    return this.view.getUint16(this.start + OPERATION);
  }

  set operation(value: number) {
    write16(this.view, this.start + OPERATION, value, "an operation");
  }

  /** Where the sender's hardware address begins. */
  get senderHardwareOffset(): number {
    return Math.min(this.start + BYTES, this.stop);
  }

  /** Where the sender's protocol address begins. */
  get senderProtocolOffset(): number {
    return Math.min(this.start + BYTES + this.hardwareBytes, this.stop);
  }

  /** Where the target's hardware address begins. */
  get targetHardwareOffset(): number {
    return Math.min(this.start + BYTES + this.hardwareBytes + this.protocolBytes, this.stop);
  }

  /** Where the target's protocol address begins. */
  get targetProtocolOffset(): number {
    return Math.min(this.start + BYTES + 2 * this.hardwareBytes + this.protocolBytes, this.stop);
  }

  /** The sender's hardware address as "00:11:22:aa:bb:cc": makes a string. Set as text. */
  get senderHardware(): string | undefined {
    return this.#mac(this.senderHardwareOffset);
  }

  set senderHardware(text: string) {
    this.#setMac(this.senderHardwareOffset, text);
  }

  /** The same as a number of 48 bits. */
  get senderHardwareValue(): number {
    return this.#macValue(this.senderHardwareOffset);
  }

  set senderHardwareValue(value: number) {
    this.#setMac(this.senderHardwareOffset, value);
  }

  /** The sender's IPv4 address as "192.0.2.1": makes a string. Set as text. */
  get senderProtocol(): string | undefined {
    return this.#ipv4(this.senderProtocolOffset);
  }

  set senderProtocol(text: string) {
    this.#setIpv4(this.senderProtocolOffset, parse(text));
  }

  /** The same as a number of 32 bits. */
  get senderProtocolValue(): number {
    return this.#ipv4Value(this.senderProtocolOffset);
  }

  set senderProtocolValue(value: number) {
    this.#setIpv4(this.senderProtocolOffset, value);
  }

  /** The target's hardware address, zeros where it is asked for: makes a string. Set as text. */
  get targetHardware(): string | undefined {
    return this.#mac(this.targetHardwareOffset);
  }

  set targetHardware(text: string) {
    this.#setMac(this.targetHardwareOffset, text);
  }

  /** The same as a number of 48 bits. */
  get targetHardwareValue(): number {
    return this.#macValue(this.targetHardwareOffset);
  }

  set targetHardwareValue(value: number) {
    this.#setMac(this.targetHardwareOffset, value);
  }

  /** The target's IPv4 address as "192.0.2.1": makes a string. Set as text. */
  get targetProtocol(): string | undefined {
    return this.#ipv4(this.targetProtocolOffset);
  }

  set targetProtocol(text: string) {
    this.#setIpv4(this.targetProtocolOffset, parse(text));
  }

  /** The same as a number of 32 bits. */
  get targetProtocolValue(): number {
    return this.#ipv4Value(this.targetProtocolOffset);
  }

  set targetProtocolValue(value: number) {
    this.#setIpv4(this.targetProtocolOffset, value);
  }

  // The lengths may have been changed since at(): an address is read only where it still fits.
  #hasMac(at: number): boolean {
    return this.hardwareBytes === ETH_ALEN && at + ETH_ALEN <= this.stop;
  }

  #hasIpv4(at: number): boolean {
    return this.protocolBytes === IPV4_BYTES && at + IPV4_BYTES <= this.stop;
  }

  #mac(at: number): string | undefined {
    return this.#hasMac(at) ? formatMac(readMac(this.view, at)) : undefined;
  }

  #macValue(at: number): number {
    return this.#hasMac(at) ? readMac(this.view, at) : 0;
  }

  #setMac(at: number, value: number | string): void {
    requirePlace(this.view, "a hardware address");
    if (!this.#hasMac(at))
      throw new TypeError("Cannot set a hardware address of 6 bytes: the packet has others");
    writeMac(this.view, at, value, "a hardware address");
  }

  #ipv4(at: number): string | undefined {
    return this.#hasIpv4(at) ? formatInet4(bytesAt(this.view, at, IPV4_BYTES), 0) : undefined;
  }

  #ipv4Value(at: number): number {
    return this.#hasIpv4(at) ? this.view.getUint32(at) : 0;
  }

  #setIpv4(at: number, value: number): void {
    requirePlace(this.view, "a protocol address");
    if (!this.#hasIpv4(at))
      throw new TypeError("Cannot set a protocol address of 4 bytes: the packet has others");
    write32(this.view, at, value, "a protocol address");
  }
}

function parse(text: string): number {
  if (typeof text !== "string")
    throw new TypeError(`Cannot use ${describe(text)} as a protocol address: expected a string`);
  const bytes = new Uint8Array(IPV4_BYTES);
  if (!parseInet4(text, bytes, 0)) {
    const shown = JSON.stringify(text);
    throw new TypeError(`Cannot use ${shown} as a protocol address: expected an IPv4 address`);
  }
  return new DataView(bytes.buffer).getUint32(0);
}
