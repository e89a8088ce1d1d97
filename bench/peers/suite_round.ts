// What a round of a cell was: what its sides say of it, and what that comes to.
import type { Cell, PeerName } from "../cells.ts";

/** What a side says that has sent. Calls are those of the kernel, null where it does not know them. */
export interface Sent {
  readonly sent: number;
  readonly ns: number;
  readonly calls: number | null;
  readonly dataCalls: number | null;
  /** How often it has waited for a second, and in vain. */
  readonly stalls: number;
  /** Sends that went as plain ones, where they were to go without a copy. */
  readonly plain?: number;
  /** CPU time of its half, of one thread. */
  readonly cpuNs?: number;
  /** Bytes that it has allocated, where it is who can tell. */
  readonly allocated?: number | null;
}

/** What a side says that has received. */
export interface Received {
  readonly received: number;
  /** Datagrams, or trains. */
  readonly messages: number;
  readonly sum: number;
  /** From the first to the last. */
  readonly ns: number;
  readonly calls: number | null;
  readonly dataCalls: number | null;
  readonly stalls: number;
  readonly cpuNs?: number;
  readonly allocated?: number | null;
  /** Nanoseconds on the way of those that were stamped; or since the kernel had some of them. */
  readonly samples: readonly number[];
}

/** One round of one peer: all its processes. */
export interface Round {
  readonly sent: number;
  readonly received: number;
  /** Wall time of a datagram that was received. */
  readonly ns: number;
  readonly sendCpuNs: number | null;
  readonly receiveCpuNs: number | null;
  readonly sendCalls: number | null;
  readonly receiveCalls: number | null;
  readonly sendBatch: number | null;
  readonly receiveBatch: number | null;
  readonly segments: number | null;
  /** How often a side has waited in vain. */
  readonly stalls: number;
  /** The part of the sends without a copy that went as plain ones. Null of other paths. */
  readonly plain: number | null;
  readonly samples: readonly number[];
}

/** System calls of each side for a datagram. */
export interface CallCounts {
  readonly send: number | null;
  readonly receive: number | null;
}

const SUM = 255;

/** What all sides have said of a round, and the CPU time of each. */
interface Said {
  /** How many datagrams were to be sent. */
  readonly asked: number;
  readonly sent: readonly Sent[];
  readonly received: readonly Received[];
  readonly cpu: readonly number[];
}

/**
 * What a round was, from what its sides have said: CPU times are those of the senders, then those of the
 * receivers. It throws unless what came is what was sent, or a part of it.
 */
export function roundOf(peer: PeerName, cell: Cell, said: Said): Round {
  const { asked, sent, received, cpu } = said;
  const count = total(sent.map((one) => one.sent));
  const arrived = total(received.map((one) => one.received));
  const sum = total(received.map((one) => one.sum));
  const stalls = total([...sent, ...received].map((one) => one.stalls));
  if (count !== asked || arrived === 0 || arrived > count || sum !== arrived * SUM) {
    const found = JSON.stringify({ asked, count, arrived, sum, stalls });
    throw new Error(`${peer} has received other than was sent in ${cell.name}: ${found}`);
  }
  // Where nobody waits for them, receivers end last; but what is handed over in blocks comes at once.
  const timed = cell.flow === "flat" ? [...sent, ...received] : sent;
  const times = timed.map(({ ns }) => ns);
  // One thread does both in turn, and reads its own clock in between.
  const isOneThread = cell.topology === "one thread";
  const cpuOf = (sides: readonly (Sent | Received)[], outside: readonly number[]) =>
    isOneThread ? totalOrNull(sides.map(({ cpuNs }) => cpuNs ?? null)) : total(outside);
  const sendCpu = cpuOf(sent, cpu.slice(0, sent.length));
  const receiveCpu = cpuOf(received, cpu.slice(sent.length));
  return {
    sent: count,
    received: arrived,
    ns: Math.max(...times) / arrived,
    sendCpuNs: quotient(sendCpu, count),
    receiveCpuNs: quotient(receiveCpu, arrived),
    sendCalls: quotient(totalOrNull(sent.map(({ calls }) => calls)), count),
    receiveCalls: quotient(totalOrNull(received.map(({ calls }) => calls)), arrived),
    sendBatch: inverse(quotient(totalOrNull(sent.map(({ dataCalls }) => dataCalls)), count)),
    receiveBatch: inverse(quotient(totalOrNull(received.map((one) => one.dataCalls)), arrived)),
    segments: segmentsOf(cell, arrived / total(received.map(({ messages }) => messages))),
    stalls,
    plain: cell.send === "zerocopy" ? total(sent.map(({ plain = 0 }) => plain)) / count : null,
    samples: received.flatMap((one) => one.samples),
  };
}

function segmentsOf({ send, receive, segments }: Cell, perMessage: number): number | null {
  if (receive === "gro") return perMessage;
  return send === "gso" ? segments : null;
}

export function total(numbers: readonly number[]): number {
  return numbers.reduce((sum, one) => sum + one, 0);
}

/** The sum, unless one is not known. */
export function totalOrNull(numbers: readonly (number | null)[]): number | null {
  const known = numbers.filter((one) => one !== null);
  return known.length === numbers.length ? total(known) : null;
}

function quotient(value: number | null, of: number): number | null {
  return value === null ? null : value / of;
}

function inverse(value: number | null): number | null {
  return value === null ? null : 1 / value;
}
