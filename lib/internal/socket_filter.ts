/**
 * Hands classic BPF programs to the kernel, which copies them: nothing has to stay after the call.
 *
 * @module
 */
import {
  EACCES,
  EAGAIN,
  EINTR,
  EINVAL,
  ENOENT,
  ENOMEM,
  EPERM,
} from "../../structs/constants/errno.ts";
import { BPF_MAXINSNS } from "../../structs/constants/linux_bpf_common.ts";
import {
  MSG_DONTWAIT,
  MSG_TRUNC,
  SO_ATTACH_FILTER,
  SO_ATTACH_REUSEPORT_CBPF,
  SO_DETACH_FILTER,
  SO_DETACH_REUSEPORT_BPF,
  SO_GET_FILTER,
  SOL_SOCKET,
} from "../../structs/constants/sys_socket.ts";
import { sock_filter } from "../../structs/sock_filter.ts";
import { sock_fprog } from "../../structs/sock_fprog.ts";
import { systemError } from "../error.ts";
import { addressOf } from "../ffi/memory.ts";
import { FilterProgram, programBytes } from "../filter_program.ts";
import { getsockopt, recv, setsockopt } from "../sys/socket.ts";
import { describe } from "./arguments.ts";

// Filled by one call and read by the kernel in it.
const fprog = new DataView(new ArrayBuffer(sock_fprog.size));
const word = new Int32Array(new ArrayBuffer(4));
// Room for the longest program, made at the first question for one, and how long that is.
let instructions: DataView<ArrayBuffer> | undefined;
const count = new Uint32Array(new ArrayBuffer(4));
// What the program in a call points to: an address alone would not keep it alive.
const inCall: { bytes: Uint8Array | undefined } = { bytes: undefined };
/** Errors of earlier packets that may be pending, one after the other. */
const PENDING_MAX = 16;
const nothing = new Uint8Array(new ArrayBuffer(1));

/** SO_ATTACH_FILTER: in the place of the one that the socket has. */
export function attachFilter(fd: number, program: FilterProgram): void {
  attach(fd, SO_ATTACH_FILTER, program, {
    [EPERM]: "The socket's filter was locked",
    [EINVAL]: "The program reads memory that it has not written, or loads from no such place",
    [ENOMEM]: "All options of the socket together are longer than sysctl net.core.optmem_max",
  });
}

/**
 * The same, after everything is gone that the socket had before: nothing that the program would have
 * refused is received afterwards.
 */
export function attachFilterAndDrain(fd: number, program: FilterProgram): number {
  // One that the kernel refuses is to lose nothing.
  attachFilter(fd, program);
  attachFilter(fd, FilterProgram.dropAll);
  let drained = 0;
  let errors = 0;
  for (;;) {
    const result = recv(fd, nothing, MSG_DONTWAIT | MSG_TRUNC);
    if (result === -EAGAIN) break;
    // What was pending is told once, and is not of a packet.
    if (result >= 0) drained++;
    else if (result !== -EINTR && ++errors > PENDING_MAX) throw systemError(result, "recv");
  }
  attachFilter(fd, program);
  return drained;
}

/** SO_GET_FILTER: the filter as it was attached. Undefined for none. */
export function attachedFilter(fd: number): FilterProgram | undefined {
  // The kernel takes the length for a number of instructions, and writes no more than it has: there
  // is room for the longest. What comes back is a number of instructions, too.
  instructions ??= new DataView(new ArrayBuffer(BPF_MAXINSNS * sock_filter.size));
  const result = getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, instructions, count);
  if (result < 0) {
    const hint = "What is attached is an eBPF program: only a classic one can be read";
    const hints = { [EACCES]: hint };
    throw withHint(result, hints, "getsockopt");
  }
  const [length = 0] = count;
  if (length === 0) return undefined;
  const view = instructions;
  return new FilterProgram(
    Array.from({ length }, (_, i) => {
      const at = i * sock_filter.size;
      return {
        code: sock_filter.code.get(view, at),
        jt: sock_filter.jt.get(view, at),
        jf: sock_filter.jf.get(view, at),
        k: sock_filter.k.get(view, at),
      };
    }),
  );
}

/** SO_DETACH_FILTER. Returns false when there was none. */
export function detachFilter(fd: number): boolean {
  const result = setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, word);
  if (result === -ENOENT) return false;
  if (result < 0) throw withHint(result, { [EPERM]: "The socket's filter was locked" });
  return true;
}

/** SO_ATTACH_REUSEPORT_CBPF: for the whole group. */
export function attachReusePortProgram(fd: number, program: FilterProgram): void {
  attach(fd, SO_ATTACH_REUSEPORT_CBPF, program, {
    [EINVAL]: "The socket needs `reusePort: true`, and a program of sound loads",
    [ENOMEM]: "The program is longer than sysctl net.core.optmem_max",
  });
}

/** SO_DETACH_REUSEPORT_BPF. Returns false when there was none. */
export function detachReusePortProgram(fd: number): boolean {
  const result = setsockopt(fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, word);
  if (result === -ENOENT) return false;
  if (result < 0) throw withHint(result, { [EINVAL]: "The socket needs `reusePort: true`" });
  return true;
}

function attach(fd: number, option: number, program: FilterProgram, hints: Hints): void {
  const bytes = requireProgram(program);
  inCall.bytes = bytes;
  sock_fprog.len.set(fprog, 0, bytes.length / sock_filter.size);
  sock_fprog.filter.set(fprog, 0, addressOf(bytes));
  const result = setsockopt(fd, SOL_SOCKET, option, fprog);
  inCall.bytes = undefined;
  if (result < 0) throw withHint(result, hints);
}

type Hints = Readonly<Record<number, string>>;

function withHint(result: number, hints: Hints, syscall = "setsockopt"): Error {
  const hint = hints[-result];
  return systemError(result, syscall, hint === undefined ? {} : { hint });
}

function requireProgram(program: FilterProgram): Uint8Array<ArrayBuffer> {
  const bytes = programBytes(program);
  if (bytes) return bytes;
  throw new TypeError(`Cannot use ${describe(program)} as a filter: expected a FilterProgram`);
}
