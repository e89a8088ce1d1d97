/**
 * Alarms against a sorted list, under a clock that stands still until it is told to go on; and a few
 * on the real one.
 */
import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import { type Alarm, Alarms } from "../../lib/internal/alarms.ts";

const TIMEOUT_MS_MAX = 2 ** 31 - 1;
const START = 1000;
const RINGS_MAX = 10_000;

interface FakeTimer {
  readonly at: number;
  readonly ring: () => void;
  isRef: boolean;
}

/** Stands for performance.now() and setTimeout until the end of the block. */
class FakeClock implements Disposable {
  now = START;
  /** The timers that are set. */
  readonly timers = new Set<FakeTimer>();
  /** What setTimeout was told, each time. */
  readonly delays: number[] = [];
  readonly #spies = [
    spyOn(performance, "now").mockImplementation(() => this.now),
    spyOn(globalThis, "setTimeout").mockImplementation(((ring: () => void, delay: number) => {
      this.delays.push(delay);
      const timer: FakeTimer = { at: this.now + delay, ring, isRef: true };
      this.timers.add(timer);
      return Object.assign(timer, {
        unref() {
          timer.isRef = false;
        },
      });
    }) as unknown as typeof setTimeout),
    spyOn(globalThis, "clearTimeout").mockImplementation(((timer: FakeTimer) => {
      this.timers.delete(timer);
    }) as unknown as typeof clearTimeout),
  ];

  /** Lets time pass; every timer goes off when its time has come, and `lateMs` after it. */
  advance(ms: number, lateMs = 0): void {
    const end = this.now + ms;
    for (let rings = 0; ; rings++) {
      if (rings > RINGS_MAX) throw new Error("the timer goes off again and again for nothing");
      const [next] = [...this.timers].sort((left, right) => left.at - right.at);
      if (!next || next.at > end) break;
      this.timers.delete(next);
      this.now = Math.max(this.now, next.at + lateMs);
      next.ring();
    }
    this.now = Math.max(this.now, end);
  }

  [Symbol.dispose](): void {
    for (const spy of this.#spies) spy.mockRestore();
  }
}

/** An alarm that says when it was due, and when it rang. */
class Rung implements Alarm {
  dueAt = 0;
  place = -1;
  readonly #due: (alarm: Rung) => void;

  constructor(due: (alarm: Rung) => void) {
    this.#due = due;
  }

  due(): void {
    this.#due(this);
  }
}

type Step =
  | { readonly do: "set"; readonly ms: number }
  | { readonly do: "cancel"; readonly which: number }
  | { readonly do: "pass"; readonly ms: number };

const FAR = [2 ** 31 - 2, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 0.5, 3 * 2 ** 31, 2 ** 40];
const milliseconds = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: -5, max: 30 }) },
  { weight: 2, arbitrary: fc.double({ min: 0, max: 30, noNaN: true }) },
  { weight: 1, arbitrary: fc.constantFrom(...FAR) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("set" as const), ms: milliseconds }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("cancel" as const), which: fc.nat(99) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("pass" as const), ms: milliseconds.map(Math.abs) }),
  },
);

