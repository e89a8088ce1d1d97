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
export { DatagramBatch, type DatagramBatchOptions, type Stopped } from "./datagram_batch.ts";
export {
  type CancelSignal,
  ClosedError,
  SystemError,
  type SystemErrorDetails,
  TimeoutError,
} from "./error.ts";
export {
  IpOption,
  Ipv6Option,
  options,
  SocketOption,
  TcpOption,
  UdpOption,
} from "./internal/lazy_options.ts";
export { type ListenFd, listenFds } from "./listen_fds.ts";
export { Message, type MessageOptions } from "./message.ts";
export { NativeBuffer } from "./native_buffer.ts";
// As types only: the module itself is loaded when an option is first looked at.
export type {
  MemoryInfo,
  Option,
  PeerCredentials,
  PortRange,
  ReadableOption,
  TransmitTime,
  WritableOption,
} from "./option.ts";
export { type PollInterest, type PollResult, poll, pollSync, tryPoll } from "./poll.ts";
export { type Poller, type PollerCounters, type PollerRefusal, poller } from "./poller.ts";
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
export { UdpSocket, type UdpSocketOptions } from "./udp_socket.ts";
export {
  type UnixBindOptions,
  UnixDatagramSocket,
  type UnixDatagramSocketOptions,
} from "./unix_datagram_socket.ts";
