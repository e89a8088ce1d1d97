/**
 * What the suite measures: its cells, each a way for datagrams to travel. Every question varies one thing
 * of the base cell, with 64 and with 1200 bytes: UDP over IPv4 on loopback, from one process to another,
 * `sendmmsg` to `recvmmsg`, 64 in a call, without waiting on an event loop.
 *
 * @module
 */

/** Who takes part. */
export type PeerName =
  | "bun-sockets"
  | "c"
  | "bun-udp"
  | "node-dgram-bun"
  | "node-dgram"
  | "deno"
  | "python";

export type SendPath = "sendmmsg" | "gso" | "send" | "sendto" | "sendmsg" | "zerocopy";
export type ReceivePath = "recvmmsg" | "gro" | "recv" | "recvfrom" | "recvmsg" | "ring";

/** One way for datagrams to travel, and who is to go it. */
export interface Cell {
  /** What it is called on the command line, and in results. */
  readonly name: string;
  /** What is varied in it: "peers" is the base cell itself, with all peers. */
  readonly question: string;
  readonly send: SendPath;
  readonly receive: ReceivePath;
  readonly family: "udp4" | "udp6" | "unix";
  readonly bytes: number;
  /** Datagrams, or trains, of a call. */
  readonly batch: number;
  /** Datagrams of a train; 1 without GSO. */
  readonly segments: number;
  /** Datagrams that are acknowledged at a time. The first of them has a time stamp. */
  readonly group: number;
  /** Datagrams that are on their way at most, so that none is lost. */
  readonly window: number;
  /** Whether there are acknowledgements, or the sender goes as fast as it can: then some are lost. */
  readonly flow: "window" | "flat";
  readonly topology: "one thread" | "two processes" | "veth" | "2 × 1" | "2 × 2";
  /** Processes that send, and those that receive on one port with `SO_REUSEPORT`. */
  readonly senders: number;
  readonly receivers: number;
  readonly form: "try" | "promise" | "handler";
  readonly peers: readonly PeerName[];
}

const SIZES = [64, 1200] as const;
const GROUP = 64;
// What fits the smallest default buffer, which the kernel doubles, but for the quarter that it keeps
// back.
const BUFFER_BYTES = 212_992 * 2 * 0.75;
const OVERHEAD_BYTES = 256;
const HEADER_BYTES = 400;
const PAGED_BYTES = 16_384;

const OURS_AND_C: readonly PeerName[] = ["bun-sockets", "c"];
/** All who take part. */
export const EVERYBODY: readonly PeerName[] = [
  ...OURS_AND_C,
  "bun-udp",
  "node-dgram-bun",
  "node-dgram",
  "deno",
  "python",
];

const BASE = {
  send: "sendmmsg",
  receive: "recvmmsg",
  family: "udp4",
  segments: 1,
  flow: "window",
  topology: "two processes",
  senders: 1,
  receivers: 1,
  form: "try",
  peers: OURS_AND_C,
} as const;

// About what the kernel counts for a datagram that waits: memory comes in powers of two, or in pages.
function memoryOf(bytes: number): number {
  if (bytes > PAGED_BYTES) return bytes * 1.2;
  return OVERHEAD_BYTES + 2 ** Math.ceil(Math.log2(bytes + HEADER_BYTES));
}

// Two groups have to fit: one is on its way while the other is acknowledged.
function groupOf(bytes: number): number {
  const most = BUFFER_BYTES / 2 / memoryOf(bytes);
  return Math.min(GROUP, 2 ** Math.floor(Math.log2(most)));
}

function cell(
  question: string,
  bytes: number,
  { suffix = "", ...varied }: Partial<Cell> & { readonly suffix?: string } = {},
): Cell {
  const { send, receive, family } = { ...BASE, ...varied };
  const segments = varied.segments ?? 1;
  const group = segments > 1 ? segments : groupOf(bytes);
  return {
    ...BASE,
    name: `${family}/${bytes}/${send}-${receive}${suffix}`,
    question,
    bytes,
    batch: isSingle(send) && isSingle(receive) ? 1 : segments > 1 ? 1 : group,
    group,
    window: 2 * group,
    ...varied,
  };
}

function isSingle(path: SendPath | ReceivePath): boolean {
  return !["sendmmsg", "recvmmsg", "gso", "gro"].includes(path);
}

// As many as fit 64 KiB.
function trainOf(bytes: number) {
  return { send: "gso", segments: Math.min(GROUP, Math.floor(65_507 / bytes)) } as const;
}

