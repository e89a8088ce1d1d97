/**
 * Makes the calls of a sequence and looks at what each has done: whether what it threw is of the
 * package, whether memory outside of its arguments was touched, whether it waited, and in the end
 * whether everything is closed.
 *
 * @module
 */
import { readdirSync, readlinkSync } from "node:fs";
import { isArrayBuffer } from "node:util/types";
import { ClosedError, Message, Socket, SystemError, type WaitOptions } from "bun-sockets";
import { CANARY, type Slot } from "./arena.ts";
import { CLOSED_FD, isHarmlessFd, type Spoiled, spoil } from "./bad.ts";
import { Choices } from "./choices.ts";
import { Failure, isEngineTypeError, isHouseError, isOfAccessor, WouldWait } from "./failure.ts";
import { type Draft, type Plan, planGood, planRefused } from "./good.ts";
import { arm, Trap } from "./hostile.ts";
import { kernel } from "./kernel.ts";
import { CONVERTS, NEVER_REFUSED, READS_AGAIN, reasonOf } from "./limits.ts";
import { type Entry, entries } from "./surface.ts";
import { isOpen, markListening, World } from "./world.ts";

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
  /** Threw what an argument threw. */
  passed: number;
  /** Would have waited without an end. */
  waited: number;
  /** Passed the checks and reached the kernel. */
  reached: number;
}

type Outcome = "ok" | "refused" | "foreign" | "passed" | "waited";

// Of a hundred calls: good ones, and those that are not hostile.
const SHARES = { good: 46, harmless: 86 };
// Where no argument can be bad.
const SHARES_ALONE = { good: 86, harmless: 95 };
const FAULT_CHANCE = 12;
const GC_CHANCE_IN_10000 = 15;
/** The longest that a good argument lets a call wait. */
const LIMIT_MS_MAX = 2;

/** The calls of all sequences. */
export class Harness {
  readonly counts = new Map<string, Counts>(
    entries.map(({ key }) => [
      key,
      { calls: 0, ok: 0, refused: 0, foreign: 0, passed: 0, waited: 0, reached: 0 },
    ]),
  );
  /** Calls of hostile arguments from inside of others. */
  nested = 0;
  sprung = 0;
  /** The failures of a survey: how often, and where first. */
  readonly found = new Map<string, { times: number; first: string }>();
  readonly #progress: (text: string) => void;
  readonly #isSurvey: boolean;
  #log: string[] = [];
  #failure: Failure | undefined;

  /** A survey goes on after a failure. */
  constructor(progress: (text: string) => void, isSurvey: boolean) {
    this.#progress = progress;
    this.#isSurvey = isSurvey;
  }

