import {
  ArpHeader,
  type ChecksumStatus,
  CookedHeader,
  CookedHeader2,
  EthernetHeader,
  IcmpHeader,
  Icmpv6Header,
  Ipv4Header,
  Ipv6Header,
  LinkType,
  LoopbackHeader,
  linkTypeName,
  TcpHeader,
  UdpHeader,
  VlanHeader,
} from "bun-sockets/packet";
import {
  ARPOP_REPLY,
  ARPOP_REQUEST,
  ETH_P_8021AD,
  ETH_P_8021Q,
  ETH_P_ARP,
  ETH_P_IP,
  ETH_P_IPV6,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from "bun-sockets/sys";
import { icmpText, icmpv6Text } from "./icmp_names.ts";

/** What is known of a frame beside its bytes. */
export interface FrameMetadata {
  /** How long it was, in bytes: more than there is of it where it was cut. */
  readonly originalLength: number;
  /** The TCI of the VLAN tag that was taken out of it; undefined where there was none. */
  readonly vlan?: number | undefined;
  /** What the kernel has said of its checksum. */
  readonly checksum?: ChecksumStatus | undefined;
}

/** What a line tells of a frame, as values: what `--json` gives. */
export interface PacketFacts {
  /** "udp", "tcp", "icmp", "arp" …; "ip 47" of another IP protocol, "0x88cc" of another EtherType. */
  protocol: string;
  source?: string | undefined;
  sourcePort?: number;
  destination?: string | undefined;
  destinationPort?: number;
  /** VLAN numbers, from the outermost on. */
  vlan?: number[];
  /** Flags of TCP that are set. */
  flags?: string[];
  sequence?: number;
  acknowledgment?: number;
  window?: number;
  /** Of a fragment: where it lies in its packet, in bytes. */
  fragmentOffset?: number;
  identification?: number;
  /** What else it says, in words. */
  info?: string;
  /** Bytes behind the last header that was understood, as far as they were captured. */
  payloadLength?: number;
  checksum?: ChecksumStatus;
  length: number;
  capturedLength: number;
}

// An EtherType up to this is a length: IEEE 802.3.
const LENGTH_MAX = 1500;

/** Finds out what a line tells of frames. One for all frames of a link type. */
export class FrameReader {
  readonly #linkType: number;
  readonly #ethernet: EthernetHeader;
  readonly #cooked: CookedHeader;
  readonly #cooked2: CookedHeader2;
  readonly #loopback: LoopbackHeader;
  readonly #vlan: VlanHeader;
  readonly #arp: ArpHeader;
  readonly #ipv4: Ipv4Header;
  readonly #ipv6: Ipv6Header;
  readonly #icmp: IcmpHeader;
  readonly #icmpv6: Icmpv6Header;
  readonly #udp: UdpHeader;
  readonly #tcp: TcpHeader;
  readonly #headers: readonly { of(memory: DataView): unknown }[];
  #view: DataView;

  constructor(linkType: number, memory: DataView = new DataView(new ArrayBuffer(0))) {
    this.#linkType = linkType;
    this.#view = memory;
    this.#ethernet = new EthernetHeader(memory);
    this.#cooked = new CookedHeader(memory);
    this.#cooked2 = new CookedHeader2(memory);
    this.#loopback = new LoopbackHeader(memory);
    this.#vlan = new VlanHeader(memory);
    this.#arp = new ArpHeader(memory);
    this.#ipv4 = new Ipv4Header(memory);
    this.#ipv6 = new Ipv6Header(memory);
    this.#icmp = new IcmpHeader(memory);
    this.#icmpv6 = new Icmpv6Header(memory);
    this.#udp = new UdpHeader(memory);
    this.#tcp = new TcpHeader(memory);
    const link = [this.#ethernet, this.#cooked, this.#cooked2, this.#loopback, this.#vlan];
    const network = [this.#arp, this.#ipv4, this.#ipv6];
    this.#headers = [...link, ...network, this.#icmp, this.#icmpv6, this.#udp, this.#tcp];
  }

  /** Reads frames out of other memory from now on. */
  of(memory: DataView): this {
    if (memory === this.#view) return this;
    this.#view = memory;
    for (const header of this.#headers) header.of(memory);
    return this;
  }

  /** Reads the frame between two offsets of the memory. */
  read(offset: number, end: number, metadata: FrameMetadata): PacketFacts {
    const facts: PacketFacts = {
      protocol: "unknown",
      length: metadata.originalLength,
      capturedLength: end - offset,
    };
    if (metadata.vlan !== undefined) facts.vlan = [metadata.vlan & 0xfff];
    this.#link(facts, offset, end, metadata);
    return facts;
  }

  #link(facts: PacketFacts, offset: number, end: number, metadata: FrameMetadata): void {
    switch (this.#linkType) {
      case LinkType.ethernet: {
        const ethernet = this.#ethernet;
        if (!ethernet.at(offset, end)) return;
        facts.source = ethernet.source;
        facts.destination = ethernet.destination;
        this.#network(facts, ethernet.etherType, ethernet.payloadOffset, end, metadata);
        return;
      }
      case LinkType.linux_sll: {
        const cooked = this.#cooked;
        if (!cooked.at(offset, end)) return;
        facts.source = cooked.address;
        this.#network(facts, cooked.protocol, cooked.payloadOffset, end, metadata);
        return;
      }
      case LinkType.linux_sll2: {
        const cooked = this.#cooked2;
        if (!cooked.at(offset, end)) return;
        facts.source = cooked.address;
        this.#network(facts, cooked.protocol, cooked.payloadOffset, end, metadata);
        return;
      }
      case LinkType.null:
      case LinkType.loop: {
        const loopback = this.#loopback;
        if (!loopback.at(offset, end)) return;
        this.#network(facts, loopback.etherType, loopback.payloadOffset, end, metadata);
        return;
      }
      case LinkType.raw:
      case LinkType.ipv4:
      case LinkType.ipv6: {
        if (offset === end) return;
        const type = this.#view.getUint8(offset) >>> 4 === 6 ? ETH_P_IPV6 : ETH_P_IP;
        this.#network(facts, type, offset, end, metadata);
        return;
      }
      default:
        facts.protocol = linkTypeName(this.#linkType) ?? `link type ${this.#linkType}`;
    }
  }

  #network(
    facts: PacketFacts,
    etherType: number,
    offset: number,
    end: number,
    metadata: FrameMetadata,
  ): void {
    facts.payloadLength = end - offset;
    switch (etherType) {
      case ETH_P_8021Q:
      case ETH_P_8021AD: {
        facts.protocol = "vlan";
        const vlan = this.#vlan;
        if (!vlan.at(offset, end)) return;
        facts.vlan = [...(facts.vlan ?? []), vlan.id];
        this.#network(facts, vlan.etherType, vlan.payloadOffset, end, metadata);
        return;
      }
      case ETH_P_ARP:
        this.#readArp(facts, offset, end);
        return;
      case ETH_P_IP: {
        facts.protocol = "ipv4";
        const ip = this.#ipv4;
        if (!ip.at(offset, end)) return;
        facts.source = ip.source;
        facts.destination = ip.destination;
        if (ip.isFragment) {
          facts.fragmentOffset = ip.fragmentOffset;
          facts.identification = ip.identification;
        }
        this.#transport(facts, ip, ip.protocol, metadata);
        return;
      }
      case ETH_P_IPV6: {
        facts.protocol = "ipv6";
        const ip = this.#ipv6;
        if (!ip.at(offset, end)) return;
        facts.source = ip.source;
        facts.destination = ip.destination;
        this.#transport(facts, ip, ip.transportProtocol, metadata);
        return;
      }
      default:
        facts.protocol =
          etherType <= LENGTH_MAX ? "802.3" : `0x${etherType.toString(16).padStart(4, "0")}`;
    }
  }

  #readArp(facts: PacketFacts, offset: number, end: number): void {
    facts.protocol = "arp";
    const arp = this.#arp;
    if (!arp.at(offset, end)) return;
    facts.source = arp.senderProtocol;
    facts.destination = arp.targetProtocol;
    facts.info =
      arp.operation === ARPOP_REQUEST
        ? "who is it?"
        : arp.operation === ARPOP_REPLY
          ? `it is at ${arp.senderHardware}`
          : `operation ${arp.operation}`;
    delete facts.payloadLength;
  }

  #transport(
    facts: PacketFacts,
    ip: Ipv4Header | Ipv6Header,
    protocol: number,
    metadata: FrameMetadata,
  ): void {
    facts.protocol = TRANSPORTS[protocol] ?? `ip ${protocol}`;
    const offset = ip.transportOffset;
    const end = ip.payloadEnd;
    facts.payloadLength = Math.max(0, end - offset);
    // Of a later fragment the transport header is elsewhere.
    if (ip.transportProtocol !== protocol) return;
    switch (protocol) {
      case IPPROTO_UDP: {
        const udp = this.#udp;
        if (!udp.at(offset, end)) return;
        facts.sourcePort = udp.sourcePort;
        facts.destinationPort = udp.destinationPort;
        facts.payloadLength = udp.payloadEnd - udp.payloadOffset;
        facts.checksum = told(metadata) ?? udp.checksumStatus(ip);
        return;
      }
      case IPPROTO_TCP: {
        const tcp = this.#tcp;
        if (!tcp.at(offset, end)) return;
        facts.sourcePort = tcp.sourcePort;
        facts.destinationPort = tcp.destinationPort;
        facts.flags = TCP_FLAGS.filter((_, bit) => (tcp.flags >>> bit) & 1);
        facts.sequence = tcp.sequence;
        facts.acknowledgment = tcp.acknowledgment;
        facts.window = tcp.window;
        facts.payloadLength = tcp.payloadEnd - tcp.payloadOffset;
        facts.checksum = told(metadata) ?? tcp.checksumStatus(ip);
        return;
      }
      case IPPROTO_ICMP: {
        const icmp = this.#icmp;
        if (!icmp.at(offset, end)) return;
        facts.info = icmpText(icmp);
        facts.payloadLength = icmp.payloadEnd - icmp.payloadOffset;
        facts.checksum = icmp.checksumStatus(ip);
        return;
      }
      case IPPROTO_ICMPV6: {
        const icmp = this.#icmpv6;
        if (!icmp.at(offset, end)) return;
        facts.info = icmpv6Text(icmp);
        facts.payloadLength = icmp.payloadEnd - icmp.payloadOffset;
        facts.checksum = told(metadata) ?? icmp.checksumStatus(ip);
        return;
      }
    }
  }
}

/** What the kernel knows better than the bytes. */
function told({ checksum }: FrameMetadata): ChecksumStatus | undefined {
  return checksum === "unfinished" || checksum === "valid" ? checksum : undefined;
}

const TRANSPORTS: Readonly<Record<number, string>> = {
  [IPPROTO_ICMP]: "icmp",
  [IPPROTO_TCP]: "tcp",
  [IPPROTO_UDP]: "udp",
  [IPPROTO_ICMPV6]: "icmp6",
};

// From the lowest bit on.
const TCP_FLAGS: readonly string[] = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
