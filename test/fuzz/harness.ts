/**
 * Makes the calls of a sequence and looks at what each has done: whether what it threw is of the
 * package, whether memory outside of its arguments was touched, whether it waited, and in the end
 * whether everything is closed.
 *
 * @module
 */
import { readdirSync, readlinkSync } from "node:fs";
import { isArrayBuffer } from "node:util/types";
import {
  type Batches,
  type BatchSubscription,
  ClosedError,
  ConnectError,
  Message,
  poller,
  ResolutionError,
  Socket,
  SystemError,
  TimeoutError,
  type WaitOptions,
} from "bun-sockets";
import { CaptureFileError, FilterError } from "bun-sockets/packet";
import type { RingerName } from "../../lib/internal/ringer.ts";
import { CANARY, type Slot } from "./arena.ts";
import { CLOSED_FD, isHarmlessFd, type Spoiled, spoil } from "./bad.ts";
import { Choices } from "./choices.ts";
import type { Draft, Plan } from "./draft.ts";
import { Failure, isEngineTypeError, isHouseError, isOfAccessor, WouldWait } from "./failure.ts";
import { planGood, planRefused } from "./good.ts";
import { harmlessHost } from "./good_names.ts";
import { arm, Trap } from "./hostile.ts";
import { kernel } from "./kernel.ts";
import { CONVERTS, NEVER_REFUSED, READS_AGAIN, reasonOf } from "./limits.ts";
import { isStarted, startPoller, stopPoller, turn } from "./loop.ts";
import { Packets } from "./packets.ts";
import { classes, type Entry, entries, isPromiseForm, type ModuleName } from "./surface.ts";
import { happen } from "./weather.ts";
import {
  Aborted,
  type AnySocket,
  isIterator,
  isOpen,
  isRaw,
  markListening,
  type Waiting,
  World,
} from "./world.ts";

/** One call, as fast-check draws it. */
export interface Step {
  readonly entry: number;
  /** 0 to 99: see `SHARES`. */
  readonly way: number;
  readonly drawn: readonly number[];
}

/** How the calls of one entry have ended. */
export interface Counts {
  calls: number;
  /** Returned. */
  ok: number;
  /** Threw an error of the package. */
  refused: number;
  /** Threw the engine's own TypeError, because `this` was no object of the class. */
  foreign: number;
  /** Threw what an argument threw, or the reason of its signal. */
  passed: number;
  /** Would have waited without an end. */
  waited: number;
  /** Passed the checks and reached the kernel. */
  reached: number;
}

type Outcome = "ok" | "refused" | "foreign" | "passed" | "waited";

/** How waiting has ended, for calls that were not answered at once. */
export interface Endings {
  answered: number;
  failed: number;
  timedOut: number;
  aborted: number;
  closed: number;
  canceled: number;
}

/** A call that was made. */
interface Made {
  readonly draft: Draft;
  readonly plan: Plan;
  readonly isForeign: boolean;
  readonly trap: Trap | undefined;
  /** Whether its socket was open before. */
  readonly wasOpen: boolean;
  readonly reached: boolean;
  readonly isNested?: boolean;
}

const NESTED = {
  isForeign: false,
  wasOpen: false,
  reached: false,
  isNested: true,
} as const;

// Of a hundred calls: good ones, and those that are not hostile.
const SHARES = { good: 46, harmless: 86 };
// Where no argument can be bad.
const SHARES_ALONE = { good: 86, harmless: 95 };
const FAULT_CHANCE = 12;
const GC_CHANCE_IN_10000 = 8;
/** The longest that a good argument lets a call wait. */
const LIMIT_MS_MAX = 2;
/** Microtasks in which a call is answered that need not wait. */
const HOPS = 14;
const TURNS_MAX = 5;
const PAUSES_MAX = 50;
const LOOKUP_PAUSES_MAX = 3000;
const BUSY_BUDGET_MS_MAX = 1;
/** Of a hundred steps while something waits: those before which the event loop has its turn. */
const TURN_CHANCE = 8;
const WEATHER_CHANCE = 12;
/** Sequences after which the poller is started anew, with another ringer. */
const POLLER_SEQUENCES = 20;
const RINGERS: readonly (RingerName | "")[] = ["", "io_uring", "thread", "timer", ""];

