/**
 * The helper thread: it waits where JavaScript cannot, and rings when an epoll set is ready.
 *
 * It is C, compiled by Bun's own compiler when the first one is started.
 *
 * @module
 */
import type { Pointer } from "bun:ffi";
import { compileFreestanding, mapShared, startFailure } from "./freestanding.ts";
import { ffi, libc } from "./libc.ts";

/** A running thread that polls an epoll set. */
export interface HelperThread {
  /** The eventfd by which the thread is armed and stopped. It belongs to the thread. */
  readonly fd: number;
  /**
   * Asks for one ring as soon as the epoll set is ready, which may be now. Asked again before that
   * ring, it is still one. Does nothing after `stop`.
   */
  arm(): void;
  /**
   * Sets what the thread closes when its JavaScript thread has ended without `stop`, in place of
   * what was set before: at most OWNED_MAX descriptors that nobody else closes. Does nothing after
   * `stop`.
   */
  own(fds: readonly number[]): void;
  /**
   * Ends the thread, waits for its end, and closes `fd`; what was given to `own` stays open. Does
   * nothing the second time.
   */
  stop(): void;
}

/** How many descriptors a helper thread can own. */
export const OWNED_MAX = 8;

/** The name of the thread, as ps and top show it. The kernel keeps 15 bytes. */
export const HELPER_THREAD_NAME = "bun-sockets";

/** The numbers of the system calls that not every libc has a function for. */
export const HELPER_SYSTEM_CALLS = {
  x64: { gettid: 186, tgkill: 234, memfd_create: 319, pidfd_open: 434 },
  arm64: { gettid: 178, tgkill: 131, memfd_create: 279, pidfd_open: 434 },
} as const;

// How often a thread looks for its JavaScript thread where the kernel cannot tell: before 6.9.
const LOOK_MS = 1000;

// Where `struct state` has the descriptors that the thread owns, their count before them, and its
// name.
const OWNED_OFFSET = 0;
const NAME_OFFSET = (1 + OWNED_MAX) * Int32Array.BYTES_PER_ELEMENT;
const STATE_BYTES = 4096;

/** As it stands in errors. */
const WHAT = "the helper thread";

// What libc has to have. Each is handed to the C source by its address.
const FUNCTIONS = [
  "__errno_location",
  "close",
  "eventfd",
  "getpid",
  "munmap",
  "poll",
  "prctl",
  "pthread_create",
  "pthread_detach",
  "pthread_join",
  "pthread_self",
  "pthread_sigmask",
  "read",
  "send",
  "sigfillset",
  "syscall",
  "usleep",
  "write",
] as const;

// What `step` says: the call that failed.
const STEPS = ["", "eventfd", "pthread_sigmask", "pthread_create"] as const;

