import type { Member } from "../structs/layout.ts";
import { tcp_info } from "../structs/tcp_info.ts";

/** What a connection is doing, in the words of tcp(7). */
export type TcpState =
  | "established"
  | "syn-sent"
  | "syn-received"
  | "fin-wait-1"
  | "fin-wait-2"
  | "time-wait"
  | "closed"
  | "close-wait"
  | "last-ack"
  | "listening"
  | "closing"
  | "new-syn-received";

/**
 * `struct tcp_info`: the state and figures of a connection. What a kernel is too old to tell is not
 * there.
 */
export interface TcpInfo {
  /** Undefined for a state that is not known here. */
  readonly state?: TcpState;
  /** What the congestion control is doing. */
  readonly congestion?: "open" | "disorder" | "reduced" | "recovery" | "loss";
  /** `TCPI_OPT_TIMESTAMPS`: whether both sides send timestamps. */
  readonly timestamps?: boolean;
  /** `TCPI_OPT_SACK`: whether both sides acknowledge selectively. */
  readonly selectiveAcks?: boolean;
  /** `TCPI_OPT_ECN`: whether both sides tell of congestion. */
  readonly ecn?: boolean;
  /** `TCPI_OPT_SYN_DATA`: whether the data of fast open was acknowledged. */
  readonly fastOpened?: boolean;
  /** By how many bits the peer's windows are shifted. */
  readonly sendWindowScale?: number;
  /** By how many bits our windows are shifted. */
  readonly receiveWindowScale?: number;
  /** Whether the delivery rate is what the program sends, not what the network carries. */
  readonly rateLimitedByApplication?: boolean;
  /** Retransmissions of the oldest segment that is not acknowledged. */
  readonly retransmits?: number;
  /** Window or keep-alive probes without an answer. */
  readonly probes?: number;
  /** How often the timeout was doubled. */
  readonly backoff?: number;
  /** The time to a retransmission. */
  readonly retransmitTimeoutMs?: number;
  /** The delay of an acknowledgement. */
  readonly delayedAckMs?: number;
  /** The longest segment that is sent. */
  readonly sendSegmentBytes?: number;
  /** The longest segment that is likely to come. */
  readonly receiveSegmentBytes?: number;
  /** Segments that are not acknowledged; of a listener: connections that wait. */
  readonly unacknowledged?: number;
  /** Segments acknowledged out of order; of a listener: its backlog. */
  readonly selectivelyAcknowledged?: number;
  /** Segments held for lost. */
  readonly lost?: number;
  /** Retransmitted segments that are under way. */
  readonly retransmitted?: number;
  /** How long ago data was sent. */
  readonly lastDataSentMs?: number;
  /** How long ago data came. */
  readonly lastDataReceivedMs?: number;
  /** How long ago an acknowledgement came. */
  readonly lastAckReceivedMs?: number;
  /** The longest packet of the path. */
  readonly pathMtuBytes?: number;
  /** The window up to which the receiver grows fast. */
  readonly receiveSlowStartBytes?: number;
  /** The smoothed round trip time. */
  readonly roundTripMs?: number;
  /** How much the round trip time varies. */
  readonly roundTripVarianceMs?: number;
  /** The congestion window up to which it grows fast. */
  readonly slowStartSegments?: number;
  /** How many segments may be under way. */
  readonly congestionWindowSegments?: number;
  /** The longest segment that the peer was told to send. */
  readonly advertisedSegmentBytes?: number;
  /** By how many segments the order may be upset. */
  readonly reordering?: number;
  /** The round trip time as the receiver guesses it. */
  readonly receiverRoundTripMs?: number;
  /** The receive window that the buffer is tuned for. */
  readonly receiveSpaceBytes?: number;
  /** Retransmitted segments of the whole connection. */
  readonly retransmittedTotal?: number;
  /** Bytes a second at which it sends; Infinity is without a limit. */
  readonly pacingRate?: number;
  /** Bytes a second that it may send; Infinity is without a limit. */
  readonly pacingRateMax?: number;
  /** Bytes that the peer has acknowledged. */
  readonly bytesAcknowledged?: number;
  /** Bytes that have come. */
  readonly bytesReceived?: number;
  /** Segments sent. */
  readonly segmentsSent?: number;
  /** Segments that have come. */
  readonly segmentsReceived?: number;
  /** Bytes in the send buffer that were not sent yet. */
  readonly notSentBytes?: number;
  /** The shortest round trip time. */
  readonly roundTripMinMs?: number;
  /** Segments with data that have come. */
  readonly dataSegmentsReceived?: number;
  /** Segments with data sent. */
  readonly dataSegmentsSent?: number;
  /** Bytes a second that have arrived lately. */
  readonly deliveryRate?: number;
  /** How long there was data to send. */
  readonly busyMs?: number;
  /** How long the peer's window held it back. */
  readonly receiveWindowLimitedMs?: number;
  /** How long the send buffer held it back. */
  readonly sendBufferLimitedMs?: number;
  /** Segments that have arrived. */
  readonly delivered?: number;
  /** Of these, those that met congestion (ECN). */
  readonly deliveredCongested?: number;
  /** Bytes sent, retransmissions too. */
  readonly bytesSent?: number;
  /** Bytes of retransmissions. */
  readonly bytesRetransmitted?: number;
  /** Segments that the peer had got before (DSACK). */
  readonly duplicates?: number;
  /** How often the order was upset. */
  readonly reorderingsSeen?: number;
  /** Segments that have come out of order. */
  readonly outOfOrderReceived?: number;
  /** The window that the peer gives. */
  readonly sendWindowBytes?: number;
}