/** The calls of all sequences. */
export class Harness {
  readonly counts: Map<string, Counts>;
  /** Calls of hostile arguments from inside of others. */
  nested = 0;
  sprung = 0;
  /** The failures of a survey: how often, and where first. */
  readonly found = new Map<string, { times: number; first: string }>();
  /** How those calls have ended that were not answered at once. */
  readonly endings: Endings = {
    answered: 0,
    failed: 0,
    timedOut: 0,
    aborted: 0,
    closed: 0,
    canceled: 0,
  };
  readonly ringers: Record<string, number> = {};
  readonly #progress: (text: string) => void;
  readonly #isSurvey: boolean;
  readonly #hasPackets: boolean;
  /** Whose call each promise is. */
  readonly #waiting = new Map<Waiting, Made>();
  /** Calls that were not answered at once. */
  readonly #late = new Set<Waiting>();
  #sequences = 0;
  #ringer: RingerName | undefined;
  #log: string[] = [];
  #failure: Failure | undefined;

  /** A survey goes on after a failure. */
  constructor(progress: (text: string) => void, isSurvey: boolean, module: ModuleName) {
    this.#progress = progress;
    this.#isSurvey = isSurvey;
    this.#hasPackets = module === "packet";
    this.counts = new Map(
      entries
        .filter((entry) => entry.module === module)
        .map(({ key }) => [
          key,
          { calls: 0, ok: 0, refused: 0, foreign: 0, passed: 0, waited: 0, reached: 0 },
        ]),
    );
    const stray = (what: string) => (error: unknown) => {
      // What a forged argument has answered with, as if it were a cursor.
      if (this.#hasPackets && isOfAccessor(error)) return;
      this.#failure ??= new Failure(`${what}: ${stackOf(error)}`);
    };
    process.on("unhandledRejection", stray("a promise was rejected that nobody has"));
    process.on("uncaughtException", stray("something was thrown to nobody"));
    globalThis.reportError = (error) => this.#reported(error);
  }

  /** Runs one sequence. Throws a Failure that tells its calls. */
  async run(name: string, steps: readonly Step[]): Promise<void> {
    this.#log = [];
    this.#failure = undefined;
    const choices = new Choices(steps[0]?.drawn ?? []);
    try {
      if (this.#sequences++ % POLLER_SEQUENCES === 0) await this.#restartPoller(choices);
      process.env["BUN_SOCKETS_DEBUG"] = choices.chance(50) ? "1" : "0";
      if (this.#hasPackets) Packets.prepare();
      const before = openDescriptors();
      const world = new World();
      try {
        for (const [i, step] of steps.entries())
          await this.#survey(name, () => this.#step(world, step, `${name}, call ${i}`));
        this.#progress(`${name}, its end`);
        await this.#survey(name, () => this.#end(world, choices, before));
      } finally {
        world.close();
        poller.busyPoll = false;
        poller.turnBudgetMs = 1;
      }
      await this.#survey(name, () => this.#settleAll(world));
      // One that has failed was replaced.
      if (poller.ringer !== this.#ringer) await this.#restartPoller(undefined);
      const left = await leftDescriptors(before);
      await this.#survey(name, () => {
        if (left) throw new Failure(`other descriptors are open than before: ${left}`);
      });
    } catch (error) {
      if (error instanceof Error) error.message += `\n${this.#log.join("\n")}`;
      throw error;
    }
  }

  // Starts the poller anew: with the ringer that it had, or with another one, and perhaps with a
  // fault.
  async #restartPoller(choices: Choices | undefined): Promise<void> {
    this.#progress("the poller's start");
    // It knows them.
    Packets.retire();
    stopPoller();
    const name = choices ? choices.pick(RINGERS) : this.#ringer;
    if (choices?.chance(50)) {
      const before = openDescriptors();
      await startPoller(name ?? "", choices.below(70), choices.below(100));
      stopPoller();
      const left = await leftDescriptors(before);
      if (left) throw new Failure(`a poller that was stopped has left descriptors: ${left}`);
    }
    await startPoller(name ?? "", -1, 0);
    // On a machine that is busy for long a ringer may not be heard in time.
    if (!isStarted()) {
      stopPoller();
      await startPoller("timer", -1, 0);
    }
    if (!isStarted()) throw new Failure(`the poller does not start: ${refusals()}`);
    this.#ringer = poller.ringer;
    this.ringers[`${this.#ringer}`] = (this.ringers[`${this.#ringer}`] ?? 0) + 1;
  }

  // What is reported was thrown by a handler, or is an error of its socket: and then not that it was
  // closed, which ends a handler in silence.
  #reported(error: unknown): void {
    const isOfSocket = error instanceof SystemError && !(error instanceof ClosedError);
    if (isOfSocket && hasShape(error)) return;
    if (error instanceof Error && /^(HostileError|WouldWait)$/.test(error.name)) return;
    if (isHouseError(error)) return;
    // A promise of a handler that is none.
    if (isEngineTypeError(error) && `${error}`.endsWith("|this| is not a Promise")) return;
    this.#failure ??= new Failure(`what was reported is not the package's: ${stackOf(error)}`);
  }

