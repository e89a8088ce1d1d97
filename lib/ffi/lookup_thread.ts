/**
 * The lookup thread: it makes one call of libc that asks a resolver, which can take half a minute,
 * and tells when it has its answer. Nothing stops such a call, so the thread is left alone until it
 * is done, whoever still wants the answer.
 *
 * @module
 */
import type { Pointer } from "bun:ffi";
import { addressOfFunction, compileFreestanding, mapShared, startFailure } from "./freestanding.ts";
import { HELPER_SYSTEM_CALLS } from "./helper_thread.ts";
import { ffi, libc } from "./libc.ts";
import { readMemory } from "./memory.ts";

/** What a thread can be asked for: blocking calls of libc that are safe on any thread. */
export type LookupCall = "getaddrinfo" | "getnameinfo" | "gethostbyname2_r" | "gethostbyaddr_r";

/**
 * An argument of the call: a number; memory that is copied in and out; or the place of a pointer to
 * `struct addrinfo`, which the call sets.
 */
export type LookupArgument = number | Uint8Array | "list";

/** What a call has returned. */
export interface LookupResult {
  /** What the function has returned. */
  readonly result: number;
  /** errno after it. */
  readonly errno: number;
  /** What it has set: the address of the first `addrinfo`, for freeaddrinfo(3), or 0. */
  readonly list: number;
  /** The memory of each argument as it is now; undefined for numbers. */
  readonly memory: readonly (Uint8Array | undefined)[];
  /** Where that memory was, for pointers into it; 0 for numbers. It is not there any more. */
  readonly places: readonly number[];
}

/** A running thread, or one that is done. */
export interface LookupThread {
  /**
   * Whether the call has returned. It says so before it rings: a bell that rings earlier was rung by
   * somebody else.
   */
  isDone(): boolean;
  /**
   * Takes the answer, and gives the thread's memory back. Only after the bell has rung, and once:
   * until then the memory is the thread's.
   */
  finish(): LookupResult;
}

/** The name of the threads, as ps and top show it. The kernel keeps 15 bytes. */
export const LOOKUP_THREAD_NAME = "bun-sockets-ask";

/** As it stands in errors. */
const WHAT = "a lookup thread";

// Where `struct state` has what JavaScript writes and reads.
const ARGUMENTS_MAX = 8;
const FUNCTION_OFFSET = 0;
const ARGUMENTS_OFFSET = 8;
const LIST_OFFSET = ARGUMENTS_OFFSET + 8 * ARGUMENTS_MAX;
const RESULT_OFFSET = LIST_OFFSET + 8;
const ERRNO_OFFSET = RESULT_OFFSET + 4;
const DONE_OFFSET = ERRNO_OFFSET + 4;
const BELL_OFFSET = DONE_OFFSET + 4;
const NAME_OFFSET = BELL_OFFSET + 4;
const SIZE_OFFSET = NAME_OFFSET + 16;
const MEMORY_OFFSET = 128;
const STATE_BYTES_MIN = 8192;

const FUNCTIONS = [
  "__errno_location",
  "close",
  "freeaddrinfo",
  "getpid",
  "munmap",
  "prctl",
  "pthread_create",
  "pthread_detach",
  "pthread_sigmask",
  "sigfillset",
  "syscall",
  "write",
] as const;

const SOURCE = `
typedef unsigned long size_t;
typedef long ssize_t;

#define c_errno (*((int *(*)(void))__ERRNO_LOCATION)())
#define c_close ((int (*)(int))CLOSE)
#define c_freeaddrinfo ((void (*)(void *))FREEADDRINFO)
#define c_getpid ((int (*)(void))GETPID)
#define c_munmap ((int (*)(void *, size_t))MUNMAP)
#define c_prctl ((int (*)(int, char *, long, long, long))PRCTL)
#define c_pthread_create \\
  ((int (*)(unsigned long *, void *, void *, void *))PTHREAD_CREATE)
#define c_pthread_detach ((int (*)(unsigned long))PTHREAD_DETACH)
#define c_pthread_sigmask ((int (*)(int, void *, void *))PTHREAD_SIGMASK)
#define c_sigfillset ((int (*)(void *))SIGFILLSET)
#define c_syscall ((long (*)(long, long, long, long))SYSCALL)
#define c_write ((ssize_t (*)(int, void *, size_t))WRITE)

enum { EINTR = 4, ESRCH = 3, SIG_SETMASK = 2, PR_SET_NAME = 15 };

struct state {
  int (*function)(long, long, long, long, long, long, long, long);
  long arguments[8];
  void *list;
  int result, error;
  volatile int done;
  int bell_fd;
  char name[16];
  size_t size;
  int process_id, thread_id;
};

void *run(struct state *state) {
  unsigned long value = 1;
  long *a = state->arguments;
  int bell_fd = state->bell_fd;

  c_prctl(PR_SET_NAME, state->name, 0, 0, 0);
  c_errno = 0;
  /* One with fewer parameters leaves the last ones where they are. */
  state->result = state->function(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
  state->error = c_errno;
  if (c_syscall(SYS_TGKILL, state->process_id, state->thread_id, 0) < 0 && c_errno == ESRCH) {
    /* The JavaScript thread has ended, as that of a terminated Worker: all of it is left to this
       one. */
    if (state->list) c_freeaddrinfo(state->list);
    c_munmap(state, state->size);
    c_close(bell_fd);
    return 0;
  }
  state->done = 1;
  /* From here on the memory is JavaScript's. */
  while (c_write(bell_fd, &value, sizeof value) < 0 && c_errno == EINTR);
  return 0;
}

int start(struct state *state, void *run_copy) {
  unsigned long all[16], old[16];
  unsigned long thread;
  int error;

  state->process_id = c_getpid();
  state->thread_id = c_syscall(SYS_GETTID, 0, 0, 0);
  c_sigfillset(all);
  error = c_pthread_sigmask(SIG_SETMASK, all, old);
  if (error) return -error;
  /* The thread inherits the mask. The engine's handlers belong on the engine's threads. */
  error = c_pthread_create(&thread, 0, run_copy, state);
  c_pthread_sigmask(SIG_SETMASK, old, 0);
  if (!error) c_pthread_detach(thread);
  return -error;
}
`;

