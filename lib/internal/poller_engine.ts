import { EEXIST, EINTR, ENOENT } from "../../structs/constants/errno.ts";
import {
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLERR,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLPRI,
} from "../../structs/constants/sys_epoll.ts";
import { SO_BUSY_POLL, SOL_SOCKET } from "../../structs/constants/sys_socket.ts";
import { epoll_event } from "../../structs/epoll_event.ts";
import { type CancelSignal, check, SystemError, systemError } from "../error.ts";
import { epoll_create1, epoll_ctl, epoll_wait } from "../sys/epoll.ts";
import { setsockopt } from "../sys/socket.ts";
import { close, write } from "../sys/unistd.ts";
import { Alarms } from "./alarms.ts";
import { limitOf, PATIENCE_TRIES } from "./deadline.ts";
import { type Descriptor, errorsOf, loadModule } from "./descriptor.ts";
import { EventfdDoorbell, SocketDoorbell } from "./doorbell.ts";
import { closeOrphans, startNote, writeNote } from "./orphans.ts";
import type { Doorbell, DoorbellName, Ringer, RingerName } from "./ringer.ts";
import { TimerRinger } from "./timer_ringer.ts";
import {
  beginTurn,
  continueNextTurn,
  endTurn,
  hasTime,
  isSpent,
  onNextTurn,
  turnBudgetMs,
  willContinue,
} from "./turn.ts";
import {
  type Call,
  type End,
  PromisedCall,
  type Waiter,
  type WaitLine,
  Watch,
} from "./wait_line.ts";

/** Events that are fetched with one system call. */
const EVENTS_MAX = 256;
/** How long a bell may take to be heard, when it is tried, and when there is no other to take. */
const HEARD_MS_MAX = 200;
const ONLY_HEARD_MS_MAX = 2000;
const PAUSE_MS_MAX = 10;
/** How long the thread looks for itself before everything else has its turn, without a budget too. */
const SPIN_MS_MAX = 1;
/** How long the kernel looks at a network device for one receive. */
const BUSY_POLL_US = new Int32Array([50]);
/**
 * Microtasks that are let pass before the bell is armed: those of a loop that answers what it got
 * and waits anew. What it does in time needs no ring.
 */
const HOPS = 6;
/** Lines that are tried again before the bell is armed: more would take too long. */
const ASKED_AGAIN_MAX = 2;
/** The token of what is not a socket: no socket has it. */
const TRIAL = 0;

const RINGERS: readonly RingerName[] = ["io_uring", "thread", "timer"];
const DOORBELLS = { socket: SocketDoorbell, eventfd: EventfdDoorbell } as const;

const DOORBELL_NAMES = Object.keys(DOORBELLS) as DoorbellName[];

/** Something that was tried and is not used, and why. */
export interface Refusal {
  readonly name: RingerName | DoorbellName;
  readonly reason: string;
}

/**
 * Waits for all sockets of a thread: an epoll set, and a bell on Bun's event loop that is rung from
 * outside of JavaScript when the set has an event.
 *
 * Sockets are in the set edge-triggered: whoever waits has found nothing before, and tries again
 * after each event until there is nothing once more. So a socket stays in the set between two waits
 * without a system call, and what stays "ready" for nothing, as one with an error that nobody
 * fetches, rings once and not for ever. An event that finds nobody waiting takes its socket out.
 */
class PollerEngine {
  wakeUps = 0;
  events = 0;
  spurious = 0;
  /** Calls, iterators and handlers that wait now. */
  waiters = 0;
  ringerName: RingerName | undefined;
  doorbellName: DoorbellName | undefined;
  readonly refusals: Refusal[] = [];