const STATES: readonly (TcpState | undefined)[] = [
  undefined,
  "established",
  "syn-sent",
  "syn-received",
  "fin-wait-1",
  "fin-wait-2",
  "time-wait",
  "closed",
  "close-wait",
  "last-ack",
  "listening",
  "closing",
  "new-syn-received",
];
const CONGESTION = ["open", "disorder", "reduced", "recovery", "loss"] as const;

// Bits of tcpi_options, and where the bit-fields lie that follow it.
const OPT_TIMESTAMPS = 1;
const OPT_SACK = 2;
const OPT_ECN = 8;
const OPT_SYN_DATA = 32;
const SCALES = tcp_info.tcpi_options.offset + 1;
const LIMITS = SCALES + 1;
const BIT_FIELDS_END = LIMITS + 1;

type Convert = (value: number) => number;

const MICROSECONDS: Convert = (value) => value / 1000;
// All bits are set where there is no limit.
const RATE: Convert = (value) => (value >= 2 ** 64 ? Number.POSITIVE_INFINITY : value);

const FIGURES: Readonly<Record<string, readonly [member: Member<number>, convert?: Convert]>> = {
  retransmits: [tcp_info.tcpi_retransmits],
  probes: [tcp_info.tcpi_probes],
  backoff: [tcp_info.tcpi_backoff],
  retransmitTimeoutMs: [tcp_info.tcpi_rto, MICROSECONDS],
  delayedAckMs: [tcp_info.tcpi_ato, MICROSECONDS],
  sendSegmentBytes: [tcp_info.tcpi_snd_mss],
  receiveSegmentBytes: [tcp_info.tcpi_rcv_mss],
  unacknowledged: [tcp_info.tcpi_unacked],
  selectivelyAcknowledged: [tcp_info.tcpi_sacked],
  lost: [tcp_info.tcpi_lost],
  retransmitted: [tcp_info.tcpi_retrans],
  lastDataSentMs: [tcp_info.tcpi_last_data_sent],
  lastDataReceivedMs: [tcp_info.tcpi_last_data_recv],
  lastAckReceivedMs: [tcp_info.tcpi_last_ack_recv],
  pathMtuBytes: [tcp_info.tcpi_pmtu],
  receiveSlowStartBytes: [tcp_info.tcpi_rcv_ssthresh],
  roundTripMs: [tcp_info.tcpi_rtt, MICROSECONDS],
  roundTripVarianceMs: [tcp_info.tcpi_rttvar, MICROSECONDS],
  slowStartSegments: [tcp_info.tcpi_snd_ssthresh],
  congestionWindowSegments: [tcp_info.tcpi_snd_cwnd],
  advertisedSegmentBytes: [tcp_info.tcpi_advmss],
  reordering: [tcp_info.tcpi_reordering],
  receiverRoundTripMs: [tcp_info.tcpi_rcv_rtt, MICROSECONDS],
  receiveSpaceBytes: [tcp_info.tcpi_rcv_space],
  retransmittedTotal: [tcp_info.tcpi_total_retrans],
  pacingRate: [tcp_info.tcpi_pacing_rate, RATE],
  pacingRateMax: [tcp_info.tcpi_max_pacing_rate, RATE],
  bytesAcknowledged: [tcp_info.tcpi_bytes_acked],
  bytesReceived: [tcp_info.tcpi_bytes_received],
  segmentsSent: [tcp_info.tcpi_segs_out],
  segmentsReceived: [tcp_info.tcpi_segs_in],
  notSentBytes: [tcp_info.tcpi_notsent_bytes],
  roundTripMinMs: [tcp_info.tcpi_min_rtt, MICROSECONDS],
  dataSegmentsReceived: [tcp_info.tcpi_data_segs_in],
  dataSegmentsSent: [tcp_info.tcpi_data_segs_out],
  deliveryRate: [tcp_info.tcpi_delivery_rate],
  busyMs: [tcp_info.tcpi_busy_time, MICROSECONDS],
  receiveWindowLimitedMs: [tcp_info.tcpi_rwnd_limited, MICROSECONDS],
  sendBufferLimitedMs: [tcp_info.tcpi_sndbuf_limited, MICROSECONDS],
  delivered: [tcp_info.tcpi_delivered],
  deliveredCongested: [tcp_info.tcpi_delivered_ce],
  bytesSent: [tcp_info.tcpi_bytes_sent],
  bytesRetransmitted: [tcp_info.tcpi_bytes_retrans],
  duplicates: [tcp_info.tcpi_dsack_dups],
  reorderingsSeen: [tcp_info.tcpi_reord_seen],
  outOfOrderReceived: [tcp_info.tcpi_rcv_ooopack],
  sendWindowBytes: [tcp_info.tcpi_snd_wnd],
};