const SOURCE = `
typedef unsigned long size_t;
typedef long ssize_t;
struct pollfd { int fd; short events, revents; };

#define c_errno (*((int *(*)(void))__ERRNO_LOCATION)())
#define c_close ((int (*)(int))CLOSE)
#define c_eventfd ((int (*)(unsigned, int))EVENTFD)
#define c_getpid ((int (*)(void))GETPID)
#define c_munmap ((int (*)(void *, size_t))MUNMAP)
#define c_poll ((int (*)(struct pollfd *, unsigned long, int))POLL)
#define c_prctl ((int (*)(int, char *, long, long, long))PRCTL)
#define c_pthread_create \\
  ((int (*)(unsigned long *, void *, void *, void *))PTHREAD_CREATE)
#define c_pthread_detach ((int (*)(unsigned long))PTHREAD_DETACH)
#define c_pthread_join ((int (*)(unsigned long, void **))PTHREAD_JOIN)
#define c_pthread_self ((unsigned long (*)(void))PTHREAD_SELF)
#define c_pthread_sigmask ((int (*)(int, void *, void *))PTHREAD_SIGMASK)
#define c_read ((ssize_t (*)(int, void *, size_t))READ)
#define c_send ((ssize_t (*)(int, void *, size_t, int))SEND)
#define c_sigfillset ((int (*)(void *))SIGFILLSET)
#define c_syscall ((long (*)(long, long, long, long))SYSCALL)
#define c_usleep ((int (*)(unsigned))USLEEP)
#define c_write ((ssize_t (*)(int, void *, size_t))WRITE)

enum {
  POLLIN = 1, POLLNVAL = 0x20,
  EINTR = 4, ESRCH = 3, ENOMEM = 12, ENOTSOCK = 88, ENOBUFS = 105,
  EFD_NONBLOCK = 04000, EFD_CLOEXEC = 02000000,
  /* PIDFD_THREAD is O_EXCL. */
  PIDFD_THREAD = 0200,
  MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000,
  SIG_SETMASK = 2, PR_SET_NAME = 15
};

struct state {
  volatile int owned_count;
  volatile int owned[OWNED_MAX];
  char name[16];
  int arm_fd, epoll_fd, bell_fd;
  /* A pidfd of the JavaScript thread, or -1. */
  int watch_fd;
  int process_id, thread_id;
  volatile int stopped;
  /* The call that start() failed in: an index of STEPS. */
  int step;
  unsigned long thread;
};

void *run(struct state *state) {
  struct pollfd polled[3];
  int owned[OWNED_MAX];
  unsigned long value;
  int count, i, ready;
  int armed = 0, orphan = 0, is_socket = 1;
  int arm_fd = state->arm_fd, watch_fd = state->watch_fd;

  c_prctl(PR_SET_NAME, state->name, 0, 0, 0);
  for (;;) {
    /* poll() passes over negative descriptors. */
    polled[0].fd = watch_fd;
    polled[1].fd = arm_fd;
    polled[2].fd = armed ? state->epoll_fd : -1;
    for (i = 0; i < 3; i++) {
      polled[i].events = POLLIN;
      polled[i].revents = 0;
    }
    ready = c_poll(polled, 3, watch_fd < 0 ? LOOK_MS : -1);
    if (ready <= 0) {
      /* A poll that fails, for whatever reason, may fail again at once: the pause keeps the thread
         from spinning. */
      if (ready < 0) c_usleep(1000);
      if (watch_fd < 0 && c_syscall(SYS_TGKILL, state->process_id, state->thread_id, 0) < 0 &&
          c_errno == ESRCH) {
        orphan = 1;
        break;
      }
      continue;
    }
    if (polled[0].revents & POLLNVAL) {
      /* Somebody has closed the pidfd, which is not his: look every second instead. */
      watch_fd = -1;
      continue;
    }
    if (polled[0].revents) {
      orphan = 1;
      break;
    }
    /* Without its eventfd nobody could reach the thread any more. */
    if (polled[1].revents & POLLNVAL) break;
    if (polled[1].revents) {
      c_read(arm_fd, &value, sizeof value);
      if (state->stopped) break;
      armed = 1;
      /* What stands in polled[2] may be older than this arming, so it is asked again. */
      continue;
    }
    if (!polled[2].revents) continue;
    /* Also when the set was closed: JavaScript then finds out, and this thread waits for it. */
    armed = 0;
    value = 1;
    for (;;) {
      ready = is_socket
        ? c_send(state->bell_fd, &value, sizeof value, MSG_DONTWAIT | MSG_NOSIGNAL)
        : c_write(state->bell_fd, &value, sizeof value);
      if (ready >= 0) break;
      ready = c_errno;
      if (ready == ENOTSOCK && is_socket) {
        is_socket = 0;
        continue;
      }
      if (ready == EINTR) continue;
      if (ready == ENOBUFS || ready == ENOMEM) {
        /* The ring is owed: it is tried again, with an eye on the eventfd. */
        armed = 1;
        c_usleep(1000);
      }
      /* EAGAIN: the bell is full of rings that nobody has heard yet. Others: nobody listens. */
      break;
    }
  }
  if (!orphan) return 0;

  /* The mapping is this thread's now. Nothing of JavaScript is left that could use any of it. */
  count = state->owned_count;
  for (i = 0; i < count; i++) owned[i] = state->owned[i];
  c_munmap(state, STATE_BYTES);
  for (i = 0; i < count; i++) c_close(owned[i]);
  c_close(arm_fd);
  if (watch_fd >= 0) c_close(watch_fd);
  c_pthread_detach(c_pthread_self());
  return 0;
}

int start(struct state *state, void *run_copy, int epoll_fd, int bell_fd) {
  unsigned long all[16], old[16];
  int error;

  state->epoll_fd = epoll_fd;
  state->bell_fd = bell_fd;
  state->process_id = c_getpid();
  state->thread_id = c_syscall(SYS_GETTID, 0, 0, 0);
  state->step = 1;
  state->arm_fd = c_eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (state->arm_fd < 0) return -c_errno;
  /* Where this fails, the thread looks for itself. */
  state->watch_fd = c_syscall(SYS_PIDFD_OPEN, state->thread_id, PIDFD_THREAD, 0);
  if (state->watch_fd < 0) state->watch_fd = -1;
  state->step = 2;
  c_sigfillset(all);
  error = c_pthread_sigmask(SIG_SETMASK, all, old);
  if (!error) {
    state->step = 3;
    /* The thread inherits the mask. The engine's handlers belong on the engine's threads. */
    error = c_pthread_create(&state->thread, 0, run_copy, state);
    c_pthread_sigmask(SIG_SETMASK, old, 0);
  }
  if (!error) return state->arm_fd;
  c_close(state->arm_fd);
  if (state->watch_fd >= 0) c_close(state->watch_fd);
  return -error;
}

int step(struct state *state) { return state->step; }

void stop(struct state *state) {
  unsigned long value = 1;
  state->stopped = 1;
  while (c_write(state->arm_fd, &value, sizeof value) < 0 && c_errno == EINTR);
  c_pthread_join(state->thread, 0);
  c_close(state->arm_fd);
  if (state->watch_fd >= 0) c_close(state->watch_fd);
  c_munmap(state, STATE_BYTES);
}
`;

