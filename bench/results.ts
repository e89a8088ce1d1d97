/**
 * What a run of the suite tells: a line of JSON for the environment, then one for each peer of each
 * cell. The table, the report and the history are made of these lines.
 *
 * @module
 */

/** Where a run was made. */
export interface EnvironmentLine {
  readonly kind: "environment";
  /** When it began, as ISO 8601. */
  readonly at: string;
  readonly commit: string | null;
  /** Whether files of the checkout differed from that commit. Then the run is not recorded. */
  readonly isDirty?: boolean;
  readonly bun: string;
  readonly node: string | null;
  readonly deno: string | null;
  readonly python: string | null;
  readonly kernel: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  /** The load average of a minute, when it began. */
  readonly load: number;
  /** Lines of /sys/devices/system/cpu/vulnerabilities that say "Mitigation": by name. */
  readonly mitigations: Readonly<Record<string, string>>;
  /** What can differ and matters: UDP_SEGMENT, UDP_GRO, MSG_ZEROCOPY, the ringer, rmem_max. */
  readonly offloads: Readonly<Record<string, string>>;
}

/** Median, least and most of the rounds. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/**
 * How many took how long: up to how many µs a step goes, and how many are in it. Each begins a quarter of
 * an octave before its end, so that four of them double the time; empty ones are left out.
 */
export type LatencySteps = readonly (readonly [upToUs: number, count: number])[];

/** Half of all took no longer than `p50`, nine of ten than `p90`, and so on: in µs. */
export type Latency = Readonly<Record<"p50" | "p90" | "p99" | "max", number>>;

/**
 * What one peer did in one cell. Members that runs may lack were added later.
 * Null is what was not measured there, never a guess. */
export interface ResultLine {
  readonly kind: "result";
  /** The cell's name: "udp4/1200/sendmmsg-recvmmsg". */
  readonly cell: string;
  /** The question that the cell belongs to: "paths", "sizes", "families", … */
  readonly question: string;
  /** Who: "bun-sockets", "c", "bun-udp", "node-dgram-bun", "node-dgram", "deno", "python". */
  readonly peer: string;
  readonly send: string;
  readonly receive: string;
  readonly family: string;
  readonly payloadBytes: number;
  readonly batch: number;
  /** "one thread", "two processes", "2 × 2", "veth". */
  readonly topology: string;
  /** How ours waits: "try", "promise", "handler"; of others what is nearest. */
  readonly form: string;
  readonly rounds: number;
  readonly datagrams: number;
  /** Sent, and not received, in all rounds. */
  readonly lost: number;
  /** How often a side has waited in vain, in all rounds: for a second, or for five. */
  readonly stalls?: number;
  /** Wall time for a datagram. */
  readonly ns: Spread;
  /** CPU time of each side for a datagram. */
  readonly sendCpuNs: Spread | null;
  readonly receiveCpuNs: Spread | null;
  /** Received a second. */
  readonly datagramsPerSecond: Spread;
  readonly gbitPerSecond: Spread;
  readonly sendCallsPerDatagram: number | null;
  readonly receiveCallsPerDatagram: number | null;
  /** What both sides allocate, of memory that a garbage collector has to find again. */
  readonly bytesAllocatedPerDatagram: number | null;
  /** And each of them. */
  readonly sendBytesPerDatagram?: number | null;
  readonly receiveBytesPerDatagram?: number | null;
  /** Datagrams that a call moved, on average; and of a train, segments. */
  readonly achievedSendBatch: number | null;
  readonly achievedReceiveBatch: number | null;
  readonly achievedSegments: number | null;
  /** The part of the sends without a copy that went as plain ones, as the kernel copies anyway. */
  readonly plainShare?: number | null;
  readonly sendBufferBytes: number | null;
  readonly receiveBufferBytes: number | null;
  /** From before the send to after the receive, in µs: of the datagrams that were stamped. */
  readonly latencyUs: Latency | null;
  /** How these are spread. Runs that were made before there were steps have none. */
  readonly latencySteps?: LatencySteps | null;
  /** From the kernel's receive timestamp to after the receive, in µs, in a round of its own. */
  readonly waitUs?: Latency | null;
  /** This peer's ns ÷ C's, each round by itself. Null for C itself, and where there is no C. */
  readonly ratioToC: Spread | null;
  /** Whether the rounds differ by more than a quarter of the median: then no number is exact. */
  readonly isNoisy: boolean;
}

/** A line of a run. */
export type SuiteLine = EnvironmentLine | ResultLine;
