/**
 * The libc table with a shim before every entry: it tells which calls reached the kernel, puts every
 * mapping between two pages that nobody may touch, ends waits that would never end, and makes calls
 * fail.
 *
 * @module
 */
import { type Pointer, toArrayBuffer } from "bun:ffi";
import { type Libc, libc } from "../../lib/ffi/libc.ts";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  ECONNABORTED,
  ECONNREFUSED,
  EFAULT,
  EINTR,
  EINVAL,
  EIO,
  EMFILE,
  ENFILE,
  ENOBUFS,
  ENODEV,
  ENOMEM,
  ENOPROTOOPT,
  ENOSPC,
  ENOSYS,
  ENOTCONN,
  ENXIO,
  EPERM,
  EPIPE,
  EPROTO,
} from "../../structs/constants/errno.ts";
import {
  SIOCSIFFLAGS,
  SIOCSIFHWADDR,
  SIOCSIFMTU,
  SIOCSIFTXQLEN,
} from "../../structs/constants/linux_sockios.ts";
import { EAI_MEMORY, EAI_SYSTEM } from "../../structs/constants/netdb.ts";
import { PROT_NONE } from "../../structs/constants/sys_mman.ts";
import { failWith, MAP_FAILED } from "../support/faults.ts";
import { Failure, WouldWait } from "./failure.ts";

type Name = keyof Libc;
type Loose = (...values: never[]) => unknown;

/** The C functions themselves. */
export const real: Libc = { ...libc };

/** What one call of the public surface did to the kernel. `begin` starts it anew. */
export const kernel = {
  /** Whether a system call was made. */
  reached: false,
  /** Whether the kernel was given an address that it could not use. */
  faulted: false,
  /** Whether a descriptor was closed that was not open. */
  closedNothing: false,
  /** How many system calls to let through before one fails, or -1 for none. */
  failAfter: -1,
  /** Which of the ways to fail it is. */
  failure: 0,
  polls: 0,
  splices: 0,
  pauses: 0,
  begin(failAfter: number, failure: number): void {
    kernel.reached = kernel.faulted = kernel.closedNothing = false;
    kernel.failAfter = failAfter;
    kernel.failure = failure;
    kernel.polls = kernel.pauses = kernel.splices = 0;
  },
};

export const PAGE = 4096;

// What asks libc and not the kernel.
const QUIET: ReadonlySet<Name> = new Set<Name>([
  "strerror",
  "gai_strerror",
  "__errno_location",
  "dlsym",
  "memcpy",
  "inet_aton",
  "inet_pton",
  "inet_ntop",
  "freeaddrinfo",
  "freeifaddrs",
  "if_freenameindex",
]);

// What would change the machine is said to be done, and is not.
const PRETENDED: readonly number[] = [SIOCSIFFLAGS, SIOCSIFMTU, SIOCSIFTXQLEN, SIOCSIFHWADDR];

// How the kernel could have failed. Nothing else than a signal is repeated without end.
const SEND = [EINTR, ENOBUFS, ENOMEM, ECONNREFUSED, EAGAIN, EPIPE];
const RECEIVE = [EINTR, EAGAIN, ECONNREFUSED, ENOMEM];
const FAILURES: Partial<Record<Name, readonly number[]>> = {
  socket: [EMFILE, ENFILE, ENOBUFS, EACCES],
  socketpair: [EMFILE, ENOMEM],
  bind: [EADDRINUSE, ENOMEM, EACCES],
  connect: [EINTR, EAGAIN, EADDRNOTAVAIL, ENOMEM],
  listen: [EADDRINUSE],
  accept4: [EMFILE, EINTR, ECONNABORTED, EPROTO, EAGAIN],
  getsockname: [ENOBUFS],
  getpeername: [ENOBUFS, ENOTCONN],
  getsockopt: [ENOPROTOOPT, ENOBUFS],
  setsockopt: [EPERM, ENOMEM, ENOPROTOOPT],
  shutdown: [ENOTCONN],
  send: SEND,
  sendto: SEND,
  sendmsg: SEND,
  sendmmsg: SEND,
  recv: RECEIVE,
  recvfrom: RECEIVE,
  recvmsg: RECEIVE,
  recvmmsg: RECEIVE,
  poll: [EINTR, ENOMEM],
  fcntl: [EMFILE, EPERM],
  close: [EINTR, EIO],
  chmod: [EPERM],
  fchmod: [EPERM],
  mmap: [ENOMEM],
  mprotect: [ENOMEM],
  epoll_create1: [EMFILE, ENOMEM],
  epoll_ctl: [ENOMEM, ENOSPC],
  epoll_wait: [EINTR],
  eventfd: [EMFILE, ENOMEM],
  memfd_create: [EMFILE, ENOMEM],
  io_uring_setup: [ENOSYS, EPERM, ENOMEM],
  io_uring_enter: [EINTR, EAGAIN, EPERM],
  if_nametoindex: [ENODEV],
  if_indextoname: [ENXIO],
  if_nameindex: [ENOBUFS, ENOMEM],
  getifaddrs: [ENOBUFS, ENOMEM],
  gethostname: [EPERM],
  sethostname: [EPERM],
  getservbyname_r: [ENOMEM, EIO],
  getservbyport_r: [ENOMEM, EIO],
  getaddrinfo: [ENOMEM, EMFILE],
  getnameinfo: [ENOMEM, EMFILE],
  sendfile: [EINTR, EAGAIN, EINVAL, EIO, ENOMEM],
  splice: [EINTR, EAGAIN, EINVAL, ENOMEM],
  pipe2: [EMFILE, ENFILE],
  // A bell that is heard is not silent when it is read.
  read: [EINTR],
  ioctl: [EPERM, ENODEV],
  sockatmark: [EINVAL],
  unlink: [EPERM],
  rename: [EACCES],
};

