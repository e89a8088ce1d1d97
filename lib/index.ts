/// <reference lib="esnext.disposable" preserve="true" />
/**
 * bun-sockets: the socket library of Bun on Linux.
 *
 * @module
 */
export {
  type Address,
  type AddressParts,
  addressFrom,
  addressFromBytes,
  compareAddresses,
  Inet4Address,
  Inet6Address,
  type InetAddress,
  LinkAddress,
  parseAddress,
  RawAddress,
  UnixAddress,
} from "./address.ts";
// As types only: the module itself is loaded when something is first waited for.
export type {
  Batches,
  BatchesOptions,
  BatchHandler,
  BatchSubscription,
  OnBatchOptions,
} from "./batches.ts";
export {
  type Capabilities,
  type Capability,
  type CapabilityName,
  capabilities,
} from "./capabilities.ts";
export {
  type ControlKind,
  type ControlMessage,
  ControlReader,
  type ControlTime,
  ControlWriter,
  decodeControl,
  type PacketChecksum,
  type PacketFamily,
  type PacketSource,
} from "./control.ts";
export { DatagramBatch, type DatagramBatchOptions, type Stopped } from "./datagram_batch.ts";
export {
  type CancelSignal,
  ClosedError,
  type ConnectAttempt,
  ConnectError,
  ResolutionError,
  type ResolutionErrorDetails,
  SystemError,
  type SystemErrorDetails,
  TimeoutError,
} from "./error.ts";
// As types only: what fetches errors is loaded when a socket is first asked for them.
export type {
  ErrorQueueState,
  ErrorsOptions,
  ExtendedError,
  IcmpError,
  LocalError,
  PathMtuError,
  QueuedError,
  QueuedErrors,
  TransmitTimeMissed,
  TransmitTimestamp,
  UnknownError,
  ZeroCopyNotice,
} from "./error_queue.ts";
export { type FilterInstruction, FilterProgram } from "./filter_program.ts";
export { fullHostName, fullHostNameSync, hostName, setHostName } from "./host_name.ts";
export {
  type HostEntry,
  type HostHints,
  type HostOptions,
  type HostSyncOptions,
  hostByAddress,
  hostByAddressSync,
  hostByName,
  hostByNameSync,
} from "./hosts.ts";
export {
  type Interface,
  type InterfaceAddress,
  type InterfaceMap,
  type InterfaceOptions,
  type InterfacesOptions,
  interfaceIndex,
  interfaceName,
  interfaceNames,
  interfaces,
  ipAddresses,
  NetworkInterface,
} from "./interface.ts";
export {
  IpOption,
  Ipv6Option,
  options,
  SocketOption,
  TcpOption,
  UdpOption,
} from "./internal/lazy_options.ts";
export { type DatagramMetadata, IpSocket, type PathMtuDiscovery } from "./ip_socket.ts";
export type { LinkAddressParts, PacketType } from "./link_address.ts";
export { type ListenFd, listenFds } from "./listen_fds.ts";
export { type ConnectionsOptions, Listener } from "./listener.ts";
export {
  type BufferUse,
  type InterfaceLoss,
  type Loss,
  LossWindow,
  type LossWindowOptions,
  type ProtocolLoss,
} from "./loss.ts";
export { Message, type MessageOptions } from "./message.ts";
export {
  type GroupMembership,
  type GroupOptions,
  type InterfaceLike,
  type InterfaceMembership,
  type JoinOptions,
  type LeaveOptions,
  type MembershipsOptions,
  memberships,
  type SourceFilter,
} from "./multicast.ts";
export { NativeBuffer } from "./native_buffer.ts";
// As types only: the module itself is loaded when a train is first sent.
export type {
  Offload,
  OffloadReason,
  RefusedDestination,
  SegmentAsyncOptions,
  SegmentOptions,
  SegmentPayload,
  SegmentWaitOptions,
} from "./offload.ts";
export {
  type OpenSocket,
  openSockets,
  type SocketCounters,
  socketCounters,
} from "./open_sockets.ts";
// As types only: the module itself is loaded when an option is first looked at.
export type {
  IcmpFilter,
  IcmpType,
  Icmpv6Type,
  MemoryInfo,
  Option,
  PeerCredentials,
  PortRange,
  ReadableOption,
  TransmitTime,
  WritableOption,
} from "./option.ts";
export {
  type PingFailure,
  type PingOptions,
  type PingReply,
  type PingRequest,
  type PingResult,
  type PingSeriesOptions,
  PingSocket,
  type PingSocketOptions,
  type PingStatistics,
  type PingSyncOptions,
} from "./ping_socket.ts";
export { type PollInterest, type PollResult, poll, pollSync, tryPoll } from "./poll.ts";
export { type Poller, type PollerCounters, type PollerRefusal, poller } from "./poller.ts";
export {
  type AddressLike,
  AddressList,
  type AddressListEntry,
  type AddressListOptions,
  type AddressListParts,
  Prefix,
} from "./prefix.ts";
export { type RawProtocol, RawSocket, type RawSocketOptions } from "./raw_socket.ts";
export {
  type DescriptorKind,
  type DescriptorsMax,
  ReceivedDescriptor,
  type ReceivedDescriptors,
  type SendableDescriptor,
} from "./received_descriptor.ts";
export {
  type ResolvedAddress,
  type ResolveHints,
  type ResolveOptions,
  type ResolveOrder,
  type ResolveSyncOptions,
  type ReversedAddress,
  type ReverseHints,
  type ReverseOptions,
  type ReverseSyncOptions,
  resolve,
  resolveSync,
  reverse,
  reverseSync,
} from "./resolve.ts";
export {
  type Protocol,
  protocolByName,
  protocolByNumber,
  protocols,
  type Service,
  serviceByName,
  serviceByPort,
  services,
} from "./services.ts";
export {
  type AdoptOptions,
  type AsyncOptions,
  type BufferSize,
  type CancelOptions,
  type CreateOptions,
  type FlagOptions,
  type PairOptions,
  type ReceivedFrom,
  Socket,
  type SocketFamily,
  type SocketOptions,
  type SocketType,
  type TimeoutOptions,
  type WaitOptions,
} from "./socket.ts";
// As types only: reader and writer are loaded when a socket is first asked for one.
export type {
  Delimited,
  LimitOptions,
  Lines,
  Newline,
  ReaderOptions,
  SocketReader,
} from "./socket_reader.ts";
export type { SocketWriter, WriterOptions } from "./socket_writer.ts";
export {
  type FileRange,
  type SpliceRange,
  type StreamData,
  StreamSocket,
} from "./stream_socket.ts";
export {
  type TcpListenAllOptions,
  type TcpListenAllSyncOptions,
  TcpListener,
  type TcpListenOptions,
} from "./tcp_listener.ts";
export {
  type TcpConnectOptions,
  type TcpConnectSyncOptions,
  TcpSocket,
  type TcpSocketOptions,
} from "./tcp_socket.ts";
export { UdpSocket, type UdpSocketOptions } from "./udp_socket.ts";
export {
  type UnixBindOptions,
  UnixDatagramSocket,
  type UnixDatagramSocketOptions,
} from "./unix_datagram_socket.ts";
export {
  UnixListener,
  type UnixListenerAdoptOptions,
  type UnixListenOptions,
} from "./unix_listener.ts";
export { UnixSeqpacketSocket } from "./unix_seqpacket_socket.ts";
export {
  type UnixConnectOptions,
  type UnixConnectSyncOptions,
  UnixSocket,
  type UnixSocketOptions,
} from "./unix_socket.ts";
// As types only: the module itself is loaded by the first send without a copy.
export type {
  ZeroCopyLease,
  ZeroCopyOptions,
  ZeroCopyOutcome,
  ZeroCopyState,
  ZeroCopyTryOptions,
  ZeroCopyWaitOptions,
} from "./zero_copy.ts";
