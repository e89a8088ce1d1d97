/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Packets: sockets and rings that see whole frames, filters, header views and capture files.
 *
 * @module
 */

export { CaptureFile } from "./capture_file.ts";
export { CaptureFileError } from "./capture_file_error.ts";
export type {
  CaptureInterface,
  CaptureInterfaceOptions,
  CaptureSection,
  CaptureStatistics,
  CaptureTime,
} from "./capture_interface.ts";
export {
  type CaptureFileSource,
  type CaptureFormat,
  CaptureReader,
  type CaptureReaderOptions,
} from "./capture_reader.ts";
export {
  type CapturePacket,
  type CaptureResolution,
  CaptureWriter,
  type CaptureWriterOptions,
  type FrameCursor,
} from "./capture_writer.ts";
export { CapturedPacket, type PacketDirection } from "./captured_packet.ts";
export {
  type ChecksumStatus,
  internetChecksum,
  internetSum,
  updatedChecksum,
} from "./checksum.ts";
export {
  assembleFilter,
  type CompileOptions,
  compileFilter,
  disassembleFilter,
  FilterError,
  type FilterMetadata,
  runFilter,
} from "./filter.ts";
export { ArpHeader } from "./headers/arp.ts";
export { CookedHeader, CookedHeader2 } from "./headers/cooked.ts";
export { EthernetHeader } from "./headers/ethernet.ts";
export { Header } from "./headers/header.ts";
export { IcmpHeader } from "./headers/icmp.ts";
export { Icmpv6Header } from "./headers/icmpv6.ts";
export type { IpHeader } from "./headers/ip.ts";
export { type CoveredByAddresses, Ipv4Header } from "./headers/ipv4.ts";
export { Ipv6Header } from "./headers/ipv6.ts";
export { Ipv6ExtensionHeader } from "./headers/ipv6_extension.ts";
export { LoopbackHeader } from "./headers/loopback.ts";
export type { HeaderOptions, OptionForm } from "./headers/options.ts";
export { TcpHeader } from "./headers/tcp.ts";
export { UdpHeader } from "./headers/udp.ts";
export { VlanHeader } from "./headers/vlan.ts";
export {
  LinkType,
  type LinkTypeName,
  linkTypeName,
  linkTypeNumber,
  linkTypeOfHardware,
} from "./link_type.ts";
export type { Packet } from "./packet.ts";
export type { PacketBlock } from "./packet_block.ts";
export { PacketOption } from "./packet_option.ts";
export {
  type PacketBlocks,
  type PacketBlocksOptions,
  PacketRing,
  type PacketRingOptions,
} from "./packet_ring.ts";
export {
  type FanoutMode,
  type FanoutOptions,
  type PacketInterface,
  type PacketMembershipKind,
  type PacketMembershipOptions,
  PacketSocket,
  type PacketSocketOptions,
  type PacketStatistics,
  type RolloverStatistics,
} from "./packet_socket.ts";
export { PacketView } from "./packet_view.ts";