function* everyCell(): Generator<Cell> {
  for (const bytes of SIZES) {
    yield cell("peers", bytes, { peers: EVERYBODY });
    for (const send of ["send", "sendto", "sendmsg", "zerocopy"] as const)
      yield cell("send paths", bytes, { send });
    yield cell("send paths", bytes, trainOf(bytes));
    for (const receive of ["recv", "recvfrom", "recvmsg"] as const)
      yield cell("receive paths", bytes, { receive });
    // Only trains are joined, so there is none without the other.
    yield cell("receive paths", bytes, { ...trainOf(bytes), receive: "gro" });
    // A ring hands over what has come in its blocks, so nobody can wait for it; and on loopback each
    // frame comes twice.
    const ring = { receive: "ring", topology: "veth", flow: "flat" } as const;
    yield cell("receive paths", bytes, { ...ring, receive: "recvmmsg", suffix: "/veth-flat-out" });
    yield cell("receive paths", bytes, { ...ring, suffix: "/veth-flat-out" });
    for (const batch of [1, 4, 16])
      yield cell("batches", bytes, { batch, suffix: `/batch-${batch}` });
    yield cell("families", bytes, { family: "udp6" });
    yield cell("families", bytes, { family: "unix" });
    yield cell("topologies", bytes, { topology: "one thread", suffix: "/one-thread" });
    yield cell("topologies", bytes, { topology: "veth", suffix: "/veth" });
    yield cell("topologies", bytes, { flow: "flat", suffix: "/flat-out" });
    for (const receivers of [1, 2] as const) {
      const many = { senders: 2, receivers, topology: `2 × ${receivers}`, flow: "flat" } as const;
      yield cell("topologies", bytes, { ...many, suffix: `/2x${receivers}` });
    }
    for (const form of ["promise", "handler"] as const)
      yield cell("forms", bytes, { form, suffix: `/${form}` });
  }
  for (const bytes of [512, 1472, 8192, 65_507]) yield cell("sizes", bytes);
}

/** All cells, at most 80. */
export const CELLS: readonly Cell[] = [...everyCell()];

/** What is varied in them. */
export const QUESTIONS: readonly string[] = [...new Set(CELLS.map(({ question }) => question))];

/**
 * The cells that a name on the command line stands for: its own, those of a question, or those whose
 * names begin with it.
 */
export function cellsNamed(name: string): readonly Cell[] {
  const exact = CELLS.filter((one) => one.name === name || one.question === name);
  return exact.length > 0 ? exact : CELLS.filter((one) => one.name.startsWith(name));
}

// What shows most in little time, and what it is: the end of a cell's name.
const QUICK_ENDS: Readonly<Record<string, string>> = {
  "sendmmsg-recvmmsg": "64 in a call, by everybody",
  "send-recvmmsg": "each sent in a call of its own",
  "sendmmsg-recv": "each received in a call of its own",
  "gso-gro": "in trains, which the kernel cuts and joins",
  "sendmmsg-recvmmsg/one-thread": "one thread sends and receives",
};

/** The cells of the quick form, by their names, and what they are in words. */
export const QUICK_CELLS: ReadonlyMap<Cell, string> = new Map(
  SIZES.flatMap((bytes) => [
    ...Object.entries(QUICK_ENDS).map(([end, what]) => [`udp4/${bytes}/${end}`, what] as const),
    [`udp6/${bytes}/sendmmsg-recvmmsg`, "IPv6"] as const,
    [`unix/${bytes}/sendmmsg-recvmmsg`, "a Unix datagram socket"] as const,
  ]).flatMap(([name, what]) => CELLS.filter((one) => one.name === name).map((one) => [one, what])),
);

/** How much of each cell is measured. */
export interface Form {
  readonly rounds: number;
  readonly roundMs: number;
  /** Whether strace counts the system calls of who does not count its own, in a run of its own. */
  readonly hasCalls: boolean;
  /** Whether memory is measured, which takes a run of its own that is long enough to tell. */
  readonly hasGrowth: boolean;
}

/** How the whole suite is measured. */
export const WHOLE: Form = { rounds: 9, roundMs: 400, hasCalls: true, hasGrowth: true };

/** What is enough for a first look, and for somebody who waits for it. */
export const QUICK: Form = { rounds: 3, roundMs: 80, hasCalls: false, hasGrowth: false };

/** Seconds that some cells take, about. */
export function planSeconds(cells: readonly Cell[], form: Form): number {
  const { rounds, roundMs, hasCalls, hasGrowth } = form;
  const extraSeconds = hasCalls || hasGrowth ? EXTRA_SECONDS : 0;
  const pairs = cells.flatMap(({ peers, flow }) => peers.map(() => flow));
  const seconds = pairs.map((flow) => {
    const waits = flow === "flat" ? rounds + (hasGrowth ? EXTRA_ROUNDS : 0) : 0;
    return START_SECONDS + extraSeconds + (rounds * roundMs + waits * QUIET_MS) / 1000;
  });
  return seconds.reduce((sum, one) => sum + one, 0);
}

// Starting, and warming up.
const START_SECONDS = 0.2;
// The runs that count system calls and memory, and read the kernel's times.
const EXTRA_SECONDS = 0.8;
const EXTRA_ROUNDS = 5;
// A receiver does not know what is lost: it waits.
const QUIET_MS = 250;