interface Library {
  /** The address of the function that the threads run. */
  readonly run: Pointer;
  readonly start: (state: Pointer, run: Pointer) => number;
}

let library: Library | undefined;

/**
 * Starts a thread that makes a call, and then writes eight bytes, a uint64 of 1, to an eventfd,
 * which must stay open until then.
 *
 * The thread takes no signal and keeps no process alive. When the JavaScript thread has ended before
 * it is done, it closes the eventfd and frees everything.
 *
 * Throws an Error that names what failed, with `errno`, `code` and `syscall` where it was a call.
 */
export function startLookupThread(
  call: LookupCall,
  values: readonly LookupArgument[],
  bellFd: number,
): LookupThread {
  library ??= compile();
  const size = sizeOf(values);
  const image = new Uint8Array(size);
  const view = new DataView(image.buffer);
  const setAddress = (at: number, value: number) => view.setBigInt64(at, BigInt(value), true);
  const state = mapShared(size, WHAT);
  const places: (number | undefined)[] = [];
  let free = MEMORY_OFFSET;
  setAddress(FUNCTION_OFFSET, addressOfFunction(call));
  for (const [i, value] of values.entries()) {
    const at = ARGUMENTS_OFFSET + 8 * i;
    if (typeof value === "number") setAddress(at, value);
    else if (value === "list") setAddress(at, state + LIST_OFFSET);
    else {
      setAddress(at, state + free);
      image.set(value, free);
      places[i] = free;
      free = (free + value.length + 7) & ~7;
    }
  }
  setAddress(SIZE_OFFSET, size);
  view.setInt32(BELL_OFFSET, bellFd, true);
  image.set(Buffer.from(LOOKUP_THREAD_NAME), NAME_OFFSET);
  libc.memcpy(state, image, size);
  const result = library.start(state as Pointer, library.run);
  if (result < 0) {
    libc.munmap(state, size);
    throw startFailure(WHAT, result, "pthread_create");
  }
  return {
    isDone: () => readMemory(state + DONE_OFFSET, 1)[0] === 1,
    finish() {
      const bytes = readMemory(state, size);
      libc.munmap(state, size);
      const answer = new DataView(bytes.buffer);
      return {
        result: answer.getInt32(RESULT_OFFSET, true),
        errno: answer.getInt32(ERRNO_OFFSET, true),
        list: Number(answer.getBigUint64(LIST_OFFSET, true)),
        memory: values.map((value, i) => {
          const at = places[i];
          return at === undefined
            ? undefined
            : bytes.subarray(at, at + (value as Uint8Array).length);
        }),
        places: values.map((_, i) => (places[i] === undefined ? 0 : state + places[i])),
      };
    },
  };
}

// Whole pages.
function sizeOf(values: readonly LookupArgument[]): number {
  let bytes = MEMORY_OFFSET;
  for (const value of values) if (typeof value === "object") bytes += (value.length + 7) & ~7;
  return Math.max(STATE_BYTES_MIN, Math.ceil(bytes / STATE_BYTES_MIN) * STATE_BYTES_MIN);
}

function compile(): Library {
  const numbers = HELPER_SYSTEM_CALLS[process.arch === "arm64" ? "arm64" : "x64"];
  const copied = compileFreestanding({
    what: WHAT,
    file: "lookup_thread.c",
    text: SOURCE,
    functions: FUNCTIONS,
    define: {
      SYS_GETTID: `${numbers.gettid}`,
      SYS_TGKILL: `${numbers.tgkill}`,
    },
    symbols: ["run", "start"],
    memfdCreateNumber: numbers.memfd_create,
  });
  const { symbols } = ffi().linkSymbols({
    start: { args: ["ptr", "ptr"], returns: "i32", ptr: copied.start as Pointer },
  });
  return { ...symbols, run: copied.run as Pointer };
}
