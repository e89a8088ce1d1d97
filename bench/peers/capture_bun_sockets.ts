// What receives frames in ours: capture_bun_sockets.ts FORM INTERFACE [FILE]. For each line "COUNT" of
// its standard input it opens a ring, or a packet socket, says that it is ready, takes frames until
// there are COUNT or nothing comes any more, and prints what it saw and the CPU time of its thread.
import { dlopen } from "bun:ffi";
import { writeSync } from "node:fs";
import { DatagramBatch, TimeoutError } from "bun-sockets";
import {
  CaptureFile,
  EthernetHeader,
  Ipv4Header,
  type PacketBlock,
  PacketRing,
  PacketSocket,
  PacketView,
  UdpHeader,
} from "bun-sockets/packet";
import { readLines } from "./programs.ts";

/** What is done with a block. */
type Walk = (block: PacketBlock, ring: PacketRing) => void;

const BATCH = 64;
const SLOT_BYTES = 2048;
const QUIET_MS = 200;
const QUIET_TIMES = 25;
const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const ETH_P_IP = 0x0800;
const IPPROTO_UDP = 17;
const CLOCK_PROCESS_CPUTIME_ID = 2;
const CLOCK_THREAD_CPUTIME_ID = 3;

const [, , form = "", name = "", path = ""] = process.argv;

// What has been seen in this round.
const seen = { frames: 0, bytes: 0, sum: 0, waits: 0 };

function count(block: PacketBlock): void {
  let bytes = 0;
  let frames = 0;
  while (block.next()) {
    bytes += block.length;
    frames++;
  }
  seen.bytes += bytes;
  seen.frames += frames;
}

function offset(block: PacketBlock, { bytes: memory }: PacketRing): void {
  let bytes = 0;
  let frames = 0;
  let sum = 0;
  while (block.next()) {
    const { offset, length } = block;
    sum += (memory[offset] as number) + (memory[offset + length - 1] as number);
    bytes += length;
    frames++;
  }
  seen.sum += sum;
  seen.bytes += bytes;
  seen.frames += frames;
}

function view(block: PacketBlock, { bytes: memory }: PacketRing): void {
  let bytes = 0;
  let frames = 0;
  let sum = 0;
  while (block.next()) {
    const { offset, length } = block;
    const frame = memory.subarray(offset, offset + length);
    sum += (frame[0] as number) + (frame[length - 1] as number);
    bytes += length;
    frames++;
  }
  seen.sum += sum;
  seen.bytes += bytes;
  seen.frames += frames;
}

function packets(block: PacketBlock): void {
  let bytes = 0;
  let frames = 0;
  let sum = 0;
  for (const { bytes: frame } of block) {
    sum += (frame[0] as number) + (frame[frame.length - 1] as number);
    bytes += frame.length;
    frames++;
  }
  seen.sum += sum;
  seen.bytes += bytes;
  seen.frames += frames;
}

function ports(block: PacketBlock, { view: memory }: PacketRing): void {
  let bytes = 0;
  let frames = 0;
  let sum = 0;
  while (block.next()) {
    const { offset, length } = block;
    sum += portsOf(memory, offset, length);
    bytes += length;
    frames++;
  }
  seen.sum += sum;
  seen.bytes += bytes;
  seen.frames += frames;
}

// The function of capture.c.
function portsOf(memory: DataView, at: number, length: number): number {
  if (length < ETHERNET_BYTES + IPV4_BYTES || memory.getUint16(at + 12) !== ETH_P_IP) return 0;
  const ip = at + ETHERNET_BYTES;
  const first = memory.getUint8(ip);
  const header = (first & 15) * 4;
  if (first >> 4 !== 4 || header < IPV4_BYTES || memory.getUint8(ip + 9) !== IPPROTO_UDP) return 0;
  if (length < ETHERNET_BYTES + header + UDP_BYTES) return 0;
  return memory.getUint16(ip + header) + memory.getUint16(ip + header + 2);
}

function headers(ring: PacketRing): Walk {
  const ethernet = new EthernetHeader(ring.view);
  const ip = new Ipv4Header(ring.view);
  const udp = new UdpHeader(ring.view);
  return (block) => {
    let bytes = 0;
    let frames = 0;
    let sum = 0;
    while (block.next()) {
      const { offset, length } = block;
      if (
        ethernet.at(offset, offset + length) &&
        ethernet.etherType === ETH_P_IP &&
        ip.at(ethernet.payloadOffset, ethernet.payloadEnd) &&
        ip.protocol === IPPROTO_UDP &&
        udp.at(ip.payloadOffset, ip.payloadEnd)
      )
        sum += udp.sourcePort + udp.destinationPort;
      bytes += length;
      frames++;
    }
    seen.sum += sum;
    seen.bytes += bytes;
    seen.frames += frames;
  };
}

function packetView(ring: PacketRing): Walk {
  const packet = new PacketView(ring.view);
  return (block) => {
    let bytes = 0;
    let frames = 0;
    let sum = 0;
    while (block.next()) {
      packet.at(block.offset, block.end);
      const { udp } = packet;
      if (udp) sum += udp.sourcePort + udp.destinationPort;
      bytes += block.length;
      frames++;
    }
    seen.sum += sum;
    seen.bytes += bytes;
    seen.frames += frames;
  };
}

/** Whether all that was sent was seen or dropped, or nothing has come for a long time. */
class Quiet {
  readonly #counted: PacketRing | PacketSocket;
  readonly #expected: number;
  #frames = 0;
  #times = 0;

  constructor(counted: PacketRing | PacketSocket, expected: number) {
    this.#counted = counted;
    this.#expected = expected;
  }