test("Alarms does what a sorted list does, on one timer that never keeps the process alive", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), fc.nat(3), (steps, lateMs) => {
      using clock = new FakeClock();
      const alarms = new Alarms();
      let model: Rung[] = [];
      const rung: Rung[] = [];
      const checkTimer = () => {
        expect(alarms.size).toBe(model.length);
        expect(clock.timers.size).toBeLessThanOrEqual(1);
        const [timer] = clock.timers;
        expect(timer?.isRef ?? false).toBe(false);
        // It may go off too early, and never too late; the longest wait is a part of one.
        const first = model[0];
        if (!first) return;
        const latest = Math.max(first.dueAt, clock.now) + 1;
        expect(timer?.at).toBeLessThanOrEqual(Math.min(latest, clock.now + TIMEOUT_MS_MAX));
      };
      for (const step of steps) {
        if (step.do === "set") {
          const alarm = new Rung((alarm) => {
            expect(alarm.place).toBe(-1);
            rung.push(alarm);
          });
          alarms.set(alarm, clock.now + step.ms);
          expect(alarm.dueAt).toBe(clock.now + step.ms);
          model.push(alarm);
          model.sort((left, right) => left.dueAt - right.dueAt);
        } else if (step.do === "cancel") {
          // Also those that have rung, or were taken out before: nothing happens then.
          const known = [...model, ...rung];
          const alarm = known[step.which % Math.max(known.length, 1)];
          if (alarm) alarms.cancel(alarm);
          if (alarm) expect(alarm.place).toBe(-1);
          model = model.filter((other) => other !== alarm);
        } else {
          const before = rung.length;
          clock.advance(step.ms, lateMs);
          const due = model.filter(({ dueAt }) => dueAt <= clock.now - 1 - lateMs);
          const came = rung.slice(before);
          // All that were due, in order, and none that was not.
          expect(due.filter((alarm) => !came.includes(alarm))).toEqual([]);
          expect(came.filter((alarm) => !model.includes(alarm) || alarm.dueAt > clock.now)).toEqual(
            [],
          );
          model = model.filter((alarm) => !came.includes(alarm));
          const times = came.map(({ dueAt }) => dueAt);
          expect(times).toEqual([...times].sort((left, right) => left - right));
        }
        checkTimer();
      }
      clock.advance(2 ** 42);
      expect(alarms.size).toBe(0);
      expect(new Set(rung).size).toBe(rung.length);
      expect(model.filter((alarm) => !rung.includes(alarm))).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test("Alarms keeps its order when any of many are taken out", () => {
  const many = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 20, maxLength: 200 });
  fc.assert(
    fc.property(many, fc.array(fc.nat(199), { maxLength: 150 }), (times, out) => {
      using clock = new FakeClock();
      const alarms = new Alarms();
      const rung: number[] = [];
      const set = times.map((ms) => {
        const alarm = new Rung(({ dueAt }) => rung.push(dueAt));
        alarms.set(alarm, START + ms);
        return alarm;
      });
      const cancelled = new Set(out.map((i) => set[i % set.length] as Rung));
      for (const alarm of cancelled) alarms.cancel(alarm);
      clock.advance(2000);
      const left = set.filter((alarm) => !cancelled.has(alarm)).map(({ dueAt }) => dueAt);
      expect(rung).toEqual(left.sort((left, right) => left - right));
    }),
    { numRuns: 300 },
  );
});

test("Alarms rings the first at its time, and the next at theirs", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const rung: [dueAt: number, now: number][] = [];
  const set = (ms: number) =>
    alarms.set(new Rung(({ dueAt }) => rung.push([dueAt - START, clock.now - START])), START + ms);
  for (const ms of [30, 10, 20, 10]) set(ms);
  clock.advance(9);
  expect(rung).toEqual([]);
  clock.advance(1);
  expect(rung).toEqual([
    [10, 10],
    [10, 10],
  ]);
  clock.advance(100);
  expect(rung.slice(2)).toEqual([
    [20, 20],
    [30, 30],
  ]);
});

test("Alarms waits for more than 2^31 milliseconds in parts, and rings once", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const rung: number[] = [];
  const far = 5 * 2 ** 31 + 7;
  alarms.set(new Rung(() => rung.push(clock.now)), START + far);
  clock.advance(far - 1);
  expect(rung).toEqual([]);
  clock.advance(1);
  expect(rung).toEqual([START + far]);
  expect(Math.max(...clock.delays)).toBeLessThanOrEqual(TIMEOUT_MS_MAX);
  expect(clock.delays.length).toBe(6);
});

test("Alarms rings at once for a time that has passed, but not before set() returns", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  let rings = 0;
  alarms.set(new Rung(() => rings++), START - 500);
  expect(rings).toBe(0);
  clock.advance(0);
  expect(rings).toBe(1);
  expect(clock.delays).toEqual([0]);
});

test("Alarms sets no timer anew for an alarm that comes later than the first", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const ignore = () => {};
  alarms.set(new Rung(ignore), START + 10);
  for (let i = 0; i < 1000; i++) alarms.set(new Rung(ignore), START + 10 + i);
  expect(clock.delays).toHaveLength(1);
});

