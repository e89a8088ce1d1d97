/** Something that is due at a time of `performance.now()`. */
export interface Alarm {
  dueAt: number;
  /** Its place among the alarms, or -1 when it is not set. Theirs to change. */
  place: number;
  due(): void;
}

// setTimeout takes an int: a longer wait is made in parts.
const TIMEOUT_MS_MAX = 2 ** 31 - 1;

/**
 * Any number of alarms on one timer, in a binary heap: each alarm knows its place, so that it can be
 * taken out. The timer never keeps the process alive: what waits for an alarm does.
 */
export class Alarms {
  readonly #heap: Alarm[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When the timer goes off: never later than the first alarm. */
  #timerAt = Number.POSITIVE_INFINITY;

  /** How many are set. */
  get size(): number {
    return this.#heap.length;
  }

  /** Sets an alarm that is not set. */
  set(alarm: Alarm, dueAt: number): void {
    alarm.dueAt = dueAt;
    this.#heap.push(alarm);
    this.#rise(alarm, this.#heap.length - 1);
    this.#schedule();
  }

  /** Takes an alarm out. Does nothing when it is not set. */
  cancel(alarm: Alarm): void {
    const { place } = alarm;
    if (place < 0) return;
    alarm.place = -1;
    const last = this.#heap.pop() as Alarm;
    if (last === alarm) return;
    this.#rise(last, place);
    this.#sink(last, last.place);
  }

  /** Stops the timer. Alarms that are still set are forgotten. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timerAt = Number.POSITIVE_INFINITY;
    for (const alarm of this.#heap.splice(0)) alarm.place = -1;
  }

  // A timer that goes off too early finds nothing due: cheaper than to set it anew for each alarm.
  #schedule(): void {
    const first = this.#heap[0];
    if (!first || first.dueAt >= this.#timerAt) return;
    clearTimeout(this.#timer);
    const delay = Math.min(Math.max(Math.ceil(first.dueAt - performance.now()), 0), TIMEOUT_MS_MAX);
    this.#timerAt = first.dueAt;
    this.#timer = setTimeout(this.#ring, delay);
    this.#timer.unref();
  }

  readonly #ring = (): void => {
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    for (let first = this.#heap[0]; first && first.dueAt <= now; first = this.#heap[0]) {
      this.cancel(first);
      first.due();
    }
    this.#schedule();
  };

  #rise(alarm: Alarm, from: number): void {
    let place = from;
    while (place > 0) {
      const above = (place - 1) >> 1;
      const parent = this.#heap[above] as Alarm;
      if (parent.dueAt <= alarm.dueAt) break;
      this.#put(parent, place);
      place = above;
    }
    this.#put(alarm, place);
  }

  #sink(alarm: Alarm, from: number): void {
    let place = from;
    for (;;) {
      let below = 2 * place + 1;
      const right = this.#heap[below + 1];
      if (right && right.dueAt < (this.#heap[below] as Alarm).dueAt) below++;
      const child = this.#heap[below];
      if (!child || child.dueAt >= alarm.dueAt) break;
      this.#put(child, place);
      place = below;
    }
    this.#put(alarm, place);
  }

  #put(alarm: Alarm, place: number): void {
    this.#heap[place] = alarm;
    alarm.place = place;
  }
}
