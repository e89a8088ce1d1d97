/**
 * The runs that a sink knows: one for each `blast` that sends to it.
 *
 * @module
 */
import type { InetAddress } from "bun-sockets";
import { Arrivals } from "./arrivals.ts";
import { runText } from "./probe.ts";
import { Spread } from "./spread.ts";

/** Runs that are told apart at a time: whoever makes up more of them is a stranger. */
export const RUNS_MAX = 256;
// As long as there are no more than these, all of them are kept to the end.
const RUNS_KEPT = RUNS_MAX / 2;
/** How long a run is quiet until it counts as over: one whose end was heard, and any other. */
const OVER_MS = 10_000;
const SILENT_MS = 60_000;

/** One sender's run. */
export class SenderRun {
  readonly run: string;
  readonly from: InetAddress | undefined;
  readonly arrivals = new Arrivals();
  readonly delays = new Spread();
  /** Delays below 0: the clocks differ. */
  negative = 0;
  /** Of what counts, payload. */
  bytes = 0;
  /** Payload of the first one. */
  firstBytes = 0;
  /** Datagrams of the longest train, as the kernel has given them. */
  train = 1;
  /** When the first one came, by the kernel's clock. */
  readonly #seconds: number;
  readonly #nanoseconds: number;
  /** From then to the last one. */
  durationNs = 0;
  /** What there was when it was last told of. */
  told = { received: 0, bytes: 0, lost: 0, duplicates: 0, reordered: 0 };
  /** Everything that came of it, when that was last looked at, and since when it is the same. */
  #seen = -1;
  #quietSince = 0;

  constructor(run: number, from: InetAddress | undefined, seconds: number, nanoseconds: number) {
    this.run = runText(run);
    // A socket for both families sees IPv4 as a part of IPv6.
    this.from = from?.family === "ipv6" ? from.unmap() : from;
    this.#seconds = seconds;
    this.#nanoseconds = nanoseconds;
  }

  /** Notes when one came. */
  came(seconds: number, nanoseconds: number): void {
    const sinceNs = (seconds - this.#seconds) * 1e9 + (nanoseconds - this.#nanoseconds);
    if (sinceNs > this.durationNs) this.durationNs = sinceNs;
  }

  /** Looks at it, at a time in milliseconds. Tells whether nothing more is to be expected. */
  isOver(now: number): boolean {
    const { received, duplicates, tooLate, sent } = this.arrivals;
    const seen = received + duplicates + tooLate;
    if (seen !== this.#seen) {
      this.#seen = seen;
      this.#quietSince = now;
    }
    return now - this.#quietSince >= (sent === undefined ? SILENT_MS : OVER_MS);
  }
}

/** All of them, in bounded memory however many come and go. */
export class Runs implements Iterable<SenderRun> {
  readonly #runs = new Map<number, SenderRun>();

  /** How many there are. */
  get count(): number {
    return this.#runs.size;
  }

  [Symbol.iterator](): IterableIterator<SenderRun> {
    return this.#runs.values();
  }

  /** Finds one. */
  get(run: number): SenderRun | undefined {
    return this.#runs.get(run);
  }

  /** Begins one, or gives undefined where there are too many. */
  begin(
    run: number,
    from: InetAddress | undefined,
    seconds: number,
    nanoseconds: number,
  ): SenderRun | undefined {
    if (this.#runs.size >= RUNS_MAX) return undefined;
    const made = new SenderRun(run, from, seconds, nanoseconds);
    this.#runs.set(run, made);
    return made;
  }

  /**
   * Takes out those that are over, where there are many, and gives them; to be asked once a second.
   * A sink that is there for days has room for those who come then.
   */
  takeOver(now: number): SenderRun[] {
    const over: SenderRun[] = [];
    for (const [run, sender] of this.#runs) {
      if (!sender.isOver(now) || this.#runs.size <= RUNS_KEPT) continue;
      this.#runs.delete(run);
      over.push(sender);
    }
    return over;
  }
}
