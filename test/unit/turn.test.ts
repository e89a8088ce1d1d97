/**
 * The time budget of a turn, under a clock that stands still until it is told to go on, and a loop
 * whose turns begin when the test says so. Each test has a module of its own: the poller's goes on
 * meanwhile.
 */
import { expect, spyOn, test } from "bun:test";
import { join } from "node:path";
import fc from "fast-check";
import type * as turn from "../../lib/internal/turn.ts";

type Turn = typeof turn;

const PATH = join(import.meta.dir, "../../lib/internal/turn.ts");
const NEVER = Number.POSITIVE_INFINITY;
let copies = 0;

function freshModule(): Promise<Turn> {
  return import(`${PATH}?copy=${++copies}`);
}

/** Stands for performance.now() and setImmediate until the end of the block. */
class FakeLoop implements Disposable {
  now = 5000;
  /** What is to be called when the next turn begins. */
  immediates: (() => void)[] = [];
  readonly #spies = [
    spyOn(performance, "now").mockImplementation(() => this.now),
    spyOn(globalThis, "setImmediate").mockImplementation(((work: () => void) => {
      this.immediates.push(work);
    }) as unknown as typeof setImmediate),
  ];

  /** The next turn begins: what was asked for before it comes, and what is asked for in it waits. */
  nextTurn(): void {
    for (const work of this.immediates.splice(0)) work();
  }

  [Symbol.dispose](): void {
    for (const spy of this.#spies) spy.mockRestore();
  }
}

/** How long calls that are answered at once may go on, in steps of that many milliseconds. */
function timeUntilSpent(turn: Turn, loop: FakeLoop, stepMs: number, limitMs: number): number {
  const started = loop.now;
  while (turn.hasTime() && loop.now - started < limitMs) loop.now += stepMs;
  return loop.now - started;
}

test("the budget is 1 ms", async () => {
  const turn = await freshModule();
  expect(turn.turnBudgetMs).toBe(1);
});

test("hasTime() is true for one to two thirds of the budget in one turn, and then no more", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  const lasted = timeUntilSpent(turn, loop, 0.01, 100);
  expect(lasted).toBeGreaterThan(0.34);
  expect(lasted).toBeLessThan(0.73);
  loop.now += 50;
  expect([turn.hasTime(), turn.hasTime()]).toEqual([false, false]);
});

test("hasTime() is true again in the next turn, with a whole budget", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  for (let turns = 0; turns < 5; turns++) {
    const lasted = timeUntilSpent(turn, loop, 0.01, 100);
    expect(lasted).toBeGreaterThan(0.34);
    expect(lasted).toBeLessThan(0.73);
    loop.nextTurn();
  }
});

test("the first call after a long silence has time: nobody said where the turn begins", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  loop.now += 60_000;
  expect(turn.hasTime()).toBe(true);
  loop.now += 0.3;
  expect(turn.hasTime()).toBe(true);
  loop.now += 0.1;
  expect(turn.hasTime()).toBe(false);
});

test("hasTime() asks for one immediate a turn, and for none while less than a third is spent", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  for (let i = 0; i < 1000; i++) turn.hasTime();
  loop.now += 0.34;
  turn.hasTime();
  expect(loop.immediates).toHaveLength(0);
  loop.now += 0.02;
  for (let i = 0; i < 1000; i++) turn.hasTime();
  loop.now += 5;
  for (let i = 0; i < 1000; i++) turn.hasTime();
  expect(loop.immediates).toHaveLength(1);
  loop.nextTurn();
  expect(loop.immediates).toHaveLength(0);
});

test("a turn that only asks for time does no work in the next one", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  let works = 0;
  turn.onNextTurn(() => works++);
  loop.now += 10;
  expect(turn.hasTime()).toBe(true);
  loop.nextTurn();
  expect(works).toBe(0);
});

test("endTurn() leaves this turn no time, and asks for the work of the next one", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  let works = 0;
  turn.onNextTurn(() => works++);
  turn.beginTurn();
  expect(turn.hasTime()).toBe(true);
  turn.endTurn();
  expect([turn.hasTime(), turn.hasTime(), works]).toEqual([false, false, 0]);
  loop.nextTurn();
  expect([turn.hasTime(), works]).toEqual([true, 1]);
});

test("isSpent() is true from the budget on, and false again when a turn begins", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  expect(turn.isSpent()).toBe(false);
  loop.now += 0.99;
  expect(turn.isSpent()).toBe(false);
  loop.now += 0.01;
  expect(turn.isSpent()).toBe(true);
  turn.beginTurn();
  expect(turn.isSpent()).toBe(false);
});

test("setTurnBudget() counts at once, for what goes on already", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  loop.now += 3;
  expect(turn.isSpent()).toBe(true);
  turn.setTurnBudget(10);
  expect(turn.turnBudgetMs).toBe(10);
  expect(turn.isSpent()).toBe(false);
  expect(turn.hasTime()).toBe(true);
  expect(loop.immediates).toHaveLength(0);
  turn.setTurnBudget(0.5);
  expect(turn.isSpent()).toBe(true);
});

test("with Infinity there is always time, and nothing is asked for", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.beginTurn();
  turn.setTurnBudget(NEVER);
  for (let i = 0; i < 100; i++) {
    loop.now += 1000;
    expect([turn.hasTime(), turn.isSpent()]).toEqual([true, false]);
  }
  expect(loop.immediates).toHaveLength(0);
});