const errno = new Int32Array(toArrayBuffer(real.__errno_location() as Pointer, 0, 4));

let faults = 0;

function fail(name: Name, errnos: readonly number[], values: readonly never[]): unknown {
  // close(2): the descriptor is gone even when it reports an error.
  if (name === "close") (real.close as Loose)(...values);
  faults++;
  const code = errnos[kernel.failure % errnos.length] as number;
  if (name === "mmap") return failWith(code, MAP_FAILED);
  if (name === "if_nametoindex") return failWith(code, 0);
  if (name === "if_indextoname" || name === "if_nameindex") return failWith(code, null);
  if (name === "getservbyname_r" || name === "getservbyport_r") return code;
  if (name === "getaddrinfo" || name === "getnameinfo")
    return code === ENOMEM ? EAI_MEMORY : failWith(code, EAI_SYSTEM);
  return failWith(code);
}

/** How many calls were made to fail. */
export function faultCount(): number {
  return faults;
}

function shim(name: Name): Loose {
  const call = real[name] as Loose;
  if (QUIET.has(name)) return call;
  const errnos = FAILURES[name];
  const work = (replaced[name] as Loose | undefined) ?? call;
  return (...values) => {
    kernel.reached = true;
    if (errnos && kernel.failAfter >= 0 && kernel.failAfter-- === 0)
      return fail(name, errnos, values);
    const result = work(...values);
    // Nothing stands between this and the caller, who reads errno.
    if (result === -1 && errno[0] === EFAULT) kernel.faulted = true;
    if (result === -1 && name === "close") kernel.closedNothing = true;
    return result;
  };
}

const POLLS_MAX = 50_000;
const SPLICES_MAX = 5_000;
const PAUSES_MAX = 4;
const WAIT_MS_MAX = 20;

function poll(fds: never, count: never, timeoutMs: number): number {
  if (++kernel.polls > POLLS_MAX) throw new Failure("a call polls without end");
  const isLong = timeoutMs < 0 || timeoutMs > WAIT_MS_MAX;
  const ready = real.poll(fds, count, isLong ? 0 : timeoutMs);
  if (ready !== 0) return ready;
  if (isLong || (timeoutMs > 0 && ++kernel.pauses > PAUSES_MAX)) throw new WouldWait();
  return ready;
}

// Two ends that send each other what they receive never end.
function splice(...values: Parameters<Libc["splice"]>): number {
  return ++kernel.splices > SPLICES_MAX ? failWith(EPIPE) : real.splice(...values);
}

function ioctl(fd: never, request: number, argument: never): number {
  return PRETENDED.includes(request) ? 0 : real.ioctl(fd, request, argument);
}

const replaced: Partial<Libc> = {
  mmap: map,
  poll,
  splice,
  ioctl,
  sethostname: () => 0,
} as unknown as Partial<Libc>;

const guards: number[] = [];

/** mmap(2) with a page before and one behind that nobody may touch, of memory that is no file's. */
export function map(...values: Parameters<Libc["mmap"]>): ReturnType<Libc["mmap"]> {
  const [address, length, protection, flags, fd, offset] = values;
  if (fd >= 0) return real.mmap(...values);
  const whole = Math.ceil(length / PAGE) * PAGE;
  const start = real.mmap(address, whole + 2 * PAGE, protection, flags, fd, offset);
  if (typeof start !== "number") return start;
  for (const guard of [start, start + PAGE + whole]) {
    real.mprotect(guard, PAGE, PROT_NONE);
    guards.push(guard);
  }
  return start + PAGE;
}

/** Unmaps the guards since `from`, when what lies between them is gone. */
export function releaseGuards(from: number): void {
  for (const guard of guards.splice(from)) real.munmap(guard, PAGE);
}

/** How many guards there are. */
export function guardCount(): number {
  return guards.length;
}

/** Puts the shims into the table. */
export function install(): void {
  for (const name of Object.keys(real) as Name[]) Object.assign(libc, { [name]: shim(name) });
}