  async #survey(name: string, work: () => unknown): Promise<void> {
    try {
      await work();
      if (this.#failure) throw this.#failure;
    } catch (error) {
      if (!this.#isSurvey || !(error instanceof Failure)) throw error;
      const [line = "", ...rest] = error.message.split("\n");
      const where = rest.find((text) => text.includes("/lib/"))?.trim() ?? "";
      const known = this.found.get(`${line} ${where}`);
      const first = known?.first ?? `${name}: ${this.#log.at(-1)}`;
      this.found.set(`${line} ${where}`, { times: (known?.times ?? 0) + 1, first });
      this.#failure = undefined;
    }
  }

  async #step(world: World, { entry: index, way, drawn }: Step, name: string): Promise<void> {
    const entry = entries[index] as Entry;
    const choices = new Choices(drawn);
    this.#progress(`${name}: ${entry.key}`);
    if (choices.below(10_000) < GC_CHANCE_IN_10000) Bun.gc(true);
    if (world.hasWaiters) {
      if (choices.chance(WEATHER_CHANCE)) this.#log.push(`  ${happen(world, choices)}`);
      if (choices.chance(TURN_CHANCE)) await this.#turn(world, choices);
    }
    const slots: Slot[] = [];
    const kind = wayOf(entry, way);
    const draft: Draft = { world, choices, entry, slots, isToSpoil: kind === "bad" };
    if (kind === "good") {
      const plan = planGood(draft);
      this.#call(draft, { plan, isForeign: false }, undefined, failAfter(choices));
    } else if (kind === "bad") {
      const refused = planRefused(draft);
      const spoiled = refused ? { plan: refused, isForeign: false } : spoil(draft, planGood(draft));
      // Where no argument can be bad, the kernel refuses.
      const takesNothing = !entry.onInstance && spoiled.plan.values.length === 0;
      this.#call(draft, spoiled, undefined, takesNothing ? 0 : -1);
    } else {
      const plan = planGood(draft);
      const trap: Trap = new Trap(draft, plan, () => this.#again(draft, plan, trap));
      plan.values = arm(draft, plan.values, trap);
      this.#call(draft, { plan, isForeign: false }, trap, failAfter(choices));
    }
    const isAnswered = () => {
      for (const { draft: other } of this.#waiting.values()) if (other === draft) return false;
      return true;
    };
    for (let i = 0; i < HOPS && !isAnswered(); i++) await undefined;
    for (const [waiting, made] of this.#waiting) {
      if (made.draft !== draft) continue;
      this.#late.add(waiting);
      this.#log.push(`  ${selfOf(made)}${waiting.key} waits`);
    }
  }

  /** The event loop has its turn: the poller works. */
  async #turn(world: World, choices: Choices): Promise<void> {
    const isRawWaiting = [...world.waiting].some(({ receiver }) => isRaw(receiver));
    for (const { trap } of world.waiting) trap?.arm();
    kernel.begin(failAfter(choices), choices.below(100));
    await turn();
    kernel.failAfter = -1;
    for (const { trap } of world.waiting) trap?.disarm();
    if (kernel.faulted && !isRawWaiting)
      throw new Failure("the poller gave the kernel an address that is not mapped");
    if (kernel.closedNothing) throw new Failure("the poller closed what is not open");
    world.checkBatches("a turn of the event loop");
  }

  async #end(world: World, choices: Choices, before: readonly string[]): Promise<void> {
    for (let i = choices.below(3); i > 0 && world.hasWaiters; i--) await this.#turn(world, choices);
    if (world.waiting.size > 0 && choices.chance(15)) {
      await Bun.sleep(LIMIT_MS_MAX + 1);
      await this.#turn(world, choices);
    }
    world.drain();
    world.closeSockets();
    if (world.waiting.size > 0) world.interrupt(before);
    await this.#settleAll(world);
    for (const slot of world.arena.used) slot.check(0, false, "the end");
  }

