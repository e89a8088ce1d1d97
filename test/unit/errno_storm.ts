/**
 * The program of errno_storm.test.ts: failing calls of many kinds, interleaved, with allocation and
 * collections between them, in as many threads at once as asked. Each answer is compared with what
 * that call is known to fail with. Prints a `Report` as JSON.
 *
 * @module
 */
import { existsSync, writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { libc, negativeErrno } from "../../lib/ffi/libc.ts";
import { mapMemory } from "../../lib/ffi/memory.ts";
import * as sys from "../../lib/sys/index.ts";
import { sockaddr_in } from "../../structs/sockaddr_in.ts";

/** What the program is told, as JSON in its first argument. */
export interface Order {
  /** Failing calls of all threads together. */
  readonly calls: number;
  readonly threads: number;
  /** Calls of one thread between two forced collections. */
  readonly callsPerCollection: number;
  /** What is to go wrong, to see that it is found. */
  readonly planted?: Plant;
  /** Whether it says "ready" on a line of its own once SIGUSR2 does it no harm. */
  readonly signals?: boolean;
}

/** What one thread has counted. */
export interface Count {
  readonly calls: number;
  readonly wrong: number;
  /** How often a wrong reading was planted. */
  readonly planted: number;
  /** The errnos that its calls fail with, by name. */
  readonly errnos: readonly string[];
  readonly collections: number;
}

/** What the program prints: the threads, and their sums. */
export interface Report {
  readonly calls: number;
  readonly wrong: number;
  readonly planted: number;
  readonly threads: readonly Count[];
}

/** A wrong reading: after another call, after a file was looked for, or once in 20,000 times. */
export type Plant = "call" | "file" | "seldom";

interface Kind {
  readonly errno: number;
  readonly call: () => number;
}

interface Share {
  readonly thread: number;
  readonly order: Order;
}

const SELDOM = 20_000;
const KEPT = 64;
const NO_SUCH_PATH = Buffer.from("/proc/no/such\0");
const NO_SUCH_INTERFACE = Buffer.from("nosuchif0\0");

// Memory that calls are given; none of them gets so far as to look at it.
const bytes = new Uint8Array(new ArrayBuffer(256));
const length = new Uint32Array(new ArrayBuffer(4));

function makeKinds(): readonly Kind[] {
  const udp = sys.socket(sys.AF_INET, sys.SOCK_DGRAM, 0);
  const file = sys.epoll_create1(0);
  const nowhere = new Uint8Array(sockaddr_in.size);
  const unix = sys.socket(sys.AF_UNIX, sys.SOCK_DGRAM, 0);
  // A name without a socket.
  const nobody = new Uint8Array([sys.AF_UNIX, 0, ...Buffer.from("/proc/no/such\0")]);
  return [
    { errno: sys.EBADF, call: () => sys.close(-1) },
    { errno: sys.EAFNOSUPPORT, call: () => sys.socket(-1, sys.SOCK_STREAM, 0) },
    { errno: sys.EBADF, call: () => sys.bind(-1, nowhere) },
    { errno: sys.ENOTSOCK, call: () => sys.bind(file, nowhere) },
    { errno: sys.EBADF, call: () => sys.send(-1, bytes, 0) },
    { errno: sys.ENOTSOCK, call: () => sys.send(file, bytes, 0) },
    { errno: sys.EINVAL, call: () => sys.sendto(udp, bytes, 0, nowhere) },
    { errno: sys.EDESTADDRREQ, call: () => sys.send(udp, bytes, 0) },
    { errno: sys.ENOENT, call: () => sys.sendto(unix, bytes, 0, nobody) },
    { errno: sys.EBADF, call: () => sys.getsockopt(-1, sys.SOL_SOCKET, 1, bytes, length) },
    {
      errno: sys.ENOPROTOOPT,
      call: () => sys.getsockopt(udp, sys.SOL_SOCKET, 9999, bytes, length),
    },
    { errno: sys.EAGAIN, call: () => sys.recv(udp, bytes, sys.MSG_DONTWAIT) },
    { errno: sys.EBADF, call: () => sys.recvmmsg(-1, null, 1, sys.MSG_DONTWAIT, null) },
    { errno: sys.EFAULT, call: () => sys.recvmmsg(udp, 1, 1, sys.MSG_DONTWAIT, null) },
    { errno: sys.ENOTCONN, call: () => sys.getpeername(udp, bytes, length) },
    { errno: sys.EOPNOTSUPP, call: () => sys.listen(udp, 1) },
    { errno: sys.EINVAL, call: () => sys.epoll_create1(-1) },
    { errno: sys.ENOTTY, call: () => sys.ioctl(udp, 0x1234, bytes) },
    { errno: sys.EINVAL, call: () => sys.fcntl(udp, 9999, 0) },
    { errno: sys.ENOENT, call: () => sys.unlink(NO_SUCH_PATH) },
    // What fails with NULL or a zero, and what fails with a bigint.
    { errno: sys.ENODEV, call: () => sys.if_nametoindex(NO_SUCH_INTERFACE) },
    { errno: sys.ENXIO, call: () => sys.if_indextoname(0x7fff_ffff, bytes) },
    { errno: sys.EINVAL, call: () => mapMemory(0) as number },
    { errno: sys.ENOMEM, call: () => mapMemory(2 ** 47) as number },
  ];
}

let planted = 0;
let readings = 0;

function plant(kind: Plant): Kind {
  const disturb: Record<Plant, () => void> = {
    call: () => libc.socket(-1, sys.SOCK_STREAM, 0),
    file: () => existsSync(`/proc/no/such/${planted}`),
    seldom: () => libc.socket(-1, sys.SOCK_STREAM, 0),
  };
  return {
    errno: sys.EBADF,
    call() {
      libc.close(-1);
      if (kind !== "seldom" || readings++ % SELDOM === 0) {
        disturb[kind]();
        planted++;
      }
      return negativeErrno();
    },
  };
}

// Each thread gets errnos of its own: one that read another thread's would see a stranger.
function shareOf({ thread, order }: Share): readonly Kind[] {
  const kinds = order.planted ? [...makeKinds(), plant(order.planted)] : makeKinds();
  const errnos = [...new Set(kinds.map(({ errno }) => errno))];
  return kinds.filter(({ errno }) => errnos.indexOf(errno) % order.threads === thread);
}

// The calls stand in functions of their own, each hot enough for the last compiler. The two that
// every thread makes are in straight line, where it can put them side by side.
function storm(share: Share): Count {
  const { order, thread } = share;
  const kinds = shareOf(share);
  const total = Math.ceil(order.calls / order.threads);
  const kept: unknown[] = [];
  let calls = 0;
  let wrong = 0;
  let collections = 0;
  let next = order.callsPerCollection;
  let state = thread + 1;
  while (calls < total) {
    for (let i = 0; i < kinds.length; i++) {
      // Any kind may follow any other: a linear congruential generator, of Numerical Recipes.
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const { errno, call } = kinds[(state >>> 16) % kinds.length] as Kind;
      if (call() !== -errno) wrong++;
      kept[i % KEPT] = { i, text: `${i}`, bytes: new Uint8Array(state & 127) };
    }
    if (sys.dup(-1) !== -sys.EBADF) wrong++;
    if (sys.epoll_create1(-1) !== -sys.EINVAL) wrong++;
    calls += kinds.length + 2;
    if (calls < next) continue;
    next += order.callsPerCollection;
    collections++;
    Bun.gc(true);
  }
  const errnos = [...new Set(kinds.map(({ errno }) => sys.errorName(errno)))];
  return { calls, wrong, planted, errnos, collections };
}

// In a Worker: says that it stands ready, and starts with the others.
if (parentPort) {
  parentPort.on("message", (share: Share) => parentPort?.postMessage(storm(share)));
  parentPort.postMessage("ready");
} else if (import.meta.main) {
  const order = JSON.parse(process.argv[2] ?? "") as Order;
  if (order.signals) {
    process.on("SIGUSR2", () => {});
    writeSync(1, "ready\n");
  }
  const workers = Array.from({ length: order.threads - 1 }, () => new Worker(import.meta.url));
  await Promise.all(workers.map(nextMessage));
  const counts = workers.map(nextMessage) as Promise<Count>[];
  for (const [i, worker] of workers.entries()) worker.postMessage({ thread: i + 1, order });
  const own = storm({ thread: 0, order });
  const threads = [own, ...(await Promise.all(counts))];
  const sum = (of: (count: Count) => number) => threads.reduce((all, count) => all + of(count), 0);
  const report: Report = {
    calls: sum((count) => count.calls),
    wrong: sum((count) => count.wrong),
    planted: sum((count) => count.planted),
    threads,
  };
  console.log(JSON.stringify(report));
  for (const worker of workers) worker.terminate();
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
}