  #epollFd = -1;
  #noteFd = -1;
  #ringer: Ringer | undefined;
  #doorbell: Doorbell | undefined;
  #state: "new" | "starting" | "running" = "new";
  /** Why nothing can wait, for good. */
  #failure: unknown;
  /** The lines in which somebody waits. */
  readonly #lines = new Set<WaitLine>();
  /** The one that was alone in it the last time: asking the set makes an object for each wake-up. */
  #only: WaitLine | undefined;
  /** Whether one of them has ever been patient: only then are they looked through before each sleep. */
  #hasPatience = false;
  /** Those to be tried, in this order, and how many of them were. */
  readonly #ready: WaitLine[] = [];
  #tried = 0;
  #isServing = false;
  readonly #watches = new Map<number, Watch>();
  /** Whose entry in the set each number is. */
  readonly #entries = new Map<number, Watch>();
  #tokens = TRIAL;
  readonly #alarms = new Alarms();
  /** Whether the bell will ring by itself. */
  #isArmed = false;
  #isSettling = false;
  /** Waiters that keep the process alive. */
  #refs = 0;
  #isRef = false;
  #answers = 0;
  #isBusy = false;
  #isSpinning = false;
  #onTrial: (() => void) | undefined;

  readonly #event = new DataView(new ArrayBuffer(epoll_event.size));
  readonly #events = new DataView(new ArrayBuffer(epoll_event.size * EVENTS_MAX));

