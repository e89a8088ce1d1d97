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
} from "./address.ts";
export { DatagramBatch, type DatagramBatchOptions, type Stopped } from "./datagram_batch.ts";
export { ClosedError, SystemError, type SystemErrorDetails, TimeoutError } from "./error.ts";
export { NativeBuffer } from "./native_buffer.ts";
export {
  type BufferSize,
  type FlagOptions,
  type ReceivedFrom,
  UdpSocket,
  type UdpSocketOptions,
  type WaitOptions,
} from "./udp_socket.ts";