/** Reads as much of a `struct tcp_info` as there is. */
export function readTcpInfo(bytes: Uint8Array): TcpInfo {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const info: Record<string, unknown> = {};
  if (bytes.length >= BIT_FIELDS_END) readBits(view, info);
  for (const [name, [member, convert]] of Object.entries(FIGURES)) {
    if (member.offset + member.size > bytes.length) continue;
    const value = member.get(view, 0);
    info[name] = convert ? convert(value) : value;
  }
  return info;
}

function readBits(view: DataView, info: Record<string, unknown>): void {
  const state = STATES[tcp_info.tcpi_state.get(view, 0)];
  if (state) info["state"] = state;
  const congestion = CONGESTION[tcp_info.tcpi_ca_state.get(view, 0)];
  if (congestion) info["congestion"] = congestion;
  const options = tcp_info.tcpi_options.get(view, 0);
  info["timestamps"] = (options & OPT_TIMESTAMPS) !== 0;
  info["selectiveAcks"] = (options & OPT_SACK) !== 0;
  info["ecn"] = (options & OPT_ECN) !== 0;
  info["fastOpened"] = (options & OPT_SYN_DATA) !== 0;
  const scales = view.getUint8(SCALES);
  info["sendWindowScale"] = scales & 0xf;
  info["receiveWindowScale"] = scales >> 4;
  info["rateLimitedByApplication"] = (view.getUint8(LIMITS) & 1) !== 0;
}
