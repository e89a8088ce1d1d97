import { requireBoolean } from "./internal/arguments.ts";
import { loadModule } from "./internal/descriptor.ts";
import { loadPoller } from "./internal/lazy_poller.ts";
import type { DoorbellName, RingerName } from "./internal/ringer.ts";
import type * as turn from "./internal/turn.ts";

/** Something that the poller tried and does not use, and why. */
export interface PollerRefusal {
  readonly name: RingerName | DoorbellName;
  readonly reason: string;
}

/** What the poller has done so far. */
export interface PollerCounters {
  /** How often the event loop was woken. */
  readonly wakeUps: number;
  /** Events that the kernel told of. */
  readonly events: number;
  /** Wake-ups without an event, and events that nobody waited for. */
  readonly spurious: number;
  /** Calls, iterators and handlers that wait now. */
  readonly waiters: number;
}

/**
 * What waits for all sockets of this thread: an epoll set, a bell on Bun's event loop, and a ringer
 * outside of JavaScript that rings it when a socket is ready. It starts with the first call that has
 * to wait; each Worker has its own.
 *
 * There are three ringers. "io_uring" costs least; container runtimes often forbid it. "thread" is a
 * helper thread in C. "timer" needs nothing, and looks every 1 to 10 ms. The first is taken that was
 * heard when it was tried. The environment variable `BUN_SOCKETS_RINGER` forces one: then every call
 * that has to wait fails where that one does not work.
 *
 * @see {@link https://man7.org/linux/man-pages/man7/epoll.7.html | epoll(7)}
 */
class Poller {
  /** The ringer in use. Undefined until it was chosen. */
  get ringer(): RingerName | undefined {
    return loadPoller().ringerName;
  }

  /** How Bun's loop hears it: "socket", or "eventfd" where that does not work. */
  get doorbell(): DoorbellName | undefined {
    return loadPoller().doorbellName;
  }

  /** What was tried and is not used, and why. */
  get refusals(): readonly PollerRefusal[] {
    return [...loadPoller().refusals];
  }

  /** What it has done so far. */
  get counters(): PollerCounters {
    const { wakeUps, events, spurious, waiters } = loadPoller();
    return { wakeUps, events, spurious, waiters };
  }

  /**
   * How long the promise forms, iterators and handlers of this thread may go on in one turn of the
   * event loop, together: milliseconds, default 1. What could be answered at once is answered in the
   * next turn when this is spent, so that no loop of `await` starves timers or other sockets. One step
   * of a handler is never cut: a batch should be worked off in less. Infinity switches it off.
   *
   * @throws {RangeError} it is NaN or negative
   */
  get turnBudgetMs(): number {
    return loadTurn().turnBudgetMs;
  }

  set turnBudgetMs(ms: number) {
    if (typeof ms !== "number")
      throw new TypeError(
        `Cannot use a value of type ${typeof ms} as turnBudgetMs: expected a number`,
      );
    if (!(ms >= 0))
      throw new RangeError(`Cannot use ${ms} as turnBudgetMs: expected 0 or more milliseconds`);
    loadTurn().setTurnBudget(ms);
  }

  /**
   * Whether the thread looks for datagrams all the time while something waits, instead of being woken:
   * the least latency, for a core. Timers and everything else have their turn every `turnBudgetMs`.
   * Default false. Sockets that wait get `SO_BUSY_POLL` where that is allowed (CAP_NET_ADMIN): the
   * kernel then asks the network device, too.
   *
   * @see {@link https://man7.org/linux/man-pages/man7/socket.7.html | socket(7)}
   */
  get busyPoll(): boolean {
    return loadPoller().isBusy;
  }

  set busyPoll(busyPoll: boolean) {
    requireBoolean(busyPoll, "busyPoll");
    loadPoller().isBusy = busyPoll;
  }
}

function loadTurn(): typeof turn {
  return loadModule(() => require("./internal/turn.ts"));
}

export type { Poller };

/** The poller of this thread. */
export const poller: Poller = new Poller();
