/**
 * Who owns which descriptor of this thread: each has one owner, who closes it or gives it away. Below
 * that is a net: an owner that was dropped has its descriptor closed after the engine has collected
 * it.
 *
 * @module
 */
import { EBADF, EMFILE, ENFILE, ENOTSOCK } from "../../structs/constants/errno.ts";
import { SO_COOKIE, SOL_SOCKET } from "../../structs/constants/sys_socket.ts";
import { systemError } from "../error.ts";
import type { SocketsToClose } from "../ffi/thread_end.ts";
import { getsockopt } from "../sys/socket.ts";
import { close } from "../sys/unistd.ts";
import type { KernelErrors } from "./kernel_errors.ts";
import type { End, Watch } from "./wait_line.ts";

/** What the net knows of a descriptor. It must not know the owner, which would keep it alive. */
export interface Held {
  readonly fd: number;
  /** The kernel's number of the socket, in two words: 0 where it gives none. */
  readonly cookieLow: number;
  readonly cookieHigh: number;
  /** What tells a file from another one: where it is no socket, and somebody has asked. */
  file: File | undefined;
  /** What the poller knows of it, once somebody has waited. */
  watch: Watch | undefined;
  /** What all sockets of this thread know that share the open one. */
  shared: Shared | undefined;
  /** The class of the socket whose descriptor it is, once there is one. */
  kind: SocketClass | undefined;
  /** Where the socket was made, while leaks are reported. */
  createdAt: string | undefined;
}

/** What sockets know together of the open one. It must not know any of them. */
export interface Shared {
  /** The errors that were queued, once somebody has asked for them. */
  errors?: KernelErrors | undefined;
}

/** Which file a descriptor means. What the kernel makes without a name, as a pidfd, is one for all. */
interface File {
  readonly device: number;
  readonly inode: number;
  /** When it was made, 0 where nobody knows: a file that is new may have the inode of one that is gone. */
  readonly bornAtMs: number;
}

/** A class of sockets: its name is what a socket is called. */
export type SocketClass = { readonly name: string; readonly prototype: object };

// What is held under each number. A number that is closed and given out again has another one.
const owners = new Map<number, Held>();

/** What has become of the sockets of this thread. The rest is open. */
export const counters = { opened: 0, adopted: 0, closed: 0, detached: 0, leaked: 0 };

// Whether the environment asks for reports of leaks: looked at with the first socket.
let reportsLeaks: boolean | undefined;

// Made with the first descriptor: an import pays for nothing that is not used.
let net: FinalizationRegistry<Held> | undefined;

// How many were open when the engine was last asked to collect, or the fewest since.
let floor = 0;
// A collection is asked for when this many more are open, or an eighth more.
const GROWTH = 16;
/** RLIMIT_NOFILE where nobody has changed it. */
const USUAL_LIMIT = 1024;

const cookie = new Uint32Array(new ArrayBuffer(8));
const cookieLength = new Uint32Array(new ArrayBuffer(4));

/**
 * One open descriptor and its one owner. When the owner is dropped without `close` or `detach`, the
 * net closes the descriptor, unless its number means another socket by then.
 */
export class Descriptor {
  #fd: number;
  #ended: End | undefined;
  readonly #held: Held;

