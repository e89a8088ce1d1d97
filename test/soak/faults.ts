/**
 * Faults that lose a wake-up, planted below the library: with them it is tested that one is found.
 *
 * @module
 */
import { EPOLL_CTL_ADD, IORING_SETUP_DEFER_TASKRUN } from "bun-sockets/sys";
import type { Libc } from "../../lib/ffi/libc.ts";
import { io_uring_params } from "../../structs/io_uring_params.ts";
import { replaceLibc } from "../support/faults.ts";

/** One call in so many does nothing: the poller has long started, and goes to sleep between two. */
const LOSE_EVERY = 200;

// Lets a call give its result without doing anything, now and then.
function lose<Name extends keyof Libc>(
  name: Name,
  result: number,
  isMeant: (values: readonly unknown[]) => boolean = () => true,
): void {
  let calls = 0;
  replaceLibc(name, (original) => {
    const call = original as (...values: unknown[]) => unknown;
    const losing = (...values: unknown[]) =>
      isMeant(values) && ++calls % LOSE_EVERY === 0 ? result : call(...values);
    return losing as Libc[Name];
  });
}

const FAULTS = {
  "io_uring is not armed": () => lose("io_uring_enter", 2),
  "the thread is not armed": () => lose("write", 8),
  "a socket is not added to the set": () =>
    lose("epoll_ctl", 0, ([, operation]) => operation === EPOLL_CTL_ADD),
  "events are fetched and forgotten": () => {
    let calls = 0;
    replaceLibc("epoll_wait", (original) => (...values) => {
      const count = original(...values);
      return count > 0 && ++calls % LOSE_EVERY === 0 ? 0 : count;
    });
  },
  "io_uring rings only when it is entered": () => {
    replaceLibc("io_uring_setup", (original) => (number, entries, params) => {
      const view = params as DataView;
      const flags = io_uring_params.flags.get(view, 0) | IORING_SETUP_DEFER_TASKRUN;
      io_uring_params.flags.set(view, 0, flags);
      return original(number, entries, params);
    });
  },
} as const;

/** The name of a fault. */
export type FaultName = keyof typeof FAULTS;

/** Plants a fault in this process. */
export function plant(name: FaultName): void {
  FAULTS[name]();
}
