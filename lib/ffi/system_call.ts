/**
 * System calls that go through syscall(2), because not every libc has a function for them, and the
 * numbers that <sys/syscall.h> gives them.
 */
export const SYSTEM_CALLS = {
  x64: { io_uring_enter: 426, io_uring_setup: 425, renameat2: 316 },
  arm64: { io_uring_enter: 426, io_uring_setup: 425, renameat2: 276 },
} as const;

/** Returns the number of a system call on this machine. */
export function systemCallNumber(name: keyof (typeof SYSTEM_CALLS)["x64"]): number {
  return SYSTEM_CALLS[process.arch === "arm64" ? "arm64" : "x64"][name];
}