  constructor() {
    onNextTurn(this.#nextTurn);
  }

  /**
   * Makes a call, at once where that is possible and nobody waits before it, and else as soon as its
   * turn comes.
   *
   * @param deadline on the clock of `performance.now()`
   * @param onWait gets the waiter, when it has to wait
   */
  perform<Result>(
    descriptor: Descriptor,
    event: typeof EPOLLIN | typeof EPOLLOUT | typeof EPOLLERR,
    call: Call<Result>,
    deadline: number,
    signal: CancelSignal | undefined,
    onWait?: (waiter: PromisedCall<Result>) => void,
  ): Promise<Result> {
    const line = lineOf(descriptor, event);
    const isNext = line.head === undefined && !line.isHeldUp;
    const mayTry = isNext && hasTime();
    if (mayTry) {
      const result = attempt(call);
      if (result !== undefined) return result;
    }
    let waiter: PromisedCall<Result>;
    try {
      waiter = new PromisedCall(call, signal, this.#leave, limitOf(deadline));
    } catch (error) {
      // What passes for a signal and is none.
      call.settled?.();
      return Promise.reject(error);
    }
    this.enqueue(line, waiter, !mayTry);
    if (waiter.line && deadline !== Number.POSITIVE_INFINITY) this.#alarms.set(waiter, deadline);
    onWait?.(waiter);
    return waiter.promise;
  }

  /**
   * Puts somebody into a line.
   *
   * @param isUntried whether the first in the line has not been tried yet
   */
  enqueue(line: WaitLine, waiter: Waiter, isUntried: boolean): void {
    line.append(waiter);
    if (waiter.patience !== undefined) this.#hasPatience = true;
    this.waiters++;
    if (line.watch.isRef) this.#count(waiter);
    this.#settleSoon();
    if (line.head !== waiter) return;
    this.#lines.add(line);
    if (isUntried) this.#makeReady(line);
    else this.#listen(line);
  }

  #count(waiter: Waiter): void {
    waiter.isCounted = true;
    this.#refs++;
  }

  /** Takes somebody out of a line. The next one is tried. */
  leave(waiter: Waiter): void {
    const { line } = waiter;
    if (!line) return;
    const wasHead = line.head === waiter;
    line.remove(waiter);
    this.waiters--;
    this.#answers++;
    if (waiter.isCounted) this.#refs--;
    waiter.isCounted = false;
    if (waiter instanceof PromisedCall) this.#alarms.cancel(waiter);
    if (!line.head) {
      this.#lines.delete(line);
      if (this.#only === line) this.#only = undefined;
      if (line.retry) this.#alarms.cancel(line.retry);
      line.pauseMs = 1;
    } else if (wasHead) this.#makeReady(line);
    const { readers } = line.watch;
    if (waiter.isFirst && readers.head) this.#makeReady(readers);
    this.#settleSoon();
  }

  readonly #leave = (waiter: Waiter): void => this.leave(waiter);

  /** Whether those who wait for this descriptor keep the process alive. */
  setRef(descriptor: Descriptor, isRef: boolean): void {
    const watch = watchOf(descriptor);
    if (watch.isRef === isRef) return;
    watch.isRef = isRef;
    for (const { head } of watch.lines)
      for (let waiter = head; waiter; waiter = waiter.next) {
        if (isRef) this.#count(waiter);
        else {
          waiter.isCounted = false;
          this.#refs--;
        }
      }
    this.#settleSoon();
  }

  /**
   * Ends all waiting on a descriptor that is about to be closed or given away.
   *
   * @param isOurs whether the number still means what was watched
   */
  end(watch: Watch, how: End, isOurs: boolean): void {
    watch.ended = how;
    if (watch.interest !== 0) this.#forget(watch, isOurs);
    for (const line of watch.lines) this.#endLine(line, how);
  }

  #endLine(line: WaitLine, how: End): void {
    for (let waiter = line.head; waiter; waiter = line.head) {
      this.leave(waiter);
      waiter.end(how);
    }
  }

  // What leaves the set must do so before its descriptor is closed: the entry belongs to the open
  // file, and would stay as long as somebody else has that open.
  #forget(watch: Watch, isOurs = true): void {
    if (isOurs) epoll_ctl(this.#epollFd, EPOLL_CTL_DEL, watch.fd, null);
    this.#entries.delete(watch.fd);
    this.#watches.delete(watch.token);
    watch.interest = 0;
  }

  /** Has whoever waits for a descriptor try again, because it is not what it was. */
  retry(watch: Watch): void {
    for (const line of watch.lines) if (line.head) this.#makeReady(line);
  }

  /** Has a line tried, now or in the next turn. */
  #makeReady(line: WaitLine): void {
    if (line.isReady) return;
    line.isReady = true;
    this.#ready.push(line);
    if (!this.#isServing) continueNextTurn();
  }

  /** Has a line woken when its first one can go on: that one was tried and found nothing. */
  #listen(line: WaitLine): void {
    // The number may be another's by now.
    if (line.watch.ended) {
      this.#endLine(line, line.watch.ended);
      return;
    }
    if (this.#failure) {
      this.#failLine(line, this.#failure);
      return;
    }
    if (line.head?.pauses) {
      this.#pause(line);
      return;
    }
    // Until the ringer is chosen, and while the thread looks all the time, all lines are tried.
    const { watch, event } = line;
    if (this.#isBusy) askBusyPoll(watch);
    if (this.#state !== "running" || (this.#isBusy && this.#refs > 0)) return;
    if (watch.interest & event) return;
    const result = this.#register(watch, watch.interest | event);
    if (result < 0) this.#failLine(line, systemError(result, "epoll_ctl"));
  }

  #failLine(line: WaitLine, error: unknown): void {
    for (let waiter = line.head; waiter; waiter = line.head) {
      this.leave(waiter);
      waiter.fail(error);
    }
  }

  #pause(line: WaitLine): void {
    line.retry ??= { dueAt: 0, place: -1, due: () => this.#makeReady(line) };
    if (line.retry.place >= 0) return;
    this.#alarms.set(line.retry, performance.now() + line.pauseMs);
    line.pauseMs = Math.min(line.pauseMs * 2, PAUSE_MS_MAX);
  }

  #register(watch: Watch, interest: number): number {
    const isNew = watch.interest === 0;
    if (isNew) {
      watch.token = ++this.#tokens;
      // Of one that was closed behind our back: what it stands for now is not the other's to take out.
      const stale = this.#entries.get(watch.fd);
      if (stale) this.#forget(stale, false);
    }
    let result = this.#control(isNew ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, watch, interest);
    // Somebody has closed the number behind our back, and opened something else, or the same, anew.
    if (result === -ENOENT) result = this.#control(EPOLL_CTL_ADD, watch, interest);
    else if (result === -EEXIST) result = this.#control(EPOLL_CTL_MOD, watch, interest);
    if (result < 0) return result;
    this.#watches.set(watch.token, watch);
    this.#entries.set(watch.fd, watch);
    watch.interest = interest;
    return 0;
  }

