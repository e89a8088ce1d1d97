/**
 * How far the suite is.
 *
 * @module
 */
import { SingleBar } from "cli-progress";

/** Where a run tells how far it is. */
export interface Progress {
  /** What is measured now. */
  title(title: string): void;
  step(): void;
  stop(): void;
}

/** A bar with the time that is left, on a terminal; nothing elsewhere. */
export function startProgress(steps: number): Progress {
  if (!process.stderr.isTTY) return { title() {}, step() {}, stop() {} };
  const bar = new SingleBar({
    format: "{bar} {percentage} %, {eta_formatted} left, {title}",
    ...{ barsize: 30, clearOnComplete: true, hideCursor: true, etaBuffer: 100 },
  });
  bar.start(steps, 0, { title: "" });
  return {
    title: (title) => bar.update({ title }),
    step: () => bar.increment(),
    stop: () => bar.stop(),
  };
}
