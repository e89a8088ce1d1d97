import type { InetAddress } from "./address.ts";
import type { CancelOptions, FlagOptions, TimeoutOptions } from "./socket.ts";

/** What is sent as segments: one payload, or a list of views of which each is a datagram. */
export type SegmentPayload = ArrayBufferView | ArrayBuffer | readonly ArrayBufferView[];

/** How a payload is cut into datagrams, and where they go. */
export interface SegmentOptions extends FlagOptions {
  /**
   * Bytes of each datagram but the last, which has the rest: 1 to 65535. For one payload; of a list
   * of views each is a datagram.
   */
  readonly segmentBytes?: number | undefined;
  /** Where to, or its text, which is read again at each call. Default the socket's peer. */
  readonly to?: InetAddress | string | undefined;
}

/** What `sendSegmentsSync` can be told. */
export interface SegmentWaitOptions extends SegmentOptions, TimeoutOptions {}

/** What `sendSegments` can be told. */
export interface SegmentAsyncOptions extends SegmentOptions, CancelOptions {}

/** Why trains are not sent, or were not. */
export interface OffloadReason {
  /**
   * The C name of what the kernel said: "EIO" the way there does not do it, "EINVAL" the socket or
   * the kernel does not, "EMSGSIZE" the segments are longer than the way there carries unfragmented,
   * "ENOPROTOOPT" the kernel does not know it at all.
   */
  readonly code: string;
  /** Where the train was to go. Undefined where that does not matter, or is not known any more. */
  readonly destination: InetAddress | undefined;
}

/** A destination that gets its datagrams one by one. */
export interface RefusedDestination extends OffloadReason {
  /** Trains of segments of so many bytes or more are not sent there any more: 1 is all of them. */
  readonly segmentBytes: number;
}

/**
 * What is known of segmentation offload on an open socket, by all sockets of ours that share it: see
 * `UdpSocket.offload`.
 *
 * A train is a payload that the kernel cuts into equal datagrams: one call, and one way through the
 * network stack, for all of them. What the kernel refuses as a train goes out at once, datagram by
 * datagram, and the destination is remembered: later trains to it are not tried any more.
 */
export interface Offload {
  /**
   * The most segments of one train, found by trying on this kernel when it is first asked for: 128,
   * 64 on older ones, 0 where the kernel has no segmentation offload (before Linux 4.18).
   */
  readonly maxSegments: number;
  /**
   * Whether trains are sent. Setting false sends everything datagram by datagram; setting true
   * begins anew: no destination counts as refused any more.
   */
  enabled: boolean;
  /** How many trains were sent. */
  readonly trains: number;
  /** How many datagrams those were. */
  readonly segments: number;
  /** How many trains went out datagram by datagram, because they were refused, or others before. */
  readonly fallbacks: number;
  /** Why a train was refused last, and where it was to go. Undefined as long as none was. */
  readonly lastReason: OffloadReason | undefined;
  /**
   * The destinations that get no trains, or only of shorter segments. The newest 1024; a refused peer
   * of a connected socket is forgotten when the socket gets another one.
   */
  readonly refusedDestinations: readonly RefusedDestination[];
}
