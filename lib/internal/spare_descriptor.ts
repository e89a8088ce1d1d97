import { EFD_CLOEXEC } from "../../structs/constants/sys_eventfd.ts";
import { eventfd } from "../sys/eventfd.ts";
import { close } from "../sys/unistd.ts";

/** What was not closed in time is closed when its owner was collected. */
let net: FinalizationRegistry<{ fd: number }> | undefined;

/**
 * A descriptor that is kept for when there are no more: without one, a connection could not even be
 * taken to be refused, and would ring for ever.
 */
export class SpareDescriptor {
  readonly #held = { fd: -1 };

  constructor() {
    net ??= new FinalizationRegistry((held) => {
      if (held.fd >= 0) close(held.fd);
    });
    net.register(this, this.#held);
    this.take();
  }

  /** Gives the descriptor back. Returns false when there was none. */
  give(): boolean {
    const { fd } = this.#held;
    this.#held.fd = -1;
    if (fd >= 0) close(fd);
    return fd >= 0;
  }

  /** Takes one again, where there is one. */
  take(): void {
    // What it is does not matter, as long as it costs nothing.
    if (this.#held.fd < 0) this.#held.fd = eventfd(0, EFD_CLOEXEC);
  }
}