test("Infinity counts in a turn that was spent before, and a limit after it too", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  timeUntilSpent(turn, loop, 0.1, 100);
  expect(turn.hasTime()).toBe(false);
  turn.setTurnBudget(NEVER);
  expect(turn.hasTime()).toBe(true);
  turn.setTurnBudget(1);
  expect(turn.hasTime()).toBe(false);
});

test("with 0 one call of each turn is answered at once", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  turn.setTurnBudget(0);
  for (let turns = 0; turns < 3; turns++) {
    expect([turn.hasTime(), turn.hasTime(), turn.hasTime()]).toEqual([true, false, false]);
    expect(turn.isSpent()).toBe(true);
    loop.nextTurn();
  }
});

test("continueNextTurn() has the work done once in the next turn, however often it was asked", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  let works = 0;
  turn.onNextTurn(() => works++);
  expect(turn.willContinue()).toBe(false);
  for (let i = 0; i < 10; i++) turn.continueNextTurn();
  expect(turn.willContinue()).toBe(true);
  expect(works).toBe(0);
  expect(loop.immediates).toHaveLength(1);
  loop.nextTurn();
  expect(works).toBe(1);
  expect(turn.willContinue()).toBe(false);
  loop.nextTurn();
  expect(works).toBe(1);
});

test("work and budget share one immediate", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  let works = 0;
  turn.onNextTurn(() => works++);
  loop.now += 10;
  turn.hasTime();
  turn.continueNextTurn();
  expect(loop.immediates).toHaveLength(1);
  loop.nextTurn();
  expect(works).toBe(1);
});

test("work begins with a whole budget, and what it asks for comes in the turn after", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  const spent: boolean[] = [];
  turn.onNextTurn(() => {
    spent.push(turn.isSpent());
    loop.now += 30;
    if (spent.length < 3) turn.continueNextTurn();
  });
  loop.now += 30;
  turn.continueNextTurn();
  for (let turns = 1; turns <= 3; turns++) {
    loop.nextTurn();
    expect(spent).toHaveLength(turns);
  }
  expect(spent).toEqual([false, false, false]);
  expect(loop.immediates).toHaveLength(0);
});

test("work that throws does not stop the turns after it", async () => {
  const turn = await freshModule();
  using loop = new FakeLoop();
  let works = 0;
  turn.onNextTurn(() => {
    if (++works === 1) throw new Error("planted");
  });
  turn.continueNextTurn();
  expect(() => loop.nextTurn()).toThrow("planted");
  turn.continueNextTurn();
  loop.nextTurn();
  expect(works).toBe(2);
});

test("in whatever order it is asked, a turn has time for a third of the budget, and a third once it was asked", () => {
  type Step = { readonly do: "ask" | "begin" | "continue" | "turn"; readonly ms: number };
  const step: fc.Arbitrary<Step> = fc.record({
    do: fc.constantFrom("ask", "ask", "ask", "ask", "begin", "continue", "turn"),
    ms: fc.double({ min: 0, max: 0.3, noNaN: true }),
  });
  return fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 200 }),
      fc.constantFrom(0, 0.2, 1, 3),
      async (steps, budgetMs) => {
        const turn = await freshModule();
        using loop = new FakeLoop();
        turn.setTurnBudget(budgetMs);
        let works = 0;
        turn.onNextTurn(() => works++);
        let isContinued = false;
        let began = Number.NEGATIVE_INFINITY;
        // The first question of the turn that came after the first third.
        let late: number | undefined;
        for (const { do: what, ms } of steps) {
          loop.now += ms;
          if (what === "ask") {
            const isEarly = loop.now - began < budgetMs * 0.35;
            const expected = isEarly || late === undefined || loop.now - late < budgetMs * 0.35;
            expect(turn.hasTime()).toBe(expected);
            if (!isEarly) {
              late ??= loop.now;
              expect(loop.immediates).toHaveLength(1);
            }
          } else if (what === "continue") {
            turn.continueNextTurn();
            isContinued = true;
            expect(loop.immediates).toHaveLength(1);
          } else {
            if (what === "begin") turn.beginTurn();
            // Nothing tells of a turn in which nobody has asked for the next one.
            else if (loop.immediates.length === 0) continue;
            else {
              const expected = works + (isContinued ? 1 : 0);
              loop.nextTurn();
              expect(works).toBe(expected);
              isContinued = false;
            }
            began = loop.now;
            late = undefined;
            expect(turn.isSpent()).toBe(budgetMs === 0);
          }
          expect(loop.immediates.length).toBeLessThanOrEqual(1);
          expect(turn.willContinue()).toBe(isContinued);
        }
      },
    ),
    { numRuns: 100 },
  );
});

test("on the real loop a chain of microtasks ends its turn, and timers have theirs", async () => {
  const turn = await freshModule();
  turn.setTurnBudget(1);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const started = performance.now();
  let answers = 0;
  while (ticks < 20 && performance.now() - started < 10_000) {
    answers++;
    if (turn.hasTime()) await undefined;
    else {
      const { promise, resolve } = Promise.withResolvers<void>();
      turn.onNextTurn(resolve);
      turn.continueNextTurn();
      await promise;
    }
  }
  clearInterval(timer);
  expect(ticks).toBe(20);
  expect(answers).toBeGreaterThan(20);
});
