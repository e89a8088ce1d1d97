/** How commands wait for moments. */
import { describe, expect, test } from "bun:test";
import { Pause } from "../../cli/pause.ts";

const MS = 1e6;
const HOUR = 3600e9;

describe("Pause", () => {
  test.each([0, 0.05, 0.5, 1.5, 5, 30])("until waits for %d ms, not less", async (ms) => {
    const pause = new Pause(new AbortController().signal);
    const at = Bun.nanoseconds() + ms * MS;
    await pause.until(at);
    expect(Bun.nanoseconds()).toBeGreaterThanOrEqual(at);
  });

  test("until ends when it is to stop, whenever it would", async () => {
    const controller = new AbortController();
    const waiting = new Pause(controller.signal).until(Bun.nanoseconds() + HOUR);
    setTimeout(() => controller.abort(), 5);
    await waiting;
    expect(controller.signal.aborted).toBe(true);
    await new Pause(controller.signal).until(Bun.nanoseconds() + HOUR);
  });

  test("tryUntil waits without the event loop, but not for long", () => {
    const pause = new Pause(new AbortController().signal);
    expect(pause.tryUntil(Bun.nanoseconds() + HOUR)).toBe(false);
    let turns = 0;
    setImmediate(() => turns++);
    const at = Bun.nanoseconds() + MS;
    // Where it took too long to get here, it is the event loop's turn.
    if (pause.tryUntil(at)) expect(Bun.nanoseconds()).toBeGreaterThanOrEqual(at);
    else expect(pause.isTurnDue(Bun.nanoseconds())).toBe(true);
    expect(turns).toBe(0);
  });

  test("the event loop has its turns, also where it is always too late", async () => {
    const pause = new Pause(new AbortController().signal);
    let turns = 0;
    let next: NodeJS.Immediate;
    const count = () => {
      turns++;
      next = setImmediate(count);
    };
    next = setImmediate(count);
    const begin = Bun.nanoseconds();
    while (Bun.nanoseconds() < begin + 100 * MS) await pause.until(begin);
    clearImmediate(next);
    expect(turns).toBeGreaterThanOrEqual(1);
  });
});