  // Closing ends all waiting.
  async #settleAll(world: World): Promise<void> {
    for (let i = 0; i < HOPS; i++) await undefined;
    const isOver = () => world.waiting.size === 0 && poller.counters.waiters === 0;
    for (let i = 0; i < TURNS_MAX && !isOver(); i++) await turn();
    // What no event tells of is tried again after some milliseconds.
    for (let i = 0; i < PAUSES_MAX && !isOver(); i++) await Bun.sleep(1);
    // A lookup ends when its thread does, whether somebody waits for it or not.
    const isLookup = () => [...world.waiting].every(({ key }) => ASKS.test(key));
    for (let i = 0; i < LOOKUP_PAUSES_MAX && !isOver() && isLookup(); i++) await Bun.sleep(1);
    const keys = [...world.waiting].map(
      ({ key, values }) => `${key}(${values.map(describe).join(", ")})`,
    );
    world.waiting.clear();
    this.#waiting.clear();
    this.#late.clear();
    if (keys.length > 0) throw new Failure(`what waits when all is closed: ${keys.join(", ")}`);
    const { waiters } = poller.counters;
    if (waiters !== 0) throw new Failure(`the poller has ${waiters} waiters when all is closed`);
    for (const { subscription } of world.subscriptions)
      if (!subscription.stopped) throw new Failure("a handler has not stopped, and all is closed");
    for (const error of world.told)
      if (!(error instanceof SystemError) || error instanceof ClosedError || !hasShape(error))
        throw new Failure(`a handler was told what is no error of its socket: ${stackOf(error)}`);
  }

  #call(draft: Draft, { plan, isForeign }: Spoiled, trap: Trap | undefined, fails: number): void {
    const { entry } = draft;
    const what = entry.key;
    keepHarmless(draft, plan);
    const wasOpen = plan.receiver instanceof Socket && !isForeign && isOpenSocket(plan);
    let result: unknown;
    let error: unknown;
    let outcome: Outcome = "ok";
    kernel.begin(fails, draft.choices.below(100));
    try {
      result = entry.invoke(plan.receiver, plan.values);
    } catch (thrown) {
      error = thrown;
      outcome = this.#judge(what, thrown, isForeign);
    }
    kernel.failAfter = -1;
    trap?.disarm();
    if (kernel.faulted && !mayFault(entry, plan))
      throw new Failure(`${what} gave the kernel an address that is not mapped`);
    if (kernel.closedNothing) throw new Failure(`${what} closed what is not open`);
    const made = { draft, plan, isForeign, trap, wasOpen, reached: kernel.reached };
    if (result instanceof Promise) this.#await(made, result);
    else if (isPromiseForm(entry) && !isForeign)
      throw new Failure(`${what} answered without a promise${told(error)}`);
    else this.#ended(made, result, error, outcome);
  }

  #await(made: Made, promise: Promise<unknown>): void {
    const { draft, plan, trap, isForeign } = made;
    const { world, entry } = draft;
    const { receiver, values } = plan;
    const waiting = { key: entry.key, receiver, values, slots: slotsOf(draft, plan), trap };
    world.waiting.add(waiting);
    this.#waiting.set(waiting, made);
    const settle = (result: unknown, error: unknown, outcome: Outcome) => {
      trap?.disarm();
      world.waiting.delete(waiting);
      this.#waiting.delete(waiting);
      if (this.#late.delete(waiting)) this.#count(error, outcome);
      try {
        this.#ended(made, result, error, outcome);
      } catch (failure) {
        this.#failure ??= failure as Failure;
      }
    };
    promise.then(
      (result) => settle(result, undefined, "ok"),
      (error) => settle(undefined, error, this.#judge(entry.key, error, isForeign)),
    );
    world.checkBatches(entry.key);
  }

  #count(error: unknown, outcome: Outcome): void {
    if (outcome === "ok") this.endings.answered++;
    else if (outcome === "passed") this.endings.aborted++;
    else if (error instanceof TimeoutError) this.endings.timedOut++;
    else if (error instanceof ClosedError) this.endings.closed++;
    else if ((error as SystemError).code === "ECANCELED") this.endings.canceled++;
    else this.endings.failed++;
  }

  /** A call has its answer. */
  #ended(made: Made, result: unknown, error: unknown, outcome: Outcome): void {
    const { draft, plan, trap, wasOpen } = made;
    const what = draft.entry.key;
    const counts = this.counts.get(what) as Counts;
    const values = plan.values.map(describe).join(", ");
    this.#log.push(`  ${selfOf(made)}${what}(${values}) ${outcome}${told(error)}`);
    if (this.#failure) throw this.#failure;
    if (made.isNested) {
      this.#finish(draft, plan, result, outcome);
      this.#checkMemory(draft, plan, trap, outcome, result);
      return;
    }
    counts.calls++;
    counts[outcome]++;
    this.#checkTrap(what, trap, outcome);
    const isRefusedHere = error instanceof TypeError || error instanceof RangeError;
    if (made.reached && !isRefusedHere && !(error instanceof ClosedError)) counts.reached++;
    if (outcome === "waited" && !mayWait(what, plan, trap))
      throw new Failure(`${what} waits, and has a limit`);
    if (error instanceof ClosedError && wasOpen && !trap && isOpenSocket(plan) && !isOther(plan))
      throw new Failure(`${what} says that an open socket is closed`);
    this.#finish(draft, plan, result, outcome);
    this.#checkMemory(draft, plan, trap, outcome, result);
    plan.check?.(what);
  }

  /** The same call from inside of itself. */
  #again(draft: Draft, plan: Plan, trap: Trap): void {
    // What two calls at a time receive with one message is lost, and may be a descriptor.
    if (draft.entry.key.endsWith(".receiveMessage")) return;
    this.nested++;
    try {
      const result = draft.entry.invoke(plan.receiver, plan.values);
      if (result instanceof Promise) this.#await({ ...NESTED, draft, plan, trap }, result);
      else this.#finish(draft, plan, result, "ok");
    } catch (error) {
      this.#judge(`${draft.entry.key}, from inside`, error, false);
    }
  }

  // Throws nothing, because it may run inside of a call: that would hide it.
  #judge(what: string, error: unknown, isForeign: boolean): Outcome {
    if (error instanceof WouldWait) return "waited";
    if (error instanceof Error && error.name === "HostileError") return "passed";
    if (error instanceof Aborted || error instanceof DOMException) return "passed";
    if (error instanceof SystemError && hasShape(error)) return "refused";
    if (error instanceof ResolutionError && /^EAI_[A-Z]+$/.test(error.code)) return "refused";
    if (error instanceof ConnectError && error.errors.every(isSystemError)) return "refused";
    if (isHouseError(error)) return "refused";
    // As documented: what is no text, for a reader that is to be strict.
    if (what.startsWith("SocketReader") || what.startsWith("lines."))
      if (isEngineTypeError(error) && `${error}`.includes("encoded data was not valid"))
        return "refused";
    if (error instanceof FilterError || error instanceof CaptureFileError) return "refused";
    if (isForeign && isEngineTypeError(error)) return "foreign";
    // Headers and blocks look at memory that is the caller's, to take away.
    if (isEngineTypeError(error) && IS_GONE.test(`${error}`) && OF_FRAMES.test(what))
      return "foreign";
    if (CONVERTS.test(what)) return "refused";
    if (isOfAccessor(error)) return "passed";
    this.#failure ??=
      error instanceof Failure
        ? error
        : new Failure(`${what} threw what is not the package's: ${stackOf(error)}`);
    return "refused";
  }

  #checkTrap(what: string, trap: Trap | undefined, outcome: Outcome): void {
    if (!trap) return;
    this.sprung += Math.min(trap.sprung, 1);
    if (trap.thrown && outcome !== "passed")
      throw new Failure(`${what} kept to itself what an argument threw`);
    for (const [key, times] of READS_AGAIN.test(what) ? [] : trap.reads)
      if (times > 1) throw new Failure(`${what} read the option ${key} ${times} times`);
  }

  /** Keeps what a call has made. */
  #finish({ world, entry, slots }: Draft, plan: Plan, result: unknown, outcome: Outcome): void {
    if (outcome === "ok" && result !== plan.receiver) {
      if (/\.(detach|take)$/.test(entry.definedAs) && typeof result === "number")
        world.fds.add(result);
      else world.harvest(result, plan.receiver);
      if (entry.definedAs.endsWith(".listen") && plan.receiver instanceof Socket)
        markListening(plan.receiver);
      if (result instanceof Socket) world.fds.delete(result.descriptor);
      keepOwned(world, plan.receiver, result);
      if (isOf("BatchSubscription", result))
        world.subscribed(result as BatchSubscription, plan.receiver as AnySocket);
      if (isOf("Batches", result) && plan.receiver instanceof Socket)
        world.iterate(result as Batches, plan.receiver);
    }
    for (const item of [plan.receiver, result, ...plan.values]) {
      if (!isMessage(item)) continue;
      if (item === plan.receiver || item === result)
        world.vectors.set(item, [...(world.vectors.get(item) ?? []), ...slots]);
      const received = typeof result === "number" && entry.definedAs.includes("eceiveMessage");
      if (received) world.keepReceived(item);
    }
  }

  #checkMemory(
    { world, entry, slots }: Draft,
    plan: Plan,
    trap: Trap | undefined,
    outcome: Outcome,
    result: unknown,
  ): void {
    const what = entry.key;
    const all = slotsOf({ world, slots }, plan);
    for (const item of [plan.receiver, ...plan.values].filter(isMessage)) {
      const { control, controlLength } = item;
      if (!control.buffer.detached && controlLength > control.length)
        throw new Failure(`${what}: there are more control bytes than there is room for`);
    }
    const isExact = !trap && slots.length === 1 && all.size === 1 && !what.includes("Message");
    const most = isExact ? writtenBy(what, outcome, result) : Number.POSITIVE_INFINITY;
    // What a raw socket receives begins with a header that the kernel has made.
    const fromKernel = isRaw(plan.receiver);
    const others = new Set([...world.waiting].flatMap((waiting) => [...waiting.slots]));
    for (const slot of all) {
      const writable = WRITES.test(what) ? most : 0;
      slot.check(others.has(slot) ? Number.POSITIVE_INFINITY : writable, fromKernel, what);
    }
    world.checkBatches(what);
    if (outcome === "ok" && TRANSFER.test(what)) checkTaken(what, plan);
    if (fromKernel || !(result instanceof Uint8Array) || !what.includes("eceiveBytes")) return;
    if (result.includes(CANARY)) throw new Failure(`${what}: a canary was received`);
  }
}