test("Alarms sets few timers for calls that each have a deadline and are answered before", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  for (let i = 0; i < 1000; i++) {
    const alarm = new Rung(() => expect.unreachable());
    alarms.set(alarm, clock.now + 500);
    clock.advance(1);
    alarms.cancel(alarm);
  }
  expect(alarms.size).toBe(0);
  expect(clock.delays.length).toBeLessThanOrEqual(5);
});

test("an alarm that rings may set others, itself, and take others out", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const rung: string[] = [];
  const sibling = new Rung(() => rung.push("sibling"));
  const late = new Rung(() => rung.push("late"));
  const again = new Rung((alarm) => {
    rung.push(`again at ${clock.now - START}`);
    if (clock.now < START + 30) alarms.set(alarm, clock.now + 10);
  });
  const first = new Rung(() => {
    rung.push("first");
    alarms.cancel(sibling);
    alarms.set(late, clock.now + 5);
    alarms.set(new Rung(() => rung.push("at once")), clock.now);
  });
  alarms.set(first, START + 10);
  alarms.set(sibling, START + 10.5);
  alarms.set(again, START + 11);
  clock.advance(100, 1);
  expect(rung[0]).toBe("first");
  expect(rung).not.toContain("sibling");
  expect(rung).toContain("at once");
  expect(rung).toContain("late");
  expect(rung.filter((text) => text.startsWith("again")).length).toBeGreaterThan(1);
  expect(alarms.size).toBe(0);
  expect(clock.timers.size).toBe(0);
});

test("cancel() of an alarm that is not set does nothing", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const set = new Rung(() => {});
  alarms.set(set, START + 10);
  alarms.cancel(new Rung(() => {}));
  expect(alarms.size).toBe(1);
  alarms.cancel(set);
  alarms.cancel(set);
  expect(alarms.size).toBe(0);
  clock.advance(100);
});

test("close() forgets all alarms and its timer, and the next alarm has one again", () => {
  using clock = new FakeClock();
  const alarms = new Alarms();
  const forgotten = [10, 20, 30].map(() => new Rung(() => expect.unreachable()));
  for (const [i, alarm] of forgotten.entries()) alarms.set(alarm, START + 10 * i);
  alarms.close();
  expect(alarms.size).toBe(0);
  expect(clock.timers.size).toBe(0);
  expect(forgotten.map(({ place }) => place)).toEqual([-1, -1, -1]);
  clock.advance(100);
  let rings = 0;
  alarms.set(new Rung(() => rings++), clock.now + 10);
  clock.advance(10);
  expect(rings).toBe(1);
});

test("on the real clock no alarm rings before its time", async () => {
  const alarms = new Alarms();
  const early: number[] = [];
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = 200;
  for (let i = 0; i < 200; i++) {
    const alarm = new Rung(({ dueAt }) => {
      const now = performance.now();
      if (now < dueAt) early.push(dueAt - now);
      if (--left === 0) resolve();
    });
    alarms.set(alarm, performance.now() + Math.random() * 100);
  }
  // The timer of the alarms keeps nothing alive.
  const alive = setInterval(() => {}, 1000);
  await promise;
  clearInterval(alive);
  expect(early).toEqual([]);
});

test("an alarm that is set does not keep the process alive", () => {
  const path = JSON.stringify(join(import.meta.dir, "../../lib/internal/alarms.ts"));
  const script = `
    const { Alarms } = await import(${path});
    const alarms = new Alarms();
    const alarm = { dueAt: 0, place: -1, due: () => console.log("rang") };
    for (const ms of [600_000, 300_000, 2 ** 33])
      alarms.set({ ...alarm }, performance.now() + ms);
    process.on("exit", () => console.log("set: " + alarms.size));
  `;
  const child = Bun.spawnSync([process.execPath, "-e", script], { timeout: 20_000 });
  expect(child.stderr.toString()).toBe("");
  expect(child.stdout.toString()).toBe("set: 3\n");
  expect(child.exitCode).toBe(0);
});
