import { type HelperThread, startHelperThread } from "../ffi/helper_thread.ts";
import type { Doorbell, Ringer } from "./ringer.ts";

/**
 * Rings by a helper thread, where io_uring is not allowed: it polls the epoll set, rings, and waits
 * until it is armed again.
 */
export class ThreadRinger implements Ringer {
  readonly #thread: HelperThread;

  constructor(epollFd: number, bell: Doorbell) {
    // They outlive this thread when it is a Worker that is terminated.
    this.#thread = startHelperThread(epollFd, bell.fd, [epollFd, bell.fd]);
  }

  arm(): number {
    this.#thread.arm();
    return 0;
  }

  setRef(): void {}

  stop(): void {
    this.#thread.stop();
  }
}