/** What the engine says of memory that was transferred. */
const IS_GONE = /Underlying ArrayBuffer has been detached/;
const OF_FRAMES =
  /^(new |[gs]et )?(\w*Header2?|PacketView|HeaderOptions|PacketBlock|frames|runFilter|CaptureWriter)\b/;

function refusals(): string {
  return poller.refusals.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
}

function wayOf({ key }: Entry, way: number): "good" | "bad" | "hostile" {
  const isRefusable = reasonOf(key, NEVER_REFUSED) === undefined;
  const { good, harmless } = isRefusable ? SHARES : SHARES_ALONE;
  if (way < good) return "good";
  return way < harmless ? "bad" : "hostile";
}

// How many system calls to let through before one fails: mostly all.
function failAfter(choices: Choices): number {
  return choices.chance(FAULT_CHANCE) ? choices.below(6) : -1;
}

// The Sync forms without a limit. What a trap does may take the limit away.
function mayWait(what: string, { values }: Plan, trap: Trap | undefined): boolean {
  if (trap) return true;
  const { timeoutMs = Number.POSITIVE_INFINITY } = (values.at(-1) ?? {}) as WaitOptions;
  return what.endsWith("Sync") && !(timeoutMs <= LIMIT_MS_MAX);
}

const TRANSFER =
  /\.(try(Send|Receive|Read$|Write)|(send|receive)(From|To|Message|Bytes|Exactly|All)?(Sync)?$|(read|readInto|write|writePacket)(Sync)?$)/;

