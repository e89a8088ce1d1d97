// What the sides of a cell in JavaScript share, under Bun, Node and Deno: what the command line says, a
// clock that all processes of this machine have, the counts, and the lines both ways.

import { readdirSync, readlinkSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";

/** As much as every machine gives; the kernel doubles it. */
export const BUFFER_BYTES = 212_992;
export const ACK_BYTES = 4;
export const ACK_MS = 1000;
export const QUIET_MS = 250;
/** Where the sender waits for answers, nothing may be late and not lost. */
export const FIRST_MS = 5000;
/** How often a side waits in vain before it gives a round up. */
export const STALLS_MAX = 5;
/** Where the time stands in the first datagram of a group. */
export const STAMP_AT = 2;
const SAMPLES_MAX = 4096;
const CLOCK_REALTIME = 0;
const CLOCK_MONOTONIC = 1;
const CLOCK_TRIES = 50;
const LIBC = "libc.so.6";
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;

/** Whether it is measured what this process allocates: it is not to allocate anything for other purposes. */
const isMeasuringMemory = process.env.SUITE_MEMORY === "1";

/** The command line: see suite_programs.ts. */
export function readSide(values) {
  const [role, send, receive, family, ...others] = values;
  const [bytes, batch, segments, group, window] = others.splice(0, 5).map(Number);
  const [flow, form, local, remote, port, receivers] = others;
  return {
    ...{ role, send, receive, family, bytes, batch, segments, group, window },
    ...{
      isFlat: flow === "flat",
      form,
      local,
      remote,
      port: Number(port),
      receivers: Number(receivers),
    },
  };
}

/** The payloads of a group: the first byte is the index, the last what makes 255 with it. */
export function makePayloads(bytes, count) {
  return Array.from({ length: count }, (_, i) => {
    const payload = new Uint8Array(new ArrayBuffer(bytes));
    payload[0] = i;
    payload[bytes - 1] = 255 - i;
    return payload;
  });
}

/** A clock that all processes of a machine have: CLOCK_MONOTONIC in nanoseconds. */
export function makeClock() {
  return follow(CLOCK_MONOTONIC, 0n);
}

/**
 * The clock of the kernel's timestamps, CLOCK_REALTIME: gives how many nanoseconds ago a time was. A double
 * that counts from 1970 would be 256 ns off.
 */
export async function makeAge() {
  const since = Math.floor(Date.now() / 1000);
  const now = await follow(CLOCK_REALTIME, BigInt(since) * 1_000_000_000n);
  return (seconds, nanoseconds) => now() - ((seconds - since) * 1e9 + nanoseconds);
}

// performance.now(), moved to where another clock stands: it takes no call of C and makes no bigint.
async function follow(id, since) {
  const readNs = await openClock(id, since);
  let offset = 0;
  let shortest = Number.POSITIVE_INFINITY;
  // The try that took least tells best how the two clocks stand to each other.
  for (let k = 0; k < CLOCK_TRIES; k++) {
    const before = performance.now();
    const ns = readNs();
    const after = performance.now();
    if (after - before >= shortest) continue;
    shortest = after - before;
    offset = ns - ((before + after) / 2) * 1e6;
  }
  return () => offset + performance.now() * 1e6;
}

async function openClock(id, since) {
  const libc = await openLibc();
  // It is CLOCK_MONOTONIC under Node only, and Node is asked for no other.
  if (libc === undefined) return () => Number(process.hrtime.bigint() - since);
  const time = new BigInt64Array(2);
  return () => {
    libc.clock_gettime(id, time);
    return Number(time[0] * 1_000_000_000n + time[1] - since);
  };
}

// What of C this needs, where C can be called.
const PROTOTYPES = {
  // int clock_gettime(clockid_t clockid, struct timespec *tp);
  clock_gettime: ["i32", "memory"],
  // int setsockopt(int sockfd, int level, int optname, const void *optval, socklen_t optlen);
  setsockopt: ["i32", "i32", "i32", "memory", "u32"],
  // int getsockopt(int sockfd, int level, int optname, void *optval, socklen_t *optlen);
  getsockopt: ["i32", "i32", "i32", "memory", "memory"],
};

async function openLibc() {
  const typed = (memory, make) =>
    Object.fromEntries(
      Object.entries(PROTOTYPES).map(([name, types]) => [
        name,
        make(types.map((type) => (type === "memory" ? memory : type))),
      ]),
    );
  if (globalThis.Bun !== undefined) {
    const { dlopen } = await import("bun:ffi");
    return dlopen(
      LIBC,
      typed("ptr", (args) => ({ args, returns: "i32" })),
    ).symbols;
  }
  if (globalThis.Deno === undefined) return undefined;
  return Deno.dlopen(
    LIBC,
    typed("buffer", (parameters) => ({ parameters, result: "i32" })),
  ).symbols;
}

/** The sockets of this process. */
export function socketsOfMine() {
  return readdirSync("/proc/self/fd").map(Number).filter(isSocket);
}

function isSocket(fd) {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith("socket:");
  } catch {
    return false;
  }
}