interface Library {
  /** The address of the function that the threads run. */
  readonly run: Pointer;
  readonly start: (state: Pointer, run: Pointer, epollFd: number, bellFd: number) => number;
  readonly step: (state: Pointer) => number;
  readonly stop: (state: Pointer) => void;
}

let library: Library | undefined;

// What arming writes.
const ONE = new BigUint64Array([1n]);

/**
 * Starts a thread that polls an epoll set and writes eight bytes, a uint64 of 1, to a bell each time
 * it was armed and the set is ready. A bell is a socket, or another descriptor that does not block;
 * one that is full is left as it is.
 *
 * The thread takes no signal. It keeps no process alive. When its JavaScript thread ends without
 * `stop`, as that of a terminated Worker does, it closes its own descriptors and those in `owned`,
 * and ends.
 *
 * Throws an Error that names what failed, with `errno`, `code` and `syscall` where it was a call.
 */
export function startHelperThread(
  epollFd: number,
  bellFd: number,
  owned: readonly number[] = [],
): HelperThread {
  const ownedBytes = encodeOwned(owned);
  library ??= compile();
  const { run, start, step, stop } = library;
  const state = mapShared(STATE_BYTES, WHAT);
  libc.memcpy(state + OWNED_OFFSET, ownedBytes, ownedBytes.byteLength);
  libc.memcpy(state + NAME_OFFSET, Buffer.from(HELPER_THREAD_NAME), HELPER_THREAD_NAME.length);
  const fd = start(state as Pointer, run, epollFd, bellFd);
  if (fd < 0) {
    const failed = STEPS[step(state as Pointer)] ?? "";
    libc.munmap(state, STATE_BYTES);
    throw startFailure(WHAT, fd, failed);
  }
  let running = true;
  return {
    fd,
    arm() {
      // The only failure is a counter at its maximum, which arms as well.
      if (running) libc.write(fd, ONE, ONE.byteLength);
    },
    own(fds) {
      const bytes = encodeOwned(fds);
      if (running) libc.memcpy(state + OWNED_OFFSET, bytes, bytes.byteLength);
    },
    stop() {
      if (!running) return;
      running = false;
      stop(state as Pointer);
    },
  };
}

/**
 * Tries what a helper thread takes, but the thread itself, and leaves nothing behind. Throws as
 * `startHelperThread`.
 */
export function tryHelperThread(): void {
  if (library) return;
  const { trial } = compileFreestanding({
    what: WHAT,
    file: "trial.c",
    text: "int trial(void) { return 1; }",
    functions: [],
    define: {},
    symbols: ["trial"],
    memfdCreateNumber: HELPER_SYSTEM_CALLS[process.arch === "arm64" ? "arm64" : "x64"].memfd_create,
  });
  // The page that it was copied to, of which it is the first function.
  libc.munmap(trial, 1);
}

// Each is there once: closed a second time, the number could already be another's.
function encodeOwned(fds: readonly number[]): Int32Array {
  const once = [...new Set(fds)];
  if (once.length > OWNED_MAX) {
    throw new RangeError(
      `Cannot give ${once.length} descriptors to a helper thread: it owns at most ${OWNED_MAX}`,
    );
  }
  const bytes = new Int32Array(1 + OWNED_MAX);
  bytes.set([once.length, ...once]);
  return bytes;
}

function compile(): Library {
  const numbers = HELPER_SYSTEM_CALLS[process.arch === "arm64" ? "arm64" : "x64"];
  const define: Record<string, string> = {
    OWNED_MAX: `${OWNED_MAX}`,
    STATE_BYTES: `${STATE_BYTES}`,
    LOOK_MS: `${LOOK_MS}`,
    SYS_GETTID: `${numbers.gettid}`,
    SYS_TGKILL: `${numbers.tgkill}`,
    SYS_PIDFD_OPEN: `${numbers.pidfd_open}`,
  };
  const copied = compileFreestanding({
    what: WHAT,
    file: "helper_thread.c",
    text: SOURCE,
    functions: FUNCTIONS,
    define,
    symbols: ["run", "start", "step", "stop"],
    memfdCreateNumber: numbers.memfd_create,
  });
  const { symbols } = ffi().linkSymbols({
    start: { args: ["ptr", "ptr", "i32", "i32"], returns: "i32", ptr: copied.start as Pointer },
    step: { args: ["ptr"], returns: "i32", ptr: copied.step as Pointer },
    stop: { args: ["ptr"], returns: "void", ptr: copied.stop as Pointer },
  });
  return { ...symbols, run: copied.run as Pointer };
}