/** What writes to the views that it is given. */
const WRITES = /eceive|SocketReader\.prototype\.(tryRead|read|readSync|readInto|readIntoSync)$/;

// Memory that can change under the kernel's hands is never taken.
function checkTaken(what: string, { values: [first] }: Plan): void {
  const all = isMessage(first) ? first.vectors : Array.isArray(first) ? first : [first];
  for (const memory of all) {
    const buffer = ArrayBuffer.isView(memory) ? memory.buffer : memory;
    const isShared = buffer instanceof SharedArrayBuffer;
    if (isShared || (isArrayBuffer(buffer) && buffer.resizable))
      throw new Failure(`${what} took memory that is shared or resizable`);
  }
}

/** What may have written to its view before it fails. */
const PARTLY = /\.((receive(Exactly|Descriptors)?|readInto)(Sync)?|tryReceiveDescriptors)$/;

/** How many bytes a receive may have written to its view. */
function writtenBy(what: string, outcome: Outcome, result: unknown): number {
  if (typeof result === "number") return result;
  if (typeof result === "object" && result !== null) return (result as { length: number }).length;
  // With MSG_WAITALL a part may have come, and without the descriptors the data.
  const partly = outcome !== "ok" && PARTLY.test(what);
  return partly ? Number.POSITIVE_INFINITY : 0;
}