  #control(operation: number, watch: Watch, interest: number): number {
    // Urgent data is for whoever reads.
    const urgent = interest & EPOLLIN ? EPOLLPRI : 0;
    epoll_event.events.set(this.#event, 0, interest | urgent | EPOLLET);
    epoll_event.data.set(this.#event, 0, watch.token);
    return epoll_ctl(this.#epollFd, operation, watch.fd, this.#event);
  }

  // When everything that happens now has happened: whether the process stays alive, and whether the
  // bell is to ring.
  #settleSoon(): void {
    if (this.#isSettling) return;
    this.#isSettling = true;
    queueMicrotask(this.#hops[HOPS - 1] as () => void);
  }

  readonly #hops: readonly (() => void)[] = Array.from({ length: HOPS }, (_, i) => () => {
    if (i === 0) this.#settle();
    else queueMicrotask(this.#hops[i - 1] as () => void);
  });

  #settle(): void {
    this.#isSettling = false;
    // When that is over, it is asked for again.
    if (this.#isServing) return;
    if (this.#refs > 0 !== this.#isRef) {
      this.#isRef = !this.#isRef;
      this.#doorbell?.setRef(this.#isRef);
      this.#ringer?.setRef(this.#isRef);
      // What waits without a reference is not looked for all the time.
      if (this.#isBusy && !this.#isRef) for (const line of this.#lines) this.#makeReady(line);
    }
    if (this.waiters === 0 || this.#failure) return;
    if (this.#state === "new") this.#start();
    // A bell that is armed still knows only what waited before.
    if (this.#isBusy && this.#isRef) this.#spinSoon();
    else if (!this.#isArmed && !this.#asksAgain()) this.#arm();
  }

  /**
   * Tries a line again and again for a moment, where that has paid: the other end of a stream that is
   * about to send more would otherwise have to wake us for each piece.
   */
  #asksAgain(): boolean {
    if (!this.#hasPatience || this.#state !== "running") return false;
    if (this.#lines.size > ASKED_AGAIN_MAX) return false;
    for (const line of this.#lines) {
      const patience = line.isReady ? undefined : line.head?.patience;
      if (!patience?.isWorthwhile || !hasTime()) continue;
      const gotOn = this.#tryAgain(line);
      patience.learn(gotOn);
      if (gotOn) return true;
    }
    return false;
  }

  #tryAgain(line: WaitLine): boolean {
    this.#isServing = true;
    try {
      for (let tries = 0; tries < PATIENCE_TRIES; tries++) if (this.#try(line)) return true;
      return false;
    } finally {
      this.#serve();
    }
  }

  #arm(): void {
    const ringer = this.#ringer as Ringer;
    this.#isArmed = true;
    const result = ringer.arm();
    if (result < 0) this.#replaceRinger(systemError(result, "arm"));
  }

  // A ringer that has worked and does not any more.
  #replaceRinger(error: Error): void {
    this.#refuse(this.ringerName as RingerName, error);
    this.#ringer?.stop();
    this.#ringer = TimerRinger.of(this.#epollFd, this.#ring);
    this.ringerName = "timer";
    this.doorbellName = undefined;
    this.#ringer.setRef(this.#isRef);
    this.#ringer.arm();
  }

  #refuse(name: RingerName | DoorbellName, error: unknown): void {
    this.refusals.push({ name, reason: error instanceof Error ? error.message : `${error}` });
  }

  readonly #ring = (): void => {
    this.#isArmed = false;
    if (this.#onTrial) {
      this.#onTrial();
      return;
    }
    this.wakeUps++;
    // The next turn fetches the events anyway, and this one should not have two budgets.
    if (willContinue()) return;
    beginTurn();
    // Where one line waits, it is the one: what the set would say need not be asked first.
    if (this.#lines.size === 1) this.#tryOnly();
    else if (this.#fetch() === 0) this.spurious++;
    this.#serve();
  };

  #tryOnly(): void {
    if (this.#only === undefined) [this.#only] = this.#lines;
    const line = this.#only as WaitLine;
    let gotOn: boolean;
    this.#isServing = true;
    try {
      gotOn = this.#try(line);
    } finally {
      this.#isServing = false;
    }
    if (gotOn) this.events++;
    else if (this.#fetch() === 0) this.spurious++;
  }

  readonly #nextTurn = (): void => {
    if (this.#state === "running") this.#fetch();
    this.#serve();
  };

  /** Makes the lines ready that have an event. Returns how many events there were. */
  #fetch(): number {
    let fetched = 0;
    for (;;) {
      const count = epoll_wait(this.#epollFd, this.#events, 0);
      if (count === -EINTR) continue;
      if (count < 0) {
        // Somebody has closed the set, which is not theirs.
        this.#fail(systemError(count, "epoll_wait"));
        return fetched;
      }
      fetched += count;
      for (let i = 0; i < count; i++) this.#take(i * epoll_event.size);
      if (count < EVENTS_MAX) break;
    }
    this.events += fetched;
    return fetched;
  }

  #take(at: number): void {
    const watch = this.#watches.get(epoll_event.data.get(this.#events, at));
    // A descriptor that was closed behind our back, while somebody else has it open.
    if (!watch) {
      this.spurious++;
      return;
    }
    const happened = epoll_event.events.get(this.#events, at);
    // Fetched first, where somebody has asked for errors: what waits for data is then none of theirs.
    if (happened & EPOLLERR) errorsOf(watch.fd)?.drain(watch.fd);
    let concerned = happened & (EPOLLERR | EPOLLHUP) ? EPOLLIN | EPOLLOUT | EPOLLERR : happened;
    if (happened & EPOLLPRI) concerned |= EPOLLIN;
    let interest = 0;
    for (const line of watch.lines) {
      // Where no event tells when to try, each try would make the next event.
      if (!line.head || line.head.pauses) continue;
      interest |= line.event;
      if (concerned & line.event) this.#wake(line);
    }
    if ((watch.interest & concerned & ~interest) === 0) return;
    // Nobody waits for what has happened, and it would go on ringing.
    if (interest === 0) {
      this.spurious++;
      this.#forget(watch);
    } else this.#register(watch, interest);
  }

  #wake(line: WaitLine): void {
    if (line.isReady) return;
    line.isReady = true;
    this.#ready.push(line);
  }

  /**
   * Tries the lines that are ready, one waiter of each in turn, until the budget is spent. Whoever got
   * an answer goes on before the next one is tried: what it does takes time of the same budget.
   */
  readonly #serve = (): void => {
    const ready = this.#ready;
    let isAnswered = false;
    this.#isServing = true;
    try {
      while (!isAnswered && this.#tried < ready.length) {
        if (this.#tried > 0 && isSpent()) break;
        const line = ready[this.#tried++] as WaitLine;
        const { head } = line;
        line.isReady = false;
        isAnswered = this.#try(line) && head instanceof PromisedCall;
      }
    } finally {
      if (isAnswered && this.#tried < ready.length) queueMicrotask(this.#serve);
      else this.#endServing();
    }
  };

  #endServing(): void {
    this.#isServing = false;
    this.#ready.splice(0, this.#tried);
    this.#tried = 0;
    if (this.#ready.length > 0) endTurn();
    this.#settleSoon();
  }

  #try(line: WaitLine): boolean {
    const { head } = line;
    if (!head || line.isHeldUp) return false;
    if (!head.run()) {
      this.#listen(line);
      return false;
    }
    line.pauseMs = 1;
    // A handler stays in its place.
    if (line.head === head) this.#makeReady(line);
    return true;
  }

  /** Whether the thread looks for itself all the time, instead of being woken. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  set isBusy(isBusy: boolean) {
    this.#isBusy = isBusy;
    if (!isBusy) for (const line of this.#lines) this.#makeReady(line);
    this.#settleSoon();
  }

  #spinSoon(): void {
    if (this.#isSpinning) return;
    this.#isSpinning = true;
    setImmediate(this.#spin);
  }

  readonly #spin = (): void => {
    this.#isSpinning = false;
    if (!this.#isBusy || this.#refs === 0) {
      for (const line of this.#lines) this.#makeReady(line);
      this.#settleSoon();
      return;
    }
    beginTurn();
    const end = performance.now() + Math.min(turnBudgetMs, SPIN_MS_MAX);
    const answers = this.#answers;
    this.#isServing = true;
    try {
      // Whoever got an answer goes on in a microtask, which runs when this function is left.
      do for (const line of this.#lines) this.#try(line);
      while (answers === this.#answers && performance.now() < end);
    } finally {
      this.#isServing = false;
      for (const line of this.#ready.splice(0)) line.isReady = false;
      this.#tried = 0;
      this.#spinSoon();
    }
  };

  // Until a ringer was heard, a timer has all lines tried.
  #start(): void {
    this.#state = "starting";
    this.refusals.length = 0;
    this.#ringer = new TimerRinger(() => true, this.#sweep);
    this.#ringer.setRef(this.#isRef);
    this.#choose().then(
      (ringer) => this.#run(ringer),
      (error) => this.#fail(error),
    );
  }

  readonly #sweep = (): void => {
    this.#isArmed = false;
    beginTurn();
    for (const line of this.#lines) this.#wake(line);
    this.#serve();
  };

  #run(ringer: Ringer): void {
    this.#ringer?.stop();
    this.#ringer = ringer;
    this.#state = "running";
    this.#isArmed = false;
    this.#doorbell?.setRef(this.#isRef);
    ringer.setRef(this.#isRef);
    for (const line of this.#lines) this.#makeReady(line);
    this.#settleSoon();
  }

  // What the system has refused the next wait asks for anew. What the environment asks for in vain
  // stays so.
  #fail(error: unknown): void {
    this.#reset();
    if (!(error instanceof SystemError)) this.#failure = error;
    // What was not tried yet may be answered at once, and needs no ringer then.
    for (const line of this.#lines) if (!line.isReady) this.#failLine(line, error);
  }

  async #choose(): Promise<Ringer> {
    closeOrphans();
    this.#noteFd = startNote();
    this.#epollFd = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    this.#note();
    const forced = forcedBy("BUN_SOCKETS_RINGER", RINGERS);
    const names = forced ? [forced] : RINGERS;
    const limitMs = forced ? ONLY_HEARD_MS_MAX : HEARD_MS_MAX;
    const bell = forced === "timer" ? undefined : await this.#openDoorbell();
    for (const name of names) {
      let ringer: Ringer | undefined;
      try {
        ringer = this.#make(name, bell);
        if (!bell || name === "timer" || (await this.#rings(ringer, bell, limitMs))) {
          this.ringerName = name;
          if (name !== "timer") this.doorbellName = bell?.name;
          return ringer;
        }
        this.#refuse(name, `it was not heard within ${limitMs} ms`);
      } catch (error) {
        this.#refuse(name, error);
      }
      ringer?.stop();
      if (this.#noteFd < 0) this.#noteFd = startNote();
      this.#note(bell?.fd);
    }
    throw new Error(`Cannot use the ringer that BUN_SOCKETS_RINGER asks for: ${this.#reasons()}`);
  }

  // Says in a note what is to be closed when this thread has ended without closing it.
  #note(...others: (number | undefined)[]): void {
    writeNote(
      this.#noteFd,
      [this.#epollFd, ...others].filter((fd) => fd !== undefined),
    );
  }

  #make(name: RingerName, bell: Doorbell | undefined): Ringer {
    if (name === "timer") return TimerRinger.of(this.#epollFd, this.#ring);
    if (!bell) throw new Error("no doorbell was heard");
    if (name === "io_uring") {
      const { IoUringRinger }: typeof import("./io_uring_ringer.ts") = loadModule(() =>
        require("./io_uring_ringer.ts"),
      );
      const ringer = new IoUringRinger(this.#epollFd, bell);
      this.#note(bell.fd, ringer.descriptor);
      return ringer;
    }
    const { ThreadRinger }: typeof import("./thread_ringer.ts") = loadModule(() =>
      require("./thread_ringer.ts"),
    );
    const ringer = new ThreadRinger(this.#epollFd, bell);
    // The thread closes everything itself.
    if (this.#noteFd >= 0) close(this.#noteFd);
    this.#noteFd = -1;
    return ringer;
  }

  async #openDoorbell(): Promise<Doorbell | undefined> {
    const forced = forcedBy("BUN_SOCKETS_DOORBELL", DOORBELL_NAMES);
    const limitMs = forced ? ONLY_HEARD_MS_MAX : HEARD_MS_MAX;
    for (const name of forced ? [forced] : DOORBELL_NAMES) {
      const Kind = DOORBELLS[name];
      let bell: Doorbell | undefined;
      try {
        const opened = new Kind(this.#ring);
        bell = opened;
        this.#note(opened.fd);
        if (await this.#hears(() => ringOnce(opened.fd), limitMs)) {
          this.#doorbell = opened;
          opened.setRef(this.#isRef);
          return opened;
        }
        this.#refuse(name, `it was not heard within ${limitMs} ms`);
      } catch (error) {
        this.#refuse(name, error);
      }
      bell?.close();
    }
    if (forced)
      throw new Error(
        `Cannot use the doorbell that BUN_SOCKETS_DOORBELL asks for: ${this.#reasons()}`,
      );
    return undefined;
  }

  #reasons(): string {
    return this.refusals.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
  }

  // The event comes after the ringer was armed: one that only rings at once has to be found out. It is
  // that the bell can be written to, which needs no descriptor more.
  async #rings(ringer: Ringer, bell: Doorbell, limitMs: number): Promise<boolean> {
    try {
      return await this.#hears(() => {
        check(ringer.arm(), "arm");
        epoll_event.events.set(this.#event, 0, EPOLLOUT);
        epoll_event.data.set(this.#event, 0, TRIAL);
        check(epoll_ctl(this.#epollFd, EPOLL_CTL_ADD, bell.fd, this.#event), "epoll_ctl");
      }, limitMs);
    } finally {
      epoll_ctl(this.#epollFd, EPOLL_CTL_DEL, bell.fd, null);
    }
  }

  /** Whether the bell is heard after that. */
  async #hears(cause: () => void, limitMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#onTrial = () => resolve(true);
    // The thread may have been busy all the time: what came meanwhile is heard in the next turns.
    const timer = setTimeout(() => setImmediate(() => setImmediate(() => resolve(false))), limitMs);
    timer.unref();
    try {
      cause();
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#onTrial = undefined;
    }
  }

  /**
   * Ends it, and closes what it has opened; the next wait starts it anew.
   *
   * @throws {Error} somebody waits
   */
  stop(): void {
    if (this.waiters > 0) throw new Error(`Cannot stop the poller: ${this.waiters} calls wait`);
    if (this.#state === "starting") throw new Error("Cannot stop the poller while it starts");
    this.#reset();
    this.#alarms.close();
    this.refusals.length = 0;
    this.#failure = undefined;
  }

  #reset(): void {
    for (const watch of this.#watches.values()) watch.interest = 0;
    this.#watches.clear();
    this.#entries.clear();
    this.#ringer?.stop();
    this.#doorbell?.close();
    for (const fd of [this.#epollFd, this.#noteFd]) if (fd >= 0) close(fd);
    this.#ringer = this.#doorbell = undefined;
    this.ringerName = this.doorbellName = undefined;
    this.#epollFd = this.#noteFd = -1;
    this.#isArmed = false;
    this.#state = "new";
  }
}

// What an environment variable asks for, or undefined.
function forcedBy<Name extends string>(variable: string, names: readonly Name[]): Name | undefined {
  const value = process.env[variable];
  if (!value) return undefined;
  const name = names.find((name) => name === value);
  if (name) return name;
  const expected = names.map((name) => `"${name}"`).join(", ");
  throw new TypeError(`Cannot use ${JSON.stringify(value)} as ${variable}: expected ${expected}`);
}

function ringOnce(fd: number): void {
  check(write(fd, new Uint32Array([1, 0])), "write");
}

/** The first try of a call, as the promise that its caller gets; undefined when it would block. */
function attempt<Result>(call: Call<Result>): Promise<Result> | undefined {
  try {
    const result = call.attempt();
    if (result === undefined) return undefined;
    call.settled?.();
    return Promise.resolve(result);
  } catch (error) {
    call.settled?.();
    return Promise.reject(error);
  }
}

// It may take a right, and not every family has it: then the thread's own looking has to do.
function askBusyPoll(watch: Watch): void {
  if (watch.isBusyPolled) return;
  watch.isBusyPolled = true;
  setsockopt(watch.fd, SOL_SOCKET, SO_BUSY_POLL, BUSY_POLL_US);
}

function watchOf(descriptor: Descriptor): Watch {
  descriptor.watch ??= new Watch(descriptor.fd);
  return descriptor.watch;
}

/** Those who wait for a descriptor's event. */
export function lineOf(descriptor: Descriptor, event: number): WaitLine {
  const watch = watchOf(descriptor);
  if (event === EPOLLIN) return watch.readers;
  return event === EPOLLOUT ? watch.writers : watch.errors;
}

/** The poller of this thread. */
export const engine = new PollerEngine();