/** Sets the buffers of a socket from outside, where whoever opened it has no options for that. */
export async function setBuffers(fd) {
  const libc = await openLibc();
  const value = new Int32Array(new ArrayBuffer(4));
  const length = new Uint32Array(new ArrayBuffer(4));
  const set = (option) => {
    value[0] = BUFFER_BYTES;
    libc.setsockopt(fd, SOL_SOCKET, option, value, 4);
    length[0] = 4;
    // The kernel has doubled it.
    return libc.getsockopt(fd, SOL_SOCKET, option, value, length) === 0 ? value[0] / 2 : null;
  };
  return { sendBufferBytes: set(SO_SNDBUF), receiveBufferBytes: set(SO_RCVBUF) };
}

/** What a receiver has seen in a round. */
export class Seen {
  received = 0;
  messages = 0;
  sum = 0;
  /** Calls of the kernel, as far as the side knows them, and those that brought something. */
  calls = 0;
  dataCalls = 0;
  first = 0;
  last = 0;
  /** How often it has waited in vain for what should have come. */
  stalls = 0;
  #clock;
  #stamped = 0;
  #stride = 1;
  #count = 0;
  #most = 0;
  #waited = 0;
  #waitStride = 1;
  #samples = new Float64Array(SAMPLES_MAX);

  constructor(clock) {
    this.#clock = clock;
  }

  /** Begins a round whose samples are those of `stamped`. */
  begin(total, group) {
    this.received = this.messages = this.sum = this.calls = this.dataCalls = 0;
    this.first = this.last = this.stalls = this.#stamped = this.#count = this.#waited = 0;
    this.#most = isMeasuringMemory ? 0 : SAMPLES_MAX;
    this.#stride = Math.floor(total / group / SAMPLES_MAX) + 1;
  }

  /** Makes the samples of the round that has begun those of `waited`, of which there are so many. */
  takeAges(messages) {
    this.#most = 0;
    // Odd, so that it is not always the same one of a group.
    this.#waitStride = Math.floor(messages / SAMPLES_MAX) | 1;
  }

  /** Takes the time of a stamped datagram that begins at an offset of a DataView. */
  stamped(view, offset) {
    if (this.#stamped++ % this.#stride !== 0 || this.#count >= this.#most) return;
    this.#samples[this.#count++] = this.#clock() - view.getFloat64(offset + STAMP_AT, true);
  }

  /** Whether the age of the next datagram is wanted. */
  wantsAge() {
    return this.#waited++ % this.#waitStride === 0 && this.#count < SAMPLES_MAX;
  }

  /** Takes how many nanoseconds a datagram has waited since the kernel had it. */
  waited(ns) {
    this.#samples[this.#count++] = ns;
  }

  result() {
    const { received, messages, sum, calls, dataCalls, first, last, stalls } = this;
    const samples = [...this.#samples.subarray(0, this.#count)].map(Math.round);
    const ns = Math.round((last - first) * 1e6);
    return { received, messages, sum, calls, dataCalls, ns, stalls, samples };
  }
}

/**
 * What is allocated until the function that it gives is called, in bytes: where V8 tells, and only where
 * that is measured. Elsewhere null: what there is of it is seen from outside.
 */
export function measureAllocated() {
  if (!isMeasuringMemory || globalThis.Bun !== undefined) return () => null;
  const bytes = () => {
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = bytes();
  return () => bytes() - before;
}

/** Written before this returns: what comes next may block. */
export function say(value) {
  const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(1, bytes, done);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

/** Calls `told` with the words of each line of the standard input, one after the other. */
export async function serve(told) {
  for await (const line of createInterface({ input: process.stdin })) {
    const [word, number] = line.split(" ");
    await told(word, Number(number));
  }
}