/** The slots of the views and messages among the arguments. */
function slotsOf({ world, slots }: Pick<Draft, "world" | "slots">, plan: Plan): Set<Slot> {
  const messages = [plan.receiver, ...plan.values].filter(isMessage);
  return new Set([...slots, ...messages.flatMap((message) => world.vectors.get(message) ?? [])]);
}

// An object of a class that the package does not export.
function isSystemError(error: unknown): boolean {
  return error instanceof SystemError && hasShape(error);
}

function isOf(name: string, value: unknown): boolean {
  return value instanceof (classes.get(name) as abstract new () => object);
}

// A message of this class: no Proxy of one, and nothing that only looks like one.
function isMessage(value: unknown): value is Message {
  return (
    value instanceof Message && Object.getPrototypeOf(value) === Message.prototype && isReal(value)
  );
}

const flagsOf = Object.getOwnPropertyDescriptor(Message.prototype, "flags")?.get as () => number;

function isReal(value: Message | Socket): boolean {
  try {
    if (value instanceof Socket) void value.connected;
    else flagsOf.call(value);
    return true;
  } catch {
    return false;
  }
}

// NULL with a length is what the caller asked for. And for an ICMP message of less than two bytes the
// kernel says the same (raw(7) does not tell).
function mayFault({ definedAs }: Entry, { receiver }: Plan): boolean {
  return definedAs.endsWith(".setRawOption") || isRaw(receiver);
}

/** The kind and the descriptor of the socket that a call is of. */
function selfOf({ plan: { receiver }, isForeign }: Made): string {
  if (!(receiver instanceof Socket) || isForeign) return "";
  return `${receiver.family} ${receiver.type} ${receiver.descriptor}: `;
}

function isOpenSocket({ receiver }: Plan): boolean {
  try {
    return isOpen(receiver as Socket);
  } catch {
    return false;
  }
}

