/**
 * One time budget for each turn of the event loop, for all promise forms, iterators and handlers of
 * the thread: a loop of `await` that is always answered at once would let no timer and no other
 * socket have its turn.
 *
 * Nothing tells when a turn begins. A turn that has lasted a third of the budget sets an immediate;
 * when that has not come after another third, it is still the same turn, and the budget is spent but
 * for what the step takes that is under way then.
 *
 * @module
 */

const PART = 0.35;

/** The time a turn may take: milliseconds, Infinity for no limit. */
export let turnBudgetMs = 1;

/** When this turn began, or later. */
let since = 0;
/** When the immediate was set that ends this turn, or -1. */
let askedAt = -1;
/** Whether this turn has no time left, whatever the clock says. */
let isOver = false;
let isScheduled = false;
let isWorkLeft = false;
let work = (): void => {};

/** Says what is to be done in the next turn, when `continueNextTurn` asks for it. */
export function onNextTurn(next: () => void): void {
  work = next;
}

/** Changes the budget. Infinity switches it off. */
export function setTurnBudget(ms: number): void {
  turnBudgetMs = ms;
}

/** Says that a turn begins here. */
export function beginTurn(): void {
  since = performance.now();
  askedAt = -1;
  isOver = false;
}

/** Whether this turn has time left for a call that could be answered at once. */
export function hasTime(): boolean {
  if (isOver) return false;
  const now = performance.now();
  const part = turnBudgetMs * PART;
  if (askedAt >= 0) return now - askedAt < part;
  if (now - since < part) return true;
  askedAt = now;
  schedule();
  return true;
}

/** Whether a turn that said where it begins has no time left. */
export function isSpent(): boolean {
  return performance.now() - since >= turnBudgetMs;
}

/** Asks for the work of the next turn. */
export function continueNextTurn(): void {
  isWorkLeft = true;
  schedule();
}

/** Says that this turn has no time left, and asks for the work of the next one. */
export function endTurn(): void {
  isOver = true;
  continueNextTurn();
}

/** Whether the next turn has work already. */
export function willContinue(): boolean {
  return isWorkLeft;
}

function schedule(): void {
  if (isScheduled) return;
  isScheduled = true;
  setImmediate(turn);
}

function turn(): void {
  isScheduled = false;
  beginTurn();
  if (!isWorkLeft) return;
  isWorkLeft = false;
  work();
}