  /** Asked when nothing has come for `QUIET_MS`. */
  isOver(): boolean {
    this.#times = seen.frames === this.#frames ? this.#times + 1 : 0;
    this.#frames = seen.frames;
    const { drops } = this.#counted.statistics();
    return seen.frames + drops >= this.#expected || this.#times >= QUIET_TIMES;
  }
}

/** What is received with blocking: undefined when nothing comes any more. */
function orNothing<Value>(
  receive: (options: { timeoutMs: number }) => Value,
  quiet: Quiet,
): Value | undefined {
  seen.waits++;
  for (;;) {
    try {
      return receive({ timeoutMs: QUIET_MS });
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      if (quiet.isOver()) return undefined;
    }
  }
}

async function blocking(ring: PacketRing, expected: number, walk: Walk): Promise<void> {
  const quiet = new Quiet(ring, expected);
  while (seen.frames < expected) {
    const block = orNothing((options) => ring.receiveBlockSync(options), quiet);
    if (block === undefined) break;
    walk(block, ring);
  }
}

async function promise(ring: PacketRing, expected: number): Promise<void> {
  const quiet = new Quiet(ring, expected);
  while (seen.frames < expected) {
    seen.waits++;
    try {
      offset(await ring.receiveBlock({ timeoutMs: QUIET_MS }), ring);
    } catch (error) {
      if (!(error instanceof TimeoutError)) throw error;
      if (quiet.isOver()) break;
    }
  }
}

// Its waits have no limit: closing the ring ends them when nothing comes any more.
async function loop(ring: PacketRing, expected: number): Promise<void> {
  const quiet = new Quiet(ring, expected);
  const timer = setInterval(() => {
    if (!quiet.isOver()) return;
    droppedBefore = ring.statistics().drops;
    ring.close();
  }, QUIET_MS);
  try {
    for await (const block of ring) {
      seen.waits++;
      offset(block, ring);
      if (seen.frames >= expected) break;
    }
  } finally {
    clearInterval(timer);
  }
}

// What a ring had dropped when it was closed.
let droppedBefore = 0;

// What counts is what stands in the file: whoever asked for it looks there.
async function pcapng(ring: PacketRing, expected: number): Promise<void> {
  const file = CaptureFile.create(path, { format: "pcapng" });
  await blocking(ring, expected, (block) => {
    seen.frames += block.count;
    file.writeBlock(block);
  });
  file.close();
}

type Form = (ring: PacketRing, expected: number) => Promise<void>;

const forms: Readonly<Record<string, Form>> = {
  count: (ring, expected) => blocking(ring, expected, count),
  offset: (ring, expected) => blocking(ring, expected, offset),
  view: (ring, expected) => blocking(ring, expected, view),
  packets: (ring, expected) => blocking(ring, expected, packets),
  ports: (ring, expected) => blocking(ring, expected, ports),
  headers: (ring, expected) => blocking(ring, expected, headers(ring)),
  packetview: (ring, expected) => blocking(ring, expected, packetView(ring)),
  promise,
  loop,
  pcapng,
};

const { clock_gettime } = dlopen("libc.so.6", {
  // int clock_gettime(clockid_t clockid, struct timespec *tp);
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
}).symbols;
const time = new BigInt64Array(2);

// process.threadCpuUsage() is behind by up to a tick of the kernel: as much as a round may take.
function cpuNs(clock: number): number {
  clock_gettime(clock, time);
  const [seconds = 0n, nanoseconds = 0n] = time;
  return Number(seconds * 1_000_000_000n + nanoseconds);
}

// Written before this returns: what comes next may block.
function say(value: object): void {
  writeSync(1, `${JSON.stringify(value)}\n`);
}

async function measure(work: () => Promise<void>, drops: () => number): Promise<void> {
  Object.assign(seen, { frames: 0, bytes: 0, sum: 0, waits: 0 });
  say({ ready: true });
  const processStart = cpuNs(CLOCK_PROCESS_CPUTIME_ID);
  const start = cpuNs(CLOCK_THREAD_CPUTIME_ID);
  await work();
  const cpu_ns = cpuNs(CLOCK_THREAD_CPUTIME_ID) - start;
  const process_cpu_ns = cpuNs(CLOCK_PROCESS_CPUTIME_ID) - processStart;
  say({ ...seen, drops: drops(), cpu_ns, process_cpu_ns });
}

async function ringRound(expected: number): Promise<void> {
  using ring = PacketRing.open(name);
  const run = forms[form];
  if (run === undefined) throw new Error(`no form ${form}`);
  await measure(
    () => run(ring, expected),
    () => (ring.closed ? droppedBefore : ring.statistics().drops),
  );
}

// The loop of recvmmsg_round in capture.c.
async function socketRound(expected: number): Promise<void> {
  using socket = PacketSocket.open(name);
  using batch = new DatagramBatch({ capacity: BATCH, slotBytes: SLOT_BYTES });
  const { memory } = batch;
  const quiet = new Quiet(socket, expected);
  const receive = (options: { timeoutMs: number }) => socket.receiveBatchSync(batch, options);
  const work = async () => {
    while (seen.frames < expected) {
      const some = socket.tryReceiveBatch(batch) || orNothing(receive, quiet);
      if (!some) break;
      for (let i = 0; i < some; i++) {
        const first = batch.offset(i);
        const length = batch.length(i);
        seen.sum += (memory[first] as number) + (memory[first + length - 1] as number);
        seen.bytes += length;
      }
      seen.frames += some;
    }
  };
  await measure(work, () => socket.statistics().drops);
}

for await (const line of readLines(Bun.stdin.stream())) {
  const [expected = ""] = line.split(" ");
  await (form === "socket" ? socketRound : ringRound)(Number(expected));
}