  /**
   * Takes the result of a call that opens a socket.
   *
   * @throws {SystemError} it is `-errno`; for too many open descriptors the hint says how many are
   * ours
   */
  constructor(result: number, syscall: string) {
    if (result < 0) throw openError(result, syscall);
    this.#fd = result;
    readCookie(result);
    const [cookieLow = 0, cookieHigh = 0] = cookie;
    this.#held = {
      fd: result,
      cookieLow,
      cookieHigh,
      file: undefined,
      watch: undefined,
      shared: undefined,
      kind: undefined,
      createdAt: undefined,
    };
    // The kernel gives out no number that is open: somebody else has closed that one.
    const gone = owners.get(result);
    if (gone) count(gone, "closed");
    owners.set(result, this.#held);
    if (isWorker) addToEnd(this.#held);
    net ??= new FinalizationRegistry(closeDropped);
    net.register(this, this.#held, this);
    collectWhenMany();
  }

  /** The number, or -1 when it was closed or given away. */
  get fd(): number {
    return this.#fd;
  }

  /** What has become of it. Undefined while it is open. */
  get ended(): End | undefined {
    return this.#ended;
  }

  /** What the poller knows of it. Undefined until somebody has waited. */
  get watch(): Watch | undefined {
    return this.#held.watch;
  }

  set watch(watch: Watch) {
    this.#held.watch = watch;
  }

  /** What it shares with the duplicates of this thread, once it was said. */
  get shared(): Shared | undefined {
    return this.#held.shared;
  }

  /** Says what it shares with the duplicates of this thread. */
  share(shared: Shared): void {
    this.#held.shared = shared;
  }

  /** Says whose descriptor it is, once the socket is made: from now on it is listed. */
  belongTo(kind: SocketClass, isAdopted: boolean): void {
    this.#held.kind = kind;
    counters[isAdopted ? "adopted" : "opened"]++;
    reportsLeaks ??= process.env["BUN_SOCKETS_LEAKS"] === "1";
    if (reportsLeaks) this.#held.createdAt = leaks().stackOf(kind);
  }

  /** Remembers which file it is, where it may be none but a socket: the net closes no other one. */
  rememberFile(): void {
    if (!readCookie(this.#fd)) this.#held.file = fileOf(this.#fd);
  }

  /** Closes it, unless the number means something else by now. */
  closeIfStill(): void {
    if (this.#fd >= 0 && isStill(this.#held)) this.close();
    else this.release("closed");
  }

  /** Closes it. Does nothing the second time. Whoever waits for it is told. */
  close(): void {
    const fd = this.release("closed");
    // close(2): the descriptor is gone even when it reports an error, and there is nothing a caller
    // could do.
    if (fd >= 0) close(fd);
  }

  /** Closes at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Gives the number away, open, and forgets it. Returns -1 when there is none any more, also when
   * somebody has closed it behind our back and it means another socket of ours.
   */
  release(how: End = "detached"): number {
    const fd = this.#fd;
    if (fd < 0) return -1;
    this.#fd = -1;
    this.#ended = how;
    net?.unregister(this);
    const isOurs = owners.get(fd) === this.#held;
    const errors = errorsOnlyOf(this.#held);
    // Before its waiters are told that they will never know.
    if (isOurs) errors?.settle(fd);
    endWaiting(this.#held, how, isOurs);
    errors?.end();
    count(this.#held, isOurs ? how : "closed");
    if (!isOurs) return -1;
    forget(fd);
    return fd;
  }
}

// The poller's set must let go of a descriptor before it is closed.
function endWaiting({ watch }: Held, how: End, isOurs: boolean): void {
  if (!watch) return;
  const { engine }: typeof import("./poller_engine.ts") = loadModule(() =>
    require("./poller_engine.ts"),
  );
  engine.end(watch, how, isOurs);
}

// The error queue of an open socket that nobody else shares.
function errorsOnlyOf(held: Held): KernelErrors | undefined {
  const errors = held.shared?.errors;
  if (!errors) return undefined;
  for (const other of owners.values())
    if (other !== held && other.shared === held.shared) return undefined;
  return errors;
}

/** The error queue of the socket that has the number, where somebody has asked for it. */
export function errorsOf(fd: number): KernelErrors | undefined {
  return owners.get(fd)?.shared?.errors;
}

/** Whether an owner of this thread has the number. */
export function isOwned(fd: number): boolean {
  return owners.has(fd);
}

/** What is held for the sockets of this thread that are open, or were dropped. */
export function* heldSockets(): Iterable<Held> {
  for (const held of owners.values()) if (held.kind) yield held;
}

/** Whether a number still means the socket or file that it did when it got its owner. */
export function isStill({ fd, cookieLow, cookieHigh, file }: Held): boolean {
  const isSocket = readCookie(fd);
  if (!file) return isSocket && cookie[0] === cookieLow && cookie[1] === cookieHigh;
  const now = isSocket ? undefined : fileOf(fd);
  return now?.device === file.device && now.inode === file.inode && now.bornAtMs === file.bornAtMs;
}

function fileOf(fd: number): File | undefined {
  try {
    const { dev, ino, birthtimeMs } = process.getBuiltinModule("node:fs").fstatSync(fd);
    return { device: dev, inode: ino, bornAtMs: birthtimeMs };
  } catch {
    return undefined;
  }
}

/** How many descriptors of this thread have an owner, or had one that was dropped. */
export function ownedCount(): number {
  return owners.size;
}

// Each socket once, whatever becomes of it in the end.
function count(held: Held, what: "closed" | "detached" | "leaked"): void {
  if (!held.kind) return;
  held.kind = undefined;
  counters[what]++;
}

function leaks(): typeof import("./leaks.ts") {
  return loadModule(() => require("./leaks.ts"));
}

function forget(fd: number): void {
  owners.delete(fd);
  toClose?.remove(fd);
  floor = Math.min(floor, owners.size);
}

// A Worker that is terminated runs no code any more, and its sockets would stay open as long as the
// process: ports bound, connections accepted that nobody serves. Costs a Worker some 3 ms, once.
const isWorker = !Bun.isMainThread;
let toClose: SocketsToClose | undefined;
// A machine may allow nothing to be compiled; too many open descriptors go over.
let triesLeft = 3;

function addToEnd({ fd, cookieLow, cookieHigh }: Held): void {
  toClose?.add(fd, cookieLow, cookieHigh);
  if (toClose || triesLeft === 0) return;
  try {
    toClose = threadEnd().closeSocketsAtEnd();
    for (const held of owners.values()) toClose.add(held.fd, held.cookieLow, held.cookieHigh);
  } catch {
    triesLeft--;
  }
}

function threadEnd(): typeof import("../ffi/thread_end.ts") {
  return loadModule(() => require("../ffi/thread_end.ts"));
}

// Runs after a collection, in a turn of its own. Between, somebody who does not know us may have
// closed the number and opened something else under it: the cookie tells, but for a dup(2) of the
// very same socket, which nothing tells apart.
function closeDropped(held: Held): void {
  if (owners.get(held.fd) !== held) return;
  forget(held.fd);
  const isOurs = isStill(held);
  if (isOurs && held.createdAt !== undefined) leaks().report(held);
  count(held, isOurs ? "leaked" : "closed");
  const errors = errorsOnlyOf(held);
  if (isOurs) errors?.settle(held.fd);
  endWaiting(held, "closed", isOurs);
  errors?.end();
  if (isOurs) close(held.fd);
}

// Reads the number that the kernel gives each socket, never twice: 0 before Linux 4.12. Returns
// whether the descriptor is a socket's.
function readCookie(fd: number): boolean {
  cookie.fill(0);
  const result = getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, cookieLength);
  return result !== -EBADF && result !== -ENOTSOCK;
}

// A program that drops sockets and makes little garbage beside would reach the limit of open
// descriptors before the engine sees a reason to collect. `Bun.gc(false)` asks for a collection, and
// `Bun.gc(true)` waits for it: what it finds is closed in the next turn.
function collectWhenMany(): void {
  if (owners.size - floor < Math.max(GROWTH, floor >> 3)) return;
  floor = owners.size;
  limit ??= readLimit();
  Bun.gc(owners.size > limit / 2);
}

let limit: number | undefined;

function readLimit(): number {
  try {
    const { readFileSync } = process.getBuiltinModule("node:fs");
    const text = readFileSync("/proc/self/limits", "latin1");
    return Number(/^Max open files +(\d+)/m.exec(text)?.[1] ?? USUAL_LIMIT);
  } catch {
    return USUAL_LIMIT;
  }
}

/**
 * Refuses to go on with a number when code of the caller has run since it was read, and has closed the
 * socket or given it away: it may mean another one by now.
 */
export function requireStill(descriptor: Descriptor, fd: number, syscall: string): void {
  if (descriptor.fd !== fd) throw systemError(-EBADF, syscall);
}

/** The error of a call that opens a socket; too many open descriptors come with a hint. */
export function openError(result: number, syscall: string): Error {
  if (result !== -EMFILE && result !== -ENFILE) return systemError(result, syscall);
  const hint =
    `This library holds ${owners.size} sockets open in this thread. Close those that are done ` +
    "(`using` does); dropped ones are closed after a collection, but not within one turn. " +
    (result === -EMFILE ? "ulimit -n is the limit" : "sysctl fs.file-max is the limit");
  return systemError(result, syscall, { hint });
}

/**
 * Reads a module that is not needed at once: `loadModule(() => require("./x.ts"))`, where the name must
 * stand there as it is, for bundlers. With too many open descriptors its file cannot be read.
 *
 * @throws {SystemError} `EMFILE`, `ENFILE`; later it is tried again
 */
export function loadModule<Module>(read: () => Module): Module {
  try {
    return read();
  } catch (error) {
    // Bun's error of it has no code.
    const [, code] = /\b(EMFILE|ENFILE) reading /.exec(`${error}`) ?? [];
    if (code === undefined) throw error;
    throw openError(code === "EMFILE" ? -EMFILE : -ENFILE, "open");
  }
}
