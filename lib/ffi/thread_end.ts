/**
 * What is done when a thread has ended, however that came: a Worker that is terminated runs no code
 * of its own any more, but its thread runs the destructors of pthread keys.
 *
 * It is C, compiled by Bun's own compiler.
 *
 * @module
 */
import type { Pointer } from "bun:ffi";
import { SO_COOKIE, SOL_SOCKET } from "../../structs/constants/sys_socket.ts";
import { compileFreestanding, mapShared } from "./freestanding.ts";
import { HELPER_SYSTEM_CALLS } from "./helper_thread.ts";
import { ffi, libc } from "./libc.ts";

/** The sockets that are to be closed when this thread has ended. */
export interface SocketsToClose {
  /** Adds a socket, by its number and by its cookie, which tells it from another one. */
  add(fd: number, cookieLow: number, cookieHigh: number): void;
  /** Forgets a number. */
  remove(fd: number): void;
}

/** Numbers from here on are not remembered: few threads have so many sockets. */
const NUMBERS = 1 << 16;
/** `struct table`: two words, then a cookie for each number. */
const HEAD_WORDS = 2;
const TABLE_BYTES = (HEAD_WORDS + 2 * NUMBERS) * Uint32Array.BYTES_PER_ELEMENT;

const WHAT = "the end of a thread";

const SOURCE = `
#define c_close ((int (*)(int))CLOSE)
#define c_getsockopt ((int (*)(int, int, int, void *, unsigned *))GETSOCKOPT)
#define c_munmap ((int (*)(void *, unsigned long))MUNMAP)
#define c_pthread_key_create ((int (*)(unsigned *, void *))PTHREAD_KEY_CREATE)
#define c_pthread_key_delete ((int (*)(unsigned))PTHREAD_KEY_DELETE)
#define c_pthread_setspecific ((int (*)(unsigned, void *))PTHREAD_SETSPECIFIC)

struct table {
  unsigned key;
  /* Numbers from here on have no cookie. */
  unsigned end;
  unsigned long cookies[NUMBERS];
};

void end(struct table *table) {
  unsigned fd, length;
  unsigned long cookie;
  for (fd = 0; fd < table->end; fd++) {
    if (!table->cookies[fd]) continue;
    cookie = 0;
    length = sizeof cookie;
    /* Somebody may have closed the number, and it may mean something else by now. */
    if (c_getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 &&
        cookie == table->cookies[fd])
      c_close(fd);
  }
  c_pthread_key_delete(table->key);
  c_munmap(table, sizeof *table);
}

int begin(struct table *table, void *end_copy) {
  int error = c_pthread_key_create(&table->key, end_copy);
  if (error) return -error;
  error = c_pthread_setspecific(table->key, table);
  if (!error) return 0;
  c_pthread_key_delete(table->key);
  return -error;
}
`;

/**
 * Has the sockets of this thread closed when it ends: those that are added and not removed until
 * then. Called once for each thread.
 *
 * Throws an Error where this machine does not allow it.
 */
export function closeSocketsAtEnd(): SocketsToClose {
  const arch = process.arch === "arm64" ? "arm64" : "x64";
  const { begin, end } = compileFreestanding({
    what: WHAT,
    file: "thread_end.c",
    text: SOURCE,
    functions: [
      "close",
      "getsockopt",
      "munmap",
      "pthread_key_create",
      "pthread_key_delete",
      "pthread_setspecific",
    ],
    define: { NUMBERS: `${NUMBERS}`, SOL_SOCKET: `${SOL_SOCKET}`, SO_COOKIE: `${SO_COOKIE}` },
    symbols: ["end", "begin"],
    memfdCreateNumber: HELPER_SYSTEM_CALLS[arch].memfd_create,
  });
  const table = mapShared(TABLE_BYTES, WHAT);
  const { symbols } = ffi().linkSymbols({
    begin: { args: ["ptr", "ptr"], returns: "i32", ptr: begin as Pointer },
  });
  const error = symbols.begin(table as Pointer, end as Pointer);
  if (error < 0) {
    libc.munmap(table, TABLE_BYTES);
    throw new Error(`Cannot watch ${WHAT}: ${error}`);
  }
  const words = new Uint32Array(ffi().toArrayBuffer(table as Pointer, 0, TABLE_BYTES));
  return {
    add(fd, cookieLow, cookieHigh) {
      if (fd >= NUMBERS) return;
      words[HEAD_WORDS + 2 * fd] = cookieLow;
      words[HEAD_WORDS + 2 * fd + 1] = cookieHigh;
      if (fd >= (words[1] as number)) words[1] = fd + 1;
    },
    remove(fd) {
      if (fd < NUMBERS) words.fill(0, HEAD_WORDS + 2 * fd, HEAD_WORDS + 2 * fd + 2);
    },
  };
}