// Adopting with `own` what is Bun's would be the caller's fault, and not ours to find. And a thread that
// looks all the time does nothing else in a turn.
function keepHarmless(draft: Draft, plan: Plan): void {
  if (draft.entry.key === "set poller.turnBudgetMs" && poller.busyPoll) {
    const [ms] = plan.values;
    if (typeof ms === "number" && ms > BUSY_BUDGET_MS_MAX) plan.values = [BUSY_BUDGET_MS_MAX];
  }
  if (draft.entry.key === "set poller.busyPoll" && plan.values[0] === true)
    poller.turnBudgetMs = Math.min(poller.turnBudgetMs, BUSY_BUDGET_MS_MAX);
  if (ASKS.test(draft.entry.key)) {
    const [host, ...rest] = plan.values;
    plan.values = plan.values.length > 0 ? [harmlessHost(host), ...rest] : [];
  }
  const takesFd = /\.(adopt|sendFile(Sync)?)$|^CaptureFile\.|^new CaptureReader$/.test(
    draft.entry.definedAs,
  );
  if (!takesFd) return;
  const [fd, ...rest] = plan.values;
  if (!isHarmlessFd(draft, fd)) plan.values = [CLOSED_FD, ...rest];
}

// Whether it is another socket that is closed.
function isOther({ values: [first] }: Plan): boolean {
  return first instanceof Socket && isReal(first) && !isOpen(first);
}

// What asks for the addresses of a name.
const ASKS =
  /^(resolve(Sync)?|reverse|fullHostName(Sync)?|hostBy(Name|Address)(Sync)?|TcpSocket\.connect(Sync)?|TcpListener\.listen(All)?(Sync)?)$/;

/** Keeps what belongs to a socket: readers, writers, streams, and what steps through them. */
function keepOwned(world: World, receiver: unknown, result: unknown): void {
  if (typeof result !== "object" || result === null || result instanceof Socket) return;
  const owner =
    receiver instanceof Socket
      ? receiver
      : world.owned.find(({ object }) => object === receiver)?.owner;
  if (!owner || !(OWNED.some((name) => isOf(name, result)) || isStream(result) || isStep(result)))
    return;
  world.own(result, owner);
}

const OWNED = ["SocketReader", "SocketWriter", "Connections", "QueuedErrors"];

function isStream(value: object): boolean {
  return value instanceof ReadableStream || value instanceof WritableStream;
}

function isStep(value: object): boolean {
  return Object.getPrototypeOf(value) === Object.prototype && isIterator(value);
}

function hasShape({ code, errno, syscall }: SystemError): boolean {
  return /^E[A-Z0-9]+$/.test(code) && errno < 0 && /^\w+$/.test(syscall);
}

function stackOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}\n${error.stack}` : "no Error";
}

function told(error: unknown): string {
  return error instanceof Error ? `: ${error.message.slice(0, 100)}` : "";
}

// By its type only: anything else could run its code.
function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
  if (typeof value === "symbol" || typeof value === "function") return typeof value;
  if (typeof value !== "object" || value === null) return String(value);
  return ArrayBuffer.isView(value) ? "view" : "object";
}

// Without those that are kept for the next sequence.
function openDescriptors(): string[] {
  const kept = Packets.kept();
  return readdirSync("/proc/self/fd").filter((fd) => !kept.has(fd));
}

/** The open descriptors by what they are. */
export function descriptorKinds(): Record<string, number> {
  const kinds: Record<string, number> = {};
  for (const fd of openDescriptors()) {
    const kind = linkOf(fd).replace(/\d+/g, "");
    kinds[kind] = (kinds[kind] ?? 0) + 1;
  }
  return kinds;
}

// Which descriptors are open that were not, or are not any more.
async function leftDescriptors(before: readonly string[]): Promise<string | undefined> {
  if (openDescriptors().length === before.length) return undefined;
  // What was dropped is closed in the turn after a collection.
  for (let i = 0; i < 40; i++) {
    if (i < 10) Bun.gc(true);
    await new Promise((resolve) => setTimeout(resolve, i < 10 ? 0 : 2));
    if (openDescriptors().length === before.length) return undefined;
  }
  const now = openDescriptors();
  const extra = now.filter((fd) => !before.includes(fd)).map((fd) => `${fd} ${linkOf(fd)}`);
  const gone = before.filter((fd) => !now.includes(fd)).map((fd) => `${fd} is gone`);
  return [...extra, ...gone].join(", ");
}

function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // The folder itself, which is closed by now.
    return "";
  }
}
