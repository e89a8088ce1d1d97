import {
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  ETH_P_QINQ1,
} from "../../structs/constants/linux_if_ether.ts";
import {
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from "../../structs/constants/netinet_in.ts";
import { ArpHeader } from "./headers/arp.ts";
import { CookedHeader, CookedHeader2 } from "./headers/cooked.ts";
import { EthernetHeader } from "./headers/ethernet.ts";
import type { Header } from "./headers/header.ts";
import { IcmpHeader } from "./headers/icmp.ts";
import { Icmpv6Header } from "./headers/icmpv6.ts";
import { Ipv4Header } from "./headers/ipv4.ts";
import { Ipv6Header } from "./headers/ipv6.ts";
import { LoopbackHeader } from "./headers/loopback.ts";
import { TcpHeader } from "./headers/tcp.ts";
import { UdpHeader } from "./headers/udp.ts";
import { VlanHeader } from "./headers/vlan.ts";
import { LinkType, type LinkTypeName, linkTypeNumber } from "./link_type.ts";

// Which headers the frame has, as bits.
const ETHERNET = 1;
const COOKED = 2;
const COOKED2 = 4;
const LOOPBACK = 8;
const ARP = 16;
const IPV4 = 32;
const IPV6 = 64;
const UDP = 128;
const TCP = 256;
const ICMP = 512;
const ICMPV6 = 1024;

const VLANS_MAX = 8;

// What files of older machines say for an IP packet: DLT_RAW of Linux and most BSDs, and of OpenBSD.
const OLD_RAW = 12;
const OLD_RAW_OPENBSD = 14;

/**
 * All headers of a frame at once: a set of header objects, made once, which `at` moves to what the
 * frame has. Nothing is copied, and after the first frames nothing is allocated.
 *
 * It goes from the link layer over VLAN tags, ARP, IPv4 and IPv6, past options and extension
 * headers, to UDP, TCP, ICMP and ICMPv6. What is not there, or does not fit, is `undefined`. What an
 * ICMP error or a tunnel carries is for another PacketView, of link type "raw".
 *
 * The headers are the same objects for every frame: they hold until the next `at`.
 *
 * @example Ports of a frame
 * ```ts
 * import { PacketView } from "bun-sockets/packet";
 *
 * const hex =
 *   "020000000001020000000002" + "0800" +
 *   "4500001e000000004011f6cdc0000201c0000202" + "0035c000000a0000" + "6869";
 * const frame = Buffer.from(hex, "hex");
 * const packet = new PacketView(frame);
 * if (packet.at(0, frame.length)) {
 *   console.log(packet.ipv4?.source, packet.udp?.destinationPort); // 192.0.2.1 49152
 *   console.log(frame.toString("latin1", packet.payloadOffset, packet.payloadEnd)); // hi
 *   console.log(packet.tcp, packet.layers.length); // undefined 3
 * }
 * ```
 */
export class PacketView {
  readonly #ethernet: EthernetHeader;
  readonly #arp: ArpHeader;
  readonly #ipv4: Ipv4Header;
  readonly #ipv6: Ipv6Header;
  readonly #udp: UdpHeader;
  readonly #tcp: TcpHeader;
  readonly #icmp: IcmpHeader;
  readonly #icmpv6: Icmpv6Header;
  // Made when the first frame has one.
  #cooked: CookedHeader | undefined;
  #cooked2: CookedHeader2 | undefined;
  #loopback: LoopbackHeader | undefined;
  readonly #vlans: VlanHeader[] = [];

  #found = 0;
  #vlanCount = 0;
  #etherType = 0;
  #offset = 0;
  #payloadOffset = 0;
  #payloadEnd = 0;

  /**
   * Makes the headers, over the memory in which frames arrive: `ring.view`, or any view.
   *
   * @throws {TypeError} no view, or one of shared, resizable or detached memory
   */
  constructor(memory: ArrayBufferView) {
    this.#ethernet = new EthernetHeader(memory);
    // One DataView for all.
    const view = this.#ethernet.memory;
    this.#arp = new ArpHeader(view);
    this.#ipv4 = new Ipv4Header(view);
    this.#ipv6 = new Ipv6Header(view);
    this.#udp = new UdpHeader(view);
    this.#tcp = new TcpHeader(view);
    this.#icmp = new IcmpHeader(view);
    this.#icmpv6 = new Icmpv6Header(view);
  }

  /** The memory that offsets count in. */
  get memory(): DataView {
    return this.#ethernet.memory;
  }

  /** Changes the memory of all headers. Returns itself. */
  of(memory: ArrayBufferView): this {
    const view = this.#ethernet.of(memory).memory;
    for (const header of this.#all()) header.of(view);
    this.#forget(0, 0);
    return this;
  }

  /**
   * Moves to a frame, and tells whether it begins with the header that the link type says.
   *
   * @param offset where it begins in the memory
   * @param end where it ends there: behind the last byte that was captured
   * @param linkType what it begins with. Default: Ethernet
   * @returns false also for link types whose headers are not understood here
   * @throws {TypeError} no such link type
   */
  at(offset: number, end: number, linkType: LinkTypeName | number = LinkType.ethernet): boolean {
    const type = typeof linkType === "number" ? linkType : linkTypeNumber(linkType);
    this.#forget(offset, end);
    switch (type) {
      case LinkType.ethernet:
        if (!this.#ethernet.at(offset, end)) break;
        this.#found = ETHERNET;
        this.#enter(
          this.#ethernet.etherType,
          this.#ethernet.payloadOffset,
          this.#ethernet.payloadEnd,
        );
        return true;
      case LinkType.raw:
      case LinkType.ipv4:
      case LinkType.ipv6:
      case OLD_RAW:
      case OLD_RAW_OPENBSD:
        // Each looks at the version.
        if (type !== LinkType.ipv6 && this.#enterIpv4(offset, end)) return true;
        if (type !== LinkType.ipv4 && this.#enterIpv6(offset, end)) return true;
        break;
      case LinkType.null:
      case LinkType.loop: {
        this.#loopback ??= new LoopbackHeader(this.memory);
        if (!this.#loopback.at(offset, end)) break;
        this.#found = LOOPBACK;
        this.#enter(this.#loopback.etherType, this.#loopback.payloadOffset, end);
        return true;
      }
      case LinkType.linux_sll: {
        this.#cooked ??= new CookedHeader(this.memory);
        if (!this.#cooked.at(offset, end)) break;
        this.#found = COOKED;
        this.#enter(this.#cooked.protocol, this.#cooked.payloadOffset, end);
        return true;
      }
      case LinkType.linux_sll2: {
        this.#cooked2 ??= new CookedHeader2(this.memory);
        if (!this.#cooked2.at(offset, end)) break;
        this.#found = COOKED2;
        this.#enter(this.#cooked2.protocol, this.#cooked2.payloadOffset, end);
        return true;
      }
    }
    this.#forget(0, 0);
    return false;
  }

  /** Where the frame begins. */
  get offset(): number {
    return this.#offset;
  }

  /** Where what is behind the last header begins. */
  get payloadOffset(): number {
    return this.#payloadOffset;
  }

  /** Where it ends: padding of the frame is behind it. */
  get payloadEnd(): number {
    return this.#payloadEnd;
  }

  /** What the link layer, or the innermost VLAN tag, carries: `ETH_P_…`; 0: it does not say. */
  get etherType(): number {
    return this.#etherType;
  }

  /** The Ethernet header. */
  get ethernet(): EthernetHeader | undefined {
    return (this.#found & ETHERNET) !== 0 ? this.#ethernet : undefined;
  }

  /** The header of a cooked capture, link type `linux_sll`. */
  get cooked(): CookedHeader | undefined {
    return (this.#found & COOKED) !== 0 ? this.#cooked : undefined;
  }

  /** The header of a cooked capture, link type `linux_sll2`. */
  get cooked2(): CookedHeader2 | undefined {
    return (this.#found & COOKED2) !== 0 ? this.#cooked2 : undefined;
  }

  /** The header of a BSD loopback capture, link types `null` and `loop`. */
  get loopback(): LoopbackHeader | undefined {
    return (this.#found & LOOPBACK) !== 0 ? this.#loopback : undefined;
  }

  /** The VLAN tag that is in the frame: of several, the outermost. */
  get vlan(): VlanHeader | undefined {
    return this.vlanAt(0);
  }

  /** How many VLAN tags are in the frame, at most 8. */
  get vlanCount(): number {
    return this.#vlanCount;
  }

  /** A VLAN tag of several, from the outermost: 0. */
  vlanAt(index: number): VlanHeader | undefined {
    const isThere = typeof index === "number" && index < this.#vlanCount;
    return isThere ? this.#vlans[index] : undefined;
  }

  /** The ARP packet. */
  get arp(): ArpHeader | undefined {
    return (this.#found & ARP) !== 0 ? this.#arp : undefined;
  }

  /** The header of IPv4. */
  get ipv4(): Ipv4Header | undefined {
    return (this.#found & IPV4) !== 0 ? this.#ipv4 : undefined;
  }

  /** The header of IPv6. */
  get ipv6(): Ipv6Header | undefined {
    return (this.#found & IPV6) !== 0 ? this.#ipv6 : undefined;
  }

  /** The header of IPv4 or IPv6: what the checksums of transport headers want. */
  get ip(): Ipv4Header | Ipv6Header | undefined {
    return this.ipv4 ?? this.ipv6;
  }

  /** The header of UDP. */
  get udp(): UdpHeader | undefined {
    return (this.#found & UDP) !== 0 ? this.#udp : undefined;
  }

  /** The header of TCP. */
  get tcp(): TcpHeader | undefined {
    return (this.#found & TCP) !== 0 ? this.#tcp : undefined;
  }

  /** The header of ICMP, in IPv4. */
  get icmp(): IcmpHeader | undefined {
    return (this.#found & ICMP) !== 0 ? this.#icmp : undefined;
  }

  /** The header of ICMPv6, in IPv6. */
  get icmpv6(): Icmpv6Header | undefined {
    return (this.#found & ICMPV6) !== 0 ? this.#icmpv6 : undefined;
  }

  /** All headers of the frame, from the outermost: makes an array. */
  get layers(): Header[] {
    const vlans = this.#vlans.slice(0, this.#vlanCount);
    const link = [this.ethernet, this.cooked, this.cooked2, this.loopback, ...vlans];
    const rest = [this.arp, this.ipv4, this.ipv6, this.udp, this.tcp, this.icmp, this.icmpv6];
    return [...link, ...rest].filter((header) => header !== undefined);
  }

  #all(): Header[] {
    const made = [this.#cooked, this.#cooked2, this.#loopback, ...this.#vlans].filter(
      (header) => header !== undefined,
    );
    const rest = [this.#arp, this.#ipv4, this.#ipv6, this.#udp, this.#tcp];
    return [...made, ...rest, this.#icmp, this.#icmpv6];
  }

  #forget(offset: number, end: number): void {
    this.#found = 0;
    this.#vlanCount = 0;
    this.#etherType = 0;
    this.#offset = offset;
    this.#payloadOffset = offset;
    this.#payloadEnd = end;
  }

  #enter(type: number, offset: number, end: number): void {
    let etherType = type;
    let at = offset;
    while (isVlan(etherType) && this.#vlanCount < VLANS_MAX) {
      const tag = this.#vlanFor(this.#vlanCount);
      if (!tag.at(at, end)) break;
      this.#vlanCount++;
      etherType = tag.etherType;
      at = tag.payloadOffset;
    }
    this.#etherType = etherType;
    this.#payloadOffset = at;
    this.#payloadEnd = end;
    if (etherType === ETH_P_IP) this.#enterIpv4(at, end);
    else if (etherType === ETH_P_IPV6) this.#enterIpv6(at, end);
    else if (etherType === ETH_P_ARP && this.#arp.at(at, end)) {
      this.#found |= ARP;
      this.#payloadOffset = this.#arp.payloadOffset;
      this.#payloadEnd = this.#arp.payloadEnd;
    }
  }

  #vlanFor(index: number): VlanHeader {
    this.#vlans[index] ??= new VlanHeader(this.memory);
    return this.#vlans[index];
  }

  #enterIpv4(offset: number, end: number): boolean {
    const ip = this.#ipv4;
    if (!ip.at(offset, end)) return false;
    this.#found |= IPV4;
    const protocol = ip.transportProtocol;
    const at = ip.payloadOffset;
    const stop = ip.payloadEnd;
    this.#payloadOffset = at;
    this.#payloadEnd = stop;
    if (protocol !== IPPROTO_ICMP) this.#enterTransport(protocol, at, stop);
    else if (this.#icmp.at(at, stop)) {
      this.#found |= ICMP;
      this.#payloadOffset = this.#icmp.payloadOffset;
    }
    return true;
  }

  #enterIpv6(offset: number, end: number): boolean {
    const ip = this.#ipv6;
    if (!ip.at(offset, end)) return false;
    this.#found |= IPV6;
    const protocol = ip.transportProtocol;
    const at = ip.transportOffset;
    const stop = ip.payloadEnd;
    this.#payloadOffset = at;
    this.#payloadEnd = stop;
    if (protocol !== IPPROTO_ICMPV6) this.#enterTransport(protocol, at, stop);
    else if (this.#icmpv6.at(at, stop)) {
      this.#found |= ICMPV6;
      this.#payloadOffset = this.#icmpv6.payloadOffset;
    }
    return true;
  }

  #enterTransport(protocol: number, offset: number, end: number): void {
    if (protocol === IPPROTO_UDP && this.#udp.at(offset, end)) {
      this.#found |= UDP;
      this.#payloadOffset = this.#udp.payloadOffset;
      this.#payloadEnd = this.#udp.payloadEnd;
    } else if (protocol === IPPROTO_TCP && this.#tcp.at(offset, end)) {
      this.#found |= TCP;
      this.#payloadOffset = this.#tcp.payloadOffset;
    }
  }
}

function isVlan(etherType: number): boolean {
  return etherType === ETH_P_8021Q || etherType === ETH_P_8021AD || etherType === ETH_P_QINQ1;
}