  /** Runs one sequence. Throws a Failure that tells its calls. */
  async run(name: string, steps: readonly Step[]): Promise<void> {
    const before = openDescriptors();
    this.#log = [];
    this.#failure = undefined;
    try {
      const world = new World();
      try {
        for (const [i, step] of steps.entries())
          this.#survey(name, () => this.#step(world, step, `${name}, call ${i}`));
        this.#progress(`${name}, its end`);
        this.#survey(name, () => {
          world.drain();
          for (const slot of world.arena.used) slot.check(0, false, "the end");
        });
      } finally {
        world.close();
      }
      const left = await leftDescriptors(before);
      this.#survey(name, () => {
        if (left) throw new Failure(`other descriptors are open than before: ${left}`);
      });
    } catch (error) {
      if (error instanceof Error) error.message += `\n${this.#log.join("\n")}`;
      throw error;
    }
  }

  #survey(name: string, work: () => void): void {
    try {
      work();
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

  #step(world: World, { entry: index, way, drawn }: Step, name: string): void {
    const entry = entries[index] as Entry;
    const choices = new Choices(drawn);
    this.#progress(`${name}: ${entry.key}`);
    if (choices.below(10_000) < GC_CHANCE_IN_10000) Bun.gc(true);
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
      const { receiver, values } = planGood(draft);
      const plan: Plan = { receiver, values };
      const trap = new Trap(draft, plan, () => this.#again(draft, plan));
      plan.values = arm(draft, values, trap);
      this.#call(draft, { plan, isForeign: false }, trap, failAfter(choices));
    }
  }

  #call(draft: Draft, { plan, isForeign }: Spoiled, trap: Trap | undefined, fails: number): void {
    const { entry } = draft;
    const what = entry.key;
    const counts = this.counts.get(what) as Counts;
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
    const values = plan.values.map(describe).join(", ");
    const self = plan.receiver instanceof Socket && !isForeign ? socketText(plan.receiver) : "";
    this.#log.push(`  ${self}${what}(${values}) ${outcome}${told(error)}`);
    if (this.#failure) throw this.#failure;
    counts.calls++;
    counts[outcome]++;
    this.#checkTrap(what, trap, outcome);
    const isRefusedHere = error instanceof TypeError || error instanceof RangeError;
    if (kernel.reached && !isRefusedHere && !(error instanceof ClosedError)) counts.reached++;
    if (kernel.faulted && !mayFault(entry, plan))
      throw new Failure(`${what} gave the kernel an address that is not mapped`);
    if (kernel.closedNothing) throw new Failure(`${what} closed what is not open`);
    if (outcome === "waited" && !mayWait(what, plan, trap))
      throw new Failure(`${what} waits, and has a limit`);
    if (error instanceof ClosedError && wasOpen && !trap && isOpenSocket(plan))
      throw new Failure(`${what} says that an open socket is closed`);
    this.#finish(draft, plan, result, outcome);
    this.#checkMemory(draft, plan, trap, outcome, result);
  }

  /** The same call from inside of itself. */
  #again(draft: Draft, plan: Plan): void {
    this.nested++;
    try {
      const result = draft.entry.invoke(plan.receiver, plan.values);
      this.#finish(draft, plan, result, "ok");
    } catch (error) {
      this.#judge(`${draft.entry.key}, from inside`, error, false);
    }
  }

  // Throws nothing, because it may run inside of a call: that would hide it.
  #judge(what: string, error: unknown, isForeign: boolean): Outcome {
    if (error instanceof WouldWait) return "waited";
    if (error instanceof Error && error.name === "HostileError") return "passed";
    if (error instanceof SystemError && hasShape(error)) return "refused";
    if (isHouseError(error)) return "refused";
    if (isForeign && isEngineTypeError(error)) return "foreign";
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
    if (outcome === "ok") {
      if (entry.definedAs.endsWith(".detach") && typeof result === "number") world.fds.add(result);
      else world.harvest(result);
      if (entry.definedAs.endsWith(".listen") && plan.receiver instanceof Socket)
        markListening(plan.receiver);
      if (result instanceof Socket) world.fds.delete(result.descriptor);
    }
    for (const item of [plan.receiver, result, ...plan.values]) {
      if (!isMessage(item)) continue;
      if (item === plan.receiver || item === result)
        world.vectors.set(item, [...(world.vectors.get(item) ?? []), ...slots]);
      const received = typeof result === "number" && entry.definedAs.includes("eceiveMessage");
      if (received) world.closeReceived(item);
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
    const all = new Set(slots);
    for (const item of [plan.receiver, ...plan.values].filter(isMessage)) {
      for (const slot of world.vectors.get(item) ?? []) all.add(slot);
      const { control, controlLength } = item;
      if (!control.buffer.detached && controlLength > control.length)
        throw new Failure(`${what}: there are more control bytes than there is room for`);
    }
    const isExact = !trap && slots.length === 1 && all.size === 1 && !what.includes("Message");
    const most = isExact ? writtenBy(what, outcome, result) : Number.POSITIVE_INFINITY;
    // What a raw socket receives begins with a header that the kernel has made.
    const fromKernel = isRaw(plan.receiver);
    for (const slot of all) slot.check(what.includes("eceive") ? most : 0, fromKernel, what);
    world.checkBatches(what);
    if (outcome === "ok" && TRANSFER.test(what)) checkTaken(what, plan);
    if (fromKernel || !(result instanceof Uint8Array) || !what.includes("eceiveBytes")) return;
    if (result.includes(CANARY)) throw new Failure(`${what}: a canary was received`);
  }
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

const TRANSFER = /\.(try(Send|Receive)|(send|receive)(From|To|Message|Bytes)?Sync)/;

// Memory that can change under the kernel's hands is never taken.
function checkTaken(what: string, { values: [first] }: Plan): void {
  for (const memory of isMessage(first) ? first.vectors : [first]) {
    const buffer = ArrayBuffer.isView(memory) ? memory.buffer : memory;
    const isShared = buffer instanceof SharedArrayBuffer;
    if (isShared || (isArrayBuffer(buffer) && buffer.resizable))
      throw new Failure(`${what} took memory that is shared or resizable`);
  }
}

/** How many bytes a receive may have written to its view. */
function writtenBy(what: string, outcome: Outcome, result: unknown): number {
  if (typeof result === "number") return result;
  if (typeof result === "object" && result !== null) return (result as { length: number }).length;
  // With MSG_WAITALL a part may have come.
  const partly = outcome !== "ok" && what.endsWith("receiveSync");
  return partly ? Number.POSITIVE_INFINITY : 0;
}

// A message of this class: no Proxy of one, and nothing that only looks like one.
function isMessage(value: unknown): value is Message {
  return (
    value instanceof Message && Object.getPrototypeOf(value) === Message.prototype && isReal(value)
  );
}

const flagsOf = Object.getOwnPropertyDescriptor(Message.prototype, "flags")?.get as () => number;

function isReal(message: Message): boolean {
  try {
    flagsOf.call(message);
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

function isRaw(receiver: unknown): boolean {
  return receiver instanceof Socket && receiver.type === "raw";
}

/** The kind and the descriptor of a socket. */
function socketText(socket: Socket): string {
  return `${socket.family} ${socket.type} ${socket.descriptor}: `;
}

function isOpenSocket({ receiver }: Plan): boolean {
  try {
    return isOpen(receiver as Socket);
  } catch {
    return false;
  }
}

// Adopting with `own` what is Bun's would be the caller's fault, and not ours to find.
function keepHarmless(draft: Draft, plan: Plan): void {
  if (!draft.entry.definedAs.endsWith(".adopt")) return;
  const [fd, ...rest] = plan.values;
  if (!isHarmlessFd(draft, fd)) plan.values = [CLOSED_FD, ...rest];
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

function openDescriptors(): string[] {
  return readdirSync("/proc/self/fd");
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
  for (let i = 0; i < 10; i++) {
    Bun.gc(true);
    await new Promise((resolve) => setTimeout(resolve, 0));
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
