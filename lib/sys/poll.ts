import { pollfd } from "../../structs/pollfd.ts";
import { libc, orErrno } from "../ffi/libc.ts";
import { byteLengthOf } from "../ffi/memory.ts";

/**
 * poll(2). `fds` are `pollfd`s, whose `revents` are set. Blocks the thread. Returns how many are
 * ready, or `-errno`.
 */
export function poll(fds: ArrayBufferView, timeoutMs: number): number {
  return orErrno(libc.poll(fds, Math.floor(byteLengthOf(fds) / pollfd.size), timeoutMs));
}
